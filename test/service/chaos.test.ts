import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { openStorage } from '../../src/storage/open.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { decreased, parseSeries, recount, type Series } from '../helpers/recount.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { mountRamDisk } from '../storage/temp-folder.ts';
import { childrenOf, type RunningService, startService, untilAsync } from '../helpers/service.ts';

/**
 * A batch while everything dies: workers, the primary and Redis by kill -9, workers stopped for longer than their lock,
 * the scratch disk full.
 * Small and seeded here; `CHAOS=full` (`npm run chaos`) is the long one, and `CHAOS_SEED` another order of events.
 */
const FULL = process.env['CHAOS'] === 'full';
const SEED = Number(process.env['CHAOS_SEED'] ?? 7);
const SIZE = FULL ? { good: 54, bad: 6, workers: 4, events: 24 } : { good: 9, bad: 2, workers: 2, events: 5 };
/** Longest that one batch may take: a matter of the machine, not of the test. */
const LIMIT_MS = FULL ? 20 * 60_000 : 4 * 60_000;
const KINDS = ['worker', 'redis', 'stop', 'disk', 'primary'] as const;
const DISK_BYTES = 64 << 20;

const config = {
  fps: 30,
  clock: 'header',
  task: 'Stack the cups.',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
  },
};

type Dataset = {
  state: string;
  finishedAt: string | null;
  episodes: Record<string, number>;
  failures: { source: string; reason: string }[];
};

/** Numbers that look random and are the same in every run of a seed. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function writeRecordings(folder: string) {
  await mkdir(folder, { recursive: true });
  const made = new Map<number, Uint8Array>();
  for (const seconds of [1, 2, 3]) {
    made.set(seconds, await demonstration({ seconds, cameras: ['cam_high'], width: 320, height: 240 }));
  }
  const sources: string[] = [];
  for (let i = 0; i < SIZE.good + SIZE.bad; i++) {
    const bad = i % Math.floor((SIZE.good + SIZE.bad) / SIZE.bad) === 1 && i < SIZE.good + SIZE.bad - 1;
    const path = join(folder, `${bad ? 'bad' : 'good'}-${i}.mcap`);
    await writeFile(path, bad ? 'not a recording\n' : (made.get((i % 3) + 1) ?? ''));
    sources.push(pathToFileURL(path).href);
  }
  return sources;
}

/** What a dataset's readers see, by path: everything but the ledger. */
async function contents(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path.includes('/.roboflow/')) continue;
    found[path.slice(folder.length)] = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  }
  return found;
}

/** Scrapes one life of the service until told to stop: falling counters and failed scrapes. */
function watchMetrics(service: RunningService) {
  const faults: string[] = [];
  let last: Series = new Map();
  let watching = true;
  const done = (async () => {
    while (watching) {
      try {
        const { status, text } = await service.get('/metrics');
        if (status !== 200) faults.push(`scrape answered ${status}`);
        const now = parseSeries(text);
        faults.push(...decreased(last, now));
        last = now;
      } catch (thrown) {
        if (watching) faults.push(`scrape failed: ${String(thrown)}`);
      }
      await sleep(200);
    }
  })();
  return {
    faults,
    stop: async () => {
      watching = false;
      await done;
    },
  };
}

async function ended(service: RunningService, id: string): Promise<Dataset> {
  return untilAsync(
    async () => {
      const { status, body } = await service.get<Dataset>(`/v1/datasets/${id}`);
      return status === 200 && body.finishedAt !== null && body;
    },
    undefined,
    LIMIT_MS,
  );
}

/** Waits until so many recordings have ended and others are being converted. */
async function reached(service: RunningService, count: number): Promise<void> {
  await untilAsync(async () => {
    const { status, body } = await service.get<Dataset>('/v1/datasets/chaos');
    if (status !== 200) return false;
    const { completed = 0, failed = 0, active = 0 } = body.episodes;
    return body.finishedAt !== null || (completed + failed >= count && active > 0);
  });
}

async function enqueue(
  service: RunningService,
  datasetId: string,
  folder: string,
  sources: readonly string[],
) {
  const output = pathToFileURL(join(folder, datasetId)).href;
  const recordings = sources.map((source) => ({ source }));
  const { status, text } = await service.post('/v1/datasets', { datasetId, output, config, recordings });
  if (status !== 202) throw new Error(`enqueue answered ${status}: ${text}`);
}

