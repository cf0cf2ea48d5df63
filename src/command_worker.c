/*-------------------------------------------------------------------------
 *
 * command_worker.c
 *	  A declared worker that runs a command, once or again and again.
 *
 * It is a session of its role.  An error in the command ends the process, and
 * policy says when there is another.  Between runs nothing is left over.
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

#include "catalog.h"
#include "child.h"
#include "compat.h"
#include "declaration.h"
#include "entries.h"
#include "exec.h"
#include "exit.h"
#include "reset.h"
#include "rights.h"
#include "settings.h"

/* What this worker runs, as its row has said, in TopMemoryContext. */
typedef struct Command
{
	SupInput   *input;
	int			nsettings;
	char	  **settings;		/* "name=value" */
} Command;

/* It has nothing to do any more but to end. */
pg_noreturn static void
leave(SupSlot *slot)
{
	sup_lock();
	slot->leaving_since = sup_now();
	sup_attend(slot);
	sup_unlock();
	proc_exit(0);
}

/*
 * This session is out of date: another takes its place, and keeps its
 * schedule.
 */
pg_noreturn static void
make_room(SupSlot *slot)
{
	sup_lock();
	if (slot->leave == SUP_STAY)
		slot->leave = SUP_LEAVE_RECYCLE;
	sup_unlock();
	leave(slot);
}

/* Log in, unless DDL on the database is under way. */
static void
log_in(SupSlot *slot, const char *name, const SupProgram *program)
{
	char		application_name[NAMEDATALEN * 2];
	bool		fenced;

	sup_lock();
	slot->phase = SUP_PHASE_CONNECT;
	slot->database = Sup->declarations[slot->declaration].database;
	slot->role = program->role;
	fenced = sup_database_fenced(slot->database);
	if (fenced)
		slot->leave = SUP_LEAVE_FENCE;
	sup_unlock();
	if (fenced)
		proc_exit(0);

	snprintf(application_name, sizeof(application_name), "supervisor: %s", name);
	sup_worker_connect(slot,
					   (program->bypass_allowconn ? BGWORKER_BYPASS_ALLOWCONN : 0) |
					   (program->bypass_rolelogincheck ? BGWORKER_BYPASS_ROLELOGINCHECK : 0),
					   application_name);
}

/* A run begins. */
static void
note_start(SupSlot *slot, TimestampTz now)
{
	sup_lock();
	slot->last_run_at = now;
	slot->last_run_end = 0;
	sup_unlock();
}

/* It has ended without an error.  One that has not ends the process: see child.c. */
static void
note_success(SupSlot *slot, TimestampTz next_run)
{
	TimestampTz now = sup_now();

	sup_lock();
	slot->runs = false;
	slot->succeeded = true;
	slot->runs_succeeded++;
	slot->last_run_end = slot->last_success_at = now;
	/* from start to start; what was missed is not made up for */
	slot->next_run = next_run == 0 ? 0 : Max(next_run, now);
	sup_unlock();
}

/* Read the command from its row, and pack it as a task's. */
static void
read_command(SupSlot *slot, const char *name, const SupProgram *program, Command *command)
{
	SupRow		row;
	SupInput   *input;

	slot->phase = SUP_PHASE_LOAD;
	sup_begin_own();
	if (!sup_catalog_command(name, program, &row))
	{
		/* It has changed, and whoever reads the table is late, or not here. */
		sup_lock();
		sup_request_load(slot->database);
		sup_unlock();
		make_room(slot);
	}
	input = MemoryContextAlloc(TopMemoryContext, sizeof(SupInput) + strlen(row.command) + 1);
	input->command_len = strlen(row.command);
	input->ncolumns = input->nparams = -1;
	input->nsettings = 0;
	strcpy((char *) (input + 1), row.command);
	command->input = input;
	command->nsettings = row.nsettings;
	command->settings = MemoryContextAlloc(TopMemoryContext, sizeof(char *) * Max(row.nsettings, 1));
	for (int i = 0; i < row.nsettings; i++)
		command->settings[i] = MemoryContextStrdup(TopMemoryContext, row.settings[i]);
	CommitTransactionCommand();
}

