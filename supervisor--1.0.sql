/* supervisor--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION supervisor" to load this file. \quit

CREATE SCHEMA supervisor;
COMMENT ON SCHEMA supervisor IS
'tasks and jobs in a warm pool of workers, and the workers that the supervisor keeps';

--
-- Tasks
--

CREATE FUNCTION supervisor.run(
    command text,
    params text[] DEFAULT NULL,
    pool text DEFAULT NULL,
    timeout interval DEFAULT NULL)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.run(text, text[], text, interval) IS
'runs a command in a pool worker, in a transaction of its own, waits, and returns the rows of its last statement that may return any (CALL and EXECUTE may); needs a column definition list whose types are exactly those of the result. params are text values for $1, $2, ...; pool NULL is that of the setting supervisor.default_pool; timeout bounds the whole call, queue included (57014). Errors of the command are raised here with all their fields, notices arrive as notices';

CREATE FUNCTION supervisor.execute(
    command text,
    params text[] DEFAULT NULL,
    pool text DEFAULT NULL,
    timeout interval DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'supervisor_execute'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.execute(text, text[], text, interval) IS
'runs a command in a pool worker, in a transaction of its own, waits, drops its rows and returns the last command''s tag, as in INSERT 0 42. Arguments and errors as for supervisor.run';

CREATE PROCEDURE supervisor.perform(
    command text,
    params text[] DEFAULT NULL,
    pool text DEFAULT NULL,
    timeout interval DEFAULT NULL)
AS 'MODULE_PATHNAME', 'supervisor_perform'
LANGUAGE C;

COMMENT ON PROCEDURE supervisor.perform(text, text[], text, interval) IS
'commits the caller''s transaction, then runs a command as supervisor.execute does: no snapshot is held meanwhile, so CREATE INDEX CONCURRENTLY can finish and VACUUM can clean. Inside a transaction block: 2D000';

CREATE FUNCTION supervisor.execute_all(
    commands text[],
    pool text DEFAULT NULL,
    timeout interval DEFAULT NULL)
RETURNS TABLE (ordinality bigint, tag text, sqlstate text, message text)
AS 'MODULE_PATHNAME', 'supervisor_execute_all'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.execute_all(text[], text, interval) IS
'runs all commands side by side on the pool, each in a transaction of its own, and returns a row for each, in their order: its tag, or the SQLSTATE and message of its error. One that fails stops no other';

CREATE FUNCTION supervisor.launch(
    command text,
    params text[] DEFAULT NULL,
    pool text DEFAULT NULL,
    timeout interval DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_launch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.launch(text, text[], text, interval) IS
'starts a command in a pool worker and returns its task''s id at once, for supervisor.wait, result, cancel and forget. If there is no room it waits for tasks that end and are forgotten, or waited for; if there are none, 53400 or 53200. timeout bounds that wait (57014), and the task, queue included. The task is not undone by ROLLBACK, and is canceled when this session ends unless it is forgotten. Other arguments as for supervisor.run';

CREATE FUNCTION supervisor.wait(task bigint, timeout interval DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'supervisor_wait'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.wait(bigint, interval) IS
'waits for a task, whichever session has submitted it, and returns its final state: succeeded, failed or canceled; NULL if the time ran out first. Its result stays for the session that launched it. Of a role that may not see its command in supervisor.task_status: 42501. A task that never was: 42704; one that is not in supervisor.task_status any more: 55000';

CREATE FUNCTION supervisor.result(task bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_result'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.result(bigint) IS
'waits for a task that this session launched and returns its rows, once; what stays is how it ended, in supervisor.task_status. Needs a column definition list. Its error is raised here. A task that never was: 42704; one that was read already, or is another session''s: 55000';

CREATE FUNCTION supervisor.cancel(task bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.cancel(bigint) IS
'takes a task off the queue, or cancels its statement, from any session that may signal a backend of the task''s role (42501 otherwise); true if it was queued or running. A task that never was: 42704';

CREATE FUNCTION supervisor.forget(task bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_forget'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.forget(bigint) IS
'says that nobody will read the result of a task that this session launched: its rows are dropped, and it runs on after the session ends; true if it is still queued or running. How it ended stays in supervisor.task_status for supervisor.result_retention, or until its entry is needed, and any session that may see its command can wait for it. A task that never was: 42704; one that was read already, or is another session''s: 55000';

--
-- Control
--

CREATE FUNCTION supervisor.restart_worker(
    slot integer,
    timeout interval DEFAULT '10 s',
    generation bigint DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_restart_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.restart_worker(integer, interval, bigint) IS
'replaces the process in a slot (of a pool: once its task has ended; a declared worker is terminated), and waits until its successor is ready. True when done; false with a WARNING after timeout, the request stands; false, and nothing done, if a generation is given that is over. A declared worker needs the right to signal a backend of its role (a C function: superuser); a pool worker, of which nothing is interrupted, EXECUTE only. Slot out of range: 22023; empty, or its worker stopped or failed: 55000';

CREATE FUNCTION supervisor.terminate_worker(
    slot integer,
    timeout interval DEFAULT '10 s',
    generation bigint DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_terminate_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.terminate_worker(integer, interval, bigint) IS
'terminates the process in a slot (its task fails with 55000) and waits until it is gone; a pool worker is replaced, of a declared one its policy says what follows. Needs the right to signal a backend of the worker''s role (an unbound worker, a C function: superuser). Returns and errors as for supervisor.restart_worker';

CREATE FUNCTION supervisor.restart_pool(
    pool text DEFAULT NULL,
    timeout interval DEFAULT '10 s')
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_restart_pool'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.restart_pool(text, interval) IS
'replaces all workers of a pool (NULL: that of the setting supervisor.default_pool), one after another, each once its task has ended. True when all are new and ready; false with a WARNING after timeout, the request stands. No such pool: 42704';

CREATE FUNCTION supervisor.reset_stats()
RETURNS void
AS 'MODULE_PATHNAME', 'supervisor_reset_stats'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.reset_stats() IS
'sets the counters of all pools and workers in supervisor.pool_status and supervisor.worker_status to 0, and their stats_since to now. For superusers, and whoever is granted EXECUTE';

--
-- Declared workers
--

CREATE TABLE supervisor.worker (
    name name PRIMARY KEY,
    command text,
    run_every interval,
    library text,
    function text,
    argument bigint,
    extra text,
    extra_bytes bytea,
    type text,
    role regrole,
    settings text[],
    instances integer NOT NULL DEFAULT 1,
    start_after text NOT NULL DEFAULT 'recovery_finished',
    restart text NOT NULL DEFAULT 'always',
    restart_delay interval,
    restart_delay_max interval,
    max_restarts integer,
    restart_window interval,
    start_timeout interval,
    stop_timeout interval,
    run_timeout interval,
    heartbeat_timeout interval,
    bypass_allowconn boolean NOT NULL DEFAULT false,
    bypass_rolelogincheck boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    extension name) USING heap;

COMMENT ON TABLE supervisor.worker IS
'workers that the supervisor keeps running in this database; written by supervisor.add_worker, alter_worker and remove_worker. A change takes effect at commit';
COMMENT ON COLUMN supervisor.worker.name IS 'name of the worker, unique in this database';
COMMENT ON COLUMN supervisor.worker.command IS 'SQL that it runs; NULL if it is a C function. Everybody can read it';
COMMENT ON COLUMN supervisor.worker.run_every IS 'time from the start of one run to the start of the next, missed ones are not made up for; NULL or 0: it runs once per start';
COMMENT ON COLUMN supervisor.worker.library IS 'library of its C function; NULL if it runs a command';
COMMENT ON COLUMN supervisor.worker.function IS 'name of its C function, which is called as the postmaster calls a background worker';
COMMENT ON COLUMN supervisor.worker.argument IS 'argument of the C function, by value: a number or an OID; NULL is 0';
COMMENT ON COLUMN supervisor.worker.extra IS 'what the C function finds in MyBgworkerEntry->bgw_extra, at most 127 bytes';
COMMENT ON COLUMN supervisor.worker.extra_bytes IS 'the same, as bytes, at most 128';
COMMENT ON COLUMN supervisor.worker.type IS 'backend_type in pg_stat_activity; NULL: the name';
COMMENT ON COLUMN supervisor.worker.role IS 'role whose session runs the command; NULL if it is a C function';
COMMENT ON COLUMN supervisor.worker.settings IS 'settings of the command''s session, each as name=value; applied as its role may set them. Everybody can read them';
COMMENT ON COLUMN supervisor.worker.instances IS 'number of processes, at most supervisor.max_workers';
COMMENT ON COLUMN supervisor.worker.start_after IS 'recovery_finished, or consistent_state: on a hot standby, too';
COMMENT ON COLUMN supervisor.worker.restart IS 'always, on_failure (an exit code other than 0) or never: after which ends of its process another follows';
COMMENT ON COLUMN supervisor.worker.restart_delay IS 'as the setting supervisor.restart_delay, which NULL leaves in force; so are the next five';
COMMENT ON COLUMN supervisor.worker.restart_delay_max IS 'as the setting supervisor.restart_delay_max';
COMMENT ON COLUMN supervisor.worker.max_restarts IS 'as the setting supervisor.max_restarts';
COMMENT ON COLUMN supervisor.worker.restart_window IS 'as the setting supervisor.restart_window';
COMMENT ON COLUMN supervisor.worker.start_timeout IS 'as the setting supervisor.start_timeout';
COMMENT ON COLUMN supervisor.worker.stop_timeout IS 'as the setting supervisor.stop_timeout';
COMMENT ON COLUMN supervisor.worker.run_timeout IS 'longest time of one run of the command; NULL or 0: no limit';
COMMENT ON COLUMN supervisor.worker.heartbeat_timeout IS 'longest silence of a C function that sends heartbeats, see supervisor.h; NULL or 0: it sends none';
COMMENT ON COLUMN supervisor.worker.bypass_allowconn IS 'the command may connect although the database allows no connections';
COMMENT ON COLUMN supervisor.worker.bypass_rolelogincheck IS 'the command may connect although its role may not log in (PostgreSQL 17 and later)';
COMMENT ON COLUMN supervisor.worker.enabled IS 'whether it is to run; set by supervisor.start_worker and stop_worker';
COMMENT ON COLUMN supervisor.worker.extension IS 'extension whose script added it: it is dropped with that, and not dumped';

-- A dump must not hand the number of a role that is gone to whoever has it next.
SELECT pg_catalog.pg_extension_config_dump('supervisor.worker',
    'WHERE extension IS NULL AND (role IS NULL OR role IN (SELECT oid FROM pg_catalog.pg_roles))');

CREATE FUNCTION supervisor.worker_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'supervisor_worker_changed'
LANGUAGE C;
COMMENT ON FUNCTION supervisor.worker_changed() IS 'has the supervisor read supervisor.worker when the transaction commits';

CREATE TRIGGER worker_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.worker
    FOR EACH STATEMENT EXECUTE FUNCTION supervisor.worker_changed();
ALTER TABLE supervisor.worker ENABLE ALWAYS TRIGGER worker_changed;

-- What logical replication applies fires no triggers of statements.  And a
-- constraint trigger cannot be replaced by who was granted TRIGGER.
CREATE CONSTRAINT TRIGGER worker_row_changed AFTER INSERT OR UPDATE OR DELETE ON supervisor.worker
    FOR EACH ROW EXECUTE FUNCTION supervisor.worker_changed();
ALTER TABLE supervisor.worker ENABLE ALWAYS TRIGGER worker_row_changed;

CREATE FUNCTION supervisor.add_worker(
    name text,
    command text DEFAULT NULL,
    run_every interval DEFAULT NULL,
    library text DEFAULT NULL,
    function text DEFAULT NULL,
    argument bigint DEFAULT NULL,
    extra text DEFAULT NULL,
    extra_bytes bytea DEFAULT NULL,
    type text DEFAULT NULL,
    role name DEFAULT NULL,
    settings text[] DEFAULT NULL,
    instances integer DEFAULT NULL,
    start_after text DEFAULT NULL,
    restart text DEFAULT NULL,
    restart_delay interval DEFAULT NULL,
    restart_delay_max interval DEFAULT NULL,
    max_restarts integer DEFAULT NULL,
    restart_window interval DEFAULT NULL,
    start_timeout interval DEFAULT NULL,
    stop_timeout interval DEFAULT NULL,
    run_timeout interval DEFAULT NULL,
    heartbeat_timeout interval DEFAULT NULL,
    bypass_allowconn boolean DEFAULT NULL,
    bypass_rolelogincheck boolean DEFAULT NULL,
    enabled boolean DEFAULT NULL,
    if_not_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'supervisor_add_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.add_worker(text, text, interval, text, text, bigint, text, bytea, text, name, text[], integer, text, text, interval, interval, integer, interval, interval, interval, interval, interval, boolean, boolean, boolean, boolean) IS
'adds a worker that the supervisor keeps running in this database from the commit on: a command, which needs the right to SET ROLE to its role (by default the current one), or a C function (superuser; a WARNING, if a preloaded library runs it itself). Arguments are the columns of supervisor.worker. A name that is taken: 42710, or with if_not_exists a NOTICE; what makes no sense: 22023; without the right: 42501';

CREATE FUNCTION supervisor.alter_worker(
    name text,
    command text DEFAULT NULL,
    run_every interval DEFAULT NULL,
    library text DEFAULT NULL,
    function text DEFAULT NULL,
    argument bigint DEFAULT NULL,
    extra text DEFAULT NULL,
    extra_bytes bytea DEFAULT NULL,
    type text DEFAULT NULL,
    role name DEFAULT NULL,
    settings text[] DEFAULT NULL,
    instances integer DEFAULT NULL,
    start_after text DEFAULT NULL,
    restart text DEFAULT NULL,
    restart_delay interval DEFAULT NULL,
    restart_delay_max interval DEFAULT NULL,
    max_restarts integer DEFAULT NULL,
    restart_window interval DEFAULT NULL,
    start_timeout interval DEFAULT NULL,
    stop_timeout interval DEFAULT NULL,
    run_timeout interval DEFAULT NULL,
    heartbeat_timeout interval DEFAULT NULL,
    bypass_allowconn boolean DEFAULT NULL,
    bypass_rolelogincheck boolean DEFAULT NULL,
    enabled boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'supervisor_alter_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.alter_worker(text, text, interval, text, text, bigint, text, bytea, text, name, text[], integer, text, text, interval, interval, integer, interval, interval, interval, interval, interval, boolean, boolean, boolean) IS
'changes those columns of a worker that are not NULL here (run_every 0 is none; none given: 22023); if that changes what runs, its processes are replaced, one after another, from the commit on. Needs the rights to add the worker as it was and as it will be. No such worker: 42704; one that is declared in C: 42809; other errors as for supervisor.add_worker';

CREATE FUNCTION supervisor.remove_worker(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'supervisor_remove_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.remove_worker(text) IS
'removes a worker, whose processes end from the commit on; one that supervisor_start() has started, at once. Needs the right to add it. No such worker: 42704; one that an extension has added: 2BP01; one that a preloaded library has declared: 42809';

CREATE FUNCTION supervisor.start_worker(name text, timeout interval DEFAULT '10 s')
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_start_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.start_worker(text, interval) IS
'starts a declared worker at once, also one that has failed, and waits until all its instances are ready: a command has a session, a C function was called, which does not say that it goes well; sets enabled in its row. If the transaction is rolled back, it follows its row again. True when done; false with a WARNING after timeout, the request stands. Needs the right to add it. No such worker: 42704';

CREATE FUNCTION supervisor.stop_worker(name text, timeout interval DEFAULT '10 s')
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_stop_worker'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.stop_worker(text, interval) IS
'terminates the processes of a declared worker at once, waits until they are gone, and keeps it stopped; clears enabled in its row. Otherwise as supervisor.start_worker';

CREATE FUNCTION supervisor.restart_worker(name text, timeout interval DEFAULT '10 s')
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_restart_worker_by_name'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.restart_worker(text, interval) IS
'replaces the processes of a declared worker, one after another: each is terminated, and its successor awaited. True when done; false with a WARNING after timeout, the request stands. Needs the right to signal a backend of its role (a C function: superuser). No such worker: 42704; not enabled: 55000';

--
-- Jobs
--

CREATE TABLE supervisor.job (
    id bigint PRIMARY KEY,
    role regrole NOT NULL,
    pool text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    run_at timestamptz NOT NULL,
    key text COLLATE "C",
    command text COLLATE "C" NOT NULL,
    params text[] COLLATE "C",
    name text COLLATE "C",
    schedule text COLLATE "C",
    time_zone text COLLATE "C",
    next_at timestamptz,
    run_timeout interval,
    retry_delay interval,
    max_attempts integer NOT NULL,
    attempts integer NOT NULL,
    crashes integer NOT NULL,
    runs bigint NOT NULL,
    atomic boolean NOT NULL,
    enabled boolean NOT NULL,
    state "char" NOT NULL,
    reason text COLLATE "C",
    origin bigint,
    enqueued_at timestamptz NOT NULL,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_state text COLLATE "C",
    last_sqlstate text COLLATE "C",
    last_error text COLLATE "C") USING heap
WITH (fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000, vacuum_truncate = false,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false);

COMMENT ON TABLE supervisor.job IS
'jobs of this database, which run once they are due; written by the functions about jobs. A row that comes by INSERT, COPY or replication is a copy, and does not run';
COMMENT ON COLUMN supervisor.job.id IS 'number of the job, unique in this installation of the extension';
COMMENT ON COLUMN supervisor.job.role IS 'role that it runs as';
COMMENT ON COLUMN supervisor.job.pool IS 'name of the pool that it runs in';
COMMENT ON COLUMN supervisor.job.priority IS '0 runs first, 9 last';
COMMENT ON COLUMN supervisor.job.run_at IS 'when it is due; infinity: not before somebody says so';
COMMENT ON COLUMN supervisor.job.key IS 'jobs of one role and key run one at a time, over all pools; NULL: it has none';
COMMENT ON COLUMN supervisor.job.command IS 'SQL that it runs';
COMMENT ON COLUMN supervisor.job.params IS 'text values of its parameters';
COMMENT ON COLUMN supervisor.job.name IS 'name of a recurring job; NULL: it runs once';
COMMENT ON COLUMN supervisor.job.schedule IS 'when a recurring job runs';
COMMENT ON COLUMN supervisor.job.time_zone IS 'time zone of that';
COMMENT ON COLUMN supervisor.job.next_at IS 'next time of the schedule, which run_at may come before';
COMMENT ON COLUMN supervisor.job.run_timeout IS 'longest time of a run; NULL: no limit';
COMMENT ON COLUMN supervisor.job.retry_delay IS 'time before it is tried again, which doubles each time';
COMMENT ON COLUMN supervisor.job.max_attempts IS 'runs after which it is failed';
COMMENT ON COLUMN supervisor.job.attempts IS 'runs that have failed in a row';
COMMENT ON COLUMN supervisor.job.crashes IS 'runs in a row that have crashed the server';
COMMENT ON COLUMN supervisor.job.runs IS 'runs that have ended';
COMMENT ON COLUMN supervisor.job.atomic IS 'whether it runs in one transaction, together with its removal from here';
COMMENT ON COLUMN supervisor.job.enabled IS 'whether it is to run';
COMMENT ON COLUMN supervisor.job.state IS 'w: waiting, f: failed';
COMMENT ON COLUMN supervisor.job.reason IS 'why it is in that state';
COMMENT ON COLUMN supervisor.job.origin IS 'where it belongs: a hash of supervisor.origin and the database; NULL: it is a copy';
COMMENT ON COLUMN supervisor.job.enqueued_at IS 'when it was enqueued';
COMMENT ON COLUMN supervisor.job.last_started_at IS 'when its last run began';
COMMENT ON COLUMN supervisor.job.last_finished_at IS 'when that ended';
COMMENT ON COLUMN supervisor.job.last_state IS 'how that ended';
COMMENT ON COLUMN supervisor.job.last_sqlstate IS 'SQLSTATE of its error';
COMMENT ON COLUMN supervisor.job.last_error IS 'message of its error';

CREATE UNIQUE INDEX job_name ON supervisor.job (name) WHERE name IS NOT NULL;
CREATE INDEX job_place ON supervisor.job (role, pool, priority, run_at, id);
CREATE INDEX job_key ON supervisor.job (role, key, pool, priority, run_at, id) WHERE key IS NOT NULL;

CREATE SEQUENCE supervisor.job_id_seq;
COMMENT ON SEQUENCE supervisor.job_id_seq IS 'numbers of jobs';

CREATE TABLE supervisor.job_history (
    job bigint NOT NULL,
    name text COLLATE "C",
    attempt integer NOT NULL,
    role regrole NOT NULL,
    pool text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    tag text COLLATE "C",
    result text COLLATE "C",
    sqlstate text COLLATE "C",
    message text COLLATE "C",
    detail text COLLATE "C",
    context text COLLATE "C",
    merged_into bigint,
    enqueued_at timestamptz NOT NULL,
    run_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    pid integer,
    command text COLLATE "C" NOT NULL) USING heap;

COMMENT ON TABLE supervisor.job_history IS 'runs of jobs of this database that have ended';
COMMENT ON COLUMN supervisor.job_history.job IS 'number of the job';
COMMENT ON COLUMN supervisor.job_history.name IS 'name of a recurring job';
COMMENT ON COLUMN supervisor.job_history.attempt IS 'number of the run, since the last one that succeeded';
COMMENT ON COLUMN supervisor.job_history.role IS 'role that it ran as';
COMMENT ON COLUMN supervisor.job_history.pool IS 'pool that it ran in';
COMMENT ON COLUMN supervisor.job_history.state IS 'succeeded, failed or canceled';
COMMENT ON COLUMN supervisor.job_history.tag IS 'command tag, as in INSERT 0 42';
COMMENT ON COLUMN supervisor.job_history.result IS 'first column of the first row, as text; at most 1 kB of it';
COMMENT ON COLUMN supervisor.job_history.sqlstate IS 'SQLSTATE of its error';
COMMENT ON COLUMN supervisor.job_history.message IS 'message of its error';
COMMENT ON COLUMN supervisor.job_history.detail IS 'detail of its error';
COMMENT ON COLUMN supervisor.job_history.context IS 'context of its error';
COMMENT ON COLUMN supervisor.job_history.merged_into IS 'identical job that was run in its place';
COMMENT ON COLUMN supervisor.job_history.enqueued_at IS 'when the job was enqueued';
COMMENT ON COLUMN supervisor.job_history.run_at IS 'when it was due';
COMMENT ON COLUMN supervisor.job_history.started_at IS 'when the run began; NULL: it has not';
COMMENT ON COLUMN supervisor.job_history.finished_at IS 'when it ended';
COMMENT ON COLUMN supervisor.job_history.pid IS 'process ID of its worker';
COMMENT ON COLUMN supervisor.job_history.command IS 'command of the job; at most 1 kB of it';

CREATE INDEX job_history_job ON supervisor.job_history (job);
CREATE INDEX job_history_finished_at ON supervisor.job_history (finished_at);

CREATE TABLE supervisor.origin (nonce uuid NOT NULL) USING heap;
COMMENT ON TABLE supervisor.origin IS 'tells the jobs of this installation of the extension from copies of jobs of another: not dumped';
COMMENT ON COLUMN supervisor.origin.nonce IS 'a random number';
INSERT INTO supervisor.origin VALUES (pg_catalog.gen_random_uuid());

-- As for workers, a dump must not hand the number of a role that is gone to
-- whoever has it next.
SELECT pg_catalog.pg_extension_config_dump('supervisor.job', 'WHERE role IN (SELECT oid FROM pg_catalog.pg_roles)');
SELECT pg_catalog.pg_extension_config_dump('supervisor.job_id_seq', '');

CREATE FUNCTION supervisor.job_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'supervisor_job_changed'
LANGUAGE C;
COMMENT ON FUNCTION supervisor.job_changed() IS 'guards the tables of jobs, and makes what is added to supervisor.job a copy';

-- One in front of each row as well.
CREATE TRIGGER job_added BEFORE INSERT OR UPDATE OR DELETE ON supervisor.job
    FOR EACH ROW EXECUTE FUNCTION supervisor.job_changed();
ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_added;

CREATE TRIGGER job_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.job
    FOR EACH STATEMENT EXECUTE FUNCTION supervisor.job_changed();
CREATE CONSTRAINT TRIGGER job_row_changed AFTER INSERT OR UPDATE OR DELETE ON supervisor.job
    FOR EACH ROW EXECUTE FUNCTION supervisor.job_changed();
ALTER TABLE supervisor.job ENABLE ALWAYS TRIGGER job_changed, ENABLE ALWAYS TRIGGER job_row_changed;

CREATE TRIGGER job_history_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.job_history
    FOR EACH STATEMENT EXECUTE FUNCTION supervisor.job_changed();
CREATE CONSTRAINT TRIGGER job_history_row_changed AFTER INSERT OR UPDATE OR DELETE ON supervisor.job_history
    FOR EACH ROW EXECUTE FUNCTION supervisor.job_changed();
ALTER TABLE supervisor.job_history ENABLE ALWAYS TRIGGER job_history_changed, ENABLE ALWAYS TRIGGER job_history_row_changed;

CREATE TRIGGER origin_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON supervisor.origin
    FOR EACH STATEMENT EXECUTE FUNCTION supervisor.job_changed();
CREATE CONSTRAINT TRIGGER origin_row_changed AFTER INSERT OR UPDATE OR DELETE ON supervisor.origin
    FOR EACH ROW EXECUTE FUNCTION supervisor.job_changed();
ALTER TABLE supervisor.origin ENABLE ALWAYS TRIGGER origin_changed, ENABLE ALWAYS TRIGGER origin_row_changed;

CREATE FUNCTION supervisor.enqueue(
    command text,
    params text[] DEFAULT NULL,
    pool text DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    key text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_timeout interval DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    atomic boolean DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_enqueue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.enqueue(text, text[], text, timestamptz, text, integer, interval, integer, interval, boolean) IS
'enqueues a job, which a pool worker runs as the current role once this transaction has committed and run_at (NULL: now) has come, and returns its id. It runs in one transaction, together with the note that it is done, so its effects are there exactly once. params are text values for $1, $2, ...; pool NULL is that of the setting supervisor.default_pool; jobs of one role and key run one at a time, and identical ones that wait when one begins are done with it; priority is 0, which runs first, to 9 (NULL: 5). What can be known is checked at the call: no such pool (42704), no right to it (42501), no LOGIN or CONNECT (28000), what cannot run in a transaction block (25001), a command that would end its transaction (2D000), arguments out of range (22023)';

CREATE FUNCTION supervisor.current_job()
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_current_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.current_job() IS
'id of the job that calls it; NULL: it is none';

CREATE FUNCTION supervisor.schedule(
    name text,
    schedule text,
    command text,
    pool text DEFAULT NULL,
    time_zone text DEFAULT NULL,
    run_timeout interval DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    atomic boolean DEFAULT NULL,
    role name DEFAULT NULL,
    enabled boolean DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_schedule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.schedule(text, text, text, text, text, interval, integer, boolean, name, boolean) IS
'adds the recurring job of that name in this database, or replaces it, and returns its id. schedule is five fields of cron, a name as @daily, or an interval of 1 second to less than 1 day, from start to start; time_zone NULL is that of the server, whatever the session has set. It runs as role (NULL: the current role), never twice at a time; times that were missed are one run. enabled NULL: as it was, or true. No schedule, or one that never comes, no time zone (22023), no such pool (42704), another''s job, or a role to which the current one may not SET ROLE (42501), and what enqueue() checks of a command';

CREATE FUNCTION supervisor.unschedule(name text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_unschedule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.unschedule(text) IS
'removes the recurring job of that name from this database; a run that is under way goes on. True: it was there. Another''s: 42501';

CREATE FUNCTION supervisor.cancel_job(job bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_cancel_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.cancel_job(bigint) IS
'cancels a job: its run if it is under way, at once and whatever becomes of this transaction; else the job, which waits or has failed, if this transaction commits. It is not tried again. True: it was there; false: it has ended. Needs the right to signal a backend of its role (42501). No such job ever: 42704';

CREATE FUNCTION supervisor.wait_job(job bigint, timeout interval DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'supervisor_wait_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.wait_job(bigint, interval) IS
'waits until a job has ended for good, or a run of a recurring one: the run that is under way, else the next; and returns succeeded, failed or canceled; NULL: timeout (NULL: none) came first. What it says no crash of the server undoes. Needs the right to see a query of its role, or to signal its backends (42501). In the transaction that has enqueued or changed it, in a task or a job, or if it is not known any more: 55000; if it waits for a lock of this session: 40P01; no such job ever: 42704';

CREATE FUNCTION supervisor.retry_job(job bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_retry_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.retry_job(bigint) IS
'makes a job due at once when this transaction commits: one that has failed, which gets all its attempts again, one that waits, or a recurring one, whose schedule stays. True: it was there; false: it has ended. Needs the right to signal a backend of its role (42501). Not enabled: 55000; no such job ever: 42704';

CREATE FUNCTION supervisor.alter_job(
    job bigint,
    run_at timestamptz DEFAULT NULL,
    pool text DEFAULT NULL,
    priority integer DEFAULT NULL,
    enabled boolean DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_alter_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.alter_job(bigint, timestamptz, text, integer, boolean) IS
'changes a job when this transaction commits: when it is due (infinity: not before somebody says so), its pool, its priority, whether it is to run; NULL: as it was. A recurring one that is enabled again makes up for nothing. True: it was there; false: it has ended. Needs the right to signal a backend of its role (42501). No such pool (42704), one that its role may not use (42501), a time of one that has failed (55000), no such job ever (42704)';

CREATE FUNCTION supervisor.adopt_jobs()
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_adopt_jobs'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION supervisor.adopt_jobs() IS
'has all jobs of this database that are copies, as after a restore, belong here from the commit on, and returns how many. Those that are due are run then; recurring ones make up for nothing. For superusers (42501): look at supervisor.job_status with the reason copied before, and cancel what is not to be run twice';

--
-- Views.  The functions below them hide what pg_stat_activity would hide.
--

CREATE FUNCTION supervisor.get_workers(
    OUT slot integer, OUT generation bigint, OUT name text, OUT instance integer,
    OUT kind text, OUT pool text, OUT pid integer, OUT datid oid, OUT userid oid,
    OUT state text, OUT activity text, OUT reason text, OUT detail text,
    OUT started_at timestamptz, OUT state_since timestamptz,
    OUT restarts bigint, OUT consecutive_failures integer, OUT restart_at timestamptz,
    OUT last_exit_at timestamptz, OUT last_exit_code integer, OUT last_sqlstate text, OUT last_error text,
    OUT tasks_succeeded bigint, OUT tasks_failed bigint, OUT tasks_canceled bigint,
    OUT runs_succeeded bigint, OUT runs_failed bigint, OUT last_run_at timestamptz, OUT last_run_duration interval,
    OUT last_success_at timestamptz, OUT next_run_at timestamptz, OUT stats_since timestamptz,
    OUT task bigint, OUT command text, OUT source text, OUT declared_in oid, OUT library text, OUT run_every interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_workers'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 32;
COMMENT ON FUNCTION supervisor.get_workers() IS 'rows of the view supervisor.worker_status, with OIDs';

CREATE FUNCTION supervisor.may_see(role oid)
RETURNS boolean
AS 'MODULE_PATHNAME', 'supervisor_may_see'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION supervisor.may_see(oid) IS 'whether the current role may see what belongs to that one, as in pg_stat_activity';

CREATE FUNCTION supervisor.job_origin()
RETURNS bigint
AS 'MODULE_PATHNAME', 'supervisor_job_origin'
LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION supervisor.job_origin() IS 'what supervisor.job.origin is of jobs that belong to this database; NULL: that is not to be known';

CREATE FUNCTION supervisor.get_job_runs(
    OUT job_table oid, OUT job bigint, OUT runs boolean, OUT lost boolean, OUT started_at timestamptz, OUT pid integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_job_runs'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 16;
COMMENT ON FUNCTION supervisor.get_job_runs() IS 'jobs of this database that a worker runs, or is about to run; or whose worker has ended, which is not noted yet';

CREATE FUNCTION supervisor.why_job_waits(role oid, pool text, key_runs boolean)
RETURNS text
AS 'MODULE_PATHNAME', 'supervisor_why_job_waits'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION supervisor.why_job_waits(oid, text, boolean) IS 'reason of the view supervisor.job_status, of a job of that role and pool that is due; key_runs: another one of its key runs';

CREATE FUNCTION supervisor.get_pools(
    OUT pool text, OUT size integer, OUT members text[], OUT running integer, OUT unbound integer, OUT idle integer, OUT busy integer,
    OUT queued_tasks integer, OUT tasks_succeeded bigint, OUT tasks_failed bigint, OUT tasks_canceled bigint,
    OUT jobs_succeeded bigint, OUT jobs_failed bigint,
    OUT stats_since timestamptz, OUT no_worker_since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_pools'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4;
COMMENT ON FUNCTION supervisor.get_pools() IS 'rows of the view supervisor.pool_status';

CREATE FUNCTION supervisor.get_tasks(
    OUT task bigint, OUT pool text, OUT datid oid, OUT userid oid, OUT owner_pid integer, OUT slot integer,
    OUT state text, OUT sqlstate text, OUT message text, OUT tag text,
    OUT submitted_at timestamptz, OUT started_at timestamptz, OUT finished_at timestamptz, OUT command text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_tasks'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION supervisor.get_tasks() IS 'rows of the view supervisor.task_status, with OIDs';

CREATE FUNCTION supervisor.get_events(
    OUT id bigint, OUT at timestamptz, OUT slot integer, OUT generation bigint,
    OUT name text, OUT pid integer, OUT event text, OUT detail text, OUT count bigint, OUT last_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'supervisor_get_events'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION supervisor.get_events() IS 'rows of the view supervisor.event';

CREATE FUNCTION supervisor.get_server(
    OUT state text, OUT pid integer, OUT since timestamptz, OUT tasks integer, OUT max_tasks integer,
    OUT memory_used bigint, OUT memory bigint, OUT unread_databases oid[])
AS 'MODULE_PATHNAME', 'supervisor_get_server'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION supervisor.get_server() IS 'row of the view supervisor.server_status, with OIDs';

CREATE VIEW supervisor.worker_status AS
SELECT w.slot, w.generation, w.name, w.instance, w.kind, w.pool, w.pid, d.datname, a.rolname AS usename,
       w.state, w.activity, w.reason, w.detail, w.started_at, w.state_since,
       w.restarts, w.consecutive_failures, w.restart_at,
       w.last_exit_at, w.last_exit_code, w.last_sqlstate, w.last_error,
       w.tasks_succeeded, w.tasks_failed, w.tasks_canceled,
       w.run_every, w.runs_succeeded, w.runs_failed, w.last_run_at, w.last_run_duration, w.last_success_at, w.next_run_at,
       w.stats_since, w.task, w.command,
       w.source, i.datname AS declared_in, w.library
FROM supervisor.get_workers() w
     LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) w.datid
     LEFT JOIN pg_catalog.pg_database i ON i.oid OPERATOR(pg_catalog.=) w.declared_in
     LEFT JOIN pg_catalog.pg_authid a ON a.oid OPERATOR(pg_catalog.=) w.userid;

COMMENT ON VIEW supervisor.worker_status IS 'one row per worker, with a slot or not';
COMMENT ON COLUMN supervisor.worker_status.slot IS 'index of the worker''s slot; NULL if it has none: all are taken, or it is not to run and never has; the loader''s is not counted';
COMMENT ON COLUMN supervisor.worker_status.generation IS 'counts the processes of the slot; (slot, generation) identifies one';
COMMENT ON COLUMN supervisor.worker_status.name IS 'name of the worker; of a pool worker, its pool''s';
COMMENT ON COLUMN supervisor.worker_status.instance IS 'number of this instance among those of the same name, from 1';
COMMENT ON COLUMN supervisor.worker_status.kind IS 'pool, command, library or loader';
COMMENT ON COLUMN supervisor.worker_status.pool IS 'pool of a pool worker';
COMMENT ON COLUMN supervisor.worker_status.pid IS 'process ID; NULL if no process runs';
COMMENT ON COLUMN supervisor.worker_status.datname IS 'database that a pool worker is bound to, NULL if unbound; a command worker''s; the one that a library''s function has connected to, NULL if to none';
COMMENT ON COLUMN supervisor.worker_status.usename IS 'likewise, the role';
COMMENT ON COLUMN supervisor.worker_status.state IS 'waiting, starting, running, stopping, stuck, backoff, stopped or failed';
COMMENT ON COLUMN supervisor.worker_status.activity IS 'of a running pool worker: unbound, idle or busy; of a command worker: idle between two runs, busy in one';
COMMENT ON COLUMN supervisor.worker_status.reason IS 'why the worker is in this state, one of a fixed set of words';
COMMENT ON COLUMN supervisor.worker_status.detail IS 'the reason in words; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.worker_status.started_at IS 'when this process was registered with the postmaster';
COMMENT ON COLUMN supervisor.worker_status.state_since IS 'when the state, or the reason, last changed';
COMMENT ON COLUMN supervisor.worker_status.restarts IS 'processes of this slot that have ended since stats_since';
COMMENT ON COLUMN supervisor.worker_status.consecutive_failures IS 'failed processes in a row; a run that lasted, or succeeded, resets it';
COMMENT ON COLUMN supervisor.worker_status.restart_at IS 'when a worker in backoff or waiting is tried next';
COMMENT ON COLUMN supervisor.worker_status.last_exit_at IS 'when the slot''s last process ended';
COMMENT ON COLUMN supervisor.worker_status.last_exit_code IS 'its exit code; NULL if it never attached';
COMMENT ON COLUMN supervisor.worker_status.last_sqlstate IS 'SQLSTATE of the error that ended it';
COMMENT ON COLUMN supervisor.worker_status.last_error IS 'message of the error that ended it, at last_exit_at: it stays when a later run succeeds; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.worker_status.tasks_succeeded IS 'tasks of this slot that succeeded since stats_since';
COMMENT ON COLUMN supervisor.worker_status.tasks_failed IS 'tasks of this slot that failed since stats_since';
COMMENT ON COLUMN supervisor.worker_status.tasks_canceled IS 'tasks of this slot that were canceled while they ran since stats_since';
COMMENT ON COLUMN supervisor.worker_status.run_every IS 'of a command worker: time from the start of one run to that of the next; NULL: it runs once per start';
COMMENT ON COLUMN supervisor.worker_status.runs_succeeded IS 'runs of a command worker that succeeded since stats_since';
COMMENT ON COLUMN supervisor.worker_status.runs_failed IS 'runs of a command worker that failed since stats_since; not those that it was asked to break off';
COMMENT ON COLUMN supervisor.worker_status.last_run_at IS 'when the last run of a command worker began; it may run still';
COMMENT ON COLUMN supervisor.worker_status.last_run_duration IS 'how long that run took; NULL while it runs';
COMMENT ON COLUMN supervisor.worker_status.last_success_at IS 'when the last run that succeeded ended';
COMMENT ON COLUMN supervisor.worker_status.next_run_at IS 'when a command worker runs next; NULL while it runs, or if that is not known';
COMMENT ON COLUMN supervisor.worker_status.stats_since IS 'when the counters began: when the worker got the slot, or supervisor.reset_stats() was called';
COMMENT ON COLUMN supervisor.worker_status.task IS 'task that runs now';
COMMENT ON COLUMN supervisor.worker_status.command IS 'beginning of that task''s, or of a command worker''s, command; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.worker_status.source IS 'of a declared worker: table, of supervisor.worker; library, that is preloaded; call, of supervisor_start(); or registration, by a library with the server, see supervisor.take_over';
COMMENT ON COLUMN supervisor.worker_status.declared_in IS 'database whose table has its row, where the functions find it; NULL if it is declared in C';
COMMENT ON COLUMN supervisor.worker_status.library IS 'library whose function it runs, without path and suffix; NULL for others than of kind library';

-- A reader's WHERE is given what is shown.  With job = 17 there it goes by the index.
CREATE VIEW supervisor.job_status AS
SELECT j.job, j.name, CASE WHEN supervisor.may_see(j.role) THEN j.key END AS key, a.rolname AS usename, j.pool,
       j.state, j.reason,
       CASE WHEN supervisor.may_see(j.role) THEN CASE j.reason
           WHEN 'crashed' THEN 'it has crashed the server too often: supervisor.retry_job() has it run again'
           WHEN 'max_attempts' THEN 'all its attempts have failed: supervisor.retry_job() gives it as many again'
           WHEN 'hopeless' THEN 'its error would come again: fix what it calls, then supervisor.retry_job(), or enqueue it anew, as with atomic => false'
           WHEN 'no_next_time' THEN 'its schedule has no next time: supervisor.schedule() gives it another'
           WHEN 'lost' THEN 'its worker has ended, which is about to be noted'
           WHEN 'copied' THEN 'it belongs to another database or installation: see supervisor.adopt_jobs()'
           WHEN 'disabled' THEN 'it is not enabled: see supervisor.alter_job()'
           WHEN 'held' THEN 'it waits for supervisor.retry_job() or alter_job()'
           WHEN 'retry' THEN 'it has failed, and is tried again at run_at'
           WHEN 'recovery' THEN 'this server is in recovery'
           WHEN 'not_trusted' THEN 'the tables of jobs are not as the extension has made them: see the server log'
           WHEN 'not_listed' THEN 'this database is not in supervisor.databases'
           WHEN 'no_role' THEN 'its role does not exist'
           WHEN 'no_login' THEN 'its role is not permitted to log in'
           WHEN 'database_not_allowed' THEN 'its role may not connect to this database, or nobody may'
           WHEN 'no_member' THEN 'its role may not use the pool: see supervisor.pools'
           WHEN 'no_pool' THEN 'the pool does not exist: see supervisor.pools'
           WHEN 'paused' THEN 'the pool is of size 0, or supervisor.run_jobs is off'
           WHEN 'backoff' THEN 'what its role did has failed, or the server has crashed: it is tried again soon, see the server log'
           WHEN 'no_worker' THEN 'the pool has no worker that is ready'
           WHEN 'key' THEN 'another job of its key runs'
           WHEN 'busy' THEN 'all workers of the pool are busy' END END AS detail,
       j.enabled, j.priority, j.run_at, j.schedule, j.time_zone, j.attempts, j.max_attempts, j.atomic, j.enqueued_at,
       j.started_at, j.last_started_at, j.last_finished_at, j.last_state, j.last_sqlstate,
       CASE WHEN supervisor.may_see(j.role) THEN j.last_error END AS last_error, j.pid,
       CASE WHEN supervisor.may_see(j.role) THEN j.command ELSE '<insufficient privilege>' END AS command,
       CASE WHEN supervisor.may_see(j.role) THEN j.params END AS params
FROM (SELECT s.*,
             CASE WHEN s.state OPERATOR(pg_catalog.=) 'running' THEN NULL
                  WHEN s.lost THEN 'lost'
                  WHEN s.state OPERATOR(pg_catalog.=) 'failed' THEN s.row_reason
                  WHEN s.copied THEN 'copied'
                  WHEN NOT s.enabled THEN 'disabled'
                  WHEN s.run_at OPERATOR(pg_catalog.=) 'infinity' THEN 'held'
                  WHEN s.state OPERATOR(pg_catalog.=) 'scheduled' THEN s.row_reason
                  WHEN s.pending THEN NULL
                  ELSE supervisor.why_job_waits(s.role, s.pool, s.key IS NOT NULL AND (s.role, s.key) OPERATOR(pg_catalog.=) ANY (
                      SELECT k.role, k.key FROM supervisor.get_job_runs() r JOIN supervisor.job k
                      ON k.id OPERATOR(pg_catalog.=) r.job AND k.tableoid OPERATOR(pg_catalog.=) r.job_table WHERE k.key IS NOT NULL))
             END AS reason
      FROM (SELECT j.id AS job, j.role, j.name, j.key, j.pool, j.reason AS row_reason, j.enabled, j.priority, j.run_at, j.schedule,
                   j.time_zone, j.attempts, j.max_attempts, j.atomic, j.enqueued_at, j.last_started_at, j.last_finished_at,
                   j.last_state, j.last_sqlstate, j.last_error, j.command, j.params,
                   CASE WHEN r.runs THEN r.started_at END AS started_at, CASE WHEN r.runs THEN r.pid END AS pid,
                   r.job IS NOT NULL AS pending, coalesce(r.lost, false) AS lost,
                   coalesce(j.origin OPERATOR(pg_catalog.<>) (SELECT supervisor.job_origin()), j.origin IS NULL) AS copied,
                   CASE WHEN r.runs THEN 'running'
                        WHEN j.state OPERATOR(pg_catalog.=) 'f' THEN 'failed'
                        WHEN r.lost THEN 'queued'
                        WHEN coalesce(j.origin OPERATOR(pg_catalog.<>) (SELECT supervisor.job_origin()), j.origin IS NULL) OR NOT j.enabled
                             OR j.run_at OPERATOR(pg_catalog.>) pg_catalog.statement_timestamp() THEN 'scheduled'
                        ELSE 'queued' END AS state
            FROM supervisor.job j LEFT JOIN supervisor.get_job_runs() r
                 ON r.job OPERATOR(pg_catalog.=) j.id AND r.job_table OPERATOR(pg_catalog.=) j.tableoid) s) j
     LEFT JOIN pg_catalog.pg_authid a ON a.oid OPERATOR(pg_catalog.=) j.role;

COMMENT ON VIEW supervisor.job_status IS 'jobs of this database that wait, run or have failed: one that has ended otherwise is in supervisor.job_run';
COMMENT ON COLUMN supervisor.job_status.job IS 'id of the job';
COMMENT ON COLUMN supervisor.job_status.name IS 'name of a recurring job';
COMMENT ON COLUMN supervisor.job_status.key IS 'jobs of one role and key run one at a time; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_status.usename IS 'role that it runs as; NULL if that was dropped';
COMMENT ON COLUMN supervisor.job_status.pool IS 'pool that it runs in';
COMMENT ON COLUMN supervisor.job_status.state IS 'scheduled: it waits for its time, or for somebody; queued: it is due, and waits for a worker; running; or failed: it does not run any more';
COMMENT ON COLUMN supervisor.job_status.reason IS 'why it is in this state, one of a fixed set of words; NULL: nothing keeps it from going on';
COMMENT ON COLUMN supervisor.job_status.detail IS 'the reason in words; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_status.enabled IS 'whether it is to run';
COMMENT ON COLUMN supervisor.job_status.priority IS '0 runs first, 9 last';
COMMENT ON COLUMN supervisor.job_status.run_at IS 'when it is due, or was; infinity: not before somebody says so';
COMMENT ON COLUMN supervisor.job_status.schedule IS 'when a recurring job runs';
COMMENT ON COLUMN supervisor.job_status.time_zone IS 'time zone of that, which makes no difference to an interval; NULL: it runs once';
COMMENT ON COLUMN supervisor.job_status.attempts IS 'runs that have failed in a row';
COMMENT ON COLUMN supervisor.job_status.max_attempts IS 'runs after which it is failed';
COMMENT ON COLUMN supervisor.job_status.atomic IS 'whether it runs in one transaction, together with the note that it is done';
COMMENT ON COLUMN supervisor.job_status.enqueued_at IS 'when it was enqueued';
COMMENT ON COLUMN supervisor.job_status.started_at IS 'when the run that is under way began';
COMMENT ON COLUMN supervisor.job_status.last_started_at IS 'when the last run that has ended began';
COMMENT ON COLUMN supervisor.job_status.last_finished_at IS 'when that ended';
COMMENT ON COLUMN supervisor.job_status.last_state IS 'how that ended: succeeded, failed or canceled';
COMMENT ON COLUMN supervisor.job_status.last_sqlstate IS 'SQLSTATE of its error';
COMMENT ON COLUMN supervisor.job_status.last_error IS 'message of its error; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_status.pid IS 'process ID of the worker that runs it';
COMMENT ON COLUMN supervisor.job_status.command IS 'its command; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_status.params IS 'text values of its parameters; hidden as pg_stat_activity hides a query';

CREATE VIEW supervisor.job_run AS
SELECT h.job, h.name, h.attempt, a.rolname AS usename, h.pool, h.state,
       CASE WHEN supervisor.may_see(h.role) THEN h.tag END AS tag,
       CASE WHEN supervisor.may_see(h.role) THEN h.result END AS result,
       h.sqlstate,
       CASE WHEN supervisor.may_see(h.role) THEN h.message END AS message,
       CASE WHEN supervisor.may_see(h.role) THEN h.detail END AS detail,
       CASE WHEN supervisor.may_see(h.role) THEN h.context END AS context,
       h.merged_into, h.enqueued_at, h.run_at, h.started_at, h.finished_at, h.pid,
       CASE WHEN supervisor.may_see(h.role) THEN h.command ELSE '<insufficient privilege>' END AS command
FROM supervisor.job_history h
     LEFT JOIN pg_catalog.pg_authid a ON a.oid OPERATOR(pg_catalog.=) h.role;

COMMENT ON VIEW supervisor.job_run IS 'runs of jobs of this database that have ended, for supervisor.job_retention or job_failure_retention; and jobs that were canceled before their first';
COMMENT ON COLUMN supervisor.job_run.job IS 'id of the job';
COMMENT ON COLUMN supervisor.job_run.name IS 'name of a recurring job';
COMMENT ON COLUMN supervisor.job_run.attempt IS 'number of the run, from 1 on since the last one that succeeded';
COMMENT ON COLUMN supervisor.job_run.usename IS 'role that it ran as; NULL if that was dropped';
COMMENT ON COLUMN supervisor.job_run.pool IS 'pool that it ran in';
COMMENT ON COLUMN supervisor.job_run.state IS 'succeeded, failed or canceled';
COMMENT ON COLUMN supervisor.job_run.tag IS 'its command tag, as in INSERT 0 42, if it succeeded; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_run.result IS 'first column of the first row of its last statement that returned any, as text, at most 1 kB of it; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.job_run.sqlstate IS 'SQLSTATE of its error';
COMMENT ON COLUMN supervisor.job_run.message IS 'message of its error, at most 1 kB of it; hidden as pg_stat_activity hides a query, as the next two';
COMMENT ON COLUMN supervisor.job_run.detail IS 'detail of its error';
COMMENT ON COLUMN supervisor.job_run.context IS 'context of its error';
COMMENT ON COLUMN supervisor.job_run.merged_into IS 'identical job that was run in its place';
COMMENT ON COLUMN supervisor.job_run.enqueued_at IS 'when the job was enqueued';
COMMENT ON COLUMN supervisor.job_run.run_at IS 'when it was due';
COMMENT ON COLUMN supervisor.job_run.started_at IS 'when the run began; NULL: it has not';
COMMENT ON COLUMN supervisor.job_run.finished_at IS 'when it ended';
COMMENT ON COLUMN supervisor.job_run.pid IS 'process ID of its worker';
COMMENT ON COLUMN supervisor.job_run.command IS 'command of the job, at most 1 kB of it; hidden as pg_stat_activity hides a query';

CREATE VIEW supervisor.pool_status AS
SELECT p.pool, p.size, p.members, p.running, p.unbound, p.idle, p.busy, p.no_worker_since,
       p.queued_tasks, p.tasks_succeeded, p.tasks_failed, p.tasks_canceled,
       coalesce(d.jobs, 0) AS due_jobs, p.jobs_succeeded, p.jobs_failed, p.stats_since
FROM supervisor.get_pools() p
     LEFT JOIN (SELECT s.pool, pg_catalog.count(*) AS jobs FROM supervisor.job_status s
                WHERE s.state OPERATOR(pg_catalog.=) 'queued' GROUP BY s.pool) d
     ON d.pool OPERATOR(pg_catalog.=) p.pool COLLATE "C";

COMMENT ON VIEW supervisor.pool_status IS 'one row per pool';
COMMENT ON COLUMN supervisor.pool_status.pool IS 'name of the pool';
COMMENT ON COLUMN supervisor.pool_status.size IS 'workers that the settings ask for';
COMMENT ON COLUMN supervisor.pool_status.members IS 'roles whose members may use it, by supervisor.pools, beside superusers; NULL: whoever may submit tasks';
COMMENT ON COLUMN supervisor.pool_status.running IS 'workers that are ready: unbound + idle + busy';
COMMENT ON COLUMN supervisor.pool_status.unbound IS 'workers that are attached to no database yet';
COMMENT ON COLUMN supervisor.pool_status.idle IS 'workers that are bound to a database and role, and have no task';
COMMENT ON COLUMN supervisor.pool_status.busy IS 'workers that run a task';
COMMENT ON COLUMN supervisor.pool_status.no_worker_since IS 'since when none of its workers has been ready; NULL: there is one, or none is wanted';
COMMENT ON COLUMN supervisor.pool_status.queued_tasks IS 'tasks that wait for a worker';
COMMENT ON COLUMN supervisor.pool_status.tasks_succeeded IS 'tasks that succeeded since stats_since';
COMMENT ON COLUMN supervisor.pool_status.tasks_failed IS 'tasks that failed since stats_since';
COMMENT ON COLUMN supervisor.pool_status.tasks_canceled IS 'tasks that were canceled since stats_since';
COMMENT ON COLUMN supervisor.pool_status.due_jobs IS 'jobs of the current database that are due, and wait for a worker';
COMMENT ON COLUMN supervisor.pool_status.jobs_succeeded IS 'runs of jobs, of all databases, that succeeded since stats_since';
COMMENT ON COLUMN supervisor.pool_status.jobs_failed IS 'runs of jobs, of all databases, that failed since stats_since';
COMMENT ON COLUMN supervisor.pool_status.stats_since IS 'when the counters began: when the pool was added, or supervisor.reset_stats() was called';

CREATE VIEW supervisor.task_status AS
SELECT t.task, t.pool, d.datname, a.rolname AS usename, t.owner_pid, t.slot, t.state, t.sqlstate, t.message, t.tag,
       t.submitted_at, t.started_at, t.finished_at, t.command
FROM supervisor.get_tasks() t
     LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) t.datid
     LEFT JOIN pg_catalog.pg_authid a ON a.oid OPERATOR(pg_catalog.=) t.userid;

COMMENT ON VIEW supervisor.task_status IS 'tasks that are queued, running, or launched and not yet read; and how launched ones ended that were read or forgotten, or whose session has ended: for supervisor.result_retention, or until their entry is needed, oldest first';
COMMENT ON COLUMN supervisor.task_status.task IS 'id of the task';
COMMENT ON COLUMN supervisor.task_status.pool IS 'pool that it was given to';
COMMENT ON COLUMN supervisor.task_status.datname IS 'database that it runs in';
COMMENT ON COLUMN supervisor.task_status.usename IS 'role that it runs as';
COMMENT ON COLUMN supervisor.task_status.owner_pid IS 'process ID of the session that it belongs to; NULL if it was read or forgotten, or if that session has ended';
COMMENT ON COLUMN supervisor.task_status.slot IS 'slot of the worker that runs it, or ran it';
COMMENT ON COLUMN supervisor.task_status.state IS 'queued, running, succeeded, failed or canceled';
COMMENT ON COLUMN supervisor.task_status.sqlstate IS 'SQLSTATE of its error';
COMMENT ON COLUMN supervisor.task_status.message IS 'message of its error; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.task_status.tag IS 'its command tag, as in INSERT 0 42, if it succeeded; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.task_status.submitted_at IS 'when it was submitted';
COMMENT ON COLUMN supervisor.task_status.started_at IS 'when a worker began it';
COMMENT ON COLUMN supervisor.task_status.finished_at IS 'when it ended';
COMMENT ON COLUMN supervisor.task_status.command IS 'beginning of its command; hidden as pg_stat_activity hides a query';

CREATE VIEW supervisor.event AS
SELECT id, at, slot, generation, name, pid, event, detail, count, last_at
FROM supervisor.get_events();

COMMENT ON VIEW supervisor.event IS 'the last 1000 events in the lives of workers, since the server started';
COMMENT ON COLUMN supervisor.event.id IS 'serial number of the event';
COMMENT ON COLUMN supervisor.event.at IS 'when it happened, of one that is repeated the first time';
COMMENT ON COLUMN supervisor.event.slot IS 'slot of the worker; NULL for what concerns no single one';
COMMENT ON COLUMN supervisor.event.generation IS 'generation of the worker, the last time';
COMMENT ON COLUMN supervisor.event.name IS 'name of the worker';
COMMENT ON COLUMN supervisor.event.pid IS 'process ID of the worker, the last time';
COMMENT ON COLUMN supervisor.event.event IS 'what happened: the state that the worker entered, or another word';
COMMENT ON COLUMN supervisor.event.detail IS 'why, in words; hidden as pg_stat_activity hides a query';
COMMENT ON COLUMN supervisor.event.count IS 'how often it has happened: more than 1 if a declared worker goes on repeating itself';
COMMENT ON COLUMN supervisor.event.last_at IS 'when it happened the last time';

CREATE VIEW supervisor.server_status AS
SELECT s.state, s.pid, s.since, s.tasks, s.max_tasks, s.memory_used, s.memory,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d
             WHERE d.oid OPERATOR(pg_catalog.=) ANY (s.unread_databases) ORDER BY d.datname) AS unread_databases
FROM supervisor.get_server() s;

COMMENT ON VIEW supervisor.server_status IS 'one row: the supervisor itself, and what there is for tasks; no error where the library is not preloaded';
COMMENT ON COLUMN supervisor.server_status.state IS 'running; away, of a supervisor that has ended and will be started again; no place, if the server had no background worker slot for it; or not preloaded, and then the rest is NULL';
COMMENT ON COLUMN supervisor.server_status.pid IS 'process ID of the supervisor; NULL if it does not run';
COMMENT ON COLUMN supervisor.server_status.since IS 'since when that supervisor runs, or none does';
COMMENT ON COLUMN supervisor.server_status.tasks IS 'tasks that count against supervisor.max_tasks: queued, running, or launched and not yet read';
COMMENT ON COLUMN supervisor.server_status.max_tasks IS 'the setting supervisor.max_tasks';
COMMENT ON COLUMN supervisor.server_status.memory_used IS 'bytes of shared memory that commands and results of tasks, and prepared transactions, hold';
COMMENT ON COLUMN supervisor.server_status.memory IS 'the setting supervisor.shared_memory, in bytes';
COMMENT ON COLUMN supervisor.server_status.unread_databases IS 'databases whose declared workers could not be read the last time; it is tried again, see supervisor.event';

--
-- What a person should look at.  Its operators are looked up when it is called,
-- in pg_catalog alone.  A row more: a SELECT more.
--

CREATE FUNCTION supervisor.health(OUT severity text, OUT what text, OUT since timestamptz, OUT hint text)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
WITH
server AS MATERIALIZED (
    SELECT *, state <> 'not preloaded' AS preloaded FROM supervisor.server_status),
-- the views behind these raise an error where the library is not preloaded, so they are not read there
workers AS MATERIALIZED (
    SELECT *, coalesce(declared_in, datname) AS home, kind <> 'pool' AS declared,
           CASE WHEN reason IN ('no_background_worker_slot', 'no_slot') THEN replace(reason, '_', ' ')
                ELSE coalesce(detail, replace(reason, '_', ' '), state) END AS why,
           CASE kind WHEN 'command' THEN coalesce(last_success_at, stats_since) ELSE last_exit_at END AS worked_at
    FROM supervisor.worker_status WHERE (SELECT preloaded FROM server) AND kind <> 'loader'),
pools AS MATERIALIZED (
    SELECT * FROM supervisor.pool_status WHERE (SELECT preloaded FROM server)),
tasks AS MATERIALIZED (
    SELECT pool, usename, state, submitted_at FROM supervisor.task_status
    WHERE (SELECT preloaded FROM server) AND (owner_pid IS NOT NULL OR finished_at IS NULL)),
jobs AS MATERIALIZED (
    SELECT job, usename, pool, state, reason, run_at, last_finished_at, last_state, last_error, last_sqlstate, schedule, enabled
    FROM supervisor.job_status WHERE (SELECT preloaded FROM server) AND (state IN ('queued', 'failed') OR reason = 'copied'
        OR (schedule IS NOT NULL AND enabled AND last_state = 'failed'))),
job_hints (reason, words, hint) AS (VALUES
    ('no_role', 'their role does not exist', 'see job_status: create it, or cancel_job'),
    ('no_login', 'role "%s" may not log in', 'ALTER ROLE ... LOGIN'),
    ('database_not_allowed', 'role "%s" may not connect', 'GRANT CONNECT, or ALTER DATABASE'),
    ('no_member', 'role "%s" may not use the pool', 'change supervisor.pools, or alter_job'),
    ('no_pool', 'the pool does not exist', 'add it to supervisor.pools, or alter_job'),
    ('not_listed', 'the database is not listed', 'add it to supervisor.databases'),
    ('not_trusted', 'the tables of jobs were changed', 'see the server log for what is wrong'),
    ('backoff', 'what role "%s" did has failed', 'see the server log'),
    ('lost', 'how they ended is not noted', 'see the server log'),
    ('key', 'others of their key run', 'see how long those take: job_status'),
    ('no_worker', 'the pool has no worker', 'see the server log'),
    ('busy', 'all its workers are busy', 'cancel what takes long, or make the pool larger')),
hints (reason, hint) AS (VALUES
    ('no_background_worker_slot', 'raise max_worker_processes (restart), or stop something'),
    ('no_slot', 'raise supervisor.max_workers (restart), or stop something'),
    ('no_database', 'create the database, or remove the worker'),
    ('database_not_allowed', 'GRANT CONNECT, or ALTER DATABASE: see detail'),
    ('no_role', 'create the role, or alter_worker with another role'),
    ('no_login', 'ALTER ROLE ... LOGIN'),
    ('no_connection', 'end connections, or raise the CONNECTION LIMIT'),
    ('no_library', 'install the library, then restart_worker'),
    ('no_function', 'install the library''s version that has it'),
    ('fenced', 'end the DDL on its database: see pg_prepared_xacts'),
    ('start_timeout', 'see the server log, and supervisor.start_timeout'),
    ('no_heartbeat', 'see what it does: the server log, gdb'),
    ('exited', 'fix the cause; restart_worker tries at once')),

-- Pools that lack workers: why those do not run, by one of them.
lacking AS (
    SELECT p.pool, p.size, p.running, p.no_worker_since, w.*
    FROM pools p LEFT JOIN LATERAL (
        SELECT reason, why, min(state_since) OVER () AS since FROM workers
        WHERE pool = p.pool AND state NOT IN ('running', 'stuck') ORDER BY reason IS NULL, state_since DESC NULLS LAST LIMIT 1) w ON true
    WHERE p.no_worker_since < statement_timestamp() - interval '5 s'
       OR (p.running BETWEEN 1 AND p.size - 1 AND (w.reason IN ('no_background_worker_slot', 'no_slot', 'exited', 'start_timeout')
           OR w.since < statement_timestamp() - interval '5 s'))),

-- The oldest task in a queue that moves too slowly.
queues AS (
    SELECT p.pool, p.running, p.unbound + p.idle > 0 AS has_idle, count(*) AS n, min(t.submitted_at) AS since
    FROM pools p JOIN tasks t ON t.pool = p.pool AND t.state = 'queued'
    WHERE p.running > 0 GROUP BY p.pool, p.running, p.unbound, p.idle
    HAVING min(t.submitted_at) < statement_timestamp() - interval '1 min'),

-- What is wrong with a declared worker, if anything: its instances have one row.
troubles AS (
    SELECT *, CASE
               WHEN state = 'failed' THEN 'failed'
               WHEN state = 'waiting' AND reason IN ('no_background_worker_slot', 'no_slot') THEN 'place'
               WHEN state = 'waiting' AND reason NOT IN ('recovery', 'fenced') THEN 'lacks'
               WHEN state IN ('waiting', 'starting', 'stopping') AND reason IS DISTINCT FROM 'recovery'
                    AND state_since < statement_timestamp() - interval '1 min' THEN 'slow'
               -- a process that lasts has not failed yet, but is counted as one only when it ends
               WHEN state = 'backoff' OR (consecutive_failures > 0 AND (state = 'starting'
                    OR (state = 'running' AND state_since > statement_timestamp() - interval '1 min'))) THEN 'fails'
               WHEN state = 'running' AND state_since < statement_timestamp() - interval '1 min'
                    AND worked_at < statement_timestamp() - greatest(3 * run_every, interval '1 min') THEN 'overdue' END AS trouble
    FROM workers WHERE declared),
declared AS (
    SELECT trouble, name, home, min(reason) AS reason, min(why) AS why, min(worked_at) AS worked_at, min(state) AS state,
           min(last_error) AS last_error, min(run_every) AS run_every, max(consecutive_failures) AS failures, min(state_since) AS since,
           format('worker "%s"%s', name, ' in "' || home || '"') AS worker,
           -- as it can be pasted: a line that begins within it might be a command to psql
           CASE WHEN name !~ '[[:cntrl:]]' THEN quote_literal(name)
                ELSE (SELECT 'E''' || string_agg(CASE WHEN c ~ '[[:cntrl:]]' THEN '\u' || lpad(to_hex(ascii(c)), 4, '0')
                                                      ELSE replace(replace(c, '\', '\\'), '''', '''''') END, '' ORDER BY n) || ''''
                      FROM regexp_split_to_table(name::text, '') WITH ORDINALITY AS s (c, n)) END AS literal
    FROM troubles WHERE trouble IS NOT NULL GROUP BY trouble, name, home),

-- Jobs of this database that are due and wait: for a pool and a reason, as far as one is to be looked at.
due_jobs AS (
    SELECT pool, reason, min(usename) AS usename, min(run_at) AS since, CASE count(*) WHEN 1 THEN '1 job waits' ELSE count(*) || ' jobs wait' END AS n
    FROM jobs WHERE state = 'queued' GROUP BY pool, reason
    HAVING reason ~ '^(no_|not_|database_|paused)' OR (reason <> 'recovery' AND min(run_at) < statement_timestamp() - interval '1 min')),

found (severity, what, since, hint) AS (
    SELECT CASE WHEN state = 'away' AND since > statement_timestamp() - interval '5 s' THEN 'notice' ELSE 'critical' END,
           CASE state WHEN 'away' THEN 'the supervisor is away: nothing is started or replaced'
                      WHEN 'no place' THEN 'the supervisor does not run: it found no background worker slot'
                      ELSE 'the library supervisor is not preloaded: all calls fail' END,
           coalesce(since, pg_postmaster_start_time()),
           CASE state WHEN 'away' THEN 'wait: it is started again; else see the server log'
                      WHEN 'no place' THEN 'raise max_worker_processes, and restart the server'
                      ELSE 'add it to shared_preload_libraries, and restart' END
    FROM server WHERE state <> 'running'
    UNION ALL
    SELECT 'warning', format('the declared workers of database "%s" cannot be read', d), NULL, 'see "loader failed" in supervisor.event'
    FROM server, unnest(unread_databases) d
    UNION ALL
    SELECT 'notice', 'declared workers do not run: supervisor.start_workers is off', NULL, 'set it on, and reload'
    WHERE current_setting('supervisor.start_workers', true) = 'off' AND EXISTS (SELECT FROM workers WHERE declared)
    UNION ALL
    SELECT CASE WHEN running > 0 THEN 'warning' ELSE 'critical' END,
           format('pool "%s" has %s of %s workers: %s', pool, running, size, coalesce(why, 'no reason is known')),
           coalesce(no_worker_since, since), coalesce(h.hint, 'see its workers in worker_status, and the server log')
    FROM lacking l LEFT JOIN hints h USING (reason)
    UNION ALL
    SELECT CASE WHEN since < statement_timestamp() - interval '5 min' THEN 'warning' ELSE 'notice' END,
           format(CASE WHEN has_idle THEN '%s tasks wait in pool "%s", though some workers are idle'
                       ELSE '%s tasks wait in pool "%s": all %s workers are busy' END, n, pool, running),
           since, CASE WHEN has_idle THEN 'see task_status: a role is held back, or a database is'
                         ELSE 'cancel what takes long, or make the pool larger' END
    FROM queues
    UNION ALL
    SELECT 'notice', format('pool "%s" is for role "%s", which does not exist', pool, m), NULL,
           'create the role, or change supervisor.pools'
    FROM pools, unnest(members) m WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = m)
    UNION ALL
    SELECT CASE WHEN declared THEN 'critical' ELSE 'warning' END,
           format('process %s of %s "%s" does not end: %s', pid, CASE WHEN declared THEN 'worker' ELSE 'pool' END, name, why),
           state_since, CASE WHEN blocker = 0 THEN 'end the prepared transaction that it waits for'
                             WHEN blocker > 0 THEN format('end the transaction of process %s, which it waits for', blocker)
                             ELSE format('see where it hangs: gdb -p %s -batch -ex bt', pid) END
    FROM workers, LATERAL (SELECT (pg_blocking_pids(pid))[1]) b (blocker) WHERE state = 'stuck'
    UNION ALL
    SELECT 'critical', format('%s is given up: %s', worker, coalesce(last_error, why)), since,
           CASE reason WHEN 'invalid' THEN 'fix its row: supervisor.alter_worker'
                       ELSE format('fix the cause, then supervisor.start_worker(%s)', literal) END
    FROM declared WHERE trouble = 'failed'
    UNION ALL
    SELECT 'warning', format('%s waiting for a place: %s', CASE count(*) WHEN 1 THEN '1 worker is' ELSE count(*) || ' workers are' END,
           string_agg(name, ', ' ORDER BY since, name)), min(since), h.hint
    FROM declared JOIN hints h USING (reason) WHERE trouble = 'place' GROUP BY h.hint
    UNION ALL
    SELECT 'warning', format('%s waits: %s', worker, why), since, coalesce(h.hint, 'see worker_status')
    FROM declared LEFT JOIN hints h USING (reason) WHERE trouble = 'lacks'
    UNION ALL
    SELECT 'notice', format('%s is %s for long: %s', worker, state, why), since, coalesce(h.hint, 'see the server log')
    FROM declared LEFT JOIN hints h USING (reason) WHERE trouble = 'slow'
    UNION ALL
    SELECT CASE WHEN failures < 3 THEN 'notice' ELSE 'warning' END,
           format('%s has failed %s: %s', worker, CASE WHEN failures < 2 THEN 'once' ELSE failures || ' times in a row' END,
                  coalesce(last_error, why)),
           worked_at, coalesce(h.hint, 'fix the cause; restart_worker tries at once')
    FROM declared LEFT JOIN hints h USING (reason) WHERE trouble = 'fails'
    UNION ALL
    SELECT 'warning', format('%s should succeed every %s, and has not', worker, run_every), worked_at,
           'see what its run waits for in pg_stat_activity'
    FROM declared WHERE trouble = 'overdue'
    UNION ALL
    SELECT 'critical', format('job %s has crashed the server too often: it is given up', job), last_finished_at,
           format('fix what it calls, then supervisor.retry_job(%s)', job)
    FROM jobs WHERE state = 'failed' AND reason = 'crashed'
    UNION ALL
    SELECT 'warning', format('%s failed, the last with %s%s', CASE count(*) WHEN 1 THEN '1 job has' ELSE count(*) || ' jobs have' END,
               (array_agg(last_sqlstate ORDER BY last_finished_at DESC NULLS LAST))[1],
               ': ' || (array_agg(last_error ORDER BY last_finished_at DESC NULLS LAST))[1]), min(last_finished_at),
           'see job_status, then retry_job or cancel_job each'
    FROM jobs WHERE state = 'failed' AND reason <> 'crashed' HAVING count(*) > 0
    UNION ALL
    SELECT 'warning', format('%s failed the last time, %s %s%s',
               CASE count(*) WHEN 1 THEN '1 recurring job has' ELSE count(*) || ' recurring jobs have' END, CASE count(*) WHEN 1 THEN 'with' ELSE 'one with' END,
               (array_agg(last_sqlstate ORDER BY last_finished_at DESC NULLS LAST))[1],
               ': ' || (array_agg(last_error ORDER BY last_finished_at DESC NULLS LAST))[1]), min(last_finished_at),
           'see job_status and job_run, then fix the cause'
    FROM jobs WHERE state <> 'failed' AND reason IS DISTINCT FROM 'copied' AND schedule IS NOT NULL AND enabled AND last_state = 'failed' HAVING count(*) > 0
    UNION ALL
    SELECT 'notice', format('%s from elsewhere', CASE count(*) WHEN 1 THEN '1 job is a copy' ELSE count(*) || ' jobs are copies' END), NULL,
           'cancel what must not run here, then supervisor.adopt_jobs()'
    FROM jobs WHERE reason = 'copied' HAVING count(*) > 0
    UNION ALL
    SELECT 'notice', 'no job is run: supervisor.run_jobs is off', min(since), 'set it on, and reload'
    FROM due_jobs WHERE reason = 'paused' AND current_setting('supervisor.run_jobs', true) = 'off' HAVING count(*) > 0
    UNION ALL
    SELECT CASE WHEN reason = 'paused' OR (reason IN ('busy', 'key', 'backoff') AND since > statement_timestamp() - interval '5 min')
                THEN 'notice' ELSE 'warning' END,
           format('%s in pool "%s": %s', n, pool, format(coalesce(words, 'the pool is of size 0'), usename)), since,
           coalesce(hint, 'make it larger in supervisor.pools')
    FROM due_jobs LEFT JOIN job_hints USING (reason)
    WHERE words IS NOT NULL OR current_setting('supervisor.run_jobs', true) = 'on'
    UNION ALL
    SELECT CASE WHEN tasks < max_tasks THEN 'warning' ELSE 'critical' END, format('%s of %s tasks are taken', tasks, max_tasks), NULL,
           'read or forget tasks, or raise supervisor.max_tasks (restart)'
    FROM server WHERE tasks >= 0.9 * max_tasks
    UNION ALL
    SELECT 'warning', format('role "%s" has %s of the %s tasks that it may have', usename, count(*), max_tasks / 2), NULL,
           'have it read or forget tasks, or raise supervisor.max_tasks'
    FROM tasks t JOIN pg_roles r ON r.rolname = t.usename AND NOT r.rolsuper, server
    GROUP BY usename, max_tasks HAVING count(*) >= 0.9 * (max_tasks / 2)
    UNION ALL
    SELECT 'warning', format('%s of %s of supervisor.shared_memory are taken', pg_size_pretty(memory_used), pg_size_pretty(memory)), NULL,
           'read or forget tasks, or raise it (restart)'
    FROM server WHERE memory_used >= 0.9 * memory)

-- One line for each in psql, whatever a message has in it.
SELECT severity, CASE WHEN length(line) > 80 THEN left(line, 77) || '...' ELSE line END, date_trunc('second', since), hint
FROM found, LATERAL (SELECT regexp_replace(what, '[[:cntrl:]]+', ' ', 'g') AS line) l
ORDER BY array_position(ARRAY['critical', 'warning', 'notice'], severity), since NULLS LAST, what
$$;

COMMENT ON FUNCTION supervisor.health() IS
'what a person should look at, the worst first: critical, warning or notice; what it is; since when, NULL if that is not known; and what can be done. No row: all is well. Also where the library is not preloaded, or the supervisor is away. Details are hidden as pg_stat_activity hides a query';

--
-- Who may do what.  Nobody but the owner has more than is granted here: not
-- what core gives to PUBLIC, nor what the default privileges give to anybody.
--

DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', o.what,
                   CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END)
        FROM (SELECT 'SCHEMA supervisor', n.nspacl
              FROM pg_catalog.pg_namespace n WHERE n.nspname = 'supervisor'
              UNION ALL
              SELECT pg_catalog.format('TABLE %s', c.oid::regclass), c.relacl
              FROM pg_catalog.pg_class c WHERE c.relnamespace = 'supervisor'::regnamespace
              UNION ALL
              SELECT pg_catalog.format('ROUTINE %s', p.oid::regprocedure), coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
              FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'supervisor'::regnamespace) o (what, acl),
             LATERAL pg_catalog.aclexplode(o.acl) a
             LEFT JOIN pg_catalog.pg_authid r ON r.oid = a.grantee
        WHERE a.grantee <> a.grantor
    LOOP
        EXECUTE command;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA supervisor TO PUBLIC;
GRANT SELECT ON supervisor.worker, supervisor.worker_status, supervisor.pool_status, supervisor.task_status, supervisor.event, supervisor.server_status, supervisor.job_status, supervisor.job_run TO PUBLIC;
GRANT EXECUTE ON FUNCTION supervisor.get_workers(), supervisor.get_pools(), supervisor.get_tasks(), supervisor.get_events(), supervisor.get_server(), supervisor.health() TO PUBLIC;
-- pg_dump reads them, and the owner could have any role do what he likes here.
GRANT SELECT ON supervisor.job, supervisor.job_id_seq TO pg_database_owner;
GRANT EXECUTE ON FUNCTION supervisor.current_job(), supervisor.may_see(oid), supervisor.job_origin(), supervisor.get_job_runs(), supervisor.why_job_waits(oid, text, boolean) TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    supervisor.cancel(bigint),
    supervisor.cancel_job(bigint),
    supervisor.retry_job(bigint),
    supervisor.alter_job(bigint, timestamptz, text, integer, boolean),
    supervisor.restart_worker(integer, interval, bigint),
    supervisor.terminate_worker(integer, interval, bigint),
    supervisor.restart_pool(text, interval)
TO pg_signal_backend;
