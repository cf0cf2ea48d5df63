/*-------------------------------------------------------------------------
 *
 * recurring.c
 *	  A session adds, replaces and removes recurring jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "compat.h"
#include "jobargs.h"
#include "jobnotes.h"
#include "queue.h"
#include "recur.h"
#include "rights.h"

/* Arguments of schedule(), in order. */
enum
{
	ARG_NAME,
	ARG_SCHEDULE,
	ARG_COMMAND,
	ARG_POOL,
	ARG_TIME_ZONE,
	ARG_RUN_TIMEOUT,
	ARG_MAX_ATTEMPTS,
	ARG_ATOMIC,
	ARG_ROLE,
	ARG_ENABLED
};

/* Raises 42602 if it is empty, and 42622 if it is too long. */
static char *
take_name(FunctionCallInfo fcinfo)
{
	char	   *name = sup_text_arg(fcinfo, ARG_NAME, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a job must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of a job is too long"),
				 errhint("It has at most %d bytes.", NAMEDATALEN - 1)));
	return name;
}

/* Whom the job runs as, which the current role may have done. */
static Oid
take_role(FunctionCallInfo fcinfo)
{
	Oid			role = GetUserId();

	if (!PG_ARGISNULL(ARG_ROLE))
		role = get_role_oid(NameStr(*PG_GETARG_NAME(ARG_ROLE)), false);
	if (role != GetUserId() && !sup_may_set_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to schedule a job of role \"%s\"", sup_role_name(role)),
				 errdetail("Only a role that may SET ROLE to it may do so.")));
	sup_check_role_may_connect(role);
	return role;
}

/* The server's own, whatever this session's is: drivers set that. */
static char *
take_time_zone(FunctionCallInfo fcinfo)
{
	char		name[TZ_STRLEN_MAX + 1];

	if (!PG_ARGISNULL(ARG_TIME_ZONE))
		return sup_recur_zone(text_to_cstring(PG_GETARG_TEXT_PP(ARG_TIME_ZONE)));
	sup_lock();
	strlcpy(name, SupJob->time_zone, sizeof(name));
	sup_unlock();
	return sup_recur_zone(name);
}

/* All that the arguments say, but 'enabled', and what belongs to a job that waits. */
static void
take_arguments(FunctionCallInfo fcinfo, SupJobRow *row)
{
	char	   *schedule = sup_text_arg(fcinfo, ARG_SCHEDULE, "schedule");
	char	   *command = sup_text_arg(fcinfo, ARG_COMMAND, "command");
	bool		atomic = PG_ARGISNULL(ARG_ATOMIC) || PG_GETARG_BOOL(ARG_ATOMIC);
	int32		max_attempts;
	Oid			role = take_role(fcinfo);

	sup_recur_check(schedule);
	sup_check_command(command);
	sup_job_check_command(command, -1, atomic);
	max_attempts = sup_job_take_max_attempts(fcinfo, ARG_MAX_ATTEMPTS);
	row->nulls[SUP_JOB_RUN_TIMEOUT] = true;
	sup_job_take_interval(fcinfo, ARG_RUN_TIMEOUT, row, SUP_JOB_RUN_TIMEOUT, "run_timeout");
	sup_job_set(row, SUP_JOB_ROLE, ObjectIdGetDatum(role));
	sup_job_set(row, SUP_JOB_POOL, CStringGetTextDatum(sup_job_take_pool(fcinfo, ARG_POOL, role)));
	sup_job_set(row, SUP_JOB_COMMAND, PG_GETARG_DATUM(ARG_COMMAND));
	sup_job_check_size(row);
	sup_job_set(row, SUP_JOB_SCHEDULE, PG_GETARG_DATUM(ARG_SCHEDULE));
	sup_job_set(row, SUP_JOB_TIME_ZONE, CStringGetTextDatum(take_time_zone(fcinfo)));
	sup_job_set(row, SUP_JOB_MAX_ATTEMPTS, Int32GetDatum(max_attempts));
	sup_job_set(row, SUP_JOB_ATOMIC, BoolGetDatum(atomic));
	sup_job_set(row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
	sup_job_set(row, SUP_JOB_CRASHES, Int32GetDatum(0));
	sup_job_set(row, SUP_JOB_STATE, CharGetDatum('w'));
}

/* When it runs next, from now on. */
static void
set_times(SupJobRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		enabled = DatumGetBool(row->values[SUP_JOB_ENABLED]);
	TimestampTz next;

	if (!sup_recur_next(row, now, now, &next))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schedule \"%s\" never comes", sup_job_text(row, SUP_JOB_SCHEDULE))));
	sup_job_set(row, SUP_JOB_NEXT_AT, TimestampTzGetDatum(next));
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(enabled ? next : DT_NOEND));
	row->nulls[SUP_JOB_REASON] = enabled;
	if (!enabled)
		sup_job_set(row, SUP_JOB_REASON, CStringGetTextDatum("disabled"));
}

