# monitoring/: the exporters get each metric with its value, as a role that has pg_monitor and
# nothing else; alerts fire and do not; alerts and dashboard name only metrics that there are.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use HTTP::Tiny;
use IPC::Run;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(until_true value eventually);

my $dir = "$FindBin::RealBin/../monitoring";

note 'the files';

# The queries of a file, by name: text, values and labels.
sub queries
{
	my ($file, $begin) = @_;
	my %queries;

	foreach my $part (split /^(?=$begin\w+)/m, slurp_file("$dir/$file"))
	{
		my ($name) = $part =~ /^$begin(\w+)/ or next;
		my ($indent, $text) = $part =~ /^( +)query: \|\n((?:\1 +.*\n)+)/m;

		$text =~ s/^$indent  //mg;
		my %columns = $part =~ /^ +- (\w+):\n +usage: "(\w+)"$/mg;
		my ($values) = $part =~ /^ +values: \[(.*)\]$/m;
		my ($labels) = $part =~ /^ +labels: \[(.*)\]$/m;
		$queries{$name} = {
			text => $text,
			values => [ sort $values ? split /, /, $values : grep { $columns{$_} ne 'LABEL' } keys %columns ],
			labels => [ sort $labels ? split /, /, $labels : grep { $columns{$_} eq 'LABEL' } keys %columns ] };
	}
	return \%queries;
}

my $queries = queries('postgres_exporter.yml', '');
my %metrics = map {
	my $name = $_;
	map { ("${name}_$_" => 1) } @{ $queries->{$name}{values} };
} keys %$queries;
cmp_ok(scalar keys %metrics, '>', 20, 'there are metrics');
is_deeply(queries('sql_exporter.yml', '  - name: '), $queries, 'both exporters have the same queries');

foreach my $file (qw(alerts.yml alerts_test.yml dashboard.json))
{
	my %named = map { $_ => 1 } grep { !exists $queries->{$_} } slurp_file("$dir/$file") =~ /\b(supervisor_(?!h\b)\w+)/g;

	cmp_ok(scalar keys %named, '>', 5, "$file names metrics");
	is(join(', ', grep { !$metrics{$_} } sort keys %named), '', 'and only such that there are');
}
my $dashboard = decode_json(slurp_file("$dir/dashboard.json"));
my %shown = map { $_ => 1 } map { $_->{expr} =~ /\b(supervisor_\w+)/g } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar keys %shown, '>', 15, 'the dashboard shows many of them');
is(scalar(grep { $_->{expr} !~ /\{instance=~"\$instance"/ } map { @{ $_->{targets} } } @{ $dashboard->{panels} }), 0,
	'each query of it is about the chosen servers');

# Each has one test in which it fires, and one in which it does not.
my @alerts = slurp_file("$dir/alerts.yml") =~ /^  - alert: (\w+)$/mg;
my $tests = slurp_file("$dir/alerts_test.yml");
is_deeply([ $tests =~ /^ +alertname: (\w+)\n +exp_alerts:$/mg ], \@alerts, 'each alert has a test in which it fires');
is_deeply([ $tests =~ /^ +- \{eval_time: \w+, alertname: (\w+)\}$/mg ], \@alerts, 'and one in which it does not');

is_deeply([ slurp_file("$dir/../docs/monitoring.md") =~ /`(Supervisor\w+)`/g ], \@alerts, 'docs/monitoring.md has all alerts');

SKIP:
{
	skip 'there is no promtool', 2 if system('command -v promtool >/dev/null') != 0;
	foreach my $command ([ check => "$dir/alerts.yml" ], [ test => "$dir/alerts_test.yml" ])
	{
		my ($what, $file) = @$command;

		command_like([ 'promtool', $what, 'rules', $file ], qr/SUCCESS/, "promtool $what rules");
	}
}

note 'a server of which all is known';

my $node = SupervisorTest::new_node(
	'main',
	'max_worker_processes' => 16,
	'supervisor.pool_size' => 2,
	'supervisor.pools' => 'batch:1',
	'supervisor.max_tasks' => 64,
	'supervisor.restart_delay' => '1ms');

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, $_->[0], $_->[1]) foreach [ default => 2 ], [ batch => 1 ];
value('CREATE ROLE monitor LOGIN IN ROLE pg_monitor');
value('CREATE ROLE gone LOGIN');
value(q{SELECT supervisor.add_worker('fine', 'SELECT 1', run_every => '1 h')});
value(q{SELECT supervisor.add_worker('bad', 'SELECT 1/0', max_restarts => 2, restart_window => '1 h')});
value(q{SELECT supervisor.add_worker('lost', 'SELECT 1', run_every => '5 s', role => 'gone')});
until_true(q{SELECT runs_succeeded > 0 FROM supervisor.worker_status WHERE name = 'lost'});
value('DROP ROLE gone');
my $session = SupervisorTest::session($node);
$session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600)', pool => 'batch') FROM generate_series(1, 3)});
$session->query_safe(q{SELECT supervisor.launch('SELECT pg_sleep(3600) /* ' || repeat('x', 20000) || ' */')});
$session->query_safe(q{SELECT supervisor.execute_all(ARRAY['SELECT 1', 'SELECT 2', 'SELECT 1/0'])});
$session->query_safe(q{SELECT supervisor.cancel(t), supervisor.wait(t) FROM supervisor.launch('SELECT 1', pool => 'batch') t});
until_true(q{SELECT count(*) FILTER (WHERE name = 'fine' AND runs_succeeded = 1) = 1 AND count(*) FILTER (WHERE name = 'bad' AND state = 'failed') = 1
	AND count(*) FILTER (WHERE name = 'lost' AND reason = 'no_role') = 1 AND count(*) FILTER (WHERE activity = 'busy') = 2 FROM supervisor.worker_status});

