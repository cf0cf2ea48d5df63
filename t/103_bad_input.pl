# Bad input gets its own error at once, and leaves nothing behind: no slot, no
# task, no shared memory, also after a thousand times.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote refused value);

my $node = SupervisorTest::new_node('main',
	max_worker_processes => 16,
	'supervisor.max_workers' => 8,
	'supervisor.max_tasks' => 64,
	'supervisor.pools' => 'other:1, none:0',
	'supervisor.result_memory' => '256kB',
	'supervisor.shared_memory' => '4MB');

SupervisorTest::ask(\$node);

# As refused().
sub fails
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	unlike(refused(@_), qr/server closed|PANIC|TRAP/, "$_[2]: the server runs on");
}

value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE nobody;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO alice, nobody;
	-- Runs a command n times; each time it must raise this error, or none.
	CREATE PROCEDURE many(n int, expected text, command text) LANGUAGE plpgsql AS $$
	DECLARE
		state text;
	BEGIN
		FOR i IN 1..n LOOP
			state := 'none';
			BEGIN
				EXECUTE command;
			EXCEPTION WHEN OTHERS THEN
				state := SQLSTATE;
			END;
			IF state <> expected THEN
				RAISE EXCEPTION 'run % of % raised %, not %', i, command, state, expected;
			END IF;
		END LOOP;
	END $$;
	-- Fills shared memory with the commands and the results of launched tasks; returns how many there was room for.
	CREATE FUNCTION fill_commands(size int) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[] := '{}';
		n int := 0;
	BEGIN
		BEGIN
			LOOP
				ids := ids || supervisor.launch('SELECT pg_advisory_lock_shared(4711) --' || repeat('x', size));
			END LOOP;
		EXCEPTION WHEN out_of_memory OR configuration_limit_exceeded THEN
			n := cardinality(ids);
		END;
		FOR i IN 1..n LOOP
			PERFORM supervisor.forget(ids[i]);
			PERFORM supervisor.cancel(ids[i]);
		END LOOP;
		RETURN n;
	END $$;
	CREATE FUNCTION fill_results(size int) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[] := '{}';
		n int := 0;
	BEGIN
		LOOP
			ids := ids || supervisor.launch('SELECT repeat(''x'', ' || size || ')');
			EXIT WHEN supervisor.wait(ids[cardinality(ids)]) <> 'succeeded' OR cardinality(ids) = 60;
			n := n + 1;
		END LOOP;
		PERFORM supervisor.forget(id) FROM unnest(ids) id;
		RETURN n;
	END $$});

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::wait_ready($node, 'other', 1);

# Waits until all tasks are gone; returns how many commands and results fit in
# shared memory.
sub room
{
	$node->poll_query_until('postgres', q{
		SELECT count(*) = 0 AND (SELECT count(*) = 0 FROM supervisor.worker_status WHERE activity = 'busy') FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL})
	  or die 'tasks are left over';
	my $holder = SupervisorTest::session($node);
	$holder->query_safe('SELECT pg_advisory_lock(4711)');
	my $room = value('SET client_min_messages = error; SELECT fill_commands(300000)');
	$holder->quit;
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'tasks are left over';
	$room .= ' commands, ' . value('SELECT fill_results(200000)') . ' results';
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'tasks are left over';
	return $room;
}

value(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[20]))});
SupervisorTest::leaks($node);
my $room = room();
note "room for $room";
like($room, qr/^[1-9]\d* commands, [1-9]\d* results$/, 'shared memory can be filled');
is(room(), $room, '... and is free again');

note 'each its own error';

my $stale = value(q{SELECT supervisor.launch('SELECT 1')});	# its session has ended
my $huge = q{'SELECT 1 --' || repeat('x', 5000000)};

