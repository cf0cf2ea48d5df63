# A job that crashes the server is not run for ever; who was beside it is not blamed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use IPC::Run;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'poison',
	'max_prepared_transactions' => 1,
	'max_worker_processes' => 16,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'one:1',
	'supervisor.restart_delay' => '50ms',
	'supervisor.restart_delay_max' => '50ms',
	'supervisor.max_workers' => 8);
my $library = SupervisorTest::build_library('poison');

SupervisorTest::ask(\$node);
value(qq{
	CREATE FUNCTION poison(text) RETURNS integer AS '$library' LANGUAGE C STRICT;
	CREATE FUNCTION poison_worker(text) RETURNS integer AS '$library' LANGUAGE C STRICT PARALLEL SAFE});

my $beside = q{SELECT pg_sleep(600)};
my $busy = q{SELECT count(*) = %d FROM pg_stat_activity WHERE wait_event = 'PgSleep'};

sub enqueue
{
	my ($command, $options) = @_;

	return value("SELECT supervisor.enqueue(\$job\$$command\$job\$, retry_delay => '0'" . ($options // '') . ') FROM pg_advisory_lock(2)');
}

# A command that crashes the server when the session that has enqueued it knows of that, and has ended.
sub poison
{
	my ($how) = @_;

	return "SELECT pg_advisory_xact_lock_shared(2), poison('$how')";
}

# No attempt of who was beside it counts.
sub innocent
{
	my ($job, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes(sprintf($busy, 1), "$property: who was beside it runs again");
	is(value("SELECT attempts, crashes FROM supervisor.job WHERE id = $job"), '0|0', "$property: and is not blamed");
}

my $other = enqueue($beside);
foreach my $how ('abort', 'segv', 'overflow', 'panic')
{
	becomes(sprintf($busy, 1), 'one runs');
	my $job = enqueue(poison($how));
	becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", "$how: one that crashes the server is failed");
	is(value("SELECT reason, crashes, attempts, last_sqlstate, last_error FROM supervisor.job WHERE id = $job"),
		'crashed|3|3|57P02|the server has crashed', "$how: after three crashes");
	is(value("SELECT state, reason, detail IS NOT NULL FROM supervisor.job_status WHERE job = $job"), 'failed|crashed|t', "$how: as is told");
	is(value("SELECT string_agg(attempt || ' ' || state || ' ' || sqlstate, ', ' ORDER BY finished_at) FROM supervisor.job_history WHERE job = $job"),
		'1 failed 57P02, 2 failed 57P02, 3 failed 57P02', "$how: each is noted");
	innocent($other, $how);
}

# If it fails otherwise in between, crashes count anew.
my $job = enqueue(q{SELECT pg_advisory_xact_lock_shared(2), CASE attempts WHEN 2 THEN 1 / (attempts - 2) ELSE poison('abort') END FROM supervisor.job WHERE id = supervisor.current_job()},
	', max_attempts => 5');
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", 'one that fails in between');
is(value("SELECT reason, crashes, attempts FROM supervisor.job WHERE id = $job"), 'max_attempts|2|5', 'has not crashed the server three times in a row');
innocent($other, 'in between');

$job = enqueue(poison('kill'), ', max_attempts => 2');
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", 'one whose process is killed has used an attempt');
is(value("SELECT reason, crashes, attempts, last_error FROM supervisor.job WHERE id = $job"), 'max_attempts|0|2|the worker was killed', 'which is no crash');
innocent($other, 'killed');

# Tests what has become of a job that has used all of its two attempts.
sub used_up
{
	my ($id, $sqlstate, $error, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $id", "$property: the job is failed");
	is(value("SELECT reason, crashes, attempts, last_sqlstate, last_error FROM supervisor.job WHERE id = $id"), "max_attempts|0|2|$sqlstate|$error",
		"$property: when it has used its attempts, and it has crashed nothing");
	is(value("SELECT string_agg(attempt || ' ' || state || ' ' || sqlstate, ', ' ORDER BY finished_at) FROM supervisor.job_history WHERE job = $id"),
		"1 failed $sqlstate, 2 failed $sqlstate", "$property: each is noted");
}

# One that ends its process as a program does disturbs nobody.  What _exit() ends looks as if it was killed.
my $bystander = value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
foreach my $how ('exit(0)', 'exit(1)', 'proc_exit(0)', 'proc_exit(1)')
{
	used_up(enqueue(poison($how), ', max_attempts => 2'), '55000', 'its worker has ended', $how);
	is(value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), $bystander, "$how: the server goes on");
	innocent($other, $how);
}
foreach my $how ('_exit(0)', '_exit(1)')
{
	$bystander = value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	used_up(enqueue(poison($how), ', max_attempts => 2'), '57P02', 'the worker was killed', $how);
	innocent($other, $how);
	isnt(value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), $bystander, "$how: the server has taken that for a crash");
}

# That its worker had an error before is not its doing: else this one made the next hopeless.
foreach my $how ('exit(0)', 'proc_exit(1)')
{
	my $before = enqueue(q{DO $$BEGIN EXECUTE 'nonsense'; END$$}, q{, pool => 'one'});
	becomes("SELECT reason = 'hopeless' FROM supervisor.job WHERE id = $before", 'one has failed by an error');
	$job = enqueue(poison($how), q{, pool => 'one', max_attempts => 2});
	used_up($job, '55000', 'its worker has ended', "$how after an error of another");
	is(value("SELECT count(DISTINCT pid) FROM supervisor.job_history WHERE job = $before OR (job = $job AND attempt = 1)"), 1, "$how: it was the same worker");
	$node->psql('postgres', q{SELECT supervisor.execute('SELECT 1/0', pool => 'one')});
	unlike(refused("SELECT supervisor.execute(\$\$SELECT poison('$how')\$\$, pool => 'one')", '55000', "$how in a task", message => qr/worker exited while it ran the task/),
		qr/DETAIL/, "$how in a task: no other one's error is told");
}

# What its parallel workers do is the job's doing.
my $in_parallel = value(q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
sub poison_worker
{
	my ($how) = @_;

	return "SELECT pg_advisory_xact_lock_shared(2); SET LOCAL $in_parallel = on; SELECT poison_worker('$how')";
}
foreach my $how ('abort', 'segv', 'overflow', 'panic')
{
	$job = enqueue(poison_worker($how));
	becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", "$how: one whose parallel worker crashes the server is failed");
	is(value("SELECT reason, crashes, attempts, last_error FROM supervisor.job WHERE id = $job"), 'crashed|3|3|the server has crashed', "$how: after three crashes");
	innocent($other, "parallel $how");
}
$job = enqueue(poison_worker('kill'), ', max_attempts => 2');
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", 'one whose parallel worker is killed has used an attempt');
is(value("SELECT reason, crashes, attempts, last_error FROM supervisor.job WHERE id = $job"), 'max_attempts|0|2|the worker was killed', 'which is no crash');
innocent($other, 'a parallel worker that is killed');
# Core's leader is told just before such a worker is gone, so it may wait for it until it is canceled.
foreach my $how ('exit(0)', 'exit(1)', 'proc_exit(0)')
{
	$bystander = value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	$job = enqueue(poison_worker($how), q{, max_attempts => 2, run_timeout => '2 s'});
	becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", "parallel $how: the job is failed");
	is(value("SELECT reason, crashes, attempts FROM supervisor.job WHERE id = $job"), 'max_attempts|0|2', "parallel $how: when it has used its attempts, and it has crashed nothing");
	like(value("SELECT string_agg(sqlstate || ' ' || message, ', ') FROM supervisor.job_history WHERE job = $job"),
		qr/^(?:(?:55000 lost connection to parallel worker|57014 canceling statement due to timeout of the job)(?:, |$)){2}/, "parallel $how: by an error");
	is(value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), $bystander, "parallel $how: the server goes on");
}
foreach my $how ('_exit(0)', '_exit(1)')
{
	used_up(enqueue(poison_worker($how), ', max_attempts => 2'), '57P02', 'the worker was killed', "parallel $how");
	innocent($other, "parallel $how");
}

# Who has one is not blamed for what others do, nor for what somebody else has sent it.
my $parallel = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'Extension' AND query ~ 'poison_worker'";
my $leads = enqueue(poison_worker('wait'));
foreach my $by ('a session that crashes', 'SIGSEGV', 'SIGABRT')
{
	becomes("SELECT count(*) = 1 FROM ($parallel) s", 'a parallel worker waits');
	my $pid = value($parallel);
	if ($by =~ /^SIG(.*)/) { kill $1, $pid }
	else { $node->psql('postgres', q{SELECT poison('segv')}) }
	becomes("SELECT pid <> $pid FROM ($parallel) s", "$by: who has a parallel worker runs again");
	is(value("SELECT attempts, crashes FROM supervisor.job WHERE id = $leads"), '0|0', "$by: and is not blamed");
	innocent($other, "parallel, $by");
}
value("SELECT supervisor.cancel_job($leads)");
becomes("SELECT count(*) = 0 FROM supervisor.job WHERE id = $leads", 'it ends');

# Two at once: nobody knows which it was, so they are run one at a time then.
value("SELECT supervisor.cancel_job($other)");
my $locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
my @both = map { enqueue(q{SELECT poison('deaf'), pg_advisory_xact_lock_shared(1), poison('segv')}, ', max_attempts => 12') } 1 .. 2;
becomes(q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'two run');
eval { $locks->query('SELECT pg_advisory_unlock(1)') };    # the crash may end it
becomes("SELECT count(*) = 2 FROM supervisor.job WHERE state = 'f' AND id IN ($both[0], $both[1])", 'two that crash the server at once are failed');
is(value("SELECT string_agg(reason, ' ') FROM supervisor.job WHERE id IN ($both[0], $both[1])"), 'crashed crashed', 'as crashed');
# On a busy machine the first crash may be over before the other one comes to its own.
is(value("SELECT string_agg((n >= 4)::text, ' ') FROM (SELECT count(*) AS n FROM supervisor.job_history WHERE job IN ($both[0], $both[1]) GROUP BY job) s"), 'true true', 'after a crash that could not be told and three that could');
value('DELETE FROM supervisor.job');

# What could not be noted before the server crashes again is not forgotten.
value(q{CREATE TABLE how AS SELECT 'segv' AS how});
$locks = SupervisorTest::session($node);
$locks->query_safe('SELECT pg_advisory_lock(1)');
$job = enqueue(q{SELECT pg_advisory_xact_lock_shared(1), poison(how) FROM how}, ', max_attempts => 1');
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'one runs');
value("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE; PREPARE TRANSACTION 'row'");
eval { $locks->query('SELECT pg_advisory_unlock(1)') };
becomes(q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'}, 'it crashes the server');
value(q{UPDATE how SET how = 'no'});
$node->psql('postgres', q{SELECT poison('segv')});
becomes('SELECT true', 'so does somebody else, while its row is locked');
value(q{ROLLBACK PREPARED 'row'});
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", 'its crash is noted then');
is(value("SELECT reason, crashes FROM supervisor.job WHERE id = $job"), 'max_attempts|1', 'as its last attempt');
value('DELETE FROM supervisor.job');
$other = enqueue($beside);
becomes(sprintf($busy, 1), 'one runs');

my $pid = value('SELECT pg_backend_pid()');
foreach my $signal ('SEGV', 'ABRT')
{
	$pid = value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	kill $signal, $pid;
	becomes("SELECT pid <> $pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "one that somebody sends SIG$signal runs again");
	innocent($other, $signal);
}
$node->stop('immediate');
$node->start;
innocent($other, 'an immediate shutdown');
is(value('SELECT count(*) FROM supervisor.job_history WHERE job = ' . $other), 0, 'nothing is noted of that');

# What is noted of a crash no other crash undoes, also if commits are not waited for.
value(q{ALTER SYSTEM SET synchronous_commit = off});
value(q{ALTER SYSTEM SET wal_writer_delay = '10s'});
value('SELECT pg_reload_conf()');
$job = value('SET synchronous_commit = on; SELECT supervisor.enqueue($job$' . poison('segv') . q{$job$, retry_delay => '1 h') FROM pg_advisory_lock(2)});
becomes("SELECT crashes = 1 FROM supervisor.job WHERE id = $job", 'the crash of one is noted');
$node->stop('immediate');
$node->start;
is(value("SELECT attempts, crashes, reason FROM supervisor.job WHERE id = $job"), '1|1|retry', 'and not forgotten when the server crashes at once');
is(value("SELECT count(*) FROM supervisor.job_history WHERE job = $job"), 1, 'nor is the run');
value(q{ALTER SYSTEM RESET synchronous_commit});
value(q{ALTER SYSTEM RESET wal_writer_delay});
value('SELECT pg_reload_conf()');
value("SELECT supervisor.cancel_job($job)");
innocent($other, 'another immediate shutdown');

value(q{ALTER SYSTEM SET restart_after_crash = off});
value('SELECT pg_reload_conf()');
$job = enqueue(poison('segv'));
ok(SupervisorTest::eventually(sub { !-e $node->data_dir . '/postmaster.pid' }), 'a server that does not restart by itself ends');
$node->{_pid} = undef;
$node->append_conf('postgresql.auto.conf', "restart_after_crash = on\nsupervisor.run_jobs = off");
$node->start;
becomes("SELECT crashes >= 1 FROM supervisor.job WHERE id = $job", 'it knows at its next start');

value('DELETE FROM supervisor.job');
$node->stop('immediate');

# In a container each postmaster has the same pid.  Who was killed with all of it has done nothing.
SKIP:
{
	my @container = qw(setpriv --pdeathsig KILL unshare --user --map-current-user --pid --fork --kill-child);
	skip 'no namespace for processes can be had', 4 if system("@container true 2>/dev/null") != 0;
	# All that run there have descriptor 3, so that finish() waits for the last one's end.
	my $start = sub { return IPC::Run::start([ @container, 'postgres', '-D', $node->data_dir ], '>>', $node->logfile, '2>&1', '3>', \my $nothing) };
	my $kill = sub { $_[0]->signal('KILL'); $_[0]->finish };

	$node->append_conf('postgresql.auto.conf', 'supervisor.run_jobs = on');
	my $started = $start->();
	becomes('SELECT true', 'a server in a container starts');
	$job = enqueue($beside, ', max_attempts => 1');
	becomes(sprintf($busy, 1), 'one runs');
	$kill->($started);
	$started = $start->();
	innocent($job, 'one that is killed with its container');
	$kill->($started);
	# whose memory the next one removes
	$node->start;
	$node->stop;
}
unlike(slurp_file($node->logfile), qr/^.*TRAP/m, 'no assertion has failed');
done_testing();
