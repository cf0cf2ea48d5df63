/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  What shared memory knows of jobs: queues, and who runs which.
 *
 * A queue is known from the first time on that somebody tells of a job of it.
 * What it says of its jobs is in bounds.h.  It may be forgotten at any time: then
 * its database is read again, as at the start of the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "binding.h"
#include "declaration.h"
#include "mark.h"
#include "queue.h"

/* Jobs of a queue whose drain has failed wait for so long, which doubles each time. */
#define FAILED_US		INT64CONST(10000000)
#define FAILED_MAX_US	INT64CONST(300000000)

SupJobs    *SupJob = NULL;
int64		sup_running_job = 0;

static Size
size_of_claims(void)
{
	return MAXALIGN(mul_size(2 * sup_max_workers, sizeof(SupClaim)));
}

static Size
size_of_jobs(void)
{
	return add_size(MAXALIGN(sizeof(SupJobs)),
					add_size(size_of_claims(), mul_size(sup_max_workers, sizeof(SupRing))));
}

/* Called by shmem_request_hook. */
void
sup_queues_request(void)
{
	RequestAddinShmemSpace(size_of_jobs());
}

/* It is lost, and the last one of its account, and of its role there, that is. */
static void
rank_lost(SupClaim *claim)
{
	claim->rank = claim->rank_of_role = 0;
	for (int i = 0; i < 2 * sup_max_workers; i++)
	{
		const SupClaim *other = &SupJob->claims[i];

		if (!OidIsValid(other->database) || other->slot >= 0 || other->account != claim->account)
			continue;
		claim->rank++;
		claim->rank_of_role += other->role == claim->role;
	}
}

/*
 * Runs that former lives of the server have left are lost, so nobody begins with these
 * jobs before their ends are noted.
 */
static void
take_marks(void)
{
	int			n = sup_marks_take();

	for (int i = 0; i < n; i++)
	{
		const SupMark *mark = sup_mark_left(i);
		SupClaim   *claim = &SupJob->claims[i];

		claim->database = mark->database;
		claim->table = mark->table;
		claim->slot = claim->queue = -1;
		claim->role = mark->role;
		claim->account = mark->account;
		rank_lost(claim);
		claim->job.spot.id = mark->id;
		claim->job.key = mark->key;
		claim->job.spot.run_at = mark->run_at;
		claim->begun = true;
		claim->mark = i;
		claim->counted = mark->counted;
		claim->runs = mark->runs;
		claim->started_at = mark->started_at;
		claim->enqueued_at = mark->enqueued_at;
		claim->pid = mark->pid;
		claim->crashed = mark->crashed;
		claim->canceled = mark->canceled;
		claim->end = mark->canceled ? SUP_RUN_CANCELED : SUP_RUN_FAILED;
		claim->sqlstate = mark->canceled ? ERRCODE_QUERY_CANCELED : ERRCODE_CRASH_SHUTDOWN;
		strlcpy(claim->message, mark->canceled ? "canceling statement due to user request" :
				mark->state == SUP_MARK_GUILTY ? "the server has crashed" : "the worker was killed", SUP_MESSAGE);
	}
	SupJob->nclaims = n;
	SupJob->alone_until = sup_marks_suspect_until();
}

