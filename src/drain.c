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
#include "match.h"
#include "task.h"

SupJobQueue *sup_looks_at = NULL;

/*
 * If a job is due, and no other drain of the queue waits.  Who looks goes on with
 * what he finds, and shares it.
 */
static bool
may_have_drain(const SupJobQueue *queue)
{
	TimestampTz now = GetCurrentTimestamp();

	if (queue->bounds.looking && (queue->ring == NULL || queue->ring->n == 0))
		return false;
	return !queue->drain_queued && queue->not_before <= now && sup_bounds_due(&queue->bounds, queue->ring) <= now;
}

/* Take a free entry for a drain, and queue it. */
static void
queue_drain(SupJobQueue *queue, SupPool *pool)
{
	SupTask    *task = &Sup->tasks[Sup->free_drain];
	SupBinding *b = sup_binding_get(pool - Sup->pools, queue->database, queue->role);
	TimestampTz now = sup_now();

	Sup->free_drain = task->slot;
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

/*
 * Where a pool is not there, or has no worker, jobs wait until it has.  Where all
 * entries are in use, the queue gets the next one that is given back.
 */
void
sup_drain_offer(SupJobQueue *queue)
{
	SupPool    *pool = sup_pool_by_name(queue->pool);

	SUP_ASSERT_LOCKED();
	if (pool == NULL || pool->removed || pool->size == 0 || pool->down || !may_have_drain(queue))
		return;
	if (Sup->free_drain >= 0)
		queue_drain(queue, pool);
	else if (!queue->wanting)
	{
		dlist_push_tail(&SupJob->wanting, &queue->wanting_node);
		queue->wanting = true;
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
	b->ndrains--;
	sup_binding_drop(b);
	while (Sup->free_drain >= 0 && !dlist_is_empty(&SupJob->wanting))
	{
		SupJobQueue *queue = dlist_head_element(SupJobQueue, wanting_node, &SupJob->wanting);

		dlist_delete(&queue->wanting_node);
		queue->wanting = false;
		sup_drain_offer(queue);
	}
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
	SupTask    *next;

	sup_lock();
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	sup_queue_end_drain(queue);
	sup_drain_offer(queue);
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
 * A drain with which the worker had not begun is queued again.  A job that it
 * has begun is as core has left it: gone, if its transaction has committed.
 */
static void
drain_died(SupSlot *slot, SupTask *task)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];
	SupClaim   *claim = sup_claim_of(sup_slot_index(slot));

	if (!slot->begun)
	{
		sup_queue_push_front(sup_take_back(slot), sup_now());
		return;
	}
	if (sup_looks_at == queue && slot == SupMySlot)
		sup_bounds_fail_look(&queue->bounds);
	if (claim != NULL)
		sup_claim_release(claim, false);
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
	uint32		t = pg_atomic_read_u32(&slot->task);

	SUP_ASSERT_LOCKED();
	if (t == 0)
		return;
	if (Sup->tasks[t - 1].kind == SUP_TASK_DRAIN)
		drain_died(slot, &Sup->tasks[t - 1]);
	else
		sup_task_worker_died(slot, sqlstate, message);
}
