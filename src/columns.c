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
#include "catalog/pg_type.h"
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

/* Others may drop a type at any time; *kind is one of TYPTYPE_*. */
static bool
type_exists(Oid type, char *kind, Oid *base)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));

	if (!HeapTupleIsValid(tuple))
		return false;
	*kind = ((Form_pg_type) GETSTRUCT(tuple))->typtype;
	*base = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
	ReleaseSysCache(tuple);
	return true;
}

/* Core's getBaseType() is not for what may be gone. */
Oid
sup_base_type(Oid type)
{
	char		kind;
	Oid			base;

	while (type_exists(type, &kind, &base))
	{
		if (kind != TYPTYPE_DOMAIN)
			return type;
		type = base;
	}
	return InvalidOid;
}

/* For a message; palloc'd. */
static char *
type_name(Oid type, int32 typmod)
{
	if (!OidIsValid(sup_base_type(type)))
		return psprintf("??? (OID %u, which has been dropped)", type);
	return format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_ALLOW_INVALID);
}

/* How a list that differs in one column can come to match. */
static char *
hint_for(Oid type)
{
	char		kind;
	Oid			base;

	if (!type_exists(type, &kind, &base))
		return "Cast the column to text in the command.";
	if (kind == TYPTYPE_PSEUDO)
		return "No list can have that type: cast the column to text in the command.";
	return "Change the list, or cast the column in the command.";
}

/* A wanted typmod of -1 takes any.  The first column that differs is named. */
void
sup_check_columns(const char *columns, int ncolumns, const char *wanted, int nwanted)
{
	if (ncolumns != nwanted)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column definition list does not match the result"),
				 errdetail("The result has %d columns, the list has %d.", ncolumns, nwanted),
				 ncolumns == 0 ? errhint("Use supervisor.execute() for it.") : 0));
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
					 errhint("%s", hint_for(type))));
	}
}

/*
 * Append the rows of pg_attribute that define a type, and those of its
 * parts.
 */
static void
append_definition(StringInfo buf, List **seen, Oid type)
{
	Oid			base;
	Oid			relation;
	Oid			part;

	/* Core's own types are as they are, and most columns have one of these. */
	if (type < FirstNormalObjectId)
		return;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	base = sup_base_type(type);
	if (!OidIsValid(base))
	{
		/* It existed where the rows were made. */
		appendBinaryStringInfo(buf, (char *) &type, sizeof(type));
		return;
	}
	type = base;
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
