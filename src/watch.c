/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  What core does not tell anybody: that something has committed which the
 *	  supervisor or its workers have to know.
 *
 * Sessions note what they change, and publish it at commit: the settings of
 * roles and databases, for the sessions in the pool; and whatever may change
 * which declared workers there are, or whether they can start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "compat.h"
#include "fence.h"
#include "state.h"
#include "watch.h"

static ProcessUtility_hook_type next_ProcessUtility_hook = NULL;
static object_access_hook_type next_object_access_hook = NULL;

/* Whose settings this transaction has changed; InvalidOid is any. */
#define MAX_CHANGES	32

static struct
{
	Oid			role;
	Oid			database;
}			changes[MAX_CHANGES];
static int	nchanges = 0;

/* Databases whose declared workers this transaction may have changed. */
static Oid	loads[MAX_CHANGES];
static int	nloads = 0;
static bool load_all = false;

/* What this transaction was to drop, and has, if nothing failed: the command must stand alone. */
static Oid	doomed_database = InvalidOid;
static bool database_dropped = false;

/* Roles of which it may have changed whether they can log in. */
static Oid	roles[MAX_CHANGES];
static int	nroles = 0;

static bool holds_workers = false;

static void
note_oid(Oid *list, int *n, Oid oid)
{
	if (!OidIsValid(oid))
		return;
	for (int i = 0; i < *n; i++)
		if (list[i] == oid)
			return;
	if (*n == MAX_CHANGES)
		load_all = true;
	else
		list[(*n)++] = oid;
}

void
sup_watch_database(Oid database)
{
	note_oid(loads, &nloads, database);
}

void
sup_watch_hold(void)
{
	holds_workers = true;
}

/*
 * Settings
 */

