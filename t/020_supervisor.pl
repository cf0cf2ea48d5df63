# The supervisor process: its end and its successor, that it is alone, that it
# may be missing, and what is left of its children when the server ends.

use strict;
use warnings;

use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(eventually survivors);

# A library that starts any function of any library as a background worker,
# and takes a background worker slot for itself where it is preloaded.
my $starter_c = q{
#include "postgres.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

void _PG_init(void);
PGDLLEXPORT void starter_main(Datum arg);

void
starter_main(Datum arg)
{
	BackgroundWorkerUnblockSignals();
	for (;;)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
fill(BackgroundWorker *worker, const char *library, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, sizeof(worker->bgw_library_name), "%s", library);
	snprintf(worker->bgw_function_name, sizeof(worker->bgw_function_name), "%s", function);
	snprintf(worker->bgw_name, BGW_MAXLEN, "starter");
	snprintf(worker->bgw_type, BGW_MAXLEN, "starter");
}

PG_FUNCTION_INFO_V1(start_and_wait);
Datum
start_and_wait(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	int64		extra = PG_GETARG_INT64(3);

	fill(&worker, text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	worker.bgw_main_arg = Int32GetDatum(PG_GETARG_INT32(2));
	memcpy(worker.bgw_extra, &extra, sizeof(extra));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		elog(ERROR, "no slot");
	PG_RETURN_BOOL(WaitForBackgroundWorkerShutdown(handle) == BGWH_STOPPED);
}

void
_PG_init(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress)
		return;
	fill(&worker, "LIBRARY", "starter_main");
	RegisterBackgroundWorker(&worker);
}
};

# Builds that library and returns its name without suffix.
my $starter_dir = File::Temp->newdir;

sub build_starter
{
	my $library = "$starter_dir/starter";
	(my $source = $starter_c) =~ s/LIBRARY/$library/;
	local $ENV{PG_CONFIG};

	append_to_file("$library.c", $source);
	append_to_file("$starter_dir/Makefile",
		"MODULES = starter\noverride with_llvm = no\n"
		  . "PGXS := \$(shell pg_config --pgxs)\ninclude \$(PGXS)\n");
	delete local @ENV{ grep { /^(MAKE|MFLAGS|PG_C|C?FLAGS)/ } keys %ENV };
	PostgreSQL::Test::Utils::system_or_bail('make', '-s', '-C', "$starter_dir");
	return $library;
}

my $supervisor_query =
  q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};

# All processes that are the supervisor's or itself.
sub our_pids
{
	my ($node) = @_;

	return split /\n/, $node->safe_psql('postgres',
		"$supervisor_query UNION ALL SELECT pid FROM supervisor.worker_status WHERE pid IS NOT NULL");
}

# Terminates the supervisor, and waits until there is another.
sub replace_supervisor
{
	my ($node) = @_;
	my $old = $node->safe_psql('postgres', $supervisor_query);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
	return $node->poll_query_until('postgres',
		"SELECT count(*) = 1 AND bool_and(pid <> $old) FROM ($supervisor_query) s");
}

# Makes the workers differ: one busy with a task that waits for $node->{lock}, one
# bound and idle, the others unbound.  Returns the session that has the task.
sub occupy
{
	my ($node) = @_;
	my $session = SupervisorTest::session($node);

	$node->safe_psql('postgres', q{SELECT supervisor.restart_pool('default', '1 min')});
	$node->safe_psql('postgres',
		"SELECT tag FROM supervisor.execute_all(ARRAY['SELECT pg_sleep(0.2)', 'SELECT pg_sleep(0.2)'])");
	$node->{lock} = SupervisorTest::session($node);
	$node->{lock}->query_safe('SELECT pg_advisory_lock(1)');
	$session->{task} =
	  $session->query_safe(q{SELECT supervisor.launch('SELECT 42 FROM pg_advisory_xact_lock(1)')});
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM supervisor.worker_status WHERE task = $session->{task}")
	  or die 'the task does not run';
	return $session;
}

my $starter = build_starter();
my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 4,
	'supervisor.restart_delay' => '10ms');
SupervisorTest::wait_ready($node, 'default', 4);

note 'the supervisor is terminated while tasks run';

my $session = occupy($node);
my $before = $node->safe_psql('postgres',
	'SELECT slot, generation FROM supervisor.worker_status WHERE kind = \'pool\' AND activity IS DISTINCT FROM \'busy\'');
my ($busy) = $node->safe_psql('postgres',
	"SELECT slot || ' ' || generation || ' ' || pid FROM supervisor.worker_status WHERE task = $session->{task}");
