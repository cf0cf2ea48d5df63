/*-------------------------------------------------------------------------
 *
 * lastrun.h
 *	  How the last run of a job has ended, which may be gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_LASTRUN_H
#define SUP_LASTRUN_H

#include "datatype/timestamp.h"
#include "postgres_ext.h"

typedef struct SupLastRun
{
	Oid			role;
	char	   *state;			/* palloc'd */
	TimestampTz finished_at;
	TransactionId xmin;			/* whose row it is */
	bool		mine;			/* ... this transaction's */
} SupLastRun;

/*
 * The last one of that job; false: the history has none.  'history' is
 * supervisor.job_history, trusted and locked.
 */
extern bool sup_last_run(Oid history, int64 job, SupLastRun *last);

#endif							/* SUP_LASTRUN_H */
