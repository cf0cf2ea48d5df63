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
#include "dropped.h"
#include "match.h"
#include "queue.h"
#include "rights.h"
#include "settings.h"
#include "task.h"

/* How many tasks are looked at under one hold of the lock. */
#define LOOKS_PER_LOCK	32

/* How many deadlines, which are dense, and how many tasks are canceled then. */
#define DEADLINES_PER_LOCK	1024
#define TIMEOUTS_PER_LOCK	16

/* A login whose task is canceled is given up after so long. */
#define LOGIN_GRACE_US	(1000 * 1000)

/*
 * Entries.  The caller holds the lock.
 */

/* Its session does not keep this launched task from making room any more. */
static void
not_kept(SupTask *task)
{
	if (task->kind != SUP_TASK_LAUNCH)
		return;
	Sup->bindings[task->binding].nkept--;
	Sup->nkept--;
}

/* Take an ended task off the list on which it waits for its time to be over. */
static void
take_from_aside(SupTask *task)
{
	if (task->is_aside)
		dlist_delete(&task->node);
	task->is_aside = false;
}

/* Nobody has to do with that task any more. */
static void
free_entry(SupTask *task)
{
	int			i = sup_task_index(task);
	int		   *place = &Sup->task_places[task->id % sup_max_tasks];

	Assert(task->binding < 0 && task->waiters == 0);
	take_from_aside(task);
	while (*place != i)
		place = &Sup->tasks[*place].next_in_place;
	*place = task->next_in_place;
	pg_atomic_write_u32(&task->state, SUP_TASK_FREE);
	task->id = 0;
	Sup->task_ids[i] = 0;
	task->slot = Sup->free_task;
	Sup->free_task = i;
}

/*
 * A task has ended, and perhaps nobody holds on to it any more: then it waits
 * for its time to be over, or, if it is past, for its entry to be needed.
 */
static void
set_aside(SupTask *task)
{
	TimestampTz now;

	Assert(!task->is_aside);
	if (task->awaited || task->waiters > 0)
		return;
	if (task->binding < 0 && task->kind != SUP_TASK_LAUNCH)
	{
		free_entry(task);		/* whoever waited for it knows how it ended */
		return;
	}
	now = sup_now();
	task->aside_since = now;
	dlist_push_tail(task->binding < 0 ? &Sup->past : &Sup->finished, &task->node);
	task->is_aside = true;
	if (sup_result_retention > 0)
		sup_wake_supervisor_by(TimestampTzPlusMilliseconds(now, sup_result_retention));
}

/* Nobody will read a task that has ended: give back all but its entry. */
static void
make_past(SupTask *task)
{
	SupBinding *b = &Sup->bindings[task->binding];

	Assert(sup_task_state(task) > SUP_TASK_RUNNING);
	sup_free_later(task->in);
	sup_free_chunks_later(task->first);
	if (task->owner >= 0)
	{
		dlist_delete(&task->owner_node);
		not_kept(task);
	}
	if (task->in_news)
		dlist_delete(&task->news_node);
	take_from_aside(task);
	b->held -= task->unread + task->taken + (DsaPointerIsValid(task->in) ? sup_area_size(task->in_len) : 0);
	memset(task->out, 0, Min(task->out_len, SUP_INLINE));
	task->out_len = 0;
	task->in = task->first = task->last = InvalidDsaPointer;
	task->unread = task->taken = 0;
	task->owner = -1;
	task->in_news = task->reading = task->awaited = false;

	task->past_database = b->database;
	task->past_role = b->role;
	strlcpy(task->past_pool, Sup->pools[b->pool].name, NAMEDATALEN);
	task->binding = -1;
	b->ntasks--;
	Sup->ntasks--;
	sup_room_made(b->role);
	sup_binding_drop(b);
}

/* Of a launched task remains how it ended. */
void
sup_task_release(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	make_past(task);
	set_aside(task);
}

/* The oldest of those that are past has to go if no entry is free. */
SupTask *
sup_task_take_entry(void)
{
	SupTask    *task;

	SUP_ASSERT_LOCKED();
	if (Sup->free_task < 0)
		free_entry(dlist_head_element(SupTask, node, &Sup->past));
	task = &Sup->tasks[Sup->free_task];
	Sup->free_task = task->slot;
	return task;
}

/* Few have the same place, since ids are given in turn. */
SupTask *
sup_task_lookup(uint64 id)
{
	SUP_ASSERT_LOCKED();
	for (int i = Sup->task_places[id % sup_max_tasks]; i >= 0; i = Sup->tasks[i].next_in_place)
		if (Sup->task_ids[i] == id)
			return &Sup->tasks[i];
	return NULL;
}

/*
 * The end of a task, seen by its owner
 */

