/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The supervisor: compares what is wanted with what there is.
 *
 * Each turn looks at every slot, decides by policy.c, acts through launch.c,
 * and sleeps until the nearest deadline.  Signals and latches only say "look
 * now".  It waits for no child, runs no SQL and takes no failure of a child,
 * nor the lack of a resource, for its own.  On an error of its own it dies;
 * the postmaster starts another, which adopts the children.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "compat.h"
#include "launch.h"
#include "policy.h"
#include "task.h"
#include "worker.h"

/* Nobody tells us of the end of an adopted child: look again after so long. */
#define REAP_LOOK_MIN_MS	5
#define REAP_LOOK_MAX_MS	500

/* What could not even be started is not tried more often, whatever the policy. */
#define RETRY_MIN_US	INT64CONST(1000000)

/* What is to be logged of a pool. */
#define NEWS_NO_SLOT	0x01
#define NEWS_DOWN		0x02

/* The nearest deadline of this turn. */
static TimestampTz next_look;

/* Were we last refused a background worker slot, or a slot of our own? */
static bool no_background_worker_slot = false;

/* Is there a pool in the settings for which removed ones have left no entry yet? */
static bool pools_missing = false;

static void
look_by(TimestampTz when)
{
	next_look = Min(next_look, when);
}

static double
jitter(void)
{
	return pg_prng_double(&pg_global_prng_state);
}

/*
 * Transitions.  Only this process writes 'state'.  The caller holds the lock.
 */

static void
enter(SupSlot *slot, SupState state, SupReason reason, const char *detail, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	if (slot->state != state || slot->reason != reason)
		sup_add_event(slot, sup_state_names[state], detail);
	slot->state = state;
	slot->reason = reason;
	slot->state_since = now;
	strlcpy(slot->detail, detail ? detail : "", sizeof(slot->detail));
}

/* Take an empty slot for a worker of a pool. */
static void
empty_to_waiting(SupSlot *slot, int pool, int instance, TimestampTz now)
{
	Assert(slot->state == SUP_EMPTY);
	slot->kind = SUP_KIND_POOL;
	slot->pool = pool;
	slot->instance = instance;
	slot->surplus = slot->roll = slot->terminate = slot->leaving = false;
	slot->leave = SUP_STAY;
	slot->attached = slot->ready = slot->exited = false;
	slot->has_handle = false;
	slot->started_at = slot->deadline = 0;
	slot->restart_at = now;
	slot->attempts = 0;
	slot->restarts = 0;
	memset(&slot->history, 0, sizeof(slot->history));
	slot->last_exit_at = 0;
	slot->last_exit_code = -1;
	slot->last_sqlstate = 0;
	slot->last_error[0] = '\0';
	slot->last_role = InvalidOid;
	slot->tasks_succeeded = slot->tasks_failed = slot->tasks_canceled = 0;
	slot->state = SUP_WAITING;
	slot->reason = SUP_NO_REASON;
	slot->detail[0] = '\0';
	slot->state_since = now;
}

static void
to_empty(SupSlot *slot, TimestampTz now)
{
	enter(slot, SUP_EMPTY, SUP_NO_REASON,
		  slot->state == SUP_STUCK ? "another has taken its place" : "the pool shrank", now);
	slot->generation++;
	slot->has_handle = false;
	slot->roll = slot->surplus = false;
	slot->pid = 0;
	ConditionVariableBroadcast(&Sup->changed);
}

