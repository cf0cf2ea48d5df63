/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Notes in the tables what has come of the run of a job.
 *
 * Which row it is is known by its id, not by where it was: the job may have
 * changed it, or VACUUM FULL has moved it.  Nothing here asks what the current
 * role may do, nor whether the transaction is read only, and nobody's code is
 * run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "args.h"
#include "compat.h"
#include "jobkey.h"
#include "recur.h"
#include "rights.h"
#include "settings.h"
#include "settle.h"

/* So many crashes of the server in a row, and it is not run any more. */
#define MAX_CRASHES			3

/* Before a job is tried again it waits for at most that, or for its first delay. */
#define LONGEST_DELAY_US	USECS_PER_HOUR
#define DEFAULT_DELAY_US	(10 * USECS_PER_SEC)

/* Whatever its delay is, after so many it waits for a second at least: else it filled the log. */
#define QUICK_RETRIES		20

/*
 * The table of the run, locked, and that of runs; false: it is gone, and with it
 * what there was to note.  One that is there, but is not to be believed, is an
 * error: never is anything committed without its note.
 */
static bool
lock_tables(const SupRun *run, Oid *history)
{
	const char *complaint;
	Oid			table = sup_trusted_lock_quick(&sup_job_table, &complaint);

	if (OidIsValid(table) && table != run->table)
		return false;			/* another, of which this is no job */
	if (OidIsValid(table))
		*history = sup_trusted_lock_quick(&sup_history_table, &complaint);
	else if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(run->table)))
		return false;
	if (!OidIsValid(table) || !OidIsValid(*history))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the run of job %lld cannot be noted", (long long) run->id),
				 complaint ? errdetail_internal("%s", complaint) : 0));
	return true;
}

/* The beginning of a text, in whole characters: it may have been cut within one. */
static Datum
kept_text(const char *text, bool *isnull)
{
	int			len = text ? strlen(text) : 0;

	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 :
		PointerGetDatum(cstring_to_text_with_len(text, pg_mbcliplen(text, len, Min(len, SUP_KEPT))));
}

/* The same of one that may be very long, and is not read to its end. */
static Datum
kept_beginning(Datum value, bool *isnull)
{
	text	   *beginning = DatumGetTextPSlice(value, 0, SUP_KEPT + MAX_MULTIBYTE_CHAR_LEN);

	return kept_text(text_to_cstring(beginning), isnull);
}

static const char *
state_of(SupEnd end)
{
	return end == SUP_RUN_SUCCEEDED ? "succeeded" : end == SUP_RUN_CANCELED ? "canceled" : "failed";
}

static int
attempts_of(const SupRun *run, const SupJobRow *row)
{
	return DatumGetInt32(row->values[SUP_JOB_ATTEMPTS]) + (run->counted ? 0 : 1);
}

