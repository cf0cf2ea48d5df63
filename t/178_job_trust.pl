# Nobody writes to the tables of jobs but superusers, and what they write by
# themselves is a copy, which runs nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(refused value);

my $node = SupervisorTest::new_node('job_trust', 'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);

my %row = (
	job => q{(id, role, pool, priority, run_at, command, max_attempts, attempts, crashes, runs, atomic, enabled, state, origin, enqueued_at)
		VALUES (%d, 'postgres', 'default', 5, now(), 'CREATE TABLE pwned ()', 20, 0, 0, 0, true, true, 'w', 1, now())},
	job_history => q{(job, attempt, role, pool, state, enqueued_at, run_at, finished_at, command)
		VALUES (%d, 1, 'postgres', 'default', 'succeeded', now(), now(), now(), 'SELECT 1')},
	origin => q{SELECT gen_random_uuid() WHERE %d > 0});

value(q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE writer LOGIN IN ROLE pg_write_all_data, pg_read_all_data;
	CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	GRANT ALL ON ALL TABLES IN SCHEMA supervisor TO mallory});

foreach my $table (sort keys %row)
{
	note "table $table";

	my $column = $table eq 'origin' ? 'nonce' : 'command';
	my $insert = "INSERT INTO supervisor.$table " . sprintf $row{$table}, 1;
	my $superuser = qr/must be superuser to write to table "supervisor\.$table"/;

	value($insert);
	foreach my $user (qw(mallory writer))
	{
		refused($_, '42501', "$user: $_", user => $user, message => $superuser)
		  foreach "INSERT INTO supervisor.$table " . sprintf($row{$table}, 2),
		  "UPDATE supervisor.$table SET $column = $column", "DELETE FROM supervisor.$table";
	}
	refused("TRUNCATE supervisor.$table", '42501', 'nor is it truncated', user => 'mallory', message => $superuser);
	refused("CREATE TRIGGER mine BEFORE INSERT ON supervisor.$table FOR EACH ROW EXECUTE FUNCTION mine()",
		'42501', 'nor is a trigger made', user => 'mallory',
		message => qr/must be owner of table $table/);
	refused($_, '0A000', $_, message => qr/cannot rename or move table "supervisor\.$table"/)
	  foreach "ALTER TABLE supervisor.$table RENAME TO other", "ALTER TABLE supervisor.$table SET SCHEMA public";
	value("ALTER TABLE supervisor.$table SET (fillfactor = 70); CREATE TABLE public.$table (); DROP TABLE public.$table");
	value("SET session_replication_role = replica; "
		  . "SET enable_seqscan = off; UPDATE supervisor.$table SET $column = $column");
}
value('CREATE ROLE nobody LOGIN');
refused("SELECT FROM supervisor.$_", '42501', "nobody reads $_", user => 'nobody') foreach sort keys %row;
refused('SELECT supervisor.job_changed()', '39P01', 'a trigger function is none to call');

note 'copies';

value('INSERT INTO supervisor.job ' . sprintf($row{job}, 2));
value('SET session_replication_role = replica; INSERT INTO supervisor.job ' . sprintf($row{job}, 3));
value('COPY (SELECT * FROM supervisor.job WHERE id = 2) TO ' . "'" . $node->data_dir . "/job'");
value('DELETE FROM supervisor.job WHERE id = 2; COPY supervisor.job FROM ' . "'" . $node->data_dir . "/job'");
is(value('SELECT string_agg(id || coalesce(origin::text, \' copy\'), \', \' ORDER BY id) FROM supervisor.job'),
	'1 copy, 2 copy, 3 copy', 'what is inserted or copied in, also as replication does it, is a copy');

note 'dumps';

my $dump = $node->data_dir . '/dump';

value('CREATE ROLE gone; CREATE DATABASE restored TEMPLATE template0');
value("UPDATE supervisor.job SET role = 'gone' WHERE id = 3; DROP ROLE gone; SELECT setval('supervisor.job_id_seq', 41)");
$node->run_log([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ]);
$node->run_log([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ]);
is(value(q{SELECT string_agg(id::text, ',' ORDER BY id) FROM supervisor.job WHERE origin IS NULL}, dbname => 'restored'),
	'1,2', 'jobs are dumped, without those of roles that are gone');
is(value(q{SELECT nextval('supervisor.job_id_seq')}, dbname => 'restored'), 42, 'and so is their sequence');
is(value('SELECT count(*) FROM supervisor.job_history', dbname => 'restored'), 0, 'but no history');
value('CREATE ROLE owner LOGIN; ALTER DATABASE restored OWNER TO owner');
$node->command_ok([ 'pg_dump', '-U', 'owner', '-d', $node->connstr('restored'), '-f', $dump ], 'the owner of a database can dump it');
isnt(value('SELECT nonce FROM supervisor.origin LIMIT 1', dbname => 'restored'), value('SELECT nonce FROM supervisor.origin LIMIT 1'),
	'nor the place that they belong to');

done_testing();
