# The views tell of each job where it is and why, and of each run how it has ended.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'job_views',
	'wal_level' => 'replica',
	'max_wal_senders' => 5,
	'max_prepared_transactions' => 5,
	'supervisor.pool_size' => 1,
	'supervisor.pools' => 'one:1, small:0, club:1(members), gone:1',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer);
	CREATE ROLE members;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE stats LOGIN IN ROLE pg_read_all_stats;
	GRANT ALL ON ran TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC});

sub enqueue
{
	my ($command, $options, %opts) = @_;

	return value("SELECT supervisor.enqueue(\$job\$$command\$job\$" . (defined $options ? ", $options" : '') . ')', %opts);
}

my $job = "INSERT INTO ran VALUES (1)";
my %reached;

# The job comes to be in that state for that reason, which is told in words.
sub is_in
{
	my ($id, $state, $reason, $property, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT state = '$state' AND reason IS NOT DISTINCT FROM " . (defined $reason ? "'$reason'" : 'NULL')
		  . ' AND (detail IS NULL) = (reason IS NULL) AND (pid IS NULL AND started_at IS NULL) = (state <> \'running\')'
		  . " FROM supervisor.job_status WHERE job = $id", $property)
	  or diag value("SELECT state, reason, detail, pid FROM supervisor.job_status WHERE job = $id");
	$reached{$state}++;
	$reached{$reason}++ if defined $reason;
}

sub drop
{
	value('SELECT supervisor.cancel_job(' . join('), supervisor.cancel_job(', @_) . ')');
}

note 'states';

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $wait = 'SELECT pg_advisory_xact_lock(1)';
my $runs = enqueue($wait, q{pool => 'one'});
is_in($runs, 'running', undef, 'one runs');
is(value("SELECT supervisor.current_job() IS NULL AND started_at >= enqueued_at AND pid <> pg_backend_pid() FROM supervisor.job_status WHERE job = $runs"),
	't', 'its worker and start are told');
my $next = enqueue($job, q{pool => 'one'});
is_in($next, 'queued', 'busy', 'another one waits for it');
value("UPDATE supervisor.job SET key = 'k' WHERE id IN ($runs, $next)");
is_in($next, 'queued', 'key', 'or since it has its key');
value("UPDATE supervisor.job SET key = 'other' WHERE id = $next");
is_in($next, 'queued', 'busy', 'which another one is not');
is(value(q{SELECT due_jobs, busy FROM supervisor.pool_status WHERE pool = 'one'}), '1|1', 'a pool has jobs that are due');
is(value("SELECT supervisor.alter_job($next, priority => 9, run_at => now() + interval '1 h')"), 't', 'it is put off');
is_in($next, 'scheduled', undef, 'it waits for its time');
is(value(q{SELECT due_jobs FROM supervisor.pool_status WHERE pool = 'one'}), 0, 'and is not due');
value("SELECT supervisor.alter_job($next, run_at => 'infinity')");
is_in($next, 'scheduled', 'held', 'or for somebody');
value("SELECT supervisor.alter_job($next, enabled => false)");
is_in($next, 'scheduled', 'disabled', 'or is not enabled');
drop($next);
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'what has ended is not here any more');

my $fails = enqueue('SELECT 1 / 0', q{max_attempts => 2, retry_delay => '1 h'});
is_in($fails, 'scheduled', 'retry', 'one that has failed is tried again');
is(value("SELECT attempts, max_attempts, last_state, last_sqlstate, last_error, last_finished_at >= last_started_at FROM supervisor.job_status WHERE job = $fails"),
	'1|2|failed|22012|division by zero|t', 'its error is told');
value("SELECT supervisor.retry_job($fails)");
is_in($fails, 'failed', 'max_attempts', 'but not for ever');
drop($fails);
my $hopeless = enqueue(q{DO 'BEGIN EXECUTE $$no command$$; END'});
is_in($hopeless, 'failed', 'hopeless', 'nor where that is of no use');
drop($hopeless);
my $recurs = value(q{SELECT supervisor.schedule('a', '@hourly', 'SELECT 1', pool => 'one')});
is_in($recurs, 'scheduled', undef, 'a recurring one waits');
is(value("SELECT name, schedule, time_zone, run_at > now(), usename, atomic FROM supervisor.job_status WHERE job = $recurs"),
	'a|@hourly|' . value(q{SELECT setting FROM pg_settings WHERE name = 'TimeZone'}) . '|t|postgres|t', 'its schedule is told');
