# What follows the end of a declared worker's process: for each reason to stop it, for
# whoever has asked it to leave, stuck or not, each exit code and each policy.  What is
# expected is said here once more, in other words.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest;

# Not preloaded: the library has the code itself.
my $node = SupervisorTest::new_node('endings', shared_preload_libraries => '');
my $library = SupervisorTest::build_library('endings');

$node->safe_psql('postgres',
	"CREATE FUNCTION ending(int, int, boolean, int, int, boolean) RETURNS text AS '$library' LANGUAGE C STRICT");

# As the enums of the code have them.
my %reasons = ('' => 0, start_timeout => 17, no_heartbeat => 16);
my %leaves = ('' => 0, room => 1, surplus => 2, restart => 3, ddl => 4);
my %policies = (always => 0, on_failure => 1, never => 2);
my (@cases, @expected);

foreach my $reason (sort keys %reasons)
{
	foreach my $leave (sort keys %leaves)
	{
		foreach my $stuck (0, 1)
		{
			foreach my $code (0, 1)
			{
				foreach my $policy (sort keys %policies)
				{
					foreach my $library (0, 1)
					{
						my $kept = $reason ne '';
						my $failed = $kept || $code != 0;
						my $asked = $leave ne '';
						my $next =
						    $asked ? 'restart'
						  : $policy eq 'never' || $policy eq 'on_failure' && !$failed ? 'stop'
						  : 'restart later';

						push @cases, sprintf '(%d, %d, %s, %d, %d, %s)', $reasons{$reason}, $leaves{$leave}, $stuck ? 'true' : 'false', $code, $policies{$policy}, $library ? 'true' : 'false';
						push @expected, join(' ', grep { $_ ne '' } $failed ? 'failed' : 'clean',
							$kept ? $reason : $asked ? 'requested' : 'exited', $asked ? 'asked' : '', $next)
						  . sprintf ', %d failures', $failed && !$asked;
						$expected[-1] = "$reason|$leave|stuck $stuck|$code|$policy|library $library: $expected[-1]";
					}
				}
			}
		}
	}
}
my @got = split /\n/, $node->safe_psql('postgres',
	'SELECT ending(a, b, c, d, e, f) FROM (VALUES ' . join(', ', map { my $n = $_; $cases[$n] =~ s/^\(/($n, /r } 0 .. $#cases) . ') v(n, a, b, c, d, e, f) ORDER BY n');
is(scalar @got, scalar @cases, 'each case has an answer');
my @wrong = grep { $expected[$_] !~ /: \Q$got[$_]\E\z/ } 0 .. $#cases;
is(join("\n", map { "$expected[$_] but $got[$_]" } @wrong), '', scalar(@cases) . ' endings');

$node->stop;
done_testing();
