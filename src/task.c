/*-------------------------------------------------------------------------
 *
 * task.c
 *	  Tasks: submitted, queued, run, read, canceled, forgotten.
 *
 * How a session waits for them is in wait.c, what a worker does with a
 * command in exec.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/transam.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "columns.h"
#include "match.h"
#include "rights.h"
#include "settings.h"
#include "task.h"

/* How many tasks are looked at under one hold of the lock. */
#define LOOKS_PER_LOCK	32

/* A login whose task is canceled is given up after so long. */
#define LOGIN_GRACE_US	(1000 * 1000)

/*
 * Give a task's entry back.  The caller holds the lock.
 */
void
sup_task_release(SupTask *task)
{
	SupBinding *b = &Sup->bindings[task->binding];
	int			i = sup_task_index(task);

	SUP_ASSERT_LOCKED();
	sup_free_later(task->in);
	sup_free_chunks_later(task->first);
	if (task->owner >= 0)
		dlist_delete(&task->owner_node);
	if (task->in_news)
		dlist_delete(&task->news_node);
	if (task->in_finished)
		dlist_delete(&task->node);
	b->held -= task->unread + task->taken + (DsaPointerIsValid(task->in) ? sup_area_size(task->in_len) : 0);
	memset(task->out, 0, Min(task->out_len, SUP_INLINE));
	task->out_len = 0;
	pg_atomic_write_u32(&task->state, SUP_TASK_FREE);
	task->id = 0;
	Sup->task_ids[i] = 0;
	task->slot = Sup->free_task;
	Sup->free_task = i;
	b->ntasks--;
	sup_binding_drop(b);
}

/* The caller holds the lock. */
SupTask *
sup_task_lookup(uint64 id)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < sup_max_tasks; i++)
		if (Sup->task_ids[i] == id)
			return &Sup->tasks[i];
	return NULL;
}

/*
 * The end of a task, seen by its owner
 */

/* Nobody holds on to this launched task, which has ended, from now on. */
static void
may_expire(SupTask *task, TimestampTz now)
{
	task->unread_since = now;
	dlist_push_tail(&Sup->finished, &task->node);
	task->in_finished = true;
	if (sup_result_retention > 0)
		sup_wake_supervisor_by(TimestampTzPlusMilliseconds(now, sup_result_retention));
}

/*
 * The task's state has just become final: count it, and tell its session.  If
 * nobody will read it, its entry is released.  The caller holds the lock.
 */
static void
ended(SupTask *task, TimestampTz now)
{
	SupPool    *pool = &Sup->pools[Sup->bindings[task->binding].pool];
	SupTaskState state = sup_task_state(task);
	SupSession *session;

	SUP_ASSERT_LOCKED();
	task->finished_at = now;
	if (state == SUP_TASK_SUCCEEDED)
		pool->tasks_succeeded++;
	else if (state == SUP_TASK_FAILED)
		pool->tasks_failed++;
	else
		pool->tasks_canceled++;

	if (task->owner < 0)
	{
		sup_task_release(task);
		return;
	}

	if (!task->awaited)
		may_expire(task, now);

	session = &Sup->sessions[task->owner];
	if (task->kind == SUP_TASK_BATCH)
	{
		if (!task->in_news)
			dlist_push_tail(&session->news, &task->news_node);
		task->in_news = true;
		if (--session->outstanding != session->wake_at)
			return;
	}
	sup_hint(&task->hint);
	sup_wake(&ProcGlobal->allProcs[task->owner]);
}

/*
 * End a task for which no worker can, in that state; the caller holds the lock,
 * the task is on no queue any more.
 */
static void
end_without_result(SupTask *task, SupTaskState state, int sqlstate, const char *message,
				   const char *detail)
{
	task->sqlstate = sqlstate;
	strlcpy(task->message, message, sizeof(task->message));
	strlcpy(task->detail, detail ? detail : "", sizeof(task->detail));
	pg_atomic_write_u32(&task->state, state);
	ended(task, sup_now());
}

/* End a queued task; the caller holds the lock. */
void
sup_task_fail_queued(SupTask *task, SupTaskState state, int sqlstate,
					 const char *message, const char *detail)
{
	sup_queue_remove(task);
	end_without_result(task, state, sqlstate, message, detail);
}

