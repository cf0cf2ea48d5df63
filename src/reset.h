/*-------------------------------------------------------------------------
 *
 * reset.h
 *	  Undoes what a task or run has left in its session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_RESET_H
#define SUP_RESET_H

#include "postgres_ext.h"

/*
 * Undo what remains of a session when its task, or run, is over; its launched
 * tasks end.  Takes no cancels but where it waits for a lock.  False: that has
 * failed, which is in the log, and the session is no good any more.
 */
extern bool sup_reset_session(Oid role);

#endif							/* SUP_RESET_H */
