/*-------------------------------------------------------------------------
 *
 * state.c
 *	  The shared memory of supervisor, and the rules by which a task finds
 *	  a worker.
 *
 * A task is given to a worker by whoever makes the match possible: the
 * session that submits it, the worker that ends another, a new worker that
 * became ready, a worker's exit, the end of a fence.  The supervisor process
 * is not on that path.
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

/*
 * A worker leaves for a binding that has waited so long without getting ahead;
 * for one that has about as many workers as its own, so long.
 */
#define STARVATION_US	(100 * 1000)
#define STARVATION_AT_PAR_US	(1000 * 1000)

/* In a pool, not more often than that, however many wait. */
#define MAKE_ROOM_US	(20 * 1000)

/*
 * An end of a worker that its role has caused counts for so long.  A role is
 * held back while its ends sum up to more than the second; for no longer than
 * the third, since they may have been somebody else's idea.
 */
#define END_COUNTS_US	INT64CONST(1000000)
#define ENDS_ALLOWED_US	(5 * END_COUNTS_US)
#define LONGEST_HOLD_US	(10 * END_COUNTS_US)

/*
 * A login may take so long while others wait.  Those to databases where one had
 * to be given up together take that part of a pool, and one worker at least.
 */
#define LOGIN_ALLOWED_US	INT64CONST(1000000)
#define SLOW_PART	4

/* How many bindings are moved under one hold of the lock. */
#define MOVES_PER_LOCK	64

/* Of the ring of events, what a role can fill at others' cost. */
#define EVENTS_OF_ROLE	(SUP_EVENTS / 10)

/* More databases that are locked by prepared transactions are not known. */
#define MAX_LOCKED	65536

/* A database for which a session waits is read no more often. */
#define AWAITED_US	(25 * 1000)

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

uint32
sup_wait_event(SupWaitEvent event)
{
	static const char *const names[SUP_NUM_WAIT_EVENTS] = {
		[SUP_WAIT_MAIN] = "SupervisorMain",
		[SUP_WAIT_UNBOUND] = "SupervisorPoolUnbound",
		[SUP_WAIT_IDLE] = "SupervisorPoolIdle",
		[SUP_WAIT_RESULT_READ] = "SupervisorResultRead",
		[SUP_WAIT_TASK] = "SupervisorTask",
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
 * Start-up
 */

static int
number_of_bindings(void)
{
	/* each has a task or a worker */
	return sup_max_tasks + sup_max_workers;
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
	PLACE(Sup->tasks, sup_max_tasks, sizeof(SupTask));
	PLACE(Sup->task_ids, sup_max_tasks, sizeof(uint64));
	PLACE(Sup->bindings, number_of_bindings(), sizeof(SupBinding));
	PLACE(Sup->buckets, number_of_buckets(), sizeof(int));
	PLACE(Sup->sessions, MaxBackends, sizeof(SupSession));
	PLACE(Sup->dsa, (Size) sup_shared_memory, 1024);
#undef PLACE

	return size;
}

void
sup_state_request(void)
{
	RequestAddinShmemSpace(lay_out(NULL));
	RequestNamedLWLockTranche("supervisor", 1);
}

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

bool
sup_state_init(void)
{
	/* The postmaster's own memory outlives a crash. */
	static TimestampTz last_init = 0;
	static int	crashes = 0;
	bool		found;
	dsa_area   *created;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);

	Sup = ShmemInitStruct("supervisor", lay_out(NULL), &found);
	if (!found)
	{
		memset(Sup, 0, sizeof(SupShared));
		lay_out((char *) Sup);
		Sup->lock = &GetNamedLWLockTranche("supervisor")[0].lock;
		Sup->tranche = Sup->lock->tranche;
		Sup->ncpus = sup_usable_cpus();
		Sup->nsessions = MaxBackends;
		ConditionVariableInit(&Sup->changed);
		pg_atomic_init_u32(&Sup->nspinning, 0);
		dlist_init(&Sup->finished);
		Sup->next_wakeup = DT_NOEND;

		dlist_init(&Sup->attention);
		dlist_init(&Sup->changed_declarations);
		Sup->load_all = true;

		/* What crashes the server shall leave room for a person to log in. */
		if (last_init != 0)
		{
			TimestampTz now = GetCurrentTimestamp();
			SupPolicy	policy = sup_default_policy();

			crashes = now - last_init > policy.restart_window ? 1 : crashes + 1;
			Sup->crashes = crashes;
			Sup->library_start_at = now + sup_policy_delay(&policy, crashes, 0);
		}
		last_init = GetCurrentTimestamp();

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

		memset(Sup->tasks, 0, sizeof(SupTask) * sup_max_tasks);
		for (int i = 0; i < sup_max_tasks; i++)
		{
			pg_atomic_init_u32(&Sup->tasks[i].state, SUP_TASK_FREE);
			Sup->tasks[i].slot = i + 1 < sup_max_tasks ? i + 1 : -1;
			Sup->task_ids[i] = 0;
		}

		memset(Sup->bindings, 0, sizeof(SupBinding) * number_of_bindings());
		for (int i = 0; i < number_of_bindings(); i++)
			Sup->bindings[i].next = i + 1 < number_of_bindings() ? i + 1 : -1;

		Sup->nbuckets = number_of_buckets();
		for (int i = 0; i < Sup->nbuckets; i++)
			Sup->buckets[i] = -1;

		memset(Sup->sessions, 0, sizeof(SupSession) * Sup->nsessions);
		for (int i = 0; i < Sup->nsessions; i++)
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
									  Sup->tranche, NULL);
		dsa_pin(created);
		dsa_set_size_limit(created, (Size) sup_shared_memory * 1024);
		dsa_detach(created);
	}

	LWLockRelease(AddinShmemInitLock);
	return !found;
}

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

