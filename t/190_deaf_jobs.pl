# A job that takes no cancel keeps its worker, and nothing else: others' jobs go on, a person
# is told, and it is not run a second time beside itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value);

my $node = SupervisorTest::new_node(
	'deaf_jobs',
	'max_worker_processes' => 16,
	'max_prepared_transactions' => 1,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 2,
	'supervisor.max_workers' => 8,
	'supervisor.stop_timeout' => '100ms');
my $library = SupervisorTest::build_library('lingers');
my $path = $node->basedir . '/deaf';

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
value(qq{
	CREATE FUNCTION deaf(text) RETURNS void AS '$library' LANGUAGE C STRICT;
	CREATE TABLE ran (who name DEFAULT current_user, job bigint DEFAULT supervisor.current_job());
	CREATE SEQUENCE caught;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	GRANT ALL ON ran, caught TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.cancel_job TO PUBLIC});

# It looks at no interrupts as long as a file is there.
my $deaf = "INSERT INTO ran DEFAULT VALUES; SELECT deaf('$path')";
# It makes nothing of a cancel, and counts them.
my $catches = q{DO $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(600);
			EXCEPTION WHEN query_canceled THEN
				PERFORM nextval('caught');
			END;
		END LOOP;
	END $$};

# It takes one for the end of its wait, and commits.
my $ends = q{DO $$
	BEGIN
		PERFORM pg_sleep(600);
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END $$};

sub file
{
	my ($exists) = @_;

	if ($exists) { append_to_file($path, 'deaf') }
	else { unlink $path }
}

sub enqueue
{
	my ($command, $options, $user) = @_;

	return value("SELECT supervisor.enqueue(\$job\$$command\$job\$, retry_delay => '0'$options)", user => $user);
}

# What is noted of the runs of a job.
sub runs
{
	my ($job) = @_;

	return value(qq{SELECT coalesce(string_agg(attempt || ' ' || state || coalesce(' ' || sqlstate, ''), ', ' ORDER BY finished_at), '') FROM supervisor.job_history WHERE job = $job});
}

# It runs, and has for longer than it may.
sub is_late
{
	my ($job, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT state = 'running' AND clock_timestamp() - started_at > coalesce((SELECT run_timeout FROM supervisor.job WHERE id = $job), '0') + interval '300 ms' FROM supervisor.job_status WHERE job = $job", $property);
}

# Jobs of two others are run.
sub others_go_on
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $user ('bob', 'carol')
	{
		enqueue('INSERT INTO ran DEFAULT VALUES', '', $user) foreach 1 .. 3;
	}
	becomes(q{SELECT count(*) FILTER (WHERE who = 'bob') = 3 AND count(*) FILTER (WHERE who = 'carol') = 3 FROM ran}, "$property: jobs of others go on");
	value(q{DELETE FROM ran});
}

my $nstuck = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE state = 'stuck'};

# Has the worker of a job terminated.
sub terminate
{
	my ($job) = @_;

	value("SELECT supervisor.terminate_worker(slot, '0') FROM supervisor.worker_status WHERE pid = (SELECT pid FROM supervisor.job_status WHERE job = $job)");
}

note 'one that looks at no interrupts';

foreach my $how ('run_timeout', 'cancel_job', 'both')
{
	file(1);
	my $job = enqueue($deaf, $how eq 'cancel_job' ? ', max_attempts => 1' : q{, max_attempts => 1, run_timeout => '2 s'}, 'alice');
	is_late($job, "$how: it runs");
	is(value("SELECT supervisor.cancel_job($job)", user => 'alice'), 't', "$how: its run is canceled") if $how ne 'run_timeout';
	others_go_on($how);
	is(value("SELECT state FROM supervisor.job_status WHERE job = $job"), 'running', "$how: it still runs");
	file(0);
	becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $job", "$how: it ends by that when it can");
	is(runs($job), $how eq 'run_timeout' ? '1 failed 57014' : '1 canceled 57014', "$how: as is noted");
	is(value("SELECT count(*) FROM supervisor.job WHERE id = $job"), $how eq 'run_timeout' ? 1 : 0, "$how: and it is not tried again");
	is(value('SELECT count(*) FROM ran'), 0, "$how: it has done nothing");
	value('DELETE FROM supervisor.job');
}