/*
 * Send the cancel to the worker that has the task.  The pid can't be another
 * process's: the worker clears it under the lock before it goes.
 */
static void
signal_worker(SupTask *task, SupCancel why)
{
	SupSlot    *slot = &Sup->slots[task->slot];

	SUP_ASSERT_LOCKED();
	Assert(pg_atomic_read_u32(&slot->task) == sup_task_index(task) + 1);
	if (task->cancel == SUP_NOT_CANCELED)
		task->cancel = why;
	pg_memory_barrier();
	/* again if asked again: the command may have caught the first */
	if (slot->pid != 0)
		kill(slot->pid, SIGINT);

	/* a login takes no cancel, and may wait for as long as somebody likes */
	if (slot->phase == SUP_PHASE_CONNECT)
	{
		slot->login_until = Min(slot->login_until, sup_now() + LOGIN_GRACE_US);
		sup_attend(slot);
	}
	/* it may be waiting for a reader to make room */
	if (slot->proc != NULL)
		sup_wake(slot->proc);
}

/* Detach a task from its session.  The caller holds the lock. */
static void
leave_session(SupTask *task)
{
	dlist_delete(&task->owner_node);
	if (task->in_news)
		dlist_delete(&task->news_node);
	task->in_news = false;
	if (task->kind == SUP_TASK_BATCH && sup_task_state(task) <= SUP_TASK_RUNNING)
		Sup->sessions[task->owner].outstanding--;
	task->owner = -1;
}

/* The caller holds the lock. */
static void
abandon(SupTask *task, SupCancel why)
{
	leave_session(task);
	switch (sup_task_state(task))
	{
		case SUP_TASK_QUEUED:
			sup_queue_remove(task);
			end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
							   sup_cancel_messages[why], NULL);
			break;
		case SUP_TASK_RUNNING:
			task->reading = false;
			signal_worker(task, why);
			break;
		default:
			sup_task_release(task);
	}
}

/* Does nothing if the task is gone, and another one has its entry. */
void
sup_task_abandon(SupTaskRef *ref, SupCancel why)
{
	sup_lock();
	if (ref->task->id == ref->id)
		abandon(ref->task, why);
	sup_unlock();
}

/*
 * Abandon all tasks of this session, or those of a batch: queued ones first,
 * or else a worker would begin with one when another is canceled.  Those that
 * are passed over go to the end of the list, so that each is looked at twice,
 * however many there are.  Between two holds of the lock any of them may expire.
 */
static void
abandon_all(bool batch, SupCancel why)
{
	SupSession *session = &Sup->sessions[sup_my_session()];

	for (int queued_only = 1; queued_only >= 0; queued_only--)
	{
		uint64		round = ++session->round;
		bool		done = false;

		while (!done)
		{
			sup_lock();
			for (int i = 0; i < LOOKS_PER_LOCK; i++)
			{
				SupTask    *task = dlist_is_empty(&session->tasks) ? NULL :
					dlist_head_element(SupTask, owner_node, &session->tasks);

				done = task == NULL || task->passed_in == round;
				if (done)
					break;
				if ((batch && task->kind != SUP_TASK_BATCH) ||
					(queued_only && sup_task_state(task) != SUP_TASK_QUEUED))
				{
					dlist_delete(&task->owner_node);
					dlist_push_tail(&session->tasks, &task->owner_node);
					task->passed_in = round;
					continue;
				}
				abandon(task, why);
				break;
			}
			sup_unlock();
		}
	}
}

/* Launched tasks of this session are not of the batch: they stay. */
void
sup_batch_abandon(SupCancel why)
{
	abandon_all(true, why);
}

/* Also called when a worker resets its session after a task. */
void
sup_session_end(void)
{
	Sup->sessions[sup_my_session()].pid = 0;
	abandon_all(false, SUP_CANCEL_SESSION);
}

/* Raise 55000: there was a task with that id, but its entry is gone. */
static void
task_is_gone(uint64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task %llu is gone", (unsigned long long) id),
			 errdetail("It was read or forgotten, it expired, or its session has ended.")));
}

