/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  A session enqueues a job.
 *
 * All that can be known of a job is checked at the call: what is found later is
 * found when nobody is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "args.h"
#include "compat.h"
#include "exec.h"
#include "jobnotes.h"
#include "jobtable.h"
#include "members.h"
#include "rights.h"
#include "submit.h"

#define DEFAULT_PRIORITY		5
#define DEFAULT_MAX_ATTEMPTS	20

/* Arguments of enqueue(), in order. */
enum
{
	ARG_COMMAND,
	ARG_PARAMS,
	ARG_POOL,
	ARG_RUN_AT,
	ARG_KEY,
	ARG_PRIORITY,
	ARG_RUN_TIMEOUT,
	ARG_MAX_ATTEMPTS,
	ARG_RETRY_DELAY,
	ARG_ATOMIC
};

/* Where no job can be enqueued, whoever asks. */
static void
check_place(void)
{
	sup_require_preload();
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot enqueue a job during a parallel operation")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot enqueue a job within security-restricted operation")));
	PreventCommandDuringRecovery("enqueue()");
	PreventCommandIfReadOnly("enqueue()");
	sup_check_may_connect();
}

/*
 * Commands
 */

/* The highest number of a parameter. */
static bool
find_params(Node *node, int *highest)
{
	if (node == NULL)
		return false;
	if (IsA(node, ParamRef))
		*highest = Max(*highest, ((ParamRef *) node)->number);
	return raw_expression_tree_walker(node, find_params, highest);
}

/* Those of a statement; -1: that is known when it is run. */
static int
count_params(Node *stmt)
{
	int			highest = 0;

	if (!IsA(stmt, SelectStmt) && !IsA(stmt, InsertStmt) && !IsA(stmt, UpdateStmt) && !IsA(stmt, DeleteStmt))
		return -1;
	(void) find_params(stmt, &highest);
	return highest;
}

/* Is it one that can't run in a transaction block, as far as its text tells? */
static bool
needs_no_block(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_VacuumStmt:
			return ((VacuumStmt *) stmt)->is_vacuumcmd;
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) stmt)->concurrent;
		case T_ReindexStmt:
			if (((ReindexStmt *) stmt)->kind != REINDEX_OBJECT_INDEX &&
				((ReindexStmt *) stmt)->kind != REINDEX_OBJECT_TABLE)
				return true;
			foreach(lc, ((ReindexStmt *) stmt)->params)
			{
				if (strcmp(lfirst_node(DefElem, lc)->defname, "concurrently") == 0)
					return true;
			}
			return false;
		case T_DiscardStmt:
			return ((DiscardStmt *) stmt)->target == DISCARD_ALL;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
			return true;
		default:
			return false;
	}
}

/* Raises what the run would raise at once. */
static void
check_command(const char *command, int nparams, bool atomic)
{
	List	   *statements = pg_parse_query(command);
	ListCell   *lc;

	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command is empty")));
	if (nparams >= 0 && list_length(statements) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("cannot run more than one statement with parameters")));
	foreach(lc, statements)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;
		int			expected = nparams >= 0 ? count_params(stmt) : -1;

		if (expected >= 0 && expected != nparams)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("wrong number of parameters"),
					 errdetail("Expected %d parameters but got %d.", expected, nparams)));
		if (atomic && IsA(stmt, TransactionStmt) && !sup_is_savepoint((TransactionStmt *) stmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
					 errmsg("cannot end the transaction of an atomic job"),
					 errdetail("It commits together with the note that the job is done."),
					 errhint("Enqueue it with atomic => false if it may be run more than once.")));
		if (atomic && needs_no_block(stmt))
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("%s cannot run inside a transaction block, as an atomic job does",
							CreateCommandName(stmt)),
					 errhint("Enqueue it with atomic => false if it may be run more than once.")));
		if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot COPY from or to the client in a job")));
	}
}

/*
 * Arguments
 */

/* Raise 22023. */
pg_noreturn static void
out_of_range(const char *what, const char *range)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", what),
			 errhint("It is %s.", range)));
	pg_unreachable();
}

/* An interval that is not negative. */
static void
take_interval(FunctionCallInfo fcinfo, int arg, SupJobRow *row, SupJobColumn column, const char *what)
{
	Interval   *span;

	if (PG_ARGISNULL(arg))
		return;
	span = PG_GETARG_INTERVAL_P(arg);
	if (span->time < 0 || span->day < 0 || span->month < 0 ||
		sup_interval_us(span) >= (int64) 10 * 365 * USECS_PER_DAY)
		out_of_range(what, "0 or more, and less than ten years");
	row->values[column] = IntervalPGetDatum(span);
	row->nulls[column] = false;
}

/* What is not there yet. */
static void
refuse_unsupported(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(ARG_KEY))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("keys of jobs are not supported yet")));
}

