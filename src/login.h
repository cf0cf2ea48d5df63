/*-------------------------------------------------------------------------
 *
 * login.h
 *	  Logins of pool workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_LOGIN_H
#define SUP_LOGIN_H

#include "state.h"

/* The caller holds the lock. */

/*
 * A login is due, for the task that the worker has been given; begins; lasts
 * longer than is allowed; is over, or given up.
 */
extern void sup_login_expect(SupSlot *slot);
extern void sup_login_begin(SupSlot *slot, TimestampTz now);
extern void sup_login_mark(SupSlot *slot);
extern void sup_login_over(SupSlot *slot);

/* What is known of a slow database; NULL: it is not. */
extern SupSlow *sup_slow_of(int pool, Oid database);

/* As many logins to slow databases as the pool has room for? */
extern bool sup_slow_are_full(const SupPool *pool);

/* Until when no login begins there; 0: one may now. */
extern TimestampTz sup_slow_held_until(const SupSlow *slow, TimestampTz now);

/* The pool is gone: another may get its entry. */
extern void sup_slow_forget(int pool);

#endif							/* SUP_LOGIN_H */
