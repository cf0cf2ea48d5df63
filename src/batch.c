/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  The SQL function execute_all(): many commands at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "args.h"
#include "members.h"
#include "read.h"
#include "settings.h"
#include "state.h"
#include "submit.h"
#include "task.h"
#include "wait.h"

/*
 * How many tasks execute_all() keeps in the pool; it adds more when half of
 * them have ended.  Others shall find room, too.
 */
#define BATCH_WINDOW	Min(sup_max_tasks / 2, 256)

/* How many it submits or collects at once. */
#define BATCH_STEP		32
StaticAssertDecl(2 * BATCH_STEP <= SUP_MAX_FREES, "each of them may have memory in the area twice");

typedef struct Outcome
{
	char	   *tag;
	char	   *message;
	int			sqlstate;
} Outcome;

/*
 * Have enough tasks ended, or sent something?  Looks without the lock, for
 * sup_spin_until() and sup_sleep_until().
 */
static bool
batch_has_news(void *arg)
{
	SupSession *session = arg;

	return session->outstanding <= session->wake_at || session->hint;
}

/*
 * Read what tasks of the batch have sent, of at most BATCH_STEP tasks; true if
 * there may be more.  Counts those that have ended, and notes the CPU of a
 * worker that ran one.
 */
static bool
collect(SupReader *readers, const int *ordinals, Outcome *outcomes, int *ended, int *cpu)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	SupTaskRef	refs[BATCH_STEP];
	char		tags[BATCH_STEP][COMPLETION_TAG_BUFSIZE];
	int			done[BATCH_STEP];	/* ordinals of those that have nothing but
									 * a tag */
	int			ndone = 0;
	int			n = 0;
	bool		more;

	sup_lock();
	session->hint = false;
	while (ndone + n < BATCH_STEP && !dlist_is_empty(&session->news))
	{
		SupTask    *task = dlist_container(SupTask, news_node, dlist_pop_head_node(&session->news));

		task->in_news = false;
		if (task->slot >= 0)
			*cpu = Sup->slots[task->slot].cpu;
		if (sup_task_state(task) == SUP_TASK_SUCCEEDED && task->out_len == 0 &&
			!DsaPointerIsValid(task->first))
		{
			done[ndone] = ordinals[sup_task_index(task)];
			memcpy(tags[ndone], task->tag, COMPLETION_TAG_BUFSIZE);
			sup_task_release(task);
			ndone++;
			continue;
		}
		refs[n].task = task;
		refs[n++].id = task->id;
	}
	more = !dlist_is_empty(&session->news);
	if (more)
		session->hint = true;
	sup_unlock();

	for (int i = 0; i < ndone; i++)
		outcomes[done[i]].tag = pstrdup(tags[i]);
	*ended += ndone;

	for (int i = 0; i < n; i++)
	{
		int			t = sup_task_index(refs[i].task);
		SupReader  *reader = &readers[t];
		Outcome    *outcome = &outcomes[ordinals[t]];

		if (!sup_reader_take(reader, &refs[i]))
			continue;
		(*ended)++;
		if (reader->state == SUP_TASK_SUCCEEDED)
			outcome->tag = pstrdup(reader->tag);
		else
		{
			outcome->sqlstate = reader->sqlstate;
			outcome->message = sup_reader_error(reader);
		}
		sup_reader_free(reader);
	}
	return more;
}

/*
 * Return the rows of tasks from that one on, up to the first that has not
 * ended.  Returns which one that is.
 */
