/*-------------------------------------------------------------------------
 *
 * rights.h
 *	  Would a fresh session be let in, with the same rights?
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_RIGHTS_H
#define SUP_RIGHTS_H

#include "postgres_ext.h"

/* Its name for a message; if it was dropped, its OID in digits, as regrole shows it. */
extern const char *sup_role_name(Oid role);

/*
 * Raise an error unless the current role may log in to this database: 28000
 * without LOGIN or CONNECT, 55000 if the database allows no connections.
 */
extern void sup_check_may_connect(void);

/* The same of any role. */
extern void sup_check_role_may_connect(Oid role);

/* This worker has just been bound: remember the rights that it got. */
extern void sup_rights_bound(uint32 flags);

/*
 * Would a fresh session of this worker's role be let in, with those rights?
 * In a transaction.
 */
extern bool sup_rights_hold(void);

/* Is the current role what it was when this worker was bound to that role? */
extern bool sup_role_is_as_bound(Oid role);

/*
 * How often what decides about members of roles has changed, as far as this
 * process has seen.
 */
extern uint64 sup_rights_changes(void);

/* May the current role signal the backends of that role?  As pg_cancel_backend. */
extern bool sup_may_signal(Oid role);

/* May the current role see what belongs to that role?  As pg_stat_activity. */
extern bool sup_may_see(Oid role);

/* Why a session of that role would not be let in: one of a fixed set of words; or NULL. */
extern const char *sup_why_may_not_connect(Oid role);

/*
 * To whose account goes what a role, no superuser, does in this database?  Its
 * owner can have others do there what he likes; if that is a superuser, he
 * would not: then to the role's own.
 */
extern Oid	sup_account_of(Oid role);

#endif							/* SUP_RIGHTS_H */
