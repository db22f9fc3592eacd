import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import { reportEpisode } from '../../src/conversion/report-episode.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, headerOf, SECOND, START } from '../helpers/demonstration.ts';
import type { BuiltChannel } from '../helpers/recordings.ts';

const features = {
  'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
  'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
  action: { topic: '/joint_commands', field: 'position', names: 'all' },
};
const base = { fps: 10, clock: 'header', features };

function at(seconds: number): bigint {
  return START + BigInt(Math.round(seconds * 1e9));
}

function texts(topic: string, type: string, values: readonly (readonly [number, unknown])[]): BuiltChannel {
  return { topic, type, messages: values.map(([time, data]) => ({ log: at(time), value: { data } })) };
}

/** A recording of four seconds on disk, with further channels. */
async function recordingOf(
  t: ExecutionContext,
  change: (channels: BuiltChannel[]) => readonly BuiltChannel[],
  metadata: Parameters<typeof demonstration>[0] = {},
): Promise<string> {
  const path = join(await temporaryFolder(t), 'take 1.mcap');
  await writeFile(
    path,
    await demonstration({ seconds: 4, fps: 10, jointRate: 50, task: null, ...metadata, change }),
  );
  return path;
}

/** Converts without a task of the recording's own, and publishes the dataset. */
async function convert(t: ExecutionContext, source: string, config: object, task?: string) {
  const { context, finalize, output } = await bench(t);
  const request = {
    source,
    config: datasetConfig.parse(config),
    key: 'episode',
    slot: 0,
    ...(task && { task }),
  };
  const { manifest } = await convertEpisode(request, context);
  const result = await finalize(config, ['episode']);
  const checks = await verifyDataset(context.output);
  t.deepEqual(
    checks.filter(({ ok }) => !ok),
    [],
  );
  const again = await convertEpisode(request, context);
  return { manifest, result, context, request, output, again };
}

test('a topic cuts a recording into episodes, each with the task that holds when it starts', async (t) => {
  const source = await recordingOf(t, (channels) => [
    ...channels,
    texts('/episode', 'std_msgs/Float64', [
      [0.5, 1],
      [1.55, -1],
      [2, 2],
      [3.05, -1],
    ]),
    texts('/task', 'std_msgs/String', [
      [0.1, 'pick'],
      [1.8, 'place'],
    ]),
  ]);
  const config = {
    ...base,
    features: { ...features, 'next.done': { derive: 'done' } },
    task: { topic: '/task', field: 'data' },
    episodes: { split: { topic: '/episode', field: 'data' } },
  };
  const { manifest, result, again } = await convert(t, source, config);
  t.deepEqual(
    manifest.episodes.map(({ frames, tasks, firstFrame }) => ({ frames, tasks, firstFrame })),
    [
      { frames: 11, tasks: ['pick'], firstFrame: 0 },
      { frames: 11, tasks: ['place'], firstFrame: 11 },
    ],
  );
  t.deepEqual(
    manifest.episodes.map(({ startTime, endTime }) => [BigInt(startTime), BigInt(endTime)]),
    [
      [at(0.5), at(1.5)],
      [at(2), at(3)],
    ],
  );
  const { rows, droppedRows, outsideRows } = manifest.alignment;
  t.deepEqual({ rows, droppedRows, outsideRows }, { rows: 22, droppedRows: 0, outsideRows: 40 - 22 });
  t.like(result, { episodes: 2, frames: 22, tasks: 2 });
  t.is(manifest.episodes[0]?.stats['next.done']?.max[0], 1);
  t.is(again.outcome, 'skipped');
});

