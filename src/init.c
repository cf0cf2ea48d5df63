/*-------------------------------------------------------------------------
 *
 * init.c
 *	  What happens when the server loads the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "api.h"
#include "compat.h"
#include "dropped.h"
#include "fence.h"
#include "guc.h"
#include "launch.h"
#include "mark.h"
#include "notes.h"
#include "preloaded.h"
#include "queue.h"
#include "read.h"
#include "state.h"
#include "watch.h"

SUP_MODULE_MAGIC;

static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

/* shmem_request_hook: once, when all libraries are loaded. */
static void
request_shared_memory(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	sup_state_request();
	sup_queues_request();
}

/*
 * shmem_startup_hook: memory is new at the start of the server and after a
 * crash, and then the libraries' workers are declared in it.  By the first time no
 * library can register any more with the server, which has started none yet.
 */
static void
start_shared_memory(void)
{
	static bool workers_taken = false;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	sup_queues_init();
	if (!sup_state_init())
		return;
	if (!workers_taken)
		sup_preloaded_take(sup_api_nstatic());
	workers_taken = true;
	sup_api_declare();
	sup_preloaded_note();
	on_shmem_exit(sup_tell_dropped, (Datum) 0);
}

void		_PG_init(void);

/* Entry of the library, in the postmaster or in a session that needs it. */
void
_PG_init(void)
{
	/*
	 * Without preloading there is no supervisor, and every function says so.
	 * pg_upgrade's servers need none, and must not run anybody's work.
	 */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
	{
		if (creating_extension && !IsBinaryUpgrade)
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("supervisor is not preloaded, and its functions will fail"),
					 errhint("Add it to \"%s\" and restart the server.", "shared_preload_libraries")));
		return;
	}

	sup_define_settings();
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	sup_install_fence();
	sup_install_notes();		/* after it: at commit it is called before it */
	sup_install_watch();
	sup_install_relay();
	sup_marks_install();
	sup_register_supervisor();
	sup_api_publish();
}