# [ SQLSTATE, call, what stderr is like, times ]
my @bad = (
	[ '22004', q{SELECT supervisor.execute(NULL)} ],
	[ '22004', q{SELECT * FROM supervisor.run(NULL) AS (a int)} ],
	[ '22004', q{SELECT supervisor.launch(NULL)} ],
	[ '22004', q{SELECT * FROM supervisor.execute_all(NULL)} ],
	[ '22004', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1', NULL])} ],
	[ '22023', q{SELECT supervisor.execute('')} ],
	[ '22023', q{SELECT supervisor.execute(E' \t\n')} ],
	[ '22023', q{SELECT supervisor.execute(' ; ;')} ],
	[ '22023', q{SELECT supervisor.execute('-- nothing')} ],
	[ '22023', q{SELECT supervisor.execute('/* nothing */')} ],
	[ '22023', q{SELECT * FROM supervisor.run('') AS (a int)} ],
	[ '22023', q{SELECT * FROM supervisor.run('/* nothing */') AS (a int)} ],
	[ '22023', q{SELECT supervisor.launch('')} ],
	[ '22023', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1', ' '])} ],
	[ '2202E', q{SELECT * FROM supervisor.execute_all(ARRAY[ARRAY['SELECT 1'], ARRAY['SELECT 2']])} ],
	[ '42601', q{SELECT supervisor.execute('SELECT $1; SELECT 2', ARRAY['1'])} ],
	[ '42601', q{SELECT supervisor.execute('SELECT 1; SELECT 2', '{}')} ],
	[ '42601', q{SELECT supervisor.execute('SELECT $1::int + $2', ARRAY['1'])} ],
	[ '42601', q{SELECT supervisor.execute('SELECT $1::int', ARRAY['1', '2'])} ],
	[ '42601', q{SELECT supervisor.execute('SELECT 1', ARRAY['1'])} ],
	[ '42601', q{SELECT supervisor.execute('VACUUM', ARRAY['1'])} ],
	[ '42P02', q{SELECT supervisor.execute('SELECT $1')} ],
	[ '42P18', q{SELECT supervisor.execute('SELECT $2::int', ARRAY['1', '2'])} ],
	[ '22P02', q{SELECT supervisor.execute('SELECT $1::int', ARRAY['x'])} ],
	[ '2202E', q{SELECT supervisor.execute('SELECT $1', ARRAY[ARRAY['1'], ARRAY['2']])} ],
	[ '42704', q{SELECT supervisor.execute('SELECT 1', pool := 'nix')}, qr/"nix".*\nHINT: /s ],
	[ '42704', q{SELECT supervisor.execute('SELECT 1', pool := '')} ],
	[ '42704', q{SELECT supervisor.execute('SELECT 1', pool := 'Default')} ],
	[ '42704', q{SELECT supervisor.execute('SELECT 1', pool := repeat('x', 100000))} ],
	[ '42704', q{SELECT supervisor.launch('SELECT 1', pool := 'nix')} ],
	[ '42704', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'], 'nix')} ],
	[ '42704', q{SELECT supervisor.restart_pool('nix')} ],
	[ '42704', q{SET supervisor.default_pool = nix; SELECT supervisor.execute('SELECT 1', pool := NULL)}, qr/"nix".*\nHINT: /s ],
	[ '42704', q{SET supervisor.default_pool = nix; SELECT supervisor.restart_pool(NULL)} ],
	[ '55000', q{SET supervisor.default_pool = none; SELECT supervisor.launch('SELECT 1')} ],
	[ '55000', q{SELECT supervisor.execute('SELECT 1', pool := 'none')}, qr/"none".*\nHINT: .*supervisor\.pools/s ],
	[ '55000', q{SELECT supervisor.launch('SELECT 1', pool := 'none')} ],
	[ '55000', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'], 'none')} ],
	[ '22023', q{SELECT supervisor.execute('SELECT 1', timeout := '-1 s')} ],
	[ '22023', q{SELECT supervisor.wait(1, '-1 s')} ],
	[ '22023', q{SELECT supervisor.restart_worker(0, '-1 s')} ],
	[ '42704', q{SELECT supervisor.wait(0)} ],
	[ '42704', q{SELECT supervisor.wait(-1)} ],
	[ '42704', q{SELECT supervisor.wait(9223372036854775807)} ],
	[ '42704', q{SELECT supervisor.wait(-9223372036854775808)} ],
	[ '42704', q{SELECT * FROM supervisor.result(1000000000) AS (a int)} ],
	[ '42704', q{SELECT supervisor.forget(1000000000)} ],
	[ '42704', q{SELECT supervisor.cancel(1000000000)} ],
	[ '22004', q{SELECT supervisor.wait(NULL)} ],
	[ '22004', q{SELECT * FROM supervisor.result(NULL) AS (a int)} ],
	[ '22004', q{SELECT supervisor.forget(NULL)} ],
	[ '22004', q{SELECT supervisor.cancel(NULL)} ],
	[ '55000', "SELECT * FROM supervisor.result($stale) AS (a int)" ],
	[ '55000', "SELECT supervisor.forget($stale)" ],
	[ 'none', "SELECT supervisor.cancel($stale)" ],
	[ '42804', q{SELECT * FROM supervisor.run('SELECT 1') AS (a text)} ],
	[ '42804', q{SELECT * FROM supervisor.run('SELECT 1') AS (a int, b int)} ],
	[ '42804', q{SELECT * FROM supervisor.run('SELECT generate_series(1, 100000)') AS (a bigint)} ],
	[ '42804', q{SELECT * FROM supervisor.run('CREATE TEMP TABLE x ()') AS (a int)}, qr/HINT: / ],
	[ '42804', q{DO $$DECLARE t bigint := supervisor.launch('SELECT 1'); BEGIN PERFORM * FROM supervisor.result(t) AS (a text); EXCEPTION WHEN datatype_mismatch THEN PERFORM supervisor.forget(t); RAISE; END$$} ],
	[ '42804', q{DO $$DECLARE t bigint := supervisor.launch('SELECT repeat(''x'', 200000)'); BEGIN PERFORM * FROM supervisor.result(t) AS (a int); EXCEPTION WHEN datatype_mismatch THEN PERFORM supervisor.forget(t); RAISE; END$$} ],
	[ '42601', q{SELECT supervisor.run('SELECT 1')}, qr/HINT: .*FROM supervisor\.run/ ],
	[ '42601', q{SELECT * FROM supervisor.run('SELECT 1')} ],
	[ '42601', q{SELECT supervisor.result(1)}, qr/HINT: / ],
	[ '0A000', q{SELECT * FROM supervisor.run('SELECT ROW(1, 2)') AS (a text)}, qr/HINT: / ],
	[ '0A000', q{SELECT supervisor.execute('COPY pg_class TO STDOUT')}, qr/HINT: / ],
	[ '0A000', q{SELECT supervisor.execute('REINDEX TABLE CONCURRENTLY t')}, qr/HINT: .*perform/ ],
	[ '25001', q{SELECT supervisor.execute('BEGIN')}, qr/HINT: / ],
	[ '53200', "SELECT supervisor.execute($huge)", qr/HINT: .*supervisor\.shared_memory/, 20 ],
	[ '53200', "SELECT supervisor.launch($huge)", undef, 20 ],
	[ '53200', "SELECT supervisor.launch('SELECT \$1', ARRAY[repeat('x', 5000000)])", undef, 20 ],
	[ '54000', q{DO $$DECLARE t bigint := supervisor.launch('SELECT repeat(''x'', 300000)'); BEGIN PERFORM supervisor.wait(t); PERFORM * FROM supervisor.result(t) AS (a text); END$$}, qr/HINT: /, 100 ],
	[ '54000', q{SELECT supervisor.add_worker('long', rpad('SELECT 1', 1100000))}, qr/HINT: .*1 MB/ ],
	[ '54000', q{SELECT supervisor.add_worker('long', 'SELECT 1', type => repeat('x', 1100000))}, qr/HINT: .*1 MB/ ],
	[ '54000', q{SELECT supervisor.add_worker('long', 'SELECT 1', settings => ARRAY['search_path=' || repeat('x', 1100000)])}, qr/HINT: .*1 MB/ ],
	[ '22023', q{SELECT supervisor.restart_worker(-1)} ],
	[ '22023', q{SELECT supervisor.restart_worker(8)} ],
	[ '22023', q{SELECT supervisor.terminate_worker(2147483647)} ],
	[ '22023', q{SELECT supervisor.terminate_worker(-2147483648)} ],
	[ '22004', q{SELECT supervisor.restart_worker(NULL::int)} ],
	[ '22004', q{SELECT supervisor.terminate_worker(NULL)} ],
	[ '55000', q{SELECT supervisor.restart_worker(7)} ],
	[ '55000', q{SELECT supervisor.terminate_worker(7)} ],
	[ '28000', q{SET LOCAL ROLE nobody; SELECT supervisor.execute('SELECT 1')}, qr/nobody/ ],
	[ '28000', q{SET LOCAL ROLE nobody; SELECT supervisor.launch('SELECT 1')} ],
	[ '22012', q{SELECT supervisor.execute('SELECT 1/0')} ],
	[ '42601', q{SELECT supervisor.execute('SELEC')} ],
	[ '42601', q{SELECT supervisor.execute('CREATE INDEX CONCURRENTLY (')} ],
	[ '42P01', q{SELECT supervisor.launch('SELECT 1') FROM no_such_table} ]);
foreach my $case (@bad)
{
	my ($sqlstate, $call, $pattern) = @$case;

	next if $sqlstate eq 'none';
	fails("BEGIN; $call; COMMIT", $sqlstate, substr($call, 0, 120), message => $pattern);
}
like(value("SELECT supervisor.wait($stale)"), qr{^(succeeded|canceled)$}, 'but who asks how one ended whose session has gone is told');
is(SupervisorTest::leaks($node), '', 'no task is left over');

# Procedures can't be called in "many"
foreach my $case (
	[ '22004', q{CALL supervisor.perform(NULL)} ],
	[ '22023', q{CALL supervisor.perform('')} ],
	[ '42704', q{CALL supervisor.perform('SELECT 1', pool := 'nix')} ],
	[ '55000', q{CALL supervisor.perform('SELECT 1', pool := 'none')} ],
	[ '22023', q{CALL supervisor.perform('SELECT 1', timeout := '-1 s')} ],
	[ '42601', q{CALL supervisor.perform('SELECT $1', ARRAY['1', '2'])} ],
	[ '2D000', q{BEGIN; CALL supervisor.perform('SELECT 1')} ])
{
	fails($case->[1], $case->[0], $case->[1]);
}

note 'a bad request costs nothing of what is asked for';

{
	my $session = SupervisorTest::session($node);
	my $task = $session->query_safe(q{SELECT supervisor.launch('SELECT 42')});

	is(($session->error_of("SELECT supervisor.result($task)"))[0], '42601', 'result outside FROM is refused');
	is(($session->error_of("SELECT supervisor.wait($task, '-1 s')"))[0], '22023', 'wait with a negative timeout is refused');
	is($session->query_safe("SELECT * FROM supervisor.result($task) AS (a int)"), '42', 'the task can be read after it');
	$session->quit;
}

note 'settings';

foreach my $case (
	[ 'supervisor.pool_size', '-1' ], [ 'supervisor.pool_size', 'many' ], [ 'supervisor.pool_size', '1000000' ],
	[ 'supervisor.pools', 'x' ], [ 'supervisor.pools', 'x:' ], [ 'supervisor.pools', 'x:-1' ], [ 'supervisor.pools', ':1' ],
	[ 'supervisor.pools', 'x:1,' ], [ 'supervisor.pools', 'x:1,x:2' ], [ 'supervisor.pools', 'default:3' ],
	[ 'supervisor.pools', 'x:99999999999999999999' ], [ 'supervisor.pools', ('p' x 64) . ':1' ],
	[ 'supervisor.max_workers', '0' ], [ 'supervisor.max_tasks', '0' ], [ 'supervisor.shared_memory', '0' ],
	[ 'supervisor.shared_memory', '1kB' ], [ 'supervisor.result_memory', '-1' ], [ 'supervisor.result_retention', '-1' ],
	[ 'supervisor.task_timeout', '-1' ], [ 'supervisor.idle_timeout', '1 parsec' ], [ 'supervisor.spin_time', '-1' ],
	[ 'supervisor.worker_lifetime', '-1' ], [ 'supervisor.restart_delay', '-1' ], [ 'supervisor.start_timeout', '1e30' ],
	[ 'supervisor.stop_timeout', 'never' ])
{
	fails("ALTER SYSTEM SET $case->[0] = '$case->[1]'", '22023', "ALTER SYSTEM SET $case->[0] = $case->[1]", message => qr/\Q$case->[0]\E/);
}
fails(q{SET supervisor.no_such_setting = 1}, '42602', 'a setting that does not exist');
fails(q{SET supervisor.task_timeout = '-1'}, '22023', 'SET of a bad value');
fails(q{SET supervisor.pool_size = 1}, '55P02', 'SET of what only a reload changes');
fails(q{SET supervisor.result_memory = '1GB'}, '42501', 'SET of what only a superuser may', user => 'alice');

note 'no room';

{
	my $holder = SupervisorTest::session($node);
	my $session = SupervisorTest::session($node);
	my $alice = SupervisorTest::session($node, user => 'alice');
	my ($sqlstate, $stderr);

	$holder->query_safe('SELECT pg_advisory_lock(4711)');
	my $launch = q{SELECT count(supervisor.launch('SELECT pg_advisory_lock_shared(4711)')) FROM generate_series(1, %d)};

	$alice->query_safe(sprintf $launch, 32);
	($sqlstate, $stderr) = $alice->error_of(sprintf $launch, 1);
	is($sqlstate, '53400', 'a common role holds at most half of max_tasks');
	like($stderr, qr/HINT: .*supervisor\.max_tasks/, '... and is told so');
	is(($alice->error_of(q{SELECT supervisor.execute('SELECT 1')}))[0], '53400', '... for execute as well');
	is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool := 'other')}), 'SELECT 1', '... and disturbs nobody else');
	$session->query_safe(sprintf $launch, 32);
	foreach my $call (
		sprintf($launch, 1), q{SELECT supervisor.execute('SELECT 1', pool := 'other')},
		q{SELECT * FROM supervisor.run('SELECT 1', pool := 'other') AS (a int)},
		q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'], 'other')}, q{CALL supervisor.perform('SELECT 1', pool := 'other')})
	{
		($sqlstate, $stderr) = $session->error_of($call);
		is($sqlstate, '53400', "max_tasks is reached: $call");
		like($stderr, qr/HINT: .*supervisor\.max_tasks/, "... with a hint: $call");
	}
	is($session->query_safe('SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '64', 'max_tasks tasks are there');
	$alice->quit;
	$node->poll_query_until('postgres', 'SELECT count(*) = 32 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'tasks are left over';
	is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool := 'other')}), 'SELECT 1',
		'there is room again when a session ends');
	is($session->query_safe(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[200]), 'other') WHERE tag = 'SELECT 1'}),
		'200', 'execute_all needs no more room than there is');
	$session->quit;
	$holder->quit;
}
is(SupervisorTest::leaks($node), '', 'all tasks are gone');
is(room(), $room, 'and all shared memory');

