/*-------------------------------------------------------------------------
 *
 * supervisor_bench.c
 *	  The least that a hand-off, a loop and a start of processes can cost.
 *
 * bench/run measures supervisor against these floors, in the same server and
 * interleaved.  Each does only what nobody can leave out; what would make it
 * safe to use (rights, cancel, errors of the other side) is left out.
 *
 * So do the loops that take jobs from a table: as one would write them, in the
 * best case, in a background worker.
 *
 * The library has to be preloaded.  There is one channel and one set of bare
 * workers, so only one session at a time may use them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/plancache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

#define MAX_BARE_WORKERS	1000
#define MAX_COMMAND			1024
#define MAX_MARKS			1000

/* Whose turn it is on the channel. */
#define TURN_SESSION		0
#define TURN_WORKER			1

/*
 * No lock: each field is written by one side only, while the other waits for
 * it by the latch.
 */
typedef struct BenchShared
{
	/* The channel between a session and the floor worker. */
	pg_atomic_uint32 turn;
	PGPROC	   *volatile worker;	/* NULL: there is none */
	PGPROC	   *volatile session;
	int			count;			/* run the command so many times */
	char		command[MAX_COMMAND];

	/* Bare workers, and the session that keeps them. */
	PGPROC	   *volatile keeper;
	pg_atomic_uint32 nready;
	pg_atomic_uint32 leave;		/* bare workers are to exit */
	PGPROC	   *volatile bare[MAX_BARE_WORKERS];
	volatile TimestampTz exited_at; /* of the last one that exited */

	/* Workers that take jobs from a table; bare[] has them as well. */
	volatile Oid queue_database;
	volatile bool queue_known;	/* by their ids, from 1 on */
	uint32		queue_count;
	pg_atomic_uint32 queue_go;
	pg_atomic_uint32 queue_next;
	pg_atomic_uint32 queue_done;
	volatile TimestampTz queue_began;
	volatile TimestampTz queue_ended;	/* of the last one */

	/* Moments that tasks have noted, in whichever process they ran. */
	pg_atomic_uint32 nmarks;
	volatile TimestampTz marks[MAX_MARKS];
} BenchShared;

static BenchShared *Bench = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

void		_PG_init(void);
PGDLLEXPORT void supervisor_bench_floor_main(Datum arg);
PGDLLEXPORT void supervisor_bench_bare_main(Datum arg);
PGDLLEXPORT void supervisor_bench_queue_main(Datum arg);

PG_FUNCTION_INFO_V1(bench_start_floor);
PG_FUNCTION_INFO_V1(bench_floor);
PG_FUNCTION_INFO_V1(bench_floor_many);
PG_FUNCTION_INFO_V1(bench_nothing);
PG_FUNCTION_INFO_V1(bench_loop);
PG_FUNCTION_INFO_V1(bench_bring_up);
PG_FUNCTION_INFO_V1(bench_replace);
PG_FUNCTION_INFO_V1(bench_queue_start);
PG_FUNCTION_INFO_V1(bench_queue_took);
PG_FUNCTION_INFO_V1(bench_mark);
PG_FUNCTION_INFO_V1(bench_marks);

static void
request_memory(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(BenchShared)));
}

static void
init_memory(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	Bench = ShmemInitStruct("supervisor_bench", sizeof(BenchShared), &found);
	if (!found)
	{
		memset(Bench, 0, sizeof(BenchShared));
		pg_atomic_init_u32(&Bench->turn, TURN_SESSION);
		pg_atomic_init_u32(&Bench->nready, 0);
		pg_atomic_init_u32(&Bench->leave, 0);
		pg_atomic_init_u32(&Bench->nmarks, 0);
		pg_atomic_init_u32(&Bench->queue_go, 0);
		pg_atomic_init_u32(&Bench->queue_next, 0);
		pg_atomic_init_u32(&Bench->queue_done, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = init_memory;
}

static void
check_preloaded(void)
{
	if (Bench == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("supervisor_bench must be loaded via \"%s\"",
						"shared_preload_libraries")));
}

static void
wait_for_latch(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Register a worker of this library; NULL if there is no place for it.  The
 * flags are a pool worker's, which may connect later.
 */
static BackgroundWorkerHandle *
start_worker(const char *function, Datum arg)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "supervisor_bench",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function,
			sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, function, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "supervisor_bench", sizeof(worker.bgw_type));
	worker.bgw_main_arg = arg;
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not register background worker"),
				 errhint("You might need to increase \"%s\".",
						 "max_worker_processes")));
	return handle;
}

/*
 * The floor worker: runs what the session asks for, as soon as it is its turn.
 */

