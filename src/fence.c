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
#include "catalog/pg_db_role_setting.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "fence.h"
#include "state.h"

/* Core waits 5 s for others to leave. */
#define FENCE_WAIT_MS	4000

static ProcessUtility_hook_type next_ProcessUtility_hook = NULL;

/* Whose settings this transaction has changed; InvalidOid is any. */
#define MAX_CHANGES	32

static struct
{
	Oid			role;
	Oid			database;
}			changes[MAX_CHANGES];
static int	nchanges = 0;

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

/* The sessions of these roles and databases are out of date: for those in the pool. */
static void
publish_changes(void)
{
	sup_lock();
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		for (int j = 0; j < nchanges && slot->binding >= 0; j++)
			if ((!OidIsValid(changes[j].role) || changes[j].role == slot->role) &&
				(!OidIsValid(changes[j].database) || changes[j].database == slot->database))
				slot->stale = true;
	}
	sup_unlock();
}

static void
note_change(Oid role, Oid database)
{
	for (int i = 0; i < nchanges; i++)
		if (changes[i].role == role && changes[i].database == database)
			return;
	if (nchanges == MAX_CHANGES)
	{
		nchanges = 0;			/* they are many: any */
		role = database = InvalidOid;
	}
	changes[nchanges].role = role;
	changes[nchanges++].database = database;
}

/* The command has changed somebody's settings. */
static void
note_settings(Node *stmt)
{
	if (IsA(stmt, AlterRoleSetStmt))
	{
		AlterRoleSetStmt *set = (AlterRoleSetStmt *) stmt;

		note_change(set->role ? get_rolespec_oid(set->role, true) : InvalidOid,
					set->database ? get_database_oid(set->database, true) : InvalidOid);
	}
	else if (IsA(stmt, AlterDatabaseSetStmt))
		note_change(InvalidOid,
					get_database_oid(((AlterDatabaseSetStmt *) stmt)->dbname, true));
}

/* May a prepared transaction, that is about to be committed, have done so? */
static bool
others_change_settings(void)
{
	LOCKTAG		tag;
	int			n;

	/* They keep their lock on the catalog to the end. */
	SET_LOCKTAG_RELATION(tag, InvalidOid, DbRoleSettingRelationId);
	(void) GetLockConflicts(&tag, ShareLock, &n);
	return n > 0;
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && nchanges > 0)
		publish_changes();
	nchanges = 0;
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

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			database;
	bool		in_transaction = IsTransactionState() && !IsAbortedTransactionBlockState() && !RecoveryInProgress();
	bool		sets = IsA(pstmt->utilityStmt, AlterRoleSetStmt) ||
		IsA(pstmt->utilityStmt, AlterDatabaseSetStmt);

	if (in_transaction)
	{
		if (IsA(pstmt->utilityStmt, TransactionStmt) &&
			((TransactionStmt *) pstmt->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED &&
			others_change_settings())
			note_change(InvalidOid, InvalidOid);
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

	if (sets && in_transaction)
		note_settings(pstmt->utilityStmt);
}

void
sup_install_fence(void)
{
	next_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(transaction_ends, NULL);
}
