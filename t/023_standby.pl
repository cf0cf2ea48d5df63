# A hot standby: its pool serves tasks that read, and outlives promotion.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused value);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 20,
	'supervisor.pool_size' => 3));
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION supervisor;
	CREATE ROLE alice LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice;
	CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
	GRANT ALL ON t TO alice});
$primary->safe_psql('postgres', 'CREATE DATABASE other');
$primary->safe_psql('other', 'CREATE EXTENSION supervisor');
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', SupervisorTest::conf(
	'max_standby_streaming_delay' => '50ms',
	'hot_standby_feedback' => 'off'));
$standby->start;

sub caught_up
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
}

SupervisorTest::ask(\$standby);

note 'tasks on a standby';

caught_up();
becomes(q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'a standby has its pool');
SupervisorTest::leaks($standby);
is( value(q{SELECT * FROM supervisor.run('SELECT count(*), pg_is_in_recovery() FROM t') AS (n bigint, recovery bool)}),
	'1000|t', 'a task reads there');
is( value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT * FROM t'::text, ARRAY[50]))}),
	'50', 'so do many');
is( value(q{SELECT supervisor.wait(t), (SELECT n FROM supervisor.result(t) AS (n int)) FROM supervisor.launch('SELECT 7') t}),
	'succeeded|7', 'a launched one is read');
foreach my $command ('CREATE TABLE new ()', 'DROP TABLE t', 'INSERT INTO t VALUES (1)', 'VACUUM t', 'CREATE DATABASE new',
	'ALTER ROLE alice SUPERUSER', 'CREATE TEMP TABLE new ()', 'SELECT nextval(\'s\')', 'SELECT pg_current_xact_id()')
{
	my $quoted = $command =~ s/'/''/gr;
	my ($direct) = SupervisorTest::error_of($standby, $command);

	refused("SELECT supervisor.execute('$quoted')", $direct, "$command fails as it would in the session itself ($direct)");
}
refused(q{SELECT supervisor.execute('CREATE TABLE new ()')}, '25006', 'DDL fails, since the transaction is read-only');
refused(q{SELECT supervisor.execute('BEGIN READ WRITE; INSERT INTO t VALUES (1); COMMIT')}, '0A000', 'and can be made nothing else');
refused(q{CALL supervisor.perform('CREATE INDEX CONCURRENTLY ON t (i)')}, '25006', 'also of perform');
is( value(q{SELECT string_agg(coalesce(tag, sqlstate), ' ' ORDER BY ordinality)
		FROM supervisor.execute_all(ARRAY['SELECT 1', 'CREATE TABLE new ()', 'SELECT 2'])}),
	'SELECT 1 25006 SELECT 1', 'one that fails stops no other');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and the pool works on');
is(value(q{SELECT supervisor.restart_worker(0, '1 min')}), 't', 'a worker is restarted there');
is(value(q{SELECT supervisor.restart_pool('default', '1 min')}), 't', 'and a pool');
SupervisorTest::set($standby, 'supervisor.pool_size' => 5);
becomes(q{SELECT running = 5 FROM supervisor.pool_status WHERE pool = 'default'}, 'a pool grows there');
SupervisorTest::set($standby, 'supervisor.pool_size' => 3);
becomes(q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'and shrinks');
my $supervisor_query = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};
my $supervisor = value($supervisor_query);
value("SELECT pg_terminate_backend($supervisor)");
becomes("SELECT count(*) = 1 AND bool_and(pid <> $supervisor) FROM ($supervisor_query) s", 'a new supervisor comes there, too');
is(SupervisorTest::leaks($standby), '', 'nothing is lost by any of these');

note 'what the primary changes';

my $alice = SupervisorTest::session($standby, user => 'alice');
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW work_mem') AS (v text)}), '4MB', 'a worker is bound to a role');
$primary->safe_psql('postgres', q{ALTER ROLE alice SET work_mem = '3MB'});
caught_up();
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW work_mem') AS (v text)}), '3MB',
	'a setting of the role that the primary changed holds for the next task');
$primary->safe_psql('postgres', q{ALTER DATABASE postgres SET maintenance_work_mem = '5MB'});
caught_up();
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW maintenance_work_mem') AS (v text)}), '5MB',
	'also of the database');
