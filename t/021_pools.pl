# Pools: growing and shrinking while they work, coming and going, not getting
# what they ask for, and which worker takes which task.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes value refused until_true);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'supervisor.max_workers' => 16,
	'supervisor.pool_size' => 4);

SupervisorTest::ask(\$node);

# A session that holds the advisory lock $key; tasks that wait for it are blocked.
sub hold
{
	my ($key) = @_;
	my $session = SupervisorTest::session($node);

	$session->query_safe("SELECT pg_advisory_lock($key)");
	return $session;
}

sub blocked
{
	my ($key) = @_;

	return "SELECT 1 FROM pg_advisory_xact_lock_shared($key)";
}

# Sets and waits until the supervisor has seen it, by a pool that shows it.
sub resize
{
	my (%settings) = @_;

	SupervisorTest::set($node, %settings);
}

sub all_ready
{
	my ($pool, $n) = @_;

	return "SELECT size = $n AND running = $n FROM supervisor.pool_status WHERE pool = '$pool'";
}

becomes(all_ready('default', 4), 'the pool has its first size');
value(q{
	CREATE TABLE done (i int);
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT INSERT ON done TO alice, bob;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob;
	CREATE FUNCTION commands(first int, last int) RETURNS text[] LANGUAGE sql
	RETURN (SELECT array_agg(format('INSERT INTO done SELECT %s FROM pg_sleep(0.01)', i)) FROM generate_series(first, last) i)});
SupervisorTest::leaks($node);

note 'growing and shrinking while tasks run';

foreach my $role (undef, 'alice')
{
	my $who = $role // 'superuser';
	my $session = SupervisorTest::session($node, user => $role);
	my $event = value('SELECT max(id) FROM supervisor.event');

	$session->begin(q{SELECT count(tag), count(sqlstate) FROM supervisor.execute_all(commands(1, 600))});
	foreach my $size (1, 8, 2, 0, 5, 0, 3, 16, 1, 4)
	{
		resize('supervisor.pool_size' => $size);
		$node->poll_query_until('postgres',
			"SELECT size = $size FROM supervisor.pool_status WHERE pool = 'default'")
		  or die "the size did not become $size";
	}
	my ($stdout, $stderr) = $session->finish;
	like($stdout . $stderr, qr/^600\|0$|pool "default" has size 0/,
		"$who: no task fails while the pool grows and shrinks, but for calls to a pool of none");
	my ($ended) = $stdout =~ /^(\d+)/;
	is(value('SELECT count(DISTINCT i), count(*) FROM done'), '600|600',
		"$who: every task ran, and once")
	  if $ended;
	is( value(qq{
			SELECT string_agg(detail, ';') FROM supervisor.event
			WHERE id > $event AND event = 'exited' AND detail <> 'exit code 0'}),
		'', "$who: no worker was interrupted");
	value('TRUNCATE done');
	$session->quit;
	becomes(all_ready('default', 4), "$who: the pool has its last size");
}
is(SupervisorTest::leaks($node), '', 'nothing is lost by resizing');

note 'to none and back while tasks run and wait';

