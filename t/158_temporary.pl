# What is permanent depends on nothing that is temporary, where a worker has made it, and
# no temporary table is a child of a permanent one: else its exit would wait for whoever
# uses that.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use IPC::Run;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes);

my $node = SupervisorTest::new_node(
	'main',
	'max_locks_per_transaction' => 10,
	'max_prepared_transactions' => 5,
	'autovacuum' => 'off',
	'deadlock_timeout' => '10ms',
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE att LOGIN;
	CREATE ROLE stranger LOGIN;
	GRANT USAGE, CREATE ON SCHEMA public TO att;
	GRANT USAGE ON SCHEMA supervisor TO att;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO att;
	CREATE TABLE shared (a int);
	GRANT ALL ON shared TO att});
value('CREATE TABLE mine (a int); CREATE TABLE empty (); CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE p (a int); COMMIT; ALTER TABLE mine ADD b pg_temp.p; END $$', user => 'att');

# What a session has that is temporary, each by a transaction of its own.
my $all = q{
	CREATE TEMP TABLE t (a int PRIMARY KEY, s serial);
	CREATE TYPE pg_temp.e AS ENUM ('one');
	CREATE DOMAIN pg_temp.d AS int CHECK (VALUE > 0);
	CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE FUNCTION pg_temp.n() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
	CREATE TEMP SEQUENCE q;};
my $objects = q{SELECT count(*) FROM pg_depend d, pg_namespace n WHERE nspname ~ '^pg_temp_\d' AND pg_describe_object(refclassid, refobjid, 0) ~ nspname};

# That, when all of this has been committed.
sub later
{
	my ($sql) = @_;

	return 'BEGIN; ' . $all =~ s/;$/; COMMIT; BEGIN;/gmr . " $sql; COMMIT";
}