my $last_event = $node->safe_psql('postgres', 'SELECT max(id) FROM supervisor.event');
my $values = join ', ', map { '(' . join(', ', split /\|/) . ')' } split /\n/, $before;

ok(replace_supervisor($node), 'a new supervisor comes by itself');
ok( $node->poll_query_until('postgres', qq{
		SELECT count(*) = 3 FROM supervisor.worker_status w
			JOIN (VALUES $values) AS old (slot, generation) USING (slot)
		WHERE w.generation = old.generation + 1 AND w.state = 'running'}),
	'adopted workers without a task are replaced');
is( $node->safe_psql('postgres',
		"SELECT slot || ' ' || generation || ' ' || pid FROM supervisor.worker_status WHERE task = $session->{task}"),
	$busy, 'a busy worker is adopted, and its task runs on');

$node->{lock}->quit;
is($session->query_safe("SELECT supervisor.wait($session->{task})"),
	'succeeded', 'the task that ran meanwhile succeeds');
my ($busy_slot, $busy_generation) = split / /, $busy;
ok( $node->poll_query_until('postgres', qq{
		SELECT state = 'running' AND generation = $busy_generation + 1
		FROM supervisor.worker_status WHERE slot = $busy_slot}),
	'the worker that was busy is replaced after its task');
is( $node->safe_psql('postgres', qq{
		SELECT string_agg(event, ' ' ORDER BY id) FROM supervisor.event
		WHERE id > $last_event AND event IN ('exited', 'running')}),
	join(' ', ('exited running') x 4),
	'adopted workers are replaced one after another, each when the last one is ready');
is( $node->safe_psql('postgres', qq{
		SELECT count(*) FROM supervisor.event
		WHERE id > $last_event AND event IN ('stopping', 'backoff', 'waiting')}),
	'0', 'no adopted worker is terminated or waits for its successor');
is($session->query_safe("SELECT * FROM supervisor.result($session->{task}) AS (v int)"),
	'42', 'its result can be read');
$session->quit;

note 'calls while there is no supervisor';

sub await_supervisor
{
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($supervisor_query) s")
	  or die 'there is no supervisor';
}

await_supervisor();
is( $node->safe_psql('postgres', qq{
		SELECT pg_terminate_backend(pid, 5000) FROM ($supervisor_query) s;
		SELECT supervisor.execute('SELECT 1')}),
	"t\nSELECT 1", 'tasks run while the supervisor is being restarted');
await_supervisor();
is( $node->safe_psql('postgres', qq{
		SELECT pg_terminate_backend(pid, 5000) FROM ($supervisor_query) s;
		SELECT supervisor.restart_worker(0, '1 min')}),
	"t\nt", 'restart_worker waits for the next supervisor');
await_supervisor();
is( $node->safe_psql('postgres', qq{
		SELECT pg_terminate_backend(pid, 5000) FROM ($supervisor_query) s;
		SELECT supervisor.terminate_worker(1, '1 min')}),
	"t\nt", 'terminate_worker waits for the next supervisor');
SupervisorTest::wait_ready($node, 'default', 4);
SupervisorTest::leaks($node);

note 'under load';

$session = SupervisorTest::session($node);
$session->begin(q{
	SELECT count(*) FILTER (WHERE tag = 'SELECT 1'), count(sqlstate)
	FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.02)'::text, ARRAY[800]))});
my $replaced = 0;
$replaced += replace_supervisor($node) for 1 .. 3;
is($replaced, 3, 'the supervisor is replaced three times under load');
my ($stdout, $stderr) = $session->finish;
is($stdout . $stderr, '800|0', 'no task fails when the supervisor is terminated under load');
$session->quit;

note 'a worker ends while there is no supervisor';

await_supervisor();
# the idle one may be one that was adopted, and just be on its way out
my ($slot, $generation);
for (my $i = 0; !defined $generation && $i < 1000; $i++)
{
	($slot, $generation) = split /\|/, $node->safe_psql('postgres', q{
		DO $$BEGIN PERFORM supervisor.execute('SELECT 1'); END$$;
		SELECT slot, generation FROM supervisor.worker_status WHERE activity = 'idle' LIMIT 1});
}
$node->safe_psql('postgres', qq{
	SELECT pg_terminate_backend(pid, 5000) FROM ($supervisor_query) s;
	SELECT pg_terminate_backend(pid, 5000) FROM supervisor.worker_status WHERE slot = $slot});
ok( $node->poll_query_until('postgres', qq{
		SELECT state = 'running' AND generation > $generation
		FROM supervisor.worker_status WHERE slot = $slot}),
	'a worker that ended while there was no supervisor is replaced by the next one');

note 'the supervisor is terminated while it starts workers';

foreach my $size (12, 4, 12, 4, 12)
{
	SupervisorTest::set($node, 'supervisor.pool_size' => $size);
	replace_supervisor($node);
}
SupervisorTest::wait_ready($node, 'default', 12);
ok( $node->poll_query_until('postgres', q{
		SELECT count(*) = 12 AND bool_and(state = 'running' AND pid IS NOT NULL)
		FROM supervisor.worker_status}),
	'every slot has its worker when supervisors were terminated as they started them');

# adopted ones are being replaced
$node->safe_psql('postgres', q{SELECT supervisor.restart_pool('default', '1 min')});
# An unbound worker is in no view of core's.
ok( eventually(sub {
		my @children = SupervisorTest::children($node);
		my %known = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
			SELECT pid FROM pg_stat_activity UNION SELECT pid FROM supervisor.worker_status WHERE pid IS NOT NULL});

		my @unknown = grep { !$known{$_} } @children;

		return @children > 12 && @unknown == 1 && $unknown[0] == (SupervisorTest::children($node, 'supervisor loader'))[0];
	}),
	'no process runs that no slot knows, but the loader, which sleeps');
