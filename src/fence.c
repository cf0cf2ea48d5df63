/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  Workers step aside for DDL on their database.
 *
 * DROP DATABASE and its kin fail while anybody is connected to the database.
 * A pool worker that has nothing to do there is no reason to fail, nor is a
 * declared worker, which comes back: before core's command runs, they are asked
 * to leave, and nobody binds to the database until the transaction ends or, if
 * it is prepared, is committed or rolled back.  A pool worker that runs a task
 * is a session like any other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>

#include "access/htup_details.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "common/relpath.h"
#include "lib/qunique.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/pg_locale.h"
#include "utils/syscache.h"

#include "compat.h"
#include "fence.h"
#include "match.h"
#include "state.h"

/* Core waits 5 s for others to leave. */
#define FENCE_WAIT_MS	4000

/*
 * Does this process hold one or more?  Set under the lock with the fence,
 * and cleared before that is taken away: so an error or an exit in between
 * finds what there is.
 */
static bool fence_is_up = false;

/*
 * Some fences have fallen: who waited goes on.  The caller does not hold the
 * lock.
 */
static void
fences_fell(void)
{
	sup_lock();
	Sup->fence_lowered = true;
	sup_wake_supervisor();
	sup_unlock();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].nbindings > 0)
			sup_review_blocked(i, sup_now());
}

/* At the end of the transaction, or of the process, whichever is first. */
static void
lower_fences(void)
{
	if (!fence_is_up)
		return;
	fence_is_up = false;
	sup_lock();
	for (int i = 0; i < SUP_FENCES; i++)
		if (Sup->fences[i].holder == MyProcPid)
		{
			Sup->fences[i].holder = 0;
			Sup->nfences--;
		}
	sup_unlock();
	fences_fell();
}

/*
 * A prepared transaction keeps its locks, and so its fences, until the
 * supervisor knows these locks.  They have gone already if it was in a
 * subtransaction that was rolled back.
 */
static void
leave_fences(void)
{
	if (!fence_is_up)
		return;
	fence_is_up = false;
	sup_lock();
	for (int i = 0; i < SUP_FENCES; i++)
		if (Sup->fences[i].holder == MyProcPid)
			Sup->fences[i].holder = SUP_FENCE_PREPARED;
	Sup->check_prepared = true;
	sup_wake_supervisor();
	sup_unlock();
}

/* A fence in a subtransaction stays up until the whole transaction ends. */
static void
fence_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		leave_fences();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		lower_fences();
}

/* In case the process ends inside of the transaction. */
static void
fence_at_exit(int code, Datum arg)
{
	lower_fences();
}

/* A fence of that holder, which is up, or for it; NULL: all are in use. */
static SupFence *
fence_entry(int holder, Oid database)
{
	SupFence   *entry = NULL;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_FENCES; i++)
	{
		SupFence   *f = &Sup->fences[i];

		if (f->holder == holder && f->database == database)
			return f;
		if (f->holder == 0 && entry == NULL)
			entry = f;
	}
	return entry;
}

/* In the entry that fence_entry() has found.  The caller holds the lock. */
static void
put_up(SupFence *fence, int holder, Oid role, Oid database)
{
	if (fence->holder == 0)
		Sup->nfences++;
	fence->holder = holder;
	fence->role = role;
	fence->database = database;
}

/*
 * A non-superuser role has at most a quarter of the fences, and all of
 * them half.
 */
static bool
has_enough(Oid role)
{
	int			its = 0;
	int			all = 0;

	for (int i = 0; i < SUP_FENCES; i++)
	{
		if (Sup->fences[i].holder == 0 || !OidIsValid(Sup->fences[i].role))
			continue;
		all++;
		its += Sup->fences[i].role == role;
	}
	return its >= SUP_FENCES / 4 || all >= SUP_FENCES / 2;
}

/*
 * Databases that prepared transactions have locked so that nobody can log in,
 * sorted.
 */
