# A role can take its share of the pool, and make its own tasks fail as often
# as it likes; it can't take the pool away from others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value);

# A slot that were put into back-off would stay there for the rest of the test.
my $node = SupervisorTest::new_node(
	'starvation',
	'autovacuum' => 'off',
	'log_statement' => 'none',
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 2,
	'supervisor.max_tasks' => 16,
	'supervisor.shared_memory' => '4MB',
	'supervisor.restart_delay' => '1h',
	'supervisor.restart_delay_max' => '2h');

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE eve LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob;
	CREATE DATABASE other});
$node->safe_psql(
	'other', q{
	CREATE EXTENSION supervisor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob});

SupervisorTest::ask(\$node);

# Checks that $sql raises that SQLSTATE in the session.
sub refused
{
	my ($s, $sql, $sqlstate, $property, $message) = @_;
	my ($got, $stderr) = $s->error_of($sql);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got, $sqlstate, $property) or diag($stderr);
	like($stderr, $message, "$property: message") if $message;
}

# Checks that the pool has all its workers, that none has waited or waits for a
# restart, and that $s is served.
sub whole
{
	my ($s, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($s->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$property: others are served");
	ok( $node->poll_query_until(
			'postgres', q{
			SELECT count(*) FILTER (WHERE state = 'running') = 2 AND count(*) = 2 AND sum(consecutive_failures) = 0
			FROM supervisor.worker_status}),
		"$property: the pool is whole")
	  or diag(value('SELECT slot, state, reason, detail, consecutive_failures FROM supervisor.worker_status'));
}

my $alice = SupervisorTest::session($node, user => 'alice');
my $alice_too = SupervisorTest::session($node, user => 'alice');
my $alice_elsewhere = SupervisorTest::session($node, user => 'alice', dbname => 'other');
my $bob = SupervisorTest::session($node, user => 'bob');
my $boss = SupervisorTest::session($node);
my $pid = q{SELECT v FROM supervisor.run('SELECT pg_backend_pid()') AS t(v int)};

# The first call remembers what there is.
SupervisorTest::leaks($node);

note 'half of the tasks';

my $launch = q{SELECT supervisor.launch('SELECT 1')};
$alice->query_safe("$launch FROM generate_series(1, 3)");
$alice_too->query_safe("$launch FROM generate_series(1, 3)");
$alice_elsewhere->query_safe("$launch FROM generate_series(1, 2)");
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE usename = 'alice'}),
	'8', 'a role may hold half of max_tasks, over all its sessions and databases');
foreach my $s ([ $alice, 'session' ], [ $alice_too, 'other session' ], [ $alice_elsewhere, 'database' ])
{
	refused($s->[0], $launch, '53400', "no more in one $s->[1]", qr/HINT:/);
	refused($s->[0], q{SELECT supervisor.execute('SELECT 1')}, '53400', "nor that waits, in one $s->[1]");
	refused($s->[0], q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])}, '53400', "nor several, in one $s->[1]");
}
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}), '8', 'what was refused is not there');
is($bob->query_safe("SELECT count(*) FROM (SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 7)) s"),
	'7', 'another role has the other half');
is($bob->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and uses it');
is($boss->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a superuser may use what is left');
$boss->query_safe($launch);
refused($boss, $launch, '53400', 'if there is something left', qr/ERROR: .*too many tasks$/m);
refused($bob, $launch, '53400', 'so it is for all', qr/ERROR: .*too many tasks$/m);

# One place is enough for a batch.
$alice->query_safe(q{SELECT supervisor.wait(task), supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid() ORDER BY task LIMIT 1});
is($alice->query_safe(q{SELECT count(tag), count(DISTINCT tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[50]))}),
	'50|1', 'room for one is enough for a batch');
$_->query_safe(q{SELECT supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()})
  foreach ($alice, $alice_too, $alice_elsewhere, $bob, $boss);
is($alice->query_safe("SELECT count(*) FROM (SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 8)) s"),
	'8', 'what was forgotten makes room again');
$alice->quit;
is(SupervisorTest::leaks($node), '', 'so does the end of the session');
$alice = SupervisorTest::session($node, user => 'alice');

note 'one role has very much to do';

# Both workers serve alice, and she always has more; bob has no worker at first.
$alice->begin(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.005)'::text, ARRAY[1000000]))});
my $alice_pid = value(q{SELECT pid FROM pg_stat_activity WHERE usename = 'alice' AND query LIKE '%1000000%' AND state = 'active'});
$node->poll_query_until('postgres',
	q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE usename = 'alice' AND activity = 'busy'})
  or die 'alice does not have both workers';
