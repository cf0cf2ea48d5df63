/*-------------------------------------------------------------------------
 *
 * read.c
 *	  A session reads what its task sends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "compat.h"
#include "read.h"
#include "wait.h"

/*
 * Notices that are passed on are in the log already, as the worker's.  The one
 * that is being passed on is known by this pointer, which core hands on to its
 * hook: others may be emitted meanwhile.
 */
static const char *relayed_funcname = NULL;
static emit_log_hook_type next_emit_log_hook = NULL;

static void
leave_to_worker(ErrorData *edata)
{
	if (relayed_funcname != NULL && edata->funcname == relayed_funcname)
		edata->output_to_server = false;
	else if (next_emit_log_hook)
		next_emit_log_hook(edata);
}

void
sup_install_relay(void)
{
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = leave_to_worker;
}

/*
 * Turn a message of the protocol into an error that can be raised here.  It
 * comes in the encoding that the task's session had for its client.
 */
static ErrorData *
parse_message(SupReader *reader, const char *data, Size len)
{
	ErrorData  *edata = palloc0(sizeof(ErrorData));
	StringInfoData buf;
	int32		encoding;

	memcpy(&encoding, data, sizeof(encoding));
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, data + sizeof(encoding), len - sizeof(encoding));
	pq_parse_errornotice(&buf, edata);
	if (encoding != GetDatabaseEncoding())
	{
		char	  **fields[] = {&edata->message, &edata->detail, &edata->hint, &edata->context,
			&edata->schema_name, &edata->table_name, &edata->column_name,
		&edata->datatype_name, &edata->constraint_name, &edata->internalquery};

		for (int i = 0; i < lengthof(fields); i++)
			if (*fields[i] != NULL)
				*fields[i] = pg_any_to_server(*fields[i], strlen(*fields[i]), encoding);
	}

	/* The position is one in the task's command, not in ours. */
	if (edata->cursorpos > 0 && edata->internalquery == NULL && reader->command != NULL)
	{
		edata->internalquery = pstrdup(reader->command);
		edata->internalpos = edata->cursorpos;
	}
	edata->cursorpos = 0;
	return edata;
}

/* One column of a SUP_MSG_COLUMNS. */
#define COLUMN_SIZE (sizeof(Oid) + sizeof(int32))

static void
get_column(const char *data, int i, Oid *type, int32 *typmod)
{
	memcpy(type, data + i * COLUMN_SIZE, sizeof(Oid));
	memcpy(typmod, data + i * COLUMN_SIZE + sizeof(Oid), sizeof(int32));
}

/* Do these columns match the column definition list? */
static bool
columns_fit(SupReader *reader, const char *data, Size len)
{
	int			natts = len / COLUMN_SIZE;

	if (natts != reader->columns->natts)
		return false;
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(reader->columns, i);
		Oid			type;
		int32		typmod;

		get_column(data, i, &type, &typmod);
		if (type != att->atttypid || (att->atttypmod >= 0 && typmod != att->atttypmod))
			return false;
	}
	return true;
}

/* Say what does not match. */
pg_noreturn static void
raise_unfit(SupReader *reader, const char *data, Size len)
{
	int			natts = len / COLUMN_SIZE;
	Form_pg_attribute att;
	Oid			type = InvalidOid;
	int32		typmod = -1;
	int			i;

	if (natts != reader->columns->natts)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column definition list does not match the result"),
				 errdetail("The result has %d columns, the list has %d.",
						   natts, reader->columns->natts)));
	for (i = 0; i < natts; i++)
	{
		att = TupleDescAttr(reader->columns, i);
		get_column(data, i, &type, &typmod);
		if (type != att->atttypid || (att->atttypmod >= 0 && typmod != att->atttypmod))
			break;
	}
	att = TupleDescAttr(reader->columns, i);
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column definition list does not match the result"),
			 errdetail("Column %d of the result has type %s, in the list it has type %s.",
					   i + 1, format_type_with_typemod(type, typmod),
					   format_type_with_typemod(att->atttypid, att->atttypmod)),
			 errhint("Change the list, or cast the column in the command.")));
	pg_unreachable();
}

