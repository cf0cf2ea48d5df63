/*-------------------------------------------------------------------------
 *
 * api.c
 *	  The supervisor's side of supervisor.h.
 *
 * Workers that libraries declare while they are preloaded are known when
 * shared memory is set up: at the start of the server, and again after a
 * crash.  Others come at run time, from any process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "api.h"
#include "child.h"
#include "compat.h"
#include "declaration.h"
#include "lifecycle.h"
#include "preloaded.h"
#include "supervisor.h"
#include "wait.h"

/*
 * Understanding
 */

/*
 * Does it look the same in all encodings?  What is declared in a table may
 * have other characters: see copy_as_ascii().
 */
static bool
is_ascii(const char *string)
{
	for (; *string != '\0'; string++)
		if (*string < ' ' || *string > '~')
			return false;
	return true;
}

/*
 * What is wrong with its name, or NULL.  That comes first: with a bad name
 * it can't even be shown as failed.
 */
static const char *
check_name(const SupervisorWorker *worker)
{
	if (worker->name == NULL || worker->name[0] == '\0')
		return "name is empty";
	if (strlen(worker->name) >= NAMEDATALEN)
		return "name is too long";
	if (!is_ascii(worker->name))
		return "name is not ASCII";
	return NULL;
}

/* 0 stands for the setting, and a negative number for 0. */
static int64
own_or_setting(int value, int64 unit)
{
	return value == 0 ? -1 : value < 0 ? 0 : value * unit;
}

/* Returns what is wrong with it, or NULL. */
static const char *
understand(const SupervisorWorker *worker, SupProgram *program, SupTerms *terms)
{
	const char *type = worker->type ? worker->type : worker->name;
	const char *extra = worker->extra ? worker->extra : "";
	bool		early = worker->start_after == SUPERVISOR_POSTMASTER_START;

	memset(program, 0, sizeof(SupProgram));
	memset(terms, 0, sizeof(SupTerms));
	program->kind = SUP_KIND_LIBRARY;
	terms->enabled = true;
	terms->instances = 1;

	if (strlen(type) >= BGW_MAXLEN)
		return "type is too long";
	if (!is_ascii(type))
		return "type is not ASCII";
	if (worker->library == NULL || worker->library[0] == '\0')
		return "library is empty";
	if (strlen(worker->library) >= MAXPGPATH)
		return "library is too long";
	if (worker->function == NULL || worker->function[0] == '\0')
		return "function is empty";
	if (strlen(worker->function) >= BGW_MAXLEN)
		return "function is too long";
	if (strlen(extra) >= BGW_EXTRALEN)
		return "extra is too long";
	if (worker->start_after < SUPERVISOR_RECOVERY_FINISHED ||
		worker->start_after > SUPERVISOR_POSTMASTER_START)
		return "start_after is out of range";
	if (worker->flags != 0 &&
		((worker->flags & BGWORKER_SHMEM_ACCESS) == 0 ||
		 (worker->flags & ~(BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION |
							BGWORKER_INTERRUPTIBLE)) != 0))
		return "flags are not those of a background worker";
	if (early && (worker->flags & BGWORKER_BACKEND_DATABASE_CONNECTION) != 0)
		return "a worker that starts before the consistent state cannot have a database connection";
	if (worker->restart < SUPERVISOR_ALWAYS || worker->restart > SUPERVISOR_NEVER)
		return "restart is out of range";
	if (worker->instances < 0 || worker->instances > sup_max_workers)
		return "instances is out of range";

	program->start_after = early ? BgWorkerStart_PostmasterStart :
		worker->start_after == SUPERVISOR_CONSISTENT_STATE ? BgWorkerStart_ConsistentState :
		BgWorkerStart_RecoveryFinished;
	program->flags = worker->flags;
	if (program->flags == 0)
		program->flags = early ? BGWORKER_SHMEM_ACCESS : BGWORKER_SHMEM_ACCESS |
			BGWORKER_BACKEND_DATABASE_CONNECTION | BGWORKER_INTERRUPTIBLE;
	strlcpy(program->type, type, sizeof(program->type));
	strlcpy(program->library, worker->library, sizeof(program->library));
	strlcpy(program->function, worker->function, sizeof(program->function));
	strlcpy(program->extra, extra, sizeof(program->extra));
	program->argument = worker->argument;
	program->says_ready = worker->says_ready;
	program->heartbeat_timeout = Max(worker->heartbeat_timeout, 0) * INT64CONST(1000);

	terms->instances = Max(worker->instances, 1);
	terms->restart = worker->restart == SUPERVISOR_ALWAYS ? SUP_RESTART_ALWAYS :
		worker->restart == SUPERVISOR_ON_FAILURE ? SUP_RESTART_ON_FAILURE : SUP_RESTART_NEVER;
	terms->restart_delay = own_or_setting(worker->restart_delay, 1000);
	terms->restart_delay_max = own_or_setting(worker->restart_delay_max, 1000);
	terms->max_restarts = own_or_setting(worker->max_restarts, 1);
	terms->restart_window = own_or_setting(worker->restart_window, 1000);
	terms->start_timeout = own_or_setting(worker->start_timeout, 1000);
	terms->stop_timeout = own_or_setting(worker->stop_timeout, 1000);
	return NULL;
}

