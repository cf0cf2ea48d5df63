/*-------------------------------------------------------------------------
 *
 * supervisor.h
 *	  What supervisor offers to the C code of other extensions.
 *
 * Include postgres.h first.  Nothing has to be linked, and it does not matter
 * in which order shared_preload_libraries lists the libraries: all that is
 * here is inline, and finds the supervisor by rendezvous variables.  If the
 * supervisor is not preloaded, each call does the plain thing that the server
 * offers itself; a comment says what.
 *
 * A library declares a background worker with one statement in its _PG_init:
 *
 *		SUPERVISOR_DECLARE(.name = "my worker", .library = "my_ext",
 *						   .function = "my_main", .restart_delay = 5000);
 *
 * and the worker may look like this:
 *
 *		PGDLLEXPORT void
 *		my_main(Datum argument)
 *		{
 *			supervisor_handle_signals();
 *			BackgroundWorkerInitializeConnection("postgres", NULL, 0);
 *			while (!(supervisor_sleep(10000) & SUPERVISOR_STOP))
 *				do_my_work();
 *			proc_exit(0);
 *		}
 *
 * For those who know the builder of pgrx:
 *
 *		BackgroundWorkerBuilder		SupervisorWorker
 *		-----------------------		----------------
 *		new							.name
 *		set_type					.type
 *		enable_shmem_access			.flags; a start-up hook is the library's
 *									own shmem_startup_hook
 *		enable_spi_access			.flags, both together are the default
 *		set_start_time				.start_after
 *		set_restart_time			.restart_delay; None: .restart
 *		set_library					.library
 *		set_function				.function
 *		set_argument				.argument
 *		set_extra					.extra
 *		set_notify_pid				.notify_pid
 *		load						SUPERVISOR_DECLARE()
 *		load_dynamic				supervisor_start()
 *		pid							supervisor_pid()
 *		wait_for_startup			supervisor_wait_for_startup()
 *		terminate					supervisor_terminate()
 *		wait_for_shutdown			supervisor_wait_for_shutdown()
 *		attach_signal_handlers		supervisor_handle_signals()
 *		wait_latch					supervisor_sleep()
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#ifdef __cplusplus
extern "C"
{
#endif

#include <limits.h>

#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

/*
 * Of the interface.  It changes only if libraries have to be compiled again;
 * fields and functions that are added at the end do not change it.
 */
#define SUPERVISOR_ABI_VERSION	1

/* For a time or number that is zero: 0 stands for the setting. */
#define SUPERVISOR_NONE		(-1)

/* When a worker is started first. */
typedef enum SupervisorStartAfter
{
	SUPERVISOR_RECOVERY_FINISHED = 0,	/* when the server accepts writes */
	SUPERVISOR_CONSISTENT_STATE = 1,	/* on a hot standby, too */

	/*
	 * At once, before the supervisor, which takes charge of it when it comes.
	 * Without a database connection.  Started by the postmaster itself, and
	 * only at the start of the server: after a crash the supervisor starts
	 * it, with the delay that it keeps then.
	 */
	SUPERVISOR_POSTMASTER_START = 2
} SupervisorStartAfter;

/* After which ends of its process another is started. */
typedef enum SupervisorRestart
{
	SUPERVISOR_ALWAYS = 0,
	SUPERVISOR_ON_FAILURE = 1,	/* exit code other than 0 */
	SUPERVISOR_NEVER = 2
} SupervisorRestart;

/*
 * A worker.  Every field but three may be left out, which is 0.  Strings are
 * not copied when a worker is declared, so they are literals.
 *
 * Times are in milliseconds.  Of those marked (s), and max_restarts, 0 stands
 * for the setting supervisor.<field>, and SUPERVISOR_NONE for zero: no delay,
 * no timeout, no failures allowed.
 */
