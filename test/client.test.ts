import test, { type ExecutionContext } from 'ava';
import { ApiError, type ApiEvent, RoboflowClient } from '../src/client.ts';
import { createApp } from '../src/http/app.ts';
import { createDatasetRouter } from '../src/http/datasets.ts';
import { createEventRouter } from '../src/http/events.ts';
import { createJobRouter } from '../src/http/jobs.ts';
import { listen } from '../src/http/listen.ts';
import { createScalingRouter } from '../src/http/scaling.ts';
import { createWatchRouter } from '../src/http/watches.ts';
import { PrivateRedis, sharedRedis } from './helpers/redis.ts';
import { Rig, ROWS, silent } from './queue/rig.ts';

const token = 'correct-horse-battery-staple';
const config = { fps: 10, features: { 'observation.state': { topic: '/joints', field: 'position' } } };
let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

async function serve(t: ExecutionContext, url = redis.url) {
  const rig = await Rig.open(t, url);
  const { producer } = rig;
  const routers = [
    createDatasetRouter(producer),
    createJobRouter(producer),
    createScalingRouter(producer),
    createWatchRouter(producer),
    createEventRouter(producer, { intervalMs: 20 }),
  ];
  const app = createApp({ routers, log: silent, token });
  const listening = await listen(app, { host: '127.0.0.1', port: 0 });
  t.teardown(() => listening.close({ graceMs: 0 }));
  const base = `http://127.0.0.1:${listening.port}/`;
  return { rig, base, client: new RoboflowClient({ url: base, token }) };
}

const body = (datasetId: string, ...sources: string[]) => ({
  datasetId,
  output: `out-${datasetId}`,
  config,
  recordings: sources.map((source) => ({ source })),
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test('a script enqueues, waits, looks and tries again', async (t) => {
  const { rig, client } = await serve(t);
  const accepted = await client.enqueue(body('pick', 'good-1.mcap', 'bad-1.mcap'));
  t.like(accepted, { datasetId: 'pick', episodes: 2 });
  t.is(await client.scaling(), 2);
  rig.consumer();
  const seen: string[] = [];
  const ended = await client.wait('pick', { onProgress: ({ state }) => seen.push(state) });
  t.like(ended, { state: 'partial', frames: ROWS });
  t.true(seen.length > 0);
  t.like(await client.wait('pick'), { state: 'partial' }, 'one that has ended is not waited for');

  const failed = await all(client.jobs({ dataset: 'pick', state: 'failed' }));
  t.is(failed.length, 1);
  const { jobId } = failed[0] ?? { jobId: '' };
  t.like(await client.job(jobId), { state: 'failed', attempts: 1 });
  t.like(await client.retryJob(jobId), { jobId, episodes: 1 });
  await client.wait('pick');
  t.like(await client.append('pick', { recordings: [{ source: 'good-2.mcap' }] }), { episodes: 1 });
  t.like(await client.wait('pick'), { state: 'partial', frames: 2 * ROWS });

  await client.enqueue(body('other', 'good-1.mcap'));
  const names = (await all(client.datasets())).map(({ datasetId }) => datasetId);
  t.deepEqual(names, ['other', 'pick']);

  const { recordings: _, ...rest } = body('pick');
  const watch = await client.watch({ ...rest, prefix: 'incoming/', everySeconds: 3600 });
  t.deepEqual(
    (await client.watches()).map(({ watchId }) => watchId),
    [watch.watchId],
  );
  await client.unwatch(watch.watchId);
  t.deepEqual(await client.watches(), []);
});

test('a refusal is an ApiError with every field fault, and lists go on over their pages', async (t) => {
  const { client, base } = await serve(t);
  const fault = await t.throwsAsync<ApiError>(
    client.enqueue({ ...body('x', 'forbidden/a'), datasetId: '../x', config: { ...config, fps: 0 } }),
    { instanceOf: ApiError },
  );
  t.is(fault.status, 422);
  t.deepEqual(fault.errors.map(({ pointer }) => pointer).toSorted(), ['/config/fps', '/datasetId']);
  t.is((await t.throwsAsync<ApiError>(client.dataset('nobody'))).status, 404);
  const stranger = new RoboflowClient({ url: base, token: 'wrong' });
  t.is((await t.throwsAsync<ApiError>(stranger.scaling())).status, 401);

  const many = Array.from({ length: 120 }, (_, i) => `good-${i}.mcap`);
  await client.enqueue(body('many', ...many), { idempotencyKey: 'once' });
  const again = await client.enqueue(body('many', ...many), { idempotencyKey: 'once' });
  t.is(again.episodes, 120);
  t.is(
    (await t.throwsAsync<ApiError>(client.enqueue(body('many', 'a'), { idempotencyKey: 'once' }))).status,
    409,
  );
  const jobs = await all(client.jobs({ dataset: 'many' }));
  t.is(new Set(jobs.map(({ jobId }) => jobId)).size, 120);
});

test('while the service has no Redis a call is repeated, and a stream goes on where it broke', async (t) => {
  const own = await PrivateRedis.start();
  t.teardown(() => own.end());
  const { rig, client } = await serve(t, own.url);
  await client.enqueue(body('away', 'slow-300.mcap', 'good-1.mcap'));
  const events: ApiEvent[] = [];
  const following = (async () => {
    for await (const event of client.events('away', { after: '0-0' })) {
      events.push(event);
      if (event.type === 'dataset' && event.data.state === 'completed') return;
    }
  })();
  await own.kill();
  const asked = client.dataset('away');
  await own.resume();
  t.is((await asked).datasetId, 'away');
  rig.consumer();
  await following;
  t.is(events.filter(({ type }) => type === 'job').length, 2);
  const stopped = new AbortController();
  const endless = client.wait('nobody', { signal: stopped.signal });
  await t.throwsAsync(endless, { instanceOf: ApiError });
});
