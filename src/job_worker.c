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

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "args.h"
#include "child.h"
#include "compat.h"
#include "drain.h"
#include "exec.h"
#include "exit.h"
#include "job_worker.h"
#include "jobkey.h"
#include "mark.h"
#include "match.h"
#include "members.h"
#include "reset.h"
#include "rights.h"
#include "settings.h"
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
	sup_begin_own();
	sup_own_lock_timeout(SUP_LOCK_TIMEOUT); /* others need this worker */
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

/*
 * The table of jobs, locked; 0: it is gone.  One that is there, but is not to be believed, is an
 * error: what was known of its jobs is so when it is as it should be.  So is one of runs, in which
 * the end of a run could not be noted: then none begins.
 */
static Oid
lock_table(void)
{
	const char *complaint;
	Oid			table = sup_trusted_lock_quick(&sup_job_table, &complaint);

	if (OidIsValid(table) && !OidIsValid(sup_trusted_lock_quick(&sup_history_table, &complaint)))
		table = InvalidOid;
	if (!OidIsValid(table) && complaint != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("jobs of this database are not run"),
				 errdetail_internal("%s", complaint)));
	return table;
}

/* The same, in a transaction of its own; 0 as well if this worker may not look. */
static Oid
find_table(SupSlot *slot, SupJobQueue *queue)
{
	Oid			table;

	if (!begin_look(slot, queue))
		return InvalidOid;
	table = lock_table();
	end_look();
	return table;
}

