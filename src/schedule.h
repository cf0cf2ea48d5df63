/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When recurring work is due: what a schedule says, and its next time.
 *
 * No clock, no settings, no time zone data: all of it comes in as arguments,
 * so that every case can be tested (t/schedule_test.c).
 *
 * Times are microseconds since 2000-01-01 00:00 UTC, as in TimestampTz.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SCHEDULE_H
#define SUP_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* The fields of a cron schedule, in their order. */
typedef enum SupScheduleField
{
	SUP_FIELD_MINUTE,
	SUP_FIELD_HOUR,
	SUP_FIELD_DAY,
	SUP_FIELD_MONTH,
	SUP_FIELD_WEEKDAY
} SupScheduleField;

#define SUP_SCHEDULE_FIELDS (SUP_FIELD_WEEKDAY + 1)

/*
 * A schedule: an interval, or times of the calendar.  Filled by
 * sup_schedule_parse() or sup_schedule_every(), and looked into by nobody else.
 */
typedef struct SupSchedule
{
	int64_t		every;			/* from start to start; 0: by what follows */
	int64_t		values[SUP_SCHEDULE_FIELDS];	/* bit n: n is in the field;
												 * Sunday is 0 */
	bool		star[SUP_SCHEDULE_FIELDS];	/* '*', or a step of it, is in it */
	bool		last_day;		/* the month's last day is given, too */
} SupSchedule;

/* What is wrong with the text of a schedule. */
typedef enum SupScheduleFault
{
	SUP_SCHEDULE_GOOD,
	SUP_SCHEDULE_NOT_CRON,		/* may be an interval */
	SUP_SCHEDULE_REBOOT,		/* "@reboot" */
	SUP_SCHEDULE_NO_SUCH_NAME,	/* another word with '@' */
	SUP_SCHEDULE_FIELD_COUNT,	/* there are 'found' fields, and not five */
	SUP_SCHEDULE_NO_VALUE,		/* not a number, name, range, step or '*' */
	SUP_SCHEDULE_OUT_OF_RANGE,	/* a number below 'low' or above 'high' */
	SUP_SCHEDULE_BACKWARDS,		/* a range that ends before it begins */
	SUP_SCHEDULE_STEP_ALONE,	/* a step, and no range or '*' before it */
	SUP_SCHEDULE_BAD_STEP,		/* a step that is no number from 'low' to
								 * 'high' */
	SUP_SCHEDULE_NEVER			/* dates that no year has */
} SupScheduleFault;

/*
 * The same with what a message needs.  The token is a part of the text that was
 * parsed, not cut within a character of any encoding of a server.
 */
typedef struct SupScheduleError
{
	SupScheduleFault fault;
	int			position;		/* of the token, in bytes from the beginning */
	int			length;			/* of the token, in bytes */
	const char *field;			/* "day of month" and so on; NULL: none */
	int			low;
	int			high;
	int			found;
} SupScheduleError;

/*
 * A time zone.  Says how many seconds local time is ahead of UTC at a time, and
 * sets *until to when that may change next: later than 'at', or INT64_MAX if it
 * stays.  These times are seconds since 1970, as in pg_time_t.
 */
typedef struct SupZone
{
	int			(*offset_at) (const void *context, int64_t at, int64_t *until);
	const void *context;
} SupZone;

/*
 * Understand five fields of cron, or a name with '@'.  On failure *error says
 * what is wrong, and *schedule is of no use.
 *
 * Intervals are the caller's to understand, as only the server can.  What looks
 * like neither cron nor a name fails with SUP_SCHEDULE_NOT_CRON: give it to
 * interval_in(), and what comes of that to sup_schedule_every().
 */
extern bool sup_schedule_parse(const char *text, SupSchedule *schedule,
							   SupScheduleError *error);

/*
 * Make it an interval, in microseconds; false if it is not at least 1 second
 * and less than 1 day.
 */
extern bool sup_schedule_every(int64_t interval, SupSchedule *schedule);

/*
 * The first time of the schedule that is later than 'after', in UTC, whatever
 * local time does.  An interval is counted from 'start', when the last run has
 * begun, and needs no zone; times that have passed since are left out.  If the
 * clock has been set back since, so that 'start' is later than 'after', it is
 * counted back from there.  The other schedules do not look at 'start'.
 *
 * If hours are given, each date has each of its times once: one that local time
 * skips is when the gap ends, and one that comes twice is the first of them.  If
 * there is a '*' among the hours, it is a time whenever the clock shows it:
 * twice if it comes twice, not at all if it is skipped.
 *
 * False if there is none before the end of what a timestamp can hold, or if
 * 'after' is infinite.
 */
extern bool sup_schedule_next(const SupSchedule *schedule, const SupZone *zone,
							  int64_t start, int64_t after, int64_t *next);

#endif							/* SUP_SCHEDULE_H */
