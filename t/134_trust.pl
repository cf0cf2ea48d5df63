# Nobody makes run what is not his to run: not by a table that only looks like
# supervisor.worker, not by writing to the real one, not through the functions
# that do; and the views show others what they may see.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'trust',
	'max_connections' => 50,
	'max_worker_processes' => 60,
	'wal_level' => 'logical',
	'max_wal_senders' => 5,
	'supervisor.max_workers' => 40,
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);

sub state_of
{
	my ($name) = @_;

	return "SELECT concat_ws(' ', state, reason) FROM supervisor.worker_status WHERE name = '$name'";
}

# A worker's row, as an INSERT, that would leave a trace.
sub plant
{
	my ($name, $table) = @_;

	$table //= 'supervisor.worker';
	return qq{
		INSERT INTO $table (name, command, run_every, role, instances, start_after, restart,
			bypass_allowconn, bypass_rolelogincheck, enabled)
		VALUES ('$name', 'CREATE TABLE pwned ()', '1 h', 'postgres', 1, 'recovery_finished', 'always',
			false, false, true);};
}

sub log_since
{
	my ($offset) = @_;

	return substr(slurp_file($node->logfile), $offset);
}

# mallory may log in, has a database, and later EXECUTE on everything.
$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN CREATEDB;
	CREATE ROLE victim LOGIN});

note 'tables that only look like it';

