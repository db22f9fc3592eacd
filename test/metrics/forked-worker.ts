// A worker process for the tests of the merge: counts what it is told to, and misbehaves on request.
import { Counter, Gauge, Registry } from 'prom-client';
import { createMetrics, createWorkerMetrics } from '../../src/metrics/index.ts';
import { startSnapshots } from '../../src/metrics/snapshot-push.ts';

/** What a test may ask; each order but `block` and `die` is answered by its `id` when it is done. */
export type Order = { readonly id: number } & (
  | { readonly do: 'count'; readonly frames: number; readonly datasets?: readonly string[] }
  | { readonly do: 'end-job'; readonly frames: number }
  | { readonly do: 'end-jobs' }
  | { readonly do: 'observe'; readonly seconds: number; readonly job?: string }
  | { readonly do: 'work'; readonly datasets: number; readonly cameras: number }
  | { readonly do: 'block'; readonly ms: number }
  | { readonly do: 'bad-gauge' | 'bad-collect' | 'no-aggregator' | 'break' | 'flush' | 'leave' | 'die' }
);

const registry = new Registry();
const metrics = createMetrics(registry);
const own = createWorkerMetrics(registry, Number(process.env['SLOT'] ?? 0));
const snapshots = startSnapshots(registry, process, {
  intervalMs: Number(process.env['INTERVAL_MS'] ?? 60_000),
  refresh: () => own.slot.refresh(),
});
let broken = false;

async function obey(order: Order): Promise<void> {
  if (order.do === 'count') {
    metrics.conversion.framesProcessed.inc(order.frames);
    for (const dataset of order.datasets ?? []) {
      metrics.conversion.expectDataset(dataset);
      metrics.conversion.episodesProcessed.inc({ dataset_id: dataset, status: 'completed' });
    }
  } else if (order.do === 'end-job') {
    metrics.conversion.framesProcessed.inc(order.frames);
    await snapshots.flush({ ended: order.frames });
  } else if (order.do === 'end-jobs') {
    endJobs();
  } else if (order.do === 'observe') {
    metrics.conversion.observeEpisode(order.seconds, order.job ?? 'run-1');
    metrics.conversion.lastSuccess.set(1000 + order.seconds);
  } else if (order.do === 'work') {
    work(order.datasets, order.cameras);
  } else if (order.do === 'block') {
    const end = Date.now() + order.ms;
    while (Date.now() < end);
  } else if (order.do === 'bad-gauge') {
    const gauge = new Gauge({ name: 'bad_gauge', help: 'x', labelNames: ['kind'], registers: [registry] });
    gauge.set({ kind: 'nan' }, Number.NaN);
    gauge.set({ kind: 'infinite' }, Number.POSITIVE_INFINITY);
    gauge.set({ kind: 'fine' }, 7);
  } else if (order.do === 'bad-collect') {
    const counter = new Counter({
      name: 'fragile_total',
      help: 'x',
      registers: [registry],
      collect() {
        if (broken) throw new Error('collect failed');
      },
    });
    counter.inc(5);
  } else if (order.do === 'no-aggregator') {
    const gauge = new Gauge({ name: 'orphan_gauge', help: 'x', registers: [registry] });
    gauge.set(3);
    Object.assign(gauge, { aggregator: undefined });
  } else if (order.do === 'break') {
    broken = true;
  } else if (order.do === 'flush') {
    await snapshots.flush();
  } else if (order.do === 'leave') {
    metrics.conversion.framesProcessed.inc(7);
    await snapshots.stop();
    process.exit(0);
  } else {
    process.kill(process.pid, 'SIGKILL');
  }
}

/** Ends one job after the other, as fast as the loop turns, some of them between two microtasks. */
function endJobs(): void {
  metrics.conversion.framesProcessed.inc(1);
  metrics.conversion.observeEpisode(1, 'run-1');
  metrics.job.attempts.inc({ outcome: 'completed' });
  void snapshots.flush({ ended: 1 });
  if (Math.random() < 0.5) setImmediate(endJobs);
  else setTimeout(() => void Promise.resolve().then(endJobs), Math.random() * 3);
}

/** Counts as a worker in the middle of its jobs does, ten times a second, for as long as it lives. */
function work(datasets: number, cameras: number): void {
  for (let id = 0; id < datasets; id += 1) metrics.conversion.expectDataset(`dataset-${id}`);
  const stages = ['plan', 'convert', 'verify', 'upload'] as const;
  let turn = 0;
  setInterval(() => {
    turn += 1;
    metrics.conversion.framesProcessed.inc(30);
    metrics.storage.bytesRead.inc({ source: 's3' }, 1_000_000);
    metrics.video.framesEncoded.inc({ camera: `cam-${turn % cameras}` }, 30);
    metrics.conversion.episodesProcessed.inc({
      dataset_id: `dataset-${turn % datasets}`,
      status: 'completed',
    });
    metrics.conversion.stageDuration.observe({ stage: stages[turn % 4] ?? 'plan' }, turn % 60);
    metrics.resources.bufferUsage.set(turn);
  }, 100);
}

process.on('message', (order: Order) => {
  if (typeof order.id !== 'number') return;
  if (order.do === 'block') process.send?.({ done: order.id });
  void obey(order).then(() => {
    if (order.do !== 'block') process.send?.({ done: order.id });
  });
});
