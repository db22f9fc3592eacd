import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Redis } from 'ioredis';
import { retireDataset } from '../../src/queue/retention.ts';
import { randomPrefix, sharedRedis } from '../helpers/redis.ts';
import { Rig, ROWS } from './rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

test('status answers stay right when the queue has removed the jobs', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('kept', ['good-1.mcap', 'bad-1.mcap', 'flaky-9.mcap']);
  const before = await rig.ended('kept');
  const jobs = (await rig.producer.jobs({ dataset: 'kept', limit: 10 })).items;
  const { client } = rig.producer;
  await client.episodes.clean(0, 1000, 'completed');
  await client.episodes.clean(0, 1000, 'failed');
  await client.datasets.clean(0, 1000, 'completed');
  t.is((await rig.producer.queue('episodes')).counts.failed, 0);
  t.deepEqual(await rig.producer.dataset('kept'), before);
  const after = (await rig.producer.jobs({ dataset: 'kept', limit: 10 })).items;
  const ends = (list: typeof jobs) =>
    list.map(({ jobId, state, attempts, reason, finishedAt }) => [
      jobId,
      state,
      attempts,
      reason,
      finishedAt,
    ]);
  t.deepEqual(ends(after), ends(jobs));
  t.like(await rig.producer.job(jobs[0]?.jobId ?? ''), { state: 'completed', alignment: { rows: ROWS } });
  t.like(await rig.producer.retryDataset('kept'), { episodes: 2 });
  t.is((await rig.ended('kept')).episodes.failed, 2);
});

test('recordings of a run that no worker has planned yet are kept for as long as its dataset', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { runId } = await rig.enqueue('waiting', ['good-1.mcap']);
  const { store, redis: client } = rig.producer.client;
  t.is(await client.ttl(store.keys.staged(runId)), -1);
  rig.consumer();
  t.is((await rig.ended('waiting')).state, 'completed');
  t.is(await client.exists(store.keys.staged(runId)), 0);
});

test('datasets that ended expire, and of too many the oldest is forgotten with everything it had', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  const { store, redis: client } = rig.producer.client;
  for (const id of ['old', 'young']) {
    await rig.enqueue(id, ['good-1.mcap', 'bad-1.mcap']);
    await rig.ended(id);
  }
  const ttl = async (name: string) => await client.ttl(name);
  for (let tries = 0; tries < 100 && (await ttl(store.keys.dataset('young'))) < 0; tries++)
    await client.ping();
  t.true((await ttl(store.keys.dataset('young'))) > 29 * 86_400);
  t.true((await ttl(store.keys.entries('young'))) > 29 * 86_400);
  const keysOf = async (id: string) =>
    (await client.keys('*')).filter((name) => name.includes(rig.prefix) && name.endsWith(`:${id}`));
  t.true((await keysOf('old')).length >= 6);
  await retireDataset(client, store.keys, 'young', 1);
  t.deepEqual(await keysOf('old'), []);
  t.is(await rig.producer.dataset('old'), undefined);
  t.deepEqual(
    (await rig.producer.datasets({ limit: 10 })).items.map(({ datasetId }) => datasetId),
    ['young'],
  );

  await rig.enqueue('young', ['good-2.mcap']);
  t.is(await ttl(store.keys.dataset('young')), -1, 'one that goes on is kept');
});

test('a dataset that Redis has lost is taken over from its ledger by the next enqueue', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('lost', ['good-1.mcap', 'bad-1.mcap', 'good-2.mcap']);
  await rig.ended('lost');
  const first = JSON.parse(await readFile(join(rig.folder, 'out-lost/meta/info.json'), 'utf8')) as {
    keys: string[];
  };

  const again = rig.twin(randomPrefix());
  again.consumer();
  const output = `file://${rig.folder}/out-lost`;
  await again.enqueue('lost', [`file://${rig.folder}/good-2.mcap`, `file://${rig.folder}/good-3.mcap`], {
    output,
  });
  const status = await again.ended('lost');
  t.like(status.episodes, { total: 4, completed: 2, failed: 1, skipped: 1 });
  t.is(status.state, 'partial');
  t.is(status.frames, 3 * ROWS);
  const second = JSON.parse(await readFile(join(rig.folder, 'out-lost/meta/info.json'), 'utf8')) as {
    keys: string[];
  };
  t.deepEqual(second.keys.slice(0, 2), first.keys, 'what was published stays where it was');
  t.is(second.keys.length, 3);
  const slots = await Promise.all(
    second.keys.map(async (key) => {
      const manifest = await readFile(join(rig.folder, `out-lost/.roboflow/episodes/${key}.json`), 'utf8');
      return (JSON.parse(manifest) as { slot: number }).slot;
    }),
  );
  t.deepEqual(slots, [0, 2, 3], 'no video slot is given twice');
});

test('what Redis lost in the middle of a batch is completed by its manifest, or failed until it is retried', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const gate = new AbortController();
  t.teardown(() => gate.abort());
  const { consumer } = rig.consumer({
    convert: async (request, context) => {
      if (request.source.includes('good-2')) await once(gate.signal, 'abort');
      return await rig.convert(request, context);
    },
  });
  const { store, redis: client } = rig.producer.client;
  await rig.enqueue('half', ['good-1.mcap', 'good-2.mcap', 'good-3.mcap']);
  await rig.until('half', ({ episodes }) => episodes.completed === 1 && episodes.active === 1);
  await client.unlink(
    `${rig.prefix}:episodes:wait`,
    ...consumer.active().map(({ queue, jobId }) => store.keys.job(queue, jobId)),
  );
  gate.abort();
  await rig.until('half', () => consumer.active().length === 0);

  const again = rig.twin(randomPrefix());
  again.consumer();
  const output = `file://${rig.folder}/out-half`;
  await again.enqueue('half', [`file://${rig.folder}/good-4.mcap`], { output });
  const status = await again.ended('half');
  t.is(status.state, 'partial');
  t.like(status.episodes, { total: 4, waiting: 0, completed: 3, failed: 1 });
  t.is(status.frames, 3 * ROWS);
  t.regex(status.failures[0]?.source ?? '', /good-3/);
  t.regex(status.failures[0]?.reason ?? '', /Redis lost this recording before it was converted/);
  t.like(await again.producer.retryDataset('half'), { episodes: 1 });
  const mended = await again.ended('half');
  t.is(mended.state, 'completed');
  t.is(mended.frames, 4 * ROWS);
});

test('all keys carry the prefix, so that one cluster slot holds them', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const client = new Redis(redis.url);
  t.teardown(() => client.disconnect());
  const before = new Set(await client.keys('*'));
  rig.consumer();
  await rig.enqueue('slot', ['good-1.mcap']);
  await rig.ended('slot');
  const mine = (await client.keys('*')).filter((name) => !before.has(name) && !name.startsWith('{test-'));
  t.deepEqual(mine, []);
});
