# Races that cannot be hit by chance: processes are held, or fail, at injection
# points of the server, while others do what comes just in between.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes quote survivors value);

my ($configure, $sharedir) = map { SupervisorTest::pg_config($_) } qw(configure sharedir);
plan skip_all => 'the server has no injection points: see docs/testing.md'
  if $configure !~ /--enable-injection-points/ || !-f "$sharedir/extension/injection_points.control";

# No database is looked into, so that a loader is there only once, for each supervisor.
my $node = SupervisorTest::new_node(
	'main',
	'supervisor.pool_size' => 1,
	'supervisor.databases' => '',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '10ms',
	'supervisor.start_timeout' => '1h',
	'supervisor.stop_timeout' => '1h',
	'supervisor.idle_timeout' => 0,
	'supervisor.worker_lifetime' => 0);
my $library = SupervisorTest::build_library('races');

$node->safe_psql('postgres', qq{
	CREATE EXTENSION injection_points;
	CREATE FUNCTION held_at(text) RETURNS text AS '$library' LANGUAGE C STRICT;
	CREATE FUNCTION delay_cancels() RETURNS void AS '$library' LANGUAGE C;
	CREATE FUNCTION deliver_cancels() RETURNS void AS '$library' LANGUAGE C;
	CREATE TABLE done (what text)});
SupervisorTest::wait_ready($node, 'default', 1);

SupervisorTest::ask(\$node);

# From now on processes are held ("wait") at a point, or fail there ("error").
sub attach
{
	my ($point, $action) = @_;

	value("SELECT injection_points_attach('supervisor-$point', '$action')");
}

# From now on no more.
sub detach
{
	my ($point) = @_;

	value("SELECT injection_points_detach('supervisor-$point')");
}

# Waits until $n processes are held at a point, and returns their IDs.
sub held
{
	my ($point, $n) = @_;
	my $pids = "held_at('supervisor-$point')";

	SupervisorTest::wait_true($node, "SELECT cardinality(string_to_array($pids, ' ')) = $n", "$n not held at $point");
	return split / /, value("SELECT $pids");
}

# Lets one that is held there go on; returns its process ID.
sub release
{
	my ($point) = @_;
	my %held = map { $_ => 1 } split / /, value("SELECT held_at('supervisor-$point')");
	my $n = keys %held;

	value("SELECT injection_points_wakeup('supervisor-$point')");
	delete @held{ held($point, $n - 1) };
	return (keys %held)[0];
}

sub worker
{
	my ($columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE kind = 'pool'");
}

sub supervisor
{
	return value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
}

# Launches a command in a session; returns the task's id.
sub launch
{
	my ($session, $command) = @_;

	return $session->query_safe('SELECT supervisor.launch(' . quote($command) . ')');
}

# A new worker, bound or unbound.
sub renew
{
	my ($bound) = @_;

	SupervisorTest::wait_true($node, q{SELECT supervisor.restart_pool('default', '1 min')});
	SupervisorTest::wait_ready($node, 'default', 1);
	value(q{SELECT supervisor.execute('SELECT 1')}) if $bound;
	return worker('pid');
}

# The pool works.
sub works
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value(q{SELECT n FROM supervisor.run('SELECT 1') AS (n int)}), '1', $property);
}
SupervisorTest::leaks($node);

note 'the supervisor dies between taking a slot and registering its process';

{
	my $pid = renew(0);    # the end of a bound one leaves its place to a successor
	my $restarts = worker('restarts');
	my $last = value('SELECT max(id) FROM supervisor.event');
	my $supervisor = supervisor();
	my $offset = -s $node->logfile;

	attach('register', 'error');
	kill 'TERM', $pid;
	ok($node->wait_for_log(qr/ERROR: .*supervisor-register/, $offset), 'the supervisor dies before it registers the process');
	detach('register');
	becomes("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $supervisor", 'another comes');
	SupervisorTest::wait_ready($node, 'default', 1);
	is(worker('restarts'), $restarts + 1, 'the slot gets its process, and no failure is counted');
	is(value("SELECT count(*) FROM supervisor.event WHERE id > $last AND event IN ('exited', 'backoff') AND detail !~ 'administrator'"),
		'0', 'nor is an end of a process that there never was');
	works('it works');
}

