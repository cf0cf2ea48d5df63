/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  The states of a slot.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_TRANSITION_H
#define SUP_TRANSITION_H

#include "state.h"

/*
 * What could not even be started is not tried more often, whatever the
 * policy.
 */
#define SUP_RETRY_MIN_US	INT64CONST(1000000)

/*
 * How many slots are looked through under one hold of the lock, where each
 * may have work done.
 */
#define SUP_SLOTS_PER_LOCK	32

/* Have slots become empty since this was asked last? */
extern bool sup_slots_freed(void);

/* Has a state changed since this was asked last?  Then sessions may wait for that. */
extern bool sup_states_changed(void);

/*
 * One that goes before declared workers, and may ask for that, has just been refused a
 * background worker slot: a command may have to give it its own.  Takes the lock.
 */
extern void sup_find_place(const SupSlot *refused, TimestampTz now);

/* Start in this turn all that were refused a background worker slot.  Takes the lock. */
extern void sup_retry_refused(TimestampTz now);

/* All that follow: the caller holds the lock. */

/* Is there something left to look at? */
extern bool sup_unsettled(void);

/*
 * Enter a state that may follow: with an event, and whoever the slot belongs to
 * looks at it; or silently.
 */
extern void sup_enter(SupSlot *slot, SupState state, SupReason reason, const char *detail,
					  TimestampTz now);
extern void sup_set_state(SupSlot *slot, SupState state, SupReason reason, const char *detail,
						  TimestampTz now);

/* Make an empty slot one of these; the caller says in which state. */
extern void sup_take(SupSlot *slot, SupKind kind, int pool, int declaration, int instance,
					 TimestampTz now);

/*
 * Take an empty slot for an instance of a pool, or of a declaration (the other
 * is -1), due at once, but for a C function after a crash.  NULL: there is
 * none.
 */
extern SupSlot *sup_take_slot(int pool, int declaration, int instance, TimestampTz now);

/*
 * Let the loader's slot read a database, whose number Sup->loading has, or, if
 * that is 0, get the background worker slot that it keeps from then on.
 */
extern void sup_take_loader_slot(TimestampTz now);

/* It has no process, and is no longer wanted. */
extern void sup_release_slot(SupSlot *slot, const char *why, TimestampTz now);

/* Was it refused a background worker slot, and waits for one? */
static inline bool
sup_is_refused(const SupSlot *slot)
{
	return slot->state == SUP_WAITING && slot->reason == SUP_NO_BACKGROUND_WORKER_SLOT;
}

/* Start it in this turn, if it is wanted and has no process. */
extern void sup_make_due(SupSlot *slot, TimestampTz now);

/* The same for all that have waited for what has come. */
extern void sup_make_due_again(TimestampTz now);

/* Was that why a library's function ended, and may it be otherwise now? */
extern bool sup_names_have_changed(const SupSlot *slot, SupReason reason);

/* A declared worker's process, or the loader's, shall end, because of that. */
extern void sup_end_process(SupSlot *slot, SupLeave why);

/*
 * Replace the next one of these by a rolling restart, once its predecessor is
 * back.
 */
extern void sup_roll(dlist_head *slots, TimestampTz now);

#endif							/* SUP_TRANSITION_H */
