/*-------------------------------------------------------------------------
 *
 * args.h
 *	  What the SQL-callable functions do with their arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_ARGS_H
#define SUP_ARGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

/* Raise 55000 if the library was not preloaded. */
extern void sup_require_preload(void);

/* A text argument; 22004 if it is NULL. */
extern char *sup_text_arg(FunctionCallInfo fcinfo, int n, const char *name);

/* Raise 22004 or 22023 if a command is NULL or empty. */
extern void sup_check_command(const char *command);

/* Time, as sup_now(), at which a timeout ends; NULL is 0, never.  22023 if it is negative. */
extern TimestampTz sup_deadline_arg(FunctionCallInfo fcinfo, int n);

/* An interval in microseconds, of days of 24 hours and months of 30 days: 0 to ten years. */
extern int64 sup_interval_us(const Interval *span);

/* The elements of a text[], NULLs as NULL; -1 if it is NULL itself. */
extern int	sup_text_array_arg(FunctionCallInfo fcinfo, int n, char ***elements);

/* Does a command contain a statement that waits for older snapshots? */
extern bool sup_runs_concurrently(const char *command);

/* Raise 0A000: that command would wait for the statement that waits for it. */
extern void sup_refuse_concurrently(void);

#endif							/* SUP_ARGS_H */
