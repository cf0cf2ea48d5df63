# A pool's worker that is replaced leaves its background worker slot to its successor, as
# the loader does, and to nobody else, such as a parallel query of anybody.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes until_true eventually stop_process continue_process);

# Of 9, one is the supervisor's, one the loader's, and 'default' has two: five are left.
my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 9,
	'max_logical_replication_workers' => 0,
	'max_parallel_workers' => 8,
	'restart_after_crash' => 'on',
	'log_min_messages' => 'warning',
	'supervisor.databases' => '',
	'supervisor.restart_delay' => '1h',
	'supervisor.restart_delay_max' => '1h');
my $parallel = 'SET ' . ($node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on';

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE one LOGIN;
	CREATE ROLE two LOGIN;
	CREATE ROLE vic LOGIN;
	GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	CREATE FUNCTION in_parallel(leader int, seconds int) RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		IF pg_backend_pid() <> leader THEN
			PERFORM pg_sleep(seconds);
		END IF;
		RETURN pg_backend_pid() <> leader;
	END $$});

# Tests that no background worker slot is free.
sub none_is_free
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value("$parallel; SELECT pg_backend_pid() AS leader \\gset\nSELECT in_parallel(:leader, 0)", user => 'vic') =~ s/.*\n//sr, 'f', $property);
	return;
}

my @sessions;

# Has parallel queries take all that are free.
sub take_all
{
	foreach (1 .. 5)
	{
		push @sessions, SupervisorTest::session($node, user => 'vic');
		$sessions[-1]->query_safe($parallel);
		$sessions[-1]->begin('SELECT in_parallel(' . $sessions[-1]->pid . ', 10000)');
	}
	until_true(q{SELECT count(*) = 5 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, 'all are taken');
	return;
}

# Has a worker end while the supervisor can't do anything, and somebody try to get its place.
sub replaced
{
	my ($property, $how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %before = map { $_ => 1 } split /\n/, value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
	my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});

	stop_process($supervisor);
	$how->(keys %before);
	eventually(sub { grep { !-e "/proc/$_" } keys %before }) or die "$property: none ends";
	none_is_free("$property: nobody gets the place");
	continue_process($supervisor);
	becomes(q{SELECT running = 2 FROM supervisor.pool_status}, "$property: the pool has all of its workers");
	cmp_ok(scalar(grep { $before{$_} } split /\n/, value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'})), '<', 2, "$property: one is new");
	return;
}

my $task = q{SELECT supervisor.execute('SELECT 1', timeout => '3 min')};

# Has a worker for each of two roles.
sub bind_all
{
	value($task, user => $_) foreach qw(one two);
	until_true(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE kind = 'pool' AND usename IS NOT NULL}, 'both are bound');
	return;
}

SupervisorTest::wait_ready($node, 'default', 2);
take_all();
none_is_free('parallel queries have the rest');
bind_all();
my $waiting;
replaced('for another role', sub {
	$waiting = SupervisorTest::session($node, user => 'vic');
	$waiting->begin($task);
});
is(($waiting->finish)[0], 'SELECT 1', 'which is served');
$waiting->quit;
bind_all();
replaced('terminated by somebody', sub { kill 'TERM', $_[0] });
bind_all();

note 'the loader, while a database\'s owner has it come';

value('CREATE ROLE owner LOGIN');
value('CREATE DATABASE owned OWNER owner');
my $pool = q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM supervisor.worker_status WHERE kind = 'pool'};
my $before = value($pool);

sub loader
{
	my ($pid) = SupervisorTest::children($node, 'supervisor loader');

	return $pid // 0;
}

# Tests that a row which is new is read.
my $added = 0;
sub reads
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	value(q{SELECT supervisor.add_worker('row } . ++$added . q{', 'SELECT 1', enabled => false)});
	becomes("SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'row $added'", $property);
	return;
}
SupervisorTest::set($node, 'supervisor.databases' => 'postgres, owned');
foreach my $round (1 .. 3)
{
	value('ALTER DATABASE owned IS_TEMPLATE ' . ($round % 2 ? 'true' : 'false'), user => 'owner');
	reads("it reads, round $round");
	none_is_free("it leaves its place to nobody, round $round");
}
my $asleep;
ok(eventually(sub { $asleep = loader() }), 'the next one waits');
kill 'TERM', $asleep;
eventually(sub { !-e "/proc/$asleep" }) or die "$asleep does not end";
none_is_free('one that is terminated while it waits leaves its place to nobody');
reads('and another one reads');
is(value($pool), $before, 'no worker of the pool has made room for that');
is(value('SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND backend_type = \'supervisor loader\''), '0', 'one that waits is in no database');

