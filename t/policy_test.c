/*-------------------------------------------------------------------------
 *
 * policy_test.c
 *	  Unit tests of src/policy.c, as TAP; compiled and run by t/010_policy.pl.
 *
 *-------------------------------------------------------------------------
 */
#include "policy.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define SEC INT64_C(1000000)
#define MINUTE (60 * SEC)

static int	tests = 0;
static int	failures = 0;

static void ok(bool good, const char *format,...)
#if defined(__GNUC__)
			__attribute__((format(printf, 2, 3)))
#endif
;

static void
ok(bool good, const char *format,...)
{
	va_list		args;

	tests++;
	if (!good)
		failures++;
	printf("%sok %d - ", good ? "" : "not ", tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void
is(int64_t got, int64_t expected, const char *name)
{
	ok(got == expected, "%s", name);
	if (got != expected)
		printf("#   got %lld, expected %lld\n",
			   (long long) got, (long long) expected);
}

/* The policy of the tests, where they don't say otherwise. */
static SupPolicy
a_policy(void)
{
	SupPolicy	policy = {
		.restart = SUP_RESTART_ALWAYS,
		.restart_delay = 1 * SEC,
		.restart_delay_max = 60 * SEC,
		.max_restarts = 10,
		.restart_window = 5 * MINUTE,
		.never_fails = false
	};

	return policy;
}

/* A worker and its clock: what the caller of the policy keeps. */
typedef struct Life
{
	SupPolicy	policy;
	SupHistory	history;
	int64_t		now;
	double		random;
	SupVerdict	verdict;
	int64_t		restart_at;
	int64_t		delay;			/* restart_at - now */
	bool		succeeds;		/* before it ends */
} Life;

static Life
a_life(void)
{
	Life		life = {.policy = a_policy(), .now = 1000 * SEC};

	return life;
}

/* It runs for so long, and ends in that way; now is its end. */
static SupVerdict
run(Life *life, int64_t took, bool clean, bool requested)
{
	SupExit		ended = {
		.started_at = life->now,
		.ended_at = life->now + took,
		.clean = clean,
		.succeeded = life->succeeds,
		.requested = requested
	};

	life->now = ended.ended_at;
	life->restart_at = -1;
	life->verdict = sup_policy_decide(&life->policy, &ended, &life->history,
									  life->now, life->random, &life->restart_at);
	life->delay = life->restart_at - life->now;
	return life->verdict;
}

static SupVerdict
fail_after(Life *life, int64_t took)
{
	return run(life, took, false, false);
}

/* It fails at once, so often, started again when the policy says so. */
static SupVerdict
fail_times(Life *life, int times)
{
	while (times-- > 0)
	{
		if (fail_after(life, 0) == SUP_VERDICT_RESTART && times > 0)
			life->now = life->restart_at;
	}
	return life->verdict;
}

static void
test_doubling(void)
{
	static const int expected[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	Life		life = a_life();

	life.policy.restart_window = 0;
	for (int i = 0; i < 9; i++)
	{
		ok(fail_after(&life, 0) == SUP_VERDICT_RESTART &&
		   life.delay == expected[i] * SEC,
		   "failure %d in a row is restarted after %d s", i + 1, expected[i]);
		life.now = life.restart_at;
	}
	is(life.history.consecutive_failures, 9, "failures in a row are counted");
}

static void
test_cap(void)
{
	SupPolicy	policy = a_policy();

	is(sup_policy_delay(&policy, 7, 0), 60 * SEC,
	   "the delay that would be longer than the maximum is the maximum");
	policy.restart_delay_max = 64 * SEC;
	is(sup_policy_delay(&policy, 7, 0), 64 * SEC,
	   "the delay reaches a maximum that is a power of two of it");
	is(sup_policy_delay(&policy, 8, 0), 64 * SEC, "and stays there");
	policy.restart_delay_max = policy.restart_delay;
	is(sup_policy_delay(&policy, 5, 0), 1 * SEC,
	   "a maximum equal to the delay keeps it constant");
	policy.restart_delay = 120 * SEC;
	is(sup_policy_delay(&policy, 1, 0), 120 * SEC,
	   "a maximum below the delay does not shorten it");
	is(sup_policy_delay(&policy, 5, 0), 120 * SEC, "nor does it grow then");
	policy = a_policy();
	policy.restart_delay_max = 3;
	policy.restart_delay = 1;
	is(sup_policy_delay(&policy, 2, 0), 2, "tiny delays double");
	is(sup_policy_delay(&policy, 3, 0), 3, "and stop at a tiny, odd maximum");
}

static void
test_delay_without_process(void)
{
	SupPolicy	policy = a_policy();

	is(sup_policy_delay(&policy, 0, 0.9), 0, "no failed attempt, no delay");
	is(sup_policy_delay(&policy, -5, 0.9), 0,
	   "a negative number of attempts is none");
	is(sup_policy_delay(&policy, 1, 0), 1 * SEC,
	   "the first failed attempt waits restart_delay");
	is(sup_policy_delay(&policy, 4, 0), 8 * SEC, "the fourth eight times that");
}

static void
test_jitter(void)
{
	SupPolicy	policy = a_policy();
	Life		life = a_life();
	int64_t		before;
	bool		grows = true;
	bool		bounded = true;

	is(sup_policy_delay(&policy, 1, 0.0), 1000000, "no jitter for random 0");
	is(sup_policy_delay(&policy, 1, 0.5), 1125000, "an eighth more for random 0.5");
	ok(sup_policy_delay(&policy, 1, nextafter(1.0, 0.0)) <= 1250000,
	   "never more than a quarter on top");
	is(sup_policy_delay(&policy, 20, 0.5), 67500000,
	   "jitter comes on top of the maximum, too");
	is(sup_policy_delay(&policy, 1, -3.0), 1000000, "random below 0 is 0");
	is(sup_policy_delay(&policy, 1, 7.0), 1250000, "random above 1 is 1");
	is(sup_policy_delay(&policy, 1, (double) NAN), 1000000, "random NaN is 0");

	before = 0;
	for (int i = 0; i < 1000; i++)
	{
		int64_t		delay = sup_policy_delay(&policy, 3, i / 1000.0);

		grows = grows && delay >= before;
		bounded = bounded && delay >= 4 * SEC && delay < 5 * SEC;
		before = delay;
	}
	ok(bounded, "a thousand jitters lie between d and 1.25 d");
	ok(grows, "and grow with random");

	life.random = 0.5;
	fail_after(&life, 0);
	is(life.delay, 1125000, "the restart after a failure has jitter");
	run(&life, 0, true, false);
	is(life.delay, 1125000, "so has the one after a clean exit");
	run(&life, 0, false, true);
	is(life.delay, 0, "the one that was requested has none");
}

static void
test_run_that_lasted(void)
{
	Life		life = a_life();

	fail_times(&life, 5);
	is(life.delay, 16 * SEC, "five failures in a row wait 16 s");
	fail_after(&life, 60 * SEC - 1);
	is(life.delay, 32 * SEC, "a run just shorter than the maximum is one more");
	fail_after(&life, 60 * SEC);
	is(life.delay, 1 * SEC, "a run as long as the maximum starts over");
	is(life.history.consecutive_failures, 1, "its own failure counts as the first");
	fail_after(&life, 0);
	is(life.delay, 2 * SEC, "from there on delays double again");

	life = a_life();
	fail_times(&life, 5);
	run(&life, 1 * SEC, true, false);
	is(life.history.consecutive_failures, 5,
	   "a short run that ended well does not make the failures before it undone");
	run(&life, 60 * SEC, true, false);
	is(life.history.consecutive_failures, 0, "a long one does");

	life = a_life();
	fail_times(&life, 5);
	run(&life, 60 * SEC, false, true);
	is(life.history.consecutive_failures, 0,
	   "so does a long run that ended by request");

	life = a_life();
	for (int i = 0; i < 10; i++)
		fail_after(&life, 60 * SEC);
	life.policy.restart_window = 3600 * SEC;
	is(fail_after(&life, 60 * SEC), SUP_VERDICT_RESTART,
	   "runs that lasted, failing more often than the window's length allows");
	life.history.window_failures = 10;
	is(fail_after(&life, 60 * SEC), SUP_VERDICT_FAIL,
	   "give up by the window all the same");
}

static void
test_window(void)
{
	Life		life = a_life();

	life.policy.restart_delay = 0;
	is(fail_times(&life, 10), SUP_VERDICT_RESTART,
	   "max_restarts failures in the window are restarted");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "one more gives up");
	is(life.restart_at, life.now, "restart_at is defined when it gives up");
	is(life.history.window_failures, 11, "failures in the window are counted");
	is(life.history.window_start, 1000 * SEC, "from the first one on");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "so does the next");

	life = a_life();
	life.policy.restart_delay = 0;
	fail_times(&life, 10);
	life.now += 5 * MINUTE;
	is(fail_after(&life, 0), SUP_VERDICT_FAIL,
	   "one exactly at the end of the window is within");

	life = a_life();
	life.policy.restart_delay = 0;
	fail_times(&life, 10);
	life.now += 5 * MINUTE + 1;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART, "one later is not");
	is(life.history.window_failures, 1, "it is the first of a new window");
	is(life.history.window_start, life.now, "which begins with it");
	is(fail_times(&life, 9), SUP_VERDICT_RESTART, "the new window has its own ten");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "and no more");

	life = a_life();
	life.policy.max_restarts = 0;
	is(fail_after(&life, 0), SUP_VERDICT_FAIL,
	   "with max_restarts 0 the first failure gives up");
	is(run(&life, 0, true, false), SUP_VERDICT_RESTART, "but a clean exit does not");

	life = a_life();
	life.policy.max_restarts = 1;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART,
	   "with max_restarts 1 the first failure is restarted");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "and the second gives up");

	life = a_life();
	life.policy.restart_window = 0;
	life.policy.max_restarts = 0;
	life.policy.restart_delay = 0;
	is(fail_times(&life, 1000), SUP_VERDICT_RESTART,
	   "without a window it never gives up");
	is(life.history.consecutive_failures, 1000, "however many failures in a row");
}

