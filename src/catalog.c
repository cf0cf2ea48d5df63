/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The table supervisor.worker of the current database.
 *
 * Whoever has CREATE on a database can make a schema "supervisor" with a table
 * "worker" in it, and its rows start processes.  So nothing is believed because
 * of its name: the extension must be there, the table must be its member, and
 * superusers must own both.  It is read by scan and written as core writes its
 * catalogs, which runs no code of anybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
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
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"

#define EXTENSION	"supervisor"

/*
 * Trust
 */

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

/* As our script of this or an earlier version has made them. */
static bool
columns_are_ours(Oid table, int n)
{
	if (n < SUP_WORKER_COLS_1_0 || n > SUP_WORKER_COLS)
		return false;
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(i + 1));
		bool		ours = false;

		if (HeapTupleIsValid(tuple))
		{
			Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tuple);

			ours = !att->attisdropped && att->atttypid == sup_worker_columns[i].type &&
				att->atttypmod == -1 && att->attcollation == get_typcollation(att->atttypid) &&
				att->attgenerated == '\0' && att->attidentity == '\0' &&
				strcmp(NameStr(att->attname), sup_worker_columns[i].name) == 0;
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

/*
 * Of a key and a list of columns, which hold no code, unlike expressions and
 * operators of somebody's.  One that REINDEX CONCURRENTLY is about to put in
 * the place of ours, or has taken from there, is as ours.
 */
static bool
index_is_harmless(HeapTuple tuple, TupleDesc desc)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
	bool		isnull;
	oidvector  *opclasses;

	if (!heap_attisnull(tuple, Anum_pg_index_indexprs, desc) ||
		!heap_attisnull(tuple, Anum_pg_index_indpred, desc) ||
		form->indnatts != form->indnkeyatts || !form->indimmediate || form->indisexclusion ||
		(form->indisunique && (form->indnatts != 1 || form->indkey.values[0] != SUP_COL_NAME + 1)))
		return false;
	opclasses = (oidvector *) DatumGetPointer(heap_getattr(tuple, Anum_pg_index_indclass, desc, &isnull));
	for (int i = 0; i < form->indnatts; i++)
	{
		int			column = form->indkey.values[i] - 1;

		if (column < 0 || column >= SUP_WORKER_COLS ||
			opclasses->values[i] != GetDefaultOpClass(sup_worker_columns[column].type, BTREE_AM_OID))
			return false;
	}
	return true;
}

/* Its key is the name, and no other index can do anything but be there. */
static bool
indexes_are_ours(Oid table)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		has_key = false;
	bool		ours = true;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

		has_key |= form->indisprimary && form->indisvalid && form->indisready && form->indislive;
		ours &= index_is_harmless(tuple, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ours && has_key;
}

/*
 * Is it the function that our script makes?  Only superusers can make one in
 * C.  It asks who runs it, so it must run as whoever writes.
 */
static bool
function_is_ours(Oid function, Oid schema, Oid extension)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	ours = form->prolang == ClanguageId && form->pronamespace == schema &&
		strcmp(NameStr(form->proname), "worker_changed") == 0 &&
		!form->prosecdef && heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) &&
		getExtensionOfObject(ProcedureRelationId, function) == extension;
	ReleaseSysCache(tuple);
	return ours;
}

/* Is it one of the two that our script makes?  'row': of rows. */
static bool
trigger_is_ours(HeapTuple tuple, TupleDesc desc, Oid schema, Oid extension, bool *row)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

	*row = TRIGGER_FOR_ROW(form->tgtype);
	return form->tgtype == (TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE |
							TRIGGER_TYPE_DELETE |
							(*row ? TRIGGER_TYPE_ROW : TRIGGER_TYPE_TRUNCATE)) &&
		!form->tgisinternal && OidIsValid(form->tgconstraint) == *row && !form->tgdeferrable &&
		form->tgnargs == 0 && form->tgattr.dim1 == 0 &&
		heap_attisnull(tuple, Anum_pg_trigger_tgqual, desc) &&
		heap_attisnull(tuple, Anum_pg_trigger_tgoldtable, desc) &&
		heap_attisnull(tuple, Anum_pg_trigger_tgnewtable, desc) &&
		function_is_ours(form->tgfoid, schema, extension);
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
complain_of_triggers(Oid table, Oid schema, Oid extension, bool to_write)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			ours[2] = {0};	/* in force: of statements, of rows */
	int			total = 0;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(table));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char		enabled = ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled;
		bool		row;

		total++;

		/* pg_restore --disable-triggers leaves the other */
		if (trigger_is_ours(tuple, RelationGetDescr(rel), schema, extension, &row) &&
			(enabled == TRIGGER_FIRES_ALWAYS || enabled == TRIGGER_FIRES_ON_ORIGIN))
			ours[row]++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (ours[1] == 0 || (to_write && ours[0] == 0))
		return "the table supervisor.worker lacks triggers, or they are disabled";
	return to_write && total > 2 ? "the table supervisor.worker has other triggers" : NULL;
}

