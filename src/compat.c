/*-------------------------------------------------------------------------
 *
 * compat.c
 *	  What differs between PostgreSQL 15 and 19, and between platforms, and
 *	  need not be inline.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xlog.h"
#include "catalog/pg_tablespace.h"
#include "commands/event_trigger.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "postmaster/bgworker_internals.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#include "compat.h"

/* Since 16 to be a member is not enough: a grant may come without SET. */
bool
sup_may_set_role(Oid member, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(member, role);
#else
	return is_member_of_role(member, role);
#endif
}

/* Of the current user; a superuser is as good as its owner. */
bool
sup_owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

/* Does it belong to the current user, or to a role that has his rights? */
bool
sup_owns_relation(Oid relation)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relation, GetUserId());
#else
	return pg_class_ownercheck(relation, GetUserId());
#endif
}

/* Has the current user CREATE on that tablespace? */
bool
sup_may_create_in(Oid tablespace)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(TableSpaceRelationId, tablespace, GetUserId(), ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_tablespace_aclcheck(tablespace, GetUserId(), ACL_CREATE) == ACLCHECK_OK;
#endif
}

/* 17 looks it up in shared memory by its name: so callers keep the result. */
uint32
sup_wait_event_new(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * What parallel workers have sent is hidden from CHECK_FOR_INTERRUPTS(), and
 * seen by the next one that is not ours.
 */
void
sup_check_interrupts_while_sending(bool may_raise)
{
	bool		parallel;

	sup_injection_point("supervisor-sending");
	if (!INTERRUPTS_CAN_BE_PROCESSED())
		return;
	if (!may_raise)
	{
		if (ProcSignalBarrierPending)
			ProcessProcSignalBarrier();
		return;
	}
	parallel = ParallelMessagePending;
	ParallelMessagePending = false;
	CHECK_FOR_INTERRUPTS();
	if (parallel)
	{
		ParallelMessagePending = true;
		InterruptPending = true;
	}
}

/* As a setting, for all transactions of this process. */
void
sup_no_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	/* Nothing less goes before what the session has SET. */
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_SESSION);
#endif
}

/* The timer alone, and what it has said: the next transaction starts it again. */
void
sup_stop_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	disable_timeout(TRANSACTION_TIMEOUT, false);
	TransactionTimeoutPending = false;
#endif
}

/* All its rows, as a statement of the client's; 18 dropped an argument. */
bool
sup_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 180000
	return PortalRun(portal, FETCH_ALL, true, dest, dest, qc);
#else
	return PortalRun(portal, FETCH_ALL, true, true, dest, dest, qc);
#endif
}

/* 18 asks how much room to leave before it: none. */
MinimalTuple
sup_form_minimal_tuple(TupleDesc desc, Datum *values, bool *isnull)
{
#if PG_VERSION_NUM >= 180000
	return heap_form_minimal_tuple(desc, values, isnull, 0);
#else
	return heap_form_minimal_tuple(desc, values, isnull);
#endif
}

/* 'tag' is of COMPLETION_TAG_BUFSIZE; 16 has a function for it. */
void
sup_completion_tag(char *tag, const QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 160000
	BuildQueryCompletionString(tag, qc, false);
#else
	/* By hand: snprintf() would take as long as all else at a task's end. */
	const char *name = GetCommandTagName(qc->commandTag);
	Size		len = strlen(name);

	memcpy(tag, name, len);
	if (command_tag_display_rowcount(qc->commandTag))
	{
		if (qc->commandTag == CMDTAG_INSERT)
		{
			tag[len++] = ' ';
			tag[len++] = '0';
		}
		tag[len++] = ' ';
		len += pg_ulltoa_n(qc->nprocessed, tag + len);
	}
	tag[len] = '\0';
#endif
}

