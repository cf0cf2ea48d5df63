# Recurring jobs run at the times of their schedules: never two at a time, and once for
# all times that were missed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Test::More;

use PostgreSQL::Test::Utils;
use SupervisorTest qw(becomes refused value);

my $node = SupervisorTest::new_node(
	'recurring',
	'timezone' => 'Europe/Berlin',
	'restart_after_crash' => 'on',
	'supervisor.pool_size' => 3,
	'supervisor.pools' => 'club:1(members)',
	'supervisor.max_workers' => 8);

SupervisorTest::ask(\$node);
value(q{
	CREATE TABLE ran (i integer);
	CREATE ROLE members;
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	CREATE ROLE nologin;
	CREATE ROLE lead LOGIN;
	GRANT alice, nologin TO lead;
	GRANT ALL ON ran TO PUBLIC;
	GRANT EXECUTE ON FUNCTION supervisor.enqueue, supervisor.cancel_job, supervisor.schedule, supervisor.unschedule TO PUBLIC});

my $history = 'SELECT %s FROM (SELECT *, lag(finished_at) OVER (ORDER BY started_at) AS before, lag(started_at) OVER (ORDER BY started_at) AS began FROM supervisor.job_history WHERE name = $$%s$$) h';

# What the table says of one.
sub job
{
	my ($name, $what) = @_;

	return value("SELECT $what FROM supervisor.job WHERE name = '$name'");
}

note 'intervals';

my $id = value(q{SELECT supervisor.schedule('a', '1 s', 'INSERT INTO ran VALUES (1); SELECT pg_sleep(1.2)')});
becomes('SELECT count(*) >= 3 FROM supervisor.job_history WHERE name = $$a$$', 'one runs again and again');
is(job('a', 'id, attempts, last_state'), "$id|0|succeeded", 'it is the same job');
is(value(sprintf $history, 'count(*) FILTER (WHERE started_at < before)', 'a'), 0, 'it does not overlap itself');
is(value(sprintf $history, q{count(*) FILTER (WHERE started_at - began < interval '0.99 s')}, 'a'), 0, 'nor come too early');
$node->restart;
my $n = value('SELECT count(*) FROM supervisor.job_history');
becomes("SELECT count(*) > $n + 1 FROM supervisor.job_history", 'after a restart it goes on');
is(value(q{SELECT supervisor.schedule('a', '1 s', 'INSERT INTO ran VALUES (2)')}), $id, 'one that is replaced keeps its number');
becomes('SELECT count(*) > 1 FROM ran WHERE i = 2', 'and runs what it says now');
is(value(q{SELECT supervisor.unschedule('a')}), 't', 'it is removed');
is(value(q{SELECT supervisor.unschedule('a')}), 'f', 'once');
is(value(q{SELECT count(*) FROM supervisor.job}), 0, 'it is gone');

note 'the calendar';

$id = value(q{SET TimeZone = 'Asia/Tokyo'; SELECT supervisor.schedule('b', '30 3 * * *', 'SELECT 1')});
is(job('b', q{time_zone, run_at = next_at, (next_at AT TIME ZONE 'Europe/Berlin')::time, next_at > now(), next_at < now() + interval '25 h'}),
	'Europe/Berlin|t|03:30:00|t|t', 'the time zone is the server\'s, whatever the session says');
value(q{SELECT supervisor.schedule('b', '@monthly', 'SELECT 1', time_zone => 'asia/tokyo')});
is(job('b', q{id, time_zone, to_char(next_at AT TIME ZONE 'Asia/Tokyo', 'DD HH24:MI:SS.US')}), "$id|Asia/Tokyo|01 00:00:00.000000", 'another one');
value(q{ALTER SYSTEM SET timezone = 'America/Sao_Paulo'; });
value('SELECT pg_reload_conf()');
SupervisorTest::wait_true($node, q{SELECT supervisor.schedule('b', '0 0 1 1 *', 'SELECT 1') IS NOT NULL AND (SELECT time_zone = 'America/Sao_Paulo' FROM supervisor.job WHERE name = 'b')}, 'zone');
is(job('b', q{to_char(next_at AT TIME ZONE 'America/Sao_Paulo', 'MM-DD HH24:MI:SS.US')}), '01-01 00:00:00.000000', 'as the server\'s is by now');

