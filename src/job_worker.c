/*-------------------------------------------------------------------------
 *
 * job_worker.c
 *	  A pool worker takes jobs, one after another, and runs them.
 *
 * Between two jobs it does all that a worker does between two tasks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "child.h"
#include "compat.h"
#include "drain.h"
#include "exec.h"
#include "exit.h"
#include "job_worker.h"
#include "match.h"
#include "members.h"
#include "reset.h"
#include "rights.h"
#include "settle.h"

/* After so long others that wait go first. */
#define SLICE_US	(100 * 1000)

/* This session is out of date: who serves the binding next logs in anew. */
static void
leave(SupSlot *slot)
{
	sup_lock();
	slot->leave = SUP_LEAVE_RECYCLE;
	slot->cause = Max(slot->cause, SUP_CAUSE_OTHER);
	sup_unlock();
}

/*
 * Our own transaction, in which rights are as before each task; false: they are not.
 * Raises an error where the settings do not let the queue be served.
 */
static bool
begin_look(SupSlot *slot, SupJobQueue *queue)
{
	StartTransactionCommand();
	sup_own_transaction();
	if (!sup_rights_hold())
	{
		CommitTransactionCommand();
		leave(slot);
		return false;
	}
	if (!sup_database_listed(get_database_name(MyDatabaseId)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database are not run"),
				 errdetail("It is not in \"%s\".", "supervisor.databases")));
	if (!superuser_arg(slot->role))
		(void) sup_check_member(queue->pool, slot->role);
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	return true;
}

static void
end_look(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* The table of jobs, of which all is known to be as it should; 0: it is not. */
static Oid
find_table(SupSlot *slot, SupJobQueue *queue)
{
	const char *complaint;
	Oid			table;

	if (!begin_look(slot, queue))
		return InvalidOid;
	table = sup_trusted_lock_quick(&sup_job_table, &complaint);
	if (!OidIsValid(table) && complaint != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database are not run"),
				 errdetail_internal("%s", complaint)));
	end_look();
	return table;
}

/* Look for jobs that can be run, which the queue has told us to do. */
static bool
look(SupSlot *slot, SupJobQueue *queue, Oid table, const SupBounds *bounds)
{
	SupCandidate found[SUP_RING_SIZE];
	SupSpot		end[SUP_PRIORITIES];
	const char *complaint;
	int			n = -1;

	if (begin_look(slot, queue))
	{
		if (sup_trusted_lock_quick(&sup_job_table, &complaint) == table)
			n = sup_job_look(table, queue->role, queue->pool, bounds, GetCurrentTimestamp(), found,
							 SUP_RING_SIZE, end);
		end_look();
	}
	sup_injection_point("supervisor-looked");
	sup_lock();
	if (n >= 0)
	{
		sup_bounds_end_look(&queue->bounds, queue->ring, end, found, n);
		sup_queue_works(queue);
	}
	else
		sup_bounds_fail_look(&queue->bounds);
	sup_looks_at = NULL;
	sup_unlock();
	return n >= 0;
}

/* A command with its parameters as a worker wants it. */
static SupInput *
pack(const SupJobRow *row)
{
	char	   *command = sup_job_text(row, SUP_JOB_COMMAND);
	SupInput	input = {0};
	StringInfoData buf;
	Datum	   *params;
	bool	   *nulls;

	input.command_len = strlen(command);
	input.ncolumns = input.nparams = -1;
	if (!row->nulls[SUP_JOB_PARAMS])
		deconstruct_array(DatumGetArrayTypeP(row->values[SUP_JOB_PARAMS]), TEXTOID, -1, false, TYPALIGN_INT,
						  &params, &nulls, &input.nparams);
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (char *) &input, sizeof(input));
	appendBinaryStringInfo(&buf, command, input.command_len + 1);
	for (int i = 0; i < input.nparams; i++)
	{
		char	   *param = nulls[i] ? NULL : TextDatumGetCString(params[i]);
		int32		len = param != NULL ? strlen(param) : -1;

		appendBinaryStringInfo(&buf, (char *) &len, sizeof(len));
		if (param != NULL)
			appendBinaryStringInfo(&buf, param, len + 1);
	}
	return (SupInput *) buf.data;
}

/* SupBlock.settle */
static void
settle(void *arg, const char *tag)
{
	sup_injection_point("supervisor-settle");
	sup_settle_success(arg, tag);
}

/* The transaction of the job, which commits together with the note that it is done. */
static void
run(SupRun *job)
{
	SupInput   *input = pack(&job->row);
	SupLimits	limits = {0, "canceling statement due to timeout of the job", NULL};
	SupBlock	block = {settle, job};
	char		tag[COMPLETION_TAG_BUFSIZE] = "";

	debug_query_string = (char *) (input + 1);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	SetCurrentStatementStartTimestamp();
	QueryCancelPending = false;
	StartTransactionCommand();
	sup_exit_is_reset(false);
	sup_exec(input, false, &limits, &block, tag);
}

