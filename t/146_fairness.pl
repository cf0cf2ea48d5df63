# What a role asks for, or does to its own workers, costs others no more than
# their share: of workers, of processes that are started, of events that are
# remembered, of a call's results.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

my $node = SupervisorTest::new_node(
	'fairness',
	'autovacuum' => 'off',
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, three:3',
	'supervisor.max_tasks' => 64,
	'supervisor.shared_memory' => '4MB');

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE eve LOGIN;
	CREATE ROLE carol LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob, eve, carol;
	CREATE SEQUENCE alices;
	CREATE SEQUENCE bobs;
	GRANT ALL ON SEQUENCE alices, bobs TO PUBLIC});

SupervisorTest::ask(\$node);

my $alice = SupervisorTest::session($node, user => 'alice');
my $bob = SupervisorTest::session($node, user => 'bob');
my $eve = SupervisorTest::session($node, user => 'eve');
my $eve_too = SupervisorTest::session($node, user => 'eve');
my $boss = SupervisorTest::session($node);

# Starts more tasks of a command in a session than will ever be run; end() ends that.
sub flood
{
	my ($s, $command, $pool, $n) = @_;

	$pool //= 'default';
	$n //= 1_000_000;
	$s->begin("SELECT count(*) FROM supervisor.execute_all(array_fill(\$\$$command\$\$::text, ARRAY[$n]), '$pool')");
}

sub end
{
	my ($s, $user) = @_;

	value("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '$user' AND query LIKE '%execute_all%' AND state = 'active'");
	like(($s->finish)[1], qr/57014/, "$user had more to do");
}

sub generations
{
	my ($pool) = @_;

	return value("SELECT sum(generation) FROM supervisor.worker_status WHERE pool = '$pool'");
}

# How far the two have come.
sub progress
{
	return split /\|/, value('SELECT a.last_value, b.last_value FROM alices a, bobs b');
}

# Waits until both have gone on by $n tasks; returns how many workers have been replaced meanwhile.
sub replaced
{
	my ($pool, $n, $who) = @_;
	my ($alices, $bobs) = progress();
	my $before = generations($pool);

	becomes("SELECT a.last_value >= $alices + $n AND b.last_value >= $bobs + $n FROM alices a, bobs b", "$who both get ahead");
	return generations($pool) - $before;
}

note 'events';

# carol's are few, and come first.
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'carol'), 'SELECT 1', 'a role has events');
value(q{SELECT supervisor.execute('ALTER ROLE carol SET work_mem = ''8MB''; SELECT 1')}, user => 'carol');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'carol'), 'SELECT 1', 'of processes that come and go');
value(q{SELECT supervisor.restart_pool('default')});
my $last = value('SELECT max(id) FROM supervisor.event');
my $kept = value("SELECT count(*) FROM supervisor.event WHERE id <= $last");

# Each of her tasks finds settings that are not its session's, and needs another process.
for my $i (1 .. 40)
{
	# by another's doing: with her own she would be held back
	foreach my $mb (1 .. 20)
	{
		value("ALTER ROLE eve SET work_mem = '${mb}MB'");
		$eve->query_safe(q{SELECT supervisor.execute('SELECT 1')});
	}
	last if value('SELECT max(id) FROM supervisor.event') > 1600;
}
cmp_ok(value('SELECT max(id) FROM supervisor.event'), '>', 1600, 'more events than are remembered');
is(value('SELECT count(*), count(DISTINCT id) FROM supervisor.event'), '1000|1000', 'as many as can be are remembered');
is(value("SELECT count(*) FROM supervisor.event WHERE id <= $last"), $kept, 'those of others are still there');
is(value('SELECT count(*) FROM (SELECT at < lag(at) OVER (ORDER BY id) AS wrong FROM supervisor.event) e WHERE wrong'), '0', 'in order of time');
is(value('SELECT string_agg(id::text, $$ $$) = string_agg(id::text, $$ $$ ORDER BY id) FROM supervisor.event'), 't', 'and of number');

# Others' events come, and hers go.
foreach my $mb (1 .. 10)
{
	value("ALTER ROLE bob SET work_mem = '${mb}MB'");
	$bob->query_safe(q{SELECT supervisor.execute('SELECT 1')});
}
is(value("SELECT count(*) FROM supervisor.event WHERE id <= $last"), $kept, 'new events of others do not overwrite them');
is(value('SELECT count(*) FROM supervisor.event'), '1000', 'but hers');

note 'a role whose worker is busy for long';

