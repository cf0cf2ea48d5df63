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
#include "fence.h"
#include "state.h"
#include "watch.h"

static ProcessUtility_hook_type next_ProcessUtility_hook = NULL;
static object_access_hook_type next_object_access_hook = NULL;

/* The lock is not held for longer than it takes to look at so many of something. */
#define SLICE	64

typedef struct Oids
{
	Oid		   *oids;
	int			n;
	int			max;
} Oids;

/*
 * What a transaction has to tell when it commits.  The lists grow in its memory
 * context; once sorted, they can be searched without allocating anything.
 */
typedef struct Notes
{
	SupChange  *changes;		/* whose settings it has changed */
	int			nchanges;
	int			maxchanges;
	Oids		loads;			/* databases whose declared workers it may
								 * have changed */
	Oids		granted;		/* databases to which somebody may connect now */
	Oids		roles;			/* roles of which it may have changed whether
								 * they can log in */
	bool		load_all;
} Notes;

/*
 * Those of the transaction of this process.  Commands run within commands, as in
 * the script of an extension or an event trigger, and each adds its own; they are
 * told and forgotten in the transaction's callback, where nothing else runs.
 */
static Notes notes;

/* It has renamed a database, which is locked until it ends. */
static bool renames = false;

/* The database or role that the last command has made or altered. */
static Oid	altered = InvalidOid;

/* What this transaction was to drop, and has, if nothing failed: the command must stand alone. */
static Oid	doomed_database = InvalidOid;
static bool database_dropped = false;

/* Started or stopped some by name. */
static bool holds_workers = false;

/*
 * Identifier of the prepared transaction that this one is to become, which may
 * be empty; NULL: it is not, as far as we know.
 */
static char prepared_gid[GIDSIZE];
static const char *preparing = NULL;

/* This transaction is about to finish a prepared one, which is known. */
static bool finishing = false;

/*
 * Noting
 */

/* Room for one more in a list that belongs to the transaction. */
static void *
grow(void *list, int n, int *max, Size size)
{
	if (n < *max)
		return list;
	if (*max == 0)
	{
		*max = 32;
		return MemoryContextAlloc(TopTransactionContext, *max * size);
	}
	*max *= 2;
	return repalloc(list, *max * size);
}

static void
note_oid(Oids *list, Oid oid)
{
	if (!OidIsValid(oid))
		return;
	for (int i = 0; i < list->n; i++)
		if (list->oids[i] == oid)
			return;
	list->oids = grow(list->oids, list->n, &list->max, sizeof(Oid));
	list->oids[list->n++] = oid;
}

static int
by_role(const void *a, const void *b)
{
	const SupChange *x = a;
	const SupChange *y = b;

	if (x->role != y->role)
		return x->role < y->role ? -1 : 1;
	return x->database < y->database ? -1 : x->database > y->database;
}

static int
by_database(const void *a, const void *b)
{
	const SupChange *x = a;
	const SupChange *y = b;

	if (x->database != y->database)
		return x->database < y->database ? -1 : 1;
	return x->role < y->role ? -1 : x->role > y->role;
}

/* Several databases of a role become any of its. */
static void
collapse_databases(Notes *n)
{
	int			kept = 0;

	qsort(n->changes, n->nchanges, sizeof(SupChange), by_role);
	for (int i = 0; i < n->nchanges; i++)
		if (kept > 0 && OidIsValid(n->changes[i].role) &&
			n->changes[kept - 1].role == n->changes[i].role)
			n->changes[kept - 1].database = InvalidOid;
		else
			n->changes[kept++] = n->changes[i];
	n->nchanges = kept;
}

/* Several roles in a database become any there. */
static void
collapse_roles(Notes *n)
{
	int			kept = 0;

	qsort(n->changes, n->nchanges, sizeof(SupChange), by_database);
	for (int i = 0; i < n->nchanges; i++)
		if (kept > 0 && OidIsValid(n->changes[i].database) &&
			n->changes[kept - 1].database == n->changes[i].database)
			n->changes[kept - 1].role = InvalidOid;
		else
			n->changes[kept++] = n->changes[i];
	n->nchanges = kept;
}

