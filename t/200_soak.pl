# A soak: while sessions of several roles and databases give tasks to the pools, read
# them, cancel them and go away, random faults strike, and a model says what must hold:
#
# - each call is answered, a launched task ends in one way, its result says the same, and
#   says it once;
# - each effect happens once if its task succeeded, not at all if it failed or was
#   canceled, and never twice, also where nobody was left to hear;
# - it happens in the database and as the role of the session;
# - never do more instances of a declared worker run than declared, nor two of one that was
#   taken over from a preloaded library;
# - a non-superuser role holds half of the tasks at most, and no slot, process or
#   task is in two places;
# - after the faults all is whole again, and nothing is left: the pools, the declared
#   workers, tasks, shared memory, processes, files; and the log has no error that the
#   faults do not explain.
#
# In the middle the server is lost, and all goes on at its standby.
#
# PG_TEST_SOAK_SECONDS says how long, 0 not at all.  PG_TEST_SOAK_SEED takes the seed that an
# earlier run has printed: the faults are the same, one by one, and so is what each
# session sends; when they meet is up to the machine.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use File::Basename;
use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorChaos;
use SupervisorTest;

if ($PostgreSQL::Test::Utils::windows_os)
{
	plan skip_all => 'needs signals';
}

my $seconds = $ENV{PG_TEST_SOAK_SECONDS} // 60;

plan skip_all => 'PG_TEST_SOAK_SECONDS is 0' if !$seconds;

$seed = $ENV{PG_TEST_SOAK_SEED} || 1 + (time * 1000) % 1_000_000;

note "PG_TEST_SOAK_SEED=$seed PG_TEST_SOAK_SECONDS=$seconds";

note 'a server';

my $max_worker_processes = 30;
my $library = SupervisorTest::build_library('registers');
my %settings = (
	'shared_preload_libraries' => 'supervisor, registers',
	'dynamic_library_path' => dirname($library) . ':$libdir',
	'registers.workers' => 'pointer, wide',
	'supervisor.take_over' => 'registers',
	'max_connections' => 60,
	'restart_after_crash' => 'on',
	'max_worker_processes' => $max_worker_processes,
	'max_parallel_workers' => $max_worker_processes,
	'deadlock_timeout' => '100ms',
	'log_checkpoints' => 'off',
	'log_statement' => 'none',
	'include_if_exists' => 'nonsense.conf',
	'supervisor.pool_size' => 4,
	'supervisor.pools' => 'batch:2',
	'supervisor.max_workers' => 32,
	'supervisor.max_tasks' => 128,
	'supervisor.shared_memory' => '4MB',
	'supervisor.result_memory' => '256kB',
	'supervisor.restart_delay' => '100ms',
	'supervisor.restart_delay_max' => '1s',
	'supervisor.restart_window' => 0,
	'supervisor.stop_timeout' => '1s');
my $node = PostgreSQL::Test::Cluster->new('soak');

$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf',
	SupervisorTest::conf(%settings));
$node->start;
$superuser = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql('postgres', q{
	CREATE EXTENSION supervisor;
	CREATE TABLE hog WITH (parallel_workers = 10) AS SELECT FROM generate_series(1, 500);
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE mallory LOGIN;
	CREATE DATABASE base IS_TEMPLATE true;
	-- how many commands of each size there is room for, one after the other, while all workers are busy
	CREATE FUNCTION room(sizes int[]) RETURNS SETOF int LANGUAGE plpgsql AS $$
	DECLARE
		size int;
		n int;
	BEGIN
		PERFORM supervisor.launch('SELECT pg_sleep(1000)') FROM generate_series(1, 4);
		FOREACH size IN ARRAY sizes LOOP
			n := 0;
			BEGIN
				LOOP
					PERFORM supervisor.launch('SELECT 1 --' || repeat('x', size));
					n := n + 1;
				END LOOP;
			EXCEPTION WHEN out_of_memory OR configuration_limit_exceeded THEN
				RETURN NEXT n;
			END;
		END LOOP;
	END $$});
my $create_extension = q{
	BEGIN;
	CREATE EXTENSION IF NOT EXISTS supervisor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO PUBLIC;
	COMMIT;
};
$node->safe_psql('base', $create_extension . q{
	CREATE TABLE effect (id bigint, role name DEFAULT session_user, datname name DEFAULT current_database());
	CREATE TABLE run (worker text);
	GRANT ALL ON effect, run TO PUBLIC;
	CREATE FUNCTION run(worker text, instances int, seconds float) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. instances LOOP
			IF pg_try_advisory_xact_lock(hashtext(worker), i) THEN
				INSERT INTO run VALUES (worker);
				PERFORM pg_sleep(seconds);
				RETURN;
			END IF;
		END LOOP;
		RAISE WARNING 'soak: more than % of worker %', instances, worker;
	END $$});
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE base") foreach qw(db1 db2 gone);

# The databases whose tables last, and how the declared workers are added to each.
my @kept = qw(db1 db2);
my %workers = (
	tick => q{'SELECT run(''tick'', 1, 0.02)', run_every => '200 ms', role => 'alice'},
	pair => q{'SELECT run(''pair'', 2, 0.1)', run_every => '300 ms', role => 'bob', instances => 2},
	service => q{'SELECT run(''service'', 1, 5)', restart => 'always', role => 'alice'},
	mallorys => q{'SELECT run(''mallorys'', 1, 0.02)', run_every => '500 ms', role => 'mallory'},
	failing => q{'SELECT 1/0', run_every => '1 s', role => 'bob'});

# Those that were taken over: at SIGTERM one ends with exit code 1, and one, for good, with 0.
my @taken = ('pointing worker', 'wide worker');
my $taken = q{backend_type IN ('pointer', 'wide worker')};

$target = $node;
$start_session = \&start_session;
$session_ended = \&session_ended;

note 'sessions';

# Every task that a session gives, by id, which is the effect's: what is known of it.
# rows: how many effects there may be, as digits
my %ops;
my ($answers, $calls) = (0, 0);
my %answered;

# A role's call may meet this because of the faults and of other sessions.
my %call_errors = map { $_ => 1 } qw(28000 3D000 42501 42704 53000 53200 53300 53400 54000 55000 57014 57P01 57P02 57P03);

