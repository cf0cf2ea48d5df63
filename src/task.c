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
#include "wait.h"
#include "worker.h"

/* How many tasks are looked at under one hold of the lock. */
#define LOOKS_PER_LOCK	32

/* A login whose task is canceled is given up after so long. */
#define LOGIN_GRACE_US	(1000 * 1000)

/* How long a message waits for room where no interrupts can be taken. */
#define HELD_WAIT_MS	1000

/* Set once, after it is. */
static bool exit_callback_registered = false;

/*
 * Memory
 */

SupChunk *
sup_chunk(dsa_pointer pointer)
{
	SupChunk   *chunk;

	if (pointer != MAXALIGN(pointer) || !sup_in_area(pointer, sizeof(SupChunk)))
		return NULL;
	chunk = dsa_get_address(sup_area(), pointer);
	return chunk->len <= SUP_CHUNK_DATA && sup_in_area(pointer, offsetof(SupChunk, data) + chunk->len) ?
		chunk : NULL;
}

void
sup_free_chunks(dsa_pointer first)
{
	SupChunk   *chunk;

	while (DsaPointerIsValid(first) && (chunk = sup_chunk(first)) != NULL)
	{
		dsa_pointer next = chunk->next;

		dsa_free(sup_area(), first);
		first = next;
	}
}

void
sup_garbage_free(SupGarbage *garbage)
{
	if (DsaPointerIsValid(garbage->in))
		dsa_free(sup_area(), garbage->in);
	sup_free_chunks(garbage->chunks);
	sup_garbage_init(garbage);
}

/*
 * Give a task's entry back.  The caller holds the lock, and frees the garbage
 * when it no longer does.
 */
void
sup_task_release(SupTask *task, SupGarbage *garbage)
{
	SupBinding *b = &Sup->bindings[task->binding];
	int			i = sup_task_index(task);

	SUP_ASSERT_LOCKED();
	garbage->in = task->in;
	garbage->chunks = task->first;
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
 * Submitting
 */

static void
session_exit(int code, Datum arg)
{
	sup_session_end();
}

void
sup_task_pack(StringInfo buf, const char *command, TupleDesc columns,
			  int nparams, char **params, int nsettings, StringInfo settings)
{
	SupInput	input;

	input.command_len = strlen(command);
	input.ncolumns = columns ? columns->natts : -1;
	input.nparams = nparams;
	input.nsettings = nsettings;
	appendBinaryStringInfo(buf, (char *) &input, sizeof(input));
	appendBinaryStringInfo(buf, command, input.command_len + 1);
	if (columns != NULL)
		sup_append_columns(buf, columns);
	for (int i = 0; i < nparams; i++)
	{
		int32		len = params[i] ? strlen(params[i]) : -1;

		appendBinaryStringInfo(buf, (char *) &len, sizeof(len));
		if (params[i])
			appendBinaryStringInfo(buf, params[i], len + 1);
	}
	if (nsettings > 0)
		appendBinaryStringInfo(buf, settings->data, settings->len);
}

bool
sup_in_pool_worker(void)
{
	SupSlot    *slot = SupMySlot;

	return slot != NULL && slot->kind == SUP_KIND_POOL;
}

void
sup_task_check_submitter(SupTaskKind kind)
{
	/* Nor can a login event trigger, which each worker would fire that it waits for. */
	if (sup_in_pool_worker() && kind != SUP_TASK_LAUNCH)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a task cannot wait for a task"),
				 errhint("Use supervisor.launch() and supervisor.forget().")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot submit a task during a parallel operation")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot submit a task within security-restricted operation")));
	sup_check_may_connect();
}

/* Why a pool takes no task now; the caller holds no lock. */
static void
refuse_pool(const char *name, bool removed, bool down, const char *detail)
{
	if (removed)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pool \"%s\" does not exist", name),
				 errhint("Pools are named by \"supervisor.pools\".")));
	if (!down)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pool \"%s\" has size 0", name),
				 errhint("Increase \"%s\" and reload the configuration.",
						 strcmp(name, SUP_DEFAULT_POOL) == 0 ?
						 "supervisor.pool_size" : "supervisor.pools")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no worker of pool \"%s\" could be started", name),
			 errdetail_internal("%s", detail)));
}

