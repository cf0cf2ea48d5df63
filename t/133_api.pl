# supervisor.h: t/supervised_example is built with the header as it is installed,
# and its workers run under the supervisor, preloaded before and after it, and
# without it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(refused until_true value);

my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
my $dir = "$PostgreSQL::Test::Utils::tmp_check/supervised_example";
my $node;

SupervisorTest::ask(\$node);

# Waits until all instances of a worker run.
sub wait_running
{
	my ($name, $instances) = @_;

	until_true(
		"SELECT count(*) = $instances FROM supervisor.worker_status WHERE name = '$name' AND state = 'running'"
	);
}

# Returns the text of the server's log from an offset on.
sub log_from
{
	my ($offset) = @_;

	return substr slurp_file($node->logfile), $offset;
}

# Waits for lines in the log from an offset on.
sub wait_for_log
{
	my ($offset, @patterns) = @_;

	$node->wait_for_log($_, $offset) foreach @patterns;
}

my $functions = q{
	CREATE FUNCTION test_start(text, text, int, int) RETURNS bool STRICT LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_pid() RETURNS int LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_status() RETURNS text LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_wait_for_startup() RETURNS text LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_terminate() RETURNS void LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_wait_for_shutdown() RETURNS text LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_late(int) RETURNS text STRICT LANGUAGE c AS 'supervised_test';
	CREATE FUNCTION test_wait_for_latch(text) RETURNS void LANGUAGE c AS 'supervised_test';
	CREATE TABLE sessions (id int, last_seen timestamptz);
	INSERT INTO sessions VALUES (1, now()), (2, now() - interval '2 hours');
};

note 'building';

mkdir $dir or die "could not make $dir: $!";
copy($_, $dir) or die "could not copy $_: $!" foreach glob "$FindBin::RealBin/supervised_example/*";
{
	local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
	delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};
	my @make = ('make', '-s', '-C', $dir, "PG_CONFIG=$pg_config");

	is(system(@make, 'COPT=-Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Werror'),
		0, 'an extension that uses the installed supervisor.h compiles without warnings');
}

my ($documented) = slurp_file("$FindBin::RealBin/../docs/workers.md") =~ /^```c\n(.*?)^```$/ms;
is($documented, slurp_file("$dir/my_ext.c"), 'it is the example of docs/workers.md');

SKIP:
{
	my @cxx = split ' ', $ENV{CXX} || 'c++';
	skip 'no C++ compiler', 1 if system("$cxx[0] --version >/dev/null 2>&1") != 0;

	my $include = SupervisorTest::pg_config('includedir-server');
	append_to_file("$dir/cxx.cpp", <<'END');
extern "C" {
#include "postgres.h"
}
#include "extension/supervisor/supervisor.h"
extern "C" void _PG_init(void);
void
_PG_init(void)
{
	SUPERVISOR_DECLARE(.name = "a", .library = "b", .function = "c", .instances = 2);
}
bool start(SupervisorHandle *handle);
bool
start(SupervisorHandle *handle)
{
	SupervisorWorker worker = {};

	worker.name = "a";
	return supervisor_start(&worker, handle);
}
END
	is(system(@cxx, qw(-std=c++20 -fsyntax-only -I), $include, "$dir/cxx.cpp"), 0, 'so does C++');
}

note 'under the supervisor';

$node = SupervisorTest::new_node(
	'supervised',
	dynamic_library_path => "$dir:\$libdir",
	shared_preload_libraries => "supervised_test, \$libdir/supervisor, my_ext",
	max_worker_processes => 32,
	wal_level => 'replica',
	restart_after_crash => 'on');
value($functions);

wait_running('early', 2);
wait_running('early two', 1);
wait_running('talker', 2);
ok(1, 'workers of a library that is preloaded before the supervisor run');
wait_for_log(0, map { qr/LOG:  talker $_ begins: type talkative, argument -2, extra "word",/ } 1, 2);
ok(1, 'each instance knows its number; type, argument and extra are as declared');
wait_for_log(0, map { qr/LOG:  early $_ begins: type early, argument 1, extra "",/ } 1, 2);
wait_for_log(0, qr/LOG:  early two 1 begins: type early two, argument 3/);
ok(1, 'also of those that the postmaster started');

is( value(
		q{SELECT DISTINCT name, kind, datname, generation FROM supervisor.worker_status WHERE name LIKE 'early%' ORDER BY 1}
	),
	"early|library||0\nearly two|library||0",
	'their processes are the first ones');
is( value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'talkative'}),
	'0', 'a worker that connects to no database is in no view of the server');

is( value(q{SELECT state, reason, detail FROM supervisor.worker_status WHERE name = 'wrong'}),
	'failed|invalid|a worker that starts before the consistent state cannot have a database connection',
	'a declaration that makes no sense is seen to have failed');
