import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import sharp from 'sharp';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { toPicture } from '../../src/recording/image.ts';
import { openRecording } from '../../src/recording/open.ts';
import { bench } from '../helpers/conversion.ts';
import { localFiles, sharedRecordings } from '../helpers/recordings.ts';

const run = promisify(execFile);
const shared = sharedRecordings();
const CAMERA = '/cam_high/image_raw/compressed';
const KEY = 'observation.images.cam_high';

const config = (clock: 'header' | 'log') => ({
  fps: 30,
  clock,
  features: {
    [KEY]: { topic: CAMERA, type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
});

/**
 * Row k of a recording shows source row k + shift. By header stamps nothing is shifted. By log time the camera is 35 ms
 * late, the state 1 ms and the action 2 ms: rows begin with the first picture, when state 1 (33.3 + 1 ms) is there
 * already and action 1 (33.3 + 2 ms) is not yet; the last state ends them.
 */
const expected = {
  header: { state: 0, action: 0, rows: (frames: number) => frames },
  log: { state: 1, action: 0, rows: (frames: number) => frames - 2 },
} as const;

const truth = test.macro({
  exec: async (t, path: string, episode: number, frames: number, clock: 'header' | 'log') => {
    t.timeout(300_000);
    const recording = join(shared ?? '', 'g1', path);
    const { convert, finalize, output, context } = await bench(t);
    await convert(recording, config(clock));
    await finalize(config(clock), ['episode']);
    t.deepEqual(
      (await verifyDataset(context.output)).filter(({ ok }) => !ok),
      [],
    );

    const rows = await rowsOf(join(output, 'data/chunk-000/file-000.parquet'));
    const source = await rowsOf(
      join(shared ?? '', `truth-v21/data/episode_${String(episode).padStart(6, '0')}.parquet`),
    );
    const { state, action, rows: count } = expected[clock];
    t.is(source.length, frames);
    t.is(rows.length, count(frames));
    for (const [k, row] of rows.entries()) {
      t.true(near(row['observation.state'], source[k + state]?.['observation.state']), `state of row ${k}`);
      t.true(near(row['action'], source[k + action]?.['action']), `action of row ${k}`);
    }
    const video = await videoFrames(join(output, `videos/${KEY}/chunk-000/file-000.mp4`));
    t.is(video.length, rows.length);
    const pictures = await sourcePictures(recording);
    const wrong = video.flatMap((frame, k) => (bestOf(frame, pictures, k) ? [] : [k]));
    t.deepEqual(wrong, []);
  },
  title: (_, path: string, _episode: number, _frames: number, clock: string) =>
    `${path} by ${clock} clock equals its published truth`,
});

if (shared) {
  for (const clock of ['header', 'log'] as const) {
    test(truth, 'g1_ep059_rosbag2_sqlite3', 59, 280, clock);
    test(truth, 'g1_ep064_ros1_lz4.bag', 64, 368, clock);
  }
} else test.skip('the G1 recordings are not beside this checkout', (t) => t.fail());

type Row = Record<string, unknown>;

async function rowsOf(path: string): Promise<Row[]> {
  return parquetReadObjects({ file: await asyncBufferFromFile(path) });
}

function near(ours: unknown, theirs: unknown): boolean {
  const [a, b] = [ours as number[], theirs as number[]];
  return a.length === 26 && a.every((value, i) => Math.abs(value - (b[i] ?? Number.NaN)) <= 1e-6);
}

const SIZE = 64 * 48;

async function videoFrames(path: string): Promise<Buffer[]> {
  const args = ['-v', 'error', '-i', path, '-vf', 'scale=64:48,format=gray', '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 1 << 28 });
  return Array.from({ length: stdout.length / SIZE }, (_, i) => stdout.subarray(i * SIZE, (i + 1) * SIZE));
}

async function sourcePictures(path: string): Promise<Buffer[]> {
  const recording = await openRecording(await localFiles(path));
  const pictures: Buffer[] = [];
  for await (const { channel, data } of recording.messages({ topics: new Set([CAMERA]) })) {
    const picture = toPicture(createDecoder(channel)(data), channel);
    const small = sharp(picture.data).resize(64, 48, { fit: 'fill', kernel: 'cubic' });
    pictures.push(await small.grayscale().raw().toBuffer());
  }
  await recording.close();
  return pictures;
}

/** Whether a frame looks like source picture `at`, and none of the neighbours fits clearly better. */
function bestOf(frame: Uint8Array, pictures: readonly Buffer[], at: number): boolean {
  const own = distance(frame, pictures[at]);
  const others = [at - 2, at - 1, at + 1, at + 2].map((i) => distance(frame, pictures[i]));
  return own < 4 && own < Math.min(...others) + 0.2;
}

function distance(a: Uint8Array, b: Uint8Array | undefined): number {
  if (!b) return Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let i = 0; i < SIZE; i++) sum += Math.abs((a[i] ?? 0) - (b[i] ?? 0));
  return sum / SIZE;
}
