/*-------------------------------------------------------------------------
 *
 * reset.c
 *	  Undoes what a task or run has left in its session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "exit.h"
#include "match.h"
#include "reset.h"
#include "rights.h"
#include "settings.h"
#include "task.h"
#include "temporary.h"

/*
 * Who waits for the task waits for its session to be reset.  What depends on a
 * temporary object may be locked by others for as long as they like.
 */
#define RESET_LOCK_TIMEOUT_MS	1000

/*
 * What DISCARD ALL leaves alone, and the end of a session does not.  Of what core
 * undoes in a process's exit this is all that SQL can leave behind, beside
 * replication's slots and origin.
 */
static void
end_with_session(void)
{
	if (get_backup_status() == SESSION_BACKUP_RUNNING)
		sup_abort_backup();

	/*
	 * The next one's random numbers are not those that this one's seed
	 * implies.
	 */
	DirectFunctionCall1(setseed,
						Float8GetDatum(2 * pg_prng_double(&pg_global_prng_state) - 1));
}

/*
 * Raises an error if something can't be undone; if that is the role, FATAL.
 * Cancels are taken only while temporary objects are dropped.
 */
static void
discard_all(Oid role)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	int			lock_timeout = LockTimeout;
	bool		new_role = !sup_role_is_as_bound(role);

	Assert(!IsTransactionState());

	/*
	 * All of DISCARD ALL but UNLISTEN: core lets no background worker LISTEN.
	 * Only what looks into catalogs needs a transaction.
	 */
	PortalHashTableDeleteAll();
	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (new_role || OidIsValid(temp_namespace))
	{
		sup_begin_own();
		if (new_role)
		{
			SetPGVariable("session_authorization", NIL, false);
			SetPGVariable("role", NIL, false);
			if (!sup_role_is_as_bound(role))
				elog(FATAL, "could not return to the role of the session");
		}

		/*
		 * What depends on a temporary object goes with it, and may be locked
		 * by others: a cancel or a timeout ends that, and this session with
		 * it.
		 */
		LockTimeout = RESET_LOCK_TIMEOUT_MS;
		QueryCancelPending = false;
		RESUME_CANCEL_INTERRUPTS();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (OidIsValid(temp_namespace))
			sup_temporary_drop();
		PopActiveSnapshot();
		HOLD_CANCEL_INTERRUPTS();
		LockTimeout = lock_timeout;
		CommitTransactionCommand();
	}
	if (sup_settings_changed())
		ResetAllOptions();
	DropAllPreparedStatements();
	if (sup_may_hold_locks())
		LockReleaseAll(USER_LOCKMETHOD, true);
	ResetPlanCache();
	ResetSequenceCaches();

	sup_reset_replication_origin();
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	sup_drop_temporary_slots();
	end_with_session();
}

/* An error is caught here, as the task has ended and keeps its own outcome. */
bool
sup_reset_session(Oid role)
{
	volatile bool done = true;

	HOLD_CANCEL_INTERRUPTS();
	PG_TRY();
	{
		sup_exit_is_reset(false);
		discard_all(role);
		if (!dlist_is_empty(&Sup->sessions[sup_my_session()].tasks))
			sup_session_end();
		sup_exit_is_reset(true);
	}
	PG_CATCH();
	{
		HOLD_CANCEL_INTERRUPTS();	/* the error has let them go */
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		done = false;
	}
	PG_END_TRY();
	RESUME_CANCEL_INTERRUPTS();
	return done;
}

/* Locks of the task are gone when it is seen to end. */
void
sup_reset_worker(SupSlot *slot)
{
	if (sup_reset_session(slot->role))
		return;
	sup_lock();
	slot->leave = SUP_LEAVE_RECYCLE;
	slot->cause = SUP_CAUSE_ROLE;
	sup_slot_stuck(slot, slot->role, slot->database);	/* core does the same
														 * again in its exit */
	sup_unlock();
}

void
sup_clean_up_after_error(void)
{
	debug_query_string = NULL;
	AbortOutOfAnyTransaction();
	PortalErrorCleanup();
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	jit_reset_after_error();
	FlushErrorState();
}

void
sup_take_late_cancel(void)
{
	sigset_t	set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	QueryCancelPending = false;
}
