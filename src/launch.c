/*-------------------------------------------------------------------------
 *
 * launch.c
 *	  Processes: starts and terminates them, by core's background worker registry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"

#include "compat.h"
#include "entries.h"
#include "launch.h"

static emit_log_hook_type next_emit_log_hook = NULL;

/* For sup_foreach_static_worker(): when those of ours are started again that are. */
static bool
set_restart_time(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	if (worker->bgw_restart_time != BGW_NEVER_RESTART &&
		strcmp(worker->bgw_function_name, SUP_WORKER_FUNCTION) == 0 &&
		strcmp(worker->bgw_library_name, "supervisor") == 0)
		worker->bgw_restart_time = *(const int *) arg;
	return true;
}

/*
 * In the postmaster, which has just logged that one of ours has ended: if with exit code
 * 1, that need not be seen.
 */
static void
note_exit(ErrorData *edata)
{
	static const int at_once = 0;

	/* In any language the code is the last number. */
	const char *end = edata->message + strlen(edata->message);

	while (end > edata->message && (end[-1] < '0' || end[-1] > '9'))
		end--;
	if (end - edata->message >= 2 && end[-1] == '1' && (end[-2] < '0' || end[-2] > '9') &&
		!message_level_is_interesting(DEBUG1))
		edata->output_to_server = false;
	sup_foreach_static_worker(set_restart_time, unconstify(int *, &at_once));
}

/*
 * In the postmaster: that a pool's worker or a loader has ended as it should is logged as
 * it is of one that ends with exit code 0.  Why one has failed is logged by the supervisor.
 *
 * What can't be forked it tries again when its restart time has come, which would be at
 * once, without a pause: so that is a second, until one has been forked and has ended.
 */
static void
note_log(ErrorData *edata)
{
	static const int later = 1;

	if (IsUnderPostmaster || edata->elevel != LOG || edata->message_id == NULL)
		 /* nothing */ ;
	else if (strcmp(edata->message_id, "%s (PID %d) exited with exit code %d") == 0)
	{
		if (strstr(edata->message, "\"" SUP_POOL_WORKER_TYPE "\"") != NULL ||
			strstr(edata->message, "\"" SUP_LOADER_TYPE "\"") != NULL)
			note_exit(edata);
	}
	else if (strstr(edata->message_id, "worker process") != NULL &&
			 (strncmp(edata->message_id, "could not fork", 14) == 0 ||
			  strncmp(edata->message_id, "no slot available", 17) == 0))
		sup_foreach_static_worker(set_restart_time, unconstify(int *, &later));
	if (edata->output_to_server && next_emit_log_hook)
		next_emit_log_hook(edata);
}

/* Whatever it dies of, the postmaster starts another one a second later. */
void
sup_register_supervisor(void)
{
	BackgroundWorker worker = {0};

	/*
	 * A connection, to no database, so that it is in pg_stat_activity, and
	 * because without it 15 ignores SIGUSR1.
	 */
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "supervisor", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, SUP_SUPERVISOR_FUNCTION, sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "supervisor", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "supervisor", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = note_log;

	/* Core only logs it if there was no room. */
	sup_registered = sup_static_worker_registered(SUP_SUPERVISOR_FUNCTION, 0, NULL);
}

