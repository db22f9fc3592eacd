import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { decreased, parseSeries, recount, type Series } from '../helpers/recount.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { type RunningService, startService, untilAsync } from '../helpers/service.ts';

const CAMERAS = ['cam_high', 'cam_wrist'];

const config = {
  fps: 30,
  clock: 'header',
  task: 'Stack the cups.',
  features: {
    ...Object.fromEntries(
      CAMERAS.map((camera) => [
        `observation.images.${camera}`,
        { topic: `/${camera}/image_raw/compressed`, type: 'video' },
      ]),
    ),
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

type Job = { jobId: string; source: string; state: string; stage: string; reason?: string; attempts: number };
type Dataset = {
  state: string;
  frames: number;
  episodes: Record<string, number>;
  failures: { source: string; reason: string }[];
};

/** Good recordings of several lengths, and four bad ones. */
async function writeRecordings(
  folder: string,
  seconds: readonly number[],
  size: { width: number; height: number },
) {
  await mkdir(folder, { recursive: true });
  const files = new Map<string, Uint8Array | string>();
  for (const [i, length] of seconds.entries()) {
    files.set(`good-${i}.mcap`, await demonstration({ seconds: length, cameras: CAMERAS, ...size }));
  }
  const [first] = files.values();
  files.set('bad-empty.mcap', '');
  files.set('bad-text.mcap', 'not a recording\n');
  files.set('bad-camera.mcap', await demonstration({ seconds: 1, cameras: ['cam_high'] }));
  files.set('bad-bytes.mcap', Uint8Array.from(first as Uint8Array).fill(0x55, 0, 400));
  for (const [name, bytes] of files) await writeFile(join(folder, name), bytes);
  return [...files.keys()].map((name) => ({ source: pathToFileURL(join(folder, name)).href }));
}

async function rig(t: ExecutionContext) {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '2',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
  });
  return { folder, service, dataset: join(folder, 'dataset') };
}

async function scrape(service: RunningService): Promise<Series> {
  const { status, text } = await service.get('/metrics');
  if (status !== 200) throw new Error(`scrape answered ${status}: ${text}`);
  return parseSeries(text);
}

/** A scrape made after this call: an answer is served again for a second, with the same CPU time in it. */
async function settled(service: RunningService): Promise<Series> {
  const cpu = (series: Series) => series.get('process_cpu_seconds_total');
  const first = cpu(await scrape(service));
  return untilAsync(async () => {
    const series = await scrape(service);
    return cpu(series) !== first && series;
  });
}

async function finished(service: RunningService, id: string): Promise<Dataset> {
  return untilAsync(async () => {
    const { body } = await service.get<Dataset>(`/v1/datasets/${id}`);
    return ['completed', 'partial', 'failed', 'cancelled'].includes(body.state) && body;
  });
}

/** Every mandated number against what foreign tools find in the folder. */
async function assertTrue(t: ExecutionContext, series: Series, dataset: string, good: number, bad: number) {
  const found = await recount(dataset);
  const of = (name: string) => series.get(name);
  t.true(found.rows > 0);
  t.is(of('roboflow_frames_processed_total'), found.rows);
  for (const camera of CAMERAS) {
    t.is(of(`roboflow_video_frames_encoded_total{camera="${camera}"}`), found.frames.get(camera));
    t.is(found.frames.get(camera), found.rows);
  }
  for (const [type, bytes] of Object.entries(found.bytes)) {
    t.is(of(`roboflow_bytes_written_total{destination="file",type="${type}"}`), bytes, type);
  }
  const { parquet, video, meta } = found.bytes;
  t.is(of('roboflow_upload_bytes_total'), parquet + video + meta);
  t.is(of('roboflow_episodes_processed_total{dataset_id="cups",status="completed"}'), good);
  t.is(of('roboflow_episodes_processed_total{dataset_id="cups",status="failed"}'), bad);
  t.is(of('roboflow_episodes_processed_total{dataset_id="cups",status="cancelled"}'), 0);
  t.is(of('roboflow_episodes_processed_total{dataset_id="cups",status="skipped"}'), 0);
  t.is(of('roboflow_episode_processing_duration_seconds_count'), good + bad);
  t.is(of('roboflow_video_encoding_duration_seconds_count'), good * CAMERAS.length);
  for (const gauge of ['active_conversions', 'pending_uploads', 'buffer_usage_bytes']) {
    t.is(of(`roboflow_${gauge}`), 0, gauge);
  }
}

