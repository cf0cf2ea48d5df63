/*-------------------------------------------------------------------------
 *
 * dropped.h
 *	  The tasks that a shutdown drops.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_DROPPED_H
#define SUP_DROPPED_H

#include "state.h"

/* This process ends: is the server shut down?  Not under the lock. */
extern bool sup_server_stops(void);

/* If so, that task is dropped, unless it has ended.  The caller holds the lock. */
extern void sup_task_dropped(SupTask *task);

/* on_shmem_exit callback of the postmaster: says how many. */
extern void sup_tell_dropped(int code, Datum arg);

#endif							/* SUP_DROPPED_H */