{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);
	my $other = SupervisorTest::session($node, user => 'bob');

	value('TRUNCATE done');
	resize('supervisor.pool_size' => 2);
	becomes(all_ready('default', 2), 'a pool of two');
	my $running = $session->query_safe(sprintf
		q{SELECT string_agg(supervisor.launch('%s')::text, ',') FROM generate_series(1, 2)}, blocked(1));
	becomes(q{SELECT busy = 2 FROM supervisor.pool_status WHERE pool = 'default'}, 'both are busy');
	$session->query_safe(q{
		SELECT supervisor.forget(supervisor.launch(format('INSERT INTO done VALUES (%s)', i)))
		FROM generate_series(1, 10) i});
	$other->query_safe(q{
		SELECT supervisor.forget(supervisor.launch(format('INSERT INTO done VALUES (%s)', i)))
		FROM generate_series(11, 20) i});
	resize('supervisor.pool_size' => 0);
	becomes(q{SELECT size = 0 AND queued_tasks = 20 FROM supervisor.pool_status WHERE pool = 'default'},
		'a pool of size 0 keeps its queue');
	is( value("SELECT count(*) FROM supervisor.task_status WHERE task IN ($running) AND state = 'running'"),
		'2', 'and its running tasks');

	my ($sqlstate, $stderr) =
	  SupervisorTest::error_of($node, q{SELECT supervisor.execute('SELECT 1')});
	is($sqlstate, '55000', 'a pool of size 0 takes no new task');
	like($stderr, qr/pool "default" has size 0.*^HINT:.*supervisor\.pool_size/ms,
		'and says why, and which setting it is');

	$lock->quit;
	becomes(q{SELECT queued_tasks = 0 AND running = 0 FROM supervisor.pool_status WHERE pool = 'default'},
		'a pool of size 0 works off its queue, and is empty then');
	is(value('SELECT count(DISTINCT i), count(*) FROM done'), '20|20',
		'every queued task ran, and once, for both roles');
	is( $session->query_safe(
			"SELECT string_agg(supervisor.wait(t), ',') FROM unnest(ARRAY[$running]) t"),
		'succeeded,succeeded', 'the tasks that ran succeeded');
	is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE kind = 'pool'}), '0', 'no worker is left');
	$_->quit for $session, $other;

	resize('supervisor.pool_size' => 4);
	becomes(all_ready('default', 4), 'and back');
	is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'it works again');
	is(SupervisorTest::leaks($node), '', 'nothing is lost by it');
}

note 'a worker that was to go stays when the pool grows again';

{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);

	$session->query_safe(sprintf
		q{SELECT count(supervisor.forget(supervisor.launch('%s'))) FROM generate_series(1, 4)}, blocked(1));
	becomes(q{SELECT busy = 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'all are busy');
	my $workers = value('SELECT slot, generation FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY 1');
	resize('supervisor.pool_size' => 1);
	becomes(q{SELECT size = 1 FROM supervisor.pool_status WHERE pool = 'default'}, 'one is wanted');
	is(value(q{SELECT busy FROM supervisor.pool_status WHERE pool = 'default'}), '4', 'four are still busy');
	resize('supervisor.pool_size' => 4);
	becomes(q{SELECT size = 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'four are wanted again');
	$lock->quit;
	becomes(q{SELECT idle = 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'all are idle');
	is(value('SELECT slot, generation FROM supervisor.worker_status WHERE slot IS NOT NULL ORDER BY 1'),
		$workers, 'busy workers that were surplus for a while are kept');
	$session->quit;
}

note 'a restart stands though the pool shrinks and grows meanwhile';

{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);

	$session->query_safe(sprintf
		q{SELECT count(supervisor.forget(supervisor.launch('%s'))) FROM generate_series(1, 4)}, blocked(1));
	becomes(q{SELECT busy = 4 FROM supervisor.pool_status WHERE pool = 'default'}, 'all are busy');
	my $workers = 'SELECT array_agg(generation ORDER BY slot) FROM supervisor.worker_status WHERE slot IS NOT NULL';
	my $before = value($workers);
	my $restart = SupervisorTest::session($node);
	my $pid = $restart->pid;
	$restart->begin(q{SELECT supervisor.restart_pool('default', '1 h')});
	becomes(q{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = } . $pid,
		'restart_pool waits for them');
	foreach my $size (0, 4)
	{
		resize('supervisor.pool_size' => $size);
		becomes("SELECT size = $size FROM supervisor.pool_status WHERE pool = 'default'", "$size are wanted");
	}
	$lock->quit;
	is(join('', $restart->finish), 't', 'the restart comes to its end');
	becomes(all_ready('default', 4), 'all are there');
	is(value("SELECT count(*) FROM unnest('$before'::bigint[], ($workers)) u(before, after) WHERE before = after"),
		'0', 'and each is new');
	$_->quit for $session, $restart;
}

note 'named pools';

resize('supervisor.pools' => 'small:1, big : 3');
becomes(all_ready('small', 1), 'a named pool comes');
becomes(all_ready('big', 3), 'and another, with spaces around its colon');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'big')}), 'SELECT 1', 'tasks run in a named pool');
is( value(q{SELECT pool, tasks_succeeded FROM supervisor.pool_status WHERE pool IN ('big', 'small') ORDER BY 1}),
	"big|1\nsmall|0", 'and in no other');

