# DDL on a database makes way for C functions as well that are on their way in, or out.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value);

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
$ddl->quit;

rmdir $dir;
done_testing();
