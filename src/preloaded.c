/*-------------------------------------------------------------------------
 *
 * preloaded.c
 *	  Background workers that preloaded libraries have registered themselves.
 *
 * Those that supervisor.take_over names are taken over: the postmaster is made to
 * start them as workers of ours, and api.c declares them.
 *
 * Of the others, a backend can't see the postmaster's list.  So the postmaster copies
 * what is of interest into its own memory, from which each backend has it.  With
 * EXEC_BACKEND none has, and nothing is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "compat.h"
#include "declaration.h"
#include "guc.h"
#include "preloaded.h"
#include "supervisor.h"

typedef struct Registered
{
	BackgroundWorker worker;
	SupHandle	handle;
} Registered;

static Registered *registered = NULL;
static int	nregistered = 0;

/* Once taken they stay, whatever the postmaster forgets of them in a crash. */
static SupTaken *taken = NULL;
static int	ntaken = 0;

const char *
sup_library_base(const char *library, int *len)
{
	const char *base = last_dir_separator(library) ? last_dir_separator(library) + 1 : library;
	int			suffix = strlen(DLSUFFIX);

	*len = strlen(base);
	if (*len > suffix && strcmp(base + *len - suffix, DLSUFFIX) == 0)
		*len -= suffix;
	return base;
}

/* Are they one library?  It may be named in several ways. */
static bool
is_same_library(const char *a, const char *b)
{
	int			a_len;
	int			b_len;
	const char *a_base = sup_library_base(a, &a_len);
	const char *b_base = sup_library_base(b, &b_len);

	return a_len == b_len && strncmp(a_base, b_base, a_len) == 0;
}

/*
 * Taking over
 */

/* What count_one() and take_one() have come to. */
typedef struct TakeOver
{
	int			first_slot;
	int			found;			/* named by the setting */
	int			next;			/* of 'taken', from its end */
} TakeOver;

/* The server's own, and ours, are not taken, whatever the setting says. */
static bool
is_of_library(const BackgroundWorker *worker)
{
	return strcmp(worker->bgw_library_name, "postgres") != 0 &&
		!is_same_library(worker->bgw_library_name, "supervisor");
}

/* Is that library, or any, in a list of them? */
static bool
is_listed(const char *list, const char *library)
{
	char		name[MAXPGPATH];
	bool		found = false;

	while (!found && sup_next_listed(&list, name))
		found = strcmp(name, "*") == 0 || is_same_library(name, library);
	return found;
}

static bool
is_named(const BackgroundWorker *worker)
{
	return is_of_library(worker) && is_listed(sup_take_over, worker->bgw_library_name);
}

/* For sup_foreach_static_worker(). */
static bool
count_one(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	TakeOver   *to = arg;

	to->found += is_named(worker);
	return true;
}

/*
 * For sup_foreach_static_worker().  In the registration the function becomes ours,
 * which calls the library's; what others see of it, its place among
 * max_worker_processes, and when it is started, stay.  Strings end in our copy: a
 * library may have filled a field to its end.
 */
static bool
take_one(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	TakeOver   *to = arg;
	SupTaken   *t;

	/* Those that were registered first are taken first. */
	if (!is_named(worker) || to->found-- > ntaken)
		return true;
	t = &taken[--to->next];
	t->worker = *worker;
	t->worker.bgw_name[BGW_MAXLEN - 1] = t->worker.bgw_type[BGW_MAXLEN - 1] =
		t->worker.bgw_function_name[BGW_MAXLEN - 1] =
		t->worker.bgw_library_name[sizeof(worker->bgw_library_name) - 1] = '\0';
	t->slot = to->first_slot + to->next;
	t->name[0] = '\0';

	strlcpy(worker->bgw_library_name, SUPERVISOR_STATIC_LIBRARY, sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, SUPERVISOR_STATIC_FUNCTION, sizeof(worker->bgw_function_name));
	worker->bgw_main_arg = Int32GetDatum(t->slot);
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	return true;
}

/* For sup_foreach_static_worker(): false, and so in 'arg', if it is of that library. */
static bool
is_not_of(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	const char **library = arg;

	if (!is_of_library(worker) || !is_same_library(worker->bgw_library_name, *library))
		return true;
	*library = NULL;
	return false;
}

/* Before they are taken: one line for each library that is named, and has registered none. */
static void
tell_of_none(void)
{
	const char *list = sup_take_over;
	char		name[MAXPGPATH];

	while (sup_next_listed(&list, name))
	{
		const char *library = name;

		if (strcmp(name, "*") == 0)
			continue;
		sup_foreach_static_worker(is_not_of, &library);
		if (library != NULL)
			ereport(LOG,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("library \"%s\", in \"%s\", has registered no background worker",
							name, "supervisor.take_over"),
					 is_listed(shared_preload_libraries_string, name) ? 0 :
					 errdetail("It is not in \"%s\".", "shared_preload_libraries")));
	}
}

