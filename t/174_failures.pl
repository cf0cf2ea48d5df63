# What follows when a job fails, is canceled, takes too long or loses its worker; and
# what a job may do that is not atomic.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'failures',
	'max_prepared_transactions' => 5,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, job bigint DEFAULT supervisor.current_job());
	CREATE SEQUENCE tries;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE watch LOGIN IN ROLE pg_signal_backend;
	GRANT ALL ON ran, tries TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.cancel_job TO PUBLIC});

# Enqueues a command; returns its number.
sub enqueue
{
	my ($command, $options, %opts) = @_;

	return value('SELECT supervisor.enqueue($job$' . $command . '$job$' . (defined $options ? ", $options" : '') . ')', %opts);
}

# What is noted of the runs of a job.
sub runs
{
	my ($job) = @_;

	return value(qq{SELECT coalesce(string_agg(attempt || ' ' || state || coalesce(' ' || sqlstate, ''), ', ' ORDER BY finished_at), '') FROM supervisor.job_history WHERE job = $job});
}

my $left = 'SELECT count(*) = 0 FROM supervisor.job';
my $sleeps = q{SELECT pg_sleep(600)};
my $busy = q{SELECT count(*) = %d FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker' AND query ~ 'pg_sleep.600' AND wait_event = 'PgSleep'};

note 'errors';

my $job = enqueue(q{SELECT 1 / (nextval('tries') / 3); INSERT INTO ran VALUES (1)}, q{retry_delay => '50 ms'});
becomes($left, 'a job that fails is tried again');
is(runs($job), '1 failed 22012, 2 failed 22012, 3 succeeded', 'until it succeeds');
is(value('SELECT count(*) FROM ran'), 1, 'it has done what it does once');

$job = enqueue('SELECT 1/0', q{retry_delay => '0', max_attempts => 2});
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'not more often than max_attempts');
is(runs($job), '1 failed 22012, 2 failed 22012', 'so often');
is(value('SELECT attempts, reason, run_at, last_state, last_sqlstate, last_error FROM supervisor.job'), '2|max_attempts|infinity|failed|22012|division by zero', 'it stays, and says so');
my @warnings = slurp_file($node->logfile) =~ /WARNING: +(job .*)/g;
is_deeply(\@warnings, ["job $job has failed with SQLSTATE 22012"], 'so does the log, once');
value('DELETE FROM supervisor.job');

# The log names it, and a hint says what is easily forgotten where a name is not found.
value('CREATE SCHEMA app; CREATE TABLE app.things (i integer); CREATE FUNCTION app.thing() RETURNS integer LANGUAGE sql AS $$SELECT 1$$');
foreach my $case ([ 'SELECT FROM things', '42P01' ], [ 'SELECT thing()', '42883' ], [ 'CREATE TABLE nowhere.t ()', '3F000' ])
{
	my ($command, $sqlstate) = @$case;
	my $from = -s $node->logfile;

	$job = value("SELECT supervisor.schedule('no $sqlstate', '\@yearly', '$command', max_attempts => 1)");
	value("SET search_path = app; SELECT supervisor.retry_job($job)");
	becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $job AND sqlstate = '$sqlstate'", "$command fails");
	ok($node->wait_for_log(qr/WARNING: +job $job "no $sqlstate" has failed with SQLSTATE $sqlstate\n/, $from), 'the log has its name');
	like(substr(slurp_file($node->logfile), $from), qr/HINT: .*"search_path" of the (session|role).*does not travel/, 'and a hint');
	like(value("SELECT detail FROM supervisor.job_run WHERE job = $job"), qr/does not travel/, 'as has the run');
	value("SELECT supervisor.unschedule('no $sqlstate')");
}
my $raised_from = -s $node->logfile;
$job = enqueue(q{DO $$BEGIN RAISE undefined_table USING detail = 'own', hint = 'other'; END$$}, 'max_attempts => 1');
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'one that raises such an error fails');
is(value("SELECT detail FROM supervisor.job_run WHERE job = $job"), 'own', 'its detail is kept');
like(substr(slurp_file($node->logfile), $raised_from), qr/HINT:  other\n/, 'and its hint');
value('DELETE FROM supervisor.job');

