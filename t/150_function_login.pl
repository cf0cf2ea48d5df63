# A library's function that logs in itself, to what does not exist or does not let
# it in: it waits, says for what, and runs at once when that has come.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes until_true value);

# So long that only what is tried at once is tried again at all.
my $node = SupervisorTest::new_node(
	'function_login',
	'max_worker_processes' => 16,
	'supervisor.restart_delay' => '1h',
	'supervisor.restart_delay_max' => '1h',
	'supervisor.max_restarts' => 0);
my $library = SupervisorTest::build_library('connecting_worker');

SupervisorTest::ask(\$node);

sub is_so
{
	my ($name, $state, $property) = @_;

	becomes(qq{SELECT concat_ws(' ', state, reason) = '$state' FROM supervisor.worker_status WHERE name = '$name'}, "$property: $state");
}

# How often the log has told of its end.
sub told
{
	my ($name) = @_;
	my @lines = slurp_file($node->logfile) =~ /worker "$name" in slot \d+ ended: (.*)/g;

	return scalar @lines;
}

sub add
{
	my ($name, $extra) = @_;

	value("SELECT supervisor.add_worker('$name', library => '$library', function => 'connects_by_name', extra => '$extra')");
}

note 'a database';
add('of_database', 'later:postgres');
is_so('of_database', 'waiting no_database', 'its database does not exist');
is(value(q{SELECT last_sqlstate || ' ' || consecutive_failures FROM supervisor.worker_status WHERE name = 'of_database'}), '3D000 0', 'that is no failure of its own');
my $restarts = value(q{SELECT restarts FROM supervisor.worker_status WHERE name = 'of_database'});
value('CREATE ROLE unrelated');
until_true("SELECT restarts > $restarts AND state = 'waiting' FROM supervisor.worker_status WHERE name = 'of_database'", 'it is tried again');
is(told('of_database'), 1, 'tried again, it is logged once');
unlike(slurp_file($node->logfile), qr/FATAL:  database "later" does not exist/, 'and by the supervisor alone');
value('CREATE DATABASE later');
is_so('of_database', 'running', 'its database is created');
value('ALTER DATABASE later RENAME TO former');
is_so('of_database', 'waiting no_database', 'its database is renamed');
value('ALTER DATABASE former RENAME TO later');
is_so('of_database', 'running', 'and has its name again');
value('DROP DATABASE later');
is_so('of_database', 'waiting no_database', 'its database is dropped');
is(told('of_database'), 3, 'each time that it is lost is logged once');

note 'a role';
add('of_role', 'postgres:somebody');
is_so('of_role', 'waiting no_role', 'its role does not exist');
value('CREATE ROLE somebody');
is_so('of_role', 'waiting no_login', 'its role may not log in');
value('ALTER ROLE somebody LOGIN');
is_so('of_role', 'running', 'it may');
value('ALTER ROLE somebody RENAME TO somebody_else');
value(q{SELECT supervisor.restart_worker('of_role', '0')});
is_so('of_role', 'waiting no_role', 'it has another name');
value('ALTER ROLE somebody_else RENAME TO somebody');
is_so('of_role', 'running', 'and its own');

note 'rights';
value('CREATE DATABASE closed');
value('REVOKE CONNECT ON DATABASE closed FROM PUBLIC');
add('of_right', 'closed:somebody');
is_so('of_right', 'waiting database_not_allowed', 'its role may not connect');
value('GRANT CONNECT ON DATABASE closed TO somebody');
is_so('of_right', 'running', 'it may');
value('ALTER DATABASE closed ALLOW_CONNECTIONS false');
value(q{SELECT supervisor.restart_worker('of_right', '0')});
is_so('of_right', 'waiting database_not_allowed', 'the database takes no connections');
value('ALTER DATABASE closed ALLOW_CONNECTIONS true');
is_so('of_right', 'running', 'it does');

note 'no connection for now, which core tells background workers nothing of';
my $refuses = SupervisorTest::build_library('refuses_login');
foreach my $sqlstate ('53300', '57P03')
{
	my $role = "refused_$sqlstate";
	my $name = lc $role;

	value("CREATE ROLE $role LOGIN");
	value("ALTER ROLE $role SET session_preload_libraries = '$refuses'");
	value("ALTER ROLE $role SET refuses_login.sqlstate = '$sqlstate'");
	value("SELECT supervisor.add_worker('$name', 'SELECT 1', run_every => '1 h', role => '$name')");
	is_so($name, 'waiting no_connection', "$sqlstate: a command");
	is(value("SELECT last_sqlstate || ' ' || consecutive_failures FROM supervisor.worker_status WHERE name = '$name'"), "$sqlstate 0", "$sqlstate: that is no failure of its own");
	value("ALTER ROLE $role RESET session_preload_libraries");
	value("ALTER ROLE $role CONNECTION LIMIT 5");
	is_so($name, 'running', "$sqlstate: there is room for one more");
}

note 'what only looks like it';
value("SELECT supervisor.add_worker('other', library => '$library', function => 'misses_something')");
is_so('other', 'failed max_restarts', 'an error of that SQLSTATE that is not of a login');
value(q{SELECT pg_terminate_backend(pid) FROM supervisor.worker_status WHERE name = 'of_role'});
is_so('of_role', 'failed max_restarts', 'what ends once it is connected has failed');

done_testing();
