/*-------------------------------------------------------------------------
 *
 * declared.c
 *	  Brings declared workers to what is declared.  For the supervisor only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "declaration.h"
#include "declared.h"
#include "event.h"
#include "lifecycle.h"
#include "transition.h"

/* How many instances are brought up to date under one hold of the lock: each may have an event. */
#define INSTANCES_PER_LOCK	2

/* An instance that has no process and shall have none. */
static void
keep_down(SupSlot *slot, SupReason reason, const char *detail, TimestampTz now)
{
	SupState	state = sup_state_if_kept_down(reason);

	if (slot->state == state && slot->reason == reason && slot->restart_at == DT_NOEND &&
		strcmp(slot->detail, detail) == 0)
		return;
	slot->restart_at = DT_NOEND;
	sup_enter(slot, state, reason, detail, now);
}

/* Has what kept it down, or from beginning, gone?  'reloaded': it has been read again. */
static bool
may_run_now(const SupSlot *slot, bool reloaded)
{
	if (slot->state == SUP_STOPPED || slot->state == SUP_FAILED)
		return slot->reason == SUP_DISABLED || slot->reason == SUP_INVALID;
	if (slot->state != SUP_WAITING || slot->reason == SUP_FENCED ||
		slot->reason == SUP_NO_BACKGROUND_WORKER_SLOT)
		return false;
	return slot->restart_at == DT_NOEND || (reloaded && slot->exit_reason != SUP_NO_REASON);
}

/*
 * Start an instance that has no process, as if for the first time.  If it waits
 * for something that others want as well, it goes on doing so.
 */
static void
revive(SupSlot *slot, SupDeclaration *d, TimestampTz now)
{
	sup_declaration_rests(d, false);
	if (slot->version != d->version)
		slot->next_run = 0;
	slot->version = d->version;
	slot->exit_reason = SUP_NO_REASON;
	slot->attempts = 0;
	memset(&slot->history, 0, sizeof(slot->history));
	if (slot->state != SUP_WAITING ||
		(slot->reason != SUP_FENCED && slot->reason != SUP_NO_BACKGROUND_WORKER_SLOT))
	{
		slot->restart_at = now;
		sup_enter(slot, SUP_WAITING, SUP_NO_REASON, NULL, now);
	}
}

/* What has been asked of a declaration since it was last looked at. */
typedef struct Request
{
	bool		roll;
	bool		start;
	bool		reloaded;
} Request;

/* How many instances it shall have.  The caller holds the lock. */
static int
wanted_instances(const SupDeclaration *d)
{
	return d->gone ? 0 : d->terms.instances;
}

/*
 * Bring one of its instances to what is wanted; true: it is to be replaced by a rolling
 * restart.  The caller holds the lock.
 */
static bool
reconcile_slot(SupSlot *slot, SupDeclaration *d, const Request *request, TimestampTz now)
{
	const char *detail = NULL;
	SupReason	reason = sup_declaration_why_not(d, &detail);

	if (slot->instance > wanted_instances(d) || slot->kind != d->program.kind || reason == SUP_RECOVERY)
	{
		if (sup_has_process(slot))
			sup_end_process(slot, SUP_LEAVE_SURPLUS);
		else
			sup_release_slot(slot, reason == SUP_RECOVERY ? detail :
							 "it is not declared any more", now);
	}
	else if (reason != SUP_NO_REASON)
	{
		if (sup_has_process(slot))
			sup_end_process(slot, SUP_LEAVE_SURPLUS);
		else if (slot->state != SUP_FAILED || slot->reason == SUP_INVALID)
			keep_down(slot, reason, detail, now);
	}
	else if (sup_has_process(slot))
	{
		slot->roll |= slot->version != d->version || request->roll;
		return slot->roll;
	}
	else if (request->start || request->roll || may_run_now(slot, request->reloaded) ||
			 (slot->version != d->version && slot->state != SUP_FAILED))
		revive(slot, d, now);
	return false;
}

/*
 * Take slots for instances that have none, as long as they are wanted, and note for
 * how many there is none.
 */
static void
take_slots(SupDeclaration *d, TimestampTz now)
{
	const char *detail;
	bool		has_slot[SUP_MAX_WORKERS + 1] = {0};
	int			no_slot = 0;
	dlist_iter	iter;

	sup_lock();
	dlist_foreach(iter, &d->slots)
		has_slot[dlist_container(SupSlot, owner_node, iter.cur)->instance] = true;
	for (int instance = 1, taken = 0;
		 instance <= wanted_instances(d) && sup_declaration_why_not(d, &detail) == SUP_NO_REASON;
		 instance++)
	{
		if (has_slot[instance])
			continue;
		if (sup_take_slot(-1, d - Sup->declarations, instance, now) == NULL)
			no_slot++;
		else if (++taken % INSTANCES_PER_LOCK == 0)
		{
			sup_unlock();
			sup_lock();
		}
	}
	d->no_slot = no_slot;
	sup_unlock();
}

