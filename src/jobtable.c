/*-------------------------------------------------------------------------
 *
 * jobtable.c
 *	  The tables of jobs of the current database.
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
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "compat.h"
#include "jobtable.h"

/*
 * What our script makes
 *
 * Texts are compared as bytes: with a collation of the system, which may become
 * another, jobs that wait would not be found in the index any more.
 */

static const SupColumnDef job_columns[SUP_JOB_COLS] = {
	[SUP_JOB_ID] = {"id", INT8OID, true},
	[SUP_JOB_ROLE] = {"role", REGROLEOID, true},
	[SUP_JOB_POOL] = {"pool", TEXTOID, true},
	[SUP_JOB_PRIORITY] = {"priority", INT2OID, true},
	[SUP_JOB_RUN_AT] = {"run_at", TIMESTAMPTZOID, true},
	[SUP_JOB_KEY] = {"key", TEXTOID, false},
	[SUP_JOB_COMMAND] = {"command", TEXTOID, true},
	[SUP_JOB_PARAMS] = {"params", TEXTARRAYOID, false},
	[SUP_JOB_NAME] = {"name", TEXTOID, false},
	[SUP_JOB_SCHEDULE] = {"schedule", TEXTOID, false},
	[SUP_JOB_TIME_ZONE] = {"time_zone", TEXTOID, false},
	[SUP_JOB_NEXT_AT] = {"next_at", TIMESTAMPTZOID, false},
	[SUP_JOB_RUN_TIMEOUT] = {"run_timeout", INTERVALOID, false},
	[SUP_JOB_RETRY_DELAY] = {"retry_delay", INTERVALOID, false},
	[SUP_JOB_MAX_ATTEMPTS] = {"max_attempts", INT4OID, true},
	[SUP_JOB_ATTEMPTS] = {"attempts", INT4OID, true},
	[SUP_JOB_CRASHES] = {"crashes", INT4OID, true},
	[SUP_JOB_RUNS] = {"runs", INT8OID, true},
	[SUP_JOB_ATOMIC] = {"atomic", BOOLOID, true},
	[SUP_JOB_ENABLED] = {"enabled", BOOLOID, true},
	[SUP_JOB_STATE] = {"state", CHAROID, true},
	[SUP_JOB_REASON] = {"reason", TEXTOID, false},
	[SUP_JOB_ORIGIN] = {"origin", INT8OID, false},
	[SUP_JOB_ENQUEUED_AT] = {"enqueued_at", TIMESTAMPTZOID, true},
	[SUP_JOB_LAST_STARTED_AT] = {"last_started_at", TIMESTAMPTZOID, false},
	[SUP_JOB_LAST_FINISHED_AT] = {"last_finished_at", TIMESTAMPTZOID, false},
	[SUP_JOB_LAST_STATE] = {"last_state", TEXTOID, false},
	[SUP_JOB_LAST_SQLSTATE] = {"last_sqlstate", TEXTOID, false},
	[SUP_JOB_LAST_ERROR] = {"last_error", TEXTOID, false}
};

static const SupColumnDef history_columns[SUP_RUN_COLS] = {
	[SUP_RUN_JOB] = {"job", INT8OID, true},
	[SUP_RUN_NAME] = {"name", TEXTOID, false},
	[SUP_RUN_ATTEMPT] = {"attempt", INT4OID, true},
	[SUP_RUN_ROLE] = {"role", REGROLEOID, true},
	[SUP_RUN_POOL] = {"pool", TEXTOID, true},
	[SUP_RUN_STATE] = {"state", TEXTOID, true},
	[SUP_RUN_TAG] = {"tag", TEXTOID, false},
	[SUP_RUN_RESULT] = {"result", TEXTOID, false},
	[SUP_RUN_SQLSTATE] = {"sqlstate", TEXTOID, false},
	[SUP_RUN_MESSAGE] = {"message", TEXTOID, false},
	[SUP_RUN_DETAIL] = {"detail", TEXTOID, false},
	[SUP_RUN_CONTEXT] = {"context", TEXTOID, false},
	[SUP_RUN_MERGED_INTO] = {"merged_into", INT8OID, false},
	[SUP_RUN_ENQUEUED_AT] = {"enqueued_at", TIMESTAMPTZOID, true},
	[SUP_RUN_RUN_AT] = {"run_at", TIMESTAMPTZOID, true},
	[SUP_RUN_STARTED_AT] = {"started_at", TIMESTAMPTZOID, false},
	[SUP_RUN_FINISHED_AT] = {"finished_at", TIMESTAMPTZOID, true},
	[SUP_RUN_PID] = {"pid", INT4OID, false},
	[SUP_RUN_COMMAND] = {"command", TEXTOID, true}
};

