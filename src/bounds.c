/*-------------------------------------------------------------------------
 *
 * bounds.c
 *	  What is known of the jobs of one queue without looking at their table.
 *
 *-------------------------------------------------------------------------
 */
#include "bounds.h"

#include <string.h>

static const SupSpot first_spot = {INT64_MIN, INT64_MIN};
static const SupSpot last_spot = {INT64_MAX, INT64_MAX};

/* The one that is run first. */
static bool
goes_before(const SupCandidate *a, const SupCandidate *b)
{
	return a->priority != b->priority ? a->priority < b->priority : sup_spot_before(a->spot, b->spot);
}

void
sup_bounds_reset(SupBounds *bounds)
{
	for (int i = 0; i < SUP_PRIORITIES; i++)
		bounds->bound[i] = bounds->low[i] = first_spot;
}

/* Both, as nobody knows what a look that is under way has seen. */
void
sup_bounds_lower(SupBounds *bounds, int priority, SupSpot spot)
{
	if (sup_spot_before(spot, bounds->bound[priority]))
		bounds->bound[priority] = spot;
	if (sup_spot_before(spot, bounds->low[priority]))
		bounds->low[priority] = spot;
}

static void
remove_from_ring(SupRing *ring, int i)
{
	memmove(&ring->jobs[i], &ring->jobs[i + 1], sizeof(SupCandidate) * (--ring->n - i));
}

/* Is it the same job, as it was or as it is now? */
static bool
is_same(const SupCandidate *a, const SupCandidate *b)
{
	return a->spot.id == b->spot.id && a->priority == b->priority && a->spot.run_at == b->spot.run_at;
}

/*
 * Into its place, unless it is there already, or one that stands for it; what falls out
 * at the end is to be looked for again, as all that it stood for is.
 */
void
sup_bounds_add(SupBounds *bounds, SupRing *ring, const SupCandidate *job)
{
	int			place;

	if (ring == NULL)
	{
		sup_bounds_lower(bounds, job->priority, job->spot);
		return;
	}
	for (int i = ring->n - 1; i >= 0; i--)
	{
		const SupCandidate *other = &ring->jobs[i];
		bool		same_key = job->key != 0 && other->key == job->key && other->priority == job->priority;

		if (same_key && goes_before(other, job))
			return;
		if (same_key || is_same(other, job))
			remove_from_ring(ring, i);
	}
	place = ring->n;
	while (place > 0 && goes_before(job, &ring->jobs[place - 1]))
		place--;
	if (ring->n == SUP_RING_SIZE)
	{
		const SupCandidate *out = place == ring->n ? job : &ring->jobs[ring->n - 1];

		sup_bounds_lower(bounds, out->priority, out->spot);
		if (out == job)
			return;
		ring->n--;
	}
	memmove(&ring->jobs[place + 1], &ring->jobs[place], sizeof(SupCandidate) * (ring->n - place));
	ring->jobs[place] = *job;
	ring->n++;
}

/* From the next one on; not from itself, or it would be found again and again. */
void
sup_bounds_gone(SupBounds *bounds, const SupCandidate *job)
{
	SupSpot		next = {job->spot.run_at, job->spot.id + 1};

	if (job->key != 0)
		sup_bounds_lower(bounds, job->priority, next);
}

int64_t
sup_bounds_due(const SupBounds *bounds, const SupRing *ring)
{
	int64_t		due = ring != NULL && ring->n > 0 ? INT64_MIN : INT64_MAX;

	for (int i = 0; i < SUP_PRIORITIES; i++)
		if (bounds->bound[i].run_at < due)
			due = bounds->bound[i].run_at;
	return due;
}

/* The first one in the ring goes, unless one that is not there may be before it. */
SupStep
sup_bounds_step(const SupBounds *bounds, SupRing *ring, int64_t now, SupCandidate *taken)
{
	bool		has = ring != NULL && ring->n > 0;
	int			last = has ? ring->jobs[0].priority : SUP_PRIORITIES - 1;

	for (int i = 0; i <= last; i++)
	{
		if (bounds->bound[i].run_at > now)
			continue;
		if (has && i == last && !sup_spot_before(bounds->bound[i], ring->jobs[0].spot))
			continue;

		/* What he looks for may take long, and this one can be run. */
		if (!bounds->looking)
			return SUP_STEP_LOOK;
		if (!has)
			return SUP_STEP_WAIT;
	}
	if (!has)
		return SUP_STEP_NOTHING;
	*taken = ring->jobs[0];
	remove_from_ring(ring, 0);
	return SUP_STEP_TAKE;
}

/* The bounds stay where they are, as the look may fail. */
void
sup_bounds_begin_look(SupBounds *bounds)
{
	bounds->looking = true;
	for (int i = 0; i < SUP_PRIORITIES; i++)
		bounds->low[i] = last_spot;
}

void
sup_bounds_fail_look(SupBounds *bounds)
{
	bounds->looking = false;
}


void
sup_bounds_end_look(SupBounds *bounds, SupRing *ring, const SupSpot *end, const SupCandidate *found, int n)
{
	bounds->looking = false;
	for (int i = 0; i < SUP_PRIORITIES; i++)
		bounds->bound[i] = sup_spot_before(end[i], bounds->low[i]) ? end[i] : bounds->low[i];
	for (int i = 0; i < n; i++)
		sup_bounds_add(bounds, ring, &found[i]);
}

void
sup_passed_init(SupPassed *passed)
{
	passed->n = 0;
	for (int i = 0; i < SUP_PRIORITIES; i++)
		passed->first[i] = last_spot;
}

bool
sup_passed_over(SupPassed *passed, const SupCandidate *found, int n, const SupCandidate *job)
{
	if (job->key == 0)
		return false;
	for (int i = 0; i < passed->n; i++)
		if (passed->busy[i].key == job->key)
		{
			passed->busy[i].passed = true;
			if (sup_spot_before(job->spot, passed->first[job->priority]))
				passed->first[job->priority] = job->spot;
			return true;
		}
	while (--n >= 0 && found[n].priority == job->priority)
		if (found[n].key == job->key)
			return true;
	return false;
}

void
sup_bounds_drop_ring(SupBounds *bounds, SupRing *ring)
{
	for (int i = 0; i < ring->n; i++)
		sup_bounds_lower(bounds, ring->jobs[i].priority, ring->jobs[i].spot);
	ring->n = 0;
}