like(
	log_from(0),
	qr/LOG:  worker "wrong", declared by library "supervised_test", is not run: a worker that starts before/,
	'the log says so');
unlike(log_from(0), qr/LOG:  wrong \d begins/, 'the postmaster does not run it');
like(
	log_from(0),
	qr/LOG:  worker "talker", declared by library "supervised_test", is not run: another worker has that name/,
	'so it is with a name that is taken');

until_true(q{SELECT count(*) = 1 FROM sessions});
ok(1, 'the worker of a library that is preloaded after the supervisor does its work');
wait_running('session cleaner', 1);
is( value(q{SELECT datname FROM supervisor.worker_status WHERE name = 'session cleaner'}),
	'postgres', 'where it is connected is seen');

until_true(
	q{SELECT state = 'failed' AND reason = 'max_restarts' FROM supervisor.worker_status WHERE name = 'silent'});
is( value(
		q{SELECT count(*) FROM supervisor.event WHERE name = 'silent' AND event = 'stopping' AND detail = 'it sent no heartbeat in time'}
	),
	'3',
	'a worker that promised heartbeats and is silent is terminated, until it is given up');
is(value(q{SELECT DISTINCT generation FROM supervisor.worker_status WHERE name = 'talker'}),
	'1', 'one that sleeps in supervisor_sleep() sends them');
value(
	q{SELECT supervisor.add_worker('silent row', library => 'supervised_test', function => 'silent', heartbeat_timeout => '500 ms', restart => 'never')}
);
until_true(
	q{SELECT count(*) = 1 FROM supervisor.event WHERE name = 'silent row' AND event = 'stopping' AND detail = 'it sent no heartbeat in time'}
);
ok(1, 'so it is with a row of supervisor.worker');

is(value(q{SELECT state FROM supervisor.worker_status WHERE name = 'late'}),
	'starting', 'a worker that says when it is ready has not started before');
my $offset = -s $node->logfile;
SupervisorTest::set($node, work_mem => '1234kB');
wait_running('late', 1);
ok(1, 'then it runs');
wait_for_log($offset, map { qr/LOG:  talker $_: reload, work_mem is 1234$/m } 1, 2);
wait_for_log($offset, map { qr/LOG:  early $_: reload, work_mem is 1234$/m } 1, 2);
ok(1, 'supervisor_sleep() tells of a reload, and has read the settings');

$offset = -s $node->logfile;
is(value(q{SELECT supervisor.stop_worker('talker')}), 't', 'it can be stopped by name');
wait_for_log($offset, map { qr/LOG:  talker $_: stop/ } 1, 2);
is(value(q{SELECT DISTINCT state FROM supervisor.worker_status WHERE name = 'talker'}),
	'stopped', 'supervisor_sleep() tells it so');
is(value(q{SELECT supervisor.start_worker('talker')}), 't', 'and started');
is(value(q{SELECT supervisor.restart_worker('early')}), 't', 'and restarted');
is(value(q{SELECT array_agg(generation) FROM supervisor.worker_status WHERE name = 'early'}),
	'{1,1}', 'also one that the postmaster had started');

my $before = value(
	q{SELECT array_agg((name, instance, pid) ORDER BY name, instance) FROM supervisor.worker_status WHERE kind = 'library'}
);
my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
value("SELECT pg_terminate_backend($supervisor)");
until_true(
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $supervisor");
is( value(
		q{SELECT array_agg((name, instance, pid) ORDER BY name, instance) FROM supervisor.worker_status WHERE kind = 'library'}
	),
	$before,
	'a new supervisor takes over all of them');

note 'at run time';

my $session = SupervisorTest::session($node);
is($session->query(q{SELECT test_start('one', 'talker', 0, 0)}), 't', 'a worker is started');
is($session->query(q{SELECT test_wait_for_startup()}), 'started', 'it can be waited for');
wait_running('one', 1);
my $pid = $session->query(q{SELECT test_pid()});
is($pid, value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'one' AND state = 'running'}),
	'its process is known');
wait_for_log(0, qr/\[$pid\] LOG:  one 1 begins: type one, argument 9/);
is( (SupervisorTest::error_of($node, q{SELECT test_start('one', 'talker', 0, 0)}))[0],
	'42710', 'a name that is taken is refused');
is( (SupervisorTest::error_of($node, q{SELECT test_start('', 'talker', 0, 0)}))[0],
	'22023', 'so is what makes no sense');
is((SupervisorTest::error_of($node, q{SELECT test_start('x', '', 0, 0)}))[0], '22023', 'all of it');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'x'}), '0', 'nothing is half done');

