# Jobs are changed by whoever may: when they are due, where, in which order, and whether.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'manage_jobs',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1, paused:0, club:1(members)',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, n serial);
	CREATE ROLE members;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE watch LOGIN IN ROLE pg_signal_backend;
	GRANT ALL ON ran, ran_n_seq TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.retry_job, supervisor.alter_job TO PUBLIC});

# Enqueues a job that adds $i to the table; returns its number.
sub enqueue
{
	my ($i, $options, %opts) = @_;

	return value("SELECT supervisor.enqueue('INSERT INTO ran VALUES ($i)'" . (defined $options ? ", $options" : '') . ')', %opts);
}

sub job
{
	my ($job, $what) = @_;

	return value("SELECT $what FROM supervisor.job WHERE id = $job");
}

# All have run, in that order.
sub ran
{
	my ($expected, $property) = @_;
	my $n = () = $expected =~ /\d+/g;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT count(*) >= $n FROM ran", $property);
	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: none is left");
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY n), '') FROM ran}), $expected, "$property: each once");
	value('TRUNCATE ran');
}

note 'alter_job';

my $job = enqueue(1, q{run_at => 'infinity'});
value("BEGIN; SELECT supervisor.alter_job($job, run_at => now()); ROLLBACK");
is(job($job, 'run_at'), 'infinity', 'what is rolled back changes nothing');
is(value("SELECT supervisor.alter_job($job)"), 't', 'nor does one without arguments');
is(job($job, 'run_at, pool, priority, enabled'), 'infinity|default|5|t', 'all is as it was');
is(value("SELECT supervisor.alter_job($job, clock_timestamp() + interval '0.3 s')"), 't', 'one gets another time');
ran('1', 'when that comes');
is(value("SELECT supervisor.alter_job($job, now())"), 'f', 'one that has ended is not changed');

$job = enqueue(1, q{pool => 'paused'});
value("SELECT supervisor.alter_job($job, pool => 'one')");
ran('1', 'one gets another pool');

value('BEGIN; SELECT ' . join(', ', map { "supervisor.enqueue('INSERT INTO ran VALUES ($_)', pool => 'paused')" } 1 .. 3) . '; COMMIT');
value(q{SELECT supervisor.alter_job(id, priority => 4 - substring(command, '[0-9]+')::integer) FROM supervisor.job});
value(q{SELECT supervisor.alter_job(id, pool => 'one') FROM supervisor.job});
ran('3 2 1', 'they get other priorities');

$job = enqueue(1, q{run_at => now() + interval '0.5 s'});
is(value("SELECT supervisor.alter_job($job, enabled => false)"), 't', 'one is not enabled any more');
is(job($job, 'run_at, enabled, reason'), 'infinity|f|disabled', 'it waits');
refused("SELECT supervisor.retry_job($job)", '55000', 'it can\'t be run', hint => qr/enabled => true/);
value("SELECT supervisor.alter_job($job, enabled => true)");
ran('1', 'it is due when it was');
$job = enqueue(1, q{run_at => 'infinity'});
value("SELECT supervisor.alter_job($job, enabled => false); SELECT supervisor.alter_job($job, now())");
is(job($job, 'run_at'), 'infinity', 'one that is not enabled gets a time');
value("SELECT supervisor.alter_job($job, enabled => true)");
ran('1', 'for when it is');

$job = value(q{SELECT supervisor.schedule('a', '0 0 1 1 *', 'INSERT INTO ran VALUES (1)')});
value("SELECT supervisor.alter_job($job, enabled => false)");
is(job($job, 'run_at, enabled'), 'infinity|f', 'a recurring one is not enabled');
value("UPDATE supervisor.job SET next_at = now() - interval '1 day'");
value("SELECT supervisor.alter_job($job, enabled => true)");
is(job($job, 'run_at = next_at, run_at > now(), reason IS NULL'), 't|t|t', 'and makes up for nothing');
value("SELECT supervisor.alter_job($job, run_at => now())");
becomes('SELECT count(*) = 1 FROM ran', 'it runs once more');
becomes('SELECT runs = 1 AND run_at = next_at AND run_at > now() FROM supervisor.job', 'its schedule stays');

note 'retry_job';

is(value("SELECT supervisor.retry_job($job)"), 't', 'a recurring one is run at once');
becomes('SELECT count(*) = 2 FROM ran', 'and does what it does');
becomes('SELECT runs = 2 AND run_at = next_at AND run_at > now() FROM supervisor.job', 'its schedule stays');
value(q{SELECT supervisor.unschedule('a'); TRUNCATE ran});
$job = enqueue(1, q{run_at => now() + interval '1 h'});
is(value("SELECT supervisor.retry_job($job)"), 't', 'one that waits is run at once');
ran('1', 'it does what it does');
is(value("SELECT supervisor.retry_job($job)"), 'f', 'one that has ended is not run');

value('CREATE TABLE missing_not_yet (i integer); ALTER TABLE missing_not_yet RENAME TO later');
$job = value(q{SELECT supervisor.enqueue('INSERT INTO ran SELECT 1 FROM missing', max_attempts => 2, retry_delay => '0')});
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'one has failed');
refused("SELECT supervisor.alter_job($job, run_at => now())", '55000', 'it gets no other time', hint => qr/retry_job/);
is(value("SELECT supervisor.alter_job($job, priority => 1)"), 't', 'but another priority');
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT state = 'f' AND runs = 4 FROM supervisor.job}, 'it has all its attempts again');
is(job($job, 'attempts, reason'), '2|max_attempts', 'and has used them');
value('ALTER TABLE later RENAME TO missing; INSERT INTO missing VALUES (1)');
value("SELECT supervisor.retry_job($job)");
ran('1', 'once it can, it succeeds');

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
$job = value(q{SELECT supervisor.schedule('a', '@yearly', 'INSERT INTO ran VALUES (1); SELECT pg_advisory_xact_lock(1)')});
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
is(value("SELECT supervisor.retry_job($job)"), 't', 'it is to run again');
is(value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 1, 'but not beside itself');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) = 2 FROM ran', 'it does so after it');
becomes('SELECT runs = 2 AND run_at = next_at FROM supervisor.job', 'then its schedule goes on');
value(q{SELECT supervisor.unschedule('a'); TRUNCATE ran});
$locks->quit;

note 'whose they are';

$job = enqueue(1, q{run_at => 'infinity'}, user => 'alice');
foreach my $call ("retry_job($job)", "alter_job($job, priority => 1)")
{
	refused("SELECT supervisor.$call", '42501', "$call of another's", user => 'bob');
	is(value("SELECT supervisor.$call", user => $_), 't', "$call by $_") foreach $call =~ /retry/ ? () : ('alice', 'watch');
}
refused("SELECT supervisor.alter_job($job, pool => 'club')", '42501', 'a pool that its role may not use');
refused("SELECT supervisor.alter_job($job, pool => 'nix')", '42704', 'no pool');
refused("SELECT supervisor.alter_job($job, priority => 10)", '22023', 'no priority');
refused("SELECT supervisor.alter_job($job, run_at => '-infinity')", '22023', 'no time');
foreach my $function (qw(retry_job alter_job))
{
	refused("SELECT supervisor.$function(NULL)", '22004', "$function: no job");
	refused("SELECT supervisor.$function(1000000)", '42704', "$function: one that never was");
	refused("BEGIN READ ONLY; SELECT supervisor.$function($job)", '25006', "$function: read only");
}
value("SELECT supervisor.retry_job($job)", user => 'alice');
ran('1', 'one\'s own');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