# In the database "gone" the extension may be missing, or go just when core has found a function of it.
my %no_extension = map { $_ => 1 } qw(3F000 42883 XX000);

# Writes a session's script; returns it and the ids in it.
sub script
{
	my ($number, $dbname, $role) = @_;
	my $random = random_of('session', $number);
	my $next = 1000 * $number;
	my ($sql, @ops) = ("\\set v ''\n");
	my $n = 2 + $random->(12);

	my $op = sub {
		my ($kind) = @_;
		my $id = ++$next;

		$ops{$id} = { id => $id, kind => $kind, dbname => $dbname, role => $role };
		push @ops, $id;
		return $id;
	};
	my $insert = sub { "INSERT INTO effect (id) VALUES ($_[0])" };
	my $call = sub {
		my ($id, $call) = @_;

		$sql .= "\\set v ''\n\\echo B $id\n$call\n\\echo R $id :SQLSTATE :v |:LAST_ERROR_MESSAGE\n";
	};

	while ($n-- > 0)
	{
		my $pool = weighted($random, default => 4, batch => 1);
		my $kind = weighted($random,
			execute => 8, parameters => 4, fails => 2, rows => 4, large => 2, all => 3, perform => 2, rolled_back => 2,
			launch => 8, timeout => 2, dies => 1, sleeps => 3, spills => 2, fill_tasks => 1, fill_memory => 1, goes => 1, drop => 1);

		if ($kind eq 'execute')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT supervisor.execute('" . $insert->($id) . "', pool => '$pool') AS v \\gset");
		}
		elsif ($kind eq 'parameters')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT supervisor.execute('" . $insert->('$1') . "', ARRAY['$id'], '$pool') AS v \\gset");
		}
		elsif ($kind eq 'fails')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT supervisor.execute('" . $insert->($id) . "; SELECT 1/0', pool => '$pool') AS v \\gset");
		}
		elsif ($kind eq 'rows')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT n AS v FROM supervisor.run('" . $insert->($id)
				. " RETURNING id', pool => '$pool') AS (n bigint) \\gset");
		}
		elsif ($kind eq 'large')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT count(*) || ':' || sum(i) AS v FROM supervisor.run('" . $insert->($id)
				. "; SELECT i, repeat(''x'', 500) FROM generate_series(1, 3000) i', pool => '$pool') AS (i int, x text) \\gset");
		}
		elsif ($kind eq 'all')
		{
			my @ids = map { $op->($kind) } 0 .. $random->(12);
			$sql .= "\\echo B $_\n" foreach @ids;
			$sql .= "SELECT 'R ' || (ARRAY[" . join(',', @ids) . "])[ordinality] || ' ' || coalesce(sqlstate, '00000')"
			  . " || ' ' || coalesce(tag, '') || ' |' || coalesce(message, '') FROM supervisor.execute_all(ARRAY["
			  . join(',', map { "'" . $insert->($_) . "'" } @ids) . "], '$pool');\n";
			$sql .= "\\if :ERROR\n" . join('', map { "\\echo R $_ :SQLSTATE '' |:LAST_ERROR_MESSAGE\n" } @ids) . "\\endif\n";
		}
		elsif ($kind eq 'perform')
		{
			my $id = $op->($kind);
			$call->($id, "CALL supervisor.perform('" . $insert->($id) . "', pool => '$pool');");
		}
		elsif ($kind eq 'rolled_back')
		{
			my $id = $op->($kind);
			$sql .= "BEGIN;\n";
			$call->($id, "SELECT supervisor.execute('" . $insert->($id) . "', pool => '$pool') AS v \\gset");
			$sql .= "ROLLBACK;\n";
		}
		elsif ($kind eq 'timeout')
		{
			my $id = $op->($kind);
			my $ms = $random->(200);
			$call->($id, "SELECT supervisor.execute('" . $insert->($id)
				. "; SELECT pg_sleep(0.1)', pool => '$pool', timeout => '$ms ms') AS v \\gset");
		}
		elsif ($kind eq 'dies')
		{
			my $id = $op->($kind);
			$call->($id, "SELECT supervisor.execute('" . $insert->($id)
				. "; SELECT pg_terminate_backend(pg_backend_pid())', pool => '$pool') AS v \\gset");
		}
		elsif ($kind eq 'sleeps')
		{
			my $id = $op->($kind);
			my $s = $random->(10) / 10;
			$call->($id, "SELECT supervisor.execute('" . $insert->($id)
				. "; SELECT pg_sleep($s)', pool => '$pool') AS v \\gset");
		}
		elsif ($kind eq 'spills')
		{
			# A role that is dropped may own nothing.
			my $id = $op->($kind);
			my $table = $role eq 'mallory' ? '' : 'CREATE TEMP TABLE t AS SELECT generate_series(1, 10000); ';
			$call->($id, "SELECT supervisor.execute('" . $insert->($id) . "; SET work_mem = ''64kB''; $table"
				. "SELECT md5(i::text) FROM generate_series(1, 10000) i ORDER BY 1', pool => '$pool') AS v \\gset");
		}
		elsif ($kind eq 'launch')
		{
			my @ids = map { $op->($kind) } 0 .. $random->(5);
			foreach my $id (@ids)
			{
				my $s = $random->(3) ? 0 : $random->(5) / 10;
				$sql .= "\\set t$id 0\n";
				$call->($id, "SELECT supervisor.launch('" . $insert->($id)
					. " RETURNING pg_sleep($s)::text', pool => '$pool') AS t$id \\gset");
			}
			foreach my $id (@ids)
			{
				my $end = weighted($random, read => 4, wait => 4, cancel => 3, forget => 2, leave => 1);
				$sql .= "SELECT :t$id <> 0 AS launched \\gset\n\\if :launched\n";
				$sql .= "SELECT supervisor.cancel(:t$id) AS v \\gset\n" if $end eq 'cancel';
				$sql .= "\\set v ''\nSELECT supervisor.wait(:t$id) AS v \\gset\n\\echo W $id :SQLSTATE :v\n"
				  if $end eq 'cancel' || $end eq 'wait';
				$sql .= "\\set v ''\nSELECT x AS v FROM supervisor.result(:t$id) AS (x text) \\gset\n\\echo E $id :SQLSTATE |:LAST_ERROR_MESSAGE\n"
				  . "SELECT FROM supervisor.result(:t$id) AS (x text) \\g /dev/null\n\\echo G $id :SQLSTATE |:LAST_ERROR_MESSAGE\n"
				  if $end ne 'forget' && $end ne 'leave';
				$sql .= "SELECT supervisor.forget(:t$id) AS v \\gset\n" if $end eq 'forget';
				$sql .= "\\endif\n";
			}
		}
		elsif ($kind eq 'fill_tasks')
		{
			$sql .= "SELECT supervisor.launch('SELECT pg_sleep(0.01)', pool => '$pool') FROM generate_series(1, 200) \\g /dev/null\n";
			$sql .= "\\echo F :SQLSTATE |:LAST_ERROR_MESSAGE\n";
		}
		elsif ($kind eq 'fill_memory')
		{
			$sql .= "SELECT supervisor.launch('SELECT ''' || repeat('x', 200000) || ''' || pg_sleep(0.05)', pool => '$pool')"
			  . " FROM generate_series(1, 30) \\g /dev/null\n";
			$sql .= "\\echo F :SQLSTATE |:LAST_ERROR_MESSAGE\n";
		}
		elsif ($kind eq 'goes')
		{
			$sql .= "\\q\n";
			last;
		}
		elsif ($kind eq 'drop')
		{
			$sql .= "SELECT pg_terminate_backend(pg_backend_pid());\n";
			last;
		}
	}
	return ($sql, @ops);
}

