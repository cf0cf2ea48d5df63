/*-------------------------------------------------------------------------
 *
 * jobtable.h
 *	  The tables of jobs of the current database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOBTABLE_H
#define SUP_JOBTABLE_H

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "bounds.h"
#include "trust.h"

/* Columns of supervisor.job, in order. */
typedef enum SupJobColumn
{
	SUP_JOB_ID,
	SUP_JOB_ROLE,
	SUP_JOB_POOL,
	SUP_JOB_PRIORITY,
	SUP_JOB_RUN_AT,
	SUP_JOB_KEY,
	SUP_JOB_COMMAND,
	SUP_JOB_PARAMS,
	SUP_JOB_NAME,
	SUP_JOB_SCHEDULE,
	SUP_JOB_TIME_ZONE,
	SUP_JOB_NEXT_AT,
	SUP_JOB_RUN_TIMEOUT,
	SUP_JOB_RETRY_DELAY,
	SUP_JOB_MAX_ATTEMPTS,
	SUP_JOB_ATTEMPTS,
	SUP_JOB_CRASHES,
	SUP_JOB_RUNS,
	SUP_JOB_ATOMIC,
	SUP_JOB_ENABLED,
	SUP_JOB_STATE,
	SUP_JOB_REASON,
	SUP_JOB_ORIGIN,
	SUP_JOB_ENQUEUED_AT,
	SUP_JOB_LAST_STARTED_AT,
	SUP_JOB_LAST_FINISHED_AT,
	SUP_JOB_LAST_STATE,
	SUP_JOB_LAST_SQLSTATE,
	SUP_JOB_LAST_ERROR
} SupJobColumn;

#define SUP_JOB_COLS	(SUP_JOB_LAST_ERROR + 1)

/* Columns of supervisor.job_history, in order. */
typedef enum SupRunColumn
{
	SUP_RUN_JOB,
	SUP_RUN_NAME,
	SUP_RUN_ATTEMPT,
	SUP_RUN_ROLE,
	SUP_RUN_POOL,
	SUP_RUN_STATE,
	SUP_RUN_TAG,
	SUP_RUN_RESULT,
	SUP_RUN_SQLSTATE,
	SUP_RUN_MESSAGE,
	SUP_RUN_DETAIL,
	SUP_RUN_CONTEXT,
	SUP_RUN_MERGED_INTO,
	SUP_RUN_ENQUEUED_AT,
	SUP_RUN_RUN_AT,
	SUP_RUN_STARTED_AT,
	SUP_RUN_FINISHED_AT,
	SUP_RUN_PID,
	SUP_RUN_COMMAND
} SupRunColumn;

#define SUP_RUN_COLS	(SUP_RUN_COMMAND + 1)

extern const SupTableDef sup_job_table;
extern const SupTableDef sup_history_table;
extern const SupTableDef sup_origin_table;

/* Indexes of supervisor.job, in the order of its definition. */
typedef enum SupJobIndex
{
	SUP_JOB_INDEX_ID,
	SUP_JOB_INDEX_NAME,
	SUP_JOB_INDEX_PLACE,
	SUP_JOB_INDEX_KEY
} SupJobIndex;

/* The same of supervisor.job_history. */
typedef enum SupHistoryIndex
{
	SUP_HISTORY_INDEX_JOB,
	SUP_HISTORY_INDEX_FINISHED_AT
} SupHistoryIndex;

/* A row of supervisor.job. */
typedef struct SupJobRow
{
	Datum		values[SUP_JOB_COLS];
	bool		nulls[SUP_JOB_COLS];
	ItemPointerData tid;		/* of the version that is locked */
	TransactionId xmin;			/* whose it is */
	bool		mine;			/* this transaction has made, changed or
								 * locked it */
} SupJobRow;

/* A row of supervisor.job_history. */
typedef struct SupRunRow
{
	Datum		values[SUP_RUN_COLS];
	bool		nulls[SUP_RUN_COLS];
} SupRunRow;

