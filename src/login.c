/*-------------------------------------------------------------------------
 *
 * login.c
 *	  Logins of pool workers, which take as long as others like.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "login.h"

/*
 * A login may take so long while others wait.  Those to databases where one
 * had to be given up together take that part of a pool, and one worker at
 * least.
 */
#define LOGIN_ALLOWED_US	INT64CONST(1000000)
#define SLOW_PART	4

/*
 * What holds others up for longer than that, does so for a part of its time
 * only.
 */
#define LONGEST_PAUSE_US	INT64CONST(60000000)

/*
 * Slow databases.  A login takes no cancel, and hangs if its database's owner
 * likes: so one that has taken long is given up where another database waits,
 * and the next one may take twice as long.  What is slow for good reasons gets
 * there in the end.
 */

/* NULL: it is not known to be slow. */
SupSlow *
sup_slow_of(int pool, Oid database)
{
	for (int i = 0; i < SUP_SLOW && Sup->nslow > 0; i++)
		if (Sup->slow[i].database == database && Sup->slow[i].pool == pool)
			return &Sup->slow[i];
	return NULL;
}

/*
 * The same, or a new entry: a free one, or the least slow; NULL: all are in
 * use.
 */
static SupSlow *
slow_get(int pool, Oid database)
{
	SupSlow    *slow = sup_slow_of(pool, database);

	if (slow != NULL)
		return slow;
	for (int i = 0; i < SUP_SLOW && (slow == NULL || OidIsValid(slow->database)); i++)
	{
		SupSlow    *s = &Sup->slow[i];

		if (!OidIsValid(s->database) ||
			(s->logins == 0 && (slow == NULL || s->allowed < slow->allowed)))
			slow = s;
	}
	if (slow == NULL)
		return NULL;
	Sup->nslow += !OidIsValid(slow->database);
	memset(slow, 0, sizeof(SupSlow));
	slow->database = database;
	slow->pool = pool;
	slow->allowed = LOGIN_ALLOWED_US;
	return slow;
}

/* The login of this slot is to that slow database; NULL: to none. */
static void
count_slow(SupSlot *slot, SupSlow *slow)
{
	slot->slow = slow;
	if (slow == NULL)
		return;
	slow->logins++;
	Sup->pools[slot->pool].nslow++;
}

/* As many logins to slow databases as the pool has room for? */
bool
sup_slow_are_full(const SupPool *pool)
{
	return pool->nslow >= Max(pool->size / SLOW_PART, 1);
}

/* Until when none begins there; 0: one may now. */
TimestampTz
sup_slow_held_until(const SupSlow *slow, TimestampTz now)
{
	TimestampTz until = Max(slow->held_until, Sup->pools[slow->pool].slow_held_until);

	return until > now ? until : 0;
}

/* It begins. */
void
sup_login_begin(SupSlot *slot, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	slot->begun = true;
	slot->phase = SUP_PHASE_CONNECT;
	slot->overdue_at = now + slot->allowed;
	if (sup_start_timeout > 0)
		slot->login_until = TimestampTzPlusMilliseconds(now, sup_start_timeout);
	sup_attend(slot);
}

/* It lasts longer than is allowed: the database is slow. */
void
sup_login_mark(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	if (slot->slow == NULL)
		count_slow(slot, slow_get(slot->pool, slot->database));
}

/* Its worker has been given a task, for which it will have to log in. */
void
sup_login_expect(SupSlot *slot)
{
	SUP_ASSERT_LOCKED();
	count_slow(slot, sup_slow_of(slot->pool, slot->database));
	slot->allowed = Max(slot->slow != NULL ? slot->slow->allowed : 0, LOGIN_ALLOWED_US);
}

/*
 * A login has succeeded, as the slot's phase says, or is given up.  Much
 * quicker than it might have been, it makes the database less slow, and not
 * at once as quick as any: its owner may let one through to have many hang.
 */
void
sup_login_over(SupSlot *slot)
{
	SupSlow    *slow = slot->slow;
	SupPool    *pool;
	TimestampTz now = sup_now();
	bool		late = slot->overdue || slot->overdue_at <= now;
	int64		longest = sup_start_timeout > 0 ? sup_start_timeout * INT64CONST(1000) : PG_INT64_MAX;

	SUP_ASSERT_LOCKED();
	slot->login_until = slot->overdue_at = DT_NOEND;
	if (slot->overdue)
		dlist_delete(&slot->pool_node);
	slot->overdue = false;
	if (slow == NULL)
		return;

	pool = &Sup->pools[slot->pool];
	slot->slow = NULL;
	slow->logins--;
	pool->nslow--;
	pool->slow_waits = false;
	if (slot->phase == SUP_PHASE_RUN)
	{
		slow->held_until = 0;
		if (now - slot->given_at < slot->allowed / 2)
			slow->allowed /= 2;
	}
	else if (late)
	{
		slow->allowed = Max(slow->allowed, Min(2 * slot->allowed, longest));
		/* Others first, and where it takes all there is, for as long. */
		slow->held_until = now + LOGIN_ALLOWED_US;
		if (pool->size <= 1)
			pool->slow_held_until = now + Min(slot->allowed, LONGEST_PAUSE_US);
	}
	if (slow->logins == 0 && slow->allowed <= LOGIN_ALLOWED_US)
	{
		slow->database = InvalidOid;
		Sup->nslow--;
	}
	if (pool->nblocked > 0)
		sup_attend_pool(pool);
}

/* Its workers are gone, and so are their logins. */
void
sup_slow_forget(int pool)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_SLOW; i++)
		if (OidIsValid(Sup->slow[i].database) && Sup->slow[i].pool == pool)
		{
			Assert(Sup->slow[i].logins == 0);
			Sup->slow[i].database = InvalidOid;
			Sup->nslow--;
		}
	Sup->pools[pool].slow_held_until = 0;
}
