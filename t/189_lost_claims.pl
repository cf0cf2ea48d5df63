# A run whose end cannot be noted, as somebody has locked its job, or that cannot begin for
# that, costs nobody else anything, however many of them there are.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my $workers = 4;
my $node = SupervisorTest::new_node(
	'lost_claims',
	'wal_level' => 'replica',
	'max_wal_senders' => 1,
	'max_prepared_transactions' => 5,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => $workers,
	'supervisor.max_workers' => $workers,
	'supervisor.restart_delay' => '100ms',
	'supervisor.restart_delay_max' => '100ms');
my @roles = ('alice', 'bob', 'carol', 'dave');

SupervisorTest::ask(\$node);
value("CREATE TABLE ran (i integer); GRANT ALL ON ran TO PUBLIC; CREATE ROLE erin LOGIN; CREATE DATABASE other;" . join('', map { "CREATE ROLE $_ LOGIN;" } @roles));
value('CREATE EXTENSION supervisor; CREATE TABLE ran (i integer)', dbname => 'other');
value('GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.alter_job TO PUBLIC');

my $locks = SupervisorTest::session($node);
my @holders;
my $lost = 'SELECT count(*) FROM supervisor.get_job_runs() WHERE lost';

# Has as many jobs of that role as there are workers fail at once, when all their rows are locked: by one
# who may alter them, as they are his own.
sub lose
{
	my ($role) = @_;
	my $command = q{SELECT pg_advisory_xact_lock_shared(1); SELECT 1/0};

	$locks->query_safe('SELECT pg_advisory_lock(1)');
	value("SELECT supervisor.enqueue('$command', retry_delay => '0') FROM generate_series(1, $workers)", user => $role);
	becomes(qq{SELECT count(*) = $workers FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, "$role: all workers run his jobs");
	my $holder = SupervisorTest::session($node, user => $role);
	push @holders, $holder;
	$holder->query_safe(q{BEGIN; SELECT supervisor.alter_job(job, priority => 1) FROM supervisor.job_status WHERE usename = current_user AND state = 'running'});
	my $from = -s $node->logfile;
	$locks->query_safe('SELECT pg_advisory_unlock(1)');
	$node->wait_for_log(qr/canceling statement due to lock timeout/, $from);
	becomes(qq{SELECT count(*) = 0 FROM supervisor.job_status WHERE usename = '$role' AND state = 'running'}, "$role: whose runs have ended");
}

note 'many lost ones of many roles';

foreach my $role (@roles)
{
	lose($role);
	cmp_ok(value($lost), '<=', $workers, "after $role: no more are kept than leave room for all workers");
	value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (1)')}, user => 'erin');
	becomes('SELECT count(*) = 1 FROM ran', "after $role: another's job is run");
	value('TRUNCATE ran');
}
cmp_ok(value($lost), '>', 0, 'some are lost');

note 'another database';

my $job = value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (1)', run_at => 'infinity')}, dbname => 'other');
value("UPDATE supervisor.job SET run_at = now() WHERE id = $job", dbname => 'other');
ok($node->poll_query_until('other', 'SELECT count(*) = 1 FROM ran'), 'the loader comes to it all the same');

note 'when the rows are free';

$_->quit foreach @holders;
becomes("SELECT n = 0 FROM ($lost) AS s (n)", 'none is lost any more');
becomes(q{SELECT bool_and(attempts >= 1) FROM supervisor.job_status}, 'all are tried again, and their ends noted');
value('SELECT supervisor.cancel_job(job) FROM supervisor.job_status');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'and go');

note 'those that cannot begin';

# An attempt of one that is not atomic is noted first.
sub run_jobs
{
	my ($on) = @_;

	SupervisorTest::set($node, 'supervisor.run_jobs' => $on ? 'on' : 'off');
	becomes(q{SELECT supervisor.why_job_waits(10, 'default', false) = 'paused'}, 'nothing is run') if !$on;
}

