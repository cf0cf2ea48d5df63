# A ledger: while sessions enqueue transfers between accounts, random faults strike, and a
# model says what must hold:
#
# - a transfer whose transaction has committed is done once, one that was rolled back never;
#   also in savepoints, in prepared transactions, where a procedure commits on its way, with
#   a key, as a chain, when it fails at first.  Where the answer to COMMIT was lost, the
#   transaction's state tells, and the row that it has written says the same;
# - the balances are what the transfers have made of them, and their sum never changes;
# - supervisor.job_run has one success of each, or the one cancel, and of each attempt one row;
#   of identical ones that were done as one it says which has done it;
# - jobs of a key, and runs of a recurring one, are never two at a time;
# - each is run as the role of who has enqueued it;
# - when the faults have stopped, all is done, and nothing is left: no job, claim or mark, and
#   supervisor.health() has nothing to say.
#
# In the middle the server is lost, and all goes on at its synchronous standby.
#
# PG_TEST_LEDGER_SECONDS says how long, 0 not at all: for each five minutes the server is lost
# once more.  PG_TEST_LEDGER_SEED takes the seed that an earlier run has printed: the faults are
# the same, one by one, and so is what each session sends; when they meet is up to the machine.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorChaos;
use SupervisorTest qw(set_clock with_clock);

if ($PostgreSQL::Test::Utils::windows_os)
{
	plan skip_all => 'needs signals';
}

my $seconds = $ENV{PG_TEST_LEDGER_SECONDS} // 12;

plan skip_all => 'PG_TEST_LEDGER_SECONDS is 0' if !$seconds;

$seed = $ENV{PG_TEST_LEDGER_SEED} || 1 + (time * 1000) % 1_000_000;
note "PG_TEST_LEDGER_SEED=$seed PG_TEST_LEDGER_SECONDS=$seconds";

note 'a server';

# Starts servers, where that can be done with a clock that can be set.
sub start_with_clock
{
	my ($start) = @_;

	return $^O eq 'linux' ? with_clock($start) : $start->();
}

my $max_workers = 16;
my $node = PostgreSQL::Test::Cluster->new('ledger');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', SupervisorTest::conf(
	'shared_preload_libraries' => 'supervisor',
	'deadlock_timeout' => '50ms',
	'log_checkpoints' => 'off',
	'log_line_prefix' => '%m [%p] %a %e ',
	'log_statement' => 'none',
	'max_connections' => 50,
	'max_prepared_transactions' => 40,
	'max_worker_processes' => 24,
	'restart_after_crash' => 'on',
	'supervisor.job_failure_retention' => '10000d',
	'supervisor.job_retention' => '10000d',
	'supervisor.max_workers' => $max_workers,
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'side:2',
	'supervisor.restart_delay' => '50ms',
	'supervisor.restart_delay_max' => '500ms',
	'supervisor.restart_window' => 0,
	'supervisor.stop_timeout' => '1s'));
