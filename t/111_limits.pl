# What is full is said to be full, at once, and disturbs nobody else; what is too
# large streams; what nobody reads goes away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(until_true);

my $node = SupervisorTest::new_node(
	'limits',
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1',
	'supervisor.max_tasks' => 32,
	'supervisor.shared_memory' => '2MB',
	'supervisor.result_memory' => '128kB');

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::wait_ready($node, 'one', 1);
$node->safe_psql('postgres', q{
	CREATE TABLE done (what text);
	CREATE ROLE plain LOGIN;
	CREATE ROLE other LOGIN;
	GRANT ALL ON done TO plain, other;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO plain, other;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO plain, other});

SupervisorTest::ask(\$node);

sub no_task
{
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
}

# Launches $command in $session, and returns the task's id.
sub launch
{
	my ($session, $command, $pool) = @_;

	return $session->query_safe(
		"SELECT supervisor.launch(\$task\$$command\$task\$, pool => '" . ($pool // 'default') . "')");
}

sub is_error
{
	my ($session, $sql, $sqlstate, $pattern, $name) = @_;
	my ($got, $stderr) = $session->error_of($sql);

	is($got, $sqlstate, $name);
	like($stderr, $pattern, "$name: says why and what to do");
}

my $session = SupervisorTest::session($node);
my $plain = SupervisorTest::session($node, user => 'plain');
my $other = SupervisorTest::session($node, user => 'other');
my ($sqlstate, $stderr, $task);

note 'supervisor.max_tasks';

launch($plain, 'SELECT 1') for 1 .. 16;
my $half = qr/too many tasks for role "plain".*HINT:.*supervisor\.forget\(\).*supervisor\.max_tasks/s;
is_error($plain, q{SELECT supervisor.launch('SELECT 1')},
	'53400', $half, 'a non-superuser role holds at most half of the tasks');
is_error($plain, q{SELECT supervisor.execute('SELECT 1')},
	'53400', $half, 'execute needs a task, too');
is_error($plain, q{SELECT * FROM supervisor.run('SELECT 1') AS (n int)},
	'53400', $half, 'run needs a task, too');
is_error($plain, q{CALL supervisor.perform('SELECT 1')},
	'53400', $half, 'perform needs a task, too');
is_error($plain, q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])},
	'53400', $half, 'execute_all needs at least one task');
($sqlstate) = SupervisorTest::error_of($node, q{SELECT supervisor.execute('SELECT 1')}, user => 'plain');
is($sqlstate, '53400', 'another session of the role has no room either');
is($other->query_safe(q{SELECT * FROM supervisor.run('SELECT 2') AS (n int)}),
	'2', 'another role has');
is($other->query_safe(q{SELECT count(*) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[200])) WHERE tag = 'SELECT 1'}),
	'200', 'execute_all of more commands than there is room for works');

my $sleeper = launch($other, q{INSERT INTO done SELECT 'sleeper' FROM pg_sleep(0.5)});
launch($session, 'SELECT 1') for 1 .. 15;
is_error($session, q{SELECT supervisor.launch('SELECT 1')},
	'53400', qr/too many tasks.*HINT:.*supervisor\.max_tasks/s, 'all tasks are taken');
is_error($other, q{SELECT supervisor.execute('SELECT 1')},
	'53400', qr/too many tasks.*HINT:.*supervisor\.max_tasks/s, 'for whoever comes');
is($other->query_safe("SELECT supervisor.wait($sleeper)"), 'succeeded', 'a task that runs then is not disturbed');
is($other->query_safe("SELECT supervisor.forget($sleeper)"), 'f', 'and can be forgotten');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'which makes room');

