import test, { type ExecutionContext } from 'ava';
import { createApp } from '../../src/http/app.ts';
import { createDatasetRouter } from '../../src/http/datasets.ts';
import { createEventRouter } from '../../src/http/events.ts';
import { createJobRouter } from '../../src/http/jobs.ts';
import { listen } from '../../src/http/listen.ts';
import { createScalingRouter } from '../../src/http/scaling.ts';
import { createWatchRouter } from '../../src/http/watches.ts';
import { PrivateRedis, sharedRedis } from '../helpers/redis.ts';
import { config, Rig, ROWS, silent } from '../queue/rig.ts';

let redis: Awaited<ReturnType<typeof sharedRedis>>;
test.before(async () => {
  redis = await sharedRedis();
});
test.after.always(async () => {
  await redis.end();
});

type Answer = { status: number; headers: Headers; body: Record<string, unknown> };

/** The API over HTTP, on a rig with or without a worker. */
async function serve(t: ExecutionContext, url = redis.url) {
  const rig = await Rig.open(t, url, { failFast: true });
  const { producer } = rig;
  const routers = [
    createDatasetRouter(producer),
    createJobRouter(producer),
    createScalingRouter(producer),
    createWatchRouter(producer),
    createEventRouter(producer, { intervalMs: 20 }),
  ];
  const listening = await listen(createApp({ routers, log: silent }), { host: '127.0.0.1', port: 0 });
  t.teardown(() => listening.close({ graceMs: 0 }));
  const base = `http://127.0.0.1:${listening.port}`;
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const response = await fetch(`${base}${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }),
    });
    return {
      status: response.status,
      headers: response.headers,
      body: response.status === 204 ? {} : ((await response.json()) as Record<string, unknown>),
    };
  };
  return { rig, call, base };
}

const request = (datasetId: string, sources: readonly string[]) => ({
  datasetId,
  output: `out-${datasetId}`,
  config,
  recordings: sources.map((source) => ({ source })),
});

test('a dataset is enqueued, followed and listed over HTTP', async (t) => {
  const { rig, call } = await serve(t);
  const accepted = await call('POST', '/v1/datasets', request('pick', ['good-1.mcap', 'bad-1.mcap']));
  t.is(accepted.status, 202);
  t.is(accepted.headers.get('location'), '/v1/datasets/pick');
  t.like(accepted.body, { datasetId: 'pick', episodes: 2 });
  const planning = await call('GET', '/v1/datasets/pick');
  t.like(planning.body, { state: 'planning', runId: accepted.body['runId'], finishedAt: null });
  t.like((await call('GET', '/v1/scaling')).body, { value: 2 });

  rig.consumer();
  await rig.ended('pick');
  const { status, body } = await call('GET', '/v1/datasets/pick');
  t.is(status, 200);
  t.like(body, { state: 'partial', frames: ROWS, output: `file://${rig.folder}/out-pick` });
  t.deepEqual(body['episodes'], {
    total: 2,
    waiting: 0,
    active: 0,
    completed: 1,
    failed: 1,
    cancelled: 0,
    skipped: 0,
  });
  const jobs = (await call('GET', '/v1/jobs?dataset=pick&state=completed')).body['items'] as {
    jobId: string;
  }[];
  t.is(jobs.length, 1);
  const job = await call('GET', `/v1/jobs/${jobs[0]?.jobId}`);
  t.like(job.body, { state: 'completed', stage: 'upload', progress: 1, attempts: 1, frames: ROWS });
  t.like(job.body['alignment'], { rows: ROWS, droppedRows: 0 });
  t.is(((await call('GET', '/v1/datasets')).body['items'] as unknown[]).length, 1);
});