value(q{UPDATE supervisor.job SET run_at = now() - interval '40 days', next_at = now() - interval '40 days'});
becomes(q{SELECT count(*) = 1 FROM supervisor.job_history WHERE name = 'b'}, 'times that were missed are one run');
becomes(q{SELECT run_at > now() AND run_at = next_at FROM supervisor.job}, 'then it waits for the next');
is(job('b', q{runs, attempts, to_char(next_at AT TIME ZONE 'America/Sao_Paulo', 'MM-DD HH24:MI:SS.US')}), '1|0|01-01 00:00:00.000000', 'which is that of the schedule');
is(value(q{SELECT count(*) FROM supervisor.job_history WHERE name = 'b'}), 1, 'it has run once');

value(q{SELECT supervisor.schedule('b', '0 0 1 1 *', 'SELECT 1', enabled => false)});
is(job('b', 'enabled, run_at, reason'), 'f|infinity|disabled', 'one that is not enabled waits');
value(q{SELECT supervisor.schedule('b', '0 0 1 1 *', 'SELECT 2')});
is(job('b', 'enabled, run_at'), 'f|infinity', 'and stays so');
value(q{UPDATE supervisor.job SET next_at = now() - interval '1 day'});
value(q{SELECT supervisor.schedule('b', '0 0 1 1 *', 'SELECT 2', enabled => true)});
is(job('b', 'enabled, run_at > now(), reason IS NULL'), 't|t|t', 'once enabled, it makes up for nothing');

note 'failures';

value(q{SELECT supervisor.schedule('c', '0 0 1 1 *', 'SELECT 1/0', max_attempts => 3);
	UPDATE supervisor.job SET retry_delay = '0', run_at = now() WHERE name = 'c'});
becomes(q{SELECT count(*) = 3 FROM supervisor.job_history WHERE name = 'c'}, 'one that fails is tried again');
becomes(q{SELECT run_at = next_at FROM supervisor.job WHERE name = 'c'}, 'until it has used its attempts');
is(job('c', 'state, attempts, run_at > now(), runs, last_state, last_sqlstate'), 'w|0|t|3|failed|22012', 'then it waits for its next time');
is(value(q{SELECT string_agg(attempt::text, ' ' ORDER BY finished_at) FROM supervisor.job_history WHERE name = 'c'}), '1 2 3', 'attempts are counted');
value(q{SELECT supervisor.unschedule('c'); SELECT supervisor.schedule('c', '2 s', 'SELECT 1/0')});
becomes(q{SELECT count(*) >= 2 FROM supervisor.job_history h WHERE name = 'c' AND EXISTS (SELECT FROM supervisor.job j WHERE j.id = h.job)}, 'one that is due before it would be tried again');
is(job('c', 'attempts, state'), '0|w', 'its attempts start over');
value(q{SELECT supervisor.schedule('c', '1 s', 'DO $$BEGIN EXECUTE ''nonsense''; END$$')});
becomes(q{SELECT count(*) >= 2 FROM supervisor.job_history h WHERE name = 'c' AND sqlstate = '42601'}, 'an error that comes again does not end it');
value(q{SELECT supervisor.unschedule('c')});

