/*-------------------------------------------------------------------------
 *
 * policy.h
 *	  When a worker that ended is started again: a pure decision.
 *
 * No clock, no settings, no shared memory: all of it comes in as arguments,
 * so that every case can be tested (t/policy_test.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_POLICY_H
#define SUP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* Which exits are followed by a new process (OTP: permanent, transient, temporary). */
typedef enum SupRestart
{
	SUP_RESTART_ALWAYS,
	SUP_RESTART_ON_FAILURE,
	SUP_RESTART_NEVER
} SupRestart;

/*
 * Restart policy.  Times are in microseconds.  A restart_delay of 0 restarts
 * at once, always; a restart_delay_max that is not above restart_delay makes
 * every delay restart_delay.
 */
typedef struct SupPolicy
{
	SupRestart	restart;
	int64_t		restart_delay;	/* before the first restart after a failure */
	int64_t		restart_delay_max;	/* the delay doubles up to this */
	int			max_restarts;	/* more failures than this ... */
	int64_t		restart_window; /* ... within this time: give up; 0: never */
	bool		never_fails;	/* a pool slot stays at the longest delay */
} SupPolicy;

/* How a process ended. */
typedef struct SupExit
{
	int64_t		started_at;		/* microseconds, any epoch, same as 'now' */
	int64_t		ended_at;
	bool		clean;			/* exit code 0 */
	bool		succeeded;		/* before that, it has done what it is for */
	bool		requested;		/* the supervisor asked for it: recycling,
								 * resizing, a person's restart */
} SupExit;

/*
 * What is remembered of a slot's failures.  All zero: nothing happened yet.
 * Updated by sup_policy_decide(); whoever starts a worker that was stopped or
 * failed clears it.
 */
typedef struct SupHistory
{
	int			consecutive_failures;	/* reset by a run that lasted, or did
										 * what it is for */
	int			quick_exits;	/* clean, in a row, each after no longer than
								 * restart_delay */
	int			window_failures;	/* failures since window_start */
	int64_t		window_start;	/* the first failure that is counted there */
} SupHistory;

typedef enum SupVerdict
{
	SUP_VERDICT_RESTART,		/* at *restart_at, which may be now */
	SUP_VERDICT_STOP,			/* policy says that it stays stopped */
	SUP_VERDICT_FAIL			/* gave up: too many failures in the window */
} SupVerdict;

/*
 * Decide what follows an exit.  'random' is a fraction in [0,1), the jitter:
 * a delay d becomes d * (1 + random / 4), so that siblings don't return in
 * step; it comes on top of restart_delay_max.  A requested exit is no failure
 * and restarts at once, whatever 'restart' says.  A clean exit under 'always'
 * is no failure either; but after a run that took no longer than restart_delay
 * it waits as after a failure, longer each time.  A run lasted if it took at
 * least restart_delay_max.  One that has done what it is for, if only once,
 * ends the row of failures, and the window with it.
 *
 * Delays count from 'now', the window from one 'ended_at' to the other.
 * *restart_at is set to 'now' where nothing is to be restarted.
 */
extern SupVerdict sup_policy_decide(const SupPolicy *policy, const SupExit *ended,
									SupHistory *history, int64_t now, double random,
									int64_t *restart_at);

/*
 * The delay before the next attempt after so many failures in a row, of
 * whatever kind, jitter included: restart_delay after the first, twice that
 * after the second, and so on; none after no failure.
 */
extern int64_t sup_policy_delay(const SupPolicy *policy, int failures, double random);

#endif							/* SUP_POLICY_H */