foreach my $canceled (0, 1)
{
	my $what = $canceled ? 'canceled and terminated' : 'terminated';
	file(1);
	my $job = enqueue($deaf, ', max_attempts => 2', 'alice');
	is_late($job, "$what: it runs");
	my $pid = value("SELECT pid FROM supervisor.job_status WHERE job = $job");
	value("SELECT supervisor.cancel_job($job)", user => 'alice') if $canceled;
	terminate($job);
	until_true(sprintf($nstuck, 1), 'it is stuck');
	becomes(qq{SELECT count(*) = 1 FROM supervisor.health() WHERE severity = 'warning' AND what ~ '^process $pid of pool "default" does not end' AND hint ~ 'gdb -p $pid '},
		"$what: health() names its process");
	SupervisorTest::wait_ready($node, 'default', 2);
	pass("$what: another worker takes its place");
	others_go_on($what);
	is(value("SELECT state, pid FROM supervisor.job_status WHERE job = $job"), "running|$pid", "$what: it still runs, there and nowhere else");
	is(runs($job), '', "$what: nothing is noted yet");
	file(0);
	becomes("SELECT count(*) = 0 FROM supervisor.job", "$what: it is gone when that has ended");
	is(runs($job), $canceled ? '1 canceled 57P01' : '1 failed 57P01, 2 succeeded', "$what: after " . ($canceled ? 'no other run' : 'another run'));
	is(value("SELECT count(*) FROM ran WHERE job = $job"), $canceled ? 0 : 1, "$what: it has done that " . ($canceled ? 'not at all' : 'once'));
	until_true(sprintf($nstuck, 0), 'none is stuck');
	becomes('SELECT count(*) = 0 FROM supervisor.health()', "$what: all is well again");
	value('DELETE FROM ran');
}

note 'as many as there are workers';

file(1);
my @jobs = map { enqueue($deaf, '', 'alice') } 1 .. 2;
is_late($_, 'one runs') foreach @jobs;
my $waits = enqueue('INSERT INTO ran DEFAULT VALUES', '', 'bob');
becomes("SELECT state = 'queued' AND reason = 'busy' FROM supervisor.job_status WHERE job = $waits", 'others wait');
terminate($_) foreach @jobs;
until_true(sprintf($nstuck, 2), 'both are stuck');
becomes("SELECT count(*) = 0 FROM supervisor.job WHERE id = $waits", 'until both are replaced');
value('DELETE FROM ran');
my $next = enqueue('INSERT INTO ran DEFAULT VALUES', '', 'alice');
others_go_on('both');
is(value("SELECT state FROM supervisor.job_status WHERE job = $next"), 'queued', 'who has two that are stuck is not served');
file(0);
becomes('SELECT count(*) = 0 FROM supervisor.job', 'until they have ended');
is(value(q{SELECT string_agg(job::text, ' ' ORDER BY job) FROM ran}), "@jobs $next", 'each is done once');
is(runs($_), '1 failed 57P01, 2 succeeded', 'by another run') foreach @jobs;
until_true(sprintf($nstuck, 0), 'none is stuck');
SupervisorTest::wait_ready($node, 'default', 2);

note 'one that catches cancels';

foreach my $canceled (0, 1)
{
	my $what = $canceled ? 'canceled' : 'not canceled';
	value('ALTER SEQUENCE caught RESTART');
	my $job = enqueue($catches, q{, run_timeout => '2 s', max_attempts => 1}, 'alice');
	becomes('SELECT is_called AND last_value = 1 FROM caught', "$what: its run_timeout cancels it");
	is_late($job, "$what: it goes on");
	foreach my $n ($canceled ? (2, 3) : ())
	{
		value("SELECT supervisor.cancel_job($job)", user => 'alice');
		becomes("SELECT last_value = $n FROM caught", "$what: so does each cancel_job()");
	}
	others_go_on($what);
	is(value("SELECT state FROM supervisor.job_status WHERE job = $job"), 'running', "$what: it still runs");
	is(value('SELECT last_value FROM caught'), $canceled ? 3 : 1, "$what: each was one cancel");
	terminate($job);
	becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $job", "$what: it ends with its worker");
	is(runs($job), $canceled ? '1 canceled 57P01' : '1 failed 57P01', "$what: as is noted");
	is(value("SELECT count(*) FROM supervisor.job WHERE id = $job"), $canceled ? 0 : 1, "$what: and is not tried again");
	value('DELETE FROM supervisor.job');
}

note 'one whose parallel worker looks at no interrupts';

{
	value('ALTER FUNCTION deaf PARALLEL SAFE; CREATE TABLE big AS SELECT i FROM generate_series(1, 50000) i; GRANT SELECT ON big TO alice; ANALYZE big');
	file(1);
	my $job = enqueue(qq{CREATE TEMP TABLE t (); COMMIT;
		SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;
		SELECT count(*) FROM big WHERE i = 5 AND deaf('$path') IS NOT NULL}, ', atomic => false', 'alice');
	becomes(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, 'it has one');
	my $pid = value("SELECT pid FROM supervisor.job_status WHERE job = $job");
	value("SELECT pg_terminate_backend($pid)");
	# longer than a worker may linger in its exit
	becomes("SELECT clock_timestamp() - started_at > '4 s' FROM supervisor.job_status WHERE job = $job", 'its leader is terminated');
	is(value("SELECT state, pid FROM supervisor.job_status WHERE job = $job"), "running|$pid", 'it still runs, there and nowhere else');
	file(0);
	becomes('SELECT count(*) = 0 FROM supervisor.job', 'it is gone when that has ended');
	is(runs($job), '1 failed 57P01, 2 succeeded', 'after another run');
}

