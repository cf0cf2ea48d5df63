/*-------------------------------------------------------------------------
 *
 * job_worker.h
 *	  A pool worker takes jobs, one after another, and runs them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOB_WORKER_H
#define SUP_JOB_WORKER_H

#include "state.h"

/* Run a drain, and end it; returns the worker's next task, as sup_task_finish(). */
extern SupTask *sup_run_drain(SupSlot *slot, SupTask *task);

#endif							/* SUP_JOB_WORKER_H */