/* What only a new job gets. */
static void
init_row(SupJobRow *row, Oid table, Datum name)
{
	memset(row->values, 0, sizeof(row->values));
	memset(row->nulls, true, sizeof(row->nulls));
	sup_job_set(row, SUP_JOB_ID, Int64GetDatum(sup_job_next_id(table)));
	sup_job_set(row, SUP_JOB_NAME, name);
	sup_job_set(row, SUP_JOB_PRIORITY, Int16GetDatum(SUP_JOB_DEFAULT_PRIORITY));
	sup_job_set(row, SUP_JOB_RUNS, Int64GetDatum(0));
	sup_job_set(row, SUP_JOB_ENABLED, BoolGetDatum(true));
	sup_job_set(row, SUP_JOB_ENQUEUED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
}

static void
check_own(const char *name, const SupJobRow *row)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);

	if (!superuser() && !sup_may_set_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("recurring job \"%s\" is of role \"%s\"", name, sup_role_name(role)),
				 errdetail("Only a role that may SET ROLE to it may change it.")));
}

/*
 * The row of that name, locked; false: there is none.  Raises 42501 if it is another's
 * whom the current role may not become, who is told so before he has locked anything.
 */
static bool
find_own(Oid table, const char *name, SupJobRow *row)
{
	int64		id = sup_job_of_name(table, name);

	if (id != 0 && sup_job_fetch(table, id, row) != SUP_JOB_GONE)
		check_own(name, row);
	sup_job_lock_name(table, name);
	id = sup_job_of_name(table, name);
	if (id == 0 || sup_job_fetch(table, id, row) == SUP_JOB_GONE)
		return false;
	check_own(name, row);
	if (!sup_job_lock(table, id, row))
		return false;
	check_own(name, row);
	return true;
}

/*
 * supervisor.schedule(): whoever has the name is replaced, and a run of it that is under
 * way goes on.
 */
PG_FUNCTION_INFO_V1(supervisor_schedule);
Datum
supervisor_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = take_name(fcinfo);
	SupJobRow	row;
	Oid			table;
	Oid			role;
	bool		replaces;

	sup_job_check_place("schedule()");
	table = sup_job_lock_table();
	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	replaces = find_own(table, name, &row);
	if (replaces)
		sup_job_note_change(&row);
	else
		init_row(&row, table, PG_GETARG_DATUM(ARG_NAME));
	take_arguments(fcinfo, &row);
	if (!PG_ARGISNULL(ARG_ENABLED))
		sup_job_set(&row, SUP_JOB_ENABLED, PG_GETARG_DATUM(ARG_ENABLED));
	set_times(&row);
	sup_job_set(&row, SUP_JOB_ORIGIN, Int64GetDatum(sup_job_origin()));
	role = DatumGetObjectId(row.values[SUP_JOB_ROLE]);
	sup_note_job(role, sup_job_account(role), sup_job_text(&row, SUP_JOB_POOL),
				 DatumGetInt16(row.values[SUP_JOB_PRIORITY]), sup_job_spot(&row));
	if (replaces)
		sup_job_update(table, &row);
	else
		sup_job_insert(table, &row);
	PopActiveSnapshot();
	CommandCounterIncrement();
	PG_RETURN_DATUM(row.values[SUP_JOB_ID]);
}

/* supervisor.unschedule(): a run that is under way goes on. */
PG_FUNCTION_INFO_V1(supervisor_unschedule);
Datum
supervisor_unschedule(PG_FUNCTION_ARGS)
{
	char	   *name = take_name(fcinfo);
	SupJobRow	row;
	Oid			table;
	bool		found;

	sup_job_check_place("unschedule()");
	table = sup_job_lock_table();
	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	found = find_own(table, name, &row);
	if (found)
	{
		sup_job_note_change(&row);
		sup_job_delete(table, &row);
	}
	PopActiveSnapshot();
	CommandCounterIncrement();
	PG_RETURN_BOOL(found);
}