/* Are there locks of any kind, but those of the fast path? */
bool
sup_may_hold_locks(void)
{
	for (int i = 0; i < NUM_LOCK_PARTITIONS; i++)
	{
#if PG_VERSION_NUM >= 160000
		if (!dlist_is_empty(&MyProc->myProcLocks[i]))
#else
		if (!SHMQueueEmpty(&MyProc->myProcLocks[i]))
#endif
			return true;
	}
	return false;
}

/* If there is none core would raise an error. */
void
sup_reset_replication_origin(void)
{
#if PG_VERSION_NUM >= 190000
	if (replorigin_xact_state.origin == InvalidReplOriginId)
		return;
	replorigin_session_reset();
	replorigin_xact_clear(true);
#else
	if (replorigin_session_origin == InvalidRepOriginId)
		return;
	replorigin_session_reset();
	replorigin_session_origin = InvalidRepOriginId;
	replorigin_session_origin_lsn = InvalidXLogRecPtr;
	replorigin_session_origin_timestamp = 0;
#endif
}

/* 17 can drop only those that are synchronized: here all go. */
void
sup_drop_temporary_slots(void)
{
#if PG_VERSION_NUM >= 170000
	ReplicationSlotCleanup(false);
#else
	ReplicationSlotCleanup();
#endif
}

/* Its argument says whether to warn, since 16 whether a backup is just being started. */
void
sup_abort_backup(void)
{
#if PG_VERSION_NUM >= 160000
	do_pg_abort_backup(0, BoolGetDatum(false));
#else
	do_pg_abort_backup(0, BoolGetDatum(true));
#endif
}

/* Core runs them in a transaction that it begins itself. */
void
sup_fire_login_triggers(void)
{
#if PG_VERSION_NUM >= 170000
	EventTriggerOnLogin();
#endif
}

bool
sup_rewrites(Node *stmt, bool *all, List **options)
{
#if PG_VERSION_NUM >= 190000
	typedef RepackStmt Rewrite;

	if (!IsA(stmt, RepackStmt))
		return false;
#else
	typedef ClusterStmt Rewrite;

	if (!IsA(stmt, ClusterStmt))
		return false;
#endif
	*all = ((Rewrite *) stmt)->relation == NULL;
	*options = ((Rewrite *) stmt)->params;
	return true;
}

/* False for any other statement. */
bool
sup_merge_returns_rows(Node *stmt)
{
#if PG_VERSION_NUM >= 170000
	return IsA(stmt, MergeStmt) && SUP_HAS_RETURNING(MergeStmt, stmt);
#else
	return false;
#endif
}

/* 19 has no setting for it any more. */
bool
sup_standard_strings(void)
{
#if PG_VERSION_NUM >= 190000
	return true;
#else
	return standard_conforming_strings;
#endif
}

/* 19 can log the raw parse trees. */
bool
sup_parsing_is_logged(void)
{
#if PG_VERSION_NUM >= 190000
	return log_parser_stats || Debug_print_raw_parse;
#else
	return log_parser_stats;
#endif
}

/* 19 has settings of all types in one struct. */
double
sup_setting_real(struct config_generic *conf)
{
#if PG_VERSION_NUM >= 190000
	return *conf->_real.variable;
#else
	return *((struct config_real *) conf)->variable;
#endif
}

/*
 * Where that can't be known, or they are too many for the set: those online.
 */
int
sup_usable_cpus(void)
{
#ifdef __linux__
	cpu_set_t	set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return CPU_COUNT(&set);
#endif
	return (int) sysconf(_SC_NPROCESSORS_ONLN);
}

/* From the postmaster's list, which also tells what the handle must be. */
void
sup_foreach_static_worker(SupStaticWorkerVisitor fn, void *arg)
{
#if PG_VERSION_NUM >= 180000
	dlist_iter	iter;

	dlist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *rw = dlist_container(RegisteredBgWorker, rw_lnode, iter.cur);
#else
	slist_iter	iter;

	slist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *rw = slist_container(RegisteredBgWorker, rw_lnode, iter.cur);
#endif
		SupHandle	handle;

		handle.slot = rw->rw_shmem_slot;
		handle.generation = 0;	/* so it begins */
		if (!fn(&rw->rw_worker, &handle, arg))
			return;
	}
}

