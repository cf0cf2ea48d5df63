# supervisor.health(): nothing where all is well, and a row for each thing that a person should look at.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes until_true value stop_process continue_process);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 12,
	'supervisor.pool_size' => 2,
	'supervisor.max_tasks' => 8,
	'supervisor.shared_memory' => '1MB',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '1h',
	'supervisor.stop_timeout' => '100ms');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice});

# The same, but what takes minutes is late within seconds.
value(q{
	DO $$ BEGIN
		EXECUTE replace(replace(replace(pg_get_functiondef('supervisor.health'::regproc),
			'supervisor.health()', 'public.impatient()'), 'supervisor.health(OUT', 'public.impatient(OUT'), '1 min', '1 s');
	END $$});
my $rows = q{SELECT concat_ws('|', severity, what, hint) FROM supervisor.health()};

# Tests that there comes to be one row for what a pattern finds, and with that severity.  It
# cannot be since before this test began; the server says only some time later when it began.
sub shows
{
	my ($severity, $pattern, $property, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $function = $opts{function} // 'supervisor.health()';
	my $since = $opts{no_since} ? 'since IS NULL' : "since BETWEEN to_timestamp($^T) AND clock_timestamp()";
	my $hint = $opts{hint} // '.';

	return becomes(qq{
		SELECT count(*) = 1 AND bool_and(severity = '$severity' AND $since AND hint ~ \$p\$$hint\$p\$)
		FROM $function WHERE what ~ \$p\$$pattern\$p\$}, $property);
}

sub set_pools
{
	my ($pools) = @_;

	SupervisorTest::set($node, 'supervisor.pools' => $pools);
	until_true('SELECT setting = ' . SupervisorTest::quote($pools) . q{ FROM pg_settings WHERE name = 'supervisor.pools'});
}

# Tests that all is well again.
sub is_well
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes('SELECT count(*) = 0 FROM supervisor.health()', $property) or diag value($rows);
}

sub add
{
	my ($name, $arguments) = @_;

	value("SELECT supervisor.add_worker('$name', $arguments)");
}

sub remove { value("SELECT supervisor.remove_worker('$_')") foreach @_; }

note 'well';

add('fine', q{'SELECT 1', run_every => '10 ms'});
until_true(q{SELECT runs_succeeded > 3 FROM supervisor.worker_status WHERE name = 'fine'});
is_well('nothing is wrong with a service and a pool that work');
is(value("$rows", user => 'bob'), '', 'nor for somebody without any rights');
is(value("BEGIN READ ONLY; $rows; COMMIT"), '', 'nor in a transaction that only reads');
is(value(q{SELECT run_every FROM supervisor.worker_status WHERE name = 'fine'}), '00:00:00.01', 'worker_status says how often it runs');
is(value(q{SELECT state, pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'),
	since BETWEEN pg_postmaster_start_time() AND now(), tasks, max_tasks, memory_used, memory, unread_databases
	FROM supervisor.server_status}), 'running|t|t|0|8|0|1048576|{}', 'server_status tells of the supervisor, and of what there is for tasks');

note 'declared workers';

add('bad', q{E'SELECT 1/0 /*\n*/', run_every => '1 h'});
shows('warning', '^worker "bad" in "postgres" has failed \d+ times in a row: division by zero$', 'a service that fails', hint => 'restart_worker');
is(value(q{SELECT count(*) FROM supervisor.health() WHERE what LIKE '%"bad"%' AND what LIKE '%division%'}, user => $_->[0]), $_->[1],
	"its error is for $_->[0]: $_->[1]") foreach [ monitor => 1 ], [ bob => 0 ];
is(value(q{SELECT count(*) FROM supervisor.health() WHERE what LIKE '%"bad"%'}, user => 'bob'), 1, 'who sees that it fails all the same');
value(q{SELECT supervisor.alter_worker('bad', max_restarts => 1, restart_window => '1 h')});
value(q{SELECT supervisor.start_worker('bad', '1 ms')});
shows('critical', '^worker "bad" in "postgres" is given up: division by zero$', 'one that is given up', hint => q{supervisor\.start_worker\('bad'\)});
remove('bad');

