# Runs that have ended are kept for as long as the settings say, and no longer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my $node = SupervisorTest::new_node(
	'prune',
	'wal_level' => 'logical',
	'supervisor.pool_size' => 2,
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value('CREATE PUBLICATION everything FOR ALL TABLES');

# Set the two settings, and have them read.
sub retention
{
	my ($runs, $others) = @_;

	value("ALTER SYSTEM SET supervisor.job_retention = '$runs'");
	value("ALTER SYSTEM SET supervisor.job_failure_retention = '$others'");
	value('SELECT pg_reload_conf()');
}

# One run of each kind.
sub run_each
{
	my ($before) = @_;

	value(q{SELECT supervisor.enqueue('SELECT 1'), supervisor.enqueue('SELECT 1/0', max_attempts => 1), supervisor.enqueue('SELECT 2', run_at => 'infinity'),
			supervisor.schedule('a', '@yearly', 'SELECT 3');
		SELECT supervisor.cancel_job(id) FROM supervisor.job WHERE command = 'SELECT 2';
		SELECT supervisor.retry_job(id) FROM supervisor.job WHERE command = 'SELECT 3'});
	becomes('SELECT count(*) = ' . (4 + ($before // 0)) . ' FROM supervisor.job_history', 'one of each kind has ended');
	value(q{DELETE FROM supervisor.job});
}

my $kinds = q{SELECT coalesce(string_agg(state || coalesce(' ' || name, ''), ', ' ORDER BY state, name NULLS FIRST), '') FROM supervisor.job_history};

run_each();
$node->restart;
value(q{SELECT supervisor.execute('SELECT 1')});
is(value($kinds), 'canceled, failed, succeeded, succeeded a', 'they are kept');
retention('1 s', '7 d');
becomes(q{SELECT count(*) = 3 FROM supervisor.job_history}, 'of a job that runs once, what succeeded goes first');
is(value($kinds), 'canceled, failed, succeeded a', 'all others stay');
value(q{SELECT supervisor.enqueue('SELECT 1')});
becomes(q{SELECT last_value >= 5 FROM supervisor.job_id_seq}, 'another one');
becomes(q{SELECT count(*) = 0 FROM supervisor.job}, 'has run');
becomes(q{SELECT count(*) = 3 FROM supervisor.job_history}, 'it goes without being asked');
retention('1 d', '1 s');
becomes(q{SELECT count(*) = 0 FROM supervisor.job_history}, 'the others go');
value(q{SELECT supervisor.enqueue('SELECT 1')});
becomes(q{SELECT count(*) = 0 FROM supervisor.job}, 'one has run');
value(q{SELECT supervisor.enqueue('SELECT 1/0', max_attempts => 1)});
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'another fails');
becomes(q{SELECT count(*) = 1 FROM supervisor.job_history}, 'what is kept for less goes first');
is(value($kinds), 'succeeded', 'the other stays');
value(q{DELETE FROM supervisor.job});

retention('0', '0');
value(q{SELECT count(supervisor.enqueue('SELECT 1')) FROM generate_series(1, 2500)});
becomes(q{SELECT count(*) = 0 FROM supervisor.job}, 'many run');
value('DROP PUBLICATION everything');
value(q{UPDATE supervisor.job_history SET finished_at = finished_at - interval '1 year'});
$node->restart;
run_each(2501);
retention('1 h', '1 h');
becomes(q{SELECT count(*) = 4 FROM supervisor.job_history}, 'many go');
is(value($kinds), 'canceled, failed, succeeded, succeeded a', 'and not what is newer');
value(q{UPDATE supervisor.job_history SET finished_at = now() - interval '59 min' WHERE name = 'a'});
retention('1 h', '58 min');
becomes(q{SELECT count(*) = 3 FROM supervisor.job_history}, 'what is old enough goes');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status|could not read the declared workers or jobs(?!.*could not obtain lock))/m, 'nothing unexpected in the log');
done_testing();