/*
 * The task's state has just become final: count it, and tell whoever waits for
 * it.  If nobody will read it, it is released.  The caller holds the lock.
 */
static void
ended(SupTask *task, TimestampTz now)
{
	SupPool    *pool = &Sup->pools[Sup->bindings[task->binding].pool];
	SupTaskState state = sup_task_state(task);
	SupSession *session;

	SUP_ASSERT_LOCKED();
	task->finished_at = now;
	Sup->task_deadlines[sup_task_index(task)] = 0;
	if (state == SUP_TASK_SUCCEEDED)
		pool->tasks_succeeded++;
	else if (state == SUP_TASK_FAILED)
		pool->tasks_failed++;
	else
		pool->tasks_canceled++;
	if (task->waiters > 0)
		sup_broadcast(&task->ended);

	if (task->owner < 0)
	{
		sup_task_release(task);
		return;
	}

	set_aside(task);

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
	if (sup_slot_proc(slot) != NULL)
		kill(slot->pid, SIGINT);

	/* a login takes no cancel, and may wait for as long as somebody likes */
	if (slot->phase == SUP_PHASE_CONNECT)
	{
		slot->login_until = Min(slot->login_until, sup_now() + LOGIN_GRACE_US);
		sup_attend(slot);
	}
	/* it may be waiting for a reader to make room */
	sup_wake_slot(slot);
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
	not_kept(task);
	task->owner = -1;
}

/* The caller holds the lock. */
static void
abandon(SupTask *task, SupCancel why)
{
	sup_task_dropped(task);
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

/* Is it there, and can it still be read?  The caller holds the lock. */
static bool
is_mine(const SupTaskRef *ref)
{
	return ref->task->id == ref->id && ref->task->owner == sup_my_session();
}

/* Does nothing if the task has been read, or has expired. */
void
sup_task_abandon(SupTaskRef *ref, SupCancel why)
{
	sup_lock();
	if (is_mine(ref))
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
	if (!dlist_is_empty(&Sup->sessions[sup_my_session()].tasks))
		(void) sup_server_stops();
	Sup->sessions[sup_my_session()].pid = 0;
	sup_task_stop_waiting();
	sup_job_wait_end();
	if (Sup->sessions[sup_my_session()].wants_room)
		sup_room_wanted();
	abandon_all(false, SUP_CANCEL_SESSION);
}

/*
 * before_shmem_exit callback: the session is known by its PGPROC, which is
 * about to be another process's.
 */
static void
session_exit(int code, Datum arg)
{
	sup_session_end();
}

/* Registered once, and by whoever needs it first. */
void
sup_session_begin(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(session_exit, (Datum) 0);
	registered = true;
}

/* Raise 55000: there was a task with that id, but its entry is another's. */
pg_noreturn static void
task_is_gone(uint64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task %llu is gone", (unsigned long long) id),
			 errdetail("It has expired, its entry was needed for another task, or it was of a call that has ended.")));
	pg_unreachable();
}

/* Raise 55000: nobody will read that task any more. */
pg_noreturn static void
result_is_gone(uint64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("result of task %llu is gone", (unsigned long long) id),
			 errdetail("It was read or forgotten, or its session has ended."),
			 errhint("How the task ended is in supervisor.task_status.")));
	pg_unreachable();
}

/* An entry that may expire is on Sup->finished, and is taken off that list. */
void
sup_task_start_reading(SupTaskRef *ref)
{
	SupTask    *task = ref->task;
	bool		found;

	sup_lock();
	found = is_mine(ref);
	if (found)
	{
		task->awaited = task->reading = true;
		task->hint = true;		/* look at once */
		take_from_aside(task);
	}
	sup_unlock();
	if (!found)
		task_is_gone(ref->id);
}

/* If the task has ended, the time until it expires begins anew. */
void
sup_task_stop_reading(SupTaskRef *ref)
{
	SupTask    *task = ref->task;

	sup_lock();
	task->reading = task->awaited = false;
	if (sup_task_state(task) > SUP_TASK_RUNNING)
		set_aside(task);
	sup_unlock();
}

/*
 * One that has ended stays as it is, but if it is this session's, the time until
 * it expires begins anew.
 */
SupTaskState
sup_task_start_waiting(int64 id, SupTaskRef *ref, bool *for_snapshot)
{
	SupTaskState state = SUP_TASK_FREE;
	SupTask    *task;

	sup_session_begin();
	sup_lock();
	task = sup_task_lookup(id);
	if (task != NULL)
	{
		ref->task = task;
		ref->id = id;
		state = sup_task_state(task);
		if (state <= SUP_TASK_RUNNING)
		{
			task->waiters++;
			Sup->sessions[sup_my_session()].waits_for = sup_task_index(task) + 1;
			*for_snapshot = task->concurrently &&
				Sup->bindings[task->binding].database == MyDatabaseId;
		}
		else if (task->owner == sup_my_session() && task->is_aside)
		{
			take_from_aside(task);
			set_aside(task);
		}
	}
	sup_unlock();
	if (task == NULL)
		task_is_gone(id);
	return state;
}

