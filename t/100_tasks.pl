# A task runs as its command would have run in a session of its submitter's
# current role: the same transactions, rows, settings, timeouts and log lines.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote refused value);

my $node = SupervisorTest::new_node('main',
	max_prepared_transactions => 2,
	log_statement => 'none');

SupervisorTest::ask(\$node);

# Sends $sql as one simple Query; returns its SQLSTATE, 'none' if it succeeded.
sub simple_query
{
	my ($sql) = @_;
	my ($stdout, $stderr);

	IPC::Run::run [
		'psql', '-XAtq',
		'-d', $node->connstr('postgres'),
		'-v', 'VERBOSITY=verbose',
		'-c', $sql
	  ],
	  '>', \$stdout, '2>', \$stderr;
	return SupervisorTest::sqlstate($stderr) // 'none';
}

# Undoes what a command may have left behind.
sub reset_tables
{
	my $gid = value('SELECT gid FROM pg_prepared_xacts');

	value("ROLLBACK PREPARED '$gid'") if $gid ne '';
	value('TRUNCATE t, parent, child');
}

# How often the server logged $pattern since $offset.
sub logged
{
	my ($pattern, $offset) = @_;
	my $log = slurp_file($node->logfile, $offset);

	return scalar(() = $log =~ /$pattern/g);
}

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

value(q{
	CREATE TABLE t (a int, b text);
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE nobody;
	GRANT ALL ON t TO alice, bob, nobody;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO alice, bob, nobody;
	CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); ROLLBACK; INSERT INTO t VALUES (3);
	END $$;
	CREATE PROCEDURE commits_and_fails() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); RAISE division_by_zero;
	END $$;
	CREATE PROCEDURE nothing() LANGUAGE plpgsql AS 'BEGIN NULL; END';
	CREATE PROCEDURE inout_text(INOUT x text) LANGUAGE plpgsql AS $$ BEGIN x := 'out ' || x; END $$;
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
});

note 'transactions';

