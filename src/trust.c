/*-------------------------------------------------------------------------
 *
 * trust.c
 *	  Whether a table of the extension is what its script has made.
 *
 * Whoever has CREATE on a database can make a schema "supervisor" with a table
 * of ours in it, and its rows start processes.  So nothing is believed because
 * of its name: the extension must be there, the table must be its member, and
 * superusers must own both.  Nor must there be anything about it that holds code
 * of somebody's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "trust.h"

#define EXTENSION	"supervisor"

/* Owner of our extension; 0: it is not here. */
static Oid
extension_owner(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

/* The collation of a column, as our script has made it. */
static Oid
collation_of(const SupTableDef *def, int column)
{
	Oid			collation = get_typcollation(def->columns[column].type);

	return collation == DEFAULT_COLLATION_OID ? def->collation : collation;
}

/* As our script of this or an earlier version has made them. */
static bool
columns_are_ours(const SupTableDef *def, Oid table, int n)
{
	if (n < def->least_columns || n > def->ncolumns)
		return false;
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(i + 1));
		bool		ours = false;

		if (HeapTupleIsValid(tuple))
		{
			Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tuple);

			ours = !att->attisdropped && att->atttypid == def->columns[i].type &&
				att->atttypmod == -1 && att->attcollation == collation_of(def, i) &&
				att->attgenerated == '\0' && att->attidentity == '\0' &&
				att->attnotnull == def->columns[i].not_null &&
				strcmp(NameStr(att->attname), def->columns[i].name) == 0;
			ReleaseSysCache(tuple);
		}
		if (!ours)
			return false;
	}
	return true;
}

/* relhasrules says so long after the last one has been dropped. */
static bool
has_rules(Oid table)
{
	CatCList   *rules = SearchSysCacheList1(RULERELNAME, ObjectIdGetDatum(table));
	bool		result = rules->n_members > 0;

	ReleaseSysCacheList(rules);
	return result;
}

/* Does it index all rows, or with column >= 0 those that have a value there? */
static bool
has_predicate(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, Anum_pg_index_indpred, desc, &isnull);
	NullTest   *test;

	if (isnull || column < 0)
		return isnull && column < 0;
	test = stringToNode(TextDatumGetCString(datum));
	return IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && !test->argisrow &&
		IsA(test->arg, Var) && ((Var *) test->arg)->varattno == column + 1 &&
		((Var *) test->arg)->varlevelsup == 0;
}

/* Is it that one, whether or not it can be used? */
static bool
is_index(const SupTableDef *def, const SupIndexDef *index, HeapTuple tuple, TupleDesc desc)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	bool		isnull;
	oidvector  *collations;
	int2vector *options;

	if (form->indnkeyatts != index->ncolumns || form->indisunique != index->unique ||
		form->indisprimary != index->primary || !has_predicate(tuple, desc, index->not_null))
		return false;
	collations = (oidvector *) DatumGetPointer(heap_getattr(tuple, Anum_pg_index_indcollation, desc, &isnull));
	options = (int2vector *) DatumGetPointer(heap_getattr(tuple, Anum_pg_index_indoption, desc, &isnull));
	for (int i = 0; i < index->ncolumns; i++)
		if (form->indkey.values[i] != index->columns[i] + 1 || options->values[i] != 0 ||
			collations->values[i] != collation_of(def, index->columns[i]))
			return false;
	return true;
}

/* Is a column alone the key of one of ours? */
static bool
is_unique(const SupTableDef *def, int column)
{
	for (int i = 0; i < def->nindexes; i++)
		if (def->indexes[i].unique && def->indexes[i].columns[0] == column)
			return true;
	return false;
}

/*
 * Of a key and a list of columns, which hold no code, unlike expressions and
 * operators of somebody's.  One that REINDEX CONCURRENTLY is about to put in
 * the place of ours, or has taken from there, is as ours.
 */
static bool
index_is_harmless(const SupTableDef *def, HeapTuple tuple, TupleDesc desc)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	bool		isnull;
	bool		has_known_predicate = has_predicate(tuple, desc, -1);
	oidvector  *opclasses;

	for (int i = 0; i < def->nindexes; i++)
		has_known_predicate |= has_predicate(tuple, desc, def->indexes[i].not_null);
	if (!heap_attisnull(tuple, Anum_pg_index_indexprs, desc) || !has_known_predicate ||
		form->indnatts != form->indnkeyatts || !form->indimmediate || form->indisexclusion ||
		(form->indisunique && (form->indnatts != 1 || !is_unique(def, form->indkey.values[0] - 1))))
		return false;
	opclasses = (oidvector *) DatumGetPointer(heap_getattr(tuple, Anum_pg_index_indclass, desc, &isnull));
	for (int i = 0; i < form->indnatts; i++)
	{
		int			column = form->indkey.values[i] - 1;

		if (column < 0 || column >= def->ncolumns ||
			opclasses->values[i] != GetDefaultOpClass(def->columns[column].type, BTREE_AM_OID))
			return false;
	}
	return true;
}

