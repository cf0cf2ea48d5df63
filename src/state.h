/*-------------------------------------------------------------------------
 *
 * state.h
 *	  The shared memory of supervisor: slots, pools, bindings, tasks.
 *
 * Locking: one LWLock, Sup->lock, protects everything here except as noted
 * at a field.  It is held for looking, copying and linking only: never over
 * SQL, palloc, ereport(ERROR) or a wait.  The sections below say who writes
 * a field; "the supervisor" is that process alone, "the child" is the process
 * whose generation the slot has, "anyone" is whoever holds the lock.  When a slot
 * belongs to whom is said at SupSlot.
 *
 * All lists hold pointers or indexes into the main shared memory segment,
 * which every process maps at the same address.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_STATE_H
#define SUP_STATE_H

#include "access/xact.h"
#include "lib/ilist.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "postmaster/bgworker.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "utils/dsa.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"
#include "prepared.h"
#include "program.h"
#include "values.h"

/* How many events the ring remembers. */
#define SUP_EVENTS		1000

/* ... and how many calls that have waited for a task. */
#define SUP_CALLS		32

/* Roles of which is remembered that they end workers. */
#define SUP_DEBTORS		64

/* Databases of which is remembered that a login to them takes long. */
#define SUP_SLOW		64

/* Databases that may be fenced off at once; a non-superuser role holds a quarter. */
#define SUP_FENCES		64

/*
 * Holder of a fence, if no process is: a transaction that has just been
 * prepared, until the supervisor finds its locks; and while it looks.
 */
#define SUP_FENCE_PREPARED	(-1)
#define SUP_FENCE_LOOKED_AT	(-2)

/* Databases whose declared workers are to be looked up; more are "all". */
#define SUP_LOADS		256
#define SUP_LOAD_OWNERS	512

/*
 * Generation of the process that the postmaster starts for a slot before the
 * supervisor: those that the supervisor starts begin with 1.
 */
#define SUP_STATIC_GENERATION	0

/*
 * All tasks of one role in one database, in one pool, and the workers bound
 * to it.  Exists as long as it has a task or a worker.  Anyone writes it.
 */
typedef struct SupBinding
{
	int			next;			/* in its hash chain, or in the free list */
	int			pool;
	Oid			database;
	Oid			role;
	int			nworkers;		/* slots that are bound, or being bound */
	int			nbusy;			/* ... and have a task */
	int			ntasks;			/* tasks that exist, in any state */
	int			nkept;			/* ... that a session has launched and not
								 * forgotten: their end makes no room */
	int			ndrains;		/* beside these tasks */
	int			nqueued;
	Oid			account;		/* see sup_account_of(); 0: a superuser's */
	Size		held;			/* bytes of the area that its tasks hold */
	dlist_head	queue;			/* SupTask.node, in order */
	dlist_head	idle;			/* SupSlot.binding_node, most recent first */
	SupPlace	place;
	dlist_node	node;			/* in the list that this names */
	TimestampTz waiting_since;	/* in 'queued': it began to wait, or the last
								 * task was taken from it */
	TimestampTz held_until;		/* its role has ended too many workers */
	TimestampTz dear_until;		/* its tasks have been long: see
								 * others_starve() */
} SupBinding;

/*
 * A role that has ended workers.  Each end counts for a while, and the sum of
 * that ends at 'debt'.
 */
typedef struct SupDebtor
{
	Oid			role;			/* 0: free */
	Oid			database;		/* in which that counts; 0: everywhere */
	TimestampTz debt;
} SupDebtor;

/*
 * A database to which a login of that pool has taken long.  Its owner can make it
 * hang, so there is one at a time from then on, and others wait for it no longer
 * than that.  Anyone writes it.
 */
typedef struct SupSlow
{
	Oid			database;		/* 0: free */
	int			pool;
	int			logins;			/* slots that have this in 'slow' */
	int64		allowed;		/* microseconds that the next one may take
								 * while others wait */
	TimestampTz held_until;		/* none begins before */
} SupSlow;