# as our script makes it
my $columns = value(q{
	SELECT string_agg(format('%I %s', attname, format_type(atttypid, NULL)), ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'supervisor.worker'::regclass AND attnum > 0});
my $create = "CREATE TABLE supervisor.worker ($columns, PRIMARY KEY (name));";
my $function = q{
	CREATE FUNCTION public.pwn() RETURNS name LANGUAGE plpgsql AS
		$$ BEGIN CREATE TABLE IF NOT EXISTS public.pwned (); RETURN 'pwned'; END $$;
	CREATE FUNCTION public.pwn_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN CREATE TABLE IF NOT EXISTS public.pwned (); RETURN NEW; END $$;};

# By mallory, in databases that have the extension not.
my %planted = (
	planted_table => "CREATE SCHEMA supervisor; $create " . plant('planted'),
	planted_view => "$function CREATE SCHEMA supervisor; CREATE VIEW supervisor.worker AS SELECT pwn() AS name",
	planted_partitions => "CREATE SCHEMA supervisor; CREATE TABLE supervisor.worker ($columns) PARTITION BY LIST (name);"
	  . ' CREATE TABLE part PARTITION OF supervisor.worker DEFAULT; ' . plant('planted'),
	planted_member => "CREATE EXTENSION plpgsql; CREATE SCHEMA supervisor; $create " . plant('planted')
	  . ' ALTER EXTENSION plpgsql ADD TABLE supervisor.worker');

foreach my $database (sort keys %planted)
{
	value("CREATE DATABASE $database OWNER mallory TEMPLATE template0");
	value('DROP EXTENSION plpgsql', dbname => $database) if $database eq 'planted_member';
	value($planted{$database}, dbname => $database, user => 'mallory');
	# that has it looked at
	value("ALTER DATABASE $database CONNECTION LIMIT -1", user => 'mallory');
}

# By mistakes of a superuser, where the extension is: what happened, what is
# said of it, and what fixes it.
value($_, dbname => 'template1') foreach ('CREATE EXTENSION supervisor', $function);
my $no_member = 'the table supervisor.worker does not belong to the extension';
my $other_columns = 'the table supervisor.worker has other columns';
my $rules = 'the table supervisor.worker has rules or row security';
my $lacks = 'the table supervisor.worker lacks triggers, or they are disabled';
my $constraints = 'the table supervisor.worker has other constraints or indexes';
my %spoiled = (
	owner => [ 'ALTER TABLE supervisor.worker OWNER TO mallory',
		'the owner of the table supervisor.worker is not a superuser', 'ALTER TABLE supervisor.worker OWNER TO postgres' ],
	extension_owner => [ q{UPDATE pg_extension SET extowner = 'mallory'::regrole WHERE extname = 'supervisor'},
		'the owner of the extension is not a superuser' ],
	rule => [ 'CREATE RULE rule AS ON INSERT TO supervisor.worker DO ALSO NOTHING', $rules,
		'DROP RULE rule ON supervisor.worker' ],
	row_security => [ 'ALTER TABLE supervisor.worker ENABLE ROW LEVEL SECURITY', $rules,
		'ALTER TABLE supervisor.worker DISABLE ROW LEVEL SECURITY' ],
	forced => [ 'ALTER TABLE supervisor.worker FORCE ROW LEVEL SECURITY', $rules,
		'ALTER TABLE supervisor.worker NO FORCE ROW LEVEL SECURITY' ],
	disabled => [ 'ALTER TABLE supervisor.worker DISABLE TRIGGER worker_row_changed', $lacks,
		'ALTER TABLE supervisor.worker ENABLE ALWAYS TRIGGER worker_row_changed' ],
	no_key => [ 'ALTER TABLE supervisor.worker DROP CONSTRAINT worker_pkey', $constraints,
		'ALTER TABLE supervisor.worker ADD PRIMARY KEY (name)' ],
	added => [ 'ALTER TABLE supervisor.worker ADD more text', $other_columns ],
	dropped => [ 'ALTER TABLE supervisor.worker DROP extension', $other_columns ],
	renamed => [ 'ALTER TABLE supervisor.worker RENAME extra TO more', $other_columns,
		'ALTER TABLE supervisor.worker RENAME more TO extra' ],
	retyped => [ 'ALTER TABLE supervisor.worker ALTER extra TYPE varchar', $other_columns ],
	removed => [ 'ALTER EXTENSION supervisor DROP TABLE supervisor.worker', $no_member,
		'ALTER EXTENSION supervisor ADD TABLE supervisor.worker' ],
	moved => [ 'ALTER EXTENSION supervisor DROP TABLE supervisor.worker; ALTER EXTENSION plpgsql ADD TABLE supervisor.worker',
		$no_member,
		'ALTER EXTENSION plpgsql DROP TABLE supervisor.worker; ALTER EXTENSION supervisor ADD TABLE supervisor.worker' ],
	replaced => [ "UPDATE pg_type SET typname = 'other' WHERE typrelid = 'supervisor.worker'::regclass;"
		. " UPDATE pg_type SET typname = '_other' WHERE typname = '_worker';"
		. " UPDATE pg_class SET relname = 'other' WHERE oid = 'supervisor.worker'::regclass; $create", $no_member ],
	schema => [ q{UPDATE pg_namespace SET nspname = 'other' WHERE nspname = 'supervisor'}, $no_member ]);

my $log = -s $node->logfile;
foreach my $database (sort keys %spoiled)
{
	my ($spoil) = @{ $spoiled{$database} };

	value("CREATE DATABASE $database");
	value($spoil, dbname => $database);
	# no trigger of theirs shall do it
	value('SET session_replication_role = replica; '
		. plant('planted', $database eq 'schema' ? 'other.worker' : undef), dbname => $database);
}

# What is looked at in order of the OIDs has been when the last one runs.
value('CREATE DATABASE sentinel');
value(plant('sentinel'), dbname => 'sentinel');
$node->restart;
ok($node->poll_query_until('sentinel', q{SELECT to_regclass('public.pwned') IS NOT NULL}), 'a worker of the last database runs');
foreach my $database (sort keys %planted, sort keys %spoiled)
{
	is(value(q{SELECT to_regclass('public.pwned')}, dbname => $database), '', "nothing runs in $database");
}
is(value(q{SELECT string_agg(name, ' ') FROM supervisor.worker_status WHERE kind <> 'pool'}), 'sentinel', 'nor is anything known of it');
my $said = log_since($log);
foreach my $database (sort keys %spoiled)
{
	my (undef, $complaint) = @{ $spoiled{$database} };
	my $oid = value("SELECT oid FROM pg_database WHERE datname = '$database'");

	like($said, qr/declared workers of database $oid are not run: \Q$complaint\E/, "the log says why, of $database");
	next if $database eq 'schema';
	refused(q{SELECT supervisor.add_worker('more', 'SELECT 1')}, '55000', "nor is anything added in $database",
		dbname => $database, message => qr/\Q$complaint\E/);
	is(value('SELECT count(*) FROM supervisor.worker', dbname => $database), '1', "its table is as it was");
}
foreach my $database (sort keys %planted)
{
	my $oid = value("SELECT oid FROM pg_database WHERE datname = '$database'");

	unlike($said, qr/database $oid\b/, "it is silent about $database, which has no extension");
}
foreach my $database (grep { $spoiled{$_}[2] } sort keys %spoiled)
{
	value($spoiled{$database}[2], dbname => $database);
	ok($node->poll_query_until($database, q{SELECT to_regclass('pwned') IS NOT NULL}), "once $database is fixed, it runs");
}
value("DROP DATABASE $_") foreach (sort keys %planted, sort keys %spoiled, 'sentinel');

note 'tables that are odd, but ours';

value('CREATE DATABASE odd');
value(q{SELECT supervisor.add_worker('child', 'SELECT 1', run_every => '1 h')}, dbname => 'odd');
value('CREATE TABLE child () INHERITS (supervisor.worker); ALTER TABLE child OWNER TO mallory;'
	. ' GRANT CREATE ON SCHEMA public TO mallory', dbname => 'odd');
value(plant('child', 'child') . plant('other', 'child'), dbname => 'odd', user => 'mallory');
value('CREATE TRIGGER mine BEFORE UPDATE OR DELETE ON child FOR EACH ROW EXECUTE FUNCTION pwn_trigger()',
	dbname => 'odd', user => 'mallory');
value(q{SELECT supervisor.alter_worker('child', restart_delay => '1 s')}, dbname => 'odd');
value(q{SELECT supervisor.stop_worker('child')}, dbname => 'odd');
becomes(q{SELECT state = 'stopped' AND reason = 'disabled' FROM supervisor.worker_status WHERE name = 'child'}, 'what inherits from the table changes nothing');
value(q{SELECT supervisor.remove_worker('child')}, dbname => 'odd');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE datname = 'odd'}, 'nor is it a worker');
is(value(q{SELECT string_agg(name || ' ' || (restart_delay IS NULL) || ' ' || enabled, ', ' ORDER BY name) FROM child}, dbname => 'odd'),
	'child true true, other true true', 'and is not written to');
