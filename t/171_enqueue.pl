# All that can be known of a job is checked when it is enqueued, each with its own
# clear error: nothing is written then.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'enqueue',
	'supervisor.pool_size' => 1,
	'supervisor.pools' => 'closed:1(friend), empty:0');

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE friend LOGIN;
	CREATE ROLE alice LOGIN;
	CREATE ROLE nologin;
	CREATE ROLE reader LOGIN;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO alice, nologin;
	CREATE DATABASE other;
	CREATE TABLE t (i integer)});

sub no_job
{
	my ($arguments, $sqlstate, $message, %opts) = @_;

	refused("SELECT supervisor.enqueue($arguments)", $sqlstate, "enqueue($arguments)", message => $message, %opts);
}

note 'arguments';

no_job('NULL', '22004', qr/command/);
no_job(q{''}, '22023', qr/command is empty/);
no_job(q{'-- nothing'}, '22023', qr/command is empty/);
no_job(q{'SELEC'}, '42601', qr/syntax error.*^QUERY:  SELEC$/ms);
no_job(q{'SELECT 1', pool => 'none'}, '42704', qr/pool "none" does not exist/);
no_job(q{'SELECT 1', priority => -1}, '22023', qr/priority is out of range/);
no_job(q{'SELECT 1', priority => 10}, '22023', qr/priority is out of range/);
no_job(q{'SELECT 1', run_at => '-infinity'}, '22023', qr/run_at is out of range/);
no_job(q{'SELECT 1', max_attempts => 0}, '22023', qr/max_attempts is out of range/);
no_job(q{'SELECT 1', run_timeout => '-1 s'}, '22023', qr/run_timeout is out of range/);
no_job(q{'SELECT 1', retry_delay => '11 years'}, '22023', qr/retry_delay is out of range/);
no_job(q{'SELECT 1; SELECT $1', ARRAY['a']}, '42601', qr/more than one statement with parameters/);
no_job(q{'SELECT $1'}, '42601', qr/wrong number of parameters/);
no_job(q{'SELECT $1', ARRAY['a', 'b']}, '42601', qr/wrong number of parameters/);
no_job(q{'SELECT $2 || $1', ARRAY['a']}, '42601', qr/wrong number of parameters/);
no_job(q{'INSERT INTO t SELECT i FROM (SELECT $1::integer) s (i) WHERE i > (WITH w AS (SELECT $3::integer) TABLE w)', ARRAY['1', '2']},
	'42601', qr/wrong number of parameters/);
no_job(q{'SELECT 1', key => repeat('ä', 513)}, '22023', qr{key of a job is too long});
no_job(q{'SELECT $1 -- ' || repeat('x', 67108864), ARRAY[repeat('x', 67108864)]}, '54000', qr{command of a job is too long.*128 MB, with its parameters}s);

note 'what a transaction can\'t have';

no_job(qq{'$_'}, '2D000', qr/cannot end the transaction/)
  foreach 'BEGIN', 'COMMIT', 'SELECT 1; ROLLBACK', 'COMMIT AND CHAIN', 'PREPARE TRANSACTION $$a$$', 'ROLLBACK PREPARED $$a$$', 'END; SELECT 1';
no_job(qq{'$_'}, '25001', qr/cannot run inside a transaction block/)
  foreach 'VACUUM', 'VACUUM ANALYZE t', 'CREATE INDEX CONCURRENTLY ON t (i)', 'DROP INDEX CONCURRENTLY t_i', 'REINDEX TABLE CONCURRENTLY t',
  'REINDEX DATABASE other', 'CREATE DATABASE another', 'DROP DATABASE other', 'ALTER SYSTEM SET work_mem = 64', 'DISCARD ALL', 'SELECT 1; VACUUM',
  'CLUSTER', 'ALTER TABLE t DETACH PARTITION t_1 CONCURRENTLY', 'ALTER DATABASE other SET TABLESPACE pg_default',
  'CREATE SUBSCRIPTION s CONNECTION $$$$ PUBLICATION p', 'REINDEX (CONCURRENTLY) TABLE t',
  $node->pg_version->major >= 19 ? ('REPACK', 'REPACK (CONCURRENTLY) t') : ();
