import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { loadDecompressHandlers } from '@mcap/support';
import { McapIndexedReader } from '@mcap/core';
import { MessageReader } from '@foxglove/rosmsg2-serialization';
import { parse } from '@foxglove/rosmsg';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import sharp from 'sharp';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { bench } from '../helpers/conversion.ts';
import { sharedRecordings } from '../helpers/recordings.ts';

const run = promisify(execFile);
const shared = sharedRecordings();
const real = shared ? test : test.skip;
const recording = join(shared ?? '', 'g1', 'g1_ep029_ros2_cdr_zstd.mcap');
const CAMERA = '/cam_high/image_raw/compressed';

const config = (clock: 'header' | 'log') => ({
  fps: 30,
  robot_type: 'unitree_g1',
  clock,
  features: {
    'observation.images.cam_high': { topic: CAMERA, type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
});

type Row = Record<string, unknown>;
type Sample = { log: bigint; stamp: bigint; position: number[]; jpeg: Uint8Array };

/** The recording through the libraries alone, nothing of ours. */
async function readByLibrary(): Promise<Map<string, Sample[]>> {
  const bytes = await readFile(recording);
  const reader = await McapIndexedReader.Initialize({
    readable: {
      size: () => Promise.resolve(BigInt(bytes.length)),
      read: (offset: bigint, size: bigint) =>
        Promise.resolve(bytes.subarray(Number(offset), Number(offset + size))),
    },
    decompressHandlers: await loadDecompressHandlers(),
  });
  const readers = new Map<number, MessageReader>();
  const samples = new Map<string, Sample[]>();
  for await (const message of reader.readMessages()) {
    const channel = reader.channelsById.get(message.channelId);
    const schema = channel && reader.schemasById.get(channel.schemaId);
    if (!channel || !schema || channel.topic === '/task') continue;
    let decode = readers.get(channel.id);
    if (!decode) {
      decode = new MessageReader(parse(new TextDecoder().decode(schema.data), { ros2: true }));
      readers.set(channel.id, decode);
    }
    const value = decode.readMessage<{
      header: { stamp: { sec: number; nsec?: number; nanosec?: number } };
      position?: Float64Array;
      data?: Uint8Array;
    }>(message.data);
    const { sec, nsec, nanosec } = value.header.stamp;
    const list = samples.get(channel.topic) ?? [];
    list.push({
      log: message.logTime,
      stamp: BigInt(sec) * 1_000_000_000n + BigInt(nanosec ?? nsec ?? 0),
      position: [...(value.position ?? [])],
      jpeg: value.data?.slice() ?? new Uint8Array(),
    });
    samples.set(channel.topic, list);
  }
  return samples;
}

async function rowsOf(dataset: string): Promise<Row[]> {
  return parquetReadObjects({
    file: await asyncBufferFromFile(join(dataset, 'data/chunk-000/file-000.parquet')),
  });
}

/** Every frame of the video as small gray pictures. */
async function videoFrames(dataset: string): Promise<Buffer[]> {
  const path = join(dataset, 'videos/observation.images.cam_high/chunk-000/file-000.mp4');
  const args = ['-v', 'error', '-i', path, '-vf', 'scale=64:48,format=gray', '-f', 'rawvideo', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 1 << 28 });
  const size = 64 * 48;
  return Array.from({ length: stdout.length / size }, (_, i) => stdout.subarray(i * size, (i + 1) * size));
}

function distance(a: Uint8Array, b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs((a[i] ?? 0) - (b[i] ?? 0));
  return sum / a.length;
}

/** Frame i must look like source picture `expected(i)`: no neighbour may fit clearly better. */
async function wrongFrames(
  frames: Buffer[],
  camera: Sample[],
  expected: (i: number) => number,
): Promise<number[]> {
  const sources = await Promise.all(
    camera.map(({ jpeg }) =>
      sharp(jpeg).resize(64, 48, { fit: 'fill', kernel: 'cubic' }).grayscale().raw().toBuffer(),
    ),
  );
  return frames.flatMap((frame, i) => {
    const at = expected(i);
    const own = distance(frame, sources[at] ?? new Uint8Array());
    const others = [at - 2, at - 1, at + 1, at + 2]
      .map((j) => sources[j])
      .filter((source) => source !== undefined);
    const best = Math.min(...others.map((source) => distance(frame, source)));
    return own < best + 0.2 && own < 4 ? [] : [i];
  });
}

real('by header stamps the episode equals its published truth, row by row and frame by frame', async (t) => {
  const { convert, finalize, output } = await bench(t);
  const { manifest } = await convert(recording, config('header'));
  t.is(manifest.episodes[0]?.frames, 221);
  await finalize(config('header'), ['episode']);

  const rows = await rowsOf(output);
  const truth = await parquetReadObjects({
    file: await asyncBufferFromFile(join(shared ?? '', 'truth-v21/data/episode_000029.parquet')),
  });
  t.is(rows.length, 221);
  t.is(truth.length, 221);
  for (const [i, row] of rows.entries()) {
    for (const key of ['observation.state', 'action']) {
      const ours = row[key] as number[];
      const theirs = truth[i]?.[key] as number[];
      t.is(ours.length, 26);
      const worst = Math.max(...ours.map((value, j) => Math.abs(value - (theirs[j] ?? Number.NaN))));
      t.true(worst <= 1e-6, `${key} of row ${i} differs by ${worst}`);
    }
    t.is(row['timestamp'], Math.fround(i / 30));
  }
  const camera = (await readByLibrary()).get(CAMERA) ?? [];
  const frames = await videoFrames(output);
  t.is(frames.length, 221);
  t.deepEqual(await wrongFrames(frames, camera, (i) => i), []);
});

real('by log time the rows are those that the definition of hold predicts', async (t) => {
  const { convert, finalize, output } = await bench(t);
  const { manifest } = await convert(recording, config('log'));
  await finalize(config('log'), ['episode']);

  const samples = await readByLibrary();
  const state = samples.get('/joint_states') ?? [];
  const action = samples.get('/joint_commands') ?? [];
  const camera = samples.get(CAMERA) ?? [];
  const all = [state, action, camera];
  const t0 = all.map((list) => list[0]?.log ?? 0n).reduce((a, b) => (a > b ? a : b));
  const tEnd = all.map((list) => list.at(-1)?.log ?? 0n).reduce((a, b) => (a < b ? a : b));
  const heldAt = (list: Sample[], time: bigint) => list.findLastIndex(({ log }) => log <= time);
  const times: bigint[] = [];
  for (let k = 0; ; k++) {
    const time = t0 + BigInt(Math.round((k * 1e9) / 30));
    if (time > tEnd) break;
    times.push(time);
  }

  const rows = await rowsOf(output);
  t.is(rows.length, times.length);
  t.is(rows.length, 219, 'the camera starts 34 ms after the joints, which end first');
  t.is(manifest.episodes[0]?.frames, times.length);
  for (const [k, time] of times.entries()) {
    t.deepEqual(rows[k]?.['observation.state'], state[heldAt(state, time)]?.position.map(Math.fround));
    t.deepEqual(rows[k]?.['action'], action[heldAt(action, time)]?.position.map(Math.fround));
  }
  const frames = await videoFrames(output);
  t.is(frames.length, times.length);
  t.deepEqual(await wrongFrames(frames, camera, (i) => heldAt(camera, times[i] ?? 0n)), []);
});

real('the finalized dataset passes every check of the format', async (t) => {
  const { convert, finalize, context } = await bench(t);
  await convert(recording, config('header'));
  await finalize(config('header'), ['episode']);
  const checks = await verifyDataset(context.output);
  t.true(checks.length >= 20);
  t.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
});

real('converting the same recording again writes the same bytes', async (t) => {
  const first = await (await bench(t)).convert(recording, config('header'));
  const second = await (await bench(t)).convert(recording, config('header'));
  t.deepEqual(first.manifest, second.manifest);
  t.deepEqual(first.manifest.files.map(({ type }) => type).toSorted(), ['parquet', 'video']);
});