/* One line for those that are, and one for those that are not. */
static void
tell_of_taken(int left)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < ntaken; i++)
		appendStringInfo(&names, "%s\"%s\" of library \"%s\"", i > 0 ? ", " : "",
						 taken[i].worker.bgw_name, taken[i].worker.bgw_library_name);
	if (ntaken > 0)
		ereport(LOG,
				(errmsg_plural("%d background worker of a preloaded library is supervised",
							   "%d background workers of preloaded libraries are supervised", ntaken, ntaken),
				 errdetail_internal("%s", names.data)));
	if (left > 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("no slot to supervise %d background worker of a preloaded library",
							   "no slot to supervise %d background workers of preloaded libraries", left, left),
				 errdetail("The server runs what is left over, as it does without supervisor."),
				 errhint("You might need to increase \"%s\".", "supervisor.max_workers")));
	pfree(names.data);
}

/* Without the supervisor, all stay the postmaster's. */
void
sup_preloaded_take(int first_slot)
{
	TakeOver	to;
	int			left;

	if (sup_take_over[0] == '\0')
		return;
	if (!sup_registered)
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is taken over, since there is none for supervisor"),
				 errhint("You might need to increase \"%s\".", "max_worker_processes")));
		return;
	}
	to.first_slot = first_slot;
	to.found = 0;
	sup_foreach_static_worker(count_one, &to);
	ntaken = Max(Min(to.found, sup_max_workers - first_slot), 0);
	taken = MemoryContextAlloc(TopMemoryContext, sizeof(SupTaken) * Max(ntaken, 1));
	tell_of_none();
	to.next = ntaken;
	left = to.found - ntaken;
	sup_foreach_static_worker(take_one, &to);
	tell_of_taken(left);
}

SupTaken *
sup_preloaded_taken(int *count)
{
	*count = ntaken;
	return taken;
}

/*
 * Warning of two of a kind
 */

/* For sup_foreach_static_worker(). */
static bool
note_one(BackgroundWorker *worker, const SupHandle *handle, void *arg)
{
	if (nregistered == max_worker_processes)
		return false;
	registered[nregistered].worker = *worker;
	registered[nregistered++].handle = *handle;
	return true;
}

/* After a crash there may be fewer, and they have other handles. */
void
sup_preloaded_note(void)
{
	if (registered == NULL)
		registered = MemoryContextAlloc(TopMemoryContext,
										sizeof(Registered) * Max(max_worker_processes, 1));
	nregistered = 0;
	sup_foreach_static_worker(note_one, NULL);
}

/* Is that its function? */
static bool
is_function(const BackgroundWorker *worker, const char *library, const char *function)
{
	return is_same_library(worker->bgw_library_name, library) &&
		strcmp(worker->bgw_function_name, function) == 0;
}

/* Does one that was taken over run, or is it about to? */
static bool
runs_supervised(const SupTaken *t)
{
	SupDeclaration *d;
	bool		runs = false;
	dlist_iter	iter;

	sup_lock();
	d = sup_declaration_find(InvalidOid, t->name);
	if (d != NULL)
	{
		dlist_foreach(iter, &d->slots)
		{
			SupSlot    *slot = dlist_container(SupSlot, owner_node, iter.cur);

			runs |= slot->state != SUP_STOPPED && slot->state != SUP_FAILED;
		}
	}
	sup_unlock();
	return runs;
}

/* Two of a kind, which do not know of each other, may get into each other's way. */
void
sup_warn_if_preloaded(const char *library, const char *function)
{
	for (int i = 0; i < ntaken; i++)
	{
		if (!is_function(&taken[i].worker, library, function) || !runs_supervised(&taken[i]))
			continue;
		ereport(WARNING,
				(errmsg("function \"%s\" of library \"%s\" has a background worker already",
						function, library),
				 errdetail("The preloaded library has registered it itself, and it runs under supervision as worker \"%s\".",
						   taken[i].name),
				 errhint("Both would run. Remove this worker, or take the library out of \"%s\" and restart the server.",
						 "shared_preload_libraries")));
		return;
	}
	for (int i = 0; i < nregistered; i++)
	{
		const BackgroundWorker *worker = &registered[i].worker;
		pid_t		pid = 0;

		if (!is_function(worker, library, function) ||
			GetBackgroundWorkerPid((BackgroundWorkerHandle *) &registered[i].handle, &pid) == BGWH_STOPPED)
			continue;
		ereport(WARNING,
				(errmsg("function \"%s\" of library \"%s\" has a background worker already",
						function, library),
				 pid != 0 ?
				 errdetail("The preloaded library has registered \"%s\" itself, which runs as process %d.",
						   worker->bgw_name, (int) pid) :
				 errdetail("The preloaded library has registered \"%s\" itself, which is about to start.",
						   worker->bgw_name),
				 errhint("Both would run. Remove this worker and list the library in \"%s\", so that its own one is supervised, or take the library out of \"%s\"; then restart the server.",
						 "supervisor.take_over", "shared_preload_libraries")));
		return;
	}
}