value('CREATE ROLE gone LOGIN; CREATE ROLE shut LOGIN');
add('roleless', q{'SELECT 1', role => 'gone', run_every => '10 ms'});
add('locked', q{'SELECT 1', role => 'shut', run_every => '10 ms'});
until_true(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name IN ('roleless', 'locked') AND runs_succeeded > 0});
value('DROP ROLE gone; ALTER ROLE shut NOLOGIN');
shows('warning', '^worker "roleless" in "postgres" waits: .*does not exist', 'one without its role', hint => 'create the role');
shows('warning', '^worker "locked" in "postgres" waits: ', 'one whose role may not log in', hint => 'LOGIN');
remove('roleless', 'locked');

add('slow', q{'SELECT pg_sleep(3600)', run_every => '300 ms'});
shows('warning', '^worker "slow" in "postgres" should succeed every 00:00:00.3, and has not$', 'one that has not succeeded for some of its intervals',
	function => 'public.impatient()', hint => 'pg_stat_activity');
becomes(q{SELECT count(*) = 0 FROM public.impatient() WHERE what LIKE '%"fine"%'}, 'and not one that has');
my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'slow'});
stop_process($pid);
value(q{SELECT supervisor.stop_worker('slow', '1 ms')});
shows('critical', "^process $pid of worker \"slow\" does not end: ", 'one that does not end', hint => "gdb -p $pid ");
continue_process($pid);
becomes(q{SELECT state = 'stopped' FROM supervisor.worker_status WHERE name = 'slow'}, 'it ends');
remove('slow');

SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
shows('notice', 'start_workers is off', 'that none runs', no_since => 1);
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');

add('many', q{'SELECT pg_sleep(3600)', instances => 20});
shows('warning', '^1 worker is waiting for a place: many$', 'one for some of whose instances there is no place', hint => 'max_worker_processes');
becomes(q{SELECT array_agg(what) = ARRAY['1 worker is waiting for a place: many'] FROM supervisor.health()}, 'and that is one row');
remove('many');

# A lock on a catalog keeps anybody from logging in.
value('CREATE DATABASE sick');
my $locks = SupervisorTest::session($node, dbname => 'sick');
$locks->query_safe('BEGIN; LOCK pg_class');
value('ALTER DATABASE sick ALLOW_CONNECTIONS true');
shows('warning', '^the declared workers of database "sick" cannot be read$', 'a database whose table cannot be read', no_since => 1, hint => 'loader failed');
$locks->quit;
is_well('all is well again');
value('DROP DATABASE sick');

note 'pools';

SupervisorTest::set($node, 'supervisor.pools' => 'mail:1(nobody, "bob")');
shows('notice', '^pool "mail" is for role "nobody", which does not exist$', 'a role that is listed and does not exist', no_since => 1);
SupervisorTest::set($node, 'supervisor.pools' => '', 'supervisor.pool_size' => 20);
shows('warning', '^pool "default" has \d+ of 20 workers: no background worker slot$', 'a pool with too few workers',
	hint => 'max_worker_processes');
SupervisorTest::set($node, 'supervisor.pools' => 'none:1');
shows('critical', '^pool "none" has 0 of 1 workers: no background worker slot$', 'a pool without any');
becomes(q{SELECT since < now() - interval '6 s' FROM supervisor.health() WHERE what LIKE 'pool "default"%'}, 'since it is so, however often it was tried');
SupervisorTest::set($node, 'supervisor.pools' => '', 'supervisor.pool_size' => 2);
is_well('all is well again');

$pid = value('SELECT pid FROM supervisor.worker_status WHERE slot = 0');
stop_process($pid);
value(q{SELECT supervisor.terminate_worker(0, '1 ms')});
shows('warning', "^process $pid of pool \"default\" does not end: ", 'a worker that does not end', hint => "gdb -p $pid ");
continue_process($pid);
is_well('it ends');

note 'tasks';

