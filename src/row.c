/*-------------------------------------------------------------------------
 *
 * row.c
 *	  What a row of supervisor.worker means.
 *
 * Whether there is what it names is not asked: a role may be dropped, a library come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "row.h"

/* No time of a declaration is longer. */
#define MAX_TIME_US (INT64CONST(10) * 366 * USECS_PER_DAY)

/*
 * Nor is a value, in bytes.  All rows are read at each start of the server, one
 * after the other, while all that is declared waits.
 */
#define MAX_VALUE_SIZE	(1024 * 1024)

const SupColumnDef sup_worker_columns[SUP_WORKER_COLS] = {
	[SUP_COL_NAME] = {"name", NAMEOID, true},
	[SUP_COL_COMMAND] = {"command", TEXTOID, false},
	[SUP_COL_RUN_EVERY] = {"run_every", INTERVALOID, false},
	[SUP_COL_LIBRARY] = {"library", TEXTOID, false},
	[SUP_COL_FUNCTION] = {"function", TEXTOID, false},
	[SUP_COL_ARGUMENT] = {"argument", INT8OID, false},
	[SUP_COL_EXTRA] = {"extra", TEXTOID, false},
	[SUP_COL_EXTRA_BYTES] = {"extra_bytes", BYTEAOID, false},
	[SUP_COL_TYPE] = {"type", TEXTOID, false},
	[SUP_COL_ROLE] = {"role", REGROLEOID, false},
	[SUP_COL_SETTINGS] = {"settings", TEXTARRAYOID, false},
	[SUP_COL_INSTANCES] = {"instances", INT4OID, true},
	[SUP_COL_START_AFTER] = {"start_after", TEXTOID, true},
	[SUP_COL_RESTART] = {"restart", TEXTOID, true},
	[SUP_COL_RESTART_DELAY] = {"restart_delay", INTERVALOID, false},
	[SUP_COL_RESTART_DELAY_MAX] = {"restart_delay_max", INTERVALOID, false},
	[SUP_COL_MAX_RESTARTS] = {"max_restarts", INT4OID, false},
	[SUP_COL_RESTART_WINDOW] = {"restart_window", INTERVALOID, false},
	[SUP_COL_START_TIMEOUT] = {"start_timeout", INTERVALOID, false},
	[SUP_COL_STOP_TIMEOUT] = {"stop_timeout", INTERVALOID, false},
	[SUP_COL_RUN_TIMEOUT] = {"run_timeout", INTERVALOID, false},
	[SUP_COL_HEARTBEAT_TIMEOUT] = {"heartbeat_timeout", INTERVALOID, false},
	[SUP_COL_BYPASS_ALLOWCONN] = {"bypass_allowconn", BOOLOID, true},
	[SUP_COL_BYPASS_ROLELOGINCHECK] = {"bypass_rolelogincheck", BOOLOID, true},
	[SUP_COL_ENABLED] = {"enabled", BOOLOID, true},
	[SUP_COL_EXTENSION] = {"extension", NAMEOID, false}
};

/* Tells texts apart that are not in a declaration, or not all of them; goes on from 'seed'. */
static uint64
hash_text(const char *text, uint64 seed)
{
	return hash_bytes_extended((const unsigned char *) text, strlen(text) + 1, seed);
}

/* Keep what is wrong with a row, unless there is a complaint already. */
static void
complain(SupRow *row, int sqlstate, const char *message, const char *hint)
{
	if (row->sqlstate != 0)
		return;
	row->sqlstate = sqlstate;
	row->message = message;
	row->hint = hint;
}

/* A time in microseconds; 'missing' if it is NULL, or out of range. */
static int64
time_column(const Datum *values, const bool *nulls, SupColumn column, int64 missing, SupRow *row)
{
	Interval   *interval;
	double		us;

	if (nulls[column])
		return missing;
	interval = DatumGetIntervalP(values[column]);
	us = ((double) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY +
		(double) interval->time;
	if (us < 0 || us > MAX_TIME_US)
	{
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 psprintf("%s is out of range", sup_worker_columns[column].name),
				 "It is not negative, and at most ten years.");
		return missing;
	}
	return (int64) us;
}

/*
 * Copy a text to 'dest', or an empty string if it is NULL.  Complains if it
 * is too long, or empty; 'extra' may be empty.
 */
