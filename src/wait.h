/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  How a session waits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_WAIT_H
#define SUP_WAIT_H

#include "state.h"

/* What a process knows of whether it is worth to spin. */
typedef struct SupSpin
{
	bool		pays;			/* the last wait was short */
	pg_atomic_uint32 *counted;	/* says that it is counted in nspinning */
} SupSpin;

/* This session submits a task at 'now', and will wait for it.  The caller holds the lock. */
extern void sup_note_call(TimestampTz now);

/* It waited, or would have had to spin, that long. */
extern void sup_spin_note(SupSpin *spin, int64 microseconds);

/*
 * Spin until done() or until that is no use any more, which may be from the
 * start; true if done.  'partner' is the CPU of the process that is waited
 * for, -1 if not known.
 */
extern bool sup_spin_until(SupSpin *spin, int partner, bool (*done) (void *arg), void *arg);

/*
 * Sleep until done(), which looks at tasks without the lock; false if 'deadline'
 * (0: none) came first.  What makes it done sets this session's latch, or wakes
 * whoever sleeps on 'cv', if that is not NULL.  Raises 40P01 if what it waits for
 * waits for a lock of this session.
 */
extern bool sup_sleep_until(bool (*done) (void *arg), void *arg, TimestampTz deadline,
							ConditionVariable *cv);

/* Raise 55000 if there is no supervisor, and none will come. */
extern void sup_require_supervisor(void);

/*
 * Wait until a supervisor has read the settings, unless one has since the
 * server started.  55000 as above, or if that takes too long.
 */
extern void sup_await_supervisor(void);

/*
 * Sleep until workers have changed so that done(arg), which takes the lock; a
 * deadline of 0 is none.  False: it was not done in time.
 */
extern bool sup_await_change(bool (*done) (void *arg), void *arg, TimestampTz deadline);

#endif							/* SUP_WAIT_H */
