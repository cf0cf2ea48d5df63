# What README.md and docs/recipes.md promise beyond what their examples show, which
# t/002_examples.pl runs; and the programs of docs/recipes.md, as they stand there,
# directly and through pgbouncer.  Where a driver is not installed, its are skipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(value becomes refused until_true);

my $page = "$FindBin::RealBin/../docs/recipes.md";
my @blocks = SupervisorTest::blocks($page);

my $node = SupervisorTest::new_node(
	'recipes',
	'supervisor.pool_size' => 2,
	max_worker_processes => 16,
	password_encryption => 'scram-sha-256',
	listen_addresses => '127.0.0.1');
SupervisorTest::ask(\$node);
SupervisorTest::create_sample($node);

# Returns the sql block of the page that matches.
sub recipe
{
	my ($pattern) = @_;
	my @found = grep { $_->{info} =~ /^sql/ && $_->{text} =~ $pattern } @blocks;

	die "$page has no sql block, or several, with $pattern" if @found != 1;
	return $found[0]->{text};
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
my ($status, undef, $stderr) = $node->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'purger' ]);
isnt($status, 0, 'which no client can log in as');
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
