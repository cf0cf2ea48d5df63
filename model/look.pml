/*
 * Looks for jobs of one queue, while others are told of, claimed, run and settled.
 *
 * Up to three jobs, two sessions that enqueue them and change one, two workers that drain, of
 * which one may die or fail, the supervisor, and the loader.  The ring has room for one.  An
 * atomic step is one hold of the lock, or one look at the table.  Keys are not in it.
 *
 * scene: -DJOBS=1 -DALTERS=0 -DFAULTS=1 -DLOADS=1
 * scene: -DJOBS=1 -DALTERS=1 -DFAULTS=1 -DLOADS=0
 * scene: -DJOBS=2 -DALTERS=1 -DFAULTS=0 -DLOADS=0
 * scene: -DJOBS=2 -DALTERS=0 -DFAULTS=1 -DLOADS=0
 * scene: -DJOBS=3 -DALTERS=0 -DFAULTS=0 -DLOADS=0
 */
#define ROWS	3
#define FIRST	0	/* before all spots: nothing is known */
#define LAST	5	/* after all of them, which are 1 to 4 */

/* The table, as a new snapshot sees it.  A job is due once 'now' has come to its spot. */
mtype = { NONE, LIVE, DONE }
mtype row[ROWS] = NONE;
byte spot[ROWS];
bool changing[ROWS];			/* in a transaction that has not ended */
byte untold[ROWS];				/* so many have ended that are about to tell of it */
byte now = (JOBS == 3 -> 3 : 4);

/* The queue: SupBounds, SupRing, SupJobQueue. */
byte bound = FIRST, low = LAST;
bool looking;
byte ring = ROWS, ring_spot;	/* ROWS: it is empty */
bool queued;					/* drain_queued */
byte ndrains;
byte due = LAST;				/* dues[]: when the supervisor offers a drain */

/* SupClaim, by worker; the last one is lost. */
#define LOST	2
byte claim[3] = ROWS;
byte claim_spot[3];
bool passed[3], moved[3], begun[3];

byte faults = FAULTS, loads = LOADS, ended;

#define CLAIMED(r)	(claim[0] == r || claim[1] == r || claim[LOST] == r)
#define KNOWN(r)	(row[r] != LIVE || spot[r] >= bound || ring == r || CLAIMED(r) || changing[r] || untold[r] > 0)

/* The end of each hold of the lock: no bound is beyond a job that nobody has or will tell of. */
inline check() { assert(KNOWN(0) && KNOWN(1) && KNOWN(2)) }

inline lower(s)					/* sup_bounds_lower() */
{
	if :: s < bound -> bound = s :: else fi;
#if MUTANT != 1
	if :: s < low -> low = s :: else fi
#endif
}

inline offer()					/* sup_drain_offer(), drain_due() */
{
	if
	:: queued || (looking && ring == ROWS) -> due = LAST
	:: else ->
		if
		:: ring != ROWS || bound <= now -> queued = true; ndrains++; due = LAST
		:: else -> due = bound
		fi
	fi
}

inline tell(r, s)				/* sup_publish_jobs() */
{
	atomic { lower(s); offer(); untold[r]--; check() }	/* sup_publish_jobs() */
}

/* One transaction that enqueues a job: it commits, or is rolled back, as if its session dies. */
inline enqueue(r, s)			/* sup_note_job() */
{
	if
	:: atomic { row[r] = LIVE; spot[r] = s; untold[r]++ };	/* supervisor_enqueue() */
		tell(r, s)
	:: skip						/* sup_forget_job_notes() */
	fi
}

#if MUTANT == 2					/* told before it is committed */
#undef enqueue
#define enqueue(r, s)	untold[r]++; tell(r, s); row[r] = LIVE; spot[r] = s
#endif

/* One that changes a job: told in any case, of where it was and is. */
inline alter(r)					/* supervisor_alter_job() */
{
	if
	:: atomic { row[r] == LIVE && !changing[r] -> changing[r] = true };	/* sup_note_changed_job() */
		if
		:: atomic { row[r] == LIVE -> spot[r] = 1; changing[r] = false; untold[r]++ };	/* change_job() */
			tell(r, 1)
		:: atomic { changing[r] = false; untold[r]++ };	/* sup_notes_changed_jobs() */
#if MUTANT == 6
			untold[r]--
#else
			tell(r, spot[r])
#endif
		fi
	:: skip
	fi
}

