# supervisor.take_over: the background workers that preloaded libraries have registered
# with the server, those of t/registers.c, run under supervision.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes eventually refused survivors until_true value);

my $library = SupervisorTest::build_library('registers');
my $version = int(SupervisorTest::pg_config('version') =~ s/^PostgreSQL (\d+).*/$1/sr);
my %settings = (
	restart_after_crash => 'on',
	max_worker_processes => 32,
	dynamic_library_path => dirname($library) . ':$libdir',
	'supervisor.restart_delay' => '10ms',
	'supervisor.restart_delay_max' => '10ms');
my $all = 'pointer, wide, early, never, twin, twin, long, nameless, accents';
my $in_all = () = $all =~ /\w+/g;
my $node;

SupervisorTest::ask(\$node);

# A server where the library registers these.  'before': it is preloaded before supervisor.
sub start
{
	my ($name, $workers, $order, %more) = @_;

	$node = SupervisorTest::new_node(
		$name, %settings,
		shared_preload_libraries => $order eq 'before' ? 'registers, supervisor' : 'supervisor, registers',
		'registers.workers' => $workers,
		%more);
	return;
}

# What workers have said from an offset of the log on, sorted; none of the others' processes.
sub seen
{
	my ($offset) = @_;

	return join "\n", sort substr(slurp_file($node->logfile), $offset // 0) =~ /LOG:  (?:\w+: )?(registers: .*)/g;
}

# Waits until so many have said what they see, and returns that.
sub seen_of
{
	my ($n, $offset) = @_;

	eventually(sub { (() = seen($offset) =~ /^registers: /mg) >= $n });
	return seen($offset);
}

# Kills a session, and waits for the server to be back.
sub crash
{
	my $session = SupervisorTest::session($node);

	kill 'KILL', $session->pid;
	eval { $session->quit };
	SupervisorTest::wait_true($node, q{SELECT count(*) > 0 FROM supervisor.pool_status});
	return;
}

sub terminate
{
	my ($name) = @_;
	my $pid = value("SELECT pid FROM supervisor.worker_status WHERE name = '$name'");

	kill 'TERM', $pid;
	until_true("SELECT pid IS DISTINCT FROM $pid FROM supervisor.worker_status WHERE name = '$name'");
	return;
}

my $taken = q{source = 'registration'};
my $running = "SELECT count(*) = %d FROM supervisor.worker_status WHERE $taken AND state = 'running'";

note 'without supervisor';

$node = PostgreSQL::Test::Cluster->new('alone');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf',
	SupervisorTest::conf(
		(map { $_ => $settings{$_} } grep { !/^supervisor/ } keys %settings),
		shared_preload_libraries => 'registers',
		'registers.workers' => $all));
$node->start;
my $plain = seen_of($in_all);
is(scalar(() = $plain =~ /^registers: /mg), $in_all, 'all run');
$node->stop;

note 'taken over';

my @ways = (
	[ 'before', 'registers' ],
	[ 'after', '*' ],
	[ 'after', "pg_prewarm, \"$library.so\"" ],
	[ 'before', '$libdir/registers' ]);