int
sup_task_submit(const char *pool_name, SupTaskKind kind, int n, const StringInfoData *inputs,
				SupTaskRef *refs, bool concurrently, bool must, bool *no_memory)
{
	Oid			role = GetUserId();
	bool		capped = !superuser_arg(role);
	SupSession *session = &Sup->sessions[sup_my_session()];
	dsa_pointer *dsa_in = NULL;
	SupPool    *pool;
	SupBinding *b;
	TimestampTz now;
	int			done = 0;
	int			room;
	bool		out_of_memory = false;

	session->cpu = sup_current_cpu();
	sup_await_supervisor();

	(void) sup_area();			/* the result is looked at under the lock */
	if (!exit_callback_registered)
	{
		before_shmem_exit(session_exit, (Datum) 0);
		exit_callback_registered = true;
	}

	/* What does not fit in an entry goes to the area. */
	for (int i = 0; i < n; i++)
	{
		if (inputs[i].len <= SUP_INLINE)
			continue;
		if (dsa_in == NULL)
			dsa_in = palloc0(sizeof(dsa_pointer) * n);
		dsa_in[i] = dsa_allocate_extended(sup_area(), sup_area_size(inputs[i].len),
										  DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
		if (!DsaPointerIsValid(dsa_in[i]))
		{
			out_of_memory = true;
			n = i;				/* those before it have room */
			break;
		}
		memcpy(dsa_get_address(sup_area(), dsa_in[i]), inputs[i].data, inputs[i].len);
		sup_clear_rest(dsa_get_address(sup_area(), dsa_in[i]), sup_area_size(inputs[i].len), inputs[i].len);
	}

	now = GetCurrentTimestamp();
	sup_lock();

	pool = sup_pool_by_name(pool_name);
	if (pool == NULL || pool->removed || pool->size == 0 || pool->down)
	{
		bool		removed = pool == NULL || pool->removed;
		bool		down = !removed && pool->down && pool->size > 0;
		char		detail[SUP_MESSAGE];

		strlcpy(detail, down ? pool->down_detail : "", sizeof(detail));
		sup_unlock();
		for (int i = 0; dsa_in != NULL && i < n; i++)
			if (DsaPointerIsValid(dsa_in[i]))
				dsa_free(sup_area(), dsa_in[i]);
		refuse_pool(pool_name, removed, down, detail);
	}

	/* with a free task there is a free binding, too */
	room = capped ? sup_max_tasks / 2 - sup_role_tasks(role) : n;
	b = Min(n, room) > 0 && Sup->free_task >= 0 ?
		sup_binding_get(pool - Sup->pools, MyDatabaseId, role) : NULL;
	for (; done < Min(n, room) && Sup->free_task >= 0; done++)
	{
		int			i = Sup->free_task;
		SupTask    *task = &Sup->tasks[i];

		if (dsa_in != NULL && DsaPointerIsValid(dsa_in[done]))
		{
			if (capped && sup_role_held(role) + sup_area_size(inputs[done].len) > SUP_HALF_OF_AREA)
			{
				out_of_memory = true;
				break;
			}
			b->held += sup_area_size(inputs[done].len);
		}

		Sup->free_task = task->slot;
		task->kind = kind;
		task->id = Sup->task_ids[i] = ++Sup->last_task_id;
		task->binding = b - Sup->bindings;
		task->owner = sup_my_session();
		task->slot = -1;
		task->reading = task->awaited = kind != SUP_TASK_LAUNCH;
		task->capped = capped;
		task->concurrently = concurrently;
		task->cancel = SUP_NOT_CANCELED;
		task->timeout = sup_task_timeout;
		task->submitted_at = now;
		task->started_at = task->finished_at = 0;
		task->in_finished = task->in_news = false;
		task->in = dsa_in ? dsa_in[done] : InvalidDsaPointer;
		task->in_len = inputs[done].len;
		memcpy(task->head, inputs[done].data, Min(inputs[done].len, SUP_INLINE));
		task->first = task->last = InvalidDsaPointer;
		task->unread = task->taken = 0;
		task->out_len = 0;
		task->tag[0] = task->message[0] = task->detail[0] = '\0';
		task->sqlstate = 0;
		task->hint = false;
		dlist_push_tail(&session->tasks, &task->owner_node);
		b->ntasks++;
		if (kind == SUP_TASK_BATCH)
			session->outstanding++;
		refs[done].task = task;
		refs[done].id = task->id;

		sup_offer(task, now);
	}
	if (b != NULL)
		sup_binding_drop(b);
	sup_unlock();

	for (int i = done; dsa_in != NULL && i < n; i++)
		if (DsaPointerIsValid(dsa_in[i]))
			dsa_free(sup_area(), dsa_in[i]);
	if (dsa_in != NULL)
		pfree(dsa_in);

	if (no_memory != NULL)
		*no_memory = done == 0 && out_of_memory;
	if (done == 0 && must && !(out_of_memory && no_memory != NULL))
	{
		if (out_of_memory)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of shared memory for tasks"),
					 capped ? errdetail("A role that is no superuser holds at most half of it.") : 0,
					 errhint("You might need to increase \"%s\".", "supervisor.shared_memory")));
		if (room <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("too many tasks for role \"%s\"", GetUserNameFromId(role, false)),
					 errdetail("A role that is no superuser holds at most %d tasks, half of \"%s\".",
							   sup_max_tasks / 2, "supervisor.max_tasks"),
					 errhint("Read results with supervisor.result(), give them up with supervisor.forget(), or increase \"%s\".",
							 "supervisor.max_tasks")));
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many tasks"),
				 errhint("You might need to increase \"%s\".", "supervisor.max_tasks")));
	}
	return done;
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
ended(SupTask *task, TimestampTz now, SupGarbage *garbage)
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
		sup_task_release(task, garbage);
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
				   const char *detail, SupGarbage *garbage)
{
	task->sqlstate = sqlstate;
	strlcpy(task->message, message, sizeof(task->message));
	strlcpy(task->detail, detail ? detail : "", sizeof(task->detail));
	pg_atomic_write_u32(&task->state, state);
	ended(task, GetCurrentTimestamp(), garbage);
}