static void
text_column(const Datum *values, const bool *nulls, SupColumn column, char *dest, int size,
			SupRow *row)
{
	char	   *string;

	dest[0] = '\0';
	if (nulls[column])
		return;
	string = TextDatumGetCString(values[column]);
	if (strlen(string) >= size)
		complain(row, column == SUP_COL_EXTRA ? ERRCODE_STRING_DATA_RIGHT_TRUNCATION :
				 ERRCODE_NAME_TOO_LONG,
				 psprintf("%s is too long", sup_worker_columns[column].name),
				 psprintf("It may have at most %d bytes.", size - 1));
	else if (string[0] == '\0' && column != SUP_COL_EXTRA)
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 psprintf("%s is empty", sup_worker_columns[column].name), "Leave it out for none.");
	strlcpy(dest, string, size);
}

/* These mean nothing for such a worker. */
static void
refuse(const bool *nulls, const SupColumn *columns, int n, const char *kind, const char *other,
	   SupRow *row)
{
	for (int i = 0; i < n; i++)
		if (!nulls[columns[i]])
			complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
					 psprintf("%s makes no sense for a worker with a %s",
							  sup_worker_columns[columns[i]].name, kind),
					 psprintf("Leave it out: it is for workers with a %s.", other));
}

/*
 * What its session has SET.  Whether there are such settings, and whether its role
 * may set them, only a session can say: see sup_settings_own().
 */
static void
parse_settings(const Datum *values, const bool *nulls, SupRow *row)
{
	static const char *const hint = "Each is a text \"name=value\", as in ARRAY['search_path=app'].";
	ArrayType  *array;
	Datum	   *elements;
	bool	   *element_nulls;
	int			n;

	if (nulls[SUP_COL_SETTINGS])
		return;
	array = DatumGetArrayTypeP(values[SUP_COL_SETTINGS]);
	if (ARR_NDIM(array) > 1)
	{
		complain(row, ERRCODE_ARRAY_SUBSCRIPT_ERROR, "settings must be one-dimensional", hint);
		return;
	}
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &element_nulls, &n);
	row->settings = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		char	   *setting = element_nulls[i] ? NULL : TextDatumGetCString(elements[i]);

		if (setting == NULL || setting[0] == '=' || strchr(setting, '=') == NULL)
		{
			complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
					 setting == NULL ? "a setting must not be null" :
					 psprintf("invalid setting \"%s\"", setting), hint);
			return;
		}
		row->settings[row->nsettings++] = setting;
		row->program.settings_hash = hash_text(setting, row->program.settings_hash);
	}
}

/* What only a worker with a command has. */
static void
parse_command(const Datum *values, const bool *nulls, SupRow *row)
{
	static const SupColumn of_libraries[] = {
		SUP_COL_FUNCTION, SUP_COL_ARGUMENT, SUP_COL_EXTRA, SUP_COL_EXTRA_BYTES,
		SUP_COL_HEARTBEAT_TIMEOUT
	};
	SupProgram *program = &row->program;

	program->kind = SUP_KIND_COMMAND;
	refuse(nulls, of_libraries, lengthof(of_libraries), "command", "library", row);
	row->command = nulls[SUP_COL_COMMAND] ? "" : TextDatumGetCString(values[SUP_COL_COMMAND]);
	if (row->command[strspn(row->command, " \t\n\r\f\v")] == '\0')
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE, "command is empty",
				 "Give it one or more SQL statements.");
	program->command_hash = hash_text(row->command, 0);
	program->command_len = Min(strlen(row->command), SUP_INLINE);
	memcpy(program->command, row->command, program->command_len);
	program->run_every = time_column(values, nulls, SUP_COL_RUN_EVERY, 0, row);
	program->run_timeout = time_column(values, nulls, SUP_COL_RUN_TIMEOUT, 0, row);
	if (program->run_timeout > INT_MAX * INT64CONST(1000))
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE, "run_timeout is out of range",
				 "It is at most 24 days.");
	if (nulls[SUP_COL_ROLE] || !OidIsValid(DatumGetObjectId(values[SUP_COL_ROLE])))
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE, "a worker with a command needs a role", NULL);
	else
		program->role = DatumGetObjectId(values[SUP_COL_ROLE]);
	parse_settings(values, nulls, row);
}

/* As text, which ends with a zero byte, or as any bytes. */
static void
parse_extra(const Datum *values, const bool *nulls, SupRow *row)
{
	bytea	   *bytes;
	Size		len;

	text_column(values, nulls, SUP_COL_EXTRA, row->program.extra, BGW_EXTRALEN, row);
	if (nulls[SUP_COL_EXTRA_BYTES])
		return;
	bytes = DatumGetByteaPP(values[SUP_COL_EXTRA_BYTES]);
	len = VARSIZE_ANY_EXHDR(bytes);
	if (!nulls[SUP_COL_EXTRA])
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 "a worker cannot have both extra and extra_bytes", "They are one thing: leave one of them out.");
	if (len > BGW_EXTRALEN)
		complain(row, ERRCODE_STRING_DATA_RIGHT_TRUNCATION, "extra_bytes is too long",
				 psprintf("It may have at most %d bytes.", BGW_EXTRALEN));
	memcpy(row->program.extra, VARDATA_ANY(bytes), Min(len, BGW_EXTRALEN));
}

