import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { Registry } from 'prom-client';
import { createMetrics } from '../../src/metrics/index.ts';
import { Consumer } from '../../src/queue/consumer.ts';
import { Producer } from '../../src/queue/producer.ts';
import { openStorage } from '../../src/storage/open.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { config, silent } from '../queue/rig.ts';

/** What planning N recordings costs: seconds, and the longest time Redis kept another client waiting. */
export type PlanningRow = {
  readonly episodes: number;
  readonly enqueueSeconds: number;
  readonly planSeconds: number;
  readonly longestStallMs: number;
  readonly statusMs: number;
  /** Memory of Redis for each planned episode. */
  readonly redisBytesEach: number;
};

/** Enqueues and plans `episodes` recordings on a Redis of its own, with a second process pinging it all the while. */
export async function benchPlanning(episodes: number): Promise<PlanningRow> {
  const redis = await PrivateRedis.start();
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  const metrics = createMetrics(new Registry());
  const openOutput = (url: string) => openStorage(url, { metrics: metrics.storage, role: 'destination' });
  const output = `file://${folder}/out`;
  const common = { redis: { url: redis.url }, prefix: '{bench}', log: silent, openOutput };
  const producer = new Producer({
    ...common,
    checkSource: (url) => url,
    checkPrefix: (url) => url,
    checkOutput: (url) => url,
  });
  const pinger = fork(fileURLToPath(import.meta.url), ['ping', redis.url]);
  await once(pinger, 'message');
  try {
    const recordings = Array.from({ length: episodes }, (_, i) => ({
      source: `s3://raw/run/episode_${i}.mcap`,
    }));
    const request = { datasetId: 'bench', output, config, recordings, options: { priority: 0 } };
    const before = await usedMemory(redis.url);
    const started = performance.now();
    await producer.enqueueDataset(request);
    const enqueued = performance.now();
    // Only planning is measured: the one episode that is taken waits until it is handed back.
    const consumer = new Consumer({
      ...common,
      name: 'bench',
      lockDurationMs: 120_000,
      stalledIntervalMs: 30_000,
      defaultAttempts: 4,
      convert: async (_request, { signal }) => {
        await once(signal, 'abort');
        throw signal.reason as Error;
      },
      listSources: () => Promise.resolve([]),
      finalize: () => Promise.reject(new Error('not reached')),
      scratch: folder,
      context: { bufferMaxBytes: 1, upload: { concurrency: 4, maxAttempts: 3 }, metrics },
    });
    for (let state = ''; state !== 'converting';) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      state = (await producer.dataset('bench'))?.state ?? '';
    }
    const planned = performance.now();
    await producer.dataset('bench');
    const statusMs = performance.now() - planned;
    const redisBytesEach = Math.round(((await usedMemory(redis.url)) - before) / episodes);
    pinger.send('stop');
    const [longestStallMs] = (await once(pinger, 'message')) as [number];
    consumer.handBack();
    await consumer.drain();
    return {
      episodes,
      enqueueSeconds: (enqueued - started) / 1000,
      planSeconds: (planned - enqueued) / 1000,
      longestStallMs,
      statusMs,
      redisBytesEach,
    };
  } finally {
    pinger.kill();
    await producer.close();
    await redis.end();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Bytes that a Redis uses. */
async function usedMemory(url: string): Promise<number> {
  const client = new Redis(url);
  const info = await client.info('memory');
  client.disconnect();
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
}

/** The second process: pings every 5 ms and reports the longest answer. */
async function pingUntilStopped(url: string): Promise<void> {
  const redis = new Redis(url);
  let stopped = false;
  process.once('message', () => (stopped = true));
  let longest = 0;
  await redis.ping();
  process.send?.('ready');
  while (!stopped) {
    const started = performance.now();
    await redis.ping();
    longest = Math.max(longest, performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  process.send?.(longest);
  redis.disconnect();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === 'ping') await pingUntilStopped(process.argv[3] ?? '');
  else {
    const rows = [];
    for (const episodes of (process.argv[2] ?? '1000,10000').split(','))
      rows.push(await benchPlanning(Number(episodes)));
    console.table(rows);
  }
}
