# What comes just in between when a job is looked for, claimed, run and noted as done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my ($configure, $sharedir) = map { SupervisorTest::pg_config($_) } qw(configure sharedir);
plan skip_all => 'the server has no injection points: see docs/testing.md'
  if $configure !~ /--enable-injection-points/ || !-f "$sharedir/extension/injection_points.control";

my $node = SupervisorTest::new_node(
	'job_races',
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 1,
	'supervisor.pools' => 'two:2',
	'supervisor.max_workers' => 8,
	'supervisor.stop_timeout' => '1h',
	'supervisor.idle_timeout' => 0);
my $library = SupervisorTest::build_library('races');

SupervisorTest::ask(\$node);
value(qq{
	CREATE EXTENSION injection_points;
	CREATE FUNCTION held_at(text) RETURNS text AS '$library' LANGUAGE C STRICT;
	CREATE TABLE ran (i integer);
	CREATE SEQUENCE begun});

# From now on workers are held at that point, or fail there.
sub attach
{
	my ($point, $action) = @_;

	value("SELECT injection_points_attach('supervisor-$point', '$action')");
}

# Waits until one is held there, and returns its process ID.
sub held
{
	my ($point) = @_;

	SupervisorTest::wait_true($node, "SELECT held_at('supervisor-$point') ~ '^[0-9]+\$'", "none is held at $point");
	return value("SELECT held_at('supervisor-$point')");
}

# Nobody is held there any more.  One is woken at a time, and may have gone by then.
sub release
{
	my ($point) = @_;

	value("SELECT injection_points_detach('supervisor-$point')");
	SupervisorTest::eventually(sub {
		return 1 if value("SELECT held_at('supervisor-$point')") eq '';
		value("DO \$\$BEGIN PERFORM injection_points_wakeup('supervisor-$point'); EXCEPTION WHEN OTHERS THEN END\$\$");
		return 0;
	});
}

sub job
{
	my ($i, $options) = @_;

	return "supervisor.enqueue('INSERT INTO ran VALUES ($i); SELECT nextval(''begun'')', retry_delay => '0'" . (defined $options ? ", $options" : '') . ')';
}

# All that has been enqueued is run: these, and so many runs have begun since.
sub all_ran
{
	my ($expected, $begun, $property) = @_;

	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: no job is left");
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY i), '') FROM ran}), $expected, "$property: each has run once");
	is(value('SELECT last_value FROM begun'), $begun, "$property: and begun as often as that takes");
	value('TRUNCATE ran; ALTER SEQUENCE begun RESTART');
}

note 'looks';

attach('looked', 'wait');
value('SELECT ' . job(1));
held('looked');
value('SELECT ' . job(2, q{priority => 0}) . ', ' . job(3, q{run_at => now() - interval '1 h'}) . ', ' . job(4, 'priority => 9'));
release('looked');
all_ran('1 2 3 4', 4, 'what commits between a look and its end');

my $late = SupervisorTest::session($node);
$late->query_safe('BEGIN; SELECT ' . job(1, q{run_at => now() - interval '1 h'}));
value('SELECT ' . job(2));
becomes('SELECT count(*) = 1 FROM ran', 'one that comes later is run');
$late->query_safe('COMMIT');
all_ran('1 2', 2, 'what commits behind the place where a look has ended');

attach('publish', 'wait');
$late->begin('SELECT ' . job(1));
held('publish');
value(q{SELECT injection_points_detach('supervisor-publish')});
value('SELECT ' . job(2, q{run_at => now() - interval '1 h'}));
becomes('SELECT count(*) = 2 FROM ran', 'one that is seen before its commit tells of it is run');
value(q{SELECT injection_points_wakeup('supervisor-publish')});
$late->finish;
all_ran('1 2', 2, 'what a look has found before its commit tells of it');
$late->quit;

attach('looked', 'wait');
value('SELECT ' . job(1));
my $pid = held('looked');
value("SELECT pg_terminate_backend($pid)");
release('looked');
all_ran('1', 1, 'the one who looks is terminated');

attach('looked', 'error');
value('SELECT ' . job(1));
$node->wait_for_log(qr/error triggered for injection point supervisor-looked/);
value(q{SELECT injection_points_detach('supervisor-looked')});
is(value('SELECT count(*) FROM supervisor.job'), 1, 'its job waits');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and the worker goes on');
$node->restart;
value('SELECT ' . job(2));
all_ran('1 2', 2, 'after a restart');

