import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Worker } from 'bullmq';
import { datasetConfig } from '../../src/conversion/config.ts';
import type { ConversionContext, ConversionRequest } from '../../src/conversion/types.ts';
import { serializeManifest } from '../../src/dataset/manifest.ts';
import { asCanceled, InputError, StorageError } from '../../src/errors.ts';
import { openStorage } from '../../src/storage/open.ts';
import { failCrashedJob } from '../../src/queue/crash.ts';
import { QUEUES } from '../../src/queue/jobs.ts';
import type { ActiveJob } from '../../src/queue/running.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { config, manifestOf, ODD, outcomes, Rig, ROWS, silent, total } from './rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

test('a run that would write over the videos of its dataset fails before anything is converted', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const feature = 'observation.images.cam';
  const bytes = serializeManifest({
    ...manifestOf({ source: 'file:///earlier.mcap', key: 'earlier', slot: 0, config }),
    features: [{ key: feature, dtype: 'video', shape: [2, 2, 3], names: null }],
    files: [
      {
        path: `.roboflow/staged/earlier/${feature}/0.mp4`,
        type: 'video',
        bytes: 1,
        sha256: '0'.repeat(64),
        feature,
        frames: ROWS,
      },
    ],
  });
  await mkdir(join(rig.folder, 'out-pick/.roboflow/episodes'), { recursive: true });
  await writeFile(join(rig.folder, 'out-pick/.roboflow/episodes/earlier.json'), bytes);
  rig.consumer();
  const apart = datasetConfig.parse({ fps: 10, features: { [feature]: { topic: '/cam', type: 'video' } } });
  await rig.enqueue('pick', ['good-a.mcap'], { config: apart });
  const status = await rig.ended('pick');
  t.is(status.state, 'failed');
  t.regex(status.reason ?? '', /expected videos\.pack: true, as file:\/\/\/earlier\.mcap of this dataset/);
  t.deepEqual(rig.begun, []);
});

test('a batch of good recordings is planned, converted and published in plan order', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  const names = ['good-b.mcap', 'good-a.mcap', 'good-c.mcap'];
  const enqueued = await rig.enqueue('pick', names);
  t.is(enqueued.episodes, 3);
  const early = await rig.producer.dataset('pick');
  t.is(early?.runId, enqueued.runId);
  t.is(early?.episodes.total, 3);

  const status = await rig.ended('pick');
  t.is(status.state, 'completed');
  t.deepEqual(status.episodes, {
    total: 3,
    waiting: 0,
    active: 0,
    completed: 3,
    failed: 0,
    cancelled: 0,
    skipped: 0,
  });
  t.is(status.frames, 3 * ROWS);
  t.deepEqual(status.failures, []);
  const info = JSON.parse(await readFile(join(rig.folder, 'out-pick/meta/info.json'), 'utf8')) as {
    keys: string[];
  };
  t.deepEqual(
    info.keys.map((key) => key.split('-')[0]),
    ['good_b', 'good_a', 'good_c'],
  );
  t.deepEqual(await outcomes(registry), { completed: 3, failed: 0, cancelled: 0, skipped: 0 });
  t.is(await total('roboflow_frames_processed_total', registry), 3 * ROWS);
  t.is(await total('roboflow_episode_processing_duration_seconds', registry), 3);

  const ledger = await readdir(join(rig.folder, 'out-pick/.roboflow/runs'));
  t.deepEqual(ledger, [`${enqueued.runId}.plan.jsonl`, `${enqueued.runId}.result.jsonl`]);
  const written = await total('roboflow_bytes_written_total', registry);
  t.is(
    written,
    await folderBytes(join(rig.folder, 'out-pick')),
    'the counter equals the bytes that lie there',
  );
});

test('a bad recording fails once, with its sentence, and the others are published without it', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  await rig.enqueue('mixed', ['good-1.mcap', 'bad-1.mcap', 'good-2.mcap']);
  const status = await rig.ended('mixed');
  t.is(status.state, 'partial');
  t.is(status.episodes.failed, 1);
  t.is(status.failures.length, 1);
  t.regex(status.failures[0]?.source ?? '', /bad-1\.mcap$/);
  t.is(status.failures[0]?.reason, 'expected an MCAP recording, found text in bad-1.mcap');
  t.is(rig.begun.filter((name) => name.startsWith('bad')).length, 1);
  const job = await rig.producer.job(status.failures[0]?.jobId ?? '');
  t.is(job?.state, 'failed');
  t.is(job?.attempts, 1);
  t.truthy(job?.finishedAt);
  t.deepEqual(await outcomes(registry), { completed: 2, failed: 1, cancelled: 0, skipped: 0 });
  t.is(rig.finalized[0]?.keys.length, 2);
});

