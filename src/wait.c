/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  How a session waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sched.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "storage/s_lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "match.h"
#include "queue.h"
#include "wait.h"

/* A new server's supervisor needs some milliseconds, a restarted one a second. */
#define SUPERVISOR_PATIENCE_MS	10000

/*
 * Spinning
 *
 * A hand-off between two sleeping processes costs two wake-ups of the
 * operating system, more than a short task.  So whoever waits looks again for
 * a while before it sleeps: only if its last wait was so short that this
 * would have paid, and only while processors are free for those that spin and for
 * those that work.
 *
 * Between two calls a session and its client work, too, and are not counted as busy.  So where
 * more sessions than there are processors call all the time, there is none to spare.  There,
 * and on the processor that the other side needs, who waits lets others go first, and looks
 * again: if it has got by then what it waits for, nobody has had to wake it.
 */

/* So often others go first. */
#define MAX_YIELDS	2

/* So fast the last SUP_CALLS calls must have come. */
#define CROWD_US	10000

void
sup_note_call(TimestampTz now)
{
	int		   *caller = &Sup->callers[Sup->next_call];
	TimestampTz *called_at = &Sup->called_at[Sup->next_call];

	SUP_ASSERT_LOCKED();
	if (*caller != 0 && --Sup->sessions[*caller - 1].ncalls == 0)
		Sup->ncallers--;
	*caller = sup_my_session() + 1;
	if (Sup->sessions[sup_my_session()].ncalls++ == 0)
		Sup->ncallers++;
	Sup->crowded = Sup->ncallers > Sup->ncpus && now - *called_at < CROWD_US;
	*called_at = now;
	Sup->next_call = (Sup->next_call + 1) % SUP_CALLS;
}

/* After a long wait there is no spinning until there was a short one. */
void
sup_spin_note(SupSpin *spin, int64 microseconds)
{
	spin->pays = microseconds <= sup_spin_time;
}

static bool
yield_until(bool (*done) (void *arg), void *arg)
{
	for (int i = 0; i < MAX_YIELDS; i++)
	{
		(void) sched_yield();
		if (done(arg))
			return true;
	}
	return false;
}

static bool
spin_until(SupSpin *spin, bool (*done) (void *arg), void *arg)
{
	instr_time	start;
	instr_time	now;
	bool		is_done = false;

	pg_atomic_fetch_add_u32(&Sup->nspinning, 1);
	pg_atomic_write_u32(spin->counted, 1);
	INSTR_TIME_SET_CURRENT(start);
	do
	{
		for (int i = 0; i < 32 && !is_done; i++)
		{
			SPIN_DELAY();
			is_done = done(arg);
		}
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
	} while (!is_done && !InterruptPending && !MyLatch->is_set &&
			 INSTR_TIME_GET_MICROSEC(now) < (uint64) sup_spin_time);
	sup_stop_counting(spin->counted);
	return is_done;
}

/*
 * Resets the latch, so the caller must look again at all that it waits for
 * before it sleeps.
 */
bool
sup_spin_until(SupSpin *spin, int partner, bool (*done) (void *arg), void *arg)
{
	if (done(arg))
		return true;
	if (sup_spin_time == 0 || !spin->pays)
		return false;

	/* An old wake-up must not end this; what came with it is looked at later. */
	ResetLatch(MyLatch);
	if (Sup->crowded || Sup->ncpus < 2 || (partner >= 0 && partner == sup_current_cpu()))
		return yield_until(done, arg);
	if (Sup->nbusy + (int) pg_atomic_read_u32(&Sup->nspinning) >= Sup->ncpus)
		return false;
	return spin_until(spin, done, arg);
}

/*
 * Deadlock
 *
 * A task may wait for a lock that the session which waits for the task holds.
 * The server's own detector does not know of that wait, so the session looks
 * itself, as often as deadlock_timeout says.
 */

typedef struct Search
{
	int			npids;
	int			maxpids;
	int		   *pids;			/* seen; those from 'next' on are to be looked
								 * at */
} Search;

/* Add a process, unless it was seen before, as happens in a cycle. */
static void
search_add(Search *s, int pid)
{
	for (int i = 0; i < s->npids; i++)
		if (s->pids[i] == pid)
			return;
	if (s->npids == s->maxpids)
	{
		s->maxpids *= 2;
		s->pids = repalloc(s->pids, sizeof(int) * s->maxpids);
	}
	s->pids[s->npids++] = pid;
}

/*
 * Has a job that is awaited this claim, or must it wait for that, as it is of its key?  The
 * caller holds the lock.
 */
