# Restarting and terminating workers, by call and by signal, and what is told of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused value stop_process continue_process);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'supervisor.max_workers' => 8,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'none:0',
	'supervisor.restart_delay' => '10ms');

SupervisorTest::ask(\$node);

# Returns columns of the worker in a slot.
sub worker
{
	my ($slot, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE slot = $slot");
}

# Calls a function that returns a boolean; returns that and stderr.
sub call
{
	my ($sql, %opts) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', "SELECT supervisor.$sql",
		stdout => \$stdout, stderr => \$stderr,
		extra_params => SupervisorTest::psql_params(%opts));
	return ($stdout, $stderr);
}

sub hold
{
	my $session = SupervisorTest::session($node);

	$session->query_safe('SELECT pg_advisory_lock(1)');
	return $session;
}

my $blocked = 'SELECT 1 FROM pg_advisory_xact_lock_shared(1)';

# A session that waits for a task which waits for hold(); and the slot, generation and pid of its worker.
sub busy
{
	my ($function, %opts) = @_;
	my $session = SupervisorTest::session($node, %opts);

	$session->begin($function // "SELECT supervisor.execute('$blocked')");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM supervisor.worker_status WHERE command LIKE '$blocked%'")
	  or die 'the task does not run';
	return ($session, split /\|/,
		value("SELECT slot, generation, pid FROM supervisor.worker_status WHERE command LIKE '$blocked%'"));
}

# Binds a worker to a role; returns its slot, generation and pid.
sub bound
{
	my (%opts) = @_;
	my $session = SupervisorTest::session($node, %opts);
	my $pid = $session->query_safe(
		q{SELECT pid FROM supervisor.run('SELECT pg_backend_pid()') AS (pid int)});

	$session->quit;
	return split /\|/, value("SELECT slot, generation, pid FROM supervisor.worker_status WHERE pid = $pid");
}

sub log_since
{
	my ($offset) = @_;

	return slurp_file($node->logfile, $offset);
}

sub logged
{
	my ($regex, $offset) = @_;

	return scalar(() = log_since($offset) =~ /$regex/g);
}

SupervisorTest::wait_ready($node, 'default', 2);
value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE member LOGIN IN ROLE alice;
	CREATE ROLE signaler LOGIN IN ROLE pg_signal_backend;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob, member;
	GRANT EXECUTE ON FUNCTION supervisor.execute TO signaler;
	GRANT EXECUTE ON FUNCTION supervisor.run TO signaler;
	CREATE ROLE nobody LOGIN});
SupervisorTest::leaks($node);
my ($out, $err);

note 'a worker without a task';

my $offset = -s $node->logfile;
my ($generation, $pid) = split /\|/, worker(0, 'generation, pid');
is(join('', call('restart_worker(0)')), 't', 'restart_worker of an unbound worker returns true');
is(worker(0, "generation = $generation + 1, pid <> $pid, state, activity, reason, restarts, consecutive_failures"),
	't|t|running|unbound||1|0', 'there is a new process, ready, and that was no failure');
is(worker(0, 'last_exit_code, last_sqlstate, last_error, last_exit_at IS NOT NULL'),
	'0|||t', 'the former one ended without an error');

($generation, $pid) = split /\|/, worker(0, 'generation, pid');
is(join('', call('terminate_worker(0)')), 't', 'terminate_worker of an unbound worker returns true');
becomes("SELECT generation = $generation + 1 AND state = 'running' FROM supervisor.worker_status WHERE slot = 0",
	'it is replaced');
is(worker(0, 'consecutive_failures, last_exit_code, last_sqlstate'), '0|1|57P01',
	'it is known how it ended, and that was no failure');
is(value(q{SELECT count(*) FROM supervisor.event WHERE event = 'backoff'}), '0', 'nor is there a back-off');

my $slot;
($slot, $generation) = bound();
is(join('', call("restart_worker($slot)")), 't', 'restart_worker of an idle worker returns true');
is(worker($slot, "generation - $generation, state, activity, datname, usename"), '1|running|unbound||',
	'its successor is unbound');