# Nothing is lost by being refused often.
$session->query_safe(q{SELECT supervisor.launch('SELECT 1')});
for my $s ($session, $plain, $other)
{
	$s->query_safe(q{
		DO $$
		DECLARE
			refused int := 0;
		BEGIN
			FOR i IN 1 .. 1000 LOOP
				BEGIN
					PERFORM supervisor.launch('SELECT 1 --' || repeat('x', i * 10));
				EXCEPTION WHEN configuration_limit_exceeded THEN
					refused := refused + 1;
				END;
			END LOOP;
			IF refused <> 1000 THEN
				RAISE EXCEPTION 'refused %', refused;
			END IF;
		END $$});
}
is($plain->query_safe(q{
		SELECT count(*) FILTER (WHERE supervisor.wait(task) = 'succeeded') FROM supervisor.task_status
		WHERE owner_pid = } . $plain->pid), '16', 'the tasks that were accepted are as they were');
$_->query_safe(q{SELECT supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()}) foreach $plain, $session;
is($node->safe_psql('postgres', 'SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '0', 'and no other is left');
launch($plain, 'SELECT 1') for 1 .. 16;
is_error($plain, q{SELECT supervisor.launch('SELECT 1')}, '53400', $half, 'all of the half is there again, and no more');
$plain->query_safe(q{SELECT supervisor.forget(task) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});

note 'supervisor.shared_memory: commands';

# Returns how many commands of 100 kB there is room for when no task is left.
sub room
{
	my $n = 0;

	no_task();
	while (1)
	{
		my ($sqlstate) = $session->error_of(
			q{SELECT supervisor.launch('SELECT 1 --' || repeat('x', 100000))});

		last if defined $sqlstate;
		$n++;
	}
	$session->query_safe(q{SELECT count(supervisor.forget(task)) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});
	no_task();
	return $n;
}

my $room = room();
cmp_ok($room, '>=', 15, 'most of supervisor.shared_memory can be used');
cmp_ok($room, '<=', 20, 'and not more than all of it');

$task = launch($other, q{SELECT 'small'});
launch($session, 'SELECT 1 --' . ('x' x 100000)) for 1 .. $room;
is_error($session, q{SELECT supervisor.launch('SELECT 1 --' || repeat('x', 100000))},
	'53200', qr/out of shared memory.*HINT:.*supervisor\.shared_memory/s, 'no room for another command');
foreach my $call (q{SELECT * FROM supervisor.run(%s) AS (n int)}, q{SELECT supervisor.execute(%s)},
	q{CALL supervisor.perform(%s)})
{
	my ($name) = $call =~ /supervisor\.(\w+)/;

	($sqlstate) = $session->error_of(sprintf($call, q{'SELECT 1 --' || repeat('x', 100000)}));
	is($sqlstate, '53200', "$name needs room for its command");
	is($session->query_safe(q{SELECT supervisor.execute('SELECT 3')}), 'SELECT 1', 'a small command needs none');
}
is( $session->query_safe(q{
		SELECT string_agg(coalesce(tag, sqlstate || ' ' || message), ',' ORDER BY ordinality)
		FROM supervisor.execute_all(ARRAY['SELECT 1 --' || repeat('x', 100000), 'SELECT 3', 'SELECT 1 --' || repeat('x', 100000)])}),
	'53200 out of shared memory for tasks,SELECT 1,53200 out of shared memory for tasks', 'of execute_all those fail that need room');
is($other->query_safe("SELECT * FROM supervisor.result($task) AS (a text)"), 'small', 'small results need none');
$session->query_safe(q{SELECT count(supervisor.forget(task)) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});
no_task();
is($session->query_safe(q{
		SELECT supervisor.execute('SELECT 1 --' || repeat('x', 1200000))}),
	'SELECT 1', 'one command may take most of it');
($sqlstate) = $session->error_of(q{SELECT supervisor.execute('SELECT 1 --' || repeat('x', 3000000))});
is($sqlstate, '53200', 'but not more than there is');
is($session->query_safe(q{
		SELECT string_agg(coalesce(tag, sqlstate), ',' ORDER BY ordinality)
		FROM supervisor.execute_all(ARRAY['SELECT 1', 'SELECT 1 --' || repeat('x', 3000000), 'SELECT 1'])}),
	'SELECT 1,53200,SELECT 1', 'of execute_all only the command that is too large fails');
# what is free may be in pieces
cmp_ok(room(), '>=', $room - 2, 'all of it is free again');

is($plain->query_safe(q{
		DO $$
		BEGIN
			LOOP
				PERFORM supervisor.launch('SELECT 1 --' || repeat('x', 100000));
			END LOOP;
		EXCEPTION WHEN out_of_memory THEN
			-- what it has launched until here stays
			RAISE LOG '%', SQLERRM;
		END $$;
		SELECT count(*) BETWEEN 8 AND 10 FROM supervisor.task_status WHERE owner_pid IS NOT NULL}),
	't', 'a non-superuser role can fill half of it');
is($other->query_safe(q{SELECT supervisor.execute('SELECT 1 --' || repeat('x', 500000))}),
	'SELECT 1', 'there is room for others then');
$plain->query_safe(q{SELECT count(supervisor.forget(task)) FROM supervisor.task_status WHERE owner_pid = pg_backend_pid()});
no_task();

note 'supervisor.result_memory';

$task = launch($session, q{SELECT repeat('x', 1000) FROM generate_series(1, 1000)});
is($session->query_safe("SELECT supervisor.wait($task)"), 'failed',
	'a launched task whose result nobody reads fails when it outgrows supervisor.result_memory');
is_error($session, "SELECT * FROM supervisor.result($task) AS (a text)",
	'54000', qr/supervisor\.result_memory.*DETAIL:.*128 kB.*HINT:.*supervisor\.(result|run)/s,
	'the result of such a task is that error');
$task = launch($session, q{SELECT repeat('x', 1000) FROM generate_series(1, 100)});
$session->query_safe("SELECT supervisor.wait($task)");
is($session->query_safe("SELECT count(*), sum(length(a)) FROM supervisor.result($task) AS (a text)"),
	'100|100000', 'a result that fits waits to be read');
is($session->query_safe(q{
		SELECT count(*), sum(length(a)) FROM supervisor.result(
			(SELECT supervisor.launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 20000), pg_sleep(0.2)')))
			AS (a text)}),
	'20000|20000000', 'with a reader attached, a launched task may return any number of rows');
$session->query_safe('SELECT pg_advisory_lock(1)');
$task = launch($session, q{SELECT repeat('x', 1000) FROM generate_series(1, 100000), pg_advisory_xact_lock(1)});
$session->query_safe("SELECT supervisor.forget($task), pg_advisory_unlock(1)");
no_task();
is($node->safe_psql('postgres', q{
		SELECT count(*) FROM supervisor.worker_status WHERE tasks_failed > 1}),
	'0', 'a forgotten task may return as many as it likes');
$task = launch($session, q{UPDATE done SET what = repeat(what, 10) RETURNING *, repeat('x', 1000000)});
$session->query_safe("SELECT supervisor.wait($task)");
($sqlstate) = $session->error_of("SELECT * FROM supervisor.result($task) AS (a text, b text)");
is($sqlstate, '54000', 'one row may be too large');
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE length(what) > 10}),
	'0', 'a task that failed by it has done nothing');
