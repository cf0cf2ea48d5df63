# What a job does and the note that it is done are there both or neither, whatever
# transactions its role has by default, and whatever the job does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes value);

my $node = SupervisorTest::new_node('once', 'supervisor.pool_size' => 2, 'max_pred_locks_per_transaction' => 256);

SupervisorTest::ask(\$node);

my %roles = (
	reads => q{'read committed'},
	repeatable => q{'repeatable read'},
	serial => 'serializable',
	deferred => q{serializable; ALTER ROLE deferred SET default_transaction_read_only = on;
		ALTER ROLE deferred SET default_transaction_deferrable = on},
	reader => q{'repeatable read'; ALTER ROLE reader SET default_transaction_read_only = on});

value(qq{
	CREATE ROLE $_ LOGIN;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO $_;
	ALTER ROLE $_ SET default_transaction_isolation = $roles{$_}}) foreach sort keys %roles;
value(q{
	CREATE TABLE effect (job bigint DEFAULT supervisor.current_job(), big text);
	CREATE TABLE parent (i integer PRIMARY KEY);
	CREATE TABLE child (i integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE late (i integer);
	CREATE FUNCTION fails() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING errcode = ''P0042''; END';
	CREATE FUNCTION fails_late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING errcode = ''P0043''; END';
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fails_late();
	CREATE PROCEDURE calls() LANGUAGE plpgsql AS 'BEGIN INSERT INTO effect DEFAULT VALUES; END';
	CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN INSERT INTO effect DEFAULT VALUES; COMMIT; END';
	GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC});

# A serializable reader beside all of them: what depends on it may fail, and is not there then.
my $beside = SupervisorTest::session($node);
$beside->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM supervisor.job, supervisor.job_history, effect');

my $effect = 'INSERT INTO effect DEFAULT VALUES';
my %commands = (
	'plain' => $effect,
	'several' => "$effect; SELECT 1; SELECT 2",
	'rolled back to a savepoint' => "SAVEPOINT a; $effect; ROLLBACK TO a; $effect",
	'in a savepoint that is left open' => "SAVEPOINT a; $effect; SAVEPOINT b",
	'checked late' => "$effect; INSERT INTO child VALUES (1); INSERT INTO parent VALUES (1) ON CONFLICT DO NOTHING",
	'refused late' => "$effect; INSERT INTO child VALUES (-1)",
	'failed late' => "$effect; INSERT INTO late VALUES (1)",
	'failed in a cursor' => "$effect; DECLARE c CURSOR WITH HOLD FOR SELECT fails()",
	'a cursor' => "$effect; DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 1000)",
	'failed' => "$effect; SELECT fails()",
	'failed in a block' => "$effect; DO \$\$ BEGIN PERFORM fails(); EXCEPTION WHEN OTHERS THEN NULL; END \$\$",
	'a call' => 'CALL calls()',
	'a call that commits' => 'CALL commits()',
	'prepared' => "PREPARE p AS $effect; EXECUTE p; DEALLOCATE p",
	'big' => "INSERT INTO effect (big) VALUES ('" . 'x' x 1_000_000 . "')",
	'temporary' => "CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1; $effect",
	'other settings' => "SET search_path = ''; SET LOCAL lock_timeout = 1; INSERT INTO public.effect DEFAULT VALUES",
	'read only at last' => "$effect; SET TRANSACTION READ ONLY",
	'nothing but looks' => 'SELECT count(*) FROM effect',
	'writes' => "SET TRANSACTION READ WRITE; $effect");

my %has_effect = map { $_ => 1 } 'plain', 'several', 'rolled back to a savepoint', 'in a savepoint that is left open', 'checked late',
  'a cursor', 'failed in a block', 'a call', 'prepared', 'big', 'temporary', 'other settings', 'read only at last', 'writes';
my %job;

sub enqueue_all
{
	foreach my $role (@_)
	{
		foreach my $name (sort keys %commands)
		{
			$job{"$role: $name"} = value(
				"SET default_transaction_read_only = off; SELECT supervisor.enqueue(\$job\$$commands{$name}\$job\$, max_attempts => 1)", user => $role);
		}
	}
	becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE state = 'w'}, 'all jobs end');
}

enqueue_all(grep { $_ ne 'deferred' } sort keys %roles);

# deferrable transactions wait for it
$beside->query_safe('COMMIT');
$beside->quit;
enqueue_all('deferred');

foreach my $case (sort keys %job)
{
	my ($role, $name) = split /: /, $case;
	my $id = $job{$case};
	my $reads = $role =~ /deferred|reader/;
	my ($state, $sqlstate) = split /\|/, value("SELECT state, coalesce(sqlstate, '') FROM supervisor.job_history WHERE job = $id");
	my $effects = value("SELECT count(*) FROM effect WHERE job = $id");
	my $left = value("SELECT count(*) FROM supervisor.job WHERE id = $id");

	is("$effects $left", $state eq 'succeeded' ? ($has_effect{$name} ? '1 0' : '0 0') : '0 1', "$case: both or neither");
	next if $sqlstate eq '40001' && $role eq 'serial';
	is($state, ($has_effect{$name} && (!$reads || $name eq 'writes')) || $name eq 'nothing but looks' ? 'succeeded' : 'failed', "$case: $sqlstate");
}
is(value('SELECT count(*) FROM (SELECT job FROM supervisor.job_history GROUP BY job HAVING count(*) > 1) t'), 0, 'none has been run twice');
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected)/m, 'nothing unexpected in the log');

note 'encodings';

value(q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
value(q{CREATE EXTENSION supervisor; CREATE TABLE t (a text, b text)}, dbname => 'latin');
value(qq{SET client_encoding = UTF8; SELECT supervisor.enqueue('INSERT INTO t VALUES (''\xc3\xa4'', \$1)', ARRAY[E'\xc3\xb6'])}, dbname => 'latin');
ok($node->poll_query_until('latin', q{SELECT count(*) = 1 FROM t WHERE a = chr(228) AND b = chr(246)}), 'a job of another encoding');

note 'large parameters';

value(q{CREATE TABLE large (n bigint)});
value(q{SELECT supervisor.enqueue('INSERT INTO large SELECT length($1) + length($2)', ARRAY[repeat('x', 50000000), repeat('y', 50000000)])});
becomes('SELECT count(*) = 1 FROM large WHERE n = 100000000', 'are taken');

note 'large results';

# Only the beginning of the last one is kept, so a worker needs no more for many than for few.
SKIP:
{
	skip 'the size of a process is told by Linux', 1 if $^O ne 'linux';
	my @sizes;
	foreach my $statements (2, 20)
	{
		my $job = value('SELECT supervisor.enqueue($$' . q{SELECT repeat('x', 20000000); } x $statements . 'SELECT pg_advisory_xact_lock_shared(1)::text || 1$$)');
		becomes("SELECT count(*) = 1 FROM supervisor.job_history WHERE job = $job AND state = 'succeeded' AND result = '1'", "$statements of 20 MB");
		my ($size) = slurp_file('/proc/' . value("SELECT pid FROM supervisor.job_history WHERE job = $job") . '/status') =~ /^VmHWM:\s+(\d+) kB/m;
		push @sizes, $size;
	}
	cmp_ok($sizes[1] - $sizes[0], '<', 100_000, 'many take no more memory than few');
}
is(value(q{SELECT supervisor.enqueue('SELECT 1')} =~ s/1/repeat(chr(228), 1000)/r) > 0, 1, 'one of more bytes than are kept');
becomes(q{SELECT count(*) = 1 FROM supervisor.job_history WHERE result = repeat(chr(228), 512)}, 'is cut between characters');

done_testing();
