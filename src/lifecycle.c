/*-------------------------------------------------------------------------
 *
 * lifecycle.c
 *	  The life of a slot, from state to state.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "agenda.h"
#include "compat.h"
#include "declaration.h"
#include "drain.h"
#include "ending.h"
#include "event.h"
#include "launch.h"
#include "lifecycle.h"
#include "match.h"
#include "policy.h"
#include "transition.h"

/* Is it in the log that one was refused a background worker slot? */
static bool no_background_worker_slot = false;

/* How many processes each pool has or gets that count for it and are not stuck. */
static int	processes[SUP_MAX_POOLS];
static int	stuck[SUP_MAX_POOLS];	/* and are */

/* Who is started first. */
typedef enum Rank
{
	RANK_LOADER,				/* what it reads may be that there shall be
								 * fewer */
	RANK_TAKEN_OVER,			/* the server would have kept its place */
	RANK_ONLY,					/* a pool has no other worker */
	RANK_POOL,					/* the place of the one before may be free */
	RANK_POOL_REFUSED,
	RANK_MADE_ROOM,				/* or others would get its place for good */
	RANK_DECLARED
} Rank;

#define RANKS	(RANK_DECLARED + 1)

/* What a slot's worker is called in the log. */
static const char *
name_of(const SupSlot *slot)
{
	if (slot->kind == SUP_KIND_POOL)
		return psprintf("worker of pool \"%s\" in slot %d", sup_slot_name(slot), sup_slot_index(slot));
	if (slot->kind == SUP_KIND_LOADER)
		return "loader of declared workers";
	return psprintf("worker \"%s\" in slot %d", sup_slot_name(slot), sup_slot_index(slot));
}

/* NULL: it is a pool's, or the loader. */
static SupDeclaration *
declaration_of(const SupSlot *slot)
{
	return slot->declaration >= 0 ? &Sup->declarations[slot->declaration] : NULL;
}

static bool
is_taken_over(const SupSlot *slot)
{
	const SupDeclaration *d = declaration_of(slot);

	return d != NULL && d->source == SUP_FROM_SERVER;
}

/* Do declared workers wait until it has a background worker slot? */
static bool
goes_before(const SupSlot *slot)
{
	return slot->declaration < 0 || is_taken_over(slot);
}

/* A worker's own value, unless that is -1: then the setting's. */
static inline int64
either(int64 own, int64 setting)
{
	return own >= 0 ? own : setting;
}

/* How a slot is kept; others may change it, but each number in one piece. */
static SupPolicy
policy_of(const SupSlot *slot)
{
	SupPolicy	policy = sup_default_policy();
	const SupDeclaration *d = declaration_of(slot);

	if (d == NULL)
		policy.never_fails = true;
	else
	{
		policy.restart = d->terms.restart;
		policy.restart_delay = either(d->terms.restart_delay, policy.restart_delay);
		policy.restart_delay_max = Max(either(d->terms.restart_delay_max, policy.restart_delay_max),
									   policy.restart_delay);
		policy.max_restarts = either(d->terms.max_restarts, policy.max_restarts);
		policy.restart_window = either(d->terms.restart_window, policy.restart_window);
	}
	return policy;
}

/* In microseconds; 0: none. */
static int64
start_timeout_of(const SupSlot *slot)
{
	const SupDeclaration *d = declaration_of(slot);
	int64		timeout = either(d ? d->terms.start_timeout : -1, sup_start_timeout * INT64CONST(1000));

	/* Others wait for the loader to log in. */
	if (slot->kind == SUP_KIND_LOADER && OidIsValid(Sup->loading) &&
		(timeout == 0 || Sup->load_patience < timeout))
		timeout = Sup->load_patience;
	return timeout;
}

/* In microseconds; 0: none. */
static int64
stop_timeout_of(const SupSlot *slot)
{
	const SupDeclaration *d = declaration_of(slot);

	return either(d ? d->terms.stop_timeout : -1, sup_stop_timeout * INT64CONST(1000));
}

/*
 * Start and end
 */

/* Does DDL on its database forbid to start it now? */
static bool
fenced(const SupSlot *slot)
{
	const SupDeclaration *d = declaration_of(slot);

	return d != NULL &&
		((OidIsValid(d->database) && sup_database_fenced(d->database)) ||
		 (OidIsValid(slot->last_database) && sup_database_fenced(slot->last_database)));
}

