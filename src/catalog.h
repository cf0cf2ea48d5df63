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

#include "state.h"

/* Its columns, in order.  What a later version of the extension adds is last. */
typedef enum SupColumn
{
	SUP_COL_NAME,
	SUP_COL_COMMAND,
	SUP_COL_RUN_EVERY,
	SUP_COL_LIBRARY,
	SUP_COL_FUNCTION,
	SUP_COL_ARGUMENT,
	SUP_COL_EXTRA,
	SUP_COL_TYPE,
	SUP_COL_ROLE,
	SUP_COL_INSTANCES,
	SUP_COL_START_AFTER,
	SUP_COL_RESTART,
	SUP_COL_RESTART_DELAY,
	SUP_COL_RESTART_DELAY_MAX,
	SUP_COL_MAX_RESTARTS,
	SUP_COL_RESTART_WINDOW,
	SUP_COL_START_TIMEOUT,
	SUP_COL_STOP_TIMEOUT,
	SUP_COL_RUN_TIMEOUT,
	SUP_COL_HEARTBEAT_TIMEOUT,
	SUP_COL_BYPASS_ALLOWCONN,
	SUP_COL_BYPASS_ROLELOGINCHECK,
	SUP_COL_ENABLED,
	SUP_COL_EXTENSION
} SupColumn;

#define SUP_WORKER_COLS (SUP_COL_EXTENSION + 1)

/* Until ALTER EXTENSION UPDATE the table has no more than its script gave it. */
#define SUP_WORKER_COLS_1_0 (SUP_COL_EXTENSION + 1)

typedef struct SupColumnDef
{
	const char *name;
	Oid			type;
} SupColumnDef;

extern const SupColumnDef sup_worker_columns[SUP_WORKER_COLS];

/* A row as it is, or shall be, in the table. */
typedef struct SupTuple
{
	Datum		values[SUP_WORKER_COLS];
	bool		nulls[SUP_WORKER_COLS];
	ItemPointerData tid;		/* if it was locked */
} SupTuple;

/* A row, understood. */
typedef struct SupRow
{
	char		name[NAMEDATALEN];
	char		extension[NAMEDATALEN]; /* "": none */
	SupTerms	terms;
	SupProgram	program;
	const char *command;		/* all of it; NULL: it is a C function */

	/* If it is no good: what is wrong. */
	int			sqlstate;		/* 0: it is good */
	const char *message;
	const char *hint;
} SupRow;

/*
 * The table, if everything about it is as our script made it and only
 * superusers can have changed it; or else 0, and in *complaint, unless there is
 * just no such extension here, what is wrong.  In a transaction.
 */
extern Oid	sup_catalog_table(const char **complaint);

/*
 * Read all rows, in the latest snapshot.  Without 'wait', not getting the lock
 * is an error.  False: until it was got, the table was dropped or changed.
 */
typedef void (*SupRowVisitor) (Datum *values, bool *nulls, void *arg);

extern bool sup_catalog_scan(Oid table, bool wait, SupRowVisitor visit, void *arg);

/* Understand a row.  What can only be known elsewhere, as whether its role exists, is not asked. */
extern void sup_catalog_parse(const Datum *values, const bool *nulls, SupRow *row);

/* The command of a worker, palloc'd; NULL if its row does not say to run just that program. */
extern const char *sup_catalog_command(const char *name, const SupProgram *program);

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

/* Delete the rows that belong to an extension, which is about to be dropped. */
extern bool sup_catalog_delete_extension(const char *extension);

#endif							/* SUP_CATALOG_H */