static const SupColumnDef origin_columns[] = {
	{"nonce", UUIDOID, true}
};

static const SupIndexDef job_indexes[] = {
	[SUP_JOB_INDEX_ID] = {true, true, -1, 1, {SUP_JOB_ID}},
	[SUP_JOB_INDEX_NAME] = {false, true, SUP_JOB_NAME, 1, {SUP_JOB_NAME}},
	[SUP_JOB_INDEX_PLACE] = {false, false, -1, 5, {SUP_JOB_ROLE, SUP_JOB_POOL, SUP_JOB_PRIORITY, SUP_JOB_RUN_AT, SUP_JOB_ID}},
	[SUP_JOB_INDEX_KEY] = {false, false, SUP_JOB_KEY, 6, {SUP_JOB_ROLE, SUP_JOB_KEY, SUP_JOB_POOL, SUP_JOB_PRIORITY, SUP_JOB_RUN_AT, SUP_JOB_ID}}
};

static const SupIndexDef history_indexes[] = {
	[SUP_HISTORY_INDEX_JOB] = {false, false, -1, 1, {SUP_RUN_JOB}},
	[SUP_HISTORY_INDEX_FINISHED_AT] = {false, false, -1, 1, {SUP_RUN_FINISHED_AT}}
};

/* The first two are those of each table. */
static const SupTriggerDef triggers[] = {
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_TRUNCATE, false, false},
	{TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_ROW, true, true},
	{TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE |
	TRIGGER_TYPE_ROW, false, true}
};

const SupTableDef sup_job_table = {
	.name = "job",
	.ncolumns = SUP_JOB_COLS,
	.least_columns = SUP_JOB_COLS,
	.columns = job_columns,
	.collation = C_COLLATION_OID,
	.nindexes = lengthof(job_indexes),
	.indexes = job_indexes,
	.function = "job_changed",
	.ntriggers = 3,
	.triggers = triggers
};

const SupTableDef sup_history_table = {
	.name = "job_history",
	.ncolumns = SUP_RUN_COLS,
	.least_columns = SUP_RUN_COLS,
	.columns = history_columns,
	.collation = C_COLLATION_OID,
	.nindexes = lengthof(history_indexes),
	.indexes = history_indexes,
	.function = "job_changed",
	.ntriggers = 2,
	.triggers = triggers
};

const SupTableDef sup_origin_table = {
	.name = "origin",
	.ncolumns = lengthof(origin_columns),
	.least_columns = lengthof(origin_columns),
	.columns = origin_columns,
	.function = "job_changed",
	.ntriggers = 2,
	.triggers = triggers
};

/*
 * Values
 */

char *
sup_job_text(const SupJobRow *row, SupJobColumn column)
{
	return row->nulls[column] ? NULL : TextDatumGetCString(row->values[column]);
}

SupSpot
sup_job_spot(const SupJobRow *row)
{
	SupSpot		spot = {DatumGetTimestampTz(row->values[SUP_JOB_RUN_AT]), DatumGetInt64(row->values[SUP_JOB_ID])};

	return spot;
}

/* Two keys with the same hash wait for each other, and nobody else does. */
uint64
sup_job_key(const SupJobRow *row)
{
	text	   *key;
	uint64		hash;

	if (row->nulls[SUP_JOB_KEY])
		return 0;
	key = DatumGetTextPP(row->values[SUP_JOB_KEY]);
	hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), 0);
	return hash != 0 ? hash : 1;
}

