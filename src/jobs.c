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
#include "access/xlog.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/rel.h"

#include "args.h"
#include "compat.h"
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

/* Where jobs can be managed: the table, locked. */
static Oid
lock_job_table(const char *function, int64 id)
{
	const char *complaint;
	Oid			table;

	sup_require_preload();
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	table = sup_trusted_lock_quick(&sup_job_table, &complaint);
	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database cannot be changed"),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	if (id < 1 || id > sup_job_last_id(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job %lld does not exist", (long long) id)));
	return table;
}

/* What a transaction is about to do with a row that it has locked is told at its end. */
static void
note_change(const SupJobRow *row)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);

	sup_note_changed_job(role, superuser_arg(role) ? InvalidOid : sup_account_of(role),
						 sup_job_text(row, SUP_JOB_POOL), DatumGetInt16(row->values[SUP_JOB_PRIORITY]),
						 sup_job_spot(row));
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
	table = lock_job_table("cancel_job()", id);

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
	note_change(&row);
	if (cancel_run(table, id, role, true))
		PG_RETURN_BOOL(true);
	run.table = table;
	run.id = id;
	run.run_at = sup_job_spot(&row).run_at;
	run.counted = true;			/* no attempt was made */
	sup_settle_canceled(&run, &row);
	PG_RETURN_BOOL(true);
}
