# The restart policy, on real processes: which ends are followed by a new start,
# when, and when it is given up; what does not start or stop in time; and what
# follows a crash of the server.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes value);

if ($PostgreSQL::Test::Utils::windows_os)
{
	plan skip_all => 'needs signals';
}

my $node = SupervisorTest::new_node(
	'main',
	'autovacuum' => 'off',
	'restart_after_crash' => 'on',
	'max_worker_processes' => 40,
	'supervisor.max_workers' => 24,
	'supervisor.pool_size' => 1,
	'supervisor.restart_delay' => '10ms',
	'supervisor.max_restarts' => 1000);
my $probe = SupervisorTest::build_library('probe');
my $s = SupervisorTest::session($node);

SupervisorTest::ask(\$s);

# Returns columns of the worker with that name, a line for each instance.
sub worker
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name' ORDER BY instance");
}

# Waits until all instances of the worker are in that state, with that reason.
sub reaches
{
	my ($name, $state, $reason, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $is_reason = defined $reason ? "reason = '$reason'" : 'reason IS NULL';

	becomes("SELECT bool_and(state = '$state' AND $is_reason) FROM supervisor.worker_status WHERE name = '$name'", $property)
	  or diag value("SELECT * FROM supervisor.event WHERE name = '$name'");
}

# Adds a worker that calls a function of the probe.
sub add
{
	my ($name, $function, %opts) = @_;
	my $options = join '', map { ", $_ => '$opts{$_}'" } sort keys %opts;

	value("SELECT supervisor.add_worker('$name', library => '$probe', function => 'probe_$function'$options)");
}

sub remove_all
{
	value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');
	$s->wait_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind IN ('command', 'library')})
	  or die 'there are still declared workers';
}

# Waits until the supervisor has read the table once more.
sub settle
{
	value(q{SELECT supervisor.add_worker('settled', 'SELECT', '1 h')});
	$s->wait_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'settled'})
	  or die 'no worker is started';
	value(q{SELECT supervisor.remove_worker('settled')});
	$s->wait_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'settled'})
	  or die 'no worker is removed';
}

# How often the worker has been started.
sub starts
{
	my ($name) = @_;

	return value("SELECT count(*) FROM supervisor.event WHERE name = '$name' AND event = 'starting'");
}

note 'restart';

add('always-0', 'exit', argument => 0);
add('always-1', 'exit', argument => 1);
add('failure-0', 'exit', argument => 0, restart => 'on_failure');
add('failure-1', 'exit', argument => 1, restart => 'on_failure');
add('never-0', 'exit', argument => 0, restart => 'never');
add('never-1', 'error', restart => 'never');
becomes("SELECT restarts > 3 FROM supervisor.worker_status WHERE name = '$_'", "$_: a new start follows")
  foreach 'always-0', 'always-1', 'failure-1';
reaches($_, 'stopped', 'exited', "$_: none follows") foreach 'failure-0', 'never-0', 'never-1';
is(starts($_), '1', "$_: it was started once") foreach 'failure-0', 'never-0', 'never-1';
is(worker('always-0', 'consecutive_failures, last_exit_code, last_error IS NULL'), '0|0|t', 'exit code 0 is no failure');
is(worker('always-1', 'consecutive_failures > 3, last_exit_code'), 't|1', 'exit code 1 is one');
is(worker('never-1', 'last_exit_code, last_sqlstate, last_error, detail, restart_at IS NULL'),
	'1|22000|the probe fails|exit code 1: the probe fails|t', 'the error is shown');
is(value(q{SELECT string_agg(event, ' ' ORDER BY id) FROM supervisor.event WHERE name = 'never-1'}),
	'starting running exited stopped', 'its life is in the events');
