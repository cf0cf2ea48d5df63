/*-------------------------------------------------------------------------
 *
 * room.c
 *	  A session waits for room for a task that it launches.
 *
 * What makes room by its end is a task that was forgotten, or that its session
 * waits for.  One that a session has launched, and keeps, makes none until it is
 * read, which may be never: such are not waited for, this session's or
 * another's, or two sessions might wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "match.h"
#include "room.h"
#include "task.h"
#include "wait.h"

/* What a session waits for. */
typedef struct Wish
{
	SupLack		lack;
	Oid			role;			/* whose tasks must go; 0: anybody's */
} Wish;

/*
 * Will no task make room?  As long as there are some, the session that waits
 * may get their memory, too.  The caller holds the lock.
 */
static bool
is_hopeless(const Wish *wish)
{
	int			kept = Sup->nkept;
	int			tasks = OidIsValid(wish->role) ? sup_role_tasks(wish->role, &kept) : Sup->ntasks;

	return tasks <= kept;
}

/*
 * Whoever makes room says so.  That may go to another who does not need it, so
 * for an entry, which can be counted, we look as well; and whether anything is
 * left to wait for.
 */
static bool
room_came(void *arg)
{
	const Wish *wish = arg;
	int			kept;
	bool		came;

	if (Sup->sessions[sup_my_session()].room)
		return true;
	sup_lock();
	came = is_hopeless(wish) ||
		(wish->lack == SUP_LACK_TASKS && sup_task_has_entry()) ||
		(wish->lack == SUP_LACK_TASKS_OF_ROLE && sup_role_tasks(wish->role, &kept) < sup_max_tasks / 2);
	sup_unlock();
	return came;
}

/* Go on waiting for what was lacking the last time. */
static void
want(Wish *wish, SupLack lack)
{
	wish->lack = lack;
	wish->role = lack == SUP_LACK_TASKS_OF_ROLE || lack == SUP_LACK_MEMORY_OF_ROLE ? GetUserId() : InvalidOid;
	sup_want_room(wish->role);
}

/* Would it fit if there were no other task? */
static bool
ever_fits(const StringInfoData *input, SupLack lack)
{
	return !sup_lacks_memory(lack) ||
		sup_area_size(input->len) <= (superuser() ? (Size) sup_shared_memory * 1024 : SUP_HALF_OF_AREA);
}

/*
 * It has been tried once.  We are on the list before we try again, so that no
 * end of a task is missed.
 */
static void
wait_and_submit(const SupSubmission *submission, const StringInfoData *input, SupTaskRef *ref,
				SupLack lack)
{
	for (;;)
	{
		Wish		wish;
		bool		hopeless;

		want(&wish, lack);
		if (sup_task_submit(submission, 1, input, ref, &lack) > 0)
			return;
		want(&wish, lack);
		sup_lock();
		hopeless = is_hopeless(&wish);
		sup_unlock();
		if (hopeless)
			sup_refuse_task(lack);
		if (!sup_sleep_until(room_came, &wish, submission->deadline, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling task due to timeout"),
					 errdetail("There was no room for it in time.")));
	}
}

/* In a task it does not wait: its worker may be the one that others need. */
void
sup_task_launch(const SupSubmission *submission, const StringInfoData *input, SupTaskRef *ref)
{
	SupLack		lack;

	if (sup_task_submit(submission, 1, input, ref, &lack) > 0)
		return;
	if (sup_in_pool_worker() || !ever_fits(input, lack))
		sup_refuse_task(lack);
	PG_TRY();
	{
		wait_and_submit(submission, input, ref, lack);
	}
	PG_FINALLY();
	{
		sup_room_wanted();
	}
	PG_END_TRY();
}
