import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Redis } from 'ioredis';
import { asCanceled, StorageError } from '../../src/errors.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { outcomes, Rig, ROWS } from './rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

/** Calls until it is as wanted. */
async function eventually(t: { fail(message: string): void }, what: string, wanted: () => Promise<boolean>) {
  for (let tries = 0; tries < 250; tries++) {
    if (await wanted()) return;
    await sleep(20);
  }
  t.fail(`not in time: ${what}`);
}

async function published(rig: Rig, output: string): Promise<string[]> {
  const info = await readFile(join(rig.folder, output, 'meta/info.json'), 'utf8');
  return (JSON.parse(info) as { keys: string[] }).keys.map((key) => key.split('-')[0] ?? '');
}

test('whether a worker is there is known, and not guessed where Redis does not tell who is connected', async (t) => {
  const rig = await Rig.open(t, redis.url);
  t.false(await rig.producer.hasWorkers());
  const admin = new Redis(redis.url);
  const user = `no-list-${process.pid}`;
  await admin.call('ACL', 'SETUSER', user, 'on', '>secret', '~*', '&*', '+@all', '-client|list');
  // after the teardown of the rig below
  t.teardown(async () => {
    await admin.call('ACL', 'DELUSER', user);
    await admin.quit();
  });
  const restricted = new URL(redis.url);
  restricted.username = user;
  restricted.password = 'secret';
  const silent = await Rig.open(t, restricted.href);
  t.true(await silent.producer.hasWorkers());
  rig.consumer();
  await eventually(t, 'the worker is seen', () => rig.producer.hasWorkers());
});

test('appended recordings come after the published ones, twice over', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('grow', ['good-2.mcap', 'good-1.mcap']);
  await rig.ended('grow');
  const first = await rig.producer.appendRecordings('grow', {
    recordings: [{ source: 'good-0.mcap' }, { source: 'good-1.mcap' }],
    options: { priority: 0 },
  });
  t.like(first, { datasetId: 'grow', episodes: 2 });
  const status = await rig.ended('grow');
  t.is('runId' in first && first.runId, status.runId);
  t.is(status.state, 'completed');
  t.is(status.frames, 3 * ROWS);
  t.like(status.episodes, { total: 3, completed: 2, skipped: 1 });
  t.deepEqual(await published(rig, 'out-grow'), ['good_2', 'good_1', 'good_0']);
  await rig.producer.appendRecordings('grow', {
    recordings: [{ source: 'a.mcap' }],
    options: { priority: 3 },
  });
  t.is((await rig.ended('grow')).frames, 4 * ROWS);
  t.deepEqual(await published(rig, 'out-grow'), ['good_2', 'good_1', 'good_0', 'a']);
});

test('cancelling a dataset stops the running recording within 2 s, and those that wait never begin', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  await rig.enqueue('stop', ['slow-60000.mcap', 'good-1.mcap', 'good-2.mcap']);
  await rig.until('stop', ({ episodes }) => episodes.active === 1);
  const started = performance.now();
  const cancelled = await rig.producer.cancelDataset('stop');
  t.like(cancelled, { datasetId: 'stop' });
  const status = await rig.until('stop', ({ episodes }) => episodes.cancelled === 3);
  t.true(performance.now() - started < 2000);
  t.is(status.state, 'cancelled');
  t.truthy(status.finishedAt);
  t.deepEqual(rig.begun, ['slow-60000.mcap']);
  await eventually(t, 'outcomes counted', async () => (await outcomes(registry))['cancelled'] === 3);
  await eventually(t, 'the dataset job ended', async () => (await rig.producer.scaling()) === 0);
  t.deepEqual(rig.finalized, [], 'a cancelled first run publishes nothing');
  t.deepEqual(await outcomes(registry), { completed: 0, failed: 0, cancelled: 3, skipped: 0 });
  t.like(await rig.producer.cancelDataset('stop'), { refused: 'conflict' });

  t.like(await rig.producer.retryDataset('stop'), { episodes: 3 });
  t.is((await rig.producer.dataset('stop'))?.state, 'planning');
  await rig.until('stop', ({ episodes }) => episodes.completed === 0 && episodes.active === 1);
  await rig.producer.cancelDataset('stop');
});

