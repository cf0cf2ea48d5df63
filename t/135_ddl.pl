# Declared workers and DDL: they make way for what is done to their database, and
# come back in the obvious state; what happens to their extension, role and row
# happens to them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value workers_become);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $library = SupervisorTest::build_library('connecting_worker');
my $node = SupervisorTest::new_node(
	'ddl',
	'allow_in_place_tablespaces' => 'on',
	'max_connections' => 50,
	'max_worker_processes' => 40,
	'supervisor.max_workers' => 30,
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);

# Which processes they are.
sub processes
{
	my ($where) = @_;

	return value(qq{
		SELECT string_agg(name || ':' || generation, ' ' ORDER BY name, instance)
		FROM supervisor.worker_status WHERE pid IS NOT NULL AND kind <> 'loader' AND } . ($where // q{kind IN ('command', 'library')}));
}

sub log_since
{
	my ($offset) = @_;

	return substr(slurp_file($node->logfile), $offset);
}

my $all_run = 'busy running, connected running, idle running';

# Waits until the three of a database do what they shall.
sub all_run
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	workers_become($database, $all_run, $property);
	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 3 FROM pg_stat_activity
		WHERE datname = '$database' AND
			(concat_ws(' ', backend_type, state) IN ('busy active', 'idle idle') OR backend_type LIKE 'connected%')})
	  or die "not all workers are in $database";
}

# A C function that connects to the database, whatever that is called.
sub add_connected
{
	my ($database) = @_;

	value(qq{
		SELECT supervisor.add_worker('connected', library => '$library', function => 'connecting_worker', argument => oid::int)
		FROM pg_database WHERE datname = current_database()}, dbname => $database);
}

# A database with one that is idle, one that is busy, and a C function.
sub populate
{
	my ($database) = @_;

	value("CREATE DATABASE $database");
	value(qq{
		SELECT supervisor.add_worker('idle', 'INSERT INTO ran VALUES (1)', run_every => '1 h');
		SELECT supervisor.add_worker('busy', 'SELECT pg_sleep(3600)')}, dbname => $database);
	add_connected($database);
	all_run($database, "workers run in $database");
}

value('CREATE EXTENSION supervisor; CREATE TABLE ran (i int)', dbname => 'template1');
value(q{
	CREATE ROLE plain LOGIN;
	CREATE ROLE maker LOGIN CREATEDB});
value("CREATE TABLESPACE place LOCATION ''");

note 'making way for DDL on their database';

populate('a');
populate('bystander');
my $bystanders = processes(q{datname = 'bystander'});
my $log = -s $node->logfile;

value('ALTER DATABASE a RENAME TO b');
all_run('b', 'they run in the database when it has another name');
value(q{DO $$ BEGIN ALTER DATABASE b RENAME TO a; END $$});
all_run('a', 'also if a function renames it');
value('ALTER DATABASE a SET TABLESPACE place');
all_run('a', 'in another tablespace');
value('ALTER DATABASE a SET TABLESPACE pg_default');
all_run('a', 'and back');
value(q{SELECT supervisor.remove_worker(name) FROM supervisor.worker WHERE library IS NOT NULL}, dbname => 'a');
value('CREATE DATABASE copy TEMPLATE a');
workers_become('a', 'busy running, idle running', 'when it has been copied');
workers_become('copy', 'busy running, idle running', 'and in the copy');
add_connected('a');
all_run('a', 'nor did that stop another');
is(value('SELECT count(*) FROM ran', dbname => 'a'), '1', 'the one that was idle keeps its schedule');
value('DROP DATABASE copy');
workers_become('copy', '', 'a dropped database has none');
my $last = value('SELECT max(id) FROM supervisor.event');
value('DROP DATABASE a WITH (FORCE)');
workers_become('a', '', 'nor has one that is dropped by force');
value('SELECT supervisor.restart_pool(\'default\', \'3 min\')');
is( value(qq{SELECT count(*) FROM supervisor.event WHERE id > $last AND name ~ '^(idle|busy|connected)'
		AND event IN ('starting', 'running', 'backoff')}),
	'0', 'and none has been tried again');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name ~ '^(idle|busy|connected)'}), '3', 'only the others are left');
