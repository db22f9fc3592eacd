import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import anyTest from 'ava';
import { Registry } from 'prom-client';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { parseSeries, type Series } from '../helpers/recount.ts';
import { PrivateRedis } from '../helpers/redis.ts';
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
