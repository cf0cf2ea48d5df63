/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Notes in the tables what has come of the run of a job.
 *
 * Which row it is is known by its id, not by where it was: the job may have
 * changed it, or VACUUM FULL has moved it.  Nothing here asks what the current
 * role may do, nor whether the transaction is read only, and nobody's code is
 * run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "settle.h"

/* Of long texts the history keeps so much. */
#define KEPT	1024

/*
 * The table of the run, locked, and that of runs; false: it is gone, and with it
 * what there was to note.  One that is there, but is not to be believed, is an
 * error: never is anything committed without its note.
 */
static bool
lock_tables(const SupRun *run, Oid *history)
{
	const char *complaint;
	Oid			table = sup_trusted_lock_quick(&sup_job_table, &complaint);

	if (OidIsValid(table) && table != run->table)
		return false;			/* another, of which this is no job */
	if (OidIsValid(table))
		*history = sup_trusted_lock_quick(&sup_history_table, &complaint);
	else if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(run->table)))
		return false;
	if (!OidIsValid(table) || !OidIsValid(*history))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job %lld cannot be noted as done",
						(long long) DatumGetInt64(run->row.values[SUP_JOB_ID])),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	return true;
}

/* The beginning of a text, in whole characters. */
static Datum
kept_text(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 :
		PointerGetDatum(cstring_to_text_with_len(text, pg_mbcliplen(text, strlen(text), KEPT)));
}

/* A row for the history of a job that is 'row' now. */
static void
note_run(Oid history, const SupRun *run, const SupJobRow *row, const char *state, const char *tag,
		 const ErrorData *error)
{
	SupRunRow	note;
	Datum	   *values = note.values;

	memset(note.nulls, true, sizeof(note.nulls));
	memset(values, 0, sizeof(note.values));

#define COPY(to, from) \
	(values[to] = row->values[from], note.nulls[to] = row->nulls[from])
#define SET(to, value) \
	(values[to] = (value), note.nulls[to] = false)

	COPY(SUP_RUN_JOB, SUP_JOB_ID);
	COPY(SUP_RUN_NAME, SUP_JOB_NAME);
	SET(SUP_RUN_ATTEMPT, Int32GetDatum(DatumGetInt32(row->values[SUP_JOB_ATTEMPTS]) + 1));
	COPY(SUP_RUN_ROLE, SUP_JOB_ROLE);
	COPY(SUP_RUN_POOL, SUP_JOB_POOL);
	SET(SUP_RUN_STATE, CStringGetTextDatum(state));
	values[SUP_RUN_TAG] = kept_text(tag, &note.nulls[SUP_RUN_TAG]);
	if (error != NULL)
	{
		SET(SUP_RUN_SQLSTATE, CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)));
		values[SUP_RUN_MESSAGE] = kept_text(error->message, &note.nulls[SUP_RUN_MESSAGE]);
		values[SUP_RUN_DETAIL] = kept_text(error->detail, &note.nulls[SUP_RUN_DETAIL]);
		values[SUP_RUN_CONTEXT] = kept_text(error->context, &note.nulls[SUP_RUN_CONTEXT]);
	}
	COPY(SUP_RUN_ENQUEUED_AT, SUP_JOB_ENQUEUED_AT);
	values[SUP_RUN_RUN_AT] = run->row.values[SUP_JOB_RUN_AT];
	note.nulls[SUP_RUN_RUN_AT] = false;
	SET(SUP_RUN_STARTED_AT, TimestampTzGetDatum(run->started_at));
	SET(SUP_RUN_FINISHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	SET(SUP_RUN_PID, Int32GetDatum(MyProcPid));
	values[SUP_RUN_COMMAND] = kept_text(sup_job_text(row, SUP_JOB_COMMAND), &note.nulls[SUP_RUN_COMMAND]);
#undef COPY
#undef SET
	sup_run_insert(history, &note);
}

/* Deferred constraints go first: what they raise is the job's, and what they do as well. */
static void
check_constraints(void)
{
	ConstraintsSetStmt *set = makeNode(ConstraintsSetStmt);

	set->deferred = false;
	AfterTriggerSetState(set);
	CommandCounterIncrement();
}

/* A job that has deleted itself has been run all the same. */
void
sup_settle_success(const SupRun *run, const char *tag)
{
	SupJobRow	now;
	Oid			history;
	bool		found;

	check_constraints();
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	if (lock_tables(run, &history))
	{
		found = sup_job_lock(run->table, DatumGetInt64(run->row.values[SUP_JOB_ID]), &now);
		if (found)
			sup_job_delete(run->table, &now);
		note_run(history, run, found ? &now : &run->row, "succeeded", tag, NULL);
	}
	PopActiveSnapshot();
}

void
sup_own_transaction(void)
{
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = XactDeferrable = false;
}

/*
 * If its row is gone, or says that more runs have ended, it has committed before
 * it failed.  From here on it is not tried again.
 */
static void
set_failed(const SupRun *run, SupJobRow *row, const ErrorData *error)
{
	row->values[SUP_JOB_ATTEMPTS] = Int32GetDatum(DatumGetInt32(row->values[SUP_JOB_ATTEMPTS]) + 1);
	row->values[SUP_JOB_RUNS] = Int64GetDatum(DatumGetInt64(row->values[SUP_JOB_RUNS]) + 1);
	row->values[SUP_JOB_STATE] = CharGetDatum('f');
	row->values[SUP_JOB_RUN_AT] = TimestampTzGetDatum(DT_NOEND);
	row->values[SUP_JOB_LAST_STARTED_AT] = TimestampTzGetDatum(run->started_at);
	row->values[SUP_JOB_LAST_FINISHED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	row->values[SUP_JOB_LAST_STATE] = CStringGetTextDatum("failed");
	row->values[SUP_JOB_LAST_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	row->values[SUP_JOB_LAST_ERROR] = kept_text(error->message, &row->nulls[SUP_JOB_LAST_ERROR]);
	row->nulls[SUP_JOB_LAST_STARTED_AT] = row->nulls[SUP_JOB_LAST_FINISHED_AT] =
		row->nulls[SUP_JOB_LAST_STATE] = row->nulls[SUP_JOB_LAST_SQLSTATE] = false;
}

void
sup_settle_failure(const SupRun *run, const ErrorData *error)
{
	int64		id = DatumGetInt64(run->row.values[SUP_JOB_ID]);
	SupJobRow	now;
	Oid			history;
	bool		failed = false;

	StartTransactionCommand();
	sup_own_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (lock_tables(run, &history) && sup_job_lock(run->table, id, &now) &&
		DatumGetInt64(now.values[SUP_JOB_RUNS]) == DatumGetInt64(run->row.values[SUP_JOB_RUNS]))
	{
		note_run(history, run, &now, "failed", NULL, error);
		set_failed(run, &now, error);
		sup_job_update(run->table, &now);
		failed = true;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (failed)
		ereport(WARNING,
				(errmsg("job %lld has failed with SQLSTATE %s", (long long) id, unpack_sql_state(error->sqlerrcode))));
}
