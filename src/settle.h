/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Notes in the tables what has come of the run of a job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SETTLE_H
#define SUP_SETTLE_H

#include "jobtable.h"

/* A run that is under way. */
typedef struct SupRun
{
	Oid			table;			/* supervisor.job, as it was then */
	SupJobRow	row;			/* as it was when the run began; palloc'd */
	TimestampTz started_at;
} SupRun;

/*
 * The command has been run, in the transaction that is open, which is somebody's:
 * of any isolation, read only or not.  The job goes, and the run is noted, if that
 * commits.
 */
extern void sup_settle_success(const SupRun *run, const char *tag);

/*
 * It has failed with that error, and its transaction was rolled back.  In a
 * transaction of its own.
 */
extern void sup_settle_failure(const SupRun *run, const ErrorData *error);

/* A transaction that we have just started is ours, whatever the role's defaults are. */
extern void sup_own_transaction(void);

#endif							/* SUP_SETTLE_H */
