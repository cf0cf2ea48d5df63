/*-------------------------------------------------------------------------
 *
 * parse.h
 *	  Raw parse trees of commands.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_PARSE_H
#define SUP_PARSE_H

#include "nodes/pg_list.h"

/*
 * The statements of a command, as pg_parse_query() would return them, with all that
 * it would say; the caller may change them.  NIL: there are none.
 */
extern List *sup_parse(const char *command, Size len);

#endif							/* SUP_PARSE_H */