foreach my $bad ('one', 'one:', ':1', 'one:-1', 'one:1,', ',one:1', 'one:1 two:2', 'one:1,one:2',
	'one:1.5', 'one:1025', 'one:99999999999999999999', 'default:3', 'one:x', 'one::1',
	('x' x 64) . ':1', join(',', map { "p$_:0" } 1 .. 64))
{
	my $short = substr $bad, 0, 40;
	my $offset = -s $node->logfile;
	my ($sqlstate, $stderr) =
	  SupervisorTest::error_of($node, "ALTER SYSTEM SET supervisor.pools = '$bad'");
	is($sqlstate, '22023', "supervisor.pools = '$short' is refused");
	like($stderr, qr/^DETAIL: .*\w"?\.$/m, "'$short': with a sentence that says why");
}
{
	my $offset = -s $node->logfile;

	append_to_file($node->data_dir . '/postgresql.auto.conf',
		"supervisor.pools = 'broken'\nsupervisor.pool_size = '-2'\nsupervisor.idle_timeout = '1 banana'\n");
	$node->reload;
	ok($node->wait_for_log(qr/contains errors; unaffected changes were applied/, $offset),
		'a reload with wrong values is complained about');
	is(value(q{SELECT current_setting('supervisor.pools') || current_setting('supervisor.pool_size')}),
		'small:1, big : 34', 'and keeps the old values');
	is( value(q{SELECT supervisor.execute('SELECT 1', pool => 'small')}), 'SELECT 1',
		'and the pools as they are');
	(my $conf = slurp_file($node->data_dir . '/postgresql.auto.conf')) =~ s/^supervisor.*(broken|-2|banana).*\n//mg;
	open my $fh, '>', $node->data_dir . '/postgresql.auto.conf' or die $!;
	print $fh $conf;
	close $fh;
}

note 'a pool is removed while tasks run and wait in it';

{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);

	value('TRUNCATE done');
	my $task = $session->query_safe(sprintf q{SELECT supervisor.launch('%s', pool => 'small')}, blocked(1));
	becomes(q{SELECT busy = 1 FROM supervisor.pool_status WHERE pool = 'small'}, 'its worker is busy');
	$session->query_safe(q{
		SELECT supervisor.forget(supervisor.launch(format('INSERT INTO done VALUES (%s)', i), pool => 'small'))
		FROM generate_series(1, 5) i});
	my $other = SupervisorTest::session($node, user => 'alice');
	$other->query_safe(q{
		SELECT supervisor.forget(supervisor.launch(format('INSERT INTO done VALUES (%s)', i), pool => 'small'))
		FROM generate_series(6, 10) i});
	resize('supervisor.pools' => 'big:3');
	becomes(q{SELECT size = 0 FROM supervisor.pool_status WHERE pool = 'small'}, 'it is removed');
	my ($sqlstate) = SupervisorTest::error_of($node, q{SELECT supervisor.execute('SELECT 1', pool => 'small')});
	is($sqlstate, '42704', 'a removed pool takes no task');
	$lock->quit;
	is($session->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'the task that ran in it succeeds');
	becomes(q{SELECT count(DISTINCT i) = 10 AND count(*) = 10 FROM done}, 'all that were queued in it run, for both roles');
	becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE pool = 'small'}, 'its worker goes then');
	is($session->query_safe("SELECT * FROM supervisor.result($task) AS (a int)"), '1', 'a result is read after its pool has gone');
	becomes(q{SELECT count(*) = 0 FROM supervisor.pool_status WHERE pool = 'small'},
		'and the pool is forgotten when its last task is');
	$_->quit for $session, $other;
}

