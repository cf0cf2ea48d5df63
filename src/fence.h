/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  Pool workers step aside for DDL on their database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_FENCE_H
#define SUP_FENCE_H

/* Install the hooks. */
extern void sup_install_fence(void);

#endif							/* SUP_FENCE_H */
