import type Router from '@koa/router';
import test from 'ava';
import sharp from 'sharp';
import { createApp } from '../../src/http/app.ts';
import { createBoardRouter } from '../../src/http/board.ts';
import { createDatasetRouter } from '../../src/http/datasets.ts';
import { createEventRouter } from '../../src/http/events.ts';
import { createJobRouter } from '../../src/http/jobs.ts';
import { listen } from '../../src/http/listen.ts';
import { createOpenApiRouter, describeApi } from '../../src/http/openapi.ts';
import { createScalingRouter } from '../../src/http/scaling.ts';
import { createWatchRouter } from '../../src/http/watches.ts';
import { browser, openPage } from '../helpers/browser.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { Rig, silent } from '../queue/rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

type Json = Record<string, unknown>;

test('the description has every route of the API, and every reference in it leads somewhere', async (t) => {
  const rig = await Rig.open(t, redis.url);
  const { producer } = rig;
  const routers: Router[] = [
    createDatasetRouter(producer),
    createJobRouter(producer),
    createScalingRouter(producer),
    createWatchRouter(producer),
    createEventRouter(producer),
  ];
  const document = describeApi('1.2.3') as { paths: Record<string, Json>; components: { schemas: Json } };
  const served = routers.flatMap((router) =>
    router.stack.flatMap((layer) =>
      layer.methods
        .filter((method) => method !== 'HEAD')
        .map((method) => `${method} ${String(layer.path).replaceAll(/:(\w+)/g, '{$1}')}`),
    ),
  );
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  t.true(served.length >= 11);
  for (const route of served) t.true(described.includes(route), route);
  t.deepEqual(
    described.filter((route) => route.includes('/v1/') && !served.includes(route)),
    [],
  );
  const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
    ([, name]) => name,
  );
  t.true(references.length > 20);
  for (const name of references) t.truthy(document.components.schemas[name ?? ''], name);
  const enqueue = document.components.schemas['Enqueue'] as { properties: Json };
  t.deepEqual(enqueue.properties['config'], { $ref: '#/components/schemas/DatasetConfig' });
  const config = document.components.schemas['DatasetConfig'] as { properties: Json };
  t.true('fps' in config.properties);
});

test('the board shows the queues and changes nothing', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await rig.enqueue('shown', ['good-1.mcap', 'bad-1.mcap']);
  await rig.ended('shown');
  const routers = [createBoardRouter(rig.producer), createOpenApiRouter('1.2.3')];
  const server = await listen(createApp({ routers, log: silent }), { host: '127.0.0.1', port: 0 });
  t.teardown(() => server.close({ graceMs: 0 }));
  const base = `http://127.0.0.1:${server.port}`;
  const page = await fetch(`${base}/queues`);
  t.is(page.status, 200);
  t.regex(page.headers.get('content-security-policy') ?? '', /default-src 'self'/);
  const html = await page.text();
  const [, script] = /src="(static\/js\/main[^"]+)"/.exec(html) ?? [];
  t.regex(html, /<base href="\/queues\/"/);
  const code = await fetch(`${base}/queues/${script}`);
  t.is(code.status, 200);
  t.regex(code.headers.get('content-type') ?? '', /javascript/);
  t.true((await code.text()).length > 1000);
  for (const name of ['..%2f..%2fpackage.json', 'none.js', '%', 'a%ffb']) {
    const path = `/queues/static/${name}`;
    t.is((await fetch(base + path)).status, 404, path);
  }

  const listed = (await (
    await fetch(`${base}/queues/api/queues?activeQueue=episodes&status=failed&page=1`)
  ).json()) as {
    queues: {
      name: string;
      readOnlyMode: boolean;
      counts: Record<string, number>;
      jobs: { failedReason: string }[];
    }[];
  };
  t.deepEqual(
    listed.queues.map(({ name, readOnlyMode }) => [name, readOnlyMode]),
    [
      ['datasets', true],
      ['episodes', true],
    ],
  );
  t.like(listed.queues[1]?.counts, { completed: 1, failed: 1 });
  t.regex(listed.queues[1]?.jobs[0]?.failedReason ?? '', /expected an MCAP recording/);
  for (const [method, path] of [
    ['PUT', '/queues/api/queues/episodes/clean/failed'],
    ['PUT', '/queues/api/queues/episodes/pause'],
    ['POST', '/queues/api/queues/episodes/add'],
  ] as const) {
    const { status } = await fetch(base + path, {
      method,
      body: '{}',
      headers: { 'content-type': 'application/json' },
    });
    t.true(status === 404 || status === 405, `${method} ${path}: ${status}`);
  }
  t.is((await fetch(`${base}/openapi.json`)).status, 200);
});

(browser ? test : test.skip)(
  'Chromium draws the board with the counts and the failed jobs of the queues',
  async (t) => {
    const rig = await Rig.open(t, redis.url);
    rig.consumer();
    await rig.enqueue('drawn', ['good-1.mcap', 'bad-1.mcap']);
    await rig.ended('drawn');
    const app = createApp({ routers: [createBoardRouter(rig.producer)], log: silent });
    const server = await listen(app, { host: '127.0.0.1', port: 0 });
    t.teardown(() => server.close({ graceMs: 0 }));
    const { shot, document } = await openPage(
      t,
      `http://127.0.0.1:${server.port}/queues/queue/episodes?status=failed`,
      { width: 1280, height: 900 },
    );
    t.regex(document, /roboflow-worker/);
    t.regex(document, /r[0-9a-z]+-bad_1-/, 'the failed job');
    t.regex(document, /<code[^>]*>[^]*expected an MCAP recording[^]*<\/code>/, 'why it failed');
    const { data, info } = await sharp(shot).greyscale().raw().toBuffer({ resolveWithObject: true });
    t.is(info.width, 1280);
    t.true(new Set(data).size > 20, 'the page is not blank');
  },
);