note 'pools come and go';

for my $i (1 .. 100)
{
	value("ALTER SYSTEM SET supervisor.pools = 'come$i:0, go$i:" . ($i % 10 ? 0 : 1) . "'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM supervisor.pool_status WHERE pool = 'come$i'")
	  or die "pool come$i does not come";
	value("SELECT supervisor.execute('SELECT 1', pool => 'go$i')") if $i % 10 == 0;
}
pass('a hundred times other pools come');
resize('supervisor.pools' => '');
becomes(q{SELECT string_agg(pool, ',') = 'default' FROM supervisor.pool_status}, 'no pool is left over');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE kind = 'pool'}), '4', 'and no worker');

# as many as there may be, twice
foreach my $name (qw(a b))
{
	resize('supervisor.pools' => join(', ', map { "$name$_:0" } 1 .. 63));
	becomes("SELECT count(*) = 63 FROM supervisor.pool_status WHERE pool LIKE '$name%'",
		"63 pools come, all at once ($name)");
}
resize('supervisor.pools' => '');
becomes(q{SELECT string_agg(pool, ',') = 'default' FROM supervisor.pool_status}, 'and go');
is(SupervisorTest::leaks($node), '', 'nothing is lost by pools that come and go');

note 'there are more new pools than entries';

{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);
	my $event = value('SELECT coalesce(max(id), 0) FROM supervisor.event');

	resize('supervisor.pools' => join(', ', map { "old$_:0" } 1 .. 62) . ', busy:1');
	becomes(all_ready('busy', 1), '63 pools');
	my $task = $session->query_safe(sprintf q{SELECT supervisor.launch('%s', pool => 'busy')}, blocked(1));
	my $offset = -s $node->logfile;
	resize('supervisor.pools' => join(', ', map { "new$_:0" } 1 .. 63));
	becomes(q{SELECT count(*) = 64 AND bool_or(pool = 'busy') FROM supervisor.pool_status WHERE pool !~ 'old'}, 'others take the place of all but one');
	my ($missing) = value(q{SELECT string_agg(n, ',') FROM unnest(string_to_array(regexp_replace(current_setting('supervisor.pools'), ':\d+', '', 'g'), ', ')) n
		WHERE NOT EXISTS (SELECT FROM supervisor.pool_status WHERE pool = n)});
	like($missing, qr/^\w+$/, 'one is missing');
	my $refused = "SELECT supervisor.execute('SELECT 1', pool => '$missing')";
	refused($refused, '42704', 'a task for it is refused',
		message => qr/pool "$missing" does not exist.*^DETAIL:  It is in "supervisor\.pools", but pools that were removed still have tasks/ms,
		hint => qr/supervisor\.pool_status/);
	refused("SELECT supervisor.restart_pool('$missing')", '42704', 'so is its restart', message => qr/DETAIL:  It is in/);
	refused(q{SELECT supervisor.execute('SELECT 1', pool => 'old1')}, '42704', 'of one that is not in the settings it is not said',
		hint => qr/Pools are named by/);
	ok($node->wait_for_log(qr/no entry for pool "$missing"/, $offset), 'it is in the log');
	is(value("SELECT event, detail FROM supervisor.event WHERE id > $event AND detail ~ 'no entry'"),
		"waiting|no entry for pool $missing: removed pools still have tasks", 'and an event');
	resize('supervisor.idle_timeout' => '3min');
	until_true(q{SELECT current_setting('supervisor.idle_timeout') = '3min'}, 'a reload');
	value(q{SELECT supervisor.restart_pool('default', '1 min')});
	is(scalar(() = slurp_file($node->logfile, $offset) =~ /no entry for/g), 1, 'once');
	$lock->quit;
	is($session->query_safe("SELECT supervisor.wait($task), supervisor.forget($task)"), 'succeeded|f', 'the task ends');
	becomes("SELECT count(*) = 1 FROM supervisor.pool_status WHERE pool = '$missing'", 'the pool comes when that is gone');
	$session->quit;
	resize('supervisor.pools' => '');
	becomes(q{SELECT string_agg(pool, ',') = 'default' FROM supervisor.pool_status}, 'all go');
	is(SupervisorTest::leaks($node), '', 'nothing is lost by it');

	# Their workers have yet to end, but nobody is in the way.
	resize('supervisor.pools' => join(', ', map { "old$_:1" } 1 .. 12) . ', ' . join(', ', map { "old$_:0" } 13 .. 63));
	becomes(q{SELECT count(*) = 64 AND sum(running) FILTER (WHERE pool <> 'default') = 12 FROM supervisor.pool_status}, 'pools with workers that have nothing to do');
	$offset = -s $node->logfile;
	resize('supervisor.pools' => join(', ', map { "new$_:0" } 1 .. 63));
	becomes(q{SELECT count(*) = 64 AND bool_and(pool ~ 'new|default') FROM supervisor.pool_status}, 'all make room for others');
	unlike(slurp_file($node->logfile, $offset), qr/no entry for/, 'which is not worth a line');
	resize('supervisor.pools' => '');
	becomes(q{SELECT string_agg(pool, ',') = 'default' FROM supervisor.pool_status}, 'all go again');
}