test('a recording too long for one video of long episodes gets one for each; readers would miss frames', async (t) => {
  const source = await recordingOf(t, (channels) => channels, { seconds: 1100, fps: 1, jointRate: 2 });
  await writeFile(
    join(source, '..', 'marks.json'),
    '[{"start": 1, "end": 520, "task": "pick"}, {"start": 530, "end": 1090, "task": "place"}]',
  );
  const align = { method: 'hold', max_age: 2, missing: 'error' };
  const config = { ...base, fps: 1, align, video: { gop: 1 }, episodes: { split: { marks: 'marks.json' } } };
  const { manifest, context } = await convert(t, source, config);
  t.deepEqual(
    manifest.files.flatMap(({ path, type, frames }) => (type === 'video' ? [[path, frames]] : [])),
    [
      ['videos/observation.images.cam_high/chunk-000/file-000.mp4', manifest.episodes[0]?.frames],
      ['videos/observation.images.cam_high/chunk-1000000/file-000.mp4', manifest.episodes[1]?.frames],
    ],
  );
  const { output: storage, signal } = context;
  const scratch = await temporaryFolder(t);
  const page = await reportEpisode({ storage, scratch, signal, key: 'episode', episode: 1 });
  t.regex(page, /src="data:image/, 'the report finds the pictures of the second video');
});

test('marks beside the recording cut it; other marks or another task make another episode', async (t) => {
  const source = await recordingOf(t, (channels) => channels);
  const marks = join(source, '..', 'take 1.marks.json');
  const config = { ...base, episodes: { split: { marks: '{name}.marks.json' } } };
  const { context } = await bench(t);
  await t.throwsAsync(
    convertEpisode({ source, config: datasetConfig.parse(config), key: 'e', slot: 0 }, context),
    {
      name: 'InputError',
      message: /expected the marks of its episodes beside it in take 1\.marks\.json, found no such file/,
    },
  );
  await writeFile(
    marks,
    '[{"start": 0.5, "end": 1.5, "task": "pick"}, {"start": 2.0, "end": 3.0, "task": "place"}]',
  );
  const first = await convert(t, source, config);
  t.deepEqual(
    first.manifest.episodes.map(({ tasks }) => tasks),
    [['pick'], ['place']],
  );
  t.is(first.again.outcome, 'skipped');
  await writeFile(marks, '[{"start": 0.5, "end": 1.5, "task": "push"}]');
  const second = await convertEpisode(first.request, first.context);
  t.is(second.outcome, 'completed');
  t.deepEqual(
    second.manifest.episodes.map(({ tasks }) => tasks),
    [['push']],
  );
  await writeFile(marks, '[{"start": 0.5, "end": 1.5}]');
  const third = await convertEpisode({ ...first.request, task: 'pull' }, first.context);
  t.deepEqual(
    third.manifest.episodes.map(({ tasks }) => tasks),
    [['pull']],
  );
});

test('idle ends are cut off before anything is encoded', async (t) => {
  const source = await recordingOf(t, (channels) =>
    channels.map((channel) => {
      if (channel.topic !== '/joint_states') return channel;
      return {
        ...channel,
        messages: channel.messages.map(({ log }, i) => {
          const stamp = START + (BigInt(i) * SECOND) / 50n;
          const moving = Math.min(Math.max(i / 50 - 1, 0), 2);
          const position = [moving, 0, 0, 0];
          const name = ['shoulder', 'elbow', 'wrist', 'gripper'];
          return { log, value: { header: headerOf(stamp, ''), name, position, velocity: [], effort: [] } };
        }),
      };
    }),
  );
  const trim = { feature: 'observation.state', threshold: 0.015, keep: 0.25 };
  const { manifest } = await convert(t, source, { ...base, trim }, 'Move.');
  // Moves from 1.02 s to 3 s; a quarter of a second is kept on both sides.
  t.deepEqual(
    manifest.episodes.map(({ frames, startTime, endTime }) => [frames, BigInt(startTime), BigInt(endTime)]),
    [[25, at(0.8), at(3.2)]],
  );
});

test('task and success come from metadata, and what is missing is said before any work', async (t) => {
  const metadata = { metadata: [{ name: 'episode', entries: { task: 'Stack it.', success: 'true' } }] };
  const source = await recordingOf(t, (channels) => channels, metadata);
  const config = {
    ...base,
    features: { ...features, 'next.success': { derive: 'success', from: { metadata: 'episode.success' } } },
    task: { metadata: 'episode.task' },
  };
  const { manifest } = await convert(t, source, config);
  t.deepEqual(manifest.episodes[0]?.tasks, ['Stack it.']);
  t.is(manifest.episodes[0]?.stats['next.success']?.max[0], 1);
  const { context } = await bench(t);
  const attempt = (changes: object) =>
    convertEpisode(
      { source, config: datasetConfig.parse({ ...config, ...changes }), key: 'e', slot: 0 },
      context,
    );
  await t.throwsAsync(attempt({ task: { metadata: 'episode.text' } }), {
    name: 'InputError',
    message: /the task comes from the metadata "episode\.text"; there is episode\.task, episode\.success/,
  });
  await t.throwsAsync(attempt({ task: undefined }), { message: /no task text; give one with the recording/ });
  await t.throwsAsync(attempt({ task: { topic: '/task', field: 'data' } }), {
    message: /task: topic \/task is not in the recording/,
  });
});

test('the calibration beside a camera is kept with the episode, and one that cannot be read is a loss', async (t) => {
  const info = (topic: string, k: readonly number[]): BuiltChannel => ({
    topic,
    type: 'sensor_msgs/CameraInfo',
    messages: [0.1, 0.2].map((time) => ({
      log: at(time),
      value: {
        header: headerOf(at(time), 'cam'),
        height: 64,
        width: 96,
        distortion_model: 'plumb_bob',
        d: [0.1, -0.2, 0, 0, 0],
        k,
        r: [1, 0, 0, 0, 1, 0, 0, 0, 1],
        p: [90, 0, 48, 0, 0, 91, 32, 0, 0, 0, 1, 0],
      },
    })),
  });
  const k = [90, 0, 48, 0, 91, 32, 0, 0, 1];
  const source = await recordingOf(t, (channels) => [
    ...channels,
    info('/cam_high/camera_info', k),
    info('/other/camera_info', [1, 0, 0, 0, 1, 0, 0, 0, 1]),
  ]);
  const { manifest } = await convert(t, source, base, 'Look.');
  const found = manifest.intrinsics?.['observation.images.cam_high'];
  t.deepEqual(Object.keys(manifest.intrinsics ?? {}), ['observation.images.cam_high']);
  t.like(found, { topic: '/cam_high/camera_info', width: 96, height: 64, distortionModel: 'plumb_bob' });
  t.deepEqual(found?.k, k);
  t.deepEqual(found?.d, [0.1, -0.2, 0, 0, 0]);

  const broken = await recordingOf(t, (channels) => [
    ...channels,
    info('/cam_high/camera_info', [Number.NaN, ...k.slice(1)]),
  ]);
  const second = await convert(t, broken, base, 'Look.');
  t.is(second.manifest.intrinsics, undefined);
  t.regex(
    second.manifest.losses[0]?.what ?? '',
    /^calibration of observation\.images\.cam_high from topic \/cam_high\/camera_info: expected 9 numbers in field 'k', found NaN/,
  );
});
