/*-------------------------------------------------------------------------
 *
 * members.c
 *	  Who may use a pool, and which one a call means.
 *
 * A list is of names, which the supervisor takes from supervisor.pools.  What
 * they mean is looked up in the session that submits, since a role may come, go
 * or be renamed at any time: by the caches of catalogs, without the lock.  So
 * that the list can't change in between, it has a version: the pool takes the
 * task if it has still the one that was looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "match.h"
#include "members.h"
#include "rights.h"
#include "state.h"

/* Where pg_authid is locked, so long until it is tried again. */
#define RETRY_US	INT64CONST(1000000)

/* Who was let in last: by which list, and at which of the catalogs' changes. */
static uint64 known_version = 0;
static Oid	known_role = InvalidOid;
static uint64 known_at;

/* In the supervisor: when to look for roles that do not exist. */
static TimestampTz look_at = DT_NOEND;

/* Takes the lock. */
bool
sup_pool_members(const char *pool, SupMembers *members, uint64 *version)
{
	SupPool    *p;

	sup_lock();
	p = sup_pool_by_name(pool);
	*version = p != NULL ? p->members_version : 0;
	if (*version != 0)
		memcpy(members, &Sup->members[p - Sup->pools], sizeof(SupMembers));
	sup_unlock();
	return p != NULL;
}

/* The supervisor has written it, so it is checked. */
const char *
sup_next_member(const SupMembers *members, int *offset)
{
	const char *name = members->names + *offset;
	int			rest = Min(members->len, SUP_MEMBERS_SIZE) - *offset;
	Size		len;

	if (rest <= 0)
		return NULL;
	len = strnlen(name, rest);
	if (len == 0 || len == rest || len >= NAMEDATALEN)
		return NULL;
	*offset += len + 1;
	return name;
}

/* For the role of the last call alone, and until a catalog changes. */
uint64
sup_known_member(Oid role)
{
	return role == known_role && known_at == sup_rights_changes() ? known_version : 0;
}

/* Is that role a member of one of these?  One that does not exist has none. */
static bool
is_member(const SupMembers *members, Oid role)
{
	const char *name;
	int			offset = 0;

	while ((name = sup_next_member(members, &offset)) != NULL)
	{
		Oid			listed = get_role_oid(name, true);

		if (OidIsValid(listed) && is_member_of_role_nosuper(role, listed))
			return true;
	}
	return false;
}

/* For a message: the roles of a list. */
static char *
list_of(const SupMembers *members)
{
	StringInfoData buf;
	const char *name;
	int			offset = 0;

	initStringInfo(&buf);
	while ((name = sup_next_member(members, &offset)) != NULL)
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", quote_identifier(name));
	return buf.data;
}

/* What was found is kept for sup_known_member(). */
uint64
sup_check_member(const char *pool, Oid role)
{
	uint64		now = sup_rights_changes();
	SupMembers	members;
	uint64		version;
	bool		nobody;

	(void) sup_pool_members(pool, &members, &version);
	if (version == 0)
		return 0;
	if (is_member(&members, role))
	{
		/* What has changed while we looked is seen the next time. */
		known_version = version;
		known_role = role;
		known_at = now;
		return version;
	}
	nobody = members.len == 0;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for pool \"%s\"", pool),
			 nobody ? errdetail("Only superusers may use it.") :
			 errdetail("Role \"%s\" is no member of the roles that may use it: %s.",
					   sup_role_name(role), list_of(&members)),
			 errhint("Name another pool, also by \"%s\", or have the role listed in \"%s\" or made a member of one that is.",
					 "supervisor.default_pool", "supervisor.pools")));
	return 0;					/* keep compiler quiet */
}

/*
 * The pool of a call
 */

/* For sup_foreach_set_setting(): remember supervisor.default_pool. */
static void
find_setting(struct config_generic *conf, void *arg)
{
	if (strcmp(conf->name, "supervisor.default_pool") == 0)
		*(struct config_generic **) arg = conf;
}

/*
 * Who has set supervisor.default_pool, as far as that is not for the server to
 * say; InvalidOid.  What is stored for a role or a database counts as the
 * caller's, who may have stored it.
 */
