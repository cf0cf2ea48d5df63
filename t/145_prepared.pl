# A prepared transaction that has renamed a database keeps it locked, and whoever
# logs in there hangs.  None of ours does: tasks and workers of the database wait
# until it is finished, and the others go on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value);

my $node = SupervisorTest::new_node(
	'prepared',
	'autovacuum' => 'off',
	'max_prepared_transactions' => 5,
	'max_worker_processes' => 20,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::wait_ready($node, 'one', 1);
$node->safe_psql('template1', 'CREATE EXTENSION supervisor; CREATE TABLE done (what text)');
value('CREATE DATABASE a');
value('CREATE DATABASE c');
value("SELECT supervisor.add_worker('service', 'SELECT 1', run_every => '0.1 s')", dbname => 'a');
value("SELECT supervisor.add_worker('other', 'SELECT 1', run_every => '0.1 s')", dbname => 'c');

sub state_of
{
	my ($name) = @_;

	return value("SELECT concat_ws(' ', state, reason) FROM supervisor.worker_status WHERE name = '$name'");
}

sub runs
{
	my ($name) = @_;

	return "SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = '$name' AND state = 'running'";
}

# Processes that hang in a login: they wait for a lock on a database.
sub hanging
{
	return value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND NOT granted});
}

# All that could hang has had its chance: others are served, the loader has been sent, and a worker replaced.
sub others_go_on
{
	my ($when) = @_;

	is(value(q{SELECT * FROM supervisor.run('SELECT 1', pool => 'one', timeout => '1 min') AS (n int)}), '1',
		"$when: others' tasks run");
	value("SELECT supervisor.add_worker('new', 'SELECT 1', run_every => '1 h')", dbname => 'c');
	becomes(runs('new'), "$when: their workers start");
	is(value("SELECT supervisor.restart_worker('new', NULL)", dbname => 'c'), 't', "$when: and restart");
	value("SELECT supervisor.remove_worker('new')", dbname => 'c');
	until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'new'}, 'it is gone');
	is(hanging(), '0', "$when: nobody hangs in a login");
}

my %restarts = (
	'without a restart' => sub { },
	'over a restart of the supervisor' => sub {
		my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
		value("SELECT pg_terminate_backend($pid)");
		until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $pid", 'there is another');
	},
	'over a restart of the server' => sub { $node->restart },
	'over a crash' => sub { $node->stop('immediate'); $node->start });

foreach my $restart (sort keys %restarts)
{
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		my $when = "$restart, $end";
		my $name = $end eq 'COMMIT' ? 'b' : 'a';

		until_true(runs('service'), 'it runs');
		value('TRUNCATE done', dbname => 'a');
		# the pool's worker is busy, so that tasks for the database are queued
		my $holder = SupervisorTest::session($node);
		$holder->query_safe('BEGIN; SELECT pg_advisory_lock(1)');
		value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_advisory_xact_lock(1)', pool => 'one'))});
		until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it is busy');
		value(q{SELECT supervisor.forget(supervisor.launch('INSERT INTO done VALUES (1)', pool => 'one'))}, dbname => 'a');
		until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'a' AND backend_type = 'client backend'}, 'nobody is there');
		value(q{BEGIN; ALTER DATABASE a RENAME TO b; PREPARE TRANSACTION 'rename'});
		$holder->query_safe('SELECT pg_advisory_unlock(1)');
		$holder->query_safe('ROLLBACK');
		$holder->quit;
		$restarts{$restart}->();
		others_go_on($when);
		is(value(q{SELECT count(*) FROM supervisor.task_status WHERE state = 'queued' AND datname IN ('a', 'b')}), '1',
			"$when: a task for the database waits")
		  if $restart !~ /server|crash/;
		isnt(state_of('service'), 'running', "$when: so does its worker");
		value("$end PREPARED 'rename'");
		becomes(runs('service'), "$when: the worker runs when it is finished");
		if ($restart !~ /server|crash/)
		{
			until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
			is(value('SELECT count(*) FROM done', dbname => $name), '1', "$when: and so has the task");
		}
		is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => $name), 'SELECT 1', "$when: tasks run there");
		value('ALTER DATABASE b RENAME TO a') if $name eq 'b';
	}
}

# What was rolled back is not locked.
until_true(runs('service'), 'it runs');
value(q{BEGIN; SAVEPOINT s; ALTER DATABASE a RENAME TO b; ROLLBACK TO s; PREPARE TRANSACTION 'nothing'});
becomes(runs('service'), 'a rename that was rolled back is no obstacle, though its transaction is prepared');
is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => 'a'), 'SELECT 1', 'nor for tasks');
value(q{COMMIT PREPARED 'nothing'});

# More databases than there are fences, all locked by one prepared transaction of a role.
value('CREATE ROLE hog LOGIN CREATEDB');
my @hogs = map { "hog$_" } 1 .. 66;
value("CREATE DATABASE $_ OWNER hog") foreach @hogs;
my $holder = SupervisorTest::session($node);
$holder->query_safe('BEGIN; SELECT pg_advisory_lock(1)');
value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_advisory_xact_lock(1)', pool => 'one'))});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it is busy');
value(q{SELECT supervisor.forget(supervisor.launch('SELECT 1', pool => 'one'))}, dbname => $_) foreach @hogs;
until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname LIKE 'hog%'}, 'nobody is there');
$node->safe_psql('postgres', join('; ', 'BEGIN', map { "ALTER DATABASE $_ RENAME TO $_$_" } @hogs) . q{; PREPARE TRANSACTION 'hogs'},
	extra_params => [ '-U', 'hog' ]);
value("SELECT supervisor.add_worker('sign', 'SELECT 1', run_every => '1 h')", dbname => 'c');
until_true(runs('sign'), 'the supervisor has had a turn');
value('CREATE DATABASE victim');
is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => 'victim'), 'SELECT 1', 'a worker is in another');
until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'victim' AND backend_type = 'client backend'}, 'nobody else is there');
value('DROP DATABASE victim');
pass('many databases: there is a fence for another');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->query_safe('ROLLBACK');
$holder->quit;
others_go_on('many databases');
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE state = 'queued'}), scalar @hogs,
	'many databases: tasks for all of them wait');
value(q{ROLLBACK PREPARED 'hogs'});
becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'many databases: the tasks run when it is finished');

# A quarter of the fences were prepared.
is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => 'hog1'), 'SELECT 1', 'what is locked no longer is no obstacle');
until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'hog1' AND backend_type = 'client backend'}, 'nobody else is there');
value('ALTER DATABASE hog1 RENAME TO free', user => 'hog');
pass('its role has its fences again');
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