test('a recording that does not fit to the others fails in the end, and they are published without it', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  for (let run = 1; run <= 2; run++) {
    await rig.enqueue('mixed', ['good-1.mcap', 'odd.mcap', 'good-2.mcap']);
    const status = await rig.ended('mixed');
    t.is(status.state, 'partial');
    t.like(status.episodes, { total: 3, failed: 1 });
    t.is(status.frames, 2 * ROWS);
    t.deepEqual(
      status.failures.map(({ source, reason }) => [source.split('/').at(-1), reason]),
      [['odd.mcap', ODD]],
    );
    const jobId = status.failures[0]?.jobId ?? '';
    t.like(await rig.producer.job(jobId), { state: 'failed', reason: ODD });
    const manifests = await readdir(join(rig.folder, 'out-mixed/.roboflow/episodes'));
    t.false(
      manifests.some((name) => name.startsWith('odd')),
      'its manifest is taken away, so that it may be converted anew',
    );
    t.is(manifests.length, 2);
  }
});

test('publish: complete publishes nothing when one recording fails', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  const strict = datasetConfig.parse({ ...config, publish: 'complete' });
  await rig.enqueue('strict', ['good-1.mcap', 'bad-1.mcap'], { config: strict });
  const status = await rig.ended('strict');
  t.is(status.state, 'failed');
  t.regex(status.reason ?? '', /1 of 2 recordings were not converted/);
  t.deepEqual(rig.finalized, []);
});

test('failures that may pass are tried again, and the reason of the last one shows no credentials', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  await rig.enqueue('flaky', ['flaky-2.mcap', 'flaky-9.mcap']);
  const status = await rig.ended('flaky');
  t.is(status.state, 'partial');
  const [failed] = status.failures;
  t.is(failed?.reason, 'expected s3://host to answer, found a reset connection');
  t.is((await rig.producer.job(failed?.jobId ?? ''))?.attempts, 3);
  const { items } = await rig.producer.jobs({ dataset: 'flaky', state: 'completed', limit: 10 });
  t.is(items[0]?.attempts, 3);
  t.is(items[0]?.progress, 1);
  t.deepEqual(await outcomes(registry), { completed: 1, failed: 1, cancelled: 0, skipped: 0 });
});

test('the same recordings again are skipped, and the dataset stays as it is', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { registry } = rig.consumer();
  const first = await rig.enqueue('again', ['good-1.mcap', 'good-2.mcap']);
  await rig.ended('again');
  const second = await rig.enqueue('again', ['good-2.mcap', 'good-1.mcap', 'good-1.mcap']);
  t.not(first.runId, second.runId);
  t.is(second.episodes, 2, 'a recording named twice is taken once');
  t.is((await rig.producer.dataset('again'))?.runId, second.runId);
  const status = await rig.ended('again');
  t.is(status.state, 'completed');
  t.is(status.episodes.skipped, 2);
  t.is(status.episodes.total, 2);
  t.is(status.frames, 2 * ROWS);
  t.deepEqual(rig.finalized[0]?.keys, rig.finalized[1]?.keys, 'in the order of the first plan');
  t.deepEqual(await outcomes(registry), { completed: 2, failed: 0, cancelled: 0, skipped: 2 });
  t.is(await total('roboflow_frames_processed_total', registry), 2 * ROWS);
});

test('a drained worker hands its job to the head of the queue and no try is counted', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const first = rig.consumer();
  await rig.enqueue('drain', ['slow-1500.mcap', 'good-1.mcap', 'good-2.mcap']);
  await rig.until('drain', () => rig.begun.length === 1);
  const drained = first.consumer.drain();
  first.consumer.handBack();
  await drained;
  const waiting = await rig.producer.dataset('drain');
  t.is(waiting?.episodes.waiting, 3);
  const second = rig.consumer();
  const status = await rig.ended('drain');
  t.is(status.state, 'completed');
  t.deepEqual(rig.begun, ['slow-1500.mcap', 'slow-1500.mcap', 'good-1.mcap', 'good-2.mcap']);
  const { items } = await rig.producer.jobs({ dataset: 'drain', limit: 10 });
  t.deepEqual(
    items.map(({ attempts }) => attempts),
    [1, 1, 1],
  );
  t.deepEqual(await outcomes(first.registry, second.registry), {
    completed: 3,
    failed: 0,
    cancelled: 0,
    skipped: 0,
  });
});

