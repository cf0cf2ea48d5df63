# Whether a service works: what its runs have come to; counters and since when they count.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

my $node = SupervisorTest::new_node(
	'health',
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 1,
	'supervisor.restart_delay' => '1ms',
	'supervisor.restart_delay_max' => '1ms',
	'supervisor.max_restarts' => 1000000);

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 1);
value(q{
	CREATE ROLE alice LOGIN;
	CREATE TABLE mode (fails bool);
	INSERT INTO mode VALUES (false)});
my $lock = SupervisorTest::session($node);

sub add
{
	my ($name, $command, @more) = @_;

	value(sprintf 'SELECT supervisor.add_worker(%s)', join ', ', "'$name'", "\$\$$command\$\$", @more);
}

# What is so of that worker?
sub now_is
{
	my ($name, $condition, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return becomes("SELECT $condition FROM supervisor.worker_status WHERE name = '$name'", $property);
}

note 'a service that runs again and again';

add('often', 'SELECT 1 / (NOT fails)::int, pg_sleep(0.01) FROM mode', q{run_every => '20 ms'});
now_is('often', 'runs_succeeded > 3 AND runs_failed = 0', 'runs that succeed are counted');
now_is('often', q{last_run_at > stats_since AND last_success_at > last_run_at AND last_run_duration BETWEEN '10 ms' AND '1 min'
	AND next_run_at >= last_success_at}, 'when the last was, how long it took, and when the next will be');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name <> 'often' AND (runs_succeeded IS NOT NULL OR runs_failed IS NOT NULL
		OR last_run_at IS NOT NULL OR last_run_duration IS NOT NULL OR last_success_at IS NOT NULL OR next_run_at IS NOT NULL)}),
	'0', 'no other worker has runs');
my $succeeded = value(q{SELECT runs_succeeded FROM supervisor.worker_status WHERE name = 'often'});
value('UPDATE mode SET fails = true');
now_is('often', q{runs_failed > 3 AND consecutive_failures > 0 AND last_error = 'division by zero' AND last_exit_at > last_success_at
	AND last_success_at < last_run_at}, 'those that fail are counted over its processes');
now_is('often', "runs_succeeded >= $succeeded", 'those that have succeeded are known still');
my $failed_at = value(q{SELECT last_success_at FROM supervisor.worker_status WHERE name = 'often'});
value('UPDATE mode SET fails = false');
now_is('often', qq{state = 'running' AND last_success_at > '$failed_at' AND consecutive_failures = 0 AND restart_at IS NULL
	AND last_error = 'division by zero' AND last_sqlstate = '22012' AND last_exit_at < last_success_at},
	'after a success the error is history, and nothing else tells of it');
is(value(q{SELECT last_error IS NULL AND runs_failed > 3 AND last_success_at IS NOT NULL FROM supervisor.worker_status WHERE name = 'often'}, user => 'alice'),
	't', 'its error is hidden as before, its success is no secret');
value(q{SELECT supervisor.stop_worker('often')});
is(value(q{SELECT state, next_run_at IS NULL, last_success_at IS NOT NULL, runs_failed > 3 FROM supervisor.worker_status WHERE name = 'often'}),
	'stopped|t|t|t', 'one that is stopped has no next run, and keeps what it was');

add('waits', 'SELECT 1/0', q{run_every => '1 s', restart_delay => '1 h', restart_delay_max => '1 h'});
now_is('waits', q{state = 'backoff' AND next_run_at = restart_at AND restart_at > now() + interval '50 min' AND last_run_duration IS NOT NULL},
	'the next run is when it is tried again');

note 'while it runs, and how a run ends';

$lock->query_safe('SELECT pg_advisory_lock(1)');
add('long', 'SELECT pg_advisory_xact_lock_shared(1)', q{run_every => '1 h'});
now_is('long', q{activity = 'busy' AND last_run_at IS NOT NULL AND last_run_duration IS NULL AND last_success_at IS NULL
	AND next_run_at IS NULL AND runs_succeeded = 0 AND runs_failed = 0}, 'the first run goes on');
value(q{SELECT supervisor.restart_worker('long', NULL)});
now_is('long', q{activity = 'busy' AND restarts = 1 AND runs_failed = 0}, 'who breaks it off does not make it fail');
my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'long'});
value("SELECT pg_terminate_backend($pid)");
now_is('long', q{activity = 'busy' AND restarts = 2 AND runs_failed = 1 AND runs_succeeded = 0}, 'whoever else ends its process does');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
now_is('long', q{activity = 'idle' AND runs_succeeded = 1 AND runs_failed = 1 AND next_run_at > now() + interval '50 min'
	AND abs(extract(epoch FROM next_run_at - last_run_at) - 3600) < 1}, 'when it has run, the next is an interval after its start');