sub start_session
{
	my $number = ++$next_session;
	my $random = random_of('who', $number);
	my $dbname = weighted($random, db1 => 4, db2 => 2, gone => 1);
	my $role = weighted($random, alice => 3, bob => 2, mallory => 1, $superuser => 1);
	my ($sql, @ids) = script($number, $dbname, $role);

	spawn($target, $dbname, $role, $sql, name => "session$number", number => $number, ops => \@ids,
		node => $target, dbname => $dbname, role => $role);
}

# Says how many effects there may be after an answer.
sub rows_after
{
	my ($op, $sqlstate, $message) = @_;

	return $op->{kind} eq 'fails' || $op->{kind} eq 'dies' ? -1 : 1 if $sqlstate eq '00000';
	return 0 if $op->{kind} eq 'fails' && $sqlstate eq '22012';
	return 0 if $op->{dbname} eq 'gone' && $no_extension{$sqlstate};
	return -1 unless $call_errors{$sqlstate};
	# its worker may have ended, or it may have been canceled, after its commit
	return $op->{kind} eq 'dies' || $op->{kind} eq 'fails' ? 0 : '01' if $sqlstate =~ /^57|^55000/;
	return 0;
}

# Reads what a session has been told.
sub session_ended
{
	my ($job) = @_;
	my $name = "session $job->{number} of $job->{role} in $job->{dbname}";
	my $err = read_file("$job->{base}.err");
	my (%began, %done, %state, %answer);

	# 2: the connection was lost, or there was none
	my $whole = $job->{status} == 0;
	failure("$name: psql ended with $job->{status}: $err")
	  unless $whole || $job->{status} == 2 << 8 || $job->{killed};

	foreach my $line (split /\n/, read_file("$job->{base}.out"))
	{
		if ($line =~ /^B (\d+)$/)
		{
			$began{$1} = 1;
		}
		elsif ($line =~ /^R (\d+) (\w{5}) (.*?) ?\|(.*)$/)
		{
			my ($id, $sqlstate, $value, $message) = ($1, $2, $3, $4);
			my $op = $ops{$id};

			failure("$name: $id is answered twice: $line") if $done{$id}++;
			$answers++;
			$answered{$sqlstate}++;
			if ($op->{kind} eq 'launch' && $sqlstate eq '00000')
			{
				$op->{rows} = '01';
				next;
			}
			$op->{rows} = rows_after($op, $sqlstate, $message);
			$op->{said} = $line;
			failure("$name: $op->{kind} is answered by: $line") if $op->{rows} eq -1;
			my $expected =
			    $op->{kind} eq 'rows' ? $id
			  : $op->{kind} eq 'large' ? '3000:4501500'
			  : $op->{kind} =~ /^(execute|parameters|all|rolled_back)$/ ? 'INSERT 0 1'
			  : undef;
			failure("$name: wrong answer to $op->{kind}: $line")
			  if defined $expected && $sqlstate eq '00000' && $value ne $expected;
		}
		elsif ($line =~ /^W (\d+) (\w{5}) (.*)$/)
		{
			my ($id, $sqlstate, $state) = ($1, $2, $3);

			$answered{"wait $sqlstate $state"}++;
			if ($sqlstate ne '00000')
			{
				failure("$name: wait fails: $line")
				  unless $call_errors{$sqlstate} || $job->{dbname} eq 'gone' && $no_extension{$sqlstate};
				next;
			}
			$state{$id} = $state;
			failure("$name: wrong state: $line") unless $state =~ /^(succeeded|failed|canceled)$/;
		}
		elsif ($line =~ /^E (\d+) (\w{5}) \|(.*)$/)
		{
			my ($id, $sqlstate, $message) = ($1, $2, $3);
			my $op = $ops{$id};
			my $state = $state{$id} // ($sqlstate eq '00000' ? 'succeeded' : $sqlstate eq '57014' ? 'canceled' : 'failed');

			$answered{"result $sqlstate"}++;
			$answer{$id} = $sqlstate;
			$op->{said} = ($state{$id} // '') . " $line";
			# the session itself may be canceled while it waits
			$op->{rows} =
			    $sqlstate eq '00000' ? 1
			  : $sqlstate eq '57014' && !$state{$id} ? '01'
			  : $sqlstate eq '55000' && $state eq 'failed' ? '01'
			  : $job->{dbname} eq 'gone' && $no_extension{$sqlstate} ? '01'
			  : !$call_errors{$sqlstate} ? -1
			  : 0;
			$op->{rows} = 1 if ($state{$id} // '') eq 'succeeded';
			failure("$name: task $id is answered by: $op->{said}") if $op->{rows} eq -1;
			failure("$name: the state and the result of task $id differ: $op->{said}")
			  if $sqlstate ne '57014'
			  && !$no_extension{$sqlstate}
			  && $message !~ /^(?:result of )?task \d+ is gone/
			  && defined $state{$id}
			  && ($state eq 'succeeded') != ($sqlstate eq '00000');
		}
		elsif ($line =~ /^G (\d+) (\w{5}) \|(.*)$/)
		{
			my ($id, $sqlstate) = ($1, $2);

			$answered{"again $sqlstate"}++;
			# what the first met may have been the session's own, such as its cancel
			failure("$name: the result of task $id is told twice: $line")
			  if $sqlstate eq '00000' && $answer{$id} eq '00000';
			failure("$name: a second result is answered by: $line")
			  unless $sqlstate eq '00000' || $call_errors{$sqlstate} || $job->{dbname} eq 'gone' && $no_extension{$sqlstate};
		}
		elsif ($line =~ /^F (\w{5}) \|(.*)$/)
		{
			$answered{"fill $1"}++;
			failure("$name: filling is answered by: $line")
			  unless $1 eq '00000' || $call_errors{$1} || $job->{dbname} eq 'gone' && $no_extension{$1};
		}
	}
	foreach my $id (@{ $job->{ops} })
	{
		my $op = $ops{$id};

		$calls++ if $began{$id};
		$op->{rows} //= $began{$id} || !$whole ? '01' : 0;
		# \q is the only way to end before the end
		failure("$name: $id was never answered") if $whole && $began{$id} && !$done{$id};
	}
	unlink "$job->{base}.sql", "$job->{base}.out", "$job->{base}.err" unless @failures;
}

note 'faults';

my $pool_workers = q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND pid IS NOT NULL ORDER BY slot};
my $declared_workers = q{SELECT pid FROM supervisor.worker_status WHERE kind IN ('command', 'library') AND pid IS NOT NULL ORDER BY slot};
my $all_workers = q{SELECT pid FROM supervisor.worker_status WHERE pid IS NOT NULL ORDER BY slot};
my $supervisor = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};
my $clients = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname LIKE 'db_' ORDER BY pid};