/* Its own are there, and no other index can do anything but be there. */
static bool
indexes_are_ours(const SupTableDef *def, Oid table)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found[SUP_MAX_INDEXES] = {false};
	bool		ours = true;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

		ours &= index_is_harmless(def, tuple, RelationGetDescr(rel));
		for (int i = 0; i < def->nindexes; i++)
			found[i] |= form->indisvalid && form->indisready && form->indislive &&
				is_index(def, &def->indexes[i], tuple, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	for (int i = 0; i < def->nindexes; i++)
		ours &= found[i];
	return ours;
}

/*
 * Is it the function that our script makes?  Only superusers can make one in
 * C.  It asks who runs it, so it must run as whoever writes.
 */
static bool
function_is_ours(const SupTableDef *def, Oid function, Oid schema, Oid extension)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	ours = form->prolang == ClanguageId && form->pronamespace == schema &&
		strcmp(NameStr(form->proname), def->function) == 0 &&
		!form->prosecdef && heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) &&
		getExtensionOfObject(ProcedureRelationId, function) == extension;
	ReleaseSysCache(tuple);
	return ours;
}

/* Which one of those that our script makes is it?  -1: none. */
static int
which_trigger(const SupTableDef *def, HeapTuple tuple, TupleDesc desc, Oid schema, Oid extension)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

	for (int i = 0; i < def->ntriggers; i++)
		if (form->tgtype == def->triggers[i].type &&
			!form->tgisinternal && OidIsValid(form->tgconstraint) == def->triggers[i].constraint &&
			!form->tgdeferrable && form->tgnargs == 0 && form->tgattr.dim1 == 0 &&
			heap_attisnull(tuple, Anum_pg_trigger_tgqual, desc) &&
			heap_attisnull(tuple, Anum_pg_trigger_tgoldtable, desc) &&
			heap_attisnull(tuple, Anum_pg_trigger_tgnewtable, desc) &&
			function_is_ours(def, form->tgfoid, schema, extension))
			return i;
	return -1;
}

/*
 * That of rows keeps out all who were granted INSERT, UPDATE or DELETE.
 * Only the owner can drop, disable or, as it is a constraint's, replace it:
 * so while it is in force no row is anybody else's.  The others are for
 * whoever was granted TRIGGER or REFERENCES to replace or make, unless
 * watch.c is there and refuses; he shall not so stop what runs, and what we
 * write fires none.  But it would not mind a foreign key, and a superuser's
 * own INSERT fires all: before more is written, somebody shall look at that.
 */
static const char *
complain_of_triggers(const SupTableDef *def, Oid table, Oid schema, Oid extension, bool to_write)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		in_force[SUP_MAX_TRIGGERS] = {false};
	bool		complete = true;
	int			total = 0;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char		enabled = ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled;
		int			which = which_trigger(def, tuple, RelationGetDescr(rel), schema, extension);

		total++;

		/* pg_restore --disable-triggers leaves the other */
		if (which >= 0 && (enabled == TRIGGER_FIRES_ALWAYS || enabled == TRIGGER_FIRES_ON_ORIGIN))
			in_force[which] = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	for (int i = 0; i < def->ntriggers; i++)
		complete &= in_force[i] || !(to_write || def->triggers[i].to_read);
	if (!complete)
		return psprintf("the table supervisor.%s lacks triggers, or they are disabled", def->name);
	return to_write && total > def->ntriggers ?
		psprintf("the table supervisor.%s has other triggers", def->name) : NULL;
}

