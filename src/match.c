/*-------------------------------------------------------------------------
 *
 * match.c
 *	  Matches tasks with workers: queues, and which worker gets which task.
 *
 * A task is given to a worker by whoever makes the match possible: the
 * session that submits it, the worker that ends another, a new worker that
 * became ready, a worker's exit, the end of a fence.  The supervisor process
 * is not on that path, except for bindings that were blocked for a time, and
 * for logins that last too long.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "login.h"
#include "match.h"

/*
 * A worker leaves for a binding that has waited so long without getting ahead;
 * for one that has about as many workers as its own, so long.
 */
#define STARVATION_US	(100 * 1000)
#define STARVATION_AT_PAR_US	(1000 * 1000)

/* In a pool, not more often than that, however many wait. */
#define MAKE_ROOM_US	(20 * 1000)

/*
 * A role with so many processes in a database that do not end is not served there
 * until one has; a superuser may have a quarter of all.
 */
#define STUCK_ALLOWED	2

/* What has been blocked by tasks that ran is looked at again that late. */
#define REVIEW_US	(10 * 1000)

/*
 * How many bindings are moved under one hold of the lock.  Each takes a look at all
 * that is stuck; where that is much, perhaps one at all slots.
 */
#define MOVES_PER_LOCK	(Sup->nstuck < 64 ? 64 : 4)

/*
 * Roles that end workers.  A successor is a fork and, with the next task, a
 * login: so who ends them one after the other, by a task or because his login
 * fails, has his tasks wait.
 */

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

/* Does its role have to wait because it has ended too many workers? */
static inline bool
is_held(const SupBinding *b, TimestampTz now)
{
	return b->held_until > now;
}

/* Tasks that a role runs, beside what it has stuck. */
static int
running_of_role(Oid role)
{
	int			n = 0;

	for (int i = *sup_bindings_of(role); i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role)
			n += Sup->bindings[i].nbusy;
	return n;
}

/* The same of all guests of an account.  Rarely asked: it looks at all slots. */
static int
running_of_guests(Oid account)
{
	int			n = 0;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		n += pg_atomic_read_u32(&slot->task) != 0 && slot->capped && slot->account == account &&
			slot->role != account;
	}
	return n;
}

/*
 * Each has a slot, and another takes its place.  Whose doing it is, is not known: it
 * may be the role's or the owner's of the database.  So two of a role count in their
 * database, and as many as are replaced in any case in all that go to one account;
 * one more counts everywhere, and so do the tasks that the role runs meanwhile, or it
 * would have many of them stuck at once.  Those of several roles in the databases of
 * one owner count for these roles there; for his other guests, with the tasks that
 * they all run, only if they are half of all.  A superuser may have a quarter.
 */
static bool
is_stuck(const SupBinding *b)
{
	int			half = Min(sup_max_workers, max_worker_processes) / 2;
	int			most = Max(STUCK_ALLOWED, half / 2);
	bool		is_guest = OidIsValid(b->account) && b->account != b->role;
	int			here = 0;
	int			of_account = 0;
	int			mine = 0;
	int			mine_busy = 0;
	int			guests = 0;
	int			guests_busy = 0;

	for (int i = 0; i < Sup->nstuck; i++)
	{
		const SupStuck *stuck = &Sup->stuck[i];
		bool		is_busy = pg_atomic_read_u32(&Sup->slots[stuck->slot].task) != 0;
		bool		is_mine = stuck->role == b->role;
		bool		of_guest = is_guest && stuck->capped && stuck->account == b->account &&
			stuck->role != b->account;

		here += is_mine && stuck->database == b->database;
		of_account += is_mine && stuck->account == b->account;
		mine += is_mine;
		mine_busy += is_mine && is_busy;
		guests += of_guest;
		guests_busy += of_guest && is_busy;
	}
	if (!OidIsValid(b->account))
		return here >= most;
	if (here >= STUCK_ALLOWED || of_account >= most)
		return true;

	/* Mostly it is enough to know how many tasks run, of anybody. */
	if (mine > 0 && mine + Sup->nbusy - mine_busy > most &&
		mine + running_of_role(b->role) - mine_busy > most)
		return true;
	return guests >= most &&
		(of_account > 0 ||
		 (guests + Sup->nbusy - guests_busy >= Max(most, half) &&
		  guests + running_of_guests(b->account) - guests_busy >= Max(most, half)));
}

/* Shall nobody serve it now? */
static bool
is_blocked(const SupBinding *b, TimestampTz now)
{
	return is_held(b, now) || is_stuck(b) || sup_database_fenced(b->database);
}

