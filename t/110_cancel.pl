# A cancel, from wherever it comes, ends its task and no other: supervisor.cancel,
# the caller's own cancel and timeouts, its disconnect and its death.  The worker
# serves the next task, and nothing is left behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(refused until_true);

my $node = SupervisorTest::new_node(
	'cancel',
	'max_connections' => 30,
	'max_worker_processes' => 16,
	'supervisor.max_workers' => 12,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, store:1',
	'supervisor.shared_memory' => '4MB');

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::wait_ready($node, 'one', 1);
SupervisorTest::wait_ready($node, 'store', 1);
$node->safe_psql('postgres', q{
	CREATE TABLE done (what text);
	CREATE ROLE plain LOGIN;
	CREATE ROLE other LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO plain, other;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO plain, other;
	SELECT supervisor.execute('SELECT 1', pool => 'one')});

my $admin = SupervisorTest::session($node);

SupervisorTest::ask(\$node);

# Waits until $n tasks are in pg_sleep().
sub sleeping
{
	my ($n) = @_;

	until_true(
		qq{SELECT count(*) = $n FROM pg_stat_activity
		   WHERE backend_type = 'supervisor pool worker' AND wait_event = 'PgSleep'},
		"$n tasks sleep");
}

# Waits until the session with that process ID waits in the middle of a query.
sub waiting
{
	my ($pid) = @_;

	until_true(
		qq{SELECT state = 'active' AND wait_event_type = 'Extension'
		   FROM pg_stat_activity WHERE pid = $pid},
		"session $pid waits");
}

# Process ID and generation of the worker of pool "one".
sub worker
{
	return $node->safe_psql('postgres',
		q{SELECT pid || ' ' || generation FROM supervisor.worker_status WHERE pool = 'one'});
}

# Launches $command in $session, and returns the task's id.
sub launch
{
	my ($session, $command, $pool) = @_;

	return $session->query_safe(
		"SELECT supervisor.launch(\$task\$$command\$task\$, pool => '" . ($pool // 'one') . "')");
}

# Waits until no task is left, and returns how many large commands there is room for then.
sub room
{
	my $stderr;

	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	$node->psql(
		'postgres', q{
		DO $$
		DECLARE
			n int := 0;
		BEGIN
			BEGIN
				LOOP
					PERFORM supervisor.launch('SELECT 1 --' || repeat('x', 60000), pool => 'store');
					n := n + 1;
				END LOOP;
			EXCEPTION WHEN out_of_memory THEN
				NULL;
			END;
			RAISE NOTICE 'room %', n;
		END $$}, stderr => \$stderr);
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	return $stderr =~ /room (\d+)/ ? $1 : -1;
}

my $room = room();
cmp_ok($room, '>', 10, 'there is room for large commands');

note 'supervisor.cancel';

my $worker = worker();
my $session = SupervisorTest::session($node);
my $running = launch($session, 'SELECT pg_sleep(1000)');
my $queued = launch($session, q{INSERT INTO done VALUES ('queued')});
my $behind = launch($session, 'SELECT 17');
my ($sqlstate, $stderr);

sleeping(1);
is($session->query_safe("SELECT supervisor.cancel($queued)"), 't', 'a queued task can be canceled');
is($session->query_safe("SELECT supervisor.wait($queued)"),
	'canceled', 'a queued task is canceled at once, though its pool is busy');
is($admin->query_safe("SELECT supervisor.cancel($running)"),
	't', 'another session can cancel a running task');
is($session->query_safe("SELECT supervisor.wait($running)"),
	'canceled', 'a running task is canceled');
is($session->query_safe("SELECT * FROM supervisor.result($behind) AS (n int)"),
	'17', 'the task behind them runs');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), '0', 'the task canceled in the queue never ran');
foreach my $task ($running, $queued)
{
	is($session->query_safe("SELECT supervisor.cancel($task)"),
		'f', 'a task that is canceled already has ended');
	($sqlstate, $stderr) = $session->error_of("SELECT * FROM supervisor.result($task) AS (n text)");
	is($sqlstate, '57014', 'the result of a canceled task is its cancel');
	like($stderr, qr/canceling statement due to user request/, 'and says so');
}
is($session->query_safe("SELECT supervisor.cancel($behind)"), 'f', 'a task that was read has ended');
($sqlstate) = $session->error_of('SELECT supervisor.cancel(9000000000)');
is($sqlstate, '42704', 'a task that never was cannot be canceled');

my $task = launch($session, 'SELECT 1');
$session->query_safe("SELECT supervisor.wait($task)");
is($session->query_safe("SELECT supervisor.cancel($task)"), 'f', 'a finished task is not canceled');
is($session->query_safe("SELECT * FROM supervisor.result($task) AS (n int)"),
	'1', 'and keeps its result');

$task = launch($session, q{
	DO $do$
	BEGIN
		PERFORM pg_sleep(1000);
	EXCEPTION WHEN query_canceled THEN
		INSERT INTO done VALUES ('caught');
	END $do$});