/*
 * A column's type may have been altered since the worker formed the rows.
 * Whoever read them now would take a number for a pointer.
 */
static void
check_types(SupReader *reader)
{
	StringInfoData now;

	AcceptInvalidationMessages();
	initStringInfo(&now);
	sup_append_definitions(&now, reader->columns);
	if (now.len != reader->types.len || memcmp(now.data, reader->types.data, now.len) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a type of the result has been altered since the task made its rows")));
	pfree(now.data);
}

/*
 * The columns of the rows that the task has sent, as far as they can be seen
 * without taking anything from it; NULL: not yet.  The caller holds the lock.
 */
static const char *
peek_columns(SupTask *task, Size *len)
{
	dsa_pointer next = task->first;

	for (;;)
	{
		const char *data = task->out;
		Size		size = task->out_len;
		bool		continues = task->out_continues;
		bool		last = !DsaPointerIsValid(next);

		if (!last)
		{
			SupChunk   *chunk = dsa_get_address(sup_area(), next);

			data = chunk->data;
			size = chunk->len;
			continues = chunk->continues;
			next = chunk->next;
		}
		else if (sup_task_state(task) <= SUP_TASK_RUNNING)
			return NULL;

		for (Size at = 0; at < size && !continues;)
		{
			SupMessage	message;

			memcpy(&message, data + at, sizeof(message));
			at += sizeof(message);
			if (message.type == SUP_MSG_COLUMNS && message.len <= size - at)
			{
				*len = message.len;
				return data + at;
			}
			if (message.type == SUP_MSG_ROW || message.len > size - at)
				break;
			at += MAXALIGN(message.len);
		}
		if (last)
			return NULL;
	}
}

static void
handle_message(SupReader *reader, char type, char *data, Size len)
{
	switch (type)
	{
		case SUP_MSG_COLUMNS:
			if (reader->store != NULL)
			{
				if (!columns_fit(reader, data, len))
					raise_unfit(reader, data, len);
				initStringInfo(&reader->types);
				reader->slot = MakeSingleTupleTableSlot(reader->columns, &TTSOpsMinimalTuple);
			}
			break;
		case SUP_MSG_TYPES:
			if (reader->slot != NULL)
				appendBinaryStringInfo(&reader->types, data, len);
			break;
		case SUP_MSG_ROW:
			if (reader->slot != NULL)
			{
				ExecStoreMinimalTuple((MinimalTuple) data, reader->slot, false);
				tuplestore_puttupleslot(reader->store, reader->slot);
			}
			break;
		case SUP_MSG_NOTICE:
			{
				MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
															  "supervisor notice",
															  ALLOCSET_SMALL_SIZES);
				MemoryContext oldcontext = MemoryContextSwitchTo(context);

				ErrorData  *edata = parse_message(reader, data, len);

				if (edata->funcname == NULL)
					edata->funcname = pstrdup("");
				relayed_funcname = edata->funcname;
				PG_TRY();
				{
					ThrowErrorData(edata);
				}
				PG_FINALLY();
				{
					relayed_funcname = NULL;
				}
				PG_END_TRY();
				MemoryContextSwitchTo(oldcontext);
				MemoryContextDelete(context);
				break;
			}
		case SUP_MSG_ERROR:
			reader->error = palloc(len);
			memcpy(reader->error, data, len);
			reader->error_len = len;
			break;
		default:
			elog(ERROR, "unexpected message type %d from a task", type);
	}
}