value(q{SELECT supervisor.schedule('d', '1 s', 'SELECT pg_sleep(600)')});
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'one runs');
is(value(q{SELECT supervisor.cancel_job(id) FROM supervisor.job WHERE name = 'd'}), 't', 'its run is canceled');
becomes(q{SELECT count(*) = 1 FROM supervisor.job_history WHERE name = 'd' AND state = 'canceled'}, 'as is noted');
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'and the next one comes');
is(value(q{SELECT supervisor.unschedule('d')}), 't', 'it is removed while it runs');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), 1, 'the run goes on');
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
value(q{SELECT supervisor.schedule('d', '@yearly', 'SELECT 1')});
my ($ret, $out, $err) = $node->psql('postgres', q{SELECT supervisor.cancel_job(id) FROM supervisor.job WHERE name = 'd'});
is($out, 'f', 'one that waits is not canceled');
like($err, qr/NOTICE:  recurring job \d+ is not running\nHINT: .*unschedule/, 'but says so');
value(q{SELECT supervisor.schedule('d', '1 s', 'VACUUM ran', atomic => false)});
becomes(q{SELECT count(*) >= 2 FROM supervisor.job_history WHERE name = 'd' AND tag = 'VACUUM'}, 'one that is not atomic');
value(q{SELECT supervisor.schedule('d', '1 s', 'DELETE FROM supervisor.job WHERE id = supervisor.current_job()')});
becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE name = 'd'}, 'one may end itself');
value(q{SELECT supervisor.schedule('d', '1 s', 'SELECT supervisor.schedule(''d'', ''@yearly'', ''SELECT 3'')')});
becomes(q{SELECT command = 'SELECT 3' FROM supervisor.job WHERE name = 'd'}, 'or become another');
is(job('d', q{next_at > now() + interval '1 s', runs}), 't|1', 'which comes when that says');
my $last_run = q{SELECT usename, pool, state, command FROM supervisor.job_run WHERE name = 'd' ORDER BY finished_at DESC LIMIT 1};
like(value($last_run), qr/^\w+\|default\|succeeded\|SELECT supervisor\.schedule/, 'and what has run is noted as what it was');
my $user = value('SELECT current_user');
value(q{SELECT supervisor.schedule('d', '1 s', 'SELECT pg_sleep(600)')});
becomes(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'it runs again');
value(q{SELECT supervisor.schedule('d', '@yearly', 'SELECT 3', role => 'alice');
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
becomes(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'until it is canceled');
becomes(qq{SELECT s::text = '($user,default,failed,"SELECT pg_sleep(600)")' FROM ($last_run) s}, 'which is noted as what it was, though it is another by now');
my $log = -s $node->logfile;
value(q{UPDATE supervisor.job SET time_zone = 'Nowhere/Gone', run_at = now() WHERE name = 'd'});
becomes(q{SELECT state = 'f' AND reason = 'no_next_time' FROM supervisor.job WHERE name = 'd'}, 'one whose time zone is gone has failed');
ok($node->wait_for_log(qr/WARNING:  job \d+ "d" has failed, as its schedule has no next time/, $log), 'which is told');
value(q{SELECT supervisor.schedule('d', '@yearly', 'SELECT 3')});
is(job('d', 'state, reason IS NULL'), 'w|t', 'and waits when it is scheduled again');

note 'whose it is';

value(q{SELECT supervisor.schedule('e', '1 s', 'INSERT INTO ran VALUES (7)')}, user => 'alice');
refused(q{SELECT supervisor.schedule('e', '1 s', 'SELECT 1')}, '42501', 'another\'s', user => 'bob', message => qr/role "alice"/);
refused(q{SELECT supervisor.unschedule('e')}, '42501', 'another\'s', user => 'bob');
refused(q{SELECT supervisor.schedule('f', '1 s', 'SELECT 1', role => 'alice')}, '42501', 'as another', user => 'bob');
refused(q{SELECT supervisor.schedule('f', '1 s', 'SELECT 1', role => 'nologin')}, '28000', 'as one who may not log in', user => 'lead');
refused(q{SELECT supervisor.schedule('f', '1 s', 'SELECT 1', pool => 'club')}, '42501', 'in a pool of others', user => 'alice');
value(q{SELECT supervisor.schedule('e', '1 s', 'SELECT current_user::text', role => 'alice')}, user => 'lead');
is(job('e', 'role'), 'alice', 'who may be that role');
value(q{SELECT supervisor.schedule('e', '@yearly', 'SELECT 1')}, user => 'lead');
is(job('e', 'role'), 'lead', 'or have it for himself');

# Two sessions and one name: the second waits, and replaces.
my ($one, $two) = map { SupervisorTest::session($node) } 1 .. 2;
$one->query_safe(q{BEGIN; SELECT supervisor.schedule('g', '@yearly', 'SELECT 1')});
$two->begin(q{SELECT supervisor.schedule('g', '@yearly', 'SELECT 2')});
becomes(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'object' AND NOT granted}, 'who adds a name that another is adding waits');
$one->query_safe('COMMIT');
$two->finish;
is(job('g', 'command'), 'SELECT 2', 'and replaces it');

# hashtext() of these is the same
$one->query_safe(q{BEGIN; SELECT supervisor.schedule('job 154550', '@yearly', 'SELECT 1')});
value(q{SET lock_timeout = '10 s'; SELECT supervisor.schedule('job 21714', '@yearly', 'SELECT 2')});
is(job('job 21714', 'command'), 'SELECT 2', 'who adds a name that looks like it does not wait');
$one->query_safe('COMMIT');
$_->quit foreach $one, $two;

note 'times that are no more so';

# As if the rules of the zone were others when they were computed, or the clock was set back.
value(q{DELETE FROM supervisor.job});
my %next;
foreach ([ 'far', '0 0 1 1 *' ], [ 'near', '0 0 1 1 *' ], [ 'asked', '0 0 1 1 *' ], [ 'every', '1 h' ], [ 'held', '0 0 1 1 *' ])
{
	value("SELECT supervisor.schedule('$_->[0]', '$_->[1]', 'SELECT 1')");
	$next{ $_->[0] } = job($_->[0], 'next_at');
}
value(q{
	UPDATE supervisor.job SET next_at = '2100-01-01', run_at = '2100-01-01' WHERE name IN ('far', 'every');
	UPDATE supervisor.job SET next_at = now() + interval '1 h', run_at = now() + interval '1 h' WHERE name = 'near';
	UPDATE supervisor.job SET next_at = '2100-01-01', run_at = now() + interval '1 h' WHERE name = 'asked';
	UPDATE supervisor.job SET next_at = '2100-01-01', run_at = 'infinity' WHERE name = 'held'});
$node->restart;
becomes("SELECT run_at = '$next{far}' AND next_at = run_at FROM supervisor.job WHERE name = 'far'", 'one whose time comes sooner has it');
is(job('every', q{run_at < now() + interval '2 h' AND next_at = run_at}), 't', 'also one that runs every so often');
is(job('near', q{run_at < now() + interval '2 h' AND next_at = run_at}), 't', 'none comes later');
is(job('asked', qq{run_at < now() + interval '2 h' AND next_at = '$next{asked}'}), 't', 'nor one that somebody wants sooner');
is(job('held', q{run_at}), 'infinity', 'and one that is held stays so');
value('DELETE FROM supervisor.job');

# Other databases wait for the loader, and each time zone takes memory.
value(q{SELECT count(supervisor.schedule('many ' || i, '0 0 1 1 *', 'SELECT 1')) FROM generate_series(1, 2500) i});
value(q{UPDATE supervisor.job SET next_at = '2100-01-01', run_at = '2100-01-01'});
$node->restart;
becomes(q{SELECT count(*) = 0 FROM supervisor.job WHERE run_at = '2100-01-01'}, 'however many there are, all have it');
cmp_ok(value(q{SELECT count(DISTINCT xmin::text) FROM supervisor.job}), '>', 1, 'but not by one loader');
value('DELETE FROM supervisor.job');

note 'bad input';

foreach (
	[ q{NULL, '1 s', 'SELECT 1'}, '22004' ], [ q{'x', NULL, 'SELECT 1'}, '22004' ], [ q{'x', '1 s', NULL}, '22004' ],
	[ q{'', '1 s', 'SELECT 1'}, '42602' ], [ q{repeat('x', 64), '1 s', 'SELECT 1'}, '42622' ],
	[ q{'x', '30 2 30 2 *', 'SELECT 1'}, '22023', qr/never comes/ ], [ q{'x', '* * * *', 'SELECT 1'}, '22023', qr/It has 4 fields/ ],
	[ q{'x', '60 * * * *', 'SELECT 1'}, '22023', qr/"60" is out of range for the minute, which is 0 to 59/ ],
	[ q{'x', '* 5-2 * * *', 'SELECT 1'}, '22023', qr/"5-2" of the hour ends before.*two ranges/s ], [ q{'x', '5/5 * * * *', 'SELECT 1'}, '22023', qr/step/ ],
	[ q{'x', '* * * foo *', 'SELECT 1'}, '22023', qr/"foo" is no value of the month.*three letters/s ],
	[ q{'x', '@reboot', 'SELECT 1'}, '22023', qr/add_worker/ ], [ q{'x', '@often', 'SELECT 1'}, '22023', qr/\@hourly/ ],
	[ q{'x', 'soon', 'SELECT 1'}, '22023', qr/five fields/ ], [ q{'x', '0.5 s', 'SELECT 1'}, '22023', qr/1 second/ ],
	[ q{'x', '1 day', 'SELECT 1'}, '22023', qr/less than 1 day/ ], [ q{'x', '1 mon', 'SELECT 1'}, '22023' ], [ q{'x', '', 'SELECT 1'}, '22023' ],
	[ q{'x', repeat('0,', 508) || '0 * * * *', 'SELECT 1'}, '22023', qr/schedule of a job is too long.*1024 bytes/s ],
	[ q{'x', '1 s', 'SELECT 1 -- ' || repeat('x', 134217728)}, '54000', qr/command of a job is too long/ ],
	[ q{'x', '1 s', 'SELECT 1', time_zone => 'Nowhere'}, '22023', qr/time zone "Nowhere".*pg_timezone_names/s ],
	[ q{'x', '1 s', 'SELECT 1', pool => 'nix'}, '42704' ], [ q{'x', '1 s', 'SELECT 1', role => 'nix'}, '42704' ],
	[ q{'x', '1 s', 'VACUUM'}, '25001', qr/atomic => false/ ], [ q{'x', '1 s', 'COMMIT'}, '2D000' ], [ q{'x', '1 s', 'nonsense'}, '42601' ],
	[ q{'x', '1 s', 'SELECT 1', max_attempts => 0}, '22023' ], [ q{'x', '1 s', 'SELECT 1', run_timeout => '-1 s'}, '22023' ])
{
	refused("SELECT supervisor.schedule($_->[0])", $_->[1], "schedule($_->[0])", $_->[2] ? (message => $_->[2]) : ());
}
is(value(q{SELECT count(*) FROM supervisor.job WHERE name = 'x'}), 0, 'nothing is written');
refused(q{BEGIN READ ONLY; SELECT supervisor.schedule('x', '1 s', 'SELECT 1')}, '25006', 'read only');
value(q{SELECT supervisor.schedule('h', repeat('0,', 507) || '0 1 1 1 *', 'SELECT 1')});
refused('SELECT supervisor.unschedule(NULL)', '22004', 'unschedule(NULL)', message => qr/name must not be null/);
refused(q{SELECT supervisor.unschedule('')}, '42602', q{unschedule('')}, message => qr/name of a job must not be empty/);
refused(q{SELECT supervisor.unschedule(repeat('x', 64))}, '42622', 'unschedule() of a name that is too long');
refused(qq{BEGIN READ ONLY; SELECT supervisor.unschedule('$_')}, '25006', "unschedule('$_') in a transaction that is read only", message => qr/unschedule\(\)/)
  foreach 'h', 'x';
is(value(q{SELECT supervisor.unschedule('h')}), 't', 'it is still there, and can be removed');

unlike(slurp_file($node->logfile), qr/^.*(TRAP|PANIC|unexpected status)/m, 'nothing unexpected in the log');
done_testing();
