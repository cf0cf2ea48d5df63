# Crashes and shutdowns while tasks run and wait: afterwards the pool is whole and
# knows of nothing that was, and no process is left that should not be.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(eventually survivors until_true);

if ($PostgreSQL::Test::Utils::windows_os)
{
	plan skip_all => 'needs signals';
}

my $node = SupervisorTest::new_node(
	'crash',
	'restart_after_crash' => 'on',
	'max_connections' => 30,
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'one:1',
	'supervisor.max_tasks' => 200);

SupervisorTest::wait_ready($node, 'default', 3);
SupervisorTest::wait_ready($node, 'one', 1);
$node->safe_psql('postgres', q{
	CREATE TABLE done (what text, pid int DEFAULT pg_backend_pid());
	CREATE DATABASE other});

SupervisorTest::ask(\$node);

sub sleeping
{
	my ($n) = @_;

	until_true(
		qq{SELECT count(*) = $n FROM pg_stat_activity
		   WHERE backend_type = 'supervisor pool worker' AND wait_event = 'PgSleep'},
		"$n tasks sleep");
}

# All processes of the server, but the postmaster.
sub processes
{
	return split / /, $node->safe_psql('postgres', q{
		SELECT string_agg(DISTINCT pid::text, ' ') FROM (
			SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()
			UNION ALL
			SELECT pid FROM supervisor.worker_status) p
		WHERE pid IS NOT NULL});
}

# Sessions that use the pool in all ways.
sub load
{
	my @s = map { SupervisorTest::session($node) } 1 .. 6;

	$s[0]->begin(q{SELECT supervisor.execute('SELECT pg_sleep(1000)')});
	$s[1]->begin(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[1000000]))});
	$s[2]->query_safe(q{
		SELECT supervisor.launch('SELECT repeat(''x'', 100000)') FROM generate_series(1, 3);
		SELECT supervisor.launch('SELECT pg_sleep(1000)', pool => 'one');
		SELECT supervisor.launch('INSERT INTO done VALUES (''queued'')', pool => 'one') FROM generate_series(1, 5);
		SELECT supervisor.forget(supervisor.launch('INSERT INTO done VALUES (''forgotten'')', pool => 'one'))});
	$s[3]->begin(q{SELECT count(*) FROM supervisor.run('SELECT repeat(''x'', 1000) FROM generate_series(1, 100000000)') AS (a text)});
	$s[4]->query_safe('BEGIN; ALTER DATABASE other RENAME TO another');
	$s[5]->begin(q{SELECT supervisor.wait(supervisor.launch('SELECT pg_sleep(1000)', pool => 'one'))});
	until_true(q{
		SELECT count(*) FILTER (WHERE state = 'running') >= 3 AND count(*) FILTER (WHERE state = 'queued') >= 6
		FROM supervisor.task_status}, 'tasks run and wait');
	return @s;
}

sub unload
{
	foreach my $session (@_)
	{
		eval { $session->quit };
	}
}

# What must be true of a server that has just come up.
sub is_whole
{
	my ($name) = @_;

	until_true('SELECT true', 'the server is up');
	SupervisorTest::wait_ready($node, 'default', 3);
	SupervisorTest::wait_ready($node, 'one', 1);
	pass("$name: the pool is whole");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}),
		'0', "$name: no task is left");
	is($node->safe_psql('postgres', q{
			SELECT sum(queued_tasks), sum(busy), sum(tasks_succeeded + tasks_failed + tasks_canceled) FROM supervisor.pool_status}),
		'0|0|0', "$name: the counters begin anew");
	is($node->safe_psql('postgres', q{
			SELECT count(*), count(DISTINCT pid), count(DISTINCT slot), bool_and(state = 'running'), max(restarts)
			FROM supervisor.worker_status}),
		'4|4|4|t|0', "$name: each slot has one process");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'supervisor'}),
		'1', "$name: there is one supervisor");
	# When the session ends before the worker does, that one may still come to what was forgotten.
	is($node->safe_psql('postgres', q{
			SELECT count(*) FROM done WHERE what = 'queued' OR pid IN (SELECT pid FROM supervisor.worker_status)}),
		'0', "$name: what was queued is not run later");
	is($node->safe_psql('postgres', q{
			SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[500])) WHERE tag = 'SELECT 1'}),
		'500', "$name: tasks run");
	is($node->safe_psql('postgres', q{SELECT n FROM supervisor.run('SELECT 2', pool => 'one') AS (n int)}),
		'2', "$name: in the other pool as well");
	is($node->safe_psql('postgres', q{
			SELECT sum(tasks_succeeded), sum(tasks_failed + tasks_canceled) FROM supervisor.pool_status}),
		'501|0', "$name: and are counted");
	is($node->psql('postgres', q{ALTER DATABASE other RENAME TO another}), 0, "$name: no fence is left");
	$node->safe_psql('postgres', q{ALTER DATABASE another RENAME TO other});
}