is($node->safe_psql('postgres', q{
		SELECT length(a) FROM supervisor.run('SELECT repeat(''x'', 20000000)') AS (a text)}),
	'20000000', 'run can take one row that is larger than all shared memory');
cmp_ok(room(), '>=', $room - 2, 'nothing is left of any of these');

note 'rows stream';

# 50 MB through a shared memory of 2 MB.  run() collects its rows in work_mem and on disk.
is($session->query_safe(q{
		SET work_mem = '1MB';
		BEGIN;
		DECLARE c CURSOR FOR SELECT * FROM supervisor.run(
			'SELECT g, repeat(''x'', 1000) FROM generate_series(1, 50000) g', pool => 'one') AS (g int, a text);
		FETCH c;
		SELECT sum(total_bytes) < 30 * 1024 * 1024 FROM pg_backend_memory_contexts;
		MOVE FORWARD ALL c;
		COMMIT;
		RESET work_mem}) =~ /^1\|x{1000}\n(\w)/ ? $1 : 'no row',
	't', 'the memory of a session that reads 50 MB stays small');
is($session->query_safe(q{
		SELECT max(bytes) FROM supervisor.run($$
			SELECT repeat('x', 1000), CASE WHEN g IN (1000, 50000) THEN
				(SELECT sum(total_bytes) / 1024 / 1024 FROM pg_backend_memory_contexts) END::int
			FROM generate_series(1, 50000) g$$, pool => 'one') AS (a text, bytes int)}) < 30 ? 'small' : 'large',
	'small', 'that of the worker as well');