start_with_clock(sub { $node->start });
$target = $node;
$superuser = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql('postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE DATABASE bank});

# Sessions enqueue by an INSERT into "intent"; what has been done is in "effect", which no key
# keeps from having it twice.
$node->safe_psql('bank', q{
	CREATE EXTENSION supervisor;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 1000);
	INSERT INTO account SELECT generate_series(1, 12);
	CREATE TABLE intent (op bigint, kind text, job bigint, role name DEFAULT session_user);
	CREATE INDEX ON intent (op);
	CREATE INDEX ON intent (job);
	CREATE TABLE effect (op bigint, source int, target int, amount int, job bigint DEFAULT supervisor.current_job(),
		role name DEFAULT session_user);
	CREATE INDEX ON effect (job);
	CREATE TABLE once (op bigint PRIMARY KEY);
	CREATE SEQUENCE tried;
	GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
	GRANT ALL ON SEQUENCE tried TO PUBLIC;

	CREATE FUNCTION transfer(op bigint, source int, target int, amount int, seconds float DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE public.account SET balance = balance - $4 WHERE id = $2;
		PERFORM pg_sleep($5);
		UPDATE public.account SET balance = balance + $4 WHERE id = $3;
		INSERT INTO public.effect VALUES ($1, $2, $3, $4);
	END $$;
	-- nobody else is here for that word
	CREATE FUNCTION alone(word text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT pg_try_advisory_xact_lock(hashtext(session_user || ' ' || word)) THEN
			RAISE WARNING 'ledger: two of % at a time', word;
		END IF;
	END $$;
	CREATE FUNCTION keyed(op bigint, source int, target int, amount int, key text) RETURNS void LANGUAGE sql AS
		'SELECT public.alone($5); SELECT public.transfer($1, $2, $3, $4, 0.01)';
	-- some, when they are tried for the first time
	CREATE FUNCTION flaky(op bigint, source int, target int, amount int) RETURNS void LANGUAGE sql AS
		'SELECT public.transfer($1, $2, $3, $4); SELECT 1 / (nextval(''public.tried'') % 2)';
	CREATE FUNCTION fails(op bigint, source int, target int, amount int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.transfer($1, $2, $3, $4);
		RAISE division_by_zero;
	END $$;
	CREATE FUNCTION chain(op bigint, source int, target int, amount int) RETURNS void LANGUAGE sql AS $$
		SELECT public.transfer($1, $2, $3, $4);
		INSERT INTO public.intent SELECT -$1, 'chained',
			supervisor.enqueue('SELECT public.transfer($1::bigint, $2::int, $3::int, $4::int)', ARRAY[(-$1)::text, $3::text, $2::text, $4::text], retry_delay => '20 ms')
	$$;
	-- not atomic: what runs twice has its effect once
	CREATE PROCEDURE transfer_once(op bigint, source int, target int, amount int) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('public.tried');
		COMMIT;
		INSERT INTO public.once VALUES ($1) ON CONFLICT DO NOTHING;
		IF FOUND THEN
			PERFORM public.transfer($1, $2, $3, $4);
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.01);
	END $$;
	CREATE FUNCTION refresh(what text) RETURNS void LANGUAGE sql AS
		'SELECT public.alone($1); SELECT pg_sleep(0.01); INSERT INTO public.effect VALUES (0)';
	-- is another one after each crash and restart
	CREATE FUNCTION life() RETURNS text LANGUAGE sql SECURITY DEFINER AS
		'SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE backend_type = ''checkpointer''';
	CREATE FUNCTION state_of(xid xid8) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		RETURN pg_xact_status(xid);
	EXCEPTION WHEN invalid_parameter_value THEN
		RETURN 'lost';
	END $$;

	-- What must not be when nothing goes on.
	CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE sql AS $$
		WITH run AS MATERIALIZED (
			SELECT job, count(*) FILTER (WHERE state = 'succeeded') AS succeeded, count(*) FILTER (WHERE state = 'failed') AS failed,
				count(*) FILTER (WHERE state = 'canceled') AS canceled, max(merged_into) AS merged_into,
				string_agg(format('%s %s %s %s', attempt, state, sqlstate, message), ', ' ORDER BY finished_at) AS runs
			FROM supervisor.job_run GROUP BY job),
		done AS MATERIALIZED (
			SELECT job, count(*) AS n FROM effect GROUP BY job)
		SELECT format('%s is enqueued %s times', op, count(*)) FROM intent GROUP BY op HAVING count(*) > 1
		UNION ALL
		SELECT format('%s %s, job %s, has %s effects, and its runs are: %s', kind, op, job, coalesce(n, 0), runs)
		FROM intent LEFT JOIN run USING (job) LEFT JOIN done USING (job)
		WHERE (CASE kind
			WHEN 'fails' THEN n IS NULL AND succeeded = 0 AND failed > 0 AND canceled < 2
			WHEN 'canceled' THEN coalesce(n, 0) = succeeded AND succeeded + canceled = 1
			WHEN 'same' THEN succeeded = 1 AND canceled = 0 AND CASE WHEN merged_into IS NULL THEN n = 1
				ELSE n IS NULL AND merged_into IN (SELECT d.job FROM done d) END
			ELSE n = 1 AND succeeded = 1 AND canceled = 0 AND merged_into IS NULL END) IS NOT TRUE
		UNION ALL
		SELECT format('attempt %s of job %s is noted %s times', attempt, job, count(*))
		FROM supervisor.job_run JOIN intent USING (job) WHERE state <> 'canceled' AND kind NOT IN ('fails', 'held') GROUP BY job, attempt HAVING count(*) > 1
		UNION ALL
		SELECT format('job %s, which nobody has enqueued, has runs: %s', job, runs)
		FROM run WHERE job NOT IN (SELECT job FROM intent) AND job NOT IN (SELECT id FROM supervisor.job WHERE name IS NOT NULL)
		UNION ALL
		SELECT format('%s, which nobody has enqueued, was done by job %s', op, job) FROM effect WHERE job NOT IN (SELECT job FROM intent) AND op IS NOT NULL
		UNION ALL
		SELECT format('%s was done by job %s as %s', e.op, e.job, e.role)
		FROM effect e JOIN intent i ON i.job = e.job
		WHERE e.role <> i.role OR e.op <> CASE i.kind WHEN 'same' THEN 0 ELSE i.op END
		UNION ALL
		SELECT format('account %s has %s', id, balance) FROM account
		WHERE balance <> 1000 + (SELECT coalesce(sum(amount) FILTER (WHERE target = id), 0) - coalesce(sum(amount) FILTER (WHERE source = id), 0) FROM effect)
		UNION ALL
		SELECT format('all accounts have %s', sum(balance)) FROM account HAVING sum(balance) <> 12000
		UNION ALL
		SELECT format('recurring job %s has %s effects, and its runs are: %s', job, n, runs)
		FROM (SELECT id AS job FROM supervisor.job WHERE name IS NOT NULL) j LEFT JOIN run USING (job) LEFT JOIN done USING (job)
		WHERE n IS DISTINCT FROM succeeded OR canceled > 0
		UNION ALL
		SELECT format('job %s is %s, %s', id, state, reason) FROM supervisor.job
		WHERE name IS NULL AND NOT (state = 'f' AND id IN (SELECT job FROM intent WHERE kind = 'fails'))
		LIMIT 20
	$$});

# The one is renamed at times.
my @databases = qw(bank branch);
$node->safe_psql('postgres', 'CREATE DATABASE branch TEMPLATE bank');
$node->safe_psql($_, q{SELECT supervisor.schedule('interest', '1 s', 'SELECT public.alone(''interest''); INSERT INTO public.effect DEFAULT VALUES', role => 'alice')})
  foreach @databases;

note 'sessions';

# Every transfer that a session enqueues: op => { transaction, kind, never };
# and every transaction, by its first op: { session, dbname, node, ends, ops, told, xid, life, failed, log }.
my (%ops, %transactions);
my (%kinds, %ends, %told);

# The answers that faults may bring to a call.
my %call_errors = map { $_ => 1 } qw(28000 3D000 40001 40P01 42501 42704 53300 55000 57P01 57P02 57P03 25P02);

# The command of a transfer, and options.
sub transfer
{
	my ($random, $op, $kind) = @_;
	my ($from, $to, $amount) = (1 + $random->(12), 1 + $random->(12), 1 + $random->(100));
	my $pool = weighted($random, default => 3, side => 1);
	my $priority = $random->(10);
	my ($more, $call, $options) = ('', 'SELECT public.transfer', '');

	if ($kind eq 'slow')
	{
		$more = sprintf ', %.2f', $random->(25) / 100;
	}
	elsif ($kind eq 'keyed')
	{
		my $key = 'k' . $random->(3);

		($call, $more, $options) = ('SELECT public.keyed', ", \$\$$key\$\$", ", key => '$key'");
	}
	elsif ($kind eq 'committing')
	{
		($call, $options) = ('CALL public.transfer_once', ', atomic => false');
	}
	elsif ($kind eq 'later')
	{
		$options = sprintf ", run_at => clock_timestamp() + interval '%d ms'", $random->(600);
	}
	elsif ($kind eq 'held')
	{
		$options = q{, run_at => 'infinity'};
	}
	elsif ($kind eq 'fails')
	{
		($call, $options) = ('SELECT public.fails', ', max_attempts => 2');
	}
	elsif ($kind =~ /^(chain|flaky)$/)
	{
		$call = "SELECT public.$kind";
	}
	$options .= ", pool => '$pool', priority => $priority, retry_delay => '20 ms'";
	if ($kind eq 'same')
	{
		my $what = 's' . $random->(2);

		return "supervisor.enqueue('SELECT public.refresh(\$1)', ARRAY['$what'], key => '$what', retry_delay => '20 ms')";
	}
	return "supervisor.enqueue('$call(\$1::bigint, \$2::int, \$3::int, \$4::int$more)', ARRAY['$op', '$from', '$to', '$amount']$options)";
}

# Writes a session's script.
sub script
{
	my ($number, $dbname) = @_;
	my $random = random_of('session', $number);
	my $next = 1000 * $number;
	my $sql = '';
	my @transactions;

	for (0 .. 2 + $random->(6))
	{
		my $ends = weighted($random, commit => 8, rollback => 3, prepared => 3, 'prepared and rolled back' => 2);
		my $n = weighted($random, 1 => 4, 2 => 2, 5 => 1, 20 => 1);
		my $t = $next + 1;
		my ($after, $savepoint) = ('', '');

		push @transactions, $t;
		$transactions{$t} = { session => $number, dbname => $dbname, node => $target, ends => $ends, ops => [] };
		$sql .= "\\echo B $t\nBEGIN;\nSELECT concat_ws(' ', 'X', $t, pg_current_xact_id(), life());\n";
		while ($n-- > 0)
		{
			my $op = ++$next;
			my $kind = weighted($random,
				plain => 6, slow => 2, keyed => 4, committing => 4, later => 2, held => 1, fails => 1, chain => 2, flaky => 2, canceled => 1, same => 3);
			my $never = 0;

			if (!$savepoint)
			{
				# each has its name: to go back to an earlier one would make good what has failed since
				$savepoint = weighted($random, '' => 4, "RELEASE s$op" => 1, "ROLLBACK TO s$op" => 1);
				$sql .= "SAVEPOINT s$op;\n" if $savepoint;
			}
			$never = 1 if $savepoint =~ /^ROLLBACK/;
			$ops{$op} = { transaction => $t, kind => $kind, never => $never };
			push @{ $transactions{$t}{ops} }, $op;
			$sql .= "INSERT INTO intent SELECT $op, '$kind', " . transfer($random, $op, $kind) . " RETURNING job AS j$op \\gset\n\\echo S $op :SQLSTATE |:LAST_ERROR_MESSAGE\n";
			if ($savepoint && ($n == 0 || $random->(2)))
			{
				$sql .= "$savepoint;\n";
				$savepoint = '';
			}
			next if $never;
			my $what = weighted($random, nothing => 10, wait => 1, alter => 1);
			$after .= "SELECT supervisor.retry_job(:j$op) \\g /dev/null\n" if $kind eq 'held';
			$after .= "SELECT supervisor.cancel_job(:j$op) \\g /dev/null\n" if $kind eq 'canceled';
			$after .= sprintf "SELECT supervisor.alter_job(:j$op, pool => '%s', priority => %d) \\g /dev/null\n",
			  weighted($random, default => 1, side => 1), $random->(10) if $what eq 'alter';
			$after .= "\\set v ''\nSELECT coalesce(supervisor.wait_job(:j$op, '1 s'), '') AS v \\gset\n\\echo W $op :SQLSTATE :v\n" if $what eq 'wait' && $kind ne 'held';
		}
		my $pause = $random->(3) ? '' : sprintf "SELECT pg_sleep(%.2f) \\g /dev/null\n", $random->(30) / 100;
		if ($ends =~ /^prepared/)
		{
			my $gid = $ends eq 'prepared' ? "commit $t" : "rollback $t";
			my $end = $ends eq 'prepared' ? 'COMMIT' : 'ROLLBACK';

			$sql .= "PREPARE TRANSACTION '$gid';\n\\echo P $t :SQLSTATE\n$pause$end PREPARED '$gid';\n\\echo C $t :SQLSTATE\n";
		}
		else
		{
			$sql .= $pause . uc($ends) . ";\n\\echo C $t :SQLSTATE\n";
		}
		$sql .= $after if $ends eq 'commit' || $ends eq 'prepared';
	}
	return ($sql, @transactions);
}

$start_session = sub {
	my $number = ++$next_session;
	my $random = random_of('who', $number);
	my $dbname = weighted($random, bank => 4, branch => 1);
	my $role = weighted($random, alice => 2, bob => 1);
	my ($sql, @transactions) = script($number, $dbname);

	spawn($target, $dbname, $role, $sql, name => "session$number", number => $number, ops => \@transactions);
};

my %waited;

# Reads what a session has been told.
$session_ended = sub {
	my ($job) = @_;
	my $name = "session $job->{number}";
	my $err = read_file("$job->{base}.err");
	my (%began, %ended);

	# 2: the connection was lost, or there was none
	failure("$name: psql ended with $job->{status}: $err") unless $job->{status} == 0 || $job->{status} == 2 << 8 || $job->{killed};
	foreach my $line (split /\n/, read_file("$job->{base}.out"))
	{
		if ($line =~ /^B (\d+)$/)
		{
			$began{$1} = 1;
		}
		elsif ($line =~ /^X (\d+) (\d+) (\S+)$/)
		{
			@{ $transactions{$1} }{qw(xid life)} = ($2, $3);
		}
		elsif ($line =~ /^S (\d+) (\w{5}) \|(.*)$/)
		{
			my ($op, $sqlstate, $message) = ($1, $2, $3);
			my $transaction = $transactions{ $ops{$op}{transaction} };

			failure("$name: $ops{$op}{kind} $op is answered by $sqlstate: $message") unless $sqlstate eq '00000' || $call_errors{$sqlstate};
			$transaction->{failed} = 1 if $sqlstate ne '00000' && !$ops{$op}{never};
		}
		elsif ($line =~ /^P (\d+) (\w{5})$/)
		{
			failure("$name: PREPARE is answered by $2") unless $2 eq '00000' || $call_errors{$2};
			$transactions{$1}{failed} = 1 if $2 ne '00000';
		}
		elsif ($line =~ /^C (\d+) (\w{5})$/)
		{
			# what has failed before is rolled back by COMMIT, and not prepared
			failure("$name: the end of $1 is answered by $2") unless $2 eq '00000' || $call_errors{$2} || $transactions{$1}{failed};
			$ended{$1} = $2 eq '00000' || $transactions{$1}{failed};
		}
		elsif ($line =~ /^W (\d+) (\w{5}) ?(.*)$/)
		{
			my ($op, $sqlstate, $state) = ($1, $2, $3);
			my $kind = $ops{$op}{kind};
			my $expected = $kind eq 'fails' ? 'failed|canceled' : $kind eq 'canceled' ? 'succeeded|canceled' : 'succeeded';

			# of one whose transaction has failed there is no number to wait for
			next if $transactions{ $ops{$op}{transaction} }{failed};
			$waited{ $sqlstate eq '00000' ? $state || 'no end' : $sqlstate }++;
			failure("$name: the wait for $kind $op is answered by $sqlstate $state")
			  unless $sqlstate eq '00000' ? $state =~ /^($expected)?$/ : $call_errors{$sqlstate};
		}
	}
	foreach my $t (@{ $job->{ops} })
	{
		my $transaction = $transactions{$t};
		my $rolls_back = $transaction->{ends} =~ /roll/ || $transaction->{failed};

		$transaction->{log} = read_file("$job->{base}.out");
		$transaction->{told} = !$began{$t} && !$job->{killed} || $rolls_back ? 'rolled back' : $ended{$t} ? 'committed' : 'nothing';
		$told{ $began{$t} ? $transaction->{told} : 'not begun' }++;
		$ends{ $transaction->{ends} }++ if $began{$t};
	}
	unlink "$job->{base}.sql", "$job->{base}.out", "$job->{base}.err" unless @failures;
};

note 'faults';

my $pool_workers = q{SELECT pid FROM supervisor.worker_status WHERE kind = 'pool' AND pid IS NOT NULL ORDER BY slot};
my $runs = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor pool worker' AND state = 'active' ORDER BY pid};
my $supervisor = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'supervisor'};
my $loader = q{SELECT pid FROM supervisor.worker_status WHERE kind = 'loader' AND pid IS NOT NULL};
my $clients = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname IN ('bank', 'branch') ORDER BY pid};

