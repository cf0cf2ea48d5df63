/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  Copies of jobs become jobs.
 *
 * A dump that is restored, a copy of a database and a logical subscriber have rows of
 * jobs that are another's to run, or were run before.  They wait until a person says
 * that they belong here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "recur.h"

static bool
is_copy(const SupJobRow *row, int64 origin)
{
	return row->nulls[SUP_JOB_ORIGIN] || DatumGetInt64(row->values[SUP_JOB_ORIGIN]) != origin;
}

/* A recurring one makes up for nothing: it goes on at its next time. */
static void
set_next(SupJobRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;

	if (!sup_recur_next(row, now, now, &next))
	{
		sup_recur_fail(row);
		return;
	}
	sup_job_set(row, SUP_JOB_NEXT_AT, TimestampTzGetDatum(next));
	sup_job_set(row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
	if (!DatumGetBool(row->values[SUP_JOB_ENABLED]))
		return;
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(next));
	row->nulls[SUP_JOB_REASON] = true;
}

/* The rows are those that are committed; how many, and the greatest of their ids. */
static int64
adopt_all(Oid table, int64 *greatest)
{
	int64		origin = sup_job_origin();
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	int64		n = 0;

	*greatest = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(context);
		bool		isnull;
		Datum		is_of = slot_getattr(slot, SUP_JOB_ORIGIN + 1, &isnull);
		int64		id;
		SupJobRow	row;

		CHECK_FOR_INTERRUPTS();
		if (isnull || DatumGetInt64(is_of) != origin)
		{
			id = DatumGetInt64(slot_getattr(slot, SUP_JOB_ID + 1, &isnull));
			if (sup_job_lock(table, id, &row) && is_copy(&row, origin))
			{
				sup_job_set(&row, SUP_JOB_ORIGIN, Int64GetDatum(origin));
				if (!row.nulls[SUP_JOB_SCHEDULE] && DatumGetChar(row.values[SUP_JOB_STATE]) == 'w')
					set_next(&row);
				sup_job_update(table, &row);
				*greatest = Max(*greatest, id);
				n++;
			}
		}
		MemoryContextReset(MemoryContextSwitchTo(oldcontext));
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return n;
}

/* supervisor.adopt_jobs() */
PG_FUNCTION_INFO_V1(supervisor_adopt_jobs);
Datum
supervisor_adopt_jobs(PG_FUNCTION_ARGS)
{
	int64		greatest;
	int64		n;
	Oid			table;

	sup_job_check_place("adopt_jobs()");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to adopt jobs")));
	table = sup_job_lock_table();
	sup_note_any_jobs();
	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	n = adopt_all(table, &greatest);
	PopActiveSnapshot();
	sup_job_skip_ids(table, greatest);
	CommandCounterIncrement();
	PG_RETURN_INT64(n);
}