static void
handle_data(SupReader *reader, char *data, Size len, bool continues)
{
	Size		at = 0;

	if (reader->part != NULL && !continues)
	{
		/* its end could not be sent */
		pfree(reader->part);
		reader->part = NULL;
	}
	while (at < len)
	{
		SupMessage *message = (SupMessage *) (data + at);

		if (reader->part != NULL)
		{
			/* the message goes on */
			Size		n = Min(reader->part_total - reader->part_len, len - at);

			memcpy(reader->part + reader->part_len, data + at, n);
			reader->part_len += n;
			at = MAXALIGN(at + n);
			if (reader->part_len == reader->part_total)
			{
				char	   *part = reader->part;

				reader->part = NULL;
				handle_message(reader, reader->part_type, part, reader->part_total);
				pfree(part);
			}
			continue;
		}

		at += sizeof(SupMessage);
		if (message->len > len - at)
		{
			reader->part_type = message->type;
			reader->part_total = message->len;
			reader->part_len = 0;
			reader->part = MemoryContextAllocHuge(CurrentMemoryContext, message->len);
			continue;
		}
		handle_message(reader, message->type, data + at, message->len);
		at += MAXALIGN(message->len);
	}
}

bool
sup_task_has_news(void *arg)
{
	return ((SupTaskRef *) arg)->task->hint;
}

static void
free_pending(int code, Datum arg)
{
	SupReader  *reader = (SupReader *) DatumGetPointer(arg);

	sup_free_chunks(reader->pending);
	reader->pending = InvalidDsaPointer;
}

/*
 * Read and free the chunks that were taken from the task; all, also when an
 * error, or the end of this process, comes in between.
 */
