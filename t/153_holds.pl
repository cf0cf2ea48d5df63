# What is done under the lock is bounded, whatever there is: with as many tasks as
# may be, a thousand slots, hundreds of declared workers.  What is measured is not
# time, but how many basic blocks of the extension's code are run while it is held.

use strict;
use warnings;

use Cwd qw(realpath);
use File::Basename;
use File::Copy;
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value stop_process continue_process);

# Some 25 us, with assertions.
my $limit = $ENV{PG_TEST_HOLD} || 25_000;

# Builds the extension once more.
my $source = PostgreSQL::Test::Utils::tempdir('source');
my %config = map { $_ => SupervisorTest::pg_config($_) } qw(cc cppflags cflags cflags_sl includedir-server);
my $trace = '-fsanitize-coverage=trace-pc ' . join ' ',
  map { "-Wl,--wrap=$_" } qw(LWLockAcquire LWLockConditionalAcquire LWLockRelease memcpy memset);
append_to_file("$source/try.c", "int main(void) { return 0; }\nvoid __sanitizer_cov_trace_pc(void);\nvoid __sanitizer_cov_trace_pc(void) { }\n");
plan skip_all => 'the compiler or the linker lacks what counts steps'
  if system("$config{cc} $trace -o $source/try $source/try.c 2>/dev/null") != 0;

sub run_or_die
{
	my @command = @_;

	system(@command) == 0 or die "@command failed";
}
run_or_die('cp', '-R', (map { "$FindBin::RealBin/../$_" } qw(Makefile META.json src supervisor.control supervisor--1.0.sql)), $source);
run_or_die(join ' ', @config{qw(cc cppflags cflags cflags_sl)}, "-I$config{'includedir-server'} -c -o $source/holds.o $FindBin::RealBin/holds.c");
{
	delete local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	run_or_die('make', '-s', '-j2', '-C', $source, 'PG_CONFIG=' . ($ENV{PG_CONFIG} || 'pg_config'), "COPT=$trace", "SHLIB_LINK=$source/holds.o");
}
my $root = PostgreSQL::Test::Utils::tempdir('installation');
my %dir = SupervisorTest::copy_installation($root);
copy("$source/supervisor.so", "$root$dir{pkglibdir}/supervisor.so") or die "could not copy supervisor.so: $!";

my $node = PostgreSQL::Test::Cluster->new('holds', install_path => dirname("$root$dir{bindir}"));
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'log_statement' => 'none',
	'max_worker_processes' => 12,
	'max_connections' => 30,
	'supervisor.max_workers' => 1000,
	'supervisor.max_tasks' => 32768,
	'supervisor.shared_memory' => '64MB',
	'supervisor.result_retention' => '1h',
	'supervisor.pool_size' => 2));
{
	local $ENV{SUPERVISOR_TEST_HOLD} = $limit;
	$node->start;
}
SupervisorTest::ask(\$node);

my $offset = 0;

# Tests that nothing since the last call was long.
sub short
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = slurp_file($node->logfile, $offset);
	my %holds;

	$offset += length $log;
	while ($log =~ /^a lock was held for (\d+) steps:\n(.*?)^end of hold/msg)
	{
		my ($steps, $frames) = ($1, $2);
		my @places;

		# names of those that are exported, addresses of the others
		while ($frames =~ /supervisor\.so\((\w*)\+0x([0-9a-f]+)\)/g)
		{
			my ($name, $address) = ($1, $2);
			($name) = `addr2line -f -e $root$dir{pkglibdir}/supervisor.so 0x$address 2>/dev/null` =~ /^(\w+)/ if $name eq '';
			push @places, $name // '?';
		}
		my $place = join ' < ', @places;

		$holds{$place} = $steps if $steps > ($holds{$place} // 0);
	}
	is(join("\n", map { "$holds{$_} steps: $_" } sort keys %holds), '', $property);
}

value('CREATE EXTENSION supervisor; CREATE TABLE t (a int)');
SupervisorTest::wait_ready($node, 'default', 2);
short('a server that starts');

