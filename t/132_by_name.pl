# Control of declared workers by name: start, stop and restart, in and out of
# transactions; who may; and what bad input gets.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'main',
	'autovacuum' => 'off',
	'max_prepared_transactions' => 5,
	'max_worker_processes' => 30,
	'supervisor.max_workers' => 12,
	'supervisor.pool_size' => 1,
	'supervisor.restart_delay' => '10ms',
	'supervisor.max_restarts' => 1000);
my $probe = SupervisorTest::build_library('probe');
my $s = SupervisorTest::session($node);
my $super = $s->query_safe('SELECT current_user');

SupervisorTest::ask(\$s);

# Returns columns of the worker with that name, a line for each instance.
sub worker
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name' ORDER BY instance");
}

sub runs
{
	my ($name) = @_;

	$s->wait_true("SELECT bool_and(state = 'running') FROM supervisor.worker_status WHERE name = '$name'")
	  or die "worker $name does not run";
}

# Waits until the worker is in that state.
sub reaches
{
	my ($name, $state, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT bool_and(state = '$state') FROM supervisor.worker_status WHERE name = '$name'", $property)
	  or diag value("SELECT * FROM supervisor.event WHERE name = '$name'");
}

# Runs $sql as that role; returns its result, or its SQLSTATE.
sub as
{
	my ($user, $sql) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr,
		extra_params => SupervisorTest::psql_params(user => $user));
	return SupervisorTest::sqlstate($stderr) // $stdout;
}

my $rows = q{SELECT count(*), md5(string_agg(w::text, ' ' ORDER BY name)) FROM supervisor.worker w};

SupervisorTest::wait_ready($node, 'default', 1);
value('CREATE TABLE runs (name text, n serial)');

note 'start, stop, restart';

value(q{SELECT supervisor.add_worker('a', 'SELECT', '1 h', instances => 2)});
runs('a');
is(value(q{SELECT supervisor.stop_worker('a')}), 't', 'stop_worker says true');
is(worker('a', 'state, reason, pid IS NULL'), "stopped|disabled|t\nstopped|disabled|t", 'when no process is left');
is(value(q{SELECT enabled FROM supervisor.worker}), 'f', 'and has written the row');
is(value(q{SELECT supervisor.stop_worker('a')}), 't', 'again, true at once');
is(value(q{SELECT supervisor.start_worker('a')}), 't', 'start_worker says true');
is(worker('a', 'state, reason IS NULL, pid IS NOT NULL'), "running|t|t\nrunning|t|t", 'when all instances run');
is(value(q{SELECT enabled FROM supervisor.worker}), 't', 'and has written the row');
my $before = worker('a', 'generation');
is(value(q{SELECT supervisor.start_worker('a')}), 't', 'again, true at once');
is(worker('a', 'generation'), $before, 'and nothing is replaced');
is(value(q{SELECT supervisor.restart_worker('a')}), 't', 'restart_worker says true');
is(worker('a', 'state, generation > ' . (split /\n/, $before)[0]), "running|t\nrunning|t", 'when all are new and run');
is(value(q{SELECT supervisor.stop_worker('a')}), 't', 'a worker that is stopped');
refused(q{SELECT supervisor.restart_worker('a')}, '55000', 'cannot be restarted', message => qr/worker "a" is not enabled/, hint => 'start_worker');
is(value(q{SELECT supervisor.start_worker('a', NULL)}), 't', 'a timeout of NULL waits');
is(value(q{SELECT supervisor.restart_worker('a', NULL)}), 't', 'however long it takes');
is(value(q{SELECT supervisor.stop_worker('a', NULL)}), 't', 'in all three');
value(q{SELECT supervisor.remove_worker('a')});

value(q{SELECT supervisor.add_worker('once', 'INSERT INTO runs (name) VALUES (''once'')')});
reaches('once', 'stopped', 'a command that runs once');
is(value(q{SELECT supervisor.start_worker('once')}), 't', 'can be started again');
becomes(q{SELECT count(*) = 2 FROM runs}, 'and has run then');
value(q{SELECT supervisor.add_worker('fails', 'SELECT 1/0', restart => 'never')});
reaches('fails', 'stopped', 'a command that fails');
value(qq{SELECT supervisor.add_worker('ends', library => '$probe', function => 'probe_exit', restart => 'never')});
reaches('ends', 'stopped', 'a C function that ends');
is(value(q{SELECT supervisor.start_worker('ends', NULL)}), 't', 'has been started when it has ended well');
value(qq{SELECT supervisor.add_worker('bad', library => '$probe', function => 'probe_exit', argument => 1, max_restarts => 2)});
reaches('bad', 'failed', 'one that fails');
like(scalar $s->query(q{SELECT supervisor.start_worker('bad', NULL)}), qr/^[tf]$/, 'is not waited for any longer when it is given up');
value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');