/* A slot is about to get another process. */
static void
new_process(SupSlot *slot, TimestampTz now)
{
	const SupDeclaration *d = declaration_of(slot);

	slot->has_handle = false;
	slot->notifies = true;
	slot->keeps_place = false;
	slot->unforked = slot->restartable;
	slot->holder = 0;
	slot->attached_at = slot->ready_at = slot->exited_at = slot->leaving_since = 0;
	slot->exit_reason = slot->stop_reason = SUP_NO_REASON;
	slot->phase = SUP_PHASE_ATTACH;
	slot->terminate = slot->roll = slot->runs = slot->succeeded = slot->lingers = slot->capped = false;
	slot->login_until = slot->overdue_at = DT_NOEND;
	slot->leave = SUP_STAY;
	slot->begun = slot->stale = false;
	slot->cause = SUP_CAUSE_NONE;
	slot->at_home = false;
	slot->pid = 0;
	slot->proc = NULL;
	slot->database = slot->role = InvalidOid;
	slot->look_again = SUP_REAP_LOOK_MIN_MS;
	slot->started_at = now;
	slot->version = d != NULL ? d->version : 0;
	slot->names_version = Sup->names_version;
	slot->heartbeat_at = now;
	slot->heartbeat_timeout = d != NULL ? d->program.heartbeat_timeout : 0;
}

/*
 * In the postmaster, which has no agenda: the supervisor finds the slot by
 * its state when it comes.
 */
void
sup_reserve_slot(SupSlot *slot, SupDeclaration *d, int instance, const SupHandle *handle,
				 TimestampTz now)
{
	int64		timeout;

	SUP_ASSERT_LOCKED();
	sup_take(slot, d->program.kind, -1, d - Sup->declarations, instance, now);
	dlist_push_tail(&d->slots, &slot->owner_node);
	new_process(slot, now);
	Assert(slot->generation == SUP_STATIC_GENERATION);
	slot->handle = *handle;
	slot->has_handle = true;

	/* Others are born when recovery has come so far, which may take long. */
	if (d->program.start_after != BgWorkerStart_PostmasterStart)
	{
		sup_set_state(slot, SUP_WAITING, SUP_RECOVERY, "the server starts it when it has recovered", now);
		return;
	}
	timeout = start_timeout_of(slot);
	slot->deadline = timeout > 0 ? now + timeout : 0;
	sup_set_state(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
}

/* One line until there are some again. */
static void
say_refused(const SupSlot *slot)
{
	if (no_background_worker_slot)
		return;
	no_background_worker_slot = true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("could not start %s: out of background worker slots", name_of(slot)),
			 goes_before(slot) ? errdetail("It is tried again every second, and before declared workers.") :
			 errdetail("It is tried again with growing delays."),
			 errhint("You might need to increase \"%s\".", "max_worker_processes")));
}

