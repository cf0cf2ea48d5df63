/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The table supervisor.worker of the current database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_CATALOG_H
#define SUP_CATALOG_H

#include "storage/itemptr.h"

#include "row.h"

/* A row as it is, or shall be, in the table. */
typedef struct SupTuple
{
	Datum		values[SUP_WORKER_COLS];
	bool		nulls[SUP_WORKER_COLS];
	ItemPointerData tid;		/* if it was locked */
} SupTuple;

/*
 * The table, if everything about it is as our script made it and only
 * superusers can have changed it; or else 0, and in *complaint, unless there
 * is just no such extension here, what is wrong.  In a transaction.
 */
extern Oid	sup_catalog_table(const char **complaint);

/*
 * Read all rows, in the latest snapshot.  Without 'wait', not getting the lock
 * is an error.  False: until it was got, the table was dropped or changed.
 */
typedef void (*SupRowVisitor) (Datum *values, bool *nulls, void *arg);

extern bool sup_catalog_scan(Oid table, bool wait, SupRowVisitor visit, void *arg);

/*
 * The row of a worker with a command, which with its settings is palloc'd; false
 * if it does not say to run just that program.
 */
extern bool sup_catalog_command(const char *name, const SupProgram *program, SupRow *row);

/* Find a row, palloc'd, in the latest snapshot; false: there is none. */
extern bool sup_catalog_find(Oid table, const char *name, SupTuple *row);

/*
 * The table, as sup_catalog_table(), but also without triggers of others, and
 * locked to the end of the transaction: whoever would change that waits.
 */
extern Oid	sup_catalog_lock(const char **complaint);

/*
 * In the table that is so locked: find a row and lock it, in its newest
 * version, waiting for whoever changes it; write it.  No code of anybody runs
 * at that, and later commands of the transaction see it.
 */
extern bool sup_catalog_lock_row(Oid table, const char *name, SupTuple *row);
extern void sup_catalog_insert(Oid table, SupTuple *row);
extern void sup_catalog_update(Oid table, SupTuple *row);
extern void sup_catalog_delete(Oid table, SupTuple *row);

/*
 * Delete the rows that belong to an extension, which is about to be dropped.
 */
extern bool sup_catalog_delete_extension(const char *extension);

#endif							/* SUP_CATALOG_H */