sub set
{
	my (%settings) = @_;

	job('settings', 'postgres', join('', map { "ALTER SYSTEM SET $_ = '$settings{$_}';\n" } sort keys %settings)
		. "SELECT pg_reload_conf();\n");
	return join ' ', map { "$_='$settings{$_}'" } sort keys %settings;
}

sub nonsense
{
	my ($text) = @_;
	my $file = $target->data_dir . '/nonsense.conf';

	open my $fh, '>', $file or die "could not write $file: $!";
	print $fh $text;
	close $fh;
	$target->reload if $text;
	return $text;
}

sub some_worker
{
	my ($random) = @_;
	my @names = sort keys %workers;

	return ($names[ $random->(scalar @names) ], $kept[ $random->(scalar @kept) ]);
}

sub about_worker
{
	my ($random, $sql) = @_;
	my ($name, $dbname) = some_worker($random);

	$sql =~ s/NAME/'$name'/g;
	job('workers', $dbname, $sql);
	return "$dbname: $sql";
}

sub add_workers
{
	my ($dbname) = @_;

	return join '', map { qq{
		SELECT supervisor.add_worker('$_', $workers{$_})
		WHERE NOT EXISTS (SELECT FROM supervisor.worker WHERE name = '$_');\n} } sort keys %workers;
}

sub ddl
{
	my ($sql) = @_;

	job('ddl', 'postgres', $sql);
	return $sql;
}

# Half of the time a worker does it, whose process goes on afterwards.
sub by_anyone
{
	my ($random, $sql) = @_;

	return $random->(2) ? "CALL supervisor.perform('$sql');\n" : "$sql;\n";
}

sub restart
{
	my ($mode) = @_;

	continue_due(9e99);
	nonsense('');

	# told to stop just as it is about to recover from a crash, core's postmaster never ends
	SupervisorTest::wait_true($target, 'SELECT true') if $mode eq 'fast';
	$target->stop($mode);
	$target->start;
	return $mode;
}

