/*
 * A function that ends its process as none should; see t/181_poison.pl.
 */
#include "postgres.h"

#include <signal.h>

#include "fmgr.h"
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

PG_FUNCTION_INFO_V1(poison);
Datum
poison(PG_FUNCTION_ARGS)
{
	char	   *how = text_to_cstring(PG_GETARG_TEXT_PP(0));
	volatile char seed = 1;

	if (strcmp(how, "deaf") == 0)	/* so that it crashes as well when another one has */
	{
		sigset_t	quit;

		sigemptyset(&quit);
		sigaddset(&quit, SIGQUIT);
		sigprocmask(SIG_BLOCK, &quit, NULL);
	}
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "segv") == 0)
		*(volatile int *) 8 = 1;
	if (strcmp(how, "overflow") == 0)
		PG_RETURN_INT32(overflow(&seed));
	if (strcmp(how, "panic") == 0)
		elog(PANIC, "poison");
	if (strcmp(how, "kill") == 0)
		kill(getpid(), SIGKILL);
	PG_RETURN_NULL();
}