sub ddl
{
	my ($sql) = @_;

	job('ddl', 'postgres', $sql);
	return $sql;
}

# Settings that are so for a while.
sub for_a_while
{
	my ($seconds, %settings) = @_;

	job('settings', 'postgres', join '', (map { "ALTER SYSTEM SET $_ = '$settings{$_}';\n" } sort keys %settings),
		"SELECT pg_reload_conf(), pg_sleep($seconds);\n", (map { "ALTER SYSTEM RESET $_;\n" } sort keys %settings), "SELECT pg_reload_conf();\n");
	return join ' ', map { "$_='$settings{$_}'" } sort keys %settings;
}

# Something is done to the tables of jobs.
sub to_tables
{
	my ($random, $sql) = @_;
	my $dbname = $databases[ $random->(2) ];

	job('tables', $dbname, $sql);
	return "$dbname: $sql";
}

sub restart
{
	my ($mode) = @_;

	continue_due(9e99);
	# told to stop just as it is about to recover from a crash, core's postmaster never ends
	SupervisorTest::wait_true($target, 'SELECT true') if $mode eq 'fast';
	$target->stop($mode);
	start_with_clock(sub { $target->start });
	return $mode;
}

faults_are(
	terminate_worker => 6 => sub { strike($_[0], 'TERM', $pool_workers) },
	terminate_run => 6 => sub { strike($_[0], 'TERM', $runs) },
	terminate_supervisor => 3 => sub { strike($_[0], 'TERM', $supervisor) },
	terminate_loader => 2 => sub { strike($_[0], 'TERM', $loader) },
	terminate_session => 5 => sub { strike($_[0], 'TERM', $clients) },
	interrupt_run => 2 => sub { strike($_[0], 'INT', $runs) },
	kill_client => 3 => \&kill_client,
	stop_worker => 2 => sub { stop($_[0], $pool_workers) },
	stop_supervisor => 1 => sub { stop($_[0], $supervisor) },
	crash_run => 4 => sub { strike($_[0], 'KILL', $runs) },
	crash_other => 2 => sub { strike($_[0], 'KILL', $_[0]->(2) ? $supervisor : $clients) },
	fast_restart => 1 => sub { restart('fast') },
	immediate_restart => 2 => sub { restart('immediate') },
	resize => 4 => sub {
		my ($random) = @_;
		return for_a_while($random->(10) / 10,
			'supervisor.pool_size' => 1 + $random->(6),
			'supervisor.pools' => ('side:1', 'side:4', 'side:0', 'side:2, other:2', '')[ $random->(5) ]);
	},
	settings => 2 => sub {
		my ($random) = @_;
		return for_a_while($random->(10) / 10, (
				[ 'supervisor.idle_timeout' => '50ms' ],
				[ 'supervisor.worker_lifetime' => '200ms' ],
				[ 'supervisor.run_jobs' => 'off' ],
				[ 'supervisor.databases' => 'bank' ])[ $random->(4) ]->@*);
	},
	rename_database => 3 => sub {
		# sessions there would be in its way
		return ddl(q{
			ALTER DATABASE renamed RENAME TO branch;
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'branch' AND backend_type = 'client backend';
			ALTER DATABASE branch RENAME TO renamed;
			SELECT pg_sleep(0.2);
			ALTER DATABASE renamed RENAME TO branch;
		});
	},
	no_login => 3 => sub { ddl("ALTER ROLE alice NOLOGIN;\nSELECT pg_sleep(0.3);\nALTER ROLE alice LOGIN;\n") },
	no_connect => 2 => sub {
		ddl("REVOKE CONNECT ON DATABASE bank FROM PUBLIC;\nSELECT pg_sleep(0.2);\nGRANT CONNECT ON DATABASE bank TO PUBLIC;\n");
	},
	superuser => 1 => sub { ddl("ALTER ROLE bob SUPERUSER;\nSELECT pg_sleep(0.2);\nALTER ROLE bob NOSUPERUSER;\n") },
	role_setting => 2 => sub {
		my $level = ('read committed', 'repeatable read', 'serializable')[ $_[0]->(3) ];
		ddl("ALTER ROLE alice SET default_transaction_isolation = '$level';\n");
	},
	rewrite_table => 2 => sub { to_tables($_[0], $_[0]->(2) ? "VACUUM FULL supervisor.job;\n" : "REINDEX TABLE supervisor.job;\n") },
	lock_table => 2 => sub { to_tables($_[0], "BEGIN;\nLOCK TABLE supervisor.job, supervisor.job_history;\nSELECT pg_sleep(0.3);\nROLLBACK;\n") },
	# for longer than who notes the end of a run waits
	lock_rows => 2 => sub { to_tables($_[0], "BEGIN;\nSELECT FROM supervisor.job FOR UPDATE;\nSELECT pg_sleep(1.3);\nROLLBACK;\n") },
	change_rows => 2 => sub {
		my $end = $_[0]->(2) ? 'COMMIT' : 'ROLLBACK';
		to_tables($_[0], "BEGIN;\nUPDATE supervisor.job SET priority = 9 - priority WHERE name IS NULL;\nSELECT pg_sleep(0.1);\n$end;\n");
	},
	$^O eq 'linux' ? (clock => 2 => sub { my $s = 60 + $_[0]->(600); set_clock($s); return "$s s ahead" }) : ());

