import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { createApp } from '../../src/http/app.ts';
import { listen } from '../../src/http/listen.ts';
import { createWatchRouter } from '../../src/http/watches.ts';
import type { WatchStatus } from '../../src/queue/watches.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { config, Rig, silent } from './rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

/** Asks until the answer is as wanted. */
async function asked<T>(ask: () => Promise<T>, wanted: (value: T) => boolean): Promise<T> {
  for (let tries = 0; ; tries++) {
    const value = await ask();
    if (wanted(value)) return value;
    if (tries > 500) throw new Error(`not in time: ${JSON.stringify(value)}`);
    await sleep(30);
  }
}

test('what appears below a watched prefix is enqueued once, when it has stopped growing', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  rig.consumer();
  const folder = join(rig.folder, 'incoming');
  const growing = join(folder, 'good-2.mcap');
  const request = {
    datasetId: 'inbox',
    output: 'out-inbox',
    config,
    prefix: 'incoming',
    everySeconds: 1,
    options: { priority: 0 },
  };
  const watch = await rig.producer.watch(request);
  t.like(watch, { datasetId: 'inbox', everySeconds: 1, taken: 0, lastLookAt: null });
  const own = async () => (await rig.producer.watches())[0] as WatchStatus;
  const empty = await asked(own, ({ lastLookAt }) => lastLookAt !== null);
  t.regex(empty.reason ?? '', /incoming/);

  await mkdir(folder);
  await writeFile(join(folder, 'good-1.mcap'), 'one');
  let writing = true;
  const writer = (async () => {
    while (writing) {
      await appendFile(growing, 'more');
      await sleep(50);
    }
  })();
  const first = await asked(own, ({ taken }) => taken === 1);
  t.is(first.growing, 1, 'the one that grows waits');
  t.is(first.reason, undefined);
  await rig.ended('inbox');
  t.deepEqual(rig.begun, ['good-1.mcap']);

  writing = false;
  await writer;
  await asked(own, ({ taken }) => taken === 2);
  const status = await rig.until(
    'inbox',
    ({ episodes, finishedAt }) => episodes.total === 2 && finishedAt !== null,
  );
  t.is(status.state, 'completed');
  const looked = (await own()).lastLookAt;
  await asked(own, ({ lastLookAt }) => lastLookAt !== looked);
  t.deepEqual(rig.begun, ['good-1.mcap', 'good-2.mcap'], 'further looks find nothing new');

  t.true(await rig.producer.unwatch((await own()).watchId));
  t.deepEqual(await rig.producer.watches(), []);
  t.deepEqual(await rig.producer.client.watches.getJobSchedulers(), []);
});

test('watches are made, listed and ended over HTTP', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const app = createApp({ routers: [createWatchRouter(rig.producer)], log: silent });
  const server = await listen(app, { host: '127.0.0.1', port: 0 });
  t.teardown(() => server.close({ graceMs: 0 }));
  const url = `http://127.0.0.1:${server.port}/v1/watches`;
  const post = (body: object) =>
    fetch(url, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
  const request = { datasetId: 'inbox', output: 'out-inbox', config, prefix: 'incoming' };
  const made = await post(request);
  t.is(made.status, 202);
  const { watchId } = (await made.json()) as WatchStatus;
  t.is((await post({ ...request, everySeconds: 5 })).status, 202);
  const list = (await (await fetch(url)).json()) as { items: WatchStatus[] };
  t.is(list.items.length, 1, 'the same prefix again changes how');
  t.like(list.items[0], { watchId, everySeconds: 5, prefix: `file://${rig.folder}/incoming` });
  t.is((await post({ ...request, everySeconds: 0 })).status, 422);
  t.is((await fetch(`${url}/${watchId}`, { method: 'DELETE' })).status, 204);
  t.is((await fetch(`${url}/${watchId}`, { method: 'DELETE' })).status, 404);
});