test('a cancelled dataset has ended when its last recording has stopped, not before', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const gate = new AbortController();
  t.teardown(() => gate.abort());
  rig.consumer({
    convert: async (_, { signal }) => {
      await once(signal, 'abort');
      if (!gate.signal.aborted) await once(gate.signal, 'abort');
      throw asCanceled(signal.reason);
    },
  });
  await rig.enqueue('ends', ['good-1.mcap', 'good-2.mcap']);
  await rig.until('ends', ({ episodes }) => episodes.active === 1);
  await rig.producer.cancelDataset('ends');
  const stopping = await rig.producer.dataset('ends');
  t.like(stopping, { state: 'cancelled', finishedAt: null });
  t.like(stopping?.episodes, { active: 1, cancelled: 1 });
  t.like(await rig.producer.cancelDataset('ends'), { refused: 'conflict' });
  gate.abort();
  const ended = await rig.ended('ends');
  t.like(ended.episodes, { active: 0, cancelled: 2 });
  await eventually(t, 'the dataset job ended', async () => (await rig.producer.scaling()) === 0);
  t.is((await rig.producer.dataset('ends'))?.finishedAt, ended.finishedAt, 'nothing ends twice');
});

test('what is being published when it is cancelled is published, and not tried again when that fails', async (t) => {
  const rig = await Rig.open(t, redis.url);
  let tries = 0;
  rig.consumer({
    finalize: async (request, context) => {
      tries++;
      t.like(await rig.producer.cancelDataset(request.datasetId), { episodes: 0 });
      t.like(await rig.producer.dataset(request.datasetId), { state: 'finalizing', finishedAt: null });
      if (request.datasetId === 'away')
        throw new StorageError('the store is away', { retryable: true, reason: 'network' });
      return await rig.finalize(request, context);
    },
  });
  await rig.enqueue('late', ['good-1.mcap']);
  t.is((await rig.ended('late')).state, 'completed');
  await rig.enqueue('away', ['good-1.mcap']);
  t.is((await rig.ended('away')).state, 'cancelled');
  t.is(tries, 2);
});

test('a dataset cancelled before any worker saw it has ended, and each recording is counted once', async (t) => {
  const rig = await Rig.open(t, redis.url);
  await rig.enqueue('early', ['good-1.mcap', 'good-2.mcap']);
  await rig.producer.cancelDataset('early');
  const early = await rig.producer.dataset('early');
  t.like(early?.episodes, { total: 2, cancelled: 2, waiting: 0 });
  t.truthy(early?.finishedAt);
  const { registry } = rig.consumer();
  await eventually(t, 'outcomes counted', async () => (await outcomes(registry))['cancelled'] === 2);
  await eventually(t, 'the dataset job ended', async () => (await rig.producer.scaling()) === 0);
  t.is((await rig.producer.dataset('early'))?.state, 'cancelled');
  t.deepEqual(rig.begun, []);
});

test('single jobs are cancelled, waiting or active, and the rest is published', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  await rig.enqueue('some', ['slow-60000.mcap', 'good-1.mcap', 'good-2.mcap']);
  await rig.until('some', ({ episodes }) => episodes.active === 1);
  const { items } = await rig.producer.jobs({ dataset: 'some', limit: 10 });
  t.deepEqual(
    items.map(({ state }) => state),
    ['active', 'waiting', 'waiting'],
  );
  t.like(await rig.producer.cancelJob(items[1]?.jobId ?? ''), { jobId: items[1]?.jobId });
  t.is((await rig.producer.job(items[1]?.jobId ?? ''))?.state, 'cancelled');
  t.like(await rig.producer.cancelJob(items[0]?.jobId ?? ''), { jobId: items[0]?.jobId });
  const status = await rig.ended('some');
  t.is(status.state, 'partial');
  t.like(status.episodes, { completed: 1, cancelled: 2 });
  t.like(await rig.producer.cancelJob(items[2]?.jobId ?? ''), { refused: 'conflict' });
  t.deepEqual(await outcomes(registry), { completed: 1, failed: 0, cancelled: 2, skipped: 0 });
  t.deepEqual(await published(rig, 'out-some'), ['good_2']);
});

