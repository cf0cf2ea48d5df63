# The settings of a declared worker: they are there in each run, RESET leads back to
# them, and they are what its role itself might SET, at the call and at each run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

my $node = SupervisorTest::new_node(
	'main',
	'autovacuum' => 'off',
	'max_worker_processes' => 20,
	'supervisor.pool_size' => 1,
	'supervisor.max_restarts' => 1000,
	'supervisor.restart_delay' => '10ms');
my $s = SupervisorTest::session($node);

SupervisorTest::ask(\$s);

value(q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT alice TO bob;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO alice, bob;
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO PUBLIC;
	CREATE TABLE app.seen (what text, n serial);
	GRANT ALL ON app.seen, app.seen_n_seq TO PUBLIC;
	ALTER ROLE alice SET work_mem = '3MB';
	ALTER ROLE alice SET maintenance_work_mem = '3MB'});

# Returns columns of the worker with that name.
sub worker
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker_status WHERE name = '$name'");
}

# What was seen, once it is $n lines, which are taken away.
sub seen
{
	my ($n) = @_;

	until_true("SELECT count(*) >= $n FROM app.seen", "$n lines are written");
	return value(q{
		WITH gone AS (DELETE FROM app.seen RETURNING *) SELECT string_agg(what, ' ' ORDER BY n) FROM gone});
}

# Adds a worker that runs once; waits for its end, and returns how that was.
sub run
{
	my ($command, $settings, %opts) = @_;
	my $options = join '', map { ", $_ => '$opts{$_}'" } sort keys %opts;

	value("SELECT supervisor.add_worker('once', \$\$$command\$\$, restart => 'never', settings => $settings$options)");
	return ended();
}

# Waits for the end of that worker, and removes it.
sub ended
{
	until_true(q{SELECT state = 'stopped' FROM supervisor.worker_status WHERE name = 'once'}, 'the worker ends');
	my $result = worker('once', 'last_exit_code, last_sqlstate, last_error');
	value(q{SELECT supervisor.remove_worker('once')});
	until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'once'}, 'it is gone');
	return $result;
}

note 'what a run finds';

my $tell = q{INSERT INTO seen (what) SELECT concat_ws('/', current_setting('work_mem'),
	current_setting('vacuum_cost_limit'), current_setting('my.tag'), current_user)};
my $all = q{ARRAY['search_path=app', 'Work_Mem=7MB', 'vacuum_cost_limit=1000', 'my.tag=a=b']};

is(run($tell, $all), '0||', 'with its settings a command finds its table');
is(seen(1), '7MB/1000/a=b/' . value('SELECT current_user'), 'each is as it says');
is(run($tell, $all, role => 'alice'), '0||', 'for another role, too');
is(seen(1), '7MB/1000/a=b/alice', 'for which they go before those of ALTER ROLE');
is(run('VACUUM seen', $all), '0||', 'VACUUM has settings');
value(q{CREATE PROCEDURE app.steps() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen (what) VALUES (current_setting('work_mem')); COMMIT;
		INSERT INTO seen (what) VALUES (current_setting('work_mem')); ROLLBACK;
		INSERT INTO seen (what) VALUES (current_setting('work_mem'));
	END$$});
is(run('CALL steps()', $all), '0||', 'so has a procedure that commits');
is(seen(2), '7MB 7MB', 'before and after');
is(run(q{INSERT INTO app.seen (what) VALUES (current_setting('transaction_isolation'))}, q{ARRAY['default_transaction_isolation=serializable']}),
	'0||', 'what a transaction begins with');
is(seen(1), 'serializable', 'counts from the first one on');
like(run('SELECT pg_sleep(600)', q{ARRAY['statement_timeout=10ms']}), qr/^1\|57014\|canceling statement due to statement timeout/, 'statement_timeout works');

note 'RESET leads back to them';

value(qq{SELECT supervisor.add_worker('again', \$\$
	$tell;
	SET work_mem = '1MB'; SET search_path = public; SET my.tag = 'changed'; RESET vacuum_cost_limit; RESET search_path;
	$tell;
	RESET ALL;
	$tell;
	SET work_mem = '2MB'\$\$, '10 ms', settings => $all, role => 'alice')});
