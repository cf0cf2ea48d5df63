# What one role does costs the others nothing: no session of theirs is out of
# date, no table is read, and who waits for his worker does not wait for that.
# It is counted: processes, and the loaders that the server's log tells of.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes continue_process eventually refused stop_process until_true value);

my $node = SupervisorTest::new_node(
	'floods',
	'log_min_messages' => 'debug1',
	'max_connections' => 50,
	'max_prepared_transactions' => 60,
	'max_worker_processes' => 40,
	'supervisor.pool_size' => 4,
	'supervisor.shared_memory' => '1MB',
	# a loader that hangs is not ended by this
	'supervisor.start_timeout' => 0);

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 4);

$node->safe_psql('template1', 'CREATE EXTENSION supervisor');
$node->safe_psql('postgres', $_) foreach (
	'CREATE ROLE me LOGIN CREATEDB',
	'CREATE ROLE other LOGIN',
	'CREATE ROLE named LOGIN',
	'CREATE ROLE keeper LOGIN CREATEROLE',
	'CREATE DATABASE a',
	'CREATE DATABASE b',
	'CREATE DATABASE mine OWNER me',
	'GRANT CREATE ON DATABASE a TO me');
$node->safe_psql('postgres', 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO me, other, named');
$node->safe_psql('a', 'CREATE SCHEMA mine AUTHORIZATION me');

sub loaders
{
	# One that has read has files of its database open until it has ended; the next one has none.
	eventually(sub {
		my @pids = SupervisorTest::children($node, 'supervisor loader');

		return @pids == 1 && !grep { (readlink($_) // '') =~ m{/base/} } glob "/proc/$pids[0]/fd/*";
	}) or die 'a loader does not end';
	my $log = slurp_file($node->logfile);
	my @ended = $log =~ /background worker "supervisor loader" \(PID \d+\) exited/g;

	return scalar @ended;
}

# Has a declared worker added in that database, and waits until it is known.
my $added = 0;

sub add_in
{
	my ($database) = @_;
	my $name = 'w' . ++$added;

	value("SELECT supervisor.add_worker('$name', 'SELECT 1', run_every => '1 h')", dbname => $database);
	until_true("SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = '$name' AND state = 'running'",
		"$name runs");
	return $name;
}

note 'whose settings have changed';

# The process that runs the tasks of a role.
sub pid_of
{
	my ($role) = @_;

	return value('SELECT * FROM supervisor.run($$SELECT pg_backend_pid()$$) AS (pid int)', user => $role);
}

my $pid = pid_of('other');
my $open = SupervisorTest::session($node, user => 'me');
my $loop = SupervisorTest::session($node, user => 'me');

$open->query_safe('BEGIN; ALTER ROLE me SET work_mem = 65');
foreach my $i (1 .. 20)
{
	my $gid = $i % 2 ? 'empty' : '';

	$loop->query_safe($_) foreach ('BEGIN', 'SELECT 1', "PREPARE TRANSACTION '$gid'", "COMMIT PREPARED '$gid'");
}
is(pid_of('other'), $pid, 'empty prepared transactions cost others no process, whatever is open elsewhere');
$open->query_safe('ROLLBACK');

my $mine = pid_of('me');
$loop->query_safe($_) foreach ('BEGIN', 'ALTER ROLE me SET work_mem = 66', "PREPARE TRANSACTION 'mine'");
is(pid_of('me'), $mine, 'what is prepared is not yet so');
$loop->query_safe($_) foreach ("ROLLBACK PREPARED 'mine'");
is(pid_of('me'), $mine, 'nor ever, if it is rolled back');
$loop->query_safe($_) foreach ('BEGIN', 'ALTER ROLE me SET work_mem = 67', "PREPARE TRANSACTION 'mine'");
refused("COMMIT PREPARED 'mine'", '42501', 'nobody else finishes it', user => 'other');
refused("ROLLBACK PREPARED 'mine'", '42501', 'in neither way', user => 'other');
is(pid_of('me'), $mine, 'and to try is nothing');
value("COMMIT PREPARED 'mine'");
isnt(pid_of('me'), $mine, 'it takes effect when it is committed, by whomever');
is(value('SELECT * FROM supervisor.run($$SHOW work_mem$$) AS (m text)', user => 'me'), '67kB', 'as it says');
is(pid_of('other'), $pid, 'for its role alone');

# The identifier is used again, once and again.
foreach my $kilobytes (70 .. 72)
{
	$loop->query_safe($_)
	  foreach ('BEGIN', "ALTER ROLE me SET work_mem = $kilobytes", "PREPARE TRANSACTION 'mine'", "COMMIT PREPARED 'mine'");
	is(value('SELECT * FROM supervisor.run($$SHOW work_mem$$) AS (m text)', user => 'me'),
		"${kilobytes}kB", "$kilobytes kB, by an identifier that is used again");
}

# More databases than are noted one by one.
my @many = map { "many$_" } 1 .. 34;
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template0 OWNER me") foreach @many;
my $settings = join '; ', map { "ALTER ROLE me IN DATABASE $_ SET work_mem = 99" } @many;
$mine = pid_of('me');
$loop->query_safe("BEGIN; $settings; COMMIT");
is(pid_of('other'), $pid, 'settings of a role in many databases are that role\'s');
isnt(pid_of('me'), $mine, 'in any of them');
$mine = pid_of('me');
$loop->query_safe("BEGIN; $settings");
$loop->query_safe("PREPARE TRANSACTION 'many'");
$loop->query_safe("COMMIT PREPARED 'many'");
is(pid_of('other'), $pid, 'as they are if they were prepared');
isnt(pid_of('me'), $mine, 'and not forgotten');

# More than fits into the entry of a prepared transaction: it tells of these alone.
value("CREATE ROLE r$_; GRANT r$_ TO keeper WITH ADMIN OPTION") foreach 1 .. 34;
value('GRANT named TO keeper WITH ADMIN OPTION');
value(q{
	-- how many large commands there is memory for
	CREATE FUNCTION room() RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		launched bigint[] := '{}';
	BEGIN
		BEGIN
			LOOP
				launched := launched || supervisor.launch('SELECT 1 --' || repeat('x', 20000));
			END LOOP;
		EXCEPTION WHEN out_of_memory THEN
		END;
		PERFORM supervisor.forget(task) FROM unnest(launched) task;
		RETURN cardinality(launched);
	END $$});

# How much room there is once all tasks are gone, of which some may just be running.
sub room
{
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	return value('SELECT room()');
}

# The process of a superuser's tasks in a database.
sub pid_in
{
	my ($database) = @_;

	return value('SELECT * FROM supervisor.run($$SELECT pg_backend_pid()$$) AS (pid int)', dbname => $database);
}

# Prepares commands as a role, in a session that ends, and finishes that in another.
sub prepare
{
	my ($role, $gid, @commands) = @_;

	value(join('; ', 'BEGIN', @commands, "PREPARE TRANSACTION '$gid'"), user => $role);
}

sub shows
{
	my ($role, %opts) = @_;

	return value('SELECT * FROM supervisor.run($$SHOW work_mem$$) AS (m text)', user => $role, %opts);
}

my $room = room();
cmp_ok($room, '>', 10, 'there is room');
$pid = pid_of('other');
$mine = pid_of('me');
my $there = pid_in('mine');
foreach my $kilobytes (100 .. 102)
{
	my @settings = map { "ALTER DATABASE $_ SET work_mem = $kilobytes" } 'mine', @many[0 .. 16];

	prepare('me', 'databases', @settings);
	is(pid_in('mine'), $there, 'settings of many databases that are prepared are not yet so');
	value("ROLLBACK PREPARED 'databases'", user => 'me');
	is(pid_in('mine'), $there, 'nor ever, if they are rolled back');
	prepare('me', 'databases', @settings);
	value("COMMIT PREPARED 'databases'", user => 'me');
	is(shows('postgres', dbname => 'mine'), "${kilobytes}kB", 'but if they are committed, by another session');
	isnt(pid_in('mine'), $there, 'in another process');
	$there = pid_in('mine');
	is(pid_of('other'), $pid, 'which costs no session in another database');
	is(pid_of('me'), $mine, 'not even of that role');
}
my $named = pid_of('named');
foreach my $kilobytes (103 .. 105)
{
	prepare('keeper', 'roles', map { "ALTER ROLE $_ SET work_mem = $kilobytes" } 'named', map { "r$_" } 1 .. 34);
	is(pid_of('named'), $named, 'settings of many roles that are prepared are not yet so');
	value("COMMIT PREPARED 'roles'", user => 'keeper');
	is(shows('named'), "${kilobytes}kB", 'but if they are committed');
	isnt(pid_of('named'), $named, 'in another process');
	$named = pid_of('named');
	is(pid_of('other'), $pid, 'which costs no session of another role');
	is(pid_of('me'), $mine, 'nor of a third');
}
my $in_a = pid_in('a');
prepare('postgres', 'both', map { "ALTER ROLE $_ IN DATABASE a SET work_mem = 99" } 'named', map { "r$_" } 1 .. 34);
value("COMMIT PREPARED 'both'");
is(pid_of('other'), $pid, 'settings of many roles in a database cost no session elsewhere');
is(pid_of('named'), $named, 'of whichever role');
is(pid_in('a'), $in_a, 'nor of another role in that database');
prepare('postgres', 'both', map { "ALTER ROLE $_ IN DATABASE a SET work_mem = 99" } 'postgres', map { "r$_" } 1 .. 34);
value("COMMIT PREPARED 'both'");
isnt(pid_in('a'), $in_a, 'but of those');
is(room(), $room, 'and no memory, once they are finished');

# PREPARE itself fails.
prepare('me', 'there', 'SELECT 1');
my $databases = join '; ', map { "ALTER DATABASE $_ SET work_mem = 106" } 'mine', @many[0 .. 16];
$pid = pid_of('other');
$there = pid_in('mine');
foreach (1 .. 20)
{
	refused("BEGIN; $databases; PREPARE TRANSACTION 'there'", '42710', 'an identifier is used twice', user => 'me');
	refused("BEGIN; CREATE TEMP TABLE t (); $databases; PREPARE TRANSACTION 'temporary'", '0A000', 'what can not be prepared', user => 'me');
}
is(pid_in('mine'), $there, 'what could not be prepared tells nothing');
is(pid_of('other'), $pid, 'to nobody');
value("ROLLBACK PREPARED 'there'");
is(room(), $room, 'and takes no memory');

# Settings of its own are all that a role without any right can change.
my $own = join '; ', map { "ALTER ROLE other IN DATABASE $_ SET work_mem = 106" } @many[0 .. 16];
prepare('other', "own$_", 'SAVEPOINT s', $own, 'ROLLBACK TO s') foreach 1 .. 3;
value("ROLLBACK PREPARED 'own3'");
$pid = pid_of('other');
value("ROLLBACK PREPARED 'own2'");
is(pid_of('other'), $pid, 'its own settings in many databases that are prepared tell nothing, if they are rolled back');
is(room(), $room, 'and take no memory');
value("ROLLBACK PREPARED 'own1'");

# As much as a role may hold.  What is rolled back locks nothing, but may have changed something.
my $held = 0;
my $error = '';
while ($error eq '' && $held < 60)
{
	(my $sqlstate, $error) = SupervisorTest::error_of($node, "BEGIN; SAVEPOINT s; $databases; ROLLBACK TO s; PREPARE TRANSACTION 'held$held'", user => 'me');
	$held++ if $error eq '';
}
like($error, qr/ERROR:  53200: out of shared memory for prepared transactions\n.*half of it.*\n.*HINT:  Finish prepared.*"supervisor.shared_memory"/s,
	'a role that fills the memory with what it has prepared is stopped');
cmp_ok($held, '>', 10, 'not before');
cmp_ok(value('SELECT room()'), '>=', int($room / 3), 'while others have the other half');
prepare('keeper', 'roles', map { "ALTER ROLE r$_ SET work_mem = 107" } 1 .. 34);
value("COMMIT PREPARED 'roles'");
refused(q{SELECT supervisor.launch('SELECT 1 --' || repeat('x', 20000))}, '53200', 'its tasks count with it', user => 'me');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'me'), 'SELECT 1', 'but not small ones');
prepare('me', 'small', 'ALTER ROLE me SET work_mem = 108');
value("COMMIT PREPARED 'small'");
is(shows('me'), '108kB', 'nor small prepared transactions');
value("ROLLBACK PREPARED 'held$_'") foreach 0 .. $held - 1;
is(room(), $room, 'all of it is there again');
$pid = pid_of('other');
value("BEGIN; ALTER ROLE r$_ SET work_mem = 98; PREPARE TRANSACTION 'r$_'") foreach 1 .. 3;
value("COMMIT PREPARED 'r$_'") foreach 3, 1, 2;
is(pid_of('other'), $pid, 'each prepared transaction has its own');

# Nothing that was refused counts.
$node->psql('postgres', 'BEGIN; SAVEPOINT s; ALTER ROLE other SET work_mem = 99; ROLLBACK TO s; COMMIT',
	extra_params => [ '-U', 'me', '-v', 'ON_ERROR_STOP=0' ]);
$node->psql('postgres', 'BEGIN; SAVEPOINT s; DROP ROLE other; ROLLBACK TO s; COMMIT',
	extra_params => [ '-U', 'me', '-v', 'ON_ERROR_STOP=0' ]);
is(pid_of('other'), $pid, 'what failed has changed nothing');

# The last database that is read after a restart.
value('CREATE DATABASE last');
my $last = add_in('last');

# After a restart nothing is known of what was prepared: anything may have changed.
my @others = map { "ALTER ROLE r$_ SET work_mem = 80" } 1 .. 34;
prepare('postgres', 'old', @others, 'ALTER ROLE other SET work_mem = 80');
$loop->quit;
$open->quit;
foreach my $restart (sub { $node->restart }, sub { $node->stop('immediate'); $node->start })
{
	$restart->();
	SupervisorTest::wait_ready($node, 'default', 4);
	$pid = pid_of('other');
	value("COMMIT PREPARED 'old'");
	isnt(pid_of('other'), $pid, 'what was prepared before a restart takes effect after it');
	is(room(), $room, 'and leaves no memory behind');
	prepare('postgres', 'old', @others, 'ALTER ROLE other SET work_mem = 81');
}
value("ROLLBACK PREPARED 'old'");
$node->restart;

note 'what starts no loader';

value("SELECT supervisor.add_worker('named', 'SELECT 1', run_every => '1 h', role => 'named')", dbname => 'a');
until_true(qq{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name IN ('named', '$last') AND state = 'running'},
	'all has been read');
add_in('b');
my $before = loaders();

# Tests that it has had no table read, but for that of another database, which is asked for after it.
sub reads_nothing
{
	my ($property, $sql, %opts) = @_;

	$node->psql($opts{dbname} // 'a', $sql,
		extra_params => [ '-U', $opts{user} // 'me', '-v', 'ON_ERROR_STOP=0' ]);
	add_in('b');
	is(loaders() - $before, 1, "$property: no loader");
	$before = loaders();
}

reads_nothing('a table of the same name', q{
	CREATE TEMP TABLE worker (n int);
	ALTER TABLE worker ADD m int;
	CREATE RULE r AS ON DELETE TO worker DO INSTEAD NOTHING;
	DROP RULE r ON worker;
	CREATE INDEX ON worker (n);
	ALTER TABLE worker RENAME m TO o;
	DROP TABLE worker});
reads_nothing('another in a schema', q{
	CREATE TABLE mine.worker (n int);
	CREATE FUNCTION mine.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER t BEFORE INSERT ON mine.worker FOR EACH ROW EXECUTE FUNCTION mine.f();
	ALTER TABLE mine.worker DISABLE TRIGGER t;
	DROP TRIGGER t ON mine.worker;
	ALTER TABLE mine.worker OWNER TO me;
	DROP TABLE mine.worker});
reads_nothing('what is not there', q{
	DROP TRIGGER IF EXISTS t ON nosuch.worker;
	DROP RULE IF EXISTS t ON nosuch.worker;
	DROP DATABASE IF EXISTS nosuch;
	ALTER TABLE IF EXISTS nosuch.worker ADD n int});
reads_nothing('what is not mine', q{
	DROP DATABASE b;
	ALTER DATABASE b RENAME TO c;
	ALTER DATABASE b ALLOW_CONNECTIONS false;
	ALTER TABLE supervisor.worker DISABLE TRIGGER ALL;
	CREATE RULE r AS ON DELETE TO supervisor.worker DO INSTEAD NOTHING;
	DROP TABLE supervisor.worker;
	ALTER EXTENSION supervisor UPDATE;
	ALTER EXTENSION plpgsql UPDATE;
	DROP EXTENSION plpgsql});
reads_nothing('the same, and caught', q{
	BEGIN;
	SAVEPOINT s;
	ALTER DATABASE b ALLOW_CONNECTIONS false;
	ROLLBACK TO s;
	SAVEPOINT s;
	DROP ROLE named;
	ROLLBACK TO s;
	SAVEPOINT s;
	CREATE TRIGGER t BEFORE INSERT ON supervisor.worker FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
	ROLLBACK TO s;
	COMMIT});
reads_nothing('grants that change nothing', q{
	GRANT CONNECT ON DATABASE a TO me;
	GRANT CONNECT ON DATABASE b TO me;
	GRANT TEMPORARY ON DATABASE postgres TO me;
	GRANT ALL ON DATABASE mine TO me;
	GRANT ALL ON DATABASE mine TO me});
reads_nothing('a database without workers', q{
	GRANT CONNECT ON DATABASE mine TO named;
	REVOKE CONNECT ON DATABASE mine FROM named;
	ALTER DATABASE mine CONNECTION LIMIT 5});
reads_nothing('my own', q{
	REASSIGN OWNED BY me TO me;
	DROP OWNED BY me;
	ALTER ROLE me PASSWORD 'x'});
reads_nothing('roles that no worker has', 'ALTER ROLE r1 LOGIN; ALTER ROLE r1 NOLOGIN; DROP ROLE r34', user => 'keeper');
reads_nothing('many that were prepared', join('; ', 'BEGIN', (map { "ALTER ROLE r$_ LOGIN" } 1 .. 20), q{PREPARE TRANSACTION 'roles'; COMMIT PREPARED 'roles'}),
	user => 'keeper');
reads_nothing('many databases that were prepared', join('; ', 'BEGIN', (map { "GRANT CONNECT ON DATABASE $_ TO named" } @many), q{PREPARE TRANSACTION 'grants'; COMMIT PREPARED 'grants'}));
reads_nothing('other extensions', q{
	ALTER EXTENSION plpgsql UPDATE;
	DROP EXTENSION plpgsql;
	CREATE EXTENSION plpgsql}, user => 'postgres');

# Many that are to be read.
$node->psql('postgres', join('; ', 'BEGIN', (map { "ALTER DATABASE $_ ALLOW_CONNECTIONS true" } @many), q{PREPARE TRANSACTION 'open'; COMMIT PREPARED 'open'}),
	extra_params => [ '-U', 'me' ]);
add_in('b');
is(loaders() - $before, @many + 1, 'of many databases that may have workers now, if prepared, these are read');

# What does change something.
foreach my $change (
	'ALTER TABLE supervisor.worker DISABLE TRIGGER worker_changed',
	'ALTER TABLE supervisor.worker ENABLE ALWAYS TRIGGER worker_changed',
	'CREATE RULE r AS ON DELETE TO supervisor.worker DO INSTEAD NOTHING',
	'ALTER RULE r ON supervisor.worker RENAME TO q',
	'DROP RULE q ON supervisor.worker',
	'CREATE TRIGGER t BEFORE DELETE ON supervisor.worker FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'ALTER TRIGGER t ON supervisor.worker RENAME TO s',
	'DROP TRIGGER s ON supervisor.worker',
	'CREATE INDEX i ON supervisor.worker (library)',
	'DROP INDEX supervisor.i',
	'ALTER TABLE supervisor.worker ADD CONSTRAINT c CHECK (true)',
	'ALTER TABLE supervisor.worker DROP CONSTRAINT c',
	'ALTER TABLE supervisor.worker ALTER type SET DEFAULT 1',
	'ALTER TABLE supervisor.worker ALTER type DROP DEFAULT',
	'ALTER TABLE supervisor.worker ENABLE ROW LEVEL SECURITY',
	'CREATE POLICY p ON supervisor.worker',
	'DROP POLICY p ON supervisor.worker',
	'ALTER TABLE supervisor.worker DISABLE ROW LEVEL SECURITY',
	'ALTER TABLE supervisor.worker OWNER TO other',
	'REASSIGN OWNED BY other TO postgres',
	'ALTER EXTENSION supervisor DROP TABLE supervisor.worker',
	'ALTER EXTENSION supervisor ADD TABLE supervisor.worker',
	'CREATE TABLE child () INHERITS (supervisor.worker)',
	'DROP TABLE child',
	'GRANT CONNECT ON DATABASE a TO named',
	'ALTER ROLE named NOLOGIN',
	'ALTER ROLE named LOGIN',
	'ALTER DATABASE a ALLOW_CONNECTIONS true',
	'ALTER ROLE r1 SUPERUSER')
{
	$before = loaders();
	value($change, dbname => $change =~ /DATABASE/ ? 'postgres' : 'a');
	ok(eventually(sub { loaders() > $before }), "read again: $change");
}
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'named' AND state = 'running'}, 'it runs again');

note 'what does, again and again';

sub flood
{
	my ($dbname, $user, $sql) = @_;
	my $session = SupervisorTest::session($node, dbname => $dbname, user => $user);

	$session->begin("DO \$\$ BEGIN FOR i IN 1 .. 100000 LOOP $sql; COMMIT; END LOOP; END \$\$");
	until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = '$user' AND query LIKE 'DO%' AND state = 'active'",
		'the flood has begun');
	return $session;
}