sleeping(1);
$session->query_safe("SELECT supervisor.cancel($task)");
is($session->query_safe("SELECT supervisor.wait($task)"),
	'succeeded', 'a task that catches its cancel goes on');

$task = launch($session, q{
	DO $do$
	BEGIN
		PERFORM pg_sleep(1000);
	EXCEPTION WHEN query_canceled THEN
		PERFORM pg_sleep(2000);
	END $do$});
sleeping(1);
$session->query_safe("SELECT supervisor.cancel($task)");
until_true("SELECT supervisor.cancel($task) IS FALSE", 'the task is canceled again');
is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'but can be canceled again');

note 'who may cancel';

my $plain = SupervisorTest::session($node, user => 'plain');
my $other = SupervisorTest::session($node, user => 'other');
$task = launch($plain, 'SELECT pg_sleep(1000)');
sleeping(1);
($sqlstate) = $other->error_of("SELECT supervisor.cancel($task)");
is($sqlstate, '42501', 'another role may not cancel a task');
is($node->safe_psql('postgres', "SELECT state FROM supervisor.task_status WHERE task = $task"),
	'running', 'and does not');
$node->safe_psql('postgres', 'GRANT pg_signal_backend TO other');
is($other->query_safe("SELECT supervisor.cancel($task)"),
	't', 'a member of pg_signal_backend may cancel it');
is($plain->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'and does');
$task = launch($session, 'SELECT pg_sleep(1000)');
sleeping(1);
($sqlstate) = $other->error_of("SELECT supervisor.cancel($task)");
is($sqlstate, '42501', 'but not a superuser\'s');
$session->query_safe("SELECT supervisor.cancel($task)");
$plain->quit;
$other->quit;
$session->quit;

note "the caller's own cancel";

# Waits of a session which end with it; and what they ran in.
my $sleep = q{'SELECT 1 FROM pg_sleep(1000)', pool => 'one'};
my %calls = (
	run => "SELECT * FROM supervisor.run($sleep) AS (a int)",
	execute => "SELECT supervisor.execute($sleep)",
	perform => "CALL supervisor.perform($sleep)",
	execute_all =>
	  q{SELECT * FROM supervisor.execute_all(array_fill('SELECT pg_sleep(1000)'::text, ARRAY[300]), pool => 'one')});

$session = SupervisorTest::session($node);
my $pid = $session->pid;
$session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')});
$worker = worker();
my $canceled = q{SELECT tasks_canceled FROM supervisor.pool_status WHERE pool = 'one'};
foreach my $call (sort keys %calls)
{
	my $before = $node->safe_psql('postgres', $canceled);

	$session->begin($calls{$call});
	sleeping(1);
	is($node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)"), 't', "cancel of $call");
	my (undef, $stderr) = $session->finish;
	is(SupervisorTest::sqlstate($stderr), '57014', "$call: canceled");
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass("$call: no task is left");
	cmp_ok($node->safe_psql('postgres', $canceled), '>', $before, "$call: the task counts as canceled");
	is($session->query_safe(q{SELECT * FROM supervisor.run('SELECT 2', pool => 'one') AS (n int)}),
		'2', "$call: the worker serves the next task");
}

foreach my $call (sort keys %calls)
{
	($sqlstate, $stderr) =
	  $session->error_of("SET statement_timeout = '300ms'; $calls{$call}; RESET statement_timeout");

	# psql sends these as one; then perform() can't end the transaction
	($sqlstate, $stderr) = $session->error_of("SET statement_timeout = '300ms'\n;\n$calls{$call}")
	  if $call eq 'perform';
	is($sqlstate, '57014', "statement_timeout ends $call");
	like($stderr, qr/statement timeout/, "$call says why");
	$session->query_safe('RESET statement_timeout');
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass("statement_timeout of $call leaves no task");
}
is(worker(), $worker, 'all that in one and the same worker');

note 'the timeout of a call';

foreach my $call (sort keys %calls)
{
	(my $sql = $calls{$call}) =~ s/pool => 'one'/pool => 'one', timeout => '200 ms'/;
	($sqlstate, $stderr) = $session->error_of($sql);
	is($sqlstate, '57014', "the timeout of $call ends it");
	like($stderr, qr/canceling tasks? due to timeout/, "$call says that it was its timeout");
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass("the timeout of $call leaves no task");
}
$task = launch($session, 'SELECT pg_sleep(1000)');
sleeping(1);
($sqlstate) = $session->error_of(
	q{SELECT supervisor.execute('INSERT INTO done VALUES (''late'')', pool => 'one', timeout => '100 ms')});
is($sqlstate, '57014', 'time in the queue counts');
is($node->safe_psql('postgres', "SELECT state FROM supervisor.task_status WHERE task = $task"),
	'running', 'the task that it waited for is not disturbed');
$session->query_safe("SELECT supervisor.cancel($task)");
is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'until it is canceled itself');
$session->query_safe("SELECT supervisor.forget($task)");
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE what = 'late'}),
	'0', 'the task that timed out in the queue never runs');
is(worker(), $worker, 'still the same worker');

note 'wait and result';

