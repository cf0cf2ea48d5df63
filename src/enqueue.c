/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  A session enqueues a job.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "args.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "rights.h"

/* Arguments of enqueue(), in order. */
enum
{
	ARG_COMMAND,
	ARG_PARAMS,
	ARG_POOL,
	ARG_RUN_AT,
	ARG_KEY,
	ARG_PRIORITY,
	ARG_RUN_TIMEOUT,
	ARG_MAX_ATTEMPTS,
	ARG_RETRY_DELAY,
	ARG_ATOMIC
};

/* It has room in an index, together with the name of a pool. */
#define MAX_KEY_BYTES	1024

static void
take_key(FunctionCallInfo fcinfo, SupJobRow *row)
{
	if (PG_ARGISNULL(ARG_KEY))
		return;
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(ARG_KEY)) > MAX_KEY_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key of a job is too long"),
				 errhint("It has at most %d bytes.", MAX_KEY_BYTES)));
	sup_job_set(row, SUP_JOB_KEY, PG_GETARG_DATUM(ARG_KEY));
}

/* All columns but the id. */
static void
take_arguments(FunctionCallInfo fcinfo, SupJobRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz run_at = PG_ARGISNULL(ARG_RUN_AT) ? now : PG_GETARG_TIMESTAMPTZ(ARG_RUN_AT);
	int32		priority;
	int32		max_attempts;
	bool		atomic = PG_ARGISNULL(ARG_ATOMIC) || PG_GETARG_BOOL(ARG_ATOMIC);
	char	   *command = sup_text_arg(fcinfo, ARG_COMMAND, "command");
	char	  **params;

	memset(row->values, 0, sizeof(row->values));
	memset(row->nulls, true, sizeof(row->nulls));
	sup_check_command(command);
	sup_job_check_command(command, sup_text_array_arg(fcinfo, ARG_PARAMS, &params), atomic);
	if (TIMESTAMP_IS_NOBEGIN(run_at))
		sup_job_out_of_range("run_at", "a time, or infinity");
	priority = sup_job_take_priority(fcinfo, ARG_PRIORITY);
	max_attempts = sup_job_take_max_attempts(fcinfo, ARG_MAX_ATTEMPTS);

	sup_job_set(row, SUP_JOB_ROLE, ObjectIdGetDatum(GetUserId()));
	sup_job_set(row, SUP_JOB_PRIORITY, Int16GetDatum(priority));
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(run_at));
	sup_job_set(row, SUP_JOB_COMMAND, PG_GETARG_DATUM(ARG_COMMAND));
	if (!PG_ARGISNULL(ARG_PARAMS))
		sup_job_set(row, SUP_JOB_PARAMS, PG_GETARG_DATUM(ARG_PARAMS));
	sup_job_check_size(row);
	take_key(fcinfo, row);
	sup_job_take_interval(fcinfo, ARG_RUN_TIMEOUT, row, SUP_JOB_RUN_TIMEOUT, "run_timeout");
	sup_job_take_interval(fcinfo, ARG_RETRY_DELAY, row, SUP_JOB_RETRY_DELAY, "retry_delay");
	sup_job_set(row, SUP_JOB_MAX_ATTEMPTS, Int32GetDatum(max_attempts));
	sup_job_set(row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
	sup_job_set(row, SUP_JOB_CRASHES, Int32GetDatum(0));
	sup_job_set(row, SUP_JOB_RUNS, Int64GetDatum(0));
	sup_job_set(row, SUP_JOB_ATOMIC, BoolGetDatum(atomic));
	sup_job_set(row, SUP_JOB_ENABLED, BoolGetDatum(true));
	sup_job_set(row, SUP_JOB_STATE, CharGetDatum('w'));
	sup_job_set(row, SUP_JOB_ENQUEUED_AT, TimestampTzGetDatum(now));
}

/*
 * supervisor.enqueue(): it neither waits nor fails for want of room, as the job is
 * a row.  Who runs it is told when the transaction commits.
 */
PG_FUNCTION_INFO_V1(supervisor_enqueue);
Datum
supervisor_enqueue(PG_FUNCTION_ARGS)
{
	Oid			role = GetUserId();
	SupJobRow	row;
	char	   *pool;
	Oid			table;
	int64		id;

	sup_job_check_place("enqueue()");
	sup_check_may_connect();
	take_arguments(fcinfo, &row);
	pool = sup_job_take_pool(fcinfo, ARG_POOL, role);
	table = sup_job_lock_table();
	id = sup_job_next_id(table);
	sup_job_set(&row, SUP_JOB_ID, Int64GetDatum(id));
	sup_job_set(&row, SUP_JOB_POOL, CStringGetTextDatum(pool));
	sup_job_set(&row, SUP_JOB_ORIGIN, Int64GetDatum(sup_job_origin()));
	sup_job_insert(table, &row);
	sup_note_job(role, sup_job_account(role), pool,
				 DatumGetInt16(row.values[SUP_JOB_PRIORITY]), sup_job_spot(&row));
	PG_RETURN_INT64(id);
}