# A new supervisor: the postmaster would not tell it of that one.
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
my ($pid) = split /\n/, value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
stop_process($supervisor);
kill 'TERM', $pid;
eventually(sub { !-e "/proc/$pid" }) or die "$pid does not end";
kill 'TERM', $supervisor;
continue_process($supervisor);
is(SupervisorTest::survivors($supervisor), '', 'the supervisor ends');
value(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'vic' AND backend_type = 'client backend'});
$_->{run}->kill_kill foreach @sessions;
until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, 'parallel queries end');
becomes(q{SELECT running = 2 FROM supervisor.pool_status}, 'the next one has a pool of its size');
is(value($task, user => 'vic'), 'SELECT 1', 'which serves');
my $log = -s $node->logfile;
value(q{SELECT supervisor.add_worker('supervisor pool worker', 'SELECT 1/0', restart => 'never')});
ok($node->wait_for_log(qr/LOG:  background worker "worker supervisor pool worker" \(PID \d+\) exited with exit code 1/, $log),
	'the end of a service of that name is in the log');

note 'processes in the place of another';

# Returns how many processes have been registered for pools, and what is logged of those that end.
my $offset = -s $node->logfile;
sub logged
{
	my $log = slurp_file($node->logfile, $offset);

	$offset += length $log;
	return (scalar(() = $log =~ /registering background worker "supervisor pool worker/g),
		scalar(() = $log =~ /LOG:  background worker "supervisor pool worker" \(PID \d+\) exited/g));
}
my $rolled = q{SELECT bool_and(state = 'running' AND started_at > '%s') FROM supervisor.worker_status WHERE kind = 'pool'};
until_true(sprintf($rolled, value(q{SELECT max(at) FROM supervisor.event WHERE event = 'supervisor'})), 'adopted workers are replaced');
bind_all();
is((logged())[1], 0, 'the end of a worker that is replaced is not in the log');
SupervisorTest::set($node, 'log_min_messages' => 'debug1');
value('SELECT pg_sleep(0)');
logged();

my @before;
foreach ([ 'a restart', q{SELECT supervisor.restart_pool('default')} ],
	[ 'workers that a superuser terminates', q{SELECT count(supervisor.terminate_worker(slot)) FROM supervisor.worker_status WHERE kind = 'pool'} ],
	[ 'changed settings', q{ALTER ROLE one SET work_mem = 1000; ALTER ROLE two SET work_mem = 1000} ],
	[ 'workers that their role terminates', q{SELECT count(pg_terminate_backend(pid)) FROM supervisor.worker_status WHERE kind = 'pool'} ])
{
	my ($property, $sql) = @$_;

	my $before = value(q{SELECT sum(restarts) FROM supervisor.worker_status WHERE kind = 'pool'});
	value($sql);
	value($task, user => $_) foreach qw(one two);
	until_true("SELECT sum(restarts) = $before + 2 AND bool_and(state = 'running') FROM supervisor.worker_status WHERE kind = 'pool'", 'both are replaced');
	bind_all();
	is((logged())[0], 0, "$property: no process is registered");
}

note 'those that are not wanted';

# An unbound worker that fails waits for an hour, and has no place meanwhile.
SupervisorTest::set($node, 'supervisor.pools' => 'late:1');
until_true(q{SELECT running = 1 FROM supervisor.pool_status WHERE pool = 'late'}, 'another pool has a worker');
kill 'TERM', value(q{SELECT pid FROM supervisor.worker_status WHERE pool = 'late'});
becomes(q{SELECT state = 'backoff' FROM supervisor.worker_status WHERE pool = 'late'}, 'a worker has failed by itself');
sub workers
{
	return scalar(() = SupervisorTest::children($node, 'supervisor pool worker'));
}
ok(eventually(sub { workers() == 2 }), 'and no process waits in its place');
SupervisorTest::set($node, 'supervisor.pools' => '');

# Which the pool wants no more when the supervisor comes.
$supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
($pid) = split /\n/, value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
stop_process($supervisor);
kill 'TERM', $pid;
eventually(sub { !-e "/proc/$pid" && workers() == 2 }) or die 'there is no other';
SupervisorTest::set($node, 'supervisor.pool_size' => 1);
continue_process($supervisor);
becomes(q{SELECT count(*) = 1 AND bool_and(state = 'running') FROM supervisor.worker_status WHERE kind = 'pool'}, 'a pool that shrinks keeps one');
ok(eventually(sub { workers() == 1 }), 'and no process of another is left');
SupervisorTest::set($node, 'supervisor.pool_size' => 2);
SupervisorTest::wait_ready($node, 'default', 2);

# The postmaster starts those that had a place before a crash.
bind_all();
kill 'KILL', value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' LIMIT 1});
ok(eventually(sub { eval { $node->safe_psql('postgres', 'SELECT running = 2 FROM supervisor.pool_status') eq 't' } }), 'after a crash the pool has its workers');
ok(eventually(sub { workers() == 2 }), 'and there are no others');
is(value($task, user => $_), 'SELECT 1', "$_ is served") foreach qw(one two vic);

$node->stop;
done_testing();