test('retrying a failed job brings the same job back, and the dataset becomes complete', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  const first = await rig.enqueue('mend', ['good-1.mcap', 'flaky-4.mcap', 'bad-1.mcap']);
  const failed = await rig.ended('mend');
  t.is(failed.episodes.failed, 2);
  const jobId = failed.failures.find(({ source }) => source.includes('flaky'))?.jobId ?? '';
  const retried = await rig.producer.retryJob(jobId);
  t.like(retried, { jobId, episodes: 1 });
  const again = await rig.producer.dataset('mend');
  t.not(again?.runId, first.runId);
  t.is(again?.episodes.failed, 1);
  const status = await rig.ended('mend');
  t.is(status.state, 'partial');
  t.like(status.episodes, { completed: 2, failed: 1 });
  t.like(await rig.producer.job(jobId), { state: 'completed', attempts: 2 });
  t.like(await rig.producer.retryJob(jobId), { refused: 'conflict' });
  t.deepEqual(await published(rig, 'out-mend'), ['good_1', 'flaky_4']);
  t.like(await rig.producer.retryDataset('mend'), { episodes: 1 });
  await rig.ended('mend');
  t.is(rig.begun.filter((name) => name === 'good-1.mcap').length, 1, 'what was converted is left alone');
  t.deepEqual(
    rig.finalized.map(({ keys }) => keys.length),
    [1, 2, 2],
    'each run publishes what there is',
  );
  t.deepEqual(await outcomes(registry), { completed: 2, failed: 3, cancelled: 0, skipped: 0 });
});

test('a dataset without failures has nothing to retry', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('fine', ['good-1.mcap']);
  await rig.ended('fine');
  t.like(await rig.producer.retryDataset('fine'), { refused: 'conflict' });
});

test('one recording enqueued twice at once is converted once, and called skipped by the other run', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const workers = [1, 2].map(() => rig.consumer());
  await Promise.all([rig.enqueue('twice', ['slow-500.mcap']), rig.enqueue('twice', ['slow-500.mcap'])]);
  await eventually(
    t,
    'both published',
    async () => rig.finalized.length === 2 && (await rig.producer.scaling()) === 0,
  );
  t.is((await rig.producer.dataset('twice'))?.state, 'completed');
  const counted = await outcomes(...workers.map(({ registry }) => registry));
  t.deepEqual(counted, { completed: 1, failed: 0, cancelled: 0, skipped: 1 });
});

test('of two runs that are ready to publish one dataset at the same time, one waits for the other', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { datasets } = rig.producer.client;
  const both = new AbortController();
  let converting = 0;
  let publishing = 0;
  const overlaps: number[] = [];
  for (let worker = 0; worker < 2; worker++) {
    rig.consumer({
      convert: async (request, context) => {
        if (++converting === 2) both.abort();
        else await once(AbortSignal.any([both.signal, context.signal]), 'abort');
        return await rig.convert(request, context);
      },
      finalize: async (request, context) => {
        overlaps.push(++publishing);
        if (overlaps.length === 1) {
          await eventually(t, 'the other run is turned away', async () =>
            (await datasets.getDelayed()).some(({ data }) => data.step === 'finalize'),
          );
        }
        const result = await rig.finalize(request, context);
        publishing--;
        return result;
      },
    });
  }
  await Promise.all([rig.enqueue('two', ['good-1.mcap']), rig.enqueue('two', ['good-2.mcap'])]);
  await eventually(t, 'both published', async () => rig.finalized.length === 2);
  await eventually(t, 'both ended', async () => (await rig.producer.scaling()) === 0);
  t.deepEqual(overlaps, [1, 1]);
  t.deepEqual((await published(rig, 'out-two')).toSorted(), ['good_1', 'good_2']);
});
