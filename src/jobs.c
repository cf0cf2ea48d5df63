/*-------------------------------------------------------------------------
 *
 * jobs.c
 *	  The SQL functions about jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "compat.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "jobtable.h"
#include "mark.h"
#include "queue.h"
#include "recur.h"
#include "rights.h"
#include "settle.h"

/* The row that is added belongs nowhere: adopt_jobs() is for a person to call. */
static HeapTuple
as_copy(TriggerData *data)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	int			column = SUP_JOB_ORIGIN + 1;
	Datum		value = (Datum) 0;
	bool		isnull = true;

	if (desc->natts < column)
		return data->tg_trigtuple;
	return heap_modify_tuple_by_cols(data->tg_trigtuple, desc, 1, &column, &value, &isnull);
}

/*
 * Their rows decide what runs as whom, and tell what has run.  What comes in here
 * by INSERT, COPY or replication may have run elsewhere, or here before.
 */
PG_FUNCTION_INFO_V1(supervisor_job_changed);
Datum
supervisor_job_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "job_changed")));
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to write to table \"supervisor.%s\"",
						RelationGetRelationName(data->tg_relation)),
				 errhint("Use supervisor.enqueue() and supervisor.cancel_job().")));
	/* before the row is changed: if that fails, others have passed over it */
	if (Sup != NULL && strcmp(RelationGetRelationName(data->tg_relation), sup_job_table.name) == 0)
		sup_note_any_jobs();
	if (!TRIGGER_FIRED_BEFORE(data->tg_event))
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(as_copy(data));
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple);
}

/* supervisor.current_job(): for what a job does elsewhere, whose key it is. */
PG_FUNCTION_INFO_V1(supervisor_current_job);
Datum
supervisor_current_job(PG_FUNCTION_ARGS)
{
	sup_require_preload();
	if (sup_running_job == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(sup_running_job);
}

/*
 * Jobs by their numbers
 */

/* Raise 42501 unless the current role may do so with jobs of that one. */
static void
check_may_change(int64 id, Oid role)
{
	if (!sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for job %lld", (long long) id),
				 errdetail("Only a role that may signal backends of role \"%s\" may cancel or change its jobs.",
						   sup_role_name(role))));
}

/* The table, locked, and the number of a job that is there, or was; 42704: it never was. */
static Oid
take_job(FunctionCallInfo fcinfo, const char *function, int64 *id)
{
	Oid			table;
	SupJobRow	row;
	bool		found;

	sup_job_check_place(function);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job must not be null")));
	*id = PG_GETARG_INT64(0);
	table = sup_job_lock_table();
	found = *id >= 1 && *id <= sup_job_last_id(table);
	if (!found)
	{
		/* copies may have come without the sequence, as by replication */
		PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
		found = sup_job_fetch(table, *id, &row) != SUP_JOB_GONE;
		PopActiveSnapshot();
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %lld does not exist", (long long) *id)));
	return table;
}

/*
 * Its row, locked, which the caller is about to change; false: it has ended.  Who may not change
 * it is told before he has locked it, or waits for it.
 */
static bool
lock_job(Oid table, int64 id, SupJobRow *row)
{
	if (sup_job_fetch(table, id, row) == SUP_JOB_GONE)
		return false;
	check_may_change(id, DatumGetObjectId(row->values[SUP_JOB_ROLE]));
	if (!sup_job_lock(table, id, row))
		return false;
	check_may_change(id, DatumGetObjectId(row->values[SUP_JOB_ROLE]));
	sup_job_note_change(row);
	return true;
}

/* The row as it is to be; it may be due by that. */
static void
change_job(Oid table, SupJobRow *row)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);

	sup_note_job(role, sup_job_account(role), sup_job_text(row, SUP_JOB_POOL),
				 DatumGetInt16(row->values[SUP_JOB_PRIORITY]), sup_job_spot(row));
	sup_job_update(table, row);
	CommandCounterIncrement();
}

/*
 * Cancel the run of a job of that role, if it is under way: its worker can't go on to
 * another while the lock is held.  It no longer is while its end is being noted: who has the
 * row then finds what has come of it.  Again if asked again, as the command may have caught
 * the first.  The mark tells of it if the server does not live to see its end.  One that is
 * about to begin does not begin any more, if the caller has the row, and changes it.
 */