/* What is wrong with a table that is the extension's; NULL: nothing. */
static const char *
complain_of(const SupTableDef *def, Form_pg_class form, Oid extension, bool to_write)
{
	if (form->relkind != RELKIND_RELATION || form->relam != HEAP_TABLE_AM_OID ||
		form->relpersistence != RELPERSISTENCE_PERMANENT || has_superclass(form->oid))
		return psprintf("supervisor.%s is no ordinary table", def->name);
	if (!columns_are_ours(def, form->oid, form->relnatts))
		return psprintf("the table supervisor.%s has other columns", def->name);
	if (!superuser_arg(form->relowner))
		return psprintf("the owner of the table supervisor.%s is not a superuser", def->name);
	if (has_rules(form->oid) || form->relrowsecurity || form->relforcerowsecurity)
		return psprintf("the table supervisor.%s has rules or row security", def->name);
	if (form->relchecks != 0 || !indexes_are_ours(def, form->oid))
		return psprintf("the table supervisor.%s has other constraints or indexes", def->name);
	return complain_of_triggers(def, form->oid, form->relnamespace, extension, to_write);
}

/* What has that name is not believed before all of it has been looked at. */
Oid
sup_trusted_table(const SupTableDef *def, bool to_write, const char **complaint)
{
	Oid			extension = get_extension_oid(EXTENSION, true);
	Oid			schema;
	Oid			table;
	HeapTuple	tuple;

	*complaint = NULL;
	if (!OidIsValid(extension))
		return InvalidOid;
	if (!superuser_arg(extension_owner(extension)))
	{
		*complaint = "the owner of the extension is not a superuser";
		return InvalidOid;
	}
	schema = get_namespace_oid("supervisor", true);
	table = OidIsValid(schema) ? get_relname_relid(def->name, schema) : InvalidOid;
	if (!OidIsValid(table) || getExtensionOfObject(RelationRelationId, table) != extension)
	{
		*complaint = psprintf("the table supervisor.%s does not belong to the extension", def->name);
		return InvalidOid;
	}

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	*complaint = complain_of(def, (Form_pg_class) GETSTRUCT(tuple), extension, to_write);
	ReleaseSysCache(tuple);
	return *complaint == NULL ? table : InvalidOid;
}

/*
 * What was found of the table is looked at again under a lock, that is kept to
 * the end of the transaction.  Whoever would create a trigger or a rule, or
 * alter columns, constraints, inheritance or the owner waits for it.  Indexes
 * that come or go concurrently are not inserted into before we have ended.
 * What can still change is who is a superuser, and what belongs to the
 * extension: that decides nothing any more.
 *
 * The lock is that of an INSERT.
 */
Oid
sup_trusted_lock(const SupTableDef *def, bool to_write, const char **complaint)
{
	for (;;)
	{
		Oid			table = sup_trusted_table(def, to_write, complaint);

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(table))
			return InvalidOid;
		LockRelationOid(table, RowExclusiveLock);
		AcceptInvalidationMessages();
		if (sup_trusted_table(def, to_write, complaint) == table)
		{
			/*
			 * What the command that calls us has written is over, as for one
			 * that SPI runs.
			 */
			CommandCounterIncrement();
			return table;
		}
		UnlockRelationOid(table, RowExclusiveLock);
	}
}

/*
 * What was found of a few tables, and at which of the changes.
 */
typedef struct Verdict
{
	const SupTableDef *def;
	Oid			table;
	uint64		at;
} Verdict;

static Verdict verdicts[4];
static uint64 changes = 1;

/* A relcache callback: no catalog can be read here, so it only counts. */
static void
relation_changed(Datum arg, Oid relation)
{
	for (int i = 0; i < lengthof(verdicts); i++)
		if (relation == InvalidOid || verdicts[i].table == relation)
			changes++;
}

/* A syscache callback. */
static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

static void
watch_catalogs(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_changed, (Datum) 0);
	watching = true;
}

/* The count is read before the catalogs are: what comes meanwhile is seen later. */
Oid
sup_trusted_lock_quick(const SupTableDef *def, const char **complaint)
{
	Verdict    *verdict = &verdicts[0];
	uint64		now;

	*complaint = NULL;
	watch_catalogs();
	while (verdict->def != NULL && verdict->def != def)
		verdict++;
	Assert(verdict < verdicts + lengthof(verdicts));
	if (verdict->def != NULL && verdict->at == changes)
	{
		Oid			table = verdict->table;

		LockRelationOid(table, RowExclusiveLock);
		if (verdict->at == changes)
			return table;
		UnlockRelationOid(table, RowExclusiveLock);
	}
	now = changes;
	verdict->def = def;
	verdict->at = 0;
	verdict->table = sup_trusted_lock(def, true, complaint);
	if (OidIsValid(verdict->table))
		verdict->at = now;
	return verdict->table;
}