/* A row for the history of a job that was 'row' when its run began, if that is known: it may be another by now. */
static void
note_run(Oid history, const SupRun *run, const SupJobRow *row, int attempt, SupEnd end, const char *tag)
{
	SupRunRow	note;
	Datum	   *values = note.values;

	memset(note.nulls, true, sizeof(note.nulls));
	memset(values, 0, sizeof(note.values));

#define COPY(to, from) \
	(values[to] = row->values[from], note.nulls[to] = row->nulls[from])
#define SET(to, value) \
	(values[to] = (value), note.nulls[to] = false)
#define SET_TEXT(to, text) \
	(values[to] = kept_text(text, &note.nulls[to]))

	COPY(SUP_RUN_JOB, SUP_JOB_ID);
	COPY(SUP_RUN_NAME, SUP_JOB_NAME);
	SET(SUP_RUN_ATTEMPT, Int32GetDatum(attempt));
	COPY(SUP_RUN_ROLE, SUP_JOB_ROLE);
	COPY(SUP_RUN_POOL, SUP_JOB_POOL);
	SET(SUP_RUN_STATE, CStringGetTextDatum(state_of(end)));
	SET_TEXT(SUP_RUN_TAG, end == SUP_RUN_SUCCEEDED ? tag : NULL);
	SET_TEXT(SUP_RUN_RESULT, end == SUP_RUN_SUCCEEDED ? run->result : NULL);
	if (end != SUP_RUN_SUCCEEDED && run->sqlstate != 0)
		SET(SUP_RUN_SQLSTATE, CStringGetTextDatum(unpack_sql_state(run->sqlstate)));
	SET_TEXT(SUP_RUN_MESSAGE, run->message);
	SET_TEXT(SUP_RUN_DETAIL, run->detail);
	SET_TEXT(SUP_RUN_CONTEXT, run->context);
	if (run->merged_into != 0)
		SET(SUP_RUN_MERGED_INTO, Int64GetDatum(run->merged_into));
	COPY(SUP_RUN_ENQUEUED_AT, SUP_JOB_ENQUEUED_AT);
	SET(SUP_RUN_RUN_AT, TimestampTzGetDatum(run->run_at));
	if (run->started_at != 0)
		SET(SUP_RUN_STARTED_AT, TimestampTzGetDatum(run->started_at));
	SET(SUP_RUN_FINISHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	if (run->pid != 0)
		SET(SUP_RUN_PID, Int32GetDatum(run->pid));
	values[SUP_RUN_COMMAND] = kept_beginning(row->values[SUP_JOB_COMMAND], &note.nulls[SUP_RUN_COMMAND]);
#undef COPY
#undef SET
#undef SET_TEXT
	sup_run_insert(history, &note);
}

/*
 * Identical jobs that waited before the command has read anything are done by that.  Of
 * one that somebody has changed since, or is about to, nobody knows.
 */
static void
note_merged(Oid history, const SupRun *run, const SupJobRow *row, const char *tag)
{
	int64		origin = run->nmerged > 0 ? sup_job_origin() : 0;
	MemoryContext context;
	MemoryContext oldcontext;
	SupJobRow	other;
	SupRun		merged;

	if (run->nmerged == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "supervisor row", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	for (int i = 0; i < run->nmerged; i++)
	{
		MemoryContextReset(context);
		if (!sup_job_lock_free(run->table, run->merged[i], &other) || !sup_job_may_run(&other, origin) ||
			!sup_key_is_identical(row, &other, GetCurrentTimestamp()))
			continue;
		merged = *run;
		merged.run_at = sup_job_spot(&other).run_at;
		merged.counted = false;
		merged.merged_into = run->id;
		note_run(history, &merged, &other, attempts_of(&merged, &other), SUP_RUN_SUCCEEDED, tag);
		sup_job_delete(run->table, &other);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/* Deferred constraints go first: what they raise is the job's, and what they do as well. */
static void
check_constraints(void)
{
	ConstraintsSetStmt *set = makeNode(ConstraintsSetStmt);

	set->deferred = false;
	AfterTriggerSetState(set);
	CommandCounterIncrement();
}

void
sup_settle_canceled(const SupRun *run, SupJobRow *row)
{
	Oid			history;

	PushActiveSnapshot(GetLatestSnapshot());	/* toast needs one */
	if (lock_tables(run, &history))
	{
		note_run(history, run, row, attempts_of(run, row), SUP_RUN_CANCELED, NULL);
		sup_job_delete(run->table, row);
	}
	PopActiveSnapshot();
	CommandCounterIncrement();
}

void
sup_own_lock_timeout(int lock_timeout)
{
	char		value[12];

	snprintf(value, sizeof(value), "%d", lock_timeout);
	(void) set_config_option("lock_timeout", value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
begin(int lock_timeout)
{
	sup_begin_own();
	sup_own_lock_timeout(lock_timeout);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * What follows
 */

/* Errors that come again however often it is tried. */
static bool
is_hopeless(int sqlstate)
{
	return sqlstate == ERRCODE_SYNTAX_ERROR || sqlstate == ERRCODE_ACTIVE_SQL_TRANSACTION ||
		sqlstate == ERRCODE_INVALID_TRANSACTION_TERMINATION;
}

/* How long a job waits after so many attempts that have failed. */
static int64
delay_after(const SupJobRow *row, int attempts)
{
	int64		first = row->nulls[SUP_JOB_RETRY_DELAY] ? DEFAULT_DELAY_US :
		sup_interval_us(DatumGetIntervalP(row->values[SUP_JOB_RETRY_DELAY]));
	int64		longest = Max(first, LONGEST_DELAY_US);
	int64		delay = first;

	for (int i = 1; i < attempts && delay > 0 && delay < longest; i++)
		delay *= 2;
	delay = Min(delay, longest);
	if (attempts > QUICK_RETRIES)
		delay = Max(delay, USECS_PER_SEC);
	return delay + (int64) (pg_prng_double(&pg_global_prng_state) * (delay / 4));
}

static bool
is_recurring(const SupJobRow *row)
{
	return !row->nulls[SUP_JOB_SCHEDULE];
}

/*
 * The next time of a recurring job, from now on.  One whose schedule makes no sense any
 * more, as a time zone may be gone, is failed, and one that is not enabled is held.
 */
static TimestampTz
set_next(const SupRun *run, SupJobRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	bool		enabled = DatumGetBool(row->values[SUP_JOB_ENABLED]);

	if (!sup_recur_next(row, run->started_at, now, &next))
	{
		sup_recur_fail(row);
		next = DT_NOEND;
	}
	else
	{
		sup_job_set(row, SUP_JOB_STATE, CharGetDatum('w'));
		row->nulls[SUP_JOB_REASON] = enabled;
		if (!enabled)
			sup_job_set(row, SUP_JOB_REASON, CStringGetTextDatum("disabled"));
	}
	sup_job_set(row, SUP_JOB_NEXT_AT, TimestampTzGetDatum(next));
	return enabled ? next : DT_NOEND;
}

/*
 * The run of a recurring job has ended, and the next one is at its next time; unless
 * somebody has asked for another meanwhile.
 */
static void
go_on_at(const SupRun *run, SupJobRow *row, TimestampTz next)
{
	TimestampTz run_at = DatumGetTimestampTz(row->values[SUP_JOB_RUN_AT]);

	if (run_at != run->run_at && run_at < next)
		next = run_at;
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(next));
	sup_job_set(row, SUP_JOB_ATTEMPTS, Int32GetDatum(0));
	sup_job_set(row, SUP_JOB_CRASHES, Int32GetDatum(0));
}

static void
go_on(const SupRun *run, SupJobRow *row)
{
	go_on_at(run, row, set_next(run, row));
}

/*
 * The job waits again, or has failed for good; true: it has.  Whoever has put it off
 * meanwhile has put it off.  Retries of a recurring job do not go past its next time,
 * when its attempts start over.
 */
static bool
decide(const SupRun *run, SupJobRow *row)
{
	int			attempts = attempts_of(run, row);
	bool		hopeless = is_hopeless(run->sqlstate);
	int			crashes = run->crashed ? DatumGetInt32(row->values[SUP_JOB_CRASHES]) + 1 : 0;
	bool		failed = hopeless || crashes >= MAX_CRASHES ||
		attempts >= DatumGetInt32(row->values[SUP_JOB_MAX_ATTEMPTS]);
	TimestampTz run_at = DatumGetTimestampTz(row->values[SUP_JOB_RUN_AT]);
	TimestampTz next = failed ? DT_NOEND : GetCurrentTimestamp() + delay_after(row, attempts);

	if (is_recurring(row) && crashes < MAX_CRASHES)
	{
		TimestampTz regular = set_next(run, row);

		if (failed || next >= regular || !DatumGetBool(row->values[SUP_JOB_ENABLED]) || regular == DT_NOEND)
		{
			go_on_at(run, row, regular);
			sup_job_set(row, SUP_JOB_CRASHES, Int32GetDatum(crashes));
			return failed;
		}
	}
	if (run_at != run->run_at)
		next = Max(next, run_at);
	sup_job_set(row, SUP_JOB_ATTEMPTS, Int32GetDatum(attempts));
	sup_job_set(row, SUP_JOB_CRASHES, Int32GetDatum(crashes));
	sup_job_set(row, SUP_JOB_RUN_AT, TimestampTzGetDatum(next));
	sup_job_set(row, SUP_JOB_STATE, CharGetDatum(failed ? 'f' : 'w'));
	sup_job_set(row, SUP_JOB_REASON, CStringGetTextDatum(!failed ? "retry" : crashes >= MAX_CRASHES ? "crashed" :
														 hopeless ? "hopeless" : "max_attempts"));
	return failed;
}

/* What the row says of the last run. */
static void
set_last(const SupRun *run, SupJobRow *row, SupEnd end)
{
	sup_job_set(row, SUP_JOB_RUNS, Int64GetDatum(run->runs + 1));
	sup_job_set(row, SUP_JOB_LAST_STARTED_AT, TimestampTzGetDatum(run->started_at));
	sup_job_set(row, SUP_JOB_LAST_FINISHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	sup_job_set(row, SUP_JOB_LAST_STATE, CStringGetTextDatum(state_of(end)));
	row->nulls[SUP_JOB_LAST_SQLSTATE] = run->sqlstate == 0;
	if (run->sqlstate != 0)
		sup_job_set(row, SUP_JOB_LAST_SQLSTATE, CStringGetTextDatum(unpack_sql_state(run->sqlstate)));
	row->values[SUP_JOB_LAST_ERROR] = kept_text(run->message, &row->nulls[SUP_JOB_LAST_ERROR]);
}

/* What is to be told of a job that waits. */
static void
tell(const SupJobRow *row, SupJobNote *note)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);

	sup_job_note_init(note, role, superuser_arg(role) ? InvalidOid : sup_account_of(role),
					  sup_job_text(row, SUP_JOB_POOL));
	note->first[DatumGetInt16(row->values[SUP_JOB_PRIORITY])] = sup_job_spot(row);
}

/* A job that has deleted itself has been run all the same. */
bool
sup_settle_success(const SupRun *run, const SupJobRow *row, const char *tag, SupJobNote *next, bool *found)
{
	SupJobRow	now;
	Oid			history;
	bool		waits = false;

	*found = false;
	check_constraints();
	PushActiveSnapshot(GetTransactionSnapshot());	/* toast needs one */
	if (lock_tables(run, &history))
	{
		*found = sup_job_lock(run->table, run->id, &now);
		note_run(history, run, row, attempts_of(run, *found ? &now : row), SUP_RUN_SUCCEEDED, tag);
		waits = *found && is_recurring(&now);
		if (waits)
		{
			go_on(run, &now);
			set_last(run, &now, SUP_RUN_SUCCEEDED);
			sup_job_update(run->table, &now);
			tell(&now, next);
		}
		else if (*found)
			sup_job_delete(run->table, &now);
		note_merged(history, run, row, tag);
	}
	PopActiveSnapshot();
	return waits;
}

/*
 * If more runs have ended than when this one began, this one has been noted.  Of a former life of
 * the server the job may be lost, if that was committed asynchronously, and its number be another's.
 */
static bool
is_that_run(const SupRun *run, const SupJobRow *row)
{
	return DatumGetInt64(row->values[SUP_JOB_RUNS]) == run->runs &&
		(run->enqueued_at == 0 || DatumGetTimestampTz(row->values[SUP_JOB_ENQUEUED_AT]) == run->enqueued_at);
}

static void
take_name(const SupJobRow *row, char *name)
{
	if (!row->nulls[SUP_JOB_NAME])
		strlcpy(name, sup_job_text(row, SUP_JOB_NAME), NAMEDATALEN);
}

/* One line for each job that has failed for good; its name may be empty. */
static void
report_failure(int64 id, const char *name, int sqlstate)
{
	if (name[0] != '\0')
		ereport(WARNING,
				(errmsg("job %lld \"%s\" has failed with SQLSTATE %s", (long long) id, name, unpack_sql_state(sqlstate))));
	else
		ereport(WARNING,
				(errmsg("job %lld has failed with SQLSTATE %s", (long long) id, unpack_sql_state(sqlstate))));
}

bool
sup_settle(SupRun *run, const SupJobRow *row, const char *tag, SupJobNote *next, int lock_timeout)
{
	SupJobRow	now;
	Oid			history;
	bool		waits = false;
	bool		failed = false;
	bool		found;
	char		name[NAMEDATALEN] = "";

	begin(lock_timeout);
	if (run->crashed)
		ForceSyncCommit();		/* the server may crash again */
	if (lock_tables(run, &history))
	{
		found = sup_job_lock(run->table, run->id, &now);
		if (!found && run->end == SUP_RUN_SUCCEEDED && row != NULL)
			note_run(history, run, row, attempts_of(run, row), run->end, tag);
		else if (found && is_that_run(run, &now))
		{
			if (run->claim != NULL && sup_claim_decide(run->claim) && run->end == SUP_RUN_FAILED)
				run->end = SUP_RUN_CANCELED;
			note_run(history, run, row != NULL ? row : &now, attempts_of(run, &now), run->end, tag);
			waits = run->end == SUP_RUN_FAILED || is_recurring(&now);
			if (run->end == SUP_RUN_FAILED)
				failed = decide(run, &now);
			else if (waits)
				go_on(run, &now);
			take_name(&now, name);
			if (waits)
			{
				set_last(run, &now, run->end);
				sup_job_update(run->table, &now);
			}
			else
				sup_job_delete(run->table, &now);
		}
		else
			waits = found;
		if (run->end == SUP_RUN_SUCCEEDED && row != NULL)
			note_merged(history, run, row, tag);
		if (waits)
			tell(&now, next);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	run->convicted = failed && run->crashed;
	if (failed)
		report_failure(run->id, name, run->sqlstate);
	return waits;
}

/*
 * The last attempt of a job was noted before, and its end was not: the server has crashed or was
 * stopped.  It is not tried once more; a recurring one goes on at its next time.  True: it has failed for good.
 */
static bool
note_last_attempt(Oid history, const SupRun *run, SupJobRow *row)
{
	Oid			role = DatumGetObjectId(row->values[SUP_JOB_ROLE]);
	SupRun		last = *run;
	bool		failed;

	last.end = SUP_RUN_FAILED;
	last.counted = true;
	last.pid = 0;
	last.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	last.message = "what has come of it is not known";
	last.detail = "The server has crashed or was stopped.";
	note_run(history, &last, row, attempts_of(&last, row), last.end, NULL);
	last.started_at = GetCurrentTimestamp();	/* for want of a better one */
	failed = decide(&last, row);
	set_last(&last, row, last.end);
	row->nulls[SUP_JOB_LAST_STARTED_AT] = true;
	sup_note_job(role, superuser_arg(role) ? InvalidOid : sup_account_of(role), sup_job_text(row, SUP_JOB_POOL),
				 DatumGetInt16(row->values[SUP_JOB_PRIORITY]), sup_job_spot(row));
	return failed;
}

bool
sup_settle_attempt(SupRun *run, SupJobRow *row, int lock_timeout)
{
	int64		origin;
	Oid			history;
	bool		runs = false;
	bool		failed = false;
	SupJobRow	now;
	char		name[NAMEDATALEN] = "";

	begin(lock_timeout);
	if (lock_tables(run, &history) && sup_job_lock(run->table, run->id, &now))
	{
		origin = sup_job_origin();
		runs = is_that_run(run, &now) && sup_job_may_run(&now, origin) &&
			DatumGetTimestampTz(now.values[SUP_JOB_RUN_AT]) == run->run_at;
	}
	if (runs)
	{
		int			attempts = DatumGetInt32(now.values[SUP_JOB_ATTEMPTS]);
		bool		over = attempts >= DatumGetInt32(now.values[SUP_JOB_MAX_ATTEMPTS]);

		take_name(&now, name);
		if (over)
			failed = note_last_attempt(history, run, &now);
		else
			sup_job_set(&now, SUP_JOB_ATTEMPTS, Int32GetDatum(attempts + 1));
		sup_job_update(run->table, &now);
		row->values[SUP_JOB_ATTEMPTS] = now.values[SUP_JOB_ATTEMPTS];
		run->counted = true;
		runs = !over;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (failed)
		report_failure(run->id, name, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
	return runs;
}

void
sup_settle_not_begun(const SupRun *run, int lock_timeout)
{
	Oid			history;
	SupJobRow	now;

	begin(lock_timeout);
	if (lock_tables(run, &history) && sup_job_lock(run->table, run->id, &now) && run->counted && is_that_run(run, &now))
	{
		sup_job_set(&now, SUP_JOB_ATTEMPTS, Int32GetDatum(Max(DatumGetInt32(now.values[SUP_JOB_ATTEMPTS]) - 1, 0)));
		sup_job_update(run->table, &now);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}
