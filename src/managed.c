/*-------------------------------------------------------------------------
 *
 * managed.c
 *	  What the SQL functions about declared workers have in common: whether
 *	  workers can be managed here, which one is meant, and who may.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "args.h"
#include "catalog.h"
#include "compat.h"
#include "declaration.h"
#include "managed.h"
#include "rights.h"

/* Transaction in which this session has added workers; set when it has. */
static TransactionId added_in = InvalidTransactionId;

/*
 * Where workers can't be managed, whoever asks.  A function that is wrongly
 * declared parallel safe may bring us into a parallel worker.
 */
void
sup_check_manage_place(void)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot manage workers during a parallel operation")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot manage workers within security-restricted operation")));
}

/* There is no table, or one that is not to be believed. */
pg_noreturn void
sup_table_is_not_run(const char *complaint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("declared workers of this database cannot be managed"),
			 complaint ? errdetail_internal("%s", complaint) : 0));
}

/* Locked, and checked, to the end of the transaction. */
Oid
sup_worker_table(const char *function)
{
	const char *complaint;
	Oid			table;

	sup_require_preload();
	sup_check_manage_place();
	PreventCommandIfReadOnly(function);
	table = sup_catalog_lock(&complaint);
	if (!OidIsValid(table))
		sup_table_is_not_run(complaint);
	return table;
}

/*
 * The name of a worker, which is the first argument.  Raises 42602 if it is
 * empty, and 42622 if it is too long to be one.
 */
char *
sup_worker_name_arg(FunctionCallInfo fcinfo)
{
	char	   *name = sup_text_arg(fcinfo, 0, "name");

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name is empty"),
				 errhint("Other functions and views know the worker by its name.")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name is too long"),
				 errhint("It may have at most %d bytes.", NAMEDATALEN - 1)));
	return name;
}

/*
 * Raise 42704: neither a row of this database nor a library has a worker of
 * that name.
 */
pg_noreturn void
sup_no_such_worker(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("worker \"%s\" does not exist", name),
			 errhint("The table supervisor.worker has those of this database.")));
}

/*
 * May the caller decide what a worker does?  A command runs with the rights of
 * its role, a C function with all that there are.
 */
bool
sup_may_manage(const SupProgram *program)
{
	return superuser() ||
		(program->kind == SUP_KIND_COMMAND &&
		 !program->bypass_allowconn && !program->bypass_rolelogincheck &&
		 sup_may_set_role(GetUserId(), program->role));
}

/*
 * Raise 42501, and say which rights it takes, unless the caller may manage
 * that worker.
 */
void
sup_check_manage(const char *name, const SupProgram *program)
{
	if (sup_may_manage(program))
		return;
	if (program->kind != SUP_KIND_COMMAND)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to manage worker \"%s\"", name),
				 errdetail("It runs C code.")));
	if (program->bypass_allowconn || program->bypass_rolelogincheck)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to manage worker \"%s\"", name),
				 errdetail("It may connect where its role may not.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be able to SET ROLE \"%s\" to manage worker \"%s\"",
					sup_role_name(program->role), name),
			 errdetail("Its command runs with the rights of that role."),
			 errhint("Ask a member of that role, or a superuser; a new worker's role is the current one by default.")));
}

/* Find the one of that name. */
bool
sup_find_in_c(const char *name, SupInC *found)
{
	SupDeclaration *d;
	bool		is_there;

	sup_lock();
	d = sup_declaration_find(InvalidOid, name);
	is_there = d != NULL && !d->gone;
	if (is_there)
	{
		found->id = d->id;
		found->source = d->source;
		found->enabled = d->terms.enabled;
		memcpy(&found->program, &d->program, sizeof(SupProgram));
	}
	sup_unlock();
	return is_there;
}

/* Remembered until another transaction adds some. */
void
sup_note_added(void)
{
	added_in = GetTopTransactionId();
}

/* Asked without taking a transaction ID. */
bool
sup_has_added(void)
{
	return TransactionIdIsValid(added_in) && added_in == GetTopTransactionIdIfAny();
}