is(logged(qr/worker of pool .* ended/, $offset), 0, 'exits that were asked for are not logged as ended');

note 'arguments';

($generation, $pid) = split /\|/, worker(0, 'generation, pid');
foreach my $function (qw(restart_worker terminate_worker))
{
	foreach my $other ($generation - 1, $generation + 1, 0, -1)
	{
		is(join('', call("$function(0, generation => $other)")), 'f',
			"$function: another generation gets false and no message");
	}
	refused("SELECT supervisor.$function(NULL)", '22004', "$function: slot is null");
	refused("SELECT supervisor.$function($_)", '22023', "$function: slot $_ is out of range")
	  for -1, 8, 2147483647, '-2147483648';
	refused("SELECT supervisor.$function(7)", '55000', "$function: slot is empty");
	refused("SELECT supervisor.$function(0, '-1 s')", '22023', "$function: timeout is negative");
	refused("SELECT supervisor.$function(0)", '42501', "$function: needs EXECUTE", user => 'nobody');
}
refused(q{SELECT supervisor.restart_pool('unheard of')}, '42704', 'restart_pool: no such pool');
refused(q{SELECT supervisor.restart_pool('default', '-1 s')}, '22023', 'restart_pool: timeout is negative');
refused(q{SELECT supervisor.restart_pool()}, '42501', 'restart_pool: needs EXECUTE', user => 'nobody');
is(worker(0, 'generation, pid'), "$generation|$pid", 'none of these has done anything');
is(join('', call("restart_worker(0, generation => $generation)")), 't', 'the right generation is restarted');
is(join('', call('restart_worker(0, NULL)')), 't', 'a timeout of NULL waits');
is(join('', call(q{restart_worker(0, '100 years')})), 't', 'so does a very long one');
is(join('', call(q{restart_pool('default', '100 years')})), 't', 'also of restart_pool');
is(join('', call(q{restart_pool('none')})), 't', 'restart_pool of a pool of none is done at once');

note 'a busy worker';

my $lock = hold();
my ($session, $busy_slot, $busy_generation, $busy_pid) = busy();
($out, $err) = call("restart_worker($busy_slot, '50 ms')");
is($out, 'f', 'restart_worker of a busy worker returns false after its timeout');
like($err, qr/^(?:psql:\S+ )?WARNING: .*\n(?:.*\n)*DETAIL:  .*request stands/m, 'with a warning that the request stands');
is(worker($busy_slot, 'generation, pid, activity'), "$busy_generation|$busy_pid|busy", 'and the task runs on');
($out, $err) = SupervisorTest::error_of($node, "SET statement_timeout = '50ms'; SELECT supervisor.restart_worker($busy_slot)");
is($out, '57014', 'a wait for it can be canceled');
$lock->quit;
is(join('', $session->finish), 'SELECT 1', 'its task succeeds');
becomes("SELECT generation = $busy_generation + 1 AND state = 'running' FROM supervisor.worker_status WHERE slot = $busy_slot",
	'then the request is fulfilled');
is(worker($busy_slot, 'consecutive_failures, last_exit_code'), '0|0', 'without a failure');
$session->quit;