is(processes(q{datname = 'bystander'}), $bystanders, 'which were not disturbed');
my $said = log_since($log);
unlike($said, qr/FATAL(?!:  terminating background worker)/, 'nobody ended with a FATAL but C functions, which are terminated');
unlike($said, qr/worker "(idle|busy|connected)" in slot \d+ ended/, 'nor is an end reported as failed');
unlike($said, qr/could not read/, 'nor has the loader failed');

# the loader, as any of them
populate('a');
value(q{SELECT supervisor.stop_worker(name) FROM supervisor.worker}, dbname => 'a');
foreach my $i (1 .. 5)
{
	value("UPDATE supervisor.worker SET run_timeout = '$i min' WHERE name = 'idle'", dbname => 'a');
	value('ALTER DATABASE a RENAME TO b');
	value("UPDATE supervisor.worker SET run_timeout = '$i h' WHERE name = 'idle'", dbname => 'b');
	value('ALTER DATABASE b RENAME TO a');
}
pass('a loader that reads the table makes way');
value(q{SELECT supervisor.start_worker(name) FROM supervisor.worker}, dbname => 'a');
all_run('a', 'and they start again');

note 'rolled back';

my $session = SupervisorTest::session($node);
my $fenced = 'busy waiting fenced, connected waiting fenced, idle waiting fenced';
$session->query_safe('BEGIN; SAVEPOINT s');
$session->query_safe('ALTER DATABASE a RENAME TO b');
workers_become('a', $fenced, 'they wait while a rename is not committed');
$session->query_safe('ROLLBACK TO s');
workers_become('a', $fenced, 'also when it has been rolled back to a savepoint');
$session->query_safe('ROLLBACK');
all_run('a', 'and run again at the end of the transaction');
$session->query_safe('BEGIN; SAVEPOINT s');
$session->query_safe('ALTER DATABASE a RENAME TO b');
$session->query_safe('ROLLBACK TO s; COMMIT');
all_run('a', 'whatever that is');
my $before = processes(q{datname = 'a'});
$session->query_safe('BEGIN; ALTER DATABASE a RENAME TO b');
my $pid = $session->pid;
value("SELECT pg_terminate_backend($pid, 180000)");
all_run('a', 'or if its session ends');
eval { $session->quit };
isnt(processes(q{datname = 'a'}), $before, 'they had left');

note 'several at once';

my @databases = map { "several$_" } 1 .. 3;
populate($_) foreach @databases;
my @sessions = map { SupervisorTest::session($node) } @databases;
$sessions[$_]->query_safe("BEGIN; ALTER DATABASE $databases[$_] RENAME TO renamed$_") foreach 0 .. 2;
workers_become($_, $fenced, "$_ is left") foreach @databases;
$sessions[1]->query_safe('ROLLBACK');
all_run($databases[1], 'one comes back');
workers_become($databases[$_], $fenced, "and $databases[$_] does not") foreach 0, 2;
$sessions[$_]->query_safe('COMMIT') foreach 0, 2;
foreach (0, 2)
{
	all_run("renamed$_", 'another under its new name');
}
$_->quit foreach @sessions;
value("DROP DATABASE $_") foreach 'renamed0', 'several2', 'renamed2';
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE datname ~ 'several|renamed'}), '0', 'no worker stays behind');

note 'what fails disturbs nobody';

$before = processes();
value(q{DO $$ BEGIN EXECUTE 'DROP DATABASE a'; EXCEPTION WHEN OTHERS THEN NULL; END $$}, user => 'plain');
all_run('a', 'a DROP that failed, and whose error was caught, ends no worker');
is(processes(), $before, 'not even for a moment');
foreach my $role ('plain', 'maker')
{
	refused($_, '42501', "$role: $_", user => $role)
	  foreach (
		'DROP DATABASE a', 'ALTER DATABASE a RENAME TO b', 'ALTER DATABASE a SET TABLESPACE place',
		'CREATE DATABASE b TEMPLATE a', 'ALTER DATABASE a ALLOW_CONNECTIONS false', 'ALTER DATABASE a IS_TEMPLATE true');
}
refused("BEGIN; $_", '25001', "in a transaction block: $_")
  foreach ('DROP DATABASE a', 'ALTER DATABASE a SET TABLESPACE place', 'CREATE DATABASE b TEMPLATE a');