active proctype first()			/* supervisor_enqueue() */
{
#if JOBS == 3
	enqueue(2, 4);
#endif
#if JOBS > 1
	enqueue(0, 2);
#endif
	ended++
}

active proctype second()		/* supervisor_enqueue() */
{
	enqueue(1, 3);
#if ALTERS
	alter(1);
#endif
	ended++
}

active proctype supervisor()	/* sup_look_at_jobs() */
{
end:
	do
	:: atomic { due <= now -> due = LAST; offer() }		/* offer_due() */
	:: now < 4 -> now = 4		/* sup_wall_to_steady() */
	od
}

/* What a snapshot from here on sees from 'from' on: the first job that is due, and what is next. */
#define VISIBLE(r)	(row[r] == LIVE && spot[r] >= from)

inline scan(room)				/* sup_job_look(), look_at_priority() */
{
	d_step {					/* sup_job_look() */
		found = ROWS; found_spot = 0; stop = LAST; i = 1;
		do
		:: i < LAST ->
			j = 0;
			do
			:: j < ROWS ->
				if
				:: VISIBLE(j) && spot[j] == i && stop == LAST ->
					if
					:: i > now || found != ROWS || room == 0 -> stop = i
					:: else -> found = j; found_spot = i
					fi
				:: else
				fi;
				j++
			:: else -> break
			od;
			i++
		:: else -> break
		od;
		i = 0; j = 0
	}
}

inline begin_look()				/* sup_bounds_begin_look() */
{
	from = bound; looking = true;
#if MUTANT != 4
	low = LAST
#endif
}

inline end_look()				/* sup_bounds_end_look(), sup_bounds_add() */
{
	looking = false;
#if MUTANT == 5
	bound = stop;
#else
	bound = (stop < low -> stop : low);
#endif
	if
	:: found == ROWS || (ring == found && ring_spot == found_spot)
	:: else ->
		if
		:: ring == ROWS -> ring = found; ring_spot = found_spot
		:: ring != ROWS && found_spot >= ring_spot -> lower(found_spot)
		:: else -> lower(ring_spot); ring = found; ring_spot = found_spot
		fi
	fi
}

inline release(me, done)		/* sup_claim_release() */
{
	if
	:: moved[me] && MUTANT != 7 -> lower(FIRST)	/* sup_queues_reset() */
	:: else ->
		if
		:: !(done) || (passed[me] && !begun[me] && MUTANT != 8) -> lower(claim_spot[me])
		:: else
		fi
	fi;
	claim[me] = ROWS; claim_spot[me] = 0;
	passed[me] = false; moved[me] = false; begun[me] = false
}

inline lose(me)					/* sup_claim_lose() */
{
	claim[LOST] = claim[me]; claim_spot[LOST] = claim_spot[me];
	passed[LOST] = passed[me]; moved[LOST] = moved[me]; begun[LOST] = true;
	claim[me] = ROWS; claim_spot[me] = 0;
	passed[me] = false; moved[me] = false; begun[me] = false
}

/* It is told at its release, and where it is now, if it was there already, is not known. */
inline pass(r, s)				/* pass_over() */
{
	i = (claim[0] == r -> 0 : (claim[1] == r -> 1 : LOST));
	if :: claim_spot[i] == s -> passed[i] = true :: else -> moved[i] = true fi;
	i = 0
}

inline take(me)					/* sup_bounds_step(), sup_queue_step() */
{
	do
	:: ring == ROWS || (bound <= now && bound < ring_spot && !looking) ->
		step = (bound > now -> NOTHING : (looking -> WAIT : LOOK)); break
	:: else ->
		found = ring; found_spot = ring_spot; ring = ROWS; ring_spot = 0;
		if
		:: CLAIMED(found) && MUTANT != 9 -> pass(found, found_spot)
		:: else ->
			assert(!CLAIMED(found));	/* never two claims on one job */
			claim[me] = found; claim_spot[me] = found_spot; step = TAKE; break
		fi
	od
}