static bool
cancel_run(Oid table, int64 id, Oid role, bool has_row)
{
	SupClaim   *claim;
	bool		running = false;

	sup_lock();
	claim = sup_claim_on(MyDatabaseId, table, id);
	if (claim != NULL && claim->slot >= 0 && SupJob->queues[claim->queue].role == role)
	{
		SupSlot    *slot = &Sup->slots[claim->slot];

		running = claim->begun && !claim->decided;
		claim->canceled |= running || has_row;
		if (running)
			sup_mark_cancel(claim->slot);
		pg_memory_barrier();
		if (running && slot->pid != 0)
			kill(slot->pid, SIGINT);
	}
	sup_unlock();
	return running;
}

/* The role of the run of a job that is under way; 0: none is. */
static Oid
role_of_run(Oid table, int64 id)
{
	SupClaim   *claim;
	Oid			role = InvalidOid;

	sup_lock();
	claim = sup_claim_on(MyDatabaseId, table, id);
	if (claim != NULL && claim->slot >= 0 && claim->begun && !claim->decided)
		role = SupJob->queues[claim->queue].role;
	sup_unlock();
	return role;
}

/*
 * supervisor.cancel_job(): a run is canceled at once, and a job that waits when this
 * transaction commits.
 */
PG_FUNCTION_INFO_V1(supervisor_cancel_job);
Datum
supervisor_cancel_job(PG_FUNCTION_ARGS)
{
	int64		id;
	Oid			table = take_job(fcinfo, "cancel_job()", &id);
	Oid			role;
	SupJobRow	row;
	SupRun		run = {0};

	/* One that runs may have locked its row, and is not waited for. */
	role = role_of_run(table, id);
	if (OidIsValid(role))
	{
		check_may_change(id, role);
		if (cancel_run(table, id, role, false))
			PG_RETURN_BOOL(true);
	}
	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	if (!lock_job(table, id, &row))
	{
		PopActiveSnapshot();
		PG_RETURN_BOOL(false);
	}
	PopActiveSnapshot();
	if (cancel_run(table, id, DatumGetObjectId(row.values[SUP_JOB_ROLE]), true))
		PG_RETURN_BOOL(true);
	if (!row.nulls[SUP_JOB_SCHEDULE] && DatumGetChar(row.values[SUP_JOB_STATE]) == 'w')
	{
		ereport(NOTICE,
				(errmsg("recurring job %lld is not running", (long long) id),
				 errhint("Use supervisor.unschedule() to have it run no more.")));
		PG_RETURN_BOOL(false);
	}
	run.table = table;
	run.id = id;
	run.run_at = sup_job_spot(&row).run_at;
	run.counted = true;			/* no attempt was made */
	sup_injection_point("supervisor-cancel");
	sup_settle_canceled(&run, &row);

	/* Only from here on can it be seen that it is being canceled. */
	(void) cancel_run(table, id, DatumGetObjectId(row.values[SUP_JOB_ROLE]), true);
	PG_RETURN_BOOL(true);
}

