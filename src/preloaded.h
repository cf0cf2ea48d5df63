/*-------------------------------------------------------------------------
 *
 * preloaded.h
 *	  Background workers that preloaded libraries have registered themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_PRELOADED_H
#define SUP_PRELOADED_H

/* In the postmaster, whenever it has set up shared memory: see which there are. */
extern void sup_preloaded_note(void);

/* Warn if one of them runs that function of that library, or is about to. */
extern void sup_warn_if_preloaded(const char *library, const char *function);

#endif							/* SUP_PRELOADED_H */
