# Background worker slots of the server, where they are used up: the loader has one of
# its own, and the workers of pools come before declared workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes until_true eventually stop_process continue_process);

# Of 9, one is the supervisor's, one the loader's, and 'default' has two: five are left.
my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 9,
	'max_logical_replication_workers' => 0,
	'max_parallel_workers_per_gather' => 0,
	'supervisor.databases' => 'postgres, x1, x2',
	'supervisor.stop_timeout' => '100ms',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '50ms');

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE att LOGIN;
	CREATE ROLE vic LOGIN;
	GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC});
value('CREATE DATABASE x1 TEMPLATE postgres OWNER att');
value('CREATE DATABASE x2 TEMPLATE postgres OWNER att');

my $services = q{SELECT %s FROM supervisor.worker_status WHERE kind = 'command'};
my $some_wait = sprintf($services,
	q{count(*) = 10 AND count(*) FILTER (WHERE state = 'running') = 5
	AND count(*) FILTER (WHERE state = 'waiting' AND reason = 'no_background_worker_slot') = 5});
my $served = q{SELECT supervisor.execute('SELECT 1', timeout => '3 min')};

sub pool_has
{
	my ($pool, $n, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return becomes("SELECT running >= $n FROM supervisor.pool_status WHERE pool = '$pool'", $property);
}

sub supervisor
{
	return value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
}

# Adds services that last, as that role in x1, and waits until those that find a place run.
sub add_services
{
	my ($n, %opts) = @_;

	value("SELECT count(supervisor.add_worker('w' || i, 'SELECT pg_sleep(10000)')) FROM generate_series(1, $n) i",
		user => 'att', dbname => 'x1', %opts);
}

SupervisorTest::wait_ready($node, 'default', 2);
add_services(10);
becomes($some_wait, 'services take what the pool has left, and the others wait');
pool_has('default', 2, 'the pool has all of its workers');

note 'the place of a worker that has ended is its successor\'s';

# The new pool has a slot behind those of services.
value(q{SELECT count(supervisor.stop_worker('w' || i, '0')) FROM generate_series(6, 10) i}, user => 'att', dbname => 'x1');
value(q{SELECT supervisor.stop_worker('w1')}, user => 'att', dbname => 'x1');
SupervisorTest::set($node, 'supervisor.pools' => 'late:1');
pool_has('late', 1, 'another pool has a worker');
value(q{SELECT count(supervisor.start_worker('w' || i, '0')) FROM generate_series(1, 10) i}, user => 'att', dbname => 'x1');
until_true(sprintf($services, q{count(*) FILTER (WHERE state = 'waiting' AND reason = 'no_background_worker_slot') = 6}), 'six wait');
foreach my $round (1 .. 3)
{
	my $pid = value(q{SELECT pid FROM supervisor.run('SELECT pg_backend_pid()', pool => 'late') AS (pid int)});
	my $supervisor = supervisor();

	stop_process($supervisor);
	kill 'TERM', $pid;
	eventually(sub { !SupervisorTest::runs($pid) }) or die "$pid does not end";
	value(q{SELECT count(supervisor.start_worker('w' || i, '0')) FROM generate_series(1, 10) i}, user => 'att', dbname => 'x1');
	continue_process($supervisor);
	becomes("SELECT coalesce(bool_and(pid <> $pid), false) FROM supervisor.worker_status WHERE pool = 'late' AND state = 'running'",
		"round $round: a service that waits for longer, and is started by a person, does not get it");
}
SupervisorTest::set($node, 'supervisor.pools' => '');
becomes($some_wait, 'what a pool has no more is for a service');

note 'services that are started again and again, while workers change';

my $dir = PostgreSQL::Test::Utils::tempdir;
my %scripts = (
	start => q{SELECT supervisor.start_worker('w' || (5 + random() * 5)::int, '3 ms');},
	task => q{SELECT supervisor.execute('SELECT 1', timeout => '3 min');});
append_to_file("$dir/$_", $scripts{$_}) foreach keys %scripts;
my @clients = map {
	my ($script, $database, @options) = @$_;

	IPC::Run::start(
		[
			'pgbench', '-n', '-U', 'att', '-h', $node->host, '-p', $node->port, '-f', "$dir/$script", @options, $database
		],
		'>&', \my $output)
} [ 'start', 'x1', '-c', 4, '-t', 400 ], [ 'task', 'x1', '-C', '-t', 100 ], [ 'task', 'x2', '-C', '-t', 100 ], [ 'task', 'postgres', '-C', '-t', 100 ];
$_->finish foreach @clients;
pool_has('default', 2, 'the pool has all of its workers afterwards');
is(value($served, user => 'vic'), 'SELECT 1', 'and serves');
becomes($some_wait, 'services have what is left');

note 'where all workers of a pool are stuck, a service makes room';

my $lasting = q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(10000)'))};
my $tasks = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE command = 'SELECT pg_sleep(10000)' AND kind = 'pool'};
value($lasting, user => 'att', dbname => $_) foreach 'x1', 'x2';
until_true(sprintf($tasks, 2), 'two tasks run');
foreach my $line (split /\n/, value(q{SELECT slot, pid FROM supervisor.worker_status WHERE kind = 'pool'}))
{
	my ($slot, $pid) = split /\|/, $line;

	stop_process($pid);
	value("SELECT supervisor.terminate_worker($slot, '0')");
}
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE state = 'stuck'}, 'two workers are stuck');
pool_has('default', 1, 'the pool has another');
is(value($served, user => 'vic'), 'SELECT 1', 'and serves');
becomes(sprintf($services, q{count(*) FILTER (WHERE state = 'running') = 4}), 'since a service has made room');
like(value(q{SELECT string_agg(detail, ';') FROM supervisor.event WHERE event = 'stopping' AND name LIKE 'w%'}),
	qr/it makes room/, 'which is an event');