value("UPDATE supervisor.job SET schedule = 'never'; SELECT supervisor.retry_job($recurs)");
is_in($recurs, 'failed', 'no_next_time', 'until it has no next time');
value(q{SELECT supervisor.unschedule('a')});
value(q{INSERT INTO supervisor.job (id, role, pool, priority, run_at, command, max_attempts, attempts, crashes, runs, atomic, enabled, state, enqueued_at)
	VALUES (1000000, 'postgres', 'default', 5, now(), 'SELECT 1', 20, 0, 0, 0, true, true, 'w', now())});
is_in(1000000, 'scheduled', 'copied', 'a copy waits');
is(value(q{SELECT due_jobs FROM supervisor.pool_status WHERE pool = 'default'}), 0, 'and is not due');
value('DELETE FROM supervisor.job');

note 'why what is due waits';

my $due = enqueue($job, q{pool => 'small'});
is_in($due, 'queued', 'paused', 'a pool of size 0');
drop($due);
SupervisorTest::set($node, 'supervisor.run_jobs' => 'off');
SupervisorTest::until_true(q{SELECT setting = 'off' FROM pg_settings WHERE name = 'supervisor.run_jobs'});
SupervisorTest::wait_true($node, 'SELECT count(*) > 0 FROM supervisor.worker_status');
value('SELECT supervisor.execute($$SELECT 1$$)');
$due = enqueue($job, q{run_at => now() + interval '0.2 s'});
is_in($due, 'queued', 'paused', 'no job is run');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'they are run again');

$due = enqueue($job, q{pool => 'gone', run_at => now() + interval '1 h'});
SupervisorTest::set($node, 'supervisor.pools' => 'one:1, small:0, club:1(members), many:5, late:1');
becomes(q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'gone'}, 'a pool goes');
value("SELECT supervisor.retry_job($due)");
is_in($due, 'queued', 'no_pool', 'no pool');
drop($due);
$due = enqueue($job, q{pool => 'late'});
is_in($due, 'queued', 'no_worker', 'one in a pool for which there are no slots');
SupervisorTest::set($node, 'supervisor.pools' => 'one:1, small:0, club:1(members), late:1');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'is run once there are');

$locks->query_safe('SELECT pg_advisory_lock(1)');
my @busy = map { enqueue($wait, undef, user => 'alice') } 1 .. 2;
$due = $busy[1];
is_in($busy[0], 'running', undef, 'one of a role runs');
value('ALTER ROLE alice NOLOGIN');
is_in($due, 'queued', 'no_login', 'its role may not log in');
value('ALTER ROLE alice LOGIN; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
is_in($due, 'queued', 'database_not_allowed', 'nor connect');
value('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
value("UPDATE supervisor.job SET pool = 'club' WHERE id = $due");
is_in($due, 'queued', 'no_member', 'nor use the pool');
value("UPDATE supervisor.job SET pool = 'default', role = 4000000000 WHERE id = $due");
is_in($due, 'queued', 'no_role', 'nor does it exist');
is(value("SELECT usename IS NULL FROM supervisor.job_status WHERE job = $due"), 't', 'then it has no name');
value("UPDATE supervisor.job SET role = 'alice' WHERE id = $due");
is_in($due, 'queued', 'busy', 'all that is repaired');
SupervisorTest::set($node, 'supervisor.databases' => 'other');
is_in($due, 'queued', 'not_listed', 'a database that is not listed');
SupervisorTest::set($node, 'supervisor.databases' => '*');
is_in($due, 'queued', 'busy', 'it is');
value('ALTER TABLE supervisor.job DISABLE TRIGGER job_row_changed');
is_in($due, 'queued', 'not_trusted', 'a table that is not believed');
value('ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_row_changed');
value("SELECT supervisor.alter_job($due, run_at => 'infinity')");
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 1 FROM supervisor.job_status', 'the other one ends');
value("SELECT supervisor.alter_job($due, run_at => now(), pool => 'small')");
is_in($due, 'queued', 'paused', 'it waits');
value(q{ALTER ROLE alice SET lock_timeout = '10ms'});
my $holder = SupervisorTest::session($node);
$holder->query_safe('BEGIN; LOCK TABLE supervisor.job IN SHARE MODE');
SupervisorTest::set($node, 'supervisor.pools' => 'one:1, small:1, club:1(members), late:1');
is_in($due, 'queued', 'backoff', 'the table is locked for long');
$holder->query_safe('ROLLBACK');
value('ALTER ROLE alice RESET lock_timeout');
SupervisorTest::set($node, 'supervisor.pools' => 'one:1, small:1, club:1(members)');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'it is tried again');
SupervisorTest::set($node, 'supervisor.pools' => 'one:1, small:0, club:1(members)');
becomes(q{SELECT running = 0 FROM supervisor.pool_status WHERE pool = 'small'}, 'the pool is of size 0 again');

note 'runs whose end is not noted';

$locks->query_safe('SELECT pg_advisory_lock(1)');
$due = enqueue($wait, q{retry_delay => '0'});
is_in($due, 'running', undef, 'one runs');
$holder->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $due FOR UPDATE");
value("SELECT pg_terminate_backend(pid) FROM supervisor.job_status WHERE job = $due");
is_in($due, 'queued', 'lost', 'its worker has ended');
$holder->query_safe('ROLLBACK');
is_in($due, 'running', undef, 'once that is noted, it runs again');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'to its end');
$holder->quit;

