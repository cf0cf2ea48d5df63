# A next version of the extension, made up here from this one by the rules of
# docs/design.md: its library under the SQL objects of 1.0, ALTER EXTENSION
# UPDATE while the pool and declared workers run, and both in the wrong order.
#
# It is installed into a copy of the server's installation.

use strict;
use warnings;

use File::Basename;
use File::Copy;
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(refused workers_become);

my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
my $root = PostgreSQL::Test::Utils::tempdir('installation');
my %dir = SupervisorTest::copy_installation($root);

sub run_or_die
{
	my @command = @_;

	system(@command) == 0 or die "@command failed";
}

# Returns the source of the next version.
sub make_next_version
{
	my $source = PostgreSQL::Test::Utils::tempdir('next');
	my $changed = sub {
		my ($file, $pattern, $replacement) = @_;
		my $text = slurp_file("$source/$file");

		$text =~ s/$pattern/$replacement->()/se or die "$file is not as it was: $pattern";
		unlink "$source/$file";
		append_to_file("$source/$file", $text);
	};

	run_or_die('cp', '-R', (map { "$FindBin::RealBin/../$_" } qw(Makefile META.json src supervisor.control supervisor--1.0.sql)), $source);
	$changed->('supervisor.control', qr/'1\.0'/, sub { q{'1.1'} });
	$changed->('Makefile', qr/^DATA = .*?$/m, sub { "$& supervisor--1.0--1.1.sql" });

	# the table has one more column, and a function writes it
	$changed->('src/row.h', qr/SUP_COL_EXTENSION\n/, sub { "SUP_COL_EXTENSION,\n\tSUP_COL_NOTE\n" });
	$changed->('src/row.h', qr/(#define SUP_WORKER_COLS) .*?\n/, sub { "$1 (SUP_COL_NOTE + 1)\n" });
	$changed->('src/row.c', qr/\[SUP_COL_EXTENSION\] = .*?\}/, sub { "$&,\n\t[SUP_COL_NOTE] = {\"note\", TEXTOID}" });
	append_to_file("$source/src/manage.c", q(
PG_FUNCTION_INFO_V1(supervisor_note_worker);
Datum
supervisor_note_worker(PG_FUNCTION_ARGS)
{
	Oid			table = sup_worker_table("supervisor.note_worker()");
	char	   *name = sup_worker_name_arg(fcinfo);
	SupTuple	row;
	SupRow		parsed;

	row_to_change(table, name, &row, &parsed);
	row.nulls[SUP_COL_NOTE] = false;
	row.values[SUP_COL_NOTE] = PG_GETARG_DATUM(1);
	sup_catalog_update(table, &row);
	PG_RETURN_VOID();
}
));

	# and a view
	$changed->('src/views.c', qr/#define POOL_COLS 15\n/, sub { "#define POOL_COLS 16\n" });
	$changed->('src/views.c', qr/supervisor_get_pools\(PG_FUNCTION_ARGS\)\n\{.*?\K\t\ttuplestore_putvalues/s,
		sub { "\t\tvalues[POOL_COLS - 1] = Int32GetDatum(13);\n$&" });
	append_to_file("$source/src/views.c", q(
PG_FUNCTION_INFO_V1(supervisor_get_pools_1_1);
Datum
supervisor_get_pools_1_1(PG_FUNCTION_ARGS)
{
	return supervisor_get_pools(fcinfo);
}
));

	append_to_file("$source/supervisor--1.0--1.1.sql", q{
\echo Use "ALTER EXTENSION supervisor UPDATE" to load this file. \quit

CREATE FUNCTION supervisor.note_worker(name text, note text) RETURNS void
AS 'MODULE_PATHNAME', 'supervisor_note_worker'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION supervisor.note_worker(text, text) FROM PUBLIC;

ALTER TABLE supervisor.worker ADD COLUMN note text;

CREATE FUNCTION supervisor.get_pools_1_1(
    OUT pool text, OUT size integer, OUT members text[], OUT running integer, OUT unbound integer, OUT idle integer, OUT busy integer,
    OUT queued_tasks integer, OUT tasks_succeeded bigint, OUT tasks_failed bigint, OUT tasks_canceled bigint,
    OUT jobs_succeeded bigint, OUT jobs_failed bigint,
    OUT stats_since timestamptz, OUT no_worker_since timestamptz, OUT more integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_pools_1_1'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4;

CREATE OR REPLACE VIEW supervisor.pool_status AS
SELECT pool, size, members, running, unbound, idle, busy, no_worker_since, queued_tasks, tasks_succeeded, tasks_failed, tasks_canceled,
    0::bigint AS due_jobs, jobs_succeeded, jobs_failed, stats_since, more
FROM supervisor.get_pools_1_1();
DROP FUNCTION supervisor.get_pools();
});
	return $source;
}

# Installs it as "make install" does.
sub install
{
	my ($source) = @_;

	delete local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	run_or_die('make', '-s', '-C', $source, 'install', "PG_CONFIG=$pg_config", "DESTDIR=$root");
}

my $next = make_next_version();
my $library = SupervisorTest::build_library('connecting_worker');

my $node = PostgreSQL::Test::Cluster->new('node', install_path => dirname("$root$dir{bindir}"));
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 30,
	'supervisor.pool_size' => 3));
$node->start;

SupervisorTest::ask(\$node);

# In one database, if not told otherwise.
sub value
{
	my ($sql, %opts) = @_;

	return SupervisorTest::value($sql, dbname => 'one', %opts);
}

# All processes.
sub processes
{
	return value(q{SELECT string_agg(concat_ws(' ', slot, generation, pid), ', ' ORDER BY slot)
		FROM supervisor.worker_status WHERE kind <> 'loader'}, dbname => 'two');
}

# Waits for a run of the worker "ticks" that begins after this.
sub ticks
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $now = value('SELECT clock_timestamp()', dbname => $database);

	ok($node->poll_query_until($database, "SELECT max(at) > '$now' FROM ran"), "$property, $database");
}

sub version_of
{
	my ($database) = @_;

	return value(q{SELECT extversion FROM pg_extension WHERE extname = 'supervisor'}, dbname => $database);
}

# All that 1.0 has.
sub works
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @opts = (dbname => $database);

	is( value(q{
			SELECT n FROM supervisor.run('SELECT 7') AS (n int)
			UNION ALL SELECT count(tag) FROM supervisor.execute_all(ARRAY['SELECT 1', 'SELECT 2'])
			UNION ALL SELECT n FROM supervisor.result(supervisor.launch('SELECT $1::int', ARRAY['5'])) AS (n int)}, @opts),
		"7\n2\n5", "tasks: $property, $database");
	value(q{CALL supervisor.perform('CREATE TABLE made ()')}, @opts);
	value('DROP TABLE made', @opts);
	is(value('SELECT mine FROM my_view', user => 'app', @opts), '3', "views and grants: $property, $database");
	value($_, @opts) foreach map { "SELECT * FROM supervisor.$_" } qw(worker worker_status pool_status task_status event);
	is(value(q{SELECT supervisor.restart_pool('default', '3 min')}, @opts), 't', "restart_pool: $property, $database");
	value(q{SELECT supervisor.add_worker('more', 'SELECT 1', run_every => '1 h', enabled => false)}, @opts);
	value(q{SELECT supervisor.alter_worker('more', 'SELECT 2', role => 'app', instances => 2)}, @opts);
	is( value(q{SELECT command, run_every, role, instances, restart, enabled FROM supervisor.worker WHERE name = 'more'}, @opts),
		'SELECT 2|01:00:00|app|2|always|f', "add_worker and alter_worker: $property, $database");
	is(value("SELECT supervisor.${_}_worker('more', '3 min')", @opts), 't', "${_}_worker: $property, $database")
	  foreach qw(start restart stop);
	value(q{SELECT supervisor.remove_worker('more')}, @opts);
}