is(value(q{SELECT to_regclass('pwned')}, dbname => 'odd'), '', 'nor its triggers fired');
value('DROP DATABASE odd');

note 'writing to the table';

# whoever may write to all tables, and who has been granted it by mistake
value(q{
	SELECT supervisor.add_worker('own', 'SELECT 1', run_every => '1 h');
	CREATE ROLE writer LOGIN;
	GRANT pg_write_all_data TO writer;
	CREATE ROLE granted LOGIN;
	GRANT ALL ON supervisor.worker TO granted});
my %writes = (
	INSERT => plant('written'),
	UPDATE => q{UPDATE supervisor.worker SET command = 'CREATE TABLE pwned ()' WHERE name::text = 'own'},
	DELETE => 'DELETE FROM supervisor.worker',
	COPY => "COPY supervisor.worker (name, command, role) FROM stdin;\nwritten\tCREATE TABLE pwned ()\tpostgres\n\\.\n");
foreach my $role ('mallory', 'writer', 'granted')
{
	refused($writes{$_}, '42501', "$role does not $_", user => $role) foreach (sort keys %writes);
}
refused('TRUNCATE supervisor.worker', '42501', "$_ does not TRUNCATE", user => $_) foreach ('mallory', 'granted');
is(value('SELECT count(*) FROM supervisor.worker', user => 'mallory'), '1', 'but everybody may read it');
refused($_, '42501', "$_: only its owner", user => 'mallory')
  foreach (
	'CREATE TRIGGER mine BEFORE INSERT ON supervisor.worker FOR EACH ROW EXECUTE FUNCTION supervisor.worker_changed()',
	'CREATE RULE mine AS ON INSERT TO supervisor.worker DO INSTEAD NOTHING',
	'ALTER TABLE supervisor.worker DISABLE TRIGGER ALL',
	'CREATE POLICY mine ON supervisor.worker',
	'CREATE TABLE supervisor.more ()',
	'DROP EXTENSION supervisor',
	'DROP SCHEMA supervisor CASCADE');
is(value(q{SELECT string_agg(concat_ws(' ', name, command), ', ') FROM supervisor.worker}), 'own SELECT 1', 'the table is as it was');
value('REVOKE ALL ON supervisor.worker FROM granted; DROP ROLE granted; DROP ROLE writer');
value(q{SELECT supervisor.remove_worker('own')});

