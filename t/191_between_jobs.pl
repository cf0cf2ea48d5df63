# Between two jobs of a worker: nothing that the first has left is there for the second, and
# the worker goes when it is to, however many jobs its queue has yet.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

# One worker, so that the next job gets the session of the last one.
my $node = SupervisorTest::new_node('between_jobs', 'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE mate;
	CREATE ROLE alice LOGIN IN ROLE mate;
	CREATE ROLE boss LOGIN SUPERUSER;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC;
	CREATE SCHEMA other;
	CREATE SEQUENCE seq;
	GRANT ALL ON SCHEMA other TO PUBLIC;
	GRANT ALL ON SEQUENCE seq TO PUBLIC;
	-- what a new session has not, and what every session has
	CREATE FUNCTION remembers(what text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		value text;
	BEGIN
		EXECUTE 'SELECT ' || what INTO value;
		RETURN value;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		RETURN 'nothing';
	END $$;
	CREATE FUNCTION state() RETURNS text LANGUAGE sql SET search_path FROM CURRENT RETURN concat_ws(' ',
		'users', current_user, session_user,
		'temporary', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
		(SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
		'prepared', (SELECT count(*) FROM pg_prepared_statements),
		'cursors', (SELECT count(*) FROM pg_cursors WHERE name <> ''),
		'locks', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
		'currval', remembers('currval(''public.seq'')'), 'lastval', remembers('lastval()'),
		'settings', current_setting('work_mem'), current_setting('TimeZone'), current_setting('default_transaction_isolation'),
		current_setting('transaction_read_only'), 'own', coalesce(current_setting('my.own', true), ''))});

# Enqueues jobs one behind the other; returns their numbers.
sub enqueue
{
	my ($user, $options, @commands) = @_;

	return split /\|/, value('SELECT ' . join(', ', map { "supervisor.enqueue(\$job\$$_\$job\$, max_attempts => 1$options)" } @commands), user => $user);
}

sub run_of
{
	my ($job, $what) = @_;

	return value("SELECT $what FROM supervisor.job_history WHERE job = $job");
}

my $done = q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w'};

note 'what a job leaves';

my %dirt = (
	'a temporary table' => 'CREATE TEMPORARY TABLE leftover AS SELECT generate_series(1, 1000) AS i',
	'a temporary function' => q{CREATE FUNCTION pg_temp.leftover() RETURNS integer LANGUAGE sql AS 'SELECT 1'},
	'a prepared statement' => 'PREPARE leftover AS SELECT 1',
	'a cursor' => 'DECLARE leftover CURSOR WITH HOLD FOR SELECT generate_series(1, 1000)',
	'advisory locks' => 'SELECT pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2)',
	'SET ROLE' => 'SET ROLE mate',
	'SET SESSION AUTHORIZATION' => 'SET SESSION AUTHORIZATION alice',
	'search_path' => 'SET search_path = other',
	'SET' => q{SET work_mem = '7MB'; SET TIME ZONE 'Asia/Tokyo'; SET my.own = 'left'},
	'set_config()' => q{SELECT set_config('work_mem', '7MB', false), set_config('my.own', 'left', false)},
	'SESSION CHARACTERISTICS' => 'SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY',
	'currval and lastval' => q{SELECT nextval('public.seq')});
# A job that is atomic, and has succeeded; and one that is not, and has failed when it had committed.
my %ends = (
	'a success' => [ '%s', '', 'succeeded' ],
	'a failure' => [ 'BEGIN; %s; COMMIT; SELECT 1/0', ', atomic => false', 'failed' ]);

foreach my $user ('alice', 'boss')
{
	my $look = q{SELECT public.state() || ' path ' || current_setting('search_path')};
	my @first = enqueue($user, '', 'SELECT public.state()', $look);
	becomes($done, "$user has a session");
	my $fresh = run_of($first[1], 'result');
	like($fresh, qr/^users $user $user temporary 0 0 prepared 0 cursors 0 locks 0 currval nothing lastval nothing settings 4MB \S+ read committed off own +path "\$user", public$/,
		"$user: nothing is in it");
	foreach my $what (sort keys %dirt)
	{
		next if $what eq 'SET SESSION AUTHORIZATION' && $user ne 'boss';
		foreach my $end (sort keys %ends)
		{
			my ($format, $options, $state) = @{ $ends{$end} };
			my ($leaves) = enqueue($user, $options, sprintf($format, $dirt{$what}));
			my ($looks) = enqueue($user, '', $look);
			my $property = "$user: $what, $end";

			becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $looks", "$property: the next one is run");
			is(run_of($leaves, 'state'), $state, "$property: it has ended so");
			is(run_of($looks, 'result'), $fresh, "$property: nothing is left");
			is(run_of($looks, 'pid'), run_of($leaves, 'pid'), "$property: in the same session");
		}
	}
	value('DELETE FROM supervisor.job');
}

# What only shows if it is used.
my $random = value('SELECT random() FROM (SELECT setseed(0.5) OFFSET 0) s');
my @seeded = enqueue('alice', '', 'SELECT random() FROM (SELECT setseed(0.5) OFFSET 0) s', 'SELECT setseed(0.5)', 'SELECT random()');
becomes($done, 'a seed is set');
is(run_of($seeded[0], 'result'), $random, 'by which random() goes');
isnt(run_of($seeded[2], 'result'), $random, 'but not in the next job');
is(value("SELECT count(DISTINCT pid) FROM supervisor.job_history WHERE job IN ($seeded[1], $seeded[2])"), 1, 'in the same session');
foreach my $case ([ 'EXECUTE leftover', '26000', 'PREPARE leftover AS SELECT 1' ], [ 'FETCH leftover', '34000', 'DECLARE leftover CURSOR WITH HOLD FOR SELECT 1' ],
	[ 'SELECT FROM leftover', '42P01', 'CREATE TEMPORARY TABLE leftover ()' ], [ q{SELECT currval('public.seq')}, '55000', q{SELECT nextval('public.seq')} ],
	[ 'SELECT lastval()', '55000', q{SELECT nextval('public.seq')} ])
{
	my ($uses, $sqlstate, $leaves) = @$case;
	my @jobs = enqueue('alice', '', $leaves, $uses);

	becomes($done, "$leaves; and in the next job $uses");
	is(run_of($jobs[0], 'state') . ' ' . run_of($jobs[1], 'sqlstate'), "succeeded $sqlstate", "$uses finds none");
	is(value("SELECT count(DISTINCT pid) FROM supervisor.job_history WHERE job IN ($jobs[0], $jobs[1])"), 1, 'in the same session');
}
my ($listens) = enqueue('alice', '', 'LISTEN channel');
becomes($done, 'one listens');
like(run_of($listens, 'message'), qr/^cannot execute LISTEN/, 'which nobody can');
value('DELETE FROM supervisor.job');

note 'a worker that is to go';

my $n = 1000;
my $worker = q{SELECT pid FROM supervisor.worker_status WHERE pool = 'default' AND pid IS NOT NULL};

# Has many jobs enqueued, that take far longer than anybody should wait; returns when some have run.
sub keep_busy
{
	my ($database) = @_;

	value(q{
		CREATE TABLE ran (job bigint DEFAULT supervisor.current_job());
		CREATE TABLE speed AS SELECT 0.05 AS seconds;
		GRANT ALL ON ran, speed TO PUBLIC}, dbname => $database);
	value("SELECT count(supervisor.enqueue('INSERT INTO ran SELECT FROM pg_sleep((SELECT seconds FROM speed))')) FROM generate_series(1, $n)",
		dbname => $database, user => 'alice');
	$node->poll_query_until($database, 'SELECT count(*) > 3 FROM ran') or die 'no job is run';
}

# Tests that the queue is not empty; then it is run soon, and each of its jobs once.
sub all_are_run
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	cmp_ok(value('SELECT count(*) FROM supervisor.job', dbname => $database), '>', 0, "$property: there is more to do");
	value('UPDATE speed SET seconds = 0', dbname => $database);
	ok($node->poll_query_until($database, 'SELECT count(*) = 0 FROM supervisor.job'), "$property: all are run");
	is( value(q{SELECT count(*), count(DISTINCT job), count(h.job), count(DISTINCT h.job), max(attempt), string_agg(DISTINCT state, ' ')
			FROM ran FULL JOIN supervisor.job_history h USING (job) WHERE ran.job IS NOT NULL OR h.command ~ 'INTO ran'}, dbname => $database),
		join('|', ($n) x 4, 1, 'succeeded'), "$property: each once");
	cmp_ok(value(q{SELECT count(DISTINCT pid) FROM supervisor.job_history h WHERE EXISTS (SELECT FROM ran WHERE ran.job = h.job)}, dbname => $database), '>', 1,
		"$property: by more than one worker");
	value('DROP TABLE ran, speed; TRUNCATE supervisor.job_history', dbname => $database);
}