my $lines = seen(9);
my $own = '7MB/1000/a=b/alice';
like($lines, qr{^(?:$own 1MB/1000/changed/alice $own ?)+$}, 'in a run, by RESET and RESET ALL, and after each');
my $generation = worker('again', 'generation');
value(q{ALTER SYSTEM SET work_mem = '9MB'});
$node->reload;
value('DELETE FROM app.seen');
like(seen(6), qr{^(?:$own 1MB/1000/changed/alice $own ?)+$}, 'a reload of the server changes nothing');
is(worker('again', 'generation'), $generation, 'all that in one session');
value(q{ALTER SYSTEM RESET work_mem});
$node->reload;

note 'a change of them';

value(q{SELECT supervisor.alter_worker('again', settings => ARRAY['search_path=app', 'work_mem=8MB', 'my.tag=new'])});
until_true(q{SELECT EXISTS (SELECT FROM app.seen WHERE what LIKE '8MB/%/new/alice')}, 'the new settings are in force');
is(worker('again', "generation > $generation"), 't', 'in another process');
value(q{SELECT supervisor.alter_worker('again', $$INSERT INTO app.seen (what) VALUES ('own: ' || current_setting('work_mem'))$$, settings => '{}')});
until_true(q{SELECT EXISTS (SELECT FROM app.seen WHERE what = 'own: 3MB')}, 'an empty array is none');
value(q{SELECT supervisor.remove_worker('again'); DELETE FROM app.seen});
until_true(q{SELECT count(*) = 0 FROM supervisor.worker_status WHERE name = 'again'}, 'it is gone');
value('DELETE FROM app.seen');

note 'what makes no sense';

sub not_added
{
	my ($settings, $sqlstate, $property, %opts) = @_;
	my $role = delete $opts{role};
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	refused("SELECT supervisor.add_worker('bad', 'SELECT 1', settings => $settings"
		  . (defined $role ? ", role => '$role'" : '') . ')', $sqlstate, $property, %opts);
}

not_added(q{ARRAY['work_mem']}, '22023', 'a setting without a value', message => qr/invalid setting "work_mem"/, hint => 'Each is a text');
not_added(q{ARRAY['=1']}, '22023', 'one without a name');
not_added(q{ARRAY['work_mem=1MB', NULL]}, '22023', 'NULL');
not_added(q{ARRAY[['work_mem=1MB']]}, '2202E', 'two dimensions');
not_added(q{ARRAY['no_such_setting=1']}, '42704', 'a setting that does not exist');
not_added(q{ARRAY['a b.c=1']}, '42602', 'no name of one');
not_added(q{ARRAY['work_mem=much']}, '22023', 'a value that is none', message => qr/invalid value for parameter "work_mem"/);
not_added(q{ARRAY['max_connections=1']}, '55P02', 'what only the server has');
not_added(q{ARRAY['ignore_system_indexes=on']}, '55P02', 'what a session has when it begins');
not_added("ARRAY['$_']", '22023', "$_ says whose session it is, or is a transaction's")
  foreach ('role=bob', 'session_authorization=bob', 'transaction_read_only=on', 'seed=0.1');
refused(q{SELECT supervisor.add_worker('bad', library => 'auto_explain', function => '_PG_init', settings => ARRAY['work_mem=1MB'])},
	'22023', 'a C function has none', message => qr/settings makes no sense for a worker with a library/);
is(value(q{SELECT count(*) FROM supervisor.worker}), '0', 'none of them was added');

note 'what its role may not SET';

not_added(q{ARRAY['log_min_duration_statement=0']}, '42501', 'also a superuser adds no more than the role may SET', role => 'alice',
	message => qr/permission denied to set parameter "log_min_duration_statement"/);
not_added(q{ARRAY['log_min_duration_statement=0']}, '42501', 'nor does it for itself', user => 'alice');
is(run('SELECT 1', q{ARRAY['log_min_duration_statement=0']}), '0||', 'a superuser has it');
value(q{SELECT supervisor.add_worker('super', 'SELECT 1', '1 h', settings => ARRAY['log_min_duration_statement=0'])});
refused(q{SELECT supervisor.alter_worker('super', role => 'alice')}, '42501', 'a worker with it gets no other role');
value(q{SELECT supervisor.remove_worker('super')});

value('GRANT SET ON PARAMETER log_min_duration_statement TO bob');
not_added(q{ARRAY['log_min_duration_statement=0']}, '42501', 'what the author may SET is not what the role may', role => 'alice', user => 'bob');
value('GRANT SET ON PARAMETER log_min_duration_statement TO alice');
value(q{
	SET ROLE alice;
	SELECT supervisor.add_worker('granted', $$INSERT INTO app.seen (what) VALUES (current_setting('log_min_duration_statement'))$$, '10 ms',
		settings => ARRAY['log_min_duration_statement=1h']);
	RESET ROLE});
