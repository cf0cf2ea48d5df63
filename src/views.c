/*-------------------------------------------------------------------------
 *
 * views.c
 *	  The SQL functions behind the views.
 *
 * Everything is copied under the lock, and made into rows after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "args.h"
#include "binding.h"
#include "declaration.h"
#include "format.h"
#include "members.h"
#include "preloaded.h"
#include "rights.h"
#include "state.h"

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

/* An empty string becomes NULL, too. */
static Datum
text_or_null(const char *string, bool *isnull)
{
	*isnull = string == NULL || string[0] == '\0';
	return *isnull ? (Datum) 0 : clipped_text(string, strlen(string), isnull);
}

/* sup_clock_set(), as each function asks that returns times. */
static int64 clock_set;

/* 0, which stands for no time, becomes NULL. */
static Datum
time_or_null(TimestampTz t, bool *isnull)
{
	*isnull = t == 0;
	return TimestampTzGetDatum(t + clock_set);
}

/* In microseconds. */
static Datum
interval_of(int64 time)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = time;
	return IntervalPGetDatum(interval);
}

/* InvalidOid becomes NULL. */
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

#define WORKER_COLS 38

/* What a row of worker_status needs beside its slot. */
typedef struct WorkerRow
{
	SupSlot		slot;
	SupKind		kind;
	char		name[NAMEDATALEN];
	int			source;			/* SupSource; -1: it is not declared */
	Oid			declared_in;	/* in whose table; 0 */
	char		library[MAXPGPATH]; /* whose function it is; "" */
	Oid			role;			/* whose rights it has */
	Oid			datid;			/* where it is, or will be */
	Oid			userid;
	uint64		task;
	int			command_len;	/* -1: there is none */
	char		command[SUP_INLINE];
	int64		run_every;		/* microseconds; 0: that of no command, or it
								 * has none */
} WorkerRow;

/* Nobody shall have to wait for the lock until all of them are copied. */
#define ROWS_PER_LOCK 16
#define BINDINGS_PER_LOCK 512	/* of these a number is read */

static const char *const kind_names[] = {
	[SUP_KIND_POOL] = "pool",
	[SUP_KIND_COMMAND] = "command",
	[SUP_KIND_LIBRARY] = "library",
	[SUP_KIND_LOADER] = "loader"
};

static const char *const source_names[] = {
	[SUP_FROM_TABLE] = "table",
	[SUP_FROM_LIBRARY] = "library",
	[SUP_FROM_CALL] = "call",
	[SUP_FROM_SERVER] = "registration"
};

/* Whence a declared worker comes, what it runs, and as whom. */
static void
copy_declaration(WorkerRow *row, const SupDeclaration *d)
{
	row->source = d->source;
	row->declared_in = d->database;
	row->datid = d->program.kind == SUP_KIND_COMMAND ? d->database : InvalidOid;
	row->role = row->userid = d->program.role;
	row->command_len = -1;
	row->run_every = 0;
	strlcpy(row->library, d->program.library, sizeof(row->library));
	if (d->program.kind == SUP_KIND_COMMAND)
	{
		row->command_len = d->program.command_len;
		memcpy(row->command, d->program.command, row->command_len);
		row->run_every = d->program.run_every;
	}
}

/* Copy what is to be known of a worker.  The caller holds the lock. */
static void
copy_worker(WorkerRow *row, const SupSlot *slot)
{
	const SupTask *task = sup_slot_task(unconstify(SupSlot *, slot));
	const PGPROC *proc = sup_slot_proc(slot);

	row->slot = *slot;
	row->slot.last_error[SUP_MESSAGE - 1] = '\0';	/* it is a child's word */
	row->kind = slot->kind;
	strlcpy(row->name, sup_slot_name(slot), NAMEDATALEN);
	row->role = sup_slot_role(slot);
	row->datid = slot->database;
	row->userid = slot->role;
	row->task = 0;
	row->command_len = -1;
	row->run_every = 0;
	row->source = -1;
	row->declared_in = InvalidOid;
	row->library[0] = '\0';
	if (slot->declaration >= 0)
		copy_declaration(row, &Sup->declarations[slot->declaration]);
	if (slot->kind == SUP_KIND_LIBRARY)
	{
		/* where it has connected to, and as whom */
		row->role = sup_slot_role(slot);
		row->datid = proc != NULL ? proc->databaseId : InvalidOid;
		row->userid = proc != NULL ? proc->roleId : InvalidOid;
	}
	else if (task != NULL && task->kind != SUP_TASK_DRAIN)
	{
		row->task = task->id;
		row->command_len = command_head(task, row->command);
	}
}

