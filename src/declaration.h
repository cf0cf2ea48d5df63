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
extern void sup_declaration_free(SupDeclaration *declaration);
extern void sup_forget_database(Oid database);
extern SupLoad *sup_load_of(Oid database);
extern SupLoad *sup_load_get(Oid database);
extern void sup_request_load(Oid database);
extern uint64 sup_await_load(Oid database);
extern bool sup_load_done(Oid database, uint64 request);

#endif							/* SUP_DECLARATION_H */
