# Rights: who may submit, what a task may do, that no session in the pool is
# older than its role's rights and settings, who may stop whose work, and who
# sees what of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(refused value);

my $node = SupervisorTest::new_node(
	'rights',
	'autovacuum' => 'off',
	'max_prepared_transactions' => 5,
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1');

# alice and bob may call everything, eve nothing; guard may signal others'
# backends, watcher read their statistics; boss is a superuser for a while.
my $super = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE eve LOGIN;
	CREATE ROLE ghost NOLOGIN;
	CREATE ROLE guard LOGIN IN ROLE pg_signal_backend;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE boss LOGIN SUPERUSER;
	CREATE ROLE callers;
	GRANT callers TO alice, bob, boss, ghost;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO callers;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO callers;
	GRANT CREATE ON SCHEMA public TO alice, bob;
	CREATE TABLE log (what text);
	GRANT ALL ON log TO PUBLIC;
	CREATE DATABASE closed});

SupervisorTest::ask(\$node);

# A command in a task, as one value.
sub task
{
	my ($command, $pool) = @_;
	$pool //= 'default';

	return "SELECT t.v FROM supervisor.run(\$task\$ $command \$task\$, pool => '$pool') AS t(v text)";
}

# Wait until a session or task waits for the advisory lock $key.
sub wait_blocked
{
	my ($key, $n) = @_;
	$n //= 1;

	$node->poll_query_until('postgres',
		"SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND objid = $key AND NOT granted"
	) or die "nobody waits for $key";
}

# A command that waits for that lock.
sub blocked
{
	my ($key) = @_;

	return "SELECT pg_advisory_xact_lock_shared($key)";
}

note 'what PUBLIC may';

is( value(
		q{SELECT coalesce(string_agg(proname, ' ' ORDER BY proname), 'none') FROM pg_proc
		  WHERE pronamespace = 'supervisor'::regnamespace AND proname !~ '^(get_|health$|current_job$|may_see$|job_origin$|why_job_waits$)'
		  AND has_function_privilege('public', oid, 'EXECUTE')}),
	'none',
	'nothing that acts is executable by PUBLIC');
is( value(
		q{SELECT count(*) FROM pg_proc
		  WHERE pronamespace = 'supervisor'::regnamespace
		  AND (prosecdef OR proparallel <> 'u'
		  OR provolatile <> CASE WHEN proname IN ('may_see', 'job_origin', 'why_job_waits') THEN 's' ELSE 'v' END)}),
	'0',
	'all functions but three that only look are volatile, parallel unsafe, and run as their caller');
is( value(
		q{SELECT has_schema_privilege('eve', 'supervisor', 'USAGE'), has_schema_privilege('eve', 'supervisor', 'CREATE')}
	),
	't|f',
	'PUBLIC may look into the schema, not write to it');

my @calls = (
	"SELECT * FROM supervisor.run('SELECT 1') AS (a int)",
	"SELECT supervisor.execute('SELECT 1')",
	"CALL supervisor.perform('SELECT 1')",
	"SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])",
	"SELECT supervisor.launch('SELECT 1')");
my @control = (
	'SELECT supervisor.wait(1)',
	'SELECT * FROM supervisor.result(1) AS (a int)',
	'SELECT supervisor.cancel(1)',
	'SELECT supervisor.forget(1)',
	'SELECT supervisor.restart_worker(0)',
	'SELECT supervisor.terminate_worker(0)',
	'SELECT supervisor.restart_pool()');
refused($_, '42501', "not for eve: $_", user => 'eve') foreach (@calls, @control);
foreach my $view (qw(worker_status pool_status task_status job_status job_run event))
{
	like(value("SELECT count(*) FROM supervisor.$view", user => 'eve'),
		qr/^\d+$/, "eve may read $view");
	is(value("SELECT has_table_privilege('eve', 'supervisor.$view', 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"),
		'f', "and nothing else with $view");
}
refused($_, '42501', "not for a member of pg_signal_backend: $_", user => 'guard')
  foreach (@calls);
