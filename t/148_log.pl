# The server log has of a task what it would have of a session that ran the same
# command, whoever reads the task's result, or nobody.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(eventually quote value);

my $node = SupervisorTest::new_node(
	'log',
	'log_statement' => 'none',
	'log_line_prefix' => '%p %u ',
	'session_preload_libraries' => 'auto_explain',
	'supervisor.pool_size' => 2);

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

value(q{
	CREATE ROLE app LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO app;
	GRANT CREATE ON SCHEMA public TO app;
	CREATE TABLE t (a int);
	GRANT ALL ON t TO app;
	CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'audited %', NEW.a; RETURN NEW; END $$;
	CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION audit()});

my $offset;

sub log_since
{
	return slurp_file($node->logfile, $offset);
}

# Tests that the log comes to have a line like this, and how often.
sub logged
{
	my ($pattern, $property, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$n //= 1;
	eventually(sub { (() = log_since() =~ /$pattern/g) >= $n });
	is(scalar(() = log_since() =~ /$pattern/g), $n, $property);
}

# Runs $sql as app in a session that ends at once.
sub app
{
	my ($sql) = @_;

	$offset = -s $node->logfile;
	return (error_of($sql))[1];
}

sub error_of
{
	my ($sql) = @_;

	return SupervisorTest::error_of($node, $sql, user => 'app');
}

# Launches a command as app, in a session that ends while it sleeps.
sub app_goes
{
	my ($command) = @_;
	my $session = SupervisorTest::session($node, user => 'app');

	$session->query('SET client_min_messages = log');
	$offset = -s $node->logfile;
	$session->query('SELECT supervisor.launch(' . quote($command) . ')');
	SupervisorTest::wait_true($node, q{
		SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'PgSleep')});
	$session->quit;
}

value('ALTER ROLE app SET log_statement = mod; ALTER ROLE app SET log_duration = on');

note 'what the session sees, and nobody else would';

app(q{SET client_min_messages = log; SELECT supervisor.forget(supervisor.launch('INSERT INTO t VALUES (1)'))});
logged(qr/app LOG:  statement: INSERT INTO t VALUES \(1\)$/m, 'log_statement, of a task that nobody reads, although the session sees LOG');
logged(qr/app LOG:  audited 1$/m, 'what a trigger logs');
logged(qr/app LOG:  duration: [0-9.]+ ms$/m, 'and durations, its own and those of its session', 3);
app_goes(q{INSERT INTO t VALUES (2); SELECT pg_sleep(180)});
logged(qr/app LOG:  statement: INSERT INTO t VALUES \(2\)/m, 'log_statement, of one whose session goes');
logged(qr/app LOG:  audited 2$/m, 'what a trigger logs, of one whose session goes');
app(q{SET client_min_messages = log; SELECT supervisor.execute('INSERT INTO t VALUES (3)')});
logged(qr/app LOG:  audited 3$/m, 'what its reader sees as well is logged once');
note 'parameters';

