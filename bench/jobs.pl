# The sections of bench/measure about jobs, which requires this file.

use strict;
use warnings;

use List::Util qw(max min);
use Time::HiRes qw(sleep time);

our ($work, $quick, $rounds, $bindir, %has, @report);

# What each job does.
my $insert = 'INSERT INTO bench_out VALUES (1)';

# Pools of these names have so many workers.
my %width = (one => 1, three => 3, four => 4);

# A server with those pools, and a superuser's session and one that enqueues.
sub start_for_jobs
{
	my (%settings) = @_;

	start_server(
		'supervisor.pool_size' => 0,
		'supervisor.pools' => join(', ', map { "$_:$width{$_}" } sort keys %width),
		%settings);
	pin('free');
	my $admin = Session->new('postgres');
	my $on = Session->new('bench_on');
	clean($admin);
	return ($admin, $on);
}

sub clean
{
	my ($admin) = @_;

	$admin->query('DELETE FROM supervisor.job') if $admin->row('SELECT EXISTS (SELECT FROM supervisor.job)')->[0] eq 't';
	$admin->query('TRUNCATE supervisor.job_history, bench_out, bench_queue, bench_job, bench_history');
	$admin->query('VACUUM supervisor.job');
}

sub enqueue_jobs
{
	my ($session, $n, $pool, $command, $options) = @_;

	$session->query("SELECT count(supervisor.enqueue(\$\$$command\$\$, pool => '$pool'"
		  . ($options ? ", $options" : '') . ")) FROM generate_series(1, $n)");
}

# Until so many runs have ended; asked seldom.
sub wait_for_jobs
{
	my ($admin, $n) = @_;
	my $deadline = time + 600;

	for (;;)
	{
		sleep 0.3;
		last if $admin->row("SELECT count(*) >= $n FROM supervisor.job_history")->[0] eq 't';
		die "not all jobs have run in time\n" if time > $deadline;
	}
}

# Jobs per second: they are all due when their transaction commits.
sub rate_of_jobs
{
	my ($admin, $session, $n, $pool, $command) = @_;

	$admin->query('TRUNCATE supervisor.job_history, bench_out');
	# the workers are logged in before it is measured
	enqueue_jobs($session, 2 * $width{$pool}, $pool, 'SELECT pg_sleep(0.01)');
	wait_for_jobs($admin, 2 * $width{$pool});
	$admin->query('TRUNCATE supervisor.job_history');
	enqueue_jobs($session, $n, $pool, $command);
	wait_for_jobs($admin, $n);
	my ($count, $us) = @{
		$admin->row("SELECT count(*), extract(epoch FROM max(finished_at) - min(started_at)) * 1e6"
			  . " FROM supervisor.job_history WHERE state = 'succeeded'")
	};
	die "$count of $n jobs have succeeded\n" if $count != $n;
	$admin->query('VACUUM supervisor.job');
	return $n / $us * 1e6;
}

# Fills the queue as one writes it.
sub fill_queue
{
	my ($admin, $n, $command) = @_;

	$admin->query('TRUNCATE bench_queue, bench_out');
	$admin->query("INSERT INTO bench_queue (command) SELECT '$command' FROM generate_series(1, $n)");
	$admin->query('VACUUM ANALYZE bench_queue');
}

# The script that everybody writes: a row is claimed, committed, worked on, and noted as done.
sub write_claim_script
{
	write_file("$work/claim.sql",
		"UPDATE bench_queue SET state = 'running', attempts = attempts + 1, started_at = clock_timestamp()\n"
		  . " WHERE id = (SELECT id FROM bench_queue WHERE state = 'queued' AND run_at <= clock_timestamp()\n"
		  . " ORDER BY priority, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id \\gset\n",
		"BEGIN;\n$insert;\n",
		"UPDATE bench_queue SET state = 'done', finished_at = clock_timestamp() WHERE id = :id;\nCOMMIT;\n");
}

