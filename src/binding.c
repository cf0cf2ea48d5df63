/*-------------------------------------------------------------------------
 *
 * binding.c
 *	  Pools and bindings: found, made, counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "binding.h"

/* NULL: there is none.  One that was removed is found while it is in use. */
SupPool *
sup_pool_by_name(const char *name)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		if (Sup->pools[i].name[0] != '\0' && strcmp(Sup->pools[i].name, name) == 0)
			return &Sup->pools[i];
	return NULL;
}

/* Has the pool a binding?  Then its entry can't be given to another. */
bool
sup_pool_in_use(int pool)
{
	SUP_ASSERT_LOCKED();
	return Sup->pools[pool].nbindings > 0;
}

/* The head of the hash chain that has the bindings of a role. */
int *
sup_bindings_of(Oid role)
{
	/* By role alone, so that one chain has all tasks of a role. */
	return &Sup->buckets[murmurhash32(role) & (Sup->nbuckets - 1)];
}

/* Returns NULL if there is none. */
SupBinding *
sup_binding_find(int pool, Oid database, Oid role)
{
	SUP_ASSERT_LOCKED();
	for (int i = *sup_bindings_of(role); i >= 0; i = Sup->bindings[i].next)
	{
		SupBinding *b = &Sup->bindings[i];

		if (b->pool == pool && b->database == database && b->role == role)
			return b;
	}
	return NULL;
}

/* Find or make a binding.  There is always room for one. */
SupBinding *
sup_binding_get(int pool, Oid database, Oid role)
{
	SupBinding *b = sup_binding_find(pool, database, role);
	int		   *bucket;
	int			i;

	if (b != NULL)
		return b;

	i = Sup->free_binding;
	Assert(i >= 0);
	b = &Sup->bindings[i];
	Sup->free_binding = b->next;
	memset(b, 0, sizeof(SupBinding));
	b->pool = pool;
	b->database = database;
	b->role = role;
	b->held_until = sup_role_held_until(role, database);
	Sup->pools[pool].nbindings++;
	dlist_init(&b->queue);
	dlist_init(&b->idle);
	bucket = sup_bindings_of(role);
	b->next = *bucket;
	*bucket = i;
	return b;
}

/* Give a binding back if it has neither task nor drain nor worker any more. */
void
sup_binding_drop(SupBinding *binding)
{
	int			i = (int) (binding - Sup->bindings);
	int		   *link;

	SUP_ASSERT_LOCKED();
	if (binding->ntasks > 0 || binding->ndrains > 0 || binding->nworkers > 0)
		return;
	Assert(binding->place == SUP_NOWHERE);
	for (link = sup_bindings_of(binding->role); *link != i; link = &Sup->bindings[*link].next)
		 /* there it is */ ;
	*link = binding->next;
	binding->next = Sup->free_binding;
	Sup->free_binding = i;
	Sup->pools[binding->pool].nbindings--;
	if (Sup->pools[binding->pool].promised == i)
		Sup->pools[binding->pool].promised = -1;

	/* Its entry may be free now. */
	if (Sup->pools[binding->pool].removed)
		sup_attend_pool(&Sup->pools[binding->pool]);
}

/* How many tasks a role has, over all databases and pools; how many of them are kept. */
int
sup_role_tasks(Oid role, int *kept)
{
	int			n = 0;

	SUP_ASSERT_LOCKED();
	*kept = 0;
	for (int i = *sup_bindings_of(role); i >= 0; i = Sup->bindings[i].next)
	{
		if (Sup->bindings[i].role != role)
			continue;
		n += Sup->bindings[i].ntasks;
		*kept += Sup->bindings[i].nkept;
	}
	return n;
}

/* 'queued' has room for SUP_MAX_POOLS. */
void
sup_pools_queued(Oid role, bool *queued)
{
	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_MAX_POOLS; i++)
		queued[i] = !OidIsValid(role) && Sup->pools[i].nqueued > 0;
	for (int i = OidIsValid(role) ? *sup_bindings_of(role) : -1; i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role && Sup->bindings[i].nqueued > 0)
			queued[Sup->bindings[i].pool] = true;
}

/* How much of the area the tasks and prepared transactions of a role hold. */
Size
sup_role_held(Oid role)
{
	Size		held = 0;

	SUP_ASSERT_LOCKED();
	for (int i = *sup_bindings_of(role); i >= 0; i = Sup->bindings[i].next)
		if (Sup->bindings[i].role == role)
			held += Sup->bindings[i].held;
	for (int i = 0; i < Sup->nprepared && Sup->prepared_held > 0; i++)
		if (Sup->prepared_keys[i] != 0 && Sup->prepared[i].role == role)
			held += Sup->prepared[i].held;
	return held;
}

/* Until when a role is held back in a database; it may be past. */
TimestampTz
sup_role_held_until(Oid role, Oid database)
{
	TimestampTz debt = ENDS_ALLOWED_US;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < SUP_DEBTORS; i++)
		if (Sup->debtors[i].role == role &&
			(!OidIsValid(Sup->debtors[i].database) || Sup->debtors[i].database == database))
			debt = Max(debt, Sup->debtors[i].debt);
	return debt - ENDS_ALLOWED_US;
}
