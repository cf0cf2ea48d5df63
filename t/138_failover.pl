# A standby is promoted while sessions run tasks on it: none is lost, and its
# declared workers change as they must.  Jobs that it has got run there, exactly
# once.  The former primary comes back as a standby, and is promoted in its turn.

use strict;
use warnings;

use File::Copy;
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value workers_become);

my $library = SupervisorTest::build_library('connecting_worker');

my $node;

SupervisorTest::ask(\$node);

# The processes of workers.
sub processes
{
	my ($which) = @_;

	return value(qq{
		SELECT string_agg(format('%s %s %s', slot, generation, pid), ', ' ORDER BY slot)
		FROM supervisor.worker_status WHERE $which});
}

# Starts sessions that run tasks on a standby of $primary, until well after its promotion.
my @ways = qw(run execute_all launch);

sub begin_load
{
	my ($primary) = @_;
	my @load;
	my $succeeded = q{SELECT tasks_succeeded FROM supervisor.pool_status WHERE pool = 'default'};
	my $before = value($succeeded);

	# else it may clean up what they see, and they are canceled
	ok($primary->poll_query_until('postgres', 'SELECT count(backend_xmin) = 1 FROM pg_stat_replication'),
		'the primary knows of the standby\'s sessions');
	foreach my $way (@ways)
	{
		my $session = SupervisorTest::session($node, user => 'app');

		$session->begin("SELECT $_") foreach "load_by_$way()";
		push @load, $session;
	}
	becomes("SELECT ($succeeded) > $before + 100", 'tasks are run on the standby');
	return @load;
}

sub end_load
{
	my (@load) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $way (@ways)
	{
		my $session = shift @load;
		my ($stdout, $stderr) = $session->finish;

		is($stdout . $stderr, 't', "no task was lost by promotion ($way)");
		$session->quit;
	}
	is( value(q{SELECT string_agg(way, ' ' ORDER BY way) FROM done WHERE port = current_setting('port')}),
		join(' ', sort @ways),
		'and the workers write now');
	becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'no task is left');
}

# Makes a former primary a standby of another node.
sub return_as_standby
{
	my ($node, $primary) = @_;
	my $conf = $node->data_dir . '/postgresql.conf';
	my $kept = "$PostgreSQL::Test::Utils::tmp_check/" . $node->name . '.conf';

	copy($conf, $kept) or die "could not copy $conf: $!";
	command_ok([ 'pg_rewind', '--no-sync', '--target-pgdata' => $node->data_dir, '--source-server' => $primary->connstr('postgres') ],
		'pg_rewind ' . $node->name);
	copy($kept, $conf) or die "could not copy $kept: $!";
	$node->enable_streaming($primary);
	$node->start;
}

my $alpha = PostgreSQL::Test::Cluster->new('alpha');
$alpha->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C', '--data-checksums' ]);
$alpha->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 30,
	# the sessions that run tasks on a standby are in nobody's way there
	'autovacuum' => 'off',
	'hot_standby_feedback' => 'on',
	'wal_receiver_status_interval' => '1s',
	'wal_keep_size' => '1GB',
	'supervisor.pool_size' => 3));
$alpha->start;
$node = $alpha;
value(q{
	CREATE EXTENSION supervisor;
	CREATE ROLE app LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO app;
	CREATE TABLE done (way text, port text);
	CREATE TABLE runs (worker text, port text);
	GRANT ALL ON done, runs TO app;

	-- Each asks until it is told that recovery has ended, goes on for a while, and writes.
	CREATE FUNCTION load_by_run() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		before int := 0;
		recovers boolean;
	BEGIN
		LOOP
			SELECT r INTO STRICT recovers FROM supervisor.run('SELECT pg_is_in_recovery()') AS (r boolean);
			EXIT WHEN NOT recovers;
			before := before + 1;
		END LOOP;
		FOR i IN 1..200 LOOP
			PERFORM supervisor.execute('SELECT 1');
		END LOOP;
		PERFORM supervisor.execute($c$INSERT INTO done VALUES ('run', current_setting('port'))$c$);
		RETURN before > 0;
	END $$;

	CREATE FUNCTION load_by_execute_all() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		rounds int := 0;
		after int := 0;
	BEGIN
		WHILE after < 10 LOOP
			IF NOT pg_is_in_recovery() THEN
				after := after + 1;
			END IF;
			IF EXISTS (SELECT FROM supervisor.execute_all(array_fill('SELECT pg_is_in_recovery()'::text, ARRAY[30]))
					WHERE tag IS DISTINCT FROM 'SELECT 1') THEN
				RETURN false;
			END IF;
			rounds := rounds + 1;
		END LOOP;
		PERFORM supervisor.execute($c$INSERT INTO done VALUES ('execute_all', current_setting('port'))$c$);
		RETURN rounds > after;
	END $$;

	CREATE FUNCTION load_by_launch() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		rounds int := 0;
		after int := 0;
		tasks bigint[];
		t bigint;
		n int;
	BEGIN
		WHILE after < 10 LOOP
			IF NOT pg_is_in_recovery() THEN
				after := after + 1;
			END IF;
			tasks := ARRAY(SELECT supervisor.launch('SELECT $1::int', ARRAY[i::text]) FROM generate_series(1, 10) i);
			FOR i IN 1..10 LOOP
				SELECT r INTO STRICT n FROM supervisor.result(tasks[i]) AS (r int);
				IF n <> i THEN
					RETURN false;
				END IF;
			END LOOP;
			rounds := rounds + 1;
		END LOOP;
		PERFORM supervisor.execute($c$INSERT INTO done VALUES ('launch', current_setting('port'))$c$);
		RETURN rounds > after;
	END $$});