static bool
concerns(const SupClaim *claim, const SupJobWait *job)
{
	return claim->database == job->database && claim->slot >= 0 &&
		(claim->job.spot.id == job->id ||
		 (job->key != 0 && claim->job.key == job->key && claim->role == job->role && claim->job.spot.id != 0));
}

/*
 * The processes that run the tasks, or the job, which session number 'n' waits for, and
 * their ids; the arrays have room for sup_max_workers.
 */
static int
awaited_tasks(int n, int *pids, uint64 *ids)
{
	int			count = 0;

	sup_lock();
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];
		SupTask    *task = sup_slot_task(slot);

		if (task != NULL && slot->pid != 0 &&
			((task->owner == n && task->awaited) ||
			 Sup->sessions[n].waits_for == sup_task_index(task) + 1))
		{
			ids[count] = task->id;
			pids[count++] = slot->pid;
		}
	}
	for (int i = 0; i < 2 * sup_max_workers && Sup->sessions[n].job.id != 0 && count < sup_max_workers; i++)
	{
		const SupClaim *claim = &SupJob->claims[i];

		if (concerns(claim, &Sup->sessions[n].job) && Sup->slots[claim->slot].pid != 0)
		{
			ids[count] = Sup->sessions[n].job.id;
			pids[count++] = Sup->slots[claim->slot].pid;
		}
	}
	sup_unlock();
	return count;
}

/* A job that nobody runs, and that is due, needs a worker of its pool; -1.  The caller holds the lock. */
static int
pool_of_job(const SupJobWait *job)
{
	const SupPool *pool;

	if (job->id == 0 || !OidIsValid(job->role) || job->run_at > GetCurrentTimestamp())
		return -1;
	for (int i = 0; i < 2 * sup_max_workers; i++)
		if (concerns(&SupJob->claims[i], job))
			return -1;
	pool = sup_pool_by_name(job->pool);
	return pool != NULL ? (int) (pool - Sup->pools) : -1;
}

/* Is it no worker of its pool, or has another taken its place?  The caller holds the lock. */
static bool
is_replaced(const SupSlot *slot)
{
	return slot->state == SUP_EMPTY || (slot->state == SUP_STUCK && slot->surplus);
}

/* May it, or its successor, take a task?  The caller holds the lock. */
static bool
is_free(SupSlot *slot)
{
	return slot->state != SUP_STUCK &&
		(slot->pid == 0 || slot->leaving_since != 0 || pg_atomic_read_u32(&slot->task) == 0);
}

/*
 * The workers of a pool for which a task, or job, that I wait for is queued, and its
 * id: all must be free of me, or it is served by none.  Or one that logs in to
 * its database for long, since no other will before that has ended.  0: there is
 * no such task, or a worker that may take it.
 */
static int
workers_in_the_way(int *pids, uint64 *id)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	SupTask    *queued = NULL;
	int			count = 0;
	int			pool = -1;
	Oid			database = MyDatabaseId;
	bool		one_is_free = false;
	dlist_iter	iter;

	sup_lock();
	if (session->job.id != 0)
	{
		pool = pool_of_job(&session->job);
		*id = session->job.id;
	}
	else if (session->waits_for != 0)
		queued = &Sup->tasks[session->waits_for - 1];
	else
	{
		dlist_foreach(iter, &session->tasks)
		{
			queued = dlist_container(SupTask, owner_node, iter.cur);
			if (queued->awaited && sup_task_state(queued) == SUP_TASK_QUEUED)
				break;
			queued = NULL;
		}
	}
	if (queued != NULL && sup_task_state(queued) == SUP_TASK_QUEUED)
	{
		pool = Sup->bindings[queued->binding].pool;
		database = Sup->bindings[queued->binding].database;
		*id = queued->id;
	}
	for (int i = 0; i < sup_max_workers && pool >= 0; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (is_replaced(slot) || slot->pool != pool)
			continue;
		if (slot->slow != NULL && slot->database == database && slot->pid != 0)
		{
			pids[0] = slot->pid;
			count = 1;
			one_is_free = false;
			break;
		}
		one_is_free |= is_free(slot);
		pids[count++] = slot->pid;
	}
	if (one_is_free)
		count = 0;
	sup_unlock();
	return count;
}

/*
 * The workers that must be free of me, so that there will be room for the task
 * that I launch: those that run tasks whose end makes room, and where such are
 * queued, any of their pool.  0: I do not wait for that, or one may begin now.
 */
