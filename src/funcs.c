/*-------------------------------------------------------------------------
 *
 * funcs.c
 *	  The functions that SQL can call.
 *
 * They check their arguments and rights, call what is below, and build rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "args.h"
#include "compat.h"
#include "read.h"
#include "rights.h"
#include "settings.h"
#include "state.h"
#include "task.h"
#include "wait.h"

/*
 * How many tasks execute_all() keeps in the pool; it adds more when half of
 * them have ended.  Others shall find room, too.
 */
#define BATCH_WINDOW	Min(sup_max_tasks / 2, 256)

/* How many it submits or collects at once. */
#define BATCH_STEP		32

/*
 * Arguments
 */

static char *
command_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *command = PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));

	sup_check_command(command);
	return command;
}

static int64
task_arg(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task must not be null")));
	return PG_GETARG_INT64(n);
}

/* The elements of a text[], NULLs as NULL; -1 if it is NULL itself. */
static int
text_array(FunctionCallInfo fcinfo, int n, char ***elements)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(n))
		return -1;
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array must be one-dimensional")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	*elements = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(*elements)[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	}
	pfree(values);
	pfree(nulls);
	return count;
}

/* Does a command contain a statement that waits for older snapshots? */
static bool
runs_concurrently(const char *command)
{
	List	   *volatile parsetrees = NIL;
	ListCell   *lc;
	const char *p;
	MemoryContext oldcontext = CurrentMemoryContext;

	/* Cheap first: most commands don't have the word at all. */
	for (p = strpbrk(command, "cC"); p != NULL; p = strpbrk(p + 1, "cC"))
		if (pg_strncasecmp(p, "concurrently", 12) == 0)
			break;
	if (p == NULL)
		return false;

	PG_TRY();
	{
		parsetrees = raw_parser(command, RAW_PARSE_DEFAULT);
	}
	PG_CATCH();
	{
		/* The worker will say what is wrong with it. */
		MemoryContextSwitchTo(oldcontext);
		FlushErrorState();
	}
	PG_END_TRY();

	foreach(lc, parsetrees)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;

		if (IsA(stmt, IndexStmt) && ((IndexStmt *) stmt)->concurrent)
			return true;
		if (IsA(stmt, DropStmt) && ((DropStmt *) stmt)->concurrent)
			return true;
		if (IsA(stmt, ReindexStmt))
		{
			ListCell   *option;

			foreach(option, ((ReindexStmt *) stmt)->params)
			{
				if (strcmp(lfirst_node(DefElem, option)->defname, "concurrently") == 0 &&
					defGetBoolean(lfirst_node(DefElem, option)))
					return true;
			}
		}
		if (IsA(stmt, AlterTableStmt))
		{
			ListCell   *cmd;

			foreach(cmd, ((AlterTableStmt *) stmt)->cmds)
			{
				AlterTableCmd *c = lfirst_node(AlterTableCmd, cmd);

				if (c->subtype == AT_DetachPartitionFinalize ||
					(c->subtype == AT_DetachPartition && ((PartitionCmd *) c->def)->concurrent))
					return true;
			}
		}
	}
	return false;
}

static void
refuse_concurrently(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot wait for a command with CONCURRENTLY while holding a snapshot"),
			 errdetail("The command waits until all older snapshots are gone, that of this statement too."),
			 errhint("Use CALL supervisor.perform().")));
}

/*
 * Tasks
 */

/*
 * Submit a task and, unless it is launched, read it to its end.  On any error
 * here the task is canceled.
 */
static void
submit_one(SupTaskKind kind, const char *command, int nparams, char **params, const char *pool,
		   TupleDesc columns, bool concurrently, SupTaskRef *ref)
{
	StringInfoData input;
	StringInfoData settings;
	int			nsettings;

	initStringInfo(&settings);
	nsettings = sup_settings_collect(&settings);
	initStringInfo(&input);
	sup_task_pack(&input, command, columns, nparams, params, nsettings, &settings);
	(void) sup_task_submit(pool, kind, 1, &input, ref, concurrently, true, NULL);
	pfree(input.data);
	pfree(settings.data);
}

static void
read_or_cancel(SupReader *reader, SupTaskRef *ref, TimestampTz deadline)
{
	volatile bool in_time = false;

	PG_TRY();
	{
		in_time = sup_read_task(reader, ref, deadline);
	}
	PG_CATCH();
	{
		sup_task_abandon(ref);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!in_time)
	{
		sup_task_abandon(ref);
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling task due to timeout")));
	}
}

/* Check that the caller gave a column definition list, and prepare for rows. */
static void
begin_rows(FunctionCallInfo fcinfo, SupReader *reader)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || rsinfo->expectedDesc == NULL ||
		!(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a column definition list is required"),
				 errhint("Call the function in FROM: SELECT * FROM supervisor.run('...') AS (a int, b text).")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	reader->columns = rsinfo->setDesc;
	reader->store = rsinfo->setResult;
}

