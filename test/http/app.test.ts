import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { networkInterfaces } from 'node:os';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import Router from '@koa/router';
import test, { type ExecutionContext } from 'ava';
import { z } from 'zod';
import { InputError, StorageError } from '../../src/errors.ts';
import { createApp, type AppOptions } from '../../src/http/app.ts';
import { parseBody, parseParams, parseQuery } from '../../src/http/body.ts';
import { listen } from '../../src/http/listen.ts';
import { notFound, problemBody, unavailable } from '../../src/http/problem.ts';
import type { RequestObservation } from '../../src/http/request-log.ts';
import { createLog } from '../../src/log.ts';
import { untilAsync } from '../helpers/service.ts';

const TOKEN = 'correct-horse-battery-staple';

function routes(): Router {
  const router = new Router();
  const thing = z.strictObject({ name: z.string().min(1), 'a/b': z.object({ fps: z.int().positive() }) });
  router.get('/metrics', (ctx) => void (ctx.body = 'x 1\n'));
  router.post('/v1/things', async (ctx) => {
    ctx.status = 202;
    ctx.body = await parseBody(ctx, thing, { limit: 1000 });
  });
  router.get('/v1/things', (ctx) => {
    ctx.body = parseQuery(ctx, z.object({ state: z.enum(['waiting', 'active']).optional() }));
  });
  router.get('/v1/things/:id', (ctx) => {
    const { id } = parseParams(
      ctx,
      z.object({ id: z.string().regex(/^[a-z-]+$/, 'expected a lower-case id') }),
    );
    if (id === 'boom') throw new TypeError('secret detail of the inside');
    if (id === 'input') throw new InputError('expected a recording, found a folder');
    if (id === 'store') throw new StorageError('the store is away', { retryable: true, reason: 'network' });
    if (id === 'redis') throw unavailable('the queue is away', { retryAfterSeconds: 7 });
    throw notFound('thing', id);
  });
  router.get('/queues/board', (ctx) => void (ctx.body = 'board'));
  return router;
}

async function serve(t: ExecutionContext, options: Partial<AppOptions> = {}, host = '127.0.0.1') {
  const lines: Record<string, unknown>[] = [];
  const observed: RequestObservation[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)) as Record<string, unknown>);
      done();
    },
  });
  const log = createLog({ level: 'debug', format: 'json', destination });
  const app = createApp({
    routers: [routes()],
    log,
    observe: (observation) => observed.push(observation),
    ...options,
  });
  const listening = await listen(app, { host, port: 0 });
  t.teardown(() => listening.close({ graceMs: 100 }));
  const url = `http://127.0.0.1:${listening.port}`;
  const call = (path: string, init?: RequestInit) => fetch(url + path, init);
  return { call, lines, observed, port: listening.port, listening };
}

async function problemOf(response: Response) {
  const type = response.headers.get('content-type');
  return { type, ...problemBody.parse(await response.json()) };
}

const json = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
  method: 'POST',
  body: typeof body === 'string' ? body : JSON.stringify(body),
  headers: { 'Content-Type': 'application/json', ...headers },
});

test('every field fault of a body is listed with its JSON pointer', async (t) => {
  const { call } = await serve(t);
  const response = await call('/v1/things', json({ name: '', 'a/b': { fps: 0 }, extra: 1 }));
  const problem = await problemOf(response);
  t.is(response.status, 422);
  t.is(problem.type, 'application/problem+json');
  t.is(problem.status, 422);
  t.deepEqual(problem.errors?.map((fault) => fault.pointer).toSorted(), ['/a~1b/fps', '/extra', '/name']);
  t.true(problem.errors?.every((fault) => fault.detail.length > 0));
});

test('a body that is accepted comes back as the schema made it', async (t) => {
  const { call } = await serve(t);
  const response = await call('/v1/things', json({ name: 'x', 'a/b': { fps: 30 } }));
  t.is(response.status, 202);
  t.deepEqual(await response.json(), { name: 'x', 'a/b': { fps: 30 } });
});