note 'whoever may not';

value(q{CREATE DATABASE closed});
value(q{CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO alice}, dbname => 'closed');
{
	my $super = SupervisorTest::session($node, dbname => 'closed');
	my $alice = SupervisorTest::session($node, dbname => 'closed', user => 'alice');
	my @calls = (q{SELECT supervisor.execute('SELECT 1')}, q{SELECT supervisor.launch('SELECT 1')}, q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])});

	is($alice->query_safe($calls[0]), 'SELECT 1', 'a role may');
	value('REVOKE CONNECT ON DATABASE closed FROM PUBLIC');
	is(($alice->error_of($_))[0], '28000', "... until it may not CONNECT: $_") foreach @calls;
	is($super->query_safe($calls[0]), 'SELECT 1', '... but others may');
	value('GRANT CONNECT ON DATABASE closed TO PUBLIC; ALTER ROLE alice NOLOGIN');
	is(($alice->error_of($_))[0], '28000', "... or not log in: $_") foreach @calls;
	value('ALTER ROLE alice LOGIN; ALTER DATABASE closed ALLOW_CONNECTIONS false');
	is(($super->error_of($_))[0], '55000', "the database allows no connections: $_") foreach @calls;
	value('ALTER DATABASE closed ALLOW_CONNECTIONS true');
	is($alice->query_safe($calls[0]), 'SELECT 1', 'when all is well again, it may');
	$alice->quit;
	$super->quit;
}
is(SupervisorTest::leaks($node), '', 'no slot and no task is left over');

