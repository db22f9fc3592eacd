import { once } from 'node:events';
import test from 'ava';
import { Counter, Gauge, Registry } from 'prom-client';
import { ClusterMetrics } from '../../src/metrics/cluster.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { createExposition } from '../../src/metrics/server.ts';
import type { MetricJson, SnapshotMessage } from '../../src/metrics/snapshot.ts';
import { createPool, cumulative, valueOf } from './pool.ts';

const FRAMES = 'roboflow_frames_processed_total';

/** Fails when a cumulative series of an earlier scrape is gone or smaller. */
function falls(before: string, after: string): string[] {
  const later = cumulative(after);
  return [...cumulative(before)]
    .filter(([series, value]) => (later.get(series) ?? -1) < value)
    .map(([series, value]) => `${series}: ${value} → ${later.get(series)}`);
}

test('a scrape is the sum of all workers and the primary at the moment it was asked for', async (t) => {
  const pool = createPool(t);
  const workers = await Promise.all([pool.fork(0), pool.fork(1), pool.fork(2)]);
  await Promise.all(workers.map((worker) => pool.order(worker, { do: 'count', frames: 1000 })));
  pool.metrics.conversion.framesProcessed.inc(5);
  const text = await pool.text();
  t.is(valueOf(text, FRAMES), 3005);
  t.is(valueOf(text, 'roboflow_cluster_workers'), 3);
  t.is(valueOf(text, 'roboflow_cluster_workers_missing'), 0);
  t.is(valueOf(text, 'roboflow_cluster_aggregation_errors_total'), 0);
  t.truthy(valueOf(text, 'roboflow_worker_resident_memory_bytes{worker="2"}'));
});

test('the counts of a worker killed with -9 in the middle of a scrape stay, its gauges go', async (t) => {
  const pool = createPool(t);
  const [first, second] = await Promise.all([pool.fork(0), pool.fork(1)]);
  for (const worker of [first, second]) {
    await pool.order(worker, { do: 'count', frames: 1000, datasets: ['a'] });
    await pool.order(worker, { do: 'observe', seconds: 15 });
  }
  const before = await pool.text();
  const [during] = await Promise.all([pool.text(), pool.kill(second)]);
  const after = await pool.text();
  for (const text of [before, during, after]) t.is(valueOf(text, FRAMES), 2000);
  t.deepEqual(falls(before, during), []);
  t.deepEqual(falls(during, after), []);
  t.is(valueOf(after, 'roboflow_episode_processing_duration_seconds_count'), 2);
  t.is(valueOf(after, 'roboflow_episode_processing_duration_seconds_bucket{le="20"}'), 2);
  t.is(valueOf(after, 'roboflow_episode_processing_duration_seconds_bucket{le="10"}'), 0);
  t.is(valueOf(after, 'roboflow_worker_resident_memory_bytes{worker="1"}'), undefined);
  t.is(valueOf(after, 'roboflow_cluster_workers'), 1);
  t.is(valueOf(after, 'roboflow_last_success_timestamp_seconds'), 1015);
});

test('the time of the last success outlives the worker that had it', async (t) => {
  const pool = createPool(t);
  const worker = await pool.fork();
  await pool.order(worker, { do: 'observe', seconds: 15 });
  await pool.text();
  await pool.kill(worker);
  t.is(valueOf(await pool.text(), 'roboflow_last_success_timestamp_seconds'), 1015);
});

test('a worker that leaves in order loses nothing, also what it counted last', async (t) => {
  const pool = createPool(t);
  const worker = await pool.fork();
  await pool.order(worker, { do: 'count', frames: 1000 });
  const gone = once(worker, 'disconnect');
  pool.shout(worker, { do: 'leave' });
  await gone;
  if (!worker.isDead()) await once(worker, 'exit');
  await new Promise((resolve) => setImmediate(resolve));
  t.is(valueOf(await pool.text(), FRAMES), 1007);
});