/* An entry that may expire is on Sup->finished, and is taken off that list. */
void
sup_task_start_waiting(SupTaskRef *ref, bool reading)
{
	SupTask    *task = ref->task;
	bool		found;

	sup_lock();
	found = task->id == ref->id;
	if (found)
	{
		task->awaited = true;
		task->reading = reading;
		task->hint = true;		/* look at once */
		if (task->in_finished)
			dlist_delete(&task->node);
		task->in_finished = false;
	}
	sup_unlock();
	if (!found)
		task_is_gone(ref->id);
}

/* If the task has ended, the time until it expires begins anew. */
void
sup_task_stop_waiting(SupTaskRef *ref)
{
	SupTask    *task = ref->task;

	sup_lock();
	task->reading = task->awaited = false;
	if (sup_task_state(task) > SUP_TASK_RUNNING)
		may_expire(task, sup_now());
	sup_unlock();
}

/* Ids are given out in order, so those up to the last one were in use. */
void
sup_task_check_id(int64 id)
{
	uint64		last;

	sup_lock();
	last = Sup->last_task_id;
	sup_unlock();
	if (id <= 0 || (uint64) id > last)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task %lld does not exist", (long long) id)));
}

/*
 * Raises 42704 if it never was, 55000 if it is gone or another session's,
 * and 42501 if it was launched as another role.
 */
void
sup_task_of_session(int64 id, SupTaskRef *ref)
{
	Oid			role = InvalidOid;
	bool		mine = false;
	bool		found;

	sup_task_check_id(id);
	sup_lock();
	ref->id = id;
	ref->task = sup_task_lookup(id);
	found = ref->task != NULL;
	if (found)
	{
		mine = ref->task->owner == sup_my_session() && ref->task->kind == SUP_TASK_LAUNCH;
		role = Sup->bindings[ref->task->binding].role;
	}
	sup_unlock();

	if (!found)
		task_is_gone(id);
	if (!mine)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task %lld does not belong to this session", (long long) id),
				 errhint("Only the session that launched a task can wait for it and read it.")));
	if (role != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for task %lld", (long long) id),
				 errdetail("It was launched as role \"%s\".", sup_role_name(role))));
}

/*
 * Nobody will read the result of that task, which runs to its end.  Returns
 * true if it has not ended yet.
 */
bool
sup_task_forget(SupTaskRef *ref)
{
	bool		unfinished = false;

	sup_lock();
	if (ref->task->id == ref->id)
	{
		SupTask    *task = ref->task;

		leave_session(task);
		unfinished = sup_task_state(task) <= SUP_TASK_RUNNING;
		if (!unfinished)
			sup_task_release(task);
		else
		{
			sup_free_chunks_later(task->first);
			task->first = task->last = InvalidDsaPointer;
			Sup->bindings[task->binding].held -= task->unread;
			task->unread = 0;
		}
	}
	sup_unlock();
	return unfinished;
}

/* Rights are checked in catalogs, so the caller does that without the lock. */
bool
sup_task_role(int64 id, Oid *role)
{
	SupTask    *task;
	bool		found = false;

	sup_lock();
	task = sup_task_lookup(id);
	if (task != NULL && sup_task_state(task) <= SUP_TASK_RUNNING)
	{
		*role = Sup->bindings[task->binding].role;
		found = true;
	}
	sup_unlock();
	return found;
}

/*
 * Cancel a task, for which the caller has checked the rights.  Returns true
 * if it was queued or running.
 */
bool
sup_task_cancel(int64 id)
{
	SupTask    *task;
	bool		canceled = false;

	sup_lock();
	task = sup_task_lookup(id);
	if (task != NULL && sup_task_state(task) == SUP_TASK_QUEUED)
	{
		task->cancel = SUP_CANCEL_REQUEST;
		sup_queue_remove(task);
		end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
						   "canceling statement due to user request", NULL);
		canceled = true;
	}
	else if (task != NULL && sup_task_state(task) == SUP_TASK_RUNNING)
	{
		signal_worker(task, SUP_CANCEL_REQUEST);
		canceled = true;
	}
	sup_unlock();
	return canceled;
}

