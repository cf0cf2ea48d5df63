/*-------------------------------------------------------------------------
 *
 * pools.c
 *	  Brings pools to the size that is asked for.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "drain.h"
#include "event.h"
#include "lifecycle.h"
#include "login.h"
#include "match.h"
#include "members.h"
#include "pools.h"
#include "task.h"
#include "transition.h"

/* What is to be logged of a pool. */
#define NEWS_NO_SLOT	0x01
#define NEWS_DOWN		0x02

/* A pool is not of its size yet. */
#define NEWS_MORE		0x04

/* How many of its workers are added or dropped under one hold of the lock. */
#define CHANGES_PER_LOCK	2

/* See surplus_rank(). */
#define MAX_SURPLUS_RANK	4

/* How many queued tasks end under one hold of the lock. */
#define FAILS_PER_LOCK	32
StaticAssertDecl(FAILS_PER_LOCK <= SUP_MAX_FREES, "each of them may have its command in the area");

/* When a pool without workers has been so for too long. */
static TimestampTz deadlines[SUP_MAX_POOLS];

/* A pool of the settings for which removed ones have left no entry yet. */
typedef struct MissingPool
{
	char		name[NAMEDATALEN];
	bool		told;			/* it is in the log */
} MissingPool;

static MissingPool missing[SUP_MAX_POOLS];
static int	nmissing = 0;

/*
 * Take over who may use a pool.  A list that changes gets another version, by
 * which sessions see that they have to look again.
 */
static void
set_members(SupPool *pool, const SupPoolSetting *setting)
{
	SupMembers *members = &Sup->members[pool - Sup->pools];

	SUP_ASSERT_LOCKED();
	if (!setting->listed)
		pool->members_version = 0;
	else if (pool->members_version == 0 || members->len != setting->members.len ||
			 memcmp(members->names, setting->members.names, members->len) != 0)
	{
		*members = setting->members;
		pool->members_version = ++Sup->last_members_version;
	}
}

/* Note that there is no entry for a pool; 'before' are those of the last time.  The caller holds the lock. */
static void
note_missing(const char *name, const MissingPool *before, int nbefore)
{
	MissingPool *pool = &missing[nmissing++];

	strlcpy(pool->name, name, NAMEDATALEN);
	pool->told = false;
	for (int i = 0; i < nbefore; i++)
		pool->told |= before[i].told && strcmp(before[i].name, name) == 0;
	Sup->pools_missing = true;
}

/*
 * Will a removed pool soon leave its entry?  Not if it has tasks: those that
 * are queued or run, or keep it when its workers have gone.
 */
static bool
one_is_going(void)
{
	bool		going = false;

	sup_lock();
	for (int i = 0; i < SUP_MAX_POOLS && !going; i++)
	{
		SupPool    *pool = &Sup->pools[i];
		bool		stays = pool->nqueued > 0 || dlist_is_empty(&pool->slots);
		dlist_iter	iter;

		if (pool->name[0] == '\0' || !pool->removed)
			continue;
		dlist_foreach(iter, &pool->slots)
			stays |= pg_atomic_read_u32(&dlist_container(SupSlot, owner_node, iter.cur)->task) != 0;
		going = !stays;
	}
	sup_unlock();
	return going;
}

/* Say of which pools there is no entry, of each once until it has got one. */
static void
tell_missing(void)
{
	for (int i = 0; i < nmissing; i++)
	{
		char		detail[SUP_MESSAGE];

		if (missing[i].told)
			continue;
		if (one_is_going())
			return;
		missing[i].told = true;
		snprintf(detail, sizeof(detail), "no entry for pool %s: removed pools still have tasks", missing[i].name);
		sup_lock();
		sup_add_event(NULL, "waiting", detail);
		sup_unlock();
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no entry for pool \"%s\": pools that were removed still have tasks", missing[i].name),
				 errdetail("There are at most %d pools, with those that were removed. The pool is set up when the last task of one of these is gone.",
						   SUP_MAX_POOLS)));
	}
}

