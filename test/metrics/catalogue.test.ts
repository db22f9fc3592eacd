import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Registry } from 'prom-client';
import { catalogue } from '../../src/metrics/catalogue.ts';
import { ClusterMetrics } from '../../src/metrics/cluster.ts';
import type { MetricDefinition } from '../../src/metrics/definition.ts';
import { createMetrics, createPrimaryMetrics, createWorkerMetrics } from '../../src/metrics/index.ts';
import { startQueuePolling } from '../../src/metrics/queue.ts';
import { createExposition, negotiate } from '../../src/metrics/server.ts';
import { promtool } from '../helpers/promtool.ts';
import { valueOf } from './pool.ts';

/** The agreed fifteen: name, labels, type. Dashboards and checks elsewhere rely on every letter. */
const CORE: [string, string[], string][] = [
  ['roboflow_episodes_processed_total', ['dataset_id', 'status'], 'counter'],
  ['roboflow_episode_processing_duration_seconds', [], 'histogram'],
  ['roboflow_frames_processed_total', [], 'counter'],
  ['roboflow_bytes_read_total', ['source'], 'counter'],
  ['roboflow_bytes_written_total', ['destination', 'type'], 'counter'],
  ['roboflow_upload_duration_seconds', ['file_type'], 'histogram'],
  ['roboflow_upload_retries_total', ['reason'], 'counter'],
  ['roboflow_upload_bytes_total', [], 'counter'],
  ['roboflow_pending_uploads', [], 'gauge'],
  ['roboflow_buffer_usage_bytes', [], 'gauge'],
  ['roboflow_cache_hit_total', [], 'counter'],
  ['roboflow_cache_miss_total', [], 'counter'],
  ['roboflow_active_conversions', [], 'gauge'],
  ['roboflow_video_encoding_duration_seconds', [], 'histogram'],
  ['roboflow_video_frames_encoded_total', ['camera'], 'counter'],
];

const definitions: readonly MetricDefinition[] = Object.values(catalogue);

const DEPENDENCIES = {
  redis: { latencyMs: 0.5, policy: 'noeviction', aof: true },
  queues: [{ name: 'episodes', counts: { waiting: 3, active: 1 }, oldestWaitingSeconds: 12, paused: false }],
};

/** A pod with everything in one process, each kind of metric fed once. */
async function fullPod() {
  const registry = new Registry();
  const metrics = createMetrics(registry);
  const worker = createWorkerMetrics(registry, 0);
  const primary = createPrimaryMetrics(registry, { version: '1.2.3', revision: 'abc' });
  const polling = startQueuePolling(registry, {
    read: async () => DEPENDENCIES,
    scratch: async () => ({ free: 10, size: 20 }),
  });
  await polling.poll();
  await polling.stop();
  await sleep(30);
  worker.slot.refresh();
  worker.slot.stop();
  metrics.conversion.expectDataset('pick place #1');
  metrics.video.expectCamera('observation.images.cam_high');
  primary.http.observe({ method: 'GET', route: '/v1/jobs/:id', status: 200, seconds: 0.02 });
  primary.http.observe({ method: 'BREW', route: 'unmatched', status: 404, seconds: 0.01 });
  primary.pool.slots.set(2);
  const exposition = createExposition(new ClusterMetrics({ registry, cacheMs: 0 }));
  return { registry, metrics, exposition };
}

test('the fifteen agreed metrics have exactly the agreed names, labels and types', (t) => {
  for (const [name, labels, type] of CORE) {
    const found = definitions.find((definition) => definition.name === name);
    t.deepEqual([found?.labels, found?.type], [labels, type], name);
  }
});