PG_FUNCTION_INFO_V1(supervisor_run);
Datum
supervisor_run(PG_FUNCTION_ARGS)
{
	char	   *command;
	char	  **params = NULL;
	int			nparams;
	char	   *pool;
	TimestampTz deadline;
	SupReader	reader = {0};
	SupTaskRef	ref;

	sup_require_preload();
	command = command_arg(fcinfo, 0);
	nparams = text_array(fcinfo, 1, &params);
	pool = sup_text_arg(fcinfo, 2, "pool");
	deadline = sup_deadline_arg(fcinfo, 3);
	begin_rows(fcinfo, &reader);
	sup_task_check_submitter(SUP_TASK_RUN);
	if (runs_concurrently(command))
		refuse_concurrently();

	reader.command = command;
	submit_one(SUP_TASK_RUN, command, nparams, params, pool, reader.columns, false, &ref);
	read_or_cancel(&reader, &ref, deadline);
	if (reader.state != SUP_TASK_SUCCEEDED)
		sup_reader_raise(&reader);
	return (Datum) 0;
}

/* What execute() and perform() share. */
typedef struct ExecuteArgs
{
	char	   *command;
	char	  **params;
	int			nparams;
	char	   *pool;
	TimestampTz deadline;
} ExecuteArgs;

static void
execute_args(FunctionCallInfo fcinfo, ExecuteArgs *args)
{
	args->command = command_arg(fcinfo, 0);
	args->nparams = text_array(fcinfo, 1, &args->params);
	args->pool = sup_text_arg(fcinfo, 2, "pool");
	args->deadline = sup_deadline_arg(fcinfo, 3);
	sup_task_check_submitter(SUP_TASK_EXECUTE);
}

static void
execute(const ExecuteArgs *args, SupReader *reader)
{
	SupTaskRef	ref;

	reader->command = args->command;
	submit_one(SUP_TASK_EXECUTE, args->command, args->nparams, args->params, args->pool,
			   NULL, false, &ref);
	read_or_cancel(reader, &ref, args->deadline);
	if (reader->state != SUP_TASK_SUCCEEDED)
		sup_reader_raise(reader);
}

PG_FUNCTION_INFO_V1(supervisor_execute);
Datum
supervisor_execute(PG_FUNCTION_ARGS)
{
	ExecuteArgs args;
	SupReader	reader = {0};

	sup_require_preload();
	execute_args(fcinfo, &args);
	if (runs_concurrently(args.command))
		refuse_concurrently();
	execute(&args, &reader);
	PG_RETURN_TEXT_P(cstring_to_text(reader.tag));
}

PG_FUNCTION_INFO_V1(supervisor_perform);
Datum
supervisor_perform(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;
	ExecuteArgs args;
	SupReader	reader = {0};
	Oid			role;

	sup_require_preload();
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("supervisor.perform() cannot end this transaction"),
				 errhint("Call it outside of a transaction block.")));

	/*
	 * Arguments and rights first: nothing is committed for a call that can't
	 * be, and a toasted argument can't be read without a snapshot.
	 */
	execute_args(fcinfo, &args);

	role = GetUserId();
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	if (GetUserId() != role)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot run a command as a role that was set for the ended transaction only"),
				 errdetail("The current role was \"%s\", and is \"%s\" now.",
						   sup_role_name(role), sup_role_name(GetUserId())),
				 errhint("Use SET ROLE instead of SET LOCAL ROLE.")));
	execute(&args, &reader);
	SPI_finish();
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(supervisor_launch);
Datum
supervisor_launch(PG_FUNCTION_ARGS)
{
	char	   *command;
	char	  **params = NULL;
	int			nparams;
	char	   *pool;
	SupTaskRef	ref;

	sup_require_preload();
	command = command_arg(fcinfo, 0);
	nparams = text_array(fcinfo, 1, &params);
	pool = sup_text_arg(fcinfo, 2, "pool");
	sup_task_check_submitter(SUP_TASK_LAUNCH);
	submit_one(SUP_TASK_LAUNCH, command, nparams, params, pool, NULL,
			   runs_concurrently(command), &ref);
	PG_RETURN_INT64(ref.id);
}

/* A task that waits for older snapshots can't end while ours is waiting for it. */
static void
check_waitable(SupTaskRef *ref)
{
	if (sup_in_pool_worker())
		sup_task_check_submitter(SUP_TASK_RUN);
	if (ref->task->concurrently && sup_task_state(ref->task) <= SUP_TASK_RUNNING)
		refuse_concurrently();
}

static bool
task_has_ended(void *arg)
{
	return sup_task_state(((SupTaskRef *) arg)->task) > SUP_TASK_RUNNING;
}

PG_FUNCTION_INFO_V1(supervisor_wait);
Datum
supervisor_wait(PG_FUNCTION_ARGS)
{
	int64		id;
	TimestampTz deadline;
	SupTaskRef	ref;
	volatile bool ended = false;
	volatile SupTaskState state = SUP_TASK_FREE;

	sup_require_preload();
	id = task_arg(fcinfo, 0);
	deadline = sup_deadline_arg(fcinfo, 1);
	sup_task_of_session(id, &ref);
	sup_task_start_waiting(&ref, false);
	PG_TRY();
	{
		check_waitable(&ref);
		ended = sup_sleep_until(task_has_ended, &ref, deadline);
		state = sup_task_state(ref.task);
	}
	PG_FINALLY();
	{
		sup_task_stop_waiting(&ref);
	}
	PG_END_TRY();
	if (!ended)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(sup_task_state_names[state]));
}

