import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import anyTest, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { CanceledError, InputError, StorageError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openRecording } from '../../src/recording/open.ts';
import { SourceCache } from '../../src/storage/cache.ts';
import { expandSources } from '../../src/storage/expand-sources.ts';
import { openStorage } from '../../src/storage/open.ts';
import { openRecordingFiles } from '../../src/storage/recording-files.ts';
import { startS3Proxy } from '../helpers/s3-proxy.ts';
import { startAnyS3Server } from '../helpers/s3-server.ts';
import { sample } from '../helpers/samples.ts';
import { tempFolder } from './temp-folder.ts';

const server = await startAnyS3Server();
anyTest.after.always(() => server?.stop());
const test = server === undefined ? anyTest.skip : anyTest;

async function setUp(t: ExecutionContext, files: Readonly<Record<string, Uint8Array>>) {
  if (server === undefined) throw new Error('no S3 server');
  const proxy = await startS3Proxy(server.settings.endpoint);
  t.teardown(() => proxy.stop());
  const registry = new Registry();
  const metrics = createStorageMetrics(registry);
  const s3 = { ...server.settings, endpoint: proxy.endpoint, retryBaseMs: 5 };
  const base = `s3://${server.bucket}/${randomUUID()}`;
  const storage = openStorage(base, { metrics, role: 'destination', s3: server.settings });
  for (const [key, bytes] of Object.entries(files)) await storage.put(key, { bytes });
  const sent = () =>
    proxy.seen.filter(({ method }) => method === 'GET').reduce((sum, one) => sum + one.sent, 0);
  const bodies = () =>
    proxy.seen.filter(({ range }) => range !== undefined).reduce((sum, one) => sum + one.sent, 0);
  return { proxy, registry, metrics, s3, base, storage, sent, bodies };
}

const MiB = 1_048_576;
const bytesOf = (text: string) => Buffer.from(text);

test('prefixes and globs over a bucket expand to sorted recordings, a rosbag2 prefix being one', async (t) => {
  const names = [
    'a.mcap',
    'b c.bag',
    'notes.txt',
    'day1/e.mcap',
    'day1/deep/g.db3',
    'day2/h.mcap.zstd',
    'ros2/metadata.yaml',
    'ros2/ros2_0.db3',
    'ros2/ros2_1.db3',
  ];
  const { metrics, s3, base } = await setUp(
    t,
    Object.fromEntries(names.map((name) => [name, bytesOf(name)])),
  );
  const expand = async (...patterns: string[]) => {
    const found = await expandSources(
      patterns.map((pattern) => (pattern === '' ? base : `${base}/${pattern}`)),
      { metrics, s3 },
    );
    return found.map(({ url }) => decodeURI(url.slice(base.length + 1)));
  };
  const everything = ['a.mcap', 'b c.bag', 'day1/deep/g.db3', 'day1/e.mcap', 'day2/h.mcap.zstd', 'ros2'];
  t.deepEqual(await expand(''), everything);
  t.deepEqual(await expand('**'), everything);
  t.deepEqual(await expand('*'), ['a.mcap', 'b c.bag', 'ros2']);
  t.deepEqual(await expand('day?/*.mcap*'), ['day1/e.mcap', 'day2/h.mcap.zstd']);
  t.deepEqual(await expand('day1', 'a.mcap', 'day1/e.mcap'), ['a.mcap', 'day1/deep/g.db3', 'day1/e.mcap']);
  t.deepEqual(await expand('ros2/'), ['ros2']);
  await t.throwsAsync(expand('none/*'), { instanceOf: InputError });
  await t.throwsAsync(expand('notes.txt'), { instanceOf: InputError });
  const [listed] = await expandSources([`${base}/ros2`], { metrics, s3 });
  const opened = await openRecordingFiles(`${base}/ros2`, { metrics, s3 });
  t.deepEqual(opened.source, listed);
  t.deepEqual(opened.files, ['metadata.yaml', 'ros2_0.db3', 'ros2_1.db3']);
  await t.throwsAsync(openRecordingFiles(`${base}/none`, { metrics, s3 }), { instanceOf: InputError });
});

