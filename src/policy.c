/*-------------------------------------------------------------------------
 *
 * policy.c
 *	  When a worker that ended is started again: a pure decision.
 *
 * Plain C: this file includes nothing of the server, reads no clock and keeps
 * no state, so t/policy_test.c compiles it alone.  Arithmetic on times
 * saturates, since a clock may be set to anything.
 *
 *-------------------------------------------------------------------------
 */
#include "policy.h"

#include <limits.h>

/* a + b for b >= 0, without wrapping round. */
static int64_t
add_time(int64_t a, int64_t b)
{
	return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/* How long it is from 'start' to 'end'; 0 if the clock was set back between. */
static int64_t
time_between(int64_t start, int64_t end)
{
	if (end <= start)
		return 0;
	if (start < 0 && end > INT64_MAX + start)
		return INT64_MAX;
	return end - start;
}

/* Counts up to the largest int, and stays there. */
static int
count_one_more(int count)
{
	return count < INT_MAX ? count + 1 : count;
}

/* Add up to a quarter to a delay; 'random' says how much of that. */
static int64_t
with_jitter(int64_t delay, double random)
{
	/* written so that NaN, too, becomes 0 */
	if (!(random > 0.0))
		random = 0.0;
	if (random > 1.0)
		random = 1.0;

	return add_time(delay, (int64_t) ((double) (delay / 4) * random));
}

/* The jitter is added last, so that it is not bounded by restart_delay_max. */
int64_t
sup_policy_delay(const SupPolicy *policy, int failures, double random)
{
	int64_t		delay = policy->restart_delay;

	if (failures < 1 || delay <= 0)
		return 0;

	/* at most 63 steps: each doubles, and stops at the maximum */
	for (; failures > 1 && delay < policy->restart_delay_max; failures--)
	{
		if (delay > policy->restart_delay_max / 2)
			delay = policy->restart_delay_max;
		else
			delay *= 2;
	}

	return with_jitter(delay, random);
}

/*
 * Count a failure within the window; true if that is one too many.
 *
 * A window begins with the first failure after the last one has passed, so
 * two numbers are enough to remember.  One that begins in the future was
 * measured by a clock that has been set back since: begin anew.
 */
static bool
window_is_exceeded(const SupPolicy *policy, SupHistory *history, int64_t at)
{
	if (history->window_failures == 0 ||
		at < history->window_start ||
		time_between(history->window_start, at) > policy->restart_window)
	{
		history->window_start = at;
		history->window_failures = 0;
	}
	history->window_failures = count_one_more(history->window_failures);

	return policy->restart_window > 0 &&
		history->window_failures > policy->max_restarts;
}

/*
 * The length of the run is looked at first: it resets the count of failures
 * also where the exit was requested.
 */
SupVerdict
sup_policy_decide(const SupPolicy *policy, const SupExit *ended,
				  SupHistory *history, int64_t now, double random,
				  int64_t *restart_at)
{
	int64_t		ran = time_between(ended->started_at, ended->ended_at);
	bool		failed = !ended->clean;
	bool		exceeded = false;

	*restart_at = now;

	if (ended->succeeded || ran >= policy->restart_delay_max)
		history->consecutive_failures = 0;
	if (ended->succeeded)
		history->window_failures = 0;
	if (failed || ended->requested || ran > policy->restart_delay)
		history->quick_exits = 0;

	if (ended->requested)
		return SUP_VERDICT_RESTART;

	/* Counted under any policy, as it is shown to people. */
	if (failed)
	{
		history->consecutive_failures =
			count_one_more(history->consecutive_failures);
		exceeded = window_is_exceeded(policy, history, ended->ended_at);
	}

	if (policy->restart == SUP_RESTART_NEVER ||
		(policy->restart == SUP_RESTART_ON_FAILURE && !failed))
		return SUP_VERDICT_STOP;

	if (failed)
	{
		if (exceeded && !policy->never_fails)
			return SUP_VERDICT_FAIL;
		*restart_at = add_time(now,
							   sup_policy_delay(policy,
												history->consecutive_failures,
												random));
	}
	else if (ran <= policy->restart_delay)
	{
		history->quick_exits = count_one_more(history->quick_exits);
		*restart_at = add_time(now, sup_policy_delay(policy, history->quick_exits, random));
	}

	return SUP_VERDICT_RESTART;
}