void
sup_job_row_of(TupleTableSlot *slot, SupJobRow *row)
{
	slot_getallattrs(slot);
	row->tid = slot->tts_tid;
	memcpy(row->values, slot->tts_values, sizeof(row->values));
	memcpy(row->nulls, slot->tts_isnull, sizeof(row->nulls));
}

/* What is failed or held has no time at which it is due, whatever else it says. */
bool
sup_job_may_run(const SupJobRow *row, int64 origin)
{
	return !row->nulls[SUP_JOB_ORIGIN] && DatumGetInt64(row->values[SUP_JOB_ORIGIN]) == origin &&
		DatumGetBool(row->values[SUP_JOB_ENABLED]) && DatumGetChar(row->values[SUP_JOB_STATE]) == 'w' &&
		!TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(row->values[SUP_JOB_RUN_AT]));
}

TransactionId
sup_row_xmin(TupleTableSlot *slot, bool *mine)
{
	bool		should_free;
	HeapTupleHeader header = ExecFetchSlotHeapTuple(slot, false, &should_free)->t_data;
	TransactionId xmin = HeapTupleHeaderGetXmin(header);

	Assert(!should_free);		/* it is of a heap */
	*mine = TransactionIdIsCurrentTransactionId(xmin) ||
		(!(header->t_infomask & (HEAP_XMAX_IS_MULTI | HEAP_XMAX_INVALID)) &&
		 TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmax(header)));
	return xmin;
}

/*
 * Out of a buffer.  What is to be used after this transaction is detoasted; what is about to be
 * written again is not, as a value that stays where it is need not be compressed anew.
 */
static void
copy_row(TupleTableSlot *slot, SupJobRow *row, bool detoast)
{
	slot_getallattrs(slot);
	row->tid = slot->tts_tid;
	row->xmin = sup_row_xmin(slot, &row->mine);
	for (int i = 0; i < SUP_JOB_COLS; i++)
	{
		int16		len;
		bool		byval;

		row->nulls[i] = slot->tts_isnull[i];
		row->values[i] = (Datum) 0;
		if (row->nulls[i])
			continue;
		get_typlenbyval(job_columns[i].type, &len, &byval);
		if (len == -1 && detoast)
			row->values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot->tts_values[i]));
		else
			row->values[i] = datumCopy(slot->tts_values[i], byval, len);
	}
}

/* The nonce is read once: that of an extension never changes.  False: there is none. */
static bool
read_origin(Oid table, int64 *result)
{
	static Oid	known = InvalidOid;
	static int64 origin = 0;
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	bool		isnull;

	if (table != known)
	{
		rel = table_open(table, AccessShareLock);
		slot = table_slot_create(rel, NULL);
		snapshot = RegisterSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
		scan = table_beginscan(rel, snapshot, 0, NULL, 0);
		if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			origin = (int64) hash_bytes_extended(DatumGetUUIDP(slot_getattr(slot, 1, &isnull))->data, UUID_LEN,
												 MyDatabaseId);
			known = table;
		}
		table_endscan(scan);
		UnregisterSnapshot(snapshot);
		ExecDropSingleTupleTableSlot(slot);
		table_close(rel, AccessShareLock);
	}
	*result = origin;
	return table == known;
}

int64
sup_job_origin(void)
{
	const char *complaint;
	Oid			table = sup_trusted_lock_quick(&sup_origin_table, &complaint);
	int64		origin;

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database are not run"),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	if (!read_origin(table, &origin))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database are not run"),
				 errdetail("The table supervisor.origin is empty.")));
	return origin;
}

bool
sup_job_known_origin(int64 *origin)
{
	const char *complaint;
	Oid			table = sup_trusted_table(&sup_origin_table, false, &complaint);

	return OidIsValid(table) && read_origin(table, origin);
}

