# Nothing grows: what is done again and again leaves nothing behind, neither memory in
# any process, nor shared memory, segments, slots, processes or files; and the log gets
# no more lines than are due.
#
# Each load is done a tenth as often as it shall be, to warm up, and then for the rest;
# what there is afterwards is compared with what there was in between.  Memory contexts
# are counted to the byte, so a leak of some bytes each time is seen in a short run.
# With PG_TEST_GROWTH set, there are a million tasks, 100,000 restarts, 10,000
# sessions, and so on, and the figures of docs/testing.md are told.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use List::Util qw(max min sum0);
use PostgreSQL::Test::Utils;
use SupervisorTest qw(own_memory until_true used_memory value);
use Time::HiRes qw(time);

plan skip_all => 'reads /proc' if !-e '/proc/self/status';

my $full = $ENV{PG_TEST_GROWTH};

# What is no growth: the caches of a session come and go, the kernel counts pages.
my %noise = (
	'used supervisor' => 1000,
	'used within' => 4000,
	used => 10_000,
	anon => 512 * 1024,
	files => 10,
	room => 2);
# AddressSanitizer and valgrind take memory of the process themselves, and keep what is free
$noise{anon} = 'inf' if SupervisorTest::pg_config('cflags') =~ /-fsanitize|USE_VALGRIND/;

# As many iterations are one statement of the session.
my $at_once = 2000;

my $node = SupervisorTest::new_node(
	'growth',
	'autovacuum' => 'off',
	'deadlock_timeout' => '10s',
	'dynamic_shared_memory_type' => 'mmap',
	'jit' => 'off',
	'log_checkpoints' => 'off',
	'log_statement' => 'none',
	'max_worker_processes' => 20,
	'supervisor.idle_timeout' => 0,
	'supervisor.max_tasks' => 64,
	'supervisor.max_workers' => 8,
	'supervisor.pool_size' => 1,
	'supervisor.restart_delay' => 0,
	'supervisor.restart_window' => 0,
	'supervisor.result_memory' => '256kB',
	'supervisor.shared_memory' => '1MB',
	'supervisor.worker_lifetime' => 0,
	'temp_buffers' => '800kB');

# One session does most of what is done, the other one looks.
my $session = SupervisorTest::session($node);
my $observer = SupervisorTest::session($node);

SupervisorTest::ask(\$observer);

# Runs lines in a session of their own.
sub psql
{
	return $node->safe_psql('postgres', join '', @_);
}

value(q{
	CREATE FUNCTION used() RETURNS bigint LANGUAGE sql AS
		'SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts';

	-- how many large commands there is memory for, and how many tasks
	CREATE FUNCTION room(OUT memory int, OUT tasks int) LANGUAGE plpgsql AS $$
	DECLARE
		launched bigint[] := '{}';
		size int;
	BEGIN
		FOREACH size IN ARRAY ARRAY[20000, 1] LOOP
			BEGIN
				LOOP
					launched := launched || supervisor.launch('SELECT 1 --' || repeat('x', size));
				END LOOP;
			EXCEPTION WHEN out_of_memory OR configuration_limit_exceeded THEN
				memory := coalesce(memory, cardinality(launched));
			END;
		END LOOP;
		tasks := cardinality(launched);
		PERFORM supervisor.forget(task) FROM unnest(launched) task;
	END $$;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
});

note 'what there is';

my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');

sub files
{
	my ($pid) = @_;

	return scalar(() = glob "/proc/$pid/fd/*");
}

# Waits until nothing goes on.
sub quiet
{
	until_true(q{
		SELECT NOT EXISTS (SELECT FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL)
			AND (SELECT bool_and(size = running) FROM supervisor.pool_status)
			AND NOT EXISTS (SELECT FROM supervisor.worker_status WHERE activity = 'busy' OR state NOT IN ('running', 'stopped'))
			AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'supervisor loader')
			-- the table may be read again only a moment later
			AND NOT EXISTS (SELECT name FROM supervisor.worker_status WHERE kind = 'command' AND datname = current_database()
				EXCEPT SELECT name FROM supervisor.worker)});
}

