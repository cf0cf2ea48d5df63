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

use SupervisorTest qw(refused value);

my $node = SupervisorTest::new_node(
	'attacks',
	'autovacuum' => 'off',
	'log_line_prefix' => '%p %u@%d ',
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

SupervisorTest::ask(\$node);

# A command in a task, as one value.
sub task
{
	my ($command) = @_;

	return "SELECT t.v FROM supervisor.run(\$task\$ $command \$task\$) AS t(v text)";
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
my $held = $mallory->query_safe(q{SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity')});
refused("SELECT in_parallel(\$\$$_\$\$)", '25000', "in a parallel worker: $_", session => $mallory,
	message => qr/ERROR: .*cannot (?:manage jobs|wait for a job) during a parallel operation.*CONTEXT: .*parallel worker/s)
  foreach (
	q{enqueue('SELECT 1')}, q{schedule('more', '@daily', 'SELECT 1')}, q{unschedule('more')}, "alter_job($held, priority => 1)",
	"retry_job($held)", "cancel_job($held)", "wait_job($held)", 'adopt_jobs()');
my $task = $mallory->query_safe(q{SELECT supervisor.launch('SELECT 1')});
refused("SELECT in_parallel('$_')", '55000', "in a parallel worker: $_", session => $mallory)
  foreach ("result($task) AS (a int)", "forget($task)");
refused("SELECT in_parallel('wait($task)')", '25000', "in a parallel worker: wait($task)", session => $mallory);
is($mallory->query_safe("SELECT in_parallel('$_')"), 'done', "in a parallel worker: $_")
  foreach ("cancel($task)", 'get_workers()', 'get_pools()', 'get_tasks()', 'get_events()', 'get_server()', 'get_job_runs()', 'job_origin()', q{why_job_waits(10, ''default'', false)}, 'current_job()', 'job_status', 'job_run', 'health()');
$mallory->query_safe("RESET ALL; SELECT supervisor.forget($task)");
is(value('SELECT command FROM supervisor.worker'), 'SELECT 1', 'and the worker is as it was');
value(q{SELECT supervisor.remove_worker('there')});
is(value('SELECT id, priority, run_at FROM supervisor.job'), "$held|5|infinity", 'so is the job, and there is no other');
value("SELECT supervisor.cancel_job($held)");

note 'what looks for a client';

SKIP:
{
	skip 'there is no sslinfo', 1
	  if value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'sslinfo'}) eq '0';
	value('CREATE EXTENSION sslinfo');
	is( $mallory->query_safe(q{SELECT * FROM supervisor.run('SELECT ssl_is_used(), ssl_client_cert_present(), ssl_version(), ssl_issuer_dn()')
			AS (used bool, present bool, version text, dn text)}),
		'f|f||', 'functions about the connection find none that is encrypted');
	value('DROP EXTENSION sslinfo');
}
is( $mallory->query_safe(q{SELECT * FROM supervisor.run('SELECT inet_client_addr(), inet_client_port(), inet_server_addr(), inet_server_port()')
		AS (addr inet, port int, server_addr inet, server_port int)}),
	'|||', 'nor an address');
$mallory->query_safe('SET tcp_keepalives_idle = 7; SET client_connection_check_interval = 10; SET tcp_user_timeout = 7');
is($mallory->query_safe(q{SELECT * FROM supervisor.run('SELECT current_setting(''tcp_keepalives_idle'')') AS (a text)}),
	'0', 'nor any to keep alive');
$mallory->query_safe('RESET ALL');
my $offset = -s $node->logfile;
$mallory->query_safe(q{SELECT supervisor.execute($$DO 'BEGIN RAISE LOG ''said by a task''; END'$$)});
$node->wait_for_log(qr/ mallory\@postgres LOG:  said by a task/, $offset);
unlike(slurp_file($node->logfile), qr/setsockopt|getsockopt|could not .* client/, 'nor does any complain');

note 'types that change';

# A value of a composite type is read by the definition that the type has then: a number would be taken for a pointer.
foreach my $case (
	[ 'a composite type', 'ROW(1234567890123)::changing', 'changing' ],
	[ 'an array', 'ARRAY[ROW(1234567890123)::changing]', 'changing[]' ],
	[ 'a domain over an array', 'ARRAY[ROW(1234567890123)::changing]::changing_list', 'changing_list' ],
	[ 'a part of another', 'ROW(1, ROW(1234567890123))::outer_type', 'outer_type' ],
	[ 'a range', 'changing_range(ROW(1234567890123)::changing, NULL)', 'changing_range' ],
	[ 'a multirange', 'changing_multirange(changing_range(ROW(1234567890123)::changing, NULL))', 'changing_multirange' ],
	[ 'a row of a table', 'c', 'changing_table', ' FROM changing_table c' ])
{
	my ($what, $value, $type, $from) = @$case;
	my $command = "SELECT $value AS v" . ($from // '');
	my $list = "AS (v $type)";

	value(q{
		DROP TYPE IF EXISTS changing, outer_type CASCADE;
		DROP TABLE IF EXISTS changing_table;
		CREATE TYPE changing AS (a bigint);
		CREATE TYPE outer_type AS (b int, c changing);
		CREATE DOMAIN changing_list AS changing[];
		CREATE TYPE changing_range AS RANGE (subtype = changing);
		CREATE TABLE changing_table (a bigint);
		INSERT INTO changing_table VALUES (1234567890123)}, user => 'mallory');
	like($mallory->query_safe("SELECT v FROM supervisor.run(\$\$$command\$\$) $list"), qr/1234567890123/, "$what: as it is");
	my $change = $from ? 'ALTER TABLE changing_table ALTER a TYPE text' : 'ALTER TYPE changing ALTER ATTRIBUTE a TYPE text CASCADE';
	my $launched = $mallory->query_safe("SELECT supervisor.launch(\$\$$command\$\$)");
	is($mallory->query_safe("SELECT supervisor.wait($launched)"), 'succeeded', "$what: a task ends");
	value($change, user => 'mallory');
	refused("SELECT v FROM supervisor.result($launched) $list", '42804', "$what: and the type is another when it is read",
		session => $mallory, message => qr/type .* has been altered since the task made its rows/);
}

# Meanwhile it may have been another, and rows of that time may be among them.
value('ALTER TYPE changing ALTER ATTRIBUTE a TYPE bigint CASCADE', user => 'mallory');
my $there_and_back = $mallory->query_safe('SELECT supervisor.launch($$SELECT ROW(1)::changing$$)');
is($mallory->query_safe("SELECT supervisor.wait($there_and_back)"), 'succeeded', 'a task ends');
value("ALTER TYPE changing ALTER ATTRIBUTE a TYPE $_ CASCADE", user => 'mallory') foreach ('text', 'bigint');
refused("SELECT v FROM supervisor.result($there_and_back) AS (v changing)", '42804', 'the type is as it was, but was another meanwhile',
	session => $mallory, message => qr/type .* has been altered since the task made its rows/);

my $failing = $mallory->query_safe(
	'SELECT supervisor.launch($$SELECT ROW(1 / (5000 - i))::changing FROM generate_series(1, 5000) i$$)');
is($mallory->query_safe("SELECT supervisor.wait($failing)"), 'failed', 'a task fails after many rows');
value('ALTER TYPE changing ALTER ATTRIBUTE a TYPE text CASCADE', user => 'mallory');
refused("SELECT v FROM supervisor.result($failing) AS (v changing)", '22012', 'its error is told, whatever the type is now',
	session => $mallory);

# A type of as many types as there can be, and these again.
value(q{
	CREATE TYPE shade AS ENUM ('light');
	DO $$ BEGIN EXECUTE format('CREATE TYPE many AS (%s)', (SELECT string_agg('a' || i || ' shade', ', ') FROM generate_series(1, 1600) i)); END $$;
	DO $$ BEGIN EXECUTE format('CREATE TYPE more AS (%s)', (SELECT string_agg('a' || i || ' many', ', ') FROM generate_series(1, 1600) i)); END $$},
	user => 'mallory');
is($mallory->query_safe('SELECT v IS NULL FROM supervisor.run($$SELECT NULL::more$$) AS (v more)'), 't', 'a type with very many parts');
value('DROP TYPE more; DROP TYPE many; DROP TYPE shade', user => 'mallory');
value(q{DROP TYPE changing CASCADE; DROP TYPE outer_type; DROP TABLE changing_table; CREATE TYPE changing AS (a bigint)},
	user => 'mallory');
value('CREATE DOMAIN dropped AS int', user => 'mallory');
refused(q{SELECT * FROM supervisor.run('DROP DOMAIN dropped; SELECT 1') AS (x dropped)}, '42804', 'a type that the command drops',
	session => $mallory, message => qr/Column 1 of the result has type integer, in the list it has type \?\?\?/);
value('CREATE TYPE dropped_enum AS ENUM (\'a\')', user => 'mallory');
my $of_dropped = $mallory->query_safe(q{SELECT supervisor.launch('SELECT ''a''::dropped_enum')});
is($mallory->query_safe("SELECT supervisor.wait($of_dropped)"), 'succeeded', 'a row of a type');
value('DROP TYPE dropped_enum', user => 'mallory');
refused("SELECT * FROM supervisor.result($of_dropped) AS (x int)", '42804', 'which is dropped before it is read',
	session => $mallory, message => qr/Column 1 of the result has type \?\?\? \(OID \d+, which has been dropped\), in the list it has type integer/);
$mallory->query_safe("SELECT supervisor.forget($of_dropped)");

# A type that is gone by the time that its rows are read.
foreach my $case (
	[ 'a domain', 'DOMAIN', 'AS int', '1', '' ],
	[ 'an enum', 'TYPE', q{AS ENUM ('a')}, q{'a'}, '' ],
	[ 'an array of an enum', 'TYPE', q{AS ENUM ('a')}, q{'{a}'}, '[]' ],
	[ 'a range', 'TYPE', 'AS RANGE (subtype = int)', q{'[1,2]'}, '' ])
{
	my ($what, $kind, $definition, $value, $array) = @$case;

	value("CREATE $kind dropped_type $definition", user => 'mallory');
	refused("SELECT * FROM supervisor.run(\$\$ SELECT ${value}::dropped_type$array; DROP $kind dropped_type \$\$) AS (x dropped_type$array)",
		'42804', "$what that the command drops after it has made a row", session => $mallory,
		message => qr/type of column "x" of the result has been dropped since the task made its rows/);
}

my $holder = SupervisorTest::session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
$mallory->begin('SELECT v FROM supervisor.run($$SELECT ROW(a)::changing FROM generate_series(1, 2) a, pg_advisory_xact_lock_shared(1)$$) AS (v changing)');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die 'no task waits';

# Newer minor versions of core lock the type for the statement that reads.
my $alter = SupervisorTest::session($node, user => 'mallory');
my $alter_pid = $alter->pid;
$alter->begin('ALTER TYPE changing ALTER ATTRIBUTE a TYPE text');
my $changed = q{SELECT atttypid = 'text'::regtype FROM pg_attribute WHERE attrelid = 'changing'::regclass};
$node->poll_query_until('postgres', "SELECT ($changed) OR EXISTS (SELECT FROM pg_locks WHERE pid = $alter_pid AND NOT granted)")
  or die 'no type is altered';
$changed = value($changed) eq 't';
$holder->query_safe('SELECT pg_advisory_unlock(1)');
like(join("\n", $mallory->finish), $changed ? qr/42804: .*type .* has been altered/ : qr/^\(1\)\n\(2\)$/m, 'also while it is read');
$alter->finish;
$alter->quit;
$mallory->query_safe('DROP TYPE changing');

note 'who a task is, wherever it is submitted';

# mallory lays it out for victim to step on: it is never more than what the code there is anyway.
value(q{
	CREATE FUNCTION who(text) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		there text;
	BEGIN
		SELECT v INTO there FROM supervisor.run('SELECT session_user || '' '' || current_user') AS t(v text);
		INSERT INTO public.seen VALUES ($1, current_user, there);
		RETURN true;
	END $$;
	CREATE FUNCTION who_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM who(TG_ARGV[0]); RETURN NEW; END $$;
	CREATE FUNCTION who_definer() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT who('definer') $$;
	CREATE TABLE seen (place text, here text, there text);
	CREATE DOMAIN checked AS int CHECK (who('domain'));
	CREATE TABLE stepped_on (a int DEFAULT who('default')::int, b checked);
	CREATE TRIGGER t BEFORE INSERT ON stepped_on FOR EACH ROW EXECUTE FUNCTION who_trigger('trigger');
	CREATE CONSTRAINT TRIGGER d AFTER INSERT ON stepped_on DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION who_trigger('deferred');
	CREATE TABLE guarded (a int);
	INSERT INTO guarded VALUES (1);
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
	CREATE POLICY p ON guarded USING (who('policy'));
	CREATE VIEW view AS SELECT who('view') AS v, who_definer();
	CREATE PROCEDURE steps() LANGUAGE plpgsql AS
		$$ BEGIN PERFORM who('procedure'); COMMIT; PERFORM who('after commit'); COMMIT; END $$;
	GRANT ALL ON seen, stepped_on, guarded, view TO PUBLIC}, user => 'mallory');
value($_, user => 'victim')
  foreach (
	'INSERT INTO stepped_on (b) VALUES (1)', 'SELECT * FROM guarded', 'SELECT * FROM view', 'CALL steps()',
	q{BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT who('cursor'); COMMIT; FETCH ALL FROM c},
	q{PREPARE p AS SELECT who('prepared'); EXECUTE p});
is(value(q{SELECT string_agg(concat_ws(' ', place, here, there), ', ') FROM seen WHERE there <> here || ' ' || here}),
	'', 'a task is who submits it');
is(value(q{SELECT string_agg(DISTINCT here || ' ' || place, ', ') FROM seen}),
	'mallory definer, victim after commit, victim cursor, victim default, victim deferred, victim domain, victim policy, '
	  . 'victim prepared, victim procedure, victim trigger, victim view',
	'in all of these places');
value('DROP OWNED BY mallory; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO mallory; GRANT CREATE ON SCHEMA public TO mallory');

note "another's session";

my $victim = SupervisorTest::session($node, user => 'victim');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $secret = $victim->query_safe(q{SELECT supervisor.launch($$
	BEGIN; CREATE TEMP TABLE secret AS SELECT 1 AS a; SELECT pg_advisory_lock(2), set_config('my.secret', 'x', false);
	PREPARE secret AS SELECT 1; DECLARE secret CURSOR WITH HOLD FOR SELECT 1; CREATE TEMP SEQUENCE s; SELECT nextval('s'); COMMIT;
	SELECT pg_advisory_xact_lock_shared(1) $$)});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted})
  or die 'it does not run';
my $schema = value(q{SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 'secret'});
refused(task("SELECT a::text FROM $schema.$_"), '42501', "no temporary object of another: $_", session => $mallory) foreach ('secret', 's');
refused(task("CREATE TABLE $schema.planted (a int); SELECT ''"), '42501', 'nor one planted there', session => $mallory);
refused(q{SELECT supervisor.execute('EXECUTE secret')}, '26000', 'no prepared statement', session => $mallory);
refused(q{SELECT supervisor.execute('FETCH ALL FROM secret')}, '34000', 'no cursor', session => $mallory);
refused(task('SELECT lastval()::text'), '55000', 'no lastval()', session => $mallory);
is($mallory->query_safe(task(q{SELECT current_setting('my.secret', true)})), '', 'no setting');
is($mallory->query_safe(task('SELECT pg_try_advisory_lock(2)::text')), 'false', 'no lock');
like($mallory->query(task('SELECT pg_advisory_unlock(2)::text')), qr/false/, 'that can be let go');
my $pid = value("SELECT pid FROM supervisor.worker_status WHERE task = $secret");
refused(task("SELECT $_($pid)::text"), '42501', "no $_", session => $mallory)
  foreach ('pg_cancel_backend', 'pg_terminate_backend', 'pg_log_backend_memory_contexts');
is($mallory->query_safe(task("SELECT query FROM pg_stat_activity WHERE pid = $pid")), '<insufficient privilege>', 'no look at what it does');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
is($victim->query_safe("SELECT supervisor.wait($secret)"), 'succeeded', 'and it ends in peace');
$victim->query_safe("SELECT supervisor.forget($secret)");

note 'a role with the number of another';

# What is left in a session is its role's, not another's that has been given the same number.
foreach my $case (
	[ 'DROP ROLE', 'DROP OWNED BY first; DROP ROLE first' ],
	[ 'a prepared DROP ROLE', "BEGIN; DROP OWNED BY first; DROP ROLE first; PREPARE TRANSACTION 'drop'; COMMIT PREPARED 'drop'" ])
{
	my ($what, $drop) = @$case;

	value('CREATE ROLE first LOGIN; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO first');
	my ($first, $oid) = split / /, value(task(q{SELECT pg_backend_pid() || ' ' || current_user::regrole::oid}), user => 'first');
	value($drop);
	value(qq{
		INSERT INTO pg_authid (oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit)
		SELECT $oid, 'second', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit
		FROM pg_authid WHERE rolname = 'mallory'});
	value('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO second');
	my ($second, $same) = split / /, value(task(q{SELECT pg_backend_pid() || ' ' || current_user::regrole::oid}), user => 'second');
	is($same, $oid, "$what: a role has the number of one that was dropped");
	isnt($second, $first, "$what: but not its session");
	value('DROP OWNED BY second; DROP ROLE second');
}

note 'what a task may leave behind';

refused(task(q{BEGIN; SELECT lo_open(lo_creat(-1), 131072)::text; COMMIT; SELECT encode(loread(0, 1), 'hex')}), '42704',
	'no descriptor of a large object outlives its transaction', session => $mallory);
is($mallory->query_safe(q{SELECT supervisor.execute($$BEGIN; CREATE TABLE kept (a int); SELECT pg_advisory_xact_lock(3); PREPARE TRANSACTION 'kept'$$)}),
	'PREPARE TRANSACTION', 'a task may prepare a transaction');
is($mallory->query_safe(task(q{SELECT string_agg(gid || ' ' || owner, '') || ' ' || pg_try_advisory_lock(3) FROM pg_prepared_xacts})),
	'kept mallory false', 'which belongs to no session, and keeps its locks');
refused(q{ROLLBACK PREPARED 'kept'}, '42501', 'it is its role\'s', session => $victim);
$mallory->query_safe(q{SELECT supervisor.execute($$ROLLBACK PREPARED 'kept'$$)});
is($mallory->query_safe(task('SELECT pg_try_advisory_lock(3)::text')), 'true', 'and they are free when it has ended');

note 'tasks that do not want to end';

my $catching = q{DO $do$ BEGIN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN RAISE WARNING 'caught'; END; END LOOP; END $do$};
refused("SELECT supervisor.execute(\$task\$$catching\$task\$, timeout => '200 ms')", '57014',
	'who waits for one does so no longer than he wants to', session => $mallory);
my $leaving = SupervisorTest::session($node, user => 'mallory');
$leaving->query_safe("SELECT supervisor.launch(\$task\$$catching\$task\$)");
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) or die 'they do not run';
$leaving->quit;
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE state = 'running'}), '2', 'tasks that catch every cancel run on');
$victim->begin(q{SELECT supervisor.execute('SELECT 1')});
value(q{SELECT supervisor.cancel(task) FROM supervisor.task_status WHERE usename = 'mallory'});
refused(q{SELECT supervisor.terminate_worker(slot) FROM supervisor.worker_status WHERE usename = 'mallory'}, '42501',
	'another may not end them', user => 'victim');