value('TRUNCATE supervisor.job_history');
keep_busy('postgres');
my $pid = value($worker);
is(value(q{SELECT supervisor.restart_worker(slot, '3 min') FROM supervisor.worker_status WHERE pool = 'default'}), 't', 'restart_worker() is done');
isnt(value($worker), $pid, 'there is another process');
all_are_run('postgres', 'restart_worker()');

keep_busy('postgres');
$pid = value($worker);
is(value(q{SELECT supervisor.restart_pool('default', '3 min')}), 't', 'restart_pool() is done');
isnt(value($worker), $pid, 'there is another process');
all_are_run('postgres', 'restart_pool()');

SupervisorTest::set($node, 'supervisor.worker_lifetime' => '1ms');
value(q{SELECT count(supervisor.enqueue('SELECT 1')) FROM generate_series(1, 5)}, user => 'alice');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'a worker that has lived long enough when it is ready runs one first');
is(value('SELECT count(*), count(DISTINCT pid) FROM supervisor.job_history'), '5|5', 'and no other');
value('TRUNCATE supervisor.job_history');

SupervisorTest::set($node, 'supervisor.worker_lifetime' => '300ms');
keep_busy('postgres');
becomes('SELECT count(DISTINCT pid) > 2 FROM supervisor.job_history', 'worker_lifetime is over, again and again');
SupervisorTest::set($node, 'supervisor.worker_lifetime' => '1h');
all_are_run('postgres', 'worker_lifetime');

