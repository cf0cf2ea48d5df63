/*
 * Library workers for the tests: what a C function is told when it is called
 * as a background worker, and the ways in which it may end.
 */
#include "postgres.h"

#include <signal.h>

#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void probe_main(Datum main_arg);
PGDLLEXPORT void probe_deaf(Datum main_arg);
PGDLLEXPORT void probe_exit(Datum main_arg);
PGDLLEXPORT void probe_bytes(Datum main_arg);
PGDLLEXPORT void probe_error(Datum main_arg);
PGDLLEXPORT void probe_crash(Datum main_arg);

/* Until a handler of core's has a reason to end it. */
static void
run_until_told(void)
{
	while (!ShutdownRequestPending)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	proc_exit(0);
}

/* Says what it sees, and runs until SIGTERM. */
void
probe_main(Datum main_arg)
{
	sigset_t	mask;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	ereport(LOG,
			(errmsg("probe \"%s\": type \"%s\", library \"%s\", function \"%s\", argument %d, %d, extra \"%s\", flags %d, SIGTERM %s",
					MyBgworkerEntry->bgw_name, MyBgworkerEntry->bgw_type,
					MyBgworkerEntry->bgw_library_name, MyBgworkerEntry->bgw_function_name,
					DatumGetInt32(main_arg), DatumGetInt32(MyBgworkerEntry->bgw_main_arg),
					MyBgworkerEntry->bgw_extra, MyBgworkerEntry->bgw_flags,
					sigismember(&mask, SIGTERM) ? "blocked" : "let in")));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	run_until_told();
}

/* Runs until SIGUSR2, whatever SIGTERM says; once it is in pg_stat_activity, it hears that. */
void
probe_deaf(Datum main_arg)
{
	pqsignal(SIGTERM, SignalHandlerForConfigReload);
	pqsignal(SIGUSR2, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	run_until_told();
}

/* Ends with its argument as exit code. */
void
probe_exit(Datum main_arg)
{
	proc_exit(DatumGetInt32(main_arg));
}

/* Says what it is given, to the bit. */
void
probe_bytes(Datum main_arg)
{
	char		extra[BGW_EXTRALEN * 2 + 1];

	for (int i = 0; i < BGW_EXTRALEN; i++)
		snprintf(extra + i * 2, 3, "%02x", (unsigned char) MyBgworkerEntry->bgw_extra[i]);
	ereport(LOG,
			(errmsg("probe \"bytes\": argument %lld, OID %u, extra %s",
					(long long) DatumGetInt64(main_arg), DatumGetObjectId(main_arg), extra)));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	run_until_told();
}

void
probe_error(Datum main_arg)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("the probe fails")));
}

/* Takes the server through a crash restart. */
void
probe_crash(Datum main_arg)
{
	kill(MyProcPid, SIGKILL);
	run_until_told();
}
