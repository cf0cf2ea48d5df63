/*-------------------------------------------------------------------------
 *
 * trust.h
 *	  Whether a table of the extension is what its script has made.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_TRUST_H
#define SUP_TRUST_H

#include "postgres_ext.h"

typedef struct SupColumnDef
{
	const char *name;
	Oid			type;
	bool		not_null;
} SupColumnDef;

#define SUP_INDEX_COLS	6

/* An index without which the table is not ours: of columns, in order, ascending. */
typedef struct SupIndexDef
{
	bool		primary;
	bool		unique;
	int			not_null;		/* column of which it has only rows with a
								 * value; -1: it has all */
	int			ncolumns;
	int			columns[SUP_INDEX_COLS];	/* from 0 */
} SupIndexDef;

/* A trigger that calls the function of the table. */
typedef struct SupTriggerDef
{
	int			type;			/* as pg_trigger.tgtype */
	bool		constraint;		/* which nobody but the owner can replace */
	bool		to_read;		/* no row is believed without it */
} SupTriggerDef;

/* What our script makes of a table. */
typedef struct SupTableDef
{
	const char *name;
	int			ncolumns;
	int			least_columns;	/* those of a table of the extension's first
								 * version */
	const SupColumnDef *columns;
	Oid			collation;		/* of those that have one which the type does
								 * not say */
	int			nindexes;
	const SupIndexDef *indexes;
	const char *function;		/* its triggers call it */
	int			ntriggers;
	const SupTriggerDef *triggers;
} SupTableDef;

#define SUP_MAX_INDEXES		4
#define SUP_MAX_TRIGGERS	3

/*
 * The table, if everything about it is as our script made it and only
 * superusers can have changed it; or else 0, and in *complaint, palloc'd, unless
 * there is just no such extension here, what is wrong.  With 'to_write' also
 * without triggers of others.  In a transaction.
 */
extern Oid	sup_trusted_table(const SupTableDef *def, bool to_write, const char **complaint);

/*
 * The same, and locked to the end of the transaction: whoever would change that
 * waits.
 */
extern Oid	sup_trusted_lock(const SupTableDef *def, bool to_write, const char **complaint);

/*
 * The same, to be written, for who asks again and again: what was found of a table
 * is kept until something about it changes.  That it does not belong to the
 * extension any more, which a superuser's ALTER EXTENSION says, is not seen.
 */
extern Oid	sup_trusted_lock_quick(const SupTableDef *def, const char **complaint);

#endif							/* SUP_TRUST_H */