# whatever the default privileges are
value('CREATE DATABASE defaults TEMPLATE template0');
value(q{
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory WITH GRANT OPTION;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO mallory;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO mallory;
	CREATE EXTENSION supervisor}, dbname => 'defaults');
refused($writes{INSERT}, '42501', 'nor by default privileges', dbname => 'defaults', user => 'mallory');
is(value(q{
	SELECT acl FROM (
		SELECT nspacl::text FROM pg_namespace WHERE nspname = 'supervisor'
		UNION ALL SELECT relacl::text FROM pg_class WHERE relnamespace = 'supervisor'::regnamespace
		UNION ALL SELECT coalesce(proacl::text, 'all') FROM pg_proc WHERE pronamespace = 'supervisor'::regnamespace) s (acl)
	WHERE acl ~ 'mallory|all|,=.*[^r=UX].*/'}, dbname => 'defaults'), '', 'which give nothing to anybody');

note 'who may execute what';

foreach my $database ('postgres', 'defaults')
{
	is(value(q{
		SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc
		WHERE pronamespace = 'supervisor'::regnamespace AND EXISTS
			(SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0)}, dbname => $database),
		'current_job get_events get_job_runs get_pools get_server get_tasks get_workers health job_origin may_see why_job_waits', "what PUBLIC may execute, in $database");
	is(value(q{
		SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc, aclexplode(proacl)
		WHERE pronamespace = 'supervisor'::regnamespace AND grantee = 'pg_signal_backend'::regrole}, dbname => $database),
		'alter_job cancel cancel_job restart_pool restart_worker retry_job terminate_worker', "what pg_signal_backend may, in $database");
}
value('DROP DATABASE defaults');
refused($_, '42501', "$_: not by PUBLIC", user => 'victim')
  foreach (
	q{SELECT supervisor.add_worker('x', 'SELECT 1')},
	q{SELECT supervisor.alter_worker('x', 'SELECT 1')},
	map { "SELECT supervisor.$_('x')" } qw(remove_worker start_worker stop_worker restart_worker));

note 'adding and altering as another';

value(q{
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO mallory, victim;
	GRANT CREATE ON DATABASE postgres TO mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	CREATE ROLE team NOLOGIN;
	CREATE ROLE apart LOGIN NOINHERIT;
	GRANT team TO mallory, apart;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO apart;
	CREATE FUNCTION as_postgres() RETURNS void LANGUAGE sql SECURITY DEFINER AS
		$$ SELECT supervisor.add_worker('definer', 'SELECT 1', run_every => '1 h') $$;
	SELECT supervisor.add_worker('of_postgres', 'SELECT 1', run_every => '1 h');
	SELECT supervisor.add_worker('of_victim', 'SELECT 1', run_every => '1 h', role => 'victim');
	SELECT supervisor.add_worker('of_library', library => 'plpgsql', function => '_PG_init', restart => 'never')});
becomes(q{SELECT count(*) = 3 FROM supervisor.worker_status WHERE name LIKE 'of\_%' AND state IN ('running', 'stopped')},
	'there are workers of others');

