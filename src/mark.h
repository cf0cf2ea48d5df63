/*-------------------------------------------------------------------------
 *
 * mark.h
 *	  Which job each worker runs, in memory that outlives a crash of the server.
 *
 * The marks are not of the server's shared memory, which is made anew after a crash.  A
 * worker writes its own, and its signal handlers do; and who cancels what it runs.  When the server starts again,
 * whoever makes the new shared memory reads what the former processes have left.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_MARK_H
#define SUP_MARK_H

#include <signal.h>

#include "port/atomics.h"

/* What is known of the process that has set a mark. */
typedef enum SupMarkState
{
	SUP_MARK_FREE,				/* it runs no job */
	SUP_MARK_RUNS,				/* it runs one; afterwards: nothing, it was
								 * killed */
	SUP_MARK_INNOCENT,			/* somebody has told it to end at once */
	SUP_MARK_GUILTY				/* it has crashed */
} SupMarkState;

typedef struct SupMark
{
	volatile sig_atomic_t state;	/* a SupMarkState, set last */
	pg_atomic_uint32 nparallel; /* parallel workers that are there for it */
	Oid			database;
	Oid			table;
	Oid			role;
	Oid			account;
	uint64		key;			/* as in SupCandidate */
	bool		crashed;		/* it is known to have crashed the server */
	bool		canceled;		/* somebody has asked for that, who has
								 * written it */
	bool		counted;		/* as in SupClaim; so is what follows */
	int			pid;
	int64		id;
	int64		runs;
	int64		run_at;
	int64		started_at;
	int64		enqueued_at;	/* of the job: where the server has lost that,
								 * its number may come again */
} SupMark;

/* For the postmaster: parallel workers of jobs are to be known, too. */
extern void sup_marks_install(void);

/*
 * The server's memory is new: what is left of its former lives?  Returns how many of the
 * marks tell of jobs whose end has not been noted.  All workers' are free after it.  For the
 * postmaster.
 */
extern int	sup_marks_take(void);

/*
 * One of those.  It is there until the end of its job is noted, since the server may crash
 * again before that.
 */
extern const SupMark *sup_mark_left(int i);
extern void sup_mark_noted(int i);

/*
 * What that slot's process runs was canceled, and has ended, but that is not noted yet: it is not run
 * again, even if the server ends first.  Returns which one is left by that; -1: there is no room.
 * The caller holds the lock.
 */
extern int	sup_mark_keep(int slot);

/*
 * Several were guilty at once, so nobody knows which job has crashed the server: until then
 * they should be run one at a time, as it was found out, or is forgotten.
 */
extern int64 sup_marks_suspect_until(void);
extern void sup_marks_suspect_no_more(void);

/* This process, of that slot, runs that job from now on; or none. */
extern void sup_mark_run(int slot, const SupMark *mark);
extern void sup_mark_clear(void);

/* What that slot's process runs is canceled, by another one. */
extern void sup_mark_cancel(int slot);

#endif							/* SUP_MARK_H */