# A reader that does not read: the task waits, and takes no more memory.
my $reader = SupervisorTest::session($node);
my $locker = SupervisorTest::session($node);
my $pid = $reader->pid;
$locker->query_safe('SELECT pg_advisory_lock(42)');
$reader->begin(q{SELECT count(*) FROM supervisor.run(
	'SELECT repeat(''x'', 1000) FROM pg_advisory_xact_lock(42), generate_series(1, 20000)', pool => 'one') AS (a text)});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
	'the task waits for the lock');
kill 'STOP', $pid or die "could not stop $pid: $!";
$locker->query_safe('SELECT pg_advisory_unlock(42)');
until_true(
	q{SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity
	  WHERE pid = (SELECT pid FROM supervisor.worker_status WHERE pool = 'one')},
	'the task waits for its reader');
$task = launch($session, 'SELECT 1 --' . ('x' x 100000));
ok($task > 0, 'a reader that does not read leaves room for others');
is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'and a worker, in another pool');
$session->query_safe("SELECT supervisor.forget($task)");
kill 'CONT', $pid or die "could not continue $pid: $!";
my ($stdout) = $reader->finish;
like($stdout, qr/^20000$/m, 'it gets all of its rows in the end');
$reader->quit;

note 'notices';

my $flood = q{DO $do$ BEGIN FOR i IN 1 .. 5000 LOOP RAISE NOTICE 'notice %', i; END LOOP; END $do$};
$session->query("SELECT supervisor.execute(\$task\$$flood\$task\$)");
my @notices = $session->{stderr} =~ /notice (\d+)$/mg;
is(scalar @notices, 5000, 'each of 5,000 notices arrives');
is(join(',', @notices), join(',', 1 .. 5000), 'in order');
$session->query("SELECT * FROM supervisor.run(\$task\$$flood; SELECT 1\$task\$) AS (n int)");
@notices = $session->{stderr} =~ /notice (\d+)$/mg;
is(scalar @notices, 5000, 'those of run as well');
$session->query("SELECT tag FROM supervisor.execute_all(ARRAY[\$task\$$flood\$task\$, \$task\$$flood\$task\$])");
@notices = $session->{stderr} =~ /notice (\d+)$/mg;
is(scalar @notices, 10000, 'those of execute_all as well');
$task = launch($session, "$flood; SELECT 7");
is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'a launched task does not fail over its notices');
like($session->query("SELECT * FROM supervisor.result($task) AS (n int)"), qr/^7$/m, 'nor loses a row');
like($session->{stderr}, qr/notice 1$/m, 'the first of its notices can be read');
no_task();
cmp_ok(room(), '>=', $room - 2, 'nothing is left of them');

note 'a session that is out of memory';