static void
test_window_counts_failures_only(void)
{
	Life		life = a_life();

	life.policy.restart_delay = 0;
	for (int i = 0; i < 100; i++)
	{
		run(&life, 1, true, false);
		run(&life, 1, false, true);
		run(&life, 1, true, true);
	}
	is(life.history.window_failures, 0,
	   "clean and requested exits don't count in the window");
	is(life.history.consecutive_failures, 0, "nor as failures in a row");
	is(fail_times(&life, 10), SUP_VERDICT_RESTART, "ten failures are left afterwards");
}

static void
test_never_fails(void)
{
	Life		life = a_life();
	bool		restarted = true;
	bool		longest = true;

	life.policy.never_fails = true;
	for (int i = 0; i < 200; i++)
	{
		restarted = restarted && fail_after(&life, 0) == SUP_VERDICT_RESTART;
		if (i >= 6)
			longest = longest && life.delay == 60 * SEC;
	}
	ok(restarted, "what never fails is restarted after 200 failures at once");
	ok(longest, "always after the longest delay");
	fail_after(&life, 60 * SEC);
	is(life.delay, 1 * SEC, "until a run lasts");

	life = a_life();
	life.policy.never_fails = true;
	life.policy.max_restarts = 0;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART, "even with max_restarts 0");
	life.policy.restart = SUP_RESTART_NEVER;
	is(fail_after(&life, 0), SUP_VERDICT_STOP,
	   "but what is never restarted is not restarted by it");
}