/* When a command runs next; 0: that is not known, or it does not. */
static TimestampTz
next_run_of(const SupSlot *slot)
{
	if (slot->state == SUP_WAITING || slot->state == SUP_BACKOFF)
		return slot->restart_at == DT_NOEND ? 0 : Max(slot->restart_at, slot->next_run);
	return (slot->state == SUP_STARTING || slot->state == SUP_RUNNING) && slot->exited_at == 0 &&
		!slot->runs ? slot->next_run : 0;
}

/* The six columns about the runs of a command. */
static void
put_runs(const SupSlot *slot, Datum *values, bool *nulls)
{
	TimestampTz took = slot->last_run_end - slot->last_run_at;

	values[0] = Int64GetDatum(slot->runs_succeeded);
	values[1] = Int64GetDatum(slot->runs_failed);
	values[2] = time_or_null(slot->last_run_at, &nulls[2]);
	nulls[3] = slot->last_run_end == 0;
	if (!nulls[3])
		values[3] = interval_of(Max(took, 0));
	values[4] = time_or_null(slot->last_success_at, &nulls[4]);
	values[5] = time_or_null(next_run_of(slot), &nulls[5]);
}

/* 'index' is -1 for one that has no slot, of which nothing has happened yet. */
static void
put_worker(ReturnSetInfo *rsinfo, const WorkerRow *row, int index)
{
	const SupSlot *slot = &row->slot;
	bool		busy = pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &slot->task)) != 0;
	Datum		values[WORKER_COLS] = {0};
	bool		nulls[WORKER_COLS] = {0};
	bool		is_pool = row->kind == SUP_KIND_POOL;
	const char *activity = NULL;
	int			pid = slot->lingers && slot->exited_at != 0 ? slot->exited_pid : slot->pid;
	const char *library;
	int			library_len;

	if (slot->state == SUP_RUNNING && slot->exited_at == 0 && is_pool)
		activity = busy ? "busy" : slot->binding < 0 ? "unbound" : "idle";
	else if (slot->state == SUP_RUNNING && slot->exited_at == 0 && row->kind == SUP_KIND_COMMAND)
		activity = slot->runs ? "busy" : "idle";

	nulls[0] = index < 0 || row->kind == SUP_KIND_LOADER;	/* whose slot is not
															 * counted */
	values[0] = Int32GetDatum(index);
	nulls[1] = index < 0;
	values[1] = Int64GetDatum(slot->generation);
	values[2] = text_or_null(row->name, &nulls[2]);
	nulls[3] = slot->instance == 0;
	values[3] = Int32GetDatum(slot->instance);
	values[4] = CStringGetTextDatum(kind_names[row->kind]);
	values[5] = text_or_null(is_pool ? row->name : NULL, &nulls[5]);
	nulls[6] = pid == 0;
	values[6] = Int32GetDatum(pid);
	values[7] = oid_or_null(row->datid, &nulls[7]);
	values[8] = oid_or_null(row->userid, &nulls[8]);
	values[9] = CStringGetTextDatum(sup_state_names[slot->state]);
	values[10] = text_or_null(activity, &nulls[10]);
	values[11] = text_or_null(sup_reason_names[slot->reason], &nulls[11]);
	values[12] = text_or_null(!OidIsValid(slot->last_role) || sup_may_see(slot->last_role) ?
							  slot->detail : NULL, &nulls[12]);
	values[13] = time_or_null(slot->started_at, &nulls[13]);
	values[14] = time_or_null(slot->state_since, &nulls[14]);
	nulls[15] = nulls[16] = index < 0;
	values[15] = Int64GetDatum(slot->restarts);
	values[16] = Int32GetDatum(slot->succeeded && slot->exited_at == 0 ? 0 : slot->history.consecutive_failures);
	values[17] = time_or_null(slot->restart_at == DT_NOEND ? 0 : slot->restart_at, &nulls[17]);
	values[18] = time_or_null(slot->last_exit_at, &nulls[18]);
	nulls[19] = slot->last_exit_at == 0 || slot->last_exit_code < 0;
	values[19] = Int32GetDatum(slot->last_exit_code);
	values[20] = text_or_null(slot->last_sqlstate ? unpack_sql_state(slot->last_sqlstate) : NULL, &nulls[20]);
	values[21] = text_or_null(sup_may_see(slot->last_role) ? slot->last_error : NULL, &nulls[21]);
	values[22] = Int64GetDatum(slot->tasks_succeeded);
	values[23] = Int64GetDatum(slot->tasks_failed);
	values[24] = Int64GetDatum(slot->tasks_canceled);
	nulls[22] = nulls[23] = nulls[24] = !is_pool || index < 0;
	if (row->kind == SUP_KIND_COMMAND && index >= 0)
		put_runs(slot, &values[25], &nulls[25]);
	else
		memset(&nulls[25], true, 6);
	values[31] = time_or_null(slot->stats_since, &nulls[31]);
	nulls[32] = row->task == 0;
	values[32] = Int64GetDatum(row->task);
	nulls[33] = row->command_len < 0;
	if (!nulls[33] && sup_may_see(row->role))
		values[33] = clipped_text(row->command, row->command_len, &nulls[33]);
	else if (!nulls[33])
		values[33] = CStringGetTextDatum("<insufficient privilege>");
	values[34] = text_or_null(row->source >= 0 ? source_names[row->source] : NULL, &nulls[34]);
	values[35] = oid_or_null(row->declared_in, &nulls[35]);
	library = sup_library_base(row->library, &library_len);
	nulls[36] = library_len == 0;
	if (!nulls[36])
		values[36] = clipped_text(library, library_len, &nulls[36]);
	nulls[37] = row->run_every == 0;
	if (!nulls[37])
		values[37] = interval_of(row->run_every);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static const char *const no_slot_detail = "all slots are taken: see supervisor.max_workers";

