# launch() waits for room, and launched tasks have a timeout.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes refused until_true);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'deadlock_timeout' => '50ms',
	'supervisor.max_tasks' => 16,
	'supervisor.shared_memory' => '1MB',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'side:1, gone:1');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE TABLE done (what text);
	GRANT ALL ON done TO PUBLIC;
	CREATE VIEW alive AS SELECT * FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL;
	GRANT SELECT ON alive TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO PUBLIC});
SupervisorTest::leaks($node);

my $boss = SupervisorTest::session($node);
my $alice = SupervisorTest::session($node, user => 'alice');
my $alice_too = SupervisorTest::session($node, user => 'alice');
my $bob = SupervisorTest::session($node, user => 'bob');
my %pid = map { $_ => $_->pid } $boss, $alice, $alice_too, $bob;

# $n tasks that insert a row each, and are forgotten.
sub inserts
{
	my ($n, $more) = @_;

	return "SELECT count(supervisor.forget(supervisor.launch('INSERT INTO done VALUES (''x'')'" . ($more // '') . "))) FROM generate_series(1, $n)";
}

sub blocked
{
	my ($key) = @_;

	return "SELECT FROM pg_advisory_xact_lock_shared($key)";
}

# A session that holds the advisory lock $key.
sub hold
{
	my ($key) = @_;
	my $session = SupervisorTest::session($node);

	$session->query_safe("SELECT pg_advisory_lock($key)");
	return $session;
}

# Waits until that session sleeps in its call, and the tasks that keep it out are there.
sub waits
{
	my ($session, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return becomes(qq{
		SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid{$session}}, $property);
}

sub all_done
{
	my ($n, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT count(*) = $n FROM done", $property);
	value('TRUNCATE done');
}

sub no_task
{
	until_true('SELECT count(*) = 0 FROM alive', 'no task is left');
}

note 'as many as one likes';

is($boss->query_safe(inserts(500)), '500', 'a superuser launches and forgets more tasks than there is room for');
is($alice->query_safe(inserts(500)), '500', 'so does a role that has half of it');
is($alice->query_safe(q{SELECT count(supervisor.forget(supervisor.launch('SELECT 1'))) FROM generate_series(1, 20000)}), '20000', 'however many they are');
all_done(1000, 'all of them run');
{
	my @sessions = map { SupervisorTest::session($node, user => $_) } qw(alice alice bob bob), undef, undef;

	$_->begin(inserts(200)) foreach @sessions;
	is(join('', $_->finish), '200', 'several sessions at once') foreach @sessions;
	$_->quit foreach @sessions;
	all_done(1200, 'and all run');
}
no_task();
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

note 'a trigger';

value(q{
	CREATE TABLE mail (id int GENERATED ALWAYS AS IDENTITY, recipient text);
	CREATE FUNCTION send() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM supervisor.forget(supervisor.launch('INSERT INTO done VALUES ($1)', ARRAY[recipient], timeout => '1 h')) FROM added;
		RETURN NULL;
	END $$;
	CREATE TRIGGER send AFTER INSERT ON mail REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION send();
	GRANT ALL ON mail TO PUBLIC});
$alice->query_safe(q{INSERT INTO mail (recipient) SELECT 'reader ' || i FROM generate_series(1, 200) i});
becomes(q{SELECT count(DISTINCT what) = 200 FROM done}, 'a trigger may launch one for each row of a statement');
refused(q{INSERT INTO mail (recipient) SELECT x FROM (SELECT i, ('reader ' || i) x FROM generate_series(1, 200) i) s, LATERAL (SELECT 1 / (201 - i)) d(e) WHERE e > 0 AND 1 / (200 - i) >= 0},
	'22012', 'a statement that fails before its end has launched nothing', session => $alice);
all_done(200, 'as the trigger is fired at the end');

note 'what is waited for, and what is not';

my $half = qr/too many tasks for role "alice".*HINT:.*supervisor\.forget\(\)/s;
$alice->query_safe(q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 8)});
refused(q{SELECT supervisor.launch('SELECT 1')}, '53400', 'the session\'s own unread tasks are not', session => $alice, message => $half);
refused(q{SELECT supervisor.launch('SELECT 1', timeout => '1 h')}, '53400', 'also with a timeout', session => $alice, message => $half);
refused(q{SELECT supervisor.launch('SELECT 1')}, '53400', 'nor are another session\'s', session => $alice_too, message => $half);
$alice->query_safe('SELECT supervisor.forget(task) FROM alive');
refused(q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 9)}, '53400', 'as many as there is room for are launched, and no more', session => $alice);
is(value('SELECT count(*) FROM alive'), '8', 'these are there');
$alice->query_safe('SELECT supervisor.forget(task) FROM alive');

