/*-------------------------------------------------------------------------
 *
 * args.c
 *	  What the SQL-callable functions do with their arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "args.h"
#include "state.h"

/* Every function that looks into shared memory begins with this. */
void
sup_require_preload(void)
{
	if (Sup == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("supervisor must be loaded via \"%s\"", "shared_preload_libraries"),
				 errhint("Add it to \"%s\" and restart the server.", "shared_preload_libraries")));
}

/* White space alone is empty; a mere comment is refused by the worker. */
void
sup_check_command(const char *command)
{
	if (command == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("command must not be null")));
	if (command[strspn(command, " \t\n\r\f\v")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command is empty")));
}

/* palloc'd; 'name' is what the message calls the argument. */
char *
sup_text_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* NULL is never.  Raises also 22008, if the time is beyond all timestamps. */
TimestampTz
sup_deadline_arg(FunctionCallInfo fcinfo, int n)
{
	TimestampTz now;
	TimestampTz until;
	Interval   *timeout;
	Interval	zero = {0};

	sup_require_preload();		/* the clock is in shared memory */
	if (PG_ARGISNULL(n))
		return 0;
	timeout = PG_GETARG_INTERVAL_P(n);
	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, IntervalPGetDatum(timeout),
										  IntervalPGetDatum(&zero))) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	now = GetCurrentTimestamp();
	until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													TimestampTzGetDatum(now),
													IntervalPGetDatum(timeout)));
	return TIMESTAMP_NOT_FINITE(until) ? DT_NOEND : sup_now() + (until - now);
}

/* As for a column of a table, in which anything may be. */
int64
sup_interval_us(const Interval *span)
{
	double		us = (double) span->time + ((double) span->day + (double) span->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	double		longest = 10.0 * DAYS_PER_YEAR * USECS_PER_DAY;

	return us < 0 ? 0 : (int64) Min(us, longest);
}

/* The elements are palloc'd.  Raises 2202E if it has several dimensions. */
int
sup_text_array_arg(FunctionCallInfo fcinfo, int n, char ***elements)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(n))
		return -1;
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array must be one-dimensional")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	*elements = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(*elements)[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	}
	pfree(values);
	pfree(nulls);
	return count;
}

/*
 * Parses the command only if it has the word.  If it can't be parsed it has
 * no such statement: the worker will say what is wrong with it.
 */
bool
sup_runs_concurrently(const char *command)
{
	List	   *volatile parsetrees = NIL;
	ListCell   *lc;
	const char *p;
	MemoryContext oldcontext = CurrentMemoryContext;

	/* Cheap first: most commands don't have the word at all. */
	for (p = strpbrk(command, "cC"); p != NULL; p = strpbrk(p + 1, "cC"))
		if (pg_strncasecmp(p, "concurrently", 12) == 0)
			break;
	if (p == NULL)
		return false;

	PG_TRY();
	{
		parsetrees = raw_parser(command, RAW_PARSE_DEFAULT);
	}
	PG_CATCH();
	{
		/* The worker will say what is wrong with it. */
		MemoryContextSwitchTo(oldcontext);
		FlushErrorState();
	}
	PG_END_TRY();

	foreach(lc, parsetrees)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;

		if (IsA(stmt, IndexStmt) && ((IndexStmt *) stmt)->concurrent)
			return true;
		if (IsA(stmt, DropStmt) && ((DropStmt *) stmt)->concurrent)
			return true;
		if (IsA(stmt, ReindexStmt))
		{
			ListCell   *option;

			foreach(option, ((ReindexStmt *) stmt)->params)
			{
				if (strcmp(lfirst_node(DefElem, option)->defname, "concurrently") == 0 &&
					defGetBoolean(lfirst_node(DefElem, option)))
					return true;
			}
		}
		if (IsA(stmt, AlterTableStmt))
		{
			ListCell   *cmd;

			foreach(cmd, ((AlterTableStmt *) stmt)->cmds)
			{
				AlterTableCmd *c = lfirst_node(AlterTableCmd, cmd);

				if (c->subtype == AT_DetachPartitionFinalize ||
					(c->subtype == AT_DetachPartition && ((PartitionCmd *) c->def)->concurrent))
					return true;
			}
		}
	}
	return false;
}

/* For those who hold a snapshot while they wait; perform() holds none. */
void
sup_refuse_concurrently(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot wait for a command with CONCURRENTLY while holding a snapshot"),
			 errdetail("The command waits until all older snapshots are gone, that of this statement too."),
			 errhint("Use CALL supervisor.perform().")));
}