test('every metric of the catalogue is exposed once, and nothing of ours beside it', async (t) => {
  const { exposition } = await fullPod();
  const { body } = await exposition.scrape('');
  const exposed = [...body.matchAll(/^# TYPE (roboflow_\S+) (\S+)$/gm)].map(
    ([, name, type]) => `${name} ${type}`,
  );
  t.deepEqual(exposed.toSorted(), definitions.map(({ name, type }) => `${name} ${type}`).toSorted());
});

test('closed label sets are there at 0 before anything happened', async (t) => {
  const registry = new Registry();
  createMetrics(registry);
  const { body } = await createExposition(new ClusterMetrics({ registry })).scrape('');
  const zero = [
    'roboflow_bytes_read_total{source="s3"}',
    'roboflow_bytes_written_total{destination="file",type="video"}',
    'roboflow_bytes_written_total{destination="s3",type="meta"}',
    'roboflow_upload_duration_seconds_count{file_type="parquet"}',
    'roboflow_upload_retries_total{reason="checksum"}',
    'roboflow_cache_hit_total',
    'roboflow_pending_uploads',
    'roboflow_stage_duration_seconds_bucket{le="+Inf",stage="finalize"}',
    'roboflow_jobs_requeued_total{reason="crash"}',
    'roboflow_episodes_ended_total{status="failed"}',
    'roboflow_frames_processed_total',
    'roboflow_episode_processing_duration_seconds_sum',
  ];
  for (const series of zero) t.is(valueOf(body, series), 0, series);
});

test('the outcomes of a dataset start at 0 when its first job does', async (t) => {
  const { exposition, metrics } = await fullPod();
  metrics.conversion.expectDataset('pick place #1');
  metrics.conversion.episodesProcessed.inc({ dataset_id: 'pick place #1', status: 'failed' });
  const { body } = await exposition.scrape('');
  const series = (status: string) =>
    valueOf(body, `roboflow_episodes_processed_total{dataset_id="pick_place__1",status="${status}"}`);
  t.deepEqual(['completed', 'failed', 'cancelled', 'skipped'].map(series), [0, 1, 0, 0]);
});

test('promtool has nothing to say against what is served', async (t) => {
  const { exposition } = await fullPod();
  const answer = promtool(t, ['check', 'metrics'], { input: (await exposition.scrape('')).body });
  if (answer !== undefined) t.deepEqual(answer, { code: 0, output: '' });
});

test('a scraper that prefers OpenMetrics gets it, counters named once', async (t) => {
  const { exposition } = await fullPod();
  const accept =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  const { body, contentType } = await exposition.scrape(accept);
  t.is(contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  t.true(body.endsWith('\n# EOF\n'));
  t.regex(body, /^# TYPE roboflow_frames_processed counter$/m);
  t.is(valueOf(body, 'roboflow_frames_processed_total'), 0);
  t.false(body.includes('_total_total'));
  t.false(/\n\n/.test(body), 'no empty lines in OpenMetrics');
});

const HEADERS: [string, 'prometheus' | 'openmetrics'][] = [
  ['', 'prometheus'],
  ['*/*', 'prometheus'],
  ['text/html,application/xhtml+xml,*/*;q=0.8', 'prometheus'],
  ['text/plain;version=0.0.4', 'prometheus'],
  ['application/openmetrics-text', 'openmetrics'],
  ['application/openmetrics-text; version=1.0.0', 'openmetrics'],
  ['application/openmetrics-text; version=0.0.1', 'prometheus'],
  ['text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4', 'prometheus'],
  ['application/openmetrics-text;q=nonsense', 'prometheus'],
];
for (const [accept, format] of HEADERS) {
  test(`Accept: ${accept || '(none)'} is answered as ${format}`, (t) => {
    t.is(negotiate(accept), format);
  });
}

test('names, units and help follow the naming rules', (t) => {
  for (const { name, type, help, labels, buckets, closed } of definitions) {
    t.regex(name, /^roboflow_[a-z_]+$/);
    t.is(name.endsWith('_total'), type === 'counter', name);
    t.regex(help, /^[A-Z0-9].*\.$/, name);
    if (type === 'histogram') {
      t.regex(name, /_(?:seconds|bytes)$/);
      t.deepEqual(
        buckets,
        buckets?.toSorted((a, b) => a - b),
      );
    }
    for (const label of Object.keys(closed ?? {})) t.true(labels.includes(label), `${name} ${label}`);
  }
});

test('Redis going away is one gauge and one message, and the last queue numbers stay for a while', async (t) => {
  const registry = new Registry();
  let away = false;
  const changes: boolean[] = [];
  const polling = startQueuePolling(registry, {
    read: () => (away ? new Promise(() => undefined) : Promise.resolve(DEPENDENCIES)),
    timeoutMs: 50,
    onChange: ({ up }) => changes.push(up),
  });
  t.teardown(() => polling.stop());
  await polling.poll();
  const healthy = await registry.metrics();
  t.is(valueOf(healthy, 'roboflow_redis_up'), 1);
  t.is(valueOf(healthy, 'roboflow_redis_config_ok'), 1);
  t.is(valueOf(healthy, 'roboflow_queue_jobs{queue="episodes",state="waiting"}'), 3);
  t.is(valueOf(healthy, 'roboflow_queue_jobs{queue="episodes",state="prioritized"}'), 0);
  t.is(valueOf(healthy, 'roboflow_queue_oldest_waiting_seconds{queue="episodes"}'), 12);
  away = true;
  await polling.poll();
  await polling.poll();
  const broken = await registry.metrics();
  t.is(valueOf(broken, 'roboflow_redis_up'), 0);
  t.is(valueOf(broken, 'roboflow_queue_jobs{queue="episodes",state="waiting"}'), 3);
  away = false;
  await polling.poll();
  t.is(valueOf(await registry.metrics(), 'roboflow_redis_up'), 1);
  t.deepEqual(changes, [false, true]);
});