/* Register the process of a slot that waits; takes the lock itself. */
static bool
waiting_to_starting(SupSlot *slot, TimestampTz now)
{
	SupHandle	handle;
	SupPolicy	policy = sup_pool_policy();
	SupState	before = slot->state;
	bool		registered;

	Assert(slot->state == SUP_WAITING || slot->state == SUP_BACKOFF);

	/* Died in between, we would leave a child that nobody knows. */
	HOLD_INTERRUPTS();
	sup_lock();
	slot->generation++;
	slot->has_handle = false;
	slot->notifies = true;
	slot->attached = slot->ready = slot->exited = slot->leaving = false;
	slot->terminate = slot->roll = false;
	slot->leave = SUP_STAY;
	slot->begun = false;
	slot->pid = 0;
	slot->proc = NULL;
	slot->database = slot->role = InvalidOid;
	slot->look_again = REAP_LOOK_MIN_MS;
	slot->started_at = now;
	slot->deadline = sup_start_timeout > 0 ?
		TimestampTzPlusMilliseconds(now, sup_start_timeout) : 0;
	slot->state = SUP_STARTING; /* so that the child, which may be quick,
								 * finds it so */
	sup_unlock();

	registered = sup_launch(slot, &handle);

	sup_lock();
	if (registered)
	{
		slot->state = before;
		enter(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
		slot->handle = handle;
		slot->has_handle = true;
		slot->attempts = 0;
		slot->restart_at = 0;
	}
	else
	{
		slot->state = before;
		slot->started_at = 0;
		slot->restart_at = now + Max(sup_policy_delay(&policy, ++slot->attempts, jitter()),
									 RETRY_MIN_US);
		enter(slot, SUP_WAITING, SUP_NO_BACKGROUND_WORKER_SLOT,
			  "the server has no free background worker slot", now);
	}
	sup_unlock();
	RESUME_INTERRUPTS();

	if (!registered && !no_background_worker_slot)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start worker of pool \"%s\": out of background worker slots",
						sup_slot_name(slot)),
				 errdetail("It is tried again with growing delays."),
				 errhint("You might need to increase \"%s\".", "max_worker_processes")));
	else if (registered && no_background_worker_slot)
		ereport(LOG,
				(errmsg("background worker slots are available again")));
	no_background_worker_slot = !registered;
	if (registered && slot->deadline != 0)
		look_by(slot->deadline);
	else if (!registered)
		look_by(slot->restart_at);
	return registered;
}

/*
 * The process is gone for good: policy says what follows.  'started' is false
 * if it never came to attach.
 */
static void
process_ended(SupSlot *slot, bool started, TimestampTz now)
{
	SupPolicy	policy = sup_pool_policy();
	SupExit		ended;
	int64		restart_at;
	bool		asked = slot->leave != SUP_STAY ||
		(slot->terminate && slot->reason != SUP_START_TIMEOUT);
	bool		late = slot->state == SUP_STOPPING && slot->reason == SUP_START_TIMEOUT;
	SupReason	reason = late ? SUP_START_TIMEOUT : asked ? SUP_REQUESTED : SUP_EXITED;
	char		detail[SUP_MESSAGE];

	ended.started_at = slot->started_at;
	ended.ended_at = started ? slot->exited_at : now;
	ended.clean = started && slot->exit_code == 0;

	/*
	 * What ends in a task, in its bind, or between tasks by somebody who may
	 * signal the role's backends, is the doing of that role: it costs nobody
	 * else the wait for a back-off.  The verdict is always to restart: a pool
	 * slot never stops or fails for good.
	 */
	ended.requested = asked || slot->surplus || ended.clean || (started && slot->exit_of_role);
	(void) sup_policy_decide(&policy, &ended, &slot->history, now, jitter(), &restart_at);
	if (!started && !asked)
		restart_at = Max(restart_at, now + RETRY_MIN_US);

	if (late)
		strlcpy(detail, "the process did not start in time", sizeof(detail));
	else if (!started)
		strlcpy(detail, "the process ended before it had started", sizeof(detail));
	else if (slot->last_error[0] != '\0')
		snprintf(detail, sizeof(detail), "exit code %d: %.200s", slot->exit_code, slot->last_error);
	else
		snprintf(detail, sizeof(detail), "exit code %d", slot->exit_code);

	if (!asked && !slot->surplus && !ended.clean)
		ereport(LOG,
				(errmsg("worker of pool \"%s\" in slot %d ended: %s",
						sup_slot_name(slot), sup_slot_index(slot), detail)));

	sup_lock();
	if (!started)
	{
		slot->last_exit_at = now;
		slot->last_exit_code = -1;
		slot->last_sqlstate = 0;
		slot->last_error[0] = '\0';
		slot->last_role = InvalidOid;
	}
	sup_add_event(slot, "exited", detail);
	slot->restarts++;
	slot->pid = 0;
	slot->has_handle = false;
	slot->deadline = 0;
	if (slot->surplus || slot->state == SUP_STUCK || Sup->pools[slot->pool].removed)
		to_empty(slot, now);
	else
	{
		slot->restart_at = restart_at;
		if (restart_at > now)
		{
			enter(slot, SUP_BACKOFF, reason, detail, now);
			look_by(restart_at);
		}
		else
		{
			slot->state = SUP_WAITING;
			slot->reason = SUP_NO_REASON;
			slot->state_since = now;
		}
	}
	sup_unlock();
}

