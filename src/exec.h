/*-------------------------------------------------------------------------
 *
 * exec.h
 *	  A worker runs one command.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_EXEC_H
#define SUP_EXEC_H

#include "nodes/parsenodes.h"

#include "task.h"

/* What may end a command from outside. */
typedef struct SupLimits
{
	int			timeout;		/* ms that it may run; 0: no limit */
	const char *timeout_message;	/* what is said then */
	const SupTask *task;		/* whose cancel says why; NULL: it is no
								 * task's */
} SupLimits;

/* The command is one transaction, which somebody has a last word in. */
typedef struct SupBlock
{
	void		(*settle) (void *arg, const char *tag); /* before it commits */
	void	   *arg;
} SupBlock;

/*
 * Run the command of a task as a simple Query would, or with parameters as
 * an extended one, and send rows and notices as its result.  In a
 * transaction that the caller has started, of which nothing is left.  Raises
 * what the command raises, and 57014 where 'limits' or a cancel end it, with a
 * message that says which.  With 'block' it can't end its transaction.  'rows', if it is not
 * NULL, gets those of each statement that returns any, if they are not sent.  'tag' is of
 * COMPLETION_TAG_BUFSIZE.
 */
extern void sup_exec(const SupInput *input, bool wants_rows, const SupLimits *limits,
					 const SupBlock *block, DestReceiver *rows, char *tag);

/* Is it a command about savepoints, which ends no transaction? */
static inline bool
sup_is_savepoint(const TransactionStmt *stmt)
{
	return stmt->kind == TRANS_STMT_SAVEPOINT || stmt->kind == TRANS_STMT_RELEASE ||
		stmt->kind == TRANS_STMT_ROLLBACK_TO;
}

/* Route what core would send to a client into the result of the task. */
extern void sup_redirect_messages(void);

/*
 * The error that sup_exec() raised: send it.  While it is being handled, in
 * the state that PG_CATCH leaves.
 */
extern void sup_send_error(void);

#endif							/* SUP_EXEC_H */
