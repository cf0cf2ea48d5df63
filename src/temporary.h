/*-------------------------------------------------------------------------
 *
 * temporary.h
 *	  Has nobody else lock what is temporary in a child.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_TEMPORARY_H
#define SUP_TEMPORARY_H

/* Before the first command. */
extern void sup_temporary_init(void);

#endif							/* SUP_TEMPORARY_H */
