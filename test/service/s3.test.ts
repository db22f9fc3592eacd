import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest from 'ava';
import { Redis } from 'ioredis';
import { Registry } from 'prom-client';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { parseSeries, type Series } from '../helpers/recount.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { startS3Proxy } from '../helpers/s3-proxy.ts';
import { startAnyS3Server } from '../helpers/s3-server.ts';
import { type RunningService, startService, untilAsync } from '../helpers/service.ts';

const server = await startAnyS3Server();
anyTest.after.always(() => server?.stop());
const test = server === undefined ? anyTest.skip : anyTest;

const config = {
  fps: 30,
  clock: 'header',
  task: 'Stack the cups.',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

/** Enqueues a dataset and waits until it ended; its state and the number of its episodes. */
async function converted(service: RunningService, datasetId: string, output: string, source: string) {
  const request = { datasetId, output, config, recordings: [{ source }] };
  const { status, body, text } = await service.post<{ episodes: number }>('/v1/datasets', request);
  if (status !== 202) return { status, text };
  const state = await untilAsync(async () => {
    const { body: dataset } = await service.get<{ state: string }>(`/v1/datasets/${datasetId}`);
    return ['completed', 'partial', 'failed'].includes(dataset.state) && dataset.state;
  });
  return { status, episodes: body.episodes, state };
}

test('a service between two prefixes of a bucket: globs, cache, roots, and true numbers', async (t) => {
  if (server === undefined) return;
  const base = `s3://${server.bucket}/${randomUUID()}`;
  const bucket = openStorage(base, {
    metrics: createStorageMetrics(new Registry()),
    role: 'destination',
    s3: server.settings,
  });
  let recorded = 0;
  for (const name of ['day1/a.mcap', 'day2/b.mcap', 'day2/notes.txt']) {
    const bytes = name.endsWith('.mcap') ? await demonstration({ seconds: 1 }) : Buffer.from('x');
    if (name.endsWith('.mcap')) recorded += bytes.length;
    await bucket.put(`raw/${name}`, { bytes });
  }
  const [folder, redis] = [await temporaryFolder(t), await PrivateRedis.start()];
  t.teardown(() => redis.end());
  const { endpoint, credentials } = server.settings;
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '2',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
    SOURCE_ROOTS: `${base}/raw/`,
    DESTINATION_ROOTS: `${base}/datasets/`,
    AWS_ENDPOINT_URL_S3: endpoint,
    S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: credentials?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: credentials?.secretAccessKey ?? '',
  });
  /** Looks until the workers' last pushes are in: what was written must equal what lies there. */
  const sizes = async (dataset: string) => {
    const found = new Map<string, number>();
    for await (const { key, size } of bucket.list(`datasets/${dataset}/`)) found.set(key, size);
    return found;
  };
  const value = (series: Series, name: string) => series.get(name) ?? -1;
  const scrape = async () => parseSeries((await service.get('/metrics')).text);

  t.deepEqual(await converted(service, 'first', `${base}/datasets/first`, `${base}/raw/**/*.mcap`), {
    status: 202,
    episodes: 2,
    state: 'completed',
  });
  const files = await sizes('first');
  t.true([...files.keys()].some((key) => key.endsWith('meta/info.json')));
  const total = (suffix: string) =>
    [...files].reduce((sum, [key, size]) => sum + (key.endsWith(suffix) ? size : 0), 0);
  for (const [type, suffix] of [
    ['video', '.mp4'],
    ['parquet', '.parquet'],
  ] as const) {
    const name = `roboflow_bytes_written_total{destination="s3",type="${type}"}`;
    const is = await untilAsync(async () => {
      const now = value(await scrape(), name);
      return now >= total(suffix) && now;
    });
    t.is(is, total(suffix), type);
  }
  const after = await scrape();
  t.is(value(after, 'roboflow_bytes_read_total{source="s3"}'), recorded);
  t.is(value(after, 'roboflow_cache_miss_total'), 2);
  t.is(value(after, 'roboflow_pending_uploads'), 0);

  const second = await converted(service, 'second', `${base}/datasets/second`, `${base}/raw/`);
  t.deepEqual(second, { status: 202, episodes: 2, state: 'completed' });
  const hits = await untilAsync(async () => {
    const series = await scrape();
    return value(series, 'roboflow_cache_hit_total') >= 2 && series;
  });
  t.is(value(hits, 'roboflow_cache_miss_total'), 2);
  t.is(value(hits, 'roboflow_bytes_read_total{source="s3"}'), recorded, 'nothing was read again');

  for (const [output, source] of [
    [`${base}/datasets/x`, `${base}/*`],
    [`${base}/datasets/x`, `s3://${server.bucket}/other.mcap`],
    [`${base}/raw/x`, `${base}/raw/day1/a.mcap`],
    [`${base}/datasets/x`, `${base}/raw/none/*.mcap`],
    [`${base}/datasets/x`, 'http://169.254.169.254/latest'],
  ] as const) {
    const refused = await converted(service, 'refused', output, source);
    t.is(refused.status, 422, `${source} → ${output}`);
  }
  t.notRegex(service.log(), new RegExp(credentials?.secretAccessKey ?? '^$'));
  t.notRegex(
    service.log(),
    /NodeVersionSupportWarning/,
    'nothing that whoever reads the log can do nothing about',
  );
});