typedef struct SupPool
{
	/* Written by the supervisor. */
	char		name[NAMEDATALEN];	/* "": this entry is free */
	dlist_head	slots;			/* SupSlot.owner_node */
	int			size;			/* as the settings say; 0 if removed */
	bool		removed;		/* not in the settings any more */
	uint64		members_version;	/* of its list in Sup->members, no other
									 * list's; 0: it has none */
	int			no_slot;		/* workers wanted for which there is no slot */
	TimestampTz no_worker_since;	/* 0: there is one */
	bool		down;			/* ... and since start_timeout: refuse tasks */
	char		down_detail[SUP_MESSAGE];

	/* Written by anyone. */
	bool		attended;		/* the supervisor shall look at it */
	int			nbindings;
	int			nqueued;		/* tasks; also those of blocked bindings */
	int			nqueued_blocked;	/* those alone */
	int			nblocked;		/* length of 'blocked' */
	int			ncoming;		/* slots with 'coming' */
	int			promised;		/* binding that gets the next worker; -1 */
	TimestampTz made_room_at;	/* a worker left for another binding that
								 * starved */
	TimestampTz slow_held_until;	/* of one worker: no login to a slow
									 * database begins before */
	TimestampTz review_at;		/* when one in 'blocked' is held no longer */
	dlist_head	queued;			/* bindings with queued tasks, by
								 * 'waiting_since', oldest first */
	dlist_head	blocked;		/* ... for which nobody may log in now: a
								 * fence, their role is held back, or their
								 * database is slow */
	int			nslow;			/* slots with 'slow' */
	bool		slow_waits;		/* one in 'blocked' waits for one of these; a
								 * hint */
	dlist_head	unbound;		/* SupSlot.pool_node: ready, unbound */
	dlist_head	idle;			/* SupSlot.pool_node: bound and idle, most
								 * recent first */
	dlist_head	overdue;		/* SupSlot.pool_node: logs in for longer than
								 * is allowed, longest first */
	int64		tasks_succeeded;
	int64		tasks_failed;
	int64		tasks_canceled;
	int64		jobs_succeeded; /* runs */
	int64		jobs_failed;
	TimestampTz stats_since;	/* these five count */
} SupPool;

/* The last events of a slot that differ from each other. */
#define SUP_RECENT	6

typedef struct SupRecent
{
	int64		ids[SUP_RECENT];	/* 0: none */
	int			places[SUP_RECENT]; /* in the ring; its id may be another by
									 * now */
	int			repeats[SUP_RECENT];	/* how often each has come again */
	int			next;			/* the entry to be overwritten */
} SupRecent;

/*
 * One supervised worker.
 *
 * A slot that has no process, see sup_has_process(), belongs to the supervisor,
 * or while there is none, to its successor.  So does all of it that is listed as
 * the supervisor's at any time.  Nobody else starts a process, or moves the slot
 * from state to state; the postmaster does before there is a supervisor.
 *
 * To have a process started, the supervisor increments 'generation', clears
 * what the former child has left, and sets 'registering'.  The process of
 * that generation makes the child's part its own by setting 'attached_at';
 * one that comes when the slot has moved on finds another generation, or no
 * 'registering' and no fitting state, and ends without touching anything.
 * The child gives its part back by setting 'exited_at', when it writes
 * nothing any more; one that dies without saying so takes the server with
 * it.  The supervisor takes it back when the postmaster says that the
 * process is gone, and not before: so what the child has left can be read
 * until then.
 *
 * What the postmaster starts in the place of a pool's worker, or of the loader, while
 * that place is kept, belongs to the same registration.  It waits until the supervisor
 * has a generation for it, as it would have one registered.  The loader's slot is empty
 * meanwhile.
 *
 * Anyone may change what is anyone's, holding the lock.  Beside that, a session
 * that asks for a worker to be restarted or started at once sets 'roll', or
 * 'restart_at' of one that waits; each asks the supervisor to look.  An idle
 * worker's place in the pool's lists, and with it 'task', 'binding', 'role' and
 * 'database', is taken by whoever gives it a task; the worker takes them back when
 * it ends that task.
 *
 * (slot, generation) identifies a process.  Whoever has let go of the lock
 * compares 'generation' before it believes that the slot still describes the
 * process it looked at.
 */
