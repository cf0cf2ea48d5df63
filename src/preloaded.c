/*-------------------------------------------------------------------------
 *
 * preloaded.c
 *	  Background workers that preloaded libraries have registered themselves.
 *
 * A backend can't see the postmaster's list of them.  So the postmaster copies what
 * is of interest into its own memory, from which each backend has it.  With
 * EXEC_BACKEND none has, and nothing is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"

#include "compat.h"
#include "preloaded.h"

typedef struct Registered
{
	BackgroundWorker worker;
	SupHandle	handle;
} Registered;

static Registered *registered = NULL;
static int	nregistered = 0;

/* For sup_foreach_static_worker(). */
static bool
note_one(const BackgroundWorker *worker, const SupHandle *handle, void *arg)
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

/* Of a library's path: the name of its file, without the suffix; and how long that is. */
static const char *
base_of(const char *library, int *len)
{
	const char *base = last_dir_separator(library) ? last_dir_separator(library) + 1 : library;
	int			suffix = strlen(DLSUFFIX);

	*len = strlen(base);
	if (*len > suffix && strcmp(base + *len - suffix, DLSUFFIX) == 0)
		*len -= suffix;
	return base;
}

/* Does it run, or is it about to?  The library may be named in several ways. */
static bool
runs(const Registered *r, const char *library, const char *function, pid_t *pid)
{
	int			len;
	int			its_len;
	const char *base = base_of(library, &len);
	const char *its_base = base_of(r->worker.bgw_library_name, &its_len);

	return its_len == len && strncmp(its_base, base, len) == 0 &&
		strcmp(r->worker.bgw_function_name, function) == 0 &&
		GetBackgroundWorkerPid((BackgroundWorkerHandle *) &r->handle, pid) != BGWH_STOPPED;
}

/* Two of a kind, which do not know of each other, may get into each other's way. */
void
sup_warn_if_preloaded(const char *library, const char *function)
{
	for (int i = 0; i < nregistered; i++)
	{
		const char *name = registered[i].worker.bgw_name;
		pid_t		pid = 0;

		if (!runs(&registered[i], library, function, &pid))
			continue;
		ereport(WARNING,
				(errmsg("function \"%s\" of library \"%s\" has a background worker already",
						function, library),
				 pid != 0 ?
				 errdetail("The preloaded library has registered \"%s\" itself, which runs as process %d.",
						   name, (int) pid) :
				 errdetail("The preloaded library has registered \"%s\" itself, which is about to start.",
						   name),
				 errhint("Both would run. Keep the library's own one and remove this worker, or take the library out of \"%s\" and restart the server.",
						 "shared_preload_libraries")));
		return;
	}
}
