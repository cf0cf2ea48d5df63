/*-------------------------------------------------------------------------
 *
 * managed.h
 *	  What the SQL functions about declared workers have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_MANAGED_H
#define SUP_MANAGED_H

#include "fmgr.h"

#include "program.h"

/* Raise 25000 or 42501 where workers can't be managed, whoever asks. */
extern void sup_check_manage_place(void);

/*
 * The table, locked to the end of the transaction.  Raises 55000 if there is none that
 * is trusted, and 25006 where that function can't write.
 */
extern Oid	sup_worker_table(const char *function);

/* Raise 55000: the table is not trusted, as 'complaint' says. */
pg_noreturn extern void sup_table_is_not_run(const char *complaint);

/* The first argument: 22004 if it is NULL, 42602 if it is empty, 42622 if it is too long. */
extern char *sup_worker_name_arg(FunctionCallInfo fcinfo);

/* Raise 42704. */
pg_noreturn extern void sup_no_such_worker(const char *name);

/* May the caller decide what a worker does? */
extern bool sup_may_manage(const SupProgram *program);

/* Raise 42501 if not. */
extern void sup_check_manage(const char *name, const SupProgram *program);

/* A worker that is declared in C. */
typedef struct SupInC
{
	uint64		id;				/* of its declaration */
	SupSource	source;
	bool		enabled;
	SupProgram	program;
} SupInC;

/* Find the one of that name; false: there is none. */
extern bool sup_find_in_c(const char *name, SupInC *found);

/* This transaction adds a worker; has it added any? */
extern void sup_note_added(void);
extern bool sup_has_added(void);

#endif							/* SUP_MANAGED_H */
