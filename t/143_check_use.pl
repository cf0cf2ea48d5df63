# What has been checked is what is used: the table supervisor.worker does not
# change between the look at it and the write, nothing that hangs on it runs
# when it is written, and neither a row nor a declaration that is another's by
# now is taken for the one whose rights were checked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes quote refused value);

my $node = SupervisorTest::new_node(
	'check_use',
	'autovacuum' => 'off',
	'max_worker_processes' => 30,
	'wal_level' => 'logical',
	'supervisor.max_workers' => 12,
	'supervisor.pool_size' => 1);
my $s = SupervisorTest::session($node);
my $t = SupervisorTest::session($node);

SupervisorTest::ask(\$s);

# mallory has been granted more than he should.
value(q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA supervisor TO mallory, victim;
	GRANT ALL ON ALL TABLES IN SCHEMA supervisor TO mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	GRANT CREATE ON DATABASE postgres TO mallory;
	CREATE TABLE ran (what text, who name DEFAULT current_user);
	GRANT ALL ON ran TO PUBLIC});
my $m = SupervisorTest::session($node, user => 'mallory');
$m->query_safe(q{
	CREATE FUNCTION evil(anyelement) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO ran VALUES ('evil'); RETURN true; END $$;
	CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO ran VALUES ('trigger'); RETURN NEW; END $$});

sub nothing_ran
{
	my ($property) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(value('SELECT count(*) FROM ran'), '0', $property);
}

