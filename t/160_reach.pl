# Other people's extensions, unmodified: those that are installed run under supervision,
# all in one server, as sole copies.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use IO::Socket::INET;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

use SupervisorTest qw(becomes eventually quote survivors until_true value);

my $kills = 20;
my $pkglibdir = SupervisorTest::pg_config('pkglibdir');
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $node;

SupervisorTest::ask(\$node);

sub pid_of_type
{
	my ($type) = @_;

	return value("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type LIKE '$type'");
}

# pg_auto_failover's worker starts others, in each database, which have other names by version.
my $health_checks = q{FROM pg_stat_activity a WHERE datname = 'monitor' AND backend_type ~ 'health ?check|pgautofailover'
	AND NOT EXISTS (SELECT FROM supervisor.worker_status w WHERE w.pid = a.pid)};

# As a client of bgw_replstatus sees it, with a number that grows.
my $answers = 0;

sub ask_replstatus
{
	my $socket = IO::Socket::INET->new(PeerHost => '127.0.0.1', PeerPort => $port, Timeout => 5) or return '';
	my $answer = <$socket> // '';

	return $answer =~ /MASTER/ ? 'MASTER ' . ++$answers : '';
}

sub blocks_file
{
	my @stat = stat $node->data_dir . '/autoprewarm.blocks' or return '';

	return "@stat[1, 9]";
}

# By library.  'worker': its name, a pattern of LIKE.  'conf'.  'database', which it needs, and
# 'setup', SQL there.  'sees' returns something that is another whenever it has worked,
# once 'prompt' has given it something to do; 'slow' if that takes it long, and 'first' if it
# does that at its start only; 'once' if it must not be started again.
my %extensions = (
	pg_cron => {
		worker => 'pg_cron launcher',
		conf => { 'cron.database_name' => 'cron', 'cron.use_background_workers' => 'on' },
		database => 'cron',
		setup => q{
			CREATE EXTENSION pg_cron;
			CREATE TABLE ran (minute timestamptz, at timestamptz DEFAULT clock_timestamp());
			SELECT cron.schedule('* * * * *', 'INSERT INTO ran VALUES (date_trunc(''minute'', now()))')}
	},
	powa => {
		worker => 'powa',
		needs => 'pg_stat_statements',
		conf => { 'powa.database' => 'powa', 'powa.frequency' => '5s' },
		database => 'powa',
		setup => 'CREATE EXTENSION powa CASCADE',
		sees => sub { value('SELECT coalesce_seq FROM powa_snapshot_metas WHERE srvid = 0', dbname => 'powa') },
		slow => 1
	},
	pg_wait_sampling => {
		worker => 'pg_wait_sampling collector',
		database => 'postgres',
		setup => 'CREATE EXTENSION pg_wait_sampling',
		sees => sub { value('SELECT max(ts) FROM pg_wait_sampling_history') }
	},
	bgw_replstatus => {
		worker => 'bgw_replstatus',
		conf => { 'bgw_replstatus.bind' => '127.0.0.1', 'bgw_replstatus.port' => $port },
		sees => \&ask_replstatus
	},
	pg_partman_bgw => {
		worker => 'pg_partman master%',
		conf => { 'pg_partman_bgw.dbname' => 'app', 'pg_partman_bgw.interval' => 1, 'pg_partman_bgw.role' => 'postgres' },
		database => 'app',
		setup => q{
			CREATE SCHEMA partman;
			CREATE EXTENSION pg_partman SCHEMA partman;
			CREATE TABLE log (at timestamptz NOT NULL) PARTITION BY RANGE (at);
			DO $$ BEGIN
				IF (SELECT extversion >= '5' FROM pg_extension WHERE extname = 'pg_partman') THEN
					PERFORM partman.create_parent('public.log', 'at', '1 day', p_premake => 1);
				ELSE
					PERFORM partman.create_parent('public.log', 'at', p_type => 'native', p_interval => 'daily', p_premake => 1);
				END IF;
			END $$},
		prompt => sub { value('UPDATE partman.part_config SET premake = premake + 1, infinite_time_partitions = true', dbname => 'app') },
		sees => sub { value(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'log'::regclass}, dbname => 'app') }
	},
	pglogical => {
		worker => 'pglogical supervisor',
		database => 'app',
		setup => q{CREATE EXTENSION pglogical; SELECT pglogical.create_node('node', 'dbname=app')},
		prompt => sub { value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pglogical manager%'}) },
		sees => sub { pid_of_type('pglogical manager%') },
		first => 1
	},
	pglogical_ticker => {
		worker => 'pglogical_ticker%',
		conf => { 'pglogical_ticker.database' => 'app', 'pglogical_ticker.naptime' => 1 },
		database => 'app',
		setup => q{
			CREATE EXTENSION pglogical_ticker CASCADE;
			SELECT pglogical_ticker.deploy_ticker_tables();
			SELECT pglogical_ticker.add_ticker_tables_to_replication()},
		sees => sub { value('SELECT max(source_time) FROM pglogical_ticker.all_repset_tickers()', dbname => 'app') }
	},
	pgautofailover => {
		worker => 'pg_auto_failover monitor%',
		database => 'monitor',
		setup => 'CREATE EXTENSION pgautofailover CASCADE',
		prompt => sub { value("SELECT pg_terminate_backend(pid) $health_checks") },
		sees => sub { value("SELECT pid $health_checks") },

		# it keeps its children's handles in shared memory, where they are not those of a successor, which crashes
		once => 1
	},
	pg_prewarm => {
		worker => 'autoprewarm leader',
		conf => { 'pg_prewarm.autoprewarm_interval' => 1 },
		sees => \&blocks_file,
		prompt => sub { unlink $node->data_dir . '/autoprewarm.blocks' }
	},
	pg_failover_slots => {
		worker => 'pg_failover_slots worker'
	},
	worker_spi => {
		worker => 'worker_spi worker 1',
		conf => { 'worker_spi.naptime' => 1 },
		prompt => sub {
			value(q{INSERT INTO schema1.counted SELECT 'total', 0 WHERE NOT EXISTS (SELECT FROM schema1.counted WHERE type = 'total');
				INSERT INTO schema1.counted VALUES ('delta', 1)});
		},
		sees => sub { value(q{SELECT sum(value) FROM schema1.counted WHERE type = 'total'}) }
	});

