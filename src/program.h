/*-------------------------------------------------------------------------
 *
 * program.h
 *	  What is known of declared workers in shared memory: what they run, and
 *	  how they are kept.  Locking is told in state.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_PROGRAM_H
#define SUP_PROGRAM_H

#include "lib/ilist.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"

#include "policy.h"

/* Command and result of a task up to this size live in its entry; so does a command's beginning here. */
#define SUP_INLINE		1024

/* Room for a message that is kept, with its terminating zero. */
#define SUP_MESSAGE		256

/* Why a worker does not run, or is about to end; sup_reason_names[] has the words. */
typedef enum SupReason
{
	SUP_NO_REASON,
	SUP_NO_BACKGROUND_WORKER_SLOT,
	SUP_NO_SLOT,
	SUP_RECOVERY,
	SUP_NO_DATABASE,
	SUP_DATABASE_NOT_ALLOWED,
	SUP_NO_ROLE,
	SUP_NO_LOGIN,
	SUP_NO_CONNECTION,
	SUP_NO_LIBRARY,
	SUP_NO_FUNCTION,
	SUP_FENCED,
	SUP_DISABLED,
	SUP_REQUESTED,
	SUP_EXITED,
	SUP_MAX_RESTARTS,
	SUP_NO_HEARTBEAT,
	SUP_START_TIMEOUT,
	SUP_STOP_TIMEOUT,
	SUP_INVALID
} SupReason;

/* What a worker is. */
typedef enum SupKind
{
	SUP_KIND_POOL,
	SUP_KIND_COMMAND,			/* a declared worker that runs a command */
	SUP_KIND_LIBRARY,			/* a declared worker that is a C function */
	SUP_KIND_LOADER				/* reads a database's declarations */
} SupKind;

/* Where a declaration comes from. */
typedef enum SupSource
{
	SUP_FROM_TABLE,				/* supervisor.worker */
	SUP_FROM_LIBRARY,			/* supervisor.h, while libraries are preloaded */
	SUP_FROM_CALL,				/* supervisor.h, at run time */
	SUP_FROM_SERVER				/* supervisor.take_over: a library has
								 * registered it with the server */
} SupSource;

/*
 * How a declared worker is kept.  Times are in microseconds; -1 is what the
 * setting of the same name says.
 */
typedef struct SupTerms
{
	bool		enabled;
	int			instances;
	SupRestart	restart;
	int64		restart_delay;
	int64		restart_delay_max;
	int			max_restarts;
	int64		restart_window;
	int64		start_timeout;
	int64		stop_timeout;
} SupTerms;

/*
 * What a declared worker runs: if any of this changes, its processes are
 * replaced.  Compared as bytes, so whoever makes one clears it first.
 */
typedef struct SupProgram
{
	SupKind		kind;
	BgWorkerStartTime start_after;
	int			flags;			/* BGWORKER_... */
	char		type[BGW_MAXLEN];

	/* A command. */
	Oid			role;
	int64		run_every;		/* microseconds, as those below; 0: once per
								 * start */
	int64		run_timeout;	/* 0: none */
	bool		bypass_allowconn;
	bool		bypass_rolelogincheck;
	uint64		command_hash;	/* of all of it: its process reads it from the
								 * table */
	uint64		settings_hash;	/* likewise, of what its session has SET */
	int			command_len;
	char		command[SUP_INLINE];	/* its beginning */

	/* A C function. */
	int64		heartbeat_timeout;	/* 0: it promises none */
	int64		argument;		/* as the function gets it: a Datum by value */
	bool		says_ready;		/* it is not ready before it says so */
	char		library[MAXPGPATH];
	char		function[BGW_MAXLEN];
	char		extra[BGW_EXTRALEN];

	/* ... that a library has registered, and that sees itself so. */
	bool		registered;
	int			restart_time;	/* seconds, or BGW_NEVER_RESTART */
	char		process_name[BGW_MAXLEN];
} SupProgram;

/*
 * What a declaration says of itself for the time after a crash.  The postmaster reads
 * it when all others are gone, and what they have written is not to be relied upon.
 */
#define SUP_RESTS	UINT64CONST(0x72657374696e6721)

/*
 * A declared worker: what is to run, in one or more instances.  The loader
 * writes what comes from a table, a session what comes from a call; a session
 * that has started or stopped it in a transaction that is still open has set
 * 'enabled', and its pid in 'holder', until that ends.
 */
typedef struct SupDeclaration
{
	char		name[NAMEDATALEN];	/* "": this entry is free */
	uint64		id;				/* never reused */
	SupSource	source;
	Oid			database;		/* in which its row is; 0 */
	SupTerms	terms;
	SupProgram	program;
	int			version;		/* of the program */
	int			started_version;	/* when a transaction started it; 0: none
									 * has since its end */
	bool		listed;			/* in supervisor.stopped_workers; set by the
								 * postmaster and the supervisor */
	SupReason	bad;			/* why it can't run */
	char		bad_detail[SUP_MESSAGE];
	uint64		rests;			/* SUP_RESTS plus its index: it was stopped by
								 * name, or has ended for good */
	bool		gone;			/* its row is; the entry follows its processes */
	bool		capped;			/* its role is not a superuser */
	Oid			account;		/* ... and then: see sup_account_of() */
	bool		seen;			/* by the loader that runs now */
	int			holder;
	bool		roll;			/* restart its instances, one after another */
	bool		start;			/* start those that stopped or failed */
	bool		reloaded;		/* it has been read again */
	int			notify_pid;		/* its latch is set when a slot changes; 0 */
	bool		attended;
	dlist_node	attention_node;

	/* Written by the supervisor. */
	dlist_head	slots;			/* SupSlot.owner_node */
	int			no_slot;		/* instances for which there is no slot */
} SupDeclaration;

/*
 * A database whose table supervisor.worker is to be read, or was not long ago.
 * Who waits for a reading waits for one that has begun after a request, by the
 * requests' numbers: others may go on asking.
 */
typedef struct SupLoad
{
	Oid			database;		/* 0: free */
	TimestampTz due;			/* DT_NOEND: nobody has asked since the last
								 * reading began */
	int			failures;		/* in a row */
	bool		slow;			/* the last one took long to fail */
	bool		awaited;		/* by a session */
	bool		left_out;		/* there was no room for some of its rows */
	Oid			owner;			/* of the database; until that is known, the
								 * role that has asked */
	uint64		requested;		/* number of the last request */
	/* Written by the supervisor. */
	bool		knows_owner;
	TimestampTz began;			/* the last reading; 0: there was none */
	int64		interval;		/* microseconds from then to the next one */
	uint64		reading;		/* requests up to this one it serves */
	uint64		read;			/* ... have been served */
} SupLoad;

#endif							/* SUP_PROGRAM_H */