foreach my $role ('postgres', 'victim', 'apart', 'pg_read_all_data')
{
	refused(qq{SELECT supervisor.add_worker('mine', 'SELECT 1', role => '$role')}, '42501', "mallory adds no worker of $role",
		user => 'mallory', message => qr/must be able to SET ROLE "$role"/);
}
refused(q{SELECT supervisor.add_worker('mine', 'SELECT 1', role => 'none')}, '42704', 'nor of nobody', user => 'mallory');
refused(q{SELECT supervisor.add_worker('mine', 'SELECT 1', role => 'public')}, '42704', 'nor of everybody', user => 'mallory');
value(q{SELECT supervisor.add_worker('mine', 'CREATE TABLE made_by_mallory ()', run_every => '1 h')}, user => 'mallory');
is(value(q{SELECT role FROM supervisor.worker WHERE name = 'mine'}), 'mallory', 'one that is added without a role is his own');
becomes(q{SELECT tableowner = 'mallory' FROM pg_tables WHERE tablename = 'made_by_mallory'}, 'and runs as him');
foreach my $role ('mallory', 'apart')
{
	value(q{SELECT supervisor.add_worker('team', 'SELECT 1', run_every => '1 h', role => 'team')}, user => $role);
	is(value(q{SELECT role FROM supervisor.worker WHERE name = 'team'}), 'team', "$role may SET ROLE team, and so add a worker of it");
	value(q{SELECT supervisor.remove_worker('team')}, user => $role);
}
SKIP:
{
	skip 'SET FALSE is of PostgreSQL 16 and later', 2 if $node->pg_version < 16;
	value('CREATE ROLE half LOGIN; GRANT team TO half WITH INHERIT TRUE, SET FALSE;'
		. ' GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO half');
	refused(q{SELECT supervisor.add_worker('team', 'SELECT 1', role => 'team')}, '42501',
		'who inherits from a role but can not SET ROLE to it may not', user => 'half', message => qr/must be able to SET ROLE "team"/);
}
foreach my $change (
	q{alter_worker('%s', command => 'SELECT 2')}, q{alter_worker('%s', role => 'mallory')}, q{alter_worker('%s', instances => 2)},
	q{alter_worker('%s')}, q{remove_worker('%s')}, q{stop_worker('%s')}, q{start_worker('%s')}, q{restart_worker('%s')})
{
	foreach my $name ('of_postgres', 'of_victim', 'of_library')
	{
		my $call = sprintf($change, $name);

		refused("SELECT supervisor.$call", '42501', "mallory may not: $call", user => 'mallory');
	}
}
refused(qq{SELECT supervisor.alter_worker('mine', $_)}, '42501', "nor make his own more: $_", user => 'mallory')
  foreach (q{role => 'postgres'}, q{role => 'victim'}, 'bypass_allowconn => true',
	$node->pg_version < 17 ? () : 'bypass_rolelogincheck => true');
refused(q{SELECT supervisor.add_worker('c', library => '/no/such/file', function => 'f')}, '42501',
	'a C function needs a superuser, whether it is there or not', user => 'mallory', message => qr/must be superuser/);
refused(q{SELECT supervisor.add_worker('bypass', 'SELECT 1', bypass_allowconn => true)}, '42501',
	'so does what connects where nobody may', user => 'mallory', message => qr/must be superuser/);
is(value(q{SELECT string_agg(name || ' ' || coalesce(role::text, library) || ' ' || enabled, ', ' ORDER BY name) FROM supervisor.worker}),
	'mine mallory true, of_library plpgsql true, of_postgres postgres true, of_victim victim true', 'the table is as it was');

# whose rights count
my $session = SupervisorTest::session($node);
foreach my $set ('SET ROLE mallory', 'SET SESSION AUTHORIZATION mallory', 'SET LOCAL ROLE mallory')
{
	$session->query_safe("BEGIN; $set");
	refused(q{SELECT supervisor.add_worker('set', 'SELECT 1', role => 'postgres')}, '42501', "a superuser after $set", session => $session);
	$session->query_safe('ROLLBACK');
}
$session->query_safe('BEGIN; SET LOCAL ROLE victim');
$session->query_safe(q{SELECT supervisor.add_worker('set', 'SELECT 1', run_every => '1 h')});
$session->query_safe('COMMIT');
is(value(q{SELECT role FROM supervisor.worker WHERE name = 'set'}), 'victim', 'the role is the current one');
value(q{SELECT supervisor.remove_worker('set')});
value('SELECT as_postgres()', user => 'victim');
is(value(q{SELECT role FROM supervisor.worker WHERE name = 'definer'}), 'postgres', 'also in a SECURITY DEFINER function: of its owner');
value(q{SELECT supervisor.remove_worker('definer')});
value(q{
	CREATE FUNCTION lure() RETURNS void LANGUAGE sql SECURITY DEFINER AS
		$$ SELECT supervisor.add_worker('lured', 'CREATE TABLE pwned ()', role => 'postgres') $$}, user => 'mallory');
refused('SELECT lure()', '42501', 'a superuser lends no rights to one of mallory', message => qr/must be able to SET ROLE "postgres"/);
value('DROP FUNCTION lure()');

# between the look and the change somebody else gives the worker more rights
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT supervisor.alter_worker('mine', command => 'SELECT 3', role => 'postgres')});
my $other = SupervisorTest::session($node, user => 'mallory');
$other->begin(q{SELECT supervisor.alter_worker('mine', command => 'CREATE TABLE pwned ()')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}, 'mallory waits for a change of his worker');
$session->query_safe('COMMIT');
like(($other->finish)[1], qr/42501/, 'which is not his any more');
$other->quit;
is(value(q{SELECT command || ' ' || role FROM supervisor.worker WHERE name = 'mine'}), 'SELECT 3 postgres', 'and stays as it is');
value(q{SELECT supervisor.alter_worker('mine', role => 'mallory')});

