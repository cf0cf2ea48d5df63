/*-------------------------------------------------------------------------
 *
 * recur.h
 *	  Schedules of recurring jobs, with the server's intervals and time zones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_RECUR_H
#define SUP_RECUR_H

#include "datatype/timestamp.h"

/* Raise 22023 unless that is a schedule, or if it never comes. */
extern void sup_recur_check(const char *schedule);

/* The name of a time zone as it is stored; raises 22023 if it is none. */
extern char *sup_recur_zone(const char *name);

/*
 * The next time of a schedule after that one; 'start' is when the last run began.  False:
 * the schedule, or the zone, makes no sense any more, or there is no next time.
 */
extern bool sup_recur_next(const char *schedule, const char *zone, TimestampTz start, TimestampTz after,
						   TimestampTz *next);

#endif							/* SUP_RECUR_H */