app(q{SET client_min_messages = log; SELECT supervisor.execute('INSERT INTO t SELECT $1::int WHERE $2::text IS NULL', ARRAY['7', NULL])});
logged(qr/app LOG:  statement: INSERT INTO t SELECT \$1.*\n.*app DETAIL:  [Pp]arameters: \$1 = '7', \$2 = NULL$/m, 'of a statement that is logged');
value('ALTER ROLE app SET log_min_duration_statement = 0; ALTER ROLE app SET log_parameter_max_length = 3; ALTER ROLE app SET log_parameter_max_length_on_error = 2');
app(q{SELECT supervisor.forget(supervisor.launch('SELECT $1::text', ARRAY['it''s long']))});
logged(qr/app LOG:  duration: [0-9.]+ ms  statement: SELECT \$1::text\n.*app DETAIL:  [Pp]arameters: \$1 = 'it''\.\.\.'$/m, 'of one with its duration, as long as may be');
app(q{SELECT supervisor.execute('PREPARE q AS SELECT 55; EXECUTE q')});
logged(qr/app LOG:  duration: [0-9.]+ ms  statement: PREPARE q AS SELECT 55; EXECUTE q\n.*app DETAIL:  prepare: PREPARE q AS SELECT 55; EXECUTE q$/m, 'what is executed');
app(q{SELECT supervisor.execute('SELECT 1000 / $1::int', ARRAY['0'])});
logged(qr/app ERROR:  division by zero\n.*app CONTEXT:  (?:unnamed portal|portal "").* parameters: \$1 = '0'\n.*app STATEMENT:  SELECT 1000/m, 'of one that fails');
value('ALTER ROLE app SET log_parameter_max_length = 0; ALTER ROLE app SET log_statement = "all"');
app(q{SELECT supervisor.execute('SELECT $1::text', ARRAY['secret'])});
logged(qr/app LOG:  statement: SELECT \$1::text$/m, 'or not');
unlike(log_since(), qr/[Pp]arameters: .*secret/, 'at all');
value('ALTER ROLE app RESET ALL');

note 'resource usage';

value('ALTER ROLE app SET log_statement_stats = on');
app(q{SELECT supervisor.forget(supervisor.launch('INSERT INTO t VALUES (8); INSERT INTO t VALUES (9)'))});
logged(qr/app LOG:  QUERY STATISTICS\n.*app DETAIL:  ! system usage stats:\n(?:\t.*\n)+.*app STATEMENT:  INSERT INTO t VALUES \(8\)/m,
	'log_statement_stats, once for a command of several statements');
app(q{SELECT supervisor.execute('SELECT $1::int', ARRAY['7'])});
logged(qr/app LOG:  QUERY STATISTICS\n.*app DETAIL:  ! system usage stats:\n(?:\t.*\n)+.*app STATEMENT:  SELECT \$1::int$/m,
	'and for one with parameters');
value(join '', 'ALTER ROLE app RESET ALL;', map { "ALTER ROLE app SET log_${_}_stats = on;" } qw(parser planner executor));
app(q{SELECT supervisor.forget(supervisor.launch('INSERT INTO t VALUES (10)'))});
logged(qr/app LOG:  $_ STATISTICS\n.*app DETAIL:  ! system usage stats:\n(?:\t.*\n)+.*app STATEMENT:  INSERT INTO t VALUES \(10\)$/m,
	"those that core takes of each phase: $_")
  foreach 'PARSER', 'PARSE ANALYSIS', 'REWRITER', 'PLANNER', 'EXECUTOR';
value('ALTER ROLE app RESET ALL');

note 'warnings';

app_goes(q{DO 'BEGIN RAISE WARNING ''watch out %'', 1; END'; SELECT pg_sleep(180)});
logged(qr/app WARNING:  watch out 1$/m, 'a warning of a launched task whose session goes');
app(q{SELECT supervisor.execute($$DO 'BEGIN RAISE WARNING ''watch out %'', 2; RAISE NOTICE ''never mind''; END'$$)});
logged(qr/app WARNING:  watch out 2$/m, 'a warning that is passed on is logged once');
unlike(log_since(), qr/never mind/, 'and a notice not at all');
value(q{ALTER ROLE app SET log_min_messages = error});
app(q{SELECT supervisor.execute($$DO 'BEGIN RAISE WARNING ''watch out %'', 3; END'$$); SELECT 1/0});
logged(qr/app ERROR:  division by zero$/m, 'as log_min_messages of the role says');
unlike(log_since(), qr/watch out 3$/m, 'less of a task, too');
value(q{ALTER ROLE app RESET log_min_messages});

note 'errors';

value(q{
	CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'it % fails', 'always' USING DETAIL = 'so it does', HINT = 'do not try', ERRCODE = 'ZZ001'; END $$});