/*
 * The lock
 */

#define MAX_WAKES 64

/* The lock is held for less time than it takes to go to sleep. */
#define LOCK_TRIES 50

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
	/* so that core finds whoever allocates, or raises an error, under the lock */
	START_CRIT_SECTION();
#endif
}

/*
 * Whom to wake, and the hint to set, once the lock is released.  Nothing that
 * could call us back runs while it is held: see sup_lock().
 */
static PGPROC *wakes[MAX_WAKES];
static int	nwakes = 0;

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

void
sup_hint(volatile bool *hint)
{
	SUP_ASSERT_LOCKED();
	if (hint_to_set != NULL)
		*hint_to_set = true;
	hint_to_set = hint;
}

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

void
sup_attend_pool(SupPool *pool)
{
	SUP_ASSERT_LOCKED();
	pool->attended = true;
	sup_wake_supervisor();
}

void
sup_attend_declaration(SupDeclaration *declaration)
{
	SUP_ASSERT_LOCKED();
	if (!declaration->attended)
		dlist_push_tail(&Sup->changed_declarations, &declaration->attention_node);
	declaration->attended = true;
	sup_wake_supervisor();
}

/*
 * Databases to be read.  The caller holds the lock.
 */

/* The entry of a database; NULL: it has none. */
SupLoad *
sup_load_of(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_LOADS; i++)
		if (Sup->loads[i].database == database)
			return &Sup->loads[i];
	return NULL;
}

/* The same, or a new one: a free one, or one that nobody has asked for since; NULL: no room. */
SupLoad *
sup_load_get(Oid database)
{
	SupLoad    *load = sup_load_of(database);

	if (load != NULL)
		return load;
	load = sup_load_of(InvalidOid);
	for (int i = 0; i < SUP_LOADS && (load == NULL || OidIsValid(load->database)); i++)
	{
		SupLoad    *l = &Sup->loads[i];

		if (l->due == DT_NOEND && l->database != Sup->loading &&
			(load == NULL || l->began < load->began))
			load = l;
	}
	if (load != NULL)
	{
		memset(load, 0, sizeof(SupLoad));
		load->database = database;
		load->due = DT_NOEND;
	}
	return load;
}

/*
 * Have the declarations of a database read.  The first request after a while is
 * served at once, the others at intervals that grow.
 */
void
sup_request_load(Oid database)
{
	SupLoad    *load = sup_load_get(database);
	TimestampTz now = GetCurrentTimestamp();

	if (load == NULL)
		Sup->load_all = true;
	else
	{
		load->requested = ++Sup->last_request;
		if (now >= load->began + load->interval)
			load->interval = 0;

		/* Asked for again, it keeps its place; and what failed slowly holds up others. */
		if (load->due == DT_NOEND || (load->failures > 0 && !load->slow))
			load->due = Min(load->due, Max(now, load->began + load->interval));
	}
	sup_wake_supervisor();
}

/*
 * Somebody waits for what has been asked for: by then, see sup_load_done(), it
 * will be read.
 */
uint64
sup_await_load(Oid database)
{
	SupLoad    *load = sup_load_of(database);

	if (load == NULL)
		return 0;
	if (load->due != DT_NOEND)
	{
		load->awaited = true;
		load->due = Min(load->due, Max(GetCurrentTimestamp(), load->began + AWAITED_US));
		sup_wake_supervisor();
	}
	/* What is being read now may have been asked for by nobody. */
	return Max(load->requested, load->reading);
}

/* Has it been read since, or is it in vain to wait for that? */
bool
sup_load_done(Oid database, uint64 request)
{
	SupLoad    *load = sup_load_of(database);

	if (load == NULL)
		return Sup->loading != database;
	return load->read >= request || load->failures > 0;
}

/*
 * Prepared transactions.  The caller holds the lock.
 */

static uint32
prepared_key(const char *gid)
{
	uint32		key = hash_bytes((const unsigned char *) gid, strlen(gid));

	return key != 0 ? key : 1;
}

/*
 * An entry for a transaction that is about to be prepared: a copy of this one; -1:
 * there are no prepared transactions.  If all are in use, the oldest is of one that
 * somebody has finished without us, and the caller frees what it held.
 */
int
sup_prepared_add(const SupPrepared *prepared, dsa_pointer *garbage)
{
	SupPrepared *p = NULL;

	SUP_ASSERT_LOCKED();
	*garbage = InvalidDsaPointer;
	for (int i = 0; i < Sup->nprepared && p == NULL; i++)
		if (Sup->prepared_keys[i] == 0)
			p = &Sup->prepared[i];
	if (p == NULL && Sup->nprepared > 0)
	{
		p = &Sup->prepared[0];
		for (int i = 1; i < Sup->nprepared; i++)
			if (Sup->prepared[i].number < p->number)
				p = &Sup->prepared[i];
		*garbage = p->notes;
		sup_prepared_free(p);
	}
	if (p == NULL)
		return -1;
	*p = *prepared;
	p->number = ++Sup->last_prepared;
	Sup->prepared_keys[p - Sup->prepared] = prepared_key(p->gid);
	Sup->prepared_held += p->held;
	if (!p->named)
		Sup->nameless++;
	return (int) (p - Sup->prepared);
}