SupervisorTest::set($standby, 'supervisor.pools' => 'theirs:1(staff)');
becomes(q{SELECT running = 1 AND members = '{staff}' FROM supervisor.pool_status WHERE pool = 'theirs'}, 'a pool belongs to a role that does not exist');
my $theirs = q{SELECT supervisor.execute('SELECT 1', pool => 'theirs')};
refused($theirs, '42501', 'so nobody is let in', session => $alice);
$primary->safe_psql('postgres', q{CREATE ROLE staff; GRANT staff TO alice});
caught_up();
is($alice->query_safe($theirs), 'SELECT 1', 'a role and its members count once they are replayed');
$primary->safe_psql('postgres', q{REVOKE staff FROM alice});
caught_up();
refused($theirs, '42501', 'and a revoke does', session => $alice);
SupervisorTest::set($standby, 'supervisor.pools' => '');
becomes(q{SELECT count(*) = 1 FROM supervisor.pool_status}, 'the pool goes');
$primary->safe_psql('postgres', 'REVOKE SELECT ON t FROM alice');
caught_up();
($alice->error_of(q{SELECT supervisor.execute('SELECT * FROM t')}))[0] eq '42501'
  ? pass('a right that the primary revoked is gone for the next task')
  : fail('a right that the primary revoked is gone for the next task');
$primary->safe_psql('postgres', 'ALTER ROLE alice NOLOGIN');
caught_up();
is(($alice->error_of(q{SELECT supervisor.execute('SELECT 1')}))[0], '28000', 'a role that lost LOGIN there runs no task');
$primary->safe_psql('postgres', 'ALTER ROLE alice LOGIN SUPERUSER');
caught_up();
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW is_superuser') AS (v text)}), 'on', 'a role that became superuser is one');
$primary->safe_psql('postgres', 'ALTER ROLE alice NOSUPERUSER');
caught_up();
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW is_superuser') AS (v text)}), 'off', 'and one that is none any more is none');
$alice->quit;

note 'conflicts with recovery';

my $session = SupervisorTest::session($standby);
my $busy = q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'supervisor pool worker' AND state = 'active' AND query LIKE 'SELECT count%'};
$session->begin(q{SELECT supervisor.execute('SELECT count(*), pg_sleep(3600) FROM t')});
becomes($busy, 'a task has a snapshot');
$primary->safe_psql('postgres', 'DELETE FROM t WHERE i <= 500');
$primary->safe_psql('postgres', 'VACUUM (TRUNCATE off) t');
my ($stdout, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '40001', 'a task in the way of replay is canceled as a session would be');
caught_up();
$session->begin(q{SELECT supervisor.execute('SELECT count(*), pg_sleep(3600) FROM t')});
becomes($busy, 'a task has a lock');
$primary->safe_psql('postgres', 'ALTER TABLE t ADD COLUMN j int');
($stdout, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '40001', 'also because of a lock');
is(value(q{SELECT supervisor.execute('SELECT * FROM t')}), 'SELECT 500', 'and the pool works on');

my $failures = value(q{SELECT sum(consecutive_failures) FROM supervisor.worker_status});
is($standby->safe_psql('other', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a worker is bound to another database');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE datname = 'other' AND activity = 'idle'}, 'and idle');
$primary->safe_psql('postgres', 'DROP DATABASE other');
caught_up();
pass('DROP DATABASE is replayed');
becomes(q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool has all its workers after it');
is(value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[20]))}), '20', 'and works on');

$primary->safe_psql('postgres', 'CREATE DATABASE other');
$primary->safe_psql('other', q{
	CREATE EXTENSION supervisor;
	SELECT supervisor.add_worker('reader', 'SELECT 1', '1 h', start_after => 'consistent_state')});