note 'the model';

# Lines at WARNING or above that the faults explain, beside what job_ended() and sessions are told.
my @explained = (
	qr/terminating connection because of crash of another server process/,
	qr/canceling (the )?wait for synchronous replication/,
	qr/job \d+ has failed with SQLSTATE (22012|40001|40P01|57P01|57P02|57014)$/,
	qr/worker in slot \d+ has not ended yet/);

sub check_log
{
	my ($when) = @_;

	foreach my $line (split /\n/, new_log())
	{
		failure("$when: in the log: $line")
		  if $line =~ /ledger: |TRAP|PANIC|terminated by signal (?!9\b)|runtime error: |AddressSanitizer|VALGRINDERROR| XX\w{3} (?!LOG)/
		  || $line =~ /WARNING:  / && !grep { $line =~ $_ } @explained;
	}
}

# Compares what is enqueued with what sessions have been told.
sub check_told
{
	my ($when) = @_;
	my (%enqueued, %state);

	foreach my $dbname (@databases)
	{
		$enqueued{$_} = 1 foreach query('SELECT op FROM intent WHERE op > 0', $dbname);

		# a server in its place gives the same numbers to others
		my %unknown = map { $_->{xid} => $_ } grep { $_->{told} eq 'nothing' && $_->{xid} && $_->{dbname} eq $dbname && $_->{node} == $target } values %transactions;
		next if !%unknown;
		foreach my $line (query('SELECT xid, state_of(xid::xid8), life() FROM unnest(ARRAY[' . join(',', map { "'$_'" } sort keys %unknown) . ']) AS xid', $dbname))
		{
			my ($xid, $state, $life) = split /\|/, $line;

			# and so does a server that has crashed before it had written of a transaction
			next if $state eq 'committed' && $unknown{$xid}{life} ne $life && !grep { $enqueued{$_} } @{ $unknown{$xid}{ops} };
			$unknown{$xid}{told} = $state eq 'committed' ? 'committed' : 'rolled back';
			$told{"nothing, and was $unknown{$xid}{told}"}++;
		}
	}
	foreach my $op (keys %ops)
	{
		my $transaction = $transactions{ $ops{$op}{transaction} };
		my $told = $transaction->{told};
		my $is = $enqueued{$op} ? 1 : 0;
		my $due = $ops{$op}{never} || $told eq 'rolled back' ? 0 : $told eq 'committed' ? 1 : $is;

		failure("$when: $ops{$op}{kind} $op of session $transaction->{session}, which was told that it is $told, is " . ($is ? '' : 'not ') . "enqueued:\n$transaction->{log}") if $is != $due;
		$kinds{ $ops{$op}{kind} } += $is;
	}
	# it stays so
	%ops = %transactions = ();
}

