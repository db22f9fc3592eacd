import { execFile } from 'node:child_process';
import { cp, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { checkVideo } from '../../src/dataset/check-video.ts';
import { joinVideos } from '../../src/dataset/join-videos.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { VideoPacker } from '../../src/dataset/video-packer.ts';
import {
  buildDataset,
  camera,
  finalizeInto,
  folderFiles,
  publishRecording,
  tempFolder,
  writeRecording,
} from './build.ts';

const run = promisify(execFile);
const KEY = 'observation.images.wrist';
const PLANS = [
  { lengths: [7], tasks: ['pick'] },
  { lengths: [5, 6], tasks: ['place', 'pick'] },
  { lengths: [4], tasks: ['pick'] },
];
const never = new AbortController().signal;

/** The numbers in the frames of a video of `sampleFrame`. */
async function numbersIn(path: string): Promise<number[]> {
  const args = ['-v', 'error', '-i', path, '-vf', 'scale=4:4:flags=area,format=gray', '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer' });
  return Array.from({ length: stdout.length / 16 }, (_, i) =>
    stdout.subarray(i * 16, (i + 1) * 16).reduce((sum, level, bit) => sum + (level > 127 ? 1 << bit : 0), 0),
  );
}

for (const pack of [true, false]) {
  test(`episodes with videos of their own have their places, ${pack ? 'joined' : 'as they are'}`, async (t) => {
    const { root } = await buildDataset(await tempFolder(t), PLANS, { pack, apart: true });
    const faults = (await verifyDataset(folderFiles(root))).filter(({ ok }) => !ok);
    t.deepEqual(faults, []);
    const rows = await parquetReadObjects({
      file: await asyncBufferFromFile(join(root, 'meta/episodes/chunk-000/file-000.parquet')),
    });
    const places = rows.map((row) =>
      ['chunk_index', 'file_index', 'from_timestamp'].map((name) => Number(row[`videos/${KEY}/${name}`])),
    );
    const joined = [0, 0.7, 1.2, 1.8].map((from) => [0, 0, from]);
    const [first, second, third, fourth] = [
      [0, 0, 0],
      [0, 1, 0],
      [1_000_000, 1, 0],
      [0, 2, 0],
    ];
    t.deepEqual(places, pack ? joined : [first, second, third, fourth]);
    if (!pack)
      t.deepEqual(
        await numbersIn(join(root, `videos/${KEY}/chunk-1000000/file-001.mp4`)),
        [1005, 1006, 1007, 1008, 1009, 1010],
      );
  });
}

test('packed videos are one file a camera in which every episode has its place, also after an append', async (t) => {
  const dir = await tempFolder(t);
  const { root, manifests } = await buildDataset(dir, PLANS, { pack: true });
  const path = join(root, `videos/${KEY}/chunk-000/file-000.mp4`);
  const expected = PLANS.flatMap(({ lengths }, recording) =>
    Array.from({ length: lengths.reduce((a, b) => a + b) }, (_, k) => recording * 1000 + k),
  );
  t.deepEqual(await numbersIn(path), expected);
  const faults = async () => (await verifyDataset(folderFiles(root))).filter(({ ok }) => !ok);
  t.deepEqual(await faults(), []);
  const rows = async () =>
    parquetReadObjects({
      file: await asyncBufferFromFile(join(root, 'meta/episodes/chunk-000/file-000.parquet')),
    });
  t.deepEqual(
    (await rows()).map((row) => [row[`videos/${KEY}/file_index`], row[`videos/${KEY}/from_timestamp`]]),
    [
      [0n, 0],
      [0n, 0.7],
      [0n, 1.2],
      [0n, 1.8],
    ],
  );

  const bytes = await readFile(path);
  await finalizeInto(root, manifests);
  t.deepEqual(await readFile(path), bytes, 'finalizing again writes the same bytes');

  const more = { lengths: [3], tasks: ['pick'] };
  const written = await writeRecording(join(dir, 'more'), 3, more, {});
  await finalizeInto(root, [...manifests, await publishRecording(root, written, { slot: 3, pack: true })]);
  t.deepEqual(await numbersIn(path), [...expected, 3000, 3001, 3002]);
  t.deepEqual(await faults(), []);
  await t.throwsAsync(
    finalizeInto(root, [...manifests, await publishRecording(root, written, { slot: 3 })]),
    { name: 'InputError', message: /must agree on videos\.pack: .* has true, .* has false/ },
  );
});

test('a new file begins before the size limit and before 1000 s; a video is never cut', async (t) => {
  const dir = await tempFolder(t);
  const feature = camera(KEY, 64, 48);
  const written = await writeRecording(dir, 0, { lengths: [6], tasks: ['x'] }, {});
  const video = written.files.find(({ type }) => type === 'video');
  if (!video) throw new Error('no video was written');
  const pack = async (limit: number, fps: number, frames = video.frames) => {
    const made: string[] = [];
    const packer = new VideoPacker(feature, {
      fps,
      codec: 'h264',
      scratch: dir,
      files: folderFiles(dir),
      emit: async ({ path }) => void made.push(path),
      signal: never,
      limit,
    });
    const places = [];
    for (let i = 0; i < 4; i++) {
      const { place, firstFrame } = await packer.add({ ...video, path: 'camera-0.mp4', frames });
      places.push([place.file, firstFrame]);
    }
    await packer.finish();
    return { places, made: made.length };
  };
  t.deepEqual((await pack(2.5 * video.bytes, 10)).places, [
    [0, 0],
    [0, 6],
    [1, 0],
    [1, 6],
  ]);
  t.deepEqual(await pack(1, 10), {
    places: [0, 1, 2, 3].map((file) => [file, 0]),
    made: 4,
  });
  // Of 400 s each, three would be too long. What is said about them is not what they hold: joining notices.
  await t.throwsAsync(pack(1e9, 10, 4000), { name: 'EncodeError', message: /expected 8000 frames/ });
});

test('three hundred videos are joined without a drift', async (t) => {
  const dir = await tempFolder(t);
  const feature = camera(KEY, 64, 48);
  for (const fps of [30, 24]) {
    await writeRecording(
      join(dir, `${fps}`),
      0,
      { lengths: [7], tasks: ['x'] },
      { fps, features: [feature] },
    );
    const parts = [];
    for (let i = 0; i < 300; i++) {
      const path = join(dir, `${fps}-${i}.mp4`);
      await cp(join(dir, `${fps}`, 'camera-0.mp4'), path);
      parts.push({ path, frames: 7 });
    }
    const joined = join(dir, `joined-${fps}.mp4`);
    await joinVideos(parts, joined, { fps, codec: 'h264', signal: never });
    const found = await checkVideo(joined, { feature, fps, frames: 2100 });
    t.is(found.frameTicks, found.timescale / fps);
    t.true(found.faststart && (await stat(joined)).size > 0);
  }
});
