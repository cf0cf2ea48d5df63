/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings: supervisor.*
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "guc.h"

int			sup_max_workers;
int			sup_pool_size;
char	   *sup_pools;
bool		sup_start_workers;
char	   *sup_databases;
int			sup_max_tasks;
int			sup_shared_memory;
int			sup_result_memory;
int			sup_result_retention;
int			sup_spin_time;
int			sup_task_timeout;
int			sup_idle_timeout;
int			sup_worker_lifetime;
int			sup_start_timeout;
int			sup_stop_timeout;

static int	restart_delay;
static int	restart_delay_max;
static int	max_restarts;
static int	restart_window;

/*
 * Parse "name:size, name:size" into 'pools', of room for SUP_MAX_POOLS - 1.
 * Returns the number of pools, or -1 with a message in *complaint.
 */
static int
parse_pools(const char *value, SupPoolSetting *pools, const char **complaint)
{
	const char *p = value;
	int			n = 0;

	while (isspace((unsigned char) *p))
		p++;
	if (*p == '\0')
		return 0;

	for (;;)
	{
		const char *start;
		const char *end;
		char	   *rest;
		long		size;

		while (isspace((unsigned char) *p))
			p++;
		start = p;
		while (*p != '\0' && *p != ':' && *p != ',' && !isspace((unsigned char) *p))
			p++;
		end = p;
		while (isspace((unsigned char) *p))
			p++;
		if (end == start || *p != ':')
		{
			*complaint = "The form is a list of \"name:size\", separated by commas.";
			return -1;
		}
		if (end - start >= NAMEDATALEN)
		{
			*complaint = "The name of a pool is too long.";
			return -1;
		}
		if (n == SUP_MAX_POOLS - 1)
		{
			*complaint = "There are too many pools.";
			return -1;
		}
		memcpy(pools[n].name, start, end - start);
		pools[n].name[end - start] = '\0';
		if (strcmp(pools[n].name, SUP_DEFAULT_POOL) == 0)
		{
			*complaint = "The size of pool \"default\" is set by \"supervisor.pool_size\".";
			return -1;
		}
		for (int i = 0; i < n; i++)
			if (strcmp(pools[i].name, pools[n].name) == 0)
			{
				*complaint = "The name of a pool is given twice.";
				return -1;
			}

		p++;
		while (isspace((unsigned char) *p))
			p++;
		if (!isdigit((unsigned char) *p))
		{
			*complaint = "The size of a pool is a whole number that is not negative.";
			return -1;
		}
		errno = 0;
		size = strtol(p, &rest, 10);
		if (errno != 0 || size > SUP_MAX_WORKERS)
		{
			*complaint = "The size of a pool is too large.";
			return -1;
		}
		pools[n++].size = (int) size;
		p = rest;
		while (isspace((unsigned char) *p))
			p++;
		if (*p == '\0')
			return n;
		if (*p++ != ',')
		{
			*complaint = "The form is a list of \"name:size\", separated by commas.";
			return -1;
		}
	}
}

/* Check hook: what is wrong becomes the detail of core's message. */
static bool
check_pools(char **newval, void **extra, GucSource source)
{
	SupPoolSetting pools[SUP_MAX_POOLS];
	const char *complaint;

	if (parse_pools(*newval, pools, &complaint) < 0)
	{
		GUC_check_errdetail("%s", complaint);
		return false;
	}
	return true;
}

/* Reads supervisor.pools again each time; a size may be 0. */
SupPoolSetting *
sup_pool_settings(int *count)
{
	SupPoolSetting *pools = palloc(sizeof(SupPoolSetting) * SUP_MAX_POOLS);
	const char *complaint;
	int			n;

	strlcpy(pools[0].name, SUP_DEFAULT_POOL, NAMEDATALEN);
	pools[0].size = sup_pool_size;
	n = parse_pools(sup_pools, pools + 1, &complaint);
	Assert(n >= 0);				/* the check hook saw it */
	*count = n + 1;
	return pools;
}

