# The extension can be created and dropped, also where the library is not
# preloaded; but then every call says what to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest;

my $node = SupervisorTest::new_node('main');

note 'preloaded';

is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'supervisor'}),
	'1', 'one supervisor runs');

is( $node->safe_psql('postgres', q{
		SELECT oid::regprocedure::text FROM pg_proc
		WHERE pronamespace = 'supervisor'::regnamespace
			AND obj_description(oid, 'pg_proc') IS NULL
		UNION ALL
		SELECT oid::regclass::text FROM pg_class
		WHERE relnamespace = 'supervisor'::regnamespace AND relkind IN ('r', 'v')
			AND obj_description(oid, 'pg_class') IS NULL}),
	'', 'every function, table and view has a comment');

is( $node->safe_psql('postgres', q{
		SELECT attrelid::regclass || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
		WHERE relnamespace = 'supervisor'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0
			AND col_description(attrelid, attnum) IS NULL}),
	'', 'every column of a table or view has a comment');

is( $node->safe_psql('postgres', q{
		DROP EXTENSION supervisor;
		SELECT count(*) FROM pg_namespace WHERE nspname = 'supervisor'}),
	'0', 'DROP EXTENSION leaves no schema');

is( $node->safe_psql('postgres', q{
		CREATE EXTENSION supervisor;
		SELECT supervisor.execute('SELECT 1')}),
	'SELECT 1', 'the extension works when it is created again');

is( $node->safe_psql('postgres', q{
		BEGIN; DROP EXTENSION supervisor; ROLLBACK;
		SELECT supervisor.execute('SELECT 1')}),
	'SELECT 1', 'the extension works when dropping it was rolled back');

$node->stop;

note 'not preloaded';

$node = SupervisorTest::new_node('bare', shared_preload_libraries => '');

my %calls = (
	run => q{SELECT * FROM supervisor.run('SELECT 1') AS (a int)},
	execute => q{SELECT supervisor.execute('SELECT 1')},
	perform => q{CALL supervisor.perform('SELECT 1')},
	execute_all => q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])},
	launch => q{SELECT supervisor.launch('SELECT 1')},
	wait => q{SELECT supervisor.wait(1)},
	result => q{SELECT * FROM supervisor.result(1) AS (a int)},
	cancel => q{SELECT supervisor.cancel(1)},
	forget => q{SELECT supervisor.forget(1)},
	enqueue => q{SELECT supervisor.enqueue('SELECT 1')},
	current_job => q{SELECT supervisor.current_job()},
	schedule => q{SELECT supervisor.schedule('j', '@daily', 'SELECT 1')},
	unschedule => q{SELECT supervisor.unschedule('j')},
	cancel_job => q{SELECT supervisor.cancel_job(1)},
	retry_job => q{SELECT supervisor.retry_job(1)},
	wait_job => q{SELECT supervisor.wait_job(1)},
	adopt_jobs => q{SELECT supervisor.adopt_jobs()},
	alter_job => q{SELECT supervisor.alter_job(1, now())},
	restart_worker => q{SELECT supervisor.restart_worker(0)},
	terminate_worker => q{SELECT supervisor.terminate_worker(0)},
	restart_pool => q{SELECT supervisor.restart_pool()},
	reset_stats => q{SELECT supervisor.reset_stats()},
	add_worker => q{SELECT supervisor.add_worker('w', command => 'SELECT 1')},
	alter_worker => q{SELECT supervisor.alter_worker('w', command => 'SELECT 1')},
	remove_worker => q{SELECT supervisor.remove_worker('w')},
	start_worker => q{SELECT supervisor.start_worker('w')},
	stop_worker => q{SELECT supervisor.stop_worker('w')},
	get_workers => q{SELECT * FROM supervisor.worker_status},
	get_pools => q{SELECT * FROM supervisor.pool_status},
	get_tasks => q{SELECT * FROM supervisor.task_status},
	get_job_runs => q{SELECT * FROM supervisor.get_job_runs()},
	why_job_waits => q{SELECT supervisor.why_job_waits(10, 'default', false)},
	get_events => q{SELECT * FROM supervisor.event});

is( $node->safe_psql('postgres', q{
		SELECT DISTINCT proname COLLATE "C" FROM pg_proc
		WHERE pronamespace = 'supervisor'::regnamespace AND prorettype <> 'trigger'::regtype ORDER BY 1}),
	join("\n", sort 'get_server', 'health', 'job_origin', 'may_see', keys %calls),
	'no function is left out here');

foreach my $function (sort keys %calls)
{
	my ($sqlstate, $stderr) = SupervisorTest::error_of($node, $calls{$function});

	is($sqlstate, '55000', "$function is refused where the library is not preloaded");
	like($stderr, qr/^HINT: .*shared_preload_libraries/m,
		"$function names shared_preload_libraries in a hint");
}

is($node->safe_psql('postgres', 'SELECT state, max_tasks IS NULL FROM supervisor.server_status'), 'not preloaded|t', 'server_status says that');
is($node->safe_psql('postgres', 'SELECT severity, what, hint FROM supervisor.health()'),
	'critical|the library supervisor is not preloaded: all calls fail|add it to shared_preload_libraries, and restart', 'so does health');
$node->safe_psql('postgres', 'DROP EXTENSION supervisor');
pass('DROP EXTENSION works where the library is not preloaded');
my $stderr;
$node->psql('postgres', 'CREATE EXTENSION supervisor', stderr => \$stderr);
like($stderr, qr/WARNING: .*supervisor is not preloaded.*HINT: .*"shared_preload_libraries"/s, 'CREATE EXTENSION says what is missing');

$node->stop;

note 'make installcheck as root';

# Whoever runs this is not: a program in the path says so.
my $bin = PostgreSQL::Test::Utils::tempdir();
append_to_file("$bin/id", "#!/bin/sh\necho 0\n");
chmod 0755, "$bin/id" or die "could not chmod $bin/id: $!";
{
	delete local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	local $ENV{PATH} = "$bin:$ENV{PATH}";
	my $make = join ' ', 'make', '-C', "$FindBin::RealBin/..", 'installcheck', 'PROVE_TESTS=t/nothing.pl', 'PG_CONFIG=' . ($ENV{PG_CONFIG} || 'pg_config');

	like(`$make 2>&1`, qr/refuses to do for root\.\nRun it as another user, or run make test/, 'it says why it cannot, and what to do');
}
done_testing();
