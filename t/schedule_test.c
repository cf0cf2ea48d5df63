/*-------------------------------------------------------------------------
 *
 * schedule_test.c
 *	  Unit tests of src/schedule.c, as TAP; compiled and run by t/014_schedule.pl.
 *
 *	schedule_test [SCHEDULES [SECONDS [SEED]]]
 *
 * First tables of cases.  Then, in schedule_random.c, so many random schedules
 * per zone, and garbage for so long.  Time zones are the C library's.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE				/* timegm, tm_gmtoff */
#include "schedule_test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END_TIME INT64_C(9223371331200000000)

static int	tests = 0;
static int	failures = 0;

bool
ok(bool good, const char *format,...)
{
	va_list		args;
	char		name[400];

	tests++;
	if (!good)
		failures++;
	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	for (char *p = name; *p != '\0'; p++)
	{
		if (*p > 0 && *p < ' ')
			*p = ' ';
	}
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
	return good;
}

static uint64_t state;

unsigned int
any(unsigned int below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned int) ((state >> 32) % below);
}

/* ---- Times ---- */

/* "2025-03-30 03:00+2", seconds and minutes of the offset are optional. */
int64_t
at(const char *text)
{
	struct tm	tm = {0};
	int			seconds = 0;
	int			hours = 0;
	int			minutes = 0;
	int			n = 0;
	const char *p = text;
	char		sign = '+';

	if (sscanf(p, "%d-%d-%d %d:%d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &n) < 5)
		abort();
	p += n;
	if (*p == ':')
	{
		seconds = atoi(p + 1);
		p += 3;
	}
	if (*p != '\0')
		sscanf(p, "%c%d:%d", &sign, &hours, &minutes);
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	tm.tm_sec = seconds;
	return (timegm(&tm) - (sign == '-' ? -1 : 1) * (hours * 60 + minutes) * 60 - EPOCH) * SEC;
}

/* In UTC. */
const char *
show(int64_t when)
{
	static char buffers[4][64];
	static int	i = 0;
	char	   *buffer = buffers[i++ % 4];
	time_t		seconds = when / SEC - (when % SEC < 0) + EPOCH;
	struct tm	tm;

	gmtime_r(&seconds, &tm);
	snprintf(buffer, sizeof(buffers[0]), "%ld-%02d-%02d %02d:%02d:%02d", tm.tm_year + 1900L,
			 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	return buffer;
}

/* ---- Zones ---- */

int
libc_offset(int64_t seconds)
{
	time_t		when = seconds;
	struct tm	tm;

	localtime_r(&when, &tm);
	return (int) tm.tm_gmtoff;
}

void
use_zone(const char *name)
{
	setenv("TZ", name, 1);
	tzset();
}

static int
table_offset(const void *context, int64_t when, int64_t *until)
{
	const ZoneTable *table = context;
	int			low = 0;
	int			high = table->n - 1;

	while (low < high)
	{
		int			middle = (low + high + 1) / 2;

		if (table->from[middle] <= when)
			low = middle;
		else
			high = middle - 1;
	}
	*until = low + 1 < table->n ? table->from[low + 1] : INT64_MAX;
	return table->offset[low];
}

/* A zone with all its changes from 1950 to 2150. */
const ZoneTable *
zone_table(const char *name)
{
	static ZoneTable tables[32];
	static int	n = 0;
	ZoneTable  *table = tables;
	const int64_t step = 48 * 3600;	/* no zone changes there and back within it */

	for (; table < tables + n; table++)
	{
		if (strcmp(table->name, name) == 0)
			return table;
	}
	if (n++ == 32)
		abort();
	use_zone(name);
	strcpy(table->name, name);
	table->from[0] = INT64_MIN;
	table->offset[0] = libc_offset(INT64_C(-631152000));
	table->n = 1;
	for (int64_t when = INT64_C(-631152000); when < INT64_C(5680281600); when += step)
	{
		int			before = table->offset[table->n - 1];
		int64_t		low = when;
		int64_t		high = when + step;

		if (libc_offset(high) == before)
			continue;
		while (high - low > 1)
		{
			int64_t		middle = low + (high - low) / 2;

			if (libc_offset(middle) == before)
				low = middle;
			else
				high = middle;
		}
		table->from[table->n] = high;
		table->offset[table->n] = libc_offset(high);
		table->n++;
	}
	table->zone.offset_at = table_offset;
	table->zone.context = table;
	return table;
}

/* ---- What is accepted ---- */

const char *
fault_name(SupScheduleFault fault)
{
	static const char *const names[] = {
		"good", "not cron", "reboot", "no such name", "field count", "no value",
		"out of range", "backwards", "step alone", "bad step", "never"
	};

	return names[fault];
}

/* Both are understood, and alike. */
static void
same(const char *text, const char *plain)
{
	SupSchedule a;
	SupSchedule b;
	SupScheduleError error;
	bool		good = sup_schedule_parse(text, &a, &error);

	if (!ok(good && error.fault == SUP_SCHEDULE_GOOD && sup_schedule_parse(plain, &b, &error) &&
			a.every == 0 && memcmp(a.values, b.values, sizeof(a.values)) == 0 && a.last_day == b.last_day &&
			memcmp(a.star, b.star, sizeof(a.star)) == 0,
			"\"%s\" is \"%s\"", text, plain))
		printf("#   %s\n", fault_name(error.fault));
}

static void
refused(const char *text, SupScheduleFault fault, const char *token, const char *field, int low, int high)
{
	SupSchedule schedule;
	SupScheduleError error;
	bool		good = sup_schedule_parse(text, &schedule, &error);

	if (!ok(!good && error.fault == fault && (size_t) error.length == strlen(token) &&
			strncmp(text + error.position, token, error.length) == 0 &&
			(field == NULL ? error.field == NULL : error.field != NULL && strcmp(field, error.field) == 0) &&
			(field == NULL || (error.low == low && error.high == high)),
			"\"%s\" is refused: %s: \"%s\"", text, fault_name(fault), token))
		printf("#   got: %s \"%.*s\", %s, %d to %d\n", fault_name(error.fault), error.length,
			   text + error.position, error.field ? error.field : "no field", error.low, error.high);
}

static void
counted(const char *text, int found)
{
	SupSchedule schedule;
	SupScheduleError error;

	ok(!sup_schedule_parse(text, &schedule, &error) && error.fault == SUP_SCHEDULE_FIELD_COUNT &&
	   error.found == found, "\"%s\" is refused: it has %d fields", text, found);
}

static void
test_accepted(void)
{
	same("@hourly", "0 * * * *");
	same("@daily", "0 0 * * *");
	same("@midnight", "0 0 * * *");
	same("@weekly", "0 0 * * 0");
	same("@monthly", "0 0 1 * *");
	same("@yearly", "0 0 1 1 *");
	same("@annually", "0 0 1 1 *");
	same(" @DailY\n", "0 0 * * *");

	same("\t0  12\v* \r\n* * ", "0 12 * * *");
	same("00 007 1 01 *", "0 7 1 1 *");
	same("0-3 0 * * *", "0,1,2,3 0 * * *");
	same("5-5 0 * * *", "5 0 * * *");
	same("1-30/10,3,3,59 0 * * *", "1,3,11,21,59 0 * * *");
	same("7-8/60 0 * * *", "7 0 * * *");
	same("0 0-23/8,3 * * *", "0 0,3,8,16 * * *");
	same("0 0 * jan,FEB,mAr,apr,may,jun,jul,aug,sep,oct,nov,dec *", "0 0 * 1-12 *");
	same("0 0 * Oct-Dec/2 *", "0 0 * 10,12 *");
	same("0 0 * * Sun,MON,tue,wed,thu,fri,sat", "0 0 * * 0-6");
	same("0 0 * * 7", "0 0 * * 0");
	same("0 0 * * 0-7", "0 0 * * 0-6");
	same("0 0 * * 5-7", "0 0 * * 0,5,6");
	same("0 0 * * fri-sun", "0 0 * * 0,5,6");
	same("0 0 * * 5-0", "0 0 * * 0,5,6");
	same("0 0 * * 0-0", "0 0 * * 0");
	same("0 0 * * sun-sun", "0 0 * * 0");
	same("0 0 * * sun-tue", "0 0 * * 0,1,2");
	same("0 0 * * 1-7/2", "0 0 * * 0,1,3,5");
	same("0 0 * * */7", "0 0 * * */7,0");
	same("0 0 L * *", "0 0 $ * *");
	same("0 0 l * *", "0 0 $ * *");
	same("0 0 1,$,15 * *", "0 0 1,15,L * *");
	same("0 0 30,29 2 *", "0 0 29,30 2 *");
	same("0 0 30 1-2 *", "0 0 30 1,2 *");
	same("0 0 30 2 mon", "0 0 30 2 1");
	same("0 */24 * * *", "0 0 * * *");
	same("1 2 3 4 5", "1 2 3 4 5");

	{
		SupSchedule schedule;
		SupScheduleError error;

		ok(sup_schedule_parse("0 0 L,$ 2 *", &schedule, &error), "February has a last day");
		ok(sup_schedule_parse("0 0 29 2 */7", &schedule, &error), "29 February is a Sunday at times");
	}
}

static void
test_refused(void)
{
	static const char *const intervals[] = {
		"10", "1 s", "30 seconds", "5 min", "00:05:00", "2 3:00:00", "1 h 2 min 3", "1 h 2 min 3 s",
		"3 days 4 hours ago", "1 day, 2 hours", "PT5M", "P1DT1H", "@ 5 mins", "@5 mins", "-1", "1-2",
		"nonsense", "x y z u v"
	};

	for (size_t i = 0; i < sizeof(intervals) / sizeof(intervals[0]); i++)
		refused(intervals[i], SUP_SCHEDULE_NOT_CRON, intervals[i], NULL, 0, 0);

	refused("@reboot", SUP_SCHEDULE_REBOOT, "@reboot", NULL, 0, 0);
	refused(" @Reboot ", SUP_SCHEDULE_REBOOT, "@Reboot", NULL, 0, 0);
	refused("@fortnightly", SUP_SCHEDULE_NO_SUCH_NAME, "@fortnightly", NULL, 0, 0);
	refused("@dail", SUP_SCHEDULE_NO_SUCH_NAME, "@dail", NULL, 0, 0);
	refused("@dailyx", SUP_SCHEDULE_NO_SUCH_NAME, "@dailyx", NULL, 0, 0);
	refused(" @daily 5 ", SUP_SCHEDULE_NO_SUCH_NAME, "@daily 5", NULL, 0, 0);
	refused("@every 5m", SUP_SCHEDULE_NO_SUCH_NAME, "@every 5m", NULL, 0, 0);

	counted("", 0);
	counted(" \t\n", 0);
	counted("*", 1);
	counted("*/5", 1);
	counted("5 4", 2);
	counted("0 3 * *", 4);
	counted("0 3 1 1", 4);
	counted("0 0 3 * * *", 6);
	counted("0 3 * * * root", 6);

	refused("60 * * * *", SUP_SCHEDULE_OUT_OF_RANGE, "60", "minute", 0, 59);
	refused("* 24 * * *", SUP_SCHEDULE_OUT_OF_RANGE, "24", "hour", 0, 23);
	refused("* * 0 * *", SUP_SCHEDULE_OUT_OF_RANGE, "0", "day of month", 1, 31);
	refused("* * 1,32 * *", SUP_SCHEDULE_OUT_OF_RANGE, "32", "day of month", 1, 31);
	refused("* * * 0 *", SUP_SCHEDULE_OUT_OF_RANGE, "0", "month", 1, 12);
	refused("* * * 1-13 *", SUP_SCHEDULE_OUT_OF_RANGE, "13", "month", 1, 12);
	refused("* * * * 8", SUP_SCHEDULE_OUT_OF_RANGE, "8", "day of week", 0, 7);
	refused("4294967296 * * * *", SUP_SCHEDULE_OUT_OF_RANGE, "4294967296", "minute", 0, 59);
	refused("99999999999999999999 0 0 0 0", SUP_SCHEDULE_OUT_OF_RANGE, "99999999999999999999", "minute", 0, 59);

	refused("30-10 * * * *", SUP_SCHEDULE_BACKWARDS, "30-10", "minute", 30, 10);
	refused("1,30-29 * * * *", SUP_SCHEDULE_BACKWARDS, "30-29", "minute", 30, 29);
	refused("0 22-4 * * *", SUP_SCHEDULE_BACKWARDS, "22-4", "hour", 22, 4);
	refused("0 0 * nov-feb/2 *", SUP_SCHEDULE_BACKWARDS, "nov-feb", "month", 11, 2);
	refused("0 0 * * sat-mon", SUP_SCHEDULE_BACKWARDS, "sat-mon", "day of week", 6, 1);
	refused("0 0 * * 7-1", SUP_SCHEDULE_BACKWARDS, "7-1", "day of week", 7, 1);

	refused("5/10 * * * *", SUP_SCHEDULE_STEP_ALONE, "5/10", "minute", 5, 59);
	refused("0 0 * * mon/2", SUP_SCHEDULE_STEP_ALONE, "mon/2", "day of week", 1, 6);
	refused("*/0 * * * *", SUP_SCHEDULE_BAD_STEP, "*/0", "minute", 1, 60);
	refused("*/90 * * * *", SUP_SCHEDULE_BAD_STEP, "*/90", "minute", 1, 60);
	refused("0 */25 * * *", SUP_SCHEDULE_BAD_STEP, "*/25", "hour", 1, 24);
	refused("0 0 */32 * *", SUP_SCHEDULE_BAD_STEP, "*/32", "day of month", 1, 31);
	refused("0 0 * */13 *", SUP_SCHEDULE_BAD_STEP, "*/13", "month", 1, 12);
	refused("0 0 * * */8", SUP_SCHEDULE_BAD_STEP, "*/8", "day of week", 1, 7);
	refused("*/ * * * *", SUP_SCHEDULE_BAD_STEP, "*/", "minute", 1, 60);
	refused("*/-1 * * * *", SUP_SCHEDULE_BAD_STEP, "*/-1", "minute", 1, 60);
	refused("1-5/2/2 * * * *", SUP_SCHEDULE_BAD_STEP, "1-5/2/2", "minute", 1, 60);
	refused("*/4294967297 * * * *", SUP_SCHEDULE_BAD_STEP, "*/4294967297", "minute", 1, 60);

	refused("1,,2 * * * *", SUP_SCHEDULE_NO_VALUE, "", "minute", 0, 59);
	refused(", * * * *", SUP_SCHEDULE_NO_VALUE, "", "minute", 0, 59);
	refused("1, * * * *", SUP_SCHEDULE_NO_VALUE, "", "minute", 0, 59);
	refused("-5 * * * *", SUP_SCHEDULE_NO_VALUE, "-5", "minute", 0, 59);
	refused("5- * * * *", SUP_SCHEDULE_NO_VALUE, "5-", "minute", 0, 59);
	refused("1-2-3 * * * *", SUP_SCHEDULE_NO_VALUE, "1-2-3", "minute", 0, 59);
	refused("1.5 * * * *", SUP_SCHEDULE_NO_VALUE, "1.5", "minute", 0, 59);
	refused("+1 * * * *", SUP_SCHEDULE_NO_VALUE, "+1", "minute", 0, 59);
	refused("** * * * *", SUP_SCHEDULE_NO_VALUE, "**", "minute", 0, 59);
	refused("*5 * * * *", SUP_SCHEDULE_NO_VALUE, "*5", "minute", 0, 59);
	refused("*-5 * * * *", SUP_SCHEDULE_NO_VALUE, "*-5", "minute", 0, 59);
	refused("0 noon * * *", SUP_SCHEDULE_NO_VALUE, "noon", "hour", 0, 23);
	refused("0 L * * *", SUP_SCHEDULE_NO_VALUE, "L", "hour", 0, 23);
	refused("0 0 ? * *", SUP_SCHEDULE_NO_VALUE, "?", "day of month", 1, 31);
	refused("0 0 L-3 * *", SUP_SCHEDULE_NO_VALUE, "L-3", "day of month", 1, 31);
	refused("0 0 1-L * *", SUP_SCHEDULE_NO_VALUE, "1-L", "day of month", 1, 31);
	refused("0 0 15W * *", SUP_SCHEDULE_NO_VALUE, "15W", "day of month", 1, 31);
	refused("0 0 LL * *", SUP_SCHEDULE_NO_VALUE, "LL", "day of month", 1, 31);
	refused("0 0 mon * *", SUP_SCHEDULE_NO_VALUE, "mon", "day of month", 1, 31);
	refused("0 0 * mon *", SUP_SCHEDULE_NO_VALUE, "mon", "month", 1, 12);
	refused("0 0 * ja *", SUP_SCHEDULE_NO_VALUE, "ja", "month", 1, 12);
	refused("0 0 * anf *", SUP_SCHEDULE_NO_VALUE, "anf", "month", 1, 12);
	refused("0 0 * * jan", SUP_SCHEDULE_NO_VALUE, "jan", "day of week", 0, 7);
	refused("0 0 * * 1,monday", SUP_SCHEDULE_NO_VALUE, "monday", "day of week", 0, 7);
	refused("0 0 * * mon-", SUP_SCHEDULE_NO_VALUE, "mon-", "day of week", 0, 7);
	refused("0 0 * * 5L", SUP_SCHEDULE_NO_VALUE, "5L", "day of week", 0, 7);
	refused("0 0 * * mon#2", SUP_SCHEDULE_NO_VALUE, "mon#2", "day of week", 0, 7);
	refused("0 0 * * L", SUP_SCHEDULE_NO_VALUE, "L", "day of week", 0, 7);
	refused("0 0 * * m\xc3\xb6n", SUP_SCHEDULE_NO_VALUE, "m\xc3\xb6n", "day of week", 0, 7);

	refused("0 0 30 2 *", SUP_SCHEDULE_NEVER, "0 0 30 2 *", NULL, 0, 0);
	refused(" 0 0 30-31 feb * ", SUP_SCHEDULE_NEVER, "0 0 30-31 feb *", NULL, 0, 0);
	refused("0 0 31 2,4,6,9,11 *", SUP_SCHEDULE_NEVER, "0 0 31 2,4,6,9,11 *", NULL, 0, 0);
	refused("0 0 31 4 */2", SUP_SCHEDULE_NEVER, "0 0 31 4 */2", NULL, 0, 0);
}

/* ---- The next times ---- */

typedef struct NextCase
{
	const char *zone;
	const char *schedule;
	const char *times[8];		/* the first: after which */
} NextCase;

static const NextCase next_cases[] = {
	/* the calendar */
	{"UTC", "* * * * *", {"2025-01-01 00:00", "2025-01-01 00:01", "2025-01-01 00:02"}},
	{"UTC", "* * * * *", {"1999-12-31 23:58:59", "1999-12-31 23:59", "2000-01-01 00:00", "2000-01-01 00:01"}},
	{"UTC", "*/25 */11 * * *", {"2025-01-01 00:30", "2025-01-01 00:50", "2025-01-01 11:00", "2025-01-01 11:25",
	"2025-01-01 11:50", "2025-01-01 22:00"}},
	{"UTC", "30 12 * * *", {"2025-12-31 12:29:59", "2025-12-31 12:30", "2026-01-01 12:30"}},
	{"UTC", "59 23 31 12 *", {"2025-12-31 23:59", "2026-12-31 23:59", "2027-12-31 23:59"}},
	{"UTC", "0 0 31 * *", {"2025-01-31 00:00", "2025-03-31 00:00", "2025-05-31 00:00", "2025-07-31 00:00",
	"2025-08-31 00:00"}},
	{"UTC", "0 0 L * *", {"2099-12-31 12:00", "2100-01-31 00:00", "2100-02-28 00:00", "2100-03-31 00:00", "2100-04-30 00:00"}},
	{"UTC", "0 0 L 2 *", {"2023-01-01 00:00", "2023-02-28 00:00", "2024-02-29 00:00", "2025-02-28 00:00"}},
	{"UTC", "0 0 15,$ * *", {"2024-02-01 00:00", "2024-02-15 00:00", "2024-02-29 00:00", "2024-03-15 00:00"}},
	{"UTC", "0 0 * * 7", {"2025-01-01 00:00", "2025-01-05 00:00", "2025-01-12 00:00"}},
	{"UTC", "0 0 * * fri-sun", {"2025-01-01 00:00", "2025-01-03 00:00", "2025-01-04 00:00", "2025-01-05 00:00", "2025-01-10 00:00"}},
	{"UTC", "0 0 13 * fri", {"2025-06-06 00:00", "2025-06-13 00:00", "2025-06-20 00:00", "2025-06-27 00:00",
	"2025-07-04 00:00", "2025-07-11 00:00", "2025-07-13 00:00"}},
	{"UTC", "0 0 L * mon", {"2025-09-23 00:00", "2025-09-29 00:00", "2025-09-30 00:00", "2025-10-06 00:00"}},
	{"UTC", "0 0 13 * *", {"2025-06-06 00:00", "2025-06-13 00:00", "2025-07-13 00:00"}},
	{"UTC", "0 0 */2 * mon", {"2025-09-01 00:00", "2025-09-15 00:00", "2025-09-29 00:00", "2025-10-13 00:00"}},
	{"UTC", "0 0 1-31 * mon", {"2025-09-01 00:00", "2025-09-02 00:00", "2025-09-03 00:00"}},
	{"UTC", "@yearly", {"2025-01-01 00:00", "2026-01-01 00:00", "2027-01-01 00:00"}},
	{"UTC", "@weekly", {"2025-01-01 00:00", "2025-01-05 00:00", "2025-01-12 00:00"}},
	{"UTC", "30 12 29 2 *", {"2088-03-01 00:00", "2092-02-29 12:30", "2096-02-29 12:30", "2104-02-29 12:30"}},
	{"UTC", "* */23 29 2 *", {"2096-02-29 23:59", "2104-02-29 00:00", "2104-02-29 00:01"}},
	{"UTC", "0 0 29 2 *", {"1996-03-01 00:00", "2000-02-29 00:00", "2004-02-29 00:00"}},
	{"UTC", "0 0 29 2 */7", {"2060-03-01 00:00", "2088-02-29 00:00", "2128-02-29 00:00"}},
	{"Europe/Berlin", "0 1 29 2 *", {"2096-02-29 01:00+1", "2104-02-29 01:00+1"}},
	{"Europe/Berlin", "0 * 29 2 *", {"2096-02-29 23:00+1", "2104-02-29 00:00+1", "2104-02-29 01:00+1"}},

	/* not whole hours, nor minutes */
	{"Asia/Kathmandu", "0 0 * * *", {"2025-01-01 00:00+5:45", "2025-01-02 00:00+5:45"}},
	{"Africa/Monrovia", "0 12 * * *", {"1971-06-01 12:45", "1971-06-02 12:44:30"}},
	{"Africa/Monrovia", "0 * * * *", {"1971-06-01 12:44:29", "1971-06-01 12:44:30", "1971-06-01 13:44:30"}},
	{"Africa/Monrovia", "20 0 * * *", {"1972-01-06 12:00", "1972-01-07 00:44:30", "1972-01-08 00:20"}},

	/* Berlin: 2 is 3, and 3 is 2 */
	{"Europe/Berlin", "30 2 * * *", {"2025-03-29 02:30+1", "2025-03-30 03:00+2", "2025-03-31 02:30+2"}},
	{"Europe/Berlin", "30 2 * * *", {"2025-10-25 02:30+2", "2025-10-26 02:30+2", "2025-10-27 02:30+1"}},
	{"Europe/Berlin", "30 2 * * *", {"2025-10-26 02:10+1", "2025-10-27 02:30+1"}},
	{"Europe/Berlin", "0 2 * * *", {"2025-10-26 01:59+2", "2025-10-26 02:00+2", "2025-10-27 02:00+1"}},
	{"Europe/Berlin", "0 3 * * *", {"2025-03-29 03:00+1", "2025-03-30 03:00+2", "2025-03-31 03:00+2"}},
	{"Europe/Berlin", "0 3 * * *", {"2025-10-25 03:00+2", "2025-10-26 03:00+1", "2025-10-27 03:00+1"}},
	{"Europe/Berlin", "0 2,3 * * *", {"2025-03-29 03:00+1", "2025-03-30 03:00+2", "2025-03-31 02:00+2", "2025-03-31 03:00+2"}},
	{"Europe/Berlin", "*/15 2 * * *", {"2025-03-29 02:45+1", "2025-03-30 03:00+2", "2025-03-31 02:00+2"}},
	{"Europe/Berlin", "*/15 2 * * *", {"2025-10-26 02:20+2", "2025-10-26 02:30+2", "2025-10-26 02:45+2", "2025-10-27 02:00+1"}},
	{"Europe/Berlin", "30 2 30 3 *", {"2024-04-01 00:00+2", "2025-03-30 03:00+2", "2026-03-30 02:30+2"}},
	{"Europe/Berlin", "30 * * * *", {"2025-03-30 00:30+1", "2025-03-30 01:30+1", "2025-03-30 03:30+2"}},
	{"Europe/Berlin", "30 * * * *", {"2025-10-26 01:30+2", "2025-10-26 02:30+2", "2025-10-26 02:30+1", "2025-10-26 03:30+1"}},
	{"Europe/Berlin", "0 */2 * * *", {"2025-03-29 22:00+1", "2025-03-30 00:00+1", "2025-03-30 04:00+2"}},
	{"Europe/Berlin", "0 */2 * * *", {"2025-10-26 00:00+2", "2025-10-26 02:00+2", "2025-10-26 02:00+1", "2025-10-26 04:00+1"}},
	{"Europe/Berlin", "0 0-23 * * *", {"2025-03-30 01:00+1", "2025-03-30 03:00+2", "2025-03-30 04:00+2"}},
	{"Europe/Berlin", "0 0-23 * * *", {"2025-10-26 01:00+2", "2025-10-26 02:00+2", "2025-10-26 03:00+1"}},
	{"Europe/Berlin", "*/20 * * * *", {"2025-10-26 02:40+2", "2025-10-26 02:00+1", "2025-10-26 02:20+1"}},

	/* Sao Paulo and Beirut: midnight is 1, and 0 is 23 */
	{"America/Sao_Paulo", "@daily", {"2018-11-03 00:00-3", "2018-11-04 01:00-2", "2018-11-05 00:00-2"}},
	{"America/Sao_Paulo", "0 */24 * * *", {"2018-11-03 00:00-3", "2018-11-04 01:00-2", "2018-11-05 00:00-2"}},
	{"America/Sao_Paulo", "30 0 4 11 *", {"2018-11-03 00:00-3", "2018-11-04 01:00-2", "2019-11-04 00:30-3"}},
	{"America/Sao_Paulo", "0 * * * *", {"2018-11-03 22:00-3", "2018-11-03 23:00-3", "2018-11-04 01:00-2"}},
	{"America/Sao_Paulo", "@daily", {"2018-02-17 00:00-2", "2018-02-18 00:00-3", "2018-02-19 00:00-3"}},
	{"America/Sao_Paulo", "30 23 * * *", {"2018-02-16 23:30-2", "2018-02-17 23:30-2", "2018-02-18 23:30-3"}},
	{"America/Sao_Paulo", "30 * * * *", {"2018-02-17 22:30-2", "2018-02-17 23:30-2", "2018-02-17 23:30-3", "2018-02-18 00:30-3"}},
	{"Asia/Beirut", "@daily", {"2022-03-26 00:00+2", "2022-03-27 01:00+3", "2022-03-28 00:00+3"}},
	{"Asia/Beirut", "@weekly", {"2022-03-21 00:00+2", "2022-03-27 01:00+3", "2022-04-03 00:00+3"}},
	{"Asia/Beirut", "*/10 0 * * *", {"2022-03-26 00:50+2", "2022-03-27 01:00+3", "2022-03-28 00:00+3"}},
	{"Asia/Beirut", "0 0 28 3 *", {"2021-01-01 00:00+2", "2021-03-28 01:00+3", "2022-03-28 00:00+3"}},
	{"Asia/Beirut", "@daily", {"2022-10-29 00:00+3", "2022-10-30 00:00+2", "2022-10-31 00:00+2"}},

	/* Apia: no 30 December 2011 */
	{"Pacific/Apia", "0 12 * * *", {"2011-12-29 12:00-10", "2011-12-31 00:00+14", "2011-12-31 12:00+14"}},
	{"Pacific/Apia", "@daily", {"2011-12-29 00:00-10", "2011-12-31 00:00+14", "2012-01-01 00:00+14"}},
	{"Pacific/Apia", "0 12 30 12 *", {"2010-12-30 12:00-10", "2011-12-31 00:00+14", "2012-12-30 12:00+14"}},
	{"Pacific/Apia", "0 9 * * fri", {"2011-12-23 09:00-10", "2011-12-31 00:00+14", "2012-01-06 09:00+14"}},
	{"Pacific/Apia", "0 * * * *", {"2011-12-29 22:00-10", "2011-12-29 23:00-10", "2011-12-31 00:00+14", "2011-12-31 01:00+14"}},
	{"Pacific/Apia", "0 * 30 12 *", {"2010-12-30 23:00-10", "2012-12-30 00:00+14"}},

	/* Kwajalein: 30 September 1969 twice, no 21 August 1993 */
	{"Pacific/Kwajalein", "0 12 * * *", {"1969-09-29 12:00+11", "1969-09-30 12:00+11", "1969-10-01 12:00-12"}},
	{"Pacific/Kwajalein", "30 15 * * *", {"1969-09-30 15:00-12", "1969-10-01 15:30-12"}},
	{"Pacific/Kwajalein", "0 12 30 9 *", {"1969-01-01 00:00+11", "1969-09-30 12:00+11", "1970-09-30 12:00-12"}},
	{"Pacific/Kwajalein", "0 */12 * * *", {"1969-09-30 00:00+11", "1969-09-30 12:00+11", "1969-09-30 12:00-12", "1969-10-01 00:00-12"}},
	{"Pacific/Kwajalein", "30 15 * * *", {"1993-08-20 15:30-12", "1993-08-22 00:00+12", "1993-08-22 15:30+12"}},

	/* Lord Howe: half an hour */
	{"Australia/Lord_Howe", "15 2 * * *", {"2025-10-04 02:15+10:30", "2025-10-05 02:30+11", "2025-10-06 02:15+11"}},
	{"Australia/Lord_Howe", "45 1 * * *", {"2025-04-05 01:45+11", "2025-04-06 01:45+11", "2025-04-07 01:45+10:30"}},
	{"Australia/Lord_Howe", "0 * * * *", {"2025-10-05 01:00+10:30", "2025-10-05 03:00+11"}},
	{"Australia/Lord_Howe", "0 * * * *", {"2025-04-06 01:00+11", "2025-04-06 02:00+10:30"}},
	{"Australia/Lord_Howe", "45 * * * *", {"2025-04-06 00:45+11", "2025-04-06 01:45+11", "2025-04-06 01:45+10:30", "2025-04-06 02:45+10:30"}},
	{"Australia/Lord_Howe", "*/15 2 * * *", {"2025-10-04 02:45+10:30", "2025-10-05 02:30+11", "2025-10-05 02:45+11", "2025-10-06 02:00+11"}},

	/* the end */
	{"UTC", "0 0 31 12 *", {"294275-12-31 00:00", "294276-12-31 00:00"}},
	{"UTC", "* * * * *", {"294276-12-31 23:57", "294276-12-31 23:58", "294276-12-31 23:59"}}
};

static void
test_next(void)
{
	for (size_t i = 0; i < sizeof(next_cases) / sizeof(next_cases[0]); i++)
	{
		const NextCase *c = &next_cases[i];
		const ZoneTable *table = zone_table(c->zone);
		SupSchedule schedule;
		SupScheduleError error;
		int64_t		after = at(c->times[0]);
		int64_t		next = 0;
		int			n = 1;
		bool		good = sup_schedule_parse(c->schedule, &schedule, &error);

		for (; good && n < 8 && c->times[n] != NULL; n++)
		{
			good = sup_schedule_next(&schedule, &table->zone, 0, after, &next) && next == at(c->times[n]);
			if (!good)
				break;
			/* one microsecond before it, it is still to come */
			good = sup_schedule_next(&schedule, &table->zone, 0, next - 1, &after) && after == next;
			if (!good)
				break;
		}
		if (!ok(good, "%s, \"%s\" after %s", c->zone, c->schedule, c->times[0]))
			printf("#   got %s UTC, expected %s\n", show(next), c->times[n]);
	}
}

/* Each day from 1600 to 2800 belongs to its month. */
static void
test_days(void)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int64_t		day = at("1600-01-01 00:00");
	int			wrong = 0;
	SupSchedule schedule;
	SupScheduleError error;

	sup_schedule_parse("@monthly", &schedule, &error);
	for (int month = 0; month < 1200 * 12; month++)
	{
		int			year = 1600 + month / 12;
		bool		leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
		int			length = lengths[month % 12] + (month % 12 == 1 && leap);
		int64_t		end = day + length * 1440 * MINUTE;

		for (; day < end; day += 1440 * MINUTE)
		{
			int64_t		next;

			if (!sup_schedule_next(&schedule, &zone_table("UTC")->zone, 0, day, &next) || next != end)
				wrong++;
		}
	}
	ok(wrong == 0 && day == at("2800-01-01 00:00"), "each day from 1600 to 2800 is in its month");
}

static bool
none_after(const char *text, int64_t after)
{
	SupSchedule schedule;
	SupScheduleError error;
	int64_t		next;

	return sup_schedule_parse(text, &schedule, &error) &&
		!sup_schedule_next(&schedule, &zone_table("UTC")->zone, 0, after, &next);
}

/* A zone that never says what is new. */
static int
stuck_offset(const void *context, int64_t when, int64_t *until)
{
	(void) context;
	*until = when;
	return 3600;
}

/* One that has another offset each minute. */
static int
restless_offset(const void *context, int64_t when, int64_t *until)
{
	(void) context;
	*until = when + 60;
	return -(int) (when / 60 % 7);
}

static void
test_ends(void)
{
	SupSchedule schedule;
	SupScheduleError error;
	SupZone		stuck = {stuck_offset, NULL};
	SupZone		restless = {restless_offset, NULL};
	int64_t		next;

	ok(END_TIME == at("294277-01-01 00:00"), "the end is the end");
	ok(none_after("* * * * *", at("294276-12-31 23:59")), "no minute after the last");
	ok(none_after("* 0-23 * * *", at("294276-12-31 23:59")), "nor with given hours");
	ok(none_after("0 0 1 1 *", at("294276-01-01 00:00")), "no year after the last");
	ok(none_after("0 0 29 2 *", at("294276-03-01 00:00")), "no leap year after the last");
	ok(none_after("* * * * *", END_TIME), "nothing after the end");
	ok(none_after("* * * * *", INT64_MAX), "nothing after infinity");
	ok(none_after("* * * * *", INT64_MIN), "nothing after -infinity");
	ok(sup_schedule_parse("* * * * *", &schedule, &error) &&
	   sup_schedule_next(&schedule, &zone_table("UTC")->zone, 0, INT64_C(-211813488000000000), &next) &&
	   next == INT64_C(-211813488000000000) + MINUTE, "there is one after the beginning");
	ok(sup_schedule_parse("@yearly", &schedule, &error) &&
	   sup_schedule_next(&schedule, &zone_table("UTC")->zone, 0, INT64_C(-211813488000000000), &next) &&
	   next == at("-4712-01-01 00:00"), "and a year");

	ok(sup_schedule_parse("0 12 * * *", &schedule, &error) &&
	   sup_schedule_next(&schedule, &stuck, 0, at("2025-01-01 12:00+1"), &next) &&
	   next == at("2025-01-02 12:00+1"), "a zone that is stuck ends, with given hours");
	ok(sup_schedule_parse("0 */12 * * *", &schedule, &error) &&
	   sup_schedule_next(&schedule, &stuck, 0, at("2025-01-01 12:00+1"), &next) &&
	   next == at("2025-01-02 00:00+1"), "and without");
	ok(sup_schedule_parse("0 0 29 2 *", &schedule, &error) &&
	   !sup_schedule_next(&schedule, &restless, 0, at("2025-01-01 12:00"), &next), "a restless zone ends, with given hours");
	ok(sup_schedule_parse("0 * 29 2 *", &schedule, &error) &&
	   !sup_schedule_next(&schedule, &restless, 0, at("2025-01-01 12:00"), &next), "and without");
}

static bool
interval_is(int64_t every, int64_t start, int64_t after, int64_t expected)
{
	SupSchedule schedule;
	int64_t		next;

	return sup_schedule_every(every, &schedule) &&
		sup_schedule_next(&schedule, NULL, start, after, &next) && next == expected;
}

static void
test_intervals(void)
{
	SupSchedule schedule;
	int64_t		now = at("2025-01-01 12:00");
	int64_t		next;

	ok(sup_schedule_every(SEC, &schedule), "1 second");
	ok(sup_schedule_every(24 * 60 * MINUTE - 1, &schedule), "just less than a day");
	ok(!sup_schedule_every(SEC - 1, &schedule), "less than 1 second is refused");
	ok(!sup_schedule_every(24 * 60 * MINUTE, &schedule), "1 day is refused");
	ok(!sup_schedule_every(0, &schedule) && !sup_schedule_every(-SEC, &schedule) &&
	   !sup_schedule_every(INT64_MAX, &schedule) && !sup_schedule_every(INT64_MIN, &schedule), "so is nonsense");

	ok(interval_is(5 * MINUTE, now, now, now + 5 * MINUTE), "from start to start");
	ok(interval_is(5 * MINUTE, now, now + 3 * MINUTE, now + 5 * MINUTE), "also if the run takes some time");
	ok(interval_is(5 * MINUTE, now, now + 5 * MINUTE, now + 10 * MINUTE), "and if it takes all of it");
	ok(interval_is(5 * MINUTE, now, now + 12 * MINUTE + 1, now + 15 * MINUTE), "what has passed is left out");
	ok(interval_is(7 * SEC, -3 * SEC, 9 * SEC, 11 * SEC), "also around 2000");
	ok(interval_is(7 * SEC, -30 * SEC, -20 * SEC, -16 * SEC), "and before");
	ok(interval_is(7 * SEC, -6 * SEC, 6 * SEC, 8 * SEC), "and on both sides");
	ok(interval_is(5 * MINUTE, now + 61 * MINUTE, now, now + MINUTE), "a clock that was set back does not hold it up");
	ok(interval_is(SEC, INT64_MIN, now, now + 224192), "a start at any time will do");
	ok(sup_schedule_every(SEC, &schedule) &&
	   !sup_schedule_next(&schedule, NULL, now, END_TIME - SEC / 2, &next) &&
	   !sup_schedule_next(&schedule, NULL, now, INT64_MAX, &next) &&
	   !sup_schedule_next(&schedule, NULL, now, INT64_MIN, &next), "none after the end");
}

int
main(int argc, char **argv)
{
	int			schedules = argc > 1 ? atoi(argv[1]) : 12;
	int			seconds = argc > 2 ? atoi(argv[2]) : 3;
	uint64_t	seed = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t) time(NULL);

	setvbuf(stdout, NULL, _IOLBF, 0);
	use_zone("Europe/Berlin");
	if (libc_offset(at("2025-07-01 00:00") / SEC + EPOCH) != 7200)
	{
		printf("1..0 # SKIP there is no time zone data\n");
		return 0;
	}

	test_accepted();
	test_refused();
	test_next();
	test_days();
	test_ends();
	test_intervals();
	printf("# seed %llu\n", (unsigned long long) seed);
	state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	if (state == 0)
		state = 1;
	if (schedules > 0)
		test_comparison(schedules);
	test_garbage(seconds);
	printf("1..%d\n", tests);
	return failures > 0;
}
