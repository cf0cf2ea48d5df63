/*-------------------------------------------------------------------------
 *
 * mark.c
 *	  Which job each worker runs, in memory that outlives a crash of the server.
 *
 * It is a small file that the postmaster maps, and all processes inherit: so to set a
 * mark is a store, and a server that does not restart by itself after a crash finds it at
 * its next start.  Where there is no such file, it is memory that lives as long as the
 * postmaster.
 *
 * When a process crashes, the postmaster has all others end at once, by SIGQUIT, or on
 * request by SIGABRT.  These handlers say that it was not their doing.  The one that has
 * crashed gets there by a signal of its own, or not at all, if it was killed.
 *
 * A parallel worker of a job has no mark: it says so in that of its leader, which counts
 * those that are there.  If one is left that nobody has told to end, it was killed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/parallel.h"
#include "common/file_perm.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "mark.h"

#define MARK_FILE	PG_STAT_TMP_DIR "/supervisor.marks"
#define MARK_MAGIC	0x53554a39

/* Enough for what core's handlers, or a debugger's, need of a stack. */
#define STACK_SIZE	(64 * 1024)

/* Whoever was to be found out may be gone. */
#define SUSPECT_US	USECS_PER_HOUR

typedef struct Marks
{
	uint32		magic;
	uint32		size;			/* of all of it */
	int64		suspect_until;	/* see sup_marks_suspect_until() */

	/* one for each worker, then as many that are left, see sup_mark_left() */
	SupMark		marks[FLEXIBLE_ARRAY_MEMBER];
} Marks;

static Marks *marks = NULL;

/* That of this process, or of its leader; NULL: it has run no job yet. */
static SupMark *my_mark = NULL;

/* It is one of its leader's nparallel. */
static volatile sig_atomic_t counted = false;

/* What was there before our handlers. */
static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT};
static struct sigaction former[lengthof(crash_signals)];

static Size
size_of_marks(void)
{
	return offsetof(Marks, marks) + sizeof(SupMark) * 2 * sup_max_workers;
}

/* The file, of our size; MAP_FAILED: there is none. */
static void *
map_file(Size size)
{
	int			fd = open(MARK_FILE, O_RDWR | O_CREAT | PG_BINARY, pg_file_create_mode);
	void	   *map = MAP_FAILED;

	if (fd < 0)
		return map;
	/* its blocks are there, so that no store fails for want of room */
	if (ftruncate(fd, size) == 0 && posix_fallocate(fd, 0, size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map;
}

static void
map_marks(void)
{
	Size		size = size_of_marks();

	marks = map_file(size);
	if (marks == MAP_FAILED)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not use file \"%s\": %m", MARK_FILE),
				 errdetail("Jobs that crash the server are known as long as the postmaster lives.")));
		marks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	}
	if (marks == MAP_FAILED)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not map memory for jobs: %m")));
	if (marks->magic != MARK_MAGIC || marks->size != size)
	{
		memset(marks, 0, size);
		marks->magic = MARK_MAGIC;
		marks->size = size;
	}
}

const SupMark *
sup_mark_left(int i)
{
	return &marks->marks[sup_max_workers + i];
}

void
sup_mark_noted(int i)
{
	marks->marks[sup_max_workers + i].state = SUP_MARK_FREE;
}

/*
 * Take what the workers have left, and how many of them were guilty.  Who was killed in the
 * life of another postmaster went down with the server, or the machine: that tells nothing
 * of his job, unless it was canceled.
 */
static int
take_new(SupMark *left, bool same, int *guilty)
{
	int			n = 0;

	for (int i = 0; i < sup_max_workers; i++)
	{
		SupMark    *mark = &marks->marks[i];

		if (mark->state == SUP_MARK_INNOCENT && pg_atomic_read_u32(&mark->nparallel) > 0)
			mark->state = SUP_MARK_RUNS;
		if (mark->state == SUP_MARK_GUILTY || (mark->state == SUP_MARK_RUNS && same) ||
			(mark->state != SUP_MARK_FREE && mark->canceled))
			left[n++] = *mark;
		*guilty += mark->state == SUP_MARK_GUILTY;
		mark->state = SUP_MARK_FREE;
		pg_atomic_write_u32(&mark->nparallel, 0);
	}
	/* if several were guilty, nobody knows who has crashed the server */
	for (int i = 0; i < n; i++)
		left[i].crashed = left[i].state == SUP_MARK_GUILTY && *guilty == 1;
	return n;
}

/*
 * What can't be kept is old: its job could not be noted for so many crashes.  Is it the same
 * postmaster?  Not by its pid, which in a container each one has.
 */
int
sup_marks_take(void)
{
	SupMark    *left = palloc0(sizeof(SupMark) * sup_max_workers);
	int			guilty = 0;
	bool		same = marks != NULL;
	int			n;

	if (!same)
		map_marks();
	n = take_new(left, same, &guilty);
	for (int i = 0; i < sup_max_workers && n < sup_max_workers; i++)
		if (sup_mark_left(i)->state != SUP_MARK_FREE)
			left[n++] = *sup_mark_left(i);
	memcpy(&marks->marks[sup_max_workers], left, sizeof(SupMark) * sup_max_workers);
	pfree(left);

	if (guilty > 1 || (guilty == 1 && marks->suspect_until > GetCurrentTimestamp()))
		marks->suspect_until = GetCurrentTimestamp() + SUSPECT_US;
	else if (!same)
		marks->suspect_until = 0;
	return n;
}

