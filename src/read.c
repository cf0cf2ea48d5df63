/*-------------------------------------------------------------------------
 *
 * read.c
 *	  A session reads what its task sends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "columns.h"
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

/* emit_log_hook: a notice that is being passed on is not logged again. */
static void
leave_to_worker(ErrorData *edata)
{
	if (relayed_funcname != NULL && edata->funcname == relayed_funcname)
		edata->output_to_server = false;
	else if (next_emit_log_hook)
		next_emit_log_hook(edata);
}

/* While no notice is passed on, the hook only calls the one before it. */
void
sup_install_relay(void)
{
	next_emit_log_hook = emit_log_hook;
	emit_log_hook = leave_to_worker;
}

/* Raise XX001: what the worker has sent makes no sense. */
pg_noreturn static void
raise_corrupt(SupReader *reader)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("result of task %llu is corrupt", (unsigned long long) reader->id)));
	pg_unreachable();
}

/*
 * Messages of the protocol
 */

/* How severe a notice says that it is; never so that it would end anything. */
static int
notice_level(const char *severity)
{
	static const struct
	{
		const char *severity;
		int			level;
	}			levels[] = {
		{"DEBUG", DEBUG1}, {"LOG", LOG}, {"INFO", INFO}, {"NOTICE", NOTICE}, {"WARNING", WARNING},
		{"ERROR", WARNING}, {"FATAL", WARNING}, {"PANIC", WARNING}
	};

	for (int i = 0; i < lengthof(levels); i++)
		if (strcmp(severity, levels[i].severity) == 0)
			return levels[i].level;
	return NOTICE;
}

/*
 * A text that the worker has sent in that encoding, which is its client's.  A C
 * function may have put any bytes there.
 */
