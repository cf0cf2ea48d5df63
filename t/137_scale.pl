# Many workers, many databases: all of them start, stop and come back, and what
# the supervisor does for one event does not depend on how many there are.
#
# PG_TEST_SCALE=1 takes the numbers of a large server: 500 workers in 50
# databases, 1000 databases without the extension, 1000 slots in use.  Times and
# sizes are told, and not judged.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use List::Util qw(max sum);
use PostgreSQL::Test::Utils;
use SupervisorTest qw(until_true value);
use Time::HiRes qw(time);

my $large = $ENV{PG_TEST_SCALE};
my $databases = $large ? 50 : 4;
my $per_database = $large ? 10 : 5;
my $others = $large ? 1000 : 8;
my $slots = $large ? 1000 : 60;
my $events = $large ? 200 : 20;
my $workers = $databases * $per_database;

my $node = SupervisorTest::new_node(
	'scale',
	'autovacuum' => 'off',
	'log_statement' => 'none',
	'max_connections' => 30,
	'wal_level' => 'replica',
	'max_wal_senders' => 2,
	'max_worker_processes' => $slots + 30,
	'supervisor.max_workers' => $slots + 20,
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);

# Waits, and returns how long that took.
sub becomes
{
	my ($sql, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;

	ok($node->poll_query_until('postgres', $sql), $property);
	return sprintf '%.1f s', time - $start;
}

sub states
{
	my (@states) = @_;

	return 'SELECT ' . join ' AND ', map {
		my ($state, $n) = @$_;
		"(SELECT count(*) = $n FROM supervisor.worker_status WHERE kind = 'command' AND state = '$state')" } @states;
}

# What processes have for themselves.
sub memory
{
	my ($where) = @_;
	my @pids = split /\n/, value("SELECT pid FROM pg_stat_activity WHERE $where");
	my @sizes;

	foreach my $pid (@pids)
	{
		next if !open my $file, '<', "/proc/$pid/smaps_rollup";
		push @sizes, map { /^Pss_Anon:\s+(\d+)/ } <$file>;
	}
	return @sizes ? sprintf('%d processes, %.1f MB of their own each', scalar @sizes, sum(@sizes) / @sizes / 1024) : 'not to be had';
}

# Nanoseconds that the supervisor has run.
sub supervisor_cpu
{
	my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});

	open my $file, '<', "/proc/$pid/schedstat" or return 0;
	return (split ' ', <$file>)[0];
}

note 'workers';

value('CREATE EXTENSION supervisor', dbname => 'template1');
value("CREATE DATABASE d$_") foreach 1 .. $databases;
my $start = time;
value("SELECT supervisor.add_worker('w' || i, 'SELECT 1', run_every => '1 h') FROM generate_series(1, $per_database) i", dbname => "d$_")
  foreach 1 .. $databases;
becomes(states([ running => $workers ]), 'all run');
diag(sprintf '%d workers in %d databases: added and started in %.1f s', $workers, $databases, time - $start);
diag('their memory: ' . memory(q{backend_type LIKE 'w%'}) . '; of the supervisor: ' . memory(q{backend_type = 'supervisor'}));
my $cpu = supervisor_cpu();
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
diag('stopped in ' . becomes(states([ stopped => $workers ]), 'all stop'));
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
diag('started in ' . becomes(states([ running => $workers ]), 'all start'));
diag(sprintf 'which took %.1f s of the supervisor\'s', (supervisor_cpu() - $cpu) / 1e9);
$start = time;
$node->restart;
becomes(states([ running => $workers ]), 'all run after a restart');
diag(sprintf 'after a restart running in %.1f s', time - $start);
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
my $log = -s $node->logfile;
$start = time;
kill 'KILL', value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'w1' AND datname = 'd1'});
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
until_true('SELECT true', 'the server comes back');
becomes(states([ running => $workers ]), 'all run after a crash');
diag(sprintf 'after a crash all run again in %.1f s', time - $start);
value("DROP DATABASE d$_") foreach 1 .. $databases;
becomes(states([ running => 0 ]), 'all go with their databases');

note 'one event';