note 'pg_signal_backend alone';

value('CREATE ROLE guard LOGIN; GRANT pg_signal_backend TO guard');
my %slot = map { $_ => value("SELECT slot FROM supervisor.worker_status WHERE name = '$_'") } qw(of_victim of_postgres of_library mine);
is(value(qq{SELECT supervisor.restart_worker($slot{of_victim}, '3 min')}, user => 'guard'), 't', 'it restarts a worker of another');
is(value(qq{SELECT supervisor.terminate_worker($slot{of_victim}, '3 min')}, user => 'guard'), 't', 'and terminates one');
refused($_, '42501', "not that of a superuser: $_", user => 'guard')
  foreach (
	map { ("SELECT supervisor.restart_worker($slot{$_})", "SELECT supervisor.terminate_worker($slot{$_})") } qw(of_postgres of_library));
refused("SELECT supervisor.$_", '42501', "it may do no more: $_", user => 'guard')
  foreach (
	q{add_worker('x', 'SELECT 1')}, q{alter_worker('of_victim', 'SELECT 1')},
	map { "$_('of_victim')" } qw(remove_worker stop_worker start_worker restart_worker));
becomes(state_of('of_victim') =~ s/SELECT .*? FROM/SELECT state = 'running' FROM/r, 'the worker runs on');

note 'planted operators and functions';

# They would be found by whoever looks in mallory's schema first.
value(q{
	CREATE SCHEMA evil;
	GRANT USAGE ON SCHEMA evil TO PUBLIC;
	CREATE TABLE evil.ran (what text);
	GRANT INSERT ON evil.ran TO PUBLIC;
	CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO evil.ran VALUES ('name'); RETURN true; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name);
	CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO evil.ran VALUES ('oid'); RETURN true; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = oid, RIGHTARG = oid);
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO evil.ran VALUES ('text'); RETURN true; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = text, RIGHTARG = text);
	CREATE TABLE evil.worker (name name);
	CREATE VIEW evil.pg_database AS SELECT * FROM pg_catalog.pg_database;
	CREATE TYPE evil.name AS (a int)}, user => 'mallory');
$session->query_safe('SET search_path = evil, pg_catalog, supervisor');
$session->query_safe($_)
  foreach (
	q{SELECT supervisor.add_worker('path', 'SELECT 1', run_every => '1 h')},
	q{SELECT supervisor.alter_worker('path', role => 'victim', extra => NULL)},
	q{SELECT supervisor.stop_worker('path', '3 min')}, q{SELECT supervisor.start_worker('path', '3 min')},
	q{SELECT supervisor.restart_worker('path', '3 min')}, q{SELECT supervisor.remove_worker('path')},
	q{SELECT count(*) FROM supervisor.worker_status});
$session->query_safe('RESET search_path');
is(value('SELECT count(*) FROM evil.ran'), '0', 'nothing of the search_path is run with the rights of the caller, or the owner');
is(value('SELECT count(*) FROM supervisor.worker'), '4', 'and only that one row was written to');

# also not by the loader, nor by the worker when it looks for its command
value('CREATE DATABASE evil OWNER mallory');
value(q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN CREATE TABLE public.pwned (); RETURN true; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name);
	ALTER DATABASE evil SET search_path = evil, pg_catalog;
	ALTER DATABASE evil SET statement_timeout = '1ms';
	ALTER DATABASE evil SET lock_timeout = '1ms';
	ALTER DATABASE evil SET default_transaction_read_only = on;
	ALTER DATABASE evil SET default_transaction_isolation = serializable;
	ALTER DATABASE evil SET row_security = off}, dbname => 'evil', user => 'mallory');
value(q{ALTER DATABASE evil SET transaction_timeout = '1ms'}, user => 'mallory') if $node->pg_version >= 17;
{
	# the settings are not for us
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0'
	  . ($node->pg_version >= 17 ? ' -c transaction_timeout=0' : '');

	value(q{SELECT supervisor.add_worker('found', 'SELECT 1', run_every => '1 h')}, dbname => 'evil');
	becomes(state_of('found') =~ s/SELECT .*? FROM/SELECT state = 'running' FROM/r, 'the loader minds no setting of the database');
	is(value(q{SELECT to_regclass('public.pwned')}, dbname => 'evil'), '', 'and nothing of its search_path');
}
value('DROP DATABASE evil');