my $next = value(q{SELECT next_run_at FROM supervisor.worker_status WHERE name = 'long'});

# DDL on its database has it leave; it keeps its schedule.
value('CREATE DATABASE other');
value(q{CREATE EXTENSION supervisor; SELECT supervisor.add_worker('there', 'SELECT 1', run_every => '1 h')}, dbname => 'other');
now_is('there', 'runs_succeeded = 1', 'a worker in another database has run');
$next = value(q{SELECT next_run_at FROM supervisor.worker_status WHERE name = 'there'});
my $ddl = SupervisorTest::session($node);
$ddl->query_safe('BEGIN; ALTER DATABASE other RENAME TO another');
now_is('there', "state = 'waiting' AND reason = 'fenced' AND next_run_at IS NULL", 'while it waits for DDL, when it runs next is not known');
$ddl->query_safe('ROLLBACK');
now_is('there', "state = 'running' AND activity = 'idle' AND next_run_at = '$next' AND runs_succeeded = 1 AND runs_failed = 0", 'it runs when it would have');
$ddl->quit;

# Once per start.
add('once', 'SELECT 1', q{restart => 'never'});
now_is('once', q{state = 'stopped' AND runs_succeeded = 1 AND last_success_at IS NOT NULL AND next_run_at IS NULL}, 'one that runs once has run');
add('fails', 'SELECT 1/0', q{restart => 'never'});
now_is('fails', q{state = 'stopped' AND runs_failed = 1 AND runs_succeeded = 0 AND last_run_duration IS NOT NULL AND last_success_at IS NULL},
	'or has failed');
add('late', 'SELECT pg_sleep(1000)', q{run_timeout => '10 ms', restart => 'never'});
now_is('late', q{state = 'stopped' AND runs_failed = 1 AND last_run_duration >= '10 ms'}, 'so has one that took too long');

note 'counters begin anew';

value(q{SELECT supervisor.execute('SELECT 1')});
is(value(q{SELECT tasks_succeeded, stats_since > pg_postmaster_start_time() FROM supervisor.pool_status WHERE pool = 'default'}), '1|t',
	'a pool counts since it was added');
SupervisorTest::set($node, 'supervisor.pools' => 'late:1');
SupervisorTest::wait_ready($node, 'late', 1);
is(value(q{SELECT l.stats_since > d.stats_since FROM supervisor.pool_status l, supervisor.pool_status d WHERE l.pool = 'late' AND d.pool = 'default'}), 't',
	'which may be later');
refused('SELECT supervisor.reset_stats()', '42501', 'not everybody may reset the counters', user => 'alice');
is(value(q{SELECT tasks_succeeded FROM supervisor.pool_status WHERE pool = 'default'}), '1', 'which stay');
value('GRANT EXECUTE ON FUNCTION supervisor.reset_stats() TO alice');
my $before = value('SELECT clock_timestamp()');
value('SELECT supervisor.reset_stats()', user => 'alice');
is( value(qq{
		SELECT (SELECT sum(tasks_succeeded + tasks_failed + tasks_canceled) FROM supervisor.pool_status),
			(SELECT sum(tasks_succeeded + tasks_failed + tasks_canceled) FROM supervisor.worker_status),
			(SELECT sum(runs_succeeded + runs_failed) FROM supervisor.worker_status WHERE name <> 'often'),
			(SELECT sum(restarts) FROM supervisor.worker_status WHERE name <> 'often' AND kind <> 'loader'),
			(SELECT bool_and(stats_since > '$before') FROM supervisor.pool_status),
			(SELECT bool_and(stats_since > '$before') FROM supervisor.worker_status WHERE kind <> 'loader')}),
	'0|0|0|0|t|t', 'but who is granted it may');
is(value(q{SELECT last_error, last_success_at IS NULL, last_run_at IS NOT NULL, last_exit_code FROM supervisor.worker_status WHERE name = 'fails'}),
	'division by zero|t|t|1', 'when something was last so is no counter');
value(q{SELECT supervisor.execute('SELECT 1')});
is(value(q{SELECT tasks_succeeded FROM supervisor.pool_status WHERE pool = 'default'}), '1', 'they count on from there');
$lock->quit;
SupervisorTest::log_is_clean($node);
$node->stop;

done_testing();
