#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "extension/supervisor/supervisor.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT void session_cleaner(Datum argument);

void
_PG_init(void)
{
	SUPERVISOR_DECLARE(.name = "session cleaner",
					   .library = "my_ext",
					   .function = "session_cleaner",
					   .argument = 60,
					   .restart_delay = 5000);
}

void
session_cleaner(Datum argument)
{
	char		command[128];

	snprintf(command, sizeof(command),
			 "DELETE FROM public.sessions WHERE last_seen < pg_catalog.now() - interval '%d min'",
			 DatumGetInt32(argument));
	supervisor_handle_signals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);
	do
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		SPI_execute(command, false, 0);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	} while ((supervisor_sleep(10000) & SUPERVISOR_STOP) == 0);
	proc_exit(0);
}
