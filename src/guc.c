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
char	   *sup_default_pool;
bool		sup_start_workers;
bool		sup_run_jobs;
int			sup_job_retention;
int			sup_job_failure_retention;
char	   *sup_take_over;
char	   *sup_stopped_workers;
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
 * supervisor.pools
 *
 * The parser goes on over the text, and leaves in 'complaint' what is wrong with
 * it, as a sentence.
 */

typedef struct PoolParser
{
	const char *p;
	const char *complaint;
} PoolParser;

/* Returns false, so that a function can end with this. */
static bool
complain(PoolParser *parser, const char *complaint)
{
	parser->complaint = complaint;
	return false;
}

static bool
wrong_form(PoolParser *parser)
{
	return complain(parser, "The form is \"name:size\" or \"name:size(role, role)\", and \"default(role, role)\", in a list separated by commas.");
}

/* Skips white space, and that character if it follows; did it? */
static bool
skip(PoolParser *parser, char c)
{
	while (isspace((unsigned char) *parser->p))
		parser->p++;
	if (c == '\0' || *parser->p != c)
		return false;
	parser->p++;
	return true;
}

/* A name that nothing quotes: it ends where another character has a meaning. */
static bool
parse_pool_name(PoolParser *parser, char *name)
{
	const char *start;
	Size		len;

	(void) skip(parser, '\0');
	start = parser->p;
	while (*parser->p != '\0' && strchr(":,()", *parser->p) == NULL && !isspace((unsigned char) *parser->p))
		parser->p++;
	len = parser->p - start;
	if (len == 0)
		return wrong_form(parser);
	if (len >= NAMEDATALEN)
		return complain(parser, "The name of a pool is too long.");
	memcpy(name, start, len);
	name[len] = '\0';
	return true;
}

static bool
parse_pool_size(PoolParser *parser, int *size)
{
	char	   *rest;
	long		value;

	(void) skip(parser, '\0');
	if (!isdigit((unsigned char) *parser->p))
		return complain(parser, "The size of a pool is a whole number that is not negative.");
	errno = 0;
	value = strtol(parser->p, &rest, 10);
	if (errno != 0 || value > SUP_MAX_WORKERS)
		return complain(parser, "The size of a pool is too large.");
	*size = (int) value;
	parser->p = rest;
	return true;
}

/*
 * The name of a role, as an identifier in SQL.  Only ASCII letters are folded:
 * it is the same in processes of all databases then.
 */
static bool
parse_role_name(PoolParser *parser, char *name)
{
	int			len = 0;
	bool		quoted = skip(parser, '"');

	for (;; parser->p++)
	{
		char		c = *parser->p;

		if (quoted && c == '\0')
			return complain(parser, "A quoted name of a role has no end.");
		if (quoted && c == '"')
		{
			parser->p++;
			if (*parser->p != '"')
				break;
		}
		else if (!quoted && (c == '\0' || strchr(",()\"", c) != NULL || isspace((unsigned char) c)))
			break;
		if (len == NAMEDATALEN - 1)
			return complain(parser, "The name of a role is too long.");
		name[len++] = quoted ? c : pg_ascii_tolower((unsigned char) c);
	}
	name[len] = '\0';
	return len > 0 ? true :
		complain(parser, "In the list of roles of a pool the name of a role is missing.");
}

/* What follows an opening parenthesis. */
static bool
parse_members(PoolParser *parser, SupPoolSetting *pool)
{
	pool->listed = true;
	if (skip(parser, ')'))
		return true;
	do
	{
		char		name[NAMEDATALEN];
		int			size;

		if (!parse_role_name(parser, name))
			return false;
		size = strlen(name) + 1;
		if (pool->members.len + size > SUP_MEMBERS_SIZE)
			return complain(parser, psprintf("The list of roles of pool \"%s\" is too long: with a byte after each name it has room for %d. List a role that others are members of.",
											 pool->name, SUP_MEMBERS_SIZE));
		memcpy(pool->members.names + pool->members.len, name, size);
		pool->members.len += size;
	} while (skip(parser, ','));
	if (!skip(parser, ')'))
		return complain(parser, psprintf("The list of roles of pool \"%s\" is not closed: names are separated by commas, and a parenthesis ends it.",
										 pool->name));
	return true;
}

