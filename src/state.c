/*-------------------------------------------------------------------------
 *
 * state.c
 *	  The shared memory of supervisor: its layout, its lock, and what is done
 *	  when that is released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "catalog/pg_authid.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/s_lock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "state.h"

/* The two clocks may drift apart by less than that, and be read at two times. */
#define SET_US	INT64CONST(100000)

/* More databases that are locked by prepared transactions are not known. */
#define MAX_LOCKED	65536

SupShared  *Sup = NULL;
SupSlot    *SupMySlot = NULL;
bool		sup_registered = false;

static dsa_area *area = NULL;

const char *const sup_state_names[] = {
	[SUP_EMPTY] = "empty",
	[SUP_WAITING] = "waiting",
	[SUP_STARTING] = "starting",
	[SUP_RUNNING] = "running",
	[SUP_STOPPING] = "stopping",
	[SUP_STUCK] = "stuck",
	[SUP_BACKOFF] = "backoff",
	[SUP_STOPPED] = "stopped",
	[SUP_FAILED] = "failed"
};

const char *const sup_reason_names[] = {
	[SUP_NO_REASON] = NULL,
	[SUP_NO_BACKGROUND_WORKER_SLOT] = "no_background_worker_slot",
	[SUP_NO_SLOT] = "no_slot",
	[SUP_RECOVERY] = "recovery",
	[SUP_NO_DATABASE] = "no_database",
	[SUP_DATABASE_NOT_ALLOWED] = "database_not_allowed",
	[SUP_NO_ROLE] = "no_role",
	[SUP_NO_LOGIN] = "no_login",
	[SUP_NO_CONNECTION] = "no_connection",
	[SUP_NO_LIBRARY] = "no_library",
	[SUP_NO_FUNCTION] = "no_function",
	[SUP_FENCED] = "fenced",
	[SUP_DISABLED] = "disabled",
	[SUP_REQUESTED] = "requested",
	[SUP_EXITED] = "exited",
	[SUP_MAX_RESTARTS] = "max_restarts",
	[SUP_NO_HEARTBEAT] = "no_heartbeat",
	[SUP_START_TIMEOUT] = "start_timeout",
	[SUP_STOP_TIMEOUT] = "stop_timeout",
	[SUP_INVALID] = "invalid"
};

const char *const sup_task_state_names[] = {
	[SUP_TASK_FREE] = NULL,
	[SUP_TASK_QUEUED] = "queued",
	[SUP_TASK_RUNNING] = "running",
	[SUP_TASK_SUCCEEDED] = "succeeded",
	[SUP_TASK_FAILED] = "failed",
	[SUP_TASK_CANCELED] = "canceled"
};

const char *const sup_cancel_messages[] = {
	[SUP_CANCEL_REQUEST] = "canceling statement due to user request",
	[SUP_CANCEL_TIMEOUT] = "canceling statement due to timeout of the call",
	[SUP_CANCEL_CALL] = "canceling statement because the call that waited for it has failed",
	[SUP_CANCEL_SESSION] = "canceling statement because its session has ended"
};

/* Gets the event from core at its first use.  Core takes a lock for that. */
uint32
sup_wait_event(SupWaitEvent event)
{
	static const char *const names[SUP_NUM_WAIT_EVENTS] = {
		[SUP_WAIT_MAIN] = "SupervisorMain",
		[SUP_WAIT_UNBOUND] = "SupervisorPoolUnbound",
		[SUP_WAIT_IDLE] = "SupervisorPoolIdle",
		[SUP_WAIT_RESULT_READ] = "SupervisorResultRead",
		[SUP_WAIT_TASK] = "SupervisorTask",
		[SUP_WAIT_JOB] = "SupervisorJob",
		[SUP_WAIT_WORKER] = "SupervisorWorker",
		[SUP_WAIT_FENCE] = "SupervisorFence",
		[SUP_WAIT_DUE] = "SupervisorDue"
	};
	static uint32 events[SUP_NUM_WAIT_EVENTS];

	if (events[event] == 0)
		events[event] = sup_wait_event_new(names[event]);
	return events[event];
}

/*
 * Time
 *
 * The wall clock may be set while the server runs.  Whatever is measured or waited
 * for here goes by another, and is said by the wall clock where people see it.
 */

/*
 * How far the wall clock is ahead of the steady one.  Both are read at one time as
 * far as that is possible: the process may be put aside in between.
 */
