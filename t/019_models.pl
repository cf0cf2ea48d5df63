# Each step of a model in model/ names the functions that it stands for, which are there;
# and where spin is installed, the quick ones hold, and their mutants do not.

use strict;
use warnings;

use FindBin;
use Test::More;

my $root = "$FindBin::RealBin/..";
my %defined;

sub contents
{
	my ($file) = @_;

	open(my $handle, '<', $file) or die "$file: $!\n";
	local $/ = undef;
	return scalar <$handle>;
}

# The core's own that are meant, and a system call.
$defined{$_} = 1 foreach qw(proc_exit kill);
foreach my $file (glob("$root/src/*.[ch]"))
{
	$defined{$_} = 1 foreach contents($file) =~ /^(?:\w[\w ]*[ *])?(\w+)\([^;\n]*$/mg;
}

my @models = glob("$root/model/*.pml");
cmp_ok(@models, '>=', 4, 'there are models');
foreach my $model (@models)
{
	my ($name) = $model =~ /(\w+)\.pml$/;
	my (@unknown, @silent);
	my $lines = 0;

	foreach my $line (split /\n/, contents($model))
	{
		my @functions = map { /\b(\w+)\(\)/g } $line =~ m{/\*(.*?)\*/}g;

		$lines++;
		push @unknown, grep { !$defined{$_} } @functions;
		push @silent, $line
		  if $line =~ /\batomic \{|\bd_step \{|^(?:active(?: \[\d\])? )?proctype |^inline /
		  && !@functions && $line !~ m{^inline check\b|^\t*(?:idle:)?\s*atomic \{\s*found = ROWS; found_spot = 0};
	}
	is("@unknown", '', "$name: the functions that it names are there");
	is(join("\n", @silent), '', "$name: each step names one");
	cmp_ok($lines, '<', 400, "$name: is short");
}

SKIP:
{
	skip 'spin is not installed', 1 if system('command -v spin >/dev/null && command -v gcc >/dev/null') != 0;
	local $ENV{MODELS} = join ' ', map { "$root/model/$_.pml" } qw(cancel start wakeup);

	is(system("$root/scripts/model"), 0, 'the quick ones hold, and their mutants do not');
}

done_testing();
