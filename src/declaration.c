/*-------------------------------------------------------------------------
 *
 * declaration.c
 *	  Declared workers in shared memory, and the databases whose tables are to
 *	  be read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "declaration.h"

/* A database for which a session waits is read no more often. */
#define AWAITED_US	(25 * 1000)

/*
 * Declarations.  The caller holds the lock.
 */

/* Hash of database and name; never 0, which is a free entry's. */
static uint32
declaration_key(Oid database, const char *name)
{
	uint32		key = hash_combine(murmurhash32(database),
								   hash_bytes((const unsigned char *) name, strlen(name)));

	return key != 0 ? key : 1;
}

/* Looks at the keys, which lie close together.  NULL: there is none. */
SupDeclaration *
sup_declaration_find(Oid database, const char *name)
{
	uint32		key = declaration_key(database, name);

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] == key &&
			Sup->declarations[i].database == database &&
			strcmp(Sup->declarations[i].name, name) == 0)
			return &Sup->declarations[i];
	return NULL;
}

/* NULL: it is gone. */
SupDeclaration *
sup_declaration_by_id(uint64 id)
{
	SUP_ASSERT_LOCKED();
	sup_foreach_declaration(d)
	{
		if (d->id == id)
			return d;
	}
	return NULL;
}

/* Take an entry for one that is not there yet; NULL: there is no room. */
SupDeclaration *
sup_declaration_add(Oid database, const char *name)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->ndeclarations; i++)
		if (Sup->declaration_keys[i] == 0)
		{
			SupDeclaration *d = &Sup->declarations[i];

			memset(d, 0, sizeof(SupDeclaration));
			Sup->declaration_keys[i] = declaration_key(database, name);
			d->id = ++Sup->last_declaration_id;
			d->database = database;
			strlcpy(d->name, name, NAMEDATALEN);
			dlist_init(&d->slots);
			return d;
		}
	return NULL;
}

/* Once its slots have been released. */
void
sup_declaration_free(SupDeclaration *declaration)
{
	SUP_ASSERT_LOCKED();
	Assert(dlist_is_empty(&declaration->slots));
	if (declaration->attended)
		dlist_delete(&declaration->attention_node);
	declaration->attended = false;
	declaration->name[0] = '\0';
	Sup->declaration_keys[declaration - Sup->declarations] = 0;
}

/* Forget a database's declarations. */
void
sup_forget_database(Oid database)
{
	SUP_ASSERT_LOCKED();
	sup_foreach_declaration(d)
	{
		if (d->database == database && OidIsValid(database))
		{
			d->gone = true;
			sup_attend_declaration(d);
		}
	}
}

/*
 * Databases to be read.  The caller holds the lock.
 */

/* The entry of a database; NULL: it has none. */
SupLoad *
sup_load_of(Oid database)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_LOADS; i++)
		if (Sup->loads[i].database == database)
			return &Sup->loads[i];
	return NULL;
}

/*
 * The same, or a new one: a free one, or one that nobody has asked for
 * since; NULL: no room.
 */
SupLoad *
sup_load_get(Oid database)
{
	SupLoad    *load = sup_load_of(database);

	if (load != NULL)
		return load;
	load = sup_load_of(InvalidOid);
	for (int i = 0; i < SUP_LOADS && (load == NULL || OidIsValid(load->database)); i++)
	{
		SupLoad    *l = &Sup->loads[i];

		if (l->due == DT_NOEND && l->database != Sup->loading &&
			(load == NULL || l->began < load->began))
			load = l;
	}
	if (load != NULL)
	{
		memset(load, 0, sizeof(SupLoad));
		load->database = database;
		load->due = DT_NOEND;
	}
	return load;
}

/*
 * Have the declarations of a database read.  The first request after a while
 * is served at once, the others at intervals that grow.
 */
void
sup_request_load(Oid database)
{
	SupLoad    *load = sup_load_get(database);
	TimestampTz now = GetCurrentTimestamp();

	if (load == NULL)
		Sup->load_all = true;
	else
	{
		load->requested = ++Sup->last_request;
		if (now >= load->began + load->interval)
			load->interval = 0;

		/*
		 * Asked for again, it keeps its place; and what failed slowly holds
		 * up others.
		 */
		if (load->due == DT_NOEND || (load->failures > 0 && !load->slow))
			load->due = Min(load->due, Max(now, load->began + load->interval));
	}
	sup_wake_supervisor();
}

/*
 * Somebody waits for what has been asked for: by then, see sup_load_done(), it
 * will be read.
 */
