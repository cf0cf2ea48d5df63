/*-------------------------------------------------------------------------
 *
 * due.h
 *	  Has jobs run when they are due.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_DUE_H
#define SUP_DUE_H

#include "datatype/timestamp.h"

/* The settings may have changed. */
extern void sup_set_jobs(void);

/* Have drains queued for jobs that have become due; when to look again. */
extern TimestampTz sup_look_at_jobs(void);

#endif							/* SUP_DUE_H */
