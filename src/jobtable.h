/*-------------------------------------------------------------------------
 *
 * jobtable.h
 *	  The tables of jobs of the current database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOBTABLE_H
#define SUP_JOBTABLE_H

#include "trust.h"

/* Columns of supervisor.job, in order. */
typedef enum SupJobColumn
{
	SUP_JOB_ID,
	SUP_JOB_ROLE,
	SUP_JOB_POOL,
	SUP_JOB_PRIORITY,
	SUP_JOB_RUN_AT,
	SUP_JOB_KEY,
	SUP_JOB_COMMAND,
	SUP_JOB_PARAMS,
	SUP_JOB_NAME,
	SUP_JOB_SCHEDULE,
	SUP_JOB_TIME_ZONE,
	SUP_JOB_NEXT_AT,
	SUP_JOB_RUN_TIMEOUT,
	SUP_JOB_RETRY_DELAY,
	SUP_JOB_MAX_ATTEMPTS,
	SUP_JOB_ATTEMPTS,
	SUP_JOB_CRASHES,
	SUP_JOB_RUNS,
	SUP_JOB_ATOMIC,
	SUP_JOB_ENABLED,
	SUP_JOB_STATE,
	SUP_JOB_REASON,
	SUP_JOB_ORIGIN,
	SUP_JOB_ENQUEUED_AT,
	SUP_JOB_LAST_STARTED_AT,
	SUP_JOB_LAST_FINISHED_AT,
	SUP_JOB_LAST_STATE,
	SUP_JOB_LAST_SQLSTATE,
	SUP_JOB_LAST_ERROR
} SupJobColumn;

#define SUP_JOB_COLS	(SUP_JOB_LAST_ERROR + 1)

/* Columns of supervisor.job_history, in order. */
typedef enum SupRunColumn
{
	SUP_RUN_JOB,
	SUP_RUN_NAME,
	SUP_RUN_ATTEMPT,
	SUP_RUN_ROLE,
	SUP_RUN_POOL,
	SUP_RUN_STATE,
	SUP_RUN_TAG,
	SUP_RUN_RESULT,
	SUP_RUN_SQLSTATE,
	SUP_RUN_MESSAGE,
	SUP_RUN_DETAIL,
	SUP_RUN_CONTEXT,
	SUP_RUN_MERGED_INTO,
	SUP_RUN_ENQUEUED_AT,
	SUP_RUN_RUN_AT,
	SUP_RUN_STARTED_AT,
	SUP_RUN_FINISHED_AT,
	SUP_RUN_PID,
	SUP_RUN_COMMAND
} SupRunColumn;

#define SUP_RUN_COLS	(SUP_RUN_COMMAND + 1)

extern const SupTableDef sup_job_table;
extern const SupTableDef sup_history_table;
extern const SupTableDef sup_origin_table;

#endif							/* SUP_JOBTABLE_H */