refused('ALTER DATABASE a RENAME TO bystander', '42P04', 'a name that is taken');
all_run('a', 'they have not been away for long');
is(processes(q{datname = 'bystander'}), $bystanders, 'those of others not at all');

# somebody else is there
my $there = SupervisorTest::session($node, dbname => 'a');
refused('DROP DATABASE a', '55006', 'a database that somebody uses is not dropped');
all_run('a', 'its workers come back');
$there->quit;

note 'databases that nobody may connect to';

my $not_allowed = join ', ', map { "$_ waiting database_not_allowed" } qw(busy connected idle);
value('ALTER DATABASE a ALLOW_CONNECTIONS false');
workers_become('a', $not_allowed =~ s/connected waiting \w+/connected running/r,
	'commands end, and wait; where a C function connects to is its own affair');
value('ALTER DATABASE a ALLOW_CONNECTIONS true');
all_run('a', 'until it allows connections');
value(q{SELECT supervisor.alter_worker('idle', bypass_allowconn => true)}, dbname => 'a');
all_run('a', 'a command may be allowed to connect all the same');
value('ALTER DATABASE a ALLOW_CONNECTIONS false');
workers_become('a', $not_allowed =~ s/(connected|idle) waiting \w+/$1 running/gr, 'and then does');
value('ALTER DATABASE a ALLOW_CONNECTIONS true');
all_run('a', 'as the other, when it may');
value('ALTER DATABASE a IS_TEMPLATE true');
workers_become('a', $not_allowed, 'in a template nothing runs');
value('ALTER DATABASE a IS_TEMPLATE false');
all_run('a', 'until it is none');
$before = processes(q{datname = 'a'});
value('ALTER DATABASE a CONNECTION LIMIT 0');
value('SELECT 1', dbname => 'a');
is(processes(q{datname = 'a'}), $before, 'a limit of connections is not for them');
value('ALTER DATABASE a CONNECTION LIMIT -1');

# DROP DATABASE that is canceled once it can not be undone
SKIP:
{
	my $lock = SupervisorTest::session($node);
	my $drop = SupervisorTest::session($node);
	my $drop_pid = $drop->pid;

	$lock->query_safe('BEGIN; LOCK TABLE pg_tablespace IN ACCESS EXCLUSIVE MODE');
	$drop->begin('DROP DATABASE a');
	becomes("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $drop_pid", 'a database is half dropped');
	value("SELECT pg_cancel_backend($drop_pid)");
	like(($drop->finish)[1], qr/57014/, 'and then is not');
	$lock->query_safe('ROLLBACK');
	skip 'this server does not know invalid databases', 3
	  if value(q{SELECT datconnlimit FROM pg_database WHERE datname = 'a'}) ne '-2';
	workers_become('a', $not_allowed, 'workers of an invalid database wait');
	value('SELECT supervisor.restart_pool(\'default\', \'3 min\')');
	is(value(q{SELECT bool_and(detail ~ 'invalid') FROM supervisor.worker_status WHERE datname = 'a'}), 't', 'and say why');
	$lock->quit;
	$drop->quit;
}
value('DROP DATABASE a');
workers_become('a', '', 'until it is dropped');

note 'the extension is dropped';

