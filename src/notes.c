/*-------------------------------------------------------------------------
 *
 * notes.c
 *	  What a transaction has to tell when it commits.
 *
 * Core tells nobody that something has committed which the supervisor or its
 * workers have to know.  Sessions note what they change, and publish it at
 * commit: the settings of roles and databases, for the sessions of workers;
 * and whatever may change which declared workers there are, or whether they
 * can start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "declaration.h"
#include "drain.h"
#include "fence.h"
#include "jobnotes.h"
#include "match.h"
#include "notes.h"
#include "state.h"

/* The lock is not held for longer than it takes to look at so many of something. */
#define SLICE	64

/*
 * What a transaction has to tell when it commits.  The list grows in its memory
 * context; once sorted, it can be searched without allocating anything.
 */
typedef struct Notes
{
	SupNote    *notes;
	int			n;
	int			max;
} Notes;

/*
 * Those of the transaction of this process.  Commands run within commands, as in
 * the script of an extension or an event trigger, and each adds its own; they are
 * told and forgotten in the transaction's callback, where nothing else runs.
 */
static Notes notes;

/* It has renamed a database, which is locked until it ends. */
static bool renames = false;

/* What this transaction was to drop, and has, if nothing failed: the command must stand alone. */
static Oid	doomed_database = InvalidOid;
static bool database_dropped = false;

/* Started or stopped some by name. */
static bool holds_workers = false;

/*
 * Identifier of the prepared transaction that this one is to become, which may
 * be empty; NULL: it is not, as far as we know.
 */
static char prepared_gid[GIDSIZE];
static const char *preparing = NULL;

/* Its entry, once it has one; -1.  It is ours only as long as it has our transaction ID. */
static int	entry = -1;

/* This transaction is about to finish a prepared one, which is known. */
static bool finishing = false;

/*
 * Noting
 */

/* Order by kind, role and database, for qsort() and bsearch(). */
static int
compare_notes(const void *a, const void *b)
{
	const SupNote *x = a;
	const SupNote *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->role != y->role)
		return x->role < y->role ? -1 : 1;
	return x->database < y->database ? -1 : x->database > y->database;
}

/* Sorts in place: at commit nothing can be allocated. */
static void
sort_notes(void)
{
	if (notes.n > 1)
		qsort(notes.notes, notes.n, sizeof(SupNote), compare_notes);
}

/* Settings of a role in several databases become those in any. */
static void
collapse_databases(void)
{
	int			kept = 0;

	sort_notes();
	for (int i = 0; i < notes.n; i++)
	{
		const SupNote *note = &notes.notes[i];
		SupNote    *last = kept > 0 ? &notes.notes[kept - 1] : NULL;

		if (last != NULL && note->kind == SUP_NOTE_SETTINGS && last->kind == note->kind &&
			OidIsValid(note->role) && last->role == note->role)
		{
			last->database = InvalidOid;
			last->cause = Max(last->cause, note->cause);
		}
		else
			notes.notes[kept++] = *note;
	}
	notes.n = kept;
}

/*
 * A note that another one includes is not added.  If the list is full, notes
 * are merged where that is possible; only then it is enlarged.
 */
void
sup_note(SupNoteKind kind, Oid role, Oid database)
{
	/* now, since it may be another role by the time that this commits */
	SupCause	cause = superuser() ? SUP_CAUSE_NONE :
		role == GetUserId() || role == GetSessionUserId() ? SUP_CAUSE_ROLE : SUP_CAUSE_OTHER;
	SupNote    *note;

	for (int i = 0; i < notes.n; i++)
	{
		note = &notes.notes[i];
		if (note->kind == kind && (note->role == role || !OidIsValid(note->role)) &&
			(note->database == database || !OidIsValid(note->database)))
		{
			note->cause = Max(note->cause, cause);
			return;
		}
	}
	if (notes.max == 0)
	{
		notes.max = 32;
		notes.notes = MemoryContextAlloc(TopTransactionContext, notes.max * sizeof(SupNote));
	}
	if (notes.n == notes.max)
		collapse_databases();
	if (notes.n == notes.max)
	{
		notes.max *= 2;
		notes.notes = repalloc(notes.notes, notes.max * sizeof(SupNote));
	}
	note = &notes.notes[notes.n++];
	note->kind = kind;
	note->role = role;
	note->database = database;
	note->cause = cause;
}

/* InvalidOid comes from a command that has altered nothing: no note. */
void
sup_note_load(Oid database)
{
	if (OidIsValid(database))
		sup_note(SUP_NOTE_LOAD, InvalidOid, database);
}