/* Fill in what a declaration's instances without a slot have in common, and which have one. */
static void
copy_slotless(WorkerRow *row, const SupDeclaration *d, bool *has_slot)
{
	SupSlot    *slot = &row->slot;
	const char *detail;
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &d->slots))
		has_slot[dlist_container(SupSlot, owner_node, iter.cur)->instance] = true;
	memset(slot, 0, sizeof(SupSlot));
	strlcpy(row->name, d->name, NAMEDATALEN);
	row->kind = d->program.kind;
	copy_declaration(row, d);
	slot->reason = sup_declaration_why_not(d, &detail);
	slot->state = sup_state_if_kept_down(slot->reason);
	if (slot->reason == SUP_NO_REASON)
	{
		slot->reason = SUP_NO_SLOT;
		detail = no_slot_detail;
	}
	strlcpy(slot->detail, detail, sizeof(slot->detail));
}

/*
 * supervisor.get_workers(): the rows of view worker_status, with OIDs: first
 * those that have a slot, then those that wait for one.
 */
PG_FUNCTION_INFO_V1(supervisor_get_workers);
Datum
supervisor_get_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WorkerRow	row;

	sup_require_preload();
	clock_set = sup_clock_set();
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
		row.command_len = row.source = -1;
		row.slot.state = SUP_WAITING;
		row.slot.reason = SUP_NO_SLOT;
		strlcpy(row.slot.detail, no_slot_detail, SUP_MESSAGE);
		sup_lock();
		strlcpy(row.name, Sup->pools[p].name, NAMEDATALEN);
		n = row.name[0] != '\0' ? Sup->pools[p].no_slot : 0;
		sup_unlock();
		while (n-- > 0)
			put_worker(rsinfo, &row, -1);
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
				put_worker(rsinfo, &row, -1);
		}
	}
	return (Datum) 0;
}

