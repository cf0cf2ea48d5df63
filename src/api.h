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
 * When shared memory has been set up, and all libraries are loaded: take over
 * the workers that they have declared.
 */
extern void sup_api_declare(void);

#endif							/* SUP_API_H */
