/*-------------------------------------------------------------------------
 *
 * control.c
 *	  The SQL functions that restart and terminate workers by slot or pool.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "args.h"
#include "match.h"
#include "members.h"
#include "rights.h"
#include "state.h"
#include "submit.h"
#include "wait.h"

typedef struct Control
{
	int			slot;
	uint64		generation;		/* that is to go */
	bool		restart;		/* wait for a successor, too */
} Control;

/* Is what was asked for done?  Takes the lock. */
static bool
control_done(void *arg)
{
	const Control *c = arg;
	SupSlot    *slot = &Sup->slots[c->slot];
	bool		done;

	sup_lock();
	if (!c->restart)
		done = slot->generation != c->generation || !sup_has_process(slot) ||
			(slot->exited_at != 0 && !slot->lingers);
	else if (slot->generation == c->generation && slot->exited_at == 0)
		done = false;
	else
		done = slot->state == SUP_EMPTY ||
			(slot->generation != c->generation && sup_has_started(slot));
	sup_unlock();
	return done;
}

/*
 * The two functions that follow.  Raises 22004 or 22023 for a bad slot
 * number, 42501, and 55000 if the slot is empty, its worker stopped or
 * failed, or just being bound.  False: it was not done in time, with a
 * warning, or the given generation is over.
 */
static Datum
control_worker(FunctionCallInfo fcinfo, bool restart)
{
	Control		c;
	TimestampTz deadline;
	SupSlot    *slot;
	Oid			role = InvalidOid;
	bool		is_pool;
	bool		interrupts;		/* may end a task or a run: needs rights */
	bool		rests;
	bool		empty;
	bool		over;
	SupCause	cause;

	sup_require_preload();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("slot must not be null")));
	c.slot = PG_GETARG_INT32(0);
	c.restart = restart;
	deadline = sup_deadline_arg(fcinfo, 1);
	if (c.slot < 0 || c.slot >= sup_max_workers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("slot %d is out of range", c.slot),
				 errdetail("Slots are numbered from 0 to %d.", sup_max_workers - 1)));
	sup_await_supervisor();

	slot = &Sup->slots[c.slot];
	sup_lock();
	empty = slot->state == SUP_EMPTY;
	rests = slot->state == SUP_STOPPED || slot->state == SUP_FAILED;
	is_pool = slot->kind == SUP_KIND_POOL;
	if (!empty)
		role = sup_slot_role(slot);
	c.generation = slot->generation;
	sup_unlock();
	if (empty)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("slot %d is empty", c.slot)));
	interrupts = !restart || !is_pool;
	if (interrupts && !sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s worker in slot %d",
						restart ? "restart" : "terminate", c.slot),
				 OidIsValid(role) ?
				 errdetail("Only a role that may signal backends of role \"%s\" may do that.",
						   sup_role_name(role)) :
				 errdetail("The worker is unbound, and only a superuser may do that.")));
	if (rests)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker in slot %d is not running", c.slot),
				 errhint("Use supervisor.start_worker().")));

	cause = superuser() ? SUP_CAUSE_NONE : role == GetUserId() ? SUP_CAUSE_ROLE : SUP_CAUSE_OTHER;
	sup_lock();
	/* the kind was looked at, and the rights were checked, for that process */
	over = slot->generation != c.generation || slot->state == SUP_EMPTY ||
		(!PG_ARGISNULL(2) && slot->generation != (uint64) PG_GETARG_INT64(2));
	if (!over && interrupts && sup_slot_role(slot) != role)
	{
		sup_unlock();
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker in slot %d has just been bound", c.slot),
				 errhint("Try again.")));
	}
	if (!over)
	{
		slot->cause = Max(slot->cause, cause);
		if (!restart)
		{
			if (sup_has_process(slot))
				sup_ask_terminate(slot);
		}
		else if (!sup_has_process(slot))
			slot->restart_at = 0;	/* what is asked for is to try at once */
		else if (is_pool)
			sup_ask_leave(slot, SUP_LEAVE_RESTART);
		else
		{
			if (slot->leave == SUP_STAY)
				slot->leave = SUP_LEAVE_RESTART;
			sup_ask_terminate(slot);
		}
		sup_attend(slot);
	}
	sup_unlock();
	if (over)
		PG_RETURN_BOOL(false);

	if (sup_await_change(control_done, &c, deadline))
		PG_RETURN_BOOL(true);
	ereport(WARNING,
			(errmsg("worker in slot %d has not %s yet", c.slot, restart ? "restarted" : "ended"),
			 errdetail("The request stands.")));
	PG_RETURN_BOOL(false);
}