static char *
to_server(const char *text, int encoding)
{
	int			len = strlen(text);
	int			server = GetDatabaseEncoding();
	unsigned char *result = (unsigned char *) pstrdup(text);

	if (encoding != server && pg_verify_mbstr(encoding, text, len, true))
	{
		Oid			conversion = FindDefaultConversionProc(encoding, server);

		if (OidIsValid(conversion))
		{
			Size		size = Min((Size) len * MAX_CONVERSION_GROWTH + 1, INT_MAX);

			result = palloc_extended(size, MCXT_ALLOC_HUGE);
			(void) pg_do_encoding_conversion_buf(conversion, encoding, server,
												 (unsigned char *) unconstify(char *, text), len,
												 result, size, true);
		}
	}
	if (!pg_verify_mbstr(server, (char *) result, strlen((char *) result), true))
		for (unsigned char *p = result; *p != '\0'; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
	return (char *) result;
}

/*
 * Turn a message of the protocol into an error or a notice that can be raised
 * here.  NULL: it can't be understood.  What it is, its type in the stream has
 * said.
 */
static ErrorData *
parse_message(SupReader *reader, bool is_error, const char *data, Size len)
{
	ErrorData  *edata = palloc0(sizeof(ErrorData));
	bool		has_level = false;
	int32		encoding;
	Size		at = sizeof(encoding);
	const char *value;
	int			code;

	if (len < sizeof(encoding))
		return NULL;
	memcpy(&encoding, data, sizeof(encoding));
	if (!PG_VALID_ENCODING(encoding))
		return NULL;

	edata->elevel = is_error ? ERROR : NOTICE;
	edata->sqlerrcode = is_error ? reader->sqlstate : ERRCODE_SUCCESSFUL_COMPLETION;
	edata->assoc_context = CurrentMemoryContext;
	while ((code = sup_next_field(data, len, &at, &value)) > 0)
		switch (code)
		{
			case PG_DIAG_SEVERITY_NONLOCALIZED:
				has_level = true;
				if (!is_error)
					edata->elevel = notice_level(value);
				break;
			case PG_DIAG_SEVERITY:
				if (!is_error && !has_level)
					edata->elevel = notice_level(value);
				break;
			case PG_DIAG_SQLSTATE:
				if (strlen(value) == 5 && strspn(value, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5)
					edata->sqlerrcode = MAKE_SQLSTATE(value[0], value[1], value[2], value[3], value[4]);
				break;
			case PG_DIAG_MESSAGE_PRIMARY:
				edata->message = to_server(value, encoding);
				break;
			case PG_DIAG_MESSAGE_DETAIL:
				edata->detail = to_server(value, encoding);
				break;
			case PG_DIAG_MESSAGE_HINT:
				edata->hint = to_server(value, encoding);
				break;
			case PG_DIAG_STATEMENT_POSITION:
				edata->cursorpos = atoi(value);
				break;
			case PG_DIAG_INTERNAL_POSITION:
				edata->internalpos = atoi(value);
				break;
			case PG_DIAG_INTERNAL_QUERY:
				edata->internalquery = to_server(value, encoding);
				break;
			case PG_DIAG_CONTEXT:
				edata->context = to_server(value, encoding);
				break;
			case PG_DIAG_SCHEMA_NAME:
				edata->schema_name = to_server(value, encoding);
				break;
			case PG_DIAG_TABLE_NAME:
				edata->table_name = to_server(value, encoding);
				break;
			case PG_DIAG_COLUMN_NAME:
				edata->column_name = to_server(value, encoding);
				break;
			case PG_DIAG_DATATYPE_NAME:
				edata->datatype_name = to_server(value, encoding);
				break;
			case PG_DIAG_CONSTRAINT_NAME:
				edata->constraint_name = to_server(value, encoding);
				break;
			case PG_DIAG_SOURCE_FILE:
				edata->filename = to_server(value, encoding);
				break;
			case PG_DIAG_SOURCE_LINE:
				edata->lineno = atoi(value);
				break;
			case PG_DIAG_SOURCE_FUNCTION:
				edata->funcname = to_server(value, encoding);
				break;
		}
	if (code < 0 || edata->message == NULL)
		return NULL;

	/* The position is one in the task's command, not in ours. */
	if (edata->cursorpos > 0 && edata->internalquery == NULL && reader->command != NULL)
	{
		edata->internalquery = pstrdup(reader->command);
		edata->internalpos = edata->cursorpos;
	}
	edata->cursorpos = 0;
	return edata;
}

/* Pass a notice on; one that can't be understood is nobody's failure. */
static void
relay_notice(SupReader *reader, const char *data, Size len)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor notice",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	ErrorData  *edata = parse_message(reader, false, data, len);

	if (edata != NULL)
	{
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
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * Rows
 */

/* Do these columns match the column definition list?  Raises 42804 if not. */
static void
check_columns(SupReader *reader, const char *columns, Size len)
{
	StringInfoData wanted;

	initStringInfo(&wanted);
	sup_append_columns(&wanted, reader->columns);
	sup_check_columns(columns, len / SUP_COLUMN_SIZE, wanted.data, reader->columns->natts);
	pfree(wanted.data);
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
	if (now.len == reader->types.len && memcmp(now.data, reader->types.data, now.len) == 0)
	{
		pfree(now.data);
		return;
	}
	for (int i = 0; i < reader->columns->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(reader->columns, i);

		if (!OidIsValid(sup_base_type(att->atttypid)))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("type of column \"%s\" of the result has been dropped since the task made its rows",
							NameStr(att->attname))));
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("a type of the result has been altered since the task made its rows")));
}

/*
 * The columns of the rows that the task has sent, as far as they can be seen
 * without taking anything from it; NULL: not yet.  Without the lock: what has
 * been sent stays as it is until this session takes it.  *last_seen and *ended
 * are how far that was: the last chunk, and whether the task had ended.
 */