typedef struct SupSlot
{
	/* Written by the supervisor. */
	SupState	state;
	SupReason	reason;
	char		detail[SUP_MESSAGE];
	SupKind		kind;
	int			pool;			/* -1: it is none's */
	int			declaration;	/* -1: it is none's */
	int			version;		/* of its program that the process runs */
	dlist_node	owner_node;		/* in the list of its pool or declaration */
	int			instance;
	uint64		generation;		/* never reset; incremented for each process */
	SupReason	stop_reason;	/* why it is being terminated: the first one */
	bool		lingers;		/* it was to end, has nothing more to do, and
								 * is still there */
	bool		registering;	/* the postmaster is being asked for its
								 * process */
	bool		has_handle;
	SupHandle	handle;
	bool		notifies;		/* the postmaster tells this supervisor of its
								 * end */
	uint64		registered;		/* 'generation' when it was registered, which
								 * the process knows */
	bool		restartable;	/* the postmaster starts another in its place
								 * if it ends so: only with 'notifies' */
	bool		unforked;		/* ... and has yet to start this one, for all
								 * that we know */
	bool		unborn;			/* the last one has never attached */
	int			holder;			/* its pid, by the postmaster; 0: unforked */
	bool		surplus;		/* the pool has shrunk: goes once it has no
								 * task */
	bool		roll;			/* to be replaced by a rolling restart */
	bool		made_room;		/* a command that was ended for its place,
								 * which comes before others */
	TimestampTz started_at;
	TimestampTz state_since;
	TimestampTz deadline;		/* of starting and stopping; 0: none */
	int64		heartbeat_timeout;	/* of the program that it runs */
	TimestampTz restart_at;		/* of backoff and waiting */
	int			look_again;		/* ms, while an adopted child is being reaped */
	int			attempts;		/* starts in vain, in a row */
	uint64		names_version;	/* Sup->names_version when it was started */
	SupReason	missing;		/* what the last one lacked, which is in the
								 * log */
	int64		restarts;
	SupHistory	history;

	/* Written by the child; cleared by the supervisor for the next one. */
	TimestampTz attached_at;	/* 0: it has not; as the two that follow */
	TimestampTz ready_at;
	TimestampTz exited_at;
	int			pid;
	PGPROC	   *proc;
	SupReason	exit_reason;	/* why it could not begin its work */
	int			exited_pid;
	int			exit_code;
	bool		exit_of_role;	/* it was bound, or in its bind: the doing of
								 * that role */
	bool		keeps_place;	/* it has ended so: the next one comes by
								 * itself */
	int			heir;			/* number of its PGPROC, plus 1, if it waits
								 * for its generation; it may have gone */

	/*
	 * Written by the child, without the lock; cleared by the supervisor as
	 * those above.  Of 'phase' a reader may see the one before, but of a pool
	 * worker's, which changes under the lock where somebody acts on it.
	 * 'runs' is set before 'leave' is looked at, with a barrier between:
	 * whoever sets 'leave' either sees it or is seen. The others are hints.
	 */
	SupPhase	phase;
	volatile bool runs;			/* a command worker runs its command now */
	bool		succeeded;		/* ... and has run it without an error */
	volatile TimestampTz heartbeat_at;
	volatile int cpu;			/* a hint for spinning */
	pg_atomic_uint32 spinning;	/* counted in nspinning; whoever clears it
								 * uncounts */

	/* What its predecessor, or it, left; written by supervisor and child. */
	TimestampTz last_exit_at;
	int			last_exit_code; /* -1: never attached */
	int			last_sqlstate;
	char		last_error[SUP_MESSAGE];
	Oid			last_role;		/* role whose error that is */
	Oid			last_database;	/* of a declared worker: where it was */
	SupRecent	recent;			/* its last events */

	/* Of a command; written by supervisor and child. */
	TimestampTz next_run;		/* 0: at once */
	TimestampTz last_run_at;	/* the last one began */
	TimestampTz last_run_end;	/* and ended; 0: it has not */
	TimestampTz last_success_at;	/* end of one without an error */

	/* Written by anyone. */
	bool		attended;		/* the supervisor shall look at it */
	dlist_node	attention_node;
	volatile bool terminate;	/* asks the supervisor to terminate this
								 * generation */
	TimestampTz login_until;	/* the same, if a pool worker still logs in
								 * then; DT_NOEND: never */
	TimestampTz overdue_at;		/* it is overdue, if it still logs in then */
	bool		overdue;		/* pool_node is on that list */
	int64		allowed;		/* microseconds that its login may take */
	SupSlow    *slow;			/* its login counts there; NULL */
	volatile SupLeave leave;
	TimestampTz leaving_since;	/* on no list any more, on its way out; 0: no */
	bool		coming;			/* it, or its successor, will be ready for any
								 * binding without being asked */

	/*
	 * task that it has been given, plus 1; the child reads it without the
	 * lock
	 */
	pg_atomic_uint32 task;
	TimestampTz given_at;		/* when that was */
	bool		begun;			/* the child has begun with that task; it sets
								 * that without the lock, and is the only one
								 * to act on it */
	int			binding;		/* -1: unbound */
	volatile bool stale;		/* settings of its role or database have
								 * changed since */
	SupCause	cause;			/* whose doing it is if it leaves */
	bool		at_home;		/* its role owns the database */
	bool		stuck;			/* it is in Sup->stuck */
	Oid			account;		/* as SupBinding.account when that bound it */
	Oid			database;
	Oid			role;
	bool		capped;			/* as SupTask.capped of the task that bound it */
	bool		listed;			/* pool_node is on a list */
	dlist_node	pool_node;
	dlist_node	binding_node;
	int64		tasks_succeeded;
	int64		tasks_failed;
	int64		tasks_canceled;
	int64		runs_succeeded;
	int64		runs_failed;
	TimestampTz stats_since;	/* these five, and 'restarts', count */
} SupSlot;