/* The roles whose members may use a pool; NULL if it has no list. */
static Datum
members_or_null(const char *pool, bool *isnull)
{
	SupMembers	members;
	uint64		version;
	const char *name;
	int			offset = 0;
	Datum	   *names;
	int			n = 0;

	*isnull = !sup_pool_members(pool, &members, &version) || version == 0;
	if (*isnull)
		return (Datum) 0;
	names = palloc(sizeof(Datum) * (members.len + 1));
	while ((name = sup_next_member(&members, &offset)) != NULL)
		names[n++] = clipped_text(name, strlen(name), isnull);
	return PointerGetDatum(n == 0 ? construct_empty_array(TEXTOID) :
						   construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

#define POOL_COLS 15

/* supervisor.get_pools(): the rows of view pool_status */
PG_FUNCTION_INFO_V1(supervisor_get_pools);
Datum
supervisor_get_pools(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SupPool    *pools;
	int			(*counts)[3];

	sup_require_preload();
	clock_set = sup_clock_set();
	pools = palloc(sizeof(SupPool) * SUP_MAX_POOLS);
	counts = palloc0(sizeof(int) * 3 * SUP_MAX_POOLS);

	sup_lock();
	memcpy(pools, Sup->pools, sizeof(SupPool) * SUP_MAX_POOLS);
	for (int i = sup_max_tasks; i < sup_ntasks(); i++)
		if (sup_task_state(&Sup->tasks[i]) == SUP_TASK_QUEUED)
			pools[Sup->bindings[Sup->tasks[i].binding].pool].nqueued--; /* a drain is no task */
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
		if ((slot->state != SUP_STARTING && slot->state != SUP_RUNNING && !slot->registering) ||
			slot->kind != SUP_KIND_POOL || slot->ready_at == 0 || slot->leaving_since != 0)
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
		values[2] = members_or_null(pools[i].name, &nulls[2]);
		values[3] = Int32GetDatum(counts[i][0] + counts[i][1] + counts[i][2]);
		values[4] = Int32GetDatum(counts[i][0]);
		values[5] = Int32GetDatum(counts[i][1]);
		values[6] = Int32GetDatum(counts[i][2]);
		values[7] = Int32GetDatum(pools[i].nqueued);
		values[8] = Int64GetDatum(pools[i].tasks_succeeded);
		values[9] = Int64GetDatum(pools[i].tasks_failed);
		values[10] = Int64GetDatum(pools[i].tasks_canceled);
		values[11] = Int64GetDatum(pools[i].jobs_succeeded);
		values[12] = Int64GetDatum(pools[i].jobs_failed);
		values[13] = time_or_null(pools[i].stats_since, &nulls[13]);
		values[14] = time_or_null(pools[i].no_worker_since, &nulls[14]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define TASK_COLS 14

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
	char		tag[COMPLETION_TAG_BUFSIZE];
	TimestampTz submitted_at;
	TimestampTz started_at;
	TimestampTz finished_at;
	int			command_len;
	char		command[SUP_INLINE];
} TaskRow;

/* Copy what is to be known of a task.  The caller holds the lock. */
static void
copy_task(TaskRow *row, SupTask *task)
{
	bool		ended;

	row->id = task->id;
	if (task->binding >= 0)
	{
		SupBinding *b = &Sup->bindings[task->binding];

		strlcpy(row->pool, Sup->pools[b->pool].name, NAMEDATALEN);
		row->database = b->database;
		row->role = b->role;
	}
	else
	{
		strlcpy(row->pool, task->past_pool, NAMEDATALEN);
		row->database = task->past_database;
		row->role = task->past_role;
	}
	row->owner_pid = task->owner >= 0 ? ProcGlobal->allProcs[task->owner].pid : 0;
	row->slot = task->slot;
	row->state = sup_task_state(task);

	/* the worker may be writing them until then */
	ended = row->state > SUP_TASK_RUNNING;
	row->sqlstate = ended ? task->sqlstate : 0;
	strlcpy(row->message, ended ? task->message : "", SUP_MESSAGE);
	strlcpy(row->tag, row->state == SUP_TASK_SUCCEEDED ? task->tag : "", COMPLETION_TAG_BUFSIZE);
	row->submitted_at = task->submitted_at;
	row->started_at = task->started_at;
	row->finished_at = task->finished_at;
	row->command_len = command_head(task, row->command);
}

/*
 * supervisor.get_tasks(): the rows of view task_status, with OIDs.  Command,
 * message and tag are shown to those who may see what belongs to the task's
 * role.
 */
PG_FUNCTION_INFO_V1(supervisor_get_tasks);
Datum
supervisor_get_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TaskRow    *rows;
	int			n = 0;

	sup_require_preload();
	clock_set = sup_clock_set();
	rows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(TaskRow) * sup_max_tasks);

	sup_lock();
	for (int i = 0; i < sup_max_tasks; i++)
	{
		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
		if (Sup->task_ids[i] != 0)
			copy_task(&rows[n++], &Sup->tasks[i]);
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
		values[9] = text_or_null(visible ? row->tag : NULL, &nulls[9]);
		values[10] = time_or_null(row->submitted_at, &nulls[10]);
		values[11] = time_or_null(row->started_at, &nulls[11]);
		values[12] = time_or_null(row->finished_at, &nulls[12]);
		if (visible)
			values[13] = clipped_text(row->command, row->command_len, &nulls[13]);
		else
			values[13] = CStringGetTextDatum("<insufficient privilege>");
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define EVENT_COLS 10

/* By id: in the ring they are not in order, see place_for_event(). */
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

/* supervisor.get_events(): the rows of view event */
PG_FUNCTION_INFO_V1(supervisor_get_events);
Datum
supervisor_get_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SupEvent   *events;
	int			n;

	sup_require_preload();
	events = palloc(sizeof(SupEvent) * SUP_EVENTS);
	clock_set = sup_clock_set();
	n = copy_events(events);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		SupEvent   *e = &events[i];
		Datum		values[EVENT_COLS];
		bool		nulls[EVENT_COLS] = {0};

		values[0] = Int64GetDatum(e->id);
		values[1] = time_or_null(e->at, &nulls[1]);
		nulls[2] = nulls[3] = e->slot < 0;
		values[2] = Int32GetDatum(e->slot);
		values[3] = Int64GetDatum(e->generation);
		values[4] = text_or_null(e->name, &nulls[4]);
		nulls[5] = e->pid == 0;
		values[5] = Int32GetDatum(e->pid);
		values[6] = CStringGetTextDatum(e->event);
		values[7] = text_or_null(!OidIsValid(e->role) || sup_may_see(e->role) ? e->detail : NULL,
								 &nulls[7]);
		values[8] = Int64GetDatum(e->count);
		values[9] = time_or_null(e->last_at, &nulls[9]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define SERVER_COLS 8

/* Bytes of the area that tasks and prepared transactions hold.  Takes the lock. */
static Size
area_held(void)
{
	Size		held;

	sup_lock();
	held = Sup->prepared_held;
	for (int i = 0; i < sup_nbindings(); i++)
	{
		held += Sup->bindings[i].held;
		if (i % BINDINGS_PER_LOCK == BINDINGS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
	}
	sup_unlock();
	return held;
}

/* The databases whose declared workers could not be read the last time. */
static Datum
unread_databases(void)
{
	Datum		databases[SUP_LOADS];
	int			n = 0;

	sup_lock();
	for (int i = 0; i < SUP_LOADS; i++)
		if (OidIsValid(Sup->loads[i].database) && Sup->loads[i].failures > 0)
			databases[n++] = ObjectIdGetDatum(Sup->loads[i].database);
	sup_unlock();
	return PointerGetDatum(n == 0 ? construct_empty_array(OIDOID) :
						   construct_array(databases, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/*
 * supervisor.get_server(): the row of view server_status, with OIDs.  It tells
 * what others can't when the library is not preloaded, so that is no error.
 */
PG_FUNCTION_INFO_V1(supervisor_get_server);
Datum
supervisor_get_server(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[SERVER_COLS] = {0};
	bool		nulls[SERVER_COLS] = {0};
	TimestampTz since;
	int			pid;
	int			tasks;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (Sup == NULL)
	{
		memset(nulls, true, sizeof(nulls));
		nulls[0] = false;
		values[0] = CStringGetTextDatum("not preloaded");
		return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	}

	clock_set = sup_clock_set();
	sup_lock();
	pid = Sup->supervisor != NULL ? Sup->supervisor->pid : 0;
	since = Sup->supervisor_since;
	tasks = Sup->ntasks;
	sup_unlock();

	values[0] = CStringGetTextDatum(pid != 0 ? "running" : sup_registered ? "away" : "no place");
	values[1] = Int32GetDatum(pid);
	nulls[1] = pid == 0;
	values[2] = time_or_null(since, &nulls[2]);
	values[3] = Int32GetDatum(tasks);
	values[4] = Int32GetDatum(sup_max_tasks);
	values[5] = Int64GetDatum((int64) area_held());
	values[6] = Int64GetDatum((int64) sup_shared_memory * 1024);
	values[7] = unread_databases();
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
