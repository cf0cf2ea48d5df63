/*-------------------------------------------------------------------------
 *
 * bounds_test.c
 *	  Unit tests of src/bounds.c, as TAP; compiled and run by t/016_bounds.pl.
 *
 * A table of jobs, transactions that commit and then tell, looks that take their
 * time, and runs, in random order: each job is run once, however it goes, and those of
 * a key one at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "bounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS	40

typedef struct Row
{
	int			priority;
	SupSpot		spot;
	bool		committed;
	bool		untold;			/* committed, and its process is about to tell */
	bool		claimed;
	bool		gone;
	int			ran;
	uint64_t	key;
} Row;

/*
 * The claims that a key may have: one at a time is busy; each has its own place, and
 * whoever looks for others after its end keeps it for so long.
 */
#define KEYS		3
#define MAX_CLAIMS	4

typedef struct Claim
{
	uint64_t	key;			/* 0: free */
	bool		busy;
	bool		wanted;
	bool		sees[MAX_ROWS]; /* who looks for others */
	int64_t		now;
	bool		snapshot;		/* ... has begun to do so */
} Claim;

/* A look: what its snapshot sees, and where it begins. */
typedef struct Look
{
	bool		active;
	bool		sees_it;		/* its snapshot is there */
	bool		sees[MAX_ROWS];
	SupSpot		from[SUP_PRIORITIES];
	int64_t		now;
	SupPassed	passed;
	SupBusyKey	busy[MAX_CLAIMS];
} Look;

static Row	rows[MAX_ROWS];
static int	nrows;
static SupBounds bounds;
static SupRing ring;
static Look look;
static int64_t now;
static int	twice;
static int	not_due;
static Claim claims[MAX_CLAIMS];
static int	beside;				/* a key had two claims */
static int	tests = 0;
static int	failures = 0;

static void
ok(bool good, const char *name)
{
	tests++;
	failures += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
}

static SupSpot
spot(int64_t run_at, int64_t id)
{
	SupSpot		s;

	s.run_at = run_at;
	s.id = id;
	return s;
}

static int
row_order(const void *a, const void *b)
{
	const SupCandidate *x = a;
	const SupCandidate *y = b;

	if (x->priority != y->priority)
		return x->priority - y->priority;
	return sup_spot_before(x->spot, y->spot) ? -1 : 1;
}

static void
begin_look(void)
{
	look.active = true;
	look.sees_it = false;
	memcpy(look.from, bounds.bound, sizeof(look.from));
	sup_bounds_begin_look(&bounds);
	sup_passed_init(&look.passed);
	look.passed.busy = look.busy;
	for (int i = 0; i < MAX_CLAIMS; i++)
		if (claims[i].key != 0 && claims[i].busy)
		{
			look.busy[look.passed.n].key = claims[i].key;
			look.busy[look.passed.n].claim = i;
			look.busy[look.passed.n++].passed = false;
		}
}

/* Its snapshot is taken later. */
static void
see(void)
{
	look.sees_it = true;
	look.now = now;
	for (int i = 0; i < nrows; i++)
		look.sees[i] = rows[i].committed && !rows[i].gone;
}

/* What look() of the server does: due rows from the bounds on, not more than there is room for. */
static void
end_look(void)
{
	SupCandidate all[MAX_ROWS];
	SupCandidate found[SUP_RING_SIZE];
	SupSpot		end[SUP_PRIORITIES];
	bool		full = false;
	bool		freed = false;
	int			n = 0;
	int			nfound = 0;

	look.active = false;
	for (int i = 0; i < nrows; i++)
		if (look.sees[i] && !sup_spot_before(rows[i].spot, look.from[rows[i].priority]))
		{
			all[n].priority = rows[i].priority;
			all[n].key = rows[i].key;
			all[n++].spot = rows[i].spot;
		}
	qsort(all, n, sizeof(SupCandidate), row_order);
	for (int p = 0; p < SUP_PRIORITIES; p++)
	{
		end[p] = full ? look.from[p] : spot(INT64_MAX, INT64_MAX);
		for (int i = 0; i < n && !full; i++)
		{
			if (all[i].priority != p)
				continue;
			if (all[i].spot.run_at <= look.now && sup_passed_over(&look.passed, found, nfound, &all[i]))
				continue;
			if (all[i].spot.run_at > look.now || nfound == SUP_RING_SIZE)
			{
				full = all[i].spot.run_at <= look.now;
				end[p] = all[i].spot;
				break;
			}
			found[nfound++] = all[i];
		}
	}
	sup_bounds_end_look(&bounds, &ring, end, found, nfound);
	for (int i = 0; i < look.passed.n; i++)
	{
		Claim	   *claim = &claims[look.busy[i].claim];

		if (look.busy[i].passed && claim->key == look.busy[i].key)
			claim->wanted = true;
		else if (look.busy[i].passed)
			freed = true;
	}
	for (int i = 0; i < SUP_PRIORITIES && freed; i++)
		sup_bounds_lower(&bounds, i, look.passed.first[i]);
}