/* What only one with a library has. */
static void
parse_library(const Datum *values, const bool *nulls, SupRow *row)
{
	static const SupColumn of_commands[] = {
		SUP_COL_RUN_EVERY, SUP_COL_ROLE, SUP_COL_SETTINGS, SUP_COL_RUN_TIMEOUT
	};
	SupProgram *program = &row->program;

	program->kind = SUP_KIND_LIBRARY;
	refuse(nulls, of_commands, lengthof(of_commands), "library", "command", row);
	text_column(values, nulls, SUP_COL_LIBRARY, program->library, MAXPGPATH, row);
	text_column(values, nulls, SUP_COL_FUNCTION, program->function, BGW_MAXLEN, row);
	if (nulls[SUP_COL_FUNCTION])
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE, "a worker with a library needs a function",
				 "The library exports it, and it is called as the postmaster calls a background worker.");
	parse_extra(values, nulls, row);
	if (!nulls[SUP_COL_ARGUMENT])
		program->argument = DatumGetInt64(values[SUP_COL_ARGUMENT]);
	program->heartbeat_timeout = time_column(values, nulls, SUP_COL_HEARTBEAT_TIMEOUT, 0, row);
}

/*
 * May a command's session connect without LOGIN, or where its role may not?
 * A C function passes these flags itself.
 */
static void
parse_bypass(const Datum *values, const bool *nulls, SupRow *row)
{
	SupProgram *program = &row->program;

	program->bypass_allowconn = !nulls[SUP_COL_BYPASS_ALLOWCONN] &&
		DatumGetBool(values[SUP_COL_BYPASS_ALLOWCONN]);
	program->bypass_rolelogincheck = !nulls[SUP_COL_BYPASS_ROLELOGINCHECK] &&
		DatumGetBool(values[SUP_COL_BYPASS_ROLELOGINCHECK]);
	if (program->kind == SUP_KIND_LIBRARY && (program->bypass_allowconn || program->bypass_rolelogincheck))
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 "bypass_allowconn and bypass_rolelogincheck make no sense for a worker with a library",
				 "The function passes the flags when it connects.");
	if (program->bypass_rolelogincheck && BGWORKER_BYPASS_ROLELOGINCHECK == 0)
		complain(row, ERRCODE_FEATURE_NOT_SUPPORTED,
				 "bypass_rolelogincheck needs PostgreSQL 17 or later",
				 "Give the role LOGIN.");
}

/* The default is recovery_finished. */
static void
parse_start_after(const Datum *values, const bool *nulls, SupRow *row)
{
	SupProgram *program = &row->program;
	const char *word = nulls[SUP_COL_START_AFTER] ? "recovery_finished" :
		TextDatumGetCString(values[SUP_COL_START_AFTER]);

	program->start_after = BgWorkerStart_RecoveryFinished;
	if (strcmp(word, "consistent_state") == 0)
		program->start_after = BgWorkerStart_ConsistentState;
	else if (strcmp(word, "postmaster_start") == 0)
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 "start_after \"postmaster_start\" is for workers that a preloaded library declares",
				 "A table can be read only from the consistent state on.");
	else if (strcmp(word, "recovery_finished") != 0)
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 psprintf("invalid value for start_after: \"%s\"", word),
				 "Valid values are \"recovery_finished\" and \"consistent_state\".");
}

/* A command that runs once has done what it is for. */
const char *
sup_default_restart(const SupProgram *program)
{
	return program->kind == SUP_KIND_COMMAND && program->run_every == 0 ? "on_failure" : "always";
}

