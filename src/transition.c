/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  The states of a slot, and how it goes from one to another.
 *
 * For the supervisor, and for the postmaster while it sets up shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "agenda.h"
#include "event.h"
#include "match.h"
#include "transition.h"

/* How long after one command has made room another has to. */
#define EVICTION_MIN_US	INT64CONST(5000000)
#define EVICTION_MAX_US	INT64CONST(300000000)

/* How often a pool's worker, or one that was taken over, is refused before. */
#define POOL_REFUSED_MAX	1
#define REFUSED_MAX		5

static bool slots_freed = false;
static bool states_changed = false;

/*
 * Transitions.  Only this process writes 'state', and while shared memory is set
 * up, the postmaster.  The caller holds the lock.
 */

#define TO(state)	(1 << (state))
#define ENDED		(TO(SUP_WAITING) | TO(SUP_BACKOFF) | TO(SUP_STOPPED) | TO(SUP_FAILED) | TO(SUP_EMPTY))

/* Which state may follow which: docs/design.md says when. */
PG_USED_FOR_ASSERTS_ONLY static const uint16 legal[SUP_NUM_STATES] = {
	[SUP_EMPTY] = TO(SUP_WAITING) | TO(SUP_STARTING),
	[SUP_WAITING] = TO(SUP_STARTING) | TO(SUP_RUNNING) | TO(SUP_STOPPING) | ENDED,
	[SUP_STARTING] = TO(SUP_RUNNING) | TO(SUP_STOPPING) | ENDED,
	[SUP_RUNNING] = TO(SUP_STOPPING) | ENDED,
	[SUP_STOPPING] = TO(SUP_STUCK) | ENDED,
	[SUP_STUCK] = ENDED,
	[SUP_BACKOFF] = TO(SUP_STARTING) | TO(SUP_WAITING) | TO(SUP_STOPPED) | TO(SUP_FAILED) | TO(SUP_EMPTY),
	[SUP_STOPPED] = TO(SUP_WAITING) | TO(SUP_STOPPED) | TO(SUP_FAILED) | TO(SUP_EMPTY),
	[SUP_FAILED] = TO(SUP_WAITING) | TO(SUP_STOPPED) | TO(SUP_FAILED) | TO(SUP_EMPTY)
};

/* Adds no event; the caller updates the agenda. */
void
sup_set_state(SupSlot *slot, SupState state, SupReason reason, const char *detail, TimestampTz now)
{
	Assert(!IsUnderPostmaster || MyProc == Sup->supervisor);
	Assert((legal[slot->state] & TO(state)) != 0);
	if (slot->state != state || slot->reason != reason)
		slot->state_since = now;
	slot->state = state;
	slot->reason = reason;
	strlcpy(slot->detail, detail ? detail : "", sizeof(slot->detail));
}

/* No event is added if only the detail changes, nor for the loader. */
void
sup_enter(SupSlot *slot, SupState state, SupReason reason, const char *detail, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	if ((slot->state != state || slot->reason != reason) && slot->kind != SUP_KIND_LOADER)
		sup_add_event(slot, sup_state_names[state], detail);
	sup_set_state(slot, state, reason, detail, now);
	states_changed = true;
	sup_agenda_update(slot, now);
	sup_attend_owner(slot);
}

/*
 * Clears what the former worker has left.  'generation' is kept, so that it
 * never identifies two processes.
 */
void
sup_take(SupSlot *slot, SupKind kind, int pool, int declaration, int instance, TimestampTz now)
{
	Assert(slot->state == SUP_EMPTY);
	slot->kind = kind;
	slot->pool = pool;
	slot->declaration = declaration;
	slot->instance = instance;
	slot->surplus = slot->roll = slot->terminate = slot->made_room = false;
	slot->unborn = slot->unborn && kind == SUP_KIND_LOADER;
	slot->leave = SUP_STAY;
	slot->attached_at = slot->ready_at = slot->exited_at = slot->leaving_since = 0;
	slot->exit_reason = SUP_NO_REASON;
	slot->has_handle = false;
	slot->version = declaration >= 0 ? Sup->declarations[declaration].version : 0;
	slot->next_run = slot->last_run_at = slot->last_run_end = slot->last_success_at = 0;
	slot->runs = false;
	slot->started_at = slot->deadline = 0;
	slot->heartbeat_timeout = 0;
	slot->restart_at = now;
	slot->attempts = 0;
	slot->missing = SUP_NO_REASON;
	memset(&slot->history, 0, sizeof(slot->history));
	slot->last_exit_at = 0;
	slot->last_exit_code = -1;
	slot->last_sqlstate = 0;
	slot->last_error[0] = '\0';
	slot->last_role = slot->last_database = InvalidOid;
	sup_clear_slot_stats(slot, now);
	memset(&slot->recent, 0, sizeof(slot->recent));
}

