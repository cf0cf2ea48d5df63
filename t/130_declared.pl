# Declared workers as SQL sees them: the table and the functions that write it,
# commands, C functions, and why one does not run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes eventually until_true value);

my $node = SupervisorTest::new_node(
	'main',
	'autovacuum' => 'off',
	'max_prepared_transactions' => 5,
	'max_worker_processes' => 40,
	'supervisor.max_workers' => 16,
	'supervisor.pool_size' => 1,
	'supervisor.restart_delay' => '10ms',
	'supervisor.max_restarts' => 1000);
my $probe = SupervisorTest::build_library('probe');
my $s = SupervisorTest::session($node);
my $super = $s->query_safe('SELECT current_user');

SupervisorTest::ask(\$s);

# Returns columns of the worker with that name, a line for each instance.
sub worker
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name' ORDER BY instance");
}

# Waits until all instances of the worker are in that state, with that reason.
sub reaches
{
	my ($name, $state, $reason, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $is_reason = defined $reason ? "reason = '$reason'" : 'reason IS NULL';

	becomes("SELECT bool_and(state = '$state' AND $is_reason) FROM supervisor.worker_status WHERE name = '$name'", $property)
	  or diag value("SELECT * FROM supervisor.event WHERE name = '$name'");
}

# Waits until the supervisor has taken notice of everything that has committed.
sub settle
{
	my ($dbname) = @_;

	$node->safe_psql($dbname // 'postgres', q{SELECT supervisor.add_worker('settled', 'SELECT', '1 h')});
	$s->wait_true(q{SELECT count(*) = 1 FROM supervisor.worker_status WHERE name = 'settled' AND state = 'running'})
	  or die 'no worker is started';
	$node->safe_psql($dbname // 'postgres', q{SELECT supervisor.remove_worker('settled')});
	$s->wait_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'settled'})
	  or die 'no worker is removed';
}

sub remove_all
{
	value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');
	$s->wait_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind IN ('command', 'library')})
	  or die 'there are still declared workers';
}

value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE boss LOGIN SUPERUSER;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice;
	CREATE TABLE runs (name text, at timestamptz DEFAULT clock_timestamp(), what text, n serial);
	GRANT ALL ON runs, runs_n_seq TO PUBLIC});

SupervisorTest::wait_ready($node, 'default', 1);
SupervisorTest::leaks($node);

note 'the table';

value(q{SELECT supervisor.add_worker('tick', 'INSERT INTO runs (name) VALUES (''tick'')', '10 ms')});
is(value(q{SELECT row_to_json(w) FROM supervisor.worker w}),
	qq({"name":"tick","command":"INSERT INTO runs (name) VALUES ('tick')","run_every":"00:00:00.01","library":null,)
	  . qq("function":null,"argument":null,"extra":null,"extra_bytes":null,"type":null,"role":"$super","settings":null,"instances":1,)
	  . q("start_after":"recovery_finished","restart":"always","restart_delay":null,"restart_delay_max":null,)
	  . q("max_restarts":null,"restart_window":null,"start_timeout":null,"stop_timeout":null,"run_timeout":null,)
	  . q("heartbeat_timeout":null,"bypass_allowconn":false,"bypass_rolelogincheck":false,"enabled":true,"extension":null}),
	'what is left out is seen in the row');
becomes(q{SELECT count(*) >= 3 FROM runs WHERE name = 'tick'}, 'a command runs, again and again');
is(worker('tick', q{instance, kind, pool IS NULL, datname, usename = current_user, state, reason IS NULL, command, tasks_succeeded IS NULL}),
	q{1|command|t|postgres|t|running|t|INSERT INTO runs (name) VALUES ('tick')|t}, 'worker_status shows it');
is(value(q{
		SELECT a.backend_type, a.application_name, a.usename = current_user, a.datname
		FROM pg_stat_activity a JOIN supervisor.worker_status w USING (pid) WHERE w.name = 'tick'}),
	'tick|supervisor: tick|t|postgres', 'and pg_stat_activity, with its name as backend_type');

value(q{SELECT supervisor.add_worker('all', 'SELECT', run_every => '1 day', type => 'a type', role => 'alice',
	instances => 2, start_after => 'consistent_state', restart => 'on_failure', restart_delay => '1 s',
	restart_delay_max => '2 s', max_restarts => 3, restart_window => '4 s', start_timeout => '5 s', stop_timeout => '6 s',
	run_timeout => '7 s', bypass_allowconn => true, enabled => false)});
is(value(q{SELECT w FROM supervisor.worker w WHERE name = 'all'}),
	q{(all,SELECT,"1 day",,,,,,"a type",alice,,2,consistent_state,on_failure,00:00:01,00:00:02,3,00:00:04,00:00:05,00:00:06,00:00:07,,t,f,f,)},
	'what is given is in the row');
reaches('all', 'stopped', 'disabled', 'a worker that is not enabled does not run');
is(worker('all', 'slot IS NULL, detail'), "t|it is not enabled\nt|it is not enabled", 'has no slot, and says so');
value(q{SELECT supervisor.alter_worker('all', type => 'another type')});
is(value(q{SELECT w FROM supervisor.worker w WHERE name = 'all'}),
	q{(all,SELECT,"1 day",,,,,,"another type",alice,,2,consistent_state,on_failure,00:00:01,00:00:02,3,00:00:04,00:00:05,00:00:06,00:00:07,,t,f,f,)},
	'alter_worker leaves what is not given');
value(q{SELECT supervisor.alter_worker('all', enabled => true)});
reaches('all', 'running', undef, 'it can be enabled');
is(value(q{SELECT string_agg(DISTINCT backend_type || ', ' || usename, ' ') FROM pg_stat_activity WHERE application_name = 'supervisor: all'}),
	'another type, alice', 'type is the backend_type, role the session\'s');
value(q{SELECT supervisor.remove_worker('all')});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'all'}, 'remove_worker ends all instances');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'supervisor: all'}), '0', 'no process of it is left');

