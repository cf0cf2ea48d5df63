/*-------------------------------------------------------------------------
 *
 * loads.c
 *	  Has the tables of declared workers read.  For the supervisor only.
 *
 * The supervisor has no database, so it can't read supervisor.worker.  A
 * short-lived process does that, the loader, for one database at a time: for
 * all at the start of the server and after promotion, and for one when its
 * table has changed.  What it read stays in shared memory.  Its background worker
 * slot is kept by its successor, which waits there for the next time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "declaration.h"
#include "drain.h"
#include "event.h"
#include "launch.h"
#include "lifecycle.h"
#include "loads.h"
#include "notes.h"
#include "transition.h"

/* A loader that failed is not tried more often, nor is a pass begun. */
#define RETRY_MIN_US	INT64CONST(1000000)

/* From one reading of a database to the next, if somebody goes on asking. */
#define INTERVAL_MIN_US	INT64CONST(100000)
#define INTERVAL_MAX_US	INT64CONST(1000000)

/* A loader has so long to get ready; each failure doubles it. */
#define PATIENCE_US		INT64CONST(2000000)

/* What took longer to fail, before its workers were read, holds up others. */
#define SLOW_US			INT64CONST(500000)

/* Where one failed, the next has so long before others go first ... */
#define GRACE_US		INT64CONST(100000)

/* ... and others are no earlier than this before it. */
#define BEHIND_US		INT64CONST(5000000)

/* Whom the pass over all databases is about, in order of their OIDs. */
static List *databases = NIL;

/* When to go through all databases because too many of them failed. */
static TimestampTz pass_due = DT_NOEND;

/* When the last pass began. */
static TimestampTz pass_began = 0;

/* Until then pg_database is locked. */
static TimestampTz locked_until = 0;

/* When the loader was sent. */
static TimestampTz loading_since;

/* When one that has no place is to get one, if it is not to read. */
static TimestampTz place_due = 0;

/* Whose turn it is: the pass's, or that of a database that was asked for. */
static bool pass_is_next = false;

/* Its workers can't run: say so. */
static void
shut_database(Oid database, const char *detail)
{
	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		if (d->database == database)
		{
			d->bad = SUP_DATABASE_NOT_ALLOWED;
			strlcpy(d->bad_detail, detail, sizeof(d->bad_detail));
			sup_attend_declaration(d);
		}
	}
	sup_unlock();
}

/* For list_sort(): ascending. */
static int
compare_oids(const ListCell *a, const ListCell *b)
{
	return lfirst_oid(a) < lfirst_oid(b) ? -1 : lfirst_oid(a) > lfirst_oid(b);
}

/* Whose requests are served by turns: see requested_load(). */
static void
note_owner(Form_pg_database form)
{
	SupLoad    *load;

	sup_lock();
	load = sup_load_of(form->oid);
	if (load != NULL)
	{
		load->owner = form->datdba;
		load->knows_owner = true;
	}
	sup_unlock();
}

/*
 * Look into pg_database, which a process without a database can: for one, or
 * with 0 for all whose declared workers shall run, which are returned in
 * order; *all, unless NULL, gets those that there are.  Those of the others are forgotten, or kept from running.  False:
 * it is locked.  We would not see to anything else while we wait for that.
 */
static bool
find_databases(Oid wanted, List **databases_found, List **all)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	if (!ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);
		return false;
	}
	rel = table_open(DatabaseRelationId, NoLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		const char *shut = NULL;
		MemoryContext oldcontext;

		CHECK_FOR_INTERRUPTS();
		note_owner(form);
		if (all != NULL)
		{
			oldcontext = MemoryContextSwitchTo(context);
			*all = lappend_oid(*all, form->oid);
			MemoryContextSwitchTo(oldcontext);
		}
		if (OidIsValid(wanted) && form->oid != wanted)
			continue;
		found = true;
		if (!sup_database_listed(NameStr(form->datname)))
		{
			sup_forget_database(form->oid);
			sup_lock();
			sup_drains_forget(form->oid);
			sup_unlock();
			continue;
		}
		if (form->datistemplate)
			shut = "its database is a template";
		else if (sup_database_invalid(form))
			shut = "its database is invalid";
		if (shut != NULL)
		{
			shut_database(form->oid, shut);
			continue;
		}
		oldcontext = MemoryContextSwitchTo(context);
		result = lappend_oid(result, form->oid);
		MemoryContextSwitchTo(oldcontext);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	if (OidIsValid(wanted) && !found)
		sup_forget_database(wanted);
	list_sort(result, compare_oids);
	*databases_found = result;
	return true;
}

