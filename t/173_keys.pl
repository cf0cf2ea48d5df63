# Jobs of one role and key run one at a time, over all pools; identical ones that wait
# are done as one, and others are not held up by them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my $node = SupervisorTest::new_node(
	'keys',
	'max_prepared_transactions' => 5,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'other:2, paused:0',
	'supervisor.restart_delay' => '50ms',
	'supervisor.restart_delay_max' => '50ms',
	'supervisor.max_workers' => 8);
my $library = SupervisorTest::build_library('poison');

SupervisorTest::ask(\$node);
value(qq{CREATE FUNCTION poison(text) RETURNS integer AS '$library' LANGUAGE C STRICT});
value(q{
	CREATE TABLE ran (i integer, at bigint GENERATED ALWAYS AS IDENTITY, job bigint DEFAULT supervisor.current_job());
	CREATE TABLE beside (key text);
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE strict LOGIN;
	GRANT ALL ON ran, beside TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC;
	-- is another one of that key running?
	CREATE FUNCTION alone(text) RETURNS void LANGUAGE plpgsql AS
		'BEGIN IF NOT pg_try_advisory_xact_lock(7, hashtext($1)) THEN RAISE EXCEPTION ''beside''; END IF; END'});

sub enqueue
{
	my ($command, $options, %opts) = @_;

	my $role = delete $opts{role};
	return value((defined $role ? "SET ROLE $role; " : '') . 'SELECT supervisor.enqueue($job$' . $command . '$job$, retry_delay => $$0$$' . (defined $options ? ", $options" : '') . ')', %opts);
}

# A job that does so, once the lock is free; it has begun when this returns.
my $locks = SupervisorTest::session($node);
my $waits = q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted};

sub begin
{
	my ($command, $options, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$locks->query_safe('SELECT pg_advisory_lock(1)');
	my $job = enqueue("SELECT pg_advisory_xact_lock(1); $command", $options, %opts);
	becomes($waits, 'one runs');
	return $job;
}

sub go_on
{
	$locks->query_safe('SELECT pg_advisory_unlock(1)');
	return;
}

sub ran
{
	my ($expected, $property, $order) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$order //= 'at';
	becomes("SELECT string_agg(i::text, ' ' ORDER BY $order) = '$expected' FROM ran", $property);
}

# No job is left, and they have run in that order.
sub all_ran
{
	my ($expected, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes('SELECT count(*) = 0 FROM supervisor.job', "$property: none is left");
	is(value(q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY at), '') FROM ran}), $expected, $property);
	value('TRUNCATE ran');
}

sub insert
{
	my ($i) = @_;

	return "INSERT INTO ran VALUES ($i)";
}

# Of jobs: into which they were merged.
sub merged
{
	return value(qq{SELECT string_agg(coalesce(merged_into::text, '-'), ' ' ORDER BY job) FROM supervisor.job_history WHERE job IN ($_[0])});
}

note 'one at a time';

my $keyed = q{key => 'k'};
begin(insert(1), $keyed);
enqueue(insert(2), $keyed);
enqueue(insert(3), "$keyed, pool => 'other'");
enqueue(insert(4), q{key => 'another'});
ran('4', 'one of another key is run');
enqueue(insert(5), "$keyed, pool => 'other'", user => 'alice');
ran('4 5', 'and another role\'s of that key');
enqueue(insert(6));
ran('4 5 6', 'and one without a key');
go_on();
becomes('SELECT count(*) = 0 FROM supervisor.job', 'all are run');
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '1 2 3 4 5 6', 'once');
value('TRUNCATE ran');

value('SELECT ' . join ', ', map { "supervisor.enqueue('INSERT INTO ran VALUES ($_)', $keyed)" } 1 .. 4);
all_ran('1 2 3 4', 'those that are enqueued at once');

begin(insert(1), "$keyed, pool => 'other'");
enqueue(insert(2), "$keyed, pool => 'other'");
enqueue(insert(3), "$keyed, pool => 'other', priority => 0");
enqueue(insert(4), "$keyed, pool => 'other', priority => 9");
enqueue(insert(5), "pool => 'other', priority => 9");
ran('5', 'one without a key is not held up');
go_on();
all_ran('5 1 3 2 4', 'those of one queue are run in order');

