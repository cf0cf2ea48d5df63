# supervisor.conf.sample and docs/reference.md have all settings, with the defaults and
# contexts that the server says they have, in one order.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest;

my $root = "$FindBin::RealBin/..";
my $sample = slurp_file("$root/supervisor.conf.sample");
my $reference = slurp_file("$root/docs/reference.md");
my %context = ('restart' => 'postmaster', 'reload' => 'sighup', 'superuser' => 'superuser', 'anybody' => 'user');
my %settings = map { $_ => [] } qw(sample reference);

while ($sample =~ /^#(supervisor\.\w+) = (\S+)\t+# \((\w+)\)/mg)
{
	my ($name, $default, $context) = ($1, $2, $context{$3});

	push @{ $settings{sample} }, { name => $name, default => $default =~ tr/'//dr, context => $context };
}
while ($reference =~ /^\| `(supervisor\.\w+)` \| [^|]* \| (\w+) \| (\S+) \|/mg)
{
	my ($name, $context, $default) = ($1, $2, $3);

	push @{ $settings{reference} }, { name => $name, default => $default =~ tr/`'//dr, context => $context };
}

is_deeply([ map { $_->{name} } @{ $settings{sample} } ], [ map { $_->{name} } @{ $settings{reference} } ],
	'the sample has the settings of the reference, in their order');

my $node = SupervisorTest::new_node('main');
my %server = map { my ($name, $context, $value) = split /\|/; $name => { context => $context, value => $value } }
  split /\n/, $node->safe_psql('postgres', q{
	SELECT name, context, current_setting(name) FROM pg_settings WHERE name LIKE 'supervisor.%'});

foreach my $where (sort keys %settings)
{
	is_deeply([ sort map { $_->{name} } @{ $settings{$where} } ], [ sort keys %server ], "the $where has all settings");
	foreach my $setting (grep { $server{ $_->{name} } } @{ $settings{$where} })
	{
		my $is = $server{ $setting->{name} };

		is($setting->{context}, $is->{context}, "$where, $setting->{name}: context");
		is($setting->{default}, $is->{value}, "$where, $setting->{name}: default");
	}
}

# As whoever takes all of it would.
$node->append_conf('postgresql.conf', $sample =~ s/^#(?=\w+(?:\.\w+)? = )//mgr);
$node->restart;
is( $node->safe_psql('postgres', q{
		SELECT string_agg(name, ', ') FROM pg_settings
		WHERE name LIKE 'supervisor.%' AND (setting <> boot_val OR source <> 'configuration file' OR pending_restart)}),
	'', 'the server takes all of the sample, and all is as before');

$node->stop;
done_testing();
