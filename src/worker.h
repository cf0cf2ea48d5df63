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

/* This process is ready: publish that. */
extern void sup_worker_ready(SupSlot *slot);

/* The body of a pool worker (pool.c); does not return. */
pg_noreturn extern void sup_pool_main(SupSlot *slot);

/* Entry of the supervisor (loop.c). */
#define SUP_SUPERVISOR_FUNCTION "sup_supervisor_main"

extern PGDLLEXPORT void sup_supervisor_main(Datum main_arg);

#endif							/* SUP_WORKER_H */
