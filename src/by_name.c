/*-------------------------------------------------------------------------
 *
 * by_name.c
 *	  The SQL functions that start, stop and restart a declared worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "args.h"
#include "catalog.h"
#include "compat.h"
#include "declaration.h"
#include "managed.h"
#include "notes.h"
#include "rights.h"
#include "wait.h"

typedef struct NameControl
{
	Oid			database;
	const char *name;
	SupProgram	program;		/* which the caller has been found to have the
								 * rights for */
	uint64	   *generations;	/* per slot, those that don't count, plus 1 */
	bool		held;			/* ... to be started or stopped by us: see
								 * below */
	bool		switches;		/* ... it is to be */
	bool		on;
	bool		failed;			/* there is nothing to wait for any more */
	bool		listed;			/* in supervisor.stopped_workers */
	uint64		request;		/* the reading that is awaited serves it */
} NameControl;

/*
 * Does it take the rights that the caller has been found to have?  It may be
 * of another row of that name, one that is gone, or has just come.
 */
static bool
rights_are_checked(const NameControl *c, const SupDeclaration *d)
{
	return d->program.kind == c->program.kind && d->program.role == c->program.role &&
		d->program.bypass_allowconn == c->program.bypass_allowconn &&
		d->program.bypass_rolelogincheck == c->program.bypass_rolelogincheck;
}

/*
 * Start or stop a worker at once; at the end of the transaction it follows its
 * row again.  One that has not been read yet is, when it comes: it may come
 * with the row as it was before.  The caller holds the lock.
 */
static void
hold_worker(NameControl *c, SupDeclaration *d)
{
	dlist_iter	iter;

	SUP_ASSERT_LOCKED();
	if (!c->switches || c->held || d == NULL || !rights_are_checked(c, d))
		return;
	c->held = true;
	d->terms.enabled = c->on;
	sup_declaration_rests(d, !c->on);
	d->start |= c->on;
	d->started_version = c->on ? d->version : 0;
	if (OidIsValid(c->database))
	{
		d->holder = MyProcPid;
		sup_note_hold();
	}

	/* Where there is no process, it is a new one that is awaited. */
	dlist_foreach(iter, &d->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (!sup_has_process(slot))
			c->generations[sup_slot_index(slot)] = slot->generation + 1;
	}
	sup_attend_declaration(d);
}

/*
 * All instances that shall run do, or have done so, or at least one has failed
 * and no other follows.  Takes the lock.
 */
static bool
all_started(void *arg)
{
	NameControl *c = arg;
	SupDeclaration *d;
	int			ready = 0;
	int			given_up = 0;
	bool		done;
	dlist_iter	iter;

	sup_lock();
	d = sup_declaration_find(c->database, c->name);
	hold_worker(c, d);
	if (d != NULL)
	{
		dlist_foreach(iter, &d->slots)
		{
			SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

			if (c->generations[sup_slot_index(slot)] == slot->generation + 1)
				continue;
			if (slot->version == d->version && slot->leave == SUP_STAY && sup_has_started(slot))
				ready++;
			else if (slot->state == SUP_STOPPED || slot->state == SUP_FAILED)
				given_up++;
		}
	}
	done = d != NULL && !d->gone && c->held == c->switches && ready + given_up >= d->terms.instances;
	c->failed = done && given_up > 0;
	sup_unlock();
	return done;
}

/* No instance has a process.  Takes the lock. */
static bool
all_stopped(void *arg)
{
	NameControl *c = arg;
	SupDeclaration *d;
	bool		done = true;
	dlist_iter	iter;

	sup_lock();
	d = sup_declaration_find(c->database, c->name);
	hold_worker(c, d);
	if (d != NULL)
	{
		dlist_foreach(iter, &d->slots)
		{
			SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

			done &= slot->state == SUP_STOPPED || slot->state == SUP_FAILED ||
				slot->state == SUP_EMPTY;
		}
	}
	sup_unlock();
	return done;
}

/*
 * Find the row of that name, or the declaration of a library.  Returns the
 * table; 0: it has no such row.  Which function is to change the row, that it
 * is locked for, is in 'changes'; NULL: none.  'enabled' is what row or
 * declaration says.
 */