PG_FUNCTION_INFO_V1(supervisor_result);
Datum
supervisor_result(PG_FUNCTION_ARGS)
{
	int64		id;
	SupTaskRef	ref;
	SupReader	reader = {0};
	SupInput   *input;

	sup_require_preload();
	id = task_arg(fcinfo, 0);
	begin_rows(fcinfo, &reader);
	sup_task_of_session(id, &ref);

	/* It stays ours and in its place from here on. */
	sup_task_start_waiting(&ref, true);
	PG_TRY();
	{
		check_waitable(&ref);
		input = sup_task_input(ref.task);
		if (input != NULL)
			reader.command = (char *) (input + 1);
		(void) sup_read_task(&reader, &ref, 0);
	}
	PG_CATCH();
	{
		/* What has been taken can't be read again. */
		if (reader.touched)
			sup_task_abandon(&ref);
		else
			sup_task_stop_waiting(&ref);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (reader.state != SUP_TASK_SUCCEEDED)
		sup_reader_raise(&reader);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(supervisor_forget);
Datum
supervisor_forget(PG_FUNCTION_ARGS)
{
	SupTaskRef	ref;

	sup_require_preload();
	sup_task_of_session(task_arg(fcinfo, 0), &ref);
	PG_RETURN_BOOL(sup_task_forget(&ref));
}

PG_FUNCTION_INFO_V1(supervisor_cancel);
Datum
supervisor_cancel(PG_FUNCTION_ARGS)
{
	int64		id;
	Oid			role;

	sup_require_preload();
	id = task_arg(fcinfo, 0);
	sup_task_check_id(id);
	if (!sup_task_role(id, &role))
		PG_RETURN_BOOL(false);
	if (!sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to cancel task %lld", (long long) id),
				 errdetail("Only a role that may signal backends of role \"%s\" may cancel its tasks.",
						   sup_role_name(role))));
	PG_RETURN_BOOL(sup_task_cancel(id));
}

/*
 * execute_all
 */

typedef struct Outcome
{
	char	   *tag;
	char	   *message;
	int			sqlstate;
} Outcome;

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
	SupGarbage	garbage[BATCH_STEP];
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
			sup_garbage_init(&garbage[ndone]);
			sup_task_release(task, &garbage[ndone]);
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

	/* First what nobody else would free. */
	for (int i = 0; i < ndone; i++)
		sup_garbage_free(&garbage[i]);
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
	const char *pool;
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
} Batch;

static void
check_in_time(const Batch *batch)
{
	CHECK_FOR_INTERRUPTS();
	if (batch->ended < batch->n && batch->deadline != 0 &&
		GetCurrentTimestamp() >= batch->deadline)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling tasks due to timeout")));
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
		bool		no_memory;

		if (batch->one_by_one)
			k = 1;
		for (int i = 0; i < k; i++)
		{
			resetStringInfo(&batch->inputs[i]);
			sup_task_pack(&batch->inputs[i], batch->commands[batch->submitted + i], NULL, -1, NULL,
						  batch->nsettings, &batch->settings);
		}

		/* Where nothing has been run yet, nothing gets lost by an error. */
		accepted = sup_task_submit(batch->pool, SUP_TASK_BATCH, k, batch->inputs, refs, false,
								   batch->submitted == 0, &no_memory);
		batch->one_by_one = accepted == 0 && inside == 0;
		if (batch->one_by_one)
		{
			check_in_time(batch);
			if (no_memory)
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

static void
run_batch(Batch *batch, ReturnSetInfo *rsinfo)
{
	SupSession *session = &Sup->sessions[sup_my_session()];
	SupSpin		spin = {0, &session->spinning};
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

		wait_start = GetCurrentTimestamp();
		if (!sup_spin_until(&spin, partner, batch_has_news, session))
			(void) sup_sleep_until(batch_has_news, session, batch->deadline);
		sup_spin_note(&spin, GetCurrentTimestamp() - wait_start);
		while (collect(batch->readers, batch->ordinals, batch->outcomes, &batch->ended, &partner))
			 /* the rest */ ;
		check_in_time(batch);
	}
	(void) put_outcomes(rsinfo, batch->outcomes, put, n);
	pfree(batch->readers);
	pfree(batch->ordinals);
	pfree(batch->outcomes);
}

PG_FUNCTION_INFO_V1(supervisor_execute_all);
Datum
supervisor_execute_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Batch		batch = {0};

	sup_require_preload();
	batch.n = text_array(fcinfo, 0, &batch.commands);
	if (batch.n < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("commands must not be null")));
	batch.pool = sup_text_arg(fcinfo, 1, "pool");
	batch.deadline = sup_deadline_arg(fcinfo, 2);
	for (int i = 0; i < batch.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sup_check_command(batch.commands[i]);
		if (runs_concurrently(batch.commands[i]))
			refuse_concurrently();
	}
	sup_task_check_submitter(SUP_TASK_BATCH);

	InitMaterializedSRF(fcinfo, 0);
	PG_TRY();
	{
		run_batch(&batch, rsinfo);
	}
	PG_CATCH();
	{
		sup_batch_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();

	return (Datum) 0;
}

