/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  The stream of messages that a worker sends for its task.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "match.h"
#include "stream.h"

/* How long a message waits for room where no interrupts can be taken. */
#define HELD_WAIT_MS	1000

/*
 * The stream that this worker sends.
 *
 * To send a chunk may mean to wait for the reader, and to take interrupts
 * meanwhile.  What these run may have something to say to the client, as the
 * leader of a parallel query passes on what its workers say, and so come back
 * to sup_out_message().  Everywhere else these variables are changed without
 * anything between that could emit a message.  So 'out_sending' is set while a
 * chunk is sent: then nothing but 'out_late' is touched, and what has come there
 * is appended as soon as the message is complete that was being sent.  There
 * goes as well what can't wait for room, since core emits it with interrupts
 * held.
 */
static SupTask *out_task = NULL;
static char *out_buffer = NULL; /* SUP_CHUNK_DATA bytes */
static uint32 out_len;			/* used of it */
static bool out_continues;		/* it begins inside a message */
static uint32 out_settled;		/* rows in it, which must not get lost; at
								 * most SUP_INLINE */
static bool out_reads;			/* has a reader, as far as we know */
static bool out_sending = false;
static StringInfoData out_late; /* messages, as in the stream; in
								 * MessageContext, or NULL */

static void append_late(void);

/* Drops what an earlier task has left. */
void
sup_out_begin(SupTask *task)
{
	/*
	 * Gaps between messages get into shared memory, too: not with what was
	 * here.
	 */
	if (out_buffer == NULL)
		out_buffer = MemoryContextAllocZero(TopMemoryContext, SUP_CHUNK_DATA);
	out_task = task;
	sup_out_drop();
	out_reads = task->owner >= 0;
	out_sending = false;
	out_late.data = NULL;
}

/* Was this process asked to end the task, or itself? */
static bool
must_hurry(void)
{
	return ProcDiePending || QueryCancelPending || proc_exit_inprogress;
}

/*
 * Sleep until the reader may have made room.  False: with interrupts held, not
 * any longer.  Then there may be an LWLock that the reader wants.
 */
static bool
await_reader(bool force)
{
	bool		held = !INTERRUPTS_CAN_BE_PROCESSED();
	int			events = WaitLatch(MyLatch,
								   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (held ? WL_TIMEOUT : 0),
								   HELD_WAIT_MS, sup_wait_event(SUP_WAIT_RESULT_READ));

	ResetLatch(MyLatch);
	sup_check_interrupts_while_sending(!force);
	return (events & WL_TIMEOUT) == 0;
}

/* There is something to read, if anybody reads.  The caller holds the lock. */
static void
tell_reader(SupTask *task)
{
	SUP_ASSERT_LOCKED();
	if (!task->reading || task->owner < 0 || task->unread == 0)
		return;
	if (task->kind == SUP_TASK_BATCH)
	{
		if (!task->in_news)
			dlist_push_tail(&Sup->sessions[task->owner].news, &task->news_node);
		task->in_news = true;
		Sup->sessions[task->owner].hint = true;
	}
	sup_hint(&task->hint);
	sup_wake(&ProcGlobal->allProcs[task->owner]);
}

/*
 * Wait until the task's reader has made room for 'size' bytes.  False: with
 * 'force' there is none, or nobody will read.
 */
static bool
wait_for_room(Size size, bool force)
{
	SupTask    *task = out_task;
	Size		limit = (Size) sup_result_memory * 1024;

	for (bool patient = true;;)
	{
		bool		reading;
		Size		unread;

		sup_lock();
		out_reads = task->owner >= 0;
		reading = task->reading;
		unread = task->unread;
		if (unread + size > limit)
			tell_reader(task);
		sup_unlock();

		if (!out_reads)
			return false;
		if (unread == 0 && reading)
			return true;
		if (unread + size <= limit)
			return true;
		if (force && (!reading || !patient || must_hurry()))
			return unread + size <= 2 * limit;
		if (!reading)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("result of launched task exceeds \"%s\"", "supervisor.result_memory"),
					 errdetail("Nobody reads it yet, and a task may hold at most %d kB unread.",
							   sup_result_memory),
					 errhint("Call supervisor.result() sooner, or use supervisor.run().")));
		patient = await_reader(force);
	}
}