value(q{SELECT supervisor.enqueue('SELECT 1'), supervisor.enqueue('SELECT 1/0', max_attempts => 1), supervisor.enqueue('SELECT 1', run_at => 'infinity')});
value(q{SELECT supervisor.enqueue('SELECT 1', pool => 'batch') FROM generate_series(1, 2)});
value(q{UPDATE supervisor.job SET origin = NULL WHERE run_at = 'infinity' AND state = 'w'});
until_true(q{SELECT count(*) FILTER (WHERE state = 'queued') = 2 AND count(*) FILTER (WHERE state = 'failed') = 1 AND count(*) = 4 FROM supervisor.job_status});

# What is to be found, by name and labels; of a time, in which range.
sub worker { return map { ("name=$_->[0],datname=postgres,kind=command" => $_->[1]) } map { [ $_->[0], $_->[1] ] } @_; }
my $held = value('SELECT memory_used FROM supervisor.server_status');
cmp_ok($held, '>', 20000, 'a large command is held in shared memory');
my $nan = 'NaN';
my $up = value('SELECT extract(epoch FROM since) FROM supervisor.server_status');
my %expected = (
	server_up => { '' => 1 },
	server_since_timestamp_seconds => { '' => [ $up - 1, $up + 1 ] },
	server_tasks => { '' => 5 },
	server_tasks_max => { '' => 64 },
	server_memory_used_bytes => { '' => $held },
	server_memory_max_bytes => { '' => 67108864 },
	server_unread_databases => { '' => 0 },
	health_findings => { 'severity=critical' => 1, 'severity=warning' => 2, 'severity=notice' => [ 1, 3 ] },
	pool_size => { 'pool=default' => 2, 'pool=batch' => 1 },
	pool_running => { 'pool=default' => 2, 'pool=batch' => 1 },
	pool_unbound => { 'pool=default' => [ 0, 1 ], 'pool=batch' => 0 },
	pool_idle => { 'pool=default' => [ 0, 1 ], 'pool=batch' => 0 },
	pool_busy => { 'pool=default' => 1, 'pool=batch' => 1 },
	pool_queued_tasks => { 'pool=default' => 0, 'pool=batch' => 2 },
	pool_oldest_queued_seconds => { 'pool=default' => 0, 'pool=batch' => [ 0.001, 3600 ] },
	pool_tasks_succeeded_total => { 'pool=default' => 2, 'pool=batch' => 0 },
	pool_tasks_failed_total => { 'pool=default' => 1, 'pool=batch' => 0 },
	pool_tasks_canceled_total => { 'pool=default' => 0, 'pool=batch' => 1 },
	pool_jobs_succeeded_total => { 'pool=default' => 1, 'pool=batch' => 0 },
	pool_jobs_failed_total => { 'pool=default' => 1, 'pool=batch' => 0 },
	jobs_due => { 'datname=postgres,pool=default' => 0, 'datname=postgres,pool=batch' => 2 },
	jobs_oldest_due_seconds => { 'datname=postgres,pool=default' => 0, 'datname=postgres,pool=batch' => [ 0.001, 3600 ] },
	jobs_running => { 'datname=postgres,pool=default' => 0, 'datname=postgres,pool=batch' => 0 },
	jobs_failed => { 'datname=postgres,pool=default' => 1, 'datname=postgres,pool=batch' => 0 },
	jobs_copied => { 'datname=postgres,pool=default' => 1, 'datname=postgres,pool=batch' => 0 },
	pool_restarts_total => { 'pool=default' => 0, 'pool=batch' => 0 },
	worker_running => {worker([ fine => 1 ], [ bad => 0 ], [ lost => 0 ])},
	worker_consecutive_failures => {worker([ fine => 0 ], [ bad => 3 ], [ lost => 0 ])},
	worker_restarts_total => {worker([ fine => 0 ], [ bad => 3 ], [ lost => [ 0, 2 ] ])},
	worker_runs_succeeded_total => {worker([ fine => 1 ], [ bad => 0 ], [ lost => [ 1, 100 ] ])},
	worker_runs_failed_total => {worker([ fine => 0 ], [ bad => 3 ], [ lost => 0 ])},
	worker_run_every_seconds => {worker([ fine => 3600 ], [ bad => $nan ], [ lost => 5 ])},
	worker_since_success_seconds => {worker([ fine => [ 0.001, 3600 ] ], [ bad => $nan ], [ lost => [ 0.001, 3600 ] ])},
	workers_in_state => {
		'kind=pool,name=default,datname=,state=running,reason=' => 2,
		'kind=pool,name=batch,datname=,state=running,reason=' => 1,
		'kind=command,name=fine,datname=postgres,state=running,reason=' => 1,
		'kind=command,name=bad,datname=postgres,state=failed,reason=max_restarts' => 1,
		'kind=command,name=lost,datname=postgres,state=waiting,reason=no_role' => 1 });