/*
 * Control
 */

typedef struct Control
{
	int			slot;
	uint64		generation;		/* that is to go */
	bool		restart;		/* wait for a successor, too */
} Control;

/* Is what was asked for done?  Takes the lock. */
static bool
control_done(void *arg)
{
	const Control *c = arg;
	SupSlot    *slot = &Sup->slots[c->slot];
	bool		done;

	sup_lock();
	if (slot->generation == c->generation && !slot->exited)
		done = false;
	else if (!c->restart)
		done = slot->generation != c->generation || slot->exited;
	else
		done = slot->state == SUP_EMPTY ||
			(slot->generation != c->generation && slot->ready && slot->state != SUP_STARTING &&
			 (!slot->exited || (slot->kind == SUP_KIND_COMMAND && slot->exit_code == 0)));
	sup_unlock();
	return done;
}

static Datum
control_worker(FunctionCallInfo fcinfo, bool restart)
{
	Control		c;
	TimestampTz deadline;
	SupSlot    *slot;
	Oid			role = InvalidOid;
	bool		is_pool;
	bool		rests;
	bool		empty;
	bool		over;

	sup_require_preload();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("slot must not be null")));
	c.slot = PG_GETARG_INT32(0);
	c.restart = restart;
	deadline = sup_deadline_arg(fcinfo, 1);
	if (c.slot < 0 || c.slot >= sup_max_workers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("slot %d is out of range", c.slot),
				 errdetail("Slots are numbered from 0 to %d.", sup_max_workers - 1)));
	sup_await_supervisor();

	slot = &Sup->slots[c.slot];
	sup_lock();
	empty = slot->state == SUP_EMPTY;
	rests = slot->state == SUP_STOPPED || slot->state == SUP_FAILED;
	is_pool = slot->kind == SUP_KIND_POOL;
	if (!empty)
		role = sup_slot_role(slot);
	c.generation = slot->generation;
	sup_unlock();
	if (empty)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("slot %d is empty", c.slot)));
	if (!sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s worker in slot %d",
						restart ? "restart" : "terminate", c.slot),
				 OidIsValid(role) ?
				 errdetail("Only a role that may signal backends of role \"%s\" may do that.",
						   sup_role_name(role)) :
				 errdetail("The worker is unbound, and only a superuser may do that.")));
	if (rests)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker in slot %d is not running", c.slot),
				 errhint("Use supervisor.start_worker().")));

	sup_lock();
	/* the rights were checked for that process in that role */
	over = slot->generation != c.generation || slot->state == SUP_EMPTY ||
		(!PG_ARGISNULL(2) && slot->generation != (uint64) PG_GETARG_INT64(2));
	if (!over && sup_slot_role(slot) != role)
	{
		sup_unlock();
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("worker in slot %d has just been bound", c.slot),
				 errhint("Try again.")));
	}
	if (!over)
	{
		if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
			slot->restart_at = 0;	/* what is asked for is to try at once */
		else if (!restart)
			sup_ask_terminate(slot);
		else if (is_pool)
			sup_ask_leave(slot, SUP_LEAVE_RESTART);
		else
		{
			if (slot->leave == SUP_STAY)
				slot->leave = SUP_LEAVE_RESTART;
			sup_ask_terminate(slot);
		}
		sup_attend(slot);
	}
	sup_unlock();
	if (over)
		PG_RETURN_BOOL(false);

	if (sup_await_change(control_done, &c, deadline))
		PG_RETURN_BOOL(true);
	ereport(WARNING,
			(errmsg("worker in slot %d has not %s yet", c.slot, restart ? "restarted" : "ended"),
			 errdetail("The request stands.")));
	PG_RETURN_BOOL(false);
}

PG_FUNCTION_INFO_V1(supervisor_restart_worker);
Datum
supervisor_restart_worker(PG_FUNCTION_ARGS)
{
	return control_worker(fcinfo, true);
}

PG_FUNCTION_INFO_V1(supervisor_terminate_worker);
Datum
supervisor_terminate_worker(PG_FUNCTION_ARGS)
{
	return control_worker(fcinfo, false);
}

/* Those that are to go, plus 1; 0 is none. */
typedef struct PoolRestart
{
	const char *name;
	uint64	   *generations;
} PoolRestart;

/* Are all the pool's processes newer than that, and ready?  Takes the lock. */
static bool
pool_restarted(void *arg)
{
	const PoolRestart *restart = arg;
	SupPool    *pool;
	bool		done = true;

	sup_lock();
	pool = sup_pool_by_name(restart->name);
	for (int i = 0; i < sup_max_workers && pool != NULL && done; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (restart->generations[i] == 0 || slot->state == SUP_EMPTY || slot->state == SUP_STUCK)
			continue;
		done = slot->generation + 1 != restart->generations[i] && slot->ready && !slot->exited;
	}
	sup_unlock();
	return done;
}