caught_up();
$standby->reload;
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'reader' AND state = 'running'}, 'a declared worker runs there');
my $other = SupervisorTest::session($standby, dbname => 'other');
my $task = $other->query_safe(q{SELECT supervisor.launch('SELECT count(*), pg_sleep(3600)')});
$other->query_safe("SELECT supervisor.forget($task)");
becomes($busy, 'a worker is busy in another database');
$other->quit;
$primary->safe_psql('postgres', 'DROP DATABASE other');
caught_up();
pass('DROP DATABASE is replayed also then');
becomes(q{SELECT running = 3 AND busy = 0 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool has all its workers after it');
is(value('SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '0', 'and the task is gone');
becomes(q{SELECT reason = 'no_database' FROM supervisor.worker_status WHERE name = 'reader'}, 'the declared worker has lost its database');
$standby->reload;
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'reader'}, 'and is forgotten when the standby looks again');
is(SupervisorTest::leaks($standby), '', 'nothing is lost by conflicts');

note 'a restart of the standby';

foreach my $mode (qw(fast immediate))
{
	$standby->stop($mode);
	$standby->start;
	becomes(q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}, "the pool is back after a restart ($mode)");
	is( value(q{SELECT * FROM supervisor.run('SELECT count(*), pg_is_in_recovery() FROM t') AS (n bigint, recovery bool)}),
		'500|t', "and reads ($mode)");
}
$session->quit;

note 'transactions are serializable by default';

{
	# psql's sessions can't look otherwise
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=repeatable\\ read';

	$standby->append_conf('postgresql.conf', 'default_transaction_isolation = serializable');
	$standby->restart;
	becomes(q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool is there then, too');
	$supervisor = value($supervisor_query);
	SupervisorTest::set($standby, 'supervisor.pool_size' => 4);
	becomes(q{SELECT running = 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'and follows the settings');
	is(value(q{SET default_transaction_isolation = 'repeatable read'; SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'it works');
	is(value($supervisor_query), $supervisor, 'and the supervisor lives');
	$standby->safe_psql('postgres', 'ALTER SYSTEM RESET supervisor.pool_size');
	$standby->append_conf('postgresql.conf', "default_transaction_isolation = 'read committed'");
	$standby->restart;
}

note 'promotion under load';

$session = SupervisorTest::session($standby);
my $lock = SupervisorTest::session($standby);
my $load = SupervisorTest::session($standby);
$lock->query_safe('SELECT pg_advisory_lock(1)');
$task = $session->query_safe(q{SELECT supervisor.launch('SELECT count(*) FROM t, pg_advisory_lock(1)')});
becomes($busy, 'a task runs');
$load->begin(q{SELECT count(tag), count(sqlstate) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01) FROM pg_is_in_recovery()'::text, ARRAY[600]))});
becomes(q{SELECT busy = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'all workers are busy');
my $workers = value(q{SELECT slot, generation, pid FROM supervisor.worker_status WHERE kind = 'pool' ORDER BY slot});
$supervisor = value($supervisor_query);
$standby->promote;
becomes('SELECT NOT pg_is_in_recovery()', 'the standby is promoted');
$lock->quit;
($stdout, $stderr) = $load->finish;
is($stdout . $stderr, '600|0', 'no task fails by promotion');
is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'one that began before it ends after it');
is(value(q{SELECT slot, generation, pid FROM supervisor.worker_status WHERE kind = 'pool' ORDER BY slot}), $workers, 'no worker is replaced for it');
is(value($supervisor_query), $supervisor, 'nor is the supervisor');
is( value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('INSERT INTO t SELECT 1 FROM pg_sleep(0.01)'::text, ARRAY[60]))}),
	'60', 'every worker writes now');
is(value(q{SELECT supervisor.execute('CREATE TABLE new AS SELECT 1')}), 'SELECT 1', 'and does DDL');
is(value(q{SELECT slot, generation, pid FROM supervisor.worker_status WHERE kind = 'pool' ORDER BY slot}), $workers, 'the same workers');
value(q{CALL supervisor.perform('CREATE INDEX CONCURRENTLY ON t (i)')});
pass('perform can do its work');
$_->quit for $session, $load;
$standby->stop;

note 'a standby that lets nobody in';

my $cold = PostgreSQL::Test::Cluster->new('cold');
$cold->init_from_backup($primary, 'backup', has_streaming => 1);
$cold->append_conf('postgresql.conf', 'hot_standby = off');
$cold->start;
# by name: given the node, 19 would ask there
$primary->wait_for_catchup('cold', 'replay', $primary->lsn('insert'));
$cold->promote;
ok($cold->poll_query_until('postgres', q{SELECT running = 3 FROM supervisor.pool_status WHERE pool = 'default'}),
	'its pool comes with promotion');
is($cold->safe_psql('postgres', q{SELECT supervisor.execute('INSERT INTO t VALUES (1)')}), 'INSERT 0 1', 'and writes');
$cold->stop;
$primary->stop;

done_testing();