push @ways, [ 'after', 'registers', in_hook => 'on' ] if $version >= 17;
foreach my $i (0 .. $#ways)
{
	my ($order, $list, %how) = @{ $ways[$i] };
	my $way = "$order, $list" . (%how ? ', in its hook' : '');

	start("way_$i", $all, $order, 'supervisor.take_over' => $list, map { ("registers.$_" => $how{$_}) } keys %how);
	becomes(sprintf($running, $in_all), "$way: all run under supervision");
	is(seen(), $plain, "$way: each once, and sees of itself what it would see without supervisor");
	is(value("SELECT DISTINCT generation FROM supervisor.worker_status WHERE $taken"),
		'0', "$way: the server has started each itself");
	is( value(
			q{SELECT string_agg(backend_type, ', ' ORDER BY backend_type COLLATE "C") FROM pg_stat_activity WHERE backend_type LIKE '%launcher' OR backend_type = 'supervisor'}
		),
		'autovacuum launcher, logical replication launcher, supervisor',
		"$way: what is the server's own, and supervisor, are as ever");
	like(slurp_file($node->logfile), qr/LOG:  $in_all background workers of preloaded libraries are supervised$/m, "$way: the log says so");
	next if $i > 0 && !%how;

	my $offset = -s $node->logfile;
	value("SELECT supervisor.restart_worker(name, '60 s') FROM supervisor.worker_status WHERE $taken");
	my $again = seen_of($in_all, $offset);

	# others see it in a table that all encodings share
	is($again, $plain =~ s/core's type "\K\303\251t\303\251/??t??/r, "$way: so does each next process");
	becomes(sprintf($running, $in_all), "$way: and runs");
	$offset = -s $node->logfile;
	crash();
	$again = seen_of($in_all - 1, $offset);
	is( $again,
		join("\n", grep { !/"only once"/ } split /\n/, $plain =~ s/core's type "\K\303\251t\303\251/??t??/r),
		"$way: after a crash, too, but for one that is never to be restarted");
	becomes(sprintf($running, $in_all - 1), "$way: and they run");
	is(value("SELECT state FROM supervisor.worker_status WHERE name = 'only once'"),
		'stopped', "$way: that one is stopped");
	unlike(substr(slurp_file($node->logfile), $offset), qr/are supervised|is known to supervisor as/, "$way: the log says nothing again");
}
continue
{
	$node->stop;
}

note 'names';

start('names', "$all, accents, long", 'before', 'supervisor.take_over' => 'registers');
becomes(sprintf($running, $in_all + 2), 'all run');
my %name_of = (
	'pointing worker' => 'pointing worker',
	'twin' => 'twin',
	'twin 2' => 'twin',
	'registers_main' => '',
	'??t??' => "\303\251t\303\251",
	'??t?? 2' => "\303\251t\303\251",
	'a name with all bytes that core has room for, which are more th' => 1,
	'a name with all bytes that core has room for, which are more  2' => 1);
foreach my $name (sort keys %name_of)
{
	is(value("SELECT supervisor.stop_worker('$name', '60 s')"), 't', "\"$name\" is stopped by its name");
	is(value("SELECT state || ' ' || reason FROM supervisor.worker_status WHERE name = '$name'"), 'stopped disabled', 'and stays so');
}
is(scalar(() = slurp_file($node->logfile) =~ /LOG:  background worker ".*" of library "registers" is known to supervisor as "/g),
	6, 'the log tells which names are not those of the processes');
is(value("SELECT supervisor.start_worker('twin 2', '60 s')"), 't', 'and is started again');
is( value("SELECT count(*) FROM supervisor.worker_status w JOIN pg_stat_activity a USING (pid) WHERE w.name = 'twin 2' AND a.backend_type = 'twins'"),
	'1', 'under its type');
refused(
	q{SELECT supervisor.remove_worker('twin')},
	'42809', 'it has no row',
	message => qr/DETAIL:  A preloaded library has registered it with the server\./,
	hint => qr/stop, start and restart it by its name/);
$node->stop;

note 'stopped by a setting';

start('stopped', 'pointer, wide, twin, twin, early', 'after', 'supervisor.take_over' => '*', 'supervisor.stopped_workers' => 'twin 2, "early worker", nobody');
becomes(sprintf($running, 3), 'those run that are not listed');
is(value("SELECT string_agg(concat_ws(' ', name, state, detail), ', ' ORDER BY name) FROM supervisor.worker_status WHERE state <> 'running' AND $taken"),
	'early worker stopped it is in supervisor.stopped_workers, twin 2 stopped it is in supervisor.stopped_workers', 'the others are stopped');
unlike(seen(), qr/early worker/, 'the function of one that the server would have started at once is not called');
my $unknown = qr/LOG:  no worker of a preloaded library has the name "nobody", in "supervisor.stopped_workers"/;
is(scalar(() = slurp_file($node->logfile) =~ /$unknown/g), 1, 'a name that none has is logged');
like((SupervisorTest::error_of($node, q{SELECT supervisor.start_worker('twin 2', '60 s')}))[1],
	qr/WARNING: .*DETAIL:  It is in "supervisor.stopped_workers"/s, 'it cannot be started');
like((SupervisorTest::error_of($node, q{SELECT supervisor.restart_worker('early worker', '60 s')}))[1],
	qr/WARNING: .*DETAIL:  It is in "supervisor.stopped_workers"/s, 'nor restarted');
value(q{SELECT supervisor.stop_worker('pointing worker')});
SupervisorTest::set($node, 'supervisor.stopped_workers' => 'wide worker');
becomes(qq{SELECT string_agg(name, ', ' ORDER BY name) = 'early worker, twin, twin 2' FROM supervisor.worker_status WHERE $taken AND state = 'running'},
	'a reload stops those that are listed, and starts those that are not any more');
is(value(q{SELECT detail FROM supervisor.worker_status WHERE name = 'pointing worker'}), 'it is not enabled', 'but not what a person has stopped');
$node->restart;
becomes(sprintf($running, 4), 'a restart starts that as well');
is(value(qq{SELECT name FROM supervisor.worker_status WHERE $taken AND state = 'stopped'}), 'wide worker', 'and what is listed stays stopped');
refused(q{ALTER SYSTEM SET supervisor.stopped_workers = '"twin'}, '22023', 'a list that is none is refused', message => qr/A quoted name has no end/);
refused(q{ALTER SYSTEM SET supervisor.stopped_workers = 'a,,b'}, '22023', 'so is one with a hole', message => qr/A name is missing/);
$node->stop;

note 'ends';

start('ends', 'pointer, wide, never, zero, fails, done, early', 'after', 'supervisor.take_over' => '*');
my $state = q{SELECT concat_ws(' ', state, reason) FROM supervisor.worker_status WHERE name = '%s'};
until_true(q{SELECT restarts > 12 FROM supervisor.worker_status WHERE name = 'at once again'});
isnt(value(sprintf $state, 'at once again'), 'failed max_restarts', 'one that fails again and again is not given up');
becomes(q{SELECT restart_at - last_exit_at BETWEEN '1 s' AND '1.3 s' FROM supervisor.worker_status WHERE name = 'failing worker' AND state = 'backoff'},
	'it waits for as long as it was registered with');
is(value(q{SELECT last_error FROM supervisor.worker_status WHERE name = 'failing worker'}), 'registers fails as it should', 'the view tells why');
becomes(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'done worker'},
	'one that ends with exit code 0 is not started again');

terminate('wide worker');
becomes(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'wide worker'}, 'nor if somebody has ended it');
is(value(q{SELECT supervisor.start_worker('wide worker', '60 s')}), 't', 'until a person starts it');
terminate('only once');
becomes(q{SELECT state = 'stopped' AND reason = 'exited' FROM supervisor.worker_status WHERE name = 'only once'},
	'one that is never to be restarted is not, with exit code 1');
foreach my $name ('pointing worker', 'early worker')
{
	terminate($name);
	becomes("SELECT state = 'running' AND generation = 1 FROM supervisor.worker_status WHERE name = '$name'",
		"$name: another that ends with exit code 1 is started again");
}

value(q{SELECT supervisor.stop_worker('early worker', '60 s')});
crash();
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'wide worker'}, 'after a crash those run again that have run');
is(value(qq{SELECT string_agg(name, ', ' ORDER BY name) FROM supervisor.worker_status WHERE $taken AND state = 'stopped'}),
	'done worker, early worker, only once', 'those that had ended for good, or were stopped, stay so');