sub check_tables
{
	my ($when) = @_;

	foreach my $dbname (@databases)
	{
		failure("$when: in $dbname: $_") foreach query('SELECT wrong()', $dbname);
	}
}

# What is known of jobs when none waits or runs.
sub leftovers
{
	my @left;

	foreach my $dbname (@databases)
	{
		push @left, query(q{
			SELECT format('claim on job %s', job) FROM supervisor.get_job_runs()
			UNION ALL
			SELECT format('prepared transaction %s', gid) FROM pg_prepared_xacts
			UNION ALL
			SELECT format('lock %s of %s', locktype, pid) FROM pg_locks WHERE locktype = 'advisory'
			UNION ALL
			SELECT format('task %s: %s', task, command) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL
			UNION ALL
			SELECT concat_ws(', ', what, hint) FROM supervisor.health()
			LIMIT 20}, $dbname);
	}

	# a file with a head of 16 bytes, and two marks for each worker, whose state is first
	my $marks = read_file($target->data_dir . '/pg_stat_tmp/supervisor.marks');
	my $size = (length($marks) - 16) / (2 * $max_workers);
	push @left, map { unpack("x[16] x[@{[$size * $_]}] i", $marks) ? "mark $_" : () } 0 .. 2 * $max_workers - 1;
	return @left;
}

