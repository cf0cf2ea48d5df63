/*-------------------------------------------------------------------------
 *
 * manage.c
 *	  The SQL functions about declared workers: add, alter, remove, start,
 *	  stop, restart.
 *
 * Nobody but superusers can write to the table supervisor.worker.  These do it
 * past the executor, once they have found that the caller may: see catalog.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "args.h"
#include "catalog.h"
#include "compat.h"
#include "declaration.h"
#include "notes.h"
#include "preloaded.h"
#include "rights.h"
#include "settings.h"
#include "wait.h"

/* Transaction in which this session has added workers; set when it has. */
static TransactionId added_in = InvalidTransactionId;

/*
 * Where workers can't be managed, whoever asks.  A function that is wrongly
 * declared parallel safe may bring us into a parallel worker.
 */
static void
check_place(void)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot manage workers during a parallel operation")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot manage workers within security-restricted operation")));
}

/*
 * The table
 */

/* There is no table, or one that is not to be believed. */
pg_noreturn static void
not_run(const char *complaint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("declared workers of this database cannot be managed"),
			 complaint ? errdetail_internal("%s", complaint) : 0));
}

/* Locked, and checked, to the end of the transaction. */
static Oid
worker_table(const char *function)
{
	const char *complaint;
	Oid			table;

	sup_require_preload();
	check_place();
	PreventCommandIfReadOnly(function);
	table = sup_catalog_lock(&complaint);
	if (!OidIsValid(table))
		not_run(complaint);
	return table;
}

/*
 * Arguments and rights
 */

/*
 * The name of a worker, which is the first argument.  Raises 42602 if it is
 * empty, and 42622 if it is too long to be one.
 */
static char *
name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = sup_text_arg(fcinfo, 0, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name is empty"),
				 errhint("Other functions and views know the worker by its name.")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name is too long"),
				 errhint("It may have at most %d bytes.", NAMEDATALEN - 1)));
	return name;
}

/*
 * Raise 42704: neither a row of this database nor a library has a worker of
 * that name.
 */
pg_noreturn static void
no_such_worker(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("worker \"%s\" does not exist", name),
			 errhint("The table supervisor.worker has those of this database.")));
}

/*
 * May the caller decide what a worker does?  A command runs with the rights of
 * its role, a C function with all that there are.
 */
static bool
may_manage(const SupProgram *program)
{
	return superuser() ||
		(program->kind == SUP_KIND_COMMAND &&
		 !program->bypass_allowconn && !program->bypass_rolelogincheck &&
		 sup_may_set_role(GetUserId(), program->role));
}

/*
 * Raise 42501, and say which rights it takes, unless the caller may manage
 * that worker.
 */
static void
check_rights(const char *name, const SupProgram *program)
{
	if (may_manage(program))
		return;
	if (program->kind != SUP_KIND_COMMAND)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to manage worker \"%s\"", name),
				 errdetail("It runs C code.")));
	if (program->bypass_allowconn || program->bypass_rolelogincheck)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to manage worker \"%s\"", name),
				 errdetail("It may connect where its role may not.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be able to SET ROLE \"%s\" to manage worker \"%s\"",
					sup_role_name(program->role), name),
			 errdetail("Its command runs with the rights of that role."),
			 errhint("Ask a member of that role, or a superuser; a new worker's role is the current one by default.")));
}

/* What to do about a library that can't be loaded. */
static void
library_error_callback(void *arg)
{
	if (geterrcode() == ERRCODE_UNDEFINED_FILE)
		errhint("Give the library as in CREATE FUNCTION: by its name in \"dynamic_library_path\", or by its path.");
	else if (geterrcode() == ERRCODE_UNDEFINED_FUNCTION)
		errhint("The function must be exported, as with PGDLLEXPORT.");
}

/*
 * Load the function as its worker will do, so that the caller sees here what
 * is wrong with it.  The library stays loaded in this session, as after
 * CREATE FUNCTION.
 */
static void
check_library(const SupProgram *program)
{
	ErrorContextCallback callback;

	callback.callback = library_error_callback;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	(void) load_external_function(program->library, program->function, true, NULL);
	error_context_stack = callback.previous;
}

/* Raise what is wrong with a row that is about to be written. */
static void
check_row(const SupTuple *row, SupRow *parsed)
{
	sup_row_parse(row->values, row->nulls, parsed);
	if (parsed->sqlstate != 0)
		ereport(ERROR,
				(errcode(parsed->sqlstate),
				 errmsg_internal("%s", parsed->message),
				 parsed->hint ? errhint("%s", parsed->hint) : 0));
	check_rights(parsed->name, &parsed->program);
	if (parsed->program.kind == SUP_KIND_LIBRARY)
	{
		check_library(&parsed->program);
		sup_warn_if_preloaded(parsed->program.library, parsed->program.function);
	}
	else
		sup_settings_own(parsed->settings, parsed->nsettings, parsed->program.role, false);
}