/* At the end of the transaction release_workers() releases them. */
void
sup_note_hold(void)
{
	holds_workers = true;
}

/* If it is prepared, the supervisor must be told of the lock that it keeps. */
void
sup_note_rename(Oid database)
{
	renames = true;
	sup_note_load(database);
}

/* If this fails, the database is read again: it may be invalid then. */
void
sup_note_doomed(Oid database)
{
	doomed_database = database;
}

/* Called after any DROP DATABASE, also one with IF EXISTS that found none. */
void
sup_note_dropped(void)
{
	database_dropped = OidIsValid(doomed_database);
	sup_note_load(doomed_database);
}

/* A copy is kept, as the command may be gone when add_entry() reads it. */
void
sup_note_prepare(const char *gid)
{
	strlcpy(prepared_gid, gid, GIDSIZE);
	preparing = prepared_gid;
}

/*
 * Publishing
 *
 * Nothing can be allocated any more, and no error may be raised.
 */

/* Returns NULL if there is none.  The notes must be sorted. */
static const SupNote *
find_note(const Notes *n, SupNoteKind kind, Oid role, Oid database)
{
	SupNote		key = {kind, role, database, SUP_CAUSE_NONE};

	return bsearch(&key, n->notes, n->n, sizeof(SupNote), compare_notes);
}

/* Without any note of a kind, its publisher need not take the lock. */
static bool
has_kind(const Notes *n, SupNoteKind kind)
{
	for (int i = 0; i < n->n; i++)
		if (n->notes[i].kind == kind)
			return true;
	return false;
}

/* Workers' sessions of these roles and databases are out of date. */
static void
publish_changes(const Notes *n)
{
	if (!has_kind(n, SUP_NOTE_SETTINGS))
		return;
	for (int start = 0; start < sup_nslots(); start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, sup_nslots()); i++)
		{
			SupSlot    *slot = &Sup->slots[i];

			if (!OidIsValid(slot->role) || slot->stale)
				continue;
			for (int j = 0; j < 4; j++)
			{
				const SupNote *note = find_note(n, SUP_NOTE_SETTINGS,
												(j & 1) ? slot->role : InvalidOid,
												(j & 2) ? slot->database : InvalidOid);

				if (note == NULL)
					continue;
				slot->stale = true;
				slot->cause = Max(slot->cause, note->cause);
			}
		}
		sup_unlock();
	}
}

/* These databases are to be read. */
static void
publish_loads(const Notes *n)
{
	if (!has_kind(n, SUP_NOTE_LOAD))
		return;
	for (int start = 0; start < n->n; start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, n->n); i++)
		{
			if (n->notes[i].kind != SUP_NOTE_LOAD)
				continue;
			if (OidIsValid(n->notes[i].database))
				sup_request_load(n->notes[i].database);
			else
			{
				Sup->load_all = true;
				sup_wake_supervisor();
			}
		}
		sup_unlock();
	}
}

/* So are those with declared workers that may be able to start now, or no more. */
static void
publish_rights(const Notes *n)
{
	if (!has_kind(n, SUP_NOTE_GRANT) && !has_kind(n, SUP_NOTE_LOGIN))
		return;
	for (int i = 0; i < n->n; i++)
		if (n->notes[i].kind == SUP_NOTE_GRANT || n->notes[i].kind == SUP_NOTE_LOGIN)
			sup_drains_retry(n->notes[i].role, n->notes[i].database);
	for (int start = 0; start < Sup->ndeclarations; start += SLICE)
	{
		sup_lock();
		for (int i = start; i < Min(start + SLICE, Sup->ndeclarations); i++)
		{
			SupDeclaration *d = &Sup->declarations[i];

			if (Sup->declaration_keys[i] != 0 && d->source == SUP_FROM_TABLE &&
				(find_note(n, SUP_NOTE_LOGIN, d->program.role, InvalidOid) != NULL ||
				 find_note(n, SUP_NOTE_GRANT, InvalidOid, d->database) != NULL))
				sup_request_load(d->database);
		}
		sup_unlock();
	}
}

/* What a library's function logs in to, it alone knows: it may be there now. */
static void
publish_names(const Notes *n)
{
	if (!has_kind(n, SUP_NOTE_NAMES) && !has_kind(n, SUP_NOTE_GRANT))
		return;
	sup_lock();
	Sup->names_version++;
	Sup->names_changed = true;
	sup_wake_supervisor();
	sup_unlock();
}

