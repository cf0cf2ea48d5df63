/*
 * For t/140_races.pl: which processes are held at an injection point, and
 * signals that come late.
 */
#include "postgres.h"

#include <signal.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

/*
 * Process IDs, separated by spaces: also of those that pg_stat_activity does
 * not show, as they are in no database yet.
 */
PG_FUNCTION_INFO_V1(held_at);
Datum
held_at(PG_FUNCTION_ARGS)
{
	char	   *point = text_to_cstring(PG_GETARG_TEXT_PP(0));
	StringInfoData pids;

	initStringInfo(&pids);
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		uint32		event = proc->wait_event_info;

		if (proc->pid != 0 && (event & 0xFF000000) == PG_WAIT_INJECTIONPOINT &&
			strcmp(pgstat_get_wait_event(event), point) == 0)
			appendStringInfo(&pids, "%s%d", pids.len > 0 ? " " : "", proc->pid);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(pids.data, pids.len));
}

static void
change_mask(int how)
{
	sigset_t	set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(how, &set, NULL);
}

/* From now on a cancel is on its way to this process ... */
PG_FUNCTION_INFO_V1(delay_cancels);
Datum
delay_cancels(PG_FUNCTION_ARGS)
{
	change_mask(SIG_BLOCK);
	PG_RETURN_VOID();
}

/* ... and arrives now. */
PG_FUNCTION_INFO_V1(deliver_cancels);
Datum
deliver_cancels(PG_FUNCTION_ARGS)
{
	change_mask(SIG_UNBLOCK);
	CHECK_FOR_INTERRUPTS();
	PG_RETURN_VOID();
}
