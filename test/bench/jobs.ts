import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import type { ConversionContext, ConversionRequest, ConversionResult } from '../../src/conversion/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { Consumer } from '../../src/queue/consumer.ts';
import { failCrashedJob } from '../../src/queue/crash.ts';
import { Producer } from '../../src/queue/producer.ts';
import type { ActiveJob } from '../../src/queue/running.ts';
import { openStorage } from '../../src/storage/open.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { config, manifestOf, silent } from '../queue/rig.ts';

/** Time per job that is not conversion, and how soon a dead worker's job runs again. */
export type JobsRow = {
  readonly workers: number;
  readonly jobs: number;
  readonly overheadMsPerJob: number;
};

type Said = { type: 'ready' } | { type: 'start'; job: ActiveJob } | { type: 'end'; job: ActiveJob };

const PREFIX = '{bench}';

/** Runs `jobs` conversions that take no time through worker processes of their own. */
export async function benchJobs(jobs: number, workers: number): Promise<JobsRow> {
  return await withQueues(async (producer, url, folder) => {
    const children = await Promise.all(Array.from({ length: workers }, () => startWorker(url, folder)));
    const recordings = Array.from({ length: jobs }, (_, i) => ({ source: `s3://raw/instant_${i}.mcap` }));
    const started = performance.now();
    await enqueue(producer, folder, recordings);
    while ((await producer.dataset('bench'))?.finishedAt === null) await sleep(20);
    const seconds = (performance.now() - started) / 1000;
    for (const child of children) child.kill('SIGKILL');
    return { workers, jobs, overheadMsPerJob: (seconds * 1000 * workers) / jobs };
  });
}

/** Kills a worker in the middle of a job and measures until an idle one has begun it again, ms; the median of `rounds`. */
export async function benchCrash(rounds: number): Promise<number> {
  return await withQueues(async (producer, url, folder) => {
    const metrics = createMetrics(new Registry());
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const [first, second] = [await startWorker(url, folder), await startWorker(url, folder)];
      const started = Promise.race(
        [first, second].map(async (child) => ({ child, said: await next(child, 'start') })),
      );
      await enqueue(producer, folder, [{ source: `s3://raw/endless_${round}.mcap` }], `crash-${round}`);
      const { child, said } = await started;
      const other = child === first ? second : first;
      const again = next(other, 'start');
      const gone = once(child, 'exit');
      const killed = performance.now();
      child.kill('SIGKILL');
      await gone;
      if (said.type !== 'start') throw new Error('expected a started job');
      await failCrashedJob({ client: producer.client, metrics, log: silent }, said.job, 'SIGKILL');
      await again;
      times.push(performance.now() - killed);
      other.kill('SIGKILL');
    }
    return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
  });
}

async function withQueues<T>(
  work: (producer: Producer, url: string, folder: string) => Promise<T>,
): Promise<T> {
  const redis = await PrivateRedis.start();
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  const metrics = createMetrics(new Registry());
  const producer = new Producer({
    redis: { url: redis.url },
    prefix: PREFIX,
    log: silent,
    checkSource: (url) => url,
    checkPrefix: (url) => url,
    checkOutput: (url) => url,
    openOutput: (url) => openStorage(url, { metrics: metrics.storage, role: 'destination' }),
  });
  try {
    return await work(producer, redis.url, folder);
  } finally {
    await producer.close();
    await redis.end();
    await rm(folder, { recursive: true, force: true });
  }
}

async function enqueue(
  producer: Producer,
  folder: string,
  recordings: { source: string }[],
  datasetId = 'bench',
) {
  const output = `file://${folder}/${datasetId}`;
  const request = { datasetId, output, config, recordings, options: { priority: 0 } };
  const answer = await producer.enqueueDataset(request);
  if ('refused' in answer) throw new Error(JSON.stringify(answer));
}

async function startWorker(url: string, folder: string): Promise<ChildProcess> {
  const child = fork(fileURLToPath(import.meta.url), ['worker', url, folder]);
  await next(child, 'ready');
  return child;
}

/** The next episode message of a kind. */
async function next(child: ChildProcess, type: Said['type']): Promise<Said> {
  for (;;) {
    const [said] = (await once(child, 'message')) as [Said];
    if (said.type === type && (said.type === 'ready' || said.job.queue === 'episodes')) return said;
  }
}

async function runWorker(url: string, folder: string): Promise<void> {
  const metrics = createMetrics(new Registry());
  const say = (said: Said) => process.send?.(said);
  const consumer = new Consumer({
    redis: { url },
    prefix: PREFIX,
    name: `bench-${process.pid}`,
    lockDurationMs: 120_000,
    stalledIntervalMs: 30_000,
    defaultAttempts: 4,
    openOutput: (output) => openStorage(output, { metrics: metrics.storage, role: 'destination' }),
    convert: async (request: ConversionRequest, { signal }: ConversionContext): Promise<ConversionResult> => {
      if (request.source.includes('endless')) await once(signal, 'abort');
      const upload = { files: 0, bytes: 0, retries: 0, seconds: 0, reused: 0 };
      return { outcome: 'completed', manifest: manifestOf(request), upload };
    },
    listSources: () => Promise.resolve([]),
    finalize: () => Promise.resolve({ episodes: 0, frames: 0, tasks: 0, misfits: [] }),
    scratch: folder,
    context: { bufferMaxBytes: 1, upload: { concurrency: 4, maxAttempts: 3 }, metrics },
    log: silent,
    onStart: (job) => say({ type: 'start', job }),
    onEnd: (job) => say({ type: 'end', job }),
  });
  await consumer.ready();
  say({ type: 'ready' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === 'worker') await runWorker(process.argv[3] ?? '', process.argv[4] ?? '');
  else {
    console.table([await benchJobs(1000, 1), await benchJobs(1000, 2)]);
    console.log('kill -9 to the job running again, median ms:', Math.round(await benchCrash(5)));
  }
}
