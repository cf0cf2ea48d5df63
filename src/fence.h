/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  Workers step aside for DDL on their database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_FENCE_H
#define SUP_FENCE_H

#include "tcop/utility.h"

/*
 * That command is about to be run.  If it needs a database in which nobody
 * is, and core would do it, have the workers leave that database, wait some
 * seconds for them, and let none in until the transaction ends or, if it is
 * prepared, is committed or rolled back.  A pool worker that runs a task
 * leaves when that has ended, and is not waited for.
 */
extern void sup_make_room(PlannedStmt *pstmt, ProcessUtilityContext context);

/*
 * For the supervisor: look which databases prepared transactions have
 * locked, and take away the fences that these have left.
 */
extern void sup_look_at_fences(void);

/* Have fences lowered at the end of transactions. */
extern void sup_install_fence(void);

#endif							/* SUP_FENCE_H */