/* Something of its result that a task hands to its reader. */
typedef struct SupChunk
{
	dsa_pointer next;
	uint32		len;
	uint32		continues;		/* begins inside a message; data is MAXALIGNed */
	char		data[FLEXIBLE_ARRAY_MEMBER];
} SupChunk;

/* What fits into one; with its header that fills 8 pages. */
#define SUP_CHUNK_DATA	(32 * 1024 - offsetof(SupChunk, data))

/*
 * One task.  Belongs to its submitter until it is linked in by
 * sup_task_submit(), to its worker while it runs, and from the end to whoever
 * reads it.  The worker writes 'tag', 'out', 'sqlstate' and 'message' without
 * the lock and publishes them by setting 'state' under it.  It reads without it
 * what its submitter set, and whether somebody reads, which may be so no more.
 *
 * A launched one that has ended and that nobody will read any more is past: it
 * has no session, no binding and nothing in the area, and counts for nobody.  How
 * it ended can be seen until it expires, or until its entry is needed.
 */
typedef struct SupTask
{
	pg_atomic_uint32 state;		/* SupTaskState; may be read without the lock */
	SupTaskKind kind;
	uint64		id;
	int			next_in_place;	/* of the tasks of Sup->task_places; -1 */
	int			binding;		/* -1: it is past */
	int			job_queue;		/* of a drain */
	int			owner;			/* session, -1 if nobody will read it */
	int			slot;			/* that runs or ran it; -1 */
	bool		reading;		/* its session takes its result as it comes */
	bool		awaited;		/* its session sleeps until it ends, and reads
								 * it then */
	int			waiters;		/* sessions that have it in 'waits_for': while
								 * there is one, its entry stays its own */
	ConditionVariable ended;	/* they sleep on that */
	bool		capped;			/* its role may hold half of what there is */
	bool		concurrently;	/* waits for old snapshots, so who has one
								 * can't wait for it */

	/*
	 * Set under the lock, and read without it.  It is set before SIGINT is
	 * sent, with a barrier between; the worker forgets a SIGINT before it
	 * looks at it, with another: so a cancel is either seen or taken.
	 */
	volatile SupCancel cancel;
	int			timeout;		/* ms that it may run; 0: no limit */
	TimestampTz submitted_at;
	TimestampTz started_at;
	TimestampTz finished_at;
	TimestampTz aside_since;	/* once it is in one of the two last */
	dlist_node	node;			/* in its binding's queue; once finished, in
								 * Sup->finished; once past, in Sup->past */
	bool		is_aside;		/* it is in one of these two */
	dlist_node	owner_node;		/* in its session's list */
	uint64		passed_in;		/* a round through that */
	bool		dropped;		/* counted in Sup->dropped_... */
	bool		in_news;
	dlist_node	news_node;		/* in its session's list of tasks with
								 * something to read */

	/*
	 * The command: see SupInput.  All of it if it fits, or else its
	 * beginning.
	 */
	uint32		in_len;
	dsa_pointer in;
	char		head[SUP_INLINE];

	/* The result. */
	dsa_pointer first;			/* chunks to be read */
	dsa_pointer last;
	Size		unread;			/* bytes in them */
	Size		taken;			/* bytes that its reader has taken and not
								 * freed yet */
	uint32		out_len;		/* the rest, which fits in here */
	bool		out_continues;	/* as SupChunk.continues */
	char		out[SUP_INLINE];
	char		tag[COMPLETION_TAG_BUFSIZE];
	int			sqlstate;
	char		message[SUP_MESSAGE];
	char		detail[SUP_MESSAGE];	/* of an error that is not in the
										 * stream */

	/* What its binding said, once it is past. */
	Oid			past_database;
	Oid			past_role;
	char		past_pool[NAMEDATALEN];

	/*
	 * Set after 'state' was, without the lock, so that a spinning reader does
	 * not run into the writer's lock.  A hint: it may be set for no reason.
	 */
	volatile bool hint;
} SupTask;

