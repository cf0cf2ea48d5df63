/*
 * Nobody sleeps while there is something for him to do, and who spins does so in vain only.
 *
 * A session submits tasks to an idle worker, one after another, and reads their results; each
 * sends a piece, for which its reader has to make room, and then ends.  Both spin or sleep.  Signals
 * for something else set their latches at any time, and what takes them may reset a latch.
 * An atomic step is one hold of the lock.
 */
#define TASKS	2

mtype = { IDLE, RUNNING, ENDED }
mtype state = IDLE;				/* of the task, task->state */
bool task;						/* slot->task */
bool hint;						/* task->hint */
byte unread;					/* pieces, of which there is room for one */
bool latch[2];					/* MyLatch: of the session, of the worker */
byte done;						/* tasks that were read */

#define SESSION	0
#define WORKER	1

inline wake(who)				/* sup_wake() */
{
	latch[who] = true
}

/* What has been noted under the lock is done once it is released: hint, then latches. */
inline unlock_and_hint(who)		/* sup_unlock() */
{
#if MUTANT == 1
	wake(who);
	hint = true
#else
	hint = true;
	wake(who)
#endif
}

/* What takes interrupts may run code that waits, and has reset the latch. */
inline interrupts(who)			/* sup_worker_interrupts() */
{
	if :: latch[who] = false :: skip fi
}

inline sleep(who)				/* wait_idle(), sup_sleep_until() */
{
	latch[who] -> latch[who] = false
}

#if MUTANT == 2					/* reset before it is looked at once more: too late */
#undef sleep
#define sleep(who)	latch[who] = false; latch[who]
#endif

/* It resets the latch once, and ends by what it waits for, a latch, or its time. */
inline spin(who, condition)		/* sup_spin_until() */
{
	if
	:: condition -> is_done = true
	:: !(condition) -> is_done = false
	:: !(condition) ->
		latch[who] = false;
		if
		:: condition -> is_done = true
		:: is_done = false
		fi
	fi
}

inline wait(who, condition)		/* sup_sleep_until(), wait_idle() */
{
	do
	::
#if MUTANT == 3
		if :: condition -> break :: else fi;
		interrupts(who);
#else
		interrupts(who);
		if :: condition -> break :: else fi;
#endif
		sleep(who)
	od
}

active proctype session()		/* sup_read_task() */
{
	bool is_done, ended;

	do
	:: done < TASKS ->
		hint = false;			/* sup_task_submit() */
#if MUTANT == 4
		wake(WORKER);
		atomic { state = RUNNING; task = true };	/* give() */
#else
		atomic { state = RUNNING; task = true };	/* give() */
		wake(WORKER);			/* sup_unlock() */
#endif
		do
		::
			spin(SESSION, hint);	/* sup_spin_until(), sup_task_has_news() */
#if MUTANT == 5					/* what has come while it spun is slept over */
			if :: is_done :: else -> sleep(SESSION) fi;
#endif
			if :: is_done :: else -> wait(SESSION, hint) fi;	/* sup_sleep_until(), sup_task_has_news() */
#if MUTANT != 6
			hint = false;		/* sup_reader_take() */
#endif
			atomic {			/* sup_reader_take() */
				ended = (state == ENDED); unread = 0;
				if :: ended -> state = IDLE :: else fi
			}
#if MUTANT == 6
			hint = false;
#endif
			if
			:: ended -> break
			:: else ->
#if MUTANT != 7
				wake(WORKER)	/* wake_worker(), chunks_are_free() */
#endif
			fi
		od;
		done++
	:: else -> break
	od
}

active proctype worker()		/* sup_pool_main() */
{
	bool is_done;
	byte sends;

end:
	do
	::
		spin(WORKER, task);		/* sup_spin_until(), has_something_to_do() */
		if :: is_done :: else -> wait(WORKER, task) fi;	/* wait_idle(), has_something_to_do() */
		sends = 2;				/* run_task() */
		do
		:: sends > 0 ->
			if
			:: atomic { unread == 0 -> unread = 1; sends-- }	/* send_chunk() */
				unlock_and_hint(SESSION)	/* tell_reader() */
			:: unread > 0 ->	/* wait_for_room() */
				unlock_and_hint(SESSION);	/* tell_reader() */
				sleep(WORKER);	/* await_reader() */
				interrupts(WORKER)	/* sup_check_interrupts_while_sending() */
			fi
		:: else -> break
		od;
		atomic { state = ENDED; task = false };	/* sup_task_finish(), ended() */
		unlock_and_hint(SESSION)	/* sup_unlock() */
	od
}

/* Signals for something else. */
active proctype noise()			/* sup_wake() */
{
	wake(SESSION);
	wake(WORKER)
}

/* Each task is read to its end. */
ltl read { <> (done == TASKS) }