sub pid_of
{
	my ($type) = @_;

	return value("SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");
}

# All that may grow, by name.
sub measure
{
	my $data = $node->data_dir;
	my %is;

	quiet();
	@is{ 'room in memory', 'room for tasks' } = split /\|/, value('SELECT * FROM room()');
	quiet();
	my %pids = (
		supervisor => pid_of('supervisor'),
		worker => pid_of('supervisor pool worker'),
		session => $session->pid);
	$is{"used $_"} = used_memory($node, $pids{$_}) foreach keys %pids;
	$pids{postmaster} = $postmaster;
	$is{"anon $_"} = own_memory($pids{$_}) foreach keys %pids;
	$is{"files $_"} = files($pids{$_}) foreach keys %pids;
	$is{segments} = sum0(map { -s $_ // 0 } glob "$data/pg_dynshmem/mmap.[0-9]*");
	$is{'temporary files'} = () = glob "$data/base/pgsql_tmp/* $data/pg_replslot/*";
	# What comes or goes meanwhile, as a loader may, or a worker that was altered, is not left over.
	my @looks = map { quiet(); scalar(() = SupervisorTest::children($node)) } 1 .. 10;
	@is{ 'server processes', 'most processes' } = (min(@looks), max(@looks));
	$is{workers} = value("SELECT count(*) FROM supervisor.worker_status WHERE kind <> 'loader'");
	return \%is, $pids{worker};
}

sub allowed
{
	my ($name, $noise) = @_;
	my ($kind) = $name =~ /^(\w+)/;

	return ($noise{$name} // $noise{$kind} // 0) + ($kind eq 'used' ? $noise // 0 : 0);
}

my $tasks_of_one_worker = 0;
my $its_pid;

# Does something often, and tests that nothing grows.  $body is what the session does
# as procedure code, with "i" counting, or a sub that does it as often as it is told.
# %opts: events that each brings; warm, the least number to warm up; log, how many bytes each may
# log; noise, of memory contexts, more than otherwise; commits: it ends transactions, for which
# core takes memory until the end of the CALL; one_worker: all in the same process
sub load
{
	my ($what, $few, $many, $body, %opts) = @_;
	my $n = $full ? $many : $few;
	my $warm = max(int($n / 10), $opts{warm} // 0);
	my $events = $opts{events} // 1;
	my $within = 0;
	my $run = $body;

	if (!ref $body)
	{
		value(qq{
			CREATE OR REPLACE PROCEDURE load(n int, INOUT growth bigint DEFAULT 0) LANGUAGE plpgsql AS \$load\$
			DECLARE
				before bigint;
				later bigint;
			BEGIN
				FOR i IN 1 .. n LOOP
					$body;
					IF i % greatest(n / 2, 1) = 0 THEN
						before := later;
						later := used();
					END IF;
				END LOOP;
				growth := later - before;
			END \$load\$});
		$run = sub {
			for (my $left = $_[0]; $left > 0; $left -= $at_once)
			{
				$within = $session->query('CALL load(' . min($left, $at_once) . ')');
				die $session->{stderr} if SupervisorTest::sqlstate($session->{stderr});
			}
		};
	}
	my $start = time;
	$run->($warm);
	my ($before, $worker) = measure();
	my $log = -s $node->logfile;
	$run->($n - $warm);
	quiet();
	$log = ((-s $node->logfile) - $log) / ($n - $warm) / $events;
	my $took = time - $start;
	my ($after, $same_worker) = measure();

	$before->{'server processes'} = delete $before->{'most processes'};
	delete $after->{'most processes'};
	$before->{'used within'} = 0;
	$after->{'used within'} = $opts{commits} ? 0 : $within;
	my @grown = map { "$_: $before->{$_}, then $after->{$_}" }
	  grep { my $more = $after->{$_} - $before->{$_}; (/^room/ ? -$more : $more) > allowed($_, $opts{noise}) }
	  sort keys %$after;
	push @grown, sprintf 'log: %.1f bytes each time', $log if $log > ($opts{log} // 1);
	ok(!@grown, "$what leaves nothing behind") or diag join("\n", @grown);

	if ($opts{one_worker})
	{
		$its_pid //= $worker;
		$tasks_of_one_worker += $n * $events;
		is("$worker $same_worker", "$its_pid $its_pid", 'in the same worker');
	}
	my $line = sprintf '| %s | %s | %s | %s | %.0f |', $what, $n * $events,
	  join(' | ', map { sprintf '%d', $after->{"used $_"} - $before->{"used $_"} } qw(supervisor worker session)),
	  join(' | ', map { sprintf '%d', ($after->{"anon $_"} - $before->{"anon $_"}) / 1024 } qw(postmaster supervisor worker session)), $log;
	$full ? diag(sprintf '%s %.0f s', $line, $took) : note($line);
}

note 'tasks of one worker';

my %one = (one_worker => 1);

load('execute', 1000, 200_000, q{PERFORM supervisor.execute('SELECT 1')}, %one);
load('execute_all', 20, 5000, q{PERFORM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[100]))}, events => 100, %one);
load('run', 1000, 150_000, q{PERFORM * FROM supervisor.run('SELECT 1') AS (x int)}, %one);
load('rows', 200, 5000,
	q{PERFORM count(*) FROM supervisor.run('SELECT i, repeat(''x'', 500) FROM generate_series(1, 1000) i') AS (x int, y text)}, %one);
load('large', 200, 5000,
	q{PERFORM count(x) FROM supervisor.run('SELECT $1 || repeat($2, 200000)', ARRAY[repeat('x', 20000), 'y']) AS (x text)}, %one);
load('launch and result', 500, 50_000, q{PERFORM * FROM supervisor.result(supervisor.launch('SELECT 1')) AS (x int)}, %one);
load('launch and forget', 500, 20_000, q{
	DECLARE
		task bigint := supervisor.launch('SELECT repeat(''x'', 100000)');
	BEGIN
		IF i % 2 = 0 THEN PERFORM supervisor.wait(task); END IF;
		PERFORM supervisor.forget(task);
	END}, %one);
# few of these tasks begin, and the first that does has the worker look up what it needs
$session->query(q{SELECT supervisor.execute('SELECT pg_sleep(0)')});
load('cancel', 500, 20_000, q{
	DECLARE
		task bigint := supervisor.launch('SELECT pg_sleep(60)');
	BEGIN
		PERFORM supervisor.cancel(task);
		PERFORM * FROM supervisor.result(task) AS (x text);
	EXCEPTION WHEN query_canceled THEN
	END}, noise => 20_000, log => 300, %one);
load('error', 500, 50_000, q{
	BEGIN
		PERFORM supervisor.execute('SELECT 1/0');
	EXCEPTION WHEN division_by_zero THEN
	END}, log => 300, %one);
load('timeout of the call', 200, 5000, q{
	BEGIN
		PERFORM supervisor.execute('SELECT pg_sleep(60)', timeout => '1 ms');
	EXCEPTION WHEN query_canceled THEN
	END}, log => 500, %one);
load('timeout of the task', 200, 5000, q{
	BEGIN
		SET LOCAL supervisor.task_timeout = 1;
		PERFORM supervisor.execute('SELECT pg_sleep(60)');
	EXCEPTION WHEN query_canceled THEN
	END}, log => 300, %one);
load('notice', 200, 2000, q{PERFORM supervisor.execute('DO $$ BEGIN RAISE NOTICE ''hello''; END $$')}, %one);
load('perform', 500, 50_000, q{CALL supervisor.perform('SELECT 1')}, commits => 1, %one);
load('settings', 500, 20_000, q{
	SET LOCAL work_mem = '1MB';
	SET LOCAL search_path = pg_catalog, public;
	PERFORM supervisor.execute('SET TimeZone = ''UTC''')}, %one);
load('transactions', 500, 5000,
	q{PERFORM supervisor.execute('BEGIN; SELECT 1; SAVEPOINT s; SELECT 2; ROLLBACK TO s; COMMIT; SELECT 3')}, %one);
load('what a session may leave', 120, 2000, q{PERFORM supervisor.execute('
	CREATE TEMP TABLE t (a int);
	INSERT INTO t VALUES (1);
	CREATE TEMP SEQUENCE s;
	SELECT nextval(''s'');
	PREPARE p AS SELECT 1;
	DECLARE c CURSOR WITH HOLD FOR SELECT 1;
	SELECT pg_advisory_lock(1)')}, warm => 60, noise => 200_000, %one);
diag "$tasks_of_one_worker tasks in one worker" if $full;

note 'restarts';

load('restart_worker', 300, 50_000, q{PERFORM supervisor.restart_worker(0)});
load('terminate_worker', 200, 10_000, q{PERFORM supervisor.terminate_worker(0), supervisor.restart_worker(0)}, log => 500);
load('restart_pool', 100, 10_000, q{PERFORM supervisor.restart_pool('default')});
load('a task ends its worker', 100, 10_000, q{
	BEGIN
		PERFORM supervisor.execute('SELECT pg_terminate_backend(pg_backend_pid())');
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
	END}, log => 1000);
value(q{SELECT supervisor.add_worker('service', 'SELECT 1', run_every => '1 h')});
# it may be running its command, and then two lines are due
load('restart of a declared worker', 100, 10_000, q{PERFORM supervisor.restart_worker('service')}, log => 500);
load('stop and start', 50, 2000, q{
	PERFORM supervisor.stop_worker('service');
	COMMIT;
	PERFORM supervisor.start_worker('service');
	COMMIT}, commits => 1, log => 500);
value(q{
	CREATE SEQUENCE failures INCREMENT -1 MINVALUE -1 MAXVALUE 1000000;
	SELECT supervisor.add_worker('failing', 'SELECT 1 / (nextval(''failures'') < 0)::int',
		restart => 'on_failure', enabled => false)});
load('a declared worker fails', 100, 10_000, sub {
		psql("SELECT setval('failures', $_[0]); SELECT supervisor.start_worker('failing', '0 s')");
		until_true(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'failing'});
	}, log => 1000);
my $library = SupervisorTest::build_library('growing');
value("CREATE FUNCTION start_and_end(text, text) RETURNS void LANGUAGE c AS '$library'");
load('supervisor_start', 100, 2000, qq{PERFORM start_and_end('w' || i, '$library')});
load('restart of the supervisor', 2, 50, sub {
		for (1 .. $_[0])
		{
			my $pid = pid_of('supervisor');

			kill 'TERM', $pid;
			until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $pid");
		}
	}, warm => 1, log => 1000);

note 'declarations and settings';

load('alter_worker', 50, 5000, q{
	PERFORM supervisor.alter_worker('service', restart_delay => i * interval '1 ms');
	COMMIT;
	PERFORM supervisor.start_worker('service');
	COMMIT}, events => 2, commits => 1, log => 500);
load('add_worker and remove_worker', 100, 2000, q{
	PERFORM supervisor.add_worker('w' || i, 'SELECT 1', run_every => '1 h');
	COMMIT;
	PERFORM supervisor.start_worker('w' || i);
	PERFORM supervisor.remove_worker('w' || i);
	COMMIT}, commits => 1, log => 500);
load('a pool comes, another goes', 100, 5000, sub {
		psql(map { sprintf "ALTER SYSTEM SET supervisor.pools = 'p%d:%d';\nSELECT pg_reload_conf();\n", $_ % 100, 1 + $_ % 3 } 1 .. $_[0]);
		SupervisorTest::set($node, 'supervisor.pools' => '');
	}, log => 1000);

note 'sessions';

load('sessions that go', 60, 10_000, sub {
		psql(map { (
			"SELECT supervisor.execute('SELECT 1');\n\\c\n",
			"SELECT supervisor.launch('SELECT repeat(''x'', 100000)');\n\\c\n",
			"SELECT supervisor.launch('SELECT pg_sleep(0.001)') FROM generate_series(1, 10);\n\\c\n",
			"SELECT supervisor.wait(supervisor.launch('SELECT repeat(''x'', 100000)'));\n\\c\n")[ $_ % 4 ] } 1 .. $_[0]);
	}, log => 500);
load('sessions that are terminated', 20, 500, sub {
		$node->psql('postgres', q{
			SELECT supervisor.launch('SELECT pg_sleep(0.001)') FROM generate_series(1, 10);
			SELECT pg_terminate_backend(pg_backend_pid())}) for 1 .. $_[0];
	}, log => 1000);

note 'binds';

# More than there can be at once.
my $roles = 100;
value(join '', map { "CREATE ROLE r$_ LOGIN;\n" } 0 .. $roles - 1);
load('binds to other roles', 200, 5000,
	qq{PERFORM set_config('role', 'r' || i % $roles, true); PERFORM supervisor.execute('SELECT 1'); RESET ROLE},
	warm => $roles);
# superusers, since others would be held back
value(q{
	ALTER ROLE r1 SUPERUSER;
	CREATE ROLE nothing SUPERUSER LOGIN;
	ALTER ROLE nothing SET session_preload_libraries = 'no_such_library';
	CREATE ROLE staff;
	CREATE ROLE guest LOGIN;
	GRANT CONNECT ON DATABASE postgres TO nothing, staff, r1;
	REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
load('failed binds', 100, 10_000, q{
	BEGIN
		PERFORM set_config('role', 'nothing', true);
		PERFORM supervisor.execute('SELECT 1');
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
	END}, log => 1000);
load('refused roles', 200, 10_000, q{
	BEGIN
		PERFORM set_config('role', CASE i % 2 WHEN 0 THEN 'staff' ELSE 'guest' END, true);
		PERFORM supervisor.execute('SELECT 1');
		RAISE 'it works';
	EXCEPTION WHEN invalid_authorization_specification THEN
	END});
load('roles that lose LOGIN', 20, 1000, q{
	DECLARE
		first bigint;
		task bigint;
	BEGIN
		PERFORM pg_advisory_lock(1);
		first := supervisor.launch('SELECT pg_advisory_xact_lock(1)');
		SET LOCAL ROLE r1;
		task := supervisor.launch('SELECT 1');
		RESET ROLE;
		ALTER ROLE r1 NOLOGIN;
		COMMIT;
		PERFORM pg_advisory_unlock(1), supervisor.wait(first);
		SET LOCAL ROLE r1;
		IF supervisor.wait(task) <> 'failed' THEN RAISE 'it works'; END IF;
		PERFORM supervisor.forget(task);
		RESET ROLE;
		PERFORM supervisor.forget(first);
		ALTER ROLE r1 LOGIN;
		COMMIT;
	END}, commits => 1, log => 1500);
value('GRANT CONNECT ON DATABASE postgres TO PUBLIC');

note 'DDL on databases';

value("CREATE DATABASE base_$_") foreach 1 .. 2;
$node->safe_psql('base_1', q{
	CREATE EXTENSION supervisor;
	SELECT supervisor.add_worker('there', 'SELECT 1', run_every => '1 h')});
load('RENAME', 20, 500, sub {
		psql((q{
			\c base_1
			SELECT supervisor.execute('SELECT 1');
			\c postgres
			ALTER DATABASE base_1 RENAME TO base_3;
			ALTER DATABASE base_3 RENAME TO base_1;
		}) x $_[0]);
	}, log => 500);
value('DROP DATABASE base_1');
load('CREATE and DROP', 4, 200, sub {
		psql(map { "CREATE DATABASE base_4;\nDROP DATABASE base_4;\n" } 1 .. $_[0]);
	}, warm => 1, log => 500);

$_->quit foreach $session, $observer;
done_testing();
