# While the postmaster can't fork, it neither tries without a pause nor fills the log.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes eventually);

plan skip_all => 'prlimit is not there' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = SupervisorTest::new_node(
	'main',
	'autovacuum' => 'off',
	'log_min_messages' => 'warning',
	'supervisor.pool_size' => 2);

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my $session = SupervisorTest::session($node);
my $restarts = q{SELECT sum(restarts) FROM supervisor.worker_status WHERE kind = 'pool'};

# While it can't, this session is the only one.
my ($limit) = `prlimit --pid $postmaster --nproc --output SOFT --noheadings` =~ /(\w+)/;
my $before = $session->query_safe($restarts);
my $offset = -s $node->logfile;
system('prlimit', '--pid', $postmaster, '--nproc=1:') == 0 or die 'could not set the limit';
$session->query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'logical replication launcher'});
if (!eventually(sub { slurp_file($node->logfile, $offset) =~ /could not fork/ }))
{
	system('prlimit', '--pid', $postmaster, "--nproc=$limit:");
	plan skip_all => 'the limit does not count';
}
$session->query(q{SELECT count(supervisor.terminate_worker(slot, '0')) FROM supervisor.worker_status WHERE kind = 'pool'});
$offset = -s $node->logfile;
ok(eventually(sub { $session->query_safe($restarts) >= $before + 8 }), 'workers that can not be forked are tried again');
my $tries = $session->query_safe($restarts) - $before;
my $lines = () = slurp_file($node->logfile, $offset) =~ /could not fork \S*\s*worker process/g;
cmp_ok($lines, '>', 0, 'the log says that they can not');

# Up to two for each, and those of the launcher of logical replication, which waits longer.
cmp_ok($lines, '<=', 4 * $tries, 'once or twice for each try');
system('prlimit', '--pid', $postmaster, "--nproc=$limit:") == 0 or die 'could not reset the limit';
becomes(q{SELECT running = 2 FROM supervisor.pool_status}, 'they are there when they can be');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and serve');
$session->quit;
$node->stop;
done_testing();