sub stop_flood
{
	my ($session) = @_;

	value(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO%' AND pid <> pg_backend_pid()});
	$session->finish;
	$session->quit;
}

my $count = loaders();
$node->safe_psql('b', q{
	DO $$ BEGIN FOR i IN 1 .. 1000 LOOP ALTER DATABASE mine ALLOW_CONNECTIONS true; COMMIT; END LOOP; END $$},
	extra_params => [ '-U', 'me' ]);
my $read = loaders() - $count;
cmp_ok($read, '<', 100, 'a thousand requests are not a hundred loaders');
cmp_ok($read, '>', 0, 'but some');

foreach my $flood (
	[ 'of the owner of another database', 'b', 'me', 'ALTER DATABASE mine ALLOW_CONNECTIONS true' ],
	[ 'of who changes another worker there', 'postgres', 'postgres',
		q{PERFORM supervisor.alter_worker('flooded', command => 'SELECT ' || i)} ])
{
	my ($what, $dbname, $user, $sql) = @$flood;
	my $name = "hers$added";

	value(q{SELECT supervisor.add_worker('flooded', 'SELECT 1', enabled => false)}) if $user eq 'postgres';
	my $session = flood($dbname, $user, $sql);

	value("SELECT supervisor.add_worker('$name', 'SELECT 1', run_every => '1 h', enabled => false)");
	is(value("SELECT supervisor.start_worker('$name', NULL)"), 't', "start_worker under a flood $what");
	is(value("SELECT supervisor.restart_worker('$name', NULL)"), 't', "restart_worker under a flood $what");
	add_in('postgres');
	stop_flood($session);
}

# Who asks again, while the loader is elsewhere, comes behind who asks after him for what was read longer ago;
# and of owners comes first who was served longest ago.
$node->safe_psql('postgres', 'CREATE DATABASE mine_too OWNER me');
add_in('mine_too');
my $before_that = add_in('b');
my $elsewhere = SupervisorTest::session($node, dbname => 'mine');
my $stands;
my $asked = add_in('a');
loaders();
$elsewhere->query_safe('BEGIN; LOCK TABLE supervisor.job');
value('ALTER DATABASE mine IS_TEMPLATE false');
my $waiting = q{SELECT pid FROM pg_locks WHERE NOT granted AND relation IS NOT NULL AND database = (SELECT oid FROM pg_database WHERE datname = 'mine')};
ok(eventually(sub {
	$stands = value($waiting);
	return 0 if $stands eq '';
	stop_process($stands);
	return 1 if value($waiting) eq $stands;
	continue_process($stands);
	return 0;
}), 'a loader waits, and stands still');
$elsewhere->quit;
value(qq{SELECT supervisor.add_worker('asks in $_', 'SELECT 1', run_every => '1 h')}, dbname => $_) foreach 'mine_too', 'a', 'b';
continue_process($stands);
until_true(q{SELECT count(*) = 3 FROM supervisor.worker_status WHERE name LIKE 'asks in%' AND state = 'running'}, 'all run');
is(value(q{SELECT string_agg(name, ', ' ORDER BY id) FROM supervisor.event WHERE name LIKE 'asks in%' AND event = 'starting'}),
	'asks in b, asks in mine_too, asks in a', 'the database that was read longest ago is read first, by turns of owners');
value("SELECT supervisor.remove_worker('asks in $_')", dbname => $_) foreach 'a', 'b';
$node->safe_psql('postgres', 'DROP DATABASE mine_too');
value("SELECT supervisor.remove_worker('$asked')", dbname => 'a');
value("SELECT supervisor.remove_worker('$before_that')", dbname => 'b');

note 'a database where nobody can log in';

# As its owner, without any other right: VACUUM FULL waits, and all who come after it wait for that.
my $oid = value(q{SELECT oid FROM pg_database WHERE datname = 'mine'});
value(q{SELECT supervisor.add_worker('inside', 'SELECT 1', run_every => '1 h')}, dbname => 'mine');
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'inside' AND state = 'running'}, 'it runs');
my $reader = SupervisorTest::session($node, dbname => 'mine', user => 'me');
my $vacuum = SupervisorTest::session($node, dbname => 'mine', user => 'me');
$reader->query_safe('BEGIN; SELECT FROM pg_class LIMIT 0');
$vacuum->begin('VACUUM FULL pg_class');
until_true(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'mine' AND wait_event_type = 'Lock'}, 'VACUUM waits');
value('ALTER DATABASE mine ALLOW_CONNECTIONS true', user => 'me');
until_true("SELECT count(*) = 1 FROM supervisor.event WHERE event = 'loader failed' AND detail LIKE 'database $oid:%'",
	'its loader has failed');
