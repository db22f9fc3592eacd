import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createApp } from '../../src/http/app.ts';
import { createDatasetRouter } from '../../src/http/datasets.ts';
import { createEventRouter } from '../../src/http/events.ts';
import { createJobRouter } from '../../src/http/jobs.ts';
import { listen } from '../../src/http/listen.ts';
import { problemBody } from '../../src/http/problem.ts';
import { createScalingRouter } from '../../src/http/scaling.ts';
import { createWatchRouter } from '../../src/http/watches.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { Rig, ROWS, silent } from '../queue/rig.ts';

/** What clients get wrong, and what they must get for it; each row says how it differs from a request that is accepted. */

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

const token = 'correct-horse-battery-staple';
const config = { fps: 10, features: { a: { topic: '/joints', field: 'position' } } };
const good = { datasetId: 'table', output: 'out', config, recordings: [{ source: 'good-1.mcap' }] };

async function serve(t: ExecutionContext) {
  const rig = await Rig.open(t, redis.url);
  const { producer } = rig;
  const routers = [
    createDatasetRouter(producer),
    createJobRouter(producer),
    createScalingRouter(producer),
    createWatchRouter(producer),
    createEventRouter(producer, { intervalMs: 20 }),
  ];
  const listening = await listen(createApp({ routers, log: silent, token }), { host: '127.0.0.1', port: 0 });
  t.teardown(() => listening.close({ graceMs: 0 }));
  const call = (path: string, { method = 'GET', body, headers = {} }: Partial<Row>) =>
    fetch(`http://127.0.0.1:${listening.port}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
  return { rig, call, port: listening.port };
}

type Row = {
  readonly what: string;
  readonly status: number;
  readonly path?: string;
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly pointers?: readonly string[];
  readonly detail?: RegExp;
  readonly answered?: Record<string, string>;
};

const post = (what: string, status: number, body: unknown, more: Partial<Row> = {}): Row => ({
  what,
  status,
  method: 'POST',
  path: '/v1/datasets',
  body,
  ...more,
});
const source = (location: string, detail: RegExp) =>
  post(
    `source ${location}`,
    422,
    { ...good, recordings: [{ source: location }] },
    { pointers: ['/recordings/0/source'], detail },
  );
const nested = (open: string, close: string) => open.repeat(50_000) + close.repeat(50_000);
const cursor = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

const rows: readonly Row[] = [
  {
    what: 'no token',
    status: 401,
    path: '/v1/jobs',
    headers: { authorization: '' },
    answered: { 'www-authenticate': 'Bearer' },
  },
  {
    what: 'a wrong token',
    status: 401,
    path: '/v1/jobs',
    headers: { authorization: 'Bearer x' },
    answered: { 'www-authenticate': 'Bearer error="invalid_token"' },
  },
  {
    what: 'another scheme',
    status: 401,
    path: '/v1/jobs',
    headers: { authorization: 'Digest x' },
    answered: { 'www-authenticate': 'Bearer' },
  },
  {
    what: 'no token at a path that is not there',
    status: 401,
    path: '/v1/nothing',
    headers: { authorization: '' },
  },
  post(
    'wrong types',
    422,
    { datasetId: 1, output: 2, config: 3, recordings: 4, options: 5 },
    {
      pointers: ['/config', '/datasetId', '/options', '/output', '/recordings'],
    },
  ),
  post('a list', 422, [], { pointers: [''] }),
  post('null', 422, 'null', { pointers: [''] }),
  post(
    'options out of range',
    422,
    { ...good, options: { priority: 1.5, attempts: 0 } },
    { pointers: ['/options/attempts', '/options/priority'] },
  ),
  post(
    'unknown keys at every level',
    422,
    { ...good, x: 1, recordings: [{ source: 'a', y: 2 }], config: { ...config, feature: 3 } },
    {
      pointers: ['/config/feature', '/recordings/0/y', '/x'],
    },
  ),
  post('malformed JSON', 400, '{\n  "datasetId": abc}', { detail: /line 2, column 16: unexpected "abc}"/ }),
  post('JSON cut short', 400, '{"datasetId":', { detail: /line 1, column 14: unexpected end/ }),
  post('a very deep list cut short', 400, '['.repeat(1_000_000), { detail: /it is nested too deeply/ }),
  post('a trailing comma', 400, '{"a": 1,}', { detail: /line 1, column 9/ }),
  post('two values', 400, '{} {}', { detail: /line 1, column 4/ }),
  post('nothing', 400, '', { detail: /it is empty/ }),
  post('a very deep list', 422, nested('[', ']'), { pointers: [''] }),
  post('a very deep config', 422, `{"config": ${nested('{"features":', '}').replace('}', '1}')}}`),
  post(
    'a key that pollutes prototypes',
    422,
    JSON.stringify(good).replace('{', '{"__proto__": {"admin": true}, '),
    { pointers: ['/__proto__'] },
  ),
  post('the same in the config', 422, JSON.stringify(good).replace('"fps"', '"__proto__": {}, "fps"'), {
    pointers: ['/config/__proto__'],
  }),
  post(
    'the same as a column',
    422,
    JSON.stringify(good).replace('"a":', '"__proto__": {"topic": "/b"}, "a":'),
    { pointers: ['/config/features/__proto__'] },
  ),
  post('an id for prototypes', 422, { ...good, datasetId: '__proto__' }, { pointers: ['/datasetId'] }),
  post('a form', 415, 'a=1', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
  post('another charset', 415, JSON.stringify(good), {
    headers: { 'content-type': 'application/json; charset=iso-8859-1' },
    detail: /UTF-8/,
  }),
  post('a compressed body', 415, '{}', { headers: { 'content-encoding': 'br' } }),
  post('an Idempotency-Key that is too long', 400, good, { headers: { 'idempotency-key': 'x'.repeat(256) } }),
  post('an Idempotency-Key that is empty', 400, good, { headers: { 'idempotency-key': '' } }),
  source('forbidden/a.mcap', /expected a source below/),
  source('unreadable/', /permission denied/),
  { what: 'a cursor that is none', status: 400, path: '/v1/jobs?cursor=%21%21', detail: /cursor/ },
  {
    what: 'a cursor with an absurd place',
    status: 400,
    path: `/v1/datasets?cursor=${cursor(['x', 1e99])}`,
    detail: /cursor/,
  },
  {
    what: 'a cursor of another shape',
    status: 400,
    path: `/v1/jobs?cursor=${cursor({ datasetId: 'x' })}`,
    detail: /cursor/,
  },
  { what: 'a state there is not', status: 400, path: '/v1/jobs?state=asleep', pointers: ['/query/state'] },
  { what: 'two states', status: 400, path: '/v1/jobs?state=active&state=failed', pointers: ['/query/state'] },
  { what: 'a limit beyond the range', status: 400, path: '/v1/jobs?limit=501', pointers: ['/query/limit'] },
  {
    what: 'traversal in the query',
    status: 400,
    path: '/v1/jobs?dataset=../../etc',
    pointers: ['/query/dataset'],
  },
  { what: 'traversal in the path', status: 404, path: '/v1/datasets/..%2f..%2fetc%2fpasswd' },
  { what: 'a path that is no UTF-8', status: 404, path: '/v1/datasets/%zz' },
  { what: 'an id of 7000 letters', status: 404, path: `/v1/jobs/${'x'.repeat(7000)}` },
  { what: 'an address beyond the limit', status: 431, path: `/v1/jobs/${'x'.repeat(20_000)}` },
  { what: 'a watch there is not', status: 404, method: 'DELETE', path: '/v1/watches/none' },
  {
    what: 'events after nothing that was sent',
    status: 400,
    path: '/v1/datasets/known/events',
    headers: { 'last-event-id': 'x' },
  },
  {
    what: 'a wrong method',
    status: 405,
    method: 'PUT',
    path: '/v1/datasets/known',
    answered: { allow: 'GET, HEAD' },
  },
  {
    what: 'a wrong method of a list',
    status: 405,
    method: 'DELETE',
    path: '/v1/datasets',
    answered: { allow: 'GET, HEAD, POST' },
  },
  {
    what: 'looking at what is for changing',
    status: 405,
    path: '/v1/datasets/known/cancel',
    answered: { allow: 'POST' },
  },
  {
    what: 'a page of somebody else',
    status: 403,
    path: '/v1/jobs',
    headers: { origin: 'http://evil.example' },
  },
];

test('every wrong request is a problem of the agreed shape, with every fault of its fields', async (t) => {
  const { rig, call } = await serve(t);
  await rig.enqueue('known', ['good-1.mcap']);
  for (const row of rows) {
    const { what, status, path = '', pointers, detail, answered = {} } = row;
    const response = await call(path, row);
    const text = await response.text();
    t.is(response.status, status, `${what}: ${text}`);
    t.is(response.headers.get('content-type'), 'application/problem+json', what);
    const problem = problemBody.strict().parse(JSON.parse(text));
    t.is(problem.status, status, what);
    if (pointers)
      t.deepEqual(problem.errors?.map(({ pointer }) => pointer).toSorted(), pointers, `${what}: ${text}`);
    if (detail) t.regex(problem.detail, detail, what);
    for (const [name, value] of Object.entries(answered)) t.is(response.headers.get(name), value, what);
  }
  t.is(await rig.producer.scaling(), 1, 'nothing of it was enqueued');
  t.is(({} as Record<string, unknown>)['admin'], undefined);
});

test('HEAD answers like GET without a body, OPTIONS says what is allowed, nothing allows other origins', async (t) => {
  const { rig, call } = await serve(t);
  await rig.enqueue('known', ['good-1.mcap']);
  for (const path of [
    '/v1/datasets',
    '/v1/datasets/known',
    '/v1/datasets/known/events',
    '/v1/jobs',
    '/v1/scaling',
  ]) {
    const head = await call(path, { method: 'HEAD' });
    t.is(head.status, 200, path);
    t.is(await head.text(), '', path);
  }
  t.is((await call('/v1/datasets/nobody', { method: 'HEAD' })).status, 404);
  const options = await call('/v1/datasets', { method: 'OPTIONS' });
  t.is(options.status, 204);
  t.is(options.headers.get('allow'), 'GET, HEAD, POST');
  t.false([...options.headers.keys()].some((name) => name.startsWith('access-control-')));
});

test('what is no HTTP request is a problem too', async (t) => {
  const { port } = await serve(t);
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (data) => (text += String(data)));
    socket.on('close', () => resolve(text));
    socket.on('error', () => undefined);
    socket.write('HELO there\r\n\r\n');
  });
  t.regex(
    answer,
    /^HTTP\/1\.1 400 Bad request\r\nContent-Type: application\/problem\+json\r\n[^]*"status":400/,
  );
});

test('a stream that is not to be followed tells what there is and ends', async (t) => {
  const { rig, call } = await serve(t);
  await rig.enqueue('told', ['good-1.mcap']);
  rig.consumer();
  await rig.ended('told');
  const told = await call('/v1/datasets/told/events?follow=false', { headers: { 'last-event-id': '0-0' } });
  t.is(told.headers.get('content-type'), 'text/event-stream');
  const events = (await told.text()).split('\n\n').filter((block) => block.includes('data: '));
  t.deepEqual(
    events.map((block) => /event: (\w+)/.exec(block)?.[1]),
    ['dataset', 'dataset', 'job', 'dataset', 'dataset', 'progress'],
  );
});

test('one recording enqueued by many at the same time is converted, and is in the dataset once', async (t) => {
  const { rig, call } = await serve(t);
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => call('/v1/datasets', { method: 'POST', body: good })),
  );
  t.deepEqual(
    answers.map(({ status }) => status),
    Array.from({ length: 10 }, () => 202),
  );
  const runs = (await Promise.all(answers.map((answer) => answer.json()))) as { runId: string }[];
  t.is(new Set(runs.map(({ runId }) => runId)).size, 10);
  rig.consumer();
  rig.consumer();
  const ended = await rig.ended('table', 60_000);
  t.like(ended, { state: 'completed', frames: ROWS });
  t.is(ended.episodes.total, 1);
  t.is(ended.episodes.completed + ended.episodes.skipped, 1);
  const jobs = (await (await call('/v1/jobs?dataset=table', {})).json()) as { items: unknown[] };
  t.is(jobs.items.length, 1);
});