# Just added, by another session: the supervisor may not have read it yet.
foreach my $i (1 .. 5)
{
	$node->safe_psql('postgres', "SELECT supervisor.add_worker('new$i', 'SELECT', '1 h')");
	is(value("SELECT supervisor.restart_worker('new$i')"), 't', "round $i: a worker that has just been added can be restarted");
	$node->safe_psql('postgres', "SELECT supervisor.add_worker('other$i', 'SELECT', '1 h')");
	is(value("SELECT supervisor.stop_worker('other$i')"), 't', "round $i: or stopped");
	is($node->safe_psql('postgres', "SELECT supervisor.start_worker('other$i')"), 't', "round $i: or started");
	value("SELECT supervisor.remove_worker(name) FROM supervisor.worker");
}

# The functions by slot.
value(q{SELECT supervisor.add_worker('slot', 'SELECT pg_sleep(3600)', '1 h')});
runs('slot');
my ($slot, $generation) = split /\|/, worker('slot', 'slot, generation');
is(value("SELECT supervisor.restart_worker($slot)"), 't', 'restart_worker takes a slot, too');
is(worker('slot', "state, generation > $generation, consecutive_failures"), 'running|t|0', 'which is no failure');
is(value("SELECT supervisor.restart_worker($slot, generation => $generation)"), 'f', 'with a generation that is over it does nothing');
is(value("SELECT supervisor.terminate_worker($slot)"), 't', 'terminate_worker ends the process');
becomes(q{SELECT state = 'running' AND consecutive_failures = 1 FROM supervisor.worker_status WHERE name = 'slot'}, 'and its policy says what follows');
value(q{SELECT supervisor.remove_worker('slot')});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'slot'}, 'and the last word, that it shall not be');

# One that has nothing to do goes without a word in the log.
my $log = -s $node->logfile;
value(q{SELECT supervisor.add_worker('quiet', 'SELECT', '1 h')});
foreach my $round (1 .. 5)
{
	becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'supervisor: quiet' AND state = 'idle' AND wait_event IS NOT NULL},
		"round $round: it sleeps");
	value(q{SELECT supervisor.restart_worker('quiet')}) if $round < 5;
}
value(q{SELECT supervisor.stop_worker('quiet')});
value(q{SELECT supervisor.remove_worker('quiet')});
unlike(slurp_file($node->logfile, $log), qr/FATAL|exited with exit code/, 'a worker that sleeps is told to leave, and the log is not');

note 'timeouts';

# What does not hear SIGTERM must go at the end, or the server could not be stopped.
my $deaf;

END
{
	my $status = $?;
	kill 'KILL', $deaf if $deaf;
	$? = $status;
}

# Returns the process ID of the worker "deaf" once it hears SIGUSR2.
sub deaf
{
	$s->wait_true(q{SELECT count(*) = 1 FROM supervisor.worker_status w JOIN pg_stat_activity a USING (pid)
		WHERE w.name = 'deaf' AND w.state = 'running'}) or die 'the worker does not run';
	return worker('deaf', 'pid');
}

value(qq{SELECT supervisor.add_worker('deaf', library => '$probe', function => 'probe_deaf')});
$deaf = deaf();
foreach my $call (q{restart_worker('deaf', '0')}, q{stop_worker('deaf', '20 ms')}, q{stop_worker('deaf', '0')}, q{start_worker('deaf', '20 ms')})
{
	my ($stdout) = $s->query("SELECT supervisor.$call");
	my ($what) = $call =~ /^(start|restart|stop)/;

	$what = { start => 'started', restart => 'restarted', stop => 'ended' }->{$what};
	is($stdout, 'f', "$call: false");
	like($s->{stderr}, qr/WARNING:  01000: worker "deaf" has not $what yet\nDETAIL:  The request stands\./, "$call: and a WARNING");
}
my $t = SupervisorTest::session($node);
$t->begin(q{SELECT supervisor.start_worker('deaf', NULL)});
becomes(qq{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE query LIKE '%NULL)%' AND state = 'active' AND pid <> pg_backend_pid()},
	'with NULL it waits on');
kill 'USR2', $deaf or die "could not signal $deaf: $!";
undef $deaf;
my ($stdout) = $t->finish;
is($stdout, 't', 'until it is done: the request stood');
$deaf = deaf();
$t->begin(q{SELECT supervisor.stop_worker('deaf', NULL)});
becomes(q{SELECT state = 'stopping' FROM supervisor.worker_status WHERE name = 'deaf'}, 'a call that waits');
value(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%NULL)%' AND state = 'active' AND pid <> pg_backend_pid()});
(undef, my $stderr) = $t->finish;
like($stderr, qr/ERROR:  57014/, 'can be canceled');
kill 'USR2', $deaf or die "could not signal $deaf: $!";
undef $deaf;
reaches('deaf', 'running', 'and is undone by that');
$deaf = deaf();
value(q{SELECT supervisor.remove_worker('deaf')});
reaches('deaf', 'stopping', 'one that is removed and does not stop is seen');
kill 'USR2', $deaf or die "could not signal $deaf: $!";
undef $deaf;
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'deaf'}, 'until it has ended');

note 'transactions';