PG_FUNCTION_INFO_V1(supervisor_restart_pool);
Datum
supervisor_restart_pool(PG_FUNCTION_ARGS)
{
	PoolRestart restart;
	TimestampTz deadline;
	SupPool    *pool;
	dlist_iter	iter;

	sup_require_preload();
	restart.name = sup_text_arg(fcinfo, 0, "pool");
	deadline = sup_deadline_arg(fcinfo, 1);
	sup_await_supervisor();
	restart.generations = palloc0(sizeof(uint64) * sup_max_workers);

	sup_lock();
	pool = sup_pool_by_name(restart.name);
	if (pool == NULL || pool->removed)
	{
		sup_unlock();
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pool \"%s\" does not exist", restart.name),
				 errhint("Pools are named by \"supervisor.pools\".")));
	}
	dlist_foreach(iter, &pool->slots)
	{
		SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

		if (slot->state == SUP_STUCK || slot->surplus)
			continue;
		restart.generations[sup_slot_index(slot)] = slot->generation + 1;
		slot->roll = true;
	}
	sup_attend_pool(pool);
	sup_unlock();

	if (sup_await_change(pool_restarted, &restart, deadline))
		PG_RETURN_BOOL(true);
	ereport(WARNING,
			(errmsg("not all workers of pool \"%s\" have restarted yet", restart.name),
			 errdetail("The request stands.")));
	PG_RETURN_BOOL(false);
}

/*
 * Views.  Everything is copied under the lock, and made into rows after it.
 */

/*
 * Text that may have been cut in the middle of a character, and may come from
 * a database of another encoding.
 */
static Datum
clipped_text(const char *string, int len, bool *isnull)
{
	text	   *result;

	len = pg_encoding_mbcliplen(GetDatabaseEncoding(), string, len, len);
	result = cstring_to_text_with_len(string, len);
	if (!pg_verify_mbstr(GetDatabaseEncoding(), string, len, true))
		for (int i = 0; i < len; i++)
			if (IS_HIGHBIT_SET(string[i]))
				VARDATA(result)[i] = '?';
	*isnull = false;
	return PointerGetDatum(result);
}

static Datum
text_or_null(const char *string, bool *isnull)
{
	*isnull = string == NULL || string[0] == '\0';
	return *isnull ? (Datum) 0 : clipped_text(string, strlen(string), isnull);
}

static Datum
time_or_null(TimestampTz t, bool *isnull)
{
	*isnull = t == 0;
	return TimestampTzGetDatum(t);
}

static Datum
oid_or_null(Oid oid, bool *isnull)
{
	*isnull = !OidIsValid(oid);
	return ObjectIdGetDatum(oid);
}

/* The beginning of a task's command, as far as it is in the entry. */
static int
command_head(const SupTask *task, char *head)
{
	const SupInput *input = (const SupInput *) task->head;
	int			room = Min(task->in_len, SUP_INLINE) - (int) sizeof(SupInput);
	int			len = Max(Min(input->command_len, room), 0);

	memcpy(head, input + 1, len);
	return len;
}

#define WORKER_COLS 27

/* What a row of worker_status needs beside its slot. */
typedef struct WorkerRow
{
	SupSlot		slot;
	SupKind		kind;
	char		name[NAMEDATALEN];
	Oid			role;			/* whose rights it has */
	Oid			datid;			/* where it is, or will be */
	Oid			userid;
	uint64		task;
	int			command_len;	/* -1: there is none */
	char		command[SUP_INLINE];
} WorkerRow;

/* Nobody shall have to wait for the lock until all of them are copied. */
#define ROWS_PER_LOCK 16

static const char *const kind_names[] = {
	[SUP_KIND_POOL] = "pool",
	[SUP_KIND_COMMAND] = "command",
	[SUP_KIND_LIBRARY] = "library",
	[SUP_KIND_LOADER] = "loader"
};

/* Copy what is to be known of a worker.  The caller holds the lock. */
static void
copy_worker(WorkerRow *row, const SupSlot *slot)
{
	uint32		t = pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &slot->task));

	row->slot = *slot;
	row->kind = slot->kind;
	strlcpy(row->name, sup_slot_name(slot), NAMEDATALEN);
	row->role = sup_slot_role(slot);
	row->datid = slot->database;
	row->userid = slot->role;
	row->task = 0;
	row->command_len = -1;
	if (slot->kind == SUP_KIND_COMMAND)
	{
		const SupDeclaration *d = &Sup->declarations[slot->declaration];

		row->datid = d->database;
		row->role = row->userid = d->program.role;
		row->command_len = d->program.command_len;
		memcpy(row->command, d->program.command, row->command_len);
	}
	else if (slot->kind == SUP_KIND_LIBRARY)
	{
		/* where it has connected to, or else where its row is */
		row->datid = slot->proc != NULL ? slot->proc->databaseId : InvalidOid;
		if (!OidIsValid(row->datid))
			row->datid = Sup->declarations[slot->declaration].database;
		row->userid = slot->proc != NULL ? slot->proc->roleId : InvalidOid;
	}
	else if (t != 0)
	{
		row->task = Sup->tasks[t - 1].id;
		row->command_len = command_head(&Sup->tasks[t - 1], row->command);
	}
}

