# What README.md, docs/recipes.md and docs/jobs.md promise beyond what their examples
# show, which t/002_examples.pl runs; and the programs of docs/recipes.md, as they stand
# there, directly and through pgbouncer.  Where a driver is not installed, its are skipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(value becomes refused until_true);

my $page = "$FindBin::RealBin/../docs/recipes.md";
my @blocks = SupervisorTest::blocks($page);
my $jobs_page = "$FindBin::RealBin/../docs/jobs.md";
my @job_blocks = SupervisorTest::blocks($jobs_page);

my $node = SupervisorTest::new_node(
	'recipes',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'http:1, reports:1',
	max_worker_processes => 16,
	password_encryption => 'scram-sha-256',
	listen_addresses => '127.0.0.1');
SupervisorTest::ask(\$node);
SupervisorTest::create_sample($node);

# Returns the one sql block that matches.
sub block_with
{
	my ($pattern, @from) = @_;
	my @found = grep { $_->{info} =~ /^sql/ && $_->{text} =~ $pattern } @from;

	die "there is no sql block, or several, with $pattern" if @found != 1;
	return $found[0]->{text};
}

# That of docs/recipes.md.
sub recipe
{
	my ($pattern) = @_;
	return block_with($pattern, @blocks);
}

# Runs that of docs/jobs.md.
sub job_recipe
{
	my ($pattern) = @_;
	$node->safe_psql('postgres', block_with($pattern, @job_blocks));
}

#
# What survives what: README.md's table, row by row
#

$node->safe_psql('postgres', q{CREATE TABLE kept (what text)});

sub kept
{
	my ($what) = @_;
	return "SELECT EXISTS (SELECT FROM kept WHERE what = '$what')";
}

sub task_runs
{
	my ($task) = @_;
	return "SELECT EXISTS (SELECT FROM supervisor.task_status WHERE task = $task AND state = 'running')";
}

my $session = SupervisorTest::session($node);
$session->query_safe(q{BEGIN});
$session->query_safe(q{SELECT supervisor.execute($$INSERT INTO kept VALUES ('execute')$$)});
my ($launched, $unread, $forgotten) = map { $session->query_safe("SELECT supervisor.launch($_)") }
  (q{'SELECT 1'}, q{'SELECT 2'}, q{$$SELECT pg_sleep(600); INSERT INTO kept VALUES ('forgotten')$$});
$session->query_safe("SELECT supervisor.forget($forgotten)");
$session->query_safe(q{SELECT supervisor.add_worker('undone', 'SELECT 1')});
$session->query_safe(q{ROLLBACK});

is(value(kept('execute')), 't', 'what a task has committed survives a rollback of the caller');
is($session->query_safe("SELECT n FROM supervisor.result($launched) AS (n int)"), '1', 'so do the rows of a launched one');
until_true(task_runs($forgotten), 'the forgotten task runs');
is(value(q{SELECT count(*) FROM supervisor.worker WHERE name = 'undone'}), '0', 'add_worker is undone');

my $running = $session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(600)')});
until_true(task_runs($running), 'the launched task runs');
$session->quit;
becomes("SELECT NOT EXISTS (SELECT FROM supervisor.task_status
	WHERE task IN ($running, $unread) AND (finished_at IS NULL OR owner_pid IS NOT NULL))",
	'a launched task, and rows that nobody has read, go with the session');
is(value(task_runs($forgotten)), 't', 'one that was forgotten goes on');

$node->safe_psql('postgres', q{SELECT supervisor.add_worker('service', $$INSERT INTO kept VALUES ('service')$$)});
$node->safe_psql('postgres', q{SELECT supervisor.add_worker('stopped', 'SELECT 1', run_every => '1 h')});
$node->safe_psql('postgres', q{SELECT supervisor.stop_worker('stopped')});
until_true(kept('service'), 'the service has run');
$node->safe_psql('postgres', q{DELETE FROM kept WHERE what = 'service'});
$node->restart;