is(value(q{
		SET ROLE alice;
		SELECT supervisor.add_worker('hers', 'SELECT', '1 h');
		RESET ROLE;
		SELECT role FROM supervisor.worker WHERE name = 'hers'}),
	"\nalice", 'the role is by default the current one');
reaches('hers', 'running', undef, 'it runs');

note 'only what has changed is restarted';

value(q{SELECT supervisor.add_worker('still', 'SELECT', '1 h')});
reaches('still', 'running', undef, 'a third worker runs');
my $generations = q{SELECT string_agg(name || slot || '/' || generation || '/' || pid, ' ' ORDER BY name)
	FROM supervisor.worker_status WHERE name IN ('tick', 'hers')};
my $before = value($generations);
my $still = worker('still', 'generation');
value(q{SELECT supervisor.alter_worker('still', 'SELECT 2')});
becomes("SELECT generation > $still AND state = 'running' FROM supervisor.worker_status WHERE name = 'still'",
	'a worker whose command changes is replaced');
is(worker('still', 'command'), 'SELECT 2', 'and runs the new command');
is(value($generations), $before, 'the others run on');
$still = worker('still', 'generation, pid');
value(q{SELECT supervisor.alter_worker('still', restart_delay => '2 s', max_restarts => 7, stop_timeout => '1 min', restart => 'never')});
settle();
is(worker('still', 'generation, pid'), $still, 'a change of how it is kept replaces no process');
value(q{UPDATE supervisor.worker SET command = command, run_every = run_every});
settle();
is(worker('still', 'generation, pid'), $still, 'nor does an update that changes nothing');
is(value($generations), $before, 'of any worker');
remove_all();

note 'transactions';

my $runs = q{SELECT coalesce(string_agg(name, ' ' ORDER BY name), 'none') FROM supervisor.worker_status WHERE kind = 'command'};
my $t = SupervisorTest::session($node);
$t->query_safe(q{BEGIN; SELECT supervisor.add_worker('a', 'SELECT', '1 h')});
settle();
is(value($runs), 'none', 'what has not committed does not run');
$t->query_safe('ROLLBACK');
settle();
is(value($runs), 'none', 'what is rolled back never does');
$t->query_safe(q{
	BEGIN;
	SELECT supervisor.add_worker('a', 'SELECT', '1 h');
	SAVEPOINT s;
	SELECT supervisor.add_worker('b', 'SELECT', '1 h');
	ROLLBACK TO s;
	SAVEPOINT s;
	SELECT supervisor.add_worker('c', 'SELECT', '1 h');
	RELEASE s;
	COMMIT});
settle();
is(value($runs), 'a c', 'savepoints count');
my $a = worker('a', 'generation, pid');
$t->query_safe(q{BEGIN; SELECT supervisor.alter_worker('a', 'SELECT 2'); SELECT supervisor.remove_worker('c')});
settle();
is(worker('a', 'generation, pid, command'), "$a|SELECT", 'a change that has not committed has no effect');
is(value($runs), 'a c', 'nor has a removal');
$t->query_safe('ROLLBACK');
settle();
is(worker('a', 'generation, pid, command'), "$a|SELECT", 'or one that is rolled back');
is(value($runs), 'a c', 'nor has its removal');

$t->query_safe(q{
	BEGIN;
	SELECT supervisor.add_worker('p', 'SELECT', '1 h');
	SELECT supervisor.remove_worker('c');
	PREPARE TRANSACTION 'p'});
settle();
is(value($runs), 'a c', 'what is prepared has no effect');
$t->query_safe(q{COMMIT PREPARED 'p'});
becomes(q{SELECT string_agg(name, ' ' ORDER BY name) = 'a p' FROM supervisor.worker_status WHERE kind = 'command'},
	'until it is committed');
$t->query_safe(q{BEGIN; SELECT supervisor.remove_worker('p'); PREPARE TRANSACTION 'p'});
$t->query_safe(q{ROLLBACK PREPARED 'p'});
settle();
is(value($runs), 'a p', 'a prepared transaction can be rolled back');
my $p = worker('p', 'generation, pid');
$t->query_safe(q{BEGIN; SELECT supervisor.remove_worker('p'); SELECT supervisor.add_worker('p', 'SELECT', '1 h'); COMMIT});
settle();
is(worker('p', 'state'), 'running', 'a worker that is removed and added in one transaction runs');
$t->quit;
remove_all();

note 'rows that others write';

value(q{INSERT INTO supervisor.worker (name, command, run_every, role) VALUES ('raw', 'SELECT', '1 h', 'alice')});
reaches('raw', 'running', undef, 'a row that a superuser writes is a worker');
value(q{UPDATE supervisor.worker SET instances = 0, command = 'SELECT 1' WHERE name = 'raw'});
becomes(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'supervisor: raw'}, 'a row that makes no sense runs nothing');
reaches('raw', 'failed', 'invalid', 'it is failed');
is(worker('raw', 'detail'), 'instances must be between 1 and 16', 'and says why');
value(q{UPDATE supervisor.worker SET instances = 2, library = 'x' WHERE name = 'raw'});
becomes(q{SELECT bool_and(state = 'failed' AND reason = 'invalid' AND detail = 'a worker cannot have both a command and a library')
	FROM supervisor.worker_status WHERE name = 'raw'}, 'each time');
value(q{UPDATE supervisor.worker SET library = NULL, command = rpad('SELECT 1', 20000000) WHERE name = 'raw'});
becomes(q{SELECT bool_and(state = 'failed' AND reason = 'invalid' AND detail = 'command is too long')
	FROM supervisor.worker_status WHERE name = 'raw'}, 'a command that is too long is not even fetched');