int
sup_prepared_next(const char *gid, int after)
{
	uint32		key = prepared_key(gid);
	int			next = -1;

	sup_lock();
	for (int i = after + 1; i < Sup->nprepared && next < 0; i++)
		if (Sup->prepared_keys[i] == key && Sup->prepared[i].prepared && Sup->prepared[i].named &&
			strcmp(Sup->prepared[i].gid, gid) == 0)
			next = i;
	sup_unlock();
	return next;
}

void
sup_prepared_free(SupPrepared *prepared)
{
	SUP_ASSERT_LOCKED();
	Sup->prepared_keys[prepared - Sup->prepared] = 0;
	Sup->prepared_held -= prepared->held;
	if (!prepared->named)
		Sup->nameless--;
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

/*
 * Where in the ring an event goes that counts for a role.  As long as there is
 * room, there.  A role that has more than its share overwrites its own oldest;
 * others overwrite those of such roles first.
 */
static int
place_for_event(Oid cause)
{
	/* by hash, so that two may be counted as one: that is no harm */
	uint16		counts[2048] = {0};
	int			oldest = 0;
	int			oldest_own = -1;
	int			oldest_beyond = -1;

#define COUNT_OF(role) counts[murmurhash32(role) % lengthof(counts)]
	if (Sup->last_event_id < SUP_EVENTS)
		return (int) Sup->last_event_id;
	for (int i = 0; i < SUP_EVENTS; i++)
		if (OidIsValid(Sup->event_keys[i].cause))
			COUNT_OF(Sup->event_keys[i].cause)++;
	for (int i = 0; i < SUP_EVENTS; i++)
	{
		const SupEventKey *key = &Sup->event_keys[i];

		if (key->id < Sup->event_keys[oldest].id)
			oldest = i;
		if (!OidIsValid(key->cause) || COUNT_OF(key->cause) < EVENTS_OF_ROLE)
			continue;
		if (key->cause == cause &&
			(oldest_own < 0 || key->id < Sup->event_keys[oldest_own].id))
			oldest_own = i;
		if (COUNT_OF(key->cause) > EVENTS_OF_ROLE &&
			(oldest_beyond < 0 || key->id < Sup->event_keys[oldest_beyond].id))
			oldest_beyond = i;
	}
#undef COUNT_OF
	return oldest_own >= 0 ? oldest_own : oldest_beyond >= 0 ? oldest_beyond : oldest;
}

/* Add to the ring of events.  'slot' may be NULL; the caller holds the lock. */
void
sup_add_event(const SupSlot *slot, const char *event, const char *detail)
{
	Oid			cause = InvalidOid;
	int			place;
	SupEvent   *e;

	SUP_ASSERT_LOCKED();

	/* What takes the place of a process that a role had counts for that role. */
	if (slot != NULL)
		cause = slot->kind == SUP_KIND_POOL && !OidIsValid(slot->role) ? slot->last_role :
			sup_slot_role(slot);
	place = place_for_event(cause);
	e = &Sup->events[place];
	e->id = ++Sup->last_event_id;
	Sup->event_keys[place].id = e->id;
	Sup->event_keys[place].cause = cause;
	e->at = GetCurrentTimestamp();
	e->slot = slot ? sup_slot_index(slot) : -1;
	e->generation = slot ? slot->generation : 0;
	/* one that is about to start has none yet, even if it has been quick */
	if (slot == NULL || slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		e->pid = 0;
	else
		e->pid = slot->exited ? slot->exited_pid : slot->pid;

	/*
	 * an exited worker has no role any more, but its last words are that
	 * role's
	 */
	e->role = slot == NULL ? InvalidOid : slot->exited ? slot->last_role :
		slot->kind == SUP_KIND_POOL ? slot->role : sup_slot_role(slot);
	strlcpy(e->name, slot ? sup_slot_name(slot) : "", sizeof(e->name));
	strlcpy(e->event, event, sizeof(e->event));
	strlcpy(e->detail, detail ? detail : "", sizeof(e->detail));
}

/*
 * Declarations.  The caller holds the lock.
 */

static uint32
declaration_key(Oid database, const char *name)
{
	uint32		key = hash_combine(murmurhash32(database),
								   hash_bytes((const unsigned char *) name, strlen(name)));

	return key != 0 ? key : 1;
}

SupDeclaration *
sup_declaration_find(Oid database, const char *name)
{
	uint32		key = declaration_key(database, name);

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] == key &&
			Sup->declarations[i].database == database &&
			strcmp(Sup->declarations[i].name, name) == 0)
			return &Sup->declarations[i];
	return NULL;
}

/* NULL: it is gone. */
SupDeclaration *
sup_declaration_by_id(uint64 id)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] != 0 && Sup->declarations[i].id == id)
			return &Sup->declarations[i];
	return NULL;
}

/* Take an entry for one that is not there yet; NULL: there is no room. */
SupDeclaration *
sup_declaration_add(Oid database, const char *name)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] == 0)
		{
			SupDeclaration *d = &Sup->declarations[i];

			memset(d, 0, sizeof(SupDeclaration));
			Sup->declaration_keys[i] = declaration_key(database, name);
			d->id = ++Sup->last_declaration_id;
			d->database = database;
			strlcpy(d->name, name, NAMEDATALEN);
			dlist_init(&d->slots);
			return d;
		}
	return NULL;
}

void
sup_declaration_free(SupDeclaration *declaration)
{
	SUP_ASSERT_LOCKED();
	Assert(dlist_is_empty(&declaration->slots));
	if (declaration->attended)
		dlist_delete(&declaration->attention_node);
	declaration->attended = false;
	declaration->name[0] = '\0';
	Sup->declaration_keys[declaration - Sup->declarations] = 0;
}