/* The notes must be sorted.  The lock is taken for SLICE items at a time. */
static void
publish_notes(const Notes *n)
{
	publish_changes(n);
	publish_loads(n);
	publish_rights(n);
	publish_names(n);
}

/* What was started or stopped here by name follows its row again. */
static void
release_workers(void)
{
	Oid			database = InvalidOid;

	sup_lock();
	sup_foreach_declaration_in_slices(d)
	{
		if (d->holder != MyProcPid)
			continue;
		d->holder = 0;
		if (d->source == SUP_FROM_TABLE)
			database = d->database; /* which is this session's */
	}
	/* Once all are: a loader leaves those that are held as they are. */
	if (OidIsValid(database))
		sup_request_load(database);
	sup_unlock();
}

/*
 * Prepared transactions.  The caller holds the lock, unless a function says
 * that it takes it.
 */

/* The hash of an identifier in prepared_keys[], where 0 is a free entry. */
static uint32
prepared_key(const char *gid)
{
	uint32		key = hash_bytes((const unsigned char *) gid, strlen(gid));

	return key != 0 ? key : 1;
}

/* Free an entry.  The caller frees its memory in the area. */
static void
prepared_free(SupPrepared *prepared)
{
	SUP_ASSERT_LOCKED();
	Sup->prepared_keys[prepared - Sup->prepared] = 0;
	Sup->prepared_held -= prepared->held;
	if (!prepared->named)
		Sup->nameless--;
}

/*
 * An entry for a transaction that is about to be prepared: a copy of this one; -1:
 * there are no prepared transactions.  If all are in use, the oldest is of one that
 * somebody has finished without us.
 */
static int
prepared_add(const SupPrepared *prepared)
{
	SupPrepared *p = NULL;

	SUP_ASSERT_LOCKED();
	for (int i = 0; i < Sup->nprepared && p == NULL; i++)
		if (Sup->prepared_keys[i] == 0)
			p = &Sup->prepared[i];
	if (p == NULL && Sup->nprepared > 0)
	{
		p = &Sup->prepared[0];
		for (int i = 1; i < Sup->nprepared; i++)
			if (Sup->prepared[i].number < p->number)
				p = &Sup->prepared[i];
		sup_free_later(p->notes);
		prepared_free(p);
	}
	if (p == NULL)
		return -1;
	*p = *prepared;
	p->number = ++Sup->last_prepared;
	Sup->prepared_keys[p - Sup->prepared] = prepared_key(p->gid);
	Sup->prepared_held += p->held;
	if (!p->named)
		Sup->nameless++;
	return (int) (p - Sup->prepared);
}

/*
 * The next entry after that one for a prepared transaction with that
 * identifier, or -1.  Takes the lock.
 */
static int
prepared_next(const char *gid, int after)
{
	uint32		key = prepared_key(gid);
	int			next = -1;

	sup_lock();
	for (int i = after + 1; i < Sup->nprepared && next < 0; i++)
		if (Sup->prepared_keys[i] == key && Sup->prepared[i].prepared && Sup->prepared[i].named &&
			strcmp(Sup->prepared[i].gid, gid) == 0)
			next = i;
	sup_unlock();
	return next;
}

/*
 * Prepared transactions
 *
 * What one has noted waits in shared memory until it is finished, perhaps by
 * another session.  It is put there while PREPARE may still fail, for want of
 * memory, too.  It is known by its transaction ID, since an identifier may be
 * used again at once; whoever finds that it is not in progress any more takes the
 * entry, and tells what it says.  Of one that the server has recovered nothing is
 * known: then anything may have changed.
 */

/* What that is; nobody writes to it. */
static SupNote anything[] = {
	{SUP_NOTE_SETTINGS, InvalidOid, InvalidOid, SUP_CAUSE_NONE},
	{SUP_NOTE_LOAD, InvalidOid, InvalidOid, SUP_CAUSE_NONE},
	{SUP_NOTE_NAMES, InvalidOid, InvalidOid, SUP_CAUSE_NONE}
};

static const Notes all_notes = {anything, lengthof(anything), 0};

/* The supervisor shall look which prepared transactions there are. */
static void
have_prepared_checked(void)
{
	sup_lock();
	Sup->check_prepared = true;
	sup_wake_supervisor();
	sup_unlock();
}