SKIP:
{
	skip 'memory cannot be limited on this server', 4 if SupervisorTest::pg_config('cflags') =~ /-fsanitize|USE_VALGRIND/;

	my $poor = SupervisorTest::session($node);
	my ($used) = slurp_file('/proc/' . $poor->pid . '/status') =~ /^VmSize:\s*(\d+) kB/m or die 'no VmSize';

	system_or_bail('prlimit', '--pid', $poor->pid, '--as=' . ($used + 8 * 1024) * 1024 . ':');
	$poor->query_safe(q{SET work_mem = '1GB'});
	foreach my $rows ([ 'one row', 20_000_000, 1 ], [ 'many rows', 1000, 20_000 ])
	{
		my ($name, $length, $n) = @$rows;

		($sqlstate) = $poor->error_of(
			"SELECT count(*) FROM supervisor.run('SELECT repeat(''x'', $length) FROM generate_series(1, $n)', pool => 'one') AS (a text)");
		is($sqlstate, '53200', "$name that the session has no memory for");
	}
	is($poor->query_safe(q{SELECT n FROM supervisor.run('SELECT 1', pool => 'one') AS (n int)}), '1', 'it can take less');
	$poor->quit;
	cmp_ok(room(), '>=', $room - 2, 'nothing is left of what it could not take');
}

note 'supervisor.result_retention';

my $finished = launch($session, q{SELECT repeat('x', 50000)});
$session->query_safe("SELECT supervisor.wait($finished)");
my $failed = launch($session, q{SELECT 1 / 0});
$session->query_safe("SELECT supervisor.wait($failed)");
$locker->query_safe('SELECT pg_advisory_lock(42)');
my $runs = launch($session, q{SELECT 8 FROM pg_advisory_xact_lock(42)});
is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}), '3', 'results wait to be read');
SupervisorTest::set($node, 'supervisor.result_retention' => '1ms');
until_true("SELECT count(*) = 0 FROM supervisor.task_status WHERE task IN ($finished, $failed)",
	'results have expired');
pass('a reload that shortens the time lets them expire');
is_error($session, "SELECT * FROM supervisor.result($finished) AS (a text)",
	'55000', qr/task $finished is gone.*DETAIL:.*expired/s, 'a result that has expired is gone');
is_error($session, "SELECT supervisor.wait($failed)", '55000', qr/is gone/, 'an error as well');
is($node->safe_psql('postgres', "SELECT state FROM supervisor.task_status WHERE task = $runs"),
	'running', 'a task that runs does not expire');
$locker->query_safe('SELECT pg_advisory_unlock(42)');
no_task();
pass('but does when it has ended');

