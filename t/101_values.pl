# Values of every type come back from a task as they were.

use strict;
use warnings;

use Encode;
use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(quote refused value);

my $node = SupervisorTest::new_node('main',
	'supervisor.result_memory' => '256kB',
	'supervisor.shared_memory' => '16MB');

SupervisorTest::ask(\$node);

# Checks that rows of $query, with these columns, are the same from a task, byte
# for byte.  Its rows must be in order.
sub same
{
	my ($query, $columns, $name, $dbname) = @_;
	my @names = map { /^\s*("(?:[^"]|"")+"|\w+)/ } split /,(?![^(]*\))/, $columns;
	my $row = 'md5(string_agg(' . join(q{ || '|' || }, map { "coalesce(encode(cast_send($_), 'hex'), 'NULL')" } @names) . q{, E'\n')) || ' ' || count(*)};
	my $list = join ', ', @names;
	my $quoted = quote($query);

	# The binary form, so that nothing is hidden by an output function
	$row =~ s/cast_send\(("(?:[^"]|"")+"|\w+)\)/record_send(ROW($1))/g;
	my $here = value("SELECT $row FROM ($query) AS x ($list)", dbname => $dbname);
	my $there = value("SELECT $row FROM supervisor.run($quoted) AS x ($columns)", dbname => $dbname);
	is($there, $here, $name);
	my $launched = value(
		"SET supervisor.result_memory = '12MB'; SELECT $row FROM supervisor.result(supervisor.launch($quoted)) AS x ($columns)", dbname => $dbname);
	is($launched, $here, "$name, launched");
}

SupervisorTest::wait_ready($node, 'default', 2);
SupervisorTest::leaks($node);

note 'types';

value(q{
	CREATE EXTENSION IF NOT EXISTS plpgsql;
	CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
	CREATE TYPE pair AS (a int, b text);
	CREATE TYPE nest AS (p pair, ps pair[], m mood, r int4range);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN short AS varchar(5);
	CREATE DOMAIN positives AS int[] CHECK (0 < ALL (VALUE));
	CREATE DOMAIN dpair AS pair CHECK ((VALUE).a IS DISTINCT FROM 0);
	CREATE DOMAIN dmood AS mood;
	CREATE TYPE floatrange AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi);
	CREATE TYPE pairrange AS RANGE (SUBTYPE = pair);
});

