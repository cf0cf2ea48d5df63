# The C code is as pgindent leaves it, with the server's typedefs.list and ours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Copy qw(copy);
use PostgreSQL::Test::Utils;
use SupervisorTest;

my $src = "$FindBin::RealBin/../src";
my $bin = SupervisorTest::pg_config('bindir');
my $typedefs = SupervisorTest::pg_config('sharedir') . '/typedefs.list';

plan skip_all => 'there is no pgindent beside this server'
  if grep { !-e } "$bin/pgindent", "$bin/pg_bsd_indent", $typedefs;

# It writes into the directory where it runs.
my $dir = PostgreSQL::Test::Utils::tempdir('indent');
my %lines;

foreach my $file (glob "$src/*.[ch]")
{
	my ($name) = $file =~ m{([^/]+)$};

	copy($file, "$dir/$name") or die "could not copy $file: $!";
	$lines{$name} = [ split /^/, slurp_file($file) ];
}
chdir $dir or die "could not change to $dir: $!";
PostgreSQL::Test::Utils::system_or_bail(
	$^X, "$bin/pgindent", "--indent=$bin/pg_bsd_indent", "--typedefs=$typedefs",
	'--list-of-typedefs=' . join(' ', split /\s+/, slurp_file("$src/typedefs.list")),
	sort keys %lines);

foreach my $name (sort keys %lines)
{
	my @is = @{ $lines{$name} };
	my @should = split /^/, slurp_file("$dir/$name");
	my ($first) = grep { ($is[$_] // '') ne ($should[$_] // '') } 0 .. ($#is > $#should ? $#is : $#should);

	ok(!defined $first, "$name is as pgindent leaves it")
	  or diag 'line ' . ($first + 1) . ' should be: ' . ($should[$first] // 'no more');
}

# Types that are gone, or missing, change nothing that the above would see.
my $code = join '', map { @$_ } values %lines;
my %listed = map { $_ => 1 } split /\s+/, slurp_file("$src/typedefs.list");
my @defined = $code =~ /^(?:\}\s+(\w+);|typedef [^{;]*?\(\*(\w+)\))/mg;
my %defined = map { $_ => 1 } grep { defined } @defined;

is_deeply([ grep { !$listed{$_} } sort keys %defined ], [], 'src/typedefs.list has all types');
is_deeply([ grep { !$defined{$_} } sort keys %listed ], [ 'int64_t', 'siginfo_t' ], 'and no other but those of the C library');

chdir $src;
done_testing();