const refusals: [string, RequestInit, number, RegExp][] = [
  ['broken JSON', json('{"name": '), 400, /JSON/],
  ['bytes that are no UTF-8', { ...json(''), body: new Uint8Array([0x22, 0xff, 0x22]) }, 400, /UTF-8/],
  ['an empty body', json(''), 400, /JSON/],
  ['a form', json('a=1', { 'Content-Type': 'application/x-www-form-urlencoded' }), 415, /application\/json/],
  ['a compressed body', json('{}', { 'Content-Encoding': 'gzip' }), 415, /Content-Encoding/],
  ['a body beyond the limit', json(`"${'x'.repeat(2000)}"`), 413, /1000 bytes/],
];
for (const [what, init, status, detail] of refusals) {
  test(`${what} is refused with ${status}`, async (t) => {
    const { call } = await serve(t);
    const problem = await problemOf(await call('/v1/things', init));
    t.is(problem.status, status);
    t.regex(problem.detail, detail);
  });
}

test('a body that is nested without end is refused with 400 like any other broken JSON', async (t) => {
  const router = new Router();
  router.post('/v1/any', async (ctx) => {
    ctx.body = await parseBody(ctx, z.unknown());
  });
  const { call } = await serve(t, { routers: [router] });
  const problem = await problemOf(await call('/v1/any', json('['.repeat(100_000))));
  t.is(problem.status, 400);
  t.regex(problem.detail, /nested too deep/);
});

/** What the server says to lines as they are, until it closes the connection. */
function answerTo(port: number, ...lines: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk) => (text += String(chunk)));
    socket.on('close', () => resolve(text));
    socket.on('error', (error) => (text === '' ? reject(error) : resolve(text)));
    for (const line of lines) socket.write(`${line}\r\n`);
  });
}

test('a body of undeclared length is cut off at the limit', async (t) => {
  const { port } = await serve(t);
  const answer = await answerTo(
    port,
    'POST /v1/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n',
    ...Array.from({ length: 20 }, () => `64\r\n${'y'.repeat(100)}`),
  );
  t.regex(answer, /^HTTP\/1\.1 413 /);
});

