import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, frameTime, headerOf, START } from '../helpers/demonstration.ts';
import type { BuiltChannel } from '../helpers/recordings.ts';
import { filesOf, parseSeries, recount, type Series } from '../helpers/recount.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { startService, untilAsync } from '../helpers/service.ts';

type Answer = { status: number; text: string };
type Dataset = { state: string };

const camera = (name: string, type: string) => ({
  [`observation.images.${name}`]: { topic: `/${name}/image_raw/compressed`, type },
});
const joints = { topic: '/joint_states', field: 'position', names: 'all' };
const base = { fps: 30, clock: 'header', task: 'Stack the cups.' };
const mixed = {
  ...base,
  features: {
    ...camera('top', 'video'),
    ...camera('side', 'image'),
    'observation.images.depth': { topic: '/depth', type: 'depth' },
    'observation.state': joints,
  },
};
const split = {
  ...base,
  format: 'v2.1',
  features: { ...camera('top', 'video'), 'observation.state': joints },
  episodes: { split: { topic: '/episode', field: 'data' } },
};

/** Depth pictures at 30 Hz, and a state that cuts the recording into two episodes. */
function further(seconds: number): BuiltChannel[] {
  const [width, height] = [32, 24];
  const pictures = Array.from({ length: Math.round(seconds * 30) }, (_, frame) => {
    const stamp = START + frameTime(frame, 30);
    const data = new Uint8Array(new Uint16Array(width * height).fill(500 + frame).buffer);
    const form = { height, width, encoding: '16UC1', is_bigendian: 0, step: width * 2 };
    return { log: stamp, value: { header: headerOf(stamp, 'depth'), ...form, data } };
  });
  const states = [
    [0.1, 1],
    [0.6, -1],
    [0.7, 2],
  ].map(([at = 0, data]) => ({ log: START + BigInt(at * 1e9), value: { data } }));
  return [
    { topic: '/depth', type: 'sensor_msgs/Image', messages: pictures },
    { topic: '/episode', type: 'std_msgs/Float64', messages: states },
  ];
}

