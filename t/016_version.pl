# META.json says which version this is.  All else that says it agrees, and META.json
# keeps to the PGXN Meta Spec, 1.0.0.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use SupervisorTest;

my $root = "$FindBin::RealBin/..";
my $meta = decode_json(slurp_file("$root/META.json"));

note 'the spec';

# What each key must be: a pattern, a list of what its elements must be, or keys with
# the same again.  With "!" a key must be there; "*" stands for any other.
my $text = qr/\A\S.*\z/s;
my $term = qr{\A[^\s/\\[:cntrl:]]{2,}\z};
my $tag = qr{\A[^/\\[:cntrl:]]{1,256}\z};
my $url = qr{\A[a-z][a-z0-9+.-]*://[^/\s]+\S*\z};
my $number = qr/(?:0|[1-9]\d*)/;
my $version = qr/\A$number\.$number\.$number(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\z/;
my $range = qr/\A(?:(?:[<>]=?|==|!=)?\s*(?:0|$number\.$number\.$number\S*)(?:,\s*)?)+\z/;
my %relations = map { $_ => { '*' => $range } } qw(requires recommends suggests conflicts);
my %rules = (
	'name!' => $term,
	'abstract!' => $text,
	'version!' => $version,
	'maintainer!' => [$text],
	'license!' => [qr/\A(?:agpl_3|apache_1_1|apache_2_0|artistic_[12]|bsd|freebsd|gfdl_1_[23]|gpl_[123]|lgpl_2_1|lgpl_3_0|mit|mozilla_1_[01]|openssl|perl_5|postgresql|qpl_1_0|ssleay|sun|zlib|open_source|restricted|unrestricted|unknown)\z/],
	'meta-spec!' => { 'version!' => qr/\A1\.0\.0\z/, url => $url },
	'provides!' => { '*' => { 'file!' => $text, 'version!' => $version, abstract => $text, docfile => $text } },
	description => $text,
	generated_by => $text,
	release_status => qr/\A(?:stable|testing|unstable)\z/,
	tags => [$tag],
	no_index => { file => [$text], directory => [$text] },
	prereqs => { map { $_ => \%relations } qw(configure build test runtime develop) },
	resources => {
		homepage => $url,
		license => [$url],
		bugtracker => { web => $url, mailto => qr/@/ },
		repository => { web => $url, url => $url, type => qr/\A[^A-Z]+\z/ }
	});

# Returns what of a value is against a rule.
sub against
{
	my ($where, $value, $rule) = @_;

	if (ref $rule eq 'ARRAY')
	{
		return map { against($where, $_, $rule->[0]) } ref $value eq 'ARRAY' && @$value ? @$value : $value;
	}
	if (ref $rule eq 'HASH')
	{
		return "$where is not an object" if ref $value ne 'HASH';
		return (
			(map { /(.*)!$/ && !exists $value->{$1} ? "$where/$1 is missing" : () } sort keys %$rule),
			map {
				my $of = $rule->{"$_!"} // $rule->{$_} // $rule->{'*'};
				$of ? against("$where/$_", $value->{$_}, $of) : /^[xX]_/ ? () : "$where/$_ is unknown";
			} sort keys %$value);
	}
	return defined $value && !ref $value && $value =~ $rule ? () : "$where is not valid";
}

is(join(', ', against('', $meta, \%rules)), '', 'META.json keeps to the spec');

# The rules are some.
my %wrong = (
	version => '1.0',
	license => 'none',
	maintainer => [],
	name => 'a b',
	tags => ['a/b'],
	provides => { supervisor => { version => '1.0.0' } },
	prereqs => { runtime => { requires => { PostgreSQL => '15' } } },
	'meta-spec' => { version => '2.0.0' },
	other => 1);
isnt(join('', against('', { %$meta, $_ => $wrong{$_} }, \%rules)), '', "and would not with another $_") foreach sort keys %wrong;

is_deeply([ keys %{ $meta->{provides} } ], ['supervisor'], 'it provides the extension');
ok(-f "$root/$meta->{provides}{supervisor}{$_}", "its $_ is there") foreach qw(file docfile);

note 'the version';

my $release = $meta->{version};
my ($objects) = $release =~ /^(\d+\.\d+)\./;

# The first that a pattern finds in a file.
sub first
{
	my ($file, $pattern) = @_;

	return slurp_file("$root/$file") =~ $pattern ? $1 : 'nothing';
}

is($meta->{provides}{supervisor}{version}, $release, 'META.json says it twice');
is(first('supervisor.control', qr/^default_version = '(.*)'$/m), $objects, 'supervisor.control');
is(first('CHANGELOG.md', qr/^## \[(.*?)\] - (?:\d{4}-\d\d-\d\d|unreleased)$/m), $release, 'CHANGELOG.md');
is(first($meta->{provides}{supervisor}{file}, qr{\A/\* supervisor--(.*)\.sql \*/}), '1.0', 'the full script is that of the first version');

note 'packages';

is(first('debian/changelog', qr/\Apostgresql-supervisor \((.*)-\d+\)/), $release, 'debian/changelog');

is(first('rpm/supervisor.spec', qr/^Version:\s+(.*)$/m), $release, 'rpm/supervisor.spec');
is(first('rpm/supervisor.spec', qr/^%changelog\n\* .* - (.*)-\d+PGDG$/m), $release, 'its change log');

foreach my $file (glob "$root/debian/{control,control.in,changelog,copyright} $root/rpm/supervisor.spec")
{
	my %said = map { $_ => 1 } slurp_file($file) =~ /(?:[a-z]+ )+<\S+@\S+>/g;

	is_deeply([ keys %said ], [ $meta->{maintainer} ], substr($file, length "$root/") . ': the maintainer');
}

# as Debian's unstable has it, which has one version; pg_buildext would make the same
my ($newest) = slurp_file("$root/debian/control") =~ /^Package: postgresql-(\d+)-supervisor$/m;
is(slurp_file("$root/debian/control"), slurp_file("$root/debian/control.in") =~ s/PGVERSION/$newest/gr, 'debian/control is made from control.in');

# GitHub runs the tests on what has been released of the versions that are supported.
my $workflow = slurp_file("$root/.github/workflows/test.yml");
is_deeply([ map { split /, / } $workflow =~ /^ +postgresql: \[(.*)\]$/m ], [ 15 .. 18 ], 'versions in the workflow');
like($workflow, qr/^ +run: make test /m, 'it runs make test');

note 'the changes';

# Whatever there is has been added in some version.
my $changes = slurp_file("$root/CHANGELOG.md");
my $reference = slurp_file("$root/docs/reference.md");
my @names = $reference =~ /^(?:### |\| `supervisor\.)([a-z]+_?[a-z_]*)(?:, by name)?(?:$|` \|)/mg;
cmp_ok(scalar @names, '>', 40, 'the reference has functions, views and settings');
is(join(', ', grep { $changes !~ /\b$_\b/ } @names), '', 'CHANGELOG.md has all of them');

my $node = SupervisorTest::new_node('main');

is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'supervisor'}), $objects, 'the extension');
SKIP:
{
	skip 'this server does not tell the versions of libraries', 1 if $node->pg_version < 18;
	is($node->safe_psql('postgres', q{SELECT version FROM pg_get_loaded_modules() WHERE module_name = 'supervisor'}), $release, 'the library');
}

$node->stop;
done_testing();