/* A job that a session waits for by wait_job(), as its row was when it last looked. */
typedef struct SupJobWait
{
	int64		id;				/* 0: none; else it is on SupJobs.waiting */
	dlist_node	node;
	Oid			database;
	Oid			role;
	char		pool[NAMEDATALEN];
	uint64		key;			/* as in SupCandidate */
	int64		run_at;
	bool		looked;			/* what is above is what it has seen */
	volatile bool told;			/* look again; read without the lock */
} SupJobWait;

/* What a session, by its PGPROC's number, has in the pool. */
typedef struct SupSession
{
	dlist_head	tasks;			/* SupTask.owner_node */
	dlist_head	news;			/* SupTask.news_node, of a batch */
	uint64		round;			/* through 'tasks', the last one */
	int			waits_for;		/* task that it waits for by wait(), whoever
								 * has submitted it, plus 1; 0: none */

	/*
	 * tasks of the running execute_all that have not ended; its process reads
	 * it without the lock
	 */
	volatile int outstanding;
	int			wake_at;		/* wake it when 'outstanding' falls to this */
	volatile bool hint;			/* there is news before that; as SupTask.hint */
	/* Written by its process without the lock. */
	volatile int pid;			/* sleeps for its tasks, and is this process;
								 * or 0 */
	volatile int cpu;			/* a hint for spinning */
	pg_atomic_uint32 spinning;	/* as SupSlot.spinning */
	int			ncalls;			/* in Sup->callers */

	/* It launches a task for which there is no room. */
	bool		wants_room;		/* it is on Sup->wanting */
	dlist_node	room_node;
	Oid			room_role;		/* a task of that one must go; 0: any */
	volatile bool room;			/* one has gone, and it was taken off for that */

	SupJobWait	job;
} SupSession;

typedef struct SupEvent
{
	int64		id;				/* 0: none yet */
	TimestampTz at;				/* the first time */
	TimestampTz last_at;
	int64		count;			/* how often: all else is of the last time */
	int			slot;			/* -1: none */
	uint64		generation;
	int			pid;
	Oid			role;
	char		name[NAMEDATALEN];
	char		event[24];
	char		detail[SUP_MESSAGE];
} SupEvent;

/* What is looked at to find the event to be overwritten, dense. */
typedef struct SupEventKey
{
	int64		id;				/* of the event; 0: none yet */
	Oid			cause;			/* role that it counts for; 0: nobody's */
} SupEventKey;

/* DDL on a database is under way, or has just been prepared: nobody binds to it. */
typedef struct SupFence
{
	int			holder;			/* pid, 0: free */
	Oid			role;			/* non-superuser that holds it; 0 */
	Oid			database;
} SupFence;

/* A process that does not end, or may not, and whose it is.  Anyone writes it. */
typedef struct SupStuck
{
	int			slot;
	Oid			role;
	Oid			database;
	Oid			account;		/* as SupSlot.account */
	bool		capped;			/* as SupSlot.capped */
} SupStuck;

