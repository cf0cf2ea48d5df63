# The tables of jobs are what the extension's script has made, or no job begins and none is
# changed: whatever holds code of somebody's, or sends rows elsewhere, keeps them waiting
# until it is gone, and then they run, each once.  What is harmless harms nobody.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes quote refused value);

my $node = SupervisorTest::new_node(
	'job_tables',
	'autovacuum' => 'off',
	'log_line_prefix' => '%u@%d ',
	'wal_level' => 'logical',
	'supervisor.pool_size' => 2,
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE mallory LOGIN;
	CREATE TABLE ran (job bigint DEFAULT supervisor.current_job());
	GRANT ALL ON ran TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC;
	-- what has run tells so in the log, unless it was just made
	CREATE FUNCTION evil(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN IF current_setting('evil.made', true) IS DISTINCT FROM 'on' THEN RAISE LOG 'evil has run'; END IF; RETURN true; END $$;
	CREATE FUNCTION evil_cmp(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT bttextcmp($1, $2) WHERE public.evil($1)';
	CREATE OPERATOR CLASS evil_ops FOR TYPE text USING btree AS
		OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 evil_cmp(text, text);
	CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.evil(1); RETURN NEW; END $$});

# What is done to a table: %s is its name, %k the column that tells the job, %i an index of it, %v
# has its views go.
my $ours = 'EXECUTE FUNCTION supervisor.job_changed()';
my $statement = "AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.%s FOR EACH STATEMENT";
my $row = 'AFTER INSERT OR UPDATE OR DELETE ON supervisor.%s FOR EACH ROW';
my $more = 'CREATE TRIGGER more AFTER INSERT ON supervisor.%s';
my $no_more = 'DROP TRIGGER more ON supervisor.%s';
my $changed_again = "CREATE OR REPLACE TRIGGER %s_changed $statement $ours; ALTER TABLE supervisor.%s ENABLE ALWAYS TRIGGER %s_changed";
my $row_changed_again = "CREATE CONSTRAINT TRIGGER %s_row_changed $row $ours; ALTER TABLE supervisor.%s ENABLE ALWAYS TRIGGER %s_row_changed";
my $function_again = sprintf q{CREATE OR REPLACE FUNCTION supervisor.job_changed() RETURNS trigger AS %s, 'supervisor_job_changed' LANGUAGE C},
  quote(value(q{SELECT probin FROM pg_proc WHERE oid = 'supervisor.job_changed'::regproc}));

# The complaint, and what it is about, each with what undoes it; without that it cannot be undone.
my @spoils = (
	[ 'other triggers',
		[ "$more FOR EACH ROW EXECUTE FUNCTION evil_trigger()", $no_more ],
		[ "$more FOR EACH STATEMENT EXECUTE FUNCTION evil_trigger()", $no_more ],
		[ 'CREATE TRIGGER more BEFORE INSERT OR UPDATE ON supervisor.%s FOR EACH ROW EXECUTE FUNCTION evil_trigger()', $no_more ],
		[ "$more FOR EACH ROW WHEN (evil(NEW.command)) $ours" ],
		[ "$more FOR EACH ROW $ours" ],
		[ "CREATE TRIGGER more $statement $ours" ],
		[ "CREATE TRIGGER more AFTER UPDATE OF command ON supervisor.%s FOR EACH ROW $ours" ],
		[ "$more REFERENCING NEW TABLE AS n FOR EACH STATEMENT $ours" ],
		[ "CREATE CONSTRAINT TRIGGER more AFTER INSERT ON supervisor.%s DEFERRABLE FOR EACH ROW $ours", $no_more ] ],
	[ 'lacks triggers',
		[ "DROP TRIGGER %s_changed ON supervisor.%s; CREATE TRIGGER %s_changed $statement WHEN (evil(1)) $ours", "DROP TRIGGER %s_changed ON supervisor.%s; $changed_again" ],
		[ "DROP TRIGGER %s_changed ON supervisor.%s; CREATE TRIGGER %s_changed $statement EXECUTE FUNCTION supervisor.job_changed('x')" ],
		[ 'DROP TRIGGER %s_row_changed ON supervisor.%s', $row_changed_again ],
		[ "DROP TRIGGER %s_row_changed ON supervisor.%s; CREATE CONSTRAINT TRIGGER %s_row_changed $row WHEN (evil(1)) $ours" ],
		[ 'ALTER TABLE supervisor.%s DISABLE TRIGGER %s_row_changed', 'ALTER TABLE supervisor.%s ENABLE ALWAYS TRIGGER %s_row_changed' ],
		[ 'ALTER TABLE supervisor.%s DISABLE TRIGGER %s_changed' ],
		[ 'ALTER TABLE supervisor.%s ENABLE REPLICA TRIGGER %s_row_changed', 'ALTER TABLE supervisor.%s ENABLE ALWAYS TRIGGER %s_row_changed' ] ],
	[ 'rules or row security',
		[ 'CREATE RULE more AS ON INSERT TO supervisor.%s DO ALSO SELECT evil(1)', 'DROP RULE more ON supervisor.%s' ],
		[ 'CREATE RULE more AS ON UPDATE TO supervisor.%s DO INSTEAD NOTHING', 'DROP RULE more ON supervisor.%s' ],
		[ 'CREATE POLICY more ON supervisor.%s USING (evil(command)); ALTER TABLE supervisor.%s ENABLE ROW LEVEL SECURITY',
			'DROP POLICY more ON supervisor.%s; ALTER TABLE supervisor.%s DISABLE ROW LEVEL SECURITY' ],
		[ 'ALTER TABLE supervisor.%s FORCE ROW LEVEL SECURITY', 'ALTER TABLE supervisor.%s NO FORCE ROW LEVEL SECURITY' ] ],
	[ 'other constraints or indexes',
		[ 'ALTER TABLE supervisor.%s ADD CONSTRAINT more CHECK (evil(command))', 'ALTER TABLE supervisor.%s DROP CONSTRAINT more' ],
		[ 'ALTER TABLE supervisor.%s ADD CONSTRAINT more CHECK (evil(command)) NOT VALID' ],
		[ 'ALTER TABLE supervisor.%s ADD CONSTRAINT more UNIQUE (%k, command)' ],
		[ 'ALTER TABLE supervisor.%s ADD CONSTRAINT more EXCLUDE (%k WITH =)' ],
		[ 'CREATE INDEX more ON supervisor.%s (evil(command))', 'DROP INDEX supervisor.more' ],
		[ 'CREATE INDEX more ON supervisor.%s (lower(command))' ],
		[ 'CREATE INDEX more ON supervisor.%s (role) WHERE evil(command)', 'DROP INDEX supervisor.more' ],
		[ 'CREATE INDEX more ON supervisor.%s USING hash (command)' ],
		[ 'CREATE INDEX more ON supervisor.%s (command text_pattern_ops)' ],
		[ 'CREATE INDEX more ON supervisor.%s (command evil_ops)', 'DROP INDEX supervisor.more' ],
		[ 'CREATE INDEX more ON supervisor.%s (role) INCLUDE (pool)' ],
		[ q{UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'supervisor.%i'::regclass} ] ],
	[ 'other columns',
		[ 'ALTER TABLE supervisor.%s ADD more text' ],
		[ 'ALTER TABLE supervisor.%s ADD more boolean GENERATED ALWAYS AS (evil(command)) STORED' ],
		[ '%v ALTER TABLE supervisor.%s DROP command' ],
		[ 'ALTER TABLE supervisor.%s RENAME name TO more', 'ALTER TABLE supervisor.%s RENAME more TO name' ],
		[ 'ALTER TABLE supervisor.%s ALTER %k ADD GENERATED BY DEFAULT AS IDENTITY', 'ALTER TABLE supervisor.%s ALTER %k DROP IDENTITY' ],
		[ '%v ALTER TABLE supervisor.%s ALTER command TYPE text COLLATE "POSIX"' ],
		[ '%v ALTER TABLE supervisor.%s ALTER enqueued_at TYPE timestamptz(0)' ],
		[ '%v ALTER TABLE supervisor.%s ALTER command TYPE varchar COLLATE "C"' ],
		[ 'ALTER TABLE supervisor.%s ALTER pool DROP NOT NULL', 'ALTER TABLE supervisor.%s ALTER pool SET NOT NULL' ],
		[ 'TRUNCATE supervisor.%s; ALTER TABLE supervisor.%s ALTER name SET NOT NULL' ] ],
	[ 'no ordinary table',
		[ 'ALTER TABLE supervisor.%s SET UNLOGGED', 'ALTER TABLE supervisor.%s SET LOGGED' ],
		[ 'CREATE TABLE parent (pool text COLLATE "C" NOT NULL); ALTER TABLE supervisor.%s INHERIT parent', 'ALTER TABLE supervisor.%s NO INHERIT parent; DROP TABLE parent' ],
		[ 'CREATE TABLE parent (); ALTER TABLE supervisor.%s INHERIT parent' ],
		[ 'CREATE TABLE parent (LIKE supervisor.%s) PARTITION BY LIST (pool); ALTER TABLE parent ATTACH PARTITION supervisor.%s DEFAULT',
			'ALTER TABLE parent DETACH PARTITION supervisor.%s; DROP TABLE parent' ] ],
	[ 'is not a superuser', [ 'ALTER TABLE supervisor.%s OWNER TO mallory', 'ALTER TABLE supervisor.%s OWNER TO postgres' ] ],
	[ 'does not belong to the extension', [ 'ALTER EXTENSION supervisor DROP TABLE supervisor.%s' ] ]);

# What only one of them has.
my %own = (
	job => [
		[ 'other triggers', [ 'CREATE TABLE child (job bigint REFERENCES supervisor.job)', 'DROP TABLE child' ] ],
		[ 'lacks triggers',
			[ 'CREATE OR REPLACE FUNCTION supervisor.job_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$', $function_again ],
			[ 'ALTER FUNCTION supervisor.job_changed() SECURITY DEFINER', 'ALTER FUNCTION supervisor.job_changed() SECURITY INVOKER' ],
			[ 'ALTER FUNCTION supervisor.job_changed() SET role = none', 'ALTER FUNCTION supervisor.job_changed() RESET ALL' ],
			[ 'ALTER TABLE supervisor.job DISABLE TRIGGER job_added', 'ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_added' ],
			[ "CREATE OR REPLACE TRIGGER job_added BEFORE INSERT OR UPDATE OR DELETE ON supervisor.job FOR EACH ROW WHEN (evil(1)) $ours" ] ],
		[ 'other columns',
			[ 'ALTER TABLE supervisor.job ALTER run_timeout TYPE interval(0)', 'ALTER TABLE supervisor.job ALTER run_timeout TYPE interval' ],
			[ 'ALTER TABLE supervisor.job ALTER crashes TYPE bigint', 'ALTER TABLE supervisor.job ALTER crashes TYPE integer' ] ],
		[ 'other constraints or indexes',
			[ 'ALTER TABLE supervisor.job DROP CONSTRAINT job_pkey', 'ALTER TABLE supervisor.job ADD CONSTRAINT job_pkey PRIMARY KEY (id)' ],
			[ 'ALTER TABLE supervisor.job DROP CONSTRAINT job_pkey, ADD PRIMARY KEY (id) DEFERRABLE' ],
			[ 'ALTER TABLE supervisor.job DROP CONSTRAINT job_pkey, ADD PRIMARY KEY (id, role)' ],
			[ 'ALTER TABLE supervisor.job DROP CONSTRAINT job_pkey, ADD PRIMARY KEY (id) INCLUDE (role)' ],
			[ 'DROP INDEX supervisor.job_key; CREATE INDEX job_key ON supervisor.job (role, key, pool, priority, run_at, id)' ],
			[ 'DROP INDEX supervisor.job_place; CREATE INDEX job_place ON supervisor.job (role, pool, priority, run_at DESC, id)' ] ] ],
	job_history => [
		[ 'other constraints or indexes',
			[ 'ALTER TABLE supervisor.job_history ADD PRIMARY KEY (job)' ],
			[ 'DROP INDEX supervisor.job_history_finished_at', 'CREATE INDEX job_history_finished_at ON supervisor.job_history (finished_at)' ] ] ]);
my %column = (job => 'id', job_history => 'job');
my %index = (job => 'job_place', job_history => 'job_history_job');
my %views = (job => [ 'pool_status', 'job_status' ], job_history => ['job_run']);

# What is there already.  Functions that write only to the other table are not kept from it.
my $held = value(q{SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity')});
value(q{SELECT supervisor.schedule('kept', '@yearly', 'SELECT 1')});
my %calls = (
	job => {
		'enqueue' => q{enqueue('SELECT 1')}, 'schedule' => q{schedule('more', '@daily', 'SELECT 1')}, 'unschedule' => q{unschedule('kept')},
		'alter_job' => "alter_job($held, priority => 1)", 'retry_job' => "retry_job($held)", 'cancel_job' => "cancel_job($held)",
		'wait_job' => "wait_job($held, '0')", 'adopt_jobs' => 'adopt_jobs()' },
	job_history => { 'cancel_job' => "cancel_job($held)", 'wait_job' => "wait_job($held, '0')" });
my $refusal = { job => 'jobs of this database cannot be managed', job_history => "jobs of this database cannot be managed|the run of job $held cannot be noted" };
my $jobs = q{SELECT string_agg(j::text, ' ' ORDER BY id) FROM supervisor.job j WHERE command = 'SELECT 1'};
my $kept = value($jobs);

# That table has that complaint.
sub is_refused
{
	my ($table, $complaint, $before, $property, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $call = $calls{$table}{ $table eq 'job' ? 'enqueue' : 'cancel_job' };

	refused("$before SELECT supervisor.$call", '55000', "$property: refused",
		message => qr/ERROR: +55000: (?:$refusal->{$table})\nDETAIL: .*supervisor\.$table .*$complaint/, %opts);
}

sub of_table
{
	my ($table, $sql) = @_;

	my $views = join ' ', map { "ALTER EXTENSION supervisor DROP VIEW supervisor.$_; DROP VIEW supervisor.$_;" } @{ $views{$table} };

	return $sql =~ s/%v/$views/gr =~ s/%k/$column{$table}/gr =~ s/%i/$index{$table}/gr =~ s/%s/$table/gr;
}

my $session = SupervisorTest::session($node);    # keeps what it has found of a table
my $roles = 0;
my $ran = 0;

sub run_jobs
{
	my ($on) = @_;

	SupervisorTest::set($node, 'supervisor.run_jobs' => $on ? 'on' : 'off');
	$session->wait_true(q{SELECT supervisor.why_job_waits(10, 'default', false) IS } . ($on ? 'DISTINCT' : 'NOT DISTINCT') . q{ FROM 'paused'}) or die;
}

sub makes
{
	my ($sql) = @_;

	return "SET evil.made = on; $sql; SET evil.made = off;";
}

# A role of its own for each, so that none waits since another has failed.
sub begins_not
{
	my ($table, $complaint, $sql, $undo, $goes_on) = @_;
	my $role = 'r' . ++$roles;
	my $uses = 'BEGIN; SELECT supervisor.' . ($table eq 'job' ? q{enqueue('SELECT 1')} : "cancel_job($held)") . '; ROLLBACK';

	run_jobs(0);
	value("CREATE ROLE $role LOGIN");
	my @jobs = map { value("SELECT supervisor.enqueue('INSERT INTO ran DEFAULT VALUES', atomic => $_)", user => $role) } 'true', 'false';
	my $rows = "SELECT string_agg(j::text, ' ' ORDER BY id) FROM supervisor.job j WHERE id IN ($jobs[0], $jobs[1])";
	my $before = value($rows);
	$session->query_safe($uses);
	value(makes($sql));
	is_refused($table, $complaint, '', "$sql, which another has done", session => $session);
	my $from = -s $node->logfile;
	run_jobs(1);
	ok($node->wait_for_log(qr/$role\@postgres ERROR:  jobs of this database are not run\n$role\@postgres DETAIL: .*$complaint/, $from), "$sql: none begins");
	is(value(q{SELECT string_agg(DISTINCT reason, ' ') FROM supervisor.job_status WHERE state = 'queued'}), 'not_trusted', "$sql: which is told");
	is(value($rows), $before, "$sql: they are as they were");
	value(makes($undo));
	$session->query_safe($uses);
	if ($goes_on)
	{
		$ran += @jobs;
		$node->reload;    # else it is tried later again
		becomes("SELECT count(*) = $ran FROM ran", "$sql: when that is undone, they run");
	}
	else
	{
		is(value('SELECT supervisor.cancel_job(' . join('), supervisor.cancel_job(', @jobs) . ')'), 't|t', "$sql: when that is undone, they can be canceled");
		# but one of them may have been run meanwhile
		becomes("SELECT count(*) = 0 FROM supervisor.job WHERE id IN ($jobs[0], $jobs[1])", "$sql: and go");
		$ran = value('SELECT count(*) FROM ran');
	}
}

foreach my $table ('job', 'job_history')
{
	note "table $table";
	foreach my $kind (@spoils, @{ $own{$table} })
	{
		my ($complaint, @cases) = @$kind;
		my ($last) = grep { defined $_->[1] } reverse @cases;

		foreach my $case (@cases)
		{
			my ($sql, $undo) = map { of_table($table, $_) } @$case;

			is_refused($table, $complaint, 'BEGIN; ' . makes($sql), $sql);
			begins_not($table, $complaint, $sql, $undo, $case == $last) if defined $undo;
		}
	}
}
is(value('SELECT count(*), count(DISTINCT job) FROM ran'), "$ran|$ran", 'they have run once each');
is(value(q{SELECT string_agg(DISTINCT attempt || ' ' || state, ', ') FROM supervisor.job_history WHERE state <> 'canceled'}), '1 succeeded', 'with one attempt');
unlike(slurp_file($node->logfile), qr/LOG:  evil has run/, 'nothing of somebody else\'s has run');
is(value($jobs), $kept, 'what was not due is as it was');

note 'table origin';

foreach my $case (
	[ 'other triggers', 'CREATE TRIGGER more AFTER INSERT ON supervisor.origin FOR EACH ROW EXECUTE FUNCTION evil_trigger()' ],
	[ 'lacks triggers', 'ALTER TABLE supervisor.origin DISABLE TRIGGER origin_row_changed' ],
	[ 'rules or row security', 'ALTER TABLE supervisor.origin ENABLE ROW LEVEL SECURITY' ],
	[ 'other constraints or indexes', 'ALTER TABLE supervisor.origin ADD CHECK (evil(nonce))' ],
	[ 'other columns', 'ALTER TABLE supervisor.origin ALTER nonce DROP NOT NULL' ],
	[ 'no ordinary table', 'ALTER TABLE supervisor.origin SET UNLOGGED' ])
{
	my ($complaint, $sql) = @$case;

	refused('BEGIN; ' . makes($sql) . q{ SELECT supervisor.enqueue('SELECT 1')}, '55000', $sql, message => qr/ERROR: +55000: jobs of this database are not run\nDETAIL: .*supervisor\.origin .*$complaint/);
}

note 'what is harmless';

my @harmless = (
	[ 'CREATE INDEX more ON supervisor.%s (role, pool DESC)', 'DROP INDEX supervisor.more' ],
	[ 'CREATE TABLE child () INHERITS (supervisor.%s)', 'DROP TABLE child' ],
	[ 'CREATE STATISTICS more ON %k, role FROM supervisor.%s', 'DROP STATISTICS more' ],
	[ q{CREATE PUBLICATION more FOR TABLE supervisor.%s WHERE (%k > 0); ALTER TABLE supervisor.%s REPLICA IDENTITY FULL}, 'DROP PUBLICATION more; ALTER TABLE supervisor.%s REPLICA IDENTITY DEFAULT' ],
	[ 'ALTER TABLE supervisor.%s ALTER command SET DEFAULT evil(1)::text, ALTER name SET DEFAULT evil(2)::text', 'ALTER TABLE supervisor.%s ALTER command DROP DEFAULT, ALTER name DROP DEFAULT' ],
	[ 'CREATE POLICY more ON supervisor.%s USING (evil(command))', 'DROP POLICY more ON supervisor.%s' ],
	[ 'ALTER TABLE supervisor.%s ENABLE TRIGGER ALL', 'ALTER TABLE supervisor.%s ENABLE ALWAYS TRIGGER %s_changed, ENABLE ALWAYS TRIGGER %s_row_changed' ],
	[ 'ALTER TABLE supervisor.%s SET (fillfactor = 60); CLUSTER supervisor.%s USING %i', 'ALTER TABLE supervisor.%s SET WITHOUT CLUSTER' ] );
foreach my $table ('job', 'job_history')
{
	foreach my $case (@harmless)
	{
		my ($sql, $undo) = map { of_table($table, $_) } @$case;

		value('TRUNCATE ran');
		value(makes($sql));
		value(q{SELECT supervisor.enqueue('INSERT INTO ran DEFAULT VALUES')});
		becomes('SELECT count(*) = 1 FROM ran', "allowed: $sql");
		is(value("BEGIN; SELECT supervisor.cancel_job($held); ROLLBACK"), 't', "$sql: and others are changed");
		value($undo);
	}

	# as REINDEX CONCURRENTLY leaves it when it fails
	value("CREATE INDEX CONCURRENTLY more ON supervisor.$table (role)");
	value(q{UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'supervisor.more'::regclass});
	is(value("BEGIN; SELECT supervisor.cancel_job($held); ROLLBACK"), 't', "an index of $table that is being built");
	value('DROP INDEX supervisor.more');
	value("REINDEX TABLE CONCURRENTLY supervisor.$table");
	is(value("BEGIN; SELECT supervisor.cancel_job($held); ROLLBACK"), 't', "and when all indexes of $table are others");
}
unlike(slurp_file($node->logfile), qr/LOG:  evil has run/, 'nothing of somebody else\'s has run');

note 'a library that is older than the tables';

foreach my $table ('job', 'job_history')
{
	my @opts = (dbname => "newer_$table");

	run_jobs(0);
	value("CREATE DATABASE newer_$table");
	value(q{
		CREATE EXTENSION supervisor;
		CREATE TABLE public.ran (job bigint DEFAULT supervisor.current_job());
		SELECT supervisor.enqueue('SELECT 1', run_at => 'infinity');
		SELECT supervisor.schedule('kept', '@yearly', 'SELECT 1');
		SELECT supervisor.enqueue('INSERT INTO public.ran DEFAULT VALUES')}, @opts);
	value("ALTER TABLE supervisor.$table ADD note text", @opts);
	my $rows = value(q{SELECT string_agg(j::text, ' ' ORDER BY id) FROM supervisor.job j}, @opts);
	my $from = -s $node->logfile;
	run_jobs(1);
	ok($node->wait_for_log(qr/\@newer_$table ERROR:  jobs of this database are not run\n\S+ DETAIL:  the table supervisor\.$table has other columns/, $from), "$table: none begins");
	foreach my $function (sort keys %{ $calls{$table} })
	{
		my $call = $calls{$table}{$function} =~ s/\b$held\b/1/r;

		refused("SELECT supervisor.$call", '55000', "$table: $call", @opts,
			message => qr/ERROR: +55000: (?:$refusal->{$table}|the run of job 1 cannot be noted)\nDETAIL:  the table supervisor\.$table has other columns/);
	}
	is(value(q{SELECT string_agg(concat_ws(' ', job, state, reason), ', ' ORDER BY job) FROM supervisor.job_status}, @opts), '1 scheduled held, 2 scheduled, 3 queued not_trusted', "$table: the view tells why");
	is(value('SELECT count(*) FROM supervisor.job_run', @opts), 0, "$table: so does the other");
	is(value(q{SELECT string_agg(what, ', ') FROM supervisor.health()}, @opts), '1 job waits in pool "default": the tables of jobs were changed', "$table: and health()");
	is(value(q{SELECT string_agg(j::text, ' ' ORDER BY id) FROM supervisor.job j}, @opts), $rows, "$table: nothing is lost");
	is(value('SELECT count(*) FROM public.ran', @opts), 0, "$table: and nothing has run");
}
is(value(q{SELECT supervisor.enqueue('INSERT INTO public.ran DEFAULT VALUES') IS NOT NULL}, dbname => 'newer_job_history'), 't', 'where only the history is newer, a job can be enqueued, and waits');

$session->quit;
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status|was terminated by signal)/m, 'nothing unexpected in the log');
$node->stop;
done_testing();
