/*-------------------------------------------------------------------------
 *
 * columns.h
 *	  The columns of a result.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_COLUMNS_H
#define SUP_COLUMNS_H

#include "access/tupdesc.h"
#include "lib/stringinfo.h"

/* Append type and typmod of each column: as sup_get_column() reads them. */
extern void sup_append_columns(StringInfo buf, TupleDesc desc);

/*
 * Raise 42804 unless these columns of a result are those of a column
 * definition list, both as sup_append_columns() has them.
 */
extern void sup_check_columns(const char *columns, int ncolumns,
							  const char *wanted, int nwanted);

/* What a domain, if it is one, is made of; InvalidOid: it has been dropped. */
extern Oid	sup_base_type(Oid type);

/*
 * Append what tells one definition of the columns' types from any other:
 * values of a composite type are read by the definition that it has then.
 * Nothing: they can have but one.
 */
extern void sup_append_definitions(StringInfo buf, TupleDesc desc);

#endif							/* SUP_COLUMNS_H */