/*
 * A worker as we know it: the library may have been compiled with another
 * header.
 */
static void
as_we_know_it(const SupervisorWorker *worker, SupervisorWorker *ours)
{
	memset(ours, 0, sizeof(*ours));
	memcpy(ours, worker, Min(worker->size, sizeof(*ours)));
}

/* The caller holds the lock; NULL: there is no room. */
static SupDeclaration *
add_declaration(const char *name, SupSource source, const SupProgram *program,
				const SupTerms *terms)
{
	SupDeclaration *d = sup_declaration_add(InvalidOid, name);

	if (d == NULL)
		return NULL;
	d->source = source;
	d->version = 1;
	memcpy(&d->program, program, sizeof(SupProgram));
	d->terms = *terms;
	d->listed = sup_is_of_preloaded(d) && sup_worker_stopped(d->name);
	sup_attend_declaration(d);
	return d;
}

/*
 * While libraries are preloaded
 */

/*
 * Which of them, by their index, were stopped by name or had ended for good when the
 * server crashed: in the postmaster's own memory, and so is where it looks.  They are
 * declared again in the same order.
 */
static bool *resting = NULL;
static int	nresting = 0;
static const SupDeclaration *declared;

/* on_shmem_exit callback of the postmaster: all others are gone. */
static void
note_resting(int code, Datum arg)
{
	if (getpid() != PostmasterPid)
		return;
	for (int i = 0; i < nresting; i++)
		resting[i] = declared[i].rests == SUP_RESTS + i;
}

/* A declaration that was stopped before the crash stays so. */
static void
recall_rest(SupDeclaration *d)
{
	int			i = d - Sup->declarations;

	if (!resting[i])
		return;
	d->terms.enabled = false;
	sup_declaration_rests(d, true);
}

/* If it shall run, and the postmaster has been told to start it, keep that slot for it. */
static void
reserve_slot(SupDeclaration *d, int instance, int index)
{
	SupHandle	handle;
	const char *detail;

	/* After a crash it has forgotten it. */
	SUP_ASSERT_LOCKED();
	if (index < sup_max_workers && sup_declaration_why_not(d, &detail) == SUP_NO_REASON &&
		sup_static_worker_registered(SUPERVISOR_STATIC_FUNCTION, Int32GetDatum(index), &handle))
		sup_reserve_slot(&Sup->slots[index], d, instance, &handle, sup_now());
}

/*
 * Add the declaration of a preloaded library; takes the lock.  What is wrong
 * with it goes to the log, and is kept as its reason.  If its name is bad or
 * taken, or there is no room, it is in the log only.
 */
