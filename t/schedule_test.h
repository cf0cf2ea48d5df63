/*-------------------------------------------------------------------------
 *
 * schedule_test.h
 *	  What schedule_test.c and schedule_random.c have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCHEDULE_TEST_H
#define SCHEDULE_TEST_H

#include "schedule.h"

#define SEC INT64_C(1000000)
#define MINUTE (60 * SEC)
#define EPOCH INT64_C(946684800)	/* 2000-01-01, from 1970 */

/* A zone with all its changes from 1950 to 2150. */
typedef struct ZoneTable
{
	char		name[64];
	int			n;
	int64_t		from[1000];		/* seconds from 1970; the first is -infinity */
	int			offset[1000];
	SupZone		zone;
} ZoneTable;

extern bool ok(bool good, const char *format,...)
#if defined(__GNUC__)
			__attribute__((format(printf, 2, 3)))
#endif
;
extern unsigned int any(unsigned int below);
extern int64_t at(const char *text);
extern const char *show(int64_t when);
extern const char *fault_name(SupScheduleFault fault);
extern void use_zone(const char *name);
extern int	libc_offset(int64_t seconds);
extern const ZoneTable *zone_table(const char *name);

/* In schedule_random.c. */
extern void test_comparison(int schedules);
extern void test_garbage(int seconds);

#endif							/* SCHEDULE_TEST_H */
