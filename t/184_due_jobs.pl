# Jobs are run when they are due, also those that nobody has told of since the server
# was started, or that were forgotten; and not where they shall not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'due_jobs',
	'max_prepared_transactions' => 5,
	'restart_after_crash' => 'on',
	'wal_level' => 'replica',
	'max_wal_senders' => 3,
	'hot_standby' => 'on',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, later:1, club:1(members)',
	'supervisor.max_workers' => 16,
	'max_worker_processes' => 24);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, at timestamptz DEFAULT clock_timestamp());
	GRANT ALL ON ran TO PUBLIC;
	CREATE ROLE members;
	CREATE ROLE alice LOGIN IN ROLE members;
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC});

sub job
{
	my ($i, $options) = @_;

	return "supervisor.enqueue('INSERT INTO ran VALUES ($i)'" . (defined $options ? ", $options" : '') . ')';
}

# They have been run, each once, and no other.
sub ran
{
	my ($expected, $property) = @_;
	my $n = () = $expected =~ /\d+/g;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT count(*) >= $n FROM ran", $property);
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY i), '') FROM ran}), $expected, "$property: each once");
	value('TRUNCATE ran');
}

# Set a setting, and have the supervisor read it.
sub setting
{
	my ($name, $value) = @_;

	value("ALTER SYSTEM SET $name = $value");
	value('SELECT pg_reload_conf()');
}

# Whoever looks has looked.
sub nothing_runs
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	value(q{SELECT supervisor.enqueue('SELECT 1', pool => 'one', priority => 9)});
	becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE command = 'SELECT 1'}, "$property: others run");
	is(value('SELECT count(*) FROM ran'), 0, $property);
}

note 'the future';

value('SELECT ' . job(1, q{run_at => clock_timestamp() + interval '1.5 s'}) . ', ' . job(2, q{run_at => clock_timestamp() + interval '0.5 s'})
	  . ', ' . job(3, q{run_at => now() + interval '1 h'}) . ', ' . job(4, q{run_at => now() + interval '0.7 s', pool => 'one'}));
becomes('SELECT count(*) = 3 FROM ran', 'what is due later is run later');
is(value('SELECT count(*) FROM ran JOIN supervisor.job_history h ON command = \'INSERT INTO ran VALUES (\' || i || \')\' WHERE at < run_at'), 0, 'but not before');
ran('1 2 4', 'in the future');
value('BEGIN; SELECT ' . job(1, q{run_at => clock_timestamp() + interval '1 s'}) . "; PREPARE TRANSACTION 'a'");
value("COMMIT PREPARED 'a'");
ran('1', 'of a prepared transaction');
value(q{UPDATE supervisor.job SET run_at = clock_timestamp() + interval '0.3 s'});
ran('3', 'one whose time a superuser has changed');

note 'the server';