/* Databases that were dropped while this library was not there to see it, and have left runs of jobs. */
static void
forget_left(const List *existing)
{
	Oid			database;
	int			next = 0;

	do
	{
		sup_lock();
		database = sup_left_database(&next);
		sup_unlock();
		if (!OidIsValid(database) || list_member_oid(existing, database))
			continue;
		sup_lock();
		sup_drains_forget(database);
		sup_unlock();
	} while (OidIsValid(database));
}

/* Databases that have declarations, and are gone. */
static void
forget_dropped(const List *existing)
{
	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		if (OidIsValid(d->database) && d->bad != SUP_DATABASE_NOT_ALLOWED &&
			!list_member_oid(existing, d->database))
		{
			d->gone = true;
			sup_attend_declaration(d);
		}
	}
	sup_unlock();
}

/*
 * Takes the lock.  Also once at the start of a supervisor, whose predecessor
 * may have left something undone.
 */
void
sup_set_loads(void)
{
	uint32		hash = hash_bytes((const unsigned char *) sup_databases, strlen(sup_databases));

	sup_lock();

	/*
	 * On a standby nobody tells of a change that the primary has made: a
	 * reload makes it look.
	 */
	if (hash != Sup->databases_hash || RecoveryInProgress())
		Sup->load_all = true;
	Sup->databases_hash = hash;

	/* A former supervisor may have died before it had a loader for these. */
	for (int i = 0; i < SUP_LOADS; i++)
		if (Sup->loads[i].due == DT_NOEND && Sup->loads[i].database != Sup->loading &&
			Sup->loads[i].read < Sup->loads[i].reading)
			Sup->loads[i].due = 0;
	sup_unlock();
}

/* A database is about to be read. */
static void
begin_load(SupLoad *load, TimestampTz now)
{
	SUP_ASSERT_LOCKED();
	load->interval = load->interval == 0 || load->awaited ? INTERVAL_MIN_US :
		Min(load->interval * 2, INTERVAL_MAX_US);
	load->due = DT_NOEND;		/* unless it is asked for again */
	load->awaited = false;
	load->began = now;
	load->reading = ++Sup->last_request;
}

/* It can't be read now. */
static void
put_off(Oid database, TimestampTz until)
{
	SupLoad    *load = sup_load_get(database);

	SUP_ASSERT_LOCKED();
	if (load != NULL)
		load->due = Min(load->due, until);
	else
		Sup->load_all = true;
}

/* Send the loader. */
static void
send_loader(Oid database, TimestampTz now)
{
	SupLoad    *load = sup_load_of(database);

	SUP_ASSERT_LOCKED();
	Sup->loading = database;
	Sup->loaded = false;
	Sup->load_patience = PATIENCE_US << (load != NULL ? Min(load->failures, 10) : 0);
	loading_since = now;
}

/* It has failed; false: not for the first time. */
static bool
load_failed(SupLoad *load, TimestampTz now)
{
	SupPolicy	policy = sup_default_policy();
	int64		delay;

	SUP_ASSERT_LOCKED();
	if (load == NULL)
	{
		pass_due = now + Max(policy.restart_delay_max, RETRY_MIN_US);
		return false;
	}
	load->failures++;
	load->slow = !Sup->loaded && now - loading_since > SLOW_US;
	delay = sup_policy_delay(&policy, load->failures, pg_prng_double(&pg_global_prng_state));
	load->due = now + Max(delay, RETRY_MIN_US);
	return load->failures == 1;
}

