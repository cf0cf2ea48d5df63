/*-------------------------------------------------------------------------
 *
 * reset.h
 *	  Undoes what a task or run has left in its session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_RESET_H
#define SUP_RESET_H

#include "state.h"

/*
 * Undo what remains of a session when its task, or run, is over; its launched
 * tasks end.  Takes no cancels but where it waits for a lock.  False: that has
 * failed, which is in the log, and the session is no good any more.
 */
extern bool sup_reset_session(Oid role);

/*
 * The same for a pool worker, before anybody sees that its task has ended.  If that
 * fails, the task has ended as it has, and the process serves no other.
 */
extern void sup_reset_worker(SupSlot *slot);

/* After an error of a command, as PostgresMain() does; interrupts are held. */
extern void sup_clean_up_after_error(void);

/* A cancel may be on its way: the kernel delivers it before this returns. */
extern void sup_take_late_cancel(void);

#endif							/* SUP_RESET_H */
