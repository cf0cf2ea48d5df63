/*-------------------------------------------------------------------------
 *
 * job_loader.c
 *	  What the loader does for the jobs of a database.
 *
 * Whoever enqueues a job tells of it.  Of jobs that nobody has told of, or that were
 * forgotten, as all are when the server starts, only the table knows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "declaration.h"
#include "drain.h"
#include "job_loader.h"
#include "jobnotes.h"
#include "recur.h"
#include "rights.h"
#include "settings.h"
#include "settle.h"

/* The history is pruned no more often, unless what it has is kept for less. */
#define PRUNE_INTERVAL_US	(60 * USECS_PER_SEC)

/* Who has noted the end of a run commits that at once, but perhaps not so soon. */
#define LATE_US				(600 * USECS_PER_SEC)

/* In ms, see settle_timeout(). */
#define LOCK_TIMEOUT_AGAIN	100

/* So often the times of recurring jobs are seen to, if there is anything to do for the loader. */
#define TIMES_INTERVAL_US	USECS_PER_HOUR

/*
 * So many by one loader: other databases wait for it, and each time zone that is not like any
 * before takes memory as long as it lives.
 */
#define TIMES_BATCH			1000

/* Is nothing known of any priority? */
static bool
is_unknown(const SupBounds *bounds)
{
	for (int i = 0; i < SUP_PRIORITIES; i++)
		if (bounds->bound[i].run_at == PG_INT64_MIN)
			return true;
	return false;
}

/*
 * Visitor of sup_job_scan_queues(): find the first job of each priority, as a look does
 * that has no room.  What is told meanwhile counts as with any look.
 */
