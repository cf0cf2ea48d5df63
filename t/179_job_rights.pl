# A job is whose it is: others neither see what is his, nor change it, nor have anything
# run as he; and it may no more than its role.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'job_rights',
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'club:1(members), paused:0',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE ROLE members;
	CREATE ROLE victim LOGIN IN ROLE members;
	CREATE ROLE mate LOGIN IN ROLE victim;
	CREATE ROLE mallory LOGIN CREATEDB;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE guard LOGIN IN ROLE pg_signal_backend;
	CREATE ROLE writer LOGIN IN ROLE pg_write_all_data;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO victim, mate, mallory;
	GRANT CREATE ON SCHEMA public TO mallory, victim;
	CREATE TABLE ran (what text, who text DEFAULT session_user || ' ' || current_user, n serial);
	GRANT INSERT ON ran TO PUBLIC;
	GRANT USAGE ON ran_n_seq TO PUBLIC});

sub enqueue
{
	my ($command, $options, %opts) = @_;

	return value("SELECT supervisor.enqueue(\$job\$$command\$job\$" . (defined $options ? ", $options" : '') . ')', %opts);
}

my $all_done = q{SELECT count(*) = 0 FROM supervisor.job_status WHERE state IN ('queued', 'running')};

note 'secrets';

my $secret = enqueue(q{SELECT 'secret ' || $1}, q{params => ARRAY['secret param'], run_at => 'infinity'}, user => 'victim');
my $failed = enqueue(q{DO $$ BEGIN RAISE 'secret message' USING DETAIL = 'secret detail'; END $$}, q{max_attempts => 1}, user => 'victim');
my $done = enqueue(q{SELECT 'secret ' || $1}, q{params => ARRAY['param']}, user => 'victim');
my $recurring = value(q{SELECT supervisor.schedule('named', '@yearly', 'SELECT ''secret''')}, user => 'victim');
becomes($all_done, 'jobs of all kinds are there');
value("UPDATE supervisor.job SET key = 'secret key' WHERE id = $secret");
is(value("SELECT result FROM supervisor.job_run WHERE job = $done"), 'secret param', 'one has a result');