pass('a loader that can not log in is ended');
foreach my $i (1 .. 5)
{
	value('ALTER DATABASE mine ALLOW_CONNECTIONS true', user => 'me');
	my $name = add_in('b');
	is(value("SELECT supervisor.restart_worker('$name', NULL)", dbname => 'b'), 't', "others go on meanwhile, $i");
}
is(value("SELECT count(*) FROM supervisor.event WHERE event = 'loader failed' AND detail LIKE 'database $oid:%'"),
	'1', 'of which is told once, however often its owner asks');
value(q{SELECT supervisor.add_worker('more', 'SELECT 1', run_every => '1 h', enabled => false)}, dbname => 'b');
$reader->query_safe('COMMIT');
$vacuum->finish;
value(q{SELECT supervisor.add_worker('late', 'SELECT 1', run_every => '1 h')}, dbname => 'mine');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'late' AND state = 'running'},
	'its workers are read once one can log in');
$_->quit foreach $reader, $vacuum;

note 'the supervisor waits for no lock';

my $locker = SupervisorTest::session($node);
my $session = SupervisorTest::session($node);
my $slot = $session->query_safe(q{SELECT min(slot) FROM supervisor.worker_status WHERE kind = 'pool'});
$session->query_safe(q{ALTER SYSTEM SET supervisor.databases = 'postgres, b'});
$locker->query_safe('BEGIN; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE');
$session->query_safe('SELECT pg_reload_conf()');
is($session->query_safe("SELECT supervisor.restart_worker($slot, NULL)"), 't', 'a worker is restarted while pg_database is locked');
is($session->query_safe("SELECT supervisor.restart_worker($slot, NULL)"), 't', 'and again');
$locker->query_safe('COMMIT');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE datname IN ('a', 'mine')},
	'the databases are looked at when the lock has gone');