note 'security-restricted operations';

value(q{
	CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE
		call text;
	BEGIN
		FOREACH call IN ARRAY ARRAY['add_worker(''restricted'', ''SELECT 1'')', 'alter_worker(''mine'', ''SELECT 4'')',
			'stop_worker(''mine'')', 'start_worker(''mine'')', 'remove_worker(''mine'')']
		LOOP
			BEGIN
				EXECUTE 'SELECT supervisor.' || call;
				RAISE 'done: %', call USING ERRCODE = 'ZZ001';
			EXCEPTION WHEN insufficient_privilege THEN
				IF SQLERRM NOT LIKE '%security-restricted operation%' THEN
					RAISE;
				END IF;
			END;
		END LOOP;
		RETURN 1;
	END $$;
	CREATE TABLE trapped (a int);
	CREATE INDEX trapped_a ON trapped ((a + 1));
	CREATE FUNCTION armed(a int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT a $$;
	CREATE INDEX trapped_b ON trapped (armed(a));
	INSERT INTO trapped VALUES (1);
	CREATE MATERIALIZED VIEW trapped_view AS SELECT public.trap() AS a WITH NO DATA;
	CREATE OR REPLACE FUNCTION armed(a int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT public.trap() $$}, user => 'mallory');
refused('REINDEX TABLE trapped', undef, 'functions of an index manage no workers');
refused('REFRESH MATERIALIZED VIEW trapped_view', undef, 'nor those of a materialized view');
is(value('SELECT a FROM trapped_view'), '1', 'they were called');
value('DROP TABLE trapped; DROP MATERIALIZED VIEW trapped_view');

note 'what the views hide';

# a command and a C function that have failed, each with a secret
value(q{
	SELECT supervisor.add_worker('fails', 'DO $$ BEGIN RAISE ''secret message''; END $$ /* secret command */',
		role => 'victim', restart => 'on_failure', restart_delay => '1 h', restart_delay_max => '1 h');
	SELECT supervisor.add_worker('lasts', 'SELECT pg_sleep(3600) /* secret command */', role => 'victim');
	SELECT supervisor.add_worker('crawls', 'SELECT pg_sleep(3600) /* secret command */');
	SELECT supervisor.add_worker('leaves', library => 'plpgsql', function => '_PG_init', extra => 'secret extra',
		restart => 'never');
	CREATE ROLE watcher LOGIN;
	GRANT pg_read_all_stats TO watcher;
	CREATE ROLE mate LOGIN;
	GRANT victim TO mate});
becomes(q{
	SELECT count(*) = 4 FROM supervisor.worker_status
	WHERE name || ' ' || state IN ('fails backoff', 'lasts running', 'crawls running', 'leaves stopped')}, 'there are secrets');
becomes(q{SELECT count(*) = 2 FROM pg_stat_activity WHERE query LIKE '%secret command%' AND state = 'active'
		AND pid <> pg_backend_pid()}, 'and some that run');

sub secrets
{
	my ($user) = @_;

	return value(
		join(' UNION ALL ',
			map { "SELECT '$_ ' || coalesce(string_agg(DISTINCT name, ' ' ORDER BY name), '') FROM supervisor.$_ v"
				. " WHERE to_jsonb(v)::text ~ 'secret'" } qw(worker_status event)),
		user => $user) =~ s/\n/, /gr;
}

is(secrets('mallory'), 'worker_status , event ', 'mallory sees nobody\'s command, error or detail');
is(secrets('guard'), 'worker_status , event ', 'nor does one who may signal all');
is(secrets('victim'), 'worker_status fails lasts, event fails', 'their role sees them');
is(secrets('mate'), 'worker_status fails lasts, event fails', 'so do its members');
is(secrets('watcher'), 'worker_status crawls fails lasts, event fails', 'pg_read_all_stats all');
is(secrets('postgres'), 'worker_status crawls fails lasts, event fails', 'and a superuser');
is( value(q{SELECT string_agg(name || ' ' || usename || ' ' || state || ' ' || command, ', ' ORDER BY name)
		FROM supervisor.worker_status WHERE name IN ('fails', 'lasts')}, user => 'mallory'),
	'fails victim backoff <insufficient privilege>, lasts victim running <insufficient privilege>',
	'whose worker it is, and how it is, is no secret');
is( value(q{SELECT concat_ws(' ', state, detail, last_error, last_exit_code) FROM supervisor.worker_status WHERE name = 'leaves'},
		user => 'mallory'),
	'stopped 0', 'why a C function ended is');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'secret com' AND pid <> pg_backend_pid()}, user => 'mallory'), '0',
	'pg_stat_activity hides as much');

