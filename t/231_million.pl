# Many jobs at once: each runs once, however many wait, whosever they are, and whatever
# an old snapshot keeps from VACUUM; the processes need no more memory than for a few.
#
# There are thousands of jobs of one statement, hundreds of roles, and a hundred schedules.
# With PG_TEST_MILLION set there are 1,000,000, 10,000, and 1,000; then it tells its figures.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use List::Util qw(max);
use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes own_memory set_clock used_memory value with_clock);
use Time::HiRes qw(time);

plan skip_all => 'reads /proc, and sets the clock by a library that the dynamic linker of Linux preloads' if $^O ne 'linux';

my $full = $ENV{PG_TEST_MILLION};
my ($jobs, $roles, $schedules) = $full ? (1_000_000, 10_000, 1000) : (20_000, 300, 100);

# As in t/220_growth.pl: caches come and go, and the kernel counts pages.
my ($noise_used, $noise_own) = (20_000, 1024 * 1024);

# AddressSanitizer and valgrind take memory of the process themselves, and keep what is free
$noise_own = 'inf' if SupervisorTest::pg_config('cflags') =~ /-fsanitize|USE_VALGRIND/;

my $node = with_clock(sub {
	return SupervisorTest::new_node(
		'million',
		'autovacuum' => 'off',
		'jit' => 'off',
		'log_checkpoints' => 'off',
		'log_statement' => 'none',
		'max_wal_size' => '1GB',
		'supervisor.idle_timeout' => 0,
		'supervisor.pool_size' => 4,
		'supervisor.worker_lifetime' => 0);
});

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 4);
value(q{
	CREATE TABLE ran (i int);
	CREATE TABLE ran_as (role name DEFAULT session_user);
	CREATE TABLE ticks (job bigint DEFAULT supervisor.current_job());
	GRANT INSERT ON ran_as TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC});

sub figure
{
	my ($what) = @_;

	$full ? diag($what) : note($what);
}

# Waits until something is true, however long it takes: there is a limit only to how long nothing
# goes on, of what $progress counts.
sub goes_on_until
{
	my ($is_so, $progress, $property) = @_;
	my $count = -1;

	while (value("SELECT $is_so") ne 't')
	{
		last if !SupervisorTest::eventually(sub { value("SELECT $is_so OR ($progress) <> $count") eq 't' });
		$count = value($progress);
	}
	is(value("SELECT $is_so"), 't', $property) or diag "$progress is $count";
}

note "$jobs jobs";

my $session = SupervisorTest::session($node);
my $snapshot = SupervisorTest::session($node);
my $ran = 'SELECT count(*) FROM ran';

# All that may grow, by process.
sub measure
{
	my %pids = (
		supervisor => value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'}),
		session => $session->pid,
		map { /(\d+)\|(\d+)/ ? ("worker $1" => $2) : () } split /\n/, value(q{SELECT slot, pid FROM supervisor.worker_status WHERE kind = 'pool'}));

	return map { $_ => { pid => $pids{$_}, used => used_memory($node, $pids{$_}), own => own_memory($pids{$_}) } } keys %pids;
}