faults_are(
	terminate_worker => 5 => sub { strike($_[0], 'TERM', $all_workers) },
	terminate_slot => 3 => sub {
		my $n = $_[0]->(28);
		job('terminate', 'postgres', "SELECT supervisor.terminate_worker($n, '100 ms');\n");
		return "slot $n";
	},
	terminate_supervisor => 3 => sub { strike($_[0], 'TERM', $supervisor) },
	interrupt_worker => 3 => sub { strike($_[0], 'INT', $all_workers) },
	interrupt_supervisor => 1 => sub { strike($_[0], 'INT', $supervisor) },
	reload_worker => 1 => sub { strike($_[0], 'HUP', $all_workers) },
	reload_other => 1 => sub { strike($_[0], 'HUP', $_[0]->(2) ? $supervisor : $clients) },
	cancel_task => 4 => sub {
		my $n = $_[0]->(8);
		job('cancel', 'postgres', "SELECT supervisor.cancel(task) FROM supervisor.task_status WHERE finished_at IS NULL ORDER BY task OFFSET $n LIMIT 2;\n");
		return "offset $n";
	},
	terminate_session => 3 => sub { strike($_[0], 'TERM', $clients) },
	interrupt_session => 3 => sub { strike($_[0], 'INT', $clients) },
	kill_client => 3 => \&kill_client,
	stop_worker => 4 => sub { stop($_[0], $all_workers) },
	stop_supervisor => 2 => sub { stop($_[0], $supervisor) },
	stop_session => 2 => sub { stop($_[0], $clients) },
	crash_worker => 1 => sub { strike($_[0], 'KILL', $pool_workers) },
	crash_declared => 1 => sub { strike($_[0], 'KILL', $declared_workers) },
	crash_other => 1 => sub { strike($_[0], 'KILL', $_[0]->(2) ? $supervisor : $clients) },
	resize => 5 => sub {
		my ($random) = @_;
		return set(
			'supervisor.pool_size' => (0 .. 7, 2, 3, 5)[ $random->(11) ],
			'supervisor.pools' => ('', 'batch:1', 'batch:3', 'batch:0', 'batch:2, other:2')[ $random->(5) ]);
	},
	nonsense => 2 => sub {
		my ($random) = @_;
		return nonsense((
				"supervisor.pool_size = -7\n",
				"supervisor.pools = 'a:b'\n",
				"supervisor.databases = ',,'\nsupervisor.pools = 'default:7'\n",
				"supervisor.no_such_thing = on\n",
				"supervisor.max_workers = 3\nsupervisor.stop_timeout = soon\n",
				"this is no setting\n")[ $random->(6) ]);
	},
	settings => 2 => sub {
		my ($random) = @_;
		return set((
				[ 'supervisor.idle_timeout' => '100ms' ],
				[ 'supervisor.worker_lifetime' => '500ms' ],
				[ 'supervisor.start_workers' => 'off' ],
				[ 'supervisor.databases' => 'db1' ],
				[ 'supervisor.start_timeout' => '200ms' ],
				[ 'supervisor.result_retention' => '50ms' ])[ $random->(6) ]->@*);
	},
	exhaust => 2 => sub {
		my ($random) = @_;
		return set('supervisor.pool_size' => 31) if $random->(2);
		job('hog', 'postgres', q{
			SET max_parallel_workers_per_gather = 10; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
			SET min_parallel_table_scan_size = 0; SET statement_timeout = '3s';
			SELECT count(*) FROM hog WHERE length(pg_sleep(0.05)::text) = 0});
		return 'parallel queries';
	},
	restart_slot => 1 => sub {
		my $n = $_[0]->(28);
		job('terminate', 'postgres', "SELECT supervisor.restart_worker($n, '100 ms');\n");
		return "slot $n";
	},
	restart_pool => 1 => sub {
		job('terminate', 'postgres', "SELECT supervisor.restart_pool('default', '2 s');\n");
		return '';
	},
	drop_database => 2 => sub {
		my $force = $_[0]->(2) ? ' WITH (FORCE)' : '';
		return ddl(by_anyone($_[0], "DROP DATABASE gone$force") . "CREATE DATABASE gone TEMPLATE base;\n\\c gone\n" . add_workers());
	},
	rename_database => 2 => sub {
		return ddl("BEGIN;\nALTER DATABASE gone RENAME TO renamed;\nSELECT pg_sleep(0.2);\nROLLBACK;\n") if $_[0]->(2);
		return ddl(by_anyone($_[0], 'ALTER DATABASE gone RENAME TO renamed') . by_anyone($_[0], 'ALTER DATABASE renamed RENAME TO gone'));
	},
	drop_extension => 1 => sub {
		my $end = $_[0]->(3) ? 'COMMIT' : 'ROLLBACK';
		return ddl("\\c gone\nBEGIN;\nDROP EXTENSION supervisor;\nSELECT pg_sleep(0.1);\n$end;\n$create_extension" . add_workers());
	},
	copy_database => 1 => sub {
		return ddl(by_anyone($_[0], 'CREATE DATABASE copy TEMPLATE gone') . "DROP DATABASE copy WITH (FORCE);\n");
	},
	close_database => 1 => sub {
		return ddl("ALTER DATABASE db2 ALLOW_CONNECTIONS false;\nSELECT pg_sleep(0.2);\nALTER DATABASE db2 ALLOW_CONNECTIONS true;\n");
	},
	drop_role => 2 => sub { ddl("DROP ROLE mallory;\nSELECT pg_sleep(0.1);\nCREATE ROLE mallory LOGIN;\n") },
	no_login => 2 => sub { ddl("ALTER ROLE bob NOLOGIN;\nSELECT pg_sleep(0.3);\nALTER ROLE bob LOGIN;\n") },
	role_setting => 1 => sub {
		my $n = 1 + $_[0]->(9);
		return ddl("ALTER ROLE alice SET work_mem = '${n}MB';\n");
	},
	superuser => 1 => sub { ddl("ALTER ROLE mallory SUPERUSER;\nSELECT pg_sleep(0.3);\nALTER ROLE mallory NOSUPERUSER;\n") },
	no_connect => 1 => sub {
		return ddl("REVOKE CONNECT ON DATABASE db1 FROM PUBLIC;\nSELECT pg_sleep(0.2);\nGRANT CONNECT ON DATABASE db1 TO PUBLIC;\n");
	},
	stop_declared => 2 => sub { about_worker($_[0], "SELECT supervisor.stop_worker(NAME, '1 s');\n") },
	start_declared => 2 => sub { about_worker($_[0], "SELECT supervisor.start_worker(NAME, '1 s');\n") },
	restart_declared => 2 => sub { about_worker($_[0], "SELECT supervisor.restart_worker(NAME, '1 s');\n") },
	alter_declared => 2 => sub {
		my $ms = 50 + $_[0]->(300);
		about_worker($_[0], "SELECT supervisor.alter_worker(NAME, run_every => '$ms ms') FROM supervisor.worker WHERE name = NAME AND run_every IS NOT NULL;\n");
	},
	change_declared => 2 => sub {
		my $n = $_[0]->(1000);
		about_worker($_[0], "SELECT supervisor.alter_worker(NAME, command => command || ' -- $n') FROM supervisor.worker WHERE name = NAME;\n");
	},
	instances => 1 => sub {
		my ($random) = @_;
		my $n = 1 + $random->(2);
		job('workers', $kept[ $random->(scalar @kept) ],
			"SELECT supervisor.alter_worker('pair', instances => $n) FROM supervisor.worker WHERE name = 'pair';\n");
		return $n;
	},
	remove_declared => 2 => sub { about_worker($_[0], "SELECT supervisor.remove_worker(NAME);\n") },
	add_declared => 2 => sub {
		my ($random) = @_;
		my $dbname = $kept[ $random->(scalar @kept) ];
		job('workers', $dbname, add_workers());
		return $dbname;
	},
	replace_declared => 2 => sub {
		my ($random) = @_;
		my ($name, $dbname) = some_worker($random);
		my $rollback = $random->(3) ? 'COMMIT' : 'ROLLBACK';
		job('workers', $dbname, "BEGIN;\nSELECT supervisor.remove_worker('$name');\n"
			. "SELECT supervisor.add_worker('$name', $workers{$name});\n$rollback;\n");
		return "$dbname: $name $rollback";
	},
	rolled_back_declared => 3 => sub {
		my ($random) = @_;
		my $call = (
			"supervisor.stop_worker(NAME, '1 s')",
			"supervisor.start_worker(NAME, '1 s')",
			'supervisor.remove_worker(NAME)',
			"supervisor.alter_worker(NAME, command => 'SELECT 1/0', enabled => false)")[ $random->(4) ];
		return about_worker($random, "BEGIN;\nSELECT $call;\nSELECT pg_sleep(0.2);\nROLLBACK;\n");
	},
	replace_standing => 3 => sub {
		my ($random) = @_;
		my ($name, $dbname) = some_worker($random);
		my $done = stop($random, "SELECT pid FROM supervisor.worker_status WHERE name = '$name' AND datname = '$dbname' AND pid IS NOT NULL");
		job('workers', $dbname, (
				"SELECT supervisor.alter_worker('$name', command => command || ' -- again') FROM supervisor.worker WHERE name = '$name';\n",
				"SELECT supervisor.restart_worker('$name', '1 s');\n",
				"SELECT supervisor.stop_worker('$name', '0 s');\nSELECT supervisor.start_worker('$name', '0 s');\n",
				"SELECT supervisor.remove_worker('$name');\nSELECT supervisor.add_worker('$name', $workers{$name});\n")[ $random->(4) ]);
		return "$dbname: $name, $done";
	},
	about_taken => 3 => sub {
		my ($random) = @_;
		my $call = ('stop', 'start', 'restart')[ $random->(3) ];
		my $name = $taken[ $random->(scalar @taken) ];
		job('taken', 'postgres', "SELECT supervisor.${call}_worker('$name', '1 s');\n");
		return "$call $name";
	},
	fast_restart => 1 => sub { restart('fast') },
	immediate_restart => 1 => sub { restart('immediate') });