static void
declare(const SupervisorWorker *worker)
{
	SupProgram	program;
	SupTerms	terms;
	SupDeclaration *d = NULL;
	const char *wrong = check_name(worker);
	bool		nameless = wrong != NULL;

	if (!nameless)
		wrong = understand(worker, &program, &terms);

	sup_lock();
	if (!nameless && sup_declaration_find(InvalidOid, worker->name) != NULL)
	{
		wrong = "another worker has that name";
		nameless = true;
	}
	if (!nameless)
		d = add_declaration(worker->name, SUP_FROM_LIBRARY, &program, &terms);
	if (d != NULL)
		recall_rest(d);
	if (d != NULL && wrong != NULL)
	{
		d->bad = SUP_INVALID;
		strlcpy(d->bad_detail, wrong, sizeof(d->bad_detail));
	}
	else if (d != NULL)
		for (int i = 0; i < worker->nstatic && i < d->terms.instances; i++)
			reserve_slot(d, i + 1, worker->first_static + i);
	else if (!nameless && d == NULL)
		wrong = "there is no room; see supervisor.max_workers";
	sup_unlock();

	if (wrong != NULL)
		ereport(LOG,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("worker \"%s\", declared by library \"%s\", is not run: %s",
						worker->name ? worker->name : "", worker->library ? worker->library : "",
						wrong)));
}

int
sup_api_nstatic(void)
{
	const SupervisorWorker *worker = *find_rendezvous_variable(SUPERVISOR_DECLARATIONS);
	int			n = 0;

	for (; worker != NULL; worker = worker->next)
		n += worker->nstatic;
	return n;
}

/*
 * What a worker that was taken over runs.  Core has checked it; flags that are not known
 * here are passed on.
 */
static void
program_of_taken(const BackgroundWorker *worker, SupProgram *program)
{
	memset(program, 0, sizeof(SupProgram));
	program->kind = SUP_KIND_LIBRARY;
	program->start_after = worker->bgw_start_time;
	program->flags = worker->bgw_flags;
	strlcpy(program->type, worker->bgw_type, sizeof(program->type));
	strlcpy(program->library, worker->bgw_library_name, sizeof(program->library));
	strlcpy(program->function, worker->bgw_function_name, sizeof(program->function));
	memcpy(program->extra, worker->bgw_extra, BGW_EXTRALEN);
	program->argument = (int64) worker->bgw_main_arg;
	program->registered = true;
	program->restart_time = worker->bgw_restart_time;
	strlcpy(program->process_name, worker->bgw_name, sizeof(program->process_name));
}

/*
 * How it is kept: as core would, but ever more seldom.  It is never given up, as core
 * goes on for ever, and exit code 1 is how such a worker asks to be started again.  One
 * that is never to be restarted is not run again after a crash.
 */
static void
terms_of_taken(const BackgroundWorker *worker, bool first_time, SupTerms *terms)
{
	bool		never = worker->bgw_restart_time == BGW_NEVER_RESTART;

	memset(terms, 0, sizeof(SupTerms));
	terms->enabled = first_time || !never;
	terms->instances = 1;
	terms->restart = never ? SUP_RESTART_NEVER : SUP_RESTART_ON_FAILURE;
	terms->restart_delay = worker->bgw_restart_time > 0 ?
		worker->bgw_restart_time * INT64CONST(1000000) : -1;
	terms->restart_delay_max = terms->start_timeout = terms->stop_timeout = -1;
	terms->max_restarts = -1;
}

/*
 * By which name it is known here: what core calls it, as far as that can be a name,
 * with a number if others are called so.  The caller holds the lock.
 */
static void
name_of_taken(const BackgroundWorker *worker, char *name)
{
	char		base[2 * BGW_MAXLEN];

	if (worker->bgw_name[0] != '\0')
		strlcpy(base, worker->bgw_name, sizeof(base));
	else
		snprintf(base, sizeof(base), "%s", worker->bgw_function_name);
	for (char *c = base; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	strlcpy(name, base, NAMEDATALEN);
	for (int i = 2; sup_declaration_find(InvalidOid, name) != NULL; i++)
	{
		char		number[16];
		int			len = snprintf(number, sizeof(number), " %d", i);

		base[NAMEDATALEN - 1 - len] = '\0';
		snprintf(name, NAMEDATALEN, "%s%s", base, number);
	}
}

/* Takes the lock. */
static void
declare_taken(SupTaken *taken, bool first_time)
{
	SupProgram	program;
	SupTerms	terms;
	SupDeclaration *d;
	char		name[NAMEDATALEN];

	program_of_taken(&taken->worker, &program);
	terms_of_taken(&taken->worker, first_time, &terms);

	sup_lock();
	name_of_taken(&taken->worker, name);
	d = add_declaration(name, SUP_FROM_SERVER, &program, &terms);
	if (d != NULL)
	{
		recall_rest(d);
		reserve_slot(d, 1, taken->slot);
	}
	sup_unlock();

	strlcpy(taken->name, name, sizeof(taken->name));
	if (d == NULL)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("worker \"%s\", registered by library \"%s\", is not run: there is no room; see supervisor.max_workers",
						name, program.library)));
	else if (first_time && strcmp(name, program.process_name) != 0)
		ereport(LOG,
				(errmsg("background worker \"%s\" of library \"%s\" is known to supervisor as \"%s\"",
						program.process_name, program.library, name)));
}