test('crash loops keep an exact count', async (t) => {
  const pool = createPool(t);
  const before = await pool.fork(0);
  await pool.order(before, { do: 'count', frames: 4007 });
  let last = await pool.text();
  for (let crash = 0; crash < 6; crash += 1) {
    const worker = await pool.fork(1);
    await pool.order(worker, { do: 'count', frames: 1000, datasets: ['a'] });
    await pool.order(worker, { do: 'flush' });
    await pool.kill(worker);
    const text = await pool.text();
    t.deepEqual(falls(last, text), []);
    last = text;
  }
  t.is(valueOf(last, FRAMES), 10_007);
  t.is(valueOf(last, 'roboflow_episodes_processed_total{dataset_id="a",status="completed"}'), 6);
  t.is(valueOf(last, 'roboflow_episodes_processed_total{dataset_id="a",status="failed"}'), 0);
});

test('a blocked worker costs the deadline, is named missing, and its last counts are served', async (t) => {
  const pool = createPool(t, { deadlineMs: 1000 });
  const [busy, free] = await Promise.all([pool.fork(0), pool.fork(1)]);
  await pool.order(busy, { do: 'count', frames: 1000 });
  await pool.order(free, { do: 'count', frames: 1000 });
  await pool.text();
  await pool.order(busy, { do: 'block', ms: 4000 });
  await pool.order(free, { do: 'count', frames: 1 });
  const start = performance.now();
  const texts = await Promise.all([pool.text(), pool.text(), pool.text()]);
  const took = performance.now() - start;
  t.true(took > 900 && took < 2500, `three scrapes at once took ${took} ms`);
  for (const text of texts) {
    t.is(valueOf(text, FRAMES), 2001);
    t.is(valueOf(text, 'roboflow_cluster_workers_missing'), 1);
    t.true((valueOf(text, 'roboflow_cluster_snapshot_age_seconds_max') ?? 0) > 0.2);
  }
  await pool.order(busy, { do: 'count', frames: 1 });
  const after = await pool.text();
  t.is(valueOf(after, FRAMES), 2002);
  t.is(valueOf(after, 'roboflow_cluster_workers_missing'), 0);
});

test('a stopped worker does not hold up a scrape, and killing it then keeps its counts', async (t) => {
  const pool = createPool(t, { deadlineMs: 200 });
  const worker = await pool.fork();
  await pool.order(worker, { do: 'count', frames: 10 });
  await pool.text();
  worker.process.kill('SIGSTOP');
  const text = await pool.text();
  t.is(valueOf(text, FRAMES), 10);
  t.is(valueOf(text, 'roboflow_cluster_workers_missing'), 1);
  await pool.kill(worker);
  t.is(valueOf(await pool.text(), FRAMES), 10);
});

test('what is carried by a flush arrives in the message that has the counts, and only once', async (t) => {
  const pool = createPool(t);
  const worker = await pool.fork();
  const told: object[] = [];
  worker.on('message', (message: SnapshotMessage) => {
    if (message.type !== 'roboflow:metrics') return;
    const frames = (message.metrics as MetricJson[]).find(({ name }) => name === FRAMES)?.values[0]?.value;
    told.push({ frames, same: message.unchanged.includes(FRAMES), carry: message.carry ?? [] });
  });
  await pool.order(worker, { do: 'end-job', frames: 7 });
  await pool.order(worker, { do: 'flush' });
  t.deepEqual(told, [
    { frames: 7, same: false, carry: [{ ended: 7 }] },
    { frames: undefined, same: true, carry: [] },
  ]);
});

test('whenever a worker is killed, the jobs it counted are the jobs it said it had counted', async (t) => {
  const pool = createPool(t);
  let said = 0;
  for (let life = 0; life < 8; life += 1) {
    const worker = await pool.fork();
    const enough = said + 7;
    const busy = new Promise<void>((resolve) => {
      worker.on('message', (message: { carry?: unknown[] }) => {
        said += message.carry?.length ?? 0;
        if (said >= enough) resolve();
      });
    });
    await pool.order(worker, { do: 'end-jobs' });
    await busy;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 10));
    await pool.kill(worker);
    const text = await pool.text();
    t.is(valueOf(text, FRAMES), said);
    t.is(valueOf(text, 'roboflow_episode_processing_duration_seconds_count'), said);
    t.is(valueOf(text, 'roboflow_job_attempts_total{outcome="completed"}'), said);
  }
  t.true(said > 50, `${said} jobs`);
});