/* One pool, with its size unless it is 'default', which must have a list. */
static bool
parse_pool(PoolParser *parser, SupPoolSetting *pool)
{
	bool		is_default;

	if (!parse_pool_name(parser, pool->name))
		return false;
	is_default = strcmp(pool->name, SUP_DEFAULT_POOL) == 0;
	if (skip(parser, ':'))
	{
		if (is_default)
			return complain(parser, "The size of pool \"default\" is set by \"supervisor.pool_size\".");
		if (!parse_pool_size(parser, &pool->size))
			return false;
	}
	else if (!is_default)
		return wrong_form(parser);
	if (skip(parser, '('))
		return parse_members(parser, pool);
	return is_default ? wrong_form(parser) : true;
}

/*
 * Parse supervisor.pools into 'pools', of room for SUP_MAX_POOLS, of which the
 * first is 'default' and stays so.  Returns the number of pools, or -1 with a
 * complaint.
 */
static int
parse_pools(const char *value, SupPoolSetting *pools, const char **complaint)
{
	PoolParser	parser = {value, NULL};
	SupPoolSetting *pool = palloc(sizeof(SupPoolSetting));
	int			n = 1;

	(void) skip(&parser, '\0');
	if (*parser.p == '\0')
		return n;
	do
	{
		bool		is_default;

		memset(pool, 0, sizeof(SupPoolSetting));
		if (!parse_pool(&parser, pool))
			break;
		is_default = strcmp(pool->name, SUP_DEFAULT_POOL) == 0;
		if (!is_default && n == SUP_MAX_POOLS)
		{
			parser.complaint = "There are too many pools.";
			break;
		}
		for (int i = 0; i < n; i++)
			if (strcmp(pools[i].name, pool->name) == 0 && (i > 0 || pools[0].listed))
				parser.complaint = "The name of a pool is given twice.";
		if (is_default)
			pool->size = pools[0].size;
		pools[is_default ? 0 : n++] = *pool;
	} while (parser.complaint == NULL && skip(&parser, ','));
	if (parser.complaint == NULL && *parser.p != '\0')
		(void) wrong_form(&parser);
	pfree(pool);
	*complaint = parser.complaint;
	return parser.complaint == NULL ? n : -1;
}

/* What supervisor.pools says, palloc'd, or NULL with a complaint. */
static SupPoolSetting *
pool_settings(const char *value, int *count, const char **complaint)
{
	SupPoolSetting *pools = palloc(sizeof(SupPoolSetting) * SUP_MAX_POOLS);

	memset(&pools[0], 0, sizeof(SupPoolSetting));
	strlcpy(pools[0].name, SUP_DEFAULT_POOL, NAMEDATALEN);
	pools[0].size = sup_pool_size;
	*count = parse_pools(value, pools, complaint);
	if (*count >= 0)
		return pools;
	pfree(pools);
	return NULL;
}

/* Check hook: what is wrong becomes the detail of core's message. */
static bool
check_pools(char **newval, void **extra, GucSource source)
{
	const char *complaint;
	int			n;
	SupPoolSetting *pools = pool_settings(*newval, &n, &complaint);

	if (pools == NULL)
	{
		GUC_check_errdetail("%s", complaint);
		return false;
	}
	pfree(pools);
	return true;
}

/* Check hook: a name that a pool can have.  It need not be there yet. */
static bool
check_default_pool(char **newval, void **extra, GucSource source)
{
	PoolParser	parser = {*newval, NULL};
	char		name[NAMEDATALEN];

	if (parse_pool_name(&parser, name) && strcmp(name, *newval) == 0)
		return true;
	GUC_check_errdetail("The name of a pool is up to %d bytes other than white space, colon, comma and parentheses.",
						NAMEDATALEN - 1);
	return false;
}

/* Reads supervisor.pools again each time; a size may be 0. */
SupPoolSetting *
sup_pool_settings(int *count)
{
	const char *complaint;
	SupPoolSetting *pools = pool_settings(sup_pools, count, &complaint);

	Assert(pools != NULL);		/* the check hook saw it */
	return pools;
}

