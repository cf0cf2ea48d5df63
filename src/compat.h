/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 19, and between platforms.
 *
 * No other file than this and compat.c mentions PG_VERSION_NUM.  Old servers get
 * the newest spelling.  Here is what is inline; the rest is in compat.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_COMPAT_H
#define SUP_COMPAT_H

#include <limits.h>
#include <sched.h>
#include <time.h>

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "utils/acl.h"
#include "utils/guc_tables.h"
#ifdef USE_INJECTION_POINTS		/* 17 */
#include "utils/injection_point.h"
#endif
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#ifdef PG_MODULE_MAGIC_EXT		/* 18 */
#define SUP_MODULE_MAGIC	PG_MODULE_MAGIC_EXT(.name = "supervisor", .version = SUP_VERSION)
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
extern bool sup_may_set_role(Oid member, Oid role);

extern bool sup_owns_database(Oid database);
extern bool sup_owns_relation(Oid relation);

extern bool sup_may_create_in(Oid tablespace);

/* The wait event of that name; before 17 all are "Extension". */
extern uint32 sup_wait_event_new(const char *name);

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
extern void sup_check_interrupts_while_sending(bool may_raise);

/*
 * From 17 on a timeout may end a process for its transaction's age: not this
 * one.
 */
extern void sup_no_transaction_timeout(void);

/* Nor for that of the transaction that has just begun, even if its time is over. */
extern void sup_stop_transaction_timeout(void);

/* 17 */
#ifndef BGWORKER_BYPASS_ROLELOGINCHECK
#define BGWORKER_BYPASS_ROLELOGINCHECK	0
#endif

/* 19: DDL on its database may end the worker. */
#ifndef BGWORKER_INTERRUPTIBLE
#define BGWORKER_INTERRUPTIBLE	0
#endif

/*
 * Did a DROP DATABASE get stuck half-way?  Core says so in the row since
 * 15.4.
 */
static inline bool
sup_database_invalid(Form_pg_database form)
{
	return form->datconnlimit == -2;	/* DATCONNLIMIT_INVALID_DB */
}

extern bool sup_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *qc);

extern MinimalTuple sup_form_minimal_tuple(TupleDesc desc, Datum *values, bool *isnull);

/*
 * May this process hold advisory locks?  They are never taken by the fast
 * path.  Only we can add to our lists, so they may be looked at without a
 * lock, as LockReleaseAll() does.
 */
extern bool sup_may_hold_locks(void);

/* Undo pg_replication_origin_session_setup() and _xact_setup(). */
extern void sup_reset_replication_origin(void);

/* Drop this process's temporary replication slots. */
extern void sup_drop_temporary_slots(void);

/* End this session's backup, with core's warning. */
extern void sup_abort_backup(void);

/* Core fires login event triggers for clients only; 17 brought them. */
extern void sup_fire_login_triggers(void);

/* Has a raw INSERT, UPDATE, DELETE or MERGE a RETURNING? */
#if PG_VERSION_NUM >= 180000
#define SUP_HAS_RETURNING(type, stmt) (((type *) (stmt))->returningClause != NULL)
#else
#define SUP_HAS_RETURNING(type, stmt) (((type *) (stmt))->returningList != NIL)
#endif

/* MERGE has it since 17. */
extern bool sup_merge_returns_rows(Node *stmt);

/*
 * Is it a raw CLUSTER, or REPACK, which 19 brought?  Then *all says whether it is of all
 * tables, and *options are those that it has.
 */
extern bool sup_rewrites(Node *stmt, bool *all, List **options);

/* Text of a completion tag, as a client would get it. */
extern void sup_completion_tag(char *tag, const QueryCompletion *qc);

/*
 * The layout of core's opaque BackgroundWorkerHandle, the same in 15 to 19.
 * A handle must outlive the supervisor that got it, so it is kept in shared
 * memory; each supervisor checks, with the first process that it starts,
 * that a copy answers as the original does.
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
extern bool sup_static_worker_registered(const char *function, Datum argument, SupHandle *handle);

/*
 * Call fn for each static worker, the last registered first, until it returns false;
 * under the same condition.  Allocates nothing.  What fn changes in a worker is what the
 * postmaster starts.
 */
typedef bool (*SupStaticWorkerVisitor) (BackgroundWorker *worker, const SupHandle *handle,
										void *arg);

extern void sup_foreach_static_worker(SupStaticWorkerVisitor fn, void *arg);

/*
 * Call fn for each setting whose value comes from one of these sources: a set of
 * SUP_SOURCE().
 *
 * From 16 on core keeps the settings that are not at their default on a list.
 * Its head is not exported, but it is the one node of the circle that is part
 * of no setting.  Looking at all settings instead would cost more than a
 * short task.
 */
typedef void (*SupSettingVisitor) (struct config_generic *conf, void *arg);

#define SUP_SOURCE(source)	(1u << (source))

extern void sup_foreach_set_setting(uint32 sources, SupSettingVisitor fn, void *arg);

/* Is a backslash in a string nothing special?  From 19 on it never is. */
extern bool sup_standard_strings(void);

/* Does core log what it parses, or what that takes? */
extern bool sup_parsing_is_logged(void);

/* Value of a setting of type real. */
extern double sup_setting_real(struct config_generic *conf);

/* Milliseconds until then, as many as a wait takes; 15 does not bound them. */
static inline long
sup_milliseconds_until(TimestampTz now, TimestampTz until)
{
	return Min(TimestampDifferenceMilliseconds(now, until), (long) INT_MAX);
}

/* Microseconds by the clock that nobody sets, which is the same in all processes. */
static inline int64
sup_steady_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
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
extern int	sup_usable_cpus(void);

/* Of a table that has a primary key which is not deferrable; else 0. */
static inline Oid
sup_primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* A version that was just written gets its entries in all indexes. */
extern void sup_insert_index_entries(Relation rel, TupleTableSlot *slot);

extern IndexScanDesc sup_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys);

/* In the current command; they wait for whoever has locked the row. */
extern TM_Result sup_tuple_delete(Relation rel, ItemPointer tid);

/* '*indexes': the new version needs entries in all indexes. */
extern TM_Result sup_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot, bool *indexes);

#endif							/* SUP_COMPAT_H */