static void
note_change(Oid role, Oid database)
{
	for (int i = 0; i < notes.nchanges; i++)
	{
		const SupChange *c = &notes.changes[i];

		if ((c->role == role || !OidIsValid(c->role)) &&
			(c->database == database || !OidIsValid(c->database)))
			return;
	}
	if (notes.nchanges > 0 && notes.nchanges == notes.maxchanges)
		collapse_databases(&notes);
	notes.changes = grow(notes.changes, notes.nchanges, &notes.maxchanges, sizeof(SupChange));
	notes.changes[notes.nchanges].role = role;
	notes.changes[notes.nchanges++].database = database;
}

void
sup_watch_database(Oid database)
{
	note_oid(&notes.loads, database);
}

void
sup_watch_hold(void)
{
	holds_workers = true;
}

/*
 * Publishing
 *
 * Nothing can be allocated any more, and no error may be raised.
 */

static int
compare_oids(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return x < y ? -1 : x > y;
}

static bool
has_oid(const Oids *sorted, Oid oid)
{
	return sorted->n > 0 &&
		bsearch(&oid, sorted->oids, sorted->n, sizeof(Oid), compare_oids) != NULL;
}

static bool
has_change(const Notes *n, Oid role, Oid database)
{
	SupChange	key = {role, database};

	return bsearch(&key, n->changes, n->nchanges, sizeof(SupChange), by_role) != NULL;
}

/* The sessions of these roles and databases are out of date: for those in the pool. */
static void
publish_changes(Notes *n)
{
	if (n->nchanges == 0)
		return;
	qsort(n->changes, n->nchanges, sizeof(SupChange), by_role);
	for (int start = 0; start < sup_nslots(); start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, sup_nslots()); i++)
		{
			SupSlot    *slot = &Sup->slots[i];

			if (!OidIsValid(slot->role) || slot->stale)
				continue;
			slot->stale = has_change(n, slot->role, slot->database) ||
				has_change(n, slot->role, InvalidOid) ||
				has_change(n, InvalidOid, slot->database) ||
				has_change(n, InvalidOid, InvalidOid);
			slot->stale_by_itself = slot->stale && slot->role == GetUserId();
		}
		sup_unlock();
	}
}

static void
publish_loads(Notes *n)
{
	for (int start = 0; start < n->loads.n; start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, n->loads.n); i++)
			sup_request_load(n->loads.oids[i]);
		sup_unlock();
	}
	if (n->roles.n > 0)
		qsort(n->roles.oids, n->roles.n, sizeof(Oid), compare_oids);
	if (n->granted.n > 0)
		qsort(n->granted.oids, n->granted.n, sizeof(Oid), compare_oids);
	for (int start = 0; n->roles.n + n->granted.n > 0 && start < Sup->ndeclarations; start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, Sup->ndeclarations); i++)
		{
			SupDeclaration *d = &Sup->declarations[i];

			if (Sup->declaration_keys[i] != 0 && d->source == SUP_FROM_TABLE &&
				(has_oid(&n->roles, d->program.role) || has_oid(&n->granted, d->database)))
				sup_request_load(d->database);
		}
		sup_unlock();
	}
	if (n->load_all)
	{
		sup_lock();
		Sup->load_all = true;
		sup_wake_supervisor();
		sup_unlock();
	}
}

