/*
 * A cancel is of exactly one task, or of one job, and of no other; and what has been canceled
 * before it began, or taken off, is not done.  A job whose run has been canceled, and fails, is not
 * tried again.
 *
 * A worker that runs two tasks, and then drains two jobs; a session that cancels a task, and one
 * that cancels a job.  A signal may come late.  An atomic step is one hold of the lock, or one
 * look at a row.
 */
#define NOBODY	2

mtype = { QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELED }
mtype state[2] = QUEUED;
bool cancel[2];					/* task->cancel */
byte running = NOBODY;			/* slot->task */

/* The claim of the drain, and the rows of the jobs. */
byte claim = NOBODY;
bool begun, canceled, decided;
bool is_there[2] = true, deleting[2];
bool lost[2];					/* the end of its run is for the loader to note */
bool again[2];					/* ... after which it is tried again */
byte locked[2] = NOBODY;		/* by whom: 0 is the worker, 1 a session */

/* SIGINT: on its way to the worker, and what its handler sets. */
bool sent, pending;

/* What must hold. */
bool began[2], early[2];		/* of tasks: canceled before it has begun */
bool asked[2];					/* of jobs: its run has been canceled */
bool taken_off[2];				/* ... or the job has */

active proctype kernel()		/* kill() */
{
end:
	do
	:: atomic { sent -> sent = false; pending = true }	/* kill() */
	od
}

inline take_late()				/* sup_take_late_cancel() */
{
	atomic {					/* sup_take_late_cancel() */
		pending = false;
#if MUTANT != 1
		sent = false			/* it has been delivered by then */
#endif
	}
}

inline give()					/* sup_next_task() */
{
	running = (state[0] == QUEUED -> 0 : (state[1] == QUEUED -> 1 : NOBODY));
	if :: running != NOBODY -> state[running] = RUNNING :: else fi
}

inline run_task(t)				/* run_task() */
{
	atomic { pending = false; began[t] = true }	/* run_command() */
	if
	:: cancel[t] && MUTANT != 3 -> ended = CANCELED	/* run_command() */
	:: else ->
		if
		:: pending -> assert(cancel[t]); ended = CANCELED; pending = false	/* end_with_error() */
		:: ended = SUCCEEDED; assert(!early[t])	/* sup_exec() */
		fi
	fi;
	atomic {					/* sup_task_finish() */
		state[t] = ended; late = cancel[t]; give()
	}
	if :: late && MUTANT != 4 -> take_late() :: else fi
}

/* How a run has ended is noted, unless somebody has the row for long. */
inline note(j)					/* sup_settle() */
{
	if
	:: atomic { locked[j] == NOBODY -> locked[j] = 0;	/* sup_job_lock() */
			decided = (MUTANT != 8); again[j] = !canceled	/* sup_claim_decide() */
		};
		atomic { is_there[j] = is_there[j] && again[j]; locked[j] = NOBODY }	/* sup_settle() */
	:: locked[j] != NOBODY -> lost[j] = true	/* note_end() */
	fi
}

inline note_lost(j)				/* settle_lost() */
{
	atomic { locked[j] == NOBODY -> is_there[j] = is_there[j] && again[j]; lost[j] = false }	/* sup_settle() */
}

inline settle(j)				/* sup_settle_success() */
{
	if
	:: atomic { locked[j] == NOBODY -> locked[j] = 0 }	/* sup_job_lock() */
		if
		:: atomic { canceled && !is_there[j] && MUTANT != 5 -> locked[j] = NOBODY; ended = CANCELED }	/* check_not_canceled() */
		:: atomic { !canceled || is_there[j] || MUTANT == 5 ->	/* run() */
				assert(!taken_off[j]); is_there[j] = false; locked[j] = NOBODY; ended = SUCCEEDED
			}
		fi
	:: pending -> assert(asked[j]); ended = FAILED; pending = false	/* take_error() */
	:: ended = FAILED			/* take_error() */
	fi
}

inline run_job(j)				/* run_claimed() */
{
	atomic { claim = j; begun = false; canceled = false; decided = false };	/* sup_queue_step() */
	atomic { found = is_there[j] && !deleting[j] }	/* find_claimed(), is_being_changed() */
	if
	:: found ->
		pending = false;		/* begin_run() */
		atomic { begun = !canceled || MUTANT == 6; assert(!begun || !(taken_off[j] || asked[j])) };	/* begin_run() */
		if
		:: begun ->
			settle(j);
			if :: ended != SUCCEEDED -> note(j) :: else fi
		:: else
		fi
	:: else
	fi;
	atomic { claim = NOBODY; begun = false;	/* sup_claim_release(), sup_claim_lose() */
		if :: lost[j] -> again[j] = !canceled :: else fi;
		canceled = false
	}
#if MUTANT != 7
	take_late()					/* run_claimed() */
#endif
}

active proctype worker()		/* sup_pool_main() */
{
	mtype ended;
	bool late, found;
	byte j;

	atomic { give() }			/* sup_offer() */
	do
	:: running != NOBODY -> j = running; run_task(j)	/* sup_pool_main() */
	:: running == NOBODY -> break
	od;
end:
	do
	:: is_there[0] && !lost[0] -> run_job(0)	/* sup_run_drain() */
	:: is_there[1] && !lost[1] -> run_job(1)	/* sup_run_drain() */
	:: lost[0] -> note_lost(0)	/* settle_all_lost() */
	:: lost[1] -> note_lost(1)	/* settle_all_lost() */
	od
}

active proctype cancels_task()	/* sup_task_cancel() */
{
	byte t;

	if :: t = 0 :: t = 1 fi;
	atomic {					/* sup_task_cancel(), signal_worker() */
		if
		:: state[t] == QUEUED -> state[t] = CANCELED
		:: state[t] == RUNNING -> cancel[t] = true; early[t] = !began[t]; sent = true
		:: else
		fi
	}
}

inline cancel_run(j)			/* cancel_run() */
{
	runs = (claim == j && begun && !decided);
	if :: claim == j && (runs || has_row) -> canceled = true :: else fi;
	if :: runs -> asked[j] = true; sent = true :: else fi
}

active proctype cancels_job()	/* supervisor_cancel_job() */
{
	byte j;
	bool runs, has_row;

	if :: j = 0 :: j = 1 fi;
	if
	:: claim == j && begun && !decided ->	/* role_of_run() */
		atomic { cancel_run(j) }	/* cancel_run() */
	:: skip
	fi;
	if
	:: runs
	:: else ->
		atomic { locked[j] == NOBODY -> locked[j] = 1 };	/* lock_job() */
		has_row = true;
		if
		:: is_there[j] ->
			atomic { cancel_run(j) }	/* cancel_run() */
			if
			:: runs -> locked[j] = NOBODY	/* supervisor_cancel_job() */
			:: else ->
				deleting[j] = true;	/* sup_settle_canceled() */
#if MUTANT != 2
				atomic { cancel_run(j) }	/* cancel_run() */
#endif
				if
				:: atomic { is_there[j] = false; taken_off[j] = true; deleting[j] = false; locked[j] = NOBODY }	/* supervisor_cancel_job() */
				:: atomic { deleting[j] = false; locked[j] = NOBODY }	/* publish_jobs() */
				fi
			fi
		:: else -> locked[j] = NOBODY	/* supervisor_cancel_job() */
		fi
	fi
}