is( value(
		q{SELECT string_agg(DISTINCT proname, ' ') FROM pg_proc
		  WHERE pronamespace = 'supervisor'::regnamespace AND proname IN ('cancel', 'terminate_worker', 'restart_worker', 'restart_pool')
		  AND has_function_privilege('guard', oid, 'EXECUTE')}),
	'cancel restart_pool restart_worker terminate_worker',
	'a member of pg_signal_backend may call what stops work');

note 'a task has the rights of its role and no more';

my $who = "current_user || ' ' || session_user || ' ' || current_setting('is_superuser')";
my $session = SupervisorTest::session($node);
$session->query_safe('SET ROLE alice');
is($session->query_safe(task("SELECT $who")), 'alice alice off', 'SET ROLE decides who a task is');
refused(task("SET ROLE $super; SELECT ''"), '42501', 'no SET ROLE back to the submitter', session => $session);
refused(
	task("SET SESSION AUTHORIZATION $super; SELECT ''"),
	'42501',
	'no SET SESSION AUTHORIZATION back to the submitter',
	session => $session);
foreach my $reset (
	'RESET ROLE',
	'SET ROLE NONE',
	'RESET SESSION AUTHORIZATION',
	'SET SESSION AUTHORIZATION DEFAULT',
	'RESET ALL')
{
	is($session->query_safe(task("$reset; SELECT $who")), 'alice alice off', "$reset leads nowhere");
}
refused(
	"SELECT supervisor.execute('CREATE ROLE mallory')",
	'42501', 'what the role may not, its task may not',
	session => $session);
$session->query_safe('RESET ROLE');
is( $session->query_safe('BEGIN; SET LOCAL ROLE alice; ' . task("SELECT $who") . '; COMMIT'),
	'alice alice off',
	'SET LOCAL ROLE decides who a task is');
$session->query_safe('SET SESSION AUTHORIZATION alice');
is( $session->query_safe(task("RESET SESSION AUTHORIZATION; SELECT $who")),
	'alice alice off',
	'SET SESSION AUTHORIZATION decides who a task is, for good');
$session->query_safe('RESET SESSION AUTHORIZATION');

# After perform() has ended the transaction, SET LOCAL ROLE is gone with it: it
# must not run as the role outside, which may do more.
$session->query_safe('TRUNCATE log');
my ($perform_error) = $session->error_of(
	q{DO $$BEGIN SET LOCAL ROLE bob; CALL supervisor.perform('INSERT INTO log VALUES (current_user)'); END$$});