static void
test_requested(void)
{
	static const SupRestart all[] = {
		SUP_RESTART_ALWAYS, SUP_RESTART_ON_FAILURE, SUP_RESTART_NEVER
	};
	static const char *const names[] = {"always", "on_failure", "never"};

	for (int i = 0; i < 3; i++)
	{
		for (int clean = 0; clean < 2; clean++)
		{
			Life		life = a_life();
			SupHistory	before;

			fail_times(&life, 4);
			before = life.history;
			life.policy.restart = all[i];
			ok(run(&life, 0, clean, true) == SUP_VERDICT_RESTART && life.delay == 0,
			   "a requested exit, %s, restarts at once under %s",
			   clean ? "clean" : "failed", names[i]);
			ok(before.consecutive_failures == life.history.consecutive_failures &&
			   before.window_failures == life.history.window_failures &&
			   before.window_start == life.history.window_start,
			   "and counts nothing");
		}
	}
}

static void
test_on_failure_and_never(void)
{
	Life		life = a_life();

	life.policy.restart = SUP_RESTART_ON_FAILURE;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART, "on_failure restarts a failure");
	is(life.delay, 1 * SEC, "after the delay");
	is(run(&life, 0, true, false), SUP_VERDICT_STOP, "and stops after a clean exit");
	is(run(&life, 3600 * SEC, true, false), SUP_VERDICT_STOP, "however long it ran");
	is(life.restart_at, life.now, "restart_at is defined when it stops");
	life.policy.max_restarts = 0;
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "on_failure gives up, too");

	life = a_life();
	life.policy.restart = SUP_RESTART_NEVER;
	is(run(&life, 0, true, false), SUP_VERDICT_STOP, "never stops after a clean exit");
	is(fail_after(&life, 0), SUP_VERDICT_STOP, "and after a failure");
	is(life.history.consecutive_failures, 1, "which is counted");
	life.policy.max_restarts = 0;
	is(fail_after(&life, 0), SUP_VERDICT_STOP, "stopping comes before giving up");
}