/* What sup_static_worker_registered() looks for, and what it has found. */
typedef struct StaticWorker
{
	const char *function;
	Datum		argument;
	SupHandle	handle;
	bool		found;
} StaticWorker;

/* For sup_foreach_static_worker(). */
static bool
is_wanted(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	StaticWorker *wanted = arg;

	wanted->found = strcmp(worker->bgw_function_name, wanted->function) == 0 &&
		worker->bgw_main_arg == wanted->argument;
	wanted->handle = *handle;
	return !wanted->found;
}

/* The handle is of use only once there is shared memory. */
bool
sup_static_worker_registered(const char *function, Datum argument, SupHandle *handle)
{
	StaticWorker wanted;

	wanted.function = function;
	wanted.argument = argument;
	wanted.found = false;
	sup_foreach_static_worker(is_wanted, &wanted);
	if (wanted.found && handle != NULL)
		*handle = wanted.handle;
	return wanted.found;
}

#if PG_VERSION_NUM < 160000
/* For qsort(): settings by where they lie in memory. */
static int
compare_addresses(const void *a, const void *b)
{
	uintptr_t	x = (uintptr_t) *(struct config_generic *const *) a;
	uintptr_t	y = (uintptr_t) *(struct config_generic *const *) b;

	return x < y ? -1 : x > y;
}
#endif

#define IS_FROM(conf, sources) ((SUP_SOURCE((conf)->source) & (sources)) != 0)

/*
 * The list's head is looked for once.  15 has no list: there, those that a
 * session can set are copied, and copied again if a library has changed
 * them.
 */
void
sup_foreach_set_setting(uint32 sources, SupSettingVisitor fn, void *arg)
{
#if PG_VERSION_NUM >= 160000
	static dlist_node *head = NULL;
	dlist_node *node;

	if (head == NULL)
	{
		int			n;
		struct config_generic **all = get_guc_variables(&n);
		struct config_generic *start = NULL;

		for (int i = 0; i < n && start == NULL; i++)
			if (all[i]->source != PGC_S_DEFAULT)
				start = all[i];
		Assert(start != NULL);	/* we are preloaded by a setting */
		for (node = start->nondef_link.next; head == NULL; node = node->next)
		{
			int			i;

			for (i = 0; i < n && node != &all[i]->nondef_link; i++)
				 /* look */ ;
			if (i == n)
				head = node;
		}
		pfree(all);
	}
	for (node = head->next; node != head; node = node->next)
	{
		struct config_generic *conf = dlist_container(struct config_generic, nondef_link, node);

		if (IS_FROM(conf, sources))
			fn(conf, arg);
	}
#else
	/* Those that a session can set, and the array that they were taken from. */
	static struct config_generic **settable = NULL;
	static int	n = 0;
	static struct config_generic **taken_from = NULL;
	static int	taken = 0;

	/* Where in that array those of libraries are, and which they were. */
	static struct config_generic **custom = NULL;
	static int *custom_at = NULL;
	static int	ncustom = 0;
	struct config_generic **all = get_guc_variables();
	int			nall = GetNumConfigOptions();
	bool		same = all == taken_from && nall == taken;

	/*
	 * A library that is loaded frees the placeholders of its settings and
	 * puts its own in their places, so neither number nor address tell it
	 * all.  Core's own stay.
	 */
	for (int i = 0; i < ncustom && same; i++)
		same = all[custom_at[i]] == custom[i];
	if (!same)
	{
		taken = 0;
		if (settable == NULL)
			settable = MemoryContextAlloc(TopMemoryContext, sizeof(*settable) * nall * 2);
		else
			settable = repalloc(settable, sizeof(*settable) * nall * 2);
		if (custom_at == NULL)
			custom_at = MemoryContextAlloc(TopMemoryContext, sizeof(*custom_at) * nall);
		else
			custom_at = repalloc(custom_at, sizeof(*custom_at) * nall);
		custom = settable + nall;
		n = ncustom = 0;
		for (int i = 0; i < nall; i++)
		{
			if (all[i]->context == PGC_USERSET || all[i]->context == PGC_SUSET)
				settable[n++] = all[i];
			if (all[i]->group == CUSTOM_OPTIONS)
			{
				custom_at[ncustom] = i;
				custom[ncustom++] = all[i];
			}
		}

		/* In the order of the arrays they are in they are faster to visit. */
		qsort(settable, n, sizeof(*settable), compare_addresses);
		taken_from = all;
		taken = nall;
	}

	/* Mostly there is none, so four are looked at in a turn. */
	for (int i = 0; i < n; i++)
	{
		struct config_generic **s = &settable[i];

		while (i + 4 <= n &&
			   !IS_FROM(s[0], sources) && !IS_FROM(s[1], sources) &&
			   !IS_FROM(s[2], sources) && !IS_FROM(s[3], sources))
		{
			i += 4;
			s += 4;
		}
		if (i < n && IS_FROM(*s, sources))
			fn(*s, arg);
	}
#endif
}

