/*-------------------------------------------------------------------------
 *
 * declared.h
 *	  Brings declared workers to what is declared.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_DECLARED_H
#define SUP_DECLARED_H

#include "datatype/timestamp.h"

/* The settings may have changed. */
extern void sup_set_declared(void);

/*
 * Look at the declarations of which something has changed, or which may get a
 * slot that was freed.
 */
extern void sup_look_at_declarations(bool slots_freed, TimestampTz now);

#endif							/* SUP_DECLARED_H */