/* The loader has ended: was it well? */
static void
load_ended(TimestampTz now)
{
	SupSlot    *slot = sup_loader_slot();
	Oid			database = Sup->loading;
	const char *error = slot->last_error;
	SupLoad    *load;
	bool		news = false;

	if (slot->last_sqlstate == ERRCODE_ADMIN_SHUTDOWN)
		error = "it took too long";
	else if (slot->last_exit_code == -1)
		error = "the process did not start in time";
	sup_lock();
	Sup->loading = InvalidOid;
	load = sup_load_get(database);
	if (load != NULL && Sup->loaded)
		load->read = load->reading; /* its workers at least */
	if (slot->last_exit_code != 0)
		news = load_failed(load, now);
	else if (load != NULL && Sup->loaded)
		load->failures = 0;
	else
		put_off(database, loading_since + INTERVAL_MIN_US); /* a fence was in its
															 * way */
	if (news)
	{
		char		detail[SUP_MESSAGE];

		snprintf(detail, sizeof(detail), "database %u: %.200s", database, error);
		sup_add_event(NULL, "loader failed", detail);
	}
	sup_unlock();
	ConditionVariableBroadcast(&Sup->changed);
	if (news)
		ereport(LOG,
				(errmsg("could not read the declared workers or jobs of database %u: %s",
						database, error),
				 errdetail("It is tried again with growing delays.")));
}

/* Is it a database's turn, unless others go first? */
static bool
load_is_due(const SupLoad *load, TimestampTz now)
{
	return OidIsValid(load->database) && load->due <= now && !sup_database_fenced(load->database);
}

/*
 * The loader reads a database where it has failed before: others do not wait
 * for that.  Returns when to look again.
 */
static TimestampTz
cut_short(TimestampTz now)
{
	SupSlot    *slot = sup_loader_slot();
	SupLoad    *load;
	TimestampTz when = DT_NOEND;

	sup_lock();
	load = sup_load_of(Sup->loading);
	if (load != NULL && load->failures > 0 && slot->leave == SUP_STAY)
	{
		if (Sup->load_all || OidIsValid(Sup->load_cursor))
			when = now;
		for (int i = 0; i < SUP_LOADS; i++)
			if (OidIsValid(Sup->loads[i].database) && Sup->loads[i].failures == 0 &&
				!sup_database_fenced(Sup->loads[i].database))
				when = Min(when, Sup->loads[i].due);
		when = Max(when, loading_since + GRACE_US);
		if (now >= when)
		{
			/* before it is there, the postmaster would forget its place */
			if (slot->attached_at != 0)
				sup_end_process(slot, SUP_LEAVE_RECYCLE);
			else
				slot->leave = SUP_LEAVE_RECYCLE;
			when = DT_NOEND;
		}
	}
	sup_unlock();
	return when;
}

/* The later, the less urgent: who asks for a database again and again holds up that one. */
static TimestampTz
urgency(const SupLoad *load)
{
	if (load->failures > 0)
		return load->due + BEHIND_US;
	return (load->began != 0 ? load->began : load->due - BEHIND_US) - (load->awaited ? BEHIND_US : 0);
}

/*
 * When one of each owner's databases was last read.  One who has many, and asks for all of them again and
 * again, holds up these, and not those of others.
 */
static void
find_served(TimestampTz *served)
{
	SUP_ASSERT_LOCKED();
	memset(served, 0, SUP_LOAD_OWNERS * sizeof(TimestampTz));
	for (int i = 0; i < SUP_LOADS; i++)
	{
		const SupLoad *load = &Sup->loads[i];
		int			owner = sup_load_owner_index(load);

		if (OidIsValid(load->database))
			served[owner] = Max(served[owner], load->began);
	}
}