/* Called by shmem_startup_hook. */
void
sup_queues_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	SupJob = ShmemInitStruct("supervisor jobs", size_of_jobs(), &found);
	if (!found)
	{
		memset(SupJob, 0, size_of_jobs());
		SupJob->claims = (SupClaim *) ((char *) SupJob + MAXALIGN(sizeof(SupJobs)));
		SupJob->rings = (SupRing *) ((char *) SupJob->claims + size_of_claims());
		dlist_init(&SupJob->wanting);
		for (int i = 0; i < SUP_WAIT_LISTS; i++)
			dlist_init(&SupJob->waiting[i]);
		SupJob->run_jobs = sup_run_jobs;
		strlcpy(SupJob->time_zone, pg_get_timezone_name(session_timezone), sizeof(SupJob->time_zone));
		SupJob->next_due = PG_INT64_MAX;
		for (int i = 0; i < SUP_QUEUES; i++)
		{
			SupJob->dues[i] = PG_INT64_MAX;
			SupJob->buckets[i] = -1;
			SupJob->queues[i].next = i + 1 < SUP_QUEUES ? i + 1 : -1;
		}
		for (int i = 0; i < sup_max_workers; i++)
			SupJob->rings[i].n = i + 1 < sup_max_workers ? i + 1 : -1;
		take_marks();
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Queues
 */

static int *
bucket_of(Oid database, Oid role)
{
	return &SupJob->buckets[hash_combine(murmurhash32(database), murmurhash32(role)) % SUP_QUEUES];
}

SupJobQueue *
sup_queue_find(Oid database, Oid role, const char *pool)
{
	SUP_ASSERT_LOCKED();
	for (int i = *bucket_of(database, role); i >= 0; i = SupJob->queues[i].next)
	{
		SupJobQueue *queue = &SupJob->queues[i];

		if (queue->database == database && queue->role == role && strcmp(queue->pool, pool) == 0)
			return queue;
	}
	return NULL;
}

/* Has nobody anything to do with it?  They know it by its index. */
static bool
is_idle(const SupJobQueue *queue)
{
	return queue->ndrains == 0 && queue->nclaims == 0 && !queue->bounds.looking;
}

static void
forget(SupJobQueue *queue)
{
	int			i = sup_queue_index(queue);
	int		   *link = bucket_of(queue->database, queue->role);

	Assert(is_idle(queue) && queue->ring == NULL);
	while (*link != i)
		link = &SupJob->queues[*link].next;
	*link = queue->next;
	if (queue->wanting)
		dlist_delete(&queue->wanting_node);
	SupJob->dues[i] = PG_INT64_MAX;
	memset(queue, 0, sizeof(SupJobQueue));
	queue->next = SupJob->free_queue;
	SupJob->free_queue = i;
}

/* The supervisor has something to do then; or now, if the clock was set while it sleeps. */
static void
set_next_due(int64 due)
{
	if (due >= SupJob->next_due && SupJob->next_due > GetCurrentTimestamp())
		return;
	SupJob->next_due = Min(due, SupJob->next_due);
	sup_wake_supervisor_by(sup_wall_to_steady(SupJob->next_due));
}

/* If there is no entry for it, all are read. */
void
sup_queues_recall_at(Oid database, int64 due)
{
	SupForgotten *f = &SupJob->forgotten[0];

	for (int i = 1; i < SUP_FORGOTTEN && f->database != database; i++)
		if (SupJob->forgotten[i].database == database ||
			(f == &SupJob->forgotten[0] && !OidIsValid(SupJob->forgotten[i].database)))
			f = &SupJob->forgotten[i];
	if (f != &SupJob->forgotten[0])
	{
		f->due = f->database == database ? Min(f->due, due) : due;
		f->database = database;
	}
	else
		f->due = f->due == 0 ? due : Min(f->due, due);
	set_next_due(due);
}

SupPruned *
sup_pruned_of(Oid database)
{
	SupPruned  *p;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_FORGOTTEN; i++)
		if (SupJob->pruned[i].database == database)
			return &SupJob->pruned[i];
	p = &SupJob->pruned[SupJob->next_pruned];
	SupJob->next_pruned = (SupJob->next_pruned + 1) % SUP_FORGOTTEN;
	p->database = database;
	p->times_at = 0;
	NameStr(p->times_from)[0] = '\0';
	p->brief_from = p->from = PG_INT64_MIN;
	return p;
}

/*
 * The one that is needed last goes.  Those that wait for an entry are needed at once,
 * and those whose time is not known as well.
 */
