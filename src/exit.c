/*-------------------------------------------------------------------------
 *
 * exit.c
 *	  Has nobody keep a child in its exit that has nothing to do there.
 *
 * When a process exits, core drops the temporary objects of its session, with
 * interrupts held.  It reads pg_depend for that, even if there are none of them
 * any more.  Who may lock that, as the owner of the database may, could keep an
 * idle worker in its exit, out of reach of any cancel, and with it the worker's
 * place.  So where a session has been reset, core's callback takes interrupts
 * here, and a timeout ends it.
 *
 * Where it has not, that is left to core, and may take as long as somebody holds
 * a lock on what depends on a temporary object: if it were cut short, whoever is
 * given that temporary schema next would have to wait for that lock.  Such a
 * worker is seen as stuck: see docs/design.md.
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
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "compat.h"
#include "exit.h"
#include "state.h"

/* It is a look into one catalog, mostly into no more than one page. */
#define EXIT_TIMEOUT_MS	10

static bool session_is_reset = false;

/* Is there a callback that comes before core's? */
static bool registered = false;

/* Is core's callback running, and takes interrupts? */
static bool dropping = false;

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

/* What the timeout ends is ended by a FATAL error: the next callbacks follow. */
static void
before_drop(int code, Datum arg)
{
	note_exit();
	if (!session_is_reset || IsTransactionState())
		return;
	code_meant = code;
	dropping = true;
	pqsignal(SIGINT, take_cancel);
	enable_timeout_after(STATEMENT_TIMEOUT, EXIT_TIMEOUT_MS);
	QueryCancelHoldoffCount = 0;
	RESUME_INTERRUPTS();		/* which proc_exit() has held */
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
}

void
sup_exit_is_reset(bool is_reset)
{
	session_is_reset = is_reset;
}

/* Asked once, by the log hook: what follows in the exit is said as ever. */
bool
sup_exit_is_cut(void)
{
	bool		cut = dropping;

	dropping = false;
	return cut;
}

/* For the exit report, which runs later in the exit. */
int
sup_exit_code(int code)
{
	return code_meant >= 0 ? code_meant : code;
}