/* Before its fence is lowered, or the workers of the database would be tried once more. */
static void
publish_drop(void)
{
	sup_lock();
	sup_forget_database(doomed_database);
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

/*
 * Prepared transactions
 *
 * What one has noted waits in shared memory until it is finished, perhaps by
 * another session.  It is known by its transaction ID, since an identifier may be
 * used again at once; whoever finds that it is not in progress any more takes the
 * entry, and tells what it says.  Of one that the server has recovered nothing is
 * known: then anything may have changed.
 */

/* The supervisor shall look which prepared transactions there are. */
static void
have_prepared_checked(void)
{
	sup_lock();
	Sup->check_prepared = true;
	sup_wake_supervisor();
	sup_unlock();
}

static int
copy_oids(Oid *place, const Oids *list, bool *too_many)
{
	if (list->n > SUP_NOTES)
	{
		*too_many = true;
		return 0;
	}
	for (int i = 0; i < list->n; i++)
		place[i] = list->oids[i];
	return list->n;
}

/*
 * This transaction is prepared now.  One of logical replication, which does not
 * go by the utility hook, has no identifier here.
 */
static void
leave_notes(void)
{
	static SupChange any = {InvalidOid, InvalidOid};
	SupPrepared *p;

	if (preparing == NULL && notes.nchanges == 0 && notes.loads.n == 0)
		return;
	if (notes.nchanges > SUP_NOTES)
		collapse_databases(&notes);
	if (notes.nchanges > SUP_NOTES)
		collapse_roles(&notes);
	if (notes.nchanges > SUP_NOTES)
	{
		notes.changes = &any;
		notes.nchanges = 1;
	}
	sup_lock();
	p = sup_prepared_add(preparing, GetTopTransactionIdIfAny());
	if (p != NULL)
	{
		p->renames = renames;
		p->load_all = notes.load_all;
		p->nchanges = notes.nchanges;
		for (int i = 0; i < notes.nchanges; i++)
			p->changes[i] = notes.changes[i];
		p->nloads = copy_oids(p->loads, &notes.loads, &p->load_all);
		p->ngranted = copy_oids(p->granted, &notes.granted, &p->load_all);
		p->nroles = copy_oids(p->roles, &notes.roles, &p->load_all);
	}
	sup_unlock();

	/* There may have been no fence for it. */
	if (renames)
		have_prepared_checked();
}

static void
publish_prepared(SupPrepared *p)
{
	Notes		n = {0};

	n.changes = p->changes;
	n.nchanges = p->nchanges;
	n.loads.oids = p->loads;
	n.loads.n = p->nloads;
	n.granted.oids = p->granted;
	n.granted.n = p->ngranted;
	n.roles.oids = p->roles;
	n.roles.n = p->nroles;
	n.load_all = p->load_all;
	publish_changes(&n);
	publish_loads(&n);
}

/*
 * If its transaction is finished, take an entry; false: it is not, or has been
 * taken.  That of one that was rolled back tells nothing, if 'exactly'.
 */
static bool
take_prepared(int i, bool exactly)
{
	static SupPrepared told;
	SupPrepared *p = &Sup->prepared[i];
	TransactionId xid = InvalidTransactionId;
	bool		taken;

	sup_lock();
	if (Sup->prepared_keys[i] != 0)
		xid = p->xid;
	sup_unlock();
	if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
		return false;
	sup_lock();
	taken = Sup->prepared_keys[i] != 0 && p->xid == xid;
	if (taken)
	{
		told = *p;
		sup_prepared_free(p);
	}
	sup_unlock();
	if (!taken)
		return false;
	if (told.renames)
		have_prepared_checked();
	if (!exactly || TransactionIdDidCommit(xid))
		publish_prepared(&told);
	return true;
}

/* Is there a prepared transaction with that identifier, and is it known? */
static bool
is_known(const char *gid)
{
	bool		known = false;

	for (int i = -1; (i = sup_prepared_next(gid, i)) >= 0 && !known;)
	{
		TransactionId xid;

		sup_lock();
		xid = Sup->prepared[i].xid;
		sup_unlock();
		known = TransactionIdIsInProgress(xid);
	}
	return known;
}

/* A prepared transaction has been finished by this session. */
static void
finished(const TransactionStmt *stmt, bool known)
{
	bool		commits = stmt->kind == TRANS_STMT_COMMIT_PREPARED;

	for (int i = -1; (i = sup_prepared_next(stmt->gid, i)) >= 0;)
		known |= take_prepared(i, !commits);
	if (!known)
	{
		SupPrepared any = {.nchanges = 1, .load_all = true};

		if (commits)
			publish_prepared(&any);
		have_prepared_checked();
	}
	finishing = false;
}

void
sup_look_at_prepared(void)
{
	/* Once: others may prepare one after the other. */
	if (!Sup->check_prepared)
		return;
	sup_lock();
	Sup->check_prepared = false;
	sup_unlock();
	for (int i = 0; i < Sup->nprepared; i++)
		(void) take_prepared(i, false);
	sup_look_at_fences();
}

/*
 * What is noted
 */

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
		altered = object;
	else if (class == DbRoleSettingRelationId)
		note_change(other, object);
	else if (class == InheritsRelationId)
	{
		if (is_ours(RelationRelationId, object) || is_ours(RelationRelationId, other))
			sup_watch_database(MyDatabaseId);
	}
	else if (is_ours(class, object))
		sup_watch_database(MyDatabaseId);
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
				sup_watch_database(MyDatabaseId);
			return;
		}
	}
	if (class == DatabaseRelationId)
	{
		/* Interrupted from here on, it may leave an invalid database, which is for good. */
		HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(object));

		if (HeapTupleIsValid(tuple))
		{
			if (!((Form_pg_database) GETSTRUCT(tuple))->datistemplate && object != MyDatabaseId)
				doomed_database = object;
			ReleaseSysCache(tuple);
		}
	}
	else if (class == AuthIdRelationId)
	{
		/* One day another role may have its number, which has not its sessions. */
		note_change(object, InvalidOid);
		note_oid(&notes.roles, object);
	}
	else if ((drop == NULL || (drop->dropflags & PERFORM_DELETION_INTERNAL) == 0) &&
			 is_ours(class, object))
		sup_watch_database(MyDatabaseId);
}