/* The claim of a key that is busy; NULL. */
static Claim *
claim_of(uint64_t key)
{
	for (int i = 0; i < MAX_CLAIMS; i++)
		if (key != 0 && claims[i].key == key && claims[i].busy)
			return &claims[i];
	return NULL;
}

/* One that is gone, or whose key is busy, is not run; or it is, and its key may have others. */
static void
take(const SupCandidate *job)
{
	Row		   *row = &rows[job->spot.id];
	Claim	   *claim = claim_of(job->key);

	if (claim != NULL)
		claim->wanted = true;
	if (claim != NULL || row->claimed)
		return;
	if (row->gone)
	{
		sup_bounds_gone(&bounds, job);
		return;
	}
	claim = claims;
	while (job->key != 0 && claim < claims + MAX_CLAIMS && claim->key != 0)
		claim++;
	if (claim == claims + MAX_CLAIMS)
	{
		sup_bounds_lower(&bounds, job->priority, job->spot);
		return;
	}
	row->claimed = true;
	if (job->key == 0)
		return;
	memset(claim, 0, sizeof(Claim));
	claim->key = job->key;
	claim->busy = true;
	for (int i = 0; i < nrows; i++)
	{
		beside += &rows[i] != row && rows[i].claimed && rows[i].key == row->key;
		if (&rows[i] != row && rows[i].key == job->key && rows[i].committed && !rows[i].gone && rows[i].spot.run_at <= now)
			claim->wanted = true;
	}
}

/* Step K: in two steps, as it takes its time. */
static void
look_for_key(Claim *claim)
{
	SupCandidate first[SUP_PRIORITIES];
	bool		has[SUP_PRIORITIES] = {false};

	if (!claim->snapshot)
	{
		for (int i = 0; i < nrows; i++)
			claim->sees[i] = rows[i].committed && !rows[i].gone;
		claim->snapshot = true;
		claim->now = now;
		return;
	}
	for (int i = 0; i < nrows; i++)
	{
		SupCandidate job = {rows[i].priority, rows[i].spot, rows[i].key};

		if (claim->sees[i] && job.key == claim->key && job.spot.run_at <= claim->now &&
			(!has[job.priority] || sup_spot_before(job.spot, first[job.priority].spot)))
		{
			first[job.priority] = job;
			has[job.priority] = true;
		}
	}
	for (int i = 0; i < SUP_PRIORITIES; i++)
		if (has[i])
			sup_bounds_add(&bounds, rand() % 4 == 0 ? NULL : &ring, &first[i]);
	claim->key = 0;
}

/* A run has ended, and identical ones may be done by that. */
static void
end_key(Row *row, bool given_up)
{
	Claim	   *claim = claim_of(row->key);

	if (claim == NULL)
		return;
	for (int i = 0; i < nrows && !given_up && row->ran > 0; i++)
		if (&rows[i] != row && rows[i].key == row->key && rows[i].committed && !rows[i].gone && !rows[i].untold &&
			!rows[i].claimed && rand() % 3 == 0 && rows[i].spot.run_at <= now && claim->wanted)
		{
			rows[i].gone = true;
			rows[i].ran++;
		}
	if (!claim->wanted)
		claim->key = 0;
	claim->busy = false;
}

/* One drain: false, if it has nothing to do. */
static bool
drain(void)
{
	SupCandidate job;

	switch (sup_bounds_step(&bounds, &ring, now, &job))
	{
		case SUP_STEP_LOOK:
			begin_look();
			return true;
		case SUP_STEP_TAKE:
			not_due += job.spot.run_at > now;
			take(&job);
			return true;
		default:
			return false;
	}
}

static void
tell(Row *row)
{
	row->untold = false;
	sup_bounds_lower(&bounds, row->priority, row->spot);
}

/* A run ends: the job is gone, or it was not begun and is given up. */
static void
end_run(Row *row, bool given_up)
{
	row->claimed = false;
	if (given_up)
		tell(row);
	else
	{
		twice += row->gone;
		row->gone = true;
		row->ran++;
	}
	end_key(row, given_up);
}

