import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import anyTest, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { type DatasetConfig, datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import { finalizeDataset } from '../../src/conversion/finalize.ts';
import type { ConversionContext } from '../../src/conversion/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { SourceCache } from '../../src/storage/cache.ts';
import { expandSources } from '../../src/storage/expand-sources.ts';
import { openStorage } from '../../src/storage/open.ts';
import { quiet } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { startS3Proxy } from '../helpers/s3-proxy.ts';
import { startAnyS3Server } from '../helpers/s3-server.ts';
import { sample } from '../helpers/samples.ts';
import { tempFolder } from './temp-folder.ts';

const server = await startAnyS3Server();
anyTest.after.always(() => server?.stop());
const test = server === undefined ? anyTest.skip : anyTest;

const config = datasetConfig.parse({
  fps: 30,
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
});

/** Bytes of the files below a folder, now. */
function bytesBelow(folder: string): number {
  if (!existsSync(folder)) return 0;
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

/** A bucket of recordings and one for datasets, each seen through a proxy of its own. */
async function setUp(t: ExecutionContext, cacheBytes: number, asked: DatasetConfig = config) {
  if (server === undefined) throw new Error('no S3 server');
  const { settings, bucket } = server;
  const [source, destination] = [
    await startS3Proxy(settings.endpoint),
    await startS3Proxy(settings.endpoint),
  ];
  t.teardown(() => Promise.all([source.stop(), destination.stop()]));
  const registry = new Registry();
  const metrics = createMetrics(registry);
  const folder = await tempFolder(t);
  const scratch = join(folder, 'scratch');
  const base = `s3://${bucket}/${randomUUID()}`;
  const direct = openStorage(base, { metrics: metrics.storage, role: 'destination', s3: settings });
  const cache = new SourceCache({
    folder: join(folder, 'cache'),
    maxBytes: cacheBytes,
    metrics: metrics.storage,
  });
  const context: ConversionContext = {
    output: openStorage(`${base}/dataset`, {
      metrics: metrics.storage,
      role: 'destination',
      s3: { ...settings, endpoint: destination.endpoint },
    }),
    sources: { s3: { ...settings, endpoint: source.endpoint }, cache },
    scratch,
    bufferMaxBytes: 64 * 1024 * 1024,
    upload: { concurrency: 2, maxAttempts: 3 },
    metrics,
    log: quiet,
    signal: new AbortController().signal,
  };
  const convert = (name: string, key: string, slot: number, more: Partial<ConversionContext> = {}) => {
    const at = name.includes(':') ? name : `${base}/raw/${name}`;
    return convertEpisode(
      { source: at, config: asked, key, slot, task: 'Pick it up.' },
      { ...context, ...more, scratch: join(scratch, key) },
    );
  };
  const finalize = (keys: readonly string[], more: Partial<ConversionContext> = {}) =>
    finalizeDataset({ datasetId: 'test', runId: 'r0', config: asked, keys }, { ...context, ...more });
  const read = () => source.seen.reduce((sum, { range, sent }) => sum + (range === undefined ? 0 : sent), 0);
  return {
    source,
    destination,
    settings,
    scratch,
    registry,
    metrics,
    direct,
    convert,
    finalize,
    read,
    output: context.output,
  };
}

test('from bucket to bucket: what is counted is what the stores saw, and what lies there', async (t) => {
  const { destination, registry, direct, convert, finalize, read } = await setUp(t, 0);
  for (const name of ['a.mcap', 'b.mcap']) {
    await direct.put(`raw/${name}`, { bytes: await demonstration({ seconds: 2 }) });
  }
  await convert('a.mcap', 'a', 0);
  await convert('b.mcap', 'b', 1);
  const { episodes } = await finalize(['a', 'b']);
  t.is(episodes, 2);
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), read());
  t.true(read() > 0);
  const puts = destination.seen.filter(({ method, status }) => method === 'PUT' && status === 200);
  const sent = puts.reduce((sum, { received }) => sum + received, 0);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), sent);
  const written = async (type: string) =>
    sample(registry, 'roboflow_bytes_written_total', { destination: 's3', type });
  t.is((await written('video')) + (await written('parquet')) + (await written('meta')), sent);
  const keys = new Map<string, number>();
  for await (const { key, size } of direct.list('dataset/')) keys.set(key.slice('dataset/'.length), size);
  t.true(keys.has('meta/info.json'));
  const stored = (suffix: string) =>
    [...keys].reduce((sum, [key, size]) => sum + (key.endsWith(suffix) ? size : 0), 0);
  t.is(await written('video'), stored('.mp4'));
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
  t.is(await sample(registry, 'roboflow_buffer_usage_bytes'), 0);
});