const refusals: [string, number, string, string, unknown?, string?][] = [
  ['an unknown dataset', 404, 'GET', '/v1/datasets/nobody'],
  ['an id that is no id', 404, 'GET', '/v1/datasets/..%2F..%2Fetc'],
  ['an unknown job', 404, 'GET', '/v1/jobs/nobody.good-1'],
  ['an unknown job to cancel', 404, 'POST', '/v1/jobs/nobody.good-1/cancel'],
  ['an unknown dataset to retry', 404, 'POST', '/v1/datasets/nobody/retry'],
  [
    'an append to an unknown dataset',
    404,
    'POST',
    '/v1/datasets/nobody/episodes',
    { recordings: [{ source: 'a' }] },
  ],
  ['a state that does not exist', 400, 'GET', '/v1/jobs?state=sleeping', undefined, '/query/state'],
  ['an unknown query key', 400, 'GET', '/v1/jobs?colour=red', undefined, '/query/colour'],
  ['a limit of zero', 400, 'GET', '/v1/datasets?limit=0', undefined, '/query/limit'],
  ['a cursor of somebody else', 400, 'GET', '/v1/jobs?cursor=abc'],
  ['a wrong method', 405, 'DELETE', '/v1/datasets'],
  ['no recordings', 422, 'POST', '/v1/datasets', request('x', []), '/recordings'],
  ['an id with a slash', 422, 'POST', '/v1/datasets', request('../x', ['a']), '/datasetId'],
  [
    'a source outside the roots',
    422,
    'POST',
    '/v1/datasets',
    request('x', ['a', 'forbidden/b']),
    '/recordings/1/source',
  ],
  [
    'half a surrogate pair',
    422,
    'POST',
    '/v1/datasets',
    request('x', ['file:///a/\ud800.mcap']),
    '/recordings/0/source',
  ],
  ['an id that is no UTF-8', 404, 'GET', '/v1/jobs/%ff'],
  ['an unknown key', 422, 'POST', '/v1/datasets', { ...request('x', ['a']), fps: 30 }, '/fps'],
  [
    'an fps of 0',
    422,
    'POST',
    '/v1/datasets',
    { ...request('x', ['a']), config: { ...config, fps: 0 } },
    '/config/fps',
  ],
];

test('what cannot be done is refused as a problem that names the field', async (t) => {
  const { call } = await serve(t);
  for (const [title, status, method, path, body, pointer] of refusals) {
    const answer = await call(method, path, body);
    t.is(answer.status, status, `${title}: ${JSON.stringify(answer.body)}`);
    t.is(answer.headers.get('content-type'), 'application/problem+json', title);
    t.is(answer.body['status'], status, title);
    if (pointer) t.is((answer.body['errors'] as { pointer: string }[])[0]?.pointer, pointer, title);
  }
});

test('another output for a known dataset is a conflict', async (t) => {
  const { call } = await serve(t);
  t.is((await call('POST', '/v1/datasets', request('fixed', ['good-1.mcap']))).status, 202);
  const other = await call('POST', '/v1/datasets', {
    ...request('fixed', ['good-2.mcap']),
    output: 'elsewhere',
  });
  t.is(other.status, 409);
  t.regex(String(other.body['detail']), /is written to file:.*out-fixed, not to file:.*elsewhere/);
});

test('a request repeated with its Idempotency-Key is answered again and done once', async (t) => {
  const { rig, call } = await serve(t);
  const body = request('once', ['good-1.mcap']);
  const post = (key: string, what: unknown = body) =>
    call('POST', '/v1/datasets', what, { 'idempotency-key': key });
  const [first, twin] = await Promise.all([post('key-1'), post('key-1')]);
  t.deepEqual(
    [first.status, twin.status].toSorted((a, b) => a - b),
    [202, 409],
    'the second comes while the first is running',
  );
  const again = await post('key-1');
  t.is(again.status, 202);
  t.is(again.headers.get('idempotency-replayed'), 'true');
  t.deepEqual(again.body, first.status === 202 ? first.body : twin.body);
  t.is(await rig.producer.scaling(), 1);
  t.is((await post('key-1', request('once', ['good-2.mcap']))).status, 409);
  t.is((await post('key-2')).status, 202);
  t.is((await post('a b')).status, 400);
  t.is((await post('key-3', request('once', ['forbidden']))).status, 422);
  t.is((await post('key-3')).status, 202, 'a refusal does not use the key up');
});

test('a repeated key is no promise of a watch that has ended since', async (t) => {
  const { call } = await serve(t);
  const begin = (key: string) =>
    call(
      'POST',
      '/v1/watches',
      { datasetId: 'seen', output: 'out-seen', config, prefix: 'raw/' },
      { 'idempotency-key': key },
    );
  const first = await begin('key-1');
  t.is(first.status, 202);
  const again = await begin('key-1');
  t.is(again.headers.get('idempotency-replayed'), 'true');
  t.deepEqual(again.body, first.body);
  t.is((await call('DELETE', `/v1/watches/${String(first.body['watchId'])}`)).status, 204);
  const late = await begin('key-1');
  t.is(late.status, 409);
  t.regex(String(late.body['detail']), /has ended; a new request needs a new key/);
  t.deepEqual((await call('GET', '/v1/watches')).body, { items: [] });
  t.is((await begin('key-2')).status, 202);
});