static void
make_room(void)
{
	SupJobQueue *last = NULL;
	int64		due = 0;

	for (int i = 0; i < SUP_QUEUES; i++)
	{
		SupJobQueue *queue = &SupJob->queues[i];

		if ((last != NULL && SupJob->dues[i] <= due) || queue->wanting || !is_idle(queue))
			continue;
		last = queue;
		due = SupJob->dues[i];
	}
	if (last == NULL)
		return;
	if (due != PG_INT64_MAX)
		sup_queues_recall_at(last->database, due);
	else if (sup_bounds_due(&last->bounds, NULL) != PG_INT64_MAX)
		SupJob->forgotten_ones = true;
	forget(last);
}

SupJobQueue *
sup_queue_get(Oid database, Oid role, const char *pool)
{
	SupJobQueue *queue = sup_queue_find(database, role, pool);
	int		   *bucket;
	int			i;

	if (queue != NULL)
		return queue;
	if (SupJob->free_queue < 0)
		make_room();
	i = SupJob->free_queue;
	if (i < 0)
		return NULL;
	queue = &SupJob->queues[i];
	SupJob->free_queue = queue->next;
	memset(queue, 0, sizeof(SupJobQueue));
	queue->database = database;
	queue->role = role;
	strlcpy(queue->pool, pool, NAMEDATALEN);
	sup_bounds_reset(&queue->bounds);
	bucket = bucket_of(database, role);
	queue->next = *bucket;
	*bucket = i;
	return queue;
}

/* Those that still have a process are found to be of no database by that. */
void
sup_queues_forget(Oid database)
{
	SupClaim   *claim;
	int			next = 0;

	SUP_ASSERT_LOCKED();
	while ((claim = sup_lost_claim(database, &next)) != NULL)
	{
		claim->key_wanted = false;
		sup_claim_release(claim, SUP_RELEASE_DONE);
	}
	for (int i = 0; i < SUP_QUEUES; i++)
		if (SupJob->queues[i].database == database && is_idle(&SupJob->queues[i]))
			forget(&SupJob->queues[i]);
}

static void
lower_all(SupJobQueue *queue)
{
	static const SupSpot first = {PG_INT64_MIN, PG_INT64_MIN};

	for (int i = 0; i < SUP_PRIORITIES; i++)
		sup_bounds_lower(&queue->bounds, i, first);
}

void
sup_queues_reset(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_QUEUES; i++)
		if (SupJob->queues[i].database == database)
			lower_all(&SupJob->queues[i]);
}

void
sup_queues_read(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 1; i < SUP_FORGOTTEN; i++)
		if (SupJob->forgotten[i].database == database)
			SupJob->forgotten[i].database = InvalidOid;
}

/*
 * Deadlines
 */

/* Who has an earlier one than the supervisor knows wakes it. */
void
sup_queue_set_due(SupJobQueue *queue, int64 due)
{
	SUP_ASSERT_LOCKED();
	SupJob->dues[sup_queue_index(queue)] = due;
	set_next_due(due);
}

int64
sup_queues_recall(int64 now)
{
	int64		next = PG_INT64_MAX;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_FORGOTTEN; i++)
	{
		SupForgotten *f = &SupJob->forgotten[i];

		if (i == 0 ? f->due == 0 : !OidIsValid(f->database))
			continue;
		if (f->due > now)
		{
			next = Min(next, f->due);
			continue;
		}
		if (i > 0)
			sup_request_load(f->database);
		else
			Sup->load_all = true;
		f->database = InvalidOid;
		f->due = 0;
	}
	return next;
}

void
sup_queue_failed(SupJobQueue *queue)
{
	int64		now = sup_now();

	SUP_ASSERT_LOCKED();

	/* workers that were at it together fail together: one failure */
	if (now < queue->not_before)
		return;
	queue->failed_at = now;
	queue->not_before = queue->failed_at + Min(FAILED_US << Min(queue->failures, 10), FAILED_MAX_US);
	queue->failures++;
}