test('what cannot be read in a worker is counted and leaves the rest alone', async (t) => {
  const pool = createPool(t);
  const worker = await pool.fork();
  await pool.order(worker, { do: 'count', frames: 10 });
  await pool.order(worker, { do: 'bad-gauge' });
  await pool.order(worker, { do: 'no-aggregator' });
  const text = await pool.text();
  t.is(valueOf(text, FRAMES), 10);
  t.is(valueOf(text, 'bad_gauge{kind="fine"}'), 7);
  t.is(valueOf(text, 'bad_gauge{kind="nan"}'), undefined);
  t.is(valueOf(text, 'bad_gauge{kind="infinite"}'), undefined);
  t.is(valueOf(text, 'orphan_gauge'), 3);
  t.is(valueOf(text, 'roboflow_cluster_aggregation_errors_total'), 3);
});

test('a counter whose collect begins to throw keeps its value, in a worker and in the primary', async (t) => {
  const pool = createPool(t);
  const worker = await pool.fork();
  await pool.order(worker, { do: 'bad-collect' });
  t.is(valueOf(await pool.text(), 'fragile_total'), 5);
  await pool.order(worker, { do: 'break' });
  await pool.order(worker, { do: 'count', frames: 3 });
  const text = await pool.text();
  t.is(valueOf(text, 'fragile_total'), 5);
  t.is(valueOf(text, FRAMES), 3);
  t.is(valueOf(text, 'roboflow_cluster_aggregation_errors_total'), 1);

  const registry = new Registry();
  let broken = false;
  const counter = new Counter({
    name: 'fragile_total',
    help: 'x',
    registers: [registry],
    collect() {
      if (broken) throw new Error('collect failed');
    },
  });
  counter.inc(5);
  const exposition = createExposition(new ClusterMetrics({ registry, cacheMs: 0 }));
  await exposition.scrape('');
  broken = true;
  const first = (await exposition.scrape('')).body;
  t.is(valueOf(first, 'fragile_total'), 5);
  t.is(valueOf(first, 'roboflow_cluster_workers'), 0);
  t.is(valueOf(first, 'roboflow_cluster_aggregation_errors_total'), 1);
});

/** A peer under the test's own hand, for what real processes cannot be made to do at will. */
function puppet(id: number) {
  let tell: (message: unknown) => void = () => undefined;
  let leave: () => void = () => undefined;
  const requests: unknown[] = [];
  return {
    peer: {
      id,
      send: (message: unknown) => void requests.push(message),
      onMessage: (listener: (message: unknown) => void) => void (tell = listener),
      onExit: (listener: () => void) => void (leave = listener),
    },
    requests,
    tell: (frames: number, answers: number) => {
      const value = { value: frames, labels: {} };
      const metric = { name: FRAMES, help: 'x', type: 'counter', aggregator: 'sum', values: [value] };
      tell({ type: 'roboflow:metrics', answers, metrics: [metric], unchanged: [], failed: [] });
    },
    raw: (message: unknown) => tell(message),
    leave: () => leave(),
  };
}

test('a snapshot that arrives after its worker was taken over is dropped, not doubled', async (t) => {
  const merge = new ClusterMetrics({ registry: new Registry(), cacheMs: 0, deadlineMs: 50 });
  const worker = puppet(1);
  merge.add(worker.peer);
  worker.tell(10, 0);
  worker.leave();
  worker.tell(12, 0);
  const { body } = await createExposition(merge).scrape('');
  t.is(valueOf(body, FRAMES), 10);
});

test('an answer taken before the question does not count as its answer', async (t) => {
  const merge = new ClusterMetrics({ registry: new Registry(), cacheMs: 0, deadlineMs: 2000 });
  const worker = puppet(1);
  merge.add(worker.peer);
  worker.tell(10, 0);
  const scrape = createExposition(merge).scrape('');
  worker.tell(11, 0);
  worker.tell(12, 1);
  t.is(valueOf((await scrape).body, FRAMES), 12);
});

test('messages that are no snapshots, or broken ones, change nothing', async (t) => {
  const merge = new ClusterMetrics({ registry: new Registry(), cacheMs: 0, deadlineMs: 50 });
  const worker = puppet(1);
  merge.add(worker.peer);
  worker.tell(10, 0);
  for (const message of [
    null,
    undefined,
    3,
    'x',
    {},
    { type: 'roboflow:metrics' },
    { type: 'job:started' },
  ]) {
    worker.raw(message);
  }
  const metrics = [null, 7, { name: 'x' }];
  worker.raw({ type: 'roboflow:metrics', answers: 0, metrics, unchanged: [], failed: [FRAMES] });
  const { body } = await createExposition(merge).scrape('');
  t.is(valueOf(body, FRAMES), 10);
  t.is(valueOf(body, 'roboflow_cluster_aggregation_errors_total'), 4);
});