note 'the supervisor dies between registering a process and noting it, and the process is late';

{
	my $pid = renew(0);
	my $offset = -s $node->logfile;

	attach('attach', 'wait');
	attach('start', 'wait');
	attach('registered', 'error');
	kill 'TERM', $pid;
	ok($node->wait_for_log(qr/ERROR: .*supervisor-registered/, $offset), 'the supervisor dies after it registered the process');
	my ($late) = held('attach', 1);
	held('start', 1);
	detach('registered');
	detach('start');
	release('start');
	held('attach', 3);    # with a loader
	is(release('attach'), $late, 'the former supervisor\'s comes first');
	is(survivors($late), '', 'it leaves');
	is(worker('state, pid'), 'starting|', 'and has not taken the slot');
	detach('attach');
	my %successors = map { release('attach') => 1 } 1 .. 2;
	SupervisorTest::wait_ready($node, 'default', 1);
	ok($successors{ worker('pid') }, 'the new supervisor\'s takes it');
	works('it works');
}

note 'the supervisor dies between registering a process and noting it, and the process is there';

{
	my $pid = renew(0);
	my $session = SupervisorTest::session($node);
	my $lock = SupervisorTest::session($node);
	my $offset = -s $node->logfile;

	$lock->query_safe('SELECT pg_advisory_lock(1)');
	attach('start', 'wait');
	attach('registered', 'error');
	kill 'TERM', $pid;
	ok($node->wait_for_log(qr/ERROR: .*supervisor-registered/, $offset), 'the supervisor dies after it registered the process');
	held('start', 1);
	detach('registered');
	my $task = launch($session, q{SELECT 'done'::text FROM pg_advisory_xact_lock(1)});
	becomes("SELECT state = 'running' FROM supervisor.task_status WHERE task = $task", 'the process serves without a supervisor');
	my $worker = worker('pid, generation');
	detach('start');
	release('start');
	becomes(q{SELECT state = 'running' FROM supervisor.worker_status}, 'the new supervisor finds it');
	is(worker('pid, generation'), $worker, 'and adopts it');
	$lock->quit;
	is($session->query_safe("SELECT * FROM supervisor.result($task) AS (what text)"), 'done', 'its task runs on');
	SupervisorTest::wait_ready($node, 'default', 1);
	works('it works');
	$session->quit;
}

note 'a process attaches after its start deadline';

{
	my $pid = renew(0);
	my $offset = -s $node->logfile;

	# another pool shows that the supervisor has seen the settings
	SupervisorTest::set($node, 'supervisor.start_timeout' => '50ms', 'supervisor.pools' => 'seen:0');
	becomes('SELECT count(*) = 2 FROM supervisor.pool_status', 'there is little time to start');
	attach('attach', 'wait');
	kill 'TERM', $pid;
	my ($late) = held('attach', 1);
	becomes(q{SELECT state = 'stopping' AND reason = 'start_timeout' FROM supervisor.worker_status}, 'it is over');
	detach('attach');
	SupervisorTest::set($node, 'supervisor.start_timeout' => '1h', 'supervisor.pools' => '');
	becomes('SELECT count(*) = 1 FROM supervisor.pool_status', 'its successor has more');
	is(release('attach'), $late, 'it comes');
	is(survivors($late), '', 'and leaves');
	SupervisorTest::wait_ready($node, 'default', 1);
	isnt(worker('pid'), $late, 'another takes the slot');
	is(worker('last_exit_code IS NULL'), 't', 'the late one never had it');
	unlike(slurp_file($node->logfile, $offset), qr/\[$late\] FATAL/, 'and left without a word');
	works('it works');
}

