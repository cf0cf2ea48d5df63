# How a task ended, from any session: what stays in task_status, for how long, and
# that it costs nobody anything; waiting for another session's task.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

my $node = SupervisorTest::new_node(
	'outcomes',
	'max_worker_processes' => 16,
	'supervisor.max_tasks' => 16,
	'supervisor.shared_memory' => '1MB',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'passing:1',
	'deadlock_timeout' => '1h');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mate LOGIN IN ROLE alice;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO alice, mate, watcher, bob;
	CREATE TABLE t (a int);
	GRANT ALL ON t TO alice});

my $alice = SupervisorTest::session($node, user => 'alice');
my $mate = SupervisorTest::session($node, user => 'mate');
my $mate_pid = $mate->pid;
my $lock = SupervisorTest::session($node);
my $blocked = 'SELECT 7 FROM pg_advisory_xact_lock_shared(1)';

sub launch
{
	my ($session, $command) = @_;

	return $session->query_safe("SELECT supervisor.launch(\$\$$command\$\$)");
}

# What is known of a task, by another session.
sub outcome
{
	my ($task) = @_;

	return value(qq{
		SELECT state, sqlstate, message, tag, owner_pid IS NULL, usename, datname, pool,
			submitted_at <= started_at AND started_at <= finished_at, command
		FROM supervisor.task_status WHERE task = $task});
}

# Waits until that session waits for a task.
sub waits
{
	my ($pid) = @_;

	until_true("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 'it waits for a task');
}

note 'what stays';

my $task = launch($alice, 'INSERT INTO t SELECT generate_series(1, 42)');
is($alice->query_safe("SELECT supervisor.forget($task)") =~ /^[tf]$/ ? 1 : 0, 1, 'a task is forgotten');
becomes("SELECT state = 'succeeded' FROM supervisor.task_status WHERE task = $task", 'how it ended can be seen');
is(outcome($task), 'succeeded|||INSERT 0 42|t|alice|postgres|default|t|INSERT INTO t SELECT generate_series(1, 42)', 'all of it');
is($mate->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'another session can ask for it');

$task = launch($alice, 'SELECT 1/0');
is($alice->query_safe("SELECT supervisor.wait($task), supervisor.forget($task)"), 'failed|f', 'a task has failed, and is forgotten');
is(outcome($task), 'failed|22012|division by zero||t|alice|postgres|default|t|SELECT 1/0', 'why can be seen');

$task = launch($alice, 'SELECT generate_series(1, 5)');
is($alice->query_safe("SELECT count(*) FROM supervisor.result($task) AS (a int)"), '5', 'a task is read');
is(outcome($task), 'succeeded|||SELECT 5|t|alice|postgres|default|t|SELECT generate_series(1, 5)', 'how it ended can be seen');
refused("SELECT * FROM supervisor.result($task) AS (a int)", '55000', 'its rows are gone', session => $alice,
	message => qr/result of task $task is gone/, hint => 'How the task ended');
refused("SELECT supervisor.forget($task)", '55000', 'it cannot be forgotten, either', session => $alice);
is($alice->query_safe("SELECT supervisor.cancel($task)"), 'f', 'nor canceled');

$task = launch($alice, 'SELECT * FROM nothing_there');
is($alice->query_safe("SELECT supervisor.wait($task)"), 'failed', 'a task has failed');
refused("SELECT * FROM supervisor.result($task) AS (a int)", '42P01', 'its error is read', session => $alice);
is(outcome($task), 'failed|42P01|relation "nothing_there" does not exist||t|alice|postgres|default|t|SELECT * FROM nothing_there',
	'and can be seen still');

# Rows that cannot be read: the reader has taken what is in shared memory, and gives up.
$task = launch($alice, q{SELECT repeat('x', 5000) FROM generate_series(1, 20)});
$alice->query_safe("SELECT supervisor.wait($task)");
value('CREATE TYPE two AS (a int, b text)');
my $altered = launch($alice, q{SELECT ROW(1, 'x')::two FROM generate_series(1, 3)});
$alice->query_safe("SELECT supervisor.wait($altered)");
value('ALTER TYPE two ADD ATTRIBUTE c int');
refused("SELECT * FROM supervisor.result($altered) AS (a two)", '42804', 'a result cannot be read', session => $alice);
is($mate->query_safe("SELECT supervisor.wait($altered)"), 'succeeded', 'how its task ended is known all the same');
is($alice->query_safe("SELECT count(*) FROM supervisor.result($task) AS (a text)"), '20', 'another is not disturbed');

my $goes = SupervisorTest::session($node, user => 'alice');
$lock->query_safe('SELECT pg_advisory_lock(1)');
my $runs = launch($goes, $blocked);
becomes("SELECT state = 'running' FROM supervisor.task_status WHERE task = $runs", 'a task runs');
my $unread = launch($goes, 'SELECT 2');
$goes->query_safe("SELECT supervisor.wait($unread)");
$goes->quit;
becomes("SELECT state = 'canceled' FROM supervisor.task_status WHERE task = $runs", 'its session goes, and it is canceled');
is(value("SELECT sqlstate, message, owner_pid IS NULL FROM supervisor.task_status WHERE task = $runs"),
	'57014|canceling statement because its session has ended|t', 'which says so');
is(value("SELECT state, tag, owner_pid IS NULL FROM supervisor.task_status WHERE task = $unread"), 'succeeded|SELECT 1|t',
	'what had ended can be seen, too');
$lock->query_safe('SELECT pg_advisory_unlock(1)');

is($alice->query_safe(q{SELECT supervisor.execute('SELECT 1 /* a call */')}), 'SELECT 1', 'a call tells how its task ended');
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE command LIKE '%/* a call */'}), '0', 'of which nothing stays');

