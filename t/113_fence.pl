# DDL on a database does not fail over idle pool workers in it, and fails over a
# busy one as over any session.  It disturbs nobody where it may not succeed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote until_true);

my $node = SupervisorTest::new_node(
	'fence',
	'allow_in_place_tablespaces' => 'on',
	'max_connections' => 50,
	'max_prepared_transactions' => 5,
	'max_worker_processes' => 40,
	'supervisor.pool_size' => 10,
	'supervisor.pools' => 'one:1');

SupervisorTest::wait_ready($node, 'default', 10);
SupervisorTest::wait_ready($node, 'one', 1);

# What is created from now on has the extension, and a table.
$node->safe_psql('template1', q{
	CREATE EXTENSION supervisor;
	CREATE TABLE done (what text)});
$node->safe_psql('postgres', q{
	CREATE TABLE done (what text);
	CREATE ROLE plain LOGIN;
	CREATE ROLE maker LOGIN CREATEDB;
	CREATE ROLE owner LOGIN CREATEDB});
$node->safe_psql('postgres', "CREATE TABLESPACE place LOCATION ''");

SupervisorTest::ask(\$node);

# Creates databases.
sub create
{
	$node->safe_psql('postgres', "CREATE DATABASE $_") foreach @_;
}

# Makes an idle worker bound to each of these databases.
sub bind_to
{
	foreach my $database (@_)
	{
		$node->safe_psql($database, q{SELECT supervisor.execute('SELECT 1')});
		until_true(
			qq{SELECT count(*) > 0 FROM supervisor.worker_status WHERE datname = '$database' AND activity = 'idle'},
			"a worker is idle in $database");
	}
}

# Waits until no session but these workers is in the database.
sub alone
{
	my ($database) = @_;

	until_true(
		qq{SELECT count(*) = 0 FROM pg_stat_activity
		   WHERE datname = '$database' AND backend_type <> 'supervisor pool worker'}, "nobody is in $database");
}

sub workers
{
	my ($where) = @_;

	$where //= 'true';
	return $node->safe_psql('postgres', qq{
		SELECT string_agg(slot || ':' || generation, ' ' ORDER BY slot)
		FROM supervisor.worker_status WHERE $where});
}

# Gives pool "one" something to do in "postgres", which ends with free_one().
create('lock');
my $locker = SupervisorTest::session($node, dbname => 'lock');
sub keep_one_busy
{
	$locker->query_safe('BEGIN; LOCK TABLE done');
	$locker->query_safe(q{SELECT supervisor.forget(supervisor.launch('SELECT * FROM done', pool => 'one'))});
	until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}, 'pool one is busy');
}

sub free_one
{
	$locker->query_safe('COMMIT');
}

# Queues tasks in $database, which nobody waits for.
sub queue
{
	my ($database, $n) = @_;

	$node->safe_psql($database, qq{
		SELECT supervisor.forget(supervisor.launch('INSERT INTO done VALUES (''queued'')', pool => 'one'))
		FROM generate_series(1, $n)});
	alone($database);
}

sub queued
{
	my ($database) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM supervisor.task_status WHERE state = 'queued' AND datname = '$database'});
}

sub no_task
{
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
}

sub is_error
{
	my ($sqlstate, $sql, $name, %opts) = @_;
	my ($got, $stderr) = SupervisorTest::error_of($node, $sql, %opts);

	is($got, $sqlstate, $name) or diag $stderr;
}

note 'idle workers step aside';