/* How it is kept. */
static void
parse_terms(const Datum *values, const bool *nulls, SupRow *row)
{
	SupTerms   *terms = &row->terms;
	const char *word = sup_default_restart(&row->program);

	terms->enabled = nulls[SUP_COL_ENABLED] || DatumGetBool(values[SUP_COL_ENABLED]);
	terms->instances = nulls[SUP_COL_INSTANCES] ? 1 : DatumGetInt32(values[SUP_COL_INSTANCES]);
	if (terms->instances < 1 || terms->instances > sup_max_workers)
	{
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 psprintf("instances must be between 1 and %d", sup_max_workers),
				 "There are as many slots as \"supervisor.max_workers\" says.");
		terms->instances = 1;	/* in which that can be seen */
	}

	if (!nulls[SUP_COL_RESTART])
		word = TextDatumGetCString(values[SUP_COL_RESTART]);
	if (strcmp(word, "always") == 0)
		terms->restart = SUP_RESTART_ALWAYS;
	else if (strcmp(word, "on_failure") == 0)
		terms->restart = SUP_RESTART_ON_FAILURE;
	else if (strcmp(word, "never") == 0)
		terms->restart = SUP_RESTART_NEVER;
	else
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 psprintf("invalid value for restart: \"%s\"", word),
				 "Valid values are \"always\", \"on_failure\" and \"never\".");
	terms->restart_delay = time_column(values, nulls, SUP_COL_RESTART_DELAY, -1, row);
	terms->restart_delay_max = time_column(values, nulls, SUP_COL_RESTART_DELAY_MAX, -1, row);
	terms->restart_window = time_column(values, nulls, SUP_COL_RESTART_WINDOW, -1, row);
	terms->start_timeout = time_column(values, nulls, SUP_COL_START_TIMEOUT, -1, row);
	terms->stop_timeout = time_column(values, nulls, SUP_COL_STOP_TIMEOUT, -1, row);
	terms->max_restarts = -1;
	if (!nulls[SUP_COL_MAX_RESTARTS])
	{
		terms->max_restarts = DatumGetInt32(values[SUP_COL_MAX_RESTARTS]);
		if (terms->max_restarts < 0)
			complain(row, ERRCODE_INVALID_PARAMETER_VALUE, "max_restarts must not be negative",
					 "With 0 the first failure is one too many.");
	}
}

/* What is too long is as NULL, and not even fetched. */
static void
refuse_long_values(const Datum *values, const bool *nulls, bool *without, SupRow *row)
{
	for (int i = 0; i < SUP_WORKER_COLS; i++)
	{
		Oid			type = sup_worker_columns[i].type;

		without[i] = nulls[i];
		if (nulls[i] || (type != TEXTOID && type != BYTEAOID && type != TEXTARRAYOID) ||
			toast_raw_datum_size(values[i]) <= MAX_VALUE_SIZE)
			continue;
		without[i] = true;
		complain(row, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
				 psprintf("%s is too long", sup_worker_columns[i].name),
				 i == SUP_COL_COMMAND ? "It may have at most 1 MB. Put it into a function." :
				 "It may have at most 1 MB.");
	}
}

/* After a complaint the rest is parsed, too, since worker_status shows it. */
void
sup_row_parse(const Datum *values, const bool *with_long, SupRow *row)
{
	SupProgram *program = &row->program;
	bool		is_command = !with_long[SUP_COL_COMMAND];
	bool		nulls[SUP_WORKER_COLS];

	memset(row, 0, sizeof(SupRow));
	refuse_long_values(values, with_long, nulls, row);

	if (nulls[SUP_COL_NAME])
		complain(row, ERRCODE_NULL_VALUE_NOT_ALLOWED, "name must not be null", NULL);
	else
		strlcpy(row->name, NameStr(*DatumGetName(values[SUP_COL_NAME])), NAMEDATALEN);
	if (row->name[0] == '\0')
		complain(row, ERRCODE_INVALID_NAME, "name is empty", NULL);
	if (!nulls[SUP_COL_EXTENSION])
		strlcpy(row->extension, NameStr(*DatumGetName(values[SUP_COL_EXTENSION])), NAMEDATALEN);

	if (is_command == !nulls[SUP_COL_LIBRARY])
		complain(row, ERRCODE_INVALID_PARAMETER_VALUE,
				 is_command ? "a worker cannot have both a command and a library" :
				 "a worker needs a command or a library",
				 is_command ? "Add two workers." :
				 "A command is SQL; a library is given with the function in it.");

	/* What runs. */
	text_column(values, nulls, SUP_COL_TYPE, program->type, BGW_MAXLEN, row);
	if (nulls[SUP_COL_TYPE])
		strlcpy(program->type, row->name, BGW_MAXLEN);
	program->flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION |
		BGWORKER_INTERRUPTIBLE;
	if (is_command)
		parse_command(values, nulls, row);
	else
		parse_library(values, nulls, row);
	parse_bypass(values, nulls, row);
	parse_start_after(values, nulls, row);
	parse_terms(values, nulls, row);
}
