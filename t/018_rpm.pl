# rpm/supervisor.spec makes a package that has what "make install" installs, in the
# folders of the PostgreSQL project's RPMs.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use SupervisorTest;

plan skip_all => 'there is no rpmbuild' if system('rpmbuild --version >/dev/null 2>&1') != 0;

my $root = "$FindBin::RealBin/..";
my $dir = PostgreSQL::Test::Utils::tempdir('rpm');
my ($major) = SupervisorTest::pg_config('version') =~ /^PostgreSQL (\d+)/;
my ($release) = slurp_file("$root/META.json") =~ /"version": "(.*?)"/;

# The server's files, in those folders: its makefiles ask pg_config where they are.
my $server = "$dir/pgsql-$major";
my %folder = (pkglibdir => 'lib', sharedir => 'share', 'includedir-server' => 'include/server');
my %answers = (%folder, bindir => 'bin', pkgincludedir => 'include', pgxs => 'pgxs/src/makefiles/pgxs.mk');

make_path("$server/bin", "$server/include");
foreach my $item (sort keys %folder)
{
	symlink(SupervisorTest::pg_config($item), "$server/$folder{$item}") or die "could not link $folder{$item}: $!";
}

# Debian's makefiles have the version in the path of the headers.
my ($pgxs) = SupervisorTest::pg_config('pgxs') =~ m{^(.*)/src/makefiles/pgxs\.mk$};
PostgreSQL::Test::Utils::system_or_bail('cp', '-RL', $pgxs, "$server/pgxs");
my $global = slurp_file("$server/pgxs/src/Makefile.global");
$global =~ s{^(includedir_server\s*=\s*).*$}{$1\$(pkgincludedir)/server}m or die 'there is no includedir_server';
chmod 0644, "$server/pgxs/src/Makefile.global";
open my $fh, '>', "$server/pgxs/src/Makefile.global" or die "could not write Makefile.global: $!";
print $fh $global;
close $fh;

append_to_file("$server/bin/pg_config",
	"#!/bin/sh\ncase \"\$*\" in\n"
	  . join('', map { "\t--$_) echo '$server/$answers{$_}' ;;\n" } sort keys %answers)
	  . "\t*) exec " . SupervisorTest::pg_config('bindir') . "/pg_config \"\$@\" ;;\nesac\n");
chmod 0755, "$server/bin/pg_config" or die "could not change the mode of pg_config: $!";

PostgreSQL::Test::Utils::system_or_bail('tar', '-C', $root, '--exclude=./tmp_check', '--exclude=*.o', '--exclude=*.so',
	'--transform', "s,^\\.,supervisor-$release,", '-czf', "$dir/supervisor-$release.tar.gz", '.');
delete local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
my @defines = map { ('--define', $_) } "_topdir $dir/build", "_sourcedir $dir", "_dbpath $dir/db",
  "pgmajorversion $major", "pginstdir $server";
# A package that it needs is no RPM here.
my ($stdout, $stderr) = run_command([ 'rpmbuild', '-bb', '--nodeps', @defines, "$root/rpm/supervisor.spec" ]);
my ($package) = glob "$dir/build/RPMS/*/supervisor_$major-$release-1PGDG*.rpm";

ok($package, 'it can be built') or do { diag $stdout, $stderr; done_testing(); exit };

($stdout) = run_command([ 'rpm', '-qpl', '--nodigest', '--nosignature', '--dbpath', "$dir/db", $package ]);
my @scripts = map { s{.*/}{}r } sort glob "$root/supervisor--*.sql";
is_deeply(
	[ sort grep { s{^\Q$server\E/}{} } split /\n/, $stdout ],
	[ sort 'include/server/extension/supervisor', 'include/server/extension/supervisor/supervisor.h', 'lib/supervisor.so',
		map { "share/extension/$_" } 'supervisor.control', @scripts ],
	'what it has in the folders of the server');
like($stdout, qr{/CHANGELOG\.md$}m, 'it has documents');
like($stdout, qr{/LICENSE$}m, 'and the license');

SKIP:
{
	skip 'there is no rpmlint', 1 if system('command -v rpmlint >/dev/null') != 0;
	# the package has the folders of this test
	like((run_command([ 'rpmlint', "$root/rpm/supervisor.spec" ]))[0], qr/; 0 errors,/, 'rpmlint finds no error in the spec');
}

done_testing();