/* End a queued task that has an owner; the caller holds the lock. */
void
sup_task_fail_queued(SupTask *task, SupTaskState state, int sqlstate,
					 const char *message, const char *detail)
{
	SupGarbage	garbage;

	sup_garbage_init(&garbage);
	sup_queue_remove(task);
	end_without_result(task, state, sqlstate, message, detail, &garbage);
	sup_garbage_free(&garbage);
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
		slot->login_until = Min(slot->login_until, GetCurrentTimestamp() + LOGIN_GRACE_US);
		sup_attend(slot);
	}
	/* it may be waiting for a reader to make room */
	if (slot->proc != NULL)
		sup_wake(slot->proc);
}

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
abandon(SupTask *task, SupGarbage *garbage)
{
	leave_session(task);
	switch (sup_task_state(task))
	{
		case SUP_TASK_QUEUED:
			sup_queue_remove(task);
			end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED, "", NULL, garbage);
			break;
		case SUP_TASK_RUNNING:
			task->reading = false;
			signal_worker(task, SUP_CANCEL_ABANDONED);
			break;
		default:
			sup_task_release(task, garbage);
	}
}

void
sup_task_abandon(SupTaskRef *ref)
{
	SupGarbage	garbage;

	sup_garbage_init(&garbage);
	sup_lock();
	if (ref->task->id == ref->id)
		abandon(ref->task, &garbage);
	sup_unlock();
	sup_garbage_free(&garbage);
}

/*
 * Abandon all tasks of this session, or those of a batch: queued ones first,
 * or else a worker would begin with one when another is canceled.  Those that
 * are passed over go to the end of the list, so that each is looked at twice,
 * however many there are.
 */
