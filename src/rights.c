/*-------------------------------------------------------------------------
 *
 * rights.c
 *	  Would a fresh session be let in, with the same rights?
 *
 * Core reads LOGIN, CONNECT, superuser and the like once, when a session
 * starts.  A pool worker lives longer than the rights it started with may,
 * so it asks again before each task.  The answers are kept until a relevant
 * catalog changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "rights.h"

typedef struct Rights
{
	bool		exists;
	bool		login;
	bool		super;
	bool		bypassrls;
	bool		replication;
	bool		allowed;		/* the database allows connections */
	bool		connect;		/* and the role may connect */
} Rights;

/* How often a relevant catalog has changed. */
static uint64 changes = 1;

/*
 * Who was found good, and at which of these changes: the role that submits,
 * and the session of this worker, which has more to lose.  'changes' is read
 * before the catalogs are: what comes while they are looked at is seen later.
 */
static Oid	good_submitter = InvalidOid;
static uint64 good_submitter_at;
static uint64 good_session_at = 0;

/* What the session of this worker has cached, and the role that it began with. */
static Rights bound;
static uint32 bound_flags;		/* BGWORKER_BYPASS_... */
static bool bound_in_recovery;
static uint32 bound_settings;	/* if so, its settings_version() */
static Oid	bound_role = InvalidOid;

/* Syscache callback: no catalog can be read here, so it only counts. */
static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

/* Register the callback, once: it can't be removed. */
static void
watch_catalogs(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterSyscacheCallback(AUTHOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, catalog_changed, (Datum) 0);
	watching = true;
}

/* The rights of a role in this database, as the catalogs say now. */
static Rights
rights_of(Oid role)
{
	Rights		r = {0};
	HeapTuple	tuple;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid form = (Form_pg_authid) GETSTRUCT(tuple);

		r.exists = true;
		r.login = form->rolcanlogin;
		r.super = form->rolsuper;
		r.bypassrls = form->rolbypassrls;
		r.replication = form->rolreplication;
		ReleaseSysCache(tuple);
	}
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (HeapTupleIsValid(tuple))
	{
		r.allowed = ((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
		r.connect = r.exists &&
			object_aclcheck(DatabaseRelationId, MyDatabaseId, role, ACL_CONNECT) == ACLCHECK_OK;
		ReleaseSysCache(tuple);
	}
	return r;
}

/* Reads a catalog, so the caller must not hold the lock. */
const char *
sup_role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* A role that may is not checked again until one of the catalogs changes. */
void
sup_check_may_connect(void)
{
	sup_check_role_may_connect(GetUserId());
}

void
sup_check_role_may_connect(Oid role)
{
	uint64		now = changes;
	Rights		r;

	if (role == good_submitter && now == good_submitter_at)
		return;
	watch_catalogs();
	r = rights_of(role);
	if (r.login && r.allowed && r.connect)
	{
		good_submitter = role;
		good_submitter_at = now;
		return;
	}
	if (!r.exists)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role with OID %u does not exist", role)));
	if (!r.login)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role \"%s\" is not permitted to log in", GetUserNameFromId(role, false)),
				 role == GetCurrentRoleId() && role != GetSessionUserId() ?
				 errdetail("A task runs in a session of the current role, which SET ROLE, or the setting \"role\" of role \"%s\", has made it.",
						   sup_role_name(GetSessionUserId())) :
				 errdetail("A task or job runs in a session of its role."),
				 errhint("Grant role \"%s\" to a role that may log in and call as that, or call a SECURITY DEFINER function of such a role.",
						 GetUserNameFromId(role, false))));
	if (!r.allowed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database \"%s\" is not currently accepting connections",
						get_database_name(MyDatabaseId))));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("permission denied for database \"%s\"", get_database_name(MyDatabaseId)),
			 errdetail("Role \"%s\" does not have CONNECT privilege, and a task or job runs in a session of its role.",
					   GetUserNameFromId(role, false))));
}

const char *
sup_why_may_not_connect(Oid role)
{
	Rights		r = rights_of(role);

	return !r.exists ? "no_role" : !r.login ? "no_login" : !r.allowed || !r.connect ? "database_not_allowed" : NULL;
}