/* The sequence of ids, which comes and goes with the table. */
static Oid
job_sequence(Oid table)
{
	static Oid	known_table = InvalidOid;
	static Oid	known = InvalidOid;

	if (table != known_table)
	{
		known = get_relname_relid("job_id_seq", get_rel_namespace(table));
		known_table = InvalidOid;
		if (!OidIsValid(known) || get_rel_relkind(known) != RELKIND_SEQUENCE ||
			getExtensionOfObject(RelationRelationId, known) != getExtensionOfObject(RelationRelationId, table))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("jobs of this database cannot be managed"),
					 errdetail("The sequence supervisor.job_id_seq does not belong to the extension.")));
		known_table = table;
	}
	return known;
}

int64
sup_job_next_id(Oid table)
{
	return nextval_internal(job_sequence(table), false);
}

/* Its one row, as core reads it.  Of a sequence that was not called, the value is yet to come. */
int64
sup_job_last_id(Oid table)
{
	Relation	rel = relation_open(job_sequence(table), AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	HeapTupleHeader tuple;
	FormData_pg_sequence_data data;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	tuple = (HeapTupleHeader) PageGetItem(BufferGetPage(buffer), PageGetItemId(BufferGetPage(buffer), FirstOffsetNumber));
	memcpy(&data, (char *) tuple + tuple->t_hoff, offsetof(FormData_pg_sequence_data, is_called) + sizeof(bool));
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return data.is_called ? data.last_value : data.last_value - 1;
}

/* Nobody takes one meanwhile, so it does not go back. */
void
sup_job_skip_ids(Oid table, int64 greatest)
{
	if (sup_job_last_id(table) >= greatest)
		return;
	LockRelationOid(job_sequence(table), ShareRowExclusiveLock);
	if (sup_job_last_id(table) < greatest)
		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(job_sequence(table)), Int64GetDatum(greatest));
}

/*
 * Writing
 *
 * As core writes to its catalogs: whatever else may hang on a table is the executor's
 * affair.
 */

/* A slot with these values, as they are. */
static TupleTableSlot *
virtual_slot(Relation rel, const Datum *values, const bool *nulls, int n)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, n * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, n * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	return slot;
}

static void
insert_row(Oid table, const Datum *values, const bool *nulls, int n)
{
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = virtual_slot(rel, values, nulls, n);

	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	sup_insert_index_entries(rel, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

void
sup_job_insert(Oid table, SupJobRow *row)
{
	insert_row(table, row->values, row->nulls, SUP_JOB_COLS);
}

void
sup_run_insert(Oid table, SupRunRow *row)
{
	insert_row(table, row->values, row->nulls, SUP_RUN_COLS);
}

/* Whoever has the lock on the row has it alone, so anything else is wrong. */
static void
check_result(TM_Result result)
{
	if (result != TM_Ok)
		elog(ERROR, "unexpected status of a row that is locked: %u", result);
}

/* Raises 55000 if replication could not tell which row it was; so does the next. */
void
sup_job_delete(Oid table, SupJobRow *row)
{
	Relation	rel = table_open(table, NoLock);

	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	check_result(sup_tuple_delete(rel, &row->tid));
	table_close(rel, NoLock);
}

void
sup_job_update(Oid table, SupJobRow *row)
{
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = virtual_slot(rel, row->values, row->nulls, SUP_JOB_COLS);
	bool		indexes;

	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	check_result(sup_tuple_update(rel, &row->tid, slot, &indexes));
	if (indexes)
		sup_insert_index_entries(rel, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

/*
 * Reading
 */

/* A partial one has rows with a value in that column. */
static bool
has_predicate(Relation index, const SupIndexDef *def)
{
	List	   *predicate = RelationGetIndexPredicate(index);

	return def->not_null >= 0 ? list_length(predicate) == 1 && IsA(linitial(predicate), NullTest) : predicate == NIL;
}

static Relation
open_index(Relation rel, const SupIndexDef *def)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		fits = form->indnkeyatts == def->ncolumns && form->indisvalid &&
			has_predicate(index, def) && RelationGetIndexExpressions(index) == NIL;

		for (int i = 0; i < def->ncolumns && fits; i++)
			fits = form->indkey.values[i] == def->columns[i] + 1 && index->rd_indoption[i] == 0;
		if (fits)
			return index;
		index_close(index, AccessShareLock);
	}
	elog(ERROR, "table \"supervisor.%s\" lacks an index", RelationGetRelationName(rel));
	return NULL;
}

Relation
sup_job_open_index(Relation rel, SupJobIndex which)
{
	return open_index(rel, &job_indexes[which]);
}

Relation
sup_history_open_index(Relation rel, SupHistoryIndex which)
{
	return open_index(rel, &history_indexes[which]);
}

/*
 * Find the version of a row that the latest snapshot sees.  The index is scanned with
 * none, which takes no predicate locks in a serializable transaction of somebody's; a
 * dirty snapshot might miss a row that is being updated, but a version that a
 * snapshot sees is there as long as the snapshot is.
 */
static bool
find_row(Relation rel, int64 id, TupleTableSlot *slot)
{
	Relation	index = index_open(sup_primary_key(rel), AccessShareLock);
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = sup_index_beginscan(rel, index, SnapshotAny, 1);
	ScanKeyData key;
	bool		found = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	index_rescan(scan, &key, 1, NULL, 0);
	while (!found && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		found = table_tuple_satisfies_snapshot(rel, slot, latest);
	}
	index_endscan(scan);
	UnregisterSnapshot(latest);
	index_close(index, AccessShareLock);
	return found;
}

/* To the end of the transaction.  Others whose names have those 48 bits of hash wait in vain. */
void
sup_job_lock_name(Oid table, const char *name)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) name, strlen(name), table);

	LockDatabaseObject(table, (uint32) hash, (uint16) (hash >> 32), ExclusiveLock);
}

