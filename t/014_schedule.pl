# When a schedule is due is a pure function: src/schedule.c is compiled with a test
# program of its own, under AddressSanitizer where the compiler has that, which
# prints TAP.  Time zones are those of the server.  It compares PG_TEST_SCHEDULES
# random schedules, by default some, in each of twelve zones with what is found by
# looking at every minute of ten years, and ends with garbage for
# PG_TEST_FUZZ_SECONDS, by default some seconds, all of it from PG_TEST_FUZZ_SEED.

use strict;
use warnings;

use File::Temp ();
use FindBin;

my $root = "$FindBin::RealBin/..";
my $dir = File::Temp->newdir;
my $program = "$dir/schedule_test";
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
my @cc = split ' ', $ENV{CC} || 'cc';
chomp(my $sharedir = `$pg_config --sharedir`);

# A server that was built without the system's has its own.
$ENV{TZDIR} = "$sharedir/timezone" if -d "$sharedir/timezone";

# Tries to compile with these flags.
sub compile
{
	my @flags = @_;

	return system(@cc, qw(-std=gnu99 -O2 -g -Wall -Wextra -Werror), @flags, "-I$root/src", "-I$root/t",
		"$root/t/schedule_test.c", "$root/t/schedule_random.c", "$root/src/schedule.c", '-o', $program) == 0;
}

open my $stderr, '>&', \*STDERR or die $!;
open STDERR, '>', '/dev/null' or die $!;
my $sanitized = compile('-fsanitize=address,undefined', '-fno-sanitize-recover=all') && system("$program 0 0 >$dir/output") == 0;
open STDERR, '>&', $stderr or die $!;
print "# without AddressSanitizer\n" if !$sanitized;
$sanitized || compile() or die "could not compile schedule_test.c\n";

my $status = system($program, $ENV{PG_TEST_SCHEDULES} // 12, $ENV{PG_TEST_FUZZ_SECONDS} // 3,
	$ENV{PG_TEST_FUZZ_SEED} // time);
die "schedule_test was ended by signal " . ($status & 127) . "\n"
  if $status & 127;
die "could not run schedule_test\n" if $status < 0;
exit($status >> 8);