/*
 * Bring a declaration's slots to what is wanted; releases the lock.  Lets others have the lock now and
 * then, as there may be many: its slots are the supervisor's, and so is its end.  What
 * is asked for meanwhile, or changes, has it looked at again.  Returns how many
 * instances have just been found to be without a slot.
 */
static int
reconcile(SupDeclaration *d, TimestampTz now)
{
	Request		request = {d->roll, d->start, d->reloaded};
	int			had_no_slot = d->no_slot;
	int			no_slot = 0;
	int			n = 0;
	bool		roll = false;
	dlist_mutable_iter iter;

	SUP_ASSERT_LOCKED();
	d->roll = d->start = d->reloaded = false;
	dlist_foreach_modify(iter, &d->slots)
	{
		roll |= reconcile_slot(dlist_container(SupSlot, owner_node, iter.cur), d, &request, now);
		if (++n % INSTANCES_PER_LOCK == 0)
		{
			sup_unlock();
			sup_lock();
		}
	}
	if (roll)
		sup_roll(&d->slots, now);
	sup_unlock();

	take_slots(d, now);

	sup_lock();
	if (d->gone && dlist_is_empty(&d->slots))
		sup_declaration_free(d);
	else if (d->no_slot > 0 && had_no_slot == 0)
	{
		sup_add_event(NULL, "waiting", "all slots are taken: see supervisor.max_workers");
		no_slot = d->no_slot;
	}
	sup_unlock();
	return no_slot;
}

/* As core's bgw_notify_pid.  Whoever has that process ID now takes no harm. */
static void
wake_backend(int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* Takes the lock.  One line in the log tells of all for which there is no slot. */
void
sup_look_at_declarations(bool slots_freed, TimestampTz now)
{
	int			no_slot = 0;
	bool		reconciled;

	sup_lock();
	if (slots_freed)
	{
		sup_foreach_declaration_in_slices(d)
		{
			if (d->no_slot > 0)
				sup_attend_declaration(d);
		}
	}

	/* Whatever a reconciliation changes comes once more, at the end. */
	reconciled = !dlist_is_empty(&Sup->changed_declarations);
	while (!dlist_is_empty(&Sup->changed_declarations))
	{
		SupDeclaration *d = dlist_container(SupDeclaration, attention_node,
											dlist_pop_head_node(&Sup->changed_declarations));
		int			notify_pid = d->notify_pid;

		d->attended = false;
		no_slot += reconcile(d, now);
		if (notify_pid != 0)
			wake_backend(notify_pid);
		sup_lock();
	}
	sup_unlock();
	if (reconciled)
		ConditionVariableBroadcast(&Sup->changed);

	if (no_slot > 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("no slot for %d declared worker", "no slot for %d declared workers", no_slot, no_slot),
				 errhint("You might need to increase \"%s\".", "supervisor.max_workers")));
}

/* One line for each name in supervisor.stopped_workers that no worker has which it is for. */
static void
tell_of_unknown(void)
{
	const char *list = sup_stopped_workers;
	char		name[MAXPGPATH];

	while (sup_next_listed(&list, name))
	{
		const SupDeclaration *d;
		bool		known;

		sup_lock();
		d = sup_declaration_find(InvalidOid, name);
		known = d != NULL && sup_is_of_preloaded(d);
		sup_unlock();
		if (!known)
			ereport(LOG,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("no worker of a preloaded library has the name \"%s\", in \"%s\"",
							name, "supervisor.stopped_workers")));
	}
}

/*
 * Takes the lock.  All are looked at: the settings that keep some from running may be
 * others.  Those of preloaded libraries stay where they are, with their names.
 */
void
sup_set_declared(void)
{
	for (int i = 0; i < Sup->ndeclarations; i++)
	{
		SupDeclaration *d = &Sup->declarations[i];
		bool		stopped = sup_is_of_preloaded(d) && sup_worker_stopped(d->name);

		sup_lock();
		if (Sup->declaration_keys[i] != 0)
		{
			if (sup_is_of_preloaded(d))
				d->listed = stopped;
			sup_attend_declaration(d);
		}
		sup_unlock();
	}
	tell_of_unknown();
}
