/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When recurring work is due: what a schedule says, and its next time.
 *
 * Plain C: this file includes nothing of the server, reads no clock and keeps
 * no state, so t/schedule_test.c compiles it alone.
 *
 * Times within are seconds.  A local time is the number of seconds from 1970
 * that a clock on the wall would be at if it had never been set: UTC plus the
 * offset of the zone.  It jumps where the offset changes.
 *
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include <string.h>

#define USEC INT64_C(1000000)
#define DAY (24 * 60 * 60)

/* 2000-01-01, from 1970 */
#define EPOCH (10957 * (int64_t) DAY)

/* What a TimestampTz can hold: from 4714-11-24 BC on, and before 294277-01-01. */
#define MIN_TIME INT64_C(-211813488000000000)
#define END_TIME INT64_C(9223371331200000000)

/* No zone is further from UTC: a POSIX zone's offset has less than 168 hours. */
#define MAX_OFFSET (7 * DAY)

/*
 * 29 February is at most 8 years away, and if it must be a certain weekday, as
 * in "29 2 *\/7", 40.  What has not come after so many months never comes.
 */
#define MAX_MONTHS (60 * 12)

/* So many changes of the offset are more than such a time has. */
#define MAX_CHANGES 1000

/* What a field may hold. */
typedef struct FieldRule
{
	const char *name;
	int			low;
	int			high;
	const char *names;			/* of three letters each, the first is 'low' */
} FieldRule;

static const FieldRule rules[SUP_SCHEDULE_FIELDS] = {
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of week", 0, 7, "sunmontuewedthufrisat"}
};

/* What is being understood. */
typedef struct ScheduleParser
{
	const char *text;
	SupSchedule *schedule;
	SupScheduleError *error;
	SupScheduleField field;
} ScheduleParser;

/* Any locale's letters and spaces would be other ones. */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char
to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* Is the text from 'at' to 'end' this word, in lower or upper case? */
static bool
is_word(const char *at, const char *end, const char *word)
{
	while (at < end && *word != '\0' && to_lower(*at) == *word)
	{
		at++;
		word++;
	}
	return at == end && *word == '\0';
}

/* The next word from *at on, which is then its end; empty at the text's end. */
static const char *
next_word(const char **at)
{
	const char *word;

	while (is_space(**at))
		(*at)++;
	word = *at;
	while (**at != '\0' && !is_space(**at))
		(*at)++;
	return word;
}

static bool
refuse(ScheduleParser *parser, SupScheduleFault fault, const char *from, const char *to)
{
	parser->error->fault = fault;
	parser->error->position = (int) (from - parser->text);
	parser->error->length = (int) (to - from);
	return false;
}

/* Likewise, within a field, with the bounds of what would be right. */
static bool
refuse_value(ScheduleParser *parser, SupScheduleFault fault, const char *from,
			 const char *to, int low, int high)
{
	parser->error->field = rules[parser->field].name;
	parser->error->low = low;
	parser->error->high = high;
	return refuse(parser, fault, from, to);
}

/* The number at *at, which is moved behind it; large ones are just large. */
static int
parse_number(const char **at, const char *end)
{
	int			number = 0;

	for (; *at < end && is_digit(**at); (*at)++)
		number = number < 1000 ? number * 10 + (**at - '0') : number;
	return number;
}

/*
 * A number or a name at *at, which is moved behind it, within an item that ends
 * at 'end'.  7 is left as it is: it matters at the end of a range.
 */
static bool
parse_value(ScheduleParser *parser, const char **at, const char *item, const char *end,
			int *value)
{
	const FieldRule *rule = &rules[parser->field];
	const char *from = *at;

	if (from < end && is_digit(*from))
	{
		*value = parse_number(at, end);
		if (*value < rule->low || *value > rule->high)
			return refuse_value(parser, SUP_SCHEDULE_OUT_OF_RANGE, from, *at, rule->low, rule->high);
		return true;
	}

	while (*at < end && **at != '-' && **at != '/')
		(*at)++;
	*value = rule->low;
	for (const char *names = rule->names; names[0] != '\0'; names += 3)
	{
		char		name[4] = {names[0], names[1], names[2], '\0'};

		if (is_word(from, *at, name))
			return true;
		(*value)++;
	}
	return refuse_value(parser, SUP_SCHEDULE_NO_VALUE, item, end, rule->low, rule->high);
}

