/*-------------------------------------------------------------------------
 *
 * declaration.h
 *	  Declared workers in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_DECLARATION_H
#define SUP_DECLARATION_H

#include "state.h"

/* The caller holds the lock. */

extern SupDeclaration *sup_declaration_find(Oid database, const char *name);
extern SupDeclaration *sup_declaration_by_id(uint64 id);
extern SupDeclaration *sup_declaration_add(Oid database, const char *name);

/* Runs it as a non-superuser role?  Looks into catalogs. */
extern bool sup_is_capped(const SupProgram *program);

/*
 * Is there room for another row of that non-superuser role, in that
 * database, where it has so many already that may not have been read yet?  All
 * such roles have three quarters of the room, and no role in a database more of it
 * than what is left for others.  The caller holds the lock.
 */
extern bool sup_declaration_has_room(Oid account, Oid role, Oid database, int rows, int rows_of_role);

extern void sup_declaration_free(SupDeclaration *declaration);

/*
 * Why no process of it shall run, with '*detail' in words; SUP_NO_REASON: they
 * shall.
 */
extern SupReason sup_declaration_why_not(const SupDeclaration *d, const char **detail);

/* supervisor.stopped_workers is for these: others have rows, where it is said. */
static inline bool
sup_is_of_preloaded(const SupDeclaration *d)
{
	return d->source == SUP_FROM_LIBRARY || d->source == SUP_FROM_SERVER;
}

/* It has no row that says so, and shall not run any more, after a crash neither; or it shall. */
static inline void
sup_declaration_rests(SupDeclaration *d, bool rests)
{
	d->rests = rests && sup_is_of_preloaded(d) ? SUP_RESTS + (d - Sup->declarations) : 0;
}

/* In which state an instance without a process is that shall have none. */
static inline SupState
sup_state_if_kept_down(SupReason reason)
{
	return reason == SUP_DISABLED ? SUP_STOPPED : reason == SUP_INVALID ? SUP_FAILED : SUP_WAITING;
}

/*
 * All declarations, in the order of their entries: the next one; NULL: there
 * is none.
 */
static inline SupDeclaration *
sup_next_declaration(const SupDeclaration *d)
{
	for (int i = d != NULL ? d - Sup->declarations + 1 : 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] != 0)
			return &Sup->declarations[i];
	return NULL;
}

#define sup_foreach_declaration(d) \
	for (SupDeclaration *d = sup_next_declaration(NULL); d != NULL; d = sup_next_declaration(d))

/* How many entries are looked at under one hold of the lock. */
#define SUP_DECLARATIONS_PER_LOCK	64

/* The same, but others get the lock now and then: then what was looked at may change. */
static inline SupDeclaration *
sup_next_declaration_in_slices(const SupDeclaration *d)
{
	for (int i = d != NULL ? d - Sup->declarations + 1 : 0; i < Sup->ndeclarations; i++)
	{
		if (i % SUP_DECLARATIONS_PER_LOCK == SUP_DECLARATIONS_PER_LOCK - 1)
		{
			sup_unlock();
			sup_lock();
		}
		if (Sup->declaration_keys[i] != 0)
			return &Sup->declarations[i];
	}
	return NULL;
}

#define sup_foreach_declaration_in_slices(d) \
	for (SupDeclaration *d = sup_next_declaration_in_slices(NULL); d != NULL; \
		 d = sup_next_declaration_in_slices(d))

/* Takes the lock. */
extern void sup_forget_database(Oid database);

/* The caller holds the lock. */
extern SupLoad *sup_load_of(Oid database);
extern SupLoad *sup_load_get(Oid database);
extern int	sup_load_owner_index(const SupLoad *load);
extern void sup_request_load(Oid database);
extern uint64 sup_await_load(Oid database);
extern bool sup_load_done(Oid database, uint64 request);

#endif							/* SUP_DECLARATION_H */
