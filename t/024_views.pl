# The views, pg_stat_activity, and the ring of events.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes value);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 16,
	'supervisor.max_workers' => 6,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'none:0');
SupervisorTest::wait_ready($node, 'default', 2);

SupervisorTest::ask(\$node);

# Compares the only row of a view, by column; all columns of the view must be
# expected.  Code gets the value, and must return true.
sub row_is
{
	my ($view, $where, $property, %expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @columns = split /\n/, value(
		"SELECT attname FROM pg_attribute WHERE attrelid = 'supervisor.$view'::regclass AND attnum > 0 ORDER BY attnum");
	my $row = $node->safe_psql('postgres',
		'SELECT ' . join(', ', map { "coalesce($_\::text, 'NULL')" } @columns) . " FROM supervisor.$view WHERE $where");
	my @values = split /\|/, $row, -1;
	my @wrong;

	push @wrong, 'rows: ' . scalar(() = $row =~ /\n/g) if $row =~ /\n/;
	foreach my $i (0 .. $#columns)
	{
		my $want = delete $expected{ $columns[$i] };
		my $got = $values[$i] // 'no row';

		$want = 'NULL' if !defined $want;
		push @wrong, "$columns[$i]: $got" if ref $want ? !$want->($got) : $got ne $want;
	}
	push @wrong, "no column $_" foreach keys %expected;
	return is(join(', ', @wrong), '', $property);
}

sub some { return $_[0] ne 'NULL' && $_[0] ne 'no row'; }
sub number { return $_[0] =~ /^\d+$/; }
sub set { return some(@_); }

value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE monitor LOGIN IN ROLE pg_read_all_stats;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob});

note 'comments';

is( value(q{
		SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
		WHERE relnamespace = 'supervisor'::regnamespace
			AND relname IN ('worker_status', 'pool_status', 'task_status', 'event', 'server_status', 'job_status', 'job_run') AND attnum > 0
			AND length(col_description(attrelid, attnum)) > 10}),
	38 + 16 + 14 + 10 + 8 + 26 + 19, 'every column of the seven views has a comment');

note 'workers';

row_is('worker_status', 'slot = 0', 'an unbound worker',
	slot => 0, generation => \&number, name => 'default', instance => 1, kind => 'pool', pool => 'default',
	pid => \&number, state => 'running', activity => 'unbound', started_at => \&some, state_since => \&some,
	restarts => 0, consecutive_failures => 0, tasks_succeeded => 0, tasks_failed => 0, tasks_canceled => 0, stats_since => \&some);

my $lock = SupervisorTest::session($node);
my $alice = SupervisorTest::session($node, user => 'alice');
my $alice_pid = $alice->pid;
$lock->query_safe('SELECT pg_advisory_lock(1)');
my $blocked = 'SELECT 42 FROM pg_advisory_xact_lock(1)';
my $task = $alice->query_safe("SELECT supervisor.launch('$blocked')");
becomes("SELECT count(*) = 1 FROM supervisor.worker_status WHERE task = $task", 'a task runs');
my $slot = value("SELECT slot FROM supervisor.worker_status WHERE task = $task");
row_is('worker_status', "slot = $slot", 'a busy worker',
	slot => $slot, generation => \&number, name => 'default', instance => \&number, kind => 'pool', pool => 'default',
	pid => \&number, datname => 'postgres', usename => 'alice', state => 'running', activity => 'busy',
	started_at => \&some, state_since => \&some, restarts => 0, consecutive_failures => 0,
	tasks_succeeded => 0, tasks_failed => 0, tasks_canceled => 0, stats_since => \&some, task => $task, command => $blocked);
row_is('task_status', "task = $task", 'a running task',
	task => $task, pool => 'default', datname => 'postgres', usename => 'alice', owner_pid => $alice_pid, slot => $slot,
	state => 'running', submitted_at => \&some, started_at => \&some, command => $blocked);

