# What a worker that was taken over has left in shared memory, or what whoever has lost its
# mind has written there, is looked at before it is used: the supervisor, sessions and the
# postmaster live on, and do what they would have done.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes value);

my $registers = SupervisorTest::build_library('registers');
my $library = SupervisorTest::build_library('stream');
my $node = SupervisorTest::new_node(
	'spoiled',
	'shared_preload_libraries' => 'supervisor, registers',
	'dynamic_library_path' => dirname($registers) . ':$libdir',
	'registers.workers' => 'pointer, wide, twin',
	'registers.database' => 'postgres',
	'restart_after_crash' => 'on',
	'supervisor.take_over' => 'registers',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '10ms',
	'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);
value(qq{CREATE FUNCTION spoil_worker(bigint, int, text, bigint) RETURNS void AS '$library' LANGUAGE C STRICT});
my $size = value(q{SELECT size FROM pg_shmem_allocations WHERE name = 'supervisor'});
my $running = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE source = 'registration' AND state = 'running'};

# Overwrites what is known of a worker.
sub spoil
{
	my ($name, $what, $value) = @_;

	value("SELECT spoil_worker($size, slot, '$what', $value) FROM supervisor.worker_status WHERE name = '$name'");
}

sub state_of
{
	my ($name) = @_;

	return value("SELECT concat_ws(' ', state, reason) FROM supervisor.worker_status WHERE name = '$name'");
}

sub crash
{
	my $session = SupervisorTest::session($node);

	kill 'KILL', $session->pid;
	eval { $session->quit };
	SupervisorTest::wait_true($node, q{SELECT count(*) > 0 FROM supervisor.pool_status});
}

becomes(sprintf($running, 3), 'all run');

note 'the word for the time after a crash';

foreach my $word (1, -1, '8243121636793804677')    # the last: another declaration's
{
	spoil($_, 'rests', $word) foreach ('pointing worker', 'wide worker', 'twin');
	crash();
	becomes(sprintf($running, 3), "$word says nothing: after a crash all run");
}
is(value(q{SELECT supervisor.stop_worker('twin', '1 min')}), 't', 'one is stopped');
crash();
becomes(sprintf($running, 2), 'what has been written as it should is believed');
is(state_of('twin'), 'stopped disabled', 'and says that one is stopped');
is(value(q{SELECT supervisor.start_worker('twin', '1 min')}), 't', 'until it is started');

note 'why it could not begin its work';

# Exit code 0, of which there is no more to say.
foreach my $reason (1, 11, 1000, -1)
{
	my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'wide worker'});

	spoil('wide worker', 'exit_reason', $reason);
	kill 'TERM', $pid;
	becomes(qq{SELECT pid IS NULL FROM supervisor.worker_status WHERE name = 'wide worker'}, "reason $reason: the process ends");
	is(state_of('wide worker'), 'stopped exited', "reason $reason: with exit code 0, and that is all");
	is(value(q{SELECT supervisor.start_worker('wide worker', '1 min')}), 't', "reason $reason: it can be started");
}

note 'when it has ended, and with what words';

foreach my $text (0, 1)
{
	spoil('pointing worker', $text ? 'last_error' : 'heartbeat_at', '9223372036854775807');
	like(value(q{SELECT coalesce(length(last_error), 0) FROM supervisor.worker_status WHERE name = 'pointing worker'}),
		$text ? qr/^255$/ : qr/^0$/, 'what it has said has an end');
}
my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'pointing worker'});
kill 'TERM', $pid;
becomes("SELECT state = 'running' AND pid <> $pid FROM supervisor.worker_status WHERE name = 'pointing worker'", 'it is started again');

note 'which process it is';

foreach my $garbage ([ 'proc', 4096 ], [ 'proc', -8 ], [ 'proc', '9223372036854775807' ], [ 'pid', -1 ], [ 'pid', 1 ])
{
	my ($what, $value) = @$garbage;

	spoil('twin', $what, $value);
	is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'twin' AND datname IS NULL}), '1', "$what $value: the view does not look there");
	value('CREATE DATABASE shop');
	value('DROP DATABASE shop');
	pass("$what $value: nor does DDL");
	is(value(q{SELECT supervisor.restart_worker('twin', '1 min')}), 't', "$what $value: it is restarted");
}
becomes(sprintf($running, 3), 'all run');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and so does the pool');

note 'what a worker of a pool is to do, and for whom';

# The entry of the task before, which is none any more, too.
foreach my $garbage ([ 'task', 1 ], [ 'task', 1000000 ], [ 'task', -1 ], [ 'binding', 1000000 ], [ 'binding', -1000000 ])
{
	my ($what, $value) = @$garbage;
	my $worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
	my $log = -s $node->logfile;

	is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a worker is bound');
	spoil('default', $what, $value);
	is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE kind = 'pool' AND task IS NULL}), '1', "$what $value: the view does not look there");
	if ($what eq 'task')
	{
		ok($node->wait_for_log(qr/FATAL: .*what a worker is to do is corrupt/, $log), "$what $value: it ends");
	}
	else
	{
		value(q{SELECT count(pg_terminate_backend(pid)) FROM supervisor.worker_status WHERE kind = 'pool'});
	}
	becomes("SELECT state = 'running' AND pid <> $worker FROM supervisor.worker_status WHERE kind = 'pool'", "$what $value: another comes");
	is(value(q{SELECT supervisor.execute('SELECT 1', timeout => '1 min')}), 'SELECT 1', "$what $value: and serves");
}
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|signal (?!9\b)|runtime error: |AddressSanitizer/, 'nothing else has crashed');
$node->stop;

done_testing();