static Oid
find_worker(FunctionCallInfo fcinfo, const char *changes, NameControl *control, SupTuple *row,
			bool *enabled)
{
	const char *complaint;
	Oid			table;
	SupInC		in_c;
	bool		found;

	sup_require_preload();
	sup_check_manage_place();
	control->name = sup_worker_name_arg(fcinfo);
	control->database = MyDatabaseId;
	control->generations = palloc0(sizeof(uint64) * sup_nslots());
	control->switches = control->held = control->listed = false;
	sup_await_supervisor();
	table = sup_catalog_table(&complaint);

	/* A standby's workers of libraries have no row, and can be stopped there. */
	found = OidIsValid(table) && sup_catalog_find(table, control->name, row);
	if (found && changes != NULL)
	{
		table = sup_worker_table(changes);
		found = sup_catalog_lock_row(table, control->name, row);
	}
	if (found)
	{
		SupRow		parsed;

		if (sup_find_in_c(control->name, &in_c))
			ereport(NOTICE,
					(errmsg("worker \"%s\" is the one that database \"%s\" has added",
							control->name, get_database_name(MyDatabaseId)),
					 errdetail("That of a library is found by this name from other databases.")));
		sup_row_parse(row->values, row->nulls, &parsed);
		memcpy(&control->program, &parsed.program, sizeof(SupProgram));
		*enabled = parsed.terms.enabled;
		return table;
	}
	control->database = InvalidOid;
	found = sup_find_in_c(control->name, &in_c);
	if (found)
	{
		memcpy(&control->program, &in_c.program, sizeof(SupProgram));
		*enabled = in_c.enabled;
	}
	if (!found && complaint != NULL)
		sup_table_is_not_run(complaint);
	if (!found)
		sup_no_such_worker(control->name);
	return InvalidOid;
}

/* All changes of the database's table that had committed have been read.  Takes the lock. */
static bool
table_is_read(void *arg)
{
	const NameControl *c = arg;
	bool		done;

	sup_lock();
	done = sup_load_done(c->database, c->request);
	sup_unlock();
	return done;
}

/* Who has just fixed a worker, and now starts it, means it as it is now. */
static void
await_reading(NameControl *control, TimestampTz deadline)
{
	if (!OidIsValid(control->database))
		return;
	sup_lock();
	control->request = sup_await_load(control->database);
	sup_unlock();
	(void) sup_await_change(table_is_read, control, deadline);
}

/* Why it is in vain to wait for the start of a worker; NULL: it is not. */
static const char *
why_not_now(const NameControl *control, bool known)
{
	if (!sup_start_workers)
		return "\"supervisor.start_workers\" is off.";
	if (control->listed)
		return "It is in \"supervisor.stopped_workers\".";

	/* One that was added in this transaction has not been seen by anybody. */
	if (!known && sup_has_added())
		return "It is started when the transaction that added it commits.";
	if (!known && !sup_database_listed(get_database_name(MyDatabaseId)))
		return "Its database is not in \"supervisor.databases\".";
	return NULL;
}

/* Wait until it is done, or say that it is not. */
static bool
await_worker(const char *what, const char *why_not, bool (*done) (void *arg), NameControl *control,
			 TimestampTz deadline)
{
	control->failed = false;
	if (why_not == NULL && sup_await_change(done, control, deadline) && !control->failed)
		return true;
	if (control->failed)
		why_not = "It has ended, as supervisor.worker_status tells.";
	ereport(WARNING,
			(errmsg("worker \"%s\" has not %s yet", control->name, what),
			 errdetail_internal("%s", why_not ? why_not : "The request stands.")));
	return false;
}

/*
 * What is known of the worker may still be of the row as it was.  It is acted
 * on if the caller may manage that, too, or else once it is as the row is now.
 */
static void
check_declaration(NameControl *control)
{
	SupProgram	program;
	SupDeclaration *d;
	bool		differs;

	sup_lock();
	d = sup_declaration_find(control->database, control->name);
	differs = d != NULL && !rights_are_checked(control, d);
	if (differs)
		memcpy(&program, &d->program, sizeof(SupProgram));
	sup_unlock();
	if (differs && sup_may_manage(&program))
		memcpy(&control->program, &program, sizeof(SupProgram));
}

