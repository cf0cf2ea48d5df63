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

/* More pools than anybody names; each costs half a kilobyte of shared memory. */
#define SUP_MAX_POOLS	64
#define SUP_MAX_WORKERS 1024

#define SUP_DEFAULT_POOL "default"

extern int	sup_max_workers;
extern int	sup_pool_size;
extern char *sup_pools;
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

/* One entry of supervisor.pools. */
typedef struct SupPoolSetting
{
	char		name[NAMEDATALEN];
	int			size;
} SupPoolSetting;

/* Define the settings; only while shared_preload_libraries are loaded. */
extern void sup_define_settings(void);

/* All pools of the settings, 'default' first, palloc'd. */
extern SupPoolSetting *sup_pool_settings(int *count);

/* The policy of a pool slot. */
extern SupPolicy sup_pool_policy(void);

#endif							/* SUP_GUC_H */
