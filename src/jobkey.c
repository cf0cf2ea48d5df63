/*-------------------------------------------------------------------------
 *
 * jobkey.c
 *	  Jobs of one key, which are run one at a time.
 *
 * An index has those that have one, by role, key, pool and place.  So who looks for the
 * next ones goes from each pool and priority to the next, however many jobs each has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "jobkey.h"

/*
 * Who looks for identical jobs gives up after so many others: where a key has many that
 * differ, each run would look at all of them.
 */
#define MAX_OTHERS		100

/* What a visitor of due jobs wants next. */
typedef enum Next
{
	NEXT_JOB,
	NEXT_GROUP,					/* of another pool or priority */
	NO_MORE
} Next;

typedef Next (*Visitor) (const SupJobRow *row, void *arg);

/* A scan of the jobs of a key. */
typedef struct KeyScan
{
	IndexScanDesc scan;
	TupleTableSlot *slot;
	ScanKeyData keys[3];
	ScanKeyData members[2];		/* pool and priority of a group that is over */
	MemoryContext row;			/* for a row */
	MemoryContext group;		/* for members[] */
	TimestampTz now;
	int64		origin;
} KeyScan;

static void
init_keys(KeyScan *scan, Oid role, const char *key)
{
	ScanKeyInit(&scan->keys[0], 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(role));
	ScanKeyEntryInitialize(&scan->keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(key));
	ScanKeyEntryInitialize(&scan->members[0], SK_ROW_MEMBER, 3, BTGreaterStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_BTTEXTCMP, CStringGetTextDatum(""));
	ScanKeyEntryInitialize(&scan->members[1], SK_ROW_MEMBER | SK_ROW_END, 4, BTGreaterStrategyNumber, InvalidOid,
						   InvalidOid, F_BTINT2CMP, Int16GetDatum(-1));
	MemSet(&scan->keys[2], 0, sizeof(ScanKeyData));
	scan->keys[2].sk_flags = SK_ROW_HEADER;
	scan->keys[2].sk_attno = 3;
	scan->keys[2].sk_strategy = BTGreaterStrategyNumber;
	scan->keys[2].sk_argument = PointerGetDatum(scan->members);
}

/* Go on behind the pool and priority of that row. */
static void
leave_group(KeyScan *scan, const SupJobRow *row)
{
	MemoryContext oldcontext;

	MemoryContextReset(scan->group);
	oldcontext = MemoryContextSwitchTo(scan->group);
	scan->members[0].sk_argument = PointerGetDatum(PG_DETOAST_DATUM_COPY(row->values[SUP_JOB_POOL]));
	scan->members[1].sk_argument = row->values[SUP_JOB_PRIORITY];
	MemoryContextSwitchTo(oldcontext);
	index_rescan(scan->scan, scan->keys, 3, NULL, 0);
}

/* Visit the due jobs that a scan comes to; after one that is not due there is none in its group. */
static void
visit_all(KeyScan *scan, Visitor visit, void *arg)
{
	Next		next = NEXT_JOB;

	index_rescan(scan->scan, scan->keys, 3, NULL, 0);
	while (next != NO_MORE && index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(scan->row);
		SupJobRow	row;

		CHECK_FOR_INTERRUPTS();
		sup_job_row_of(scan->slot, &row);
		if (sup_job_spot(&row).run_at > scan->now)
			next = NEXT_GROUP;
		else if (sup_job_may_run(&row, scan->origin))
			next = visit(&row, arg);
		else
			next = NEXT_JOB;
		if (next == NEXT_GROUP)
			leave_group(scan, &row);
		MemoryContextReset(MemoryContextSwitchTo(oldcontext));
	}
}

