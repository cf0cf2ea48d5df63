/*-------------------------------------------------------------------------
 *
 * members.h
 *	  Who may use a pool.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_MEMBERS_H
#define SUP_MEMBERS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "guc.h"

/*
 * The list of a pool, as it is now; false: there is no such pool.  *version is
 * its version, 0 if it has none: then nothing is copied.
 */
extern bool sup_pool_members(const char *pool, SupMembers *members, uint64 *version);

/*
 * The next name in a list that was copied; NULL: there is none, or it makes no
 * sense.  *offset is 0 at first.
 */
extern const char *sup_next_member(const SupMembers *members, int *offset);

/* Version of a list that lets the role in, as was found before; or 0. */
extern uint64 sup_known_member(Oid role);

/*
 * Raise 42501 unless a role that is not a superuser may use the pool; returns the
 * version of its list.  The caller holds no lock.
 */
extern uint64 sup_check_member(const char *pool, Oid role);

/* May that role use the pool?  No error is raised; a pool that is not there keeps nobody out. */
extern bool sup_may_use_pool(const char *pool, Oid role);

/*
 * The name of a pool that a call means; NULL is that of supervisor.default_pool.
 * In a SECURITY DEFINER function that counts if both its owner and who has set
 * it may use that pool; else it is 'default'.
 */
extern char *sup_pool_arg(FunctionCallInfo fcinfo, int n);

/*
 * The supervisor: log roles in supervisor.pools that do not exist, once after
 * sup_watch_members(); when to try again.
 */
extern void sup_watch_members(void);
extern TimestampTz sup_look_at_members(TimestampTz now);

#endif							/* SUP_MEMBERS_H */