foreach my $library (sort keys %extensions)
{
	next if -e "$pkglibdir/$library.so";
	note "$library is not installed";
	delete $extensions{$library};
}
my @libraries = sort keys %extensions;

plan skip_all => 'no extension is installed whose worker could be taken over' if !@libraries;

my %conf = map { %{ $extensions{$_}{conf} // {} } } @libraries;
my @preload = grep { -e "$pkglibdir/$_.so" } 'pg_squeeze';
push @preload, map { ($extensions{$_}{needs} // (), $_) } @libraries;
my %database_of = map { $_ => $extensions{$_}{database} } grep { defined $extensions{$_}{database} } @libraries;

# Which worker of the view is the one of a library?
sub worker
{
	my ($library, $columns) = @_;

	return "SELECT $columns FROM supervisor.worker_status WHERE source = 'registration' AND library = '$library' AND name LIKE '$extensions{$library}{worker}'";
}

sub name_of
{
	my ($library) = @_;

	return value(worker($library, 'name'));
}

# Waits until a worker has worked.  %was: what was seen of it before.
sub works
{
	my ($library, $was) = @_;
	my $is;

	eventually(sub { $is = eval { $extensions{$library}{sees}->() } // ''; $is ne '' && $is ne $was });
	return $is ne '' && $is ne $was;
}

sub has_worked
{
	my ($library) = @_;
	my $was = eval { $extensions{$library}{sees}->() } // '';

	return works($library, '') if $extensions{$library}{first};
	$extensions{$library}{prompt}->() if $extensions{$library}{prompt};
	return works($library, $was);
}

note 'where what they need is missing';

$node = SupervisorTest::new_node(
	'reach', %conf,
	shared_preload_libraries => join(', ', 'supervisor', @preload),
	'supervisor.take_over' => '*',
	wal_level => 'logical',
	log_statement => 'none',
	max_worker_processes => 60,
	'supervisor.restart_delay_max' => '1s');
is(value(q{SELECT count(DISTINCT library) FROM supervisor.worker_status WHERE source = 'registration'}),
	scalar(@libraries), 'the workers of all of them are supervised: ' . join ', ', @libraries);
foreach my $library (grep { defined $extensions{$_}{conf} && ($database_of{$_} // 'postgres') ne 'postgres' } @libraries)
{
	next if $library eq 'pg_partman_bgw';    # its worker itself needs none
	becomes(worker($library, q{state = 'waiting' AND reason = 'no_database' AND detail LIKE '%does not exist%'}), "$library: the view tells that its database is missing");
}
my %databases = map { $_ => 1 } grep { $_ ne 'postgres' } values %database_of, 'app';
value("CREATE DATABASE $_") foreach sort keys %databases;
value($extensions{$_}{setup}, dbname => $database_of{$_}) foreach sort grep { defined $extensions{$_}{setup} } @libraries;
foreach my $library (@libraries)
{
	value('SELECT supervisor.start_worker(' . quote(name_of($library)) . q{, '60 s')});
	becomes(worker($library, q{state = 'running'}), "$library: its worker runs");
	next if !$extensions{$library}{sees};
	ok(has_worked($library), "$library: and works");
}
is( value(
		q{SELECT string_agg(format('%s: %s', backend_type, n), ', ') FROM (
			SELECT a.backend_type, count(*) n FROM pg_stat_activity a
			WHERE backend_type IN (SELECT b.backend_type FROM pg_stat_activity b JOIN supervisor.worker_status w USING (pid) WHERE w.source = 'registration')
			GROUP BY 1 HAVING count(*) > 1) s WHERE backend_type NOT IN ('worker_spi', 'pgautofailover')}),
	'', 'there is one of each');    # those two have more by themselves

note 'from SQL';

SKIP:
{
	skip 'pg_fact_loader is not installed', 2 if !-e "$pkglibdir/pg_fact_loader.so";

	my $called = q{SELECT query_start FROM pg_stat_activity WHERE query LIKE 'SELECT fact_loader.worker%'};
	value('CREATE EXTENSION supervisor; CREATE EXTENSION pg_fact_loader', dbname => 'app');
	value(q{SELECT supervisor.add_worker('facts', library => 'pg_fact_loader', function => 'pg_fact_loader_main', argument => oid::int8)
		FROM pg_database WHERE datname = current_database()}, dbname => 'app');
	becomes(q{SELECT state = 'running' AND datname = 'app' FROM supervisor.worker_status WHERE name = 'facts'},
		'pg_fact_loader: its function runs as a declared worker');
	my $was = value($called);
	ok(eventually(sub { my $is = value($called); $is ne '' && $is ne $was }), 'pg_fact_loader: and works');
	value(q{SELECT supervisor.remove_worker('facts')}, dbname => 'app');
}
SKIP:
{
	skip 'pg_squeeze is not installed', 2 if !-e "$pkglibdir/pg_squeeze.so";

	my $squeezes = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE '%squeeze%'};
	value('CREATE DATABASE squeezed');
	value('CREATE EXTENSION supervisor; CREATE EXTENSION pg_squeeze', dbname => 'squeezed');
	value(q{SELECT supervisor.add_worker('squeeze', run_every => '1 s', command =>
		$$SELECT squeeze.start_worker() WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE '%squeeze%')$$)},
		dbname => 'squeezed');
	becomes($squeezes, 'pg_squeeze: a command keeps its worker running');
	value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE '%squeeze%'});
	becomes($squeezes, 'pg_squeeze: also when it has ended');
	value(q{SELECT supervisor.remove_worker('squeeze')}, dbname => 'squeezed');
}

note "killed $kills times";

$node->run_log([ 'pgbench', '-i', '-q', '-s', '5', '-h', $node->host, '-p', $node->port, 'app' ]);
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '3600', '-h', $node->host, '-p', $node->port, 'app' ], '>', '/dev/null', '2>', '/dev/null');
my @killed = grep { !$extensions{$_}{once} } @libraries;
my %came_back = map { $_ => 0 } @killed;
my %worked = map { $_ => 0 } @killed;
my %ended_as;
foreach my $round (1 .. $kills)
{
	my %was;

	foreach my $library (@killed)
	{
		my $pid = value(worker($library, 'pid'));
		my $name = quote(name_of($library));

		$was{$library} = $extensions{$library}{sees} ? eval { $extensions{$library}{sees}->() } // '' : '';
		$extensions{$library}{prompt}->() if $extensions{$library}{prompt};
		kill 'TERM', $pid;
		until_true(worker($library, "pid IS DISTINCT FROM $pid"));
		$ended_as{$library}{ value(worker($library, 'last_exit_code')) }++;

		# one that ends with exit code 0 stays so, and others wait
		value("SELECT supervisor.start_worker($name, '60 s')");
		$came_back{$library} += value(worker($library, "state = 'running' AND pid <> $pid")) eq 't';
	}
	foreach my $library (grep { $extensions{$_}{sees} && (!$extensions{$_}{slow} || $round % 10 == 0) } @killed)
	{
		$worked{$library} += works($library, $was{$library});
	}
}
$load->kill_kill;
foreach my $library (@killed)
{
	my $codes = join ' or ', sort keys %{ $ended_as{$library} };

	is($came_back{$library}, $kills, "$library: it came back each time; its exit code was $codes");
	is($worked{$library}, $extensions{$library}{slow} ? $kills / 10 : $kills, "$library: and worked") if $extensions{$library}{sees};
}

note 'stopped and started';

foreach my $library (@killed)
{
	my $name = quote(name_of($library));

	is(value("SELECT supervisor.stop_worker($name, '60 s')"), 't', "$library: it is stopped");
	is(value("SELECT supervisor.start_worker($name, '60 s')"), 't', "$library: and started");
	ok(has_worked($library), "$library: and works") if $extensions{$library}{sees};
}

note 'real effects, once';

SKIP:
{
	skip 'pg_cron is not installed', 2 if !$extensions{pg_cron};

	my $minute = value(q{SELECT date_trunc('minute', now()) + '1 min'});
	ok(eventually(sub { value("SELECT count(*) > 0 FROM ran WHERE minute = '$minute'", dbname => 'cron') eq 't' }),
		'pg_cron: a job runs when it is due');
	until_true("SELECT now() >= '$minute'::timestamptz + '15 s'");
	is(value('SELECT count(*) FROM (SELECT FROM ran GROUP BY minute HAVING count(*) > 1) s', dbname => 'cron'),
		'0', 'pg_cron: no minute had it twice');
}

note 'their databases are dropped';

# pglogical's supervisor, and what pg_auto_failover's starts, do not take the barrier for which DROP DATABASE waits
foreach my $library (grep { $extensions{$_} } qw(pgautofailover pglogical))
{
	value('SELECT supervisor.stop_worker(' . quote(name_of($library)) . q{, '60 s')});
}
value('SELECT pg_terminate_backend(pid) ' . $health_checks =~ s/datname = 'monitor'/true/r) if $extensions{pgautofailover};
foreach my $library (grep { /^(?:pg_cron|powa)$/ } @libraries)
{
	value("DROP DATABASE $database_of{$library}");
	becomes(worker($library, q{state = 'waiting' AND reason = 'no_database'}), "$library: its database is dropped, and the view tells so");
}

note 'shutdown';

my @children = SupervisorTest::children($node);
my $start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 5, 'a fast shutdown takes less than five seconds');
is(survivors(@children), '', 'and ends all');

done_testing();
