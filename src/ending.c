/*-------------------------------------------------------------------------
 *
 * ending.c
 *	  How a process has ended, and what follows.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "agenda.h"
#include "ending.h"
#include "transition.h"

/* A fraction in [0,1), which policy.c wants from its caller. */
double
sup_jitter(void)
{
	return pg_prng_double(&pg_global_prng_state);
}

/* Can a process say that it could not begin its work for that reason? */
static bool
is_missing(SupReason reason)
{
	return reason == SUP_NO_DATABASE || reason == SUP_DATABASE_NOT_ALLOWED || reason == SUP_NO_ROLE ||
		reason == SUP_NO_LOGIN || reason == SUP_NO_CONNECTION || reason == SUP_NO_LIBRARY ||
		reason == SUP_NO_FUNCTION;
}

/*
 * The process is gone, and what it has left of itself is its word, or of whatever has
 * written there: what can't be so is not believed.
 */
void
sup_check_report(SupSlot *slot, bool started, TimestampTz now)
{
	if (!started || !is_missing(slot->exit_reason))
		slot->exit_reason = SUP_NO_REASON;
	if (started)
		slot->exited_at = Max(Min(slot->exited_at, now), slot->started_at);
	slot->last_error[SUP_MESSAGE - 1] = '\0';
}

/*
 * What holds the place of a process that has exited may be the next one of the slot.
 * One that was started in a place is there before its pid is, which looks as if it had
 * ended.
 */
bool
sup_settle_status(SupSlot *slot, BgwHandleStatus *status, int holder, TimestampTz now)
{
	bool		exited = slot->exited_at != 0;
	bool		forget = false;

	if (*status == BGWH_STARTED && slot->unforked && (!exited || holder == slot->exited_pid))
		slot->holder = holder;
	if (exited && *status == BGWH_STARTED &&
		holder != (slot->unforked && slot->holder == 0 ? slot->exited_pid : slot->holder) &&
		slot->restartable)
		*status = BGWH_STOPPED;
	else if (slot->unforked && *status == BGWH_STOPPED &&
			 ((slot->attached_at != 0 && !exited) || now < slot->started_at + SUP_FORK_US))
		*status = BGWH_NOT_YET_STARTED;
	else if (*status != BGWH_NOT_YET_STARTED || now >= slot->started_at + SUP_FORK_US)
	{
		forget = slot->unforked && *status == BGWH_NOT_YET_STARTED;
		slot->unforked = false;
	}
	return forget;
}

/* Before the slot's state changes, which says why it had to end. */
SupEnding
sup_ending_of(const SupSlot *slot, bool started)
{
	SupEnding	e = {0};
	bool		late = slot->stop_reason == SUP_START_TIMEOUT;
	bool		silent = slot->stop_reason == SUP_NO_HEARTBEAT;

	e.started = started;
	e.reason = SUP_EXITED;
	e.asked = slot->leave != SUP_STAY || (slot->kind == SUP_KIND_POOL && slot->terminate && !late);
	e.clean = started && slot->exit_code == 0 && !late && !silent;

	/*
	 * It has done all that it was for, whatever happened, and who wanted
	 * room, in its exit.
	 */
	if (slot->kind == SUP_KIND_COMMAND && slot->succeeded &&
		Sup->declarations[slot->declaration].program.run_every == 0)
	{
		e.clean = true;
		e.asked = slot->leave == SUP_LEAVE_RESTART || slot->leave == SUP_LEAVE_SURPLUS;
	}
	if (late || silent)
		e.reason = slot->stop_reason;
	else if (e.asked)
		e.reason = SUP_REQUESTED;

	if (late)
		strlcpy(e.detail, "the process did not start in time", sizeof(e.detail));
	else if (silent)
		strlcpy(e.detail, "it sent no heartbeat in time", sizeof(e.detail));
	else if (!started)
		strlcpy(e.detail, "the process ended before it had started", sizeof(e.detail));
	else if (slot->last_error[0] != '\0')
		snprintf(e.detail, sizeof(e.detail), "exit code %d: %.200s", slot->exit_code, slot->last_error);
	else
		snprintf(e.detail, sizeof(e.detail), "exit code %d", slot->exit_code);
	return e;
}

/*
 * What follows, and when.  What could not begin its work is tried again as
 * declared_ended() says.
 */
SupVerdict
sup_verdict_on(SupSlot *slot, const SupEnding *e, const SupPolicy *policy, TimestampTz now,
			   TimestampTz *restart_at)
{
	bool		is_pool = slot->kind == SUP_KIND_POOL;
	SupVerdict	verdict = SUP_VERDICT_RESTART;
	SupExit		ended;

	/*
	 * What ends in a task, in its bind, or between tasks by somebody who may
	 * signal the role's backends, is the doing of that role: it costs nobody
	 * else the wait for a back-off.  The verdict is always to restart: a pool
	 * slot never stops or fails for good.
	 */
	ended.requested = e->asked || (is_pool && (slot->surplus || e->clean ||
											   (e->started && slot->exit_of_role)));
	ended.clean = e->clean;
	ended.succeeded = slot->succeeded;
	ended.started_at = slot->started_at;
	ended.ended_at = e->started ? slot->exited_at : now;

	*restart_at = now;
	if (slot->exit_reason == SUP_NO_REASON)
		verdict = sup_policy_decide(policy, &ended, &slot->history, now, sup_jitter(), restart_at);
	if (!e->asked && !e->started)
		*restart_at = Max(*restart_at, now + SUP_RETRY_MIN_US);

	/* Its row was not what it had been told: the loader comes first. */
	if (!is_pool && slot->leave == SUP_LEAVE_RECYCLE && slot->phase == SUP_PHASE_LOAD)
		*restart_at = now + SUP_RETRY_MIN_US;
	return verdict;
}

/*
 * One line for an end that is news: neither asked for, nor clean, nor told
 * before.
 */
void
sup_log_end(const SupSlot *slot, const char *name, const SupEnding *e, const SupPolicy *policy,
			TimestampTz held_until, TimestampTz now)
{
	if (slot->state == SUP_FAILED)
		ereport(LOG,
				(errmsg("%s ended: %s", name, e->detail),
				 errdetail_plural("It has failed more than %d time within %lld ms, and is given up.",
								  "It has failed more than %d times within %lld ms, and is given up.",
								  policy->max_restarts,
								  policy->max_restarts, (long long) (policy->restart_window / 1000)),
				 errhint("Fix the cause, then call supervisor.start_worker().")));
	else
		ereport(LOG,
				(errmsg("%s ended: %s", name, e->detail),
				 held_until > now ?
				 errdetail("Its role, %u, has ended too many workers: its tasks wait for %ld ms.",
						   slot->last_role, sup_milliseconds_until(now, held_until)) : 0));
}