becomes(kept('service'), 'a service starts again with the server');
becomes(q{SELECT state = 'stopped' FROM supervisor.worker_status WHERE name = 'stopped'}, 'unless it was stopped');
is(value(q{SELECT count(*) FROM supervisor.task_status}), '0', 'a restart loses all tasks');
is(value(kept('forgotten')), 'f', 'what they have not committed is rolled back');
is(value(kept('execute')), 't', 'and what they have committed is not');

#
# Jobs: README.md's table, and what the recipes come to
#

my $gate = SupervisorTest::session($node);
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{
	BEGIN; SELECT supervisor.enqueue($$INSERT INTO kept VALUES ('rolled back')$$); ROLLBACK;
	SELECT supervisor.enqueue($$INSERT INTO kept VALUES ('enqueued'); SELECT pg_advisory_xact_lock(1)$$);
	SELECT supervisor.enqueue($$INSERT INTO kept VALUES ('later')$$, run_at => 'infinity')});
until_true(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)}, 'a job runs');
$gate->quit;
$node->stop('immediate');
$node->start;
until_true(kept('enqueued'), 'a job that ran when the server ended is run again');
becomes(q{SELECT count(*) = 1 FROM supervisor.job}, 'and goes');
is(value(q{SELECT count(*) FROM kept WHERE what = 'enqueued'}), 1, 'it has had its effect once');
is(value(kept('rolled back')), 'f', 'one that was rolled back has had none');
$node->safe_psql('postgres', 'SELECT supervisor.retry_job(id) FROM supervisor.job');
until_true(kept('later'), 'one that waits outlives the server');

job_recipe(qr/CREATE TRIGGER announce/);
becomes(q{SELECT count(*) = 1 AND bool_and(key ~ '^job-[0-9]+$' AND body->>'note' = 'express') FROM received}, 'an outbox: the other side is told, with a key');
job_recipe(qr/CREATE TABLE steps/);
becomes(q{SELECT array_agg(step ORDER BY step) = ARRAY[1, 2, 3] FROM steps}, 'a chain: each step is done once');
job_recipe(qr/CREATE TABLE batch/);
becomes(q{SELECT done_at IS NOT NULL AND parts_left = 0 AND total = (SELECT sum(total) FROM orders WHERE account IN (SELECT id FROM accounts)) FROM batch},
	'fan out: when all are done it goes on');
job_recipe(qr/CREATE TABLE reports/);
becomes(q{SELECT count(*) = 100 AND count(DISTINCT (tenant, report)) = 100 FROM reports}, 'fair to tenants: each of their jobs is done, once');
job_recipe(qr/CREATE TABLE progress/);
becomes(q{SELECT done = 3 FROM progress}, 'progress is told');
job_recipe(qr/CREATE TABLE done/);
becomes(q{SELECT EXISTS (SELECT FROM orders WHERE note = 'imported') AND (SELECT count(*) = 1 FROM done)}, 'what may come twice is done once');
becomes(q{SELECT count(*) = 0 FROM supervisor.job}, 'no job is left');

# pg_cron's table, as far as it matters.
$node->safe_psql('postgres', q{
	CREATE ROLE clerk LOGIN;
	CREATE SCHEMA cron;
	CREATE TABLE cron.job (jobid bigint PRIMARY KEY, schedule text NOT NULL, command text NOT NULL, database text NOT NULL DEFAULT current_database(),
		username text NOT NULL DEFAULT current_user, active boolean NOT NULL DEFAULT true, jobname text);
	INSERT INTO cron.job (jobid, jobname, schedule, command, username, active) VALUES
		(1, 'nightly', '0 3 * * *', 'VACUUM', 'postgres', true), (2, NULL, '30 seconds', 'SELECT 1', 'clerk', false), (3, 'last day', '0 0 $ * *', 'SELECT 1', 'postgres', true);
	INSERT INTO cron.job (jobid, schedule, command, database) VALUES (4, '* * * * *', 'SELECT 1', 'another')});
