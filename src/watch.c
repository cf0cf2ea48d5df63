/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Watches the commands of a session, by hooks, for what is to be noted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "compat.h"
#include "declaration.h"
#include "fence.h"
#include "match.h"
#include "notes.h"
#include "state.h"
#include "watch.h"

static ProcessUtility_hook_type next_ProcessUtility_hook = NULL;
static object_access_hook_type next_object_access_hook = NULL;

/* The database or role that the last command has made or altered. */
static Oid	altered = InvalidOid;

#define PART_TRIGGER	0

/* Where a part of a table says which one that is. */
static const struct
{
	Oid			class;
	Oid			index;			/* by OID */
	AttrNumber	key;
	AttrNumber	table;
}			parts[] = {
	[PART_TRIGGER] = {TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, Anum_pg_trigger_tgrelid},
	{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, Anum_pg_rewrite_ev_class},
	{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, Anum_pg_constraint_conrelid},
	{AttrDefaultRelationId, AttrDefaultOidIndexId, Anum_pg_attrdef_oid, Anum_pg_attrdef_adrelid},
	{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, Anum_pg_policy_polrelid},
	{IndexRelationId, IndexRelidIndexId, Anum_pg_index_indexrelid, Anum_pg_index_indrelid},
	{InheritsRelationId, InheritsRelidSeqnoIndexId, Anum_pg_inherits_inhrelid, Anum_pg_inherits_inhparent}
};

/* The table that it is a part of, which this command may just have made; 0: none. */
static Oid
table_of_part(int i, Oid object)
{
	Relation	rel = table_open(parts[i].class, AccessShareLock);
	Oid			table = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&key, parts[i].key, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, parts[i].index, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		table = DatumGetObjectId(heap_getattr(tuple, parts[i].table, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return table;
}

/*
 * Is it our extension, or a table or schema of it, or a part or heir of one?  It
 * is known by its OID: anybody may have a table "worker".
 */
static bool
is_ours(Oid class, Oid object)
{
	int			part = 0;
	Oid			extension;

	while (part < lengthof(parts) && parts[part].class != class)
		part++;
	if (part == lengthof(parts) && class != RelationRelationId && class != NamespaceRelationId &&
		class != ExtensionRelationId)
		return false;

	/* The system's own catalogs may be just about to be rewritten. */
	if (object < FirstNormalObjectId)
		return false;
	extension = get_extension_oid("supervisor", true);
	if (!OidIsValid(extension))
		return false;
	if (class == ExtensionRelationId)
		return object == extension;
	if (part < lengthof(parts))
	{
		object = table_of_part(part, object);
		class = RelationRelationId;
	}
	if (object < FirstNormalObjectId)
		return false;
	if (getExtensionOfObject(class, object) == extension)
		return true;
	if (class != RelationRelationId)
		return false;
	if (get_rel_relkind(object) != RELKIND_RELATION)
		return is_ours(IndexRelationId, object);
	return has_superclass(object) && is_ours(InheritsRelationId, object);
}

/* Something has been made or altered. */
static void
note_altered(ObjectAccessType access, Oid class, Oid object, void *arg)
{
	Oid			other = InvalidOid;

	if (access == OAT_POST_ALTER && arg != NULL)
	{
		ObjectAccessPostAlter *alter = arg;

		if (alter->is_internal)
			return;
		other = alter->auxiliary_id;
	}
	else if (arg != NULL && ((ObjectAccessPostCreate *) arg)->is_internal)
		return;
	if (class == DatabaseRelationId || class == AuthIdRelationId)
	{
		altered = object;
		sup_note(SUP_NOTE_NAMES, InvalidOid, InvalidOid);
	}
	else if (class == DbRoleSettingRelationId)
		sup_note(SUP_NOTE_SETTINGS, other, object);
	else if (class == InheritsRelationId)
	{
		if (is_ours(RelationRelationId, object) || is_ours(RelationRelationId, other))
			sup_note_load(MyDatabaseId);
	}
	else if (is_ours(class, object))
		sup_note_load(MyDatabaseId);
}

/* Something is about to be dropped: its number may be looked up for the last time. */
static void
note_drop(Oid class, Oid object, const ObjectAccessDrop *drop)
{
	if (class == ExtensionRelationId)
	{
		/* Its workers go with it. */
		char	   *name = get_extension_name(object);

		if (name != NULL && strcmp(name, "supervisor") != 0)
		{
			if (sup_catalog_delete_extension(name))
				sup_note_load(MyDatabaseId);
			return;
		}
	}
	if (class == DatabaseRelationId)
	{
		/*
		 * Interrupted from here on, it may leave an invalid database, which
		 * is for good.
		 */
		HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(object));

		if (HeapTupleIsValid(tuple))
		{
			if (!((Form_pg_database) GETSTRUCT(tuple))->datistemplate && object != MyDatabaseId)
				sup_note_doomed(object);
			ReleaseSysCache(tuple);
		}
	}
	else if (class == AuthIdRelationId)
	{
		/*
		 * One day another role may have its number, which has not its
		 * sessions.
		 */
		sup_note(SUP_NOTE_SETTINGS, object, InvalidOid);
		sup_note(SUP_NOTE_LOGIN, object, InvalidOid);
	}
	else if ((drop == NULL || (drop->dropflags & PERFORM_DELETION_INTERNAL) == 0) &&
			 is_ours(class, object))
		sup_note_load(MyDatabaseId);
}

/*
 * Whoever was granted TRIGGER or REFERENCES on a table of ours could have code of
 * his run by whoever writes to it, or keep it from being written.
 */
static void
refuse_trigger(Oid trigger)
{
	Oid			extension;
	Oid			table;

	if (superuser())
		return;
	extension = get_extension_oid("supervisor", true);
	table = OidIsValid(extension) ? table_of_part(PART_TRIGGER, trigger) : InvalidOid;
	if (OidIsValid(table) && getExtensionOfObject(RelationRelationId, table) == extension)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to create a trigger or a foreign key on table \"supervisor.%s\"",
						get_rel_name(table))));
}