test('the job of a worker that died goes back at once, and after the second death it is given up', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const held: ActiveJob[] = [];
  // A conversion that never ends stands for a worker that died: its job is still locked, and nobody works on it.
  const early: string[] = [];
  const hang = async ({ key, slot }: ConversionRequest, { signal, output }: ConversionContext) => {
    early.splice(0, 2, `.roboflow/staged/${key}.parquet`, `videos/cam/chunk-000/file-00${slot}.mp4`);
    for (const path of early) await output.put(path, { bytes: Buffer.from('sent early') });
    await once(signal, 'abort');
    throw asCanceled(signal.reason);
  };
  // Longer than the test: the hanging conversion must not notice that its lock is gone.
  const lockDurationMs = 600_000;
  const dead = rig.consumer({
    lockDurationMs,
    onStart: (job) => job.queue === QUEUES.episode && held.push(job),
    convert: hang,
  });
  await rig.enqueue('crash', ['good-1.mcap']);
  await rig.until('crash', (status) => status.episodes.active === 1);
  const output = openStorage(join(rig.folder, 'out-crash'), {
    metrics: dead.metrics.storage,
    role: 'destination',
  });
  const lie = () => Promise.all(early.map(async (path) => (await output.head(path)) !== undefined));
  for (const deadline = Date.now() + 60_000; !(await lie()).includes(true);) {
    if (Date.now() > deadline) return t.fail('nothing was sent early');
    await sleep(10);
  }
  const { client } = rig.producer;
  const setting = { client, metrics: dead.metrics, log: silent };
  const [job] = held;
  if (!job) return t.fail('no job was announced');
  t.is(await failCrashedJob(setting, job, 'SIGKILL'), 'given-back');
  t.is(await failCrashedJob(setting, job, 'SIGKILL'), 'not-held', 'a second call changes nothing');
  t.is((await rig.producer.dataset('crash'))?.episodes.waiting, 1);

  const second = rig.consumer({
    lockDurationMs,
    onStart: (next) => next.queue === QUEUES.episode && held.push(next),
    convert: hang,
  });
  await rig.until('crash', (status) => status.episodes.active === 1);
  const again = held.at(-1);
  if (!again || again === job) return t.fail('the job did not come back');
  t.is(await failCrashedJob(setting, again, 'SIGKILL'), 'given-up');
  const status = await rig.until('crash', ({ episodes }) => episodes.failed === 1);
  t.is(
    status.failures[0]?.reason,
    'the worker process died 2 times while converting this recording (last: SIGKILL); it is not tried again',
  );
  t.deepEqual(await outcomes(dead.registry, second.registry), {
    completed: 0,
    failed: 1,
    cancelled: 0,
    skipped: 0,
  });
  const attempts = await dead.metrics.job.attempts.get();
  t.deepEqual(
    attempts.values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.outcome, value]),
    [
      ['failed', 1],
      ['requeued', 1],
    ],
  );
  await rig.ended('crash');
  t.deepEqual(await lie(), [false, false], 'what the dead had sent already is gone');
});

test('deaths that hit one recording and then another are chance, up to the fourth of one recording', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { client } = rig.producer;
  const { consumer, metrics, registry } = rig.consumer();
  await client.episodes.pause();
  await rig.enqueue('chance', ['good-1.mcap', 'good-2.mcap']);
  await rig.until('chance', ({ state }) => state === 'converting');
  await consumer.drain();
  await client.episodes.resume();
  // Takes jobs and never works on them, as a worker that dies.
  const connection = client.redis.duplicate({ enableOfflineQueue: true });
  const mortal = new Worker(QUEUES.episode, null, { connection, prefix: rig.prefix, autorun: false });
  t.teardown(async () => {
    await mortal.close();
    connection.disconnect();
  });
  const take = async () => {
    const token = randomUUID();
    const jobId = (await mortal.getNextJob(token, { block: false }))?.id ?? '';
    return { queue: QUEUES.episode, jobId, token, worker: 'mortal' } as const;
  };
  const dies = (job: ActiveJob, blameless = false) =>
    failCrashedJob({ client, metrics, log: silent }, job, 'SIGKILL', blameless);
  for (let round = 0; round < 3; round++) {
    const pair = [await take(), await take()].toSorted((a, b) => (a.jobId < b.jobId ? -1 : 1));
    for (const job of pair) t.is(await dies(job), 'given-back', `${job.jobId}, round ${round}`);
  }
  const [one, other] = [await take(), await take()].toSorted((a, b) => (a.jobId < b.jobId ? -1 : 1));
  t.is(await dies(other as ActiveJob, true), 'given-back', 'killed by its own primary');
  t.is(await dies(one as ActiveJob), 'given-up');
  t.regex((await rig.producer.job(one?.jobId ?? ''))?.reason ?? '', /died 4 times while converting/);
  const again = rig.consumer();
  const status = await rig.ended('chance');
  t.like(status.episodes, { completed: 1, failed: 1 });
  t.is((await outcomes(registry, again.registry))['failed'], 1);
});

