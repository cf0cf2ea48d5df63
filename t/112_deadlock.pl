# A task that waits for a lock that its own waiting submitter holds: 40P01, on
# whatever way it depends on it, and never otherwise.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(until_true);

my $node = SupervisorTest::new_node(
	'deadlock',
	'deadlock_timeout' => '50ms',
	'max_connections' => 30,
	'max_worker_processes' => 24,
	'supervisor.pool_size' => 6,
	'supervisor.pools' => 'one:1, two:2');

SupervisorTest::wait_ready($node, 'default', 6);
SupervisorTest::wait_ready($node, 'one', 1);
SupervisorTest::wait_ready($node, 'two', 2);
$node->safe_psql('postgres', q{
	CREATE TABLE l (a int PRIMARY KEY, b int);
	CREATE TABLE m (a int PRIMARY KEY, b int);
	CREATE TABLE n (a int PRIMARY KEY, b int);
	INSERT INTO l SELECT i, 0 FROM generate_series(1, 10) i;
	INSERT INTO m SELECT i, 0 FROM generate_series(1, 10) i});

my @session = map { SupervisorTest::session($node) } 0 .. 3;
my @pid = map { $_->pid } @session;

SupervisorTest::ask(\$node);

sub no_task
{
	until_true('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');
}

# Waits until $n processes wait for a lock.
sub blocked
{
	my ($n) = @_;

	until_true("SELECT count(DISTINCT pid) = $n FROM pg_locks WHERE NOT granted", "$n processes wait for a lock");
}

# Waits until the session looks for a deadlock another few times.
sub looks
{
	my ($session) = @_;

	# there is nothing to see from outside; its statement lasts that long
	until_true(
		qq{SELECT state = 'active' AND clock_timestamp() - query_start > interval '0.5 s'
		   FROM pg_stat_activity WHERE pid = $pid[$session]}, 'it has looked ten times');
}

# Ends all transactions.
sub roll_back
{
	$_->query('ROLLBACK') foreach @session;
	no_task();
}

sub is_deadlock
{
	my ($sqlstate, $stderr, $session, $name) = @_;

	is($sqlstate, '40P01', $name);
	like($stderr,
		qr/ERROR:.*deadlock detected.*DETAIL:.*Process $pid[$session] waits for task \d+.*process \d+.*lock.*$pid[$session].*HINT:/s,
		"$name: both sides are named, and there is a hint");
}

note 'the submitter holds the lock';

my $update = 'UPDATE l SET b = 1 WHERE a = 1';
my %calls = (
	run => "SELECT * FROM supervisor.run('$update RETURNING a') AS (a int)",
	execute => "SELECT supervisor.execute('$update')",
	execute_all => "SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1', '$update', 'SELECT pg_sleep(1000)'])");
my ($sqlstate, $stderr, $task);

foreach my $call (sort keys %calls)
{
	$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
	is_deadlock($session[0]->error_of($calls{$call}), 0, $call);
	no_task();
	pass("$call cancels the task");
	$session[0]->query('ROLLBACK');
	is($node->safe_psql('postgres', 'SELECT sum(b) FROM l'), '0', "$call: the task has done nothing");
}

# Session-level locks are held without a transaction.
$session[0]->query_safe('SELECT pg_advisory_lock(1)');
is_deadlock($session[0]->error_of(q{CALL supervisor.perform('SELECT pg_advisory_lock(1)')}), 0, 'perform');
no_task();
pass('perform cancels the task');
is_deadlock(
	$session[0]->error_of(q{SELECT supervisor.execute('SELECT pg_advisory_lock(1)', timeout => '1 h')}),
	0, 'a timeout that is far away');
$session[0]->query_safe('SELECT pg_advisory_unlock(1)');

# An index is built concurrently, and then waits for all older snapshots: the statement's, too.
foreach my $call (q{SELECT supervisor.execute('VACUUM n')}, q{CALL supervisor.perform('VACUUM n')})
{
	$session[1]->query_safe('BEGIN; INSERT INTO n VALUES (1, 1)');
	$session[2]->begin('CREATE INDEX CONCURRENTLY i ON n (b)');
	blocked(1);
	$session[0]->begin($call);
	blocked(2);
	$session[1]->query_safe('ROLLBACK');
	my (undef, $said) = $session[0]->finish;
	if ($call =~ /^CALL/)
	{
		is($said, '', 'perform has no snapshot that an index that is built waits for');
	}
	else
	{
		like($said, qr/ERROR:  40P01.*HINT:.*CALL supervisor\.perform\(\), which holds no snapshot/s, 'execute has, and says what to use');
	}
	$session[2]->finish;
	$session[2]->query_safe('DROP INDEX i');
	no_task();
}