static void
floor_worker_exits(int code, Datum arg)
{
	PGPROC	   *session = Bench->session;

	Bench->worker = NULL;
	if (session != NULL)
		SetLatch(&session->procLatch);
}

static void
run_command(const char *command)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", command);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
supervisor_bench_floor_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	on_shmem_exit(floor_worker_exits, 0);

	/* the role left out is the bootstrap superuser */
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);

	Bench->worker = MyProc;
	SetLatch(&Bench->session->procLatch);

	for (;;)
	{
		if (pg_atomic_read_u32(&Bench->turn) == TURN_WORKER)
		{
			pg_read_barrier();
			for (int i = 0; i < Bench->count; i++)
				run_command(Bench->command);
			pg_write_barrier();
			pg_atomic_write_u32(&Bench->turn, TURN_SESSION);
			SetLatch(&Bench->session->procLatch);
		}
		wait_for_latch();
	}
}

/* Have the floor worker run a command so many times, and wait. */
static void
ask_floor_worker(const char *command, int count)
{
	PGPROC	   *worker = Bench->worker;

	if (worker == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the floor worker does not run")));

	Bench->session = MyProc;
	Bench->count = count;
	strlcpy(Bench->command, command, sizeof(Bench->command));
	pg_write_barrier();
	pg_atomic_write_u32(&Bench->turn, TURN_WORKER);
	SetLatch(&worker->procLatch);

	while (pg_atomic_read_u32(&Bench->turn) != TURN_SESSION)
	{
		if (Bench->worker == NULL)
			elog(ERROR, "the floor worker has exited");
		wait_for_latch();
	}
	pg_read_barrier();
}

/*
 * start_floor(): the floor worker, connected to this database, is ready.
 */
Datum
bench_start_floor(PG_FUNCTION_ARGS)
{
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	check_preloaded();
	if (Bench->worker != NULL)
		PG_RETURN_VOID();

	Bench->session = MyProc;
	pg_atomic_write_u32(&Bench->turn, TURN_SESSION);
	handle = start_worker("supervisor_bench_floor_main",
						  ObjectIdGetDatum(MyDatabaseId));
	while (Bench->worker == NULL)
	{
		if (GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
			elog(ERROR, "the floor worker has exited");
		wait_for_latch();
	}
	PG_RETURN_VOID();
}

/*
 * floor(command): one round trip, by a word in shared memory and two latches,
 * around one command in a transaction of its own.
 */
Datum
bench_floor(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	check_preloaded();
	ask_floor_worker(command, 1);
	PG_RETURN_TEXT_P(cstring_to_text(command));
}

/*
 * floor_many(command, count): one round trip around count commands, each in a
 * transaction of its own.
 */
Datum
bench_floor_many(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	check_preloaded();
	ask_floor_worker(command, PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

/* nothing(command): what calling a function in the loop costs by itself. */
Datum
bench_nothing(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_TEXT_P(cstring_to_text(command));
}

static int
compare_float8(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

/* The row (median, mean, p99) of some microseconds; sorts them. */
static Datum
statistics(FunctionCallInfo fcinfo, double *samples, int n)
{
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	double		sum = 0;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	for (int i = 0; i < n; i++)
		sum += samples[i];
	qsort(samples, n, sizeof(double), compare_float8);
	values[0] = Float8GetDatum(samples[n / 2]);
	values[1] = Float8GetDatum(sum / n);
	values[2] = Float8GetDatum(samples[(int) (n * 0.99)]);
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

static double *
allocate_samples(int n)
{
	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of repetitions must be positive")));
	return palloc(sizeof(double) * n);
}

/*
 * loop(query, n, warmup): execute the query that often, each time measured.
 * It is planned once, before; its rows are thrown away.
 */
Datum
bench_loop(PG_FUNCTION_ARGS)
{
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			n = PG_GETARG_INT32(1);
	int			warmup = PG_GETARG_INT32(2);
	double	   *samples = allocate_samples(n);
	SPIPlanPtr	plan;
	CachedPlan *cached;

	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query);
	SPI_keepplan(plan);
	cached = SPI_plan_get_cached_plan(plan);
	if (cached != NULL)
		ReleaseCachedPlan(cached, CurrentResourceOwner);

	for (int i = -warmup; i < n; i++)
	{
		instr_time	start;
		instr_time	end;
		int			code;

		INSTR_TIME_SET_CURRENT(start);
		code = SPI_execute_plan(plan, NULL, NULL, false, 0);
		INSTR_TIME_SET_CURRENT(end);

		if (code < 0)
			elog(ERROR, "could not execute \"%s\"", query);
		SPI_freetuptable(SPI_tuptable);
		INSTR_TIME_SUBTRACT(end, start);
		if (i >= 0)
			samples[i] = INSTR_TIME_GET_DOUBLE(end) * 1e6;
		CHECK_FOR_INTERRUPTS();
	}

	SPI_freeplan(plan);
	SPI_finish();
	return statistics(fcinfo, samples, n);
}

/*
 * Bare workers: say that they are ready, and wait until they are to leave.
 */

static void
bare_worker_exits(int code, Datum arg)
{
	Bench->exited_at = GetCurrentTimestamp();
}

void
supervisor_bench_bare_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	on_shmem_exit(bare_worker_exits, 0);

	Bench->bare[DatumGetInt32(arg)] = MyProc;
	pg_atomic_fetch_add_u32(&Bench->nready, 1);
	SetLatch(&Bench->keeper->procLatch);

	while (pg_atomic_read_u32(&Bench->leave) == 0)
		wait_for_latch();
	proc_exit(0);
}

/* Register bare workers 0 .. n-1, and wait until all are ready. */
static void
start_bare_workers(BackgroundWorkerHandle **handles, int n)
{
	Bench->keeper = MyProc;
	pg_atomic_write_u32(&Bench->leave, 0);
	pg_atomic_write_u32(&Bench->nready, 0);
	for (int i = 0; i < n; i++)
		handles[i] = start_worker("supervisor_bench_bare_main", Int32GetDatum(i));
	while (pg_atomic_read_u32(&Bench->nready) < (uint32) n)
		wait_for_latch();
}

static void
ask_bare_workers_to_leave(int n)
{
	pg_atomic_write_u32(&Bench->leave, 1);
	for (int i = 0; i < n; i++)
		SetLatch(&Bench->bare[i]->procLatch);
}

/*
 * bring_up(n): microseconds from the first registration of n bare workers
 * until all are ready.
 */
Datum
bench_bring_up(PG_FUNCTION_ARGS)
{
	int			n = PG_GETARG_INT32(0);
	BackgroundWorkerHandle **handles;
	instr_time	start;
	instr_time	end;

	check_preloaded();
	if (n < 1 || n > MAX_BARE_WORKERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of workers must be between 1 and %d",
						MAX_BARE_WORKERS)));
	handles = palloc(sizeof(BackgroundWorkerHandle *) * n);

	INSTR_TIME_SET_CURRENT(start);
	start_bare_workers(handles, n);
	INSTR_TIME_SET_CURRENT(end);

	ask_bare_workers_to_leave(n);
	for (int i = 0; i < n; i++)
		(void) WaitForBackgroundWorkerShutdown(handles[i]);

	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e6);
}

/*
 * replace(n): n times, a bare worker exits, and is registered again when the
 * postmaster says so; from its exit to its successor's being ready.
 */
Datum
bench_replace(PG_FUNCTION_ARGS)
{
	int			n = PG_GETARG_INT32(0);
	double	   *samples = allocate_samples(n);
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	check_preloaded();
	start_bare_workers(&handle, 1);
	for (int i = 0; i < n; i++)
	{
		ask_bare_workers_to_leave(1);
		while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
			wait_for_latch();
		start_bare_workers(&handle, 1);
		samples[i] = GetCurrentTimestamp() - Bench->exited_at;
	}
	ask_bare_workers_to_leave(1);
	(void) WaitForBackgroundWorkerShutdown(handle);

	return statistics(fcinfo, samples, n);
}

/*
 * Workers that take jobs from a table, one transaction each.
 */

static SPIPlanPtr
keep_plan(const char *query, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", query);
	return plan;
}

/* Take one, run it, and note that; false: there is none. */
static bool
take_one(SPIPlanPtr take, SPIPlanPtr note, int64 number)
{
	Datum		args[2] = {Int64GetDatum(number), 0};
	bool		found;
	bool		isnull;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_execute_plan(take, args, NULL, false, 1);
	found = SPI_processed == 1;
	if (found)
	{
		args[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		args[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		SPI_execute(TextDatumGetCString(args[1]), false, 0);
		SPI_execute_plan(note, args, NULL, false, 0);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return found;
}

void
supervisor_bench_queue_main(Datum arg)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	SPIPlanPtr	take;
	SPIPlanPtr	note;
	uint32		i;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(Bench->queue_database, InvalidOid, 0);

	StartTransactionCommand();
	SPI_connect();
	if (Bench->queue_known)
	{
		take = keep_plan("DELETE FROM bench_job WHERE id = $1 RETURNING id, command", 1, types);
		note = keep_plan("INSERT INTO bench_history (job, attempt, role, pool, state, tag, enqueued_at, run_at, started_at, finished_at, pid, command)"
						 " VALUES ($1, 1, 10, 'default', 'succeeded', 'SELECT 1', now(), now(), now(), clock_timestamp(), pg_backend_pid(), $2)",
						 2, types);
	}
	else
	{
		take = keep_plan("SELECT id, command FROM bench_queue WHERE state = 'queued' AND run_at <= clock_timestamp()"
						 " ORDER BY priority, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED", 0, NULL);
		note = keep_plan("UPDATE bench_queue SET state = 'done', finished_at = clock_timestamp() WHERE id = $1", 2, types);
	}
	SPI_finish();
	CommitTransactionCommand();

	Bench->bare[DatumGetInt32(arg)] = MyProc;
	pg_atomic_fetch_add_u32(&Bench->nready, 1);
	SetLatch(&Bench->keeper->procLatch);
	while (pg_atomic_read_u32(&Bench->queue_go) == 0)
		wait_for_latch();
	while ((i = pg_atomic_fetch_add_u32(&Bench->queue_next, 1)) < Bench->queue_count)
	{
		if (take_one(take, note, i + 1))
			pg_atomic_fetch_add_u32(&Bench->queue_done, 1);
		CHECK_FOR_INTERRUPTS();
	}
	Bench->queue_ended = GetCurrentTimestamp();
	pg_atomic_fetch_sub_u32(&Bench->nready, 1);
	proc_exit(0);
}

/*
 * queue_start(known, n, count): have n workers, which are ready by now, take so many jobs
 * of bench_queue; or, known, of bench_job, by their ids.  It does not wait: its own
 * snapshot would keep the dead rows that the workers then come across.
 */
Datum
bench_queue_start(PG_FUNCTION_ARGS)
{
	int			n = PG_GETARG_INT32(1);

	check_preloaded();
	if (n < 1 || n > MAX_BARE_WORKERS)
		elog(ERROR, "the number of workers is out of range");
	Bench->keeper = MyProc;
	Bench->queue_database = MyDatabaseId;
	Bench->queue_known = PG_GETARG_BOOL(0);
	Bench->queue_count = PG_GETARG_INT32(2);
	pg_atomic_write_u32(&Bench->queue_go, 0);
	pg_atomic_write_u32(&Bench->queue_next, 0);
	pg_atomic_write_u32(&Bench->queue_done, 0);
	pg_atomic_write_u32(&Bench->nready, 0);
	for (int i = 0; i < n; i++)
		(void) start_worker("supervisor_bench_queue_main", Int32GetDatum(i));
	while (pg_atomic_read_u32(&Bench->nready) < (uint32) n)
		wait_for_latch();
	Bench->queue_began = GetCurrentTimestamp();
	pg_atomic_write_u32(&Bench->queue_go, 1);
	for (int i = 0; i < n; i++)
		SetLatch(&Bench->bare[i]->procLatch);
	PG_RETURN_VOID();
}

/* queue_took(): microseconds that they have taken; NULL: they are not done. */
Datum
bench_queue_took(PG_FUNCTION_ARGS)
{
	check_preloaded();
	if (pg_atomic_read_u32(&Bench->nready) > 0)
		PG_RETURN_NULL();
	if (pg_atomic_read_u32(&Bench->queue_done) != Bench->queue_count)
		elog(ERROR, "%u of %u jobs were run", pg_atomic_read_u32(&Bench->queue_done), Bench->queue_count);
	PG_RETURN_FLOAT8((double) (Bench->queue_ended - Bench->queue_began));
}

/* mark(): note this moment. */
Datum
bench_mark(PG_FUNCTION_ARGS)
{
	uint32		i;

	check_preloaded();
	i = pg_atomic_fetch_add_u32(&Bench->nmarks, 1);
	if (i >= MAX_MARKS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there can be no more than %d marks", MAX_MARKS)));
	Bench->marks[i] = GetCurrentTimestamp();
	PG_RETURN_VOID();
}

/* marks(): microseconds from one mark to the next; forgets the marks. */
Datum
bench_marks(PG_FUNCTION_ARGS)
{
	uint32		n;
	double	   *samples;

	check_preloaded();
	n = pg_atomic_exchange_u32(&Bench->nmarks, 0);
	if (n < 2)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are fewer than two marks")));
	n = Min(n, MAX_MARKS);
	samples = allocate_samples(n - 1);
	for (uint32 i = 0; i < n - 1; i++)
		samples[i] = Bench->marks[i + 1] - Bench->marks[i];
	return statistics(fcinfo, samples, n - 1);
}
