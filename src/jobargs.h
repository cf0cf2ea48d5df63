/*-------------------------------------------------------------------------
 *
 * jobargs.h
 *	  What SQL functions about jobs share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_JOBARGS_H
#define SUP_JOBARGS_H

#include "fmgr.h"

#include "compat.h"
#include "jobtable.h"

/* Raise an error where jobs can't be managed, whoever asks. */
extern void sup_job_check_place(const char *function);

/* Raise what the run of that command would raise at once. */
extern void sup_job_check_command(const char *command, int nparams, bool atomic);

/* Raise 54000 if the command of a row, with its parameters, is too long. */
extern void sup_job_check_size(const SupJobRow *row);

/* Raise 22023. */
pg_noreturn extern void sup_job_out_of_range(const char *what, const char *range);

/* An interval that is not negative, if it is given. */
extern void sup_job_take_interval(FunctionCallInfo fcinfo, int arg, SupJobRow *row, SupJobColumn column,
								  const char *what);

#define SUP_JOB_DEFAULT_PRIORITY	5

/* Priority and max_attempts, or what they are if they are not given; in range. */
extern int32 sup_job_take_priority(FunctionCallInfo fcinfo, int arg);
extern int32 sup_job_take_max_attempts(FunctionCallInfo fcinfo, int arg);

/* The pool of the call, which is there and lets the role in. */
extern char *sup_job_take_pool(FunctionCallInfo fcinfo, int arg, Oid role);

/* supervisor.job, or job_history, locked and to be believed; raises 55000. */
extern Oid	sup_job_lock_table(void);
extern Oid	sup_job_lock_history(void);

/* As sup_account_of(); 0: that role is a superuser. */
extern Oid	sup_job_account(Oid role);

/*
 * The transaction has locked that row, and is about to change it: that is told at its
 * end, whatever becomes of it.
 */
extern void sup_job_note_change(const SupJobRow *row);

#endif							/* SUP_JOBARGS_H */