uint64
sup_await_load(Oid database)
{
	SupLoad    *load = sup_load_of(database);

	if (load == NULL)
		return 0;
	if (load->due != DT_NOEND)
	{
		load->awaited = true;
		load->due = Min(load->due, Max(GetCurrentTimestamp(), load->began + AWAITED_US));
		sup_wake_supervisor();
	}
	/* What is being read now may have been asked for by nobody. */
	return Max(load->requested, load->reading);
}

/* Has it been read since, or is it in vain to wait for that? */
bool
sup_load_done(Oid database, uint64 request)
{
	SupLoad    *load = sup_load_of(database);

	if (load == NULL)
		return Sup->loading != database;
	return load->read >= request || load->failures > 0;
}

/*
 * The setting comes first, then 'enabled', then what was found out about it.
 * *detail stays in the declaration.
 */
SupReason
sup_declaration_why_not(const SupDeclaration *d, const char **detail)
{
	SUP_ASSERT_LOCKED();
	if (!sup_start_workers)
	{
		*detail = "supervisor.start_workers is off";
		return SUP_DISABLED;
	}
	if (!d->terms.enabled)
	{
		*detail = "it is not enabled";
		return SUP_DISABLED;
	}
	*detail = d->bad_detail;
	return d->bad;
}

/* A C function is run for superusers alone, whatever its row says. */
bool
sup_is_capped(const SupProgram *program)
{
	return program->kind == SUP_KIND_COMMAND && !superuser_arg(program->role);
}

/* A row of a role that is no superuser, for sorting. */
typedef struct Holding
{
	Oid			role;
	Oid			database;
	bool		enabled;
	uint64		id;
} Holding;

/* Those of one role in one database together, and of these first what runs least. */
static int
compare_holdings(const void *a, const void *b)
{
	const Holding *x = a;
	const Holding *y = b;

	if (x->role != y->role)
		return x->role < y->role ? -1 : 1;
	if (x->database != y->database)
		return x->database < y->database ? -1 : 1;
	if (x->enabled != y->enabled)
		return x->enabled ? 1 : -1;
	return x->id > y->id ? -1 : x->id < y->id;
}

/*
 * By what has been read: rows that are not committed are not known here.  What
 * is given up is as if it were not in the table, until its database is read and
 * there is room for it.  The last eighth of the room is not for those who have
 * most: they would take back what they have given up, before it is found.
 */
SupShare
sup_declaration_share(Oid role, Oid database, const char *name, bool give_up)
{
	Holding    *holdings = palloc(sizeof(Holding) * Sup->ndeclarations);
	int			limit = Sup->ndeclarations / 4 * 3;
	int			half = Sup->ndeclarations / 2;
	int			n = 0;
	int			of_role = 0;
	int			here = 0;
	int			most[2] = {0, 0};	/* of any role, of that one */
	uint64		victim[2] = {0, 0};
	int			which;

	sup_lock();
	sup_foreach_declaration(d)
	{
		if (!d->capped || d->gone || (d->database == database && strcmp(d->name, name) == 0))
			continue;
		of_role += d->program.role == role;
		here += d->program.role == role && d->database == database;
		holdings[n].role = d->program.role;
		holdings[n].database = d->database;
		holdings[n].enabled = d->terms.enabled;
		holdings[n++].id = d->id;
	}
	sup_unlock();

	qsort(holdings, n, sizeof(Holding), compare_holdings);
	for (int i = 0, next; i < n; i = next)
	{
		for (next = i + 1; next < n && holdings[next].role == holdings[i].role &&
			 holdings[next].database == holdings[i].database; next++)
			 /* they are counted */ ;
		if (holdings[i].role == role && holdings[i].database == database)
			continue;
		for (which = 0; which <= (holdings[i].role == role ? 1 : 0); which++)
			if (next - i > most[which])
			{
				most[which] = next - i;
				victim[which] = holdings[i].id;
			}
	}
	pfree(holdings);

	if (of_role < half && (of_role < half - half / 8 || most[1] == 0 || here + 1 < most[1]) &&
		n < limit && (n < limit - limit / 8 || here + 1 < most[0]))
		return SUP_SHARE_LEFT;
	which = of_role < half ? 0 : 1;
	if ((which == 0 && n < limit) || most[which] <= here + 1)
		return SUP_SHARE_USED_UP;
	if (give_up)
	{
		SupDeclaration *d;

		sup_lock();
		d = sup_declaration_by_id(victim[which]);
		if (d != NULL)
		{
			d->gone = true;
			sup_attend_declaration(d);
		}
		sup_unlock();
	}
	return SUP_SHARE_OF_OTHERS;
}