static Oid
setter_of_default_pool(void)
{
	struct config_generic *conf = NULL;

	sup_foreach_set_setting(~SUP_SOURCE(PGC_S_DEFAULT), find_setting, &conf);
	if (conf == NULL || conf->source < PGC_S_DATABASE)
		return InvalidOid;
	return conf->source <= PGC_S_DATABASE_USER ? GetOuterUserId() : conf->srole;
}

bool
sup_may_use_pool(const char *pool, Oid role)
{
	SupMembers	members;
	uint64		version;

	(void) sup_pool_members(pool, &members, &version);
	return version == 0 || superuser_arg(role) || is_member(&members, role);
}

/* The caller has called sup_require_preload(). */
char *
sup_pool_arg(FunctionCallInfo fcinfo, int n)
{
	Oid			setter;

	if (!PG_ARGISNULL(n))
		return text_to_cstring(PG_GETARG_TEXT_PP(n));

	/* Outside of a SECURITY DEFINER function nobody but the caller has a say. */
	if (InLocalUserIdChange() && strcmp(sup_default_pool, SUP_DEFAULT_POOL) != 0)
	{
		setter = setter_of_default_pool();
		if (OidIsValid(setter) && setter != GetUserId() &&
			!(sup_may_use_pool(sup_default_pool, setter) && sup_may_use_pool(sup_default_pool, GetUserId())))
			return pstrdup(SUP_DEFAULT_POOL);
	}
	return pstrdup(sup_default_pool);
}

/*
 * The supervisor
 */

/* A name of the settings that no role has been found to have yet. */
typedef struct Listed
{
	const char *name;
	const char *pool;
	bool		exists;
} Listed;

/* For qsort() and bsearch(). */
static int
compare_listed(const void *a, const void *b)
{
	return strcmp(((const Listed *) a)->name, ((const Listed *) b)->name);
}

/*
 * Mark those that exist, in order of their names.  It reads the table, since an
 * index could be locked as well.  False: it is locked.
 */
static bool
find_roles(Listed *listed, int n)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	if (!ConditionalLockRelationOid(AuthIdRelationId, AccessShareLock))
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);
		return false;
	}
	rel = table_open(AuthIdRelationId, NoLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Listed		key = {NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname), NULL, false};
		Listed	   *found = bsearch(&key, listed, n, sizeof(Listed), compare_listed);

		CHECK_FOR_INTERRUPTS();
		if (found == NULL)
			continue;
		/* it may be in several lists */
		while (found > listed && compare_listed(found - 1, &key) == 0)
			found--;
		for (; found < listed + n && compare_listed(found, &key) == 0; found++)
			found->exists = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return true;
}

/* The settings have been read. */
void
sup_watch_members(void)
{
	look_at = 0;
}

/* Nobody waits for that, so it waits for nobody. */
TimestampTz
sup_look_at_members(TimestampTz now)
{
	int			npools;
	SupPoolSetting *pools;
	Listed	   *listed;
	int			n = 0;
	int			room = 0;

	if (now < look_at)
		return look_at;
	look_at = DT_NOEND;
	pools = sup_pool_settings(&npools);
	for (int i = 0; i < npools; i++)
		room += pools[i].members.len / 2;	/* a name has a byte, and its NUL */
	listed = palloc(sizeof(Listed) * Max(room, 1));
	for (int i = 0; i < npools; i++)
	{
		const char *name;
		int			offset = 0;

		while ((name = sup_next_member(&pools[i].members, &offset)) != NULL)
		{
			listed[n].name = name;
			listed[n].pool = pools[i].name;
			listed[n++].exists = false;
		}
	}
	qsort(listed, n, sizeof(Listed), compare_listed);
	if (n > 0 && !find_roles(listed, n))
		look_at = now + RETRY_US;
	for (int i = 0; i < n && look_at == DT_NOEND; i++)
		if (!listed[i].exists)
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role \"%s\" in the list of pool \"%s\" does not exist",
							listed[i].name, listed[i].pool),
					 errdetail("It counts once it exists: see \"%s\".", "supervisor.pools")));
	pfree(listed);
	pfree(pools);
	return look_at;
}