# Each leaves the same rows and raises the same error as psql -c would.
foreach my $command (
	'INSERT INTO t VALUES (1)',
	'INSERT INTO t VALUES (1);',
	'INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE a = 1',
	'INSERT INTO t VALUES (1); SELECT 1/0',
	'SELECT 1/0; INSERT INTO t VALUES (1)',
	'INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); SELECT 1/0',
	'INSERT INTO t VALUES (1); ROLLBACK; INSERT INTO t VALUES (2)',
	'BEGIN; INSERT INTO t VALUES (1); COMMIT',
	'BEGIN; INSERT INTO t VALUES (1); ROLLBACK',
	'BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT 1/0',
	'INSERT INTO t VALUES (1); BEGIN; INSERT INTO t VALUES (2); ROLLBACK',
	'INSERT INTO t VALUES (1); BEGIN; INSERT INTO t VALUES (2); COMMIT; SELECT 1/0',
	'BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN; INSERT INTO t VALUES (2); ROLLBACK',
	'BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2); ROLLBACK TO s; INSERT INTO t VALUES (3); COMMIT',
	'BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2); RELEASE s; END',
	'SAVEPOINT s', 'INSERT INTO t VALUES (1); SAVEPOINT s',
	'COMMIT', 'ROLLBACK', 'COMMIT AND CHAIN',
	q{BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'},
	q{BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'x'; ROLLBACK PREPARED 'x'},
	q{SELECT 1; BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'x'},
	q{COMMIT PREPARED 'x'},
	'VACUUM t', 'VACUUM t; INSERT INTO t VALUES (1)', 'BEGIN; VACUUM t; COMMIT',
	'INSERT INTO t VALUES (1); VACUUM t',
	'CALL commits()', 'CALL commits(); SELECT 1', 'BEGIN; CALL commits(); COMMIT',
	'CALL commits_and_fails()',
	q{DO 'BEGIN CALL commits(); END'},
	q{DO 'BEGIN INSERT INTO t VALUES (1); COMMIT; PERFORM 1/0; END'},
	q{DO 'BEGIN INSERT INTO t VALUES (1); PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN INSERT INTO t VALUES (2); END'},
	'INSERT INTO child VALUES (1); INSERT INTO t VALUES (1)',
	'BEGIN; INSERT INTO child VALUES (1); INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)',
	'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; INSERT INTO t VALUES (1)',
	'SET TRANSACTION READ ONLY; INSERT INTO t VALUES (1)',
	'SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE',
	'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; INSERT INTO t VALUES (1); COMMIT',
	'SET default_transaction_read_only = on; INSERT INTO t VALUES (1)',
	'SET default_transaction_read_only = on; COMMIT; INSERT INTO t VALUES (1)',
	'DECLARE c CURSOR FOR SELECT 1; FETCH c; INSERT INTO t VALUES (1)',
	'DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT; FETCH c; INSERT INTO t VALUES (1)',
	'DECLARE c CURSOR FOR SELECT 1',
	'PREPARE p AS INSERT INTO t VALUES ($1); EXECUTE p(1); EXECUTE p(2)',
	'EXECUTE p(1)',
	'CREATE TEMP TABLE tt AS SELECT 1 AS a; INSERT INTO t SELECT * FROM tt',
	'CREATE TEMP TABLE tt ON COMMIT DROP AS SELECT 1 AS a; INSERT INTO t SELECT * FROM tt',
	'SELECT * FROM tt',
	'INSERT INTO t VALUES (1); SELEC 1',
	'SELECT 1;;; INSERT INTO t VALUES (1);;',
	'LOCK TABLE t', 'SELECT 1; LOCK TABLE t; INSERT INTO t VALUES (1)',
	'CREATE DATABASE x; SELECT 1',
	'DISCARD ALL', 'DISCARD ALL; SELECT 1')
{
	reset_tables();
	my $expected = simple_query($command) . ' ' . value('SELECT array_agg(a) FROM t');

	reset_tables();
	my ($sqlstate) = SupervisorTest::error_of($node, 'SELECT supervisor.execute(' . quote($command) . ')');
	my $got = ($sqlstate // 'none') . ' ' . value('SELECT array_agg(a) FROM t');

	is($got, $expected, "as in psql: $command");
}

foreach my $command (
	'BEGIN', 'BEGIN; INSERT INTO t VALUES (1)',
	'BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1)',
	'BEGIN; COMMIT AND CHAIN', 'SELECT 1; START TRANSACTION')
{
	refused("SELECT supervisor.execute(" . quote($command) . ")",
		'25001', "left open: $command", message => qr/transaction block/);
}
refused(q{SELECT supervisor.execute('BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN; INSERT INTO t VALUES (2)')},
	'25001', 'what follows COMMIT AND CHAIN is left open');
is(value('SELECT array_agg(a) FROM t'), '{1}', 'what a command leaves open is rolled back');

note 'tags and rows';

my @tags = (
	[ 'SELECT generate_series(1, 3)' => 'SELECT 3' ],
	[ 'INSERT INTO t SELECT generate_series(1, 3)' => 'INSERT 0 3' ],
	[ 'UPDATE t SET b = $$x$$ WHERE a > 1' => 'UPDATE 2' ],
	[ 'DELETE FROM t' => 'DELETE 3' ],
	[ 'CREATE TABLE u ()' => 'CREATE TABLE' ],
	[ 'DROP TABLE u' => 'DROP TABLE' ],
	[ 'SELECT 1; SELECT 2; VALUES (1), (2); SET work_mem = 64' => 'SET' ],
	[ 'BEGIN; SELECT 1; COMMIT' => 'COMMIT' ],
	[ 'DECLARE c CURSOR FOR SELECT 1; MOVE ALL c' => 'MOVE 1' ],
	[ 'DECLARE c CURSOR FOR SELECT 1; FETCH ALL c' => 'FETCH 1' ],
	[ 'COPY (SELECT generate_series(1, 5)) TO PROGRAM \'cat >/dev/null\'' => 'COPY 5' ],
	[ 'CREATE TABLE u AS SELECT generate_series(1, 4)' => 'SELECT 4' ],
	[ 'DROP TABLE u; DO $$BEGIN END$$' => 'DO' ],
	[ 'CALL nothing()' => 'CALL' ],
	[ 'EXPLAIN SELECT 1' => 'EXPLAIN' ],
	[ 'SHOW work_mem' => 'SHOW' ],
	[ 'VACUUM t' => 'VACUUM' ],
	[ 'NOTIFY x' => 'NOTIFY' ]);
value('TRUNCATE t');
foreach my $case (@tags)
{
	my ($command, $tag) = @$case;

	is(value("SELECT supervisor.execute(" . quote($command) . ")"), $tag, "tag of $command");
}

my @rows = (
	[ 'SELECT 1; SELECT 2', 'a int', '2', 'rows of the last statement' ],
	[ 'SELECT 1; CREATE TEMP TABLE x ()', 'a int', '1', 'rows of the last statement that returns any' ],
	[ 'VALUES (1), (2)', 'a int', "1\n2", 'VALUES' ],
	[ 'TABLE t', 'a int, b text', '7|x', 'TABLE' ],
	[ q{INSERT INTO t VALUES (8, 'y') RETURNING b, a}, 'b text, a int', 'y|8', 'INSERT RETURNING' ],
	[ 'UPDATE t SET a = 9 RETURNING a, b', 'a int, b text', '9|x', 'UPDATE RETURNING' ],
	[ 'DELETE FROM t RETURNING a', 'a int', '7', 'DELETE RETURNING' ],
	[ 'WITH d AS (DELETE FROM t RETURNING a) SELECT a + 1 FROM d', 'a int', '8', 'a WITH that deletes' ],
	[ 'EXPLAIN (COSTS off) SELECT 1', '"QUERY PLAN" text', 'Result', 'EXPLAIN' ],
	[ 'SET TimeZone = \'Asia/Tokyo\'; SHOW TimeZone', 'a text', 'Asia/Tokyo', 'SHOW' ],
	[ 'PREPARE p AS SELECT $1 + 1; EXECUTE p(1)', 'a int', '2', 'EXECUTE' ],
	[ 'DECLARE c CURSOR FOR SELECT generate_series(1, 9); FETCH 2 c; FETCH 2 c', 'a int', "3\n4", 'FETCH' ],
	[ q{CALL inout_text('x')}, 'a text', 'out x', 'CALL with an INOUT argument' ],
	[ q{SELECT 1; CALL inout_text('x')}, 'a text', 'out x', 'CALL after a SELECT with other columns' ],
	[ 'BEGIN; SELECT 6; COMMIT', 'a int', '6', 'SELECT in a transaction block' ],
	[ 'SELECT 1 WHERE false', 'a int', '', 'no row' ],
	[ 'SELECT 1 EXCEPT SELECT 2', 'a int', '1', 'EXCEPT' ],
	[ 'WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i FROM r', 'a int', "1\n2\n3", 'WITH RECURSIVE' ]);
push @rows,
  [ 'MERGE INTO t USING (VALUES (3)) v (x) ON a = x WHEN NOT MATCHED THEN INSERT VALUES (x) RETURNING a', 'a int', '3', 'MERGE RETURNING' ]
  if $node->pg_version >= 17;
foreach my $case (@rows)
{
	my ($command, $columns, $expected, $name) = @$case;

	foreach my $call ('run(%s)', 'result(supervisor.launch(%s))')
	{
		value(q{TRUNCATE t; INSERT INTO t VALUES (7, 'x')});
		is(value(sprintf "SELECT * FROM supervisor.$call AS ($columns)", quote($command)),
			$expected, sprintf "rows of supervisor.$call", $name);
	}
}
value('TRUNCATE t');

refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1)') AS (a int)},
	'42804', 'run of a command without rows is refused', message => qr/HINT: .*supervisor\.execute/);
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); SELECT 1 AS a INTO u') AS (a int)},
	'42804', 'SELECT INTO returns no rows');
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); CALL nothing()') AS (a int)},
	'42804', 'run of a CALL that returns no rows is refused');
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); SELECT 1; CALL nothing()') AS (a int)},
	'42804', '... also behind a SELECT', message => qr/HINT: /);
refused(q{SELECT * FROM supervisor.run('PREPARE p AS INSERT INTO t VALUES (1); SELECT 5; EXECUTE p') AS (a int)},
	'42804', '... so an EXECUTE that returns no rows', message => qr/HINT: /);
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); SELECT 1') AS (a text)},
	'42804', 'run with another type in its column list is refused');
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); EXECUTE missing') AS (a int)},
	'26000', 'run of a prepared statement that does not exist has the error of that');
refused(q{SELECT * FROM supervisor.run('INSERT INTO t VALUES (1); FETCH missing') AS (a int)},
	'34000', '... so of a cursor');
is(value('SELECT count(*) FROM t'), '0', 'where run is refused for its columns, nothing is done');

refused(q{SELECT supervisor.execute('COPY t TO STDOUT')}, '0A000', 'COPY to the client is refused', message => qr/COPY/);
refused(q{SELECT supervisor.execute('INSERT INTO t VALUES (1); COMMIT; COPY t FROM STDIN')},
	'0A000', 'COPY from the client is refused', message => qr/COPY/);
is(value('SELECT count(*) FROM t'), '0', '... before anything has run');

is( value(q{SELECT x, a FROM generate_series(1, 3) x, supervisor.run('SELECT $1::int * 2', ARRAY[x::text]) AS (a int)}),
	"1|2\n2|4\n3|6", 'run once for each row of a join');
is( value(q{SELECT count(*) FROM (SELECT * FROM supervisor.run('SELECT generate_series(1, 100000)') AS (a int) LIMIT 1) s}),
	'1', 'a reader may stop early');