/* Forget a database's declarations. */
void
sup_forget_database(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
	{
		SupDeclaration *d = &Sup->declarations[i];

		if (Sup->declaration_keys[i] != 0 && d->database == database && OidIsValid(database))
		{
			d->gone = true;
			sup_attend_declaration(d);
		}
	}
}

/*
 * Pools and bindings.  The caller holds the lock.
 */

SupPool *
sup_pool_by_name(const char *name)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].name[0] != '\0' && strcmp(Sup->pools[i].name, name) == 0)
			return &Sup->pools[i];
	return NULL;
}

/* Has the pool a binding?  Then its entry can't be given to another. */
bool
sup_pool_in_use(int pool)
{
	SUP_ASSERT_LOCKED();
	return Sup->pools[pool].nbindings > 0;
}

static int *
bucket_of(Oid role)
{
	/* By role alone, so that one chain has all tasks of a role. */
	return &Sup->buckets[murmurhash32(role) & (Sup->nbuckets - 1)];
}

SupBinding *
sup_binding_find(int pool, Oid database, Oid role)
{
	SUP_ASSERT_LOCKED();
	for (int i = *bucket_of(role); i >= 0; i = Sup->bindings[i].next)
	{
		SupBinding *b = &Sup->bindings[i];

		if (b->pool == pool && b->database == database && b->role == role)
			return b;
	}
	return NULL;
}

/* Find or make a binding.  There is always room for one. */
SupBinding *
sup_binding_get(int pool, Oid database, Oid role)
{
	SupBinding *b = sup_binding_find(pool, database, role);
	int		   *bucket;
	int			i;

	if (b != NULL)
		return b;

	i = Sup->free_binding;
	Assert(i >= 0);
	b = &Sup->bindings[i];
	Sup->free_binding = b->next;
	memset(b, 0, sizeof(SupBinding));
	b->pool = pool;
	b->database = database;
	b->role = role;
	b->held_until = sup_role_held_until(role, database);
	Sup->pools[pool].nbindings++;
	dlist_init(&b->queue);
	dlist_init(&b->idle);
	bucket = bucket_of(role);
	b->next = *bucket;
	*bucket = i;
	return b;
}

/* Give a binding back if it has neither task nor worker any more. */
void
sup_binding_drop(SupBinding *binding)
{
	int			i = (int) (binding - Sup->bindings);
	int		   *link;

	SUP_ASSERT_LOCKED();
	if (binding->ntasks > 0 || binding->nworkers > 0)
		return;
	Assert(binding->place == SUP_NOWHERE);
	for (link = bucket_of(binding->role); *link != i; link = &Sup->bindings[*link].next)
		 /* there it is */ ;
	*link = binding->next;
	binding->next = Sup->free_binding;
	Sup->free_binding = i;
	Sup->pools[binding->pool].nbindings--;
	if (Sup->pools[binding->pool].promised == i)
		Sup->pools[binding->pool].promised = -1;

	/* Its entry may be free now. */
	if (Sup->pools[binding->pool].removed)
		sup_attend_pool(&Sup->pools[binding->pool]);
}

/* How many tasks a role has, over all databases and pools. */
int
sup_role_tasks(Oid role)
{
	int			n = 0;

	SUP_ASSERT_LOCKED();
	for (int i = *bucket_of(role); i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role)
			n += Sup->bindings[i].ntasks;
	return n;
}

/* How much of the area the tasks and prepared transactions of a role hold. */
Size
sup_role_held(Oid role)
{
	Size		held = 0;

	SUP_ASSERT_LOCKED();
	for (int i = *bucket_of(role); i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role)
			held += Sup->bindings[i].held;
	for (int i = 0; i < Sup->nprepared && Sup->prepared_held > 0; i++)
		if (Sup->prepared_keys[i] != 0 && Sup->prepared[i].role == role)
			held += Sup->prepared[i].held;
	return held;
}

/*
 * Roles that end workers.  A successor is a fork and, with the next task, a
 * login: so who ends them one after the other, by a task or because his login
 * fails, has his tasks wait.
 */

/* Until when a role is held back in a database; it may be past. */
TimestampTz
sup_role_held_until(Oid role, Oid database)
{
	TimestampTz debt = ENDS_ALLOWED_US;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_DEBTORS; i++)
		if (Sup->debtors[i].role == role &&
			(!OidIsValid(Sup->debtors[i].database) || Sup->debtors[i].database == database))
			debt = Max(debt, Sup->debtors[i].debt);
	return debt - ENDS_ALLOWED_US;
}

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

/*
 * Slow databases.  A login takes no cancel, and hangs if its database's owner
 * likes: so one that has taken long is given up where another database waits,
 * and the next one may take twice as long.  What is slow for good reasons gets
 * there in the end.
 */

/* NULL: it is not known to be slow. */
static SupSlow *
slow_of(int pool, Oid database)
{
	for (int i = 0; i < SUP_SLOW && Sup->nslow > 0; i++)
		if (Sup->slow[i].database == database && Sup->slow[i].pool == pool)
			return &Sup->slow[i];
	return NULL;
}

/* The same, or a new entry: a free one, or the least slow; NULL: all are in use. */
static SupSlow *
slow_get(int pool, Oid database)
{
	SupSlow    *slow = slow_of(pool, database);

	if (slow != NULL)
		return slow;
	for (int i = 0; i < SUP_SLOW && (slow == NULL || OidIsValid(slow->database)); i++)
	{
		SupSlow    *s = &Sup->slow[i];

		if (!OidIsValid(s->database) ||
			(s->logins == 0 && (slow == NULL || s->allowed < slow->allowed)))
			slow = s;
	}
	if (slow == NULL)
		return NULL;
	Sup->nslow += !OidIsValid(slow->database);
	memset(slow, 0, sizeof(SupSlow));
	slow->database = database;
	slow->pool = pool;
	slow->allowed = LOGIN_ALLOWED_US;
	return slow;
}

