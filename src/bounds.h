/*-------------------------------------------------------------------------
 *
 * bounds.h
 *	  What is known of the jobs of one queue without looking at their table: a
 *	  few that may be run, and from where on there may be others.
 *
 * No clock, no lock, no shared memory: all of it comes in as arguments, so that
 * every case can be tested (t/bounds_test.c).
 *
 * A job has a spot, its run_at and its id, among those of its priority.  From the
 * bound of a priority on, nothing is known of it; before the bound, each job that
 * is committed and might be run is in the ring, or somebody has it: who runs it,
 * or who will tell of it when his transaction ends.  Whoever tells of a job, or
 * gives one up, lowers the bound to its spot.
 *
 * A look goes through the table from the bounds on, which takes its time.  What is
 * told meanwhile, its snapshot may have missed: so the bound is not set to where the
 * look has ended, but to the least that was told, if that is less.
 *
 * Jobs of one key are run one at a time, so a look passes over those that have to wait.
 * One in the ring stands for the later ones of its key and priority in its queue;
 * and while one runs, it stands for all others: whoever passes over one, or takes one
 * out of the ring, says so to the claim, and at the end of that run the next ones are
 * looked for by their key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_BOUNDS_H
#define SUP_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

#define SUP_PRIORITIES	10

/* How many jobs a ring has room for; the test has it smaller. */
#ifndef SUP_RING_SIZE
#define SUP_RING_SIZE	64
#endif

/* Where a job is among those of its priority. */
typedef struct SupSpot
{
	int64_t		run_at;			/* as TimestampTz */
	int64_t		id;
} SupSpot;


/* A job that may be run. */
typedef struct SupCandidate
{
	int			priority;
	SupSpot		spot;
	uint64_t	key;			/* a hash of its key; 0: it has none */
} SupCandidate;

/* They are sorted by priority and spot. */
typedef struct SupRing
{
	int			n;
	SupCandidate jobs[SUP_RING_SIZE];
} SupRing;

typedef struct SupBounds
{
	bool		looking;		/* somebody looks */
	SupSpot		bound[SUP_PRIORITIES];
	SupSpot		low[SUP_PRIORITIES];	/* the least that was told since he
										 * began */
} SupBounds;

/* A key that has a claim while somebody looks. */
typedef struct SupBusyKey
{
	uint64_t	key;
	int			claim;			/* index of the claim */
	bool		passed;			/* jobs of it were passed over */
} SupBusyKey;

/* What a look passes over since the key is busy. */
typedef struct SupPassed
{
	int			n;
	SupBusyKey *busy;
	SupSpot		first[SUP_PRIORITIES];	/* of each priority */
} SupPassed;

/* What is to be done next. */
typedef enum SupStep
{
	SUP_STEP_NOTHING,			/* nothing is due */
	SUP_STEP_WAIT,				/* somebody looks already */
	SUP_STEP_LOOK,
	SUP_STEP_TAKE				/* that one was taken out of the ring */
} SupStep;

static inline bool
sup_spot_before(SupSpot a, SupSpot b)
{
	return a.run_at < b.run_at || (a.run_at == b.run_at && a.id < b.id);
}

/* Nothing is known. */
extern void sup_bounds_reset(SupBounds *bounds);

/* There may be a job. */
extern void sup_bounds_lower(SupBounds *bounds, int priority, SupSpot spot);

/* There is one that may be run.  'ring' may be NULL: then it is looked for again. */
extern void sup_bounds_add(SupBounds *bounds, SupRing *ring, const SupCandidate *job);

/*
 * One that was taken is not there any more, or whoever has it tells of it; but it may
 * have stood for others.
 */
extern void sup_bounds_gone(SupBounds *bounds, const SupCandidate *job);

/* When there may be one that is due: INT64_MAX is never. */
extern int64_t sup_bounds_due(const SupBounds *bounds, const SupRing *ring);

/*
 * What to do.  'ring' may be NULL: then there is none.  A job that is taken is
 * the caller's.
 */
extern SupStep sup_bounds_step(const SupBounds *bounds, SupRing *ring, int64_t now, SupCandidate *taken);

/*
 * A look begins.  It goes from bounds->bound[] on, of which the caller keeps a
 * copy, the priorities in order.  It fails, or it has ended: 'found' are jobs that
 * may be run, in order, and from end[] on it has not looked.
 */
extern void sup_bounds_begin_look(SupBounds *bounds);
extern void sup_bounds_fail_look(SupBounds *bounds);
extern void sup_bounds_end_look(SupBounds *bounds, SupRing *ring, const SupSpot *end, const SupCandidate *found, int n);

/*
 * Does a look that has found these jobs pass over that one?  It is told so of all that
 * may be run, in order; 'passed' begins with no first one.
 */
extern void sup_passed_init(SupPassed *passed);
extern bool sup_passed_over(SupPassed *passed, const SupCandidate *found, int n, const SupCandidate *job);

/* The ring goes to another queue. */
extern void sup_bounds_drop_ring(SupBounds *bounds, SupRing *ring);

#endif							/* SUP_BOUNDS_H */
