import { spawn } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { CanceledError, StorageError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { createUploadMetrics } from '../../src/metrics/upload.ts';
import { UploadCoordinator } from '../../src/storage/coordinator.ts';
import { openStorage } from '../../src/storage/open.ts';
import type { S3Settings, Storage, StoredObject } from '../../src/storage/types.ts';
import { faultsInOrder, startS3Proxy, type Fault, type S3Proxy } from '../helpers/s3-proxy.ts';
import { startAnyS3Server } from '../helpers/s3-server.ts';
import { sample } from '../helpers/samples.ts';
import { tempFolder } from './temp-folder.ts';

const MiB = 1_048_576;
const PART = 5 * MiB;
/** Until a silent connection is given up: short where that is tried, else longer than a busy machine stalls. */
const [SHORT_IDLE_MS, IDLE_MS] = [1_500, 15_000];

const server = await startAnyS3Server();
anyTest.after.always(() => server?.stop());
// one after the other: an event loop that is busy with other tests' bytes would count as a store that does not answer
const test = server === undefined ? anyTest.skip : anyTest.serial;

async function setUp(t: ExecutionContext, idleTimeoutMs = IDLE_MS) {
  if (server === undefined) throw new Error('no S3 server');
  const proxy = await startS3Proxy(server.settings.endpoint);
  t.teardown(() => proxy.stop());
  const registry = new Registry();
  const metrics = { storage: createStorageMetrics(registry), upload: createUploadMetrics(registry) };
  const settings: S3Settings = {
    ...server.settings,
    endpoint: proxy.endpoint,
    partSize: PART,
    idleTimeoutMs,
    retryBaseMs: 5,
  };
  const location = `s3://${server.bucket}/${randomUUID()}`;
  const storage = openStorage(location, { metrics: metrics.storage, role: 'source', s3: settings });
  const direct = openStorage(location, {
    metrics: createStorageMetrics(new Registry()),
    role: 'destination',
    s3: { ...server.settings, partSize: PART },
  });
  const abort = new AbortController();
  const uploads = new UploadCoordinator({
    storage,
    concurrency: 2,
    maxAttempts: 4,
    metrics,
    signal: abort.signal,
    retryBaseMs: 5,
  });
  t.teardown(() => uploads.close());
  return { proxy, registry, metrics, settings, location, storage, direct, uploads, abort };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function contentOf(storage: Storage, key: string): Promise<Buffer> {
  const object = await storage.open(key);
  try {
    return Buffer.from(await object.read(0n, await object.size()));
  } finally {
    await object.close();
  }
}

const isBody = (method: string, url: string) => method === 'PUT' && !url.includes('partNumber=2');
const isPart = (method: string, url: string) => method === 'PUT' && url.includes('partNumber=2');
const bodyBytes = (proxy: S3Proxy) =>
  proxy.seen
    .filter(({ method, status }) => method === 'PUT' && status === 200)
    .reduce((sum, { received }) => sum + received, 0);

const faults: { what: string; fault: Fault; reason: string }[] = [
  { what: 'a store that does not answer', fault: { kind: 'stall' }, reason: 'timeout' },
  { what: 'a reset', fault: { kind: 'reset' }, reason: 'network' },
  { what: '500', fault: { kind: 'answer', status: 500, code: 'InternalError' }, reason: 'server_error' },
  { what: '503', fault: { kind: 'answer', status: 503, code: 'ServiceUnavailable' }, reason: 'server_error' },
  { what: '503 SlowDown', fault: { kind: 'answer', status: 503, code: 'SlowDown' }, reason: 'throttled' },
  { what: '429', fault: { kind: 'answer', status: 429, code: 'TooManyRequests' }, reason: 'throttled' },
  { what: 'a flipped bit', fault: { kind: 'corrupt' }, reason: 'checksum' },
  {
    what: 'a request timeout',
    fault: { kind: 'answer', status: 400, code: 'RequestTimeout' },
    reason: 'timeout',
  },
  { what: 'a conflict', fault: { kind: 'answer', status: 409, code: 'OperationAborted' }, reason: 'other' },
];

for (const { what, fault, reason } of faults) {
  test(`${what} while a small file and a part are sent counts as ${reason}, and the bytes are right`, async (t) => {
    const idleMs = fault.kind === 'stall' ? SHORT_IDLE_MS : IDLE_MS;
    const { proxy, registry, direct, uploads } = await setUp(t, idleMs);
    const [small, large] = [randomBytes(100_000), randomBytes(12 * MiB)];
    proxy.plan = faultsInOrder([fault], isBody);
    await uploads.add({ key: 'small', type: 'meta', body: { bytes: small } });
    t.is(await sample(registry, 'roboflow_upload_retries_total', { reason }), 1);
    proxy.plan = faultsInOrder([fault, fault], isPart);
    await uploads.add({ key: 'large', type: 'video', body: { bytes: large } });
    t.is(await sample(registry, 'roboflow_upload_retries_total', { reason }), 3);
    t.is(uploads.stats().retries, 3, 'nothing counted under another reason');
    t.true(small.equals(await contentOf(direct, 'small')));
    t.true(large.equals(await contentOf(direct, 'large')));
    t.is(await sample(registry, 'roboflow_upload_bytes_total'), small.length + large.length);
    t.is(bodyBytes(proxy), small.length + large.length, 'the store took each byte once');
    t.is(await direct.sweep('', { olderThanMs: 0 }), 0, 'no unfinished upload is left');
  });
}

test('latency changes nothing but the time', async (t) => {
  const { proxy, registry, direct, uploads } = await setUp(t);
  proxy.plan = () => ({ kind: 'latency', ms: 50 });
  const large = randomBytes(11 * MiB);
  await uploads.add({ key: 'large', type: 'video', body: { bytes: large } });
  t.is(uploads.stats().retries, 0);
  t.true(large.equals(await contentOf(direct, 'large')));
  t.true((await sample(registry, 'roboflow_upload_duration_seconds_sum', { file_type: 'video' })) > 0.2);
});

test('credentials that expire in the middle end the upload at once, and nothing is to be seen', async (t) => {
  for (const answer of [
    { status: 403, code: 'AccessDenied' },
    { status: 400, code: 'ExpiredToken' },
    { status: 403, code: 'SignatureDoesNotMatch' },
  ]) {
    const { proxy, registry, direct, uploads } = await setUp(t);
    let parts = 0;
    proxy.plan = (method) => (method === 'PUT' && ++parts > 2 ? { kind: 'answer', ...answer } : undefined);
    const add = uploads.add({ key: 'large', type: 'video', body: { bytes: randomBytes(26 * MiB) } });
    const error = await t.throwsAsync<StorageError>(add, { instanceOf: StorageError }, answer.code);
    t.false(error.retryable);
    t.notRegex(JSON.stringify([error, error.stack, String(error.cause)]), /test-key/);
    await t.throwsAsync(uploads.publish({ key: 'manifest', type: 'meta', body: { bytes: randomBytes(5) } }));
    t.is(await direct.head('large'), undefined);
    t.is(await direct.head('manifest'), undefined);
    t.is(uploads.stats().retries, 0);
    t.is(await sample(registry, 'roboflow_upload_bytes_total'), 0);
    t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
    t.is(await direct.sweep('', { olderThanMs: 3_600_000 }), 0, 'young uploads stay');
    t.is(await direct.sweep('', { olderThanMs: 0 }), 1);
  }
});

test('an answer that gets lost after the store acted is no failure, and no second manifest', async (t) => {
  const { proxy, direct, uploads } = await setUp(t);
  proxy.plan = faultsInOrder([{ kind: 'lose-answer' }], (method) => method === 'PUT');
  const manifest = await uploads.publish(
    { key: 'manifest', type: 'meta', body: { bytes: Buffer.from('mine') } },
    { ifAbsent: true },
  );
  t.deepEqual((await direct.head('manifest'))?.etag, manifest.etag);
  t.is((await contentOf(direct, 'manifest')).toString(), 'mine');
  const large = randomBytes(11 * MiB);
  proxy.plan = faultsInOrder(
    [{ kind: 'lose-answer' }],
    (method, url) => method === 'POST' && url.includes('uploadId='),
  );
  await uploads.add({ key: 'large', type: 'video', body: { bytes: large } });
  t.true(large.equals(await contentOf(direct, 'large')));
  t.is(uploads.stats().retries, 2);
});

test('a manifest of somebody else is not taken for our own, also when answers get lost', async (t) => {
  const { proxy, direct, uploads } = await setUp(t);
  await direct.put('manifest', { bytes: Buffer.from('theirs') });
  proxy.plan = faultsInOrder([{ kind: 'lose-answer' }], (method) => method === 'PUT');
  const publish = uploads.publish(
    { key: 'manifest', type: 'meta', body: { bytes: Buffer.from('mine') } },
    { ifAbsent: true },
  );
  const error = await t.throwsAsync<StorageError>(publish, {
    instanceOf: StorageError,
    message: /somebody else/,
  });
  t.false(error.retryable);
  t.is((await contentOf(direct, 'manifest')).toString(), 'theirs');
});

test('reads go on where they broke off, and the bytes counted are those the store sent', async (t) => {
  const { proxy, registry, storage, direct } = await setUp(t, SHORT_IDLE_MS);
  const bytes = randomBytes(3 * MiB);
  await direct.put('recording.mcap', { bytes });
  proxy.plan = faultsInOrder(
    [
      { kind: 'reset' },
      { kind: 'truncate', after: 1_000_000 },
      { kind: 'stall-body', after: 500_000 },
      { kind: 'answer', status: 503, code: 'SlowDown' },
    ],
    (method) => method === 'GET',
  );
  const object = await storage.open('recording.mcap');
  t.true(bytes.equals(await object.read(0n, BigInt(bytes.length))));
  await object.close();
  const gets = proxy.seen.filter(({ method, status }) => method === 'GET' && status === 206);
  t.is(
    gets.reduce((sum, { sent }) => sum + sent, 0),
    bytes.length,
    'each byte was sent once',
  );
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), bytes.length);
});

