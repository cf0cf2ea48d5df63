# The sources keep to the layers of docs/design.md: a file calls files of lower rows
# of the table there, and none that no process of its own runs.  Headers tell nothing
# of that, so the symbols of the object files are compared.  Who alone may do what is
# kept, too.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest;

my $root = "$FindBin::RealBin/..";

sub slurp
{
	my ($file) = @_;

	open my $fh, '<:raw', $file or die "could not open $file: $!";
	local $/;
	return scalar <$fh>;
}

# Returns C code without comments and the contents of strings.
sub code
{
	my ($text) = @_;

	$text =~ s{(/\*.*?\*/|//[^\n]*)|("(?:\\.|[^"\\])*")}{defined $1 ? ' ' : '""'}gse;
	return $text;
}

my %text = map { s{.*/}{}r => slurp($_) } glob "$root/src/*.[ch]";
cmp_ok(scalar keys %text, '>', 0, 'there are sources');

note 'layers';

my ($table) = slurp("$root/docs/design.md") =~ /^## Files\n(.*?)(?=^## |\z)/ms;
my (%row, %processes);

while (($table // '') =~ /^\| (\d+) \| `([^`]+)` \| ([\w, ]+) \|/mg)
{
	my ($row, $entry, $processes) = ($1, $2, $3);

	foreach my $file ($entry =~ /^(\w+)\.\[ch\]$/ ? ("$1.c", "$1.h") : $entry)
	{
		ok(!exists $row{$file}, "$file is in the table of docs/design.md once");
		$row{$file} = $row;
		$processes{$file} = { map { $_ => 1 } split /, /, $processes };
	}
}
is_deeply([ sort keys %row ], [ sort keys %text ], 'the table names all files of src, and no other');

# Compiles a source, and returns its symbols: those that it defines, and those that it needs.
my %config = map { $_ => SupervisorTest::pg_config($_) } qw(cc cppflags cflags cflags_sl includedir-server);
my $dir = PostgreSQL::Test::Utils::tempdir('layers');

sub symbols
{
	my ($file) = @_;
	my $object = "$dir/$file.o";
	my $command = join ' ', @config{qw(cc cppflags cflags cflags_sl)}, '-O0 -w -DSUP_VERSION=\'"0"\'',
	  "-I$config{'includedir-server'} -I$root/src -c -o $object $root/src/$file";

	system($command) == 0 or die "could not compile $file: $command\n";
	open my $nm, '-|', 'nm', '-P', $object or die "could not run nm: $!";
	my (%defined, %needed);
	while (<$nm>)
	{
		my ($name, $type) = split;
		$defined{$name} = 1 if $type =~ /^[TDBRCVW]$/;
		$needed{$name} = 1 if $type eq 'U';
	}
	close $nm or die "nm failed on $file\n";
	return (\%defined, \%needed);
}

my (%home, %needed);
foreach my $file (grep { /\.c$/ } sort keys %text)
{
	(my $defined, $needed{$file}) = symbols($file);
	$home{$_} = $file foreach keys %$defined;
}

# Each line is a call, or the use of a variable.
foreach my $file (sort keys %needed)
{
	my %used;

	push @{ $used{ $home{$_} } }, $_ foreach grep { exists $home{$_} } sort keys %{ $needed{$file} };
	foreach my $other (sort keys %used)
	{
		cmp_ok($row{$other}, '<', $row{$file}, "$file may call $other, as " . join ', ', @{ $used{$other} });
		ok( $processes{$other}{any} || grep({ $processes{$other}{$_} } keys %{ $processes{$file} }),
			"a process runs both $file and $other");
	}
}

# Returns the sources in whose code a pattern occurs.
sub with
{
	my ($pattern) = @_;

	# supervisor.h is code of those who include it
	return [ grep { $_ ne 'supervisor.h' && code($text{$_}) =~ $pattern } sort keys %text ];
}

note 'transitions';

# What docs/design.md says of the life of a slot is what transition.c holds to be legal.
my ($life) = slurp("$root/docs/design.md") =~ /^## Life of a slot\n(.*?)(?=^## )/ms;
my (%told, %legal);
while ($life =~ /^\| ([a-z, ]+) \| ([a-z, ]+) \| /mg)
{
	my ($from, $to) = ($1, $2);

	next if $from eq 'from';
	foreach my $state (split /, /, $from)
	{
		$told{$state}{$_} = 1 foreach split /, /, $to;
	}
}
my ($ended) = $text{'transition.c'} =~ /^#define ENDED\s+(.*)$/m;
my ($rows) = $text{'transition.c'} =~ /^PG_USED_FOR_ASSERTS_ONLY static const uint16 legal\[\w+\] = \{\n(.*?)^\};/ms;
while ($rows =~ /\[SUP_(\w+)\] = ([^,\n]*)/g)
{
	my ($from, $to) = (lc $1, $2);

	$to =~ s/\bENDED\b/$ended/;
	$legal{$from}{ lc $_ } = 1 foreach $to =~ /TO\(SUP_(\w+)\)/g;
}
is_deeply(\%legal, \%told, 'those that are legal are those that docs/design.md tells of');
unlike(code($text{$_}), qr/\bslot->state = /, "$_ does not set a state past the check")
  foreach grep { $_ ne 'views.c' && $_ ne 'transition.c' } sort keys %text;
is(scalar(() = code($text{'transition.c'}) =~ /\bslot->state = /g), 1, 'nor does transition.c but in one place');

note 'who alone does what';

is_deeply(with(qr/\bPG_VERSION_NUM\b/), [ 'compat.c', 'compat.h' ], 'only compat.[ch] look at the version');
is_deeply(with(qr/\b$_\s*\(/), ['launch.c'], "only launch.c calls $_")
  foreach qw(RegisterBackgroundWorker RegisterDynamicBackgroundWorker
  TerminateBackgroundWorker);
is_deeply(with(qr/\bGetBackgroundWorkerPid\s*\(/), [ 'launch.c', 'preloaded.c' ],
	'launch.c asks for the processes that the supervisor has started, preloaded.c for those of others');
unlike($text{$_}, qr/#\s*include\s+"postgres\.h"/, "$_ is plain C") foreach qw(bounds.c bounds.h policy.c policy.h schedule.c schedule.h);

note 'flags that are read without the lock';

like($text{'state.h'}, qr/^\tvolatile \w+\s+$_;/m, "state.h: $_ is volatile") foreach qw(runs terminate leave stale cancel hint room);

my %flags;

# Of two that each set a flag and look at the other's, both need the barrier, or
# neither may see the other.
my $wait = qr/\bpg_memory_barrier\(\);\s*/;
foreach my $file (grep { /\.c$/ } sort keys %text)
{
	my $code = code($text{$file}) =~ s/\s+/ /gr;
	my @checks = $code =~ /QueryCancelPending = false; (.{0,120})(?:->leave|->cancel) != /g;

	like($_, qr/^(?:[\w>-]+ = true; )?$wait/, "$file: what came before is forgotten before a flag is looked at") foreach @checks;
	my @sent = $code =~ /(.{0,80})kill\(slot->pid, SIGINT\)/g;
	like($_, qr/${wait}if \([^;]*$/, "$file: a flag is set before the signal is sent") foreach @sent;
	$flags{checks} += @checks;
	$flags{sent} += @sent;
}
is_deeply(\%flags, { checks => 2, sent => 3 }, 'a task, a run of a worker and one of a job have such flags');

# It is read in the encoding of any database.
foreach my $script (glob "$root/supervisor--*.sql")
{
	unlike(slurp($script), qr/[^\x00-\x7f]/, $script =~ s{.*/}{}r . ' is ASCII');
}

done_testing();
