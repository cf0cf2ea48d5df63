# The wall clock is set while jobs wait: what is due by it is run, once; what takes time
# takes no more and no less.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes set_clock value with_clock);

plan skip_all => 'the clock is set by a library that the dynamic linker of Linux preloads' if $^O ne 'linux';

my $node = with_clock(sub {
	return SupervisorTest::new_node('main', 'autovacuum' => 'off', 'supervisor.pool_size' => 2, 'supervisor.job_retention' => '1h');
});
my $s = SupervisorTest::session($node);

SupervisorTest::ask(\$s);
SupervisorTest::wait_ready($node, 'default', 2);
value('CREATE TABLE ran (what text)');

sub enqueue
{
	my ($what, $options) = @_;

	return value("SELECT supervisor.enqueue('INSERT INTO ran VALUES (''$what'')'" . (defined $options ? ", $options" : '') . ')');
}

# One that comes now is run; and so is seen that the clock is another.
sub another_runs
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	enqueue('another');
	becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'another'}, "$property: one that comes now is run");
	value(q{DELETE FROM ran WHERE what = 'another'});
}

note 'forward by a day';

enqueue('soon', q{run_at => clock_timestamp() + interval '3 h'});
enqueue('next week', q{run_at => clock_timestamp() + interval '7 days'});
value(q{SELECT supervisor.schedule('hourly', '@hourly', 'INSERT INTO ran VALUES (''hourly'')')});
value(q{SELECT supervisor.schedule('often', '6 hours', 'INSERT INTO ran VALUES (''6 hours'')')});
my $fails = value(q{SELECT supervisor.enqueue('SELECT 1/0', retry_delay => '2 h')});
becomes("SELECT reason = 'retry' FROM supervisor.job_status WHERE job = $fails", 'one has failed');
my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $runs = value(q{SELECT supervisor.enqueue('SELECT pg_advisory_xact_lock(1)')});
becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $runs", 'one runs');
set_clock(86400);
another_runs('forward');
# when the supervisor, which sleeps until the first time of all these, has not looked since
enqueue('later', q{run_at => clock_timestamp() + interval '1 s'});
becomes(q{SELECT count(*) = 4 FROM ran}, 'what is due by the clock is run');
is(value(q{SELECT string_agg(what, ' ' ORDER BY what) FROM ran}), '6 hours hourly later soon', 'each once, however many times were missed');
becomes("SELECT attempts = 2 FROM supervisor.job_status WHERE job = $fails", 'so is what was to be tried again');
is(value("SELECT state FROM supervisor.job_status WHERE job = $runs"), 'running', 'who runs goes on');
is(value(q{SELECT bool_and(run_at > clock_timestamp() AND run_at <= clock_timestamp() + interval '7 days') FROM supervisor.job_status WHERE state = 'scheduled'}), 't',
	'the others wait for their time');
$locks->query_safe('SELECT pg_advisory_unlock(1)');
becomes("SELECT count(*) = 1 FROM supervisor.job_run WHERE job = $runs AND state = 'succeeded'", 'it ends as it should');
value("SELECT supervisor.cancel_job($fails); TRUNCATE ran");

note 'back by an hour';

my $waiting = q{SELECT string_agg(job || ' ' || run_at, ', ' ORDER BY job) FROM supervisor.job_status WHERE state = 'scheduled'};
my $before = value($waiting);
set_clock(-3600);
another_runs('back');
enqueue('later', q{run_at => clock_timestamp() + interval '1 s'});
becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'later'}, 'one that becomes due is run then');
is(value(q{SELECT count(*) FROM ran}), 1, 'and nothing that is not due');
is(value($waiting), $before, 'which waits');
value('TRUNCATE ran');

note 'forward while nothing happens';

# Nobody tells an idle server that its clock was set, so it looks once a minute while jobs wait.
enqueue('idle', q{run_at => clock_timestamp() + interval '2 days'});
set_clock(3 * 86400);
becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'idle'}, 'a job is run when it is due by the clock');
becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'hourly'}, 'and so is a recurring one');

note 'back by two days';

# One that recurs is not left out until the clock has come to the time that was its next: at a start of
# the server at the latest it gets one by the clock.  One that is run once waits for its time.
value('SELECT supervisor.cancel_job(job) FROM supervisor.job_status WHERE schedule IS NULL; TRUNCATE ran');
my $once = enqueue('once', q{run_at => clock_timestamp() + interval '1 h'});
my $once_at = value("SELECT run_at FROM supervisor.job_status WHERE job = $once");
set_clock(-2 * 86400);
$_->quit foreach $s, $locks;
with_clock(sub { $node->restart });
$s = SupervisorTest::session($node);
SupervisorTest::ask(\$s);
becomes(q{SELECT bool_and(run_at > clock_timestamp() AND run_at <= clock_timestamp() + interval '6 hours') FROM supervisor.job_status WHERE schedule IS NOT NULL},
	'those that recur come at the next times by the clock');
is(value(qq{SELECT run_at = '$once_at' AND run_at > clock_timestamp() + interval '1 day' FROM supervisor.job_status WHERE job = $once}), 't', 'one that is run once at its own');
another_runs('back by two days');
is(value('SELECT count(*) FROM ran'), 0, 'none is run before that');
set_clock(3600);
another_runs('an hour later');
becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'hourly'}, 'then they are run');
set_clock(2 * 86400);
another_runs('two days later');
becomes(q{SELECT string_agg(what, ' ' ORDER BY what) = '6 hours hourly hourly once' FROM ran}, 'and once for all times that were missed');

$s->quit;
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