create('a');
$node->safe_psql('postgres', 'ALTER DATABASE a OWNER TO owner');
$node->safe_psql('a', 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO plain, owner');
bind_to('postgres');
my $bystander = workers(q{datname = 'postgres'});
my $log = -s $node->logfile;

# Core would wait for 5 s, and then raise 55006.
sub succeeds
{
	my ($database, $sql, $name, %opts) = @_;

	bind_to($database);
	$node->safe_psql($database, q{SELECT supervisor.execute('SELECT 1')}, extra_params => [ '-U', 'plain' ])
	  if $database eq 'a';
	alone($database);
	is_error(undef, $sql, $name, %opts);
}

succeeds('a', 'ALTER DATABASE a RENAME TO b', 'RENAME');
is($node->safe_psql('b', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks run under the new name');
succeeds('b', 'ALTER DATABASE b RENAME TO a', 'RENAME by its owner', user => 'owner');
succeeds('a', 'ALTER DATABASE a SET TABLESPACE place', 'SET TABLESPACE');
is($node->safe_psql('a', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks run in the new place');
succeeds('a', 'ALTER DATABASE a SET TABLESPACE pg_default', 'SET TABLESPACE back');
succeeds('a', 'CREATE DATABASE copy TEMPLATE a', 'CREATE DATABASE ... TEMPLATE');
is($node->safe_psql('copy', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks run in the copy');
succeeds('template1', 'CREATE DATABASE copy2', 'CREATE DATABASE from template1');
succeeds('a', q{DO $$ BEGIN ALTER DATABASE a RENAME TO b; END $$}, 'RENAME in a DO block');
succeeds('b', 'ALTER DATABASE b RENAME TO a', 'RENAME again');
succeeds('a', q{SELECT supervisor.execute('ALTER DATABASE a RENAME TO b')}, 'RENAME in a task');
succeeds('b', q{SELECT supervisor.execute('CREATE DATABASE copy3 TEMPLATE b')}, 'CREATE DATABASE in a task');
succeeds('copy3', q{SELECT supervisor.execute('DROP DATABASE copy3')}, 'DROP DATABASE in a task');
succeeds('copy', 'DROP DATABASE copy', 'DROP DATABASE');
succeeds('copy2', 'DROP DATABASE copy2 WITH (FORCE)', 'DROP DATABASE with FORCE');
succeeds('b', 'DROP DATABASE IF EXISTS b', 'DROP DATABASE by its owner', user => 'owner');
is(workers(q{datname = 'postgres' AND activity = 'idle'}) =~ /\b\Q$bystander\E\b/ ? 'there' : 'gone',
	'there', 'the worker of another database is not disturbed');
SupervisorTest::wait_ready($node, 'default', 10);
pass('the pool is whole again');
my $logged = substr(slurp_file($node->logfile), $log);
unlike($logged, qr/FATAL/, 'no worker leaves with a FATAL');
unlike($logged, qr/ended: exit code/, 'nor is it reported as failed');

# The session's own database as the template: but for the workers it is alone.
bind_to('postgres');
is($node->psql('postgres', q{CREATE DATABASE mirror TEMPLATE postgres}), 0, 'TEMPLATE may be the own database');
$node->safe_psql('postgres', 'DROP DATABASE mirror');

note 'what fails disturbs nobody';

create('a');
$node->safe_psql('postgres', 'ALTER DATABASE a OWNER TO owner');
bind_to('a', 'postgres', 'template1');
my $before = workers();
foreach my $role ('plain', 'maker')
{
	is_error('42501', 'DROP DATABASE a', "$role may not drop", user => $role);
	is_error('42501', 'ALTER DATABASE a RENAME TO b', "$role may not rename", user => $role);
	is_error('42501', 'ALTER DATABASE a SET TABLESPACE place', "$role may not move", user => $role);
	is_error('42501', 'CREATE DATABASE b TEMPLATE a', "$role may not copy", user => $role);
	is(workers(), $before, "no worker has to go for $role");
}
is_error('25001', 'BEGIN; DROP DATABASE a', 'no DROP in a transaction block');
is_error('25001', 'BEGIN; ALTER DATABASE a SET TABLESPACE place', 'no SET TABLESPACE in a transaction block');
is_error('25001', 'BEGIN; CREATE DATABASE b TEMPLATE a', 'no CREATE DATABASE in a transaction block');
is_error('25001', q{DO $$ BEGIN DROP DATABASE a; END $$}, 'nor in a function');
is_error('25001', q{DO $$ BEGIN EXECUTE 'CREATE DATABASE b TEMPLATE a'; END $$}, 'nor there either');
is_error('3D000', 'DROP DATABASE none', 'no DROP of what is not there');
is_error(undef, 'DROP DATABASE IF EXISTS none', 'unless it may be missing');
is_error('55006', 'DROP DATABASE postgres', 'no DROP of the own database');
is_error(undef, 'ALTER DATABASE a CONNECTION LIMIT 50', 'a limit may be set');
is_error(undef, 'CREATE DATABASE b TEMPLATE template0', 'other databases may come');
is_error(undef, 'DROP DATABASE b', 'and go');
is_error('42P04', 'ALTER DATABASE a RENAME TO postgres', 'no RENAME to a name that is taken');
is_error('0A000', 'ALTER DATABASE postgres RENAME TO b', 'nor of the own database');
is_error('42809', 'DROP DATABASE template1', 'no DROP of a template');
is_error('42704', 'ALTER DATABASE a SET TABLESPACE nosuch', 'no SET TABLESPACE to what is not there');
is_error('22023', 'ALTER DATABASE a SET TABLESPACE pg_global', 'nor to what is not for that');
is_error(undef, 'ALTER DATABASE a SET TABLESPACE pg_default', 'to where it is it may be moved');
$node->safe_psql('a', 'CREATE TABLE elsewhere (a int) TABLESPACE place');
# but for the workers, which are still there, core would say 55000
is_error('55006', 'ALTER DATABASE a SET TABLESPACE place', 'nor to where it has files already');
$node->safe_psql('a', 'DROP TABLE elsewhere');
$node->safe_psql('postgres', 'CHECKPOINT');
is_error('25006', "SET default_transaction_read_only = on; $_", "no $_ in a read-only transaction", user => 'owner')
  foreach 'DROP DATABASE a', 'ALTER DATABASE a RENAME TO b', 'CREATE DATABASE b TEMPLATE a';
is_error('42P04', 'CREATE DATABASE a', 'no CREATE DATABASE of one that is there');
is_error('22023', 'CREATE DATABASE b TABLESPACE pg_global', 'none in pg_global');
is(workers(), $before, 'no worker has to go for any of these');

# Anybody with CREATEDB may copy a template.
my %options = (
	'NONSENSE 1' => '42601',
	'OWNER maker OWNER maker' => '42601',
	'OWNER nosuch' => '42704',
	'OWNER owner' => '42501',
	'TABLESPACE nosuch' => '42704',
	'TABLESPACE place' => '42501',
	'ENCODING LATIN1' => '22023',
	"ENCODING 'nosuch'" => '42704',
	'ENCODING 1000' => '42704',
	"LC_COLLATE 'nosuch'" => '42809',
	"LC_CTYPE 'nosuch'" => '42809',
	"LOCALE 'nosuch'" => '42809',
	'LOCALE_PROVIDER nosuch' => '42P17',
	'CONNECTION LIMIT -2' => '22023',
	'STRATEGY nosuch' => '22023',
	'IS_TEMPLATE maybe' => '42601',
	'ALLOW_CONNECTIONS maybe' => '42601',
	'TEMPLATE nosuch' => '3D000',
	'COLLATION_VERSION DEFAULT' => '42601',
	'OID 50000' => '42501');
foreach my $option (sort keys %options)
{
	is_error($options{$option}, "CREATE DATABASE b $option", "CREATE DATABASE with $option", user => 'maker');
}
is_error('42P04', 'CREATE DATABASE postgres', 'CREATE DATABASE of one that is there', user => 'maker');
is(workers(), $before, 'no worker has to go for these, either');
is_error(undef, q{CREATE DATABASE b OWNER maker TABLESPACE pg_default ENCODING 'UTF8' LOCALE 'POSIX' STRATEGY wal_log
	CONNECTION LIMIT 5 IS_TEMPLATE false ALLOW_CONNECTIONS true}, 'one has to for what will do');
is_error(undef, 'DROP DATABASE b', 'it is there');
bind_to('template1');

# What core takes at once, or in vain waits for.
$node->safe_psql('a', q{BEGIN; CREATE TABLE prepared (a int); PREPARE TRANSACTION 'here'});
$before = workers();
is_error('55006', 'DROP DATABASE a WITH (FORCE)', 'no DROP where a transaction is prepared', user => 'owner');
is_error('55006', 'ALTER DATABASE a RENAME TO b', 'nor RENAME', user => 'owner');
is(workers(), $before, 'no worker has to go for a prepared transaction');
$node->safe_psql('a', q{ROLLBACK PREPARED 'here'});
my $blocker = SupervisorTest::session($node);
$blocker->query_safe(q{BEGIN; COMMENT ON DATABASE a IS 'locked'});
is_error('55P03', 'SET lock_timeout = 100; ALTER DATABASE a RENAME TO b', 'no RENAME while the database is locked', user => 'owner');
is_error('55P03', 'SET lock_timeout = 100; CREATE DATABASE b TEMPLATE a', 'nor a copy', user => 'owner');
$blocker->query_safe('ROLLBACK');
$blocker->quit;
is(workers(), $before, 'no worker has to go for a lock');
is_error(undef, "CREATE DATABASE b TEMPLATE a OID 60000 COLLATION_VERSION 'x' LOCALE_PROVIDER libc LOCATION 'x'", 'one has to for other options that will do');
is_error(undef, 'DROP DATABASE b', 'it is there');
bind_to('a');

# A privileged command that fails: the fence ends all the same.
my $own = SupervisorTest::session($node, dbname => 'a');
is_error('55006', 'ALTER DATABASE a RENAME TO b', 'a session is in the way, as always');
is($own->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'tasks run after that, too');
$own->quit;

note 'busy workers';

sub busy
{
	my ($command) = @_;

	$node->safe_psql('a', 'SELECT supervisor.forget(supervisor.launch(' . quote($command) . '))');
	alone('a');
	until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'a' AND wait_event = 'PgSleep'},
		'the task runs');
}

busy('SELECT pg_sleep(1000)');
is_error('55006', 'DROP DATABASE a', 'a task is a session like any other');
is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.task_status WHERE state = 'running'}),
	'1', 'and is not interrupted');
is_error(undef, 'DROP DATABASE a WITH (FORCE)', 'FORCE ends it');
no_task();
create('a');
busy(q{
	DO $$BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'ALTER DATABASE a %') LOOP
			PERFORM pg_sleep(0.1);
			PERFORM pg_stat_clear_snapshot();
		END LOOP;
	END$$; SELECT pg_sleep(1)});
is_error(undef, 'ALTER DATABASE a RENAME TO b', 'a task that ends while core waits is no obstacle');
is_error(undef, 'DROP DATABASE b', 'the worker did not stay');
SupervisorTest::wait_ready($node, 'default', 10);

note 'tasks for a database with a fence';

create('a', 'c');
my %ends = (
	COMMIT => 'b',
	ROLLBACK => 'a',
	'ROLLBACK TO s; COMMIT' => 'a',
	death => 'a');
foreach my $end (sort keys %ends)
{
	my $holder = SupervisorTest::session($node);
	my $pid = $holder->pid;
	my $fenced = $end eq 'COMMIT' ? 'b' : 'a';

	$node->safe_psql('a', 'TRUNCATE done');
	keep_one_busy();
	queue('a', 3);
	is($holder->query('BEGIN; SAVEPOINT s; ALTER DATABASE a RENAME TO b; SELECT 17'),
		'17', "$end: RENAME with tasks in the queue");
	$holder->query_safe('ROLLBACK TO s') if $end =~ /TO s/;
	free_one();
	is($node->safe_psql('postgres', q{SELECT * FROM supervisor.run('SELECT 1', pool => 'one') AS (n int)}),
		'1', "$end: tasks of other databases run");
	is(queued('a'), '3', "$end: those of the database wait, as long as the transaction lasts");
	if ($end eq 'death')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		eval { $holder->quit };
	}
	else
	{
		$holder->query_safe($end =~ s/ROLLBACK TO s; //r);
		$holder->quit;
	}
	no_task();
	is($node->safe_psql($ends{$end}, 'SELECT count(*) FROM done'), '3', "$end: they run then");
	$node->safe_psql('postgres', 'ALTER DATABASE b RENAME TO a') if $ends{$end} eq 'b';
}

# A copy is made while tasks wait for the template.
$node->safe_psql('a', 'TRUNCATE done');
keep_one_busy();
queue('a', 2);
is_error(undef, 'CREATE DATABASE copy TEMPLATE a', 'CREATE DATABASE ... TEMPLATE with tasks in the queue');
free_one();
no_task();
is($node->safe_psql('a', 'SELECT count(*) FROM done'), '2', 'they run in the template');
is($node->safe_psql('copy', 'SELECT count(*) FROM done'), '0', 'and only there');
$node->safe_psql('postgres', 'DROP DATABASE copy');

# No other task has to wait because the one that waits longest can't run.
my $stream = SupervisorTest::session($node);
my $holder = SupervisorTest::session($node);
keep_one_busy();
queue('a', 1);
$holder->query_safe('BEGIN; ALTER DATABASE a RENAME TO b');
$stream->begin(q{SELECT * FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[100000]), pool => 'one')});
free_one();
is($node->safe_psql('c', q{SELECT * FROM supervisor.run('SELECT 1', pool => 'one', timeout => '30 s') AS (n int)}),
	'1', 'a fence starves no other database');
