/*-------------------------------------------------------------------------
 *
 * loads.h
 *	  Has the tables of declared workers read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_LOADS_H
#define SUP_LOADS_H

#include "datatype/timestamp.h"

/* The settings may have changed. */
extern void sup_set_loads(void);

/*
 * See to it that databases are read whose declarations may have changed;
 * when to look again.
 */
extern TimestampTz sup_look_at_loads(TimestampTz now);

#endif							/* SUP_LOADS_H */
