import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { encodersOf, type RunningService, startService, untilAsync } from '../helpers/service.ts';

const config = {
  fps: 30,
  clock: 'header',
  task: 'Stack the cups.',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

/** The init of the container image; where it is not installed the service gets the signal itself. */
const TINI = '/usr/bin/tini';

type Job = { jobId: string; state: string; stage: string; attempts: number };
type Dataset = { state: string; finishedAt: string | null; episodes: Record<string, number> };

/** One Redis, one folder of long recordings, and as many lives of the service as a test needs. */
async function rig(t: ExecutionContext, seconds: readonly number[]) {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  await mkdir(join(folder, 'raw'), { recursive: true });
  const bytes = new Map<number, Uint8Array>();
  const recordings: { source: string }[] = [];
  for (const [i, length] of seconds.entries()) {
    const made =
      bytes.get(length) ??
      (await demonstration({ seconds: length, cameras: ['cam_high'], width: 480, height: 360 }));
    bytes.set(length, made);
    const path = join(folder, 'raw', `demo-${i}.mcap`);
    await writeFile(path, made);
    recordings.push({ source: pathToFileURL(path).href });
  }
  const start = (env: Record<string, string> = {}, options?: Parameters<typeof startService>[2]) =>
    startService(
      t,
      {
        REDIS_URL: redis.url,
        WORKERS: '2',
        SCRATCH_DIR: join(folder, 'scratch'),
        CACHE_DIR: join(folder, 'cache'),
        ...env,
      },
      options,
    );
  const enqueue = (service: RunningService, datasetId: string) =>
    service.post('/v1/datasets', {
      datasetId,
      output: pathToFileURL(join(folder, datasetId)).href,
      config,
      recordings,
    });
  return { folder, redis, start, enqueue };
}

async function jobs(service: RunningService, query: string): Promise<Job[]> {
  return (await service.get<{ items: Job[] }>(`/v1/jobs?${query}`)).body.items;
}

async function finished(service: RunningService, id: string): Promise<Dataset> {
  return untilAsync(async () => {
    const { body } = await service.get<Dataset>(`/v1/datasets/${id}`);
    return body.finishedAt !== null && body;
  });
}

/** Waits until both workers are encoding; returns their pids and those of their encoders. */
async function encoding(service: RunningService) {
  const workers = await service.workers();
  const encoders = await untilAsync(async () => {
    const all = await Promise.all(workers.map((pid) => encodersOf(pid)));
    return all.every((pids) => pids.length > 0) && all.flat();
  });
  return { workers, encoders };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
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

test('kill -9 of the primary: its workers hand their jobs back and end, the next life finishes, with the same bytes', async (t) => {
  const { folder, start, enqueue } = await rig(t, [10, 10, 1]);
  const first = await start();
  await enqueue(first, 'cups');
  const { workers, encoders } = await encoding(first);
  t.is(await first.end('SIGKILL'), 'SIGKILL');
  await untilAsync(async () => ![...workers, ...encoders].some(isAlive));

  const second = await start();
  const result = await finished(second, 'cups');
  t.is(result.state, 'completed', 'long before the locks of the dead would have run out');
  t.is(result.episodes['completed'], 3);
  t.deepEqual(
    (await jobs(second, 'dataset=cups')).map(({ attempts }) => attempts),
    [1, 1, 1],
  );
  t.deepEqual(await readdir(join(folder, 'scratch')), [], 'scratch of the dead is swept');

  await enqueue(second, 'undisturbed');
  await finished(second, 'undisturbed');
  const disturbed = await contents(join(folder, 'cups'));
  t.true(Object.keys(disturbed).length >= 7);
  t.deepEqual(disturbed, await contents(join(folder, 'undisturbed')));
});

test('the jobs of workers that die in the shutdown are given back before the service ends', async (t) => {
  const { start, enqueue } = await rig(t, [15, 15]);
  const service = await start();
  await enqueue(service, 'cups');
  const { workers } = await encoding(service);
  const ended = service.end('SIGTERM');
  await untilAsync(async () => service.log().includes('"msg":"draining'));
  for (const pid of workers) process.kill(pid, 'SIGKILL');
  t.is(await ended, 0);
  t.is(service.log().split('job of a dead worker waits again').length - 1, 2);
});

test('Ctrl+C lets running jobs end; SIGTERM hands those back that do not fit into the grace, and no try is counted', async (t) => {
  const { start, enqueue } = await rig(t, [4, 4, 15, 15, 1]);
  const first = await start({}, { group: true });
  await enqueue(first, 'cups');
  await encoding(first);
  t.is(await first.end('SIGINT'), 0, 'to the whole group, as a terminal does');

  const second = await start(
    { SHUTDOWN_GRACE_SECONDS: '2' },
    { under: existsSync(TINI) ? [TINI, '-s', '--'] : [] },
  );
  t.deepEqual(
    (await jobs(second, 'dataset=cups&state=completed')).map(({ attempts }) => attempts),
    [1, 1],
  );
  const { workers, encoders } = await encoding(second);
  const ending = second.end('SIGTERM');
  await untilAsync(async () => (await second.get('/readyz')).status === 503);
  t.is((await second.get('/livez')).status, 200, 'a draining service is alive');
  t.is(await ending, 0);
  t.false([...workers, ...encoders].some(isAlive));

  const third = await start();
  const handedBack = await jobs(third, 'dataset=cups');
  t.deepEqual(
    handedBack.slice(2, 4).map(({ attempts }) => attempts),
    [0, 0],
  );
  const result = await finished(third, 'cups');
  t.is(result.state, 'completed');
  t.deepEqual(
    (await jobs(third, 'dataset=cups')).map(({ attempts }) => attempts),
    [1, 1, 1, 1, 1],
  );
});

test('cancelling a running dataset stops the encoders within 2 s; a second signal ends the service at once', async (t) => {
  const { start, enqueue } = await rig(t, [15, 15]);
  const service = await start();
  await enqueue(service, 'cups');
  const { encoders } = await encoding(service);
  const started = Date.now();
  t.is((await service.post('/v1/datasets/cups/cancel', {})).status, 202);
  await untilAsync(async () => !encoders.some(isAlive));
  t.true(Date.now() - started < 2000, `${Date.now() - started} ms`);
  t.like((await service.get<Dataset>('/v1/datasets/cups')).body, { state: 'cancelled' });
  await finished(service, 'cups');
  t.is((await service.post('/v1/datasets/cups/retry', {})).status, 202);
  const again = await encoding(service);
  const ended = service.end('SIGTERM');
  await untilAsync(async () => service.log().includes('draining'));
  // A repeat within 200 ms counts as the same signal.
  const seenAt = Date.now();
  await untilAsync(async () => Date.now() - seenAt > 250);
  service.process.kill('SIGTERM');
  t.is(await ended, 1);
  await untilAsync(async () => ![...again.workers, ...again.encoders].some(isAlive));
});
