# pg_upgrade keeps declared workers, and runs none meanwhile: from the server
# whose installation PG_TEST_OLD_SERVER names, which has the extension too, or
# from the same version.  Not every minor version can follow every other: from one
# that is newer than the new server, pg_upgrade may fail whatever is in it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(value workers_become);

my $old_server = $ENV{PG_TEST_OLD_SERVER};
my %settings = (
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 30,
	'supervisor.pool_size' => 2);
# 18 makes them if it is not told
my @initdb = ('--encoding=UTF8', '--locale=C', '--data-checksums');

my $node;

SupervisorTest::ask(\$node);

sub old_node
{
	my ($name) = @_;

	my $node = PostgreSQL::Test::Cluster->new($name, defined $old_server ? (install_path => $old_server) : ());
	$node->init(extra => \@initdb);
	return $node;
}

sub new_node
{
	my ($name) = @_;

	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => \@initdb);
	return $node;
}

# The command that makes one of the other.  It leaves a script where it is run.
my $new_bindir = SupervisorTest::pg_config('bindir');
chdir $PostgreSQL::Test::Utils::tmp_check or die "could not chdir: $!";

sub upgrade
{
	my ($from, $to) = @_;

	return [ "$new_bindir/pg_upgrade", '--no-sync',
		'-d', $from->data_dir, '-D', $to->data_dir,
		'-b', defined $old_server ? "$old_server/bin" : $new_bindir, '-B', $new_bindir,
		'-s', $to->host, '-p', $from->port, '-P', $to->port ];
}

# The lines of its logs that say what went wrong.
sub errors_of_upgrade
{
	my ($to) = @_;

	return map { slurp_file($_) =~ /^.*(?:error|ERROR|FATAL):.*$/mg } glob $to->data_dir . '/pg_upgrade_output.d/*/log/*.log';
}