note 'the slots are used up';

{
	my $offset = -s $node->logfile;

	resize('supervisor.pools' => 'extra:14');
	becomes(q{
		SELECT count(*) FILTER (WHERE slot IS NULL AND kind = 'pool') = 2
			AND bool_and(state = 'waiting' AND reason = 'no_slot' AND detail IS NOT NULL AND pid IS NULL) FILTER (WHERE slot IS NULL AND kind = 'pool')
			AND count(slot) = 16
		FROM supervisor.worker_status},
		'workers without a slot are shown, waiting, with the reason no_slot');
	becomes(q{SELECT size = 14 AND running = 12 FROM supervisor.pool_status WHERE pool = 'extra'},
		'the others of that pool run');
	is( value(q{SELECT supervisor.execute('SELECT 1', pool => 'extra')}), 'SELECT 1', 'and work');
	ok($node->wait_for_log(qr/no slot for 2 workers of pool "extra"/, $offset), 'it is in the log');
	$node->reload;
	resize('supervisor.idle_timeout' => '4min');
	value(q{SELECT supervisor.restart_pool('extra', '1 min')});
	is(scalar(() = slurp_file($node->logfile, $offset) =~ /no slot for/g), 1, 'once');
	resize('supervisor.pool_size' => 2);
	becomes(all_ready('extra', 14), 'they get the slots that another pool gives back');
	is(value('SELECT count(*) FROM supervisor.worker_status WHERE kind = $$pool$$ AND slot IS NULL'), '0', 'and none is without');
	resize('supervisor.pool_size' => 4, 'supervisor.pools' => '');
	becomes(all_ready('default', 4), 'back');
	is(SupervisorTest::leaks($node), '', 'nothing is lost by it');
}

note 'which worker takes which task';

# Slots of the given idle workers' tasks are told by their process.
resize('supervisor.pool_size' => 3);
becomes(all_ready('default', 3), 'a pool of three');
is(value(q{SELECT supervisor.restart_pool('default', '1 min')}), 't', 'all unbound');