typedef struct SupervisorWorker
{
	/* For supervisor.h itself. */
	int			abi_version;
	size_t		size;
	struct SupervisorWorker *next;
	int			first_static;
	int			nstatic;

	const char *name;			/* required; unique among those declared in C;
								 * ASCII, at most 63 bytes */
	const char *type;			/* backend_type in pg_stat_activity; ASCII, at
								 * most 95 bytes; by default the name */
	const char *library;		/* required; as in CREATE FUNCTION */
	const char *function;		/* required; a bgworker_main_type that the
								 * library exports */
	int32		argument;		/* what the function gets, as an int32 */
	const char *extra;			/* in MyBgworkerEntry->bgw_extra; at most 127
								 * bytes */

	/*
	 * BGWORKER_SHMEM_ACCESS, or that and
	 * BGWORKER_BACKEND_DATABASE_CONNECTION.  0 is both, but with
	 * SUPERVISOR_POSTMASTER_START only the first.
	 */
	int			flags;
	SupervisorStartAfter start_after;

	SupervisorRestart restart;
	int			restart_delay;	/* (s) before the first restart after a
								 * failure; doubles with each */
	int			restart_delay_max;	/* (s) ... up to this */
	int			max_restarts;	/* more failures than this ... */
	int			restart_window; /* (s) ... in this time: it is given up; none:
								 * never */
	int			start_timeout;	/* (s) until it must be ready */
	int			stop_timeout;	/* (s) after which it is reported as stuck */
	int			heartbeat_timeout;	/* without a heartbeat for so long it is
									 * terminated and started again; 0: it
									 * promises none */
	int			instances;		/* number of processes; 0 is 1 */
	bool		says_ready;		/* it is not ready before it calls
								 * supervisor_ready(); else when its function
								 * is called */

	/*
	 * supervisor_start() only: process whose latch is set when a process of
	 * this worker starts or ends; 0 is the caller.
	 */
	int			notify_pid;
} SupervisorWorker;

/* What supervisor_sleep() returns, added up. */
#define SUPERVISOR_DUE		0x01	/* the time has come */
#define SUPERVISOR_RELOAD	0x02	/* settings have been read again */
#define SUPERVISOR_STOP		0x04	/* it is to end: proc_exit(0) */
#define SUPERVISOR_WOKEN	0x08	/* its latch was set, for whatever reason */

/* A worker that supervisor_start() has started. */
typedef struct SupervisorHandle
{
	uint64		id;
	BackgroundWorkerHandle *plain;	/* without the supervisor */
} SupervisorHandle;

/*
 * What the supervisor offers, under the rendezvous variable "supervisor_api".
 * Use the functions below.
 */
typedef struct SupervisorApi
{
	int			abi_version;
	size_t		size;
	void		(*ready) (void);
	int			(*heartbeat) (void);
	bool		(*leaving) (void);
	int			(*instance) (void);
	bool		(*start) (const SupervisorWorker *worker, uint64 *id);
	BgwHandleStatus (*status) (uint64 id, pid_t *pid);
	BgwHandleStatus (*wait_for_startup) (uint64 id, pid_t *pid);
	BgwHandleStatus (*wait_for_shutdown) (uint64 id);
	void		(*terminate) (uint64 id);
} SupervisorApi;

#define SUPERVISOR_API			"supervisor_api"
#define SUPERVISOR_DECLARATIONS	"supervisor_declarations"

/* What the postmaster starts before the supervisor is there. */
#define SUPERVISOR_STATIC_LIBRARY	"supervisor"
#define SUPERVISOR_STATIC_FUNCTION	"sup_static_main"

/* The supervisor; NULL: it is not preloaded. */
static inline const SupervisorApi *
supervisor_api(void)
{
	const SupervisorApi *api = (const SupervisorApi *) *find_rendezvous_variable(SUPERVISOR_API);

	if (api != NULL && api->abi_version != SUPERVISOR_ABI_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("supervisor has interface %d, not %d", api->abi_version, SUPERVISOR_ABI_VERSION),
				 errhint("Compile the library again.")));
	return api;
}

/*
 * Is the supervisor among shared_preload_libraries?  It may be loaded later
 * than whoever asks.
 */
static inline bool
supervisor_is_listed(void)
{
	char	   *string = pstrdup(shared_preload_libraries_string);
	List	   *names = NIL;
	ListCell   *lc;
	bool		found = false;

	if (SplitDirectoriesString(string, ',', &names))
	{
		foreach(lc, names)
		{
			const char *name = (const char *) lfirst(lc);
			const char *slash = last_dir_separator(name);

			if (slash != NULL)
				name = slash + 1;
			found |= strcmp(name, "supervisor") == 0 || strcmp(name, "supervisor" DLSUFFIX) == 0;
		}
		list_free_deep(names);
	}
	pfree(string);
	return found;
}