is(queued('a'), '1', 'while it stands');
$node->safe_psql('postgres', q{
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%execute_all%' AND pid <> pg_backend_pid()
	AND backend_type = 'client backend'});
$stream->finish;
$stream->quit;
$holder->query_safe('ROLLBACK');
$holder->quit;
no_task();

# Tasks for a database that is dropped.
keep_one_busy();
queue('c', 3);
is_error(undef, 'DROP DATABASE c', 'DROP DATABASE with tasks in the queue');
free_one();
no_task();
pass('tasks for a database that is gone are gone');
is($node->safe_psql('postgres', q{SELECT * FROM supervisor.run('SELECT 2', pool => 'one') AS (n int)}),
	'2', 'the pool goes on');

note 'many';

my @databases = map { "db$_" } 1 .. 6;
create(@databases);
foreach my $round (1, 2)
{
	bind_to(@databases);
	alone($_) foreach @databases;
	my @s = map { SupervisorTest::session($node) } @databases;

	$s[$_]->begin($round == 1 ? "ALTER DATABASE $databases[$_] SET TABLESPACE place" : "DROP DATABASE $databases[$_]")
	  foreach 0 .. $#s;
	my $errors = join '', map { ($_->finish)[1] } @s;
	is($errors, '', 'six at once, each with a worker that steps aside: ' . ($round == 1 ? 'SET TABLESPACE' : 'DROP'));
	$_->quit foreach @s;
}
SupervisorTest::wait_ready($node, 'default', 10);