value(q{UPDATE supervisor.worker SET command = 'SELECT 1' WHERE name = 'raw'});
reaches('raw', 'running', undef, 'once it makes sense, it runs');
is(worker('raw', 'instance'), "1\n2", 'in all instances');
value(q{COPY supervisor.worker (name, command, run_every, role) FROM PROGRAM 'echo "copied,SELECT,1 h,alice"' (FORMAT csv)});
reaches('copied', 'running', undef, 'so is one that COPY writes');
value(q{UPDATE supervisor.worker SET name = 'renamed' WHERE name = 'copied'});
reaches('renamed', 'running', undef, 'a row with another name is another worker');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'copied'}, 'and the old one has ended');
value(q{DELETE FROM supervisor.worker WHERE name = 'raw'});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'raw'}, 'a row that is deleted ends its worker');
value(q{TRUNCATE supervisor.worker});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind = 'command'}, 'TRUNCATE ends all');

note 'when a command runs';

# One-sided: a loaded machine may delay any run, but not all, and none is early.
value(q{SELECT supervisor.add_worker('every', 'INSERT INTO runs (name) SELECT ''every'' FROM (SELECT clock_timestamp(), pg_sleep(0.3)) s', '500 ms')});
becomes(q{SELECT count(*) > 2 AND min(pause) < '800 ms' FROM (
		SELECT at - lag(at) OVER (ORDER BY n) AS pause FROM runs WHERE name = 'every') s},
	'run_every is from start to start, not from end to start');
value(q{SELECT supervisor.remove_worker('every')});
is(value(q{SELECT min(pause) > '250 ms' FROM (SELECT at - lag(at) OVER (ORDER BY n) AS pause FROM runs WHERE name = 'every') s}),
	't', 'and no run is early');
value(q{
	CREATE SEQUENCE late;
	SELECT supervisor.add_worker('late', $$
		INSERT INTO runs (name) VALUES ('late');
		SELECT pg_sleep(CASE nextval('late') WHEN 1 THEN 1 ELSE 0 END)$$, '200 ms')});
becomes(q{SELECT count(*) > 5 FROM runs WHERE name = 'late'}, 'a run that takes longer than run_every is followed by others');
value(q{SELECT supervisor.remove_worker('late')});
is(value(q{SELECT count(*) < 2 FROM (
			SELECT at - lag(at) OVER (ORDER BY n) AS pause FROM runs WHERE name = 'late') s WHERE pause < '100 ms'}),
	't', 'those that were missed are not made up for');

value(q{SELECT supervisor.add_worker('once', 'INSERT INTO runs (name) VALUES (''once'')')});
reaches('once', 'stopped', 'exited', 'without run_every a command runs once');
is(value(q{SELECT restart FROM supervisor.worker WHERE name = 'once'}), 'on_failure', 'as it is restarted on failure only');
is(worker('once', 'last_exit_code, last_sqlstate IS NULL, restart_at IS NULL, consecutive_failures'), '0|t|t|0', 'that was no failure');
settle();
is(value(q{SELECT count(*) FROM runs WHERE name = 'once'}), '1', 'and it was once');
value(q{SELECT supervisor.add_worker('again', 'INSERT INTO runs (name) VALUES (''again'')', restart => 'always')});
becomes(q{SELECT count(*) > 2 FROM runs WHERE name = 'again'}, 'with restart always, once per start');
becomes(q{SELECT restarts > 2 AND consecutive_failures = 0 FROM supervisor.worker_status WHERE name = 'again'}, 'which are no failures');
remove_all();

value(q{SELECT supervisor.add_worker('zero', 'INSERT INTO runs (name) VALUES (''zero'')', run_every => '0')});
reaches('zero', 'stopped', 'exited', 'a run_every of 0 is none');
is(value(q{SELECT restart FROM supervisor.worker WHERE name = 'zero'}), 'on_failure', 'it is restarted on failure only');
value(q{SELECT supervisor.alter_worker('zero', run_every => '10 ms')});
becomes(q{SELECT count(*) > 3 FROM runs WHERE name = 'zero'}, 'one that runs once can be altered to run again and again');
is(value(q{SELECT restart FROM supervisor.worker WHERE name = 'zero'}), 'always', 'and is always restarted then');
value(q{SELECT supervisor.alter_worker('zero', 'INSERT INTO runs (name) VALUES (''last'')', run_every => '0')});
reaches('zero', 'stopped', 'exited', 'and back');
is(value(q{SELECT count(*) FROM runs WHERE name = 'last'}), '1', 'so that it runs once');
value(q{SELECT supervisor.alter_worker('zero', run_every => '10 ms', restart => 'never'); SELECT supervisor.alter_worker('zero', run_every => '0')});
is(value(q{SELECT restart FROM supervisor.worker WHERE name = 'zero'}), 'never', 'what restart was set to stays');
remove_all();

SKIP:
{
	skip 'needs /proc', 1 unless -e '/proc/self/status';

	value(q{SELECT supervisor.add_worker('asleep', 'SELECT', '1 h')});
	becomes(q{SELECT state = 'idle' AND query = 'SELECT' FROM pg_stat_activity WHERE application_name = 'supervisor: asleep'},
		'between runs a worker is idle');
	my $pid = worker('asleep', 'pid');
	my $switches = sub {
		return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	};
	my ($first) = $switches->();
	$node->safe_psql('postgres', 'SELECT 1') foreach (1 .. 30);
	my ($last) = $switches->();
	is($last, $first, 'and sleeps until the next one is due');
	remove_all();
}

# What runs once has run once, also if it leaves what can't be dropped at once.
my $guard = SupervisorTest::session($node);
$guard->query_safe('SELECT pg_advisory_lock(54)');
value(q{SELECT supervisor.add_worker('once_only', $$
	INSERT INTO runs (name) VALUES ('once_only');
	CREATE TEMP TABLE guarded (a int);
	COMMIT;
	SELECT pg_advisory_lock_shared(54)$$, restart => 'never')});