test('through the cache a recording is fetched once, and a second look reads nothing from the bucket', async (t) => {
  const bag = randomBytes(3_000_000);
  const { registry, metrics, s3, base, bodies } = await setUp(t, { 'a.bag': bag });
  const folder = join(await tempFolder(t), 'cache');
  for (const round of [1, 2]) {
    const cache = new SourceCache({ folder, maxBytes: 10_000_000, metrics });
    const recording = await openRecordingFiles(`${base}/a.bag`, { metrics, s3, cache });
    const file = await recording.open('a.bag');
    t.true(bag.equals(await file.read(0n, BigInt(bag.length))));
    t.truthy(file.path);
    t.is(file.info.etag, recording.source.etag);
    await file.close();
    t.is(bodies(), bag.length, `round ${round}`);
    t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), bag.length);
  }
  t.is(await sample(registry, 'roboflow_cache_hit_total'), 1);
  t.is(await sample(registry, 'roboflow_cache_miss_total'), 1);
  const small = new SourceCache({ folder, maxBytes: 1000, metrics });
  const streamed = await (
    await openRecordingFiles(`${base}/a.bag`, { metrics, s3, cache: small })
  ).open('a.bag');
  t.is(streamed.path, undefined, 'without room it is read where it is');
  t.true(bag.subarray(100, 200).equals(await streamed.read(100n, 100n)));
  await streamed.close();
});

test('an empty recording is refused in one sentence, streamed or through the cache', async (t) => {
  const { registry, metrics, s3, base } = await setUp(t, {
    'empty.mcap': bytesOf(''),
    'empty.bag': bytesOf(''),
    'bag/metadata.yaml': bytesOf(''),
    'bag/bag_0.db3': bytesOf(''),
  });
  const cache = new SourceCache({ folder: join(await tempFolder(t), 'cache'), maxBytes: 1000, metrics });
  for (const sources of [{ s3 }, { s3, cache }]) {
    for (const name of ['empty.mcap', 'empty.bag', 'bag/bag_0.db3', 'bag']) {
      const files = await openRecordingFiles(`${base}/${name}`, { metrics, ...sources });
      const error = await t.throwsAsync(openRecording(files), { instanceOf: InputError }, name);
      t.regex(error?.message ?? '', /^s3:\/\/\S+: .*(an empty file|0 bytes|found none|empty)/, name);
      t.false(error?.message.includes('\n'));
    }
  }
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), 0);
});

test('a recording that changed between looking and opening is not read', async (t) => {
  const { metrics, s3, base, storage } = await setUp(t, { 'a.mcap': bytesOf('before') });
  const recording = await openRecordingFiles(`${base}/a.mcap`, { metrics, s3 });
  await storage.put('a.mcap', { bytes: bytesOf('AFTER!') });
  const cache = new SourceCache({ folder: join(await tempFolder(t), 'cache'), maxBytes: 1000, metrics });
  const cached = await openRecordingFiles(`${base}/a.mcap`, { metrics, s3, cache });
  await storage.put('a.mcap', { bytes: bytesOf('later.') });
  for (const one of [recording, cached]) {
    const error = await t.throwsAsync<StorageError>(one.open('a.mcap'), { instanceOf: StorageError });
    t.regex(error.message, /changed/);
    t.true(error.retryable);
  }
});

test('what was asked for and is left unread, or breaks off at a close, is counted as the store sent it', async (t) => {
  const bytes = randomBytes(24 * MiB);
  const { proxy, registry, metrics, s3, base, sent } = await setUp(t, { 'recording.mcap': bytes });
  const storage = openStorage(base, { metrics, role: 'source', s3 });
  const counted = () => sample(registry, 'roboflow_bytes_read_total', { source: 's3' });
  const gets = () => proxy.seen.filter(({ method }) => method === 'GET').length;
  /** The proxy notes an exchange when it is over on its own side, which may be a little later. */
  const countedIsSent = async () => {
    for (const deadline = Date.now() + 10_000; sent() !== (await counted()) && Date.now() < deadline;)
      await delay(5);
    t.is(await counted(), sent());
  };

  // ranges requested ahead of a reader that stops in the middle
  proxy.plan = (method) => (method === 'GET' ? { kind: 'latency', ms: 20 } : undefined);
  const early = await storage.open('recording.mcap');
  for (let at = 0; at < 6 * MiB; at += 100_000) await early.read(BigInt(at), 100_000n);
  early.willRead?.(BigInt(16 * MiB), BigInt(2 * MiB));
  const asked = gets();
  await early.close();
  await countedIsSent();
  t.true(gets() > asked, 'requests were under way');
  t.true(sent() > 8 * MiB, `${sent()} bytes`);

  // one that the store stops sending, given up by whoever reads
  const [before, stop] = [await counted(), new AbortController()];
  proxy.plan = (method) => (method === 'GET' ? { kind: 'stall-body', after: 500_000 } : undefined);
  const stopped = await storage.open('recording.mcap', { signal: stop.signal });
  const read = stopped.read(0n, BigInt(MiB));
  while ((await counted()) < before + 500_000) await delay(5);
  stop.abort(new CanceledError('shutdown'));
  await t.throwsAsync(read, { instanceOf: CanceledError });
  await stopped.close();
  t.is(await counted(), before + 500_000);

  // and one whose answer breaks off while it is being closed is not asked for again
  proxy.plan = (method) => (method === 'GET' ? { kind: 'truncate', after: 300_000 } : undefined);
  await countedIsSent();
  const requests = gets();
  const cut = await storage.open('recording.mcap');
  cut.willRead?.(0n, BigInt(MiB));
  await cut.close();
  await countedIsSent();
  t.is(gets() - requests, 1);
  t.is(await counted(), before + 800_000);
});

