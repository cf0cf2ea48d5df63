# The restart policy is a pure function: src/policy.c is compiled with a test
# program of its own, which prints TAP.

use strict;
use warnings;

use File::Temp ();
use FindBin;

my $root = "$FindBin::RealBin/..";
my $dir = File::Temp->newdir;
my $program = "$dir/policy_test";
my @cc = split ' ', $ENV{CC} || 'cc';

system(@cc, qw(-std=c99 -O1 -Wall -Wextra -Werror), "-I$root/src",
	"$root/t/policy_test.c", "$root/src/policy.c", '-lm', '-o', $program) == 0
  or die "could not compile policy_test.c\n";

my $status = system($program);
die "policy_test was ended by signal " . ($status & 127) . "\n"
  if $status & 127;
die "could not run policy_test\n" if $status < 0;
exit($status >> 8);