int64
sup_job_of_name(Oid table, const char *name)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_job_open_index(rel, SUP_JOB_INDEX_NAME);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = sup_index_beginscan(rel, index, SnapshotAny, 1);
	ScanKeyData key;
	int64		id = 0;
	bool		isnull;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(name));
	index_rescan(scan, &key, 1, NULL, 0);
	while (id == 0 && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(rel, slot, latest))
			id = DatumGetInt64(slot_getattr(slot, SUP_JOB_ID + 1, &isnull));
	}
	index_endscan(scan);
	UnregisterSnapshot(latest);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return id;
}

/* Is a transaction about to delete or update it, or has it locked it? */
static bool
is_being_changed(Relation rel, ItemPointer tid)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	bool		result;

	InitDirtySnapshot(dirty);
	result = !table_tuple_fetch_row_version(rel, tid, &dirty, slot) || TransactionIdIsValid(dirty.xmax);
	ExecDropSingleTupleTableSlot(slot);
	return result;
}

SupFound
sup_job_fetch(Oid table, int64 id, SupJobRow *row)
{
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SupFound	found = SUP_JOB_GONE;

	if (find_row(rel, id, slot))
	{
		copy_row(slot, row, true);
		found = is_being_changed(rel, &row->tid) ? SUP_JOB_CHANGING : SUP_JOB_FOUND;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return found;
}

/* Whom we waited for may have deleted it. */
static bool
lock_row(Oid table, int64 id, LockWaitPolicy wait, SupJobRow *row)
{
	Relation	rel = table_open(table, NoLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		locked = false;

	if (find_row(rel, id, slot))
	{
		TM_FailureData failure;
		TM_Result	result;
		ItemPointerData tid = slot->tts_tid;

		result = table_tuple_lock(rel, &tid, InvalidSnapshot, slot, GetCurrentCommandId(true),
								  LockTupleExclusive, wait,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		if (result != TM_Ok && result != TM_Deleted && result != TM_WouldBlock)
			elog(ERROR, "unexpected table_tuple_lock status: %u", result);
		locked = result == TM_Ok;
	}
	if (locked)
	{
		copy_row(slot, row, false);
		locked = DatumGetInt64(row->values[SUP_JOB_ID]) == id;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return locked;
}

bool
sup_job_lock(Oid table, int64 id, SupJobRow *row)
{
	return lock_row(table, id, LockWaitBlock, row);
}

bool
sup_job_lock_free(Oid table, int64 id, SupJobRow *row)
{
	return lock_row(table, id, LockWaitSkip, row);
}

/*
 * Looks
 */

/* A look passes over no more rows that can't be run. */
#define MAX_PASSED	10000

/* Keys of a scan: role, pool and priority, and from (run_at, id) on. */
static void
init_keys(ScanKey keys, ScanKey members, Oid role, const char *pool)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(role));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(pool));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(0));
	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 4, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_CMP, (Datum) 0);
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, 5, BTGreaterEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_BTINT8CMP, (Datum) 0);
	MemSet(&keys[3], 0, sizeof(ScanKeyData));
	keys[3].sk_flags = SK_ROW_HEADER;
	keys[3].sk_attno = 4;
	keys[3].sk_strategy = BTGreaterEqualStrategyNumber;
	keys[3].sk_argument = PointerGetDatum(members);
}

