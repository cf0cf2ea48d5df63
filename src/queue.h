/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  What shared memory knows of jobs: queues, and who runs which.
 *
 * Everything is protected by Sup->lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_QUEUE_H
#define SUP_QUEUE_H

#include "pgtime.h"

#include "bounds.h"
#include "state.h"

/* More queues than that are forgotten, and looked for again in their tables. */
#define SUP_QUEUES	2048

/*
 * The jobs of one role in one database for one pool, which it names, as that may
 * not be there.  Anyone writes it.
 */
typedef struct SupJobQueue
{
	int			next;			/* in its hash chain, or in the free list */
	Oid			database;		/* 0: free */
	Oid			role;
	char		pool[NAMEDATALEN];
	Oid			account;		/* see sup_account_of(); 0: a superuser's */
	SupBounds	bounds;
	SupRing    *ring;			/* NULL: it has none */
	int			ndrains;		/* its drains that are queued or run */
	int			nclaims;		/* on its jobs, lost ones too */
	bool		drain_queued;	/* one of them is queued */
	int			failures;		/* of its drains, in a row */
	TimestampTz failed_at;		/* the last one; by sup_now() */
	TimestampTz not_before;		/* so no other begins before; 0: as soon as a
								 * job is due */
	bool		wanting;		/* it is due, and there was no entry for a
								 * drain */
	dlist_node	wanting_node;
} SupJobQueue;

/* How a run has ended. */
typedef enum SupEnd
{
	SUP_RUN_FAILED,
	SUP_RUN_SUCCEEDED,
	SUP_RUN_CANCELED
} SupEnd;

/*
 * Whoever has a claim on a job runs it, and nobody else can.  It belongs to its
 * slot's process, and goes with it, after core has aborted its transaction; unless the
 * run has begun, and its end is not noted: then it is lost, and the loader notes that.
 */
typedef struct SupClaim
{
	Oid			database;		/* 0: free */
	Oid			table;
	int			slot;			/* -1: it is lost */
	int			queue;			/* -1: it is lost since the server has crashed */
	Oid			role;
	Oid			account;		/* as that of its queue */
	SupCandidate job;			/* its id is 0 once the run has ended, and
								 * others of its key are looked for */
	bool		key_wanted;		/* others of its key may wait for its end */
	bool		passed;			/* it was found again, where it is */
	bool		moved;			/* ... or elsewhere: it has been changed */
	bool		canceled;		/* somebody has asked for that */
	bool		decided;		/* too late to ask: the row is being written */

	/* The run, once it has begun. */
	bool		begun;
	bool		counted;		/* its attempt is noted */
	int64		runs;			/* of the job that had ended before */
	TimestampTz started_at;		/* by the wall clock */
	TimestampTz enqueued_at;	/* of the job; 0: in this life of the server */
	int			pid;

	/* How it has ended, if it is lost and had begun. */
	int			mark;			/* it tells of that one, see sup_mark_left();
								 * -1: of none */
	int			rank;			/* so many are lost of its account, with this
								 * one; 0: it is not */
	int			rank_of_role;	/* ... and of its role */
	SupEnd		end;
	bool		crashed;		/* and the server with it */
	int			sqlstate;
	char		message[SUP_MESSAGE];
} SupClaim;

/* Queues of that database were forgotten, whose next job is due then. */
typedef struct SupForgotten
{
	Oid			database;		/* 0: free; the first entry is of any */
	int64		due;
} SupForgotten;

#define SUP_FORGOTTEN	256

/* Lists of sessions that wait for jobs. */
#define SUP_WAIT_LISTS	256

/* What the loader has seen to in a database. */
typedef struct SupPruned
{
	Oid			database;		/* 0: free */
	TimestampTz times_at;		/* the times of recurring jobs, then; by
								 * sup_now(); 0: not yet */
	NameData	times_from;		/* they are being seen to: up to that name
								 * they have been; empty: they are not */

	/* From when on the history may have runs that are to be removed. */
	int64		brief_from;		/* of those that succeeded once */
	int64		from;			/* of all others */
} SupPruned;

/*
 * Times at which something is due are those of the wall clock, as jobs say when they
 * are; whether they have come is looked at again when that is set.
 */
typedef struct SupJobs
{
	bool		run_jobs;		/* the setting, as the supervisor has it */
	bool		review;			/* it shall look at all queues: what keeps
								 * them from being served may have changed */
	bool		forgotten_ones; /* queues that could not be served were
								 * forgotten */
	char		time_zone[TZ_STRLEN_MAX + 1];	/* the server's own, as the
												 * supervisor has it */
	int64		next_due;		/* the least of dues[], or less */
	int64		dues[SUP_QUEUES];	/* when each is to have a drain, dense;
									 * PG_INT64_MAX: not by itself */
	SupForgotten forgotten[SUP_FORGOTTEN];
	SupPruned	pruned[SUP_FORGOTTEN];
	int			next_pruned;	/* the one that is given up next */
	int			free_queue;
	int			free_ring;		/* through 'n' */
	dlist_head	wanting;		/* SupJobQueue.wanting_node */
	int			ndrains;		/* queued or running */
	int64		alone_until;	/* no more than one of them, until then */
	int			nwaiting;
	dlist_head	waiting[SUP_WAIT_LISTS];	/* SupJobWait.node, of sessions;
											 * by the job */
	int			buckets[SUP_QUEUES];	/* heads of hash chains */
	SupJobQueue queues[SUP_QUEUES];
	int			nclaims;		/* in use */
	SupClaim   *claims;			/* two for each worker */
	SupRing    *rings;			/* one for each worker: who has none drains
								 * nothing */
} SupJobs;

