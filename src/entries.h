/*-------------------------------------------------------------------------
 *
 * entries.h
 *	  Where the processes of supervisor begin.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_ENTRIES_H
#define SUP_ENTRIES_H

#include "state.h"

#define SUP_WORKER_FUNCTION "sup_worker_main"
#define SUP_POOL_WORKER_TYPE "supervisor pool worker"
#define SUP_LOADER_TYPE "supervisor loader"

extern PGDLLEXPORT void sup_worker_main(Datum main_arg);

/* The same for one that the postmaster has started before the supervisor. */
extern PGDLLEXPORT void sup_static_main(Datum main_arg);

/* Bodies, which do not return: of a pool worker (pool_worker.c), ... */
pg_noreturn extern void sup_pool_main(SupSlot *slot);

/* ... of a worker that runs a declared command (command_worker.c), ... */
pg_noreturn extern void sup_command_main(SupSlot *slot, const char *name, const SupProgram *program);

/* ... and of one that reads declarations (loader_worker.c). */
pg_noreturn extern void sup_loader_main(SupSlot *slot);

/* Entry of the supervisor (loop.c). */
#define SUP_SUPERVISOR_FUNCTION "sup_supervisor_main"

extern PGDLLEXPORT void sup_supervisor_main(Datum main_arg);

#endif							/* SUP_ENTRIES_H */