my @values = (
	[ 'bool', q{true}, q{false} ],
	[ 'int2', q{32767}, q{-32768} ],
	[ 'int4', q{2147483647}, q{-2147483648} ],
	[ 'int8', q{9223372036854775807}, q{-9223372036854775808} ],
	[ 'oid', q{4294967295} ],
	[ 'xid', q{'4294967295'} ],
	[ 'xid8', q{'18446744073709551615'} ],
	[ 'tid', q{'(42,7)'} ],
	[ 'pg_lsn', q{'FFFFFFFF/FFFFFFFF'} ],
	[ 'float4', q{'NaN'}, q{'-Infinity'}, q{1e-45}, q{-0.0} ],
	[ 'float8', q{'NaN'}, q{'Infinity'}, q{5e-324}, q{0.1} ],
	[ 'numeric', q{'NaN'}, q{'Infinity'}, q{0.000000000000000000001}, q{-1e1000}, q{1.500} ],
	[ 'numeric(10,2)', q{1234.5}, q{-0.01} ],
	[ 'money', q{'-1234.56'} ],
	[ 'text', q{''}, q{'x'}, q{E'a\tb\n\\\\ ''"äöü€𝄞'}, q{repeat('x', 127)}, q{repeat('x', 126)}, q{repeat('xyz', 100000)} ],
	[ 'varchar', q{'x'} ],
	[ 'varchar(3)', q{'äöü'} ],
	[ 'char(5)', q{'ab'}, q{''} ],
	[ '"char"', q{'x'}, q{''} ],
	[ 'name', q{'a name'}, q{repeat('n', 63)} ],
	[ 'bytea', q{''}, q{'\x00ff00'}, q{decode(repeat('00', 5000), 'hex')} ],
	[ 'bit(3)', q{B'101'} ],
	[ 'varbit', q{B''}, q{B'10110'} ],
	[ 'date', q{'infinity'}, q{'4713-01-01 BC'}, q{'5874897-12-31'} ],
	[ 'time', q{'24:00:00'} ],
	[ 'time(2)', q{'01:02:03.45'} ],
	[ 'timetz', q{'12:34:56.789+05:30'} ],
	[ 'timestamp', q{'-infinity'}, q{'2001-02-03 04:05:06.789'} ],
	[ 'timestamptz', q{'2001-02-03 04:05:06.789+07'} ],
	[ 'timestamptz(0)', q{'2001-02-03 04:05:06+07'} ],
	[ 'interval', q{'1 year -2 mons 3 days -04:05:06.7'} ],
	[ 'interval day to second', q{'1 2:03:04'} ],
	[ 'uuid', q{'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'} ],
	[ 'json', q{'{"a":  [1, 2, {"b": null}]}'} ],
	[ 'jsonb', q{'{"a": [1, 2.50, {"b": null}], "x": "\u00e4"}'}, q{'null'} ],
	[ 'jsonpath', q{'$.a[*] ? (@ > 1)'} ],
	[ 'inet', q{'192.168.1.5/24'}, q{'::ffff:1.2.3.4'} ],
	[ 'cidr', q{'10.1.0.0/16'} ],
	[ 'macaddr', q{'08:00:2b:01:02:03'} ],
	[ 'macaddr8', q{'08:00:2b:01:02:03:04:05'} ],
	[ 'point', q{'(1.5,-2)'} ],
	[ 'line', q{'{1,2,3}'} ],
	[ 'lseg', q{'[(1,2),(3,4)]'} ],
	[ 'box', q{'(3,4),(1,2)'} ],
	[ 'path', q{'[(1,2),(3,4),(5,6)]'}, q{'((1,2),(3,4))'} ],
	[ 'polygon', q{'((0,0),(1,1),(2,0))'} ],
	[ 'circle', q{'<(1,2),3>'} ],
	[ 'tsvector', q{$$'fat':2A,4 'cat':3B$$} ],
	[ 'tsquery', q{'fat & (rat | cat)'} ],
	[ 'regclass', q{'pg_class'} ],
	[ 'regtype', q{'int4'} ],
	[ 'regprocedure', q{'abs(int4)'} ],
	[ 'regrole', q{current_user::regrole} ],
	[ 'int2vector', q{'1 2 3'} ],
	[ 'oidvector', q{'1 2 3'} ],
	[ 'int4[]', q{'{}'}, q{'{1,NULL,3}'}, q{'[-1:1][2:3]={{1,2},{3,4},{5,6}}'}, q{array_fill(7, ARRAY[20000])} ],
	[ 'text[]', q{ARRAY['', NULL, 'NULL', '{"}', repeat('x', 10000)]} ],
	[ 'varchar(3)[]', q{'{abc,de}'} ],
	[ 'numeric[]', q{'{1.10,NaN}'} ],
	[ 'mood', q{'so so'}, q{'happy'} ],
	[ 'mood[]', q{'{sad,NULL,happy}'} ],
	[ 'pair', q{ROW(1, 'x')}, q{ROW(NULL, NULL)}, q{ROW(NULL, repeat('x', 10000))} ],
	[ 'pair[]', q{ARRAY[ROW(1, 'x')::pair, NULL, ROW(2, repeat('y', 10000))::pair]} ],
	[ 'nest', q{ROW(ROW(1, repeat('x', 5000)), ARRAY[ROW(2, repeat('y', 5000))::pair], 'sad', '[1,5)')} ],
	[ 'nest[]', q{ARRAY[ROW(ROW(1, 'x'), '{}', NULL, 'empty')::nest]} ],
	[ 'positive', q{7} ],
	[ 'short', q{'short'} ],
	[ 'positives', q{'{1,2,3}'} ],
	[ 'positive[]', q{'{1,NULL}'} ],
	[ 'dpair', q{ROW(1, repeat('z', 5000))::pair} ],
	[ 'dpair[]', q{ARRAY[ROW(1, 'z')::pair]::dpair[]} ],
	[ 'dmood', q{'happy'} ],
	[ 'int4range', q{'[1,10)'}, q{'empty'}, q{'(,)'} ],
	[ 'tstzrange', q{'[2001-01-01,)'} ],
	[ 'floatrange', q{'(1.5,NaN]'} ],
	[ 'pairrange', q{pairrange(ROW(1, 'a')::pair, ROW(2, repeat('b', 5000))::pair)} ],
	[ 'int4multirange', q{'{}'}, q{'{[1,3),[5,8)}'} ],
	[ 'tstzmultirange', q{'{[2001-01-01,2001-02-01),[2002-01-01,)}'} ],
	[ 'pg_catalog.pg_am', q{(SELECT a FROM pg_am a WHERE amname = 'btree')} ]);

push @values, [ 'xml', q{'<a b="c">ä</a>'}, q{''} ] if value(q{SELECT count(*) FROM pg_config() WHERE setting LIKE '%--with-libxml%'}) ne '0';

foreach my $case (@values)
{
	my ($type, @literals) = @$case;
	my $i = 0;
	my $query = join ' UNION ALL ', map { 'SELECT ' . $i++ . ", CAST($_ AS $type)" } @literals, 'NULL';

	same($query, "i int, v $type", "values of type $type");
}

