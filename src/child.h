/*-------------------------------------------------------------------------
 *
 * child.h
 *	  What each child of the supervisor does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_CHILD_H
#define SUP_CHILD_H

#include "launch.h"
#include "state.h"

/*
 * Take the slot that this process was started for; NULL: it is too late for
 * that.  What a declared worker runs goes to *program, and its name to
 * 'name', which has room for NAMEDATALEN bytes.
 */
extern SupSlot *sup_child_attach(int index, const SupOrigin *origin, char *name, SupProgram *program);

/* This process is ready: publish that. */
extern void sup_worker_ready(SupSlot *slot);

/*
 * What comes up in every loop of a worker that has nothing to do: interrupts,
 * but cancels, and reloads.
 */
extern void sup_worker_interrupts(void);

/*
 * A task or a run begins.  If the process ends in it without a word, as a library may call
 * exit(), the error of an earlier one is not told for the reason.
 */
extern void sup_forget_error(void);

/*
 * Connect to the database of this slot, which has been written there before,
 * as its role, like a client's session: with what core does for those only.
 */
extern void sup_worker_connect(SupSlot *slot, uint32 flags, const char *application_name);

#endif							/* SUP_CHILD_H */