/* The lock is released after each task. */
TimestampTz
sup_task_expire(TimestampTz now)
{
	for (;;)
	{
		TimestampTz due = DT_NOEND;

		sup_lock();
		if (sup_result_retention > 0 && !dlist_is_empty(&Sup->finished))
		{
			SupTask    *task = dlist_head_element(SupTask, node, &Sup->finished);

			due = TimestampTzPlusMilliseconds(task->unread_since, sup_result_retention);
			if (due <= now)
				sup_task_release(task);
		}
		sup_unlock();
		if (due > now)
			return due;
	}
}

/*
 * The worker
 */

/*
 * The command is copied before it is checked, since it might be overwritten
 * in shared memory after the check.
 */
SupInput *
sup_task_input(SupTask *task)
{
	uint32		len = task->in_len;
	dsa_pointer in = task->in;
	const char *data = task->head;
	char	   *input;

	if (DsaPointerIsValid(in))
	{
		if (!sup_in_area(in, len))
			return NULL;
		data = dsa_get_address(sup_area(), in);
	}
	else if (len > SUP_INLINE)
		return NULL;
	input = palloc_extended(Max(len, 1), MCXT_ALLOC_HUGE);
	memcpy(input, data, len);
	if (sup_input_is_sound(input, len))
		return (SupInput *) input;
	pfree(input);
	return NULL;
}

/*
 * *cancel_sent tells whether the task was to be canceled: then a SIGINT may
 * still arrive.  None is sent after this.
 */
SupTask *
sup_task_finish(SupSlot *slot, SupTask *task, SupTaskState state,
				const char *tag, int sqlstate, const char *message, bool *cancel_sent)
{
	SupTask    *next;
	TimestampTz now = sup_now();

	strlcpy(task->tag, tag, sizeof(task->tag));
	task->sqlstate = sqlstate;
	strlcpy(task->message, message, sizeof(task->message));

	sup_injection_point("supervisor-finish");
	sup_lock();
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	if (state == SUP_TASK_SUCCEEDED)
		slot->tasks_succeeded++;
	else if (state == SUP_TASK_FAILED)
		slot->tasks_failed++;
	else
		slot->tasks_canceled++;
	pg_atomic_write_u32(&task->state, state);
	*cancel_sent = task->cancel != SUP_NOT_CANCELED;
	ended(task, now);
	next = sup_next_task(slot, now);
	sup_unlock();

	return next;
}

/* If the task has been canceled meanwhile, it ends instead. */
void
sup_task_hand_back(SupSlot *slot, SupTask *task)
{
	sup_lock();
	(void) sup_take_back(slot);
	if (task->cancel != SUP_NOT_CANCELED)
		end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
						   sup_cancel_messages[task->cancel], NULL);
	else
		sup_queue_push_front(task, sup_now());
	sup_unlock();
}

/*
 * A task with which the worker had not begun, and which nobody has canceled,
 * is queued again.  One with which it had begun must not run twice: it
 * fails, or ends as canceled.
 */
void
sup_task_worker_died(SupSlot *slot, int sqlstate, const char *message)
{
	SupTask    *task = &Sup->tasks[pg_atomic_read_u32(&slot->task) - 1];
	char		detail[6 + SUP_MESSAGE];

	SUP_ASSERT_LOCKED();
	if (!slot->begun && task->cancel == SUP_NOT_CANCELED)
	{
		sup_queue_push_front(sup_take_back(slot), sup_now());
		return;
	}
	pg_atomic_write_u32(&slot->task, 0);
	Sup->nbusy--;
	if (message[0] != '\0')
		snprintf(detail, sizeof(detail), "%s: %s", unpack_sql_state(sqlstate), message);
	else
		detail[0] = '\0';
	if (task->cancel != SUP_NOT_CANCELED)
	{
		slot->tasks_canceled += slot->begun;
		end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
						   sup_cancel_messages[task->cancel], NULL);
	}
	else
	{
		slot->tasks_failed++;
		end_without_result(task, SUP_TASK_FAILED, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						   "worker exited while it ran the task", detail);
	}
	slot->begun = false;
}
