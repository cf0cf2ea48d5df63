# A login that hangs, as in a database whose owner locks its catalogs: it holds a
# worker no longer than somebody waits for it, or for the worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

my $node = SupervisorTest::new_node(
	'login',
	'autovacuum' => 'off',
	'max_worker_processes' => 16,
	'supervisor.databases' => '',
	'supervisor.pool_size' => 1,
	'supervisor.pools' => 'four:4');

SupervisorTest::ask(\$node);
value('CREATE DATABASE hung');
value('CREATE EXTENSION supervisor', dbname => 'hung');
value('CREATE TABLE done (pool text)', dbname => 'hung');
value('CREATE ROLE r1 LOGIN; CREATE ROLE r2 LOGIN; GRANT INSERT ON done TO r1, r2; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO r1, r2', dbname => 'hung');
value("CREATE DATABASE $_ TEMPLATE hung") foreach ('hung2', 'slow');
SupervisorTest::wait_ready($node, 'default', 1);
SupervisorTest::wait_ready($node, 'four', 4);
SupervisorTest::leaks($node);

# These have logged in already.
my $waiting = SupervisorTest::session($node, dbname => 'hung');
my $holder = SupervisorTest::session($node, dbname => 'hung');
$waiting->query_safe(q{SELECT * FROM supervisor.task_status; SELECT supervisor.execute('SELECT 1')});
value(q{SELECT supervisor.restart_pool('default')});
my $hangs = q{SELECT EXISTS (SELECT FROM supervisor.task_status WHERE datname = 'hung' AND state = 'running')
	AND EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'pg_class'::regclass)};

# Makes logins hang, until end().
sub lock_catalogs
{
	$holder->query_safe('BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE');
}

foreach my $case (
	[ 'the timeout of the call', sub {
			refused(q{SELECT supervisor.execute('SELECT 1', timeout => '100 ms')}, '57014', 'the timeout of the call ends it', session => $waiting) } ],
	[ 'cancel', sub {
			my $task = $waiting->query_safe(q{SELECT supervisor.launch('SELECT 1')});

			SupervisorTest::wait_true($node, $hangs);
			is(value("SELECT supervisor.cancel($task)"), 't', 'cancel ends it');
			is($waiting->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'and its task is canceled');
			$waiting->query_safe("SELECT supervisor.forget($task)") } ],
	[ 'the end of its session', sub {
			my $session = SupervisorTest::session($node, dbname => 'hung');

			$session->query_safe('SELECT * FROM supervisor.task_status');
			lock_catalogs();
			$session->query_safe(q{SELECT supervisor.launch('SELECT 1')});
			SupervisorTest::wait_true($node, $hangs);
			$session->quit } ])
{
	my ($what, $end) = @$case;

	lock_catalogs() if $what !~ /session/;
	$end->();
	is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$what: others are served");
	$holder->query_safe('COMMIT');
	is($waiting->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$what: and those there, when they can log in again");
	value(q{SELECT supervisor.restart_pool('default')});
}

# Nobody gives up.
SupervisorTest::set($node, 'supervisor.start_timeout' => '2s');
lock_catalogs();
my $task = $waiting->query_safe(q{SELECT supervisor.launch('SELECT 1')});
SupervisorTest::wait_true($node, $hangs);
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'start_timeout: others are served');
is($waiting->query_safe("SELECT supervisor.wait($task)"), 'failed', 'start_timeout: the task has failed');
$waiting->query_safe("SELECT supervisor.forget($task)");
$holder->query_safe('COMMIT');

# Others wait for the worker.  No login hangs here for long enough to be ended by the timeout.
SupervisorTest::set($node, 'supervisor.start_timeout' => '30s');
my $waiting2 = SupervisorTest::session($node, dbname => 'hung2');
my $holder2 = SupervisorTest::session($node, dbname => 'hung2');
$waiting2->query_safe(q{SELECT * FROM supervisor.task_status; SELECT supervisor.execute('SELECT 1')});

# Launches $n tasks in a database, each of which leaves a row there.
sub launch
{
	my ($session, $pool, $n) = @_;

	$session->query_safe("SELECT supervisor.launch('INSERT INTO done VALUES (''$pool'')', pool => '$pool') FROM generate_series(1, $n)");
}