sub rate_of_script
{
	my ($admin, $n, $clients) = @_;

	fill_queue($admin, $n, $insert);
	my ($tps, $error) = run_pgbench('bench_on', 'claim', $clients, '-M prepared -t', $n / $clients);
	die "$error\n" if defined $error;
	my ($left) = @{ $admin->row("SELECT count(*) FROM bench_queue WHERE state <> 'done'") };
	die "$left jobs of the script are left\n" if $left;
	return $tps;
}

# In background workers, with kept plans.
sub rate_of_loop
{
	my ($admin, $n, $workers) = @_;

	fill_queue($admin, $n, $insert);
	return $n * 1e6 / loop_takes($admin, 'false', $workers, $n);
}

# Microseconds.
sub loop_takes
{
	my ($admin, $known, $workers, $n) = @_;

	$admin->query("SELECT bench.queue_start($known, $workers, $n)");
	wait_until($admin, 0.2, 'SELECT bench.queue_took() IS NOT NULL', 600);
	return $admin->row('SELECT bench.queue_took()')->[0];
}

# One-row INSERTs, beside what one would write oneself.
sub jobs
{
	my %goal = (
		'on 1' => [ 4, 1.3 ], 'on 4' => [ 3.5, 1.3 ],
		'off 1' => [ 6, 3 ], 'off 4' => [ 6, 3 ]);

	write_claim_script();
	for my $sync ('on', 'off')
	{
		my ($admin, $on) = start_for_jobs(fsync => $sync, synchronous_commit => $sync);
		my $name = $sync eq 'on' ? 'synchronous' : 'asynchronous';

		note("  fsync: " . fsync_time()) if $sync eq 'on';
		for my $pool ('one', 'four')
		{
			my $width = $width{$pool};
			my $n = $quick ? 200 : $sync eq 'on' ? 2000 : 10_000;
			my %rate;

			for my $round (1 .. $rounds)
			{
				for my $which (rotated($round, qw(jobs script loop)))
				{
					push @{ $rate{$which} },
					    $which eq 'jobs' ? rate_of_jobs($admin, $on, $n, $pool, $insert)
					  : $which eq 'script' ? rate_of_script($admin, $quick ? $n : $n / 4, $width)
					  : rate_of_loop($admin, $n, $width);
				}
			}
			for ([ jobs => 'jobs' ], [ script => 'SKIP LOCKED script' ], [ loop => 'SKIP LOCKED loop' ])
			{
				my ($which, $series) = @$_;
				point('jobs', $series, "$name commit, $width worker" . ($width > 1 ? 's' : ''), $rate{$which});
			}
			for ([ 'script', 'SKIP LOCKED script, two commits, pgbench -M prepared', 0 ],
				[ 'loop', 'SKIP LOCKED loop by SPI, one commit', 1 ])
			{
				my ($which, $against, $i) = @$_;
				report(
					what => "jobs, $name commit, $width worker" . ($width > 1 ? 's' : ''),
					against => $against,
					unit => '/s',
					figures => $rate{jobs},
					bases => $rate{$which},
					goal => [ '>=', $goal{"$sync $width"}[$i] ],
					doc => 'jobs');
			}
		}
		Session::close_all();
		stop_server();
	}
}

# What a commit waits for, to say on which disk it was.
sub fsync_time
{
	my $output = `'$bindir/pg_test_fsync' -s 1 -f '$work/fsync.out' 2>&1`;
	return $output =~ /^\s*fdatasync\s+[\d.]+ ops\/sec\s+(\d+) usecs/m ? "$1 us for fdatasync" : 'unknown';
}