/* What has failed comes later; whose owner is not known yet is known the next time. */
static TimestampTz
turn_of(const SupLoad *load, const TimestampTz *served, TimestampTz now)
{
	if (load->failures > 0)
		return load->due + BEHIND_US;
	return load->knows_owner ? served[sup_load_owner_index(load)] : now;
}

static bool
goes_before(const SupLoad *load, const SupLoad *other, const TimestampTz *served, TimestampTz now)
{
	TimestampTz turn = turn_of(load, served, now);
	TimestampTz turn_of_other = turn_of(other, served, now);

	return turn < turn_of_other || (turn == turn_of_other && urgency(load) < urgency(other));
}

/*
 * Of the databases that somebody asked for, those of the owner whose turn it is, the one that was read
 * longest ago; 'next' is when another one falls due.
 */
static Oid
requested_load(TimestampTz now, TimestampTz *next)
{
	TimestampTz served[SUP_LOAD_OWNERS];
	SupLoad    *first = NULL;
	Oid			database = InvalidOid;

	sup_lock();
	find_served(served);
	for (int i = 0; i < SUP_LOADS; i++)
	{
		SupLoad    *load = &Sup->loads[i];

		if (OidIsValid(load->database) && load->due > now)
			*next = Min(*next, load->due);
		else if (load_is_due(load, now) && (first == NULL || goes_before(load, first, served, now)))
			first = load;
	}
	if (first != NULL)
	{
		database = first->database;
		begin_load(first, now);
	}
	sup_unlock();
	return database;
}

/* The next database of the pass over all of them. */
static Oid
next_of_pass(TimestampTz now, TimestampTz *next)
{
	Oid			database = InvalidOid;
	ListCell   *lc;

	/* One that is under way comes to its end first, or it might never. */
	if ((now >= pass_due || Sup->load_all) && !OidIsValid(Sup->load_cursor))
	{
		if (now < pass_began + RETRY_MIN_US)
		{
			*next = Min(*next, pass_began + RETRY_MIN_US);
			return InvalidOid;
		}
		pass_due = DT_NOEND;
		pass_began = now;
		sup_lock();
		Sup->load_all = false;
		Sup->load_cursor = 1;
		sup_unlock();
		list_free(databases);
		databases = NIL;
	}
	*next = Min(*next, pass_due);
	if (!OidIsValid(Sup->load_cursor))
		return InvalidOid;

	if (databases == NIL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
		List	   *all = NIL;
		bool		found = find_databases(InvalidOid, &databases, &all);

		MemoryContextSwitchTo(oldcontext);
		if (!found)
		{
			locked_until = now + RETRY_MIN_US;
			return InvalidOid;
		}
		forget_dropped(databases);
		if (!RecoveryInProgress())
			forget_left(all);
		list_free(all);
	}

	sup_lock();
	foreach(lc, databases)
	{
		Oid			candidate = lfirst_oid(lc);
		SupLoad    *load;

		if (candidate < Sup->load_cursor)
			continue;
		Sup->load_cursor = candidate + 1;
		load = sup_load_get(candidate);
		if (load != NULL && load->failures > 0)
			continue;			/* it has its own time */
		if (!sup_database_fenced(candidate))
		{
			database = candidate;
			if (load != NULL)
				begin_load(load, now);
			break;
		}
		sup_request_load(candidate);	/* the others need not wait for that */
	}
	if (!OidIsValid(database))
	{
		Sup->load_cursor = InvalidOid;	/* that was the last */
		if (Sup->load_all)
			*next = now;
	}
	sup_unlock();
	return database;
}