my $all = qr/ERROR:  it always fails\n.*DETAIL:  so it does\n.*HINT:  do not try\n.*CONTEXT:  PL\/pgSQL function fails\(\) line 1 at RAISE\n.*STATEMENT:  SELECT fails\(\)$/m;
app(q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT fails()', 'SELECT 1'])});
logged($all, 'of a command of execute_all, with all its fields and the statement');
logged(qr/ERROR:  it always fails/, 'once');
app(q{SELECT supervisor.wait(supervisor.launch('SELECT fails()'))});
logged($all, 'of a launched task that nobody reads');
app(q{SELECT supervisor.forget(supervisor.launch('SELECT fails()'))});
logged($all, 'of one that is forgotten');
app(q{SELECT supervisor.execute('SELECT fails()')});
logged($all, 'of one that is raised');
like(log_since(), qr/CONTEXT:  PL\/pgSQL function fails\(\) line 1 at RAISE\n\tsupervisor task \d+ in pool "default"\n.*STATEMENT:  SELECT supervisor\.execute/,
	'and of the session that raises it, as a task\'s');
logged(qr/ERROR:  it always fails/, 'no more', 2);
app(q{DO $$ BEGIN PERFORM supervisor.execute('SELECT fails()'); EXCEPTION WHEN OTHERS THEN NULL; END $$});
logged($all, 'of one that its reader catches');
logged(qr/ERROR:  it always fails/, 'once');

note 'cancels';

my $session = SupervisorTest::session($node, user => 'app');
my $task = $session->query_safe(q{SELECT supervisor.launch('SELECT 7, pg_sleep(180)')});
SupervisorTest::wait_true($node, "SELECT state = 'running' FROM supervisor.task_status WHERE task = $task");
$offset = -s $node->logfile;
SupervisorTest::wait_true($session, "SELECT supervisor.cancel($task) AND supervisor.wait($task, '1 min') = 'canceled'");
logged(qr/app ERROR:  canceling statement due to user request\n.*STATEMENT:  SELECT 7, pg_sleep\(180\)$/m, 'of a task that is canceled');
$session->quit;
app_goes('SELECT 8, pg_sleep(180)');
logged(qr/app ERROR:  canceling statement because its session has ended\n.*STATEMENT:  SELECT 8, pg_sleep\(180\)$/m, 'of one whose session goes');
$offset = -s $node->logfile;
$node->psql('postgres', q{SELECT supervisor.execute('SELECT 9, pg_sleep(180)', timeout => '100 ms')}, extra_params => [ '-U', 'app' ]);
logged(qr/app ERROR:  canceling statement due to timeout of the call\n.*STATEMENT:  SELECT 9, pg_sleep\(180\)$/m, 'of one whose call times out');
$offset = -s $node->logfile;
$node->psql('postgres', q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 10, pg_sleep(180)'], timeout => '100 ms')}, extra_params => [ '-U', 'app' ]);
logged(qr/app ERROR:  canceling statement due to timeout of the call\n.*STATEMENT:  SELECT 10, pg_sleep\(180\)$/m, 'also of execute_all');
$offset = -s $node->logfile;
my $fails = SupervisorTest::session($node, user => 'app');
my $fails_pid = $fails->pid;
$fails->begin(q{SELECT supervisor.execute('SELECT 11, pg_sleep(180)')});
SupervisorTest::wait_true($node, q{SELECT count(*) = 1 FROM supervisor.task_status WHERE state = 'running' AND command ~ 'SELECT 11'});
value("SELECT pg_cancel_backend($fails_pid)");
$fails->finish;
$fails->quit;
logged(qr/app ERROR:  canceling statement because the call that waited for it has failed\n.*STATEMENT:  SELECT 11, pg_sleep\(180\)$/m, 'of one whose call fails');

note 'auto_explain';

value(q{ALTER ROLE app SET auto_explain.log_min_duration = 0});
app(q{SET client_min_messages = log; SELECT supervisor.forget(supervisor.launch('SELECT count(*) FROM t'))});
logged(qr/app LOG:  duration: [0-9.]+ ms  plan:\n\tQuery Text: SELECT count\(\*\) FROM t\n\tAggregate/m, 'its plans');
value(q{ALTER ROLE app RESET ALL});

SKIP:
{
	skip 'there is no pgaudit', 3
	  if value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pgaudit'}) eq '0';
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'supervisor, pgaudit'");
	$node->restart;
	SupervisorTest::wait_ready($node, 'default', 2);
	value(q{CREATE EXTENSION pgaudit; ALTER ROLE app SET pgaudit.log = 'write, ddl'});
	app(q{SET client_min_messages = log; SELECT supervisor.forget(supervisor.launch('INSERT INTO t VALUES (10)'))});
	logged(qr/app LOG:  AUDIT: SESSION,\d+,\d+,WRITE,INSERT,,,INSERT INTO t VALUES \(10\),/m, 'pgaudit: a task that nobody reads');
	app(q{SELECT * FROM supervisor.execute_all(ARRAY['CREATE TABLE audited ()', 'INSERT INTO t VALUES (11)'])});
	logged(qr/app LOG:  AUDIT: SESSION,\d+,\d+,DDL,CREATE TABLE,/m, 'pgaudit: DDL of execute_all');
	logged(qr/app LOG:  AUDIT: SESSION,\d+,\d+,WRITE,INSERT,,,INSERT INTO t VALUES \(11\),/m, 'pgaudit: writes of execute_all');
}

is(SupervisorTest::leaks($node), '', 'nothing is left');
SupervisorTest::log_is_clean($node);

note 'a shutdown';

# Returns what the log tells of tasks that the server drops when it is stopped so.
sub dropped
{
	my ($mode) = @_;

	SupervisorTest::until_true(q{SELECT count(*) = 2 FROM supervisor.task_status WHERE state = 'running'});
	$offset = -s $node->logfile;
	$node->stop($mode);
	my @told = log_since() =~ /LOG:  (.*dropped.*\n.*DETAIL:  .*)/g;
	$node->start;
	SupervisorTest::wait_ready($node, 'default', 2);
	return join "\n", map { s/\n.*DETAIL: / -/r } @told;
}

foreach my $mode ('fast', 'immediate')
{
	my $session = SupervisorTest::session($node);
	my $forgotten = q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(180)')) FROM generate_series(1, %d)};

	$session->query_safe(q{SELECT supervisor.wait(supervisor.launch('SELECT 1'))});
	$session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(180)') FROM generate_series(1, 5)});
	$session->query_safe(sprintf $forgotten, 4);
	# a worker whose task's session has gone may have begun with another
	like(dropped($mode), qr/^9 tasks of supervisor that had not ended were dropped - Queued: (7, running: 2|6, running: 3|5, running: 4)\.\z/,
		"$mode: tasks of a session, and forgotten ones");
	eval { $session->quit };
	value(sprintf $forgotten, 2);
	is(dropped($mode), '2 tasks of supervisor that had not ended were dropped - Queued: 0, running: 2.', "$mode: what runs");
}
my $waiting = SupervisorTest::session($node);
value(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_sleep(180)'))});
$waiting->begin(q{SELECT supervisor.execute('SELECT pg_sleep(180)')});
is(dropped('fast'), '2 tasks of supervisor that had not ended were dropped - Queued: 0, running: 2.', 'one that somebody waits for');
eval { $waiting->quit };

my $ends = SupervisorTest::session($node);
$ends->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(180)') FROM generate_series(1, 5)});
$ends->quit;
SupervisorTest::until_true(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE state IN ('queued', 'running')});
$offset = -s $node->logfile;
$node->stop;
unlike(log_since(), qr/dropped/, 'what a session takes with it is not dropped by the shutdown');
done_testing();