static int64
wall_clock_ahead(void)
{
	int64		took = PG_INT64_MAX;
	int64		ahead = 0;

	for (int i = 0; i < 10 && took > 5; i++)
	{
		int64		before = sup_steady_clock();
		TimestampTz wall = GetCurrentTimestamp();
		int64		after = sup_steady_clock();

		if (after - before < took)
		{
			took = after - before;
			ahead = wall - after;	/* so that nothing is later than now */
		}
	}
	return ahead;
}

/* As long as nobody sets the wall clock they are the same. */
TimestampTz
sup_now(void)
{
	return sup_steady_clock() + Sup->clock_base;
}

/* Takes the lock.  What is less than SET_US is no setting of a clock. */
int64
sup_clock_set(void)
{
	int64		by = wall_clock_ahead();

	sup_lock();
	by -= Sup->clock_base;
	if (by > Sup->clock_set + SET_US || by < Sup->clock_set - SET_US)
		Sup->clock_set = by;
	by = Sup->clock_set;
	sup_unlock();
	return by;
}

/* Nothing tells an idle server that its clock was set. */
#define LONGEST_WAIT_US	INT64CONST(60000000)

TimestampTz
sup_wall_to_steady(TimestampTz wall)
{
	TimestampTz now = GetCurrentTimestamp();

	return sup_now() + (wall <= now ? 0 : wall - now < LONGEST_WAIT_US ? wall - now : LONGEST_WAIT_US);
}

/*
 * Start-up
 */

/* Enough that sup_binding_get() never fails. */
int
sup_nbindings(void)
{
	/* each has a task, a drain or a worker */
	return sup_ntasks() + sup_max_workers;
}

/* Disabled ones, and those that find no slot, are shown, too. */
static int
number_of_declarations(void)
{
	return 2 * sup_max_workers + 64;
}

/*
 * Each prepared transaction, and each that a process has just finished and is
 * about to tell of.
 */
static int
number_of_prepared(void)
{
	return max_prepared_xacts > 0 ? max_prepared_xacts + MaxBackends : 0;
}

/* Databases that prepared transactions can have locked: as many as there are locks. */
static int
number_of_locked(void)
{
	if (max_prepared_xacts == 0)
		return 0;
	return Min((int64) max_locks_per_xact * (MaxBackends + max_prepared_xacts), MAX_LOCKED);
}

/* A power of two, as sup_bindings_of() needs. */
static int
number_of_buckets(void)
{
	return pg_nextpower2_32(Max(sup_max_tasks / 4, 64));
}

/* Size of everything; with 'base', also set the pointers into it. */
static Size
lay_out(char *base)
{
	Size		size = MAXALIGN(sizeof(SupShared));

#define PLACE(pointer, count, itemsize) \
	do { \
		if (base != NULL) \
			pointer = (void *) (base + size); \
		size = add_size(size, MAXALIGN(mul_size(count, itemsize))); \
	} while (0)

	PLACE(Sup->slots, sup_nslots(), sizeof(SupSlot));
	PLACE(Sup->declarations, number_of_declarations(), sizeof(SupDeclaration));
	PLACE(Sup->declaration_keys, number_of_declarations(), sizeof(uint32));
	PLACE(Sup->prepared, number_of_prepared(), sizeof(SupPrepared));
	PLACE(Sup->prepared_keys, number_of_prepared(), sizeof(uint32));
	PLACE(Sup->locked, number_of_locked(), sizeof(Oid));
	PLACE(Sup->tasks, sup_ntasks(), sizeof(SupTask));
	PLACE(Sup->task_ids, sup_max_tasks, sizeof(uint64));
	PLACE(Sup->task_places, sup_max_tasks, sizeof(int));
	PLACE(Sup->task_deadlines, sup_max_tasks, sizeof(TimestampTz));
	PLACE(Sup->stuck, sup_nslots(), sizeof(SupStuck));
	PLACE(Sup->bindings, sup_nbindings(), sizeof(SupBinding));
	PLACE(Sup->buckets, number_of_buckets(), sizeof(int));
	PLACE(Sup->sessions, MaxBackends, sizeof(SupSession));
	PLACE(Sup->dsa, (Size) sup_shared_memory, 1024);
#undef PLACE

	return size;
}

/* Called by shmem_request_hook, when the settings are known. */
void
sup_state_request(void)
{
	RequestAddinShmemSpace(lay_out(NULL));
	RequestNamedLWLockTranche("supervisor", 1);
}