type Event = { id?: string; event?: string; data?: Record<string, unknown> };

/** Reads server-sent events until `enough` says so. */
async function events(url: string, enough: (all: Event[]) => boolean, headers: Record<string, string> = {}) {
  const abort = new AbortController();
  const response = await fetch(url, { headers, signal: abort.signal });
  const all: Event[] = [];
  let text = '';
  for await (const chunk of response.body ?? []) {
    text += new TextDecoder().decode(chunk as Uint8Array);
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = new Map(
        text
          .slice(0, end)
          .split('\n')
          .map((line): [string, string] => {
            const colon = line.indexOf(':');
            return [line.slice(0, colon), line.slice(colon + 2)];
          }),
      );
      text = text.slice(end + 2);
      const [id, event, data] = [fields.get('id'), fields.get('event'), fields.get('data')];
      if (data === undefined) continue;
      all.push({
        ...(id ? { id } : {}),
        ...(event ? { event } : {}),
        data: JSON.parse(data) as Event['data'] & {},
      });
    }
    if (enough(all)) break;
  }
  abort.abort();
  return { all, type: response.headers.get('content-type') };
}

test('events tell how a dataset goes on, and go on after the last one that was seen', async (t) => {
  const { rig, call, base } = await serve(t);
  await call('POST', '/v1/datasets', request('live', ['slow-300.mcap', 'bad-1.mcap', 'good-1.mcap']));
  const url = `${base}/v1/datasets/live/events`;
  const watching = events(url, (all) =>
    all.some(({ event, data }) => event === 'dataset' && data?.['state'] === 'partial'),
  );
  rig.consumer();
  const { all, type } = await watching;
  t.is(type, 'text/event-stream');
  const jobs = all.filter(({ event }) => event === 'job');
  t.deepEqual(
    jobs.map(({ data }) => data?.['state']),
    ['completed', 'failed', 'completed'],
  );
  t.regex(String(jobs[1]?.data?.['reason']), /expected an MCAP recording/);
  const states = all.filter(({ event }) => event === 'dataset').map(({ data }) => data?.['state']);
  t.deepEqual(states, ['converting', 'finalizing', 'partial']);
  const progress = all.filter(({ event }) => event === 'progress').map(({ data }) => data);
  t.like(progress[0], { datasetId: 'live', state: 'planning', active: [] });
  t.true(
    progress.some((data) => (data?.['active'] as unknown[] | undefined)?.length === 1),
    'running jobs are shown',
  );

  const seen = jobs[0]?.id ?? '';
  const rest = await events(url, (found) => found.length >= 4, { 'last-event-id': seen });
  const later = all
    .filter(({ id }) => id !== undefined)
    .slice(all.filter(({ id }) => id).findIndex(({ id }) => id === seen) + 1);
  t.deepEqual(rest.all.slice(0, later.length), later);
  const wrong = await call('GET', '/v1/datasets/nobody/events');
  t.is(wrong.status, 404);
});

test('while Redis is away or hangs every route answers 503 within 3 s, and works again afterwards', async (t) => {
  const own = await PrivateRedis.start();
  t.teardown(() => own.end());
  const { call } = await serve(t, own.url);
  t.is((await call('POST', '/v1/datasets', request('away', ['good-1.mcap']))).status, 202);
  const expectUnavailable = async (what: string) => {
    for (const [method, path, body] of [
      ['GET', '/v1/datasets/away'],
      ['GET', '/v1/jobs'],
      ['POST', '/v1/datasets', request('away', ['good-2.mcap'])],
    ] as const) {
      const started = performance.now();
      const answer = await call(method, path, body);
      t.is(answer.status, 503, `${what}: ${method} ${path}`);
      t.truthy(answer.headers.get('retry-after'));
      t.true(performance.now() - started < 3500, `${what}: ${method} ${path}`);
    }
  };
  own.freeze();
  await expectUnavailable('frozen');
  own.thaw();
  await own.kill();
  await expectUnavailable('killed');
  await own.resume();
  let status = 0;
  for (let tries = 0; tries < 40 && status !== 200; tries++)
    status = (await call('GET', '/v1/datasets/away')).status;
  t.is(status, 200);
});