note 'the extension is dropped while tasks run';

{
	my $holder = SupervisorTest::session($node);
	my $waiting = SupervisorTest::session($node, dbname => 'closed');
	my $launching = SupervisorTest::session($node, dbname => 'closed');

	# in another database advisory locks are others: a table serves as gate
	value('CREATE TABLE gate ()', dbname => 'closed');
	my $gate = SupervisorTest::session($node, dbname => 'closed');
	$gate->query_safe('BEGIN');
	$gate->query_safe('LOCK TABLE gate');
	$waiting->begin(q{SELECT a FROM supervisor.run('SELECT count(*) FROM gate') AS (a bigint)});
	my $task = $launching->query_safe(q{SELECT supervisor.launch('SELECT count(*) FROM gate')});
	$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM supervisor.task_status WHERE state = 'running'})
	  or die 'the tasks do not run';
	value('DROP EXTENSION supervisor', dbname => 'closed');
	is(($launching->error_of("SELECT supervisor.wait($task)"))[0], '3F000', 'without the extension there is nothing to call');
	$gate->query_safe('COMMIT');
	my ($stdout, $stderr) = $waiting->finish;
	is($stdout . $stderr, '0', 'a call that waits ends as it would have');
	$node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM supervisor.task_status WHERE task = $task")
	  or die 'the launched task did not end';
	pass('so does a launched task');
	value('CREATE EXTENSION supervisor', dbname => 'closed');
	is($launching->query_safe("SELECT * FROM supervisor.result($task) AS (a bigint)"), '0', 'whose result can be read when the extension is back');
	$launching->query_safe(q{SELECT supervisor.launch('SELECT 1')});
	value('DROP EXTENSION supervisor', dbname => 'closed');
	$_->quit foreach $waiting, $launching, $gate, $holder;
	is(SupervisorTest::leaks($node), '', 'what a session leaves goes with it, extension or not');
	value('CREATE EXTENSION supervisor', dbname => 'closed');
	is(value(q{SELECT supervisor.execute('DROP EXTENSION supervisor')}, dbname => 'closed'), 'DROP EXTENSION', 'a task may drop the extension');
}

