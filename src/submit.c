/*-------------------------------------------------------------------------
 *
 * submit.c
 *	  A session submits tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "columns.h"
#include "match.h"
#include "members.h"
#include "rights.h"
#include "submit.h"
#include "task.h"
#include "wait.h"

/* SupInput describes the format.  The worker checks it before it is used. */
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

/*
 * Raises 55000 in a pool worker that would wait, 25000 in a parallel
 * operation, 42501 in a security-restricted one, and otherwise as
 * sup_check_may_connect().
 */
void
sup_task_check_submitter(SupTaskKind kind)
{
	/*
	 * Nor can a login event trigger, which each worker would fire that it
	 * waits for.
	 */
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

/* Reads a flag without the lock: it is a hint. */
void
sup_refuse_missing_pool(const char *name)
{
	bool		waits = Sup->pools_missing && sup_pool_listed(name);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("pool \"%s\" does not exist", name),
			 waits ? errdetail("It is in \"%s\", but pools that were removed still have tasks, and with them there are more than %d pools.",
							   "supervisor.pools", SUP_MAX_POOLS) : 0,
			 waits ? errhint("Wait until tasks of pools of size 0 in supervisor.pool_status have ended, been read or forgotten.") :
			 errhint("Pools are named by \"supervisor.pools\".")));
	pg_unreachable();
}

/* Why a pool takes no task now; the caller holds no lock. */
pg_noreturn static void
refuse_pool(const char *name, bool removed, bool down, const char *detail)
{
	if (removed)
		sup_refuse_missing_pool(name);
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
	pg_unreachable();
}

/* The current role's limits are told where they are the reason. */
void
sup_refuse_task(SupLack lack)
{
	Oid			role = GetUserId();

	if (sup_lacks_memory(lack))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of shared memory for tasks"),
				 superuser_arg(role) ? 0 : errdetail("A non-superuser role holds at most half of it."),
				 errhint("You might need to increase \"%s\".", "supervisor.shared_memory")));
	if (lack == SUP_LACK_TASKS_OF_ROLE)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many tasks for role \"%s\"", GetUserNameFromId(role, false)),
				 errdetail("A non-superuser role holds at most %d tasks, half of \"%s\".",
						   sup_max_tasks / 2, "supervisor.max_tasks"),
				 errhint("Read results with supervisor.result(), give them up with supervisor.forget(), or increase \"%s\".",
						 "supervisor.max_tasks")));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many tasks"),
			 errhint("You might need to increase \"%s\".", "supervisor.max_tasks")));
	pg_unreachable();
}

/*
 * What does not fit in an entry goes to the area: its places, by command, or NULL
 * if all fit.  *n becomes how many have room.
 */