is( ($perform_error // '-') . ' ' . $session->query_safe('SELECT count(*) FROM log WHERE what <> $$bob$$'),
	($perform_error // '') eq '42501' ? '42501 0' : '- 0',
	'perform() under SET LOCAL ROLE does not run as the role outside');

value(
	"CREATE FUNCTION bobs() RETURNS text LANGUAGE sql SECURITY DEFINER AS \$\$ "
	  . "SELECT v FROM supervisor.run('SELECT current_user || '' '' || session_user') AS t(v text) \$\$",
	user => 'bob');
is(value('SELECT bobs()', user => 'eve'), 'bob bob', "in bob's SECURITY DEFINER function it is bob");
is(value('SELECT bobs()'), 'bob bob', 'also when a superuser calls that');
refused(
	"CREATE FUNCTION deputy() RETURNS text LANGUAGE sql SECURITY DEFINER AS \$\$ "
	  . "SELECT v FROM supervisor.run('SET ROLE $super; SELECT current_user::text') AS t(v text) \$\$; SELECT deputy()",
	'42501',
	'its SET ROLE is limited to what bob may',
	user => 'bob');

note 'settings that come along';

is( $session->query_safe(
		"SET work_mem = '7MB'; SET session_replication_role = replica; SET my.own = 'x'; SET ROLE alice; "
		  . task(q{SELECT concat_ws(' ', current_setting('work_mem'), current_setting('session_replication_role'), current_setting('my.own'))})
	),
	'7MB origin x',
	"settings come along as far as the task's role may set them");
$session->query_safe('RESET ROLE');
is( $session->query_safe(task('SHOW session_replication_role')), 'replica',
	'for a superuser, all of them');
$session->query_safe('RESET ALL; GRANT SET ON PARAMETER session_replication_role TO alice');
is( value('SET session_replication_role = replica; ' . task('SHOW session_replication_role'), user => 'alice'),
	'replica',
	'GRANT SET ON PARAMETER holds in a task');
value('REVOKE SET ON PARAMETER session_replication_role FROM alice');
refused(
	task("SET session_replication_role = replica; SELECT ''"),
	'42501', 'and its revocation, in the same worker',
	user => 'alice');

# Nobody checks a setting of a library that is not loaded yet.
value(q{
	CREATE FUNCTION definers() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
		SELECT v FROM supervisor.run('DO ''BEGIN END''; SELECT current_setting(''plpgsql.variable_conflict'')') AS t(v text) $$});
is( value(q{SET plpgsql.variable_conflict = 'use_column'; SELECT definers()}, user => 'alice'),
	'error',
	"a definer's task does not set for its caller what the caller may not, later");
value(task("DO 'BEGIN END'; SELECT 1::text"));
is( value(q{SET plpgsql.variable_conflict = 'use_column'; SELECT definers()}, user => 'alice'),
	'error',
	'nor at once where the library is loaded already');
is( value(q{SET plpgsql.variable_conflict = 'use_column'; SELECT definers()}),
	'use_column',
	'a superuser may');
value('ALTER FUNCTION definers() OWNER TO alice');
is( value(q{SET plpgsql.variable_conflict = 'use_column'; SELECT definers()}),
	'error',
	"but not in another's task");

note 'who may not submit';

refused("SET ROLE ghost; $_", '28000', "no LOGIN: $_") foreach (@calls);
value('GRANT ghost TO bob; ALTER ROLE bob SET role = ghost');
like(refused($calls[0], '28000', 'no LOGIN of the role that a setting has made the current one', user => 'bob'),
	qr/"ghost" is not permitted.*DETAIL: .*"role" of role "bob"/s, 'whose setting that is, is told');
value('ALTER ROLE bob RESET role; REVOKE ghost FROM bob');
my (undef, $told) = SupervisorTest::error_of($node, "SET ROLE ghost; $calls[0]");
like($told, qr/HINT: .*SECURITY DEFINER/, 'and how it can be done');
value('REVOKE CONNECT ON DATABASE closed FROM PUBLIC; GRANT CONNECT ON DATABASE closed TO bob');
value('CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO callers; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO callers',
	dbname => 'closed');
refused("SET ROLE alice; $_", '28000', "no CONNECT: $_", dbname => 'closed') foreach (@calls);
is(value(task('SELECT current_user::text'), dbname => 'closed', user => 'bob'), 'bob', 'with CONNECT: yes');
is(value(task('SELECT current_user::text'), dbname => 'closed'), $super, 'a superuser needs none');
my $inside = SupervisorTest::session($node, dbname => 'closed');
value('ALTER DATABASE closed ALLOW_CONNECTIONS false');
refused($_, '55000', "the database allows no connections: $_", session => $inside) foreach (@calls);
value('ALTER DATABASE closed ALLOW_CONNECTIONS true');
is($inside->query_safe(task('SELECT 1::text')), '1', 'it does again');
$inside->quit;

# What a superuser or autovacuum runs of somebody's table: its expressions run
# as the owner, but nothing may get out of there.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE bait (a int);
	INSERT INTO bait VALUES (1);
	CREATE FUNCTION trap(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN a; END $$;
	CREATE INDEX bait_trap ON bait (trap(a));
	CREATE MATERIALIZED VIEW mat AS SELECT trap(a) FROM bait},
	extra_params => [ '-U', 'alice' ]);
value('TRUNCATE log');
foreach my $call (
	q{supervisor.execute('INSERT INTO public.log VALUES (''out'')')},
	q{supervisor.launch('INSERT INTO public.log VALUES (''out'')')},
	q{* FROM supervisor.run('INSERT INTO public.log VALUES (''out'') RETURNING 1') AS (a int)},
	q{* FROM supervisor.execute_all(ARRAY['INSERT INTO public.log VALUES (''out'')'])},
	q{public.indirect()})
{
	value(
		q{CREATE OR REPLACE FUNCTION indirect() RETURNS text LANGUAGE sql SECURITY DEFINER AS
			$$ SELECT supervisor.execute('INSERT INTO public.log VALUES (''out'')') $$}, user => 'bob');
	value("CREATE OR REPLACE FUNCTION trap(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM $call; RETURN a; END \$\$",
		user => 'alice');
	refused($_, '42501', "$call in $_", message => qr/security-restricted operation/)
	  foreach (
		'REINDEX TABLE bait',
		'REFRESH MATERIALIZED VIEW mat',
		'ANALYZE bait',
		'CLUSTER bait USING bait_trap');
	refused("SELECT supervisor.execute('REINDEX TABLE bait')",
		$call =~ /launch/ ? '42501' : '55000', "$call in REINDEX in a superuser's task");
}
is(value('SELECT count(*) FROM log'), '0', 'and nothing of that has run');
value('DROP TABLE bait CASCADE; DROP FUNCTION trap');

note 'no session is older than the rights of its role';

my $boss = SupervisorTest::session($node, user => 'boss');
my $become_super = "SET SESSION AUTHORIZATION $super; SELECT $who";
is($boss->query_safe(task($become_super)), "$super $super on", 'a superuser may become another');
is($boss->query_safe(task("SELECT $who")), 'boss boss on', 'until the task ends');
value('ALTER ROLE boss NOSUPERUSER');
refused(task($become_super), '42501', 'NOSUPERUSER: seen by a task in a bound worker', session => $boss);
is($boss->query_safe(task("SELECT $who")), 'boss boss off', 'NOSUPERUSER: and it is none');
value('ALTER ROLE boss SUPERUSER');
is($boss->query_safe(task($become_super)), "$super $super on", 'SUPERUSER: seen, too');

# the worker must not believe what it has seen as a submitter
$session->query_safe('SELECT pg_advisory_lock(1)');
my $id = $boss->query_safe(
	q{SELECT supervisor.launch($t$ DO $x$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		PERFORM supervisor.forget(supervisor.launch('SELECT 1'));
	  END $x$ $t$, pool => 'one')});
wait_blocked(1);
value('ALTER ROLE boss NOSUPERUSER');
$session->query_safe('SELECT pg_advisory_unlock(1)');
is($boss->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'NOSUPERUSER while a task runs that launches another');
refused(task($become_super, 'one'), '42501', 'seen by the next task of its worker', session => $boss);
value('ALTER ROLE boss SUPERUSER');

# a task that is queued already
$session->query_safe('SELECT pg_advisory_lock(1)');
$boss->query_safe("SELECT supervisor.launch('" . blocked(1) . "', pool => 'one')");
wait_blocked(1);
$id = $boss->query_safe("SELECT supervisor.launch('SET SESSION AUTHORIZATION $super', pool => 'one')");
value('ALTER ROLE boss NOSUPERUSER');
$session->query_safe('SELECT pg_advisory_unlock(1)');
refused("SELECT * FROM supervisor.result($id) AS (a int)",
	'42501', 'NOSUPERUSER: seen by a task that was queued already', session => $boss);
value('ALTER ROLE boss SUPERUSER');

# a worker that is being bound: it has looked at the role, not yet at the database
$boss->query_safe("SELECT supervisor.restart_pool('one')");
$session->query_safe('BEGIN; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE');
$id = $boss->query_safe("SELECT supervisor.launch('SELECT 1', pool => 'one')");
ok( $session->wait_true(
		q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'pg_database'::regclass AND NOT granted}),
	'a worker is being bound');