sub pid_of_task
{
	my ($role, $pool) = @_;
	my $session = SupervisorTest::session($node, user => $role);
	my $pid = $session->query_safe(
		q{SELECT pid FROM supervisor.run('SELECT pg_backend_pid()') AS (pid int)});

	$session->quit;
	return $pid;
}
{
	my $first = pid_of_task('alice');
	is(pid_of_task('alice'), $first, 'a worker bound to the role serves it again');
	my $second = pid_of_task('bob');
	isnt($second, $first, 'a task of another role takes an unbound worker');
	is(value(q{SELECT unbound FROM supervisor.pool_status WHERE pool = 'default'}), '1', 'one is unbound still');

	# a second worker for alice, used more recently than the first
	my $lock = hold(1);
	my $session = SupervisorTest::session($node, user => 'alice');
	$session->begin(sprintf q{SELECT supervisor.execute('%s')}, blocked(1));
	becomes(q{SELECT busy = 1 FROM supervisor.pool_status WHERE pool = 'default'}, 'the first is busy');
	my $third = pid_of_task('alice');
	isnt($third, $first, 'a task whose worker is busy takes another');
	is(pid_of_task('bob'), $second, 'workers of another role are left alone');
	$lock->quit;
	$session->finish;
	$session->quit;
	becomes(q{SELECT idle = 3 FROM supervisor.pool_status WHERE pool = 'default'}, 'all are idle');
	is(pid_of_task('alice'), $first, 'of two idle workers the one that was busy last is taken');

	# idle longest now: third, then bob's, then first
	is( value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1',
		'where all are bound to others, one is recycled');
	is( value(qq{SELECT count(*) FROM supervisor.worker_status WHERE pid = $third}), '0',
		'the one that has been idle longest');
	is( value(qq{SELECT count(*) FROM supervisor.worker_status WHERE pid IN ($first, $second)}), '2',
		'and only that one');
	is( value(q{SELECT count(*) FROM supervisor.event WHERE event = 'backoff'}), '0',
		'which is no failure');
}

note 'no binding starves';

resize('supervisor.pool_size' => 1);
becomes(all_ready('default', 1), 'a pool of one');
{
	my $alice = SupervisorTest::session($node, user => 'alice');

	value('TRUNCATE done');
	$alice->query_safe(q{SELECT count(supervisor.forget(supervisor.launch(c))) FROM unnest(commands(1, 400)) c});
	is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'another role gets its turn');
	cmp_ok(value(q{SELECT count(*) FROM supervisor.task_status WHERE usename = 'alice' AND state = 'queued'}), '>', 0,
		'while the first has tasks in the queue');
	becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'and the first gets its own');
	is(value('SELECT count(DISTINCT i), count(*) FROM done'), '400|400', 'all of them');
	$alice->quit;

	# both go on for ever, so each must make progress
	my @sessions = map { SupervisorTest::session($node, user => $_) } qw(alice bob);
	$_->begin(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[100]))})
	  for @sessions;
	is(join(' ', map { join '', $_->finish } @sessions), '100 100', 'two roles on a pool of one both end');
	$_->quit for @sessions;
}
resize('supervisor.pool_size' => 4);
is(SupervisorTest::leaks($node), '', 'nothing is lost by it');
resize('supervisor.pool_size' => 1);
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status}, 'a pool of one');

note 'recycling';

value(q{SELECT supervisor.execute('SELECT 1')});
becomes(q{SELECT idle = 1 FROM supervisor.pool_status WHERE pool = 'default'}, 'a bound worker is idle');
resize('supervisor.idle_timeout' => '50ms');
becomes(q{SELECT unbound = 1 FROM supervisor.pool_status WHERE pool = 'default'},
	'a worker idle for idle_timeout is recycled');