test('a store that fails for good fails the read with the reason', async (t) => {
  const { proxy, storage, direct } = await setUp(t);
  await direct.put('a', { bytes: randomBytes(1000) });
  const object = await storage.open('a');
  t.teardown(() => object.close());
  proxy.plan = (method) =>
    method === 'GET' ? { kind: 'answer', status: 500, code: 'InternalError' } : undefined;
  const failed = await t.throwsAsync<StorageError>(object.read(0n, 10n), { instanceOf: StorageError });
  t.is(failed.reason, 'server_error');
  t.true(failed.retryable);
  t.is(proxy.seen.filter(({ method }) => method === 'GET').length, 5);
  proxy.plan = (method) =>
    method === 'GET' ? { kind: 'answer', status: 403, code: 'AccessDenied' } : undefined;
  const refused = await t.throwsAsync<StorageError>(object.read(0n, 10n), { instanceOf: StorageError });
  t.false(refused.retryable);
  proxy.plan = () => undefined;
  t.is((await object.read(0n, 10n)).length, 10, 'a failed request answers no later read');
});

test('tens of thousands of small reads in order take few requests, jumps take one each', async (t) => {
  const { proxy, registry, storage, direct } = await setUp(t);
  const size = 24 * MiB;
  const bytes = randomBytes(size);
  await direct.put('recording.mcap', { bytes });
  const object = await storage.open('recording.mcap');
  let same = true;
  for (let at = 0; at < size; at += 600) {
    const length = Math.min(500, size - at); // 100 bytes are left out each time
    same &&= bytes.subarray(at, at + length).equals(await object.read(BigInt(at), BigInt(length)));
  }
  t.true(same);
  const gets = () => proxy.seen.filter(({ method }) => method === 'GET').length;
  t.true(gets() <= 12, `${gets()} requests for ${Math.ceil(size / 600)} reads`);
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), size);
  await object.close();
  const second = await storage.open('recording.mcap');
  const before = gets();
  for (const at of [20 * MiB, 3 * MiB, 11 * MiB, 7 * MiB]) {
    t.true(bytes.subarray(at, at + 10).equals(await second.read(BigInt(at), 10n)));
  }
  await second.close();
  t.is(gets() - before, 4);
  t.true((await sample(registry, 'roboflow_bytes_read_total', { source: 's3' })) <= size + 4 * 131_072);
});

