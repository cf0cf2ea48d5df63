/*-------------------------------------------------------------------------
 *
 * worker_main.c
 *	  Where a child of the supervisor begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "child.h"
#include "entries.h"
#include "exec.h"

/*
 * Run a declared C function, as the postmaster would: what it gets to see of
 * itself is its own, and signals are still blocked.
 */
pg_noreturn static void
run_library(const SupProgram *program)
{
	bgworker_main_type function;

	strlcpy(MyBgworkerEntry->bgw_library_name, program->library,
			sizeof(MyBgworkerEntry->bgw_library_name));
	strlcpy(MyBgworkerEntry->bgw_function_name, program->function,
			sizeof(MyBgworkerEntry->bgw_function_name));
	MyBgworkerEntry->bgw_main_arg = (Datum) program->argument;
	memcpy(MyBgworkerEntry->bgw_extra, program->extra, BGW_EXTRALEN);
	if (program->registered)
	{
		strlcpy(MyBgworkerEntry->bgw_name, program->process_name, BGW_MAXLEN);
		strlcpy(MyBgworkerEntry->bgw_type, program->type, BGW_MAXLEN);
		MyBgworkerEntry->bgw_restart_time = program->restart_time;
		MyBgworkerEntry->bgw_notify_pid = 0;
	}

	SupMySlot->phase = SUP_PHASE_LOAD;

	/*
	 * The fence of the database where the last one was may have been put up
	 * since.
	 */
	sup_lock();
	if (OidIsValid(SupMySlot->last_database) && sup_database_fenced(SupMySlot->last_database))
		SupMySlot->leave = SUP_LEAVE_FENCE;
	sup_unlock();
	if (SupMySlot->leave != SUP_STAY)
		proc_exit(0);
	function = (bgworker_main_type) load_external_function(program->library, program->function,
														   true, NULL);
	SupMySlot->phase = SUP_PHASE_RUN;
	if (!program->says_ready)
		sup_worker_ready(SupMySlot);
	function(MyBgworkerEntry->bgw_main_arg);
	proc_exit(0);
}

/* Do what the slot of this process says. */
pg_noreturn static void
child_main(int index, const SupOrigin *origin)
{
	char		name[NAMEDATALEN] = "";
	SupProgram	program;
	SupSlot    *slot = sup_child_attach(index, origin, name, &program);

	/* Nobody wants to hear of one that came too late. */
	if (slot == NULL || slot->leave != SUP_STAY)
		proc_exit(0);
	if (slot->kind == SUP_KIND_LIBRARY)
		run_library(&program);

	/* Its first block, which it keeps, is large enough for a short command. */
	MessageContext = AllocSetContextCreate(TopMemoryContext, "MessageContext",
										   ALLOCSET_DEFAULT_MINSIZE, 32 * 1024,
										   ALLOCSET_DEFAULT_MAXSIZE);
	sup_redirect_messages();

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (slot->kind == SUP_KIND_COMMAND)
		sup_command_main(slot, name, &program);
	else if (slot->kind == SUP_KIND_LOADER)
		sup_loader_main(slot);
	else
		sup_pool_main(slot);
}

/* The argument is the slot's number; what else it knows is in bgw_extra. */
void
sup_worker_main(Datum main_arg)
{
	SupOrigin	origin;

	memcpy(&origin, MyBgworkerEntry->bgw_extra, sizeof(origin));
	child_main(DatumGetInt32(main_arg), &origin);
}

/*
 * The argument is the slot's number, which supervisor_declare() has chosen.  The
 * postmaster has forgotten those that were there before a crash.
 */
void
sup_static_main(Datum main_arg)
{
	SupOrigin	origin;

	origin.incarnation = Sup ? Sup->incarnation : 0;
	origin.registered = SUP_STATIC_GENERATION;
	child_main(DatumGetInt32(main_arg), &origin);
}