# the other worker, too, and one in the queue
my $second = $alice->query_safe("SELECT supervisor.launch('$blocked')");
my $queued = $alice->query_safe("SELECT supervisor.launch('$blocked')");
becomes(q{SELECT busy = 2 FROM supervisor.pool_status WHERE pool = 'default'}, 'both workers are busy');
row_is('task_status', "task = $queued", 'a queued task',
	task => $queued, pool => 'default', datname => 'postgres', usename => 'alice', owner_pid => $alice_pid,
	state => 'queued', submitted_at => \&some, command => $blocked);
row_is('pool_status', q{pool = 'default'}, 'a busy pool',
	pool => 'default', size => 2, running => 2, unbound => 0, idle => 0, busy => 2, queued_tasks => 1,
	tasks_succeeded => 0, tasks_failed => 0, tasks_canceled => 0, due_jobs => 0, jobs_succeeded => 0, jobs_failed => 0, stats_since => \&some);
row_is('pool_status', q{pool = 'none'}, 'a pool of none',
	pool => 'none', size => 0, running => 0, unbound => 0, idle => 0, busy => 0, queued_tasks => 0,
	tasks_succeeded => 0, tasks_failed => 0, tasks_canceled => 0, due_jobs => 0, jobs_succeeded => 0, jobs_failed => 0, stats_since => \&some);
my $forgotten = $alice->query_safe("SELECT supervisor.launch('SELECT 5')");
$alice->query_safe("SELECT supervisor.forget($forgotten)");
row_is('task_status', "task = $forgotten", 'a forgotten task belongs to nobody',
	task => $forgotten, pool => 'default', datname => 'postgres', usename => 'alice',
	state => 'queued', submitted_at => \&some, command => 'SELECT 5');

note 'pg_stat_activity';

my $name = sub { return "supervisor: pool default, slot $_[0]"; };
my $has_names = $node->pg_version >= 17;
is( value(qq{
		SELECT datname, usename, application_name, state, query, wait_event_type, client_addr IS NULL,
			xact_start IS NOT NULL, query_start IS NOT NULL, query_start = xact_start OR query_start < xact_start
		FROM pg_stat_activity a JOIN supervisor.worker_status w USING (pid)
		WHERE a.backend_type = 'supervisor pool worker' AND w.task = $task} =~ s/datname, usename/a.datname, a.usename/r =~ s/ state,/ a.state,/r),
	"postgres|alice|" . $name->($slot) . "|active|$blocked|Lock|t|t|t|t",
	'a busy worker is in pg_stat_activity, with its task as its query');
is( value(q{
		SELECT count(*), bool_and(datname IS NULL), max(wait_event_type), max(wait_event)
		FROM pg_stat_activity WHERE backend_type = 'supervisor'}),
	'1|t|Extension|' . ($has_names ? 'SupervisorMain' : 'Extension'), 'so is the supervisor');

