/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Pool workers step aside for DDL on their database.
 *
 * DROP DATABASE and its kin fail while anybody is connected to the database.
 * A pool worker that has nothing to do there is no reason to fail: before
 * core's command runs, it is asked to leave, and nobody binds to the database
 * until the transaction ends.  A worker that runs a task is a session like
 * any other.
 *
 * Here is also what core does not tell anybody: that ALTER ROLE or DATABASE
 * ... SET has committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
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

static ProcessUtility_hook_type next_ProcessUtility_hook = NULL;
/* Counters of Sup->settings_epochs to be incremented when this transaction commits. */
static uint64 settings_changed = 0;
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
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].name[0] != '\0')
			sup_dispatch(i, GetCurrentTimestamp());
	sup_unlock();
}

static void
settings_have_changed(uint64 counters)
{
	for (int i = 0; counters != 0; i++, counters >>= 1)
		if (counters & 1)
			pg_atomic_fetch_add_u64(&Sup->settings_epochs[i], 1);
}

/* The counters of what a command is about; all if it can't be told. */
static uint64
counters_of(Node *stmt)
{
	Oid			object = InvalidOid;

	if (IsA(stmt, AlterRoleSetStmt) && ((AlterRoleSetStmt *) stmt)->role != NULL)
		object = get_rolespec_oid(((AlterRoleSetStmt *) stmt)->role, true);
	else if (IsA(stmt, AlterDatabaseSetStmt))
		object = get_database_oid(((AlterDatabaseSetStmt *) stmt)->dbname, true);
	return OidIsValid(object) ? UINT64CONST(1) << (object % SUP_EPOCHS) : PG_UINT64_MAX;
}

static void
transaction_ends(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			settings_have_changed(settings_changed);
			/* FALLTHROUGH */
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			settings_changed = 0;
			lower_fences();
			break;
		default:
			break;
	}
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
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_EMPTY && slot->database == database && slot->leaving && !slot->exited)
			n++;
	}
	sup_unlock();
	return n;
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
		for (int i = 0; i < sup_max_workers; i++)
		{
			SupSlot    *slot = &Sup->slots[i];

			if (slot->state != SUP_EMPTY && slot->database == database && !slot->exited &&
				slot->leave == SUP_STAY)
				sup_ask_leave(slot, SUP_LEAVE_FENCE);
		}
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
					if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
						name = ((AlterDatabaseStmt *) stmt)->dbname;
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

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			database;
	bool		commits_prepared = IsA(pstmt->utilityStmt, TransactionStmt) &&
		((TransactionStmt *) pstmt->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED;

	if (IsTransactionState() && !IsAbortedTransactionBlockState() && !RecoveryInProgress())
	{
		if (IsA(pstmt->utilityStmt, AlterRoleSetStmt) || IsA(pstmt->utilityStmt, AlterDatabaseSetStmt))
			settings_changed |= counters_of(pstmt->utilityStmt);
		database = database_to_fence(pstmt, context);
		if (OidIsValid(database))
			raise_fence(database);
	}

	if (next_ProcessUtility_hook)
		next_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context, params,
								 queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);

	/* What was prepared is not remembered: it may be any of them. */
	if (commits_prepared)
		settings_have_changed(PG_UINT64_MAX);
}

void
sup_install_fence(void)
{
	next_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(transaction_ends, NULL);
}