foreach my $bound (0, 1)
{
	my $what = $bound ? 'a bound worker' : 'an unbound worker';

	note "the submitter leaves while $what picks its task";

	my $pid = renew($bound);
	my $canceled = value('SELECT tasks_canceled FROM supervisor.pool_status');
	my $session = SupervisorTest::session($node);

	attach('picked', 'wait');
	launch($session, q{INSERT INTO done VALUES ('left')});
	my ($held) = held('picked', 1);
	is($held, $pid, "$what has been given the task");
	my $backend = $session->pid;
	$session->quit;
	becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $backend", 'its session has gone');
	detach('picked');
	release('picked');
	becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'the task is gone');
	is(value('SELECT tasks_canceled FROM supervisor.pool_status'), $canceled + 1, 'it counts as canceled');
	is(value('SELECT count(*) FROM done'), '0', 'and has done nothing');
	becomes(sprintf("SELECT activity = '%s' FROM supervisor.worker_status", $bound ? 'idle' : 'unbound'),
		'the worker is as before');
	is(worker('pid'), $pid, 'and the same');
	works('it serves the next');
}

note 'a cancel meets the end of its task';

foreach my $late (0, 1)
{
	my $what = $late ? 'a signal that is late' : 'a signal that comes at once';
	my $pid = renew(1);
	my $session = SupervisorTest::session($node);

	attach('finish', 'wait');
	my $task = launch($session, q{INSERT INTO done VALUES ('ended')} . ($late ? '; SELECT delay_cancels()' : ''));
	held('finish', 1);
	my $next = launch($session, ($late ? 'SELECT deliver_cancels(); ' : '') . q{SELECT 'next'::text FROM pg_sleep(0)});
	is(value("SELECT supervisor.cancel($task)"), 't', "$what: the cancel is sent");
	detach('finish');
	release('finish');
	is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', "$what: what has been committed has succeeded");
	is(value('DELETE FROM done RETURNING what'), 'ended', "$what: and is there");
	is($session->query_safe("SELECT * FROM supervisor.result($next) AS (what text)"), 'next', "$what: the task behind it is not canceled");
	is(worker('pid'), $pid, "$what: by the same worker");
	is($session->query_safe("SELECT supervisor.cancel($task)"), 'f', "$what: afterwards there is nothing to cancel");
	$session->quit;
}

foreach my $bound (0, 1)
{
	my $what = $bound ? 'a bound worker' : 'an unbound worker';

	note "a wake-up whose worker dies: $what";

	my $pid = renew($bound);
	my $session = SupervisorTest::session($node);

	attach('interrupts', 'wait');
	kill 'HUP', $pid;
	is((held('interrupts', 1))[0], $pid, "$what is idle");
	my $task = launch($session, q{INSERT INTO done VALUES ('once') RETURNING what});
	is(value("SELECT state FROM supervisor.task_status WHERE task = $task"), 'running', 'it is given a task, and woken');
	kill 'TERM', $pid;
	detach('interrupts');
	release('interrupts');
	is($session->query_safe("SELECT * FROM supervisor.result($task) AS (what text)"), 'once', 'and dies: the task is another\'s');
	isnt(worker('pid'), $pid, 'which has its slot');
	is(value('DELETE FROM done RETURNING what'), 'once', 'it has run once');
	$session->quit;
}

foreach my $bound (0, 1)
{
	my $what = $bound ? 'a bound worker' : 'an unbound worker';

	note "a wake-up comes while interrupts are looked at: $what";

	my $pid = renew($bound);
	my $session = SupervisorTest::session($node);

	# To be held there resets the latch, as what an interrupt asks for may.
	attach('interrupts', 'wait');
	kill 'HUP', $pid;
	held('interrupts', 1);
	my $task = launch($session, q{SELECT 'awake'::text});
	detach('interrupts');
	is(release('interrupts'), $pid, "$what goes on");
	is($session->query_safe("SELECT * FROM supervisor.result($task) AS (what text)"), 'awake', 'and has not missed its task');
	is(worker('pid'), $pid, 'it was the same worker');
	$session->quit;
}

