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

#include "catalog/pg_authid.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/s_lock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "state.h"

/* Another binding's tasks wait at most this long for a worker's first task. */
#define STARVATION_US	(100 * 1000)

SupShared  *Sup = NULL;
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

		for (int i = 0; i < SUP_MAX_POOLS; i++)
		{
			dlist_init(&Sup->pools[i].slots);
			dlist_init(&Sup->pools[i].queued);
			dlist_init(&Sup->pools[i].unserved);
			dlist_init(&Sup->pools[i].unbound);
			dlist_init(&Sup->pools[i].idle);
		}

		Sup->ndeclarations = number_of_declarations();
		memset(Sup->declarations, 0, sizeof(SupDeclaration) * Sup->ndeclarations);
		memset(Sup->declaration_keys, 0, sizeof(uint32) * Sup->ndeclarations);

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

/* Have the declarations of a database read; the caller holds the lock. */
void
sup_request_load(Oid database)
{
	SupLoad    *load = NULL;
	TimestampTz now = GetCurrentTimestamp();

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_LOADS; i++)
	{
		if (Sup->loads[i].database == database)
		{
			load = &Sup->loads[i];
			break;
		}
		if (Sup->loads[i].database == InvalidOid && load == NULL)
			load = &Sup->loads[i];
	}
	if (load != NULL)
	{
		/* asked for again, it keeps its place */
		if (load->database != database || load->due > now)
			load->due = now;
		load->database = database;
		load->failures = 0;
	}
	else
		Sup->load_all = true;
	sup_wake_supervisor();
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

/* Add to the ring of events.  'slot' may be NULL; the caller holds the lock. */
void
sup_add_event(const SupSlot *slot, const char *event, const char *detail)
{
	SupEvent   *e = &Sup->events[Sup->last_event_id % SUP_EVENTS];

	SUP_ASSERT_LOCKED();
	e->id = ++Sup->last_event_id;
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
	for (int i = 0; i < Sup->nbuckets; i++)
		for (int b = Sup->buckets[i]; b >= 0; b = Sup->bindings[b].next)
			if (Sup->bindings[b].pool == pool)
				return true;
	return false;
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
	Assert(!binding->in_queued && !binding->in_unserved);
	for (link = bucket_of(binding->role); *link != i; link = &Sup->bindings[*link].next)
		 /* there it is */ ;
	*link = binding->next;
	binding->next = Sup->free_binding;
	Sup->free_binding = i;

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

/* How much of the area the tasks of a role hold. */
Size
sup_role_held(Oid role)
{
	Size		held = 0;

	SUP_ASSERT_LOCKED();
	for (int i = *bucket_of(role); i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role)
			held += Sup->bindings[i].held;
	return held;
}

/* Put a binding on the lists of its pool that it belongs on. */
static void
relink_binding(SupBinding *b, TimestampTz now)
{
	SupPool    *pool = &Sup->pools[b->pool];
	bool		queued = b->nqueued > 0;
	bool		unserved = queued && b->nworkers == 0;

	if (queued && !b->in_queued)
		dlist_push_tail(&pool->queued, &b->queued_node);
	else if (!queued && b->in_queued)
		dlist_delete(&b->queued_node);
	b->in_queued = queued;

	if (unserved && !b->in_unserved)
	{
		dlist_push_tail(&pool->unserved, &b->unserved_node);
		b->unserved_since = now;
		pool->nunserved++;
	}
	else if (!unserved && b->in_unserved)
	{
		dlist_delete(&b->unserved_node);
		pool->nunserved--;
	}
	b->in_unserved = unserved;
}

static void
count_queued(SupBinding *b, int change, TimestampTz now)
{
	b->nqueued += change;
	Sup->pools[b->pool].nqueued += change;
	relink_binding(b, now);
}

/* Queue a task behind the others of its binding. */
void
sup_queue_push(SupTask *task, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[task->binding];

	SUP_ASSERT_LOCKED();
	pg_atomic_write_u32(&task->state, SUP_TASK_QUEUED);
	dlist_push_tail(&b->queue, &task->node);
	count_queued(b, 1, now);
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

/*
 * Matching.  The caller holds the lock.
 */

bool
sup_database_fenced(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_FENCES; i++)
		if (Sup->fences[i].holder != 0 && Sup->fences[i].database == database)
			return true;
	return false;
}

/* The binding that has waited longest for a worker of its own; NULL: none. */
static SupBinding *
oldest_unserved(SupPool *pool)
{
	dlist_iter	iter;

	dlist_foreach(iter, &pool->unserved)
	{
		SupBinding *b = dlist_container(SupBinding, unserved_node, iter.cur);

		if (!sup_database_fenced(b->database))
			return b;
	}
	return NULL;
}

/* The binding that a worker without one should serve; NULL: none. */
static SupBinding *
binding_to_serve(SupPool *pool)
{
	SupBinding *oldest = oldest_unserved(pool);
	dlist_iter	iter;

	if (oldest != NULL)
		return oldest;
	dlist_foreach(iter, &pool->queued)
	{
		SupBinding *b = dlist_container(SupBinding, queued_node, iter.cur);

		if (!sup_database_fenced(b->database))
			return b;
	}
	return NULL;
}

/* Workers of a pool that will be ready for any binding without being asked. */
static int
workers_coming(SupPool *pool)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &pool->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (slot->surplus)
			continue;
		if ((slot->state == SUP_STARTING && !slot->ready) ||
			(slot->state == SUP_WAITING && slot->reason == SUP_NO_REASON))
			n++;
		else if ((slot->state == SUP_STARTING || slot->state == SUP_RUNNING) &&
				 (slot->leaving || slot->exited))
			n++;
	}
	return n;
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
void
sup_give(SupSlot *slot, SupTask *task, TimestampTz now)
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
		slot->stale = false;
		b->nworkers++;
		relink_binding(b, now);
	}
	task->slot = sup_slot_index(slot);
	task->started_at = now;
	pg_atomic_write_u32(&task->state, SUP_TASK_RUNNING);
	slot->begun = false;
	Sup->nbusy++;
	sup_stop_counting(&slot->spinning);
	pg_write_barrier();
	pg_atomic_write_u32(&slot->task, sup_task_index(task) + 1);
	if (slot->proc != MyProc)
		sup_wake(slot->proc);
}

