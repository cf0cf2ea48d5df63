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

/* A new supervisor: rebuild its agenda from the slots, and adopt processes. */
extern void sup_lifecycle_init(void);

/*
 * Look at these slots in this turn: attended ones, those that are due, and
 * those whose process is on its way in or out.
 */
extern void sup_look_at_slots(TimestampTz now);

/* Register all that is due. */
extern void sup_start_due(TimestampTz now);

/* All that follow: the caller holds the lock. */

/*
 * The postmaster is about to start this process by itself: in an empty slot,
 * while shared memory is set up.  The supervisor will adopt it.
 */
extern void sup_reserve_slot(SupSlot *slot, SupDeclaration *d, int instance,
							 const SupHandle *handle, TimestampTz now);

#endif							/* SUP_LIFECYCLE_H */
