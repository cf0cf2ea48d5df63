/*-------------------------------------------------------------------------
 *
 * jobviews.c
 *	  The SQL functions behind the views of jobs.
 *
 * What waits, and what has run, is in the tables, which the views read.  What runs, and
 * why others do not, only shared memory knows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "args.h"
#include "binding.h"
#include "compat.h"
#include "jobtable.h"
#include "members.h"
#include "queue.h"
#include "rights.h"

/* supervisor.may_see(): is that role's not hidden from who reads the view? */
PG_FUNCTION_INFO_V1(supervisor_may_see);
Datum
supervisor_may_see(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sup_may_see(PG_GETARG_OID(0)));
}

/* supervisor.job_origin(): what jobs that belong here have; NULL: that is not to be known. */
PG_FUNCTION_INFO_V1(supervisor_job_origin);
Datum
supervisor_job_origin(PG_FUNCTION_ARGS)
{
	int64		origin;

	if (!sup_job_known_origin(&origin))
		PG_RETURN_NULL();
	PG_RETURN_INT64(origin);
}

/*
 * What runs
 */

#define RUN_COLS 6

/* Nobody shall have to wait for the lock until all of them are copied. */
#define ROWS_PER_LOCK 16

/* Copy the claims of this database; how many. */
static int
copy_claims(SupClaim *claims)
{
	int			n = 0;

	sup_lock();
	for (int i = 0; i < 2 * sup_max_workers && SupJob->nclaims > 0; i++)
	{
		if (i % ROWS_PER_LOCK == ROWS_PER_LOCK - 1)
		{
			sup_unlock();
			CHECK_FOR_INTERRUPTS();
			sup_lock();
		}
		if (SupJob->claims[i].database == MyDatabaseId && SupJob->claims[i].job.spot.id != 0)
			claims[n++] = SupJob->claims[i];
	}
	sup_unlock();
	return n;
}

/* supervisor.get_job_runs(): the jobs of this database on which somebody has a claim */
PG_FUNCTION_INFO_V1(supervisor_get_job_runs);
Datum
supervisor_get_job_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SupClaim   *claims;
	int			n;

	sup_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	claims = palloc(sizeof(SupClaim) * 2 * sup_max_workers);
	n = copy_claims(claims);
	for (int i = 0; i < n; i++)
	{
		const SupClaim *claim = &claims[i];
		Datum		values[RUN_COLS];
		bool		nulls[RUN_COLS] = {0};

		values[0] = ObjectIdGetDatum(claim->table);
		values[1] = Int64GetDatum(claim->job.spot.id);
		values[2] = BoolGetDatum(claim->begun && claim->slot >= 0);
		values[3] = BoolGetDatum(claim->slot < 0);
		values[4] = TimestampTzGetDatum(claim->started_at);
		values[5] = Int32GetDatum(claim->pid);
		nulls[4] = nulls[5] = !claim->begun;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(claims);
	return (Datum) 0;
}

/*
 * Why jobs that are due wait
 */

/* What is true of all jobs of a queue, as long as a statement runs. */
typedef struct QueueKey
{
	Oid			role;
	char		pool[NAMEDATALEN];
} QueueKey;

typedef struct QueueReason
{
	QueueKey	key;
	const char *reason;			/* NULL: a worker is about to take them */
} QueueReason;

/* Does that pool have a worker, and one that has nothing to do? */
static void
find_workers(const SupPool *pool, bool *any, bool *free)
{
	*any = *free = false;
	for (int i = 0; i < sup_max_workers; i++)
	{
		SupSlot    *slot = &Sup->slots[i];

		if (slot->state != SUP_RUNNING || slot->kind != SUP_KIND_POOL || &Sup->pools[slot->pool] != pool ||
			slot->ready_at == 0 || slot->leaving_since != 0)
			continue;
		*any = true;
		*free |= pg_atomic_read_u32(&slot->task) == 0;
	}
}

/* What shared memory says. */
static const char *
reason_in_memory(const QueueKey *key)
{
	const char *reason = NULL;
	const SupPool *pool;
	const SupJobQueue *queue;
	TimestampTz now = sup_now();
	bool		any;
	bool		free;

	sup_lock();
	pool = sup_pool_by_name(key->pool);
	queue = sup_queue_find(MyDatabaseId, key->role, key->pool);
	if (!SupJob->run_jobs || (pool != NULL && !pool->removed && pool->size == 0))
		reason = "paused";
	else if (pool == NULL || pool->removed)
		reason = "no_pool";
	else if (Max(sup_role_held_until(key->role, MyDatabaseId), Sup->library_start_at) > now ||
			 (queue != NULL && queue->not_before > now))
		reason = sup_state_names[SUP_BACKOFF];
	else
	{
		find_workers(pool, &any, &free);
		reason = !any ? "no_worker" : free ? NULL : "busy";
	}
	sup_unlock();
	return reason;
}

/* One of a fixed set of words; NULL: none. */
static const char *
reason_of(const QueueKey *key)
{
	const char *complaint;
	const char *reason = sup_why_may_not_connect(key->role);

	if (RecoveryInProgress())
		return sup_reason_names[SUP_RECOVERY];
	if (!OidIsValid(sup_trusted_table(&sup_job_table, true, &complaint)) ||
		!OidIsValid(sup_trusted_table(&sup_history_table, true, &complaint)) ||
		!OidIsValid(sup_trusted_table(&sup_origin_table, true, &complaint)))
		return "not_trusted";
	if (!sup_database_listed(get_database_name(MyDatabaseId)))
		return "not_listed";
	if (reason == NULL && !sup_may_use_pool(key->pool, key->role))
		reason = "no_member";
	return reason ? reason : reason_in_memory(key);
}

/* The same, kept in this call's memory. */
static const char *
known_reason_of(FunctionCallInfo fcinfo, const QueueKey *key)
{
	HTAB	   *known = fcinfo->flinfo->fn_extra;
	QueueReason *entry;
	bool		found;

	if (known == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(QueueKey);
		ctl.entrysize = sizeof(QueueReason);
		ctl.hcxt = fcinfo->flinfo->fn_mcxt;
		known = hash_create("supervisor queues", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		fcinfo->flinfo->fn_extra = known;
	}
	entry = hash_search(known, key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		const char *reason = reason_of(key);

		entry = hash_search(known, key, HASH_ENTER, &found);
		entry->reason = reason;
	}
	return entry->reason;
}

/*
 * supervisor.why_job_waits(): of a job that is due, and that nobody runs, of that role and
 * for that pool; 'key_runs': another one of its key runs
 */
PG_FUNCTION_INFO_V1(supervisor_why_job_waits);
Datum
supervisor_why_job_waits(PG_FUNCTION_ARGS)
{
	char	   *pool = text_to_cstring(PG_GETARG_TEXT_PP(1));
	QueueKey	key = {0};
	const char *reason = "no_pool";

	sup_require_preload();
	if (strlen(pool) < NAMEDATALEN)
	{
		key.role = PG_GETARG_OID(0);
		strlcpy(key.pool, pool, NAMEDATALEN);
		reason = known_reason_of(fcinfo, &key);
	}
	if (PG_GETARG_BOOL(2) && (reason == NULL || strcmp(reason, "busy") == 0))
		reason = "key";
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}