/* Register the process of a slot that waits; takes the lock itself. */
static bool
waiting_to_starting(SupSlot *slot, TimestampTz now)
{
	SupHandle	handle;
	SupPolicy	policy = policy_of(slot);
	SupDeclaration *d = declaration_of(slot);
	SupLaunch	launch = {0};
	int64		timeout = start_timeout_of(slot);
	bool		recovery = RecoveryInProgress();
	bool		registered;
	bool		was_refused = false;

	Assert(slot->state == SUP_WAITING || slot->state == SUP_BACKOFF);

	/* Died in between, we would leave a child that nobody knows. */
	HOLD_INTERRUPTS();
	sup_lock();
	if (fenced(slot))
	{
		slot->restart_at = DT_NOEND;	/* until the fence is lowered */
		sup_enter(slot, SUP_WAITING, SUP_FENCED, "its database is about to be dropped, moved or copied", now);
		sup_unlock();
		RESUME_INTERRUPTS();
		return true;
	}
	slot->registered = ++slot->generation;

	/* What the postmaster can't fork it would try again and again. */
	slot->restartable = (slot->kind == SUP_KIND_POOL || slot->kind == SUP_KIND_LOADER) && !slot->unborn;
	new_process(slot, now);
	if (d != NULL)
	{
		strlcpy(launch.name, d->program.registered ? d->program.process_name : d->name,
				sizeof(launch.name));
		strlcpy(launch.type, d->program.type, sizeof(launch.type));
		launch.flags = d->program.flags;
		launch.start_after = d->program.start_after;
	}
	else
		launch.start_after = BgWorkerStart_ConsistentState;
	recovery = recovery && launch.start_after == BgWorkerStart_RecoveryFinished;
	slot->deadline = timeout > 0 && !recovery ? now + timeout : 0;
	slot->registering = true;	/* for the child, which may be quick, and for
								 * a successor of ours */
	sup_count_coming(slot);
	sup_unlock();

	sup_injection_point("supervisor-register");
	registered = sup_launch(slot, &launch, &handle);
	sup_injection_point("supervisor-registered");

	sup_lock();
	slot->registering = false;
	if (registered)
	{
		slot->handle = handle;
		slot->has_handle = true;
		was_refused = sup_is_refused(slot);
		if (was_refused)
			slot->attempts = 0;
		slot->made_room = false;
		slot->restart_at = 0;
		if (recovery)
			sup_enter(slot, SUP_WAITING, SUP_RECOVERY, "it starts when recovery has finished", now);
		else
			sup_enter(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
	}
	else
	{
		slot->started_at = 0;
		slot->deadline = 0;
		slot->attempts++;

		/* Declared workers wait for it, so it does not let others wait long. */
		slot->restart_at = now + SUP_RETRY_MIN_US;
		if (!goes_before(slot))
			slot->restart_at = Max(slot->restart_at,
								   now + sup_policy_delay(&policy, slot->attempts, sup_jitter()));
		sup_enter(slot, SUP_WAITING, SUP_NO_BACKGROUND_WORKER_SLOT,
				  "the server has no free background worker slot", now);
	}
	sup_unlock();
	RESUME_INTERRUPTS();
	if (slot->kind == SUP_KIND_POOL)
		processes[slot->pool] += registered;
	if (was_refused && goes_before(slot))
		sup_retry_refused(now);

	if (!registered)
		say_refused(slot);
	return registered;
}

/*
 * The same, without a registration, of what comes in the place of the one before.
 * The postmaster starts it by itself, or has done so.
 */
static bool
start_in_place(SupSlot *slot, TimestampTz now)
{
	int64		timeout = start_timeout_of(slot);
	bool		kept;
	bool		is_there;

	sup_lock();
	kept = slot->keeps_place;
	is_there = slot->heir != 0;
	if (kept)
	{
		slot->generation++;
		new_process(slot, now);
		slot->has_handle = true;
		slot->deadline = timeout > 0 ? now + timeout : 0;
		slot->restart_at = 0;
		sup_enter(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
		sup_wake_heir(slot);
	}
	sup_unlock();
	if (kept && !is_there)
		sup_launch_remind();
	return kept;
}

/* It is started at once: that is no event. */
static void
waiting_again(SupSlot *slot, TimestampTz now)
{
	slot->restart_at = now;
	sup_set_state(slot, SUP_WAITING, SUP_NO_REASON, NULL, now);
	sup_agenda_update(slot, now);
	sup_attend_owner(slot);
}

/*
 * What follows the end of a pool worker, or of the loader.  The caller holds
 * the lock.
 */
static void
undeclared_ended(SupSlot *slot, SupReason reason, const char *detail, TimestampTz restart_at,
				 TimestampTz now)
{
	if (slot->kind == SUP_KIND_LOADER)
		sup_release_slot(slot, "it has ended", now);
	else if (slot->surplus || Sup->pools[slot->pool].removed)
		sup_release_slot(slot, slot->state == SUP_STUCK ? "another has taken its place" :
						 "the pool shrank", now);
	else if (restart_at > now)
	{
		slot->restart_at = restart_at;
		sup_enter(slot, SUP_BACKOFF, reason, detail, now);
	}
	else
		waiting_again(slot, now);
}

/* The same of a declared worker. */
static void
declared_ended(SupSlot *slot, SupReason reason, const char *detail, SupVerdict verdict,
			   TimestampTz restart_at, bool *news, TimestampTz now)
{
	SupPolicy	policy = policy_of(slot);

	slot->restart_at = restart_at;
	if (slot->exit_reason != SUP_NO_REASON)
	{
		/* What is missing may come: try again, ever more seldom. */
		*news = slot->missing != slot->exit_reason;
		if (*news)
			slot->attempts = 0;
		slot->missing = slot->exit_reason;
		slot->restart_at = now + Max(sup_policy_delay(&policy, ++slot->attempts, sup_jitter()),
									 SUP_RETRY_MIN_US);
		if (sup_names_have_changed(slot, slot->exit_reason))
			slot->restart_at = now + SUP_RETRY_MIN_US;
		sup_enter(slot, SUP_WAITING, slot->exit_reason, detail, now);
		return;
	}
	slot->attempts = 0;
	slot->missing = SUP_NO_REASON;
	if (verdict != SUP_VERDICT_RESTART)
	{
		SupDeclaration *d = declaration_of(slot);

		slot->restart_at = 0;
		if (verdict == SUP_VERDICT_STOP)
			sup_enter(slot, SUP_STOPPED, SUP_EXITED, detail, now);
		else
			sup_enter(slot, SUP_FAILED, SUP_MAX_RESTARTS, detail, now);

		if (verdict == SUP_VERDICT_STOP && d->terms.instances == 1)
			sup_declaration_rests(d, true);

		/* It was started by a call, and will not be again. */
		if (d->source == SUP_FROM_CALL)
			d->gone = true;
	}
	else if (restart_at > now)
		sup_enter(slot, SUP_BACKOFF, reason, detail, now);
	else
		waiting_again(slot, now);
}

/* Are all workers of a pool stuck, as far as they count for it? */
static bool
all_are_stuck(const SupPool *pool)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &pool->slots))
	{
		const SupSlot *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (!slot->surplus && slot->state != SUP_STUCK)
			return false;
	}
	return true;
}

