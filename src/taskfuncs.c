/*-------------------------------------------------------------------------
 *
 * taskfuncs.c
 *	  The SQL functions about single tasks.
 *
 * They check their arguments and rights, submit, wait and read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

#include "args.h"
#include "compat.h"
#include "members.h"
#include "read.h"
#include "rights.h"
#include "room.h"
#include "settings.h"
#include "state.h"
#include "submit.h"
#include "task.h"
#include "wait.h"

/* A command.  Raises 22004 if it is NULL, and 22023 if it is empty. */
static char *
command_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *command = PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));

	sup_check_command(command);
	return command;
}

/* The id of a task.  Raises 22004 if it is NULL. */
static int64
task_arg(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task must not be null")));
	return PG_GETARG_INT64(n);
}

/* Submit a task with what this session has SET; an error if it can't be. */
static void
submit_one(const SupSubmission *submission, const char *command, int nparams, char **params,
		   TupleDesc columns, SupTaskRef *ref)
{
	StringInfoData input;
	StringInfoData settings;
	int			nsettings;
	SupLack		lack;

	initStringInfo(&settings);
	nsettings = sup_settings_collect(&settings);
	initStringInfo(&input);
	sup_task_pack(&input, command, columns, nparams, params, nsettings, &settings);
	if (submission->kind == SUP_TASK_LAUNCH)
		sup_task_launch(submission, &input, ref);
	else if (sup_task_submit(submission, 1, &input, ref, &lack) == 0)
		sup_refuse_task(lack);
	pfree(input.data);
	pfree(settings.data);
}

/*
 * Read a task to its end.  It is canceled after any error, and at the
 * deadline, where 57014 is raised.
 */
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
		sup_task_abandon(ref, SUP_CANCEL_CALL);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!in_time)
	{
		sup_task_abandon(ref, SUP_CANCEL_TIMEOUT);
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

/* supervisor.run(command, params, pool, timeout): the rows of the command */
PG_FUNCTION_INFO_V1(supervisor_run);
Datum
supervisor_run(PG_FUNCTION_ARGS)
{
	char	   *command;
	char	  **params = NULL;
	int			nparams;
	SupSubmission submission = {0};
	TimestampTz deadline;
	SupReader	reader = {0};
	SupTaskRef	ref;

	sup_require_preload();
	command = command_arg(fcinfo, 0);
	nparams = sup_text_array_arg(fcinfo, 1, &params);
	submission.pool = sup_pool_arg(fcinfo, 2);
	submission.kind = SUP_TASK_RUN;
	deadline = sup_deadline_arg(fcinfo, 3);
	begin_rows(fcinfo, &reader);
	sup_task_check_submitter(SUP_TASK_RUN);
	if (sup_runs_concurrently(command))
		sup_refuse_concurrently();

	reader.command = command;
	submit_one(&submission, command, nparams, params, reader.columns, &ref);
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
	SupSubmission submission;
	TimestampTz deadline;
} ExecuteArgs;

/* Get the arguments, and check that the caller may submit a task. */
static void
execute_args(FunctionCallInfo fcinfo, ExecuteArgs *args)
{
	args->command = command_arg(fcinfo, 0);
	args->nparams = sup_text_array_arg(fcinfo, 1, &args->params);
	args->submission.pool = sup_pool_arg(fcinfo, 2);
	args->submission.kind = SUP_TASK_EXECUTE;
	args->deadline = sup_deadline_arg(fcinfo, 3);
	sup_task_check_submitter(SUP_TASK_EXECUTE);
}

/* Run the command.  Raises its error, or leaves its tag in the reader. */
static void
execute(const ExecuteArgs *args, SupReader *reader)
{
	SupTaskRef	ref;

	reader->command = args->command;
	submit_one(&args->submission, args->command, args->nparams, args->params, NULL, &ref);
	read_or_cancel(reader, &ref, args->deadline);
	if (reader->state != SUP_TASK_SUCCEEDED)
		sup_reader_raise(reader);
}

/* supervisor.execute(command, params, pool, timeout): the command's tag */
PG_FUNCTION_INFO_V1(supervisor_execute);
Datum
supervisor_execute(PG_FUNCTION_ARGS)
{
	ExecuteArgs args = {0};
	SupReader	reader = {0};

	sup_require_preload();
	execute_args(fcinfo, &args);
	if (sup_runs_concurrently(args.command))
		sup_refuse_concurrently();
	execute(&args, &reader);
	PG_RETURN_TEXT_P(cstring_to_text(reader.tag));
}

/*
 * supervisor.perform(command, params, pool, timeout): commit, so that no
 * snapshot is held, and run the command.  Raises 2D000 if this transaction
 * can't be committed here.
 */
PG_FUNCTION_INFO_V1(supervisor_perform);
Datum
supervisor_perform(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;
	ExecuteArgs args = {0};
	SupReader	reader = {0};
	Oid			role;

	sup_require_preload();
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("supervisor.perform() cannot end this transaction"),
				 errhint("Call it outside of a transaction block, and not in a function or in a procedure with SET or SECURITY DEFINER.")));

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

