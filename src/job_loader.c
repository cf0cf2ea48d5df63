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

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "declaration.h"
#include "drain.h"
#include "job_loader.h"
#include "rights.h"
#include "settle.h"

/* The history is pruned no more often, unless what it has is kept for less. */
#define PRUNE_INTERVAL_US	(60 * USECS_PER_SEC)

/* Who has noted the end of a run commits that at once, but perhaps not so soon. */
#define LATE_US				(600 * USECS_PER_SEC)

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

/* Note the end of a run whose worker has not done so; false: that fails. */
static bool
settle_lost(const SupClaim *lost)
{
	volatile bool settled = false;
	SupRun		run = {0};
	SupJobNote	next;
	bool		waits = false;

	run.table = lost->table;
	run.id = lost->job.spot.id;
	run.runs = lost->runs;
	run.counted = lost->counted;
	run.run_at = lost->job.spot.run_at;
	run.started_at = lost->started_at;
	run.pid = lost->pid;
	run.end = lost->end;
	run.crashed = lost->crashed;
	run.sqlstate = lost->sqlstate;
	run.message = lost->message[0] != '\0' ? lost->message : NULL;
	if (run.end != SUP_RUN_SUCCEEDED && run.sqlstate == 0)
	{
		run.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		run.message = "its worker has ended";
	}
	PG_TRY();
	{
		waits = sup_settle(&run, NULL, NULL, &next);
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
	sup_lock();
	for (int i = 0; i < 2 * sup_max_workers;)
	{
		SupClaim   *claim = sup_lost_claim(MyDatabaseId, &i);

		if (claim == NULL)
			break;
		if (claim->table == lost->table && claim->job.spot.id == lost->job.spot.id)
		{
			sup_claim_count(claim, lost->end);
			sup_claim_release(claim, SUP_RELEASE_DONE);
			break;
		}
	}
	sup_unlock();
	if (waits)
		sup_publish_jobs(&next, 1);
	sup_tell_job_waiters(MyDatabaseId, lost->job.spot.id);
	return true;
}

/* Those of this database; each for itself, since it may be one row that is locked. */
static bool
settle_all_lost(void)
{
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
		all &= settle_lost(&lost);
	}
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
		StartTransactionCommand();
		sup_own_transaction();
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
	StartTransactionCommand();
	sup_own_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	table = sup_trusted_lock_quick(&sup_job_table, &complaint);
	if (OidIsValid(table))
	{
		sup_lock();
		sup_queues_read(MyDatabaseId);
		sup_unlock();
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