value(q{
	CREATE FUNCTION vacuums() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'VACUUM ran'; END$$;
	CREATE FUNCTION commits() RETURNS void LANGUAGE plpgsql AS $$BEGIN COMMIT; END$$});
foreach my $case (
	[ q{DO $$BEGIN EXECUTE 'nonsense'; END$$}, '42601', 'true' ], [ q{DO $$BEGIN EXECUTE 'nonsense'; END$$}, '42601', 'false' ],
	[ q{DO $$BEGIN EXECUTE 'VACUUM ran'; END$$}, '25001', 'true' ], [ 'SELECT vacuums()', '25001', 'true' ], [ 'SELECT vacuums()', '25001', 'false' ],
	[ 'DO $$BEGIN COMMIT; END$$', '2D000', 'true' ], [ 'SELECT commits()', '2D000', 'false' ])
{
	my ($command, $sqlstate, $atomic) = @$case;
	my $property = "$command, atomic => $atomic";

	$job = enqueue($command, "retry_delay => '0', atomic => $atomic");
	becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, "what can't get better is not tried again: $property");
	is(value('SELECT attempts, reason, last_sqlstate FROM supervisor.job'), "1|hopeless|$sqlstate", "$property: and says so");
	is(runs($job), "1 failed $sqlstate", "$property: its run is noted");
	is(value("SELECT coalesce(detail, '') ~ 'atomic => false' FROM supervisor.job_run WHERE job = $job"),
		$sqlstate eq '2D000' && $atomic eq 'true' ? 't' : 'f', "$property: a hint says what would help, if it would");
	value('DELETE FROM supervisor.job');
}

foreach ([ 0, 10, '' ], [ 1, 20, '' ], [ 5, 320, '' ], [ 12, 3600, '' ], [ 18, 3600, '' ], [ 2, 240, q{, retry_delay => '1 min'} ], [ 5, 7200, q{, retry_delay => '2 h'} ])
{
	my ($attempts, $delay, $options) = @$_;

	$job = enqueue('SELECT 1/0', "run_at => 'infinity'$options");
	value("UPDATE supervisor.job SET attempts = $attempts, run_at = now()");
	becomes(qq{SELECT state = 'w' AND attempts = $attempts + 1 AND reason = 'retry'
		AND run_at - last_finished_at BETWEEN interval '$delay s' - interval '1 s' AND interval '$delay s' * 1.25 FROM supervisor.job}, "the delay after $attempts attempts$options");
	value('DELETE FROM supervisor.job');
}

# However short its delay: else one that fails for ever filled the log.
$job = enqueue('SELECT 1/0', q{retry_delay => '0', max_attempts => 23});
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'one without a delay fails for good');
is(value("SELECT count(*) FROM supervisor.job_history WHERE job = $job"), 23, 'it was tried as often as it may be');
is(value(qq{SELECT string_agg(n.attempt::text, ' ' ORDER BY n.attempt) FROM supervisor.job_history l JOIN supervisor.job_history n ON n.job = l.job AND n.attempt = l.attempt + 1
	WHERE l.job = $job AND n.attempt > 21 AND n.run_at - l.finished_at >= interval '1 s'}), '22 23', 'after 20 attempts it waits for a second at least');
value('DELETE FROM supervisor.job');

note 'who puts it off while it runs';

my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(2)');
$job = enqueue('SELECT pg_advisory_xact_lock(2); SELECT 1/0', q{retry_delay => '0'});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
value(q{UPDATE supervisor.job SET run_at = 'infinity'});
$locks->query_safe('SELECT pg_advisory_unlock(2)');
becomes('SELECT attempts = 1 FROM supervisor.job', 'it fails');
is(value('SELECT run_at, state FROM supervisor.job'), 'infinity|w', 'and stays put off');
value('DELETE FROM supervisor.job');

note 'timeouts';

$job = enqueue($sleeps, q{run_timeout => '50 ms', retry_delay => '0', max_attempts => 2});
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'one that takes too long has failed');
is(value('SELECT last_error FROM supervisor.job'), 'canceling statement due to timeout of the job', 'as is said');
is(runs($job), '1 failed 57014, 2 failed 57014', 'it was tried again');
value('DELETE FROM supervisor.job');

note 'workers';

