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