/*
 * Our schema and our tables are looked for by their names, by the loader and by whoever
 * calls a function: renamed, or moved, all workers would end.  The command that
 * does it has just written the row, which the caches do not see yet.
 */
static void
refuse_rename(Oid class, Oid object)
{
	bool		is_schema = class == NamespaceRelationId;
	Oid			extension;
	Oid			index = is_schema ? NamespaceOidIndexId : ClassOidIndexId;
	bool		moved = false;
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if ((!is_schema && class != RelationRelationId) || object < FirstNormalObjectId)
		return;
	extension = get_extension_oid("supervisor", true);
	if (!OidIsValid(extension) || getExtensionOfObject(class, object) != extension ||
		(!is_schema && get_rel_relkind(object) != RELKIND_RELATION))
		return;

	rel = table_open(class, AccessShareLock);
	ScanKeyInit(&key, is_schema ? Anum_pg_namespace_oid : Anum_pg_class_oid,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, index, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) && is_schema)
		moved = strcmp(NameStr(((Form_pg_namespace) GETSTRUCT(tuple))->nspname), "supervisor") != 0;
	else if (HeapTupleIsValid(tuple))
		moved = strcmp(NameStr(((Form_pg_class) GETSTRUCT(tuple))->relname), get_rel_name(object)) != 0 ||
			((Form_pg_class) GETSTRUCT(tuple))->relnamespace != get_rel_namespace(object);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (moved)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 is_schema ? errmsg("cannot rename schema \"%s\"", "supervisor") :
				 errmsg("cannot rename or move table \"supervisor.%s\"", get_rel_name(object)),
				 errdetail("The extension \"%s\" looks for it by its name.", "supervisor")));
}

/* object_access_hook: note objects that are made, altered or dropped. */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE && class == TriggerRelationId)
		refuse_trigger(object);
	if (access == OAT_POST_ALTER)
		refuse_rename(class, object);
	if (access == OAT_POST_CREATE || access == OAT_POST_ALTER)
		note_altered(access, class, object, arg);
	else if (access == OAT_DROP)
		note_drop(class, object, arg);
}

/*
 * Some commands lock what they name before they ask whether the user may do what
 * they are about: who waits for that lock has all wait who come later, for as long
 * as somebody else uses it.  Of what is ours, and of databases, to which our
 * processes log in, he is told at once.
 */

static void
require_owner_of_database(const char *name)
{
	Oid			database = get_database_oid(name, true);

	if (OidIsValid(database) && !sup_owns_database(database))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_DATABASE, name);
}

/*
 * Of a database that is no template only its owner makes copies.  Nor does he give a copy the number
 * of another that is gone: it tells the jobs of a database from those of its copies.
 */
