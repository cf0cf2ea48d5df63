/*
 * For t/147_stream.pl and t/164_spoiled.pl: messages of every wrong shape, and what a
 * process that has lost its mind would leave in shared memory for another.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "fmgr.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "../src/task.h"

PG_MODULE_MAGIC;

/* A message to the client, as it is. */
PG_FUNCTION_INFO_V1(send_raw);
Datum
send_raw(PG_FUNCTION_ARGS)
{
	char		type = PG_GETARG_CHAR(0);
	bytea	   *data = PG_GETARG_BYTEA_PP(1);

	(void) pq_putmessage(type, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	PG_RETURN_VOID();
}

/* The size is that of pg_shmem_allocations. */
static SupShared *
shared(int64 size)
{
	bool		found;
	SupShared  *sup = ShmemInitStruct("supervisor", size, &found);

	if (!found)
		elog(ERROR, "there is no supervisor");
	return sup;
}

/* The task that this worker runs; the caller holds the lock. */
static SupTask *
my_task(SupShared *sup)
{
	int			max_workers = atoi(GetConfigOption("supervisor.max_workers", false, false));

	for (int i = 0; i < max_workers; i++)
		if (sup->slots[i].pid == MyProcPid)
			return &sup->tasks[pg_atomic_read_u32(&sup->slots[i].task) - 1];
	elog(PANIC, "this is no worker");
	return NULL;
}

/* Append a chunk to the result of the task that runs here, which says that it is 'said' long. */
static void
append_chunk(SupShared *sup, const char *data, uint32 len, uint32 said, bool continues)
{
	dsa_area   *area = dsa_attach_in_place(sup->dsa, NULL);
	dsa_pointer pointer = dsa_allocate(area, Max(offsetof(SupChunk, data) + len, 12 * 1024));
	SupChunk   *chunk = dsa_get_address(area, pointer);
	SupTask    *task;

	chunk->next = InvalidDsaPointer;
	chunk->len = said;
	chunk->continues = continues;
	memcpy(chunk->data, data, len);

	LWLockAcquire(sup->lock, LW_EXCLUSIVE);
	task = my_task(sup);
	if (!DsaPointerIsValid(task->last))
		task->first = pointer;
	else
		((SupChunk *) dsa_get_address(area, task->last))->next = pointer;
	task->last = pointer;
	LWLockRelease(sup->lock);
	dsa_detach(area);
	dsa_release_in_place(sup->dsa);
}

PG_FUNCTION_INFO_V1(send_chunk);
Datum
send_chunk(PG_FUNCTION_ARGS)
{
	bytea	   *data = PG_GETARG_BYTEA_PP(1);
	uint32		len = VARSIZE_ANY_EXHDR(data);

	append_chunk(shared(PG_GETARG_INT64(0)), VARDATA_ANY(data), len,
				 PG_ARGISNULL(3) ? len : PG_GETARG_INT32(3), PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

/* The same of some chunks that are made of that one by chance. */
PG_FUNCTION_INFO_V1(send_garbage);
Datum
send_garbage(PG_FUNCTION_ARGS)
{
	bytea	   *data = PG_GETARG_BYTEA_P_COPY(1);
	char	   *bytes = VARDATA_ANY(data);
	uint32		len = VARSIZE_ANY_EXHDR(data);
	pg_prng_state state;

	pg_prng_seed(&state, PG_GETARG_INT64(2));
	for (int chunks = pg_prng_uint64_range(&state, 1, 3); chunks > 0; chunks--)
	{
		for (int n = pg_prng_uint64_range(&state, 0, 4); n > 0; n--)
			bytes[pg_prng_uint64_range(&state, 0, len - 1)] =
				pg_prng_bool(&state) ? pg_prng_uint64(&state) : pg_prng_uint64_range(&state, 0, 8);
		append_chunk(shared(PG_GETARG_INT64(0)), bytes, len,
					 pg_prng_uint64_range(&state, 0, 3) == 0 ? pg_prng_uint64_range(&state, 0, len) : len,
					 pg_prng_uint64_range(&state, 0, 7) == 0);
	}
	PG_RETURN_VOID();
}

/* Let the next chunk of the task that runs here be one that is none. */
PG_FUNCTION_INFO_V1(send_pointer);
Datum
send_pointer(PG_FUNCTION_ARGS)
{
	SupShared  *sup = shared(PG_GETARG_INT64(0));

	LWLockAcquire(sup->lock, LW_EXCLUSIVE);
	my_task(sup)->first = PG_GETARG_INT64(1);
	LWLockRelease(sup->lock);
	PG_RETURN_VOID();
}

/* Overwrite four bytes of the command of a task, which has not begun. */
PG_FUNCTION_INFO_V1(spoil_command);
Datum
spoil_command(PG_FUNCTION_ARGS)
{
	SupShared  *sup = shared(PG_GETARG_INT64(0));
	int64		id = PG_GETARG_INT64(1);
	int32		value = PG_GETARG_INT32(3);
	int			max_tasks = atoi(GetConfigOption("supervisor.max_tasks", false, false));

	LWLockAcquire(sup->lock, LW_EXCLUSIVE);
	for (int i = 0; i < max_tasks; i++)
		if (sup->tasks[i].id == id)
			memcpy(sup->tasks[i].head + PG_GETARG_INT32(2), &value, sizeof(value));
	LWLockRelease(sup->lock);
	PG_RETURN_VOID();
}

/* Overwrite something that the process of a slot has written there. */
PG_FUNCTION_INFO_V1(spoil_worker);
Datum
spoil_worker(PG_FUNCTION_ARGS)
{
	SupShared  *sup = shared(PG_GETARG_INT64(0));
	SupSlot    *slot = &sup->slots[PG_GETARG_INT32(1)];
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(2));
	int64		value = PG_GETARG_INT64(3);

	LWLockAcquire(sup->lock, LW_EXCLUSIVE);
	if (strcmp(what, "rests") == 0)
		sup->declarations[slot->declaration].rests = value;
	else if (strcmp(what, "exit_reason") == 0)
		slot->exit_reason = (SupReason) value;
	else if (strcmp(what, "heartbeat_at") == 0)
		slot->heartbeat_at = value;
	else if (strcmp(what, "last_error") == 0)
		memset(slot->last_error, 'x', sizeof(slot->last_error));
	else if (strcmp(what, "proc") == 0)
		slot->proc = (PGPROC *) (uintptr_t) value;
	else if (strcmp(what, "pid") == 0)
		slot->pid = (int) value;
	else if (strcmp(what, "task") == 0)
	{
		pg_atomic_write_u32(&slot->task, (uint32) value);
		SetLatch(&slot->proc->procLatch);
	}
	else if (strcmp(what, "binding") == 0)
		slot->binding = (int) value;
	LWLockRelease(sup->lock);
	PG_RETURN_VOID();
}