SupervisorTest::set($node, 'supervisor.pool_size' => 400);
becomes(q{SELECT size = 400 FROM supervisor.pool_status}, 'a pool of 400, for most of which there is no process');
value(q{SELECT supervisor.add_worker('w' || i, 'SELECT 1', enabled => i % 100 = 0, run_every => '1 h') FROM generate_series(1, 450) i});
becomes(q{SELECT count(*) = 450 FROM supervisor.worker_status WHERE kind = 'command'}, 'hundreds of declared workers');
short('many workers');

my $session = SupervisorTest::session($node);
my $other = SupervisorTest::session($node);
value('CREATE ROLE app LOGIN; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO app');
$other->query_safe('BEGIN; LOCK TABLE t');
$session->query_safe(q{SELECT count(supervisor.launch('SELECT count(*) FROM t')) FROM generate_series(1, 32700)});
value('SELECT count(*) FROM supervisor.task_status');
value('SELECT count(*) FROM supervisor.worker_status');
value('SELECT count(*) FROM supervisor.event');
short('many tasks');
$session->quit;
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')}, 'their session goes');
short('a session that ends with many tasks');
$session = SupervisorTest::session($node);
$session->query_safe(q{SELECT count(supervisor.launch('SELECT count(*) FROM t', timeout => '1 s')) FROM generate_series(1, 20000)});
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')}, 'all that is queued times out');
short('many tasks that time out');
$other->query_safe('COMMIT');
$session->quit;

# All processes that there may be are the other pool's.
$session = SupervisorTest::session($node);
SupervisorTest::set($node, 'supervisor.pools' => 'down:1', 'supervisor.start_timeout' => '10s');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE pool = 'down' AND reason = 'no_background_worker_slot'}, 'a pool without a process');
$session->query_safe(q{SELECT count(supervisor.launch('SELECT 1', pool => 'down')) FROM generate_series(1, 10000)});
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')}, 'its tasks fail');
short('many tasks that nobody can run');
$session->quit;
$session = SupervisorTest::session($node);
$session->query_safe(q{SELECT count(supervisor.launch('SELECT 1')) FROM generate_series(1, 20000)});
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')}, 'many tasks end');
$session->quit;
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL}, 'which nobody has read');
short('a session that ends with many results');
$other->query_safe(q{SELECT count(supervisor.forget(supervisor.launch('SELECT 1'))) FROM generate_series(1, 1000)});
short('entries of tasks that are past');
SupervisorTest::set($node, 'supervisor.result_retention' => '1ms');
becomes('SELECT count(*) = 0 FROM supervisor.task_status', 'all that is past expires');
short('tasks that expire');

# While a process does not end, it is asked for each binding whether its role may be served.
SupervisorTest::set($node, 'supervisor.stop_timeout' => '100ms');
value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(10000)'))}, user => 'app');
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE usename = 'app' AND activity = 'busy'}, 'a task runs');
my ($slot, $pid) = split /\|/, value(q{SELECT slot, pid FROM supervisor.worker_status WHERE usename = 'app' AND activity = 'busy'});
stop_process($pid);
value("SELECT supervisor.terminate_worker($slot, '0')");
until_true("SELECT state = 'stuck' FROM supervisor.worker_status WHERE slot = $slot", 'a worker is stuck');
SupervisorTest::set($node, 'supervisor.stop_timeout' => '1min');

# Each role has a binding, which nobody may serve while there is a fence.
value('CREATE DATABASE other');
value(q{
	CREATE EXTENSION supervisor;
	GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.launch, supervisor.forget TO PUBLIC;
	DO $$ BEGIN
		FOR i IN 1 .. 1500 LOOP
			EXECUTE format('CREATE ROLE r%s LOGIN', i);
		END LOOP;
	END $$}, dbname => 'other');