value(q{SELECT supervisor.add_worker('x', 'SELECT', '1 h')});
runs('x');
my $enabled = q{SELECT enabled FROM supervisor.worker WHERE name = 'x'};
is($t->query_safe(q{BEGIN; SELECT supervisor.stop_worker('x')}), 't', 'in a transaction, stop_worker acts at once');
is(worker('x', 'state, reason'), 'stopped|disabled', 'as others see');
is(value($enabled), 't', 'though not in the row');
value(q{SELECT supervisor.add_worker('y', 'SELECT', '1 h')});
runs('y');
is(worker('x', 'state, reason'), 'stopped|disabled', 'it stays so when the table is read');
$t->query_safe('ROLLBACK');
reaches('x', 'running', 'if it is rolled back, the worker follows its row again');
$t->query_safe(q{BEGIN; SELECT supervisor.stop_worker('x'); COMMIT});
is(value($enabled), 'f', 'if it commits, the row says so');
value(q{SELECT supervisor.remove_worker('y')});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'y'}, 'the table has been read');
is(worker('x', 'state, reason'), 'stopped|disabled', 'and it stays stopped');
is($t->query_safe(q{BEGIN; SELECT supervisor.start_worker('x')}), 't', 'start_worker acts at once, too');
is(worker('x', 'state'), 'running', 'as others see');
$t->query_safe('ROLLBACK');
reaches('x', 'stopped', 'if it is rolled back, it is stopped again');
$t->query_safe(q{BEGIN; SELECT supervisor.start_worker('x'); COMMIT});
value(q{SELECT supervisor.add_worker('y', 'SELECT', '1 h')});
runs('y');
is(worker('x', 'state'), 'running', 'if it commits, it runs on');

$t->query_safe(q{BEGIN; SAVEPOINT p; SELECT supervisor.stop_worker('x'); ROLLBACK TO p; COMMIT});
reaches('x', 'running', 'a savepoint that is rolled back counts, at the end of the transaction');
$t->query_safe(q{BEGIN; SAVEPOINT p; SELECT supervisor.stop_worker('x'); RELEASE p; COMMIT});
is(value($enabled), 'f', 'one that is released does');
$t->query_safe(q{BEGIN; SELECT supervisor.start_worker('x'); SELECT supervisor.stop_worker('x'); SELECT supervisor.start_worker('x'); COMMIT});
reaches('x', 'running', 'of several calls the last counts');

$t->query_safe(q{BEGIN; SELECT supervisor.stop_worker('x'); PREPARE TRANSACTION 'x'});
reaches('x', 'running', 'while the transaction is prepared, the worker follows its row');
$t->query_safe(q{COMMIT PREPARED 'x'});
reaches('x', 'stopped', 'when it has committed, the new one');
value(q{SELECT supervisor.start_worker('x')});

my $pid = $t->pid;
$t->query_safe(q{BEGIN; SELECT supervisor.stop_worker('x')});
value("SELECT pg_terminate_backend($pid, 180000)");
reaches('x', 'running', 'a session that dies undoes what it has not committed');
eval { $t->quit };
$t = SupervisorTest::session($node);

my $added = $t->query(q{BEGIN; SELECT supervisor.add_worker('z', 'SELECT', '1 h'); SELECT supervisor.start_worker('z', NULL)});
like($t->{stderr}, qr/WARNING: .*worker "z" has not started yet\n.*DETAIL: .*when the transaction that added it commits/, 'one that the transaction has added');
like($added, qr/f$/, 'is started by its commit');
is($t->query_safe(q{SELECT supervisor.stop_worker('z')}), 't', 'it can be stopped before');
$t->query_safe('COMMIT');
reaches('z', 'stopped', 'and is then');
value(q{SELECT supervisor.remove_worker(name) FROM supervisor.worker});

note 'two sessions';

value(q{SELECT supervisor.add_worker('x', 'SELECT', '1 h'); SELECT supervisor.add_worker('y', 'SELECT', '1 h')});
runs('x');
runs('y');

# Sends $sql in the other session, which must wait for a lock, and $then here; returns what it gets.
sub waits_for_lock
{
	my ($sql, $then, $property) = @_;
	my $backend = $t->pid;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$t->begin($sql);
	ok($s->wait_true("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $backend"), $property);
	value($then);
	my ($out, $err) = $t->finish;
	return $err =~ /ERROR/ ? SupervisorTest::sqlstate($err) : $out;
}