is(scalar(() = seen() =~ /"done worker", type/g), 1, 'their functions have not been called');
is(value(q{SELECT supervisor.start_worker('early worker', '60 s')}), 't', 'one that was stopped is started');
crash();
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'early worker'}, 'and is after another crash, too');
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'wide worker'}, 'as are others');

my $supervisor = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'});
my $pids = q{SELECT array_agg((name, pid) ORDER BY name) FROM supervisor.worker_status WHERE name IN ('pointing worker', 'wide worker')};
my $before = value($pids);
value("SELECT pg_terminate_backend($supervisor)");
until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'supervisor' AND pid <> $supervisor");
is(value($pids), $before, 'a new supervisor takes them as they are');
$node->stop;

note 'what is one for all';

# A latch of which a second owner would be a PANIC, and one that refuses another.
start('one', 'latch, sole', 'after', 'supervisor.take_over' => 'registers');
value(qq{
	CREATE FUNCTION wake() RETURNS void LANGUAGE C AS 'registers', 'registers_wake';
	CREATE FUNCTION work() RETURNS int LANGUAGE C AS 'registers', 'registers_work'});

# The worker that owns the latch is woken by it, once all run.
sub works
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	until_true(sprintf $running, 2);
	my $work = value('SELECT work()');
	until_true("SELECT work() > $work FROM wake()");
	pass($property);
}
works('one that waits on a shared latch works');
foreach my $round (1 .. 5)
{
	terminate('latch worker');
	terminate('sole worker');
	works("killed $round times, it does");
}
value(q{SELECT supervisor.restart_worker(name, '60 s') FROM supervisor.worker_status WHERE source = 'registration'});
works('restarted by name, it does');
crash();
works('so it does after a crash');
until_true(q{SELECT wait_event IS NOT NULL FROM pg_stat_activity WHERE backend_type = 'sole worker'});
my $sole = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'sole worker'});
value(q{SELECT supervisor.add_worker('another', library => 'registers', function => 'registers_main',
	extra_bytes => decode(repeat('00', 127) || '05', 'hex'))});