$other->query_safe('BEGIN; LOCK TABLE t');
value(q{SELECT supervisor.forget(supervisor.launch('SELECT count(*) FROM t')) FROM generate_series(1, 100)});
until_true(q{SELECT count(*) > 0 AND bool_and(activity = 'busy') FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running' AND pool = 'default'}, 'all workers are busy');
value(q{
	DO $$ BEGIN
		FOR i IN 1 .. 1500 LOOP
			EXECUTE format('SET LOCAL ROLE r%s', i);
			PERFORM supervisor.forget(supervisor.launch('SELECT 1'));
			RESET ROLE;
		END LOOP;
	END $$}, dbname => 'other');
my $ddl = SupervisorTest::session($node);
$ddl->query_safe('BEGIN; ALTER DATABASE other RENAME TO another');
$other->query_safe('COMMIT');
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE datname = 'postgres' AND usename <> 'app' AND state IN ('queued', 'running')}, 'workers are free, and tasks of many roles are left');
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE state = 'queued'}), '1500', 'which have to wait');
$ddl->query_safe('ROLLBACK');
$ddl->quit;
value(q{SELECT count(supervisor.cancel(task)) FROM supervisor.task_status WHERE state = 'queued'});
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE usename <> 'app' AND state IN ('queued', 'running')}, 'they are canceled');
continue_process();
becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')}, 'the process that did not end does');
short('bindings that are blocked, and that are served again');

is(value(q{SELECT supervisor.restart_pool('default', '0')}), 'f', 'the pool is replaced');
$other->query_safe('BEGIN; ALTER DATABASE other RENAME TO another; COMMIT; DROP DATABASE another');
value('ALTER ROLE app SET work_mem = 1000');
value('SELECT supervisor.stop_worker(name) FROM supervisor.worker WHERE enabled');
value(q{SELECT supervisor.reset_stats()});
short('what is asked of all workers');
value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind = 'command'}, 'all declared workers are removed');
SupervisorTest::set($node, 'supervisor.pool_size' => 1);
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE pool = 'default'}, 'the pool shrinks');
short('workers that go');
value(q{SELECT supervisor.add_worker('wide', 'SELECT 1', instances => 950, run_every => '1 h')});
my $wide = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE name = 'wide'};
becomes(sprintf($wide, 950), 'a worker of many instances');
value(q{SELECT supervisor.restart_worker('wide', '0')});
value(q{SELECT supervisor.stop_worker('wide')});
value(q{SELECT supervisor.start_worker('wide', '0')});
value(q{SELECT supervisor.alter_worker('wide', instances => 3)});
becomes(sprintf($wide, 3), 'it has few');
value(q{SELECT supervisor.remove_worker('wide')});
becomes(sprintf($wide, 0), 'and is removed');
short('many instances of one worker');

# Nearly as many rows as there may be, most of roles that have a share of them.
value('CREATE DATABASE rows');
value(q{
	CREATE EXTENSION supervisor;
	SELECT supervisor.add_worker('d' || i, 'SELECT 1', enabled => false, 
		role => CASE WHEN i <= 500 THEN 'r1' WHEN i <= 1000 THEN 'r2' WHEN i <= 1250 THEN 'r3' END) FROM generate_series(1, 1900) i},
	dbname => 'rows');
my $rows = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE datname = 'rows'};
becomes(sprintf($rows, 1900), 'many rows are read');
short('many rows that come');
value(q{DO $$ BEGIN PERFORM supervisor.start_worker(name, '0') FROM supervisor.worker WHERE name LIKE 'd1%' LIMIT 800; RAISE 'no'; EXCEPTION WHEN raise_exception THEN END $$}, dbname => 'rows');
short('many that are started by a transaction that is rolled back');
value('DELETE FROM supervisor.worker WHERE name > $$d1$$', dbname => 'rows');
becomes(sprintf($rows, 1), 'nearly all rows are deleted');
short('many rows that go at once');
value(q{SELECT supervisor.add_worker('d' || i, 'SELECT 1', enabled => false) FROM generate_series(2, 1900) i}, dbname => 'rows');
becomes(sprintf($rows, 1900), 'many rows are read');
SupervisorTest::set($node, 'supervisor.databases' => 'postgres');
becomes(sprintf($rows, 0), 'their database is not for such workers any more');
short('many rows that do not count');
SupervisorTest::set($node, 'supervisor.databases' => '*');
becomes(sprintf($rows, 1900), 'and is again');
value('DROP DATABASE rows');
becomes(sprintf($rows, 0), 'it is dropped');
short('many rows that go with their database');
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'supervisor'});
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'all is well');
$other->quit;
$node->stop;
short('another supervisor, and the end');

done_testing();