my $lock = SupervisorTest::session($node);
$lock->query_safe('SELECT pg_advisory_lock(1)');
$alice->query_safe(q{SELECT supervisor.launch('SELECT 1 FROM pg_advisory_xact_lock_shared(1)')});
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE usename = 'alice' AND activity = 'busy'});
flood($bob, 'SELECT pg_sleep(0.01)');
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE usename = 'bob' AND activity = 'busy'});
is($alice->query_safe(q{SELECT supervisor.execute('SELECT 1', timeout => '1 min')}), 'SELECT 1', 'gets another in time') for 1 .. 3;
is(value(q{SELECT count(*) FROM supervisor.task_status WHERE usename = 'alice' AND state = 'running'}), '1', 'while the first is busy');
until_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE usename = 'bob' AND activity = 'busy'}, 'and the other role gets it back');
end($bob, 'bob');
$lock->quit;
$alice->query_safe(q{SELECT supervisor.wait(task), supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});

note 'a role with many long tasks';

# All workers are one role's; another has more tasks than workers, and none of them ends.
$lock = SupervisorTest::session($node);
$lock->query_safe('SELECT pg_advisory_lock(2)');
flood($alice, q{SELECT nextval('alices'), pg_sleep(0.005)}, 'three');
until_true(q{SELECT count(*) = 3 FROM supervisor.worker_status WHERE pool = 'three' AND usename = 'alice' AND activity = 'busy'});
$eve->query_safe(q{SELECT supervisor.launch('SELECT 1 FROM pg_advisory_xact_lock_shared(2)', pool => 'three') FROM generate_series(1, 20)});
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE pool = 'three' AND usename = 'eve' AND activity = 'busy'}, 'it gets its share');
my ($alices) = progress();
becomes("SELECT last_value > $alices + 300 FROM alices", 'others keep theirs');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE pool = 'three' AND usename = 'eve' AND activity = 'busy'}), '2', 'so it is while they have more to do');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'three')}, user => 'bob'), 'SELECT 1', 'and a third gets one');
becomes("SELECT last_value > $alices + 600 FROM alices", 'of which it gives them one back');
end($alice, 'alice');
$lock->quit;
$eve->query_safe(q{SELECT supervisor.wait(task), supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});

note 'two roles with very much to do';

foreach my $case (
	[ 'default', 'short tasks', 0.005, 0.005, 100, 0.1 ],
	[ 'default', 'long and short tasks', 0.3, 0.005, 8, 0.5 ],
	[ 'one', 'short tasks, and one worker', 0.005, 0.005, 40, 1 ])
{
	my ($pool, $what, $alices, $bobs, $n, $share) = @$case;

	flood($alice, "SELECT nextval('alices'), pg_sleep($alices)", $pool);
	flood($bob, "SELECT nextval('bobs'), pg_sleep($bobs)", $pool);
	replaced($pool, 1, $what);
	cmp_ok(replaced($pool, $n, $what), '<=', $n * $share, "$what: workers stay where they are");
	end($alice, 'alice');
	end($bob, 'bob');
}

note 'a role that ends its workers';

my $suicide = 'SELECT pg_terminate_backend(pg_backend_pid())';

# Returns how many tasks of the default pool have failed, and the time.
sub failed
{
	return split /\|/, value(q{SELECT tasks_failed, extract(epoch FROM clock_timestamp()) FROM supervisor.pool_status WHERE pool = 'default'});
}

# As many at once, and then one a second; what two workers do at the same time is not seen before.
sub bounded
{
	my ($before, $since, $property) = @_;
	my ($after, $now) = failed();

	cmp_ok($after - $before, '<=', 5 + 2 + ($now - $since), $property)
	  or diag sprintf '%d in %.1f s', $after - $before, $now - $since;
}

my ($before, $since) = failed();
my $all = "SELECT sqlstate, count(*) FROM supervisor.execute_all(array_fill('$suicide'::text, ARRAY[10])) GROUP BY 1";
is($eve->query_safe($all), '55000|10', 'all its tasks fail');
bounded($before, $since, 'but not many at once');

($before, $since) = failed();
flood($eve, $suicide, 'default', 25);
until_true("SELECT tasks_failed > $before + 2 FROM supervisor.pool_status WHERE pool = 'default'");
is($bob->query_safe(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[200]))}), '200',
	'the tasks of others are not held up');
is($bob->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'nor is one alone') for 1 .. 5;
refused(q{SELECT supervisor.execute('SELECT 1', timeout => '10 ms')}, '57014', 'its own wait, and no longer than they may', session => $eve_too);
is($eve_too->query_safe(q{
		SELECT count(*) > 10, count(*) FILTER (WHERE state = 'running') <= 2, count(*) FILTER (WHERE state NOT IN ('queued', 'running') AND sqlstate <> '55000')
		FROM supervisor.task_status WHERE usename = 'eve'}), 't|t|0', 'they are queued');