static int
put_outcomes(ReturnSetInfo *rsinfo, const Outcome *outcomes, int i, int n)
{
	for (; i < n && (outcomes[i].tag != NULL || outcomes[i].message != NULL); i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = Int64GetDatum(i + 1);
		nulls[1] = outcomes[i].tag == NULL;
		nulls[2] = nulls[3] = !nulls[1];
		if (nulls[1])
		{
			values[2] = CStringGetTextDatum(unpack_sql_state(outcomes[i].sqlstate));
			values[3] = CStringGetTextDatum(outcomes[i].message);
		}
		else
			values[1] = CStringGetTextDatum(outcomes[i].tag);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return i;
}

/* A running execute_all(). */
typedef struct Batch
{
	SupSubmission submission;
	TimestampTz deadline;
	int			n;
	char	  **commands;
	Outcome    *outcomes;		/* by command */
	int			submitted;		/* commands, in order; also those without room */
	int			ended;
	bool		one_by_one;		/* the last one had no room, by itself */
	int			nsettings;
	StringInfoData settings;
	StringInfoData inputs[BATCH_STEP];
	SupReader  *readers;		/* by task */
	int		   *ordinals;		/* of the command, by task */
	volatile bool timed_out;
} Batch;

/* Raise 57014 if the timeout is over before all tasks have ended. */
static void
check_in_time(Batch *batch)
{
	CHECK_FOR_INTERRUPTS();
	if (batch->ended < batch->n && batch->deadline != 0 &&
		sup_now() >= batch->deadline)
	{
		batch->timed_out = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling tasks due to timeout")));
	}
}

/* The next command is not run: it fails, and it alone. */
static void
fail_next(Batch *batch, int sqlstate, const char *message)
{
	batch->outcomes[batch->submitted].sqlstate = sqlstate;
	batch->outcomes[batch->submitted].message = pstrdup(message);
	batch->submitted++;
	batch->ended++;
}

/*
 * Submit what there is room for; false: there is none for the next one, until
 * others of the batch have ended.  What has no room while none of them is left
 * to wait for has that as its error.  If it is the memory, the next one may
 * need less; if no task at all is free, those after it are not tried either.
 */
static bool
feed(Batch *batch)
{
	while (batch->submitted < batch->n &&
		   batch->submitted - batch->ended < BATCH_WINDOW)
	{
		int			inside = batch->submitted - batch->ended;
		SupTaskRef	refs[BATCH_STEP];
		int			k = Min(Min(BATCH_STEP, batch->n - batch->submitted), BATCH_WINDOW - inside);
		int			accepted;
		SupLack		lack;

		if (batch->one_by_one)
			k = 1;
		for (int i = 0; i < k; i++)
		{
			resetStringInfo(&batch->inputs[i]);
			sup_task_pack(&batch->inputs[i], batch->commands[batch->submitted + i], NULL, -1, NULL,
						  batch->nsettings, &batch->settings);
		}

		/* Where nothing has been run yet, nothing gets lost by an error. */
		accepted = sup_task_submit(&batch->submission, k, batch->inputs, refs, &lack);
		if (accepted == 0 && batch->submitted == 0 && !sup_lacks_memory(lack))
			sup_refuse_task(lack);
		batch->one_by_one = accepted == 0 && inside == 0;
		if (batch->one_by_one)
		{
			check_in_time(batch);
			if (sup_lacks_memory(lack))
				fail_next(batch, ERRCODE_OUT_OF_MEMORY, "out of shared memory for tasks");
			else
				while (batch->submitted < batch->n)
					fail_next(batch, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "too many tasks");
			continue;
		}
		for (int i = 0; i < accepted; i++)
		{
			int			t = sup_task_index(refs[i].task);

			batch->ordinals[t] = batch->submitted + i;
			memset(&batch->readers[t], 0, sizeof(SupReader));
		}
		batch->submitted += accepted;
		if (accepted < k)
			return false;
	}
	return true;
}

/*
 * Submit and collect until every command has its outcome.  An error leaves
 * tasks behind: the caller abandons them.
 */
static void
run_batch(Batch *batch, ReturnSetInfo *rsinfo)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	SupSpin		spin = {false, &session->spinning};
	int			partner = -1;
	int			put = 0;
	int			n = batch->n;

	batch->readers = palloc(sizeof(SupReader) * sup_max_tasks);
	batch->ordinals = palloc(sizeof(int) * sup_max_tasks);
	batch->outcomes = palloc_extended(sizeof(Outcome) * Max(n, 1),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	initStringInfo(&batch->settings);
	batch->nsettings = sup_settings_collect(&batch->settings);
	for (int i = 0; i < BATCH_STEP; i++)
		initStringInfo(&batch->inputs[i]);

	sup_lock();
	session->outstanding = 0;
	session->hint = false;
	sup_unlock();

	while (batch->ended < n)
	{
		TimestampTz wait_start;
		bool		full = !feed(batch);
		int			inside = batch->submitted - batch->ended;

		sup_lock();
		session->wake_at = batch->submitted < n ? Min(inside - 1, BATCH_WINDOW / 2) : 0;
		if (full)
			session->wake_at = inside - 1;
		sup_unlock();

		/* Meanwhile. */
		put = put_outcomes(rsinfo, batch->outcomes, put, n);
		if (inside == 0)
			continue;

		wait_start = sup_now();
		if (!sup_spin_until(&spin, partner, batch_has_news, session))
			(void) sup_sleep_until(batch_has_news, session, batch->deadline, NULL);
		sup_spin_note(&spin, sup_now() - wait_start);
		while (collect(batch->readers, batch->ordinals, batch->outcomes, &batch->ended, &partner))
			 /* the rest */ ;
		check_in_time(batch);
	}
	(void) put_outcomes(rsinfo, batch->outcomes, put, n);
	pfree(batch->readers);
	pfree(batch->ordinals);
	pfree(batch->outcomes);
}

/* supervisor.execute_all(commands, pool, timeout): each one's tag or error */
PG_FUNCTION_INFO_V1(supervisor_execute_all);
Datum
supervisor_execute_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Batch		batch = {0};

	sup_require_preload();
	batch.n = sup_text_array_arg(fcinfo, 0, &batch.commands);
	if (batch.n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("commands must not be null")));
	batch.submission.pool = sup_pool_arg(fcinfo, 1);
	batch.submission.kind = SUP_TASK_BATCH;
	batch.deadline = sup_deadline_arg(fcinfo, 2);
	for (int i = 0; i < batch.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sup_check_command(batch.commands[i]);
		if (sup_runs_concurrently(batch.commands[i]))
			sup_refuse_concurrently();
	}
	sup_task_check_submitter(SUP_TASK_BATCH);

	InitMaterializedSRF(fcinfo, 0);
	PG_TRY();
	{
		run_batch(&batch, rsinfo);
	}
	PG_CATCH();
	{
		sup_batch_abandon(batch.timed_out ? SUP_CANCEL_TIMEOUT : SUP_CANCEL_CALL);
		PG_RE_THROW();
	}
	PG_END_TRY();

	return (Datum) 0;
}