# Microseconds of the supervisor for one restart of a worker.
sub cost
{
	my $before = supervisor_cpu();

	value("DO \$\$ BEGIN FOR i IN 1 .. $events LOOP PERFORM supervisor.restart_worker('one', NULL); END LOOP; END \$\$");
	return (supervisor_cpu() - $before) / 1000 / $events;
}

value(q{SELECT supervisor.add_worker('one', 'SELECT 1', run_every => '1 h')});
value(q{SELECT supervisor.add_worker('few', 'SELECT 1', run_every => '1 h', instances => 8)});
becomes(states([ running => 9 ]), 'few run');
cost();
my @few = map { cost() } 1 .. 5;
my $many = $slots - 10;
my $running = $large ? 490 : $many;
value("SELECT supervisor.add_worker('many', 'SELECT 1', run_every => '1 h', instances => $running)");
value("SELECT supervisor.add_worker('ended', 'SELECT 1', restart => 'never', instances => " . ($many - $running) . ')')
  if $many > $running;
becomes(states([ running => $running + 9 ], [ stopped => $many - $running ]), 'many run');
my @many = map { cost() } 1 .. 5;
diag(sprintf 'a restart of one worker costs the supervisor %s us with 10 slots in use, %s us with %d',
	join('/', map { sprintf '%.0f', $_ } @few), join('/', map { sprintf '%.0f', $_ } @many), $slots);

# Those that wait for the end of recovery have no processes.
value(q{
	SELECT supervisor.remove_worker(name) FROM supervisor.worker WHERE name IN ('many', 'ended');
	SELECT supervisor.alter_worker('one', start_after => 'consistent_state')});
$node->stop;
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
becomes(states([ running => 1 ], [ waiting => 8 ]), 'few wait for the end of recovery');
cost();
@few = map { cost() } 1 .. 5;
$node->stop;
unlink $node->data_dir . '/standby.signal';
$node->start;
value("SELECT supervisor.add_worker('many', 'SELECT 1', run_every => '1 h', instances => $many)");
$node->stop;
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
becomes(states([ running => 1 ], [ waiting => 8 + $many ]), 'many do');
@many = map { cost() } 1 .. 5;
diag(sprintf 'on a standby %s us if %d wait for the end of recovery, %s us if %d do',
	join('/', map { sprintf '%.0f', $_ } @few), 8, join('/', map { sprintf '%.0f', $_ } @many), 8 + $many);
$node->promote;
becomes(states([ running => 9 + $many ]), 'which all start at promotion');

note 'databases without the extension';

value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');
becomes(states([ running => 0 ]), 'all are removed');
value("CREATE DATABASE other$_ TEMPLATE template0 STRATEGY file_copy") foreach 1 .. $others;
value('CREATE DATABASE sentinel');
value(q{SELECT supervisor.add_worker('sentinel', 'SELECT 1', run_every => '1 h')}, dbname => 'sentinel');
becomes(states([ running => 1 ]), 'the last database has a worker');
$node->stop;
$start = time;
$node->start;
my $session = SupervisorTest::session($node);
my @latencies;
my $most = 0;
for (;;)
{
	my $before = time;
	my ($running, $loaders) = split /\|/, $session->query_safe(q{
		SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sentinel'),
			(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'supervisor loader')});

	push @latencies, time - $before;
	$most = max($most, $loaders);
	last if $running || time - $start > $PostgreSQL::Test::Utils::timeout_default;
}
my $took = time - $start;
is($most <= 1, 1, 'databases are read one at a time');
diag(sprintf '%d databases without the extension: read in %.1f s, %.1f ms each, %d queries meanwhile, the longest %.0f ms',
	$others, $took, 1000 * $took / $others, scalar @latencies, 1000 * max(@latencies));
becomes(states([ running => 1 ]), 'after them comes the one that has a worker');
my @quiet = map { my $t = time; $session->query_safe('SELECT count(*) FROM pg_stat_activity'); time - $t } 1 .. @latencies;
diag(sprintf 'a query took %.1f ms on average meanwhile, %.1f ms afterwards',
	1000 * sum(@latencies) / @latencies, 1000 * sum(@quiet) / @quiet);
$session->quit;

done_testing();