const malformed: [string, string, number, RegExp][] = [
  ['no Host header', 'GET /v1/things HTTP/1.1', 400, /one Host header, found none/],
  ['two Host headers', 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: other', 400, /found 2/],
  ['an expectation', 'GET /v1/things HTTP/1.1\r\nHost: localhost\r\nExpect: tea', 417, /found tea/],
];
for (const [what, head, status, detail] of malformed) {
  test(`a request with ${what} is refused with ${status} and an id`, async (t) => {
    const { port, lines, listening } = await serve(t);
    const answer = await answerTo(port, head, 'Connection: close', '');
    await listening.close({ graceMs: 100 });
    const [, body = ''] = answer.split('\r\n\r\n');
    t.regex(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
    t.regex(answer, /^content-type: application\/problem\+json/im);
    const problem = problemBody.parse(JSON.parse(body));
    t.is(problem.status, status);
    t.regex(problem.detail, detail);
    t.true(lines.some((line) => line['requestId'] === problem.requestId && line['status'] === status));
  });
}

test('a refused connection is cut also when its client keeps it open', async (t) => {
  const { port, listening } = await serve(t);
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.write('tea\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.regex(answer.toString(), /^HTTP\/1\.1 400 /);
  const open = () =>
    new Promise((resolve) => listening.server.getConnections((_error, count) => resolve(count)));
  t.true(await untilAsync(async () => (await open()) === 0));
});

test('a client that goes away in the middle of its body is no error of the service', async (t) => {
  const { port, lines, observed } = await serve(t);
  const socket = connect(port, '127.0.0.1');
  const head =
    'POST /v1/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9';
  socket.write(`${head}\r\nExpect: 100-continue\r\n\r\n`);
  await once(socket, 'data');
  socket.write('{', () => socket.resetAndDestroy());
  await untilAsync(async () => observed.length === 1);
  await new Promise(setImmediate);
  t.deepEqual(
    lines.filter(({ level }) => level === 'error'),
    [],
  );
});

test('a request of HTTP/1.0 needs no Host header', async (t) => {
  const { port } = await serve(t);
  t.regex(await answerTo(port, 'GET /metrics HTTP/1.0', ''), /^HTTP\/1\.1 200 [^]*x 1\n$/);
});

test('an unknown word in the query is a 400 below /query', async (t) => {
  const { call } = await serve(t);
  const problem = await problemOf(await call('/v1/things?state=sleeping'));
  t.is(problem.status, 400);
  t.deepEqual(
    problem.errors?.map((fault) => fault.pointer),
    ['/query/state'],
  );
});

test('unknown ids and paths are 404, known paths under another method 405 with Allow', async (t) => {
  const { call } = await serve(t);
  t.is((await problemOf(await call('/v1/things/none'))).status, 404);
  t.is((await problemOf(await call('/nowhere'))).status, 404);
  const wrong = await call('/v1/things', { method: 'DELETE' });
  t.is((await problemOf(wrong)).status, 405);
  t.is(wrong.headers.get('allow'), 'GET, HEAD, POST');
  const options = await call('/v1/things', { method: 'OPTIONS' });
  t.is(options.status, 204);
  t.is(options.headers.get('access-control-allow-origin'), null);
});

test('errors of the inside are 500 without their text, which the log keeps under the request id', async (t) => {
  const { call, lines } = await serve(t);
  const response = await call('/v1/things/boom', { headers: { 'X-Request-Id': 'abc-1' } });
  const text = await response.text();
  t.is(response.status, 500);
  t.is(response.headers.get('x-request-id'), 'abc-1');
  t.false(text.includes('secret detail'));
  const failed = lines.find((line) => line['msg'] === 'request failed');
  t.is(failed?.['requestId'], 'abc-1');
  t.regex(JSON.stringify(failed?.['err']), /secret detail of the inside/);
});

test('our own refusals keep their sentence and become 400 or 503 with Retry-After', async (t) => {
  const { call, lines } = await serve(t);
  t.like(await problemOf(await call('/v1/things/input')), {
    status: 400,
    detail: 'expected a recording, found a folder',
  });
  const store = await call('/v1/things/store');
  t.is(store.status, 503);
  t.is(store.headers.get('retry-after'), '5');
  t.is((await call('/v1/things/redis')).headers.get('retry-after'), '7');
  const refused = lines.find((line) => line['msg'] === 'request refused for now');
  t.like(refused, { path: '/v1/things/redis' });
  t.is(refused?.['err'], undefined, 'a refusal has no stack to read');
});

test('with a token the protected routes want it, and the open ones do not', async (t) => {
  const { call } = await serve(t, { token: TOKEN });
  const bare = await call('/v1/things');
  t.is(bare.status, 401);
  t.is(bare.headers.get('www-authenticate'), 'Bearer');
  const wrong = await call('/v1/things', { headers: { Authorization: 'Bearer wrong' } });
  t.is(wrong.status, 401);
  t.regex(wrong.headers.get('www-authenticate') ?? '', /^Bearer/);
  t.is((await call('/V1/things')).status, 401);
  t.is((await call('/v1/things', { headers: { Authorization: `Bearer ${TOKEN}` } })).status, 200);
  t.is((await call('/v1/things', { headers: { Authorization: `bearer ${TOKEN}` } })).status, 200);
  t.is((await call('/metrics')).status, 200);
  const basic = Buffer.from(`any:${TOKEN}`).toString('base64');
  t.is((await call('/queues/board')).status, 401);
  t.is((await call('/queues/board', { headers: { Authorization: `Basic ${basic}` } })).status, 200);
});

test('a page of another origin is refused even with the token', async (t) => {
  const { call, port } = await serve(t, { token: TOKEN });
  const headers = { Authorization: `Bearer ${TOKEN}` };
  t.is((await call('/v1/things', { headers: { ...headers, Origin: 'http://evil.example' } })).status, 403);
  t.is((await call('/v1/things', { headers: { ...headers, Origin: 'null' } })).status, 403);
  const own = { ...headers, Origin: `http://127.0.0.1:${port}` };
  t.is((await call('/v1/things', { headers: own })).status, 200);
});

function statusWithHost(port: number, address: string, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { port, host: address, path: '/v1/things', headers: { Host: host } },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.on('error', reject);
    request.end();
  });
}

test('without a token only this machine is answered, under its own name', async (t) => {
  const { call, port } = await serve(t, {}, '0.0.0.0');
  t.is((await call('/v1/things')).status, 200);
  t.is(await statusWithHost(port, '127.0.0.1', `localhost:${port}`), 200);
  t.is(await statusWithHost(port, '127.0.0.1', 'rebound.example'), 403);
  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find((address) => address.family === 'IPv4' && !address.internal);
  if (outside === undefined) {
    t.log('this machine has no address but loopback: the remote peer is not tried');
    return;
  }
  t.is(await statusWithHost(port, outside.address, `127.0.0.1:${port}`), 403);
});

test('each request is observed once by its route template and logged with its id', async (t) => {
  const { call, lines, observed, listening } = await serve(t);
  await (await call('/v1/things/none')).text();
  await (await call('/nowhere')).text();
  await (await call('/metrics')).text();
  await listening.close({ graceMs: 100 });
  t.deepEqual(
    observed.map(({ method, route, status }) => [method, route, status]),
    [
      ['GET', '/v1/things/:id', 404],
      ['GET', 'unmatched', 404],
      ['GET', '/metrics', 200],
    ],
  );
  t.true(observed.every(({ seconds }) => seconds > 0 && seconds < 10));
  const logged = lines.filter((line) => line['msg'] === 'request');
  t.deepEqual(
    logged.map((line) => [line['path'], line['level']]),
    [
      ['/v1/things/none', 'info'],
      ['/nowhere', 'info'],
      ['/metrics', 'debug'],
    ],
  );
  t.true(logged.every((line) => typeof line['requestId'] === 'string'));
});

test('a peer that asks too often is told to wait, probes and scrapes never are, and time heals', async (t) => {
  const { call } = await serve(t, { rate: { perSecond: 2, burst: 5 } });
  const answers: Response[] = [];
  for (let asked = 0; asked < 40; asked += 1) answers.push(await call('/v1/things'));
  t.deepEqual(
    answers.slice(0, 5).map(({ status }) => status),
    [200, 200, 200, 200, 200],
  );
  const refused = answers.find(({ status }) => status === 429);
  if (refused === undefined) return t.fail('40 requests at once were all answered');
  t.is(refused.headers.get('retry-after'), '1');
  t.is((await problemOf(refused)).title, 'Too many requests');
  t.is((await call('/metrics')).status, 200);
  await new Promise((resolve) => setTimeout(resolve, 600));
  return t.is((await call('/v1/things')).status, 200);
});

test('a request id that is too long or not plain is replaced', async (t) => {
  const { call } = await serve(t);
  const response = await call('/metrics', { headers: { 'X-Request-Id': 'a b"c' } });
  t.regex(response.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  t.is(response.headers.get('x-content-type-options'), 'nosniff');
});

test('closing lets a running answer end and cuts what does not', async (t) => {
  const router = new Router();
  let entered: () => void = () => undefined;
  let release: () => void = () => undefined;
  const inside = new Promise<void>((resolve) => (entered = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  router.get('/slow', async (ctx) => {
    entered();
    await released;
    ctx.body = 'done';
  });
  router.get('/stuck', () => new Promise(() => undefined));
  const { call, listening } = await serve(t, { routers: [router] });
  const slow = call('/slow');
  await inside;
  const stuck = call('/stuck');
  const closing = listening.close({ graceMs: 300 });
  release();
  t.is(await (await slow).text(), 'done');
  await t.throwsAsync(stuck);
  await closing;
  t.false(listening.server.listening);
});

test('an address that is taken is refused in one sentence', async (t) => {
  const { port } = await serve(t);
  const app = createApp({ routers: [], log: createLog({ level: 'silent', format: 'json' }) });
  const error = await t.throwsAsync(listen(app, { host: '127.0.0.1', port }), { instanceOf: InputError });
  t.regex(error.message, new RegExp(`127.0.0.1:${port}.*EADDRINUSE`));
});
