# The sources keep to the layers of docs/design.md: each file includes its own
# header, and headers of lower rows of the table there.  Who alone may do what
# is kept, too.

use strict;
use warnings;

use FindBin;
use Test::More;

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
my %row;

while (($table // '') =~ /^\| (\d+) \| `([^`]+)` \|/mg)
{
	my ($row, $entry) = ($1, $2);

	foreach my $file ($entry =~ /^(\w+)\.\[ch\]$/ ? ("$1.c", "$1.h") : $entry)
	{
		ok(!exists $row{$file}, "$file is in the table of docs/design.md once");
		$row{$file} = $row;
	}
}
is_deeply([ sort keys %row ], [ sort keys %text ], 'the table names all files of src, and no other');

foreach my $file (sort keys %text)
{
	foreach my $header ($text{$file} =~ /^\s*#\s*include\s+"([^"]+)"/mg)
	{
		# all others are the server's
		next if !exists $text{$header} || $header eq $file =~ s/\.c$/.h/r;
		cmp_ok($row{$header} // 99, '<', $row{$file} // -1, "$file may include $header");
	}
}

# Returns the sources in whose code a pattern occurs.
sub with
{
	my ($pattern) = @_;

	# supervisor.h is code of those who include it
	return [ grep { $_ ne 'supervisor.h' && code($text{$_}) =~ $pattern } sort keys %text ];
}

note 'who alone does what';

is_deeply(with(qr/\bPG_VERSION_NUM\b/), [ 'compat.c', 'compat.h' ], 'only compat.[ch] look at the version');
is_deeply(with(qr/\b$_\s*\(/), ['launch.c'], "only launch.c calls $_")
  foreach qw(RegisterBackgroundWorker RegisterDynamicBackgroundWorker
  TerminateBackgroundWorker GetBackgroundWorkerPid);
unlike($text{$_}, qr/#\s*include\s+"postgres\.h"/, "$_ is plain C") foreach qw(policy.c policy.h);

# It is read in the encoding of any database.
foreach my $script (glob "$root/supervisor--*.sql")
{
	unlike(slurp($script), qr/[^\x00-\x7f]/, $script =~ s{.*/}{}r . ' is ASCII');
}

done_testing();
