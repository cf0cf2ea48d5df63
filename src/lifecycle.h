/*-------------------------------------------------------------------------
 *
 * lifecycle.h
 *	  The life of a slot, from state to state.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_LIFECYCLE_H
#define SUP_LIFECYCLE_H

#include "state.h"

/* A new supervisor: rebuild what it knows by heart from the table. */
extern void sup_lifecycle_init(void);

/* Look at these slots in this turn: attended ones, and those that are due. */
extern void sup_look_at_slots(TimestampTz now);

/* Register all that is due. */
extern void sup_start_due(TimestampTz now);

/* Have slots become empty since this was asked last? */
extern bool sup_slots_freed(void);

/* Has a state changed since this was asked last?  Then sessions may wait for that. */
extern bool sup_states_changed(void);

/* All that follow: the caller holds the lock. */

/* Is there something left to look at? */
extern bool sup_unsettled(void);

/*
 * Take an empty slot for an instance of a pool, or of a declaration (the other
 * is -1), due at once.  NULL: there is none.
 */
extern SupSlot *sup_take_slot(int pool, int declaration, int instance, TimestampTz now);

/*
 * The postmaster is about to start this process by itself: in an empty slot,
 * while shared memory is set up.  The supervisor will adopt it.
 */
extern void sup_reserve_slot(SupSlot *slot, SupDeclaration *d, int instance,
							 const SupHandle *handle, TimestampTz now);

/* It has no process, and is no longer wanted. */
extern void sup_release_slot(SupSlot *slot, const char *why, TimestampTz now);

extern void sup_enter(SupSlot *slot, SupState state, SupReason reason, const char *detail,
					  TimestampTz now);

/* Start it in this turn, if it is wanted and has no process. */
extern void sup_make_due(SupSlot *slot, TimestampTz now);

/* A declared worker's process shall end, because of that. */
extern void sup_end_process(SupSlot *slot, SupLeave why);

/*
 * Let the loader's slot read a database, whose number Sup->loading has, or, if
 * that is 0, wait for the end of recovery.
 */
extern void sup_take_loader_slot(TimestampTz now);

/*
 * Replace the next one of these by a rolling restart, once its predecessor is
 * back.
 */
extern void sup_roll(dlist_head *slots, TimestampTz now);

#endif							/* SUP_LIFECYCLE_H */