/* Shall at least nobody log in for it? */
static bool
is_closed(const SupBinding *b, TimestampTz now)
{
	const SupSlow *slow = sup_slow_of(b->pool, b->database);

	return is_blocked(b, now) ||
		(slow != NULL &&
		 (slow->logins > 0 || sup_slow_are_full(&Sup->pools[b->pool]) || sup_slow_held_until(slow, now) != 0));
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
		const SupSlow *slow = sup_slow_of(b->pool, b->database);
		TimestampTz until = is_held(b, now) ? b->held_until : 0;

		dlist_push_tail(&pool->blocked, &b->node);
		pool->nblocked++;
		pool->nqueued_blocked += b->nqueued;
		if (slow != NULL && sup_slow_held_until(slow, now) != 0)
			until = Max(until, sup_slow_held_until(slow, now));
		else if (slow != NULL && slow->logins == 0 && sup_slow_are_full(pool))
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
 * database, who can have any task or login there end its process, and for whom
 * the role shall not have to wait elsewhere.  So it counts there alone, unless it
 * is the role's own database.
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

	for (int i = *sup_bindings_of(role); i >= 0; i = Sup->bindings[i].next)
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

/*
 * The number of queued tasks of a binding has changed.  Adjust the counts,
 * and move the binding to the list on which it belongs now.
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

/* Take a task off its queue, because it ends without having been run. */
void
sup_queue_remove(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	dlist_delete(&task->node);
	count_queued(&Sup->bindings[task->binding], -1, 0);
}

/* The worker stays bound.  The caller must queue the task again, or end it. */
SupTask *
sup_take_back(SupSlot *slot)
{
	SupTask    *task = &Sup->tasks[pg_atomic_read_u32(&slot->task) - 1];

	SUP_ASSERT_LOCKED();
	pg_atomic_write_u32(&slot->task, 0);
	slot->begun = false;
	Sup->nbusy--;
	Sup->bindings[task->binding].nbusy--;
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

	if (now - pool->made_room_at < MAKE_ROOM_US)
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
		slot->account = b->account;
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
	Sup->bindings[task->binding].nbusy++;
	sup_stop_counting(&slot->spinning);
	pg_write_barrier();
	pg_atomic_write_u32(&slot->task, sup_task_index(task) + 1);
	if (slot->proc != MyProc)
		sup_wake_slot(slot);
}

/* Idle workers of a binding take its queued tasks, as long as that is not blocked. */
static void
serve_by_idle(SupBinding *b, TimestampTz now)
{
	while (b->nqueued > 0 && !dlist_is_empty(&b->idle) && !is_blocked(b, now))
		give(dlist_head_element(SupSlot, binding_node, &b->idle), pop_task(b, now), now);
}

/* It is on its way out: it is given no task any more. */
static void
leaves(SupSlot *slot)
{
	sup_slot_unlink(slot);
	slot->leaving_since = sup_now();
	sup_count_coming(slot);
	sup_attend(slot);			/* for it may not end */
}

/* Give up a login, for which its task waits again. */
static void
give_up_login(SupSlot *slot, TimestampTz now)
{
	SupTask    *task = sup_slot_task(slot);

	slot->leaving_since = now;
	sup_ask_terminate(slot);
	if (task != NULL && task->cancel == SUP_NOT_CANCELED)
		sup_queue_push_front(sup_take_back(slot), now);
}

/*
 * Match queued tasks of a pool with workers: unbound ones take them, and
 * where none is left those make room that have been idle longest, or one
 * that logs in for longer than is allowed.  Of the latter, one after the
 * other: it may be that they need no more than a moment.
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

	SUP_ASSERT_LOCKED();
	if (b->nqueued == 0 && !dlist_is_empty(&b->idle) && !is_blocked(b, now))
	{
		give(dlist_head_element(SupSlot, binding_node, &b->idle), task, now);
		return;
	}
	pg_atomic_write_u32(&task->state, SUP_TASK_QUEUED);
	dlist_push_tail(&b->queue, &task->node);
	count_queued(b, 1, now);
	serve_by_idle(b, now);
	sup_dispatch(b->pool, now);
}

/*
 * Each binding goes to the end of a list, so that none is looked at twice.
 * As there may be many, the lock is released after every MOVES_PER_LOCK.
 */
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

/* The supervisor shall look at what is blocked, then. */
static void
review_all(TimestampTz when)
{
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].nblocked > 0)
		{
			Sup->pools[i].review_at = Min(Sup->pools[i].review_at, when);
			sup_wake_supervisor_by(when);
		}
}

