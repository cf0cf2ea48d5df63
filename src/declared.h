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

/* The settings may have changed: of declarations, and of which databases are read. */
extern void sup_set_declared(void);
extern void sup_set_loads(void);

/*
 * Look at the declarations of which something has changed, or which may get a
 * slot that was freed.
 */
extern void sup_look_at_declarations(bool slots_freed, TimestampTz now);

/* See to it that databases are read whose declarations may have changed; when to look again. */
extern TimestampTz sup_look_at_loads(TimestampTz now);

#endif							/* SUP_DECLARED_H */