value(q{BEGIN; SELECT supervisor.stop_worker('x')});
is($t->query_safe(q{SELECT supervisor.stop_worker('y'); SELECT supervisor.start_worker('y')}), "t\nt", 'a session that controls another worker does not wait');
is(waits_for_lock(q{SELECT supervisor.start_worker('x')}, 'COMMIT', 'one that controls the same does'), 't', 'and goes on after it');
is(worker('x', 'state'), 'running', 'the last counts');
is(value($enabled), 't', 'in the row, too');
value(q{BEGIN; SELECT supervisor.alter_worker('x', 'SELECT 2')});
is(waits_for_lock(q{SELECT supervisor.alter_worker('x', run_every => '2 h')}, 'COMMIT', 'one that alters the same waits'), '', 'and goes on');
is(value(q{SELECT command, run_every FROM supervisor.worker WHERE name = 'x'}), 'SELECT 2|02:00:00', 'with what the other has changed');
value(q{BEGIN; SELECT supervisor.remove_worker('x')});
is(waits_for_lock(q{SELECT supervisor.alter_worker('x', run_every => '3 h')}, 'COMMIT', 'so does one that alters what is removed'), '42704', 'and finds it gone');
value(q{BEGIN; SELECT supervisor.add_worker('x', 'SELECT', '1 h')});
is(waits_for_lock(q{SELECT supervisor.add_worker('x', 'SELECT 2', '1 h')}, 'COMMIT', 'so does one that adds the same'), '42710', 'and is told');
value(q{BEGIN; SELECT supervisor.remove_worker('x'); SELECT supervisor.add_worker('w', 'SELECT', '1 h')});
is(waits_for_lock(q{SELECT supervisor.add_worker('w', 'SELECT 2', '1 h')}, 'ROLLBACK', 'or waits for one that does not commit'), '', 'and has added it');
is(value(q{SELECT string_agg(name || ' ' || command, ', ' ORDER BY name) FROM supervisor.worker}), 'w SELECT 2, x SELECT, y SELECT', 'as the table says');
runs('x');
$t->begin(q{SELECT supervisor.restart_worker('x') FROM generate_series(1, 5)});
value(q{SELECT supervisor.restart_worker('x') FROM generate_series(1, 5)});
($stdout) = $t->finish;
is($stdout, join("\n", ('t') x 5), 'two sessions can restart the same worker');
value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');

note 'one after another';

value(q{SELECT supervisor.add_worker('roll', 'SELECT', '1 h', instances => 4)});
runs('roll');

# The most instances that were down at once since that event, by what was told of them.
sub most_down
{
	my ($event) = @_;

	return value(qq{
		SELECT max(down) FROM (
			SELECT sum(CASE event WHEN 'running' THEN -1 WHEN 'stopping' THEN 1 ELSE 0 END) OVER (ORDER BY id) AS down
			FROM supervisor.event WHERE name = 'roll' AND id > $event) s});
}

my $event = value('SELECT max(id) FROM supervisor.event');
is(value(q{SELECT supervisor.restart_worker('roll')}), 't', 'restart_worker of several instances');
is(most_down($event), '1', 'has one of them down at a time');
is(value("SELECT count(*) FROM supervisor.event WHERE name = 'roll' AND event = 'stopping' AND id > $event"), '4', 'and each once');
$event = value('SELECT max(id) FROM supervisor.event');
value(q{SELECT supervisor.alter_worker('roll', 'SELECT 2')});
becomes("SELECT count(*) = 4 FROM supervisor.event WHERE name = 'roll' AND event = 'running' AND id > $event", 'so has a change of the command');
is(most_down($event), '1', 'one of them down at a time');
$event = value('SELECT max(id) FROM supervisor.event');
value(q{SELECT supervisor.alter_worker('roll', 'SELECT 3'); SELECT supervisor.alter_worker('roll', 'SELECT 4')});
is(value(q{SELECT supervisor.restart_worker('roll')}), 't', 'changes and a restart at once');
is(most_down($event), '1', 'have one of them down at a time');
is(worker('roll', 'state, command'), join("\n", ('running|SELECT 4') x 4), 'and all are new in the end');
value(q{SELECT supervisor.remove_worker('roll')});

note 'rights';

# alice owns a worker; mate may become her, kin has her rights but may not become
# her, guard may signal her backends, all may execute everything; bob may
# execute nothing but what pg_signal_backend gives him.
value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mate LOGIN NOINHERIT IN ROLE alice;
	CREATE ROLE other LOGIN;
	CREATE ROLE guard LOGIN IN ROLE pg_signal_backend;
	CREATE ROLE bob LOGIN IN ROLE pg_signal_backend;
	CREATE ROLE nobody LOGIN;
	CREATE ROLE boss LOGIN SUPERUSER;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, mate, other, guard});
my $add = q{SELECT supervisor.add_worker('%s', 'SELECT', '1 h', role => '%s')};
value(sprintf($add, 'hers', 'alice'));
value(sprintf($add, 'supers', 'boss'));
value(qq{SELECT supervisor.add_worker('lib', library => '$probe', function => 'probe_main')});
runs($_) foreach 'hers', 'supers', 'lib';

# By role: of alice's worker, a superuser's, and a C function.
my %expected = (
	'alter_worker' => {
		alice => ['', '42501', '42501'], mate => ['', '42501', '42501'], other => [('42501') x 3],
		guard => [('42501') x 3], bob => [('42501') x 3], nobody => [('42501') x 3], boss => ['', '', ''] },
	'stop_worker' => {
		alice => ['t', '42501', '42501'], mate => ['t', '42501', '42501'], other => [('42501') x 3],
		guard => [('42501') x 3], bob => [('42501') x 3], nobody => [('42501') x 3], boss => ['t', 't', 't'] },
	'start_worker' => {
		alice => ['t', '42501', '42501'], mate => ['t', '42501', '42501'], other => [('42501') x 3],
		guard => [('42501') x 3], bob => [('42501') x 3], nobody => [('42501') x 3], boss => ['t', 't', 't'] },
	'restart_worker' => {
		alice => ['t', '42501', '42501'], mate => [('42501') x 3], other => [('42501') x 3],
		guard => ['t', '42501', '42501'], bob => [('42501') x 3], nobody => [('42501') x 3], boss => ['t', 't', 't'] },
	'terminate_worker' => {
		alice => ['t', '42501', '42501'], mate => [('42501') x 3], other => [('42501') x 3],
		guard => ['t', '42501', '42501'], bob => ['t', '42501', '42501'], nobody => [('42501') x 3], boss => ['t', 't', 't'] });