static void
require_right_to_copy(const CreatedbStmt *stmt)
{
	const char *name = "template1";
	HeapTuple	tuple;
	Oid			database;
	bool		may;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			name = defGetString(option);
		else if (strcmp(option->defname, "oid") == 0 && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be superuser to choose the OID of a database"),
					 errdetail("By its OID the jobs of a database are told from those of its copies."),
					 errhint("Leave the option out.")));
	}
	database = get_database_oid(name, true);
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return;
	may = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate || sup_owns_database(database);
	ReleaseSysCache(tuple);
	if (!may)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to copy database \"%s\"", name)));
}

static bool
is_in_search_path(Oid schema)
{
	Oid			path[64];
	int			n = fetch_search_path_array(path, lengthof(path));

	for (int i = 0; i < Min(n, lengthof(path)); i++)
		if (path[i] == schema)
			return true;
	return n > lengthof(path);
}

/*
 * As for a database, for a table, view or index that is there, if it is ours.  What
 * else a name means now it is made to mean when core looks: renamed meanwhile, ours
 * might come in its place.
 */
static void
require_owner(RangeVar *name)
{
	Oid			schema = get_namespace_oid("supervisor", true);
	Oid			ours = InvalidOid;
	Oid			found;

	if (name != NULL && OidIsValid(schema) &&
		(name->schemaname == NULL || strcmp(name->schemaname, "supervisor") == 0))
		ours = get_relname_relid(name->relname, schema);
	if (!OidIsValid(ours) || sup_owns_relation(ours) || !is_ours(RelationRelationId, ours))
		return;
	if (name->schemaname == NULL && !is_in_search_path(schema))
		return;
	found = RangeVarGetRelid(name, NoLock, true);
	if (found == ours)
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(ours)), name->relname);
	if (OidIsValid(found) && name->schemaname == NULL)
		name->schemaname = get_namespace_name(get_rel_namespace(found));
}

/*
 * The tables that definitions of columns and constraints refer to.  Not of a table that
 * is to be made: it may refer to itself.  Core makes an ALTER TABLE of that later.
 */
static void
require_owner_of_referenced(List *definitions)
{
	ListCell   *lc;

	foreach(lc, definitions)
	{
		Node	   *node = lfirst(lc);

		if (node != NULL && IsA(node, ColumnDef))
			require_owner_of_referenced(((ColumnDef *) node)->constraints);
		else if (node != NULL && IsA(node, Constraint))
			require_owner(((Constraint *) node)->pktable);
	}
}

/* Does it name a table that core may lock too early? */
static bool
may_lock_early(const Node *stmt)
{
	return IsA(stmt, RuleStmt) || IsA(stmt, CreateTrigStmt) || IsA(stmt, AlterObjectDependsStmt) ||
		IsA(stmt, CreateStmt) || IsA(stmt, CreateForeignTableStmt) || IsA(stmt, AlterTableStmt);
}

/* Of all such commands, whose names may be qualified. */
static void
refuse_to_lock(Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_RuleStmt:
			require_owner(((RuleStmt *) stmt)->relation);
			break;
		case T_CreateTrigStmt:
			require_owner(((CreateTrigStmt *) stmt)->relation);
			break;
		case T_AlterObjectDependsStmt:
			require_owner(((AlterObjectDependsStmt *) stmt)->relation);
			break;
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			foreach(lc, ((CreateStmt *) stmt)->inhRelations)
				require_owner(lfirst_node(RangeVar, lc));
			break;
		case T_CreatedbStmt:
			require_right_to_copy((CreatedbStmt *) stmt);
			break;
		case T_DropdbStmt:
			require_owner_of_database(((DropdbStmt *) stmt)->dbname);
			break;
		case T_AlterDatabaseStmt:
			require_owner_of_database(((AlterDatabaseStmt *) stmt)->dbname);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				require_owner_of_database(((RenameStmt *) stmt)->subname);
			break;
		case T_AlterTableStmt:
			foreach(lc, ((AlterTableStmt *) stmt)->cmds)
			{
				Node	   *def = lfirst_node(AlterTableCmd, lc)->def;

				if (def != NULL && IsA(def, PartitionCmd))
					require_owner(((PartitionCmd *) def)->name);
				else
					require_owner_of_referenced(list_make1(def));
			}
			break;
		default:
			break;
	}
}

/* The rights on a database, as they are now. */
static Acl *
database_acl(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	Acl		   *acl;
	Datum		datum;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	datum = SysCacheGetAttr(DATABASEOID, tuple, Anum_pg_database_datacl, &isnull);
	acl = isnull ? acldefault(OBJECT_DATABASE, ((Form_pg_database) GETSTRUCT(tuple))->datdba) :
		DatumGetAclPCopy(datum);
	ReleaseSysCache(tuple);
	return acl;
}