static void
count_slow(SupSlot *slot, SupSlow *slow)
{
	slot->slow = slow;
	if (slow == NULL)
		return;
	slow->logins++;
	Sup->pools[slot->pool].nslow++;
}

/* As many logins to slow databases as the pool has room for? */
static bool
slow_are_full(const SupPool *pool)
{
	return pool->nslow >= Max(pool->size / SLOW_PART, 1);
}

static inline bool
is_slow_held(const SupSlow *slow, TimestampTz now)
{
	/* beyond that it is of a clock that has been put back */
	return slow->held_until > now && slow->held_until <= now + slow->allowed;
}

/* Its worker has been given a task, for which it will have to log in. */
void
sup_login_expect(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	count_slow(slot, slow_of(slot->pool, slot->database));
	slot->allowed = Max(slot->slow != NULL ? slot->slow->allowed : 0, LOGIN_ALLOWED_US);
}

/* It lasts longer than is allowed: the database is slow. */
void
sup_login_mark(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	if (slot->slow == NULL)
		count_slow(slot, slow_get(slot->pool, slot->database));
}

/* It begins. */
void
sup_login_begin(SupSlot *slot, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	slot->begun = true;
	slot->phase = SUP_PHASE_CONNECT;
	slot->overdue_at = now + slot->allowed;
	if (sup_start_timeout > 0)
		slot->login_until = TimestampTzPlusMilliseconds(now, sup_start_timeout);
	sup_attend(slot);
}

/* A login lasts longer than is allowed: it is given up if another needs its worker. */
void
sup_login_overdue(SupSlot *slot, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	Assert(!slot->listed);
	slot->overdue_at = DT_NOEND;
	sup_login_mark(slot);
	dlist_push_tail(&Sup->pools[slot->pool].overdue, &slot->pool_node);
	slot->overdue = true;
	sup_dispatch(slot->pool, now);
}

/*
 * A login has succeeded, as the slot's phase says, or is given up.  Much quicker
 * than it might have been, it makes the database less slow, and not at once as
 * quick as any: its owner may let one through to have many hang.
 */
void
sup_login_over(SupSlot *slot)
{
	SupSlow    *slow = slot->slow;
	SupPool    *pool;
	TimestampTz now = GetCurrentTimestamp();
	bool		late = slot->overdue || slot->overdue_at <= now;
	int64		longest = sup_start_timeout > 0 ? sup_start_timeout * INT64CONST(1000) : PG_INT64_MAX;

	SUP_ASSERT_LOCKED();
	slot->login_until = slot->overdue_at = DT_NOEND;
	if (slot->overdue)
		dlist_delete(&slot->pool_node);
	slot->overdue = false;
	if (slow == NULL)
		return;

	pool = &Sup->pools[slot->pool];
	slot->slow = NULL;
	slow->logins--;
	pool->nslow--;
	pool->slow_waits = false;
	if (slot->phase == SUP_PHASE_RUN)
	{
		slow->held_until = 0;
		if (now - slot->given_at < slot->allowed / 2)
			slow->allowed /= 2;
	}
	else if (late)
	{
		slow->allowed = Max(slow->allowed, Min(2 * slot->allowed, longest));
		/* Others first, and where it takes all there is, for as long. */
		slow->held_until = now + (pool->size > 1 ? LOGIN_ALLOWED_US : slot->allowed);
	}
	if (slow->logins == 0 && slow->allowed <= LOGIN_ALLOWED_US)
	{
		slow->database = InvalidOid;
		Sup->nslow--;
	}
	if (pool->nblocked > 0)
		sup_attend_pool(pool);
}

static inline bool
is_held(const SupBinding *b, TimestampTz now)
{
	/* beyond that it is of a clock that has been put back */
	return b->held_until > now && b->held_until <= now + LONGEST_HOLD_US;
}

/* Shall nobody serve it now? */
static bool
is_blocked(const SupBinding *b, TimestampTz now)
{
	return is_held(b, now) || sup_database_fenced(b->database);
}

/* Shall at least nobody log in for it? */
static bool
is_closed(const SupBinding *b, TimestampTz now)
{
	const SupSlow *slow = slow_of(b->pool, b->database);

	return is_blocked(b, now) ||
		(slow != NULL &&
		 (slow->logins > 0 || slow_are_full(&Sup->pools[b->pool]) || is_slow_held(slow, now)));
}

/* Put a binding at the end of a list of its pool. */
static void
place_binding(SupBinding *b, SupPlace place, TimestampTz now)
{
	SupPool    *pool = &Sup->pools[b->pool];

	if (b->place != SUP_NOWHERE)
		dlist_delete(&b->node);
	if (b->place == SUP_BLOCKED)
	{
		pool->nblocked--;
		pool->nqueued_blocked -= b->nqueued;
	}
	b->place = place;
	if (place == SUP_QUEUED)
	{
		dlist_push_tail(&pool->queued, &b->node);
		b->waiting_since = now;
	}
	else if (place == SUP_BLOCKED)
	{
		const SupSlow *slow = slow_of(b->pool, b->database);
		TimestampTz until = is_held(b, now) ? b->held_until : 0;

		dlist_push_tail(&pool->blocked, &b->node);
		pool->nblocked++;
		pool->nqueued_blocked += b->nqueued;
		if (slow != NULL && is_slow_held(slow, now))
			until = Max(until, slow->held_until);
		else if (slow != NULL && slow->logins == 0 && slow_are_full(pool))
			pool->slow_waits = true;
		if (until != 0)
		{
			pool->review_at = Min(pool->review_at, until);
			sup_wake_supervisor_by(until);
		}
	}
}