foreach my $how ('terminate_worker', 'pg_terminate_backend')
{
	foreach my $case (
		[ execute => "SELECT supervisor.execute('$blocked')" ],
		[ run => "SELECT * FROM supervisor.run('$blocked') AS (a int)" ],
		[ perform => "CALL supervisor.perform('$blocked')" ])
	{
		my ($what, $sql) = @$case;

		$lock = hold();
		$offset = -s $node->logfile;
		my $failed = value(q{SELECT tasks_failed FROM supervisor.pool_status WHERE pool = 'default'});
		($session, $busy_slot, $busy_generation, $busy_pid) = busy($sql);
		my $slot_failed = worker($busy_slot, 'tasks_failed');
		is( $how eq 'terminate_worker'
			? join('', call("terminate_worker($busy_slot)"))
			: value("SELECT pg_terminate_backend($busy_pid, 5000)"),
			't', "$how of a busy worker, $what: returns true");
		($out, $err) = $session->finish;
		is(SupervisorTest::sqlstate($err), '55000', "$how, $what: the task fails with 55000");
		like($err, qr/^DETAIL:  57P01: terminating/m, "$how, $what: the original error is the detail");
		unlike($err, qr/(ERROR|FATAL):  57P01/, "$how, $what: 57P01 itself is not raised");
		is($session->query_safe('SELECT 1'), '1', "$how, $what: the session of the caller lives on");
		becomes("SELECT generation = $busy_generation + 1 AND state = 'running' FROM supervisor.worker_status WHERE slot = $busy_slot",
			"$how, $what: the worker is replaced");
		is(worker($busy_slot, "last_exit_code, last_sqlstate, last_error LIKE 'terminating %', consecutive_failures, tasks_failed - $slot_failed"),
			'1|57P01|t|0|1', "$how, $what: it is known why it ended");
		is(value(qq{SELECT tasks_failed - $failed FROM supervisor.pool_status WHERE pool = 'default'}),
			'1', "$how, $what: the task is counted as failed");
		is( value(qq{SELECT string_agg(event || ' ' || coalesce(detail, '-'), ';' ORDER BY id) FROM supervisor.event
				WHERE slot = $busy_slot AND generation = $busy_generation AND event = 'exited'}) =~
			  /^exited exit code 1: terminating [^;]*$/ ? 'once' : 'not',
			'once', "$how, $what: the exit is an event");
		is(logged(qr/LOG: .*worker of pool "default" in slot $busy_slot ended: exit code 1: terminating/, $offset),
			$how eq 'terminate_worker' ? 0 : 1,
			"$how, $what: it is logged if it was not asked for");
		$_->quit for $session, $lock;
	}
}