static void
set_value(SupJobRow *row, SupJobColumn column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

/* All columns but the id. */
static void
take_arguments(FunctionCallInfo fcinfo, SupJobRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz run_at = PG_ARGISNULL(ARG_RUN_AT) ? now : PG_GETARG_TIMESTAMPTZ(ARG_RUN_AT);
	int32		priority = PG_ARGISNULL(ARG_PRIORITY) ? DEFAULT_PRIORITY : PG_GETARG_INT32(ARG_PRIORITY);
	int32		max_attempts = PG_ARGISNULL(ARG_MAX_ATTEMPTS) ? DEFAULT_MAX_ATTEMPTS : PG_GETARG_INT32(ARG_MAX_ATTEMPTS);
	bool		atomic = PG_ARGISNULL(ARG_ATOMIC) || PG_GETARG_BOOL(ARG_ATOMIC);
	char	   *command = sup_text_arg(fcinfo, ARG_COMMAND, "command");
	char	  **params;

	memset(row->values, 0, sizeof(row->values));
	memset(row->nulls, true, sizeof(row->nulls));
	sup_check_command(command);
	check_command(command, sup_text_array_arg(fcinfo, ARG_PARAMS, &params), atomic);
	if (TIMESTAMP_IS_NOBEGIN(run_at))
		out_of_range("run_at", "a time, or infinity");
	if (priority < 0 || priority >= SUP_PRIORITIES)
		out_of_range("priority", "0, which runs first, to 9");
	if (max_attempts < 1)
		out_of_range("max_attempts", "1 or more");
	refuse_unsupported(fcinfo);

	set_value(row, SUP_JOB_ROLE, ObjectIdGetDatum(GetUserId()));
	set_value(row, SUP_JOB_PRIORITY, Int16GetDatum(priority));
	set_value(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(run_at));
	set_value(row, SUP_JOB_COMMAND, PG_GETARG_DATUM(ARG_COMMAND));
	if (!PG_ARGISNULL(ARG_PARAMS))
		set_value(row, SUP_JOB_PARAMS, PG_GETARG_DATUM(ARG_PARAMS));
	take_interval(fcinfo, ARG_RUN_TIMEOUT, row, SUP_JOB_RUN_TIMEOUT, "run_timeout");
	take_interval(fcinfo, ARG_RETRY_DELAY, row, SUP_JOB_RETRY_DELAY, "retry_delay");
	set_value(row, SUP_JOB_MAX_ATTEMPTS, Int32GetDatum(max_attempts));
	set_value(row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
	set_value(row, SUP_JOB_CRASHES, Int32GetDatum(0));
	set_value(row, SUP_JOB_RUNS, Int64GetDatum(0));
	set_value(row, SUP_JOB_ATOMIC, BoolGetDatum(atomic));
	set_value(row, SUP_JOB_ENABLED, BoolGetDatum(true));
	set_value(row, SUP_JOB_STATE, CharGetDatum('w'));
	set_value(row, SUP_JOB_ENQUEUED_AT, TimestampTzGetDatum(now));
}

/* The pool of the call, which is there and lets the role in. */
static char *
take_pool(FunctionCallInfo fcinfo, bool capped)
{
	char	   *pool = sup_pool_arg(fcinfo, ARG_POOL);

	if (!sup_pool_listed(pool))
		sup_refuse_missing_pool(pool);
	if (capped)
		(void) sup_check_member(pool, GetUserId());
	return pool;
}

/*
 * supervisor.enqueue(): it neither waits nor fails for want of room, as the job is
 * a row.  Who runs it is told when the transaction commits.
 */
PG_FUNCTION_INFO_V1(supervisor_enqueue);
Datum
supervisor_enqueue(PG_FUNCTION_ARGS)
{
	Oid			role = GetUserId();
	bool		capped = !superuser_arg(role);
	const char *complaint;
	SupJobRow	row;
	char	   *pool;
	Oid			table;
	int64		id;

	check_place();
	take_arguments(fcinfo, &row);
	pool = take_pool(fcinfo, capped);
	table = sup_trusted_lock_quick(&sup_job_table, &complaint);
	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database cannot be enqueued"),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	id = sup_job_next_id(table);
	set_value(&row, SUP_JOB_ID, Int64GetDatum(id));
	set_value(&row, SUP_JOB_POOL, CStringGetTextDatum(pool));
	set_value(&row, SUP_JOB_ORIGIN, Int64GetDatum(sup_job_origin()));
	sup_job_insert(table, &row);
	sup_note_job(role, capped ? sup_account_of(role) : InvalidOid, pool,
				 DatumGetInt16(row.values[SUP_JOB_PRIORITY]), sup_job_spot(&row));
	PG_RETURN_INT64(id);
}
