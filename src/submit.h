/*-------------------------------------------------------------------------
 *
 * submit.h
 *	  A session submits tasks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SUBMIT_H
#define SUP_SUBMIT_H

#include "compat.h"
#include "lib/stringinfo.h"

#include "task.h"

/*
 * Append a command as a worker wants it.  'columns' and 'params' may be
 * NULL; settings are those of sup_settings_collect().
 */
extern void sup_task_pack(StringInfo buf, const char *command, TupleDesc columns,
						  int nparams, char **params, int nsettings, StringInfo settings);

/* Raises an error if this session, as it is now, may not submit. */
extern void sup_task_check_submitter(SupTaskKind kind);

/* Raise 42704: the settings have no such pool, or there is no place for it yet. */
pg_noreturn extern void sup_refuse_missing_pool(const char *name);

/* What there is no room for. */
typedef enum SupLack
{
	SUP_LACK_NOTHING,
	SUP_LACK_TASKS,				/* all are taken */
	SUP_LACK_TASKS_OF_ROLE,		/* those that its role may have are */
	SUP_LACK_MEMORY,			/* the area is used up */
	SUP_LACK_MEMORY_OF_ROLE		/* its role's half of it is */
} SupLack;

static inline bool
sup_lacks_memory(SupLack lack)
{
	return lack == SUP_LACK_MEMORY || lack == SUP_LACK_MEMORY_OF_ROLE;
}

/* Where tasks go, and how. */
typedef struct SupSubmission
{
	const char *pool;
	SupTaskKind kind;
	bool		concurrently;	/* as SupTask.concurrently */
	TimestampTz deadline;		/* when it is canceled, if nobody waits for
								 * it; 0: never */
} SupSubmission;

/*
 * Submit up to n packed commands; returns how many had room, and where that is
 * none, what is lacking.  Errors: no such pool (42704), one that the role may not
 * use (42501), one of size 0 (55000), no supervisor (55000), no worker (53000).
 */
extern int	sup_task_submit(const SupSubmission *submission, int n, const StringInfoData *inputs,
							SupTaskRef *refs, SupLack *lack);

/* Raise 53400 or 53200. */
pg_noreturn extern void sup_refuse_task(SupLack lack);

#endif							/* SUP_SUBMIT_H */