# Anything else that the catalogs know, where its output can be its input
same(q{SELECT typname, typnamespace, typdefault FROM pg_type ORDER BY oid},
	'a name, b oid, c text', 'rows of pg_type');
same(q{SELECT prosrc, proargtypes, proallargtypes, proargmodes, proargnames, proconfig FROM pg_proc ORDER BY oid},
	'a text, b oidvector, c oid[], d "char"[], e text[], f text[]', 'rows of pg_proc');
is( value(q{SELECT count(*), count(DISTINCT a) FROM supervisor.run('SELECT ev_action FROM pg_rewrite') AS (a pg_node_tree)}),
	value(q{SELECT count(*), count(DISTINCT ev_action) FROM pg_rewrite}), 'pg_node_tree');
same(q{SELECT stxdndistinct, stxddependencies FROM pg_statistic_ext_data}, 'a pg_ndistinct, b pg_dependencies', 'types of extended statistics');

is( value(q{SELECT * FROM supervisor.run('SELECT datacl FROM pg_database WHERE datname = ''template1''') AS (a aclitem[])}),
	value(q{SELECT datacl FROM pg_database WHERE datname = 'template1'}), 'aclitem[]');

note 'toast';

foreach my $storage ('PLAIN', 'EXTERNAL', 'EXTENDED', 'MAIN')
{
	my $size = $storage eq 'PLAIN' ? 1000 : 100000;

	value(qq{
		CREATE TABLE toast_$storage (i int, v text, p pair, a text[], n text);
		ALTER TABLE toast_$storage ALTER v SET STORAGE $storage, ALTER a SET STORAGE $storage, ALTER p SET STORAGE $storage;
		INSERT INTO toast_$storage
		SELECT i, repeat(md5(i::text), $size / 32), ROW(i, repeat('p', $size))::pair, ARRAY[repeat('a', $size), 'b'], NULL
		FROM generate_series(1, 3) i});
	same("SELECT i, v, p, a, n FROM toast_$storage ORDER BY i", 'i int, v text, p pair, a text[], n text',
		"values of a table with storage $storage");
	same("SELECT v, i FROM toast_$storage ORDER BY i", 'v text, i int', "some of its columns, storage $storage");
	same("SELECT t FROM toast_$storage t ORDER BY i", "t toast_$storage", "whole rows of it, storage $storage");
	same("SELECT ARRAY[t] FROM toast_$storage t ORDER BY i", "t toast_${storage}[]", "arrays of whole rows, storage $storage");
	same("SELECT ARRAY(SELECT v FROM toast_$storage ORDER BY i)", 'v text[]', "an array of its values, storage $storage");
	same("SELECT ROW(i, v)::pair FROM toast_$storage ORDER BY i", 'v pair', "a row made of its values, storage $storage");
	same("SELECT v FROM toast_$storage ORDER BY i", 'v text', "only its values, storage $storage");
}
is( value(q{SELECT md5(v) FROM supervisor.run('DELETE FROM toast_EXTERNAL WHERE i = 3 RETURNING v') AS (v text)}),
	value(q{SELECT md5(repeat(md5('3'), 100000 / 32))}), 'a toasted value of a row that is deleted');
is( value(q{SELECT md5(v) FROM supervisor.run('UPDATE toast_EXTERNAL SET v = v || v WHERE i = 2 RETURNING v') AS (v text)}),
	value(q{SELECT md5(repeat(md5('2'), 100000 / 32) || repeat(md5('2'), 100000 / 32))}), '... or updated');
is( value(q{
		SELECT supervisor.launch('SELECT v FROM toast_EXTERNAL WHERE i = 1') AS task \gset
		SELECT supervisor.wait(:task);
		TRUNCATE toast_EXTERNAL;
		SELECT length(v) FROM supervisor.result(:task) AS (v text)}),
	"succeeded\n" . value(q{SELECT length(repeat(md5('1'), 100000 / 32))}), 'a toasted value whose table is truncated before it is read');
foreach my $order ('', ' ORDER BY i')
{
	is( value(qq{
			INSERT INTO toast_EXTERNAL (i, v) VALUES (1, repeat(md5('1'), 100000 / 32));
			SELECT supervisor.launch('SELECT * FROM toast_EXTERNAL$order') AS task \\gset
			SELECT supervisor.wait(:task);
			TRUNCATE toast_EXTERNAL;
			SELECT length(v) FROM supervisor.result(:task) AS (i int, v text, p pair, a text[], n text)}),
		"succeeded\n" . value(q{SELECT length(repeat(md5('1'), 100000 / 32))}), "... in a whole row$order");
}