my $holder = SupervisorTest::session($node);
run_jobs(0);
value("SELECT supervisor.enqueue('INSERT INTO ran VALUES (1)', atomic => false, max_attempts => 1, run_timeout => '1 h') FROM generate_series(1, $workers)");
becomes("SELECT count(*) = $workers FROM supervisor.job_status WHERE reason = 'paused'", 'they wait');
$holder->query_safe('BEGIN; SELECT FROM supervisor.job FOR UPDATE');
run_jobs(1);
becomes("SELECT n = $workers FROM ($lost) AS s (n)", 'all workers give theirs up');
value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (2)')});
becomes('SELECT count(*) = 1 FROM ran WHERE i = 2', 'another one is run');
is(value(q{SELECT string_agg(DISTINCT attempts || ' ' || state, ', ') FROM supervisor.job_status}), '0 queued', 'they have used no attempt, and wait');
$holder->query_safe('COMMIT');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'once their rows are free');
is(value('SELECT count(*) FROM ran WHERE i = 1'), $workers, 'they run, each once');
is(value("SELECT n FROM ($lost) AS s (n)"), 0, 'none is lost any more');
is(value(q{SELECT string_agg(DISTINCT attempt || ' ' || state, ', ') FROM supervisor.job_history WHERE command ~ 'VALUES .1' AND pid IS NOT NULL}), '1 succeeded', 'with one attempt');

$_->quit foreach $locks, $holder;

note 'of a guest';

