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
#include "utils/memutils.h"

#include "compat.h"
#include "entries.h"
#include "launch.h"

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

/*
 * The postmaster never restarts it: that is for policy.c to say.  The
 * process knows its slot by the argument, and its generation by bgw_extra.
 */
bool
sup_launch(const SupSlot *slot, const SupLaunch *launch, SupHandle *handle)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *original;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = launch->start_after;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
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
			strlcpy(worker.bgw_name, "supervisor loader", BGW_MAXLEN);
			strlcpy(worker.bgw_type, "supervisor loader", BGW_MAXLEN);
			break;
		default:
			worker.bgw_flags = launch->flags;
			copy_as_ascii(worker.bgw_name, launch->name);
			copy_as_ascii(worker.bgw_type, launch->type);
			break;
	}
	worker.bgw_main_arg = Int32GetDatum(sup_slot_index(slot));
	memcpy(worker.bgw_extra, &slot->generation, sizeof(slot->generation));
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &original))
		return false;
	test_handles(original);
	memcpy(handle, original, sizeof(*handle));
	pfree(original);
	return true;
}

/* Without a handle: is the process that has attached still there? */
BgwHandleStatus
sup_launch_status(const SupSlot *slot)
{
	pid_t		pid;

	if (slot->has_handle)
		return GetBackgroundWorkerPid((BackgroundWorkerHandle *) &slot->handle, &pid);

	/* A former supervisor died before it stored the handle. */
	pid = slot->pid;
	if (pid != 0 && GetBackgroundWorkerTypeByPid(pid) != NULL)
		return BGWH_STARTED;
	return BGWH_STOPPED;
}

/*
 * Without a handle it sends SIGTERM itself, under the lock: as long as the
 * slot has a pid, it is that process's.
 */
void
sup_launch_terminate(SupSlot *slot)
{
	if (slot->has_handle)
		TerminateBackgroundWorker((BackgroundWorkerHandle *) &slot->handle);
	else
	{
		sup_lock();
		if (sup_slot_proc(slot) != NULL)
			kill(slot->pid, SIGTERM);
		sup_unlock();
	}
}
