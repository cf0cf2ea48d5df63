/*-------------------------------------------------------------------------
 *
 * child.c
 *	  What each child of the supervisor does: take its slot, say that it is
 *	  ready, log in as its role, and report its end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "libpq/libpq-be.h"
#include "libpq/pqsignal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "child.h"
#include "compat.h"
#include "drain.h"
#include "dropped.h"
#include "exit.h"
#include "match.h"
#include "rights.h"
#include "settings.h"
#include "task.h"
#include "temporary.h"

static uint64 my_generation;

/* Does the postmaster start another in the place of this process? */
static bool keeps_place = false;
static emit_log_hook_type next_emit_log_hook = NULL;

/*
 * The last error of this process that went, or would have gone, to the log.
 * Set in the log hook, in one piece as far as other messages can come:
 * copying emits none.
 */
static int	last_sqlstate = 0;
static char last_error[SUP_MESSAGE] = "";
static bool last_says_missing = false;

/* That of the last one that was raised, whatever log_min_messages says. */
static int	raised_sqlstate = 0;

/*
 * Was it raised in a login?  A library's function logs in itself: while it is not
 * in a database, it is nowhere else in a transaction.
 */
static bool raised_in_login = false;

/* This process of a declared worker ends: what is missing, if that is why? */
static SupReason
why_not_begun(SupPhase phase)
{
	int			sqlstate = last_sqlstate != 0 ? last_sqlstate : raised_sqlstate;

	if (phase == SUP_PHASE_CONNECT ||
		(phase == SUP_PHASE_RUN && SupMySlot->kind == SUP_KIND_LIBRARY && raised_in_login))
		switch (sqlstate)
		{
			case ERRCODE_UNDEFINED_DATABASE:
				return SUP_NO_DATABASE;
			case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
			case ERRCODE_INSUFFICIENT_PRIVILEGE:
				return SUP_DATABASE_NOT_ALLOWED;
			case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
				return last_says_missing ? SUP_NO_ROLE : SUP_NO_LOGIN;
			case ERRCODE_TOO_MANY_CONNECTIONS:
			case ERRCODE_CANNOT_CONNECT_NOW:
				return SUP_NO_CONNECTION;
		}
	else if (phase == SUP_PHASE_LOAD && SupMySlot->kind == SUP_KIND_LIBRARY)
		switch (sqlstate)
		{
			case ERRCODE_UNDEFINED_FUNCTION:
				return SUP_NO_FUNCTION;
			default:
				return SUP_NO_LIBRARY;
		}
	return SUP_NO_REASON;
}

/* What follows is not what the last error was about. */
void
sup_forget_error(void)
{
	last_sqlstate = 0;
	last_error[0] = '\0';
}

/* An error context callback: it sees also what the log does not get. */
static void
note_raised(void *arg)
{
	if (geterrcode() == ERRCODE_SUCCESSFUL_COMPLETION)
		return;
	raised_sqlstate = geterrcode();
	raised_in_login = IsInitProcessingMode() && IsTransactionState();
}

/* Keep the error that may be this process's last. */
static void
note_log(ErrorData *edata)
{
	if (edata->elevel == FATAL && sup_exit_is_cut(edata->sqlerrcode))
		edata->output_to_server = false;
	else if (edata->elevel >= ERROR && edata->message)
	{
		last_sqlstate = edata->sqlerrcode;
		strlcpy(last_error, edata->message, sizeof(last_error));
		/* the untranslated text: core has one SQLSTATE for two things */
		last_says_missing = edata->message_id && strstr(edata->message_id, "does not exist") != NULL;
		/* The supervisor logs it, once, however often it is tried. */
		if (SupMySlot->kind == SUP_KIND_LOADER ||
			(SupMySlot->declaration >= 0 && why_not_begun(SupMySlot->phase) != SUP_NO_REASON))
			edata->output_to_server = false;
	}
	if (edata->output_to_server && next_emit_log_hook)
		next_emit_log_hook(edata);
}

/*
 * A pool's worker that has a successor at once leaves it its place, and a loader does.
 * The caller holds the lock.
 */
static bool
leaves_its_place(const SupSlot *slot, int code)
{
	return slot->restartable && !slot->surplus && slot->leave != SUP_LEAVE_SURPLUS &&
		(code == 0 || slot->exit_of_role || slot->leave != SUP_STAY || slot->terminate ||
		 slot->kind == SUP_KIND_LOADER);
}