/* Take over the settings: which pools there are, how large, and for whom. */
void
sup_set_pools(void)
{
	int			n;
	SupPoolSetting *settings = sup_pool_settings(&n);
	MissingPool before[SUP_MAX_POOLS];
	int			nbefore = nmissing;

	memcpy(before, missing, sizeof(before));
	nmissing = 0;
	sup_lock();
	Sup->pools_missing = false;
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].name[0] != '\0')
		{
			Sup->pools[i].removed = true;
			Sup->pools[i].size = 0;
			sup_attend_pool(&Sup->pools[i]);
		}
	for (int i = 0; i < n; i++)
	{
		SupPool    *pool = sup_pool_by_name(settings[i].name);

		for (int j = 0; pool == NULL && j < SUP_MAX_POOLS; j++)
			if (Sup->pools[j].name[0] == '\0')
			{
				pool = &Sup->pools[j];
				strlcpy(pool->name, settings[i].name, NAMEDATALEN);
				sup_clear_pool_stats(pool, sup_now());
				pool->no_worker_since = 0;
				pool->down = false;
				deadlines[j] = DT_NOEND;
			}
		if (pool == NULL)
		{
			note_missing(settings[i].name, before, nbefore);
			continue;
		}
		pool->removed = false;
		pool->size = settings[i].size;
		set_members(pool, &settings[i]);
		sup_attend_pool(pool);
	}
	Sup->pools_set = true;
	SupJob->review = true;
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
	sup_watch_members();
	pfree(settings);
}

/*
 * Does this worker count for the size of its pool?  One that is stuck, or is
 * to go as there are too many, does not.
 */
static bool
counts_for_pool(const SupSlot *slot)
{
	return !slot->surplus;
}

/* A number that no other worker of the pool has. */
static int
free_instance(SupPool *pool)
{
	bool		taken[SUP_MAX_WORKERS + 2] = {false};
	int			instance = 1;
	dlist_iter	iter;

	dlist_foreach(iter, &pool->slots)
		taken[dlist_container(SupSlot, owner_node, iter.cur)->instance] = true;
	while (taken[instance])
		instance++;
	return instance;
}

/* How much is lost if this worker goes?  At most MAX_SURPLUS_RANK. */
static int
surplus_rank(SupSlot *slot)
{
	if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		return 0;
	if (slot->state == SUP_STOPPING || slot->state == SUP_STUCK || slot->exited_at != 0)
		return 1;
	if (slot->binding < 0)
		return 2;
	return pg_atomic_read_u32(&slot->task) == 0 ? 3 : MAX_SURPLUS_RANK;
}

/* A worker's pool has too many, and this one goes. */
static void
drop_surplus(SupSlot *slot, TimestampTz now)
{
	if (!sup_has_process(slot))
	{
		sup_release_slot(slot, "the pool shrank", now);
		return;
	}
	slot->surplus = true;

	/* if it has to leave anyway, it has to also if the pool grows again */
	if (slot->leave == SUP_STAY)
		sup_ask_leave(slot, SUP_LEAVE_SURPLUS);
	sup_count_coming(slot);
}

/*
 * Of those that a pool has too many drop some: those go first that do least,
 * the last ones first.  True: there are more.
 */
static bool
drop_some(SupPool *p, int too_many, TimestampTz now)
{
	SupSlot    *slots[MAX_SURPLUS_RANK + 1][CHANGES_PER_LOCK];
	int			n[MAX_SURPLUS_RANK + 1] = {0};
	int			left = Min(too_many, CHANGES_PER_LOCK);
	dlist_iter	iter;

	dlist_reverse_foreach(iter, &p->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);
		int			rank = surplus_rank(slot);

		if (counts_for_pool(slot) && n[rank] < CHANGES_PER_LOCK)
			slots[rank][n[rank]++] = slot;
	}
	for (int rank = 0; rank <= MAX_SURPLUS_RANK; rank++)
		for (int i = 0; i < n[rank] && left > 0; i++, left--)
			drop_surplus(slots[rank][i], now);
	return too_many > CHANGES_PER_LOCK;
}

/*
 * Bring the number of a pool's slots to what is wanted, or nearer to it.  The
 * caller holds the lock, and logs the news that this returns when it no longer
 * does; NEWS_MORE is that it is to be called again.
 */
