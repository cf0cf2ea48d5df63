# A login that hangs, as in a database whose owner locks its catalogs: it holds a
# worker no longer than somebody waits for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'login',
	'autovacuum' => 'off',
	'supervisor.databases' => '',
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);
value('CREATE DATABASE hung');
value('CREATE EXTENSION supervisor', dbname => 'hung');
SupervisorTest::wait_ready($node, 'default', 1);
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

$_->quit foreach ($waiting, $holder);
is(SupervisorTest::leaks($node), '', 'nothing is left');
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
