/*-------------------------------------------------------------------------
 *
 * jobkey.h
 *	  Jobs of one key, which are run one at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOBKEY_H
#define SUP_JOBKEY_H

#include "jobtable.h"

/* So many are done as one. */
#define SUP_MAX_MERGED	1000

/* A job that may be run once its key is free. */
typedef struct SupKeyJob
{
	char		pool[NAMEDATALEN];
	SupCandidate job;
} SupKeyJob;

/*
 * All that follow: 'table' is supervisor.job, trusted and locked, in a transaction of ours.
 *
 * The first due job of each pool and priority that has the role and key; how many, in
 * *jobs, palloc'd.
 */
extern int	sup_key_first_jobs(Oid table, Oid role, const char *key, TimestampTz now, SupKeyJob **jobs);

/*
 * Due jobs that are identical to that one: of its role and key, and with the same command
 * and parameters.  Returns how many, in *ids, palloc'd; in *others whether its key has any
 * other due one, identical or not.
 */
extern int	sup_key_identical(Oid table, const SupJobRow *row, TimestampTz now, int64 **ids, bool *others);

/* Is it so, as it is now? */
extern bool sup_key_is_identical(const SupJobRow *row, const SupJobRow *other, TimestampTz now);

#endif							/* SUP_JOBKEY_H */