/* Look for jobs that can be run, which the queue has told us to do. */
static bool
look(SupSlot *slot, SupJobQueue *queue, Oid table, const SupBounds *bounds, SupPassed *passed)
{
	SupCandidate found[SUP_RING_SIZE];
	SupSpot		end[SUP_PRIORITIES];
	int			n = -1;

	if (begin_look(slot, queue))
	{
		if (lock_table() == table)
			n = sup_job_look(table, queue->role, queue->pool, bounds, passed, GetCurrentTimestamp(), found,
							 SUP_RING_SIZE, end);
		end_look();
	}
	sup_injection_point("supervisor-looked");
	sup_lock();
	if (n >= 0)
	{
		sup_bounds_end_look(&queue->bounds, queue->ring, end, found, n);
		sup_keys_end_look(queue, passed);
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

/* A run that is under way, in this process. */
typedef struct Running
{
	SupRun		run;
	SupJobRow	row;			/* as it was when the run began; palloc'd */
	bool		atomic;
	bool		others;			/* its key has others, which wait for its end */
	char		tag[COMPLETION_TAG_BUFSIZE];
	char		result[SUP_KEPT + 1];
	bool		waits;			/* the job waits by what is noted: then there
								 * is something to tell */
	SupJobNote	next;
} Running;

/*
 * The first column of the first row, as text, is the result of the run: that of its last
 * statement that returns any.
 */
typedef struct FirstValue
{
	DestReceiver pub;
	TupleDesc	desc;
	bool		seen;			/* a row of this statement */
	SupRun	   *run;			/* whose result it is */
	char	   *text;			/* the beginning of it */
} FirstValue;

/* rStartup */
static void
first_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	FirstValue *first = (FirstValue *) self;

	first->desc = desc;
	first->seen = false;
	first->run->result = NULL;
}

/* receiveSlot: always true, as all rows are to be computed. */
static bool
first_receive(TupleTableSlot *slot, DestReceiver *self)
{
	FirstValue *first = (FirstValue *) self;
	MemoryContext context;
	MemoryContext oldcontext;
	Datum		value;
	char	   *text;
	bool		isnull;
	Oid			output;
	bool		is_varlena;

	if (first->seen || first->desc->natts == 0)
		return true;
	first->seen = true;
	value = slot_getattr(slot, 1, &isnull);
	if (isnull)
		return true;
	getTypeOutputInfo(TupleDescAttr(first->desc, 0)->atttypid, &output, &is_varlena);
	context = AllocSetContextCreate(CurrentMemoryContext, "supervisor result", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	text = OidOutputFunctionCall(output, value);

	strlcpy(first->text, text, pg_mbcliplen(text, strlen(text), SUP_KEPT) + 1);
	first->run->result = first->text;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	return true;
}

/* rShutdown, rDestroy */
static void
first_nothing(DestReceiver *self)
{
}

/* The job is gone: if somebody else has taken it off who was just before us, it is not run. */
static void
check_not_canceled(void)
{
	SupClaim   *claim;
	bool		canceled;

	sup_lock();
	claim = sup_claim_of(sup_slot_index(SupMySlot));
	canceled = claim != NULL && claim->canceled;
	sup_unlock();
	if (canceled)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement due to user request")));
}

/* SupBlock.settle */
static void
settle(void *arg, const char *tag)
{
	Running    *job = arg;
	bool		found;

	sup_injection_point("supervisor-settle");
	job->waits = sup_settle_success(&job->run, &job->row, tag, &job->next, &found);
	if (!found)
		check_not_canceled();
}

/*
 * What is easily forgotten about a job whose command fails so; NULL: nothing.  On a function
 * core has a hint as well, that its argument types may not fit.  What somebody raises says what
 * to do itself: its text is an argument of the message.
 */
static const char *
hint_of(const Running *job, const ErrorData *error)
{
	if (error->message_id == NULL || strcmp(error->message_id, "%s") == 0)
		return NULL;
	switch (error->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_FUNCTION:
			return "Either its argument types do not fit, or it is not in the \"search_path\" of the role: "
				"that of the session that has enqueued the job does not travel.";
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_SCHEMA:
			return "The \"search_path\" of the session that has enqueued the job does not travel. "
				"Name the schema, or set it in the command.";
		case ERRCODE_INVALID_TRANSACTION_TERMINATION:
			return job->atomic ? "The job is one transaction. Use atomic => false if it may be run more than once." : NULL;
		default:
			return NULL;
	}
}

/*
 * The command of the job.  If it is atomic, its transaction commits together with the
 * note that it is done.
 */
static void
run(Running *job)
{
	SupInput   *input = pack(&job->row);
	SupLimits	limits = {0, "canceling statement due to timeout of the job", NULL};
	SupBlock	block = {settle, job};
	FirstValue	first = {0};

	if (!job->row.nulls[SUP_JOB_RUN_TIMEOUT])
		limits.timeout = Min((sup_interval_us(DatumGetIntervalP(job->row.values[SUP_JOB_RUN_TIMEOUT])) + 999) / 1000, INT_MAX);
	first.pub.receiveSlot = first_receive;
	first.pub.rStartup = first_startup;
	first.pub.rShutdown = first.pub.rDestroy = first_nothing;
	first.pub.mydest = DestTuplestore;
	first.run = &job->run;
	first.text = job->result;
	debug_query_string = (char *) (input + 1);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	sup_exit_is_reset(false);
	sup_exec(input, false, &limits, job->atomic ? &block : NULL, &first.pub, job->tag);
}

/* The command has failed: clean up, and keep the error. */
static void
take_error(Running *job)
{
	ErrorData  *error;
	const char *hint;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	MemoryContextSwitchTo(MessageContext);
	error = CopyErrorData();
	hint = hint_of(job, error);
	if (hint != NULL)
		errhint("%s", hint);
	EmitErrorReport();
	sup_clean_up_after_error();
	MemoryContextSwitchTo(MessageContext);
	job->run.end = SUP_RUN_FAILED;
	job->run.sqlstate = error->sqlerrcode;
	job->run.message = error->message;
	job->run.detail = error->detail;
	if (hint != NULL)
		job->run.detail = error->detail == NULL ? hint : psprintf("%s %s", error->detail, hint);
	job->run.context = error->context;
	RESUME_INTERRUPTS();
}

/* What we would have noted has failed. */
static void
fail_note(void)
{
	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	EmitErrorReport();
	sup_clean_up_after_error();
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
}

/*
 * Note the end of a run that has not noted it itself; false: that fails, as the row may
 * be locked, or there is no room on the disk, or somebody cancels it.
 */
static bool
note_end(Running *job)
{
	volatile bool noted = false;

	PG_TRY();
	{
		sup_injection_point("supervisor-note");
		job->waits = sup_settle(&job->run, &job->row, job->tag, &job->next, SUP_LOCK_TIMEOUT);
		noted = true;
	}
	PG_CATCH();
	{
		fail_note();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(MessageContext);
	return noted;
}

/* Note an attempt that is about to be made, if it is; *locked: it can't be, as somebody has the row. */
static bool
note_attempt(Running *job, bool *locked)
{
	volatile bool runs = false;
	volatile bool wait_failed = false;

	PG_TRY();
	{
		runs = sup_settle_attempt(&job->run, &job->row, SUP_LOCK_TIMEOUT);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		fail_note();
		wait_failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(MessageContext);
	*locked = wait_failed;
	return runs;
}

/*
 * The run has ended, and the key of its claim is free.  Tell of others that have waited for
 * it; who dies before he has leaves them to those who look.
 */
static void
look_for_key(SupSlot *slot, SupJobQueue *queue, SupClaim *claim, const Running *job)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(MessageContext);
	SupKeyJob  *jobs;
	int			n = 0;

	sup_injection_point("supervisor-key-free");
	sup_begin_own();
	sup_own_lock_timeout(SUP_LOCK_TIMEOUT);
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	MemoryContextSwitchTo(MessageContext);
	if (lock_table() == job->run.table)
		n = sup_key_first_jobs(job->run.table, slot->role, sup_job_text(&job->row, SUP_JOB_KEY),
							   GetCurrentTimestamp(), &jobs);
	end_look();
	sup_injection_point("supervisor-key-seen");
	for (int i = 0; i < n; i++)
		sup_publish_job(queue, jobs[i].pool, &jobs[i].job);
	sup_lock();
	claim->key_wanted = false;
	sup_claim_release(claim, SUP_RELEASE_DONE);
	sup_unlock();
	MemoryContextSwitchTo(oldcontext);
}

/* The run has ended, and with it, perhaps, those of the identical ones. */
static void
tell_waiters(const SupRun *run)
{
	sup_tell_job_waiters(MyDatabaseId, run->id);
	for (int i = 0; i < run->nmerged; i++)
		sup_tell_job_waiters(MyDatabaseId, run->merged[i]);
}

/*
 * Run a job, of which the table knows that it is to be run; what comes of it is noted when
 * this returns, or the claim is lost.
 */
static void
run_begun(SupSlot *slot, SupJobQueue *queue, SupClaim *claim, Running *job)
{
	bool		noted;
	bool		key_wanted;
	bool		awaited;

	job->run.end = SUP_RUN_SUCCEEDED;
	sup_running_job = job->run.id;
	PG_TRY();
	{
		run(job);
	}
	PG_CATCH();
	{
		take_error(job);
	}
	PG_END_TRY();
	debug_query_string = NULL;
	sup_running_job = 0;
	sup_injection_point("supervisor-ran");
	noted = (job->atomic && job->run.end == SUP_RUN_SUCCEEDED) || note_end(job);
	sup_injection_point("supervisor-noted");
	sup_reset_worker(slot);
	sup_lock();
	sup_queue_works(queue);
	if (noted)
		sup_claim_count(claim, job->run.end);
	key_wanted = noted && claim->key_wanted;
	awaited = SupJob->nwaiting > 0;
	if (key_wanted)
		sup_claim_free_key(claim);
	else if (noted)
		sup_claim_release(claim, SUP_RELEASE_DONE);
	else
		sup_claim_lose(claim, claim->canceled && job->run.end == SUP_RUN_FAILED ? SUP_RUN_CANCELED : job->run.end,
					   job->run.sqlstate, job->run.message ? job->run.message : "");
	sup_unlock();
	sup_mark_clear();
	if (noted && job->waits)
		sup_publish_jobs(&job->next, 1);
	if (noted && awaited)
		tell_waiters(&job->run);
	if (key_wanted)
	{
		sup_take_late_cancel();
		look_for_key(slot, queue, claim, job);
	}
}

/*
 * Does the table say that the job is to be run?  What the ring said of it may be no more
 * so; whoever has changed it, or is about to, tells of it.  But nobody does if it is not due any
 * more since the clock was set back: then it is *later.
 */
static bool
find_claimed(SupSlot *slot, SupJobQueue *queue, SupClaim *claim, Running *job, bool *later)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(MessageContext);
	SupJobRow  *row = &job->row;
	TimestampTz now;
	bool		found;

	*later = false;
	memset(&job->run, 0, sizeof(SupRun));
	job->others = false;
	if (!begin_look(slot, queue))
		return false;
	MemoryContextSwitchTo(MessageContext);
	found = lock_table() == claim->table &&
		sup_job_fetch(claim->table, claim->job.spot.id, row) == SUP_JOB_FOUND &&
		sup_job_may_run(row, sup_job_origin()) &&
		DatumGetObjectId(row->values[SUP_JOB_ROLE]) == slot->role && sup_job_key(row) == claim->job.key;
	now = GetCurrentTimestamp();
	*later = found && sup_job_spot(row).run_at > now;
	found &= !*later;
	if (found && !row->nulls[SUP_JOB_KEY])
		job->run.nmerged = sup_key_identical(claim->table, row, now, &job->run.merged, &job->others);
	MemoryContextSwitchTo(oldcontext);
	end_look();
	if (!found)
		return false;
	job->run.table = claim->table;
	job->run.id = claim->job.spot.id;
	job->run.runs = DatumGetInt64(row->values[SUP_JOB_RUNS]);
	job->run.run_at = sup_job_spot(row).run_at;
	job->run.pid = MyProcPid;
	job->run.claim = claim;
	job->atomic = DatumGetBool(row->values[SUP_JOB_ATOMIC]);
	job->tag[0] = '\0';
	job->waits = false;
	return true;
}

/*
 * The run begins, unless it has been canceled: from here on a cancel is for it.  One that
 * came before is seen by its mark, which is set before the signal is sent.
 */
static bool
begin_run(SupSlot *slot, SupClaim *claim, Running *job)
{
	SupMark		mark = {0};

	job->run.started_at = GetCurrentTimestamp();
	mark.database = MyDatabaseId;
	mark.table = job->run.table;
	mark.role = slot->role;
	mark.account = claim->account;
	mark.key = claim->job.key;
	mark.counted = job->run.counted;
	mark.pid = MyProcPid;
	mark.id = job->run.id;
	mark.runs = job->run.runs;
	mark.run_at = job->run.run_at;
	mark.started_at = job->run.started_at;
	mark.enqueued_at = DatumGetTimestampTz(job->row.values[SUP_JOB_ENQUEUED_AT]);
	sup_mark_run(sup_slot_index(slot), &mark);
	sup_forget_error();
	QueryCancelPending = false;
	sup_lock();
	claim->begun = !claim->canceled;
	claim->key_wanted |= job->others;
	claim->counted = job->run.counted;
	claim->runs = job->run.runs;
	claim->job.spot.run_at = job->run.run_at;
	claim->started_at = job->run.started_at;
	claim->pid = MyProcPid;
	sup_unlock();
	if (!claim->begun)
		sup_mark_clear();
	return claim->begun;
}

/* Run a job on which there is a claim, if it is still to be run. */
static void
run_claimed(SupSlot *slot, SupJobQueue *queue, SupClaim *claim)
{
	Running		job;
	bool		later;
	bool		locked = false;
	int64		id = claim->job.spot.id;
	bool		found = find_claimed(slot, queue, claim, &job, &later);

	sup_injection_point("supervisor-claimed");
	MemoryContextSwitchTo(MessageContext);
	if (found && !job.atomic)
		found = note_attempt(&job, &locked);
	sup_injection_point("supervisor-attempted");
	if (found && begin_run(slot, claim, &job))
		run_begun(slot, queue, claim, &job);
	else
	{
		sup_lock();
		/* who is about to cancel it has the row as well */
		if (locked || (found && job.run.counted))
			sup_claim_lose(claim, SUP_RUN_FAILED, 0, "");
		else
			sup_claim_release(claim, slot->leave == SUP_STAY && !later ? SUP_RELEASE_GONE : SUP_RELEASE_UNDONE);
		sup_unlock();
		sup_tell_job_waiters(MyDatabaseId, id); /* it may have failed by that */
	}
	sup_take_late_cancel();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(MessageContext);
	(void) pgstat_report_stat(false);
}

/*
 * Take the next job, or look for some; false: the drain, which has begun then, ends.
 * *has_run: it has taken one.
 */
static bool
go_on(SupSlot *slot, SupJobQueue *queue, Oid table, TimestampTz began, bool *has_run)
{
	bool		slice_is_over = *has_run && sup_now() - began > SLICE_US;
	static SupBusyKey *busy = NULL;
	SupStep		step = SUP_STEP_NOTHING;
	SupClaim   *claim = NULL;
	SupBounds	bounds;
	SupPassed	passed;

	sup_worker_interrupts();
	if (busy == NULL)
		busy = MemoryContextAlloc(TopMemoryContext, 2 * sup_max_workers * sizeof(SupBusyKey));
	passed.busy = busy;
	sup_lock();
	if (sup_drain_goes_on(slot, *has_run, slice_is_over, sup_now()) && !(slice_is_over && !dlist_is_empty(&SupJob->wanting)))
		step = sup_queue_step(queue, sup_slot_index(slot), table, GetCurrentTimestamp(), &claim);
	if (step == SUP_STEP_TAKE)
		sup_drain_offer(queue); /* another one takes more, if there are */
	else if (step == SUP_STEP_LOOK)
	{
		bounds = queue->bounds;
		sup_bounds_begin_look(&queue->bounds);
		sup_keys_begin_look(queue, &passed);
		sup_looks_at = queue;
	}
	sup_unlock();
	if (step == SUP_STEP_TAKE)
	{
		*has_run = true;
		run_claimed(slot, queue, claim);
	}
	else if (step == SUP_STEP_LOOK)
		return look(slot, queue, table, &bounds, &passed);
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
	if (claim != NULL && claim->begun)
		sup_claim_lose(claim, claim->canceled ? SUP_RUN_CANCELED : SUP_RUN_FAILED, ERRCODE_INTERNAL_ERROR,
					   "the worker has failed");
	else if (claim != NULL)
		sup_claim_release(claim, SUP_RELEASE_UNDONE);
	sup_queue_failed(queue);
	sup_unlock();
	sup_mark_clear();
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
			bool		has_run = false;

			while (OidIsValid(table) && go_on(slot, queue, table, began, &has_run))
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