# The pool may go, and the role.
$task = $alice->query_safe(q{SELECT supervisor.launch('SELECT 3', pool => 'passing')});
$alice->query_safe("SELECT supervisor.wait($task), supervisor.forget($task)");
SupervisorTest::set($node, 'supervisor.pools' => '');
becomes(q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'passing'}, 'what has ended keeps no pool');
is(value("SELECT pool, state FROM supervisor.task_status WHERE task = $task"), 'passing|succeeded', 'whose name is known');

note 'waiting for what another session has launched';

$lock->query_safe('SELECT pg_advisory_lock(1)');
$task = launch($alice, $blocked);
my @waiters = map { SupervisorTest::session($node, user => $_) } 'mate', 'watcher', 'alice', 'postgres';
my @pids = map { $_->pid } @waiters;
is($waiters[0]->query_safe("SELECT supervisor.wait($task, '0') IS NULL"), 't', 'a task runs');
is($waiters[0]->query_safe("SELECT supervisor.wait($task, '10 ms') IS NULL"), 't', 'and still does when the time is over');
$_->begin("SELECT supervisor.wait($task)") foreach @waiters;
waits($_) foreach @pids;
$alice->begin("SELECT * FROM supervisor.result($task) AS (a int)");

# Nothing of the kind ends the wait: there is no timer before the hour is over.
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(join('', $_->finish), 'succeeded', 'whoever may see its command is woken at its end') foreach @waiters;
is(join('', $alice->finish), '7', 'and its session reads the rows meanwhile');