# what reads a launched one or a batch
$lock = hold();
($session, $busy_slot) = busy("SELECT supervisor.launch('$blocked') AS task \\gset");
($out, $err) = $session->finish;
call("terminate_worker($busy_slot)");
is($session->query_safe('SELECT supervisor.wait(:task)'), 'failed', 'a launched task whose worker is terminated has failed');
is(value('SELECT state, sqlstate, message IS NOT NULL FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), 'failed|55000|t', 'and is shown so');
($out, $err) = $session->error_of('SELECT * FROM supervisor.result(:task) AS (a int)');
is($out, '55000', 'result raises that');
like($err, qr/^DETAIL:  57P01: terminating/m, 'with the original error');
$session->quit;
($session, $busy_slot) = busy("SELECT ordinality, tag, sqlstate FROM supervisor.execute_all(ARRAY['$blocked', 'SELECT 2'])");
call("terminate_worker($busy_slot)");
is(join('', $session->finish), "1||55000\n2|SELECT 1|", 'execute_all reports it, and runs the others');
$_->quit for $session, $lock;

refused(q{SELECT supervisor.execute('SELECT pg_terminate_backend(pg_backend_pid())')}, '55000',
	'a task that terminates its own worker fails with 55000');
refused(q{SELECT supervisor.execute('SELECT supervisor.terminate_worker(slot) FROM supervisor.worker_status WHERE pid = pg_backend_pid()')},
	'55000', 'also by terminate_worker');
is( value(q{SELECT supervisor.execute('SELECT supervisor.restart_worker(slot, ''50 ms'') FROM supervisor.worker_status WHERE pid = pg_backend_pid()')}),
	'SELECT 1', 'a task that asks to restart its own worker ends first');
becomes(q{SELECT running = 2 FROM supervisor.pool_status WHERE pool = 'default'}, 'and it is restarted');
is(SupervisorTest::leaks($node), '', 'nothing is lost by any of these');

note 'rights';

is(join('', call('restart_pool()')), 't', 'restart_pool returns true');
foreach my $role (qw(signaler alice))
{
	like(refused('SELECT supervisor.terminate_worker(0)', '42501', "an unbound worker is the superuser's to terminate ($role)", user => $role),
		qr/permission denied.*DETAIL: /s, 'with a detail');
}
($slot) = bound();
refused("SELECT supervisor.terminate_worker($slot)", '42501', "so is a worker of a superuser ($_)", user => $_)
  for qw(signaler alice);
refused("SELECT supervisor.restart_worker($slot)", '42501', 'nobody restarts one without EXECUTE', user => 'nobody');
is(join('', call("restart_worker($slot)", user => 'bob')), 't', 'who has it restarts one of the pool');
foreach my $role (qw(alice member signaler))
{
	($slot, $generation) = bound(user => 'alice');
	refused("SELECT supervisor.terminate_worker($slot)", '42501', 'not by a role that has nothing to do with it', user => 'bob');
	refused("SELECT supervisor.terminate_worker($slot)", '42501', 'nor without EXECUTE', user => 'nobody');
	is(worker($slot, 'generation'), $generation, 'which does nothing');
	is(join('', call("terminate_worker($slot)", user => $role)), 't', "who may signal the role's backends may ($role)");
	becomes("SELECT generation = $generation + 1 AND state = 'running' FROM supervisor.worker_status WHERE slot = $slot",
		"which does it ($role)");
}
is(join('', call('restart_pool()', user => 'bob')), 't', 'restart_pool needs EXECUTE only');
is(join('', call('restart_pool()', user => 'signaler')), 't', 'which pg_signal_backend has');

note 'restart_pool';

my $before = value('SELECT slot, generation FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY slot');
my $event = value('SELECT max(id) FROM supervisor.event');
is(join('', call('restart_pool()')), 't', 'restart_pool returns true when all are new');
is(value('SELECT slot, generation - 1 FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY slot'), $before, 'each once');
is(value(qq{SELECT string_agg(event, ' ' ORDER BY id) FROM supervisor.event WHERE id > $event AND event IN ('exited', 'running')}),
	'exited running exited running', 'one after another');

$lock = hold();
($session, $busy_slot, $busy_generation) = busy();
($out, $err) = call(q{restart_pool('default', '300 ms')});
is($out, 'f', 'restart_pool returns false after its timeout if a worker is busy');
like($err, qr/WARNING: .*DETAIL:  .*request stands/s, 'with a warning that the request stands');
is(worker($busy_slot, 'generation, activity'), "$busy_generation|busy", 'the task is not disturbed');
my @waiting = map { SupervisorTest::session($node) } 1 .. 2;
$_->begin(q{SELECT supervisor.restart_pool('default', '1 min')}) for @waiting;
$lock->quit;
is(join('', $session->finish), 'SELECT 1', 'it succeeds');
is(join('', map { $_->finish } @waiting), 'tt', 'two that wait for the same pool both return true');
$_->quit for $session, @waiting;
cmp_ok(worker($busy_slot, 'generation'), '>', $busy_generation, 'the busy one was restarted, too');

# the pool changes under its feet
$lock = hold();
($session) = busy();
my $waiter = SupervisorTest::session($node);
$waiter->begin(q{SELECT supervisor.restart_pool('default', '1 min')});
SupervisorTest::set($node, 'supervisor.pool_size' => 0);
becomes(q{SELECT size = 0 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool is switched off meanwhile');
$lock->quit;
is(join('', $session->finish), 'SELECT 1', 'the task succeeds');
is(join('', $waiter->finish), 't', 'restart_pool of a pool that vanished ends');
SupervisorTest::set($node, 'supervisor.pool_size' => 2);
SupervisorTest::wait_ready($node, 'default', 2);
$lock = hold();
$session->begin("SELECT supervisor.execute('$blocked')");
becomes(q{SELECT busy = 1 FROM supervisor.pool_status WHERE pool = 'default'}, 'a worker is busy');
($busy_slot) = value(q{SELECT slot FROM supervisor.worker_status WHERE activity = 'busy'});
$waiter->begin("SELECT supervisor.restart_worker($busy_slot, '1 min')");
SupervisorTest::set($node, 'supervisor.pool_size' => 0);
becomes(q{SELECT size = 0 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool is switched off meanwhile');
$lock->quit;
is(join('', $session->finish), 'SELECT 1', 'the task succeeds');
is(join('', $waiter->finish), 't', 'restart_worker of a worker whose pool vanished ends');
SupervisorTest::set($node, 'supervisor.pool_size' => 2);
SupervisorTest::wait_ready($node, 'default', 2);
$_->quit for $session, $waiter;
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

note 'pg_cancel_backend';

($slot, $generation, $pid) = bound();
$offset = -s $node->logfile;
is(value("SELECT pg_cancel_backend($pid) FROM generate_series(1, 20)"), join("\n", ('t') x 20), 'an idle worker is canceled');
kill 'INT', value(q{SELECT pid FROM supervisor.worker_status WHERE activity = 'unbound'});
is(join(',', bound()), "$slot,$generation,$pid", 'which does nothing to it nor to its next task');
is(value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[20]))}), '20',
	'nor does it to an unbound one');
unlike(log_since($offset), qr/ERROR|FATAL/, 'and is not worth a message');
$lock = hold();
($session, $busy_slot, $busy_generation, $busy_pid) = busy();
my $canceled = worker($busy_slot, 'tasks_canceled');
is(value("SELECT pg_cancel_backend($busy_pid)"), 't', 'a busy worker is canceled');
($out, $err) = $session->finish;
is(SupervisorTest::sqlstate($err), '57014', 'which cancels its task');
is(worker($busy_slot, "generation, pid, activity, tasks_canceled - $canceled"), "$busy_generation|$busy_pid|idle|1",
	'and leaves the worker');
$_->quit for $session, $lock;

note 'a bound worker is terminated between tasks';

SupervisorTest::set($node, 'supervisor.restart_delay' => '10s', 'supervisor.restart_delay_max' => '45s');
is(join('', call('restart_pool()')), 't', 'both workers are new');
($slot, $generation, $pid) = bound();
$offset = -s $node->logfile;
is(value("SELECT pg_terminate_backend($pid, 5000)"), 't', 'pg_terminate_backend of an idle worker');
becomes("SELECT state = 'running' AND generation = $generation + 1 FROM supervisor.worker_status WHERE slot = $slot",
	'it is replaced at once: other roles do not pay for it');
is(worker($slot, q{activity, last_exit_code, last_sqlstate, last_error LIKE 'terminating %', consecutive_failures}),
	'unbound|1|57P01|t|0', 'it is known why it ended');
is(logged(qr/LOG: .*worker of pool "default" in slot $slot ended: exit code 1: terminating/, $offset), 1, 'it is in the log');
is(value(qq{SELECT count(*) FROM supervisor.event WHERE slot = $slot AND generation = $generation
		AND event = 'exited' AND detail LIKE 'exit code 1: terminating %'}), '1', 'and an event');

note 'back-off';

# An unbound worker is no backend to core: only the operating system's signals reach it.
my $failures = 0;
$offset = -s $node->logfile;
($slot, $generation) = split /\|/, value(q{SELECT slot, generation FROM supervisor.worker_status WHERE activity = 'unbound' LIMIT 1});
foreach my $delay (10, 20, 40, 45, 45)
{
	if ($failures > 0)
	{
		my $function = $failures % 2 ? 'restart_worker' : 'terminate_worker';
		$generation = worker($slot, 'generation');
		is(join('', call("$function($slot, '1 min')")), 't', "$function of a worker in back-off returns true");
		becomes("SELECT generation = $generation + 1 AND state = 'running' FROM supervisor.worker_status WHERE slot = $slot",
			"$function: it is tried at once");
	}
	$failures++;
	kill 'TERM', worker($slot, 'pid');
	becomes("SELECT state = 'backoff' FROM supervisor.worker_status WHERE slot = $slot", "failure $failures: back-off");
	is(worker($slot, qq{reason, detail LIKE 'exit code 1: terminating %', pid, activity, usename, consecutive_failures,
		restart_at - state_since BETWEEN interval '$delay s' AND interval '1.25 s' * $delay,
		last_exit_code, last_sqlstate, last_error LIKE 'terminating %'}),
		"exited|t||||$failures|t|1|57P01|t", "failure $failures: after $delay s it is tried again, and it is told why");
	is(logged(qr/LOG: .*worker of pool "default" in slot $slot ended: exit code 1: terminating/, $offset), $failures,
		"failure $failures: it is in the log");
	is(value(qq{SELECT count(*) FROM supervisor.event WHERE slot = $slot AND event = 'backoff'}), $failures,
		"failure $failures: it is an event");
}
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'the rest of the pool works meanwhile');
SupervisorTest::set($node, 'supervisor.restart_delay' => '10ms', 'supervisor.restart_delay_max' => '20ms');
is(join('', call("restart_worker($slot, '1 min')")), 't', 'it is brought back');
becomes(qq{SELECT now() > started_at + interval '100 ms' FROM supervisor.worker_status WHERE slot = $slot}, 'it lasts for a while');
($generation, $pid) = split /\|/, worker($slot, 'generation, pid');
kill 'TERM', $pid;
becomes("SELECT state = 'running' AND generation = $generation + 1 FROM supervisor.worker_status WHERE slot = $slot",
	'it comes back by itself after its delay');
is(worker($slot, 'consecutive_failures'), '1', 'failures in a row start over after a run that lasted');
SupervisorTest::set($node, 'supervisor.restart_delay_max' => '1min');

note 'a worker that does not stop';

SupervisorTest::set($node, 'supervisor.stop_timeout' => '1h');
is(join('', call('restart_pool()')), 't', 'both workers are new');
# it has a task: one that has none is stuck after two seconds, whatever stop_timeout is
$lock = hold();
($session, $slot, $generation, $pid) = busy();
$offset = -s $node->logfile;
stop_process($pid);
($out, $err) = call("terminate_worker($slot, '100 ms')");
is($out, 'f', 'terminate_worker of a process that does not react returns false');
like($err, qr/WARNING: .*DETAIL:  .*request stands/s, 'with a warning that the request stands');
is(worker($slot, 'state, reason, activity, pid, generation'), "stopping|requested||$pid|$generation", 'it is stopping');
is(value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[20]))}), '20',
	'no task is given to it any more');