# All that a reader gets, and all that a function in his WHERE is given, whatever it says of itself.
value(q{
	CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 IMMUTABLE AS
		$$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
	CREATE FUNCTION leak(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 IMMUTABLE AS
		$$ BEGIN RAISE NOTICE '% %', $1, $2; RETURN true; END $$;
	CREATE OPERATOR <<< (FUNCTION = leak, LEFTARG = text, RIGHTARG = text, RESTRICT = eqsel)}, user => 'mallory');

sub secrets
{
	my ($user) = @_;
	my $leaked = '';

	foreach my $view (qw(job_status job_run))
	{
		my ($stdout, $stderr);

		$node->psql('postgres', qq{
			SELECT * FROM supervisor.$view v WHERE leak(v::text) AND leak(command) AND command <<< 'x';
			SELECT leak(v::text), v FROM supervisor.$view v JOIN supervisor.$view w ON w.command <<< v.command ORDER BY v.command;
			SELECT v FROM (SELECT * FROM supervisor.$view OFFSET 0) v WHERE job > 0 AND leak(v::text)},
			stdout => \$stdout, stderr => \$stderr, extra_params => [ '-U', $user ]);
		unlike($stderr, qr/ERROR/, "$user reads $view");
		$leaked .= $stdout . $stderr;
	}
	return $leaked =~ /secret/ ? 't' : 'f';
}
value('ANALYZE supervisor.job, supervisor.job_history');
is(secrets($_), 'f', "$_ is given nothing") foreach 'mallory', 'guard', 'writer';
is(secrets($_), 't', "$_ sees it") foreach 'victim', 'mate', 'watcher', 'postgres';
is(value(q{SELECT count(*) FROM pg_stats WHERE schemaname = 'supervisor'}, user => 'mallory'), 0, 'nor are statistics for all');
is(value("SELECT usename, state, reason, attempts, last_state, last_sqlstate FROM supervisor.job_status WHERE job = $failed", user => 'mallory'),
	'victim|failed|max_attempts|1|failed|P0001', 'whose job it is, and how it is, is no secret');
foreach my $user (qw(mallory guard writer watcher))
{
	refused("SELECT FROM supervisor.$_", '42501', "$user does not read $_", user => $user) foreach qw(job job_history origin);
}
refused("EXPLAIN (ANALYZE, VERBOSE) SELECT command::integer FROM supervisor.job_status WHERE job = $secret", '22P02',
	'an error tells what is shown', user => 'mallory', message => qr/<insufficient privilege>/);

note 'whose it is';

foreach my $call ('cancel_job(%d)', 'retry_job(%d)', 'alter_job(%d, priority => 1)', 'alter_job(%d, enabled => false)', q{alter_job(%d, pool => 'club')})
{
	foreach my $id ($secret, $failed, $recurring)
	{
		my $function = sprintf $call, $id;

		refused("SELECT supervisor.$function", '42501', "mallory: $function", user => 'mallory', message => qr/permission denied for job/);
	}
	my ($ended, $never) = map { sprintf $call, $_ } $done, 1000;
	is(value("SELECT supervisor.$ended", user => 'mallory'), 'f', "$ended tells no more than the view");
	refused("SELECT supervisor.$never", '42704', "$never, which never was", user => 'mallory');
}
refused(q{SELECT supervisor.schedule('named', '@daily', 'SELECT 1')}, '42501', 'no name of another is taken', user => 'mallory');
refused(q{SELECT supervisor.schedule('mine', '@daily', 'SELECT 1', role => 'victim')}, '42501', 'no job as another', user => 'mallory');
refused(q{SELECT supervisor.unschedule('named')}, '42501', 'nor removed', user => 'mallory');
refused(q{SELECT supervisor.unschedule('named')}, '42501', 'nor by who may signal', user => 'guard');
is(value("SELECT priority, enabled, pool, role FROM supervisor.job WHERE id IN ($secret, $failed, $recurring) ORDER BY id", user => 'postgres'),
	join("\n", ('5|t|default|victim') x 3), 'they are as they were');
is(value("SELECT supervisor.alter_job($secret, priority => 6)", user => $_), 't', "$_ may") foreach 'victim', 'mate', 'guard';
refused("SELECT supervisor.adopt_jobs()", '42501', 'no copy is adopted', user => 'mallory')
  if value(q{SELECT count(*) FROM pg_proc WHERE proname = 'adopt_jobs'});
value("SELECT supervisor.cancel_job(job) FROM supervisor.job_status WHERE name IS NULL; SELECT supervisor.unschedule('named')");

# Of a superuser's not even who may signal.
my $super = enqueue('SELECT 1', q{run_at => 'infinity'});
refused("SELECT supervisor.cancel_job($super)", '42501', "a superuser's is not canceled", user => 'guard');
value("SELECT supervisor.cancel_job($super)");

note 'who a job is';

# mallory lays it out for victim to step on.
value(q{
	CREATE FUNCTION who_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (TG_ARGV[0]); RETURN NEW; END $$;
	CREATE FUNCTION definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT supervisor.enqueue('INSERT INTO ran VALUES (''definer'')') $$;
	CREATE FUNCTION invoker() RETURNS bigint LANGUAGE sql AS $$ SELECT supervisor.enqueue('INSERT INTO ran VALUES (''invoker'')') $$;
	CREATE TABLE stepped_on (a int);
	CREATE CONSTRAINT TRIGGER d AFTER INSERT ON stepped_on DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION who_trigger('deferred');
	GRANT ALL ON stepped_on TO PUBLIC}, user => 'mallory');
value('SELECT definer(), invoker()', user => 'victim');
enqueue('INSERT INTO stepped_on VALUES (1)', undef, user => 'victim');
value(q{SET ROLE victim; SELECT supervisor.enqueue('INSERT INTO ran VALUES (''set'')')}, user => 'mate');
becomes($all_done, 'jobs are run');
is(value(q{SELECT string_agg(what || ' ' || who, ', ' ORDER BY what) FROM ran}),
	'deferred victim victim, definer mallory mallory, invoker victim victim, set victim victim', 'as the role that has enqueued them');
value('TRUNCATE ran');

my %no_more = (
	'SET ROLE postgres' => '42501',
	'SET SESSION AUTHORIZATION postgres' => '42501',
	'RESET SESSION AUTHORIZATION; CREATE ROLE made_by_job' => '42501',
	'ALTER ROLE mallory SUPERUSER' => '42501',
	'SET session_replication_role = replica' => '42501',
	'DELETE FROM supervisor.job' => '42501',
	'SELECT FROM supervisor.job_history' => '42501',
	q{INSERT INTO supervisor.job_history SELECT * FROM supervisor.job_history} => '42501',
	'DROP EXTENSION supervisor' => '42501',
	q{COPY ran TO PROGRAM 'true'} => '42501');
my %job = map { $_ => enqueue($_, q{max_attempts => 1}, user => 'mallory') } sort keys %no_more;
becomes($all_done, 'they are run');
is(value("SELECT state, sqlstate FROM supervisor.job_run WHERE job = $job{$_}"), "failed|$no_more{$_}", "what the role may not, its job may not: $_")
  foreach sort keys %no_more;
value('SELECT supervisor.cancel_job(job) FROM supervisor.job_status');

note 'rights that go before it runs';

foreach my $case (
	[ 'ALTER ROLE victim NOLOGIN', 'ALTER ROLE victim LOGIN', 'default' ],
	[ 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', 'default' ],
	[ 'REVOKE members FROM victim', 'GRANT members TO victim', 'club' ])
{
	my ($take, $give, $pool) = @$case;
	my $held = enqueue(q{INSERT INTO ran VALUES ('held')}, "run_at => 'infinity', pool => '$pool'", user => 'victim');

	value($take);
	value("SELECT supervisor.retry_job($held)");
	becomes("SELECT state = 'queued' AND reason IN ('no_login', 'database_not_allowed', 'no_member') FROM supervisor.job_status WHERE job = $held", "$take: it waits");
	is(value("SELECT supervisor.execute('SELECT 1'), (SELECT count(*) FROM ran)"), 'SELECT 1|0', "$take: it is not run");
	value($give);
	$node->reload;
	becomes('SELECT count(*) = 1 FROM ran', "$give: it is");
	value('TRUNCATE ran');
}
my $withdrawn = enqueue(q{INSERT INTO secrets VALUES (1)}, q{run_at => 'infinity', max_attempts => 1}, user => 'victim');
value('CREATE TABLE secrets (i integer); GRANT INSERT ON secrets TO victim; REVOKE INSERT ON secrets FROM victim');
value("SELECT supervisor.retry_job($withdrawn)");
becomes("SELECT state = 'failed' AND last_sqlstate = '42501' FROM supervisor.job_status WHERE job = $withdrawn", 'rights are those of when it runs');
value("SELECT supervisor.cancel_job($withdrawn)");

note 'planted operators and functions';

value(q{
	CREATE SCHEMA evil;
	GRANT USAGE ON SCHEMA evil TO PUBLIC;
	CREATE TABLE evil.ran (what text);
	GRANT INSERT ON evil.ran TO PUBLIC});
foreach my $type ('text', 'oid', 'bigint', 'timestamptz', '"char"', 'name')
{
	my $function = "evil.op_$type" =~ s/"//gr;

	value(qq{
		CREATE FUNCTION $function($type, $type) RETURNS boolean LANGUAGE plpgsql AS
			\$\$ BEGIN INSERT INTO evil.ran VALUES ('$type'); RETURN true; END \$\$} =~ s/"char"'/char'/r);
	value("CREATE OPERATOR evil.$_ (FUNCTION = $function, LEFTARG = $type, RIGHTARG = $type)") foreach '=', '<>', '<', '<=', '>', '>=';
}
value(q{CREATE FUNCTION evil.may_see(oid) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE FUNCTION evil.count(integer) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'});
my $session = SupervisorTest::session($node, user => 'victim');
$session->query_safe('SET search_path = evil, pg_catalog, supervisor, public');
$session->query_safe($_)
  foreach (
	q{SELECT supervisor.enqueue('SELECT 1', params => NULL, run_at => 'infinity')}, q{SELECT supervisor.schedule('path', '@daily', 'SELECT 1')},
	q{SELECT supervisor.schedule('path', '@hourly', 'SELECT 2')}, q{SELECT supervisor.alter_job(currval, priority => 1) FROM (SELECT max(job) AS currval FROM supervisor.job_status) j},
	q{SELECT supervisor.retry_job(max(job)) FROM supervisor.job_status}, q{SELECT supervisor.unschedule('path')},
	'SELECT count(*) FROM supervisor.job_status', 'SELECT count(*) FROM supervisor.job_run', 'SELECT * FROM supervisor.pool_status');
is($session->query_safe("SELECT pg_catalog.count(*) FROM supervisor.$_"), $session->query_safe("SELECT pg_catalog.count(*) FROM supervisor.$_"), "$_ is read") foreach qw(job_status job_run);
$session->quit;
value('ALTER ROLE victim SET search_path = evil, pg_catalog, public');
enqueue(q{INSERT INTO public.ran VALUES ('path')}, undef, user => 'victim');
becomes(q{SELECT count(*) = 1 FROM ran WHERE what = 'path'}, 'a job of a role with such a search_path is run');
becomes($all_done, 'and noted');
value('ALTER ROLE victim RESET search_path');
is(value('SELECT count(*) FROM evil.ran'), 0, 'nothing of the search_path is run');
value('TRUNCATE ran; SELECT supervisor.cancel_job(job) FROM supervisor.job_status');

note 'security-restricted operations';

value(q{
	CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE
		call text;
	BEGIN
		FOREACH call IN ARRAY ARRAY['enqueue(''SELECT 1'')', 'schedule(''restricted'', ''@daily'', ''SELECT 1'')', 'unschedule(''a'')',
			'cancel_job(1)', 'retry_job(1)', 'alter_job(1)']
		LOOP
			BEGIN
				EXECUTE 'SELECT supervisor.' || call;
				RAISE 'done: %', call USING ERRCODE = 'ZZ001';
			EXCEPTION WHEN insufficient_privilege THEN
				IF SQLERRM NOT LIKE '%security-restricted operation%' THEN
					RAISE;
				END IF;
			END;
		END LOOP;
		RETURN 1;
	END $$;
	CREATE TABLE trapped (a int);
	CREATE FUNCTION armed(a int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT a $$;
	CREATE INDEX trapped_b ON trapped (armed(a));
	INSERT INTO trapped VALUES (1);
	CREATE MATERIALIZED VIEW trapped_view AS SELECT public.trap() AS a WITH NO DATA;
	CREATE OR REPLACE FUNCTION armed(a int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT public.trap() $$}, user => 'mallory');
refused('REINDEX TABLE trapped', undef, 'functions of an index enqueue nothing');
refused('REFRESH MATERIALIZED VIEW trapped_view', undef, 'nor those of a materialized view');
is(value('SELECT a FROM trapped_view'), '1', 'they were called');
is(value('SELECT count(*) FROM supervisor.job_status'), 0, 'no job is there');

# Who may lock the table, as a writer to all of them, keeps the workers that look there from nobody.
my $writer = SupervisorTest::session($node, user => 'writer');
enqueue("INSERT INTO ran VALUES ('$_')", undef, user => $_) foreach qw(victim mate mallory);
becomes('SELECT count(*) = 0 FROM supervisor.job', 'they are served');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'off');
becomes(q{SELECT supervisor.why_job_waits(10, 'default', false) = 'paused'}, 'jobs are switched off');
enqueue("INSERT INTO ran VALUES ('$_')", undef, user => $_) foreach qw(victim mate mallory);
$writer->query_safe('BEGIN; LOCK TABLE supervisor.job');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on');
becomes(q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'supervisor.job'::regclass AND NOT granted}, 'workers wait for the table');
is(value(q{SELECT supervisor.execute('SELECT 1', timeout => '30 s')}), 'SELECT 1', 'a task is run all the same');
ok($node->wait_for_log(qr/canceling statement due to lock timeout/), 'as none waits for long');
$writer->quit;
becomes('SELECT count(*) = 0 FROM supervisor.job', 'jobs are run later');

note "a database of mallory's";

# What he has set there is nothing to the looks and notes of jobs; and there are no rows of his.
value('CREATE DATABASE hers TEMPLATE template0 OWNER mallory');
value('CREATE EXTENSION supervisor', dbname => 'hers');
value(q{GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC; CREATE TABLE public.ran (i integer); GRANT ALL ON public.ran TO PUBLIC}, dbname => 'hers');
value($_, dbname => 'hers', user => 'mallory')
  foreach 'ALTER DATABASE hers SET default_transaction_isolation = serializable',
  'ALTER DATABASE hers SET search_path = pg_temp', 'ALTER DATABASE hers SET lock_timeout = 1', 'ALTER DATABASE hers SET row_security = off',
  'ALTER DATABASE hers SET default_transaction_read_only = on';
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c lock_timeout=0';

	value(q{SELECT supervisor.enqueue('SET TRANSACTION READ WRITE; INSERT INTO public.ran VALUES (1)')}, dbname => 'hers', user => 'victim');
	ok($node->poll_query_until('hers', 'SELECT count(*) = 1 FROM public.ran'), 'what is set for a database does not keep jobs from being run');
	ok($node->poll_query_until('hers', q{SELECT count(*) = 1 FROM supervisor.job_run WHERE state = 'succeeded'}), 'nor noted');
	refused($_, '42501', "its owner: $_", dbname => 'hers', user => 'mallory')
	  foreach 'INSERT INTO supervisor.job SELECT * FROM supervisor.job', 'UPDATE supervisor.job SET command = command', 'DELETE FROM supervisor.job',
	  'TRUNCATE supervisor.job', 'SELECT FROM supervisor.job_history', 'DELETE FROM supervisor.origin',
	  'CREATE INDEX ON supervisor.job (command)', 'ALTER TABLE supervisor.job DISABLE TRIGGER ALL', 'COPY supervisor.job FROM STDIN',
	  q{SELECT setval('supervisor.job_id_seq', 1)}, 'DROP SCHEMA supervisor CASCADE';
}
is(value('SELECT count(*) FROM pg_roles WHERE rolname = $$made_by_job$$'), 0, 'nothing was made that should not');
is(value(q{SELECT count(*) FROM pg_roles WHERE rolname = 'mallory' AND rolsuper}), 0, 'nor is anybody what he was not');
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