value(qq{
	SELECT supervisor.add_worker('library', library => '$library', function => 'connecting_worker',
		argument => oid::int, start_after => 'consistent_state') FROM pg_database WHERE datname = 'postgres';
	SELECT supervisor.add_worker('late library', library => '$library', function => 'connecting_worker',
		argument => oid::int) FROM pg_database WHERE datname = 'postgres';
	SELECT supervisor.add_worker('off', 'SELECT 1', enabled => false);
	SELECT supervisor.add_worker('once', 'INSERT INTO runs VALUES (''once'', current_setting(''port''))', role => 'app');
	SELECT supervisor.add_worker('reads', 'SELECT count(*) FROM runs', role => 'app', run_every => '10 ms',
		start_after => 'consistent_state');
	SELECT supervisor.add_worker('writes', 'INSERT INTO runs VALUES (''writes'', current_setting(''port''))', role => 'app',
		run_every => '10 ms')});

# Jobs; what each has done is beside who did it.
value(q{
	CREATE TABLE wanted (job bigint);
	CREATE TABLE did (job bigint DEFAULT supervisor.current_job(), port text DEFAULT current_setting('port'));
	CREATE TABLE ticks (port text DEFAULT current_setting('port'));
	CREATE FUNCTION want(n int DEFAULT 1) RETURNS SETOF bigint LANGUAGE sql AS $$
		INSERT INTO wanted SELECT supervisor.enqueue('INSERT INTO did DEFAULT VALUES') FROM generate_series(1, n) RETURNING job $$;
	GRANT ALL ON wanted, did, ticks TO app;
	SELECT supervisor.schedule('tick', '1 s', 'INSERT INTO ticks DEFAULT VALUES', role => 'app');
	SELECT supervisor.schedule('yearly', '@yearly', 'INSERT INTO ticks VALUES (NULL)');
	SELECT supervisor.enqueue('SELECT 1/0', max_attempts => 1);
	SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity')});

# Starts a client that enqueues jobs, one after another; returns what waits for its end,
# or that of its server, and returns the jobs that it was told of.
sub client
{
	my ($server) = @_;
	my ($stdout, $stderr) = ('', '');
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $server->connstr('postgres'), '-U', 'app', map { ('-c', 'SELECT want()') } 1 .. 3000 ],
		'<', '/dev/null', '>', \$stdout, '2>', \$stderr, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	return sub { $psql->finish; return $stdout; };
}

# What was enqueued here is done once, here or before, and all else stays as it was.
sub jobs_go_on
{
	my ($where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w' AND name IS NULL AND run_at < 'infinity'}, "$where: all jobs end");
	is(value('SELECT count(*) FROM (SELECT job FROM did GROUP BY job HAVING count(*) > 1) t'), '0', 'none was run twice');
	is(value('SELECT count(*) FROM wanted FULL JOIN did USING (job) WHERE wanted.job IS NULL OR did.job IS NULL'), '0', 'none was lost, and no other ran');
	is(value(q{SELECT count(*) FROM wanted WHERE 1 <> (SELECT count(*) FROM supervisor.job_history h WHERE h.job = wanted.job AND state = 'succeeded')}),
		'0', 'and of each the history has one run');
	becomes(q{SELECT count(*) > 0 FROM ticks WHERE port = current_setting('port')}, 'a recurring one goes on');
	is(value(q{SELECT count(*) FROM ticks WHERE port IS NULL}), '0', 'one that is not due does not run');
	is(value(q{SELECT string_agg(concat_ws(' ', state, run_at, attempts), ', ' ORDER BY id) FROM supervisor.job WHERE run_at = 'infinity'}),
		'f infinity 1, w infinity 0', 'what has failed, and what is held, stays so');
}

my $all = 'late library running, library running, off stopped disabled, once stopped exited, reads running, writes running';
my $recovers = 'late library waiting recovery, library running, off stopped disabled, once waiting recovery, reads running, '
  . 'writes waiting recovery';

workers_become('postgres', $all, 'a primary runs all');

$alpha->backup('backup');
my $beta = PostgreSQL::Test::Cluster->new('beta');
$beta->init_from_backup($alpha, 'backup', has_streaming => 1);
$beta->start;
$node = $beta;
workers_become('postgres', $recovers, 'its standby those that may run there');

note 'promotion under load';

SupervisorTest::wait_ready($beta, 'default', 3);
becomes(q{SELECT count(*) = 0 FROM supervisor.health() WHERE what !~ 'job'}, 'all is well there, but for a job that has failed');
my @load = begin_load($alpha);
my $pool = processes(q{kind = 'pool'});
my $kept = processes(q{name IN ('library', 'reads')});
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});