/*
 * A worker has ended, and that was the doing of its role; or of whoever owns the
 * database, for which the role shall not have to wait elsewhere: then it counts
 * there alone.
 */
void
sup_role_ended_worker(Oid role, Oid database, TimestampTz now)
{
	SupDebtor  *debtor = &Sup->debtors[0];

#define IS_DEBTOR(d) ((d)->role == role && (d)->database == database)
	SUP_ASSERT_LOCKED();

	/* Those that are free, or owe nothing any more, owe least. */
	for (int i = 0; i < SUP_DEBTORS && !IS_DEBTOR(debtor); i++)
		if (IS_DEBTOR(&Sup->debtors[i]) || Sup->debtors[i].debt < debtor->debt)
			debtor = &Sup->debtors[i];
	if (!IS_DEBTOR(debtor))
		debtor->debt = 0;
#undef IS_DEBTOR
	debtor->role = role;
	debtor->database = database;
	debtor->debt = Min(Max(debtor->debt, now) + END_COUNTS_US,
					   now + ENDS_ALLOWED_US + LONGEST_HOLD_US);

	for (int i = *bucket_of(role); i >= 0; i = Sup->bindings[i].next)
	{
		SupBinding *b = &Sup->bindings[i];

		if (b->role != role || (OidIsValid(database) && b->database != database))
			continue;
		b->held_until = Max(b->held_until, debtor->debt - ENDS_ALLOWED_US);
		if (b->place == SUP_QUEUED && is_held(b, now))
			place_binding(b, SUP_BLOCKED, now);
	}
}

/*
 * Queues
 */

static void
count_queued(SupBinding *b, int change, TimestampTz now)
{
	SupPool    *pool = &Sup->pools[b->pool];

	b->nqueued += change;
	pool->nqueued += change;
	if (b->place == SUP_BLOCKED)
		pool->nqueued_blocked += change;
	if (b->nqueued == 0)
		place_binding(b, SUP_NOWHERE, now);
	else if (b->place == SUP_NOWHERE)
		place_binding(b, is_closed(b, now) ? SUP_BLOCKED : SUP_QUEUED, now);
}

/* Queue a task before the others of its binding: it was taken and not begun. */
void
sup_queue_push_front(SupTask *task, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[task->binding];

	SUP_ASSERT_LOCKED();
	pg_atomic_write_u32(&task->state, SUP_TASK_QUEUED);
	dlist_push_head(&b->queue, &task->node);
	count_queued(b, 1, now);
}

void
sup_queue_remove(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	dlist_delete(&task->node);
	count_queued(&Sup->bindings[task->binding], -1, 0);
}

SupTask *
sup_take_back(SupSlot *slot)
{
	SupTask    *task = &Sup->tasks[pg_atomic_read_u32(&slot->task) - 1];

	SUP_ASSERT_LOCKED();
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	task->slot = -1;
	task->started_at = 0;
	return task;
}

/* Take the next task, of a binding that is not blocked. */
static SupTask *
pop_task(SupBinding *b, TimestampTz now)
{
	SupTask    *task = dlist_container(SupTask, node, dlist_pop_head_node(&b->queue));

	count_queued(b, -1, now);
	if (b->nqueued > 0)
		place_binding(b, SUP_QUEUED, now);	/* next time it is another's turn */
	return task;
}

/*
 * Matching.  The caller holds the lock.
 */

/*
 * The binding that has waited longest for a worker; NULL: none waits.  Those
 * that have been closed meanwhile are moved out of the way, each once.
 */
static SupBinding *
oldest_waiting(SupPool *pool, TimestampTz now)
{
	for (int i = 0; i < MOVES_PER_LOCK && !dlist_is_empty(&pool->queued); i++)
	{
		SupBinding *b = dlist_head_element(SupBinding, node, &pool->queued);

		if (!is_closed(b, now))
			return b;
		place_binding(b, SUP_BLOCKED, now);
	}
	if (!dlist_is_empty(&pool->queued))
		sup_attend_pool(pool);	/* it goes on from here */
	return NULL;
}

/*
 * The binding that a worker without one should serve: of those that have
 * fewest workers, since who has many has waited long more easily.  'oldest'
 * waits; there are no more that have a worker than there are workers.
 */
static SupBinding *
binding_to_serve(SupPool *pool, SupBinding *oldest, TimestampTz now)
{
	SupBinding *best = oldest;
	int			moved = 0;
	dlist_mutable_iter iter;

	if (pool->promised >= 0)
	{
		SupBinding *b = &Sup->bindings[pool->promised];

		pool->promised = -1;
		if (b->place == SUP_QUEUED && !is_closed(b, now))
			return b;
	}
	dlist_foreach_modify(iter, &pool->queued)
	{
		SupBinding *b = dlist_container(SupBinding, node, iter.cur);

		if (best->nworkers == 0 || moved == MOVES_PER_LOCK)
			break;
		if (b->nworkers >= best->nworkers)
			continue;
		if (is_closed(b, now))
		{
			place_binding(b, SUP_BLOCKED, now);
			moved++;
		}
		else
			best = b;
	}
	return best;
}

