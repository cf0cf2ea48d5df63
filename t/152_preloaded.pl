# A worker is added whose function a preloaded library already runs itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(eventually value);

my $library = SupervisorTest::build_library('own_worker');
my %settings = (restart_after_crash => 'on', max_worker_processes => 16, dynamic_library_path => dirname($library) . ':$libdir');
my $node;

SupervisorTest::ask(\$node);

# Runs a command, and returns what psql has said.
sub said
{
	my ($sql) = @_;
	my ($sqlstate, $stderr) = SupervisorTest::error_of($node, $sql);

	die $stderr if defined $sqlstate;
	return $stderr;
}

my $add = q{BEGIN; SELECT supervisor.add_worker('mine', library => '%s', function => '%s'); ROLLBACK};
my $warning = qr/WARNING: .*function "own_main" of library "[^"]*own_worker[^"]*" has a background worker already/;
my $pid;

foreach my $preloaded ('supervisor, own_worker', 'own_worker, supervisor')
{
	$node = SupervisorTest::new_node("node_" . ($preloaded =~ /^own/ ? 'before' : 'after'), %settings, shared_preload_libraries => $preloaded);
	my $said;

	ok(eventually(sub { $said = said(sprintf $add, 'own_worker', 'own_main'); ($pid) = $said =~ /"worker of its own" itself, which runs as process (\d+)/ }),
		"$preloaded: who adds it is told who runs it");
	like($said, $warning, "$preloaded: that is a warning");
	like($said, qr/HINT: .*"supervisor\.take_over".*"shared_preload_libraries"/, "$preloaded: which says what to do");
	is(kill(0, $pid), 1, "$preloaded: there is that process");
	like(said(sprintf $add, $_, 'own_main'), $warning, "$preloaded: also by the name $_") foreach ($library, "$library.so", 'own_worker.so');
	unlike(said(sprintf $add, 'own_worker', 'other_main'), qr/WARNING/, "$preloaded: not for another function of it");
	unlike(said(sprintf $add, 'pg_prewarm', 'autoprewarm_main'), qr/WARNING/, "$preloaded: nor for another library");
	unlike(said(q{BEGIN; SELECT supervisor.add_worker('mine', 'SELECT 1'); ROLLBACK}), qr/WARNING/, "$preloaded: nor for a command");

	said(q{SELECT supervisor.add_worker('mine', library => 'own_worker', function => 'other_main')});
	like(said(q{BEGIN; SELECT supervisor.alter_worker('mine', function => 'own_main'); ROLLBACK}), $warning, "$preloaded: who alters one so is told, too");
	unlike(said(q{BEGIN; SELECT supervisor.alter_worker('mine', type => 'another'); ROLLBACK}), qr/WARNING/, "$preloaded: who alters something else is not");
	said(q{SELECT supervisor.remove_worker('mine')});

	# After a crash it is another process.
	my $session = SupervisorTest::session($node);
	kill 'KILL', $session->pid;
	eval { $session->quit };
	SupervisorTest::wait_true($node, q{SELECT count(*) > 0 FROM supervisor.pool_status});
	my $new;
	ok(eventually(sub { ($new) = said(sprintf $add, 'own_worker', 'own_main') =~ /runs as process (\d+)/; defined $new && $new != $pid }),
		"$preloaded: after a crash, it is known as well");

	kill 'TERM', $new;
	ok(eventually(sub { said(sprintf $add, 'own_worker', 'own_main') !~ /WARNING/ }), "$preloaded: nobody is told once it has ended for good");
	$node->stop;
}

$node = SupervisorTest::new_node('none', %settings);
unlike(said(sprintf $add, 'own_worker', 'own_main'), qr/WARNING/, 'nor where it is not preloaded');
$node->stop;

done_testing();