until_true(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it has made a temporary table');
my $guarded = value(q{SELECT oid::regclass FROM pg_class WHERE relname = 'guarded'});
$guard->query_safe("BEGIN; LOCK TABLE $guarded IN ACCESS SHARE MODE; SELECT pg_advisory_unlock(54)");
until_true(q{SELECT state = 'stuck' AND detail = 'it hangs in its exit' FROM supervisor.worker_status WHERE name = 'once_only'}, 'it waits to drop that');
$guard->query_safe('ROLLBACK');
until_true(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'once_only'}, 'and ends');
is(value(q{SELECT count(*) FROM pg_class WHERE relname = 'guarded'}), '0', 'it has left nothing');
is(value(q{SELECT count(*) FROM runs WHERE name = 'once_only'}), '1', 'it has run once');
value(q{SELECT supervisor.remove_worker('once_only')});
$guard->quit;

note 'how a command is run';

# Adds a command that runs once, waits for its end, and returns how that was.
sub run
{
	my ($command, %opts) = @_;
	my $options = join '', map { ", $_ => '$opts{$_}'" } sort keys %opts;

	value("SELECT supervisor.add_worker('once', \$command\$$command\$command\$, restart => 'never'$options)");
	$s->wait_true(q{SELECT state = 'stopped' FROM supervisor.worker_status WHERE name = 'once'}) or die "$command does not end";
	my $result = worker('once', 'last_exit_code, last_sqlstate, last_error');
	value(q{SELECT supervisor.remove_worker('once')});
	$s->wait_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'once'}) or die 'the worker is still there';
	return $result;
}

sub what
{
	my $result = value(q{SELECT coalesce(string_agg(what, ' ' ORDER BY n), 'none') FROM runs});

	value('TRUNCATE runs');
	return $result;
}

value('TRUNCATE runs');
is(run(q{INSERT INTO runs (what) VALUES ('1'); INSERT INTO runs (what) VALUES ('2')}), '0||', 'several statements');
is(what(), '1 2', 'all are run');
is(run(q{INSERT INTO runs (what) VALUES ('1'); SELECT 1/0}), '1|22012|division by zero', 'an error ends the process');
is(what(), 'none', 'several statements are one transaction');
like(value(q{SELECT detail FROM supervisor.event WHERE name = 'once' AND event = 'exited' ORDER BY id DESC LIMIT 1}),
	qr/^exit code 1: division by zero$/, 'the error is in its event');
is(run(q{BEGIN; INSERT INTO runs (what) VALUES ('1'); COMMIT; INSERT INTO runs (what) VALUES ('2'); SELECT 1/0}), '1|22012|division by zero', 'BEGIN and COMMIT');
is(what(), '1', 'commit what is between them');
is(run(q{VACUUM runs}), '0||', 'VACUUM runs');
is(run(q{CREATE INDEX CONCURRENTLY runs_name ON runs (name)}), '0||', 'CREATE INDEX CONCURRENTLY, too');
value(q{CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO runs (what) VALUES ('1'); COMMIT;
		INSERT INTO runs (what) VALUES ('2'); ROLLBACK;
		INSERT INTO runs (what) VALUES ('3'); COMMIT;
		INSERT INTO runs (what) VALUES ('4'); RAISE 'that is all';
	END $$});
is(run('CALL steps()'), '1|P0001|that is all', 'CALL of a procedure that commits');
is(what(), '1 3', 'which has committed');
is(run(q{INSERT INTO runs (what) VALUES ('1'); COMMIT; BEGIN; INSERT INTO runs (what) VALUES ('2')}), '1|25001|command left a transaction block open',
	'a transaction that is left open is an error');
is(what(), '1', 'and rolled back');
like(run('COPY runs TO STDOUT'), qr/^1\|0A000\|/, 'there is no client to COPY to');
like(run('LISTEN x'), qr/^1\|/, 'nor one that could LISTEN');
is(run('SELEC'), '1|42601|syntax error at or near "SELEC"', 'a syntax error is one of its run');
is(run('SELECT pg_sleep(1000)', run_timeout => '50 ms'), '1|57014|canceling statement due to run timeout', 'run_timeout ends a run');
is(run(q{BEGIN; SELECT 1; COMMIT; SELECT pg_sleep(1000)}, run_timeout => '50 ms'), '1|57014|canceling statement due to run timeout', 'of several transactions');
is(run(q{SET statement_timeout = '50 ms'; SELECT pg_sleep(1000)}, run_timeout => '1 h'), '1|57014|canceling statement due to statement timeout',
	'statement_timeout is another');
value(q{SELECT supervisor.add_worker('quick', 'INSERT INTO runs (what) SELECT ''q'' FROM pg_sleep(0.02)', '10 ms', run_timeout => '2 s')});
becomes(q{SELECT extract(epoch FROM max(at) - min(at)) > 2.2 FROM runs WHERE what = 'q'}, 'run_timeout is for one run');
is(worker('quick', 'restarts, consecutive_failures'), '0|0', 'each begins anew');
remove_all();
what();

# It is read from its row, since only its beginning is in shared memory.
value(q{SELECT supervisor.add_worker('long', format('/* %s */ INSERT INTO runs (what) VALUES (length(%L))', repeat('x', 1000000), repeat('y', 1000)), '1 h')});
becomes(q{SELECT string_agg(what, ' ') = '1000' FROM runs}, 'a command of 1 MB runs');
value(q{SELECT supervisor.alter_worker('long', replace(command, 'yyy))', 'z))')) FROM supervisor.worker WHERE name = 'long';
	SELECT supervisor.alter_worker('long', replace(command, 'y''))', 'z''))')) FROM supervisor.worker WHERE name = 'long'});
becomes(q{SELECT count(*) = 2 FROM runs}, 'a change of its last characters is a change');
remove_all();
what();

note 'between runs';