my $generation = value(q{SELECT generation FROM supervisor.worker_status WHERE kind = 'pool'});
{
	my $lock = hold(1);
	my $session = SupervisorTest::session($node);

	$session->begin(sprintf q{SELECT supervisor.execute('%s')}, blocked(1));
	becomes(q{SELECT busy = 1 FROM supervisor.pool_status WHERE pool = 'default'}, 'it is busy');
	resize('supervisor.idle_timeout' => '0', 'supervisor.worker_lifetime' => '50ms');
	becomes(q{SELECT now() > started_at + interval '100 ms' FROM supervisor.worker_status}, 'for longer than its lifetime');
	is(value(q{SELECT activity, generation FROM supervisor.worker_status WHERE kind = 'pool'}), "busy|$generation",
		'a worker that is busy outlives worker_lifetime');
	$lock->quit;
	my ($stdout, $stderr) = $session->finish;
	is($stdout . $stderr, 'SELECT 1', 'its task succeeds');
	becomes("SELECT generation > $generation AND activity = 'unbound' FROM supervisor.worker_status",
		'and it is recycled after it');

	is( $session->query_safe(
			q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.01)'::text, ARRAY[100]))}),
		'100', 'no task fails because its worker is recycled after every few tasks');
	$session->quit;
}
resize('supervisor.worker_lifetime' => '0');
becomes(q{SELECT state = 'running' FROM supervisor.worker_status}, 'a worker runs');
value(q{SELECT supervisor.execute('SELECT 1')});
is(value(q{SELECT count(*) FROM supervisor.event WHERE event = 'backoff'}), '0', 'recycling is no failure');
is(value(q{SELECT consecutive_failures FROM supervisor.worker_status WHERE kind = 'pool'}), '0', 'and is not counted as one');
$node->stop;

note 'background worker slots are used up';

# Of 6, one is the logical replication launcher's, one the supervisor's, one the loader's.
$node = SupervisorTest::new_node(
	'few',
	'max_worker_processes' => 6,
	'max_logical_replication_workers' => 4,
	'supervisor.pool_size' => 3,
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '50ms',
	'supervisor.start_timeout' => '1h');
SupervisorTest::wait_ready($node, 'default', 3);
my $offset = -s $node->logfile;

resize('supervisor.pools' => 'late:2');
becomes(q{
	SELECT count(*) = 2 AND bool_and(state = 'waiting' AND reason = 'no_background_worker_slot'
			AND detail IS NOT NULL AND restart_at IS NOT NULL AND pid IS NULL)
	FROM supervisor.worker_status WHERE pool = 'late'},
	'workers without a background worker slot wait, with the reason');
ok($node->wait_for_log(qr/LOG:.*out of background worker slots.*HINT:.*max_worker_processes/s, $offset),
	'it is in the log, with a hint');
is(value(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT 1'::text, ARRAY[10]))}), '10',
	'the pool that has workers works');

# a task may wait for them
my $session = SupervisorTest::session($node);
$session->begin(q{SELECT supervisor.execute('SELECT 1', pool => 'late')});
becomes(q{SELECT queued_tasks = 1 FROM supervisor.pool_status WHERE pool = 'late'}, 'a task waits for one');
my $events = value(q{SELECT count(*) FROM supervisor.event});
my ($restart_at) = value(q{SELECT max(restart_at) FROM supervisor.worker_status WHERE pool = 'late'});
becomes("SELECT min(restart_at) > timestamptz '$restart_at' + interval '200 ms' FROM supervisor.worker_status WHERE pool = 'late'",
	'it is tried again and again');
is(scalar(() = slurp_file($node->logfile, $offset) =~ /out of background worker slots/g), 1,
	'which is logged once');
resize('supervisor.pool_size' => 2);
my ($stdout, $stderr) = $session->finish;
is($stdout . $stderr, 'SELECT 1', 'a worker starts when another pool gives its slot back');
becomes(q{
	SELECT array_agg(state ORDER BY state) = ARRAY['running', 'waiting']
	FROM supervisor.worker_status WHERE pool = 'late'}, 'one of two');
resize('supervisor.pool_size' => 0);
becomes(all_ready('late', 2), 'and the other');
ok($node->wait_for_log(qr/background worker slots are available again/, $offset), 'which is in the log, too');
becomes(q{SELECT bool_and(reason IS NULL AND detail IS NULL AND restart_at IS NULL) FROM supervisor.worker_status},
	'no trace of waiting is left in the view');
becomes(q{SELECT count(*) < 900 FROM supervisor.event}, 'nor does waiting fill the ring of events');

note 'no worker could be started for start_timeout';

resize('supervisor.pools' => 'late:3');
becomes(all_ready('late', 3), 'a pool has all that there are');
resize('supervisor.pools' => 'late:3, never:1');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE pool = 'never' AND reason = 'no_background_worker_slot'},
	'a pool gets no worker');
