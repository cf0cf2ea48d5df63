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
#include "utils/rel.h"

#include "args.h"
#include "compat.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "jobtable.h"
#include "queue.h"
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
 * cancel_job()
 */

/* Raise 42501 unless the current role may do so with jobs of that one. */
static void
check_may_cancel(int64 id, Oid role)
{
	if (!sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to cancel job %lld", (long long) id),
				 errdetail("Only a role that may signal backends of role \"%s\" may cancel its jobs.",
						   sup_role_name(role))));
}

/*
 * Cancel the run of a job of that role, if it is under way: its worker can't go on to
 * another while the lock is held.  Again if asked again, as the command may have caught
 * the first.  One that is about to begin does not begin any more, if the caller has the
 * row, and changes it.
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

		running = claim->begun;
		claim->canceled |= running || has_row;
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
	if (claim != NULL && claim->slot >= 0 && claim->begun)
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
	Oid			table;
	Oid			role;
	SupJobRow	row;
	SupRun		run = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job must not be null")));
	id = PG_GETARG_INT64(0);
	sup_job_check_place("cancel_job()");
	table = sup_job_lock_table();
	if (id < 1 || id > sup_job_last_id(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %lld does not exist", (long long) id)));

	/* One that runs may have locked its row, and is not waited for. */
	role = role_of_run(table, id);
	if (OidIsValid(role))
	{
		check_may_cancel(id, role);
		if (cancel_run(table, id, role, false))
			PG_RETURN_BOOL(true);
	}
	if (!sup_job_lock(table, id, &row))
		PG_RETURN_BOOL(false);
	role = DatumGetObjectId(row.values[SUP_JOB_ROLE]);
	check_may_cancel(id, role);
	sup_job_note_change(&row);
	if (cancel_run(table, id, role, true))
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
	sup_settle_canceled(&run, &row);
	PG_RETURN_BOOL(true);
}