$_->quit foreach $locker, $session;
SupervisorTest::log_is_clean($node);
$node->stop;

note 'where no background worker slot is free';

my $full = SupervisorTest::new_node(
	'full',
	'max_worker_processes' => 6,
	'supervisor.pool_size' => 3);
SupervisorTest::ask(\$full);
SupervisorTest::wait_ready($full, 'default', 3);
foreach my $i (1 .. 3)
{
	value("SELECT supervisor.add_worker('w$i', 'SELECT 1', enabled => false)");
	until_true("SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'w$i'", "w$i has been read");
	SupervisorTest::wait_ready($full, 'default', 3);
}
is(value(q{SELECT count(*) FROM supervisor.event WHERE event = 'exited' AND name = 'default'}), '0', 'no worker makes room for the loader');
$full->stop;

note 'rows of others';

my $rows = SupervisorTest::new_node('rows', 'supervisor.max_workers' => 4, 'supervisor.pool_size' => 1);
my $add = q{SELECT count(supervisor.add_worker('%s' || i, 'SELECT 1', enabled => false)) FROM generate_series(1, %d) i};
my $known = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE name LIKE '%s%%'};
SupervisorTest::ask(\$rows);
value(q{
	CREATE ROLE one LOGIN;
	CREATE ROLE two LOGIN;
	CREATE ROLE three LOGIN;
	CREATE ROLE four LOGIN;
	CREATE ROLE maker LOGIN CREATEDB;
	GRANT EXECUTE ON FUNCTION supervisor.add_worker, supervisor.alter_worker TO one, two, three, four});