# the row, as any catalog's, is for everybody
is(value(q{SELECT count(*) FROM supervisor.worker WHERE command ~ 'secret command'}, user => 'mallory'), '3', 'rows hide nothing');
value(q{SELECT supervisor.remove_worker(name) FROM supervisor.worker});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind IN ('command', 'library')}, 'they are gone');
is(value(q{SELECT to_regclass('pwned')}), '', 'and nothing has run that should not');

$session->quit;

note 'logical replication';

# It fires no triggers of statements.
value('CREATE DATABASE publisher TEMPLATE template0');
value('CREATE DATABASE subscriber TEMPLATE template0');
value(q{CREATE EXTENSION supervisor; CREATE PUBLICATION everything FOR ALL TABLES}, dbname => 'publisher');
value(q{SELECT pg_create_logical_replication_slot('everything', 'pgoutput')}, dbname => 'publisher');
value('CREATE EXTENSION supervisor', dbname => 'subscriber');
value(sprintf(q{CREATE SUBSCRIPTION everything CONNECTION '%s' PUBLICATION everything WITH (create_slot = false)},
	$node->connstr('publisher') =~ s/'/''/gr), dbname => 'subscriber');
value(q{SELECT supervisor.add_worker('applied', 'SELECT 1', run_every => '1 h')}, dbname => 'publisher');
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name = 'applied' AND state = 'running'},
	'a row that it applies is noticed');
my $offset = -s $node->logfile;
value(q{
	CREATE ROLE subscribed SUPERUSER LOGIN;
	GRANT pg_read_all_data, pg_write_all_data TO subscribed;
	ALTER SUBSCRIPTION everything OWNER TO subscribed}, dbname => 'subscriber');
value(q{ALTER SUBSCRIPTION everything SET (run_as_owner = true, password_required = false)}, dbname => 'subscriber')
  if $node->pg_version >= 16;
value('ALTER ROLE subscribed NOSUPERUSER');
value(q{SELECT supervisor.add_worker('smuggled', 'SELECT 1', run_every => '1 h')}, dbname => 'publisher');
$node->wait_for_log(qr/must be superuser to write to table "supervisor.worker"/, $offset);
is(value(q{SELECT count(*) FROM supervisor.worker WHERE name = 'smuggled'}, dbname => 'subscriber'), '0',
	'and refused to a subscription of a non-superuser');
value('DROP SUBSCRIPTION everything', dbname => 'subscriber');

note 'what a worker, or an owner, has others suffer';

value(q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'});
value(q{CREATE EXTENSION supervisor; SELECT supervisor.add_worker('accent', 'SELECT 1', run_every => '1 h', type => 'caf' || chr(233))},
	dbname => 'latin');
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'accent'}, 'a worker\'s type is in another encoding');
is(value(q{SELECT backend_type FROM pg_stat_activity WHERE datname = 'latin' AND backend_type ~ 'caf'}), 'caf?',
	'and shown to others all the same');

value('CREATE ROLE landlord LOGIN');
value('CREATE DATABASE house OWNER landlord TEMPLATE template0');
value(qq{SET default_transaction_read_only = off; ALTER DATABASE house SET default_transaction_$_}, user => 'landlord')
  foreach 'isolation = serializable', 'read_only = on', 'deferrable = on';
my $tenant = SupervisorTest::session($node, user => 'landlord');
$tenant->query('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1');
value('ALTER DATABASE house CONNECTION LIMIT 7', user => 'landlord');
value(q{SELECT supervisor.add_worker('other', 'SELECT 1', run_every => '1 h')});
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'other'},
	'settings of one database do not hold up the workers of another');
$tenant->query('COMMIT');
$tenant->quit;

done_testing();
