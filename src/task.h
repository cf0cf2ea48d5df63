/*-------------------------------------------------------------------------
 *
 * task.h
 *	  Tasks: submitted, queued, run, read, canceled, forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_TASK_H
#define SUP_TASK_H

#include "access/tupdesc.h"
#include "lib/stringinfo.h"

#include "format.h"
#include "state.h"

/* A task as its submitter knows it. */
typedef struct SupTaskRef
{
	SupTask    *task;
	uint64		id;
} SupTaskRef;

/* ---- the submitting session ---- */

/* This session does not wait any longer: cancel the task, and drop its result. */
extern void sup_task_abandon(SupTaskRef *ref, SupCancel why);

/* The same for all tasks of the running execute_all(). */
extern void sup_batch_abandon(SupCancel why);

/*
 * This session takes the result of a launched task as it comes; or not any more.
 * In between the task does not expire.  If it has done so before, an error is
 * raised.
 */
extern void sup_task_start_reading(SupTaskRef *ref);
extern void sup_task_stop_reading(SupTaskRef *ref);

/* This session ends: abandon all that it has not forgotten. */
extern void sup_session_end(void);

/* See to it that this is called when this process ends. */
extern void sup_session_begin(void);

/* Find a task of this session by its id, or raise the error. */
extern void sup_task_of_session(int64 id, SupTaskRef *ref);

/* Raise 42704 if that id was never given out.  The caller holds no lock. */
extern void sup_task_check_id(int64 id);

extern bool sup_task_forget(SupTaskRef *ref);

/* ---- any session ---- */

/* State and role of a task; SUP_TASK_FREE: there is none with that id any more. */
extern SupTaskState sup_task_role(int64 id, Oid *role);
extern bool sup_task_cancel(int64 id);

/*
 * Begin to wait for a task, for which the caller has checked the rights, unless it
 * has ended: which state it is in.  Until sup_task_stop_waiting(), to be called
 * also after an error, its entry is not given to another; it may sleep on 'ended'.
 * *for_snapshot: the task may wait for a snapshot that this session has.
 * Raises 55000 if it is gone.
 */
extern SupTaskState sup_task_start_waiting(int64 id, SupTaskRef *ref, bool *for_snapshot);
extern void sup_task_stop_waiting(void);

/* The caller holds the lock. */
extern SupTask *sup_task_lookup(uint64 id);

/* Nobody will read this task, which has ended. */
extern void sup_task_release(SupTask *task);

/* Is there an entry for a new task? */
static inline bool
sup_task_has_entry(void)
{
	return Sup->free_task >= 0 || !dlist_is_empty(&Sup->past);
}

/* Take it. */
extern SupTask *sup_task_take_entry(void);
extern void sup_task_fail_queued(SupTask *task, SupTaskState state, int sqlstate,
								 const char *message, const char *detail);

/* ---- the worker ---- */

/*
 * A palloc'd copy of a task's command with all that belongs to it.  NULL: it
 * makes no sense.
 */
extern SupInput *sup_task_input(SupTask *task);

/*
 * The task has ended in 'state'; publish that and take the next task, under
 * one lock.  NULL: the worker is idle or, with slot->leaving_since set, shall go.
 */
extern SupTask *sup_task_finish(SupSlot *slot, SupTask *task, SupTaskState state,
								const char *tag, int sqlstate, const char *message,
								bool *cancel_sent);

/* Give the task back to the head of the queue, for a fresh process. */
extern void sup_task_hand_back(SupSlot *slot, SupTask *task);

/* The worker is gone.  The caller holds the lock. */
extern void sup_task_worker_died(SupSlot *slot, int sqlstate, const char *message);

/* The supervisor: cancel launched tasks whose time is over; when to look again. */
extern TimestampTz sup_task_time_out(TimestampTz now);

/* The supervisor: forget results that nobody read; when to look again. */
extern TimestampTz sup_task_expire(TimestampTz now);

#endif							/* SUP_TASK_H */