foreach my $function (sort keys %expected)
{
	foreach my $role (sort keys %{ $expected{$function} })
	{
		my @got;

		foreach my $name ('hers', 'supers', 'lib')
		{
			my $arguments = $function eq 'terminate_worker' ? worker($name, 'slot')
			  : $function eq 'alter_worker' ? "'$name', stop_timeout => '20 s'" : "'$name'";

			push @got, as($role, "SELECT supervisor.$function($arguments)");
			runs($name) unless $function eq 'stop_worker';
		}
		is(join(' ', map { "<$_>" } @got), join(' ', map { "<$_>" } @{ $expected{$function}{$role} }), "$function by $role");
	}
	value(q{SELECT supervisor.start_worker(name) FROM supervisor.worker}) if $function eq 'stop_worker';
}
is(value(q{SELECT count(*) FROM supervisor.worker WHERE enabled}), '3', 'all are enabled in the end');

# add_worker and remove_worker.
foreach (
	[ 'alice', 'alice', '' ], [ 'alice', 'boss', '42501' ], [ 'alice', 'other', '42501' ], [ 'mate', 'alice', '' ],
	[ 'mate', 'mate', '' ], [ 'other', 'alice', '42501' ], [ 'guard', 'alice', '42501' ], [ 'bob', 'bob', '42501' ],
	[ 'nobody', 'nobody', '42501' ], [ 'boss', 'alice', '' ], [ 'boss', 'boss', '' ])
{
	my ($who, $role, $result) = @$_;

	is(as($who, sprintf($add, 'new', $role)), $result, "$who adds a worker of $role" . ($result ? ': refused' : ''));
	is(value(q{SELECT count(*) FROM supervisor.worker WHERE name = 'new'}), $result ? '0' : '1', 'as the table says');
	next if $result;
	is(as('other', q{SELECT supervisor.remove_worker('new')}), '42501', 'others can\'t remove it');
	is(as($who, q{SELECT supervisor.remove_worker('new')}), '', 'who can add it can remove it');
}
is(as('alice', qq{SELECT supervisor.add_worker('new', library => '$probe', function => 'probe_main')}), '42501', 'a C function is for superusers');
is(as('alice', q{SELECT supervisor.add_worker('new', library => '/etc/passwd', function => 'f')}), '42501', 'who alone learn whether a file is there');
is(as('alice', q{SELECT supervisor.add_worker('new', 'SELECT', '1 h', bypass_allowconn => true)}), '42501', 'so is bypass_allowconn');
is(as('alice', q{SELECT supervisor.alter_worker('hers', role => 'boss')}), '42501', 'the new role counts');
is(as('alice', q{SELECT supervisor.alter_worker('supers', role => 'alice')}), '42501', 'and the old one');
is(as('mate', q{SELECT supervisor.alter_worker('hers', role => 'mate')}), '', 'who may become both can change it');
is(as('alice', q{SELECT supervisor.alter_worker('hers', role => 'alice')}), '42501', 'and back only who may become both');
is(as('mate', q{SELECT supervisor.alter_worker('hers', role => 'alice')}), '', 'which is one of them');
is(as('alice', q{INSERT INTO supervisor.worker (name, command, role) VALUES ('new', 'SELECT', 'alice')}), '42501', 'nobody writes to the table');
is(as('alice', q{UPDATE supervisor.worker SET enabled = false}), '42501', 'or changes it');
is(as('nobody', q{SELECT count(*) FROM supervisor.worker}), '3', 'which everybody can read');