/* Queued tasks that could be run now. */
static inline int
servable(const SupPool *pool)
{
	return pool->nqueued - pool->nqueued_blocked;
}

/* Something about a slot has changed: will it be ready without being asked? */
void
sup_count_coming(SupSlot *slot)
{
	bool		coming = false;

	SUP_ASSERT_LOCKED();
	if (slot->pool < 0)
		return;
	if ((slot->state == SUP_STARTING && !slot->ready) ||
		(slot->state == SUP_WAITING && slot->reason == SUP_NO_REASON))
		coming = !slot->surplus;
	else if (slot->state == SUP_STARTING || slot->state == SUP_RUNNING ||
			 (slot->state == SUP_STOPPING && slot->exited))
		coming = !slot->surplus && (slot->leaving || slot->exited);
	if (coming != slot->coming)
		Sup->pools[slot->pool].ncoming += coming ? 1 : -1;
	slot->coming = coming;
}

/*
 * Shall a worker of that binding leave for others that wait too long?  Not if
 * as many as these are already on their way.
 *
 * Who has no worker, or would still have fewer with this one, waits not for
 * long.  Who has about as many waits longer; and if it has several, as long
 * again as its tasks have run: with long ones it gets ahead seldom, and must
 * not come to have all workers by that.  It is promised the next worker, as
 * others may have fewer then.  Who has more has his share.  There are no more
 * of these than workers, so that not many are looked at.
 */
static bool
others_starve(SupPool *pool, const SupBinding *mine, TimestampTz now)
{
	int			starving = 0;
	int			moved = 0;
	bool		older = true;
	dlist_mutable_iter iter;

	if (now >= pool->made_room_at && now - pool->made_room_at < MAKE_ROOM_US)
		return false;
	dlist_foreach_modify(iter, &pool->queued)
	{
		SupBinding *b = dlist_container(SupBinding, node, iter.cur);
		int64		waited = now - b->waiting_since;
		bool		starves = b->nworkers == 0 || b->nworkers < mine->nworkers - 1;
		bool		at_par;

		if (waited <= STARVATION_US)
			break;
		if (b == mine)
			older = false;
		if (b == mine || !dlist_is_empty(&b->idle))
			continue;
		if (is_closed(b, now))
		{
			place_binding(b, SUP_BLOCKED, now);
			if (++moved == MOVES_PER_LOCK)
				break;
			continue;
		}
		at_par = !starves && b->nworkers <= mine->nworkers && older && pool->promised < 0 &&
			waited > STARVATION_AT_PAR_US && now >= b->dear_until;
		if ((starves || at_par) && ++starving > pool->ncoming)
		{
			if (at_par)
				pool->promised = b - Sup->bindings;
			pool->made_room_at = now;
			return true;
		}
	}
	return false;
}

/* Take a slot off the lists of workers that may be given a task. */
void
sup_slot_unlink(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	if (!slot->listed)
		return;
	dlist_delete(&slot->pool_node);
	if (slot->binding >= 0)
		dlist_delete(&slot->binding_node);
	slot->listed = false;
}

/*
 * Give a task, which is on no queue, to a worker of its binding or to an
 * unbound one, and wake that.
 */
static void
give(SupSlot *slot, SupTask *task, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	Assert(pg_atomic_read_u32(&slot->task) == 0);
	Assert(slot->binding < 0 || slot->binding == task->binding);

	sup_slot_unlink(slot);
	if (slot->binding < 0)
	{
		SupBinding *b = &Sup->bindings[task->binding];

		slot->binding = task->binding;
		slot->database = b->database;
		slot->role = b->role;
		slot->capped = task->capped;
		slot->stale = false;
		slot->cause = SUP_CAUSE_NONE;
		sup_login_expect(slot);
		b->nworkers++;
	}
	task->slot = sup_slot_index(slot);
	task->started_at = slot->given_at = now;
	pg_atomic_write_u32(&task->state, SUP_TASK_RUNNING);
	slot->begun = false;
	Sup->nbusy++;
	sup_stop_counting(&slot->spinning);
	pg_write_barrier();
	pg_atomic_write_u32(&slot->task, sup_task_index(task) + 1);
	if (slot->proc != MyProc)
		sup_wake(slot->proc);
}

/* Idle workers of a binding take its queued tasks. */
static void
serve_by_idle(SupBinding *b, TimestampTz now)
{
	while (b->nqueued > 0 && !dlist_is_empty(&b->idle))
		give(dlist_head_element(SupSlot, binding_node, &b->idle), pop_task(b, now), now);
}

/* Give up a login, for which its task waits again. */
static void
give_up_login(SupSlot *slot, TimestampTz now)
{
	SupTask    *task = &Sup->tasks[pg_atomic_read_u32(&slot->task) - 1];

	slot->leaving = true;
	sup_ask_terminate(slot);
	if (task->cancel == SUP_NOT_CANCELED)
		sup_queue_push_front(sup_take_back(slot), now);
}

/*
 * Match queued tasks of a pool with workers: unbound ones take them, and
 * where none is left the one that has been idle longest makes room, or one that
 * logs in for longer than is allowed.  Of these, one after the other: it may be
 * that they need no more than a moment.
 */
void
sup_dispatch(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	SupBinding *b;

	SUP_ASSERT_LOCKED();
	while ((b = oldest_waiting(p, now)) != NULL && !dlist_is_empty(&p->unbound))
		give(dlist_head_element(SupSlot, pool_node, &p->unbound),
			 pop_task(binding_to_serve(p, b, now), now), now);
	while (b != NULL && p->ncoming < servable(p) && !dlist_is_empty(&p->idle))
		sup_ask_leave(dlist_tail_element(SupSlot, pool_node, &p->idle), SUP_LEAVE_RECYCLE);

	if ((b != NULL || p->slow_waits) && p->ncoming == 0 && !dlist_is_empty(&p->overdue))
		give_up_login(dlist_head_element(SupSlot, pool_node, &p->overdue), now);
}

