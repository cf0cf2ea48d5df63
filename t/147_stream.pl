# A task's result on its way: what comes while something else is being sent, and
# what another process could leave in shared memory, also one that has lost its
# mind.  Nothing is lost, nothing comes twice, nobody reads what is not his.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use SupervisorTest qw(becomes quote refused value);

my $node = SupervisorTest::new_node(
	'stream',
	'autovacuum' => 'off',
	'max_worker_processes' => 16,
	'max_parallel_workers_per_gather' => 2,
	'parallel_setup_cost' => 0,
	'parallel_tuple_cost' => 0,
	'min_parallel_table_scan_size' => 0,
	'parallel_leader_participation' => 'off',
	'supervisor.pool_size' => 2);
my $library = SupervisorTest::build_library('stream');

$node->safe_psql('postgres', qq{
	CREATE FUNCTION send_raw("char", bytea) RETURNS void AS '$library' LANGUAGE C STRICT;
	CREATE FUNCTION send_chunk(bigint, bytea, boolean, int) RETURNS void AS '$library' LANGUAGE C;
	CREATE FUNCTION send_garbage(bigint, bytea, bigint) RETURNS void AS '$library' LANGUAGE C;
	CREATE FUNCTION send_pointer(bigint, bigint) RETURNS void AS '$library' LANGUAGE C;
	CREATE FUNCTION spoil_command(bigint, bigint, int, int) RETURNS void AS '$library' LANGUAGE C});
my $size = $node->safe_psql('postgres', q{SELECT size FROM pg_shmem_allocations WHERE name = 'supervisor'});

SupervisorTest::ask(\$node);
SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

# Runs $sql in a psql that stops reading until the worker waits for it, and
# returns what it has printed.
sub slowly
{
	my ($sql, %opts) = @_;
	my $node = $opts{node} // $node;
	my ($stdout, $stderr) = ('', '');
	my $name = 'reader' . int rand 1e9;
	my $psql = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " application_name=$name", '-c', $sql ],
		'<', \undef, '>', \$stdout, '2>', \$stderr,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	SupervisorTest::wait_true($node,
		"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '$name' AND state = 'active')");
	$psql->signal('STOP');
	my $stuck = $opts{meanwhile} ? 1 : $node->poll_query_until('postgres', qq{
		SELECT (SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE application_name = '$name')
			AND EXISTS (SELECT FROM pg_stat_activity a JOIN supervisor.worker_status w USING (pid)
				WHERE w.activity = 'busy' AND a.wait_event IN ('Extension', 'SupervisorResultRead'))});
	$stuck = $opts{meanwhile}->("(SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE application_name = '$name')")
	  if $opts{meanwhile};
	$psql->signal('CONT');
	$psql->finish;
	return ($stdout, $stderr, $stuck);
}

note 'messages of parallel workers, while rows are being sent';

value(q{
	CREATE FUNCTION bytes(i int) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT decode(repeat(md5(i::text), 30), 'hex') $$;
	CREATE TABLE many AS SELECT i, bytes(i) AS b FROM generate_series(1, 60000) i;
	ANALYZE many;
	CREATE FUNCTION noisy(i int) RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$
	BEGIN
		IF i <= 2 THEN
			RAISE NOTICE '<large %> %', i, repeat('x', 400000);
		ELSIF i % 137 = 0 THEN
			RAISE NOTICE '<small %> %', i, repeat('y', 100 + i % 27);
		END IF;
		RETURN true;
	END $$});
like(value('EXPLAIN SELECT * FROM many WHERE noisy(i)'), qr/Workers Planned: 2/, 'the query is parallel');

foreach my $round (1 .. 3)
{
	my ($stdout, $stderr, $stuck) = slowly(q{
		SELECT count(*), sum(i), count(*) FILTER (WHERE b = bytes(i))
		FROM supervisor.run('SELECT * FROM many WHERE noisy(i)') AS (i int, b bytea);});
	my %seen;
	my $twice = 0;

	ok($stuck, "round $round: the worker waits for its reader, and that for its client");
	while ($stderr =~ /NOTICE:  <(\w+ \d+)> (x+|y+)$/mg)
	{
		$twice += $seen{$1}++ if substr($2, 0, 1) eq 'y' || length $2 == 400_000;
	}
	is($stdout, "60000|1800030000|60000\n", "round $round: all rows are as they were");
	is(scalar keys %seen, 2 + int(60000 / 137), "round $round: each message has come, whole");
	is($twice, 0, "round $round: and none twice");
}
value('SELECT supervisor.execute($$SELECT 1$$)');

