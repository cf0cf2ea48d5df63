/*-------------------------------------------------------------------------
 *
 * exit.c
 *	  Has a child drop its temporary objects before it ends, and no stranger keep it there.
 *
 * When a process exits, core drops the temporary objects of its session, with
 * interrupts held.  Who has locked one of them, or what depends on one, could keep
 * it there, out of reach of any cancel: nextval() locks whatever relation of the
 * database it is given before it looks at rights, and who owns the database may lock
 * the catalogs that core reads even where there is nothing to drop.  If a FATAL error
 * ended that, the objects would be left, as after a crash, and whoever is given
 * that temporary schema next, or autovacuum, would wait for the same lock.
 *
 * So a child drops them before core does, in a transaction that takes interrupts, and
 * tries again until it has: it waits as long as core would, but as any session
 * does, without being in the way of others that wait for all processes to take an
 * interrupt.  The supervisor sees that it hangs, and another takes its place.  When the server
 * is shut down it stops trying.
 *
 * Between two tries, who has locked one of the temporary relations, or what else has to be
 * locked for their drop, is terminated, as a standby does with who is in the way of recovery:
 * nobody has business with those of another session, nor depends on them but by intent.
 * Readers are given more time: who reads pg_views locks what a view is made of.  Superusers are
 * waited for, and so is who has locked a catalog.  Nothing that a child makes is permanent and
 * depends on what is temporary (temporary.c), but others' sessions may make such things.
 *
 * Then there is nothing left for core to drop.  Where a catalog is locked, its own
 * callback would wait to see that: a timeout ends it.
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

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "compat.h"
#include "dropped.h"
#include "exit.h"
#include "settings.h"
#include "state.h"
#include "temporary.h"

/* A look into one catalog, mostly into no more than one page. */
#define LOOK_TIMEOUT_MS	10

/*
 * How long a try waits for a lock.  Only the end of a wait tells which one it was: a deadlock does
 * not, so after one the next try is shorter than it takes to find another.
 */
#define TRY_MIN_MS	500
#define TRY_MAX_MS	32000

/*
 * How long the readers of each role are waited for: as on a standby by default.  The longest
 * try takes longer, so that who comes in behind it is seen once only if he has been brief.
 */
#define READERS_MS	30000

/* ... and so long all together: many roles can take turns. */
#define ALL_READERS_MS	300000

/* So many locks that were waited for are remembered. */
#define MAX_AWAITED	64

static bool session_is_reset = false;

/* Is there a callback that comes before core's? */
static bool registered = false;

/* Is core's callback running, and takes interrupts? */
static bool dropping = false;

/* Who has locked what has to be dropped. */
typedef struct Holder
{
	int			pid;
	Oid			role;
	LOCKTAG		tag;			/* of one of these locks */
	bool		reads;			/* a relation, and no more than that */
	TimestampTz since;			/* its role was seen in each look */
} Holder;

typedef struct Holders
{
	int			n;
	Holder	   *each;
} Holders;

/* Those of the last look. */
static Holders former = {0};

/* When it has begun to look for them. */
static TimestampTz looks_since = 0;

/*
 * What the last try has waited for when it was ended, written by a handler; and what others
 * have: whoever has locked that has only to come again while another is waited for.
 */
static LOCKTAG awaited;
static LOCKTAG awaited_before[MAX_AWAITED];
static int	nawaited = 0;

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

/*
 * Ends a wait for a lock.  Core's own handler takes no cancel in an exit.  A SIGTERM
 * ends it as well, since that is how the postmaster tells of a shutdown.  It may come when
 * this process has no PGPROC any more.
 */
