# Jobs in prepared transactions: what is prepared is neither there nor lost, also over
# restarts, and ends as the transaction does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my $node = SupervisorTest::new_node(
	'prepared_jobs',
	'max_prepared_transactions' => 10,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, other:0',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, n serial);
	CREATE ROLE alice LOGIN;
	GRANT ALL ON ran, ran_n_seq TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC});

sub job
{
	my ($i, $options) = @_;

	return "SELECT supervisor.enqueue('INSERT INTO ran VALUES ($i)'" . (defined $options ? ", $options" : '') . ')';
}

sub prepare
{
	my ($name, @commands) = @_;

	value(join('; ', 'BEGIN', @commands, "PREPARE TRANSACTION '$name'"));
}

# These have run, once each, and no job is left but so many.
sub ran
{
	my ($expected, $left, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $n = () = $expected =~ /\d+/g;

	becomes("SELECT count(*) = $n FROM ran", $property);
	becomes("SELECT count(*) = $left FROM supervisor.job", "$property: $left are left");
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY i), '') FROM ran}), $expected, "$property: each once");
}

# A job that comes now is run, and nothing else.
sub nothing_else
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $others = value('SELECT count(*) FROM ran');

	value(job(99, 'priority => 9'));
	becomes('SELECT count(*) = 1 FROM ran WHERE i = 99', "$property: another job is run");
	is(value('DELETE FROM ran WHERE i = 99; SELECT count(*) FROM ran'), $others, "$property: and nothing else");
}

# What may come between PREPARE and its end.
my %between = (
	nothing => sub { },
	'a restart' => sub { $node->restart },
	'a crash' => sub { $node->stop('immediate'); $node->start; });

foreach my $between (sort keys %between)
{
	note "enqueue, $between";

	prepare('committed', job(1), job(2, q{run_at => clock_timestamp() + interval '0.2 s'}), 'SAVEPOINT a', job(3), 'ROLLBACK TO a', 'SAVEPOINT b', job(4), 'RELEASE b',
		job(5, q{pool => 'one', priority => 0}), job(6, q{run_at => 'infinity'}), 'SET LOCAL ROLE alice', job(7));
	prepare('rolled back', job(8), job(9, q{priority => 0}));
	$between{$between}->();
	nothing_else("$between: what is prepared is not there");
	value(q{ROLLBACK PREPARED 'rolled back'});
	nothing_else("$between: what is rolled back neither");
	value(q{COMMIT PREPARED 'committed'});
	ran('1 2 4 5 7', 1, "$between: what is committed is run");
	is(value('SELECT count(DISTINCT job) FROM supervisor.job_run r JOIN ran ON command LIKE \'%(\' || i || \')\''), 5, "$between: and noted");
	value(q{DELETE FROM supervisor.job; TRUNCATE ran; TRUNCATE supervisor.job_history});

	note "changes, $between";

	# of jobs that wait: rows that such a transaction has locked
	my %job = map { $_->[0] => value(job($_->[1], q{run_at => 'infinity'})) } [ retry => 11 ], [ alter => 12 ], [ cancel => 13 ], [ kept => 14 ];
	my $named = value(q{SELECT supervisor.schedule('named', '@yearly', 'INSERT INTO ran VALUES (15)')});
	value(q{SELECT supervisor.schedule('gone', '@yearly', 'INSERT INTO ran VALUES (16)')});
	prepare('changes', "SELECT supervisor.retry_job($job{retry})", "SELECT supervisor.alter_job($job{alter}, now())", "SELECT supervisor.cancel_job($job{cancel})",
		q{SELECT supervisor.schedule('named', '1 s', 'INSERT INTO ran SELECT 17 WHERE NOT EXISTS (SELECT FROM ran WHERE i = 17)')}, q{SELECT supervisor.unschedule('gone')});
	prepare('kept', "SELECT supervisor.cancel_job($job{kept})");
	$between{$between}->();
	nothing_else("$between: what is prepared has changed nothing");
	is(value('SELECT count(*) FROM supervisor.job_status'), 6, "$between: all are there");
	value(q{ROLLBACK PREPARED 'kept'; COMMIT PREPARED 'changes'});
	becomes('SELECT count(*) = 3 FROM ran', "$between: committed");
	is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '11 12 17', "$between: it has changed what it has");
	is(value(q{SELECT string_agg(coalesce(name, job::text), ' ' ORDER BY job) FROM supervisor.job_status}), "$job{kept} named", "$between: what was canceled is gone, and else nothing");
	is(value("SELECT state FROM supervisor.job_run WHERE job = $job{cancel}"), 'canceled', "$between: as is noted");
	value("SELECT supervisor.unschedule('named'), supervisor.retry_job($job{kept})");
	becomes('SELECT count(*) = 1 FROM ran WHERE i = 14', "$between: what was to be canceled, and is not, is run");
	value(q{DELETE FROM supervisor.job; TRUNCATE ran});

	# of a job that can be run meanwhile: it is passed over, and told at the end, whatever that is
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		my $due = value(job(21, q{pool => 'other'}));

		prepare('due', "SELECT supervisor.alter_job($due, priority => 1)");
		SupervisorTest::set($node, 'supervisor.pools' => 'one:1, other:1');
		$between{$between}->();
		becomes(q{SELECT size = 1 FROM supervisor.pool_status WHERE pool = 'other'}, "$between: the pool has a worker");
		becomes("SELECT state = 'queued' AND reason IS DISTINCT FROM 'paused' FROM supervisor.job_status WHERE job = $due", "$between: one is due whose row is locked");
		nothing_else("$between: it waits");
		value("$end PREPARED 'due'");
		ran('21', 0, "$between: $end: it is run");
		SupervisorTest::set($node, 'supervisor.pools' => 'one:1, other:0');
		becomes(q{SELECT size = 0 FROM supervisor.pool_status WHERE pool = 'other'}, 'the pool has none any more');
		value('TRUNCATE ran');
	}
}

note 'a job that runs';

# What is prepared meanwhile, its end waits for.
my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $runs = value(q{SELECT supervisor.enqueue('INSERT INTO ran SELECT 31 FROM pg_advisory_xact_lock(1)')});
becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $runs", 'one runs');
prepare('beside', "SELECT supervisor.alter_job($runs, priority => 1)");
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes("SELECT count(*) = 1 FROM pg_stat_activity JOIN supervisor.job_status USING (pid) WHERE job = $runs AND wait_event_type = 'Lock'", 'its end waits for a prepared transaction');
nothing_else('others do not');
value(q{COMMIT PREPARED 'beside'});
ran('31', 0, 'then it ends');
value('TRUNCATE ran');

# It prepares one itself, which has no note of it.
value(q{SELECT supervisor.enqueue('BEGIN; INSERT INTO ran VALUES (41); PREPARE TRANSACTION ''by job''', atomic => false)});
becomes(q{SELECT count(*) = 1 FROM pg_prepared_xacts}, 'a job that is not atomic prepares a transaction');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'and is done');
value(q{COMMIT PREPARED 'by job'});
ran('41', 0, 'it is committed');
$locks->quit;
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
$node->stop;
done_testing();