is(value(q{SELECT size, running FROM supervisor.pool_status WHERE pool = 'default'}), '2|1', 'nor does it count as running');

# the deadline was set when it began to stop
SupervisorTest::set($node, 'supervisor.stop_timeout' => '100ms');
my ($slot2, $generation2, $pid2) = bound();
isnt($slot2, $slot, 'the other worker is bound to the role now');
stop_process($pid2);
($out, $err) = call("terminate_worker($slot2, '0')");
is($out, 'f', 'it is terminated without waiting');
becomes("SELECT state = 'stuck' FROM supervisor.worker_status WHERE slot = $slot2", 'it is stuck after stop_timeout');
is(worker($slot2, 'reason, pid, generation, detail IS NOT NULL'), "stop_timeout|$pid2|$generation2|t", 'with the reason');
becomes(qq{
	SELECT count(*) = 1 FROM supervisor.worker_status
	WHERE state = 'running' AND slot NOT IN ($slot, $slot2)}, 'another takes its place, in another slot');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and works');
ok($node->wait_for_log(qr/worker of pool "default" in slot $slot2, process $pid2, does not stop/, $offset), 'it is in the log');
refused("SELECT pg_terminate_backend($pid2); SELECT supervisor.execute('SELECT 1', pool => 'none')", '55000', 'whatever is done meanwhile');
is(value(qq{SELECT count(*) FROM supervisor.event WHERE slot = $slot2 AND event = 'stuck'}), '1', 'it is reported once');
is(logged(qr/does not stop/, $offset), 1, 'in the log, too');
is(join('', call("terminate_worker($slot2, generation => $generation2 - 1)")), 'f', 'its slot is not taken for another\'s');
($out, $err) = call("terminate_worker($slot2, '50 ms')");
is($out, 'f', 'it can be asked again, to no effect');
$event = value('SELECT max(id) FROM supervisor.event');
continue_process($pid2);
becomes("SELECT count(*) = 0 FROM supervisor.worker_status WHERE slot = $slot2", 'when it ends at last, its slot is empty');
unlike(value(qq{SELECT string_agg(detail, ';') FROM supervisor.event WHERE id > $event AND slot = $slot2}), qr/shrank/,
	'which is not told as if the pool had shrunk');
