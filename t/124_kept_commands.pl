# Raw parse trees of commands that come again and again are kept in the worker: each
# run is as if it were the first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value);

my $node = SupervisorTest::new_node('kept_commands', 'autovacuum' => 'off', 'supervisor.pool_size' => 1);
my $session = SupervisorTest::session($node);

SupervisorTest::ask(\$session);

# What the worker keeps: how many commands, and whether all together are below that many bytes.
sub kept
{
	my ($bytes) = @_;
	my $sql = q{SELECT count(*) || ' ' || coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts WHERE name = 'supervisor command'};
	my ($n, $total) = split / /, value("SELECT r FROM supervisor.run(\$t\$$sql\$t\$) AS (r text)");

	cmp_ok($total, '<', $bytes, 'what is kept is small') if $bytes;
	return $n;
}

note 'what comes again is kept';

is(kept(), '0', 'nothing is kept at first');
value(q{SELECT supervisor.execute('SELECT 1')}) for 1 .. 3;
is(kept(), '2', 'a command that has come again is, and the question itself');
value(q{SELECT supervisor.execute($$SELECT 'once'$$)});
is(kept(), '2', 'one that has come once is not');

# Parameters, tags, rows: all as the first time.
is(value(q{SELECT string_agg(r, ',') FROM generate_series(1, 5) i,
	LATERAL supervisor.run('SELECT $1::text || $2', ARRAY[i::text, 'x']) AS t (r text)}),
	'1x,2x,3x,4x,5x', 'with parameters each has its own');
value('CREATE TABLE numbers (a int)');
is(value(q{SELECT string_agg(supervisor.execute('INSERT INTO numbers SELECT generate_series(1, 3)'), ',') FROM generate_series(1, 4)}),
	'INSERT 0 3,INSERT 0 3,INSERT 0 3,INSERT 0 3', 'so is what changes rows');
is(value(q{SELECT string_agg(tag, ',') FROM supervisor.execute_all(array_fill('UPDATE numbers SET a = a + 1 WHERE a = 100; DELETE FROM numbers WHERE a = 1'::text, ARRAY[4]))}),
	'DELETE 4,DELETE 0,DELETE 0,DELETE 0', 'and several statements');

note 'names mean what they mean now';

value(q{
	CREATE SCHEMA one; CREATE SCHEMA two;
	CREATE TABLE one.t AS SELECT 'one' AS r; CREATE TABLE two.t AS SELECT 'two' AS r, 2 AS more;
	CREATE FUNCTION one.f() RETURNS text LANGUAGE sql AS $$ SELECT 'f of one' $$;
	CREATE FUNCTION two.f() RETURNS text LANGUAGE sql AS $$ SELECT 'f of two' $$});
my $again = q{SELECT r FROM supervisor.run('SELECT r || f() FROM t') AS (r text)};
foreach my $schema (qw(one two one two))
{
	value("SET search_path = $schema");
	is(value($again), "${schema}f of $schema", "search_path $schema");
}
value('RESET search_path; DROP TABLE one.t; CREATE TABLE one.t (r int)');
value('INSERT INTO one.t VALUES (7); SET search_path = one');
is(value($again), '7f of one', 'a table that is another by now');
value('RESET search_path');
value('SET search_path = one; SET transform_null_equals = on');
is(value(q{SELECT r FROM supervisor.run('SELECT (NULL = NULL)::text') AS (r text)}), 'true', 'a setting of the analysis') for 1 .. 3;
value('RESET transform_null_equals');
is(value(q{SELECT coalesce(r, 'unknown') FROM supervisor.run('SELECT (NULL = NULL)::text') AS (r text)}), 'unknown', 'another');
value('RESET search_path');
my @times = map { value(q{SELECT r FROM supervisor.run($$SELECT 'now'::timestamptz::text$$) AS (r text)}) } 1 .. 4;
my %differ = map { $_ => 1 } @times;
is(scalar keys %differ, 4, 'what is read at each run is read anew');

note 'strings mean what the settings say now';