test('after good and bad recordings every mandated metric equals an outside recount', async (t) => {
  const { folder, service, dataset } = await rig(t);
  const recordings = await writeRecordings(join(folder, 'raw'), [1, 2.5, 1.2, 3], { width: 96, height: 64 });
  const before = await scrape(service);
  t.is(before.get('roboflow_upload_retries_total{reason="throttled"}'), 0, 'known sets start at 0');
  const accepted = await service.post<{ episodes: number; runId: string }>('/v1/datasets', {
    datasetId: 'cups',
    output: pathToFileURL(dataset).href,
    config,
    recordings,
  });
  t.is(accepted.status, 202);
  t.is(accepted.body.episodes, 8);
  const result = await finished(service, 'cups');
  t.is(result.state, 'partial');
  t.is(result.episodes['completed'], 4);
  t.is(result.episodes['failed'], 4);
  t.is(result.failures.length, 4);
  for (const { source, reason } of result.failures) {
    t.regex(source, /bad-/);
    t.true(reason.length > 20 && !/\n\s+at /.test(reason), reason);
  }
  const { body } = await service.get<{ items: Job[] }>('/v1/jobs?dataset=cups&state=failed');
  t.true(
    body.items.every((job) => job.attempts === 1),
    'a retry cannot help, so there was none',
  );

  await assertTrue(t, await settled(service), dataset, 4, 4);
  t.deepEqual(await readdir(join(folder, 'scratch')), [], 'scratch is empty');
});

test('a worker killed in the middle: its job is done by another within seconds, once, and no number falls', async (t) => {
  const { folder, service, dataset } = await rig(t);
  const recordings = await writeRecordings(join(folder, 'raw'), [12, 12, 1], { width: 480, height: 360 });
  let last = await scrape(service);
  const falls: string[] = [];
  let scrapes = 0;
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const now = await scrape(service);
      falls.push(...decreased(last, now));
      last = now;
      scrapes++;
    }
  })();
  await service.post('/v1/datasets', {
    datasetId: 'cups',
    output: pathToFileURL(dataset).href,
    config,
    recordings,
  });

  const converting = await untilAsync(async () => {
    const { body } = await service.get<{ items: Job[] }>('/v1/jobs?dataset=cups&state=active');
    return body.items.find((job) => job.stage === 'convert');
  });
  const workers = await service.workers();
  t.is(workers.length, 2);
  const victim = await untilAsync(async () => {
    for (const pid of workers) if ((await encodersOf(pid)) > 0) return pid;
    return undefined;
  });
  process.kill(victim, 'SIGKILL');
  const killedAt = Date.now();
  await untilAsync(async () => {
    const { body } = await service.get<{ items: Job[] }>('/v1/jobs?dataset=cups&state=active');
    const alive = (await service.workers()).filter((pid) => pid !== victim);
    return alive.length === 2 && body.items.length > 0;
  });
  t.true(Date.now() - killedAt < 10_000, 'a new worker is there within seconds');

  const result = await finished(service, 'cups');
  watching = false;
  await watch;
  t.is(result.state, 'partial');
  t.is(result.episodes['completed'], 3);
  t.is(result.episodes['failed'], 4);
  const { body: job } = await service.get<Job>(`/v1/jobs/${converting.jobId}`);
  t.is(job.state, 'completed');
  t.true(scrapes > 5);
  t.deepEqual(falls, []);
  await assertTrue(t, await settled(service), dataset, 3, 4);
  const restarts = (await scrape(service)).get('roboflow_worker_restarts_total{reason="signal"}');
  t.is(restarts, 1);
  t.deepEqual(await readdir(join(folder, 'scratch')), [], 'the dead attempt was swept');
});

/** Encoder programs that run below a worker. */
async function encodersOf(pid: number): Promise<number> {
  const { childrenOf } = await import('../helpers/service.ts');
  return (await childrenOf(pid)).length;
}
