# Jobs are changed by whoever may: when they are due, where, in which order, and whether.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'manage_jobs',
	'max_prepared_transactions' => 5,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, paused:0, club:1(members)',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, n serial);
	CREATE ROLE members;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE watch LOGIN IN ROLE pg_signal_backend;
	GRANT ALL ON ran, ran_n_seq TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.retry_job, supervisor.alter_job TO PUBLIC});

# Enqueues a job that adds $i to the table; returns its number.
sub enqueue
{
	my ($i, $options, %opts) = @_;

	return value("SELECT supervisor.enqueue('INSERT INTO ran VALUES ($i)'" . (defined $options ? ", $options" : '') . ')', %opts);
}

sub job
{
	my ($job, $what) = @_;

	return value("SELECT $what FROM supervisor.job WHERE id = $job");
}

# Nothing is called an end that never was, also before the first job.
refused("SELECT supervisor.$_(1)", '42704', "$_ before any job") foreach qw(cancel_job retry_job alter_job wait_job);

# All have run, in that order.
sub ran
{
	my ($expected, $property) = @_;
	my $n = () = $expected =~ /\d+/g;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT count(*) >= $n FROM ran", $property);
	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: none is left");
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY n), '') FROM ran}), $expected, "$property: each once");
	value('TRUNCATE ran');
}

note 'alter_job';

my $job = enqueue(1, q{run_at => 'infinity'});
value("BEGIN; SELECT supervisor.alter_job($job, run_at => now()); ROLLBACK");
is(job($job, 'run_at'), 'infinity', 'what is rolled back changes nothing');
is(value("SELECT supervisor.alter_job($job)"), 't', 'nor does one without arguments');
is(job($job, 'run_at, pool, priority, enabled'), 'infinity|default|5|t', 'all is as it was');
is(value("SELECT supervisor.alter_job($job, clock_timestamp() + interval '0.3 s')"), 't', 'one gets another time');
ran('1', 'when that comes');
is(value("SELECT supervisor.alter_job($job, now())"), 'f', 'one that has ended is not changed');

$job = enqueue(1, q{pool => 'paused'});
value("SELECT supervisor.alter_job($job, pool => 'one')");
ran('1', 'one gets another pool');

value('BEGIN; SELECT ' . join(', ', map { "supervisor.enqueue('INSERT INTO ran VALUES ($_)', pool => 'paused')" } 1 .. 3) . '; COMMIT');
value(q{SELECT supervisor.alter_job(id, priority => 4 - substring(command, '[0-9]+')::integer) FROM supervisor.job});
value(q{SELECT supervisor.alter_job(id, pool => 'one') FROM supervisor.job});
ran('3 2 1', 'they get other priorities');

$job = enqueue(1, q{pool => 'paused', run_at => now() + interval '0.5 s'});
is(value("SELECT supervisor.alter_job($job, enabled => false)"), 't', 'one is not enabled any more');
is(job($job, 'run_at, enabled, reason'), 'infinity|f|disabled', 'it waits');
refused("SELECT supervisor.retry_job($job)", '55000', 'it can\'t be run', hint => qr/enabled => true/);
value("SELECT supervisor.alter_job($job, enabled => true, pool => 'one')");
ran('1', 'it is due when it was');
$job = enqueue(1, q{run_at => 'infinity'});
value("SELECT supervisor.alter_job($job, enabled => false); SELECT supervisor.alter_job($job, now())");
is(job($job, 'run_at'), 'infinity', 'one that is not enabled gets a time');
value("SELECT supervisor.alter_job($job, enabled => true)");
ran('1', 'for when it is');

$job = value(q{SELECT supervisor.schedule('a', '0 0 1 1 *', 'INSERT INTO ran VALUES (1)')});
value("SELECT supervisor.alter_job($job, enabled => false)");
is(job($job, 'run_at, enabled'), 'infinity|f', 'a recurring one is not enabled');
value("UPDATE supervisor.job SET next_at = now() - interval '1 day'");
value("SELECT supervisor.alter_job($job, enabled => true)");
is(job($job, 'run_at = next_at, run_at > now(), reason IS NULL'), 't|t|t', 'and makes up for nothing');
value("SELECT supervisor.alter_job($job, run_at => now())");
becomes('SELECT count(*) = 1 FROM ran', 'it runs once more');
becomes('SELECT runs = 1 AND run_at = next_at AND run_at > now() FROM supervisor.job', 'its schedule stays');

