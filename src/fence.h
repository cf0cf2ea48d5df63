/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  Pool workers step aside for DDL on their database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_FENCE_H
#define SUP_FENCE_H

#include "tcop/utility.h"

/*
 * That command is about to be run: have the workers leave the database that it
 * is about, if there is one, and let none in until the transaction ends.
 */
extern void sup_make_room(PlannedStmt *pstmt, ProcessUtilityContext context);

/* For the supervisor: look which databases prepared transactions have locked. */
extern void sup_look_at_fences(void);

/* Have fences lowered at the end of transactions. */
extern void sup_install_fence(void);

#endif							/* SUP_FENCE_H */
