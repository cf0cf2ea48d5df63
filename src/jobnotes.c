/*-------------------------------------------------------------------------
 *
 * jobnotes.c
 *	  What a transaction has to tell of jobs when it commits.
 *
 * A subtransaction that is rolled back leaves its notes: then somebody looks,
 * and finds nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "declaration.h"
#include "drain.h"
#include "jobnotes.h"

/* Whoever enqueues for more queues in one transaction has the whole database looked through. */
#define MAX_NOTES	1024

static SupJobNote *notes = NULL;
static int	nnotes = 0;
static int	max_notes = 0;
static bool any = false;
static SupChanged changed = {0};

void
sup_job_note_init(SupJobNote *note, Oid role, Oid account, const char *pool)
{
	memset(note, 0, sizeof(SupJobNote));
	note->database = MyDatabaseId;
	note->role = role;
	note->account = account;
	strlcpy(note->pool, pool, NAMEDATALEN);
	for (int i = 0; i < SUP_PRIORITIES; i++)
		note->first[i].run_at = note->first[i].id = PG_INT64_MAX;
}

/* That of a queue; NULL: there is no room.  The last one is the likeliest. */
static SupJobNote *
note_of(Oid role, Oid account, const char *pool)
{
	SupJobNote *note;

	for (int i = nnotes - 1; i >= 0; i--)
		if (notes[i].role == role && strcmp(notes[i].pool, pool) == 0)
			return &notes[i];
	if (nnotes == MAX_NOTES)
		return NULL;
	if (max_notes == 0)
	{
		notes = MemoryContextAlloc(TopTransactionContext, 4 * sizeof(SupJobNote));
		max_notes = 4;
	}
	else if (nnotes == max_notes)
	{
		notes = repalloc(notes, 2 * max_notes * sizeof(SupJobNote));
		max_notes *= 2;
	}
	note = &notes[nnotes++];
	sup_job_note_init(note, role, account, pool);
	return note;
}

/* One that is never due is not told. */
void
sup_note_job(Oid role, Oid account, const char *pool, int priority, SupSpot spot)
{
	SupJobNote *note;

	if (spot.run_at == PG_INT64_MAX || any)
		return;
	note = note_of(role, account, pool);
	if (note == NULL)
		any = true;
	else if (sup_spot_before(spot, note->first[priority]))
		note->first[priority] = spot;
}

void
sup_note_changed_job(Oid role, Oid account, const char *pool, int priority, SupSpot spot)
{
	sup_note_job(role, account, pool, priority, spot);
	changed.database = MyDatabaseId;
	changed.role = changed.n == 0 || changed.role == role ? role : InvalidOid;
	for (int i = 0; i < changed.n && i < SUP_CHANGED; i++)
		if (changed.ids[i] == spot.id)
			return;
	if (changed.n < SUP_CHANGED)
		changed.ids[changed.n] = spot.id;
	if (changed.n <= SUP_CHANGED)
		changed.n++;
}

void
sup_note_any_jobs(void)
{
	any = true;
	changed.database = MyDatabaseId;
	changed.role = InvalidOid;
	changed.n = SUP_CHANGED + 1;
}

const SupJobNote *
sup_job_notes(int *n)
{
	*n = nnotes;
	return notes;
}

bool
sup_notes_any_jobs(void)
{
	return any;
}

const SupChanged *
sup_notes_changed_jobs(void)
{
	return &changed;
}

/* The lock is taken for each queue. */
void
sup_publish_jobs(const SupJobNote *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		const SupJobNote *note = &list[i];
		SupJobQueue *queue;

		sup_injection_point("supervisor-publish");
		sup_lock();
		queue = sup_queue_get(note->database, note->role, note->pool);
		if (queue == NULL)
			sup_request_load(note->database);
		else
		{
			queue->account = note->account;
			for (int j = 0; j < SUP_PRIORITIES; j++)
				if (note->first[j].run_at != PG_INT64_MAX)
					sup_bounds_lower(&queue->bounds, j, note->first[j]);
			sup_drain_offer(queue);
		}
		sup_unlock();
	}
}

void
sup_publish_job(SupJobQueue *queue, const char *pool, const SupCandidate *job)
{
	SupJobQueue *other;

	sup_lock();
	other = sup_queue_get(queue->database, queue->role, pool);
	if (other == NULL)
		sup_request_load(queue->database);
	else
	{
		other->account = queue->account;
		sup_bounds_add(&other->bounds, other->ring, job);
		if (other != queue)
			sup_drain_offer(other);
	}
	sup_unlock();
}

void
sup_publish_any_jobs(Oid database)
{
	sup_lock();
	sup_queues_reset(database);
	sup_request_load(database);
	sup_unlock();
	sup_tell_job_waiters(database, 0);
}

void
sup_forget_job_notes(void)
{
	notes = NULL;
	nnotes = max_notes = 0;
	any = false;
	changed.n = 0;
}