/* Check hook: a list of identifiers, of which one may be an asterisk. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitIdentifierString(copy, ',', &names);

	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	list_free(names);
	pfree(copy);
	return ok;
}

/* Reads supervisor.databases again each time: it is not asked often. */
bool
sup_database_listed(const char *name)
{
	char	   *copy = pstrdup(sup_databases);
	List	   *names;
	ListCell   *lc;
	bool		found = false;

	(void) SplitIdentifierString(copy, ',', &names);	/* as checked */
	foreach(lc, names)
	{
		const char *listed = lfirst(lc);

		found |= strcmp(listed, "*") == 0 || strcmp(listed, name) == 0;
	}
	list_free(names);
	pfree(copy);
	return found;
}

/* In microseconds.  restart_delay_max is at least restart_delay. */
SupPolicy
sup_default_policy(void)
{
	SupPolicy	policy = {0};

	policy.restart = SUP_RESTART_ALWAYS;
	policy.restart_delay = restart_delay * INT64CONST(1000);
	policy.restart_delay_max = Max(restart_delay, restart_delay_max) * INT64CONST(1000);
	policy.max_restarts = max_restarts;
	policy.restart_window = restart_window * INT64CONST(1000);
	return policy;
}

/* And keep others from defining more of that prefix. */
void
sup_define_settings(void)
{
	DefineCustomIntVariable("supervisor.max_workers",
							"Sets the number of slots for supervised workers.",
							"Pool workers and declared workers together.",
							&sup_max_workers, 32, 1, SUP_MAX_WORKERS,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.pool_size",
							"Sets the number of workers in the pool \"default\".",
							NULL,
							&sup_pool_size, 2, 0, SUP_MAX_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("supervisor.pools",
							   "Lists further pools, as \"name:size, name:size\".",
							   NULL,
							   &sup_pools, "",
							   PGC_SIGHUP, 0, check_pools, NULL, NULL);
	DefineCustomBoolVariable("supervisor.start_workers",
							 "Runs declared workers.",
							 "If off, none runs; pools do.",
							 &sup_start_workers, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("supervisor.databases",
							   "Lists the databases whose declared workers run.",
							   "An asterisk stands for all.",
							   &sup_databases, "*",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomIntVariable("supervisor.max_tasks",
							"Sets the number of tasks at once.",
							"Queued, running, and launched ones until they are read or forgotten. A role that is no superuser holds at most half.",
							&sup_max_tasks, 1024, 8, 65536,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.shared_memory",
							"Sets the shared memory for commands and results of tasks.",
							NULL,
							&sup_shared_memory, 65536, 1024, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.result_memory",
							"Sets how many bytes of its result a task may hold unread.",
							NULL,
							&sup_result_memory, 1024, 64, MAX_KILOBYTES,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.result_retention",
							"Sets how long a finished task waits to be read.",
							"Zero keeps it until its session ends.",
							&sup_result_retention, 3600 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.spin_time",
							"Sets the longest time in microseconds that a process spins before it sleeps.",
							"Only just after activity, and only while processors are free. Zero never spins.",
							&sup_spin_time, 50, 0, 10000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.task_timeout",
							"Sets the longest time that a task may run.",
							"Zero turns this off.",
							&sup_task_timeout, 0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.idle_timeout",
							"Sets how long a bound pool worker may be idle before it is recycled.",
							"Zero turns this off.",
							&sup_idle_timeout, 5 * 60 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.worker_lifetime",
							"Sets how old a bound pool worker may be before it is recycled.",
							"Zero turns this off.",
							&sup_worker_lifetime, 3600 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.restart_delay",
							"Sets the delay before a worker that failed is started again.",
							"It doubles with each failure in a row.",
							&restart_delay, 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.restart_delay_max",
							"Sets the longest delay before a worker that failed is started again.",
							NULL,
							&restart_delay_max, 60 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.max_restarts",
							"Sets the number of failures within \"supervisor.restart_window\" after which a worker is given up.",
							"A pool worker is never given up.",
							&max_restarts, 10, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.restart_window",
							"Sets the time in which failures are counted.",
							"Zero turns giving up off.",
							&restart_window, 10 * 60 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.start_timeout",
							"Sets how long a worker may take to start.",
							"Zero turns this off.",
							&sup_start_timeout, 30 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.stop_timeout",
							"Sets how long a worker may take to stop before it is reported as stuck.",
							"Zero turns this off.",
							&sup_stop_timeout, 30 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	MarkGUCPrefixReserved("supervisor");
}
