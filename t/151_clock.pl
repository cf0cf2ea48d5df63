# The wall clock is set while the server runs, back by an hour and forward by a day:
# nothing comes later, or sooner, than after the time that it takes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes set_clock until_true value with_clock);

plan skip_all => 'the clock is set by a library that the dynamic linker of Linux preloads' if $^O ne 'linux';

my $library = SupervisorTest::build_library('sleepers');
my $node = with_clock(sub {
	return SupervisorTest::new_node(
		'main',
		'autovacuum' => 'off',
		'deadlock_timeout' => '10ms',
		'max_worker_processes' => 20,
		'supervisor.max_restarts' => 1000,
		'supervisor.pool_size' => 2);
});
my $s = SupervisorTest::session($node);

SupervisorTest::ask(\$s);
SupervisorTest::wait_ready($node, 'default', 2);

# Returns columns of the worker with that name.
sub worker
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name'");
}

# Tests that it runs, fails or ends three more times.
sub goes_on
{
	my ($name, $property) = @_;
	my $restarts = worker($name, 'restarts');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT restarts >= $restarts + 3 FROM supervisor.worker_status WHERE name = '$name'", $property);
}

value(q{
	CREATE TABLE runs (n serial);
	SELECT supervisor.add_worker('every', 'INSERT INTO runs DEFAULT VALUES', run_every => '300 ms');
	SELECT supervisor.add_worker('fails', 'SELECT 1/0', run_every => '1 h', restart_delay => '300 ms', restart_delay_max => '300 ms');
	SELECT supervisor.add_worker('waits', 'SELECT 1/0', run_every => '1 h', restart_delay => '2 h', restart_delay_max => '2 h')});
value("SELECT supervisor.add_worker('sleeps', library => '$library', function => 'sleeper', argument => 500, restart_delay => '0');
	SELECT supervisor.add_worker('alive', library => '$library', function => 'sleeper', argument => -1, heartbeat_timeout => '10 s')");
until_true(q{SELECT count(*) > 0 FROM runs}, 'a command runs');
until_true(q{SELECT state = 'backoff' FROM supervisor.worker_status WHERE name = 'waits'}, 'a command has failed');
goes_on('fails', 'one that fails is tried again');
goes_on('sleeps', 'a C function sleeps and ends');

# What the views say of it, as intervals, which are the same whatever the clock says.
my $shown = q{
	SELECT restart_at - clock_timestamp() BETWEEN '1 h 50 min' AND '2 h 30 min' AND state_since BETWEEN clock_timestamp() - interval '5 min' AND clock_timestamp(),
		(SELECT max(at) <= clock_timestamp() AND min(at) > clock_timestamp() - interval '10 min' FROM supervisor.event)
	FROM supervisor.worker_status WHERE name = 'waits'};
is(value($shown), 't|t', 'times are those of the clock');

note 'back by an hour';

set_clock(-3600);
is(value('SELECT clock_timestamp() < (SELECT pg_postmaster_start_time())'), 't', 'the clock is back');
my $runs = value('SELECT max(n) FROM runs');
becomes("SELECT max(n) >= $runs + 3 FROM runs", 'a command runs as often as before');
goes_on('fails', 'one that fails is tried again as before');
goes_on('sleeps', 'a C function that sleeps wakes up');
is(value($shown), 't|t', 'times are those of the clock as it is now');
is(value(q{SELECT supervisor.restart_worker('alive', '1 min')}), 't', 'a call that waits for a worker ends');
$node->psql('postgres', q{SELECT supervisor.execute('SELECT pg_sleep(600)', timeout => '200 ms')}, stderr => \my $error);
like($error, qr/canceled|timeout/, 'the timeout of a call ends it');
until_true(q{SELECT count(*) FILTER (WHERE state = 'running') = 0 FROM supervisor.task_status}, 'its task has ended');

note 'back by an hour, while it waits';

my $waiter = SupervisorTest::session($node);
$waiter->begin(q{SELECT supervisor.execute('SELECT pg_sleep(600)', timeout => '2 s')});
until_true(q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running'}, 'a task runs');
set_clock(-3600);
my (undef, $stderr) = $waiter->finish;
like($stderr, qr/57014/, 'the timeout of a call comes in time');
until_true(q{SELECT count(*) FILTER (WHERE state = 'running') = 0 FROM supervisor.task_status}, 'its task has ended');
set_clock(7200);

note 'forward by a day';

my $alive = worker('alive', 'generation, pid');
my $pool = q{SELECT string_agg(slot || '/' || generation || '/' || coalesce(pid, 0), ' ' ORDER BY slot) FROM supervisor.worker_status WHERE kind = 'pool'};
$s->query_safe(q{SELECT supervisor.execute_all(ARRAY['SELECT pg_sleep(0.1)', 'SELECT pg_sleep(0.1)'])});
my $workers = value($pool);
my $holder = SupervisorTest::session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $task = $waiter->query_safe(q{SELECT supervisor.launch('SELECT 42')});
$waiter->query_safe("SELECT supervisor.wait($task)");
my $caller = SupervisorTest::session($node);
$caller->begin(q{SELECT supervisor.execute('SELECT pg_advisory_lock(1)', timeout => '1 h')});
until_true(q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running'}, 'a task waits for a lock');
set_clock(86400);
goes_on('fails', 'one that fails is tried again');

# By then the call has looked at its clock several times.
$runs = value('SELECT max(n) FROM runs');
becomes("SELECT max(n) >= $runs + 3 FROM runs", 'a command runs');
is(value(q{SELECT state FROM supervisor.task_status WHERE command LIKE '%advisory%'}), 'running', 'its caller waits for it');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
my ($stdout, $said) = $caller->finish;
like($stdout, qr/^SELECT 1$/m, 'a call whose timeout is long succeeds') or diag $said;
is($waiter->query_safe("SELECT * FROM supervisor.result($task) AS (n int)"), '42', 'a result is there to be read');
is(worker('alive', 'generation, pid'), $alive, 'who sends heartbeats runs on');
is(value($pool), $workers, 'the workers of the pool have not been idle for a day');
is(value(q{SELECT count(*) FROM supervisor.event WHERE detail ~ 'heartbeat'}), '0', 'nobody was found silent');
is(value($shown), 't|t', 'times are those of the clock as it is now');

$_->quit foreach ($s, $waiter, $holder, $caller);
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing;