becomes(qq{SELECT last_error = 'registers runs already, as process $sole' FROM supervisor.worker_status WHERE name = 'another'},
	'one that is sole refuses another, as it would without supervisor');
is(value(q{SELECT state, pid FROM supervisor.worker_status WHERE name = 'sole worker'}), "running|$sole", 'and runs on');
value(q{SELECT supervisor.remove_worker('another')});
my @children = SupervisorTest::children($node);
$node->stop;
is(survivors(@children), '', 'a fast shutdown ends all');

note 'databases and rights';

start('rights', 'pointer', 'before', 'supervisor.take_over' => 'registers', 'registers.database' => 'app');
my $where = q{SELECT concat_ws(' ', state, reason, datname) FROM supervisor.worker_status WHERE name = 'pointing worker'};
$node->poll_query_until('postgres', $where, 'waiting no_database');
is(value($where), 'waiting no_database', 'where its database is missing, the view tells so');
value('CREATE ROLE owner LOGIN');
value('CREATE DATABASE app OWNER owner');
$node->poll_query_until('postgres', $where, 'running app');
is(value($where), 'running app', 'once there is that, it runs');

my $pid = value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'pointing worker'});
value('ALTER ROLE owner CREATEDB');
refused('ALTER DATABASE app RENAME TO other', '55006', 'it is not in the power of the owner of its database', user => 'owner');
refused('DROP DATABASE app', '55006', 'by whatever command', user => 'owner');
is(value(q{SELECT pid FROM supervisor.worker_status WHERE name = 'pointing worker'}), $pid, 'its process is the same');
value('DROP DATABASE app');
$node->poll_query_until('postgres', $where, 'waiting no_database');
is(value($where), 'waiting no_database', 'it makes way for a superuser');
value('CREATE DATABASE app OWNER owner');
$node->poll_query_until('postgres', $where, 'running app');
is(value($where), 'running app', 'and comes back with the database');

value(q{CREATE ROLE guard LOGIN IN ROLE pg_signal_backend; GRANT USAGE ON SCHEMA supervisor TO guard;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO guard});
foreach my $function (qw(stop start restart))
{
	refused("SELECT supervisor.${function}_worker('pointing worker')", '42501', "${function}_worker is for superusers", user => 'guard');
}
$node->stop;

note 'room';

# of the server, supervisor, its loader, its pool, and this one
start('room', 'pointer', 'after', 'supervisor.take_over' => '*', max_worker_processes => 6, 'supervisor.pool_size' => 2);
becomes('SELECT running = 2 FROM supervisor.pool_status', 'all places of background workers are taken');
becomes(sprintf($running, 1), 'by one that was taken over, too');
value('CREATE EXTENSION pg_prewarm');
value(q{SELECT supervisor.stop_worker('pointing worker', '60 s')});
value('SELECT autoprewarm_start_worker()');
value(q{SELECT supervisor.start_worker('pointing worker', '0')});
my $waits = q{SELECT state = 'waiting' AND reason = 'no_background_worker_slot' FROM supervisor.worker_status WHERE name = 'pointing worker'};
becomes($waits, 'when somebody has taken its place, it waits');
my $since = value('SELECT clock_timestamp()');
becomes("SELECT restart_at > timestamptz '$since' + interval '2 s' FROM supervisor.worker_status WHERE name = 'pointing worker'", 'it is tried again');
is(value('SELECT running FROM supervisor.pool_status'), '2', 'and no worker of the pool makes room');
SupervisorTest::set($node, 'supervisor.pool_size' => 1);
becomes(sprintf($running, 1), 'it gets the next place that is free');
$node->stop;