value(q{
	CREATE FUNCTION expanded_array(n int) RETURNS int[] LANGUAGE plpgsql AS $$
	DECLARE
		a int[] := '{}';
	BEGIN
		FOR i IN 1..n LOOP a[i] := i; END LOOP;
		RETURN a;
	END $$;
	CREATE FUNCTION expanded_record(n int) RETURNS nest LANGUAGE plpgsql AS $$
	DECLARE
		r nest;
	BEGIN
		r.p := ROW(n, repeat('x', 10000));
		r.ps := ARRAY[r.p, r.p];
		r.m := 'happy';
		RETURN r;
	END $$;
	CREATE FUNCTION expanded_set() RETURNS SETOF nest LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..10 LOOP RETURN NEXT expanded_record(i); END LOOP;
	END $$});
same('SELECT expanded_array(10000), expanded_array(1), expanded_array(0)', 'a int[], b int[], c int[]', 'expanded arrays');
same('SELECT expanded_record(5)', 'a nest', 'an expanded record');
same('SELECT ARRAY[expanded_record(5), expanded_record(6)]', 'a nest[]', 'an array of expanded records');
same('SELECT * FROM expanded_set()', 'a pair, b pair[], c mood, d int4range', 'rows of a plpgsql function');
same('SELECT x FROM expanded_set() x', 'a nest', 'records of a plpgsql function');

note 'tables';

value(q{
	CREATE TABLE changed (a int, dropped1 text, b text, dropped2 int);
	INSERT INTO changed SELECT i, repeat('gone', 1000), 'b' || i, i FROM generate_series(1, 5) i;
	ALTER TABLE changed DROP dropped1, DROP dropped2;
	ALTER TABLE changed ADD c int DEFAULT 42, ADD d text DEFAULT 'default', ADD e pair DEFAULT ROW(1, 'x'), ADD f numeric;
	INSERT INTO changed (a, f) VALUES (6, 1.5);
	CREATE TABLE plain (a int, b int);
	INSERT INTO plain VALUES (1, 2);
	ALTER TABLE plain ADD c int DEFAULT 3;
	CREATE TABLE older (a int, b text);
	INSERT INTO older VALUES (1, 'x'), (2, NULL);
	ALTER TABLE older ADD c int;
	INSERT INTO older VALUES (3, 'y', 4);
	CREATE TABLE parent (a int, b text) PARTITION BY LIST (a);
	CREATE TABLE part1 (x int, b text, a int);
	ALTER TABLE part1 DROP x;
	ALTER TABLE parent ATTACH PARTITION part1 FOR VALUES IN (1);
	CREATE TABLE part2 PARTITION OF parent FOR VALUES IN (2);
	INSERT INTO parent VALUES (1, 'one'), (2, 'two');
	CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
	INSERT INTO generated VALUES (4);
	CREATE VIEW v AS SELECT * FROM changed});
same('SELECT * FROM changed ORDER BY a', 'a int, b text, c int, d text, e pair, f numeric', 'a table with dropped and added columns, sorted');
same('SELECT * FROM changed', 'a int, b text, c int, d text, e pair, f numeric', 'a table with dropped and added columns');
same('TABLE plain', 'a int, b int, c int', 'a table with an added column');
same('SELECT c FROM plain', 'c int', '... that column alone');
same('TABLE older', 'a int, b text, c int', 'rows that are older than a column');
same('SELECT * FROM older ORDER BY a', 'a int, b text, c int', '... sorted');
same('SELECT changed FROM changed', 'a changed', 'whole rows of a table with dropped and added columns');
same('TABLE v', 'a int, b text, c int, d text, e pair, f numeric', 'a view of it');
same('SELECT * FROM parent ORDER BY a', 'a int, b text', 'a partitioned table with columns in another order');
same('SELECT parent FROM parent ORDER BY a', 'a parent', '... whole rows of it');
same('TABLE generated', 'a int, b int', 'a generated column');
same('SELECT ctid, tableoid FROM changed', 'a tid, b oid', 'system columns');
is( value(q{SELECT * FROM supervisor.run('INSERT INTO changed (a, b) VALUES (7, $1) RETURNING *', ARRAY['x']) AS (a int, b text, c int, d text, e pair, f numeric)}),
	'7|x|42|default|(1,x)|', 'INSERT RETURNING of a table with dropped and added columns');