is_deeply([ sort map { "supervisor_$_" } keys %expected ], [ sort keys %metrics ], 'no metric is left out here');

sub in_order { return join ',', sort split /,/, $_[0]; }
%expected = map {
	my ($name, $series) = ($_, $expected{$_});
	map { ("supervisor_$name\{" . in_order($_) . '}' => $series->{$_}) } keys %$series;
} keys %expected;

# Starts an exporter; returns how to ask for its metrics, which it may have none of yet.
my @running;
END { my $status = $?; $_->kill_kill foreach @running; $? = $status; }

sub start
{
	my ($port, @command) = @_;
	my $output = "$PostgreSQL::Test::Utils::log_path/exporter_$port.log";

	push @running, IPC::Run::start(\@command, '<', '/dev/null', '>&', $output);
	return sub {
		my $response = HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default)->get("http://127.0.0.1:$port/metrics");
		return {} if !$response->{success};
		my %found;

		while ($response->{content} =~ /^(sql_)?(supervisor_\w+?)\{(.*)\} (\S+)$/mg)
		{
			my ($name, $labels, $value) = ($2, $3, $4);
			my %labels = $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

			# as Prometheus is to rename them
			$name .= "_$labels{col}" if $labels{col};
			my $kept = join ',', map { "$_=$labels{$_}" } grep { !/^(?:server|col|sql_job|driver|host|database|user)$/ } sort keys %labels;
			$found{"$name\{$kept}"} = $value;
		}
		return \%found;
	};
}

# Returns what differs from what is expected.
sub differences
{
	my ($found) = @_;
	my @wrong = map { "$_ is not expected" } grep { !exists $expected{$_} } sort keys %$found;

	foreach my $series (sort keys %expected)
	{
		my ($want, $got) = ($expected{$series}, $found->{$series} // 'missing');
		my $right = $got ne 'missing' && (ref $want ? $got >= $want->[0] && $got <= $want->[1] : $want eq $nan ? $got eq $nan : $got == $want);

		push @wrong, "$series is $got" if !$right;
	}
	return join ', ', @wrong;
}

sub finds_all
{
	my ($ask, $property) = @_;
	my $found = {};

	eventually(sub { $found = $ask->(); !differences($found) });
	is(differences($found), '', $property);
}

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $where = 'host=' . $node->host . ' port=' . $node->port;
my $postgres_exporter;

SKIP:
{
	skip 'there is no prometheus-postgres-exporter', 1 if system('command -v prometheus-postgres-exporter >/dev/null') != 0;
	local $ENV{DATA_SOURCE_NAME} = "$where user=monitor dbname=postgres sslmode=disable";
	$postgres_exporter = start($port, 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port",
		"--extend.query-path=$dir/postgres_exporter.yml");
	finds_all($postgres_exporter, 'postgres_exporter finds each metric with its value');
}

SKIP:
{
	skip 'there is no prometheus-sql-exporter', 1 if system('command -v prometheus-sql-exporter >/dev/null') != 0;
	my $config = PostgreSQL::Test::Utils::tempdir() . '/sql_exporter.yml';
	my $text = slurp_file("$dir/sql_exporter.yml");
	my $other = PostgreSQL::Test::Cluster::get_free_port();
	my $url = 'postgres://monitor@/postgres?host=' . $node->host . '&port=' . $node->port . '&sslmode=disable';

	is($text =~ s{^  - postgres://.*}{  - $url}m, 1, 'its file has a connection');
	is($text =~ s/^  interval: .*/  interval: 1s/m, 1, 'and an interval');
	append_to_file($config, $text);
	finds_all(start($other, 'prometheus-sql-exporter', '-config.file', $config, '-web.listen-address', "127.0.0.1:$other"),
		'so does sql_exporter');
}

SKIP:
{
	skip 'there is no prometheus-postgres-exporter', 1 if !$postgres_exporter;
	SupervisorTest::set($node, 'max_worker_processes' => 0, 'max_logical_replication_workers' => 0);
	$session->quit;
	$node->restart;
	ok(eventually(sub { ($postgres_exporter->()->{'supervisor_server_up{}'} // 'none') eq '0' }), 'and that the supervisor does not run');
}

$node->stop;
done_testing();