# There are fewer fences than these; without one it is as without us.
@databases = map { "db$_" } 1 .. 20;
create(@databases);
bind_to(@databases[0 .. 4]);
alone($_) foreach @databases;
my @s = map { SupervisorTest::session($node) } @databases;
my $errors = '';
foreach my $i (0 .. 19)
{
	$s[$i]->query("BEGIN; ALTER DATABASE $databases[$i] RENAME TO other$i");
	$errors .= $s[$i]->{stderr};
}
is($errors, '', 'twenty transactions at once');
$_->query_safe('COMMIT') foreach @s;
$_->quit foreach @s;
bind_to('other19');
is_error(undef, 'ALTER DATABASE other19 RENAME TO again', 'all fences are free again');

# One session, over and over.
$own = SupervisorTest::session($node);
$own->query_safe('BEGIN');
$own->query_safe('ALTER DATABASE again RENAME TO other; ALTER DATABASE other RENAME TO again') foreach 1 .. 20;
bind_to('other18');
is_error(undef, 'DROP DATABASE other18', 'a session does not use up the fences with one database');
$own->query_safe('ROLLBACK');
$own->quit;

# A non-superuser role has a quarter of the fences.
$node->safe_psql('postgres', "ALTER DATABASE other$_ OWNER TO owner") foreach 0 .. 16;
bind_to('other16', 'other17');
alone('other16');
$own = SupervisorTest::session($node, user => 'owner');
$own->query_safe('BEGIN');
$own->query_safe("ALTER DATABASE other$_ RENAME TO its$_") foreach 0 .. 15;
$own->query('ALTER DATABASE other16 RENAME TO its16');
like($own->{stderr}, qr/55006/, 'for one more there is none, and it is as without us');
$own->query_safe('ROLLBACK; BEGIN');
$own->query_safe("ALTER DATABASE other$_ RENAME TO its$_") foreach 0 .. 15;
alone('other17');
is_error(undef, 'ALTER DATABASE other17 RENAME TO its17', 'others have theirs');
$node->safe_psql('postgres', 'ALTER DATABASE its17 RENAME TO other17');
$own->query_safe('ROLLBACK');
$own->quit;
$node->safe_psql('postgres', "DROP DATABASE other$_") foreach 0 .. 17;

