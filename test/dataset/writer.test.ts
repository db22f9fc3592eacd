import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { openLocalFile } from '../../src/dataset/local-file.ts';
import { readMp4 } from '../../src/dataset/mp4.ts';
import { openParquet } from '../../src/dataset/parquet.ts';
import { buildDataset, FEATURES, numberedJpeg, tempFolder, writeRecording } from './build.ts';

const run = promisify(execFile);

/** Numbers that `numberedJpeg` drew, read back from every frame of a video. */
async function marks(path: string, width: number, height: number): Promise<number[]> {
  const args = ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'gray', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 1 << 28 });
  const size = width * height;
  return Array.from({ length: stdout.length / size }, (_, frame) => {
    let number = 0;
    for (let bit = 0; bit < 16; bit += 1) {
      const x = (bit % 4) * (width / 4) + width / 8;
      const y = Math.floor(bit / 4) * (height / 4) + height / 8;
      if ((stdout[frame * size + y * width + x] ?? 0) > 128) number |= 1 << bit;
    }
    return number;
  });
}

test('every row has its picture, at its exact time', async (t) => {
  const dir = await tempFolder(t);
  const written = await writeRecording(dir, 1, { lengths: [130], tasks: ['pick'] });
  const path = written.files.find((file) => file.type === 'video')?.localPath ?? '';
  t.deepEqual(
    await marks(path, 64, 48),
    Array.from({ length: 130 }, (_, k) => 1000 + k),
  );
  const file = await openLocalFile(path);
  const video = await readMp4(file);
  await file.close();
  t.deepEqual(
    [video.codec, video.pixFmt, video.width, video.height, video.frames],
    ['h264', 'yuv420p', 64, 48, 130],
  );
  t.deepEqual([video.startTicks, video.frameTicks, video.timescale], [0, 1024, 10_240]);
  t.true(video.faststart && !video.fragmented && !video.reordered);
  t.is(video.keyframeDistance, 2);
});

test('the index read from a video is the one ffprobe reads', async (t) => {
  const dir = await tempFolder(t);
  const written = await writeRecording(dir, 0, { lengths: [7], tasks: ['pick'] });
  const path = written.files.find((file) => file.type === 'video')?.localPath ?? '';
  const entries =
    'stream=codec_name,pix_fmt,width,height,nb_frames,start_pts,time_base,r_frame_rate,avg_frame_rate';
  const { stdout } = await run('ffprobe', ['-v', 'error', '-of', 'json', '-show_entries', entries, path]);
  const [stream] = (JSON.parse(stdout) as { streams: Record<string, unknown>[] }).streams;
  const times = { start_pts: 0, time_base: '1/10240', r_frame_rate: '10/1', avg_frame_rate: '10/1' };
  t.like(stream, { codec_name: 'h264', pix_fmt: 'yuv420p', width: 64, height: 48, nb_frames: '7', ...times });
});

test('the same frames give the same bytes', async (t) => {
  const dir = await tempFolder(t);
  const plan = [{ lengths: [20, 5], tasks: ['pick', 'place'] }];
  const one = await buildDataset(join(dir, 'one'), plan);
  const two = await buildDataset(join(dir, 'two'), plan);
  t.deepEqual(
    one.manifests.map((manifest) => manifest.files),
    two.manifests.map((manifest) => manifest.files),
  );
  for (const path of [
    'meta/stats.json',
    'data/chunk-000/file-000.parquet',
    'meta/episodes/chunk-000/file-000.parquet',
  ]) {
    t.deepEqual(await readFile(join(one.root, path)), await readFile(join(two.root, path)), path);
  }
});

test('the table holds the values as they were given', async (t) => {
  const dir = await tempFolder(t);
  const written = await writeRecording(dir, 2, { lengths: [12, 3], tasks: ['pick', 'place'] });
  t.deepEqual(
    written.parts.map(({ frames, firstFrame, tasks, startTime, endTime }) => ({
      frames,
      firstFrame,
      tasks,
      startTime,
      endTime,
    })),
    [
      { frames: 12, firstFrame: 0, tasks: ['pick'], startTime: '0', endTime: '1200000000' },
      { frames: 3, firstFrame: 12, tasks: ['place'], startTime: '1200000000', endTime: '1500000000' },
    ],
  );
  const file = await openLocalFile(join(dir, 'staged.parquet'));
  t.teardown(() => file.close());
  const table = await openParquet(file, 'staged.parquet');
  t.deepEqual(
    table.metadata.row_groups.map((group) => Number(group.num_rows)),
    [12, 3],
  );
  const rows = await table.rowGroup(1);
  const column = (name: string) => Array.from(rows.get(name) ?? []);
  t.deepEqual(column('frame_index'), [0n, 1n, 2n]);
  t.deepEqual(column('timestamp'), [0, Math.fround(0.1), Math.fround(0.2)]);
  t.deepEqual(column('task_index'), [1n, 1n, 1n]);
  t.deepEqual(column('gripper.count'), [0n, 1n, 2n]);
  t.deepEqual(column('note'), ['frame 12', 'frame 13', 'frame 14']);
  t.deepEqual(
    column('observation.state').map((row) => Array.from(row as number[])),
    [12, 13, 14].map((k) => [Math.fround(Math.sin(k / 7) + 2), Math.fround(Math.cos(k / 5) * 2)]),
  );
});

const damages: [string, readonly number[], (data: Uint8Array) => Uint8Array][] = [
  ['none, in the middle and at the end', [7, 19], () => Buffer.from('this is no picture')],
  ['cut off, before the last one', [18], (data) => data.subarray(0, data.length >> 1)],
  ['cut off, at the end', [19], (data) => data.subarray(0, data.length >> 1)],
  ['without its last bytes, next to another', [4, 5, 19], (data) => data.subarray(0, -40)],
];

for (const [how, damaged, damage] of damages) {
  test(`a picture that is ${how}, shows the one before it and is counted`, async (t) => {
    const dir = await tempFolder(t);
    const written = await writeRecording(
      dir,
      0,
      { lengths: [20], tasks: ['pick'] },
      {
        frame: async (_, k) => {
          const { sampleFrame } = await import('./build.ts');
          const frame = await sampleFrame(0, k);
          if (!damaged.includes(k)) return frame;
          const whole = await numberedJpeg(k, 64, 48);
          const picture = { ...whole, data: damage(whole.data) };
          return {
            ...frame,
            values: new Map(frame.values).set('observation.images.wrist', picture as never),
          };
        },
      },
    );
    const path = written.files.find((file) => file.type === 'video')?.localPath ?? '';
    const expected: number[] = [];
    for (let k = 0; k < 20; k++) expected.push(damaged.includes(k) ? (expected[k - 1] ?? 0) : k);
    t.deepEqual(await marks(path, 64, 48), expected);
    t.deepEqual(written.repeated, { 'observation.images.wrist': damaged.length });
  });
}

test('integers that 32-bit floats round are counted; measured values have no digits to lose', async (t) => {
  const [state] = FEATURES;
  if (!state) throw new Error('no features');
  const written = await writeRecording(
    await tempFolder(t),
    0,
    { lengths: [4], tasks: ['x'] },
    {
      features: [state],
      frame: async (_, k) => ({
        episode: 0,
        index: k,
        time: BigInt(k),
        values: new Map([[state.key, Float64Array.of(2 ** 24 + k, 47.123456789)]]),
      }),
    },
  );
  t.deepEqual(written.rounded, { 'observation.state': 2 });
});