job_recipe(qr/FROM cron\.job/);
is( value(q{SELECT string_agg(concat_ws(' ', name, schedule, command, role, time_zone, atomic, enabled), ', ' ORDER BY id) FROM supervisor.job}),
	'nightly 0 3 * * * VACUUM postgres GMT f t, cron 2 30 seconds SELECT 1 clerk GMT f f, last day 0 0 $ * * SELECT 1 postgres GMT f t',
	'the jobs of pg_cron are taken over');
$node->safe_psql('postgres', 'SELECT supervisor.unschedule(name) FROM supervisor.job; DROP SCHEMA cron CASCADE;
	DROP TRIGGER announce ON orders; DELETE FROM orders WHERE id > 1000');

#
# Fan out: the parts run side by side, and those of run() in a LATERAL join do not
#

# Returns once two have come.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE arrivals;
	CREATE FUNCTION meet() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('arrivals');
		WHILE (SELECT last_value < 2 FROM arrivals) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN 'met';
	END $$});

is( value(qq{
		SET statement_timeout = '$PostgreSQL::Test::Utils::timeout_default s';
		SELECT string_agg(part.met, ' ')
		FROM (SELECT array_agg(supervisor.launch('SELECT meet()')) AS tasks FROM generate_series(1, 2)) AS launched,
			unnest(tasks) AS task, supervisor.result(task) AS part (met text)}),
	'met met', 'array_agg of launch() runs all parts side by side');
$node->safe_psql('postgres', q{ALTER SEQUENCE arrivals RESTART});
refused(q{
	SELECT string_agg(part.met, ' ')
	FROM generate_series(1, 2), supervisor.run('SELECT meet()', timeout => '1 s') AS part (met text)},
	'57014', 'run() in a LATERAL join runs one after the other');

#
# A service under a role without rights
#

$node->safe_psql('postgres', q{INSERT INTO orders (id) VALUES (1000001)});
$node->safe_psql('postgres', recipe(qr/CREATE ROLE purger/));
becomes(q{SELECT NOT EXISTS (SELECT FROM orders WHERE id = 1000001)}, 'a service runs although its role has CONNECTION LIMIT 0');
# not by its input, which it does not read then
my ($stdout, $stderr);
my $logged_in = IPC::Run::run([ 'psql', '-X', '-U', 'purger', '-c', 'SELECT 1', $node->connstr('postgres') ], '<', \undef, '>', \$stdout, '2>', \$stderr);
ok(!$logged_in, 'which no client can log in as');
like($stderr, qr/too many connections for role "purger"/, 'for that reason');

#
# Start it in one connection, poll in another
#

$node->safe_psql('postgres', recipe(qr/CREATE MATERIALIZED VIEW account_totals/));
$node->safe_psql('postgres', recipe(qr/'REFRESH MATERIALIZED VIEW account_totals; INSERT/));
becomes(q{SELECT max(at) IS NOT NULL FROM refreshed WHERE what = 'account_totals'},
	'what was launched and forgotten leaves word after the end of its session');
becomes(q{SELECT state = 'succeeded' AND tag = 'INSERT 0 1' FROM supervisor.task_status WHERE command LIKE 'REFRESH MATERIALIZED VIEW account_totals%'},
	'and how it ended can be seen');

#
# The programs
#

$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN PASSWORD 'secret';
	GRANT EXECUTE ON FUNCTION supervisor.run, supervisor.execute, supervisor.launch, supervisor.result TO app;
	GRANT EXECUTE ON PROCEDURE supervisor.perform TO app;
	ALTER TABLE accounts OWNER TO app;
	ALTER TABLE orders OWNER TO app});

# Over TCP none but this role, with its password.
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
$hba =~ s/^host.*\n//mg;
open my $fh, '>', $node->data_dir . '/pg_hba.conf' or die $!;
print $fh $hba, "host all app 127.0.0.1/32 scram-sha-256\n";
close $fh;
$node->reload;

# Returns the output of a command, or undef if it fails.
sub output_of
{
	my (@command) = @_;
	my ($stdout, $stderr);

	my $succeeded = eval { IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr,
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default)) };
	note +($stderr // $@) =~ s/\n.*//sr if !$succeeded;
	return $succeeded ? $stdout : undef;
}