# Readers that are late: the task ends and is due while its reader stands still.
my $waiter = SupervisorTest::session($node);
$pid = $waiter->pid;
foreach my $call ('SELECT supervisor.wait(%s)', 'SELECT * FROM supervisor.result(%s) AS (n int)')
{
	my ($name) = $call =~ /(wait|result)/;

	$locker->query_safe('SELECT pg_advisory_lock(42)');
	$task = launch($waiter, 'SELECT 9 FROM pg_advisory_xact_lock(42)');
	$waiter->begin(sprintf($call, $task));
	until_true("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 'it waits');
	kill 'STOP', $pid or die "could not stop $pid: $!";
	$locker->query_safe('SELECT pg_advisory_unlock(42)');
	until_true("SELECT state = 'succeeded' FROM supervisor.task_status WHERE task = $task", 'the task has ended');

	# the supervisor has looked at least once since
	my $other_task = launch($session, 'SELECT 1');
	until_true("SELECT count(*) = 0 FROM supervisor.task_status WHERE task = $other_task", 'another has expired');
	kill 'CONT', $pid or die "could not continue $pid: $!";
	($stdout) = $waiter->finish;
	like($stdout, $name eq 'wait' ? qr/^succeeded$/m : qr/^9$/m,
		"a task does not expire under $name");
	no_task();
	pass("and does after $name");
}
$waiter->quit;
$locker->quit;
is($session->query_safe(q{
		DO $$
		DECLARE
			id bigint;
			state text;
		BEGIN
			FOR i IN 1 .. 500 LOOP
				id := supervisor.launch('SELECT 1');
				BEGIN
					state := 'gone';
					state := supervisor.wait(id);
					PERFORM supervisor.forget(id);
				EXCEPTION WHEN object_not_in_prerequisite_state THEN
					NULL;
				END;
				IF state NOT IN ('succeeded', 'gone') THEN
					RAISE EXCEPTION 'task % is %', id, state;
				END IF;
			END LOOP;
		END $$;
		SELECT 'ended'}), 'ended', 'wait never answers for another task');
no_task();
SupervisorTest::set($node, 'supervisor.result_retention' => '1h');
cmp_ok(room(), '>=', $room - 2, 'what expires gives its memory back');

note 'sessions and tasks';

my $owner = SupervisorTest::session($node);
launch($owner, q{INSERT INTO done SELECT 'not forgotten' FROM pg_sleep(1000)}, 'one');
launch($owner, q{INSERT INTO done VALUES ('queued')}, 'one');
$task = launch($owner, q{INSERT INTO done VALUES ('forgotten')}, 'one');
is($owner->query_safe("SELECT supervisor.forget($task)"), 't', 'a queued task can be forgotten');
is($owner->query_safe(
		"SELECT owner_pid IS NULL FROM supervisor.task_status WHERE task = $task"),
	't', 'it belongs to nobody then');
is_error($owner, "SELECT * FROM supervisor.result($task) AS (a int)", '55000', qr/does not belong to this session/,
	'and cannot be read');
$owner->quit;
no_task();
is($node->safe_psql('postgres', q{SELECT string_agg(what, ', ') FROM done WHERE what LIKE '%queued%' OR what LIKE '%forgotten%'}),
	'forgotten', 'the end of a session cancels its tasks but those that it forgot');

# A task that launches tasks.
is($session->query_safe(q{
		SELECT supervisor.execute($$
			SELECT supervisor.launch('INSERT INTO done SELECT ''child'' FROM pg_sleep(1000)', pool => 'one');
			SELECT supervisor.forget(supervisor.launch('INSERT INTO done VALUES (''forgotten child'')', pool => 'one'))$$)}),
	'SELECT 1', 'a task can launch tasks, and forget them');
no_task();
is($node->safe_psql('postgres', q{SELECT string_agg(what, ', ') FROM done WHERE what LIKE '%child%'}),
	'forgotten child', 'what it launched and did not forget ends with it');
is($session->query_safe(q{
		SELECT supervisor.execute($$
			SELECT supervisor.forget(supervisor.launch(
				'INSERT INTO done VALUES (''same pool'')')) FROM generate_series(1, 3)$$)}),
	'SELECT 3', 'a task can launch tasks for its own pool');
no_task();
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE what = 'same pool'}), '3', 'and they run');

my $launched = launch($session, 'SELECT pg_sleep(1000)', 'one');
foreach my $call (
	q{SELECT * FROM supervisor.run('SELECT 1') AS (n int)},
	q{SELECT supervisor.execute('SELECT 1')},
	q{CALL supervisor.perform('SELECT 1')},
	q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])},
	q{SELECT supervisor.wait(supervisor.launch('SELECT 1'))},
	q{SELECT * FROM supervisor.result((SELECT supervisor.launch('SELECT 1'))) AS (n int)})
{
	my ($name) = $call =~ /supervisor\.(\w+)/;

	is_error($session, "SELECT supervisor.execute(\$task\$$call\$task\$)",
		'55000', qr/a task cannot wait for a task.*HINT:.*supervisor\.launch\(\)/s, "no $name in a task");
}
$session->query_safe("SELECT supervisor.cancel($launched)");
$session->query_safe("SELECT supervisor.wait($launched)");
$session->query_safe("SELECT supervisor.forget($launched)");
no_task();

note 'execute_all of very many';

