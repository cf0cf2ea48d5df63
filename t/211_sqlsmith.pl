# Whatever SQL a task runs, nothing crashes, hangs or leaks, and no error is an internal one that the statement
# does not raise in a session as well.  SQLsmith makes it up, out of all tables, functions and operators that there are.
#
# PG_TEST_FUZZ_SECONDS says for how long (60), 0 for not at all.  With the PG_TEST_FUZZ_SEED that an earlier run has
# printed the statements are the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest;

my $seconds = $ENV{PG_TEST_FUZZ_SECONDS} // 60;
plan skip_all => 'PG_TEST_FUZZ_SECONDS is 0' if !$seconds;
plan skip_all => 'sqlsmith is not installed' if !grep { -x "$_/sqlsmith" } split /:/, $ENV{PATH};
my $seed = $ENV{PG_TEST_FUZZ_SEED} || 1 + time % 1_000_000;
srand($seed);
note "PG_TEST_FUZZ_SECONDS=$seconds PG_TEST_FUZZ_SEED=$seed";

my $per_batch = 40;
# Milliseconds for one statement in a task: more on a server for which tests wait longer.
my $limit = int(500 * $PostgreSQL::Test::Utils::timeout_default / 180);
my $node = SupervisorTest::new_node(
	'sqlsmith',
	'max_worker_processes' => 16,
	'log_statement' => 'none',
	'log_min_error_statement' => 'panic',
	'supervisor.pool_size' => 2,
	'supervisor.max_tasks' => 64,
	'supervisor.shared_memory' => '4MB',
	'supervisor.result_memory' => '256kB');

$node->safe_psql('postgres', q{
	CREATE ROLE fuzz LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO fuzz;
	GRANT pg_read_all_stats TO fuzz;
	CREATE TYPE pair AS (a int, b text);
	CREATE TYPE mood AS ENUM ('good', 'bad');
	CREATE DOMAIN small AS int CHECK (VALUE < 1000);
	CREATE TABLE numbers (a int PRIMARY KEY, b bigint, c smallint, d numeric, e real, f float8, g small, h money);
	INSERT INTO numbers SELECT i, i, i, i, i, i, i, i FROM generate_series(1, 300) i;
	CREATE TABLE texts (a text, b varchar(30), c char(9), d name, e bytea, f "char", g text[], h json, i jsonb, j xml, k uuid, l bit(3), m varbit);
	INSERT INTO texts (a, b, c, d, e, f, g, h, i) SELECT repeat(i::text, i), i, i, i, i::text::bytea, 'x', ARRAY[i::text], '[1]', '{}' FROM generate_series(1, 100) i;
	ALTER TABLE texts ALTER a SET STORAGE EXTERNAL;
	INSERT INTO texts (a) VALUES (repeat('x', 100000));
	CREATE TABLE others (a date, b time, c timestamptz, d interval, e pair, f mood, g int4range, h point, i inet, j pair[], k tsvector, l oid, m regclass)
		PARTITION BY LIST (f);
	CREATE TABLE others_good PARTITION OF others FOR VALUES IN ('good');
	CREATE TABLE others_bad PARTITION OF others DEFAULT;
	INSERT INTO others SELECT 'today', '1:00', now(), '1 day', (i, 'x')::pair, (ARRAY['good', 'bad', NULL])[1 + i % 3]::mood, '[1,2)', '(1,2)', '::1', ARRAY[(1, 'x')::pair]
		FROM generate_series(1, 50) i;
	CREATE VIEW view AS SELECT n.a, t.b, o.e FROM numbers n JOIN texts t ON t.b = n.a::text LEFT JOIN others o ON (o.e).a = n.a;
	GRANT SELECT, INSERT, UPDATE, DELETE ON numbers, texts, others, others_good, others_bad, view TO fuzz;
	ANALYZE});

# A statement as a literal.
sub literal
{
	my ($statement) = @_;

	return "\$stmt\$$statement\$stmt\$";
}

# Runs a script in a session of its own; returns what it has printed, and whether it came to its end.
my $file = PostgreSQL::Test::Utils::tempdir() . '/batch.sql';
sub run_script
{
	my ($sql) = @_;
	my ($out, $err);

	unlink $file;
	append_to_file($file, "\\set VERBOSITY verbose\nSET client_min_messages = error;\n$sql");
	my $returned = eval {
		IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'fuzz', '-f', $file ],
			'<', \'', '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default * 5));
	};
	return ($out, $err, $returned);
}

# The SQLSTATEs that a script raises.
sub errors
{
	my ($err) = @_;

	return $err =~ /(?:ERROR|FATAL|PANIC):  (\w{5}):/g;
}