test('a bucket that does not exist, or may not be read, says so', async (t) => {
  const { metrics, s3, base } = await setUp(t, {});
  const list = async (location: string, settings: typeof s3) => {
    const storage = openStorage(location, { metrics, role: 'source', s3: settings });
    for await (const item of storage.list('')) t.fail(item.key);
  };
  const absent = await t.throwsAsync<StorageError>(list('s3://no-such-bucket-here', s3), {
    instanceOf: StorageError,
  });
  t.false(absent.retryable);
  t.regex(absent.message, /s3:\/\/no-such-bucket-here.*the bucket does not exist/);
  const wrong = { ...s3, credentials: { accessKeyId: 'test-key', secretAccessKey: 'wrong-secret' } };
  const refused = await t.throwsAsync<StorageError>(list(base, wrong), { instanceOf: StorageError });
  t.false(refused.retryable);
  t.notRegex(
    `${refused.stack}${JSON.stringify(refused)}${String(refused.cause)}`,
    /wrong-secret|test-key|Signature=/,
  );
  const nobody = { ...s3, endpoint: 'http://127.0.0.1:1', maxAttempts: 2 };
  const gone = await t.throwsAsync<StorageError>(list(base, nobody), { instanceOf: StorageError });
  t.is(gone.reason, 'network');
  t.true(gone.retryable);
});

anyTest('a listing of 100,000 keys is asked for page by page, as it is consumed', async (t) => {
  let pages = 0;
  // the pages of a large bucket, as S3 spells them; no store takes in so many objects within a test's time
  const bucket = createServer((incoming, outgoing) => {
    const from = Number(new URL(incoming.url ?? '', 'http://x').searchParams.get('continuation-token') ?? 0);
    pages++;
    const contents = Array.from({ length: 1000 }, (_, index) => {
      const key = `raw/${String(from + index).padStart(6, '0')}.mcap`;
      return `<Contents><Key>${key}</Key><ETag>&quot;e${from + index}&quot;</ETag><Size>${from + index}</Size></Contents>`;
    });
    const next = from + 1000;
    const more = next < 100_000 ? `<NextContinuationToken>${next}</NextContinuationToken>` : '';
    outgoing.setHeader('content-type', 'application/xml');
    outgoing.end(
      `<ListBucketResult><IsTruncated>${next < 100_000}</IsTruncated>${more}${contents.join('')}</ListBucketResult>`,
    );
  });
  bucket.listen(0, '127.0.0.1');
  await once(bucket, 'listening');
  t.teardown(() => bucket.closeAllConnections());
  const storage = openStorage('s3://large-bucket', {
    metrics: createStorageMetrics(new Registry()),
    role: 'source',
    s3: {
      endpoint: `http://127.0.0.1:${(bucket.address() as AddressInfo).port}`,
      forcePathStyle: true,
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    },
  });
  let [count, bytes] = [0, 0];
  for await (const item of storage.list('raw/')) {
    if (count === 0) t.is(pages, 1);
    count++;
    bytes += item.size;
  }
  t.is(count, 100_000);
  t.is(bytes, (99_999 * 100_000) / 2);
  t.is(pages, 100);
  for await (const item of storage.list('raw/')) if (item.size === 1500) break;
  t.is(pages, 102, 'who stops reading stops asking');
  bucket.close();
});