note 'a wake-up comes while interrupts are looked at: a session that waits';

{
	renew(1);
	my $session = SupervisorTest::session($node);
	my $lock = SupervisorTest::session($node);

	$lock->query_safe('SELECT pg_advisory_lock(1)');
	attach('wait', 'wait');
	# One message, in a session that has been asked nothing: no timer of any kind wakes it up.
	$session->begin(q{SET deadlock_timeout = '1 h' \; SELECT supervisor.wait(supervisor.launch('SELECT pg_advisory_xact_lock(1)'))});
	held('wait', 1);
	$lock->quit;
	becomes(q{SELECT state = 'succeeded' FROM supervisor.task_status WHERE owner_pid IS NOT NULL}, 'what it waits for ends');
	detach('wait');
	release('wait');
	is(join('', $session->finish), 'succeeded', 'the session has not missed it');
	$session->quit;
}

note 'the error of a task is looked at while it is written';

{
	renew(1);
	my $session = SupervisorTest::session($node);

	attach('finish', 'wait');
	my $task = launch($session, 'SELECT 1/0');
	held('finish', 1);
	is(value("SELECT state, sqlstate, message FROM supervisor.task_status WHERE task = $task"), 'running||', 'nothing is shown');
	detach('finish');
	release('finish');
	becomes("SELECT state = 'failed' AND sqlstate = '22012' AND message = 'division by zero' FROM supervisor.task_status WHERE task = $task",
		'it is shown when the task has ended');
	$session->quit;
}

note 'a reload meets a restart';

# The pool shrinks to none and grows again while a new process is on its way.
{
	my $pid = renew(1);
	my $restart = SupervisorTest::session($node);

	attach('attach', 'wait');
	$restart->begin(q{SELECT supervisor.restart_pool('default', '1 h')});
	my ($new) = held('attach', 1);
	my $generation = worker('generation');
	foreach my $size (0, 1)
	{
		SupervisorTest::set($node, 'supervisor.pool_size' => $size);
		becomes("SELECT size = $size FROM supervisor.pool_status", "$size wanted");
	}
	detach('attach');
	release('attach');
	is(join('', $restart->finish), 't', 'the restart comes to its end');
	SupervisorTest::wait_ready($node, 'default', 1);
	is(worker('pid, generation'), "$new|$generation", 'by the process that was on its way');
	works('it works');
	$restart->quit;
}

# The pool is emptied while the supervisor registers a process.
{
	my $pid = renew(0);
	my $restart = SupervisorTest::session($node);

	attach('register', 'wait');
	kill 'TERM', $pid;
	held('register', 1);
	$restart->begin(q{SELECT supervisor.restart_pool('default', '1 h')});
	becomes(q{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE query ~ 'restart_pool' AND pid <> pg_backend_pid()}, 'a restart waits for a process that is being registered');
	SupervisorTest::set($node, 'supervisor.pool_size' => 0);
	detach('register');
	release('register');
	is(join('', $restart->finish), 't', 'the restart of a pool that is emptied meanwhile ends');
	becomes('SELECT size = 0 AND (SELECT count(*) = 0 FROM supervisor.worker_status) FROM supervisor.pool_status', 'no worker is left');
	SupervisorTest::set($node, 'supervisor.pool_size' => 1);
	SupervisorTest::wait_ready($node, 'default', 1);
	works('it works');
	$restart->quit;
}

# A second reload comes while the supervisor is about to do what the first one says.
{
	renew(1);
	attach('reload', 'wait');
	SupervisorTest::set($node, 'supervisor.pool_size' => 3);
	held('reload', 1);
	SupervisorTest::set($node, 'supervisor.pool_size' => 2);
	detach('reload');
	release('reload');
	SupervisorTest::wait_ready($node, 'default', 2);
	pass('a reload during a reload is not lost');
	SupervisorTest::set($node, 'supervisor.pool_size' => 1);
	SupervisorTest::wait_ready($node, 'default', 1);
}