/*
 * In the order in which they were declared, then registered.  A library that was
 * compiled for another version of the interface is logged and left out.
 */
void
sup_api_declare(void)
{
	static bool first_time = true;
	const SupervisorWorker *worker = *find_rendezvous_variable(SUPERVISOR_DECLARATIONS);
	SupTaken   *taken;
	int			n;

	if (first_time)
	{
		nresting = Sup->ndeclarations;
		resting = MemoryContextAllocZero(TopMemoryContext, sizeof(bool) * nresting);
	}
	declared = Sup->declarations;
	on_shmem_exit(note_resting, (Datum) 0);

	for (; worker != NULL; worker = worker->next)
	{
		SupervisorWorker ours;

		as_we_know_it(worker, &ours);
		if (ours.abi_version == SUPERVISOR_ABI_VERSION)
			declare(&ours);
		else
			ereport(LOG,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a library that declares workers uses interface %d of supervisor, not %d",
							ours.abi_version, SUPERVISOR_ABI_VERSION)));
	}

	taken = sup_preloaded_taken(&n);
	for (int i = 0; i < n; i++)
		declare_taken(&taken[i], first_time);
	first_time = false;
}

/*
 * In a worker
 */

/* supervisor_ready(): only for a C function, and only the first time. */
static void
api_ready(void)
{
	SupSlot    *slot = SupMySlot;

	if (slot != NULL && slot->kind == SUP_KIND_LIBRARY && slot->ready_at == 0)
		sup_worker_ready(slot);
}

/* Returns how many milliseconds later it should say so again; -1: never. */
static int
api_heartbeat(void)
{
	SupSlot    *slot = SupMySlot;

	if (slot == NULL || slot->heartbeat_timeout == 0)
		return -1;
	slot->heartbeat_at = sup_now();
	return Min(Max(slot->heartbeat_timeout / 2000, 1), INT_MAX);
}

/* Is it asked to end?  Read without the lock: whoever asks wakes it later. */
static bool
api_leaving(void)
{
	SupSlot    *slot = SupMySlot;

	return slot != NULL && (slot->leave != SUP_STAY || slot->terminate);
}

/* 0: this is no process of the supervisor's. */
static int
api_instance(void)
{
	SupSlot    *slot = SupMySlot;

	return slot != NULL ? slot->instance : 0;
}

/*
 * At run time
 */

/*
 * supervisor_start(): adds a declaration, and the supervisor does the rest.
 * Raises 22023, 42710 and 55000.  False: there is no room for another one,
 * or this is the postmaster.
 */
static bool
api_start(const SupervisorWorker *theirs, uint64 *id)
{
	SupervisorWorker worker;
	SupProgram	program;
	SupTerms	terms;
	SupDeclaration *d;
	const char *wrong;
	bool		taken;

	if (!IsUnderPostmaster)
		return false;
	sup_require_supervisor();
	as_we_know_it(theirs, &worker);
	wrong = check_name(&worker);
	if (wrong == NULL)
		wrong = understand(&worker, &program, &terms);
	if (wrong == NULL && terms.instances > 1)
		wrong = "a worker that is started by a call has one instance";
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not start worker \"%s\": %s", worker.name ? worker.name : "", wrong)));

	sup_lock();
	taken = sup_declaration_find(InvalidOid, worker.name) != NULL;
	d = taken ? NULL : add_declaration(worker.name, SUP_FROM_CALL, &program, &terms);
	if (d != NULL)
	{
		d->notify_pid = worker.notify_pid;
		*id = d->id;
	}
	sup_unlock();
	if (taken)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("worker \"%s\" already exists", worker.name),
				 errhint("One that was started by a call can be removed with supervisor.remove_worker().")));
	return d != NULL;
}

