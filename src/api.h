/*-------------------------------------------------------------------------
 *
 * api.h
 *	  The supervisor's side of supervisor.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_API_H
#define SUP_API_H

/* In _PG_init: other libraries can find us. */
extern void sup_api_publish(void);

/*
 * When shared memory has been set up, and all libraries are loaded: declare the
 * workers that they have declared, and those that were taken over.
 */
extern void sup_api_declare(void);

/* How many processes the postmaster starts that libraries have declared with us. */
extern int	sup_api_nstatic(void);

#endif							/* SUP_API_H */