my $gave = value(q{SELECT name FROM supervisor.event WHERE event = 'stopping' AND detail ~ 'it makes room' ORDER BY id DESC LIMIT 1});
continue_process();
pool_has('default', 2, 'when they have ended, the pool has all of its workers');
becomes($some_wait, 'and services what is left');
becomes("SELECT state = 'running' FROM supervisor.worker_status WHERE name = '$gave'", 'the one that has made room comes before others that wait');
is(value($served, user => 'vic'), 'SELECT 1', 'it serves');

note 'the loader has its own, also where all are busy';

value($lasting, user => 'att', dbname => $_) foreach 'x1', 'x2';
until_true(sprintf($tasks, 2), 'two tasks run');
my $all = q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM supervisor.worker_status WHERE kind <> 'loader'};
my $before = value($all);
foreach my $i (1 .. 3)
{
	value(qq{SELECT supervisor.add_worker('late$i', 'SELECT 1', enabled => false)}, user => 'att', dbname => 'x1');
	becomes("SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'late$i'", "a row is read, $i");
}
is(value($all), $before, 'and nobody makes room for that');
value(q{SELECT count(supervisor.terminate_worker(slot)) FROM supervisor.worker_status WHERE kind = 'pool' AND activity = 'busy'});
pool_has('default', 2, 'the pool has all of its workers');
my $name = value(q{SELECT min(name) FROM supervisor.worker_status WHERE kind = 'command' AND state = 'running'});
value("SELECT supervisor.remove_worker('$name'), supervisor.remove_worker('late1'), supervisor.remove_worker('late2'), supervisor.remove_worker('late3')", user => 'att', dbname => 'x1');
becomes("SELECT count(*) = 0 FROM supervisor.worker_status WHERE name IN ('$name', 'late1')", 'a service that was removed ends');
pool_has('default', 2, 'the pool has all of its workers');

note 'services that can run do';

# A pool that waits for something else does not keep places.
SupervisorTest::set($node, 'supervisor.restart_delay' => '1h', 'supervisor.restart_delay_max' => '1h', 'supervisor.pools' => 'late:1');
value(q{SELECT count(supervisor.remove_worker('w' || i)) FROM generate_series(1, 10) i WHERE 'w' || i <> '} . $name . q{'},
	user => 'att', dbname => 'x1');
pool_has('late', 1, 'a pool has a worker');
add_services(10, user => 'vic', dbname => 'x2');
my $four_wait = sprintf($services, q{count(*) = 10 AND count(*) FILTER (WHERE state = 'running') = %d});
becomes(sprintf($four_wait, 4), 'others have the rest');
kill 'TERM', value(q{SELECT pid FROM supervisor.worker_status WHERE pool = 'late'});
becomes(q{SELECT state = 'backoff' FROM supervisor.worker_status WHERE pool = 'late'}, 'it has failed by itself');
becomes(sprintf($four_wait, 5), 'meanwhile a service has its place');
SupervisorTest::set($node, 'supervisor.pools' => '', 'supervisor.pool_size' => '0');
becomes(sprintf($four_wait, 7), 'all that is free is taken');

note 'those who wait take turns';

SupervisorTest::set($node, 'supervisor.restart_delay' => '10ms', 'supervisor.restart_delay_max' => '10ms');
value(q{
	SELECT supervisor.alter_worker('w' || i, command => 'SELECT') FROM generate_series(1, 8) i}, user => 'vic', dbname => 'x2');
becomes(sprintf($services, q{count(*) = 10 AND bool_and(generation > 1 OR state = 'running')}), 'each comes to run');

$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