static void
abandon_all(bool batch)
{
	SupSession *session = &Sup->sessions[sup_my_session()];

	for (int queued_only = 1; queued_only >= 0; queued_only--)
	{
		SupTask    *passed_over = NULL; /* the first one */
		bool		done = false;

		while (!done)
		{
			SupGarbage	garbage;

			sup_garbage_init(&garbage);
			sup_lock();
			for (int i = 0; i < LOOKS_PER_LOCK; i++)
			{
				SupTask    *task = dlist_is_empty(&session->tasks) ? NULL :
					dlist_head_element(SupTask, owner_node, &session->tasks);

				done = task == passed_over;
				if (done)
					break;
				if ((batch && task->kind != SUP_TASK_BATCH) ||
					(queued_only && sup_task_state(task) != SUP_TASK_QUEUED))
				{
					dlist_delete(&task->owner_node);
					dlist_push_tail(&session->tasks, &task->owner_node);
					if (passed_over == NULL)
						passed_over = task;
					continue;
				}
				abandon(task, &garbage);
				break;
			}
			sup_unlock();
			sup_garbage_free(&garbage);
		}
	}
}

void
sup_batch_abandon(void)
{
	abandon_all(true);
}

void
sup_session_end(void)
{
	Sup->sessions[sup_my_session()].pid = 0;
	abandon_all(false);
}

static void
task_is_gone(uint64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task %llu is gone", (unsigned long long) id),
			 errdetail("It was read or forgotten, it expired, or its session has ended.")));
}

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

void
sup_task_stop_waiting(SupTaskRef *ref)
{
	SupTask    *task = ref->task;

	sup_lock();
	task->reading = task->awaited = false;
	if (sup_task_state(task) > SUP_TASK_RUNNING)
		may_expire(task, GetCurrentTimestamp());
	sup_unlock();
}

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

bool
sup_task_forget(SupTaskRef *ref)
{
	SupGarbage	garbage;
	bool		unfinished = false;

	sup_garbage_init(&garbage);
	sup_lock();
	if (ref->task->id == ref->id)
	{
		SupTask    *task = ref->task;

		leave_session(task);
		unfinished = sup_task_state(task) <= SUP_TASK_RUNNING;
		if (!unfinished)
			sup_task_release(task, &garbage);
		else
		{
			garbage.chunks = task->first;
			task->first = task->last = InvalidDsaPointer;
			Sup->bindings[task->binding].held -= task->unread;
			task->unread = 0;
		}
	}
	sup_unlock();
	sup_garbage_free(&garbage);
	return unfinished;
}

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

bool
sup_task_cancel(int64 id)
{
	SupGarbage	garbage;
	SupTask    *task;
	bool		canceled = false;

	sup_garbage_init(&garbage);
	sup_lock();
	task = sup_task_lookup(id);
	if (task != NULL && sup_task_state(task) == SUP_TASK_QUEUED)
	{
		task->cancel = SUP_CANCEL_REQUEST;
		sup_queue_remove(task);
		end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
						   "canceling statement due to user request", NULL, &garbage);
		canceled = true;
	}
	else if (task != NULL && sup_task_state(task) == SUP_TASK_RUNNING)
	{
		signal_worker(task, SUP_CANCEL_REQUEST);
		canceled = true;
	}
	sup_unlock();
	sup_garbage_free(&garbage);
	return canceled;
}

TimestampTz
sup_task_expire(TimestampTz now)
{
	for (;;)
	{
		SupGarbage	garbage;
		TimestampTz due = DT_NOEND;

		sup_garbage_init(&garbage);
		sup_lock();
		if (sup_result_retention > 0 && !dlist_is_empty(&Sup->finished))
		{
			SupTask    *task = dlist_head_element(SupTask, node, &Sup->finished);

			due = TimestampTzPlusMilliseconds(task->unread_since, sup_result_retention);
			if (due <= now)
				sup_task_release(task, &garbage);
		}
		sup_unlock();
		sup_garbage_free(&garbage);
		if (due > now)
			return due;
	}
}