value(q{SELECT supervisor.add_worker('hygiene', $$
	INSERT INTO runs (what) SELECT concat_ws(' ', current_user, session_user,
		current_setting('work_mem'), current_setting('search_path'), nullif(current_setting('my.own', true), ''), current_setting('application_name'),
		(SELECT count(*) FROM pg_class WHERE relpersistence = 't'), (SELECT count(*) FROM pg_prepared_statements),
		(SELECT count(*) FROM pg_cursors),
		(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'));
	SET work_mem = '1234kB';
	SET search_path = public, pg_catalog;
	SET my.own = 'mine';
	SET application_name = 'mine';
	CREATE TEMP TABLE mine (a int);
	PREPARE mine AS SELECT 1;
	SELECT pg_advisory_lock(1);
	DECLARE mine CURSOR WITH HOLD FOR SELECT 1;
	SET SESSION AUTHORIZATION alice;
	COMMIT$$, '10 ms', role => 'boss')});
becomes('SELECT count(*) > 3 FROM runs', 'a command that leaves much behind runs again');
is(value(q{SELECT string_agg(DISTINCT what, E'\n') FROM runs}), 'boss boss 4MB "$user", public supervisor: hygiene 0 0 0 0',
	'settings, temporary tables, prepared statements, cursors, locks and role are gone in the next run');
is(worker('hygiene', 'restarts'), '0', 'all in one process');
remove_all();
what();

note 'the session of a role';

is(run(q{
		RESET ROLE; RESET SESSION AUTHORIZATION;
		INSERT INTO runs (what) VALUES (current_user || ' ' || session_user || ' ' || current_setting('is_superuser'))}, role => 'alice'),
	'0||', 'a command runs as its role');
is(what(), 'alice alice off', 'and can\'t become another');
like(run('TABLE pg_authid', role => 'alice'), qr/^1\|42501\|/, 'with no more rights');
value(q{SELECT supervisor.add_worker('busy', 'SELECT pg_sleep(1000)', '1 h', role => 'alice')});
becomes(q{SELECT state = 'active' AND query = 'SELECT pg_sleep(1000)' AND usename = 'alice' FROM pg_stat_activity WHERE application_name = 'supervisor: busy'},
	'a statement that runs is in pg_stat_activity');
is(worker('busy', 'state, activity'), 'running|busy', 'its worker is busy');
my $pid = worker('busy', 'pid');
value("SELECT pg_cancel_backend($pid)");
becomes(q{SELECT last_sqlstate = '57014' FROM supervisor.worker_status WHERE name = 'busy'}, 'it can be canceled, which is an error');
becomes(q{SELECT state = 'running' AND activity = 'busy' FROM supervisor.worker_status WHERE name = 'busy'}, 'and is started again');
remove_all();

note 'rights that change';

value(q{
	CREATE DATABASE other;
	CREATE ROLE bob LOGIN});
$node->safe_psql('other', q{
	CREATE EXTENSION supervisor;
	CREATE TABLE runs (what text, n serial);
	GRANT ALL ON runs, runs_n_seq TO PUBLIC;
	SELECT supervisor.add_worker('his', 'INSERT INTO runs (what) VALUES (current_setting(''work_mem''))', '10 ms', role => 'bob')});
reaches('his', 'running', undef, 'a worker in another database runs');
my $log = -s $node->logfile;
value('ALTER ROLE bob NOLOGIN');
reaches('his', 'waiting', 'no_login', 'a role that may not log in any more');
becomes(q{SELECT restarts > 2 FROM supervisor.worker_status WHERE name = 'his'}, 'it is tried again');
is(worker('his', 'last_sqlstate, last_error, consecutive_failures'), '28000|role "bob" is not permitted to log in|0',
	'what is missing is no failure');
my @logged = slurp_file($node->logfile, $log) =~ /(role "bob" is not permitted to log in)/g;
is(scalar @logged, 1, 'and is logged once');
value('ALTER ROLE bob LOGIN');
reaches('his', 'running', undef, 'it runs once the role may log in');
SupervisorTest::set($node, 'log_min_messages' => 'panic');
value('ALTER ROLE bob NOLOGIN');
reaches('his', 'waiting', 'no_login', 'the reason is known without a line in the log, too');
SupervisorTest::set($node, 'log_min_messages' => 'warning');
value('ALTER ROLE bob LOGIN');
reaches('his', 'running', undef, 'and it runs again');
value('REVOKE CONNECT ON DATABASE other FROM PUBLIC');
reaches('his', 'waiting', 'database_not_allowed', 'a role that may not connect any more');
value('GRANT CONNECT ON DATABASE other TO bob');
reaches('his', 'running', undef, 'it runs once the role may connect');
value('ALTER DATABASE other ALLOW_CONNECTIONS false');
reaches('his', 'waiting', 'database_not_allowed', 'a database that is closed');
becomes(q{SELECT detail LIKE '%does not accept connections%' FROM supervisor.worker_status WHERE name = 'his'},
	'says so');
value('ALTER DATABASE other ALLOW_CONNECTIONS true');
reaches('his', 'running', undef, 'it runs once it is open');
value('ALTER DATABASE other IS_TEMPLATE true');
reaches('his', 'waiting', 'database_not_allowed', 'nothing runs in a template');
value('ALTER DATABASE other IS_TEMPLATE false');
reaches('his', 'running', undef, 'it runs once it is none');
my $his = worker('his', 'slot, restarts');
value(q{ALTER ROLE bob SET work_mem = '1MB'});
$t = SupervisorTest::session($node, dbname => 'other');
ok($t->wait_true(q{SELECT what = '1MB' FROM runs ORDER BY n DESC LIMIT 1}), 'settings of the role count from the next run on');
value(q{ALTER ROLE bob IN DATABASE other SET work_mem = '2MB'});
ok($t->wait_true(q{SELECT what = '2MB' FROM runs ORDER BY n DESC LIMIT 1}), 'those of the role in the database, too');
value(q{ALTER ROLE bob RESET ALL; ALTER ROLE bob IN DATABASE other RESET ALL; ALTER DATABASE other SET work_mem = '3MB'});
ok($t->wait_true(q{SELECT what = '3MB' FROM runs ORDER BY n DESC LIMIT 1}), 'and those of the database');
is(worker('his', 'consecutive_failures, last_exit_code'), '0|0', 'none of this is a failure');
$t->query_safe(q{SELECT supervisor.alter_worker('his', 'INSERT INTO runs (what) VALUES (current_setting(''is_superuser''))')});
value('ALTER ROLE bob SUPERUSER');
ok($t->wait_true(q{SELECT what = 'on' FROM runs ORDER BY n DESC LIMIT 1}), 'a role that becomes a superuser');
value('ALTER ROLE bob NOSUPERUSER');
ok($t->wait_true(q{SELECT what = 'off' FROM runs ORDER BY n DESC LIMIT 1}), 'or ceases to be one, is so in the next run');
value('ALTER ROLE bob RENAME TO robert');
settle('other');
becomes(q{SELECT usename = 'robert' AND state = 'running' FROM supervisor.worker_status WHERE name = 'his'}, 'a role that is renamed');
is($t->query_safe('SELECT role FROM supervisor.worker'), 'robert', 'is renamed in the row');
value(q{REVOKE CONNECT ON DATABASE other FROM robert});
$t->query_safe(q{DROP OWNED BY robert});
value(q{DROP OWNED BY robert; DROP ROLE robert});
reaches('his', 'waiting', 'no_role', 'a role that is dropped');
becomes(q{SELECT detail ~ '^role with OID \d+ does not exist$' AND restart_at IS NULL FROM supervisor.worker_status WHERE name = 'his'},
	'is named, and nothing is tried any more');
$t->query_safe(q{SELECT supervisor.alter_worker('his', role => 'alice')});
value(q{GRANT CONNECT ON DATABASE other TO alice});
reaches('his', 'running', undef, 'it runs with another role');
$t->quit;

note 'databases';

SupervisorTest::set($node, 'supervisor.databases' => 'postgres');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE datname = 'other'}, 'nothing runs in a database that is not listed');
value(q{SELECT supervisor.add_worker('here', 'SELECT', '1 h')});
reaches('here', 'running', undef, 'but in one that is');
SupervisorTest::set($node, 'supervisor.databases' => 'other, template1');
reaches('his', 'running', undef, 'a list that changes is followed');
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'here'}, 'both ways');
SupervisorTest::set($node, 'supervisor.databases' => '*');
reaches('here', 'running', undef, 'an asterisk stands for all');
$node->safe_psql('other', q{SELECT supervisor.add_worker('here', 'SELECT', '1 h')});
becomes(q{SELECT string_agg(datname, ' ' ORDER BY datname) = 'other postgres' FROM supervisor.worker_status WHERE name = 'here' AND state = 'running'},
	'the same name in two databases is two workers');