SupervisorTest::set($node, 'supervisor.pool_size' => 4);
SupervisorTest::wait_ready($node, 'default', 4);
is(SupervisorTest::leaks($node), '', 'no slot or task is lost by the end of a supervisor');

note 'it is alone';

$node->safe_psql('postgres', qq{
	CREATE FUNCTION start_and_wait(library text, function text, arg int, extra bigint) RETURNS bool
	AS '$starter' LANGUAGE C STRICT});
my $supervisor = $node->safe_psql('postgres', $supervisor_query);
my $offset = -s $node->logfile;
is( $node->safe_psql('postgres',
		q{SELECT start_and_wait('supervisor', 'sup_supervisor_main', 0, 0)}),
	't', 'a second supervisor ends at once');
ok($node->wait_for_log(qr/the supervisor is already running as process $supervisor/, $offset),
	'a second supervisor says which one is running');
is($node->safe_psql('postgres', $supervisor_query), $supervisor, 'the first supervisor runs on');

my $workers = $node->safe_psql('postgres',
	'SELECT slot, generation, pid FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY slot');
$offset = -s $node->logfile;
foreach my $arg (-1, 0, 31, 32, 2147483647)
{
	is( $node->safe_psql('postgres',
			"SELECT start_and_wait('supervisor', 'sup_worker_main', $arg, 0)"),
		't', "a worker that the supervisor has not started ends at once (slot $arg)");
}
is( $node->safe_psql('postgres', q{
		SELECT start_and_wait('supervisor', 'sup_worker_main', slot, generation)
		FROM supervisor.worker_status WHERE slot = 0}),
	't', 'a second process of the same generation ends at once');
is( $node->safe_psql('postgres',
		'SELECT slot, generation, pid FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY slot'),
	$workers, 'and the true workers keep their slots');
unlike(slurp_file($node->logfile, $offset), qr/FATAL|PANIC|TRAP/,
	'which is not worth a message');
is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1',
	'and tasks run');

note 'a child crashes';

foreach my $case (
	[ 'busy worker', 'KILL', q{SELECT pid FROM supervisor.worker_status WHERE activity = 'busy'} ],
	[ 'idle worker', 'SEGV', q{SELECT pid FROM supervisor.worker_status WHERE activity = 'idle' LIMIT 1} ],
	[ 'unbound worker', 'KILL', q{SELECT pid FROM supervisor.worker_status WHERE activity = 'unbound' LIMIT 1} ],
	[ 'supervisor', 'KILL', $supervisor_query ])
{
	my ($what, $signal, $query) = @$case;

	$session = occupy($node);
	my @pids = our_pids($node);
	my $pid = $node->safe_psql('postgres', $query);
	$offset = -s $node->logfile;
	is(kill($signal, $pid), 1, "signal $signal is sent to the $what");
	ok($node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset),
		"$what crashes: the cluster restarts itself");
	SupervisorTest::wait_true($node, q{
		SELECT count(*) = 4 AND count(*) FILTER (WHERE activity = 'unbound') = 4
		FROM supervisor.worker_status});
	is( $node->safe_psql('postgres',
			'SELECT pool, size, running, unbound, queued_tasks FROM supervisor.pool_status'),
		'default|4|4|4|0', "$what crashes: the pool is rebuilt");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'),
		'0', "$what crashes: no task is left over");
	is(survivors(@pids), '', "$what crashes: none of the old processes is left");
	is( $node->safe_psql('postgres',
			q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[50]))}),
		'50', "$what crashes: tasks run again");
	eval { $_->quit } for $session, $node->{lock};
}