$lock->query_safe('SELECT pg_advisory_lock(1)');
$alice->begin("SELECT supervisor.execute('$blocked')");
until_true(q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running'}, 'a call waits');
$task = value(q{SELECT task FROM supervisor.task_status WHERE state = 'running'});
$mate->begin("SELECT supervisor.wait($task)");
waits($mate_pid);
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(join('', $alice->finish), 'SELECT 1', 'its task ends');
is(join('', $mate->finish), 'succeeded', 'for which another session may wait as well');
is(value("SELECT count(*) FROM supervisor.task_status WHERE task = $task"), '0', 'and nothing of it stays');
refused("SELECT supervisor.wait($task)", '55000', 'once it is gone, nobody can say how it ended', session => $mate,
	message => qr/task $task is gone/);

$lock->query_safe('SELECT pg_advisory_lock(1)');
$task = launch($alice, $blocked);
foreach my $state ('running', 'succeeded', 'read')
{
	is($mate->query_safe("SELECT supervisor.wait($task, '0 s')"), $state eq 'running' ? '' : 'succeeded', "$state: a member of its role may wait");
	is(value("SELECT supervisor.wait($task, '0 s')", user => 'watcher'), $state eq 'running' ? '' : 'succeeded', "$state: so may pg_read_all_stats");
	refused("SELECT supervisor.wait($task, '0 s')", '42501', "$state: others may not", user => 'bob',
		message => qr/permission denied to wait for task $task/);
	refused("SELECT * FROM supervisor.result($task) AS (a int)", '55000', "$state: nobody else may read it", session => $mate);
	refused("SELECT supervisor.forget($task)", '55000', "$state: nor forget it", session => $mate);
	$lock->query_safe('SELECT pg_advisory_unlock(1)') if $state eq 'running';
	$alice->query_safe("SELECT supervisor.wait($task)") if $state eq 'running';
	$alice->query_safe("SELECT * FROM supervisor.result($task) AS (a int)") if $state eq 'succeeded';
}
refused('SELECT supervisor.wait(4711)', '42704', 'a task that never was', session => $mate);
refused("SELECT supervisor.execute('SELECT supervisor.wait($task)')", '55000', 'a task cannot wait for a task', session => $mate);

# What waits for old snapshots waits for those in its database.
value('CREATE DATABASE other');
value('CREATE EXTENSION supervisor', dbname => 'other');
$lock->query_safe('BEGIN; SELECT count(*) FROM t; INSERT INTO t VALUES (0)');
my $boss = SupervisorTest::session($node);
$task = launch($boss, 'CREATE INDEX CONCURRENTLY ON t (a)');
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}, 'an index waits');
refused("SELECT supervisor.wait($task, '1 min')", '0A000', 'nobody waits here for what would wait for him', user => 'postgres');
my $far = SupervisorTest::session($node, dbname => 'other');
my $far_pid = $far->pid;
$far->begin("SELECT supervisor.wait($task)");
waits($far_pid);
$lock->query_safe('COMMIT');
is(join('', $far->finish), 'succeeded', 'in another database one may');
$far->quit;
$boss->quit;

note 'waiters that go or stand still';

# What is left of 16 entries, for a superuser.
sub entries
{
	return value(q{
		DO $$ DECLARE n int := 0; BEGIN
			LOOP
				BEGIN PERFORM supervisor.launch('SELECT pg_sleep(3600)');
				EXCEPTION WHEN configuration_limit_exceeded THEN EXIT; END;
				n := n + 1;
			END LOOP;
			PERFORM set_config('my.n', n::text, false);
		END $$;
		SELECT current_setting('my.n')});
}

sub left
{
	becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'no task is left');
}

$lock->query_safe('SELECT pg_advisory_lock(1)');
$task = launch($alice, $blocked);
$alice->query_safe("SELECT supervisor.forget($task)");
foreach my $i (0 .. 2)
{
	$waiters[$i]->begin("SELECT supervisor.wait($task)");
	waits($pids[$i]);
}
is(value("SELECT pg_cancel_backend($pids[0])"), 't', 'one is canceled');
like(($waiters[0]->finish)[1], qr/57014/, 'and ends its wait');
is(value("SELECT pg_terminate_backend($pids[1], 60000)"), 't', 'another is terminated');
kill 'STOP', $pids[2] or die "could not stop $pids[2]: $!";
is(value("SELECT state FROM supervisor.task_status WHERE task = $task"), 'running', 'the task runs on');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
becomes("SELECT state = 'succeeded' FROM supervisor.task_status WHERE task = $task", 'it has ended, and one that waits stands still');
is(entries(), '15', 'others have all entries but that one');
left();
is(value("SELECT state FROM supervisor.task_status WHERE task = $task"), 'succeeded', 'which is the task still');
kill 'CONT', $pids[2] or die "could not continue $pids[2]: $!";
is(join('', $waiters[2]->finish), 'succeeded', 'who stood still is told how it ended');
is(entries(), '16', 'and then that entry can be had, too');
left();
is(value("SELECT count(*) FROM supervisor.task_status WHERE task = $task"), '0', 'for which the task has made room');
$_->quit foreach @waiters[ 0, 2, 3 ];

