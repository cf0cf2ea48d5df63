/*-------------------------------------------------------------------------
 *
 * lastrun.c
 *	  How the last run of a job has ended, which may be gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "jobtable.h"
#include "lastrun.h"

/* As the rows of jobs are read: without a predicate lock in a serializable transaction. */
bool
sup_last_run(Oid history, int64 job, SupLastRun *last)
{
	Relation	rel = table_open(history, NoLock);
	Relation	index = sup_history_open_index(rel, SUP_HISTORY_INDEX_JOB);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = sup_index_beginscan(rel, index, SnapshotAny, 1);
	ScanKeyData key;
	bool		found = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(job));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		TimestampTz finished_at;

		CHECK_FOR_INTERRUPTS();
		if (!table_tuple_satisfies_snapshot(rel, slot, latest))
			continue;
		finished_at = DatumGetTimestampTz(slot_getattr(slot, SUP_RUN_FINISHED_AT + 1, &isnull));
		if (found && finished_at < last->finished_at)
			continue;
		found = true;
		last->finished_at = finished_at;
		last->role = DatumGetObjectId(slot_getattr(slot, SUP_RUN_ROLE + 1, &isnull));
		last->state = TextDatumGetCString(slot_getattr(slot, SUP_RUN_STATE + 1, &isnull));
		last->xmin = sup_row_xmin(slot, &last->mine);
	}
	index_endscan(scan);
	UnregisterSnapshot(latest);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return found;
}
