# What tests share that let faults strike while sessions go on: sessions and faults come
# from a seed, one loop looks after all of them, and what must not be is collected.

package SupervisorChaos;

use strict;
use warnings;

use Exporter 'import';
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(
  $seed $target $superuser $patience $began $sessions_wanted $next_session $start_session $session_ended
  %running @failures @history %struck
  random_of weighted spawn continue_due failure pump read_file query until_true until_empty
  job jobs_wait strike stop kill_client faults_are fault new_log);

# The first of these are for the test to set: the seed, where all goes on, and who may do anything there.
our ($seed, $target, $superuser);
our $patience = $PostgreSQL::Test::Utils::timeout_default;
our $began = time;

# So many sessions there shall be, and so many there have been; how to start another one, and what to do
# when one has ended.  A session is a psql process that spawn() was told the "ops" of.
our ($sessions_wanted, $next_session) = (0, 0);
our ($start_session, $session_ended);

# The psql processes that run: pid => { base, status, lane, ops, since and more }.
our %running;

# What has failed; the run ends at the first look at it.  What has been done; how often which fault.
our (@failures, @history, %struck);

# Returns a generator of numbers below its argument, always the same for the same words.
sub random_of
{
	my $x = 1;

	$x = ($x * 31 + $_) % 2147483648 foreach unpack 'C*', join ' ', $seed, @_;
	return sub {
		my ($n) = @_;

		$x = ($x * 1103515245 + 12345) % 2147483648;
		return int($x / 65536) % $n;
	};
}

# One of the keys of a list of key => weight.
sub weighted
{
	my ($random, @list) = @_;
	my $sum = 0;

	$sum += $list[ 2 * $_ + 1 ] foreach 0 .. $#list / 2;
	my $n = $random->($sum);
	while (@list)
	{
		my ($key, $weight) = splice @list, 0, 2;

		return $key if ($n -= $weight) < 0;
	}
}

my $scripts = 0;
my $directory;

