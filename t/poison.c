/*
 * A function that ends its process as none should; see t/181_poison.pl.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/parallel.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

/* More and more of the stack, which no check of core's sees. */
static int
overflow(volatile char *above)
{
	volatile char more[4096];

	more[0] = above[0];
	return overflow(more) + more[1];
}

static void
take(const char *how)
{
	volatile char seed = 1;
	int			code;

	if (strcmp(how, "deaf") == 0)	/* so that it crashes as well when another one has */
	{
		sigset_t	quit;

		sigemptyset(&quit);
		sigaddset(&quit, SIGQUIT);
		sigprocmask(SIG_BLOCK, &quit, NULL);
	}
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "segv") == 0)	/* valgrind has nothing to say to that */
		*(volatile char *) "read only" = 1;
	if (strcmp(how, "overflow") == 0)
		(void) overflow(&seed);
	if (strcmp(how, "panic") == 0)
		elog(PANIC, "poison");
	if (strcmp(how, "kill") == 0)
		kill(getpid(), SIGKILL);
	if (sscanf(how, "exit(%d)", &code) == 1)
		exit(code);
	if (sscanf(how, "proc_exit(%d)", &code) == 1)
		proc_exit(code);
	if (sscanf(how, "_exit(%d)", &code) == 1)
		_exit(code);
	if (strcmp(how, "wait") == 0)
		for (;;)
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
}

PG_FUNCTION_INFO_V1(poison);
Datum
poison(PG_FUNCTION_ARGS)
{
	take(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_NULL();
}

/* The same, but for parallel workers only. */
PG_FUNCTION_INFO_V1(poison_worker);
Datum
poison_worker(PG_FUNCTION_ARGS)
{
	if (IsParallelWorker())
		take(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_NULL();
}
