/*-------------------------------------------------------------------------
 *
 * drain.h
 *	  Drains: tasks that take due jobs of one queue, one after another.
 *
 * A drain is queued, matched and fair like any other task, but nobody submits it,
 * waits for it, sees it or can cancel it.  It has an entry of its own behind those
 * of tasks, no id, and counts for nobody.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_DRAIN_H
#define SUP_DRAIN_H

#include "queue.h"

/*
 * All but those that say so: the caller holds the lock.
 *
 * Have a drain of the queue queued, if a job may be due and none is queued yet,
 * and if its pool is there; or once one is due.
 */
extern void sup_drain_offer(SupJobQueue *queue);

/*
 * What has kept drains of that role, or in that database, from working may be no more
 * so; 0 is any.  Takes the lock, time and again.
 */
extern void sup_drains_retry(Oid role, Oid database);

/* Queues that wait for a drain get one, if there is one to be had. */
extern void sup_drains_serve(void);

/* A job is known to crash the server, and runs no more.  Takes the lock. */
extern void sup_drains_convicted(void);

/* The worker begins with it. */
extern void sup_drain_begin(SupSlot *slot, SupTask *task);

/*
 * The worker has ended it, and takes its next task, as with sup_task_finish().
 * What is left is for another drain.
 */
extern SupTask *sup_drain_finish(SupSlot *slot, SupTask *task);

/* One that is queued is not served. */
extern void sup_drain_drop(SupTask *task);

/* Those that may not be served now, as their pool is not there.  Takes the lock, time and again. */
extern void sup_drains_drop(void);

/* That database is no more, and all that is known of its jobs. */
extern void sup_drains_forget(Oid database);

/* The worker is gone: so is its claim, and its task, whichever it was. */
extern void sup_worker_died(SupSlot *slot, int sqlstate, const char *message);

/* The queue of which this process looks at the table; NULL. */
extern SupJobQueue *sup_looks_at;

#endif							/* SUP_DRAIN_H */