like(value("BEGIN; SELECT supervisor.enqueue('$_'); ROLLBACK"), qr/^\d+$/, "enqueue('$_') may succeed in one")
  foreach 'ANALYZE t', 'CREATE INDEX ON t (i)', 'REINDEX (CONCURRENTLY false) TABLE t', 'DISCARD TEMP', 'CLUSTER t', 'ALTER TABLE t DETACH PARTITION t_1',
  'ALTER DATABASE other CONNECTION LIMIT 3', 'CREATE SUBSCRIPTION s CONNECTION $$$$ PUBLICATION p WITH (connect = false)',
  'CREATE SUBSCRIPTION s CONNECTION $$$$ PUBLICATION p WITH (create_slot = false)';
no_job(q{'COPY t TO STDOUT'}, '0A000', qr/COPY/);

note 'rights';

no_job(q{'SELECT 1'}, '42501', qr/permission denied for function enqueue/, user => 'reader');
no_job(q{'SELECT 1', pool => 'closed'}, '42501', qr/closed/, user => 'alice');
refused(q{SET ROLE nologin; SELECT supervisor.enqueue('SELECT 1')}, '28000', 'a role that may not log in', message => qr/not permitted to log in/);

note 'places';

refused(q{BEGIN READ ONLY; SELECT supervisor.enqueue('SELECT 1')}, '25006', 'a transaction that is read only');
value(q{CREATE FUNCTION sneaky() RETURNS bigint LANGUAGE sql AS 'SELECT supervisor.enqueue(''SELECT 1'')';
	CREATE MATERIALIZED VIEW v AS SELECT 1 AS id WITH NO DATA});
refused(q{CREATE MATERIALIZED VIEW w AS SELECT sneaky()}, '42501', 'a security-restricted operation', message => qr/security-restricted/);
refused(q{SELECT supervisor.enqueue('SELECT 1')}, '3F000', 'a database without the extension', dbname => 'other');

is(value('SELECT count(*) FROM supervisor.job'), 0, 'nothing of all that was enqueued');

note 'what is let through';

value(qq{SELECT supervisor.enqueue(\$job\$$_\$job\$)}) foreach 'SAVEPOINT a; RELEASE a', 'ANALYZE t', 'REINDEX TABLE t', 'SET LOCAL work_mem = 64', 'SELECT 1;';
value(q{SELECT supervisor.enqueue('INSERT INTO t VALUES ($1)', ARRAY['1'], NULL, NULL, NULL, 0, '0', 1, '0', true)});
becomes('SELECT count(*) = 0 FROM supervisor.job', 'all of it is run');
is(value('SELECT count(*) FROM t'), 1, 'and has its effect');
value(q{SELECT supervisor.enqueue('SELECT 1', pool => 'empty')});
is(value(q{SELECT pool, state FROM supervisor.job}), 'empty|w', 'in a pool of size 0 a job waits');
value(q{SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity')});
is(value(q{SELECT count(*) FROM supervisor.job}), 2, 'and so does one that is held');

note 'a spoiled table';

foreach my $spoil ([ 'ALTER SEQUENCE supervisor.job_id_seq RENAME TO other', 'ALTER SEQUENCE supervisor.other RENAME TO job_id_seq' ],
	[ 'DROP INDEX supervisor.job_place', 'CREATE INDEX job_place ON supervisor.job (role, pool, priority, run_at, id)' ],
	[ 'ALTER TABLE supervisor.job ENABLE ROW LEVEL SECURITY', 'ALTER TABLE supervisor.job DISABLE ROW LEVEL SECURITY' ],
	[ 'ALTER TABLE supervisor.job DISABLE TRIGGER job_added', 'ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_added' ],
	[ 'CREATE TRIGGER mine BEFORE INSERT ON supervisor.job FOR EACH STATEMENT EXECUTE FUNCTION supervisor.job_changed()',
		'DROP TRIGGER mine ON supervisor.job' ],
	[ 'ALTER TABLE supervisor.job ADD more text' ])
{
	value($spoil->[0]);
	refused(q{SELECT supervisor.enqueue('SELECT 1')}, '55000', $spoil->[0], message => qr/jobs of this database cannot be managed/);
	next unless defined $spoil->[1];
	value($spoil->[1]);
	value(q{SELECT supervisor.enqueue('SELECT 1')});
}

done_testing();