note 'a thousand times';

foreach my $case (@bad)
{
	my ($sqlstate, $call, undef, $n) = @$case;
	my ($stdout, $stderr);

	$n //= 1000;
	# EXECUTE takes one command: SET LOCAL is undone with the block that fails
	$call = 'DO $x$BEGIN ' . ($call =~ s/; SELECT /; PERFORM /r) . '; END$x$' if $call =~ /^SET LOCAL/;
	$node->psql('postgres', "SET client_min_messages = error; SET log_min_messages = fatal; CALL many($n, '$sqlstate', " . quote($call) . ')', stderr => \$stderr);
	is($stderr, '', "$n times: " . substr($call, 0, 120));
}
is(SupervisorTest::leaks($node), '', 'no slot and no task is left over');
is(room(), $room, 'and no byte of shared memory');

# [ call, times ]; good input whose tasks end in all the other ways
my @ways = (
	[ q{SELECT supervisor.execute('SELECT 1')} ],
	[ q{SELECT supervisor.forget(supervisor.launch('SELECT 1')), supervisor.execute('SELECT 1')} ],
	[ q{SELECT supervisor.forget(supervisor.launch('SELECT repeat(''x'', 100000)')), supervisor.execute('SELECT 1')} ],
	[ q{SELECT supervisor.cancel(supervisor.launch('SELECT pg_sleep(180) --' || repeat('x', 10000)))}, 200 ],
	[ q{DO $$DECLARE t bigint := supervisor.launch('SELECT pg_sleep(180) --' || repeat('x', 10000)); BEGIN PERFORM supervisor.cancel(t); PERFORM supervisor.forget(t); END$$} ],
	[ q{DO $$DECLARE t bigint := supervisor.launch('SELECT repeat(''x'', 100000)'); BEGIN PERFORM supervisor.wait(t); PERFORM supervisor.forget(t); END$$} ],
	[ q{DO $$BEGIN PERFORM * FROM supervisor.run('SELECT pg_sleep(180)', timeout := '0.1 ms') AS (a text); EXCEPTION WHEN query_canceled OR datatype_mismatch THEN NULL; END$$} ],
	[ q{DO $$BEGIN PERFORM supervisor.execute('SELECT pg_sleep(180) --' || repeat('x', 10000), timeout := '0.5 ms'); EXCEPTION WHEN query_canceled THEN NULL; END$$} ],
	[ q{DO $$BEGIN PERFORM * FROM supervisor.run('SELECT repeat(''x'', 1000) FROM generate_series(1, 1000000)', timeout := '20 ms') AS (a text); EXCEPTION WHEN query_canceled THEN NULL; END$$}, 50 ],
	[ q{DO $$BEGIN PERFORM * FROM supervisor.execute_all(array_fill('SELECT pg_sleep(180) --' || repeat('x', 10000), ARRAY[10]), timeout := '1 ms'); EXCEPTION WHEN query_canceled THEN NULL; END$$}, 100 ],
	[ q{DO $$BEGIN PERFORM * FROM supervisor.run('SELECT 1 / (50 - i), repeat(''x'', 10000) FROM generate_series(1, 100) i') AS (a int, b text); EXCEPTION WHEN division_by_zero THEN NULL; END$$}, 200 ],
	[ q{SELECT count(*) FROM supervisor.run('DO $x$BEGIN FOR i IN 1..100 LOOP RAISE NOTICE ''%'', repeat(''x'', 1000); END LOOP; END$x$; SELECT 1') AS (a int)}, 100 ],
	[ q{SELECT supervisor.forget(supervisor.launch('DO $x$BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE ''%'', repeat(''x'', 1000); END LOOP; END$x$; SELECT 1'))}, 50 ],
	[ q{SELECT count(*) FROM supervisor.execute_all(ARRAY['SELECT 1/0', 'SELECT 2', 'BEGIN', 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(180)'])}, 200 ]);
foreach my $case (@ways)
{
	my ($call, $n) = @$case;
	my ($stdout, $stderr);

	$n //= 1000;
	# in pieces: tasks that were launched and not read count until their session ends
	my $piece = $call =~ /^SELECT supervisor\.cancel/ ? 50 : $n;
	$stderr = '';
	for (my $done = 0; $done < $n && $stderr eq ''; $done += $piece)
	{
		$node->psql('postgres', "SET client_min_messages = error; SET log_min_messages = fatal; CALL many($piece, 'none', " . quote($call) . ')', stderr => \$stderr);
	}
	is($stderr, '', "$n times: " . substr($call, 0, 120));
}
is(SupervisorTest::leaks($node), '', 'no slot and no task is left over');
is(room(), $room, 'and no byte of shared memory');

# Sessions that end in the middle of everything
for my $i (1 .. 10)
{
	my $session = SupervisorTest::session($node);
	my $pid = $session->pid;

	$session->query_safe(q{
		SELECT count(supervisor.launch('SELECT repeat(''x'', 100000)')), count(supervisor.launch('SELECT pg_sleep(180) --' || repeat('x', 10000)))
		FROM generate_series(1, 5)});
	$session->begin($i % 2 == 0 ?
		q{SELECT count(*) FROM supervisor.run('SELECT i, repeat(''x'', 10000) FROM generate_series(1, 1e9::bigint) i', pool := 'other') AS (a bigint, b text)} :
		q{SELECT * FROM supervisor.execute_all(array_fill('SELECT pg_sleep(180)'::text, ARRAY[20]), 'other')});
	$node->poll_query_until('postgres', "SELECT count(*) > 10 FROM supervisor.task_status WHERE owner_pid = $pid") or die 'no tasks';
	value("SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'the session lives';
	eval { $session->quit };
}
is(SupervisorTest::leaks($node), '', 'tasks of terminated sessions are gone');
is(room(), $room, 'and their shared memory');

is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.worker_status WHERE consecutive_failures > 0 OR restarts > 20}), '0',
	'no worker has failed over any of that');

foreach my $instances (0, 1000)
{
	value("INSERT INTO supervisor.worker (name, command, role, instances) VALUES ('many', 'SELECT 1', 'alice', $instances)");
	ok($node->poll_query_until('postgres', q{
			SELECT array_agg(state || ' ' || reason || ': ' || detail) = ARRAY['failed invalid: instances must be between 1 and 8']
			FROM supervisor.worker_status WHERE name = 'many'}),
		"a row with $instances instances is shown as one failed worker");
	value(q{DELETE FROM supervisor.worker});
	$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'many'}) or die 'it is still there';
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated by signal/, 'nothing has crashed');
$node->stop;

note 'a server that starts with nonsense';

$node->append_conf('postgresql.conf', q{
supervisor.pool_size = -5
supervisor.pools = 'x:y'
supervisor.shared_memory = '1kB'
supervisor.max_tasks = 1});
my $offset = -s $node->logfile;
$node->start;
my $log = slurp_file($node->logfile, $offset);
like($log, qr/supervisor\.$_/, "supervisor.$_ is complained about in the log") foreach qw(pool_size pools shared_memory max_tasks);
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'the server starts with the defaults instead');

$node->stop;
done_testing();