settle();
is(worker('never-1', 'state, reason'), 'stopped|exited', 'it stays so when the table is read');
$node->reload;
settle();
is(worker('never-1', 'state, reason'), 'stopped|exited', 'and after a reload');
$s->query(q{SELECT supervisor.start_worker('never-1', NULL)});
becomes(q{SELECT count(*) = 2 FROM supervisor.event WHERE name = 'never-1' AND event = 'stopped'}, 'start_worker starts it again');
is(starts('never-1'), '2', 'once');
remove_all();

# What repeats itself does not fill the ring.
add('again', 'exit', argument => 0, restart_delay => '1 ms', restart_delay_max => '1 ms');
add('again-1', 'exit', argument => 1, restart_delay => '1 ms', restart_delay_max => '1 ms', restart_window => '0');
becomes("SELECT restarts > 60 FROM supervisor.worker_status WHERE name = '$_'", "$_: it is started very often")
  foreach 'again', 'again-1';
value("SELECT supervisor.stop_worker('$_')") foreach 'again', 'again-1';
foreach my $case ([ 'again', 0 ], [ 'again-1', 1 ])
{
	my ($name, $code) = @$case;

	is( value(qq{
			SELECT max(n), min(n), sum(count) > 3 * 50, bool_and(counted = 1), bool_and(last_at >= at) FROM (
				SELECT count(*) OVER w AS n, count(*) FILTER (WHERE count > 1) OVER w AS counted, count, at, last_at
				FROM supervisor.event
				WHERE name = '$name' AND (event IN ('starting', 'running') OR detail = 'exit code $code' AND event = 'exited')
				WINDOW w AS (PARTITION BY event)) e}),
		'10|10|t|t|t', "$name: ten of each are told one by one, and the last counts all that follow");
	is(value("SELECT max(generation) >= 60 FROM supervisor.event WHERE name = '$name' AND count > 1"), 't', "$name: the process is that of the last time");
}
value(q{SELECT supervisor.alter_worker('again', argument => 1)});
$s->query(q{SELECT supervisor.start_worker('again', '0')});
becomes(q{SELECT count(*) > 0 FROM supervisor.event WHERE name = 'again' AND event = 'exited' AND detail = 'exit code 1'}, 'what is new is an event of its own');
remove_all();

note 'delays';

# Between the end and the next start: delay, delay * 2, ...; a loaded machine may only add to that.
add('doubling', 'exit', argument => 1, restart_delay => '20 ms', restart_delay_max => '1 h', max_restarts => 6);
reaches('doubling', 'failed', 'max_restarts', 'a worker that fails again and again');
is(value(q{
		SELECT count(*), bool_and(pause >= 0.02 * 2 ^ (n - 2)) FROM (
			SELECT row_number() OVER (ORDER BY id) AS n, extract(epoch FROM at - lag(at) OVER (ORDER BY id)) AS pause
			FROM supervisor.event WHERE name = 'doubling' AND event IN ('starting')) s
		WHERE n > 1}), '6|t', 'waits twice as long each time');

my $delay = q{extract(epoch FROM restart_at - last_exit_at)};
add('bad', 'exit', argument => 1, restart_delay => '1 h', restart_delay_max => '2 h', instances => 8);
reaches('bad', 'backoff', 'exited', 'a worker that failed waits');
is(value("SELECT bool_and($delay BETWEEN 3600 AND 3600 * 1.25 + 60), count(DISTINCT ($delay / 10)::int) > 1 FROM supervisor.worker_status WHERE name = 'bad'"),
	't|t', 'for restart_delay and some more, siblings not in step');