static void
put_worker(ReturnSetInfo *rsinfo, const WorkerRow *row, int index)
{
	const SupSlot *slot = &row->slot;
	Datum		values[WORKER_COLS] = {0};
	bool		nulls[WORKER_COLS] = {0};
	bool		is_pool = row->kind == SUP_KIND_POOL;
	const char *activity = NULL;

	if (slot->state == SUP_RUNNING && !slot->exited && is_pool)
		activity = row->task != 0 ? "busy" : slot->binding < 0 ? "unbound" : "idle";
	else if (slot->state == SUP_RUNNING && !slot->exited && row->kind == SUP_KIND_COMMAND)
		activity = slot->runs ? "busy" : "idle";

	nulls[0] = row->kind == SUP_KIND_LOADER;	/* it is not one of those that are
												 * counted */
	values[0] = Int32GetDatum(index);
	values[1] = Int64GetDatum(slot->generation);
	values[2] = text_or_null(row->name, &nulls[2]);
	values[3] = Int32GetDatum(slot->instance);
	values[4] = CStringGetTextDatum(kind_names[row->kind]);
	values[5] = text_or_null(is_pool ? row->name : NULL, &nulls[5]);
	nulls[6] = slot->pid == 0;
	values[6] = Int32GetDatum(slot->pid);
	values[7] = oid_or_null(row->datid, &nulls[7]);
	values[8] = oid_or_null(row->userid, &nulls[8]);
	values[9] = CStringGetTextDatum(sup_state_names[slot->state]);
	values[10] = text_or_null(activity, &nulls[10]);
	values[11] = text_or_null(sup_reason_names[slot->reason], &nulls[11]);
	values[12] = text_or_null(!OidIsValid(slot->last_role) || sup_may_see(slot->last_role) ?
							  slot->detail : NULL, &nulls[12]);
	values[13] = time_or_null(slot->started_at, &nulls[13]);
	values[14] = time_or_null(slot->state_since, &nulls[14]);
	values[15] = Int64GetDatum(slot->restarts);
	values[16] = Int32GetDatum(slot->history.consecutive_failures);
	values[17] = time_or_null(slot->restart_at == DT_NOEND ? 0 : slot->restart_at, &nulls[17]);
	values[18] = time_or_null(slot->last_exit_at, &nulls[18]);
	nulls[19] = slot->last_exit_at == 0 || slot->last_exit_code < 0;
	values[19] = Int32GetDatum(slot->last_exit_code);
	values[20] = text_or_null(slot->last_sqlstate ? unpack_sql_state(slot->last_sqlstate) : NULL, &nulls[20]);
	values[21] = text_or_null(sup_may_see(slot->last_role) ? slot->last_error : NULL, &nulls[21]);
	values[22] = Int64GetDatum(slot->tasks_succeeded);
	values[23] = Int64GetDatum(slot->tasks_failed);
	values[24] = Int64GetDatum(slot->tasks_canceled);
	nulls[22] = nulls[23] = nulls[24] = !is_pool;
	nulls[25] = row->task == 0;
	values[25] = Int64GetDatum(row->task);
	nulls[26] = row->command_len < 0;
	if (!nulls[26] && sup_may_see(row->role))
		values[26] = clipped_text(row->command, row->command_len, &nulls[26]);
	else if (!nulls[26])
		values[26] = CStringGetTextDatum("<insufficient privilege>");
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* One that has no slot. */
static void
put_slotless(ReturnSetInfo *rsinfo, const WorkerRow *row)
{
	const SupSlot *slot = &row->slot;
	Datum		values[WORKER_COLS] = {0};
	bool		nulls[WORKER_COLS];

	memset(nulls, true, sizeof(nulls));
	values[2] = text_or_null(row->name, &nulls[2]);
	nulls[3] = slot->instance == 0;
	values[3] = Int32GetDatum(slot->instance);
	values[4] = CStringGetTextDatum(kind_names[row->kind]);
	values[5] = text_or_null(row->kind == SUP_KIND_POOL ? row->name : NULL, &nulls[5]);
	values[7] = oid_or_null(row->datid, &nulls[7]);
	values[8] = oid_or_null(row->userid, &nulls[8]);
	values[9] = CStringGetTextDatum(sup_state_names[slot->state]);
	values[11] = text_or_null(sup_reason_names[slot->reason], &nulls[11]);
	values[12] = text_or_null(slot->detail, &nulls[12]);
	nulls[4] = nulls[9] = false;
	if (row->command_len >= 0 && sup_may_see(row->role))
		values[26] = clipped_text(row->command, row->command_len, &nulls[26]);
	else if (row->command_len >= 0)
	{
		nulls[26] = false;
		values[26] = CStringGetTextDatum("<insufficient privilege>");
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Fill in what a declaration's instances without a slot have in common, and which have one. */
static void
copy_slotless(WorkerRow *row, const SupDeclaration *d, bool *has_slot)
{
	SupSlot    *slot = &row->slot;
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &d->slots))
		has_slot[dlist_container(SupSlot, owner_node, iter.cur)->instance] = true;
	memset(slot, 0, sizeof(SupSlot));
	strlcpy(row->name, d->name, NAMEDATALEN);
	row->kind = d->program.kind;
	row->role = row->userid = d->program.role;
	row->datid = d->database;
	row->command_len = -1;
	if (row->kind == SUP_KIND_COMMAND)
	{
		row->command_len = d->program.command_len;
		memcpy(row->command, d->program.command, row->command_len);
	}
	slot->state = SUP_WAITING;
	if (!sup_start_workers || !d->terms.enabled)
	{
		slot->state = SUP_STOPPED;
		slot->reason = SUP_DISABLED;
		strlcpy(slot->detail, sup_start_workers ? "it is not enabled" :
				"supervisor.start_workers is off", sizeof(slot->detail));
	}
	else if (d->bad != SUP_NO_REASON)
	{
		if (d->bad == SUP_INVALID)
			slot->state = SUP_FAILED;
		slot->reason = d->bad;
		strlcpy(slot->detail, d->bad_detail, sizeof(slot->detail));
	}
	else
	{
		slot->reason = SUP_NO_SLOT;
		strlcpy(slot->detail, "all slots are taken: see supervisor.max_workers", sizeof(slot->detail));
	}
}

PG_FUNCTION_INFO_V1(supervisor_get_workers);
Datum
supervisor_get_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerRow	row;

	sup_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	/* One by one: nobody shall have to wait for all of them. */
	for (int i = 0; i < sup_nslots(); i++)
	{
		bool		empty;

		CHECK_FOR_INTERRUPTS();
		sup_lock();
		empty = Sup->slots[i].state == SUP_EMPTY;
		if (!empty)
			copy_worker(&row, &Sup->slots[i]);
		sup_unlock();
		if (!empty)
			put_worker(rsinfo, &row, i);
	}

	/* Those for which there is no slot. */
	for (int p = 0; p < SUP_MAX_POOLS; p++)
	{
		int			n;

		memset(&row, 0, sizeof(row));
		row.command_len = -1;
		row.slot.state = SUP_WAITING;
		row.slot.reason = SUP_NO_SLOT;
		strlcpy(row.slot.detail, "all slots are taken: see supervisor.max_workers", SUP_MESSAGE);
		sup_lock();
		strlcpy(row.name, Sup->pools[p].name, NAMEDATALEN);
		n = row.name[0] != '\0' ? Sup->pools[p].no_slot : 0;
		sup_unlock();
		while (n-- > 0)
			put_slotless(rsinfo, &row);
	}
	for (int i = 0; i < Sup->ndeclarations; i++)
	{
		const SupDeclaration *d = &Sup->declarations[i];
		bool		has_slot[SUP_MAX_WORKERS + 1] = {false};
		int			instances = 0;

		CHECK_FOR_INTERRUPTS();
		sup_lock();
		if (Sup->declaration_keys[i] != 0 && !d->gone)
		{
			instances = d->terms.instances;
			copy_slotless(&row, d, has_slot);
		}
		sup_unlock();
		for (int instance = 1; instance <= instances; instance++)
		{
			row.slot.instance = instance;
			if (!has_slot[instance])
				put_slotless(rsinfo, &row);
		}
	}
	return (Datum) 0;
}