my $lock = hold(1);
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 8)}, blocked(1));
$alice->begin(q{SELECT supervisor.launch('SELECT 7')});
waits($alice, 'tasks that were forgotten are waited for');
$alice_too->begin(q{SELECT supervisor.launch('SELECT 8')});
waits($alice_too, 'by another session, too');
is($bob->query_safe(q{SELECT supervisor.execute('SELECT 1', pool => 'side')}), 'SELECT 1', 'others have room');
refused(q{SELECT supervisor.execute('SELECT 1')}, '53400', 'execute does not wait', user => 'alice', message => $half);
value('SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = ' . $pid{$alice_too});
like(($alice_too->finish)[1], qr/57014/, 'the wait can be canceled');
is(value('SELECT count(*) FROM alive'), '8', 'then there is no task');
refused(q{SET statement_timeout = '100 ms'; SELECT supervisor.launch('SELECT 1')}, '57014', 'and has the statement\'s timeout', user => 'alice');
$lock->quit;
my $task = join '', $alice->finish;
is($alice->query_safe("SELECT * FROM supervisor.result($task) AS (i int)"), '7', 'when one has ended there is room');
no_task();

$lock = hold(1);
my @callers = map { SupervisorTest::session($node, user => 'alice') } 1 .. 8;
$_->begin(sprintf q{SELECT supervisor.execute('%s')}, blocked(1)) foreach @callers;
until_true('SELECT count(*) = 8 FROM alive', 'eight calls wait');
$alice->begin(q{SELECT supervisor.forget(supervisor.launch('SELECT 1'))});
waits($alice, 'tasks that their sessions wait for are waited for');
$lock->quit;
is(join('', $_->finish), 'SELECT 1', 'each call is answered') foreach @callers;
like(join('', $alice->finish), qr/^[tf]$/, 'and so is launch');
$_->quit foreach @callers;
no_task();

note 'all tasks are taken';

$bob->query_safe(q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 8)});
$boss->query_safe(q{SELECT supervisor.launch('SELECT 1') FROM generate_series(1, 7)});
$lock = hold(1);
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s', pool => 'side'))}, blocked(1));
$boss->begin(q{SELECT supervisor.launch('SELECT 9')});
waits($boss, 'a task of another role is waited for');
$alice_too->begin(q{SELECT supervisor.launch('SELECT 10')});
waits($alice_too, 'by several');
$lock->quit;
my %out = map { $_ => join '', $_->finish } $boss, $alice_too;
is(join(' ', sort map { /53400/ ? 'refused' : /^\d+$/ ? 'launched' : $_ } values %out), 'launched refused',
	'one gets its room, and there is none for the other when all that is left is unread');
$_->query_safe('SELECT supervisor.forget(task) FROM alive WHERE owner_pid = pg_backend_pid()') foreach $boss, $bob, $alice_too;
no_task();
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

note 'memory';

my $big = q{'INSERT INTO done SELECT ''x'' --' || repeat('x', 100000)};
is($alice->query_safe("SELECT count(supervisor.forget(supervisor.launch($big))) FROM generate_series(1, 50)"), '50', 'memory is waited for');
is($boss->query_safe("SELECT count(supervisor.forget(supervisor.launch($big))) FROM generate_series(1, 50)"), '50', 'by superusers as well');
all_done(100, 'all run');
refused(q{SELECT supervisor.launch('SELECT 1 --' || repeat('x', 600000))}, '53200', 'what fits in no half is refused at once', session => $alice);
refused(q{SELECT supervisor.launch('SELECT 1 --' || repeat('x', 1100000))}, '53200', 'and what fits nowhere', session => $boss);
$alice->query_safe("SELECT supervisor.launch($big) FROM generate_series(1, 5)");
refused("SELECT supervisor.launch($big)", '53200', 'unread tasks are not waited for', session => $alice);
$alice->query_safe('SELECT supervisor.forget(task) FROM alive');
no_task();