note 'runs';

foreach my $point ('claimed', 'settle', 'ran')
{
	attach($point, 'wait');
	value('SELECT ' . job(1));
	$pid = held($point);
	value('SELECT ' . job(2));
	value("SELECT pg_terminate_backend($pid)");
	release($point);
	all_ran('1 2', $point eq 'settle' ? 3 : 2, "a worker that is terminated ($point)");
}

attach('settle', 'wait');
value('SELECT ' . job(1));
held('settle');
value(q{UPDATE supervisor.job SET attempts = 7});
value('VACUUM FULL supervisor.job');
release('settle');
all_ran('1', 1, 'a row that is changed and moved during the run');
is(value('SELECT attempt FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 1'), 8, 'its last version counts');

attach('settle', 'wait');
value('SELECT ' . job(1));
held('settle');
value('DELETE FROM supervisor.job');
release('settle');
becomes('SELECT count(*) = 1 FROM ran', 'one that is deleted during the run has run');
all_ran('1', 1, 'a row that is deleted');

$late = SupervisorTest::session($node);
foreach my $end ('COMMIT', 'ROLLBACK')
{
	attach('settle', 'wait');
	value('SELECT ' . job(1));
	$pid = held('settle');
	$late->query_safe('BEGIN; UPDATE supervisor.job SET attempts = 5');
	release('settle');
	becomes("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'", "it waits for who has the row ($end)");
	$late->query_safe($end);
	all_ran('1', 1, "a row that is locked ($end)");
}

attach('claimed', 'wait');
value('SELECT ' . job(1));
held('claimed');
value('DROP EXTENSION supervisor; CREATE EXTENSION supervisor');
release('claimed');
value('SELECT ' . job(2));
becomes('SELECT count(*) = 2 FROM ran', 'the extension is made anew');
is(value(q{SELECT count(*) FROM supervisor.job_history}), 1, 'what was a job of the old one is not noted in the new one');
value('TRUNCATE ran; ALTER SEQUENCE begun RESTART');

attach('settle', 'error');
value('SELECT ' . job(1, 'max_attempts => 1'));
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'one that fails at the last moment has failed');
is(value('SELECT count(*) FROM ran'), 0, 'and done nothing');
release('settle');
value('DELETE FROM supervisor.job; ALTER SEQUENCE begun RESTART');

foreach my $case (
	['TRUNCATE supervisor.job', 'removed with all others'],
	[q{SELECT supervisor.alter_job(id, run_at => 'infinity', priority => 0) FROM supervisor.job}, 'altered'],
	[q{SELECT supervisor.alter_job(id, enabled => false) FROM supervisor.job}, 'no more enabled'],
	[q{SELECT supervisor.retry_job(id) FROM supervisor.job}, 'to run at once']
  )
{
	my ($command, $property) = @$case;

	attach('settle', 'wait');
	value('SELECT ' . job(1));
	held('settle');
	value($command);
	release('settle');
	becomes('SELECT count(*) = 1 FROM ran', "one that is $property during its run has run");
	all_ran('1', 1, "a job that is $property");
}

attach('settle', 'wait');
value(q{SELECT supervisor.schedule('races', '1 h', 'INSERT INTO ran VALUES (1); SELECT nextval(''begun'')'); SELECT supervisor.retry_job(id) FROM supervisor.job});
held('settle');
value(q{SELECT supervisor.schedule('races', '2 h', 'INSERT INTO ran VALUES (2); SELECT nextval(''begun'')')});
release('settle');
becomes(q{SELECT last_state = 'succeeded' AND run_at - now() > interval '61 min' FROM supervisor.job}, 'what schedule() says during the run counts after it');
is(value(q{SELECT string_agg(i::text, ' ') FROM ran}), '1', 'the run was of the command before');
attach('settle', 'wait');
value(q{SELECT supervisor.retry_job(id) FROM supervisor.job});
held('settle');
value(q{SELECT supervisor.unschedule('races')});
release('settle');
becomes('SELECT count(*) = 2 FROM ran', 'a run whose job is unscheduled ends');
all_ran('1 2', 2, 'and is not repeated');

note 'ends that are not noted';