/*
 * One run, in a transaction of its own.  An error ends the process.  If it
 * is asked to leave, it exits before the command begins; for a fence even a
 * command that runs is canceled, and that is no error.
 */
static void
run_command(SupSlot *slot, const Command *command, const SupProgram *program)
{
	const char *sql = (const char *) (command->input + 1);
	char		tag[COMPLETION_TAG_BUFSIZE];
	SupLimits	limits = {0, "canceling statement due to run timeout", NULL};
	volatile TimestampTz start = 0;

	if (program->run_timeout > 0)
		limits.timeout = Max(program->run_timeout / 1000, 1);
	SetCurrentStatementStartTimestamp();
	debug_query_string = sql;
	pgstat_report_activity(STATE_RUNNING, sql);
	MemoryContextSwitchTo(MessageContext);

	PG_TRY();
	{
		/*
		 * From here on a cancel is for this run, and a request to leave sends
		 * one.
		 */
		QueryCancelPending = false;
		slot->runs = true;
		pg_memory_barrier();
		if (slot->leave != SUP_STAY)
			proc_exit(0);

		StartTransactionCommand();
		if (slot->stale || !sup_rights_hold())
		{
			CommitTransactionCommand();
			make_room(slot);
		}
		start = sup_now();
		note_start(slot, start);
		sup_exit_is_reset(false);
		if (command->nsettings > 0)
		{
			/* Each time: its role may be allowed less by now. */
			sup_settings_own(command->settings, command->nsettings, GetUserId(), true);
			CommitTransactionCommand();
			StartTransactionCommand();
		}
		sup_exec(command->input, false, &limits, NULL, NULL, tag);
	}
	PG_CATCH();
	{
		/* Who had to make way for DDL has not failed. */
		if (slot->leave == SUP_LEAVE_FENCE && geterrcode() == ERRCODE_QUERY_CANCELED)
		{
			HOLD_INTERRUPTS();
			AbortOutOfAnyTransaction();
			proc_exit(0);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();

	/* What comes now is too late to cancel it. */
	note_success(slot, program->run_every == 0 ? 0 : start + program->run_every);
	debug_query_string = NULL;
}

/* Leave nothing for the next run; if that fails, it is for another process. */
static void
clean_up(SupSlot *slot)
{
	if (!sup_reset_session(slot->role))
		make_room(slot);
	pgstat_report_activity(STATE_IDLE, NULL);
	(void) pgstat_report_stat(true);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(MessageContext);
}

/* Sleep until then; a worker that is told to leave meanwhile does. */
static void
sleep_until(SupSlot *slot, TimestampTz until)
{
	for (;;)
	{
		TimestampTz now;

		ResetLatch(MyLatch);

		/* The SIGTERM that comes with a wish to leave is not for the log. */
		if (slot->leave == SUP_STAY)
			sup_worker_interrupts();	/* which may reset the latch once more */
		if (slot->leave != SUP_STAY)
			proc_exit(0);
		now = sup_now();
		if (now >= until)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 sup_milliseconds_until(now, until), sup_wait_event(SUP_WAIT_DUE));
	}
}

/* Reads the command once: if that changes, another process takes over. */
void
sup_command_main(SupSlot *slot, const char *name, const SupProgram *program)
{
	Command		command;

	log_in(slot, name, program);
	read_command(slot, name, program, &command);
	slot->phase = SUP_PHASE_RUN;
	pgstat_report_activity(STATE_IDLE, NULL);
	sup_worker_ready(slot);

	for (;;)
	{
		sleep_until(slot, slot->next_run);
		run_command(slot, &command, program);
		if (program->run_every == 0)
			leave(slot);
		clean_up(slot);
	}
}