/* Caller holds the lock; *ready is set if BGWH_STARTED is returned. */
static BgwHandleStatus
status_of(uint64 id, pid_t *pid, bool *ready)
{
	SupDeclaration *d = sup_declaration_by_id(id);
	SupSlot    *slot;

	SUP_ASSERT_LOCKED();
	if (d == NULL)
		return BGWH_STOPPED;
	if (dlist_is_empty(&d->slots))
		return d->gone || !d->terms.enabled || !sup_start_workers ?
			BGWH_STOPPED : BGWH_NOT_YET_STARTED;
	slot = dlist_head_element(SupSlot, owner_node, &d->slots);
	if (slot->pid != 0)
	{
		*pid = slot->pid;
		*ready = slot->ready_at != 0;
		return BGWH_STARTED;
	}
	return slot->state == SUP_STOPPED || slot->state == SUP_FAILED ?
		BGWH_STOPPED : BGWH_NOT_YET_STARTED;
}

/* supervisor_pid(): *pid is set only with BGWH_STARTED. */
static BgwHandleStatus
api_status(uint64 id, pid_t *pid)
{
	BgwHandleStatus status;
	bool		ready;

	sup_lock();
	status = status_of(id, pid, &ready);
	sup_unlock();
	return status;
}

/* Wait until it is stopped, or ready if that is waited for. */
static BgwHandleStatus
wait_for(uint64 id, bool for_ready, pid_t *pid)
{
	BgwHandleStatus status;
	bool		ready = false;

	for (;;)
	{
		/* Each time: whoever wakes us takes us off the list. */
		ConditionVariablePrepareToSleep(&Sup->changed);
		sup_lock();
		status = status_of(id, pid, &ready);
		sup_unlock();
		if (status == BGWH_STOPPED || (for_ready && status == BGWH_STARTED && ready))
			break;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_POSTMASTER_DEATH, -1,
					  sup_wait_event(SUP_WAIT_WORKER)) & WL_POSTMASTER_DEATH)
		{
			status = BGWH_POSTMASTER_DIED;
			break;
		}
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ConditionVariableCancelSleep();
	return status;
}

/* supervisor_wait_for_startup(): one that restarts is waited for as well. */
static BgwHandleStatus
api_wait_for_startup(uint64 id, pid_t *pid)
{
	return wait_for(id, true, pid);
}

/* supervisor_wait_for_shutdown(): restarts do not end the wait. */
static BgwHandleStatus
api_wait_for_shutdown(uint64 id)
{
	pid_t		pid;

	return wait_for(id, false, &pid);
}

/*
 * supervisor_terminate(): the supervisor removes it as if it were not
 * declared any more.  If it has ended already, nothing happens.
 */
static void
api_terminate(uint64 id)
{
	SupDeclaration *d;

	sup_lock();
	d = sup_declaration_by_id(id);
	if (d != NULL)
	{
		d->gone = true;
		sup_attend_declaration(d);
	}
	sup_unlock();
}

/* As a rendezvous variable, so that nobody needs to be linked with us. */
void
sup_api_publish(void)
{
	static const SupervisorApi api = {
		.abi_version = SUPERVISOR_ABI_VERSION,
		.size = sizeof(SupervisorApi),
		.ready = api_ready,
		.heartbeat = api_heartbeat,
		.leaving = api_leaving,
		.instance = api_instance,
		.start = api_start,
		.status = api_status,
		.wait_for_startup = api_wait_for_startup,
		.wait_for_shutdown = api_wait_for_shutdown,
		.terminate = api_terminate
	};

	*find_rendezvous_variable(SUPERVISOR_API) = unconstify(SupervisorApi *, &api);
}
