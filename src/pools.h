/*-------------------------------------------------------------------------
 *
 * pools.h
 *	  Brings pools to the size that is asked for.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_POOLS_H
#define SUP_POOLS_H

#include "datatype/timestamp.h"

/* Take over the settings: which pools there are, and how large. */
extern void sup_set_pools(void);

/*
 * Look at the pools of which something has changed, or which may get a slot
 * that was freed; when to look again.
 */
extern TimestampTz sup_look_at_pools(bool slots_freed, TimestampTz now);

#endif							/* SUP_POOLS_H */