/* One item of a list: all, a value or a range, and perhaps a step. */
static bool
parse_item(ScheduleParser *parser, const char *item, const char *end)
{
	const FieldRule *rule = &rules[parser->field];
	SupSchedule *schedule = parser->schedule;
	const char *at = item;
	int			all = parser->field == SUP_FIELD_WEEKDAY ? 7 : rule->high - rule->low + 1;
	int			first = rule->low;
	int			last = rule->low + all - 1;
	int			step = 1;
	bool		several = true;

	if (parser->field == SUP_FIELD_DAY &&
		(is_word(item, end, "l") || is_word(item, end, "$")))
	{
		schedule->last_day = true;
		return true;
	}

	if (at < end && *at == '*')
	{
		schedule->star[parser->field] = true;
		at++;
	}
	else
	{
		if (!parse_value(parser, &at, item, end, &first))
			return false;
		last = first;
		several = at < end && *at == '-';
		if (several)
		{
			at++;
			if (!parse_value(parser, &at, item, end, &last))
				return false;
			/* a week may end with Sunday, under any of its names */
			if (parser->field == SUP_FIELD_WEEKDAY && last == 0 && first > 0)
				last = 7;
			if (last < first)
				return refuse_value(parser, SUP_SCHEDULE_BACKWARDS, item, at, first, last);
		}
	}

	if (at < end && *at == '/')
	{
		if (!several)
			return refuse_value(parser, SUP_SCHEDULE_STEP_ALONE, item, end, first, rule->low + all - 1);
		at++;
		step = parse_number(&at, end);
		if (at != end || step < 1 || step > all)
			return refuse_value(parser, SUP_SCHEDULE_BAD_STEP, item, end, 1, all);
	}
	if (at != end)
		return refuse_value(parser, SUP_SCHEDULE_NO_VALUE, item, end, rule->low, rule->high);

	for (int value = first; value <= last; value += step)
		schedule->values[parser->field] |=
			INT64_C(1) << (parser->field == SUP_FIELD_WEEKDAY ? value % 7 : value);
	return true;
}

/* A field: a list of items. */
static bool
parse_field(ScheduleParser *parser, const char *at, const char *end)
{
	for (;;)
	{
		const char *item = at;

		while (at < end && *at != ',')
			at++;
		if (!parse_item(parser, item, at))
			return false;
		if (at == end)
			return true;
		at++;
	}
}

/* Is 'value' in the field? */
static bool
holds(const SupSchedule *schedule, SupScheduleField field, int value)
{
	return (schedule->values[field] >> value & 1) != 0;
}

/* a / b for b > 0, rounded down. */
static int64_t
divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int
month_length(int64_t year, int month)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return lengths[month - 1] + (month == 2 && leap);
}

/*
 * The date of a day, which is counted from 1970.  Years are taken to begin in
 * March, so that the day that not all have is their last.
 */
static void
date_of(int64_t day, int64_t *year, int *month, int *mday)
{
	int64_t		from_0000 = day + 719468;	/* from 0000-03-01 */
	int64_t		era = divide(from_0000, 146097);	/* 400 years each */
	int			in_era = (int) (from_0000 - era * 146097);
	int			year_of_era = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int			in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int			from_march = (5 * in_year + 2) / 153;

	*mday = in_year - (153 * from_march + 2) / 5 + 1;
	*month = from_march < 10 ? from_march + 3 : from_march - 9;
	*year = era * 400 + year_of_era + (*month <= 2);
}

/*
 * Is the day one of the schedule's, if its month is?  Days and weekdays that are
 * both given are alternatives, as everywhere with cron; '*' gives none, and a
 * step of it, too, goes together with the other.
 */
static bool
day_matches(const SupSchedule *schedule, int mday, bool last, int weekday)
{
	bool		by_date = holds(schedule, SUP_FIELD_DAY, mday) || (last && schedule->last_day);
	bool		by_weekday = holds(schedule, SUP_FIELD_WEEKDAY, weekday);

	if (schedule->star[SUP_FIELD_DAY] || schedule->star[SUP_FIELD_WEEKDAY])
		return by_date && by_weekday;
	return by_date || by_weekday;
}