#define POOL_COLS 10

PG_FUNCTION_INFO_V1(supervisor_get_pools);
Datum
supervisor_get_pools(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SupPool    *pools;
	int			(*counts)[3];

	sup_require_preload();
	pools = palloc(sizeof(SupPool) * SUP_MAX_POOLS);
	counts = palloc0(sizeof(int) * 3 * SUP_MAX_POOLS);

	sup_lock();
	memcpy(pools, Sup->pools, sizeof(SupPool) * SUP_MAX_POOLS);
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
		if ((slot->state != SUP_STARTING && slot->state != SUP_RUNNING) ||
			slot->kind != SUP_KIND_POOL || !slot->ready || slot->leaving)
			continue;
		if (pg_atomic_read_u32(&slot->task) != 0)
			counts[slot->pool][2]++;
		else
			counts[slot->pool][slot->binding < 0 ? 0 : 1]++;
	}
	sup_unlock();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < SUP_MAX_POOLS; i++)
	{
		Datum		values[POOL_COLS];
		bool		nulls[POOL_COLS] = {0};

		if (pools[i].name[0] == '\0')
			continue;
		values[0] = CStringGetTextDatum(pools[i].name);
		values[1] = Int32GetDatum(pools[i].size);
		values[2] = Int32GetDatum(counts[i][0] + counts[i][1] + counts[i][2]);
		values[3] = Int32GetDatum(counts[i][0]);
		values[4] = Int32GetDatum(counts[i][1]);
		values[5] = Int32GetDatum(counts[i][2]);
		values[6] = Int32GetDatum(pools[i].nqueued);
		values[7] = Int64GetDatum(pools[i].tasks_succeeded);
		values[8] = Int64GetDatum(pools[i].tasks_failed);
		values[9] = Int64GetDatum(pools[i].tasks_canceled);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define TASK_COLS 13

/* What a row of task_status needs. */
typedef struct TaskRow
{
	uint64		id;
	char		pool[NAMEDATALEN];
	Oid			database;
	Oid			role;
	int			owner_pid;
	int			slot;
	SupTaskState state;
	int			sqlstate;
	char		message[SUP_MESSAGE];
	TimestampTz submitted_at;
	TimestampTz started_at;
	TimestampTz finished_at;
	int			command_len;
	char		command[SUP_INLINE];
} TaskRow;

PG_FUNCTION_INFO_V1(supervisor_get_tasks);
Datum
supervisor_get_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TaskRow    *rows;
	int			n = 0;

	sup_require_preload();
	rows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(TaskRow) * sup_max_tasks);

	sup_lock();
	for (int i = 0; i < sup_max_tasks; i++)
	{
		SupTask    *task = &Sup->tasks[i];
		SupBinding *b;
		TaskRow    *row = &rows[n];

		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
		if (Sup->task_ids[i] == 0)
			continue;
		b = &Sup->bindings[task->binding];
		row->id = task->id;
		strlcpy(row->pool, Sup->pools[b->pool].name, NAMEDATALEN);
		row->database = b->database;
		row->role = b->role;
		row->owner_pid = task->owner >= 0 ? ProcGlobal->allProcs[task->owner].pid : 0;
		row->slot = task->slot;
		row->state = sup_task_state(task);
		/* the worker may be writing them until then */
		row->sqlstate = row->state > SUP_TASK_RUNNING ? task->sqlstate : 0;
		strlcpy(row->message, row->state > SUP_TASK_RUNNING ? task->message : "", SUP_MESSAGE);
		row->submitted_at = task->submitted_at;
		row->started_at = task->started_at;
		row->finished_at = task->finished_at;
		row->command_len = command_head(task, row->command);
		n++;
	}
	sup_unlock();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		TaskRow    *row = &rows[i];
		Datum		values[TASK_COLS];
		bool		nulls[TASK_COLS] = {0};
		bool		visible = sup_may_see(row->role);

		values[0] = Int64GetDatum(row->id);
		values[1] = CStringGetTextDatum(row->pool);
		values[2] = ObjectIdGetDatum(row->database);
		values[3] = ObjectIdGetDatum(row->role);
		nulls[4] = row->owner_pid == 0;
		values[4] = Int32GetDatum(row->owner_pid);
		nulls[5] = row->slot < 0;
		values[5] = Int32GetDatum(row->slot);
		values[6] = CStringGetTextDatum(sup_task_state_names[row->state]);
		values[7] = text_or_null(row->sqlstate ? unpack_sql_state(row->sqlstate) : NULL, &nulls[7]);
		values[8] = text_or_null(visible ? row->message : NULL, &nulls[8]);
		values[9] = TimestampTzGetDatum(row->submitted_at);
		values[10] = time_or_null(row->started_at, &nulls[10]);
		values[11] = time_or_null(row->finished_at, &nulls[11]);
		if (visible)
			values[12] = clipped_text(row->command, row->command_len, &nulls[12]);
		else
			values[12] = CStringGetTextDatum("<insufficient privilege>");
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define EVENT_COLS 8