test('large reads are one request each, the announced one is under way meanwhile, and no byte comes twice', async (t) => {
  const { proxy, registry, storage, direct } = await setUp(t);
  const size = 12 * MiB;
  const bytes = randomBytes(size);
  await direct.put('recording.mcap', { bytes });
  const gets = () => proxy.seen.filter(({ method }) => method === 'GET');
  const same = async (object: StoredObject, at: number, length: number) =>
    bytes.subarray(at, at + length).equals(await object.read(BigInt(at), BigInt(length)));
  const announced = await storage.open('recording.mcap');
  // a reader that leaves half a MiB out after every read
  for (let at = 0; at < size; at += 3 * MiB) {
    const next = at + 3 * MiB;
    const read = same(announced, at, 2.5 * MiB);
    if (next < size) announced.willRead?.(BigInt(next), BigInt(2.5 * MiB));
    t.true(await read);
  }
  await announced.close();
  for (const at of [0, 3, 6, 9]) {
    const range = `bytes=${at * MiB}-${(at + 2.5) * MiB - 1}`;
    t.true(
      gets().some((request) => request.range === range),
      range,
    );
  }
  t.is(gets().length, 4);
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), 10 * MiB);
  const silent = await storage.open('recording.mcap');
  for (let at = 0; at < size; at += 2 * MiB) t.true(await same(silent, at, 2 * MiB));
  await silent.close();
  t.is(gets().length, 10);
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), 22 * MiB);
});