static Oid *
databases_locked(int *n)
{
	const LOCKMASK forbidding = LOCKBIT_ON(ShareLock) | LOCKBIT_ON(ShareRowExclusiveLock) |
		LOCKBIT_ON(ExclusiveLock) | LOCKBIT_ON(AccessExclusiveLock);
	LockData   *data = GetLockStatusData();
	Oid		   *result = palloc(sizeof(Oid) * (data->nelements + 1));
	int			found = 0;

	for (int i = 0; i < data->nelements; i++)
	{
		const LockInstanceData *lock = &data->locks[i];

		/* A prepared transaction has no process. */
		if (lock->pid == 0 && lock->locktag.locktag_type == LOCKTAG_OBJECT &&
			lock->locktag.locktag_field1 == InvalidOid &&
			lock->locktag.locktag_field2 == DatabaseRelationId &&
			(lock->holdMask & forbidding) != 0)
			result[found++] = lock->locktag.locktag_field3;
	}
	qsort(result, found, sizeof(Oid), oid_cmp);
	*n = qunique(result, found, sizeof(Oid), oid_cmp);
	return result;
}

/* A binary search: the array is sorted. */
static bool
has_oid(const Oid *sorted, int n, Oid oid)
{
	return bsearch(&oid, sorted, n, sizeof(Oid), oid_cmp) != NULL;
}

/*
 * Bring the list of locked databases to what prepared transactions have
 * locked, which also those have that the server found at its start.  The
 * fences that they were prepared with are needed no longer: what somebody
 * has prepared takes up none.
 */
void
sup_look_at_fences(void)
{
	Oid		   *locked;
	int			nlocked;
	bool		fell = false;

	sup_lock();
	for (int i = 0; i < SUP_FENCES; i++)
		if (Sup->fences[i].holder == SUP_FENCE_PREPARED)
			Sup->fences[i].holder = SUP_FENCE_LOOKED_AT;
	sup_unlock();

	locked = databases_locked(&nlocked);
	nlocked = Min(nlocked, Sup->maxlocked); /* as core does without us */

	/* Nobody else writes the list. */
	for (int i = 0; i < Sup->nlocked && !fell; i++)
		fell = !has_oid(locked, nlocked, Sup->locked[i]);

	sup_lock();
	memcpy(Sup->locked, locked, sizeof(Oid) * nlocked);
	Sup->nlocked = nlocked;
	for (int i = 0; i < SUP_FENCES; i++)
	{
		SupFence   *fence = &Sup->fences[i];

		if (fence->holder != SUP_FENCE_LOOKED_AT)
			continue;
		fence->holder = 0;
		Sup->nfences--;
		fell |= !has_oid(locked, nlocked, fence->database);
	}
	sup_unlock();
	if (fell)
		fences_fell();
	pfree(locked);
}

/* Workers that are in the database and have been asked to leave it. */
static int
workers_leaving(Oid database)
{
	int			n = 0;

	sup_lock();
	for (int i = 0; i < sup_nslots(); i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_EMPTY && slot->state != SUP_STUCK && slot->database == database &&
			slot->leaving_since != 0 && slot->exited_at == 0)
			n++;
	}
	sup_unlock();
	return n;
}

/*
 * A worker that was taken over may serve all databases from one that belongs to
 * somebody.  Without us he could not end it, so it makes way for superusers alone; core
 * waits for it, and refuses the command.
 */
static bool
makes_way(const SupSlot *slot, Oid role)
{
	return !OidIsValid(role) || slot->declaration < 0 ||
		Sup->declarations[slot->declaration].source != SUP_FROM_SERVER;
}

/*
 * Ask a worker to leave the database, if it is there.  'role' is whose command that
 * is for; 0: a superuser's.  The caller holds the lock.
 */
static void
ask_to_leave(SupSlot *slot, Oid database, Oid role, SupCause cause)
{
	const PGPROC *proc = sup_slot_proc(slot);

	if (slot->state == SUP_EMPTY || slot->exited_at != 0 || proc == NULL || !makes_way(slot, role))
		return;

	/*
	 * Where a C function connects to is its own affair.  While it is not
	 * connected, it is about to go where the last one was.
	 */
	if (slot->kind == SUP_KIND_LIBRARY)
		slot->database = OidIsValid(proc->databaseId) ? proc->databaseId : slot->last_database;
	if (slot->database != database)
		return;

	/*
	 * It has been asked to end before.  A C function is waited for; of others
	 * 'leaving_since' says more than that: see sup_lingers_from().
	 */
	if (slot->leave != SUP_STAY)
	{
		if (slot->kind == SUP_KIND_LIBRARY && slot->terminate && slot->leaving_since == 0)
			slot->leaving_since = sup_now();
		return;
	}
	switch (slot->kind)
	{
		case SUP_KIND_POOL:
			sup_ask_leave(slot, SUP_LEAVE_FENCE);
			slot->cause = Max(slot->cause, cause);
			break;
		case SUP_KIND_COMMAND:
			sup_ask_leave(slot, SUP_LEAVE_FENCE);
			slot->leaving_since = sup_now();
			pg_memory_barrier();	/* see SupSlot.runs */
			if (slot->runs)
				kill(slot->pid, SIGINT);
			break;
		case SUP_KIND_LIBRARY:
			slot->leave = SUP_LEAVE_FENCE;
			slot->leaving_since = sup_now();
			sup_ask_terminate(slot);
			break;
		case SUP_KIND_LOADER:
			slot->leaving_since = sup_now();	/* any moment */
			break;
	}
}