value('ALTER SEQUENCE tries RESTART');
$job = enqueue(q{INSERT INTO ran VALUES (2); SELECT CASE WHEN nextval('tries') = 1 THEN pg_terminate_backend(pg_backend_pid()) END}, q{retry_delay => '0'});
becomes($left, 'one whose worker was terminated is tried again');
is(runs($job), '1 failed 57P01, 2 succeeded', 'which was an attempt');
is(value('SELECT count(*) FROM ran WHERE i = 2'), 1, 'it has done what it does once');

$job = enqueue($sleeps, q{max_attempts => 1});
becomes(sprintf($busy, 1), 'one runs');
value(q{SELECT supervisor.terminate_worker(slot) FROM supervisor.worker_status WHERE activity = 'busy'});
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'the last attempt of one whose worker was terminated');
is(runs($job), '1 failed 57P01', 'is noted');
value('DELETE FROM supervisor.job');

# where what has failed is not tried soon
SupervisorTest::set($node, 'supervisor.restart_delay' => '1h');
my $offset = -s $node->logfile;
$locks->query_safe('SELECT pg_advisory_lock(2)');
$job = enqueue(q{SELECT pg_advisory_xact_lock(2); SELECT 1/0}, q{retry_delay => '0', max_attempts => 3});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
my $holder = SupervisorTest::session($node);
$holder->query_safe('BEGIN; SELECT FROM supervisor.job FOR UPDATE');
$locks->query_safe('SELECT pg_advisory_unlock(2)');
ok($node->wait_for_log(qr/canceling statement due to lock timeout/, $offset), 'the end of a run whose row is locked can\'t be noted');
value(q{SELECT supervisor.enqueue('SELECT 1')});
becomes("SELECT count(*) = 1 FROM supervisor.job", 'others are run');
ok($node->wait_for_log(qr/the end of a run of a job could not be noted/, $offset), 'nor by the loader');
is(runs($job), '', 'it is not run meanwhile');
value(q{SELECT supervisor.add_worker('service', 'SELECT pg_sleep(1000)')});
becomes(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'service' AND state = 'running'}, 'others do not wait for that');
$holder->query_safe('COMMIT');
SupervisorTest::set($node, 'supervisor.restart_delay' => '1s');
value(q{SELECT supervisor.remove_worker('service')});
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'once it is free');
is(runs($job), '1 failed 22012, 2 failed 22012, 3 failed 22012', 'the run is noted, and it is tried again');
value('DELETE FROM supervisor.job');

note 'cancel_job';

value('TRUNCATE ran');
$job = enqueue('INSERT INTO ran VALUES (1)', q{run_at => now() + interval '1 h'});
value("BEGIN; SELECT supervisor.cancel_job($job); ROLLBACK");
is(value('SELECT count(*) FROM supervisor.job'), 1, 'one that waits is not canceled by what is rolled back');
is(value("SELECT supervisor.cancel_job($job)"), 't', 'but by what commits');
is(value('SELECT count(*) FROM supervisor.job'), 0, 'it goes');
is(runs($job), '0 canceled', 'which is noted');
is(value('SELECT started_at IS NULL AND pid IS NULL AND command <> $$$$ FROM supervisor.job_history WHERE job = ' . $job), 't', 'as one that was not run');
is(value("SELECT supervisor.cancel_job($job)"), 'f', 'one that was canceled is not canceled again');

$job = enqueue($sleeps);
becomes(sprintf($busy, 1), 'one runs');
is(value("BEGIN; SELECT supervisor.cancel_job($job); ROLLBACK"), 't', 'its run is canceled at once');
becomes($left, 'it goes');
is(runs($job), '1 canceled 57014', 'and is not tried again');
$job = enqueue("DO \$\$BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN INSERT INTO ran VALUES (2); END\$\$");
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'one runs');
is(value("SELECT supervisor.cancel_job($job)"), 't', 'one that catches that is canceled');
becomes($left, 'it ends');
is(runs($job), '1 succeeded', 'and has succeeded');
$job = enqueue('SELECT supervisor.cancel_job(supervisor.current_job()), pg_sleep(600)');
becomes($left, 'one may cancel itself');
is(runs($job), '1 canceled 57014', 'and has');
enqueue('SELECT 1/0', 'max_attempts => 1');
becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, 'one has failed');
is(value('SELECT supervisor.cancel_job(id) FROM supervisor.job'), 't', 'it can be taken off');

