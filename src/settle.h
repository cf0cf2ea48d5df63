/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Notes in the tables what has come of the run of a job.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SETTLE_H
#define SUP_SETTLE_H

#include "jobnotes.h"
#include "jobtable.h"
#include "queue.h"

/*
 * Who has locked the row of a job, or the table, does not hold up a worker for longer, in
 * milliseconds.  After that the wait for it is an error.
 */
#define SUP_LOCK_TIMEOUT	1000

/* Of long texts the history keeps so many bytes. */
#define SUP_KEPT	1024

/* A run that is under way, or has ended. */
typedef struct SupRun
{
	Oid			table;			/* supervisor.job, as it was then */
	int64		id;
	int64		runs;			/* of the job that had ended when it began */
	bool		counted;		/* its attempt is noted already */
	SupClaim   *claim;			/* of this process; NULL: it is lost */
	TimestampTz run_at;			/* it was due then */
	TimestampTz started_at;
	TimestampTz enqueued_at;	/* as in SupClaim */
	int			pid;
	bool		crashed;		/* and the server with it */
	bool		convicted;		/* set if it has failed for good by that */
	SupEnd		end;			/* if it was not a success */
	const char *result;			/* of a success; NULL: it has none */
	int			sqlstate;		/* of its error; 0: there is none */
	const char *message;		/* or NULL; as what follows */
	const char *detail;
	const char *context;
	int64	   *merged;			/* identical jobs that are done with it, if it
								 * succeeds; palloc'd */
	int			nmerged;
	int64		merged_into;	/* the one that was run in its place; 0: none */
} SupRun;

/*
 * The command has been run, in the transaction that is open, which is somebody's:
 * of any isolation, read only or not.  The job goes, or waits for its next time, and the
 * run is noted, if that commits.  'row' is what the job was when the run began; *found
 * whether it is there yet.  For what is returned see sup_settle().
 */
extern bool sup_settle_success(const SupRun *run, const SupJobRow *row, const char *tag, SupJobNote *next,
							   bool *found);

/*
 * It was run in transactions of its own, or has failed and been rolled back: note that
 * in one of ours, unless it was noted before.  If the job waits by that, *next is what is
 * to be told of it once nobody has a claim on it; returns whether it is.
 */
extern bool sup_settle(SupRun *run, const SupJobRow *row, const char *tag, SupJobNote *next, int lock_timeout);

/*
 * A job that is not atomic is about to be run: its attempt is noted first.  False: it
 * is not to be run any more, or not now.
 */
extern bool sup_settle_attempt(SupRun *run, SupJobRow *row, int lock_timeout);

/* One that could not begin, as somebody has its row: wait until it is free.  No attempt was made. */
extern void sup_settle_not_begun(const SupRun *run, int lock_timeout);

/*
 * A job that waits, whose row is locked, is canceled by the transaction that is open.
 */
extern void sup_settle_canceled(const SupRun *run, SupJobRow *row);

/* No lock is waited for any longer in it, in ms. */
extern void sup_own_lock_timeout(int lock_timeout);

#endif							/* SUP_SETTLE_H */