/* Ask the postmaster to terminate the process of a slot. */
static void
to_stopping(SupSlot *slot, SupReason reason, const char *detail, TimestampTz now)
{
	sup_launch_terminate(slot);
	sup_lock();
	sup_ask_terminate(slot);	/* nobody shall give it a task meanwhile */
	slot->deadline = sup_stop_timeout > 0 ?
		TimestampTzPlusMilliseconds(now, sup_stop_timeout) : 0;
	enter(slot, SUP_STOPPING, reason, detail, now);
	sup_unlock();
	if (slot->deadline != 0)
		look_by(slot->deadline);
}

/* Look at a slot that has, or had, a process. */
static void
look_at_process(SupSlot *slot, TimestampTz now)
{
	BgwHandleStatus status = sup_launch_status(slot);
	bool		attached;
	bool		ready;
	bool		exited;
	bool		terminate;

	sup_lock();
	attached = slot->attached;
	ready = slot->ready;
	exited = slot->exited;
	terminate = slot->terminate;
	sup_unlock();

	if (status == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	if (status == BGWH_STOPPED)
	{
		process_ended(slot, attached, now);
		return;
	}

	if (exited)
	{
		/* The postmaster has yet to reap it, and tells us, unless adopted. */
		look_by(TimestampTzPlusMilliseconds(now, slot->notifies ?
											REAP_LOOK_MAX_MS : slot->look_again));
		slot->look_again = Min(slot->look_again * 2, REAP_LOOK_MAX_MS);
		return;
	}

	if (slot->state == SUP_STARTING && ready)
	{
		sup_lock();
		slot->deadline = 0;
		enter(slot, SUP_RUNNING, SUP_NO_REASON, NULL, slot->ready_at);
		sup_unlock();
	}

	if ((slot->state == SUP_STARTING || slot->state == SUP_RUNNING) && terminate)
		to_stopping(slot, SUP_REQUESTED, "somebody asked to terminate it", now);
	else if (slot->deadline == 0)
		return;
	else if (now < slot->deadline)
		look_by(slot->deadline);
	else if (slot->state == SUP_STARTING)
		to_stopping(slot, SUP_START_TIMEOUT, "it did not become ready in time", now);
	else if (slot->state == SUP_STOPPING)
	{
		ereport(LOG,
				(errmsg("worker of pool \"%s\" in slot %d, process %d, does not stop",
						sup_slot_name(slot), sup_slot_index(slot), slot->pid),
				 errdetail("It was asked to terminate %d ms ago; another takes its place.",
						   sup_stop_timeout)));
		sup_lock();
		slot->deadline = 0;
		enter(slot, SUP_STUCK, SUP_STOP_TIMEOUT, "it does not react to SIGTERM", now);
		sup_unlock();
	}
}

/*
 * Pools
 */

/* Take over the settings: which pools there are, and how large. */
static void
set_pools(void)
{
	int			n;
	SupPoolSetting *settings = sup_pool_settings(&n);

	pools_missing = false;
	sup_lock();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].name[0] != '\0')
		{
			Sup->pools[i].removed = true;
			Sup->pools[i].size = 0;
		}
	for (int i = 0; i < n; i++)
	{
		SupPool    *pool = sup_pool_by_name(settings[i].name);

		for (int j = 0; pool == NULL && j < SUP_MAX_POOLS; j++)
			if (Sup->pools[j].name[0] == '\0')
			{
				pool = &Sup->pools[j];
				strlcpy(pool->name, settings[i].name, NAMEDATALEN);
				pool->tasks_succeeded = pool->tasks_failed = pool->tasks_canceled = 0;
				pool->no_worker_since = 0;
				pool->down = false;
			}
		if (pool == NULL)
		{
			pools_missing = true;	/* removed pools are still in use: later */
			continue;
		}
		pool->removed = false;
		pool->size = settings[i].size;
	}
	Sup->pools_set = true;
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
	pfree(settings);
}