is(value(q{SELECT bool_and(supervisor.terminate_worker(slot)) FROM supervisor.worker_status WHERE usename = 'mallory'}), 't',
	'they can be terminated');
like(($victim->finish)[0], qr/SELECT 1/, 'and others are served');

# One that makes two of itself, and so on.
value(q{
	CREATE FUNCTION bomb() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM supervisor.forget(supervisor.launch('SELECT bomb()')), supervisor.forget(supervisor.launch('SELECT bomb()'));
	EXCEPTION WHEN configuration_limit_exceeded THEN
		NULL;
	END $$}, user => 'mallory');
$mallory->query_safe('SELECT bomb()');
$node->poll_query_until('postgres', q{SELECT count(*) > 500 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}) or die 'it does not grow';
is($victim->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a task that multiplies does not starve others') foreach (1 .. 3);
is($victim->query_safe(q{SELECT count(supervisor.forget(supervisor.launch('SELECT 1'))) FROM generate_series(1, 500)}), '500',
	'nor fills more than half');
value('REVOKE EXECUTE ON FUNCTION supervisor.launch(text, text[], text, interval) FROM mallory');
is(SupervisorTest::leaks($node), '', 'it ends when it may launch no more');
value('GRANT EXECUTE ON FUNCTION supervisor.launch(text, text[], text, interval) TO mallory; DROP FUNCTION bomb');

note 'a call that is long before it has begun';

# They are looked at first, and may be very many.  The last one is refused, but with a cancel pending it does not come to that.
refused(q{SELECT supervisor.execute_all(CASE WHEN pg_cancel_backend(pg_backend_pid()) THEN ARRAY['SELECT 1', ''] END)}, '57014',
	'commands can be canceled while they are looked at', session => $mallory);

note 'settings that a role gives itself';

foreach my $setting (
	'exit_on_error = on', q{client_encoding = 'EUC_JP'}, 'statement_timeout = 1', 'lock_timeout = 1', 'idle_session_timeout = 1',
	'idle_in_transaction_session_timeout = 1', 'default_transaction_read_only = on', 'default_transaction_isolation = serializable',
	'default_transaction_deferrable = on', q{local_preload_libraries = 'nothing'}, q{search_path = ''},
	'client_min_messages = debug5', 'debug_print_plan = on', 'supervisor.task_timeout = 1', 'role = victim', 'row_security = off',
	'jit_above_cost = 0', q{temp_tablespaces = 'nowhere'}, q{default_tablespace = 'nowhere'}, q{default_table_access_method = 'nothing'},
	$node->pg_version->major < 19 ? 'standard_conforming_strings = off' : ())
{
	value("ALTER ROLE mallory SET $setting", user => 'mallory');
	$mallory->query("SELECT supervisor.execute('$_')") foreach ('SELECT 1', 'SELECT 1/0', 'CREATE TEMP TABLE x (a int)');
	is($victim->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$setting: others are served");
	value('ALTER ROLE mallory RESET ALL');
	is($mallory->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$setting: and mallory without it");
}

$victim->quit;
$holder->quit;
$mallory->quit;
is(SupervisorTest::leaks($node), '', 'nothing is left');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated by signal/, 'nothing has crashed');

$node->stop;
done_testing();
