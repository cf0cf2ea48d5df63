/*-------------------------------------------------------------------------
 *
 * read.h
 *	  A session reads what its task sends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_READ_H
#define SUP_READ_H

#include "executor/tuptable.h"
#include "utils/tuplestore.h"

#include "task.h"

typedef struct SupReader
{
	/* Set by the caller; a store goes with its column definition list. */
	const char *command;		/* for the position of an error; may be NULL */
	TupleDesc	columns;
	Tuplestorestate *store;

	/* How the task ended. */
	SupTaskState state;
	int			sqlstate;
	char		tag[COMPLETION_TAG_BUFSIZE];
	char	   *message;		/* palloc'd, unless it succeeded */
	char	   *detail;
	uint64		id;
	char		pool[NAMEDATALEN];	/* unless it succeeded */

	/* Private. */
	bool		touched;		/* something was taken that can't be put back */
	TupleTableSlot *slot;		/* of the rows that come; NULL: none yet */
	SupShape   *shapes;			/* of its columns */
	StringInfoData types;		/* how they were defined when the rows were
								 * made */
	dsa_pointer pending;		/* chunks taken and not read yet */
	char		part_type;		/* of a message that goes on in the next chunk */
	char	   *part;			/* NULL: there is none */
	Size		part_len;		/* of it that is here */
	Size		part_total;
	char	   *error;			/* the task's own error message */
	Size		error_len;
} SupReader;

/*
 * Take what the task has sent.  True if it has ended: its entry is released
 * then.  Passes its notices on, raises 42804 if its rows don't fit, and XX001 if
 * what it sent makes no sense.
 */
extern bool sup_reader_take(SupReader *reader, SupTaskRef *ref);

/* Raise the error of a task that did not succeed. */
pg_noreturn extern void sup_reader_raise(SupReader *reader);

/* Its error message, palloc'd. */
extern char *sup_reader_error(SupReader *reader);

/* Forget what a reader that wanted no rows has kept. */
extern void sup_reader_free(SupReader *reader);

/* Has anything come, or has the task ended?  'arg' is a SupTaskRef. */
extern bool sup_task_has_news(void *arg);

/*
 * Wait for the task and read all of it.  False if the deadline (0: none) came
 * first.  An error does not cancel the task; 'touched' says that it can't be
 * read any more.
 */
extern bool sup_read_task(SupReader *reader, SupTaskRef *ref, TimestampTz deadline);

/* Once in each process: have core leave the notices that we pass on out of its log. */
extern void sup_install_relay(void);

#endif							/* SUP_READ_H */