static bool
counts_for_pool(const SupSlot *slot, int pool)
{
	return slot->state != SUP_EMPTY && slot->state != SUP_STUCK &&
		slot->pool == pool && !slot->surplus;
}

/* A number that no other worker of the pool has. */
static int
free_instance(int pool)
{
	for (int instance = 1;; instance++)
	{
		bool		taken = false;

		for (int i = 0; i < sup_max_workers && !taken; i++)
			taken = Sup->slots[i].state != SUP_EMPTY && Sup->slots[i].pool == pool &&
				Sup->slots[i].instance == instance;
		if (!taken)
			return instance;
	}
}

/* How little is lost if this worker goes? */
static int
surplus_rank(SupSlot *slot)
{
	if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		return 0;
	if (slot->state == SUP_STOPPING || slot->exited)
		return 1;
	if (slot->binding < 0)
		return 2;
	return pg_atomic_read_u32(&slot->task) == 0 ? 3 : 4;
}

/*
 * Bring the number of a pool's slots to what is wanted.  The caller holds the
 * lock, and logs the news that this returns when it no longer does.
 */
static int
size_pool(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	int			wanted = p->size;
	int			have = 0;
	int			news = 0;

	/* Whatever is queued is still served. */
	if (wanted == 0 && (p->nqueued > 0))
		wanted = 1;

	for (int i = 0; i < sup_max_workers; i++)
		have += counts_for_pool(&Sup->slots[i], pool);

	/* Too few: keep one that was about to go, or else take a slot. */
	for (int i = 0; i < sup_max_workers && have < wanted; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_EMPTY && slot->state != SUP_STUCK && slot->pool == pool && slot->surplus)
		{
			slot->surplus = false;
			if (!slot->leaving && slot->leave == SUP_LEAVE_SURPLUS)
				slot->leave = SUP_STAY;
			have++;
		}
	}
	for (int i = 0; i < sup_max_workers && have < wanted; i++)
		if (Sup->slots[i].state == SUP_EMPTY)
		{
			empty_to_waiting(&Sup->slots[i], pool, free_instance(pool), now);
			have++;
		}
	if (have < wanted && p->no_slot == 0)
	{
		sup_add_event(NULL, "waiting", "all slots are taken: see supervisor.max_workers");
		news |= NEWS_NO_SLOT;
	}
	p->no_slot = Max(wanted - have, 0);

	/* Too many: those go first that do least. */
	while (have > wanted)
	{
		SupSlot    *slot = NULL;

		for (int i = 0; i < sup_max_workers; i++)
			if (counts_for_pool(&Sup->slots[i], pool) &&
				(slot == NULL || surplus_rank(&Sup->slots[i]) <= surplus_rank(slot)))
				slot = &Sup->slots[i];
		if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
			to_empty(slot, now);
		else
		{
			slot->surplus = true;
			sup_ask_leave(slot, SUP_LEAVE_SURPLUS);
		}
		have--;
	}
	return news;
}

