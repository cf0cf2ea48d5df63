# Jobs and what settings say of pools, databases and jobs; jobs beside sessions' tasks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes quote refused until_true value);

my $node = SupervisorTest::new_node(
	'pools_jobs',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE log (what text, n serial);
	CREATE ROLE members;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT ALL ON log, log_n_seq TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob});

sub enqueue
{
	my ($what, $options, %opts) = @_;

	return value("SELECT supervisor.enqueue('INSERT INTO log VALUES (''$what'')'" . (defined $options ? ", $options" : '') . ')', %opts);
}

# All that waits is run, in that order.
sub ran
{
	my ($expected, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: none is left");
	is(value(q{SELECT coalesce(string_agg(what, ' ' ORDER BY n), '') FROM log}), $expected, $property);
	value('TRUNCATE log');
}

# It waits, for that reason, while others are run.
sub waits
{
	my ($job, $reason, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT state = 'queued' AND reason = '$reason' FROM supervisor.job_status WHERE job = $job", $property);
	value(q{SELECT supervisor.execute('SELECT 1')});
	is(value("SELECT count(*) FROM supervisor.job_run WHERE job = $job"), 0, "$property: it is not run");
}

sub set_pools
{
	my ($pools) = @_;

	SupervisorTest::set($node, 'supervisor.pools' => $pools);
	until_true('SELECT setting = ' . quote($pools) . q{ FROM pg_settings WHERE name = 'supervisor.pools'});
}

note 'pools';

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $runs = value(q{SELECT supervisor.enqueue('INSERT INTO log SELECT ''runs'' FROM pg_advisory_xact_lock(1)', pool => 'one')});
becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $runs", 'one runs');
my $job = enqueue('waits', q{pool => 'one'});
set_pools('one:0');
waits($job, 'paused', 'a pool becomes of size 0');
is(value("SELECT state FROM supervisor.job_status WHERE job = $runs"), 'running', 'who runs goes on');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 1 FROM log', 'to its end');
becomes(q{SELECT running = 0 FROM supervisor.pool_status WHERE pool = 'one'}, 'then the pool has no worker');
is(value("SELECT state FROM supervisor.job_status WHERE job = $job"), 'queued', 'the other one waits');
set_pools('one:1');
ran('runs waits', 'the pool grows again');

$job = enqueue('waits', q{pool => 'one', run_at => 'infinity'});
my $later = enqueue('later', q{pool => 'one', run_at => 'infinity'});
set_pools('');
becomes(q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'one'}, 'a pool is removed');
value("SELECT supervisor.retry_job($job)");
waits($job, 'no_pool', 'a job of it waits');
value("SELECT supervisor.alter_job($later, clock_timestamp() + interval '0.1 s')");
waits($later, 'no_pool', 'one that becomes due as well');
refused(q{SELECT supervisor.enqueue('SELECT 1', pool => 'one')}, '42704', 'and there is no other');
set_pools('one:1');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'the pool is back: they are run');
is(value(q{SELECT string_agg(what, ' ' ORDER BY what) FROM log}), 'later waits', 'both');
value('TRUNCATE log');

set_pools('one:1(members)');
$job = enqueue('superuser', q{pool => 'one'});
ran('superuser', 'a pool that has members');
value('GRANT members TO alice');
$job = enqueue('alice', q{pool => 'one', run_at => 'infinity'}, user => 'alice');
refused(q{SELECT supervisor.enqueue('SELECT 1', pool => 'one')}, '42501', 'others do not enqueue', user => 'bob');
set_pools('one:1(bob)');
value("SELECT supervisor.retry_job($job)", user => 'alice');
waits($job, 'no_member', 'members change');
set_pools('one:1(bob, alice)');
ran('alice', 'one is a member again');
$job = enqueue('alice', q{pool => 'one', run_at => 'infinity'}, user => 'alice');
set_pools('one:1(members)');
value('REVOKE members FROM alice');
value("SELECT supervisor.retry_job($job)", user => 'alice');
waits($job, 'no_member', 'one is no member of the role any more');
set_pools('one:1');
ran('alice', 'the pool is for all');
is(value("SELECT count(*) FROM supervisor.job_run WHERE state <> 'succeeded'"), 0, 'no attempt was used by all that');

note 'run_jobs';

$locks->query_safe('SELECT pg_advisory_lock(1)');
$runs = value(q{SELECT supervisor.enqueue('INSERT INTO log SELECT ''runs'' FROM pg_advisory_xact_lock(1)')});
becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $runs", 'one runs');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'off');
$job = enqueue('off', q{run_at => 'infinity'});
until_true(q{SELECT setting = 'off' FROM pg_settings WHERE name = 'supervisor.run_jobs'});
until_true(qq{SELECT supervisor.why_job_waits(10, 'default', false) = 'paused'});
value("SELECT supervisor.retry_job($job)");
waits($job, 'paused', 'jobs are switched off');
$later = enqueue('later', q{run_at => clock_timestamp() + interval '0.3 s', pool => 'one'});
waits($later, 'paused', 'one that becomes due as well');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks are run');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes(q{SELECT count(*) = 1 FROM log}, 'who runs goes on');
$node->restart;
waits($job, 'paused', 'also after a restart');
is(value('SELECT count(*) FROM log'), 1, 'and no other is run');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'jobs are switched on: they are run');
is(value(q{SELECT string_agg(what, ' ' ORDER BY what) FROM log}), 'later off runs', 'each once');
value('TRUNCATE log');
$locks = SupervisorTest::session($node);

note 'databases';

