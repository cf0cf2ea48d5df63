/*-------------------------------------------------------------------------
 *
 * schedule_random.c
 *	  Random schedules and garbage, for schedule_test.c.
 *
 * Each random schedule is compared over ten years with what is found by looking
 * at every minute.  That has no part of src/schedule.c: the schedules are made as
 * sets, and written down afterwards.  Garbage is in memory of its own of just
 * that size, so that AddressSanitizer sees it if the parser goes beyond it.
 *
 *-------------------------------------------------------------------------
 */
#include "schedule_test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Comparison, minute by minute ---- */

#define DAYS 3653				/* 2007 to 2016 */
#define MINUTES (DAYS * 1440)
#define MARGIN 1440				/* local time begins a day earlier */
#define LOCALS (MINUTES + 2 * MARGIN)

/* A schedule as sets. */
typedef struct Sets
{
	bool		in[5][64];
	bool		star[5];
	bool		last;
	char		text[400];
} Sets;

/* Where the clock stands at each minute, and when it first comes to a time. */
static int	local_at[MINUTES];
static int	first_at[LOCALS];
static bool wanted[LOCALS];
static char fires[MINUTES];

static const int lows[] = {0, 0, 1, 1, 0};
static const int highs[] = {59, 23, 31, 12, 6};

static void
look_at_zone(const char *name)
{
	const int64_t begin = 1167609600;	/* 2007-01-01 */
	int			reached = -1;

	use_zone(name);
	for (int hour = 0; hour < MINUTES / 60; hour++)
	{
		int			before = libc_offset(begin + hour * 3600L);
		bool		changes = libc_offset(begin + hour * 3600L + 3599) != before;

		for (int u = hour * 60; u < hour * 60 + 60; u++)
			local_at[u] = MARGIN + u + (changes ? libc_offset(begin + u * 60L) : before) / 60;
	}

	for (int i = 0; i < LOCALS; i++)
		first_at[i] = -1;
	for (int u = 0; u < MINUTES; u++)
	{
		/* at the first of all, what is before it is not of interest */
		for (int i = u == 0 ? local_at[0] : reached + 1; i <= local_at[u]; i++)
			first_at[i] = u;
		if (local_at[u] > reached)
			reached = local_at[u];
	}
}

/* A number, at times by its name. */
static void
write_value(char *text, int field, int value)
{
	static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"};
	static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", "SUN"};
	char		name[8];

	if (field < 3 || any(2))
	{
		sprintf(text + strlen(text), any(5) ? "%d" : "%02d", value);
		return;
	}
	strcpy(name, field == 3 ? months[value - 1] : days[value]);
	for (char *p = name; *p != '\0'; p++)
		*p = any(2) ? toupper((unsigned char) *p) : *p;
	strcat(text, name);
}

static void
add_item(Sets *sets, int field)
{
	char	   *text = sets->text;
	int			size = highs[field] - lows[field] + 1;
	int			first = lows[field];
	int			last = highs[field];
	int			step = 1;
	unsigned int kind = any(10);

	if (field == 2 && kind == 9)
	{
		strcat(text, any(2) ? "L" : any(2) ? "$" : "l");
		sets->last = true;
		return;
	}
	if (kind < 2)
	{
		strcat(text, "*");
		sets->star[field] = true;
		step = any(2) ? 1 + any(any(2) ? 4 : size) : 1;
	}
	else if (kind < 6)
	{
		first = last = lows[field] + any(size + (field == 4));
		write_value(text, field, first);
	}
	else
	{
		first = lows[field] + any(size);
		last = first + any(highs[field] + (field == 4) - first + 1);
		write_value(text, field, first);
		strcat(text, "-");
		/* from Sunday to Sunday is a day by names, and a week by numbers */
		if (field == 4 && first == 0 && last == 7)
			strcat(text, "7");
		else
			write_value(text, field, last);
		step = any(2) ? 1 + any(any(2) ? 4 : size) : 1;
	}
	if (step > 1)
		sprintf(text + strlen(text), "/%d", step);
	for (int i = first; i <= last; i += step)
		sets->in[field][field == 4 && i == 7 ? 0 : i] = true;
}