static void
take_cancel(SIGNAL_ARGS)
{
	int			save_errno = errno;
	const LOCK *lock = MyProc != NULL ? MyProc->waitLock : NULL;

	if (lock != NULL)
		awaited = lock->tag;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* A user's relation of this database? */
static bool
is_relation(const LOCKTAG *tag)
{
	return tag->locktag_type == LOCKTAG_RELATION && tag->locktag_field1 == MyDatabaseId &&
		tag->locktag_field2 >= FirstNormalObjectId;
}

/* Has a try waited for it? */
static bool
was_awaited(const LOCKTAG *tag)
{
	for (int i = 0; i < Min(nawaited, MAX_AWAITED); i++)
		if (memcmp(tag, &awaited_before[i], sizeof(LOCKTAG)) == 0)
			return true;
	return false;
}

/* A row of a catalog, which one is about to change at a time. */
static bool
is_row(const LOCKTAG *tag)
{
	return tag->locktag_type == LOCKTAG_TUPLE && tag->locktag_field1 == MyDatabaseId;
}

/*
 * Is that a temporary relation of this session, or what a try has waited for?  A
 * transaction is waited for that has changed what a catalog says of something that has to go.
 */
static bool
is_needed(const LOCKTAG *tag)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	Oid			schema;

	if (was_awaited(tag))
		return is_relation(tag) || is_row(tag) || tag->locktag_type == LOCKTAG_TRANSACTION ||
			(tag->locktag_type == LOCKTAG_OBJECT && tag->locktag_field1 == MyDatabaseId &&
			 tag->locktag_field3 >= FirstNormalObjectId);
	if (!is_relation(tag))
		return false;
	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	schema = get_rel_namespace(tag->locktag_field2);
	return OidIsValid(schema) && (schema == temp_namespace || schema == temp_toast_namespace);
}

static bool
only_reads(const LockInstanceData *lock)
{
	return is_relation(&lock->locktag) && (lock->holdMask & ~LOCKBIT_ON(AccessShareLock)) == 0;
}

/*
 * The same, but once for each process.  One that only reads counts from when its role was first
 * seen: else two could take turns.
 */
static void
add_holder(Holders *holders, const LockInstanceData *lock, Oid role)
{
	bool		reads = only_reads(lock);
	Holder	   *holder;

	for (int i = 0; i < holders->n; i++)
		if (holders->each[i].pid == lock->pid)
		{
			holders->each[i].reads &= reads;
			return;
		}
	holder = &holders->each[holders->n++];
	holder->pid = lock->pid;
	holder->role = role;
	holder->tag = lock->locktag;
	holder->reads = reads;
	holder->since = sup_now();
	for (int i = 0; i < former.n; i++)
		if (former.each[i].role == role)
			holder->since = Min(holder->since, former.each[i].since);
}

/* A superuser, and who only reads and may read all data, as a backup does. */
static bool
is_waited_for(const LockInstanceData *lock, Oid role)
{
	return superuser_arg(role) || (only_reads(lock) && has_privs_of_role(role, ROLE_PG_READ_ALL_DATA));
}

/*
 * Those who have locked what is needed; false: one of them is not to be terminated.  Who waits to
 * change the same row is next.  (Who waits for a transaction may do so for a row of its own.)
 * Autovacuum may run code of who owns a table.
 */
static bool
find_holders(Holders *holders)
{
	LockData   *locks = GetLockStatusData();
	bool		all = true;

	holders->n = 0;
	holders->each = MemoryContextAlloc(TopMemoryContext, Max(locks->nelements, 1) * sizeof(Holder));
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		PGPROC	   *proc;

		if ((lock->holdMask == 0 && !is_row(&lock->locktag)) || lock->pid == MyProcPid || !is_needed(&lock->locktag))
			continue;
		proc = lock->pid != 0 ? BackendPidGetProc(lock->pid) : NULL;
		if (proc != NULL && (proc->statusFlags & PROC_IS_AUTOVACUUM) != 0)
			add_holder(holders, lock, InvalidOid);
		else if (lock->pid == 0 || (proc != NULL && (!OidIsValid(proc->roleId) || is_waited_for(lock, proc->roleId))))
			all = false;		/* 0: a prepared transaction */
		else if (proc != NULL)
			add_holder(holders, lock, proc->roleId);
	}
	return all;
}

/*
 * Terminates who is in the way: is there anybody?  Who waits for one gets it then, and is
 * next.  If somebody is in the way who is waited for, it would be no use.
 */
static bool
terminate_holders(void)
{
	Holders		holders;
	bool		all;
	bool		found = false;
	bool		patient;

	if (looks_since == 0)
		looks_since = sup_now();
	patient = sup_now() - looks_since < ALL_READERS_MS * INT64CONST(1000);
	if (!was_awaited(&awaited))
		awaited_before[nawaited++ % MAX_AWAITED] = awaited;
	all = find_holders(&holders);
	if (former.each != NULL)
		pfree(former.each);
	former = holders;
	for (int i = 0; all && i < holders.n; i++)
	{
		const Holder *holder = &holders.each[i];
		StringInfoData tag;

		if (patient && holder->reads && sup_now() - holder->since < READERS_MS * INT64CONST(1000))
			continue;
		found = true;
		initStringInfo(&tag);
		DescribeLockTag(&tag, &holder->tag);
		ereport(LOG,
				(errmsg("terminating process %d, which keeps temporary objects from being dropped", holder->pid),
				 errdetail("What it has locked is temporary, or depends on what is: %s.", tag.data)));
		kill(holder->pid, SIGTERM);
	}
	return found;
}