# The supervisor dies before it has done what a reload says.
{
	my $offset = -s $node->logfile;

	attach('reload', 'error');
	SupervisorTest::set($node, 'supervisor.pool_size' => 2);
	ok($node->wait_for_log(qr/ERROR: .*supervisor-reload/, $offset), 'the supervisor dies in a reload');
	detach('reload');
	SupervisorTest::wait_ready($node, 'default', 2);
	pass('its successor does what the reload says');
	SupervisorTest::set($node, 'supervisor.pool_size' => 1);
	SupervisorTest::wait_ready($node, 'default', 1);
}

note 'a fence meets a bind';

# Before the worker has looked whether there is one, and after.
foreach my $point (qw(picked login))
{
	my $pid = renew(0);
	my $drop = SupervisorTest::session($node);
	my $offset = -s $node->logfile;

	value('CREATE DATABASE shop');
	$node->safe_psql('shop', 'CREATE EXTENSION supervisor');
	attach($point, 'wait');
	$node->safe_psql('shop', q{SELECT supervisor.forget(supervisor.launch('SELECT 1'))});
	is((held($point, 1))[0], $pid, "$point: a worker is about to log in");
	attach('fenced', 'wait');
	$drop->begin('DROP DATABASE shop');
	held('fenced', 1);
	detach($point);
	if ($point eq 'picked')
	{
		release($point);
		becomes(q{SELECT state = 'queued' FROM supervisor.task_status WHERE finished_at IS NULL}, "$point: it finds the fence, and hands its task back");
		becomes(q{SELECT activity = 'unbound' FROM supervisor.worker_status}, "$point: the pool has an unbound worker");
		becomes(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shop'}, "$point: nobody is in the database");
		works("$point: it serves other databases");
	}
	detach('fenced');
	release('fenced');
	is(join('', $drop->finish), '', "$point: the database is dropped");
	release($point) if $point eq 'login';
	becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', "$point: the task ends");
	ok($node->wait_for_log(qr/\[$pid\] FATAL: .*database \d+ does not exist/, $offset), "$point: with the error that a login raises")
	  if $point eq 'login';
	works("$point: the pool works");
	$drop->quit;
}
is(SupervisorTest::leaks($node), '', 'nothing is lost by all that');
$node->stop;

note 'workers that were taken over';

# Exit code 1 at SIGTERM, and 0.
my %of = ('pointing worker' => 'pointer', 'wide worker' => 'wide');
my $registers = SupervisorTest::build_library('registers');
$node = SupervisorTest::new_node(
	'taken',
	'shared_preload_libraries' => 'supervisor, registers',
	'dynamic_library_path' => dirname($registers) . ':$libdir',
	'registers.workers' => join(', ', values %of),
	'restart_after_crash' => 'on',
	'supervisor.take_over' => 'registers',
	'supervisor.pool_size' => 0,
	'supervisor.databases' => '',
	'supervisor.start_timeout' => '1h',
	'supervisor.stop_timeout' => '1h',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '10ms');
$node->safe_psql('postgres', qq{
	CREATE EXTENSION injection_points;
	CREATE FUNCTION held_at(text) RETURNS text AS '$library' LANGUAGE C STRICT});

sub taken
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name'");
}

# How often its function has been called.
sub begun
{
	my ($name) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /registers: name "$name"/g);
}

# Ends its process, and returns when that is gone.
sub end_process
{
	my ($name) = @_;
	my $pid = taken($name, 'pid');

	kill 'TERM', $pid;
	is(survivors($pid), '', "$name: its process ends");
}