is( value(q{SELECT a > clock FROM clock_timestamp() clock, LATERAL supervisor.run('SELECT now()') AS (a timestamptz)}),
	't', 'now() is the time of the task');
{
	my $listener = SupervisorTest::session($node);

	$listener->query_safe('LISTEN events');
	value(q{SELECT supervisor.execute('NOTIFY events, ''from a task''')});
	like($listener->query('SELECT 1'), qr/"events" with payload "from a task"/, 'NOTIFY of a task reaches those who LISTEN');
	$listener->quit;
}

# A task may be the leader of parallel workers
my $parallel = q{SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 2; };
value(q{
	CREATE TABLE large AS SELECT i AS a, repeat('x', 100) AS b FROM generate_series(1, 20000) i;
	CREATE FUNCTION fails_in_parallel(i int) RETURNS int PARALLEL SAFE LANGUAGE plpgsql AS $$
	BEGIN
		IF i = 19999 THEN RAISE EXCEPTION 'refused: %', i USING HINT = 'none'; END IF;
		RETURN i;
	END $$;
	ANALYZE large});
is( value($parallel . q{SELECT count(*) > 0 FROM supervisor.run('EXPLAIN (COSTS off) SELECT sum(a) FROM large') AS (a text) WHERE a LIKE '%Workers Planned: 2%'}),
	't', 'the plan of a task is parallel');
is( value($parallel . q{SELECT * FROM supervisor.run('SELECT sum(a), min(b) FROM large') AS (a bigint, b text)}),
	value(q{SELECT sum(a), min(b) FROM large}), '... and right');
refused($parallel . q{SELECT supervisor.execute('SELECT count(*) FROM large WHERE fails_in_parallel(a) < 0')},
	'P0001', 'an error of a parallel worker arrives', message => qr/refused: 19999\nHINT:  none\n/);
value('DROP TABLE large');

note 'parameters';

is( value(q{SELECT * FROM supervisor.run(
		'SELECT $1 + 1, $2 || ''!'', $3::date, $4::int[], $5, $6::int IS NULL',
		ARRAY['41', 'it''s $1', '2001-02-03', '{1,2}', E'back\\\\slash "q"', NULL])
		AS (a int, b text, c date, d int[], e text, f bool)}),
	q{42|it's $1!|2001-02-03|{1,2}|back\slash "q"|t}, 'parameters have the types that the command infers');
is( value(q{SELECT supervisor.execute('INSERT INTO t VALUES ($1, $2)', ARRAY['5', NULL]); SELECT a, b IS NULL FROM t}),
	"INSERT 0 1\n5|t", 'a NULL parameter');
is( value(q{SELECT * FROM supervisor.run('SELECT 1', '{}') AS (a int)}), '1', 'an empty array of parameters');
is( value(q{SELECT * FROM supervisor.run('SELECT length($1), md5($1)', ARRAY[repeat('äx', 500000)]) AS (a int, b text)}),
	value(q{SELECT length(v), md5(v) FROM repeat('äx', 500000) v}), 'a parameter of a million characters');
is( value(q{SELECT * FROM supervisor.run(
		(SELECT 'SELECT ' || string_agg('$' || i || '::int', '+') FROM generate_series(1, 1000) i),
		(SELECT array_agg(i::text) FROM generate_series(1, 1000) i)) AS (a int)}),
	'500500', 'a thousand parameters');
is( value(q{SELECT * FROM supervisor.result(supervisor.launch('SELECT $1::int', ARRAY['3'])) AS (a int)}),
	'3', 'launch takes parameters');
is( value(q{CALL supervisor.perform('INSERT INTO t VALUES ($1)', ARRAY['6']); SELECT a FROM t ORDER BY a}),
	"5\n6", 'perform takes parameters');
refused(q{SELECT supervisor.execute('SELECT $1::int', ARRAY['x'])}, '22P02', 'a parameter that its type refuses', message => qr/invalid input syntax/);
refused(q{SELECT supervisor.execute('INSERT INTO t VALUES (1), ($1::int / 0)', ARRAY['1'])}, '22012', 'an error of a command with parameters');
refused(q{SELECT supervisor.execute('CREATE TABLE u AS SELECT $1::int AS a', ARRAY['1']); SELECT 1/0}, '22012', 'a utility command with parameters');
is(value('SELECT a FROM u'), '1', '... has its values');
value('DROP TABLE u; TRUNCATE t');

note 'what the submitter does';

is( value(q{
		BEGIN;
		INSERT INTO t VALUES (1);
		SELECT count(*) FROM supervisor.run('SELECT * FROM t') AS (a int, b text);
		ROLLBACK}),
	'0', 'a task sees only what is committed');
is( value(q{
		BEGIN;
		SELECT supervisor.execute('INSERT INTO t VALUES (1)');
		SELECT supervisor.wait(supervisor.launch('INSERT INTO t VALUES (2)'));
		SELECT count(*) FROM supervisor.execute_all(ARRAY['INSERT INTO t VALUES (3)']);
		ROLLBACK;
		SELECT array_agg(a ORDER BY a) FROM t}),
	"INSERT 0 1\nsucceeded\n1\n{1,2,3}", 'ROLLBACK of the submitter does not undo tasks');
value('TRUNCATE t');
is( value(q{
		DO $$
		BEGIN
			PERFORM supervisor.execute('INSERT INTO t VALUES (1)');
			BEGIN
				PERFORM supervisor.execute('SELECT 1/0');
			EXCEPTION WHEN division_by_zero THEN
				PERFORM supervisor.execute('INSERT INTO t VALUES (2)');
			END;
			BEGIN
				PERFORM supervisor.execute('INSERT INTO t VALUES (3)');
				RAISE EXCEPTION 'x';
			EXCEPTION WHEN raise_exception THEN
				NULL;
			END;
		END $$;
		SELECT array_agg(a ORDER BY a) FROM t}),
	'{1,2,3}', 'an error of a task can be caught, and the session goes on');
value('TRUNCATE t');

note 'perform and CONCURRENTLY';

my @concurrently = (
	'CREATE INDEX CONCURRENTLY ti ON t (a)',
	'create unique index concurrently if not exists ti on t (a)',
	'REINDEX TABLE CONCURRENTLY t',
	'REINDEX (CONCURRENTLY) TABLE t',
	'REINDEX (VERBOSE, CONCURRENTLY true) TABLE t',
	'REINDEX INDEX CONCURRENTLY ti',
	'DROP INDEX CONCURRENTLY ti',
	'ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY',
	'/* x */ CREATE INDEX CONCURRENTLY ON t (a);');
foreach my $command (@concurrently)
{
	my $quoted = quote($command);

	refused("SELECT supervisor.execute($quoted)", '0A000', "execute refuses $command", message => qr/HINT: .*supervisor\.perform/);
}
refused("SELECT * FROM supervisor.run('REINDEX TABLE CONCURRENTLY t') AS (a int)",
	'0A000', 'run refuses CONCURRENTLY', message => qr/HINT: .*supervisor\.perform/);
refused("SELECT * FROM supervisor.execute_all(ARRAY['INSERT INTO t VALUES (1)', 'REINDEX TABLE CONCURRENTLY t'])",
	'0A000', 'execute_all refuses CONCURRENTLY', message => qr/HINT: .*supervisor\.perform/);
is(value('SELECT count(*) FROM t'), '0', '... before anything has run');

value(q{
	CREATE MATERIALIZED VIEW mv AS SELECT 1 AS a;
	CREATE UNIQUE INDEX ON mv (a)});
foreach my $command (
	'REFRESH MATERIALIZED VIEW CONCURRENTLY mv',
	'REINDEX (CONCURRENTLY false) TABLE t',
	q{SELECT 'create index concurrently'},
	'SELECT 1 AS concurrently',
	'SELECT 1 -- CREATE INDEX CONCURRENTLY ti ON t (a)')
{
	is((SupervisorTest::error_of($node, 'SELECT supervisor.execute(' . quote($command) . ')'))[0], undef,
		 "execute takes $command");
}

value(q{
	CREATE TABLE p (a int) PARTITION BY LIST (a);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)});
value('CALL supervisor.perform(' . quote($_) . ')') foreach @concurrently[ 0, 2, 3, 4, 5, 6, 7 ];
value(q{CALL supervisor.perform('CREATE INDEX CONCURRENTLY ti ON t (a)')});
is(value(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'ti'::regclass}),
	't', 'perform can CREATE INDEX CONCURRENTLY');
