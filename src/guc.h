/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  The settings: supervisor.*
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_GUC_H
#define SUP_GUC_H

#include "nodes/pg_list.h"

#include "policy.h"

/*
 * More pools than anybody names; each costs some three kilobytes of shared
 * memory.
 */
#define SUP_MAX_POOLS	64
#define SUP_MAX_WORKERS 1024

#define SUP_DEFAULT_POOL "default"

extern int	sup_max_workers;
extern int	sup_pool_size;
extern char *sup_pools;
extern char *sup_default_pool;
extern bool sup_start_workers;
extern bool sup_run_jobs;
extern int	sup_job_retention;	/* s; 0 is off */
extern int	sup_job_failure_retention;
extern char *sup_take_over;
extern char *sup_stopped_workers;
extern char *sup_databases;
extern int	sup_max_tasks;
extern int	sup_shared_memory;	/* kB */
extern int	sup_result_memory;	/* kB */
extern int	sup_result_retention;	/* ms, as all times below; 0 is off */
extern int	sup_spin_time;		/* microseconds */
extern int	sup_task_timeout;
extern int	sup_idle_timeout;
extern int	sup_worker_lifetime;
extern int	sup_start_timeout;
extern int	sup_stop_timeout;

/* Roles whose members may use a pool. */
#define SUP_MEMBERS_SIZE	2048

typedef struct SupMembers
{
	int			len;
	char		names[SUP_MEMBERS_SIZE];	/* each with its NUL; 'len' bytes */
} SupMembers;

/* One entry of supervisor.pools, or the pool 'default'. */
typedef struct SupPoolSetting
{
	char		name[NAMEDATALEN];
	int			size;
	bool		listed;			/* else whoever has EXECUTE may use it */
	SupMembers	members;
} SupPoolSetting;

/* After the entries of tasks come those of drains, one for each worker. */
static inline int
sup_ntasks(void)
{
	return sup_max_tasks + sup_max_workers;
}

/* Define the settings; only while shared_preload_libraries are loaded. */
extern void sup_define_settings(void);

/* All pools of the settings, 'default' first, palloc'd. */
extern SupPoolSetting *sup_pool_settings(int *count);

/* Is there a pool of that name in them? */
extern bool sup_pool_listed(const char *name);

/* The policy that the settings say. */
extern SupPolicy sup_default_policy(void);

/* Shall the declared workers of the database with that name run? */
extern bool sup_database_listed(const char *name);

/*
 * Of a list of names as in supervisor.take_over: the next one, of up to MAXPGPATH
 * bytes; false: there is none.  '*list' begins with the text, and goes on.
 */
extern bool sup_next_listed(const char **list, char *name);

/* Is a worker of that name, of a preloaded library, in supervisor.stopped_workers? */
extern bool sup_worker_stopped(const char *name);

#endif							/* SUP_GUC_H */