populate('a');
$before = processes(q{datname = 'a'});
value('BEGIN; DROP EXTENSION supervisor; ROLLBACK', dbname => 'a');
value('BEGIN; SAVEPOINT s; DROP EXTENSION supervisor; ROLLBACK TO s; COMMIT', dbname => 'a');
value('ALTER DATABASE a CONNECTION LIMIT -1');
refused('SELECT supervisor.stop_worker(\'none\')', '42704', 'and it is all there', dbname => 'a');
is(processes(q{datname = 'a'}), $before, 'DROP EXTENSION that is rolled back does nothing');
value('DROP EXTENSION supervisor', dbname => 'a');
workers_become('a', '', 'they end when it is committed');
value('CREATE EXTENSION supervisor', dbname => 'a');
value(q{SELECT supervisor.add_worker('idle', 'SELECT 1', run_every => '1 h')}, dbname => 'a');
workers_become('a', 'idle running', 'it can be created again');
{
	my ($drop, $restart) = map { SupervisorTest::session($node, dbname => 'a') } 1, 2;
	my $log = -s $node->logfile;

	$drop->query_safe('BEGIN; DROP EXTENSION supervisor');
	$restart->begin(q{SELECT supervisor.restart_worker('idle')});
	value(q{SELECT supervisor.terminate_worker(slot) FROM supervisor.worker_status WHERE name = 'idle' AND datname = 'a'});
	becomes(q{
		SELECT count(*) = 2 FROM pg_locks l, pg_stat_activity a
		WHERE a.pid = l.pid AND a.datname = 'a' AND NOT granted AND backend_type IN ('client backend', 'idle')},
		'a session and a worker wait for the table');
	$drop->query_safe('COMMIT');
	my (undef, $stderr) = $restart->finish;
	is(SupervisorTest::sqlstate($stderr), '55000', 'the session is told that it has gone') or diag $stderr;
	workers_become('a', '', 'the worker ends');
	unlike(slurp_file($node->logfile, $log), qr/could not open relation/, 'without an error');
	$_->quit foreach ($drop, $restart);
}
value('CREATE ROLE owner SUPERUSER LOGIN');
value('CREATE EXTENSION supervisor', dbname => 'a', user => 'owner');
value(q{SELECT supervisor.add_worker('idle', 'SELECT 1', run_every => '1 h')}, dbname => 'a', user => 'owner');
workers_become('a', 'idle running', 'by another superuser');
value('DROP OWNED BY owner', dbname => 'a');
workers_become('a', '', 'DROP OWNED takes it, and them, along');
value('CREATE EXTENSION supervisor', dbname => 'a', user => 'owner');
value(q{SELECT supervisor.add_worker('idle', 'SELECT 1', run_every => '1 h')}, dbname => 'a', user => 'owner');
workers_become('a', 'idle running', 'once more');
value('REASSIGN OWNED BY owner TO plain', dbname => 'a');
workers_become('a', '', 'given to a non-superuser role, they end');
value('DROP OWNED BY plain', dbname => 'a');
value('CREATE EXTENSION supervisor', dbname => 'a');

note 'the role of a worker';

value(q{
	CREATE ROLE worker LOGIN;
	SELECT supervisor.add_worker('of_role', 'SELECT 1', run_every => '1 h', role => 'worker')}, dbname => 'a');
value(q{SELECT supervisor.add_worker('other', 'SELECT 1', run_every => '1 h')}, dbname => 'a');
workers_become('a', 'of_role running, other running', 'a worker of another role');
$before = processes(q{datname = 'a'});
value('ALTER ROLE worker RENAME TO renamed');
is(value(q{SELECT role FROM supervisor.worker WHERE name = 'of_role'}, dbname => 'a'), 'renamed', 'its row follows ALTER ROLE ... RENAME');
is(value(q{SELECT usename FROM supervisor.worker_status WHERE name = 'of_role'}), 'renamed', 'so does the view');
is(processes(q{datname = 'a'}), $before, 'and it runs on');
value('ALTER ROLE renamed NOLOGIN');
$node->psql('a', q{SELECT supervisor.restart_worker('of_role', '0 s')});
workers_become('a', 'of_role waiting no_login, other running', 'it waits while its role may not log in');
value('ALTER ROLE renamed LOGIN');
workers_become('a', 'of_role running, other running', 'and no longer');
value('REVOKE CONNECT ON DATABASE a FROM PUBLIC');
$node->psql('a', q{SELECT supervisor.restart_worker('of_role', '0 s')});
workers_become('a', 'of_role waiting database_not_allowed, other running', 'nor may connect');
value('GRANT CONNECT ON DATABASE a TO renamed');
workers_become('a', 'of_role running, other running', 'until it may');
value('DROP OWNED BY renamed', dbname => 'a');
value('GRANT CONNECT ON DATABASE a TO PUBLIC');
value('DROP ROLE renamed');
workers_become('a', 'of_role waiting no_role, other running', 'without its role it ends, and waits');
value('CREATE ROLE renamed LOGIN');
value('SELECT supervisor.restart_pool(\'default\', \'3 min\')');
workers_become('a', 'of_role waiting no_role, other running', 'another role of that name is another');
value(q{SELECT supervisor.alter_worker('of_role', role => 'renamed')}, dbname => 'a');
workers_become('a', 'of_role running, other running', 'with that it runs');
is(value(q{SELECT string_agg(name || ':' || generation, ' ') FROM supervisor.worker_status WHERE name = 'other'}),
	$before =~ /(other:\d+)/ ? $1 : '', 'all of which did not disturb the other');