# Sends $sql in $t, which must wait for a lock, and $then in $who; returns what it gets, or its SQLSTATE.
sub waits
{
	my ($sql, $who, $then, $property) = @_;
	my $pid = $t->pid;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$t->begin($sql);
	ok($s->wait_true("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), "$property waits");
	$who->query_safe($then);
	my ($out, $err) = $t->finish;
	return $err =~ /ERROR/ ? SupervisorTest::sqlstate($err) : $out;
}

sub row
{
	my ($name, $columns) = @_;

	return value("SELECT $columns FROM supervisor.worker WHERE name = '$name'");
}

sub runs
{
	my ($name) = @_;

	$s->wait_true("SELECT bool_and(state = 'running') FROM supervisor.worker_status WHERE name = '$name'") or die "worker $name does not run";
}

note 'what the table may be';

my $add = q{SELECT supervisor.add_worker('added', 'SELECT 1', '1 h')};
my $trigger = 'CREATE TRIGGER more AFTER INSERT ON supervisor.worker FOR EACH ROW';
my $ours = 'EXECUTE FUNCTION supervisor.worker_changed()';
my $statement = 'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.worker FOR EACH STATEMENT';
my %refused = (
	'other triggers' => [
		"$trigger EXECUTE FUNCTION evil_trigger()", "$trigger WHEN (evil(NEW.name)) $ours", "$trigger $ours",
		"CREATE TRIGGER more $statement $ours",
		"CREATE TRIGGER more AFTER UPDATE OF command ON supervisor.worker FOR EACH ROW $ours",
		"CREATE TRIGGER more AFTER INSERT ON supervisor.worker REFERENCING NEW TABLE AS n FOR EACH STATEMENT $ours",
		"CREATE CONSTRAINT TRIGGER more AFTER INSERT ON supervisor.worker DEFERRABLE FOR EACH ROW $ours",
		'CREATE TABLE child (name name REFERENCES supervisor.worker)' ],
	'lacks triggers' => [
		"DROP TRIGGER worker_changed ON supervisor.worker; CREATE TRIGGER worker_changed $statement WHEN (evil(1)) $ours",
		"DROP TRIGGER worker_changed ON supervisor.worker; CREATE TRIGGER worker_changed $statement EXECUTE FUNCTION supervisor.worker_changed('x')",
		'CREATE OR REPLACE FUNCTION supervisor.worker_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$',
		'ALTER FUNCTION supervisor.worker_changed() SECURITY DEFINER', 'ALTER FUNCTION supervisor.worker_changed() SET role = none',
		'DROP TRIGGER worker_row_changed ON supervisor.worker', 'ALTER TABLE supervisor.worker DISABLE TRIGGER worker_changed',
		'ALTER TABLE supervisor.worker ENABLE REPLICA TRIGGER worker_row_changed' ],
	'rules or row security' => ['CREATE RULE more AS ON UPDATE TO supervisor.worker DO ALSO SELECT evil(1)'],
	'other constraints or indexes' => [
		'ALTER TABLE supervisor.worker DROP CONSTRAINT worker_pkey',
		'ALTER TABLE supervisor.worker DROP CONSTRAINT worker_pkey, ADD PRIMARY KEY (name) DEFERRABLE',
		'ALTER TABLE supervisor.worker DROP CONSTRAINT worker_pkey, ADD PRIMARY KEY (name, enabled)',
		'ALTER TABLE supervisor.worker DROP CONSTRAINT worker_pkey, ADD PRIMARY KEY (name) INCLUDE (command)',
		'ALTER TABLE supervisor.worker ADD UNIQUE (role)', 'ALTER TABLE supervisor.worker ADD CHECK (evil(name))',
		'ALTER TABLE supervisor.worker ADD EXCLUDE (command WITH =)',
		'CREATE INDEX ON supervisor.worker (lower(command))', 'CREATE INDEX ON supervisor.worker (role) WHERE enabled',
		'CREATE INDEX ON supervisor.worker USING hash (name)', 'CREATE INDEX ON supervisor.worker (command text_pattern_ops)' ],
	'other columns' => [
		'ALTER TABLE supervisor.worker ALTER instances DROP DEFAULT, ALTER instances ADD GENERATED BY DEFAULT AS IDENTITY',
		'ALTER TABLE supervisor.worker ALTER name TYPE name COLLATE "POSIX"',
		'ALTER TABLE supervisor.worker ALTER run_every TYPE interval(0)',
		'ALTER TABLE supervisor.worker ALTER run_every SET NOT NULL', 'ALTER TABLE supervisor.worker ALTER restart DROP NOT NULL' ],
	'no ordinary table' => [
		'ALTER TABLE supervisor.worker SET UNLOGGED', 'CREATE TABLE parent (name name NOT NULL); ALTER TABLE supervisor.worker INHERIT parent' ]);
foreach my $complaint (sort keys %refused)
{
	foreach my $sql (@{ $refused{$complaint} })
	{
		$s->query_safe("BEGIN; $sql");
		refused($add, '55000', "refused: $sql", message => qr/DETAIL:  .*\Q$complaint\E/);
		$s->query_safe('ROLLBACK');
	}
}
foreach my $sql (
	'CREATE INDEX ON supervisor.worker (role, name)', 'CREATE UNIQUE INDEX ON supervisor.worker (name)', 'CREATE TABLE child () INHERITS (supervisor.worker)',
	'CREATE STATISTICS more ON name, role FROM supervisor.worker', q{CREATE PUBLICATION more FOR TABLE supervisor.worker WHERE (name <> 'no')},
	'ALTER TABLE supervisor.worker REPLICA IDENTITY FULL', 'ALTER TABLE supervisor.worker ENABLE TRIGGER ALL',
	'ALTER TABLE supervisor.worker ALTER instances SET DEFAULT evil(1)::int',
	'REINDEX TABLE supervisor.worker', 'CLUSTER supervisor.worker USING worker_pkey', 'LOCK TABLE supervisor.worker')
{
	$s->query_safe("BEGIN; $sql");
	is($s->query($add . q{; SELECT supervisor.alter_worker('added', 'SELECT 2'); SELECT supervisor.remove_worker('added')}) . $s->{stderr}, "\n\n",
		"allowed: $sql");
	$s->query_safe('ROLLBACK');
}
value('CREATE PUBLICATION all_tables FOR ALL TABLES; ALTER TABLE supervisor.worker REPLICA IDENTITY NOTHING');
value($add);
refused(q{SELECT supervisor.alter_worker('added', 'SELECT 2')}, '55000', 'what can not be replicated is not updated', message => qr/replica identity/);
refused(q{SELECT supervisor.remove_worker('added')}, '55000', 'nor deleted', message => qr/replica identity/);
value('ALTER TABLE supervisor.worker REPLICA IDENTITY DEFAULT; DROP PUBLICATION all_tables');
value(q{SELECT supervisor.remove_worker('added')});
nothing_ran('nothing of all that has run');

# as REINDEX CONCURRENTLY leaves it when it fails
$s->query_safe(q{SELECT supervisor.add_worker('rebuilt', 'SELECT 1', '1 h')});
$s->query_safe('CREATE UNIQUE INDEX CONCURRENTLY worker_pkey_ccnew ON supervisor.worker (name)');
$s->query_safe(q{UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'supervisor.worker_pkey_ccnew'::regclass});
$s->query_safe(q{SELECT supervisor.alter_worker('rebuilt', 'SELECT 2')});
becomes(q{SELECT command = 'SELECT 2' AND state = 'running' FROM supervisor.worker_status WHERE name = 'rebuilt'}, 'an index that is being built harms nobody');
$s->query_safe('DROP INDEX supervisor.worker_pkey_ccnew');
$s->query_safe('REINDEX TABLE CONCURRENTLY supervisor.worker');
$s->query_safe(q{SELECT supervisor.remove_worker('rebuilt')});

note 'a trigger of one who was granted TRIGGER';

value(q{SELECT supervisor.add_worker('x', 'SELECT 1', '1 h')});
runs('x');
my @changes = (
	q{add_worker('y', 'SELECT 1', '1 h')}, q{alter_worker('x', instances => 1)}, q{stop_worker('x')}, q{start_worker('x')}, q{remove_worker('x')});
my $ours_again = 'CREATE OR REPLACE TRIGGER worker_changed AFTER INSERT ON supervisor.worker FOR EACH ROW EXECUTE FUNCTION evil_trigger()';
refused($_, '42501', "not made: $_", session => $m, message => qr/must be owner of table worker/)
  foreach (
	"$trigger WHEN (public.evil(NEW.name)) $ours", "$trigger $ours", "$trigger EXECUTE FUNCTION evil_trigger()", $ours_again,
	"CREATE CONSTRAINT TRIGGER more AFTER INSERT ON supervisor.worker FOR EACH ROW $ours",
	'CREATE TABLE child (name name REFERENCES supervisor.worker)');
refused($ours_again =~ s/worker_changed/worker_row_changed/r, '42710', 'nor is the one that guards it replaced, by nobody', message => qr/is a constraint trigger/);
my $insert = q{INSERT INTO supervisor.worker (name, command, run_every, role) VALUES ('pwned', 'ALTER ROLE mallory SUPERUSER', '1 h', 'postgres')};
refused($insert, '42501', 'nor are rows', session => $m);

# As one who has made it while the library was not preloaded.
my $earlier = SupervisorTest::session($node);
$earlier->query_safe($ours_again);
refused($insert, '42501', 'nor are rows where the other one has been replaced', session => $m);
is(value(q{SELECT count(*) FROM supervisor.worker_status WHERE name = 'x' AND state = 'running'}), '1', 'what is there runs on');
refused("SELECT supervisor.$_", '55000', "and is not changed: $_", message => qr/lacks triggers/) foreach @changes;
value("CREATE OR REPLACE TRIGGER worker_changed $statement $ours; ALTER TABLE supervisor.worker ENABLE ALWAYS TRIGGER worker_changed; DELETE FROM ran");
$earlier->query_safe("$trigger WHEN (public.evil(NEW.name)) $ours");
refused("SELECT supervisor.$_", '55000', "once it is there, refused: $_", message => qr/other triggers/) foreach @changes;
refused("SELECT supervisor.$changes[0]", '55000', 'also to him', session => $m);
is(value(q{SELECT supervisor.restart_worker('x')}), 't', 'what is there already runs on');
nothing_ran('and it is not run');
value('DROP TRIGGER more ON supervisor.worker');
$earlier->query_safe('CREATE TABLE child (name name REFERENCES supervisor.worker)');
value(q{INSERT INTO supervisor.worker (name, command, run_every, role) VALUES ('direct', 'SELECT 1', '1 h', 'victim')});
becomes(q{SELECT state = 'running' FROM supervisor.worker_status WHERE name = 'direct'}, 'nor does a foreign key keep the table from being read');
refused(q{SELECT supervisor.remove_worker('direct')}, '55000', 'but from being written', message => qr/other triggers/);
value(q{DROP TABLE child; SELECT supervisor.remove_worker('direct')});

foreach my $change (@changes)
{
	$earlier->query_safe("BEGIN; $trigger EXECUTE FUNCTION evil_trigger()");
	is(waits("SELECT supervisor.$change", $earlier, 'COMMIT', "for one that is being made, $change"), '55000', 'and is refused then');
	nothing_ran('and it is not run');
	value('DROP TRIGGER more ON supervisor.worker');
	runs('x');
}
$earlier->query_safe("BEGIN; $trigger EXECUTE FUNCTION evil_trigger()");
is(waits(q{SELECT supervisor.stop_worker('x')}, $earlier, 'ROLLBACK', 'for one that is then rolled back, stop_worker'), 't', 'and goes on');
value(q{SELECT supervisor.start_worker('x')});
$s->query_safe(q{BEGIN; SELECT supervisor.alter_worker('x', 'SELECT 2')});
my $pid = $earlier->pid;
$earlier->begin("$trigger EXECUTE FUNCTION evil_trigger()");
ok($s->wait_true("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'whoever makes one waits for what has been written');
$s->query_safe(q{SELECT supervisor.alter_worker('x', 'SELECT 3'); COMMIT});
$earlier->finish;
nothing_ran('which it does not see');
value('DROP TRIGGER more ON supervisor.worker');
is(row('x', 'command'), 'SELECT 3', 'and which is done');

note 'writing';

value(qq{CREATE TABLE text AS SELECT 'SELECT 1 /*' || string_agg(md5(i::text), '') || '*/' AS command FROM generate_series(1, 30000) i});
value(q{SELECT supervisor.add_worker('toast', command, '1 h') FROM text});
is(value(q{SELECT w.command = t.command AND length(t.command) > 900000 FROM supervisor.worker w, text t WHERE name = 'toast'}), 't', 'a command from another table, of 1 MB');
value(q{SELECT supervisor.alter_worker('toast', run_every => '2 h')});
value('DROP TABLE text');
is(value(q{SELECT length(command) FROM supervisor.worker WHERE name = 'toast'}), '960013', 'is the table\'s own');
value(q{SELECT supervisor.remove_worker('toast')});
refused(q{SELECT supervisor.add_worker('x', 'SELECT 1')}, '42710', 'a name that is there');
$s->query_safe(q{BEGIN; SELECT supervisor.add_worker('a', 'SELECT 1', '1 h'); SELECT supervisor.alter_worker('a', 'SELECT 2'); SAVEPOINT p;
	SELECT supervisor.alter_worker('a', 'SELECT 3'); SELECT supervisor.remove_worker('a'); SELECT supervisor.add_worker('a', 'SELECT 4')});
is(row('a', 'command'), 'SELECT 4', 'a transaction sees what it has written');
$s->query_safe('ROLLBACK TO p');
is(row('a', 'command'), 'SELECT 2', 'also when it has rolled back some of it');
is(value(q{SELECT supervisor.alter_worker('a', 'SELECT ' || i) FROM generate_series(1, 5) i; COMMIT}) . row('a', 'command'), "\n\n\n\nSELECT 5",
	'one statement writes a row several times');
is(value(q{SELECT supervisor.remove_worker(name) FROM supervisor.worker WHERE name = 'a'}), '', 'and what it reads');
is(value(q{SET enable_seqscan = off; SELECT count(*) FROM supervisor.worker WHERE name IN ('x', 'a', 'toast'); RESET enable_seqscan}), '1', 'the index has what is there');
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	$s->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM supervisor.worker");
	$t->query_safe(q{SELECT supervisor.alter_worker('x', 'SELECT 1', '3 h')});
	$s->query_safe(q{SELECT supervisor.alter_worker('x', 'SELECT 2'); COMMIT});
	is(row('x', 'command, run_every'), 'SELECT 2|03:00:00', "what a $level transaction changes is the newest");
}
foreach ([ q{DELETE FROM supervisor.worker WHERE name = 'x'; INSERT INTO supervisor.worker SELECT (w).* FROM kept}, '', 'is deleted and added again' ],
	[ q{UPDATE supervisor.worker SET name = 'other' WHERE name = 'x'}, '42704', 'gets another name' ],
	[ q{DELETE FROM supervisor.worker WHERE name = 'x'}, '42704', 'is deleted' ])
{
	my ($sql, $result, $property) = @$_;

	value(q{CREATE TABLE kept AS SELECT w FROM supervisor.worker w WHERE name = 'x'});
	$s->query_safe("BEGIN; $sql");
	is(waits(q{SELECT supervisor.alter_worker('x', 'SELECT 4')}, $s, 'COMMIT', "who changes a row that $property"), $result, "and then: $property");
	value(q{DELETE FROM supervisor.worker WHERE name = 'other'; INSERT INTO supervisor.worker SELECT (w).* FROM kept ON CONFLICT DO NOTHING; DROP TABLE kept});
}
$s->query_safe(q{BEGIN; INSERT INTO supervisor.worker (name, command, role) VALUES ('b', 'SELECT 1', 'victim')});
is(waits(q{SELECT supervisor.add_worker('b', 'SELECT 1')}, $s, 'COMMIT', 'who adds what a superuser inserts'), '42710', 'and is told');
value(q{SELECT supervisor.remove_worker('b')});
refused(q{UPDATE supervisor.worker SET enabled = supervisor.alter_worker(name, 'SELECT 5') IS NULL WHERE name = 'x'}, '27000',
	'a statement that changes a row may not have the same changed meanwhile');
refused(q{WITH d AS (DELETE FROM supervisor.worker WHERE name = 'x' RETURNING name) SELECT supervisor.alter_worker(name, 'SELECT 5') FROM d}, '42704',
	'one that deletes it has');
foreach my $change (@changes)
{
	refused("BEGIN READ ONLY; SELECT supervisor.$change", '25006', "not in a read-only transaction: $change", message => qr/supervisor\.\w+\(\) in a read-only/);
	value('ROLLBACK');
}

# what an index lacks, or has twice, would be found there
SKIP:
{
	skip 'amcheck is not installed', 1 if value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}) eq '0';
	value('CREATE EXTENSION amcheck');
	is(value(q{SELECT bt_index_check('supervisor.worker_pkey', true)}), '', 'the index is whole');
	value('DROP EXTENSION amcheck');
}
value('SELECT supervisor.remove_worker(name) FROM supervisor.worker');

note 'a declaration that is of another row';

# The row is replaced by another's of the same name, in a transaction: so nobody has read it.
sub replace
{
	my ($name, $enabled) = @_;

	$s->query_safe("BEGIN; SELECT supervisor.remove_worker('$name'); SET LOCAL ROLE mallory;"
		. " SELECT supervisor.add_worker('$name', 'SELECT 2', '1 h', enabled => $enabled)");
}

sub state_of
{
	my ($name) = @_;

	return value("SELECT concat_ws(' ', state, usename, pid) FROM supervisor.worker_status WHERE name = '$name'");
}

value(q{
	SELECT supervisor.add_worker('off', 'INSERT INTO ran VALUES (''off'')', '1 h', enabled => false);
	SELECT supervisor.add_worker('on', 'SELECT 1', '1 h')});
runs('on');
becomes(q{SELECT state = 'stopped' FROM supervisor.worker_status WHERE name = 'off'}, 'a worker of a superuser is stopped');
my $before = state_of('on');
replace('off', 'false');
is($s->query(q{SELECT supervisor.start_worker('off', '0')}), 'f', 'who has the name now does not start it');
like(state_of('off'), qr/^stopped/, 'and it stays so');
$s->query_safe('ROLLBACK');
replace('on', 'true');
is($s->query(q{SELECT supervisor.stop_worker('on', '0')}), 'f', 'nor stops one');
is(state_of('on'), $before, 'which runs on');
refused(q{SELECT supervisor.restart_worker('on', '0')}, '42501', 'nor restarts it', message => qr/signal backends of role "postgres"/);
$s->query_safe('ROLLBACK');
is(state_of('on'), $before, 'in the same process');
nothing_ran('nothing of the superuser has run');
replace('on', 'false');
$s->query_safe('COMMIT');
is(value(q{SELECT supervisor.start_worker('on', NULL)}, user => 'mallory'), 't', 'once the row is read, he starts his own');
like(state_of('on'), qr/^running mallory/, 'as himself');
value('GRANT victim TO mallory');
$m->query_safe(q{BEGIN; SELECT supervisor.alter_worker('on', role => 'victim')});
is($m->query_safe(q{SELECT supervisor.stop_worker('on', NULL)}), 't', 'who may manage the row as it was and as it is acts at once');
like(state_of('on'), qr/^stopped/, 'as is seen');
$m->query_safe('COMMIT');
value('REVOKE victim FROM mallory; SELECT supervisor.remove_worker(name) FROM supervisor.worker');

note 'a row that is another\'s when its process reads it';

# One pass of core's hash_bytes_extended() over twelve bytes.
sub mix
{
	my ($state, $words) = @_;
	my $sub = sub { ($_[0] - $_[1]) & 0xffffffff };
	my $rot = sub { (($_[0] << $_[1]) | ($_[0] >> (32 - $_[1]))) & 0xffffffff };
	my ($a, $b, $c) = map { ($state->[$_] + $words->[$_]) & 0xffffffff } 0 .. 2;

	foreach my $round (0, 1)
	{
		$a = $sub->($a, $c) ^ $rot->($c, $round ? 16 : 4);
		$c = ($c + $b) & 0xffffffff;
		$b = $sub->($b, $a) ^ $rot->($a, $round ? 19 : 6);
		$a = ($a + $c) & 0xffffffff;
		$c = $sub->($c, $b) ^ $rot->($b, $round ? 4 : 8);
		$b = ($b + $a) & 0xffffffff;
	}
	return [ $a, $b, $c ];
}

sub state_after
{
	my ($text, $length) = @_;
	my $state = [ (0x9e3779b9 + $length + 3923095) & 0xffffffff ];

	$state = [ ($state->[0]) x 3 ];
	$state = mix($state, [ unpack 'L3', $_ ]) foreach unpack '(a12)*', $text;
	return $state;
}

# Returns two commands with the same hash, which begin as told and end in a comment.
sub collision
{
	my @start = map { $_ . ' /*' . ' ' x (60 - 3 - length) } @_;
	my $length = 60 + 12 + 12 + 2;

	for (;;)
	{
		my @text = map { my $start = $_; $start . join '', map { chr(97 + int rand 26) } 1 .. 12 } @start;
		my ($x, $y) = map { state_after($_, $length) } @text;
		my (@first, @second);

		# what levels the difference, in letters and the like
		foreach my $word (0 .. 2)
		{
			foreach (1 .. 500)
			{
				my $one = unpack 'L', join '', map { chr(48 + int rand 75) } 1 .. 4;
				my $other = ($one + $x->[$word] - $y->[$word]) & 0xffffffff;

				next if pack('L', $other) !~ /^[0-9A-Za-z:-@\[\]^_`{|}~ !#-)+-.]{4}$/;
				($first[$word], $second[$word]) = ($one, $other);
				last;
			}
		}
		return ($text[0] . pack('L3', @first) . '*/', $text[1] . pack('L3', @second) . '*/') if 3 == grep { defined } @first;
	}
}

my ($his, $mine) = collision('SELECT 1', q{INSERT INTO ran VALUES ('mine')});
SKIP:
{
	skip 'the hash depends on the order of bytes', 4 if unpack('L', pack 'N', 1) == 1;
	is(value(sprintf 'SELECT hashtextextended(%s, 0) = hashtextextended(%s, 0)', quote($his), quote($mine)), 't', 'two commands have the same hash');
	value(sprintf q{SELECT supervisor.add_worker('x', %s, '1 h')}, quote($his));
	runs('x');
	$s->query_safe('BEGIN; LOCK TABLE supervisor.worker');
	$t->query(q{SELECT supervisor.restart_worker(slot, '0') FROM supervisor.worker_status WHERE name = 'x'});
	ok($s->wait_true(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'supervisor.worker'::regclass}), 'its process is about to read its row');
	$s->query_safe(sprintf q{SELECT supervisor.remove_worker('x'); SET LOCAL ROLE mallory; SELECT supervisor.add_worker('x', %s, '1 h'); COMMIT}, quote($mine));
	becomes('SELECT count(*) > 0 FROM ran', 'which is another\'s by then, whose command runs');
	is(value('SELECT string_agg(who, $$ $$) FROM ran'), 'mallory', 'as himself');
}
value('TRUNCATE ran; SELECT supervisor.remove_worker(name) FROM supervisor.worker');

note 'tasks that a command launches';

value(q{SELECT supervisor.add_worker('launcher', $$
	INSERT INTO ran SELECT supervisor.launch('SELECT pg_sleep(3600) /* left */') FROM generate_series(1, 3);
	SELECT supervisor.forget(supervisor.launch('SELECT 1 FROM pg_sleep(3600) /* forgotten */')) $$, '1 h')});
becomes(q{SELECT count(*) = 3 AND bool_and(state = 'running' AND activity = 'idle') FROM ran, supervisor.worker_status WHERE name = 'launcher'}, 'a run is over');
becomes(q{SELECT string_agg(substring(command FROM '/.*/'), ' ') = '/* forgotten */' FROM supervisor.task_status WHERE finished_at IS NULL}, 'so are the tasks that it did not forget');
value(q{SELECT supervisor.cancel(task) FROM supervisor.task_status; SELECT supervisor.remove_worker('launcher'); TRUNCATE ran});

note 'an extension that is being dropped';

SKIP:
{
	skip 'citext is not installed', 8 if value(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'}) eq '0';
	my $pid = $m->pid;
	my $locks = "SELECT count(*) FROM pg_locks WHERE relation = 'supervisor.worker'::regclass AND pid = $pid";

	value(q{SELECT supervisor.add_worker('x', 'SELECT 1', '1 h'); SELECT supervisor.add_worker('of', 'SELECT 1', '1 h')});
	runs('x');
	$m->query_safe('CREATE EXTENSION citext; BEGIN; DROP EXTENSION citext');
	is(value($locks), '0', 'one without workers locks nothing');
	$m->query_safe('ROLLBACK');
	value(q{UPDATE supervisor.worker SET extension = 'citext' WHERE name = 'of'});
	$m->query_safe('BEGIN; DROP EXTENSION citext');
	is(value($_), $_ =~ /add|alter|remove/ ? '' : 't', "one with workers is not in the way of others: $_")
	  foreach map { "SELECT supervisor.$_" } @changes;
	is(waits(q{SELECT supervisor.stop_worker('of')}, $m, 'ROLLBACK', 'only who changes these'), 't', 'and then does');
	$m->query_safe('DROP EXTENSION citext');
	is(value('SELECT name FROM supervisor.worker'), 'y', 'which go with it');
	value(q{SELECT supervisor.remove_worker('y')});
}

note 'MAINTAIN';

SKIP:
{
	skip 'MAINTAIN is of PostgreSQL 17 and later', 3 if $node->pg_version < 17;
	value(q{CREATE ROLE janitor LOGIN; GRANT MAINTAIN ON supervisor.worker TO janitor; SELECT supervisor.add_worker('x', 'SELECT 1', '1 h')});
	value($_, node => $node, user => 'janitor')
	  foreach 'ANALYZE supervisor.worker', 'VACUUM supervisor.worker', 'REINDEX TABLE supervisor.worker', 'REINDEX TABLE CONCURRENTLY supervisor.worker',
	  'CLUSTER supervisor.worker USING worker_pkey';
	refused($_, '42501', "it does not allow: $_", node => $node, user => 'janitor')
	  foreach "$trigger EXECUTE FUNCTION evil_trigger()", 'DELETE FROM supervisor.worker';
	is(value(q{SELECT supervisor.stop_worker('x')}), 't', 'and spoils nothing');
}
nothing_ran('nothing has run that should not');

$_->quit foreach $s, $t, $m;
$node->stop;
SupervisorTest::log_is_clean($node);
done_testing();
