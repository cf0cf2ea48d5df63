# Errors and notices of a task arrive with all their fields, as if its command
# had been run by its submitter.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote value);

my $node = SupervisorTest::new_node('main',
	'supervisor.result_memory' => '256kB',
	'supervisor.shared_memory' => '16MB');

SupervisorTest::ask(\$node);

# Runs $sql as one simple Query and returns what psql says of errors and notices.
# $settings go before it.
sub messages
{
	my ($sql, $settings) = @_;
	my ($stdout, $stderr);

	IPC::Run::run [
		'psql', '-XAtq',
		'-d', $node->connstr('postgres'),
		'-v', 'VERBOSITY=verbose',
		map({ ('-c', $_) } $settings // ()),
		'-c', $sql
	  ],
	  '>', \$stdout, '2>', \$stderr,
	  IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	return $stderr;
}

# Checks that a command says the same in a session and in a task.
sub same
{
	my ($command, $name, $settings) = @_;
	my $quoted = quote($command);
	my $here = messages($command, $settings);
	my $there = messages("SELECT supervisor.execute($quoted)", $settings);

	# A position is one in the command, and not in the query that ran the task.
	$there =~ s/^QUERY:  \Q$command\E\n//m;

	# An error says that it is a task's.
	is(scalar($there =~ s/^(?:CONTEXT:  )?supervisor task \d+ in pool "default"\n//m), scalar($here =~ /^ERROR:/m),
		"$name: the context of an error names the task");
	cmp_ok(length $here, '>', 0, "$name: there is something to compare");
	is($there, $here, $name);
}

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

value(q{
	CREATE ROLE alice LOGIN;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA supervisor TO alice;
	CREATE SCHEMA "a b";
	CREATE TABLE "a b".parent (id int PRIMARY KEY);
	CREATE TABLE "a b".t (
		id int CONSTRAINT "the key" PRIMARY KEY,
		n int NOT NULL DEFAULT 0,
		c int CONSTRAINT "c is positive" CHECK (c > 0),
		p int CONSTRAINT "p exists" REFERENCES "a b".parent DEFERRABLE INITIALLY IMMEDIATE,
		r int4range, CONSTRAINT "r is apart" EXCLUDE USING gist (r WITH &&));
	INSERT INTO "a b".t VALUES (1, 1, 1, NULL, '[1,5)');
	CREATE DOMAIN "a b".small AS int CONSTRAINT "is small" CHECK (VALUE < 10);
	CREATE FUNCTION rich() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'the message' USING ERRCODE = 'ZZ999', DETAIL = E'the detail\nin two lines', HINT = 'the hint',
			SCHEMA = 'the schema', TABLE = 'the table', COLUMN = 'the column', CONSTRAINT = 'the constraint', DATATYPE = 'the type';
	END $$;
	CREATE FUNCTION nested(n int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF n = 0 THEN PERFORM rich(); END IF;
		RETURN nested(n - 1);
	END $$;
	CREATE FUNCTION bad_sql() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		RETURN (SELECT no_such_column FROM "a b".t);
	END $$;
	CREATE FUNCTION raise_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE NOTICE 'trigger says %', NEW.id;
		IF NEW.id = 666 THEN RAISE EXCEPTION 'trigger refuses %', NEW.id USING HINT = 'Use another.'; END IF;
		RETURN NEW;
	END $$;
	CREATE TABLE triggered (id int);
	CREATE TRIGGER before_insert BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION raise_trigger();
	CREATE TABLE deferred (id int);
	CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION raise_trigger();
});

note 'errors';

same('SELECT rich()', 'an error with all fields');
same('SELECT nested(3)', 'an error with a long context');
same('INSERT INTO "a b".t VALUES (1)', 'a primary key');
same('INSERT INTO "a b".t VALUES (2, NULL)', 'a NOT NULL constraint');
same('INSERT INTO "a b".t VALUES (2, 1, -1)', 'a CHECK constraint');
same('INSERT INTO "a b".t VALUES (2, 1, 1, 7)', 'a foreign key');
same(q{INSERT INTO "a b".t VALUES (2, 1, 1, NULL, '[2,3)')}, 'an exclusion constraint');
same('SELECT 10::"a b".small', 'a domain');
same('SET CONSTRAINTS ALL DEFERRED; INSERT INTO "a b".t VALUES (2, 1, 1, 7)', 'a deferred foreign key');
same('BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO "a b".t VALUES (2, 1, 1, 7); COMMIT', 'a deferred foreign key at COMMIT');
same('INSERT INTO deferred VALUES (1)', 'a notice at COMMIT');
same('INSERT INTO deferred VALUES (1), (666), (2)', 'notices and an error at COMMIT');
same('INSERT INTO triggered VALUES (1), (666)', 'a notice and an error of a trigger');
same('SELECT bad_sql()', 'an error with an internal query and a position in it');
same(q{DO 'BEGIN SELEC 1; END'}, 'a syntax error in PL/pgSQL');
same(q{CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELEC 2'}, 'a syntax error in a function to be created');
same('SELEC 1', 'a syntax error');
same("SELECT 'äöü',\n  'x',\n    no_such_column\nFROM pg_class", 'an error with a position in the third line');
same("SELECT 1; SELECT 'äöü' || no_such_column", 'an error with a position in the second statement');
same('SELECT relnam FROM pg_class', 'an error with a suggestion');
same('SELECT no_such_function(1)', 'an undefined function');
same('SELECT * FROM no_such_table', 'an undefined table');
same(q{SELECT 'x'::int}, 'invalid input at a position');
same(q{SELECT '{"a": [1, 2}'::json}, 'invalid JSON, with a context');
same(q{COPY "a b".parent FROM PROGRAM 'echo 7; echo x'}, 'invalid input of COPY, with a context');
same('SELECT 1/0', 'division by zero');
same('SELECT 1 FROM generate_series(1, 100000) i WHERE 1 / (99999 - i) > 5', 'an error late in a scan');
same(q{SELECT repeat('x', 2000000000)}, 'a value that is too large');
same(q{SELECT array_fill(0, ARRAY[1000000000])}, 'an array that is too large');
same('SELECT pg_catalog.pg_read_file($$no such file$$)', 'an error of the operating system');
same('SET work_mem = banana', 'an invalid setting');
same('SET no_such_setting = 1', 'an unknown setting');
same('VACUUM; SELECT 1', 'VACUUM among others');
same('SAVEPOINT s', 'SAVEPOINT outside a transaction block');
same('DROP TABLE "a b".parent', 'an error with dependencies in its detail');
same(q{DO $$BEGIN RAISE EXCEPTION '100%% of %, %, %', '%s%n%d', '%1$s', E'\\'; END$$}, 'a message with percent signs');
same(q{DO $$BEGIN RAISE EXCEPTION ''; END$$}, 'an empty message');
same(q{DO $$BEGIN RAISE EXCEPTION E'one\ntwo\n\nthree\t4' USING DETAIL = E'\n', HINT = ' '; END$$}, 'a message of many lines');
same(q{DO $$BEGIN RAISE EXCEPTION USING ERRCODE = 'unique_violation'; END$$}, 'an error with a condition name');
same(q{DO $$BEGIN RAISE division_by_zero; END$$}, 'a message that is a condition name');
same(q{DO $$BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'AB0CD', SCHEMA = 's'; END$$}, 'some of the fields');
same(q{DO $$BEGIN ASSERT false, 'asserted'; END$$}, 'an assertion');
same(q{DO $$BEGIN RAISE EXCEPTION '%', repeat('äx', 100000) USING HINT = repeat('h', 100000), DETAIL = repeat('d', 1000000); END$$},
	'a huge message with a huge hint and detail');
same(q{DO $$BEGIN RAISE EXCEPTION '%', repeat('x', } . $_ . q{); END$$}, "a message of $_ characters")
  foreach (200, 255, 256, 257, 800, 1000, 1024, 32000, 32768, 70000);
same(q{DO $$BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; RAISE; END; END$$}, 'an error that is raised again');
same(q{DO $$BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END; END$$}, 'an error that is caught');

note 'fields as SQL sees them';

value(q{
	CREATE TABLE fields (how text, f text[]);
	CREATE PROCEDURE catch(command text) LANGUAGE plpgsql AS $$
	DECLARE
		f1 text; f2 text; f3 text; f4 text; f5 text; f6 text; f7 text; f8 text; f9 text; f10 text;
	BEGIN
		EXECUTE command;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS f1 = RETURNED_SQLSTATE, f2 = MESSAGE_TEXT, f3 = PG_EXCEPTION_DETAIL, f4 = PG_EXCEPTION_HINT,
			f5 = SCHEMA_NAME, f6 = TABLE_NAME, f7 = COLUMN_NAME, f8 = CONSTRAINT_NAME, f9 = PG_DATATYPE_NAME, f10 = PG_EXCEPTION_CONTEXT;
		INSERT INTO fields VALUES (command, ARRAY[f1, f2, f3, f4, f5, f6, f7, f8, f9, f10]);
	END $$;
	CALL catch('SELECT rich()');
	CALL catch('SELECT supervisor.execute(''SELECT rich()'')');
	CALL catch('SELECT * FROM supervisor.run(''SELECT rich()::text'') AS (a text)');
	CALL catch('SELECT * FROM supervisor.result(supervisor.launch(''SELECT rich()'')) AS (a text)')});
is(value('SELECT count(*), count(DISTINCT f[:9]) FROM fields'), '4|1',
	'a handler sees the same fields, however the error came');
is( value(q{SELECT count(*) FROM fields WHERE f[10] LIKE
		'PL/pgSQL function rich() line 3 at RAISE%PL/pgSQL function catch(text) line 5 at EXECUTE'}),
	'4', 'the context is that of the task, and then that of its caller');

like(messages(q{SELECT * FROM supervisor.execute_all(ARRAY['SELECT rich()', 'DROP TABLE IF EXISTS nix'])}),
	qr/^NOTICE:  00000: table "nix" does not exist, skipping$/m, 'notices of execute_all arrive');
is(value(q{SELECT sqlstate, message FROM supervisor.execute_all(ARRAY['SELECT rich()'])}), 'ZZ999|the message',
	'execute_all tells SQLSTATE and message');
like(messages(q{CALL supervisor.perform('SELECT rich()')}),
	qr/^ERROR:  ZZ999: the message\nDETAIL:  the detail\nin two lines\nHINT:  the hint\nCONTEXT:  PL\/pgSQL function rich\(\).*\nsupervisor task \d+ in pool "default"\nSCHEMA NAME:  the schema\n/m,
	'perform raises errors with all their fields');
like(messages(q{CALL supervisor.perform('DROP TABLE IF EXISTS nix')}),
	qr/^NOTICE:  00000: table "nix" does not exist, skipping$/m, '... and notices');
like(messages(q{SELECT * FROM supervisor.run('SELECT 1, no_such_column', NULL) AS (a int)}),
	qr/^LINE 1: SELECT 1, no_such_column\n +\^$/m, 'run shows the position in its command');
like(messages(q{SELECT supervisor.execute('SELECT $1 + ''x''::int', ARRAY['1'])}),
	qr/^LINE 1: SELECT \$1 \+ 'x'::int\n +\^$/m, '... so with parameters');
like(messages(q{SELECT * FROM supervisor.result(supervisor.launch('SELECT no_such_column' || repeat(' ', 5000))) AS (a int)}),
	qr/^LINE 1: SELECT no_such_column/m, 'result shows the position in the command that was launched');

note 'notices';

my $levels = join ' ', map { "RAISE $_ 'marker $_';" } qw(DEBUG LOG INFO NOTICE WARNING);
foreach my $level (qw(debug5 debug1 log notice warning error))
{
	my $command = "DO \$\$BEGIN $levels END\$\$";
	my $quoted = quote($command);
	my $here = join "\n", messages($command, "SET client_min_messages = $level") =~ /^\w+:  \w+: marker.*$/mg;
	my $there = join "\n", messages("SELECT supervisor.execute($quoted)", "SET client_min_messages = $level") =~ /^\w+:  \w+: marker.*$/mg;
	is($there, $here, "messages with client_min_messages = $level");
}
same(q{DO $$BEGIN RAISE WARNING 'w' USING ERRCODE = '01234', DETAIL = 'd', HINT = 'h', SCHEMA = 's', TABLE = 't', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'y'; END$$},
	'a warning with all fields');
same(q{DROP TABLE IF EXISTS nix; CREATE TABLE IF NOT EXISTS deferred (); COMMIT; SELECT 1/0}, 'notices, a warning and an error, in order');
same(q{DO $$BEGIN RAISE NOTICE '%', repeat('äx', 1000000); END$$}, 'a huge notice');
same(q{DO $$BEGIN FOR i IN 1..20 LOOP RAISE NOTICE '%', repeat(i::text, 50000); END LOOP; RAISE EXCEPTION '%', repeat('e', 50000); END$$},
	'many large notices and a large error');
same(q{DO $$BEGIN FOR i IN 1..5000 LOOP RAISE NOTICE 'number %', i; END LOOP; END$$}, 'thousands of notices');
same(q{DO $$BEGIN RAISE NOTICE '%', '%s%n %m'; RAISE WARNING ''; RAISE INFO E'\n'; END$$}, 'odd notices');

like(messages(q{SELECT * FROM supervisor.result(supervisor.launch('DO $$BEGIN RAISE NOTICE ''launched''; RAISE WARNING ''twice''; END$$; SELECT 1')) AS (a int)}),
	qr/NOTICE:  00000: launched\n(?s:.*)WARNING:  01000: twice\n/, 'notices of a launched task arrive with its result');
unlike(messages(q{SELECT supervisor.wait(supervisor.launch('DO $$BEGIN RAISE NOTICE ''launched''; END$$; SELECT 1'))}),
	qr/launched/, '... and not before');
is(messages(q{SELECT supervisor.execute('DO $$BEGIN RAISE NOTICE ''unwanted''; END$$')}, 'SET client_min_messages = warning'),
	'', 'a notice that the session does not want is not shown');
is(messages(q{SELECT supervisor.execute('SET client_min_messages = notice; DO $$BEGIN RAISE NOTICE ''unwanted''; END$$')}, 'SET client_min_messages = warning'),
	'', '... even if the task wants it');

note 'errors among rows';

# Returns what psql prints for $sql, and its error.
sub output
{
	my ($sql) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return ($stdout, $stderr);
}

foreach my $case (
	[ 'an error in the first row', 'SELECT 1/0', 'a int' ],
	[ 'an error in a later row', 'SELECT 1 / (10 - i) FROM generate_series(1, 20) i', 'a int' ],
	[ 'an error after many rows', 'SELECT 1 / (200000 - i) FROM generate_series(1, 300000) i', 'a int' ],
	[ 'an error after large rows', q{SELECT repeat('x', 100000 / (100 - i)) FROM generate_series(1, 200) i}, 'a text' ],
	[ 'an error at COMMIT after rows', 'INSERT INTO deferred SELECT generate_series(600, 700) RETURNING id', 'a int' ],
	[ 'an error of a statement after the rows', 'SELECT generate_series(1, 100000); DO $$BEGIN PERFORM 1/0; END$$', 'a int' ])
{
	my ($name, $command, $columns) = @$case;
	my $quoted = quote($command);
	my $expected = messages($command) =~ /^ERROR:  (.*)$/m ? $1 : 'none';

	foreach my $call ("supervisor.run($quoted)", "supervisor.result(supervisor.launch($quoted))")
	{
		my ($stdout, $stderr) = output("SET supervisor.result_memory = '8MB'; SET client_min_messages = warning; SELECT * FROM $call AS ($columns)");

		is($stdout, '', "$name: no row is returned");
		like($stderr, qr/ERROR:  \Q$expected\E$/m, "$name: the error is");
	}
}

note 'too much for memory';

foreach my $command (
	q{SELECT repeat('x', 1000) FROM generate_series(1, 1000)},
	q{SELECT repeat(md5(random()::text), 10000) FROM generate_series(1, 10)},
	q{SELECT repeat(md5(random()::text), 100000)})
{
	my $quoted = quote($command);
	my ($stdout, $stderr) = output(qq{
		SELECT supervisor.launch($quoted) AS task \\gset
		SELECT supervisor.wait(:task);
		SELECT * FROM supervisor.result(:task) AS (a text)});

	is($stdout, 'failed', "a launched task that outgrows result_memory fails: $command");
	like($stderr, qr/ERROR:  54000: .*result_memory.*\nDETAIL:  .*\nHINT:  .*supervisor\.run/,
		"... with a hint: $command");
}
foreach my $size (1000, 100000, 300000, 520000, 600000, 5000000)
{
	my ($stdout, $stderr) = output(qq{
		SET client_min_messages = error;
		SELECT supervisor.launch('SET client_min_messages = notice; DO \$\$BEGIN FOR i IN 1..20 LOOP RAISE NOTICE ''%'', repeat(''x'', $size); END LOOP; END\$\$; SELECT 42') AS task \\gset
		SELECT supervisor.wait(:task);
		SELECT * FROM supervisor.result(:task) AS (a int)});

	if ($stdout =~ /succeeded/)
	{
		is($stdout, "succeeded\n42", "rows behind unread notices of $size bytes arrive");
	}
	else
	{
		is($stdout, 'failed', "a task with unread notices of $size bytes fails");
		like($stderr, qr/ERROR:  54000: .*\nDETAIL:  .*\nHINT:  /, '... with a hint');
	}
	($stdout, $stderr) = output(qq{
		SET client_min_messages = error;
		SELECT supervisor.launch('SET client_min_messages = notice; DO \$\$BEGIN FOR i IN 1..20 LOOP RAISE NOTICE ''%'', repeat(''x'', $size); END LOOP; PERFORM rich(); END\$\$') AS task \\gset
		SELECT supervisor.wait(:task);
		SELECT * FROM supervisor.result(:task) AS (a int)});
	is($stdout, 'failed', 'a task that fails behind them fails');
	like($stderr, qr/ERROR:  ZZ999: the message\nDETAIL:  the detail\nin two lines\nHINT:  the hint\n/,
		'... and its error arrives in full');
}
{
	# More at once than there is shared memory
	my ($stdout, $stderr) = output(q{
		SET supervisor.result_memory = '1GB';
		SELECT supervisor.launch('SELECT repeat(''x'', 10000) FROM generate_series(1, 10000)') AS task \gset
		SELECT supervisor.wait(:task);
		SELECT * FROM supervisor.result(:task) AS (a text)});
	is($stdout, 'failed', 'a launched task that outgrows shared_memory fails');
	like($stderr, qr/ERROR:  53200: .*\nHINT:  .*supervisor\.shared_memory/, '... with a hint');
	is(value(q{SELECT count(*) FROM supervisor.run('SELECT repeat(''x'', 10000) FROM generate_series(1, 10000)') AS (a text)}),
		'10000', '... and the memory is there again');
}

note 'the end of a worker';

like(messages(q{SELECT supervisor.execute('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(180)')}),
	qr/^ERROR:  55000: .*\nDETAIL:  57P01: terminating/m, 'a FATAL error is an ERROR 55000 for the submitter, with the original as detail');
like(messages(q{SELECT * FROM supervisor.result(supervisor.launch('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(180)')) AS (a bool, b text)}),
	qr/^ERROR:  55000: .*\nDETAIL:  57P01: terminating/m, '... for the reader of a launched task');
is( value(q{SELECT sqlstate FROM supervisor.execute_all(ARRAY['SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(180)', 'SELECT 1']) WHERE sqlstate IS NOT NULL}),
	'55000', '... and for execute_all, whose other commands run on');
SupervisorTest::wait_ready($node, 'default', 2);
is(value(q{SELECT supervisor.execute('SELECT 1')}), 'SELECT 1', 'another worker takes its place');
like(messages(q{SELECT supervisor.execute('DO $$BEGIN RAISE EXCEPTION ''x'' USING ERRCODE = ''57P01''; END$$')}),
	qr/^ERROR:  57P01: x$/m, 'an error that a command raises keeps its SQLSTATE, whichever');

is(SupervisorTest::leaks($node), '', 'no slot, no busy worker and no task is left over');

$node->stop;
done_testing();