sub unfinished
{
	return value(q{SELECT count(*) FROM supervisor.task_status WHERE datname LIKE 'hung%' AND state IN ('queued', 'running')});
}

# All workers of a pool log in for tasks of hanging databases.
sub all_hang
{
	my ($pool) = @_;

	return qq{SELECT bool_and(datname LIKE 'hung%' AND activity = 'busy') FROM supervisor.worker_status WHERE pool = '$pool'};
}

# Waits for the tasks of a session, which are those; returns their states, and forgets them.
sub states
{
	my ($session) = @_;

	return $session->query_safe(q{
		SELECT string_agg(DISTINCT supervisor.wait(task), ' ') FROM supervisor.task_status WHERE owner_pid = pg_backend_pid();
		SELECT count(supervisor.forget(task)) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});
}

foreach my $case (
	[ 'a database', 'four', 6, 0 ],
	[ 'two databases', 'four', 6, 6 ],
	[ 'a pool of one', 'default', 2, 0 ],
	[ 'two databases in a pool of one', 'default', 2, 2 ])
{
	my ($what, $pool, $n, $n2) = @$case;

	value("SELECT supervisor.restart_pool('$pool')");
	value('TRUNCATE done', dbname => $_) foreach ('hung', 'hung2');
	lock_catalogs();
	$holder2->query_safe('BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE');
	launch($waiting, $pool, $n);
	launch($waiting2, $pool, $n2);
	until_true(all_hang($pool), 'all hang');
	is(value("SELECT supervisor.execute('SELECT 1', pool => '$pool')"), 'SELECT 1', "$what: others are served");
	is(value("SELECT supervisor.execute('SELECT 1', pool => '$pool')", dbname => 'slow'), 'SELECT 1', "$what: all of them");
	is(unfinished(), $n + $n2, "$what: meanwhile no task has failed");

	# It is tried again, and others are served again.
	if ($pool eq 'default')
	{
		until_true(all_hang($pool), 'it hangs again');
		is(value("SELECT supervisor.execute('SELECT 1', pool => '$pool')"), 'SELECT 1', "$what: again");
		is(unfinished(), $n + $n2, "$what: again no task has failed");

		# While one rests, the other must not take its place: what others get is no matter of how many hang.
		if ($n2 > 0)
		{
			my $others = SupervisorTest::session($node);
			my $from = value('SELECT max(id) FROM supervisor.event');
			my $done = q{SELECT tasks_succeeded FROM supervisor.pool_status WHERE pool = 'default'};
			my $given_up = "SELECT count(*) >= %d FROM supervisor.event WHERE id > $from AND event = 'stopping'";

			$others->begin(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.02)'::text, ARRAY[100000]))});
			until_true(sprintf($given_up, 1), 'a login is given up');
			my $before = value($done);
			until_true(sprintf($given_up, 3), 'and others');
			cmp_ok(value($done) - $before, '>', 30, "$what: others have their share in between");
			value(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%execute_all%' AND pid <> pg_backend_pid()});
			$others->finish;
			$others->quit;
		}
	}
	else
	{
		# These keep what they get.
		my $blocker = SupervisorTest::session($node);
		$blocker->query_safe('SELECT pg_advisory_lock(1)');
		value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_advisory_xact_lock_shared(1)', pool => 'four')) FROM generate_series(1, 3)});
		becomes(q{SELECT count(*) = 3 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, "$what: they keep no more than a part of the pool");
		is(unfinished(), $n + $n2, "$what: still no task has failed");
		$blocker->quit;
	}
	$_->query_safe('COMMIT') foreach ($holder, $holder2);
	is(states($waiting), "succeeded\n$n", "$what: when it hangs no more, all tasks succeed");
	is(states($waiting2), "succeeded\n$n2", "$what: in the other as well") if $n2 > 0;
	is(value('SELECT count(*) FROM done', dbname => 'hung'), $n, "$what: each has run once");
	is(value('SELECT count(*) FROM done', dbname => 'hung2'), $n2, "$what: each has run once, in the other");
}

# One worker is left, and whatever waits in the database has waited for longer.
$waiting->query_safe("SET ROLE $_; SELECT supervisor.execute('SELECT 1'); RESET ROLE") foreach ('r1', 'r2');
value(q{SELECT supervisor.restart_pool('four')});
value('TRUNCATE done', dbname => 'hung');
my $busy = SupervisorTest::session($node);
$busy->query_safe(q{SELECT pg_advisory_lock(1);
	SELECT supervisor.forget(supervisor.launch('SELECT pg_advisory_xact_lock_shared(1)', pool => 'four')) FROM generate_series(1, 3)});
until_true(q{SELECT count(*) = 3 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'three workers are busy');
my $last = value('SELECT max(id) FROM supervisor.event');
lock_catalogs();
foreach my $role ('postgres', 'r1', 'r2')
{
	$waiting->query_safe(qq{SET ROLE $role;
		SELECT supervisor.forget(supervisor.launch('INSERT INTO done VALUES (''$role'')', pool => 'four')); RESET ROLE});
	until_true($hangs, 'the fourth worker hangs');
}
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'four')}, dbname => 'slow'), 'SELECT 1', 'the last worker: others are served');
is(value("SELECT count(*) FROM supervisor.event WHERE id > $last AND event = 'stopping'"), '1', 'as soon as one login has been given up');
$holder->query_safe('COMMIT');
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE datname = 'hung' AND state IN ('queued', 'running')}, 'and then all that wait there');
is(value('SELECT count(*) FROM done', dbname => 'hung'), 3, 'each has run once');
$busy->quit;

