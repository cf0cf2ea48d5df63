/*-------------------------------------------------------------------------
 *
 * preloaded.h
 *	  Background workers that preloaded libraries have registered themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_PRELOADED_H
#define SUP_PRELOADED_H

#include "postmaster/bgworker.h"

/* One that supervisor.take_over names. */
typedef struct SupTaken
{
	BackgroundWorker worker;	/* as its library has registered it */
	int			slot;			/* the argument of its first process */
	char		name[NAMEDATALEN];	/* by which it is declared; "": not yet */
} SupTaken;

/*
 * In the postmaster, when it has set up shared memory for the first time: have it
 * start those that supervisor.take_over names as ours, in slots from that one on.
 */
extern void sup_preloaded_take(int first_slot);

/* Those, in the order of their registration, for api.c to declare them. */
extern SupTaken *sup_preloaded_taken(int *count);

/* In the postmaster, whenever it has set up shared memory: see which there are. */
extern void sup_preloaded_note(void);

/* Of a library's path: the name of its file, without the suffix; and how long that is. */
extern const char *sup_library_base(const char *library, int *len);

/* Warn if one of them runs that function of that library, or is about to. */
extern void sup_warn_if_preloaded(const char *library, const char *function);

#endif							/* SUP_PRELOADED_H */