test('a store slower than the encoders fills scratch with the files of one recording, no more', async (t) => {
  const { destination, scratch, direct, convert } = await setUp(t, 0);
  for (const name of ['a.mcap', 'b.mcap']) {
    await direct.put(`raw/${name}`, { bytes: await demonstration({ seconds: 2 }) });
  }
  let most = 0;
  destination.plan = (method) => {
    most = Math.max(most, bytesBelow(scratch));
    return method === 'PUT' ? { kind: 'latency', ms: 100 } : undefined;
  };
  for (const [slot, key] of ['a', 'b'].entries()) {
    most = 0;
    const { manifest } = await convert(`${key}.mcap`, key, slot);
    const outputs = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);
    t.true(most >= outputs, 'looked at while all of it was there');
    // beside them lies the checkpoint, which repeats the manifest
    t.true(most <= outputs + JSON.stringify(manifest).length + 10_000, `${most} bytes for ${outputs}`);
    t.is(bytesBelow(scratch), 0);
  }
});

test('a bucket of its own is source and destination at once', async (t) => {
  const { settings, convert, finalize, registry, metrics } = await setUp(t, 0);
  const bucket = `own-${randomUUID()}`;
  const client = new S3Client(settings);
  t.teardown(() => client.destroy());
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const output = openStorage(`s3://${bucket}/`, {
    metrics: metrics.storage,
    role: 'destination',
    s3: settings,
  });
  await output.put('a.mcap', { bytes: await demonstration({ seconds: 1 }) });
  await output.put('b.mcap', { bytes: await demonstration({ seconds: 1 }) });
  const listed = async () => {
    const found = await expandSources([`s3://${bucket}/`], { metrics: metrics.storage, s3: settings });
    return found.map(({ url }) => url);
  };
  const sources = ['a', 'b'].map((name) => `s3://${bucket}/${name}.mcap`);
  t.deepEqual(await listed(), sources);
  for (const [slot, source] of sources.entries()) await convert(source, `key-${slot}`, slot, { output });
  t.is((await finalize(['key-0', 'key-1'], { output })).episodes, 2);
  const checks = await verifyDataset(output, { signal: new AbortController().signal });
  t.deepEqual(
    checks.filter(({ ok }) => !ok),
    [],
  );
  t.deepEqual(await listed(), sources, 'what was written is no recording, and none was taken away');
  t.is(await output.sweep('', { olderThanMs: 0 }), 0);
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
});

test('a second conversion of a cached recording reads nothing from the bucket', async (t) => {
  const { registry, direct, convert, read } = await setUp(t, 100_000_000);
  const bytes = await demonstration({ seconds: 2 });
  await direct.put('raw/a.mcap', { bytes });
  await convert('a.mcap', 'first', 0);
  t.is(read(), bytes.length);
  const hits = await sample(registry, 'roboflow_cache_hit_total');
  await convert('a.mcap', 'second', 1);
  t.is(read(), bytes.length);
  t.is(await sample(registry, 'roboflow_bytes_read_total', { source: 's3' }), bytes.length);
  t.true((await sample(registry, 'roboflow_cache_hit_total')) > hits);
  t.is(await sample(registry, 'roboflow_cache_miss_total'), 1);
});

test('in a bucket, too, packed videos become one file a camera, and verify', async (t) => {
  const packed = { ...config, videos: { pack: true } };
  const { direct, convert, finalize, output } = await setUp(t, 100_000_000, packed);
  await direct.put('raw/a.mcap', { bytes: await demonstration({ seconds: 1 }) });
  await convert('a.mcap', 'first', 0);
  await convert('a.mcap', 'second', 1);
  t.is((await finalize(['first', 'second'])).episodes, 2);
  const videos: string[] = [];
  for await (const { key } of output.list('videos/')) videos.push(key);
  t.deepEqual(videos, ['videos/observation.images.cam_high/chunk-000/file-000.mp4']);
  t.deepEqual(
    (await verifyDataset(output)).filter(({ ok }) => !ok),
    [],
  );
});