static int
size_pool(int pool, TimestampTz now)
{
	SupPool    *p = &Sup->pools[pool];
	int			wanted = p->size;
	int			have = 0;
	int			changed = 0;
	int			news = 0;
	dlist_iter	iter;

	/* Whatever is queued is still served. */
	if (wanted == 0 && (p->nqueued > 0))
		wanted = 1;

	dlist_foreach(iter, &p->slots)
		have += counts_for_pool(dlist_container(SupSlot, owner_node, iter.cur));

	/* Too few: keep one that was about to go, or else take a slot. */
	dlist_foreach(iter, &p->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (have < wanted && slot->state != SUP_STUCK && slot->surplus)
		{
			slot->surplus = false;
			if (slot->leaving_since == 0 && slot->leave == SUP_LEAVE_SURPLUS)
				slot->leave = SUP_STAY;
			sup_count_coming(slot);
			have++;
		}
	}
	for (; have < wanted && changed < CHANGES_PER_LOCK; have++, changed++)
		if (sup_take_slot(pool, -1, free_instance(p), now) == NULL)
			break;
	if (changed == CHANGES_PER_LOCK)
		return NEWS_MORE;
	if (have < wanted && p->no_slot == 0)
	{
		sup_add_event(NULL, "waiting", "all slots are taken: see supervisor.max_workers");
		news |= NEWS_NO_SLOT;
	}
	p->no_slot = Max(wanted - have, 0);

	return have > wanted && drop_some(p, have - wanted, now) ? NEWS_MORE : news;
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
	dlist_iter	iter;

	deadlines[pool] = DT_NOEND;
	dlist_foreach(iter, &p->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (!counts_for_pool(slot))
			continue;
		if (slot->lingers || (slot->ready_at != 0 && slot->exited_at == 0 && slot->state != SUP_STOPPING))
			served = true;
		else if (culprit == NULL || slot->reason != SUP_NO_REASON)
			culprit = slot;
	}
	if (served)
	{
		p->no_worker_since = 0;
		SupJob->review |= p->down;
		p->down = false;
		return 0;
	}
	if (p->no_worker_since == 0)
		p->no_worker_since = now;
	deadline = sup_start_timeout == 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(p->no_worker_since, sup_start_timeout);
	if (now < deadline)
	{
		deadlines[pool] = deadline;
		SupJob->review |= p->down;
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

	for (int i = 0; i < FAILS_PER_LOCK && p->nqueued > 0; i++)
	{
		dlist_head *list = dlist_is_empty(&p->queued) ? &p->blocked : &p->queued;
		SupBinding *b = dlist_head_element(SupBinding, node, list);
		char		message[SUP_MESSAGE];

		if (dlist_head_element(SupTask, node, &b->queue)->kind == SUP_TASK_DRAIN)
		{
			sup_drain_drop(dlist_head_element(SupTask, node, &b->queue));
			continue;
		}
		snprintf(message, sizeof(message), "no worker of pool \"%s\" could be started", p->name);
		sup_task_fail_queued(dlist_head_element(SupTask, node, &b->queue), SUP_TASK_FAILED,
							 ERRCODE_INSUFFICIENT_RESOURCES, message, p->down_detail);
	}
	if (p->nqueued > 0)
		sup_attend_pool(p);		/* the others in another turn */
	return news;
}

/*
 * The lock is held for one pool at a time.  What is to be logged is logged
 * when it has been released.
 */
TimestampTz
sup_look_at_pools(bool slots_freed, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	bool		freed = false;

	for (int i = 0; i < SUP_MAX_POOLS; i++)
	{
		SupPool    *pool = &Sup->pools[i];
		int			news;

		/* only this process gives pools their names */
		if (pool->name[0] == '\0')
			continue;
		if (pool->attended || pool->review_at <= now)
			sup_review_blocked(i, now);
		if (pool->attended || deadlines[i] <= now || (slots_freed && pool->no_slot > 0))
		{
			sup_lock();
			pool->attended = false;
			while ((news = size_pool(i, now)) == NEWS_MORE)
			{
				sup_unlock();
				CHECK_FOR_INTERRUPTS();
				sup_lock();
			}
			sup_roll(&pool->slots, now);
			news |= judge_pool(i, now);
			if (pool->removed && dlist_is_empty(&pool->slots) && !sup_pool_in_use(i))
			{
				pool->name[0] = '\0';
				sup_slow_forget(i);
				deadlines[i] = DT_NOEND;
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
		next = Min(next, Min(deadlines[i], pool->review_at));
	}
	if (nmissing > 0 && freed)
	{
		sup_set_pools();
		next = now;				/* they have yet to get their workers */
	}
	else
		tell_missing();
	return Min(next, sup_look_at_members(now));
}
