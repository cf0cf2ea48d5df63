/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  A child of the supervisor: its entry, and its report at the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_WORKER_H
#define SUP_WORKER_H

#include "state.h"

#define SUP_WORKER_FUNCTION "sup_worker_main"
#define SUP_POOL_WORKER_TYPE "supervisor pool worker"

extern PGDLLEXPORT void sup_worker_main(Datum main_arg);

/* The same for one that the postmaster has started before the supervisor. */
extern PGDLLEXPORT void sup_static_main(Datum main_arg);

/* This process is ready: publish that. */
extern void sup_worker_ready(SupSlot *slot);

/*
 * What comes up in every loop of a worker that has nothing to do: interrupts,
 * but cancels, and reloads.
 */
extern void sup_worker_interrupts(void);

/*
 * Connect to the database of this slot, which has been written there before,
 * as its role, like a client's session: with what core does for those only.
 */
extern void sup_worker_connect(SupSlot *slot, uint32 flags, const char *application_name);

/* Bodies, which do not return: of a pool worker (pool.c), ... */
pg_noreturn extern void sup_pool_main(SupSlot *slot);

/* ... of a worker that runs a declared command (command.c), ... */
pg_noreturn extern void sup_command_main(SupSlot *slot, const char *name, const SupProgram *program);

/* ... and of one that reads declarations (loader.c). */
pg_noreturn extern void sup_loader_main(SupSlot *slot);

/* Entry of the supervisor (loop.c). */
#define SUP_SUPERVISOR_FUNCTION "sup_supervisor_main"

extern PGDLLEXPORT void sup_supervisor_main(Datum main_arg);

#endif							/* SUP_WORKER_H */
