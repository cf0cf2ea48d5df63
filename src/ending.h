/*-------------------------------------------------------------------------
 *
 * ending.h
 *	  How a process has ended, and what follows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_ENDING_H
#define SUP_ENDING_H

#include "policy.h"
#include "state.h"

/* How a process has ended. */
typedef struct SupEnding
{
	bool		started;		/* or else it never came to attach */
	bool		asked;			/* somebody wanted it to end */
	bool		clean;			/* with exit code 0, and not because it was
								 * late or silent */
	SupReason	reason;
	char		detail[SUP_MESSAGE];
} SupEnding;

extern double sup_jitter(void);

extern void sup_check_report(SupSlot *slot, bool started, TimestampTz now);

/*
 * What core says of the process at the slot's handle, and its pid, becomes what that
 * means for the process of the slot's generation.  True: the postmaster can't start
 * it, and shall forget it.  The caller holds the lock.
 */
extern bool sup_settle_status(SupSlot *slot, BgwHandleStatus *status, int holder, TimestampTz now);

extern SupEnding sup_ending_of(const SupSlot *slot, bool started);

extern SupVerdict sup_verdict_on(SupSlot *slot, const SupEnding *e, const SupPolicy *policy,
								 TimestampTz now, TimestampTz *restart_at);

extern void sup_log_end(const SupSlot *slot, const char *name, const SupEnding *e,
						const SupPolicy *policy, TimestampTz held_until, TimestampTz now);

#endif							/* SUP_ENDING_H */