is(value(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'p'::regclass}),
	'0', 'perform can detach a partition concurrently');
value(q{DO $$ BEGIN CALL supervisor.perform('DROP INDEX CONCURRENTLY ti'); END $$});
is(value(q{SELECT to_regclass('ti') IS NULL}), 't', 'perform from a DO block can DROP INDEX CONCURRENTLY');

refused(q{BEGIN; INSERT INTO t VALUES (1); CALL supervisor.perform('INSERT INTO t VALUES (2)'); COMMIT},
	'2D000', 'perform in a transaction block is refused', message => qr/HINT: /);
refused(q{
		CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO t VALUES (1); CALL supervisor.perform('INSERT INTO t VALUES (2)'); RETURN 1; END $$;
		SELECT f()},
	'2D000', 'perform in a function is refused');
refused(q{
		DO $$
		BEGIN
			INSERT INTO t VALUES (1);
			BEGIN CALL supervisor.perform('INSERT INTO t VALUES (2)'); EXCEPTION WHEN division_by_zero THEN NULL; END;
		END $$},
	'2D000', 'perform in a block with EXCEPTION is refused');
foreach my $arguments (
	[ 'NULL', '22004' ], [ q{''}, '22023' ],
	[ q{'SELECT 1', timeout := '-1 s'}, '22023' ],
	[ q{'SELECT $1', params := ARRAY[ARRAY['1', '2'], ARRAY['3', '4']]}, '2202E' ])
{
	refused(qq{DO \$\$ BEGIN INSERT INTO t VALUES (1); CALL supervisor.perform($arguments->[0]); END \$\$},
		$arguments->[1], "perform refuses ($arguments->[0])");
}
is(value('SELECT count(*) FROM t'), '0', 'where perform is refused, the caller has not been committed');

refused(q{
		DO $$
		BEGIN
			INSERT INTO t VALUES (1);
			CALL supervisor.perform('INSERT INTO t SELECT a + 1 FROM t');
			RAISE EXCEPTION 'x';
		END $$},
	'P0001', 'perform, then an error');
is(value('SELECT array_agg(a ORDER BY a) FROM t'), '{1,2}',
	'perform commits what was before it, so that its command sees it');
refused(q{CALL supervisor.perform('SELECT 1/0')}, '22012', 'perform raises the error of its command');
refused(q{CALL supervisor.perform('SELECT pg_sleep(60)', timeout := '10 ms')}, '57014', 'perform times out');

value(q{
	CREATE TABLE commands (c text);
	ALTER TABLE commands ALTER c SET STORAGE EXTERNAL;
	INSERT INTO commands VALUES ('INSERT INTO t VALUES (3) -- ' || repeat('x', 10000));
	CREATE FUNCTION get_command() RETURNS text STABLE LANGUAGE sql AS 'SELECT c FROM commands';
	CALL supervisor.perform(get_command());
	DO $$
	DECLARE
		command text;
	BEGIN
		SELECT c INTO command FROM commands;
		CALL supervisor.perform(command);
	END $$});
is(value('SELECT array_agg(a ORDER BY a) FROM t'), '{1,2,3,3}', 'perform can take a toasted command');

{
	my $holder = SupervisorTest::session($node);
	my $session = SupervisorTest::session($node);
	my ($sqlstate, $stderr);

	$holder->query('BEGIN; LOCK TABLE t');
	my $task = $session->query_safe(q{SELECT supervisor.launch('CREATE INDEX CONCURRENTLY ti ON t (a)')});
	foreach my $call ("SELECT supervisor.wait($task)", "SELECT * FROM supervisor.result($task) AS (a int)")
	{
		($sqlstate, $stderr) = $session->error_of($call);
		is($sqlstate, '0A000', "refused while CREATE INDEX CONCURRENTLY runs: $call");
	}
	$holder->query('COMMIT');
	$node->poll_query_until('postgres',
		"SELECT state = 'succeeded' FROM supervisor.task_status WHERE task = $task")
	  or die 'CREATE INDEX CONCURRENTLY did not end';
	is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded',
		'a launched CREATE INDEX CONCURRENTLY can be waited for once it has ended');
	is($session->query_safe("SELECT count(*) FROM supervisor.result($task) AS (a int)"), '0',
		'... and its result read');
	$holder->quit;
	$session->quit;
}
value('TRUNCATE t');

note 'settings';

# What came with the connection, and what the role has that logged in.
{
	local $ENV{PGOPTIONS} = q{-c search_path=elsewhere -c work_mem=5MB -c log_disconnections=on};

	is(value(q{SELECT * FROM supervisor.run('SELECT current_setting(''search_path''), current_setting(''work_mem'')') AS (a text, b text)}),
		'elsewhere|5MB', 'settings of the connection come along');
}
value(q{
	CREATE ROLE logs_in LOGIN;
	CREATE ROLE becomes LOGIN;
	GRANT becomes TO logs_in;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO becomes, logs_in;
	ALTER ROLE logs_in SET work_mem = '6MB';
	ALTER ROLE logs_in IN DATABASE postgres SET search_path = theirs;
	ALTER ROLE becomes SET work_mem = '7MB'});
is(value(q{SET ROLE becomes; SELECT * FROM supervisor.run('SELECT current_setting(''search_path''), current_setting(''work_mem''), current_user::text') AS (a text, b text, c text)}, user => 'logs_in'),
	'theirs|6MB|becomes', 'so do those of the role that logged in, behind SET ROLE');