/*
 * Whoever was granted TRIGGER or REFERENCES on the table of declared workers could
 * have code of his run by whoever writes to it, or keep it from being written.
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
				 errmsg("must be superuser to create a trigger or a foreign key on table \"%s\"",
						"supervisor.worker")));
}

static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE && class == TriggerRelationId)
		refuse_trigger(object);
	if (access == OAT_POST_CREATE || access == OAT_POST_ALTER)
		note_altered(access, class, object, arg);
	else if (access == OAT_DROP)
		note_drop(class, object, arg);
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
			database_dropped = OidIsValid(doomed_database);
			sup_watch_database(doomed_database);
			break;
		case T_CreatedbStmt:
			sup_watch_database(altered);
			break;
		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
			{
				const char *option = lfirst_node(DefElem, lc)->defname;

				if (strcmp(option, "is_template") == 0 || strcmp(option, "allow_connections") == 0)
					sup_watch_database(altered);
			}
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_DATABASE)
				break;
			renames = true;
			sup_watch_database(altered);
			break;
		case T_GrantStmt:
			forboth(lc, granted, before, acls)
			{
				Acl		   *acl = database_acl(lfirst_oid(lc));

				if (acl != NULL && lfirst(before) != NULL && !aclequal(acl, lfirst(before)))
					note_oid(&notes.granted, lfirst_oid(lc));
			}
			break;
		case T_AlterTableStmt:
			/* Core tells the hook of most of it, but not of row security. */
			if (is_ours(RelationRelationId,
						RangeVarGetRelid(((AlterTableStmt *) stmt)->relation, NoLock, true)))
				sup_watch_database(MyDatabaseId);
			break;
		case T_AlterRoleStmt:
			foreach(lc, ((AlterRoleStmt *) stmt)->options)
			{
				const char *option = lfirst_node(DefElem, lc)->defname;

				/* Superusers own what is trusted. */
				if (strcmp(option, "superuser") == 0)
					notes.load_all = true;
				else if (strcmp(option, "canlogin") == 0)
					note_oid(&notes.roles, altered);
			}
			break;
		default:
			break;
	}
}

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
	bool		known = finishes && is_known(transaction->gid);
	List	   *granted = NIL;
	List	   *acls = NIL;

	altered = InvalidOid;
	if (known)
		finishing = true;
	else if (transaction != NULL && transaction->kind == TRANS_STMT_PREPARE)
	{
		strlcpy(prepared_gid, transaction->gid, GIDSIZE);
		preparing = prepared_gid;
	}
	else if (watch)
	{
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
		finished(transaction, known);

	/* It may have ended the transaction, as CALL does. */
	if (watch && transaction == NULL && IsTransactionState())
		note_command(stmt, granted, acls);
}

/*
 * The end
 */

static void
publish(void)
{
	if (database_dropped)
		publish_drop();
	publish_changes(&notes);
	publish_loads(&notes);

	/* It may be logical replication, which has finished a prepared one. */
	if (Sup->nameless > 0 && MyBackendType == B_BG_WORKER)
		have_prepared_checked();
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT)
		publish();
	else if (event == XACT_EVENT_PREPARE)
		leave_notes();
	else if (OidIsValid(doomed_database))
	{
		sup_lock();
		sup_request_load(doomed_database);
		sup_unlock();
	}
	if (holds_workers)
		release_workers();
	if (finishing)
		have_prepared_checked();	/* what came of it? */
	memset(&notes, 0, sizeof(notes));
	preparing = NULL;
	finishing = renames = holds_workers = database_dropped = false;
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