note 'messages of every kind, everywhere';

my $rows = q{SELECT count(*), sum(i) FROM supervisor.run('SELECT i FROM many WHERE noisy(i)') AS (i int)};
foreach my $setting ('client_min_messages = debug5', 'log_min_messages = debug5', 'debug_print_plan = on',
	'client_min_messages = debug5; SET debug_print_plan = on; SET log_min_messages = debug5; SET debug_print_parse = on')
{
	my ($stdout, $stderr);

	$node->psql('postgres', "SET $setting; $rows;", stdout => \$stdout, stderr => \$stderr);
	is($stdout, '60000|1800030000', "$setting: rows are as they were");
	my %seen = map { $_ => 1 } $stderr =~ /<(\w+ \d+)>/g;
	is(scalar keys %seen, 2 + int(60000 / 137), "$setting: and so are messages");
}
# A new file of the WAL is announced while nothing can be allocated.
{
	my ($stdout, $stderr);

	$node->psql('postgres', q{SET client_min_messages = debug2;
		SELECT supervisor.execute('CREATE TABLE wal AS SELECT i, repeat(''x'', 1900) FROM generate_series(1, 40000) i');
		SELECT supervisor.execute('DROP TABLE wal')}, stdout => \$stdout, stderr => \$stderr);
	is($stdout, "SELECT 40000\nDROP TABLE", 'a message that comes where nothing can be allocated');
}
value(q{
	CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS
		$$ BEGIN FOR i IN 1..30 LOOP RAISE NOTICE '% % %', tg_tag, i, repeat('z', 50000); END LOOP; END $$;
	CREATE EVENT TRIGGER tell ON ddl_command_end EXECUTE FUNCTION tell()});
{
	my ($stdout, $said);

	$node->psql('postgres', q{SELECT supervisor.execute('CREATE TABLE told (); ALTER TABLE told ADD a int; DROP TABLE told')},
		stdout => \$stdout, stderr => \$said);
	is($stdout, 'DROP TABLE', 'an event trigger that says very much');
	is(scalar(() = $said =~ /NOTICE:  (?:CREATE|ALTER) TABLE \d+ z{50000}$/mg), 60, 'is heard');
}
value('DROP EVENT TRIGGER tell');

note 'a session that reads two results';

{
	my ($stdout, $stderr);

	$node->psql('postgres', q{
		SELECT count(*), sum(a.i + b.i)
		FROM supervisor.run('SELECT i FROM many WHERE noisy(i) AND i <= 20000') AS a(i int)
			JOIN supervisor.run('SELECT i FROM many WHERE noisy(i) AND i <= 20000') AS b(i int) USING (i);},
		stdout => \$stdout, stderr => \$stderr);
	is($stdout, '20000|400020000', 'two results in one statement');
	is(scalar(() = $stderr =~ /^NOTICE:  <small \d+> y+$/mg) % 2, 0, 'with the messages of both');
}

SKIP:
{
	skip 'the server has no injection points', 1 if SupervisorTest::pg_config('configure') !~ /--enable-injection-points/;
	value('CREATE EXTENSION injection_points');
	foreach my $point ('sending', 'reading')
	{
		my ($stdout, $stderr);

		value("SELECT injection_points_attach('supervisor-$point', 'notice')");
		$node->psql('postgres', q{
			SET supervisor.result_memory = '64kB';
			SELECT count(*), sum(i), count(*) FILTER (WHERE b = bytes(i))
			FROM supervisor.run('SELECT * FROM many WHERE noisy(i)') AS (i int, b bytea);}, stdout => \$stdout, stderr => \$stderr);
		value("SELECT injection_points_detach('supervisor-$point')");
		is($stdout, '60000|1800030000|60000', "a message where it is $point: all rows are as they were");
		like($stderr, qr/NOTICE:  notice triggered for injection point supervisor-$point/, "and the message comes while it is $point");
		my %seen;
		$seen{$_}++ foreach $stderr =~ /<(\w+ \d+)>/g;
		is_deeply([ scalar keys %seen, scalar grep { $_ > 1 } values %seen ], [ 2 + int(60000 / 137), 0 ], 'so do all others, once');
	}
	value('DROP EXTENSION injection_points');
}

note 'what a reader has taken';