/*
 * Put up a fence, and wait for those who leave, no longer than
 * FENCE_WAIT_MS.  Nothing if there is no room for it: then core's command
 * finds who is there.
 */
static void
raise_fence(Oid database)
{
	static bool callback_registered = false;
	TimestampTz start = sup_now();
	Oid			role = superuser() ? InvalidOid : GetSessionUserId();
	SupCause	cause = OidIsValid(role) && sup_owns_database(database) ?
		SUP_CAUSE_OTHER : SUP_CAUSE_NONE;
	SupFence   *fence;

	if (!callback_registered)
		before_shmem_exit(fence_at_exit, (Datum) 0);
	callback_registered = true;

	sup_lock();
	fence = fence_entry(MyProcPid, database);
	if (fence != NULL && fence->holder == 0 && OidIsValid(role) && has_enough(role))
		fence = NULL;
	if (fence != NULL)
	{
		put_up(fence, MyProcPid, role, database);
		fence_is_up = true;
		for (int i = 0; i < sup_nslots(); i++)
			ask_to_leave(&Sup->slots[i], database, role, cause);
	}
	sup_unlock();
	if (fence == NULL)
		return;					/* as core does without us */

	ConditionVariablePrepareToSleep(&Sup->changed);
	while (workers_leaving(database) > 0 &&
		   !TimestampDifferenceExceeds(start, sup_now(), FENCE_WAIT_MS))
		(void) ConditionVariableTimedSleep(&Sup->changed, FENCE_WAIT_MS,
										   sup_wait_event(SUP_WAIT_FENCE));
	ConditionVariableCancelSleep();
}

/* rolcreatedb alone: callers ask for superusers themselves. */
static bool
has_createdb(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * The database that a command is about, if core would let this user do it, as
 * far as can be seen without locks; or else none: a command that will fail
 * must not disturb others.
 */

/* pg_global is for no database; false if there is no such tablespace. */
static bool
may_use_tablespace(Oid tablespace)
{
	return OidIsValid(tablespace) && tablespace != GLOBALTABLESPACE_OID &&
		sup_may_create_in(tablespace);
}

/*
 * Has a prepared transaction been there?  Core refuses the command then, or waits
 * for its end in vain.
 */
static bool
has_prepared(Oid database)
{
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[MaxBackends + NUM_AUXILIARY_PROCS + i];

		/* The entry of one that is over looks like it was. */
		if (proc->databaseId == database && TransactionIdIsValid(proc->xid) &&
			TransactionIdIsInProgress(proc->xid))
			return true;
	}
	return false;
}

/* Has a database files there? */
static bool
has_files_in(Oid database, Oid tablespace)
{
	char	   *path = GetDatabasePath(database, tablespace);
	struct stat st;

	return stat(path, &st) == 0 && !directory_is_empty(path);
}

/* No template, not our own, no active replication slot, no subscription. */
static bool
drop_will_do(Form_pg_database form)
{
	int			nslots;
	int			nactive = 0;

	if (form->datistemplate || form->oid == MyDatabaseId)
		return false;
	(void) ReplicationSlotsCountDBSlots(form->oid, &nslots, &nactive);
	return nactive == 0 && CountDBSubscriptions(form->oid) == 0;
}

/* For a superuser or with CREATEDB; not our own; and the new name is free. */
static bool
rename_will_do(Form_pg_database form, const RenameStmt *stmt)
{
	return (superuser() || has_createdb()) && form->oid != MyDatabaseId &&
		!OidIsValid(get_database_oid(stmt->newname, true));
}