note 'runs';

sub run_of
{
	my ($id, $columns) = @_;

	return value("SELECT $columns FROM supervisor.job_run WHERE job = $id ORDER BY finished_at");
}
my $columns = 'name, attempt, usename, pool, state, tag, result, sqlstate, message, merged_into, command';
$due = enqueue('CREATE TABLE IF NOT EXISTS t (); SELECT i, 7 FROM generate_series(3, 5) i; SELECT; CREATE TABLE u ()', q{pool => 'one'});
becomes("SELECT count(*) = 1 FROM supervisor.job_run WHERE job = $due", 'one has run');
is(run_of($due, 'result IS NULL, tag'), 't|CREATE TABLE', 'the result is that of the last statement that has a result');
$due = enqueue('SELECT i, 7 FROM generate_series(3, 5) i; CREATE TABLE v ()', q{pool => 'one'}, user => 'postgres');
becomes("SELECT count(*) = 1 FROM supervisor.job_run WHERE job = $due", 'one has run');
is(run_of($due, $columns), '|1|postgres|one|succeeded|CREATE TABLE|3||||SELECT i, 7 FROM generate_series(3, 5) i; CREATE TABLE v ()', 'its first value is its result');
is(run_of($due, 'enqueued_at <= run_at AND run_at <= started_at AND started_at <= finished_at AND pid IS NOT NULL'), 't', 'its times are told');
foreach my $case (
	[ q{SELECT repeat('ü', 2000)}, q{result = repeat('ü', 512)}, 'a long one is cut' ],
	[ 'SELECT NULL::integer', 'result IS NULL', 'NULL is none' ],
	[ 'SELECT 1 WHERE false', 'result IS NULL', 'nor is no row' ],
	[ 'INSERT INTO ran VALUES (5), (6) RETURNING i', q{result = '5' AND tag = 'INSERT 0 2'}, 'rows that are written' ],
	[ 'SHOW work_mem', q{result = '4MB'}, 'what is shown' ],
	[ 'VACUUM ran', q{result IS NULL AND tag = 'VACUUM'}, 'not atomic', q{atomic => false} ],
	[ 'SELECT 4', q{result = '4'}, 'not atomic', q{atomic => false} ])
{
	my ($command, $expected, $property, $options) = @$case;
	$due = enqueue($command, $options);
	becomes("SELECT count(*) = 1 FROM supervisor.job_run WHERE job = $due", "$command has run");
	is(run_of($due, $expected), 't', $property);
}
is(value('SELECT count(*) FROM ran WHERE i IN (5, 6)'), 2, 'all rows are written');
$due = enqueue(q{DO 'BEGIN RAISE EXCEPTION $$no$$ USING DETAIL = $$since$$; END'}, q{max_attempts => 1});
is_in($due, 'failed', 'max_attempts', 'one has failed');
is(run_of($due, q{attempt, state, tag IS NULL, result IS NULL, sqlstate, message, detail, context}),
	'1|failed|t|t|P0001|no|since|PL/pgSQL function inline_code_block line 1 at RAISE', 'its error is told');
