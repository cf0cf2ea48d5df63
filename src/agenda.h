/*-------------------------------------------------------------------------
 *
 * agenda.h
 *	  The supervisor's agenda.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_AGENDA_H
#define SUP_AGENDA_H

#include "state.h"

/*
 * Nobody tells us of the end of an adopted child: look again after so long,
 * at first and at most.  Of others we are told, and look after the longest
 * as well.
 */
#define SUP_REAP_LOOK_MIN_MS	5
#define SUP_REAP_LOOK_MAX_MS	500

/*
 * A process that has said that it ends, or a pool worker that leaves, has nothing
 * to do any more, and has so long for it.
 */
#define SUP_LEAVING_US	INT64CONST(2000000)

/*
 * What the postmaster can't fork, and may restart, it tries again (launch.c has it wait
 * in between): it is told to forget it after so long.  A shorter time would give up
 * places where the machine is only busy.
 */
#define SUP_FORK_US	INT64CONST(1000000)

/* When it is late; DT_NOEND: it has something to do.  The caller holds the lock. */
static inline TimestampTz
sup_lingers_from(const SupSlot *slot)
{
	if (slot->lingers)
		return DT_NOEND;
	if (slot->exited_at != 0)
		return slot->exited_at + SUP_LEAVING_US;
	if ((slot->state == SUP_RUNNING || slot->state == SUP_STOPPING) && slot->leaving_since != 0 &&
		slot->phase != SUP_PHASE_CONNECT &&
		(slot->kind == SUP_KIND_POOL || (slot->kind == SUP_KIND_COMMAND && !slot->runs)))
		return slot->leaving_since + SUP_LEAVING_US;
	return DT_NOEND;
}

/* Once in the supervisor's life. */
extern void sup_agenda_init(void);

/* A slot has changed: note when to look again.  The caller holds the lock. */
extern void sup_agenda_update(SupSlot *slot, TimestampTz now);

/* A turn begins: find the slots that are to be looked at. */
extern void sup_agenda_turn(TimestampTz now);

/*
 * The next slot after that one that is to be looked at in this turn; that is
 * wanted, and due now; that is empty.  -1: there is none.
 */
extern int	sup_next_to_look_at(int slot);
extern int	sup_next_startable(int slot);
extern int	sup_next_empty(int slot);

/* When a slot falls due next. */
extern TimestampTz sup_next_due(void);

#endif							/* SUP_AGENDA_H */
