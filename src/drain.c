/*-------------------------------------------------------------------------
 *
 * drain.c
 *	  Drains: tasks that take due jobs of one queue, one after another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "drain.h"
#include "mark.h"
#include "match.h"
#include "task.h"

SupJobQueue *sup_looks_at = NULL;

/* After a failure, the next try is so late at least, whatever has changed. */
#define RETRY_US		INT64CONST(1000000)

#define ITEMS_PER_LOCK	64

/* Where a pool is not there, or has no worker, jobs wait until it has. */
static bool
is_served(const SupPool *pool)
{
	return pool != NULL && !pool->removed && pool->size > 0 && !pool->down && SupJob->run_jobs;
}

/*
 * When the queue is to have another drain: a job is due, and no other drain waits.
 * Who looks goes on with what he finds, and shares it.  After a crash of the server,
 * which may be a job's doing, a person has time to log in.
 */
static int64
drain_due(const SupJobQueue *queue, int64 now)
{
	int64		due = sup_bounds_due(&queue->bounds, queue->ring);
	TimestampTz not_before = Max(queue->not_before, Sup->library_start_at);
	TimestampTz steady = not_before != 0 ? sup_now() : 0;

	if (queue->drain_queued || queue->wanting ||
		(queue->bounds.looking && (queue->ring == NULL || queue->ring->n == 0)))
		return PG_INT64_MAX;
	return not_before > steady ? Max(due, now + (not_before - steady)) : due;
}

/*
 * After a crash of which nobody knows whose it was, one is enough: then the next one tells.
 */
static bool
has_entry(void)
{
	return Sup->free_drain >= 0 && (SupJob->ndrains == 0 || SupJob->alone_until <= GetCurrentTimestamp());
}

/* Take a free entry for a drain, and queue it. */
static void
queue_drain(SupJobQueue *queue, SupPool *pool)
{
	SupTask    *task = &Sup->tasks[Sup->free_drain];
	SupBinding *b = sup_binding_get(pool - Sup->pools, queue->database, queue->role);
	TimestampTz now = sup_now();

	Sup->free_drain = task->slot;
	SupJob->ndrains++;
	b->account = queue->account;
	b->ndrains++;
	task->kind = SUP_TASK_DRAIN;
	task->id = 0;
	task->binding = b - Sup->bindings;
	task->job_queue = sup_queue_index(queue);
	task->owner = task->slot = -1;
	task->reading = task->awaited = task->concurrently = task->in_news = false;
	task->capped = OidIsValid(queue->account);
	task->cancel = SUP_NOT_CANCELED;
	task->timeout = 0;
	task->submitted_at = now;
	task->started_at = task->finished_at = 0;
	queue->ndrains++;
	queue->drain_queued = true;
	sup_offer(task, now);
}

/* Where all entries are in use, the queue gets the next one that is given back. */
void
sup_drain_offer(SupJobQueue *queue)
{
	SupPool    *pool = sup_pool_by_name(queue->pool);
	int64		now = GetCurrentTimestamp();
	int64		due = PG_INT64_MAX;

	SUP_ASSERT_LOCKED();
	if (is_served(pool))
		due = drain_due(queue, now);
	sup_queue_set_due(queue, due > now ? due : PG_INT64_MAX);
	if (due > now)
		return;
	if (has_entry())
		queue_drain(queue, pool);
	else
	{
		dlist_push_tail(&SupJob->wanting, &queue->wanting_node);
		queue->wanting = true;
	}
}

void
sup_drains_retry(Oid role, Oid database)
{
	for (int start = 0; start < SUP_QUEUES; start += ITEMS_PER_LOCK)
	{
		sup_lock();
		for (int i = start; i < start + ITEMS_PER_LOCK; i++)
		{
			SupJobQueue *queue = &SupJob->queues[i];

			if (!OidIsValid(queue->database) || queue->not_before == 0 ||
				(OidIsValid(role) && queue->role != role) ||
				(OidIsValid(database) && queue->database != database))
				continue;
			queue->not_before = Min(queue->not_before, queue->failed_at + RETRY_US);
			sup_drain_offer(queue);
		}
		sup_unlock();
	}
}

/* Give an entry back.  Who waits for one is given it. */
static void
free_drain(SupTask *task)
{
	SupBinding *b = &Sup->bindings[task->binding];

	pg_atomic_write_u32(&task->state, SUP_TASK_FREE);
	task->binding = -1;
	task->slot = Sup->free_drain;
	Sup->free_drain = sup_task_index(task);
	SupJob->ndrains--;
	b->ndrains--;
	sup_binding_drop(b);
	sup_drains_serve();
}

