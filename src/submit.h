/*-------------------------------------------------------------------------
 *
 * submit.h
 *	  A session submits tasks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SUBMIT_H
#define SUP_SUBMIT_H

#include "lib/stringinfo.h"

#include "task.h"

/*
 * Append a command as a worker wants it.  'columns' and 'params' may be
 * NULL; settings are those of sup_settings_collect().
 */
extern void sup_task_pack(StringInfo buf, const char *command, TupleDesc columns,
						  int nparams, char **params, int nsettings, StringInfo settings);

/* Raises an error if this session, as it is now, may not submit. */
extern void sup_task_check_submitter(SupTaskKind kind);

/*
 * Submit up to n packed commands; returns how many had room.  None had: with
 * 'must' an error says which room is missing; where it is memory, and
 * 'no_memory' is not NULL, that says so instead.  Errors: no such pool (42704),
 * a pool of size 0 (55000), no supervisor (55000), no worker (53000), no room
 * (53400, 53200).
 */
extern int	sup_task_submit(const char *pool, SupTaskKind kind, int n, const StringInfoData *inputs,
							SupTaskRef *refs, bool concurrently, bool must, bool *no_memory);

#endif							/* SUP_SUBMIT_H */