continue_process($pid);
($out, $err) = $session->finish;
is(SupervisorTest::sqlstate($err), '55000', 'the task of the other fails when its worker ends');
becomes("SELECT state = 'running' AND generation = $generation + 1 FROM supervisor.worker_status WHERE slot = $slot",
	'one that ends before it is stuck is replaced in its slot');
SupervisorTest::wait_ready($node, 'default', 2);
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

# one with a task
($session, $busy_slot, $busy_generation, $busy_pid) = busy();
stop_process($busy_pid);
call("terminate_worker($busy_slot, '0')");
becomes("SELECT state = 'stuck' AND task IS NOT NULL FROM supervisor.worker_status WHERE slot = $busy_slot", 'one with a task is stuck');
SupervisorTest::wait_ready($node, 'default', 2);
continue_process($busy_pid);
($out, $err) = $session->finish;
is(SupervisorTest::sqlstate($err), '55000', 'its task fails when it ends');
becomes("SELECT count(*) = 0 FROM supervisor.worker_status WHERE slot = $busy_slot", 'and its slot is empty then');

# restart, of a worker that does not even look
($slot, $generation, $pid) = bound();
stop_process($pid);
is(value("SELECT supervisor.restart_worker($slot, '50 ms'); SELECT state, generation FROM supervisor.worker_status WHERE slot = $slot"),
	"f\nrunning|$generation", 'restart_worker of a process that does not react returns false: it is asked to leave, not terminated');