note 'one whose worker lingers in its exit';

{
	my $job = enqueue('CREATE TEMP TABLE t (); INSERT INTO ran DEFAULT VALUES; COMMIT; SELECT pg_sleep(600)', ', atomic => false', 'alice');
	becomes("SELECT count(*) = 1 FROM ran WHERE job = $job", 'one has a temporary table');
	my $pid = value("SELECT pid FROM supervisor.job_status WHERE job = $job");
	my $table = value(q{SELECT oid::regclass FROM pg_class WHERE relname = 't' AND relpersistence = 't'});
	my $holder = SupervisorTest::session($node);
	$holder->query_safe("BEGIN; LOCK TABLE $table");
	value("SELECT pg_terminate_backend($pid)");
	becomes("SELECT state = 'running' AND pid <> $pid FROM supervisor.job_status WHERE job = $job", 'it is run again while the former one lingers');
	$holder->quit;
	becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'that has ended');
	value("SELECT supervisor.cancel_job($job)");
	becomes('SELECT count(*) = 0 FROM supervisor.job', 'its job as well');
	value('ALTER SYSTEM SET supervisor.pool_size = 8');
	$node->reload;
	my @all = map { enqueue('SELECT pg_sleep(600)', '', 'alice') } 1 .. 8;
	becomes(q{SELECT count(*) = 8 FROM supervisor.job_status WHERE state = 'running'}, 'its place is taken by another, as are all');
	value("SELECT supervisor.cancel_job($_)") foreach @all;
	becomes('SELECT count(*) = 0 FROM supervisor.job', 'all end');
	value('ALTER SYSTEM RESET supervisor.pool_size');
	$node->reload;
	value('DELETE FROM ran');
}

SupervisorTest::log_is_clean($node);

note 'the server ends first';

foreach my $how ('fast', 'immediate', 'crash', 'it has ended', 'it has succeeded')
{
	my $succeeds = $how eq 'it has succeeded';
	my $job = enqueue($succeeds ? $ends : "INSERT INTO ran DEFAULT VALUES; $catches", $succeeds ? ', atomic => false' : '', 'alice');
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $job", "$how: one runs");
	my $pid = value("SELECT pid FROM supervisor.job_status WHERE job = $job");
	my $again = enqueue('SELECT pg_sleep(600)', '', 'bob');
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $again", "$how: and another's");
	value("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE; PREPARE TRANSACTION 'a'") if $how =~ /^it has/;
	is(value("SELECT supervisor.cancel_job($job)", user => 'alice'), 't', "$how: the first is canceled, and goes on");
	if ($how =~ /^it has/)
	{
		terminate($job) if !$succeeds;
		becomes("SELECT lost FROM supervisor.get_job_runs() WHERE job = $job", "$how: that can't be noted");
		$node->restart;
	}
	elsif ($how eq 'crash')
	{
		kill 'KILL', $pid;
		$node->wait_for_log(qr/\(PID $pid\) was terminated by signal 9/);
	}
	else
	{
		$node->stop($how);
		$node->start;
	}
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $again", "$how: the other is run again");
	value("ROLLBACK PREPARED 'a'") if $how =~ /^it has/;
	becomes("SELECT count(*) = 0 FROM supervisor.job WHERE id = $job", "$how: the first is not");
	is(runs($job), '1 canceled 57014', "$how: as is noted");
	value("SELECT supervisor.cancel_job($again)");
	becomes('SELECT count(*) = 0 FROM supervisor.job', "$how: no job is left");
	is(value('SELECT count(*) FROM ran'), 0, "$how: it has done nothing");
}

note 'the number of one that the server has lost comes again';

{
	my $job = enqueue($ends, ', atomic => false', 'alice');
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $job", 'one runs');
	value(q{BEGIN; LOCK TABLE supervisor.job_history; PREPARE TRANSACTION 'a'});
	value("SELECT supervisor.cancel_job($job)", user => 'alice');
	becomes("SELECT lost FROM supervisor.get_job_runs() WHERE job = $job", 'it was canceled, which cannot be noted');
	$node->restart;
	value("UPDATE supervisor.job SET enqueued_at = enqueued_at + interval '1 us', attempts = 0 WHERE id = $job");
	value("ROLLBACK PREPARED 'a'");
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $job", 'another job of that number is run');
	is(runs($job), '', 'nothing is noted of the former one');
	value("SELECT supervisor.cancel_job($job)");
	becomes('SELECT count(*) = 0 FROM supervisor.job', 'it ends as any');
}

$node->stop;
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC)/m, 'nothing unexpected in the log');
done_testing();