/* The schedule's first minute of a day from this one on; -1: there is none. */
static int
minute_from(const SupSchedule *schedule, int minute)
{
	int			hour = minute / 60;

	for (minute %= 60; hour < 24; hour++, minute = 0)
	{
		if (!holds(schedule, SUP_FIELD_HOUR, hour))
			continue;
		for (; minute < 60; minute++)
		{
			if (holds(schedule, SUP_FIELD_MINUTE, minute))
				return hour * 60 + minute;
		}
	}
	return -1;
}

/*
 * The schedule's first local time from this one on, if the zone has it or not;
 * false if none comes.
 */
static bool
local_from(const SupSchedule *schedule, int64_t from, int64_t *found)
{
	int64_t		day = divide(from, DAY);
	int			minute = (int) (from - day * DAY + 59) / 60;	/* 1440: tomorrow */
	int64_t		year;
	int			month;
	int			mday;

	date_of(day, &year, &month, &mday);
	for (int months = 0; months <= MAX_MONTHS; months++)
	{
		int			length = month_length(year, month);

		if (!holds(schedule, SUP_FIELD_MONTH, month))
		{
			day += length - mday + 1;
			minute = 0;
		}
		else
		{
			for (; mday <= length; mday++, day++, minute = 0)
			{
				/* 1970-01-01 was a Thursday */
				int			weekday = (int) (day + 4 - 7 * divide(day + 4, 7));
				int			at;

				if (!day_matches(schedule, mday, mday == length, weekday))
					continue;
				at = minute_from(schedule, minute);
				if (at >= 0)
				{
					*found = day * DAY + at * 60;
					return true;
				}
			}
		}

		mday = 1;
		if (++month > 12)
		{
			month = 1;
			year++;
		}
	}
	return false;
}

/* The zone's offset, and until when it holds: always later than 'at'. */
static int
offset_at(const SupZone *zone, int64_t at, int64_t *until)
{
	int			offset = zone->offset_at(zone->context, at, until);

	if (*until <= at)
		*until = INT64_MAX;
	return offset;
}

/*
 * With given hours.  Of interest is the latest local time that the clock has
 * shown so far: it only grows, while local time may go back.  Each time of the
 * schedule is when that reaches it: the first time that the clock shows it, or
 * when it jumps over it.
 */
static bool
next_once(const SupSchedule *schedule, const SupZone *zone, int64_t after, int64_t *next)
{
	int64_t		shown = INT64_MIN;
	int64_t		until;
	int64_t		local;

	/* what was shown before can't be later than what is shown now */
	for (int64_t at = after - 2 * MAX_OFFSET; at <= after; at = until)
	{
		int			offset = offset_at(zone, at, &until);
		int64_t		last = (until <= after ? until - 1 : after) + offset;

		if (last > shown)
			shown = last;
	}

	if (!local_from(schedule, shown + 1, &local))
		return false;

	*next = after;
	for (int changes = 0; changes < MAX_CHANGES; changes++)
	{
		int			offset = offset_at(zone, *next, &until);

		if (local - offset < until)
		{
			if (local - offset > *next)
				*next = local - offset;
			return true;
		}
		*next = until;
	}
	return false;
}

/*
 * With a '*' among the hours: whenever the clock shows it, from one change of
 * the offset to the other.
 */
static bool
next_shown(const SupSchedule *schedule, const SupZone *zone, int64_t after, int64_t *next)
{
	int64_t		at = after + 1;
	int64_t		from = INT64_MAX;
	int64_t		local = INT64_MIN;

	for (int changes = 0; changes < MAX_CHANGES; changes++)
	{
		int64_t		until;
		int			offset = offset_at(zone, at, &until);

		/* what was found before may still be the first */
		if (at + offset < from || at + offset > local)
		{
			from = at + offset;
			if (!local_from(schedule, from, &local))
				return false;
		}
		if (local - offset < until)
		{
			*next = local - offset;
			return true;
		}
		at = until;
	}
	return false;
}