note 'in a task';

# Else all workers might wait for room.
$lock = hold(1);
refused(sprintf(q{SELECT supervisor.execute($$ SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 20) $$)}, blocked(1)),
	'53400', 'a task does not wait for room', user => 'alice', message => qr/too many tasks/);
$lock->quit;
no_task();
value('TRUNCATE done');
is(value(sprintf q{SELECT supervisor.execute($$ %s $$)}, inserts(5)), 'SELECT 1', 'it may launch what there is room for');
all_done(5, 'which runs');

note 'a pool that goes, a right that is lost, while a session waits';

$lock = hold(1);
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 8)}, blocked(1));
$alice->begin(q{SELECT supervisor.launch('SELECT 1', pool => 'gone')});
waits($alice, 'it waits');
SupervisorTest::set($node, 'supervisor.pools' => 'side:1(bob)');
until_true(q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'gone'}, 'the pool is removed');
$alice_too->begin(q{SELECT supervisor.launch('SELECT 1')});
waits($alice_too, 'another waits');
SupervisorTest::set($node, 'supervisor.pools' => 'side:1(bob), default(bob)');
until_true(q{SELECT members = '{bob}' FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool has a list');
$lock->quit;
like(($alice->finish)[1], qr/42704.*pool "gone" does not exist/, 'then there is no such pool');
like(($alice_too->finish)[1], qr/42501.*permission denied for pool "default"/, 'and the other may not use it');
SupervisorTest::set($node, 'supervisor.pools' => 'side:1, gone:1');
SupervisorTest::wait_ready($node, 'gone', 1);
until_true(q{SELECT bool_and(members IS NULL) FROM supervisor.pool_status}, 'all may use all');
no_task();

note 'deadlock';

my $deadlock = qr/deadlock detected.*DETAIL:  Process \d+ waits for room for a task; process \d+.*HINT:  Launch fewer tasks/s;
foreach my $s ($boss, $alice)
{
	$s->query_safe('BEGIN; LOCK TABLE done');
	refused(inserts(100), '40P01', 'tasks that wait for a lock of the session', session => $s, message => $deadlock);
	$s->query_safe('ROLLBACK');
	no_task();
	value('TRUNCATE done');
	$s->query_safe('BEGIN; LOCK TABLE done');
	$s->query_safe(inserts(8, ", pool => 'side'"));
	refused(inserts(9), '40P01', 'also in another pool', session => $s, message => $deadlock) if $s == $alice;
	$s->query_safe('ROLLBACK');
	no_task();
	value('TRUNCATE done');
}
$alice->query_safe('SELECT pg_advisory_lock(1)');
$alice_too->query_safe('SELECT pg_advisory_lock_shared(2)');
$alice_too->begin('SELECT pg_advisory_lock(1)');
until_true('SELECT count(*) = 1 FROM pg_locks WHERE NOT granted', 'another session waits for it');
refused(q{SELECT supervisor.forget(supervisor.launch('SELECT FROM pg_advisory_xact_lock(2)')) FROM generate_series(1, 20)},
	'40P01', 'through another session', session => $alice, message => $deadlock);
$alice->query_safe('SELECT pg_advisory_unlock_all()');
$alice_too->finish;
$alice_too->query_safe('SELECT pg_advisory_unlock_all()');
no_task();

# One worker that is not in the way is enough for it to be none.
$lock = hold(3);
$bob->begin(sprintf q{SELECT supervisor.execute('%s')}, blocked(3));
until_true(q{SELECT count(*) = 1 FROM alive WHERE state = 'running'}, 'a worker serves another');
$alice->query_safe('SELECT pg_advisory_lock(1)');
$alice->begin(sprintf q{SELECT count(supervisor.forget(supervisor.launch('%s'))) FROM generate_series(1, 9)}, blocked(1));
waits($alice, 'a session waits for room');
until_true("SELECT clock_timestamp() - query_start > interval '0.5 s' FROM pg_stat_activity WHERE pid = $pid{$alice}", 'it has looked ten times');
is(value("SELECT state FROM pg_stat_activity WHERE pid = $pid{$alice}"), 'active', 'it is no deadlock while a worker may come');
$lock->quit;
is(join('', $bob->finish), 'SELECT 1', 'that one becomes free');
like(($alice->finish)[1], $deadlock, 'then it is one');
$alice->query_safe('SELECT pg_advisory_unlock_all()');
no_task();

note 'the end of a session that waits';

$lock = hold(1);
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 8)}, blocked(1));
$alice_too->begin(q{SELECT supervisor.launch('SELECT 1')});
waits($alice_too, 'a session waits');
$alice->begin(q{SELECT supervisor.launch('SELECT 11')});
waits($alice, 'and another after it');
value("SELECT pg_terminate_backend($pid{$alice_too}, 180000)");
eval { $alice_too->quit };
$lock->quit;
$task = join '', $alice->finish;
is($alice->query_safe("SELECT * FROM supervisor.result($task) AS (i int)"), '11', 'room is not lost to one that has gone');
no_task();
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

