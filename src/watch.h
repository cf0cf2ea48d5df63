/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  Changes that are published when the transaction commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_WATCH_H
#define SUP_WATCH_H

/* In _PG_init. */
extern void sup_install_watch(void);

/* This transaction may have changed the declared workers of a database. */
extern void sup_watch_database(Oid database);

/*
 * This process holds declared workers, see SupDeclaration.holder, to the end of
 * the transaction, committed or not.
 */
extern void sup_watch_hold(void);

/*
 * For the supervisor: if asked, look which prepared transactions are finished that
 * nobody has told of, and whether the others' fences are still needed.
 */
extern void sup_look_at_prepared(void);

#endif							/* SUP_WATCH_H */