note 'shutdown';

foreach my $mode (qw(fast immediate))
{
	$session = occupy($node);
	my @pids = our_pids($node);
	is(scalar @pids, 5, "$mode: the supervisor and four workers run");
	$offset = -s $node->logfile;
	$node->stop($mode);
	is(survivors(@pids), '', "$mode shutdown leaves no process");
	unlike(slurp_file($node->logfile, $offset), qr/PANIC|TRAP|was terminated by signal (?!3|9)/,
		"$mode shutdown crashes nothing");
	eval { $_->quit } for $session, $node->{lock};
	$node->start;
	SupervisorTest::wait_ready($node, 'default', 4);
}

{
	my $client = SupervisorTest::session($node);
	my @pids = our_pids($node);

	$client->query_safe(q{SELECT supervisor.execute('SELECT 1')});
	$offset = -s $node->logfile;
	system_or_bail('pg_ctl', '-D', $node->data_dir, '-m', 'smart', '--no-wait', 'stop');
	ok($node->wait_for_log(qr/received smart shutdown request/, $offset),
		'a smart shutdown is asked for');
	is($client->query_safe(q{SELECT supervisor.execute('SELECT 1')}),
		'SELECT 1', 'smart shutdown: tasks run as long as there is a client');
	is( $client->query_safe(q{
			SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[40]))}),
		'40', 'smart shutdown: and on more than one worker');
	$client->quit;
	is(survivors(@pids), '', 'smart shutdown: everything ends when the last client has gone');
	ok($node->wait_for_log(qr/database system is shut down/, $offset), 'smart shutdown: is clean');
	# it is down already: learn of that
	$node->stop('fast', fail_ok => 1) if -e $node->data_dir . '/postmaster.pid';
	$node->{_pid} = undef;
	$node->start;
	SupervisorTest::wait_ready($node, 'default', 4);
}

{
	$session = occupy($node);
	my @pids = (our_pids($node), $session->pid, $node->{lock}->pid);

	my $postmaster = $node->{_pid};
	$node->kill9;
	is(survivors(@pids), '', 'no process outlives a postmaster that was killed');
	eval { $_->quit } for $session, $node->{lock};

	# core takes a dead postmaster that init has not waited for yet for a running one
	eventually(sub { !kill 0, $postmaster });
	ok($node->start(fail_ok => 1), 'so the server can be started again');
	SupervisorTest::wait_ready($node, 'default', 4);
	is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1',
		'and tasks run');
}
$node->stop;

note 'the supervisor itself gets no background worker slot';

my %calls = (
	run => q{SELECT * FROM supervisor.run('SELECT 1') AS (a int)},
	execute => q{SELECT supervisor.execute('SELECT 1')},
	perform => q{CALL supervisor.perform('SELECT 1')},
	execute_all => q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])},
	launch => q{SELECT supervisor.launch('SELECT 1')},
	restart_worker => q{SELECT supervisor.restart_worker(0)},
	terminate_worker => q{SELECT supervisor.terminate_worker(0)},
	restart_pool => q{SELECT supervisor.restart_pool()});

$node = SupervisorTest::new_node('small', max_worker_processes => 0);
foreach my $case (
	[ 'no slots at all' => (max_worker_processes => 0) ],
	[ 'core takes the only slot' => (max_worker_processes => 1) ],
	[
		'another library takes the last slot' => (
			max_worker_processes => 2,
			shared_preload_libraries => "$starter, supervisor")
	])
{
	my ($what, %settings) = @$case;

	$node->append_conf('postgresql.conf', SupervisorTest::conf(%settings));
	$node->restart;
	foreach my $function (sort keys %calls)
	{
		my ($sqlstate, $error) = SupervisorTest::error_of($node, $calls{$function});

		is($sqlstate, '55000', "$what: $function is refused");
		like($error, qr/^HINT: .*max_worker_processes/m, "$what: $function has the hint");
	}
	is( $node->safe_psql('postgres',
			'SELECT (SELECT count(*) FROM supervisor.worker_status), (SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL)'),
		'0|0', "$what: the views can be read");
	$node->safe_psql('postgres', 'CREATE DATABASE d; DROP DATABASE d');
	pass("$what: DDL on databases works");
}
$node->append_conf('postgresql.conf', SupervisorTest::conf(max_worker_processes => 5));
$node->restart;
is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}),
	'SELECT 1', 'with enough slots it works');