static void
make_sets(Sets *sets)
{
	int			hours = 0;

	memset(sets, 0, sizeof(Sets));
	for (int field = 0; field < 5; field++)
	{
		if (any(5) < (field < 2 ? 1 : 3))
		{
			strcat(sets->text, "*");
			sets->star[field] = true;
			for (int i = lows[field]; i <= highs[field]; i++)
				sets->in[field][i] = true;
		}
		else
		{
			add_item(sets, field);
			while (any(3) == 0 && strlen(sets->text) < 300)
			{
				strcat(sets->text, ",");
				add_item(sets, field);
			}
		}
		if (field < 4)
			strcat(sets->text, any(9) ? " " : " \t ");
	}
	for (int i = 0; i < 24; i++)
		hours += sets->in[1][i];
	if (hours == 1)
		sets->star[1] = false;
}

/* Look at every minute; returns at how many the schedule is due. */
static int
look_at_minutes(const Sets *sets)
{
	static const int lengths[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year = 2006;
	int			month = 12;
	int			day = 31;
	int			weekday = 0;	/* it was a Sunday */
	int			n = 0;

	for (int d = 0; d < LOCALS / 1440; d++)
	{
		int			length = lengths[month] + (month == 2 && year % 4 == 0);
		bool		by_day = sets->in[2][day] || (sets->last && day == length);
		bool		by_weekday = sets->in[4][weekday];
		bool		both = sets->star[2] || sets->star[4];
		bool		date = sets->in[3][month] && (both ? by_day && by_weekday : by_day || by_weekday);

		for (int m = 0; m < 1440; m++)
			wanted[d * 1440 + m] = date && sets->in[1][m / 60] && sets->in[0][m % 60];

		weekday = (weekday + 1) % 7;
		if (++day > length)
		{
			day = 1;
			if (++month > 12)
			{
				month = 1;
				year++;
			}
		}
	}

	memset(fires, 0, sizeof(fires));
	if (sets->star[1])
	{
		for (int u = 0; u < MINUTES; u++)
			fires[u] = wanted[local_at[u]];
	}
	else
	{
		for (int i = 0; i < LOCALS; i++)
		{
			if (wanted[i] && first_at[i] >= 0)
				fires[first_at[i]] = true;
		}
	}
	for (int u = 0; u < MINUTES; u++)
		n += fires[u];
	return n;
}

/*
 * Is the next time after this one what was seen?  Moves *after there, or to the
 * end if there is none in these years.
 */
static bool
agrees(const Sets *sets, const SupSchedule *schedule, const ZoneTable *table, int64_t *after)
{
	const int64_t begin = at("2007-01-01 00:00");
	int			u = (int) ((*after - begin) / MINUTE);
	const char *found = memchr(fires + u + 1, true, MINUTES - u - 1);
	int64_t		expected = found ? begin + (found - fires) * MINUTE : begin + MINUTES * MINUTE;
	int64_t		next = INT64_MAX;
	bool		good = sup_schedule_next(schedule, &table->zone, 0, *after, &next);

	/* beyond these years, local time may be different ones by a day */
	good = found ? good && next == expected : !good || next >= expected - 1440 * MINUTE;
	if (!good)
		printf("#   %s \"%s\" after %s: got %s, expected %s, all in UTC\n", table->name, sets->text,
			   show(*after), show(next), found ? show(expected) : "none");
	*after = expected;
	return good;
}

static bool
compare(const Sets *sets, const ZoneTable *table, int64_t *compared)
{
	const int64_t begin = at("2007-01-01 00:00");
	const int64_t from = begin + 2 * MARGIN * MINUTE;
	const int64_t to = begin + (MINUTES - 2 * MARGIN) * MINUTE;
	SupSchedule schedule;
	SupScheduleError error;
	int			n = look_at_minutes(sets);
	int64_t		after;

	if (!sup_schedule_parse(sets->text, &schedule, &error))
	{
		if (error.fault == SUP_SCHEDULE_NEVER && n == 0)
			return true;
		printf("#   \"%s\" was refused: %s\n", sets->text, fault_name(error.fault));
		return false;
	}

	for (int i = 0; i < 300; i++, (*compared)++)
	{
		after = from + (any(MINUTES - 4 * MARGIN - 1)) * MINUTE + any(60) * SEC + any(2) * any(1000000);
		if (!agrees(sets, &schedule, table, &after))
			return false;
	}

	/* all, if these are not too many, else those around each change */
	if (n < 10000)
	{
		for (after = from; after < to; (*compared)++)
		{
			if (!agrees(sets, &schedule, table, &after))
				return false;
		}
		return true;
	}
	for (int i = 1; i < table->n; i++)
	{
		int64_t		change = (table->from[i] - EPOCH) * SEC;

		after = change - 26 * 60 * MINUTE;
		while (after > from && after < change + 26 * 60 * MINUTE && after < to)
		{
			if (!agrees(sets, &schedule, table, &after))
				return false;
			(*compared)++;
			if (any(4) == 0)
				after += any(600) * SEC;
		}
	}
	return true;
}

void
test_comparison(int schedules)
{
	static const char *const zones[] = {
		"Europe/Berlin", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Asia/Beirut",
		"Asia/Gaza", "Africa/Casablanca", "Pacific/Apia", "Australia/Lord_Howe", "Pacific/Chatham",
		"Antarctica/Troll", "Asia/Pyongyang"
	};

	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++)
	{
		const ZoneTable *table = zone_table(zones[i]);
		int64_t		compared = 0;
		bool		good = true;

		look_at_zone(zones[i]);
		for (int j = 0; j < schedules && good; j++)
		{
			Sets		sets;

			make_sets(&sets);
			good = compare(&sets, table, &compared);
		}
		ok(good, "%s: as seen minute by minute, over 10 years", zones[i]);
		printf("#   %d schedules, %lld times\n", schedules, (long long) compared);
	}
}