bool
sup_schedule_next(const SupSchedule *schedule, const SupZone *zone,
				  int64_t start, int64_t after, int64_t *next)
{
	int64_t		seconds;
	bool		found;

	if (after < MIN_TIME || after >= END_TIME)
		return false;

	if (schedule->every > 0)
	{
		/* the difference of the two might be too large */
		int64_t		passed =
			(after % schedule->every - start % schedule->every) % schedule->every;

		if (passed < 0)
			passed += schedule->every;
		*next = after + schedule->every - passed;
		return *next < END_TIME;
	}

	seconds = divide(after, USEC) + EPOCH;
	if (schedule->star[SUP_FIELD_HOUR])
		found = next_shown(schedule, zone, seconds, &seconds);
	else
		found = next_once(schedule, zone, seconds, &seconds);
	if (!found || seconds - EPOCH >= END_TIME / USEC)
		return false;
	*next = (seconds - EPOCH) * USEC;
	return true;
}

bool
sup_schedule_every(int64_t interval, SupSchedule *schedule)
{
	memset(schedule, 0, sizeof(SupSchedule));
	schedule->every = interval;
	return interval >= USEC && interval < DAY * USEC;
}

/* What the names stand for. */
typedef struct ScheduleName
{
	const char *name;
	const char *fields;
} ScheduleName;

static const ScheduleName schedule_names[] = {
	{"@hourly", "0 * * * *"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@weekly", "0 0 * * 0"},
	{"@monthly", "0 0 1 * *"},
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"}
};

/*
 * Is it meant for cron?  It is if it has a '*', or begins with two words that
 * have neither a letter nor a colon: one of those is in all intervals of more
 * than one word.
 */
static bool
looks_like_cron(const char *text)
{
	const char *at = text;

	if (strchr(text, '*') != NULL)
		return true;
	for (int i = 0; i < 2; i++)
	{
		const char *word = next_word(&at);

		if (word == at)
			return false;
		for (; word < at; word++)
		{
			if (!is_digit(*word) && strchr(",-/", *word) == NULL)
				return false;
		}
	}
	return true;
}

bool
sup_schedule_parse(const char *text, SupSchedule *schedule, SupScheduleError *error)
{
	ScheduleParser parser;
	const char *at = text;
	const char *begin = next_word(&at);
	const char *end = at;
	const char *word;
	int64_t		first;

	memset(schedule, 0, sizeof(SupSchedule));
	memset(error, 0, sizeof(SupScheduleError));
	parser.schedule = schedule;
	parser.error = error;
	parser.text = text;

	for (word = begin; word != at; word = next_word(&at))
	{
		end = at;
		error->found++;
	}

	/* an interval may begin with '@', too, but a number follows */
	if (begin[0] == '@' && to_lower(begin[1]) >= 'a' && to_lower(begin[1]) <= 'z')
	{
		if (is_word(begin, end, "@reboot"))
			return refuse(&parser, SUP_SCHEDULE_REBOOT, begin, end);
		for (size_t i = 0; i < sizeof(schedule_names) / sizeof(schedule_names[0]); i++)
		{
			if (is_word(begin, end, schedule_names[i].name))
				return sup_schedule_parse(schedule_names[i].fields, schedule, error);
		}
		return refuse(&parser, SUP_SCHEDULE_NO_SUCH_NAME, begin, end);
	}

	if (begin != end && !looks_like_cron(begin))
		return refuse(&parser, SUP_SCHEDULE_NOT_CRON, begin, end);
	if (error->found != SUP_SCHEDULE_FIELDS)
		return refuse(&parser, SUP_SCHEDULE_FIELD_COUNT, begin, end);

	at = begin;
	for (int field = 0; field < SUP_SCHEDULE_FIELDS; field++)
	{
		parser.field = (SupScheduleField) field;
		word = next_word(&at);
		if (!parse_field(&parser, word, at))
			return false;
	}

	/* a single hour is once a day, however it is written */
	if (schedule->values[SUP_FIELD_HOUR] == 1)
		schedule->star[SUP_FIELD_HOUR] = false;

	if (!local_from(schedule, EPOCH, &first))
		return refuse(&parser, SUP_SCHEDULE_NEVER, begin, end);
	return true;
}