/* supervisor.retry_job() */
PG_FUNCTION_INFO_V1(supervisor_retry_job);
Datum
supervisor_retry_job(PG_FUNCTION_ARGS)
{
	int64		id;
	Oid			table = take_job(fcinfo, "retry_job()", &id);
	SupJobRow	row;
	bool		found;

	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	found = lock_job(table, id, &row);
	if (found && !DatumGetBool(row.values[SUP_JOB_ENABLED]))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job %lld is not enabled", (long long) id),
				 errhint("Use supervisor.alter_job() with enabled => true.")));
	if (found && (row.nulls[SUP_JOB_ORIGIN] || DatumGetInt64(row.values[SUP_JOB_ORIGIN]) != sup_job_origin()))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job %lld belongs to another database or installation", (long long) id),
				 errhint("See supervisor.adopt_jobs().")));
	if (found)
	{
		if (DatumGetChar(row.values[SUP_JOB_STATE]) != 'w')
		{
			sup_job_set(&row, SUP_JOB_STATE, CharGetDatum('w'));
			sup_job_set(&row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
			sup_job_set(&row, SUP_JOB_CRASHES, Int32GetDatum(0));
		}
		row.nulls[SUP_JOB_REASON] = true;
		sup_job_set(&row, SUP_JOB_RUN_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
		change_job(table, &row);
	}
	PopActiveSnapshot();
	PG_RETURN_BOOL(found);
}

/*
 * alter_job()
 */

/* Arguments, in order. */
enum
{
	ARG_JOB,
	ARG_RUN_AT,
	ARG_POOL,
	ARG_PRIORITY,
	ARG_ENABLED
};

/*
 * One that is not enabled has no time at which it is due.  A recurring one makes up for
 * nothing when it is enabled again; another one is due when it was.
 */
static void
set_enabled(int64 id, SupJobRow *row, bool enabled)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	bool		recurs = !row->nulls[SUP_JOB_SCHEDULE];

	if (DatumGetBool(row->values[SUP_JOB_ENABLED]) == enabled)
		return;
	sup_job_set(row, SUP_JOB_ENABLED, BoolGetDatum(enabled));
	if (DatumGetChar(row->values[SUP_JOB_STATE]) != 'w')
		return;					/* that is for retry_job() */
	row->nulls[SUP_JOB_REASON] = enabled;
	if (!enabled)
	{
		sup_job_set(row, SUP_JOB_REASON, CStringGetTextDatum("disabled"));
		if (!recurs)
			sup_job_set(row, SUP_JOB_NEXT_AT, row->values[SUP_JOB_RUN_AT]);
		sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(DT_NOEND));
		return;
	}
	if (recurs)
	{
		if (!sup_recur_next(row, now, now, &next))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("recurring job %lld has no next time", (long long) id),
					 errhint("Use supervisor.schedule() to give it another schedule or time zone.")));
		sup_job_set(row, SUP_JOB_NEXT_AT, TimestampTzGetDatum(next));
	}
	else
		next = row->nulls[SUP_JOB_NEXT_AT] ? now : DatumGetTimestampTz(row->values[SUP_JOB_NEXT_AT]);
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(next));
}

/* For one that is not enabled, 'run_at' is when it is due once it is. */
static void
set_run_at(int64 id, SupJobRow *row, TimestampTz run_at)
{
	if (TIMESTAMP_IS_NOBEGIN(run_at))
		sup_job_out_of_range("run_at", "a time, or infinity");
	if (DatumGetBool(row->values[SUP_JOB_ENABLED]))
		sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(run_at));
	else if (row->nulls[SUP_JOB_SCHEDULE])
		sup_job_set(row, SUP_JOB_NEXT_AT, TimestampTzGetDatum(run_at));
	else
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job %lld is not enabled", (long long) id)));
}

/* supervisor.alter_job() */
PG_FUNCTION_INFO_V1(supervisor_alter_job);
Datum
supervisor_alter_job(PG_FUNCTION_ARGS)
{
	int64		id;
	Oid			table = take_job(fcinfo, "alter_job()", &id);
	SupJobRow	row;
	bool		found;

	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	found = lock_job(table, id, &row);
	if (found)
	{
		if (DatumGetChar(row.values[SUP_JOB_STATE]) != 'w' && !PG_ARGISNULL(ARG_RUN_AT))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("job %lld has failed", (long long) id),
					 errhint("Use supervisor.retry_job() to have it run again.")));
		if (!PG_ARGISNULL(ARG_POOL))
			sup_job_set(&row, SUP_JOB_POOL,
						CStringGetTextDatum(sup_job_take_pool(fcinfo, ARG_POOL, DatumGetObjectId(row.values[SUP_JOB_ROLE]))));
		if (!PG_ARGISNULL(ARG_PRIORITY))
			sup_job_set(&row, SUP_JOB_PRIORITY, Int16GetDatum(sup_job_take_priority(fcinfo, ARG_PRIORITY)));
		if (!PG_ARGISNULL(ARG_ENABLED))
			set_enabled(id, &row, PG_GETARG_BOOL(ARG_ENABLED));
		if (!PG_ARGISNULL(ARG_RUN_AT))
			set_run_at(id, &row, PG_GETARG_TIMESTAMPTZ(ARG_RUN_AT));
		change_job(table, &row);
	}
	PopActiveSnapshot();
	PG_RETURN_BOOL(found);
}