value(q{CREATE ROLE app LOGIN}, dbname => 'postgres');

sub set_up
{
	my ($database) = @_;

	value("CREATE DATABASE $database", dbname => 'postgres');
	value(qq{
		CREATE EXTENSION supervisor VERSION '1.0';
		GRANT EXECUTE ON FUNCTION supervisor.run, supervisor.execute TO app;
		CREATE VIEW my_view AS SELECT size AS mine FROM supervisor.pool_status;
		GRANT SELECT ON my_view TO app;
		CREATE TABLE ran (at timestamptz);
		SELECT supervisor.add_worker('library', library => '$library', function => 'connecting_worker', argument => oid::int)
			FROM pg_database WHERE datname = current_database();
		SELECT supervisor.add_worker('rests', 'SELECT 1', enabled => false);
		SELECT supervisor.add_worker('ticks', 'INSERT INTO ran VALUES (clock_timestamp())', run_every => '10 ms')},
		dbname => $database);
}

my $all = 'library running, rests stopped disabled, ticks running';
value('CREATE EXTENSION supervisor', dbname => 'postgres');
set_up($_) foreach qw(one two);
value('CREATE DATABASE three', dbname => 'postgres');
workers_become($_, $all, "workers run, $_") foreach qw(one two);

note 'the new version is installed, and the server not restarted';