value('SELECT ' . job(1, q{run_at => clock_timestamp() + interval '3 s', pool => 'later'}) . ', ' . job(2, 'priority => 0')
	  . ', ' . job(3, q{run_at => 'infinity'}) . ', supervisor.enqueue($$SELECT pg_sleep(600)$$, pool => $$one$$)');
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'}, 'one is being run');
$node->stop('immediate');
value(q{SELECT 1}) if $node->start;
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'}, 'after a crash it is run again');
ran('1 2', 'after a restart');
value(q{DELETE FROM supervisor.job; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'});

value('BEGIN; SELECT ' . job(1) . "; PREPARE TRANSACTION 'a'");
$node->restart;
value("COMMIT PREPARED 'a'");
ran('1', 'of a transaction that was prepared before');

note 'a last attempt';

# That of one that is not atomic is noted before.
foreach my $how ('immediate', 'fast')
{
	my $last = q{'SELECT pg_sleep(600)', max_attempts => 1, atomic => false};
	my $once = value("SELECT supervisor.enqueue($last)");
	my $recurs = value("SELECT supervisor.schedule('recurs', '1 s', $last)");

	becomes("SELECT count(*) = 2 FROM supervisor.job_status WHERE job IN ($once, $recurs) AND state = 'running'", 'two that are not atomic are run');
	$node->stop($how);
	my $log = -s $node->logfile;
	$node->start;
	becomes("SELECT string_agg(concat_ws(' ', name, state, reason), ', ' ORDER BY job) = 'failed max_attempts, recurs running' FROM supervisor.job_status WHERE job IN ($once, $recurs)",
		"$how: one fails, the one that recurs is run again");
	is(value("SELECT string_agg(concat_ws(' ', name, attempt, state, sqlstate), ', ' ORDER BY job) FROM supervisor.job_run WHERE job IN ($once, $recurs)"),
		'1 failed 55000, recurs 1 failed 55000', "$how: both have a run of which nothing is known");
	ok($node->wait_for_log(qr/WARNING:  job $once has failed with SQLSTATE 55000/, $log), "$how: which is told");
	value(qq{DELETE FROM supervisor.job; DELETE FROM supervisor.job_history WHERE job IN ($once, $recurs);
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'});
}

note 'supervisor.run_jobs';

setting('supervisor.run_jobs', 'off');
$node->restart;
value('SELECT ' . job(1) . ', ' . job(2, q{run_at => now() + interval '0.1 s'}));
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'off: tasks run');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'off: tasks run');
is(value('SELECT count(*) FROM ran'), 0, 'off: no job does');
setting('supervisor.run_jobs', 'on');
ran('1 2', 'on');

note 'pools';

setting('supervisor.pools', q{'one:1, later:0, club:1(members)'});
SupervisorTest::wait_true($node, q{SELECT size = 0 FROM supervisor.pool_status WHERE pool = 'later'}, 'pool');
value('SELECT ' . job(1, q{pool => 'later'}));
nothing_runs('a pool of size 0 pauses its jobs');
setting('supervisor.pools', q{'one:1, later:1, club:1(members)'});
ran('1', 'when it has workers again');
value('SELECT ' . job(1, q{pool => 'later', run_at => 'infinity'}));
setting('supervisor.pools', q{'one:1, club:1(members)'});
SupervisorTest::wait_true($node, q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'later'}, 'pool');
value(q{SELECT supervisor.alter_job(id, run_at => clock_timestamp() + interval '0.1 s') FROM supervisor.job});
nothing_runs('one that is not there either');
setting('supervisor.pools', q{'one:1, later:1, club:1(members)'});
ran('1', 'when it is there again');

my $queue = q{SELECT supervisor.launch('SELECT pg_sleep(600)', pool => 'later')};
my $session = SupervisorTest::session($node);
$session->query_safe($queue);
value('SELECT ' . job(1, q{pool => 'later'}));
setting('supervisor.pools', q{'one:1, later:0, club:1(members)'});
nothing_runs('its workers are busy');
$session->query_safe(q{SELECT supervisor.cancel(task) FROM supervisor.task_status WHERE command ~ 'sleep'});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE pool = 'later'}, 'what waits is no reason for a worker');
setting('supervisor.pools', q{'one:1, later:1, club:1(members)'});
ran('1', 'when there are workers');
$session->quit;

note 'rights';

value('BEGIN; SET ROLE alice; SELECT ' . job(1, q{run_at => clock_timestamp() + interval '0.5 s', pool => 'club'})
	  . '; RESET ROLE; REVOKE members FROM alice; COMMIT');
ok($node->wait_for_log(qr/permission denied for pool "club"/), 'who may not use the pool any more');
nothing_runs('is not served');
value('GRANT members TO alice');
value('SELECT pg_reload_conf()');
ran('1', 'when he may, and the settings are read');

my $offset = -s $node->logfile;
value('BEGIN; SET ROLE bob; SELECT ' . job(1) . '; RESET ROLE; ALTER ROLE bob NOLOGIN; COMMIT');
ok($node->wait_for_log(qr/role "bob" is not permitted to log in/, $offset), 'who may not log in');
nothing_runs('nor is he');
value('ALTER ROLE bob LOGIN');
ran('1', 'when he may');

value('BEGIN; SET ROLE bob; SELECT ' . job(1) . '; RESET ROLE; UPDATE supervisor.job SET role = 4242; COMMIT');
nothing_runs('a job of a role that is not there');
value('DELETE FROM supervisor.job');

note 'databases';

value('CREATE DATABASE other');
value(q{CREATE EXTENSION supervisor; CREATE TABLE ran (i integer); SELECT supervisor.enqueue('INSERT INTO ran VALUES (1)', run_at => now() + interval '1 h')}, dbname => 'other');

# Its loader has failed before, and so it would have a time of its own.
my $in_other = SupervisorTest::session($node, dbname => 'other');
$in_other->query_safe('BEGIN; LOCK TABLE supervisor.worker');
value(q{UPDATE supervisor.job SET run_at = now() + interval '2 h'}, dbname => 'other');
becomes(q{SELECT unread_databases = '{other}' FROM supervisor.server_status}, 'a database can\'t be read');
setting('supervisor.databases', 'postgres');
$in_other->quit;
value(q{UPDATE supervisor.job SET run_at = now()}, dbname => 'other');
nothing_runs('those of a database that is not listed');
is(value('SELECT count(*) FROM ran', dbname => 'other'), 0, 'do not run');
becomes(q{SELECT unread_databases = '{}' FROM supervisor.server_status}, 'and it is not to be read');
setting('supervisor.databases', q{'*'});
ok($node->poll_query_until('other', 'SELECT count(*) = 1 FROM ran'), 'once it is listed');
value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (2)', run_at => clock_timestamp() + interval '0.2 s')}, dbname => 'other');
ok($node->poll_query_until('other', 'SELECT count(*) = 2 FROM ran'), 'those to come run as well');

note 'what has gone, and is kept by a snapshot of somebody\'s';