/*
 * Others take the places of pool workers that are stuck, but each of them holds a
 * slot: so up to a quarter of all, and another quarter where the pool has no
 * other worker.  Whose they are is not always whose doing they are.
 */
static void
replace_stuck(void)
{
	int			all = Min(sup_max_workers, max_worker_processes);
	int			replaced = 0;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < sup_max_workers; i++)
		replaced += Sup->slots[i].state == SUP_STUCK && Sup->slots[i].surplus;
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_STUCK || slot->kind != SUP_KIND_POOL || slot->surplus ||
			(replaced >= all / 4 && (replaced >= all / 2 || !all_are_stuck(&Sup->pools[slot->pool]))))
			continue;
		slot->surplus = true;
		replaced++;
		sup_attend_owner(slot);
	}
}

/*
 * The process is gone for good: policy says what follows.  'started' is false
 * if it never came to attach.
 */
static void
process_ended(SupSlot *slot, bool started, TimestampTz now)
{
	SupPolicy	policy = policy_of(slot);
	SupEnding	e;
	SupVerdict	verdict;
	TimestampTz restart_at;
	TimestampTz held_until = 0;
	bool		news = true;
	const char *name = name_of(slot);

	sup_check_report(slot, started, now);
	if (!started && slot->restartable)
		sup_launch_terminate(slot); /* or the postmaster may go on with it */
	e = sup_ending_of(slot, started);
	verdict = sup_verdict_on(slot, &e, &policy, now, &restart_at);

	sup_lock();
	if (!started)
	{
		slot->last_exit_at = now;
		slot->last_exit_code = -1;
		slot->last_sqlstate = 0;
		slot->last_error[0] = '\0';
		slot->last_role = InvalidOid;
	}
	if (slot->kind != SUP_KIND_LOADER)
		sup_add_event(slot, "exited", e.detail);
	slot->unborn = !started;
	slot->restarts++;
	slot->pid = 0;
	slot->has_handle = false;
	slot->deadline = 0;
	sup_slot_not_stuck(slot, now);

	/* A command that goes on where it was keeps its schedule. */
	if (!(e.clean && (slot->leave == SUP_LEAVE_FENCE || slot->leave == SUP_LEAVE_RECYCLE)))
		slot->next_run = 0;
	if (slot->declaration >= 0)
		declared_ended(slot, e.reason, e.detail, verdict, restart_at, &news, now);
	else
		undeclared_ended(slot, e.reason, e.detail, restart_at, now);
	if (slot->state != SUP_WAITING && slot->kind != SUP_KIND_LOADER)
		sup_give_up_place(slot);
	replace_stuck();
	if (slot->kind == SUP_KIND_POOL)
		held_until = sup_role_held_until(slot->last_role, slot->last_database);
	sup_unlock();
	if (no_background_worker_slot)
		sup_retry_refused(now);
	ConditionVariableBroadcast(&Sup->changed);

	/* What the loader could not read is logged with its database. */
	if (news && !e.asked && !slot->surplus && slot->kind != SUP_KIND_LOADER &&
		(!e.clean || slot->exit_reason != SUP_NO_REASON))
		sup_log_end(slot, name, &e, &policy, held_until, now);
}