is( value(q{SELECT count(*) FROM supervisor.run('SELECT * FROM pg_class') AS t (} .
		value(q{SELECT string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = 'pg_class'::regclass AND attnum > 0}) . ')'),
	value('SELECT count(*) FROM pg_class'), 'all columns of pg_class');

# A composite type that is changed between two tasks of one worker
value('CREATE TYPE changing AS (a int, b text); CREATE TABLE has_changing (v changing); INSERT INTO has_changing VALUES (ROW(1, $$x$$))');
same('TABLE has_changing', 'v changing', 'a composite type');
value('ALTER TYPE changing ADD ATTRIBUTE c int; ALTER TYPE changing DROP ATTRIBUTE a');
same('TABLE has_changing', 'v changing', '... after it was changed');
value(q{ALTER TYPE mood ADD VALUE 'new'});
same(q{SELECT 'new'::mood}, 'v mood', 'a new value of an enum');

note 'shapes';

foreach my $n (1, 7, 8, 9, 100, 1600)
{
	my $list = join ', ', map { "c$_ int" } 1 .. $n;

	is( value("SELECT md5(t::text) FROM supervisor.run('SELECT ' || (SELECT string_agg(i::text, ',') FROM generate_series(1, $n) i)) AS t ($list)"),
		value("SELECT md5('(' || string_agg(i::text, ',') || ')') FROM generate_series(1, $n) i"), "$n columns");
	is( value("SELECT md5(t::text) FROM supervisor.run('SELECT ' || (SELECT string_agg(CASE WHEN i % 3 = 0 THEN i::text ELSE 'NULL::int' END, ',') FROM generate_series(1, $n) i)) AS t ($list)"),
		value("SELECT md5('(' || string_agg(CASE WHEN i % 3 = 0 THEN i::text ELSE '' END, ',') || ')') FROM generate_series(1, $n) i"), "$n columns with NULLs");
}
is(value(q{SELECT supervisor.execute('SELECT FROM generate_series(1, 5)')}), 'SELECT 5', 'a result without columns');
is(value(q{SELECT supervisor.wait(supervisor.launch('SELECT FROM generate_series(1, 1000)'))}), 'succeeded', '... launched');
refused(q{SELECT * FROM supervisor.run('SELECT') AS (a int)}, '42804', '... does not match a list of one', message => qr/0 columns/,
	hint => qr/Use supervisor\.execute\(\) for it/);
is(value(q{SELECT supervisor.wait(supervisor.launch('SELECT pg_sleep(0)'))}), 'succeeded', 'a result of type void');
is(value(q{SELECT supervisor.execute('SELECT NULL::cstring, ''x''::cstring')}), 'SELECT 1', 'a result of type cstring');
is(value(q{SELECT supervisor.wait(supervisor.launch('SELECT NULL::cstring, ''x''::cstring, 1'))}), 'succeeded', '... launched');
foreach my $case (
	[ 'void', 'pg_sleep(0)', '' ],
	[ 'cstring', q{'x'::cstring}, 'x' ],
	[ 'anyarray', '(SELECT stavalues1 FROM pg_statistic WHERE stavalues1 IS NOT NULL LIMIT 0)', '' ])
{
	my ($type, $expression, $as_text) = @$case;
	my %told = (message => qr/has type $type, in the list it has type integer/, hint => qr/No list can have that type: cast the column to text/);

	refused("SELECT * FROM supervisor.run(\$\$ SELECT $expression \$\$) AS (x int)", '42804', "a column of type $type", %told);
	refused("SELECT * FROM supervisor.result(supervisor.launch(\$\$ SELECT $expression \$\$)) AS (x int)", '42804', "... launched", %told);
	is(value("SELECT x FROM supervisor.run(\$\$ SELECT ($expression)::text \$\$) AS (x text)"), $as_text, '... cast to text');
}
is(value(q{SELECT * FROM supervisor.run('SELECT ''untyped''') AS (a text)}), 'untyped', 'a literal without a type is text');
is(value(q{SELECT * FROM supervisor.run('SELECT 1 AS "A b""c", 2 AS "A b""c"') AS ("x y" int, z int)}), '1|2', 'names of columns do not matter');

# What a rule adds to a statement without RETURNING is not among the rows that are wanted.
value(q{
	CREATE TABLE ruled (a int);
	CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT 42;
	CREATE RULE instead AS ON UPDATE TO ruled DO INSTEAD SELECT 43});
refused("SELECT * FROM supervisor.run('$_') AS (x int)", '42804', "rows of a rule: $_", message => qr/command returns no rows/,
	hint => qr/Use supervisor\.execute\(\) for it/)
  foreach 'INSERT INTO ruled VALUES (1)', 'UPDATE ruled SET a = 2';
is(value(q{SELECT supervisor.execute('INSERT INTO ruled VALUES (2)')}), 'INSERT 0 1', 'the statement itself works');
is(value(q{SELECT * FROM supervisor.run('INSERT INTO ruled VALUES (3) RETURNING a') AS (x int)}), '3', '... and with RETURNING has its own rows');
is(value(q{SELECT count(*) FROM supervisor.result(supervisor.launch('INSERT INTO ruled VALUES (4)')) AS (x int)}), '0', '... launched, has none');

# Rows of all sizes around those of the pieces in which they travel
foreach my $size (900, 1000, 1024, 1100, 8000, 32700, 32720, 32740, 32760, 32768, 33000, 65500, 65536, 98000, 1000000)
{
	is( value(qq{SELECT string_agg(DISTINCT length(a) || ' ' || md5(a), ','), count(*), sum(i) FROM supervisor.run('SELECT i, repeat(''x'', $size) FROM generate_series(1, 5) i') AS (i int, a text)}),
		value(qq{SELECT '$size ' || md5(repeat('x', $size)), 5, 15}), "rows of $size bytes");
}
same(q{SELECT i, repeat(chr(97 + i % 26), i) FROM generate_series(0, 3000) i}, 'i int, a text', 'rows that grow');
is( value(q{SELECT count(*), md5(string_agg(md5(a), '' ORDER BY i)) FROM supervisor.run('SELECT i, repeat(chr(97 + i % 26), 33000 - i * 3) FROM generate_series(0, 300) i') AS (i int, a text)}),
	value(q{SELECT count(*), md5(string_agg(md5(a), '' ORDER BY i)) FROM (SELECT i, repeat(chr(97 + i % 26), 33000 - i * 3) AS a FROM generate_series(0, 300) i) s}),
	'rows that shrink, around the size of a piece');

note 'what is refused';

foreach my $case (
	[ 'SELECT ROW(1, 2)', 'a int' ], [ 'SELECT 1, ROW(1, 2)', 'a int, b text' ],
	[ 'SELECT ARRAY[ROW(1, 2)]', 'a text' ], [ 'SELECT x FROM (SELECT 1 AS a) x', 'a int' ],
	[ 'SELECT pg_stat_file(\'PG_VERSION\')', 'a int' ],
	[ 'SELECT i, ROW(i) FROM generate_series(1, 1000000) i', 'a int, b text' ])
{
	refused("SELECT * FROM supervisor.run(" . quote($case->[0]) . ") AS ($case->[1])",
		'0A000', "a record without a name is refused: $case->[0]", message => qr/HINT: /);
	refused("SELECT * FROM supervisor.result(supervisor.launch(" . quote($case->[0]) . ")) AS ($case->[1])",
		'0A000', "... launched: $case->[0]", message => qr/HINT: /);
	is((SupervisorTest::error_of($node, "SELECT supervisor.execute(" . quote($case->[0]) . ")"))[0],
		undef, "... but can be executed: $case->[0]");
}
foreach my $case (
	[ 'SELECT 1', 'a bigint' ], [ 'SELECT 1', 'a text' ], [ 'SELECT 1', 'a int, b int' ], [ 'SELECT 1, 2', 'a int' ],
	[ q{SELECT 'x'::text}, 'a varchar' ], [ q{SELECT 'x'::varchar(5)}, 'a varchar(4)' ],
	[ q{SELECT 1::numeric}, 'a numeric(10,2)' ], [ q{SELECT 1}, 'a positive' ], [ q{SELECT 1::positive}, 'a int' ],
	[ q{SELECT '{1}'::int[]}, 'a positives' ], [ q{SELECT 'x'::char(3)}, 'a char(4)' ], [ q{SELECT ROW(1, 'x')::pair}, 'a dpair' ],
	[ q{SELECT 1 FROM generate_series(1, 1000000)}, 'a bigint' ], [ q{SELECT 1 WHERE false}, 'a text' ])
{
	refused("SELECT * FROM supervisor.run(" . quote($case->[0]) . ") AS ($case->[1])",
		'42804', "a column list that does not match: $case->[0] AS ($case->[1])", message => qr/DETAIL: /);
	refused("SELECT * FROM supervisor.result(supervisor.launch(" . quote($case->[0]) . ")) AS ($case->[1])",
		'42804', "... launched: $case->[0] AS ($case->[1])", message => qr/DETAIL: /);
}
foreach my $case (
	[ q{SELECT 'x'::varchar(5)}, 'a varchar' ], [ q{SELECT 1::numeric(10,2)}, 'a numeric' ], [ q{SELECT 'x'::char(3)}, 'a bpchar' ])
{
	is((SupervisorTest::error_of($node, "SELECT * FROM supervisor.run(" . quote($case->[0]) . ") AS ($case->[1])"))[0],
		undef, "a list without a length takes any: $case->[0] AS ($case->[1])");
}
is(SupervisorTest::leaks($node), '', 'no task is left over');

note 'encodings';

my %text = (
	UTF8 => "Gr\x{fc}\x{df}e \x{20ac} \x{65e5}\x{672c}\x{8a9e} \x{1d11e}",
	LATIN1 => "Gr\x{fc}\x{df}e \x{e9}\x{ff}",
	EUC_JP => "\x{65e5}\x{672c}\x{8a9e} \x{30c6}\x{30b9}\x{30c8}",
	SQL_ASCII => 'plain');
foreach my $encoding (sort keys %text)
{
	# A name that must be quoted, for everything that has one
	my $word = encode('UTF-8', $text{$encoding});
	my $plain = "$word \"x'";
	my $name = '"' . ($plain =~ s/"/""/gr) . '"';
	my $literal = quote($plain);
	my $regclass = quote("$name.$name");
	my $dbname = 'db_' . lc $encoding;
	my $prefix = $encoding eq 'SQL_ASCII' ? '' : "SET client_encoding = 'UTF8'; ";

	value("CREATE DATABASE $dbname ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	value('CREATE EXTENSION supervisor', dbname => $dbname);
	value(qq{${prefix}CREATE SCHEMA $name; CREATE TABLE $name.$name ($name text CONSTRAINT $name CHECK ($name <> 'x'));
		INSERT INTO $name.$name VALUES ($literal)}, dbname => $dbname);
	is( value("${prefix}SELECT * FROM supervisor.run("
			  . quote("SELECT $name, relname FROM $name.$name, pg_class WHERE oid = ${regclass}::regclass")
			  . ") AS ($name text, b name)", dbname => $dbname),
		"$plain|$plain", "$encoding: text and identifiers arrive");
	is( value("${prefix}SET search_path = $name; SELECT * FROM supervisor.run("
			  . quote("SELECT current_schema(), $name FROM $name") . ') AS (a name, b text)', dbname => $dbname),
		"$plain|$plain", "$encoding: a setting arrives");
	is( value("${prefix}SELECT * FROM supervisor.run('SELECT \$1', ARRAY[$literal]) AS (a text)", dbname => $dbname),
		$plain, "$encoding: a parameter arrives");

	my ($sqlstate, $stderr) = SupervisorTest::error_of($node,
		"${prefix}SELECT supervisor.execute(" . quote("INSERT INTO $name.$name VALUES ('x')") . ")", dbname => $dbname);
	is($sqlstate, '23514', "$encoding: an error of a constraint");
	like($stderr, qr/^SCHEMA NAME:  \Q$plain\E\nTABLE NAME:  \Q$plain\E\nCONSTRAINT NAME:  \Q$plain\E$/m, "$encoding: names in an error arrive");
	(undef, $stderr) = SupervisorTest::error_of($node,
		"${prefix}SELECT supervisor.execute(" . quote("SET client_encoding = 'UTF8'; DO \$\$BEGIN RAISE NOTICE 'n $word'; RAISE EXCEPTION 'e $word' USING HINT = 'h $word', DETAIL = 'd $word'; END\$\$") . ")", dbname => $dbname);
	like($stderr, qr/NOTICE: .* n \Q$word\E$/m, "$encoding: a notice arrives");
	like($stderr, qr/ERROR: .* e \Q$word\E\nDETAIL:  d \Q$word\E\nHINT:  h \Q$word\E$/m, "$encoding: an error arrives");

	# Whatever client_encoding the role has, and even if it can't express the text
	value("ALTER DATABASE $dbname SET client_encoding = 'SQL_ASCII'");
	value("ALTER DATABASE $dbname SET client_encoding = 'LATIN1'") if $encoding ne 'EUC_JP' && $encoding ne 'SQL_ASCII';
	($sqlstate, $stderr) = SupervisorTest::error_of($node,
		"${prefix}SELECT supervisor.execute(" . quote("DO \$\$BEGIN RAISE NOTICE 'n $word'; RAISE EXCEPTION 'e $word'; END\$\$") . ")", dbname => $dbname);
	is($sqlstate, 'P0001', "$encoding: an error that client_encoding of the database can't express");
	like($stderr, qr/NOTICE: .* n \Q$word\E\n.*ERROR: .* e \Q$word\E$/ms, "$encoding: ... arrives, and a notice");
}
{
	my ($sqlstate, $stderr) = SupervisorTest::error_of($node,
		q{SELECT supervisor.execute('SET client_encoding = LATIN1; DO $$BEGIN RAISE EXCEPTION ''%'', U&''\20ac''; END$$')});
	is($sqlstate, 'P0001', q{an error that the task's own client_encoding can't express arrives});
	is(value(q{SELECT message = U&'\20ac' FROM supervisor.execute_all(ARRAY['SET client_encoding = LATIN1; DO $$BEGIN RAISE EXCEPTION ''%'', U&''\20ac''; END$$'])}),
		't', '... as it was');
}

# What views show of other encodings, or cut, is valid text
{
	my $session = SupervisorTest::session($node);
	my $latin1 = SupervisorTest::session($node, dbname => 'db_latin1');
	my $task = $session->query_safe(q{SELECT supervisor.launch('DO $$BEGIN RAISE EXCEPTION ''%'', repeat(U&''\20ac'', 500); END$$')});

	$session->query_safe("SELECT supervisor.wait($task)");
	foreach my $chars (250, 300, 339, 340, 341, 342, 400)
	{
		$session->query_safe("SELECT supervisor.launch('SELECT ''' || repeat(U&'\\20ac', $chars) || 'x'' FROM pg_sleep(0)')");
	}
	$latin1->query_safe(q{SET client_encoding = UTF8; SELECT supervisor.launch('DO $$BEGIN RAISE EXCEPTION ''%'', repeat(''é'', 10); END$$ /* é */')});
	$node->poll_query_until('postgres', q{SELECT count(*) FILTER (WHERE state NOT IN ('queued', 'running')) = 9 FROM supervisor.task_status WHERE owner_pid IS NOT NULL})
	  or die 'the tasks did not end';
	is( value(q{SELECT count(*) FROM supervisor.task_status
			WHERE convert_from(convert_to(message || command, 'UTF8'), 'UTF8') IS NULL AND message IS NOT NULL}),
		'0', 'messages and commands in task_status are valid in this encoding');
	is( value(q{SELECT count(*) FROM supervisor.task_status WHERE owner_pid IS NOT NULL AND convert_from(convert_to(command, 'UTF8'), 'UTF8') IS NOT NULL}),
		'9', '... those of a LATIN1 database, too');
	$session->quit;
	$latin1->quit;
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM supervisor.task_status WHERE owner_pid IS NOT NULL OR finished_at IS NULL') or die 'tasks are left over';
}

note 'large results';

is( value(q{SELECT count(*), sum(a), min(b), max(length(b)) FROM supervisor.run('SELECT i, ''row '' || i FROM generate_series(1, 1000000) i') AS (a int, b text)}),
	'1000000|500000500000|row 1|11', 'a million rows');
is( value(q{SELECT count(*), sum(a) FROM supervisor.run('DECLARE c CURSOR FOR SELECT generate_series(1, 200000); FETCH ALL c') AS (a int)}),
	'200000|20000100000', 'many rows of a cursor');
is( value(q{SELECT length(a), md5(a) FROM supervisor.run('SELECT decode(repeat(''0123456789abcdef'', 13107200), ''hex'')') AS (a bytea)}),
	value(q{SELECT length(a), md5(a) FROM decode(repeat('0123456789abcdef', 13107200), 'hex') a}), 'a bytea of 100 MB, through less shared memory than that');
is( value(q{SELECT count(*), sum(length(a)) FROM supervisor.run('SELECT repeat(''x'', 3000000) FROM generate_series(1, 20)') AS (a text)}),
	'20|60000000', 'rows larger than what may be held unread');
is( value(q{
		CREATE TABLE big AS SELECT string_agg(md5(i::text), '') AS v FROM generate_series(1, 300000) i;
		SELECT a = v FROM supervisor.run('TABLE big') AS (a text), big}),
	't', 'a toasted and compressed value of 10 MB');

# Notices go before, between and behind the rows, none is lost
{
	my ($stdout, $stderr);

	value(q{
		CREATE FUNCTION notes(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'note %', i; RETURN i; END $$});
	$node->psql('postgres', q{SELECT sum(a) FROM supervisor.run('SELECT notes(i) FROM generate_series(1, 20000) i') AS (a int)},
		stdout => \$stdout, stderr => \$stderr);
	is($stdout, '200010000', 'rows with many notices');
	my @notes = $stderr =~ /NOTICE:  note (\d+)$/mg;
	is(scalar(@notes), 20000, '... which all arrive');
	is_deeply(\@notes, [ 1 .. 20000 ], '... in order');
}

# The memory of the reader does not grow with what has passed
SKIP:
{
	skip 'no /proc', 2 if !-r '/proc/self/status';

	my $session = SupervisorTest::session($node);
	my $pid = $session->pid;
	my $peak = sub { slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m; return $1; };

	$session->query_safe(q{SET client_min_messages = warning; SET work_mem = '1MB'});
	$session->query_safe(q{SELECT count(*) FROM supervisor.run('SELECT generate_series(1, 1000)') AS (a int)});
	my $before = $peak->();
	is($session->query_safe(q{SELECT count(*) FROM supervisor.run('SELECT i, md5(i::text) FROM generate_series(1, 1000000) i') AS (a int, b text)}),
		'1000000', 'a million rows again');
	cmp_ok($peak->() - $before, '<', 32 * 1024, 'rows that are read take no memory but work_mem');

	$session->query_safe('SET log_min_messages = error; SET client_min_messages = warning');
	$before = $peak->();
	# the task has another client_min_messages, so its notices are sent
	$session->query_safe(q{SELECT supervisor.execute('SET client_min_messages = notice; DO $$BEGIN FOR i IN 1..100000 LOOP RAISE NOTICE ''%'', i; END LOOP; END$$')});
	cmp_ok($peak->() - $before, '<', 32 * 1024, 'notices that are read take no memory');
	$session->quit;
}

is(SupervisorTest::leaks($node), '', 'no slot, no busy worker and no task is left over');

$node->stop;
done_testing();