static int
workers_for_room(int *pids)
{
	const SupSession *session = &Sup->sessions[sup_my_session()];
	bool		queued[SUP_MAX_POOLS];
	int			count = 0;
	bool		one_is_free;

	sup_lock();
	one_is_free = !session->wants_room;
	sup_pools_queued(session->room_role, queued);
	for (int i = 0; i < sup_max_workers && !one_is_free; i++)
	{
		SupSlot    *slot = &Sup->slots[i];
		SupTask    *task = sup_slot_task(slot);

		if (slot->pool < 0 || is_replaced(slot))
			continue;
		if (queued[slot->pool])
			one_is_free = is_free(slot);
		else if (task == NULL || (task->owner >= 0 && task->kind == SUP_TASK_LAUNCH) ||
				 (OidIsValid(session->room_role) && slot->role != session->room_role))
			continue;
		pids[count++] = slot->pid;
	}
	if (one_is_free)
		count = 0;
	sup_unlock();
	return count;
}

/*
 * Follow who waits for whom, from that process.  Returns the process that
 * waits for a lock of mine, or 0.
 */
static int
depends_on_me(int root)
{
	Search		s;
	int			found = 0;
	int		   *pids = palloc(sizeof(int) * sup_max_workers);
	uint64	   *ids = palloc(sizeof(uint64) * sup_max_workers);

	s.npids = 0;
	s.maxpids = 16;
	s.pids = palloc(sizeof(int) * s.maxpids);
	search_add(&s, root);

	for (int next = 0; next < s.npids && found == 0; next++)
	{
		int			pid = s.pids[next];
		PGPROC	   *proc = BackendPidGetProc(pid);
		int			session;

		CHECK_FOR_INTERRUPTS();
		if (proc == NULL)
			continue;

		/* Asking who blocks it is dear, so see first whether anybody does. */
		if (proc->waitLock != NULL || proc->lockGroupLeader != NULL)
		{
			ArrayType  *blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids,
																		  Int32GetDatum(pid)));
			int			n = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));
			int		   *blocker = (int *) ARR_DATA_PTR(blockers);

			for (int i = 0; i < n; i++)
			{
				if (blocker[i] == MyProcPid)
					found = pid;
				else if (blocker[i] != 0)	/* 0 is a prepared transaction */
					search_add(&s, blocker[i]);
			}
		}

		session = proc - ProcGlobal->allProcs;
		if (session < MaxBackends && Sup->sessions[session].pid == pid)
		{
			int			n = awaited_tasks(session, pids, ids);

			for (int i = 0; i < n; i++)
				search_add(&s, pids[i]);
		}
	}
	return found;
}

/* Does each of them depend on me?  Returns the process that waits for a lock of mine, or 0. */
static int
all_depend_on_me(const int *pids, int n)
{
	int			found = 0;

	for (int i = 0; i < n; i++)
		if ((found = depends_on_me(pids[i])) == 0)
			break;
	return found;
}

/*
 * Does a task, or job, of mine, or else every worker that could take it, depend on me; or
 * all that could make room for one?  Then *task is 0.  Returns the process that
 * waits for a lock of mine, or 0.
 */
static int
find_cycle(uint64 *task)
{
	int		   *pids = palloc(sizeof(int) * sup_max_workers);
	uint64	   *ids = palloc(sizeof(uint64) * sup_max_workers);
	int			n = awaited_tasks(sup_my_session(), pids, ids);
	int			found = 0;

	for (int i = 0; i < n && found == 0; i++)
	{
		*task = ids[i];
		found = depends_on_me(pids[i]);
	}
	if (found == 0)
		found = all_depend_on_me(pids, workers_in_the_way(pids, task));
	if (found == 0)
	{
		*task = 0;
		found = all_depend_on_me(pids, workers_for_room(pids));
	}
	return found;
}

/*
 * Raise 40P01 if what this session waits for waits for a lock of this
 * session.
 */
