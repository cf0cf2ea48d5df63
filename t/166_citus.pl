# With Citus, which scripts/citus builds: a coordinator and two workers, each with its supervisor.
# What docs/scale-out.md says of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes refused until_true value);

plan skip_all => 'there is no Citus here: see scripts/citus' if !-f SupervisorTest::pg_config('pkglibdir') . '/citus.so';

my $version = PostgreSQL::Test::Cluster->new('version');
my @nodes;

note 'the libraries';

$version->init;
$version->append_conf('postgresql.conf', "shared_preload_libraries = 'supervisor, citus'");
is($version->start(fail_ok => 1), 0, 'a server does not start with Citus after it');
like(slurp_file($version->logfile), qr/Citus has to be loaded first/, 'and says so');

my %settings = (
	'shared_preload_libraries' => 'citus, supervisor',
	'max_worker_processes' => 24,
	'wal_level' => 'logical',
	'max_wal_senders' => 10,
	'supervisor.pool_size' => 2,
	'citus.shard_count' => 8,
	'citus.recover_2pc_interval' => '1s',
	'citus.local_hostname' => $version->host,
	'citus.node_conninfo' => 'sslmode=disable');

foreach my $name (qw(coordinator one two))
{
	push @nodes, SupervisorTest::new_node($name, %settings);
	$nodes[-1]->safe_psql('postgres', 'CREATE EXTENSION citus');
	SupervisorTest::wait_ready($nodes[-1], 'default', 2);
}
my ($coordinator, @workers) = @nodes;
SupervisorTest::ask(\$coordinator);
value(sprintf q{SELECT citus_set_coordinator_host('%s', %s)}, $coordinator->host, $coordinator->port);
value(sprintf q{SELECT citus_add_node('%s', %s)}, $_->host, $_->port) foreach @workers;
value(q{
	CREATE TABLE items (id bigint, v int);
	SELECT create_distributed_table('items', 'id');
	INSERT INTO items SELECT i, 0 FROM generate_series(1, 1000) i});

# What all nodes say to a query.
sub all_nodes
{
	my ($sql) = @_;

	return value("SELECT string_agg(result, ' ' ORDER BY nodeid) FROM run_command_on_all_nodes(\$q\$$sql\$q\$)");
}

note 'tasks on the coordinator';

is(value(q{SELECT * FROM supervisor.run('SELECT count(*) FROM items') AS (n bigint)}), '1000', 'a task reads a distributed table');
is(value(q{SELECT supervisor.execute('UPDATE items SET v = v + 1')}), 'UPDATE 1000', 'and writes it');
is(value(q{SELECT count(*), count(sqlstate) FROM supervisor.execute_all(ARRAY(
	SELECT format('UPDATE items SET v = v + 1 WHERE id %% 20 = %s', i) FROM generate_series(0, 19) i))}), '20|0', 'many do so side by side');