/* The sessions of these roles and databases are out of date: for those in the pool. */
static void
publish_changes(void)
{
	sup_lock();
	for (int i = 0; i < sup_nslots(); i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		for (int j = 0; j < nchanges && OidIsValid(slot->role); j++)
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

/* May a prepared transaction, that is about to be committed, have done so, or dropped a role? */
static bool
others_change_settings(void)
{
	/* They keep their lock on a catalog to the end. */
	static const Oid catalogs[] = {DbRoleSettingRelationId, AuthIdRelationId};

	for (int i = 0; i < lengthof(catalogs); i++)
	{
		LOCKTAG		tag;
		int			n;

		SET_LOCKTAG_RELATION(tag, InvalidOid, catalogs[i]);
		(void) GetLockConflicts(&tag, ShareLock, &n);
		if (n > 0)
			return true;
	}
	return false;
}

/*
 * Declared workers
 */

static void
publish_loads(void)
{
	sup_lock();

	/* Before the fence is lowered, or its workers would be tried once more. */
	if (database_dropped)
		sup_forget_database(doomed_database);
	for (int i = 0; i < nloads; i++)
		sup_request_load(loads[i]);
	for (int i = 0; nroles > 0 && i < Sup->ndeclarations; i++)
	{
		SupDeclaration *d = &Sup->declarations[i];

		if (Sup->declaration_keys[i] != 0 && d->source == SUP_FROM_TABLE)
			for (int j = 0; j < nroles; j++)
				if (d->program.role == roles[j])
					sup_request_load(d->database);
	}
	if (load_all)
	{
		Sup->load_all = true;
		sup_wake_supervisor();
	}
	sup_unlock();
}

/* What was started or stopped here by name follows its row again. */
static void
release_workers(void)
{
	sup_lock();
	for (int i = 0; i < Sup->ndeclarations; i++)
	{
		SupDeclaration *d = &Sup->declarations[i];

		if (Sup->declaration_keys[i] == 0 || d->holder != MyProcPid)
			continue;
		d->holder = 0;
		if (d->source == SUP_FROM_TABLE)
			sup_request_load(d->database);
	}
	sup_unlock();
}

/* May a prepared transaction, that is about to be committed, have changed the table? */
static bool
others_change_workers(void)
{
	Oid			schema = get_namespace_oid("supervisor", true);
	Oid			table = OidIsValid(schema) ? get_relname_relid("worker", schema) : InvalidOid;
	LOCKTAG		tag;
	int			n;

	if (!OidIsValid(table))
		return false;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
	(void) GetLockConflicts(&tag, ShareLock, &n);
	return n > 0;
}

/* A table has been altered: perhaps ours, which is now trusted, or is no more. */
static void
note_table(const RangeVar *relation)
{
	if (relation != NULL && strcmp(relation->relname, "worker") == 0)
		sup_watch_database(MyDatabaseId);
}

/* The command has been run. */
static void
note_command(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			database_dropped = OidIsValid(doomed_database);
			break;
		case T_CreatedbStmt:
			sup_watch_database(get_database_oid(((CreatedbStmt *) stmt)->dbname, true));
			break;
		case T_AlterDatabaseStmt:
			sup_watch_database(get_database_oid(((AlterDatabaseStmt *) stmt)->dbname, true));
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				sup_watch_database(get_database_oid(((RenameStmt *) stmt)->newname, true));
			else
				note_table(((RenameStmt *) stmt)->relation);
			break;
		case T_AlterTableStmt:
			note_table(((AlterTableStmt *) stmt)->relation);
			break;
		case T_RuleStmt:
			note_table(((RuleStmt *) stmt)->relation);
			break;
		case T_CreateTrigStmt:
			note_table(((CreateTrigStmt *) stmt)->relation);
			break;
		case T_DropStmt:
			/* of the table's: the last name is the rule's or trigger's */
			if (((DropStmt *) stmt)->removeType == OBJECT_RULE ||
				((DropStmt *) stmt)->removeType == OBJECT_TRIGGER)
				foreach(lc, ((DropStmt *) stmt)->objects)
					note_table(makeRangeVarFromNameList(list_copy_head(lfirst(lc), list_length(lfirst(lc)) - 1)));
			break;
		case T_GrantStmt:
			if (((GrantStmt *) stmt)->objtype == OBJECT_DATABASE)
				foreach(lc, ((GrantStmt *) stmt)->objects)
					sup_watch_database(get_database_oid(strVal(lfirst(lc)), true));
			break;
		case T_AlterRoleStmt:
			note_oid(roles, &nroles, get_rolespec_oid(((AlterRoleStmt *) stmt)->role, true));
			break;
		case T_AlterExtensionContentsStmt:
		case T_AlterExtensionStmt:
		case T_ReassignOwnedStmt:
			sup_watch_database(MyDatabaseId);
			break;
		default:
			note_settings(stmt);
			break;
	}
}

/* What can't be looked up any more when the command has been run. */
static void
note_drop(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, DropdbStmt))
	{
		doomed_database = get_database_oid(((DropdbStmt *) stmt)->dbname, true);
		sup_watch_database(doomed_database);
	}
	else if (IsA(stmt, DropRoleStmt))
		foreach(lc, ((DropRoleStmt *) stmt)->roles)
		{
			RoleSpec   *role = lfirst(lc);

			/* core refuses the others, in its own words */
			if (role->roletype == ROLESPEC_CSTRING)
				note_oid(roles, &nroles, get_role_oid(role->rolename, true));
		}
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		watch = IsTransactionState() && !IsAbortedTransactionBlockState() && !RecoveryInProgress();

	if (watch)
	{
		if (IsA(stmt, TransactionStmt) &&
			((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED)
		{
			if (others_change_settings())
				note_change(InvalidOid, InvalidOid);
			if (others_change_workers())
				sup_watch_database(MyDatabaseId);
		}
		note_drop(stmt);
		sup_make_room(pstmt, context);
	}

	if (next_ProcessUtility_hook)
		next_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context, params,
								 queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);

	/* It may have ended the transaction, as CALL does. */
	if (watch && IsTransactionState())
		note_command(stmt);
}

/* An extension is about to be dropped: its workers go with it. */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class, object, sub, arg);
	if (access == OAT_DROP && class == ExtensionRelationId)
	{
		char	   *name = get_extension_name(object);

		if (name == NULL)
			return;
		if (strcmp(name, "supervisor") != 0)
			sup_catalog_delete_extension(name);
		sup_watch_database(MyDatabaseId);
	}

	/* One day another role may have its number, which has not its sessions. */
	if (access == OAT_DROP && class == AuthIdRelationId)
		note_change(object, InvalidOid);
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && nchanges > 0)
		publish_changes();
	if (event == XACT_EVENT_COMMIT && (nloads > 0 || nroles > 0 || load_all))
		publish_loads();

	/* Interrupted, it may have left an invalid database, which is for good. */
	if (event == XACT_EVENT_ABORT && OidIsValid(doomed_database))
	{
		sup_lock();
		sup_request_load(doomed_database);
		sup_unlock();
	}
	if (holds_workers)
		release_workers();
	nchanges = nloads = nroles = 0;
	load_all = holds_workers = database_dropped = false;
	doomed_database = InvalidOid;
}

void
sup_install_watch(void)
{
	next_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	next_object_access_hook = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(transaction_ends, NULL);
}
