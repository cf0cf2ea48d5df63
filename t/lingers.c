/*
 * A process that stays there after its exit, for the tests: as long as a file does.
 * One that has something to do at its exit, which takes a while.  And a statement
 * that takes no signal as long as a file is there.
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(linger);
PG_FUNCTION_INFO_V1(tidy);
PG_FUNCTION_INFO_V1(deaf);

static void
wait_for_file(int code, Datum path)
{
	while (access(DatumGetCString(path), F_OK) == 0)
		pg_usleep(10000L);
}

Datum
linger(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	on_proc_exit(wait_for_file, CStringGetDatum(MemoryContextStrdup(TopMemoryContext, path)));
	PG_RETURN_VOID();
}

/* Takes interrupts if the exit lets it; removes the file last. */
static void
remove_file(int code, Datum path)
{
	for (int i = 0; i < 20; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000L);
	}
	unlink(DatumGetCString(path));
}

Datum
tidy(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	before_shmem_exit(remove_file, CStringGetDatum(MemoryContextStrdup(TopMemoryContext, path)));
	PG_RETURN_VOID();
}

Datum
deaf(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	while (access(path, F_OK) == 0)
		pg_usleep(10000L);
	PG_RETURN_VOID();
}