# Who makes a login hang and waits for a task there is told so, though workers are free.
value(q{SELECT supervisor.restart_pool('four')});
lock_catalogs();
launch($waiting, 'four', 1);
until_true(q{SELECT clock_timestamp() - started_at > '1.5 s' FROM supervisor.task_status WHERE datname = 'hung' AND state = 'running'}, 'it hangs for long');
refused(q{SELECT supervisor.execute('SELECT 1', pool => 'four')}, '40P01', 'a deadlock with a login that hangs is found', session => $holder);
$holder->query_safe('ROLLBACK');
is(states($waiting), "succeeded\n1", 'before the timeout has ended that, and so it goes on');

# One that hangs no more, or never has, has many workers at once.
foreach my $database ('hung', 'slow')
{
	my $blocker = SupervisorTest::session($node, dbname => $database);

	$blocker->query_safe('SELECT pg_advisory_lock(1)');
	launch($blocker, 'four', 8);	# so that it is known that it does
	is(states($blocker), "succeeded\n8", "$database: tasks run");
	value(q{SELECT supervisor.restart_pool('four')});
	$blocker->query_safe(q{SELECT supervisor.launch('SELECT pg_advisory_xact_lock_shared(1)', pool => 'four') FROM generate_series(1, 4)});
	becomes(q{SELECT count(*) = 4 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, "$database: by as many workers as there are, at once");
	$blocker->quit;
}

# A login that takes three seconds succeeds, also if others always wait.
my $library = SupervisorTest::build_library('slow_login');
value("ALTER DATABASE slow SET session_preload_libraries = '$library'");
foreach my $pool ('default', 'four')
{
	my $others = SupervisorTest::session($node);

	value("SELECT supervisor.restart_pool('$pool')");
	$others->begin("SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[1000000]), '$pool')");
	until_true("SELECT queued_tasks > 0 FROM supervisor.pool_status WHERE pool = '$pool'", 'others wait');
	is(value("SELECT string_agg(supervisor.execute('SELECT 1', pool => '$pool'), ' ') FROM generate_series(1, 2)", dbname => 'slow'),
		'SELECT 1 SELECT 1', "$pool: a login that always takes long succeeds while others wait");
	value(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%execute_all%' AND state = 'active' AND pid <> pg_backend_pid()});
	like(($others->finish)[1], qr/57014/, "$pool: they still wait");
	$others->quit;
}

$_->quit foreach ($waiting, $holder, $waiting2, $holder2);
is(SupervisorTest::leaks($node), '', 'nothing is left');
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