my $backslash = q{SELECT r FROM supervisor.run($t$SELECT 'a\\\\b'$t$) AS (r text)};
my $plain = q{SELECT r FROM supervisor.run($t$SELECT 'plain'::text$t$) AS (r text)};
my $unicode = q{SELECT r FROM supervisor.run($t$SELECT U&'!0061' UESCAPE '!'$t$) AS (r text)};
SKIP:
{
	skip 'strings are always standard', 1 if value(q{SELECT current_setting('server_version_num')::int >= 190000}) eq 't';
	for (1 .. 2)
	{
		value('SET standard_conforming_strings = on');
		is(value($backslash), 'a\\\\b', 'on') for 1 .. 3;
		is(value($unicode), 'a', 'on, Unicode escapes') for 1 .. 3;
		value('SET standard_conforming_strings = off; SET escape_string_warning = off');
		is(value($backslash), 'a\\b', 'off') for 1 .. 3;
		is(($session->error_of($unicode))[0], '0A000', 'off, Unicode escapes') for 1 .. 3;
		value('SET escape_string_warning = on');
		for (1 .. 3)
		{
			$session->query($backslash);
			like($session->{stderr}, qr/nonstandard use of \\\\/, 'each run has the warning');
		}
	}
	value('RESET standard_conforming_strings; RESET escape_string_warning');
}
foreach my $setting (qw(on off on off))
{
	value("SET backslash_quote = $setting");
	is(($session->error_of(q{SELECT r FROM supervisor.run($t$SELECT E'it\\\\'s'$t$) AS (r text)} =~ s/\\\\/\\/r))[0] // 'ok',
		$setting eq 'on' ? 'ok' : '22P06', "backslash_quote $setting");
}
value('RESET backslash_quote');

note 'what is said while it is parsed is said each time';

my $long = 'x' x 70;
foreach my $command (
	"SELECT 1::text AS $long", qq{SELECT 1::text AS "$long"}, qq{SELECT 1::text AS "x x$long"},
	qq{SELECT 1::text AS "a""} . 'b ' x 34 . '"')
{
	foreach (1 .. 4)
	{
		$session->query("SELECT supervisor.execute(\$t\$$command\$t\$)");
		like($session->{stderr}, qr/will be truncated/, 'a name that is too long');
	}
}
foreach (1 .. 4)
{
	$session->query(q{SELECT supervisor.execute('SELECT 1 AS a INTO GLOBAL TEMP gone')});
	like($session->{stderr}, qr/GLOBAL is deprecated/, 'a word that is deprecated');
}
is(($session->error_of(q{SELECT supervisor.execute('SELECT FROM FROM')}))[0], '42601', 'what is no SQL') for 1 .. 4;
is(($session->error_of(q{SELECT supervisor.execute('-- nothing')}))[0], '22023', 'nothing at all') for 1 .. 4;
is(($session->error_of(q{SELECT supervisor.execute('SELECT 1/0')}))[0], '22012', 'one that fails') for 1 .. 4;
is(($session->error_of(q{SELECT r FROM supervisor.run('SET work_mem = 64') AS (r text)}))[0], '42804', 'one that returns no rows') for 1 .. 4;

my $before = -s $node->logfile;
value('SET log_parser_stats = on');
value(q{SELECT supervisor.execute('SELECT 1')}) for 1 .. 3;
value('RESET log_parser_stats');
my $log = slurp_file($node->logfile, $before);
cmp_ok(scalar(() = $log =~ /PARSER STATISTICS/g), '>=', 3, 'and what is logged of it is logged each time');

note 'they are few, and small';

value(q{SELECT count(*) FROM generate_series(1, 2) j, supervisor.execute_all(
	(SELECT array_agg(format('SELECT %s', i)) FROM generate_series(1, 3000) i))}) for 1 .. 2;
cmp_ok(kept(3_000_000), '<=', 32, 'of thousands few are kept');
value(q{SELECT count(*) FROM supervisor.execute_all(
	(SELECT array_agg('SELECT 1 WHERE 1 IN (' || repeat(format('%s, ', i), 400) || '1)') FROM generate_series(1, 200) i, generate_series(1, 3) j))});
cmp_ok(kept(3_000_000), '<=', 32, 'also of large ones');
is(value(q{SELECT supervisor.execute('SELECT 1 WHERE 1 IN (' || repeat('1, ', 50000) || '1)')}), 'SELECT 1', 'a huge one is run') for 1 .. 3;
cmp_ok(kept(3_000_000), '<=', 32, 'and not kept');

$session->quit;
done_testing();
