# What the tests share, on top of PostgreSQL::Test::Cluster, for servers 15 to 19.

package SupervisorTest;

use strict;
use warnings;

use Exporter 'import';
use Fcntl;
use File::Basename;
use File::Copy;
use File::Path qw(make_path);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT_OK = qw(value becomes refused until_true workers_become quote eventually survivors stop_process continue_process set_clock with_clock used_memory own_memory);

# Whom the first five, and used_memory(), ask: a reference to a variable with a node or a session.
my $asked;

sub ask
{
	($asked) = @_;
}

# Returns what $sql returns.  %opts, as of the others, but for a session: node, dbname, user.
sub value
{
	my ($sql, %opts) = @_;
	my $who = $opts{node} // $$asked;

	return $who->query_safe($sql) if $who->isa('SupervisorTest::Session');
	return $who->safe_psql($opts{dbname} // 'postgres', $sql, extra_params => psql_params(%opts));
}

# Waits until $sql is true.  While the server crashes, psql may end before it is asked.
sub poll
{
	my ($node, $sql) = @_;
	my $is;

	eventually(sub { defined($is = eval { $node->poll_query_until('postgres', $sql) }) || $@ !~ /Broken pipe/ });
	die $@ if !defined $is;
	return $is;
}

# Tests that $sql becomes true.
sub becomes
{
	my ($sql, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok($$asked->wait_true($sql), $property) if $$asked->isa('SupervisorTest::Session');
	return ok(poll($$asked, $sql), $property);
}

# Tests that the error of $sql has that SQLSTATE; returns stderr.  %opts: session,
# which to ask; message and hint, patterns.
sub refused
{
	my ($sql, $sqlstate, $property, %opts) = @_;
	my $who = $opts{session} // $$asked;
	my $in_session = $who->isa('SupervisorTest::Session') && !defined $opts{user};
	my ($got, $stderr) =
	  $in_session ? $who->error_of($sql) : error_of($who->{supervisor_node} // $who, $sql, %opts);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($got, $sqlstate, $property) or diag $stderr;
	like($stderr, $opts{message}, "$property: message") if $opts{message};
	like($stderr, qr/HINT:  .*$opts{hint}/, "$property: hint") if $opts{hint};
	return $stderr;
}

# Waits until $sql is true.
sub until_true
{
	my ($sql, $what) = @_;

	wait_true($$asked, $sql, defined $what ? "timed out waiting until $what" : undef);
}

# Tests that the declared workers of a database come to be as $states says: name,
# state and reason of each.  %opts: node.
sub workers_become
{
	my ($database, $states, $property, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $query = qq{
		SELECT coalesce(string_agg(concat_ws(' ', name, state, reason), ', ' ORDER BY name, instance), '')
		FROM supervisor.worker_status WHERE kind IN ('command', 'library') AND declared_in = '$database'};

	# what is so need not stay so
	return pass($property) if ($opts{node} // $$asked)->poll_query_until('postgres', $query, $states);
	is(value($query, %opts), $states, $property);
}

# Returns a text as a literal.
sub quote
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

# Calls $is_so until it returns true; returns whether that came to be.
sub eventually
{
	my ($is_so) = @_;

	for (my $i = 0; $i < 20 * $PostgreSQL::Test::Utils::timeout_default; $i++)
	{
		return 1 if $is_so->();
		usleep(50_000);
	}
	return 0;
}

# Does that process run?  One that nobody has waited for yet does not.
sub runs
{
	my ($pid) = @_;

	return 0 if !kill 0, $pid;
	open my $stat, '<', "/proc/$pid/stat" or return kill 0, $pid;
	return (<$stat> // '') =~ /^\d+ \(.*\) [^ZX]/;
}

# The server's processes, but the postmaster; with a title, those that have it.
sub children
{
	my ($node, $title) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @pids = map { (eval { slurp_file($_) } // '') =~ /^(\d+) \(.*\) [^ZX] $postmaster /s ? $1 : () } glob '/proc/[0-9]*/stat';

	return @pids if !defined $title;
	return grep { (eval { slurp_file("/proc/$_/cmdline") } // '') =~ /$title/ } @pids;
}

# Waits until none of these processes runs; returns those that still do.
sub survivors
{
	my @pids = @_;

	eventually(sub { !(@pids = grep { runs($_) } @pids) });
	return "@pids";
}

# Starts a node with the extension preloaded, and created in "postgres", and
# with a superuser "postgres".
# %settings go to postgresql.conf and may replace shared_preload_libraries.
sub new_node
{
	my ($name, %settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	%settings = (shared_preload_libraries => 'supervisor', %settings);
	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', conf(%settings));
	$node->start;

	# The superuser has the name of whoever runs the server.
	$node->safe_psql('postgres', q{
		DO $$ BEGIN
			IF to_regrole('postgres') IS NULL THEN CREATE ROLE postgres SUPERUSER LOGIN; END IF;
		END $$});
	$node->safe_psql('postgres', 'CREATE EXTENSION supervisor');
	return $node;
}

# Returns settings as lines of postgresql.conf.
sub conf
{
	my (%settings) = @_;
	my $lines = '';

	foreach my $setting (sort keys %settings)
	{
		$lines .= "$setting = " . quote($settings{$setting}) . "\n";
	}
	return $lines;
}

# Changes settings with ALTER SYSTEM and reloads; a session sees them once it has looked.
sub set
{
	my ($node, %settings) = @_;

	foreach my $setting (sort keys %settings)
	{
		$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = " . quote($settings{$setting}));
	}
	$node->reload;
}

# Runs $sql and returns the SQLSTATE of its error (undef if there was none) and
# all of stderr.  %opts: dbname, user.
sub error_of
{
	my ($node, $sql, %opts) = @_;
	my $stderr;

	$node->psql(
		$opts{dbname} // 'postgres',
		$sql,
		stderr => \$stderr,
		extra_params => psql_params(%opts));
	return (sqlstate($stderr), $stderr);
}

# Returns the SQLSTATE of the first error in psql's verbose messages.
sub sqlstate
{
	my ($stderr) = @_;

	return $stderr =~ /\b(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/ ? $1 : undef;
}

sub psql_params
{
	my (%opts) = @_;

	return [
		'-v', 'VERBOSITY=verbose',
		defined $opts{user} ? ('-U', $opts{user}) : ()
	];
}

# Waits until the pool has the size $n and as many workers are ready.
sub wait_ready
{
	my ($node, $pool, $n) = @_;

	wait_true($node, "SELECT size = $n AND running = $n FROM supervisor.pool_status WHERE pool = '$pool'",
		"pool $pool did not become ready");
}

# Waits until $sql is true, of a node also over a restart; dies with $complaint if it never is.
sub wait_true
{
	my ($node, $sql, $complaint) = @_;

	if ($node->isa('SupervisorTest::Session'))
	{
		$node->wait_true($sql) or die $complaint // "never true: $sql";
		return;
	}
	my $is_true;

	# a psql that finds no server may end before it has read its input
	eventually(sub { defined($is_true = eval { $node->poll_query_until('postgres', $sql) }) || $@ !~ /Broken pipe/ });
	die $@ if !defined $is_true;
	die $complaint // "never true: $sql" if !$is_true;
}

# Tests that no process has crashed and nothing has leaked, as far as the log tells.
sub log_is_clean
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = slurp_file($node->logfile);
	my ($leak) = $log =~ /(WARNING:.*(?:leak|still referenced|not closed|you don't own).*)/;

	unlike($log, qr/PANIC|TRAP|was terminated by signal|server process .*exited with exit code/, 'nothing has crashed');
	is($leak, undef, 'nothing has leaked');
}

# Processes that stand still must go on, or their server could not be stopped.
my %stopped;

END
{
	my $status = $?;
	kill 'CONT', keys %stopped if %stopped;
	$? = $status;
}

sub stop_process
{
	my ($pid) = @_;

	$stopped{$pid} = 1;
	kill('STOP', $pid) == 1 or die "could not stop $pid: $!";
}

# Returns how many go on; without arguments, all that stand still.
sub continue_process
{
	my @pids = @_ ? @_ : keys %stopped;

	foreach my $pid (@pids)
	{
		delete $stopped{$pid};
		kill('CONT', $pid) == 1 or die "could not continue $pid: $!";
	}
	return scalar @pids;
}

# Compares workers with a slot, busy workers and tasks with those of the first
# call for this node, which returns ''; waits for them to be the same, and
# returns '' or what differs.
sub leaks
{
	my ($node) = @_;
	my $query = q{
		SELECT format('%s slots, %s busy, %s tasks',
			(SELECT count(*) FROM supervisor.worker_status WHERE slot IS NOT NULL),
			(SELECT count(*) FROM supervisor.worker_status WHERE activity = 'busy'),
			(SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL))};

	if (!defined $node->{supervisor_usage})
	{
		$node->{supervisor_usage} = $node->safe_psql('postgres', $query);
		return '';
	}
	return ''
	  if $node->poll_query_until('postgres', $query, $node->{supervisor_usage});
	return $node->safe_psql('postgres', $query) . ", before: $node->{supervisor_usage}";
}

# What pg_config says of the server.
sub pg_config
{
	my ($item) = @_;
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';

	chomp(my $value = `$pg_config --$item`);
	die "could not run $pg_config\n" if $?;
	return $value;
}

# Compiles t/$name.c into a library for the server; returns its path, without a suffix.
sub build_library
{
	my ($name) = @_;
	my %config = map { $_ => pg_config($_) } qw(cc cppflags cflags cflags_sl includedir-server);
	my $dir = PostgreSQL::Test::Utils::tempdir($name);
	my $command = join ' ', @config{qw(cc cppflags cflags cflags_sl)}, '-shared',
	  "-I$config{'includedir-server'}", '-o', "$dir/$name.so", "$FindBin::RealBin/$name.c";
	system($command) == 0 or die "could not compile $name.c: $command\n";
	return "$dir/$name";
}

# Bytes that a process of the server uses in its memory contexts.
sub used_memory
{
	my ($node, $pid) = @_;
	my $offset = -s $node->logfile;
	my $total = qr/\[$pid\].*Grand total: .* (\d+) used$/m;

	value("SELECT pg_log_backend_memory_contexts($pid)");
	$node->wait_for_log($total, $offset);
	return slurp_file($node->logfile, $offset) =~ $total ? $1 : die;
}

# Bytes of memory that a process has for itself.
sub own_memory
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m ? 1024 * $1 : die;
}

my ($clock, $clock_library);
my $ahead = 0;

# Sets the clock of servers that were started in with_clock() by so many seconds.  Linux only.
sub set_clock
{
	my ($seconds) = @_;

	$clock //= PostgreSQL::Test::Utils::tempdir('clock') . '/ahead';
	$ahead += $seconds;
	# not truncated: servers have mapped it
	sysopen(my $fh, $clock, O_WRONLY | O_CREAT) or die "could not open $clock: $!";
	syswrite($fh, pack('q', $ahead * 1_000_000)) == 8 or die "could not write $clock: $!";
	close $fh;
}

# Returns what $start returns, which starts a server whose clock can be set.
sub with_clock
{
	my ($start) = @_;

	set_clock(0) if !defined $clock;
	$clock_library //= build_library('clock') . '.so';
	local $ENV{LD_PRELOAD} = $clock_library;
	local $ENV{SUPERVISOR_TEST_CLOCK} = $clock;
	local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':verify_asan_link_order=0';
	return $start->();
}

# Copies what the server is installed as to the same place below $root, and links
# what is not written into.  It looks for its files from where it is itself.
# Returns the directories, as pg_config names them.
sub copy_installation
{
	my ($root) = @_;
	my %dir = map { $_ => pg_config($_) } qw(bindir pkglibdir sharedir);

	make_path(map { "$root$_" } values %dir, "$dir{sharedir}/extension");
	system('cp', '-LR', $dir{bindir}, dirname("$root$dir{bindir}")) == 0 or die "could not copy $dir{bindir}";
	foreach my $file (map { glob "$_/*" } $dir{pkglibdir}, $dir{sharedir}, "$dir{sharedir}/extension")
	{
		if ($file =~ m{/supervisor[.-][^/]*$})
		{
			copy($file, "$root$file") or die "could not copy $file: $!";
		}
		elsif (!-e "$root$file")
		{
			symlink($file, "$root$file") or die "could not link $file: $!";
		}
	}
	return %dir;
}

# Returns the fenced blocks of a Markdown file: info string, text, line number.
sub blocks
{
	my ($file) = @_;
	my @blocks;
	my $block;

	open my $fh, '<', $file or die "could not open $file: $!";
	while (my $line = <$fh>)
	{
		if (!$block && $line =~ /^(\s*)```(.*?)\s*$/)
		{
			$block = { indent => $1, info => $2, text => '', line => $. };
		}
		elsif ($block && $line =~ /^\s*```\s*$/)
		{
			push @blocks, $block;
			$block = undef;
		}
		elsif ($block)
		{
			$line =~ s/^$block->{indent}//;
			$block->{text} .= $line;
		}
	}
	die "$file: the block of line $block->{line} has no end" if $block;
	return @blocks;
}

# Returns what a program prints, without the spaces and lines at ends that no one sees.
sub visible
{
	my ($text) = @_;

	$text =~ s/[ \t]+$//mg;
	$text =~ s/\n+\z//;
	return $text;
}

# Creates the sample tables of README.md.
sub create_sample
{
	my ($node) = @_;
	my ($sample) = grep { $_->{text} =~ /^CREATE TABLE accounts\b/m } blocks("$FindBin::RealBin/../README.md");

	$node->safe_psql('postgres', $sample->{text});
}

# Opens a session that stays open until quit().  %opts: dbname, user.
sub session
{
	my ($node, %opts) = @_;

	my $session = $node->background_psql(
		$opts{dbname} // 'postgres',
		on_error_stop => 0,
		extra_params => psql_params(%opts));
	$session->set_query_timer_restart;
	$session->{supervisor_node} = $node;
	return bless $session, 'SupervisorTest::Session';
}

package SupervisorTest::Session;

use Test::More;

our @ISA = ('PostgreSQL::Test::BackgroundPsql');

# As in the base class, but what earlier queries left in stderr is not this one's.
sub query
{
	my ($self, $sql) = @_;

	$self->{stderr} = '';
	return $self->SUPER::query($sql);
}

# Runs $sql and returns as SupervisorTest::error_of() does; the session may end by it.
sub error_of
{
	my ($self, $sql) = @_;

	# pump() dies when psql has exited; its last words are there already
	eval { $self->query($sql); };
	my $died = $@;
	my $sqlstate = SupervisorTest::sqlstate($self->{stderr});

	die $died if $died && !defined $sqlstate;
	return ($sqlstate, $self->{stderr});
}

# Sends $sql, and returns while it may still run.
sub begin
{
	my ($self, $sql) = @_;

	# query_until() would lose what may have been printed by then
	$self->{stderr} = '';
	$self->{timeout}->start;
	$self->{stdin} .= "\\echo begun\n$sql\n;\n";
	PostgreSQL::Test::Utils::pump_until($self->{run}, $self->{timeout}, \$self->{stdout}, qr/^begun\r?\n/m)
	  or die 'psql did not begin';
	$self->{stdout} =~ s/^begun\r?\n//m;
}

# Waits for what begin() has sent, and returns its stdout and stderr.
sub finish
{
	my ($self) = @_;
	my $stdout = $self->SUPER::query('');

	return ($stdout, $self->{stderr});
}

# As in the base class, however long the session has had nothing to do.
sub quit
{
	my ($self) = @_;

	$self->{timeout}->start;
	return $self->SUPER::quit;
}

# Waits until $sql is true; returns whether that came to be.
sub wait_true
{
	my ($self, $sql) = @_;
	my $got;

	return 1 if SupervisorTest::eventually(sub { ($got = $self->query_safe($sql)) eq 't' });
	diag "$sql is still $got";
	return 0;
}

# Returns the process ID of the session's backend.
sub pid
{
	my ($self) = @_;

	return $self->query_safe('SELECT pg_backend_pid()');
}

1;
