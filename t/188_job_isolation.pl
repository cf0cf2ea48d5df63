# What is promised of jobs holds whatever transactions their roles have by default, and in
# databases of any encoding: a run that fails is rolled back and noted, and tried again, one
# that recurs comes at its next time, and texts are stored as they are, or not at all.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

# Of the parameters, in bytes.
my $params_size = ($ENV{PG_TEST_JOB_PARAMS_MB} // 1) * 1_000_000;

my $node = SupervisorTest::new_node('isolation', 'supervisor.pool_size' => 2, 'supervisor.max_workers' => 8, 'max_pred_locks_per_transaction' => 256);

SupervisorTest::ask(\$node);

my %settings = (
	committed => q{default_transaction_isolation = 'read committed'},
	repeatable => q{default_transaction_isolation = 'repeatable read'},
	serial => 'default_transaction_isolation = serializable',
	reader => 'default_transaction_read_only = on',
	deferred => 'default_transaction_isolation = serializable; ALTER ROLE deferred SET default_transaction_read_only = on;
		ALTER ROLE deferred SET default_transaction_deferrable = on');
my @roles = sort keys %settings;

value(q{
	CREATE TABLE effect (job bigint DEFAULT supervisor.current_job(), i integer, big text);
	CREATE TABLE late (i integer);
	CREATE FUNCTION fails_late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING errcode = ''P0043''; END';
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fails_late();
	CREATE TABLE parent (i integer PRIMARY KEY);
	CREATE TABLE child (i integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE exclusive (i integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO exclusive VALUES (1);
	CREATE TABLE beside (i integer);
	GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.schedule, supervisor.retry_job TO PUBLIC});
value("CREATE ROLE $_ LOGIN; ALTER ROLE $_ SET $settings{$_}") foreach @roles;

# What looks for jobs, and notes their ends, waits for no safe snapshot, as deferrable transactions do
# while there is this one.
my $beside = SupervisorTest::session($node);
$beside->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO beside VALUES (1)');

# What is noted of the runs of a job, what it has done, and what it is now.
sub noted
{
	my ($job) = @_;

	return value(qq{
		SELECT coalesce(string_agg(attempt || ' ' || state || coalesce(' ' || sqlstate, ''), ', ' ORDER BY finished_at), '')
		FROM supervisor.job_history WHERE job = $job}) .
	  '; ' . value("SELECT count(*) FROM effect WHERE job = $job") .
	  '; ' . value("SELECT coalesce((SELECT concat_ws(' ', state, attempts) FROM supervisor.job WHERE id = $job), 'gone')");
}

sub call
{
	my ($role, $function) = @_;

	return value("SET default_transaction_read_only = off; SELECT supervisor.$function", user => $role);
}

# All that wait for a time that has come, or will soon.
my $none = q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w' AND run_at < now() + interval '1 h'};
my $write = 'SET TRANSACTION READ WRITE; INSERT INTO effect VALUES (DEFAULT, 1)';
my $big = '/*' . 'x' x 1_000_000 . '*/';

# Their ends: of the runs of one that is tried twice; how often it has done what it does, and what it is then.
my %cases = (
	'succeeds' => [ $write, '1 succeeded; 1; gone' ],
	'succeeds, of 1 MB' => [ "$write; $big SELECT 1", '1 succeeded; 1; gone' ],
	'fails' => [ "$write; SELECT 1/0", '1 failed 22012, 2 failed 22012; 0; f 2' ],
	'fails, of 1 MB' => [ "$write; $big SELECT 1/0", '1 failed 22012, 2 failed 22012; 0; f 2' ],
	'a constraint trigger fails at the end' => [ "$write; INSERT INTO late VALUES (1)", '1 failed P0043, 2 failed P0043; 0; f 2' ],
	'a foreign key is violated at the end' => [ "$write; INSERT INTO child VALUES (1)", '1 failed 23503, 2 failed 23503; 0; f 2' ],
	'a unique key is violated at the end' => [ "$write; INSERT INTO exclusive VALUES (1)", '1 failed 23505, 2 failed 23505; 0; f 2' ],
	'has its worker terminated' => [ "$write; SELECT pg_terminate_backend(pg_backend_pid())", '1 failed 57P01, 2 failed 57P01; 0; f 2' ],
	'not atomic' => [ "$write", '1 succeeded; 1; gone', 'atomic => false' ],
	'not atomic, and fails' => [ "BEGIN READ WRITE; INSERT INTO effect VALUES (DEFAULT, 1); COMMIT; BEGIN READ WRITE; SELECT 1/0", '1 failed 22012, 2 failed 22012; 2; f 2', 'atomic => false' ],
	'not atomic, of 1 MB' => [ "$write; $big SELECT 1/0", '1 failed 22012, 2 failed 22012; 0; f 2', 'atomic => false' ]);

my %job;
foreach my $role (@roles)
{
	foreach my $case (sort keys %cases)
	{
		my ($command, $expected, $options) = @{ $cases{$case} };
		$job{"$role: $case"} = call($role, "enqueue(\$job\$$command\$job\$, retry_delay => '0', max_attempts => 2" . ($options ? ", $options" : '') . ')');
	}
}
becomes($none, 'all jobs end');
foreach my $name (sort keys %job)
{
	my ($role, $case) = split /: /, $name;
	is(noted($job{$name}), $cases{$case}[1], $name);
}

note 'recurring jobs';

my %recurring = (
	'succeeds' => [ $write, '1 succeeded; 1; w 0', 'succeeded' ],
	'fails' => [ "$write; SELECT 1/0", '1 failed 22012; 0; w 0', 'failed' ],
	'fails at the end' => [ "$write; INSERT INTO late VALUES (1)", '1 failed P0043; 0; w 0', 'failed' ],
	'of 1 MB' => [ "$write; $big SELECT 1", '1 succeeded; 1; w 0', 'succeeded' ],
	'not atomic' => [ $write, '1 succeeded; 1; w 0', 'succeeded', 'atomic => false' ]);
%job = ();
foreach my $role (@roles)
{
	foreach my $case (sort keys %recurring)
	{
		my ($command, $expected, $state, $options) = @{ $recurring{$case} };
		my $job = call($role, "schedule('$role: $case', '\@yearly', \$job\$$command\$job\$, max_attempts => 1" . ($options ? ", $options" : '') . ')');
		call($role, "retry_job($job)");
		$job{"$role: $case"} = $job;
	}
}
becomes($none, 'all have run');
foreach my $name (sort keys %job)
{
	my ($role, $case) = split /: /, $name;
	is(noted($job{$name}), $recurring{$case}[1], "recurring, $name");
	is(value("SELECT last_state, run_at = next_at, run_at > now(), length(command) > 1000000 FROM supervisor.job WHERE id = $job{$name}"),
		"$recurring{$case}[2]|t|t|" . ($case =~ /MB/ ? 't' : 'f'), "recurring, $name: comes at its next time");
}
value('SELECT supervisor.unschedule(name) FROM supervisor.job_status WHERE schedule IS NOT NULL');

$beside->query_safe('COMMIT');
$beside->quit;

note 'timeouts of roles';

# What is the role's own limits its commands, not what we do in its session: to look for jobs, and
# to note what has come of them.
my @timeouts = qw(statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout);
push @timeouts, 'transaction_timeout' if $node->pg_version >= 17;

# A role has that of its name, or all.
sub hurry
{
	my ($role, $ms) = @_;

	value(join ' ', map { "ALTER ROLE \"$role\" SET $_ = '${ms}ms';" } $role eq 'all' ? @timeouts : $role);
}

# Commands that have time.  Until their limits are off they may be canceled: then another one is tried, with more time.
my $unhurried = 'SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;' . ($node->pg_version >= 17 ? ' SET LOCAL transaction_timeout = 0;' : '')
  . ' SELECT pg_advisory_xact_lock_shared(1);';
my ($locks, $holder) = map { SupervisorTest::session($node) } 1 .. 2;
my $waits = q{SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE NOT granted AND usename = '%s' AND locktype %s AND waitstart < clock_timestamp() - interval '%d ms'};

SupervisorTest::set($node, 'supervisor.pools' => 'one:1');
SupervisorTest::wait_ready($node, 'one', 1);
foreach my $role (sort @timeouts, 'all')
{
	my $ms = 1;

	value("CREATE ROLE \"$role\" LOGIN");
	value(join ' ', map { "ALTER ROLE \"$role\" SET default_transaction_$_;" } 'isolation = serializable', 'read_only = on', 'deferrable = on') if $role eq 'all';
	hurry($role, $ms);
	foreach my $case (
		[ 'succeeds', $unhurried, '1 succeeded; 0; gone' ],
		[ 'fails', "$unhurried SELECT 1/0", '1 failed 22012; 0; f 1' ],
		[ 'not atomic', "BEGIN; $unhurried COMMIT", '1 succeeded; 0; gone', 'atomic => false' ],
		[ 'not atomic, and fails', "BEGIN; $unhurried SELECT 1/0", '1 failed 22012; 0; f 1', 'atomic => false' ])
	{
		my ($what, $command, $expected, $options) = @$case;
		my $log = -s $node->logfile;
		my ($job, $ended);

		$holder->query_safe('SELECT pg_advisory_lock(1)');
		SupervisorTest::eventually(sub {
			# it begins when its pool's worker has nothing else to do, and the table is locked
			$locks->query_safe('SELECT pg_advisory_lock(2)');
			$locks->query_safe(q{SELECT supervisor.forget(supervisor.launch('SELECT pg_advisory_lock_shared(2)', pool => 'one'))});
			SupervisorTest::wait_true($locks, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
			$job = value("SET ROLE \"$role\"; SELECT supervisor.enqueue(\$job\$$command\$job\$, pool => 'one', max_attempts => 1" . ($options ? ", $options" : '') . ')');
			$locks->query_safe('BEGIN; LOCK TABLE supervisor.job IN SHARE MODE; SELECT pg_advisory_unlock(2)');
			SupervisorTest::wait_true($holder, sprintf $waits, $role, q{= 'relation'}, $ms + 20);
			$locks->query_safe('COMMIT');
			SupervisorTest::wait_true($locks, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) OR EXISTS (SELECT FROM supervisor.job_history WHERE job = $job)");
			$ended = value("SELECT count(*) FROM supervisor.job_history WHERE job = $job");
			return 1 if !$ended;
			$ms *= 2;
			hurry($role, $ms);
			return 0;
		});
		is($ended, 0, "$role, $what: it runs, after it was looked for longer than that");
		$locks->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE");
		$holder->query_safe('SELECT pg_advisory_unlock(1)');
		SupervisorTest::wait_true($holder, sprintf $waits, $role, q{IN ('transactionid', 'tuple')}, $ms + 20);
		$locks->query_safe('COMMIT');
		becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $job", "$role, $what: its end takes longer, too, and is noted");
		is(noted($job), $expected, "$role, $what: as it was");
		unlike(substr(slurp_file($node->logfile), $log), qr/could not be noted|jobs of this database are not run/, "$role, $what: at once");
	}
	# Those that are canceled since they have no more time than that are noted as well.
	my $first = value(qq{SET ROLE "$role"; SELECT min(supervisor.enqueue('SET TRANSACTION READ WRITE; INSERT INTO effect VALUES (DEFAULT, 2)', retry_delay => '0', max_attempts => 3)) FROM generate_series(1, 5)});
	becomes($none, "$role: jobs that have no more time end, too");
	is(value(qq{
			SELECT count(*), count(*) FILTER (WHERE effects <> CASE state WHEN 'succeeded' THEN 1 ELSE 0 END), count(*) FILTER (WHERE sqlstate NOT IN ('57014', '55P03', '25P04'))
			FROM (SELECT DISTINCT ON (job) job, state, sqlstate, (SELECT count(*) FROM effect e WHERE e.job = h.job) AS effects
				FROM supervisor.job_history h WHERE job >= $first ORDER BY job, attempt DESC) s}), '5|0|0', "$role: each once, or not at all");
	value('DELETE FROM effect; DELETE FROM supervisor.job');
}
$_->quit foreach $locks, $holder;

note 'large parameters';

foreach my $role (@roles)
{
	my $job = call($role, "enqueue('SELECT length(\$1)', ARRAY[repeat('x', $params_size)])");
	my $fails = call($role, "enqueue('SELECT 1 / (length(\$1) - $params_size)', ARRAY[repeat('x', $params_size)], max_attempts => 2, retry_delay => '0')");
	becomes($none, "$role: large parameters");
	is(value("SELECT state, result FROM supervisor.job_history WHERE job = $job"), "succeeded|$params_size", "$role: are taken");
	is(noted($fails), '1 failed 22012, 2 failed 22012; 0; f 2', "$role: and again");
	is(value("SELECT length(params[1]) FROM supervisor.job WHERE id = $fails"), $params_size, "$role: and stay as they were");
}
value('DELETE FROM supervisor.job');

note 'encodings';

# Each: a character of two bytes or more, or of one, in that encoding; bytes that are no text there, or cannot be converted.
my %encodings = (UTF8 => "\xc3\xa4", LATIN1 => "\xe4", EUC_JP => "\xa4\xa2", SQL_ASCII => "\xff");

foreach my $encoding (sort keys %encodings)
{
	my $db = lc $encoding;
	my $c = $encodings{$encoding};
	my $own = "SET client_encoding = '$encoding';";

	value("CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	value('CREATE EXTENSION supervisor; CREATE TABLE got (a text, b text)', dbname => $db);
	value(qq{$own SELECT supervisor.enqueue('INSERT INTO got VALUES (''$c'', \$1)', ARRAY['$c'], key => '$c')}, dbname => $db);
	ok($node->poll_query_until($db, 'SELECT count(*) = 1 FROM got'), "$encoding: a job is run");
	is(value("$own SELECT a, b FROM got", dbname => $db), "$c|$c", "$encoding: its texts are what they were");

	# longer than what is kept of a text: it is cut between characters
	my $long = $c x 600 . 'x' . $c x 600;
	my $job = value(qq{$own SELECT supervisor.enqueue('DO \$\$BEGIN RAISE ''x$long''; END\$\$ -- $long', max_attempts => 1)}, dbname => $db);
	ok($node->poll_query_until($db, "SELECT state = 'f' FROM supervisor.job WHERE id = $job"), "$encoding: one fails");
	is(value("$own SELECT message FROM supervisor.job_history WHERE job = $job", dbname => $db), substr("x$long", 0, 1 + int(1023 / length $c) * length $c),
		"$encoding: its message is kept as far as there is room");

	# a run whose end is noted late, from what shared memory has kept of it
	my $locks = SupervisorTest::session($node, dbname => $db);
	$locks->query_safe('SELECT pg_advisory_lock(1)');
	$job = value(qq{$own SELECT supervisor.enqueue('DO \$\$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RAISE ''$long''; END\$\$', max_attempts => 1)}, dbname => $db);
	ok($node->poll_query_until($db, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), "$encoding: one runs");
	my $holder = SupervisorTest::session($node, dbname => $db);
	$holder->query_safe("BEGIN; SELECT FROM supervisor.job WHERE id = $job FOR UPDATE");
	$locks->query_safe('SELECT pg_advisory_unlock(1)');
	ok($node->poll_query_until($db, 'SELECT count(*) = 1 FROM supervisor.get_job_runs() WHERE lost'), "$encoding: its end cannot be noted");
	$_->quit foreach $holder, $locks;
	ok($node->poll_query_until($db, "SELECT state = 'f' FROM supervisor.job WHERE id = $job"), "$encoding: then it is");
	is(value("$own SELECT message FROM supervisor.job_history WHERE job = $job", dbname => $db), substr($long, 0, int(255 / length $c) * length $c),
		"$encoding: its message ends with a whole character");
}

# What cannot be converted is refused, and no job is there.
refused("SET client_encoding = UTF8; SELECT supervisor.enqueue('SELECT ''\xe3\x81\x82''')", '22P05', 'text that cannot be converted', dbname => 'latin1');
refused("SET client_encoding = UTF8; SELECT supervisor.enqueue('SELECT \$1', ARRAY['\xe3\x81\x82'])", '22P05', 'a parameter that cannot be converted', dbname => 'latin1');
refused("SET client_encoding = UTF8; SELECT supervisor.enqueue('SELECT ''\xff''')", '22021', "what is no text: $_", dbname => $_) foreach 'utf8', 'euc_jp';
is(value('SELECT count(*) FROM supervisor.job', dbname => 'latin1'), 2, 'they are no jobs');
# What a job makes of bytes that are no text is an error of its own.
my $bad = value(q{SELECT supervisor.enqueue($$SELECT convert_from('\xff', 'UTF8')$$, max_attempts => 1)}, dbname => 'utf8');
ok($node->poll_query_until('utf8', "SELECT last_sqlstate = '22021' FROM supervisor.job WHERE id = $bad"), 'bytes that are no text');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status|server process.*terminated)/m, 'nothing unexpected in the log');
$node->stop;
done_testing();