/* ALTER DATABASE SET TABLESPACE: to another one, where it has no files yet. */
static bool
move_will_do(Form_pg_database form, const AlterDatabaseStmt *stmt)
{
	DefElem    *option = linitial_node(DefElem, stmt->options);
	Oid			tablespace = get_tablespace_oid(defGetString(option), true);

	return list_length(stmt->options) == 1 && form->oid != MyDatabaseId &&
		may_use_tablespace(tablespace) && tablespace != form->dattablespace &&
		!has_files_in(form->oid, tablespace);
}

/* Is that the template's locale, in whatever spelling? */
static bool
is_locale(HeapTuple template, int category, const char *value)
{
	bool		isnull;
	Datum		datum = SysCacheGetAttr(DATABASEOID, template,
										category == LC_COLLATE ? Anum_pg_database_datcollate :
										Anum_pg_database_datctype, &isnull);
	char	   *canonical;

	return check_locale(category, value, &canonical) &&
		strcmp(TextDatumGetCString(datum), canonical) == 0;
}

/* Of libc, has the system another version than the template was made with? */
static bool
collation_is_old(HeapTuple template)
{
	bool		isnull;
	Datum		collate = SysCacheGetAttr(DATABASEOID, template, Anum_pg_database_datcollate, &isnull);
	Datum		made_with = SysCacheGetAttr(DATABASEOID, template, Anum_pg_database_datcollversion, &isnull);
	char	   *version;

	if (isnull || ((Form_pg_database) GETSTRUCT(template))->datlocprovider != COLLPROVIDER_LIBC)
		return false;
	version = get_collation_actual_version(COLLPROVIDER_LIBC, TextDatumGetCString(collate));
	return version == NULL || strcmp(version, TextDatumGetCString(made_with)) != 0;
}

/* Is it certain that core takes an option of CREATE DATABASE? */
static bool
option_will_do(const DefElem *option, HeapTuple template)
{
	Form_pg_database form = (Form_pg_database) GETSTRUCT(template);
	const char *name = option->defname;
	const char *value = option->arg && !IsA(option->arg, Integer) ? defGetString((DefElem *) option) : NULL;

	if (strcmp(name, "is_template") == 0 || strcmp(name, "allow_connections") == 0)
	{
		if (option->arg != NULL)
			(void) defGetBoolean((DefElem *) option);	/* with core's own error */
		return true;
	}
	if (strcmp(name, "connection_limit") == 0)
		return option->arg == NULL || (value == NULL && intVal(option->arg) >= -1);
	if (strcmp(name, "template") == 0 || strcmp(name, "location") == 0)
		return true;			/* the latter with core's warning */
	if (strcmp(name, "collation_version") == 0)
		return option->arg != NULL;
	if (strcmp(name, "oid") == 0)
	{
		Oid			oid = option->arg != NULL ? defGetObjectId((DefElem *) option) : InvalidOid;

		return oid >= FirstNormalObjectId && !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(oid));
	}
	if (value == NULL)
		return option->arg == NULL &&
			(strcmp(name, "tablespace") == 0 || strcmp(name, "owner") == 0 ||
			 strcmp(name, "encoding") == 0 || strcmp(name, "strategy") == 0);
	if (strcmp(name, "owner") == 0)
	{
		Oid			role = get_role_oid(value, true);

		return OidIsValid(role) && sup_may_set_role(GetUserId(), role);
	}
	if (strcmp(name, "tablespace") == 0)
	{
		Oid			tablespace = get_tablespace_oid(value, true);

		return may_use_tablespace(tablespace) &&
			(tablespace == form->dattablespace || !has_files_in(form->oid, tablespace));
	}
	if (strcmp(name, "strategy") == 0)
		return pg_strcasecmp(value, "wal_log") == 0 || pg_strcasecmp(value, "file_copy") == 0;
	if (strcmp(name, "encoding") == 0)
		return pg_valid_server_encoding(value) == form->encoding;

	/* What is not as in the template is for template0, where nobody is. */
	if (form->datlocprovider != COLLPROVIDER_LIBC)
		return false;
	if (strcmp(name, "locale_provider") == 0)
		return pg_strcasecmp(value, "libc") == 0;
	if (strcmp(name, "locale") == 0)
		return is_locale(template, LC_COLLATE, value) && is_locale(template, LC_CTYPE, value);
	if (strcmp(name, "lc_collate") == 0)
		return is_locale(template, LC_COLLATE, value);
	if (strcmp(name, "lc_ctype") == 0)
		return is_locale(template, LC_CTYPE, value);
	return false;
}

