/*-------------------------------------------------------------------------
 *
 * args.c
 *	  What the SQL-callable functions do with their arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "args.h"
#include "state.h"

void
sup_require_preload(void)
{
	if (Sup == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("supervisor must be loaded via \"%s\"", "shared_preload_libraries"),
				 errhint("Add it to \"%s\" and restart the server.", "shared_preload_libraries")));
}

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

char *
sup_text_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

TimestampTz
sup_deadline_arg(FunctionCallInfo fcinfo, int n)
{
	TimestampTz now;
	Interval   *timeout;
	Interval	zero = {0};

	if (PG_ARGISNULL(n))
		return 0;
	timeout = PG_GETARG_INTERVAL_P(n);
	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, IntervalPGetDatum(timeout),
										  IntervalPGetDatum(&zero))) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	now = GetCurrentTimestamp();
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(timeout)));
}