kill 'TERM', $pid;
until_true(
	"SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'one' AND state = 'running' AND pid <> $pid"
);
is($session->query(q{SELECT test_wait_for_startup()}), 'started', 'a worker that ends is started again');
isnt($session->query(q{SELECT test_pid()}), $pid, 'the handle is that of its successor');
$session->query(q{SELECT test_terminate()});
is($session->query(q{SELECT test_wait_for_shutdown()}), 'stopped', 'one that is terminated is not');
is($session->query(q{SELECT test_status()}), 'stopped', 'that is its status');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'one'}), '0', 'and it is gone');

$session->query(q{SELECT test_start('one', 'crasher', 1, 0)});
is($session->query(q{SELECT test_wait_for_shutdown()}),
	'stopped', 'one that is given up by its policy has stopped');
is( value(q{SELECT count(*) FROM supervisor.event WHERE name = 'one' AND event = 'exited' AND detail LIKE '%it failed as it should'}),
	'3', 'after as many restarts as it was allowed');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'one'}), '0', 'and it is gone');

$session->query(q{SELECT test_start('one', 'deaf', 0, 0), test_wait_for_startup(), test_terminate()});
is($session->query(q{SELECT test_wait_for_shutdown()}),
	'stopped', 'supervisor_sleep() says that it shall stop also to one that has another use for SIGTERM');

my $other = SupervisorTest::session($node);
my $other_pid = $other->pid;
my $other_waits = "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $other_pid";
$other->begin(
	q{SELECT test_wait_for_latch($$SELECT FROM supervisor.worker_status WHERE name = 'two' AND state = 'running'$$)}
);
until_true($other_waits);
$session->query("SELECT test_start('two', 'talker', 0, $other_pid)");
$other->finish;
ok(1, 'the process that is to be notified is woken by the start');
$other->begin(
	q{SELECT test_wait_for_latch($$SELECT WHERE NOT EXISTS (SELECT FROM supervisor.worker_status WHERE name = 'two')$$)}
);
until_true($other_waits);
$session->query(q{SELECT test_terminate()});
$other->finish;
ok(1, 'and by the end');
$session->query(q{SELECT test_wait_for_shutdown()});

$session->query("SELECT test_start('two', 'talker', 0, 0)");
$session->query(q{SELECT test_wait_for_startup()});
$session->quit;
wait_running('two', 1);
is(value(q{SELECT state FROM supervisor.worker_status WHERE name = 'two'}),
	'running', 'it outlives the session that has started it');
is(value(q{SELECT supervisor.stop_worker('two')}), 't', 'it can be stopped by name');
is( value(q{SELECT state, reason, source, declared_in IS NULL, datname IS NULL FROM supervisor.worker_status WHERE name = 'two'}),
	'stopped|disabled|call|t|t', 'worker_status shows that, and whence it is');
$other->query(q{SELECT test_start('two', 'talker', 0, 0)});
like($other->{stderr}, qr/42710.*HINT: .*supervisor\.remove_worker/s, 'its name is taken, and the hint says what to do');
refused(q{SELECT supervisor.alter_worker('two', argument => 1)}, '42809', 'it has no row to be altered',
	message => qr/cannot alter worker "two".*started by supervisor_start/s);
refused(q{SELECT supervisor.restart_worker('two')}, '55000', 'one that is stopped is not restarted', hint => 'start_worker');
value('CREATE ROLE nobody LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO nobody');
refused(q{SELECT supervisor.remove_worker('two')}, '42501', 'only a superuser may remove it', user => 'nobody');
is(value(q{SELECT supervisor.start_worker('two')}), 't', 'it can be started again');
value(q{SELECT supervisor.remove_worker('two')});
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'two'}, 'it is removed while it runs');
refused("SELECT supervisor.$_", '42704', "$_: it does not exist any more")
  foreach q{remove_worker('two')}, q{alter_worker('two', argument => 1)}, q{stop_worker('two')}, q{start_worker('two')}, q{restart_worker('two')};
is($other->query(q{SELECT test_start('two', 'talker', 0, 0)}), 't', 'its name is free');
$other->query(q{SELECT test_wait_for_startup()});
value(q{SELECT supervisor.stop_worker('two'); SELECT supervisor.remove_worker('two')});
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'two'}, 'it is removed when it is stopped');
is($other->query(q{SELECT test_wait_for_shutdown()}), 'stopped', 'whoever waits for its end is told');
is( value(q{SELECT DISTINCT source, declared_in IS NULL FROM supervisor.worker_status WHERE name IN ('early', 'talker', 'session cleaner')}),
	'library|t', 'those of preloaded libraries are said to be theirs');
refused("SELECT supervisor.$_", '42809', "they have no row: $_", message => qr/A preloaded library has declared it/, hint => 'stop, start and restart')
  foreach q{remove_worker('talker')}, q{alter_worker('talker', argument => 1)};
