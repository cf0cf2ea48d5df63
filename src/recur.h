/*-------------------------------------------------------------------------
 *
 * recur.h
 *	  Schedules of recurring jobs, with the server's intervals and time zones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_RECUR_H
#define SUP_RECUR_H

#include "jobtable.h"

/* Raise 22023 unless that is a schedule, or if it never comes. */
extern void sup_recur_check(const char *schedule);

/* The name of a time zone as it is stored; raises 22023 if it is none. */
extern char *sup_recur_zone(const char *name);

/*
 * The next time of a recurring job after that one; 'start' is when its last run began.  False:
 * its schedule, or its zone, makes no sense any more, or there is no next time.
 */
extern bool sup_recur_next(const SupJobRow *row, TimestampTz start, TimestampTz after, TimestampTz *next);

/* There is no next time: the job has failed, which the log or the caller's client is told of. */
extern void sup_recur_fail(SupJobRow *row);

#endif							/* SUP_RECUR_H */
