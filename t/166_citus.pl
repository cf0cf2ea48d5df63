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

foreach my $name (qw(coordinator one two))
{
	push @nodes, SupervisorTest::new_node(
		$name,
		'shared_preload_libraries' => 'citus, supervisor',
		'max_worker_processes' => 24,
		'supervisor.pool_size' => 2,
		'citus.shard_count' => 8,
		'citus.local_hostname' => $version->host,
		'citus.node_conninfo' => 'sslmode=disable');
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

value(q{SELECT supervisor.remove_worker('global')});
$_->stop foreach reverse @nodes;
done_testing();
