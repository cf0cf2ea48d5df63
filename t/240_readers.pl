# Sessions that only read what depends on temporary objects do not keep a worker in its exit
# for ever, though each has its half minute, and their roles take turns: in five minutes it
# is over, and until then none of them is disturbed.
#
# It takes so long, so it is done with PG_TEST_READERS=1 only.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use IPC::Run;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value);

plan skip_all => 'takes minutes: PG_TEST_READERS is not set' if !$ENV{PG_TEST_READERS};

# Each reads for 25 s, and the next one begins 8 s after it: for longer than all may.
my ($readers, $reads, $turn) = (55, 25, 8);

$PostgreSQL::Test::Utils::timeout_default = 600;

my $node = SupervisorTest::new_node('readers', 'max_connections' => 100, 'deadlock_timeout' => '1s', 'supervisor.pool_size' => 1);

SupervisorTest::ask(\$node);
value(q{CREATE ROLE alice LOGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice;} . join '', map { "CREATE ROLE r$_ LOGIN;" } 1 .. $readers);

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $alice = SupervisorTest::session($node, user => 'alice');
my $task = $alice->query_safe(q{SELECT supervisor.launch('CREATE TEMP VIEW seen AS SELECT 1 FROM pg_class; CREATE TEMP VIEW sees AS SELECT 1 FROM seen; COMMIT; SELECT pg_advisory_lock_shared(1)')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a task has made temporary views');
my $worker = value(q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool'});
my $view = value(q{SELECT oid FROM pg_class WHERE relname = 'sees'});
my @output;
my @readers = map {
	IPC::Run::start([ 'psql', '-XAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') . " user=r$_", '-c', 'SELECT pg_sleep(' . ($_ - 1) * $turn . ')',
			'-c', 'BEGIN', '-c', "SELECT 'reads' FROM pg_get_viewdef($view)", '-c', "SELECT 'has read' FROM pg_sleep($reads)" ], '>', \$output[$_], '2>', \my $error)
} 1 .. $readers;
until_true(q{SELECT count(*) = 1 FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE relname = 'sees' AND granted}, 'one reads');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
is($alice->query_safe("SELECT supervisor.wait($task)"), 'succeeded', 'the task ends');
becomes("SELECT count(*) = 1 FROM supervisor.worker_status WHERE pid = $worker AND state = 'stuck'", 'its worker waits for a reader');
becomes("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker", 'and ends');
cmp_ok(value(q{SELECT count(*) FROM pg_stat_activity WHERE usename ~ '^r\d'}), '>', 5, 'while others are still to come');
like(slurp_file($node->logfile), qr/terminating process \d+, which keeps temporary objects/, 'as those who read have been terminated');
$_->pump_nb foreach @readers;
my $undisturbed = grep { ($output[$_] // '') =~ /has read/ } 1 .. $readers;
note "$undisturbed have read";
cmp_ok($undisturbed, '>', (300 - 64) / $turn - 3, 'and not those of the first minutes');
is(value(q{SELECT count(*) FROM pg_class WHERE relname IN ('seen', 'sees')}), 0, 'nothing is left');
$_->kill_kill foreach @readers;
$_->quit foreach $locks, $alice;
$node->stop('immediate');
done_testing();