/*
 * Start or stop a worker by its name: in its row, if it has one, and at
 * once, as the caller waits for it.  After a rollback it follows its row
 * again.  Returns false, with a WARNING, if that has failed or was not done
 * in time.
 */
static Datum
switch_worker(FunctionCallInfo fcinfo, bool on)
{
	TimestampTz deadline = sup_deadline_arg(fcinfo, 1);
	NameControl control;
	SupTuple	row;
	Oid			table;
	SupDeclaration *d;
	bool		was_enabled;

	table = find_worker(fcinfo, on ? "supervisor.start_worker()" : "supervisor.stop_worker()",
						&control, &row, &was_enabled);
	sup_check_manage(control.name, &control.program);
	if (OidIsValid(table))
	{
		row.nulls[SUP_COL_ENABLED] = false;
		row.values[SUP_COL_ENABLED] = BoolGetDatum(on);
		sup_catalog_update(table, &row);
		sup_note_load(MyDatabaseId);
	}

	if (on)
		await_reading(&control, deadline);
	control.switches = true;
	control.on = on;
	check_declaration(&control);
	sup_lock();
	d = sup_declaration_find(control.database, control.name);
	hold_worker(&control, d);
	control.listed = d != NULL && d->listed;
	sup_unlock();

	if (on)
		PG_RETURN_BOOL(await_worker("started", why_not_now(&control, d != NULL), all_started, &control, deadline));
	PG_RETURN_BOOL(await_worker("ended", NULL, all_stopped, &control, deadline));
}

/* supervisor.start_worker(name, timeout): true if it started in time */
PG_FUNCTION_INFO_V1(supervisor_start_worker);
Datum
supervisor_start_worker(PG_FUNCTION_ARGS)
{
	return switch_worker(fcinfo, true);
}

/* supervisor.stop_worker(name, timeout): true if it ended in time */
PG_FUNCTION_INFO_V1(supervisor_stop_worker);
Datum
supervisor_stop_worker(PG_FUNCTION_ARGS)
{
	return switch_worker(fcinfo, false);
}

/*
 * Restart what is known of the worker, if that is what the rights have been
 * checked for; if not, it is the next to be checked, and false is returned.
 */
static bool
restart_declaration(NameControl *control, bool *enabled, bool *known)
{
	SupDeclaration *d;
	bool		checked;
	dlist_iter	iter;

	sup_lock();
	d = sup_declaration_find(control->database, control->name);
	*known = d != NULL;
	checked = d == NULL || rights_are_checked(control, d);
	if (!checked)
		memcpy(&control->program, &d->program, sizeof(SupProgram));
	else if (d != NULL)
	{
		if (d->holder != 0)
			*enabled = d->terms.enabled;
		control->listed = d->listed;
		if (*enabled && sup_start_workers && !d->listed)
		{
			d->roll = true;
			dlist_foreach(iter, &d->slots)
			{
				SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

				control->generations[sup_slot_index(slot)] = slot->generation + 1;
			}
			sup_attend_declaration(d);
		}
	}
	sup_unlock();
	return checked;
}

/*
 * supervisor.restart_worker(name, timeout): true if its new processes
 * started in time.  It changes no row, so the right to signal backends of
 * the worker's role is enough.
 */
PG_FUNCTION_INFO_V1(supervisor_restart_worker_by_name);
Datum
supervisor_restart_worker_by_name(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = sup_deadline_arg(fcinfo, 1);
	NameControl control;
	SupTuple	row;
	bool		enabled;
	bool		known;
	bool		waited = false;

	(void) find_worker(fcinfo, NULL, &control, &row, &enabled);
	do
	{
		Oid			role = control.program.kind == SUP_KIND_COMMAND ?
			control.program.role : BOOTSTRAP_SUPERUSERID;

		if (!sup_may_signal(role))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to restart worker \"%s\"", control.name),
					 errdetail("Only a role that may signal backends of role \"%s\" may do that.",
							   sup_role_name(role))));
		CHECK_FOR_INTERRUPTS();
		if (!waited)
			await_reading(&control, deadline);
		waited = true;
	} while (!restart_declaration(&control, &enabled, &known));
	if (!enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker \"%s\" is not enabled", control.name),
				 errhint("Use supervisor.start_worker().")));

	PG_RETURN_BOOL(await_worker("restarted", why_not_now(&control, known), all_started, &control, deadline));
}