foreach my $call ("SELECT supervisor.wait(%s)", "SELECT * FROM supervisor.result(%s) AS (n int)")
{
	my ($name) = $call =~ /(wait|result)/;

	# a notice that was delivered is nothing that is missing later
	$admin->query_safe('SELECT pg_advisory_lock(42)');
	$task = launch($session, q{
		DO $do$ BEGIN RAISE NOTICE 'heard'; END $do$;
		SELECT 5 FROM pg_advisory_xact_lock(42)});
	until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
		'the task waits for the lock');
	$session->begin(sprintf($call, $task));
	waiting($pid);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	(undef, $stderr) = $session->finish;
	is(SupervisorTest::sqlstate($stderr), '57014', "$name can be canceled");
	is($node->safe_psql('postgres', "SELECT state FROM supervisor.task_status WHERE task = $task"),
		'running', "the cancel of $name is not one of the task");
	$admin->query_safe('SELECT pg_advisory_unlock(42)');
	is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'which goes on');
	like($session->query("SELECT * FROM supervisor.result($task) AS (n int)"),
		qr/^5$/m, 'and whose result is complete');
}

note 'a task that waits for its reader';

$session->begin(q{SELECT count(*) FROM supervisor.run(
	'SELECT repeat(''x'', 1000) FROM generate_series(1, 1000000)', pool => 'one') AS (a text)});
until_true(q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running'}, 'the task runs');
kill 'STOP', $pid or die "could not stop $pid: $!";
until_true(
	q{SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity
	  WHERE pid = (SELECT pid FROM supervisor.worker_status WHERE pool = 'one')},
	'the task waits for its reader');
is($admin->query_safe('SELECT supervisor.cancel(task) FROM supervisor.task_status WHERE finished_at IS NULL'),
	't', 'a task that waits for its reader can be canceled');
is($admin->query_safe(q{SELECT * FROM supervisor.run('SELECT 3', pool => 'one') AS (n int)}),
	'3', 'the worker goes on without waiting for that reader');
kill 'CONT', $pid or die "could not continue $pid: $!";
(undef, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '57014', 'its reader hears of it');
is(worker(), $worker, 'the same worker again');

note 'the end of the session';

foreach my $how ('quits', 'is terminated')
{
	my $doomed = SupervisorTest::session($node);
	my $its_pid = $doomed->pid;
	my $forgotten;

	launch($doomed, 'SELECT repeat(\'x\', 500000)');
	launch($doomed, 'SELECT pg_sleep(1000)');
	launch($doomed, "SELECT 1 --" . ('x' x 100000)) for 1 .. 3;
	$forgotten = launch($doomed, "INSERT INTO done VALUES ('session $how')");
	$doomed->query_safe("SELECT supervisor.forget($forgotten)");
	sleeping(1);
	my $mine = launch($session, "SELECT 'mine'");
	if ($how eq 'quits')
	{
		$doomed->quit;
	}
	else
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($its_pid)");
		eval { $doomed->quit };
	}
	is($session->query_safe("SELECT * FROM supervisor.result($mine) AS (a text)"),
		'mine', "a session $how: the task of another behind its tasks runs");
	is($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE what = 'session $how'"),
		'1', "a session $how: the task that it forgot runs");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'),
		'0', "a session $how: its tasks are gone");
}

# In the middle of everything a session may do.
my %doomed = (
	%calls,
	wait => q{SELECT supervisor.wait(supervisor.launch('SELECT pg_sleep(1000)', pool => 'one'))},
	result =>
	  q{SELECT * FROM supervisor.result((SELECT supervisor.launch('SELECT 1 FROM pg_sleep(1000)', pool => 'one'))) AS (a int)});
foreach my $call (sort keys %doomed)
{
	my $doomed = SupervisorTest::session($node);
	my $its_pid = $doomed->pid;

	$doomed->begin($doomed{$call});
	sleeping(1);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($its_pid)");
	eval { $doomed->quit };
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass("death of a session in $call leaves no task");
	is($session->query_safe(q{SELECT * FROM supervisor.run('SELECT 4', pool => 'one') AS (n int)}),
		'4', "death of a session in $call: the worker serves the next task");
}

# Readers of large results, at any point.
for my $i (1 .. 12)
{
	my $doomed = SupervisorTest::session($node);
	my $its_pid = $doomed->pid;

	$doomed->begin(q{SELECT count(*) FROM supervisor.run(
		'SELECT repeat(''x'', 1000) FROM generate_series(1, 10000000)', pool => 'one') AS (a text)});
	until_true(
		q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running' AND pool = 'one'},
		'the task runs');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($its_pid)");
	eval { $doomed->quit };
}
is(worker(), $worker, 'none of them cost a worker');
# what is free may be in pieces
cmp_ok(room(), '>=', $room - 3, 'all shared memory has come back');

note 'a client that has gone';