/* Initialize what must not be zero in the entries of pools, all free yet. */
static void
init_pools(void)
{
	for (int i = 0; i < SUP_MAX_POOLS; i++)
	{
		SupPool    *pool = &Sup->pools[i];

		dlist_init(&pool->slots);
		dlist_init(&pool->queued);
		dlist_init(&pool->blocked);
		dlist_init(&pool->unbound);
		dlist_init(&pool->idle);
		dlist_init(&pool->overdue);
		pool->review_at = DT_NOEND;
		pool->promised = -1;
	}
}

/* No task, and none of what tasks are grouped by. */
static void
init_tasks(void)
{
	memset(Sup->tasks, 0, sizeof(SupTask) * sup_ntasks());
	Sup->free_drain = sup_max_tasks;
	for (int i = 0; i < sup_ntasks(); i++)
	{
		pg_atomic_init_u32(&Sup->tasks[i].state, SUP_TASK_FREE);
		ConditionVariableInit(&Sup->tasks[i].ended);
		Sup->tasks[i].slot = i + 1 == sup_max_tasks || i + 1 == sup_ntasks() ? -1 : i + 1;
	}
	for (int i = 0; i < sup_max_tasks; i++)
	{
		Sup->task_ids[i] = 0;
		Sup->task_places[i] = -1;
		Sup->task_deadlines[i] = 0;
	}

	memset(Sup->bindings, 0, sizeof(SupBinding) * sup_nbindings());
	for (int i = 0; i < sup_nbindings(); i++)
		Sup->bindings[i].next = i + 1 < sup_nbindings() ? i + 1 : -1;

	Sup->nbuckets = number_of_buckets();
	for (int i = 0; i < Sup->nbuckets; i++)
		Sup->buckets[i] = -1;
}

/*
 * Called by shmem_startup_hook.  The postmaster calls it at its start and
 * after each crash; with EXEC_BACKEND each process does, to attach.
 */
bool
sup_state_init(void)
{
	/* The postmaster's own memory outlives a crash. */
	static int64 last_init = 0;
	static int	crashes = 0;
	static uint64 incarnation = 0;
	bool		found;
	dsa_area   *created;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);

	Sup = ShmemInitStruct("supervisor", lay_out(NULL), &found);
	if (!found)
	{
		memset(Sup, 0, sizeof(SupShared));
		lay_out((char *) Sup);
		Sup->lock = &GetNamedLWLockTranche("supervisor")[0].lock;
		Sup->incarnation = ++incarnation;
		Sup->ncpus = sup_usable_cpus();
		Sup->clock_base = wall_clock_ahead();
		ConditionVariableInit(&Sup->changed);
		pg_atomic_init_u32(&Sup->nspinning, 0);
		dlist_init(&Sup->finished);
		dlist_init(&Sup->past);
		Sup->next_wakeup = DT_NOEND;
		Sup->next_deadline = DT_NOEND;
		dlist_init(&Sup->wanting);

		dlist_init(&Sup->attention);
		dlist_init(&Sup->changed_declarations);
		Sup->load_all = true;

		/* What crashes the server shall leave room for a person to log in. */
		if (last_init != 0)
		{
			SupPolicy	policy = sup_default_policy();

			crashes = sup_steady_clock() - last_init > policy.restart_window ? 1 : crashes + 1;
			Sup->crashes = crashes;
			Sup->library_start_at = sup_now() + sup_policy_delay(&policy, crashes, 0);
		}
		last_init = sup_steady_clock();
		Sup->supervisor_since = sup_now();

		init_pools();

		Sup->ndeclarations = number_of_declarations();
		memset(Sup->declarations, 0, sizeof(SupDeclaration) * Sup->ndeclarations);
		memset(Sup->declaration_keys, 0, sizeof(uint32) * Sup->ndeclarations);

		Sup->nprepared = number_of_prepared();
		memset(Sup->prepared, 0, sizeof(SupPrepared) * Sup->nprepared);
		memset(Sup->prepared_keys, 0, sizeof(uint32) * Sup->nprepared);
		Sup->maxlocked = number_of_locked();

		memset(Sup->slots, 0, sizeof(SupSlot) * sup_nslots());
		for (int i = 0; i < sup_nslots(); i++)
		{
			pg_atomic_init_u32(&Sup->slots[i].task, 0);
			pg_atomic_init_u32(&Sup->slots[i].spinning, 0);
			Sup->slots[i].pool = Sup->slots[i].declaration = -1;
			Sup->slots[i].binding = -1;
			Sup->slots[i].last_exit_code = -1;
		}

		init_tasks();

		memset(Sup->sessions, 0, sizeof(SupSession) * MaxBackends);
		for (int i = 0; i < MaxBackends; i++)
		{
			pg_atomic_init_u32(&Sup->sessions[i].spinning, 0);
			dlist_init(&Sup->sessions[i].tasks);
			dlist_init(&Sup->sessions[i].news);
		}

		/*
		 * The area lives in this piece of memory and may not grow beyond it,
		 * so that it needs no segment, and can be used while a process exits.
		 */
		created = dsa_create_in_place(Sup->dsa, (Size) sup_shared_memory * 1024,
									  Sup->lock->tranche, NULL);
		dsa_pin(created);
		dsa_set_size_limit(created, (Size) sup_shared_memory * 1024);
		dsa_detach(created);
	}

	LWLockRelease(AddinShmemInitLock);
	return !found;
}