/* What is wrong with a table that is the extension's; NULL: nothing. */
static const char *
complain_of(Form_pg_class form, Oid extension, bool to_write)
{
	if (form->relkind != RELKIND_RELATION || form->relam != HEAP_TABLE_AM_OID ||
		form->relpersistence != RELPERSISTENCE_PERMANENT || has_superclass(form->oid))
		return "supervisor.worker is no ordinary table";
	if (!columns_are_ours(form->oid, form->relnatts))
		return "the table supervisor.worker has other columns";
	if (!superuser_arg(form->relowner))
		return "the owner of the table supervisor.worker is not a superuser";
	if (has_rules(form->oid) || form->relrowsecurity || form->relforcerowsecurity)
		return "the table supervisor.worker has rules or row security";
	if (form->relchecks != 0 || !indexes_are_ours(form->oid))
		return "the table supervisor.worker has other constraints or indexes";
	return complain_of_triggers(form->oid, form->relnamespace, extension, to_write);
}

/*
 * See sup_catalog_table(), and with 'to_write' sup_catalog_lock().  What has
 * that name is not believed before all of it has been looked at.
 */
static Oid
trusted_table(bool to_write, const char **complaint)
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
	table = OidIsValid(schema) ? get_relname_relid("worker", schema) : InvalidOid;
	if (!OidIsValid(table) || getExtensionOfObject(RelationRelationId, table) != extension)
	{
		*complaint = "the table supervisor.worker does not belong to the extension";
		return InvalidOid;
	}

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	*complaint = complain_of((Form_pg_class) GETSTRUCT(tuple), extension, to_write);
	ReleaseSysCache(tuple);
	return *complaint == NULL ? table : InvalidOid;
}

/* To read it: triggers that others have added do no harm. */
Oid
sup_catalog_table(const char **complaint)
{
	return trusted_table(false, complaint);
}

/*
 * Reading
 */

/*
 * NULL: until we had the lock, somebody has dropped the table, or made
 * another of it.
 */
static Relation
open_table(Oid table, LOCKMODE mode, bool wait)
{
	const char *complaint;

	if (wait)
		LockRelationOid(table, mode);
	else if (!ConditionalLockRelationOid(table, mode))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not obtain lock on table \"supervisor.worker\"")));
	AcceptInvalidationMessages();
	if (sup_catalog_table(&complaint) == table)
		return table_open(table, NoLock);
	UnlockRelationOid(table, mode);
	return NULL;
}

/*
 * By its pages and no index.  Columns that a table of an earlier version of
 * the extension lacks are NULL.  The lock is released at the end.
 */