static void
random_step(void)
{
	Row		   *row = nrows > 0 ? &rows[rand() % nrows] : NULL;

	switch (rand() % 11)
	{
		case 0:
		case 1:
			if (nrows == MAX_ROWS)
				break;
			row = &rows[nrows];
			memset(row, 0, sizeof(Row));
			row->priority = rand() % 3 * 4;
			row->key = rand() % (KEYS + 1);
			row->spot = spot(now - 5 + rand() % 15, nrows++);
			break;
		case 2:
			if (row != NULL && !row->committed)
				row->committed = row->untold = true;
			break;
		case 3:
			if (row != NULL && row->untold)
				tell(row);
			break;
		case 4:
			if (look.active && rand() % 8 == 0)
			{
				look.active = false;
				sup_bounds_fail_look(&bounds);
			}
			else if (look.active && look.sees_it)
				end_look();
			else if (look.active)
				see();
			break;
		case 5:
			if (row != NULL && row->claimed)
				end_run(row, rand() % 4 == 0);
			break;
		case 6:
			if (rand() % 20 == 0)
				sup_bounds_drop_ring(&bounds, &ring);
			now += rand() % 3;
			break;
		case 7:
			for (int i = 0; i < MAX_CLAIMS; i++)
				if (claims[i].key != 0 && !claims[i].busy && rand() % 2 == 0)
					look_for_key(&claims[i]);
			break;
		case 8:				/* somebody cancels it, and tells of that */
			if (row != NULL && row->committed && !row->untold && !row->claimed && !row->gone)
			{
				row->gone = row->untold = true;
				row->ran++;
			}
			break;
		default:
			(void) drain();
	}
}

static bool
has_claims(void)
{
	for (int i = 0; i < nrows; i++)
		if (rows[i].claimed)
			return true;
	for (int i = 0; i < MAX_CLAIMS; i++)
		if (claims[i].key != 0)
			return true;
	return false;
}

/* All that has committed comes to its end: how many have not been run? */
static int
run_out(void)
{
	int			missed = 0;

	for (int i = 0; i < nrows; i++)
		if (rows[i].untold)
			tell(&rows[i]);
	now += 1000;
	do
	{
		if (look.active && !look.sees_it)
			see();
		if (look.active)
			end_look();
		for (int i = 0; i < MAX_CLAIMS; i++)
			while (claims[i].key != 0 && !claims[i].busy)
				look_for_key(&claims[i]);
		for (int i = 0; i < nrows; i++)
			if (rows[i].claimed)
				end_run(&rows[i], false);
	} while (drain() || look.active || has_claims());
	for (int i = 0; i < nrows; i++)
		missed += rows[i].committed && rows[i].ran != 1;
	return missed;
}

int
main(void)
{
	int			missed = 0;
	int			left = 0;
	SupCandidate job;

	sup_bounds_reset(&bounds);
	ok(sup_bounds_due(&bounds, NULL) == INT64_MIN, "where nothing is known, something may be due");
	ok(sup_bounds_step(&bounds, NULL, 0, &job) == SUP_STEP_LOOK, "then one looks");
	sup_bounds_begin_look(&bounds);
	ok(sup_bounds_step(&bounds, NULL, 0, &job) == SUP_STEP_WAIT, "but no second one");

	ring.n = 1;
	ring.jobs[0].priority = 4;
	ring.jobs[0].spot = spot(10, 1);
	for (int i = 0; i < SUP_PRIORITIES; i++)
		bounds.bound[i] = spot(INT64_MAX, INT64_MAX);
	bounds.looking = false;
	sup_bounds_lower(&bounds, 4, spot(10, 0));
	ok(sup_bounds_step(&bounds, &ring, 20, &job) == SUP_STEP_LOOK, "one that may go before the first is looked for");
	bounds.bound[4] = spot(10, 2);
	sup_bounds_lower(&bounds, 3, spot(21, 0));
	ok(sup_bounds_step(&bounds, &ring, 20, &job) == SUP_STEP_TAKE && job.spot.id == 1, "one that is not due is not");

	for (int seed = 1; seed <= 20000; seed++)
	{
		srand(seed);
		nrows = 0;
		now = 100;
		memset(&ring, 0, sizeof(ring));
		memset(&look, 0, sizeof(look));
		memset(claims, 0, sizeof(claims));
		memset(&bounds, 0, sizeof(bounds));
		sup_bounds_reset(&bounds);
		for (int i = rand() % 200; i > 0; i--)
			random_step();
		missed += run_out();
		for (int i = 0; i < nrows; i++)
			rows[i].untold = !rows[i].committed ? (rows[i].committed = true) : false;
		left += run_out();
	}
	ok(missed == 0, "what has been told is found");
	ok(left == 0, "and so is what is told later");
	ok(twice == 0, "nothing is run twice");
	ok(beside == 0, "nor two of a key beside each other");
	ok(not_due == 0, "nor before it is due");
	printf("1..%d\n", tests);
	return failures > 0;
}
