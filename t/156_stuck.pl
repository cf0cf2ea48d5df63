# Whom stuck workers cost what: processes that do not end, as they stand still.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes until_true stop_process continue_process);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 30,
	'supervisor.max_workers' => 8,
	'supervisor.pool_size' => 2,
	'supervisor.stop_timeout' => '100ms');
SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE one LOGIN;
	CREATE ROLE two LOGIN;
	CREATE ROLE att LOGIN;
	CREATE ROLE vic LOGIN;
	CREATE ROLE guest LOGIN;
	GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC});
value("CREATE DATABASE $_ TEMPLATE postgres OWNER one") foreach qw(a a2);
value('CREATE DATABASE b TEMPLATE postgres OWNER two');

my $lasting = q{SELECT supervisor.launch('SELECT pg_sleep(10000)')};
my $nstuck = q{SELECT count(*) = %d FROM supervisor.worker_status WHERE state = 'stuck'};

# How many tasks of a role run.
sub running
{
	my ($user) = @_;

	return "SELECT count(*) FROM supervisor.task_status WHERE usename = '$user' AND state = 'running'";
}

my $stopped = 0;

# Lets all workers stand still that run a task of that role.
sub stand_still
{
	my ($user) = @_;

	foreach my $line (split /\n/, value("SELECT slot, pid FROM supervisor.worker_status WHERE usename = '$user' AND task IS NOT NULL AND state = 'running'"))
	{
		my ($slot, $pid) = split /\|/, $line;

		stop_process($pid);
		$stopped++;
		value("SELECT supervisor.terminate_worker($slot, '0')");
	}
	until_true(sprintf($nstuck, $stopped), "$stopped are stuck");
	return;
}

# Tests that a role is served in a database.
sub served
{
	my ($user, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value(q{SELECT supervisor.execute('SELECT 1', timeout => '1 min')}, user => $user, dbname => $database), 'SELECT 1', "$user is served in $database");
	return;
}

# Makes the processes end.
sub all_end
{
	continue_process();
	$stopped = 0;
	until_true(sprintf($nstuck, 0), 'none is left');
	SupervisorTest::wait_ready($node, 'default', 2);
	return;
}
SupervisorTest::wait_ready($node, 'default', 2);

note 'a role that runs several at once';

my $first = SupervisorTest::session($node, user => 'att', dbname => 'a');
$first->query_safe("$lasting; $lasting");
until_true(running('att') =~ s/\*\)/*) = 2/r, 'two tasks run');
stand_still('att');
my $second = SupervisorTest::session($node, user => 'att', dbname => 'b');
my @tasks = map { $second->query_safe($lasting) } 1 .. 2;
until_true(running('att') =~ s/\*\)/*) >= 3/r, 'with those that are stuck three are taken for running');
served('vic', $_) foreach qw(postgres a b);
is(value(running('att')), '3', 'a role with two that are stuck runs one task');
$second->query_safe("SELECT supervisor.cancel($tasks[0])");
becomes("SELECT state = 'running' FROM supervisor.task_status WHERE task = $tasks[1]", 'and the next one when that has ended');
stand_still('att');
push @tasks, $second->query_safe(q{SELECT supervisor.launch('SELECT 1')});
served('vic', $_) foreach qw(postgres a b);
is(value("SELECT state FROM supervisor.task_status WHERE task = $tasks[2]"), 'queued', 'with three it is served no more');
all_end();
is($second->query_safe("SELECT supervisor.wait($tasks[2])"), 'succeeded', 'until they have ended');
$_->quit foreach $first, $second;

note 'guests of one owner';

my @sessions;
foreach my $user (qw(att guest))
{
	push @sessions, SupervisorTest::session($node, user => $user, dbname => 'a');
	$sessions[-1]->query_safe($lasting);
	until_true(running($user) =~ s/\*\)/*) = 1/r, 'a task runs');
	stand_still($user);
}
served('vic', $_) foreach qw(a a2 b postgres);
served('one', $_) foreach qw(a a2 postgres);
served('att', 'b');
push @sessions, SupervisorTest::session($node, user => 'att', dbname => 'a2');
my $task = $sessions[-1]->query_safe(q{SELECT supervisor.launch('SELECT 1')});
served('vic', 'a2');
is(value("SELECT state FROM supervisor.task_status WHERE task = $task"), 'queued', 'who has one stuck himself is not, while another has');
all_end();
is($sessions[-1]->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'and is when they have ended');
$_->quit foreach @sessions;

SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