/*
 * The worker
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
 * The stream that this worker sends.
 *
 * To send a chunk may mean to wait for the reader, and to take interrupts
 * meanwhile.  What these run may have something to say to the client, as the
 * leader of a parallel query passes on what its workers say, and so come back
 * to sup_out_message().  Everywhere else these variables are changed without
 * anything between that could emit a message.  So 'out_sending' is set while a
 * chunk is sent: then nothing but 'out_late' is touched, and what has come there
 * is appended as soon as the message is complete that was being sent.  There
 * goes as well what can't wait for room, since core emits it with interrupts
 * held.
 */
static SupTask *out_task = NULL;
static char *out_buffer = NULL; /* SUP_CHUNK_DATA bytes */
static uint32 out_len;			/* used of it */
static bool out_continues;		/* it begins inside a message */
static uint32 out_settled;		/* rows in it, which must not get lost; at
								 * most SUP_INLINE */
static bool out_reads;			/* has a reader, as far as we know */
static bool out_sending = false;
static StringInfoData out_late; /* messages, as in the stream; in
								 * MessageContext, or NULL */

static void append_late(void);

void
sup_out_begin(SupTask *task)
{
	/* Gaps between messages get into shared memory, too: not with what was here. */
	if (out_buffer == NULL)
		out_buffer = MemoryContextAllocZero(TopMemoryContext, SUP_CHUNK_DATA);
	out_task = task;
	sup_out_drop();
	out_reads = task->owner >= 0;
	out_sending = false;
	out_late.data = NULL;
}

/* Was this process asked to end the task, or itself? */
static bool
must_hurry(void)
{
	return ProcDiePending || QueryCancelPending || proc_exit_inprogress;
}

/*
 * Sleep until the reader may have made room.  False: with interrupts held, not
 * any longer.  Then there may be an LWLock that the reader wants.
 */
static bool
await_reader(bool force)
{
	bool		held = !INTERRUPTS_CAN_BE_PROCESSED();
	int			events = WaitLatch(MyLatch,
								   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (held ? WL_TIMEOUT : 0),
								   HELD_WAIT_MS, sup_wait_event(SUP_WAIT_RESULT_READ));

	ResetLatch(MyLatch);
	sup_check_interrupts_while_sending(!force);
	return (events & WL_TIMEOUT) == 0;
}

/* There is something to read, if anybody reads.  The caller holds the lock. */
static void
tell_reader(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	if (!task->reading || task->owner < 0 || task->unread == 0)
		return;
	if (task->kind == SUP_TASK_BATCH)
	{
		if (!task->in_news)
			dlist_push_tail(&Sup->sessions[task->owner].news, &task->news_node);
		task->in_news = true;
		Sup->sessions[task->owner].hint = true;
	}
	sup_hint(&task->hint);
	sup_wake(&ProcGlobal->allProcs[task->owner]);
}

/*
 * Wait until the task's reader has made room for 'size' bytes.  False: with
 * 'force' there is none, or nobody will read.
 */
static bool
wait_for_room(Size size, bool force)
{
	SupTask    *task = out_task;
	Size		limit = (Size) sup_result_memory * 1024;

	for (bool patient = true;;)
	{
		bool		reading;
		Size		unread;

		sup_lock();
		out_reads = task->owner >= 0;
		reading = task->reading;
		unread = task->unread;
		if (unread + size > limit)
			tell_reader(task);
		sup_unlock();

		if (!out_reads)
			return false;
		if (unread == 0 && reading)
			return true;
		if (unread + size <= limit)
			return true;
		if (force && (!reading || !patient || must_hurry()))
			return unread + size <= 2 * limit;
		if (!reading)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("result of launched task exceeds \"%s\"", "supervisor.result_memory"),
					 errdetail("Nobody reads it yet, and a task may hold at most %d kB unread.",
							   sup_result_memory),
					 errhint("Call supervisor.result() sooner, or use supervisor.run().")));
		patient = await_reader(force);
	}
}