# Workers that come and go all the time.
$own = SupervisorTest::session($node);
create('x');
my $failed = 0;
foreach my $i (1 .. 15)
{
	$node->safe_psql('x', q{SELECT supervisor.execute('SELECT 1'), supervisor.forget(supervisor.launch('SELECT 2')),
		supervisor.forget(supervisor.launch('SELECT 3', pool => 'one'))});
	$own->query("ALTER DATABASE x RENAME TO y");
	$failed++ if $own->{stderr} =~ /ERROR/;
	diag $own->{stderr} if $own->{stderr};
	$node->safe_psql('y', q{SELECT supervisor.execute('SELECT 1'), supervisor.forget(supervisor.launch('SELECT 2')),
		supervisor.forget(supervisor.launch('SELECT 3', pool => 'one'))});
	$own->query("ALTER DATABASE y RENAME TO x");
	$failed++ if $own->{stderr} =~ /ERROR/;
	diag $own->{stderr} if $own->{stderr};
}
is($failed, 0, 'RENAME right behind tasks');
$own->quit;
no_task();

# A run that makes way ends, and comes again when nobody has locked what it has to drop any more.
create('z');
$node->safe_psql('z', q{
	CREATE SEQUENCE runs;
	CREATE TABLE state AS SELECT 0 AS pause;
	SELECT supervisor.add_worker('made', $$
		SELECT nextval('runs');
		CREATE TEMP TABLE guarded (a int);
		COMMIT;
		SELECT pg_sleep(pause) FROM state$$, run_every => '10 ms')});