/*
 * The area is detached at exit, after exit callbacks that are registered
 * later than this.
 */
dsa_area *
sup_area(void)
{
	if (area == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

		area = dsa_attach_in_place(Sup->dsa, NULL);
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(Sup->dsa));
		MemoryContextSwitchTo(oldcontext);
	}
	return area;
}

/* The pointer and the length are checked: another process has written them. */
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

/* At a pointer that makes no sense it stops, and the rest is not freed. */
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

/*
 * The lock
 */

#define MAX_WAKES 64

/* The lock is held for less time than it takes to go to sleep. */
#define LOCK_TRIES 50

/*
 * Acquire the lock, in exclusive mode.  With more than one processor it
 * spins before it sleeps, as its holder will soon release it.
 */
void
sup_lock(void)
{
	bool		locked = false;

	for (int i = 0; i < LOCK_TRIES && Sup->ncpus > 1 && !locked; i++)
	{
		locked = LWLockConditionalAcquire(Sup->lock, LW_EXCLUSIVE);
		if (!locked)
			SPIN_DELAY();
	}
	if (!locked)
		LWLockAcquire(Sup->lock, LW_EXCLUSIVE);
#ifdef USE_ASSERT_CHECKING

	/*
	 * so that core finds whoever allocates, or raises an error, under the
	 * lock
	 */
	START_CRIT_SECTION();
#endif
}

/*
 * Whom to wake, and the hint to set, once the lock is released.  Nothing that
 * could call us back runs while it is held: see sup_lock().
 */
static PGPROC *wakes[MAX_WAKES];
static int	nwakes = 0;

/* If too many are to be woken, this one is woken at once. */
void
sup_wake(PGPROC *proc)
{
	SUP_ASSERT_LOCKED();
	if (nwakes < MAX_WAKES)
		wakes[nwakes++] = proc;
	else
		SetLatch(&proc->procLatch);
}

static volatile bool *hint_to_set = NULL;

/* Only one hint can wait.  If there is one already, that is set at once. */
void
sup_hint(volatile bool *hint)
{
	SUP_ASSERT_LOCKED();
	if (hint_to_set != NULL)
		*hint_to_set = true;
	hint_to_set = hint;
}

/* Whose sleepers are to be woken then. */
static ConditionVariable *broadcasts[MAX_WAKES];
static int	nbroadcasts = 0;

/* If there are too many, they are woken at once. */
void
sup_broadcast(ConditionVariable *cv)
{
	SUP_ASSERT_LOCKED();
	if (nbroadcasts < MAX_WAKES)
		broadcasts[nbroadcasts++] = cv;
	else
		ConditionVariableBroadcast(cv);
}

/* Sessions that wait for room, by number: woken last, when memory is free. */
static int	rooms[MAX_WAKES];
static int	nrooms = 0;

/* Those that are passed over, since they wait for others, go to the end. */
void
sup_room_made(Oid role)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < MAX_WAKES && nrooms < MAX_WAKES && !dlist_is_empty(&Sup->wanting); i++)
	{
		SupSession *session = dlist_head_element(SupSession, room_node, &Sup->wanting);

		dlist_delete(&session->room_node);
		if (!OidIsValid(session->room_role) || session->room_role == role)
		{
			session->wants_room = false;
			rooms[nrooms++] = (int) (session - Sup->sessions);
			return;
		}
		dlist_push_tail(&Sup->wanting, &session->room_node);
	}
}

