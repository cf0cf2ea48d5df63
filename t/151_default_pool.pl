# supervisor.default_pool: which pool a call means that names none, whose setting
# counts, and that nobody gets into a pool by it that he may not use.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes refused until_true);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'supervisor.pool_size' => 1,
	'supervisor.pools' => 'mail:1(mailer), app:1(app, mailer), free:1');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, $_, 1) foreach qw(default mail app free);

# A task that tells its pool, as the name that its worker has.
my $where = q{SELECT current_setting('application_name')};
my $ask = qq{supervisor.run(\$q\$$where\$q\$) AS (name text)};

# Tests in which pool the tasks of a call run.  %opts: user, dbname; session; set, a statement before.
sub goes_to
{
	my ($pool, $property, %opts) = @_;
	my $call = delete $opts{call} // "SELECT name FROM $ask";
	my $set = $opts{set} ? "$opts{set};" : '';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = $opts{session} ? $opts{session}->query_safe("$set $call") : value("$set $call", %opts);

	like($name, qr/^supervisor: pool \Q$pool\E, slot/, $property);
}

value(q{
	CREATE ROLE mailer LOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE owner LOGIN;
	CREATE ROLE web LOGIN NOINHERIT IN ROLE app, stranger;
	GRANT CREATE ON SCHEMA public TO PUBLIC;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO PUBLIC});

note 'which setting it is';

goes_to('default', 'without a setting it is "default"');
goes_to('free', 'SET', set => 'SET supervisor.default_pool = free');
goes_to('free', 'SET LOCAL', set => 'BEGIN; SET LOCAL supervisor.default_pool = free');
goes_to('default', 'which ends', set => 'BEGIN; SET LOCAL supervisor.default_pool = free; COMMIT');
{
	local $ENV{PGOPTIONS} = '-c supervisor.default_pool=free';
	goes_to('free', 'what comes with the connection');
}
value(q{ALTER ROLE app SET supervisor.default_pool = 'app'});
goes_to('app', 'ALTER ROLE', user => 'app');
goes_to('free', 'which SET overrides', user => 'app', set => 'SET supervisor.default_pool = free');
value(q{CREATE DATABASE other});
value(q{CREATE EXTENSION supervisor; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC}, dbname => 'other');
value(q{ALTER DATABASE other SET supervisor.default_pool = 'free'});
goes_to('free', 'ALTER DATABASE', user => 'stranger', dbname => 'other');
goes_to('app', 'goes behind ALTER ROLE', user => 'app', dbname => 'other');
goes_to('free', 'a name that is given counts', call => "SELECT name FROM supervisor.run(\$q\$$where\$q\$, pool => 'free') AS (name text)", user => 'app');
goes_to('default', 'also if it is "default"', call => "SELECT name FROM supervisor.run(\$q\$$where\$q\$, pool => 'default') AS (name text)", user => 'app');
goes_to('app', 'NULL is none', call => "SELECT name FROM supervisor.run(\$q\$$where\$q\$, pool => NULL) AS (name text)", user => 'app');

note 'all functions';

{
	my $session = SupervisorTest::session($node, user => 'app');
	my $counted = sub {
		return value(q{SELECT string_agg(pool || ' ' || tasks_succeeded, ', ' ORDER BY pool) FROM supervisor.pool_status});
	};
	my ($before) = $counted->() =~ /app (\d+)/;
	my ($others) = $counted->() =~ /, (.*)/;

	$session->query_safe($_)
	  foreach (
		q{SELECT * FROM supervisor.run('SELECT 1') AS (a int)}, q{SELECT supervisor.execute('SELECT 1')}, q{CALL supervisor.perform('SELECT 1')},
		q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'])},
		q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'], NULL)},
		q{SELECT supervisor.wait(supervisor.launch('SELECT 1'))});
	is($counted->(), 'app ' . ($before + 6) . ", $others", 'run, execute, perform, execute_all and launch');
	$session->quit;

	my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE pool = 'free'});
	is(value(q{SET supervisor.default_pool = free; SELECT supervisor.restart_pool(timeout => '1 min')}), 't', 'restart_pool');
	isnt(value(q{SELECT pid FROM supervisor.worker_status WHERE pool = 'free'}), $pid, 'restarts that pool');
}

note 'what is wrong with it';

refused(q{SET supervisor.default_pool = nix; SELECT supervisor.execute('SELECT 1')}, '42704', 'a pool that does not exist', hint => qr/supervisor\.pools/);
refused(q{SET supervisor.default_pool = mail; SELECT supervisor.execute('SELECT 1')}, '42501', 'one that the role may not use',
	user => 'app', message => qr/permission denied for pool "mail"/, hint => qr/supervisor\.default_pool/);
refused("SET supervisor.default_pool = '$_'", '22023', "'$_' is no name of a pool", message => qr/DETAIL:  The name of a pool/)
  foreach '', ' ', 'a b', 'a,b', 'a:1', 'mail(app)', ' mail', 'mail ', 'x' x 64;