$session->query_safe('ALTER ROLE boss NOSUPERUSER; COMMIT');
is($boss->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'NOSUPERUSER while a worker is being bound');
refused(task($become_super, 'one'), '42501', 'its tasks have no more rights', session => $boss);
$boss->quit;
value('DROP ROLE boss');

my $alice = SupervisorTest::session($node, user => 'alice');

value(q{
	CREATE TABLE secrets (a int);
	INSERT INTO secrets VALUES (1);
	ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
	GRANT SELECT ON secrets TO alice});
my $count = task('SELECT count(*)::text FROM secrets');
is($alice->query_safe($count), '0', 'row security holds');
value('ALTER ROLE alice BYPASSRLS');
is($alice->query_safe($count), '1', 'BYPASSRLS: seen by the next task');
value('ALTER ROLE alice NOBYPASSRLS');
is($alice->query_safe($count), '0', 'NOBYPASSRLS: seen by the next task');
value('REVOKE SELECT ON secrets FROM alice');
refused($count, '42501', 'REVOKE: seen by the next task', session => $alice);
value('GRANT bob TO alice');
is($alice->query_safe(task('SET ROLE bob; SELECT current_user::text')), 'bob', 'GRANT role: seen by the next task');
value('REVOKE bob FROM alice');
refused(task('SET ROLE bob; SELECT current_user::text'), '42501', 'REVOKE role: seen by the next task', session => $alice);