int64
sup_marks_suspect_until(void)
{
	return marks->suspect_until;
}

void
sup_marks_suspect_no_more(void)
{
	marks->suspect_until = 0;
}

/*
 * Handlers.  They may do nothing that a process that has crashed can't.
 */

/* Somebody else has crashed, or the server is stopped at once. */
static void
end_at_once(SIGNAL_ARGS)
{
	if (my_mark->state == SUP_MARK_RUNS)
		my_mark->state = SUP_MARK_INNOCENT;
	_exit(2);					/* as core's */
}

/* With SIGQUIT blocked, or in a handler. */
static void
set_counted(bool count)
{
	if (counted == count)
		return;
	counted = count;
	(void) pg_atomic_fetch_add_u32(&my_mark->nparallel, count ? 1 : -1);
}

/* The same, of a parallel worker: its leader is told as well. */
static void
end_worker_at_once(SIGNAL_ARGS)
{
	set_counted(false);
	_exit(2);
}

/* What comes from another process is not this one's doing.  Then it is as it would be without us. */
static void
crash(int signo, siginfo_t *info, void *context)
{
	bool		innocent = info->si_code <= 0 && info->si_pid != getpid();

	if (my_mark->state == SUP_MARK_RUNS)
		my_mark->state = innocent ? SUP_MARK_INNOCENT : SUP_MARK_GUILTY;
	if (innocent)
		set_counted(false);
	for (int i = 0; i < lengthof(crash_signals); i++)
		if (crash_signals[i] == signo)
			(void) sigaction(signo, &former[i], NULL);
	/* a fault comes again at once, another signal does not */
	if (info->si_code <= 0)
		(void) raise(signo);
}

/* On a stack of their own, as the other may have been used up. */
static void
install_handlers(void)
{
	stack_t		stack = {0};
	struct sigaction action;

	stack.ss_sp = malloc(STACK_SIZE);
	stack.ss_size = STACK_SIZE;
	if (stack.ss_sp == NULL || sigaltstack(&stack, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not make a stack for signals")));
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = crash;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigemptyset(&action.sa_mask);
	for (int i = 0; i < lengthof(crash_signals); i++)
		(void) sigaction(crash_signals[i], &action, &former[i]);
}

static void
count_worker(bool count)
{
	sigset_t	quit;
	sigset_t	before;

	sigemptyset(&quit);
	sigaddset(&quit, SIGQUIT);
	(void) sigprocmask(SIG_BLOCK, &quit, &before);
	set_counted(count);
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
}

/* on_shmem_exit */
static void
worker_ends(int code, Datum arg)
{
	count_worker(false);
}

/* A parallel worker begins: is its leader a worker that runs a job? */
static void
follow_leader(void)
{
	const PGPROC *leader = MyProc->lockGroupLeader;

	for (int i = 0; i < sup_max_workers && leader != NULL && my_mark == NULL; i++)
		if (marks->marks[i].state == SUP_MARK_RUNS && marks->marks[i].pid == leader->pid)
			my_mark = &marks->marks[i];
	if (my_mark == NULL)
		return;
	install_handlers();
	pqsignal(SIGQUIT, end_worker_at_once);
	count_worker(true);
	on_shmem_exit(worker_ends, (Datum) 0);
}

/*
 * Core calls this when a parallel worker has got what its leader has, and before it does
 * anything for it.
 */
static void
caches_reset(Datum arg, int cache, uint32 hash)
{
	static bool seen = false;

	if (seen || !IsParallelWorker())
		return;
	seen = true;
	follow_leader();
}

/* Of a cache whose catalog changes seldom: only a reset of all caches matters. */
void
sup_marks_install(void)
{
	CacheRegisterSyscacheCallback(AMOID, caches_reset, (Datum) 0);
}

/* All but what others write; who may be killed meanwhile has not set it. */
static void
set_mark(SupMark *to, const SupMark *from, SupMarkState state)
{
	to->database = from->database;
	to->table = from->table;
	to->role = from->role;
	to->account = from->account;
	to->key = from->key;
	to->canceled = from->canceled;
	to->counted = from->counted;
	to->pid = from->pid;
	to->id = from->id;
	to->runs = from->runs;
	to->run_at = from->run_at;
	to->started_at = from->started_at;
	to->enqueued_at = from->enqueued_at;
	pg_write_barrier();
	to->state = state;
}

/* The handlers are there for the rest of its life, as a process that has run a job runs more. */
void
sup_mark_run(int slot, const SupMark *mark)
{
	if (my_mark == NULL)
	{
		my_mark = &marks->marks[slot];
		install_handlers();
		pqsignal(SIGQUIT, end_at_once);
	}
	Assert(my_mark->state == SUP_MARK_FREE && pg_atomic_read_u32(&my_mark->nparallel) == 0);
	set_mark(my_mark, mark, SUP_MARK_RUNS);
}

int
sup_mark_keep(int slot)
{
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupMark    *left = &marks->marks[sup_max_workers + i];

		if (left->state != SUP_MARK_FREE)
			continue;
		left->crashed = false;
		/* or else somebody has found it decided, and canceled the job */
		marks->marks[slot].canceled = true;
		set_mark(left, &marks->marks[slot], SUP_MARK_INNOCENT);
		return i;
	}
	return -1;
}

void
sup_mark_cancel(int slot)
{
	marks->marks[slot].canceled = true;
}

void
sup_mark_clear(void)
{
	if (my_mark != NULL)
		my_mark->state = SUP_MARK_FREE;
}