is(value(q{SELECT DISTINCT consecutive_failures FROM supervisor.worker_status WHERE name = 'bad'}), '1', 'that was one failure');
add('good', 'exit', argument => 0, restart_delay => '1 h', restart_delay_max => '2 h');
reaches('good', 'backoff', 'exited', 'one that ends well and at once waits, too');
is(worker('good', "$delay BETWEEN 3600 AND 3600 * 1.25 + 60, consecutive_failures"), 't|0', 'which is no failure');
my $before = worker('good', 'generation, restart_at');
value(q{SELECT supervisor.alter_worker('good', stop_timeout => '1 min')});
settle();
is(worker('good', 'generation, restart_at'), $before, 'a change of how it is kept starts nothing');
value(q{SELECT supervisor.alter_worker('good', argument => 1)});
becomes(q{SELECT last_exit_code = 1 AND state = 'backoff' FROM supervisor.worker_status WHERE name = 'good'}, 'one of what runs does');
my $starts = starts('good');
$s->query(q{SELECT supervisor.start_worker('good', '0')});
becomes("SELECT count(*) = $starts + 1 FROM supervisor.event WHERE name = 'good' AND event = 'starting'", 'start_worker does not wait for the delay');
remove_all();

note 'giving up';

my $log = -s $node->logfile;
add('lost', 'exit', argument => 1, max_restarts => 3);
reaches('lost', 'failed', 'max_restarts', 'more failures than max_restarts: it is given up');
is(starts('lost'), '4', 'after the first start and three more');
is(worker('lost', 'consecutive_failures, detail, restart_at IS NULL, pid IS NULL'), '4|exit code 1|t|t', 'and says what happened');
$node->wait_for_log(
	qr/LOG: .*worker "lost" in slot \d+ ended: exit code 1\n.*DETAIL: .*more than 3 times within 600000 ms, and is given up.*\n.*HINT: .*start_worker/, $log);
settle();
$node->reload;
settle();
value(q{SELECT supervisor.alter_worker('lost', max_restarts => 5, restart_delay => '20 ms')});
value(q{SELECT supervisor.alter_worker('lost', argument => 0)});
value(q{UPDATE supervisor.worker SET function = 'probe_main' WHERE name = 'lost'});
settle();
is(worker('lost', 'state, reason'), 'failed|max_restarts', 'it stays so, whatever is altered or reloaded');
is(starts('lost'), '4', 'and is not started');
is(value(q{SELECT supervisor.start_worker('lost')}), 't', 'start_worker ends that');
is(worker('lost', 'state, consecutive_failures'), 'running|0', 'and begins anew');
remove_all();

add('once', 'exit', argument => 1, max_restarts => 0);
reaches('once', 'failed', 'max_restarts', 'with max_restarts 0 the first failure is the last');
is(starts('once'), '1', 'of the only start');
value(q{UPDATE supervisor.worker SET function = 'probe_main' WHERE name = 'once'});
is(value(q{SELECT supervisor.restart_worker('once')}), 't', 'restart_worker ends it, too');
remove_all();

add('fixed', 'exit', argument => 1, max_restarts => 0);
reaches('fixed', 'failed', 'max_restarts', 'a worker that has failed');
my $t = SupervisorTest::session($node);
my $failed = worker('fixed', 'generation');
$t->query(qq{
	BEGIN;
	UPDATE supervisor.worker SET function = 'probe_main' WHERE name = 'fixed';
	SELECT supervisor.start_worker('fixed')});
becomes("SELECT state = 'failed' AND generation > $failed FROM supervisor.worker_status WHERE name = 'fixed'", 'that is fixed and started in one transaction');
$t->query_safe('COMMIT');
reaches('fixed', 'running', undef, 'runs when that commits');
remove_all();

add('twice', 'exit', argument => 1, max_restarts => 1, instances => 2);
reaches('twice', 'failed', 'max_restarts', 'each instance is given up');
is(value(q{SELECT supervisor.stop_worker('twice')}), 't', 'one that has failed can be stopped');
is(value(q{SELECT enabled FROM supervisor.worker WHERE name = 'twice'}), 'f', 'so that it does not start with the server');
remove_all();