foreach my $case (
	[ 'NOLOGIN', 'ALTER ROLE alice NOLOGIN', 'ALTER ROLE alice LOGIN', 'postgres', '28000' ],
	[ 'REVOKE CONNECT', 'REVOKE CONNECT ON DATABASE closed FROM alice', 'GRANT CONNECT ON DATABASE closed TO alice', 'closed', '42501' ],
	[ 'ALLOW_CONNECTIONS', 'ALTER DATABASE closed ALLOW_CONNECTIONS false', 'ALTER DATABASE closed ALLOW_CONNECTIONS true', 'closed', '55000' ])
{
	my ($what, $take, $give, $dbname, $cause) = @$case;

	value($give);
	my $open = SupervisorTest::session($node, user => 'alice', dbname => $dbname);
	my $holder = SupervisorTest::session($node, dbname => $dbname);
	my $pid = $open->query_safe(task('SELECT pg_backend_pid()::text', 'one'));

	$holder->query_safe('SELECT pg_advisory_lock(2)');
	$open->query_safe("SELECT supervisor.launch('" . blocked(2) . "', pool => 'one')");
	wait_blocked(2);
	my $queued = $open->query_safe("SELECT supervisor.launch('SELECT 1', pool => 'one')");
	value($take);
	$holder->query_safe('SELECT pg_advisory_unlock(2)');
	refused("SELECT * FROM supervisor.result($queued) AS (a int)",
		'55000', "$what: no task runs that was queued already",
		session => $open, message => qr/DETAIL: .*\b$cause\b/);
	refused(task('SELECT 1::text', 'one'), $what eq 'ALLOW_CONNECTIONS' ? '55000' : '28000',
		"$what: nor is one taken", session => $open);
	value($give);
	isnt($open->query_safe(task('SELECT pg_backend_pid()::text', 'one')), $pid, "$what: all is well again, in a fresh session");
	$_->quit foreach ($open, $holder);
}

# a role, and another of that name
value('CREATE ROLE carol LOGIN IN ROLE callers');
my $carol = SupervisorTest::session($node, user => 'carol');
my $old = $carol->query_safe(task(q{SELECT pg_backend_pid() || ' ' || current_user::regrole::oid}, 'one'));
$session->query_safe('SELECT pg_advisory_lock(3)');
$carol->query_safe("SELECT supervisor.launch('" . blocked(3) . "', pool => 'one')");
wait_blocked(3);
my $queued = $carol->query_safe("SELECT supervisor.launch('INSERT INTO log VALUES (''ghostly'')', pool => 'one')");
value('DROP ROLE carol; CREATE ROLE carol LOGIN IN ROLE callers');
$session->query_safe('SELECT pg_advisory_unlock(3)');
$node->poll_query_until('postgres', "SELECT state = 'failed' FROM supervisor.task_status WHERE task = $queued");
is(value("SELECT state FROM supervisor.task_status WHERE task = $queued"), 'failed', 'DROP ROLE: what is queued fails');
is(value(q{SELECT count(*) FROM log WHERE what = 'ghostly'}), '0', 'and does not run');
value('GRANT EXECUTE ON FUNCTION supervisor.run(text, text[], text, interval) TO PUBLIC');
refused(task('SELECT 1', 'one'), '28000', 'the session that is left can give no task',
	session => $carol, message => qr/role with OID \d+ does not exist/);