my $queued = $eve_too->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is($eve_too->query_safe("SELECT supervisor.cancel($queued), supervisor.wait($queued, '1 min')"), 't|canceled', 'they can be canceled');
$eve_too->query_safe("SELECT supervisor.forget($queued)");
until_true("SELECT tasks_failed > $before + 6 FROM supervisor.pool_status WHERE pool = 'default'");
bounded($before, $since, 'a flood of them starts few processes');
end($eve, 'eve');
like(slurp_file($node->logfile), qr/LOG:  worker of pool "default" in slot \d+ ended: .*\n.*DETAIL:  Its role, \d+, has ended too many workers: its tasks wait for \d+ ms\./, 'the log says why');
is($eve->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'then it is served again');

# A login that fails is as dear.
$eve->query_safe(q{ALTER ROLE eve SET local_preload_libraries = 'no_such_library'});
($before, $since) = failed();
is($eve->query_safe(q{SELECT sqlstate, count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[10])) GROUP BY 1}), '55000|10', 'logins that fail');
bounded($before, $since, 'logins that fail: not many at once');
# each call finds nothing of the one before
refused(q{SELECT supervisor.execute('SELECT 1')}, '55000', 'one by one', session => $eve) for 1 .. 3;
bounded($before, $since, 'logins that fail, one by one');
$eve->query_safe(q{ALTER ROLE eve RESET ALL});

# So is a session that goes because its role has changed its settings, or has it go
# in whatever way.
sub few_restarts
{
	my ($change, $name, %opts) = @_;
	my $ask = $opts{ask} // sub { $eve->query_safe($_[0]) };
	my $restarts = q{SELECT sum(restarts), extract(epoch FROM clock_timestamp()) FROM supervisor.worker_status WHERE pool = 'default'};

	my ($before, $since) = split /\|/, value($restarts);
	foreach my $i (1 .. 9)
	{
		$change->($i);
		is($ask->(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', "$name: it is served");
	}
	my ($after, $now) = split /\|/, value($restarts);
	cmp_ok($after - $before, '<=', 5 + 2 + ($now - $since), "$name: not many at once");
}
value('CREATE ROLE staff; GRANT staff TO eve; ALTER ROLE eve CREATEDB; CREATE DATABASE eves OWNER eve');
value(q{CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO eve}, dbname => 'eves');
my @at_home = (ask => sub { value($_[0], user => 'eve', dbname => 'eves') });

few_restarts(sub { $eve->query_safe("ALTER ROLE eve SET work_mem = ${\(1000 + $_[0])}") }, 'settings that change');
few_restarts(sub {
		$eve->query_safe("BEGIN; ALTER ROLE eve SET work_mem = ${\(2000 + $_[0])}; SET ROLE staff; COMMIT; RESET ROLE");
	}, 'settings that change, and another role commits');
few_restarts(sub { $eve->query_safe("ALTER DATABASE eves SET work_mem = ${\(1000 + $_[0])}") },
	'settings of its database', @at_home);
few_restarts(sub { $eve->query_safe("ALTER DATABASE eves RENAME TO hers; ALTER DATABASE hers RENAME TO eves") },
	'DDL on its database', @at_home);
few_restarts(sub {
		$eve->query_safe(q{SELECT supervisor.restart_worker(slot) FROM supervisor.worker_status WHERE usename = 'eve' AND state = 'running' LIMIT 1});
	}, 'restarts that it asks for');
$eve->query_safe(q{ALTER ROLE eve RESET ALL});

# What the owner of a database does to those who have tasks there costs them nothing elsewhere.
value(q{GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice}, dbname => 'eves');
my $guest = SupervisorTest::session($node, user => 'alice', dbname => 'eves');
$eve->query_safe('ALTER DATABASE eves SET exit_on_error = on');
$guest->begin(q{
	DO $$
	BEGIN
		LOOP	-- as execute_all() would, but one after the other
			BEGIN
				PERFORM supervisor.execute('SELECT 1/0');
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
			END;
		END LOOP;
	END $$});
($before) = failed();
until_true("SELECT tasks_failed > $before + 6 FROM supervisor.pool_status WHERE pool = 'default'");
($before) = failed();
is($alice->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a guest of a database is served elsewhere') for 1 .. 20;
cmp_ok((failed())[0] - $before, '<', 15, 'as if there were no such database');
end($guest, 'alice');
$guest->quit;
$eve->query_safe('ALTER DATABASE eves RESET exit_on_error');

# Who may do everything may do this.
my $offset = -s $node->logfile;
refused("SELECT supervisor.execute('$suicide')", '55000', 'a superuser', session => $boss) for 1 .. 8;
unlike(slurp_file($node->logfile, $offset), qr/ended too many/, 'is not held back');

# Fence and hold: who is held back when a fence falls stays so.
value('CREATE DATABASE other');
value(q{CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO eve, bob}, dbname => 'other');
flood($eve, $suicide);
($before) = failed();
until_true("SELECT tasks_failed > $before FROM supervisor.pool_status WHERE pool = 'default'");
value('ALTER DATABASE other RENAME TO another; ALTER DATABASE another RENAME TO other');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'bob', dbname => 'other'), 'SELECT 1', 'after a fence others are served');
end($eve, 'eve');

# It is the role, not the binding.
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'eve', dbname => 'other'), 'SELECT 1', 'in each database it is served again');