test('OpenMetrics shows with a bucket the newest job it counted, also of a dead worker; the other format does not', async (t) => {
  const pool = createPool(t);
  const [first, second] = [await pool.fork(0), await pool.fork(1)];
  await pool.order(first, { do: 'observe', seconds: 15, job: 'run-1-a' });
  await pool.order(second, { do: 'observe', seconds: 4, job: 'run-1-b' });
  await pool.order(second, { do: 'observe', seconds: 3, job: 'run-1-c' });
  await pool.order(first, { do: 'flush' });
  await pool.kill(first);
  const buckets = (await pool.text('application/openmetrics-text;version=1.0.0'))
    .split('\n')
    .filter(
      (line) => line.startsWith('roboflow_episode_processing_duration_seconds_bucket') && line.includes('#'),
    );
  t.deepEqual(
    buckets.map((line) => / # (\{.*\} \d+) [\d.e+]+$/.exec(line)?.[1]),
    ['{job_id="run-1-c"} 3', '{job_id="run-1-a"} 15'],
  );
  t.false((await pool.text()).includes(' # '));
});

test('many deaths leave a base of one part, and the sum is exact while it is folded', async (t) => {
  const merge = new ClusterMetrics({ registry: new Registry(), cacheMs: 0, deadlineMs: 50 });
  const exposition = createExposition(merge);
  let expected = 0;
  for (let id = 1; id <= 200; id += 1) {
    const worker = puppet(id);
    merge.add(worker.peer);
    worker.tell(id, 0);
    worker.leave();
    expected += id;
    if (id % 20 === 0) t.is(valueOf((await exposition.scrape('')).body, FRAMES), expected);
  }
  t.is(valueOf((await exposition.scrape('')).body, FRAMES), 20_100);
});

test('fractions added up in another order after a death do not fall by a digit', async (t) => {
  const merge = new ClusterMetrics({ registry: new Registry(), cacheMs: 0, deadlineMs: 1 });
  const exposition = createExposition(merge);
  const amounts = [0.1, 0.2, 0.3, 1e9 / 7, 1e-7, 0.7, 1 / 3, 2 / 3, 1e5 / 3];
  const workers = amounts.map((amount, index) => ({ ...puppet(index), amount }));
  for (const worker of workers) {
    merge.add(worker.peer);
    worker.tell(worker.amount, 0);
  }
  let before = valueOf((await exposition.scrape('')).body, FRAMES) ?? Infinity;
  for (const worker of workers.toReversed()) {
    worker.leave();
    const { body } = await exposition.scrape('');
    const after = valueOf(body, FRAMES) ?? 0;
    t.true(after >= before, `${before} fell to ${after}`);
    t.is(valueOf(body, 'roboflow_cluster_aggregation_errors_total'), 0);
    before = after;
  }
  t.true(Math.abs(before - amounts.reduce((sum, amount) => sum + amount, 0)) < 1e-6);
});

test('answers within the cache time are one and the same pass', async (t) => {
  const registry = new Registry();
  const merge = new ClusterMetrics({ registry, cacheMs: 60_000 });
  const gauge = new Gauge({ name: 'one', help: 'x', registers: [registry] });
  const exposition = createExposition(merge);
  const first = await exposition.scrape('');
  gauge.set(1);
  t.is((await exposition.scrape('')).body, first.body);
});

test('an API-only pod shows every metric of work at 0', async (t) => {
  const registry = new Registry();
  createMetrics(registry);
  const { body, contentType } = await createExposition(new ClusterMetrics({ registry })).scrape('');
  t.is(contentType, 'text/plain; version=0.0.4; charset=utf-8');
  t.is(valueOf(body, FRAMES), 0);
  t.is(valueOf(body, 'roboflow_upload_retries_total{reason="throttled"}'), 0);
  t.is(valueOf(body, 'roboflow_cluster_workers'), 0);
});
