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
 * What a process knows of its registration, which it may not be the first of, nor
 * in this life of shared memory.
 */
typedef struct SupOrigin
{
	uint64		incarnation;
	uint64		registered;		/* SupSlot.registered */
} SupOrigin;

/*
 * Register the process of a slot; false if the server has no background
 * worker slot for it.  Only the supervisor calls this, and the next ones.
 */
extern bool sup_launch(const SupSlot *slot, const SupLaunch *what, SupHandle *handle);

/*
 * Register a process that starts when recovery has finished, and does nothing: the
 * postmaster tells this process of that.  False: as above.
 */
extern bool sup_launch_herald(SupHandle *handle);

/* Have the postmaster forget it. */
extern void sup_launch_forget(const SupHandle *handle);

/*
 * Have the postmaster look at once for what it is to start: up to 15, it may have gone
 * to sleep when it saw that a process had ended.
 */
extern void sup_launch_remind(void);

/* Of the process that holds its place, which may be the next one's by now. */
extern BgwHandleStatus sup_launch_status(const SupSlot *slot, int *pid);

/*
 * Terminate the process, or have the postmaster forget it if it has not started.
 * Takes the lock.
 */
extern void sup_launch_terminate(SupSlot *slot);

#endif							/* SUP_LAUNCH_H */
