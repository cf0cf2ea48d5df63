# A copy of jobs runs nothing, however it was made, until a superuser adopts it;
# and what is no copy goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote refused value);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my %settings = (
	'shared_preload_libraries' => 'supervisor',
	'max_worker_processes' => 30,
	'wal_level' => 'logical',
	'wal_log_hints' => 'on',
	'wal_keep_size' => '1GB',
	'supervisor.pool_size' => 2,
	'supervisor.restart_delay' => '50ms',
	'supervisor.run_jobs' => 'off');
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', SupervisorTest::conf(%settings));
$node->start;

my $primary = $node;

SupervisorTest::ask(\$node);

sub true_in
{
	my ($database, $sql, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok($node->poll_query_until($database, $sql), $property);
}

# One of each: due, for later, held, with a key, tried before, failed; recurring, also one
# that has missed its time and one that is not enabled.
value(q{
	CREATE ROLE postgres SUPERUSER LOGIN}) if value(q{SELECT to_regrole('postgres') IS NULL}) eq 't';
value(q{CREATE ROLE owner LOGIN; CREATE ROLE "odd role" LOGIN; CREATE DATABASE a OWNER owner});
value(q{
	CREATE EXTENSION supervisor;
	CREATE TABLE public.ran (what text, job bigint DEFAULT supervisor.current_job());
	GRANT ALL ON public.ran TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue TO PUBLIC}, dbname => 'a');
value(q{
	SELECT supervisor.enqueue('INSERT INTO public.ran VALUES ($1)', ARRAY['due']);
	SELECT supervisor.enqueue('INSERT INTO public.ran VALUES (''later'')', run_at => now() + interval '1 h');
	SELECT supervisor.enqueue('INSERT INTO public.ran VALUES (''held'')', run_at => 'infinity')}, dbname => 'a', user => 'odd role');
value(q{
	SELECT supervisor.enqueue('INSERT INTO public.ran VALUES (''failed'')', run_at => 'infinity');
	UPDATE supervisor.job SET state = 'f', reason = 'max_attempts' WHERE command ~ 'failed';
	SELECT supervisor.schedule('daily', '@daily', 'INSERT INTO public.ran VALUES (''daily'')');
	SELECT supervisor.schedule('missed', '@yearly', 'INSERT INTO public.ran VALUES (''missed'')');
	UPDATE supervisor.job SET run_at = now() - interval '1 day', attempts = 2, reason = 'retry' WHERE name = 'missed';
	SELECT supervisor.schedule('disabled', '@hourly', 'INSERT INTO public.ran VALUES (''disabled'')', enabled => false)}, dbname => 'a');
my $jobs = 7;
my $columns = 'id, role, pool, priority, key, command, params, name, schedule, time_zone, max_attempts, atomic, enabled, state, enqueued_at';
my $rows = value("SELECT $columns FROM supervisor.job ORDER BY id", dbname => 'a');

# A job that is enqueued there is run, and nothing else is.
sub nothing_runs
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	value(q{SELECT supervisor.enqueue('INSERT INTO public.ran VALUES (''new'')', priority => 9)}, dbname => $database);
	true_in($database, q{SELECT count(*) = 1 FROM public.ran WHERE what = 'new'}, "$property: a new job is run");
	is(value(q{SELECT count(*) FROM public.ran WHERE what <> 'new'}, dbname => $database), 0, "$property: and no other");
	is(value(q{SELECT count(*), count(*) FILTER (WHERE reason = 'copied' AND state = 'scheduled'), count(*) FILTER (WHERE reason = 'max_attempts') FROM supervisor.job_status},
			dbname => $database), "$jobs|6|1", "$property: they wait");
	value('TRUNCATE public.ran', dbname => $database);
}