note 'retry_job';

is(value("SELECT supervisor.retry_job($job)"), 't', 'a recurring one is run at once');
becomes('SELECT count(*) = 2 FROM ran', 'and does what it does');
becomes('SELECT runs = 2 AND run_at = next_at AND run_at > now() FROM supervisor.job', 'its schedule stays');
value(q{SELECT supervisor.unschedule('a'); TRUNCATE ran});
$job = enqueue(1, q{run_at => now() + interval '1 h'});
is(value("SELECT supervisor.retry_job($job)"), 't', 'one that waits is run at once');
ran('1', 'it does what it does');
is(value("SELECT supervisor.retry_job($job)"), 'f', 'one that has ended is not run');

value('CREATE TABLE missing_not_yet (i integer); ALTER TABLE missing_not_yet RENAME TO later');
$job = value(q{SELECT supervisor.enqueue('INSERT INTO ran SELECT 1 FROM missing', max_attempts => 2, retry_delay => '0')});
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'one has failed');
refused("SELECT supervisor.alter_job($job, run_at => now())", '55000', 'it gets no other time', hint => qr/retry_job/);
is(value("SELECT supervisor.alter_job($job, priority => 1)"), 't', 'but another priority');
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT state = 'f' AND runs = 4 FROM supervisor.job}, 'it has all its attempts again');
is(job($job, 'attempts, reason'), '2|max_attempts', 'and has used them');
value('ALTER TABLE later RENAME TO missing; INSERT INTO missing VALUES (1)');
value("SELECT supervisor.retry_job($job)");
ran('1', 'once it can, it succeeds');

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
$job = value(q{SELECT supervisor.schedule('a', '@yearly', 'INSERT INTO ran VALUES (1); SELECT pg_advisory_xact_lock(1)')});
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
is(value("SELECT supervisor.retry_job($job)"), 't', 'it is to run again');
is(value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 1, 'but not beside itself');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 2 FROM ran', 'it does so after it');
becomes('SELECT runs = 2 AND run_at = next_at FROM supervisor.job', 'then its schedule goes on');
value(q{SELECT supervisor.unschedule('a'); TRUNCATE ran});
$locks->quit;

note 'whose they are';

$job = enqueue(1, q{run_at => 'infinity'}, user => 'alice');
foreach my $call ("retry_job($job)", "alter_job($job, priority => 1)")
{
	refused("SELECT supervisor.$call", '42501', "$call of another's", user => 'bob');
	is(value("SELECT supervisor.$call", user => $_), 't', "$call by $_") foreach $call =~ /retry/ ? () : ('alice', 'watch');
}
refused("SELECT supervisor.alter_job($job, pool => 'club')", '42501', 'a pool that its role may not use');
refused("SELECT supervisor.alter_job($job, pool => 'nix')", '42704', 'no pool');
refused("SELECT supervisor.alter_job($job, priority => 10)", '22023', 'no priority');
refused("SELECT supervisor.alter_job($job, run_at => '-infinity')", '22023', 'no time');
foreach my $function (qw(retry_job alter_job))
{
	refused("SELECT supervisor.$function(NULL)", '22004', "$function: no job");
	refused("SELECT supervisor.$function(1000000)", '42704', "$function: one that never was");
	refused("BEGIN READ ONLY; SELECT supervisor.$function($job)", '25006', "$function: read only");
}
value("SELECT supervisor.retry_job($job)", user => 'alice');
ran('1', 'one\'s own');

note 'wait_job';

value('GRANT EXECUTE ON FUNCTION supervisor.wait_job TO PUBLIC; CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats');
$locks = SupervisorTest::session($node);
my $waiter = SupervisorTest::session($node);
my $pid = $waiter->pid;