/* Hand a piece of the stream to the reader; false: dropped. */
static bool
send_chunk(const char *data, uint32 len, bool force)
{
	SupTask    *task = out_task;
	Size		size = sup_area_size(offsetof(SupChunk, data) + len);
	dsa_pointer pointer;
	SupChunk   *chunk;

	if (!wait_for_room(size, force))
		return false;

	for (bool patient = true;;)
	{
		bool		over = false;
		bool		read_all;

		if (task->capped)
		{
			sup_lock();
			over = sup_role_held(Sup->bindings[task->binding].role) + size > SUP_HALF_OF_AREA;
			sup_unlock();
		}
		pointer = over ? InvalidDsaPointer :
			dsa_allocate_extended(sup_area(), size, DSA_ALLOC_NO_OOM);
		if (DsaPointerIsValid(pointer))
			break;

		/* The reader may give back some of ours; nobody else's is waited for. */
		sup_lock();
		read_all = (task->unread == 0 && task->taken == 0) || !task->reading;
		tell_reader(task);
		sup_unlock();
		if (force && (read_all || !patient || must_hurry()))
			return false;
		if (read_all)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of shared memory for results of tasks"),
					 over ? errdetail("A non-superuser role holds at most half of it.") : 0,
					 errhint("You might need to increase \"%s\".", "supervisor.shared_memory")));
		patient = await_reader(force);
	}

	chunk = dsa_get_address(sup_area(), pointer);
	chunk->next = InvalidDsaPointer;
	chunk->len = len;
	chunk->continues = out_continues;
	memcpy(chunk->data, data, len);
	sup_clear_rest((char *) chunk, size, offsetof(SupChunk, data) + len);

	sup_lock();
	if (task->owner < 0)
	{
		sup_unlock();
		out_reads = false;
		dsa_free(sup_area(), pointer);
		return false;
	}
	if (DsaPointerIsValid(task->last))
		((SupChunk *) dsa_get_address(sup_area(), task->last))->next = pointer;
	else
		task->first = pointer;
	task->last = pointer;
	task->unread += size;
	Sup->bindings[task->binding].held += size;
	/* Its session needs the rows only when they are complete: wake it seldom. */
	if (task->unread >= (Size) sup_result_memory * 1024 / 4)
		tell_reader(task);
	sup_unlock();
	return true;
}

/*
 * Send what the buffer holds.  False, and the buffer stays as it is: with
 * 'force', there was no room.
 */
static bool
send_buffer(bool force)
{
	volatile bool sent = true;

	Assert(!out_sending);
	if (out_reads && out_len > 0)
	{
		out_sending = true;
		if (force)
			sent = send_chunk(out_buffer, out_len, true);
		else
		{
			PG_TRY();
			{
				sent = send_chunk(out_buffer, out_len, false);
			}
			PG_CATCH();
			{
				out_sending = false;
				PG_RE_THROW();
			}
			PG_END_TRY();
		}
		out_sending = false;
	}
	if (!sent && out_reads)
		return false;
	sup_out_drop();
	return true;
}

/* Keep a notice that can't be sent now. */
static void
keep_for_later(char type, const void *data, Size len)
{
	MemoryContext oldcontext;
	SupMessage	header = {0};

	if (out_late.data != NULL && out_late.len + len > MaxAllocSize / 2)
		return;
	oldcontext = MemoryContextSwitchTo(MessageContext);
	if (out_late.data == NULL)
		initStringInfo(&out_late);
	header.len = (uint32) len;
	header.type = type;
	appendBinaryStringInfo(&out_late, (char *) &header, sizeof(header));
	appendBinaryStringInfo(&out_late, data, len);
	appendStringInfoSpaces(&out_late, MAXALIGN(len) - len);
	MemoryContextSwitchTo(oldcontext);
}

/* If nobody reads yet, it waits in the buffer; so does what has no room. */
void
sup_out_push(void)
{
	if (out_sending || !out_task->reading)
		return;
	(void) send_buffer(true);
	sup_lock();
	tell_reader(out_task);
	sup_unlock();
}

/*
 * The rows are complete: make sure, while that may still fail, that the
 * reader will get them.
 */
void
sup_out_settle(void)
{
	if (out_len > SUP_INLINE)
		(void) send_buffer(false);
	out_settled = out_len;
	append_late();
}

/*
 * If the beginning of a message has been sent, the rest does not follow, and
 * so the reader knows that it is not complete.
 */
void
sup_out_drop(void)
{
	out_len = out_settled = 0;
	out_continues = false;
}

/* If it is not, what core would send to a client is dropped: see exec.c. */
bool
sup_in_task(void)
{
	/* The last words of a process are no task's any more. */
	return out_task != NULL && !proc_exit_inprogress;
}

/* Room for a message of that length in the buffer; NULL: there is none. */
static char *
reserve_room(char type, Size len, bool force)
{
	Size		total = sizeof(SupMessage) + MAXALIGN(len);
	SupMessage *message;

	if (total > SUP_CHUNK_DATA)
		return NULL;
	if (out_len + total > SUP_CHUNK_DATA && !send_buffer(force))
		return NULL;
	message = (SupMessage *) (out_buffer + out_len);
	message->len = (uint32) len;
	message->type = type;
	out_len += total;
	return (char *) (message + 1);
}

/*
 * Append a message, to several chunks if it is too large for one.  Returns
 * false if nobody reads, or with 'force' if there is no room.
 */