/* Fill in what the server is told of a worker that is not supervised. */
static inline void
supervisor_plain_worker(const SupervisorWorker *worker, BackgroundWorker *plain)
{
	memset(plain, 0, sizeof(*plain));
	strlcpy(plain->bgw_name, worker->name ? worker->name : "", NAMEDATALEN);
	strlcpy(plain->bgw_type, worker->type ? worker->type : plain->bgw_name, BGW_MAXLEN);
	plain->bgw_flags = worker->flags;
	if (plain->bgw_flags == 0)
		plain->bgw_flags = worker->start_after == SUPERVISOR_POSTMASTER_START ? BGWORKER_SHMEM_ACCESS :
			BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	plain->bgw_start_time = worker->start_after == SUPERVISOR_POSTMASTER_START ? BgWorkerStart_PostmasterStart :
		worker->start_after == SUPERVISOR_CONSISTENT_STATE ? BgWorkerStart_ConsistentState :
		BgWorkerStart_RecoveryFinished;
	plain->bgw_restart_time = worker->restart == SUPERVISOR_NEVER ? BGW_NEVER_RESTART :
		worker->restart_delay == 0 ? 1 :
		worker->restart_delay < 0 ? 0 : (worker->restart_delay - 1) / 1000 + 1;
	strlcpy(plain->bgw_library_name, worker->library ? worker->library : "",
			sizeof(plain->bgw_library_name));
	strlcpy(plain->bgw_function_name, worker->function ? worker->function : "",
			sizeof(plain->bgw_function_name));
	plain->bgw_main_arg = Int32GetDatum(worker->argument);
	strlcpy(plain->bgw_extra, worker->extra ? worker->extra : "", BGW_EXTRALEN);
}

/*
 * How instances of a worker that is not supervised know their number: after
 * the end of its name, which has at most 63 bytes, there is room.
 */
#define SUPERVISOR_INSTANCE_FORMAT "instance %d"

/* See SUPERVISOR_DECLARE(). */
static inline void
supervisor_declare(SupervisorWorker *worker)
{
	SupervisorWorker **link = (SupervisorWorker **) find_rendezvous_variable(SUPERVISOR_DECLARATIONS);
	BackgroundWorker plain;
	int			instances = Max(worker->instances, 1);
	bool		supervised = supervisor_is_listed();

	if (!process_shared_preload_libraries_in_progress)
	{
		if (!IsUnderPostmaster)
			ereport(LOG,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("worker \"%s\" must be declared in \"%s\"",
							worker->name ? worker->name : "", "shared_preload_libraries")));
		return;
	}

	supervisor_plain_worker(worker, &plain);
	if (!supervised)
	{
		for (int i = 1; i <= instances; i++)
		{
			snprintf(plain.bgw_name + NAMEDATALEN, BGW_MAXLEN - NAMEDATALEN,
					 SUPERVISOR_INSTANCE_FORMAT, i);
			RegisterBackgroundWorker(&plain);
		}
		return;
	}

	worker->abi_version = SUPERVISOR_ABI_VERSION;
	worker->size = sizeof(SupervisorWorker);
	worker->next = NULL;
	worker->first_static = worker->nstatic = 0;
	for (; *link != NULL; link = &(*link)->next)
		worker->first_static += (*link)->nstatic;
	*link = worker;

	/* pg_upgrade's servers run nobody's work. */
	if (worker->start_after != SUPERVISOR_POSTMASTER_START || IsBinaryUpgrade)
		return;
	worker->nstatic = Min(instances, max_worker_processes);
	plain.bgw_flags = BGWORKER_SHMEM_ACCESS;
	plain.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(plain.bgw_library_name, SUPERVISOR_STATIC_LIBRARY, sizeof(plain.bgw_library_name));
	strlcpy(plain.bgw_function_name, SUPERVISOR_STATIC_FUNCTION, sizeof(plain.bgw_function_name));
	for (int i = 0; i < worker->nstatic; i++)
	{
		plain.bgw_main_arg = Int32GetDatum(worker->first_static + i);
		RegisterBackgroundWorker(&plain);
	}
}

