/*-------------------------------------------------------------------------
 *
 * recur.c
 *	  Schedules of recurring jobs, with the server's intervals and time zones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "recur.h"
#include "schedule.h"

/* SupZone.offset_at */
static int
offset_at(const void *context, int64_t at, int64_t *until)
{
	pg_time_t	t = at;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			before_isdst;
	int			after_isdst;

	*until = INT64_MAX;
	switch (pg_next_dst_boundary(&t, &before, &before_isdst, &boundary, &after, &after_isdst,
								 (const pg_tz *) context))
	{
		case 1:
			*until = boundary;
			return (int) before;
		case 0:
			return (int) before;
		default:
			return 0;			/* beyond what it can tell */
	}
}

/* A field, quoted, as the message names it. */
static char *
token_of(const char *schedule, const SupScheduleError *error)
{
	return pnstrdup(schedule + error->position, error->length);
}

pg_noreturn static void
raise_fault(const char *text, const SupScheduleError *error)
{
	const char *token = token_of(text, error);

	switch (error->fault)
	{
		case SUP_SCHEDULE_REBOOT:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("A job has no time at which the server starts."),
					 errhint("Use supervisor.add_worker(), which starts a command with the server.")));
			break;
		case SUP_SCHEDULE_NO_SUCH_NAME:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errhint("Names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.")));
			break;
		case SUP_SCHEDULE_FIELD_COUNT:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("It has %d fields.", error->found),
					 errhint("There are five: minute, hour, day of month, month, day of week.")));
			break;
		case SUP_SCHEDULE_OUT_OF_RANGE:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("\"%s\" is out of range for the %s, which is %d to %d.",
							   token, error->field, error->low, error->high)));
			break;
		case SUP_SCHEDULE_BACKWARDS:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("The range \"%s\" of the %s ends before it begins.", token, error->field),
					 errhint("Write it as two ranges, as 22-23,0-4 of the hour.")));
			break;
		case SUP_SCHEDULE_STEP_ALONE:
		case SUP_SCHEDULE_BAD_STEP:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("\"%s\" is no step of the %s.", token, error->field),
					 errhint("A step follows an asterisk or a range, as in */5 or 8-18/2.")));
			break;
		case SUP_SCHEDULE_NEVER:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("schedule \"%s\" never comes", text),
					 errdetail("No year has such a date.")));
			break;
		case SUP_SCHEDULE_NOT_CRON:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errhint("It is five fields as in \"30 3 * * 1-5\", a name as @daily, or an interval of 1 second to less than 1 day.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule \"%s\"", text),
					 errdetail("\"%s\" is no value of the %s.", token, error->field ? error->field : "schedule"),
					 errhint("A value is a number, or three letters of a month or weekday. The last day of a month is L or $.")));
	}
	pg_unreachable();
}

/*
 * An interval, without days and months, whose length is not always the same.  What is
 * raised of a text that is none is not for the caller; nothing is held by then.
 */
static bool
parse_interval(const char *text, SupSchedule *schedule)
{
	volatile bool good = false;
	MemoryContext oldcontext = CurrentMemoryContext;

	PG_TRY();
	{
		Interval   *span = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
																 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

		good = span->month == 0 && span->day == 0 && sup_schedule_every(span->time, schedule);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return good;
}

static bool
parse(const char *text, SupSchedule *schedule, SupScheduleError *error)
{
	if (sup_schedule_parse(text, schedule, error))
		return true;
	return error->fault == SUP_SCHEDULE_NOT_CRON && parse_interval(text, schedule);
}

/*
 * More than all values of all fields need.  The loader goes through the schedules of a database
 * while others wait for it, and everybody sees them.
 */
#define MAX_SCHEDULE_BYTES	1024

void
sup_recur_check(const char *text)
{
	SupSchedule schedule;
	SupScheduleError error;

	if (strlen(text) > MAX_SCHEDULE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schedule of a job is too long"),
				 errhint("It has at most %d bytes.", MAX_SCHEDULE_BYTES)));
	if (!parse(text, &schedule, &error))
		raise_fault(text, &error);
}

char *
sup_recur_zone(const char *name)
{
	pg_tz	   *zone = strlen(name) <= TZ_STRLEN_MAX ? pg_tzset(name) : NULL;

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", name),
				 errhint("Time zones are listed in the view \"pg_timezone_names\".")));
	if (!pg_tz_acceptable(zone))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" appears to use leap seconds", name),
				 errdetail("PostgreSQL does not support leap seconds.")));
	return pstrdup(pg_get_timezone_name(zone));
}

bool
sup_recur_next(const SupJobRow *row, TimestampTz start, TimestampTz after, TimestampTz *next)
{
	char	   *name = sup_job_text(row, SUP_JOB_TIME_ZONE);
	pg_tz	   *tz = pg_tzset("GMT");
	SupZone		zone = {offset_at, tz};
	SupSchedule schedule;
	SupScheduleError error;

	if (name != NULL)
		tz = strlen(name) <= TZ_STRLEN_MAX ? pg_tzset(name) : NULL;
	zone.context = tz;
	return tz != NULL && parse(sup_job_text(row, SUP_JOB_SCHEDULE), &schedule, &error) &&
		sup_schedule_next(&schedule, &zone, start, after, next);
}

void
sup_recur_fail(SupJobRow *row)
{
	sup_job_set(row, SUP_JOB_STATE, CharGetDatum('f'));
	sup_job_set(row, SUP_JOB_REASON, CStringGetTextDatum("no_next_time"));
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(DT_NOEND));
	ereport(WARNING,
			(errmsg("job %lld \"%s\" has failed, as its schedule has no next time",
					(long long) sup_job_spot(row).id,
					row->nulls[SUP_JOB_NAME] ? "" : sup_job_text(row, SUP_JOB_NAME)),
			 errhint("Its time zone may not be known any more. Schedule it again.")));
}