value('CREATE DATABASE other');
value(q{CREATE EXTENSION supervisor; CREATE TABLE log (what text)}, dbname => 'other');
SupervisorTest::set($node, 'supervisor.databases' => 'other');
until_true(q{SELECT setting = 'other' FROM pg_settings WHERE name = 'supervisor.databases'});
$job = enqueue('listed');
waits($job, 'not_listed', 'a database is not listed');
value(q{SELECT supervisor.enqueue('INSERT INTO log VALUES (''other'')')}, dbname => 'other');
ok($node->poll_query_until('other', 'SELECT count(*) = 1 FROM log'), 'another one is');
SupervisorTest::set($node, 'supervisor.databases' => 'postgres, other');
ran('listed', 'then it is');
SupervisorTest::set($node, 'supervisor.databases' => '*');

note 'beside tasks';

# Of the pool's one worker: a task is run while many jobs wait, and a job while many tasks do; of one role, and of two.
foreach my $user ('alice', 'bob')
{
	my $session = SupervisorTest::session($node, user => $user);

	value(q{SELECT count(supervisor.enqueue('INSERT INTO log SELECT ''job'' FROM pg_sleep(0.01)', pool => 'one')) FROM generate_series(1, 200)}, user => 'alice');
	$session->query_safe(q{SELECT supervisor.execute('INSERT INTO log VALUES (''task'')', pool => 'one') FROM generate_series(1, 3)});
	becomes('SELECT count(*) = 203 FROM log', "tasks of $user beside jobs of alice: all are run");
	cmp_ok(value(q{SELECT count(*) FROM log WHERE what = 'job' AND n > (SELECT max(n) FROM log WHERE what = 'task')}), '>', 20, 'tasks do not wait for all jobs');
	value('TRUNCATE log');

	$locks->query_safe('SELECT pg_advisory_lock(1)');
	$session->query_safe(q{SELECT supervisor.launch('SELECT pg_advisory_xact_lock(1)', pool => 'one')});
	my $tasks = q{SELECT count(supervisor.launch('INSERT INTO log SELECT ''task'' FROM pg_sleep(0.01)', pool => 'one')) FROM generate_series(1, 100)};
	$session->query_safe($tasks);
	enqueue('job', q{pool => 'one'}, user => 'alice');
	$session->query_safe($tasks);
	is(value(q{SELECT queued_tasks FROM supervisor.pool_status WHERE pool = 'one'}), 200, 'a queued drain is not counted');
	$locks->query_safe('SELECT pg_advisory_unlock(1)');
	becomes('SELECT count(*) = 201 FROM log', "a job of alice beside tasks of $user: all are run");
	cmp_ok(value(q{SELECT count(*) FROM log WHERE what = 'task' AND n > (SELECT max(n) FROM log WHERE what = 'job')}), '>', 20, 'the job does not wait for tasks that came after it');
	value('TRUNCATE log');
	$session->quit;
}

# Of two roles, too, however many of one are due before the other's.
$locks->query_safe('SELECT pg_advisory_lock(1)');
value(q{SELECT supervisor.enqueue('INSERT INTO log SELECT ''alice'' FROM pg_advisory_xact_lock(1)', pool => 'one')}, user => 'alice');
value(q{SELECT count(supervisor.enqueue('INSERT INTO log SELECT ''alice'' FROM pg_sleep(0.001)', pool => 'one')) FROM generate_series(1, 3000)}, user => 'alice');
enqueue('bob', q{pool => 'one'}, user => 'bob');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 3002 FROM log', 'a job of bob behind 3,001 of alice: all are run');
cmp_ok(value(q{SELECT count(*) FROM log WHERE what = 'alice' AND n > (SELECT n FROM log WHERE what = 'bob')}), '>', 1000, 'his does not wait for all of hers');
value('TRUNCATE log');

note 'a drain is no task';

$locks->query_safe('SELECT pg_advisory_lock(1)');
$runs = value(q{SELECT supervisor.enqueue('INSERT INTO log SELECT ''runs'' FROM pg_advisory_xact_lock(1)', pool => 'one')});
becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $runs", 'a job runs');
$job = enqueue('next', q{pool => 'one'}, user => 'alice');
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE pool = 'one' AND finished_at IS NULL}), 0, 'no task is shown');
is(value(q{SELECT activity, task IS NULL, command IS NULL FROM supervisor.worker_status WHERE pool = 'one' AND pid IS NOT NULL}), 'busy|t|t', 'the worker is busy, with no task');
my $last = value(q{SELECT t FROM supervisor.launch('SELECT 1') t});
value(qq{DO \$\$ BEGIN FOR i IN 0 .. $last + 10 LOOP BEGIN PERFORM supervisor.cancel(i); EXCEPTION WHEN undefined_object THEN NULL; END; END LOOP; END \$\$});
refused('SELECT supervisor.cancel(0)', '42704', 'no task has its number');
is(value("SELECT state FROM supervisor.job_status WHERE job = $runs"), 'running', 'cancel() has canceled no job');
is(value(q{SELECT wait_event_type FROM pg_stat_activity WHERE query ~ '^INSERT INTO log SELECT ''runs'''}), 'Lock', 'nor what it does');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
ran('runs next', 'both are run');
is(value("SELECT string_agg(DISTINCT state, ' ') FROM supervisor.job_run"), 'succeeded', 'all have succeeded, and at once');
is(value('SELECT max(attempt) FROM supervisor.job_run'), 1, 'no attempt was lost');
$locks->quit;
SupervisorTest::log_is_clean($node);
done_testing();