# All lost ones in a database count with its owner.  That keeps neither him nor his other guests from being served.
value('CREATE DATABASE hers OWNER alice');
value('CREATE EXTENSION supervisor; CREATE TABLE ran (i integer); GRANT ALL ON ran TO PUBLIC; GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.alter_job TO PUBLIC', dbname => 'hers');
$locks = SupervisorTest::session($node, dbname => 'hers');
$locks->query_safe('SELECT pg_advisory_lock(1)');
value("SELECT supervisor.enqueue('SELECT pg_advisory_xact_lock_shared(1); SELECT 1/0', max_attempts => 1) FROM generate_series(1, $workers)", user => 'bob', dbname => 'hers');
becomes(qq{SELECT count(*) = $workers FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'all workers run jobs of a guest');
$holder = SupervisorTest::session($node, user => 'bob', dbname => 'hers');
$holder->query_safe(q{BEGIN; SELECT supervisor.alter_job(job, priority => 1) FROM supervisor.job_status WHERE state = 'running'});
$locks->query_safe('SELECT pg_advisory_unlock(1)');
ok($node->poll_query_until('hers', "SELECT n = $workers FROM ($lost) AS s (n)"), 'he has locked them, and all are lost');
foreach my $whose ([ 'carol', 'hers' ], [ 'alice', 'hers' ], [ 'alice', 'postgres' ])
{
	my ($user, $dbname) = @$whose;

	value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (3)')}, user => $user, dbname => $dbname);
	ok($node->poll_query_until($dbname, 'SELECT count(*) = 1 FROM ran WHERE i = 3'), "$user in $dbname: is served all the same");
	value('TRUNCATE ran', dbname => $dbname);
}
$job = value(q{SELECT supervisor.enqueue('SELECT 1/0', max_attempts => 3, retry_delay => '0')}, user => 'carol', dbname => 'hers');
ok($node->poll_query_until('hers', "SELECT state = 'f' FROM supervisor.job WHERE id = $job"), "another guest's that fails is noted");
$job = value(q{SELECT supervisor.enqueue('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)', max_attempts => 2, retry_delay => '0')}, user => 'carol', dbname => 'hers');
ok($node->poll_query_until('hers', "SELECT state = 'f' FROM supervisor.job WHERE id = $job"), 'and one that ends its worker');
is(value("SELECT string_agg(attempt || ' ' || state, ', ' ORDER BY attempt) FROM supervisor.job_history WHERE job = $job", dbname => 'hers'), '1 failed, 2 failed', 'each of its runs');
$_->quit foreach $locks, $holder;
ok($node->poll_query_until('hers', q{SELECT count(*) = 0 FROM supervisor.job_status WHERE usename = 'bob' AND state <> 'failed'}), 'and his are noted at last');

note 'those that crashes have left';

# Their rows are held by one who tells nobody when he lets go.
foreach my $role (@roles)
{
	$job = value(q{SELECT supervisor.enqueue('SELECT pg_sleep(600)')}, user => $role);
	becomes("SELECT state = 'running' FROM supervisor.job_status WHERE job = $job", "$role: his job runs");
	my $pid = value("SELECT pid FROM supervisor.job_status WHERE job = $job");
	value("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE; PREPARE TRANSACTION '$role'");
	kill 'KILL', $pid;
	becomes("SELECT bool_or(lost) FROM supervisor.get_job_runs() WHERE job = $job", "$role: its end can't be noted");
}
is(value($lost), $workers, 'as many are left as there are workers');
value(q{SELECT supervisor.enqueue('INSERT INTO ran VALUES (3)', priority => 9)}, user => $_) foreach @roles;
becomes("SELECT count(*) = $workers FROM ran WHERE i = 3", 'others of their roles are run, which are looked for behind them');
$job = value(q{SELECT supervisor.enqueue('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)', max_attempts => 2, retry_delay => '0')}, user => 'erin');
becomes("SELECT state = 'f' FROM supervisor.job WHERE id = $job", "another's that has ended its worker is noted all the same");
is(value("SELECT string_agg(attempt || ' ' || state, ', ' ORDER BY attempt) FROM supervisor.job_history WHERE job = $job"), '1 failed, 2 failed', 'each of its runs');

# Room for it was made by giving one of these up, which runs again, as if that run had not been.
my $runs = q{SELECT count(*), min(attempts), max(attempts) FROM supervisor.job_status WHERE state = 'running'};
becomes("SELECT (count, min, max) = (1, 0, 0) FROM ($runs) s", 'one of those that were left runs again');
is(value($lost), $workers - 1, 'the others are left');
$node->stop('immediate');
$node->start;
becomes("SELECT (count, min, max) = (1, 0, 0) FROM ($runs) s", 'after another crash it still has no crash to it');
is(value($lost), $workers - 1, 'and the others are left');
value("ROLLBACK PREPARED '$_'") foreach @roles;
becomes("SELECT n = 0 FROM ($lost) AS s (n)", 'they are noted when their rows are free');
is(value(q{SELECT string_agg(attempts::text, ' ' ORDER BY attempts) FROM supervisor.job_status WHERE usename <> 'erin'}), '0' . ' 1' x ($workers - 1), 'each with the attempt that it was');
value('SELECT supervisor.cancel_job(job) FROM supervisor.job_status');
becomes('SELECT count(*) = 0 FROM supervisor.job', 'and go');

note 'a database that is dropped while the library is not there';

value('CREATE DATABASE gone');
value('CREATE EXTENSION supervisor', dbname => 'gone');
value(q{SELECT supervisor.enqueue('SELECT pg_sleep(600)')}, dbname => 'gone');
ok($node->poll_query_until('gone', q{SELECT count(*) = 1 FROM supervisor.job_status WHERE state = 'running'}), 'a job runs in it');
my $runner = value(q{SELECT pid FROM supervisor.job_status}, dbname => 'gone');
value('ALTER DATABASE gone ALLOW_CONNECTIONS false');
kill 'KILL', $runner;
SupervisorTest::eventually(sub { eval { value('SELECT 1') } });	# psql may end before it is asked

# What a crash has left is in a file with a head of 16 bytes, and two marks for each worker, whose state is first.
sub left
{
	my $marks = slurp_file($node->data_dir . '/pg_stat_tmp/supervisor.marks');
	my $size = (length($marks) - 16) / (2 * $workers);

	return scalar grep { unpack("x[16] x[@{[$size * $_]}] i", $marks) } $workers .. 2 * $workers - 1;
}
ok(SupervisorTest::eventually(sub { left() == 1 }), 'it is killed, and nobody can note that there');
$node->stop;
$node->append_conf('postgresql.auto.conf', q{shared_preload_libraries = ''});
$node->start;
value('DROP DATABASE gone');
is(left(), 1, 'when it is dropped without the library, that is left');
$node->append_conf('postgresql.auto.conf', q{shared_preload_libraries = 'supervisor'});
$node->restart;
ok(SupervisorTest::eventually(sub { left() == 0 }), 'and forgotten when the library is there again');

note 'a standby that does not come';

# The loader is one for all databases, and so waits for none, whatever their owners have set.
value('ALTER DATABASE other SET synchronous_commit = remote_apply');
SupervisorTest::set($node, 'synchronous_commit' => 'local', 'synchronous_standby_names' => 'none');
$job = value(q{SET synchronous_commit = local; SELECT supervisor.enqueue('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)', max_attempts => 1)}, dbname => 'other');
ok($node->poll_query_until('other', "SELECT state = 'f' FROM supervisor.job WHERE id = $job"), 'the loader notes the end of a run without it');
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
$node->stop;
done_testing();