# Other queues.  Returns undef and says so where they are not there.
sub peers
{
	my $versions = `cd '$work/peers' 2>/dev/null && node '$work/peers.mjs' versions 2>/dev/null`;
	my ($graphile, $boss, $node) = ($versions // '') =~ /^(\S*) (\S*) (v\S+)$/ or return;
	return { graphile => $graphile, boss => $boss, node => $node };
}

sub peer
{
	my (@args) = @_;
	my $url = "postgres:///postgres?host=$work&port=5432&user=postgres";
	my ($kind, @rest) = @args;

	alarm 300;
	my $output = `cd '$work/peers' && node '$work/peers.mjs' $kind '$url' @rest 2>&1`;
	alarm 0;
	die "$kind: $output\n" if $? || $output !~ /^([\d.]+)$/m;
	return $1;
}

sub jobs_peers
{
	my $peers = peers();
	my $n = $quick ? 100 : 1500;
	my (%rate, %workers);
	my @rows = (
		[ 'graphile 1', 'graphile', [1], 'one', 6 ], [ 'graphile 4', 'graphile', [4], 'four', 5 ],
		[ 'graphile 24', 'graphile', [24], 'four', 5 ], [ 'local queue 24', 'graphile-local', [24], 'four', 2 ],
		[ 'boss 1', 'boss', [1], 'one', 15 ], [ 'boss 24', 'boss', [24], 'four', 1.5 ]);

	for (qw(graphile boss))
	{
		my $name = $_ eq 'boss' ? 'pg-boss' : 'graphile-worker';
		push @report, { what => "$name is not there: nothing to compare with", note => 1 }
		  if !$peers || $peers->{$_} eq '';
	}
	return if !$peers;
	my ($admin, $on) = start_for_jobs();
	@rows = grep { $peers->{ $_->[1] =~ /boss/ ? 'boss' : 'graphile' } ne '' } @rows;
	for my $round (1 .. $rounds)
	{
		for my $which (rotated($round, 'one', 'four', map { $_->[0] } @rows))
		{
			my ($row) = grep { $_->[0] eq $which } @rows;
			$admin->query('TRUNCATE bench_out');
			push @{ $rate{$which} },
			    $row ? peer($row->[1], $quick ? $n : $n / 3, @{ $row->[2] })
			  : rate_of_jobs($admin, $on, $n, $which, $insert);
		}
	}
	for (@rows)
	{
		my ($which, $kind, $args, $pool, $goal) = @$_;
		my $peer = $kind eq 'boss' ? "pg-boss $peers->{boss}, batch $args->[0]"
		  : "graphile-worker $peers->{graphile}" . ($kind eq 'graphile' ? '' : ', local queue') . ", concurrency $args->[0]";

		report(
			what => "the same, without fsync, $width{$pool} worker" . ($width{$pool} > 1 ? 's' : ''),
			against => $peer,
			unit => '/s',
			figures => $rate{$pool},
			bases => $rate{$which},
			goal => [ '>=', $goal ],
			doc => 'jobs_peers');
		point('jobs_peers', ($kind =~ s/^graphile-local/local queue/r =~ s/^graphile$/graphile-worker/r =~ s/^boss/pg-boss/r) . ", $args->[0]",
			'', $rate{$which});
	}
	point('jobs_peers', "jobs, $width{$_} worker" . ($width{$_} > 1 ? 's' : ''), '', $rate{$_}) for 'one', 'four';
}

# What the least costs that nobody can leave out.
sub jobs_floor
{
	my $n = $quick ? 500 : 20_000;
	my ($admin, $on) = start_for_jobs(synchronous_commit => 'off');
	my (@figures, @bases);

	for my $round (1 .. $rounds)
	{
		for my $which (rotated($round, 0, 1))
		{
			if ($which)
			{
				push @figures, rate_of_jobs($admin, $on, $n, 'one', 'SELECT 1');
				next;
			}
			$admin->query('TRUNCATE bench_job, bench_history; ALTER SEQUENCE bench_job_id RESTART');
			$admin->query("SELECT count(bench.enqueue('SELECT 1')) FROM generate_series(1, $n)");
			$admin->query('VACUUM ANALYZE bench_job');
			push @bases, $n * 1e6 / loop_takes($admin, 'true', 1, $n);
		}
	}
	report(
		what => 'jobs, SELECT 1, asynchronous commit, 1 worker',
		against => 'SPI loop over known ids: delete, run, note',
		unit => '/s',
		figures => \@figures,
		bases => \@bases,
		goal => [ '>=', 0.75 ],
		doc => 'jobs');
}

# Many in one statement, by whoever has them in a table.
sub enqueue
{
	my $n = $quick ? 2000 : 100_000;
	my ($admin) = start_for_jobs('supervisor.run_jobs' => 'off');
	my (@figures, @bases);

	for my $round (1 .. $rounds)
	{
		for my $which (rotated($round, 0, 1))
		{
			my $function = $which ? "supervisor.enqueue('SELECT 1', pool => 'one')" : "bench.enqueue('SELECT 1')";
			my ($us) = @{ $admin->row("SELECT median FROM bench.loop(\$\$SELECT count($function) FROM generate_series(1, $n)\$\$, 1, 0)") };

			push @{ $which ? \@figures : \@bases }, $n / $us * 1e6;
			clean($admin) if $which == 0;
			$admin->query('TRUNCATE supervisor.job') if $which;
		}
	}
	report(
		what => "enqueue of $n in one statement",
		against => 'INSERT of that row in PL/pgSQL',
		unit => '/s',
		figures => \@figures,
		bases => \@bases,
		goal => [ '>=', 2.5 ],
		doc => 'enqueue');
}

# From the commit that enqueues to the start of the run, in an idle pool.
sub jobs_start
{
	my $n = $quick ? 10 : 100;
	my $peers = peers();
	my ($admin, $on) = start_for_jobs(synchronous_commit => 'off');
	my (%us, @bases);

	for my $round (1 .. $rounds)
	{
		for my $which (rotated($round, 'jobs', $peers && $peers->{graphile} ne '' ? 'graphile' : ()))
		{
			if ($which eq 'graphile')
			{
				push @bases, peer('graphile-start', $n, 4);
				next;
			}
			rate_of_jobs($admin, $on, 20, 'four', 'SELECT 1');
			$admin->query('TRUNCATE supervisor.job_history');
			for (1 .. $n)
			{
				sleep 0.02;
				enqueue_jobs($on, 1, 'four', 'SELECT 1');
			}
			wait_for_jobs($admin, $n);
			push @{ $us{jobs} }, $admin->row('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - enqueued_at)) * 1e6'
				  . ' FROM supervisor.job_history')->[0];
		}
	}
	report(
		what => 'from the call of enqueue, its commit included, to the start of the run',
		against => $peers ? "graphile-worker $peers->{graphile}" : undef,
		unit => 'us',
		figures => $us{jobs},
		faster => 1,
		@bases ? (bases => \@bases, goal => [ '>=', 5 ]) : (),
		doc => @bases ? 'enqueue' : undef);
}

# Recurring ones that are due in the same second, until the last has run.
sub jobs_due
{
	my $n = $quick ? 50 : 1000;
	my (@figures, @bases);

	start_server(
		$has{pg_cron} ? (shared_preload_libraries => 'supervisor, supervisor_bench, pg_cron',
			'cron.database_name' => 'postgres',
			'cron.host' => $work,
			'cron.log_run' => 'off',
			'cron.log_statement' => 'off') : (),
		'supervisor.pool_size' => 8);
	pin('free');
	my $admin = Session->new('postgres');
	clean($admin);
	for my $round (1 .. min($rounds, 3))
	{
		$admin->query("SELECT count(supervisor.schedule('job ' || i, '* * * * *', '$insert')) FROM generate_series(1, $n) i");
		wait_for_jobs($admin, $n);
		push @figures, $admin->row("SELECT extract(epoch FROM max(finished_at) - date_trunc('minute', min(started_at))) * 1e6"
			  . " FROM (SELECT * FROM supervisor.job_history ORDER BY finished_at LIMIT $n) h")->[0];
		$admin->query('SELECT count(supervisor.unschedule(name)) FROM supervisor.job');
		clean($admin);
		next if !$has{pg_cron} || $quick;
		$admin->query('CREATE EXTENSION IF NOT EXISTS pg_cron');
		$admin->query('CREATE UNLOGGED TABLE IF NOT EXISTS bench_runs (at timestamptz, pid integer)');
		my %m = cron_batch($admin, $n);
		push @bases, $m{last};
	}
	report(
		what => "$n recurring jobs due in the same second: until the last has run",
		against => $has{pg_cron} ? 'pg_cron' : undef,
		unit => 'us',
		figures => \@figures,
		faster => 1,
		@bases ? (bases => \@bases, goal => [ '>=', 50 ]) : (),
		doc => @bases ? 'enqueue' : undef);
}

# Of jobs that are due in one pool, the first so many.
sub rate_of_first
{
	my ($admin, $n, $before) = @_;
	my ($us) = @{
		$admin->row('SELECT extract(epoch FROM max(finished_at) - min(finished_at)) * 1e6 FROM'
			  . " (SELECT finished_at FROM supervisor.job_history ORDER BY finished_at OFFSET $before LIMIT $n) h")
	};
	return $us / $n;
}

# A job while very many are due, and while few are.
sub jobs_waiting
{
	my $many = $quick ? 20_000 : 1_000_000;
	my $n = $quick ? 500 : 5000;
	my ($admin, $on) = start_for_jobs(synchronous_commit => 'off', max_wal_size => '4GB');
	my (@figures, @bases);

	for my $round (1 .. $rounds)
	{
		# few
		my $rate = rate_of_jobs($admin, $on, $n, 'one', $insert);
		push @bases, 1e6 / $rate;
	}
	$admin->query('TRUNCATE supervisor.job_history');
	enqueue_jobs($on, $many, 'one', $insert);
	wait_for_jobs($admin, $n * ($rounds + 1));
	$admin->query('ALTER SYSTEM SET supervisor.run_jobs = off');
	$admin->query('SELECT pg_reload_conf()');
	sleep 1;
	push @figures, rate_of_first($admin, $n, $n * $_) for 0 .. $rounds - 1;
	report(
		what => "a job, while $many wait",
		against => "while $n and fewer wait",
		unit => 'us',
		figures => \@figures,
		bases => \@bases,
		goal => [ '<=', 1.15 ],
		doc => 'jobs_scale');
	$admin->query('TRUNCATE supervisor.job');
	$admin->query('ALTER SYSTEM RESET supervisor.run_jobs');
}

# A job while the dead rows of very many that have run cannot be removed; without them
# it is measured before and after, as the machine may have changed meanwhile.
sub jobs_pinned
{
	my $many = $quick ? 20_000 : 1_000_000;
	my $n = $quick ? 500 : 5000;
	my %settings = (synchronous_commit => 'off', max_wal_size => '4GB');
	my ($admin, $on) = start_for_jobs(%settings);
	my (@figures, @bases);

	push @bases, 1e6 / rate_of_jobs($admin, $on, $n, 'one', $insert) for 1 .. $rounds;
	my $pin = Session->new('bench_off');
	$pin->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$pin->query('SELECT 1');
	fill_queue($admin, $many, $insert);
	$admin->query("UPDATE bench_queue SET state = 'done'");
	enqueue_jobs($on, $many, 'one', 'SELECT 1');
	wait_for_jobs($admin, $many + $n);
	push @figures, 1e6 / rate_of_jobs($admin, $on, $n, 'one', $insert) for 1 .. $rounds;

	$admin->query("INSERT INTO bench_queue (command) VALUES ('$insert')");
	my ($look) = @{ $admin->row("SELECT median FROM bench.loop('SELECT id FROM bench_queue WHERE state = ''queued'' AND run_at <= clock_timestamp()"
			  . " ORDER BY priority, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED', 3, 0)") };

	# nobody can have cleaned up meanwhile, and all that was known is forgotten
	my $with = first_after_restart(%settings);
	$admin = Session->new('postgres');
	$on = Session->new('bench_on');
	clean($admin);
	push @bases, 1e6 / rate_of_jobs($admin, $on, $n, 'one', $insert) for 1 .. $rounds;
	my @both = map { ($bases[$_] + $bases[ $_ + $rounds ]) / 2 } 0 .. $rounds - 1;
	clean($admin);
	my $without = first_after_restart(%settings);
	report(
		what => "a job, with $many dead rows pinned",
		against => 'without, before and after',
		unit => 'us',
		figures => \@figures,
		bases => \@both,
		goal => [ '<=', 1.15 ],
		doc => 'jobs_scale');
	report(
		what => "by how much the first job after a restart starts later with $many dead rows",
		against => 'one look of the SKIP LOCKED script',
		unit => 'us',
		figures => [ $with - $without ],
		bases => [$look],
		goal => [ '<=', 1 ],
		doc => 'jobs_scale');
	clean(Session->new('postgres'));
}

# Microseconds from the start of the server to that of a job which is due by then.
sub first_after_restart
{
	my (%settings) = @_;
	my $session = Session->new('bench_on');

	Session->new('postgres')->query('TRUNCATE supervisor.job_history');
	enqueue_jobs($session, 1, 'one', $insert, q{run_at => clock_timestamp() + interval '2 s'});
	Session::close_all();
	stop_server();
	sleep 3;
	start_server(
		'supervisor.pool_size' => 0,
		'supervisor.pools' => join(', ', map { "$_:$width{$_}" } sort keys %width),
		%settings);
	$session = Session->new('postgres');
	wait_for_jobs($session, 1);
	return $session->row('SELECT extract(epoch FROM started_at - pg_postmaster_start_time()) * 1e6 FROM supervisor.job_history')->[0];
}

# Many short ones behind one that lasts, which keeps its own row, and all dead ones, from VACUUM.
sub jobs_long_head
{
	my $n = $quick ? 500 : 20_000;
	my ($admin, $on) = start_for_jobs(synchronous_commit => 'off');
	my (@figures, @bases);

	for my $round (1 .. $rounds)
	{
		for my $which (rotated($round, 0, 1))
		{
			if ($which)
			{
				enqueue_jobs($on, 1, 'four', 'SELECT pg_sleep(600)', 'priority => 5');
				wait_until($admin, 0.1, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
			}
			push @{ $which ? \@figures : \@bases }, 1e6 / rate_of_jobs($admin, $on, $n, $which ? 'four' : 'three', $insert);
			next unless $which;
			$admin->query('SELECT supervisor.cancel_job(id) FROM supervisor.job');
			wait_until($admin, 0.1, 'SELECT count(*) = 0 FROM supervisor.job');
		}
	}
	report(
		what => "$n jobs, each, behind one that lasts",
		against => 'without that one, with as many workers',
		unit => 'us',
		figures => \@figures,
		bases => \@bases,
		goal => [ '<=', 1.15 ],
		doc => 'jobs_scale');
}

# Nothing is due: nobody wakes up.
sub jobs_idle
{
	my $seconds = $quick ? 3 : 30;
	my $many = $quick ? 1000 : 100_000;
	my ($admin, $on) = start_for_jobs(synchronous_commit => 'off');

	enqueue_jobs($on, $many, 'one', 'SELECT 1', q{run_at => now() + interval '1 day'});
	$admin->query(q{SELECT count(supervisor.schedule('s' || i, '0 0 1 1 *', 'SELECT 1', pool => 'one')) FROM generate_series(1, 1000) i});
	rate_of_jobs($admin, $on, 20, 'one', 'SELECT 1');
	my %who = map { $_->[0] => $_->[1] } $admin->rows('SELECT pid, backend_type FROM pg_stat_activity'
		  . " WHERE backend_type ~ '^(supervisor|logical replication launcher)'");

	# what was counted of the last runs is told by then
	sleep 15;
	my %before = map { $_ => switches($_) } keys %who;
	sleep $seconds;
	my %woken;
	$woken{ $who{$_} } = max($woken{ $who{$_} } // 0, (switches($_) // $before{$_}) - $before{$_}) for keys %who;
	for (grep { /^supervisor/ } sort keys %woken)
	{
		report(
			what => "$_, $many future jobs and 1000 schedules, $seconds s: most voluntary switches",
			against => 'logical replication launcher',
			unit => '',
			figures => [ $woken{$_} ],
			bases => [ $woken{'logical replication launcher'} ],
			difference => 1,
			goal => [ '<=', 0 ],
			doc => 'jobs_idle');
	}
	$admin->query('TRUNCATE supervisor.job');
}

1;