/* How a job is found. */
typedef enum SupFound
{
	SUP_JOB_FOUND,
	SUP_JOB_GONE,
	SUP_JOB_CHANGING			/* a transaction is changing it, and will tell */
} SupFound;

/*
 * All that follow: in a transaction.  'table' is supervisor.job or
 * supervisor.job_history, trusted and locked.
 */

/* What tells that a job belongs to this database of this installation. */
extern int64 sup_job_origin(void);

/* The same, without a lock; false: that is not to be known. */
extern bool sup_job_known_origin(int64 *origin);

/* Ids of jobs are never given out twice: the next one, and the last one that was. */
extern int64 sup_job_next_id(Oid table);
extern int64 sup_job_last_id(Oid table);

/* Ids up to that one are in use: the next one is greater.  For superusers; locks the sequence then. */
extern void sup_job_skip_ids(Oid table, int64 greatest);

/* Values of a row. */
extern char *sup_job_text(const SupJobRow *row, SupJobColumn column);	/* or NULL */
extern SupSpot sup_job_spot(const SupJobRow *row);
extern uint64 sup_job_key(const SupJobRow *row);	/* as in SupCandidate */

static inline void
sup_job_set(SupJobRow *row, SupJobColumn column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

/* The row in a slot, which is neither copied nor detoasted. */
extern void sup_job_row_of(TupleTableSlot *slot, SupJobRow *row);

/* The index of our script, whatever its name is by now. */
extern Relation sup_job_open_index(Relation rel, SupJobIndex which);
extern Relation sup_history_open_index(Relation rel, SupHistoryIndex which);

/* Whose version it is that is in a slot; and has this transaction made, changed or locked it? */
extern TransactionId sup_row_xmin(TupleTableSlot *slot, bool *mine);

/* Is it a row of that origin that may be run, once it is due? */
extern bool sup_job_may_run(const SupJobRow *row, int64 origin);

/* Add a job. */
extern void sup_job_insert(Oid table, SupJobRow *row);

/* Find one by its id, as it is committed; palloc'd. */
extern SupFound sup_job_fetch(Oid table, int64 id, SupJobRow *row);

/*
 * The id of the recurring job of that name, as it is committed; 0: there is none.  Who
 * has locked the name is the only one to add or remove it.
 */
extern void sup_job_lock_name(Oid table, const char *name);
extern int64 sup_job_of_name(Oid table, const char *name);

/*
 * Find one by its id and lock it, in its newest version, waiting for whoever
 * changes it; palloc'd.  False: there is none any more.
 */
extern bool sup_job_lock(Oid table, int64 id, SupJobRow *row);

/* The same, unless somebody else has locked it. */
extern bool sup_job_lock_free(Oid table, int64 id, SupJobRow *row);

/* The one that is so locked. */
extern void sup_job_delete(Oid table, SupJobRow *row);
extern void sup_job_update(Oid table, SupJobRow *row);

extern void sup_run_insert(Oid table, SupRunRow *row);

/*
 * Delete rows of the history that have finished before a time, oldest first, from *from
 * on, and set that to where it has come to: with 'brief' those that have succeeded, of
 * jobs without a name, else all others.  It looks at a batch of them; true: that was the last.  Then *first
 * is when the first one that is kept has finished; PG_INT64_MAX: there is none.
 */
extern bool sup_history_prune(Oid table, bool brief, TimestampTz until, int64 *from, int64 *first);

/*
 * Look for jobs of a role and pool that may be run, from bounds->bound[] on, in
 * order: for so many as there is room for, or if that is none, for the first of each
 * priority, then without 'passed'; how many.  In end[] where each priority was left.
 */
extern int	sup_job_look(Oid table, Oid role, const char *pool, const SupBounds *bounds, SupPassed *passed,
						 TimestampTz now, SupCandidate *found, int room, SupSpot *end);

/* Each role and pool that have jobs, whether these may be run or not. */
typedef void (*SupQueueVisitor) (Oid table, Oid role, const char *pool, void *arg);

extern void sup_job_scan_queues(Oid table, SupQueueVisitor visit, void *arg);

#endif							/* SUP_JOBTABLE_H */
