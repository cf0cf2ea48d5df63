# Declared workers outlive what their database does: a dump and its restore, a
# copy, a restart, a crash, a promotion.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(until_true value workers_become);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my %settings = (
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 40,
	'supervisor.max_workers' => 30,
	'supervisor.pool_size' => 1);

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', SupervisorTest::conf(%settings, 'restart_after_crash' => 'on'));
$node->start;

SupervisorTest::ask(\$node);

# The table, as text.
sub rows
{
	my ($database) = @_;

	return value('SELECT w FROM supervisor.worker w ORDER BY name', dbname => $database);
}

sub dump_of
{
	my ($database, @options) = @_;
	my $file = "$tmp/" . join('', 'dump', map { tr/a-z//cdr } @options);

	command_ok(
		[ 'pg_dump', '--no-sync', '-h', $node->host, '-p', $node->port, '-d', $database, '-f', $file,
			@options ],
		"pg_dump @options");
	return $file;
}

# Returns pg_restore's stderr.
sub restore
{
	my ($file, $database, @options) = @_;
	my ($stdout, $stderr);

	IPC::Run::run([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', $database,
			@options, $file ], '>', \$stdout, '2>', \$stderr);
	return $stderr;
}

note 'dump and restore';

# One of each: what runs, what is stopped, what waits, an odd name and command, all columns.
$node->safe_psql('postgres', q{
	CREATE EXTENSION supervisor;
	CREATE ROLE owner LOGIN CREATEDB;
	CREATE ROLE "odd role" LOGIN;
	CREATE ROLE leaver LOGIN;
	CREATE DATABASE a OWNER owner});
value(q{
	CREATE EXTENSION supervisor;
	CREATE TABLE t (i int);
	ALTER TABLE t OWNER TO owner;
	SELECT supervisor.add_worker('runs', 'SELECT 1', run_every => '1 h');
	SELECT supervisor.add_worker(E'odd "name\'s\\ttab', E'SELECT \'a\\nb\\t\\\\\' /* \u00e4 */', run_every => '1 h', role => 'odd role',
		settings => ARRAY['search_path="odd, name"', E'my.tag=it\'s\ta tag']);
	SELECT supervisor.add_worker('stopped', 'SELECT 1', run_every => '1 h', enabled => false);
	SELECT supervisor.add_worker('all', 'SELECT 1', run_every => '1 h 1 s', type => 'type', role => 'owner', instances => 2,
		start_after => 'consistent_state', restart => 'on_failure', restart_delay => '2 s', restart_delay_max => '3 s',
		max_restarts => 4, restart_window => '5 s', start_timeout => '6 s', stop_timeout => '7 s', run_timeout => '8 s',
		bypass_allowconn => true);
	SELECT supervisor.add_worker('long', rpad('SELECT 1', 100000), run_every => '1 h');
	SELECT supervisor.add_worker('left', 'SELECT 1', run_every => '1 h', role => 'leaver');
	GRANT EXECUTE ON FUNCTION supervisor.add_worker, supervisor.remove_worker TO owner}, dbname => 'a');
value('DROP ROLE leaver');
my $states = qq{all running, all running, long running, odd "name's\ttab running, runs running, stopped stopped disabled};
my $states_left = $states =~ s/long/left waiting no_role, long/r;
workers_become('a', $states_left, 'workers');
my $rows = join "\n", grep { !/^\(left/ } split /\n(?=\()/, rows('a');

my $file = dump_of('a', '-Fc');
value('CREATE DATABASE b TEMPLATE template0');
is(restore($file, 'b'), '', 'pg_restore has nothing to complain of');
is(rows('b'), $rows, 'all rows are there but that of a role that is gone');
is(value(q{SELECT has_function_privilege('owner', 'supervisor.remove_worker(text)', 'EXECUTE')}, dbname => 'b'), 't', 'so are grants');
workers_become('b', $states, 'and their workers run at once');
is(restore($file, 'b', '--clean', '--if-exists'), '', 'again, with --clean');
is(rows('b'), $rows, 'they are the same');
workers_become('b', $states, 'and run');
value('DROP DATABASE b');
value('CREATE DATABASE b TEMPLATE template0');
is(restore($file, 'b', '--single-transaction', '--exit-on-error'), '', 'in a single transaction');
workers_become('b', $states, 'and run');
is(restore($file, 'b', '--single-transaction', '--clean'), '', 'again with --clean');
workers_become('b', $states, 'and run');
is(value('SELECT count(*) FROM supervisor.worker', dbname => 'b'), '5', 'nothing is there twice');
value('DROP DATABASE b');

value('CREATE DATABASE b TEMPLATE template0');
is(restore($file, 'b', '--schema-only'), '', 'only the schema');
is(rows('b'), '', 'has no workers');
is(restore($file, 'b', '--data-only', '--disable-triggers'), '', 'only the data, with triggers disabled');
is(rows('b'), $rows, 'has all of them');
workers_become('b', $states, 'and they run');
value('DROP DATABASE b');

value('CREATE DATABASE b TEMPLATE template0');
$node->safe_psql('b', slurp_file(dump_of('a', '--inserts')));
workers_become('b', $states, 'a restore by INSERT');
value('DROP DATABASE b');

# The database's owner can dump it.  The extension, its grants and its workers are a superuser's to restore.
my $own = dump_of('a', '-Fc', '-U', 'owner');
my $without = dump_of('a', '-Fc', '-U', 'owner', '--exclude-table-data=supervisor.*');

# What fails of a restore by the owner.
sub fails_for_owner
{
	my @what = restore($own, 'b', '-U', 'owner') =~ /^Command was: (GRANT|COPY \S+|\w+ (?:ON )?EXTENSION|SELECT \S+setval|.*)/mg;
	my %once = map { $_ => 1 } @what;

	return join ', ', sort keys %once;
}

value('CREATE DATABASE b TEMPLATE template0 OWNER owner');
is(fails_for_owner(), 'COMMENT ON EXTENSION, COPY supervisor.job, COPY supervisor.worker, CREATE EXTENSION, GRANT, SELECT pg_catalog.setval',
	'a restore by the owner lacks the extension and what is in it');
is(value(q{SELECT count(*) FROM pg_tables WHERE tablename = 't'}, dbname => 'b'), '1', 'the rest is there');
value('DROP DATABASE b');

value('CREATE DATABASE b TEMPLATE template0 OWNER owner');
value('CREATE EXTENSION supervisor', dbname => 'b');
is(fails_for_owner(), 'COMMENT ON EXTENSION, COPY supervisor.job, COPY supervisor.worker, GRANT, SELECT pg_catalog.setval', 'where a superuser has created it, what is in it');
is(value(q{SELECT count(*) FROM pg_tables WHERE tablename = 't'}, dbname => 'b'), '1', 'the rest is there');
is(rows('b'), '', 'and no worker');
is(restore($own, 'b', '--data-only', '--table=worker'), '', 'a superuser adds them');
workers_become('b', $states, 'and they run');
value('DROP DATABASE b');

value('CREATE DATABASE b TEMPLATE template0 OWNER owner');
value('CREATE EXTENSION supervisor; GRANT EXECUTE ON FUNCTION supervisor.add_worker TO owner', dbname => 'b');
is(restore($without, 'b', '-U', 'owner', '--no-comments', '--no-privileges'), '', 'without these the owner has nothing to complain of');
value(q{SELECT supervisor.add_worker('mine', 'SELECT 1', run_every => '1 h')}, dbname => 'b', user => 'owner');
workers_become('b', 'mine running', 'and adds the workers that he may add');
value('DROP DATABASE b');

note 'copies and clones';

value('CREATE DATABASE b TEMPLATE a');
is(rows('b'), rows('a'), 'a copy has the same rows');
workers_become('b', $states_left, 'and runs them');
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
my $off = join ', ', map { "$_ stopped disabled" } 'all', 'all', 'left', 'long', qq{odd "name's\ttab}, 'runs', 'stopped';
workers_become($_, $off, "start_workers off stops all in $_") foreach ('a', 'b');
is(value(q{SELECT DISTINCT detail FROM supervisor.worker_status WHERE name = 'runs'}), 'supervisor.start_workers is off', 'and says so');
$node->restart;
workers_become($_, $off =~ s/(all stopped disabled), all stopped disabled/$1, all stopped disabled/r, "also after a restart, in $_")
  foreach ('a', 'b');
value('CREATE DATABASE c TEMPLATE a');
workers_become('c', $off, 'and in a new copy');
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
workers_become($_, $states_left, "on again, they run in $_") foreach ('a', 'b', 'c');
value('DROP DATABASE c');

note 'restarts';

$node->restart;
workers_become($_, $states_left, "after a restart, they run in $_") foreach ('a', 'b');
$node->stop('immediate');
$node->start;
workers_become($_, $states_left, "after an immediate shutdown, in $_") foreach ('a', 'b');
my $log = -s $node->logfile;
my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'runs' AND datname = 'a'});
kill 'KILL', $pid;
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
until_true('SELECT true', 'the server comes back');
workers_become($_, $states_left, "after a crash, in $_") foreach ('a', 'b');
$pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
my $before = value(q{SELECT string_agg(name || generation, ' ' ORDER BY name, instance) FROM supervisor.worker_status WHERE datname = 'a'});
value("SELECT pg_terminate_backend($pid, 180000)");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor'}) or die 'no new supervisor';
is( value(q{SELECT string_agg(name || generation, ' ' ORDER BY name, instance) FROM supervisor.worker_status WHERE datname = 'a'}),
	$before, 'a new supervisor leaves them as they are');
SupervisorTest::set($node, 'supervisor.databases' => 'postgres, b');
workers_become('a', '', 'where they shall not run they do not');
workers_become('b', $states_left, 'where they shall they do');
SupervisorTest::set($node, 'supervisor.databases' => '*');
workers_become('a', $states_left, 'everywhere again');
value('DROP DATABASE b');

value("ALTER SYSTEM RESET supervisor.start_workers");
value("ALTER SYSTEM RESET supervisor.databases");

note 'a standby';

my $recovers = join ', ', 'all running, all running, left waiting no_role',
	(map { "$_ waiting recovery" } 'long', qq{odd "name's\ttab}, 'runs'), 'stopped stopped disabled';
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', SupervisorTest::conf('supervisor.start_workers' => 'off'));
$standby->start;

sub caught_up
{
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
}

workers_become('a', $off, 'a clone with start_workers off runs none', node => $standby);
is(value(q{SELECT DISTINCT detail FROM supervisor.worker_status WHERE name = 'runs'}, node => $standby),
	'supervisor.start_workers is off', 'and says so');
$standby->append_conf('postgresql.conf', "supervisor.start_workers = on\n");
$standby->reload;
workers_become('a', $recovers, 'with it those run that may on a standby, others wait', node => $standby);
is( value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'type' AND datname = 'a' AND usename = 'owner'}, node => $standby),
	'2', 'they are connected');

# A change of the primary's is seen when the standby is reloaded.
value(q{
	SELECT supervisor.alter_worker('all', instances => 1);
	SELECT supervisor.remove_worker('long');
	SELECT supervisor.add_worker('there', 'SELECT pg_is_in_recovery()', run_every => '1 h', start_after => 'consistent_state')}, dbname => 'a');
value('CREATE DATABASE b TEMPLATE template0');
value(q{
	CREATE EXTENSION supervisor;
	SELECT supervisor.add_worker('there', 'SELECT 1', run_every => '1 h', start_after => 'consistent_state');
	SELECT supervisor.add_worker('once', 'CREATE TABLE made ()', run_every => '1 h')}, dbname => 'b');
caught_up();
$standby->reload;
$recovers = join ', ', 'all running, left waiting no_role', qq{odd "name's\ttab waiting recovery},
	'runs waiting recovery, stopped stopped disabled, there running';
workers_become('a', $recovers, 'what the primary changed is followed after a reload', node => $standby);
workers_become('b', 'once waiting recovery, there running', 'also in a new database', node => $standby);
my ($sqlstate) = SupervisorTest::error_of($standby, q{SELECT supervisor.stop_worker('there')}, dbname => 'a');
is($sqlstate, '25006', 'the table can not be written there');
($sqlstate) = SupervisorTest::error_of($standby, q{SELECT supervisor.stop_worker('nobody')}, dbname => 'a');
is($sqlstate, '42704', 'but one that has no row there needs no writing');
is(value(q{SELECT supervisor.restart_worker('there', '3 min')}, node => $standby, dbname => 'a'), 't', 'a worker can be restarted');
value('SELECT pg_terminate_backend(pid, 180000) FROM pg_stat_activity WHERE backend_type = \'supervisor\'', node => $standby);
workers_become('a', $recovers, 'a new supervisor keeps them', node => $standby);
$standby->restart;
workers_become('a', $recovers, 'and a restart of the standby', node => $standby);

# Replay ends sessions that are in its way, and workers come back.
value('ALTER DATABASE b RENAME TO c');
caught_up();
value('DROP DATABASE c');
caught_up();
is(value(q{SELECT count(*) FROM pg_database WHERE datname IN ('b', 'c')}, node => $standby), '0',
	'a database that is dropped on the primary is dropped there, though workers are in it');
value('CREATE DATABASE b TEMPLATE template0');
value(q{
	CREATE EXTENSION supervisor;
	CREATE TABLE made (at timestamptz);
	SELECT supervisor.add_worker('late', 'INSERT INTO made VALUES (pg_postmaster_start_time())', run_every => '1 h')}, dbname => 'b');

note 'promotion';

# What the standby has read of this one is out of date when it is promoted.
value('CREATE DATABASE d TEMPLATE template0');
value(q{
	CREATE EXTENSION supervisor;
	CREATE TABLE ran ();
	SELECT supervisor.add_worker('rests', 'INSERT INTO ran DEFAULT VALUES', run_every => '1 h')}, dbname => 'd');
workers_become('d', 'rests running', 'a worker of another database');
caught_up();
$standby->reload;
workers_become('d', 'rests waiting recovery', 'a standby knows it', node => $standby);
value(q{SELECT supervisor.stop_worker('rests', '3 min'); TRUNCATE ran}, dbname => 'd');

caught_up();
$node->stop;
$before = value(q{SELECT string_agg(name || generation, ' ' ORDER BY name, instance) FROM supervisor.worker_status
	WHERE datname = 'a' AND state = 'running'}, node => $standby);
$standby->promote;
my $promoted = join ', ', 'all running, left waiting no_role', qq{odd "name's\ttab running},
	'runs running, stopped stopped disabled, there running';
workers_become('a', $promoted, 'at promotion all start', node => $standby);
workers_become('d', 'rests stopped disabled', 'but not one that has been stopped since', node => $standby);
is(value('SELECT count(*) FROM ran', node => $standby, dbname => 'd'), '0', 'and it has not run first');
workers_become('b', 'late running', 'those that it did not know of, too', node => $standby);
ok($standby->poll_query_until('b', q{SELECT count(*) = 1 FROM made WHERE at = pg_postmaster_start_time()}), 'they can write');
is( value(q{SELECT string_agg(name || generation, ' ' ORDER BY name, instance) FROM supervisor.worker_status
		WHERE datname = 'a' AND name IN ('all', 'there')}, node => $standby),
	$before, 'those that ran run on');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE datname = 'c' OR datname IS NULL AND kind = 'command'}, node => $standby), '0',
	'and nothing is left of a dropped database');
value(q{SELECT supervisor.stop_worker('there', '3 min')}, node => $standby, dbname => 'a');
workers_become('a', $promoted =~ s/there running/there stopped disabled/r, 'the table can be written', node => $standby);

done_testing();