# They are adopted, and what is due runs.
sub adopted
{
	my ($database, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	refused('SELECT supervisor.adopt_jobs()', '42501', "$property: not by the owner", dbname => $database, user => 'owner');
	value('BEGIN; SELECT supervisor.adopt_jobs(); ROLLBACK', dbname => $database);
	nothing_runs($database, "$property: rolled back");
	is(value('SELECT supervisor.adopt_jobs()', dbname => $database), $jobs, "$property: all are adopted");
	true_in($database, q{SELECT count(*) = 1 FROM public.ran}, "$property: what is due is run");
	true_in($database, 'SELECT count(*) = 6 FROM supervisor.job', "$property: and gone");
	is(value('SELECT what FROM public.ran', dbname => $database), 'due', "$property: that and nothing else");
	is(value(q{SELECT coalesce(name, substring(command, '''(\w+)''')), state, reason, run_at > now(), attempts FROM supervisor.job_status ORDER BY job}, dbname => $database),
		"later|scheduled||t|0\nheld|scheduled|held|t|0\nfailed|failed|max_attempts|t|0\ndaily|scheduled||t|0\nmissed|scheduled||t|0\ndisabled|scheduled|disabled|t|0",
		"$property: the others wait for their time");
	is(value('SELECT supervisor.adopt_jobs()', dbname => $database), 0, "$property: once");
	value(q{SELECT supervisor.retry_job(job) FROM supervisor.job_status WHERE enabled}, dbname => $database);
	true_in($database, 'SELECT count(*) = 3 FROM supervisor.job', "$property: all that is enabled can be run");
	is(value(q{SELECT string_agg(what, ' ' ORDER BY what) FROM public.ran}, dbname => $database), 'daily due failed held later missed', "$property: it does what it does");
}

sub dump_of
{
	my ($database, @options) = @_;
	my $file = "$tmp/copy" . join('', map { tr/a-z//cdr } @options);

	command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr($database), '-f', $file, @options ], "pg_dump @options");
	return $file;
}

sub restore
{
	my ($file, $database, @options) = @_;
	my ($stdout, $stderr);

	IPC::Run::run([ 'pg_restore', '-d', $node->connstr($database), @options, $file ], '>', \$stdout, '2>', \$stderr);
	return $stderr;
}

note 'dump and restore';

my $file = dump_of('a', '-Fc');
my $inserts = dump_of('a', '--inserts');
value('CREATE DATABASE template_of_a TEMPLATE a');
$node->backup('backup');

# From here on jobs are run, but not those of the original.
value('ALTER DATABASE a CONNECTION LIMIT -1');
SupervisorTest::set($node, 'supervisor.run_jobs' => 'on', 'supervisor.databases' => 'postgres, b, c, d, template_of_a');

value('CREATE DATABASE b TEMPLATE template0');
is(restore($file, 'b'), '', 'a restore');
is(value("SELECT $columns FROM supervisor.job ORDER BY id", dbname => 'b'), $rows, 'has all jobs');
nothing_runs('b', 'restored');
refused('SELECT supervisor.retry_job(min(id)) FROM supervisor.job', '55000', 'a copy is not run by retry_job()', dbname => 'b', hint => qr/adopt_jobs/);
refused('BEGIN READ ONLY; SELECT supervisor.adopt_jobs()', '25006', 'nor adopted in a transaction that is read only', dbname => 'b', message => qr/adopt_jobs\(\)/);
is(value('SELECT count(origin) FROM supervisor.job', dbname => 'b'), 0, 'all are copies still');

# As with a logical subscriber, which does not get the sequence.
value(q{
	INSERT INTO supervisor.job (id, role, pool, priority, run_at, command, max_attempts, attempts, crashes, runs, atomic, enabled, state, enqueued_at)
	VALUES (1000000, 'postgres', 'default', 5, now(), 'SELECT 1', 1, 0, 0, 0, true, true, 'w', now())}, dbname => 'b');
refused('SELECT supervisor.retry_job(1000000)', '55000', 'nor is one that came without the sequence', dbname => 'b', hint => qr/adopt_jobs/);
is(value(q{SELECT supervisor.wait_job(1000000, '0 s') IS NULL}, dbname => 'b'), 't', 'which can be waited for');
is(value('SELECT supervisor.cancel_job(1000000)', dbname => 'b'), 't', 'and canceled');
refused('SELECT supervisor.wait_job(1000001)', '42704', 'another never was', dbname => 'b');
adopted('b', 'restored');
is(restore($file, 'b', '--clean', '--if-exists'), '', 'again, with --clean');
nothing_runs('b', 'with --clean');
adopted('b', 'with --clean');

# Into the database that it came from, which has done all that since.
value('CREATE DATABASE c TEMPLATE template0');
is(restore($file, 'c'), '', 'another one');
adopted('c', 'another one');
value('SELECT supervisor.cancel_job(job) FROM supervisor.job_status WHERE name IS NULL; SELECT supervisor.unschedule(name) FROM supervisor.job_status; TRUNCATE public.ran',
	dbname => 'c');
is(value('SELECT count(*) FROM supervisor.job_status', dbname => 'c'), 0, 'its jobs are done');
is(restore($file, 'c', '--data-only'), '', 'only the data, into the database that had them');
nothing_runs('c', 'only the data');
value('DROP DATABASE c');

value('CREATE DATABASE c TEMPLATE template0');
$node->safe_psql('c', slurp_file($inserts));
nothing_runs('c', 'a restore by INSERT');
adopted('c', 'a restore by INSERT');
value('DROP DATABASE c');

# By the database's owner, where a superuser has made the extension.
value('CREATE DATABASE c TEMPLATE template0 OWNER owner');
value('CREATE EXTENSION supervisor', dbname => 'c');
like(restore($file, 'c', '-U', 'owner', '--no-owner'), qr/must be superuser to write to table "supervisor\.job"|permission denied for table job/, 'the owner restores no jobs');
is(value('SELECT count(*) FROM supervisor.job', dbname => 'c'), 0, 'there are none');
value('DROP DATABASE c');

note 'TEMPLATE';

is(value('SELECT count(origin) FROM supervisor.job', dbname => 'template_of_a'), $jobs, 'rows of a copied database say where they belong');
nothing_runs('template_of_a', 'TEMPLATE');
adopted('template_of_a', 'TEMPLATE');
value('ALTER ROLE owner CREATEDB');
refused('CREATE DATABASE again TEMPLATE a OID = 1000000', '42501', 'its owner does not choose the number of a copy, by which that is told from the original', user => 'owner');
is(value(q{SELECT supervisor.schedule('daily', '@daily', 'SELECT 1')}, dbname => 'a'), value(q{SELECT job FROM supervisor.job_status WHERE name = 'daily'}, dbname => 'a'),
	'in the original all is as it was');
is(value(q{SELECT count(*) FROM supervisor.job_status WHERE reason = 'copied'}, dbname => 'a'), 0, 'which has no copies');

note 'a logical subscriber';

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$subscriber->append_conf('postgresql.conf', SupervisorTest::conf(%settings, 'supervisor.run_jobs' => 'on'));
$subscriber->start;
$node->safe_psql('a', 'CREATE PUBLICATION jobs FOR TABLE supervisor.job');
my $connection = $node->connstr('a');
$node = $subscriber;
value(q{CREATE ROLE postgres SUPERUSER LOGIN}) if value(q{SELECT to_regrole('postgres') IS NULL}) eq 't';
value(q{CREATE ROLE owner LOGIN; CREATE ROLE "odd role" LOGIN});
value(q{CREATE EXTENSION supervisor; CREATE TABLE public.ran (what text, job bigint DEFAULT supervisor.current_job()); GRANT ALL ON public.ran TO PUBLIC});
value('CREATE SUBSCRIPTION jobs CONNECTION ' . quote($connection) . ' PUBLICATION jobs');
true_in('postgres', "SELECT count(*) = $jobs FROM supervisor.job", 'a subscriber gets all jobs');
is(value('SELECT last_value FROM supervisor.job_id_seq'), 1, 'and no numbers');
value(q{SELECT setval('supervisor.job_id_seq', 100)});
nothing_runs('postgres', 'subscribed');
value(q{SELECT setval('supervisor.job_id_seq', 1, false)});
$node = $primary;
value('SELECT supervisor.alter_job(job, priority => 7) FROM supervisor.job_status', dbname => 'a');
$node = $subscriber;
true_in('postgres', 'SELECT min(priority) = 7 FROM supervisor.job', 'what changes there changes here');
is(value(q{SELECT count(*) FROM supervisor.job_status WHERE reason = 'copied'}), 6, 'and they are copies still');
value('ALTER SUBSCRIPTION jobs DISABLE; ALTER SUBSCRIPTION jobs SET (slot_name = NONE); DROP SUBSCRIPTION jobs');
is(value('SELECT supervisor.adopt_jobs()'), $jobs, 'they are adopted');
true_in('postgres', q{SELECT string_agg(what, ' ') = 'due' FROM public.ran}, 'what is due is run');
is(value(q{SELECT supervisor.enqueue('SELECT 1') > max(id) FROM supervisor.job}), 't', 'numbers that came along are not given out again');
unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in its log');
$node->stop;
$node = $primary;
value(q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical'});

note 'a standby that is promoted, and the former primary';

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "supervisor.run_jobs = on\nsupervisor.databases = '*'");
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$node = $standby;
is(value(q{SELECT count(*) FROM supervisor.job_status WHERE reason = 'copied'}, dbname => 'a'), 0, 'a standby has no copies');
is(value(q{SELECT reason FROM supervisor.job_status WHERE command ~ '\$1'}, dbname => 'a'), 'recovery', 'but runs nothing');

# All that is about jobs, and does not only look, is refused at once.
my $job_of_a = value('SELECT min(job) FROM supervisor.job_status', dbname => 'a');
my %calls = (
	enqueue => q{'SELECT 1'},
	schedule => q{'daily', '@hourly', 'SELECT 1'},
	unschedule => q{'daily'},
	alter_job => "$job_of_a, priority => 1",
	retry_job => $job_of_a,
	cancel_job => $job_of_a,
	wait_job => "$job_of_a, '5 s'",
	adopt_jobs => '');
my $state_of_a = q{SELECT count(*), string_agg(to_jsonb(j)::text, ' ' ORDER BY id), (SELECT last_value FROM supervisor.job_id_seq), (SELECT count(*) FROM supervisor.job_history) FROM supervisor.job j};
my $before = value($state_of_a, dbname => 'a');
is(value(q{SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc
		WHERE pronamespace = 'supervisor'::regnamespace AND proname ~ 'job|enqueue|schedule' AND prorettype <> 'trigger'::regtype
		AND proname NOT IN ('current_job', 'get_job_runs', 'job_origin', 'why_job_waits')}, dbname => 'a'),
	join(' ', sort keys %calls), 'the functions about jobs are known here');
foreach my $function (sort keys %calls)
{
	my $call = "supervisor.$function($calls{$function})";

	refused("SELECT $call", '25006', "on a standby: $call", dbname => 'a', message => qr/cannot execute $function\(\) during recovery/);
	next if $function eq 'wait_job';
	refused('SELECT supervisor.execute(' . quote("SELECT $call") . ')', '25006', "nor in a task: $call", dbname => 'a', message => qr/cannot execute $function\(\) during recovery/);
}
is(value($state_of_a, dbname => 'a'), $before, 'nothing is written');
is(value(q{SELECT count(*) FROM supervisor.job_status}, dbname => 'a'), $jobs, 'job_status works there');
is(value(q{SELECT count(*) FROM supervisor.job_run}, dbname => 'a'), 0, 'so does job_run');
is(value(q{SELECT due_jobs FROM supervisor.pool_status WHERE pool = 'default'}, dbname => 'a'), 2, 'and pool_status');
is(value(q{SELECT count(*) FROM supervisor.health() WHERE what ~ 'wait'}, dbname => 'a'), 0, 'and health(): that they wait is no trouble');
is(value(q{SELECT supervisor.current_job() IS NULL}, dbname => 'a'), 't', 'and current_job()');
$primary->stop;
$standby->promote;
true_in('a', q{SELECT count(*) FILTER (WHERE what = 'due') = 1 AND count(*) FILTER (WHERE what = 'missed') = 1 FROM public.ran}, 'promoted, it runs what is due, and what was missed');
is(value(q{SELECT string_agg(what, ' ' ORDER BY what) FROM public.ran}, dbname => 'a'), 'due missed', 'each once');
is(value(q{SELECT count(*) FROM supervisor.job_status WHERE reason = 'copied'}, dbname => 'a'), 0, 'still it has no copies');
is(value('SELECT supervisor.adopt_jobs()', dbname => 'a'), 0, 'and nothing to adopt');
value('CHECKPOINT');
my $conf = slurp_file($primary->data_dir . '/postgresql.conf');
command_ok([ 'pg_rewind', '--no-sync', '--target-pgdata' => $primary->data_dir, '--source-server' => $standby->connstr('postgres') ],
	'the former primary is rewound');
unlink $primary->data_dir . '/postgresql.conf';
append_to_file($primary->data_dir . '/postgresql.conf', $conf);
unlink $primary->data_dir . '/postgresql.auto.conf';
append_to_file($primary->data_dir . '/postgresql.auto.conf', "supervisor.run_jobs = on\n");
$primary->enable_streaming($standby);
$primary->start;
$node = $primary;
is(value(q{SELECT pg_is_in_recovery()}), 't', 'it is a standby');
value(q{SELECT supervisor.enqueue('INSERT INTO public.ran VALUES (''after'')', run_at => 'infinity')}, dbname => 'a', node => $standby);
$standby->wait_for_catchup($primary, 'replay', $standby->lsn('insert'));
$standby->stop;
$primary->promote;
value(q{SELECT supervisor.retry_job(job) FROM supervisor.job_status WHERE command ~ 'after'}, dbname => 'a');
true_in('a', q{SELECT count(*) = 1 FROM public.ran WHERE what = 'after'}, 'and runs jobs when it is promoted again');
is(value(q{SELECT count(*), count(*) FILTER (WHERE reason = 'copied') FROM supervisor.job_status}, dbname => 'a'), '6|0', 'none of which is a copy');
is(value(q{SELECT count(*) FROM public.ran WHERE what IN ('due', 'missed')}, dbname => 'a'), 2, 'what had run is not run again');
unlike(slurp_file($_->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log') foreach $primary, $standby;
done_testing();