/* Ask the postmaster to terminate the process of a slot. */
static void
to_stopping(SupSlot *slot, SupReason reason, const char *detail, TimestampTz now)
{
	int64		timeout = stop_timeout_of(slot);

	sup_launch_terminate(slot);
	sup_lock();
	if (slot->stop_reason == SUP_NO_REASON)
		slot->stop_reason = reason;
	sup_ask_terminate(slot);	/* nobody shall give it a task meanwhile */
	slot->deadline = timeout > 0 ? now + timeout : 0;
	if (slot->lingers)
		slot->deadline = now;	/* no process takes a signal in its exit */
	sup_enter(slot, SUP_STOPPING, reason, detail, now);
	if (slot->pool >= 0)
		sup_dispatch(slot->pool, now);	/* it may have been thought to come */
	sup_unlock();
}

/* One line for a process that does not end. */
static void
log_stuck(const SupSlot *slot, int64 waited)
{
	ereport(LOG,
			(errmsg("%s, process %d, does not stop", name_of(slot),
					slot->exited_at != 0 ? slot->exited_pid : slot->pid),
			 slot->lingers ? errdetail("It hangs in its exit.") :
			 errdetail("It was asked to terminate %lld ms ago.", (long long) waited / 1000),
			 slot->surplus ? errhint("Another takes its place.") :
			 slot->kind == SUP_KIND_POOL ?
			 errhint("No other takes its place before one of those that are stuck has ended.") :
			 errhint("No other is started while it is there.")));
}

/* Its deadline has come, and it is still there. */
static void
to_stuck(SupSlot *slot, TimestampTz now)
{
	TimestampTz stopped_at = slot->state_since;

	sup_lock();
	slot->deadline = 0;
	if (slot->kind == SUP_KIND_POOL && slot->exited_at != 0)
		sup_slot_stuck(slot, slot->last_role, slot->last_database);
	else if (slot->kind == SUP_KIND_POOL)
		sup_slot_stuck(slot, slot->role, slot->database);
	sup_enter(slot, SUP_STUCK, SUP_STOP_TIMEOUT,
			  slot->lingers ? "it hangs in its exit" : "it does not react to SIGTERM", now);
	replace_stuck();
	sup_unlock();
	log_stuck(slot, now - stopped_at);
}