extern SupJobs *SupJob;			/* NULL: not preloaded */

/* The job that this process runs; 0: none. */
extern int64 sup_running_job;

/* Start-up of the server. */
extern void sup_queues_request(void);
extern void sup_queues_init(void);

/*
 * This session waits for a job: from now on it is told when that may have ended.  To be
 * called before it looks, each time, and with what it has seen before it sleeps; and the
 * end of that.
 */
extern void sup_job_wait_begin(int64 id);
extern void sup_job_wait_for(Oid role, const char *pool, uint64 key, int64 run_at);
extern void sup_job_wait_end(void);

/*
 * A job may have ended, or with 0 any of that database, or with 0 of any: who waits for it
 * looks.  Nothing is allocated, and no error raised.
 */
extern void sup_tell_job_waiters(Oid database, int64 id);
extern void sup_tell_of_changed(const SupChanged *changed);

/* All that follow: the caller holds the lock. */

/* NULL: there is none. */
extern SupJobQueue *sup_queue_find(Oid database, Oid role, const char *pool);

/*
 * Find or make one, of which nothing is known.  NULL: there are too many that
 * are in use.  If one had to go for it, its database is read again once its first
 * job is due.
 */
extern SupJobQueue *sup_queue_get(Oid database, Oid role, const char *pool);

/* That database is no more. */
extern void sup_queues_forget(Oid database);

/* It is about to be read: nothing of it is forgotten. */
extern void sup_queues_read(Oid database);

/* A queue is to have a drain then, for which the supervisor will see. */
extern void sup_queue_set_due(SupJobQueue *queue, int64 due);

/* Have databases read whose forgotten queues are due; when the next one is. */
extern int64 sup_queues_recall(int64 now);

/* The database is to be read then, or before. */
extern void sup_queues_recall_at(Oid database, int64 due);

/* That of a database, which is made if there is none. */
extern SupPruned *sup_pruned_of(Oid database);

/* A drain has failed, or it has done something: then failures count anew. */
extern void sup_queue_failed(SupJobQueue *queue);
extern void sup_queue_works(SupJobQueue *queue);

/* How a claim is given up. */
typedef enum SupRelease
{
	SUP_RELEASE_DONE,			/* the job has been run, and told of */
	SUP_RELEASE_GONE,			/* it is not to be run: it is gone, or who
								 * changes it tells of it */
	SUP_RELEASE_UNDONE			/* who looks next shall find it */
} SupRelease;

/* In all queues of a database anything may be. */
extern void sup_queues_reset(Oid database);

/*
 * What a drain that runs in that slot is to do next.  With SUP_STEP_TAKE it has a
 * claim; with SUP_STEP_LOOK it is to begin a look.
 */
extern SupStep sup_queue_step(SupJobQueue *queue, int slot, Oid table, int64 now, SupClaim **claim);

/* A drain begins, for which the queue gets a ring, or ends. */
extern void sup_queue_begin_drain(SupJobQueue *queue);
extern void sup_queue_end_drain(SupJobQueue *queue);

/*
 * A look of that queue begins, and is told which keys have a claim, for which there is room
 * in passed->busy; or it has ended, and the bounds are set: these are to know if they shall
 * look for others of their key.
 */
extern void sup_keys_begin_look(const SupJobQueue *queue, SupPassed *passed);
extern void sup_keys_end_look(SupJobQueue *queue, const SupPassed *passed);

/* The run has ended, and others of its key may be run, which the caller looks for. */
extern void sup_claim_free_key(SupClaim *claim);

/*
 * If others of its key wait for its end, and nobody has looked, or if it has been changed and
 * found again meanwhile, all of the role are looked for.
 */
extern void sup_claim_release(SupClaim *claim, SupRelease how);

/*
 * The run has ended, and that is not noted: the loader shall do so.  Or it has not begun, as somebody
 * has locked the row: the loader shall see when it is free.
 */
extern void sup_claim_lose(SupClaim *claim, SupEnd end, int sqlstate, const char *message);

/*
 * The caller, who has the row locked, writes to it what comes of the run; true: it has been
 * canceled.  Who cancels the job from now on waits for the row.
 */
extern bool sup_claim_decide(SupClaim *claim);

/* Its run has ended so, and that is noted: count it. */
extern void sup_claim_count(const SupClaim *claim, SupEnd end);

/* That of a slot; NULL: it has none. */
extern SupClaim *sup_claim_of(int slot);

/* The claim on a job; NULL.  Its table may be another than the one that is there now. */
extern SupClaim *sup_claim_on(Oid database, Oid table, int64 id);

/* One that is lost, in a database, of those from *i on; NULL: there is none. */
extern SupClaim *sup_lost_claim(Oid database, int *i);

/* A database with one that a former life of the server has left, from *i on; 0: there is none. */
extern Oid	sup_left_database(int *i);

static inline int
sup_queue_index(const SupJobQueue *queue)
{
	return (int) (queue - SupJob->queues);
}

#endif							/* SUP_QUEUE_H */