my $waiter = SupervisorTest::session($node, user => 'bob');
my $waiter_pid = $waiter->pid;
sub waits_for
{
	my ($pid, $event, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$event = 'Extension' if !$has_names;
	return becomes("SELECT wait_event_type = 'Extension' AND wait_event = '$event' FROM pg_stat_activity WHERE pid = $pid", $property);
}

$waiter->begin(q{SELECT supervisor.execute('SELECT 1')});
waits_for($waiter_pid, 'SupervisorTask', 'a session that waits for its task shows that');
row_is('task_status', q{usename = 'bob'}, 'a task that is waited for is shown, too',
	task => \&number, pool => 'default', datname => 'postgres', usename => 'bob', owner_pid => $waiter_pid,
	state => 'queued', submitted_at => \&some, command => 'SELECT 1');
my $controller = SupervisorTest::session($node);
my $controller_pid = $controller->pid;
$controller->begin("SELECT supervisor.restart_worker($slot, '1 min')");
waits_for($controller_pid, 'SupervisorWorker', 'a session that waits for a worker shows that');

note 'ended tasks';

$lock->quit;
is(join('', $waiter->finish), 'SELECT 1', 'the tasks go on');
is(join('', $controller->finish), 't', 'and the worker restarts');
is($alice->query_safe("SELECT string_agg(supervisor.wait(t), ' ') FROM unnest(ARRAY[$task, $second, $queued]) t"),
	'succeeded succeeded succeeded', 'all have ended');
row_is('task_status', "task = $task", 'a finished task that is not read',
	task => $task, pool => 'default', datname => 'postgres', usename => 'alice', owner_pid => $alice_pid, slot => $slot,
	state => 'succeeded', tag => 'SELECT 1', submitted_at => \&some, started_at => \&some, finished_at => \&some, command => $blocked);
is( value('SELECT bool_and(submitted_at <= started_at AND started_at <= finished_at AND finished_at <= now()) FROM supervisor.task_status'),
	't', 'times are in order');
my $failed = $alice->query_safe(q{SELECT supervisor.launch('SELECT 1/0')});
is($alice->query_safe("SELECT supervisor.wait($failed)"), 'failed', 'a task fails');
row_is('task_status', "task = $failed", 'a failed task',
	task => $failed, pool => 'default', datname => 'postgres', usename => 'alice', owner_pid => $alice_pid, slot => \&number,
	state => 'failed', sqlstate => '22012', message => 'division by zero',
	submitted_at => \&some, started_at => \&some, finished_at => \&some, command => 'SELECT 1/0');
my $canceled = $alice->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600)')});
becomes("SELECT state = 'running' FROM supervisor.task_status WHERE task = $canceled", 'a task runs');
is($alice->query_safe("SELECT supervisor.cancel($canceled), supervisor.wait($canceled)"), 't|canceled', 'and is canceled');
row_is('task_status', "task = $canceled", 'a canceled task',
	task => $canceled, pool => 'default', datname => 'postgres', usename => 'alice', owner_pid => $alice_pid, slot => \&number,
	state => 'canceled', sqlstate => '57014', message => 'canceling statement due to user request',
	submitted_at => \&some, started_at => \&some, finished_at => \&some, command => 'SELECT pg_sleep(3600)');
becomes(q{SELECT busy = 0 AND running = 2 FROM supervisor.pool_status WHERE pool = 'default'}, 'the pool is idle');
is(value(q{SELECT tasks_succeeded, tasks_failed, tasks_canceled, queued_tasks FROM supervisor.pool_status WHERE pool = 'default'}),
	'5|1|1|0', 'the pool counts them');
is(value('SELECT sum(tasks_succeeded), sum(tasks_failed), sum(tasks_canceled) FROM supervisor.worker_status'),
	'5|1|1', 'so do the slots, over restarts');
is(value("SELECT restarts > 0 FROM supervisor.worker_status WHERE slot = $slot"), 't', 'a restart is counted');
my $slot_of_canceled = value("SELECT slot FROM supervisor.task_status WHERE task = $canceled");
row_is('worker_status', "slot = $slot_of_canceled", 'an idle worker',
	slot => $slot_of_canceled, generation => \&number, name => 'default', instance => \&number, kind => 'pool', pool => 'default',
	pid => \&number, datname => 'postgres', usename => 'alice', state => 'running', activity => 'idle',
	started_at => \&some, state_since => \&some, restarts => \&number, consecutive_failures => 0,
	last_exit_at => sub { 1 }, last_exit_code => sub { $_[0] =~ /^(NULL|0)$/ },
	tasks_succeeded => \&number, tasks_failed => \&number, tasks_canceled => 1, stats_since => \&some);
is( value(qq{
		SELECT a.state, a.application_name, a.query, a.xact_start IS NULL
		FROM pg_stat_activity a JOIN supervisor.worker_status w USING (pid) WHERE w.slot = $slot_of_canceled}),
	'idle|' . $name->($slot_of_canceled) . '|SELECT pg_sleep(3600)|t',
	'an idle worker shows its last query, as a session does');
waits_for("(SELECT pid FROM supervisor.worker_status WHERE slot = $slot_of_canceled)", 'SupervisorPoolIdle',
	'an idle worker waits for its next task');