test('a recording that loses its pod for the fourth time is given up with a sentence, without being tried again', async (t) => {
  const rig = await Rig.open(t, redis.url);
  let begun = 0;
  const { registry } = rig.consumer({
    lockDurationMs: 1000,
    stalledIntervalMs: 100,
    convert: async (_, { signal }) => {
      begun++;
      await once(signal, 'abort');
      throw asCanceled(signal.reason);
    },
  });
  const { client } = rig.producer;
  await rig.enqueue('stalls', ['good-1.mcap']);
  for (let losses = 1; losses <= 4; losses++) {
    await rig.until('stalls', () => begun === losses);
    // A lock that ran out is all that a vanished pod leaves.
    const [jobId = ''] = await client.redis.lrange(client.store.keys.active(QUEUES.episode), 0, -1);
    await client.redis.del(client.store.keys.lock(QUEUES.episode, jobId));
  }
  const status = await rig.ended('stalls');
  t.is(status.state, 'failed');
  t.is(
    status.failures[0]?.reason,
    'the pod that worked on it vanished, or lost Redis for longer than its lock, again and again; it is not tried again',
  );
  t.is(begun, 4);
  t.deepEqual(await outcomes(registry), { completed: 0, failed: 1, cancelled: 0, skipped: 0 });
});

test('a plan interrupted anywhere goes on where it was: every recording once, failed ones too', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const names = Array.from({ length: 600 }, (_, i) => (i % 100 === 7 ? `bad-${i}.mcap` : `good-${i}.mcap`));
  await rig.enqueue('large', names);
  for (let lives = 0; lives < 3; lives++) {
    const { consumer } = rig.consumer();
    await rig.until('large', ({ episodes }) => episodes.completed + episodes.failed > lives * 20);
    const drained = consumer.drain();
    consumer.handBack();
    await drained;
  }
  const interrupted = await rig.producer.client.datasets.getJobs(['waiting', 'waiting-children']);
  t.is(interrupted.length, 1);
  const { registry } = rig.consumer();
  const status = await rig.ended('large');
  t.is(status.state, 'partial');
  t.like(status.episodes, { total: 600, completed: 594, failed: 6, skipped: 0 });
  t.is(status.frames, 594 * ROWS);
  t.is(rig.finalized.length, 1);
  t.true(rig.begun.length <= 600 + 3, `${rig.begun.length} conversions began`);
  t.true(((await outcomes(registry))['completed'] ?? 0) > 0);
});

test('a dataset of an unusable output fails with the reason in every job, without converting', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('first', ['good-1.mcap'], { output: 'shared' });
  await rig.ended('first');
  await rig.enqueue('second', ['good-2.mcap'], { output: 'shared' });
  const status = await rig.ended('second');
  t.is(status.state, 'failed');
  t.regex(status.failures[0]?.reason ?? '', /expected .* to hold dataset second, found dataset first/);
  t.deepEqual(rig.begun, ['good-1.mcap']);
});

test('a dataset that cannot be published fails with the reason, keeps what is converted, and can be retried', async (t) => {
  const rig = await Rig.open(t, redis.url);
  let conflicts = true;
  const { registry } = rig.consumer({
    finalize: async (request, context) => {
      if (conflicts)
        throw new InputError('expected one shape of observation.state, found [2] in a and [3] in b');
      return await rig.finalize(request, context);
    },
  });
  await rig.enqueue('clash', ['good-1.mcap', 'good-2.mcap']);
  const status = await rig.ended('clash');
  t.like(status, {
    state: 'failed',
    reason: 'expected one shape of observation.state, found [2] in a and [3] in b',
  });
  t.like(status.episodes, { completed: 2, failed: 0 });
  conflicts = false;
  t.like(await rig.producer.retryDataset('clash'), { episodes: 2 });
  const again = await rig.ended('clash');
  t.is(again.state, 'completed');
  t.is(again.reason, undefined);
  t.deepEqual(await outcomes(registry), { completed: 2, failed: 0, cancelled: 0, skipped: 2 });
});