value(q{SELECT supervisor.remove_worker('of_role')}, dbname => 'a');
value('DROP ROLE renamed');
refused('DROP ROLE public', '22023', 'what core refuses it refuses in its own words');

note 'a superuser writes to the table';

value(q{
	INSERT INTO supervisor.worker (name, command, run_every, role) VALUES
		('one', 'SELECT 1', '1 h', 'postgres'), ('two', 'SELECT 2', '1 h', 'postgres')}, dbname => 'a');
workers_become('a', 'one running, other running, two running', 'INSERT adds workers');
$before = processes(q{datname = 'a' AND name <> 'one'});
value(q{UPDATE supervisor.worker SET command = 'SELECT 11' WHERE name = 'one'}, dbname => 'a');
becomes(q{SELECT restarts = 1 AND state = 'running' FROM supervisor.worker_status WHERE name = 'one'}, 'UPDATE replaces a process');
value(q{UPDATE supervisor.worker SET restart = 'sometimes' WHERE name = 'one'}, dbname => 'a');
workers_become('a', 'one failed invalid, other running, two running', 'what makes no sense is a worker that has failed');
value(q{UPDATE supervisor.worker SET restart = 'always' WHERE name = 'one'}, dbname => 'a');
workers_become('a', 'one running, other running, two running', 'until it does');
value(q{BEGIN; UPDATE supervisor.worker SET command = 'SELECT 12' WHERE name = 'two'; ROLLBACK}, dbname => 'a');
is(processes(q{datname = 'a' AND name <> 'one'}), $before, 'which does not disturb the others');
value("COPY supervisor.worker (name, command, run_every, role) FROM stdin;\nthree\tSELECT 3\t1 h\tpostgres\n\\.\n", dbname => 'a');
workers_become('a', 'one running, other running, three running, two running', 'COPY adds one');
value(q{BEGIN; TRUNCATE supervisor.worker; ROLLBACK}, dbname => 'a');
value(q{DELETE FROM supervisor.worker WHERE name = 'three'}, dbname => 'a');
workers_become('a', 'one running, other running, two running', 'DELETE removes one');
is(processes(q{datname = 'a' AND name <> 'one'}), $before, 'and no other');
value('ALTER EXTENSION supervisor DROP TABLE supervisor.worker', dbname => 'a');
workers_become('a', '', 'a table that is none of the extension has no workers');
value('ALTER EXTENSION supervisor ADD TABLE supervisor.worker', dbname => 'a');
workers_become('a', 'one running, other running, two running', 'until it is again');
value('TRUNCATE supervisor.worker', dbname => 'a');
workers_become('a', '', 'TRUNCATE removes all');
value('DROP DATABASE a');

note 'an extension that adds workers';

my $root = "$tmp/server";
my %dir = SupervisorTest::copy_installation($root);
my %files = (
	'busybody.control' => "default_version = '1.0'\nrequires = 'supervisor'\nrelocatable = true\n",
	'busybody--1.0.sql' => q{
		CREATE TABLE things ();
		SELECT supervisor.add_worker('helper', 'SELECT 1', run_every => '1 h');
		SELECT supervisor.add_worker('twins', 'SELECT 1', run_every => '1 h', instances => 2);
	},
	'busybody--1.0--1.1.sql' => q{
		SELECT supervisor.remove_worker('twins');
		SELECT supervisor.alter_worker('helper', instances => 2);
		SELECT supervisor.add_worker('single', 'SELECT 1', run_every => '1 h');
	});
append_to_file("$root$dir{sharedir}/extension/$_", $files{$_}) foreach keys %files;

$node->stop;
system_or_bail('pg_ctl', '--wait', '-p', "$root$dir{bindir}/postgres", '-D', $node->data_dir, '-l', $node->logfile, 'start');
$node->_update_pid(1);

value('CREATE DATABASE a');
value(q{
	CREATE EXTENSION busybody VERSION '1.0';
	SELECT supervisor.add_worker('own', 'SELECT 1', run_every => '1 h')}, dbname => 'a');