static void
find_queue(Oid table, Oid role, const char *pool, void *no_room)
{
	SupBounds	bounds;
	SupSpot		end[SUP_PRIORITIES];
	SupJobQueue *queue;
	Oid			account;
	bool		looks = false;

	if (strlen(pool) >= NAMEDATALEN || !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		return;
	account = superuser_arg(role) ? InvalidOid : sup_account_of(role);
	sup_lock();
	queue = sup_queue_get(MyDatabaseId, role, pool);
	if (queue == NULL)
		*(bool *) no_room = true;
	else
	{
		queue->account = account;
		looks = !queue->bounds.looking && is_unknown(&queue->bounds);
		if (looks)
		{
			bounds = queue->bounds;
			sup_bounds_begin_look(&queue->bounds);
			sup_looks_at = queue;
		}
		else
			sup_drain_offer(queue);
	}
	sup_unlock();
	if (!looks)
		return;

	(void) sup_job_look(table, role, pool, &bounds, NULL, GetCurrentTimestamp(), NULL, 0, end);
	sup_injection_point("supervisor-found");
	sup_lock();
	sup_bounds_end_look(&queue->bounds, queue->ring, end, NULL, 0);
	sup_looks_at = NULL;
	sup_drain_offer(queue);
	sup_unlock();
}

/* What a claim says of the end of its run. */
static void
init_run(const SupClaim *lost, SupRun *run)
{
	memset(run, 0, sizeof(SupRun));
	run->table = lost->table;
	run->id = lost->job.spot.id;
	run->runs = lost->runs;
	run->counted = lost->counted;
	run->run_at = lost->job.spot.run_at;
	run->started_at = lost->started_at;
	run->enqueued_at = lost->enqueued_at;
	run->pid = lost->pid;
	run->end = lost->end;
	run->crashed = lost->crashed;
	run->sqlstate = lost->sqlstate;
	run->message = lost->message[0] != '\0' ? lost->message : NULL;
	if (run->end != SUP_RUN_SUCCEEDED && run->sqlstate == 0)
	{
		run->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		run->message = "its worker has ended";
	}
}

/* It is noted, so the claim is given up.  One that has not begun can be run now. */
static void
release_lost(const SupClaim *lost)
{
	sup_lock();
	for (int i = 0; i < 2 * sup_max_workers;)
	{
		SupClaim   *claim = sup_lost_claim(MyDatabaseId, &i);

		if (claim == NULL)
			break;
		if (claim->table != lost->table || claim->job.spot.id != lost->job.spot.id || claim->begun != lost->begun)
			continue;
		if (lost->begun)
		{
			sup_claim_count(claim, lost->end);
			sup_claim_release(claim, SUP_RELEASE_DONE);
		}
		else
		{
			SupJobQueue *queue = &SupJob->queues[claim->queue];

			sup_claim_release(claim, SUP_RELEASE_UNDONE);
			sup_drain_offer(queue);
		}
		break;
	}
	sup_unlock();
}

/* Note the end of a run whose worker has not done so; false: that fails. */
static bool
settle_lost(const SupClaim *lost, int lock_timeout)
{
	volatile bool settled = false;
	SupRun		run;
	SupJobNote	next;
	bool		waits = false;

	init_run(lost, &run);
	PG_TRY();
	{
		if (lost->begun)
			waits = sup_settle(&run, NULL, NULL, &next, lock_timeout);
		else
			sup_settle_not_begun(&run, lock_timeout);
		settled = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	if (!settled)
		return false;
	if (run.convicted)
		sup_drains_convicted();
	release_lost(lost);
	if (waits)
		sup_publish_jobs(&next, 1);
	sup_tell_job_waiters(MyDatabaseId, lost->job.spot.id);
	return true;
}

/*
 * How long the loader may wait for rows that are locked.  Where it has failed before, that is
 * hardly at all: others in this database wait for its next time if it takes long to fail.
 */
static int
settle_timeout(void)
{
	SupLoad    *load;
	bool		failed;

	sup_lock();
	load = sup_load_of(MyDatabaseId);
	failed = load != NULL && load->failures > 0;
	sup_unlock();
	return failed ? LOCK_TIMEOUT_AGAIN : SUP_LOCK_TIMEOUT;
}

/*
 * Those of this database; each for itself, since it may be one row that is locked.  All
 * together wait no longer than one might, as other databases wait for the loader.
 */
static bool
settle_all_lost(void)
{
	TimestampTz until = sup_now() + settle_timeout() * 1000;
	bool		all = true;
	int			next = 0;

	for (;;)
	{
		SupClaim	lost;
		SupClaim   *claim;

		CHECK_FOR_INTERRUPTS();
		sup_lock();
		claim = sup_lost_claim(MyDatabaseId, &next);
		if (claim != NULL)
			lost = *claim;
		sup_unlock();
		if (claim == NULL)
			return all;
		all &= settle_lost(&lost, Max((int) ((until - sup_now()) / 1000), 1));
	}
}

/*
 * Times of recurring jobs
 *
 * The next one was computed when the last run ended, or when the job was made.  Since then
 * the rules of its time zone may be others, or the clock was set back.  Then it comes sooner;
 * later it does not, as what is due then makes up for what was missed.
 */

typedef struct Sooner
{
	int64		origin;
	MemoryContext row;			/* for a row */
	List	   *ids;			/* int64 * */
	NameData	last;			/* the last one that was looked at; empty: all */
} Sooner;

/* Is its next time before the one that it has? */
static bool
comes_sooner(const SupJobRow *row, int64 origin, TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz start = now;

	if (row->nulls[SUP_JOB_SCHEDULE] || row->nulls[SUP_JOB_NEXT_AT] || !sup_job_may_run(row, origin))
		return false;
	if (!row->nulls[SUP_JOB_LAST_STARTED_AT])
		start = Min(start, DatumGetTimestampTz(row->values[SUP_JOB_LAST_STARTED_AT]));
	return sup_recur_next(row, start, now, next) &&
		*next < DatumGetTimestampTz(row->values[SUP_JOB_NEXT_AT]);
}

static void
note_sooner(const SupJobRow *row, Sooner *sooner)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(sooner->row);
	TimestampTz next;
	bool		comes = comes_sooner(row, sooner->origin, &next);
	int64	   *id;

	MemoryContextReset(MemoryContextSwitchTo(oldcontext));
	if (!comes)
		return;
	id = palloc(sizeof(int64));
	*id = DatumGetInt64(row->values[SUP_JOB_ID]);
	sooner->ids = lappend(sooner->ids, id);
}

/* The recurring ones are those that have a name. */
static void
find_sooner(Oid table, Sooner *sooner)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_job_open_index(rel, SUP_JOB_INDEX_NAME);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = sup_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;
	SupJobRow	row;
	bool		more = true;

	ScanKeyEntryInitialize(&key, 0, 1, BTGreaterStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXT_GT,
						   CStringGetTextDatum(NameStr(sooner->last)));
	index_rescan(scan, &key, 1, NULL, 0);
	for (int i = 0; i < TIMES_BATCH; i++)
	{
		CHECK_FOR_INTERRUPTS();
		more = index_getnext_slot(scan, ForwardScanDirection, slot);
		if (!more)
			break;
		sup_job_row_of(slot, &row);
		note_sooner(&row, sooner);
	}
	namestrcpy(&sooner->last, more ? sup_job_text(&row, SUP_JOB_NAME) : "");
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
}

/* One that somebody else changes gets its time from him. */
static void
set_sooner(Oid table, int64 id, int64 origin)
{
	SupJobRow	row;
	TimestampTz next;
	Oid			role;

	if (!sup_job_lock_free(table, id, &row) || !comes_sooner(&row, origin, &next))
		return;
	role = DatumGetObjectId(row.values[SUP_JOB_ROLE]);
	row.values[SUP_JOB_NEXT_AT] = TimestampTzGetDatum(next);
	if (next < DatumGetTimestampTz(row.values[SUP_JOB_RUN_AT]))
		row.values[SUP_JOB_RUN_AT] = TimestampTzGetDatum(next);
	sup_job_update(table, &row);
	sup_note_job(role, superuser_arg(role) ? InvalidOid : sup_account_of(role), sup_job_text(&row, SUP_JOB_POOL),
				 DatumGetInt16(row.values[SUP_JOB_PRIORITY]), sup_job_spot(&row));
}