$job = enqueue($sleeps, q{retry_delay => '0', max_attempts => 2});
becomes(sprintf($busy, 1), 'one runs');
value(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
becomes('SELECT attempts = 1 FROM supervisor.job', 'what somebody else cancels is an error');
becomes(sprintf($busy, 1), 'it runs again');
value("SELECT supervisor.cancel_job($job)");
becomes($left, 'until it is canceled');
is(runs($job), '1 failed 57014, 2 canceled 57014', 'both are noted');

# While the pool's worker runs another one, somebody changes one that waits, and has not ended when it could be run.
sub passed_over
{
	my ($change, $property, $prepare) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $before = enqueue($sleeps, q{pool => 'one'});
	becomes(sprintf($busy, 1), 'the one before it runs');
	enqueue('INSERT INTO ran VALUES (1)', q{pool => 'one'});
	$holder->query_safe("BEGIN; $change");
	$holder->query_safe($prepare) if defined $prepare;
	enqueue('INSERT INTO ran VALUES (2)', q{pool => 'one'});
	value("SELECT supervisor.cancel_job($before)");
	becomes('SELECT count(*) = 1 FROM ran', $property);
}

# Whoever has it in an open transaction is passed over, and tells at the end.
foreach my $end ('ROLLBACK', 'COMMIT', "PREPARE TRANSACTION 'a'; ROLLBACK PREPARED 'a'", "PREPARE TRANSACTION 'a'; COMMIT PREPARED 'a'")
{
	value('TRUNCATE ran');
	my @ends = split /; /, $end;
	passed_over(q{SELECT supervisor.cancel_job(id) FROM supervisor.job WHERE command ~ 'ran'}, "another is run ($end)", @ends > 1 ? shift @ends : undef);
	$holder->query_safe(shift @ends);
	becomes($left, "none is left ($end)");
	is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), $end =~ /COMMIT/ ? '2' : '1 2', "it was canceled, or has run ($end)");
}
value('TRUNCATE ran');
passed_over(q{UPDATE supervisor.job SET priority = 1 WHERE command ~ 'ran'}, 'another is run');
$holder->query_safe('ROLLBACK');
becomes($left, 'one that a superuser has changed, and has not, is run');

refused('SELECT supervisor.cancel_job(NULL)', '22004', 'no job');
refused("SELECT supervisor.cancel_job($_)", '42704', "one that never was: $_") foreach -1, 0, 100000, '9223372036854775807';
$job = enqueue($sleeps, undef, user => 'alice');
my $other = enqueue('SELECT 1', q{run_at => 'infinity'}, user => 'alice');
becomes(sprintf($busy, 1), 'one runs');
foreach ($job, $other)
{
	refused("SELECT supervisor.cancel_job($_)", '42501', 'another\'s', user => 'bob');
	is(value("SELECT supervisor.cancel_job($_)", user => 'watch'), 't', 'who may signal');
}
becomes($left, 'they go');
refused('BEGIN READ ONLY; SELECT supervisor.cancel_job(1)', '25006', 'read only');

note 'not atomic';

value('TRUNCATE ran; CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$BEGIN FOR i IN 1..3 LOOP INSERT INTO ran VALUES (i); COMMIT; END LOOP; END$$');
foreach my $command ('VACUUM ran', 'CALL steps()', 'CREATE INDEX CONCURRENTLY ON ran (i)', 'BEGIN; INSERT INTO ran VALUES (4); COMMIT')
{
	refused(qq{SELECT supervisor.enqueue('$command')}, $command =~ /BEGIN/ ? '2D000' : '25001', "$command is not for atomic jobs", hint => qr/atomic => false/) if $command !~ /CALL/;
	$job = enqueue($command, 'atomic => false, max_attempts => 1');
	becomes($left, "but for others: $command");
	is(runs($job), '1 succeeded', "$command has succeeded");
}
is(value(q{SELECT string_agg(i::text, ' ' ORDER BY i) FROM ran}), '1 2 3 4', 'they have done it');

