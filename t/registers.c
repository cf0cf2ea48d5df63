/*
 * A library that registers background workers itself when it is preloaded, for the
 * tests of supervisor.take_over: those of the table below that registers.workers
 * lists.  Each says in the log what it sees of itself, connects to
 * registers.database if it may, and waits for SIGTERM.  One waits on a latch in shared
 * memory, as pg_net's does, and one refuses to run beside another, as TimescaleDB's
 * launcher does.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void registers_main(Datum main_arg);
void		_PG_init(void);

static char *workers;
static char *database;
static bool in_hook;
static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

/* Of which there is one, whoever uses it. */
typedef struct Shared
{
	Latch		latch;
	pg_atomic_uint32 sole;		/* process ID */
	pg_atomic_uint32 work;		/* how often the latch has woken somebody */
} Shared;

static Shared *shared = NULL;

#define NAME_OF_95 \
	"a name with all bytes that core has room for, which are more than a name in a catalog may have,"
#define CONNECTS (BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION)
#define NEVER BGW_NEVER_RESTART

/* Where the argument of one points, in whatever process. */
static const char words[] = "words of the library";

/* What each does when it gets SIGTERM, or at once. */
typedef enum
{
	ENDS_WITH_1,
	ENDS_WITH_0,
	FAILS_AT_ONCE,
	ENDS_AT_ONCE,
	SHARES_LATCH,
	REFUSES_ANOTHER
} End;

static const struct
{
	const char *name;			/* by which the setting knows it */
	const char *bgw_name;
	const char *bgw_type;
	int			flags;
	BgWorkerStartTime start;
	int			restart;
	uint64		argument;
	End			end;
}			table[] = {
	{"pointer", "pointing worker", "pointer", CONNECTS, BgWorkerStart_ConsistentState, 2, 1, ENDS_WITH_1},
	{"wide", "wide worker", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, UINT64CONST(0x8877665544332211), ENDS_WITH_0},
	{"early", "early worker", "", BGWORKER_SHMEM_ACCESS, BgWorkerStart_PostmasterStart, 3, 0, ENDS_WITH_1},
	{"never", "only once", "", CONNECTS, BgWorkerStart_RecoveryFinished, NEVER, 0, ENDS_WITH_1},
	{"zero", "at once again", "", CONNECTS, BgWorkerStart_RecoveryFinished, 0, 0, FAILS_AT_ONCE},
	{"fails", "failing worker", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, FAILS_AT_ONCE},
	{"done", "done worker", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, ENDS_AT_ONCE},
	{"twin", "twin", "twins", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, ENDS_WITH_1},
	{"long", NAME_OF_95, NAME_OF_95, CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, ENDS_WITH_1},
	{"nameless", "", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, ENDS_WITH_1},
	{"accents", "\303\251t\303\251", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, ENDS_WITH_1},
	{"latch", "latch worker", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, SHARES_LATCH},
	{"sole", "sole worker", "", CONNECTS, BgWorkerStart_RecoveryFinished, 1, 0, REFUSES_ANOTHER}
};

static void
say_what_is_seen(Datum main_arg)
{
	const BackgroundWorker *w = MyBgworkerEntry;
	const char *type;
	uint32		sum = 0;

	/* The postmaster tells others of a process once it has started it. */
	while ((type = GetBackgroundWorkerTypeByPid(MyProcPid)) == NULL)
		pg_usleep(1000L);
	for (int i = 0; i < BGW_EXTRALEN; i++)
		sum = sum * 31 + (unsigned char) w->bgw_extra[i];
	ereport(LOG,
			(errmsg("registers: name \"%s\", type \"%s\", %s of %s, flags %d, start %d, restart %d, notify %d, argument %s, extra %u, core's type \"%s\"",
					w->bgw_name, w->bgw_type, w->bgw_function_name, w->bgw_library_name, w->bgw_flags,
					(int) w->bgw_start_time, w->bgw_restart_time, (int) w->bgw_notify_pid,
					main_arg != w->bgw_main_arg ? "differs" :
					main_arg == PointerGetDatum(words) ? (const char *) DatumGetPointer(main_arg) :
					psprintf(UINT64_FORMAT, (uint64) main_arg),
					sum, type),
			 errhidestmt(true)));
}

/* Whoever owns the latch is the one that works, and is woken to end. */
static void
end_sharing(SIGNAL_ARGS)
{
	ShutdownRequestPending = true;
	SetLatch(&shared->latch);
}

static void
disown_latch(int code, Datum arg)
{
	DisownLatch(&shared->latch);
}