/* Hand a piece of the stream to the reader; false: dropped. */
static bool
send_chunk(const char *data, uint32 len, bool force)
{
	SupTask    *task = out_task;
	Size		size = sup_area_size(offsetof(SupChunk, data) + len);
	dsa_pointer pointer;
	SupChunk   *chunk;

	if (!wait_for_room(size, force))
		return false;

	for (bool patient = true;;)
	{
		bool		over = false;
		bool		read_all;

		if (task->capped)
		{
			sup_lock();
			over = sup_role_held(Sup->bindings[task->binding].role) + size > SUP_HALF_OF_AREA;
			sup_unlock();
		}
		pointer = over ? InvalidDsaPointer :
			dsa_allocate_extended(sup_area(), size, DSA_ALLOC_NO_OOM);
		if (DsaPointerIsValid(pointer))
			break;

		/* The reader may give back some of ours; nobody else's is waited for. */
		sup_lock();
		read_all = (task->unread == 0 && task->taken == 0) || !task->reading;
		tell_reader(task);
		sup_unlock();
		if (force && (read_all || !patient || must_hurry()))
			return false;
		if (read_all)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of shared memory for results of tasks"),
					 over ? errdetail("A role that is no superuser holds at most half of it.") : 0,
					 errhint("You might need to increase \"%s\".", "supervisor.shared_memory")));
		patient = await_reader(force);
	}

	chunk = dsa_get_address(sup_area(), pointer);
	chunk->next = InvalidDsaPointer;
	chunk->len = len;
	chunk->continues = out_continues;
	memcpy(chunk->data, data, len);
	sup_clear_rest((char *) chunk, size, offsetof(SupChunk, data) + len);

	sup_lock();
	if (task->owner < 0)
	{
		sup_unlock();
		out_reads = false;
		dsa_free(sup_area(), pointer);
		return false;
	}
	if (DsaPointerIsValid(task->last))
		((SupChunk *) dsa_get_address(sup_area(), task->last))->next = pointer;
	else
		task->first = pointer;
	task->last = pointer;
	task->unread += size;
	Sup->bindings[task->binding].held += size;
	/* Its session needs the rows only when they are complete: wake it seldom. */
	if (task->unread >= (Size) sup_result_memory * 1024 / 4)
		tell_reader(task);
	sup_unlock();
	return true;
}

/*
 * Send what the buffer holds.  False, and the buffer stays as it is: with
 * 'force', there was no room.
 */
static bool
flush(bool force)
{
	volatile bool sent = true;

	Assert(!out_sending);
	if (out_reads && out_len > 0)
	{
		out_sending = true;
		if (force)
			sent = send_chunk(out_buffer, out_len, true);
		else
		{
			PG_TRY();
			{
				sent = send_chunk(out_buffer, out_len, false);
			}
			PG_CATCH();
			{
				out_sending = false;
				PG_RE_THROW();
			}
			PG_END_TRY();
		}
		out_sending = false;
	}
	if (!sent && out_reads)
		return false;
	sup_out_drop();
	return true;
}

/* Keep a notice that can't be sent now. */
static void
keep_for_later(char type, const void *data, Size len)
{
	MemoryContext oldcontext;
	SupMessage	header = {0};

	if (out_late.data != NULL && out_late.len + len > MaxAllocSize / 2)
		return;
	oldcontext = MemoryContextSwitchTo(MessageContext);
	if (out_late.data == NULL)
		initStringInfo(&out_late);
	header.len = (uint32) len;
	header.type = type;
	appendBinaryStringInfo(&out_late, (char *) &header, sizeof(header));
	appendBinaryStringInfo(&out_late, data, len);
	appendStringInfoSpaces(&out_late, MAXALIGN(len) - len);
	MemoryContextSwitchTo(oldcontext);
}

/* If nobody reads yet, it waits in the buffer; so does what has no room. */
void
sup_out_push(void)
{
	if (out_sending || !out_task->reading)
		return;
	(void) flush(true);
	sup_lock();
	tell_reader(out_task);
	sup_unlock();
}

/*
 * The rows are complete: make sure, while that may still fail, that the
 * reader will get them.
 */