async function rig(t: ExecutionContext) {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const start = () =>
    startService(t, {
      REDIS_URL: redis.url,
      WORKERS: String(SIZE.workers),
      SCRATCH_DIR: join(folder, 'scratch'),
      CACHE_DIR: join(folder, 'cache'),
      LOCK_DURATION_MS: '4000',
      STALLED_INTERVAL_MS: '1000',
    });
  // A scratch disk of its own, that the test may fill; where nothing may be mounted, that event does nothing.
  await mkdir(join(folder, 'scratch'));
  const disk = mountRamDisk(t, join(folder, 'scratch'), `size=${DISK_BYTES}`);
  return { folder, redis, start, disk, sources: await writeRecordings(join(folder, 'raw')) };
}

test('whatever dies in the middle of a batch, every good recording is in the dataset once, byte for byte', async (t) => {
  t.timeout(2 * LIMIT_MS);
  const { folder, redis, start, sources, disk } = await rig(t);
  const random = randomOf(SEED);
  const seen = new Set<number>();
  const faults: string[] = [];
  let service = await start();
  let metrics = watchMetrics(service);
  await enqueue(service, 'chaos', folder, sources);
  const happened: string[] = [];
  for (let event = 0; event < SIZE.events; event++) {
    await reached(service, Math.floor((event * sources.length) / (SIZE.events + 1)));
    await sleep(random(500));
    const workers = await service.workers();
    for (const pid of [...workers, ...(await Promise.all(workers.map(childrenOf))).flat()]) seen.add(pid);
    const victim = workers[random(workers.length)];
    // In the small run each kind of event comes once.
    const kind = KINDS[FULL ? random(KINDS.length) : event % KINDS.length] ?? 'worker';
    happened.push(kind);
    if (kind === 'worker' && victim) process.kill(victim, 'SIGKILL');
    if (kind === 'stop' && victim) {
      process.kill(victim, 'SIGSTOP');
      await sleep(6000);
      process.kill(victim, 'SIGCONT');
    }
    if (kind === 'redis') {
      await redis.kill();
      await sleep(1000);
      await redis.resume();
    }
    if (kind === 'disk' && disk) {
      const filler = join(folder, 'scratch', 'filler');
      await writeFile(filler, new Uint8Array(DISK_BYTES)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOSPC') throw error;
      });
      await sleep(3000);
      await rm(filler);
    }
    if (kind === 'primary') {
      const stopped = metrics.stop();
      await service.end('SIGKILL');
      await stopped;
      faults.push(...metrics.faults);
      service = await start();
      metrics = watchMetrics(service);
    }
  }
  t.log(`seed ${SEED}: ${happened.join(', ')}`);
  let result = await ended(service, 'chaos');
  const unlucky = result.failures.filter(({ reason }) => /process died|vanished|disk is full/.test(reason));
  if (unlucky.length > 0) {
    // Hit twice in a row, or again and again, by chance: that is given up by design, and retried by hand.
    t.log(`retried after chance: ${unlucky.map(({ source, reason }) => `${source}: ${reason}`).join('; ')}`);
    t.is((await service.post('/v1/datasets/chaos/retry', {})).status, 202);
    result = await ended(service, 'chaos');
  }
  await metrics.stop();
  faults.push(...metrics.faults);
  t.deepEqual(faults, [], 'no counter fell, no scrape failed');
  const bad = sources.filter((source) => source.includes('/bad-'));
  t.is(result.state, 'partial');
  t.deepEqual(result.failures.map(({ source }) => source).toSorted(), bad.toSorted());
  t.true(result.failures.every(({ reason }) => /expected an MCAP file/.test(reason)));

  await enqueue(service, 'calm', folder, sources);
  await ended(service, 'calm');
  t.deepEqual(await contents(join(folder, 'chaos')), await contents(join(folder, 'calm')));
  const { rows, frames } = await recount(join(folder, 'chaos'));
  t.is(frames.get('cam_high'), rows);
  const storage = openStorage(join(folder, 'chaos'), {
    metrics: createMetrics(new Registry()).storage,
    role: 'source',
  });
  const checks = await verifyDataset(storage);
  t.deepEqual(
    checks.filter(({ ok }) => !ok),
    [],
  );
  t.is(await service.end('SIGTERM'), 0);
  t.deepEqual(await readdir(join(folder, 'scratch')), [], 'scratch is empty');
  t.deepEqual(
    [...seen].filter((pid) => isAlive(pid)),
    [],
    'nothing that ran is left',
  );
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
