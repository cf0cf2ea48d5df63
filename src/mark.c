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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "mark.h"

#define MARK_FILE	PG_STAT_TMP_DIR "/supervisor.marks"
#define MARK_MAGIC	0x53554a33

/* Enough for what core's handlers, or a debugger's, need of a stack. */
#define STACK_SIZE	(64 * 1024)

/* Whoever was to be found out may be gone. */
#define SUSPECT_US	USECS_PER_HOUR

typedef struct Marks
{
	uint32		magic;
	uint32		size;			/* of all of it */
	int			postmaster;		/* who has used it last */
	int64		suspect_until;	/* see sup_marks_suspect_until() */
	SupMark		marks[FLEXIBLE_ARRAY_MEMBER];	/* one for each worker */
} Marks;

static Marks *marks = NULL;

/* That of this process; NULL: it has run no job yet. */
static SupMark *my_mark = NULL;

/* What was there before our handlers. */
static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT};
static struct sigaction former[lengthof(crash_signals)];

static Size
size_of_marks(void)
{
	return offsetof(Marks, marks) + sizeof(SupMark) * sup_max_workers;
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

/*
 * Who was killed in the life of another postmaster went down with the server, or the
 * machine: that tells nothing of his job.
 */
int
sup_marks_take(SupMark *left, int *guilty)
{
	bool		same;
	int			n = 0;

	if (marks == NULL)
		map_marks();
	same = marks->postmaster == MyProcPid;
	marks->postmaster = MyProcPid;
	*guilty = 0;
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupMark    *mark = &marks->marks[i];

		if (mark->state == SUP_MARK_GUILTY || (mark->state == SUP_MARK_RUNS && same))
			left[n++] = *mark;
		*guilty += mark->state == SUP_MARK_GUILTY;
		mark->state = SUP_MARK_FREE;
	}
	if (*guilty > 1 || (*guilty == 1 && marks->suspect_until > GetCurrentTimestamp()))
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

/* What comes from another process is not this one's doing.  Then it is as it would be without us. */
static void
crash(int signo, siginfo_t *info, void *context)
{
	if (my_mark->state == SUP_MARK_RUNS)
		my_mark->state = info->si_code <= 0 && info->si_pid != getpid() ? SUP_MARK_INNOCENT : SUP_MARK_GUILTY;
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
	pqsignal(SIGQUIT, end_at_once);
}

/* The handlers are there for the rest of its life, as a process that has run a job runs more. */
void
sup_mark_run(int slot, const SupMark *mark)
{
	if (my_mark == NULL)
	{
		my_mark = &marks->marks[slot];
		install_handlers();
	}
	Assert(my_mark->state == SUP_MARK_FREE);
	my_mark->database = mark->database;
	my_mark->table = mark->table;
	my_mark->role = mark->role;
	my_mark->key = mark->key;
	my_mark->counted = mark->counted;
	my_mark->pid = mark->pid;
	my_mark->id = mark->id;
	my_mark->runs = mark->runs;
	my_mark->run_at = mark->run_at;
	my_mark->started_at = mark->started_at;
	pg_write_barrier();
	my_mark->state = SUP_MARK_RUNS;
}

void
sup_mark_clear(void)
{
	if (my_mark != NULL)
		my_mark->state = SUP_MARK_FREE;
}
