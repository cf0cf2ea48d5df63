/*-------------------------------------------------------------------------
 *
 * match.h
 *	  Matches tasks with workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_MATCH_H
#define SUP_MATCH_H

#include "binding.h"

/* All but the last: the caller holds the lock. */

/* A login lasts longer than is allowed: it is given up if another needs its worker. */
extern void sup_login_overdue(SupSlot *slot, TimestampTz now);
extern void sup_role_ended_worker(Oid role, Oid database, TimestampTz now);
extern void sup_queue_push_front(SupTask *task, TimestampTz now);
extern void sup_queue_remove(SupTask *task);

/* Take its task from a worker that has not begun with it. */
extern SupTask *sup_take_back(SupSlot *slot);
extern void sup_slot_unlink(SupSlot *slot);
extern void sup_dispatch(int pool, TimestampTz now);
extern void sup_offer(SupTask *task, TimestampTz now);
extern void sup_slot_stuck(SupSlot *slot, Oid role, Oid database);
extern void sup_slot_not_stuck(SupSlot *slot, TimestampTz now);
extern void sup_ask_leave(SupSlot *slot, SupLeave why);
extern void sup_ask_terminate(SupSlot *slot);
extern TimestampTz sup_slot_expires(const SupSlot *slot);
extern SupTask *sup_next_task(SupSlot *slot, TimestampTz now);
extern bool sup_drain_goes_on(SupSlot *slot, bool has_run, bool slice_is_over, TimestampTz now);
extern void sup_slot_available(SupSlot *slot);
extern void sup_slot_unbind(SupSlot *slot);

/*
 * Serve again what is blocked no longer: a fence has been lowered, or it is
 * review_at.  Takes the lock itself, time and again.
 */
extern void sup_review_blocked(int pool, TimestampTz now);

#endif							/* SUP_MATCH_H */