static void
visit_due(Oid table, Oid role, const char *key, TimestampTz now, Visitor visit, void *arg)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_job_open_index(rel, SUP_JOB_INDEX_KEY);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	KeyScan		scan;

	scan.slot = table_slot_create(rel, NULL);
	scan.scan = sup_index_beginscan(rel, index, snapshot, 3);
	scan.row = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	scan.group = AllocSetContextCreate(CurrentMemoryContext, "supervisor group", ALLOCSET_DEFAULT_SIZES);
	scan.now = now;
	scan.origin = sup_job_origin();
	init_keys(&scan, role, key);
	visit_all(&scan, visit, arg);
	index_endscan(scan.scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(scan.row);
	MemoryContextDelete(scan.group);
	ExecDropSingleTupleTableSlot(scan.slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
}

/*
 * The next ones
 */

typedef struct FirstJobs
{
	int			n;
	int			room;
	SupKeyJob  *jobs;
} FirstJobs;

static Next
take_first(const SupJobRow *row, void *arg)
{
	FirstJobs  *first = arg;
	char	   *pool = sup_job_text(row, SUP_JOB_POOL);
	SupKeyJob  *job;

	if (strlen(pool) >= NAMEDATALEN)
		return NEXT_GROUP;
	if (first->n == first->room)
	{
		first->room *= 2;
		first->jobs = repalloc(first->jobs, first->room * sizeof(SupKeyJob));
	}
	job = &first->jobs[first->n++];
	strlcpy(job->pool, pool, NAMEDATALEN);
	job->job.priority = DatumGetInt16(row->values[SUP_JOB_PRIORITY]);
	job->job.spot = sup_job_spot(row);
	job->job.key = sup_job_key(row);
	return NEXT_GROUP;
}

int
sup_key_first_jobs(Oid table, Oid role, const char *key, TimestampTz now, SupKeyJob **jobs)
{
	FirstJobs	first = {0, 8, palloc(8 * sizeof(SupKeyJob))};

	visit_due(table, role, key, now, take_first, &first);
	*jobs = first.jobs;
	return first.n;
}

/*
 * Identical ones
 */

/* Are these values, of which there may be none, the same bytes? */
static bool
is_equal(const SupJobRow *a, const SupJobRow *b, SupJobColumn column)
{
	struct varlena *x;
	struct varlena *y;

	if (a->nulls[column] || b->nulls[column])
		return a->nulls[column] == b->nulls[column];
	if (toast_raw_datum_size(a->values[column]) != toast_raw_datum_size(b->values[column]))
		return false;
	x = PG_DETOAST_DATUM_PACKED(a->values[column]);
	y = PG_DETOAST_DATUM_PACKED(b->values[column]);
	return memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

/* One that is to run once only is not done by one that may be run again. */
bool
sup_key_is_identical(const SupJobRow *row, const SupJobRow *other, TimestampTz now)
{
	return DatumGetInt64(row->values[SUP_JOB_ID]) != DatumGetInt64(other->values[SUP_JOB_ID]) &&
		DatumGetObjectId(row->values[SUP_JOB_ROLE]) == DatumGetObjectId(other->values[SUP_JOB_ROLE]) &&
		DatumGetBool(row->values[SUP_JOB_ATOMIC]) == DatumGetBool(other->values[SUP_JOB_ATOMIC]) &&
		row->nulls[SUP_JOB_NAME] && other->nulls[SUP_JOB_NAME] &&
		sup_job_spot(other).run_at <= now &&
		!other->nulls[SUP_JOB_KEY] && is_equal(row, other, SUP_JOB_KEY) &&
		is_equal(row, other, SUP_JOB_COMMAND) && is_equal(row, other, SUP_JOB_PARAMS);
}

typedef struct Identical
{
	const SupJobRow *row;
	TimestampTz now;
	int64	   *ids;
	int			n;
	int			nothers;
} Identical;

static Next
take_identical(const SupJobRow *row, void *arg)
{
	Identical  *identical = arg;

	if (DatumGetInt64(row->values[SUP_JOB_ID]) == DatumGetInt64(identical->row->values[SUP_JOB_ID]))
		return NEXT_JOB;
	if (sup_key_is_identical(identical->row, row, identical->now))
		identical->ids[identical->n++] = DatumGetInt64(row->values[SUP_JOB_ID]);
	else
		identical->nothers++;
	return identical->n < SUP_MAX_MERGED && identical->nothers < MAX_OTHERS ? NEXT_JOB : NO_MORE;
}

int
sup_key_identical(Oid table, const SupJobRow *row, TimestampTz now, int64 **ids, bool *others)
{
	Identical	identical = {row, now, palloc(SUP_MAX_MERGED * sizeof(int64)), 0, 0};

	visit_due(table, DatumGetObjectId(row->values[SUP_JOB_ROLE]), sup_job_text(row, SUP_JOB_KEY), now,
			  take_identical, &identical);
	*ids = identical.ids;
	*others = identical.n + identical.nothers > 0;
	return identical.n;
}