/* Once: does a copy of a handle answer as the original does? */
static void
test_handles(BackgroundWorkerHandle *handle)
{
	static bool tested = false;
	SupHandle	copy;
	SupHandle	other;
	pid_t		pid;

	/* It may have failed to fork already, then this tells nothing. */
	if (tested || GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
		return;
	memcpy(&copy, handle, sizeof(copy));
	other = copy;
	other.generation++;
	if (copy.slot < 0 || copy.slot >= max_worker_processes ||
		(GetBackgroundWorkerPid((BackgroundWorkerHandle *) &copy, &pid) == BGWH_STOPPED &&
		 GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED) ||
		GetBackgroundWorkerPid((BackgroundWorkerHandle *) &other, &pid) != BGWH_STOPPED)
		elog(FATAL, "background worker handles are not laid out as expected");
	tested = true;
}

/* Sessions of all encodings see it in pg_stat_activity. */
static void
copy_as_ascii(char *dest, const char *source)
{
	strlcpy(dest, source, BGW_MAXLEN);
	for (char *c = dest; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* Register it. */
static bool
launch(BackgroundWorker *worker, SupHandle *handle)
{
	BackgroundWorkerHandle *original;

	if (!RegisterDynamicBackgroundWorker(worker, &original))
		return false;
	test_handles(original);
	memcpy(handle, original, sizeof(*handle));
	pfree(original);
	return true;
}

/*
 * Whether there is a next one is for policy.c to say: the postmaster restarts none.
 * But a pool's worker and the loader keep their places, which anybody could take that
 * are free for a moment: the postmaster starts another at once, which waits to be
 * wanted, if it ends with exit code 1 (see child.c).
 */
bool
sup_launch(const SupSlot *slot, const SupLaunch *what, SupHandle *handle)
{
	BackgroundWorker worker = {0};
	SupOrigin	origin;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = what->start_after;
	worker.bgw_restart_time = slot->restartable ? 0 : BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "supervisor", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, SUP_WORKER_FUNCTION, sizeof(worker.bgw_function_name));
	switch (slot->kind)
	{
		case SUP_KIND_POOL:
			snprintf(worker.bgw_name, BGW_MAXLEN, "supervisor pool worker: pool %s, slot %d",
					 sup_slot_name(slot), sup_slot_index(slot));
			strlcpy(worker.bgw_type, SUP_POOL_WORKER_TYPE, BGW_MAXLEN);
			break;
		case SUP_KIND_LOADER:
			strlcpy(worker.bgw_name, SUP_LOADER_TYPE, BGW_MAXLEN);
			strlcpy(worker.bgw_type, SUP_LOADER_TYPE, BGW_MAXLEN);
			break;
		default:
			worker.bgw_flags = what->flags;
			copy_as_ascii(worker.bgw_name, what->name);

			/* By that ours are known in the log: nobody else has it. */
			copy_as_ascii(worker.bgw_type, strncmp(what->type, "supervisor", 10) != 0 ? what->type :
						  psprintf("worker %s", what->type));
			break;
	}
	worker.bgw_main_arg = Int32GetDatum(sup_slot_index(slot));
	origin.incarnation = Sup->incarnation;
	origin.registered = slot->registered;
	memcpy(worker.bgw_extra, &origin, sizeof(origin));
	worker.bgw_notify_pid = MyProcPid;

	return launch(&worker, handle);
}

bool
sup_launch_herald(SupHandle *handle)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "supervisor", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, SUP_WORKER_FUNCTION, sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "supervisor herald of promotion", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "supervisor herald", BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum(-1);	/* which is no slot */
	worker.bgw_notify_pid = MyProcPid;
	return launch(&worker, handle);
}

void
sup_launch_forget(const SupHandle *handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) unconstify(SupHandle *, handle));
}

void
sup_launch_remind(void)
{
	SendPostmasterSignal(PMSIGNAL_BACKGROUND_WORKER_CHANGE);
}

/* Without a handle: is the process that has attached still there? */
BgwHandleStatus
sup_launch_status(const SupSlot *slot, int *pid)
{
	BgwHandleStatus status = BGWH_STOPPED;
	pid_t		holder;

	if (slot->has_handle)
	{
		status = GetBackgroundWorkerPid((BackgroundWorkerHandle *) &slot->handle, &holder);
		*pid = status == BGWH_STARTED ? holder : 0;
		return status;
	}

	/* A former supervisor died before it stored the handle. */
	*pid = slot->pid;
	if (*pid != 0 && GetBackgroundWorkerTypeByPid(*pid) != NULL)
		status = BGWH_STARTED;
	return status;
}

/*
 * What the postmaster terminates it does not start again.  So a worker that is to
 * have a successor is sent SIGTERM by us, and so is one without a handle: under the
 * lock, since as long as the slot has a pid it is that process's.
 */
void
sup_launch_terminate(SupSlot *slot)
{
	bool		by_handle;

	sup_lock();
	by_handle = slot->has_handle && (!slot->restartable || slot->surplus || sup_slot_proc(slot) == NULL);
	if (by_handle)
		sup_give_up_place(slot);
	else if (sup_slot_proc(slot) != NULL)
		kill(slot->pid, SIGTERM);
	sup_unlock();
	if (by_handle)
		TerminateBackgroundWorker((BackgroundWorkerHandle *) &slot->handle);
}
