/*-------------------------------------------------------------------------
 *
 * dropped.c
 *	  The tasks that a shutdown drops.
 *
 * Sessions and workers end in any order then.  Whichever ends with a task first
 * counts it, the postmaster counts what is left, and tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/pidfile.h"

#include "dropped.h"

/* Does this process end since the server is shut down? */
static bool server_stops = false;

/*
 * Only the postmaster knows that, and says it in its own file before it tells
 * anybody to end.  Not under the lock.
 */
bool
sup_server_stops(void)
{
	FILE	   *file = proc_exit_inprogress ? fopen("postmaster.pid", "r") : NULL;
	char		line[MAXPGPATH];

	if (file == NULL)
		return server_stops;
	for (int i = 1; fgets(line, sizeof(line), file) != NULL; i++)
		if (i == LOCK_FILE_LINE_PM_STATUS)
			server_stops = strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
	fclose(file);
	return server_stops;
}

/* If it has not ended.  The caller holds the lock, or is the postmaster, and alone. */
static void
count_dropped(SupTask *task)
{
	SupTaskState state = sup_task_state(task);

	if (task->dropped || (state != SUP_TASK_QUEUED && state != SUP_TASK_RUNNING))
		return;
	task->dropped = true;
	if (state == SUP_TASK_QUEUED)
		Sup->dropped_queued++;
	else
		Sup->dropped_running++;
}

/* Of this process. */
void
sup_task_dropped(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	if (server_stops)
		count_dropped(task);
}

/* on_shmem_exit callback of the postmaster: all others are gone, also after a crash. */
void
sup_tell_dropped(int code, Datum arg)
{
	int			n;

	if (getpid() != PostmasterPid)
		return;
	for (int i = 0; i < sup_max_tasks; i++)
		count_dropped(&Sup->tasks[i]);
	n = Sup->dropped_queued + Sup->dropped_running;
	if (n > 0)
		ereport(LOG,
				(errmsg_plural("%d task of supervisor that had not ended was dropped",
							   "%d tasks of supervisor that had not ended were dropped", n, n),
				 errdetail("Queued: %d, running: %d.",
						   Sup->dropped_queued, Sup->dropped_running)));
}
