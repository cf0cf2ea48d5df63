# Garbage for every function of the extension, from several sessions at once, in every place where a
# function can be called: nothing crashes, hangs or leaks, and no error is an internal one.
#
# PG_TEST_FUZZ_SECONDS says for how long (60), 0 for not at all.  With the PG_TEST_FUZZ_SEED that an earlier run has
# printed the calls are the same; when they meet is up to the machine.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value);

my $seconds = $ENV{PG_TEST_FUZZ_SECONDS} // 60;
plan skip_all => 'PG_TEST_FUZZ_SECONDS is 0' if !$seconds;
my $seed = $ENV{PG_TEST_FUZZ_SEED} || 1 + time % 1_000_000;
srand($seed);
note "PG_TEST_FUZZ_SECONDS=$seconds PG_TEST_FUZZ_SEED=$seed";

my $per_batch = 100;
my $node = SupervisorTest::new_node(
	'garbage',
	'max_worker_processes' => 20,
	'max_prepared_transactions' => 10,
	'deadlock_timeout' => '50ms',
	'log_statement' => 'none',
	'log_min_error_statement' => 'panic',
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'batch:1, none:0',
	'supervisor.max_workers' => 10,
	'supervisor.max_tasks' => 64,
	'supervisor.shared_memory' => '4MB',
	'supervisor.result_memory' => '256kB',
	'supervisor.restart_delay' => '50ms',
	'supervisor.restart_delay_max' => '1s',
	'supervisor.stop_timeout' => '1s');

SupervisorTest::ask(\$node);

# One of its arguments.
sub any
{
	return $_[ int rand @_ ];
}

# With that chance, out of 100.
sub chance
{
	return rand 100 < $_[0];
}

# Any string of bytes as a literal that psql leaves alone.
sub literal
{
	my ($bytes) = @_;

	return "E'" . $bytes =~ s/([^A-Za-z0-9_ (),.=*\/+-])/sprintf '\x%02X', ord $1/ger . "'";
}