copy("$root$dir{pkglibdir}/supervisor.so", "$root/old.so") or die "could not copy: $!";
install($next);
my $before = processes();
like(refused('ALTER EXTENSION supervisor UPDATE', '42883', 'UPDATE is refused', dbname => 'one'),
	qr/could not find function "supervisor_note_worker"/, 'since the library does not have it');
is(processes(), $before, 'and has changed no process');
is(version_of('one'), '1.0', 'nor anything else');
refused('CREATE EXTENSION supervisor', '42883', 'so is CREATE EXTENSION', dbname => 'three');
works('one', 'not restarted');
ticks('one', 'not restarted');

note 'the new library under 1.0';

$node->restart;
workers_become($_, $all, "workers run, $_") foreach qw(one two);
foreach my $database (qw(one two))
{
	is(version_of($database), '1.0', "1.0, $database");
	works($database, 'new library');
	ticks($database, 'new library');
}
is(value(q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'supervisor.pool_status'::regclass AND attnum > 0}), '16', 'the views are those of 1.0');

note 'UPDATE while all runs';

# It runs tasks until the update has committed, and a while longer.
value(q{
	CREATE FUNCTION load() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		before int := 0;
		version text;
	BEGIN
		LOOP
			SELECT v INTO STRICT version
			FROM supervisor.run('SELECT extversion FROM pg_extension WHERE extname = ''supervisor''') AS (v text);
			EXIT WHEN version = '1.1';
			before := before + 1;
		END LOOP;
		FOR i IN 1..200 LOOP
			PERFORM supervisor.execute('SELECT 1');
		END LOOP;
		RETURN before > 0;
	END $$});
SupervisorTest::wait_ready($node, 'default', 3);
my $load = SupervisorTest::session($node, dbname => 'one', user => 'app');
$before = value(q{SELECT tasks_succeeded FROM supervisor.pool_status});
$load->begin('SELECT load()');
ok($node->poll_query_until('postgres', "SELECT tasks_succeeded > $before + 50 FROM supervisor.pool_status"), 'tasks are run');

my $session = SupervisorTest::session($node, dbname => 'one');
$session->query_safe('BEGIN');
$session->query_safe('ALTER EXTENSION supervisor UPDATE');
ticks('one', 'a worker runs while UPDATE is not committed');
value(q{SELECT supervisor.restart_worker(slot, '0 s') FROM supervisor.worker_status WHERE name = 'ticks' AND datname = 'one'},
	dbname => 'two');
