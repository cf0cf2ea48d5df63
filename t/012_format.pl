# What a session and a worker send each other is checked before it is used:
# src/format.c is compiled with a test program of its own, under AddressSanitizer
# where the compiler has that, which prints TAP.  It ends with garbage, for
# PG_TEST_FUZZ_SECONDS, by default some seconds, from PG_TEST_FUZZ_SEED.

use strict;
use warnings;

use File::Temp ();
use FindBin;

my $root = "$FindBin::RealBin/..";
my $dir = File::Temp->newdir;
my $program = "$dir/format_test";
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
my @cc = split ' ', $ENV{CC} || 'cc';
chomp(my $include = `$pg_config --includedir-server`);
chomp(my $cppflags = `$pg_config --cppflags`);

# Tries to compile with these flags.
sub compile
{
	my @flags = @_;

	return system(@cc, qw(-std=gnu11 -O1 -g -fno-strict-aliasing -fwrapv -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare),
		@flags, split(' ', $cppflags), "-I$include", "-I$root/src",
		"$root/t/format_test.c", "$root/src/format.c", '-o', $program) == 0;
}

open my $stderr, '>&', \*STDERR or die $!;
open STDERR, '>', '/dev/null' or die $!;
my $sanitized = compile('-fsanitize=address,undefined', '-fno-sanitize-recover=all') && system("$program 0 >$dir/output") == 0;
open STDERR, '>&', $stderr or die $!;
print "# without AddressSanitizer\n" if !$sanitized;
$sanitized || compile() or die "could not compile format_test.c\n";

my $seconds = $ENV{PG_TEST_FUZZ_SECONDS} // 3;
my $status = system($program, $seconds, $ENV{PG_TEST_FUZZ_SEED} // time);
die "format_test was ended by signal " . ($status & 127) . "\n"
  if $status & 127;
die "could not run format_test\n" if $status < 0;
exit($status >> 8);
