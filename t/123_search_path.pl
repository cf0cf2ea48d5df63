# Planted objects, the extension's own script and what it gives away; dropping
# it while it works; dump and restore of its privileges.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(refused value);

my $node = SupervisorTest::new_node(
	'search_path',
	'autovacuum' => 'off',
	'supervisor.pool_size' => 2);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE owner LOGIN CREATEDB;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO alice;
	CREATE DATABASE planted OWNER owner});

SupervisorTest::ask(\$node);

note 'CREATE EXTENSION where somebody has planted something';

refused('CREATE EXTENSION supervisor', '42501', "a database's owner may not create it", dbname => 'planted', user => 'owner');
refused('CREATE EXTENSION supervisor SCHEMA public', '0A000', 'nor anybody put it elsewhere', dbname => 'planted');
value(q{
	CREATE SCHEMA supervisor;
	CREATE TABLE supervisor.worker (name text);
	CREATE FUNCTION supervisor.run(text, text[], text, interval) RETURNS SETOF record LANGUAGE sql AS 'SELECT 1'},
	dbname => 'planted', user => 'owner');
refused('CREATE EXTENSION supervisor', '42P06', 'a schema of its name is not taken over', dbname => 'planted');
refused('CREATE EXTENSION IF NOT EXISTS supervisor CASCADE', '42P06', 'in no way', dbname => 'planted');
is(value(q{SELECT count(*) FROM pg_extension WHERE extname = 'supervisor'}, dbname => 'planted'), '0', 'and nothing is created');
value('DROP SCHEMA supervisor CASCADE', dbname => 'planted', user => 'owner');

# Whatever an unqualified name in the script or in a view might find; each says so if it is used.
my $plant = q{
	CREATE SCHEMA evil;
	GRANT ALL ON SCHEMA evil TO PUBLIC;
	CREATE FUNCTION evil.trap(name text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped by %', name USING ERRCODE = 'TRAP0'; END $$;
	CREATE FUNCTION evil.oideq(oid, oid) RETURNS bool LANGUAGE sql AS $$ SELECT evil.trap('=') $$;
	CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.oideq);
	CREATE FUNCTION evil.texteq(text, text) RETURNS bool LANGUAGE sql AS $$ SELECT evil.trap('text =') $$;
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.texteq);
	CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() FROM evil.trap('now') $$;
	CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$ SELECT '' FROM evil.trap('set_config') $$;
	CREATE FUNCTION evil.get_workers() RETURNS SETOF int LANGUAGE sql AS $$ SELECT 1 FROM evil.trap('get_workers') $$;
	CREATE TYPE evil.text AS (a int);
	CREATE TYPE evil.interval AS (a int);
	CREATE DOMAIN evil.timestamptz AS pg_catalog.timestamptz CHECK (evil.trap('timestamptz'));
	CREATE DOMAIN evil.bigint AS pg_catalog.int8 CHECK (evil.trap('bigint'));
	CREATE DOMAIN evil.oid AS pg_catalog.oid CHECK (evil.trap('oid'));
	CREATE TABLE evil.pg_database (oid pg_catalog.oid, datname name);
	CREATE TABLE evil.pg_authid (oid pg_catalog.oid, rolname name);
	CREATE TABLE evil.pg_extension (extname name)};
value($plant, dbname => 'planted', user => 'owner');
value('ALTER DATABASE planted SET search_path = evil, pg_catalog', user => 'owner');
value('CREATE EXTENSION supervisor', dbname => 'planted');
is( value(
		q{SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend
		  WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
		  AND refobjid OPERATOR(pg_catalog.=) 'evil'::pg_catalog.regnamespace::pg_catalog.oid
		  AND deptype OPERATOR(pg_catalog.=) 'e'}, dbname => 'planted'),
	'0', 'nothing of the extension is in a planted schema');
value('DROP SCHEMA evil CASCADE', dbname => 'planted', user => 'owner');
like(value('SELECT count(*) FROM supervisor.worker_status', dbname => 'planted'), qr/^\d+$/, 'and nothing of it depends on one');
is( value(
		q{SELECT string_agg(DISTINCT nspname, ' ') FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
		  JOIN pg_proc p ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass JOIN pg_namespace n ON n.oid = p.pronamespace
		  WHERE extname = 'supervisor'}, dbname => 'planted'),
	'supervisor', 'all of it is in its own schema');
value($plant, dbname => 'planted', user => 'owner');
value($plant);

note 'calls under any search_path';