static void
test_clean_exit(void)
{
	Life		life = a_life();

	is(run(&life, 0, true, false), SUP_VERDICT_RESTART,
	   "a clean exit under always is restarted");
	is(life.delay, 1 * SEC, "after restart_delay if the run was short");
	run(&life, 1 * SEC, true, false);
	is(life.delay, 2 * SEC, "also if it took exactly restart_delay, and longer");
	run(&life, 1 * SEC + 1, true, false);
	is(life.delay, 0, "at once if it took longer");
	for (int i = 0; i < 20; i++)
		run(&life, 0, true, false);
	is(life.delay, 60 * SEC, "the delay of short runs grows up to restart_delay_max");
	is(life.verdict, SUP_VERDICT_RESTART, "but they do not give up");
	is(life.history.consecutive_failures, 0, "and are no failures");
	run(&life, 1 * SEC + 1, true, false);
	run(&life, 0, true, false);
	is(life.delay, 1 * SEC, "one that took longer starts over");
	run(&life, 0, true, false);
	is(life.delay, 2 * SEC, "the second in a row waits twice as long");
	run(&life, 0, true, true);
	run(&life, 0, true, false);
	is(life.delay, 1 * SEC, "one that was asked to end starts over, too");
	run(&life, 0, true, false);
	fail_times(&life, 3);
	run(&life, 0, true, false);
	is(life.delay, 1 * SEC, "and so do failures, on which it does not depend");
	fail_after(&life, 0);
	is(life.delay, 8 * SEC, "which a short clean run between does not undo");
}

/* A process that has done what it is for, and failed later. */
static void
test_success(void)
{
	Life		life = a_life();
	bool		kept = true;

	fail_times(&life, 9);
	is(life.history.consecutive_failures, 9, "failures without a success add up");
	life.succeeds = true;
	fail_after(&life, 0);
	is(life.history.consecutive_failures, 1, "a success ends the row");
	is(life.delay, 1 * SEC, "and the back-off");
	for (int i = 0; i < 100; i++)
	{
		fail_after(&life, 0);
		kept = kept && life.verdict == SUP_VERDICT_RESTART;
	}
	ok(kept, "what succeeds between its failures is never given up");
	life.succeeds = false;
	for (int i = 0; i < 9; i++)
		kept = kept && fail_after(&life, 0) == SUP_VERDICT_RESTART;
	ok(kept, "the window begins with the failure after the last success");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "and ends as ever");
}

static void
test_zero_delays(void)
{
	Life		life = a_life();
	bool		at_once = true;

	life.policy.restart_delay = 0;
	life.policy.restart_window = 0;
	life.random = 0.99;
	for (int i = 0; i < 100; i++)
	{
		fail_after(&life, 0);
		at_once = at_once && life.delay == 0;
	}
	ok(at_once, "restart_delay 0 restarts at once, however often");
	run(&life, 0, true, false);
	is(life.delay, 0, "also after a clean exit");
	is(sup_policy_delay(&life.policy, 50, 0.5), 0, "also if no process was started");

	life = a_life();
	life.policy.restart_delay_max = 0;
	life.policy.restart_window = 0;
	fail_times(&life, 10);
	is(life.delay, 1 * SEC, "restart_delay_max 0 switches doubling off");
	is(sup_policy_delay(&life.policy, 10, 0), 1 * SEC,
	   "also if no process was started");

	life = a_life();
	life.policy.restart_delay = 0;
	life.policy.restart_delay_max = 0;
	fail_times(&life, 10);
	is(life.delay, 0, "both 0 restart at once");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "and give up by the window");

	life = a_life();
	life.policy.restart_delay = -5 * SEC;
	fail_after(&life, 0);
	is(life.delay, 0, "a negative delay is none");
}

static void
test_huge(void)
{
	Life		life = a_life();
	SupPolicy	policy = a_policy();
	bool		positive = true;

	is(sup_policy_delay(&policy, INT_MAX, 0), 60 * SEC,
	   "INT_MAX failures wait the longest delay");

	policy.restart_delay_max = INT64_MAX;
	for (int i = 1; i < 200; i++)
	{
		int64_t		delay = sup_policy_delay(&policy, i, 0.999);

		positive = positive && delay > 0 &&
			delay >= sup_policy_delay(&policy, i - 1, 0.999);
	}
	ok(positive, "without a maximum worth the name delays grow, and don't overflow");
	is(sup_policy_delay(&policy, INT_MAX, 1.0), INT64_MAX,
	   "but end at the end of time");

	life.policy.restart_delay_max = INT64_MAX;
	life.policy.never_fails = true;
	life.history.consecutive_failures = INT_MAX;
	life.history.window_failures = INT_MAX;
	life.history.window_start = life.now;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART, "counters at their end");
	is(life.history.consecutive_failures, INT_MAX, "stay there: in a row");
	is(life.history.window_failures, INT_MAX, "and in the window");
	is(life.restart_at, INT64_MAX, "restart_at does not overflow");

	life = a_life();
	life.policy.restart_window = INT64_MAX;
	life.policy.max_restarts = INT_MAX;
	life.history.consecutive_failures = INT_MAX;
	life.history.window_failures = INT_MAX;
	life.history.window_start = life.now;
	is(fail_after(&life, 0), SUP_VERDICT_RESTART,
	   "max_restarts INT_MAX is never exceeded");
}

