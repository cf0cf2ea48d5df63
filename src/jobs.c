/*-------------------------------------------------------------------------
 *
 * jobs.c
 *	  The SQL functions about jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "args.h"
#include "compat.h"
#include "jobnotes.h"
#include "jobtable.h"
#include "queue.h"

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
				 errhint("Use supervisor.enqueue().")));
	if (TRIGGER_FIRED_BEFORE(data->tg_event) && TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(as_copy(data));
	if (Sup != NULL && strcmp(RelationGetRelationName(data->tg_relation), sup_job_table.name) == 0)
		sup_note_any_jobs();
	PG_RETURN_POINTER(NULL);
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