/* Replace the next worker of a rolling restart, once its predecessor is back. */
static void
roll_pool(int pool, TimestampTz now)
{
	SupSlot    *next = NULL;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state == SUP_EMPTY || slot->state == SUP_STUCK || slot->pool != pool ||
			slot->surplus)
			continue;
		if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		{
			slot->roll = false; /* its process will be new */
			if (slot->restart_at <= now)
				return;			/* and comes in this turn */
		}
		else if (slot->leave == SUP_LEAVE_RESTART || slot->leaving || slot->exited ||
				 (slot->state == SUP_STARTING && !slot->ready) || slot->state == SUP_STOPPING)
			return;				/* one at a time */
		else if (slot->roll && next == NULL)
			next = slot;
		/* those without a task first: nobody waits for them */
		else if (slot->roll && pg_atomic_read_u32(&next->task) != 0 &&
				 pg_atomic_read_u32(&slot->task) == 0)
			next = slot;
	}
	if (next != NULL)
	{
		next->roll = false;
		sup_ask_leave(next, SUP_LEAVE_RESTART);
	}
}

/*
 * Has a pool been without any worker for too long?  Then nobody shall wait for
 * one.  Lock and news as above.
 */
static int
judge_pool(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	bool		served = p->size == 0 && p->nqueued == 0;
	SupSlot    *culprit = NULL;
	TimestampTz deadline;
	int			news = 0;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (!counts_for_pool(slot, pool))
			continue;
		if (slot->ready && !slot->exited && slot->state != SUP_STOPPING)
			served = true;
		else if (culprit == NULL || slot->reason != SUP_NO_REASON)
			culprit = slot;
	}
	if (served)
	{
		p->no_worker_since = 0;
		p->down = false;
		return 0;
	}
	if (p->no_worker_since == 0)
		p->no_worker_since = now;
	deadline = sup_start_timeout == 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(p->no_worker_since, sup_start_timeout);
	if (now < deadline)
	{
		look_by(deadline);
		p->down = false;		/* the setting may have changed */
		return 0;
	}

	if (culprit == NULL)
		strlcpy(p->down_detail, "All slots are taken: see \"supervisor.max_workers\".", SUP_MESSAGE);
	else if (OidIsValid(culprit->last_role))
		strlcpy(p->down_detail, "The server log says why its workers ended.", SUP_MESSAGE);
	else if (culprit->reason == SUP_NO_BACKGROUND_WORKER_SLOT)
		strlcpy(p->down_detail, "The server has no free background worker slot: see \"max_worker_processes\".", SUP_MESSAGE);
	else
		snprintf(p->down_detail, SUP_MESSAGE, "The last attempt: %.200s.",
				 culprit->detail[0] ? culprit->detail : "none ended yet");
	if (!p->down)
		news = NEWS_DOWN;
	p->down = true;

	while (!dlist_is_empty(&p->queued))
	{
		SupBinding *b = dlist_head_element(SupBinding, queued_node, &p->queued);
		char		message[SUP_MESSAGE];

		snprintf(message, sizeof(message), "no worker of pool \"%s\" could be started", p->name);
		sup_task_fail_queued(dlist_head_element(SupTask, node, &b->queue), SUP_TASK_FAILED,
							 ERRCODE_INSUFFICIENT_RESOURCES, message, p->down_detail);
	}
	return news;
}

/*
 * A turn
 */