value(q{ALTER ROLE app SET supervisor.default_pool = 'later'});
refused(q{SELECT supervisor.execute('SELECT 1')}, '42704', 'a pool may be named before it is there', user => 'app');
value(q{ALTER ROLE app SET supervisor.default_pool = 'app'});

note 'SET ROLE';

goes_to('app', 'the setting is the session\'s', user => 'web', set => 'SET supervisor.default_pool = app; SET ROLE app');
refused("SET supervisor.default_pool = app; SET ROLE stranger; SELECT name FROM $ask", '42501', 'who may use it is the role\'s', user => 'web');
goes_to('default', 'settings of a role are those of who has logged in', user => 'web', set => 'SET ROLE app');

note 'SECURITY DEFINER';

# Functions of mailer, who may use mail and app; of app; and of owner, who may use neither.
foreach my $owner (qw(mailer app owner))
{
	value(qq{
		CREATE FUNCTION by_$owner() RETURNS text LANGUAGE sql SECURITY DEFINER
		RETURN (SELECT name FROM $ask);
		ALTER FUNCTION by_$owner() OWNER TO $owner;
		CREATE FUNCTION set_by_$owner() RETURNS text LANGUAGE sql SECURITY DEFINER SET supervisor.default_pool = mail
		RETURN (SELECT name FROM $ask);
		ALTER FUNCTION set_by_$owner() OWNER TO $owner});
}
goes_to('app', 'the caller\'s setting counts where both may use the pool', user => 'app', call => 'SELECT by_mailer()');
goes_to('app', 'also if it is SET', user => 'app', set => 'RESET ALL; SET supervisor.default_pool = app', call => 'SELECT by_mailer()');
goes_to('default', 'it does not where the caller may not', user => 'stranger', set => 'SET supervisor.default_pool = mail', call => 'SELECT by_mailer()');
goes_to('default', 'nor where the owner may not', user => 'app', call => 'SELECT by_owner()');
goes_to('free', 'a pool without a list is for both', user => 'stranger', set => 'SET supervisor.default_pool = free', call => 'SELECT by_mailer()');
goes_to('mail', 'a superuser may use any', set => 'SET supervisor.default_pool = mail', call => 'SELECT by_mailer()');
goes_to('mail', 'a function\'s own setting is its owner\'s', user => 'stranger', call => 'SELECT set_by_mailer()');
refused(q{SELECT set_by_app()}, '42501', 'who may not use the pool then', user => 'mailer', message => qr/pool "mail"/);
value(q{ALTER ROLE stranger SET supervisor.default_pool = 'mail'});
goes_to('default', 'a setting that is stored is the caller\'s as well', user => 'stranger', call => 'SELECT by_mailer()');
refused("SELECT name FROM $ask", '42501', 'for whom it counts', user => 'stranger');
value(q{ALTER ROLE stranger RESET supervisor.default_pool});
{
	local $ENV{PGOPTIONS} = '-c supervisor.default_pool=mail';
	goes_to('default', 'so is what comes with the connection', user => 'stranger', call => 'SELECT by_mailer()');
}
SupervisorTest::set($node, 'supervisor.default_pool' => 'app');
until_true(q{SELECT current_setting('supervisor.default_pool') = 'app'}, 'the server has a default');
goes_to('app', 'what the server says is for whoever may', user => 'stranger', call => 'SELECT by_mailer()');
SupervisorTest::set($node, 'supervisor.default_pool' => 'default');
until_true(q{SELECT current_setting('supervisor.default_pool') = 'default'}, 'it has none');

# A function of owner calls one of mailer: the setting is owner's, the caller mailer.
value(q{
	CREATE FUNCTION through_owner() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN
		SET LOCAL supervisor.default_pool = mail;
		RETURN by_mailer();
	END $$;
	ALTER FUNCTION through_owner() OWNER TO owner});
goes_to('default', 'one function brings no other into a pool', user => 'mailer', call => 'SELECT through_owner()');

note 'tasks of tasks';

my $nested = q{DO $$ BEGIN PERFORM supervisor.forget(supervisor.launch('INSERT INTO went SELECT current_setting(''application_name'')')); END $$};
value(qq{
	CREATE TABLE went (name text);
	GRANT ALL ON went TO PUBLIC;
	CREATE FUNCTION launches() RETURNS text LANGUAGE sql SECURITY DEFINER
	RETURN supervisor.execute(\$q\$$nested\$q\$, pool => 'free');
	ALTER FUNCTION launches() OWNER TO mailer});
foreach my $case (
	[ 'stranger', 'SET supervisor.default_pool = mail', 'SELECT launches()', 'default', 'a caller brings a task of the task into no pool' ],
	[ 'mailer', 'SET supervisor.default_pool = mail', "SELECT supervisor.execute(\$q\$$nested\$q\$)", 'default', 'the setting is not handed on' ],
	[ 'app', '', "SELECT supervisor.execute(\$q\$$nested\$q\$)", 'app', 'the role\'s own counts' ])
{
	my ($user, $set, $call, $pool, $property) = @$case;

	value("$set; $call", user => $user);
	becomes('SELECT count(*) = 1 FROM went', 'a task of a task has run');
	like(value('DELETE FROM went RETURNING name'), qr/^supervisor: pool $pool,/, $property);
}