value('REVOKE EXECUTE ON FUNCTION supervisor.run(text, text[], text, interval) FROM PUBLIC');
my $new = value(task(q{SELECT pg_backend_pid() || ' ' || current_user::regrole::oid}, 'one'), user => 'carol');
is(join(' ', map { (split / /, $old)[$_] eq (split / /, $new)[$_] ? 'same' : 'other' } (0, 1)),
	'other other', 'a new role of that name gets another session and is another role');
$carol->quit;
value('ALTER ROLE carol RENAME TO carla');
is(value(task('SELECT current_user::text'), user => 'carla'), 'carla', 'a role that is renamed has its new name');

note 'no session is older than the settings of its role';

my $show = task('SHOW work_mem', 'one');
is($alice->query_safe($show), '4MB', 'a worker is bound');
foreach my $case (
	[ q{ALTER ROLE alice SET work_mem = '1MB'}, '1MB' ],
	[ q{ALTER ROLE alice IN DATABASE postgres SET work_mem = '2MB'}, '2MB' ],
	[ q{ALTER ROLE alice IN DATABASE postgres RESET work_mem}, '1MB' ],
	[ q{BEGIN; ALTER ROLE alice SET work_mem = '3MB'; ROLLBACK}, '1MB' ],
	[ q{DO $$ BEGIN EXECUTE 'ALTER ROLE alice RESET ALL'; END $$}, '4MB' ],
	[ q{ALTER DATABASE postgres SET work_mem = '5MB'}, '5MB' ],
	[ q{ALTER DATABASE postgres RESET ALL}, '4MB' ],
	[ q{ALTER ROLE ALL SET work_mem = '6MB'}, '6MB' ],
	[ q{ALTER ROLE ALL RESET ALL}, '4MB' ])
{
	my ($sql, $expected) = @$case;

	value($sql);
	is($alice->query_safe($show), $expected, "seen by the next task: $sql");
}
$alice->query_safe(q{ALTER ROLE CURRENT_USER SET work_mem = '8MB'});
is($alice->query_safe($show), '8MB', "seen by the next task: a role's own ALTER ROLE CURRENT_USER SET");
$alice->query_safe('ALTER ROLE alice RESET ALL');

$alice->query_safe(q{BEGIN; ALTER ROLE alice SET work_mem = '9MB'; PREPARE TRANSACTION 'later'});
is($alice->query_safe($show), '4MB', 'ALTER ROLE SET that is only prepared is not seen');
$alice->query_safe(q{COMMIT PREPARED 'later'});
is($alice->query_safe($show), '9MB', 'once it is committed it is');
$alice->query_safe('ALTER ROLE alice RESET ALL');

$session->query_safe('SELECT pg_advisory_lock(4)');
$alice->query_safe("SELECT supervisor.launch('" . blocked(4) . "', pool => 'one')");
wait_blocked(4);
$queued = $alice->query_safe("SELECT supervisor.launch('SHOW work_mem', pool => 'one')");
value(q{ALTER ROLE alice SET work_mem = '11MB'});
$session->query_safe('SELECT pg_advisory_unlock(4)');
is($alice->query_safe("SELECT * FROM supervisor.result($queued) AS (a text)"),
	'11MB', 'ALTER ROLE SET: seen by a task that was queued already');
value('ALTER ROLE alice RESET ALL');

# the role itself is such a setting; bob differs from alice in a flag that sessions have
value('GRANT bob TO alice; ALTER ROLE bob BYPASSRLS; ALTER ROLE alice SET role = bob');
my $who_in_one = task("SELECT $who", 'one');
is($alice->query_safe($who_in_one), 'bob alice off', 'ALTER ROLE SET role: a task begins with that role');
is($alice->query_safe(task("RESET SESSION AUTHORIZATION; SET ROLE NONE; SELECT $who", 'one')),
	'alice alice off', 'and may leave it');
