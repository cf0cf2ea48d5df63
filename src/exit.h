/*-------------------------------------------------------------------------
 *
 * exit.h
 *	  Has a child drop its temporary objects before it ends, and no stranger keep it there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_EXIT_H
#define SUP_EXIT_H

/* After the login. */
extern void sup_exit_init(void);

/*
 * The session is about to be used or reset (false), or has been reset (true).
 */
extern void sup_exit_is_reset(bool is_reset);

/* Is a FATAL error only how an exit is cut short? */
extern bool sup_exit_is_cut(int sqlstate);

/* The exit code that was meant: core's is 1 if the exit has been cut short. */
extern int	sup_exit_code(int code);

#endif							/* SUP_EXIT_H */