/* Whoever is the last to do so of a task that has ended sets it aside. */
void
sup_task_stop_waiting(void)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	SupTask    *task;

	if (session->waits_for == 0)
		return;
	sup_lock();
	task = &Sup->tasks[session->waits_for - 1];
	session->waits_for = 0;
	if (--task->waiters == 0 && sup_task_state(task) > SUP_TASK_RUNNING)
		set_aside(task);
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

/* The role of a task.  The caller holds the lock. */
static Oid
role_of(const SupTask *task)
{
	return task->binding < 0 ? task->past_role : Sup->bindings[task->binding].role;
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
	bool		past = false;
	bool		found;

	sup_task_check_id(id);
	sup_lock();
	ref->id = id;
	ref->task = sup_task_lookup(id);
	found = ref->task != NULL;
	if (found)
	{
		mine = ref->task->owner == sup_my_session() && ref->task->kind == SUP_TASK_LAUNCH;
		past = ref->task->binding < 0;
		role = role_of(ref->task);
	}
	sup_unlock();

	if (!found)
		task_is_gone(id);
	if (past)
		result_is_gone(id);
	if (!mine)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task %lld does not belong to this session", (long long) id),
				 errhint("Only the session that launched a task can read it or forget it; any that may see its command can wait for it.")));
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
	if (is_mine(ref))
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
SupTaskState
sup_task_role(int64 id, Oid *role)
{
	SupTaskState state = SUP_TASK_FREE;
	SupTask    *task;

	sup_lock();
	task = sup_task_lookup(id);
	if (task != NULL)
	{
		state = sup_task_state(task);
		*role = role_of(task);
	}
	sup_unlock();
	return state;
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

/* Tasks of that list whose time is over go.  The lock is released after each. */
static TimestampTz
expire(dlist_head *list, TimestampTz now)
{
	for (;;)
	{
		TimestampTz due = DT_NOEND;

		sup_lock();
		if (sup_result_retention > 0 && !dlist_is_empty(list))
		{
			SupTask    *task = dlist_head_element(SupTask, node, list);

			due = TimestampTzPlusMilliseconds(task->aside_since, sup_result_retention);
			if (due <= now)
			{
				if (task->binding >= 0)
					make_past(task);
				free_entry(task);
			}
		}
		sup_unlock();
		if (due > now)
			return due;
	}
}

/* What has not been read for so long, and what has been past for so long. */
TimestampTz
sup_task_expire(TimestampTz now)
{
	TimestampTz due = expire(&Sup->finished, now);

	return Min(due, expire(&Sup->past, now));
}

/* A task that nobody waits for is canceled as its caller would.  The caller holds the lock. */
static void
cancel_in_time(SupTask *task)
{
	Sup->task_deadlines[sup_task_index(task)] = 0;
	if (sup_task_state(task) == SUP_TASK_QUEUED)
		sup_task_fail_queued(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
							 sup_cancel_messages[SUP_CANCEL_TIMEOUT], NULL);
	else if (sup_task_state(task) == SUP_TASK_RUNNING)
		signal_worker(task, SUP_CANCEL_TIMEOUT);
}

/* Looks at all deadlines if one is due, some under each hold of the lock. */
TimestampTz
sup_task_time_out(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	int			i = 0;

	sup_lock();
	if (Sup->next_deadline > now)
		next = Sup->next_deadline;
	else
		Sup->next_deadline = DT_NOEND;	/* those that come meanwhile count */
	sup_unlock();
	if (next != DT_NOEND)
		return next;
	while (i < sup_max_tasks)
	{
		int			last = Min(i + DEADLINES_PER_LOCK, sup_max_tasks);

		sup_lock();
		for (int n = 0; i < last && n < TIMEOUTS_PER_LOCK; i++)
		{
			TimestampTz deadline = Sup->task_deadlines[i];

			if (deadline == 0)
				continue;
			if (deadline > now)
				next = Min(next, deadline);
			else
			{
				cancel_in_time(&Sup->tasks[i]);
				n++;
			}
		}
		sup_unlock();
	}
	sup_lock();
	next = Sup->next_deadline = Min(Sup->next_deadline, next);
	sup_unlock();
	return next;
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
	Sup->bindings[task->binding].nbusy--;
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
	sup_task_dropped(task);
	pg_atomic_write_u32(&slot->task, 0);
	Sup->nbusy--;
	Sup->bindings[task->binding].nbusy--;
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