# The same processes need no more than before.
sub flat
{
	my ($before, $after, $property) = @_;
	my @grown;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $name (sort keys %$after)
	{
		my ($b, $a) = ($before->{$name} // {}, $after->{$name});
		my $line = sprintf '%s: contexts %d, then %d; own memory %d kB, then %d kB', $name, $b->{used} // 0, $a->{used}, ($b->{own} // 0) / 1024, $a->{own} / 1024;

		figure($line);
		push @grown, $line if $a->{pid} != ($b->{pid} // 0) || $a->{used} > $b->{used} + $noise_used || $a->{own} > $b->{own} + $noise_own;
	}
	ok(!@grown, $property) or diag join "\n", @grown;
}

# Enqueues so many by one statement; returns how long that took.
sub enqueue
{
	my ($first, $last) = @_;
	my $start = time;

	is($session->query_safe("SELECT count(supervisor.enqueue('INSERT INTO ran VALUES (\$1)', ARRAY[i::text])) FROM generate_series($first, $last) i"),
		$last - $first + 1, 'enqueued by one statement');
	return time - $start;
}

# From now on no dead row goes.
my $few = 2000;
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM supervisor.job');
enqueue(1, $few);
goes_on_until("($ran) = $few", $ran, 'a few are run');
my %before = measure();

SupervisorTest::set($node, 'supervisor.run_jobs' => 'off');
my $took = enqueue($few + 1, $few + $jobs);
my $start = time;
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on');
goes_on_until("($ran) = $jobs + $few", $ran, 'all are run');
figure(sprintf '%d jobs: enqueued in %.1f s, run in %.1f s, %d a second', $jobs, $took, time - $start, $jobs / (time - $start));
becomes('SELECT count(*) = 0 FROM supervisor.job', 'none is left');
is(value('SELECT count(DISTINCT i), min(i), max(i) FROM ran'), join('|', $jobs + $few, 1, $jobs + $few), 'each was run once');
is(value(q{SELECT count(*), count(DISTINCT job), count(*) FILTER (WHERE state = 'succeeded' AND attempt = 1) FROM supervisor.job_history}),
	join('|', ($jobs + $few) x 3), 'and is noted once');
my %after = measure();
flat(\%before, \%after, 'no process has grown');
is(value(q{SELECT count(DISTINCT pid) FROM supervisor.job_history}), 4, 'by four workers');
is($snapshot->query_safe('SELECT count(*) FROM supervisor.job'), 0, 'the snapshot is as old as before');

# If each look went through what is dead, this were some hundred thousand times as much.
my $read = 0;
SupervisorTest::eventually(sub { ($read = value(q{SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'job_place'})) >= $jobs });
cmp_ok($read, '>=', $jobs, 'looks go by the index');
cmp_ok($read, '<', 10 * $jobs, 'and see no dead row again and again');
figure(sprintf '%.2f entries of the index are read for a job; the table has %s, its index %s', $read / $jobs,
	split(/\|/, value(q{SELECT pg_size_pretty(pg_table_size('supervisor.job')), pg_size_pretty(pg_relation_size('supervisor.job_place'))})));
$snapshot->query_safe('COMMIT');

note "$roles roles";

value("DO \$\$ BEGIN FOR i IN 1 .. $roles LOOP EXECUTE 'CREATE ROLE r' || i || ' LOGIN'; END LOOP; END \$\$");
value("DO \$\$ BEGIN
	FOR i IN 1 .. $roles LOOP
		PERFORM set_config('role', 'r' || i, true);
		PERFORM supervisor.enqueue('INSERT INTO public.ran_as DEFAULT VALUES', run_at => clock_timestamp() + interval '5 h');
	END LOOP;
END \$\$");
is(value('SELECT count(DISTINCT usename) FROM supervisor.job_status WHERE state = \'scheduled\''), $roles, 'each has a job of later');
$start = time;
set_clock(5 * 3600 + 10);
$session->query_safe(q{SELECT supervisor.enqueue('INSERT INTO public.ran_as DEFAULT VALUES')});
$ran = 'SELECT count(*) FROM ran_as';
goes_on_until("($ran) = $roles + 1", $ran, 'all are run when they are due');
figure(sprintf '%d roles: their jobs have run in %.1f s', $roles, time - $start);
becomes('SELECT count(*) = 0 FROM supervisor.job', 'none is left');
is(value('SELECT count(DISTINCT role) FROM ran_as'), $roles + 1, 'each once, as its role');

note "$schedules schedules";

value("SELECT count(supervisor.schedule('s' || i, '\@daily', 'INSERT INTO ticks DEFAULT VALUES', time_zone => 'UTC')) FROM generate_series(1, $schedules) i");
my ($midnight, $wait) = split /\|/,
  value(q{SELECT min(run_at), floor(extract(epoch FROM min(run_at) - clock_timestamp())) FROM supervisor.job_status});
is(value('SELECT count(*) FROM supervisor.job_status WHERE run_at = ' . SupervisorTest::quote($midnight)), $schedules, 'all are due in the same second');
set_clock($wait - 1) if $wait > 1;
$session->query_safe(q{SELECT supervisor.enqueue('SELECT 1', run_at => clock_timestamp() + interval '1 s')});
$start = time;
$ran = 'SELECT count(*) FROM ticks';
goes_on_until("($ran) = $schedules", $ran, 'all are run');
figure(sprintf '%d schedules: run in %.1f s', $schedules, time - $start);
becomes(qq{SELECT bool_and(run_at = '$midnight'::timestamptz + interval '1 day' AND state = 'scheduled') FROM supervisor.job_status WHERE name IS NOT NULL}, 'all wait for the next day');
is(value('SELECT count(*), count(DISTINCT job) FROM ticks'), "$schedules|$schedules", 'each was run once');
is(value(qq{SELECT count(*), count(DISTINCT name) FROM supervisor.job_run WHERE name IS NOT NULL AND state = 'succeeded' AND run_at = '$midnight'}), "$schedules|$schedules",
	'for that second, as is noted');

$_->quit foreach $session, $snapshot;
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