/* supervisor.launch(command, params, pool, timeout): the id of its task */
PG_FUNCTION_INFO_V1(supervisor_launch);
Datum
supervisor_launch(PG_FUNCTION_ARGS)
{
	char	   *command;
	char	  **params = NULL;
	int			nparams;
	SupSubmission submission = {0};
	SupTaskRef	ref;

	sup_require_preload();
	command = command_arg(fcinfo, 0);
	nparams = sup_text_array_arg(fcinfo, 1, &params);
	submission.pool = sup_pool_arg(fcinfo, 2);
	submission.kind = SUP_TASK_LAUNCH;
	submission.deadline = sup_deadline_arg(fcinfo, 3);
	sup_task_check_submitter(SUP_TASK_LAUNCH);
	submission.concurrently = sup_runs_concurrently(command);
	submit_one(&submission, command, nparams, params, NULL, &ref);
	PG_RETURN_INT64(ref.id);
}

/* A task may not wait for a task, nor may a parallel worker: its leader has the locks. */
static void
check_may_wait(void)
{
	if (sup_in_pool_worker())
		sup_task_check_submitter(SUP_TASK_RUN);
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot wait for a task during a parallel operation")));
}

/* For sup_sleep_until().  While it waits, the task's entry stays its own. */
static bool
task_has_ended(void *arg)
{
	return sup_task_state(((SupTaskRef *) arg)->task) > SUP_TASK_RUNNING;
}

/* supervisor.wait(task, timeout): its final state; NULL if time ran out */
PG_FUNCTION_INFO_V1(supervisor_wait);
Datum
supervisor_wait(PG_FUNCTION_ARGS)
{
	int64		id;
	TimestampTz deadline;
	SupTaskRef	ref;
	Oid			role;
	bool		for_snapshot;
	volatile SupTaskState state;

	sup_require_preload();
	id = task_arg(fcinfo, 0);
	deadline = sup_deadline_arg(fcinfo, 1);
	check_may_wait();
	sup_task_check_id(id);
	if (sup_task_role(id, &role) != SUP_TASK_FREE && !sup_may_see(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to wait for task %lld", (long long) id),
				 errdetail("Only a role with the privileges of role \"%s\", or of pg_read_all_stats, may wait for its tasks.",
						   sup_role_name(role))));
	state = sup_task_start_waiting(id, &ref, &for_snapshot);
	if (state <= SUP_TASK_RUNNING)
	{
		PG_TRY();
		{
			if (for_snapshot)
				sup_refuse_concurrently();
			(void) sup_sleep_until(task_has_ended, &ref, deadline, &ref.task->ended);
			state = sup_task_state(ref.task);
		}
		PG_FINALLY();
		{
			sup_task_stop_waiting();
		}
		PG_END_TRY();
	}
	if (state <= SUP_TASK_RUNNING)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(sup_task_state_names[state]));
}

/*
 * supervisor.result(task): the rows of a launched task.  They can be read
 * once, but again after an error that came before any of them was taken.
 */
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
	sup_task_start_reading(&ref);
	PG_TRY();
	{
		check_may_wait();
		/* what waits for older snapshots can't end while ours waits for it */
		if (ref.task->concurrently && sup_task_state(ref.task) <= SUP_TASK_RUNNING)
			sup_refuse_concurrently();
		input = sup_task_input(ref.task);
		if (input != NULL)
			reader.command = (char *) (input + 1);
		(void) sup_read_task(&reader, &ref, 0);
	}
	PG_CATCH();
	{
		/* What has been taken can't be read again. */
		if (reader.touched)
			sup_task_abandon(&ref, SUP_CANCEL_CALL);
		else
			sup_task_stop_reading(&ref);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (reader.state != SUP_TASK_SUCCEEDED)
		sup_reader_raise(&reader);
	return (Datum) 0;
}

/* supervisor.forget(task): true if it is still queued or running */
PG_FUNCTION_INFO_V1(supervisor_forget);
Datum
supervisor_forget(PG_FUNCTION_ARGS)
{
	SupTaskRef	ref;

	sup_require_preload();
	sup_task_of_session(task_arg(fcinfo, 0), &ref);
	PG_RETURN_BOOL(sup_task_forget(&ref));
}

/* supervisor.cancel(task): true if it was queued or running */
PG_FUNCTION_INFO_V1(supervisor_cancel);
Datum
supervisor_cancel(PG_FUNCTION_ARGS)
{
	int64		id;
	SupTaskState state;
	Oid			role;

	sup_require_preload();
	id = task_arg(fcinfo, 0);
	sup_task_check_id(id);
	state = sup_task_role(id, &role);
	if (state != SUP_TASK_QUEUED && state != SUP_TASK_RUNNING)
		PG_RETURN_BOOL(false);
	if (!sup_may_signal(role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to cancel task %lld", (long long) id),
				 errdetail("Only a role that may signal backends of role \"%s\" may cancel its tasks.",
						   sup_role_name(role))));
	PG_RETURN_BOOL(sup_task_cancel(id));
}
