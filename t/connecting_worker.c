/*
 * Background workers that connect, and wait: to the database whose OID is the
 * argument; or to one as a role, by their names, which are 'extra', with a colon
 * between.  And one that says that a database is missing, and means another server's.
 * One that is slow: 'extra' is a directory, where it waits before it connects
 * as long as there is a file "before", and, when it is to end, "after".
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void connecting_worker(Datum argument);
PGDLLEXPORT void connects_by_name(Datum argument);
PGDLLEXPORT void misses_something(Datum argument);
PGDLLEXPORT void takes_its_time(Datum argument);

static void
wait_for_end(void)
{
	for (;;)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
connecting_worker(Datum argument)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid((Oid) DatumGetInt32(argument), InvalidOid, 0);
	wait_for_end();
}

void
connects_by_name(Datum argument)
{
	char	   *database = MyBgworkerEntry->bgw_extra;
	char	   *role = strchr(database, ':');

	*role++ = '\0';
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(database, role, 0);
	wait_for_end();
}

void
misses_something(Datum argument)
{
	BackgroundWorkerUnblockSignals();
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_DATABASE), errmsg("there is none on that server")));
}

static volatile sig_atomic_t is_to_end = false;

static void
note_end(SIGNAL_ARGS)
{
	is_to_end = true;
}

static bool
exists(const char *directory, const char *file)
{
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return access(path, F_OK) == 0;
}

void
takes_its_time(Datum argument)
{
	const char *directory = MyBgworkerEntry->bgw_extra;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	while (exists(directory, "before"))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000L);
	}
	BackgroundWorkerInitializeConnectionByOid((Oid) DatumGetInt32(argument), InvalidOid, 0);
	pqsignal(SIGTERM, note_end);
	while (!is_to_end || exists(directory, "after"))
		pg_usleep(10000L);
}
