/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Workers step aside for DDL on their database.
 *
 * DROP DATABASE and its kin fail while anybody is connected to the database.
 * A pool worker that has nothing to do there is no reason to fail, nor is a
 * declared worker, which comes back: before core's command runs, they are asked
 * to leave, and nobody binds to the database until the transaction ends.  A
 * pool worker that runs a task is a session like any other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "fence.h"
#include "state.h"

/* Core waits 5 s for others to leave. */
#define FENCE_WAIT_MS	4000

static bool fence_is_up = false;	/* this process holds one or more */

static void
lower_fences(void)
{
	if (!fence_is_up)
		return;
	fence_is_up = false;
	sup_lock();
	for (int i = 0; i < SUP_FENCES; i++)
		if (Sup->fences[i].holder == MyProcPid)
			Sup->fences[i].holder = 0;
	Sup->fence_lowered = true;
	sup_wake_supervisor();
	sup_unlock();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].nbindings > 0)
			sup_review_blocked(i, GetCurrentTimestamp());
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_ABORT)
		lower_fences();
}

static void
process_exits(int code, Datum arg)
{
	lower_fences();
}

/* Workers that are in the database and have been asked to leave it. */
static int
workers_leaving(Oid database)
{
	int			n = 0;

	sup_lock();
	for (int i = 0; i < sup_nslots(); i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_EMPTY && slot->database == database && slot->leaving && !slot->exited)
			n++;
	}
	sup_unlock();
	return n;
}

/* Ask a worker to leave the database, if it is there.  The caller holds the lock. */
static void
ask_to_leave(SupSlot *slot, Oid database)
{
	if (slot->state == SUP_EMPTY || slot->exited || slot->pid == 0 || slot->leave != SUP_STAY)
		return;

	/* Where a C function connects to is its own affair. */
	if (slot->kind == SUP_KIND_LIBRARY)
		slot->database = slot->proc->databaseId;
	if (slot->database != database)
		return;
	switch (slot->kind)
	{
		case SUP_KIND_POOL:
			sup_ask_leave(slot, SUP_LEAVE_FENCE);
			break;
		case SUP_KIND_COMMAND:
			sup_ask_leave(slot, SUP_LEAVE_FENCE);
			slot->leaving = true;
			if (slot->runs)
				kill(slot->pid, SIGINT);
			break;
		case SUP_KIND_LIBRARY:
			slot->leave = SUP_LEAVE_FENCE;
			slot->leaving = true;
			sup_ask_terminate(slot);
			break;
		case SUP_KIND_LOADER:
			slot->leaving = true;	/* any moment */
			break;
	}
}

static void
raise_fence(Oid database)
{
	static bool callback_registered = false;
	TimestampTz start = GetCurrentTimestamp();
	SupFence   *fence = NULL;

	if (!callback_registered)
		before_shmem_exit(process_exits, (Datum) 0);
	callback_registered = true;

	sup_lock();
	for (int i = 0; i < SUP_FENCES; i++)
	{
		SupFence   *f = &Sup->fences[i];

		if (f->holder == MyProcPid && f->database == database)
		{
			fence = f;			/* up already */
			break;
		}
		if (f->holder == 0 && fence == NULL)
			fence = f;
	}
	if (fence != NULL)
	{
		fence->holder = MyProcPid;
		fence->database = database;
		fence_is_up = true;
		for (int i = 0; i < sup_nslots(); i++)
			ask_to_leave(&Sup->slots[i], database);
	}
	sup_unlock();
	if (fence == NULL)
		return;					/* as core does without us */

	ConditionVariablePrepareToSleep(&Sup->changed);
	while (workers_leaving(database) > 0 &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), FENCE_WAIT_MS))
		(void) ConditionVariableTimedSleep(&Sup->changed, FENCE_WAIT_MS,
										   sup_wait_event(SUP_WAIT_FENCE));
	ConditionVariableCancelSleep();
}

static bool
has_createdb(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * The database that a command is about, if core would let this user do it, as
 * far as can be seen without locks; or else none: a command that will fail
 * must not disturb others.
 */
static Oid
database_to_fence(PlannedStmt *pstmt, ProcessUtilityContext context)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		in_block = IsTransactionBlock() || IsSubTransaction() ||
		(context != PROCESS_UTILITY_TOPLEVEL && context != PROCESS_UTILITY_QUERY_NONATOMIC);
	const char *name = NULL;
	bool		copies = false;
	Oid			database;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			if (!in_block)
				name = ((DropdbStmt *) stmt)->dbname;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE &&
				(superuser() || has_createdb()))
				name = ((RenameStmt *) stmt)->subname;
			break;
		case T_AlterDatabaseStmt:
			if (!in_block)
			{
				ListCell   *lc;

				foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
				{
					if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
						name = ((AlterDatabaseStmt *) stmt)->dbname;
				}
			}
			break;
		case T_CreatedbStmt:
			if (!in_block && (superuser() || has_createdb()))
			{
				ListCell   *lc;

				name = "template1";
				copies = true;
				foreach(lc, ((CreatedbStmt *) stmt)->options)
				{
					DefElem    *option = lfirst_node(DefElem, lc);

					if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
						name = defGetString(option);
				}
			}
			break;
		default:
			break;
	}
	if (name == NULL)
		return InvalidOid;

	database = get_database_oid(name, true);
	if (!OidIsValid(database) || (database == MyDatabaseId && !copies))
		return InvalidOid;
	if (!superuser() && !sup_owns_database(database))
	{
		bool		is_template = false;
		HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));

		if (HeapTupleIsValid(tuple))
		{
			is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
			ReleaseSysCache(tuple);
		}
		if (!copies || !is_template)
			return InvalidOid;
	}
	return database;
}

void
sup_make_room(PlannedStmt *pstmt, ProcessUtilityContext context)
{
	Oid			database = database_to_fence(pstmt, context);

	if (OidIsValid(database))
	{
		raise_fence(database);
		sup_injection_point("supervisor-fenced");
	}
}

void
sup_install_fence(void)
{
	RegisterXactCallback(transaction_ends, NULL);
}