/* ---- Garbage ---- */

void
test_garbage(int seconds)
{
	static const char *const pieces[] = {
		"*", "*/", "/", "-", ",", " ", "\t", "0", "7", "31", "59", "60", "1-5", "mon", "SUN", "feb", "L", "$", "@",
		"@daily", "@reboot", "99999999999", "min", ":", "0 0 ", "* * * * *", "0 0 29 2 *", "\xff"
	};
	static const char *const zones[] = {"UTC", "Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe"};
	time_t		end = time(NULL) + seconds;
	bool		good = true;
	long		n = 0;
	long		accepted = 0;

	while (good && time(NULL) < end)
	{
		for (int i = 0; i < 1000 && good; i++, n++)
		{
			char		buffer[400];
			char	   *text;
			int			len;
			SupSchedule schedule;
			SupScheduleError error;

			if (any(2))
			{
				Sets		sets;

				make_sets(&sets);
				strcpy(buffer, sets.text);
			}
			else
			{
				buffer[0] = '\0';
				for (int j = any(12); j >= 0; j--)
					strcat(buffer, pieces[any(sizeof(pieces) / sizeof(pieces[0]))]);
			}
			for (int j = any(4); j > 0 && buffer[0] != '\0'; j--)
				buffer[any(strlen(buffer))] = (char) (any(4) ? pieces[any(20)][0] : 1 + (int) any(255));
			if (any(8) == 0)
				buffer[any(strlen(buffer) + 1)] = '\0';
			len = (int) strlen(buffer);
			text = malloc(len + 1);
			memcpy(text, buffer, len + 1);

			if (sup_schedule_parse(text, &schedule, &error))
			{
				int64_t		after = at("1980-01-01 00:00") + (int64_t) any(150 * 365) * 1440 * MINUTE + any(86400) * SEC;
				int64_t		next;

				accepted++;
				if (sup_schedule_next(&schedule, &zone_table(zones[any(4)])->zone, 0, after, &next))
					good = next > after;
			}
			else
				good = error.fault != SUP_SCHEDULE_GOOD && error.position >= 0 && error.length >= 0 &&
					error.position + error.length <= len;
			if (!good)
				printf("#   \"%s\"\n", text);
			free(text);
		}
	}
	ok(good, "garbage is refused within its bounds, or has a next time");
	printf("#   %ld pieces of garbage, %ld accepted\n", n, accepted);
}
