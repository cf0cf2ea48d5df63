/*-------------------------------------------------------------------------
 *
 * values.h
 *	  The states of slots and tasks, and other values that shared memory has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_VALUES_H
#define SUP_VALUES_H

/* States of a slot; sup_state_names[] has the words. */
typedef enum SupState
{
	SUP_EMPTY,
	SUP_WAITING,
	SUP_STARTING,
	SUP_RUNNING,
	SUP_STOPPING,
	SUP_STUCK,
	SUP_BACKOFF,
	SUP_STOPPED,
	SUP_FAILED
} SupState;

#define SUP_NUM_STATES	(SUP_FAILED + 1)

/* Why a worker is asked to leave; one of a pool does so once it has no task. */
typedef enum SupLeave
{
	SUP_STAY,
	SUP_LEAVE_RECYCLE,			/* room is needed for another binding, or for
								 * a pool, its time is up, or its session is
								 * out of date */
	SUP_LEAVE_SURPLUS,			/* the pool shrinks; it is not wanted any more */
	SUP_LEAVE_RESTART,			/* a person, or a rolling restart */
	SUP_LEAVE_FENCE				/* DDL on its database */
} SupLeave;

/* How far a child has come. */
typedef enum SupPhase
{
	SUP_PHASE_ATTACH,
	SUP_PHASE_CONNECT,			/* to its database, as its role */
	SUP_PHASE_LOAD,				/* its library, or its command */
	SUP_PHASE_RUN
} SupPhase;

typedef enum SupTaskState
{
	SUP_TASK_FREE,
	SUP_TASK_QUEUED,
	SUP_TASK_RUNNING,			/* given to a worker */
	SUP_TASK_SUCCEEDED,
	SUP_TASK_FAILED,
	SUP_TASK_CANCELED
} SupTaskState;

/* What the submitter does with a task. */
typedef enum SupTaskKind
{
	SUP_TASK_RUN,				/* waits, wants the rows */
	SUP_TASK_EXECUTE,			/* waits, wants the tag */
	SUP_TASK_BATCH,				/* one of execute_all */
	SUP_TASK_LAUNCH,			/* goes on; may read it later */
	SUP_TASK_DRAIN				/* none submits it: it takes jobs, see drain.h */
} SupTaskKind;

/* Why a task was canceled; sup_cancel_messages[] has what is said of it. */
typedef enum SupCancel
{
	SUP_NOT_CANCELED,
	SUP_CANCEL_REQUEST,			/* supervisor.cancel */
	SUP_CANCEL_TIMEOUT,			/* the timeout of the call */
	SUP_CANCEL_CALL,			/* the call that waited was canceled, or
								 * failed */
	SUP_CANCEL_SESSION			/* its session has ended */
} SupCancel;

/* On which list of its pool a binding is. */
typedef enum SupPlace
{
	SUP_NOWHERE,				/* it has no queued task */
	SUP_QUEUED,					/* SupPool.queued */
	SUP_BLOCKED					/* SupPool.blocked */
} SupPlace;

#endif							/* SUP_VALUES_H */