is($bob->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'another role gets a worker') foreach (1 .. 3);
is($bob->query_safe(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[50]))}), '50', 'for as much as it likes');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'bob', dbname => 'other'), 'SELECT 1', 'and in another database');
is(value("SELECT state FROM pg_stat_activity WHERE pid = $alice_pid"), 'active', 'while the first still has more to do');
value("SELECT pg_cancel_backend($alice_pid)");
like(($alice->finish)[1], qr/57014/, 'until it is canceled');
is(SupervisorTest::leaks($node), '', 'which leaves nothing');

# More roles than workers, all at once.
value('DO $$ BEGIN FOR i IN 1..10 LOOP EXECUTE format($q$ CREATE ROLE r%s LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO r%s $q$, i, i); END LOOP; END $$');
my @crowd = map { SupervisorTest::session($node, user => "r$_") } (1 .. 10);
$_->begin(q{SELECT count(tag) FROM supervisor.execute_all(ARRAY['SELECT pg_sleep(0.01)'])}) foreach @crowd;
is(join(' ', map { my ($out) = $_->finish; $out =~ s/\s//gr } @crowd), join(' ', (1) x 10), 'ten roles share two workers');
$_->quit foreach @crowd;
whole($bob, 'ten roles');

note 'sessions that can not start';

# alice makes that so herself: new sessions of hers fail.
$alice->query_safe(q{ALTER ROLE alice SET local_preload_libraries = 'no_such_library'});
is( $alice->query_safe(q{
		SELECT sqlstate, count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[8])) GROUP BY 1}),
	'55000|8',
	'many sessions fail to start');
whole($bob, 'many failed starts');
$alice->begin(q{SELECT sqlstate, count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[1000000])) GROUP BY 1});
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM supervisor.task_status WHERE usename = 'alice'});
is($bob->query_safe(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[50]))}), '50',
	'while more of them fail, others are served');
$alice_pid = value(q{SELECT pid FROM pg_stat_activity WHERE usename = 'alice' AND query LIKE '%1000000%' AND state = 'active'});
like($alice_pid, qr/^\d+$/, 'and more would have failed');
value("SELECT pg_cancel_backend($alice_pid)");
like(($alice->finish)[1], qr/57014/, 'until it is canceled');
$alice->query_safe('ALTER ROLE alice RESET ALL');
is($alice->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'once they can start again, they do');

value(q{ALTER ROLE alice SET session_preload_libraries = 'no_such_library'});
refused($alice, q{SELECT supervisor.execute('SELECT 1')}, '55000', "a superuser's setting may prevent it, too", qr/no_such_library/) foreach (1 .. 5);
value('ALTER ROLE alice RESET ALL');
whole($bob, 'failed starts');

note 'sessions that end early';

is( $alice->query_safe(q{
		SELECT sqlstate, count(*) FROM supervisor.execute_all(array_fill('SELECT pg_terminate_backend(pg_backend_pid())'::text, ARRAY[8])) GROUP BY 1}),
	'55000|8',
	'many tasks terminate their workers');
whole($bob, 'many dead workers');

# Between tasks they are still alice's backends.
my $terminated = 0;
foreach my $i (1 .. 5)
{
	my $worker = $alice->query_safe($pid);

	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM supervisor.worker_status WHERE pid = $worker AND activity = 'idle'")
	  or die 'the worker is not idle';
	$terminated++ if $alice->query_safe("SELECT pg_terminate_backend($worker, 60000)") eq 't';
}
is($terminated, 5, 'idle workers are terminated by their role');
whole($bob, 'terminated idle workers');

# As many as there are workers, in one moment.
foreach my $i (1 .. 3)
{
	$alice->query_safe(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[8]))});
	$alice->query_safe(q{SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE usename = 'alice' AND backend_type = 'supervisor pool worker'});
}
whole($bob, 'all workers terminated, again and again');

note "somebody else's settings";

# alice's worker stays as it is, whatever eve does, who may not even submit.
my $alices = $alice->query_safe($pid);
value($_, user => 'eve')
  foreach (
	q{ALTER ROLE eve SET work_mem = '1MB'},
	q{BEGIN; SAVEPOINT a; ALTER ROLE alice SET work_mem = '1MB'; ROLLBACK TO a; COMMIT} =~ s/^/\\set ON_ERROR_STOP 0\n/r,
	q{BEGIN; SAVEPOINT a; ALTER ROLE nobody SET work_mem = '1MB'; ROLLBACK TO a; COMMIT} =~ s/^/\\set ON_ERROR_STOP 0\n/r);