$node->poll_query_until('z', 'SELECT last_value > 2 FROM runs') or die 'it does not run';
$node->safe_psql('z', 'UPDATE state SET pause = 600');
until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'supervisor: made' AND wait_event = 'PgSleep'}, 'a run goes on for long');
$own = SupervisorTest::session($node, dbname => 'z');
$own->query_safe('BEGIN; LOCK TABLE ' . $node->safe_psql('z', q{SELECT oid::regclass FROM pg_class WHERE relname = 'guarded'}) . ' IN ACCESS SHARE MODE');
my $made = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE name = 'made'});
is_error('57014', 'SET statement_timeout = 1000; ALTER DATABASE z RENAME TO z2', 'DDL cancels it');
until_true(q{SELECT detail = 'it hangs in its exit' FROM supervisor.worker_status WHERE name = 'made'}, 'it waits in its exit for him');
$node->safe_psql('z', 'UPDATE state SET pause = 0');
$own->query_safe('ROLLBACK');
$own->quit;
until_true(qq{SELECT state = 'running' AND pid <> $made FROM supervisor.worker_status WHERE name = 'made'}, 'then it comes again');
$node->safe_psql('z', q{SELECT supervisor.remove_worker('made')});

# What was to run once, and has, does not run again because DDL asks its process to leave.
my $library = SupervisorTest::build_library('lingers');
my $file = $node->basedir . '/lingers';
append_to_file($file, '');
$node->safe_psql('z', qq{
	CREATE FUNCTION linger(text) RETURNS void LANGUAGE c AS '$library';
	CREATE SEQUENCE once;
	SELECT supervisor.add_worker('once', \$\$SELECT nextval('once'), linger('$file')\$\$, restart => 'never')});
until_true(q{SELECT detail = 'it hangs in its exit' FROM supervisor.worker_status WHERE name = 'once'}, 'it has run once, and is in its exit');
is($node->safe_psql('postgres', 'SET statement_timeout = 10000; ALTER DATABASE z RENAME TO z2; ALTER DATABASE z2 RENAME TO z; SELECT 1'), '1',
	'DDL that asks it to leave');
unlink $file;
until_true(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'once'}, 'it ends');
is($node->safe_psql('z', 'SELECT last_value FROM once'), '1', 'and does not run again');

$locker->quit;
SupervisorTest::wait_ready($node, 'default', 10);
SupervisorTest::wait_ready($node, 'one', 1);
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal/, 'no process has crashed');
done_testing();