# The rights are those of the current user.
value(q{
	GRANT CREATE ON SCHEMA public TO alice;
	SET ROLE alice;
	CREATE FUNCTION hers(text) RETURNS bool SECURITY DEFINER LANGUAGE sql AS 'SELECT supervisor.stop_worker($1) AND supervisor.start_worker($1)';
	CREATE FUNCTION adds() RETURNS void SECURITY DEFINER LANGUAGE sql AS 'SELECT supervisor.add_worker(''definer'', ''SELECT'', ''1 h'')';
	CREATE FUNCTION bad(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		PERFORM supervisor.add_worker('planted', 'SELECT', '1 h');
		RETURN 1; END $$;
	CREATE FUNCTION good(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
	CREATE TABLE hers (a int);
	INSERT INTO hers VALUES (1);
	RESET ROLE});
is(as('nobody', q{SELECT hers('hers')}), 't', 'a SECURITY DEFINER function has its owner\'s');
is(as('nobody', q{SELECT hers('supers')}), '42501', 'and no more');
is(as('nobody', q{SELECT adds()}), '', 'it can add');
is(value(q{SELECT role FROM supervisor.worker WHERE name = 'definer'}), 'alice', 'a worker of its owner');
is(as('boss', q{SET ROLE alice; SELECT supervisor.stop_worker('supers')}), "42501", 'SET ROLE takes away');
refused(q{CREATE INDEX ON hers (bad(a))}, '42501', 'in a security-restricted operation nothing is added', message => qr/security-restricted/);
is(value(q{SELECT count(*) FROM supervisor.worker WHERE name = 'planted'}), '0', 'as the table says');

# A role that is gone: its worker can be removed, by those who may everything.
value(q{SELECT supervisor.remove_worker('definer')});
value(q{CREATE ROLE gone LOGIN; SELECT supervisor.add_worker('gone', 'SELECT', '1 h', role => 'gone'); DROP ROLE gone});
is(as('alice', q{SELECT supervisor.remove_worker('gone')}), '42501', 'a worker whose role is gone is nobody\'s');
is(as('alice', q{SELECT supervisor.restart_worker('gone')}), '42501', 'and nobody\'s to restart');
is(as('boss', q{SELECT supervisor.remove_worker('gone')}), '', 'but a superuser\'s');
value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');

note 'bad input';

value(q{SELECT supervisor.add_worker('there', 'SELECT', '1 h'); SELECT supervisor.add_worker('fn', library => '} . $probe . q{', function => 'probe_main')});
runs('there');
runs('fn');
# what was removed may still be on its way out
$s->wait_true(q{SELECT count(*) = 3 FROM supervisor.worker_status}) or die 'there are other workers than the pool and these';
$before = value($rows);
my $processes = value(q{SELECT string_agg(slot || '/' || generation, ' ' ORDER BY slot) FROM supervisor.worker_status WHERE slot IS NOT NULL});
my $long = 'x' x 64;
my $command = q{'n', 'SELECT'};
my $library = qq{'n', library => '$probe', function => 'probe_main'};
my @bad = (
	# what, SQLSTATE, message, hint
	[ q{'there', 'SELECT'}, '42710', 'worker "there" already exists', 'alter_worker' ],
	[ q{NULL, 'SELECT'}, '22004', 'name must not be null' ],
	[ q{'', 'SELECT'}, '42602', 'name is empty' ],
	[ qq{'$long', 'SELECT'}, '42622', 'name is too long', '63 bytes' ],
	[ qq{'n', 'SELECT', library => '$probe', function => 'probe_main'}, '22023', 'cannot have both a command and a library', 'two workers' ],
	[ q{'n'}, '22023', 'needs a command or a library', 'SQL' ],
	[ q{'n', ''}, '22023', 'command is empty' ],
	[ qq{'n', E' \\n\\t'}, '22023', 'command is empty' ],
	[ qq{'n', library => '$probe'}, '22023', 'needs a function' ],
	[ q{'n', function => 'f'}, '22023', 'needs a command or a library' ],
	[ qq{'n', library => '', function => 'f'}, '22023', 'library is empty' ],
	[ qq{'n', library => '$probe', function => ''}, '22023', 'function is empty' ],
	[ "$command, function => 'f'", '22023', 'function makes no sense for a worker with a command' ],
	[ "$command, argument => 1", '22023', 'argument makes no sense' ],
	[ "$command, extra => 'e'", '22023', 'extra makes no sense' ],
	[ "$command, extra_bytes => 'e'", '22023', 'extra_bytes makes no sense' ],
	[ "$library, extra => 'e', extra_bytes => 'e'", '22023', 'cannot have both extra and extra_bytes' ],
	[ "$command, heartbeat_timeout => '1 s'", '22023', 'heartbeat_timeout makes no sense' ],
	[ "$library, role => 'alice'", '22023', 'role makes no sense for a worker with a library' ],
	[ "$library, run_every => '1 s'", '22023', 'run_every makes no sense' ],
	[ "$library, run_timeout => '1 s'", '22023', 'run_timeout makes no sense' ],
	[ "$library, bypass_allowconn => true", '22023', 'make no sense', 'when it connects' ],
	[ "$command, '-1 s'", '22023', 'run_every is out of range', 'not negative' ],
	[ "$command, '1000 years'", '22023', 'run_every is out of range', 'ten years' ],
	[ "$command, run_timeout => '25 days'", '22023', 'run_timeout is out of range', '24 days' ],
	(map { [ "$command, $_ => '-1 ms'", '22023', "$_ is out of range", 'not negative' ] }
		qw(restart_delay restart_delay_max restart_window start_timeout stop_timeout run_timeout)),
	[ "$library, heartbeat_timeout => '-1 ms'", '22023', 'heartbeat_timeout is out of range', 'not negative' ],
	[ "$command, max_restarts => -1", '22023', 'max_restarts must not be negative' ],
	[ "$command, instances => 0", '22023', 'instances must be between 1 and 12', 'supervisor.max_workers' ],
	[ "$command, instances => -1", '22023', 'instances must be between 1 and 12', 'supervisor.max_workers' ],
	[ "$command, instances => 13", '22023', 'instances must be between 1 and 12', 'supervisor.max_workers' ],
	[ "$command, restart => 'sometimes'", '22023', 'invalid value for restart: "sometimes"', '"always", "on_failure" and "never"' ],
	[ "$command, restart => ''", '22023', 'invalid value for restart: ""', '"always"' ],
	[ "$command, start_after => 'lunch'", '22023', 'invalid value for start_after: "lunch"', '"recovery_finished" and "consistent_state"' ],
	[ "$command, start_after => 'postmaster_start'", '22023', 'start_after "postmaster_start" is for', 'consistent state' ],
	[ "$command, role => 'missing'", '42704', 'role "missing" does not exist' ],
	[ "$command, role => 'public'", '42704', 'role "public" does not exist' ],
	[ "$command, type => ''", '22023', 'type is empty' ],
	[ "$command, type => repeat('t', 96)", '42622', 'type is too long', '95 bytes' ],
	[ "$library, extra_bytes => repeat('e', 129)::bytea", '22001', 'extra_bytes is too long', '128 bytes' ],
	[ "$library, extra => repeat('e', 128)", '22001', 'extra is too long', '127 bytes' ],
	[ "$library, extra => repeat('\x{c3}\x{a4}', 64)", '22001', 'extra is too long', '127 bytes' ],
	[ qq{'n', library => repeat('l', 2000), function => 'f'}, '42622', 'library is too long' ],
	[ qq{'n', library => '$probe', function => repeat('f', 96)}, '42622', 'function is too long' ],
	[ q{'n', library => 'missing', function => 'f'}, '58P01', 'could not access file "missing"' ],
	[ qq{'n', library => '$probe', function => 'missing'}, '42883', 'could not find function "missing"' ]);
if ($node->pg_version < 17)
{
	push @bad, [ "$command, bypass_rolelogincheck => true", '0A000', 'bypass_rolelogincheck needs PostgreSQL 17' ];
}
foreach (@bad)
{
	my ($arguments, $sqlstate, $message, $hint) = @$_;

	refused("SELECT supervisor.add_worker($arguments)", $sqlstate, "add_worker($arguments)", message => qr/ERROR:  $sqlstate: .*\Q$message\E/,
		hint => defined $hint ? quotemeta $hint : undef);
}
foreach (
	[ q{'missing', 'SELECT'}, '42704', 'worker "missing" does not exist' ],
	[ q{NULL, 'SELECT'}, '22004', 'name must not be null' ],
	[ q{'', 'SELECT'}, '42602', 'name is empty' ],
	[ qq{'$long', 'SELECT'}, '42622', 'name is too long' ],
	[ qq{'there', library => '$probe', function => 'probe_main'}, '22023', 'cannot have both' ],
	[ q{'fn', 'SELECT'}, '22023', 'cannot have both' ],
	[ q{'there', ''}, '22023', 'command is empty' ],
	[ q{'there', argument => 1}, '22023', 'argument makes no sense' ],
	[ q{'there', instances => 13}, '22023', 'instances must be between 1 and 12' ],
	[ q{'there'}, '22023', 'nothing to change in worker "there"', q{run_every, .* of '0'} ],
	[ q{'there', run_every => NULL}, '22023', 'nothing to change in worker "there"' ],
	[ q{'missing'}, '42704', 'worker "missing" does not exist' ],
	[ q{'there', role => 'missing'}, '42704', 'role "missing" does not exist' ],
	[ q{'fn', role => 'alice'}, '22023', 'role makes no sense' ],
	[ q{'fn', function => 'missing'}, '42883', 'could not find function' ],
	[ q{'fn', extra => repeat('e', 128)}, '22001', 'extra is too long' ])
{
	my ($arguments, $sqlstate, $message, $hint) = @$_;

	refused("SELECT supervisor.alter_worker($arguments)", $sqlstate, "alter_worker($arguments)", message => qr/\Q$message\E/, hint => $hint);
}
foreach my $function ('remove_worker', 'start_worker', 'stop_worker', 'restart_worker')
{
	refused("SELECT supervisor.$function('missing')", '42704', "$function of a worker that is not there", message => qr/worker "missing" does not exist/);
	refused("SELECT supervisor.$function(NULL::text)", '22004', "$function without a name");
	refused("SELECT supervisor.$function('')", '42602', "$function of an empty name");
	refused("SELECT supervisor.$function('$long')", '42622', "$function of a name that is too long", hint => '63 bytes');
	next if $function eq 'remove_worker';
	refused("SELECT supervisor.$function('there', '-1 s')", '22023', "$function with a negative timeout");
}
refused('SELECT supervisor.worker_changed()', '39P01', 'a trigger function is none to call');
refused('BEGIN READ ONLY; ' . sprintf($add, 'n', 'alice'), '25006', 'a read-only transaction adds nothing');
value('ROLLBACK');
refused(q{BEGIN READ ONLY; SELECT supervisor.stop_worker('there')}, '25006', 'and stops nothing');
value('ROLLBACK');
is(value($rows), $before, 'after all that, the table is as before');
is(value(q{SELECT string_agg(slot || '/' || generation, ' ' ORDER BY slot) FROM supervisor.worker_status WHERE slot IS NOT NULL}), $processes, 'and so are the processes');

# In a migration that is run once more.
$s->query(q{SELECT supervisor.add_worker('there', 'SELECT 2', if_not_exists => true)});
like($s->{stderr}, qr/NOTICE:  42710: worker "there" already exists, skipping/, 'with if_not_exists, a name that is taken is no error');
is(value($rows), $before, 'and nothing is changed');
refused("SELECT supervisor.add_worker('there', 'SELECT', if_not_exists => $_)", '42710', "it is with if_not_exists => $_") foreach 'false', 'NULL';
refused(q{SELECT supervisor.add_worker('there', '', if_not_exists => true)}, '22023', 'what makes no sense is an error all the same');
refused(q{SET ROLE alice; SELECT supervisor.add_worker('there', 'SELECT 1', role => 'boss', if_not_exists => true)}, '42501', 'and so is what one may not do');
value('RESET ROLE');
value(q{SELECT supervisor.add_worker('soon', 'SELECT', '1 h', if_not_exists => true)});
is(value(q{SELECT count(*) FROM supervisor.worker WHERE name = 'soon'}), '1', 'what is not there is added');
value(q{SELECT supervisor.remove_worker('soon')});
is(value(qq{SELECT supervisor.add_worker('$_->[0]', $_->[1]); SELECT supervisor.remove_worker('$_->[0]')}), "\n", "$_->[2] can be added")
  foreach (
	[ 'x' x 63, q{'SELECT'}, 'a name of 63 bytes' ], [ "quote\" '' \\", q{'SELECT'}, 'a name with special characters' ],
	[ 'instances', q{'SELECT', instances => 12}, 'as many instances as there are slots' ],
	[ 'extra', "library => '$probe', function => 'probe_main', extra => repeat('e', 127)", '127 bytes of extra' ],
	[ 'empty', "library => '$probe', function => 'probe_main', extra => ''", 'an empty extra' ],
	[ 'zero', q{'SELECT', restart_delay => '0', restart_delay_max => '0', max_restarts => 0, restart_window => '0',
		start_timeout => '0', stop_timeout => '0', run_timeout => '0'}, 'a policy of zeros' ]);

note 'leaks';

# Failing calls, in one session: neither memory nor files nor anything shared is left.
$s->wait_true(q{SELECT count(*) = 3 FROM supervisor.worker_status})
  or die 'there are other workers than before: ' . value('SELECT * FROM supervisor.worker_status') . value('SELECT * FROM supervisor.event ORDER BY id DESC LIMIT 100');
SupervisorTest::leaks($node);
my $fail = qq{
	DO \$\$ DECLARE call text; BEGIN
		FOR i IN 1 .. %d LOOP
			FOREACH call IN ARRAY ARRAY[
				\$call\$add_worker('there', 'SELECT')\$call\$, \$call\$add_worker('n', '')\$call\$,
				\$call\$add_worker('n', repeat('x', 100000), '-1 s')\$call\$,
				\$call\$add_worker('n', library => 'missing', function => 'f')\$call\$,
				\$call\$add_worker('n', library => '$probe', function => 'missing')\$call\$,
				\$call\$alter_worker('there', instances => 1000)\$call\$, \$call\$alter_worker('missing', 'SELECT')\$call\$,
				\$call\$remove_worker('missing')\$call\$, \$call\$start_worker('missing')\$call\$,
				\$call\$stop_worker('there', '-1 s')\$call\$, \$call\$restart_worker('missing')\$call\$]
			LOOP
				BEGIN
					EXECUTE 'SELECT supervisor.' || call;
					RAISE 'no error';
				EXCEPTION WHEN OTHERS THEN
					IF SQLERRM = 'no error' THEN RAISE; END IF;
				END;
			END LOOP;
		END LOOP;
	END \$\$};
my $backend = $t->pid;
my $usage = sub {
	my $memory = $t->query_safe(q{SELECT sum(used_bytes) FROM pg_backend_memory_contexts});
	my $files = -d "/proc/$backend/fd" ? scalar(() = glob "/proc/$backend/fd/*") : 0;
	my $locks = $t->query_safe(q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()});

	return ($memory, $files, $locks);
};
$t->query_safe(sprintf $fail, 10);
my @first = $usage->();
$t->query_safe(sprintf $fail, 100);
my @last = $usage->();
cmp_ok($last[0], '<', $first[0] + 100_000, 'a thousand calls that fail leave no memory');
is($last[1], $first[1], 'no file open');
is($last[2], $first[2], 'and no lock held');
is(SupervisorTest::leaks($node), '', 'nor anything shared');
is(value($rows), $before, 'the table is as before');

$t->quit;
$s->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal (?!9)/, 'no process has crashed by itself');
done_testing();