is(value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[20]))}), '20', 'and gets no task');
continue_process($pid);
becomes("SELECT count(*) = 0 FROM supervisor.worker_status WHERE pid = $pid", 'it leaves when it can');
SupervisorTest::wait_ready($node, 'default', 2);
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');
$_->quit for $session, $lock;

note 'a worker that does not start';

# A postmaster that is stopped forks nobody; its sessions go on.
$session = SupervisorTest::session($node);
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

$session->query_safe(q{ALTER SYSTEM SET supervisor.start_timeout = '200ms'});
$session->query_safe(q{ALTER SYSTEM SET supervisor.stop_timeout = '1h'});
$session->query_safe(q{ALTER SYSTEM SET supervisor.pool_size = 3});
$session->query_safe(q{ALTER SYSTEM SET supervisor.pools = 'none:0, new:1'});
$offset = -s $node->logfile;
stop_process($postmaster);
kill 'HUP', $supervisor;
ok( $session->wait_true(q{
		SELECT count(*) = 2 AND bool_and(state = 'stopping' AND reason = 'start_timeout' AND pid IS NULL)
		FROM supervisor.worker_status WHERE kind = 'pool' AND state <> 'running'}),
	'workers that are not forked in time are stopping, with the reason');
($out, $err) = $session->error_of(q{SELECT supervisor.execute('SELECT 1', pool => 'new')});
is($out, '53000', 'a pool that got no worker for start_timeout takes no task');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'one that has some takes tasks');
continue_process($postmaster);
SupervisorTest::wait_ready($node, 'default', 3);
SupervisorTest::wait_ready($node, 'new', 1);
pass('they start when they can');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'new')}), 'SELECT 1', 'and work');
is( value(q{
		SELECT count(*) FROM supervisor.event
		WHERE event = 'exited' AND detail ~ 'did not start in time'}), '2', 'that they did not start is an event');
is(logged(qr/LOG: .*ended: the process did not start in time/, $offset), 2, 'and in the log');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE consecutive_failures = 1 AND last_exit_code IS NULL AND last_exit_at IS NOT NULL}),
	'2', 'and a failure, without an exit code');
$session->quit;
$node->stop;

done_testing();
