# Every example in *.md and docs/*.md does what it says.  For each file a
# new node, and on it, in order:
#
#   ```sql                  runs in psql, in a session of its own, without error
#   ```sql error=SQLSTATE   must raise that error
#   ```sql pg_cron          is run by t/003_recipes.pl, with what it takes
#   ```conf                 is added to postgresql.conf, and the server restarted;
#                           every line must be a setting, and accepted
#   ```text output          after an sql block: what psql prints for it
#
# What they refer to is there: the files, and the headings of links.  They and the
# messages are in plain English.
#
# In the database there are the extension and the sample tables of README.md,
# unless the file creates them itself.

use strict;
use warnings;

use File::Basename;
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest;

my $root = "$FindBin::RealBin/..";

# Runs an sql block as a reader would, in psql; returns its exit status, stdout and stderr.
sub run_psql
{
	my ($node, $sql) = @_;
	my ($stdout, $stderr);

	IPC::Run::run [
		'psql', '-Xq',
		'-d', $node->connstr('postgres'),
		'-v', 'ON_ERROR_STOP=1',
		'-v', 'VERBOSITY=verbose',
		'-f', '-'
	  ],
	  '<', \$sql, '>', \$stdout, '2>', \$stderr,
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	return ($? >> 8, $stdout, $stderr);
}

# Adds a conf block to postgresql.conf and restarts; returns what is wrong with it, or ''.
sub apply_conf
{
	my ($node, $text) = @_;

	$node->append_conf('postgresql.conf', $text);
	$node->stop;
	return 'the server does not start' if !$node->start(fail_ok => 1);

	# A misspelt name with a prefix is taken for an extension's that is not loaded.
	my @names = $text =~ /^\s*([A-Za-z_.]+)[\s=]/mg;
	return join ', ', grep {
		$node->safe_psql('postgres',
			"SELECT 1 FROM pg_settings WHERE name = '$_' AND source = 'configuration file'") ne '1'
	} @names;
}

# Returns the anchors of a Markdown file's headings.
sub anchors
{
	my ($file) = @_;
	my $text = PostgreSQL::Test::Utils::slurp_file($file);

	$text =~ s/^```.*?^```$//msg;
	return map { lc =~ s/[^\w\- ]//gr =~ tr/ /-/r } $text =~ /^#+ (.*)/mg;
}

my @documents = (sort(glob "$root/*.md"), "$root/bench/README.md", sort glob "$root/docs/*.md");

foreach my $file (@documents)
{
	my $text = PostgreSQL::Test::Utils::slurp_file($file);
	my @missing = grep { !-e "$root/$_" } $text =~ m{`((?:bench|debian|docs|rpm|scripts|src|t|\.ci|\.github)/[\w./]*)`}g;

	foreach my $link ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ /^https?:/;
		my ($path, $anchor) = split /#/, $link;
		my $target = $path eq '' ? $file : dirname($file) . "/$path";

		push @missing, $link
		  if !-e $target || (defined $anchor && !grep { $_ eq $anchor } anchors($target));
	}
	is(join(', ', @missing), '', substr($file, length "$root/") . ': what it refers to is there');
}

foreach my $file (@documents, glob "$root/src/*.[ch] $root/supervisor--*.sql")
{
	my %instead = ('mend' => 'fix', 'is no superuser' => 'is not a superuser', 'meant so' => 'a reason');
	my $text = PostgreSQL::Test::Utils::slurp_file($file);
	my @said = grep { $text =~ /\b$_/i } sort keys %instead;

	is(join(', ', map { "$_: say $instead{$_}" } @said), '', substr($file, length "$root/") . ': plain English') if @said;
}

my $examples = 0;

foreach my $file (@documents)
{
	my @blocks = grep { $_->{info} =~ /^(sql|conf|text output)\b/ && $_->{info} !~ /pg_cron/ } SupervisorTest::blocks($file);
	next if !@blocks;

	my $name = substr $file, length "$root/";
	note $name;

	my $node = SupervisorTest::new_node($name =~ s/\W/_/gr, max_worker_processes => 32);
	my $creates = sub { grep { $_->{info} =~ /^sql/ && $_->{text} =~ /^CREATE $_[0]\b/m } @blocks };
	SupervisorTest::create_sample($node) if !$creates->('TABLE accounts');
	$node->safe_psql('postgres', 'DROP EXTENSION supervisor') if $creates->('EXTENSION supervisor');

	my $stdout;
	foreach my $block (@blocks)
	{
		my $where = "$name, line $block->{line}";

		if ($block->{info} =~ /^sql\b\s*(?:error=(\w+))?/)
		{
			my $expected = $1 // 'none';
			(my $status, $stdout, my $stderr) = run_psql($node, $block->{text});
			my $error = SupervisorTest::sqlstate($stderr)
			  // ($status == 0 ? 'none' : "psql exited with $status");

			is($error, $expected, "$where: error") or diag $stderr;
			$examples++;
		}
		elsif ($block->{info} eq 'conf')
		{
			is(apply_conf($node, $block->{text}), '', "$where: settings are accepted");
			$stdout = undef;
		}
		else
		{
			is(SupervisorTest::visible($stdout // 'no sql block precedes'), SupervisorTest::visible($block->{text}), "$where: output");
		}
	}
	$node->stop;
}

cmp_ok($examples, '>', 0, 'there are examples');
done_testing();