/* How many rows go to an account. */
typedef struct AccountRows
{
	Oid			account;
	int			n;
} AccountRows;

/* A row of the scan: one more, if it goes there. */
static void
count_row(Datum *values, bool *nulls, void *arg)
{
	AccountRows *rows = arg;
	Oid			role = nulls[SUP_COL_ROLE] ? InvalidOid : DatumGetObjectId(values[SUP_COL_ROLE]);

	rows->n += OidIsValid(role) && !superuser_arg(role) && sup_account_of(role) == rows->account;
}

/*
 * What is beyond the share of its account would not be run: better to say so now.
 * Rows of this transaction, and those of other databases, count apart; the loader
 * adds them up.
 */
static void
check_share(Oid table, const SupRow *parsed)
{
	AccountRows rows = {0};
	bool		used_up;

	if (!sup_is_capped(&parsed->program))
		return;
	rows.account = sup_account_of(parsed->program.role);
	(void) sup_catalog_scan(table, true, count_row, &rows);
	sup_lock();
	used_up = !sup_declaration_has_room(rows.account, MyDatabaseId, rows.n);
	sup_unlock();
	if (used_up)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many declared workers of non-superuser roles"),
				 errdetail("There is room for %d of them, and those that count for role \"%s\" may be no more than they leave for others.",
						   Sup->ndeclarations / 4 * 3, sup_role_name(rows.account)),
				 errhint("Remove some, or increase \"%s\".", "supervisor.max_workers")));
}

/*
 * Take over those arguments that are given; they are in the order of the columns.
 * False: there are none.
 */
static bool
take_arguments(FunctionCallInfo fcinfo, SupTuple *row)
{
	bool		given = false;

	for (int i = SUP_COL_COMMAND; i <= SUP_COL_ENABLED; i++)
	{
		if (PG_ARGISNULL(i))
			continue;
		row->nulls[i] = false;
		row->values[i] = PG_GETARG_DATUM(i);
		if (i == SUP_COL_ROLE)
			row->values[i] = ObjectIdGetDatum(get_role_oid(NameStr(*PG_GETARG_NAME(i)), false));
		given = true;
	}

	/* One of these takes the place of the other. */
	if (PG_ARGISNULL(SUP_COL_EXTRA) != PG_ARGISNULL(SUP_COL_EXTRA_BYTES))
		row->nulls[PG_ARGISNULL(SUP_COL_EXTRA) ? SUP_COL_EXTRA : SUP_COL_EXTRA_BYTES] = true;
	return given;
}

/*
 * Changing rows
 */

/*
 * Is there a worker of that name, which need not be added then?  It must be the
 * extension's own, if it is its script that would add it.
 */
static bool
skip_existing(Oid table, const char *name, const char *extension)
{
	SupTuple	row;
	SupRow		parsed;

	if (!sup_catalog_find(table, name, &row))
		return false;
	sup_row_parse(row.values, row.nulls, &parsed);
	if (extension != NULL && strcmp(parsed.extension, extension) != 0)
		return false;			/* 42710 follows */
	ereport(NOTICE,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("worker \"%s\" already exists, skipping", name)));
	return true;
}

/*
 * supervisor.add_worker(name, command, ..., enabled, if_not_exists): add a
 * row.  There is an argument for each column but the last, in the order of the
 * table.  That one names the extension in whose script the function is called.
 */