/* What there is of temporary objects; '*found': has somebody been terminated? */
static void
drop_all(bool again, bool *found)
{
	sup_begin_own();
	PushActiveSnapshot(GetTransactionSnapshot());
	*found = again && terminate_holders();
	memset(&awaited, 0, sizeof(awaited));
	sup_temporary_drop();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Was a lock all that it lacked?  What is left after any other error is for core, as it would
 * be after its own try: if the lock table is too small for all, each more would fill it again.
 */
static bool
is_worth_a_try(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/*
 * Returns the SQLSTATE of what has kept it from that, or 0.  In an exit any error is
 * FATAL: so while this runs, it is none.
 */
static int
try_to_drop(bool again, bool *found)
{
	volatile int sqlstate = 0;

	proc_exit_inprogress = false;
	PG_TRY();
	{
		drop_all(again, found);
	}
	PG_CATCH();
	{
		proc_exit_inprogress = true;
		sqlstate = geterrcode();
		if (!is_worth_a_try(sqlstate))
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
	}
	PG_END_TRY();
	proc_exit_inprogress = true;
	return sqlstate;
}

/* Before core would.  The session's own timeouts don't count any more, nor does exit_on_error. */
static void
drop_before_core(void)
{
	bool		again = false;
	int			timeout = TRY_MIN_MS;

	disable_all_timeouts(false);
	sup_no_transaction_timeout();
	ExitOnAnyError = false;
	DeadlockTimeout = Max(DeadlockTimeout, 2 * TRY_MIN_MS);
	whereToSendOutput = DestNone;	/* the task has had its last words */
	pqsignal(SIGINT, take_cancel);
	pqsignal(SIGTERM, take_cancel);
	ProcDiePending = QueryCancelPending = false;
	QueryCancelHoldoffCount = 0;
	RESUME_INTERRUPTS();		/* which proc_exit() has held */
	for (;;)
	{
		bool		found = false;
		int			sqlstate;

		LockTimeout = timeout;
		sqlstate = try_to_drop(again, &found);
		if (!is_worth_a_try(sqlstate) || sup_server_stops())
			break;
		again = sqlstate != ERRCODE_QUERY_CANCELED;
		if (found || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED)
			timeout = TRY_MIN_MS;
		else if (again)
			timeout = Min(timeout * 2, TRY_MAX_MS);
	}
	HOLD_INTERRUPTS();
}

/*
 * Core's callback is next.  What the timeout ends is ended by a FATAL error: the next
 * callbacks follow.  It would abort the transaction that is open: no cancel shall meet
 * that.
 */
static void
before_drop(int code, Datum arg)
{
	/* This waits for parallel workers, which are part of what it runs. */
	AbortOutOfAnyTransaction();
	note_exit();
	code_meant = code;
	if (!session_is_reset)
		drop_before_core();

	dropping = true;
	LockTimeout = 0;
	pqsignal(SIGINT, take_cancel);
	enable_timeout_after(STATEMENT_TIMEOUT, LOOK_TIMEOUT_MS);
	QueryCancelPending = false;
	QueryCancelHoldoffCount = 0;
	RESUME_INTERRUPTS();
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

/* After the login. */
void
sup_exit_init(void)
{
	RegisterXactCallback(xact_ends, NULL);
}

void
sup_exit_is_reset(bool is_reset)
{
	session_is_reset = is_reset;
}

/*
 * Asked by the log hook: what follows in the exit is said as ever, and so is what
 * else has ended core's callback.
 */
bool
sup_exit_is_cut(int sqlstate)
{
	bool		is_cut = dropping && sqlstate == ERRCODE_QUERY_CANCELED;

	dropping = false;
	return is_cut;
}

/* For the exit report, which runs later in the exit. */
int
sup_exit_code(int code)
{
	return code_meant >= 0 ? code_meant : code;
}