my $pid = $alice->query_safe(task('SELECT pg_backend_pid()::text', 'one'));
is($alice->query_safe($who_in_one), 'bob alice off', 'the next begins with it again');
is($alice->query_safe(task('SELECT pg_backend_pid()::text', 'one')), $pid, 'in the same session');
value('REVOKE bob FROM alice');
is($alice->query_safe($who_in_one), 'alice alice off', 'until the role may not be set any more');
value('ALTER ROLE alice RESET ALL; ALTER ROLE bob NOBYPASSRLS');

note 'who may stop what';

value('CREATE ROLE mate LOGIN IN ROLE alice; CREATE ROLE cousin LOGIN NOINHERIT IN ROLE alice; GRANT callers TO mate; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO cousin');
my $bob = SupervisorTest::session($node, user => 'bob');

# Starts a task for a session that runs until it is stopped; returns its id, slot and generation.
sub endless
{
	my ($s) = @_;
	my $task = $s->query_safe("SELECT supervisor.launch('SELECT pg_sleep(3600)')");

	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 1 FROM pg_stat_activity a JOIN supervisor.worker_status w USING (pid)
		WHERE w.task = $task AND a.wait_event = 'PgSleep'})
	  or die 'it does not run';
	return split /\|/, value("SELECT task, slot, generation FROM supervisor.worker_status WHERE task = $task");
}

sub state_of
{
	my ($task) = @_;

	return value("SELECT state FROM supervisor.task_status WHERE task = $task");
}

my ($task, $slot, $generation) = endless($alice);
refused("SELECT supervisor.cancel($task)", '42501', "bob may not cancel alice's task", user => 'bob');
refused("SELECT supervisor.terminate_worker($slot)", '42501', 'nor terminate its worker', user => 'bob');
refused("SELECT supervisor.terminate_worker($slot, generation => $generation)",
	'42501', 'nor by its generation', user => 'bob');
refused("SELECT supervisor.cancel($task)", '42501', 'nor may a member of alice without her rights', user => 'cousin');
is(state_of($task), 'running', 'and it runs on');
foreach my $user ('guard', 'mate', $super, 'alice')
{
	is(value("SELECT supervisor.cancel($task)", user => $user), 't', "$user may cancel it");
	is($alice->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'so it ends');
	is(value("SELECT supervisor.cancel($task)", user => 'bob'), 'f', 'once it has ended there is nothing to refuse');
	($task, $slot, $generation) = endless($alice);
}
foreach my $user ('guard', 'mate', 'alice')
{
	is(value("SELECT supervisor.terminate_worker($slot)", user => $user), 't', "$user may terminate its worker");
	is($alice->query_safe("SELECT supervisor.wait($task)"), 'failed', 'so it fails');
	($task, $slot, $generation) = endless($alice);
}
value("SELECT supervisor.cancel($task)");

$session->query_safe('SELECT supervisor.restart_pool()');
($task, $slot, $generation) = endless($session);
foreach my $user ('guard', 'bob')
{
	refused("SELECT supervisor.cancel($task)", '42501', "$user may not cancel a superuser's task", user => $user);
	refused("SELECT supervisor.terminate_worker($slot)", '42501', 'nor terminate its worker', user => $user);
}
is(state_of($task), 'running', 'and it runs on');
my $unbound = value(q{SELECT slot FROM supervisor.worker_status WHERE pool = 'default' AND activity = 'unbound' LIMIT 1});
foreach my $user ('guard', 'alice')
{
	refused("SELECT supervisor.terminate_worker($unbound)", '42501', "$user may not terminate an unbound worker", user => $user);
	is(value("SELECT supervisor.restart_worker($unbound)", user => $user), 't', 'but restart it');
}
is(value("SELECT supervisor.restart_worker($slot, '0')", user => 'alice'), 'f', 'and ask for that of a busy one, with EXECUTE alone');
is(state_of($task), 'running', 'whose task runs on');
is(value("SELECT supervisor.cancel($task)"), 't', "a superuser may cancel a superuser's task");
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
refused("SELECT pg_terminate_backend($supervisor)",
	'42501', 'only a superuser may terminate the supervisor', user => 'guard');
is(value('SELECT supervisor.restart_pool()', user => 'alice'), 't', 'a pool may be restarted with EXECUTE alone');