ok($node->poll_query_until('two', q{SELECT count(*) > 0 FROM pg_locks
		WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = 'one')}),
	'one that starts waits for it');
$session->query_safe('ROLLBACK');
$session->quit;
ticks('one', 'and starts then');
is(version_of('one'), '1.0', 'an UPDATE that is rolled back has done nothing');
$before = processes();
is(value(q{SELECT supervisor.execute('ALTER EXTENSION supervisor UPDATE')}), 'ALTER EXTENSION', 'UPDATE, in a task');
my ($stdout, $stderr) = $load->finish;
is($stdout . $stderr, 't', 'no task was lost by it');
$load->quit;
is(version_of('one') . ' ' . version_of('two'), '1.1 1.0', 'it is of one database');
is(processes(), $before, 'no process has been replaced');
workers_become($_, $all, "workers run, $_") foreach qw(one two);
ticks($_, 'updated') foreach qw(one two);
is(value(q{SELECT more FROM supervisor.pool_status}), '13', 'the view has its new column');
value(q{SELECT supervisor.note_worker('ticks', 'noted')});
value(q{SELECT supervisor.alter_worker('ticks', run_every => '11 ms')});
is( value(q{SELECT run_every, note FROM supervisor.worker WHERE name = 'ticks'}), '00:00:00.011|noted',
	'the table has its, which a function writes and another leaves alone');
refused(q{SELECT supervisor.note_worker('ticks', 'mine')}, '42501', 'the new function is nobody else\'s', dbname => 'one', user => 'app');
works($_, 'updated') foreach qw(one two);
value('CREATE EXTENSION supervisor', dbname => 'three');
is(version_of('three'), '1.1', 'a new database has the new version');

# of the old version and of the new into the new
foreach my $database (qw(one two))
{
	my $file = "$PostgreSQL::Test::Utils::tmp_check/dump_of_$database";

	$node->command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr($database), '-f', $file ], "pg_dump $database");
	value('CREATE DATABASE copy TEMPLATE template0', dbname => 'postgres');
	value("\\i $file", dbname => 'copy');
	is(version_of('copy'), '1.1', "a dump of $database is restored as the new version");
	is( value(q{SELECT string_agg(name || coalesce(' ' || note, ''), ', ' ORDER BY name) FROM supervisor.worker}, dbname => 'copy'),
		'library, rests, ticks' . ($database eq 'one' ? ' noted' : ''),
		"with its workers, $database");
	ticks('copy', "which run, $database");
	value('DROP DATABASE copy', dbname => 'postgres');
}

note 'the old library again';

$node->stop;
copy("$root$dir{pkglibdir}/supervisor.so", "$root/new.so") or die "could not copy: $!";
# not written into: the server may not have quite ended yet
rename("$root/old.so", "$root$dir{pkglibdir}/supervisor.so") or die "could not rename: $!";
my $log = -s $node->logfile;
$node->start;
workers_become('two', $all, 'workers of 1.0 run, two');
$node->wait_for_log(qr/declared workers of database \d+ are not run: the table supervisor.worker has other columns/, $log);
workers_become('one', '', 'those of 1.1 do not, one');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks run');
refused(q{SELECT supervisor.add_worker('more', 'SELECT 1')}, '55000', 'the table is not written', dbname => 'one');
refused(q{SELECT supervisor.note_worker('ticks', 'x')}, '42883', 'a function that it has not is missing', dbname => 'one');
refused(q{SELECT * FROM supervisor.pool_status}, '42883', 'also below a view', dbname => 'one');
$node->stop;
rename("$root/new.so", "$root$dir{pkglibdir}/supervisor.so") or die "could not rename: $!";
$node->start;
workers_become($_, $all, "with the new one workers run again, $_") foreach qw(one two);
is(value(q{SELECT note FROM supervisor.worker WHERE name = 'ticks'}), 'noted', 'and nothing is lost');
$node->stop;

done_testing();