workers_become('a', 'helper running, own running, twins running, twins running', 'its script adds workers');
is( value(q{SELECT string_agg(concat_ws(' ', name, extension), ', ' ORDER BY name) FROM supervisor.worker}, dbname => 'a'),
	'helper busybody, own, twins busybody', 'which belong to it');
refused(q{SELECT supervisor.remove_worker('helper')}, '2BP01', 'and are not removed alone', dbname => 'a');
is(value(q{SELECT supervisor.stop_worker('helper', '3 min')}, dbname => 'a'), 't', 'but stopped');
is(value(q{SELECT supervisor.start_worker('helper', '3 min')}, dbname => 'a'), 't', 'and started');

command_ok([ 'pg_dump', '--no-sync', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-f', "$tmp/busybody.sql", 'a' ], 'it is dumped');
my $dump = slurp_file("$tmp/busybody.sql");
like($dump, qr/^own\t/m, 'with the workers that are nobody\'s');
unlike($dump, qr/^(helper|twins)\t/m, 'and without its own');
value('CREATE DATABASE restored TEMPLATE template0');
$node->safe_psql('restored', $dump);
workers_become('restored', 'helper running, own running, twins running, twins running', 'after the restore there is each of them');
value('DROP DATABASE restored');

$before = processes(q{datname = 'a'});
value('BEGIN; DROP EXTENSION busybody; ROLLBACK', dbname => 'a');
value(q{ALTER EXTENSION busybody UPDATE TO '1.1'}, dbname => 'a');
workers_become('a', 'helper running, helper running, own running, single running', 'a later script changes them');
is(value(q{SELECT string_agg(DISTINCT extension::text, ' ') FROM supervisor.worker}, dbname => 'a'), 'busybody', 'they are still its own');
like(processes(q{datname = 'a' AND name IN ('helper', 'own')}), qr/\b(helper:\d+) .*\b(own:\d+)/, 'and run');
value('DROP EXTENSION busybody', dbname => 'a');
workers_become('a', 'own running', 'they go with it');
is(value('SELECT string_agg(name, \' \') FROM supervisor.worker', dbname => 'a'), 'own', 'and so do their rows');
like($before, qr/\Q${\processes(q{datname = 'a'})}\E/, 'the other has not been disturbed');
value('CREATE EXTENSION busybody', dbname => 'a');
value('CREATE ROLE boss SUPERUSER LOGIN');
value('DROP EXTENSION busybody; SET ROLE boss; CREATE EXTENSION busybody', dbname => 'a');
value('DROP OWNED BY boss', dbname => 'a');
workers_become('a', 'own running', 'DROP OWNED takes them along');

# What is looked for by its name keeps it.
$before = processes(q{datname = 'a'});
refused($_, '0A000', $_, dbname => 'a', message => qr/cannot rename .*"supervisor.*DETAIL:  The extension "supervisor" looks for it by its name/s)
  foreach 'ALTER SCHEMA supervisor RENAME TO other', 'ALTER TABLE supervisor.worker RENAME TO other',
	'ALTER TABLE supervisor.worker SET SCHEMA public';
value(q{
	ALTER SCHEMA supervisor OWNER TO boss;
	ALTER SCHEMA supervisor OWNER TO postgres;
	CREATE SCHEMA mine; CREATE TABLE mine.worker ();
	ALTER SCHEMA mine RENAME TO other; ALTER TABLE other.worker RENAME TO workers; ALTER TABLE other.workers SET SCHEMA public;
	DROP TABLE workers; DROP SCHEMA other}, dbname => 'a');
workers_become('a', 'own running', 'what else is altered there is not refused');
is(processes(q{datname = 'a'}), $before, 'and nothing has been disturbed');
value('CREATE EXTENSION busybody', dbname => 'a');
value('DROP EXTENSION supervisor CASCADE', dbname => 'a');
workers_become('a', '', 'without supervisor there is none');
is(value(q{SELECT count(*) FROM pg_extension WHERE extname = 'busybody'}, dbname => 'a'), '0', 'nor is there what needs it');
refused('CREATE EXTENSION busybody', '42704', 'which can not be created alone', dbname => 'a');

done_testing();