# Ends what faults and sessions have left in the middle.
sub repair
{
	query(q{ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()}) if query(q{SELECT name FROM pg_file_settings WHERE sourcefile ~ 'auto.conf$' AND name !~ 'synchronous'});
	query('GRANT CONNECT ON DATABASE bank TO PUBLIC') if join('', query(q{SELECT has_database_privilege('alice', 'bank', 'CONNECT')})) eq 'f';
	query('ALTER ROLE alice LOGIN') if join('', query(q{SELECT rolcanlogin FROM pg_roles WHERE rolname = 'alice'})) eq 'f';
	query('ALTER ROLE bob NOSUPERUSER') if join('', query(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'bob'})) eq 't';
	foreach my $dbname (query(q{SELECT datname FROM pg_database WHERE datname IN ('bank', 'branch', 'renamed')}))
	{
		query(join("\n", query(q{
			SELECT format('%s PREPARED %L;', split_part(gid, ' ', 1), gid) FROM pg_prepared_xacts WHERE database = current_database()}, $dbname)), $dbname);
		query(q{SELECT supervisor.retry_job(id) FROM supervisor.job WHERE name IS NULL AND state = 'w' AND run_at = 'infinity'}, $dbname);
	}
	until_empty('at the repair', 'a name', sub { query(q{ALTER DATABASE renamed RENAME TO branch; SELECT datname FROM pg_database WHERE datname = 'renamed'}) })
	  if query(q{SELECT datname FROM pg_database WHERE datname = 'renamed'});
}