/* After a crash of the server, a C function waits in backoff for a while. */
SupSlot *
sup_take_slot(int pool, int declaration, int instance, TimestampTz now)
{
	int			i = sup_next_empty(-1);
	SupSlot    *slot;
	SupKind		kind = SUP_KIND_POOL;

	SUP_ASSERT_LOCKED();
	if (i < 0)
		return NULL;
	slot = &Sup->slots[i];
	if (declaration >= 0)
		kind = Sup->declarations[declaration].program.kind;
	sup_take(slot, kind, pool, declaration, instance, now);
	sup_set_state(slot, SUP_WAITING, SUP_NO_REASON, NULL, now);
	dlist_push_tail(pool >= 0 ? &Sup->pools[pool].slots : &Sup->declarations[declaration].slots,
					&slot->owner_node);

	/* What may have crashed the server waits, so that a person can stop it. */
	if (kind == SUP_KIND_LIBRARY && now < Sup->library_start_at)
	{
		char		detail[SUP_MESSAGE];

		if (Sup->crashes == 1)
			strlcpy(detail, "the server has crashed", sizeof(detail));
		else
			snprintf(detail, sizeof(detail), "the server has crashed, %d times in a row", Sup->crashes);
		slot->restart_at = Sup->library_start_at;
		sup_enter(slot, SUP_BACKOFF, SUP_EXITED, detail, now);
	}
	else
		sup_agenda_update(slot, now);
	return slot;
}

/* Unlike other slots, it is on no owner's list, and may have a place already. */
void
sup_take_loader_slot(TimestampTz now)
{
	SupSlot    *slot = sup_loader_slot();

	SUP_ASSERT_LOCKED();
	sup_take(slot, SUP_KIND_LOADER, -1, -1, 1, now);
	sup_set_state(slot, SUP_WAITING, SUP_NO_REASON, NULL, now);
	sup_agenda_update(slot, now);
}

/*
 * The generation changes, so that whoever remembers it knows that it is
 * over.  The loader's slot keeps its place for the next time.
 */
void
sup_release_slot(SupSlot *slot, const char *why, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	sup_enter(slot, SUP_EMPTY, SUP_NO_REASON, why, now);
	if (slot->kind != SUP_KIND_LOADER)
	{
		dlist_delete(&slot->owner_node);
		sup_give_up_place(slot);
	}
	slot->pool = slot->declaration = -1;
	slot->generation++;
	if (!slot->keeps_place)
		slot->registered = slot->generation;
	slot->has_handle = false;
	slot->roll = slot->surplus = slot->unforked = false;
	slot->pid = 0;
	slots_freed = true;
}

/* Asked once in each turn, so that sessions are woken once. */
bool
sup_states_changed(void)
{
	bool		changed = states_changed;

	states_changed = false;
	return changed;
}

/* If so, what found no slot before is looked at again. */
bool
sup_slots_freed(void)
{
	bool		freed = slots_freed;

	slots_freed = false;
	return freed;
}

/* One that is stopped or has failed is left as it is. */
void
sup_make_due(SupSlot *slot, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	if (sup_has_process(slot) || (slot->state != SUP_WAITING && slot->state != SUP_BACKOFF))
		return;
	slot->restart_at = now;
	sup_agenda_update(slot, now);
}

/*
 * One of our processes has ended, or who goes before has got its background worker
 * slot: who waits for one is due.
 */
void
sup_retry_refused(TimestampTz now)
{
	for (int i = 0; i < sup_nslots();)
	{
		sup_lock();
		for (int n = 0; n < SUP_SLOTS_PER_LOCK && i < sup_nslots(); n++, i++)
			if (sup_is_refused(&Sup->slots[i]))
				sup_make_due(&Sup->slots[i], now);
		sup_unlock();
	}
}

/* May a worker that waits for that reason find what it lacks in another name, role or database? */
static bool
is_of_names(SupReason reason)
{
	return reason == SUP_NO_DATABASE || reason == SUP_DATABASE_NOT_ALLOWED || reason == SUP_NO_ROLE ||
		reason == SUP_NO_LOGIN || reason == SUP_NO_CONNECTION;
}

/*
 * What a library's function could not log in to may have come meanwhile.  Others
 * may make it look again as often as they like: it is not for that that it waits
 * the shortest time.
 */
bool
sup_names_have_changed(const SupSlot *slot, SupReason reason)
{
	SUP_ASSERT_LOCKED();
	return slot->kind == SUP_KIND_LIBRARY && is_of_names(reason) &&
		slot->names_version != Sup->names_version;
}

/* What the others have waited for has come: a fence has fallen, or there are other names. */
void
sup_make_due_again(TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < sup_nslots() && (Sup->fence_lowered || Sup->names_changed); i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_WAITING)
			continue;
		if (slot->reason == SUP_FENCED && Sup->fence_lowered)
			sup_make_due(slot, now);
		else if (sup_names_have_changed(slot, slot->reason) && !sup_has_process(slot))
		{
			slot->restart_at = Min(slot->restart_at, Max(now, slot->last_exit_at + SUP_RETRY_MIN_US));
			sup_agenda_update(slot, now);
		}
	}
	Sup->fence_lowered = Sup->names_changed = false;
}

