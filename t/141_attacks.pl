# What somebody with a login and EXECUTE may try: to crash the server, to become another, to reach what is not his, to stay
# where he is not wanted.  Each attempt fails, and costs others nothing.  More attempts are in the tests of rights (120),
# hygiene (121), starvation (122), search paths (123) and declared workers (134).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest;

my $node = SupervisorTest::new_node(
	'attacks',
	'autovacuum' => 'off',
	'max_worker_processes' => 16,
	'max_prepared_transactions' => 5,
	'supervisor.pool_size' => 2);

# mallory may call everything; victim is who he would like to be.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO mallory, victim;
	GRANT CREATE ON SCHEMA public TO mallory, victim});

sub value
{
	my ($sql, %opts) = @_;

	return $node->safe_psql($opts{dbname} // 'postgres', $sql, extra_params => SupervisorTest::psql_params(%opts));
}

# Checks that $sql raises that SQLSTATE and, if given, that its message matches.
sub refused
{
	my ($sql, $sqlstate, $property, %opts) = @_;
	my ($got, $stderr) =
	  $opts{session} ? $opts{session}->error_of($sql) : SupervisorTest::error_of($node, $sql, %opts);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got, $sqlstate, $property) or diag($stderr);
	like($stderr, $opts{message}, "$property: message") if $opts{message};
}

my $mallory = SupervisorTest::session($node, user => 'mallory');
SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

note 'functions that are wrongly declared to be safe in parallel workers';

value(q{
	CREATE FUNCTION in_parallel(call text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS
		$$ BEGIN EXECUTE 'SELECT count(*) FROM supervisor.' || call; RETURN 'done'; END $$}, user => 'mallory');
value(q{SELECT supervisor.add_worker('there', 'SELECT 1', run_every => '1 h', role => 'mallory')});
$mallory->query_safe('SET ' . ($node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on');
refused("SELECT in_parallel(\$\$$_\$\$)", '25000', "in a parallel worker: $_", session => $mallory, message => qr/CONTEXT: .*parallel worker/s)
  foreach (
	q{execute('SELECT 1')}, q{run('SELECT 1') AS (a int)}, q{execute_all(ARRAY['SELECT 1'])}, q{launch('SELECT 1')},
	q{add_worker('more', 'SELECT 1')}, q{alter_worker('there', 'SELECT 2')}, q{remove_worker('there')},
	q{stop_worker('there')}, q{start_worker('there')}, q{restart_worker('there')});
my $task = $mallory->query_safe(q{SELECT supervisor.launch('SELECT 1')});
refused("SELECT in_parallel('$_')", '55000', "in a parallel worker: $_", session => $mallory)
  foreach ("wait($task)", "result($task) AS (a int)", "forget($task)");
is($mallory->query_safe("SELECT in_parallel('$_')"), 'done', "in a parallel worker: $_")
  foreach ("cancel($task)", 'get_workers()', 'get_pools()', 'get_tasks()', 'get_events()');
$mallory->query_safe("RESET ALL; SELECT supervisor.forget($task)");
is(value('SELECT command FROM supervisor.worker'), 'SELECT 1', 'and the worker is as it was');
value(q{SELECT supervisor.remove_worker('there')});

$mallory->quit;
is(SupervisorTest::leaks($node), '', 'nothing is left');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated by signal/, 'nothing has crashed');

$node->stop;
done_testing();