foreach my $action ('error', 'wait')
{
	attach('note', $action);
	value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (1); SELECT 1 / (nextval(''begun'') / 2)', retry_delay => '0')});
	if ($action eq 'wait')
	{
		$pid = held('note');
		is(value(q{SELECT string_agg(state || attempts, ' ') FROM supervisor.job}), 'w0', 'its end is not noted yet');
		value("SELECT pg_terminate_backend($pid)");
	}
	else
	{
		$node->wait_for_log(qr/error triggered for injection point supervisor-note/);
	}
	release('note');
	all_ran('1', 2, "a run whose end could not be noted ($action)");
	is(value(q{SELECT string_agg(attempt || ' ' || state, ', ' ORDER BY finished_at) FROM (SELECT * FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 2) h}),
		'1 failed, 2 succeeded', "the loader notes it ($action)");
}

note 'timeouts of transactions';

# That of a role is for its commands: what we do ourselves goes on when its time is over.
value(q{CREATE ROLE hurried LOGIN; ALTER ROLE hurried SET transaction_timeout = '1s'; CREATE ROLE one LOGIN; CREATE ROLE two LOGIN;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO hurried, one, two});

# Waits until a worker of that role is held where a transaction of its own begins, and returns its process ID.  The loader may be held as well.
sub begun
{
	my ($role) = @_;
	my $at = "FROM pg_stat_activity WHERE usename = '$role' AND wait_event = 'supervisor-begun'";

	SupervisorTest::wait_true($node, "SELECT count(*) = 1 $at", "none of $role is held");
	return value("SELECT pid $at");
}

# What is held there is longer than the role's transactions may be.
sub overdue
{
	my ($what) = @_;
	my $since = value('SELECT clock_timestamp()');

	becomes("SELECT clock_timestamp() > '$since'::timestamptz + interval '1.1 s'", "$what takes longer than that");
	release('begun');
}

# No job waits any more; what was run last.
my $ended = q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w'};
my $last = q{SELECT concat_ws(' ', attempt, state, sqlstate, pid) FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 1};
sub hurry
{
	my ($command) = @_;

	value("SET ROLE hurried; SELECT supervisor.enqueue('$command', max_attempts => 1)");
}

attach('begun', 'wait');
hurry('SELECT 1');
$pid = begun('hurried');
overdue('what begins a session');
becomes($ended, 'what begins a session ends');
is(value($last), "1 succeeded $pid", 'what begins a session is not limited');

foreach my $case (
	[ 'ran', 'SELECT 1/0', '1 failed 22012', 'what notes an end' ],
	[ 'ran', 'CREATE TEMPORARY TABLE t ()', '1 succeeded', 'what drops it' ],
	[ undef, 'SELECT 1', '1 succeeded', 'what looks for a job' ])
{
	my ($point, $command, $expected, $what) = @$case;

	attach($point // 'begun', 'wait');
	hurry($command);
	if (defined $point)
	{
		is(held($point), $pid, "$what: one runs");
		attach('begun', 'wait');
		release($point);
	}
	is(begun('hurried'), $pid, "$what begins");
	overdue($what);
	becomes($ended, "$what ends");
	is(value($last), "$expected $pid", "$what is not limited");
}

# Else each would leave for the other one, and nobody's job would be run.
attach('begun', 'wait');
my $first = value(q{SET ROLE one; SELECT supervisor.enqueue('SELECT 1')});
$pid = begun('one');
value(q{SET ROLE two; SELECT supervisor.enqueue('SELECT 1')});
becomes(q{SELECT max(enqueued_at) < clock_timestamp() - interval '0.2 s' FROM supervisor.job}, 'another role waits longer than it should');
release('begun');
becomes($ended, 'both jobs are run');
is(value("SELECT pid FROM supervisor.job_history WHERE job = $first"), $pid, 'one by the worker that has been slow to log in');

# A declared command is read in the third one, after the two of the login.
value(q{SELECT supervisor.add_worker('hurrying', 'SELECT', run_every => '100 ms', role => 'hurried')});
becomes(q{SELECT runs_succeeded > 0 FROM supervisor.worker_status WHERE name = 'hurrying'}, 'a declared command is run');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind = 'loader'}, 'and the loader has ended');
attach('begun', 'wait');
value(q{SELECT supervisor.restart_worker('hurrying', '0')});
my $declared = begun('hurried');
foreach (1, 2)
{
	my $transaction = "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid' AND pid = $declared";
	my $login = value($transaction);

	value(q{SELECT injection_points_wakeup('supervisor-begun')});
	becomes("SELECT ($transaction) <> '$login' AND held_at('supervisor-begun') = '$declared'", "the next transaction begins ($_)");
}
overdue('what reads a declared command');
becomes(q{SELECT last_run_at > started_at FROM supervisor.worker_status WHERE name = 'hurrying'}, 'what reads a declared command ends');
is(value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'hurrying'}), $declared, 'what reads a declared command is not limited');
value(q{SELECT supervisor.remove_worker('hurrying'); DELETE FROM supervisor.job});

