/*-------------------------------------------------------------------------
 *
 * temporary.c
 *	  Has nothing permanent depend on what is temporary in a child's session.
 *
 * At the end of a task or of a session core drops its temporary objects, and all that
 * depends on one: a trigger, a default, a column of a table that others use.  It waits
 * for who has locked that, and so a child would wait in its exit.  So a transaction that
 * makes such a dependency does not commit.
 *
 * Nor does one that makes a temporary table a child of a permanent one: who locks that
 * one locks its children, in other sessions too, and a transaction that has done so may be
 * prepared.
 *
 * Where there is a temporary schema, the objects that a transaction makes or alters are
 * noted, and before its commit it is looked up what these depend on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_default_acl.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_statistic_ext.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "temporary.h"

static object_access_hook_type next_object_access_hook = NULL;

/* What this transaction has made or altered, in its memory. */
static ObjectAddress *noted = NULL;
static int	nnoted = 0;
static int	maxnoted = 0;

/*
 * Default privileges that this session has made in its temporary schema.  Anybody may make some
 * of his there, and lock them.
 */
static List *default_acls = NIL;

/* object_access_hook: of what is made here, the catalogs can't be seen yet. */
static void
note_object(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;

	if (next_object_access_hook)
		next_object_access_hook(access, class, object, sub, arg);
	if (access != OAT_POST_CREATE && access != OAT_POST_ALTER)
		return;
	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (!OidIsValid(temp_namespace))
		return;
	if (class == DefaultAclRelationId && access == OAT_POST_CREATE)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

		default_acls = lappend_oid(default_acls, object);
		MemoryContextSwitchTo(oldcontext);
	}
	if (nnoted == maxnoted)
	{
		maxnoted = Max(2 * maxnoted, 16);
		noted = noted == NULL ?
			MemoryContextAlloc(TopTransactionContext, maxnoted * sizeof(ObjectAddress)) :
			repalloc_huge(noted, maxnoted * sizeof(ObjectAddress));
	}
	/* Of a parent core tells by the child. */
	ObjectAddressSubSet(noted[nnoted], class == InheritsRelationId ? RelationRelationId : class, object, sub);
	nnoted++;
}

/* The schema of an object that there is; 0: it is in none by itself. */
static Oid
schema_of(const ObjectAddress *object)
{
	/* That of a table's goes with the table, whatever schema it is in. */
	if (object->classId == NamespaceRelationId || object->classId == StatisticExtRelationId ||
		!is_objectclass_supported(object->classId))
		return InvalidOid;
	return get_object_namespace(object);
}

static bool
is_temporary(const ObjectAddress *object)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	Oid			schema = schema_of(object);

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (object->classId == NamespaceRelationId)
		schema = object->objectId;
	return OidIsValid(schema) && (schema == temp_namespace || schema == temp_toast_namespace);
}

/* Is this how a table depends on one that it inherits from? */
static bool
is_parent(Form_pg_depend form)
{
	return form->classid == RelationRelationId && form->objsubid == 0 &&
		form->refclassid == RelationRelationId && form->refobjsubid == 0 &&
		form->deptype == DEPENDENCY_NORMAL;
}

/*
 * A temporary object that this one depends on, or a column of it, though it is
 * permanent; or the permanent parent of a temporary table: false, there is none.  What is
 * in no schema is as permanent as the table that it is a part of, if it is that.
 */
static bool
find_dependency(Relation depend, ObjectAddress *object, ObjectAddress *on)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;
	bool		part_of_temporary = false;
	bool		part_of_permanent = false;
	ObjectAddress parent = InvalidObjectAddress;

	/* Core tells of a default by its column. */
	if (object->classId == AttrDefaultRelationId)
		ObjectAddressSet(*object, AttrDefaultRelationId,
						 GetAttrDefaultOid(object->objectId, object->objectSubId));
	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object->classId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object->objectId));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress referenced;
		bool		is_part = form->deptype == DEPENDENCY_AUTO || form->deptype == DEPENDENCY_INTERNAL;

		ObjectAddressSubSet(referenced, form->refclassid, form->refobjid, form->refobjsubid);
		if (is_temporary(&referenced))
		{
			part_of_temporary |= is_part;
			*on = referenced;
			object->objectSubId = form->objsubid;
			found = true;
		}
		else
		{
			part_of_permanent |= is_part;
			if (is_parent(form))
				parent = referenced;
		}
	}
	systable_endscan(scan);
	if (OidIsValid(parent.objectId) && is_temporary(object))
	{
		*on = parent;
		object->objectSubId = 0;
		return true;
	}
	if (!found)
		return false;
	return OidIsValid(schema_of(object)) ? !is_temporary(object) : !part_of_temporary || part_of_permanent;
}

static void
refuse_dependencies(void)
{
	Relation	depend;

	CommandCounterIncrement();
	depend = table_open(DependRelationId, AccessShareLock);
	for (int i = 0; i < nnoted; i++)
	{
		ObjectAddress on;

		CHECK_FOR_INTERRUPTS();
		if (find_dependency(depend, &noted[i], &on))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 is_temporary(&noted[i]) ?
					 errmsg("cannot commit, since a temporary table inherits from a permanent one") :
					 errmsg("cannot commit, since a permanent object depends on a temporary one"),
					 errdetail("%s depends on %s.", getObjectDescription(&noted[i], false),
							   getObjectDescription(&on, false)),
					 errhint("Drop it before the end of the transaction, or make both of them temporary, or permanent.")));
	}
	table_close(depend, AccessShareLock);
}

static void
xact_ends(XactEvent event, void *arg)
{
	if ((event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE) && nnoted > 0)
		refuse_dependencies();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		noted = NULL;
		nnoted = maxnoted = 0;
	}
}

/*
 * Is it in that schema, or default privileges of ours there?  Others' objects may depend on it without
 * being there, and be gone by now: anybody can name it as a constant.
 */
static bool
is_in_schema(const ObjectAddress *object, Oid schema)
{
	int			cache;
	HeapTuple	tuple;
	Datum		value;
	bool		isnull;

	if (object->classId == DefaultAclRelationId)
		return list_member_oid(default_acls, object->objectId);
	if (!is_objectclass_supported(object->classId) ||
		get_object_attnum_namespace(object->classId) == InvalidAttrNumber)
		return false;
	cache = get_object_catcache_oid(object->classId);
	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object->objectId));
	if (!HeapTupleIsValid(tuple))
		return false;
	value = SysCacheGetAttr(cache, tuple, get_object_attnum_namespace(object->classId), &isnull);
	ReleaseSysCache(tuple);
	return !isnull && DatumGetObjectId(value) == schema;
}

/*
 * As core does it, but for the schema itself, which stays: no lock on it, which anybody can have
 * by pg_get_object_address(), as long as he likes, and nothing that depends on it but is not in it.
 */
void
sup_temporary_drop(void)
{
	ObjectAddresses *objects = new_object_addresses();
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(NamespaceRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(temp_namespace));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress object;

		ObjectAddressSubSet(object, form->classid, form->objid, form->objsubid);
		if (is_in_schema(&object, temp_namespace))
			add_exact_object_address(&object, objects);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	performMultipleDeletions(objects, DROP_CASCADE,
							 PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY | PERFORM_DELETION_SKIP_EXTENSIONS);
	free_object_addresses(objects);
	list_free(default_acls);
	default_acls = NIL;
}

void
sup_temporary_init(void)
{
	next_object_access_hook = object_access_hook;
	object_access_hook = note_object;
	RegisterXactCallback(xact_ends, NULL);
}