inline end_drain()				/* sup_drain_finish(), drain_died(), sup_queue_end_drain() */
{
	ndrains--;
	if
	:: ndrains == queued && ring != ROWS ->
		lower(ring_spot);		/* sup_bounds_drop_ring() */
		ring = ROWS; ring_spot = 0
	:: else
	fi;
#if MUTANT != 11
	offer()
#endif
}

/* The job is what claim[] says; the row is locked. */
inline commit(r)				/* sup_settle_success() */
{
	atomic {					/* sup_job_lock(), sup_job_delete() */
		!changing[r] -> assert(row[r] == LIVE); row[r] = DONE	/* each runs once */
	}
}

/* An end that is noted otherwise: it is to be run again. */
inline note(r, s)				/* sup_settle() */
{
	atomic { !changing[r] -> again = (row[r] == LIVE); s = spot[r]; untold[r] = untold[r] + again }	/* sup_settle() */
}

mtype = { NOTHING, WAIT, LOOK, TAKE }

active [2] proctype worker()	/* sup_run_drain() */
{
	byte found = ROWS, found_spot, stop, from, i, j, me = _pid - 3;
	mtype step;
	bool again;

end:
	atomic { queued -> queued = false }		/* sup_drain_begin(), sup_queue_begin_drain() */
	do
	:: atomic {					/* go_on() */
			take(me);
			if
			:: step == LOOK -> begin_look()
			:: step == TAKE -> offer()
			:: else
			fi;
			check()
		}
		if
		:: step == LOOK ->
			scan(1);
			if
			:: atomic { end_look(); check() }	/* look() */
			:: atomic { faults > 0 ->	/* sup_worker_died() */
					faults--;
#if MUTANT != 10
					looking = false;	/* sup_bounds_fail_look() */
#endif
					end_drain(); check()
				}
				goto idle
			fi
		:: step == TAKE ->
			if
			:: atomic {			/* find_claimed(), sup_job_fetch() */
					i = claim[me]; found_spot = spot[i];
					again = row[i] == LIVE && !changing[i] && spot[i] <= now; i = 0
				}
			:: atomic { faults > 0 ->	/* drain_died() */
					faults--; 
					release(me, MUTANT == 3);
					end_drain(); check()
				}
				goto idle
			fi;
			if
			:: !again -> atomic { release(me, true); check() }	/* run_claimed() */
			:: else ->
				atomic { begun[me] = true; claim_spot[me] = found_spot };	/* begin_run() */
				if
				:: commit(claim[me]);	/* run() */
					if
					:: atomic { release(me, true); check() }	/* run_begun() */
					:: atomic { faults > 0 ->	/* sup_claim_lose(), drain_died() */
							faults--; lose(me); end_drain(); check()
						}
						goto idle
					fi
				:: atomic { faults > 0 -> faults-- };	/* take_error() */
					note(claim[me], found_spot);
					from = claim[me];
					atomic { release(me, true); check() };	/* run_begun() */
					if :: again -> tell(from, found_spot) :: else fi	/* sup_publish_jobs() */
				:: atomic { faults > 0 ->	/* sup_claim_lose(), drain_died() */
						faults--; lose(me); end_drain(); check()
					}
					goto idle
				fi
			fi;
			found = ROWS; again = false
		:: else -> break
		fi
	od;
	atomic { end_drain(); check() }	/* sup_drain_finish() */
idle:
	atomic { found = ROWS; found_spot = 0; stop = 0; from = 0; step = 0; again = false };
	goto end
}

/* It looks at the table once, with no room, and settles what is lost. */
active proctype loader()		/* sup_load_jobs() */
{
	byte found = ROWS, found_spot, stop, from, i, j;
	bool again;

end:
	do
#if LOADS
	:: atomic { loads > 0 && !looking && bound == FIRST -> loads--; begin_look() }	/* find_queue() */
		scan(0);
		atomic { found = ROWS; end_look(); offer(); check() }	/* find_queue() */
#endif
	:: claim[LOST] != ROWS ->	/* settle_all_lost() */
		note(claim[LOST], found_spot);
		from = claim[LOST];
		atomic { release(LOST, true); check() }	/* settle_lost() */
		if :: again -> tell(from, found_spot) :: else fi;	/* sup_publish_jobs() */
	od
}

/* A job that is due, and committed, is run. */
ltl served { <> (ended == 2 && now == 4 && row[0] != LIVE && row[1] != LIVE && row[2] != LIVE) }