test('an object that is replaced fails the read at once, saying so', async (t) => {
  const { proxy, storage, direct } = await setUp(t);
  await direct.put('recording.mcap', { bytes: randomBytes(MiB) });
  const object = await storage.open('recording.mcap');
  t.teardown(() => object.close());
  await object.read(0n, 10n);
  await direct.put('recording.mcap', { bytes: randomBytes(MiB) });
  const before = proxy.seen.length;
  const error = await t.throwsAsync<StorageError>(object.read(900_000n, 10n), { instanceOf: StorageError });
  t.regex(error.message, /changed while it was being read/);
  t.true(error.retryable);
  t.is(proxy.seen.length - before, 1);
});

test('a process killed in the middle of 200 MB leaves what the next attempt need not send again', async (t) => {
  const { proxy, registry, settings, location, direct, uploads } = await setUp(t);
  const bytes = Buffer.concat(Array.from({ length: 10 }, () => randomBytes(20 * MiB)));
  const path = join(await tempFolder(t), 'episode.mp4');
  await writeFile(path, bytes);
  const script = `
    import { openStorage } from ${JSON.stringify(new URL('../../src/storage/open.js', import.meta.url).href)};
    const s3 = ${JSON.stringify(settings)};
    const storage = openStorage(${JSON.stringify(location)}, { metrics: {}, role: 'destination', s3 });
    await storage.put('videos/a.mp4', { path: ${JSON.stringify(path)} }, {
      onProgress: (sent) => { if (sent >= ${60 * MiB}) process.kill(process.pid, 'SIGKILL'); },
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [, signal] = await once(child, 'exit');
  t.is(signal, 'SIGKILL');
  t.is(await direct.head('videos/a.mp4'), undefined);
  const first = bodyBytes(proxy);
  t.true(first >= 60 * MiB);
  const stored = await uploads.add({ key: 'videos/a.mp4', type: 'video', body: { path } });
  t.is(stored.sha256, sha256(bytes));
  const second = bodyBytes(proxy) - first;
  t.true(second <= bytes.length - 60 * MiB, `${second} bytes were sent again`);
  t.true(first + second <= bytes.length + 4 * PART, 'but for the parts that were under way');
  t.is(sha256(await contentOf(direct, 'videos/a.mp4')), stored.sha256);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), bytes.length);
  t.is(await direct.sweep('', { olderThanMs: 0 }), 0, 'no unfinished upload is left');
});

test('an unfinished upload of other bytes is not continued but replaced', async (t) => {
  const { proxy, direct, storage, uploads } = await setUp(t);
  const stop = new AbortController();
  const before = randomBytes(16 * MiB);
  const put = storage.put(
    'a.mp4',
    { bytes: before },
    {
      signal: stop.signal,
      onProgress: () => stop.abort(new CanceledError('shutdown')),
    },
  );
  await t.throwsAsync(put, { instanceOf: CanceledError });
  const after = Buffer.from(before);
  after.writeUInt8(after.readUInt8(0) ^ 1, 0);
  const sentBefore = bodyBytes(proxy);
  await uploads.add({ key: 'a.mp4', type: 'video', body: { bytes: after } });
  t.true(after.equals(await contentOf(direct, 'a.mp4')));
  t.true(bodyBytes(proxy) - sentBefore >= 11 * MiB);
  t.is(await direct.sweep('', { olderThanMs: 0 }), 0);
});

test('a store that refuses to list unfinished uploads takes large files all the same', async (t) => {
  for (const answer of [
    { status: 403, code: 'AccessDenied' },
    { status: 501, code: 'NotImplemented' },
  ]) {
    const { proxy, direct, uploads } = await setUp(t);
    const refuse = (method: string, url: string) => method === 'GET' && /[?&]uploads/.test(url);
    proxy.plan = (method, url) => (refuse(method, url) ? { kind: 'answer', ...answer } : undefined);
    const large = randomBytes(11 * MiB);
    await uploads.add({ key: 'large', type: 'video', body: { bytes: large } });
    t.true(large.equals(await contentOf(direct, 'large')));
    t.is(proxy.seen.filter(({ status }) => status === answer.status).length, 1);
  }
});

test('a job cancelled for good takes its unfinished upload along, one that is stopped leaves it', async (t) => {
  for (const [reason, left] of [
    ['cancelled', 0],
    ['shutdown', 1],
  ] as const) {
    const { direct, storage } = await setUp(t);
    const stop = new AbortController();
    const put = storage.put(
      'a.mp4',
      { bytes: randomBytes(21 * MiB) },
      {
        signal: stop.signal,
        onProgress: () => stop.abort(new CanceledError(reason)),
      },
    );
    const error = await t.throwsAsync<CanceledError>(put, { instanceOf: CanceledError });
    t.is(error.reason, reason);
    t.is(await direct.head('a.mp4'), undefined);
    t.is(await direct.sweep('', { olderThanMs: 0 }), left, reason);
  }
});
