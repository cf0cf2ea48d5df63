/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The table supervisor.worker of the current database.
 *
 * Whether it is to be trusted is for trust.c to say.  It is read by scan and written
 * as core writes its catalogs, which runs no code of anybody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog.h"
#include "compat.h"

static const SupIndexDef worker_indexes[] = {
	{true, true, -1, 1, {SUP_COL_NAME}}
};

static const SupTriggerDef worker_triggers[] = {
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_TRUNCATE, false, false},
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_ROW, true, true}
};

static const SupTableDef worker_table = {
	.name = "worker",
	.ncolumns = SUP_WORKER_COLS,
	.least_columns = SUP_WORKER_COLS_1_0,
	.columns = sup_worker_columns,
	.collation = DEFAULT_COLLATION_OID,
	.nindexes = lengthof(worker_indexes),
	.indexes = worker_indexes,
	.function = "worker_changed",
	.ntriggers = lengthof(worker_triggers),
	.triggers = worker_triggers
};

/* To read it: triggers that others have added do no harm. */
Oid
sup_catalog_table(const char **complaint)
{
	return sup_trusted_table(&worker_table, false, complaint);
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
 * With RowExclusiveLock, as an INSERT takes it; NULL in *complaint and 0:
 * there is no such extension.
 */
Oid
sup_catalog_lock(const char **complaint)
{
	return sup_trusted_lock(&worker_table, true, complaint);
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
		search.names == NIL || sup_trusted_lock(&worker_table, false, &complaint) != table)
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