add('window', 'exit', argument => 1, max_restarts => 1, restart_window => '1 ms', restart_delay => '5 ms', restart_delay_max => '5 ms');
becomes(q{SELECT restarts > 5 FROM supervisor.worker_status WHERE name = 'window'}, 'failures that are farther apart than restart_window');
add('no-window', 'exit', argument => 1, max_restarts => 1, restart_window => '0');
becomes(q{SELECT restarts > 5 FROM supervisor.worker_status WHERE name = 'no-window'}, 'or with a window of 0, are never too many');
remove_all();

SupervisorTest::set($node, 'supervisor.max_restarts' => 2);
add('plain', 'exit', argument => 1);
reaches('plain', 'failed', 'max_restarts', 'a worker that names no policy follows the settings');
is(starts('plain'), '3', 'as they are now');
SupervisorTest::set($node, 'supervisor.max_restarts' => 1000, 'supervisor.restart_delay' => '1h');
$s->query(q{SELECT supervisor.start_worker('plain', '0')});
reaches('plain', 'backoff', 'exited', 'a reload changes them');
SupervisorTest::set($node, 'supervisor.restart_delay' => '10ms');
remove_all();

# A command fails as a function does.
value(q{SELECT supervisor.add_worker('command', 'SELECT 1/0', '10 ms', max_restarts => 2)});
reaches('command', 'failed', 'max_restarts', 'a command that fails is given up');
is(worker('command', 'last_sqlstate, last_error'), '22012|division by zero', 'with its error');
value(q{SELECT supervisor.alter_worker('command', 'SELECT')});
is(value(q{SELECT supervisor.start_worker('command')}), 't', 'and can be fixed');
remove_all();

note 'too slow to start';

# A command is read from its row before its worker is ready.
value(q{SELECT supervisor.add_worker('slow', 'SELECT', '1 h', start_timeout => '100 ms', restart_delay => '1 h', enabled => false)});
reaches('slow', 'stopped', 'disabled', 'a worker that does not run yet');
$t->query_safe('BEGIN; LOCK TABLE supervisor.worker');
$log = -s $node->logfile;
is($t->query_safe(q{SET client_min_messages = error; SELECT supervisor.start_worker('slow', '0')}), 'f', 'is started');
reaches('slow', 'backoff', 'start_timeout', 'and terminated when it is not ready after start_timeout');
is(worker('slow', 'consecutive_failures, detail'), '1|the process did not start in time', 'which is a failure');
is(value(q{SELECT string_agg(event, ' ' ORDER BY id) FROM supervisor.event WHERE name = 'slow'
		AND id > (SELECT max(id) FROM supervisor.event WHERE name = 'slow' AND event = 'starting')}),
	'stopping exited backoff', 'as the events say');
$t->query_safe('COMMIT');
settle();
is(worker('slow', 'state'), 'backoff', 'it waits as after any failure');
value(q{SELECT supervisor.alter_worker('slow', start_timeout => '0')});
is(value(q{SELECT supervisor.start_worker('slow')}), 't', 'and can be started when nothing is in its way');
remove_all();

note 'too slow to stop';

# What does not hear SIGTERM must go at the end, or the server could not be stopped.
my %deaf;

END
{
	my $status = $?;
	kill 'KILL', $_ foreach keys %deaf;
	$? = $status;
}

# Returns the process ID of the worker "deaf" once it hears SIGUSR2.
sub deaf
{
	$s->wait_true(q{SELECT count(*) = 1 FROM supervisor.worker_status w JOIN pg_stat_activity a USING (pid)
		WHERE w.name = 'deaf' AND w.state = 'running'}) or die 'the worker does not run';
	return worker('deaf', 'pid');
}

