/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  A child of the supervisor: its entry, and its report at the end.
 *
 * A child learns all it needs from its slot.  It reports its own end there:
 * a process that ends without running its exit callbacks takes the whole
 * cluster through a crash restart, so the report can be relied upon.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "compat.h"
#include "exec.h"
#include "task.h"
#include "worker.h"

static uint64 my_generation;
static emit_log_hook_type next_emit_log_hook = NULL;

/* The last error of this process that went, or would have gone, to the log. */
static int	last_sqlstate = 0;
static char last_error[SUP_MESSAGE] = "";

/*
 * Keep the error that may be this process's last.  And leave to the reader of
 * a task's errors and notices to log them: it raises them again.
 */
static void
note_log(ErrorData *edata)
{
	if (edata->elevel >= ERROR && edata->message)
	{
		last_sqlstate = edata->sqlerrcode;
		strlcpy(last_error, edata->message, sizeof(last_error));
	}
	if (edata->output_to_client && edata->elevel < FATAL && sup_out_has_reader())
		edata->output_to_server = false;
	if (edata->output_to_server && next_emit_log_hook)
		next_emit_log_hook(edata);
}

/*
 * The end of this process.  Runs after it has left the ProcArray, where it
 * would be in the way of DROP DATABASE, and before its PGPROC goes.
 */
static void
report_exit(int code, Datum arg)
{
	SupSlot    *slot = (SupSlot *) DatumGetPointer(arg);
	TimestampTz now = GetCurrentTimestamp();

	sup_lock();
	if (slot->generation == my_generation)
	{
		int			pool = slot->pool;

		slot->last_exit_at = slot->exited_at = now;
		slot->last_exit_code = slot->exit_code = code;
		slot->last_sqlstate = code != 0 ? last_sqlstate : 0;
		strlcpy(slot->last_error, code != 0 ? last_error : "", SUP_MESSAGE);
		slot->last_role = slot->role;
		slot->exit_of_role = slot->begun || slot->binding >= 0;
		if (pg_atomic_read_u32(&slot->task) != 0)
			sup_task_worker_died(slot, last_sqlstate, last_error);
		sup_slot_unbind(slot);
		slot->exited = true;
		slot->leaving = true;
		slot->exited_pid = slot->pid;
		slot->pid = 0;
		slot->proc = NULL;
		slot->database = slot->role = InvalidOid;
		sup_wake_supervisor();
		sup_dispatch(pool, now);
	}
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
}

void
sup_worker_main(Datum main_arg)
{
	int			index = DatumGetInt32(main_arg);
	SupSlot    *slot;
	bool		mine;

	if (Sup == NULL || index < 0 || index >= sup_max_workers)
		proc_exit(0);
	slot = &Sup->slots[index];
	memcpy(&my_generation, MyBgworkerEntry->bgw_extra, sizeof(my_generation));

	(void) sup_area();			/* so that the report may still use it */

	sup_lock();
	mine = slot->generation == my_generation && slot->state == SUP_STARTING && !slot->attached;
	if (mine)
	{
		slot->attached = true;
		slot->attached_at = GetCurrentTimestamp();
		slot->pid = MyProcPid;
		slot->proc = MyProc;
	}
	sup_unlock();

	/* Too late: the slot has moved on.  Nobody wants to hear of it. */
	if (!mine)
		proc_exit(0);

	on_shmem_exit(report_exit, PointerGetDatum(slot));

	/* Its first block, which it keeps, is large enough for a short command. */
	MessageContext = AllocSetContextCreate(TopMemoryContext, "MessageContext",
										   ALLOCSET_DEFAULT_MINSIZE, 32 * 1024,
										   ALLOCSET_DEFAULT_MAXSIZE);
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = note_log;
	sup_redirect_messages();

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	sup_pool_main(slot);
}

void
sup_worker_ready(SupSlot *slot)
{
	sup_lock();
	slot->ready = true;
	slot->ready_at = GetCurrentTimestamp();
	slot->cpu = sup_current_cpu();
	sup_slot_unbound(slot);
	sup_wake_supervisor();
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
}
