// Other queues, measured by bench/measure; the modules are below the current directory.
//
//   node peers.mjs versions
//   node peers.mjs graphile|graphile-local CONNECTION JOBS CONCURRENCY    jobs/s
//   node peers.mjs graphile-start CONNECTION JOBS                         median, in microseconds
//   node peers.mjs boss CONNECTION JOBS BATCH                             jobs/s
//
// Each job is one INSERT.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

const require = createRequire(process.cwd() + '/');
const [what, connection, jobs, width] = process.argv.slice(2);
const insert = 'INSERT INTO bench_out VALUES (1)';
const now = () => (performance.timeOrigin + performance.now()) * 1000;
const quiet = () => {};

async function graphile(local) {
  const { run, makeWorkerUtils, Logger } = require('graphile-worker');
  const pg = require('pg');
  const logger = new Logger(() => quiet);
  const utils = await makeWorkerUtils({ connectionString: connection, logger });
  const started = [];
  let done = 0, first, last, finish;
  const all = new Promise((resolve) => (finish = resolve));
  const starts = what === 'graphile-start';
  const n = Number(jobs);

  await utils.migrate();
  await utils.withPgClient((c) => c.query('DELETE FROM graphile_worker._private_jobs'));
  const add = 'SELECT graphile_worker.add_job(\'insert\', \'{}\') FROM generate_series(1, $1)';
  if (!starts) await utils.withPgClient((c) => c.query(add, [n]));
  const runner = await run({
    preset: {
      worker: {
        connectionString: connection, concurrentJobs: Number(width ?? 1), maxPoolSize: Number(width ?? 1) + 3,
        pollInterval: 60000, ...(local ? { localQueue: { size: 500 } } : {}),
      },
    },
    logger, noHandleSignals: true,
    taskList: {
      insert: async (payload, helpers) => {
        const at = now();
        first ??= at;
        if (starts) started.push([helpers.job.id, at]);
        await helpers.query(insert);
        last = now();
        if (++done === n) finish();
      },
    },
  });
  const committing = new Map();
  if (starts) {
    const client = new pg.Client(connection);
    await client.connect();
    await sleep(1000);
    for (let i = 0; i < n; i++) {
      const { rows } = await client.query(
        "SELECT id, extract(epoch FROM clock_timestamp()) * 1e6 AS at FROM graphile_worker.add_job('insert', '{}')");
      committing.set(rows[0].id, Number(rows[0].at));
      await sleep(20);
    }
    await client.end();
  }
  await all;
  await runner.stop();
  await utils.release();
  const late = started.map(([id, at]) => at - committing.get(id)).sort((a, b) => a - b);
  console.log(starts ? late[n >> 1] : n / (last - first) * 1e6);
}

async function boss() {
  const PgBoss = require('pg-boss');
  const pg = require('pg');
  const n = Number(jobs), batchSize = Number(width);
  const queue = new PgBoss({ connectionString: connection, supervise: false, schedule: false, migrate: true });
  const pool = new pg.Pool({ connectionString: connection, max: 10 });

  await queue.start();
  await queue.createQueue('bench');
  await queue.purgeQueue('bench');
  await queue.insert(Array.from({ length: n }, () => ({ name: 'bench', data: {} })));
  const begin = now();
  for (let done = 0; done < n;) {
    const fetched = await queue.fetch('bench', { batchSize });
    await Promise.all(fetched.map(() => pool.query(insert)));
    await queue.complete('bench', fetched.map((job) => job.id));
    done += fetched.length;
  }
  console.log(n / (now() - begin) * 1e6);
  await pool.end();
  await queue.stop({ graceful: false });
}

function version(name) {
  try {
    return JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
  } catch {
    return '';
  }
}

if (what === 'versions') console.log([version('graphile-worker'), version('pg-boss'), process.version].join(' '));
else if (what === 'boss') await boss();
else await graphile(what === 'graphile-local');
process.exit(0);