void
sup_drains_serve(void)
{
	SUP_ASSERT_LOCKED();
	while (!dlist_is_empty(&SupJob->wanting) && has_entry())
	{
		SupJobQueue *queue = dlist_head_element(SupJobQueue, wanting_node, &SupJob->wanting);

		dlist_delete(&queue->wanting_node);
		queue->wanting = false;
		sup_drain_offer(queue);
	}
}

void
sup_drains_convicted(void)
{
	sup_marks_suspect_no_more();
	sup_lock();
	SupJob->alone_until = 0;
	sup_drains_serve();
	sup_unlock();
}

void
sup_drain_begin(SupSlot *slot, SupTask *task)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];

	SUP_ASSERT_LOCKED();
	slot->begun = true;
	queue->drain_queued = false;
	sup_queue_begin_drain(queue);
}

/* Takes the lock.  Its binding stays, as its worker is bound to it. */
SupTask *
sup_drain_finish(SupSlot *slot, SupTask *task)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];
	int64		expires = PG_INT64_MAX;
	SupTask    *next;

	/* What it has left in the history is not there for ever. */
	if (sup_job_retention > 0)
		expires = Min(expires, GetCurrentTimestamp() + sup_job_retention * USECS_PER_SEC);
	if (sup_job_failure_retention > 0)
		expires = Min(expires, GetCurrentTimestamp() + sup_job_failure_retention * USECS_PER_SEC);
	sup_lock();
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	sup_queue_end_drain(queue);
	sup_drain_offer(queue);
	if (expires != PG_INT64_MAX)
		sup_queues_recall_at(queue->database, expires);
	free_drain(task);
	next = sup_next_task(slot, sup_now());
	sup_unlock();
	return next;
}

void
sup_drain_drop(SupTask *task)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];

	SUP_ASSERT_LOCKED();
	Assert(sup_task_state(task) == SUP_TASK_QUEUED);
	sup_queue_remove(task);
	queue->drain_queued = false;
	sup_queue_end_drain(queue);
	free_drain(task);
}

void
sup_drains_drop(void)
{
	for (int start = sup_max_tasks; start < sup_ntasks(); start += ITEMS_PER_LOCK)
	{
		sup_lock();
		for (int i = start; i < Min(start + ITEMS_PER_LOCK, sup_ntasks()); i++)
		{
			SupTask    *task = &Sup->tasks[i];
			SupPool    *pool;

			if (sup_task_state(task) != SUP_TASK_QUEUED)
				continue;
			pool = &Sup->pools[Sup->bindings[task->binding].pool];
			if (is_served(pool))
				continue;
			sup_drain_drop(task);
			sup_attend_pool(pool);
		}
		sup_unlock();
	}
}

void
sup_drains_forget(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = sup_max_tasks; i < sup_ntasks(); i++)
	{
		SupTask    *task = &Sup->tasks[i];

		if (sup_task_state(task) == SUP_TASK_QUEUED && Sup->bindings[task->binding].database == database)
			sup_drain_drop(task);
	}
	sup_queues_forget(database);
}

/*
 * A drain with which the worker had not begun is queued again, unless its login has
 * failed.  What has come of a job that it has begun is for the loader to find out: it
 * is gone if its transaction has committed.
 */
static void
drain_died(SupSlot *slot, SupTask *task, int sqlstate, const char *message)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];
	SupClaim   *claim = sup_claim_of(sup_slot_index(slot));

	if (!slot->begun || slot->phase == SUP_PHASE_CONNECT)
	{
		bool		failed = slot->phase == SUP_PHASE_CONNECT && slot->exit_code != 0 &&
			slot->leave == SUP_STAY && !slot->terminate;

		sup_queue_push_front(sup_take_back(slot), sup_now());
		if (failed)
		{
			sup_queue_failed(queue);
			sup_drain_drop(task);
			sup_drain_offer(queue);
		}
		return;
	}
	if (claim != NULL && claim->begun)
		sup_claim_lose(claim, claim->canceled ? SUP_RUN_CANCELED : SUP_RUN_FAILED, sqlstate, message);
	else if (claim != NULL)
		sup_claim_release(claim, SUP_RELEASE_UNDONE);
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	sup_queue_end_drain(queue);
	sup_drain_offer(queue);
	free_drain(task);
}

void
sup_worker_died(SupSlot *slot, int sqlstate, const char *message)
{
	SupTask    *task = sup_slot_task(slot);

	SUP_ASSERT_LOCKED();
	if (sup_looks_at != NULL)
		sup_bounds_fail_look(&sup_looks_at->bounds);
	if (task == NULL)
		pg_atomic_write_u32(&slot->task, 0);
	else if (task->kind == SUP_TASK_DRAIN)
		drain_died(slot, task, sqlstate, message);
	else
		sup_task_worker_died(slot, sqlstate, message);

	/* If it has lingered in its exit, all else has been done for it. */
	if (slot == SupMySlot)
		sup_mark_clear();
}