# It takes no shared memory while its client does not read.
{
	my $small = SupervisorTest::new_node('small', 'supervisor.shared_memory' => '4MB', 'supervisor.pool_size' => 1);
	my $large = q{SELECT supervisor.execute('SELECT 1 /*' || repeat('x', 3200000) || '*/')};
	my $launched = q{DO $$ BEGIN FOR i IN 1..45 LOOP RAISE NOTICE '%', repeat(i::text, 5000); END LOOP; END $$; SELECT repeat(i::text, 10000) FROM generate_series(1, 30) i};
	is(value($large, node => $small), 'SELECT 1', 'a large command has room');
	my $sql = 'DO $do$ DECLARE t bigint; BEGIN t := supervisor.launch(' . quote($launched)
	  . q{); PERFORM supervisor.wait(t); PERFORM * FROM supervisor.result(t) AS (a text); END $do$};
	my (undef, $said, $room) = slowly($sql, node => $small, meanwhile => sub {
			my ($stuck) = @_;

			$small->poll_query_until('postgres', "SELECT $stuck") or return 'the client reads';
			return $small->safe_psql('postgres', $large) });
	is($room, 'SELECT 1', 'also while a client does not read what its session has taken');
	is(scalar(() = $said =~ /NOTICE:/g), 45, 'which comes all the same');
	$small->stop;
}

note 'raw messages to the client';

# What a C function may have put there: fields, each a letter and a text.
sub raw
{
	my ($type, @fields) = @_;
	my $bytes = join('', map { "$_\0" } @fields) . "\0";

	return "SELECT send_raw('$type', '\\x" . unpack('H*', $bytes) . "')";
}