/* supervisor.restart_worker(slot, timeout, generation): a new one is ready */
PG_FUNCTION_INFO_V1(supervisor_restart_worker);
Datum
supervisor_restart_worker(PG_FUNCTION_ARGS)
{
	return control_worker(fcinfo, true);
}

/* supervisor.terminate_worker(slot, timeout, generation): it is gone */
PG_FUNCTION_INFO_V1(supervisor_terminate_worker);
Datum
supervisor_terminate_worker(PG_FUNCTION_ARGS)
{
	return control_worker(fcinfo, false);
}

/* Those that are to go, plus 1; 0 is none. */
typedef struct PoolRestart
{
	const char *name;
	uint64	   *generations;
} PoolRestart;

/*
 * Are all that were to go replaced by others, which are ready?  Those whose
 * slots have been given back, or that are stuck, need not be.  Takes the
 * lock.
 */
static bool
pool_restarted(void *arg)
{
	const PoolRestart *restart = arg;
	SupPool    *pool;
	bool		done = true;

	sup_lock();
	pool = sup_pool_by_name(restart->name);
	for (int i = 0; i < sup_max_workers && pool != NULL && done; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (restart->generations[i] == 0 || slot->state == SUP_EMPTY || slot->state == SUP_STUCK)
			continue;
		done = slot->generation + 1 != restart->generations[i] && slot->ready_at != 0 && slot->exited_at == 0;
	}
	sup_unlock();
	return done;
}

/*
 * supervisor.restart_pool(pool, timeout): all of its workers are new and
 * ready.  Raises 42704; asks for no right but EXECUTE.
 */
PG_FUNCTION_INFO_V1(supervisor_restart_pool);
Datum
supervisor_restart_pool(PG_FUNCTION_ARGS)
{
	PoolRestart restart;
	TimestampTz deadline;
	SupPool    *pool;
	dlist_iter	iter;

	sup_require_preload();
	restart.name = sup_pool_arg(fcinfo, 0);
	deadline = sup_deadline_arg(fcinfo, 1);
	sup_await_supervisor();
	restart.generations = palloc0(sizeof(uint64) * sup_max_workers);

	sup_lock();
	pool = sup_pool_by_name(restart.name);
	if (pool == NULL || pool->removed)
	{
		sup_unlock();
		sup_refuse_missing_pool(restart.name);
	}
	dlist_foreach(iter, &pool->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (slot->state == SUP_STUCK || slot->surplus)
			continue;
		restart.generations[sup_slot_index(slot)] = slot->generation + 1;
		slot->roll = true;
	}
	sup_attend_pool(pool);
	sup_unlock();

	if (sup_await_change(pool_restarted, &restart, deadline))
		PG_RETURN_BOOL(true);
	ereport(WARNING,
			(errmsg("not all workers of pool \"%s\" have restarted yet", restart.name),
			 errdetail("The request stands.")));
	PG_RETURN_BOOL(false);
}

/*
 * supervisor.reset_stats(): counters of pools and workers begin anew.  Whoever
 * has EXECUTE may, which is not granted to PUBLIC.
 */
PG_FUNCTION_INFO_V1(supervisor_reset_stats);
Datum
supervisor_reset_stats(PG_FUNCTION_ARGS)
{
	TimestampTz now;

	sup_require_preload();
	now = sup_now();
	sup_lock();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		sup_clear_pool_stats(&Sup->pools[i], now);
	sup_unlock();
	for (int i = 0; i < sup_nslots(); i++)
	{
		CHECK_FOR_INTERRUPTS();
		sup_lock();
		sup_clear_slot_stats(&Sup->slots[i], now);
		sup_unlock();
	}
	PG_RETURN_VOID();
}
