/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 19, and between platforms.
 *
 * No other file mentions PG_VERSION_NUM.  Old servers get the newest
 * spelling.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_COMPAT_H
#define SUP_COMPAT_H

#include <limits.h>
#include <sched.h>

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace.h"
#include "commands/event_trigger.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgworker_internals.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#ifdef USE_INJECTION_POINTS		/* 17 */
#include "utils/injection_point.h"
#endif
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#ifdef PG_MODULE_MAGIC_EXT		/* 18 */
#define SUP_MODULE_MAGIC	PG_MODULE_MAGIC_EXT(.name = "supervisor", .version = "1.0")
#else
#define SUP_MODULE_MAGIC	PG_MODULE_MAGIC
#endif

#ifndef pg_noreturn				/* 18 */
#define pg_noreturn			pg_attribute_noreturn()
#endif

#ifndef PG_SIG_IGN				/* 19 */
#define PG_SIG_IGN			SIG_IGN
#endif

#if PG_VERSION_NUM < 160000
#define object_aclcheck(classid, objectid, roleid, mode) \
	pg_database_aclcheck(objectid, roleid, mode)
#endif

#if PG_VERSION_NUM < 190000
#define table_beginscan(rel, snapshot, nkeys, key, flags) \
	table_beginscan(rel, snapshot, nkeys, key)
#endif

/* Core's words for the parameters of a statement that is logged. */
#if PG_VERSION_NUM >= 160000
#define SUP_PARAMETERS	"Parameters: %s"
#else
#define SUP_PARAMETERS	"parameters: %s"
#endif

/* May a session of 'member' SET ROLE to that one? */
static inline bool
sup_may_set_role(Oid member, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(member, role);
#else
	return is_member_of_role(member, role);
#endif
}

static inline bool
sup_owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

static inline bool
sup_may_create_in(Oid tablespace)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(TableSpaceRelationId, tablespace, GetUserId(), ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_tablespace_aclcheck(tablespace, GetUserId(), ACL_CREATE) == ACLCHECK_OK;
#endif
}

/* The wait event of that name; before 17 all are "Extension". */
static inline uint32
sup_wait_event_new(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * A place where tests hold this process, or let it fail, on servers that are
 * built with injection points.  No interrupt is taken there that would not be
 * taken without.  The caller holds no LWLock.
 */
static inline void
sup_injection_point(const char *name)
{
#ifdef USE_INJECTION_POINTS
	HOLD_INTERRUPTS();
#if PG_VERSION_NUM >= 180000
	INJECTION_POINT(name, NULL);
#else
	INJECTION_POINT(name);
#endif
	RESUME_INTERRUPTS();
#endif
}

/*
 * Take interrupts, while a message of this process waits to be sent; without
 * 'may_raise' only those that raise nothing and that others wait for.  What
 * parallel workers have to say stays with them until they can't send more: so
 * they wait as well, as they would if their leader were stuck in sending to a
 * client.
 */
static inline void
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

/* From 17 on a timeout may end a process for its transaction's age: not this one. */
static inline void
sup_no_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

/* What the transaction that has just begun does is our affair, and not the role's. */
static inline void
sup_stop_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	disable_timeout(TRANSACTION_TIMEOUT, false);
#endif
}

/* 17 */
#ifndef BGWORKER_BYPASS_ROLELOGINCHECK
#define BGWORKER_BYPASS_ROLELOGINCHECK	0
#endif

/* 19: DDL on its database may end the worker. */
#ifndef BGWORKER_INTERRUPTIBLE
#define BGWORKER_INTERRUPTIBLE	0
#endif

/* Did a DROP DATABASE get stuck half-way?  Core says so in the row since 15.4. */
static inline bool
sup_database_invalid(Form_pg_database form)
{
	return form->datconnlimit == -2;	/* DATCONNLIMIT_INVALID_DB */
}

static inline bool
sup_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 180000
	return PortalRun(portal, FETCH_ALL, true, dest, dest, qc);
#else
	return PortalRun(portal, FETCH_ALL, true, true, dest, dest, qc);
#endif
}

static inline MinimalTuple
sup_form_minimal_tuple(TupleDesc desc, Datum *values, bool *isnull)
{
#if PG_VERSION_NUM >= 180000
	return heap_form_minimal_tuple(desc, values, isnull, 0);
#else
	return heap_form_minimal_tuple(desc, values, isnull);
#endif
}

/*
 * May this process hold advisory locks?  They are never taken by the fast path.
 * Only we can add to our lists, so they may be looked at without a lock, as
 * LockReleaseAll() does.
 */
