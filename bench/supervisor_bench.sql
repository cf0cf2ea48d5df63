-- Declares the functions of supervisor_bench.c; read by bench/measure.

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO PUBLIC;

CREATE FUNCTION bench.start_floor() RETURNS void
AS 'supervisor_bench', 'bench_start_floor' LANGUAGE C STRICT;

CREATE FUNCTION bench.floor(command text) RETURNS text
AS 'supervisor_bench', 'bench_floor' LANGUAGE C STRICT;

CREATE FUNCTION bench.floor_many(command text, count integer) RETURNS void
AS 'supervisor_bench', 'bench_floor_many' LANGUAGE C STRICT;

CREATE FUNCTION bench.nothing(command text) RETURNS text
AS 'supervisor_bench', 'bench_nothing' LANGUAGE C STRICT;

CREATE FUNCTION bench.loop(query text, n integer, warmup integer,
    OUT median float8, OUT mean float8, OUT p99 float8)
AS 'supervisor_bench', 'bench_loop' LANGUAGE C STRICT;

CREATE FUNCTION bench.bring_up(n integer) RETURNS float8
AS 'supervisor_bench', 'bench_bring_up' LANGUAGE C STRICT;

CREATE FUNCTION bench.replace(n integer,
    OUT median float8, OUT mean float8, OUT p99 float8)
AS 'supervisor_bench', 'bench_replace' LANGUAGE C STRICT;

CREATE FUNCTION bench.queue_start(known boolean, n integer, count integer) RETURNS void
AS 'supervisor_bench', 'bench_queue_start' LANGUAGE C STRICT;

CREATE FUNCTION bench.queue_took() RETURNS float8
AS 'supervisor_bench', 'bench_queue_took' LANGUAGE C STRICT;

CREATE FUNCTION bench.mark() RETURNS void
AS 'supervisor_bench', 'bench_mark' LANGUAGE C STRICT;

CREATE FUNCTION bench.marks(OUT median float8, OUT mean float8, OUT p99 float8)
AS 'supervisor_bench', 'bench_marks' LANGUAGE C STRICT;

-- A worker ends, n times in a row; median of the microseconds from its exit to its successor's readiness.
CREATE FUNCTION bench.successor(slot_ integer, terminates boolean, n integer) RETURNS double precision
LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    us double precision;
    all_us double precision[] := '{}';
BEGIN
    FOR i IN 1 .. n LOOP
        SELECT generation INTO before FROM supervisor.worker_status WHERE slot = slot_;
        IF terminates THEN
            PERFORM supervisor.terminate_worker(slot_);
        ELSE
            PERFORM supervisor.restart_worker(slot_);
        END IF;
        LOOP
            SELECT extract(epoch FROM state_since - last_exit_at) * 1e6 INTO us
            FROM supervisor.worker_status WHERE slot = slot_ AND generation > before AND state = 'running';
            EXIT WHEN FOUND;
            PERFORM pg_sleep(0.001);
        END LOOP;
        all_us := all_us || us;
    END LOOP;
    RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u) FROM unnest(all_us) u);
END
$$;

-- What jobs are compared with: a queue as one writes it, which keeps what is done; and
-- tables as those of jobs are.
CREATE TABLE bench_queue (id bigserial PRIMARY KEY, state text NOT NULL DEFAULT 'queued', priority integer NOT NULL DEFAULT 5,
    run_at timestamptz NOT NULL DEFAULT now(), command text NOT NULL, attempts integer NOT NULL DEFAULT 0,
    started_at timestamptz, finished_at timestamptz);
CREATE INDEX ON bench_queue (priority, run_at, id) WHERE state = 'queued';
CREATE TABLE bench_out (i integer);
CREATE TABLE bench_job (LIKE supervisor.job INCLUDING INDEXES INCLUDING STORAGE);
CREATE TABLE bench_history (LIKE supervisor.job_history INCLUDING INDEXES);
CREATE SEQUENCE bench_job_id;
GRANT ALL ON bench_queue, bench_out, bench_queue_id_seq TO PUBLIC;

-- enqueue() in PL/pgSQL, without any of its checks.
CREATE FUNCTION bench.enqueue(command text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    number bigint := nextval('bench_job_id');
BEGIN
    INSERT INTO bench_job (id, role, pool, priority, run_at, command, max_attempts, attempts, crashes, runs, atomic, enabled, state, origin, enqueued_at)
    VALUES (number, current_user::regrole, 'default', 5, clock_timestamp(), command, 20, 0, 0, 0, true, true, 'w', 1, clock_timestamp());
    RETURN number;
END
$$;