is( value(q{
		SELECT count(*) FROM supervisor.worker_status w JOIN pg_stat_activity a USING (pid) WHERE w.activity = 'unbound'}),
	'0', 'an unbound worker is not in pg_stat_activity');
$alice->query_safe(q{SELECT supervisor.execute('SET application_name = mine')});
is($alice->query_safe(q{SELECT * FROM supervisor.run('SHOW application_name') AS (v text)}) =~ /^supervisor: pool default, slot \d$/ ? 1 : 0,
	1, 'a task cannot change its successor\'s application_name');
is($alice->query_safe("SELECT * FROM supervisor.result($task) AS (a int)"), '42', 'a task is read');
row_is('task_status', "task = $task", 'and how it ended is shown still',
	task => $task, pool => 'default', datname => 'postgres', usename => 'alice', slot => $slot,
	state => 'succeeded', tag => 'SELECT 1', submitted_at => \&some, started_at => \&some, finished_at => \&some, command => $blocked);

note 'a large result';

$alice->begin(q{SELECT count(*) FROM supervisor.run('SELECT repeat(''x'', 1000) FROM generate_series(1, 20000)') AS (t text)});
is(join('', $alice->finish), '20000', 'a result larger than result_memory is read');
my $launched = $alice->query_safe(q{SELECT supervisor.launch('SELECT 1 FROM generate_series(1, 5)')});
$alice->query_safe("SELECT supervisor.forget(t) FROM unnest(ARRAY[$launched, $second, $queued, $failed, $canceled]) t");
becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'no task is left');

note 'long commands and odd names';

SupervisorTest::set($node, 'supervisor.pools' => qq{none:0, "q'uo\\te":1});
becomes(q{SELECT running = 1 FROM supervisor.pool_status WHERE pool = '"q''uo\te"'}, 'a pool has an odd name');
is(value(q{SELECT supervisor.execute('SELECT 1', pool => '"q''uo\te"')}), 'SELECT 1', 'and works');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'supervisor: pool "q''uo\\\\te", slot %'}), '1',
	'and is in its application_name');
foreach my $pad (0 .. 2)
{
	my $command = 'SELECT 1 /* ' . ('x' x $pad) . ("\xe2\x82\xac" x 2000) . ' */';
	my $session = SupervisorTest::session($node);

	$session->query_safe("SELECT supervisor.launch('$command')");
	is( value(q{SELECT starts_with(convert_from(convert_to(command, 'UTF8'), 'UTF8'), 'SELECT 1 /* ')
				AND octet_length(command) BETWEEN 900 AND 1024 FROM supervisor.task_status WHERE owner_pid IS NOT NULL}),
		't', "a long command is cut between characters ($pad)");
	$session->quit;
	becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'it is gone');
}
SupervisorTest::set($node, 'supervisor.pools' => 'none:0');
becomes('SELECT count(*) = 2 FROM supervisor.worker_status', 'back to two');

note 'what others may see';

