# A job is run once, if the transaction that has enqueued it has committed, and
# never, if not; its effects and the note that it is done are there together.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'jobs',
	'max_prepared_transactions' => 5,
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'one:1',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer, job bigint DEFAULT supervisor.current_job(), n serial, who text DEFAULT session_user || ' ' || current_user);
	GRANT ALL ON ran, ran_n_seq TO PUBLIC;
	CREATE ROLE alice LOGIN;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO alice});

sub job
{
	my ($i, $options) = @_;

	return "supervisor.enqueue('INSERT INTO ran VALUES ($i)'" . (defined $options ? ", $options" : '') . ')';
}

my $left = q{SELECT count(*) = %d FROM supervisor.job};
my $ran = q{SELECT coalesce(string_agg(i::text, ' ' ORDER BY n), '') FROM ran};

note 'once, if it is committed';

is(value('SELECT ' . job(1)), 1, 'a job has an id');
becomes('SELECT count(*) = 1 FROM ran', 'it is run');
becomes(sprintf($left, 0), 'and goes');
is(value('SELECT i, job FROM ran'), '1|1', 'it has known its id');
is(value('SELECT supervisor.current_job() IS NULL'), 't', 'which others do not have');
is(value(q{SELECT job, attempt, role, pool, state, tag, command FROM supervisor.job_history WHERE finished_at >= started_at}),
	'1|1|postgres|default|succeeded|INSERT 0 1|INSERT INTO ran VALUES (1)', 'the run is noted');

value('TRUNCATE ran');
value('BEGIN; SELECT ' . job(2) . '; ROLLBACK');
value('BEGIN; SELECT ' . job(3) . '; SAVEPOINT a; SELECT ' . job(4) . '; ROLLBACK TO a; SAVEPOINT b; SELECT ' . job(5)
	  . '; RELEASE b; COMMIT');
becomes('SELECT count(*) = 2 FROM ran', 'those of a transaction that commits are run');
becomes(sprintf($left, 0), 'and none is left');
is(value('SELECT string_agg(i::text, \' \' ORDER BY i) FROM ran'), '3 5', 'but none that was rolled back');

value('BEGIN; SELECT ' . job(6) . '; ' . "PREPARE TRANSACTION 'a'");
value('BEGIN; SELECT ' . job(7) . '; ' . "PREPARE TRANSACTION 'b'");
is(value('SELECT count(*) FROM supervisor.job'), 0, 'of one that is prepared there is none yet');
value("ROLLBACK PREPARED 'b'");
value("COMMIT PREPARED 'a'");
becomes('SELECT count(*) = 1 FROM ran WHERE i = 6', 'it is run once that is committed');
is(value('SELECT count(*) FROM ran WHERE i = 7'), 0, 'or not at all');

value('SELECT ' . job(8, q{run_at => 'infinity'}) . ', ' . job(9, q{run_at => now() + interval '1 h'}) . ', ' . job(10));
becomes('SELECT count(*) = 1 FROM ran WHERE i = 10', 'one that is due is run');
becomes(sprintf($left, 2), 'and no other');
value('DELETE FROM supervisor.job');

note 'order';

value('TRUNCATE ran');
value('SELECT ' . join ', ', job(1, q{pool => 'one'}), job(2, q{pool => 'one', priority => 6}), job(3, q{pool => 'one', priority => 0}),
	job(4, q{pool => 'one', run_at => now() - interval '1 h'}), job(5, q{pool => 'one', run_at => now() - interval '2 h'}), job(6, q{pool => 'one'}));
becomes('SELECT count(*) = 6 FROM ran', 'all are run');
is(value($ran), '3 5 4 1 6 2', 'by priority, time and id');

note 'as whom';

value('TRUNCATE ran');
value('SELECT ' . job(1), user => 'alice');
value('SET ROLE alice; SELECT ' . job(2));
becomes('SELECT count(*) = 2 FROM ran', 'jobs of others are run');
is(value('SELECT DISTINCT who FROM ran'), 'alice alice', 'as who has enqueued them');
is(value(q{SELECT count(*) FROM supervisor.task_status}), 0, 'no task is shown for that');
is(value(q{SELECT sum(queued_tasks + tasks_succeeded + tasks_failed + tasks_canceled) FROM supervisor.pool_status}), 0, 'nor counted');

note 'many';

value('TRUNCATE ran');
value(q{SELECT count(supervisor.enqueue('INSERT INTO ran VALUES ($1::integer)', ARRAY[i::text])) FROM generate_series(1, 3000) i});
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'a task is run beside them');
becomes(sprintf($left, 0), 'many jobs are run');
is(value('SELECT count(*), count(DISTINCT i), count(DISTINCT job) FROM ran'), '3000|3000|3000', 'each once');
is(value('SELECT count(*) FROM supervisor.job_history h JOIN ran USING (job)'), 3000, 'and each is noted');
cmp_ok(value('SELECT count(DISTINCT pid) FROM supervisor.job_history h JOIN ran USING (job)'), '>', 1, 'by several workers');

note 'what a job does to itself';

value('TRUNCATE ran');
my %own = (
	deletes => 'DELETE FROM supervisor.job WHERE id = supervisor.current_job()',
	updates => q{UPDATE supervisor.job SET run_at = now() + interval '1 h', pool = 'one' WHERE id = supervisor.current_job()},
	twice => 'UPDATE supervisor.job SET attempts = 3; UPDATE supervisor.job SET attempts = 4',
	locks => 'SELECT FROM supervisor.job FOR UPDATE',
	truncates => 'TRUNCATE supervisor.job',
	rewrites => 'ALTER TABLE supervisor.job ALTER params SET STORAGE plain; CLUSTER supervisor.job USING job_place',
	savepoint => 'SAVEPOINT a; DELETE FROM supervisor.job; ROLLBACK TO a; SAVEPOINT b; UPDATE supervisor.job SET attempts = 1',
	reads => 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM supervisor.job',
	becomes => 'CREATE ROLE nobody; SET ROLE nobody; RESET ROLE; SET LOCAL ROLE nobody; RESET ROLE');
