/*
 * For t/015_endings.pl: what follows the end of a process, by the code of the
 * supervisor, which is compiled in here.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "../src/policy.c"
#include "../src/ending.c"

PG_MODULE_MAGIC;

static SupDeclaration declaration;
static SupShared shared_state = {.declarations = &declaration};
SupShared  *Sup = &shared_state;

/*
 * A command that was stopped for that reason, and asked to leave for that one, and
 * ends with that code, once it is said to be stuck or before: is it clean, which reason
 * is told, and what follows?
 */
PG_FUNCTION_INFO_V1(ending);
Datum
ending(PG_FUNCTION_ARGS)
{
	static const char *const verdicts[] = {"restart", "stop", "fail"};
	SupSlot    *slot = palloc0(sizeof(SupSlot));
	SupPolicy	policy = {0};
	SupEnding	e;
	SupVerdict	verdict;
	TimestampTz restart_at;

	slot->kind = PG_GETARG_BOOL(5) ? SUP_KIND_LIBRARY : SUP_KIND_COMMAND;
	slot->stop_reason = (SupReason) PG_GETARG_INT32(0);
	slot->leave = (SupLeave) PG_GETARG_INT32(1);
	slot->state = PG_GETARG_BOOL(2) ? SUP_STUCK : SUP_STOPPING;
	slot->reason = PG_GETARG_BOOL(2) ? SUP_STOP_TIMEOUT : slot->stop_reason;
	slot->exit_code = PG_GETARG_INT32(3);
	slot->started_at = 1000;
	slot->attached_at = slot->ready_at = 1500;
	slot->exited_at = 2000;
	declaration.program.run_every = 1;
	policy.restart = (SupRestart) PG_GETARG_INT32(4);
	policy.restart_delay = policy.restart_delay_max = 1000000;
	policy.max_restarts = 5;
	policy.restart_window = 1000000;

	sup_check_report(slot, true, 3000);
	e = sup_ending_of(slot, true);
	verdict = sup_verdict_on(slot, &e, &policy, 3000, &restart_at);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s %s %s%s%s, %d failures", e.clean ? "clean" : "failed",
											  e.reason == SUP_START_TIMEOUT ? "start_timeout" :
											  e.reason == SUP_NO_HEARTBEAT ? "no_heartbeat" :
											  e.reason == SUP_REQUESTED ? "requested" : "exited",
											  e.asked ? "asked " : "", verdicts[verdict],
											  verdict == SUP_VERDICT_RESTART && restart_at > 3000 ? " later" : "",
											  slot->history.consecutive_failures)));
}