begin(insert(1), $keyed);
my $later = enqueue(insert(2), "$keyed, run_at => clock_timestamp() + interval '1 h'");
my $paused = enqueue(insert(3), "$keyed, pool => 'paused'");
enqueue(insert(4), $keyed);
go_on();
ran('1 4', 'one that is not due, or can\'t begin, holds up none');
value("SELECT supervisor.alter_job($later, run_at => clock_timestamp())");
ran('1 4 2', 'until it is due');
value("SELECT supervisor.alter_job($paused, pool => 'other')");
all_ran('1 4 2 3', 'until it can');

# They would meet if they could.
value(q{
	INSERT INTO beside SELECT supervisor.enqueue(format($$SELECT alone(%L), pg_sleep(0.002); INSERT INTO ran VALUES (%s)$$, k, i),
		key => k, priority => i % 3, pool => CASE i % 2 WHEN 0 THEN 'other' END, max_attempts => 1)
	FROM (SELECT i, 'key ' || i % 5 AS k FROM generate_series(1, 300) i) s});
becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w'}, 'many of some keys are run');
is(value('SELECT count(*), count(DISTINCT i) FROM ran'), '300|300', 'each once');
is(value(q{SELECT count(*) FROM supervisor.job_history WHERE state <> 'succeeded'}), 0, 'and none beside another of its key');
value('TRUNCATE ran, beside; TRUNCATE supervisor.job_history; DELETE FROM supervisor.job');

note 'identical ones';

my $first = begin(insert(1), $keyed);
my @same = map { enqueue(insert(2), "$keyed, priority => " . ($_ % 2)) } 1 .. 4;
my $other = enqueue(insert(2), "$keyed, pool => 'other'");
my @different = (
	enqueue(insert(3), $keyed),
	enqueue('INSERT INTO ran VALUES ($1)', "$keyed, params => '{4}'", ),
	enqueue('INSERT INTO ran VALUES ($1)', "$keyed, params => '{5}'"));
my $future = enqueue(insert(2), "$keyed, run_at => now() + interval '1 h'");
my $held = enqueue(insert(2), "$keyed, run_at => 'infinity'");
my $again = enqueue(insert(2), "$keyed, atomic => false, priority => 9");
my $alice = enqueue(insert(2), "$keyed, run_at => now() + interval '1 h'", user => 'alice');
go_on();
becomes('SELECT count(*) = 3 FROM supervisor.job', 'identical ones are run');
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '1 2 2 3 4 5', 'as one; what differs is run by itself');
my ($into) = value('SELECT job FROM ran WHERE i = 2 ORDER BY at LIMIT 1');
my $all = join ', ', @same, $other;
is(merged($all), join(' ', map { $_ == $into ? '-' : $into } @same, $other), 'each is noted');
is(merged(join ', ', $first, @different, $again), '- - - - -', 'what was not merged as well');
is(value("SELECT count(DISTINCT (started_at, pid, tag)), string_agg(DISTINCT state || ' ' || attempt, ',') FROM supervisor.job_history WHERE job IN ($all)"), '1|succeeded 1', 'as that run');
value('TRUNCATE ran; DELETE FROM supervisor.job');

enqueue(insert(1), "$keyed, atomic => false, pool => 'paused'") foreach 1 .. 3;
value(q{SELECT supervisor.alter_job(id, pool => 'default') FROM supervisor.job});
all_ran('1', 'identical ones that may run again');

foreach my $isolation ('read committed', 'repeatable read', 'serializable')
{
	value("ALTER ROLE strict SET default_transaction_isolation = '$isolation'; ALTER ROLE strict SET default_transaction_read_only = " . ($isolation eq 'serializable' ? 'on' : 'off'));
	$first = begin('SELECT 1', $keyed, role => 'strict');
	@same = map { enqueue('SELECT 2', $keyed, role => 'strict') } 1 .. 3;
	go_on();
	becomes('SELECT count(*) = 0 FROM supervisor.job', "identical ones are run ($isolation)");
	is(merged(join ', ', @same), "- $same[0] $same[0]", "as one ($isolation)");
}