typedef struct SupShared
{
	LWLock	   *lock;
	uint64		incarnation;	/* of this memory: another after each crash */
	int			ncpus;			/* that the server may use */
	int64		clock_base;		/* microseconds that make the steady clock the
								 * wall clock of the server's start */
	int64		clock_set;		/* how far that has been set since, written by
								 * sup_clock_set() */
	ConditionVariable changed;	/* broadcast when a slot changed: for waiting
								 * sessions */

	/* The supervisor. */
	PGPROC	   *supervisor;		/* NULL: none */
	TimestampTz supervisor_since;	/* there is one, or none */
	bool		pools_set;		/* it has read the settings once */
	TimestampTz next_wakeup;	/* when it will look by itself */
	dlist_head	attention;		/* SupSlot.attention_node */
	dlist_head	changed_declarations;	/* SupDeclaration.attention_node */
	bool		fence_lowered;
	uint64		names_version;	/* incremented when a database or role is new,
								 * or another: what a library's function did
								 * not find may be there */
	bool		names_changed;	/* for the supervisor */
	bool		check_prepared; /* it shall look whether prepared transactions
								 * have been finished */

	/* Databases to be read: written by anyone. */
	SupLoad		loads[SUP_LOADS];
	uint32		databases_hash; /* of supervisor.databases at the last look */
	uint64		last_request;	/* its number */
	bool		load_all;		/* begin a pass over all of them */
	TimestampTz left_out_at;	/* when the next one may be read that was left
								 * out */
	Oid			load_cursor;	/* those from this one on are still to come in
								 * the pass; 0: none is under way */
	Oid			loading;		/* by the loader that runs now */
	bool		loaded;			/* ... which has come to the end */
	int64		load_patience;	/* microseconds until it must be ready */
	bool		in_recovery;	/* when the supervisor looked last */
	bool		has_herald;		/* a process is registered that tells it of
								 * promotion */
	SupHandle	herald;
	TimestampTz library_start_at;	/* after a crash, C functions wait */
	int			crashes;		/* in a row */
	uint64		last_declaration_id;

	pg_atomic_uint32 nspinning; /* processes that spin now */
	int			callers[SUP_CALLS]; /* the last that have waited for a task:
									 * session plus 1; 0: none yet */
	TimestampTz called_at[SUP_CALLS];
	int			next_call;		/* the oldest of them */
	int			ncallers;		/* that are different */
	volatile bool crowded;		/* see sup_note_call() */
	volatile int nbusy;			/* workers that have a task; read without the
								 * lock as a hint */

	uint64		last_task_id;
	int64		last_event_id;
	int			free_task;		/* SupTask index list through 'slot' */
	int			free_drain;		/* the same, of those after sup_max_tasks */
	int			ntasks;			/* that exist */
	int			nkept;			/* as SupBinding.nkept, of all */
	dlist_head	wanting;		/* SupSession.room_node */
	TimestampTz next_deadline;	/* the first in task_deadlines, or earlier */
	int			free_binding;
	int			nbuckets;
	dlist_head	finished;		/* launched tasks that ended and may be read,
								 * by 'aside_since' */
	dlist_head	past;			/* those that nobody will read any more, by
								 * 'aside_since' */

	int			nfences;		/* that are up */
	SupFence	fences[SUP_FENCES];
	int			nlocked;		/* databases that prepared transactions have
								 * locked: nobody binds to them, either */
	SupPool		pools[SUP_MAX_POOLS];
	SupMembers	members[SUP_MAX_POOLS]; /* of each; written by the supervisor */
	uint64		last_members_version;
	bool		pools_missing;	/* one of the settings has no entry yet, as
								 * removed ones still have theirs */
	SupDebtor	debtors[SUP_DEBTORS];
	SupSlow		slow[SUP_SLOW];
	int			nslow;			/* of these that are not free */
	int			nstuck;			/* length of 'stuck' */
	SupEventKey event_keys[SUP_EVENTS];
	SupEvent	events[SUP_EVENTS];

	/* These point into the same piece of memory. */
	SupSlot    *slots;			/* the last one is the loader's */
	SupDeclaration *declarations;
	uint32	   *declaration_keys;	/* hash of database and name, dense, 0 if
									 * free */
	int			ndeclarations;
	Oid		   *locked;			/* ... sorted; written by the supervisor */
	int			maxlocked;
	SupPrepared *prepared;
	uint32	   *prepared_keys;	/* hash of the gid, dense, 0 if free */
	int			nprepared;
	uint64		last_prepared;
	Size		prepared_held;	/* by all of them, in the area */
	int			nameless;		/* entries without an identifier; read without
								 * the lock as a hint */
	int			dropped_queued; /* tasks that had not ended when the server
								 * was shut down */
	int			dropped_running;
	SupTask    *tasks;
	uint64	   *task_ids;		/* copy of each task's id, dense, 0 if free */
	int		   *task_places;	/* by the remainder of an id: index of the
								 * last task whose id has that; -1 */
	TimestampTz *task_deadlines;	/* when a launched one is canceled, dense;
									 * 0: never */
	SupStuck   *stuck;
	SupBinding *bindings;
	int		   *buckets;		/* heads of hash chains of bindings, by role */
	SupSession *sessions;
	void	   *dsa;			/* place of the area for what does not fit in
								 * a task */
} SupShared;