void
sup_queue_works(SupJobQueue *queue)
{
	SUP_ASSERT_LOCKED();
	queue->failures = 0;
	queue->not_before = 0;
}

/* There is a ring for each worker, and it is one that drains. */
void
sup_queue_begin_drain(SupJobQueue *queue)
{
	SUP_ASSERT_LOCKED();
	if (queue->ring != NULL)
		return;
	Assert(SupJob->free_ring >= 0);
	queue->ring = &SupJob->rings[SupJob->free_ring];
	SupJob->free_ring = queue->ring->n;
	queue->ring->n = 0;
}

/* The last one that runs gives the ring back. */
void
sup_queue_end_drain(SupJobQueue *queue)
{
	SUP_ASSERT_LOCKED();
	Assert(queue->ndrains > 0);
	queue->ndrains--;
	if (queue->ndrains > (queue->drain_queued ? 1 : 0) || queue->ring == NULL)
		return;
	sup_bounds_drop_ring(&queue->bounds, queue->ring);
	queue->ring->n = SupJob->free_ring;
	SupJob->free_ring = (int) (queue->ring - SupJob->rings);
	queue->ring = NULL;
}

/*
 * Sessions that wait for a job
 */

static dlist_head *
waiting_for(int64 id)
{
	return &SupJob->waiting[(uint64) id % SUP_WAIT_LISTS];
}

void
sup_job_wait_begin(int64 id)
{
	SupJobWait *wait = &Sup->sessions[sup_my_session()].job;

	Assert(id != 0);
	sup_lock();
	if (wait->id == 0)
	{
		dlist_push_tail(waiting_for(id), &wait->node);
		SupJob->nwaiting++;
		wait->role = InvalidOid;
	}
	wait->id = id;
	wait->database = MyDatabaseId;
	wait->told = wait->looked = false;
	sup_unlock();
}

void
sup_job_wait_for(Oid role, const char *pool, uint64 key, int64 run_at)
{
	SupJobWait *wait = &Sup->sessions[sup_my_session()].job;

	sup_lock();
	wait->role = role;
	strlcpy(wait->pool, pool, NAMEDATALEN);
	wait->key = key;
	wait->run_at = run_at;
	wait->looked = true;
	sup_unlock();
}

void
sup_job_wait_end(void)
{
	SupJobWait *wait = &Sup->sessions[sup_my_session()].job;

	if (wait->id == 0)
		return;
	sup_lock();
	dlist_delete(&wait->node);
	SupJob->nwaiting--;
	wait->id = 0;
	sup_unlock();
}

/* May it be that job, or one of that role?  0: any.  Whose it is may be another's since it has looked. */
static bool
is_awaited(const SupJobWait *wait, Oid role, int64 id)
{
	return id != 0 ? wait->id == id : !OidIsValid(role) || !wait->looked || wait->role == role;
}

/* So many are found under one hold of the lock. */
#define MAX_TOLD	32

static void
tell_list(dlist_head *list, Oid database, Oid role, int64 id)
{
	int			sessions[MAX_TOLD];
	dlist_iter	iter;
	int			n;

	do
	{
		n = 0;
		sup_lock();
		dlist_foreach(iter, list)
		{
			SupSession *session = dlist_container(SupSession, job.node, iter.cur);

			if (n == MAX_TOLD)
				break;
			if (session->job.told || (OidIsValid(database) && session->job.database != database) ||
				!is_awaited(&session->job, role, id))
				continue;
			session->job.told = true;
			sessions[n++] = (int) (session - Sup->sessions);
		}
		sup_unlock();
		for (int i = 0; i < n; i++)
			SetLatch(&ProcGlobal->allProcs[sessions[i]].procLatch);
	} while (n == MAX_TOLD);
}