$began = time;

note 'the model';

# Lines at WARNING or above that the faults explain.
my @explained = (
	qr/WARNING:  (could not open directory|some useless files may be left behind in old database directory) "base/,
	qr/WARNING:  worker ("[\w ]+"|in slot \d+) has not (started|stopped|restarted|ended) yet/,
	qr/WARNING:  not all workers of pool "default" have restarted yet/,
	qr/WARNING:  terminating connection because of crash of another server process/,
	qr/WARNING:  canceling (the )?wait for synchronous replication/,
	qr/FATAL:  terminating .* due to administrator command/,
	# also said to a session that is terminated just then
	qr/FATAL:  canceling authentication due to timeout/,
	qr/FATAL:  connection to client lost/,
	qr/FATAL:  (.*could not connect to the primary server|could not receive data from WAL stream|terminating walreceiver)/,
	qr/FATAL:  terminating connection due to unexpected postmaster exit/,
	qr/FATAL:  the database system is (starting up|shutting down|in recovery mode|not yet accepting connections|not accepting connections)/,
	qr/FATAL:  sorry, too many clients already/,
	qr/FATAL:  database ("(gone|db2|renamed|copy)"|\d+) (does not exist|is not currently accepting connections)/,
	# A DROP DATABASE that is cut leaves it invalid.
	qr/(WARNING|ERROR|FATAL):  (cannot connect to|cannot alter|cannot use|(autovacuum: )?skipping) invalid database "(gone|db2|renamed|copy)"/,
	qr/FATAL:  permission denied for database "db1"/,
	qr/FATAL:  role "mallory" does not exist/,
	qr/(FATAL|ERROR):  (role with OID \d+ does not exist|invalid role OID: \d+)/,
	qr/FATAL:  role "bob" is not permitted to log in/,
	qr/ERROR:  worker exited while it ran the task/,
	qr/ERROR:  canceling statement (due to|because)/,
	qr/ERROR:  canceling tasks? due to/,
	qr/ERROR:  schema "supervisor" does not exist/,
	qr/ERROR:  (function|procedure) supervisor\.\w+\(.*\) does not exist/,
	qr/ERROR:  relation "supervisor\.worker" does not exist/,
	qr/ERROR:  cache lookup failed for function \d+ at character \d+/,
	qr/ERROR:  extension "supervisor" (does not exist|already exists)/,
	qr/ERROR:  (?:result of )?task \d+ is gone/,
	qr/ERROR:  current transaction is aborted/,
	qr/ERROR:  division by zero/,
	qr/ERROR:  too many tasks/,
	qr/ERROR:  out of shared memory for/,
	qr/ERROR:  pool "(batch|default)" (does not exist|has size 0)/,
	qr/ERROR:  no worker of pool ".*" could be started/,
	qr/ERROR:  role "bob" is not permitted to log in/,
	qr/ERROR:  permission denied for database "db1"/,
	qr/ERROR:  worker "\w+" (does not exist|already exists|is not enabled)/,
	qr/ERROR:  slot \d+ is empty/,
	qr/ERROR:  worker in slot \d+ (is not running|has just been bound)/,
	qr/ERROR:  (template )?database "(gone|db2|renamed|copy)" (does not exist|already exists|is not currently accepting connections|is being accessed by other users)/,
	qr/ERROR:  source database "(gone|base)" is being accessed by other users/,
	qr/ERROR:  role "mallory" (does not exist|already exists)/);

sub check_log
{
	my ($when) = @_;

	foreach my $line (split /\n/, new_log())
	{
		# of its errors job_ended() has judged
		next if $line =~ /\] fault (ERROR|FATAL):  /;
		failure("$when: in the log: $line")
		  if $line =~ /soak: |TRAP|PANIC|terminated by signal (?!9\b)|runtime error: |AddressSanitizer|VALGRINDERROR/
		  || $line =~ /\b(WARNING|ERROR|FATAL):  / && !grep { $line =~ $_ } @explained;
	}
}

