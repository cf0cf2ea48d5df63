/*-------------------------------------------------------------------------
 *
 * agenda.c
 *	  The supervisor's agenda: which slots are to be looked at, and when.
 *
 * A turn costs what has changed or fallen due, not what there is: it looks at
 * slots that somebody has asked it to look at (Sup->attention), at those whose
 * time has come (a heap), and at those whose process is on its way in or out,
 * since the postmaster's signal does not say whose news it brings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/pairingheap.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "agenda.h"

/* When a slot is to be looked at. */
typedef struct Due
{
	pairingheap_node node;
	TimestampTz when;
	bool		in_heap;
} Due;

/*
 * The supervisor alone has these, and runs nobody's code: it takes interrupts
 * between two slots, and what they do does not come back here.
 */
static Due *dues;				/* by slot */
static pairingheap *heap;
static uint64 *moving;			/* set of slots on their way in or out */
static uint64 *empty;
static uint64 *startable;		/* wanted, and due now */
static uint64 *to_look_at;		/* to be looked at in this turn */

/* For the heap, which has its largest element first: the earliest time. */
static int
compare_dues(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Due  *x = pairingheap_const_container(Due, node, a);
	const Due  *y = pairingheap_const_container(Due, node, b);

	return x->when < y->when ? 1 : x->when > y->when ? -1 : 0;
}

/* When is that slot to be looked at; DT_NOEND takes it off the heap. */
static void
set_due(int slot, TimestampTz when)
{
	Due		   *due = &dues[slot];

	if (due->in_heap)
		pairingheap_remove(heap, &due->node);
	due->in_heap = when != DT_NOEND;
	due->when = when;
	if (due->in_heap)
		pairingheap_add(heap, &due->node);
}

/* Sets of slots, which can be changed while the lock is held. */

/* Length of a set, with a bit for each slot. */
static int
set_words(void)
{
	return sup_nslots() / 64 + 1;
}

/* Put a slot into a set, or take it out. */
static void
set_member(uint64 *set, int slot, bool is_member)
{
	uint64		bit = UINT64CONST(1) << (slot % 64);

	if (is_member)
		set[slot / 64] |= bit;
	else
		set[slot / 64] &= ~bit;
}

/* The first member after that one; -1: none. */
static int
next_member(const uint64 *set, int slot)
{
	slot++;
	for (int i = slot / 64; i < set_words(); i++)
	{
		uint64		word = set[i];

		if (i == slot / 64)
			word &= ~UINT64CONST(0) << (slot % 64);
		if (word != 0)
			return i * 64 + pg_rightmost_one_pos64(word);
	}
	return -1;
}

/*
 * Its time on the heap, and the sets that it is in, follow from its state as
 * it is now: so this is called after any change of that.
 */
void
sup_agenda_update(SupSlot *slot, TimestampTz now)
{
	int			i = sup_slot_index(slot);
	TimestampTz when = DT_NOEND;
	bool		has_process = sup_has_process(slot);
	bool		waits = !has_process &&
		(slot->state == SUP_WAITING || slot->state == SUP_BACKOFF);

	SUP_ASSERT_LOCKED();
	if (waits)
		when = slot->restart_at;
	else if (has_process && slot->lingers)
		when = slot->deadline != 0 ? slot->deadline : slot->notifies ? DT_NOEND :
			TimestampTzPlusMilliseconds(now, SUP_REAP_LOOK_MAX_MS);
	else if (has_process && slot->exited_at != 0)
		/* The postmaster has yet to reap it, and tells us, unless adopted. */
		when = TimestampTzPlusMilliseconds(now, slot->notifies ? SUP_REAP_LOOK_MAX_MS : slot->look_again);
	else if (has_process && slot->deadline != 0)
		when = slot->deadline;
	else if (slot->state == SUP_RUNNING && slot->heartbeat_timeout > 0)
		when = Min(slot->heartbeat_at, now) + slot->heartbeat_timeout;
	else if (slot->state == SUP_RUNNING)
		when = Min(slot->login_until, slot->overdue_at);
	if (has_process)
		when = Min(when, sup_lingers_from(slot));
	if (has_process && slot->unforked)
		when = Min(when, slot->started_at + SUP_FORK_US);

	set_member(startable, i, waits && when <= now);
	set_due(i, waits && when <= now ? DT_NOEND : when);

	/* Promotion brings those that wait for it: see loads.c. */
	set_member(moving, i, has_process && slot->state != SUP_WAITING &&
			   (slot->state != SUP_RUNNING || slot->exited_at != 0));
	set_member(empty, i, slot->state == SUP_EMPTY && slot != sup_loader_slot());
	sup_count_coming(slot);
}

/*
 * What comes up from here on is for the next turn.  A slot whose time has
 * come leaves the heap, and whoever looks at it says when it is due again.
 * Takes the lock.
 */
void
sup_agenda_turn(TimestampTz now)
{
	memcpy(to_look_at, moving, set_words() * sizeof(uint64));

	sup_lock();
	while (!dlist_is_empty(&Sup->attention))
	{
		SupSlot    *slot = dlist_container(SupSlot, attention_node,
										   dlist_pop_head_node(&Sup->attention));

		slot->attended = false;
		sup_attend_owner(slot);
		set_member(to_look_at, sup_slot_index(slot), true);
	}
	sup_unlock();
	while (!pairingheap_is_empty(heap))
	{
		Due		   *due = pairingheap_container(Due, node, pairingheap_first(heap));

		if (due->when > now)
			break;
		set_member(to_look_at, due - dues, true);
		set_due(due - dues, DT_NOEND);
	}
}

/* Begin with -1.  The set is as sup_agenda_turn() has left it. */
int
sup_next_to_look_at(int slot)
{
	return next_member(to_look_at, slot);
}

/* Begin with -1.  A slot that is started leaves the set at once. */
int
sup_next_startable(int slot)
{
	return next_member(startable, slot);
}

/* Without the loader's slot, which is for nobody else. */
int
sup_next_empty(int slot)
{
	return next_member(empty, slot);
}

/* 0: something can be started now; DT_NOEND: there is nothing to wait for. */
TimestampTz
sup_next_due(void)
{
	if (sup_next_startable(-1) >= 0)
		return 0;
	if (pairingheap_is_empty(heap))
		return DT_NOEND;
	return pairingheap_container(Due, node, pairingheap_first(heap))->when;
}

/* Allocate all of it, since it is used where nothing can be allocated. */
void
sup_agenda_init(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "supervisor agenda",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);

	dues = palloc0(sizeof(Due) * sup_nslots());
	heap = pairingheap_allocate(compare_dues, NULL);
	moving = palloc0(sizeof(uint64) * set_words());
	empty = palloc0(sizeof(uint64) * set_words());
	startable = palloc0(sizeof(uint64) * set_words());
	to_look_at = palloc0(sizeof(uint64) * set_words());
	MemoryContextSwitchTo(oldcontext);
}