note 'crashes';

my %victims = (
	'a busy worker' => q{SELECT pid FROM supervisor.worker_status WHERE activity = 'busy' LIMIT 1},
	'an unbound worker' => q{SELECT pid FROM supervisor.worker_status WHERE activity = 'unbound' LIMIT 1},
	'the supervisor' => q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'},
	'a session that reads' => q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%supervisor.run%' AND pid <> pg_backend_pid()
		AND backend_type = 'client backend'});
foreach my $victim (sort keys %victims)
{
	# one pool has an unbound worker only as long as nothing has run there
	my @s = $victim eq 'an unbound worker' ? () : load();
	if (!@s)
	{
		$node->restart;
		SupervisorTest::wait_ready($node, 'default', 3);
		SupervisorTest::wait_ready($node, 'one', 1);
		@s = (SupervisorTest::session($node));
		$s[0]->begin(q{SELECT supervisor.execute('SELECT pg_sleep(1000)')});
		sleeping(1);
	}
	my @before = processes();
	my $log = -s $node->logfile;
	my $pid = $node->safe_psql('postgres', $victims{$victim});

	kill 'KILL', $pid or die "could not kill $pid: $!";
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
	is(survivors(@before), '', "crash of $victim: all processes have ended");
	unload(@s);
	is_whole("crash of $victim");
}

# The session that goes on is a new one, of the same client.
my $session = SupervisorTest::session($node);
$session->query_safe(q{
	SELECT supervisor.launch('SELECT pg_sleep(1000)');
	SELECT supervisor.launch('SELECT pg_sleep(1000)', pool => 'one') FROM generate_series(1, 3)});
sleeping(2);
my $log = -s $node->logfile;
kill 'KILL', $node->safe_psql('postgres', q{SELECT min(pid) FROM supervisor.worker_status WHERE activity = 'busy'});
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
until_true('SELECT true', 'the server is up');
sub dropped
{
	return join ' - ', slurp_file($node->logfile, $log) =~ /LOG:  (.*dropped).*\n.*DETAIL:  (.*)/g;
}
is(dropped(), '4 tasks of supervisor that had not ended were dropped - Queued: 2, running: 2.', 'the log tells how many tasks a crash has dropped');
$session->reconnect_and_clear;
like($session->query(q{SELECT 'it ' || n FROM supervisor.run('SELECT ''runs''::text') AS (n text)}),
	qr/^it runs$/m, 'a client that connects again can go on');
my (undef, $stderr) = $session->error_of('SELECT supervisor.wait(1)');
like($stderr, qr/ERROR:  (42704|55000)/, 'a task from before is nobody\'s');
$session->quit;

# These end at once, so that it is seen who has run.
SupervisorTest::set($node, 'supervisor.restart_delay' => '1h', 'supervisor.restart_delay_max' => '1h');
until_true(q{SELECT current_setting('supervisor.restart_delay') = '1h'}, 'the setting is there');
$node->safe_psql('postgres', q{
	SELECT supervisor.add_worker('c_function', library => 'plpgsql', function => '_PG_init', restart => 'never');
	SELECT supervisor.add_worker('command', 'SELECT 1')});
my $ended = q{SELECT bool_and(state = 'stopped' AND reason = 'exited') FROM supervisor.worker_status
	WHERE name = ANY ('%s'::text[]) HAVING count(*) = cardinality('%1$s'::text[])};
until_true(sprintf($ended, '{c_function,command}'), 'both have run');
$log = -s $node->logfile;
kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
until_true(sprintf($ended, '{command}'), 'the command has run again');
like($node->safe_psql('postgres', q{SELECT state, detail FROM supervisor.worker_status
		WHERE name = 'c_function' AND restart_at > now() + '30 min'::interval}),
	qr/^backoff\|the server has crashed(?:, \d+ times in a row)?$/, 'after a crash a C function waits, a command does not');
$node->safe_psql('postgres', q{SELECT supervisor.remove_worker(name) FROM supervisor.worker;
	ALTER SYSTEM RESET ALL});
$node->reload;

note 'shutdown';