/*
 * Declare a worker, in _PG_init of a library that is preloaded by
 * shared_preload_libraries; elsewhere it does nothing.  The arguments are the
 * fields of SupervisorWorker, in their order if this is C++:
 *
 *		SUPERVISOR_DECLARE(.name = "my worker", .library = "my_ext", .function = "my_main");
 *
 * What is wrong with it is in the log, and in worker_status: state failed,
 * reason invalid.
 *
 * Without the supervisor: RegisterBackgroundWorker() for each instance.  Then
 * restart_delay, rounded up to seconds (0 is 1 s), is how long the server
 * waits after each end with an exit code other than 0; it does not restart
 * after exit code 0.  What else is said of restarts, timeouts and heartbeats
 * has no effect.
 */
#define SUPERVISOR_DECLARE(...) \
	do { \
		static SupervisorWorker supervisor_declared = {__VA_ARGS__}; \
		supervisor_declare(&supervisor_declared); \
	} while (0)

/*
 * In a worker
 */

/*
 * This worker is ready.  For one declared with says_ready; others are ready
 * from the start.  Without the supervisor: nothing.
 */
static inline void
supervisor_ready(void)
{
	const SupervisorApi *api = supervisor_api();

	if (api != NULL)
		api->ready();
}

/*
 * This worker is alive.  For one declared with heartbeat_timeout, where it
 * works for long between two calls of supervisor_sleep(), which says so as
 * well.  Without the supervisor: nothing.
 */
static inline void
supervisor_heartbeat(void)
{
	const SupervisorApi *api = supervisor_api();

	if (api != NULL)
		(void) api->heartbeat();
}

/* Which instance of its worker this process is: 1, 2, ... */
static inline int
supervisor_instance(void)
{
	const SupervisorApi *api = supervisor_api();
	int			instance = api != NULL ? api->instance() : 0;

	if (instance == 0 && MyBgworkerEntry != NULL && strlen(MyBgworkerEntry->bgw_name) < NAMEDATALEN)
		(void) sscanf(MyBgworkerEntry->bgw_name + NAMEDATALEN, SUPERVISOR_INSTANCE_FORMAT, &instance);
	return Max(instance, 1);
}

/*
 * Have supervisor_sleep() see SIGHUP, as SUPERVISOR_RELOAD, and SIGTERM, as
 * SUPERVISOR_STOP; and unblock signals, which are blocked when a worker's
 * function is called.  A worker that wants SIGTERM to end it wherever it is
 * sets "die" for it afterwards.
 */
static inline void
supervisor_handle_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
}

/*
 * For the two functions below: sleep until that time, which is the wall clock's, or
 * if that is DT_NOEND for so long, which whoever sets that clock does not change; -1:
 * for ever.
 */
static inline int
supervisor_sleep_for(TimestampTz until, long milliseconds)
{
	const SupervisorApi *api = supervisor_api();
	instr_time	start;
	int			what = 0;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		int			heartbeat = api != NULL ? api->heartbeat() : -1;
		long		timeout = -1;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			what |= SUPERVISOR_RELOAD;
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();
		if (ShutdownRequestPending || (api != NULL && api->leaving()))
			what |= SUPERVISOR_STOP;
		if (until != DT_NOEND)
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		else if (milliseconds >= 0)
		{
			instr_time	now;

			INSTR_TIME_SET_CURRENT(now);
			INSTR_TIME_SUBTRACT(now, start);
			timeout = Max(milliseconds - (long) INSTR_TIME_GET_MILLISEC(now), 0);
		}
		timeout = Min(timeout, (long) INT_MAX);
		if (timeout == 0)
			what |= SUPERVISOR_DUE;
		if (what != 0)
			return what;

		if (heartbeat >= 0)
			timeout = timeout < 0 ? heartbeat : Min(timeout, (long) heartbeat);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
					  timeout, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			what = SUPERVISOR_WOKEN;
		}
	}
}

/*
 * Sleep until that time (DT_NOEND: for ever), or until something has happened.
 * Returns at least one of SUPERVISOR_DUE, _RELOAD, _STOP and _WOKEN.
 *
 * Sends heartbeats meanwhile, reads the settings again when the server is
 * reloaded, and does CHECK_FOR_INTERRUPTS(), which may raise an error.  Not
 * to be called with a transaction open.
 *
 * STOP stays: the next call returns it at once.
 */
