/*
 * A library that registers a background worker itself when it is preloaded, for
 * the tests; it ends for good when it is terminated.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void own_main(Datum main_arg);
PGDLLEXPORT void other_main(Datum main_arg);
void		_PG_init(void);

void
own_main(Datum main_arg)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	while (!ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	proc_exit(0);
}

void
other_main(Datum main_arg)
{
	own_main(main_arg);
}

void
_PG_init(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "own_worker", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "own_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "worker of its own", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "worker of its own", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