# DDL on databases, or a VACUUM FULL, may keep it from pg_database
if ($node->pg_version >= 17)
{
	local $ENV{PGOPTIONS} = '-c transaction_timeout=0';
	my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
	my $locks = SupervisorTest::session($node);

	$locks->query_safe(q{ALTER SYSTEM SET supervisor.databases = 'postgres, other'});
	$locks->query_safe(q{ALTER SYSTEM SET transaction_timeout = '1ms'});
	$locks->query_safe('BEGIN; LOCK pg_database; SELECT pg_reload_conf()');
	is($locks->query_safe(q{SELECT supervisor.restart_pool('default', '1 min')}), 't', 'the supervisor goes on where pg_database is locked');
	is($locks->query_safe("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted"), '0', 'and waits for no lock');
	$locks->query_safe('ROLLBACK');
	$locks->query_safe('ALTER SYSTEM RESET transaction_timeout');
	$locks->query_safe(q{ALTER SYSTEM SET supervisor.databases = '*'});
	$locks->query_safe('SELECT pg_reload_conf()');
	ok($locks->wait_true("SELECT pid = $pid FROM pg_stat_activity WHERE backend_type = 'supervisor'"), 'and no timeout ends it');
	$locks->quit;
	delete local $ENV{PGOPTIONS};
	# until the postmaster has reloaded that, it ends whoever connects
	ok(eventually(sub { (eval { value('SHOW transaction_timeout') } // '') eq '0' }), 'as other processes, now');
}

value(q{SELECT supervisor.remove_worker('here')});
becomes(q{SELECT string_agg(datname, ' ' ORDER BY datname) = 'other' FROM supervisor.worker_status WHERE name = 'here'}, 'one can be removed');
value(q{DROP DATABASE other});
becomes(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE kind = 'command'}, 'a database can be dropped, and its workers are gone');

note 'switched off';

value(q{SELECT supervisor.add_worker('lib', library => '} . $probe . q{', function => 'probe_main')});
value(q{SELECT supervisor.add_worker('cmd', 'SELECT', '1 h', instances => 2)});
reaches('lib', 'running', undef, 'a C function runs');
reaches('cmd', 'running', undef, 'and a command');
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
reaches('lib', 'stopped', 'disabled', 'with start_workers off, no C function runs');
reaches('cmd', 'stopped', 'disabled', 'nor any command');
is(worker('cmd', 'pid IS NULL, detail'), "t|supervisor.start_workers is off\nt|supervisor.start_workers is off", 'and says so');
value(q{SELECT supervisor.add_worker('new', 'SELECT', '1 h')});
reaches('new', 'stopped', 'disabled', 'nor one that is added');
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'the pool does');
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
reaches($_, 'running', undef, "when it is on again, $_ runs") foreach ('lib', 'cmd', 'new');
remove_all();

note 'instances and slots';

value(q{SELECT supervisor.add_worker('many', 'SELECT', '1 h', instances => 3)});
reaches('many', 'running', undef, 'a worker with instances');
is(worker('many', 'instance'), "1\n2\n3", 'numbers them');
my $many = q{SELECT string_agg(instance || ':' || slot || '/' || generation, ' ' ORDER BY instance)
	FROM supervisor.worker_status WHERE name = 'many' AND instance <= 2};
my $two = value($many);
value(q{SELECT supervisor.alter_worker('many', instances => 2)});
becomes(q{SELECT count(*) = 2 FROM supervisor.worker_status WHERE name = 'many'}, 'they can become fewer');
value(q{SELECT supervisor.alter_worker('many', instances => 4)});
becomes(q{SELECT count(*) = 4 FROM supervisor.worker_status WHERE name = 'many' AND state = 'running'}, 'or more');
is(value($many), $two, 'those that stay run on');

$log = -s $node->logfile;
value(q{SELECT supervisor.add_worker('more', 'SELECT', '1 h', instances => 14)});
becomes(q{SELECT count(*) = 11 FROM supervisor.worker_status WHERE name = 'more' AND state = 'running'}, 'more instances than there are slots');
is(value(q{SELECT DISTINCT count(*) OVER (), slot, state, reason, detail FROM supervisor.worker_status WHERE name = 'more' AND state <> 'running'}),
	'3||waiting|no_slot|all slots are taken: see supervisor.max_workers', 'some wait for one');
$node->wait_for_log(qr/LOG: .*no slot for 3 declared workers\n.*HINT: .*supervisor\.max_workers/, $log);
value(q{SELECT supervisor.alter_worker('many', instances => 1)});
reaches('more', 'running', undef, 'which they get when others go');
value(q{SELECT supervisor.remove_worker('many')});
remove_all();
is(SupervisorTest::leaks($node), '', 'all slots are given back');

note 'C functions';

# Returns what the probe has logged since.
sub probe_says
{
	my ($offset) = @_;

	$node->wait_for_log(qr/LOG: .*probe ".*\n/, $offset);
	return slurp_file($node->logfile, $offset) =~ /LOG: .*(probe ".*)\n/;
}

$log = -s $node->logfile;
value(qq{SELECT supervisor.add_worker('probe', library => '$probe', function => 'probe_main', argument => -7,
	extra => 'for you', type => 'probes')});
my $flags = $node->pg_version->major < 19 ? 3 : 7;		# 4: DDL on its database may end it
is((probe_says($log))[0],
	qq{probe "probe": type "probes", library "$probe", function "probe_main", argument -7, -7, extra "for you", flags $flags, SIGTERM blocked},
	'a C function is called as the postmaster would');
is(worker('probe', 'kind, state, activity IS NULL, command IS NULL'), 'library|running|t|t', 'worker_status shows it');
$log = -s $node->logfile;
my $extra = 'e' x 127;
value(qq{SELECT supervisor.alter_worker('probe', argument => 2147483647, extra => '$extra')});
like((probe_says($log))[0], qr/argument 2147483647, 2147483647, extra "$extra"/, 'an argument that changes replaces it');
value(q{SELECT supervisor.remove_worker('probe')});
$log = -s $node->logfile;
value(qq{SELECT supervisor.add_worker('plain', library => '$probe', function => 'probe_main')});
like((probe_says($log))[0], qr/probe "plain": type "plain".*argument 0, 0, extra "",/, 'nothing given is 0, no extra, and its name as type');
remove_all();

my @bytes = map { sprintf '%02x', $_ * 2 % 256 } 0 .. 127;
$log = -s $node->logfile;
value(qq{SELECT supervisor.add_worker('bytes', library => '$probe', function => 'probe_bytes', argument => 4000000000,
	extra_bytes => '\\x@{[join '', @bytes]}')});
is((probe_says($log))[0], 'probe "bytes": argument 4000000000, OID 4000000000, extra ' . join('', @bytes),
	'an argument may be an OID beyond 2^31, extra may be 128 bytes of any kind');
$log = -s $node->logfile;
value(q{SELECT supervisor.alter_worker('bytes', argument => -2, extra => 'ab')});
is((probe_says($log))[0], 'probe "bytes": argument -2, OID 4294967294, extra 6162' . '00' x 126, 'extra takes the place of extra_bytes');
is(value(q{SELECT extra, extra_bytes IS NULL FROM supervisor.worker WHERE name = 'bytes'}), 'ab|t', 'in the row, too');
$log = -s $node->logfile;
value(q{SELECT supervisor.alter_worker('bytes', extra_bytes => '\\x0001')});
like((probe_says($log))[0], qr/extra 0001(?:00){126}$/, 'and the other way');
$log = -s $node->logfile;
value(q{SELECT supervisor.alter_worker('bytes', extra_bytes => '')});
like((probe_says($log))[0], qr/extra (?:00){128}$/, 'none is none');
remove_all();

# What is missing later.
value(qq{INSERT INTO supervisor.worker (name, library, function) VALUES
	('nolib', '$probe-gone', 'probe_main'), ('nofunc', '$probe', 'probe_gone'), ('good', '$probe', 'probe_main')});
reaches('nolib', 'waiting', 'no_library', 'a library that is missing');
like(worker('nolib', 'last_sqlstate, last_error'), qr/^58P01\|could not access file ".*probe-gone"/, 'says so');
reaches('nofunc', 'waiting', 'no_function', 'a function that is missing');
like(worker('nofunc', 'last_sqlstate, last_error'), qr/^42883\|could not find function "probe_gone"/, 'says so, too');
reaches('good', 'running', undef, 'others are not disturbed');
value(qq{UPDATE supervisor.worker SET function = 'probe_main' WHERE name = 'nofunc'});
reaches('nofunc', 'running', undef, 'a function that is found runs');
is(system('cp', "$probe.so", "$probe-gone.so"), 0, 'the library appears');
reaches('nolib', 'running', undef, 'and is found at the next try');
remove_all();

$s->quit;
$node->stop;

note 'workers of other extensions';

my $libdir = SupervisorTest::pg_config('pkglibdir');
my %there = map { $_ => -f "$libdir/$_.so" } qw(pg_prewarm worker_spi pg_cron);
my @preload = grep { $there{$_} } qw(worker_spi pg_cron);

$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => join(', ', 'supervisor', @preload),
	'worker_spi.naptime' => 1));
$node->start;
$s = SupervisorTest::session($node);

SKIP:
{
	skip 'there is no pg_prewarm', 5 unless $there{pg_prewarm};

	value(q{SELECT supervisor.add_worker('prewarm', library => 'pg_prewarm', function => 'autoprewarm_main')});
	reaches('prewarm', 'running', undef, 'autoprewarm runs');
	is(value(q{SELECT supervisor.restart_worker('prewarm')}), 't', 'is restarted');
	ok(-f $node->data_dir . '/autoprewarm.blocks', 'and has written its list at its end');
	is(value(q{SELECT supervisor.stop_worker('prewarm')}), 't', 'is stopped');
	is(worker('prewarm', 'state, reason, last_error IS NULL'), 'stopped|disabled|t', 'without an error');
}

SKIP:
{
	skip 'there is no worker_spi', 6 unless $there{worker_spi};

	my (undef, $said) = $s->error_of(
		q{SELECT supervisor.add_worker('spi', library => 'worker_spi', function => 'worker_spi_main', argument => 7, type => 'counter')});
	like($said, qr/WARNING: .*function "worker_spi_main" of library "worker_spi" has a background worker already/, 'worker_spi has its own, of which there is a warning');
	becomes(q{SELECT to_regclass('schema7.counted') IS NOT NULL}, 'worker_spi makes the schema that its argument names');
	value(q{INSERT INTO schema7.counted VALUES ('total', 0), ('delta', 42)});
	becomes(q{SELECT value = 42 FROM schema7.counted WHERE type = 'total'}, 'and does its work');
	is(worker('spi', 'datname, state'), 'postgres|running', 'worker_status knows its database');
	is(value(q{SELECT backend_type FROM pg_stat_activity WHERE pid = (SELECT pid FROM supervisor.worker_status WHERE name = 'spi')}),
		'counter', 'pg_stat_activity its type');
	is(value(q{SELECT supervisor.restart_worker('spi')}), 't', 'it can be restarted');
}

SKIP:
{
	skip 'there is no pg_cron', 5 unless $there{pg_cron};

	# Its own one, which it registers while it is preloaded, ends for good.
	value(q{CREATE EXTENSION pg_cron});
	value(q{SELECT pg_terminate_backend(pid, 180000) FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'});
	value(q{SELECT supervisor.add_worker('cron', library => 'pg_cron', function => 'PgCronLauncherMain', type => 'cron')});
	becomes(q{SELECT application_name = 'pg_cron scheduler' FROM pg_stat_activity WHERE backend_type = 'cron'}, 'the launcher of pg_cron runs');
	is(value(q{SELECT supervisor.restart_worker('cron')}), 't', 'it can be restarted');
	becomes(q{SELECT application_name = 'pg_cron scheduler' FROM pg_stat_activity WHERE backend_type = 'cron'}, 'and runs again');
	is(value(q{SELECT supervisor.stop_worker('cron')}), 't', 'it can be stopped');
	is(value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_cron scheduler'}), '0', 'and is gone');
}
remove_all();

note 'background worker slots';

$s->quit;
$node->stop;
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'max_logical_replication_workers' => 0,
	'max_worker_processes' => 9));
$node->start;
$s = SupervisorTest::session($node);

# Three are the supervisor's, the loader's and the pool's.
$log = -s $node->logfile;
value(q{SELECT supervisor.add_worker('many', 'SELECT', '1 h', instances => 8)});
becomes(q{SELECT count(*) FILTER (WHERE state = 'running') = 6 AND count(*) FILTER (WHERE reason = 'no_background_worker_slot') = 2
	FROM supervisor.worker_status WHERE name = 'many'}, 'more instances than background worker slots');
is(value(q{SELECT DISTINCT state, detail FROM supervisor.worker_status WHERE reason = 'no_background_worker_slot'}),
	'waiting|the server has no free background worker slot', 'some wait for one');
$node->wait_for_log(qr/LOG: .*could not start worker "many" in slot \d+: out of background worker slots\n.*\n.*HINT: .*max_worker_processes/, $log);
value(q{SELECT supervisor.alter_worker('many', instances => 7)});
becomes(q{SELECT count(*) = 7 AND count(*) FILTER (WHERE state = 'running') = 6 FROM supervisor.worker_status WHERE name = 'many'},
	'a change takes effect though none is free');
is(value(q{SELECT supervisor.execute('SELECT 1', timeout => '3 min')}), 'SELECT 1', 'and the pool has its own again');
value(q{SELECT supervisor.alter_worker('many', instances => 5)});
reaches('many', 'running', undef, 'all run when there are enough');
remove_all();

note 'many workers in several databases';

$s->quit;
$node->stop;
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'restart_after_crash' => 'on',
	'max_worker_processes' => 64,
	'supervisor.max_workers' => 60));
$node->start;
$s = SupervisorTest::session($node);
foreach my $dbname (map { "many$_" } 1 .. 4)
{
	value("CREATE DATABASE $dbname TEMPLATE postgres");
	$node->safe_psql($dbname, q{
		SELECT supervisor.add_worker('w' || i, 'INSERT INTO runs (name) VALUES (''w'')', '1 h') FROM generate_series(1, 10) i;
		SELECT supervisor.add_worker('off', 'SELECT', '1 h', enabled => false)});
}
my $all = q{SELECT count(*) = 40 AND count(DISTINCT pid) = 40 AND count(DISTINCT (datname, name)) = 40
	FROM supervisor.worker_status WHERE state = 'running' AND kind = 'command'};
becomes($all, 'all workers of all databases run');
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
becomes(q{SELECT count(*) = 44 FROM supervisor.worker_status WHERE state = 'stopped'}, 'all stop');
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
becomes($all, 'and start');
$s->quit;
$node->restart;
$s = SupervisorTest::session($node);
becomes($all, 'all run after a restart of the server');
$log = -s $node->logfile;
kill 'KILL', worker('w1', 'pid') =~ /(\d+)/ or die "could not kill a worker: $!";
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
eval { $s->quit };
SupervisorTest::wait_true($node, 'SELECT true');
$s = SupervisorTest::session($node);
becomes($all, 'and after a crash');
value('DROP DATABASE many1');
becomes(q{SELECT count(*) = 30 AND count(DISTINCT datname) = 3 FROM supervisor.worker_status WHERE state = 'running' AND kind = 'command'},
	'those of a database that is dropped are gone, the others run');

note 'at the end';

$s->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal (?!9)/, 'no process has crashed by itself');
done_testing();