/*
 * The transaction has been rolled back, if it has not committed before it failed.
 * What fails here ends the process, so that its role waits before it goes on.
 */
static void
end_with_error(SupRun *job)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	MemoryContextSwitchTo(MessageContext);
	error = CopyErrorData();
	EmitErrorReport();
	sup_clean_up_after_error();
	RESUME_INTERRUPTS();
	HOLD_CANCEL_INTERRUPTS();
	PG_TRY();
	{
		sup_settle_failure(job, error);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not note that a job has failed")));
	}
	PG_END_TRY();
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * Run a job on which there is a claim.  What the ring says of it may be no more so;
 * whoever has changed it, or is about to, tells of it.
 */
static void
run_claimed(SupSlot *slot, SupJobQueue *queue, SupClaim *claim)
{
	int64		id = claim->job.spot.id;
	Oid			table = claim->table;
	const char *complaint;
	SupRun		job;
	bool		found = false;

	job.table = table;
	if (begin_look(slot, queue))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(MessageContext);

		found = sup_trusted_lock_quick(&sup_job_table, &complaint) == table &&
			sup_job_fetch(table, id, &job.row) == SUP_JOB_FOUND &&
			sup_job_may_run(&job.row, sup_job_origin()) &&
			DatumGetObjectId(job.row.values[SUP_JOB_ROLE]) == slot->role &&
			sup_job_spot(&job.row).run_at <= GetCurrentTimestamp();
		MemoryContextSwitchTo(oldcontext);
		end_look();
	}
	sup_injection_point("supervisor-claimed");
	if (found)
	{
		MemoryContextSwitchTo(MessageContext);
		job.started_at = GetCurrentTimestamp();
		sup_running_job = id;
		PG_TRY();
		{
			run(&job);
		}
		PG_CATCH();
		{
			end_with_error(&job);
		}
		PG_END_TRY();
		debug_query_string = NULL;
		sup_running_job = 0;
		sup_injection_point("supervisor-ran");
		sup_reset_worker(slot);
	}
	sup_lock();
	if (found)
		sup_queue_works(queue);
	sup_claim_release(claim, found || slot->leave == SUP_STAY);
	sup_unlock();
	sup_take_late_cancel();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(MessageContext);
	(void) pgstat_report_stat(false);
}

/* Take the next job, or look for some; false: the drain ends. */
static bool
go_on(SupSlot *slot, SupJobQueue *queue, Oid table, bool slice_is_over)
{
	SupStep		step = SUP_STEP_NOTHING;
	SupClaim   *claim = NULL;
	SupBounds	bounds;

	sup_worker_interrupts();
	sup_lock();
	if (sup_drain_goes_on(slot, slice_is_over, sup_now()))
		step = sup_queue_step(queue, sup_slot_index(slot), table, GetCurrentTimestamp(), &claim);
	if (step == SUP_STEP_TAKE)
		sup_drain_offer(queue); /* another one takes more, if there are */
	else if (step == SUP_STEP_LOOK)
	{
		bounds = queue->bounds;
		sup_bounds_begin_look(&queue->bounds);
		sup_looks_at = queue;
	}
	sup_unlock();
	if (step == SUP_STEP_TAKE)
		run_claimed(slot, queue, claim);
	else if (step == SUP_STEP_LOOK)
		return look(slot, queue, table, &bounds);
	return step == SUP_STEP_TAKE;
}

/* An error of ours: nothing was done, and its jobs wait for a while. */
static void
fail(SupSlot *slot, SupJobQueue *queue)
{
	SupClaim   *claim;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	EmitErrorReport();
	sup_clean_up_after_error();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(MessageContext);
	sup_lock();
	if (sup_looks_at != NULL)
		sup_bounds_fail_look(&queue->bounds);
	sup_looks_at = NULL;
	claim = sup_claim_of(sup_slot_index(slot));
	if (claim != NULL)
		sup_claim_release(claim, false);
	sup_queue_failed(queue);
	sup_unlock();
	RESUME_INTERRUPTS();
}

/*
 * If the session is out of date, the drain waits again at once.  The lock has been
 * taken once before anything else: then the process's end gives up what it has.
 */
SupTask *
sup_run_drain(SupSlot *slot, SupTask *task)
{
	SupJobQueue *queue = &SupJob->queues[task->job_queue];
	TimestampTz began = sup_now();
	SupTask    *next;

	slot->cpu = sup_current_cpu();
	sup_lock();
	sup_drain_begin(slot, task);
	sup_unlock();
	if (slot->stale)
		leave(slot);
	else
	{
		PG_TRY();
		{
			Oid			table = find_table(slot, queue);

			while (OidIsValid(table) && go_on(slot, queue, table, sup_now() - began > SLICE_US))
				 /* one after another */ ;
		}
		PG_CATCH();
		{
			fail(slot, queue);
		}
		PG_END_TRY();
	}
	next = sup_drain_finish(slot, task);
	sup_take_late_cancel();
	MemoryContextSwitchTo(TopMemoryContext);
	return next;
}