my ($python) = grep { defined output_of($_, '-c', 'import psycopg, psycopg2') } qw(python3 /usr/bin/python3);
$python //= '/usr/bin/python3';
my $jar = '/usr/share/java/postgresql.jar';
local $ENV{NODE_PATH} = join ':', $ENV{NODE_PATH} // (), '/usr/share/nodejs';

# For each driver: the name of the program's file, how to run it, what it takes to do that, and what that is called.
my %drivers = (
	psycopg => [ 'example.py', [$python], sub { defined output_of($python, '-c', 'import psycopg') }, 'python3-psycopg' ],
	psycopg2 => [ 'example.py', [$python], sub { defined output_of($python, '-c', 'import psycopg2') }, 'python3-psycopg2' ],
	jdbc => [
		'Example.java', [ 'java', '-cp', $jar ],
		sub { -e $jar && (output_of('java', '--list-modules') // '') =~ /^jdk\.compiler\b/m },
		'libpostgresql-jdbc-java and a JDK'
	],
	pg => [ 'example.js', ['node'], sub { defined output_of('node', '-e', "require('pg')") }, 'node with pg' ]);

# Starts pgbouncer as the page has it; returns its port, or undef if there is none.
my $bouncer;

sub start_pgbouncer
{
	my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
	return undef if !defined $program;

	my ($ini) = map { $_->{text} } grep { $_->{info} eq 'ini' } @blocks;
	my $dir = PostgreSQL::Test::Utils::tempdir('pgbouncer');
	my $bouncer_port = PostgreSQL::Test::Cluster::get_free_port();
	my $port = $node->port;
	$ini =~ s/\b5432\b/$port/ && $ini =~ s/\b6432\b/$bouncer_port/ && $ini =~ s{\buserlist\.txt\b}{$dir/userlist.txt}
	  or die "the pgbouncer.ini of $page is not as it was";
	append_to_file("$dir/userlist.txt", qq{"app" "secret"\n});
	append_to_file("$dir/pgbouncer.ini", "${ini}unix_socket_dir =\n");

	$bouncer = IPC::Run::start([ $program, "$dir/pgbouncer.ini" ], '<', \undef, '>&', \my $log);
	my $up = SupervisorTest::eventually(sub {
		$bouncer->pump_nb;
		local $ENV{PGPASSWORD} = 'secret';
		defined output_of('psql', '-Xqc', 'SELECT 1', "host=127.0.0.1 port=$bouncer_port user=app dbname=postgres");
	});
	die "pgbouncer does not start: $log" if !$up;
	return $bouncer_port;
}

my %ports = (directly => $node->port, 'through pgbouncer' => start_pgbouncer());

while (my $block = shift @blocks)
{
	next if $block->{info} !~ /\bdriver=(\w+)/;
	my $driver = $1;
	my ($file, $command, $is_there, $package) = @{ $drivers{$driver} };
	my $printed = shift(@blocks);
	die "no output follows line $block->{line} of $page" if $printed->{info} ne 'text prints';

	my $dir = PostgreSQL::Test::Utils::tempdir($driver);
	append_to_file("$dir/$file", $block->{text});

  SKIP:
	{
		skip "$package: not installed", 2 if !$is_there->();

		foreach my $how ('directly', 'through pgbouncer')
		{
			my $port = $ports{$how};
			skip 'pgbouncer: not installed', 1 if !defined $port;

			local @ENV{qw(PGHOST PGPORT PGUSER PGPASSWORD)} = ('127.0.0.1', $port, 'app', 'secret');
			my @url = $driver eq 'jdbc' ? "jdbc:postgresql://127.0.0.1:$port/postgres?user=app&password=secret&prepareThreshold=0" : ();
			is(SupervisorTest::visible(output_of(@$command, "$dir/$file", @url) // 'nothing: it failed'),
				SupervisorTest::visible($printed->{text}), "the program for $driver, $how");
		}
	}
	delete $drivers{$driver};
}
is(join(' ', sort keys %drivers), '', 'there was a program for each driver');

if (defined $bouncer)
{
	$bouncer->signal('INT');
	$bouncer->finish;
}
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