drop($due);
$due = enqueue($job, q{run_at => 'infinity'});
drop($due);
is(run_of($due, 'state, started_at IS NULL, pid IS NULL'), 'canceled|t|t', 'one that was canceled before');
value('SELECT supervisor.reset_stats()');
enqueue('SELECT 1', q{pool => 'one'});
$due = enqueue('SELECT 1 / 0', q{pool => 'one', max_attempts => 1});
is_in($due, 'failed', 'max_attempts', 'one has failed');
is(value(q{SELECT jobs_succeeded, jobs_failed, tasks_succeeded, tasks_failed FROM supervisor.pool_status WHERE pool = 'one'}), '1|1|0|0', 'runs are counted');
value('SELECT supervisor.reset_stats()');
is(value(q{SELECT jobs_succeeded, jobs_failed FROM supervisor.pool_status WHERE pool = 'one'}), '0|0', 'from then on');
drop($due);

note 'the index';

like(value("EXPLAIN SELECT * FROM supervisor.$_->[0] WHERE job = 17"), qr/Index Scan using $_->[1]/, "$_->[0] goes by the index")
  foreach [ 'job_status', 'job_pkey' ], [ 'job_run', 'job_history_job' ];

note 'who sees what';

$locks->query_safe('SELECT pg_advisory_lock(1)');
$due = enqueue('SELECT $1, pg_advisory_xact_lock(1)', q{params => ARRAY['secret'], key => NULL}, user => 'alice');
is_in($due, 'running', undef, 'one of hers runs');
value(q{UPDATE supervisor.job SET key = 'secret', last_error = 'secret'});
my $hidden = 'SELECT command, params, key, last_error, detail FROM supervisor.job_status WHERE job = ' . $due;
is(value($hidden, user => $_), 'SELECT $1, pg_advisory_xact_lock(1)|{secret}|secret|secret|', "$_ sees all") foreach 'alice', 'stats', 'postgres';
is(value($hidden, user => 'bob'), '<insufficient privilege>||||', 'others see no command');
is(value("SELECT usename, state, pid IS NOT NULL FROM supervisor.job_status WHERE job = $due", user => 'bob'), 'alice|running|t', 'but that it runs');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes("SELECT count(*) = 1 FROM supervisor.job_run WHERE job = $due", 'it ends');
is(run_of($due, 'result, tag'), 'secret|SELECT 1', 'with a result');
$hidden = 'SELECT command, result, tag, message, detail, context FROM supervisor.job_run WHERE job = ' . $due;
is(value($hidden, user => $_), 'SELECT $1, pg_advisory_xact_lock(1)|secret|SELECT 1|||', "$_ sees it") foreach 'alice', 'stats';
is(value($hidden, user => 'bob'), '<insufficient privilege>|||||', 'others do not');

note 'fences and standbys';

$due = enqueue($job, q{run_at => 'infinity'});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('views_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
value("SELECT supervisor.alter_job($due, run_at => now(), pool => 'small')");
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(value("SELECT state, reason, detail IS NOT NULL FROM supervisor.job_status WHERE job = $due", node => $standby), 'queued|recovery|t', 'on a standby');
is(value(q{SELECT count(*) > 0 FROM supervisor.job_run}, node => $standby), 't', 'runs are there');
$reached{recovery}++;
$standby->stop;
drop($due);
is(value('SELECT count(*) FROM supervisor.job_status'), 0, 'no job is left over');

$locks->quit;
my $source = slurp_file("$FindBin::RealBin/../supervisor--1.0.sql");
my ($view) = $source =~ /CREATE VIEW supervisor\.job_status(.*?);/s;
my @reasons = grep { $_ ne 'crashed' } $view =~ /WHEN '(\w+)' THEN '\w+ /g;
is_deeply([ grep { !$reached{$_} } @reasons ], [], 'all reasons were reached') if is(scalar(@reasons) >= 15, 1, 'there are reasons');
# crashed: in t/181_poison.pl
ok($reached{$_}, "state $_ was reached") foreach qw(scheduled queued running failed);
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