/*
 * What tells one state of this session's stored settings (ALTER ROLE, ALTER
 * DATABASE ... SET) from another.
 */
static uint32
settings_version(void)
{
	Oid			role = GetSessionUserId();
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	uint32		version = 0;

	for (int i = 0; i < 4; i++)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum((i & 1) ? MyDatabaseId : InvalidOid));
		ScanKeyInit(&key[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum((i & 2) ? role : InvalidOid));
		scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, 2, key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			version = hash_combine(version, hash_bytes((unsigned char *) &tuple->t_self,
													   sizeof(ItemPointerData)));
			version = hash_combine(version, hash_bytes_uint32(HeapTupleHeaderGetXmin(tuple->t_data)));
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return version;
}

/*
 * Takes what core has cached at login, and reads the rest from the catalogs.
 * In a transaction.
 */
void
sup_rights_bound(uint32 flags)
{
	bound_flags = flags;
	watch_catalogs();
	bound = rights_of(GetSessionUserId());

	/* They may have changed since; this is what core has cached. */
	bound.super = GetSessionUserIsSuperuser();

	/* ALTER ROLE ... SET role may have made it another than the session's. */
	bound_role = GetCurrentRoleId();

	/* Here nobody runs the command that changes settings: see watch.c. */
	bound_in_recovery = RecoveryInProgress();
	if (bound_in_recovery)
		bound_settings = settings_version();
}

/*
 * Called before each task: what was found is kept until one of the catalogs
 * changes.  On a standby the stored settings are read each time as well.
 */
bool
sup_rights_hold(void)
{
	Oid			role = GetSessionUserId();
	Rights		r;

	while (good_session_at != changes)
	{
		/* A change that comes while we look makes us look again. */
		uint64		now = changes;

		r = rights_of(role);
		if (!r.exists ||
			(!r.login && !(bound_flags & BGWORKER_BYPASS_ROLELOGINCHECK)) ||
			((!r.allowed || !r.connect) && !(bound_flags & BGWORKER_BYPASS_ALLOWCONN)) ||
			r.super != bound.super || r.bypassrls != bound.bypassrls ||
			r.replication != bound.replication ||
			(OidIsValid(bound_role) && !sup_may_set_role(role, bound_role)))
			return false;
		good_session_at = now;
	}

	if (bound_in_recovery)
	{
		/* once more after promotion: then it is we who see the changes */
		bound_in_recovery = RecoveryInProgress();
		if (settings_version() != bound_settings)
			return false;
	}
	return true;
}

/* Looks at both the session's role and the current one. */
bool
sup_role_is_as_bound(Oid role)
{
	return GetSessionUserId() == role && GetCurrentRoleId() == bound_role;
}

/* From the first call on it is counted. */
uint64
sup_rights_changes(void)
{
	watch_catalogs();
	return changes;
}

/* InvalidOid is a worker that has no role: only superusers may signal it. */
bool
sup_may_signal(Oid role)
{
	if (!OidIsValid(role) || superuser_arg(role))
		return superuser();
	return has_privs_of_role(GetUserId(), role) ||
		has_privs_of_role(GetUserId(), ROLE_PG_SIGNAL_BACKEND);
}

/* InvalidOid is nobody: only pg_read_all_stats may see what belongs to it. */
bool
sup_may_see(Oid role)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		(OidIsValid(role) && has_privs_of_role(GetUserId(), role));
}

/*
 * Looks into catalogs, so the caller must not hold the lock.  The answer for the last
 * role is kept until one of them changes.
 */
Oid
sup_account_of(Oid role)
{
	static Oid	known_role = InvalidOid;
	static Oid	known_account;
	static uint64 known_at;
	uint64		now = sup_rights_changes();
	HeapTuple	tuple;
	Oid			owner = role;

	if (role == known_role && now == known_at)
		return known_account;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_database) GETSTRUCT(tuple))->datdba;
		ReleaseSysCache(tuple);
	}
	known_account = superuser_arg(owner) ? role : owner;
	known_role = role;
	known_at = now;
	return known_account;
}