note 'execute_all: no room for one';

my $rows = 'SELECT ordinality, tag, sqlstate, message FROM supervisor.execute_all';
my $large = sub { "'SELECT 2 /* ' || repeat('x', $_[0]) || ' */'" };
my $none = '53200|out of shared memory for tasks';
my $wide = $large->(2_500_000);

is($alice->query_safe("$rows(ARRAY['SELECT 1', $wide, 'SELECT 3'])"), "1|SELECT 1||\n2||$none\n3|SELECT 1||",
	'a command above the half that a role may hold fails alone');
is($alice->query_safe("$rows(ARRAY[$wide])"), "1||$none", 'if it is the only one, too');
is($boss->query_safe("$rows(ARRAY['SELECT 1', " . $large->(5_000_000) . ", 'SELECT 3'])"), "1|SELECT 1||\n2||$none\n3|SELECT 1||",
	'so does one that is larger than all of it');
is($alice->query_safe("SELECT count(*), count(tag), count(DISTINCT ordinality), min(ordinality) FILTER (WHERE sqlstate = '53200'), max(ordinality) FILTER (WHERE sqlstate = '53200')"
		. " FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.001)'::text, ARRAY[100]) || array_fill($wide, ARRAY[20]) || array_fill('SELECT 1'::text, ARRAY[100]))"),
	'220|200|220|101|120', 'others before it, after it and beside it are run');
is($alice->query_safe("SELECT count(tag) FROM supervisor.execute_all(array_fill(" . $large->(900_000) . ", ARRAY[30]))"), '30',
	'what has room alone waits until it has');
is($alice->query_safe("SELECT string_agg(ordinality::text, ' ') FROM supervisor.execute_all(ARRAY['SELECT pg_sleep(0.1)', $wide, 'SELECT 1', 'SELECT pg_sleep(0.05)', $wide])"),
	'1 2 3 4 5', 'the rows are in order');

# Held by what the session itself has launched.
$alice->query_safe(q{SELECT supervisor.wait(supervisor.launch('SELECT repeat(''x'', 900000)')) FROM generate_series(1, 2)});
is($alice->query_safe("$rows(ARRAY['SELECT 1', " . $large->(900_000) . ", 'SELECT 3'])"), "1|SELECT 1||\n2||$none\n3|SELECT 1||",
	'nobody waits for what the session itself holds');
is($alice->query_safe(q{SELECT count(supervisor.forget(task)) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()}), '2', 'which is there');
is($alice->query_safe("$rows(ARRAY['SELECT 1', " . $large->(900_000) . "])"), "1|SELECT 1||\n2|SELECT 1||", 'and then has room');

# No task is free: others have taken the last one when ours had ended.
my $thief = SupervisorTest::session($node);
is($boss->query_safe(q{SELECT count(supervisor.launch('SELECT 1')) FROM generate_series(1, 63)}), '63', 'all tasks but one are taken');
my $succeeded = value(q{SELECT tasks_succeeded FROM supervisor.pool_status WHERE pool = 'default'});
$alice->begin(q{
	SELECT count(*), count(tag) > 0, count(*) FILTER (WHERE sqlstate = '53400' AND message = 'too many tasks') > 0, count(*) FILTER (WHERE sqlstate <> '53400'),
		max(ordinality) FILTER (WHERE tag IS NOT NULL) < min(ordinality) FILTER (WHERE sqlstate IS NOT NULL)
	FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[200000]))});
until_true(qq{SELECT tasks_succeeded > $succeeded + 100 FROM supervisor.pool_status WHERE pool = 'default'});
$thief->query_safe(q{
	DO $$
	BEGIN
		LOOP
			BEGIN
				PERFORM supervisor.launch('SELECT 1');
				EXIT;
			EXCEPTION WHEN configuration_limit_exceeded THEN
			END;
		END LOOP;
	END $$});
is(($alice->finish)[0], '200000|t|t|0|t', 'the results of what was done are returned, and which have not been run');
refused(q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])}, '53400', 'where nothing has been run it is an error', session => $alice);

$_->quit foreach ($alice, $bob, $eve, $eve_too, $boss, $thief);
SupervisorTest::log_is_clean($node);
$node->stop;

done_testing();