# A command that waits for the lock, whose run has begun when this returns.
sub begin
{
	my ($command, $options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$locks->query_safe('SELECT pg_advisory_lock(1)');
	my $id = value("SELECT supervisor.enqueue('SELECT pg_advisory_xact_lock(1); $command'" . ($options // '') . ')');
	becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
	return $id;
}

sub go_on
{
	$locks->query_safe('SELECT pg_advisory_unlock(1)');
	return;
}

# The session begins to wait for that job.
sub wait_for
{
	my ($id) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$waiter->begin("SELECT supervisor.wait_job($id)");
	becomes("SELECT wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = $pid", 'a session waits');
	return;
}

sub told
{
	my ($expected, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my ($state) = $waiter->finish;
	is($state, $expected, $property);
	return;
}

wait_for($job = begin('SELECT 1'));
is(value("SELECT count(*) FROM pg_locks WHERE pid = $pid AND relation = 'supervisor.job'::regclass"), 0, 'without a lock on the jobs');
go_on();
told('succeeded', 'until it has succeeded');
is(value("SELECT supervisor.wait_job($job)"), 'succeeded', 'which is known afterwards');
wait_for($job = begin('SELECT 1/0', ', max_attempts => 1'));
go_on();
told('failed', 'until it has failed');
is(value("SELECT supervisor.wait_job($job)"), 'failed', 'which is known afterwards');
is(value("BEGIN READ ONLY; SELECT supervisor.wait_job($job)"), 'failed', 'also in a transaction that only reads');
wait_for($job = begin('SELECT 1/0', q{, max_attempts => 2, retry_delay => '0'}));
go_on();
told('failed', 'until all attempts have failed');
is(value("SELECT attempts FROM supervisor.job WHERE id = $job"), 2, 'all of them');
wait_for($job = begin('SELECT 1'));
value("SELECT supervisor.cancel_job($job)");
told('canceled', 'until its run is canceled');
go_on();
is(value("SELECT supervisor.wait_job($job)"), 'canceled', 'which is known afterwards');
wait_for($job = begin('SELECT 1', ', max_attempts => 1'));
value(q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
told('failed', 'until its worker has ended');
go_on();
wait_for($job = begin('SELECT 1', ', max_attempts => 1, atomic => false'));
go_on();
told('succeeded', 'until one that is not atomic has succeeded');
value('DELETE FROM supervisor.job');

$job = enqueue(1, q{run_at => 'infinity'});
is(value("SELECT supervisor.wait_job($job, '50 ms')"), '', 'not longer than that');
is(value("SELECT supervisor.wait_job($job, '0')"), '', 'nor at all');
foreach my $end ("COMMIT", "PREPARE TRANSACTION 'a'; COMMIT PREPARED 'a'")
{
	wait_for($job);
	my ($last) = reverse split /; /, $end;
	value("BEGIN; SELECT supervisor.cancel_job($job); " . ($end =~ /(PREPARE.*); / ? $1 : $end));
	value($last) if $end =~ /PREPARED/;
	told('canceled', "until one that waits is canceled ($end)");
	$job = enqueue(1, q{run_at => 'infinity'});
}
wait_for($job);
value("SELECT supervisor.retry_job($job)");
told('succeeded', 'until one that was held has run');
value('TRUNCATE ran');

# Nobody else's job wakes it: not one that is changed, runs, has others of its key or is done with them.
sub switches
{
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $n;
}
SKIP:
{
	skip 'the number of switches is told by Linux', 1 if $^O ne 'linux';
	$job = enqueue(1, q{run_at => 'infinity'});
	my $other = enqueue(2, q{run_at => 'infinity', key => 'k'});
	$waiter->query_safe(q{SET deadlock_timeout = '1 h'});    # it looks for deadlocks so often
	wait_for($job);
	my $before = switches();
	value("SELECT supervisor.alter_job($other, priority => $_ % 10)") foreach 1 .. 50;
	foreach (1 .. 50)
	{
		value("BEGIN; SELECT supervisor.alter_job($other, priority => $_ % 10); PREPARE TRANSACTION 'a'");
		value(q{COMMIT PREPARED 'a'});
	}
	enqueue($_ % 2, q{key => 'k'}) foreach 1 .. 50;
	becomes('SELECT count(*) = 2 FROM supervisor.job', 'others are run');

	# nor many of another role at once
	enqueue(3, q{run_at => 'infinity'}, user => 'alice') foreach 1 .. 20;
	value(q{SELECT count(supervisor.alter_job(id, priority => 4)) FROM supervisor.job WHERE role = 'alice'::regrole}) foreach 1 .. 50;
	value(q{SELECT count(supervisor.cancel_job(id)) FROM supervisor.job WHERE role = 'alice'::regrole});
	cmp_ok(switches() - $before, '<', 20, 'a session that waits is not woken for them');
	value("SELECT supervisor.cancel_job($_)") foreach $job, $other;
	told('canceled', 'but for its own');
	$waiter->query_safe('RESET deadlock_timeout');
	value('TRUNCATE ran');
}

# Of one that recurs a run.
$job = value(q{SELECT supervisor.schedule('a', '@yearly', 'SELECT 1')});
wait_for($job);
value("SELECT supervisor.retry_job($job)");
told('succeeded', 'until the next run of a recurring one');
is(value("SELECT supervisor.wait_job($job, '50 ms')"), '', 'but not one before');
wait_for($job);
value(q{SELECT supervisor.unschedule('a')});
told('canceled', 'or it is removed');
$locks->query_safe('SELECT pg_advisory_lock(1)');
$job = value(q{SELECT supervisor.schedule('a', '@yearly', 'SELECT pg_advisory_xact_lock(1); SELECT 1/0', max_attempts => 1)});
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
wait_for($job);
go_on();
told('failed', 'until the run that is under way has failed');
value(q{SELECT supervisor.unschedule('a')});

# One that is done with another.
begin('SELECT 1', ', key => $$k$$');
value(q{SELECT supervisor.enqueue('SELECT 2', key => 'k')}) foreach 1 .. 2;
$job = value('SELECT max(id) FROM supervisor.job');
wait_for($job);
go_on();
told('succeeded', 'until one is done with another one');
isnt(value("SELECT merged_into FROM supervisor.job_history WHERE job = $job"), '', 'as it was');

# What it says lasts, however the run has committed, and whoever else flushes WAL.
value('ALTER ROLE postgres SET synchronous_commit = off; CREATE TABLE at_lsn (lsn pg_lsn)');
my $walwriter = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
wait_for($job = begin('INSERT INTO at_lsn SELECT pg_current_wal_insert_lsn()'));
SupervisorTest::stop_process($walwriter);
go_on();
told('succeeded', 'until it has committed asynchronously');
is(value('SELECT pg_current_wal_flush_lsn() > lsn FROM at_lsn'), 't', 'which no crash undoes');
SupervisorTest::continue_process($walwriter);
value('ALTER ROLE postgres RESET ALL');

note 'wait_job: what is refused';

refused('SELECT supervisor.wait_job(NULL)', '22004', 'no job');
refused("SELECT supervisor.wait_job($_)", '42704', "one that never was: $_") foreach 0, 1000000;
refused('SELECT supervisor.wait_job(1, $$-1 s$$)', '22023', 'no time');
refused(q{BEGIN; SELECT supervisor.wait_job(supervisor.enqueue('SELECT 1'))}, '55000', 'one of the same statement');
refused(q{BEGIN; SELECT supervisor.enqueue('SELECT 1') AS job \gset
	SELECT supervisor.wait_job(:job)}, '55000', 'one of the same transaction');
$job = enqueue(1, q{run_at => 'infinity'});
refused("BEGIN; SELECT supervisor.$_; SELECT supervisor.wait_job($job)", '55000', "after $_ in the same transaction")
  foreach "alter_job($job, priority => 1)", "cancel_job($job)", "retry_job($job)";
value(qq{DELETE FROM supervisor.job; TRUNCATE supervisor.job_history});
refused("SELECT supervisor.wait_job($job)", '55000', 'one of which nothing is known any more');
$job = enqueue(1, q{run_at => 'infinity'});
refused("SELECT supervisor.execute('SELECT supervisor.wait_job($job)')", '55000', 'in a task');
my $inside = value("SELECT supervisor.enqueue('SELECT supervisor.wait_job($job)', max_attempts => 1)");
is(value("SELECT supervisor.wait_job($inside)"), 'failed', 'in a job');
is(job($inside, 'last_sqlstate'), '55000', 'as well');
value("SELECT supervisor.cancel_job($inside)");
my $alice = enqueue(1, q{run_at => 'infinity'}, user => 'alice');
foreach (0, 1)
{
	refused("SELECT supervisor.wait_job($alice)", '42501', 'another\'s' . ($_ ? ', which has ended' : ''), user => 'bob');
	is(value("SELECT supervisor.wait_job($alice, '0')", user => $_), value("SELECT supervisor.wait_job($alice, '0')"), "by $_") foreach 'alice', 'watch', 'reader';
	value("SELECT supervisor.cancel_job($alice)");
}
wait_for($job);
value("SELECT pg_cancel_backend($pid)");
my ($state) = $waiter->finish;
is($state, '', 'it can be canceled');
wait_for($job);
value("SELECT pg_terminate_backend($pid)");
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'and its session can be terminated');
$waiter = SupervisorTest::session($node);
$pid = $waiter->pid;
wait_for($job);
value("SELECT supervisor.cancel_job($job)");
told('canceled', 'others are told');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'none is left');

note 'wait_job: deadlocks';

value(q{CREATE TABLE l (i integer); ALTER SYSTEM SET deadlock_timeout = '50 ms'});
value('SELECT pg_reload_conf()');

# A job that needs a lock of the session that waits for another, or for itself.
sub deadlock
{
	my ($id, $property) = @_;
	my ($sqlstate, $stderr) = $waiter->error_of("SELECT supervisor.wait_job($id)");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($sqlstate, '40P01', $property);
	like($stderr, qr/Process $pid waits for job $id; process \d+, on which that depends, waits for a lock that process $pid holds/, "$property: it says who waits for whom");
	$waiter->query('ROLLBACK');
	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: it goes on");
}

$waiter->query_safe('BEGIN; LOCK TABLE l');
deadlock(value(q{SELECT supervisor.enqueue('INSERT INTO l VALUES (1)')}), 'a job that needs a lock');
$waiter->query_safe('BEGIN; LOCK TABLE l');
value(q{SELECT supervisor.enqueue('INSERT INTO l VALUES (1)', pool => 'one')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'l'::regclass AND NOT granted}, 'a worker waits for a lock');
deadlock(value(q{SELECT supervisor.enqueue('SELECT 1', pool => 'one')}), 'one whose pool has no other worker');
$waiter->query_safe('BEGIN; LOCK TABLE l');
value(q{SELECT supervisor.enqueue('INSERT INTO l VALUES (1)', key => 'k')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'l'::regclass AND NOT granted}, 'a worker waits for a lock');
deadlock(value(q{SELECT supervisor.enqueue('SELECT 1', key => 'k', pool => 'one')}), 'one that waits for its key');
$_->quit foreach $waiter, $locks;

note 'who may not change a job neither waits for its row nor locks it';

my $keeper = $node->background_psql('postgres');
value('GRANT EXECUTE ON FUNCTION supervisor.cancel_job, supervisor.schedule, supervisor.unschedule TO PUBLIC');
$job = enqueue(9, q{run_at => 'infinity'}, user => 'alice');
value(q{SELECT supervisor.schedule('hers', '@yearly', 'SELECT 1')}, user => 'alice');
$keeper->query_safe('BEGIN; SELECT FROM supervisor.job FOR UPDATE');
refused("SELECT supervisor.$_", '42501', $_, user => 'bob')
  foreach "retry_job($job)", "alter_job($job, priority => 1)", "cancel_job($job)", q{unschedule('hers')}, q{schedule('hers', '@daily', 'SELECT 2')};
$keeper->query_safe('ROLLBACK');
$keeper->quit;
value(q{SELECT supervisor.unschedule('hers')});
value("SELECT supervisor.cancel_job($job)");

note 'one that was disabled and has failed';

value(q{CREATE FUNCTION disable() RETURNS void LANGUAGE sql AS 'SELECT 1/0'});
$keeper = $node->background_psql('postgres');
$keeper->query_safe('SELECT pg_advisory_lock(3)');
$job = value(q{SELECT supervisor.enqueue('SELECT pg_advisory_xact_lock(3); SELECT disable()', max_attempts => 1)});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it runs');
value("SELECT supervisor.alter_job($job, enabled => false)");
$keeper->query_safe('SELECT pg_advisory_unlock(3)');
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", 'it fails');
refused("SELECT supervisor.retry_job($job)", '55000', 'it is not tried again', message => qr/is not enabled/);
value("SELECT supervisor.alter_job($job, enabled => true)");
is(job($job, 'state, enabled, run_at'), 'f|t|infinity', 'enabled it has still failed');
is(value("SELECT supervisor.retry_job($job)"), 't', 'and can be tried again');
becomes("SELECT state = 'f' AND runs = 2 FROM supervisor.job WHERE id = $job", 'so it is');
value("SELECT supervisor.cancel_job($job)");
$keeper->quit;

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
