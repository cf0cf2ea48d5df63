/*-------------------------------------------------------------------------
 *
 * pool_worker.c
 *	  A pool worker: waits for tasks and runs them.
 *
 * It starts unbound.  Its first task binds it to that task's database and
 * role, as a session that core authenticates; it serves these until it is
 * recycled.  Nothing of a task is left over when the next one begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timeout.h"

#include "child.h"
#include "compat.h"
#include "entries.h"
#include "exec.h"
#include "exit.h"
#include "job_worker.h"
#include "login.h"
#include "match.h"
#include "reset.h"
#include "rights.h"
#include "settings.h"
#include "stream.h"
#include "task.h"
#include "wait.h"

/*
 * The task that this worker has been given, or NULL.  Does not take the
 * lock; the barrier pairs with the one in give().
 */
static SupTask *
given_task(SupSlot *slot)
{
	SupTask    *task;

	if (pg_atomic_read_u32(&slot->task) == 0)
		return NULL;
	task = sup_slot_task(slot);
	if (task == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("what a worker is to do is corrupt")));
	sup_injection_point("supervisor-picked");
	return task;
}

/* The unbound worker waits for its first task. */
static SupTask *
wait_unbound(SupSlot *slot)
{
	SupTask    *task;

	for (;;)
	{
		sup_worker_interrupts();
		if ((task = given_task(slot)) != NULL)
			return task;
		if (slot->leaving_since != 0)
			proc_exit(0);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0,
						 sup_wait_event(SUP_WAIT_UNBOUND));
		ResetLatch(MyLatch);
	}
}

/*
 * Connect to the database of the first task, as its role.  False: not now,
 * the task went back to the queue; or it was canceled, and has ended.  The
 * worker is unbound as before.
 */
static bool
bind_to(SupSlot *slot, SupTask *task)
{
	bool		fenced;
	bool		given_up;
	char		name[NAMEDATALEN * 2];

	sup_lock();
	fenced = sup_database_fenced(slot->database);
	if (!fenced && task->cancel == SUP_NOT_CANCELED)
		sup_login_begin(slot, sup_now());
	else
		fenced = true;
	sup_unlock();

	if (fenced)
	{
		sup_task_hand_back(slot, task);
		sup_lock();
		sup_slot_unbind(slot);
		slot->database = slot->role = InvalidOid;
		sup_slot_available(slot);
		sup_unlock();
		return false;
	}

	sup_injection_point("supervisor-login");
	snprintf(name, sizeof(name), "supervisor: pool %s, slot %d",
			 sup_slot_name(slot), sup_slot_index(slot));
	sup_worker_connect(slot, 0, name);
	sup_lock();
	slot->phase = SUP_PHASE_RUN;
	sup_login_over(slot);
	sup_attend(slot);
	given_up = pg_atomic_read_u32(&slot->task) == 0;
	sup_unlock();
	if (given_up)
		proc_exit(0);			/* its task waits for another worker */
	return true;
}

/* Run a task's command; false: this session is out of date, and has not. */
static bool
run_command(SupSlot *slot, SupTask *task, char *tag)
{
	SupInput   *input = sup_task_input(task);
	SupLimits	limits = {task->timeout, "canceling statement due to task timeout", task};

	if (input == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("command of task %llu is corrupt", (unsigned long long) task->id)));
	debug_query_string = (char *) (input + 1);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	/*
	 * From here on a cancel is for this task; one that came before is seen by
	 * its mark, which is set before the signal is sent.
	 */
	QueryCancelPending = false;
	pg_memory_barrier();
	if (task->cancel != SUP_NOT_CANCELED)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("%s", sup_cancel_messages[task->cancel])));

	StartTransactionCommand();
	if (!sup_rights_hold())
	{
		CommitTransactionCommand();
		sup_lock();
		slot->cause = Max(slot->cause, SUP_CAUSE_OTHER);
		sup_unlock();
		return false;
	}
	sup_exit_is_reset(false);
	if (input->nsettings > 0)
	{
		sup_settings_apply(sup_input_settings(input), input->nsettings);
		CommitTransactionCommand();
		StartTransactionCommand();
	}
	sup_exec(input, task->kind == SUP_TASK_RUN || task->kind == SUP_TASK_LAUNCH,
			 &limits, NULL, NULL, tag);
	return true;
}

/*
 * The command has failed: send the error, and clean up after it as PostgresMain()
 * does.  Returns its SQLSTATE, and the beginning of its message.
 */
static int
end_with_error(char *message)
{
	ErrorData  *edata;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	MemoryContextSwitchTo(MessageContext);
	edata = CopyErrorData();
	strlcpy(message, edata->message ? edata->message : "", SUP_MESSAGE);
	sup_send_error();
	sup_clean_up_after_error();
	RESUME_INTERRUPTS();
	return edata->sqlerrcode;
}