my $alice = SupervisorTest::session($node, user => 'alice');
my $super = SupervisorTest::session($node);
$alice->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600)') FROM generate_series(1, 4)});
shows('notice', '^2 tasks wait in pool "default": all 2 workers are busy$', 'tasks that wait for long', function => 'public.impatient()');
shows('warning', '^role "alice" has 4 of the 4 tasks that it may have$', 'a role that has all of its tasks', no_since => 1);
$super->query_safe(q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 4)});
shows('critical', '^8 of 8 tasks are taken$', 'and if there are no more', no_since => 1);
is(value(q{SELECT tasks FROM supervisor.server_status}), 8, 'server_status counts them');
is( value(q{SELECT array_agg(severity || since::text) = array_agg(severity || since::text ORDER BY array_position(ARRAY['critical', 'warning', 'notice'], severity), since)
		FROM public.impatient()}), 't', 'the worst comes first');
$_->quit foreach $alice, $super;
becomes('SELECT tasks = 0 FROM supervisor.server_status', 'they are gone');

$super = SupervisorTest::session($node);
$super->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600) /*' || repeat('x', 250000) || '*/') FROM generate_series(1, 4)});
shows('warning', '^\d+ kB of 1024 kB of supervisor.shared_memory are taken$', 'memory that is nearly used up', no_since => 1);
$super->quit;
is_well('it is free again');
becomes('SELECT memory_used = 0 FROM supervisor.server_status', 'to the last byte');

note 'jobs';

my $job = value(q{SELECT supervisor.enqueue('SELECT 1/0', max_attempts => 1)});
shows('warning', '^1 job has failed, the last with 22012: division by zero$', 'a job that has failed', hint => 'retry_job');
is(value(q{SELECT what FROM supervisor.health()}, user => 'bob'), '1 job has failed, the last with 22012', 'others see no message');
value("UPDATE supervisor.job SET reason = 'crashed' WHERE id = $job");
shows('critical', "^job $job has crashed the server too often: it is given up\$", 'one that has crashed the server', hint => "retry_job\\($job\\)");
value("SELECT supervisor.cancel_job($job)");
is_well('once it is canceled, all is well');
$job = value(q{SELECT supervisor.schedule('nightly', '@yearly', 'SELECT 1/0', max_attempts => 1)});
value("SELECT supervisor.retry_job($job)");
shows('warning', '^1 recurring job has failed the last time, with 22012: division by zero$', 'a recurring job whose last run has failed', hint => 'job_run');
value(q{SELECT supervisor.schedule('nightly', '@yearly', 'SELECT 1')});
value("SELECT supervisor.retry_job($job)");
is_well('once it has succeeded, all is well');
value(q{SELECT supervisor.unschedule('nightly')});

# One that waits, and is due, as a superuser says: the functions do not where the tables are not trusted.
my %told;
sub due
{
	my ($at) = @_;

	value("UPDATE supervisor.job SET run_at = $at WHERE id = $job");
}