void
sup_out_settle(void)
{
	if (out_len > SUP_INLINE)
		(void) flush(false);
	out_settled = out_len;
	append_late();
}

void
sup_out_drop(void)
{
	out_len = out_settled = 0;
	out_continues = false;
}

bool
sup_in_task(void)
{
	/* The last words of a process are no task's any more. */
	return out_task != NULL && !proc_exit_inprogress;
}

/* Room for a message of that length in the buffer; NULL: there is none. */
static char *
reserve(char type, Size len, bool force)
{
	Size		total = sizeof(SupMessage) + MAXALIGN(len);
	SupMessage *message;

	if (total > SUP_CHUNK_DATA)
		return NULL;
	if (out_len + total > SUP_CHUNK_DATA && !flush(force))
		return NULL;
	message = (SupMessage *) (out_buffer + out_len);
	message->len = (uint32) len;
	message->type = type;
	out_len += total;
	return (char *) (message + 1);
}

static bool
append_message(char type, const void *data, Size len, bool force)
{
	char	   *place;
	SupMessage	header = {0};

	if (!out_reads)
		return false;

	/* Notices that nobody reads yet leave half of the room to rows. */
	if (type == SUP_MSG_NOTICE && !out_task->reading &&
		out_task->unread + out_len + len > (Size) sup_result_memory * 1024 / 2)
		return false;

	place = reserve(type, len, force);
	if (place != NULL)
	{
		memcpy(place, data, len);
		return true;
	}

	/* Too large for one chunk: it fills several. */
	if (!flush(force))
		return false;
	header.len = (uint32) len;
	header.type = type;
	memcpy(out_buffer, &header, sizeof(header));
	out_len = sizeof(header);
	while (len > 0)
	{
		Size		part = Min(len, SUP_CHUNK_DATA - out_len);

		memcpy(out_buffer + out_len, data, part);
		data = (const char *) data + part;
		len -= part;
		out_len = MAXALIGN(out_len + part);
		if (len > 0)
		{
			if (!flush(force))
			{
				/* the reader sees that the end is missing */
				sup_out_drop();
				return false;
			}
			out_continues = true;
		}
	}
	return true;
}

/* Append what was kept, and what comes while that is sent; unless it would not wait as long as it takes. */
static void
append_late(void)
{
	while (out_late.data != NULL && !out_sending && INTERRUPTS_CAN_BE_PROCESSED())
	{
		StringInfoData late = out_late;
		SupMessage	message;
		Size		at = 0;

		out_late.data = NULL;
		while (sup_next_message(late.data, late.len, &at, &message))
		{
			(void) append_message(message.type, late.data + at, message.len, true);
			at += MAXALIGN(message.len);
		}
		pfree(late.data);
	}
}

bool
sup_out_message(char type, const void *data, Size len, bool force)
{
	bool		is_notice = type == SUP_MSG_NOTICE;
	bool		appended;

	append_late();
	if (out_sending || (is_notice && out_late.data != NULL))
	{
		Assert(is_notice);
		keep_for_later(type, data, len);
		return true;
	}
	appended = append_message(type, data, len, force);
	if (!appended && is_notice && out_reads && out_task->reading && !INTERRUPTS_CAN_BE_PROCESSED())
		keep_for_later(type, data, len);
	append_late();
	return appended;
}

