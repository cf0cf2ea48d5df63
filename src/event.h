/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The ring of events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_EVENT_H
#define SUP_EVENT_H

#include "state.h"

/* The caller holds the lock. */
extern void sup_add_event(SupSlot *slot, const char *event, const char *detail);

#endif							/* SUP_EVENT_H */
