# Workers that were taken over, on a standby, at promotion, while the supervisor ends, and
# when the server does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes eventually survivors until_true value);

my $library = SupervisorTest::build_library('registers');
my $node;

SupervisorTest::ask(\$node);

sub state_of
{
	my ($name) = @_;

	return value("SELECT concat_ws(' ', state, reason) FROM supervisor.worker_status WHERE name = '$name'");
}

sub pid_of
{
	my ($name) = @_;

	return value("SELECT pid FROM supervisor.worker_status WHERE name = '$name'");
}

# How often has a worker begun, by the log from an offset on?
sub begun
{
	my ($name, $offset) = @_;

	return scalar(() = substr(slurp_file($node->logfile), $offset // 0) =~ /registers: name "$name"/g);
}

note 'standby';

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', SupervisorTest::conf(
	shared_preload_libraries => 'supervisor, registers',
	dynamic_library_path => dirname($library) . ':$libdir',
	max_worker_processes => 20,
	'registers.workers' => 'pointer, wide, twin, early, fails',
	'supervisor.take_over' => '*'));
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION supervisor');
$primary->backup('backup');

$node = PostgreSQL::Test::Cluster->new('standby');
$node->init_from_backup($primary, 'backup', has_streaming => 1);
$node->append_conf('postgresql.conf', 'hot_standby = off');

# nobody can log in, and pg_ctl does not wait for that
$node->start;
ok(eventually(sub { begun('early worker') == 1 }), 'one that starts with the server runs where nobody can log in');
is(begun('pointing worker'), 0, 'others do not');
$node->stop;
$node->append_conf('postgresql.conf', 'hot_standby = on');

my $offset = -s $node->logfile;
$node->start;
$primary->wait_for_catchup($node, 'replay', $primary->lsn('insert'));
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name IN ('pointing worker', 'early worker') AND state = 'running'},
	'one that starts in the consistent state runs on a standby');
is(state_of($_), 'waiting recovery', "$_: one that starts when recovery has finished waits") foreach ('wide worker', 'twin', 'failing worker');
is(value(q{SELECT supervisor.stop_worker($$wide worker$$, '60 s')}), 't', 'it is stopped before it has begun');
is(state_of('wide worker'), 'stopped disabled', 'and stays so');
is(value(q{SELECT supervisor.stop_worker('twin', '60 s')}), 't', 'so is another');
is(value(q{SELECT supervisor.start_worker('twin', '10 ms')}), 'f', 'which is started');
becomes(q{SELECT state = 'waiting' AND reason = 'recovery' FROM supervisor.worker_status WHERE name = 'twin'}, 'and waits again');
is(value(q{SELECT supervisor.restart_worker('pointing worker', '60 s')}), 't', 'one that runs is restarted there');

my $pid = pid_of('pointing worker');
my $supervisor_query = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};
my $supervisor = value($supervisor_query);
value("SELECT pg_terminate_backend($supervisor)");
until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $supervisor");
is(join(', ', map { state_of($_) } 'twin', 'failing worker', 'pointing worker'),
	'waiting recovery, waiting recovery, running', 'a new supervisor finds all as they were');

$node->promote;
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'twin'}, 'after promotion it runs');
until_true(q{SELECT consecutive_failures > 0 FROM supervisor.worker_status WHERE name = 'failing worker'});
ok(1, 'and so does what the server has started itself');
is(pid_of('pointing worker'), $pid, 'one that ran before runs on');
is(state_of('wide worker'), 'stopped disabled', 'one that was stopped stays so');
is(begun('twin', $offset) . begun('wide worker', $offset), '10', 'each has begun once, or not at all');
$primary->stop;

note 'supervisors end';

value(q{SELECT supervisor.start_worker('wide worker', '60 s')});
my $never_two = 1;
foreach my $round (1 .. 20)
{
	my $name = ('pointing worker', 'twin', 'early worker')[ $round % 3 ];
	my $old = pid_of($name);
	$supervisor = value($supervisor_query);

	value("SELECT pg_terminate_backend($supervisor)");
	value("SELECT supervisor.restart_worker('$name', '60 s')") if $round % 2;
	kill 'TERM', $old if $round % 2 == 0;
	until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $supervisor");
	until_true("SELECT state = 'running' AND pid <> $old FROM supervisor.worker_status WHERE name = '$name'");
	$never_two &&= value(q{SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type IN ('pointer', 'twins', 'wide worker')}) eq 't';
}
ok($never_two, 'while supervisors and workers end, 20 times, there is one of each');

note 'the server stops';

foreach my $mode (qw(fast smart immediate))
{
	my @children = SupervisorTest::children($node);

	until_true(q{SELECT state = 'backoff' FROM supervisor.worker_status WHERE name = 'failing worker'});
	$offset = -s $node->logfile;
	$node->stop($mode);
	is(survivors(@children), '', "a $mode shutdown ends all");
	is(begun('[^"]*', $offset), 0, 'and none is started meanwhile') if $mode eq 'immediate';
	$node->start;
	until_true(q{SELECT count(*) = 4 FROM supervisor.worker_status WHERE source = 'registration' AND state = 'running'});
}
$node->stop;

done_testing();