# Without FORCE, while the worker goes from job to job there.
value('CREATE DATABASE busy');
value('CREATE EXTENSION supervisor; GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC', dbname => 'busy');
keep_busy('busy');
value('ALTER DATABASE busy RENAME TO renamed');
all_are_run('renamed', 'RENAME');

my $succeeded = q{SELECT jobs_succeeded FROM supervisor.pool_status WHERE pool = 'default'};
my $before = value($succeeded);
keep_busy('renamed');
value('DROP DATABASE renamed');
cmp_ok(value($succeeded) - $before, '<', $n, 'DROP DATABASE is done before all are run');
my ($job) = enqueue('alice', '', 'SELECT 1');
becomes("SELECT state = 'succeeded' FROM supervisor.job_history WHERE job = $job", 'a job elsewhere is run');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE datname IS NULL AND usename IS NOT NULL}), 0, 'no worker is left in it');
value('CREATE DATABASE renamed');
value(q{CREATE EXTENSION supervisor; GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC; CREATE TABLE ran AS SELECT 1 AS i WHERE false; GRANT ALL ON ran TO PUBLIC},
	dbname => 'renamed');
value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (1)')}, dbname => 'renamed', user => 'alice');
ok($node->poll_query_until('renamed', 'SELECT count(*) = 1 FROM ran'), 'so is one of another database of that name');
is(value('SELECT count(*) FROM supervisor.job_run', dbname => 'renamed'), 1, 'and no other is');

$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