my $slowest = 0;

# Ends all faults, lets the sessions end, and looks whether all is as it should be.
sub calm
{
	my ($when, $sessions) = @_;

	push @history, sprintf '%.1f s: %s', time - $began, $when;
	note $history[-1];
	my @times = time;
	my $phase = sub { push @times, time; return sprintf '%s: %.1f s', $_[0], $times[-1] - $times[-2] };
	my @phases;
	continue_due(9e99);
	until_true('SELECT NOT pg_is_in_recovery()', 'the server is up') or return;
	pump(sub { !jobs_wait() }, $patience) or failure("$when: faults do not end: " . join(' ', map { $_->{base} } values %running));
	push @phases, $phase->('faults');

	# Then nothing has all jobs looked for again, as a restart would: who dies in a run, or just before or
	# after one, has to give back what he had.
	foreach my $n (1 .. 15)
	{
		strike(random_of($when, $n), 'TERM', $runs);
		pump(undef, 0.05);
	}
	$sessions_wanted = 0;
	push @phases, $phase->('ends');
	pump(sub { !%running }, $patience)
	  or failure("$when: sessions are not answered: " . join('; ', query(q{SELECT format('%s %s %s: %s', pid, datname, wait_event, query) FROM pg_stat_activity WHERE state <> 'idle'})));
	push @phases, $phase->('sessions');
	repair();
	push @phases, $phase->('repair');

	my $repaired = time;
	until_true(q{SELECT count(*) = 0 FROM supervisor.job WHERE name IS NULL AND state = 'w'}, "$when: all jobs of $_ are done", $_) foreach @databases;
	my $took = time - $repaired;
	$slowest = $took if $took > $slowest;
	if (@failures)
	{
		diag join "\n", query(q{SELECT format('job %s of %s in %s: %s %s, due at %s, tried %s times, pid %s, %s', job, usename, pool, state, reason, run_at, attempts, pid, command)
			FROM supervisor.job_status LIMIT 10}, $_) foreach @databases;
		return;
	}
	push @phases, $phase->('jobs');
	check_told($when);
	check_tables($when);

	# what has failed for good is canceled, or it would be told of
	query(q{SELECT supervisor.cancel_job(job) FROM supervisor.job_status WHERE state = 'failed'}, $_) foreach @databases;
	until_empty($when, 'not all has gone', \&leftovers);
	check_tables($when);
	check_log($when);
	push @phases, $phase->('rest');
	note "@phases";
	$sessions_wanted = $sessions;
}