/* The databases that a command grants rights on, and these rights, as they are now. */
static void
look_at_grant(Node *stmt, List **granted, List **acls)
{
	ListCell   *lc;

	if (!IsA(stmt, GrantStmt) || ((GrantStmt *) stmt)->objtype != OBJECT_DATABASE ||
		!((GrantStmt *) stmt)->is_grant)
		return;
	foreach(lc, ((GrantStmt *) stmt)->objects)
	{
		Oid			database = get_database_oid(strVal(lfirst(lc)), true);

		*granted = lappend_oid(*granted, database);
		*acls = lappend(*acls, database_acl(database));
	}
}

/* The command has been run. */
static void
note_command(Node *stmt, List *granted, List *acls)
{
	ListCell   *lc;
	ListCell   *before;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			sup_note_dropped();
			break;
		case T_CreatedbStmt:
			sup_note_load(altered);
			break;
		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
			{
				const char *option = lfirst_node(DefElem, lc)->defname;

				if (strcmp(option, "is_template") == 0 || strcmp(option, "allow_connections") == 0)
					sup_note_load(altered);
				else if (strcmp(option, "connection_limit") == 0)
					sup_note(SUP_NOTE_GRANT, InvalidOid, altered);
			}
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_DATABASE)
				break;
			sup_note_rename(altered);
			break;
		case T_GrantStmt:
			forboth(lc, granted, before, acls)
			{
				Acl		   *acl = database_acl(lfirst_oid(lc));

				if (acl != NULL && lfirst(before) != NULL && !aclequal(acl, lfirst(before)))
					sup_note(SUP_NOTE_GRANT, InvalidOid, lfirst_oid(lc));
			}
			break;
		case T_AlterTableStmt:
			/* Core tells the hook of most of it, but not of row security. */
			if (is_ours(RelationRelationId,
						RangeVarGetRelid(((AlterTableStmt *) stmt)->relation, NoLock, true)))
				sup_note_load(MyDatabaseId);
			break;
		case T_AlterRoleStmt:
			foreach(lc, ((AlterRoleStmt *) stmt)->options)
			{
				const char *option = lfirst_node(DefElem, lc)->defname;

				/* Superusers own what is trusted. */
				if (strcmp(option, "superuser") == 0)
					sup_note(SUP_NOTE_LOAD, InvalidOid, InvalidOid);
				else if ((strcmp(option, "canlogin") == 0 || strcmp(option, "connectionlimit") == 0) &&
						 OidIsValid(altered))
					sup_note(SUP_NOTE_LOGIN, altered, InvalidOid);
			}
			break;
		default:
			break;
	}
}

/*
 * ProcessUtility_hook: look at a command before it runs, have workers leave
 * the database that it is about, and note afterwards what it has changed.
 * On a standby, and outside of a transaction, there is nothing to note.
 */
static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		watch = IsTransactionState() && !IsAbortedTransactionBlockState() && !RecoveryInProgress();
	TransactionStmt *transaction = watch && IsA(stmt, TransactionStmt) ? (TransactionStmt *) stmt : NULL;
	bool		finishes = transaction != NULL && (transaction->kind == TRANS_STMT_COMMIT_PREPARED ||
												   transaction->kind == TRANS_STMT_ROLLBACK_PREPARED);
	bool		known = finishes && sup_finish_prepared(transaction->gid);
	List	   *granted = NIL;
	List	   *acls = NIL;

	altered = InvalidOid;
	if (transaction != NULL && transaction->kind == TRANS_STMT_PREPARE)
		sup_note_prepare(transaction->gid);
	else if (watch && !known)
	{
		if (readOnlyTree && may_lock_early(stmt))
		{
			pstmt = copyObject(pstmt);
			stmt = pstmt->utilityStmt;
			readOnlyTree = false;
		}
		refuse_to_lock(stmt);
		look_at_grant(stmt, &granted, &acls);
		sup_make_room(pstmt, context);
	}

	if (next_ProcessUtility_hook)
		next_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context, params,
								 queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);

	if (finishes)
		sup_finished_prepared(transaction->gid, transaction->kind == TRANS_STMT_COMMIT_PREPARED, known);

	/* It may have ended the transaction, as CALL does. */
	if (watch && transaction == NULL && IsTransactionState())
		note_command(stmt, granted, acls);
}

/* The hooks call those that were installed before. */
void
sup_install_watch(void)
{
	next_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	next_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}