bool
sup_catalog_scan(Oid table, bool wait, SupRowVisitor visit, void *arg)
{
	Relation	rel = open_table(table, AccessShareLock, wait);
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	Datum		values[SUP_WORKER_COLS] = {0};
	bool		nulls[SUP_WORKER_COLS];
	int			n;

	if (rel == NULL)
		return false;
	n = RelationGetNumberOfAttributes(rel);
	memset(nulls, true, sizeof(nulls));
	slot = table_slot_create(rel, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memcpy(values, slot->tts_values, n * sizeof(Datum));
		memcpy(nulls, slot->tts_isnull, n * sizeof(bool));
		visit(values, nulls, arg);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return true;
}

/* Is this that worker's row?  As bytes, without any collation. */
static bool
has_name(const Datum *values, const bool *nulls, const char *name)
{
	return !nulls[SUP_COL_NAME] && strcmp(NameStr(*DatumGetName(values[SUP_COL_NAME])), name) == 0;
}

/* Does the row say that this extension has added it? */
static bool
is_of_extension(const Datum *values, const bool *nulls, const char *extension)
{
	return !nulls[SUP_COL_EXTENSION] &&
		strcmp(NameStr(*DatumGetName(values[SUP_COL_EXTENSION])), extension) == 0;
}

typedef struct CommandSearch
{
	const char *name;
	const SupProgram *program;
	bool		found;
	SupRow	   *row;
} CommandSearch;

/*
 * By now the row may be another's of the same name.  The hash of the command
 * is no proof: who knows how can make another with the same.  So all must be
 * as it was, the role above all.
 */
static void
find_command(Datum *values, bool *nulls, void *arg)
{
	CommandSearch *search = arg;

	if (!has_name(values, nulls, search->name))
		return;
	sup_row_parse(values, nulls, search->row);
	search->found = search->row->sqlstate == 0 &&
		memcmp(&search->row->program, search->program, sizeof(SupProgram)) == 0;
}

/* For the process that is to run it: it is in shared memory in part only. */
bool
sup_catalog_command(const char *name, const SupProgram *program, SupRow *row)
{
	CommandSearch search = {name, program, false, row};
	const char *complaint;
	Oid			table = sup_catalog_table(&complaint);

	if (OidIsValid(table))
		(void) sup_catalog_scan(table, true, find_command, &search);
	return search.found;
}

/* Out of a scan's buffer, and detoasted; columns from 'n' on are NULL. */
static void
copy_row(const Datum *values, const bool *nulls, int n, SupTuple *row)
{
	memset(row->nulls, true, sizeof(row->nulls));
	for (int i = 0; i < n; i++)
	{
		int16		len;
		bool		byval;

		row->nulls[i] = nulls[i];
		if (nulls[i])
			continue;
		get_typlenbyval(sup_worker_columns[i].type, &len, &byval);
		if (len == -1)
			row->values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
		else
			row->values[i] = datumCopy(values[i], byval, len);
	}
}

typedef struct RowSearch
{
	const char *name;
	bool		found;
	SupTuple   *row;
} RowSearch;

/* Visitor of sup_catalog_find(). */
static void
find_row(Datum *values, bool *nulls, void *arg)
{
	RowSearch  *search = arg;

	if (!has_name(values, nulls, search->name))
		return;
	search->found = true;
	copy_row(values, nulls, SUP_WORKER_COLS, search->row);
}

/* Locks no row.  Raises 55000 if the table has changed just now. */
bool
sup_catalog_find(Oid table, const char *name, SupTuple *row)
{
	RowSearch	search = {name, false, row};

	if (!sup_catalog_scan(table, true, find_row, &search))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has just been dropped or changed", "supervisor.worker")));
	return search.found;
}

/*
 * Writing
 *
 * As core writes to its catalogs: a tuple and its index entries.  Whatever
 * else may hang on a table, as triggers, rules, defaults, constraints and
 * policies, is the executor's affair.
 */

/*
 * What was found of the table is looked at again under a lock, that is kept to
 * the end of the transaction.  Whoever would create a trigger or a rule, or
 * alter columns, constraints, inheritance or the owner waits for it.  Indexes
 * that come or go concurrently are not inserted into before we have ended.
 * What can still change is who is a superuser, and what belongs to the
 * extension: that decides nothing any more.
 */
static Oid
lock_table(bool to_write, const char **complaint)
{
	for (;;)
	{
		Oid			table = trusted_table(to_write, complaint);

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(table))
			return InvalidOid;
		LockRelationOid(table, RowExclusiveLock);
		AcceptInvalidationMessages();
		if (trusted_table(to_write, complaint) == table)
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
 * With RowExclusiveLock, as an INSERT takes it; NULL in *complaint and 0:
 * there is no such extension.
 */
Oid
sup_catalog_lock(const char **complaint)
{
	return lock_table(true, complaint);
}

/* Find a row in the latest snapshot; false: there is none. */
static bool
find_tuple(Relation rel, const char *name, TupleTableSlot *slot)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	bool		found = false;

	while (!found && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		found = has_name(slot->tts_values, slot->tts_isnull, name);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Values and 'tid' are those of the version that is locked.  False: there is
 * no such row, or whoever we waited for has deleted or renamed it.
 */
bool
sup_catalog_lock_row(Oid table, const char *name, SupTuple *row)
{
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		found;

	/*
	 * Whom we waited for may have deleted it, and added another, or renamed
	 * it.
	 */
	while ((found = find_tuple(rel, name, slot)))
	{
		TM_FailureData failure;
		TM_Result	result;

		row->tid = slot->tts_tid;
		result = table_tuple_lock(rel, &row->tid, InvalidSnapshot, slot, GetCurrentCommandId(true),
								  LockTupleExclusive, LockWaitBlock,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		if (result == TM_Ok)
		{
			slot_getallattrs(slot);
			row->tid = slot->tts_tid;
			if (has_name(slot->tts_values, slot->tts_isnull, name))
				break;
		}
		else if (result != TM_Deleted)
			elog(ERROR, "unexpected table_tuple_lock status: %u", result);
	}
	if (found)
		copy_row(slot->tts_values, slot->tts_isnull, RelationGetNumberOfAttributes(rel), row);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return found;
}

/* Raises 23502 for a NULL where none may be: no executor looks at that. */
static HeapTuple
form_tuple(Relation rel, SupTuple *row)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
		if (row->nulls[i] && TupleDescAttr(desc, i)->attnotnull)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
							sup_worker_columns[i].name, RelationGetRelationName(rel))));
	return heap_form_tuple(desc, row->values, row->nulls);
}