# some have run, some have not; those of before are the standby's, if it has got them
value('SELECT want() FROM generate_series(1, 100)', node => $alpha, user => 'app');
$alpha->poll_query_until('postgres', 'SELECT count(*) = 100 FROM did') or die 'timed out waiting until jobs run';
SupervisorTest::set($alpha, 'supervisor.run_jobs' => 'off');
value('SELECT want(100)', node => $alpha, user => 'app');
my $client = client($alpha);
becomes('SELECT count(*) > 300 FROM wanted', 'jobs are replicated');
is(value(q{SELECT count(*) FROM ticks WHERE port = current_setting('port')}), '0', 'none runs on a standby');
$beta->promote;
end_load(@load);
jobs_go_on('promoted asynchronously');
cmp_ok(value(q{SELECT count(*) FROM did WHERE port = current_setting('port')}), '>=', 100, 'they ran there');
$client->();
workers_become('postgres', $all, 'those that had to wait start');
is(processes(q{name IN ('library', 'reads')}), $kept, 'those that ran are the same processes');
is(processes(q{kind = 'pool'}), $pool, 'so is the pool');
is(value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'}), $supervisor, 'and the supervisor');
is(value(q{SELECT count(*) FROM runs WHERE worker = 'once' AND port = current_setting('port')}), '1',
	'what runs once per start has run once');
becomes(q{SELECT count(*) > 5 FROM runs WHERE worker = 'writes' AND port = current_setting('port')},
	'what writes does so again and again');
is(value(q{SELECT count(*) FROM supervisor.event WHERE event IN ('failed', 'backoff')}), '0', 'nothing has failed');

note 'the former primary comes back';

# It has gone its own way, and then it crashes.
$node = $alpha;
value(q{
	SELECT supervisor.add_worker('ghost', 'INSERT INTO runs VALUES (''ghost'')', run_every => '10 ms');
	SELECT supervisor.remove_worker('off')});
workers_become('postgres', $all =~ s/late library/ghost running, late library/r =~ s/off stopped disabled, //r, 'two primaries');
$alpha->stop('immediate');
value(q{
	SELECT supervisor.add_worker('there', 'SELECT 1', run_every => '1 h', start_after => 'consistent_state');
	CHECKPOINT}, node => $beta);
return_as_standby($alpha, $beta);
workers_become('postgres', "$recovers" =~ s/reads running/reads running, there running/r,
	'it keeps the workers of the new primary as a standby does');
$beta->wait_for_catchup($alpha, 'replay', $beta->lsn('insert'));
is( value(q{SELECT count(*) FILTER (WHERE worker = 'ghost'), count(*) FILTER (WHERE worker = 'once') FROM runs}),
	'0|2', 'nothing that it had done by itself is left, and nothing is done twice');
is( value(q{SELECT * FROM supervisor.run('SELECT pg_is_in_recovery()') AS (r boolean)}), 't', 'tasks read there');

note 'and is promoted under load in its turn';

SupervisorTest::wait_ready($alpha, 'default', 3);
@load = begin_load($beta);
$kept = processes(q{name IN ('library', 'reads', 'there')});

# what a synchronous standby was waited for is not lost
SupervisorTest::set($beta, 'synchronous_standby_names' => '*');
$beta->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'})
  or die 'timed out waiting until the standby is synchronous';
my $before = value('SELECT count(*) FROM wanted');
$client = client($beta);
becomes("SELECT count(*) > $before + 100 FROM wanted", 'jobs are replicated');
$beta->stop('immediate');
my @told = split /\n/, $client->();
$alpha->promote;
end_load(@load);
jobs_go_on('promoted synchronously');
cmp_ok(scalar @told, '>', 50, 'the client was told of jobs');
is(value(sprintf 'SELECT count(*) FROM unnest(ARRAY[%s]) j WHERE NOT EXISTS (SELECT FROM did WHERE job = j)', join(',', @told)), '0',
	'and each that it was told of is there');
workers_become('postgres', $all =~ s/reads running/reads running, there running/r, 'all run there again');
is(processes(q{name IN ('library', 'reads', 'there')}), $kept, 'those that ran are the same processes');
is(value(q{SELECT count(*) FROM runs WHERE worker = 'once'}), '3', 'what runs once per start has run once more');
is(value(q{SELECT count(*) FROM supervisor.event WHERE event IN ('failed', 'backoff')}), '0', 'nothing has failed');

note 'a crash, where somebody else restarts the server';

my $postmaster = $alpha->{_pid};
is(value('SHOW restart_after_crash'), 'off', 'the server does not restart itself');
kill 'KILL', value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'library'});
is(SupervisorTest::survivors($postmaster), '', 'a worker that crashes ends it');
$alpha->_update_pid(0);
$alpha->start;
workers_become('postgres', $all =~ s/reads running/reads running, there running/r, 'started again, all run at once, C functions as well');
$alpha->stop;

done_testing();
