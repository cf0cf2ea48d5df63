/*-------------------------------------------------------------------------
 *
 * prepared.h
 *	  What transactions tell when they commit, as it lies in shared memory for
 *	  those that are prepared.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_PREPARED_H
#define SUP_PREPARED_H

#include "access/xact.h"
#include "utils/dsa.h"

/* A prepared transaction has so many notes in its entry; more are in the area. */
#define SUP_NOTES		16

/*
 * Whose doing it is that a pool worker goes: a successor is a fork and, with the
 * next task, a login.
 */
typedef enum SupCause
{
	SUP_CAUSE_NONE,				/* a superuser's, or ours: it counts for
								 * nobody */
	SUP_CAUSE_OTHER,			/* of another role than its own */
	SUP_CAUSE_ROLE				/* of its own */
} SupCause;

/* What a transaction tells when it commits; InvalidOid is any. */
typedef enum SupNoteKind
{
	SUP_NOTE_SETTINGS,			/* of a role in a database have changed */
	SUP_NOTE_LOAD,				/* declared workers of a database may have */
	SUP_NOTE_GRANT,				/* to a database somebody may connect now */
	SUP_NOTE_LOGIN,				/* whether a role can log in may have changed */
	SUP_NOTE_NAMES				/* a database or role is new, or another */
} SupNoteKind;

typedef struct SupNote
{
	SupNoteKind kind;
	Oid			role;
	Oid			database;
	SupCause	cause;			/* whose doing that is */
} SupNote;

/* Of so many jobs that a transaction changes it is known which. */
#define SUP_CHANGED		8

/* Jobs that a transaction has changed, or was about to: who waits for one looks when it ends. */
typedef struct SupChanged
{
	Oid			database;
	Oid			role;			/* whose they are; 0: several roles' */
	uint32		n;				/* more than SUP_CHANGED: any of that role */
	int64		ids[SUP_CHANGED];
} SupChanged;

/*
 * What a prepared transaction has to tell when it is committed: see notes.c.
 * Its entry is written by who is about to prepare it, and read and freed by who
 * finds it finished, or failed.  Who frees it has its memory in the area for
 * himself, and frees that without the lock.
 */
typedef struct SupPrepared
{
	TransactionId xid;
	uint64		number;			/* in the order in which they were added */
	bool		prepared;		/* or else it is just about to be */
	bool		named;			/* its identifier is known */
	char		gid[GIDSIZE];	/* which may be empty */
	bool		renames;		/* a database, which is locked until it is
								 * finished */
	Oid			role;			/* whose it is */
	Size		held;			/* by it, in the area */
	SupChanged	changed;		/* if any, what it says of jobs is told if it
								 * is rolled back, too */
	Oid			any_jobs;		/* database where anything about jobs may have
								 * changed; 0: none */
	uint32		njobs;			/* SupJobNotes, which follow the notes */
	uint32		nnotes;			/* sorted */
	dsa_pointer notes;			/* valid: they are there */
	SupNote		few[SUP_NOTES]; /* or here */
} SupPrepared;

#endif							/* SUP_PREPARED_H */