static inline int
supervisor_sleep_until(TimestampTz until)
{
	return supervisor_sleep_for(until, -1);
}

/* The same for so many milliseconds from now; -1: for ever. */
static inline int
supervisor_sleep(long milliseconds)
{
	return supervisor_sleep_for(DT_NOEND, milliseconds);
}

/*
 * In any process, at run time
 */

/*
 * Start a worker.  It is not undone by ROLLBACK, outlives this session, and is
 * kept as its fields say until it has ended for good, by its policy or by
 * supervisor_terminate(); a crash of the server ends it, too.  It has one
 * instance.  Its strings need not outlive the call.
 *
 * False: no more workers can be declared; see supervisor.max_workers.  If there
 * is room, but no process can be had now, it is waiting, as worker_status
 * shows.  Errors: 22023 what makes no sense, 42710 the name is taken, 55000 the
 * supervisor could not be started.
 *
 * Without the supervisor: RegisterDynamicBackgroundWorker(), see also
 * SUPERVISOR_DECLARE(); the handle then lives in the current memory context.
 */
static inline bool
supervisor_start(const SupervisorWorker *worker, SupervisorHandle *handle)
{
	const SupervisorApi *api = supervisor_api();
	SupervisorWorker copy = *worker;

	if (copy.notify_pid == 0)
		copy.notify_pid = MyProcPid;
	handle->id = 0;
	handle->plain = NULL;
	if (api == NULL)
	{
		BackgroundWorker plain;

		supervisor_plain_worker(&copy, &plain);
		plain.bgw_notify_pid = copy.notify_pid;
		return RegisterDynamicBackgroundWorker(&plain, &handle->plain);
	}
	copy.abi_version = SUPERVISOR_ABI_VERSION;
	copy.size = sizeof(SupervisorWorker);
	return api->start(&copy, &handle->id);
}

/*
 * BGWH_STARTED: it has a process, whose ID is put into *pid.
 * BGWH_NOT_YET_STARTED: it has none now, and will have one.  BGWH_STOPPED: it
 * has ended for good, or is not to run, by supervisor.stop_worker() or
 * supervisor.start_workers.
 *
 * Without the supervisor: GetBackgroundWorkerPid().
 */
static inline BgwHandleStatus
supervisor_pid(const SupervisorHandle *handle, pid_t *pid)
{
	if (handle->plain != NULL)
		return GetBackgroundWorkerPid(handle->plain, pid);
	return supervisor_api()->status(handle->id, pid);
}

/*
 * Wait until it is ready: BGWH_STARTED.  BGWH_STOPPED as above;
 * BGWH_POSTMASTER_DIED: there is no server any more.
 *
 * Without the supervisor: WaitForBackgroundWorkerStartup(), for which notify_pid
 * must be this process.
 */
static inline BgwHandleStatus
supervisor_wait_for_startup(const SupervisorHandle *handle, pid_t *pid)
{
	if (handle->plain != NULL)
		return WaitForBackgroundWorkerStartup(handle->plain, pid);
	return supervisor_api()->wait_for_startup(handle->id, pid);
}

/*
 * It is to end: SIGTERM.  It is not started again, and its name is free when
 * its process has gone.
 *
 * Without the supervisor: TerminateBackgroundWorker().
 */
static inline void
supervisor_terminate(const SupervisorHandle *handle)
{
	if (handle->plain != NULL)
		TerminateBackgroundWorker(handle->plain);
	else
		supervisor_api()->terminate(handle->id);
}

/*
 * Wait until it has ended for good, or is not to run: BGWH_STOPPED; or
 * BGWH_POSTMASTER_DIED.
 *
 * Without the supervisor: WaitForBackgroundWorkerShutdown(), for which
 * notify_pid must be this process.
 */
static inline BgwHandleStatus
supervisor_wait_for_shutdown(const SupervisorHandle *handle)
{
	if (handle->plain != NULL)
		return WaitForBackgroundWorkerShutdown(handle->plain);
	return supervisor_api()->wait_for_shutdown(handle->id);
}

#ifdef __cplusplus
}
#endif

#endif							/* SUPERVISOR_H */