is(value(q{SELECT * FROM supervisor.run('SELECT current_setting(''work_mem'')') AS (a text)}, user => 'becomes'),
	'7MB', 'otherwise they are those of the role');


# Settings of the session that a task does not have, but for the few that stay at home.
my $difference = q{
	SELECT string_agg(name || ': ' || s.setting || ' <> ' || t.setting, ', ')
	FROM pg_settings s JOIN supervisor.run('SELECT name, setting FROM pg_settings') AS t (name text, setting text) USING (name)
	WHERE s.setting <> t.setting
		AND name NOT IN ('application_name', 'client_encoding', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable')};

value('CREATE SCHEMA "a b"; CREATE SCHEMA "c""d"; CREATE TABLE "a b".here (a int)');
is( value(qq{
		SET work_mem = '123MB';
		SET random_page_cost = 1.1;
		SET seq_page_cost = 1.00000000000000022;
		SET cpu_tuple_cost = 1e-300;
		SET enable_seqscan = off;
		SET search_path = "a b", "c""d", '\$user', public, "no such";
		SET DateStyle = 'SQL, DMY';
		SET IntervalStyle = 'iso_8601';
		SET TimeZone = '<+05>-05';
		SET bytea_output = 'escape';
		SET default_transaction_isolation = 'serializable';
		SET default_transaction_deferrable = on;
		SET lock_timeout = '11min';
		SET statement_timeout = '12min';
		SET lc_messages = 'C';
		SET extra_float_digits = -3;
		SET log_min_duration_statement = 123456;
		SET session_replication_role = 'replica';
		SET xmlbinary = 'hex';
		SET temp_file_limit = 5000000;
		SET local_preload_libraries = '';
		SET my.setting = 'it''s "quoted" \\\\ ';
		SET my.empty = '';
		SET row_security = off;
		$difference}),
	'', 'a task starts with all that the session has SET');
is( value(q{
		SET search_path = "c""d", "a b";
		SELECT * FROM supervisor.run('SELECT current_schemas(false)::text || count(*) FROM here') AS (a text)}),
	'{"c\"d","a b"}0', 'search_path means the same');
is( value(q{
		SET seq_page_cost = 1.00000000000000022;
		SELECT * FROM supervisor.run('SELECT setting::float8 - 1 > 0 FROM pg_settings WHERE name = ''seq_page_cost''') AS (a bool)}),
	value(q{
		SET seq_page_cost = 1.00000000000000022;
		SELECT setting::float8 - 1 > 0 FROM pg_settings WHERE name = 'seq_page_cost'}),
	'a real setting looks the same in the task');
is( value(q{
		SET my.setting = E'it''s\n\\ "x" $1';
		SELECT a = current_setting('my.setting') FROM supervisor.run('SELECT current_setting(''my.setting'')') AS (a text)}),
	't', 'a placeholder setting arrives as it is');
is( value(q{
		BEGIN;
		SET LOCAL work_mem = 77;
		SET LOCAL my.local = 'x';
		SELECT * FROM supervisor.run('SELECT current_setting(''work_mem''), current_setting(''my.local'')') AS (a text, b text);
		COMMIT;
		SELECT * FROM supervisor.run('SELECT current_setting(''work_mem'')') AS (a text)}),
	"77kB|x\n" . value('SHOW work_mem'), 'SET LOCAL counts as long as it lasts');
is( value(q{
		CREATE FUNCTION with_setting() RETURNS text LANGUAGE sql SET work_mem = 88 SET my.f = 'f' AS
			$$ SELECT * FROM supervisor.run('SELECT current_setting(''work_mem'') || current_setting(''my.f'')') AS (a text) $$;
		SELECT with_setting();
		SELECT * FROM supervisor.run('SHOW work_mem') AS (a text)}),
	"88kBf\n" . value('SHOW work_mem'), 'SET of a function counts in it');
is( value(q{
		SET work_mem = 99;
		RESET work_mem;
		SELECT * FROM supervisor.run('SHOW work_mem') AS (a text)}),
	value('SHOW work_mem'), 'RESET is honored');
is( value(q{
		SELECT set_config('work_mem', '66', false);
		SELECT * FROM supervisor.run('SHOW work_mem') AS (a text)}),
	"66kB\n66kB", 'set_config counts as SET');
is( value(q{
		SET default_transaction_read_only = on;
		SELECT * FROM supervisor.run('SHOW transaction_read_only') AS (a text)}),
	'on', 'what a transaction starts with holds for the first one of the task');
is( value(q{
		BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
		SELECT supervisor.execute('INSERT INTO t VALUES (1)');
		SELECT * FROM supervisor.run('SHOW transaction_isolation') AS (a text);
		COMMIT}),
	"INSERT 0 1\nread committed", q{the transaction's own properties stay at home});
like(value(q{SET application_name = 'mine'; SELECT * FROM supervisor.run('SHOW application_name') AS (a text)}),
	qr/^supervisor: pool default, slot \d+$/, 'application_name says pool and slot');
value('TRUNCATE t');

# One worker, so that each task follows the other in the same session.
SupervisorTest::set($node, 'supervisor.pool_size' => 1);
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE slot IS NOT NULL})
  or die 'the pool did not shrink';

value(q{
	SET work_mem = 99; SET my.setting = 'x'; SET search_path = "a b"; SET random_page_cost = 2.5; SET TimeZone = 'Asia/Tokyo';
	SET default_transaction_read_only = on; SET statement_timeout = '1min'; SET session_replication_role = 'replica';
	SELECT supervisor.execute('SELECT 1')});
is(value($difference), '', 'settings of one submitter do not reach the next');
is(value(q{SELECT * FROM supervisor.run('SELECT coalesce(current_setting(''my.setting'', true), '''')') AS (a text)}),
	'', '... nor do its placeholders');
value(q{SELECT supervisor.execute($$
	SET work_mem = 98; SET my.other = 'x'; SET search_path = "a b"; SET statement_timeout = '1min';
	CREATE TEMP TABLE left_over (); PREPARE left_over AS SELECT 1; DECLARE left_over CURSOR WITH HOLD FOR SELECT 1;
	CREATE TEMP SEQUENCE left_over_seq; SELECT nextval('left_over_seq'); SELECT pg_advisory_lock(4711);
	SET SESSION AUTHORIZATION alice; SET ROLE alice $$)});
is(value($difference), '', q{a task's own settings do not reach the next});
is( value(q{
		SELECT * FROM supervisor.run($$SELECT session_user::text, current_user::text, to_regclass('left_over') IS NULL,
			(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),
			(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), coalesce(current_setting('my.other', true), '')$$)
			AS (a text, b text, c bool, d bigint, e bigint, f bigint, g text)}),
	value('SELECT current_user, current_user') . '|t|0|0|0|',
	'roles, temporary tables, prepared statements, cursors, advisory locks and placeholders are gone with their task');
refused(q{SELECT supervisor.execute('SELECT lastval()')}, '55000', 'so is lastval');
refused(q{SELECT supervisor.execute('SET work_mem = 97; SET my.third = ''x''; SELECT 1/0')}, '22012', 'a task that fails after SET');
is(value($difference), '', 'settings of a task that failed do not reach the next');

# What tasks take is given back
my $used = q{SELECT a FROM supervisor.run('SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts') AS (a bigint)};
my @commands = map { quote($_) } 'SELECT 1/0', 'SET my.x = 1; SET work_mem = 100; SELECT * FROM pg_class',
	'DO $$BEGIN RAISE NOTICE $x$y$x$; END$$', 'PREPARE p AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'SELEC';
my $batch = 'SET client_min_messages = warning; SELECT count(*) FROM supervisor.execute_all(ARRAY(SELECT (ARRAY['
  . join(', ', @commands) . '])[mod(i, ' . @commands . ') + 1] FROM generate_series(1, %d) i))';
value(sprintf $batch, 100);
my $before = value($used);
is(value(sprintf $batch, 5000), '5000', 'five thousand tasks in one worker');
cmp_ok(value($used) - $before, '<', 256 * 1024, '... do not make it grow');

SupervisorTest::set($node, 'supervisor.pool_size' => 2);
SupervisorTest::wait_ready($node, 'default', 2);

value(q{ALTER ROLE alice SET work_mem = 155; ALTER ROLE alice IN DATABASE postgres SET my.role = 'r'});
is( value(q{
		SET log_min_duration_statement = 123456;
		SET my.session = 's';
		SET ROLE alice;
		SELECT * FROM supervisor.run($$SELECT current_setting('work_mem'), current_setting('my.role'), current_setting('my.session'), current_setting('log_min_duration_statement') $$)
			AS (a text, b text, c text, d text);
		SET work_mem = 144;
		SELECT * FROM supervisor.run('SHOW work_mem') AS (a text)}),
	'155kB|r|s|' . value('SHOW log_min_duration_statement') . "\n144kB",
	q{settings of a role hold, those of the session go above them, what the role may not set is left out});

value('GRANT SET ON PARAMETER log_min_duration_statement TO alice');
is( value(q{
		SET ROLE alice;
		SET log_min_duration_statement = 123456;
		SELECT * FROM supervisor.run('SELECT setting FROM pg_settings WHERE name = $$log_min_duration_statement$$') AS (a text)}),
	'123456', '... and what it was granted to set arrives');

note 'whose rights';

is( value(q{
		SET ROLE alice;
		SELECT * FROM supervisor.run('SELECT session_user::text, current_user::text, current_setting(''is_superuser'')') AS (a text, b text, c text)}),
	'alice|alice|off', 'after SET ROLE, a task is a session of that role');
is( value(q{
		SET SESSION AUTHORIZATION bob;
		SELECT * FROM supervisor.run('SELECT session_user::text, current_user::text') AS (a text, b text)}),
	'bob|bob', '... so after SET SESSION AUTHORIZATION');
is( value(q{
		CREATE FUNCTION as_alice() RETURNS text SECURITY DEFINER LANGUAGE sql AS
			$$ SELECT * FROM supervisor.run('SELECT session_user::text') AS (a text) $$;
		ALTER FUNCTION as_alice() OWNER TO alice;
		SET ROLE bob;
		SELECT as_alice();
		SELECT * FROM supervisor.run('SELECT session_user::text') AS (a text)}),
	"alice\nbob", 'in a SECURITY DEFINER function, a task is a session of its owner');
is( value(q{
		SET ROLE alice;
		SELECT * FROM supervisor.run('RESET ROLE; RESET SESSION AUTHORIZATION; SET ROLE NONE; SELECT session_user::text, current_user::text') AS (a text, b text)}),
	'alice|alice', 'there is nothing above the role of a task to go back to');
refused(q{SET ROLE alice; SELECT supervisor.execute('SET SESSION AUTHORIZATION bob')}, '42501', 'a task of a common role can not become another');
refused(q{SET ROLE nobody; SELECT supervisor.execute('SELECT 1')}, '28000', 'a role without LOGIN is refused', message => qr/nobody/,
	hint => qr/Grant role "nobody" to a role that may log in .* SECURITY DEFINER function of such a role/);
refused(q{SELECT supervisor.execute('SELECT 1')}, '42501', 'EXECUTE is not granted to PUBLIC',
	user => do { value('CREATE ROLE carol LOGIN'); 'carol' });
refused(q{
		CREATE TABLE restricted (a int);
		CREATE FUNCTION submits() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
			$$ BEGIN PERFORM supervisor.execute('INSERT INTO t VALUES (666)'); RETURN 1; END $$;
		INSERT INTO restricted VALUES (1);
		CREATE INDEX ON restricted ((a + submits()))},
	'42501', 'a call in a security-restricted operation is refused', message => qr/security-restricted/);
is(value('SELECT count(*) FROM t'), '0', '... and nothing is submitted');

note 'launch, wait, result, cancel, forget';

my $session = SupervisorTest::session($node);
my $other = SupervisorTest::session($node);
my $task;

$task = $session->query_safe(q{SELECT supervisor.launch('SELECT 42')});
is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'wait returns succeeded');
is($session->query_safe("SELECT supervisor.wait($task, '0 s')"), 'succeeded', 'wait can be called again');
is($other->query_safe("SELECT supervisor.wait($task)"), 'succeeded', q{another session can wait for it});
is(($other->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '55000', q{... and not read it});
is(($other->error_of("SELECT supervisor.forget($task)"))[0], '55000', '... nor forget it');
is(($session->error_of("SET ROLE alice; SELECT * FROM supervisor.result($task) AS (a int)"))[0],
	'42501', '... nor may another role of this session');
$session->query('RESET ROLE');
is($session->query_safe("SELECT supervisor.cancel($task)"), 'f', 'cancel of a task that has ended is false');
is($session->query_safe("SELECT * FROM supervisor.result($task) AS (a int)"), '42', 'result returns its rows');
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '55000', '... once');
is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', '... and then wait still tells how it ended');
$task = $session->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a text)"))[0], '42804', 'a column list does not match');
is($session->query_safe("SELECT * FROM supervisor.result($task) AS (a int)"), '1', '... which leaves the task to be read');
is(($session->error_of("SELECT supervisor.forget($task)"))[0], '55000', '... and for forget');
is($session->query_safe("SELECT supervisor.cancel($task)"), 'f', '... and for cancel');

$task = $session->query_safe(q{SELECT supervisor.launch('SELECT 1/0')});
is($session->query_safe("SELECT supervisor.wait($task)"), 'failed', 'wait returns failed');
is( $session->query_safe("SELECT state, sqlstate, message FROM supervisor.task_status WHERE task = $task"),
	'failed|22012|division by zero', 'task_status tells why');
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '22012', 'result raises its error');
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '55000', '... once');

$task = $session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(180)')});
is($session->query_safe("SELECT supervisor.wait($task, '10 ms') IS NULL"), 't', 'wait returns NULL when its time is up');
is($session->query_safe("SELECT supervisor.wait($task, '0') IS NULL"), 't', '... at once, if it has none');
$node->poll_query_until('postgres', "SELECT state = 'running' FROM supervisor.task_status WHERE task = $task")
  or die 'the task does not run';
is($other->query_safe("SELECT supervisor.cancel($task)"), 't', 'any session with the right can cancel a running task');
is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'wait returns canceled');
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '57014', 'result of a canceled task raises 57014');

# All workers busy: what follows is queued, and runs in order.
my @busy = map { $session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(180)')}) } 1 .. 2;
$task = $session->query_safe(q{SELECT supervisor.launch('INSERT INTO t VALUES (1)')});
my @queued = map { $session->query_safe("SELECT supervisor.launch('INSERT INTO t VALUES ($_)')") } 2 .. 9;
is($session->query_safe("SELECT state FROM supervisor.task_status WHERE task = $task"), 'queued', 'without an idle worker a task is queued');
is($session->query_safe("SELECT supervisor.cancel($task)"), 't', 'a queued task can be canceled');
is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', '... and is so at once');
is(($session->error_of("SELECT * FROM supervisor.result($task) AS (a int)"))[0], '57014', '... for result as well');
is($session->query_safe("SELECT supervisor.forget($queued[7])"), 't', 'forget of a queued task is true');
is(($session->error_of("SELECT * FROM supervisor.result($queued[7]) AS (a int)"))[0], '55000', q{... and it can't be read any more});
$session->query_safe("SELECT supervisor.cancel($busy[0])");
is($session->query_safe("SELECT supervisor.wait($queued[7])"), 'succeeded', '... but waited for');
$session->query_safe("SELECT supervisor.wait($_)") foreach @queued[ 0 .. 6 ];
$node->poll_query_until('postgres', 'SELECT count(*) = 8 FROM t') or die 'not all tasks have run';
is(value(q{SELECT array_agg(a ORDER BY ctid) FROM t}), '{2,3,4,5,6,7,8,9}',
	'queued tasks run in order, a forgotten one too, a canceled one not');
$session->query_safe("SELECT supervisor.cancel($busy[1])");
is($session->query_safe("SELECT supervisor.wait($busy[1])"), 'canceled', 'a task is canceled while others are waited for');
is($session->query_safe("SELECT supervisor.forget($busy[1])"), 'f', 'forget of a task that has ended is false');

$session->query_safe('TRUNCATE t');
$session->query_safe('BEGIN');
my $launched = $session->query_safe(q{SELECT supervisor.launch('INSERT INTO t VALUES (1)')});
is($session->query_safe("SELECT supervisor.wait($launched)"), 'succeeded', 'a task starts before its submitter commits');
$session->query('ROLLBACK');
is(value('SELECT count(*) FROM t'), '1', '... and is not undone by its ROLLBACK');
is($session->query_safe("SELECT count(*) FROM supervisor.result($launched) AS (a int)"), '0', 'a command without rows has an empty result');

$task = $session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(180)')});
$session->quit;
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'tasks are left over';
pass('the end of a session cancels its tasks');

$other->query_safe('BEGIN; LOCK TABLE t');
$session = SupervisorTest::session($node);
my $forgotten = $session->query_safe(q{SELECT supervisor.launch('INSERT INTO t VALUES (3)')});
is($session->query_safe("SELECT supervisor.forget($forgotten)"), 't', 'forget of a running task is true');
$session->quit;
$other->query_safe('COMMIT');
$node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM t') or die 'the forgotten task did not end';
pass('a forgotten task runs on after the end of its session');
$other->quit;
value('TRUNCATE t');

note 'tasks in tasks';

foreach my $call (
	q{SELECT supervisor.execute('SELECT 1')}, q{SELECT * FROM supervisor.run('SELECT 1') AS (a int)},
	q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])}, q{CALL supervisor.perform('SELECT 1')},
	q{SELECT supervisor.wait(supervisor.launch('SELECT 1'))},
	q{SELECT * FROM supervisor.result(supervisor.launch('SELECT 1')) AS (a int)})
{
	refused("SELECT supervisor.execute(" . quote($call) . ")", '55000', "refused in a task: $call");
}
value(q{SELECT supervisor.execute($$SELECT supervisor.forget(supervisor.launch('INSERT INTO t VALUES (1)'))$$)});
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t') or die 'the task of a task did not run';
pass('a task may launch and forget another');
value(q{SELECT supervisor.execute($$SELECT supervisor.launch('SELECT pg_sleep(180)')$$)});
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'a task of a task is left over';
pass('what a task launches and does not forget ends with it');

note 'execute_all';

is( value(q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1', 'SELEC', 'SELECT 1/0', 'BEGIN', 'INSERT INTO t VALUES (1)', 'COPY t TO STDOUT'])}),
	"1|SELECT 1||\n" .
	  "2||42601|syntax error at or near \"SELEC\"\n" .
	  "3||22012|division by zero\n" .
	  "4||25001|command left a transaction block open\n" .
	  "5|INSERT 0 1||\n" .
	  "6||0A000|cannot COPY from or to the client in a task",
	'execute_all tells of each command, in order, and one that fails stops no other');
is(value(q{SELECT count(*) FROM supervisor.execute_all('{}')}), '0', 'execute_all of no commands');
is( value(q{
		SELECT count(*), bool_and(tag = 'SELECT ' || ordinality % 7), min(ordinality), max(ordinality)
		FROM supervisor.execute_all(ARRAY(SELECT 'SELECT generate_series(1, ' || i % 7 || ')' FROM generate_series(1, 3000) i))}),
	'3000|t|1|3000', 'execute_all takes more commands than there is room for, and each gets its own tag');
is( value(q{
		SET my.setting = 'x';
		SELECT DISTINCT tag FROM supervisor.execute_all(array_fill('SELECT 1 WHERE current_setting(''my.setting'') = ''x'''::text, ARRAY[100]))}),
	'SELECT 1', 'tasks of execute_all have the settings of the session');
is( value(q{
		SELECT count(*), count(*) FILTER (WHERE length(message) = 10000)
		FROM supervisor.execute_all(array_fill('DO $$BEGIN RAISE EXCEPTION ''%'', repeat(''x'', 10000); END$$'::text, ARRAY[200]))}),
	'200|200', 'execute_all returns messages in full');
refused(q{SELECT * FROM supervisor.execute_all(array_fill('SELECT pg_sleep(180)'::text, ARRAY[10]), timeout := '10 ms')},
	'57014', 'execute_all times out');
is(SupervisorTest::leaks($node), '', '... and its tasks end');

note 'timeouts';

refused(q{SELECT supervisor.execute('SET statement_timeout = 10; SELECT pg_sleep(180)')},
	'57014', 'statement_timeout works in a task', message => qr/statement timeout/);
refused(q{ALTER ROLE bob SET statement_timeout = 10; SET ROLE bob; SELECT supervisor.execute('SELECT pg_sleep(180)')},
	'57014', '... also that of the role', message => qr/statement timeout/);
value('ALTER ROLE bob RESET statement_timeout');
refused(q{SET supervisor.task_timeout = 10; SELECT supervisor.execute('SELECT pg_sleep(180)')},
	'57014', 'supervisor.task_timeout cancels a task', message => qr/task timeout/);
refused(q{SET supervisor.task_timeout = 10; SELECT supervisor.execute('DO $$BEGIN LOOP COMMIT; END LOOP; END$$')},
	'57014', '... also over its transactions', message => qr/task timeout/);
refused(q{SELECT supervisor.execute('SELECT pg_sleep(180)', timeout := '10 ms')},
	'57014', 'the timeout of the call cancels a task');
refused(q{SELECT * FROM supervisor.run('SELECT i FROM generate_series(1, 1e12::bigint) i', timeout := '300 ms') AS (a bigint)},
	'57014', '... also while it reads rows');
is( value(q{SET supervisor.task_timeout = 10; SELECT supervisor.wait(supervisor.launch('SELECT pg_sleep(180)'))}),
	'canceled', 'a task that ran into task_timeout is canceled');
{
	my $holder = SupervisorTest::session($node);

	$holder->query('BEGIN; LOCK TABLE t');
	refused(q{SELECT supervisor.execute('SET lock_timeout = 10; SELECT * FROM t')},
		'55P03', 'lock_timeout works in a task', message => qr/lock timeout/);
	$holder->quit;
}
is( value(q{
		SET supervisor.task_timeout = '1h'; SET statement_timeout = '1h';
		SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.02)'::text, ARRAY[10])) WHERE tag = 'SELECT 1'}),
	'10', 'no timeout of an earlier task hits a later one');

note 'the server log';

my $offset = -s $node->logfile;
value(q{SET log_statement = 'all'; SELECT supervisor.execute('SELECT 1 AS logged_statement')});
is(logged(qr/LOG:  statement: SELECT 1 AS logged_statement$/m, $offset), 1, 'log_statement = all logs the command of a task');
value(q{SET log_statement = 'ddl'; SELECT supervisor.execute('SELECT 1 AS not_ddl'); SELECT supervisor.execute('CREATE TEMP TABLE is_ddl ()')});
is(logged(qr/not_ddl/, $offset), 0, 'log_statement = ddl does not log a SELECT of a task');
is(logged(qr/LOG:  statement: CREATE TEMP TABLE is_ddl/, $offset), 1, '... but a CREATE TABLE');
value(q{SELECT supervisor.execute('SELECT 1 AS not_logged')});
is(logged(qr/not_logged/, $offset), 0, 'log_statement = none does not log the command of a task');
value(q{SET log_min_duration_statement = 0; SELECT supervisor.execute('SELECT 1 AS with_duration')});
is(logged(qr/LOG:  duration: [0-9.]+ ms  statement: SELECT 1 AS with_duration$/m, $offset), 1,
	'log_min_duration_statement logs the duration of a task');
value(q{SET log_duration = on; SELECT supervisor.execute('SELECT 1 AS duration_only')});
is(logged(qr/duration_only/, $offset), 0, 'log_duration logs no statement');
# of SET, of the task and of its caller
is(logged(qr/LOG:  duration: [0-9.]+ ms$/m, $offset), 3, '... but a duration');

$offset = -s $node->logfile;
refused(q{SELECT supervisor.execute('DO $$BEGIN RAISE EXCEPTION ''%_once'', ''raised''; END$$')}, 'P0001', 'an error');
is(logged(qr/ERROR:  raised_once\n.*CONTEXT: .*\n(?!\tsupervisor task).*STATEMENT:  DO \$\$BEGIN/, $offset), 1,
	'an error is logged by the worker, with the statement');
is(logged(qr/ERROR:  raised_once\n.*CONTEXT: .*\n\tsupervisor task \d+ in pool "default"\n.*STATEMENT:  SELECT supervisor.execute/, $offset), 1,
	'... and by the session that raises it, as a task\'s');
is(logged(qr/ERROR:  raised_once/, $offset), 2, '... and not again');
refused(q{SELECT * FROM supervisor.result(supervisor.launch('DO $$BEGIN RAISE EXCEPTION ''%_once'', ''result''; END$$')) AS (a int)},
	'P0001', 'an error of a launched task');
is(logged(qr/ERROR:.*result_once/, $offset), 2, '... is logged likewise');
value(q{DO $$BEGIN PERFORM supervisor.execute('SELECT 1/0 AS caught'); EXCEPTION WHEN division_by_zero THEN NULL; END$$});
is(logged(qr/ERROR:  division by zero\n.*STATEMENT:  SELECT 1\/0 AS caught/, $offset), 1, 'an error that is caught by its submitter is logged by the worker');
is(logged(qr/ERROR:  division by zero/, $offset), 1, '... only');
value(q{DO $$BEGIN PERFORM supervisor.execute('DO $x$BEGIN RAISE WARNING ''%_once'', ''warning''; RAISE NOTICE ''%_never'', ''notice''; END$x$'); END$$});
is(logged(qr/WARNING:.*warning_once/, $offset), 1, 'a warning is logged once');
is(logged(qr/NOTICE:.*notice_never/, $offset), 0, 'a notice is not logged');
value(q{SET client_min_messages = error; SELECT supervisor.execute('DO $x$BEGIN RAISE WARNING ''%_once'', ''unseen''; END$x$')});
is(logged(qr/WARNING:.*unseen_once/, $offset), 1, 'a warning that the client does not want is logged once');
value(q{SET client_min_messages = log; SELECT supervisor.execute('DO $x$BEGIN RAISE LOG ''%_once'', ''log''; END$x$')});
is(logged(qr/LOG:.*log_once/, $offset), 1, 'a LOG message that the client sees is logged once');
value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(0.1); DO $$BEGIN RAISE EXCEPTION ''%_reads'', ''nobody''; END$$'))});
$node->wait_for_log(qr/nobody_reads/, $offset);
value(q{SELECT supervisor.execute('SELECT 1')});
is(logged(qr/nobody_reads/, $offset), 1, 'an error that nobody will read is logged by the worker');
value(q{SELECT supervisor.wait(supervisor.launch('DO $$BEGIN RAISE EXCEPTION ''%_read'', ''never''; END$$'))});
$node->wait_for_log(qr/never_read/, $offset);
is(logged(qr/never_read/, $offset), 1, '... so if its session did not read it');

is(SupervisorTest::leaks($node), '', 'no slot, no busy worker and no task is left over');

$node->stop;
done_testing();