# What has come after the run has read its data is not done by it.
$locks->query_safe('SELECT pg_advisory_lock(1)');
my $command = 'SELECT pg_advisory_xact_lock(1); INSERT INTO ran VALUES (1)';
$first = enqueue($command, $keyed);
becomes($waits, 'one runs');
@same = map { enqueue($command, $keyed) } 1 .. 2;
go_on();
all_ran('1 1', 'identical ones that come during the run');
is(merged(join ', ', $first, @same), "- - $same[0]", 'are done after it');

# Of one that fails none is done.
value('CREATE SEQUENCE tries');
begin('SELECT 1', $keyed);
@same = map { enqueue(q{INSERT INTO ran SELECT 1 / (nextval('tries') - 1)}, "$keyed, max_attempts => 1") } 1 .. 3;
go_on();
becomes(q{SELECT string_agg(state::text, '') = 'f' FROM supervisor.job}, 'one fails, and the others are run');
is(merged(join ', ', @same), "- - $same[1]", 'as one, but not as that one');
value('DELETE FROM supervisor.job; TRUNCATE ran');

# Who has one in an open transaction has it still.
my $session = SupervisorTest::session($node);
foreach my $end ('COMMIT', 'ROLLBACK')
{
	begin('SELECT 1', $keyed);
	@same = map { enqueue(insert(1), $keyed) } 1 .. 3;
	$session->query_safe("BEGIN; SELECT supervisor.alter_job($same[1], run_at => '2000-01-01'); UPDATE supervisor.job SET params = '{}' WHERE false");
	go_on();
	becomes('SELECT count(*) = 1 FROM supervisor.job', 'all others are run');
	is(merged(join ', ', @same[ 0, 2 ]), "- $same[0]", 'as one');
	$session->query_safe($end);
	all_ran('1 1', "one that somebody changes runs when he has ($end)");
}
begin('SELECT 1', $keyed);
@same = map { enqueue(insert(1), $keyed) } 1 .. 3;
value("SELECT supervisor.cancel_job($same[0])");
go_on();
all_ran('1', 'those of which one is canceled');
is(value(qq{SELECT string_agg(state, ' ' ORDER BY job) FROM supervisor.job_history WHERE job IN ($same[0], $same[1], $same[2])}), 'canceled succeeded succeeded', 'are the others');

# More than are done as one, and more than are looked at.
begin(insert(1), $keyed);
value(qq{SELECT count(supervisor.enqueue('INSERT INTO ran VALUES (2)', key => 'k')) FROM generate_series(1, 2500)});
go_on();
all_ran('1 2 2 2', 'many identical ones');
begin(insert(1), $keyed);
value(qq{SELECT count(supervisor.enqueue(format('INSERT INTO ran SELECT %s WHERE %s = 1', 2, i), key => 'k', run_at => now() - interval '1 s' * i)) FROM generate_series(1, 250) i});
go_on();
all_ran('1 2', 'many that differ');

note 'others are not held up';

begin(insert(1), $keyed);
value(q{SELECT count(supervisor.enqueue('SELECT $1', params => ARRAY[i::text], key => 'k', priority => i % 2)) FROM generate_series(1, 100000) i});
enqueue(insert(2), q{key => 'another', priority => 9});
enqueue(insert(3), q{priority => 9});
ran('2 3', 'those behind 100,000 of a key are run while one of it runs', 'i');
go_on();
becomes('SELECT count(*) < 99900 FROM supervisor.job', 'then they are run');
enqueue(insert(4), q{priority => 9});
ran('1 2 3 4', 'and others beside them', 'i');
value('DELETE FROM supervisor.job');
becomes(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker' AND state = 'active'}, 'they end');
enqueue(insert(5), $keyed);
ran('1 2 3 4 5', 'the key is free once they are gone', 'i');
value('TRUNCATE ran');

note 'who has the next one';

# The one that is found for the others is canceled, altered, locked.
foreach my $what ('cancel_job(%s)', q{alter_job(%s, pool => 'other')}, q{alter_job(%s, run_at => 'infinity')}, 'alter_job(%s, priority => 9)', 'retry_job(%s)')
{
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		begin(insert(0), $keyed);
		@same = map { enqueue(insert($_), $keyed) } 1 .. 3;
		enqueue(insert(4), "$keyed, priority => 8");
		my $call = sprintf "supervisor.$what", $same[0];
		$session->query_safe("BEGIN; SELECT $call");
		go_on();
		becomes("SELECT string_agg(i::text, ' ' ORDER BY i) = '0 2 3 4' FROM ran", "others are run while somebody has the next one ($call)");
		$session->query_safe($end);
		value("SELECT supervisor.cancel_job($same[0])") if $end eq 'COMMIT' && $what =~ /infinity/;
		becomes('SELECT count(*) = 0 FROM supervisor.job', "none is left ($end)");
		is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), $end eq 'COMMIT' && $what =~ /cancel|infinity/ ? '0 2 3 4' : '0 1 2 3 4', "it is run as well, when that is over ($end)");
		value('TRUNCATE ran');
	}
}