/*
 * The last callback of an exit: the postmaster forgets what ends with exit code 0, and
 * starts another in the place of what ends with 1.  All others have seen the code
 * that was meant.
 */
static void
set_exit_code(int code, Datum arg)
{
	if (code <= 1 && code != keeps_place)
		proc_exit(keeps_place);
}

/*
 * The end of this process.  Runs after it has left the ProcArray, where it
 * would be in the way of DROP DATABASE, and before its PGPROC goes.
 */
static void
report_exit(int code, Datum arg)
{
	SupSlot    *slot = (SupSlot *) DatumGetPointer(arg);
	TimestampTz now = sup_now();

	code = sup_exit_code(code);
	if (pg_atomic_read_u32(&slot->task) != 0)
		(void) sup_server_stops();
	sup_lock();
	if (slot->generation == my_generation)
	{
		int			pool = slot->pool;
		SupCause	cause = slot->cause;

		slot->last_exit_at = slot->exited_at = now;
		slot->last_exit_code = slot->exit_code = code;
		slot->last_sqlstate = code != 0 ? last_sqlstate : 0;
		strlcpy(slot->last_error, code != 0 ? last_error : "", SUP_MESSAGE);
		slot->last_role = slot->kind == SUP_KIND_POOL ? slot->role : sup_slot_role(slot);
		/* A C function has connected where it liked, or not come to that. */
		if (slot->kind != SUP_KIND_LIBRARY)
			slot->last_database = slot->database;
		else if (OidIsValid(MyDatabaseId))
			slot->last_database = MyDatabaseId;
		if (slot->declaration >= 0 && code != 0)
			slot->exit_reason = why_not_begun(slot->phase);
		if (slot->last_run_at != 0 && slot->last_run_end == 0)
		{
			/* a run that it was asked to break off has not failed */
			slot->last_run_end = now;
			if (slot->leave == SUP_STAY && !slot->terminate)
				slot->runs_failed++;
		}
		slot->exit_of_role = slot->begun || slot->binding >= 0;
		slot->keeps_place = keeps_place = leaves_its_place(slot, code);
		if (code != 0 && slot->leave == SUP_STAY && !slot->terminate)
			cause = SUP_CAUSE_ROLE;
		if (slot->exit_of_role && slot->capped && cause != SUP_CAUSE_NONE)
			sup_role_ended_worker(slot->role, cause == SUP_CAUSE_ROLE && slot->at_home ?
								  InvalidOid : slot->database, now);
		sup_worker_died(slot, last_sqlstate, last_error);
		sup_slot_unbind(slot);
		slot->leaving_since = now;
		slot->exited_pid = slot->pid;
		slot->pid = 0;
		slot->proc = NULL;
		slot->database = slot->role = InvalidOid;
		sup_attend(slot);
		if (pool >= 0)
			sup_dispatch(pool, now);
	}
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
}

/* The settings may have changed. */
static void
take_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Take the slot, if it waits for this process.  The caller holds the lock. */
static bool
attach_to_slot(SupSlot *slot, char *name, SupProgram *program)
{
	if (slot->attached_at != 0 ||
		!(slot->state == SUP_STARTING || slot->registering ||
		  (slot->state == SUP_WAITING && slot->reason == SUP_RECOVERY)))
		return false;
	my_generation = slot->generation;
	slot->attached_at = sup_now();
	slot->pid = MyProcPid;
	slot->proc = MyProc;
	if (slot->declaration >= 0)
	{
		const SupDeclaration *d = &Sup->declarations[slot->declaration];

		memcpy(program, &d->program, sizeof(SupProgram));	/* compared as bytes */
		memcpy(name, d->name, NAMEDATALEN);
		if (slot->version != d->version)
			slot->leave = SUP_LEAVE_RECYCLE;	/* changed meanwhile */
	}
	return true;
}

/*
 * From here on this process's end is reported, and its last error kept.  If
 * its declaration has changed meanwhile, 'leave' is set, for the caller to
 * exit.
 *
 * One in the place of another may come before the supervisor has seen that end, and a
 * loader's successor sleeps until there is something to read.
 */