static void
test_clock(void)
{
	Life		life = a_life();
	SupExit		ended = {.clean = false, .requested = false};
	int64_t		restart_at;

	fail_times(&life, 3);
	fail_after(&life, -3600 * SEC);
	is(life.verdict, SUP_VERDICT_RESTART, "a run that ended before it began");
	is(life.delay, 8 * SEC, "is a short one");
	is(life.history.window_start, life.now,
	   "a window that begins in the future is begun anew");
	is(life.history.window_failures, 1, "with one failure in it");

	life = a_life();
	life.policy.restart_delay = 0;
	fail_times(&life, 10);
	life.now -= 3600 * SEC;
	is(fail_times(&life, 10), SUP_VERDICT_RESTART,
	   "a clock set back costs at most a second window");
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "but no third");

	life = a_life();
	run(&life, -3600 * SEC, true, false);
	is(life.delay, 1 * SEC, "a clean run that ended before it began is a short one");

	/* noticed late: the delay counts from when it was noticed */
	life = a_life();
	ended.started_at = 10 * SEC;
	ended.ended_at = 11 * SEC;
	is(sup_policy_decide(&life.policy, &ended, &life.history, 100 * SEC, 0.0,
						 &restart_at), SUP_VERDICT_RESTART,
	   "an exit that was noticed late");
	is(restart_at, 101 * SEC, "is restarted after the delay from now");
	is(life.history.window_start, 11 * SEC, "but counts from when it happened");

	/* now is before the exit */
	life = a_life();
	sup_policy_decide(&life.policy, &ended, &life.history, 5 * SEC, 0.0, &restart_at);
	is(restart_at, 6 * SEC, "a clock set back since the exit does not lengthen the delay");

	/* the ends of time */
	life = a_life();
	fail_times(&life, 3);
	ended.started_at = INT64_MIN;
	ended.ended_at = INT64_MAX;
	sup_policy_decide(&life.policy, &ended, &life.history, INT64_MAX, 0.5, &restart_at);
	is(life.history.consecutive_failures, 1, "a run from the beginning of time lasted");
	is(restart_at, INT64_MAX, "and there is nothing after its end");
	ended.started_at = INT64_MAX;
	ended.ended_at = INT64_MIN;
	sup_policy_decide(&life.policy, &ended, &life.history, INT64_MIN, 0.0, &restart_at);
	is(restart_at, INT64_MIN + 2 * SEC, "the other way round is a short run");
	ended.started_at = INT64_MAX;
	ended.ended_at = -100 * SEC;
	sup_policy_decide(&life.policy, &ended, &life.history, 0, 0.0, &restart_at);
	is(life.history.consecutive_failures, 3,
	   "so is one whose length, taken backwards, is no number");

	/* times before the epoch are times */
	life = a_life();
	life.policy.restart_delay = 0;
	life.now = -100 * SEC;
	is(fail_times(&life, 10), SUP_VERDICT_RESTART, "ten failures before the epoch");
	is(fail_after(&life, 200 * SEC), SUP_VERDICT_FAIL,
	   "and an eleventh after it are in one window");

	/* soon after the epoch, as any clock may begin */
	life = a_life();
	life.policy.restart_delay = 0;
	life.now = 100 * SEC;
	fail_after(&life, 0);
	is(life.history.window_start, 100 * SEC,
	   "the first window begins with the first failure, not with the clock");

	/* the epoch itself is a time, too */
	life = a_life();
	life.policy.restart_delay = 0;
	life.now = 0;
	fail_times(&life, 10);
	is(fail_after(&life, 0), SUP_VERDICT_FAIL, "a window may begin at 0");
}

int
main(void)
{
	test_doubling();
	test_cap();
	test_delay_without_process();
	test_jitter();
	test_run_that_lasted();
	test_window();
	test_window_counts_failures_only();
	test_never_fails();
	test_requested();
	test_on_failure_and_never();
	test_clean_exit();
	test_success();
	test_zero_delays();
	test_huge();
	test_clock();

	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