is($alice->query_safe($pid), $alices, "one role's ALTER ROLE SET costs no other its session");
value(q{CREATE ROLE frank; GRANT frank TO eve; REVOKE frank FROM eve; DROP ROLE frank; CREATE DATABASE more; DROP DATABASE more});
is($alice->query_safe($pid), $alices, "nor do other roles and databases that come and go");

note 'memory';

my $big_result = q{SELECT length(v) FROM supervisor.run('SELECT repeat(''x'', 1000000)') AS t(v text)};
my $big_command = q{SELECT supervisor.execute('SELECT 1 /* ' || repeat('x', 200000) || ' */')};

# Launches results of that many bytes; returns the ids of those for which there was room, and of the others.
sub fill
{
	my ($s, @sizes) = @_;
	my (@fit, @others);

	foreach my $size (@sizes)
	{
		my $task = $s->query_safe("SELECT supervisor.launch('SELECT repeat(''x'', $size)')");

		push @{ $s->query_safe("SELECT supervisor.wait($task)") eq 'succeeded' ? \@fit : \@others }, $task;
	}
	return (\@fit, \@others);
}

# Checks that all of it can be used.
sub all_usable
{
	my ($property) = @_;
	my ($fit, $others) = fill($boss, (230000) x 15);

	is(scalar @$fit, 15, $property);
	$boss->query_safe("SELECT supervisor.forget($_)") foreach (@$fit, @$others);
}

is($bob->query_safe($big_result), '1000000', 'a large result');
is($bob->query_safe($big_command), 'SELECT 1', 'a large command');
all_usable('many of them');

# Results that nobody reads, until there is no room for more.
my ($fit, $others) = fill($alice, (900000) x 3, 400000, 100000, 60000, 33000);
cmp_ok(scalar @$others, '>', 0, 'results that nobody reads fill the memory');
refused($alice, $big_command, '53200', 'who fills it gets the error for a large command', qr/DETAIL: .*half of it.*HINT: .*supervisor\.shared_memory/s);
refused($alice, "SELECT * FROM supervisor.result($others->[-1]) AS (v text)", '53200', 'and for its results', qr/HINT: .*supervisor\.shared_memory/);
whole($bob, 'memory that is full');
is($bob->query_safe(q{SELECT count(*) FROM supervisor.run('SELECT generate_series(1, 20)') AS t(v int)}), '20', 'small results need none of it');
is($bob->query_safe($big_result), '1000000', 'another role has a share of it, for a result');
is($bob->query_safe($big_command), 'SELECT 1', 'and for a command');
$alice->quit;
is(SupervisorTest::leaks($node), '', 'with the session all is gone');
is($bob->query_safe($big_result), '1000000', 'and there is room again for a result');
is($bob->query_safe($big_command), 'SELECT 1', 'and for a command');
all_usable('for as many as before');

# Errors and cancels must not leave anything there either.
foreach my $i (1 .. 20)
{
	$bob->error_of(q{SELECT * FROM supervisor.run('SELECT repeat(''x'', 500000) UNION ALL SELECT (1/(i-1))::text FROM generate_series(1, 3) i') AS t(v text)});
	$bob->error_of(q{SELECT supervisor.execute('SELECT 1/0 /* ' || repeat('x', 1000000) || ' */')});
	$bob->error_of(q{SELECT * FROM supervisor.run('SELECT repeat(''x'', 500000) FROM generate_series(1, 100)') AS t(v int)});
	$bob->error_of(q{SELECT supervisor.execute('SELECT pg_terminate_backend(pg_backend_pid()) /* ' || repeat('x', 1000000) || ' */')}) if $i % 4 == 0;
	$bob->query_safe(q{SELECT supervisor.forget(supervisor.launch('SELECT repeat(''x'', 500000) FROM generate_series(1, 2)'))});
}
is(SupervisorTest::leaks($node), '', 'tasks that failed in many ways are gone');
all_usable('and all of the memory can be used');

$_->quit foreach ($alice_too, $alice_elsewhere, $bob, $boss);
is(SupervisorTest::leaks($node), '', 'no task or slot is left');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process has crashed');

done_testing();