sub tells
{
	my ($severity, $words, $hint, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	shows($severity, "^1 job waits in pool \"few\": $words\$", $words, hint => $hint, %opts);
	$told{$words =~ s/"carol"/"%s"/r} = 1;
}

sub waits
{
	my ($set, $severity, $words, $hint, $unset, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$set->();
	due('now()');
	tells($severity, $words, $hint, %opts);
	due(q{'infinity'});
	$unset->();
	is_well("$words: that was all");
}
SupervisorTest::set($node, 'supervisor.pools' => 'few:1(alice, carol)');
SupervisorTest::wait_ready($node, 'few', 1);
value('CREATE ROLE carol LOGIN; GRANT EXECUTE ON FUNCTION supervisor.enqueue TO carol');
$job = value(q{SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity', pool => 'few')}, user => 'carol');
waits(sub { value('ALTER ROLE carol NOLOGIN') }, 'warning', 'role "carol" may not log in', 'LOGIN', sub { value('ALTER ROLE carol LOGIN') });
waits(sub { value('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC') }, 'warning', 'role "carol" may not connect', 'GRANT CONNECT',
	sub { value('GRANT CONNECT ON DATABASE postgres TO PUBLIC') });
waits(sub { set_pools('few:1(alice)') }, 'warning', 'role "carol" may not use the pool', 'supervisor.pools', sub { set_pools('few:1(carol)') });
waits(sub { set_pools('few:0') }, 'notice', 'the pool is of size 0', 'larger', sub { set_pools('few:1'); SupervisorTest::wait_ready($node, 'few', 1) });
waits(sub { set_pools('') }, 'warning', 'the pool does not exist', 'add it', sub { set_pools('few:1'); SupervisorTest::wait_ready($node, 'few', 1) });
waits(sub { SupervisorTest::set($node, 'supervisor.databases' => 'other') }, 'warning', 'the database is not listed', 'supervisor.databases',
	sub { SupervisorTest::set($node, 'supervisor.databases' => '*') });
waits(sub { value('ALTER TABLE supervisor.job DISABLE TRIGGER job_row_changed') }, 'warning', 'the tables of jobs were changed', 'server log',
	sub { value('ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_row_changed') });

# The other workers take all places.
waits(sub {
		set_pools('');
		SupervisorTest::set($node, 'supervisor.pool_size' => 20);
		until_true(q{SELECT count(*) > 0 FROM supervisor.worker_status WHERE pool = 'default' AND reason = 'no_background_worker_slot'});
		set_pools('few:1(carol)');
		until_true(q{SELECT count(*) = 1 FROM supervisor.pool_status WHERE pool = 'few'});
	}, 'warning', 'the pool has no worker', 'server log',
	sub { SupervisorTest::set($node, 'supervisor.pool_size' => 2); SupervisorTest::wait_ready($node, 'few', 1) });

# What its worker looks into is locked for longer than it waits.
my $holder = SupervisorTest::session($node);
set_pools('few:0');
value("SELECT supervisor.alter_job($job, run_at => now())");    # of what an UPDATE has changed the loader tells, which waits as well
$holder->query_safe('BEGIN; LOCK TABLE supervisor.job IN SHARE MODE');
set_pools('few:1');
tells('notice', 'what role "carol" did has failed', 'server log', function => 'public.impatient()');
$holder->query_safe('COMMIT');
due(q{'infinity'});
is_well('it is not due any more');

# Its worker ends while its row is locked.
value(q{CREATE FUNCTION waits() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)'});
$holder->query_safe('SELECT pg_advisory_lock(1)');
value("UPDATE supervisor.job SET command = 'SELECT waits()', key = 'k', max_attempts = 9, retry_delay = '0', run_at = now() WHERE id = $job");
my $runs = "SELECT state = 'running' FROM supervisor.job_status WHERE job = $job";
until_true($runs);
$holder->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE");
value("SELECT pg_terminate_backend(pid) FROM supervisor.job_status WHERE job = $job");
tells('warning', 'how they ended is not noted', 'server log', function => 'public.impatient()');
$holder->query_safe('COMMIT');
until_true($runs);

# It runs again, and another one has its key.
my $first = $job;
$job = value(q{SELECT supervisor.enqueue('SELECT 1', pool => 'few', key => 'k')}, user => 'carol');
tells('notice', 'others of their key run', 'job_status', function => 'public.impatient()');
due(q{'infinity'});
$holder->quit;
becomes("SELECT count(*) = 0 FROM supervisor.job_status WHERE job = $first", 'it ends');
is_well('and all is well');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'off');
until_true(q{SELECT setting = 'off' FROM pg_settings WHERE name = 'supervisor.run_jobs'});
value("SELECT supervisor.execute('SELECT 1')");
value("UPDATE supervisor.job SET run_at = now() WHERE id = $job");
shows('notice', '^no job is run: supervisor.run_jobs is off$', 'that no job is run', hint => 'reload');
value("SELECT supervisor.alter_job($job, run_at => 'infinity')");
is_well('which is well if none is due');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on');
until_true(q{SELECT setting = 'on' FROM pg_settings WHERE name = 'supervisor.run_jobs'});
value("UPDATE supervisor.job SET role = 4000000000, run_at = now() WHERE id = $job");
shows('warning', '^1 job waits in pool "few": their role does not exist$', 'one without its role', hint => 'cancel_job');
value("UPDATE supervisor.job SET role = 'carol' WHERE id = $job");
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'it is run');
is_well('nothing is wrong then');

my $busy = SupervisorTest::session($node);
$busy->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600)', pool => 'few')});
value(q{SELECT count(supervisor.enqueue('SELECT 1', pool => 'few')) FROM generate_series(1, 3)});
shows('notice', '^3 jobs wait in pool "few": all its workers are busy$', 'jobs that wait for long', function => 'public.impatient()', hint => 'larger');
$told{$_} = 1 foreach 'their role does not exist', 'all its workers are busy';
my ($hints) = slurp_file("$FindBin::RealBin/../supervisor--1.0.sql") =~ /^job_hints \(.*?\(VALUES(.*?)\)\),$/sm;
is_deeply([ grep { !$told{$_} } $hints =~ /^ *\('\w+', '(.*?)', '/gm ], [], 'each reason has been told');
$busy->quit;
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'they are run');
value(q{INSERT INTO supervisor.job (id, role, pool, priority, run_at, command, max_attempts, attempts, crashes, runs, atomic, enabled, state, enqueued_at)
	VALUES (1000000, 'postgres', 'few', 5, now(), 'SELECT 1', 20, 0, 0, 0, true, true, 'w', now())});
shows('notice', '^1 job is a copy from elsewhere$', 'a copy', no_since => 1, hint => 'adopt_jobs');
value('SELECT supervisor.adopt_jobs()');
becomes('SELECT count(*) = 0 FROM supervisor.job_status', 'it is adopted, and runs');
set_pools('');
is_well('all is well again');

note 'names, and a person who reads it';

value(q{SELECT supervisor.add_worker(E'a "b"\n\\! ''\n\t\x1b' || repeat('c', 40), command => 'SELECT 1/0', max_restarts => 0)});
becomes(q{SELECT count(*) = 1 FROM supervisor.health() WHERE severity = 'critical'}, 'a worker has a name that is long and odd');
is(value(q{SELECT count(*) FROM supervisor.health() WHERE length(what) > 80 OR what || hint ~ '[[:cntrl:]]'}), 0, 'a row is one line of some width');
my ($start) = value(q{SELECT substring(hint from 'supervisor.start_worker.*') FROM supervisor.health()});
is(value("SELECT $start IS NOT NULL"), 't', 'what it says to do can be done');
value(q{SELECT supervisor.remove_worker(name::text) FROM supervisor.worker WHERE name LIKE 'a%'});
is_well('nothing is wrong without it');
is( value(q{
		CREATE FUNCTION pg_temp.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.yes, LEFTARG = text, RIGHTARG = text);
		CREATE TEMP TABLE pg_roles (rolname name);
		SET search_path = pg_temp, pg_catalog;
		SELECT count(*) FROM supervisor.health()}), 0, 'a search_path does not mislead it');

note 'the supervisor is away';

my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my $session = SupervisorTest::session($node);
SupervisorTest::ask(\$session);
stop_process($postmaster);
$session->query_safe(q{SELECT pg_terminate_backend(pid) FROM supervisor.server_status});
shows('critical', '^the supervisor is away: ', 'one that does not come back', hint => 'server log');
is($session->query_safe(q{SELECT state, pid IS NULL FROM supervisor.server_status}), 'away|t', 'server_status says that, too');
continue_process($postmaster);
is_well('it is back');
$session->quit;
SupervisorTest::ask(\$node);

SupervisorTest::set($node, 'max_worker_processes' => 0, 'max_logical_replication_workers' => 0);
$node->restart;
shows('critical', '^the supervisor does not run: it found no background worker slot$', 'one that could not be started', hint => 'max_worker_processes');
is(value('SELECT state FROM supervisor.server_status'), 'no place', 'server_status says that, too');
$node->stop;

done_testing();
