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

/*
 * The task that a worker has been given; NULL: none, or what is written there can't be
 * one.  The worker asks without the lock: the barrier pairs with the one in give().
 */
static inline SupTask *
sup_slot_task(SupSlot *slot)
{
	uint32		t = pg_atomic_read_u32(&slot->task);
	SupTask    *task;

	if (t == 0 || t > (uint32) sup_ntasks())
		return NULL;
	pg_read_barrier();
	task = &Sup->tasks[t - 1];
	return task->slot == sup_slot_index(slot) && sup_task_state(task) == SUP_TASK_RUNNING ? task : NULL;
}

/* That of a worker; NULL: none, or as above.  The caller holds the lock. */
static inline SupBinding *
sup_slot_binding(const SupSlot *slot)
{
	SupBinding *b;

	if (slot->binding < 0 || slot->binding >= sup_nbindings())
		return NULL;
	b = &Sup->bindings[slot->binding];
	return b->nworkers > 0 && b->pool == slot->pool ? b : NULL;
}

#endif							/* SUP_BINDING_H */