extern SupShared *Sup;			/* NULL: not preloaded */
extern SupSlot *SupMySlot;		/* of this process; NULL: it is no child of
								 * the supervisor */
extern bool sup_registered;		/* core accepted the supervisor's registration */

extern const char *const sup_state_names[];
extern const char *const sup_reason_names[];
extern const char *const sup_task_state_names[];
extern const char *const sup_cancel_messages[];

/*
 * The time by which all is measured and waited for, and which all that is kept in
 * shared memory is of: the wall clock's at the start of the server, steady since.
 */
extern TimestampTz sup_now(void);

/*
 * How far the wall clock has been set since: what is to be added to a time where
 * it is shown, so that it is as long ago, or to come, as it is.
 */
extern int64 sup_clock_set(void);

/*
 * When that time of the wall clock comes, if it is not set: a minute from now at the
 * latest, so that this is seen.  The caller holds the lock.
 */
extern TimestampTz sup_wall_to_steady(TimestampTz wall);

/* What processes of supervisor wait for. */
typedef enum SupWaitEvent
{
	SUP_WAIT_MAIN,				/* the supervisor, for something to do */
	SUP_WAIT_UNBOUND,			/* a pool worker, for its first task */
	SUP_WAIT_IDLE,				/* a pool worker, for its next task */
	SUP_WAIT_RESULT_READ,		/* a task, for its reader to make room */
	SUP_WAIT_TASK,				/* a session, for its task */
	SUP_WAIT_JOB,				/* a session, for a job */
	SUP_WAIT_WORKER,			/* a session, for a worker to start or stop */
	SUP_WAIT_FENCE,				/* DDL, for workers to leave its database */
	SUP_WAIT_DUE				/* a declared worker, for its next run */
} SupWaitEvent;

#define SUP_NUM_WAIT_EVENTS (SUP_WAIT_DUE + 1)

extern uint32 sup_wait_event(SupWaitEvent event);

/* How many entries Sup->bindings has. */
extern int	sup_nbindings(void);

/* Start-up of the server. */
extern void sup_state_request(void);
extern bool sup_state_init(void);	/* true: it is new, and empty */

/*
 * The area for commands, results and notes, attached at first use: which must not
 * be under the lock.
 */
extern dsa_area *sup_area(void);

/* What a non-superuser role may hold of it. */
#define SUP_HALF_OF_AREA	((Size) sup_shared_memory * 1024 / 2)

/*
 * What it is asked for at least.  Of anything up to 8 kB it keeps some 64 kB for
 * others of that size, for ever and for each of many sizes.  Whole pages it
 * merges, and gives to anybody.
 */
static inline Size
sup_area_size(Size size)
{
	return Max(size, 12 * 1024);
}

/* Are these bytes in it, as far as the pointer tells? */
static inline bool
sup_in_area(dsa_pointer pointer, Size size)
{
	Size		total = (Size) sup_shared_memory * 1024;

	/* it has one segment, so that a pointer is an offset */
	return pointer < total && size <= total - pointer;
}

/* No fresh memory shows what was there before. */
static inline void
sup_clear_rest(char *memory, Size size, Size used)
{
	memset(memory + used, 0, size - used);
}

/*
 * A chunk of a result, of which the header and 'len' bytes of data can be read;
 * NULL: that is no pointer to one.
 */
extern SupChunk *sup_chunk(dsa_pointer pointer);
extern void sup_free_chunks(dsa_pointer first);

extern void sup_lock(void);

/*
 * Wake a process once the lock is released: woken earlier it might take this
 * processor, only to wait for the lock.  By then the PGPROC may be another
 * process's, which takes a latch that is set for no reason.
 */
