/*-------------------------------------------------------------------------
 *
 * exit.h
 *	  Has nobody keep a child in its exit that has nothing to do there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_EXIT_H
#define SUP_EXIT_H

/* After the login. */
extern void sup_exit_init(void);

/*
 * The session is about to be reset (false), or has been (true).  Outside of a
 * transaction.
 */
extern void sup_exit_is_reset(bool is_reset);

/* Has the exit been begun with code 0, and may be cut short? */
extern bool sup_exit_is_bounded(void);

#endif							/* SUP_EXIT_H */