/* The database that was asked for, if its declared workers shall run. */
static Oid
requested_database(TimestampTz now, TimestampTz *next)
{
	Oid			database = requested_load(now, next);
	List	   *found = NIL;
	SupLoad    *load;

	if (!OidIsValid(database))
		return InvalidOid;
	if (find_databases(database, &found, NULL))
	{
		if (found != NIL)
			return database;
		sup_lock();
		load = sup_load_of(database);
		if (load != NULL)
		{
			load->read = load->reading;
			load->failures = 0; /* or it would have no time when it is listed */
		}
		sup_unlock();
		ConditionVariableBroadcast(&Sup->changed);
		*next = now;
		return InvalidOid;
	}
	locked_until = now + RETRY_MIN_US;
	sup_lock();
	put_off(database, locked_until);
	sup_unlock();
	return InvalidOid;
}

/*
 * On a standby a process is registered that starts, and ends, when recovery has
 * finished: the postmaster tells of that.  Returns when to try again.
 */
static TimestampTz
await_promotion(TimestampTz now)
{
	static bool awaited = false;
	static TimestampTz due = 0;

	if (awaited || !Sup->in_recovery)
		return DT_NOEND;
	if (now >= due)
	{
		/* Died in between, we would leave one that nobody knows. */
		HOLD_INTERRUPTS();
		if (Sup->has_herald)	/* it tells a former supervisor */
			sup_launch_forget(&Sup->herald);
		awaited = Sup->has_herald = sup_launch_herald(&Sup->herald);
		RESUME_INTERRUPTS();
		due = now + RETRY_MIN_US;
	}
	return awaited ? DT_NOEND : due;
}

/* It has been promoted, if that is so. */
static void
look_at_recovery(void)
{
	bool		recovery = RecoveryInProgress();

	sup_lock();
	if (Sup->in_recovery && !recovery)
	{
		Sup->load_all = Sup->check_prepared = true;
		for (int i = 0; i < sup_nslots(); i++)
			if (Sup->slots[i].state == SUP_WAITING && Sup->slots[i].reason == SUP_RECOVERY)
				sup_attend(&Sup->slots[i]);
	}
	Sup->in_recovery = recovery;
	sup_unlock();
}

/* Send the loader, if one can be sent, and that database is to be read, or it has no place. */
static TimestampTz
send_if_due(Oid database, TimestampTz now)
{
	SupSlot    *slot = sup_loader_slot();
	bool		wanted = OidIsValid(database);
	TimestampTz next = DT_NOEND;

	sup_lock();
	if (slot->state == SUP_EMPTY && !wanted && !slot->keeps_place)
	{
		wanted = now >= place_due;
		if (!wanted)
			next = place_due;
	}
	if (slot->state == SUP_EMPTY && wanted)
	{
		send_loader(database, now);
		sup_take_loader_slot(now);
		place_due = now + RETRY_MIN_US;
	}
	else if (OidIsValid(database) && !sup_has_process(slot))
		send_loader(database, now); /* it has yet to start: let it read */
	else if (OidIsValid(database))
		put_off(database, now); /* it is soon done, as it reads nothing */
	sup_unlock();
	return next;
}

/*
 * Takes note of a loader that has ended, says which database is next, and
 * sends a loader there.  There is one at a time.
 */
TimestampTz
sup_look_at_loads(TimestampTz now)
{
	TimestampTz next;
	Oid			database = InvalidOid;

	if (sup_loader_slot()->state == SUP_EMPTY && OidIsValid(Sup->loading))
		load_ended(now);
	look_at_recovery();
	sup_look_at_prepared();
	next = await_promotion(now);

	if (OidIsValid(Sup->loading))
		return Min(next, cut_short(now));	/* one at a time */
	if (now < locked_until)
		return Min(next, locked_until);

	/* By turns: nobody shall hold up the pass by asking again and again. */
	pass_is_next = !pass_is_next;
	if (pass_is_next)
		database = next_of_pass(now, &next);
	if (!OidIsValid(database) && now >= locked_until)
		database = requested_database(now, &next);
	if (!OidIsValid(database) && now >= locked_until && !pass_is_next)
		database = next_of_pass(now, &next);
	if (now < locked_until)
		return Min(next, locked_until);
	return Min(next, send_if_due(database, now));
}
