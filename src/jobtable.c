/*-------------------------------------------------------------------------
 *
 * jobtable.c
 *	  The tables of jobs of the current database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"

#include "compat.h"
#include "jobtable.h"

/*
 * What our script makes
 *
 * Texts are compared as bytes: with a collation of the system, which may become
 * another, jobs that wait would not be found in the index any more.
 */

static const SupColumnDef job_columns[SUP_JOB_COLS] = {
	[SUP_JOB_ID] = {"id", INT8OID},
	[SUP_JOB_ROLE] = {"role", REGROLEOID},
	[SUP_JOB_POOL] = {"pool", TEXTOID},
	[SUP_JOB_PRIORITY] = {"priority", INT2OID},
	[SUP_JOB_RUN_AT] = {"run_at", TIMESTAMPTZOID},
	[SUP_JOB_KEY] = {"key", TEXTOID},
	[SUP_JOB_COMMAND] = {"command", TEXTOID},
	[SUP_JOB_PARAMS] = {"params", TEXTARRAYOID},
	[SUP_JOB_NAME] = {"name", TEXTOID},
	[SUP_JOB_SCHEDULE] = {"schedule", TEXTOID},
	[SUP_JOB_TIME_ZONE] = {"time_zone", TEXTOID},
	[SUP_JOB_NEXT_AT] = {"next_at", TIMESTAMPTZOID},
	[SUP_JOB_RUN_TIMEOUT] = {"run_timeout", INTERVALOID},
	[SUP_JOB_RETRY_DELAY] = {"retry_delay", INTERVALOID},
	[SUP_JOB_MAX_ATTEMPTS] = {"max_attempts", INT4OID},
	[SUP_JOB_ATTEMPTS] = {"attempts", INT4OID},
	[SUP_JOB_CRASHES] = {"crashes", INT4OID},
	[SUP_JOB_RUNS] = {"runs", INT8OID},
	[SUP_JOB_ATOMIC] = {"atomic", BOOLOID},
	[SUP_JOB_ENABLED] = {"enabled", BOOLOID},
	[SUP_JOB_STATE] = {"state", CHAROID},
	[SUP_JOB_REASON] = {"reason", TEXTOID},
	[SUP_JOB_ORIGIN] = {"origin", INT8OID},
	[SUP_JOB_ENQUEUED_AT] = {"enqueued_at", TIMESTAMPTZOID},
	[SUP_JOB_LAST_STARTED_AT] = {"last_started_at", TIMESTAMPTZOID},
	[SUP_JOB_LAST_FINISHED_AT] = {"last_finished_at", TIMESTAMPTZOID},
	[SUP_JOB_LAST_STATE] = {"last_state", TEXTOID},
	[SUP_JOB_LAST_SQLSTATE] = {"last_sqlstate", TEXTOID},
	[SUP_JOB_LAST_ERROR] = {"last_error", TEXTOID}
};

static const SupColumnDef history_columns[SUP_RUN_COLS] = {
	[SUP_RUN_JOB] = {"job", INT8OID},
	[SUP_RUN_NAME] = {"name", TEXTOID},
	[SUP_RUN_ATTEMPT] = {"attempt", INT4OID},
	[SUP_RUN_ROLE] = {"role", REGROLEOID},
	[SUP_RUN_POOL] = {"pool", TEXTOID},
	[SUP_RUN_STATE] = {"state", TEXTOID},
	[SUP_RUN_TAG] = {"tag", TEXTOID},
	[SUP_RUN_RESULT] = {"result", TEXTOID},
	[SUP_RUN_SQLSTATE] = {"sqlstate", TEXTOID},
	[SUP_RUN_MESSAGE] = {"message", TEXTOID},
	[SUP_RUN_DETAIL] = {"detail", TEXTOID},
	[SUP_RUN_CONTEXT] = {"context", TEXTOID},
	[SUP_RUN_MERGED_INTO] = {"merged_into", INT8OID},
	[SUP_RUN_ENQUEUED_AT] = {"enqueued_at", TIMESTAMPTZOID},
	[SUP_RUN_RUN_AT] = {"run_at", TIMESTAMPTZOID},
	[SUP_RUN_STARTED_AT] = {"started_at", TIMESTAMPTZOID},
	[SUP_RUN_FINISHED_AT] = {"finished_at", TIMESTAMPTZOID},
	[SUP_RUN_PID] = {"pid", INT4OID},
	[SUP_RUN_COMMAND] = {"command", TEXTOID}
};

static const SupColumnDef origin_columns[] = {
	{"nonce", UUIDOID}
};

static const SupIndexDef job_indexes[] = {
	{true, true, -1, 1, {SUP_JOB_ID}},
	{false, true, -1, 1, {SUP_JOB_NAME}},
	{false, false, -1, 5, {SUP_JOB_ROLE, SUP_JOB_POOL, SUP_JOB_PRIORITY, SUP_JOB_RUN_AT, SUP_JOB_ID}},
	{false, false, SUP_JOB_KEY, 6, {SUP_JOB_ROLE, SUP_JOB_KEY, SUP_JOB_POOL, SUP_JOB_PRIORITY, SUP_JOB_RUN_AT, SUP_JOB_ID}}
};

static const SupIndexDef history_indexes[] = {
	{false, false, -1, 1, {SUP_RUN_JOB}},
	{false, false, -1, 1, {SUP_RUN_FINISHED_AT}}
};

/* The first two are those of each table. */
static const SupTriggerDef triggers[] = {
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_TRUNCATE, false, false},
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_ROW, true, true},
	{TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_ROW, false, true}
};

const SupTableDef sup_job_table = {
	.name = "job",
	.ncolumns = SUP_JOB_COLS,
	.least_columns = SUP_JOB_COLS,
	.columns = job_columns,
	.collation = C_COLLATION_OID,
	.nindexes = lengthof(job_indexes),
	.indexes = job_indexes,
	.function = "job_changed",
	.ntriggers = 3,
	.triggers = triggers
};

const SupTableDef sup_history_table = {
	.name = "job_history",
	.ncolumns = SUP_RUN_COLS,
	.least_columns = SUP_RUN_COLS,
	.columns = history_columns,
	.collation = C_COLLATION_OID,
	.nindexes = lengthof(history_indexes),
	.indexes = history_indexes,
	.function = "job_changed",
	.ntriggers = 2,
	.triggers = triggers
};

const SupTableDef sup_origin_table = {
	.name = "origin",
	.ncolumns = lengthof(origin_columns),
	.least_columns = lengthof(origin_columns),
	.columns = origin_columns,
	.function = "job_changed",
	.ntriggers = 2,
	.triggers = triggers
};