static void
read_chunks(SupReader *reader)
{
	bool		touched = reader->touched;

	reader->touched = true;
	PG_ENSURE_ERROR_CLEANUP(free_pending, PointerGetDatum(reader));
	{
		while (DsaPointerIsValid(reader->pending))
		{
			SupChunk   *chunk = dsa_get_address(sup_area(), reader->pending);
			dsa_pointer next = chunk->next;

			handle_data(reader, chunk->data, chunk->len, chunk->continues);
			dsa_free(sup_area(), reader->pending);
			reader->pending = next;
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(free_pending, PointerGetDatum(reader));

	/* Notices have reached their reader; what follows is complete. */
	if (reader->slot == NULL && reader->error == NULL && reader->part == NULL)
		reader->touched = touched;
}

/* The worker may wait for its reader; the caller holds the lock. */
static void
wake_worker(SupTask *task)
{
	if (sup_task_state(task) == SUP_TASK_RUNNING && Sup->slots[task->slot].proc != NULL)
		sup_wake(Sup->slots[task->slot].proc);
}

/* What was taken from the task, which is still ours, is free again. */
static void
chunks_are_free(SupTask *task)
{
	sup_lock();
	Sup->bindings[task->binding].held -= task->taken;
	task->taken = 0;
	wake_worker(task);
	sup_unlock();
}

bool
sup_reader_take(SupReader *reader, SupTaskRef *ref)
{
	SupTask    *task = ref->task;
	SupGarbage	garbage;
	uint32		out_len = 0;
	bool		out_continues = false;
	const char *columns;
	Size		columns_len = 0;
	bool		ended;
	char		message[SUP_MESSAGE];
	char		detail[SUP_MESSAGE];
	union
	{
		char		data[SUP_INLINE];
		int64		align;
	}			out;

	sup_garbage_init(&garbage);
	reader->id = ref->id;
	task->hint = false;
	pg_memory_barrier();

	sup_lock();
	Assert(task->id == ref->id);

	/* A list that does not match costs nobody the result. */
	if (reader->store != NULL && reader->slot == NULL &&
		(columns = peek_columns(task, &columns_len)) != NULL &&
		!columns_fit(reader, columns, columns_len))
	{
		sup_unlock();
		raise_unfit(reader, columns, columns_len);	/* the task is still ours */
	}

	reader->pending = task->first;
	task->first = task->last = InvalidDsaPointer;
	task->taken = task->unread;
	task->unread = 0;
	reader->state = sup_task_state(task);
	ended = reader->state > SUP_TASK_RUNNING;
	if (ended)
	{
		out_len = task->out_len;
		out_continues = task->out_continues;
		memcpy(out.data, task->out, out_len);
		memcpy(reader->tag, task->tag, sizeof(reader->tag));
		reader->sqlstate = task->sqlstate;
		if (reader->state != SUP_TASK_SUCCEEDED)
		{
			memcpy(message, task->message, SUP_MESSAGE);
			memcpy(detail, task->detail, SUP_MESSAGE);
			strlcpy(reader->pool, Sup->pools[Sup->bindings[task->binding].pool].name, NAMEDATALEN);
		}
		sup_task_release(task, &garbage);
	}
	else if (DsaPointerIsValid(reader->pending))
		wake_worker(task);		/* it may hold more again */
	sup_unlock();

	sup_garbage_free(&garbage);
	if (DsaPointerIsValid(reader->pending))
	{
		read_chunks(reader);
		if (!ended)
			chunks_are_free(task);
	}
	if (ended)
	{
		reader->touched = true;
		if (reader->state != SUP_TASK_SUCCEEDED)
		{
			reader->message = pstrdup(message);
			reader->detail = pstrdup(detail);
		}
		handle_data(reader, out.data, out_len, out_continues);
		if (reader->slot != NULL)
		{
			if (reader->state == SUP_TASK_SUCCEEDED)
				check_types(reader);
			ExecDropSingleTupleTableSlot(reader->slot);
		}
		reader->slot = NULL;
	}
	return ended;
}

/* Without the part of a character at which it may have been cut. */
static char *
clipped(const char *string)
{
	int			len = strlen(string);

	return pnstrdup(string, pg_mbcliplen(string, len, len));
}

void
sup_reader_raise(SupReader *reader)
{
	Assert(reader->state == SUP_TASK_FAILED || reader->state == SUP_TASK_CANCELED);
	if (reader->error != NULL)
	{
		ErrorData  *edata = parse_message(reader, reader->error, reader->error_len);

		char	   *context = psprintf("supervisor task %llu in pool \"%s\"",
									   (unsigned long long) reader->id, reader->pool);

		/* It is an error of this session as well, which says where it comes from. */
		edata->context = edata->context ? psprintf("%s\n%s", edata->context, context) : context;
		edata->elevel = ERROR;
		ThrowErrorData(edata);
	}
	ereport(ERROR,
			(errcode(reader->sqlstate),
			 errmsg_internal("%s", clipped(reader->message)),
			 reader->detail[0] ? errdetail_internal("%s", clipped(reader->detail)) : 0,
			 errcontext("supervisor task %llu in pool \"%s\"",
						(unsigned long long) reader->id, reader->pool)));
	pg_unreachable();
}

char *
sup_reader_error(SupReader *reader)
{
	if (reader->error != NULL)
		return parse_message(reader, reader->error, reader->error_len)->message;
	return clipped(reader->message);
}

bool
sup_read_task(SupReader *reader, SupTaskRef *ref, TimestampTz deadline)
{
	static SupSpin spin = {0};

	spin.counted = &Sup->sessions[sup_my_session()].spinning;
	for (;;)
	{
		int			slot = ref->task->slot;
		TimestampTz submitted_at = ref->task->submitted_at;

		if (!sup_spin_until(&spin, slot >= 0 ? Sup->slots[slot].cpu : -1,
							sup_task_has_news, ref) &&
			!sup_sleep_until(sup_task_has_news, ref, deadline))
			return false;
		if (ref->task->finished_at != 0)
			sup_spin_note(&spin, ref->task->finished_at - submitted_at);
		if (sup_reader_take(reader, ref))
			return true;
		if (deadline != 0 && GetCurrentTimestamp() >= deadline)
			return false;
	}
}