$log = -s $node->logfile;
add('deaf', 'deaf', stop_timeout => '50 ms');
my $pid = deaf();
my $generation = worker('deaf', 'generation');
$deaf{$pid} = 1;
my (undef, $stderr) = $s->query(q{SELECT supervisor.stop_worker('deaf', '200 ms')});
like($s->{stderr}, qr/WARNING: .*worker "deaf" has not ended yet\n.*DETAIL: .*The request stands/, 'stop_worker says that it has not ended');
reaches('deaf', 'stuck', 'stop_timeout', 'it is stuck');
is(worker('deaf', 'detail, pid, generation'), "it does not react to SIGTERM|$pid|$generation", 'and still there');
$node->wait_for_log(qr/LOG: .*worker "deaf" in slot \d+, process $pid, does not stop\n.*DETAIL: .*\n.*HINT: .*No other is started/, $log);
$s->query(q{SELECT supervisor.start_worker('deaf', '200 ms')});
like($s->{stderr}, qr/WARNING: .*worker "deaf" has not started yet/, 'another is not started beside it');
settle();
is(worker('deaf', 'state, pid'), "stuck|$pid", 'it is stuck, and alone');
my @logged = slurp_file($node->logfile, $log) =~ /(does not stop)/g;
is(scalar @logged, 1, 'which is logged once');
kill 'USR2', $pid or die "could not signal $pid: $!";
delete $deaf{$pid};
$pid = deaf();
$deaf{$pid} = 1;
is(worker('deaf', 'generation') - $generation, 1, 'another is started when it has gone');
value(q{SELECT supervisor.remove_worker('deaf')});
reaches('deaf', 'stuck', 'stop_timeout', 'a worker that is removed and does not stop is seen as long as it is there');
kill 'USR2', $pid or die "could not signal $pid: $!";
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'deaf'}, 'and gone when it has ended');
delete $deaf{$pid};

# Why it is being stopped counts, however long that takes: its exit code 0 is no clean exit.
add('deaf', 'deaf', heartbeat_timeout => '100 ms', stop_timeout => '50 ms', restart => 'on_failure', restart_delay => '1 h');
$pid = deaf();
$deaf{$pid} = 1;
reaches('deaf', 'stuck', 'stop_timeout', 'a worker that is silent, and deaf');
kill 'USR2', $pid or die "could not signal $pid: $!";
reaches('deaf', 'backoff', 'no_heartbeat', 'has failed, though it ends with exit code 0');
is(worker('deaf', 'last_exit_code, consecutive_failures, detail'), '0|1|it sent no heartbeat in time', 'and says why');
delete $deaf{$pid};
value(q{SELECT supervisor.remove_worker('deaf')});

note 'runs of a command';

value(q{
	CREATE SEQUENCE runs;
	SELECT supervisor.add_worker('mostly', $$SELECT 1 / (nextval('runs') % 4)::int$$, run_every => '1 ms',
		restart_delay => '1 ms', restart_delay_max => '1 h', max_restarts => 2, restart_window => '1 h')});
becomes(q{SELECT last_value > 60 FROM runs}, 'a command that mostly succeeds is not given up');
becomes(q{SELECT state = 'running' AND consecutive_failures = 0 AND restart_at IS NULL FROM supervisor.worker_status WHERE name = 'mostly'},
	'after a success there is no failure in a row');
value(q{SELECT supervisor.alter_worker('mostly', command => 'SELECT 1/0')});
reaches('mostly', 'failed', 'max_restarts', 'when it only fails, it is');
value(q{SELECT supervisor.remove_worker('mostly')});

note 'a server that crashes';

# Crashes the server, and returns when it is up again.
sub crash
{
	my ($victim) = @_;
	my $offset = -s $node->logfile;

	kill 'KILL', $victim or die "could not kill $victim: $!";
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	eval { $s->quit };
	SupervisorTest::wait_true($node, q{SELECT count(*) > 0 FROM supervisor.worker_status WHERE name = 'lib'});
	$s = SupervisorTest::session($node);
}

