/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The supervisor: compares what is wanted with what there is.
 *
 * Each turn looks at what has changed or fallen due, decides by policy.c, acts
 * through launch.c, and sleeps until the nearest deadline.  Signals and latches
 * only say "look now".  It waits for no child, runs no SQL and takes no failure
 * of a child, nor the lack of a resource, for its own.  On an error of its own
 * it dies; the postmaster starts another, which adopts the children.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "agenda.h"
#include "compat.h"
#include "declared.h"
#include "due.h"
#include "entries.h"
#include "lifecycle.h"
#include "loads.h"
#include "notes.h"
#include "pools.h"
#include "task.h"
#include "transition.h"

/* A turn; returns when the next one is due. */
static TimestampTz
supervisor_turn(void)
{
	TimestampTz now = sup_now();
	bool		slots_freed = sup_slots_freed();
	TimestampTz next;

	sup_look_at_prepared();
	sup_look_at_slots(now);
	next = sup_look_at_jobs();
	next = Min(next, sup_look_at_pools(slots_freed, now));
	sup_look_at_declarations(slots_freed, now);
	next = Min(next, sup_look_at_loads(now));
	sup_start_due(now);
	next = Min(next, sup_task_expire(now));
	next = Min(next, sup_task_time_out(now));
	if (sup_states_changed())
		ConditionVariableBroadcast(&Sup->changed);
	return Min(next, sup_next_due());
}

/*
 * Life
 */

/* Nobody shall take the next one who gets this PGPROC for the supervisor. */
static void
leave_office(int code, Datum arg)
{
	TimestampTz now = sup_now();

	sup_lock();
	Sup->supervisor = NULL;
	Sup->supervisor_since = now;
	sup_unlock();
}

/* Be the one supervisor, and take over what a former one left. */
static void
take_office(void)
{
	TimestampTz now = sup_now();
	int			other = 0;

	(void) sup_area();			/* tasks that can't be run end under the lock */

	sup_lock();
	if (Sup->supervisor != NULL)
		other = Sup->supervisor->pid;
	else
	{
		Sup->supervisor = MyProc;
		Sup->supervisor_since = now;
	}
	sup_unlock();
	if (other != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the supervisor is already running as process %d", other)));
	on_shmem_exit(leave_office, (Datum) 0);
	sup_lifecycle_init();
}

/* Does not return: SIGTERM, an error or the postmaster's death ends it. */
void
sup_supervisor_main(Datum main_arg)
{
	MemoryContext cycle;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (Sup == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("supervisor must be loaded via \"%s\"", "shared_preload_libraries")));
	sup_injection_point("supervisor-start");
	take_office();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	/*
	 * A serializable transaction can't begin on a standby, nor always at
	 * once.
	 */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	sup_no_transaction_timeout();

	/* There is no statement that could be canceled. */
	pqsignal(SIGINT, PG_SIG_IGN);

	cycle = AllocSetContextCreate(TopMemoryContext, "supervisor cycle", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cycle);
	sup_set_pools();
	sup_set_jobs();
	sup_set_declared();
	sup_set_loads();

	for (;;)
	{
		TimestampTz until;
		long		timeout = -1;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			sup_injection_point("supervisor-reload");
			sup_set_pools();
			sup_set_jobs();
			sup_set_declared();
			sup_set_loads();
		}
		if (catchupInterruptPending)
			ProcessCatchupInterrupt();

		/* Whoever needs us earlier than we are about to look wakes us. */
		sup_lock();
		Sup->next_wakeup = DT_NOEND;
		sup_unlock();

		until = supervisor_turn();
		MemoryContextReset(cycle);

		sup_lock();
		until = Min(Sup->next_wakeup, until);
		if (sup_unsettled())
			until = 0;
		Sup->next_wakeup = until;
		sup_unlock();
		if (until != DT_NOEND)
			timeout = sup_milliseconds_until(sup_now(), until);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, sup_wait_event(SUP_WAIT_MAIN));
	}
}