$alice->error_of('SELECT supervisor.execute(\'SELECT pg_terminate_backend(pg_backend_pid())\')');
becomes(q{SELECT running = 2 FROM supervisor.pool_status WHERE pool = 'default'}, 'a worker ended');
$lock = SupervisorTest::session($node);
$lock->query_safe('SELECT pg_advisory_lock(1)');
$task = $alice->query_safe("SELECT supervisor.launch('$blocked')");
$failed = $alice->query_safe(q{SELECT supervisor.launch('SELECT 1/0')});
$alice->query_safe("SELECT supervisor.wait($failed)");
becomes("SELECT count(*) = 1 FROM supervisor.worker_status WHERE task = $task", 'a task runs');
my $read = $alice->query_safe(q{SELECT supervisor.launch('SELECT generate_series(1, 3)')});
my $forgot = $alice->query_safe(q{SELECT supervisor.launch('SELECT 1/0')});
is($alice->query_safe("SELECT count(*) FROM supervisor.result($read) AS (a int)"), '3', 'a task is read');
$alice->query_safe("SELECT supervisor.wait($forgot), supervisor.forget($forgot)");
foreach my $case ([ alice => $blocked, 'division by zero', 1 ], [ monitor => $blocked, 'division by zero', 1 ],
	[ bob => '<insufficient privilege>', '', 0 ])
{
	my ($user, $command, $message, $sees) = @$case;
	my $seen = sub {
		my ($query) = @_;

		return $node->safe_psql('postgres', $query, extra_params => [ '-U', $user ]);
	};

	is($seen->("SELECT command FROM supervisor.worker_status WHERE task = $task"), $command, "$user: command of a worker");
	is($seen->("SELECT command, usename, state FROM supervisor.task_status WHERE task = $task"), "$command|alice|running",
		"$user: command of a task");
	is($seen->("SELECT message, sqlstate FROM supervisor.task_status WHERE task = $failed"), "$message|22012",
		"$user: error of a task");
	is($seen->("SELECT tag, message, sqlstate, command, usename FROM supervisor.task_status WHERE task IN ($read, $forgot) ORDER BY task"),
		$sees ? "SELECT 3|||SELECT generate_series(1, 3)|alice\n|division by zero|22012|SELECT 1/0|alice" :
		"|||<insufficient privilege>|alice\n||22012|<insufficient privilege>|alice",
		"$user: of tasks that were read and forgotten");
	is($seen->(q{SELECT count(*) FILTER (WHERE last_sqlstate = '57P01'), count(*) FILTER (WHERE last_error LIKE 'terminating %') FROM supervisor.worker_status}),
		"1|$sees", "$user: last error of a worker");
	is($seen->(q{SELECT count(*) > 0, count(*) FILTER (WHERE detail LIKE '%: terminating %') = } . $sees . q{ FROM supervisor.event WHERE event = 'exited' AND detail IS DISTINCT FROM 'exit code 0'}),
		't|t', "$user: how a worker ended");
	is($seen->(q{SELECT size, running FROM supervisor.pool_status WHERE pool = 'default'}), '2|2', "$user: pools");
}
is( $node->safe_psql('postgres', q{
		CREATE FUNCTION pg_temp.no(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.no, LEFTARG = oid, RIGHTARG = oid);
		SET search_path = pg_temp, pg_catalog;
		SELECT count(*) FROM supervisor.worker_status WHERE datname IS NOT NULL} . " AND task = $task"),
	'1', 'a search_path does not mislead a view');
is($node->safe_psql('postgres', q{
		BEGIN READ ONLY;
		SELECT count(*) > 0 FROM supervisor.worker_status, supervisor.pool_status, supervisor.task_status, supervisor.event;
		COMMIT}), 't', 'the views are read in a read-only transaction');
$_->quit for $lock, $waiter, $controller;
$alice->quit;

note 'roles and databases that are gone';

value('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION supervisor; CREATE ROLE carol LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO carol');
$lock = SupervisorTest::session($node);
$lock->query_safe('SELECT pg_advisory_lock(1)');
my $carol = SupervisorTest::session($node, dbname => 'other', user => 'carol');
$task = $carol->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600)')});
$carol->query_safe("SELECT supervisor.forget($task)");
$carol->quit;
becomes("SELECT state = 'running' FROM supervisor.task_status WHERE task = $task", 'a task runs in another database');
is(value("SELECT datname, usename, owner_pid IS NULL FROM supervisor.task_status WHERE task = $task"), 'other|carol|t',
	'which is shown in every database');
$node->safe_psql('other', 'DROP OWNED BY carol; DROP ROLE carol');
is(value("SELECT datname, usename FROM supervisor.task_status WHERE task = $task"), 'other|', 'a role that is gone has no name');
is(value("SELECT datname, usename FROM supervisor.worker_status WHERE task = $task"), 'other|', 'of a worker, neither');
is(value("SELECT supervisor.cancel($task)"), 't', 'its task can be canceled');
becomes('SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL', 'and ends');
$lock->quit;
value('DROP DATABASE other');

