/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The ring of events.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "event.h"

/*
 * Events like one of the last of their slot, within that time: so many are told
 * one by one, and the rest is counted.
 */
#define REPEATS_KEPT	10
#define REPEATED_WITHIN_US	INT64CONST(3600000000)

/* Of the ring of events, what a role can fill at others' cost. */
#define EVENTS_OF_ROLE	(SUP_EVENTS / 10)

/*
 * Where in the ring an event goes that counts for a role.  As long as there is
 * room, there.  A role that has more than its share overwrites its own oldest;
 * others overwrite those of such roles first.
 */
static int
place_for_event(Oid cause)
{
	/* by hash, so that two may be counted as one: that is no harm */
	uint16		counts[2048] = {0};
	int			oldest = 0;
	int			oldest_own = -1;
	int			oldest_beyond = -1;

#define COUNT_OF(role) counts[murmurhash32(role) % lengthof(counts)]
	if (Sup->last_event_id < SUP_EVENTS)
		return (int) Sup->last_event_id;
	for (int i = 0; i < SUP_EVENTS; i++)
		if (OidIsValid(Sup->event_keys[i].cause))
			COUNT_OF(Sup->event_keys[i].cause)++;
	for (int i = 0; i < SUP_EVENTS; i++)
	{
		const SupEventKey *key = &Sup->event_keys[i];

		if (key->id < Sup->event_keys[oldest].id)
			oldest = i;
		if (!OidIsValid(key->cause) || COUNT_OF(key->cause) < EVENTS_OF_ROLE)
			continue;
		if (key->cause == cause &&
			(oldest_own < 0 || key->id < Sup->event_keys[oldest_own].id))
			oldest_own = i;
		if (COUNT_OF(key->cause) > EVENTS_OF_ROLE &&
			(oldest_beyond < 0 || key->id < Sup->event_keys[oldest_beyond].id))
			oldest_beyond = i;
	}
#undef COUNT_OF
	return oldest_own >= 0 ? oldest_own : oldest_beyond >= 0 ? oldest_beyond : oldest;
}

/* Which of a slot's last events was like that one; -1: none, or it is long ago. */
static int
find_recent(const SupSlot *slot, const char *event, const char *detail, Oid role, TimestampTz now)
{
	for (int i = 0; i < SUP_RECENT; i++)
	{
		const SupEvent *e = &Sup->events[slot->recent.places[i]];

		if (slot->recent.ids[i] != 0 && e->id == slot->recent.ids[i] && e->role == role &&
			now - e->last_at <= REPEATED_WITHIN_US && strcmp(e->event, event) == 0 &&
			strncmp(e->detail, detail, sizeof(e->detail) - 1) == 0 &&
			strcmp(e->name, sup_slot_name(slot)) == 0)
			return i;
	}
	return -1;
}

/*
 * Add to the ring of events.  'slot' may be NULL; the caller holds the lock.
 *
 * A declared worker that is started again and again, for whatever reason, is
 * not to fill the ring with what repeats itself.  What pool workers do is told
 * each time: it is of some role, which has a share.
 */
void
sup_add_event(SupSlot *slot, const char *event, const char *detail)
{
	TimestampTz now = sup_now();
	Oid			cause = InvalidOid;
	Oid			role = InvalidOid;
	bool		repeats = false;
	int			recent = -1;
	int			place;
	SupEvent   *e;

	SUP_ASSERT_LOCKED();
	detail = detail ? detail : "";

	/*
	 * an exited worker has no role any more, but its last words are that
	 * role's
	 */
	if (slot != NULL)
		role = slot->exited_at != 0 ? slot->last_role :
			slot->kind == SUP_KIND_POOL ? slot->role : sup_slot_role(slot);
	if (slot != NULL && slot->declaration >= 0)
	{
		recent = find_recent(slot, event, detail, role, now);
		if (recent >= 0)
			repeats = ++slot->recent.repeats[recent] >= REPEATS_KEPT;
		else
		{
			recent = slot->recent.next;
			slot->recent.next = (recent + 1) % SUP_RECENT;
			slot->recent.repeats[recent] = 0;
		}
	}

	/* What takes the place of a process that a role had counts for that role. */
	if (slot != NULL)
		cause = slot->kind == SUP_KIND_POOL && !OidIsValid(slot->role) ? slot->last_role :
			sup_slot_role(slot);
	place = repeats ? slot->recent.places[recent] : place_for_event(cause);
	e = &Sup->events[place];
	if (!repeats)
	{
		e->id = ++Sup->last_event_id;
		Sup->event_keys[place].id = e->id;
		Sup->event_keys[place].cause = cause;
		e->at = now;
		e->count = 0;
	}
	e->last_at = now;
	e->count++;
	if (recent >= 0)
	{
		slot->recent.places[recent] = place;
		slot->recent.ids[recent] = e->id;
	}
	e->slot = slot ? sup_slot_index(slot) : -1;
	e->generation = slot ? slot->generation : 0;
	/* one that is about to start has none yet, even if it has been quick */
	if (slot == NULL || slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		e->pid = 0;
	else
		e->pid = slot->exited_at != 0 ? slot->exited_pid : slot->pid;
	e->role = role;
	strlcpy(e->name, slot ? sup_slot_name(slot) : "", sizeof(e->name));
	strlcpy(e->event, event, sizeof(e->event));
	strlcpy(e->detail, detail, sizeof(e->detail));
}