test('appending, skipping, retrying, cancelling, splitting and v2.1 each count what they write, no more', async (t) => {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '1',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
  });
  const write = async (name: string, content: Uint8Array | string) => {
    await writeFile(join(folder, name), content);
    return { source: pathToFileURL(join(folder, name)).href };
  };
  const recorded = (seconds: number, width: number) => {
    const change = (channels: BuiltChannel[]) => [...channels, ...further(seconds)];
    return demonstration({ seconds, cameras: ['top', 'side'], width, height: (width * 2) / 3, change });
  };
  const [a, b, bad] = [
    await write('a.mcap', await recorded(1.2, 96)),
    await write('b.mcap', await recorded(1.5, 96)),
    await write('bad.mcap', 'not a recording\n'),
  ];
  const long = await recorded(10, 480);
  const queue = [await write('1.mcap', long), await write('2.mcap', long), await write('3.mcap', long)];

  let before: Series = new Map();
  /** Does something to a dataset, waits for its end, and holds what was counted against what was written. */
  const expect = async (
    what: string,
    id: string,
    act: () => Promise<Answer>,
    outcomes: Partial<Record<'completed' | 'failed' | 'cancelled' | 'skipped', number>>,
  ) => {
    const dataset = join(folder, id);
    await mkdir(dataset, { recursive: true });
    const [had, files] = [await recount(dataset), await filesOf(dataset)];
    const answer = await act();
    t.is(answer.status, 202, `${what}: ${answer.text}`);
    await untilAsync(async () => {
      const { state } = (await service.get<Dataset>(`/v1/datasets/${id}`)).body;
      // a cancelled dataset says so at once, its run writes what became of it when all has stopped
      const runs = await readdir(join(dataset, '.roboflow', 'runs')).catch(() => []);
      const [planned, told] = ['plan', 'result'].map(
        (what) => runs.filter((name) => name.endsWith(`.${what}.jsonl`)).length,
      );
      return ['completed', 'partial', 'cancelled'].includes(state) && planned === told;
    });
    const [has, now] = [await recount(dataset), await filesOf(dataset)];
    const kinds = { parquet: [0, 0], video: [0, 0], meta: [0, 0] };
    for (const [path, { size, version }] of now) {
      if (files.get(path)?.version === version) continue;
      const sum = kinds[path.endsWith('.parquet') ? 'parquet' : path.endsWith('.mp4') ? 'video' : 'meta'];
      sum[0] = (sum[0] ?? 0) + size;
      sum[1] = (sum[1] ?? 0) + 1;
    }
    const { completed = 0, failed = 0, cancelled = 0, skipped = 0 } = outcomes;
    const grown = new Map<string, number>([
      ['roboflow_frames_processed_total', has.rows - had.rows],
      ['roboflow_episode_processing_duration_seconds_count', completed + failed],
      ['roboflow_upload_bytes_total', Object.values(kinds).reduce((sum, [bytes = 0]) => sum + bytes, 0)],
    ]);
    for (const [status, count] of Object.entries({ completed, failed, cancelled, skipped }))
      grown.set(`roboflow_episodes_processed_total{dataset_id="${id}",status="${status}"}`, count);
    for (const [name, frames] of has.frames)
      grown.set(
        `roboflow_video_frames_encoded_total{camera="${name}"}`,
        frames - (had.frames.get(name) ?? 0),
      );
    for (const [kind, [bytes = 0, count = 0]] of Object.entries(kinds)) {
      grown.set(`roboflow_bytes_written_total{destination="file",type="${kind}"}`, bytes);
      grown.set(`roboflow_upload_duration_seconds_count{file_type="${kind}"}`, count);
    }
    for (const gauge of ['active_conversions', 'pending_uploads', 'buffer_usage_bytes'])
      grown.set(`roboflow_${gauge}`, 0);
    const counted = (series: Series) =>
      Object.fromEntries([...grown.keys()].map((n) => [n, (series.get(n) ?? 0) - (before.get(n) ?? 0)]));
    const wanted = Object.fromEntries(grown);
    // an answer may be a second old
    const series = await untilAsync(async () => {
      const read = parseSeries((await service.get('/metrics')).text);
      return read.get('process_cpu_seconds_total') !== before.get('process_cpu_seconds_total') && read;
    });
    t.deepEqual(counted(series), wanted, what);
    before = series;
    return has;
  };
  const post = (datasetId: string, config: object, recordings: object[]) =>
    service.post('/v1/datasets', {
      datasetId,
      output: pathToFileURL(join(folder, datasetId)).href,
      config,
      recordings,
    });
  const more = (recordings: object[]) => service.post('/v1/datasets/mixed/episodes', { recordings });

  const first = await expect('new', 'mixed', () => post('mixed', mixed, [a, bad]), {
    completed: 1,
    failed: 1,
  });
  t.deepEqual(Object.fromEntries(first.frames), { top: first.rows, depth: first.rows });
  await expect('append', 'mixed', () => more([b, a]), { completed: 1, skipped: 1 });
  await write('bad.mcap', await recorded(1, 96));
  await expect('retry', 'mixed', () => service.post('/v1/datasets/mixed/retry', {}), { completed: 1 });
  const cut = await expect('split', 'split', () => post('split', split, [a, b]), { completed: 2 });
  t.is(cut.frames.get('top'), cut.rows);
  t.true(cut.rows > 0);
  const stop = async () => {
    const answer = await post('stop', mixed, queue);
    await untilAsync(async () => {
      const { body } = await service.get<{ items: { stage: string }[] }>(
        '/v1/jobs?dataset=stop&state=active',
      );
      return body.items.some(({ stage }) => stage === 'convert');
    });
    await service.post('/v1/datasets/stop/cancel', {});
    return answer;
  };
  await expect('cancel', 'stop', stop, { cancelled: 3 });
});