/*
 * Rows of our own tables, as core writes to its catalogs: no planner, and no code
 * of anybody.
 */

/*
 * May the index have an entry for the row?  Not, if it is for rows that have a value
 * which this one lacks: to find that out by itself the executor would compile the
 * condition, for each row.
 */
static bool
may_have(IndexInfo *index, TupleTableSlot *slot)
{
	NullTest   *test;
	Var		   *var;

	if (list_length(index->ii_Predicate) != 1 || !IsA(linitial(index->ii_Predicate), NullTest))
		return true;
	test = linitial(index->ii_Predicate);
	var = (Var *) test->arg;
	return test->nulltesttype != IS_NOT_NULL || test->argisrow || !IsA(var, Var) || var->varattno < 1 ||
		!slot_attisnull(slot, var->varattno);
}

/*
 * All entries in indexes of a new version.  It is not said to be an update, of which
 * core would want to know the columns: that is a hint which we do without.
 */
void
sup_insert_index_entries(Relation rel, TupleTableSlot *slot)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);
	List	   *recheck;

	InitResultRelInfo(info, rel, 0, NULL, 0);
	ExecOpenIndices(info, false);
	for (int i = 0; i < info->ri_NumIndices; i++)
		info->ri_IndexRelationInfo[i]->ii_ReadyForInserts &= may_have(info->ri_IndexRelationInfo[i], slot);
#if PG_VERSION_NUM >= 190000
	recheck = ExecInsertIndexTuples(info, estate, 0, slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	recheck = ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL, false);
#else
	recheck = ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL);
#endif
	list_free(recheck);
	ExecCloseIndices(info);
	FreeExecutorState(estate);
}

IndexScanDesc
sup_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0, 0);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

TM_Result
sup_tuple_delete(Relation rel, ItemPointer tid)
{
	TM_FailureData failure;

#if PG_VERSION_NUM >= 190000
	return table_tuple_delete(rel, tid, GetCurrentCommandId(true), 0, InvalidSnapshot, InvalidSnapshot,
							  true, &failure);
#else
	return table_tuple_delete(rel, tid, GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot,
							  true, &failure, false);
#endif
}

TM_Result
sup_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot, bool *indexes)
{
	TM_FailureData failure;
	LockTupleMode mode;
	TM_Result	result;

#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes which = TU_None;
#else
	bool		which = false;
#endif

#if PG_VERSION_NUM >= 190000
	result = table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), 0, InvalidSnapshot, InvalidSnapshot,
								true, &failure, &mode, &which);
#else
	result = table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), InvalidSnapshot, InvalidSnapshot,
								true, &failure, &mode, &which);
#endif
#if PG_VERSION_NUM >= 160000
	*indexes = which == TU_All;
#else
	*indexes = which;
#endif
	return result;
}