my $left = q{extract(epoch FROM restart_at - state_since)};
SupervisorTest::set($node, 'supervisor.restart_delay' => '1h', 'supervisor.restart_delay_max' => '10h');
add('lib', 'main', restart_delay => '1 ms');
value(q{SELECT supervisor.add_worker('cmd', 'SELECT', '1 h')});
reaches($_, 'running', undef, "$_ runs") foreach 'lib', 'cmd';
crash(worker('cmd', 'pid'));
reaches('cmd', 'running', undef, 'after a crash commands run again at once');
reaches('lib', 'backoff', 'exited', 'C functions wait');
is(worker('lib', "detail, $left BETWEEN 3000 AND 3600"), 'the server has crashed|t',
	'for supervisor.restart_delay, whatever their own is');
crash(worker('cmd', 'pid'));
reaches('cmd', 'running', undef, 'after another crash commands run again at once');
is(worker('lib', "detail, $left BETWEEN 6600 AND 7200"), 'the server has crashed, 2 times in a row|t', 'C functions wait twice as long');
is(value(q{SELECT supervisor.stop_worker('lib')}), 't', 'one can be stopped meanwhile');
is(worker('lib', 'state, reason'), 'stopped|disabled', 'and is');
is(value(q{SELECT supervisor.start_worker('lib')}), 't', 'or started');
is(worker('lib', 'state'), 'running', 'and runs');
add('lib2', 'main');
reaches('lib2', 'backoff', 'exited', 'one that is added waits as well');
$s->quit;
$node->restart;
$s = SupervisorTest::session($node);
reaches($_, 'running', undef, "after a restart of the server $_ runs at once") foreach 'lib', 'lib2', 'cmd';

SupervisorTest::set($node, 'supervisor.restart_window' => '1ms');
crash(worker('cmd', 'pid')) foreach 1, 2;
is(worker('lib', "detail, $left BETWEEN 3000 AND 3600"), 'the server has crashed|t',
	'crashes that are farther apart than restart_window are not in a row');
SupervisorTest::set($node, 'supervisor.restart_window' => '10min');

# What crashes the server each time leaves it in peace for long enough.
$log = -s $node->logfile;
add('killer', 'crash', enabled => 'false');
value(q{UPDATE supervisor.worker SET enabled = true WHERE name = 'killer'});
settle();
reaches('killer', 'backoff', 'exited', 'what has been added since waits, too');
eval { $s->query(q{SELECT supervisor.start_worker('killer')}); };
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
eval { $s->quit };
SupervisorTest::wait_true($node, q{SELECT state = 'backoff' FROM supervisor.worker_status WHERE name = 'killer'});
$s = SupervisorTest::session($node);
ok(1, 'a worker that crashes the server waits, and people can log in');
is(value(q{SELECT supervisor.stop_worker('killer')}), 't', 'and stop it');
$s->quit;

note 'a server that does not come up';

$node->safe_psql('postgres', q{UPDATE supervisor.worker SET enabled = true});
$node->stop('immediate');		# "fast" hangs where core is about to recover from a crash
$log = -s $node->logfile;
is(system('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-c supervisor.start_workers=off', 'start'), 0,
	'with -c supervisor.start_workers=off');
$node->_update_pid(1);
$s = SupervisorTest::session($node);
becomes(q{SELECT count(*) = 4 AND bool_and(state = 'stopped' AND reason = 'disabled') FROM supervisor.worker_status WHERE kind IN ('command', 'library')},
	'no declared worker runs, and each says so');
unlike(slurp_file($node->logfile, $log), qr/terminated by signal/, 'and nothing crashes');
$s->query(q{SELECT supervisor.start_worker('lib')});
like($s->{stderr}, qr/WARNING: .*worker "lib" has not started yet\n.*DETAIL: .*"supervisor\.start_workers" is off/, 'start_worker says so, too');
value(q{SELECT supervisor.remove_worker('killer')});
$s->quit;
$node->stop;
$node->start;
$s = SupervisorTest::session($node);
reaches($_, 'running', undef, "without it, $_ runs") foreach 'lib', 'lib2', 'cmd';

$s->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal (?!9)/, 'no process has crashed by itself');
done_testing();