static bool
append_message(char type, const void *data, Size len, bool force)
{
	char	   *place;
	SupMessage	header = {0};

	if (!out_reads)
		return false;

	/* Notices that nobody reads yet leave half of the room to rows. */
	if (type == SUP_MSG_NOTICE && !out_task->reading &&
		out_task->unread + out_len + len > (Size) sup_result_memory * 1024 / 2)
		return false;

	place = reserve_room(type, len, force);
	if (place != NULL)
	{
		memcpy(place, data, len);
		return true;
	}

	/* Too large for one chunk: it fills several. */
	if (!send_buffer(force))
		return false;
	header.len = (uint32) len;
	header.type = type;
	memcpy(out_buffer, &header, sizeof(header));
	out_len = sizeof(header);
	while (len > 0)
	{
		Size		part = Min(len, SUP_CHUNK_DATA - out_len);

		memcpy(out_buffer + out_len, data, part);
		data = (const char *) data + part;
		len -= part;
		out_len = MAXALIGN(out_len + part);
		if (len > 0)
		{
			if (!send_buffer(force))
			{
				/* the reader sees that the end is missing */
				sup_out_drop();
				return false;
			}
			out_continues = true;
		}
	}
	return true;
}

/* Append what was kept, and what comes while that is sent; unless it would not wait as long as it takes. */
static void
append_late(void)
{
	while (out_late.data != NULL && !out_sending && INTERRUPTS_CAN_BE_PROCESSED())
	{
		StringInfoData late = out_late;
		SupMessage	message;
		Size		at = 0;

		out_late.data = NULL;
		while (sup_next_message(late.data, late.len, &at, &message))
		{
			(void) append_message(message.type, late.data + at, message.len, true);
			at += MAXALIGN(message.len);
		}
		pfree(late.data);
	}
}

/* What was kept for later goes first, to keep the messages in order. */
bool
sup_out_message(char type, const void *data, Size len, bool force)
{
	bool		is_notice = type == SUP_MSG_NOTICE;
	bool		appended;

	append_late();
	if (out_sending || (is_notice && out_late.data != NULL))
	{
		Assert(is_notice);
		keep_for_later(type, data, len);
		return true;
	}
	appended = append_message(type, data, len, force);
	if (!appended && is_notice && out_reads && out_task->reading && !INTERRUPTS_CAN_BE_PROCESSED())
		keep_for_later(type, data, len);
	append_late();
	return appended;
}

/* If the row fits, it is formed in the buffer itself, which saves a copy. */
void
sup_out_row(TupleDesc desc, Datum *values, bool *isnull)
{
	Size		len = offsetof(MinimalTupleData, t_bits);
	Size		data_len;
	bool		hasnull = false;
	char	   *place;
	int			hoff;

	if (!out_reads)
		return;

	for (int i = 0; i < desc->natts && !hasnull; i++)
		hasnull = isnull[i];
	if (hasnull)
		len += BITMAPLEN(desc->natts);
	hoff = len = MAXALIGN(len);
	data_len = heap_compute_data_size(desc, values, isnull);
	len += data_len;

	if (len < SUP_CHUNK_DATA - sizeof(SupMessage) &&
		(place = reserve_room(SUP_MSG_ROW, len, false)) != NULL)
	{
		/* form it in place: as heap_form_minimal_tuple() would */
		MinimalTuple tuple = (MinimalTuple) place;

		memset(tuple, 0, len);
		tuple->t_len = len;
		HeapTupleHeaderSetNatts(tuple, desc->natts);
		tuple->t_hoff = hoff + MINIMAL_TUPLE_OFFSET;
		heap_fill_tuple(desc, values, isnull, (char *) tuple + hoff, data_len,
						&tuple->t_infomask, hasnull ? tuple->t_bits : NULL);
		append_late();
	}
	else
	{
		MinimalTuple tuple = sup_form_minimal_tuple(desc, values, isnull);

		(void) sup_out_message(SUP_MSG_ROW, tuple, tuple->t_len, false);
		pfree(tuple);
	}
}

/* Copies the tuple as it is, but sets its length and clears the padding. */
bool
sup_out_tuple(MinimalTuple tuple, Size len)
{
	MinimalTuple copy;

	if (!out_reads)
		return true;
	copy = (MinimalTuple) reserve_room(SUP_MSG_ROW, len, false);
	if (copy == NULL)
		return false;

	/* what pads the length may be anything in a tuple from a file */
	copy->t_len = len;
	memset(copy->mt_padding, 0, sizeof(copy->mt_padding));
	memcpy((char *) copy + MINIMAL_TUPLE_DATA_OFFSET,
		   (char *) tuple + MINIMAL_TUPLE_DATA_OFFSET, len - MINIMAL_TUPLE_DATA_OFFSET);
	append_late();
	return true;
}

/*
 * The rest of the stream goes into the entry if it fits.  If not, and there is
 * no memory either, then the notices after the last rows are lost, or the
 * details of an error.
 */
void
sup_out_end(SupTaskState state)
{
	SupTask    *task = out_task;

	append_late();
	if (out_reads && out_len > SUP_INLINE && !send_buffer(true))
		out_len = state == SUP_TASK_SUCCEEDED ? out_settled : 0;
	if (out_reads)
	{
		Assert(out_len <= SUP_INLINE);
		memcpy(task->out, out_buffer, out_len);
		task->out_len = out_len;
		task->out_continues = out_continues;
	}
	out_task = NULL;
}