/* A new task: a worker takes it, or it is queued behind the others of its binding. */
void
sup_offer(SupTask *task, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[task->binding];
	bool		blocked = is_blocked(b, now);

	SUP_ASSERT_LOCKED();
	if (b->nqueued == 0 && !blocked && !dlist_is_empty(&b->idle))
	{
		give(dlist_head_element(SupSlot, binding_node, &b->idle), task, now);
		return;
	}
	pg_atomic_write_u32(&task->state, SUP_TASK_QUEUED);
	dlist_push_tail(&b->queue, &task->node);
	count_queued(b, 1, now);
	if (!blocked)
		serve_by_idle(b, now);
	sup_dispatch(b->pool, now);
}

void
sup_review_blocked(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	int			left;

	sup_lock();
	p->review_at = DT_NOEND;
	for (left = p->nblocked; left > 0 && !dlist_is_empty(&p->blocked); left--)
	{
		SupBinding *b = dlist_head_element(SupBinding, node, &p->blocked);

		place_binding(b, is_closed(b, now) ? SUP_BLOCKED : SUP_QUEUED, now);
		if (!is_blocked(b, now))
			serve_by_idle(b, now);
		if (left % MOVES_PER_LOCK == 0)
		{
			sup_unlock();
			sup_lock();
		}
	}
	sup_dispatch(pool, now);
	sup_unlock();
}

/* Ask a worker to leave as soon as it has no task. */
void
sup_ask_leave(SupSlot *slot, SupLeave why)
{
	SUP_ASSERT_LOCKED();
	slot->leave = why;
	if (slot->listed)
	{
		sup_slot_unlink(slot);
		slot->leaving = true;
		sup_count_coming(slot);
	}
	if (slot->proc != NULL)
		sup_wake(slot->proc);
}

/* A worker shall be terminated: until it is, it is given no task. */
void
sup_ask_terminate(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	slot->terminate = true;
	if (slot->listed)
	{
		sup_slot_unlink(slot);
		slot->leaving = true;
	}
	sup_login_over(slot);
	sup_attend(slot);
}

/*
 * When supervisor.worker_lifetime, which is on, ends for a worker: a little
 * apart from its neighbors', which may have started together with it.
 */
TimestampTz
sup_slot_expires(const SupSlot *slot)
{
	int64		lifetime = sup_worker_lifetime * INT64CONST(1000);

	return slot->attached_at + lifetime + lifetime / 64 * (sup_slot_index(slot) % 16);
}

/*
 * A worker has ended its task: the next one, or NULL if it is idle now or,
 * with slot->leaving set, shall go.
 */
SupTask *
sup_next_task(SupSlot *slot, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[slot->binding];
	SupPool    *p = &Sup->pools[slot->pool];

	SUP_ASSERT_LOCKED();
	Assert(pg_atomic_read_u32(&slot->task) == 0 && !slot->listed);

	if (slot->leave == SUP_STAY && sup_worker_lifetime > 0 &&
		now >= sup_slot_expires(slot))
		slot->leave = SUP_LEAVE_RECYCLE;
	if (b->nworkers > 1)
		b->dear_until = Max(b->dear_until, now + (now - slot->given_at));

	/* No binding starves: make room for one that waits too long. */
	if (slot->leave == SUP_STAY && others_starve(p, b, now))
		slot->leave = SUP_LEAVE_RECYCLE;

	if (slot->leave == SUP_STAY && !slot->terminate)
	{
		if (b->nqueued > 0 && !is_blocked(b, now))
		{
			SupTask    *task = pop_task(b, now);

			give(slot, task, now);
			return task;
		}

		/* Nothing for this one, but work for another. */
		if (oldest_waiting(p, now) != NULL && dlist_is_empty(&p->unbound) &&
			p->ncoming < servable(p))
			slot->leave = SUP_LEAVE_RECYCLE;
	}
	if (slot->leave != SUP_STAY || slot->terminate)
	{
		slot->leaving = true;
		sup_count_coming(slot);
		return NULL;
	}

	if (p->size == 0)
		sup_attend_pool(p);		/* which kept it for what was queued */
	dlist_push_head(&b->idle, &slot->binding_node);
	dlist_push_head(&p->idle, &slot->pool_node);
	slot->listed = true;
	return NULL;
}

/* A worker is ready and has no binding; with slot->leaving set it shall go. */
void
sup_slot_unbound(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	Assert(slot->binding < 0 && !slot->listed);
	if (slot->leave != SUP_STAY || slot->terminate)
		slot->leaving = true;
	sup_count_coming(slot);
	if (slot->leaving)
		return;
	dlist_push_tail(&Sup->pools[slot->pool].unbound, &slot->pool_node);
	slot->listed = true;
	sup_dispatch(slot->pool, GetCurrentTimestamp());
}

/* A worker ends its binding, because it ends or must not connect now. */
void
sup_slot_unbind(SupSlot *slot)
{
	SupBinding *b;

	SUP_ASSERT_LOCKED();
	sup_slot_unlink(slot);
	sup_login_over(slot);
	if (slot->binding < 0)
		return;
	b = &Sup->bindings[slot->binding];
	slot->binding = -1;
	b->nworkers--;
	sup_binding_drop(b);
}
