/*
 * A slot has one process at a time, and in the end it has one, although the supervisor may die
 * between any two steps.
 *
 * The supervisor of a pool's worker, which dies once, and its successor; the postmaster, which forks
 * what is registered when it likes, and another in the place of one that ends so; the
 * processes, of which two end.  An atomic step is one hold of the lock, or one of the postmaster.
 */
#define ENTRIES	6

mtype = { WAITING, STARTING, RUNNING, NONE, REGISTERED, FORKED, GONE }

/* SupSlot */
mtype state = WAITING;
byte generation, registered;	/* the latter is of the last registration */
bool registering, attached, exited, keeps_place, restartable;
byte handle = ENTRIES;			/* the entry that it is of; ENTRIES: there is none */
byte by = ENTRIES, number;			/* the entry and the number of the process that has attached */

/* The postmaster's registry of background workers: each has one process at a time. */
mtype entry[ENTRIES] = NONE;
byte origin[ENTRIES];			/* SupOrigin.registered */
byte forks[ENTRIES];			/* so many processes were forked for it */
byte nentries;

byte inside;					/* processes that have the slot */
byte ends = 2, deaths = 1;		/* of these, and of supervisors, to come */
bool office;					/* there is a supervisor */

proctype child(byte e)			/* sup_worker_main() */
{
	bool mine, waits, keeps;

	do
	:: atomic {					/* sup_child_attach(), attach_to_slot() */
			waits = (origin[e] == registered || MUTANT == 1);
			mine = waits && !attached && (state == STARTING || registering);
			if
			:: mine -> attached = true; by = e; number = forks[e]; inside++
			:: else
			fi;
			assert(inside <= 1);	/* one process at a time */
			waits = waits && !mine && keeps_place
		}
		if
		:: waits -> !keeps_place || origin[e] != registered	/* sup_wake_heir() */
		:: else -> break
		fi
	od;
	if
	:: mine ->
		atomic { ends > 0 -> ends-- };	/* proc_exit() */
		atomic {				/* report_exit(), leaves_its_place() */
			exited = true; inside--; keeps = restartable; keeps_place = keeps
		}
	:: else
	fi;
	entry[e] = (keeps -> REGISTERED : GONE)	/* set_exit_code() */
}

active proctype postmaster()	/* sup_register_supervisor() */
{
	byte e;

end:
	do
	:: atomic { !office -> office = true; run supervisor() }	/* sup_register_supervisor() */
	:: atomic {					/* sup_launch() */
			entry[0] == REGISTERED || entry[1] == REGISTERED || entry[2] == REGISTERED ||
			entry[3] == REGISTERED || entry[4] == REGISTERED || entry[5] == REGISTERED ->
			e = 0;
			do :: entry[e] == REGISTERED -> break :: else -> e++ od;
			entry[e] = FORKED; forks[e]++; run child(e); e = 0
		}
	od
}

#define HAS_PROCESS	(registering || state == STARTING || state == RUNNING)	/* sup_has_process() */

/* The postmaster says that the slot's process is gone: the one of its handle, if it has one. */
#define OTHER(e)	(entry[e] != FORKED || forks[e] != number)
#define STOPPED	(handle != ENTRIES -> entry[handle] == GONE || (exited && OTHER(handle)) : \
	exited && OTHER(by))		/* sup_launch_status(), sup_settle_status() */

inline new_process()			/* new_process() */
{
	generation++; attached = false; exited = false; by = ENTRIES; number = 0;
#if MUTANT != 2
	keeps_place = false
#endif
}

inline may_die()				/* leave_office() */
{
	if
	:: atomic { deaths > 0 -> deaths--; office = false }	/* leave_office() */
		goto gone
	:: skip
	fi
}

inline adopt()					/* sup_lifecycle_init() */
{
	restartable = false; keeps_place = false;	/* sup_give_up_place() */
	if
	:: HAS_PROCESS && handle == ENTRIES && (!attached || MUTANT == 3) ->
		registering = false; state = WAITING;
		generation++; registered = generation	/* if it comes, it is late */
	:: HAS_PROCESS && !(handle == ENTRIES && (!attached || MUTANT == 3)) ->
#if MUTANT != 5
		if :: registering -> state = STARTING :: else fi;
#endif
		registering = false
	:: else
	fi
}

proctype supervisor()			/* sup_supervisor_main() */
{
	byte e;

	atomic { adopt() }			/* take_office(), sup_lifecycle_init() */
end:
	do
	:: atomic { state == STARTING && attached -> state = RUNNING }	/* look_at_process() */
	:: atomic { HAS_PROCESS && STOPPED ->	/* look_at_process(), process_ended() */
			state = WAITING; handle = (keeps_place -> handle : ENTRIES)
		}
	:: atomic { state == WAITING && keeps_place ->	/* start_in_place() */
			new_process(); state = STARTING
		}
	:: atomic { state == WAITING && !keeps_place ->	/* waiting_to_starting() */
			new_process(); registered = (MUTANT == 4 -> 0 : generation); restartable = true; registering = true;
			handle = ENTRIES
		}
		may_die();
		atomic {				/* sup_launch() */
			e = nentries; nentries++;
			origin[e] = registered; entry[e] = REGISTERED
		}
		may_die();
		atomic {				/* waiting_to_starting() */
			registering = false; handle = e; state = STARTING; e = 0
		}
	:: atomic { deaths > 0 -> deaths--; office = false }	/* leave_office() */
		goto gone
	od;
gone:
	skip
}

ltl runs { <> [] (inside == 1) }