foreach my $what (sort keys %own)
{
	my $command = ($what eq 'reads' ? "$own{$what}; INSERT INTO ran VALUES (1)" : "INSERT INTO ran VALUES (1); $own{$what}");

	value(qq{DELETE FROM ran; SELECT supervisor.enqueue(\$job\$$command\$job\$)});
	becomes('SELECT count(*) = 1 FROM ran', "one that $what is run");
	becomes(sprintf($left, 0), "$what: and is gone");
	is(value('SELECT state FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 1'), 'succeeded', "$what: as is noted");
}

note 'failures';

value('DELETE FROM ran; CREATE TABLE parent (i integer PRIMARY KEY);'
	  . ' CREATE TABLE child (i integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);'
	  . q{ CREATE FUNCTION fails() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING errcode = ''P0042''; END'});
my %fails = (
	'SELECT 1/0' => '22012',
	'INSERT INTO child VALUES (1)' => '23503',
	'DECLARE c CURSOR WITH HOLD FOR SELECT fails()' => 'P0042',
	'DO $$ BEGIN COMMIT; END $$' => '2D000',
	'EXECUTE nothing' => '26000',
	q{ALTER TABLE supervisor.job ADD more text} => '55000',
	q{ALTER TABLE supervisor.job_history DISABLE TRIGGER job_history_row_changed} => '55000');
foreach my $command (sort keys %fails)
{
	value("DELETE FROM supervisor.job; SELECT supervisor.enqueue(\$job\$INSERT INTO ran VALUES (1); $command\$job\$, max_attempts => 1)");
	becomes(q{SELECT count(*) = 1 FROM supervisor.job WHERE state = 'f'}, "what fails is failed: $command");
	is(value('SELECT last_state, last_sqlstate, attempts, run_at FROM supervisor.job'), "failed|$fails{$command}|1|infinity", 'with its SQLSTATE');
	is(value('SELECT state, sqlstate FROM supervisor.job_history ORDER BY finished_at DESC LIMIT 1'), "failed|$fails{$command}", 'as is noted');
}
is(value('SELECT count(*) FROM ran'), 0, 'none of them has done anything');
value('DELETE FROM supervisor.job; CREATE SEQUENCE tries; GRANT USAGE ON tries TO PUBLIC');
value(q{SELECT supervisor.enqueue($$
	INSERT INTO ran VALUES (1);
	SELECT CASE WHEN nextval('tries') = 1 THEN pg_terminate_backend(pg_backend_pid()) END$$, retry_delay => '0')});
becomes('SELECT count(*) = 1 FROM ran', 'one whose worker was terminated is run again');
becomes(sprintf($left, 0), 'and goes');
is(value('SELECT last_value FROM tries'), 2, 'it has begun twice');

note 'the one who looks';

value('DELETE FROM ran');
my ($enqueues, $locks) = map { SupervisorTest::session($node) } 1 .. 2;
my $waiting = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker' AND wait_event_type = 'Lock'};
$enqueues->query_safe('BEGIN; SELECT ' . job(1));
$locks->query_safe('BEGIN; ALTER INDEX supervisor.job_place SET TABLESPACE pg_default');
$enqueues->query_safe('COMMIT');
becomes("SELECT EXISTS ($waiting)", 'he waits for who has locked the index');
value("SELECT pg_terminate_backend(pid) FROM ($waiting) w");
$locks->query_safe('COMMIT');
becomes('SELECT count(*) = 1 FROM ran', 'terminated, he leaves the look to another');
$_->quit foreach $enqueues, $locks;

note 'the server';

value('DELETE FROM ran');
value(q{SELECT supervisor.enqueue($$INSERT INTO ran VALUES (1); SELECT pg_sleep(CASE nextval('tries') WHEN 3 THEN 600 ELSE 0 END)$$)});
becomes('SELECT last_value = 3 FROM tries', 'one is being run');
$node->stop('immediate');
$node->start;
becomes('SELECT count(*) = 1 FROM ran', 'after a crash it is run again');
becomes(sprintf($left, 0), 'and goes');
is(value($ran), '1', 'it has done what it does once');

note 'the database';

value('CREATE DATABASE other');
value('CREATE EXTENSION supervisor; SELECT supervisor.enqueue($$SELECT pg_sleep(600)$$), supervisor.enqueue($$SELECT pg_sleep(600)$$),'
	  . ' supervisor.enqueue($$SELECT 1$$)', dbname => 'other');
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE datname = 'other' AND activity = 'busy'}, 'jobs of another database are run');
value('DROP DATABASE other WITH (FORCE)');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE datname = 'other'}, 'they go with it');
value('DELETE FROM ran; SELECT ' . job(1));
becomes('SELECT count(*) = 1 FROM ran', 'others are run');
value('CREATE DATABASE other');
value(q{CREATE EXTENSION supervisor; CREATE TABLE ran (i integer);
	SELECT supervisor.enqueue('INSERT INTO ran VALUES (1); DROP EXTENSION supervisor')}, dbname => 'other');
ok($node->poll_query_until('other', 'SELECT count(*) = 1 FROM ran'), 'a job may drop the extension');
value(q{CREATE EXTENSION supervisor; SELECT supervisor.enqueue('INSERT INTO ran VALUES (2)')}, dbname => 'other');
ok($node->poll_query_until('other', 'SELECT count(*) = 2 FROM ran'), 'and the first job of a new one has the same number');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected)/m, 'nothing unexpected in the log');
done_testing();
