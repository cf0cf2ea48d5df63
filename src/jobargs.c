/*-------------------------------------------------------------------------
 *
 * jobargs.c
 *	  What SQL functions about jobs share: where they can be called, arguments, the
 *	  table.
 *
 * All that can be known of a job is checked at the call: what is found later is
 * found when nobody is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "args.h"
#include "compat.h"
#include "exec.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "members.h"
#include "parse.h"
#include "rights.h"
#include "submit.h"

#define DEFAULT_ATTEMPTS	20

/* Where no job can be enqueued, whoever asks. */
void
sup_job_check_place(const char *function)
{
	sup_require_preload();
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot manage jobs during a parallel operation")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot manage jobs within security-restricted operation")));
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
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

static DefElem *
option_of(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			return lfirst_node(DefElem, lc);
	}
	return NULL;
}

/* One that is true or false. */
static bool
option(List *options, const char *name, bool otherwise)
{
	DefElem    *found = option_of(options, name);

	return found != NULL ? defGetBoolean(found) : otherwise;
}

static bool
detaches_concurrently(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_DetachPartition && castNode(PartitionCmd, cmd->def)->concurrent)
			return true;
	}
	return false;
}

/* Is it one that can't run in a transaction block, as far as its text tells? */
static bool
needs_no_block(Node *stmt)
{
	List	   *options;
	bool		all;

	switch (nodeTag(stmt))
	{
		case T_VacuumStmt:
			return ((VacuumStmt *) stmt)->is_vacuumcmd;
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) stmt)->concurrent;
		case T_ReindexStmt:
			return (((ReindexStmt *) stmt)->kind != REINDEX_OBJECT_INDEX &&
					((ReindexStmt *) stmt)->kind != REINDEX_OBJECT_TABLE) ||
				option(((ReindexStmt *) stmt)->params, "concurrently", false);
		case T_AlterTableStmt:
			return detaches_concurrently((AlterTableStmt *) stmt);
		case T_AlterDatabaseStmt:
			return option_of(((AlterDatabaseStmt *) stmt)->options, "tablespace") != NULL;
		case T_CreateSubscriptionStmt:
			options = ((CreateSubscriptionStmt *) stmt)->options;
			return option(options, "create_slot", option(options, "connect", true));
		case T_DiscardStmt:
			return ((DiscardStmt *) stmt)->target == DISCARD_ALL;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
			return true;
		default:
			return sup_rewrites(stmt, &all, &options) && (all || option(options, "concurrently", false));
	}
}

/* The position of an error is one in the command, not in the caller's query. */
static void
transpose_position(void *arg)
{
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(position);
	internalerrquery(arg);
}

void
sup_job_check_command(const char *command, int nparams, bool atomic)
{
	ErrorContextCallback callback = {error_context_stack, transpose_position, unconstify(char *, command)};
	List	   *statements;
	ListCell   *lc;

	error_context_stack = &callback;
	statements = sup_parse(command, strlen(command));
	error_context_stack = callback.previous;
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
		int			expected = count_params(stmt);
		int			given = Max(nparams, 0);

		if (expected >= 0 && expected != given)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("wrong number of parameters"),
					 errdetail("Expected %d parameters but got %d.", expected, given)));
		if (atomic && IsA(stmt, TransactionStmt) && !sup_is_savepoint((TransactionStmt *) stmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
					 errmsg("cannot end the transaction of an atomic job"),
					 errdetail("It commits together with the note that the job is done."),
					 errhint("Use atomic => false if it may be run more than once.")));
		if (atomic && needs_no_block(stmt))
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("%s cannot run inside a transaction block, as an atomic job does",
							CreateCommandName(stmt)),
					 errhint("Use atomic => false if it may be run more than once.")));
		if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot COPY from or to the client in a job")));
	}
}

/*
 * Arguments
 */

/*
 * As text a row has up to twice the bytes of the command, and four times those of the parameters, if
 * all are to be escaped.  If that is more than core can send, nobody can dump the table any more.
 */
#define MAX_SIZE	(128 * 1024 * 1024)

void
sup_job_check_size(const SupJobRow *row)
{
	Size		size = toast_raw_datum_size(row->values[SUP_JOB_COMMAND]);

	if (!row->nulls[SUP_JOB_PARAMS])
		size += toast_raw_datum_size(row->values[SUP_JOB_PARAMS]);
	if (size > MAX_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("command of a job is too long"),
				 errhint("It has at most %d MB, with its parameters.", MAX_SIZE / (1024 * 1024))));
}

pg_noreturn void
sup_job_out_of_range(const char *what, const char *range)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", what),
			 errhint("It is %s.", range)));
	pg_unreachable();
}

void
sup_job_take_interval(FunctionCallInfo fcinfo, int arg, SupJobRow *row, SupJobColumn column, const char *what)
{
	Interval   *span;

	if (PG_ARGISNULL(arg))
		return;
	span = PG_GETARG_INTERVAL_P(arg);
	if (span->time < 0 || span->day < 0 || span->month < 0 ||
		sup_interval_us(span) >= (int64) 10 * 365 * USECS_PER_DAY)
		sup_job_out_of_range(what, "0 or more, and less than 3650 days");
	row->values[column] = IntervalPGetDatum(span);
	row->nulls[column] = false;
}

int32
sup_job_take_priority(FunctionCallInfo fcinfo, int arg)
{
	int32		priority = PG_ARGISNULL(arg) ? SUP_JOB_DEFAULT_PRIORITY : PG_GETARG_INT32(arg);

	if (priority < 0 || priority >= SUP_PRIORITIES)
		sup_job_out_of_range("priority", "0, which runs first, to 9");
	return priority;
}

int32
sup_job_take_max_attempts(FunctionCallInfo fcinfo, int arg)
{
	int32		max_attempts = PG_ARGISNULL(arg) ? DEFAULT_ATTEMPTS : PG_GETARG_INT32(arg);

	if (max_attempts < 1)
		sup_job_out_of_range("max_attempts", "1 or more");
	return max_attempts;
}

char *
sup_job_take_pool(FunctionCallInfo fcinfo, int arg, Oid role)
{
	char	   *pool = sup_pool_arg(fcinfo, arg);

	if (!sup_pool_listed(pool))
		sup_refuse_missing_pool(pool);
	if (!superuser_arg(role))
		(void) sup_check_member(pool, role);
	return pool;
}

/*
 * The tables
 */

static Oid
lock_table(const SupTableDef *def)
{
	const char *complaint;
	Oid			table = sup_trusted_lock_quick(def, &complaint);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database cannot be managed"),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	return table;
}

Oid
sup_job_lock_table(void)
{
	return lock_table(&sup_job_table);
}

Oid
sup_job_lock_history(void)
{
	return lock_table(&sup_history_table);
}

Oid
sup_job_account(Oid role)
{
	return superuser_arg(role) ? InvalidOid : sup_account_of(role);
}

void
sup_job_note_change(const SupJobRow *row)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);

	sup_note_changed_job(role, sup_job_account(role), sup_job_text(row, SUP_JOB_POOL),
						 DatumGetInt16(row->values[SUP_JOB_PRIORITY]), sup_job_spot(row));
}
