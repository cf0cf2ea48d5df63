/*-------------------------------------------------------------------------
 *
 * due.c
 *	  Has jobs run when they are due.  For the supervisor only.
 *
 * Whoever tells of a job that is due has it run.  For those of the future each queue
 * has a deadline, as it has if it is to be tried again, and the supervisor sleeps
 * until the first of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "drain.h"
#include "due.h"

/* So many queues are looked at under one hold of the lock. */
#define ITEMS_PER_LOCK	64

/* What keeps queues from being served may have changed. */
static void
review(void)
{
	sup_drains_drop();
	for (int start = 0; start < SUP_QUEUES; start += ITEMS_PER_LOCK)
	{
		sup_lock();
		for (int i = start; i < start + ITEMS_PER_LOCK; i++)
			if (OidIsValid(SupJob->queues[i].database))
				sup_drain_offer(&SupJob->queues[i]);
		sup_unlock();
	}
}

/* What it was started with counts until it is read here, also where no supervisor is. */
void
sup_set_jobs(void)
{
	static int	retention = 0;
	static int	failure_retention = 0;

	sup_lock();
	if (sup_job_retention != retention || sup_job_failure_retention != failure_retention)
		Sup->load_all = true;	/* there may be something to remove now */
	retention = sup_job_retention;
	failure_retention = sup_job_failure_retention;
	SupJob->run_jobs = sup_run_jobs;
	strlcpy(SupJob->time_zone, pg_get_timezone_name(session_timezone), sizeof(SupJob->time_zone));
	SupJob->review = true;
	sup_unlock();
	sup_drains_retry(InvalidOid, InvalidOid);
}

/* Those that are due; others get a deadline meanwhile as they like. */
static void
offer_due(void)
{
	int64		now = GetCurrentTimestamp();
	int64		next;
	int			offered = 0;

	sup_lock();
	if (SupJob->next_due > now)
	{
		sup_unlock();
		return;
	}
	SupJob->next_due = PG_INT64_MAX;
	next = sup_queues_recall(now);
	for (int i = 0; i < SUP_QUEUES; i++)
	{
		if (SupJob->dues[i] > now)
		{
			next = Min(next, SupJob->dues[i]);
			continue;
		}
		sup_drain_offer(&SupJob->queues[i]);
		if (++offered % ITEMS_PER_LOCK == 0)
		{
			SupJob->next_due = Min(SupJob->next_due, next);
			sup_unlock();
			sup_lock();
		}
	}
	SupJob->next_due = Min(SupJob->next_due, next);
	sup_unlock();
}

TimestampTz
sup_look_at_jobs(void)
{
	static int64 clock_set = 0;
	int64		clock_was_set = clock_set;
	TimestampTz next = DT_NOEND;
	bool		all;

	clock_set = sup_clock_set();
	sup_lock();
	sup_drains_serve();
	all = SupJob->review || clock_set != clock_was_set;
	SupJob->review = false;
	if (all && SupJob->forgotten_ones)
		Sup->load_all = true;
	SupJob->forgotten_ones &= !all;
	sup_unlock();
	if (all)
		review();
	offer_due();
	sup_lock();
	if (SupJob->next_due != PG_INT64_MAX)
		next = sup_wall_to_steady(SupJob->next_due);
	/* then those that wait for the one that runs alone can go on */
	if (SupJob->alone_until > GetCurrentTimestamp())
		next = Min(next, sup_wall_to_steady(SupJob->alone_until));
	sup_unlock();
	return next;
}