static void
tell_all(Oid database, Oid role)
{
	bool		any;

	sup_lock();
	any = SupJob->nwaiting > 0;
	sup_unlock();
	for (int i = 0; i < SUP_WAIT_LISTS && any; i++)
		tell_list(&SupJob->waiting[i], database, role, 0);
}

void
sup_tell_job_waiters(Oid database, int64 id)
{
	if (id != 0)
		tell_list(waiting_for(id), database, InvalidOid, id);
	else
		tell_all(database, InvalidOid);
}

void
sup_tell_of_changed(const SupChanged *changed)
{
	if (changed->n > SUP_CHANGED)
		tell_all(changed->database, changed->role);
	else
		for (int i = 0; i < changed->n; i++)
			sup_tell_job_waiters(changed->database, changed->ids[i]);
}

/*
 * Claims
 */

SupClaim *
sup_claim_on(Oid database, Oid table, int64 id)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0; i++)
		if (SupJob->claims[i].job.spot.id == id && SupJob->claims[i].database == database &&
			SupJob->claims[i].table == table)
			return &SupJob->claims[i];
	return NULL;
}

/*
 * The claim because of which a job can't be claimed; NULL: there is none.  The table may
 * be another than the one that is there now: keys are those of the role.
 */
static SupClaim *
claim_before(const SupJobQueue *queue, Oid table, const SupCandidate *job)
{
	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0; i++)
	{
		SupClaim   *claim = &SupJob->claims[i];

		if (claim->database != queue->database || claim->job.spot.id == 0)
			continue;
		if ((claim->table == table && claim->job.spot.id == job->spot.id) ||
			(job->key != 0 && claim->job.key == job->key && claim->role == queue->role))
			return claim;
	}
	return NULL;
}

void
sup_keys_begin_look(const SupJobQueue *queue, SupPassed *passed)
{
	SUP_ASSERT_LOCKED();
	sup_passed_init(passed);
	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0; i++)
	{
		const SupClaim *claim = &SupJob->claims[i];

		if (claim->database != queue->database || claim->role != queue->role || claim->job.key == 0 ||
			claim->job.spot.id == 0)
			continue;
		passed->busy[passed->n].key = claim->job.key;
		passed->busy[passed->n].claim = i;
		passed->busy[passed->n++].passed = false;
	}
}

/*
 * One whose run has ended meanwhile, and which is about to look for others, has seen or will
 * see all that this look has passed over: it looks after the key was busy.
 */
void
sup_keys_end_look(SupJobQueue *queue, const SupPassed *passed)
{
	bool		freed = false;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < passed->n; i++)
	{
		SupClaim   *claim = &SupJob->claims[passed->busy[i].claim];

		if (!passed->busy[i].passed)
			continue;
		if (claim->database == queue->database && claim->role == queue->role && claim->job.key == passed->busy[i].key)
			claim->key_wanted = true;
		else
			freed = true;
	}
	for (int i = 0; i < SUP_PRIORITIES && freed; i++)
		sup_bounds_lower(&queue->bounds, i, passed->first[i]);
}

SupClaim *
sup_lost_claim(Oid database, int *i)
{
	SUP_ASSERT_LOCKED();
	for (; *i < 2 * sup_max_workers && SupJob->nclaims > 0; (*i)++)
		if (SupJob->claims[*i].database == database && SupJob->claims[*i].slot < 0)
			return &SupJob->claims[(*i)++];
	return NULL;
}

Oid
sup_left_database(int *i)
{
	SUP_ASSERT_LOCKED();
	for (; *i < 2 * sup_max_workers && SupJob->nclaims > 0; (*i)++)
		if (OidIsValid(SupJob->claims[*i].database) && SupJob->claims[*i].queue < 0)
			return SupJob->claims[(*i)++].database;
	return InvalidOid;
}

/*
 * Has this role, if it is not a superuser's, so many lost ones in this database that it should not
 * come to have more?  What it runs now may be lost as well.  It is not its account that is asked:
 * others' jobs in the databases of one owner do not wait for that.
 */
