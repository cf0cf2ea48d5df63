/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  The stream of messages that a worker sends for its task.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_STREAM_H
#define SUP_STREAM_H

#include "access/tupdesc.h"

#include "task.h"

/* Begin its result. */
extern void sup_out_begin(SupTask *task);

/* Let the reader see now what there is.  Raises nothing. */
extern void sup_out_push(void);

/*
 * The rows are complete: make sure that the reader will get them, or raise
 * 54000 or 53200.
 */
extern void sup_out_settle(void);

/* Forget what has not been sent yet: its statement has failed. */
extern void sup_out_drop(void);

/* Is this process a worker that runs a task now? */
extern bool sup_in_task(void);

/*
 * Append to the result.  May wait for the reader to make room, take interrupts
 * meanwhile, and raise 54000 or 53200; with 'force' it raises nothing, takes
 * none, waits only while somebody reads, and says whether it had room.
 * Re-entered while something else is being sent, it keeps the message for
 * later.
 */
extern bool sup_out_message(char type, const void *data, Size len, bool force);
extern void sup_out_row(TupleDesc desc, Datum *values, bool *isnull);

/*
 * The same for one that is a tuple already, of that length; what 't_len' says
 * does not count, since it may be part of a heap tuple.  False: it is too
 * large for that.
 */
extern bool sup_out_tuple(MinimalTuple tuple, Size len);

/* The task has ended in 'state', and will now be finished: complete its stream. */
extern void sup_out_end(SupTaskState state);

#endif							/* SUP_STREAM_H */