/* Memory in the area for the notes of this transaction, and they in it; false: there is none. */
static bool
put_notes(SupPrepared *p)
{
	Size		size;
	Size		size_of_jobs;
	int			njobs;
	const SupJobNote *jobs = sup_job_notes(&njobs);
	char	   *place;

	/*
	 * Whoever may log in may change his own, and shall not fill the area with
	 * them.
	 */
	if (notes.n > SUP_NOTES)
		collapse_databases();
	sort_notes();
	size = sizeof(SupNote) * notes.n;
	size_of_jobs = sizeof(SupJobNote) * njobs;
	p->nnotes = notes.n;
	p->njobs = njobs;
	p->changed = *sup_notes_changed_jobs();
	p->any_jobs = sup_notes_any_jobs() ? MyDatabaseId : InvalidOid;
	if (notes.n <= SUP_NOTES && njobs == 0)
	{
		if (notes.n > 0)
			memcpy(p->few, notes.notes, size);
		return true;
	}
	p->held = sup_area_size(size + size_of_jobs);
	p->notes = dsa_allocate_extended(sup_area(), p->held, DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(p->notes))
		return false;
	place = dsa_get_address(sup_area(), p->notes);
	if (notes.n > 0)
		memcpy(place, notes.notes, size);
	if (njobs > 0)
		memcpy(place + size, jobs, size_of_jobs);
	sup_clear_rest(place, p->held, size + size_of_jobs);
	return true;
}

/*
 * This transaction is about to be prepared.  One of logical replication, which
 * does not go by the utility hook, has no identifier here.
 *
 * What is allocated belongs to the entry before any interrupt is taken.
 */
static void
add_entry(void)
{
	SupPrepared p = {0};
	bool		capped = !superuser();
	bool		over = false;
	int			njobs;

	(void) sup_job_notes(&njobs);
	if (preparing == NULL && notes.n == 0 && njobs == 0 && !sup_notes_any_jobs())
		return;
	p.xid = GetTopTransactionIdIfAny();
	p.role = GetUserId();
	p.named = preparing != NULL;
	strlcpy(p.gid, p.named ? preparing : "", GIDSIZE);
	p.renames = renames;
	if (put_notes(&p))
	{
		sup_lock();
		over = capped && p.held > 0 && sup_role_held(p.role) + p.held > SUP_HALF_OF_AREA;
		entry = over ? -1 : prepared_add(&p);
		if (entry < 0)
			sup_free_later(p.notes);
		sup_unlock();
		if (!over)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of shared memory for prepared transactions"),
			 over ? errdetail("A non-superuser role holds at most half of it.") : 0,
			 errhint("Finish prepared transactions, see pg_prepared_xacts, change fewer roles and databases in one, or increase \"%s\".",
					 "supervisor.shared_memory")));
}

/* Now it is prepared, or has failed: then there is nothing to tell. */
static void
settle_entry(bool prepared)
{
	SupPrepared *p = &Sup->prepared[entry];

	sup_lock();
	if (Sup->prepared_keys[entry] != 0 && p->xid == GetTopTransactionIdIfAny())
	{
		p->prepared = prepared;
		if (!prepared)
		{
			sup_free_later(p->notes);
			prepared_free(p);
		}
	}
	sup_unlock();

	/* There may have been no fence for it. */
	if (prepared && renames)
		have_prepared_checked();
}

/*
 * What an entry says that was just taken; with 'only_jobs' of jobs.  What can't be right
 * may mean anything.
 */
static void
publish_prepared(SupPrepared *p, bool only_jobs)
{
	Notes		n = {.n = p->nnotes};
	Size		size = sizeof(SupNote) * (Size) p->nnotes;

	if (DsaPointerIsValid(p->notes) ? p->notes != MAXALIGN(p->notes) ||
		!sup_in_area(p->notes, size + sizeof(SupJobNote) * (Size) p->njobs) :
		p->nnotes > SUP_NOTES || p->njobs > 0)
	{
		n = all_notes;
		p->any_jobs = MyDatabaseId;
	}
	else if (DsaPointerIsValid(p->notes))
	{
		n.notes = dsa_get_address(sup_area(), p->notes);
		sup_publish_jobs((const SupJobNote *) ((char *) n.notes + size), p->njobs);
	}
	else
		n.notes = p->few;
	if (!only_jobs)
		publish_notes(&n);
	if (OidIsValid(p->any_jobs))
		sup_publish_any_jobs(p->any_jobs);
	sup_tell_of_changed(&p->changed);
}

/*
 * If its transaction is finished, take an entry; false: it is not, or has been
 * taken.  That of one that was rolled back tells nothing, if 'exactly'.
 */