test('a dataset job that keeps dying is given up, and its recordings with it', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { consumer, metrics, registry } = rig.consumer();
  await consumer.drain();
  const { client } = rig.producer;
  const { runId } = await rig.enqueue('doomed', ['good-1.mcap', 'good-2.mcap']);
  // As a worker leaves it that died for the fifth time: active, locked, and nobody there.
  await client.redis.hset(client.store.keys.crashes(runId), 'dataset', 4);
  await client.redis.lrem(`${rig.prefix}:datasets:wait`, 0, runId);
  await client.redis.lpush(`${rig.prefix}:datasets:active`, runId);
  await client.redis.set(client.store.keys.lock('datasets', runId), 'token', 'EX', 60);
  const job: ActiveJob = { queue: 'datasets', jobId: runId, token: 'token', worker: 'gone' };
  t.is(await failCrashedJob({ client, metrics, log: silent }, job, 'SIGSEGV'), 'given-up');
  const status = await rig.producer.dataset('doomed');
  t.is(status?.state, 'failed');
  t.regex(status?.reason ?? '', /died 5 times while publishing this dataset \(last: SIGSEGV\)/);
  t.like(status?.episodes, { total: 2, failed: 2, waiting: 0 });
  t.is((await outcomes(registry))['failed'], 2);
});

test('lists page through datasets and jobs, and filter by state', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('one', ['good-1.mcap', 'bad-1.mcap', 'good-2.mcap']);
  await rig.enqueue('two', ['good-1.mcap', 'bad-2.mcap']);
  await rig.ended('one');
  await rig.ended('two');
  const first = await rig.producer.datasets({ limit: 1 });
  t.deepEqual(
    first.items.map(({ datasetId }) => datasetId),
    ['two'],
  );
  const rest = await rig.producer.datasets({ limit: 1, cursor: first.next });
  t.deepEqual(
    rest.items.map(({ datasetId }) => datasetId),
    ['one'],
  );
  t.is(rest.next, undefined);

  const seen: string[] = [];
  for (let cursor: string | undefined, pages = 0; ; pages++) {
    const page = await rig.producer.jobs({ limit: 2, cursor });
    seen.push(...page.items.map(({ source }) => source.split('/').at(-1) ?? ''));
    cursor = page.next;
    if (!cursor || pages > 10) break;
  }
  t.deepEqual(seen, ['good-1.mcap', 'bad-2.mcap', 'good-1.mcap', 'bad-1.mcap', 'good-2.mcap']);
  const failed = await rig.producer.jobs({ state: 'failed', limit: 10 });
  t.deepEqual(
    failed.items.map(({ datasetId }) => datasetId),
    ['two', 'one'],
  );
  const waiting = await rig.producer.jobs({ state: 'waiting', limit: 10 });
  t.deepEqual(waiting.items, []);
  await t.throwsAsync(rig.producer.jobs({ cursor: 'nonsense', limit: 1 }), { message: /expected a cursor/ });
});

test('the scaling number counts recordings that are not planned yet', async (t) => {
  const rig = await Rig.open(t, redis.url);
  await rig.enqueue('load', ['good-1.mcap', 'good-2.mcap', 'good-3.mcap']);
  t.is(await rig.producer.scaling(), 3);
  rig.consumer();
  await rig.ended('load');
  for (let left = 20; left > 0 && (await rig.producer.scaling()) > 0; left--) await sleep(50);
  t.is(await rig.producer.scaling(), 0);
  const report = await rig.producer.queue(QUEUES.episode);
  t.is(report.counts.completed, 3);
  t.is(report.oldestWaitingSeconds, 0);
});

async function folderBytes(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await readFile(join(entry.parentPath, entry.name))).length;
  }
  return sum;
}

test('what a newer version enqueued waits for a worker that knows it, and the sentence says what is not known', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { runId } = await rig.enqueue('newer', ['good-1.mcap']);
  const { redis: client, store, datasets } = rig.producer.client;
  const key = store.keys.run(runId);
  const spec = (await client.hget(key, 'spec')) ?? '';
  const run = JSON.parse(spec) as { config: object };
  await client.hset(key, 'spec', JSON.stringify({ ...run, config: { ...run.config, sharpen: 1 } }));
  rig.consumer();
  const append = rig.producer.appendRecordings('newer', {
    recordings: [{ source: 'good-2.mcap' }],
    options: { priority: 0 },
  });
  await t.throwsAsync(append, {
    instanceOf: StorageError,
    message: /this version of the service knows, found r.*Unrecognized key: "sharpen".*config/,
  });
  for (let tries = 0; tries === 0;) tries = (await datasets.getJob(runId))?.attemptsMade ?? 0;
  await client.hset(key, 'spec', spec);
  t.like(await rig.ended('newer'), { state: 'completed', failures: [] });
});
