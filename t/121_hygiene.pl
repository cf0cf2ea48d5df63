# After a task nothing of it is left: not for the next task of the same role,
# which may get the same session, and not for anybody else.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused value);

# One worker, so that the next task gets the session of the last one.
my $node = SupervisorTest::new_node(
	'hygiene',
	'autovacuum' => 'off',
	'wal_level' => 'replica',
	'max_replication_slots' => 1,
	'max_wal_senders' => 1,
	'supervisor.pool_size' => 1);

my $super = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE mate NOLOGIN;
	GRANT mate TO alice;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob;
	CREATE SCHEMA evil;
	GRANT ALL ON SCHEMA evil TO alice;
	CREATE SEQUENCE seq;
	CREATE TABLE t (a int);
	GRANT ALL ON seq, t TO PUBLIC;
	CREATE FUNCTION cancel_me() RETURNS bool LANGUAGE sql SECURITY DEFINER RETURN pg_cancel_backend(pg_backend_pid());
	CREATE DATABASE other;
	SELECT pg_replication_origin_create('origin')});
$node->safe_psql(
	'other', q{
	CREATE EXTENSION supervisor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice});

SupervisorTest::ask(\$node);

# Runs a command in a task, and returns its row as text.
sub task
{
	my ($s, $command) = @_;

	return $s->query_safe("SELECT v FROM supervisor.run(\$task\$$command\$task\$) AS t(v text)");
}

my $alice = SupervisorTest::session($node, user => 'alice');
my $boss = SupervisorTest::session($node);
my $pid = 'SELECT pg_backend_pid()::text';

# All settings that a task sees, by name.
sub settings
{
	my ($s) = @_;
	my $all = task($s,
		q{SELECT string_agg(name || '=' || setting, E'\n') FROM pg_settings WHERE name NOT LIKE 'my.%'});

	return { map { split /=/, $_, 2 } split /\n/, $all };
}

