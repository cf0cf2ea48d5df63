/*-------------------------------------------------------------------------
 *
 * binding.h
 *	  Pools and bindings: found, made, counted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_BINDING_H
#define SUP_BINDING_H

#include "state.h"

/*
 * An end of a worker that its role has caused counts for so long.  A role is
 * held back while its ends sum up to more than the second; for no longer than
 * the third, since they may have been somebody else's idea.
 */
#define END_COUNTS_US	INT64CONST(1000000)
#define ENDS_ALLOWED_US	(5 * END_COUNTS_US)
#define LONGEST_HOLD_US	(10 * END_COUNTS_US)

/* All: the caller holds the lock. */

extern SupPool *sup_pool_by_name(const char *name);
extern bool sup_pool_in_use(int pool);

/* The head of the hash chain that has the bindings of a role, and others. */
extern int *sup_bindings_of(Oid role);

extern SupBinding *sup_binding_find(int pool, Oid database, Oid role);
extern SupBinding *sup_binding_get(int pool, Oid database, Oid role);
extern void sup_binding_drop(SupBinding *binding);
extern int	sup_role_tasks(Oid role, int *kept);

/* In which pools tasks of that role are queued; 0: of any. */
extern void sup_pools_queued(Oid role, bool *queued);
extern Size sup_role_held(Oid role);
extern TimestampTz sup_role_held_until(Oid role, Oid database);

#endif							/* SUP_BINDING_H */