note 'timeout';

refused(q{SELECT supervisor.launch('SELECT 1', timeout => '-1 s')}, '22023', 'a timeout is not negative');
is(value(q{SELECT supervisor.wait(supervisor.launch('SELECT 1', timeout => '1 h'))}), 'succeeded', 'a task that ends in time');
is(value(q{SELECT supervisor.wait(supervisor.launch('SELECT pg_sleep(180)', timeout => '0.1 s'))}), 'canceled', 'one that does not is canceled');
refused(q{SELECT supervisor.launch('SELECT pg_sleep(180)', timeout => '0') AS t \gset
	SELECT * FROM supervisor.result(:t) AS (a text)}, '57014', 'and tells why',
	message => qr/canceling statement due to timeout of the call/);

$lock = hold(1);
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 3)}, blocked(1));
$task = $alice->query_safe(q{SELECT supervisor.launch('INSERT INTO done VALUES (''never'')', timeout => '0.2 s')});
is($alice->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'the time in the queue counts');
is($alice->query_safe("SELECT slot IS NULL, sqlstate, message FROM alive WHERE task = $task"),
	't|57014|canceling statement due to timeout of the call', 'it has not begun');
my $canceled = value('SELECT tasks_canceled FROM supervisor.pool_status WHERE pool = \'default\'');
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s', timeout => make_interval(secs => i / 100.0))) FROM generate_series(1, 4) i}, blocked(1));
becomes(qq{SELECT tasks_canceled = $canceled + 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'tasks that are forgotten are canceled as well, each in its time');
$alice->query_safe(sprintf q{SELECT supervisor.forget(supervisor.launch('%s')) FROM generate_series(1, 4)}, blocked(1));
refused(q{SELECT supervisor.launch('SELECT 1', timeout => '0.1 s')}, '57014', 'the time for room counts', session => $alice,
	message => qr/canceling task due to timeout.*DETAIL:.*room/s);
refused(q{SELECT supervisor.launch('SELECT 1', timeout => '0')}, '57014', 'also none', session => $alice);
$lock->quit;
$alice->query_safe('SELECT supervisor.forget(task) FROM alive WHERE owner_pid = pg_backend_pid()');
no_task();
is(value('SELECT count(*) FROM done'), '0', 'none of these has run');

# The supervisor ends them, and so does its successor.
$lock = hold(1);
$task = $alice->query_safe(sprintf q{SELECT supervisor.launch('%s', timeout => '2 s')}, blocked(1));
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'supervisor'});
is($alice->query_safe("SELECT supervisor.wait($task)"), 'canceled', 'a new supervisor knows the time of a task');
$lock->quit;

$_->quit foreach $boss, $alice, $bob;
no_task();
is(SupervisorTest::leaks($node), '', 'nothing is lost');
$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