/* Raise 42710, whether it was there before or comes at the same time. */
pg_noreturn static void
already_exists(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("worker \"%s\" already exists", name),
			 errhint("Use supervisor.alter_worker() to change it.")));
}

/*
 * Raises 42710 if there is one of that name, for which it waits if that is
 * being added, and 23502.
 */
void
sup_catalog_insert(Oid table, SupTuple *row)
{
	const char *name = NameStr(*DatumGetName(row->values[SUP_COL_NAME]));
	MemoryContext context = CurrentMemoryContext;
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	HeapTuple	tuple = form_tuple(rel, row);

	/* Not left to the index: what fails there leaves a dead tuple behind. */
	if (find_tuple(rel, name, slot))
		already_exists(name);
	ExecDropSingleTupleTableSlot(slot);

	PG_TRY();
	{
		/* Here it waits for another session that adds the same. */
		CatalogTupleInsert(rel, tuple);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		already_exists(name);
	}
	PG_END_TRY();
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* By its tid.  Raises 55000 if replication could not tell which row it was. */
void
sup_catalog_update(Oid table, SupTuple *row)
{
	Relation	rel = table_open(table, NoLock);

	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	CatalogTupleUpdate(rel, &row->tid, form_tuple(rel, row));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* The same. */
void
sup_catalog_delete(Oid table, SupTuple *row)
{
	Relation	rel = table_open(table, NoLock);

	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	CatalogTupleDelete(rel, &row->tid);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Extensions
 */

typedef struct ExtensionSearch
{
	const char *extension;
	List	   *names;
} ExtensionSearch;

/* Visitor of sup_catalog_delete_extension(): collects the names. */
static void
find_of_extension(Datum *values, bool *nulls, void *arg)
{
	ExtensionSearch *search = arg;

	if (is_of_extension(values, nulls, search->extension) && !nulls[SUP_COL_NAME])
		search->names = lappend(search->names, pstrdup(NameStr(*DatumGetName(values[SUP_COL_NAME]))));
}

/* Has it deleted any?  Reads first, and locks only if there are such rows. */
bool
sup_catalog_delete_extension(const char *extension)
{
	ExtensionSearch search = {extension, NIL};
	bool		deleted = false;
	const char *complaint;
	Oid			table = sup_catalog_table(&complaint);
	ListCell   *lc;

	/*
	 * Whoever owns an extension can drop it, and keep his transaction open:
	 * so what others need is not locked, but for the rows that go.
	 */
	if (!OidIsValid(table) || !sup_catalog_scan(table, true, find_of_extension, &search) ||
		search.names == NIL || lock_table(false, &complaint) != table)
		return false;
	foreach(lc, search.names)
	{
		SupTuple	row;

		if (sup_catalog_lock_row(table, lfirst(lc), &row) &&
			is_of_extension(row.values, row.nulls, extension))
		{
			sup_catalog_delete(table, &row);
			deleted = true;
		}
	}
	return deleted;
}
