/*-------------------------------------------------------------------------
 *
 * launch.h
 *	  Processes: starts and terminates them, by core's background worker registry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_LAUNCH_H
#define SUP_LAUNCH_H

#include "state.h"

/* In _PG_init: the supervisor itself. */
extern void sup_register_supervisor(void);

/* What the postmaster is told of a process. */
typedef struct SupLaunch
{
	/* Of a declared worker; other kinds have their own. */
	char		name[BGW_MAXLEN];
	char		type[BGW_MAXLEN];
	int			flags;

	/* Of any kind. */
	BgWorkerStartTime start_after;
} SupLaunch;

/*
 * Register the process of a slot; false if the server has no background
 * worker slot for it.  Only the supervisor calls this, and the next ones.
 */
extern bool sup_launch(const SupSlot *slot, const SupLaunch *launch, SupHandle *handle);

extern BgwHandleStatus sup_launch_status(const SupSlot *slot);

/* Ask the postmaster to terminate the process, or forget it if not started. */
extern void sup_launch_terminate(SupSlot *slot);

#endif							/* SUP_LAUNCH_H */
