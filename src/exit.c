/*-------------------------------------------------------------------------
 *
 * exit.c
 *	  Has nobody keep a child in its exit.
 *
 * When a process exits, core drops the temporary objects of its session, with
 * interrupts held.  Who has locked one of them, or what depends on one, could keep
 * it there as long as he likes, out of reach of any cancel, and with it the
 * worker's place: nextval() locks whatever relation of the database it is given
 * before it looks at rights, and who owns the database may lock the catalogs that
 * core reads even where there is nothing to drop.  So core's callback takes
 * interrupts here, and a timeout ends it.
 *
 * Then non-superusers who have locked one of the session's temporary relations are
 * terminated, as a standby does with who is in the way of recovery, and it is tried
 * again: nobody has much to do with those of another session.  Who has locked anything
 * else, such as a catalog, may do so; nothing permanent depends on them (temporary.c).
 * If that does not help, temporary objects are left, as after a crash.  Core would have
 * them dropped by whoever is given that temporary schema next, who would wait for the
 * same lock.  So the schema is renamed, to one that nobody is given: core knows it for
 * a temporary one by its prefix, and autovacuum drops tables in it once they are free.
 * It would wait as well, for what depends on such a table, a sequence: that is why it
 * is not enough to rename.
 *
 * Callbacks run in reverse order.  Core registers its own at the end of the
 * transaction that has made a temporary schema, and ours follows at once: nobody
 * else's comes between them, to be cut short as well.  Core's is over when its
 * transaction is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "compat.h"
#include "exit.h"
#include "state.h"

/*
 * Where the session has been reset, it is a look into one catalog, mostly into no
 * more than one page.  Else less than SUP_LEAVING_US, after which it would be
 * stuck.
 */
#define LOOK_TIMEOUT_MS	10
#define DROP_TIMEOUT_MS	1000
#define DROP_LOCK_TIMEOUT_MS	500
#define RETRY_TIMEOUT_MS	200
#define RETRIES_MAX		3
#define RENAME_TIMEOUT_MS	300

static bool session_is_reset = false;

/* Is there a callback that comes before core's? */
static bool registered = false;

/* Is core's callback running, and takes interrupts? */
static bool dropping = false;

/* Has it come to no end, and has what was left another schema? */
static bool cut = false;
static bool renamed = false;

/* How often it was tried again, each time with fewer who are in the way. */
static int	retries = 0;

/* The code of an exit that may be cut short; -1: it may not. */
static int	code_meant = -1;

/* It has nothing to do any more but to end: the supervisor sees to it that it does. */
static void
note_exit(void)
{
	sup_lock();
	if (SupMySlot->leaving_since == 0)
		SupMySlot->leaving_since = sup_now();
	SupMySlot->runs = false;
	sup_attend(SupMySlot);
	sup_unlock();
}