static SupTask *
pop_task(SupBinding *b, TimestampTz now)
{
	SupTask    *task = dlist_container(SupTask, node, dlist_pop_head_node(&b->queue));

	count_queued(b, -1, now);
	return task;
}

/*
 * Match queued tasks of a pool with workers: unbound ones take them, and
 * where none is left the one that has been idle longest makes room.
 */
void
sup_dispatch(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	SupBinding *b;

	SUP_ASSERT_LOCKED();
	while ((b = binding_to_serve(p)) != NULL && !dlist_is_empty(&p->unbound))
	{
		SupSlot    *slot = dlist_head_element(SupSlot, pool_node, &p->unbound);

		sup_give(slot, pop_task(b, now), now);
		if (b->in_queued)
		{
			/* next time it is another's turn */
			dlist_delete(&b->queued_node);
			dlist_push_tail(&p->queued, &b->queued_node);
		}
	}
	if (b == NULL || dlist_is_empty(&p->idle))
		return;

	for (int coming = workers_coming(p);
		 coming < p->nqueued && !dlist_is_empty(&p->idle);
		 coming++)
		sup_ask_leave(dlist_tail_element(SupSlot, pool_node, &p->idle), SUP_LEAVE_RECYCLE);
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
	sup_attend(slot);
	if (slot->listed)
	{
		sup_slot_unlink(slot);
		slot->leaving = true;
	}
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
	if (slot->leave != SUP_STAY || slot->terminate)
	{
		slot->leaving = true;
		return NULL;
	}

	/* No binding starves: make room for one that waits too long. */
	if (p->nunserved > 0)
	{
		SupBinding *oldest = oldest_unserved(p);

		if (oldest != NULL && now - oldest->unserved_since > STARVATION_US &&
			workers_coming(p) < p->nunserved)
		{
			slot->leave = SUP_LEAVE_RECYCLE;
			slot->leaving = true;
			return NULL;
		}
	}

	if (b->nqueued > 0 && !sup_database_fenced(b->database))
	{
		SupTask    *task = pop_task(b, now);

		sup_give(slot, task, now);
		return task;
	}

	/* Nothing for this one, but work for another. */
	if (p->nqueued > 0 && binding_to_serve(p) != NULL &&
		dlist_is_empty(&p->unbound) && workers_coming(p) < p->nqueued)
	{
		slot->leave = SUP_LEAVE_RECYCLE;
		slot->leaving = true;
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
	{
		slot->leaving = true;
		return;
	}
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
	if (slot->binding < 0)
		return;
	b = &Sup->bindings[slot->binding];
	slot->binding = -1;
	b->nworkers--;
	relink_binding(b, GetCurrentTimestamp());
	sup_binding_drop(b);
}