sub task
{
	my ($sql, %opts) = @_;

	return SupervisorTest::error_of($node, 'SELECT supervisor.execute(' . SupervisorTest::quote($sql) . ')', user => $opts{user} // 'att');
}

foreach my $refused (
	[ 'a column', 'ALTER TABLE mine ADD b pg_temp.t' ],
	[ 'an array', 'ALTER TABLE mine ADD b pg_temp.e[]' ],
	[ 'another type of a column', 'ALTER TABLE mine ALTER a TYPE pg_temp.d' ],
	[ 'a table', 'CREATE TABLE made (a int, b pg_temp.d)' ],
	[ 'a table that is of no relation', 'CREATE TABLE made (a pg_temp.e)' ],
	[ 'a typed table', 'CREATE TYPE pg_temp.c AS (a int); ALTER TABLE mine OF pg_temp.c' ],
	[ 'a default', q{ALTER TABLE mine ALTER a SET DEFAULT nextval('q')} ],
	[ 'a default that calls a function', 'ALTER TABLE mine ALTER a SET DEFAULT pg_temp.n()' ],
	[ 'a generated column', 'ALTER TABLE mine ADD b int GENERATED ALWAYS AS (a + pg_temp.n()) STORED' ],
	[ 'a constraint', 'ALTER TABLE mine ADD CHECK (a > pg_temp.n())' ],
	[ 'an index', 'CREATE INDEX ON mine ((a + pg_temp.n()))' ],
	[ 'statistics', 'CREATE STATISTICS made ON (a + pg_temp.n()), (a * pg_temp.n()) FROM mine' ],
	[ 'a trigger on a table of another', 'CREATE TRIGGER made BEFORE INSERT ON shared EXECUTE FUNCTION pg_temp.f()' ],
	[ 'a trigger of two tables', 'CREATE CONSTRAINT TRIGGER made AFTER INSERT ON mine FROM t FOR EACH ROW EXECUTE FUNCTION pg_temp.f()' ],
	[ 'a rule', 'CREATE RULE made AS ON INSERT TO mine DO ALSO INSERT INTO t VALUES (1)' ],
	[ 'a policy', 'CREATE POLICY made ON mine USING (a > pg_temp.n())' ],
	[ 'a function', 'CREATE FUNCTION made(pg_temp.t) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$' ],
	[ 'the body of a function', 'CREATE FUNCTION made() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t; END' ],
	[ 'an aggregate', 'CREATE FUNCTION pg_temp.add(int, int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; CREATE AGGREGATE made(int) (SFUNC = pg_temp.add, STYPE = int)' ],
	[ 'a domain', 'CREATE DOMAIN made AS pg_temp.d' ],
	[ 'the default of a domain', 'CREATE DOMAIN made AS int DEFAULT pg_temp.n()' ],
	[ 'a composite type', 'CREATE TYPE made AS (a pg_temp.e)' ],
	[ 'a range', q{CREATE TYPE made AS RANGE (SUBTYPE = pg_temp.d)} ],
	[ 'an operator', 'CREATE FUNCTION pg_temp.eq(int, int) RETURNS bool LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_temp.eq)' ],
	[ 'a cast', 'CREATE FUNCTION pg_temp.c(pg_temp.e) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; CREATE CAST (pg_temp.e AS int) WITH FUNCTION pg_temp.c(pg_temp.e)' ],
	[ 'a child of a permanent table', 'CREATE TEMP TABLE u () INHERITS (mine)' ],
	[ 'one that has a temporary parent as well', 'CREATE TEMP TABLE u () INHERITS (mine, t)' ],
	[ 'one that becomes a child', 'CREATE TEMP TABLE u (a int); ALTER TABLE u INHERIT mine' ],
	[ 'statistics of a permanent table', 'ALTER TABLE mine ADD b int; CREATE STATISTICS pg_temp.made ON a, b FROM mine' ],
	[ 'an extension', q{DO $$ BEGIN EXECUTE format('CREATE EXTENSION tcn SCHEMA %I', pg_my_temp_schema()::regnamespace); END $$}, 'postgres' ])
{
	my ($what, $sql, $user) = @$refused;

	foreach my $way ([ 'at once', "$all $sql" ], [ 'later', later($sql) ])
	{
		my ($sqlstate, $error) = task($way->[1], user => $user);

		# core has come to refuse extensions itself
		like($sqlstate, $what eq 'an extension' ? qr/^(?:0A000|42939)$/ : qr/^0A000$/, "$what is refused, $way->[0]") or diag $error;
	}
}
my ($sqlstate, $error) = task("$all ALTER TABLE mine ADD b pg_temp.t");
like($error, qr/ERROR:  \S+ cannot commit, since a permanent object depends on a temporary one\nDETAIL:  column b of table mine depends on type t\.\nHINT: /, 'it is told which');
($sqlstate, $error) = task('CREATE TEMP TABLE u () INHERITS (mine)');
like($error, qr/ERROR:  \S+ cannot commit, since a temporary table inherits from a permanent one\nDETAIL:  table u depends on table mine\.\nHINT: /, 'and here');
is((task('CALL twice()'))[0], '0A000', 'a procedure is refused its second transaction');
is((task(later("CREATE TRIGGER made BEFORE INSERT ON shared EXECUTE FUNCTION pg_temp.f(); PREPARE TRANSACTION 'p'; BEGIN")))[0], '0A000', 'so is one that is prepared');
is(value('SELECT count(*) FROM pg_prepared_xacts'), '0', 'and none is');

# What it refuses is gone.
is(value(q{SELECT string_agg(attname, ',') FROM pg_attribute WHERE attrelid = 'mine'::regclass AND attnum > 0 AND NOT attisdropped}), 'a', 'nothing of it is left');

foreach my $allowed (
	[ 'what a temporary table has', q{
		CREATE TEMP TABLE u (a int REFERENCES t, b int GENERATED ALWAYS AS IDENTITY, c int DEFAULT pg_temp.n() CHECK (c > 0), d pg_temp.d, e text UNIQUE,
			f int DEFAULT nextval('q'), g int GENERATED ALWAYS AS (c + pg_temp.n()) STORED, EXCLUDE (c WITH =));
		CREATE INDEX ON u ((c + pg_temp.n()));
		CREATE TRIGGER v BEFORE INSERT ON u EXECUTE FUNCTION pg_temp.f();
		CREATE CONSTRAINT TRIGGER w AFTER INSERT ON u FROM t FOR EACH ROW EXECUTE FUNCTION pg_temp.f();
		CREATE RULE x AS ON DELETE TO u DO ALSO INSERT INTO mine VALUES (1);
		CREATE POLICY y ON u USING (a > pg_temp.n());
		CREATE STATISTICS z ON c, e FROM u;
		CREATE VIEW pg_temp.v AS SELECT u.*, mine.a AS m FROM u, mine;
		CREATE OR REPLACE VIEW pg_temp.v AS SELECT u.*, mine.a AS m FROM u, mine;
		CREATE TEMP VIEW vv AS SELECT * FROM v;
		CREATE RULE x AS ON INSERT TO v DO INSTEAD INSERT INTO u VALUES (1)} ],
	[ 'partitions and children', q{
		CREATE TEMP TABLE u (a int, b pg_temp.e, PRIMARY KEY (a)) PARTITION BY RANGE (a);
		CREATE TEMP TABLE u1 PARTITION OF u FOR VALUES FROM (1) TO (2);
		CREATE TRIGGER v AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION pg_temp.f();
		CREATE TEMP TABLE u2 (b int REFERENCES u) INHERITS (t)} ],
	[ 'tables that go at the commit', 'CREATE TEMP TABLE u (a serial, b pg_temp.t) ON COMMIT DROP; CREATE TEMP TABLE w ON COMMIT DELETE ROWS AS SELECT * FROM u' ],
	[ 'what is dropped before', 'ALTER TABLE mine ADD b pg_temp.t; ALTER TABLE mine DROP b; CREATE TABLE made (a pg_temp.e); DROP TABLE made' ],
	[ 'what is a child no more', 'CREATE TEMP TABLE u () INHERITS (mine); ALTER TABLE u NO INHERIT mine' ],
	[ 'what is rolled back', 'SAVEPOINT s; ALTER TABLE mine ADD b pg_temp.t; ROLLBACK TO s' ],
	[ 'what is permanent', 'CREATE TABLE made (a serial PRIMARY KEY, b int REFERENCES made); CREATE VIEW seen AS SELECT * FROM made; DROP TABLE made CASCADE' ])
{
	my ($what, $sql) = @$allowed;

	foreach my $way ([ 'at once', "BEGIN; $all $sql; COMMIT" ], [ 'later', later($sql) ])
	{
		my ($sqlstate, $error) = task($way->[1]);

		is($sqlstate // q{}, q{}, "$what is allowed, $way->[0]") or diag $error;
	}
}
value(q{SELECT supervisor.add_worker('service', 'CREATE TEMP TABLE t (a int); COMMIT; ALTER TABLE mine ADD b pg_temp.t', max_restarts => 0)}, user => 'att');
becomes(q{SELECT state = 'failed' AND last_error ~ 'permanent' FROM supervisor.worker_status WHERE name = 'service'}, 'a service is refused as well');
is(value($objects), '0', 'no temporary object is left');
value(q{SELECT supervisor.remove_worker('service')}, user => 'att');

# Who reads has time to do so, but does not keep a worker in its exit for ever.  Who may read
# all is a backup.
value('CREATE ROLE backup LOGIN; GRANT pg_read_all_data TO backup');
my ($reader, $backup) = map { SupervisorTest::session($node, user => $_) } 'att', 'backup';
my $admin = SupervisorTest::session($node);
my $owner = SupervisorTest::session($node, user => 'att');
my ($worker, $pid, $id);
my $kept;
foreach my $reads ($backup, $reader)
{
	$pid = $reads->pid;
	$admin->query_safe("SELECT pg_advisory_lock($pid)");
	$id = $owner->query_safe(qq{SELECT supervisor.launch('CREATE TEMP VIEW seen AS SELECT 1 FROM pg_class; CREATE TEMP VIEW sees AS SELECT 1 FROM seen; COMMIT; SELECT pg_advisory_lock_shared($pid)')});
	becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary view');
	$worker = value(q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	$reads->query_safe('BEGIN; SELECT pg_get_viewdef(' . value(q{SELECT max(oid) FROM pg_class WHERE relname = 'sees'}) . ')');
	$kept //= $worker;
	$admin->query_safe("SELECT pg_advisory_unlock($pid)");
	is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
	becomes("SELECT pg_blocking_pids($worker) = '{$pid}' FROM supervisor.worker_status WHERE pid = $worker AND state = 'stuck'", 'its worker waits for who reads');
}
is(value("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'who is left alone');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'others are served');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pid, $worker)", 'he is terminated later, and the worker ends');
is(value("SELECT state FROM supervisor.worker_status WHERE pid = $kept"), 'stuck', 'who may read all is waited for longer');
is($backup->query_safe('COMMIT; SELECT 1'), '1', 'and goes on');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $kept", 'when he has read, that worker ends, too');
is(value($objects), '0', 'no temporary object is left');

# Who locks its schema, which needs no right, is not in the way.
my $locker = SupervisorTest::session($node, user => 'stranger');
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$locker->query_safe(q{BEGIN; SELECT count(pg_get_object_address('schema', ARRAY[nspname::text], '{}')) FROM pg_namespace WHERE nspname ~ '^pg_temp'});
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
is(value($objects), '0', 'no temporary object is left');
value('SELECT supervisor.restart_pool()');
is($locker->query_safe('COMMIT; SELECT 1'), '1', 'who has locked the schema is left alone');

# Nor is who locks what depends on that and is not in it.
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
my $schema = value(q{SELECT quote_literal(relnamespace::regnamespace) FROM pg_class WHERE relname = 'his'});
$locker->query_safe("CREATE TEMP TABLE mine (a oid DEFAULT $schema\::regnamespace::oid); BEGIN; LOCK TABLE mine");
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
is(value(q{SELECT count(*) FROM pg_class WHERE relname = 'his'}), '0', 'and has left nothing');
value('SELECT supervisor.restart_pool()');
is($locker->query_safe('COMMIT; SELECT count(*) FROM pg_attribute WHERE attrelid = $$mine$$::regclass AND atthasdef'), '1', 'what depends on the schema only is left alone');
$locker->quit;

task(q{CREATE TEMP TABLE his (); DO $$ BEGIN EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO PUBLIC', pg_my_temp_schema()::regnamespace);
	IF NOT EXISTS (SELECT FROM pg_default_acl) THEN RAISE 'none'; END IF; END $$});
becomes('SELECT count(*) = 0 FROM pg_default_acl', 'default privileges in it are not left');

# Others may make some of theirs there, which takes no right, and lock them.
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
$locker = SupervisorTest::session($node, user => 'stranger');
$locker->query_safe(q{DO $$ DECLARE s name; BEGIN FOR s IN SELECT nspname FROM pg_namespace WHERE nspname ~ '^pg_temp' LOOP
		EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO PUBLIC', s);
	END LOOP; END $$});
$locker->query_safe(q{BEGIN; SELECT count(pg_get_object_address('default acl', ARRAY['stranger', nspname], ARRAY['r'])) FROM pg_namespace WHERE nspname ~ '^pg_temp'});
is((task('CREATE TEMP TABLE his ()'))[0], undef, 'a task has a temporary table');
is(value(q{SELECT count(*) FROM pg_class WHERE relname = 'his'}), '0', 'and has left nothing');
task('SELECT 1');
is(value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'}), $worker, 'nor has it cost its worker');
$locker->query_safe('COMMIT; DROP OWNED BY stranger');
$locker->quit;

# Nor is it kept by a stranger who makes something of his depend on it, and locks that, or changes
# what the catalogs say of it.
foreach my $way (
	[ 'a table', q{CREATE TEMP TABLE mine (a oid DEFAULT %s::regclass::oid); BEGIN; LOCK TABLE mine} ],
	[ 'a column', q{CREATE TEMP TABLE mine (a oid DEFAULT %s::regclass::oid); BEGIN; GRANT SELECT (a) ON mine TO att} ],
	[ 'a function', q{SET client_min_messages = warning; CREATE FUNCTION pg_temp.mine(a oid DEFAULT %s::regclass::oid) RETURNS int LANGUAGE sql AS 'SELECT 1'; BEGIN; COMMENT ON FUNCTION pg_temp.mine IS 'mine'} ])
{
	my ($what, $sql) = @$way;
	my $stranger = SupervisorTest::session($node, user => 'stranger');

	$admin->query_safe('SELECT pg_advisory_lock(1)');
	$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
	becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
	$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
	$pid = $stranger->query_safe('SELECT pg_backend_pid()');
	$stranger->query_safe(sprintf($sql, value(q{SELECT quote_literal(oid) FROM pg_class WHERE relname = 'his'})));
	$admin->query_safe('SELECT pg_advisory_unlock(1)');
	is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
	becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pid, $worker)", "a stranger who keeps its worker by $what is terminated, and that ends");
	is(value($objects), '0', 'no temporary object is left');
	$stranger->quit;
}

# Nor by two that take turns: the one comes again while it waits for the other.
value('GRANT CREATE ON SCHEMA public TO stranger');
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
my $his = value(q{SELECT quote_literal(oid) FROM pg_class WHERE relname = 'his'});
my @strangers = map {
	value("CREATE TABLE mine_$_ (a oid DEFAULT $his\::regclass::oid)", user => 'stranger');
	IPC::Run::start([ 'sh', '-c', 'while :; do "$@"; done >/dev/null 2>&1', 'sh',
		'psql', '-X', '-d', $node->connstr('postgres') . ' user=stranger', '-c', "BEGIN; LOCK TABLE mine_$_; SELECT pg_sleep(1000)" ]);
} 1 .. 2;
becomes(q{SELECT count(*) = 2 FROM pg_locks WHERE relation::regclass::text ~ '^mine_' AND granted AND mode = 'AccessExclusiveLock'}, 'both have locked');
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'its worker ends');
$_->kill_kill foreach @strangers;
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stranger'});

# Nor by who has it find deadlocks, again and again, before it has learned what it waits for.
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
$his = value(q{SELECT quote_literal(oid) FROM pg_class WHERE relname = 'his'});
value("CREATE TABLE deadly (a oid DEFAULT $his\::regclass::oid)", user => 'stranger');
my $log = -s $node->logfile;
@strangers = map {
	IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres') . ' user=stranger', '-c', "BEGIN; LOCK TABLE deadly IN SHARE MODE;
		DO \$\$ BEGIN LOOP BEGIN PERFORM pg_relation_size($his); EXCEPTION WHEN deadlock_detected THEN NULL; END; END LOOP; END \$\$" ], '&>', \my $output);
} 1 .. 3;
becomes(q{SELECT count(*) = 3 FROM pg_locks WHERE relation = 'deadly'::regclass AND granted AND mode = 'ShareLock'}, 'all have locked');
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker OR usename = 'stranger'", 'its worker ends, and they are terminated');
$_->finish foreach @strangers;
cmp_ok(scalar(() = slurp_file($node->logfile, $log) =~ /ERROR: .*deadlock detected/g), '<', 2, 'and it has been taken for no deadlock but by the reset');

# Nor by one who waits to change what another one has changed: then it waits for him.
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
$his = value(q{SELECT quote_literal(oid) FROM pg_class WHERE relname = 'his'});
value("CREATE TABLE changed (a oid DEFAULT $his\::regclass::oid)", user => 'stranger');
@strangers = map {
	IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres') . ' user=stranger', '-c', 'BEGIN; GRANT SELECT (a) ON changed TO att; SELECT pg_sleep(1000)' ], '&>', \my $output);
} 1 .. 3;
becomes(q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'tuple'}, 'one has changed a row of a catalog, and others wait for that');
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker OR usename = 'stranger'", 'its worker ends, and they are terminated');
$_->finish foreach @strangers;

# Nor by autovacuum, which calls a function of his.
value(q{
	CREATE FUNCTION idle(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		WHILE session_user <> 'stranger' LOOP
			BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
		RETURN i;
	END $$}, user => 'stranger');
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
$his = value(q{SELECT quote_literal(oid) FROM pg_class WHERE relname = 'his'});
value("CREATE TABLE analyzed (i int, a oid DEFAULT $his\::regclass::oid); CREATE INDEX ON analyzed (public.idle(i)); INSERT INTO analyzed SELECT generate_series(1, 1000)", user => 'stranger');
SupervisorTest::set($node, 'autovacuum_naptime' => '1s', 'autovacuum' => 'on');
becomes(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND wait_event = 'PgSleep'}, 'autovacuum is kept at a table that depends on it');
SupervisorTest::set($node, 'autovacuum' => 'off');
$admin->query_safe('SELECT pg_advisory_unlock(1)');
is($owner->query_safe("SELECT supervisor.wait($id)"), 'succeeded', 'the task ends');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker OR wait_event = 'PgSleep'", 'its worker ends, and autovacuum is terminated');

# Nor where an error ends a session.
value('ALTER ROLE att SET exit_on_error = on');
$admin->query_safe('SELECT pg_advisory_lock(1)');
$id = $owner->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE his (a int); COMMIT; SELECT pg_advisory_lock_shared(1)')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND state = 'running'});
$locker = SupervisorTest::session($node, user => 'stranger');
$pid = $locker->query_safe('SELECT pg_backend_pid()');
$locker->query("BEGIN; SAVEPOINT s; SELECT nextval('" . value(q{SELECT oid FROM pg_class WHERE relname = 'his'}) . "'::regclass); ROLLBACK TO s");
$admin->query_safe('SELECT pg_advisory_unlock(1)');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($worker, $pid)", 'the worker of a role whose errors end its sessions ends, and who keeps it is terminated');
is(value($objects), '0', 'no temporary object is left');
value('ALTER ROLE att RESET exit_on_error');
$locker->quit;

# Nor is it kept by more than there are locks for: that is left to core, as another session's would be.
$worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
is($owner->query_safe(q{SELECT supervisor.execute('DO $do$ BEGIN FOR i IN 1 .. 3000 LOOP
		EXECUTE format(''CREATE TEMP TABLE many_%s (a int)'', i);
		IF i % 100 = 0 THEN COMMIT; END IF;
	END LOOP; END $do$')}), 'DO', 'a task makes more temporary tables than can be locked');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'its worker ends');
cmp_ok(scalar(() = slurp_file($node->logfile) =~ /out of shared memory/g), '<', 5, 'and has tried that a few times only');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'others are served');
$_->quit foreach $owner, $reader, $backup, $admin;
$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