# Many more than max_tasks, and with failures in between.
is($session->query_safe(q{
		SELECT count(*), count(*) FILTER (WHERE tag = 'SELECT 1'), count(*) FILTER (WHERE sqlstate = '22012'),
			count(*) FILTER (WHERE sqlstate = '42601'), count(DISTINCT ordinality),
			bool_and(ordinality % 1000 <> 7 OR (sqlstate = '22012' AND message = 'division by zero')),
			bool_and(ordinality % 1000 <> 8 OR (sqlstate = '42601' AND message LIKE 'syntax error%'))
		FROM supervisor.execute_all((
			SELECT array_agg(CASE i % 1000 WHEN 7 THEN 'SELECT 1 / 0' WHEN 8 THEN 'SELEC' ELSE 'SELECT 1' END ORDER BY i)
			FROM generate_series(1, 100000) i))}),
	'100000|99800|100|100|100000|t|t', 'execute_all of 100,000: each has its own outcome');
no_task();
is($plain->query_safe(q{
		SELECT string_agg(tag, ',' ORDER BY ordinality) = string_agg('INSERT 0 ' || ordinality % 5, ',' ORDER BY ordinality)
		FROM supervisor.execute_all((
			SELECT array_agg(format('INSERT INTO done SELECT %L FROM generate_series(1, %s)', 'row ' || i, i % 5) ORDER BY i)
			FROM generate_series(1, 3000) i))}),
	't', 'the outcomes are in the order of the commands');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT what) FROM done WHERE what LIKE 'row %'}),
	'6000|2400', 'and each has run once');

# With commands too large to be all in memory at once.
is($session->query_safe(q{
		SELECT count(*) FILTER (WHERE tag = 'SELECT 1') FROM supervisor.execute_all((
			SELECT array_agg('SELECT 1 --' || repeat('x', 300000)) FROM generate_series(1, 30)))}),
	'30', 'commands that have no room wait for it');

my $hundred_thousand = q{array_fill('SELECT pg_sleep(0.001)'::text, ARRAY[100000])};
($sqlstate, $stderr) = $session->error_of(
	"SELECT * FROM supervisor.execute_all($hundred_thousand, timeout => '300 ms')");
is($sqlstate, '57014', 'execute_all of 100,000 can time out');
like($stderr, qr/canceling tasks due to timeout/, 'and says so');
no_task();
pass('no task is left of it');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'the pool is free');

$pid = $session->pid;
$session->begin("SELECT * FROM supervisor.execute_all($hundred_thousand)");
until_true(q{SELECT count(*) > 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'it is in the middle');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
(undef, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '57014', 'execute_all of 100,000 can be canceled');
no_task();
pass('no task is left of that either');

# Caught in a subtransaction, it is over all the same.
is($session->query_safe(q{
		DO $$
		BEGIN
			PERFORM supervisor.execute_all(array_fill('SELECT pg_sleep(0.001)'::text, ARRAY[10000]), timeout => '100 ms');
		EXCEPTION WHEN query_canceled THEN
			RAISE LOG 'caught';
		END $$;
		SELECT count(*) FROM supervisor.execute_all(ARRAY['SELECT 1', 'SELECT 1']) WHERE tag = 'SELECT 1'}),
	'2', 'after a caught timeout the next execute_all has nothing of the one before');

$owner = SupervisorTest::session($node);
$pid = $owner->pid;
$owner->begin("SELECT * FROM supervisor.execute_all($hundred_thousand)");
until_true(q{SELECT count(*) > 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'it is in the middle');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
eval { $owner->quit };
no_task();
pass('nor of one whose session dies');

cmp_ok(room(), '>=', $room - 2, 'all shared memory has come back');
is_error($plain, q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 17)},
	'53400', $half, 'the limits are as they were');

$_->quit foreach $session, $plain, $other;
no_task();
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal/, 'no process has crashed');
done_testing();