# In a session where a name finds the planted object first, and one that also has them in pg_temp.
foreach my $case (
	[ 'planted objects first', 'SET search_path = evil, pg_catalog' ],
	[ 'nothing in it', q{SET search_path = ''} ],
	[ 'only the planted', 'SET search_path = evil, pg_temp' ],
	[ 'temporary objects first', 'SET search_path = pg_temp, evil, pg_catalog; CREATE TEMP TABLE pg_database (oid pg_catalog.oid); CREATE TEMP TABLE pg_authid (oid pg_catalog.oid); CREATE TEMP TABLE worker_status (a int)' ])
{
	my ($what, $setting) = @$case;

	foreach my $user ('alice', undef)
	{
		my $session = SupervisorTest::session($node, user => $user);
		my $name = "$what, " . ($user // 'a superuser');

		$session->query_safe($setting);
		like($session->query_safe("SELECT pg_catalog.count(*) FROM supervisor.$_"), qr/^\d+$/, "$name: $_ can be read")
		  foreach (qw(worker_status pool_status task_status job_status job_run event));
		is($session->query_safe(q{SELECT a FROM supervisor.run('SELECT pg_catalog.length(current_database())') AS t(a pg_catalog.int4)}), '8', "$name: run");
		is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$name: execute");
		is($session->query_safe(q{SELECT tag FROM supervisor.execute_all(ARRAY['SELECT 1'])}), 'SELECT 1', "$name: execute_all");
		is($session->query_safe(q{CALL supervisor.perform('SELECT 1')}), '', "$name: perform");
		my $task = $session->query_safe(q{SELECT supervisor.launch('SELECT pg_catalog.pg_sleep(3600)')});
		is($session->query_safe("SELECT supervisor.cancel($task)"), 't', "$name: cancel");
		is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', "$name: wait");
		is($session->query_safe("SELECT supervisor.forget($task)"), 'f', "$name: forget");
		is($session->query_safe('SELECT supervisor.restart_pool()'), 't', "$name: restart_pool");
		$session->quit;
	}
}
is( value('SELECT a FROM supervisor.run($$SELECT current_setting(\'search_path\')$$) AS t(a text)', user => 'alice'),
	'"$user", public', 'the search_path of one session is not in the tasks of another');

# A planted function can't be called instead of ours, which has a schema of its own; nor can ours be changed.
refused('CREATE FUNCTION supervisor.run(text) RETURNS int LANGUAGE sql RETURN 1', '42501', 'nobody adds to the schema', user => 'alice');
refused('CREATE OR REPLACE FUNCTION supervisor.forget(task bigint) RETURNS boolean LANGUAGE sql RETURN true', '42501', 'or replaces in it', user => 'alice');

note 'DROP EXTENSION while it works';

my $holder = SupervisorTest::session($node);
my $waits = SupervisorTest::session($node, user => 'alice');
my $launched = SupervisorTest::session($node, user => 'alice');
my $blocked = 'SELECT 1 FROM pg_advisory_xact_lock_shared(1)';
my $worker = $launched->query_safe(q{SELECT pid FROM supervisor.run('SELECT pg_backend_pid()') AS t(pid int)});

# Lets one task be waited for, launches others, two of which run and one of which is queued.
sub begin_work
{
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	$waits->begin("SELECT 'rows', a FROM supervisor.run('SELECT a FROM generate_series(1, 3) a, pg_advisory_xact_lock_shared(1)') AS t(a int)");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die;
	my @tasks = map { $launched->query_safe("SELECT supervisor.launch('$blocked')") } (1, 2);
	$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die;
	return @tasks;
}

sub end_work
{
	my ($property) = @_;

	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	my ($stdout, $stderr) = $waits->finish;
	is("$stdout$stderr" =~ s/\s+/ /gr, 'rows|1 rows|2 rows|3', $property);
}

refused('DROP EXTENSION supervisor', '42501', "it is not alice's to drop", user => 'alice');
refused('DROP SCHEMA supervisor CASCADE', '2BP01', 'its schema goes only with it');
refused('DROP FUNCTION supervisor.cancel(bigint)', '2BP01', 'and so do its functions');

my @tasks = begin_work();
value('BEGIN; DROP EXTENSION supervisor; ROLLBACK');
end_work('dropped and rolled back: a task that is waited for returns its rows');
is($launched->query_safe("SELECT supervisor.wait($_)"), 'succeeded', 'and one that was launched is still there') foreach (@tasks);
$launched->query_safe("SELECT supervisor.forget($_)") foreach (@tasks);

@tasks = begin_work();
value('DROP EXTENSION supervisor');
refused(q{SELECT supervisor.execute('SELECT 1')}, '3F000', 'dropped: there are no functions', session => $launched);
end_work('dropped: a task that is waited for returns its rows');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker'}), '2', 'dropped: the workers stay');
value('CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice');
is($launched->query_safe("SELECT supervisor.wait($_)"), 'succeeded', 'created again: what had been launched is there') foreach (@tasks);
$launched->query_safe("SELECT supervisor.forget($_)") foreach (@tasks);
is(value('SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '0', 'and no other task');
is($launched->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'created again: tasks run');

# In a task, of all places; and within the same transaction.
$holder->query_safe(q{SELECT supervisor.execute('DROP EXTENSION supervisor; CREATE EXTENSION supervisor; DROP EXTENSION supervisor')});
is(value(q{SELECT count(*) FROM pg_extension WHERE extname = 'supervisor'}), '0', 'a task may drop it');
value('CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice');
is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => 'planted'), 'SELECT 1', 'in another database it has not been dropped');

# A session that had been given the extension, and rolls that back.
value('CREATE DATABASE fresh');
my $fresh = SupervisorTest::session($node, dbname => 'fresh');
$fresh->query_safe(q{BEGIN; CREATE EXTENSION supervisor});
my $early = $fresh->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is($fresh->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'it works before it is committed');
$fresh->query_safe(q{ROLLBACK; CREATE EXTENSION supervisor});
is($fresh->query_safe("SELECT supervisor.wait($early)"), 'succeeded', 'ROLLBACK does not undo a task');
$fresh->quit;

value('GRANT EXECUTE ON FUNCTION supervisor.launch(text, text[], text, interval) TO alice');
my $mine = $launched->query_safe("SELECT supervisor.launch('$blocked')");
value('DROP OWNED BY alice');
is($launched->query_safe('SELECT 1'), '1', 'a session goes on');
refused("SELECT supervisor.wait($mine)", '42501', 'DROP OWNED takes what was granted', session => $launched);
$launched->quit;
$waits->quit;
is(SupervisorTest::leaks($node), '', 'the task goes with its session') foreach (1, 2);
is(value('SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '0', 'no task is left');

note 'privileges in dump and restore';

# The privileges of all that the extension has, without OIDs.
my $acl = q{
	SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT p.oid::regprocedure || ' ' || coalesce(array_to_string(ARRAY(SELECT unnest(proacl)::text ORDER BY 1), ' '), 'default') AS line
		FROM pg_proc p WHERE pronamespace = 'supervisor'::regnamespace
		UNION ALL
		SELECT c.oid::regclass || ' ' || coalesce(array_to_string(ARRAY(SELECT unnest(relacl)::text ORDER BY 1), ' '), 'default')
		FROM pg_class c WHERE relnamespace = 'supervisor'::regnamespace AND relkind IN ('r', 'v', 'S')
		UNION ALL
		SELECT 'schema ' || array_to_string(ARRAY(SELECT unnest(nspacl)::text ORDER BY 1), ' ') FROM pg_namespace WHERE nspname = 'supervisor') s};

sub restore
{
	my ($from, $to) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$from.sql";

	value("CREATE DATABASE $to");
	$node->command_ok([ 'pg_dump', '-f', $file, '-d', $node->connstr($from) ], "$from is dumped");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr($to) ], "$to is restored");
	is(value($acl, dbname => $to), value($acl, dbname => $from), "$to has the privileges of $from");
}

