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
