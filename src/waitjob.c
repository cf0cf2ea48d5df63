/*-------------------------------------------------------------------------
 *
 * waitjob.c
 *	  A session waits for a job.
 *
 * What has come of it is in the tables, so that is where it looks: at first, and each time
 * that it is told that the job may have ended.  Who ends a job commits, and then tells
 * those who have said that they wait; so it says so before it looks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "compat.h"
#include "jobargs.h"
#include "jobtable.h"
#include "lastrun.h"
#include "queue.h"
#include "rights.h"
#include "task.h"
#include "wait.h"

typedef struct Awaited
{
	int64		id;
	Oid			table;			/* supervisor.job, as it was at first */
	Oid			history;
	TimestampTz since;
	bool		recurs;			/* it does, and is there */
	int64		runs;			/* of it that had ended before */
} Awaited;

pg_noreturn static void
is_mine(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot wait for job %lld in the transaction that has enqueued or changed it", (long long) id),
			 errdetail("It does not run before that has committed.")));
	pg_unreachable();
}

pg_noreturn static void
is_unknown(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("job %lld is not known any more", (long long) id),
			 errdetail("It was enqueued in this statement, was rolled back or removed, or its runs were removed from the history."),
			 errhint("Wait for a job after the transaction that enqueues it.")));
	pg_unreachable();
}

pg_noreturn static void
never_was(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("job %lld does not exist", (long long) id)));
	pg_unreachable();
}

static void
check_may_wait_for(int64 id, Oid role)
{
	if (!sup_may_see(role) && !sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to wait for job %lld", (long long) id),
				 errdetail("Only a role with the privileges of role \"%s\", or of pg_read_all_stats, may wait for its jobs.",
						   sup_role_name(role))));
}

/* Who is told that a job has ended is told what no crash undoes. */
static char *
lasting(char *state, TransactionId xid)
{
	XLogRecPtr	commit = TransactionIdGetCommitLSN(xid);

	if (!XLogRecPtrIsInvalid(commit))
		XLogFlush(commit);
	return state;
}

/* How it has ended, if its row is there; NULL: it has not. */
static char *
state_of_row(Awaited *job, const SupJobRow *row, bool first)
{
	bool		recurs = !row->nulls[SUP_JOB_SCHEDULE];
	int64		runs = DatumGetInt64(row->values[SUP_JOB_RUNS]);

	check_may_wait_for(job->id, DatumGetObjectId(row->values[SUP_JOB_ROLE]));
	if (row->mine)
		is_mine(job->id);
	if (first)
	{
		job->recurs = recurs;
		job->runs = runs;
	}
	if (recurs && runs > job->runs)
		return lasting(sup_job_text(row, SUP_JOB_LAST_STATE), row->xmin);
	if (!recurs && DatumGetChar(row->values[SUP_JOB_STATE]) == 'f')
		return lasting(pstrdup("failed"), row->xmin);
	sup_job_wait_for(DatumGetObjectId(row->values[SUP_JOB_ROLE]), sup_job_text(row, SUP_JOB_POOL),
					 sup_job_key(row), sup_job_spot(row).run_at);
	return NULL;
}

/* The same, if it is gone.  A recurring one that was unscheduled has no next run. */
static char *
state_of_gone(const Awaited *job)
{
	SupLastRun	last;

	if (!sup_last_run(job->history, job->id, &last))
	{
		if (job->recurs)
			return pstrdup("canceled");
		is_unknown(job->id);
	}
	check_may_wait_for(job->id, last.role);
	if (last.mine)
		is_mine(job->id);
	if (job->recurs && last.finished_at < job->since)
		return pstrdup("canceled");
	return lasting(last.state, last.xmin);
}

/* Nothing is locked after it: a session may wait for long. */
static char *
look(Awaited *job, bool first)
{
	SupJobRow	row;
	char	   *state;
	Oid			table = sup_job_lock_table();

	job->history = sup_job_lock_history();
	if (!first && table != job->table)
		is_unknown(job->id);
	job->table = table;
	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	if (sup_job_fetch(table, job->id, &row) != SUP_JOB_GONE)
		state = state_of_row(job, &row, first);
	else if (first && job->id > sup_job_last_id(table))
		never_was(job->id);
	else
		state = state_of_gone(job);
	PopActiveSnapshot();
	UnlockRelationOid(table, RowExclusiveLock);
	UnlockRelationOid(job->history, RowExclusiveLock);
	return state;
}

/* For sup_sleep_until(). */
static bool
was_told(void *arg)
{
	return ((SupJobWait *) arg)->told;
}

/* Wait until it has ended; NULL: time ran out. */
static char *
wait_for(Awaited *job, TimestampTz deadline)
{
	SupJobWait *wait = &Sup->sessions[sup_my_session()].job;
	MemoryContext oldcontext = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(oldcontext, "supervisor wait", ALLOCSET_SMALL_SIZES);
	bool		first = true;
	bool		in_time = true;
	char	   *state;

	for (;;)
	{
		sup_job_wait_begin(job->id);
		MemoryContextSwitchTo(context);
		state = look(job, first);
		MemoryContextSwitchTo(oldcontext);
		if (state != NULL || !in_time)
			return state;
		MemoryContextReset(context);
		first = false;
		in_time = sup_sleep_until(was_told, wait, deadline, NULL);
	}
}

/* supervisor.wait_job(): how it has ended for good; NULL if time ran out */
PG_FUNCTION_INFO_V1(supervisor_wait_job);
Datum
supervisor_wait_job(PG_FUNCTION_ARGS)
{
	Awaited		job = {0};
	TimestampTz deadline;
	char	   *volatile state = NULL;

	sup_require_preload();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job must not be null")));
	job.id = PG_GETARG_INT64(0);
	deadline = sup_deadline_arg(fcinfo, 1);
	if (sup_in_pool_worker())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a task or job cannot wait for a job"),
				 errdetail("They might use up the workers that it needs.")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot wait for a job during a parallel operation")));
	PreventCommandDuringRecovery("wait_job()");
	if (job.id < 1)
		never_was(job.id);
	sup_session_begin();
	job.since = GetCurrentTimestamp();
	PG_TRY();
	{
		state = wait_for(&job, deadline);
	}
	PG_FINALLY();
	{
		sup_job_wait_end();
	}
	PG_END_TRY();
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(state));
}