/*
 * Run a task and end it; returns the next one, as sup_task_finish().  A task
 * for which this session is out of date goes back to the queue.
 */
static SupTask *
run_task(SupSlot *slot, SupTask *task)
{
	volatile SupTaskState state = SUP_TASK_SUCCEEDED;
	volatile bool stale = slot->stale;
	volatile int sqlstate = 0;
	char		tag[COMPLETION_TAG_BUFSIZE] = "";
	char		message[SUP_MESSAGE] = "";
	bool		cancel_sent;
	SupTask    *next;

	slot->cpu = sup_current_cpu();
	if (!stale)
	{
		slot->begun = true;
		sup_forget_error();
		sup_out_begin(task);
		SetCurrentStatementStartTimestamp();
		MemoryContextSwitchTo(MessageContext);

		PG_TRY();
		{
			stale = !run_command(slot, task, tag);
		}
		PG_CATCH();
		{
			sqlstate = end_with_error(message);
			state = sqlstate == ERRCODE_QUERY_CANCELED ? SUP_TASK_CANCELED : SUP_TASK_FAILED;
		}
		PG_END_TRY();
		debug_query_string = NULL;
	}
	if (stale)
	{
		sup_task_hand_back(slot, task);
		proc_exit(0);
	}

	sup_reset_worker(slot);
	sup_out_end(state);
	next = sup_task_finish(slot, task, state, tag, sqlstate, message, &cancel_sent);

	/* Nobody sends one for that task any more. */
	if (cancel_sent)
		sup_take_late_cancel();

	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(MessageContext);
	return next;
}

/*
 * For sup_spin_until(): is there a task, or shall the worker leave?  Does
 * not take the lock.
 */
static bool
has_something_to_do(void *arg)
{
	SupSlot    *slot = arg;

	return pg_atomic_read_u32(&slot->task) != 0 || slot->leaving_since != 0;
}

/* The bound worker waits for its next task; 'partner' is the last submitter's CPU. */
static SupTask *
wait_idle(SupSlot *slot, SupSpin *spin, int partner)
{
	TimestampTz idle_since;
	SupTask    *task;
	long		stats_timeout;

	/* Spinning goes first: what follows would be late for a hot loop. */
	if (!sup_spin_until(spin, partner, has_something_to_do, slot))
	{
		pgstat_report_activity(STATE_IDLE, NULL);
		stats_timeout = pgstat_report_stat(false);
		idle_since = sup_now();

		for (;;)
		{
			TimestampTz now;
			TimestampTz until = DT_NOEND;
			long		timeout = -1;

			sup_worker_interrupts();	/* first: it may reset the latch */
			if (has_something_to_do(slot))
				break;

			now = sup_now();
			if (sup_idle_timeout > 0)
				until = TimestampTzPlusMilliseconds(idle_since, sup_idle_timeout);
			if (sup_worker_lifetime > 0)
				until = Min(until, sup_slot_expires(slot));
			if (now >= until)
			{
				sup_lock();
				if (slot->listed)
					sup_ask_leave(slot, SUP_LEAVE_RECYCLE);
				sup_unlock();
				break;
			}
			if (until != DT_NOEND)
				timeout = sup_milliseconds_until(now, until);
			if (stats_timeout > 0)
				timeout = timeout < 0 ? stats_timeout : Min(timeout, stats_timeout);

			if (WaitLatch(MyLatch,
						  WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						  timeout, sup_wait_event(SUP_WAIT_IDLE)) & WL_TIMEOUT)
			{
				if (stats_timeout > 0)
					(void) pgstat_report_stat(true);
				stats_timeout = 0;
			}
			ResetLatch(MyLatch);
		}
	}
	task = given_task(slot);
	if (task == NULL)
		proc_exit(0);
	return task;
}

/*
 * The worker is unbound until a login succeeds, and bound from then on.  The
 * functions that wait and run tasks end the process when it shall leave.
 */
void
sup_pool_main(SupSlot *slot)
{
	SupSpin		spin = {false, &slot->spinning};
	SupTask    *task;

	sup_worker_ready(slot);

	do
		task = wait_unbound(slot);
	while (!bind_to(slot, task));

	for (;;)
	{
		int			owner = task->owner;

		task = task->kind == SUP_TASK_DRAIN ? sup_run_drain(slot, task) : run_task(slot, task);
		if (task != NULL)
			(void) pgstat_report_stat(false);	/* it may never be idle */
		else
		{
			TimestampTz idle_since = sup_now();

			task = wait_idle(slot, &spin, owner >= 0 ? Sup->sessions[owner].cpu : -1);

			/*
			 * Where tasks come from several sessions, these have a better use
			 * for the processor than a worker that spins.
			 */
			if (task->owner == owner || Sup->crowded)
				sup_spin_note(&spin, task->submitted_at - idle_since);
			else
				spin.pays = false;
		}
		sup_worker_interrupts();
	}
}