/* Once it is on the list it keeps its place there. */
void
sup_want_room(Oid role)
{
	SupSession *session = &Sup->sessions[sup_my_session()];

	sup_lock();
	if (!session->wants_room)
		dlist_push_tail(&Sup->wanting, &session->room_node);
	session->wants_room = true;
	session->room_role = role;
	session->room = false;
	sup_unlock();
}

/* It may have got room, and need none any more. */
void
sup_room_wanted(void)
{
	SupSession *session = &Sup->sessions[sup_my_session()];

	sup_lock();
	if (session->wants_room)
		dlist_delete(&session->room_node);
	else
		sup_room_made(session->room_role);
	session->wants_room = false;
	sup_unlock();
}

/* What is to be freed then. */
static struct
{
	dsa_pointer pointer;
	bool		is_chain;		/* of chunks */
}			frees[SUP_MAX_FREES];
static int	nfrees = 0;

/*
 * Note what sup_unlock() shall free.  The caller sees to it that there are
 * at most SUP_MAX_FREES under one hold of the lock.
 */
static void
free_later(dsa_pointer pointer, bool is_chain)
{
	SUP_ASSERT_LOCKED();
	if (!DsaPointerIsValid(pointer))
		return;
	Assert(nfrees < SUP_MAX_FREES);
	frees[nfrees].pointer = pointer;
	frees[nfrees++].is_chain = is_chain;
}

/* For the command of a task, or the notes of a prepared transaction. */
void
sup_free_later(dsa_pointer pointer)
{
	free_later(pointer, false);
}

/* For the result of a task. */
void
sup_free_chunks_later(dsa_pointer first)
{
	free_later(first, true);
}

/*
 * Release the lock, and do what was put off until then.  What is to be freed
 * comes last: nobody waits for that but who waits for room.
 */
void
sup_unlock(void)
{
#ifdef USE_ASSERT_CHECKING
	END_CRIT_SECTION();
#endif
	LWLockRelease(Sup->lock);
	if (hint_to_set != NULL)
		*hint_to_set = true;
	hint_to_set = NULL;
	while (nwakes > 0)
		SetLatch(&wakes[--nwakes]->procLatch);
	while (nbroadcasts > 0)
		ConditionVariableBroadcast(broadcasts[--nbroadcasts]);
	while (nfrees > 0)
	{
		dsa_pointer pointer = frees[--nfrees].pointer;

		if (frees[nfrees].is_chain)
			sup_free_chunks(pointer);
		else
			dsa_free(sup_area(), pointer);
	}
	while (nrooms > 0)
	{
		int			n = rooms[--nrooms];

		Sup->sessions[n].room = true;
		SetLatch(&ProcGlobal->allProcs[n].procLatch);
	}
}

/*
 * The supervisor
 */

/* Make the supervisor look at the table; the caller holds the lock. */
void
sup_wake_supervisor(void)
{
	SUP_ASSERT_LOCKED();
	if (Sup->supervisor != NULL && Sup->supervisor != MyProc)
		sup_wake(Sup->supervisor);
}

/* Make it look at a slot, a pool or a declaration; the caller holds the lock. */
void
sup_attend(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	if (!slot->attended)
		dlist_push_tail(&Sup->attention, &slot->attention_node);
	slot->attended = true;
	sup_count_coming(slot);
	sup_wake_supervisor();
}

/*
 * The next process of a slot gets no place from this one, if it has ended, or when it
 * ends.
 */
void
sup_give_up_place(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	slot->restartable = slot->keeps_place = false;
	sup_wake_heir(slot);
}

/* It looks again whether it is wanted. */
void
sup_wake_heir(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	if (slot->heir > 0 && slot->heir <= ProcGlobal->allProcCount)
		sup_wake(&ProcGlobal->allProcs[slot->heir - 1]);
	slot->heir = 0;
}

/* There is no list of pools: the supervisor looks at the flag of each. */
void
sup_attend_pool(SupPool *pool)
{
	SUP_ASSERT_LOCKED();
	pool->attended = true;
	sup_wake_supervisor();
}

/* Adds it to the end of the list, unless it is there already. */
void
sup_attend_declaration(SupDeclaration *declaration)
{
	SUP_ASSERT_LOCKED();
	if (!declaration->attended)
		dlist_push_tail(&Sup->changed_declarations, &declaration->attention_node);
	declaration->attended = true;
	sup_wake_supervisor();
}