$offset = -s $node->logfile;
$session->begin(q{SELECT supervisor.execute('SELECT 1', pool => 'never')});
my $second = SupervisorTest::session($node);
$second->begin(q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1', 'SELECT 2'], pool => 'never')});
value(q{SELECT supervisor.forget(supervisor.launch('SELECT 1' || repeat(' ', 100000), pool => 'never'))});
becomes(q{SELECT queued_tasks = 4 FROM supervisor.pool_status WHERE pool = 'never'}, 'tasks wait for it');
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
resize('supervisor.start_timeout' => '100ms');
($stdout, $stderr) = $session->finish;
is(SupervisorTest::sqlstate($stderr), '53000', 'a task that waits for a worker for start_timeout fails');
like($stderr, qr/DETAIL:.*max_worker_processes/, 'with the reason');
($stdout, $stderr) = $second->finish;
is(value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'}), $supervisor,
	'a long command that nobody waits for is freed');
like($stdout . $stderr, qr/^1\|\|53000\|.*\n2\|\|53000\||ERROR:  53000/, 'all of execute_all fail so');
my ($sqlstate, $error) = SupervisorTest::error_of($node, q{SELECT supervisor.execute('SELECT 1', pool => 'never')});
is($sqlstate, '53000', 'a new call fails at once');
like($error, qr/DETAIL:.*max_worker_processes/, 'with the reason');
ok($node->wait_for_log(qr/no worker of pool "never" could be started/, $offset), 'it is in the log');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'late')}), 'SELECT 1', 'the pool that has a worker works');
$session->quit;
$second->quit;

resize('supervisor.start_timeout' => '0', 'supervisor.pools' => 'late:3, never:2');
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE pool = 'never'}, 'start_timeout is switched off');
$session = SupervisorTest::session($node);
$session->begin(q{SELECT supervisor.execute('SELECT 1', pool => 'never')});
becomes(q{SELECT queued_tasks = 1 FROM supervisor.pool_status WHERE pool = 'never'},
	'without start_timeout calls wait again');
resize('supervisor.pools' => 'late:1, never:1');
($stdout, $stderr) = $session->finish;
is($stdout . $stderr, 'SELECT 1', 'and run when a worker comes at last');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => 'never')}), 'SELECT 1', 'new calls are taken then');
$session->quit;

note 'a pool without a slot for any worker';

resize('supervisor.pools' => '', 'supervisor.start_timeout' => '100ms');
$node->append_conf('postgresql.conf', SupervisorTest::conf('supervisor.max_workers' => 1));
resize('supervisor.pool_size' => 1);
$node->restart;
becomes(all_ready('default', 1), 'one slot, one worker');
resize('supervisor.pools' => 'none:1');
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE pool = 'none' AND reason = 'no_slot'}, 'a pool gets no slot');
($sqlstate, $error) = SupervisorTest::error_of($node, q{SELECT supervisor.execute('SELECT 1', pool => 'none')});
is($sqlstate, '53000', 'tasks of a pool without slots fail');
like($error, qr/DETAIL:.*supervisor\.max_workers/, 'with the reason');
$node->stop;

done_testing();
