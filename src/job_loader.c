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

	(void) sup_job_look(table, role, pool, &bounds, GetCurrentTimestamp(), NULL, 0, end);
	sup_injection_point("supervisor-found");
	sup_lock();
	sup_bounds_end_look(&queue->bounds, queue->ring, end, NULL, 0);
	sup_looks_at = NULL;
	sup_drain_offer(queue);
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
	Oid			table;

	if (RecoveryInProgress())
		return;
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
}
