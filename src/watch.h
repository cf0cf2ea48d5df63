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

#endif							/* SUP_WATCH_H */