# Starts psql on a script.  %opts: name of its files; done, what to call at its end, and what else
# is to be known of it then.
sub spawn
{
	my ($node, $dbname, $user, $script, %opts) = @_;

	$directory //= PostgreSQL::Test::Utils::tempdir();
	my $base = "$directory/" . ($opts{name} // 'job' . ++$scripts);

	append_to_file("$base.sql", $script);
	my $connstr = $node->connstr($dbname) . " user=$user";
	$connstr .= ' application_name=fault' if $opts{expected};
	my $pid = fork;
	die "could not fork: $!" unless defined $pid;
	if (!$pid)
	{
		open STDIN, '<', "$base.sql" or POSIX::_exit(126);
		open STDOUT, '>', "$base.out" or POSIX::_exit(126);
		open STDERR, '>', "$base.err" or POSIX::_exit(126);
		exec 'psql', '-XAtqw', '-v', 'VERBOSITY=verbose', '-d', $connstr
		  or POSIX::_exit(127);
	}
	$running{$pid} = { base => $base, since => time, %opts };
	return $pid;
}

# Processes that stand still, and until when: pid => time.
my %stopped;

sub continue_due
{
	my ($now) = @_;

	foreach my $pid (keys %stopped)
	{
		next if $stopped{$pid} > $now;
		kill 'CONT', $pid;
		delete $stopped{$pid};
	}
}

END
{
	continue_due(9e99);
	kill 'KILL', keys %running if %running;
}

sub failure
{
	my ($what) = @_;

	$what = substr($what, 0, 2000);
	push @failures, $what;
	note "FAILED: $what";
}

# Looks after the children, for as long as $until says false, and no longer than $limit seconds.
sub pump
{
	my ($until, $limit) = @_;
	my $start = time;

	while (1)
	{
		continue_due(time);
		foreach my $pid (keys %running)
		{
			next unless waitpid($pid, WNOHANG) == $pid;
			my $job = delete $running{$pid};

			$job->{status} = $?;
			$session_ended->($job) if $job->{ops};
			job_ended($job) if $job->{expected};
			$job->{done}->($job) if $job->{done};
		}
		start_jobs();
		$start_session->()
		  while $sessions_wanted > grep { $_->{ops} } values %running;
		return 1 if $until && $until->();
		return 0 if defined $limit && time - $start > $limit;
		select(undef, undef, undef, 0.02);
	}
}

sub read_file
{
	my ($name) = @_;

	return -e $name ? slurp_file($name) : '';
}

# Returns what a query says, in lines; nothing if the server can't be asked now.
sub query
{
	my ($sql, $dbname, $node) = @_;
	my $out = '';
	my $over = 0;

	spawn($node // $target, $dbname // 'postgres', $superuser, $sql,
		done => sub { $over = 1; $out = read_file("$_[0]->{base}.out") });
	pump(sub { $over }, $patience) or failure("no answer to $sql");
	return split /\n/, $out;
}

# Waits until a query says "t", while all else goes on.
sub until_true
{
	my ($sql, $what, $dbname, $limit) = @_;
	my $end = time + ($limit // $patience);

	while (!@failures && time < $end)
	{
		return 1 if join('', query($sql, $dbname)) eq 't';
		pump(undef, 0.1);
	}
	failure("timed out waiting until $what") unless @failures;
	return 0;
}

# Waits until $what holds of the list that $list returns; what is left is a failure.
sub until_empty
{
	my ($when, $what, $list) = @_;
	my $end = time + $patience;
	my @left;

	while (!@failures && time < $end)
	{
		@left = $list->();
		return unless @left;
		pump(undef, 0.1);
	}
	failure("$when: $what: " . join('; ', @left)) unless @failures;
}

# Scripts of faults that may take a while: in each lane one at a time.
my @queued;

sub job
{
	my ($lane, $dbname, $sql) = @_;

	push @queued, { lane => $lane, dbname => $dbname, sql => $sql };
}

sub start_jobs
{
	my %busy = map { ($_->{lane} // '') => 1 } values %running;
	my @later;

	foreach my $job (@queued)
	{
		if ($busy{ $job->{lane} }++)
		{
			push @later, $job;
			next;
		}
		spawn($target, $job->{dbname}, $superuser, "SET statement_timeout = '10s';\n$job->{sql}",
			lane => $job->{lane}, expected => 1);
	}
	@queued = @later;
}

# Are there such scripts that have not ended?
sub jobs_wait
{
	return @queued || grep { $_->{lane} } values %running;
}

# What DDL and calls of the faults may meet, because of the others.
my %fault_errors = map { $_ => 1 } qw(
  22023 28000 3F000 42883 42P01 28P01 3D000 42501 42601 42704 42710 42P04 42704 2BP01 53300 53400 55000 55006 57014 57P01 57P02 57P03 57P05 23505 40001 25P02 25001);

sub job_ended
{
	my ($job) = @_;

	foreach my $line (split /\n/, read_file("$job->{base}.err"))
	{
		my ($sqlstate, $message) = $line =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}): (.*)/ or next;

		failure("a fault met $line: " . read_file("$job->{base}.sql")) unless $fault_errors{$sqlstate};
	}
}

# Sends a signal to one of the processes that a query finds.
sub strike
{
	my ($random, $signal, $sql) = @_;
	my $n = $random->(1000);
	my @pids = grep { /^\d+$/ } query($sql);

	return "$signal: nobody there" unless @pids;
	my $pid = $pids[ $n % @pids ];
	kill $signal, $pid;
	return "$signal to $pid";
}

# Kills the psql of a session.
sub kill_client
{
	my ($random) = @_;
	my $n = $random->(1000);
	my @pids = sort { $a <=> $b } grep { $running{$_}->{ops} } keys %running;

	return 'nobody there' unless @pids;
	my $job = $running{ $pids[ $n % @pids ] };
	$job->{killed} = 1;
	kill 'KILL', $pids[ $n % @pids ];
	return "session $job->{number}";
}

sub stop
{
	my ($random, $sql) = @_;
	my $time = (1 + $random->(30)) / 10;
	my $done = strike($random, 'STOP', $sql);

	$stopped{$1} = time + $time if $done =~ /to (\d+)/;
	return "$done for $time s";
}

my (%fault, %weight);

# The faults that there are: a list of name => weight => code.
sub faults_are
{
	while (@_)
	{
		my ($name, $weight, $code) = splice @_, 0, 3;

		$fault{$name} = $code;
		$weight{$name} = $weight;
	}
}

# The faults to come: first each one once, then each as often as it weighs, and so on.
my @deck;
my $shuffles = 0;

sub next_fault
{
	if (!@deck)
	{
		my $random = random_of('deck', $shuffles);
		my @cards = map { ($_) x ($shuffles ? $weight{$_} : 1) } sort keys %weight;

		push @deck, splice @cards, $random->(scalar @cards), 1 while @cards;
		$shuffles++;
	}
	return shift @deck;
}

# Each fault has numbers of its own, so that what it meets does not change the next.
sub fault
{
	my ($n) = @_;
	my $random = random_of('fault', $n);
	my $name = next_fault();

	$struck{$name}++;
	push @history, sprintf '%.1f s: fault %d, %s', time - $began, $n, $name;
	my $done = $fault{$name}->($random);
	$done =~ s/\s+/ /g;
	$history[-1] .= ": $done";
	note $history[-1];
	pump(undef, $random->(40) / 100) if $random->(3);
}

my %checked;

# Returns what is in the target's log since the last look.
sub new_log
{
	my $file = $target->logfile;
	my $log = slurp_file($file, $checked{$file} // 0);

	$checked{$file} += length $log;
	return $log;
}

1;