/** Every value a Redis holds, as text. */
async function everythingIn(url: string): Promise<string> {
  const redis = new Redis(url);
  const found: unknown[] = [];
  try {
    for (const key of await redis.keys('*')) {
      const type = await redis.type(key);
      if (type === 'string') found.push(key, await redis.get(key));
      if (type === 'hash') found.push(key, await redis.hgetall(key));
      if (type === 'list') found.push(key, await redis.lrange(key, 0, -1));
      if (type === 'set') found.push(key, await redis.smembers(key));
      if (type === 'zset') found.push(key, await redis.zrange(key, '0', '-1'));
      if (type === 'stream') found.push(key, await redis.xrange(key, '-', '+'));
    }
  } finally {
    redis.disconnect();
  }
  return JSON.stringify(found);
}

test('a worker killed in the middle of a large upload: the next one sends what is missing, and no credential is told', async (t) => {
  if (server === undefined) return;
  t.timeout(240_000);
  const { settings, bucket: name } = server;
  const proxy = await startS3Proxy(settings.endpoint);
  t.teardown(() => proxy.stop());
  const [folder, redis] = [await temporaryFolder(t), await PrivateRedis.start()];
  t.teardown(() => redis.end());
  const size = { width: 640, height: 480 };
  const pictures = await Promise.all([0, 1, 2, 3].map((frame) => noisyJpeg(frame, size)));
  const recording = join(folder, 'recording.mcap');
  // pictures kept as they are in the table: some 23 MB without an encoder's time
  await writeLongRecording(recording, { seconds: 16, cameras: ['cam_high'], ...size, pictures });
  const secret = settings.credentials?.secretAccessKey ?? '';
  const base = `s3://${name}/${randomUUID()}`;
  proxy.plan = () => ({ kind: 'reset' });
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '1',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
    AWS_ENDPOINT_URL_S3: proxy.endpoint,
    S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: settings.credentials?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: secret,
  });
  const isPart = (url: string) => url.includes('partNumber=');
  const small = join(folder, 'small.mcap');
  await writeFile(small, await demonstration({ seconds: 1 }));
  const asked = await service.post('/v1/datasets', {
    datasetId: 'early',
    output: `${base}/early`,
    config,
    recordings: [{ source: `file://${small}` }],
  });
  t.is(asked.status, 202, 'nothing is asked of the store to take a job');
  const glob = { datasetId: 'glob', output: `${base}/glob`, config, recordings: [{ source: `${base}/*` }] };
  const refused = await service.post('/v1/datasets', glob);
  t.is(refused.status, 503, refused.text);
  t.regex(refused.text, /cannot look up s3:.*ECONNRESET/);
  await untilAsync(async () => proxy.seen.length > 0);
  proxy.plan = () => undefined;
  const early = await untilAsync(async () => {
    const { body } = await service.get<{ state: string }>('/v1/datasets/early');
    return !['planning', 'converting', 'finalizing'].includes(body.state) && body.state;
  });
  t.is(early, 'completed', 'the store was away at the start, and came back');
  const stored = () =>
    proxy.seen.filter(({ url, method, status }) => method === 'PUT' && isPart(url) && status === 200);
  let parts = 0;
  proxy.plan = (method, url) =>
    method === 'PUT' && isPart(url) && ++parts > 2 ? { kind: 'stall' } : undefined;
  const enqueue = (datasetId: string) =>
    service.post('/v1/datasets', {
      datasetId,
      output: `${base}/${datasetId}`,
      config: {
        fps: 30,
        clock: 'header',
        task: 'Stack the cups.',
        features: {
          'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'image' },
          'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
        },
      },
      recordings: [{ source: `file://${recording}` }],
      ...(datasetId === 'refused' && { options: { attempts: 1 } }),
    });
  t.is((await enqueue('killed')).status, 202);
  await untilAsync(async () => {
    const { body } = await service.get<{ items: { progress: number }[] }>('/v1/jobs?dataset=killed');
    return (body.items[0]?.progress ?? 0) > 0.4;
  });
  await untilAsync(async () => stored().length === 2 && parts > 2);
  const [worker = 0] = await service.workers();
  process.kill(worker, 'SIGKILL');
  proxy.plan = () => undefined;
  type Job = { jobId: string; state: string; upload?: { files: number; bytes: number; retries: number } };
  const job = await untilAsync(async () => {
    const { body } = await service.get<{ items: Job[] }>('/v1/jobs?dataset=killed');
    return body.items[0]?.state === 'completed' && body.items[0];
  });
  const bucket = openStorage(`${base}/killed`, {
    metrics: createStorageMetrics(new Registry()),
    role: 'destination',
    s3: settings,
  });
  const numbers = stored().map(({ url }) => /partNumber=(\d+)/.exec(url)?.[1]);
  t.is(new Set(numbers).size, numbers.length, 'no part was taken twice');
  const sizes = new Map<string, number>();
  for await (const { key, size: bytes } of bucket.list('.roboflow/')) sizes.set(key, bytes);
  const [table, bytes = 0] = [...sizes].find(([key]) => key.endsWith('.parquet')) ?? [];
  t.true(bytes > 17_000_000, `${table}: ${bytes} bytes`);
  t.is(
    stored().reduce((sum, { received }) => sum + received, 0),
    bytes,
    'and none is missing',
  );
  t.is(job.upload?.files, 2, 'the table and the manifest');
  t.is(job.upload?.retries, 0);
  t.is(await bucket.sweep('', { olderThanMs: 0 }), 0, 'no unfinished upload is left');

  proxy.plan = (method) =>
    method === 'PUT' ? { kind: 'answer', status: 403, code: 'SignatureDoesNotMatch' } : undefined;
  await enqueue('refused');
  await untilAsync(async () => {
    const { body } = await service.get<{ state: string }>('/v1/datasets/refused');
    return ['failed', 'partial'].includes(body.state);
  });
  const told = {
    log: service.log(),
    metrics: (await service.get('/metrics')).text,
    health: (await service.get('/health')).text,
    jobs: (await service.get('/v1/jobs')).text,
    datasets: (await service.get('/v1/datasets/refused')).text,
    redis: await everythingIn(redis.url),
  };
  t.regex(told.log, /secret key does not fit/, 'the reason is told');
  for (const [where, text] of Object.entries(told)) {
    t.false(text.includes(secret), where);
    t.notRegex(text, /AWS4-HMAC-SHA256|Signature=|test-key/, where);
  }
});