/* A look under way. */
typedef struct Look
{
	IndexScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext context;		/* for a row */
	int64		origin;
	SupPassed  *passed_keys;	/* NULL: whether keys are busy does not matter */
	TimestampTz now;
	SupCandidate *found;
	int			room;			/* for so many */
	int			n;				/* ... that were found */
	int			passed;			/* rows that were passed over */
} Look;

/*
 * The one that the scan is at, and whether it is found: it may be run, if it is due, and
 * need not wait for its key.
 */
static bool
take_row(Look *look, int priority, SupCandidate *job)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(look->context);
	SupJobRow	row;
	bool		found;

	sup_job_row_of(look->slot, &row);
	job->priority = priority;
	job->spot = sup_job_spot(&row);
	job->key = look->passed_keys ? sup_job_key(&row) : 0;
	found = sup_job_may_run(&row, look->origin) &&
		!(job->key != 0 && job->spot.run_at <= look->now &&
		  sup_passed_over(look->passed_keys, look->found, look->n, job));
	MemoryContextReset(MemoryContextSwitchTo(oldcontext));
	return found;
}

/*
 * Where one priority is left: at the first job that may be run and is not due, or for
 * which there is no room; or after all.  Those that are held or have failed are the last.
 */
static SupSpot
look_at_priority(Look *look, int priority)
{
	SupSpot		end = {PG_INT64_MAX, PG_INT64_MAX};

	while (index_getnext_slot(look->scan, ForwardScanDirection, look->slot))
	{
		SupCandidate job;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		found = take_row(look, priority, &job);
		if (job.spot.run_at == PG_INT64_MAX)
			break;
		if (found ? job.spot.run_at > look->now || look->n == look->room : ++look->passed > MAX_PASSED)
		{
			end = job.spot;
			break;
		}
		if (found)
			look->found[look->n++] = job;
	}
	return end;
}