foreach my $mode ('fast', 'immediate')
{
	foreach my $round (1, 2)
	{
		my @s = load();
		my @before = processes();

		$node->stop($mode);
		is(survivors(@before), '', "$mode shutdown under load, round $round: no process is left");
		unload(@s);
		$node->start;
		is_whole("$mode shutdown, round $round");
	}
}
$node->safe_psql('postgres', q{
	SELECT supervisor.execute('SELECT 1');
	SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(1000)'))});
my @before = processes();
$node->stop('smart');
is(survivors(@before), '', 'smart shutdown, when no client is there: no process is left');
$node->start;
is_whole('smart shutdown');

note 'processes that stand still';

$session = SupervisorTest::session($node);
my ($sqlstate);
$session->begin(q{SELECT supervisor.execute('SELECT pg_sleep(1000)', pool => 'one', timeout => '2 s')});
sleeping(1);
my $worker = q{SELECT pid || ' ' || generation FROM supervisor.worker_status WHERE pool = 'one'};
my $before = $node->safe_psql('postgres', $worker);
my ($pid) = split / /, $before;
kill 'STOP', $pid or die "could not stop $pid: $!";
(undef, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '57014', 'a call times out though its worker stands still');
($sqlstate) = $session->error_of(q{SELECT supervisor.execute('SELECT 1', pool => 'one', timeout => '100 ms')});
is($sqlstate, '57014', 'the next one in its pool, too');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'other pools are not affected');
is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL}),
	'0', 'nobody owns its task any more');
kill 'CONT', $pid or die "could not continue $pid: $!";
is($session->query_safe(q{SELECT n FROM supervisor.run('SELECT 3', pool => 'one') AS (n int)}),
	'3', 'when it goes on, it serves the next task');
is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}), '0', 'the task is canceled by then');
is($node->safe_psql('postgres', $worker), $before, 'and the process is the same');

# Between two tasks.
$session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')});
kill 'STOP', $pid or die "could not stop $pid: $!";
my $tasks = $session->query_safe(q{
	SELECT string_agg(supervisor.launch(format('SELECT %s', i), pool => 'one')::text, ',' ORDER BY i) FROM generate_series(1, 5) i});
my ($first) = split /,/, $tasks;
is($session->query_safe("SELECT supervisor.cancel($first)"), 't', 'a task that a stopped worker was given can be canceled');
kill 'CONT', $pid or die "could not continue $pid: $!";
is($session->query_safe("SELECT string_agg(supervisor.wait(id), ',') FROM unnest(ARRAY[$tasks]) id"),
	'canceled,succeeded,succeeded,succeeded,succeeded', 'it is canceled, and the others run');
is($node->safe_psql('postgres', $worker), $before, 'by the same process');
$session->query_safe("SELECT supervisor.forget(id) FROM unnest(ARRAY[$tasks]) id");

# The supervisor is on nobody's way to a result.
my $supervisor = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
kill 'STOP', $supervisor or die "could not stop $supervisor: $!";
is($session->query_safe(q{
		SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[1000])) WHERE tag = 'SELECT 1'}),
	'1000', 'tasks run while the supervisor stands still');
(undef, $stderr) = $session->error_of(q{
	SELECT supervisor.execute('SELECT pg_terminate_backend(pg_backend_pid())', pool => 'one')});
like($stderr, qr/ERROR:  55000/, 'a worker that ends then ends its task');
my $task = $session->query_safe(q{SELECT supervisor.launch('SELECT 4', pool => 'one')});
is($session->query_safe("SELECT supervisor.wait($task, '200 ms') IS NULL"), 't', 'the next task waits for a worker');
kill 'CONT', $supervisor or die "could not continue $supervisor: $!";
is($session->query_safe("SELECT * FROM supervisor.result($task) AS (n int)"), '4', 'which comes when it goes on');
$session->quit;

note 'the postmaster dies';

my @s = load();
@before = processes();
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
$node->kill9;
is(survivors(@before), '', 'without a postmaster, no process is left');
unload(@s);

# A new one refuses to start as long as anybody has that process ID.
eventually(sub { !kill 0, $postmaster });
$node->start;
is_whole('after the death of the postmaster');

# What does not wait does not see that, as with core's sessions.
my $computing = SupervisorTest::session($node);
$computing->query_safe(q{SELECT supervisor.forget(supervisor.launch('DO $$ BEGIN LOOP END LOOP; END $$'))});
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE activity = 'busy'}, 'a task computes');
$pid = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE activity = 'busy'});
@before = grep { $_ != $pid } processes();
($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
$node->kill9;
is(survivors(@before), '', 'without a postmaster only a task that computes is left');
eval { $computing->quit };
eventually(sub { !kill 0, $postmaster });
ok(SupervisorTest::runs($pid), 'which runs on');
my $offset = -s $node->logfile;
ok(!$node->start(fail_ok => 1), 'as long as it does, the server does not start');
like(slurp_file($node->logfile, $offset), qr/pre-existing shared memory block .* is still in use/, 'and says why');
kill 'TERM', $pid or die "could not terminate $pid: $!";
is(survivors($pid), '', 'SIGTERM ends it');
$node->start;
is_whole('after that');

$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal (?!9)/, 'no process has crashed by itself');
done_testing();