refused(sprintf($add, 'x', 28), '53400', 'a role has half of the room that there is for such roles', user => 'one');
value(sprintf($add, 'one', 27), user => 'one');
until_true(sprintf($known, 27, 'one'), 'which is known');
refused(sprintf($add, 'x', 1), '53400', 'and no more', user => 'one');
value(sprintf($add, 'two', 13), user => 'two');
until_true(sprintf($known, 13, 'two'), 'another has half of the rest');
refused(sprintf($add, 'x', 2), '53400', 'and hardly more', user => 'two');

# Somebody's one service is not pushed out by others' many rows, nor by copies of a database with his own.
value(q{SELECT supervisor.add_worker('few', 'SELECT 1', run_every => '1 h')}, user => 'three');
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'few'}, 'who has few has his');
value('CREATE DATABASE original OWNER maker');
value('CREATE EXTENSION supervisor', dbname => 'original');
value('GRANT EXECUTE ON FUNCTION supervisor.add_worker TO three', dbname => 'original');
value(sprintf($add, 'copied', 1), dbname => 'original', user => 'three');
until_true(sprintf($known, 1, 'copied'), 'he has one in a database of another');
value("CREATE DATABASE copy_$_ OWNER maker TEMPLATE original OID ${\(20000 + $_)}") foreach 1 .. 6;
until_true(q{SELECT count(*) > 1 FROM supervisor.worker_status WHERE name LIKE 'copied%'}, 'which is copied');
value(q{SELECT supervisor.add_worker('late', 'SELECT 1', run_every => '1 h')}, user => 'four');
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'late'}, 'and count for their owner, who leaves room');
value(q{SELECT supervisor.add_worker('service', 'SELECT 1', run_every => '1 h')});
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'service'}, 'there is room for a superuser');
$rows->restart;
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'service'}, 'also when all are read anew');
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'few'}, 'and for who has few');
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'late'}, 'whoever came first');
is(value(q{SELECT count(*) <= 55 FROM supervisor.worker_status WHERE kind = 'command'}), 't', 'and no more than there may be');
value(q{SELECT supervisor.remove_worker(name) FROM supervisor.worker WHERE name ~ '^(one|two)'});
until_true(q{SELECT count(*) = 7 FROM supervisor.worker_status WHERE name LIKE 'copied%'}, 'what was left out is known once there is room');
SupervisorTest::log_is_clean($rows);
$rows->stop;