my $old = SupervisorTest::session($node);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
value('SELECT ' . job(1, q{run_at => now() + interval '1 year'}));
value(q{DO $$DECLARE j bigint := (SELECT id FROM supervisor.job); BEGIN
	FOR i IN 1..1000 LOOP PERFORM supervisor.alter_job(j, run_at => now() + interval '1 year' + i * interval '1 day'); END LOOP; END$$});

# How much the loader reads, when it has nothing to find out.
my $read = q{SELECT coalesce(idx_scan, 0), coalesce(idx_tup_read, 0) FROM pg_stat_user_indexes WHERE indexrelname = 'job_place'};
my ($scans, $before, $after);
foreach my $retention ('25 h', '26 h')
{
	($scans, $before) = split /\|/, value($read);
	setting('supervisor.job_retention', "'$retention'");
	becomes("SELECT idx_scan > $scans FROM ($read) AS s (idx_scan)", 'the loader goes through the queues');
}
$after = (split /\|/, value($read))[1];
cmp_ok($after - $before, '<', 500, 'and not through what has gone');
value('DELETE FROM supervisor.job');
$old->quit;

note 'more than there is room for';

value(q{BEGIN; SELECT count(supervisor.enqueue('INSERT INTO ran VALUES (' || i || ')')) FROM generate_series(1, 2200) i; UPDATE supervisor.job SET pool = 'p' || substring(command, '[0-9]+'); COMMIT});
nothing_runs('pools that are not there');
setting('supervisor.pools', q{'p1:1, p2:1, p1100:1, p2200:1, one:1, later:1, club:1(members)'});
ran('1 2 1100 2200', 'what was forgotten is found');
value('DELETE FROM supervisor.job');

note 'who has looked in vain';

my $locks = SupervisorTest::session($node);
$offset = -s $node->logfile;
$locks->query_safe('ALTER TABLE supervisor.job DISABLE TRIGGER job_row_changed');
value('INSERT INTO supervisor.job SELECT 999, role, pool, priority, now(), key, command, params, name, schedule, time_zone, next_at, run_timeout, retry_delay,'
	  . ' max_attempts, attempts, crashes, runs, atomic, enabled, state, reason, origin, enqueued_at FROM supervisor.job');
is(value("SELECT supervisor.execute('SELECT 1')"), 'SELECT 1', 'while the table is not to be trusted');
$locks->query_safe('ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_row_changed');
value('SELECT ' . job(1));
ran('1', 'all is well again');
$locks->quit;

note 'workers that fail together';

setting('supervisor.pools', q{'club:1(members)'});
setting('supervisor.pool_size', 10);
SupervisorTest::wait_ready($node, 'default', 10);
$locks = SupervisorTest::session($node);
my $failed = 0;
# as it happens, all ten are at work when the lock is taken, or one that looks for more
for (my $try = 0; $failed < 6 && $try < 20; $try++)
{
	becomes('SELECT count(*) = 0 FROM supervisor.job', 'all are run') if $try > 0;
	value(q{TRUNCATE supervisor.job_history;
		SELECT count(supervisor.enqueue('SELECT pg_sleep(0.02)')) FROM generate_series(1, 1000)});
	becomes('SELECT count(*) > 100 FROM supervisor.job_history', 'many short jobs run');
	$before = -s $node->logfile;
	$locks->query_safe('BEGIN; LOCK TABLE supervisor.origin');
	$node->wait_for_log(qr/ERROR: .* lock timeout/, $before);
	becomes(q{SELECT busy = 0 AND queued_tasks = 0 FROM supervisor.pool_status WHERE pool = 'default'}, 'nobody waits for the lock');
	$locks->query_safe('COMMIT');
	$failed = () = slurp_file($node->logfile, $before) =~ /ERROR: .* lock timeout/g;
}
cmp_ok($failed, '>=', 6, 'workers have failed together');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'the others do not wait as if one had failed so often in a row');
$locks->quit;
setting('supervisor.pool_size', 2);
SupervisorTest::wait_ready($node, 'default', 2);

note 'promotion';

value('SELECT ' . job(1, q{run_at => 'infinity'}));
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
value(q{UPDATE supervisor.job SET run_at = clock_timestamp() + interval '0.5 s'});
becomes('SELECT count(*) = 1 FROM ran', 'the primary runs it');
value('DELETE FROM ran; SELECT ' . job(2, q{run_at => now() + interval '1 h'}));
$node->wait_for_catchup($standby);
$node->stop('immediate');
is(value('SELECT count(*) FROM supervisor.job', node => $standby), 1, 'its standby has one');
$standby->promote;
value(q{UPDATE supervisor.job SET run_at = now()}, node => $standby);
SupervisorTest::ask(\$standby);
ran('2', 'the promoted one runs it');
$standby->stop;
$node->start;
SupervisorTest::ask(\$node);
value('DELETE FROM supervisor.job');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