/* A task has ended: its role may run another, if it is blocked because of that. */
static inline void
task_counts_no_more(TimestampTz now)
{
	if (Sup->nstuck > 0)
		review_all(now + REVIEW_US);
}

/* A process of that role is to end, and has not or may not. */
void
sup_slot_stuck(SupSlot *slot, Oid role, Oid database)
{
	SupStuck   *stuck = &Sup->stuck[Sup->nstuck];

	SUP_ASSERT_LOCKED();
	if (!OidIsValid(role) || slot->stuck)
		return;
	slot->stuck = true;
	stuck->slot = sup_slot_index(slot);
	stuck->role = role;
	stuck->database = database;
	stuck->account = slot->account;
	stuck->capped = slot->capped;
	Sup->nstuck++;
}

/* It has ended: its role may be served again. */
void
sup_slot_not_stuck(SupSlot *slot, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	if (!slot->stuck)
		return;
	slot->stuck = false;
	for (int i = 0; i < Sup->nstuck; i++)
		if (Sup->stuck[i].slot == sup_slot_index(slot))
			Sup->stuck[i--] = Sup->stuck[--Sup->nstuck];
	review_all(now);
}

/* Ask a worker to leave as soon as it has no task. */
void
sup_ask_leave(SupSlot *slot, SupLeave why)
{
	SUP_ASSERT_LOCKED();
	slot->leave = why;
	if (slot->listed)
		leaves(slot);
	sup_wake_slot(slot);
}

/* A worker shall be terminated: until it is, it is given no task. */
void
sup_ask_terminate(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	slot->terminate = true;
	if (slot->listed)
		leaves(slot);
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
 * with slot->leaving_since set, shall go.
 */
SupTask *
sup_next_task(SupSlot *slot, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[slot->binding];
	SupPool    *p = &Sup->pools[slot->pool];

	SUP_ASSERT_LOCKED();
	Assert(pg_atomic_read_u32(&slot->task) == 0 && !slot->listed);
	task_counts_no_more(now);

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
		leaves(slot);
		return NULL;
	}

	if (p->size == 0)
		sup_attend_pool(p);		/* which kept it for what was queued */
	dlist_push_head(&b->idle, &slot->binding_node);
	dlist_push_head(&p->idle, &slot->pool_node);
	slot->listed = true;
	return NULL;
}

/*
 * May a worker that drains take another job, as it would the next task?  After its
 * slice of time only if nobody waits: neither sessions of its own role nor others.  One
 * that has run none takes one, as it would have run its task: if logging in takes longer
 * than others wait patiently, or a worker lives, each would make room for the next one.
 */
bool
sup_drain_goes_on(SupSlot *slot, bool has_run, bool slice_is_over, TimestampTz now)
{
	SupBinding *b = &Sup->bindings[slot->binding];
	SupPool    *p = &Sup->pools[slot->pool];

	SUP_ASSERT_LOCKED();
	if (has_run && slot->leave == SUP_STAY &&
		((sup_worker_lifetime > 0 && now >= sup_slot_expires(slot)) || others_starve(p, b, now)))
		slot->leave = SUP_LEAVE_RECYCLE;
	return slot->leave == SUP_STAY && !slot->terminate && !slot->stale && !is_blocked(b, now) && p->size > 0 &&
		!(slice_is_over && (b->nqueued > 0 || oldest_waiting(p, now) != NULL));
}

/* A worker is ready and has no binding; with slot->leaving_since set it shall go. */
void
sup_slot_available(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	Assert(slot->binding < 0 && !slot->listed);
	if (slot->leave != SUP_STAY || slot->terminate)
	{
		leaves(slot);
		return;
	}
	sup_count_coming(slot);
	dlist_push_tail(&Sup->pools[slot->pool].unbound, &slot->pool_node);
	slot->listed = true;
	sup_dispatch(slot->pool, sup_now());
}

/* A worker ends its binding, because it ends or must not connect now. */
void
sup_slot_unbind(SupSlot *slot)
{
	SupBinding *b;

	SUP_ASSERT_LOCKED();
	sup_slot_unlink(slot);
	sup_login_over(slot);
	b = sup_slot_binding(slot);
	slot->binding = -1;
	if (b == NULL)
		return;
	task_counts_no_more(sup_now());
	b->nworkers--;
	sup_binding_drop(b);
}
