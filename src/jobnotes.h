/*-------------------------------------------------------------------------
 *
 * jobnotes.h
 *	  What a transaction has to tell of jobs when it commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOBNOTES_H
#define SUP_JOBNOTES_H

#include "queue.h"
#include "state.h"

/* Of the jobs of a queue that a transaction has made due: the first of each priority. */
typedef struct SupJobNote
{
	Oid			database;
	Oid			role;
	Oid			account;
	char		pool[NAMEDATALEN];
	SupSpot		first[SUP_PRIORITIES];	/* none: after all others */
} SupJobNote;

/*
 * This transaction makes a job due, of that role and account; or it is about to change
 * one, which is told at its end in any case, since whoever has looked at the row
 * meanwhile has passed over it; or to change anything about jobs of this database, which
 * is told likewise.
 */
extern void sup_note_job(Oid role, Oid account, const char *pool, int priority, SupSpot spot);
extern void sup_note_changed_job(Oid role, Oid account, const char *pool, int priority, SupSpot spot);
extern void sup_note_any_jobs(void);

/* One of the current database that says nothing yet. */
extern void sup_job_note_init(SupJobNote *note, Oid role, Oid account, const char *pool);

/* Those of this transaction, which are in one piece. */
extern const SupJobNote *sup_job_notes(int *n);
extern bool sup_notes_any_jobs(void);

/* Those that it has changed; told if it is rolled back, too. */
extern const SupChanged *sup_notes_changed_jobs(void);

/* Tell of one of the same role in a pool; that of 'queue' is the caller's, who goes on with it. */
extern void sup_publish_job(SupJobQueue *queue, const char *pool, const SupCandidate *job);

/* Tell them: nothing is allocated, and no error raised. */
extern void sup_publish_jobs(const SupJobNote *notes, int n);
extern void sup_publish_any_jobs(Oid database);

/* The transaction has ended. */
extern void sup_forget_job_notes(void);

#endif							/* SUP_JOBNOTES_H */