PG_FUNCTION_INFO_V1(supervisor_add_worker);
Datum
supervisor_add_worker(PG_FUNCTION_ARGS)
{
	Oid			table = worker_table("supervisor.add_worker()");
	NameData	name;
	NameData	extension;
	SupTuple	row;
	SupRow		parsed;
	const char *restart;

	namestrcpy(&name, name_arg(fcinfo));
	memset(row.nulls, true, sizeof(row.nulls));
	(void) take_arguments(fcinfo, &row);
	row.nulls[SUP_COL_NAME] = false;
	row.values[SUP_COL_NAME] = NameGetDatum(&name);
	if (creating_extension)
	{
		namestrcpy(&extension, get_extension_name(CurrentExtensionObject));
		row.nulls[SUP_COL_EXTENSION] = false;
		row.values[SUP_COL_EXTENSION] = NameGetDatum(&extension);
	}

	/* What is left out shall be seen in the row. */
	if (!row.nulls[SUP_COL_COMMAND] && row.nulls[SUP_COL_ROLE])
		row.values[SUP_COL_ROLE] = ObjectIdGetDatum(GetUserId());
	row.nulls[SUP_COL_ROLE] &= row.nulls[SUP_COL_COMMAND];
	check_row(&row, &parsed);
	restart = parsed.terms.restart == SUP_RESTART_ALWAYS ? "always" :
		parsed.terms.restart == SUP_RESTART_ON_FAILURE ? "on_failure" : "never";
	row.values[SUP_COL_RESTART] = CStringGetTextDatum(restart);
	row.values[SUP_COL_START_AFTER] =
		CStringGetTextDatum(parsed.program.start_after == BgWorkerStart_ConsistentState ?
							"consistent_state" : "recovery_finished");
	row.values[SUP_COL_INSTANCES] = Int32GetDatum(parsed.terms.instances);
	row.values[SUP_COL_BYPASS_ALLOWCONN] = BoolGetDatum(parsed.program.bypass_allowconn);
	row.values[SUP_COL_BYPASS_ROLELOGINCHECK] = BoolGetDatum(parsed.program.bypass_rolelogincheck);
	row.values[SUP_COL_ENABLED] = BoolGetDatum(parsed.terms.enabled);
	row.nulls[SUP_COL_RESTART] = row.nulls[SUP_COL_START_AFTER] = row.nulls[SUP_COL_INSTANCES] =
		row.nulls[SUP_COL_BYPASS_ALLOWCONN] = row.nulls[SUP_COL_BYPASS_ROLELOGINCHECK] =
		row.nulls[SUP_COL_ENABLED] = false;

	if (!PG_ARGISNULL(SUP_COL_ENABLED + 1) && PG_GETARG_BOOL(SUP_COL_ENABLED + 1) &&
		skip_existing(table, parsed.name, creating_extension ? NameStr(extension) : NULL))
		PG_RETURN_VOID();
	check_share(table, &parsed);
	sup_catalog_insert(table, &row);
	sup_note_load(MyDatabaseId);
	added_in = GetTopTransactionId();
	PG_RETURN_VOID();
}

/* A worker that is declared in C. */
typedef struct InC
{
	uint64		id;				/* of its declaration */
	SupSource	source;
	bool		enabled;
	SupProgram	program;
} InC;

/* Find the one of that name. */
static bool
find_in_c(const char *name, InC *found)
{
	SupDeclaration *d;
	bool		is_there;

	sup_lock();
	d = sup_declaration_find(InvalidOid, name);
	is_there = d != NULL && !d->gone;
	if (is_there)
	{
		found->id = d->id;
		found->source = d->source;
		found->enabled = d->terms.enabled;
		memcpy(&found->program, &d->program, sizeof(SupProgram));
	}
	sup_unlock();
	return is_there;
}

/* Raise 42809: a worker that is declared in C has no row. */
pg_noreturn static void
has_no_row(const char *name, const char *what, SupSource source)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot %s worker \"%s\"", what, name),
			 source == SUP_FROM_LIBRARY ? errdetail("A preloaded library has declared it.") :
			 errdetail("It was started by supervisor_start()."),
			 errhint("You can stop, start and restart it by its name.")));
}

/* Find the row that is to be changed, and see that the caller may. */
static void
row_to_change(Oid table, const char *name, SupTuple *row, SupRow *parsed)
{
	InC			in_c;

	if (!sup_catalog_lock_row(table, name, row))
	{
		if (find_in_c(name, &in_c))
			has_no_row(name, "alter", in_c.source);
		no_such_worker(name);
	}
	sup_row_parse(row->values, row->nulls, parsed);
	check_rights(name, &parsed->program);
}

/*
 * supervisor.alter_worker(name, command, ..., enabled): change the columns
 * whose arguments are not NULL.  The caller must have the rights to manage
 * both the worker as it was and as it will be.
 */
PG_FUNCTION_INFO_V1(supervisor_alter_worker);
Datum
supervisor_alter_worker(PG_FUNCTION_ARGS)
{
	Oid			table = worker_table("supervisor.alter_worker()");
	char	   *name = name_arg(fcinfo);
	SupTuple	row;
	SupRow		parsed;
	SupProgram	before;

	row_to_change(table, name, &row, &parsed);
	before = parsed.program;
	if (!take_arguments(fcinfo, &row))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("nothing to change in worker \"%s\"", name),
				 errdetail("NULL leaves a column as it is."),
				 errhint("A run_every, run_timeout or heartbeat_timeout of '0', settings of '{}' and an extra of '' are none.")));
	check_row(&row, &parsed);

	/* One that runs once now, and did not before, would go on for ever. */
	if (PG_ARGISNULL(SUP_COL_RESTART) && !row.nulls[SUP_COL_RESTART] &&
		strcmp(TextDatumGetCString(row.values[SUP_COL_RESTART]), sup_default_restart(&before)) == 0)
		row.values[SUP_COL_RESTART] = CStringGetTextDatum(sup_default_restart(&parsed.program));
	if (parsed.program.role != before.role)
		check_share(table, &parsed);
	sup_catalog_update(table, &row);
	sup_note_load(MyDatabaseId);
	PG_RETURN_VOID();
}