SKIP:
{
	my ($supported) = SupervisorTest::error_of($node, q{SET client_connection_check_interval = '50ms'});
	skip 'the server cannot look whether its client is there', 3 if defined $supported;

	my $gone = SupervisorTest::session($node);
	$gone->query_safe(q{SET client_connection_check_interval = '50ms'});
	$gone->begin("SELECT supervisor.execute('SELECT pg_sleep(1000)', pool => 'one')");
	sleeping(1);
	$gone->{run}->signal('KILL');
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass('with client_connection_check_interval, the task of a client that has gone is canceled');
	sleeping(0);
	is(worker(), $worker, 'the worker is free, and the same');
	eval { $gone->{run}->finish };

	$gone = SupervisorTest::session($node);
	$gone->query_safe(q{SET client_connection_check_interval = '50ms'});
	$gone->begin(q{SELECT * FROM supervisor.execute_all(
		array_fill('SELECT pg_sleep(1000)'::text, ARRAY[200]), pool => 'one')});
	sleeping(1);
	$gone->{run}->signal('KILL');
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
	pass('and all those of execute_all');
	eval { $gone->{run}->finish };
}

my $gone = SupervisorTest::session($node);
my $gone_pid = $gone->pid;
$admin->query_safe('SELECT pg_advisory_lock(42)');
$gone->begin(q{SELECT supervisor.execute(
	'INSERT INTO done SELECT ''gone'' FROM pg_advisory_xact_lock(42)', pool => 'one')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted},
	'the task waits for the lock');
$gone->{run}->signal('KILL');
eval { $gone->{run}->finish };
$admin->query_safe('SELECT pg_advisory_unlock(42)');
until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $gone_pid",
	'the session has seen that its client has gone');
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE what = 'gone'}),
	'1', 'without it, the task of a client that has gone runs to its end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL'), '0', 'and is gone then');

note 'workers without a task';

$node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')});
my $workers = q{SELECT string_agg(pid || ' ' || generation, ', ' ORDER BY slot) FROM supervisor.worker_status WHERE kind = 'pool'};
my $before = $node->safe_psql('postgres', $workers);
$node->safe_psql('postgres', q{
	SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity, generate_series(1, 1000)
	WHERE backend_type = 'supervisor pool worker'});
kill 'INT', split(/ /, $node->safe_psql('postgres',
	q{SELECT string_agg(pid::text, ' ') FROM supervisor.worker_status WHERE activity = 'unbound'}));
is($node->safe_psql('postgres',
		q{SELECT sum(n) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[20])) t,
		  LATERAL (SELECT (t.sqlstate IS NULL)::int) s (n)}),
	'20', 'a cancel of a worker without a task has no effect on its next one');
is($node->safe_psql('postgres', $workers), $before, 'nor on the worker, bound or not');

my $supervisor = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};
$before = $node->safe_psql('postgres', $supervisor);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($before)");
$node->safe_psql('postgres', q{SELECT supervisor.restart_worker(slot) FROM supervisor.worker_status WHERE pool = 'one'});
is($node->safe_psql('postgres', $supervisor), $before, 'nor on the supervisor');

note 'cancel while the worker is being bound';

# A lock that keeps every login from being completed.
$admin->query_safe('BEGIN; LOCK TABLE pg_db_role_setting IN ACCESS EXCLUSIVE MODE');
$worker = $session->query_safe(q{SELECT pid || ' ' || generation FROM supervisor.worker_status WHERE pool = 'one'});
$task = launch($session, q{INSERT INTO done VALUES ('bound')});
my $waits = '';
until ($waits eq '1')
{
	$waits = $session->query_safe(
		q{SELECT count(*) FROM pg_locks WHERE relation = 'pg_db_role_setting'::regclass AND NOT granted AND pid IN
		  (SELECT pid FROM supervisor.worker_status WHERE pool = 'one')});
}
is($session->query_safe("SELECT supervisor.cancel($task)"), 't', 'cancel during the bind');
$admin->query_safe('ROLLBACK');
is($session->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'a task is canceled before it has begun');
is($node->safe_psql('postgres', q{SELECT count(*) FROM done WHERE what = 'bound'}), '0', 'and does nothing');
is($session->query_safe(q{SELECT * FROM supervisor.run('SELECT 6', pool => 'one') AS (n int)}),
	'6', 'the worker that was being bound serves the next task');
is(worker(), $worker, 'and is the same');
$session->query_safe("SELECT supervisor.forget($task)");

# Each task is another role's, so that each needs a worker of its own.
$plain = SupervisorTest::session($node, user => 'plain');
$other = SupervisorTest::session($node, user => 'other');
for my $i (1 .. 20)
{
	foreach my $s ($plain, $other)
	{
		$s->query(q{
			DO $$
			DECLARE
				id bigint := supervisor.launch('SELECT pg_sleep(1000)', pool => 'one');
			BEGIN
				PERFORM pg_sleep(random() / 200);
				PERFORM supervisor.cancel(id);
				IF supervisor.wait(id) <> 'canceled' THEN
					RAISE EXCEPTION 'task % was not canceled', id;
				END IF;
				PERFORM supervisor.forget(id);
			END $$});
		die $s->{stderr} if $s->{stderr} ne '';
	}
}
pass('tasks canceled at any point of the bind are canceled');
$plain->quit;
$other->quit;
until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
SupervisorTest::wait_ready($node, 'one', 1);
is($session->query_safe(q{SELECT * FROM supervisor.run('SELECT 7', pool => 'one') AS (n int)}),
	'7', 'the pool goes on');