value(q{
	CREATE ROLE fuzz LOGIN;
	GRANT pg_read_all_stats TO fuzz;
	CREATE ROLE other LOGIN;
	CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
foreach my $dbname ('postgres', 'bytes')
{
	value(q{CREATE EXTENSION IF NOT EXISTS supervisor}, dbname => $dbname);
	value(q{
		GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO fuzz;
		GRANT CREATE ON SCHEMA public TO fuzz;
		CREATE TYPE pair AS (a int, b text);
		CREATE DOMAIN small AS int CHECK (VALUE < 10);
		CREATE TABLE t (a int PRIMARY KEY, b text);
		GRANT ALL ON t TO PUBLIC;
		-- where a function may be called
		CREATE FUNCTION caught(call text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN EXECUTE call; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;
		CREATE FUNCTION undone(call text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN
				BEGIN EXECUTE call; RAISE 'undone'; EXCEPTION WHEN OTHERS THEN NULL; END;
				EXECUTE call;
				RETURN 'done';
			END $$;
		CREATE FUNCTION in_parallel(call text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
			BEGIN EXECUTE call; RETURN 'done'; END $$;
		CREATE FUNCTION as_definer(call text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
			BEGIN EXECUTE call; RETURN 'done'; END $$;
		CREATE FUNCTION t_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF NEW.b LIKE 'SELECT%' THEN EXECUTE NEW.b; END IF; RETURN NULL; END $$;
		CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION t_trigger();
		CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION t_trigger()},
		dbname => $dbname);
}

# All functions that there are: name, kind, names and types of the arguments, and how many may be left out.
my @functions = map { [ split /\|/ ] } split /\n/, value(q{
	SELECT proname, prokind, array_to_string(proargnames[1:pronargs], ','),
		(SELECT string_agg(format_type(a, NULL), ',' ORDER BY n) FROM unnest(proargtypes) WITH ORDINALITY u(a, n)),
		pronargdefaults, prorettype = 'record'::regtype AND proallargtypes IS NULL
	FROM pg_proc WHERE pronamespace = 'supervisor'::regnamespace AND prorettype <> 'trigger'::regtype
	ORDER BY oid::regprocedure::text});
cmp_ok(scalar @functions, '>=', 20, 'there are functions');

my @odd_text = (
	'', ' ', "\n", "\0" x 0, 'default', 'batch', 'none', 'x', "caf\xC3\xA9", "\xF0\x9F\x92\xA9", "\xE2\x80\xAE", "\x01\x7F",
	'%s%n%d', '$1', '{}', '{NULL}', "'", '"', '\\', ';', '--', '/*', '*', '..', '/etc/passwd', 'postgres', 'fuzz', 'public', 'NULL',
	'w1', 'w2', 'w3', 'W1', 'worker', 'p' x 63, 'p' x 64, "\xC3\xA9" x 32);
my @commands = (
	'SELECT 1', 'SELECT 1; SELECT 2', 'SELECT', 'TABLE pg_class', 'VALUES (1, $$a$$)', q{SELECT repeat('x', 300000)},
	q{SELECT repeat('x', 100) FROM generate_series(1, 5000)}, 'SELECT pg_sleep(0.02)', 'SELECT pg_sleep(10)', 'SELECT 1/0',
	'SELECT $1', 'SELECT $1::int + $2::int', 'SELECT $1, $2', 'SELECT $65535', 'SELECT $99999999999', 'SELECT ROW(1, 2)',
	q{SELECT ROW(1, 'a')::pair}, 'SELECT ARRAY[1, 2]', 'SELECT 1::small', 'SELECT NULL', q{SELECT 'x'::unknown}, 'SELECT t FROM t',
	'BEGIN', 'COMMIT', 'ROLLBACK', 'BEGIN; SELECT 1', 'BEGIN; SELECT 1/0; COMMIT', 'SAVEPOINT a', 'BEGIN; SAVEPOINT a; SELECT 1; COMMIT',
	'ABORT; BEGIN; ABORT', q{BEGIN; CREATE TABLE pg_temp.two (a int); PREPARE TRANSACTION 'two'}, q{PREPARE TRANSACTION 'none'},
	'COMMIT AND CHAIN', 'START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT 1; COMMIT',
	'DISCARD ALL', 'RESET ALL', 'SET ROLE other', 'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION',
	'SET search_path = pg_temp', 'SET client_encoding = LATIN1', q{SET client_encoding = 'SQL_ASCII'}, 'SET statement_timeout = 1',
	'SET exit_on_error = on; SELECT 1/0', 'SET transaction_read_only = on', 'SET client_min_messages = debug5; SELECT 1', 'SET lock_timeout = 1',
	'CREATE TEMP TABLE x (a int)', 'CREATE TEMP TABLE x AS SELECT generate_series(1, 1000) a; DROP TABLE x', 'VACUUM t', 'ANALYZE t',
	'INSERT INTO t SELECT 1', q{INSERT INTO t VALUES (2, '') ON CONFLICT DO NOTHING RETURNING *}, 'UPDATE t SET b = NULL', 'DELETE FROM t RETURNING a',
	'LOCK TABLE t', 'BEGIN; LOCK TABLE t; SELECT pg_sleep(0.02); COMMIT', 'CREATE INDEX CONCURRENTLY ON t (b)', 'REINDEX TABLE CONCURRENTLY t',
	'COPY t TO STDOUT', 'COPY t FROM STDIN', q{COPY t TO '/nowhere/x'}, 'LISTEN a', 'UNLISTEN *', q{NOTIFY a, 'b'}, 'SHOW ALL', 'EXPLAIN ANALYZE TABLE t',
	'PREPARE p AS SELECT 1', 'EXECUTE p', 'PREPARE q AS SELECT 1; EXECUTE q', 'DEALLOCATE ALL', 'DECLARE c CURSOR WITH HOLD FOR TABLE t',
	'BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH ALL FROM c; COMMIT', 'FETCH ALL FROM c', 'CLOSE ALL', 'SELECT pg_advisory_lock(1)',
	q{DO 'BEGIN RAISE NOTICE ''%'', repeat(''n'', 1000); END'}, q{DO $$ BEGIN RAISE '%', repeat('e', 400000); END $$},
	q{DO $$ BEGIN FOR i IN 1..500 LOOP RAISE NOTICE '%', repeat('n', 1000); END LOOP; END $$}, q{DO $$ BEGIN COMMIT; ROLLBACK; END $$},
	q{DO $$ BEGIN PERFORM pg_sleep(0.1); EXCEPTION WHEN query_canceled THEN NULL; END $$}, 'SELECT lo_creat(-1)', 'SELECT lo_open(1, 1)',
	'SELECT pg_terminate_backend(pg_backend_pid())', 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(0.1)', 'SELECT set_config(name, setting, false) FROM pg_settings',
	'CALL supervisor.perform($$SELECT 1$$)', 'SELECT supervisor.execute($$SELECT 1$$)', 'SELECT supervisor.launch($$SELECT pg_sleep(10)$$)',
	'SELECT supervisor.forget(supervisor.launch($$SELECT 1$$))', 'SELECT count(*) FROM supervisor.worker_status', 'SELECT supervisor.cancel(max(task)) FROM supervisor.task_status',
	'SELECT supervisor.restart_pool(timeout => $$0$$)', 'SELEC', 'SELECT (((', '(' x 3000, ')', "\xFF\xFE", "SELECT '\xC3'", "SELECT '\xC3\xA9'", "SELECT 'open", '/* open', '$$',
	'SELECT /*' . '/*' x 200 . '*/' x 200 . '*/ 1', '-- concurrently', 'CREATE INDEX CONCURRENTLY', 'SELECT 1 ' . '+ 1' x 5000, 'SELECT ' . '-' x 400 . '1');

# A worker that exists, or a name that is as good as any.
sub worker_name
{
	return any('w1', 'w2', 'w3', any(@odd_text));
}

# An argument of that type, as SQL; $name is what it is for.
sub argument
{
	my ($name, $type) = @_;

	return 'NULL' if chance(8);
	if ($type eq 'text' || $type eq 'name')
	{
		return literal(any(@commands)) if $name eq 'command' && chance(85);
		return literal(any('default', 'batch', 'none', 'default')) if $name eq 'pool' && chance(80);
		return literal(worker_name()) if $name eq 'name' && chance(90);
		return literal(any('fuzz', 'other', 'postgres', 'nobody', 'public', 'none')) if $name eq 'role';
		# what any other library would do here is its own affair
		return literal(any('plpgsql', 'nothing', '', '/', '$libdir/plpgsql')) if $name eq 'library';
		return literal(any('_PG_init', '_PG_init', 'nothing', '')) if $name eq 'function';
		return literal(any('always', 'on_failure', 'never', 'Never')) if $name eq 'restart' && chance(80);
		return literal(any('recovery_finished', 'consistent_state', 'x')) if $name eq 'start_after' && chance(80);
		return any(q{repeat('x', 1000000)}, q{repeat('x', 20000000)}, q{repeat(E'\u00e9', 3000)}, q{convert_from('\xff00', 'LATIN1')}, q{chr(1114111)},
			q{(SELECT string_agg(chr(i), '') FROM generate_series(1, 300) i)})
		  if chance(4);
		return literal(join '', map { chr(1 + rand 255) } 1 .. rand 90) if chance(10);
		return literal(any(@odd_text));
	}
	if ($type eq 'text[]')
	{
		return any('NULL', q{'{}'}, q{'{NULL}'}, q{'{{1,2},{3,4}}'}, q{'[5:6]={7,8}'}, q{array_fill('SELECT 1'::text, ARRAY[100])},
			q{array_fill(NULL::text, ARRAY[1000000])}, q{array_fill('x'::text, ARRAY[3, 0])}, q{ARRAY[repeat('1', 3000000)]}) if chance(40);
		return 'ARRAY[' . join(',', map { argument($name eq 'commands' ? 'command' : '', 'text') } 1 .. 1 + rand 4) . ']::text[]';
	}
	if ($type eq 'bigint')
	{
		# tasks that this session has launched, or any
		return any(q{(SELECT max(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid())},
			q{(SELECT min(task) FROM supervisor.task_status)}, q{supervisor.launch('SELECT 1')}, q{supervisor.launch('SELECT pg_sleep(10)')},
			q{(SELECT max(generation) FROM supervisor.worker_status)})
		  if chance(75);
		return any(0, 1, 2, -1, '9223372036854775807', '(-9223372036854775808)', int rand 1000);
	}
	return any(0 .. 10, 10, 11, -1, 1, 100, 1024, 2147483647, '(-2147483648)') if $type eq 'integer';
	return any('true', 'false') if $type eq 'boolean';
	if ($type eq 'interval')
	{
		return any(map { "'$_'" } '0', '1 us', '1 ms', '50 ms', '200 ms', '1 s') if chance(75);
		return any(map { "'$_'" } '-1 ms', '1 month', '-1 month 31 days', '1 month -30 days', '178000000 years', '-178000000 years', '24 days',
			'596 hours', '2147483647 days', '292471 years', $node->pg_version >= 17 ? ('infinity', '-infinity') : ('25 days'));
	}
	return any('NULL', literal(any(@odd_text)) . "::$type");
}

# A call of any function, as one statement that returns something.
sub call
{
	my ($name, $kind, $names, $types, $defaults, $is_record) = @{ any(@functions) };
	my @names = split /,/, $names // '';
	my @types = split /,/, $types // '';
	my $n = @types - int rand($defaults + 1);
	my $arguments;

	if (chance(50))
	{
		$arguments = join ', ', map { argument($names[$_], $types[$_]) } 0 .. $n - 1;
	}
	else
	{
		# by name: those that are needed, and any of the others
		$arguments = join ', ', map { "$names[$_] => " . argument($names[$_], $types[$_]) }
		  grep { $_ < @types - $defaults || chance(30) } 0 .. $#types;
	}
	my $call = "supervisor.$name($arguments)";

	return "CALL $call" if $kind eq 'p';
	return "SELECT $call" if chance($is_record eq 't' ? 5 : 60);
	return "SELECT count(*) FROM $call" . ($is_record ne 't' ? '' : ' AS (' . any(
		'a int', 'a text', 'a text', 'a int, b text', 'a pair', 'a record', 'a small', 'a int[]', 'a unknown', 'a void', 'a varchar(3)',
		'LIKE t', 'a int, a int', 'a pg_class', join(', ', map { "c$_ int" } 1 .. 1600)) =~ s/LIKE t/a int, b text/r . ')');
}

# The same, at any place.
sub statement
{
	my $call = call();
	my $text = '$call$' . $call . '$call$';

	return $call if chance(40) || $call =~ /\$call\$/;
	return any(
		"SELECT caught($text)", "SELECT undone($text)", "SELECT as_definer($text)",
		"DO \$do\$ BEGIN $call; EXCEPTION WHEN OTHERS THEN NULL; END \$do\$" =~ s/BEGIN SELECT/BEGIN PERFORM/r,
		"DO \$do\$ BEGIN $call; COMMIT; $call; ROLLBACK; END \$do\$" =~ s/(BEGIN|COMMIT;) SELECT/$1 PERFORM/gr,
		"BEGIN READ ONLY; $call; ROLLBACK", "BEGIN; $call; ROLLBACK",
		"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; $call; COMMIT",
		"BEGIN; SAVEPOINT a; $call; ROLLBACK TO a; $call; COMMIT",
		"BEGIN; INSERT INTO t SELECT coalesce(max(a), 0) + 1, $text FROM t; ROLLBACK",
		"BEGIN; INSERT INTO t SELECT coalesce(max(a), 0) + 1, 'x' FROM t; UPDATE t SET b = $text; COMMIT",
		# what may wait for ever must not do so in COMMIT, which has no timeout
		"BEGIN; DECLARE c NO SCROLL CURSOR WITH HOLD FOR $call; @{[ $call =~ /worker|pool|wait|result/ ? 'FETCH ALL FROM c; ' : '' ]}COMMIT; FETCH 1 FROM c; CLOSE c",
		"BEGIN; SET LOCAL ROLE other; $call; COMMIT", "BEGIN; SET LOCAL search_path = pg_temp, public; $call; ROLLBACK",
		"SET @{[ $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode' ]} = on; SELECT in_parallel($text); SELECT in_parallel($text) FROM pg_class LIMIT 1; RESET ALL",
		"EXPLAIN (ANALYZE, COSTS off) $call", "PREPARE p AS $call; EXECUTE p; EXECUTE p; DEALLOCATE p",
		"CREATE TEMP TABLE x AS $call; DROP TABLE x", "BEGIN; $call; PREPARE TRANSACTION 'x'", "ROLLBACK PREPARED 'x'",
		"SELECT supervisor.execute($text)", "SELECT supervisor.launch($text)", "SELECT (SELECT caught($text)) FROM generate_series(1, 3)",
		"BEGIN; SET LOCAL @{[ any(q{work_mem = '64kB'}, 'standard_conforming_strings = off', 'IntervalStyle = iso_8601', 'DateStyle = German',
			'client_min_messages = debug5', 'supervisor.task_timeout = 1', 'lock_timeout = 1', 'default_transaction_read_only = on', 'quote_all_identifiers = on',
			'exit_on_error = off', q{my.own = 'x'}, q{client_encoding = 'LATIN1'}, q{client_encoding = 'EUC_JP'}) ]}; $call; COMMIT");
}

# What a session keeps, beside what it has looked up.
my $memory = q{
	SET statement_timeout = 0;
	SELECT 'memory ' || sum(total_bytes) FROM pg_backend_memory_contexts
	WHERE name !~ '^(Cache|Cached|index info|relation rules|partition|plpgsql|PL/pgSQL|SQL function|Type|Operator|Record|Relcache|RI|Rendezvous|Portal|Message|Executor|Expr|Transaction|TopTransaction|TopPortal|PrepareStmt|Prepared|Temporary|Table function|unnamed|GUC|Tuple|Grand|Timezones|Regexp)';
};

my @sessions = (
	{ name => 'a role', user => 'fuzz', dbname => 'postgres' },
	{ name => 'a superuser', dbname => 'postgres' },
	{ name => 'a role, SQL_ASCII', user => 'fuzz', dbname => 'bytes' },
	{ name => 'a superuser, SQL_ASCII', dbname => 'bytes' });

# How much the pool takes when nobody uses it.
sub room
{
	value(q{
		SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \gexec
		SELECT supervisor.remove_worker(name) FROM supervisor.worker}, dbname => $_) foreach ('postgres', 'bytes');
	value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker'});
	SupervisorTest::wait_true($node, q{
		SELECT (SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL)
		AND (SELECT count(*) = 4 AND bool_and(state = 'running' AND kind = 'pool' AND activity <> 'busy') FROM supervisor.worker_status)},
		'the pools are not whole');
	my $n = 0;
	my $session = SupervisorTest::session($node);
	$session->query_safe(q{SELECT pg_advisory_lock(1)});
	$n++ until defined(($session->error_of(q{SELECT supervisor.launch('SELECT pg_advisory_lock_shared(1) --' || repeat('x', 100000))}))[0]);
	$session->quit;
	SupervisorTest::wait_true($node, q{SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'tasks are left');
	return $n;
}

SupervisorTest::wait_ready($node, 'default', 3);
SupervisorTest::wait_ready($node, 'batch', 1);
my $room = room();
note "room for $room commands";

my $dir = PostgreSQL::Test::Utils::tempdir();
my $end = time + $seconds;
my $batches = 0;
my (%states, @internal, @grown, @stuck);
while (time < $end && !@stuck)
{
	my @runs;

	$batches++;
	foreach my $i (0 .. $#sessions)
	{
		my $s = $sessions[$i];
		my $file = "$dir/$i.sql";
		my $sql = "\\set VERBOSITY verbose\nSET client_min_messages = error;\n";

		foreach my $n (1 .. $per_batch)
		{
			$sql .= $memory if $n == $per_batch / 2;
			$sql .= "SET statement_timeout = '400ms';\n" . statement() . ";\nROLLBACK;\n";
		}
		$sql .= $memory;
		append_to_file("$file.new", $sql);
		rename "$file.new", $file;
		my $run = { session => $s, file => $file, out => '', err => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default * 5) };
		$run->{handle} = IPC::Run::start(
			# where COMMIT runs the query of a cursor, there is no other timeout
			[ 'psql', '-XAtq', '-d', $node->connstr($s->{dbname}) . q{ options='-c lock_timeout=1s'}, $s->{user} ? ('-U', $s->{user}) : (), '-f', $file ],
			'<', \'', '>', \$run->{out}, '2>', \$run->{err}, $run->{timer});
		push @runs, $run;
	}
	foreach my $run (@runs)
	{
		my $name = $run->{session}{name};

		# one that can't be canceled is the only thing that takes so long
		if (!eval { $run->{handle}->finish; 1 })
		{
			push @stuck, "$name: $@";
			diag($run->{err} =~ s/.*(?=(.{3000})\z)//sr);
			$run->{handle}->kill_kill;
			next;
		}
		push @stuck, "$name: " . $run->{err} =~ s/.*(?=(.{1000})\z)//sr if $run->{handle}->result != 0;
		my @lines = split /\n/, $run->{err};
		my $line;
		foreach my $i (0 .. $#lines)
		{
			$line = $1 if $lines[$i] =~ /:(\d+): (?:ERROR|FATAL|PANIC):  /;
			next if $lines[$i] !~ /(?:ERROR|FATAL|PANIC):  ((\w\w)\w{3}: .*)/;
			my $message = $1;
			$states{ substr $message, 0, 5 }++;
			push @internal, "$name: $message: " . substr((split /\n/, slurp_file($run->{file}))[ $line - 1 ], 0, 500) if $2 eq 'XX';
		}
		my @memory = $run->{out} =~ /^memory (\d+)$/mg;
		next if @memory != 2;
		$run->{session}{compared} = 1;
		push @grown, "$name: @memory" if $memory[1] > $memory[0] + 1_000_000;
	}
}
note "$batches batches of $per_batch calls in " . @sessions . ' sessions';
note join ', ', map { "$_: $states{$_}" } sort keys %states;

is(join("\n", @stuck), '', 'every call returns, and no session ends');
is(join("\n", @internal), '', 'no error is an internal one');
is(join("\n", @grown), '', 'no session grows');
is(join(', ', map { $_->{name} } grep { !$_->{compared} } @sessions), '', 'each has told what it has');
cmp_ok(scalar keys %states, '>=', 10, 'there are many ways to be refused');
cmp_ok(abs(room() - $room), '<=', 1, 'all is as before: the pools, tasks, shared memory, but where its free pages lie');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'fuzz'), 'SELECT 1', 'and works');
SupervisorTest::log_is_clean($node);

$node->stop;
done_testing();