note 'keys';

my $keyed = q{key => 'k'};
foreach my $point ('key-free', 'key-seen')
{
	attach($point, 'wait');
	value('SELECT ' . job(1, $keyed) . ', ' . job(2, $keyed));
	$pid = held($point);
	value("SELECT pg_terminate_backend($pid)");
	release($point);
	all_ran('1 2', 2, "who looks for the next one of a key is terminated ($point)");

	attach($point, 'wait');
	value('SELECT ' . job(1, $keyed) . ', ' . job(2, $keyed));
	held($point);
	value('SELECT ' . job(3, "$keyed, run_at => now() - interval '1 h'") . ', ' . job(4, "$keyed, priority => 0") . ', ' . job(5, "$keyed, pool => 'two'"));
	release($point);
	all_ran('1 2 3 4 5', 5, "what commits meanwhile ($point)");

	my $offset = -s $node->logfile;
	attach($point, 'error');
	value('SELECT ' . job(1, $keyed) . ', ' . job(2, $keyed));
	$node->wait_for_log(qr/error triggered for injection point supervisor-$point/, $offset);
	release($point);
	is(value('SELECT string_agg(i::text, $$ $$) FROM ran'), '1', "one that could not look has run ($point)");
	value('SELECT pg_reload_conf()');
	all_ran('1 2', 2, "the next one is found by others ($point)");
}

# The key becomes free while somebody looks, who has passed over the next one.
$late->query_safe('SELECT pg_advisory_lock(1)');
value("SELECT supervisor.enqueue('SELECT pg_advisory_xact_lock(1)', $keyed, pool => 'two')");
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one of a key runs');
attach('looked', 'wait');
value('SELECT ' . job(1, "$keyed, pool => 'two'"));
held('looked');
$late->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 1 FROM supervisor.job', 'it ends while another one is passed over');
release('looked');
all_ran('1', 1, 'which is run then');

attach('claimed', 'wait');
value('SELECT ' . job(1, $keyed) . ', ' . job(2, $keyed) . ', ' . job(3, "$keyed, priority => 9"));
held('claimed');
value('SELECT supervisor.cancel_job(min(id)) FROM supervisor.job');
release('claimed');
all_ran('2 3', 2, 'one that stands for others is canceled');

note 'the loader';

attach('found', 'wait');
value('SELECT ' . job(1, q{run_at => 'infinity'}));
value(q{UPDATE supervisor.job SET run_at = now() + interval '1 h'});
held('found');
value('SELECT ' . job(2));
release('found');
value(q{UPDATE supervisor.job SET run_at = now()});
all_ran('1 2', 2, 'what commits while the loader looks');

note 'cancel_job';

attach('claimed', 'wait');
value('SELECT ' . job(1));
held('claimed');
is(value('SELECT supervisor.cancel_job(id) FROM supervisor.job'), 't', 'one that is about to begin is canceled');
release('claimed');
all_ran('', 1, 'it does not begin');

attach('claimed', 'wait');
value('SELECT ' . job(1));
held('claimed');
$late->query_safe('BEGIN; SELECT supervisor.cancel_job(id) FROM supervisor.job');
release('claimed');
value('SELECT ' . job(2));
becomes('SELECT count(*) = 1 FROM ran', 'another one runs');
$late->query_safe('ROLLBACK');
all_ran('1 2', 2, 'unless that is rolled back');

attach('ran', 'wait');
value('SELECT ' . job(1));
held('ran');
$late->query_safe('SELECT supervisor.cancel_job(max(job)) FROM supervisor.job_history');
release('ran');
value('SELECT ' . job(2));
all_ran('1 2', 2, 'a cancel that comes too late');
is(value(q{SELECT string_agg(DISTINCT state, ' ') FROM (SELECT * FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 2) h}), 'succeeded', 'is no other job\'s');