void
sup_out_row(TupleDesc desc, Datum *values, bool *isnull)
{
	Size		len = offsetof(MinimalTupleData, t_bits);
	Size		data_len;
	bool		hasnull = false;
	char	   *place;
	int			hoff;

	if (!out_reads)
		return;

	for (int i = 0; i < desc->natts && !hasnull; i++)
		hasnull = isnull[i];
	if (hasnull)
		len += BITMAPLEN(desc->natts);
	hoff = len = MAXALIGN(len);
	data_len = heap_compute_data_size(desc, values, isnull);
	len += data_len;

	if (len < SUP_CHUNK_DATA - sizeof(SupMessage) &&
		(place = reserve(SUP_MSG_ROW, len, false)) != NULL)
	{
		/* form it in place: as heap_form_minimal_tuple() would */
		MinimalTuple tuple = (MinimalTuple) place;

		memset(tuple, 0, len);
		tuple->t_len = len;
		HeapTupleHeaderSetNatts(tuple, desc->natts);
		tuple->t_hoff = hoff + MINIMAL_TUPLE_OFFSET;
		heap_fill_tuple(desc, values, isnull, (char *) tuple + hoff, data_len,
						&tuple->t_infomask, hasnull ? tuple->t_bits : NULL);
		append_late();
	}
	else
	{
		MinimalTuple tuple = sup_form_minimal_tuple(desc, values, isnull);

		(void) sup_out_message(SUP_MSG_ROW, tuple, tuple->t_len, false);
		pfree(tuple);
	}
}

bool
sup_out_tuple(MinimalTuple tuple, Size len)
{
	MinimalTuple copy;

	if (!out_reads)
		return true;
	copy = (MinimalTuple) reserve(SUP_MSG_ROW, len, false);
	if (copy == NULL)
		return false;

	/* what pads the length may be anything in a tuple from a file */
	copy->t_len = len;
	memset(copy->mt_padding, 0, sizeof(copy->mt_padding));
	memcpy((char *) copy + MINIMAL_TUPLE_DATA_OFFSET,
		   (char *) tuple + MINIMAL_TUPLE_DATA_OFFSET, len - MINIMAL_TUPLE_DATA_OFFSET);
	append_late();
	return true;
}

/*
 * The rest of the stream goes into the entry if it fits.  If not, and there is
 * no memory either, then the notices after the last rows are lost, or the
 * details of an error.
 */
void
sup_out_end(SupTaskState state)
{
	SupTask    *task = out_task;

	append_late();
	if (out_reads && out_len > SUP_INLINE && !flush(true))
		out_len = state == SUP_TASK_SUCCEEDED ? out_settled : 0;
	if (out_reads)
	{
		Assert(out_len <= SUP_INLINE);
		memcpy(task->out, out_buffer, out_len);
		task->out_len = out_len;
		task->out_continues = out_continues;
	}
	out_task = NULL;
}

SupTask *
sup_task_finish(SupSlot *slot, SupTask *task, SupTaskState state,
				const char *tag, int sqlstate, const char *message, bool *cancel_sent)
{
	SupGarbage	garbage;
	SupTask    *next;
	TimestampTz now = GetCurrentTimestamp();

	sup_garbage_init(&garbage);
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
	ended(task, now, &garbage);
	next = sup_next_task(slot, now);
	sup_unlock();

	sup_garbage_free(&garbage);
	return next;
}

void
sup_task_hand_back(SupSlot *slot, SupTask *task)
{
	SupGarbage	garbage;

	sup_garbage_init(&garbage);
	sup_lock();
	(void) sup_take_back(slot);
	if (task->cancel != SUP_NOT_CANCELED)
		end_without_result(task, SUP_TASK_CANCELED, ERRCODE_QUERY_CANCELED,
						   "canceling statement due to user request", NULL, &garbage);
	else
		sup_queue_push_front(task, GetCurrentTimestamp());
	sup_unlock();
	sup_garbage_free(&garbage);
}

void
sup_task_worker_died(SupSlot *slot, int sqlstate, const char *message)
{
	SupTask    *task = &Sup->tasks[pg_atomic_read_u32(&slot->task) - 1];
	SupGarbage	garbage;
	char		detail[6 + SUP_MESSAGE];

	sup_garbage_init(&garbage);
	SUP_ASSERT_LOCKED();
	if (!slot->begun && task->cancel == SUP_NOT_CANCELED)
	{
		sup_queue_push_front(sup_take_back(slot), GetCurrentTimestamp());
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
						   "canceling statement due to user request", NULL, &garbage);
	}
	else
	{
		slot->tasks_failed++;
		end_without_result(task, SUP_TASK_FAILED, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						   "worker exited while it ran the task", detail, &garbage);
	}
	slot->begun = false;
	sup_garbage_free(&garbage);
}
