/*
 * Workers that say in the log what they see, and functions that call what
 * supervisor.h has for run time, for t/133_api.pl.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "extension/supervisor/supervisor.h"

PG_MODULE_MAGIC;

/* dynamic_library_path is set */
#define LIBRARY "supervised_test"

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT void talker(Datum argument);
PGDLLEXPORT void silent(Datum argument);
PGDLLEXPORT void late(Datum argument);
PGDLLEXPORT void crasher(Datum argument);
PGDLLEXPORT void deaf(Datum argument);

void
_PG_init(void)
{
	SUPERVISOR_DECLARE(.name = "early", .library = LIBRARY, .function = "talker",
					   .argument = 1, .start_after = SUPERVISOR_POSTMASTER_START,
					   .instances = 2);
	SUPERVISOR_DECLARE(.name = "talker", .type = "talkative", .library = LIBRARY,
					   .function = "talker", .argument = -2, .extra = "word",
					   .heartbeat_timeout = 3000, .instances = 2);
	SUPERVISOR_DECLARE(.name = "silent", .library = LIBRARY, .function = "silent",
					   .heartbeat_timeout = 1200, .restart_delay = SUPERVISOR_NONE,
					   .max_restarts = 2);
	SUPERVISOR_DECLARE(.name = "late", .library = LIBRARY, .function = "late",
					   .flags = BGWORKER_SHMEM_ACCESS, .says_ready = true);
	SUPERVISOR_DECLARE(.name = "wrong", .library = LIBRARY, .function = "talker",
					   .start_after = SUPERVISOR_POSTMASTER_START,
					   .flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION);
	SUPERVISOR_DECLARE(.name = "early two", .library = LIBRARY, .function = "talker",
					   .argument = 3, .start_after = SUPERVISOR_POSTMASTER_START);
	SUPERVISOR_DECLARE(.name = "talker", .library = LIBRARY, .function = "silent");
}

/* Says who it is, and what it wakes up for. */
void
talker(Datum argument)
{
	int			what;

	supervisor_handle_signals();
	elog(LOG, "%s %d begins: type %s, argument %d, extra \"%s\", %s",
		 MyBgworkerEntry->bgw_name, supervisor_instance(), MyBgworkerEntry->bgw_type,
		 DatumGetInt32(argument), MyBgworkerEntry->bgw_extra,
		 RecoveryInProgress() ? "in recovery" : "after recovery");
	do
	{
		what = supervisor_sleep(LONG_MAX);
		if (what & SUPERVISOR_RELOAD)
			elog(LOG, "%s %d: reload, work_mem is %s", MyBgworkerEntry->bgw_name,
				 supervisor_instance(), GetConfigOption("work_mem", false, false));
	} while ((what & SUPERVISOR_STOP) == 0);
	elog(LOG, "%s %d: stop", MyBgworkerEntry->bgw_name, supervisor_instance());
	proc_exit(0);
}

/* Promises heartbeats, and sends none. */
void
silent(Datum argument)
{
	supervisor_handle_signals();
	while (!ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	proc_exit(1);
}

/* Is ready when the server has been reloaded. */
void
late(Datum argument)
{
	supervisor_handle_signals();
	while ((supervisor_sleep(-1) & (SUPERVISOR_RELOAD | SUPERVISOR_STOP)) == 0)
		;
	supervisor_ready();
	while ((supervisor_sleep(-1) & SUPERVISOR_STOP) == 0)
		;
	proc_exit(0);
}

/* Fails at once. */
void
crasher(Datum argument)
{
	supervisor_handle_signals();
	elog(ERROR, "it failed as it should");
}

/* Only wakes up when it gets SIGTERM. */
void
deaf(Datum argument)
{
	supervisor_handle_signals();
	pqsignal(SIGTERM, SignalHandlerForConfigReload);
	while ((supervisor_sleep(-1) & SUPERVISOR_STOP) == 0)
		;
	proc_exit(0);
}

/*
 * Run time: one handle per session
 */

static SupervisorHandle handle;

static Datum
status_text(BgwHandleStatus status)
{
	return CStringGetTextDatum(status == BGWH_STARTED ? "started" :
							   status == BGWH_NOT_YET_STARTED ? "not yet started" :
							   status == BGWH_STOPPED ? "stopped" : "postmaster died");
}

/* (name, function, restart, notify_pid) */
PG_FUNCTION_INFO_V1(test_start);
Datum
test_start(PG_FUNCTION_ARGS)
{
	SupervisorWorker worker = {
		.library = LIBRARY,
		.argument = 9,
		.restart_delay = SUPERVISOR_NONE,
		.max_restarts = 2,
	};
	MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	worker.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	worker.function = text_to_cstring(PG_GETARG_TEXT_PP(1));
	worker.restart = (SupervisorRestart) PG_GETARG_INT32(2);
	worker.notify_pid = PG_GETARG_INT32(3);
	started = supervisor_start(&worker, &handle);
	MemoryContextSwitchTo(oldcontext);
	PG_RETURN_BOOL(started);
}

PG_FUNCTION_INFO_V1(test_pid);
Datum
test_pid(PG_FUNCTION_ARGS)
{
	pid_t		pid;

	if (supervisor_pid(&handle, &pid) != BGWH_STARTED)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

PG_FUNCTION_INFO_V1(test_status);
Datum
test_status(PG_FUNCTION_ARGS)
{
	pid_t		pid;

	PG_RETURN_DATUM(status_text(supervisor_pid(&handle, &pid)));
}

PG_FUNCTION_INFO_V1(test_wait_for_startup);
Datum
test_wait_for_startup(PG_FUNCTION_ARGS)
{
	pid_t		pid;

	PG_RETURN_DATUM(status_text(supervisor_wait_for_startup(&handle, &pid)));
}

PG_FUNCTION_INFO_V1(test_terminate);
Datum
test_terminate(PG_FUNCTION_ARGS)
{
	supervisor_terminate(&handle);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(test_wait_for_shutdown);
Datum
test_wait_for_shutdown(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(status_text(supervisor_wait_for_shutdown(&handle)));
}

/*
 * Has the postmaster start what it starts for a slot before the supervisor, and
 * waits until that has ended.
 */
PG_FUNCTION_INFO_V1(test_late);
Datum
test_late(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_PostmasterStart,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_name = "late",
		.bgw_library_name = SUPERVISOR_STATIC_LIBRARY,
		.bgw_function_name = SUPERVISOR_STATIC_FUNCTION,
	};
	BackgroundWorkerHandle *late;

	worker.bgw_main_arg = PG_GETARG_DATUM(0);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &late))
		elog(ERROR, "out of background worker slots");
	PG_RETURN_DATUM(status_text(WaitForBackgroundWorkerShutdown(late)));
}

/* Sleeps until a query has rows, and looks only when this session's latch was set. */
PG_FUNCTION_INFO_V1(test_wait_for_latch);
Datum
test_wait_for_latch(PG_FUNCTION_ARGS)
{
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(0));

	SPI_connect();
	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		SPI_execute(query, false, 1);
		if (SPI_processed > 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
