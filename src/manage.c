/*-------------------------------------------------------------------------
 *
 * manage.c
 *	  The SQL functions that add, alter and remove declared workers.
 *
 * Nobody but superusers can write to the table supervisor.worker.  These do it
 * past the executor, once they have found that the caller may: see catalog.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "args.h"
#include "catalog.h"
#include "declaration.h"
#include "managed.h"
#include "notes.h"
#include "preloaded.h"
#include "rights.h"
#include "settings.h"

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
	sup_check_manage(parsed->name, &parsed->program);
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
	Oid			role;
	int			n;
	int			of_role;
} AccountRows;

/* A row of the scan: one more, if it goes there. */
static void
count_row(Datum *values, bool *nulls, void *arg)
{
	AccountRows *rows = arg;
	Oid			role = nulls[SUP_COL_ROLE] ? InvalidOid : DatumGetObjectId(values[SUP_COL_ROLE]);

	if (!OidIsValid(role) || superuser_arg(role) || sup_account_of(role) != rows->account)
		return;
	rows->n++;
	rows->of_role += role == rows->role;
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
	rows.role = parsed->program.role;
	rows.account = sup_account_of(rows.role);
	(void) sup_catalog_scan(table, true, count_row, &rows);
	sup_lock();
	used_up = !sup_declaration_has_room(rows.account, rows.role, MyDatabaseId, rows.n, rows.of_role);
	sup_unlock();
	if (used_up)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many declared workers of non-superuser roles"),
				 errdetail("There is room for %d of them, and those of role \"%s\", or in its databases, may be no more than they leave for others.",
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
	Oid			table = sup_worker_table("supervisor.add_worker()");
	NameData	name;
	NameData	extension;
	SupTuple	row;
	SupRow		parsed;
	const char *restart;

	namestrcpy(&name, sup_worker_name_arg(fcinfo));
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
	sup_note_added();
	PG_RETURN_VOID();
}

/* Raise 42809: a worker that is declared in C has no row. */
pg_noreturn static void
has_no_row(const char *name, const char *what, SupSource source)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot %s worker \"%s\"", what, name),
			 source == SUP_FROM_LIBRARY ? errdetail("A preloaded library has declared it.") :
			 source == SUP_FROM_SERVER ? errdetail("A preloaded library has registered it with the server.") :
			 errdetail("It was started by supervisor_start()."),
			 errhint("You can stop, start and restart it by its name.")));
}

/* Find the row that is to be changed, and see that the caller may. */
static void
row_to_change(Oid table, const char *name, SupTuple *row, SupRow *parsed)
{
	SupInC		in_c;

	if (!sup_catalog_lock_row(table, name, row))
	{
		if (sup_find_in_c(name, &in_c))
			has_no_row(name, "alter", in_c.source);
		sup_no_such_worker(name);
	}
	sup_row_parse(row->values, row->nulls, parsed);
	sup_check_manage(name, &parsed->program);
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
	Oid			table = sup_worker_table("supervisor.alter_worker()");
	char	   *name = sup_worker_name_arg(fcinfo);
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
	SupInC		in_c;
	SupDeclaration *d;

	if (!sup_find_in_c(name, &in_c))
		return false;
	sup_check_manage(name, &in_c.program);
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
	sup_check_manage_place();
	name = sup_worker_name_arg(fcinfo);
	table = sup_catalog_table(&complaint);
	if ((!OidIsValid(table) || !sup_catalog_find(table, name, &row)) && remove_in_c(name))
		PG_RETURN_VOID();
	table = sup_worker_table("supervisor.remove_worker()");
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
