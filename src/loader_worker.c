/*-------------------------------------------------------------------------
 *
 * loader_worker.c
 *	  Reads the declared workers of one database into shared memory, and who
 *	  has jobs there.
 *
 * It is a superuser's session that reads tables of ours, of which trust.c knows
 * whether they are, and ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "child.h"
#include "compat.h"
#include "declaration.h"
#include "entries.h"
#include "job_loader.h"
#include "rights.h"

/* The database allows no connections: but for bypass_allowconn. */
static bool closed = false;

/* How many declarations there was no room for. */
static int	no_room = 0;

/* How many are beyond the share of their role. */
static int	beyond_share = 0;

/* datallowconn is off: the loader itself gets in all the same. */
static bool
database_is_closed(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = !((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Has the role of a row its share, or has the row an entry for that role?  Room that
 * there is stays: loaders alone take it, and there is one at a time.
 */
static bool
has_room(const SupRow *row, Oid account)
{
	const SupDeclaration *d;
	bool		result;

	sup_lock();
	d = sup_declaration_find(MyDatabaseId, row->name);
	result = (d != NULL && !d->gone && d->capped && d->program.role == row->program.role) ||
		sup_declaration_has_room(account, row->program.role, MyDatabaseId, 0, 0);
	sup_unlock();
	return result;
}

/* Bring the declaration of a row up to date. */
static void
publish(const SupRow *row)
{
	SupReason	bad = SUP_NO_REASON;
	char		bad_detail[SUP_MESSAGE] = "";
	bool		capped = sup_is_capped(&row->program);
	Oid			account = capped ? sup_account_of(row->program.role) : InvalidOid;
	SupDeclaration *d;

	if (row->sqlstate == 0 && row->program.kind == SUP_KIND_COMMAND &&
		!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(row->program.role)))
	{
		bad = SUP_NO_ROLE;
		snprintf(bad_detail, sizeof(bad_detail), "role with OID %u does not exist", row->program.role);
	}
	else if (row->sqlstate != 0)
	{
		bad = SUP_INVALID;
		strlcpy(bad_detail, row->message, sizeof(bad_detail));
	}
	else if (closed && row->program.kind == SUP_KIND_COMMAND && !row->program.bypass_allowconn)
	{
		bad = SUP_DATABASE_NOT_ALLOWED;
		strlcpy(bad_detail, "its database does not accept connections", sizeof(bad_detail));
	}
	else if (RecoveryInProgress() && row->program.start_after == BgWorkerStart_RecoveryFinished)
	{
		/* By then its row may be another: it is read again after promotion. */
		bad = SUP_RECOVERY;
		strlcpy(bad_detail, "it starts when recovery has finished", sizeof(bad_detail));
	}

	/* What is known stays. */
	if (capped && !has_room(row, account))
	{
		beyond_share++;
		return;
	}
	sup_lock();
	d = sup_declaration_find(MyDatabaseId, row->name);
	if (d == NULL)
	{
		d = sup_declaration_add(MyDatabaseId, row->name);
		if (d == NULL)
		{
			sup_unlock();
			no_room++;
			return;
		}
		d->source = SUP_FROM_TABLE;
		d->version = 1;
		memcpy(&d->program, &row->program, sizeof(SupProgram));
		d->terms = row->terms;
	}
	if (memcmp(&d->program, &row->program, sizeof(SupProgram)) != 0)
	{
		memcpy(&d->program, &row->program, sizeof(SupProgram));
		d->version++;
	}

	/* A start or stop that is not committed yet goes first. */
	if (d->holder == 0)
	{
		d->terms = row->terms;

		/* It was started as it was before the change. */
		d->start |= d->started_version != 0 && d->started_version != d->version;
		d->started_version = 0;
	}
	else
	{
		bool		enabled = d->terms.enabled;

		d->terms = row->terms;
		d->terms.enabled = enabled;
	}
	d->capped = capped;
	d->account = account;
	d->bad = bad;
	strlcpy(d->bad_detail, bad_detail, sizeof(d->bad_detail));
	d->gone = false;
	d->seen = true;
	d->reloaded = true;
	sup_attend_declaration(d);
	sup_unlock();
}

/*
 * Visitor of sup_catalog_scan(), with a context for each row: one without a name
 * is nobody's, and one whose extension is gone goes with it, even if we were not
 * there to see.
 */
static void
load_row(Datum *values, bool *nulls, void *arg)
{
	MemoryContext context = MemoryContextSwitchTo((MemoryContext) arg);
	SupRow		row;

	sup_row_parse(values, nulls, &row);
	if (row.name[0] != '\0' &&
		(row.extension[0] == '\0' || OidIsValid(get_extension_oid(row.extension, true))))
		publish(&row);
	MemoryContextReset(MemoryContextSwitchTo(context));
}

/* Those of the database that have not been seen are gone. */
static void
sweep(void)
{
	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		if (d->database != MyDatabaseId || d->source != SUP_FROM_TABLE || d->seen)
			continue;
		d->gone = true;
		sup_attend_declaration(d);
	}
	Sup->loaded = true;
	sup_unlock();
}

/*
 * Of the database that Sup->loading says.  An error ends the process, and
 * the supervisor tries again.  Only with Sup->loaded set it has been read.
 */
void
sup_loader_main(SupSlot *slot)
{
	const char *complaint;
	SupLoad    *load;
	Oid			table;
	bool		fenced;

	sup_lock();
	slot->database = Sup->loading;
	fenced = sup_database_fenced(slot->database);
	if (fenced)
		sup_request_load(slot->database);
	sup_unlock();

	/* No database: from now on it has a place, and that is all. */
	if (fenced || !OidIsValid(slot->database))
		proc_exit(0);

	/* Before the login, which reads catalogs that others may have locked. */
	SetConfigOption("lock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	SetConfigOption("search_path", "", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);

	/*
	 * All databases wait for the loader, so it waits for no standby, whatever
	 * the owner of one has set.
	 */
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
	sup_no_transaction_timeout();

	/* A serializable, deferrable transaction might wait for ever to begin. */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	sup_worker_ready(slot);

	pgstat_report_activity(STATE_RUNNING, "reading declared workers");
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		d->seen = false;
	}
	sup_unlock();
	closed = database_is_closed();
	table = sup_catalog_table(&complaint);
	if (OidIsValid(table))
	{
		/* Whoever has changed it has asked for another loader. */
		if (!sup_catalog_scan(table, false, load_row,
							  AllocSetContextCreate(CurrentMemoryContext, "supervisor row",
													ALLOCSET_DEFAULT_SIZES)))
			proc_exit(0);
	}
	else if (complaint != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("declared workers of database %u are not run: %s", MyDatabaseId, complaint)));
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (beyond_share > 0)
	{
		/* before what is gone makes room */
		sup_lock();
		load = sup_load_get(MyDatabaseId);
		if (load != NULL)
			load->left_out = true;
		sup_unlock();
	}
	sweep();
	if (!closed)
		sup_load_jobs();
	if (beyond_share > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("%d declared worker of database %u is not run, since its role has too many",
							   "%d declared workers of database %u are not run, since their roles have too many",
							   beyond_share, beyond_share, MyDatabaseId),
				 errhint("You might need to increase \"%s\".", "supervisor.max_workers")));
	if (no_room > 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("no room for %d declared worker", "no room for %d declared workers", no_room, no_room),
				 errhint("You might need to increase \"%s\".", "supervisor.max_workers")));
	proc_exit(0);
}