static bool
has_lost_many(const SupJobQueue *queue)
{
	int			n = 0;

	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0 && OidIsValid(queue->account); i++)
	{
		const SupClaim *claim = &SupJob->claims[i];

		n += claim->database == queue->database && claim->role == queue->role && claim->slot < 0;
	}
	return n >= Max(sup_max_workers / 2, 1);
}

/*
 * Each worker needs a claim, so no more than half of them may be lost.  The account that has most
 * of these gives one up, the last one of its role that has most: its job is run again, as if that
 * run had not been.
 */
static void
limit_lost(void)
{
	SupClaim   *most = NULL;
	SupClaim   *last;
	int			n = 0;

	for (int i = 0; i < 2 * sup_max_workers; i++)
	{
		SupClaim   *claim = &SupJob->claims[i];

		if (!OidIsValid(claim->database) || claim->slot >= 0)
			continue;
		n++;
		if (most == NULL || claim->rank > most->rank)
			most = claim;
	}
	if (n <= sup_max_workers)
		return;
	last = most;
	for (int i = 0; i < 2 * sup_max_workers; i++)
	{
		SupClaim   *claim = &SupJob->claims[i];

		if (OidIsValid(claim->database) && claim->slot < 0 && claim->account == most->account &&
			claim->rank_of_role > last->rank_of_role)
			last = claim;
	}
	if (last->queue >= 0)
		sup_queue_set_due(&SupJob->queues[last->queue], GetCurrentTimestamp());
	sup_claim_release(last, SUP_RELEASE_UNDONE);
}

SupClaim *
sup_claim_of(int slot)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0; i++)
		if (OidIsValid(SupJob->claims[i].database) && SupJob->claims[i].slot == slot)
			return &SupJob->claims[i];
	return NULL;
}

/* A free one; NULL: there is none. */
static SupClaim *
free_claim(void)
{
	for (int i = 0; i < 2 * sup_max_workers; i++)
		if (!OidIsValid(SupJob->claims[i].database))
			return &SupJob->claims[i];
	return NULL;
}

/*
 * A job that is claimed was found again.  Who has the claim tells of the job after its run, as
 * it was then.  But he may not run it, or it may have been changed since: then nobody would tell
 * of it any more.
 */
static void
pass_over(SupJobQueue *queue, SupClaim *claim, const SupCandidate *job)
{
	if (claim->queue == sup_queue_index(queue) && claim->job.priority == job->priority &&
		claim->job.spot.run_at == job->spot.run_at)
		claim->passed = true;
	else
		claim->moved = true;
	sup_bounds_gone(&queue->bounds, job);
}

/*
 * What is in the ring may have been claimed since it was put there: whoever runs
 * it will tell of it, if it is not done by that.  So may another one of its key.
 */
SupStep
sup_queue_step(SupJobQueue *queue, int slot, Oid table, int64 now, SupClaim **claim)
{
	SupClaim   *free = has_lost_many(queue) ? NULL : free_claim();
	SupClaim   *other = NULL;
	SupCandidate job;
	SupStep		step;

	SUP_ASSERT_LOCKED();
	if (!SupJob->run_jobs)
		return SUP_STEP_NOTHING;
	if (free == NULL)
	{
		sup_queue_failed(queue);
		return SUP_STEP_NOTHING;
	}
	for (;;)
	{
		step = sup_bounds_step(&queue->bounds, queue->ring, now, &job);
		if (step == SUP_STEP_TAKE)
			other = claim_before(queue, table, &job);
		if (step != SUP_STEP_TAKE || other == NULL)
			break;
		if (job.key != 0 && other->job.key == job.key)
			other->key_wanted = true;
		else
			pass_over(queue, other, &job);
	}
	if (step != SUP_STEP_TAKE)
		return step;
	memset(free, 0, sizeof(SupClaim));
	free->database = queue->database;
	free->table = table;
	free->slot = slot;
	free->mark = -1;
	free->queue = sup_queue_index(queue);
	free->role = queue->role;
	free->account = queue->account;
	free->job = job;
	SupJob->nclaims++;
	queue->nclaims++;
	*claim = free;
	return SUP_STEP_TAKE;
}