if (defined $old_server)
{
	my ($from, $to) = (old_node('plain_old'), new_node('plain_new'));

	$from->start;
	$from->safe_psql('postgres', 'CREATE TABLE plain (n int PRIMARY KEY, t text NOT NULL)');
	$from->stop;
	if (!run_log(upgrade($from, $to)))
	{
		my ($why) = errors_of_upgrade($to);

		plan skip_all => 'these servers cannot upgrade a plain table either: ' . ($why // 'see the log');
	}
}

my $old = old_node('old');
$old->append_conf('postgresql.conf', SupervisorTest::conf(%settings));
$old->start;
$node = $old;

# What must be the same afterwards.
my %same = (
	'the rows' => 'SELECT w, role::oid FROM supervisor.worker w ORDER BY name',
	'the jobs' => 'SELECT j, j.role::oid FROM supervisor.job j ORDER BY id',
	'their runs' => 'SELECT r FROM supervisor.job_run r ORDER BY finished_at',
	'their origin' => 'SELECT o FROM supervisor.origin o',
	'the roles' => 'SELECT oid, rolname FROM pg_roles WHERE oid >= 16384 ORDER BY oid',
	'the triggers' => q{SELECT tgname, tgenabled, tgfoid::regproc FROM pg_trigger
		WHERE tgrelid = 'supervisor.worker'::regclass ORDER BY tgname},
	'what is dumped' => q{SELECT extversion, extconfig::regclass[], extcondition FROM pg_extension WHERE extname = 'supervisor'},
	# but for types of rows, which belong to their tables, and from 17 on to the extension as well
	'what is the extension\'s' => q{SELECT pg_describe_object(classid, objid, objsubid)
		FROM pg_depend JOIN pg_extension e ON refobjid = e.oid
		WHERE refclassid = 'pg_extension'::regclass AND extname = 'supervisor' AND deptype = 'e'
			AND classid <> 'pg_type'::regclass ORDER BY 1},
	# but for the owner's: the server may know more of them
	'the rights' => q{SELECT object, grantee, privilege_type
		FROM (SELECT oid::regclass::text AS object, relowner AS owner, coalesce(relacl, acldefault('r', relowner)) AS acl
				FROM pg_class WHERE relnamespace = 'supervisor'::regnamespace
			UNION ALL SELECT oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
				FROM pg_proc WHERE pronamespace = 'supervisor'::regnamespace
			UNION ALL SELECT nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = 'supervisor') o, aclexplode(acl)
		WHERE grantee <> owner ORDER BY 1, 2, 3});

sub state_of_database
{
	my ($database) = @_;

	return { map { $_ => value($same{$_}, dbname => $database) } keys %same };
}

# A row tells which server has run it.
value(q{
	CREATE ROLE gone LOGIN;
	CREATE ROLE owner LOGIN;
	CREATE ROLE "odd role" LOGIN;
	CREATE DATABASE one OWNER owner;
	CREATE DATABASE two});
value('CREATE EXTENSION supervisor', dbname => $_) foreach qw(postgres one two);
foreach my $database (qw(one two))
{
	value(q{
		GRANT EXECUTE ON FUNCTION supervisor.run TO owner;
		CREATE TABLE ran (worker text, started timestamptz);
		GRANT ALL ON ran TO "odd role";
		SELECT supervisor.add_worker('ticks', 'INSERT INTO ran VALUES (''ticks'', pg_postmaster_start_time())',
			role => 'odd role', run_every => '10 ms');
		SELECT supervisor.add_worker('once', 'INSERT INTO ran VALUES (''once'', pg_postmaster_start_time())')}, dbname => $database);
}
value(q{
	SELECT supervisor.add_worker('left', 'SELECT 1', role => 'gone', run_every => '1 h');
	DROP ROLE gone;
	SELECT supervisor.add_worker('autoprewarm', library => 'pg_prewarm', function => 'autoprewarm_main');
	SELECT supervisor.add_worker(E'odd "name\'s\\ttab', E'SELECT \'a\\nb\\t\\\\\' /* \u00e4 */', run_every => '1 h', role => 'odd role',
		settings => ARRAY['search_path="odd, name"', E'my.tag=it\'s\ta tag']);
	SELECT supervisor.add_worker('rests', 'SELECT 1', run_every => '1 h', enabled => false);
	SELECT supervisor.add_worker('all', 'SELECT 1', run_every => '1 h 1 s', type => 'type', role => 'owner', instances => 2,
		start_after => 'consistent_state', restart => 'on_failure', restart_delay => '2 s', restart_delay_max => '3 s',
		max_restarts => 4, restart_window => '5 s', start_timeout => '6 s', stop_timeout => '7 s', run_timeout => '8 s',
		bypass_allowconn => true);
	SELECT supervisor.add_worker('long', rpad('SELECT 1', 100000), run_every => '1 h');
	-- as if it came from the script of an extension
	SELECT supervisor.add_worker('member', 'SELECT 1', run_every => '1 h');
	UPDATE supervisor.worker SET extension = 'plpgsql' WHERE name = 'member'}, dbname => 'one');

# Jobs: one that waits, one that has a time each day, and runs.
value(q{
	SELECT supervisor.enqueue('INSERT INTO ran VALUES (''job'', pg_postmaster_start_time())', run_at => 'infinity');
	SELECT supervisor.schedule('daily', '@daily', 'INSERT INTO ran VALUES (''daily'', pg_postmaster_start_time())', role => 'odd role');
	SELECT supervisor.enqueue('SELECT 7')}, dbname => 'one');
$old->poll_query_until('one', q{SELECT count(*) = 1 FROM supervisor.job_run WHERE result = '7'}) or die 'no job has run';

my %workers = (
	one => 'all running, all running, autoprewarm running, left waiting no_role, long running, member running, '
	  . qq{odd "name's\ttab running, once stopped exited, rests stopped disabled, ticks running},
	two => 'once stopped exited, ticks running');
my %before;

foreach my $database (sort keys %workers)
{
	workers_become($database, $workers{$database}, "workers of the old server, $database");
	$old->poll_query_until($database, q{SELECT count(DISTINCT worker) = 2 FROM ran}) or die 'nothing has run';
	$before{$database} = state_of_database($database);
}
my $started = value('SELECT pg_postmaster_start_time()');
my $version = value('SHOW server_version');
$old->stop;

my $new = new_node('new');
$new->append_conf('postgresql.conf', SupervisorTest::conf(%settings));

ok(run_log(upgrade($old, $new)), "pg_upgrade from $version") or die join "\n", 'pg_upgrade has said', errors_of_upgrade($new);
$new->start;
$node = $new;
note 'to ' . value('SHOW server_version');

foreach my $database (sort keys %workers)
{
	workers_become($database, $workers{$database}, "workers run on in the new server, $database");
	$new->poll_query_until($database, q{SELECT max(started) = pg_postmaster_start_time() FROM ran WHERE worker = 'ticks'})
	  or die 'nothing has run';
	is( value(qq{SELECT string_agg(DISTINCT worker, ' ' ORDER BY worker) FROM ran
			WHERE started NOT IN ('$started', pg_postmaster_start_time())}, dbname => $database),
		'', "none has run while it was upgraded, $database");
	is(value(q{SELECT count(*) FROM ran WHERE worker = 'once'}, dbname => $database), '2',
		"what runs once per start has run in the old server and the new, $database");
	my $after = state_of_database($database);
	is($after->{$_}, $before{$database}{$_}, "$_ afterwards as before, $database") foreach sort keys %same;
}

is(value(q{SELECT string_agg(concat_ws(' ', coalesce(name, 'one'), state, reason), ', ' ORDER BY job) FROM supervisor.job_status}, dbname => 'one'),
	'one scheduled held, daily scheduled', 'jobs are no copies');
is(value('SELECT supervisor.adopt_jobs()', dbname => 'one'), 0, 'and there is nothing to adopt');
value('SELECT supervisor.retry_job(job) FROM supervisor.job_status', dbname => 'one');
ok($new->poll_query_until('one', q{SELECT count(*) = 2 FROM ran WHERE worker IN ('job', 'daily') AND started = pg_postmaster_start_time()}), 'they run');
is(value(q{SELECT supervisor.enqueue('SELECT 1')}, dbname => 'one'), 4, 'and their numbers go on');

# The numbers of roles go on, too.
value("CREATE ROLE new$_ LOGIN") foreach (1 .. 5);
value(q{SELECT supervisor.add_worker('new', 'SELECT 1', role => 'new5', run_every => '1 h')}, dbname => 'one');
workers_become('one', $workers{one} =~ s/odd/new running, odd/r, 'the table can be written, and nobody gets a dropped role\'s, one');
is(value(q{SELECT n FROM supervisor.run('SELECT 7') AS (n int)}, dbname => 'one', user => 'owner'), '7', 'a role may do what it might');
value(q{UPDATE supervisor.worker SET enabled = false WHERE name = 'new'}, dbname => 'one');
workers_become('one', $workers{one} =~ s/odd/new stopped disabled, odd/r, 'the triggers tell of a change, one');
value(q{SELECT supervisor.start_worker('rests', '3 min')}, dbname => 'one');
workers_become('one', $workers{one} =~ s/odd/new stopped disabled, odd/r =~ s/rests stopped disabled/rests running/r,
	'a worker can be started, one');
$new->stop;

done_testing();