static void
check_deadlock(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor deadlock",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	uint64		task;
	uint64		again;
	int			pid = find_cycle(&task);

	/* It was not looked at in one instant: be sure. */
	if (pid != 0 && find_cycle(&again) == 0)
		pid = 0;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	if (pid == 0)
		return;
	if (task == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("deadlock detected"),
				 errdetail("Process %d waits for room for a task; process %d, on which that depends, waits for a lock that process %d holds.",
						   MyProcPid, pid, MyProcPid),
				 errhint("Launch fewer tasks in a transaction that holds locks which they need, or increase \"%s\".",
						 "supervisor.max_tasks")));
	if (Sup->sessions[sup_my_session()].job.id != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("deadlock detected"),
				 errdetail("Process %d waits for job %llu; process %d, on which that depends, waits for a lock that process %d holds.",
						   MyProcPid, (unsigned long long) task, pid, MyProcPid),
				 errhint("End the transaction that holds the lock before you wait for the job.")));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
			 errmsg("deadlock detected"),
			 errdetail("Process %d waits for task %llu; process %d, on which that depends, waits for a lock that process %d holds.",
					   MyProcPid, (unsigned long long) task, pid, MyProcPid),
			 errhint("End the transaction that holds the lock before you wait for the task, or use CALL supervisor.perform(), which holds no snapshot while it waits.")));
}

/*
 * Sleeping
 */

/*
 * Takes interrupts, and looks for a deadlock every deadlock_timeout.  Whoever
 * sleeps on 'cv' is on its list before it looks whether it is done.
 */
bool
sup_sleep_until(bool (*done) (void *arg), void *arg, TimestampTz deadline, ConditionVariable *cv)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	TimestampTz look;
	bool		is_done;

	if (done(arg))
		return true;

	/* Look-ups in catalogs must not hold back what we wait for. */
	InvalidateCatalogSnapshotConditionally();

	look = TimestampTzPlusMilliseconds(sup_now(), DeadlockTimeout);
	session->pid = MyProcPid;
	if (cv != NULL)
		ConditionVariablePrepareToSleep(cv);
	PG_TRY();
	{
		for (;;)
		{
			TimestampTz now;
			TimestampTz until;

			sup_injection_point("supervisor-wait");
			CHECK_FOR_INTERRUPTS();
			now = sup_now();
			if (now >= look)
			{
				check_deadlock();
				look = TimestampTzPlusMilliseconds(now, DeadlockTimeout);
			}

			/* Last, since what was above may have reset the latch. */
			if ((is_done = done(arg)) || (deadline != 0 && now >= deadline))
				break;
			until = deadline != 0 ? Min(look, deadline) : look;
			if (cv != NULL)
			{
				(void) ConditionVariableTimedSleep(cv, sup_milliseconds_until(now, until),
												   sup_wait_event(SUP_WAIT_TASK));
				continue;
			}
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 sup_milliseconds_until(now, until),
							 sup_wait_event(session->job.id != 0 ? SUP_WAIT_JOB : SUP_WAIT_TASK));
			ResetLatch(MyLatch);
		}
	}
	PG_FINALLY();
	{
		session->pid = 0;
		if (cv != NULL)
			ConditionVariableCancelSleep();
	}
	PG_END_TRY();
	return is_done;
}

/* Looks each time that Sup->changed is broadcast.  Takes interrupts. */
bool
sup_await_change(bool (*done) (void *arg), void *arg, TimestampTz deadline)
{
	bool		is_done;

	ConditionVariablePrepareToSleep(&Sup->changed);
	while (!(is_done = done(arg)))
	{
		long		timeout = -1;

		if (deadline != 0)
		{
			timeout = sup_milliseconds_until(sup_now(), deadline);
			if (timeout <= 0)
				break;
		}
		(void) ConditionVariableTimedSleep(&Sup->changed, timeout, sup_wait_event(SUP_WAIT_WORKER));
	}
	ConditionVariableCancelSleep();
	return is_done;
}

/* If it was registered, the postmaster restarts it whenever it ends. */
void
sup_require_supervisor(void)
{
	if (!IsUnderPostmaster)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the supervisor is not running"),
				 errdetail("There are no background workers in single-user mode.")));
	if (!sup_registered)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the supervisor is not running"),
				 errdetail("The server had no background worker slot left for it when it started."),
				 errhint("Increase \"%s\" and restart the server.", "max_worker_processes")));
}

/* Waits for at most SUPERVISOR_PATIENCE_MS. */
void
sup_await_supervisor(void)
{
	TimestampTz start;

	if (Sup->pools_set)
		return;
	sup_require_supervisor();

	/* It is about to start. */
	start = sup_now();
	ConditionVariablePrepareToSleep(&Sup->changed);
	while (!Sup->pools_set &&
		   !TimestampDifferenceExceeds(start, sup_now(), SUPERVISOR_PATIENCE_MS))
		(void) ConditionVariableTimedSleep(&Sup->changed, 1000, sup_wait_event(SUP_WAIT_WORKER));
	ConditionVariableCancelSleep();
	if (!Sup->pools_set)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the supervisor is not running"),
				 errhint("The server log says why it could not start.")));
}
