# Services make room for a pool whose workers are all stuck, and for no other: not for one
# that is served, and ever more seldom for one that asks in vain.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes until_true eventually stop_process continue_process);

# One is the supervisor's, one the loader's, and 'default' has two: four are left.
my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 8,
	'max_logical_replication_workers' => 0,
	'max_parallel_workers' => 8,
	'supervisor.databases' => 'postgres',
	'supervisor.stop_timeout' => '100ms');
my $parallel = 'SET ' . ($node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on';

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE att LOGIN;
	CREATE ROLE one LOGIN;
	CREATE ROLE two LOGIN;
	GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	CREATE FUNCTION in_parallel(leader int) RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		IF pg_backend_pid() <> leader THEN
			PERFORM pg_sleep(10000);
		END IF;
		RETURN true;
	END $$});
value("CREATE DATABASE x$_ TEMPLATE postgres OWNER att") foreach 1, 2;
SupervisorTest::wait_ready($node, 'default', 2);
value(q{SELECT count(supervisor.add_worker('w' || i, 'SELECT pg_sleep(10000)')) FROM generate_series(1, 4) i}, user => 'att');
my $services = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE kind = 'command' AND state = 'running'};
until_true(sprintf($services, 4), 'services have the rest');

# Has both workers of the pool hang.
sub hang
{
	value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(10000)'))}, user => 'att', dbname => $_) foreach 'x1', 'x2';
	until_true(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE kind = 'pool' AND command = 'SELECT pg_sleep(10000)'}, 'two tasks run');
	foreach my $line (split /\n/, value(q{SELECT slot, pid FROM supervisor.worker_status WHERE kind = 'pool'}))
	{
		my ($slot, $pid) = split /\|/, $line;

		stop_process($pid);
		value("SELECT supervisor.terminate_worker($slot, '0')");
	}
	until_true(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'stuck'}, 'they are stuck');
	return;
}
my $made_room = q{FROM supervisor.event WHERE event = 'stopping' AND detail LIKE '%it makes room'};

note 'a pool that is served';

hang();
becomes(q{SELECT running = 1 FROM supervisor.pool_status}, 'another worker has the place of a service');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE kind = 'pool' AND reason = 'no_background_worker_slot'}, 'and one more waits for one');
is(value("SELECT count(*) $made_room"), '1', 'one has made room');
until_true("SELECT clock_timestamp() > max(at) + interval '7 s' $made_room", 'another might have to');
foreach my $round (1 .. 10)
{
	is(value(q{SELECT supervisor.execute('SELECT 1', timeout => '1 min')}, user => $_), 'SELECT 1', "$_ is served, round $round") foreach qw(one two);
}
is(value("SELECT count(*) $made_room"), '1', 'none has to while the worker changes its role');
continue_process();
becomes(q{SELECT running = 2 FROM supervisor.pool_status}, 'the pool has its workers again');
becomes(sprintf($services, 4), 'and services what is left');

note 'a pool whose room others take';

my @sessions;
my %pids = map { split /\|/ } split /\n/, value(q{SELECT name, pid FROM supervisor.worker_status WHERE kind = 'command'});

stop_process($_) foreach values %pids;
hang();
foreach my $round (1, 2)
{
	until_true("SELECT count(*) = 1 + $round $made_room", "a service is to make room, round $round");

	my $name = value("SELECT name $made_room ORDER BY id DESC LIMIT 1");
	my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});

	stop_process($supervisor);
	continue_process($pids{$name});
	eventually(sub { !SupervisorTest::runs($pids{$name}) }) or die "$name does not end";
	push @sessions, SupervisorTest::session($node, user => 'two');
	$sessions[-1]->query_safe($parallel);
	$sessions[-1]->begin('SELECT in_parallel(' . $sessions[-1]->pid . ')');
	until_true("SELECT count(*) = $round FROM pg_stat_activity WHERE backend_type = 'parallel worker'", 'a parallel query has its place');
	continue_process($supervisor);
}
is(value("SELECT max(at) - min(at) >= interval '10 s' FROM (SELECT at $made_room ORDER BY id DESC LIMIT 2) e"), 't', 'it asks ever more seldom');
value(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'two' AND backend_type = 'client backend'});
$_->{run}->kill_kill foreach @sessions;
continue_process();
becomes(q{SELECT running = 2 FROM supervisor.pool_status}, 'the pool has its workers in the end');
becomes(sprintf($services, 4), 'and services what is left');
$node->stop;
done_testing();