foreach my $case (
	[ 'only S and M, as orafce sends', [ 'SNOTICE', 'Mhello' ], 'NOTICE:  hello' ],
	[ 'only M', [ 'Mhello' ], 'NOTICE:  hello' ],
	[ 'a warning', [ 'SWARNING', 'VWARNING', 'C01000', 'Mhello' ], 'WARNING:  hello' ],
	[ 'one that says it is an error', [ 'SERROR', 'VERROR', 'C22012', 'Mhello' ], 'WARNING:  hello' ],
	[ 'one that says it is fatal', [ 'VFATAL', 'Mhello' ], 'WARNING:  hello' ],
	[ 'one that says it is a panic', [ 'VPANIC', 'Mhello' ], 'WARNING:  hello' ],
	[ 'an unknown severity', [ 'VNONSENSE', 'Mhello' ], 'NOTICE:  hello' ],
	[ 'an unknown field', [ 'Mhello', 'Zwhat' ], 'NOTICE:  hello' ],
	[ 'a wrong SQLSTATE', [ 'C1', 'Mhello' ], 'NOTICE:  hello' ],
	[ 'no message', [ 'SNOTICE', 'VNOTICE' ], '' ],
	[ 'nothing', [], '' ],
	[ 'bytes that are no text', [ "Mh\xffllo" ], 'NOTICE:  h?llo' ])
{
	my ($what, $fields, $expected) = @$case;
	my ($stdout, $stderr);
	my $command = quote(raw('N', @$fields) . ', 1 AS a');

	$node->psql('postgres', "SELECT a FROM supervisor.run($command) AS (v void, a int)", stdout => \$stdout, stderr => \$stderr);
	$command = quote('SELECT 1 AS a FROM (' . raw('N', @$fields) . ') x');
	$node->psql('postgres', "SELECT a FROM supervisor.run($command) AS (a int)", stdout => \$stdout, stderr => \$stderr);
	is($stdout, '1', "$what: the task succeeds");
	$stderr =~ s/^psql:[^ ]* //mg;
	is($stderr =~ s/\n.*//sr, $expected, "$what: it is passed on as what it can be");
	is(value("SELECT tag FROM supervisor.execute_all(ARRAY[$command])"), 'SELECT 1', "$what: in execute_all");
}
SKIP:
{
	skip 'orafce is not installed', 3 if !-f SupervisorTest::pg_config('sharedir') . '/extension/orafce.control';
	my ($stdout, $stderr);
	my $command = quote(q{DO $$ BEGIN PERFORM dbms_output.serveroutput(true), dbms_output.put_line('hello'); END $$; SELECT 1});

	value('CREATE EXTENSION orafce');
	$node->psql('postgres', "SELECT a FROM supervisor.run($command) AS (a int)", stdout => \$stdout, stderr => \$stderr);
	is($stdout, '1', 'a task that prints by orafce succeeds');
	like($stderr, qr/^(?:psql:\S+ )?NOTICE:  hello$/m, 'and is heard');
	is(value("SELECT tag FROM supervisor.execute_all(ARRAY[$command])"), 'SELECT 1', 'in execute_all, too');
}
foreach my $bytes ('', '53', '4d68656c6c6f', '4d680000', '00')
{
	is(value("SELECT supervisor.execute('SELECT send_raw(''N'', ''\\x$bytes'')')"), 'SELECT 1', "a broken message: $bytes");
}
is(value("SELECT supervisor.execute(" . quote(raw('E', 'SERROR', 'VPANIC', 'C22012', 'Mhello')) . ')'), 'SELECT 1',
	'an error that nobody has raised is none');
refused('SELECT supervisor.execute(' . quote(raw('E', 'VPANIC', 'C22012', 'Mhello') . '; SELECT 1/0') . ')', '22012',
	'nor does it take the place of one', message => qr/division by zero/);

note 'what no worker sends';

# A chunk, in hexadecimal; what it is made of.
sub message
{
	my ($type, $data, $len) = @_;

	return pack('L a x3 a*', $len // length $data, $type, $data) . "\0" x (-length($data) % 8);
}
my $columns = pack 'L l', 17, -1;    # a bytea

sub row
{
	my (%opts) = @_;
	my $data = $opts{data} // (pack('C', 2 * 5 + 1) . 'abcd');
	my $hoff = $opts{hoff} // 24;
	my $len = $opts{len} // 16 + length $data;

	return pack('L x6 S S C x1 a*', $len, $opts{natts} // 1, $opts{infomask} // 2, $hoff, $data);
}

# Sends a chunk and returns how that is called in SQL.
sub chunk
{
	my ($bytes, $continues, $len) = @_;

	return sprintf q{SELECT send_chunk(%d, '\x%s', %s, %s)}, $size, unpack('H*', $bytes), $continues ? 'true' : 'false', $len // 'NULL';
}

# Such a call in a command that returns no rows, as a literal.
sub in_task
{
	my ($call) = @_;

	return quote('DO $$ BEGIN EXECUTE ' . quote($call) . '; END $$');
}

SKIP:
{
	skip 'rows are laid out otherwise here', 1 if pack('L', 1) ne pack('V', 1);

	# so that the layout above is right
	is(value('SELECT count(*), min(encode(a, $$hex$$)) FROM supervisor.result(supervisor.launch('
			  . in_task(chunk(message('T', $columns) . message('D', row()) . message('D', row()))) . ')) AS (a bytea)'),
		'2|61626364', 'a chunk made by hand is read');

	foreach my $case (
		[ 'a length beyond the row', message('D', row(len => 1000)) ],
		[ 'a length of a gigabyte', message('D', row(len => 0x3fffffff)) ],
		[ 'a value beyond the row', message('D', row(data => pack('C', 255) . 'abcd')) ],
		[ 'a value of a gigabyte', message('D', row(data => pack('L', 0x3fffffff << 2) . 'abcd')) ],
		[ 'a pointer out of the row', message('D', row(data => pack('C C a16', 1, 18, 'x' x 16))) ],
		[ 'a row that says that it has such a pointer', message('D', row(infomask => 6)) ],
		[ 'values that begin in its header', message('D', row(hoff => 8)) ],
		[ 'values that begin after its end', message('D', row(hoff => 248)) ],
		[ 'more columns', message('D', row(natts => 1600)) ],
		[ 'no columns', message('D', row(natts => 0)) ],
		[ 'too short for a row', message('D', 'x') ],
		[ 'an empty row', message('D', '') ],
		[ 'the columns twice', message('T', $columns) ],
		[ 'an unknown message', message('?', 'x') ],
		[ 'a message of four gigabytes', message('D', 'x', 0xffffffff) ],
		[ 'half a header', 'xxxx' ])
	{
		my ($what, $bytes) = @$case;

		refused('SELECT * FROM supervisor.result(supervisor.launch(' . in_task(chunk(message('T', $columns) . $bytes)) . ')) AS (a bytea)',
			'XX001', $what, message => qr/result of task \d+ is corrupt/);
	}
	foreach my $case (
		[ 'rows without columns', chunk(message('D', row())) ],
		[ 'columns that are cut', chunk(message('T', substr $columns, 1)) ],
		[ 'the rest of nothing', chunk('x' x 16, 1) ],
		[ 'a chunk that is longer than any', chunk('x', 0, 0x7fffffff) ],
		[ 'a pointer to nowhere', "SELECT send_pointer($size, 9223372036854775807)" ],
		[ 'a pointer that is not aligned', "SELECT send_pointer($size, 4097)" ],
		[ 'a pointer beyond the end', "SELECT send_pointer($size, 68719476736)" ])
	{
		my ($what, $send) = @$case;

		refused('SELECT * FROM supervisor.result(supervisor.launch(' . in_task($send) . ')) AS (a bytea)', 'XX001', $what);
	}

	# Garbage: whatever it is, the session that reads it lives on, and so does the pool.
	my $seconds = $ENV{PG_TEST_FUZZ_SECONDS} // 3;
	my $seed = $ENV{PG_TEST_FUZZ_SEED} // time;
	my $template = unpack 'H*', message('T', pack 'L l L l L l', 17, -1, 20, -1, 25, -1)
	  . message('D', row(natts => 3, data => pack('C a4 x3 q C a3', 11, 'abcd', 7, 9, 'xyz')))
	  . message('N', pack('l', 6) . "SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
	  . message('D', row(natts => 3, infomask => 3, data => pack('x8 q C a3', 7, 9, 'xyz'), hoff => 32))
	  . message('D', row(natts => 3, data => pack('L a200 q L a100', 204 << 2, 'a' x 200, 8, 104 << 2, 'b' x 100)));
	my $outcomes = value(qq{
		SET client_min_messages = warning;
		CREATE TEMP TABLE outcomes (outcome text);
		DO \$do\$
		DECLARE
			seed bigint := $seed * 1000000::bigint;
			until timestamptz := clock_timestamp() + interval '$seconds s';
		BEGIN
			WHILE clock_timestamp() < until LOOP
				seed := seed + 1;
				BEGIN
					EXECUTE format('SELECT count(a), sum(b), max(c) FROM supervisor.result(supervisor.launch(%L)) AS (a bytea, b bigint, c text)',
						format('DO \$x\$ BEGIN PERFORM send_garbage($size, ''\\x$template'', %s); END \$x\$', seed));
					INSERT INTO outcomes VALUES ('rows');
				EXCEPTION WHEN OTHERS THEN
					INSERT INTO outcomes VALUES (SQLSTATE);
				END;
			END LOOP;
		END \$do\$;
		SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT outcome, count(*) n FROM outcomes GROUP BY 1) o});
	note "garbage, seed $seed: $outcomes";
	like($outcomes, qr/XX001 \d+/, 'garbage is found to be that') if $seconds > 0;

	refused('SELECT supervisor.execute(' . quote(chunk(message('T', $columns) . message('D', row()))) . ')', 'XX001',
		'rows for who wants none');
	refused('SELECT * FROM supervisor.execute_all(ARRAY[' . quote(chunk(message('?', 'x'))) . '])', 'XX001', 'in execute_all');
	is(value('SELECT * FROM supervisor.run($$SELECT 1$$) AS (a int)'), '1', 'the pool works on');
}

note 'commands that no session sends';

my $holder = SupervisorTest::session($node);
my $spoiler = SupervisorTest::session($node);
foreach my $case (
	[ 'a command of two gigabytes', 0, 0x7fffffff ],
	[ 'a command of a negative length', 0, -1 ],
	[ 'more columns than there are bytes', 4, 1000 ],
	[ 'more parameters than there are', 8, 7 ],
	[ 'very many parameters', 8, 0x7fffffff ],
	[ 'settings that are not there', 12, 1 ],
	[ 'a negative number of settings', 12, -5 ])
{
	my ($what, $offset, $value) = @$case;

	# both workers are busy, so that the next one is queued
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my @busy = map { $spoiler->query_safe('SELECT supervisor.launch($$SELECT pg_advisory_xact_lock_shared(1)$$)') } 1 .. 2;
	my $task = $spoiler->query_safe('SELECT supervisor.launch($$SELECT $1::int$$, ARRAY[$$1$$])');
	is($spoiler->query_safe("SELECT state FROM supervisor.task_status WHERE task = $task"), 'queued', "$what: it is queued");
	$spoiler->query_safe("SELECT spoil_command($size, $task, $offset, $value)");
	like($spoiler->query("SELECT command FROM supervisor.task_status WHERE task = $task"), qr/^(?:SELECT \$1::int.*)?$/s, "$what: it is shown");
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	is($spoiler->query_safe("SELECT supervisor.wait($task)"), 'failed', "$what: it fails");
	refused("SELECT * FROM supervisor.result($task) AS (a int)", 'XX001', $what, session => $spoiler,
		message => qr/command of task \d+ is corrupt/);
	$spoiler->query_safe("SELECT supervisor.wait($_), supervisor.forget($_)") foreach @busy;
}
$_->quit foreach ($holder, $spoiler);

is(SupervisorTest::leaks($node), '', 'nothing is left');
SupervisorTest::log_is_clean($node);
$node->stop;
done_testing();