static const char *
peek_columns(SupReader *reader, SupTask *task, Size *len, dsa_pointer *last_seen, bool *ended)
{
	dsa_pointer next;

	sup_lock();
	next = task->first;
	*ended = sup_task_state(task) > SUP_TASK_RUNNING;
	sup_unlock();
	*last_seen = InvalidDsaPointer;

	for (;;)
	{
		const char *data = task->out;
		Size		size = Min(task->out_len, SUP_INLINE);
		bool		continues = task->out_continues;
		bool		last = !DsaPointerIsValid(next);
		SupMessage	message;

		CHECK_FOR_INTERRUPTS();
		if (!last)
		{
			SupChunk   *chunk = sup_chunk(next);

			if (chunk == NULL)
				raise_corrupt(reader);
			*last_seen = next;
			data = chunk->data;
			size = chunk->len;
			continues = chunk->continues;
			next = chunk->next;
		}
		else if (!*ended)
			return NULL;

		for (Size at = 0; !continues && sup_next_message(data, size, &at, &message);)
		{
			if (message.type == SUP_MSG_COLUMNS && message.len <= size - at &&
				sup_columns_are_sound(message.len))
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

/* The columns of the rows that follow. */
static void
begin_rows(SupReader *reader, const char *data, Size len)
{
	if (reader->store == NULL || reader->slot != NULL || !sup_columns_are_sound(len))
		raise_corrupt(reader);
	check_columns(reader, data, len);
	initStringInfo(&reader->types);
	reader->shapes = palloc(sizeof(SupShape) * Max(reader->columns->natts, 1));
	for (int i = 0; i < reader->columns->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(reader->columns, i);

		reader->shapes[i].len = att->attlen;
		reader->shapes[i].align = att_align_nominal(1, att->attalign);
	}
	reader->slot = MakeSingleTupleTableSlot(reader->columns, &TTSOpsMinimalTuple);
}

/*
 * Read a message that is complete.  The task's own error is only kept: it is
 * raised, or returned, once the task has ended.
 */
static void
handle_message(SupReader *reader, char type, char *data, Size len)
{
	switch (type)
	{
		case SUP_MSG_COLUMNS:
			begin_rows(reader, data, len);
			break;
		case SUP_MSG_TYPES:
			if (reader->slot == NULL)
				raise_corrupt(reader);
			appendBinaryStringInfo(&reader->types, data, len);
			break;
		case SUP_MSG_ROW:
			if (reader->slot == NULL ||
				!sup_row_is_sound(data, len, reader->columns->natts, reader->shapes))
				raise_corrupt(reader);
			ExecStoreMinimalTuple((MinimalTuple) data, reader->slot, false);
			tuplestore_puttupleslot(reader->store, reader->slot);
			break;
		case SUP_MSG_NOTICE:
			relay_notice(reader, data, len);
			break;
		case SUP_MSG_ERROR:
			reader->error = palloc_extended(Max(len, 1), MCXT_ALLOC_HUGE);
			memcpy(reader->error, data, len);
			reader->error_len = len;
			break;
		default:
			raise_corrupt(reader);
	}
}

/*
 * Read the messages in one piece of the stream.  One that goes on in the
 * next piece is kept in reader->part; 'continues' says that this piece
 * begins with the rest of one.
 */
static void
handle_data(SupReader *reader, char *data, Size len, bool continues)
{
	Size		at = 0;
	SupMessage	message;

	if (reader->part != NULL && !continues)
	{
		/* its end could not be sent */
		pfree(reader->part);
		reader->part = NULL;
	}
	if (reader->part == NULL && continues)
		raise_corrupt(reader);
	while (at < len)
	{
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

		if (!sup_next_message(data, len, &at, &message))
			raise_corrupt(reader);
		if (message.len > len - at)
		{
			reader->part_type = message.type;
			reader->part_total = message.len;
			reader->part_len = 0;
			reader->part = MemoryContextAllocHuge(CurrentMemoryContext, message.len);
			continue;
		}
		handle_message(reader, message.type, data + at, message.len);
		at += MAXALIGN(message.len);
	}
}

/* For sup_spin_until() and sup_sleep_until().  Does not take the lock. */
bool
sup_task_has_news(void *arg)
{
	return ((SupTaskRef *) arg)->task->hint;
}

/* Cleanup of copy_chunks() after an error: free the chunks that are left. */
static void
free_pending(int code, Datum arg)
{
	SupReader  *reader = (SupReader *) DatumGetPointer(arg);

	sup_free_chunks(reader->pending);
	reader->pending = InvalidDsaPointer;
}

/* A chunk that is ours alone. */
typedef struct Copy
{
	struct Copy *next;
	uint32		len;
	bool		continues;
	char	   *data;			/* MAXALIGNed */
} Copy;

/*
 * Copy and free the chunks that were taken from the task; all, also when an
 * error, or the end of this process, comes in between.  First of all: what
 * follows may wait for a client that does not read, and what nobody counts any
 * more must not take shared memory meanwhile.
 */
static Copy *
copy_chunks(SupReader *reader)
{
	Copy	   *first = NULL;
	Copy	  **link = &first;

	PG_ENSURE_ERROR_CLEANUP(free_pending, PointerGetDatum(reader));
	{
		while (DsaPointerIsValid(reader->pending))
		{
			SupChunk   *chunk = sup_chunk(reader->pending);
			Copy	   *copy;
			dsa_pointer next;

			if (chunk == NULL)
				raise_corrupt(reader);
			next = chunk->next;
			copy = palloc(sizeof(Copy));
			copy->next = NULL;
			copy->len = Min(chunk->len, SUP_CHUNK_DATA);
			copy->continues = chunk->continues;
			copy->data = palloc(Max(copy->len, 1));
			memcpy(copy->data, chunk->data, copy->len);
			dsa_free(sup_area(), reader->pending);
			reader->pending = next;
			*link = copy;
			link = &copy->next;
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(free_pending, PointerGetDatum(reader));
	return first;
}

/*
 * Read the copies, and free them.  If there were only notices, nothing of
 * the result is lost, and the reader is no more 'touched' than before.
 */
static void
read_chunks(SupReader *reader, Copy *copy)
{
	bool		touched = reader->touched;

	reader->touched = true;
	while (copy != NULL)
	{
		Copy	   *next = copy->next;

		handle_data(reader, copy->data, copy->len, copy->continues);
		pfree(copy->data);
		pfree(copy);
		copy = next;
		sup_injection_point("supervisor-reading");
		CHECK_FOR_INTERRUPTS();
	}

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

/*
 * The task's entry is copied under one hold of the lock, since another task
 * may have it when it has been released.  All that may raise an error comes
 * later, but the check of the columns, which comes first.
 */
bool
sup_reader_take(SupReader *reader, SupTaskRef *ref)
{
	SupTask    *task = ref->task;
	uint32		out_len = 0;
	bool		out_continues = false;
	const char *columns;
	Size		columns_len = 0;
	dsa_pointer last_seen;
	bool		peeked = false;
	bool		ended;
	bool		touched = reader->touched;
	char		message[SUP_MESSAGE];
	char		detail[SUP_MESSAGE];
	union
	{
		char		data[SUP_INLINE];
		int64		align;
	}			out;

	reader->id = ref->id;
	Assert(task->id == ref->id);
	task->hint = false;
	pg_memory_barrier();

	/*
	 * A list that does not match costs nobody the result: the task is still
	 * ours.
	 */
	sup_lock();
	while (reader->store != NULL && reader->slot == NULL && !peeked)
	{
		sup_unlock();
		columns = peek_columns(reader, task, &columns_len, &last_seen, &ended);
		if (columns != NULL)
			check_columns(reader, columns, columns_len);
		sup_lock();

		/* What has come since was not seen. */
		peeked = columns != NULL || (last_seen == task->last &&
									 ended == (sup_task_state(task) > SUP_TASK_RUNNING));
	}
	reader->pending = task->first;
	task->first = task->last = InvalidDsaPointer;
	task->taken = task->unread;
	task->unread = 0;
	reader->state = sup_task_state(task);
	ended = reader->state > SUP_TASK_RUNNING;
	if (ended)
	{
		out_len = Min(task->out_len, SUP_INLINE);
		out_continues = task->out_continues;
		memcpy(out.data, task->out, out_len);
		strlcpy(reader->tag, task->tag, sizeof(reader->tag));
		reader->sqlstate = task->sqlstate;
		if (reader->state != SUP_TASK_SUCCEEDED)
		{
			strlcpy(message, task->message, SUP_MESSAGE);
			strlcpy(detail, task->detail, SUP_MESSAGE);
			strlcpy(reader->pool, Sup->pools[Sup->bindings[task->binding].pool].name, NAMEDATALEN);
		}
		sup_task_release(task);
	}
	else if (DsaPointerIsValid(reader->pending))
		wake_worker(task);		/* it may hold more again */
	sup_unlock();

	if (DsaPointerIsValid(reader->pending))
	{
		Copy	   *copies;

		reader->touched = true; /* what is taken can't be put back */
		copies = copy_chunks(reader);
		if (!ended)
			chunks_are_free(task);
		reader->touched = touched;
		read_chunks(reader, copies);
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

/* The task's own error; NULL: it sent none that can be understood. */
static ErrorData *
own_error(SupReader *reader)
{
	if (reader->error == NULL)
		return NULL;
	return parse_message(reader, true, reader->error, reader->error_len);
}

/*
 * If the worker could not send the error with all its fields, it is raised
 * with the message and the detail in the task's entry.
 */
void
sup_reader_raise(SupReader *reader)
{
	ErrorData  *edata = own_error(reader);

	Assert(reader->state == SUP_TASK_FAILED || reader->state == SUP_TASK_CANCELED);

	/* It is an error of this session as well, which says where it comes from. */
	if (edata != NULL)
	{
		char	   *context = psprintf("supervisor task %llu in pool \"%s\"",
									   (unsigned long long) reader->id, reader->pool);

		edata->context = edata->context ? psprintf("%s\n%s", edata->context, context) : context;
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

/* The reader can be used for another task afterwards. */
void
sup_reader_free(SupReader *reader)
{
	Assert(reader->store == NULL);
	if (reader->part != NULL)
		pfree(reader->part);
	if (reader->error != NULL)
		pfree(reader->error);
	if (reader->message != NULL)
		pfree(reader->message);
	if (reader->detail != NULL)
		pfree(reader->detail);
	memset(reader, 0, sizeof(SupReader));
}

/* A batch has many of them, so what it takes to parse one is freed at once. */
char *
sup_reader_error(SupReader *reader)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor error",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	ErrorData  *edata = own_error(reader);
	char	   *message = MemoryContextStrdup(oldcontext, edata != NULL ? edata->message :
											  clipped(reader->message));

	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	return message;
}

/* Spins before it sleeps, if this session's last task was a short one. */
bool
sup_read_task(SupReader *reader, SupTaskRef *ref, TimestampTz deadline)
{
	/* What is learned from one wait for the next; no wait is within another. */
	static SupSpin spin = {0};

	spin.counted = &Sup->sessions[sup_my_session()].spinning;
	for (;;)
	{
		int			slot = ref->task->slot;
		TimestampTz submitted_at = ref->task->submitted_at;

		if (!sup_spin_until(&spin, slot >= 0 ? Sup->slots[slot].cpu : -1,
							sup_task_has_news, ref) &&
			!sup_sleep_until(sup_task_has_news, ref, deadline, NULL))
			return false;
		if (ref->task->finished_at != 0)
			sup_spin_note(&spin, ref->task->finished_at - submitted_at);
		if (sup_reader_take(reader, ref))
			return true;
		if (deadline != 0 && sup_now() >= deadline)
			return false;
	}
}