value('CREATE DATABASE plain');
value('CREATE EXTENSION supervisor', dbname => 'plain');
restore('plain', 'plain2');
value('CREATE DATABASE changed');
value(q{
	CREATE EXTENSION supervisor;
	GRANT EXECUTE ON FUNCTION supervisor.run(text, text[], text, interval) TO alice;
	GRANT EXECUTE ON PROCEDURE supervisor.perform(text, text[], text, interval) TO alice WITH GRANT OPTION;
	REVOKE EXECUTE ON FUNCTION supervisor.cancel(bigint) FROM pg_signal_backend;
	REVOKE SELECT ON supervisor.event FROM PUBLIC;
	GRANT SELECT ON supervisor.event TO alice;
	REVOKE USAGE ON SCHEMA supervisor FROM PUBLIC;
	GRANT USAGE ON SCHEMA supervisor TO alice}, dbname => 'changed');
isnt(value($acl, dbname => 'changed'), value($acl, dbname => 'plain'), 'privileges are changed');
restore('changed', 'changed2');
refused('SELECT count(*) FROM supervisor.pool_status', '42501', 'what was revoked is', dbname => 'changed2', user => 'owner');
is(value('SELECT a FROM supervisor.run($$SELECT 1$$) AS t(a int)', dbname => 'changed2', user => 'alice'), '1', 'what was granted is');

note 'whatever the default privileges are';

value('CREATE DATABASE strict');
value(q{
	ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
	ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
	CREATE EXTENSION supervisor}, dbname => 'strict');
is((SupervisorTest::error_of($node, "SELECT count(*) FROM supervisor.$_", dbname => 'strict', user => 'owner'))[0], undef, "PUBLIC may read $_")
  foreach (qw(worker_status pool_status task_status job_status job_run event));
value('CREATE DATABASE lax');
value(q{
	ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
	CREATE EXTENSION supervisor}, dbname => 'lax');
refused(q{SELECT supervisor.execute('SELECT 1')}, '42501', 'PUBLIC may not call what acts', dbname => 'lax', user => 'owner');

$holder->quit;
done_testing();