like(seen(2), qr/^1h 1h/, 'by GRANT SET ON PARAMETER it may');
value('REVOKE SET ON PARAMETER log_min_duration_statement FROM alice');
becomes(q{SELECT last_sqlstate = '42501' AND last_error = 'permission denied to set parameter "log_min_duration_statement"'
	FROM supervisor.worker_status WHERE name = 'granted'}, 'once that is revoked, a run fails');
value('DELETE FROM app.seen');
until_true(q{SELECT restarts > 5 FROM supervisor.worker_status WHERE name = 'granted'}, 'it is tried again');
is(value('SELECT count(*) FROM app.seen'), '0', 'and its command does not run without it');
value(q{SELECT supervisor.remove_worker('granted')});

note 'rows that somebody else has written';

# What no call has checked is checked at the run.
sub written
{
	my ($settings, $role) = @_;

	value("INSERT INTO supervisor.worker (name, command, restart, role, settings)
		VALUES ('once', 'INSERT INTO app.seen (what) VALUES (''ran'')', 'never', '$role', $settings)");
	return ended();
}

like(written(q{ARRAY['log_statement=all']}, 'alice'), qr/^1\|42501\|permission denied to set parameter "log_statement"/, 'a superuser\'s setting');
like(written(q{ARRAY['role=bob']}, 'bob'), qr/^1\|22023\|parameter "role" cannot be a setting of a worker/, 'another role');
like(written(q{ARRAY['ignore_system_indexes=on']}, 'alice'), qr/^1\|55P02\|/, 'what a client could give when it connects');
like(written(q{ARRAY['no_such_setting=1']}, 'alice'), qr/^1\|42704\|/, 'what does not exist');
is(value('SELECT count(*) FROM app.seen'), '0', 'nothing has run');
value(q{INSERT INTO supervisor.worker (name, command, role, settings) VALUES ('raw', 'SELECT 1', 'alice', ARRAY['work_mem'])});
becomes(q{SELECT state = 'failed' AND reason = 'invalid' AND detail = 'invalid setting "work_mem"'
	FROM supervisor.worker_status WHERE name = 'raw'}, 'what is no setting is seen when the row is read');
value(q{SELECT supervisor.remove_worker('raw')});

# A setting of a library that is not loaded yet is asked for when it is.
SKIP:
{
	skip 'there is no auto_explain', 3 if !-e SupervisorTest::pg_config('pkglibdir') . '/auto_explain.so';

	value(q{
		CREATE FUNCTION app.load() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			LOAD 'auto_explain';
			RETURN current_setting('auto_explain.log_min_duration');
		END$$});
	is(run('INSERT INTO app.seen (what) VALUES (app.load())', q{ARRAY['auto_explain.log_min_duration=0']}, role => 'alice'),
		'0||', 'a setting of a library that is not there');
	is(run(q{RESET ALL; INSERT INTO app.seen (what) VALUES (app.load()); RESET ALL; INSERT INTO app.seen (what) VALUES (app.load())},
		q{ARRAY['auto_explain.log_min_duration=0']}, role => 'alice'), '0||', 'nor after RESET ALL');
	is(seen(3), '-1 -1 -1', 'is not in force where its role may not SET it');
}

note 'a copy of the database';

value(q{
	SELECT supervisor.add_worker('kept', 'SELECT 1', '1 h', role => 'alice', settings => ARRAY['search_path="odd, name", app', E'my.tag=it''s\ta "tag"'])});
my $rows = 'SELECT name, settings FROM supervisor.worker';
my $kept = value($rows);
$node->run_log([ 'createdb', '-p', $node->port, '-h', $node->host, 'copy' ]);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'a dump');
$node->psql('copy', undef, extra_params => [ '-f', $dump ]);
is($node->safe_psql('copy', $rows), $kept, 'and its restore keep them');
$node->safe_psql('copy', q{
	SELECT supervisor.alter_worker('kept', $$INSERT INTO app.seen (what) VALUES (current_setting('search_path') || current_setting('my.tag'))$$)});
until_true(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'kept' AND datname = 'copy'}, 'it runs');
is($node->poll_query_until('copy', q{SELECT count(*) = 1 FROM app.seen}), 1, 'there it runs');
is($node->safe_psql('copy', 'SELECT what FROM app.seen'), qq{"odd, name", appit's\ta "tag"}, 'with them');

$s->quit;
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing;