/* Look at a slot that has, or had, a process. */
static void
look_at_process(SupSlot *slot, TimestampTz now)
{
	int			holder;
	BgwHandleStatus status = sup_launch_status(slot, &holder);
	bool		attached;
	bool		exited;
	bool		terminate;
	bool		forget;

	sup_lock();
	attached = slot->attached_at != 0;
	exited = slot->exited_at != 0;
	forget = sup_settle_status(slot, &status, holder, now);
	if (now >= slot->login_until)
		sup_ask_terminate(slot);
	else if (now >= slot->overdue_at)
		sup_login_overdue(slot, now);
	if (now >= sup_lingers_from(slot))
	{
		slot->lingers = slot->terminate = true;
		if (slot->state == SUP_STOPPING)
			slot->deadline = now;

		/* In its exit it writes nothing for its task any more. */
		sup_worker_died(slot, 0, "");
	}
	terminate = slot->terminate;
	if (slot->ready_at != 0 && (slot->state == SUP_STARTING || slot->state == SUP_WAITING))
	{
		/* even if it has been so quick that it has gone again */
		slot->deadline = 0;

		/* A library's function has been called, and may yet lack something. */
		if (slot->kind != SUP_KIND_LIBRARY)
		{
			slot->attempts = 0;
			slot->missing = SUP_NO_REASON;
		}
		sup_enter(slot, SUP_RUNNING, SUP_NO_REASON, NULL, slot->ready_at);
	}
	sup_unlock();

	if (status == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	if (forget)
		sup_launch_terminate(slot);
	if (status == BGWH_STOPPED)
	{
		process_ended(slot, attached, now);
		return;
	}

	sup_lock();
	if (exited && !slot->lingers)
	{
		sup_agenda_update(slot, now);
		slot->look_again = Min(slot->look_again * 2, SUP_REAP_LOOK_MAX_MS);
		sup_unlock();
		return;
	}

	if (slot->state == SUP_WAITING && !RecoveryInProgress())
	{
		slot->deadline = start_timeout_of(slot) > 0 ? now + start_timeout_of(slot) : 0;
		sup_enter(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
	}
	else
		sup_agenda_update(slot, now);
	sup_unlock();

	if (terminate && slot->state != SUP_STOPPING && slot->state != SUP_STUCK)
		to_stopping(slot, slot->leave == SUP_LEAVE_FENCE ? SUP_FENCED : SUP_REQUESTED,
					slot->leave == SUP_LEAVE_FENCE ? "it makes way for DDL on its database" :
					slot->lingers ? "it hangs in its exit" :
					slot->kind == SUP_KIND_COMMAND && slot->leave == SUP_LEAVE_RECYCLE ?
					"no background worker slot is free: it makes room" :
					slot->phase == SUP_PHASE_CONNECT ? "it did not end its login in time" :
					"somebody asked to terminate it", now);
	else if (slot->state == SUP_RUNNING && slot->heartbeat_timeout > 0 &&
			 now - slot->heartbeat_timeout >= slot->heartbeat_at)
		to_stopping(slot, SUP_NO_HEARTBEAT, "it sent no heartbeat in time", now);
	else if (slot->deadline == 0 || now < slot->deadline)
		return;
	else if (slot->state == SUP_STARTING)
		to_stopping(slot, SUP_START_TIMEOUT, "it did not become ready in time", now);
	else if (slot->state == SUP_STOPPING)
		to_stuck(slot, now);
}

/* Takes the lock.  Takes interrupts between two slots. */
void
sup_look_at_slots(TimestampTz now)
{
	sup_lock();
	sup_make_due_again(now);
	sup_unlock();

	sup_agenda_turn(now);
	for (int i = sup_next_to_look_at(-1); i >= 0; i = sup_next_to_look_at(i))
	{
		SupSlot    *slot = &Sup->slots[i];

		CHECK_FOR_INTERRUPTS();
		if (sup_has_process(slot))
			look_at_process(slot, now);
		else
		{
			sup_lock();
			sup_agenda_update(slot, now);
			sup_unlock();
		}
	}
}

/* What one slot was refused, the next would be as well: it waits as long. */
static void
start_due(SupSlot *slot, TimestampTz *retry_at, TimestampTz now)
{
	bool		is_pool = slot->kind == SUP_KIND_POOL;

	if (start_in_place(slot, now))
		return;
	if (*retry_at == 0)
	{
		if (waiting_to_starting(slot, now))
			return;
		*retry_at = slot->restart_at;
	}
	else
	{
		sup_lock();
		slot->restart_at = *retry_at;
		slot->attempts += goes_before(slot);
		sup_enter(slot, SUP_WAITING, SUP_NO_BACKGROUND_WORKER_SLOT,
				  "the server has no free background worker slot", now);
		sup_unlock();
	}
	if (is_pool ? processes[slot->pool] == 0 && stuck[slot->pool] > 0 : is_taken_over(slot))
		sup_find_place(slot, now);
}

static Rank
rank_of(const SupSlot *slot)
{
	if (slot->kind == SUP_KIND_LOADER)
		return RANK_LOADER;
	if (slot->kind != SUP_KIND_POOL)
		return is_taken_over(slot) ? RANK_TAKEN_OVER :
			slot->made_room ? RANK_MADE_ROOM : RANK_DECLARED;
	if (processes[slot->pool] == 0)
		return RANK_ONLY;
	return sup_is_refused(slot) ? RANK_POOL_REFUSED : RANK_POOL;
}

/*
 * Start those of that rank that are due.  They take turns, or those that come again
 * and again would get what is free.
 */
static void
start_rank(Rank rank, TimestampTz *retry_at, TimestampTz now)
{
	static int	first[RANKS];
	int			begin = first[rank];

	for (int round = 0; round < 2; round++)
		for (int i = sup_next_startable(round == 0 ? begin - 1 : -1);
			 i >= 0 && (round == 0 || i < begin); i = sup_next_startable(i))
		{
			if (rank_of(&Sup->slots[i]) != rank)
				continue;
			if (*retry_at == 0)
				first[rank] = i + 1;
			start_due(&Sup->slots[i], retry_at, now);
		}
}

/*
 * After the first refusal no more are tried in this turn; nor is a declared worker
 * before all have their background worker slot that go before.
 */
void
sup_start_due(TimestampTz now)
{
	TimestampTz retry_at = 0;
	TimestampTz wanted_at = DT_NOEND;

	if (sup_next_startable(-1) >= 0)
	{
		memset(processes, 0, sizeof(processes));
		memset(stuck, 0, sizeof(stuck));
		for (int i = 0; i < sup_nslots(); i++)
		{
			const SupSlot *slot = &Sup->slots[i];

			if (slot->kind == SUP_KIND_POOL && slot->pool >= 0 && slot->state == SUP_STUCK)
				stuck[slot->pool]++;
			else if (slot->kind == SUP_KIND_POOL && slot->pool >= 0 && !slot->surplus)
				processes[slot->pool] += sup_has_process(slot) || slot->keeps_place;
			if (sup_is_refused(slot) && goes_before(slot) && slot->restart_at > now)
				wanted_at = Min(wanted_at, slot->restart_at);
		}
		for (Rank rank = RANK_LOADER; rank < RANKS; rank++)
		{
			if (rank == RANK_MADE_ROOM && retry_at == 0 && wanted_at != DT_NOEND)
				retry_at = wanted_at;
			start_rank(rank, &retry_at, now);
		}
	}

	if (no_background_worker_slot)
	{
		bool		waits = false;

		for (int i = 0; i < sup_nslots() && !waits; i++)
			waits = sup_is_refused(&Sup->slots[i]);
		if (!waits)
			ereport(LOG,
					(errmsg("background worker slots are available again")));
		no_background_worker_slot = waits;
	}
}

/*
 * Takes the lock.  Processes of a former supervisor are adopted, and all
 * slots and declarations looked at.  One that it was registering, and that
 * has not come, is given up: another is started.
 */
void
sup_lifecycle_init(void)
{
	int			adopted = 0;
	TimestampTz now = sup_now();

	sup_agenda_init();
	sup_lock();
	Sup->check_prepared = true;
	for (int i = 0; i < sup_nslots(); i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		sup_give_up_place(slot);	/* of the next one we would not hear */
		if (sup_has_process(slot))
		{
			adopted++;
			if (!slot->has_handle && slot->attached_at == 0)
			{
				/*
				 * The former one died while it registered this: if it comes,
				 * it is late.
				 */
				slot->registered = ++slot->generation;
				slot->registering = false;
				sup_set_state(slot, SUP_WAITING, SUP_NO_REASON, NULL, now);
				slot->restart_at = now;
			}
			else
			{
				/*
				 * The postmaster has forgotten whom to tell.  A pool worker
				 * is replaced at leisure; of others we hear by their report.
				 */
				if (slot->registering)
					sup_set_state(slot, SUP_STARTING, SUP_NO_REASON, NULL, now);
				slot->registering = false;
				slot->notifies = false;
				slot->look_again = SUP_REAP_LOOK_MIN_MS;
				slot->roll = slot->kind == SUP_KIND_POOL;
			}
		}
		if (!slot->attended)
			sup_attend(slot);
		sup_agenda_update(slot, now);
		if (i % SUP_SLOTS_PER_LOCK == SUP_SLOTS_PER_LOCK - 1)
		{
			sup_unlock();
			sup_lock();
		}
	}
	sup_foreach_declaration_in_slices(d)
		sup_attend_declaration(d);
	sup_add_event(NULL, "supervisor", adopted > 0 ? "started, and adopted its workers" : "started");
	sup_unlock();
}