static inline bool
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

/* Undo pg_replication_origin_session_setup() and _xact_setup(). */
static inline void
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

/* Drop this process's temporary replication slots. */
static inline void
sup_drop_temporary_slots(void)
{
#if PG_VERSION_NUM >= 170000
	ReplicationSlotCleanup(false);
#else
	ReplicationSlotCleanup();
#endif
}

/* Core fires login event triggers for clients only; 17 brought them. */
static inline void
sup_fire_login_triggers(void)
{
#if PG_VERSION_NUM >= 170000
	EventTriggerOnLogin();
#endif
}

/* Has a raw INSERT, UPDATE, DELETE or MERGE a RETURNING? */
#if PG_VERSION_NUM >= 180000
#define SUP_HAS_RETURNING(type, stmt) (((type *) (stmt))->returningClause != NULL)
#else
#define SUP_HAS_RETURNING(type, stmt) (((type *) (stmt))->returningList != NIL)
#endif

/* MERGE has it since 17. */
static inline bool
sup_merge_returns_rows(Node *stmt)
{
#if PG_VERSION_NUM >= 170000
	return IsA(stmt, MergeStmt) && SUP_HAS_RETURNING(MergeStmt, stmt);
#else
	return false;
#endif
}

/* Text of a completion tag, as a client would get it. */
static inline void
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

/*
 * The layout of core's opaque BackgroundWorkerHandle, the same in 15 to 19.
 * A handle must outlive the supervisor that got it, so it is kept in shared
 * memory; each supervisor checks at its start that a copy answers as the
 * original does.
 */
typedef struct SupHandle
{
	int			slot;
	uint64		generation;
} SupHandle;

/*
 * Was a static worker with this function name and argument accepted?
 * RegisterBackgroundWorker does not say; only the postmaster may ask, while it
 * loads libraries or, with 'handle', once it has set up shared memory.
 */
static inline bool
sup_static_worker_registered(const char *function, Datum argument, SupHandle *handle)
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

		if (strcmp(rw->rw_worker.bgw_function_name, function) == 0 &&
			rw->rw_worker.bgw_main_arg == argument)
		{
			if (handle != NULL)
			{
				handle->slot = rw->rw_shmem_slot;
				handle->generation = 0; /* so it begins */
			}
			return true;
		}
	}
	return false;
}

#if PG_VERSION_NUM < 160000
static inline int
sup_compare_addresses(const void *a, const void *b)
{
	uintptr_t	x = (uintptr_t) *(struct config_generic *const *) a;
	uintptr_t	y = (uintptr_t) *(struct config_generic *const *) b;

	return x < y ? -1 : x > y;
}
#endif

/*
 * Call fn for each setting whose value comes from SET, set_config() or the
 * like in this session.
 *
 * From 16 on core keeps the settings that are not at their default on a list.
 * Its head is not exported, but it is the one node of the circle that is part
 * of no setting.  Looking at all settings instead would cost more than a
 * short task.
 */
typedef void (*SupSettingVisitor) (struct config_generic *conf, void *arg);

static inline void
sup_foreach_set_setting(SupSettingVisitor fn, void *arg)
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

		if (conf->source == PGC_S_SESSION)
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
		qsort(settable, n, sizeof(*settable), sup_compare_addresses);
		taken_from = all;
		taken = nall;
	}
	for (int i = 0; i < n; i++)
		if (settable[i]->source == PGC_S_SESSION)
			fn(settable[i], arg);
#endif
}

/* Value of a setting of type real. */
static inline double
sup_setting_real(struct config_generic *conf)
{
#if PG_VERSION_NUM >= 190000
	return *conf->_real.variable;
#else
	return *((struct config_real *) conf)->variable;
#endif
}

/* Milliseconds until then, as many as a wait takes; 15 does not bound them. */
static inline long
sup_milliseconds_until(TimestampTz now, TimestampTz until)
{
	return Min(TimestampDifferenceMilliseconds(now, until), (long) INT_MAX);
}

/* CPU that this process runs on, -1 where that can't be known. */
static inline int
sup_current_cpu(void)
{
#ifdef __linux__
	return sched_getcpu();
#else
	return -1;
#endif
}

/* CPUs that this process may run on. */
static inline int
sup_usable_cpus(void)
{
#ifdef __linux__
	cpu_set_t	set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return CPU_COUNT(&set);
#endif
	return (int) sysconf(_SC_NPROCESSORS_ONLN);
}

#endif							/* SUP_COMPAT_H */