note 'what is not taken over';

start('full', 'pointer, wide, twin, twin', 'before', 'supervisor.take_over' => '*', 'supervisor.max_workers' => 2, 'supervisor.pool_size' => 0);
is(seen_of(4) =~ s/^registers: name "([^"]*)".*/$1/mgr, "pointing worker\ntwin\ntwin\nwide worker", 'all run, where only some have a slot');
becomes(sprintf($running, 2), 'these are supervised');
is(value("SELECT string_agg(name, ', ' ORDER BY name) FROM supervisor.worker_status WHERE $taken"), 'pointing worker, wide worker', 'those that were registered first');
like(slurp_file($node->logfile), qr/LOG:  no slot to supervise 2 background workers of preloaded libraries$/m, 'the log tells of the others');
$node->stop;

start('starved', 'pointer, wide', 'before', 'supervisor.take_over' => 'registers, elsewhere, pg_prewarm', shared_preload_libraries => 'pg_prewarm, registers, supervisor',
	'pg_prewarm.autoprewarm' => 'off');
is(scalar(() = slurp_file($node->logfile) =~ /LOG:  library "(?:elsewhere|pg_prewarm)", in "supervisor.take_over", has registered no background worker/g),
	2, 'the log tells of libraries that have registered none');
is(scalar(() = slurp_file($node->logfile) =~ /DETAIL:  It is not in "shared_preload_libraries"/g), 1, 'and whether that is because they are not preloaded');
becomes(sprintf($running, 2), 'others are taken over');
is(value("SELECT string_agg(DISTINCT library, ',') FROM supervisor.worker_status WHERE $taken"), 'registers', 'the view tells whose they are');
my $add = q{SELECT supervisor.add_worker('wide worker', library => 'registers', function => 'registers_main')};
like((SupervisorTest::error_of($node, "BEGIN; $add; ROLLBACK"))[1],
	qr/WARNING: .*DETAIL:  The preloaded library has registered it itself, and it runs under supervision as worker "pointing worker"/s,
	'who adds another is told of the one that is supervised');
my $offset = -s $node->logfile;
SupervisorTest::set($node, 'supervisor.start_workers' => 'off');
becomes("SELECT count(*) = 2 FROM supervisor.worker_status WHERE $taken AND state = 'stopped' AND pid IS NULL", 'where no workers are to run, these do not');
$node->restart;
becomes("SELECT count(*) = 2 FROM supervisor.worker_status WHERE $taken AND state = 'stopped' AND pid IS NULL", 'nor after a restart');
is(seen($offset), '', 'their functions have not been called');
unlike((SupervisorTest::error_of($node, $add))[1], qr/WARNING/, 'who adds another where none runs is not warned');
like((SupervisorTest::error_of($node, q{SELECT supervisor.stop_worker('wide worker')}))[1],
	qr/NOTICE: .*worker "wide worker" is the one that database "postgres" has added/, 'of two of the same name, it is told which is meant');
value(q{SELECT supervisor.remove_worker('wide worker')});
$offset = -s $node->logfile;
SupervisorTest::set($node, 'supervisor.start_workers' => 'on');
is(scalar(() = seen_of(2, $offset) =~ /^registers/mg), 2, 'until workers are to run');
$node->stop;

$offset = -s $node->logfile;
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 3);    # one is the server's own
my $data = $node->data_dir;
command_like([ 'postgres', '-D', $data, '-C', 'shared_memory_size' ], qr/^\d+$/m, 'a server that only computes starts none');
command_ok([ 'postgres', '--single', '-D', $data, 'postgres' ], 'nor does one without a postmaster');
$node->start;
is(seen_of(2, $offset) =~ s/^registers: name "([^"]*)".*/$1/mgr, "pointing worker\nwide worker",
	'where there is no room for supervisor, the server runs them');
like(substr(slurp_file($node->logfile), $offset), qr/LOG:  no background worker is taken over, since there is none for supervisor/, 'and the log says so');
$node->stop;

done_testing();
