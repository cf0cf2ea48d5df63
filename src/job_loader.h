/*-------------------------------------------------------------------------
 *
 * job_loader.h
 *	  What the loader does for the jobs of a database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOB_LOADER_H
#define SUP_JOB_LOADER_H

/* Have it known in shared memory who has jobs in the current database, and run them. */
extern void sup_load_jobs(void);

#endif							/* SUP_JOB_LOADER_H */