note 'workers that hang, of one role in several databases';

my $hung = SupervisorTest::new_node('hung', 'supervisor.max_workers' => 8, 'supervisor.pool_size' => 1);
SupervisorTest::ask(\$hung);
value(q{CREATE ROLE owner LOGIN; CREATE ROLE guest LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO owner, guest});
my $library = SupervisorTest::build_library('lingers');
my @files;

# Leaves a worker in its exit: the pool's only one.
sub hang
{
	my ($database, $n, $user) = @_;

	push @files, $hung->basedir . "/lingers_${database}_$user";
	append_to_file($files[-1], '');
	value(qq{
		SELECT supervisor.execute(format('SELECT linger(%L)', '$files[-1]'));
		SELECT pg_terminate_backend(pid) FROM supervisor.worker_status WHERE usename = current_user AND state = 'running'},
		dbname => $database, user => $user);
	until_true("SELECT count(*) = $n FROM supervisor.worker_status WHERE state = 'stuck'", "$n hang in the exit");
	return;
}

sub let_go
{
	unlink @files;
	@files = ();
}
foreach my $database (qw(first second third))
{
	value("CREATE DATABASE $database OWNER owner");
	value(qq{
		CREATE EXTENSION supervisor;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO owner, guest;
		CREATE FUNCTION linger(text) RETURNS void LANGUAGE c AS '$library'}, dbname => $database);
}
hang('first', 1, 'owner');
hang('second', 2, 'owner');
my $patient = SupervisorTest::session($hung, dbname => 'third', user => 'owner');
my $late = $patient->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'guest'), 'SELECT 1', 'others are served');
is(value("SELECT state FROM supervisor.task_status WHERE task = $late"), 'queued', 'the owner of these databases is served in none');
let_go();
is($patient->query_safe("SELECT supervisor.wait($late)"), 'succeeded', 'until one has ended');
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE state IN ('stopping', 'stuck')}, 'none is left');

# A guest's count for him, not for the owner.
hang('first', 1, 'guest');
hang('second', 2, 'guest');
is(value(q{SELECT supervisor.execute('SELECT 1')}, dbname => $_, user => 'owner'), 'SELECT 1', "the owner is served beside a guest's, in $_")
  foreach qw(first third postgres);
$late = $patient->query_safe(q{SELECT supervisor.launch('SELECT 1')});
my $waits = SupervisorTest::session($hung, dbname => 'third', user => 'guest');
my $guests = $waits->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is($patient->query_safe("SELECT supervisor.wait($late)"), 'succeeded', 'and in a database of his where nobody hangs');
is(value("SELECT state FROM supervisor.task_status WHERE task = $guests"), 'queued', 'the guest is not');
let_go();
is($waits->query_safe("SELECT supervisor.wait($guests)"), 'succeeded', 'until one has ended');
$_->quit foreach $waits, $patient;
$hung->stop;
done_testing();