note 'settings at their extremes';

my %defaults = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
	SELECT name, boot_val FROM pg_settings WHERE name LIKE 'supervisor.%' AND vartype = 'integer'});

foreach my $end (qw(min_val max_val))
{
	my %settings = map { split /\|/ } split /\n/, $node->safe_psql('postgres', qq{
		SELECT name, $end FROM pg_settings
		WHERE name LIKE 'supervisor.%' AND vartype = 'integer'
			AND name NOT IN ('supervisor.shared_memory', 'supervisor.pool_size')});

	# no test machine has the largest; a pool of none runs nothing
	$settings{'supervisor.shared_memory'} = 1024 if $end eq 'min_val';
	$settings{'supervisor.pool_size'} = $end eq 'min_val' ? 1 : 1024;
	cmp_ok(scalar keys %settings, '>', 10, "$end: there are settings");
	$node->append_conf('postgresql.conf', SupervisorTest::conf(%settings));
	$node->append_conf('postgresql.conf', 'max_worker_processes = 6');
	$node->restart;
	is( $node->safe_psql('postgres',
			q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[100]))}),
		'100', "$end: tasks run");
	is( $node->safe_psql('postgres', q{SELECT supervisor.restart_worker(0, '1 min')}),
		't', "$end: a worker is restarted");
	is( $node->safe_psql('postgres', q{SELECT sum(size) FROM supervisor.pool_status}),
		$settings{'supervisor.pool_size'}, "$end: the pool has its size");
	is( $node->safe_psql('postgres', q{
			SELECT count(*) FROM supervisor.worker_status WHERE kind = 'pool'}),
		$settings{'supervisor.pool_size'}, "$end: every worker wanted has a row");
}

$node->append_conf('postgresql.conf', SupervisorTest::conf(%defaults));
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'supervisor.pools' => 'one:1, one:2',
	'supervisor.pool_size' => '-1',
	'supervisor.max_workers' => '1025',
	'supervisor.idle_timeout' => 'soon'));
$offset = -s $node->logfile;
$node->restart;
foreach my $setting (qw(pools pool_size max_workers idle_timeout))
{
	is( $node->safe_psql('postgres',
			"SELECT setting = boot_val FROM pg_settings WHERE name = 'supervisor.$setting'"),
		't', "a wrong value of supervisor.$setting at start leaves the default");
	like(slurp_file($node->logfile, $offset), qr/WARNING:.*supervisor\.$setting/,
		"a wrong value of supervisor.$setting at start is warned of");
}
is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}),
	'SELECT 1', 'and the server works');

note 'single-user mode';

$node->append_conf('postgresql.conf', SupervisorTest::conf(%defaults, 'supervisor.pools' => ''));
$node->stop;

my $commands = join "\n",
  q{CREATE DATABASE other},
  q{CREATE ROLE somebody},
  q{SELECT supervisor.add_worker('alone', 'SELECT 1')},
  q{SELECT supervisor.execute('SELECT 1')},
  q{SELECT supervisor.start_worker('alone')},
  q{SELECT count(*) AS statuses FROM supervisor.pool_status},
  q{SELECT supervisor.remove_worker('alone')},
  q{DROP ROLE somebody},
  q{DROP DATABASE other},
  q{SELECT count(*) AS others FROM pg_database WHERE datname = 'other'}, '';
my $output;
IPC::Run::run [ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ],
  '<', \$commands, '>&', \$output, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
is($?, 0, 'a server in single-user mode ends as it should') or diag $output;
is(() = $output =~ /ERROR:  /g, 2, 'what needs a process fails there, and no more') or diag $output;
is(() = $output =~ /ERROR:  the supervisor is not running/g, 2, 'as the supervisor is not running');
like($output, qr/\bothers = "0"/, 'a database can be made and dropped');

# The fixed part of shared memory: a table of tasks and the memory for them.
$node->append_conf('postgresql.conf', SupervisorTest::conf(%defaults,
	'supervisor.pools' => '', 'supervisor.shared_memory' => '2147483647kB'));
$node->stop;
$offset = -s $node->logfile;
ok(!$node->start(fail_ok => 1), 'a server without that much memory does not start');
like(slurp_file($node->logfile, $offset), qr/FATAL:.*memory|FATAL:.*exceeds|HINT:.*shared memory/i,
	'and says that it is for lack of memory');

done_testing();
