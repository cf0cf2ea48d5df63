/*-------------------------------------------------------------------------
 *
 * temporary.h
 *	  Has nothing permanent depend on what is temporary in a child's session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_TEMPORARY_H
#define SUP_TEMPORARY_H

/* At the login: from then on a transaction that would do that does not commit. */
extern void sup_temporary_init(void);

/* Drop what is in the temporary schema of this session, which has one. */
extern void sup_temporary_drop(void);

#endif							/* SUP_TEMPORARY_H */