note 'cancels against the end of short tasks';

# Ends which a cancel may hit are those of victims; bystanders run in the same
# workers, just behind them.
$node->safe_psql('postgres', q{
	CREATE PROCEDURE hammer(n int, pause boolean) LANGUAGE plpgsql AS $$
	DECLARE
		id bigint;
		state text;
		succeeded int := 0;
		canceled int := 0;
	BEGIN
		FOR i IN 1 .. n LOOP
			id := supervisor.launch('SELECT ''victim''');
			IF pause THEN
				FOR j IN 1 .. (random() * 400)::int LOOP
					NULL;
				END LOOP;
			END IF;
			PERFORM supervisor.cancel(id);
			state := supervisor.wait(id);
			IF state = 'succeeded' THEN
				succeeded := succeeded + 1;
			ELSIF state = 'canceled' THEN
				canceled := canceled + 1;
			END IF;
			PERFORM supervisor.forget(id);
		END LOOP;
		RAISE NOTICE 'succeeded %, canceled %', succeeded, canceled;
	END $$});
$workers = q{SELECT string_agg(pid || ' ' || generation, ', ' ORDER BY slot) FROM supervisor.worker_status
	WHERE pool = 'default'};
$node->safe_psql('postgres', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT pg_sleep(0.1)', 'SELECT pg_sleep(0.1)'])});
$before = $node->safe_psql('postgres', $workers);
my $hammer = SupervisorTest::session($node);
my $ids = SupervisorTest::session($node);
$hammer->begin('CALL hammer(3000, false); CALL hammer(5000, true)');

# A third session cancels whatever is called a victim when it looks.
$ids->begin(q{
	DO $$
	BEGIN
		FOR i IN 1 .. 2000 LOOP
			PERFORM supervisor.cancel(task) FROM supervisor.task_status WHERE command = 'SELECT ''victim''';
		END LOOP;
	END $$});
is($session->query_safe(q{
		SELECT count(*), count(*) FILTER (WHERE tag = 'SELECT 1')
		FROM supervisor.execute_all(array_fill('SELECT ''bystander'''::text, ARRAY[30000]))}),
	'30000|30000', 'no cancel hits a task of another session');
(undef, $stderr) = $hammer->finish;
note $stderr;
unlike($stderr, qr/ERROR/, 'victims end as they should');
my ($ended) = 0;
$ended += $1 + $2 while $stderr =~ /succeeded (\d+), canceled (\d+)/g;
is($ended, 8000, 'each victim has succeeded or is canceled');
(undef, $stderr) = $ids->finish;
unlike($stderr, qr/ERROR/, 'so does the session that cancels what it sees');
is($node->safe_psql('postgres', $workers), $before, 'no worker has ended by it');
$hammer->quit;
$ids->quit;

# The same with tasks of the session itself, which come next in the worker.
is($session->query_safe(q{
		CREATE TEMP TABLE ids AS
			SELECT i, supervisor.launch(format('SELECT %s', i), pool => 'one') AS id FROM generate_series(1, 500) i;
		SELECT count(supervisor.cancel(id)) FROM ids WHERE i % 2 = 0;
		SELECT count(*) FILTER (WHERE supervisor.wait(id) <> 'succeeded') FROM ids WHERE i % 2 = 1}),
	"250\n0", 'cancels of every other task in a queue leave the rest alone');
is($session->query_safe(q{SELECT count(supervisor.forget(id)) FROM ids}), '500', 'and they can be forgotten');

until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
# what is free may be in pieces
cmp_ok(room(), '>=', $room - 3, 'all shared memory has come back');

# What a task has SET does not count for what is done after it, which no cancel ends:
# this one would wait for a safe snapshot.
$admin->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO done VALUES (\'open\')');
is($node->safe_psql('postgres', q{
	SELECT supervisor.execute('
		CREATE TEMP TABLE t (a int);
		SET default_transaction_isolation = serializable;
		SET default_transaction_read_only = on;
		SET default_transaction_deferrable = on')}), 'SET', 'a task ends while another transaction is open');
$admin->query_safe('ROLLBACK');

# Temporary objects go when the task has ended, and that waits for who has locked one.
my $user = SupervisorTest::session($node);
$admin->query_safe('SELECT pg_advisory_lock(55)');
my $reset = $session->query_safe(q{
	SELECT supervisor.launch('CREATE TEMP TABLE made (a int); COMMIT; SELECT pg_advisory_lock_shared(55)')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'there is a temporary table');
my $made = $node->safe_psql('postgres', q{SELECT oid::regclass FROM pg_class WHERE relname = 'made'});
my $reader = SupervisorTest::session($node);
$reader->query_safe("BEGIN; LOCK TABLE $made IN ACCESS SHARE MODE");
$admin->query_safe('SELECT pg_advisory_unlock(55)');
until_true(qq{SELECT count(*) = 1 FROM pg_locks WHERE relation = '$made'::regclass AND NOT granted}, 'what follows the task waits for a lock');
is($session->query_safe("SELECT supervisor.cancel($reset), supervisor.wait($reset)"), 't|succeeded', 'a cancel ends that, not the task that was done');

# Its session is no good any more, and its process waits for that lock again.
my $poor = SupervisorTest::session($node, user => 'plain');
is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}, extra_params => [ '-U', 'other' ]), 'SELECT 1', 'the other worker is some role\'s');
is($poor->query_safe(q{SELECT supervisor.execute('SELECT 1', timeout => '1 min')}), 'SELECT 1', 'and makes room for another');
my $nstuck = q{SELECT count(*) FROM supervisor.event WHERE event = 'stuck'};
my $left = q{SELECT count(*) FROM pg_class WHERE relname ~ '^(made|mine_)'};
until_true($nstuck =~ s/\*\)/*) = 1/r, 'it is stuck');
until_true(q{SELECT count(*) = 4 FROM supervisor.worker_status WHERE state = 'running'}, 'and replaced');
is($node->safe_psql('postgres', $left), '1', 'what it waits for is there');
is($node->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)), count(pg_cancel_backend(pid)) FROM supervisor.worker_status WHERE state = 'stuck'}), '1|1', 'it takes no signal');
is($reader->query_safe('COMMIT; SELECT 1'), '1', 'and who has locked it is left alone');
$reader->quit;
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE state = 'stuck'}, 'it ends when that is free');
is($node->safe_psql('postgres', $left), '0', 'and has left nothing');

# Whoever may connect can lock what he knows the number of, and keeps no worker by it, whatever it has done:
# who is no superuser is terminated, superusers and, for a while, readers are waited for.
my $superuser = SupervisorTest::session($node);
my $lock = 'SAVEPOINT s; SELECT nextval(%1$d)';
my $n = 0;

# What locks the sequence, or the view, who does, and is he in the way for long?
my @lockers = ([ 'other', $lock, 0 ], [ undef, $lock, 1 ], [ 'other', 'SELECT pg_get_viewdef(%2$d)', 1 ]);
foreach my $case (
	[ 'succeeds', '', 'succeeded' ],
	[ 'fails', 'SELECT 1/0', 'failed' ],
	[ 'ends its process', 'SELECT pg_terminate_backend(pg_backend_pid())', 'failed' ],
	[ 'ends its process, and waits less for locks', q{SET lock_timeout = 100; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())}, 'failed' ],
	[ 'ends its process in a transaction', 'BEGIN; CREATE TEMP TABLE u (a serial); SELECT pg_terminate_backend(pg_backend_pid())', 'failed' ],
	$node->pg_version < 17 ? () :
	[ 'ends its process, and has little time for a transaction', 'COMMIT; SET transaction_timeout = 1; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())', 'failed' ])
{
	my ($name, $end, $state) = @$case;

	foreach my $locker (@lockers)
	{
		my ($user, $how, $stays) = @$locker;
		my $table = 'mine_' . ++$n;
		my $before = $node->safe_psql('postgres', $nstuck);

		$admin->query_safe('SELECT pg_advisory_lock(54)');
		my $made = $poor->query_safe(qq{
			SELECT supervisor.launch('CREATE TEMP TABLE $table (a serial, b text); CREATE TEMP VIEW ${table}_view AS SELECT * FROM $table;
				COMMIT; SELECT pg_advisory_lock_shared(54); $end', pool => 'one')});
		until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, "a task that $name has made temporary objects");
		my ($sequence, $view) = map { $node->safe_psql('postgres', "SELECT oid FROM pg_class WHERE relname = '${table}_$_'") } qw(a_seq view);
		my $session = $user ? SupervisorTest::session($node, user => $user) : $superuser;
		my $pid = $session->query_safe('SELECT pg_backend_pid()');
		my $worker = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE pool = 'one'});
		$session->query('BEGIN; ' . sprintf($how, $sequence, $view));
		until_true(qq{SELECT count(*) > 0 FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE pid = $pid AND relname ~ '^$table' AND granted}, 'one of which somebody else has locked');
		my $log = -s $node->logfile;
		$admin->query_safe('SELECT pg_advisory_unlock(54)');
		is($poor->query_safe("SELECT supervisor.wait($made)"), $state, 'the task ends');
		is($node->safe_psql('postgres', q{SELECT supervisor.execute('CREATE TEMP TABLE t (a int)', pool => 'one')}), 'CREATE TABLE', 'others are served');
		if ($stays)
		{
			is($node->safe_psql('postgres', "$nstuck AND pid = $worker"), '1', '... when it is stuck');
			until_true("SELECT pg_blocking_pids($worker) = '{$pid}'", '... by whom can be seen');
			until_true(qq{SELECT count(*) = 1 FROM supervisor.health() WHERE what ~ '^process $worker ' AND hint ~ 'process $pid, which it waits for'}, '... and what is to be done');
			$session->query_safe('ROLLBACK');
		}
		else
		{
			until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", '... and who has locked it is terminated');
			ok($node->wait_for_log(qr/LOG:  terminating process $pid, which keeps temporary objects/, $log), '... and why is told');
			is($node->safe_psql('postgres', $nstuck), $before, '... before it is stuck');
		}
		until_true("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'its process ends');
		is($node->safe_psql('postgres', $left), '0', '... and nothing is left');
		$session->quit if $user;
	}
}

# However many they are.
$before = $node->safe_psql('postgres', $nstuck);
$admin->query_safe('SELECT pg_advisory_lock(54)');
my $many = $poor->query_safe(q{
	SELECT supervisor.launch('CREATE TEMP TABLE many (a serial, b serial, c serial, d serial, e serial, f text); COMMIT; SELECT pg_advisory_lock_shared(54)', pool => 'one')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made more of them');
my @strangers = map {
	my $stranger = SupervisorTest::session($node, user => 'other');

	$stranger->query("BEGIN; SAVEPOINT s; SELECT nextval($_)");
	$stranger
} split /\n/, $node->safe_psql('postgres', q{SELECT oid FROM pg_class WHERE relname ~ '^many_' AND relkind = 'S'});
is(scalar @strangers, 5, 'which as many others have locked');
$admin->query_safe('SELECT pg_advisory_unlock(54)');
is($poor->query_safe("SELECT supervisor.wait($many)"), 'succeeded', 'it ends');
until_true(q{SELECT count(*) = 0 FROM pg_class WHERE relname ~ '^many'}, 'nothing is left of them');
is($node->safe_psql('postgres', $nstuck), $before, 'and no worker is stuck');
$_->quit foreach @strangers;
$superuser->quit;

# A worker that does hang in its exit is seen to be stuck, and another takes its place.
my $library = SupervisorTest::build_library('lingers');
my $path = $node->basedir . '/lingers';
$admin->query_safe("CREATE FUNCTION linger(text) RETURNS void LANGUAGE c AS '$library'");
my $hung = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE state = 'stuck' AND detail = 'it hangs in its exit'};

# Leaves a worker in its exit, until let_go().
sub hang
{
	my ($n, $pool) = @_;

	append_to_file("$path$n", '');
	return $poor->query_safe(qq{
		SELECT supervisor.execute(format('SELECT linger(%L)', '$path$n'), pool => '$pool');
		SELECT pg_terminate_backend(pid) FROM supervisor.worker_status
		WHERE pool = '$pool' AND usename = current_user AND pid IS NOT NULL AND state = 'running'});
}

sub let_go
{
	unlink "$path$_" or die "there is no $path$_" foreach @_;
}
hang(1, 'one');
until_true(sprintf($hung, 1), 'a process hangs in its exit');
is($poor->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'another has taken its place');

# A role with two of them is served no more, before it has all places.
hang(2, 'one');
until_true(sprintf($hung, 2), 'one more is stuck');
my $held = $poor->query_safe(q{SELECT supervisor.launch('SELECT 1')});
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'others are served');
is($node->safe_psql('postgres', "SELECT state FROM supervisor.task_status WHERE task = $held"), 'queued', 'their role is not');

# Not all places are taken by others, where the pool has another worker: here it is three.
($poor, my $first) = (SupervisorTest::session($node, user => 'other'), $poor);
hang(3, 'one');
until_true(sprintf($hung, 3), 'another role has one');
hang(4, 'default');
until_true(sprintf($hung, 4), 'and another');
my $default = q{SELECT count(*) FILTER (WHERE state = 'stuck'), count(*) FILTER (WHERE state <> 'stuck') FROM supervisor.worker_status WHERE pool = 'default'};
is($node->safe_psql('postgres', $default), '1|1', 'it keeps its place');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'the other worker serves');
let_go(1);
until_true(q{SELECT count(*) FILTER (WHERE state = 'stuck') = 1 AND count(*) FILTER (WHERE state <> 'stuck') = 2 FROM supervisor.worker_status WHERE pool = 'default'},
	'when one has ended, another is replaced');
let_go(2, 3, 4);
is($first->query_safe("SELECT supervisor.wait($held)"), 'succeeded', 'when they have ended, the role is served');
$poor->quit;
$poor = $first;
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE state IN ('stopping', 'stuck')}, 'and none is left');
until_true(q{SELECT count(*) = 4 FROM supervisor.worker_status WHERE state = 'running'}, 'all are as before');

# Who owns the database can lock what a worker looks into at its exit, even if nothing is left to drop.
$poor->query_safe(q{SELECT supervisor.execute('CREATE TEMP TABLE t (a int)', pool => 'one')});
$gone = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE pool = 'one'});
$user->query_safe('BEGIN; LOCK TABLE pg_depend');
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'a worker that was reset is not kept in its exit');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $gone"), '0', 'and is gone');
$user->query_safe('ROLLBACK');

# Nor if it is terminated.
$poor->query_safe(q{SELECT supervisor.execute('CREATE TEMP TABLE t (a int)', pool => 'one')});
$user->query_safe('BEGIN; LOCK TABLE pg_depend');
is($node->safe_psql('postgres', q{SELECT supervisor.terminate_worker(slot) FROM supervisor.worker_status WHERE pool = 'one'}), 't', 'nor one that is terminated');
$user->query_safe('ROLLBACK');

# A process is seen that is still there when it has told its end, as END blocks of PL/Perl may have it.
my $file = $path;
append_to_file($file, '');
my ($slot) = $poor->query_safe(qq{
	SELECT supervisor.execute(format('SELECT linger(%L)', '$file'), pool => 'one');
	SELECT slot FROM supervisor.worker_status WHERE pool = 'one'}) =~ /^(\d+)\z/m;
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'another takes the place of a process that lingers');
is($node->safe_psql('postgres', "SELECT state, detail, pid IS NOT NULL FROM supervisor.worker_status WHERE slot = $slot"),
	'stuck|it hangs in its exit|t', 'it is seen');
is($node->safe_psql('postgres', "SELECT supervisor.terminate_worker($slot, '10 ms')"), 'f', 'and to terminate it is in vain');
unlink $file;
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE state = 'stuck'}, 'until it ends');

# Also if it has dropped its temporary objects in its exit: it is terminated when it has not even a PGPROC any more.
append_to_file($file, '');
($sqlstate, $stderr) = SupervisorTest::error_of($node, qq{
	SET client_min_messages = debug2;
	SELECT supervisor.execute(format(\$\$SELECT linger(%L); CREATE TEMP TABLE t (a serial); COMMIT;
		SELECT pg_terminate_backend(pg_backend_pid())\$\$, '$file'), pool => 'one')}, user => 'plain');
is($sqlstate, '55000', 'a task that has made a temporary table ends its process');
unlike($stderr, qr/cascades/, 'and what that drops is not told to who waits for it');
until_true(sprintf($hung, 1), 'which lingers');
my $lingers = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE state = 'stuck'});
is($session->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'one')}), 'SELECT 1', 'another takes its place');
ok(SupervisorTest::runs($lingers), 'it was terminated, and is there');
unlink $file;
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE state = 'stuck'}, 'until it ends');

# What a library does at the exit is not cut short with what core does there, wherever it comes between.
$admin->query_safe("CREATE FUNCTION tidy(text) RETURNS void LANGUAGE c AS '$library'");
foreach my $case (
	[ 'in a command that has committed', q{BEGIN; CREATE TEMP TABLE t (a int); COMMIT; SELECT tidy(%L)} ],
	[ 'in a block that has', q{DO $do$ BEGIN CREATE TEMP TABLE t (a int); COMMIT; PERFORM tidy(%L); END $do$} ],
	[ 'before there is a temporary schema', q{SELECT tidy(%L); CREATE TEMP TABLE t (a int)} ],
	[ 'after a temporary schema that was not committed', q{DO $do$ BEGIN CREATE TEMP TABLE t (a int); ROLLBACK; PERFORM tidy(%1$L); CREATE TEMP TABLE t (a int); COMMIT; PERFORM tidy(%1$L); END $do$} ])
{
	my ($when, $command) = @$case;

	append_to_file($file, '');
	$poor->query_safe("SELECT supervisor.execute(format(\$\$ $command \$\$, '$file'), pool => 'one')");
	my $tidy = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE pool = 'one'});
	is($node->safe_psql('postgres', q{SELECT supervisor.restart_worker(slot) FROM supervisor.worker_status WHERE pool = 'one'}), 't', "$when: a worker ends");
	is(SupervisorTest::survivors($tidy), '', '... and is gone');
	ok(!-e $file, '... having done all that a library does at its exit');
	unlink $file;
}

# Nor is a shutdown kept by who has locked what a worker has to drop: here he does not react to that himself.
$admin->query_safe('SELECT pg_advisory_lock(54)');
$poor->query_safe(q{SELECT supervisor.launch('CREATE TEMP TABLE last (a int); COMMIT; SELECT pg_advisory_lock_shared(54)', pool => 'one')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made a temporary table');
my $last = $node->safe_psql('postgres', q{SELECT oid::regclass FROM pg_class WHERE relname = 'last'});
$user->query_safe("BEGIN; LOCK TABLE $last IN ACCESS SHARE MODE");
$gone = $node->safe_psql('postgres', q{SELECT pid FROM supervisor.worker_status WHERE pool = 'one'});
$admin->query_safe("SELECT pg_terminate_backend($gone)");
until_true(sprintf($hung, 1), 'its worker hangs in its exit');
SupervisorTest::stop_process($user->query_safe('SELECT pg_backend_pid()'));
system_or_bail('pg_ctl', '-D', $node->data_dir, '-m', 'fast', '--no-wait', 'stop');
is(SupervisorTest::survivors($gone), '', 'it ends when the server is shut down');
SupervisorTest::continue_process();
ok(SupervisorTest::eventually(sub { !-e $node->data_dir . '/postmaster.pid' }), 'and the server ends');
$node->{_pid} = undef;
$_->quit foreach $poor, $user, $session, $admin;
ok( !-e $node->data_dir . '/core'
	  && slurp_file($node->logfile) !~ /TRAP|PANIC|terminated by signal/,
	'no process has crashed');

done_testing();
