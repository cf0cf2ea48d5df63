/*
 * A worker that is started and terminated by calls, again and again: for
 * t/220_growth.pl.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "extension/supervisor/supervisor.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void growing(Datum argument);

void
growing(Datum argument)
{
	supervisor_handle_signals();
	while ((supervisor_sleep(-1) & SUPERVISOR_STOP) == 0)
		;
	proc_exit(0);
}

/* Starts a worker of that name, of this library, and ends it. */
PG_FUNCTION_INFO_V1(start_and_end);
Datum
start_and_end(PG_FUNCTION_ARGS)
{
	SupervisorWorker worker = {
		.name = text_to_cstring(PG_GETARG_TEXT_PP(0)),
		.library = text_to_cstring(PG_GETARG_TEXT_PP(1)),
		.function = "growing",
	};
	SupervisorHandle handle;
	pid_t		pid;

	if (!supervisor_start(&worker, &handle) ||
		supervisor_wait_for_startup(&handle, &pid) != BGWH_STARTED)
		elog(ERROR, "worker did not start");
	supervisor_terminate(&handle);
	if (supervisor_wait_for_shutdown(&handle) != BGWH_STOPPED)
		elog(ERROR, "worker did not end");
	PG_RETURN_VOID();
}