static void
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz retry_at = 0;
	bool		freed = false;

	next_look = DT_NOEND;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupState	state = Sup->slots[i].state;

		if (state == SUP_STARTING || state == SUP_RUNNING ||
			state == SUP_STOPPING || state == SUP_STUCK)
			look_at_process(&Sup->slots[i], now);
	}

	for (int i = 0; i < SUP_MAX_POOLS; i++)
	{
		SupPool    *pool = &Sup->pools[i];
		bool		has_slots = false;
		int			news;

		/* only this process gives pools their names */
		if (pool->name[0] == '\0')
			continue;
		sup_lock();
		news = size_pool(i, now);
		roll_pool(i, now);
		news |= judge_pool(i, now);
		for (int j = 0; j < sup_max_workers; j++)
			has_slots |= Sup->slots[j].state != SUP_EMPTY && Sup->slots[j].pool == i;
		if (pool->removed && !has_slots && !sup_pool_in_use(i))
		{
			pool->name[0] = '\0';
			freed = true;
		}
		sup_unlock();

		if (news & NEWS_NO_SLOT)
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no slot for %d workers of pool \"%s\"", pool->no_slot, pool->name),
					 errhint("You might need to increase \"%s\".", "supervisor.max_workers")));
		if (news & NEWS_DOWN)
			ereport(LOG,
					(errmsg("no worker of pool \"%s\" could be started for %d ms",
							pool->name, sup_start_timeout),
					 errdetail_internal("%s", pool->down_detail)));
	}

	/* Register all that is due; the postmaster forks them one by one. */
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_WAITING && slot->state != SUP_BACKOFF)
			continue;
		if (slot->restart_at > now)
			look_by(slot->restart_at);
		else if (retry_at == 0)
		{
			if (!waiting_to_starting(slot, now))
				retry_at = slot->restart_at;
		}
		else
		{
			sup_lock();
			slot->restart_at = retry_at;
			enter(slot, SUP_WAITING, SUP_NO_BACKGROUND_WORKER_SLOT,
				  "the server has no free background worker slot", now);
			sup_unlock();
		}
	}

	look_by(sup_task_expire(now));

	if (pools_missing && freed)
	{
		set_pools();
		SetLatch(MyLatch);		/* they have yet to get their workers */
	}
}

/*
 * Life
 */

static void
leave_office(int code, Datum arg)
{
	sup_lock();
	Sup->supervisor = NULL;
	Sup->supervisor_pid = 0;
	sup_unlock();
}

/* Be the one supervisor, and take over what a former one left. */
static void
take_office(void)
{
	int			other;
	int			adopted = 0;

	sup_lock();
	other = Sup->supervisor_pid;
	if (other == 0)
	{
		Sup->supervisor_pid = MyProcPid;
		Sup->supervisor = MyProc;
	}
	sup_unlock();
	if (other != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the supervisor is already running as process %d", other)));
	on_shmem_exit(leave_office, (Datum) 0);

	sup_lock();
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_STARTING && slot->state != SUP_RUNNING &&
			slot->state != SUP_STOPPING && slot->state != SUP_STUCK)
			continue;
		adopted++;
		if (!slot->has_handle && !slot->attached)
		{
			/*
			 * The former one died while it registered this: if it comes, it
			 * is late.
			 */
			slot->generation++;
			slot->state = SUP_WAITING;
			slot->restart_at = GetCurrentTimestamp();
			continue;
		}

		/* The postmaster has forgotten whom to tell: replace it at leisure. */
		slot->notifies = false;
		slot->look_again = REAP_LOOK_MIN_MS;
		slot->roll = true;
	}
	sup_add_event(NULL, "supervisor", adopted > 0 ? "started, and adopted its workers" : "started");
	sup_unlock();
}

void
sup_supervisor_main(Datum main_arg)
{
	MemoryContext cycle;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (Sup == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("supervisor must be loaded via \"%s\"", "shared_preload_libraries")));
	take_office();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	/* There is no statement that could be canceled. */
	pqsignal(SIGINT, PG_SIG_IGN);

	cycle = AllocSetContextCreate(TopMemoryContext, "supervisor cycle", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	set_pools();

	for (;;)
	{
		TimestampTz until;
		long		timeout = -1;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			set_pools();
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		/* Whoever needs us earlier than we are about to look wakes us. */
		sup_lock();
		Sup->next_wakeup = DT_NOEND;
		sup_unlock();

		turn();
		MemoryContextReset(cycle);

		sup_lock();
		until = Min(Sup->next_wakeup, next_look);
		Sup->next_wakeup = until;
		sup_unlock();
		if (until != DT_NOEND)
			timeout = sup_milliseconds_until(GetCurrentTimestamp(), until);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, sup_wait_event(SUP_WAIT_MAIN));
	}
}