note 'what it costs';

# Of a role that may have half: what has ended does not count.
$lock->query_safe('SELECT pg_advisory_lock(1)');
foreach my $round (1 .. 5)
{
	is($alice->query_safe(q{SELECT count(supervisor.launch('SELECT 1')) FROM generate_series(1, 8)}), '8', "round $round: all of its half");
	$alice->query_safe('SELECT supervisor.wait(task), supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()');
	is(value('SELECT count(*) FROM supervisor.task_status'), '16', "round $round: all entries are in use");
}
is($alice->query_safe(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[100])) WHERE tag = 'SELECT 1'}), '100',
	'a batch finds room');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'bob'), 'SELECT 1', 'so does another role');
is(entries(), '16', 'a superuser can have all of them');
left();

# Oldest first, in the order in which they ended or were given up.
my @ids = map { launch($alice, "SELECT $_") } 1 .. 8;
$alice->query_safe("SELECT supervisor.wait($_)") foreach @ids;
$alice->query_safe("SELECT supervisor.forget($_)") foreach @ids;
my $more = SupervisorTest::session($node, user => 'bob');
my @held = map { launch($more, $blocked) } 1 .. 8;
is(value('SELECT array_agg(task ORDER BY task) FROM supervisor.task_status WHERE owner_pid IS NULL'), '{' . join(',', @ids) . '}', 'while there is room, they stay');
launch($alice, $blocked) foreach 1 .. 3;
is(value('SELECT array_agg(task ORDER BY task) FROM supervisor.task_status WHERE owner_pid IS NULL'), '{' . join(',', @ids[ 3 .. 7 ]) . '}', 'the oldest go first');
refused("SELECT supervisor.wait($ids[0])", '55000', 'a task whose entry was needed is gone', session => $mate,
	message => qr/task $ids[0] is gone.*DETAIL: .*needed/s);
refused("SELECT * FROM supervisor.result($ids[0]) AS (a int)", '55000', 'for its own session as well', session => $alice);
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->quit foreach $more, $alice;
left();

# Commands and rows that do not fit into an entry.
$alice = SupervisorTest::session($node, user => 'alice');
foreach my $i (1 .. 30)
{
	$task = $alice->query_safe(q{SELECT supervisor.launch('SELECT 1 /* ' || repeat('x', 100000) || ' */, repeat(''x'', 100000)')});
	$alice->query_safe("SELECT supervisor.wait($task), supervisor.forget($task)");
}
is(value(q{SELECT count(*) > 10 AND bool_and(state = 'succeeded') FROM supervisor.task_status WHERE length(command) > 900}), 't',
	'what has ended holds no memory but its entry');

note 'for how long';

SupervisorTest::set($node, 'supervisor.result_retention' => '0');
cmp_ok(value('SELECT count(*) FROM supervisor.task_status'), '>', 10, 'without a limit it stays');
SupervisorTest::set($node, 'supervisor.result_retention' => '1ms');
becomes('SELECT count(*) = 0 FROM supervisor.task_status', 'it goes when result_retention is over');
refused("SELECT supervisor.wait($task)", '55000', 'for wait as well', session => $mate, message => qr/task $task is gone.*DETAIL: .*expired/s);
$task = launch($alice, 'SELECT 1');
$alice->query('SELECT supervisor.forget(' . $task . ')');
becomes("SELECT count(*) = 0 FROM supervisor.task_status WHERE task = $task", 'so does what ends later');
is(entries(), '16', 'and all entries are there');
SupervisorTest::set($node, 'supervisor.result_retention' => '1h');
$_->quit foreach $lock, $alice, $mate;
SupervisorTest::log_is_clean($node);
$node->stop;

done_testing();
