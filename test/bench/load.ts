// Many small jobs on several pods: what one job costs Redis, a primary and a worker, and where each of them is full.
import { link, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { demonstration } from '../helpers/demonstration.ts';
import { PrivateRedis, randomPrefix } from '../helpers/redis.ts';
import { type Owner, startService } from '../helpers/service.ts';
import { rounded } from './measure.ts';

/** CPU is in ms a job, of all processes of a kind together; `…Full` is the rate at which one core of it is used up. */
export type LoadBench = {
  readonly jobs: number;
  readonly pods: number;
  readonly workers: number;
  readonly jobsPerSecond: number;
  readonly finalizeSeconds: number;
  readonly redisMs: number;
  readonly redisCommands: number;
  readonly redisPeakMB: number;
  readonly redisFullJobsPerSecond: number;
  readonly primaryMs: number;
  readonly primaryFullJobsPerSecond: number;
  readonly workerMs: number;
  readonly scrapeP50Ms: number;
  readonly scrapeP99Ms: number;
};

const FPS = 10;

/**
 * Converts `jobs` real recordings of one second without a camera, so that next to nothing but the service is measured,
 * on `pods` services of `workersEach` around one Redis. The first pod answers the API and a scrape each second.
 */
export async function benchLoad(jobs: number, pods: number, workersEach: number): Promise<LoadBench> {
  const ends: (() => unknown)[] = [];
  const owner: Owner = {
    passed: true,
    log: (text) => console.log(text),
    teardown: (end) => void ends.push(end),
  };
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    await writeRecordings(join(folder, 'raw'), jobs);
    const redis = await PrivateRedis.start();
    owner.teardown(() => redis.end());
    const client = new Redis(redis.url);
    owner.teardown(() => client.disconnect());
    const prefix = randomPrefix();
    const services = await Promise.all(
      Array.from({ length: pods }, (_, pod) =>
        startService(owner, {
          REDIS_URL: redis.url,
          QUEUE_PREFIX: prefix,
          WORKERS: String(workersEach),
          SCRATCH_DIR: join(folder, `scratch-${pod}`),
          CACHE_DIR: join(folder, `cache-${pod}`),
        }),
      ),
    );
    const [api] = services;
    if (!api) throw new Error('no pod');
    const primaries = services.map(({ process: { pid } }) => pid ?? 0);
    const workers = (await Promise.all(services.map((service) => service.workers()))).flat();
    const before = await costs(client, primaries, workers);
    const started = performance.now();
    const { status, text } = await api.post('/v1/datasets', {
      datasetId: 'load',
      output: `file://${join(folder, 'dataset')}`,
      config: {
        fps: FPS,
        clock: 'header',
        task: 'Move.',
        features: { 'observation.state': { topic: '/joint_states', field: 'position', names: 'all' } },
      },
      recordings: [{ source: `file://${join(folder, 'raw')}/` }],
    });
    if (status !== 202) throw new Error(text);
    const scrapes: number[] = [];
    let finalizing: number | undefined;
    for (;;) {
      const { state } = (await api.get<{ state: string }>('/v1/datasets/load')).body;
      if (state === 'finalizing') finalizing ??= performance.now();
      if (state === 'completed') break;
      if (['failed', 'partial', 'cancelled'].includes(state)) throw new Error(`the batch ended as ${state}`);
      const asked = performance.now();
      await api.get('/metrics');
      if (finalizing === undefined) scrapes.push(performance.now() - asked);
      await sleep(finalizing === undefined && jobs > 100 ? 1000 : 50);
    }
    const ended = performance.now();
    const after = await costs(client, primaries, workers);
    const each = (key: 'redis' | 'primary' | 'worker' | 'commands') => (after[key] - before[key]) / jobs;
    const sorted = scrapes.toSorted((a, b) => a - b);
    const at = (quantile: number) =>
      sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))] ?? 0;
    return {
      jobs,
      pods,
      workers: workers.length,
      jobsPerSecond: rounded((jobs * 1000) / ((finalizing ?? ended) - started), 1),
      finalizeSeconds: rounded((ended - (finalizing ?? ended)) / 1000, 1),
      redisMs: rounded(each('redis')),
      redisCommands: rounded(each('commands'), 1),
      redisPeakMB: rounded(after.peak / 1e6, 1),
      redisFullJobsPerSecond: Math.round(1000 / each('redis')),
      primaryMs: rounded(each('primary')),
      primaryFullJobsPerSecond: Math.round(1000 / each('primary')),
      workerMs: rounded(each('worker'), 1),
      scrapeP50Ms: rounded(at(0.5), 1),
      scrapeP99Ms: rounded(at(0.99), 1),
    };
  } finally {
    for (const end of ends.reverse()) await end();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The same recording under many names. */
async function writeRecordings(folder: string, count: number): Promise<void> {
  await mkdir(folder);
  const first = join(folder, '0.mcap');
  await writeFile(first, await demonstration({ seconds: 1, cameras: [] }));
  for (let index = 1; index < count; index++) await link(first, join(folder, `${index}.mcap`));
}

/** CPU of Redis, primaries and workers so far in ms, and the commands Redis has run. */
async function costs(client: Redis, primaries: readonly number[], workers: readonly number[]) {
  const info = await client.info();
  const number = (key: string) => Number(new RegExp(`^${key}:([\\d.]+)`, 'm').exec(info)?.[1]);
  return {
    redis: 1000 * (number('used_cpu_user') + number('used_cpu_sys')),
    commands: number('total_commands_processed'),
    peak: number('used_memory_peak'),
    primary: await cpuOf(primaries),
    worker: await cpuOf(workers),
  };
}

/** CPU of processes, ms (Linux: utime and stime of /proc/PID/stat, 100 ticks a second). */
async function cpuOf(pids: readonly number[]): Promise<number> {
  let ticks = 0;
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks * 10;
}