SupSlot *
sup_child_attach(int index, const SupOrigin *origin, char *name, SupProgram *program)
{
	SupSlot    *slot;
	bool		mine;
	bool		waits;
	static ErrorContextCallback callback = {.callback = note_raised};

	if (MyBgworkerEntry->bgw_restart_time != BGW_NEVER_RESTART)
		on_proc_exit(set_exit_code, (Datum) 0);
	if (Sup == NULL || index < 0 || index >= sup_nslots())
		return NULL;
	slot = &Sup->slots[index];

	(void) sup_area();			/* so that the report may still use it */

	sup_injection_point("supervisor-attach");
	for (;;)
	{
		sup_lock();
		waits = origin->incarnation == Sup->incarnation && origin->registered == slot->registered;
		mine = waits && attach_to_slot(slot, name, program);
		waits = waits && !mine && slot->keeps_place;
		if (waits)
			slot->heir = sup_my_session() + 1;
		sup_unlock();
		keeps_place = waits;
		if (!waits)
			break;
		pqsignal(SIGTERM, die);
		pqsignal(SIGHUP, SignalHandlerForConfigReload);
		BackgroundWorkerUnblockSignals();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0,
						 sup_wait_event(SUP_WAIT_UNBOUND));
		ResetLatch(MyLatch);
		if (ProcDiePending)
			proc_exit(1);
		take_reload();
	}
	if (!mine)
		return NULL;

	SupMySlot = slot;
	on_shmem_exit(report_exit, PointerGetDatum(slot));
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = note_log;
	error_context_stack = &callback;
	return slot;
}

/* Takes the lock.  When it returns, a pool worker may have a task. */
void
sup_worker_ready(SupSlot *slot)
{
	Assert(slot == SupMySlot && slot->generation == my_generation);
	sup_lock();
	slot->heartbeat_at = slot->ready_at = sup_now();
	slot->cpu = sup_current_cpu();
	if (slot->kind == SUP_KIND_POOL)
		sup_slot_available(slot);
	sup_attend(slot);
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
}

/* A SIGTERM ends the process here, by FATAL. */
void
sup_worker_interrupts(void)
{
	/* A cancel was for a task that is over; one may come at any time. */
	sup_injection_point("supervisor-interrupts");
	HOLD_CANCEL_INTERRUPTS();
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	take_reload();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * A session has a connection, and what is written for sessions believes that:
 * sslinfo's functions, which everybody may call, would crash the server.  So
 * there is one, with nobody at its other end.  It also says in the log who we
 * are.
 */
static void
have_connection(void)
{
	static Port port;

	port.sock = PGINVALID_SOCKET;
	port.laddr.addr.ss_family = port.raddr.addr.ss_family = AF_UNIX;
	port.remote_host = "[local]";
	port.remote_port = "";
	port.user_name = MemoryContextStrdup(TopMemoryContext, sup_role_name(GetSessionUserId()));
	port.database_name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	MyProcPort = &port;
}

/*
 * Raises FATAL if the role is not let in.  What session_preload_libraries
 * and login triggers run is run here.  No cancel is taken: it would be for
 * no task.
 */
void
sup_worker_connect(SupSlot *slot, uint32 flags, const char *application_name)
{
	/* Core would take 0 for the bootstrap superuser. */
	if (!OidIsValid(slot->database) || !OidIsValid(slot->role))
		elog(FATAL, "worker has no database or role to bind to");

	HOLD_CANCEL_INTERRUPTS();
	BackgroundWorkerInitializeConnectionByOid(slot->database, slot->role, flags);
	sup_temporary_init();

	/*
	 * Whatever the role's clients use: our reader has the database's
	 * encoding.
	 */
	SetConfigOption("client_encoding", GetDatabaseEncodingName(), PGC_USERSET, PGC_S_CLIENT);
	sup_begin_own();
	have_connection();
	CommitTransactionCommand();
	process_session_preload_libraries();
	sup_fire_login_triggers();
	SetConfigOption("application_name", application_name, PGC_USERSET, PGC_S_CLIENT);
	sup_begin_own();
	sup_rights_bound(flags);
	sup_exit_init();
	slot->at_home = sup_owns_database(MyDatabaseId);	/* for our own report */
	CommitTransactionCommand();
	RESUME_CANCEL_INTERRUPTS();
}