static dsa_pointer *
put_inputs(const StringInfoData *inputs, int *n)
{
	dsa_pointer *places = NULL;

	for (int i = 0; i < *n; i++)
	{
		Size		size = sup_area_size(inputs[i].len);
		char	   *place;

		if (inputs[i].len <= SUP_INLINE)
			continue;
		if (places == NULL)
			places = palloc0(sizeof(dsa_pointer) * *n);
		places[i] = dsa_allocate_extended(sup_area(), size, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
		if (!DsaPointerIsValid(places[i]))
			*n = i;
		else
		{
			place = dsa_get_address(sup_area(), places[i]);
			memcpy(place, inputs[i].data, inputs[i].len);
			sup_clear_rest(place, size, inputs[i].len);
		}
	}
	return places;
}

/* Free what put_inputs() has allocated for commands from 'from' on. */
static void
free_inputs(const dsa_pointer *places, int from, int n)
{
	for (int i = from; places != NULL && i < n; i++)
		if (DsaPointerIsValid(places[i]))
			dsa_free(sup_area(), places[i]);
}

/* Take an entry for a task of this session.  The caller holds the lock. */
static SupTask *
take_task(SupBinding *b, const SupSubmission *submission, bool capped,
		  const StringInfoData *input, dsa_pointer in, TimestampTz now)
{
	SupTask    *task = sup_task_take_entry();
	SupSession *session = &Sup->sessions[sup_my_session()];

	SUP_ASSERT_LOCKED();
	task->kind = submission->kind;
	task->id = Sup->task_ids[sup_task_index(task)] = ++Sup->last_task_id;
	task->next_in_place = Sup->task_places[task->id % sup_max_tasks];
	Sup->task_places[task->id % sup_max_tasks] = sup_task_index(task);
	task->binding = b - Sup->bindings;
	task->owner = sup_my_session();
	task->slot = -1;
	task->reading = task->awaited = submission->kind != SUP_TASK_LAUNCH;
	task->capped = capped;
	task->concurrently = submission->concurrently;
	task->cancel = SUP_NOT_CANCELED;
	task->timeout = sup_task_timeout;
	task->submitted_at = now;
	task->started_at = task->finished_at = 0;
	task->in_news = false;
	task->in = in;
	task->in_len = input->len;
	memcpy(task->head, input->data, Min(input->len, SUP_INLINE));
	task->first = task->last = InvalidDsaPointer;
	task->unread = task->taken = 0;
	task->out_len = 0;
	task->tag[0] = task->message[0] = task->detail[0] = '\0';
	task->sqlstate = 0;
	task->hint = false;
	task->passed_in = 0;
	task->dropped = false;
	dlist_push_tail(&session->tasks, &task->owner_node);
	b->ntasks++;
	Sup->ntasks++;
	if (submission->kind == SUP_TASK_BATCH)
		session->outstanding++;
	if (submission->kind == SUP_TASK_LAUNCH)
	{
		b->nkept++;
		Sup->nkept++;
	}
	Sup->task_deadlines[sup_task_index(task)] = submission->deadline;
	if (submission->deadline != 0)
	{
		Sup->next_deadline = Min(Sup->next_deadline, submission->deadline);
		sup_wake_supervisor_by(submission->deadline);
	}
	return task;
}

/*
 * Acquire the lock, and find the pool.  NULL, without the lock: its list is
 * another version than the one that has let the role in.  If it takes no task,
 * the inputs are freed and an error is raised.
 */
static SupPool *
lock_pool(const char *name, bool capped, uint64 admitted, const dsa_pointer *places, int n)
{
	SupPool    *pool;
	bool		removed;
	bool		down;
	char		detail[SUP_MESSAGE];

	sup_lock();
	pool = sup_pool_by_name(name);
	removed = pool == NULL || pool->removed;
	if (!removed && capped && pool->members_version != 0 && pool->members_version != admitted)
	{
		sup_unlock();
		return NULL;
	}
	if (!removed && pool->size > 0 && !pool->down)
		return pool;
	down = !removed && pool->down && pool->size > 0;
	strlcpy(detail, down ? pool->down_detail : "", sizeof(detail));
	sup_unlock();
	free_inputs(places, 0, n);
	refuse_pool(name, removed, down, detail);
}

/*
 * Memory in the area is allocated before the lock is taken, and what is not
 * needed of it is freed after the lock was released.
 */
int
sup_task_submit(const SupSubmission *submission, int n, const StringInfoData *inputs,
				SupTaskRef *refs, SupLack *lack)
{
	Oid			role = GetUserId();
	bool		capped = !superuser_arg(role);
	Oid			account = capped ? sup_account_of(role) : InvalidOid;
	uint64		admitted = capped ? sup_known_member(role) : 0;
	int			fit;
	dsa_pointer *places;
	SupPool    *pool;
	SupBinding *b;
	TimestampTz now;
	int			done = 0;
	int			room;
	int			kept;
	bool		out_of_memory;
	bool		of_role = false;

	Sup->sessions[sup_my_session()].cpu = sup_current_cpu();
	sup_await_supervisor();

	(void) sup_area();			/* the result is looked at under the lock */
	sup_session_begin();
	for (;;)
	{
		fit = n;
		places = put_inputs(inputs, &fit);
		now = sup_now();
		pool = lock_pool(submission->pool, capped, admitted, places, fit);
		if (pool != NULL)
			break;
		free_inputs(places, 0, fit);
		if (places != NULL)
			pfree(places);
		CHECK_FOR_INTERRUPTS();
		admitted = sup_check_member(submission->pool, role);
	}
	out_of_memory = fit < n;

	/* with an entry for a task there is a free binding, too */
	room = capped ? sup_max_tasks / 2 - sup_role_tasks(role, &kept) : fit;
	b = Min(fit, room) > 0 && sup_task_has_entry() ?
		sup_binding_get(pool - Sup->pools, MyDatabaseId, role) : NULL;
	if (b != NULL)
		b->account = account;
	for (; done < Min(fit, room) && sup_task_has_entry(); done++)
	{
		dsa_pointer in = places != NULL ? places[done] : InvalidDsaPointer;
		SupTask    *task;

		if (DsaPointerIsValid(in))
		{
			Size		size = sup_area_size(inputs[done].len);

			of_role = capped && sup_role_held(role) + size > SUP_HALF_OF_AREA;
			if (of_role)
				break;
			b->held += size;
		}
		task = take_task(b, submission, capped, &inputs[done], in, now);
		refs[done].task = task;
		refs[done].id = task->id;
		sup_offer(task, now);
	}
	if (b != NULL)
		sup_binding_drop(b);
	if (submission->kind != SUP_TASK_LAUNCH)
		sup_note_call(now);
	sup_unlock();

	free_inputs(places, done, fit);
	if (places != NULL)
		pfree(places);

	*lack = done > 0 ? SUP_LACK_NOTHING : of_role ? SUP_LACK_MEMORY_OF_ROLE :
		out_of_memory ? SUP_LACK_MEMORY : capped && room <= 0 ? SUP_LACK_TASKS_OF_ROLE : SUP_LACK_TASKS;
	return done;
}
