/*-------------------------------------------------------------------------
 *
 * row.h
 *	  What a row of supervisor.worker means.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_ROW_H
#define SUP_ROW_H

#include "state.h"
#include "trust.h"

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
	SUP_COL_EXTRA_BYTES,
	SUP_COL_TYPE,
	SUP_COL_ROLE,
	SUP_COL_SETTINGS,
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

extern const SupColumnDef sup_worker_columns[SUP_WORKER_COLS];

/* A row, understood. */
typedef struct SupRow
{
	char		name[NAMEDATALEN];
	char		extension[NAMEDATALEN]; /* "": none */
	SupTerms	terms;
	SupProgram	program;
	const char *command;		/* all of it; NULL: it is a C function */
	int			nsettings;		/* what its session has SET */
	char	  **settings;		/* "name=value" */

	/* If it is no good: what is wrong. */
	int			sqlstate;		/* 0: it is good */
	const char *message;
	const char *hint;
} SupRow;

/* Understand a row.  What can only be known elsewhere, as whether its role exists, is not asked. */
extern void sup_row_parse(const Datum *values, const bool *nulls, SupRow *row);

/* The word for when such a worker is started again, if its row does not say. */
extern const char *sup_default_restart(const SupProgram *program);

#endif							/* SUP_ROW_H */