/* In one transaction, which tells of them.  Those that are left are for the next loader. */
static void
see_to_times(Oid table)
{
	Sooner		sooner = {0};
	TimestampTz now = sup_now();
	SupPruned  *pruned;
	ListCell   *lc;
	bool		due;

	sup_lock();
	pruned = sup_pruned_of(MyDatabaseId);
	due = pruned->times_at == 0 || pruned->times_at + TIMES_INTERVAL_US <= now;
	sooner.last = pruned->times_from;
	sup_unlock();
	if (!due)
		return;
	sooner.origin = sup_job_origin();
	sooner.row = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	find_sooner(table, &sooner);
	foreach(lc, sooner.ids)
	{
		CHECK_FOR_INTERRUPTS();
		set_sooner(table, *(int64 *) lfirst(lc), sooner.origin);
	}
	sup_lock();
	pruned = sup_pruned_of(MyDatabaseId);
	pruned->times_from = sooner.last;
	if (NameStr(sooner.last)[0] == '\0')
		pruned->times_at = now;
	else
		sup_request_load(MyDatabaseId);
	sup_unlock();
}

/* Does another database wait for the loader? */
static bool
others_wait(void)
{
	TimestampTz now = sup_now();
	bool		wait;

	sup_lock();
	wait = Sup->load_all || OidIsValid(Sup->load_cursor);
	for (int i = 0; i < SUP_LOADS && !wait; i++)
		wait = OidIsValid(Sup->loads[i].database) && Sup->loads[i].database != MyDatabaseId &&
			Sup->loads[i].due <= now;
	sup_unlock();
	return wait;
}

/*
 * Remove what is older than that, from *from on, one batch at least; when there is more to
 * remove, PG_INT64_MIN: at once.  What was
 * committed late, by who had finished before, is looked for again.
 */
static TimestampTz
prune(bool brief, int retention, int64 *from)
{
	const char *complaint;
	TimestampTz until = GetCurrentTimestamp() - retention * USECS_PER_SEC;
	int64		first = PG_INT64_MAX;
	bool		last = false;
	Oid			table;

	if (retention == 0)
		return PG_INT64_MAX;
	while (!last)
	{
		int64		before = *from;

		CHECK_FOR_INTERRUPTS();
		sup_begin_own();
		PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
		table = sup_trusted_lock_quick(&sup_history_table, &complaint);
		last = !OidIsValid(table) || sup_history_prune(table, brief, until, from, &first);
		PopActiveSnapshot();
		CommitTransactionCommand();
		if (!last && (*from == before || others_wait()))
			return PG_INT64_MIN;
	}
	*from = Min(*from, until - LATE_US);
	if (first == PG_INT64_MAX)
		return first;
	return Max(first + retention * USECS_PER_SEC,
			   GetCurrentTimestamp() + Min(retention * USECS_PER_SEC, PRUNE_INTERVAL_US));
}

/* The places where it begins are kept in shared memory, so that nothing is looked at again and again. */
static void
prune_history(void)
{
	SupPruned	pruned;
	TimestampTz next;
	TimestampTz next_other;

	sup_lock();
	pruned = *sup_pruned_of(MyDatabaseId);
	sup_unlock();
	next = prune(true, sup_job_retention, &pruned.brief_from);
	next_other = prune(false, sup_job_failure_retention, &pruned.from);
	next = Min(next, next_other);
	sup_lock();
	*sup_pruned_of(MyDatabaseId) = pruned;
	if (next == PG_INT64_MIN)
		sup_request_load(MyDatabaseId);
	else if (next != PG_INT64_MAX)
		sup_queues_recall_at(MyDatabaseId, next);
	sup_unlock();
}

/*
 * What there is no room for is found once others have been run.  An error ends the
 * loader, and it is tried again.
 */
void
sup_load_jobs(void)
{
	const char *complaint;
	bool		no_room = false;
	bool		settled;
	Oid			table;

	if (RecoveryInProgress())
		return;
	settled = settle_all_lost();
	sup_begin_own();
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	table = sup_trusted_lock_quick(&sup_job_table, &complaint);
	if (OidIsValid(table))
	{
		sup_lock();
		sup_queues_read(MyDatabaseId);
		sup_unlock();
		see_to_times(table);
		sup_job_scan_queues(table, find_queue, &no_room);
	}
	else if (complaint != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("jobs of database %u are not run: %s", MyDatabaseId, complaint)));
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (no_room)
	{
		sup_lock();
		sup_request_load(MyDatabaseId);
		sup_unlock();
	}
	sup_drains_retry(InvalidOid, MyDatabaseId);
	if (OidIsValid(table))
		prune_history();
	if (!settled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the end of a run of a job could not be noted")));
}