note 'events';

is(value(q{SELECT supervisor.restart_pool('default', '1 min')}), 't', 'all workers are new');
my $last = value('SELECT max(id) FROM supervisor.event');
my ($generation, $pid) = split /\|/, value('SELECT generation, pid FROM supervisor.worker_status WHERE slot = 0');
is(value(q{SELECT supervisor.terminate_worker(0, '1 min')}), 't', 'a worker is terminated');
becomes("SELECT state = 'running' AND generation = $generation + 1 FROM supervisor.worker_status WHERE slot = 0", 'and replaced');
my $next = $generation + 1;
my $new_pid = value('SELECT pid FROM supervisor.worker_status WHERE slot = 0');
is( value(qq{
		SELECT slot, generation, name, pid, event, detail IS NOT NULL AND detail <> '' FROM supervisor.event
		WHERE id > $last AND slot = 0 ORDER BY id}),
	join("\n",
		"0|$generation|default|$pid|stopping|t",
		"0|$generation|default|$pid|exited|t",
		"0|$next|default||starting|f",
		"0|$next|default|$new_pid|running|f"),
	'the life of a worker is told by events, with the process that they are about');
is(value(qq{SELECT count(*) FROM supervisor.event WHERE at NOT BETWEEN pg_postmaster_start_time() AND now()}), '0', 'at plausible times');
is(value('SELECT count(*) FROM (SELECT at < lag(at) OVER (ORDER BY id) AS wrong FROM supervisor.event) e WHERE wrong'), '0', 'in order');
is(value(q{SELECT count(*) FROM supervisor.event WHERE event = 'supervisor' AND slot IS NULL AND generation IS NULL AND name IS NULL}),
	'1', 'what concerns no worker has no slot');

value(q{DO $$ BEGIN FOR i IN 1..360 LOOP PERFORM supervisor.restart_worker(0, '1 min'); END LOOP; END $$});
$last = value('SELECT max(id) FROM supervisor.event');
cmp_ok($last, '>', 1000, 'more than a thousand events have happened');
is(value('SELECT count(*), max(id) - min(id) + 1, count(DISTINCT id) FROM supervisor.event'), '1000|1000|1000',
	'the last thousand are kept, no more and no less');
is(value('SELECT restarts FROM supervisor.worker_status WHERE slot = 0') > 360 ? 1 : 0, 1, 'restarts are counted');
is(value('SELECT consecutive_failures FROM supervisor.worker_status WHERE slot = 0'), '0', 'and are no failures');

# Why it does not run may change while it does not.
my $detail = q{SELECT state = 'stopped' AND reason = 'disabled' AND detail LIKE '%%%s%%' FROM supervisor.worker_status WHERE name = 'kept'};
value(q{SELECT supervisor.add_worker('kept', 'SELECT 1', run_every => '1 h')});
value(q{SELECT supervisor.start_worker('kept')});
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
ok($node->poll_query_until('postgres', sprintf($detail, 'start_workers')), 'a worker that does not run says why');
value(q{SELECT supervisor.stop_worker('kept')});
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
ok($node->poll_query_until('postgres', sprintf($detail, 'not enabled')), 'and if that is something else, says that');
SupervisorTest::set($node, 'supervisor.databases' => 'another');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'kept'}),
	'workers of a database that is not listed are not shown');
like((SupervisorTest::error_of($node, q{SELECT supervisor.start_worker('kept', NULL)}))[1],
	qr/WARNING.*DETAIL:  Its database is not in "supervisor\.databases"/s, 'who starts one is told why it does not');
SupervisorTest::set($node, 'supervisor.databases' => '*');
value(q{SELECT supervisor.remove_worker('kept')});

$node->stop('immediate');
$node->start;
SupervisorTest::wait_ready($node, 'default', 2);
is(value('SELECT min(id), count(*) < 20 FROM supervisor.event'), '1|t', 'a new server starts anew');
$node->stop;

done_testing();