# Whatever its error is by then, one that is canceled while it ends is not tried again.
foreach my $point ('ran', 'note', 'noted')
{
	attach($point, 'wait');
	value(q{SELECT supervisor.enqueue('SELECT nextval(''begun''); SELECT 1/0', retry_delay => '0')});
	held($point);
	is(value('SELECT supervisor.cancel_job(id) FROM supervisor.job'), 't', "one whose run ends is canceled ($point)");
	release($point);
	all_ran('', 1, "it is not tried again ($point)");
}

# All workers are busy until let_go().
my $holder = SupervisorTest::session($node);
my @busy;

sub keep_busy
{
	my ($n) = @_;

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	@busy = map { SupervisorTest::session($node) } 1 .. $n;
	$_->begin(q{SELECT supervisor.execute('SELECT pg_advisory_xact_lock_shared(1)')}) foreach @busy;
	SupervisorTest::wait_true($node, "SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 'the workers are not busy');
}

sub let_go
{
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$_->finish, $_->quit foreach @busy;
}

# Its run begins after the cancel has looked whether it runs, and before its row is gone.
keep_busy(1);
my $id = value('SELECT ' . job(1));
attach('cancel', 'wait');
$late->begin("SELECT supervisor.cancel_job($id)");
held('cancel');
let_go();
SupervisorTest::wait_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO ran%'}, 'the run does not wait for the row');
release('cancel');
$late->finish;
all_ran('', 1, 'one that begins while it is canceled');
is(value("SELECT string_agg(state, ' ') FROM supervisor.job_history WHERE job = $id"), 'canceled', 'it is noted as canceled, once');

# Its attempt has been noted before the cancel, which is undone.
attach('attempted', 'wait');
$id = value('SELECT ' . job(1, 'atomic => false, max_attempts => 1'));
held('attempted');
$late->query_safe("BEGIN; SELECT supervisor.cancel_job($id)");
release('attempted');
$late->query_safe('ROLLBACK');
all_ran('1', 1, 'one that is not canceled after all');

note 'changes';

SupervisorTest::set($node, 'supervisor.pool_size' => 2);
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE pool = 'default' AND state = 'running'}, 'there is a second worker');

# One worker finds a job that is being changed; that is over, and told of, before it has given up
# its claim, so another finds the job claimed.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	keep_busy(2);
	$id = value('SELECT ' . job(1));
	$late->query_safe("BEGIN; SELECT supervisor.alter_job($id, priority => 3)");
	attach('claimed', 'wait');
	let_go();
	held('claimed');
	value(q{SELECT injection_points_detach('supervisor-claimed')});
	$late->query_safe($end);
	value('SELECT ' . job(2, 'priority => 9'));
	becomes('SELECT count(*) = 1 FROM ran', "another worker goes on ($end)");
	value(q{SELECT injection_points_wakeup('supervisor-claimed')});
	all_ran('1 2', 2, "a job that was found by two, and being changed for one of them ($end)");
}

# The same with one that has failed, and is changed before its claim is given up.
attach('noted', 'wait');
$id = value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (1); SELECT 1 / (nextval(''begun'') / 2)', retry_delay => '0')});
held('noted');
value(q{SELECT injection_points_detach('supervisor-noted')});
value("SELECT supervisor.alter_job($id, priority => 3)");
value('SELECT ' . job(2, 'priority => 9'));
becomes('SELECT count(*) = 1 FROM ran', 'another worker goes on');
value(q{SELECT injection_points_wakeup('supervisor-noted')});
all_ran('1 2', 3, 'a job that is changed when its failure has been noted');

note 'a crash';

# The effect has been committed, and the mark of the run is still there.
attach('ran', 'wait');
value('SELECT ' . job(1));
$pid = held('ran');
$_->quit foreach $late, $holder;
kill 'SEGV', $pid;
$node->wait_for_log(qr/terminated by signal 11/);
SupervisorTest::wait_true($node, 'SELECT NOT pg_is_in_recovery()', 'the server does not come up again');
value('SELECT ' . job(2));
becomes('SELECT count(*) = 0 FROM supervisor.job', 'no job is left');
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '1 2', 'after a crash between the commit of a run and the end of its mark, each has run once');
is(value(q{SELECT string_agg(attempt || ' ' || state, ', ') FROM (SELECT * FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 2) h}),
	'1 succeeded, 1 succeeded', 'is no crash of the job');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected)/m, 'nothing unexpected in the log');
done_testing();
