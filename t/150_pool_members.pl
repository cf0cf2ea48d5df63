# Pools that belong to somebody: which roles a list lets in, when it counts, and
# what the setting says of a list that is wrong.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(value becomes refused until_true quote);

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 32,
	'supervisor.pool_size' => 2);

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);

# Sets supervisor.pools, and waits until the supervisor has taken over the last of its pools.
my $sets = 0;

sub set_pools
{
	my ($pools) = @_;
	my $mark = 'mark' . ++$sets;

	SupervisorTest::set($node, 'supervisor.pools' => join ', ', grep { $_ ne '' } $pools, "$mark:0");
	until_true("SELECT count(*) = 1 FROM supervisor.pool_status WHERE pool = '$mark'", "the setting is \"$pools\"");
}

# Tests that a role is let into a pool.
sub let_in
{
	my ($role, $pool, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value("SELECT supervisor.execute('SELECT 1', pool => " . quote($pool) . ')', user => $role), 'SELECT 1', $property);
}

# Tests that it is not; returns stderr.
sub kept_out
{
	my ($role, $pool, $property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return refused("SELECT supervisor.execute('SELECT 1', pool => " . quote($pool) . ')', '42501', $property,
		user => $role, message => qr/permission denied for pool "\Q$pool\E"/, hint => qr/supervisor\.pools/);
}

value(q{
	CREATE ROLE mail NOLOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE member LOGIN IN ROLE mail;
	CREATE ROLE distant LOGIN IN ROLE member;
	CREATE ROLE careful LOGIN NOINHERIT IN ROLE mail;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE boss LOGIN SUPERUSER;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO PUBLIC;
	GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA supervisor TO PUBLIC;
	CREATE TABLE done (who name DEFAULT current_user);
	GRANT ALL ON done TO PUBLIC});

note 'whom a list lets in';

set_pools('mail:1(mail, app), open:1, closed:1()');
let_in('app', 'mail', 'a role that is listed');
let_in('member', 'mail', 'a member of one');
let_in('distant', 'mail', 'a member of a member');
let_in('careful', 'mail', 'a member that does not inherit');
let_in('boss', 'mail', 'a superuser');
like(kept_out('stranger', 'mail', 'another role is kept out'),
	qr/DETAIL:  Role "stranger" is no member of the roles that may use it: mail, app\./, 'and told who may');
let_in('stranger', 'open', 'without a list whoever may submit tasks is let in');
let_in('boss', 'closed', 'an empty list lets in superusers');
like(kept_out($_, 'closed', "and nobody else, as $_"), qr/DETAIL:  Only superusers/, "and says so to $_") foreach qw(app stranger);
is( value(q{SELECT pool, coalesce(members::text, 'none') FROM supervisor.pool_status WHERE pool !~ 'mark' ORDER BY 1}, user => 'stranger'),
	"closed|{}\ndefault|none\nmail|{mail,app}\nopen|none", 'everybody sees who may use which pool');
foreach my $call (
	q{SELECT * FROM supervisor.run('SELECT 1', pool => 'mail') AS (a int)},
	q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT 1'], pool => 'mail')},
	q{SELECT supervisor.launch('SELECT 1', pool => 'mail')},
	q{CALL supervisor.perform('SELECT 1', pool => 'mail')})
{
	refused($call, '42501', $call, user => 'stranger', message => qr/permission denied for pool "mail"/);
	is((SupervisorTest::error_of($node, $call, user => 'member'))[0], undef, "$call: a member");
}
refused(q{SELECT supervisor.execute('SELECT 1', pool => 'none')}, '42704', 'of a pool that does not exist nothing is said', user => 'stranger');

note 'which role it is';

value(q{
	CREATE FUNCTION as_member(pool text) RETURNS text LANGUAGE sql SECURITY DEFINER
	RETURN supervisor.execute('INSERT INTO done DEFAULT VALUES', pool => $1);
	ALTER FUNCTION as_member OWNER TO member;
	CREATE FUNCTION as_stranger(pool text) RETURNS text LANGUAGE sql SECURITY DEFINER
	RETURN supervisor.execute('INSERT INTO done DEFAULT VALUES', pool => $1);
	ALTER FUNCTION as_stranger OWNER TO stranger});
is(value(q{SELECT as_member('mail')}, user => 'stranger'), 'INSERT 0 1', 'in a SECURITY DEFINER function it is the owner');
refused(q{SELECT as_stranger('mail')}, '42501', 'also if the caller might', user => 'app');
refused(q{SET ROLE stranger; SELECT supervisor.execute('SELECT 1', pool => 'mail')}, '42501', 'it is the role that was set');
refused(q{SET ROLE stranger; SELECT supervisor.execute('SELECT 1', pool => 'mail')}, '42501', 'also behind one that may', user => 'boss');
is(value(q{SET ROLE mail; RESET ROLE; SET ROLE member; SELECT supervisor.execute('INSERT INTO done DEFAULT VALUES', pool => 'mail')}),
	'INSERT 0 1', 'and a member by that');
is(value('SELECT string_agg(DISTINCT who, NULL) FROM done'), 'member', 'the task runs as the role that was asked for');
like(
	refused(q{SELECT supervisor.execute($$ SELECT supervisor.launch('SELECT 1', pool => 'mail') $$, pool => 'open')},
		'42501', 'in a task it is that of the task', user => 'stranger'), qr/CONTEXT:.*supervisor task/, 'whose error it is');
is(value(q{SELECT supervisor.execute($$ SELECT supervisor.forget(supervisor.launch('SELECT 1', pool => 'mail')) $$, pool => 'open')}, user => 'app'),
	'SELECT 1', 'which may get into another pool');

note 'what counts at once';

{
	my $session = SupervisorTest::session($node, user => 'stranger');
	my $mail = q{SELECT supervisor.execute('SELECT 1', pool => 'mail')};

	refused($mail, '42501', 'a stranger', session => $session);
	value('GRANT mail TO stranger');
	is($session->query_safe($mail), 'SELECT 1', 'a grant counts at once, in an open session') foreach 1, 2;
	value('REVOKE mail FROM stranger');
	refused($mail, '42501', 'and so does a revoke', session => $session);
	value('ALTER ROLE stranger SUPERUSER');
	is($session->query_safe($mail), 'SELECT 1', 'a superuser may');
	value('ALTER ROLE stranger NOSUPERUSER');
	refused($mail, '42501', 'for as long as it is one', session => $session);

	value('ALTER ROLE mail RENAME TO post');
	kept_out('member', 'mail', 'the name counts: who is a member of a role that was renamed is kept out');
	value('CREATE ROLE mail IN ROLE post');
	kept_out('member', 'mail', 'also if another has the name');
	value('GRANT mail TO stranger');
	is($session->query_safe($mail), 'SELECT 1', 'whose members are let in');
	value('DROP ROLE mail');
	refused($mail, '42501', 'until it is dropped', session => $session);
	value('ALTER ROLE post RENAME TO mail');
	let_in('member', 'mail', 'the old name is as good as before');
	$session->quit;
}

note 'roles that do not exist';

{
	my $offset = -s $node->logfile;
	my $session = SupervisorTest::session($node, user => 'stranger');
	my $late = q{SELECT supervisor.execute('SELECT 1', pool => 'late')};

	set_pools('mail:1(mail, app), late:1(later, mail), later:0(later, "Never")');
	ok($node->wait_for_log(qr/WARNING: .*role "Never" in the list of pool "later" does not exist/, $offset), 'a role that does not exist is a warning');
	ok($node->wait_for_log(qr/WARNING: .*role "later" in the list of pool "$_" does not exist/, $offset), "of pool $_")
	  foreach qw(late later);
	unlike(slurp_file($node->logfile, $offset), qr/role "(?:mail|app)" in the list/, 'of those that do there is none');
	let_in('member', 'late', 'the others count');
	refused($late, '42501', 'those that do not have no members', session => $session);
	value('CREATE ROLE later; GRANT later TO stranger');
	is($session->query_safe($late), 'SELECT 1', 'a role that is made later counts without a reload');
	value('DROP ROLE later');
	refused($late, '42501', 'until it is dropped', session => $session);
	$session->quit;
	$offset = -s $node->logfile;
	$node->reload;
	ok($node->wait_for_log(qr/WARNING: .*role "later" in the list of pool "late" does not exist/, $offset), 'it is said again at the next reload');
}

note 'pg_authid is locked';

{
	my $holder = SupervisorTest::session($node);
	my $session = SupervisorTest::session($node);
	my $offset = -s $node->logfile;

	# whatever these look up they have in their caches by then
	my $size = sub {
		$session->query_safe("ALTER SYSTEM SET supervisor.pools = 'late:$_[0](nobody), mail:1(mail, app)'");
		$session->query_safe('SELECT pg_reload_conf()');
		return $session->wait_true("SELECT size = $_[0] FROM supervisor.get_pools() WHERE pool = 'late'");
	};

	ok($size->(2), 'a pool grows');
	$holder->query_safe('BEGIN; LOCK TABLE pg_authid');
	ok($size->($_), "and changes while the catalog of roles is locked: $_") foreach 1, 2, 1;
	$offset = -s $node->logfile;
	$holder->quit;
	ok($node->wait_for_log(qr/WARNING: .*role "nobody" in the list of pool "late"/, $offset), 'what does not exist is said when the lock has gone');
	$session->quit;
}

note 'a list that changes while tasks are queued';

{
	set_pools('mail:1(mail, app)');
	my $lock = SupervisorTest::session($node);
	my $session = SupervisorTest::session($node, user => 'app');
	my $launch = q{SELECT count(supervisor.forget(supervisor.launch('INSERT INTO done SELECT current_user FROM pg_advisory_xact_lock_shared(1)', pool => 'mail'))) FROM generate_series(1, %d)};

	value('TRUNCATE done');
	$lock->query_safe('SELECT pg_advisory_lock(1)');
	is($session->query_safe(sprintf $launch, 5), '5', 'tasks are queued');
	set_pools('mail:1(mail)');
	refused(sprintf($launch, 1), '42501', 'a role that is taken off the list is kept out', session => $session);
	set_pools('mail:1(app, mail)');
	is($session->query_safe(sprintf $launch, 1), '1', 'and let in when it is back');
	set_pools('mail:1()');
	refused(sprintf($launch, 1), '42501', 'nobody is listed', session => $session);
	set_pools('');
	refused(sprintf($launch, 1), '42704', 'the pool is removed', session => $session);
	set_pools('mail:1');
	is($session->query_safe(sprintf $launch, 1), '1', 'and comes back without a list');
	set_pools('mail:1(mail)');
	value('REVOKE mail FROM member; GRANT mail TO member');
	$lock->quit;
	becomes(q{SELECT count(*) = 7 FROM done}, 'what was queued is run, whatever became of the list');
	$session->quit;
}

note 'execute_all while the list changes';

{
	my $session = SupervisorTest::session($node, user => 'member');

	$session->begin(q{SELECT count(tag) FROM supervisor.execute_all(array_fill('SELECT pg_sleep(0.001)'::text, ARRAY[1000000]), pool => 'mail')});
	until_true(q{SELECT count(*) > 0 FROM supervisor.task_status WHERE usename = 'member'}, 'it runs');
	set_pools('mail:1(app)');
	like(($session->finish)[1], qr/42501.*permission denied for pool "mail"/, 'what is not submitted yet is not let in any more');
	becomes(q{SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL}, 'and what is queued is canceled with the call');
	$session->quit;
}

note 'the pool "default"';

set_pools('default(app), mail:1(mail)');
is(value(q{SELECT supervisor.execute('SELECT 1')}, user => 'app'), 'SELECT 1', 'it may have a list, too');
refused(q{SELECT supervisor.execute('SELECT 1')}, '42501', 'which keeps others out', user => 'member', message => qr/pool "default"/);
let_in('member', 'mail', 'of no other pool');
is(value(q{SELECT size, members FROM supervisor.pool_status WHERE pool = 'default'}), '2|{app}', 'its size is that of supervisor.pool_size');
SupervisorTest::set($node, 'supervisor.pool_size' => 3);
becomes(q{SELECT size = 3 AND members = '{app}' FROM supervisor.pool_status WHERE pool = 'default'}, 'also when that changes');

note 'odd names';

my %odd = (
	'a,b' => '"a,b"', 'a(b)' => '"a(b)"', 'a"b' => '"a""b"', 'Upper' => '"Upper"', 'lower' => 'LOWER',
	q{it's} => q{it's}, 'a b' => '"a b"', 'a:1' => 'a:1', "\xc3\xa4" => "\xc3\xa4", 'x' x 63 => 'x' x 63, ')' => '")"');
value('CREATE ROLE "' . s/"/""/gr . '" LOGIN') foreach sort keys %odd;
set_pools('odd:1( ' . join(' ,', map { $odd{$_} } sort keys %odd) . " )  ,  after : 1 ( app )");
let_in($_, 'odd', "a role named $_") foreach sort keys %odd;
kept_out('app', 'odd', 'no other');
let_in('app', 'after', 'white space does not matter');
is( value(q{SELECT count(*) FROM supervisor.pool_status, unnest(members) m JOIN pg_roles ON rolname = m WHERE pool = 'odd'}),
	scalar(keys %odd), 'each is shown as it is named');
set_pools('odd:1(upper)');
kept_out('Upper', 'odd', 'upper and lower case differ');

note 'what is wrong';

my %wrong = (
	'mail:1(a' => 'not closed', 'mail:1(a b)' => 'not closed', 'mail:1(a,b' => 'not closed', 'mail:1(a"b")' => 'not closed', 'mail:1(a(b))' => 'not closed',
	'mail:1(a,)' => 'name of a role is missing', 'mail:1(,a)' => 'name of a role is missing', 'mail:1("")' => 'name of a role is missing',
	'mail:1(' => 'name of a role is missing', 'mail:1("a)' => 'has no end', 'mail:1("a""' => 'has no end',
	'mail:1)' => 'The form is', 'mail:1(a)b:2' => 'The form is', 'mail:1(a)(b)' => 'The form is', 'mail(a):1' => 'The form is', 'mail(a)' => 'The form is',
	'(a)' => 'The form is', 'default' => 'The form is', 'default(a):2' => 'The form is', 'ma(il:1' => 'The form is',
	'default:2(a)' => 'supervisor\.pool_size', 'default(a), default(b)' => 'twice', 'mail:1(a), mail:1(b)' => 'twice',
	'mail:1(' . 'r' x 64 . ')' => 'role is too long');
foreach my $wrong (sort keys %wrong)
{
	refused('ALTER SYSTEM SET supervisor.pools = ' . quote($wrong), '22023', "'$wrong' is refused", message => qr/DETAIL:  .*$wrong{$wrong}.*\.$/m);
}
my $long = 'mail:1(' . join(',', map { sprintf 'role_of_some_length_%03d', $_ } 1 .. 100) . ')';
refused("ALTER SYSTEM SET supervisor.pools = '$long'", '22023', 'a list that is too long is refused',
	message => qr/DETAIL:  The list of roles of pool "mail" is too long.* 2048/);
set_pools('mail:1(app, ' . join(',', map { sprintf 'role_of_some_length_%02d', $_ } 1 .. 80) . ', member)');
let_in('member', 'mail', 'a long one works to its end');
$node->restart;
let_in('member', 'mail', 'all is as it was after a restart');
kept_out('stranger', 'mail', 'for others as well');

$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