note 'failures';

begin('SELECT 1/0', q{key => 'k', max_attempts => 2});
value(q{UPDATE supervisor.job SET retry_delay = '1 h'});
enqueue(insert(1), $keyed);
go_on();
ran('1', 'one that is to be tried again holds up none meanwhile');
value('SELECT supervisor.retry_job(id) FROM supervisor.job');
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'it fails');
enqueue(insert(2), $keyed);
ran('1 2', 'nor one that has failed');
value('DELETE FROM supervisor.job; TRUNCATE ran');

$first = begin(insert(1), $keyed);
enqueue(insert(2), $keyed);
value("SELECT supervisor.cancel_job($first)");
all_ran('2', 'one whose run is canceled lets the next one run');
go_on();

foreach my $atomic ('true', 'false')
{
	begin(insert(1), "key => 'k', max_attempts => 1, atomic => $atomic");
	enqueue(insert(2), $keyed);
	enqueue(insert(3), "$keyed, pool => 'other'");
	value(q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	becomes(q{SELECT string_agg(state::text, '') = 'f' FROM supervisor.job}, "one whose worker is terminated lets the next ones run (atomic => $atomic)");
	is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '2 3', 'once');
	go_on();
	value('DELETE FROM supervisor.job; TRUNCATE ran');
}

# Of a run whose end is not noted, nobody knows whether it is to be run again.
my $offset = -s $node->logfile;
$first = begin('SELECT 1/0', "$keyed, max_attempts => 1");
$session->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $first FOR UPDATE");
go_on();
ok($node->wait_for_log(qr/the end of a run of a job could not be noted/, $offset), 'the end of a run can\'t be noted');
enqueue(insert(1), $keyed);
enqueue(insert(2), "$keyed, pool => 'other'");
enqueue(insert(3), q{priority => 9});
enqueue(insert(4), q{priority => 9, pool => 'other'});
becomes('SELECT count(*) = 2 FROM ran', 'others are run');
is(value('SELECT min(i) FROM ran'), 3, 'but none of its key');
$session->query_safe('COMMIT');
becomes('SELECT count(*) = 1 FROM supervisor.job', 'until it is');
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '1 2 3 4', 'then they are run');
value('DELETE FROM supervisor.job; TRUNCATE ran');

# The same after a crash of the server.
$first = begin(q{SELECT poison('abort')}, "$keyed, max_attempts => 1");
$session->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $first FOR UPDATE; PREPARE TRANSACTION 'has it'");
enqueue(insert(1), "$keyed, pool => 'other', priority => 0");
enqueue(insert(2), q{pool => 'other', priority => 9});
$offset = -s $node->logfile;
eval { $locks->query('SELECT pg_advisory_unlock(1)') };    # the crash may end it
ok($node->wait_for_log(qr/the end of a run of a job could not be noted/, $offset), 'the end of a run that has crashed the server can\'t be noted');
becomes('SELECT count(*) > 0 FROM ran', 'others are run');
is(value('SELECT string_agg(i::text, $$ $$) FROM ran'), 2, 'but none of its key');
value(q{ROLLBACK PREPARED 'has it'});
becomes(q{SELECT string_agg(state::text, '') = 'f' FROM supervisor.job}, 'until it is');
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY at) FROM ran}), '2 1', 'then they are run');
value('DELETE FROM supervisor.job; TRUNCATE ran');

enqueue(insert(1), q{key => repeat('x', 1024)});
enqueue(insert(2), q{key => ''});
becomes('SELECT count(*) = 0 FROM supervisor.job', 'the longest and the shortest');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC:(?!.*poison)|unexpected status)/m, 'nothing unexpected in the log');
$node->stop;
done_testing();