/* Can the template be copied as it is?  Options that are in doubt mean no. */
static bool
create_will_do(HeapTuple template, const CreatedbStmt *stmt)
{
	Form_pg_database form = (Form_pg_database) GETSTRUCT(template);
	ListCell   *lc;
	ListCell   *other;

	if (!(superuser() || has_createdb()) || OidIsValid(get_database_oid(stmt->dbname, true)) ||
		sup_database_invalid(form) || collation_is_old(template))
		return false;
	foreach(lc, stmt->options)
	{
		if (!option_will_do(lfirst_node(DefElem, lc), template))
			return false;
		foreach(other, stmt->options)
		{
			if (other != lc && strcmp(lfirst_node(DefElem, lc)->defname,
									  lfirst_node(DefElem, other)->defname) == 0)
				return false;
		}
	}
	return true;
}

/*
 * The name of the database that has to be left for a command; NULL: none
 * has.
 */
static const char *
database_named(Node *stmt)
{
	const char *name = NULL;
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) stmt)->subname : NULL;
		case T_AlterDatabaseStmt:
			foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
			{
				if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
					name = ((AlterDatabaseStmt *) stmt)->dbname;
			}
			return name;
		case T_CreatedbStmt:
			name = "template1";
			foreach(lc, ((CreatedbStmt *) stmt)->options)
			{
				DefElem    *option = lfirst_node(DefElem, lc);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					name = defGetString(option);
			}
			return name;
		default:
			return NULL;
	}
}

/*
 * The database to be left for a command that core would do; 0: none.  In a
 * transaction block that can only be RENAME.
 */
static Oid
database_to_fence(PlannedStmt *pstmt, ProcessUtilityContext context)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		in_block = IsTransactionBlock() || IsSubTransaction() ||
		(context != PROCESS_UTILITY_TOPLEVEL && context != PROCESS_UTILITY_QUERY_NONATOMIC);
	const char *name = database_named(stmt);
	Oid			database;
	HeapTuple	tuple;
	Form_pg_database form;
	bool		good;

	if (name == NULL || XactReadOnly || (in_block && !IsA(stmt, RenameStmt)))
		return InvalidOid;
	database = get_database_oid(name, true);
	tuple = OidIsValid(database) ? SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database)) : NULL;
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_database) GETSTRUCT(tuple);
	good = superuser() || sup_owns_database(database) ||
		(IsA(stmt, CreatedbStmt) && form->datistemplate);
	if (good && IsA(stmt, DropdbStmt))
		good = drop_will_do(form);
	else if (good && IsA(stmt, RenameStmt))
		good = rename_will_do(form, (RenameStmt *) stmt);
	else if (good && IsA(stmt, AlterDatabaseStmt))
		good = move_will_do(form, (AlterDatabaseStmt *) stmt);
	else if (good)
		good = create_will_do(tuple, (CreatedbStmt *) stmt);
	ReleaseSysCache(tuple);
	return good && !has_prepared(database) ? database : InvalidOid;
}

/* Core comes next, and finds who has stayed. */
void
sup_make_room(PlannedStmt *pstmt, ProcessUtilityContext context)
{
	Oid			database = database_to_fence(pstmt, context);
	LOCKMODE	mode = IsA(pstmt->utilityStmt, CreatedbStmt) ? ShareLock : AccessExclusiveLock;

	if (OidIsValid(database))
	{
		/*
		 * Wait here for who has the database locked, and not with the fence
		 * up.  The lock is not kept: a login may be under way that wants it,
		 * and the fence waits for that.
		 */
		LockSharedObject(DatabaseRelationId, database, 0, mode);
		UnlockSharedObject(DatabaseRelationId, database, 0, mode);
		if (database_to_fence(pstmt, context) != database)
			return;
		raise_fence(database);
		sup_injection_point("supervisor-fenced");
	}
}

/* In _PG_init: all processes inherit the callback. */
void
sup_install_fence(void)
{
	RegisterXactCallback(fence_at_xact_end, NULL);
}
