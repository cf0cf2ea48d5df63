/* Workers that sleep: for t/151_clock.pl. */
#include "postgres.h"

#include "extension/supervisor/supervisor.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void sleeper(Datum argument);

/* Sleeps for so many milliseconds, or for ever, and ends. */
void
sleeper(Datum argument)
{
	supervisor_handle_signals();
	while ((supervisor_sleep(DatumGetInt32(argument)) & (SUPERVISOR_DUE | SUPERVISOR_STOP)) == 0)
		;
	proc_exit(0);
}