# Other kinds of locks.
my %locks = (
	'a table' => [ 'LOCK TABLE l', 'SELECT count(*) FROM l' ],
	'a row that is locked for share' => [ 'SELECT * FROM l WHERE a = 2 FOR SHARE', 'DELETE FROM l WHERE a = 2' ],
	'a key that may be inserted' => [ 'INSERT INTO n VALUES (1, 1)', 'INSERT INTO n VALUES (1, 2)' ],
	'a role' => [ 'CREATE ROLE twice', 'CREATE ROLE twice' ],
	'a new index' => [ 'UPDATE l SET b = 0 WHERE a = 3', 'CREATE INDEX ON l (b)' ]);
foreach my $lock (sort keys %locks)
{
	$session[0]->query_safe("BEGIN; $locks{$lock}[0]");
	is_deadlock($session[0]->error_of("SELECT supervisor.execute('$locks{$lock}[1]')"), 0, "waiting for $lock");
	roll_back();
}

foreach my $call ('SELECT supervisor.wait(%s)', 'SELECT * FROM supervisor.result(%s) AS (a int)')
{
	my ($name) = $call =~ /(wait|result)/;

	$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
	$task = $session[0]->query_safe(
		"SELECT supervisor.launch('DO \$\$ BEGIN RAISE NOTICE ''heard''; END \$\$; $update RETURNING a')");
	is_deadlock($session[0]->error_of(sprintf($call, $task)), 0, $name);
	$session[0]->query_safe('ROLLBACK');
	is($session[0]->query_safe("SELECT supervisor.wait($task)"), 'succeeded', "$name does not cancel the task, which goes on after the ROLLBACK");
	like($session[0]->query("SELECT * FROM supervisor.result($task) AS (a int)"), qr/^1$/m, "$name: its result can be read");
}

$session[0]->query_safe('BEGIN; SAVEPOINT s; UPDATE l SET b = 0 WHERE a = 4');
is_deadlock($session[0]->error_of(q{SELECT supervisor.execute('UPDATE l SET b = 1 WHERE a = 4')}), 0, 'in a subtransaction');
is($session[0]->query_safe(q{ROLLBACK TO s; SELECT supervisor.execute('UPDATE l SET b = 0 WHERE a = 4')}),
	'UPDATE 1', 'after ROLLBACK TO SAVEPOINT the task can have the lock');
roll_back();
is($session[0]->query_safe(q{
		DO $$
		BEGIN
			UPDATE l SET b = 0 WHERE a = 4;
			PERFORM supervisor.execute('UPDATE l SET b = 1 WHERE a = 4');
		EXCEPTION WHEN deadlock_detected THEN
			PERFORM supervisor.execute('UPDATE l SET b = 0 WHERE a = 4');
		END $$;
		SELECT 'caught'}), 'caught', 'it can be caught, and tried again without the lock');

note 'longer ways';

# I -> my task -> session 1, which waits for a lock of mine.
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[1]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 2');
$session[1]->begin('UPDATE l SET b = 0 WHERE a = 1');
blocked(1);
is_deadlock($session[0]->error_of(q{SELECT supervisor.execute('UPDATE l SET b = 1 WHERE a = 2')}),
	0, 'through another session');
$session[0]->query_safe('ROLLBACK');
$session[1]->finish;
roll_back();

# The same over two.
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[1]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 2');
$session[2]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 3');
$session[1]->begin('UPDATE l SET b = 0 WHERE a = 1');
$session[2]->begin('UPDATE l SET b = 0 WHERE a = 2');
blocked(2);
is_deadlock($session[0]->error_of(q{SELECT supervisor.execute('UPDATE l SET b = 1 WHERE a = 3')}),
	0, 'through two other sessions');
$session[0]->query_safe('ROLLBACK');
$session[1]->finish;
$session[1]->query('ROLLBACK');
$session[2]->finish;
roll_back();

# In the queue of a lock: one that waits for me is before my task.
$session[0]->query_safe('BEGIN; SELECT count(*) FROM l');
$session[1]->begin('ALTER TABLE l ADD COLUMN c int');
blocked(1);
is_deadlock($session[0]->error_of(q{SELECT * FROM supervisor.run('SELECT count(*)::int FROM l') AS (n int)}),
	0, 'behind one that waits for me');
$session[0]->query_safe('ROLLBACK');
$session[1]->finish;
roll_back();