/*
 * Remove one that supervisor_start() has started, as supervisor_terminate() does.
 * False: there is no such worker in C.
 */
static bool
remove_in_c(const char *name)
{
	InC			in_c;
	SupDeclaration *d;

	if (!find_in_c(name, &in_c))
		return false;
	check_rights(name, &in_c.program);
	if (in_c.source != SUP_FROM_CALL)
		has_no_row(name, "remove", in_c.source);
	sup_lock();
	d = sup_declaration_by_id(in_c.id);
	if (d != NULL)
	{
		d->gone = true;
		sup_attend_declaration(d);
	}
	sup_unlock();
	return true;
}

/*
 * supervisor.remove_worker(name): delete the row.  Raises 2BP01 for a worker
 * that an extension has added, unless that extension's script is running or
 * the extension is gone.  One without a row may be of supervisor_start(), also
 * where nothing can be written.
 */
PG_FUNCTION_INFO_V1(supervisor_remove_worker);
Datum
supervisor_remove_worker(PG_FUNCTION_ARGS)
{
	const char *complaint;
	Oid			table;
	char	   *name;
	SupTuple	row;
	SupRow		parsed;

	sup_require_preload();
	check_place();
	name = name_arg(fcinfo);
	table = sup_catalog_table(&complaint);
	if ((!OidIsValid(table) || !sup_catalog_find(table, name, &row)) && remove_in_c(name))
		PG_RETURN_VOID();
	table = worker_table("supervisor.remove_worker()");
	row_to_change(table, name, &row, &parsed);
	if (parsed.extension[0] != '\0' && OidIsValid(get_extension_oid(parsed.extension, true)) &&
		!(creating_extension &&
		  strcmp(get_extension_name(CurrentExtensionObject), parsed.extension) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot remove worker \"%s\" because extension \"%s\" requires it",
						name, parsed.extension),
				 errhint("You can stop it with supervisor.stop_worker(), or drop the extension.")));
	sup_catalog_delete(table, &row);
	sup_note_load(MyDatabaseId);
	PG_RETURN_VOID();
}

/*
 * Control by name
 */

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
	InC			in_c;
	bool		found;

	sup_require_preload();
	check_place();
	control->name = name_arg(fcinfo);
	control->database = MyDatabaseId;
	control->generations = palloc0(sizeof(uint64) * sup_nslots());
	control->switches = control->held = false;
	sup_await_supervisor();
	table = sup_catalog_table(&complaint);

	/* A standby's workers of libraries have no row, and can be stopped there. */
	found = OidIsValid(table) && sup_catalog_find(table, control->name, row);
	if (found && changes != NULL)
	{
		table = worker_table(changes);
		found = sup_catalog_lock_row(table, control->name, row);
	}
	if (found)
	{
		SupRow		parsed;

		sup_row_parse(row->values, row->nulls, &parsed);
		memcpy(&control->program, &parsed.program, sizeof(SupProgram));
		*enabled = parsed.terms.enabled;
		return table;
	}
	control->database = InvalidOid;
	found = find_in_c(control->name, &in_c);
	if (found)
	{
		memcpy(&control->program, &in_c.program, sizeof(SupProgram));
		*enabled = in_c.enabled;
	}
	if (!found && complaint != NULL)
		not_run(complaint);
	if (!found)
		no_such_worker(control->name);
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
why_not_now(bool known)
{
	if (!sup_start_workers)
		return "\"supervisor.start_workers\" is off.";

	/* One that was added in this transaction has not been seen by anybody. */
	if (!known && TransactionIdIsValid(added_in) && added_in == GetTopTransactionIdIfAny())
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
	if (differs && may_manage(&program))
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
	check_rights(control.name, &control.program);
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
	sup_unlock();

	if (on)
		PG_RETURN_BOOL(await_worker("started", why_not_now(d != NULL), all_started, &control, deadline));
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
		if (*enabled && sup_start_workers)
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

	PG_RETURN_BOOL(await_worker("restarted", why_not_now(known), all_started, &control, deadline));
}

/*
 * Trigger of the table: whatever wrote to it, as COPY at a restore,
 * what it means takes effect at commit.
 */
PG_FUNCTION_INFO_V1(supervisor_worker_changed);
Datum
supervisor_worker_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "worker_changed")));

	/*
	 * Its rows decide what runs as whom.  Default privileges may have granted
	 * what the script did not, and pg_write_all_data writes to all tables.
	 */
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to write to table \"%s\"", "supervisor.worker"),
				 errhint("Use supervisor.add_worker(), alter_worker() and remove_worker().")));
	if (Sup != NULL)
		sup_note_load(MyDatabaseId);
	PG_RETURN_POINTER(NULL);
}