# What differs between two of these.
sub difference
{
	my ($old, $new) = @_;

	return join ', ',
	  map { "$_ was " . ($old->{$_} // 'not there') . ' and is ' . ($new->{$_} // 'not there') }
	  grep { ($old->{$_} // '(undef)') ne ($new->{$_} // '(undef)') }
	  sort keys %{ { %$old, %$new } };
}

# Sums up what should be as in a new session.
my $state = q{
	SELECT concat_ws(' ',
		'user', current_user, session_user,
		'temp', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
		(SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
		(SELECT count(*) FROM pg_type WHERE typnamespace = pg_my_temp_schema()),
		'prepared', (SELECT count(*) FROM pg_prepared_statements),
		'cursors', (SELECT count(*) FROM pg_cursors WHERE name <> ''),
		'locks', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'tuple', 'object')),
		'listens', (SELECT count(*) FROM pg_listening_channels()),
		'xact', pg_current_xact_id_if_assigned(), current_setting('transaction_isolation'), current_setting('transaction_read_only'),
		'name', current_setting('application_name'), 'encoding', current_setting('client_encoding'),
		'own', coalesce(current_setting('my.own', true), ''))};

my $fresh_state = task($alice, $state);
$alice->query_safe(q{SELECT supervisor.execute('DO $$ BEGIN END $$')});	# loads PL/pgSQL, which stays
my $fresh_settings = settings($alice);
my $alices_pid = task($alice, $pid);

like($fresh_state, qr/^user alice alice temp 0 0 0 prepared 0 cursors 0 locks 0 listens 0 xact read committed off name supervisor: pool default, slot 0 encoding UTF8 own $/,
	'a new session is clean');

# What a task may leave, by a command that is complete in itself.
my @dirt = (
	[ 'a temporary table', 'CREATE TEMP TABLE leftover (a int)' ],
	[ 'a temporary table with rows and index', 'CREATE TEMP TABLE leftover AS SELECT generate_series(1, 1000) a; CREATE INDEX ON leftover (a)' ],
	[ 'a temporary function', q{CREATE FUNCTION pg_temp.leftover() RETURNS int LANGUAGE sql AS 'SELECT 1'} ],
	[ 'a temporary type', 'CREATE TYPE pg_temp.leftover AS (a int)' ],
	[ 'a temporary view', 'CREATE TEMP VIEW leftover AS SELECT 1' ],
	[ 'a temporary sequence', 'CREATE TEMP SEQUENCE leftover' ],
	[ 'a prepared statement', 'PREPARE leftover AS SELECT 1' ],
	[ 'a cursor WITH HOLD', 'DECLARE leftover CURSOR WITH HOLD FOR SELECT generate_series(1, 10000)' ],
	[ 'an advisory lock', 'SELECT pg_advisory_lock(1)' ],
	[ 'advisory locks, some of them twice', 'SELECT pg_advisory_lock(a % 10), pg_advisory_lock_shared(11) FROM generate_series(1, 20) a' ],
	[ 'SET', q{SET work_mem = '7MB'} ],
	[ 'set_config()', q{SELECT set_config('work_mem', '7MB', false)} ],
	[ 'SET search_path', 'SET search_path = evil' ],
	[ 'SET TIME ZONE', q{SET TIME ZONE 'Asia/Tokyo'} ],
	[ 'SET DateStyle', 'SET DateStyle = German' ],
	[ 'SET client_encoding', 'SET client_encoding = LATIN1' ],
	[ 'SET client_encoding = SQL_ASCII', q{SET NAMES 'SQL_ASCII'} ],
	[ 'SET application_name', 'SET application_name = evil' ],
	[ 'SET of a setting of its own', q{SET my.own = 'evil'} ],
	[ 'SET default_transaction_read_only', 'SET default_transaction_read_only = on' ],
	[ 'SET SESSION CHARACTERISTICS', 'SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE' ],
	[ 'SET of timeouts', q{SET statement_timeout = '1h'; SET lock_timeout = '1h'; SET idle_in_transaction_session_timeout = '1h'} ],
	[ 'SET of many', 'SET row_security = off; SET default_tablespace = pg_default; SET check_function_bodies = off; SET quote_all_identifiers = on; SET client_min_messages = error; SET jit = off; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan' ],
	[ 'SET ROLE', 'SET ROLE mate' ],
	[ 'RESET ALL', 'RESET ALL' ]);

# The ways in which a task ends after it has done that.
my @ends = (
	[ 'success', '; SELECT 1', qr/^(?!.*ERROR)/s ],
	[ 'an error after COMMIT', '; COMMIT; SELECT 1/0', qr/22012/ ],
	[ 'a syntax error in PL/pgSQL', q{; COMMIT; DO 'BEGIN PERFORM FROM FROM; END'}, qr/42601/ ],
	[ 'an open transaction', '; COMMIT; BEGIN READ WRITE; INSERT INTO public.t VALUES (1)', qr/25001/ ],
	[ 'an aborted transaction', '; COMMIT; BEGIN READ WRITE; SAVEPOINT a; INSERT INTO public.t VALUES (1); SELECT 1/0', qr/22012/ ],
	[ 'a cancel', '; COMMIT; SELECT public.cancel_me(), pg_sleep(3600)', qr/57014/ ]);

sub run_dirty
{
	my ($s, $what, $command, $end) = @_;
	my ($name, $tail, $expected) = @$end;
	my ($sqlstate, $stderr) = $s->error_of("SELECT supervisor.execute(\$task\$BEGIN; $command$tail\$task\$)");

	$stderr =~ s/WARNING:.*?(?=ERROR|\z)//s;
	like($stderr, $expected, "$what, then $name: it ended so") or diag("$command$tail");
}

foreach my $end (@ends)
{
	note "what is left after $end->[0]";
	my $tail = $end->[0] eq 'success' ? [ $end->[0], '; COMMIT', $end->[2] ] : $end;

	foreach my $dirt (@dirt)
	{
		my ($what, $command) = @$dirt;

		run_dirty($alice, $what, $command, $tail);
		is(task($alice, $state), $fresh_state, "$what, then $end->[0]: nothing is left");
		is(difference($fresh_settings, settings($alice)), '', "$what, then $end->[0]: all settings are as before");
	}
}
is(task($alice, $pid), $alices_pid, 'all that was one session');
is(value('SELECT count(*) FROM t'), '0', 'nothing of open transactions is in the table');

note 'other things that sessions remember';

foreach my $call ("currval('seq')", 'lastval()')
{
	task($alice, "SELECT nextval('seq')::text");
	is(($alice->error_of("SELECT supervisor.execute(\$\$SELECT $call\$\$)"))[0], '55000', "$call of the last task is forgotten");
}
like(($alice->error_of(q{SELECT supervisor.execute('LISTEN channel')}))[1], qr/ERROR: .*cannot execute LISTEN/,
	'nobody can LISTEN');
is(task($alice, $state), $fresh_state, 'and nothing is left of it');

# SET LOCAL, in a transaction of its own and in that of the task
foreach my $command (
	q{SET LOCAL work_mem = '7MB'},
	q{BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SET LOCAL work_mem = '7MB'; COMMIT},
	q{SET TRANSACTION ISOLATION LEVEL REPEATABLE READ},
	q{DO $$ BEGIN SET LOCAL work_mem = '7MB'; RAISE 'x'; END $$},
	q{BEGIN; SET work_mem = '7MB'; ROLLBACK})
{
	$alice->error_of("SELECT supervisor.execute(\$task\$$command\$task\$)");
	is(task($alice, $state), $fresh_state, "$command: nothing is left");
	is(task($alice, q{SHOW work_mem}), '4MB', "$command: work_mem is as before");
}

# What came from the submitter is not for others of the same role.
my $other = SupervisorTest::session($node, user => 'alice');
$alice->query_safe(q{SET work_mem = '9MB'; SET my.own = 'mine'});
is(task($alice, q{SELECT current_setting('work_mem') || current_setting('my.own')}), '9MBmine', "the submitter's settings come along");
is(task($other, $state), $fresh_state, "they are not in a task of another session");
is(task($other, 'SHOW work_mem'), '4MB', 'none of them');
$alice->query_safe('RESET ALL');
is(task($alice, 'SHOW work_mem'), '4MB', 'nor in the next of this session after RESET');
$other->quit;

# The list of settings must not be of a library that has been loaded since.
my $loads = SupervisorTest::session($node, user => 'alice');
$loads->query_safe("SET plpgsql.$_")
  foreach ('variable_conflict = use_column', 'print_strict_params = on', 'check_asserts = off', 'extra_warnings = "all"', 'extra_errors = "all"');
$loads->query_safe(q{SELECT supervisor.execute('SELECT 1')});
$loads->query(q{DO $$ BEGIN END $$});
is( join(' ', map { task($loads, "DO 'BEGIN END'; SHOW plpgsql.$_") } qw(check_asserts extra_errors variable_conflict)),
	'off all error',
	'settings made before their library was loaded come along, as far as the role may set them');
$loads->quit;

# The timeouts of one task do not end the next.
$alice->query_safe(q{SET supervisor.task_timeout = '10s'; SET statement_timeout = '9s'});
task($alice, q{SELECT set_config('statement_timeout', '0', false)});
$alice->query_safe('RESET ALL');
is(task($alice, q{SELECT current_setting('statement_timeout') || ' ' || current_setting('supervisor.task_timeout')}),
	'0 0', 'timeouts do not stay');

note 'what a superuser may leave';

my $boss_state = task($boss, $state);
$boss->query_safe(q{SELECT supervisor.execute('DO $$ BEGIN END $$')});
my $boss_settings = settings($boss);
my $boss_pid = task($boss, $pid);
my @boss_dirt = (
	[ 'SET ROLE', 'SET ROLE alice' ],
	[ 'SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION alice' ],
	[ 'both', 'SET SESSION AUTHORIZATION alice; SET ROLE mate' ],
	[ 'both, with a temporary table of that role', 'SET SESSION AUTHORIZATION alice; CREATE TEMP TABLE leftover (a int)' ],
	[ 'superuser settings', q{SET session_replication_role = replica; SET log_statement = 'all'; SET zero_damaged_pages = on; SET log_min_messages = panic} ],
	[ 'a temporary replication slot', q{SELECT pg_create_physical_replication_slot('leftover', true, true)} ],
	[ 'a replication origin', q{SELECT pg_replication_origin_session_setup('origin')} ],
	[ 'a replication origin that has been used', q{SELECT pg_replication_origin_session_setup('origin'), pg_replication_origin_xact_setup('0/1000', now()); INSERT INTO t VALUES (1); DELETE FROM t} ]);
my $replication = q{SELECT concat_ws(' ', (SELECT count(*) FROM pg_replication_slots), pg_replication_origin_session_is_setup(), current_setting('session_replication_role'))};

foreach my $end (@ends)
{
	my $tail = $end->[0] eq 'success' ? [ $end->[0], '; COMMIT', $end->[2] ] : $end;

	foreach my $dirt (@boss_dirt)
	{
		my ($what, $command) = @$dirt;

		run_dirty($boss, $what, $command, $tail);
		is(task($boss, $state), $boss_state, "$what, then $end->[0]: nothing is left");
		is(task($boss, $replication), '0 f origin', "$what, then $end->[0]: nothing of replication is left");
		is(difference($boss_settings, settings($boss)), '', "$what, then $end->[0]: all settings are as before");
	}
}

# What DISCARD ALL leaves alone, and the end of a session does not.
foreach my $end (@ends)
{
	my $tail = $end->[0] eq 'success' ? [ $end->[0], '; COMMIT', $end->[2] ] : $end;

	run_dirty($boss, 'a backup', q{SELECT pg_backup_start('leftover', true)}, $tail);
	refused('SELECT supervisor.execute($$SELECT pg_backup_stop()$$)', '55000', "a backup, then $end->[0]: it is over", session => $boss,
		message => qr/backup is not in progress/);
}
like(($boss->error_of(q{SELECT supervisor.execute($$SELECT pg_backup_start('leftover', true)$$)}))[1],
	qr/WARNING: .*aborting backup due to backend exiting before pg_backup_stop was called/, 'its caller is told');
is(($boss->error_of(q{SELECT supervisor.execute($$SELECT pg_backup_start('whole', true); SELECT pg_backup_stop(false)$$)}))[0], undef,
	'one that a task begins and ends');
my $sequence = value('SELECT setseed(0.5); SELECT random()');
task($boss, 'SELECT setseed(0.5)::text');
isnt(task($boss, 'SELECT random()::text'), ($sequence =~ /(\S+)\z/)[0], 'the seed of random numbers');
is(task($boss, $pid), $boss_pid, 'all that was one session');

value(q{
	CREATE TABLE backups (pid int, at pg_lsn);
	SELECT supervisor.add_worker('backup', $$ INSERT INTO backups SELECT pg_backend_pid(), pg_backup_start('leftover', true) $$, run_every => '50 ms')});
becomes('SELECT count(*) >= 3 FROM backups', 'a declared worker begins a backup with each run');
is(value('SELECT count(DISTINCT pid) FROM backups'), '1', '... in one process');
value(q{SELECT supervisor.stop_worker('backup')});
value(q{SELECT supervisor.remove_worker('backup')});

my $memory = 'SELECT (sum(total_bytes) / 1024 / 1024)::int::text FROM pg_backend_memory_contexts';
my $before = task($boss, $memory);
foreach my $command (
	q{SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 100)},
	q{SELECT count(*) FROM (SELECT array_agg(a) FROM generate_series(1, 3000000) a) s},
	q{SELECT array_agg(repeat('y', 10000)) FROM generate_series(1, 5000); SELECT 1/0},
	q{DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('PREPARE p%s AS SELECT %s', i, i); END LOOP; END $$})
{
	$boss->error_of("SELECT supervisor.execute(\$task\$$command\$task\$)");
	my $after = task($boss, $memory);

	cmp_ok($after, '<=', $before + 4, "memory is given back: $command");
}
$boss->query_safe(q{SELECT supervisor.execute(format('SELECT length(%L)', repeat('x', 8000000)))});
cmp_ok(task($boss, $memory), '<=', $before + 4, 'so is that of a large command');
is(task($boss, $pid), $boss_pid, 'by the same session');

note 'a session that dies';

# What it held is free at once for others; its successor is clean.
foreach my $case (
	[ 'an advisory lock', 'SELECT pg_advisory_lock(1)', 'SELECT pg_try_advisory_lock(1)' ],
	[ 'a temporary slot', q{SELECT pg_create_physical_replication_slot('leftover', true, true)}, 'SELECT count(*) = 0 FROM pg_replication_slots' ],
	[ 'a replication origin', q{SELECT pg_replication_origin_session_setup('origin')}, q{SELECT pg_replication_origin_session_setup('origin') IS NOT NULL} ],
	[ 'a temporary table', 'CREATE TEMP TABLE leftover (a int)', q{SELECT count(*) = 0 FROM pg_class WHERE relname = 'leftover'} ])
{
	my ($what, $command, $probe) = @$case;

	is(($boss->error_of("SELECT supervisor.execute(\$\$BEGIN; $command; COMMIT; SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(3600)\$\$)"))[0],
		'55000', "$what, then a FATAL error");
	is(value($probe), 't', "$what, then a FATAL error: nothing is left");
	is(task($boss, $state), $boss_state, "$what, then a FATAL error: the successor is clean");
}

note 'sessions are of one role and one database';

# Each of these is another binding; the one worker can't keep anything for the next.
my $bob = SupervisorTest::session($node, user => 'bob');
my $elsewhere = SupervisorTest::session($node, user => 'alice', dbname => 'other');
my %pids;
foreach my $round (1 .. 3)
{
	foreach my $s ([ $alice, 'alice postgres' ], [ $bob, 'bob postgres' ], [ $elsewhere, 'alice other' ])
	{
		my ($session, $name) = @$s;
		my ($session_pid, $is) =
		  split /:/, task($session, q{SELECT pg_backend_pid() || ':' || session_user || ' ' || current_database()});

		$session->query_safe(q{SELECT supervisor.execute('SET work_mem = ''7MB''; CREATE TEMP TABLE leftover (a int); PREPARE leftover AS SELECT 1')});
		is($is, $name, "round $round: a session of $name");
		ok(!defined $pids{$session_pid} || $pids{$session_pid} eq $name, 'has not been of another');
		$pids{$session_pid} = $name;
	}
}

$_->quit foreach ($alice, $boss, $bob, $elsewhere);
is(SupervisorTest::leaks($node), '', 'no task or slot is left') foreach (1, 2);
is(value(q{SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text ~ '^pg_temp'}), '0', 'no temporary table is left');

done_testing();