/* Whoever a slot belongs to is to be looked at, too. */
void
sup_attend_owner(SupSlot *slot)
{
	if (slot->pool >= 0)
		sup_attend_pool(&Sup->pools[slot->pool]);
	if (slot->declaration >= 0)
		sup_attend_declaration(&Sup->declarations[slot->declaration]);
}

/* Make sure that the supervisor looks at the table by that time. */
void
sup_wake_supervisor_by(TimestampTz when)
{
	SUP_ASSERT_LOCKED();
	if (when < Sup->next_wakeup)
	{
		Sup->next_wakeup = when;
		sup_wake_supervisor();
	}
}

/* What a slot says of its process is that one's word: it is looked at before it is used. */
PGPROC *
sup_slot_proc(const SupSlot *slot)
{
	Size		offset = (char *) slot->proc - (char *) ProcGlobal->allProcs;

	SUP_ASSERT_LOCKED();
	if (slot->pid <= 0 || offset % sizeof(PGPROC) != 0 ||
		offset / sizeof(PGPROC) >= ProcGlobal->allProcCount || slot->proc->pid != slot->pid)
		return NULL;
	return slot->proc;
}

/* Once the lock is released. */
void
sup_wake_slot(const SupSlot *slot)
{
	PGPROC	   *proc = sup_slot_proc(slot);

	if (proc != NULL)
		sup_wake(proc);
}

/* Points into shared memory, so the caller copies it under the lock. */
const char *
sup_slot_name(const SupSlot *slot)
{
	if (slot->pool >= 0)
		return Sup->pools[slot->pool].name;
	if (slot->declaration >= 0)
		return Sup->declarations[slot->declaration].name;
	return "loader";
}

/* Whose rights a worker has, as far as it is for others to say; 0: nobody's. */
Oid
sup_slot_role(const SupSlot *slot)
{
	switch (slot->kind)
	{
		case SUP_KIND_POOL:
			return slot->role;
		case SUP_KIND_COMMAND:
			/* of a process that runs, even if its row names another now */
			return OidIsValid(slot->role) ? slot->role :
				Sup->declarations[slot->declaration].program.role;
		default:
			return BOOTSTRAP_SUPERUSERID;
	}
}

/* Does a running command, or a prepared transaction, keep workers out? */
bool
sup_database_fenced(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_FENCES && Sup->nfences > 0; i++)
		if (Sup->fences[i].holder != 0 && Sup->fences[i].database == database)
			return true;
	return Sup->nlocked > 0 &&
		bsearch(&database, Sup->locked, Sup->nlocked, sizeof(Oid), oid_cmp) != NULL;
}

/* Something about a slot has changed: will it be ready without being asked? */
void
sup_count_coming(SupSlot *slot)
{
	bool		coming = false;

	SUP_ASSERT_LOCKED();
	if (slot->pool < 0)
		return;
	if (((slot->state == SUP_STARTING || slot->registering) && slot->ready_at == 0) ||
		(slot->state == SUP_WAITING && slot->reason == SUP_NO_REASON))
		coming = !slot->surplus;
	else if (slot->state == SUP_STARTING || slot->registering || slot->state == SUP_RUNNING ||
			 (slot->state == SUP_STOPPING && slot->exited_at != 0))
		coming = !slot->surplus && !slot->lingers && (slot->exited_at != 0 || slot->leaving_since != 0);
	if (coming != slot->coming)
		Sup->pools[slot->pool].ncoming += coming ? 1 : -1;
	slot->coming = coming;
}

/* Counters only: when something was last so, and what policy needs, stays. */
void
sup_clear_slot_stats(SupSlot *slot, TimestampTz now)
{
	slot->tasks_succeeded = slot->tasks_failed = slot->tasks_canceled = 0;
	slot->runs_succeeded = slot->runs_failed = slot->restarts = 0;
	slot->stats_since = now;
}

/* Its queued tasks are no counter. */
void
sup_clear_pool_stats(SupPool *pool, TimestampTz now)
{
	pool->tasks_succeeded = pool->tasks_failed = pool->tasks_canceled = 0;
	pool->jobs_succeeded = pool->jobs_failed = 0;
	pool->stats_since = now;
}

/* Such a process must not wait for tasks: see sup_task_check_submitter(). */
bool
sup_in_pool_worker(void)
{
	return SupMySlot != NULL && SupMySlot->kind == SUP_KIND_POOL;
}