static int
compare_events(const void *a, const void *b)
{
	int64		x = ((const SupEvent *) a)->id;
	int64		y = ((const SupEvent *) b)->id;

	return x < y ? -1 : x > y ? 1 : 0;
}

/* Copy the events that there are now, in order; returns how many. */
static int
copy_events(SupEvent *events)
{
	int			n = 0;
	int64		last;

	sup_lock();
	last = Sup->last_event_id;
	for (int i = 0; i < SUP_EVENTS; i++)
	{
		/* not those that have come since, of which we would see some */
		if (Sup->events[i].id != 0 && Sup->events[i].id <= last)
			events[n++] = Sup->events[i];
		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
	}
	sup_unlock();
	qsort(events, n, sizeof(SupEvent), compare_events);
	return n;
}

PG_FUNCTION_INFO_V1(supervisor_get_events);
Datum
supervisor_get_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SupEvent   *events;
	int			n;

	sup_require_preload();
	events = palloc(sizeof(SupEvent) * SUP_EVENTS);
	n = copy_events(events);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		SupEvent   *e = &events[i];
		Datum		values[EVENT_COLS];
		bool		nulls[EVENT_COLS] = {0};

		values[0] = Int64GetDatum(e->id);
		values[1] = TimestampTzGetDatum(e->at);
		nulls[2] = nulls[3] = e->slot < 0;
		values[2] = Int32GetDatum(e->slot);
		values[3] = Int64GetDatum(e->generation);
		values[4] = text_or_null(e->name, &nulls[4]);
		nulls[5] = e->pid == 0;
		values[5] = Int32GetDatum(e->pid);
		values[6] = CStringGetTextDatum(e->event);
		values[7] = text_or_null(!OidIsValid(e->role) || sup_may_see(e->role) ? e->detail : NULL,
								 &nulls[7]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
