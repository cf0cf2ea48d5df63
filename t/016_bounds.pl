# What is known of a queue's jobs is pure logic: src/bounds.c is compiled with a test
# program of its own, which prints TAP; with a small ring, that overflows.

use strict;
use warnings;

use File::Temp ();
use FindBin;

my $root = "$FindBin::RealBin/..";
my $dir = File::Temp->newdir;
my $program = "$dir/bounds_test";
my @cc = split ' ', $ENV{CC} || 'cc';

system(@cc, qw(-std=c99 -DSUP_RING_SIZE=3 -O1 -Wall -Wextra -Werror), "-I$root/src",
	"$root/t/bounds_test.c", "$root/src/bounds.c", '-o', $program) == 0
  or die "could not compile bounds_test.c\n";

my $status = system($program);
die "bounds_test was ended by signal " . ($status & 127) . "\n"
  if $status & 127;
die "could not run bounds_test\n" if $status < 0;
exit($status >> 8);