# Compares the tables with what sessions have been told.
sub check_effects
{
	my ($when) = @_;
	my %rows;

	foreach my $dbname (@kept, 'gone')
	{
		foreach my $line (query('SELECT id, role, datname, count(*) FROM effect GROUP BY 1, 2, 3', $dbname))
		{
			my ($id, $role, $datname, $count) = split /\|/, $line;
			my $op = $ops{$id};

			$rows{$id} += $count;
			failure("$when: an effect of $op->{kind} $id of $op->{role} in $op->{dbname} was made by $role in $datname")
			  unless $op->{role} eq $role && $op->{dbname} eq $datname;
		}
	}
	foreach my $op (values %ops)
	{
		my $n = $rows{ $op->{id} } // 0;

		# those in "gone" go with it
		next if !defined $op->{rows} || $op->{dbname} eq 'gone' && !$n;
		failure("$when: $op->{kind} $op->{id} has $n effects, and its session was told " . ($op->{said} // 'nothing'))
		  unless $op->{rows} =~ /$n/;
	}
}

# Everything of the server that is there when nothing goes on, besides what may differ.
sub leftovers
{
	my @left = query(q{
		SELECT format('task %s of %s, %s: %s', task, usename, state, command) FROM supervisor.task_status
		WHERE owner_pid IS NOT NULL OR finished_at IS NULL
		UNION ALL
		SELECT format('worker %s %s in slot %s: %s %s %s', name, instance, slot, state, reason, detail) FROM supervisor.worker_status
		WHERE slot IS NOT NULL AND CASE kind
			WHEN 'pool' THEN state <> 'running' OR activity = 'busy'
			WHEN 'library' THEN state <> 'running'
			ELSE datname IS NULL OR datname NOT IN ('db1', 'db2', 'gone') END
		UNION ALL
		SELECT format('lock %s of %s', locktype, pid) FROM pg_locks l
		WHERE locktype = 'advisory' AND NOT EXISTS (SELECT FROM supervisor.worker_status w WHERE w.pid = l.pid AND w.kind = 'command')
		UNION ALL
		SELECT format('prepared transaction %s', gid) FROM pg_prepared_xacts
		UNION ALL
		SELECT format('session %s: %s', pid, query) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		LIMIT 20});

	return @left;
}

# Processes that the server has, and does not know of.
sub unknown_processes
{
	my @children = SupervisorTest::children($target);
	# one loader sleeps, in no view
	my ($loader) = SupervisorTest::children($target, 'supervisor loader');
	# a child that begins while we look is known a moment later
	my %known = map { $_ => 1 } $loader // (), query(q{
		SELECT pid FROM pg_stat_activity UNION SELECT pid FROM supervisor.worker_status WHERE pid IS NOT NULL});

	return map { "process $_" } grep { !$known{$_} && kill 0, $_ } @children;
}

sub temporary_files
{
	my $data = $target->data_dir;

	return grep { -e $_ }
	  glob "$data/base/pgsql_tmp/* $data/base/[0-9]*/t[0-9]*_[0-9]* $data/pg_dynshmem/mmap.[0-9]* $data/pg_replslot/*";
}