/* Reads them all, for an error that is raised then. */
bool
sup_pool_listed(const char *name)
{
	int			n;
	SupPoolSetting *pools = sup_pool_settings(&n);
	bool		found = false;

	for (int i = 0; i < n; i++)
		found |= strcmp(pools[i].name, name) == 0;
	pfree(pools);
	return found;
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

/*
 * Lists of names of libraries or workers, which may have any characters in double
 * quotes, and any but commas without.
 */

static bool
parse_listed(PoolParser *parser, char *name)
{
	int			len = 0;
	bool		quoted = skip(parser, '"');

	for (;; parser->p++)
	{
		char		c = *parser->p;

		if (quoted && c == '\0')
			return complain(parser, "A quoted name has no end.");
		if (quoted && c == '"')
		{
			parser->p++;
			if (*parser->p != '"')
				break;
		}
		else if (!quoted && (c == '\0' || c == ','))
			break;
		if (len == MAXPGPATH - 1)
			return complain(parser, "A name is too long.");
		name[len++] = c;
	}
	while (!quoted && len > 0 && isspace((unsigned char) name[len - 1]))
		len--;
	name[len] = '\0';
	return len > 0 ? true : complain(parser, "A name is missing.");
}

/* Check hook: such a list. */
static bool
check_list(char **newval, void **extra, GucSource source)
{
	PoolParser	parser = {*newval, NULL};
	char		name[MAXPGPATH];

	(void) skip(&parser, '\0');
	if (*parser.p == '\0')
		return true;
	while (parse_listed(&parser, name) && skip(&parser, ','))
		;
	if (parser.complaint == NULL && *parser.p != '\0')
		(void) complain(&parser, "Names are separated by commas.");
	if (parser.complaint != NULL)
		GUC_check_errdetail("%s", parser.complaint);
	return parser.complaint == NULL;
}

/* Allocates nothing. */
bool
sup_next_listed(const char **list, char *name)
{
	PoolParser	parser = {*list, NULL};
	bool		found;

	(void) skip(&parser, '\0');
	found = *parser.p != '\0' && parse_listed(&parser, name);
	(void) skip(&parser, ',');
	*list = parser.p;
	return found;
}

bool
sup_worker_stopped(const char *name)
{
	const char *list = sup_stopped_workers;
	char		listed[MAXPGPATH];

	while (sup_next_listed(&list, listed))
		if (strcmp(listed, name) == 0)
			return true;
	return false;
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

/* And keep others from defining more of that prefix.  Long, as it is one call for each. */
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
							   "Lists further pools, as \"name:size, name:size(role, role)\".",
							   "Only members of the listed roles may use a pool that has a list; that of the pool \"default\" is \"default(role, role)\".",
							   &sup_pools, "",
							   PGC_SIGHUP, 0, check_pools, NULL, NULL);
	DefineCustomStringVariable("supervisor.default_pool",
							   "Sets the pool of tasks for which the call names none.",
							   NULL,
							   &sup_default_pool, SUP_DEFAULT_POOL,
							   PGC_USERSET, 0, check_default_pool, NULL, NULL);
	DefineCustomBoolVariable("supervisor.start_workers",
							 "Runs declared workers.",
							 "If off, none runs; pools do.",
							 &sup_start_workers, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("supervisor.run_jobs",
							 "Runs jobs.",
							 "If off, none begins; those that run go on.",
							 &sup_run_jobs, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.job_retention",
							"Time for which runs of jobs that were to run once, and have succeeded, are kept.",
							"0 is no limit.",
							&sup_job_retention, 24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("supervisor.job_failure_retention",
							"Time for which all other runs of jobs are kept.",
							"0 is no limit.",
							&sup_job_failure_retention, 7 * 24 * 60 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("supervisor.take_over",
							   "Lists the preloaded libraries whose own background workers are supervised.",
							   "An asterisk stands for all.",
							   &sup_take_over, "",
							   PGC_POSTMASTER, GUC_LIST_INPUT, check_list, NULL, NULL);
	DefineCustomStringVariable("supervisor.stopped_workers",
							   "Lists workers of preloaded libraries that do not run.",
							   NULL,
							   &sup_stopped_workers, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_list, NULL, NULL);
	DefineCustomStringVariable("supervisor.databases",
							   "Lists the databases whose declared workers run.",
							   "An asterisk stands for all.",
							   &sup_databases, "*",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomIntVariable("supervisor.max_tasks",
							"Sets the number of tasks at once.",
							"Queued, running, and launched ones until they are read or forgotten. A non-superuser role holds at most half.",
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