static bool
take_prepared(int i, bool exactly)
{
	static SupPrepared told;
	SupPrepared *p = &Sup->prepared[i];
	TransactionId xid = InvalidTransactionId;
	bool		tells;
	bool		taken;

	sup_lock();
	if (Sup->prepared_keys[i] != 0)
		xid = p->xid;
	sup_unlock();
	if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
		return false;
	tells = !exactly || TransactionIdDidCommit(xid);

	/* From here on nothing fails. */
	sup_lock();
	taken = Sup->prepared_keys[i] != 0 && p->xid == xid;
	if (taken)
	{
		told = *p;
		prepared_free(p);
	}
	sup_unlock();
	if (!taken)
		return false;
	if (told.renames)
		have_prepared_checked();
	if (told.prepared && (tells || told.changed.n > 0))
		publish_prepared(&told, !tells);
	if (DsaPointerIsValid(told.notes))
		dsa_free(sup_area(), told.notes);
	return true;
}

/*
 * There may be entries of older transactions with the same identifier, which
 * nobody has taken yet.  So it is known only if one of them is in progress.
 */
bool
sup_finish_prepared(const char *gid)
{
	bool		known = false;

	(void) sup_area();			/* once that is done, nothing may fail */
	for (int i = -1; (i = prepared_next(gid, i)) >= 0 && !known;)
	{
		TransactionId xid;

		sup_lock();
		xid = Sup->prepared[i].xid;
		sup_unlock();
		known = TransactionIdIsInProgress(xid);
	}
	finishing = known;
	return known;
}

/*
 * Take the entries with that identifier.  If the transaction was not known,
 * anything may have changed; and the supervisor must look which locks are
 * gone.
 */
void
sup_finished_prepared(const char *gid, bool commits, bool known)
{
	for (int i = -1; (i = prepared_next(gid, i)) >= 0;)
		known |= take_prepared(i, !commits);
	if (!known)
	{
		if (commits)
			publish_notes(&all_notes);
		sup_publish_any_jobs(MyDatabaseId);
		have_prepared_checked();
	}
	finishing = false;
}

/*
 * It also tells what transactions that were rolled back have noted, which
 * does no harm.
 */
void
sup_look_at_prepared(void)
{
	/* Once: others may prepare one after the other. */
	if (!Sup->check_prepared)
		return;
	sup_lock();
	Sup->check_prepared = false;
	sup_unlock();
	for (int i = 0; i < Sup->nprepared; i++)
		(void) take_prepared(i, false);
	sup_look_at_fences();
}

/*
 * The end
 */

/* What the transaction has to tell of jobs. */
static void
publish_jobs(void)
{
	int			njobs;
	const SupJobNote *jobs = sup_job_notes(&njobs);

	sup_publish_jobs(jobs, njobs);
	if (sup_notes_any_jobs())
		sup_publish_any_jobs(MyDatabaseId);
	else
		sup_tell_of_changed(sup_notes_changed_jobs());
}

/* The transaction has committed: publish its notes. */
static void
publish(void)
{
	/* Before its fence is lowered, or its workers would be tried once more. */
	if (database_dropped)
	{
		sup_forget_database(doomed_database);
		sup_lock();
		sup_drains_forget(doomed_database);
		sup_unlock();
	}
	sort_notes();
	publish_notes(&notes);
	publish_jobs();

	/* It may be logical replication, which has finished a prepared one. */
	if (Sup->nameless > 0 && MyBackendType == B_BG_WORKER)
		have_prepared_checked();
}

/*
 * Transaction callback.  Before PREPARE, where an error may be raised, the
 * notes are put into an entry; at COMMIT they are published.  Then they are
 * forgotten.
 */
static void
notes_at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE)
		add_entry();
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (entry >= 0)
		settle_entry(event == XACT_EVENT_PREPARE);
	if (event == XACT_EVENT_ABORT && sup_notes_changed_jobs()->n > 0)
		publish_jobs();
	if (event == XACT_EVENT_COMMIT)
		publish();
	else if (event == XACT_EVENT_ABORT && OidIsValid(doomed_database))
	{
		sup_lock();
		sup_request_load(doomed_database);
		sup_unlock();
	}
	if (holds_workers)
		release_workers();
	if (finishing)
		have_prepared_checked();	/* what came of it? */
	memset(&notes, 0, sizeof(notes));
	sup_forget_job_notes();
	preparing = NULL;
	entry = -1;
	finishing = renames = holds_workers = database_dropped = false;
	doomed_database = InvalidOid;
}

/* The callback is called for every transaction, with notes or without. */
void
sup_install_notes(void)
{
	RegisterXactCallback(notes_at_xact_end, NULL);
}