# How many tasks, and how many bytes of commands, there is room for when all is quiet.
sub room
{
	my ($tasks) = query(q{SELECT room('{0}')});
	my @sizes = (100_000, 12_000);
	my @n = query(sprintf q{SELECT room('{%s}')}, join ',', @sizes);

	return ($tasks // 0, sum(map { $sizes[$_] * ($n[$_] // 0) } 0 .. $#sizes));
}

my @room;
my $slowest = 0;

# Looks at what holds at any time.  The views read a few rows at a time, so a task may be
# seen to run that has made way, meanwhile, for another that is seen as well.  What is
# wrong is so in each of some looks.
sub look
{
	my ($when) = @_;
	my @wrong = wrong_now();

	for (1 .. 5)
	{
		last unless @wrong;
		my %now = map { $_ => 1 } wrong_now();
		@wrong = grep { $now{$_} } @wrong;
	}
	failure("$when: $_") foreach @wrong;
}

sub wrong_now
{
	return query(q{
		SELECT format('slot %s twice', slot) FROM supervisor.worker_status GROUP BY slot HAVING count(slot) > 1
		UNION ALL
		SELECT format('process %s twice', pid) FROM supervisor.worker_status GROUP BY pid HAVING count(pid) > 1
		UNION ALL
		SELECT format('task %s twice', task) FROM supervisor.worker_status GROUP BY task HAVING count(task) > 1
		UNION ALL
		SELECT format('two of %s', backend_type) FROM pg_stat_activity WHERE TAKEN GROUP BY backend_type HAVING count(*) > 1
		UNION ALL
		SELECT format('two tasks run in slot %s', slot) FROM supervisor.task_status WHERE state = 'running' GROUP BY slot HAVING count(*) > 1
		UNION ALL
		SELECT format('more than half of the tasks are those of %s', usename) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL
		GROUP BY usename HAVING count(*) > 64 AND usename IN ('alice', 'bob')} =~ s/TAKEN/$taken/r);
}

# Ends all faults, lets the sessions end, and looks whether all is as it should be.
sub calm
{
	my ($when, $sessions) = @_;

	push @history, sprintf '%.1f s: %s', time - $began, $when;
	note $history[-1];
	continue_due(9e99);
	nonsense('');
	$sessions_wanted = 0;
	until_true('SELECT NOT pg_is_in_recovery()', 'the server is up') or return;
	pump(sub { !jobs_wait() }, $patience)
	  or failure("$when: faults do not end: " . join(' ', map { $_->{base} } values %running));
	query(q{ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()});
	my $repaired = time;
	until_true(q{
		SELECT bool_and(size = running) AND string_agg(pool || size, ' ' ORDER BY pool) = 'batch2 default4'
		FROM supervisor.pool_status}, "$when: the pools are whole", undef, $patience / 6);
	my $took = time - $repaired;
	$slowest = $took if $took > $slowest;
	repair();

	pump(sub { !%running }, $patience)
	  or failure("$when: sessions are not answered: " . join('; ', query(q{
			SELECT format('%s %s %s %s: %s', pid, usename, datname, wait_event, query) FROM pg_stat_activity
			WHERE backend_type IN ('client backend', 'supervisor pool worker')})));
	until_true(q{SELECT bool_and(size = running) FROM supervisor.pool_status}, "$when: the pools stay whole");
	until_empty($when, 'not all has gone', \&leftovers);
	check_workers($when);
	until_empty($when, 'unknown processes', \&unknown_processes) if -e '/proc/self/stat';
	until_empty($when, 'temporary files', \&temporary_files);
	check_effects($when);
	check_log($when);
	my @now = room();
	@room = @now if !@room;
	failure("$when: there was room for $room[0] tasks and $room[1] bytes, and is for $now[0] and $now[1]")
	  if $now[0] != $room[0] || abs($now[1] - $room[1]) > 100_000;		# where the free pages lie may differ
	until_empty($when, 'not all has gone', \&leftovers);
	$sessions_wanted = $sessions;
}

# Makes the databases, the roles and the declared workers anew that faults have taken.
sub repair
{
	my @sql = query(q{
		SELECT CASE
			WHEN datname = 'renamed' THEN 'ALTER DATABASE renamed RENAME TO gone;'
			WHEN datname = 'copy' OR datconnlimit = -2 THEN format('DROP DATABASE %I WITH (FORCE);', datname)
			ELSE format('ALTER DATABASE %I ALLOW_CONNECTIONS true; GRANT CONNECT ON DATABASE %1$I TO PUBLIC;', datname) END
		FROM pg_database WHERE datname <> 'base' AND datname !~ '^template'
		ORDER BY datname = 'renamed'});

	query(join "\n", @sql, q{
		CREATE ROLE mallory LOGIN;
		ALTER ROLE mallory LOGIN NOSUPERUSER;
		ALTER ROLE bob LOGIN;
		ALTER ROLE alice RESET ALL;
		CREATE DATABASE gone TEMPLATE base;});
	query(q{SELECT supervisor.start_worker(name, '0 s') FROM supervisor.worker_status WHERE source = 'registration'});
	foreach my $dbname (@kept, 'gone')
	{
		# a role's name in the table is its OID's
		query($create_extension . add_workers() . q{
			SELECT supervisor.alter_worker('mallorys', role => 'mallory');
			SELECT supervisor.start_worker(name, '0 s') FROM supervisor.worker;}, $dbname);
	}
}

# All declared workers run, and go on running; those that were taken over run once.
sub check_workers
{
	my ($when) = @_;

	until_true("SELECT string_agg(backend_type, ', ' ORDER BY backend_type) = 'pointer, wide worker' FROM pg_stat_activity WHERE $taken",
		"$when: those that were taken over run, each once");
	until_true(q{SELECT count(*) = 2 FROM supervisor.worker_status w JOIN pg_stat_activity a USING (pid)
		WHERE w.source = 'registration' AND w.state = 'running'}, "$when: under supervision");
	foreach my $dbname (@kept, 'gone')
	{
		until_true(q{
			SELECT string_agg(name || CASE WHEN state = 'running' OR name = 'failing' THEN '' ELSE ' ' || state END, ' ' ORDER BY name)
				IN ('failing mallorys pair pair service tick', 'failing mallorys pair service tick')
			FROM supervisor.worker_status WHERE kind = 'command' AND datname = current_database()},
			"$when: the workers of $dbname run", $dbname);
		my ($before) = query(q{SELECT count(*) FROM run WHERE worker = 'tick'}, $dbname);
		until_true("SELECT count(*) > $before FROM run WHERE worker = 'tick'", "$when: tick goes on in $dbname", $dbname);
	}
}

calm('idle', 6);
my ($faults, $since) = (0, $began);

# Lets 20 faults strike at least, and until half of the seconds have passed since they last did.
sub faults
{
	my ($when) = @_;
	my $end = $since + $seconds / 2;
	my $least = $faults + 20;

	until (@failures || time > $end && $faults >= $least)
	{
		fault(++$faults);
		look("at fault $faults") if $faults % 5 == 0;
		calm("after fault $faults", 6) if $faults % 40 == 0;
	}
	ok(@failures || $faults >= $least, "faults struck $when");
	$since = time;
}

# Fails over to a synchronous standby: what was said to have succeeded is there.
sub fail_over
{
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	my $sessions = $next_session;
	my $more = sub { $next_session > $sessions + 15 };

	push @history, sprintf '%.1f s: fail-over', time - $began;
	$node->backup('backup');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	query(q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});
	until_true(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby follows') or return;

	# a session of the standby goes on when it is promoted
	spawn($standby, 'db1', 'alice', "SELECT n FROM supervisor.run('SELECT 42 FROM pg_sleep(0.01)') AS (n int);\n" x 500,
		done => sub {
			my ($job) = @_;
			my $err = read_file("$job->{base}.err");
			my $read = grep { $_ eq '42' } split /\n/, read_file("$job->{base}.out");
			# others may fill what there is, after promotion
			my $full = () = $err =~ /ERROR:  53[24]00: /g;

			failure("the reader has read $read times 42, found no room $full times, and met $err") if $read + $full != 500;
		});

	$sessions_wanted = 6;
	pump($more, $patience) or failure('sessions do not go on');
	$node->stop('immediate');
	$sessions_wanted = 0;
	pump(sub { !grep { $_->{ops} } values %running }, $patience) or failure('sessions do not notice');
	check_log('at the fail-over');

	$standby->promote;
	$target = $standby;
	$sessions_wanted = 6;
	$sessions = $next_session;
	pump($more, $patience) or failure('sessions do not go on after promotion');
	calm('after the fail-over', 6);
}

faults('before the fail-over');
calm('before the fail-over', 6) unless @failures;
fail_over() unless @failures;
faults('after the fail-over');
calm('at the end', 0) unless @failures;

note join ', ', map { "$_ $struck{$_}" } sort keys %struck;
note join ', ', map { "$_: $answered{$_}" } sort keys %answered;
note sprintf 'the pools were whole again within %.1f s', $slowest;
cmp_ok($answered{'00000'} // 0, '>', 0, 'calls succeeded meanwhile');
ok(!@failures, "$faults faults, $next_session sessions, $calls calls, $answers answers: what must hold held")
  or diag join "\n", "PG_TEST_SOAK_SEED=$seed", @history, @failures;

continue_due(9e99);
$target->stop('immediate');
done_testing();