/* To own a latch that another process owns is a PANIC. */
static void
work_by_latch(void)
{
	OwnLatch(&shared->latch);
	on_shmem_exit(disown_latch, (Datum) 0);
	pqsignal(SIGTERM, end_sharing);
	while (!ShutdownRequestPending)
	{
		if (WaitLatch(&shared->latch, WL_LATCH_SET | WL_POSTMASTER_DEATH, -1, PG_WAIT_EXTENSION) & WL_POSTMASTER_DEATH)
			proc_exit(1);
		ResetLatch(&shared->latch);
		CHECK_FOR_INTERRUPTS();
		pg_atomic_fetch_add_u32(&shared->work, 1);
	}
	proc_exit(1);
}

static void
leave_sole(int code, Datum arg)
{
	pg_atomic_write_u32(&shared->sole, 0);
}

static void
be_sole(void)
{
	uint32		nobody = 0;

	if (!pg_atomic_compare_exchange_u32(&shared->sole, &nobody, MyProcPid))
		ereport(FATAL, (errmsg("registers runs already, as process %u", nobody)));
	before_shmem_exit(leave_sole, (Datum) 0);
}

/* Wakes whoever owns the latch. */
PG_FUNCTION_INFO_V1(registers_wake);
Datum
registers_wake(PG_FUNCTION_ARGS)
{
	SetLatch(&shared->latch);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(registers_work);
Datum
registers_work(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) pg_atomic_read_u32(&shared->work));
}

void
registers_main(Datum main_arg)
{
	End			end = (End) (unsigned char) MyBgworkerEntry->bgw_extra[BGW_EXTRALEN - 1];

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	say_what_is_seen(main_arg);
	if (end == FAILS_AT_ONCE)
		ereport(FATAL, (errmsg("registers fails as it should")));
	if (end == ENDS_AT_ONCE)
		proc_exit(0);
	if ((MyBgworkerEntry->bgw_flags & BGWORKER_BACKEND_DATABASE_CONNECTION) != 0)
		BackgroundWorkerInitializeConnection(database[0] != '\0' ? database : NULL, NULL, 0);
	if (end == SHARES_LATCH)
		work_by_latch();
	if (end == REFUSES_ANOTHER)
		be_sole();
	while (!ShutdownRequestPending)
	{
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_POSTMASTER_DEATH, -1, PG_WAIT_EXTENSION) & WL_POSTMASTER_DEATH)
			proc_exit(1);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	proc_exit(end == ENDS_WITH_0 ? 0 : 1);
}

/* The bytes behind the end of strings are garbage, as those of real libraries are. */
static void
register_worker(int i, const char *library)
{
	BackgroundWorker worker;

	memset(&worker, 0xa5, sizeof(worker));
	worker.bgw_flags = table[i].flags;
	worker.bgw_start_time = table[i].start;
	worker.bgw_restart_time = table[i].restart;
	strlcpy(worker.bgw_library_name, library, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "registers_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, table[i].bgw_name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, table[i].bgw_type, BGW_MAXLEN);
	worker.bgw_main_arg = table[i].argument == 1 ? PointerGetDatum(words) : (Datum) table[i].argument;
	for (int j = 0; j < BGW_EXTRALEN; j++)
		worker.bgw_extra[j] = (char) (j % 5 * 51);	/* zeros among them */
	worker.bgw_extra[BGW_EXTRALEN - 1] = (char) table[i].end;
	worker.bgw_notify_pid = 0;
	RegisterBackgroundWorker(&worker);
}

/* By "name", or "name@library" for one that is called so. */
static void
register_all(void)
{
	char	   *copy = pstrdup(workers);

	for (char *name = strtok(copy, ", "); name != NULL; name = strtok(NULL, ", "))
	{
		char	   *at = strchr(name, '@');
		bool		found = false;

		if (at != NULL)
			*at = '\0';
		for (int i = 0; i < lengthof(table); i++)
			if (strcmp(table[i].name, name) == 0)
			{
				register_worker(i, at != NULL ? at + 1 : "registers");
				found = true;
			}
		if (!found)
			elog(FATAL, "there is no worker \"%s\"", name);
	}
	pfree(copy);
}

/* After those whose hooks were there before. */
static void
request_hook(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(Shared));
	if (in_hook)
		register_all();
}

static void
startup_hook(void)
{
	bool		found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("registers", sizeof(Shared), &found);
	if (!found)
	{
		InitSharedLatch(&shared->latch);
		pg_atomic_init_u32(&shared->sole, 0);
		pg_atomic_init_u32(&shared->work, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomStringVariable("registers.workers", "Lists the workers to register.", NULL,
							   &workers, "", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("registers.database", "Sets the database of the workers.", NULL,
							   &database, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("registers.in_hook", "Registers them in shmem_request_hook.", NULL,
							 &in_hook, false, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
	if (!in_hook)
		register_all();
}