# The statement in a task, in one of the ways in which there are tasks.  A line that is a number is one of rows.
sub in_task
{
	my ($statement, $columns, $others) = @_;
	my $way = int rand($columns ? 4 : 2);
	my $literal = literal($statement);

	return "SELECT supervisor.execute($literal);\n" if $way == 0;
	return 'SELECT array_agg(tag) FROM supervisor.execute_all(ARRAY[' . join(', ', map { literal($_) } @$others) . "]);\n" if $way == 1;
	return "SELECT count(r::text) FROM supervisor.run($literal) AS r ($columns);\n" if $way == 2;
	return "SELECT supervisor.launch($literal) AS task \\gset\nSELECT supervisor.wait(:task);\n"
	  . "SELECT count(r::text) FROM supervisor.result(:task) AS r ($columns);\n";
}

# What a worker keeps, beside core's caches: bytes by name; and which worker that is.
sub memory
{
	my $query = q{
		SELECT string_agg(name || '=' || bytes, E'\n') || E'\npid=' || pg_backend_pid() FROM (
			SELECT name, sum(total_bytes) AS bytes FROM pg_backend_memory_contexts
			WHERE name ~ '^(Top|Error|supervisor)' AND name !~ '^TopTransaction'
			GROUP BY name) s};

	return { map { split /=/ } split /\n/, $node->safe_psql('postgres',
		"SELECT m FROM supervisor.run(\$q\$$query\$q\$) AS (m text)", extra_params => [ '-U', 'fuzz' ]) };
}

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

# It does not mind a closed pipe, and would go on for ever; to close it is to wait
# for its end, so that must not be done before.
our $sqlsmith;
my $sqlsmith_pid;
END { kill 'TERM', $sqlsmith_pid if $sqlsmith_pid; }
$sqlsmith_pid = open $sqlsmith, '-|', 'sqlsmith', '--target=' . $node->connstr('postgres') . ' user=fuzz', '--dry-run', "--seed=$seed"
  or die "could not run sqlsmith: $!";
my $end;
my ($n, $rows) = (0, 0);
my (%states, @internal, @stuck, @memory);
do
{
	my @statements;
	my ($sql, $out, $err, $returned);

	while (@statements < $per_batch)
	{
		local $/ = ";\n";
		my $statement = <$sqlsmith> // die 'SQLsmith has ended';

		chomp $statement;
		push @statements, $statement;
	}
	# it takes its time before the first
	$end //= time + $seconds;
	$n += @statements;

	# which columns it returns
	($out) = run_script(join '', map { "\\echo statement $_\n$statements[$_] \\gdesc\n" } 0 .. $#statements);
	my (undef, @columns) = map {
		my (undef, @lines) = split /\n/;
		join ', ', map { /^(.+?)\|(.+)$/ ? "\"$1\" $2" : () } @lines;
	} split /^statement /m, $out;

	$sql = "SET statement_timeout = ${limit}0;\nSET supervisor.task_timeout = $limit;\n";
	foreach my $i (0 .. $#statements)
	{
		$sql .= "\\warn statement $i\n" . in_task($statements[$i], $columns[$i], [ @statements[ $i, ($i + 1) % @statements ] ]);
	}
	($out, $err, $returned) = run_script($sql);
	push @stuck, "$@ $err" if !$returned;
	$rows += $_ foreach $out =~ /^(\d+)$/mg;

	my (undef, @errors) = split /^statement /m, $err;
	foreach my $i (0 .. $#errors)
	{
		$states{$_}++ foreach errors($errors[$i]);
		next if $errors[$i] !~ /(?:ERROR|FATAL|PANIC):  XX/;

		# core has some of its own
		my (undef, $direct) = run_script("SET statement_timeout = ${limit}0;\nBEGIN;\n$statements[$i];\nROLLBACK");
		next if grep { /^XX/ } errors($direct);
		(undef, my $again) = run_script("SELECT supervisor.execute(" . literal($statements[$i]) . ');');
		push @internal, "$statements[$i]: $errors[$i]" if grep { /^XX/ } errors($again);
	}
	push @memory, memory();
} while (!@stuck && (time < $end || ($rows == 0 && $n < 10_000)));
kill 'TERM', $sqlsmith_pid;
close $sqlsmith;
undef $sqlsmith_pid;
note "$n statements, $rows rows";
note join ', ', map { "$_: $states{$_}" } sort keys %states;

is(join("\n", @stuck), '', 'every call returns, and no session ends');
is(join("\n", @internal), '', 'no error is an internal one of a task');
cmp_ok($rows, '>', 0, 'there are rows');

my (%first, %grown);
foreach my $now (@memory)
{
	my $then = $first{ $now->{pid} } //= $now;

	foreach (grep { $_ ne 'pid' } keys %$now)
	{
		my $growth = $now->{$_} - ($then->{$_} // 0);

		# parse trees that are kept have a bound of their own: see src/parse.c
		$grown{$_} = "$_ of worker $now->{pid} by $growth bytes" if $growth > (/^supervisor command$/ ? 32 * 64 * 1024 : 500_000);
	}
}
is(join(', ', values %grown), '', 'no worker grows');
is(SupervisorTest::leaks($node), '', 'all is as before');
is($node->safe_psql('postgres', q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'and works');
SupervisorTest::log_is_clean($node);

$node->stop;
done_testing();
