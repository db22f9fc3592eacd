import { readFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import test, { type ExecutionContext } from 'ava';
import { StorageError } from '../../src/errors.ts';
import { connectFailFast, redisProbe } from '../../src/queue/connection.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { outcomes, Rig, ROWS, silent, total } from './rig.ts';

/** With `CHAOS=full` (`npm run chaos`) outages last as long as they do in operation. */
const FULL = process.env['CHAOS'] === 'full';

async function own(t: ExecutionContext, extra: readonly string[] = []): Promise<PrivateRedis> {
  const redis = await PrivateRedis.start(extra);
  t.teardown(() => redis.end());
  return redis;
}

/** Redis goes away for a while in the middle of a job of `job` ms: it is done once, or at least counted once. */
const away = test.macro(
  async (t, { job, awayMs, lockMs }: { job: number; awayMs: number; lockMs: number }) => {
    t.timeout(10 * 60_000);
    const redis = await own(t);
    const rig = await Rig.open(t, redis.url);
    const { registry } = rig.consumer({ lockDurationMs: lockMs, stalledIntervalMs: 500 });
    await rig.enqueue('away', [`slow-${job}.mcap`, 'good-1.mcap']);
    await rig.until('away', ({ episodes }) => episodes.active === 1);
    await redis.kill();
    await sleep(awayMs);
    await redis.resume();
    const status = await rig.ended('away');
    t.is(status.state, 'completed');
    t.is(status.episodes.completed, 2, 'what an earlier try of the run did is not called skipped');
    if (awayMs < lockMs) t.deepEqual(rig.begun, [`slow-${job}.mcap`, 'good-1.mcap'], 'begun once');
    t.deepEqual(await outcomes(registry), { completed: 2, failed: 0, cancelled: 0, skipped: 0 });
    t.is(await total('roboflow_frames_processed_total', registry), 2 * ROWS);
  },
);

test('a job survives Redis being away for less than its lock, and is done once', away, {
  job: 1500,
  awayMs: 4500,
  lockMs: 60_000,
});
test('a job whose lock ran out while Redis was away is counted once, and its output is kept', away, {
  job: 1000,
  awayMs: 4500,
  lockMs: 2000,
});
if (FULL) {
  const lockMs = 120_000;
  test('Redis away for 3 s during a job of 8 s', away, { job: 8000, awayMs: 3000, lockMs });
  test('Redis away for 45 s, in which the job ends', away, { job: 8000, awayMs: 45_000, lockMs });
  test('Redis away for 45 s, longer than a lock of 30 s', away, {
    job: 8000,
    awayMs: 45_000,
    lockMs: 30_000,
  });
  test('Redis away for 130 s, longer than the lock as it is by default', away, {
    job: 8000,
    awayMs: 130_000,
    lockMs,
  });
}

/** Enqueues as a client does that tries again what was answered with 503. */
async function enqueueSoon(rig: Rig, datasetId: string, names: readonly string[]): Promise<void> {
  const start = performance.now();
  for (;;) {
    try {
      await rig.enqueue(datasetId, names);
      return;
    } catch (thrown) {
      if (!(thrown instanceof StorageError) || performance.now() - start > 5000) throw thrown;
      await sleep(20);
    }
  }
}

test('an idle worker takes work again soon after Redis is back', async (t) => {
  const redis = await own(t);
  const rig = await Rig.open(t, redis.url);
  const { consumer } = rig.consumer();
  await consumer.ready();
  await redis.kill();
  await sleep(FULL ? 45_000 : 7000);
  await redis.resume();
  const back = performance.now();
  await enqueueSoon(rig, 'idle', ['good-1.mcap']);
  t.is((await rig.ended('idle')).state, 'completed');
  t.true(performance.now() - back < 6000, `${performance.now() - back} ms`);
});

test('a store that is away is not taken for Redis, also by a request with an idempotency key', async (t) => {
  const rig = await Rig.open(t, (await own(t)).url);
  const work = () => rig.enqueue('d', ['store-away.mcap']);
  const once = () => rig.producer.once({ scope: 'POST /', key: 'k', input: 1 }, work);
  for (const enqueue of [work, once]) {
    await t.throwsAsync(enqueue, { instanceOf: StorageError, message: /^cannot list store-away/ });
  }
});

test('an idle worker ends at once while Redis is away, when it has just come back, and when it never was there', async (t) => {
  const redis = await own(t);
  const rig = await Rig.open(t, redis.url);
  for (const back of [false, true]) {
    const { consumer } = rig.consumer();
    await consumer.ready();
    await redis.kill();
    // Long enough for the pauses between its attempts to be longer than a server takes to start.
    await sleep(2500);
    if (back) await redis.resume();
    const ended = await Promise.race([consumer.drain().then(() => true), sleep(10_000, false)]);
    t.true(ended, back ? 'Redis has just come back' : 'Redis is away');
    if (!back) await redis.resume();
  }
  await redis.kill();
  const ended = await Promise.race([
    rig
      .consumer()
      .consumer.drain()
      .then(() => true),
    sleep(10_000, false),
  ]);
  await redis.resume();
  t.true(ended, 'Redis was never there');
});

test('an idle worker ends at once when Redis goes away without an answer to what it was asked', async (t) => {
  const redis = await own(t);
  const rig = await Rig.open(t, redis.url);
  const admin = new Redis(redis.url);
  t.teardown(() => admin.disconnect());
  admin.on('error', () => undefined);
  for (const early of [false, true]) {
    await admin.client('PAUSE', 600_000, 'WRITE');
    const { consumer } = rig.consumer();
    await consumer.ready();
    // It asks for first jobs, and Redis does not answer now.
    while (!/:worker .* flags=b .* cmd=eval/.test(String(await admin.client('LIST')))) await sleep(20);
    const drained = early ? consumer.drain() : undefined;
    await redis.kill();
    const ended = await Promise.race([(drained ?? consumer.drain()).then(() => true), sleep(10_000, false)]);
    t.true(ended, early ? 'it was ending' : 'it was told after');
    await redis.resume();
  }
});

test('a Redis that evicts is not fit, and the report names the command that mends it', async (t) => {
  const redis = await own(t, ['--maxmemory-policy', 'allkeys-lru']);
  const client = connectFailFast({ url: redis.url }, 'test', silent);
  t.teardown(() => client.disconnect());
  const report = await redisProbe(client, 'probe');
  t.like(report, { policy: 'allkeys-lru', aof: true });
  t.regex(report.faults[0] ?? '', /expected the maxmemory-policy noeviction, found allkeys-lru.*CONFIG SET/);
  const admin = new Redis(redis.url);
  await admin.config('SET', 'maxmemory-policy', 'noeviction');
  admin.disconnect();
  t.like(await redisProbe(client, 'probe'), { policy: 'noeviction', faults: [] });
  await redis.kill();
  const away = await t.throwsAsync(redisProbe(client, 'probe'), { instanceOf: StorageError });
  t.true(away.retryable);
});

test('a Redis that is full, or a replica, takes no jobs, and the report says which', async (t) => {
  const redis = await own(t);
  const client = connectFailFast({ url: redis.url }, 'test', silent);
  t.teardown(() => client.disconnect());
  const admin = new Redis(redis.url);
  t.teardown(() => admin.disconnect());
  await admin.config('SET', 'maxmemory', '1');
  const full = await t.throwsAsync(redisProbe(client, 'probe'), { instanceOf: StorageError, message: /OOM/ });
  t.true(full.retryable);
  await admin.config('SET', 'maxmemory', '0');
  t.deepEqual((await redisProbe(client, 'probe')).faults, []);
  await admin.replicaof('127.0.0.1', '1');
  await t.throwsAsync(redisProbe(client, 'probe'), { instanceOf: StorageError, message: /READONLY/ });
});

test('what Redis refuses while it is full uses up no try of a job', async (t) => {
  const redis = await own(t);
  const rig = await Rig.open(t, redis.url);
  const admin = new Redis(redis.url);
  t.teardown(() => admin.disconnect());
  const { registry } = rig.consumer({ defaultAttempts: 1, lockDurationMs: 60_000 });
  await rig.enqueue('full', ['slow-500.mcap', 'good-1.mcap']);
  await rig.until('full', ({ episodes }) => episodes.active === 1);
  await admin.config('SET', 'maxmemory', '1');
  const refused = async () => (await total('roboflow_jobs_requeued_total', registry)) > 0;
  while (!(await refused())) await sleep(20);
  await admin.config('SET', 'maxmemory', '0');
  const status = await rig.ended('full');
  t.deepEqual(status.failures, []);
  t.is(status.episodes.completed, 2);
  t.deepEqual(await outcomes(registry), { completed: 2, failed: 0, cancelled: 0, skipped: 0 });
});

test('after a failover that closes no connection everybody moves to the new primary', async (t) => {
  const [old, young] = [await own(t), await own(t)];
  const portOf = ({ url }: PrivateRedis) => Number(new URL(url).port);
  let target = portOf(old);
  const address = createServer((client) => {
    const server = connect(target, '127.0.0.1');
    client.pipe(server).pipe(client);
    client.on('error', () => server.destroy());
    server.on('error', () => client.destroy());
  });
  await new Promise<void>((resolve) => address.listen(0, '127.0.0.1', resolve));
  t.teardown(() => address.close());
  const found = address.address();
  const rig = await Rig.open(t, `redis://127.0.0.1:${typeof found === 'object' ? found?.port : ''}`);
  const { registry } = rig.consumer({ lockDurationMs: 5000, stalledIntervalMs: 500 });
  await rig.enqueue('before', ['slow-1000.mcap', 'good-1.mcap']);
  const [first, second] = [new Redis(old.url), new Redis(young.url)];
  t.teardown(() => [first, second].forEach((admin) => admin.disconnect()));
  await second.replicaof('127.0.0.1', String(portOf(old)));
  await rig.until('before', ({ episodes }) => episodes.active === 1);
  while (!(await second.info('replication')).includes('master_link_status:up')) await sleep(50);
  await first.wait(1, 5000);
  await second.replicaof('NO', 'ONE');
  target = portOf(young);
  await first.replicaof('127.0.0.1', String(portOf(young)));
  t.is((await rig.ended('before')).state, 'completed');
  await t.throwsAsync(
    rig.producer.redis(),
    { message: /READONLY/ },
    'a look at its health is enough to move',
  );
  await enqueueSoon(rig, 'after', ['good-2.mcap']);
  t.is((await rig.ended('after')).state, 'completed');
  t.deepEqual(await outcomes(registry), { completed: 3, failed: 0, cancelled: 0, skipped: 0 });
});

test('a user of Redis with the rights that deploy/README.md names can do everything', async (t) => {
  const redis = await own(t);
  const rights = /`(~\{roboflow\}:\* [^`]+)`/.exec(await readFile('deploy/README.md', 'utf8'))?.[1] ?? '';
  const admin = new Redis(redis.url);
  t.teardown(() => admin.disconnect());
  const words = rights.replaceAll('{roboflow}', '{test-*}').split(' ');
  await admin.acl('SETUSER', 'robot', 'on', '>secret', 'resetkeys', 'resetchannels', ...words);
  const rig = await Rig.open(t, redis.url.replace('//', '//robot:secret@'));
  const { consumer } = rig.consumer();
  t.deepEqual((await rig.producer.redis()).faults, []);
  t.true(await rig.producer.hasWorkers());
  await rig.enqueue('rights', ['good-1.mcap', 'bad.mcap', 'slow-60000.mcap']);
  await rig.until('rights', ({ episodes }) => episodes.active === 1 && episodes.failed === 1);
  await rig.producer.cancelDataset('rights');
  t.is((await rig.ended('rights')).state, 'cancelled');
  await rig.producer.retryJob((await rig.producer.jobs({ state: 'failed', limit: 1 })).items[0]?.jobId ?? '');
  t.is((await rig.ended('rights')).episodes.completed, 1);
  t.is((await rig.producer.queue('episodes')).counts.active, 0);
  await consumer.drain();
  const refused = (await admin.acl('LOG')) as [string, unknown][][];
  const commands = refused.map((entry) => (entry as unknown[])[(entry as unknown[]).indexOf('object') + 1]);
  t.deepEqual([...new Set(commands)], ['client|list'], 'only who is connected is not told');
});
