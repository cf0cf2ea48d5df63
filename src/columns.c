/*-------------------------------------------------------------------------
 *
 * columns.c
 *	  The columns of a result: what they are, whether they are those that are
 *	  wanted, and how their types are defined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "columns.h"
#include "format.h"

/* As bytes, which are not aligned: SUP_COLUMN_SIZE for each. */
void
sup_append_columns(StringInfo buf, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		appendBinaryStringInfo(buf, (char *) &att->atttypid, sizeof(Oid));
		appendBinaryStringInfo(buf, (char *) &att->atttypmod, sizeof(int32));
	}
}

/* For a message; palloc'd. */
static char *
type_name(Oid type, int32 typmod)
{
	/* "???" if it is gone */
	return format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_ALLOW_INVALID);
}

/* A wanted typmod of -1 takes any.  The first column that differs is named. */
void
sup_check_columns(const char *columns, int ncolumns, const char *wanted, int nwanted)
{
	if (ncolumns != nwanted)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column definition list does not match the result"),
				 errdetail("The result has %d columns, the list has %d.", ncolumns, nwanted)));
	for (int i = 0; i < ncolumns; i++)
	{
		Oid			type;
		int32		typmod;
		Oid			wanted_type;
		int32		wanted_typmod;

		sup_get_column(columns, i, &type, &typmod);
		sup_get_column(wanted, i, &wanted_type, &wanted_typmod);
		if (type != wanted_type || (wanted_typmod >= 0 && typmod != wanted_typmod))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column definition list does not match the result"),
					 errdetail("Column %d of the result has type %s, in the list it has type %s.",
							   i + 1, type_name(type, typmod),
							   type_name(wanted_type, wanted_typmod)),
					 errhint("Change the list, or cast the column in the command.")));
	}
}

/*
 * Append the rows of pg_attribute that define a type, and those of its
 * parts.
 */
static void
append_definition(StringInfo buf, List **seen, Oid type)
{
	Oid			relation;
	Oid			part;

	/* Core's own types are as they are, and most columns have one of these. */
	if (type < FirstNormalObjectId)
		return;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	type = getBaseType(type);
	if (list_member_oid(*seen, type))
		return;
	*seen = lappend_oid(*seen, type);

	relation = get_typ_typrelid(type);
	if (OidIsValid(relation))
	{
		for (AttrNumber i = 1;; i++)
		{
			HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation), Int16GetDatum(i));
			TransactionId xmin;

			if (!HeapTupleIsValid(tuple))
				break;
			xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
			part = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
			appendBinaryStringInfo(buf, (char *) &xmin, sizeof(xmin));
			appendBinaryStringInfo(buf, (char *) &tuple->t_self, sizeof(tuple->t_self));
			ReleaseSysCache(tuple);
			append_definition(buf, seen, part);
		}
	}
	else if (OidIsValid(part = get_element_type(type)) ||
			 OidIsValid(part = get_range_subtype(type)) ||
			 OidIsValid(part = get_multirange_range(type)))
		append_definition(buf, seen, part);
}

/*
 * Every change of a type writes new versions of these rows: where they are
 * and who wrote them says which definition it is.
 */
void
sup_append_definitions(StringInfo buf, TupleDesc desc)
{
	List	   *seen = NIL;

	for (int i = 0; i < desc->natts; i++)
		append_definition(buf, &seen, TupleDescAttr(desc, i)->atttypid);
	list_free(seen);
}