/* The timeout: core's own handler takes no cancel in an exit. */
static void
take_cancel(SIGNAL_ARGS)
{
	int			save_errno = errno;

	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Until the next transaction commits, or a timeout ends it. */
static void
take_interrupts(int timeout, int lock_timeout)
{
	dropping = true;
	LockTimeout = lock_timeout; /* the session's own may be shorter */
	pqsignal(SIGINT, take_cancel);
	enable_timeout_after(STATEMENT_TIMEOUT, timeout);
	QueryCancelPending = false;
	QueryCancelHoldoffCount = 0;
	RESUME_INTERRUPTS();		/* which proc_exit() has held */
}

/*
 * What the timeout ends is ended by a FATAL error: the next callbacks follow.
 * Core's would abort the transaction that is open: no cancel shall meet that.
 */
static void
before_drop(int code, Datum arg)
{
	note_exit();
	AbortOutOfAnyTransaction();
	sup_no_transaction_timeout();
	code_meant = code;
	if (session_is_reset)
		take_interrupts(LOOK_TIMEOUT_MS, 0);
	else
		take_interrupts(DROP_TIMEOUT_MS, DROP_LOCK_TIMEOUT_MS);
}

/* A transaction of our own in the exit, which a timeout may end. */
static void
begin_in_exit(int timeout)
{
	AbortOutOfAnyTransaction();
	take_interrupts(timeout, 0);
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED; /* waits for no safe snapshot */
	XactDeferrable = false;
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_in_exit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Terminates who has locked a temporary relation of this session, but superusers: is
 * there anybody?  Who waits for one gets it then, and is next.
 */
static bool
terminate_holders(void)
{
	LockData   *locks = GetLockStatusData();
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	bool		found = false;

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		PGPROC	   *proc;
		Oid			schema;

		if (lock->locktag.locktag_type != LOCKTAG_RELATION ||
			lock->locktag.locktag_field1 != MyDatabaseId ||
			lock->locktag.locktag_field2 < FirstNormalObjectId ||
			lock->holdMask == 0 || lock->pid == MyProcPid)
			continue;
		schema = get_rel_namespace(lock->locktag.locktag_field2);
		if (!OidIsValid(schema) || (schema != temp_namespace && schema != temp_toast_namespace))
			continue;
		proc = BackendPidGetProc(lock->pid);
		if (proc == NULL || !OidIsValid(proc->roleId) || superuser_arg(proc->roleId))
			continue;
		found = true;
		ereport(LOG,
				(errmsg("terminating process %d, which keeps temporary objects from being dropped", lock->pid),
				 errdetail("It has locked the temporary relation %u of a session that has ended.",
						   lock->locktag.locktag_field2)));
		kill(lock->pid, SIGTERM);
	}
	return found;
}

/* Have nobody be given the schema of what is left: no backend has that number. */
static void
rename_schema(Oid schema)
{
	Relation	rel = table_open(NamespaceRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(NAMESPACEOID, ObjectIdGetDatum(schema));

	if (HeapTupleIsValid(tuple))
	{
		snprintf(NameStr(((Form_pg_namespace) GETSTRUCT(tuple))->nspname), NAMEDATALEN,
				 "pg_temp_%u", 1000000000 + schema % 1000000000);
		CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	}
	table_close(rel, RowExclusiveLock);
}

/* Comes after core's callback, since it is registered before, and once more if it is cut itself. */
static void
drop_again(int code, Datum arg)
{
	bool		found;

	if (!cut || session_is_reset || retries == RETRIES_MAX)
		return;
	retries++;
	before_shmem_exit(drop_again, (Datum) 0);
	begin_in_exit(RETRY_TIMEOUT_MS);
	found = terminate_holders();
	if (found)
		ResetTempTableNamespace();
	commit_in_exit();
	cut = !found;
	if (!found)
		retries = RETRIES_MAX;
}

/* Comes last. */
static void
rename_left(int code, Datum arg)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;

	if (!cut || session_is_reset)
		return;
	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	begin_in_exit(RENAME_TIMEOUT_MS);
	rename_schema(temp_namespace);
	commit_in_exit();
	renamed = true;
}

/*
 * The last memory of a transaction goes.  Core never forgets a temporary schema
 * that has been committed: once is enough.
 */
static void
follow_core(void *arg)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (registered || !OidIsValid(temp_namespace))
		return;
	before_shmem_exit(before_drop, (Datum) 0);
	registered = true;
}

/* Core has registered its callback by the time that this transaction's memory goes. */
static void
before_commit(void)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	MemoryContextCallback *callback;

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (registered || !OidIsValid(temp_namespace))
		return;
	callback = MemoryContextAllocZero(TopTransactionContext, sizeof(MemoryContextCallback));
	callback->func = follow_core;
	MemoryContextRegisterResetCallback(TopTransactionContext, callback);
}

/*
 * Core's callback ends here, unless a FATAL error has ended it: interrupts are
 * held again.
 *
 * What makes a temporary schema and then ends this process does not come to the
 * above.  Core's callback aborts its transaction first.
 */
static void
xact_ends(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
		before_commit();
	if (!proc_exit_inprogress)
		return;
	if (event == XACT_EVENT_COMMIT && dropping)
	{
		dropping = false;
		disable_timeout(STATEMENT_TIMEOUT, false);
		pqsignal(SIGINT, PG_SIG_IGN);
		QueryCancelPending = false;
		HOLD_INTERRUPTS();
	}
	else if (event == XACT_EVENT_ABORT)
		note_exit();
}

/* Before anything that may end this process while it has a session. */
void
sup_exit_init(void)
{
	RegisterXactCallback(xact_ends, NULL);
	before_shmem_exit(rename_left, (Datum) 0);
	before_shmem_exit(drop_again, (Datum) 0);
}

void
sup_exit_is_reset(bool is_reset)
{
	session_is_reset = is_reset;
}

/*
 * Asked by the log hook: what follows in the exit is said as ever, and so is what
 * else has ended core's callback, such as a deadlock.
 */
bool
sup_exit_is_cut(int sqlstate)
{
	if (!dropping)
		return false;
	dropping = false;
	cut = true;
	return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* For the exit report, which runs later in the exit. */
int
sup_exit_code(int code)
{
	if (cut && !session_is_reset)
		ereport(LOG,
				(errmsg("temporary objects were left behind"),
				 errdetail("They could not be dropped in time.  Somebody may have locked one of them, such as a superuser."),
				 renamed ? errhint("Autovacuum drops the tables when they are free.") :
				 errhint("They are dropped when their schema is used again.")));
	return code_meant >= 0 ? code_meant : code;
}