extern void sup_wake(PGPROC *proc);

/*
 * Set a hint once the lock is released, and before anybody is woken: whoever
 * spins on it is about to take the lock.
 */
extern void sup_hint(volatile bool *hint);

/* Wake all that sleep on it, once the lock is released: they may be many. */
extern void sup_broadcast(ConditionVariable *cv);

/*
 * Free memory in the area, or a chain of chunks, once the lock is released:
 * that takes other locks.
 */
#define SUP_MAX_FREES	64

extern void sup_free_later(dsa_pointer pointer);
extern void sup_free_chunks_later(dsa_pointer first);
extern void sup_unlock(void);

/*
 * This session waits for the end of a task of that role, or with 0 of any; or not
 * any more.  If the end of one was spent on it in vain, the next gets it.  Both
 * take the lock.
 */
extern void sup_want_room(Oid role);
extern void sup_room_wanted(void);

#define SUP_ASSERT_LOCKED() Assert(LWLockHeldByMe(Sup->lock))

static inline int
sup_slot_index(const SupSlot *slot)
{
	return (int) (slot - Sup->slots);
}

/* The slots of workers and, after them, that of the loader. */
static inline int
sup_nslots(void)
{
	return sup_max_workers + 1;
}

static inline SupSlot *
sup_loader_slot(void)
{
	return &Sup->slots[sup_max_workers];
}

/* Has it a process, as far as the supervisor knows? */
static inline bool
sup_has_process(const SupSlot *slot)
{
	return slot->registering || slot->state == SUP_STARTING || slot->state == SUP_RUNNING ||
		slot->state == SUP_STOPPING || slot->state == SUP_STUCK ||
		(slot->state == SUP_WAITING && slot->reason == SUP_RECOVERY);
}

/* Has its process become ready, and is it there, or well done? */
static inline bool
sup_has_started(const SupSlot *slot)
{
	return slot->ready_at != 0 && slot->state != SUP_STARTING && !slot->registering &&
		(slot->exited_at == 0 || (slot->kind != SUP_KIND_POOL && slot->exit_code == 0));
}

static inline int
sup_task_index(const SupTask *task)
{
	return (int) (task - Sup->tasks);
}

static inline SupTaskState
sup_task_state(SupTask *task)
{
	return (SupTaskState) pg_atomic_read_u32(&task->state);
}

/* Number of this process's session. */
static inline int
sup_my_session(void)
{
	return (int) (MyProc - ProcGlobal->allProcs);
}

/* A process that spins is counted once, also while it is being given a task. */
static inline void
sup_stop_counting(pg_atomic_uint32 *spinning)
{
	if (pg_atomic_read_u32(spinning) != 0 && pg_atomic_exchange_u32(spinning, 0) != 0)
		pg_atomic_fetch_sub_u32(&Sup->nspinning, 1);
}

/* Is this process a worker of a pool? */
extern bool sup_in_pool_worker(void);

/* All that follow: the caller holds the lock. */
extern void sup_wake_supervisor(void);
extern void sup_attend(SupSlot *slot);
extern void sup_give_up_place(SupSlot *slot);
extern void sup_wake_heir(SupSlot *slot);
extern void sup_attend_pool(SupPool *pool);
extern void sup_attend_declaration(SupDeclaration *declaration);
extern void sup_attend_owner(SupSlot *slot);
extern void sup_wake_supervisor_by(TimestampTz when);
extern const char *sup_slot_name(const SupSlot *slot);

/* NULL: it has no process, or what that has written, or somebody else, can't be it. */
extern PGPROC *sup_slot_proc(const SupSlot *slot);
extern void sup_wake_slot(const SupSlot *slot);

extern Oid	sup_slot_role(const SupSlot *slot);

extern bool sup_database_fenced(Oid database);

extern void sup_count_coming(SupSlot *slot);

/* What is counted of a slot or pool begins anew. */
extern void sup_clear_slot_stats(SupSlot *slot, TimestampTz now);
extern void sup_clear_pool_stats(SupPool *pool, TimestampTz now);

/*
 * A task of that role has gone: wake a session that waits for that, once the
 * lock is released and its memory is free.
 */
extern void sup_room_made(Oid role);

#endif							/* SUP_STATE_H */
