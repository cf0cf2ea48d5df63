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

/* As often one of those is read of which rows were left out. */
#define LEFT_OUT_US	(1000 * 1000)

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

/*
 * Have a database read again of which rows were left out: one in LEFT_OUT_US, for
 * there may be many of them, and each is read whenever a row goes.
 */
static void
read_left_out(SupLoad *load)
{
	TimestampTz at = Max(sup_now(), Sup->left_out_at);

	load->left_out = false;
	if (load->due != DT_NOEND)
		return;
	sup_request_load(load->database);
	load->due = Max(load->due, at);
	Sup->left_out_at = at + LEFT_OUT_US;
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

	/* There is room again for rows that there was none for. */
	for (int i = 0; i < SUP_LOADS; i++)
		if (OidIsValid(Sup->loads[i].database) && Sup->loads[i].left_out)
			read_left_out(&Sup->loads[i]);
	declaration->name[0] = '\0';
	Sup->declaration_keys[declaration - Sup->declarations] = 0;
}

/* Forget a database's declarations.  Takes the lock. */
void
sup_forget_database(Oid database)
{
	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		if (d->database == database && OidIsValid(database))
		{
			d->gone = true;
			sup_attend_declaration(d);
		}
	}
	sup_unlock();
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

/* By hash, so that two owners may be taken for one: that is no harm. */
int
sup_load_owner_index(const SupLoad *load)
{
	return murmurhash32(load->owner) % SUP_LOAD_OWNERS;
}

/*
 * All are waited for.  Of the owner who has most the one that was read last is left to the pass over
 * all, or one who owns many databases would have all others wait for that.  NULL: there is none.
 */
static SupLoad *
take_from_most(void)
{
	uint16		counts[SUP_LOAD_OWNERS] = {0};
	SupLoad    *most = NULL;

#define MAY_BE_TAKEN(load) ((load)->failures == 0 && !(load)->awaited && (load)->database != Sup->loading)
	for (int i = 0; i < SUP_LOADS; i++)
		if (MAY_BE_TAKEN(&Sup->loads[i]))
			counts[sup_load_owner_index(&Sup->loads[i])]++;
	for (int i = 0; i < SUP_LOADS; i++)
	{
		SupLoad    *load = &Sup->loads[i];
		int			more;

		if (!MAY_BE_TAKEN(load))
			continue;
		more = most == NULL ? 1 : counts[sup_load_owner_index(load)] - counts[sup_load_owner_index(most)];
		if (more > 0 || (more == 0 && load->began > most->began))
			most = load;
	}
#undef MAY_BE_TAKEN
	if (most != NULL)
		Sup->load_all = true;
	return most;
}

/* The same, or a new one; 'take' one if need be; NULL: no room. */
static SupLoad *
load_get(Oid database, bool take)
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
	if (load == NULL && take)
		load = take_from_most();
	if (load != NULL)
	{
		memset(load, 0, sizeof(SupLoad));
		load->database = database;
		load->due = DT_NOEND;
	}
	return load;
}

/*
 * The same, or a new one: a free one, or one that nobody has asked for
 * since; NULL: no room.
 */
SupLoad *
sup_load_get(Oid database)
{
	return load_get(database, false);
}

/*
 * Have the declarations of a database read.  The first request after a while
 * is served at once, the others at intervals that grow.
 */
void
sup_request_load(Oid database)
{
	SupLoad    *load = load_get(database, true);
	TimestampTz now = sup_now();

	if (load == NULL)
		Sup->load_all = true;
	else
	{
		load->requested = ++Sup->last_request;
		if (!load->knows_owner)
			load->owner = MyProc->roleId;
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
		load->due = Min(load->due, Max(sup_now(), load->began + AWAITED_US));
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
 * The settings come first, then 'enabled', then what was found out about it.
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
	if (d->listed)
	{
		*detail = "it is in supervisor.stopped_workers";
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

/*
 * So who has the most leaves half, the next one half of that, and so on: nobody's
 * many rows push out another's few, whoever is read first.  A role with rows in the
 * databases of another leaves as much again for that one and his other guests.
 */
bool
sup_declaration_has_room(Oid account, Oid role, Oid database, int rows, int rows_of_role)
{
	int			n = 0;
	int			all = 0;
	int			here = 0;
	int			of_role = 0;
	int			of_role_here = 0;
	int			most;

	SUP_ASSERT_LOCKED();
	sup_foreach_declaration(d)
	{
		/* without branches, as there may be thousands */
		bool		of_account = d->account == account;
		bool		is_here = d->database == database;
		bool		mine = of_account & (d->program.role == role);

		if (!d->capped || d->gone)
			continue;
		n++;
		all += of_account;
		here += of_account & is_here;
		of_role += mine;
		of_role_here += mine & is_here;
	}
	n -= all;
	all += Max(rows - here, 0);
	of_role += Max(rows_of_role - of_role_here, 0);
	most = (Sup->ndeclarations / 4 * 3 - n) / 2;
	return all + 1 <= most && (role == account || of_role + 1 <= most - all);
}