$other->query(q{SELECT test_start('two', 'talker', 0, 0), test_wait_for_startup()});
$other->quit;

note 'after a crash';

$offset = -s $node->logfile;
my $victim = SupervisorTest::session($node);
kill 'KILL', $victim->pid;
eval { $victim->quit };
wait_for_log($offset, qr/all server processes terminated; reinitializing/);
until_true('SELECT true', 'the server comes back');
wait_running('early', 2);
wait_running('talker', 2);
wait_for_log($offset, map { qr/LOG:  early $_ begins: .* after recovery/ } 1, 2);
ok(1, 'all declared workers come back, and the supervisor starts those that the postmaster had started');
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'two'}),
	'0', 'what was started at run time is forgotten');

note 'switched off';

$node->append_conf('postgresql.conf', "supervisor.start_workers = off");
$offset = -s $node->logfile;
$node->restart;
until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor'});
is( value(q{SELECT DISTINCT state, reason FROM supervisor.worker_status WHERE name IN ('early', 'talker')}),
	'stopped|disabled', 'no declared worker runs');
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
wait_running('early', 2);
wait_for_log($offset, map { qr/LOG:  early $_ begins/ } 1, 2);
is(() = log_from($offset) =~ /LOG:  early \d begins/g, 2, 'nor did the postmaster start one');
$node->stop;

note 'before the supervisor';

$node->set_standby_mode;
$offset = -s $node->logfile;
$node->start;
until_true(
	q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name = 'talker' AND state = 'waiting' AND reason = 'recovery'}
);
is( $node->safe_psql(
		'postgres',
		q{SELECT DISTINCT test_late(slot) FROM supervisor.worker_status WHERE slot IS NOT NULL AND name NOT LIKE 'early%'},
		timeout => $PostgreSQL::Test::Utils::timeout_default),
	'stopped',
	'a process that the postmaster starts when the supervisor has used its slot ends at once');
unlike(log_from($offset), qr/LOG:  talker \d begins/, 'it does not pass for the one that the slot waits for');
$node->stop;

$node->append_conf('postgresql.conf', 'hot_standby = off');
$offset = -s $node->logfile;
$node->start;
wait_for_log($offset, map { qr/LOG:  early $_ begins: .* in recovery/ } 1, 2);
my %early = reverse log_from($offset) =~ /\[(\d+)\] LOG:  early (\d) begins/g;
like(log_from($offset), qr/entering standby mode/, 'the server is in recovery, and accepts no connections');
unlike(log_from($offset), qr/LOG:  talker \d begins/, 'there are no other workers');
$node->promote;
wait_running('early', 2);
is( value(q{SELECT string_agg(pid::text, ' ' ORDER BY instance) FROM supervisor.worker_status WHERE name = 'early'}),
	"$early{1} $early{2}",
	'workers that began at the start of the server are the same when the supervisor has come');
$node->stop;

note 'without the supervisor';

$node = PostgreSQL::Test::Cluster->new('plain');
$node->init;
$node->append_conf('postgresql.conf',
	SupervisorTest::conf(
		dynamic_library_path => "$dir:\$libdir",
		shared_preload_libraries => 'supervised_test, my_ext',
		max_worker_processes => 32));
$node->start;
value($functions);
wait_for_log(
	0,
	map { (qr/LOG:  talker $_ begins: type talkative, argument -2, extra "word",/,
			qr/LOG:  early $_ begins: type early, argument 1, extra ""/) } 1, 2);
ok(1, 'the server runs the workers');
until_true(q{SELECT count(*) = 1 FROM sessions});
ok(1, 'they do their work');
$offset = -s $node->logfile;
SupervisorTest::set($node, work_mem => '1234kB');
wait_for_log($offset, map { qr/LOG:  talker $_: reload, work_mem is 1234$/m } 1, 2);
ok(1, 'supervisor_sleep() tells of a reload');

$session = SupervisorTest::session($node);
is($session->query(q{SELECT test_start('one', 'talker', 2, 0)}), 't', 'a worker is started');
is($session->query(q{SELECT test_wait_for_startup()}), 'started', 'it can be waited for');
$pid = $session->query(q{SELECT test_pid()});
wait_for_log(0, qr/\[$pid\] LOG:  one 1 begins: type one, argument 9/);
$session->query(q{SELECT test_terminate()});
is($session->query(q{SELECT test_wait_for_shutdown()}), 'stopped', 'and terminated');
$session->quit;

$offset = -s $node->logfile;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
value(q{LOAD 'supervised_test'});
unlike(log_from($offset), qr/begins/, 'a library that is not preloaded declares nothing');
$node->stop;

done_testing();