int
sup_job_look(Oid table, Oid role, const char *pool, const SupBounds *bounds, SupPassed *passed,
			 TimestampTz now, SupCandidate *found, int room, SupSpot *end)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_job_open_index(rel, SUP_JOB_INDEX_PLACE);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Look		look = {0};
	ScanKeyData keys[4];
	ScanKeyData members[2];

	look.scan = sup_index_beginscan(rel, index, snapshot, 4);
	look.slot = table_slot_create(rel, NULL);
	look.context = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	look.origin = sup_job_origin();
	look.passed_keys = passed;
	look.now = now;
	look.found = found;
	look.room = room;
	init_keys(keys, members, role, pool);
	for (int i = 0; i < SUP_PRIORITIES; i++)
	{
		end[i] = bounds->bound[i];
		if (bounds->bound[i].run_at > now || (room > 0 && look.n == room) || look.passed > MAX_PASSED)
			continue;
		keys[2].sk_argument = Int16GetDatum(i);
		members[0].sk_argument = TimestampTzGetDatum(bounds->bound[i].run_at);
		members[1].sk_argument = Int64GetDatum(bounds->bound[i].id);
		index_rescan(look.scan, keys, 4, NULL, 0);
		end[i] = look_at_priority(&look, i);
	}
	index_endscan(look.scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(look.context);
	ExecDropSingleTupleTableSlot(look.slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return look.n;
}

/*
 * By the index from one to the next, however many jobs each has.  Whether there is any is not looked
 * at: many may have gone that a snapshot of somebody's keeps on the disk.
 */
void
sup_job_scan_queues(Oid table, SupQueueVisitor visit, void *arg)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_job_open_index(rel, SUP_JOB_INDEX_PLACE);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = sup_index_beginscan(rel, index, SnapshotAny, 1);
	MemoryContext last = AllocSetContextCreate(CurrentMemoryContext, "supervisor queue", ALLOCSET_DEFAULT_SIZES);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor queue", ALLOCSET_DEFAULT_SIZES);
	ScanKeyData key;
	ScanKeyData members[2];

	MemSet(&key, 0, sizeof(ScanKeyData));
	key.sk_flags = SK_ROW_HEADER;
	key.sk_attno = 1;
	key.sk_strategy = BTGreaterStrategyNumber;
	key.sk_argument = PointerGetDatum(members);
	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 1, BTGreaterStrategyNumber, InvalidOid, InvalidOid,
						   F_BTOIDCMP, ObjectIdGetDatum(InvalidOid));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, 2, BTGreaterStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_BTTEXTCMP, CStringGetTextDatum(""));
	for (;;)
	{
		MemoryContext oldcontext;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		index_rescan(scan, &key, 1, NULL, 0);
		if (!index_getnext_slot(scan, ForwardScanDirection, slot))
			break;
		MemoryContextReset(last);
		oldcontext = MemoryContextSwitchTo(last);
		members[0].sk_argument = slot_getattr(slot, SUP_JOB_ROLE + 1, &isnull);
		members[1].sk_argument = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot_getattr(slot, SUP_JOB_POOL + 1, &isnull)));
		MemoryContextSwitchTo(context);
		visit(table, DatumGetObjectId(members[0].sk_argument), TextDatumGetCString(members[1].sk_argument), arg);
		MemoryContextReset(MemoryContextSwitchTo(oldcontext));
	}
	index_endscan(scan);
	MemoryContextDelete(last);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
}

/*
 * Pruning
 */

/* So many rows are looked at in a transaction. */
#define PRUNE_BATCH		1000

static bool
is_brief(TupleTableSlot *slot)
{
	bool		isnull;
	Datum		state;

	(void) slot_getattr(slot, SUP_RUN_NAME + 1, &isnull);
	if (!isnull)
		return false;
	state = slot_getattr(slot, SUP_RUN_STATE + 1, &isnull);
	return strcmp(TextDatumGetCString(state), "succeeded") == 0;
}

/*
 * They are not replicated: a copy has a history of its own, or none.
 */
bool
sup_history_prune(Oid table, bool brief, TimestampTz until, int64 *from, int64 *first)
{
	Relation	rel = table_open(table, NoLock);
	Relation	index = sup_history_open_index(rel, SUP_HISTORY_INDEX_FINISHED_AT);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = sup_index_beginscan(rel, index, snapshot, 1);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	ScanKeyData key;
	bool		isnull;
	int			n = 0;

	*first = PG_INT64_MAX;
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(*from));
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < PRUNE_BATCH && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		TimestampTz finished = DatumGetTimestampTz(slot_getattr(slot, SUP_RUN_FINISHED_AT + 1, &isnull));
		MemoryContext oldcontext;
		ItemPointerData tid = slot->tts_tid;
		bool		goes;

		CHECK_FOR_INTERRUPTS();
		if (finished >= until)
		{
			*first = finished;
			break;
		}
		oldcontext = MemoryContextSwitchTo(context);
		goes = is_brief(slot) == brief;
		MemoryContextReset(MemoryContextSwitchTo(oldcontext));
		ExecClearTuple(slot);	/* whose page is not pinned then */
		if (goes)
		{
			TM_Result	result = sup_tuple_delete(rel, &tid);

			if (result != TM_Deleted && result != TM_Updated)	/* by a superuser */
				check_result(result);
		}
		*from = finished;
		n++;
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return n < PRUNE_BATCH;
}