/* If it was asked to leave before, that reason is kept. */
void
sup_end_process(SupSlot *slot, SupLeave why)
{
	SUP_ASSERT_LOCKED();
	if (!sup_has_process(slot) || slot->exited_at != 0)
		return;
	if (slot->leave == SUP_STAY)
		slot->leave = why;
	if (slot->state != SUP_STOPPING && slot->state != SUP_STUCK)
		sup_ask_terminate(slot);
}

/*
 * Does nothing while one of them is on its way out or in.  One that has no
 * task goes before others.
 */
void
sup_roll(dlist_head *slots, TimestampTz now)
{
	SupSlot    *next = NULL;
	dlist_iter	iter;

	SUP_ASSERT_LOCKED();
	dlist_foreach(iter, slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (slot->state == SUP_STUCK || slot->state == SUP_STOPPED || slot->state == SUP_FAILED ||
			slot->surplus)
			continue;
		if (!sup_has_process(slot))
		{
			slot->roll = false; /* its process will be new */
			if (slot->restart_at <= now ||
				(slot->state == SUP_BACKOFF && slot->reason == SUP_REQUESTED))
				return;			/* and comes in this turn, or once its row is
								 * read */
		}
		else if (slot->leave == SUP_LEAVE_RESTART || slot->leaving_since != 0 || slot->exited_at != 0 ||
				 slot->state == SUP_STARTING || slot->state == SUP_STOPPING)
			return;				/* one at a time */
		else if (slot->roll && next == NULL)
			next = slot;
		/* those without a task first: nobody waits for them */
		else if (slot->roll && pg_atomic_read_u32(&next->task) != 0 &&
				 pg_atomic_read_u32(&slot->task) == 0)
			next = slot;
	}
	if (next == NULL)
		return;
	next->roll = false;
	if (next->kind == SUP_KIND_POOL)
		sup_ask_leave(next, SUP_LEAVE_RESTART);
	else
		sup_end_process(next, SUP_LEAVE_RESTART);
}

/* May that command be ended, so that its background worker slot is free? */
static bool
may_go(const SupSlot *slot)
{
	return slot->kind == SUP_KIND_COMMAND && sup_has_process(slot) && slot->exited_at == 0 &&
		slot->leave == SUP_STAY && !slot->terminate;
}

/*
 * The command that goes: one of the role that has most, superusers last, and of these
 * the one that was started last.  NULL: there is none.  Looks without the lock, since
 * it may take long: the caller asks again with it whether that one may go.
 */
static SupSlot *
command_to_go(void)
{
	SupSlot    *best = NULL;
	int			best_has = 0;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];
		const SupDeclaration *d;
		int			has = 0;

		if (!may_go(slot))
			continue;
		d = &Sup->declarations[slot->declaration];
		for (int j = 0; j < sup_max_workers && d->capped; j++)
			has += may_go(&Sup->slots[j]) &&
				Sup->declarations[Sup->slots[j].declaration].program.role == d->program.role;
		if (best == NULL || has > best_has || (has == best_has && slot->started_at > best->started_at))
		{
			best = slot;
			best_has = has;
		}
	}
	return best;
}

/*
 * One that goes before declared workers was refused a background worker slot: the
 * worker of a pool all of whose workers are stuck, or one that was taken over, whose
 * place the server would have kept.  A command makes room, whether it runs or not.
 * Others of the server may take what it leaves: so it is seldom for one that was taken
 * over, and ever more seldom for a pool.  Takes the lock.
 */
void
sup_find_place(const SupSlot *refused, TimestampTz now)
{
	static TimestampTz next[2] = {0, 0};
	static int64 wait = EVICTION_MIN_US;
	bool		is_pool = refused->kind == SUP_KIND_POOL;
	SupSlot    *command;

	if (now < next[is_pool] || refused->attempts <= (is_pool ? POOL_REFUSED_MAX : REFUSED_MAX))
		return;
	command = command_to_go();
	if (command == NULL)
		return;
	sup_lock();
	if (may_go(command))
	{
		sup_end_process(command, SUP_LEAVE_RECYCLE);
		command->made_room = true;
		if (now - next[true] > EVICTION_MAX_US)
			wait = EVICTION_MIN_US;
		next[is_pool] = now + (is_pool ? wait : EVICTION_MAX_US);
		if (is_pool)
			wait = Min(2 * wait, EVICTION_MAX_US);
	}
	sup_unlock();
}

/* If there is, the supervisor begins another turn without sleeping. */
bool
sup_unsettled(void)
{
	bool		unsettled = slots_freed || !dlist_is_empty(&Sup->attention) ||
		!dlist_is_empty(&Sup->changed_declarations);

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		unsettled |= Sup->pools[i].attended && Sup->pools[i].name[0] != '\0';
	return unsettled;
}