# I -> my task -> session 1 -> its task -> me.
foreach my $n (2, 3)
{
	# each waits for a task that waits for the lock of the next
	foreach my $i (0 .. $n - 1)
	{
		$session[$i]->query_safe("BEGIN; UPDATE m SET b = 0 WHERE a = $i + 1");
	}
	foreach my $i (0 .. $n - 1)
	{
		my $next = ($i + 1) % $n + 1;

		$session[$i]->begin("SELECT supervisor.execute('UPDATE m SET b = b + 1 WHERE a = $next');\nROLLBACK");
	}
	my $deadlocks = 0;
	my $others = 0;

	foreach my $i (0 .. $n - 1)
	{
		my ($stdout, $stderr) = $session[$i]->finish;

		if ((SupervisorTest::sqlstate($stderr) // '') eq '40P01')
		{
			$deadlocks++;
		}
		elsif ($stderr ne '' || $stdout !~ /^UPDATE 1$/m)
		{
			$others++;
			diag $stderr;
		}
	}
	cmp_ok($deadlocks, '>=', 1, "a circle of $n sessions and $n tasks is broken");
	is($others, 0, "with $n, each of them gets 40P01 or its result");
	roll_back();
}

# Through a task of another session that waits with wait().
$session[0]->query_safe('BEGIN; UPDATE m SET b = 0 WHERE a = 1');
$session[1]->query_safe('BEGIN; UPDATE m SET b = 0 WHERE a = 2');
$task = $session[1]->query_safe(q{SELECT supervisor.launch('UPDATE m SET b = 1 WHERE a = 1')});
$session[1]->begin("SELECT supervisor.wait($task)");
blocked(1);
until_true("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid[1]", 'it waits for its task');
$session[0]->begin(q{SELECT supervisor.execute('UPDATE m SET b = 1 WHERE a = 2')});

# Either of them may see it first, and its error lets the other go on.
my $victims = 0;
foreach my $i (0, 1)
{
	my (undef, $stderr) = $session[$i]->finish;

	if ($stderr ne '')
	{
		is_deadlock(SupervisorTest::sqlstate($stderr), $stderr, $i, 'through the task that another session waits for');
		$victims++;
	}
}
cmp_ok($victims, '>=', 1, 'a circle with wait() is broken');
$session[$_]->query('ROLLBACK') foreach 0, 1;
$session[1]->query("SELECT supervisor.cancel($task)");
$session[1]->query("SELECT supervisor.wait($task)");
$session[1]->query("SELECT supervisor.forget($task)");
roll_back();

# What I wait for need not be mine: a task of another session, or of one that has gone.
foreach my $forgets (0, 1)
{
	$session[0]->query_safe('BEGIN; UPDATE m SET b = 0 WHERE a = 1');
	$task = $session[1]->query_safe(q{SELECT supervisor.launch('UPDATE m SET b = 1 WHERE a = 1')});
	$session[1]->query_safe("SELECT supervisor.forget($task)") if $forgets;
	blocked(1);
	is_deadlock($session[0]->error_of("SELECT supervisor.wait($task)"), 0, "another's task, forgotten: $forgets");
	$session[0]->query('ROLLBACK');
	is($session[2]->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'which goes on');
	$session[1]->query_safe("SELECT supervisor.forget($task)") if !$forgets;
	no_task();
}

# Through a session that waits for a task which a third has launched.
$session[0]->query_safe('BEGIN; UPDATE m SET b = 0 WHERE a = 1');
$session[1]->query_safe('BEGIN; UPDATE m SET b = 0 WHERE a = 2');
my @thirds = map { $session[2]->query_safe("SELECT supervisor.launch('UPDATE m SET b = 1 WHERE a = $_')") } 1, 2;
blocked(2);
$session[1]->begin("SELECT supervisor.wait($thirds[0])");
until_true("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid[1]", 'it waits for it');
$session[0]->begin("SELECT supervisor.wait($thirds[1])");
$victims = 0;
foreach my $i (0, 1)
{
	my (undef, $stderr) = $session[$i]->finish;

	if ($stderr ne '')
	{
		is_deadlock(SupervisorTest::sqlstate($stderr), $stderr, $i, "through another that waits for another's task");
		$victims++;
	}
	$session[$i]->query('ROLLBACK');
}
cmp_ok($victims, '>=', 1, "a circle through others' tasks is broken");
$session[2]->query("SELECT supervisor.wait($_), supervisor.forget($_)") foreach @thirds;
roll_back();

# Through the queue, of another's task.
$session[0]->query_safe('BEGIN; LOCK TABLE m');
my @hogs = map { $session[1]->query_safe(q{SELECT supervisor.launch('SELECT count(*) FROM m', pool => 'two')}) } 1, 2;
blocked(2);
$task = $session[1]->query_safe(q{SELECT supervisor.launch('SELECT 1', pool => 'two')});
is_deadlock($session[0]->error_of("SELECT supervisor.wait($task)"), 0, "another's task that never runs");
$session[0]->query('ROLLBACK');
$session[1]->query("SELECT supervisor.wait($_), supervisor.forget($_)") foreach @hogs, $task;
roll_back();

# Through the queue: all workers of a pool wait for me, and so my task never runs.
$session[0]->query_safe('BEGIN; LOCK TABLE m');
foreach my $i (1, 2)
{
	$session[$i]->begin(q{SELECT * FROM supervisor.run('SELECT count(*)::int FROM m', pool => 'two') AS (n int)});
}
blocked(2);
($sqlstate, $stderr) = $session[0]->error_of(q{SELECT supervisor.execute('SELECT 1', pool => 'two')});
is($sqlstate, '40P01', 'a task that never runs, as all workers wait for its submitter');
$session[0]->query('ROLLBACK');
foreach my $i (1, 2)
{
	my ($stdout, $stderr) = $session[$i]->finish;

	is($stderr, '', 'the others go on');
	like($stdout, qr/^10$/m, 'and get their rows');
}
roll_back();

note 'no deadlock';

# The lock is another's.
$session[1]->query_safe('BEGIN; UPDATE l SET b = 5 WHERE a = 5');
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[0]->begin(q{SELECT supervisor.execute('UPDATE l SET b = b + 1 WHERE a = 5')});
blocked(1);
looks(0);
$session[1]->query_safe('COMMIT');
my ($stdout) = $session[0]->finish;
like($stdout, qr/^UPDATE 1$/m, 'a task may wait for a lock of another session');
$session[0]->query_safe('COMMIT');
is($node->safe_psql('postgres', 'SELECT b FROM l WHERE a = 5'), '6', 'and has done its work then');

# ... which itself waits for a third, or for a task of its own.
$session[2]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 6');
$session[1]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 5');
$session[1]->begin('UPDATE l SET b = 0 WHERE a = 6');
blocked(1);
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[0]->begin(q{SELECT supervisor.execute('UPDATE l SET b = b + 1 WHERE a = 5')});
blocked(2);
looks(0);
$session[2]->query_safe('COMMIT');
$session[1]->finish;
$session[1]->query_safe('COMMIT');
($stdout) = $session[0]->finish;
like($stdout, qr/^UPDATE 1$/m, 'or of one that waits for a third');
roll_back();

$session[1]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 5');
$session[2]->query_safe('SELECT pg_advisory_lock(1)');
$session[1]->begin(q{SELECT supervisor.execute('SELECT pg_advisory_lock(1)')});
blocked(1);
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[0]->begin(q{SELECT supervisor.execute('UPDATE l SET b = b + 1 WHERE a = 5')});
blocked(2);
looks(0);
$session[2]->query_safe('SELECT pg_advisory_unlock(1)');
$session[1]->finish;
$session[1]->query_safe('COMMIT');
($stdout) = $session[0]->finish;
like($stdout, qr/^UPDATE 1$/m, 'or of one that waits for a task that waits for a third');
roll_back();

# The lock is mine, but it is another's task that waits for it.
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[1]->begin(q{SELECT supervisor.execute('UPDATE l SET b = 1 WHERE a = 1')});
blocked(1);
($stdout) = $session[0]->query_safe(q{SELECT supervisor.execute('SELECT pg_sleep(0.5)')});
is($stdout, 'SELECT 1', "another's task may wait for a lock of mine while I wait for my task");
$session[0]->query_safe('COMMIT');
($stdout) = $session[1]->finish;
like($stdout, qr/^UPDATE 1$/m, 'and gets it');
roll_back();

# A task of mine waits for me, but I don't wait for it.
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$task = $session[0]->query_safe(qq{SELECT supervisor.launch('$update')});
blocked(1);
is($session[0]->query_safe(q{SELECT supervisor.execute('SELECT pg_sleep(0.5)')}),
	'SELECT 1', 'one of my tasks may wait for me while I wait for another');
is($session[0]->query_safe(q{COMMIT; SELECT supervisor.wait(} . $task . ')'), 'succeeded', 'and goes on after the COMMIT');
$session[0]->query_safe("SELECT supervisor.forget($task)");

# A pool whose workers wait for me, but not all of them.
$session[0]->query_safe('BEGIN; LOCK TABLE m');
$session[1]->begin(q{SELECT * FROM supervisor.run('SELECT count(*)::int FROM m', pool => 'two') AS (n int)});
$session[3]->query_safe('SELECT pg_advisory_lock(3)');
$session[2]->begin(q{SELECT * FROM supervisor.run('SELECT 3 FROM pg_advisory_xact_lock(3)', pool => 'two') AS (n int)});
blocked(2);
$session[0]->begin(q{SELECT supervisor.execute('SELECT 1', pool => 'two')});
until_true(q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'queued'}, 'a third waits for one of them');
looks(0);
$session[3]->query_safe('SELECT pg_advisory_unlock(3)');
is(join('', $session[0]->finish),
	'SELECT 1', 'a task may wait in a queue as long as one worker does not wait for its submitter');
$session[0]->query_safe('COMMIT');
foreach my $i (1, 2)
{
	(undef, $stderr) = $session[$i]->finish;
	is($stderr, '', 'nobody else is hurt');
}

# Prepared transactions hold locks without a process.
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$_->quit foreach @session;
$node->restart;
@session = map { SupervisorTest::session($node) } 0 .. 3;
@pid = map { $_->pid } @session;
$session[1]->query_safe(q{BEGIN; UPDATE l SET b = 0 WHERE a = 7; PREPARE TRANSACTION 'p'});
$session[0]->query_safe('BEGIN; UPDATE l SET b = 0 WHERE a = 1');
$session[0]->begin(q{SELECT supervisor.execute('UPDATE l SET b = 1 WHERE a = 7')});
blocked(1);
looks(0);
$session[1]->query_safe(q{COMMIT PREPARED 'p'});
($stdout) = $session[0]->finish;
like($stdout, qr/^UPDATE 1$/m, 'a task may wait for a prepared transaction');
roll_back();

note 'many at once';

# Random circles: nobody may wait for ever, and nobody gets an error but 40P01 and
# core's own.
$node->safe_psql('postgres', q{
	CREATE FUNCTION circle(seed float, n int) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		done int := 0;
		deadlocks int := 0;
	BEGIN
		PERFORM setseed(seed);
		FOR i IN 1 .. n LOOP
			BEGIN
				UPDATE m SET b = b + 1 WHERE a = 1 + (random() * 3)::int;
				PERFORM supervisor.execute(format('UPDATE m SET b = b + 1 WHERE a = %s', 1 + (random() * 3)::int));
				done := done + 1;
				RAISE EXCEPTION 'give up the locks';
			EXCEPTION
				WHEN deadlock_detected THEN
					deadlocks := deadlocks + 1;
				WHEN raise_exception THEN
					NULL;
			END;
		END LOOP;
		RETURN format('%s ended', done + deadlocks);
	END $$});
$session[$_]->begin("SELECT circle(0.$_, 15)") foreach 0 .. 3;
foreach my $i (0 .. 3)
{
	($stdout, $stderr) = $session[$i]->finish;
	like($stdout, qr/^15 ended$/m, "session $i of four that deadlock at random ends");
	is($stderr, '', 'without another error');
}
no_task();

# A login event trigger that waits for a task would wait for a worker that fires it, too.
SKIP:
{
	skip 'no login event triggers before PostgreSQL 17', 3
	  if $node->safe_psql('postgres', 'SHOW server_version_num') < 170000;

	$node->safe_psql('postgres', 'CREATE DATABASE logins');
	$node->safe_psql('logins', q{
		CREATE EXTENSION supervisor;
		CREATE TABLE login (at timestamptz DEFAULT now());
		CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM supervisor.execute('INSERT INTO public.login DEFAULT VALUES');
		END $$;
		CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note_login()});
	($stdout, $stderr) = SupervisorTest::error_of($node, 'SELECT 1', dbname => 'logins');
	like($stderr, qr/a task cannot wait for a task/, 'a login event trigger that waits for a task fails in the worker');
	{
		local $ENV{PGOPTIONS} = '-c event_triggers=off';
		$node->safe_psql('logins', q{
			CREATE OR REPLACE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'client backend') THEN
					PERFORM supervisor.execute('INSERT INTO public.login DEFAULT VALUES');
				END IF;
			END $$});
	}
	is($node->safe_psql('logins', 'SELECT count(*) FROM login'), '1', 'one of clients only may do so');
	no_task();
	is($node->safe_psql('postgres', 'DROP DATABASE logins'), '', 'and no session is left');
}

is($node->safe_psql('postgres', q{SELECT count(*) FROM supervisor.worker_status WHERE kind = 'pool' AND pid IS NULL}),
	'0', 'all workers are there');
$_->quit foreach @session;
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal/, 'no process has crashed');
done_testing();