note 'jobs';

# A job that is not due, by each function.
my %calls = (
	enqueue => q{supervisor.enqueue('SELECT 1', run_at => 'infinity'%s)},
	schedule => q{supervisor.schedule('recurs', '@yearly', 'SELECT 1'%s)});

# Tests in which pool a job is that names none.  %opts: user, dbname; set, a statement before; more, arguments.
sub job_is_in
{
	my ($pool, $function, $property, %opts) = @_;
	my $set = $opts{set} ? "$opts{set};" : '';
	my $job = value("$set SELECT " . sprintf($calls{$function}, $opts{more} // ''), %opts);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value("SELECT pool FROM supervisor.job_status WHERE job = $job", %opts), $pool, "$function: $property");
	value("DELETE FROM supervisor.job WHERE id = $job", dbname => $opts{dbname});
}

value(q{
	CREATE FUNCTION enqueues() RETURNS bigint LANGUAGE sql SECURITY DEFINER
	RETURN supervisor.enqueue('SELECT 1', run_at => 'infinity');
	ALTER FUNCTION enqueues() OWNER TO mailer;
	CREATE FUNCTION schedules() RETURNS bigint LANGUAGE sql SECURITY DEFINER
	RETURN supervisor.schedule('recurs', '@yearly', 'SELECT 1');
	ALTER FUNCTION schedules() OWNER TO mailer});
foreach my $function (sort keys %calls)
{
	job_is_in('default', $function, 'without a setting it is "default"');
	job_is_in('free', $function, 'SET', set => 'SET supervisor.default_pool = free');
	job_is_in('app', $function, 'ALTER ROLE', user => 'app');
	job_is_in('free', $function, 'which SET overrides', user => 'app', set => 'SET supervisor.default_pool = free');
	job_is_in('free', $function, 'ALTER DATABASE', user => 'stranger', dbname => 'other');
	job_is_in('free', $function, 'a name that is given counts', user => 'app', more => q{, pool => 'free'});
	job_is_in('default', $function, 'also if it is "default"', user => 'app', more => q{, pool => 'default'});
	job_is_in('app', $function, 'NULL is none', user => 'app', more => ', pool => NULL');
	my $call = 'SELECT ' . sprintf($calls{$function}, '');
	refused("SET supervisor.default_pool = nix; $call", '42704', "$function: a pool that does not exist", hint => qr/supervisor\.pools/);
	refused("SET supervisor.default_pool = mail; $call", '42501', "$function: one that the role may not use",
		user => 'app', message => qr/permission denied for pool "mail"/, hint => qr/supervisor\.default_pool/);
}
is(value('SELECT count(*) FROM supervisor.job'), 0, 'nothing is written then');
job_is_in('default', 'schedule', 'it is the setting of who calls, whoever it is to run as', more => q{, role => 'app'});
refused(q{SET supervisor.default_pool = mail; SELECT supervisor.schedule('recurs', '@yearly', 'SELECT 1', role => 'app')}, '42501',
	'but that one must be let in', message => qr/pool "mail"/);
value(q{SELECT supervisor.schedule('recurs', '@yearly', 'SELECT 1', pool => 'free')});
value(q{SELECT supervisor.schedule('recurs', '@yearly', 'SELECT 1')});
is(value(q{SELECT pool FROM supervisor.job_status WHERE name = 'recurs'}), 'default', 'who schedules again and names none says so anew');
value(q{SELECT supervisor.unschedule('recurs')});
foreach my $function ('enqueues', 'schedules')
{
	my %is_in = (app => 'app', stranger => 'default');

	foreach my $user (sort keys %is_in)
	{
		my $job = value('SET supervisor.default_pool = ' . ($user eq 'app' ? 'app' : 'mail') . "; SELECT $function()", user => $user);

		is(value("SELECT pool, usename FROM supervisor.job_status WHERE job = $job"), "$is_in{$user}|mailer", "$function(), a SECURITY DEFINER function, called by $user");
		value("DELETE FROM supervisor.job WHERE id = $job");
	}
}

# A job of a job: as with tasks, the setting is not handed on.
my $enqueues = q{SELECT supervisor.enqueue('INSERT INTO went SELECT current_setting(''application_name'')')};
foreach my $case ([ 'app', '', 'app', 'the role\'s own setting counts' ], [ 'app', 'SET supervisor.default_pool = free', 'app', 'not that of who enqueued' ])
{
	my ($user, $set, $pool, $property) = @$case;

	value("$set; SELECT supervisor.enqueue(\$q\$$enqueues\$q\$)", user => $user);
	becomes('SELECT count(*) = 1 FROM went', 'a job of a job has run');
	like(value('DELETE FROM went RETURNING name'), qr/^supervisor: pool $pool,/, "where it runs: $property");
}

$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