note 'a task belongs to a session and a role';

$id = $alice->query_safe("SELECT supervisor.launch('SELECT 1')");
my @owners = (
	"SELECT supervisor.wait($id)",
	"SELECT * FROM supervisor.result($id) AS (a int)",
	"SELECT supervisor.forget($id)");
foreach my $user ('alice', 'bob', $super)
{
	refused($_, '55000', "not from another session of $user: $_", user => $user) foreach (@owners[ 1, 2 ]);
}
is($alice->query_safe($owners[1]), '1', 'it is still there for its session');

$session->query_safe('SET ROLE alice');
$id = $session->query_safe("SELECT supervisor.launch('SELECT 1')");
@owners = (
	"SELECT supervisor.wait($id)",
	"SELECT * FROM supervisor.result($id) AS (a int)",
	"SELECT supervisor.forget($id)");
foreach my $role ('bob', 'NONE')
{
	$session->query_safe("SET ROLE $role");
	refused($_, '42501', "not after SET ROLE $role: $_", session => $session) foreach (@owners[ 1, 2 ]);
}
is($session->query_safe($owners[0]), 'succeeded', 'but who may see its command may wait for it');
$session->query_safe('SET ROLE alice');
is($session->query_safe($owners[1]), '1', 'as the role that launched it: yes');
$session->query_safe('RESET ROLE');

note 'who sees what';

# a task that runs, one that has failed, one that is queued, and a worker that has died, all with a secret
value(q{ALTER ROLE alice SET local_preload_libraries = 'secret_library'});
refused(task('SELECT 1::text'), '55000', 'a task whose session can not start', session => $alice);
value('ALTER ROLE alice RESET ALL');
$session->query_safe('SELECT pg_advisory_lock(5)');
my $running = $alice->query_safe("SELECT supervisor.launch('" . blocked(5) . " /* secret command */', pool => 'one')");
wait_blocked(5);
$alice->query_safe("SELECT supervisor.launch('SELECT 1 /* secret command */', pool => 'one')");
$id = $alice->query_safe(q{SELECT supervisor.launch($$ DO $x$ BEGIN RAISE 'secret message'; END $x$ $$)});
is($alice->query_safe("SELECT supervisor.wait($id)"), 'failed', 'a task fails');
my $died = $alice->query_safe("SELECT supervisor.launch('SELECT pg_terminate_backend(pg_backend_pid()) /* secret command */')");
is($alice->query_safe("SELECT supervisor.wait($died)"), 'failed', 'a worker dies');

# rows with a secret in some column
sub secrets
{
	my ($user) = @_;

	return value(
		join(' UNION ALL ',
			map { "SELECT '$_ ' || count(*) FROM $_ v WHERE (to_jsonb(v) - '{usename,datname}'::text[])::text ~ 'secret'" }
			  qw(supervisor.task_status supervisor.worker_status supervisor.event pg_stat_activity)),
		user => $user) =~ s/\n/, /gr;
}

foreach my $user ('eve', 'bob', 'guard')
{
	# its own query has the word
	is(secrets($user), 'supervisor.task_status 0, supervisor.worker_status 0, supervisor.event 0, pg_stat_activity 1',
		"$user sees no command, error or detail of alice");
}
foreach my $user ('alice', 'watcher', 'mate', $super)
{
	like(secrets($user), qr/^supervisor.task_status [4-9], supervisor.worker_status [1-9].*, supervisor.event [1-9]/,
		"$user sees them");
}
is(value("SELECT command FROM supervisor.task_status WHERE task = $running", user => 'eve'),
	'<insufficient privilege>', 'what is hidden says so in task_status');
is(value("SELECT command FROM supervisor.worker_status WHERE task = $running", user => 'eve'),
	'<insufficient privilege>', 'and in worker_status');
is(value("SELECT usename || ' ' || state FROM supervisor.task_status WHERE task = $running", user => 'eve'),
	'alice running', 'whose task it is, and that it runs, is no secret');
$session->query_safe('SELECT pg_advisory_unlock(5)');

$_->quit foreach ($alice, $bob, $session);

done_testing();