value('TRUNCATE ran; ALTER SEQUENCE tries RESTART');
$job = enqueue(q{BEGIN; INSERT INTO ran VALUES (1); COMMIT; SELECT 1 / (nextval('tries') / 2)}, q{atomic => false, retry_delay => '0'});
becomes($left, 'one that fails is tried again');
is(runs($job), '1 failed 22012, 2 succeeded', 'attempts are counted');
is(value('SELECT count(*) FROM ran'), 2, 'it has done twice what it had committed');

note 'a cancel that the command makes another error of';

$job = enqueue(q{DO $$BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN RAISE 'cleaned up'; END$$}, q{retry_delay => '0'});
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker' AND wait_event = 'PgSleep'}, 'it runs');
is(value("SELECT supervisor.cancel_job($job)"), 't', 'it is canceled');
becomes($left, 'it is not tried again');
is(runs($job), '1 canceled P0001', 'and noted as canceled, with its error');

note 'a table of jobs that is not to be trusted for a moment';

value('TRUNCATE ran');
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(2)');
enqueue('SELECT pg_advisory_lock_shared(2); INSERT INTO ran VALUES (0)', q{pool => 'one', retry_delay => '0'});
enqueue("INSERT INTO ran VALUES ($_)", q{pool => 'one'}) foreach 1 .. 5;
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs, others wait behind it');
my $from = -s $node->logfile;
value('ALTER TABLE supervisor.job DISABLE TRIGGER job_added');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
ok($node->wait_for_log(qr/jobs of this database are not run/, $from), 'no job is run meanwhile');
is(value('SELECT count(*) FROM ran'), 0, 'nor commits');
value('ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_added; SELECT pg_reload_conf()');
becomes('SELECT count(*) = 6 FROM ran', 'then all are run, those too that were about to be taken');
becomes($left, 'none is left');
is(value('SELECT count(DISTINCT i) FROM ran'), 6, 'each once');
$gate->quit;

$job = enqueue($sleeps, q{atomic => false, max_attempts => 2, retry_delay => '0'});
becomes(sprintf($busy, 1), 'one runs');
is(value('SELECT attempts, state FROM supervisor.job'), '1|w', 'its attempt is noted before');
$node->stop('immediate');
$node->start;
becomes(sprintf($busy, 1), 'after a crash it runs again');
is(value('SELECT attempts, state FROM supervisor.job'), '2|w', 'which is another attempt');
$_->quit foreach $locks, $holder;
$node->stop('immediate');
$node->start;
becomes(q{SELECT state = 'f' AND reason = 'max_attempts' FROM supervisor.job}, 'there is none after the last one');
value('DELETE FROM supervisor.job');
$job = enqueue('SELECT pg_terminate_backend(pg_backend_pid())', q{atomic => false, max_attempts => 2, retry_delay => '0'});
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'one that ends its workers');
is(runs($job), '1 failed 57P01, 2 failed 57P01', 'each counts once');
value('DELETE FROM supervisor.job');

# To write a long command again takes long, and others wait for the loader if it does so.
my $size = q{SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'supervisor.job'::regclass};
$job = value(q{SELECT supervisor.enqueue('SELECT pg_terminate_backend(pg_backend_pid()) /* ' || string_agg(md5(i::text), '') || ' */',
	run_at => 'infinity', max_attempts => 3, retry_delay => '0') FROM generate_series(1, 10000) AS i});
my $before = value($size);
value("SELECT supervisor.retry_job($job)");
becomes(q{SELECT state = 'f' FROM supervisor.job}, 'one with a long command that ends its workers');
is(value($size), $before, 'its command stays where it is');
is(value("SELECT count(*) FROM supervisor.job_history h, supervisor.job j WHERE h.job = $job AND left(j.command, length(h.command)) = h.command AND length(h.command) > 500"), 3, 'its beginning is in the history');
value('DELETE FROM supervisor.job');

$job = enqueue('DROP EXTENSION supervisor CASCADE', 'atomic => false');
becomes(q{SELECT count(*) = 0 FROM pg_extension WHERE extname = 'supervisor'}, 'one that drops the extension');
value('CREATE EXTENSION supervisor');
is(enqueue('INSERT INTO ran VALUES (7)'), 1, 'the first one of a new one');
becomes('SELECT count(*) = 1 FROM ran WHERE i = 7', 'is run');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
