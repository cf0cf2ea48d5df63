# DDL on a database makes way for C functions as well that are on their way in, or out,
# and waits for nobody who does not end.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes eventually until_true value);

my $node = SupervisorTest::new_node('function_fence');
my $library = SupervisorTest::build_library('connecting_worker');
my $dir = '/tmp/sup' . $$;	# 'extra' is short
mkdir $dir or die "could not make $dir: $!";

SupervisorTest::ask(\$node);
value('CREATE DATABASE a');
value(qq{
	SELECT supervisor.add_worker('slow', library => '$library', function => 'takes_its_time', extra => '$dir', argument => oid::int)
	FROM pg_database WHERE datname = 'a'});
my $connected = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'a' AND backend_type = 'slow'};
until_true($connected, 'it is connected');

sub is_so
{
	my ($state, $property) = @_;

	becomes(qq{SELECT concat_ws(' ', state, reason) = '$state' FROM supervisor.worker_status WHERE name = 'slow'}, "$property: $state");
}

note 'on its way out';
my $ddl = SupervisorTest::session($node);
my $pid = $ddl->pid;
append_to_file("$dir/after", '');
value(q{SELECT supervisor.restart_worker('slow', '0')});
until_true(q{SELECT state = 'stopping' FROM supervisor.worker_status WHERE name = 'slow'}, 'it is terminated');
$ddl->begin('ALTER DATABASE a RENAME TO b');
becomes("SELECT wait_event IS NOT NULL AND wait_event <> 'ClientRead' FROM pg_stat_activity WHERE pid = $pid", 'DDL waits for one that was asked to end before');
unlink "$dir/after";
is(join('', $ddl->finish), '', 'and succeeds');
until_true($connected =~ s/'a'/'b'/r, 'it is connected again');

note 'on its way in';
append_to_file("$dir/before", '');
my $generation = value(q{SELECT generation FROM supervisor.worker_status WHERE name = 'slow'});
value(q{SELECT supervisor.restart_worker('slow')});
is(value(qq{SELECT state, generation > $generation FROM supervisor.worker_status WHERE name = 'slow'}), 'running|t', 'another runs, and has not connected');
$ddl->query_safe('BEGIN; ALTER DATABASE b RENAME TO a');
is_so('waiting fenced', 'it makes way');
unlink "$dir/before";
$ddl->query_safe('COMMIT');
is_so('running', 'it may go on');
until_true($connected, 'it is connected');

note 'a first login';
# Nobody knows where it is about to go: it gets no further than the lock that the DDL has.
my $waits = q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND NOT granted AND objid = %s};
my $oid = value(q{SELECT oid FROM pg_database WHERE datname = 'a'});
$ddl->query_safe('BEGIN; ALTER DATABASE a RENAME TO b');
value(qq{SELECT supervisor.add_worker('first', library => '$library', function => 'takes_its_time', extra => '$dir', argument => $oid)});
becomes(sprintf($waits, $oid), 'the first login of a function waits for the lock of DDL');
is(value(q{SELECT state FROM supervisor.worker_status WHERE name = 'first'}), 'running', 'its process is there');
$ddl->query_safe('ROLLBACK');
becomes($connected =~ s/slow/first/r, 'it is let in when the DDL is over');
value(q{SELECT supervisor.stop_worker('first', '1 min')});
value('CREATE DATABASE c');
value(q{SELECT supervisor.alter_worker('first', argument => oid::int) FROM pg_database WHERE datname = 'c'});
$oid = value(q{SELECT oid FROM pg_database WHERE datname = 'c'});
$ddl->query_safe('BEGIN; ALTER DATABASE c RENAME TO d');
value(q{SELECT supervisor.start_worker('first', '1 min')});
becomes(sprintf($waits, $oid), 'so does one to another database than before');
$ddl->query_safe('COMMIT');
becomes($connected =~ s/'a'.*slow/'d' AND backend_type = 'first/r, 'which is let in, too');
$generation = value(q{SELECT generation FROM supervisor.worker_status WHERE name = 'first'});
$ddl->query_safe('BEGIN; ALTER DATABASE d RENAME TO c');
becomes(q{SELECT concat_ws(' ', state, reason) = 'waiting fenced' FROM supervisor.worker_status WHERE name = 'first'}, 'from then on it makes way before');
$ddl->query_safe('COMMIT');
value(q{SELECT supervisor.remove_worker('first')});

note 'stuck';
# How DDL ends, and whether it has waited for workers to leave before core did for everybody.
sub ends_without_waiting
{
	my ($command) = @_;
	my $waited = 0;
	my $ended = 0;
	my $own = SupervisorTest::session($node);
	my $its_pid = $own->pid;

	$own->begin($command);
	eventually(sub {
		my ($active, $waits) = split /\|/,
		  value("SELECT state = 'active', wait_event_type IS NOT DISTINCT FROM 'Extension' FROM pg_stat_activity WHERE pid = $its_pid");
		$waited ||= $waits eq 't';
		return $ended = $active eq 'f';
	});
	die "never ended: $command" if !$ended;
	my $error = ($own->finish)[1];
	$own->quit;
	return ($error =~ /ERROR:  (\w{5})/ ? $1 : '') . ($waited ? ', having waited' : '');
}

SupervisorTest::set($node, 'supervisor.stop_timeout' => '1s');
append_to_file("$dir/after", '');
value(q{SELECT supervisor.restart_worker('slow', '0')});
until_true(q{SELECT state = 'stuck' FROM supervisor.worker_status WHERE name = 'slow'}, 'it does not end');
is(ends_without_waiting('ALTER DATABASE a RENAME TO b'), '55006', 'DDL does not wait for one that is stuck');
unlink "$dir/after";
is_so('running', 'another takes its place');
until_true($connected, 'it is connected');

note 'a task that takes no signal';
SupervisorTest::set($node, 'supervisor.stop_timeout' => '1h');
my $lingers = SupervisorTest::build_library('lingers');
value('CREATE EXTENSION supervisor', dbname => 'a');
value("CREATE FUNCTION deaf(text) RETURNS void STRICT LANGUAGE C AS '$lingers'", dbname => 'a');
append_to_file("$dir/deaf", '');
my $task = (split /\|/, value("SELECT task, supervisor.forget(task) FROM supervisor.launch('SELECT deaf(''$dir/deaf'')') task", dbname => 'a'))[0];
until_true("SELECT state = 'running' FROM supervisor.task_status WHERE task = $task", 'it runs');
my $slot = value("SELECT slot FROM supervisor.task_status WHERE task = $task");
value("SELECT supervisor.restart_worker($slot, '0'), supervisor.terminate_worker($slot, '0')");
until_true("SELECT state = 'stopping' FROM supervisor.worker_status WHERE slot = $slot", 'it is terminated');
is(ends_without_waiting('ALTER DATABASE a RENAME TO b'), '55006', 'DDL does not wait for it');
is(value("SELECT w.state, t.state FROM supervisor.worker_status w JOIN supervisor.task_status t USING (slot) WHERE t.task = $task"), 'stopping|running', 'nor makes it count as stuck');
unlink "$dir/deaf";
becomes("SELECT state <> 'running' FROM supervisor.task_status WHERE task = $task", 'its task ends when it does');
$ddl->quit;

rmdir $dir;
done_testing();
