/*-------------------------------------------------------------------------
 *
 * temporary.c
 *	  Has nobody else lock what is temporary in a child.
 *
 * Who may connect can lock a relation by its number, whosever it is, until his
 * transaction ends: nextval() locks it before it looks at rights, and functions
 * such as pg_get_viewdef() and pg_get_partition_constraintdef() ask for none.  With
 * a temporary relation of a task that would keep its worker from being reset, and
 * then in its exit.  So a child locks its temporary relations itself, for its
 * session, as soon as they are made and until they are dropped: it is the only one
 * that can use them.  Who asks for their size waits meanwhile.
 *
 * Where there are very many, the later ones are not locked: the server has one table
 * for all locks.  When a transaction is aborted, core lets go of all locks: whoever
 * waits for one then gets it before it can be taken again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "temporary.h"

#define MAX_LOCKED	100

/* A relation that is locked, and the open subtransactions that have made or dropped it. */
typedef struct Locked
{
	Oid			relation;
	SubTransactionId made;
	SubTransactionId dropped;
	bool		held;			/* core lets go of it when a transaction is
								 * aborted */
} Locked;

/* Changed in the hook and at the end of transactions, between which nothing runs. */
static Locked locked[MAX_LOCKED];
static int	nlocked = 0;

static object_access_hook_type next_object_access_hook = NULL;

/* The lock on a relation of this database. */
static LOCKTAG
tag_of(Oid relation)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relation);
	return tag;
}

/* Whoever has the lock already keeps it. */
static void
hold(Locked *l)
{
	LOCKTAG		tag = tag_of(l->relation);

	l->held = LockAcquire(&tag, AccessExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* It is gone: another takes its place in the array. */
static void
release(int i)
{
	LOCKTAG		tag = tag_of(locked[i].relation);

	if (locked[i].held)
		(void) LockRelease(&tag, AccessExclusiveLock, true);
	locked[i] = locked[--nlocked];
}

/* Core has it open, so this looks into no catalog. */
static void
relation_made(Oid relation)
{
	Locked	   *l = &locked[nlocked];
	Relation	rel;

	if (nlocked == MAX_LOCKED)
		return;
	rel = RelationIdGetRelation(relation);
	if (!RelationIsValid(rel))
		return;
	if (isTempOrTempToastNamespace(rel->rd_rel->relnamespace))
	{
		l->relation = relation;
		l->made = GetCurrentSubTransactionId();
		l->dropped = InvalidSubTransactionId;
		l->held = false;
		nlocked++;
		hold(l);
	}
	RelationClose(rel);
}

/* It stays locked until that is committed. */
static void
relation_dropped(Oid relation)
{
	for (int i = 0; i < nlocked; i++)
		if (locked[i].relation == relation)
			locked[i].dropped = GetCurrentSubTransactionId();
}

/* object_access_hook */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class, object, sub, arg);
	if (class != RelationRelationId || sub != 0)
		return;
	if (access == OAT_POST_CREATE)
		relation_made(object);
	else if (access == OAT_DROP)
		relation_dropped(object);
}

/* What has been dropped, or has not come to be, needs no lock. */
static void
xact_ends(XactEvent event, void *arg)
{
	for (int i = nlocked - 1; i >= 0; i--)
	{
		Locked	   *l = &locked[i];

		switch (event)
		{
			case XACT_EVENT_PRE_COMMIT:
				if (!l->held)
					hold(l);
				break;
			case XACT_EVENT_COMMIT:
				if (l->dropped != InvalidSubTransactionId)
					release(i);
				else
					l->made = InvalidSubTransactionId;
				break;
			case XACT_EVENT_ABORT:
				l->held = false;
				l->dropped = InvalidSubTransactionId;
				if (l->made != InvalidSubTransactionId)
					release(i);
				break;
			default:
				break;
		}
	}
}

/* A subtransaction's doing becomes that of the one around it, or is undone. */
static void
subxact_ends(SubXactEvent event, SubTransactionId ended, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = nlocked - 1; i >= 0; i--)
	{
		bool		commits = event == SUBXACT_EVENT_COMMIT_SUB;

		if (locked[i].dropped == ended)
			locked[i].dropped = commits ? parent : InvalidSubTransactionId;
		if (locked[i].made == ended && commits)
			locked[i].made = parent;
		else if (locked[i].made == ended)
			release(i);
	}
}

void
sup_temporary_init(void)
{
	next_object_access_hook = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_ends, NULL);
	RegisterSubXactCallback(subxact_ends, NULL);
}
