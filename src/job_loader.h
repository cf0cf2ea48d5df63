/*-------------------------------------------------------------------------
 *
 * job_loader.h
 *	  What the loader does for the jobs of a database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOB_LOADER_H
#define SUP_JOB_LOADER_H

/*
 * Note what has come of runs whose worker could not, and have it known in shared memory
 * who has jobs in the current database.
 */
extern void sup_load_jobs(void);

#endif							/* SUP_JOB_LOADER_H */