is(value('SELECT min(v), max(v), count(*) FROM items'), '2|2|1000', 'each once');
$coordinator->safe_psql('postgres', q{CALL supervisor.perform('CREATE INDEX CONCURRENTLY items_v ON items (v)')});
is(value(q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_v'::regclass}), 't', 'an index is built concurrently');
refused(q{SELECT supervisor.execute('INSERT INTO items SELECT 1/(id - 5) FROM items')}, '22012', 'an error of a worker node comes back');

note 'tasks on all nodes';

is(all_nodes(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1 SELECT 1 SELECT 1', 'each node has its pool');
my $of_shards = q{
	SELECT count(tag) FROM supervisor.execute_all(ARRAY(
		SELECT format('VACUUM (ANALYZE) %s', oid::regclass) FROM pg_class WHERE relname ~ '^items_\d+$' AND relkind = 'r'))};
is(all_nodes($of_shards), '0 4 4', 'a task for each shard, where the shard is');
is(all_nodes('SELECT count(*) FROM supervisor.health()'), '0 0 0', 'all is well on each');
value('CREATE ROLE app LOGIN; GRANT SELECT ON items TO app');
my $granted = q{SELECT has_function_privilege('app', 'supervisor.execute(text, text[], text, interval)', 'EXECUTE')};
value('GRANT EXECUTE ON FUNCTION supervisor.execute TO app');
is(all_nodes($granted), 't f f', 'a GRANT is for one node');
value(q{SELECT run_command_on_workers('GRANT EXECUTE ON FUNCTION supervisor.execute TO app')});
is(all_nodes($granted), 't t t', 'and is given on the others by a command');
is(value(q{SELECT supervisor.execute('SELECT count(*) FROM items')}, user => 'app'), 'SELECT 1', 'a role without other rights reads what it may');

note 'services';

all_nodes(q{SELECT supervisor.add_worker('local', 'SELECT 1', run_every => '10 ms')});
value(q{SELECT supervisor.add_worker('global', 'UPDATE items SET v = v + 1 WHERE id = 1', run_every => '10 ms')});
my $runs = q{SELECT coalesce(bool_and(runs_succeeded > 3), false) FROM supervisor.worker_status WHERE name = 'local'};
until_true("SELECT count(*) = 3 AND bool_and(result = 't') FROM run_command_on_all_nodes(\$q\$$runs\$q\$)", 'a service runs on each node');
pass('a service runs on each node');
becomes('SELECT v > 10 FROM items WHERE id = 1', 'one on the coordinator works on all of them');

$workers[0]->restart;
until_true("SELECT count(*) = 3 AND bool_and(result = 't') FROM run_command_on_all_nodes(\$q\$$runs\$q\$)", 'it is back');
is(all_nodes($runs), 't t t', 'after the restart of a node its service runs again');
becomes(q{SELECT state = 'running' AND consecutive_failures = 0 AND last_success_at > now() - interval '1 min' FROM supervisor.worker_status WHERE name = 'global'},
	'and the one that needs that node works');

note 'a shard moves while tasks run';

my $session = SupervisorTest::session($coordinator);
$session->begin(q{SELECT count(*), count(sqlstate) FROM supervisor.execute_all(array_fill('UPDATE items SET v = v + 1 WHERE id = 7'::text, ARRAY[300]))});
value(sprintf q{SELECT citus_move_shard_placement(get_shard_id_for_distribution_column('items', 7), nodename, nodeport, '%1$s',
		CASE nodeport WHEN %2$s THEN %3$s ELSE %2$s END, 'block_writes')
	FROM citus_shards WHERE shardid = get_shard_id_for_distribution_column('items', 7)},
	$workers[0]->host, map { $_->port } @workers);
is(join('', $session->finish), '300|0', 'none of them fails');
is(value('SELECT v FROM items WHERE id = 7'), '302', 'and each is done once');
$session->quit;

note 'jobs';

# Waits until no node has a job any more.
sub jobs_end
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	becomes(q{SELECT bool_and(success AND result = 't') FROM run_command_on_all_nodes('SELECT count(*) = 0 FROM supervisor.job')}, $property);
}

my $did = 'INSERT INTO did VALUES (supervisor.current_job())';
my $counts = q{SELECT concat_ws('/', count(*), count(DISTINCT job)) FROM did};
my $four = 'INSERT INTO effects VALUES ' . join ', ', map { "($_, supervisor.current_job())" } 1 .. 4;
my $whole = 'FROM (SELECT job FROM effects GROUP BY job HAVING count(*) = 4 AND count(DISTINCT n) = 4) t';

all_nodes('CREATE TABLE did (job bigint)');
value(q{CREATE TABLE effects (n int, job bigint); SELECT create_distributed_table('effects', 'n')});
value("SELECT supervisor.enqueue('$four')");
$coordinator->safe_psql('postgres', "BEGIN; SELECT run_command_on_all_nodes(\$q\$SELECT supervisor.enqueue('$did')\$q\$); ROLLBACK");
jobs_end('each node runs its jobs');
is(value("SELECT count(*) $whole"), '1', 'one on the coordinator writes to many shards, and knows its number');
is(all_nodes($counts), '1/1 1/1 1/1', 'one that a command enqueued on each node is there, whatever becomes of its transaction');

note 'a node is restarted while jobs run';

value('TRUNCATE effects');
all_nodes('TRUNCATE did');
all_nodes("SELECT count(supervisor.enqueue('$did')) FROM generate_series(1, 3000)");
value("SELECT count(supervisor.enqueue('$four', retry_delay => '100 ms')) FROM generate_series(1, 300)");
until_true('SELECT count(*) > 20 FROM effects', 'jobs run');
$workers[0]->poll_query_until('postgres', 'SELECT count(*) > 0 FROM did') or die 'timed out waiting until jobs run there';
$workers[0]->stop('immediate');
becomes(q{SELECT count(*) > 0 FROM supervisor.job_history WHERE state = 'failed'}, 'what needs a node that is down fails');
$workers[0]->start;
jobs_end('and is tried again');
is(all_nodes($counts), '3000/3000 3000/3000 3000/3000', 'jobs of each node have run exactly once');
becomes('SELECT count(*) = 1200 FROM effects', 'those of the coordinator, too');
is(value("SELECT count(*) $whole"), '300', 'with all that they do');

note 'the coordinator crashes when nodes have committed, and it has not';

value(q{TRUNCATE effects; CREATE TABLE once (id bigint, job bigint, PRIMARY KEY (id, job)); SELECT create_distributed_table('once', 'id')});
value(q{UPDATE items SET v = 0});
my $set = sub { SupervisorTest::set($_, 'synchronous_standby_names' => $_[0]) foreach @workers };
my $waits = sub {
	my $sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ '^$_[0]'";
	return SupervisorTest::eventually(sub { value($sql, node => $workers[0]) + value($sql, node => $workers[1]) >= $_[1] });
};
$set->('nobody');
value("SELECT supervisor.enqueue('$four')");
value(q{SELECT supervisor.enqueue('UPDATE items SET v = v + 1 WHERE id = 7; INSERT INTO once VALUES (7, supervisor.current_job()) ON CONFLICT DO NOTHING')});
ok($waits->('PREPARE', 2) && $waits->('COMMIT', 1), 'nodes commit');
$coordinator->stop('immediate');
$set->('');
$coordinator->start;
jobs_end('both jobs are tried again');
becomes("SELECT count(*) = 1 $whole", 'what goes to several shards is committed on all nodes, or none');
is(value('SELECT count(*) FROM effects'), '4', 'and so once');
is(value('SELECT v FROM items WHERE id = 7'), '2', 'what goes to one shard of another node may be done again');
is(value('SELECT count(*) FROM once'), '1', 'but for what has the number of the job as its key');

note 'a million rows, a job per shard';

value(q{
	CREATE TABLE big (id bigint, v int);
	SELECT create_distributed_table('big', 'id', colocate_with => 'none');
	INSERT INTO big SELECT i, 0 FROM generate_series(1, 1000000) i});
is( all_nodes(q{SELECT count(supervisor.enqueue(format('UPDATE %s SET v = v + 1', oid::regclass)))
		FROM pg_class WHERE relname ~ '^big_\d+$' AND relkind = 'r'}),
	'0 4 4', 'where the shards are');
jobs_end('they run');
is(value('SELECT count(*), min(v), max(v) FROM big'), '1000000|1|1', 'each row is updated once');

note 'a shard moves while jobs run';

value('UPDATE items SET v = 0');
my $third = SupervisorTest::new_node('three', %settings);
push @nodes, $third;
push @workers, $third;
$third->safe_psql('postgres', 'CREATE EXTENSION citus');
value(sprintf q{SELECT citus_add_node('%s', %s)}, $third->host, $third->port);
value(q{SELECT count(supervisor.enqueue(format('UPDATE items SET v = v + 1 WHERE id %% 20 = %s', i % 20))) FROM generate_series(1, 200) i});
value(q{SELECT rebalance_table_shards('items', rebalance_strategy => 'by_shard_count', shard_transfer_mode => 'block_writes')});
jobs_end('all jobs end');
# a service writes the first row
is(value('SELECT min(v), max(v), count(*) FROM items WHERE id > 1'), '10|10|999', 'each has run once, wherever the shards are');
is(value(q{SELECT count(*) > 0 FROM citus_shards WHERE table_name = 'items'::regclass AND nodeport = } . $third->port), 't', 'some are on the new node');
is(all_nodes(q{SELECT count(*) FROM supervisor.worker WHERE name = 'local'}), '1 1 1 0', 'which is told of services by whoever adds it');
all_nodes('CREATE TABLE IF NOT EXISTS did (job bigint)');

note 'a standby comes in the place of a node';

$workers[0]->backup('backup');
my $heir = PostgreSQL::Test::Cluster->new('heir');
$heir->init_from_backup($workers[0], 'backup', has_streaming => 1);
$heir->start;
all_nodes('TRUNCATE did');
SupervisorTest::set($workers[0], 'supervisor.run_jobs' => 'off');
all_nodes("SELECT count(supervisor.enqueue('$did')) FROM generate_series(1, 100)");
$workers[0]->wait_for_catchup($heir, 'replay', $workers[0]->lsn('flush'));
$workers[0]->stop('immediate');
value("SELECT supervisor.enqueue('$four', retry_delay => '100 ms')");
becomes(q{SELECT count(*) > 0 FROM supervisor.job WHERE attempts > 0}, 'a job that needs it fails');
$heir->promote;
value(sprintf q{SELECT citus_update_node(nodeid, '%s', %s) FROM pg_dist_node WHERE nodeport = %s}, $heir->host, $heir->port, $workers[0]->port);
@nodes = ((grep { $_ != $workers[0] } @nodes), $heir);
jobs_end('and runs, once Citus knows of the standby');
is(all_nodes($counts), '100/100 100/100 100/100 100/100', 'the jobs of the node run there');
is(value(q{SELECT * FROM supervisor.run('SELECT count(*) FROM items') AS (n bigint)}), '1000', 'and so do tasks');
SupervisorTest::ask(\$heir);
becomes($runs, 'and its service');
SupervisorTest::ask(\$coordinator);
becomes(q{SELECT consecutive_failures = 0 AND last_success_at > now() - interval '1 min' FROM supervisor.worker_status WHERE name = 'global'},
	'and that of the whole cluster');

value(q{SELECT supervisor.remove_worker('global')});
$_->stop foreach reverse @nodes;
done_testing();