becomes("SELECT state = 'running' FROM supervisor.worker_status WHERE name = '$_'", "$_ runs") foreach sort keys %of;
foreach my $name (sort keys %of)
{
	foreach my $call ('stop', 'restart')
	{
		foreach my $first ('its end', 'the request')
		{
			my $what = "$name, ${call}_worker, $first comes first";
			my $begun = begun($name);
			my $pid = taken($name, 'pid');

			attach('reload', 'wait');
			kill 'HUP', supervisor();
			held('reload', 1);
			end_process($name) if $first eq 'its end';
			is(value("SELECT supervisor.${call}_worker('$name', '0')"), 'f', "$what: the supervisor has yet to see both");
			end_process($name) if $first eq 'the request';
			detach('reload');
			release('reload');
			if ($call eq 'stop')
			{
				becomes("SELECT state = 'stopped' AND reason = 'disabled' AND pid IS NULL FROM supervisor.worker_status WHERE name = '$name'",
					"$what: it is stopped");
				is(value("SELECT supervisor.start_worker('$name', '1 min')"), 't', "$what: and can be started");
			}
			becomes("SELECT state = 'running' AND pid <> $pid FROM supervisor.worker_status WHERE name = '$name'", "$what: it runs again");
			is(begun($name), $begun + 1, "$what: it was started once");
		}
	}
}

foreach my $late (0, 1)
{
	my $name = 'pointing worker';
	my $what = $late ? 'its process is late' : 'its process is there';
	my $supervisor = supervisor();
	my $begun = begun($name);
	my $offset = -s $node->logfile;

	note "the supervisor dies between registering it and noting that, and $what";
	attach('attach', 'wait') if $late;
	attach('start', 'wait');
	attach('registered', 'error');
	end_process($name);
	ok($node->wait_for_log(qr/ERROR: .*supervisor-registered/, $offset), "$what: the supervisor dies after it registered the process");
	detach('registered');
	held('start', 1);
	my $process;
	if ($late)
	{
		($process) = held('attach', 1);
	}
	else
	{
		SupervisorTest::eventually(sub { begun($name) == $begun + 1 });
		$process = taken($name, 'pid');
	}
	detach('start');
	release('start');
	if ($late)
	{
		held('attach', 3);    # with a loader
		is(release('attach'), $process, "$what: the former supervisor's comes first");
		is(survivors($process), '', "$what: it leaves");
		is(begun($name), $begun, "$what: its function was not called");
		detach('attach');
		$process = join ', ', map { release('attach') } 1 .. 2;
	}
	becomes("SELECT state = 'running' AND pid IN ($process) FROM supervisor.worker_status WHERE name = '$name'", "$what: one runs");
	isnt(supervisor(), $supervisor, "$what: under a new supervisor");
	is(begun($name), $begun + 1, "$what: its function was called once");
}

note 'the server crashes while they start';

foreach my $stopped (0, 1)
{
	my $name = 'pointing worker';
	my $what = $stopped ? 'one that is to stop' : 'one that is to run';
	my $session = SupervisorTest::session($node);

	attach('attach', 'wait');
	value("SELECT supervisor.restart_worker('$name', '0')");
	held('attach', 1);
	is(value("SELECT supervisor.stop_worker('$name', '0')"), 'f', "$what: while it starts") if $stopped;
	my %begun = map { $_ => begun($_) } keys %of;
	kill 'KILL', $session->pid;
	eval { $session->quit };
	SupervisorTest::wait_true($node, q{SELECT count(*) > 0 FROM supervisor.pool_status});
	becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'wide worker'}, "$what: after the crash the other runs");
	becomes(sprintf(q{SELECT state = '%s' FROM supervisor.worker_status WHERE name = '%s'}, $stopped ? 'stopped' : 'running', $name),
		$stopped ? "$what: it does not" : "$what: so does this one");
	is(begun('wide worker'), $begun{'wide worker'} + 1, "$what: the other was started once");
	is(begun($name), $begun{$name} + !$stopped, $stopped ? "$what: this one was not" : "$what: this one was, too");
}
$node->stop;

done_testing();