bool
sup_claim_decide(SupClaim *claim)
{
	bool		canceled;

	sup_lock();
	claim->decided = true;
	canceled = claim->canceled;
	sup_unlock();
	return canceled;
}

/* What is wanted stays so: nothing is known of others of the key until they have been looked for. */
void
sup_claim_free_key(SupClaim *claim)
{
	SUP_ASSERT_LOCKED();
	claim->job.spot.id = 0;
	claim->begun = claim->canceled = false;
}

/* Who could not look for others of his key does not know in which queues they are. */
static void
want_all(Oid database, Oid role)
{
	for (int i = *bucket_of(database, role); i >= 0; i = SupJob->queues[i].next)
	{
		SupJobQueue *queue = &SupJob->queues[i];

		if (queue->database != database || queue->role != role)
			continue;
		lower_all(queue);
		sup_queue_set_due(queue, GetCurrentTimestamp());
	}
}

/* It is lost no more: those after it move up. */
static void
close_up(const SupClaim *lost)
{
	for (int i = 0; i < 2 * sup_max_workers; i++)
	{
		SupClaim   *claim = &SupJob->claims[i];

		if (!OidIsValid(claim->database) || claim->slot >= 0 || claim->account != lost->account)
			continue;
		claim->rank -= claim->rank > lost->rank;
		claim->rank_of_role -= claim->role == lost->role && claim->rank_of_role > lost->rank_of_role;
	}
}

void
sup_claim_release(SupClaim *claim, SupRelease how)
{
	SupBounds  *bounds = claim->queue >= 0 && SupJob->queues[claim->queue].database == claim->database ?
		&SupJob->queues[claim->queue].bounds : NULL;

	SUP_ASSERT_LOCKED();
	if (claim->slot < 0)
		close_up(claim);
	if (bounds != NULL && (how == SUP_RELEASE_UNDONE || (how == SUP_RELEASE_GONE && claim->passed)))
		sup_bounds_lower(bounds, claim->job.priority, claim->job.spot);
	else if (how == SUP_RELEASE_GONE && bounds != NULL)
		sup_bounds_gone(bounds, &claim->job);
	if (claim->key_wanted || claim->moved)
		want_all(claim->database, claim->role);
	if (claim->queue >= 0)
		SupJob->queues[claim->queue].nclaims--;
	if (claim->mark >= 0)
		sup_mark_noted(claim->mark);
	claim->database = InvalidOid;
	SupJob->nclaims--;
}

/* Of a run that the server's crash has ended, the pool's counters are gone. */
void
sup_claim_count(const SupClaim *claim, SupEnd end)
{
	SupPool    *pool = claim->queue >= 0 ? sup_pool_by_name(SupJob->queues[claim->queue].pool) : NULL;

	SUP_ASSERT_LOCKED();
	if (pool == NULL)
		return;
	pool->jobs_succeeded += end == SUP_RUN_SUCCEEDED;
	pool->jobs_failed += end == SUP_RUN_FAILED;
}

void
sup_claim_lose(SupClaim *claim, SupEnd end, int sqlstate, const char *message)
{
	int			slot = claim->slot;

	SUP_ASSERT_LOCKED();
	claim->slot = -1;
	rank_lost(claim);
	claim->end = end;
	claim->sqlstate = sqlstate;
	strlcpy(claim->message, message, SUP_MESSAGE);
	sup_request_load(claim->database);
	limit_lost();				/* it may be this one */
	if (OidIsValid(claim->database) && claim->begun && claim->canceled)
		claim->mark = sup_mark_keep(slot);
}
