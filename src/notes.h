/*-------------------------------------------------------------------------
 *
 * notes.h
 *	  What a transaction has to tell when it commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_NOTES_H
#define SUP_NOTES_H

#include "state.h"

/* In _PG_init. */
extern void sup_install_notes(void);

/* This transaction has something to tell when it commits. */
extern void sup_note(SupNoteKind kind, Oid role, Oid database);

/* It has renamed a database, which is locked until it ends. */
extern void sup_note_rename(Oid database);

/* It is about to drop a database; it has, and nothing else. */
extern void sup_note_doomed(Oid database);
extern void sup_note_dropped(void);

/* It is to be prepared, under that identifier. */
extern void sup_note_prepare(const char *gid);

/*
 * This session is about to finish a prepared transaction: is it known?  It has
 * finished it.
 */
extern bool sup_finish_prepared(const char *gid);
extern void sup_finished_prepared(const char *gid, bool commits, bool known);

/* This transaction may have changed the declared workers of a database. */
extern void sup_note_load(Oid database);

/*
 * This process holds declared workers, see SupDeclaration.holder, to the end of
 * the transaction, committed or not.
 */
extern void sup_note_hold(void);

/*
 * For the supervisor: if asked, look which prepared transactions are finished that
 * nobody has told of, and whether the others' fences are still needed.
 */
extern void sup_look_at_prepared(void);

#endif							/* SUP_NOTES_H */
