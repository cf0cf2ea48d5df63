# Who may read our tables and views, or log in, can have nobody wait for that: not by
# commands for which core locks a table, or a database, before it asks whose that is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes until_true);

my $node = SupervisorTest::new_node('main');
SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE noone LOGIN;
	CREATE SCHEMA his AUTHORIZATION noone;
	CREATE SCHEMA other;
	CREATE TABLE other.worker (name name);
	GRANT USAGE ON SCHEMA other TO noone});
value(q{
	CREATE TABLE his.parted (LIKE supervisor.worker) PARTITION BY LIST (name);
	CREATE INDEX parted_name ON his.parted (name);
	CREATE TABLE his.own (name name);
	CREATE FUNCTION his.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$}, user => 'noone');

# Somebody who reads, and one who is about to write: for whoever wants to lock more.
my $reader = SupervisorTest::session($node, user => 'noone');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT FROM supervisor.worker, supervisor.worker_status, supervisor.pool_status');
my $writer = SupervisorTest::session($node);
$writer->query_safe('BEGIN');
$writer->query_safe('LOCK TABLE supervisor.worker IN ROW EXCLUSIVE MODE');

my $session = SupervisorTest::session($node, user => 'noone');
$session->query_safe(q{SET lock_timeout = '1 s'});
foreach my $command (
	'CREATE RULE r AS ON INSERT TO supervisor.worker DO NOTHING',
	'CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO supervisor.worker_status DO INSTEAD SELECT 1',
	'CREATE RULE r AS ON INSERT TO supervisor.pool_status DO INSTEAD NOTHING',
	'DO $$BEGIN CREATE RULE r AS ON INSERT TO supervisor.worker DO NOTHING; END$$',
	'SET search_path = supervisor; CREATE RULE r AS ON INSERT TO worker DO NOTHING',
	'SET search_path = his, supervisor; CREATE RULE r AS ON INSERT TO worker DO NOTHING',
	'CREATE TRIGGER t BEFORE INSERT ON supervisor.worker FOR EACH ROW EXECUTE FUNCTION his.f()',
	'CREATE TRIGGER t INSTEAD OF INSERT ON supervisor.worker_status FOR EACH ROW EXECUTE FUNCTION his.f()',
	'CREATE TABLE his.part PARTITION OF supervisor.worker DEFAULT',
	'CREATE TEMP TABLE part PARTITION OF supervisor.worker DEFAULT',
	'CREATE TABLE his.heir () INHERITS (supervisor.worker)',
	'CREATE TABLE his.ref (name name REFERENCES supervisor.worker)',
	'CREATE TABLE his.ref (name name, FOREIGN KEY (name) REFERENCES supervisor.worker)',
	'ALTER TABLE his.own ADD FOREIGN KEY (name) REFERENCES supervisor.worker',
	'ALTER TABLE his.own ADD COLUMN other name REFERENCES supervisor.worker',
	'ALTER TABLE his.parted ATTACH PARTITION supervisor.worker DEFAULT',
	'ALTER TABLE his.parted DETACH PARTITION supervisor.worker',
	'ALTER INDEX his.parted_name ATTACH PARTITION supervisor.worker_pkey',
	'ALTER INDEX supervisor.worker_pkey DEPENDS ON EXTENSION plpgsql',
	'ALTER TRIGGER worker_changed ON supervisor.worker DEPENDS ON EXTENSION plpgsql',

	# core asks first
	'CREATE POLICY p ON supervisor.worker',
	'CREATE INDEX ON supervisor.worker (command)',
	'CREATE OR REPLACE VIEW supervisor.worker_status AS SELECT 1',
	'ALTER TABLE supervisor.worker DISABLE TRIGGER ALL',
	'ALTER TABLE supervisor.worker RENAME TO other',
	'ALTER TABLE supervisor.worker RENAME CONSTRAINT worker_pkey TO other',
	'ALTER TABLE supervisor.worker SET SCHEMA his',
	'ALTER INDEX supervisor.worker_pkey RENAME TO other',
	'ALTER VIEW supervisor.worker_status RENAME TO other',
	'ALTER TRIGGER worker_changed ON supervisor.worker RENAME TO other',
	'DROP TRIGGER worker_changed ON supervisor.worker',
	'DROP TABLE supervisor.worker',
	'DROP INDEX supervisor.worker_pkey',
	'DROP VIEW supervisor.worker_status',
	'DO $$BEGIN LOCK TABLE supervisor.worker IN ACCESS EXCLUSIVE MODE; END$$',
	'DO $$BEGIN LOCK TABLE supervisor.worker_status IN ACCESS EXCLUSIVE MODE; END$$',
	'TRUNCATE supervisor.worker',
	'CLUSTER supervisor.worker USING worker_pkey',
	'REINDEX TABLE supervisor.worker',
	'REINDEX INDEX supervisor.worker_pkey',
	q{COMMENT ON TABLE supervisor.worker IS 'x'},
	'INSERT INTO supervisor.worker DEFAULT VALUES',
	'SELECT FROM supervisor.worker FOR UPDATE')
{
	my ($path, $rest) = $command =~ /^(SET [^;]*); (.*)/;

	$session->query_safe($path) if $path;
	is(($session->error_of($rest // $command))[0] // 'none', '42501', $command);
	$session->query_safe('RESET search_path') if $path;
}

# Who has a setting in a database keeps that locked.
value('CREATE DATABASE db2');
$reader->query_safe(q{COMMIT; BEGIN; ALTER ROLE noone IN DATABASE db2 SET work_mem = '1 MB'; SELECT FROM supervisor.worker});
is(($session->error_of($_))[0] // 'none', '42501', $_)
  foreach 'DROP DATABASE db2', 'ALTER DATABASE db2 RENAME TO db3', 'ALTER DATABASE db2 SET TABLESPACE pg_default', 'ALTER DATABASE db2 CONNECTION LIMIT 5';

# Who copies one keeps it locked against whoever has begun to describe it, say, and logins wait behind him.
value('ALTER ROLE noone CREATEDB');
my $describer = SupervisorTest::session($node);
$describer->query_safe(q{BEGIN; COMMENT ON DATABASE db2 IS 'x'; COMMENT ON DATABASE template1 IS 'x'});
is(($session->error_of($_))[0] // 'none', '42501', $_) foreach 'CREATE DATABASE db4 TEMPLATE db2', 'CREATE DATABASE db4 TEMPLATE = db2 OWNER noone';
is(($session->error_of('CREATE DATABASE db4'))[0] // 'none', '55P03', 'a template everybody may copy');
is(($session->error_of('CREATE DATABASE db4 TEMPLATE nosuch'))[0] // 'none', '3D000', 'one that there is none is core\'s affair');
$describer->query_safe('COMMIT');
$describer->quit;
is(($session->error_of('DROP DATABASE db3'))[0] // 'none', '3D000', 'one that there is none is core\'s affair');

# VACUUM only warns.
my ($out, $err) = $session->query('VACUUM FULL supervisor.worker');
unlike($err, qr/lock timeout/, 'VACUUM FULL does not wait');

note 'whose table it is does what he likes';

value(q{
	SET search_path = his, supervisor;
	CREATE TABLE his.worker (name name PRIMARY KEY);
	CREATE RULE r AS ON INSERT TO worker DO NOTHING;
	CREATE TRIGGER t BEFORE INSERT ON worker FOR EACH ROW EXECUTE FUNCTION his.f();
	CREATE TABLE his.ref (name name REFERENCES worker);
	ALTER TABLE his.own ADD FOREIGN KEY (name) REFERENCES worker;
	CREATE TABLE his.heir () INHERITS (worker);
	DROP TABLE his.worker CASCADE}, user => 'noone');
foreach my $path ('his', 'his, supervisor', 'his, other')
{
	is(value(qq{
		SET search_path = $path;
		CREATE TABLE worker (name name PRIMARY KEY, boss name REFERENCES worker, other name, FOREIGN KEY (other) REFERENCES worker);
		SELECT count(*) FROM pg_constraint WHERE conrelid = 'his.worker'::regclass AND confrelid = 'his.worker'::regclass;
		DROP TABLE worker}, user => 'noone'), '2', "a table that refers to itself, with search_path $path");
	is(value(qq{
		SET search_path = $path;
		CREATE TEMP TABLE worker (name name PRIMARY KEY, boss name REFERENCES worker);
		SELECT count(*) FROM pg_constraint WHERE conrelid = 'pg_temp.worker'::regclass AND confrelid = 'pg_temp.worker'::regclass},
		user => 'noone'), '1', "a temporary one, with search_path $path");
}
is(($session->error_of('CREATE RULE r AS ON INSERT TO other.worker DO NOTHING'))[0], '42501', 'others\' tables are core\'s affair');
is(($session->error_of('CREATE RULE r AS ON INSERT TO nowhere.worker DO NOTHING'))[0], '3F000', 'as those that there are none');
$reader->query_safe('COMMIT');
$writer->query_safe('COMMIT');
value('CREATE RULE r AS ON INSERT TO supervisor.pool_status DO INSTEAD NOTHING; DROP RULE r ON supervisor.pool_status');
pass('a superuser may');

note 'a name that comes to be another\'s while it is looked up';

$session->query_safe('CREATE TABLE his.worker (name name)');
$session->query_safe('SET search_path = his, supervisor');
$session->query_safe(q{SET lock_timeout = 0});
my $renamer = SupervisorTest::session($node, user => 'noone');
$renamer->query_safe('BEGIN');
$renamer->query_safe('ALTER TABLE his.worker RENAME TO gone');
$reader->query_safe('BEGIN');
$reader->query_safe('SELECT FROM supervisor.worker');
my $pid = $session->pid;
$session->begin('CREATE RULE r AS ON INSERT TO worker DO NOTHING');
until_true("SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND NOT granted");
$renamer->query_safe('COMMIT');
becomes("SELECT count(*) = 0 FROM pg_locks WHERE pid = $pid AND NOT granted", 'the session does not come to wait for ours');
($out, $err) = $session->finish;
is(SupervisorTest::sqlstate($err), '42P01', 'his own is not there');

# Nor is what is not ours locked twice: two who do so would be in each other's way.
$session->query_safe('CREATE TABLE his.worker (name name)');
$renamer->query_safe('BEGIN');
$renamer->query_safe('SELECT FROM his.worker');
$session->begin('CREATE RULE r AS ON INSERT TO worker DO NOTHING');
until_true("SELECT count(*) = 1 FROM pg_locks WHERE pid = $pid AND NOT granted");
is(value("SELECT count(*) FROM pg_locks WHERE pid = $pid AND relation = 'his.worker'::regclass AND granted"), '0',
	'a table of somebody\'s own is locked by core alone');
$renamer->query_safe('COMMIT');
($out, $err) = $session->finish;
is($err, '', 'when it is free');
$reader->query_safe('COMMIT');

$_->quit foreach $session, $reader, $writer, $renamer;
$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