my $standbys = 0;

# Fails over to a synchronous standby.
sub fail_over
{
	my $standby = PostgreSQL::Test::Cluster->new('standby' . ++$standbys);
	my $sessions = $next_session;
	my $more = sub { $next_session > $sessions + 10 };

	push @history, sprintf '%.1f s: fail-over', time - $began;
	$target->backup('backup');
	$standby->init_from_backup($target, 'backup', has_streaming => 1);
	start_with_clock(sub { $standby->start });
	query(q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});
	until_true(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby follows') or return;
	pump($more, $patience) or failure('sessions do not go on');
	$target->stop('immediate');
	$sessions_wanted = 0;
	pump(sub { !grep { $_->{ops} } values %running }, $patience) or failure('sessions do not notice');
	check_log('at the fail-over');

	$standby->promote;
	$target = $standby;
	$sessions_wanted = 5;
	$sessions = $next_session;
	pump($more, $patience) or failure('sessions do not go on after promotion');
	calm('after the fail-over', 5);
}

my $faults = 0;

# Lets ten faults strike at least, and until so many seconds have passed.
sub faults
{
	my ($seconds) = @_;
	my $end = time + $seconds;
	my $least = $faults + 10;

	until (@failures || time > $end && $faults >= $least)
	{
		fault(++$faults);
		calm("after fault $faults", 5) if $faults % 40 == 0;
	}
}

$sessions_wanted = 5;
my $parts = 2 + int($seconds / 300);
foreach my $part (1 .. $parts)
{
	last if @failures;
	faults($seconds / $parts);
	calm('before a fail-over', 5) if !@failures && $part < $parts;
	fail_over() if !@failures && $part < $parts;
}
calm('at the end', 0) unless @failures;

sub counts
{
	my (%counts) = @_;

	return join ', ', map { "$_ $counts{$_}" } sort keys %counts;
}

my %ran = map { $_ => 0 } qw(succeeded failed canceled merged);
foreach my $dbname (@failures ? () : @databases)
{
	foreach my $line (query(q{SELECT CASE WHEN merged_into IS NULL THEN state ELSE 'merged' END, count(*) FROM supervisor.job_run GROUP BY 1}, $dbname))
	{
		my ($state, $n) = split /\|/, $line;

		$ran{$state} += $n;
	}
}
my @figures = (
	"$faults faults: " . counts(%struck) . ", fail-over $standbys",
	"$next_session sessions; transactions: " . counts(%ends) . '; which were told: ' . counts(%told),
	'enqueued: ' . counts(%kinds),
	'runs: ' . counts(%ran) . '; waits: ' . counts(%waited),
	sprintf 'what was left was done within %.1f s', $slowest);
defined $ENV{PG_TEST_LEDGER_SECONDS} ? diag($_) : note($_) foreach @figures;
ok(@failures || $ran{succeeded} > 0 && $faults > 0, 'jobs were run while faults struck');
ok(!@failures, 'what must hold held') or diag join "\n", "PG_TEST_LEDGER_SEED=$seed", @history, @failures;

continue_due(9e99);
$target->stop('immediate');
done_testing();
