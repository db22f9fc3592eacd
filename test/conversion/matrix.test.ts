import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { compress } from '@foxglove/wasm-zstd';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import sharp from 'sharp';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { bagOf } from '../helpers/bags.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, headerOf, SECOND, START } from '../helpers/demonstration.ts';
import { protobufChannel } from '../helpers/foxglove.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';
import { ENCODINGS, quartersOf, rawImage, rgbOf, SIZE, type Rgb } from '../helpers/raw-pictures.ts';
import { mcapOf, rosEncoder, type BuiltChannel, type BuildOptions } from '../helpers/recordings.ts';
import { rvlDepth } from '../helpers/rvl.ts';
import { definitionOf } from '../helpers/ros-types.ts';
import { rosbag2Of, type Rosbag2Options } from '../helpers/rosbag2.ts';

/**
 * Container × compression × message encoding × image encoding. One recording holds a camera for every image encoding,
 * so that a conversion proves a row of cells; picture k of a camera and state k are known, and both are at k/10 s.
 */
const FRAMES = 2;
const FPS = 10;
const JOINTS = ['left', 'right'];
const timeOf = (frame: number) => START + (BigInt(frame) * SECOND) / BigInt(FPS);
const positionOf = (frame: number) => [frame + 0.25, 7 - frame];

type MessageEncoding = 'cdr' | 'idl' | 'ros1' | 'protobuf' | 'json';
type Camera = {
  readonly name: string;
  readonly type: 'sensor_msgs/Image' | 'sensor_msgs/CompressedImage';
  readonly value: (
    frame: number,
  ) =>
    | (Record<string, unknown> & { data: Uint8Array })
    | Promise<Record<string, unknown> & { data: Uint8Array }>;
  /** Numbers of the four quarters. */
  readonly shows: 'colour' | 'grey' | 'mm' | 'm';
  /** How far a stored picture may be off: YCbCr has fewer levels than RGB. */
  readonly slack?: number;
};

const showsOf = (encoding: string) =>
  encoding === '16UC1' ? 'mm' : encoding === '32FC1' ? 'm' : /^mono|^8UC1/.test(encoding) ? 'grey' : 'colour';

const rgb = (frame: number) => sharp(rgbOf(frame), { raw: { width: SIZE, height: SIZE, channels: 3 } });

const coded = (
  name: string,
  format: string,
  code: (frame: number) => Promise<Uint8Array>,
  rest: Partial<Camera> = {},
): Camera => ({
  name,
  type: 'sensor_msgs/CompressedImage',
  value: async (frame) => ({ format, data: await code(frame) }),
  shows: 'colour',
  ...rest,
});

const depthPng = async (frame: number) => {
  const { data } = rawImage('16UC1', frame);
  const raw = { width: SIZE, height: SIZE, channels: 1 } as const;
  const png = await sharp(new Uint16Array(data.buffer), { raw }).toColourspace('grey16').png().toBuffer();
  return Buffer.concat([Buffer.alloc(12), png]);
};

const depthRvl = async (frame: number) =>
  rvlDepth(new Uint16Array(rawImage('16UC1', frame).data.buffer), { width: SIZE, height: SIZE });

const CAMERAS: readonly Camera[] = [
  ...[
    ...ENCODINGS.map((encoding) => ({ encoding, options: {}, name: encoding })),
    { encoding: 'bgr8', options: { padding: 8 }, name: 'bgr8_padded' },
    { encoding: 'nv12', options: { padding: 4 }, name: 'nv12_padded' },
    { encoding: 'mono16', options: { padding: 6, bigEndian: true }, name: 'mono16_big' },
    { encoding: '16UC1', options: { bigEndian: true }, name: '16UC1_big' },
  ].map(({ encoding, options, name }): Camera => ({
    name,
    type: 'sensor_msgs/Image',
    value: (frame) => rawImage(encoding, frame, options),
    shows: showsOf(encoding),
    slack: /yuv|yuyv|uyvy|nv/.test(encoding) ? 2 : 0,
  })),
  coded('jpeg', 'rgb8; jpeg compressed bgr8', (frame) => rgb(frame).jpeg({ quality: 98 }).toBuffer(), {
    slack: 3,
  }),
  coded('jpeg444', '', (frame) => rgb(frame).jpeg({ quality: 98, chromaSubsampling: '4:4:4' }).toBuffer(), {
    slack: 3,
  }),
  coded('png', 'png', (frame) => rgb(frame).png().toBuffer()),
  coded('compressed_depth', '16UC1; compressedDepth png', depthPng, { shows: 'mm' }),
  coded('compressed_depth_rvl', '16UC1; compressedDepth rvl', depthRvl, { shows: 'mm' }),
];

/** The cameras whose messages an encoding can carry: foxglove's RawImage has no byte order. */
const camerasOf = (encoding: MessageEncoding) =>
  CAMERAS.filter(({ name }) => encoding !== 'protobuf' || !name.endsWith('_big'));

const IDL_HEADER = `module builtin_interfaces { module msg { struct Time { int32 sec; uint32 nanosec; }; }; };
module std_msgs { module msg { struct Header { builtin_interfaces::msg::Time stamp; string frame_id; }; }; };
module sensor_msgs { module msg {`;
const IDL: Readonly<Record<string, string>> = {
  'sensor_msgs/Image':
    'struct Image { std_msgs::msg::Header header; uint32 height; uint32 width; string encoding; uint8 is_bigendian; uint32 step; sequence<uint8> data; };',
  'sensor_msgs/CompressedImage':
    'struct CompressedImage { std_msgs::msg::Header header; string format; sequence<uint8> data; };',
  'sensor_msgs/JointState':
    'struct JointState { std_msgs::msg::Header header; sequence<string> name; sequence<double> position; sequence<double> velocity; sequence<double> effort; };',
};

type Timed = { readonly time: bigint; readonly value: Record<string, unknown> };

/** One topic in an encoding; message k is logged a millisecond after its stamp. */
function channelOf(
  topic: string,
  type: string,
  encoding: MessageEncoding,
  messages: readonly Timed[],
): BuiltChannel {
  const log = (time: bigint) => time + 1_000_000n;
  if (encoding === 'protobuf') {
    const name = { Image: 'RawImage', CompressedImage: 'CompressedImage', JointState: 'JointStates' }[
      type.split('/')[1] ?? ''
    ];
    return protobufChannel(
      topic,
      `foxglove.${name}` as Parameters<typeof protobufChannel>[1],
      messages.map(({ time, value }) => ({ log: log(time), time, value })),
    );
  }
  const values = messages.map(({ time, value }) => ({
    log: log(time),
    value: { header: headerOf(time, 'map'), ...value },
  }));
  if (encoding === 'json') {
    const base64 = (value: object) =>
      'data' in value ? { ...value, data: Buffer.from(value.data as Uint8Array).toString('base64') } : value;
    return {
      topic,
      type,
      encoding,
      messages: values.map(({ log: at, value }) => ({ log: at, value: base64(value) })),
    };
  }
  if (encoding !== 'idl') return { topic, type, encoding, messages: values };
  const encode = rosEncoder(definitionOf(type, 2), 2);
  const data = Buffer.from(`${IDL_HEADER} ${IDL[type] ?? ''} }; };`);
  return {
    topic,
    encoding: 'cdr',
    schema: { name: type.replace('/', '/msg/'), encoding: 'ros2idl', data },
    messages: values.map(({ log: at, value }) => ({ log: at, value: encode(value) })),
  };
}

const madeChannels = new Map<MessageEncoding, Promise<BuiltChannel[]>>();

/** The channels of a recording, made once an encoding. */
function channelsOf(encoding: MessageEncoding): Promise<BuiltChannel[]> {
  const made = madeChannels.get(encoding) ?? makeChannels(encoding);
  madeChannels.set(encoding, made);
  return made;
}

async function makeChannels(encoding: MessageEncoding): Promise<BuiltChannel[]> {
  const frames = Array.from({ length: FRAMES }, (_, frame) => frame);
  const cameras = camerasOf(encoding).map(async ({ name, type, value }) => {
    const messages = frames.map(async (frame) => ({ time: timeOf(frame), value: await value(frame) }));
    return channelOf(`/camera/${name}`, type, encoding, await Promise.all(messages));
  });
  const states = frames.map((frame) => ({
    time: timeOf(frame),
    // every other message lists the joints the other way round
    value: {
      name: frame % 2 === 0 ? JOINTS : JOINTS.toReversed(),
      position: frame % 2 === 0 ? positionOf(frame) : positionOf(frame).toReversed(),
      velocity: [],
      effort: [],
    },
  }));
  return [
    ...(await Promise.all(cameras)),
    channelOf('/joint_states', 'sensor_msgs/JointState', encoding, states),
  ];
}

const configOf = (cameras: readonly Camera[], type: 'image' | 'video') => ({
  fps: FPS,
  clock: 'header',
  video: { crf: 1, preset: 'ultrafast' },
  features: {
    ...Object.fromEntries(
      cameras.map(({ name }) => [`observation.images.${name}`, { topic: `/camera/${name}`, type }]),
    ),
    'observation.state': { topic: '/joint_states', field: 'position', names: JOINTS },
  },
});

/** The middle of each quarter of a picture whose pixels have `channels` numbers. */
function middles(pixels: ArrayLike<number>, channels: number, from = 0): number[][] {
  return [0, 1, 2, 3].map((quarter) => {
    const [x, y] = [(SIZE / 4) * (quarter % 2 === 0 ? 1 : 3), (SIZE / 4) * (quarter < 2 ? 1 : 3)];
    const at = (from + y * SIZE + x) * channels;
    return Array.from({ length: channels }, (_, i) => pixels[at + i] ?? -1);
  });
}

/** Numbers that the quarters of a picture must show. */
function expectedOf({ shows }: Camera, frame: number): number[][] {
  return quartersOf(frame).map(([r, g, b]: Rgb) => {
    if (shows === 'mm') return [g * 20];
    if (shows === 'm') return [g / 50];
    return shows === 'grey' ? [g, g, g] : [r, g, b];
  });
}

const off = (found: readonly number[][], wanted: readonly number[][]) =>
  Math.max(
    ...wanted.flatMap((numbers, i) =>
      numbers.map((number, c) => Math.abs(number - (found[i]?.[c] ?? Infinity))),
    ),
  );

async function stored(bytes: Uint8Array, { shows }: Camera): Promise<number[][]> {
  if (shows === 'colour' || shows === 'grey') {
    const { data, info } = await sharp(bytes)
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    return middles(data, info.channels);
  }
  const depth = shows === 'mm' ? 'ushort' : 'float';
  const { buffer, byteOffset, byteLength } = await sharp(bytes)
    .toColourspace(shows === 'mm' ? 'grey16' : 'b-w')
    .raw({ depth })
    .toBuffer();
  const own = buffer.slice(byteOffset, byteOffset + byteLength);
  return middles(shows === 'mm' ? new Uint16Array(own) : new Float32Array(own), 1);
}

type Row = Record<string, unknown>;
const rowsIn = (dataset: string) => async () =>
  (await parquetReadObjects({
    file: await asyncBufferFromFile(join(dataset, 'data/chunk-000/file-000.parquet')),
    utf8: false,
  })) as Row[];

type Recording = Uint8Array | Readonly<Record<string, Uint8Array>>;

/** Writes a recording, a file or a folder, and returns its path. */
async function writeRecording(folder: string, content: Recording): Promise<string> {
  const path = join(folder, 'recording');
  const files =
    content instanceof Uint8Array
      ? [[path, content] as const]
      : Object.entries(content).map(([name, bytes]) => [join(path, name), bytes] as const);
  for (const [file, bytes] of files) {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, bytes);
  }
  return path;
}

const cells = test.macro({
  exec: async (
    t,
    encoding: MessageEncoding,
    make: (channels: BuiltChannel[]) => Recording | Promise<Recording>,
  ) => {
    const cameras = camerasOf(encoding);
    const config = configOf(cameras, 'image');
    const { folder, output, context, convert, finalize } = await bench(t);
    await convert(await writeRecording(folder, await make(await channelsOf(encoding))), config);
    await finalize(config, ['episode']);
    t.deepEqual(
      (await verifyDataset(context.output)).filter(({ ok }) => !ok),
      [],
    );

    const rows = await rowsIn(output)();
    t.deepEqual(
      rows.map((row) => row['observation.state']),
      Array.from({ length: FRAMES }, (_, k) => positionOf(k)),
    );
    for (const camera of cameras) {
      for (const [frame, row] of rows.entries()) {
        const { bytes } = row[`observation.images.${camera.name}`] as { bytes: Uint8Array };
        const found = await stored(bytes, camera);
        const wanted = expectedOf(camera, frame);
        t.true(
          off(found, wanted) <= (camera.slack ?? 0) + 1e-6,
          `${camera.name} ${frame}: ${found.join(' ')} for ${wanted.join(' ')}`,
        );
      }
    }
  },
  title: (name, encoding: MessageEncoding) =>
    `${name}, messages in ${encoding}: every image encoding keeps its pixels, every state its numbers`,
});

const mcap = (options: Omit<BuildOptions, 'channels'>) => (channels: BuiltChannel[]) =>
  mcapOf({ ...options, channels });
const unindexed = {
  useChunkIndex: false,
  useMessageIndex: false,
  useStatistics: false,
  useSummaryOffsets: false,
  repeatChannels: false,
  repeatSchemas: false,
};
const mcaps: readonly [string, (channels: BuiltChannel[]) => Promise<Uint8Array>][] = [
  ['MCAP', mcap({ compression: 'none' })],
  ['MCAP lz4', mcap({ compression: 'lz4' })],
  ['MCAP zstd', mcap({ compression: 'zstd' })],
  ['MCAP zstd without indexes', mcap({ compression: 'zstd', writer: unindexed })],
  ['MCAP without chunks', mcap({ writer: { useChunks: false } })],
  [
    'MCAP as one zstd file',
    async (channels) => Uint8Array.from(compress(await mcapOf({ channels, compression: 'none' }), 1)),
  ],
];
for (const [name, make] of mcaps) {
  for (const encoding of ['cdr', 'idl', 'ros1', 'protobuf', 'json'] as const)
    test.serial(name, cells, encoding, make);
}

for (const compression of ['none', 'lz4'] as const) {
  test.serial(`ROS 1 bag ${compression}`, cells, 'ros1', (channels) => bagOf({ channels, compression }));
}
test.serial('ROS 1 bag without indexes', cells, 'ros1', (channels) =>
  bagOf({ channels, closed: false, indexed: false }),
);

const folders: readonly [string, Omit<Rosbag2Options, 'channels'>][] = [
  ['rosbag2 db3', {}],
  ['rosbag2 db3 without definitions', { schema: 1 }],
  ['rosbag2 db3, messages in zstd', { compression: 'message' }],
  ['rosbag2 db3, two files in zstd', { compression: 'file', files: 2 }],
  ['rosbag2 mcap, two files', { storage: 'mcap', files: 2 }],
];
for (const [name, options] of folders) {
  test.serial(name, cells, 'cdr', (channels) => rosbag2Of({ ...options, channels }));
}

/** All frames of several videos of one size, decoded at once: RGB of the videos below each other, frame by frame. */
function decoded(paths: readonly string[]): Uint8Array {
  const exact = 'scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp';
  const graph = `${paths.map((_, i) => `[${i}:v]`).join('')}vstack=inputs=${paths.length},${exact}`;
  const inputs = paths.flatMap((path) => ['-i', path]);
  const args = [
    '-v',
    'error',
    ...inputs,
    '-filter_complex',
    graph,
    '-f',
    'rawvideo',
    '-pix_fmt',
    'rgb24',
    '-',
  ];
  const { status, stdout, stderr } = spawnSync('ffmpeg', args, { maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(stderr.toString());
  return stdout;
}

for (const encoding of ['cdr', 'protobuf'] as const) {
  test.serial(
    `videos of every image encoding, messages in ${encoding}, show their colours within ±2`,
    async (t) => {
      t.timeout(300_000);
      const cameras = camerasOf(encoding).filter(({ shows }) => shows === 'colour' || shows === 'grey');
      const config = configOf(cameras, 'video');
      const { folder, output, convert, finalize } = await bench(t);
      const recording = await mcapOf({ channels: await channelsOf(encoding) });
      await convert(await writeRecording(folder, recording), config);
      await finalize(config, ['episode']);
      const pixels = decoded(
        cameras.map(({ name }) => join(output, `videos/observation.images.${name}/chunk-000/file-000.mp4`)),
      );
      t.is(pixels.length, FRAMES * cameras.length * SIZE * SIZE * 3);
      for (let frame = 0; frame < FRAMES; frame++) {
        for (const [i, camera] of cameras.entries()) {
          const found = middles(pixels, 3, (frame * cameras.length + i) * SIZE * SIZE);
          const wanted = expectedOf(camera, frame);
          t.true(
            off(found, wanted) <= 2 + (camera.slack ?? 0) / 2,
            `${camera.name} ${frame}: ${found.join(' ')} for ${wanted.join(' ')}`,
          );
        }
      }
    },
  );
}

test.serial('joints at 1 kHz: every row holds the sample of its own millisecond', async (t) => {
  const config = {
    fps: 50,
    clock: 'header',
    features: { 'observation.state': { topic: '/joint_states', field: 'position', names: 'all' } },
  };
  const { folder, output, convert, finalize } = await bench(t);
  const rate = 1000;
  const value = (sample: number) => ({
    header: headerOf(START + BigInt(sample) * 1_000_000n, ''),
    name: ['count'],
    position: [sample],
    velocity: [],
    effort: [],
  });
  const messages = Array.from({ length: 10 * rate }, (_, sample) => ({
    log: START + BigInt(sample) * 1_000_000n + 400_000n,
    value: value(sample),
  }));
  const recording = await mcapOf({
    channels: [{ topic: '/joint_states', type: 'sensor_msgs/JointState', messages }],
  });
  const { manifest } = await convert(await writeRecording(folder, recording), config);
  await finalize(config, ['episode']);
  const rows = await rowsIn(output)();
  t.deepEqual(
    rows.map((row) => row['observation.state']),
    Array.from({ length: 500 }, (_, k) => k * 20),
  );
  const [source] = manifest.alignment.sources;
  t.is(source?.samples, 10 * rate);
  t.is(source?.used, 500);
});

test.serial('ten cameras of one recording have a video of all rows each', async (t) => {
  const cameras = Array.from({ length: 10 }, (_, i) => `cam_${i}`);
  const config = {
    fps: FPS,
    clock: 'header',
    video: { preset: 'ultrafast' },
    features: Object.fromEntries(
      cameras.map((name) => [
        `observation.images.${name}`,
        { topic: `/${name}/image_raw/compressed`, type: 'video' },
      ]),
    ),
  };
  const { folder, context, convert, finalize } = await bench(t);
  const recording = await demonstration({ cameras, fps: FPS, seconds: 1, width: SIZE, height: SIZE });
  const { manifest } = await convert(await writeRecording(folder, recording), config);
  t.deepEqual(
    manifest.files.filter(({ type }) => type === 'video').map(({ frames }) => frames),
    Array(10).fill(FPS),
  );
  await finalize(config, ['episode']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
});

test.serial('ten minutes have all their rows, and as many frames', async (t) => {
  t.timeout(300_000);
  const [seconds, fps] = [600, 2];
  const config = {
    fps,
    clock: 'header',
    video: { preset: 'ultrafast' },
    features: {
      'observation.images.cam': { topic: '/cam/image_raw/compressed', type: 'video' },
      'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    },
  };
  const { convert, finalize, context } = await bench(t);
  const path = join(await temporaryFolder(t), 'long.mcap');
  await writeLongRecording(path, {
    seconds,
    cameras: ['cam'],
    width: SIZE,
    height: SIZE,
    fps,
    jointRate: 10,
  });
  const { manifest } = await convert(path, config);
  t.is(manifest.episodes[0]?.frames, seconds * fps);
  t.is(manifest.files.find(({ type }) => type === 'video')?.frames, seconds * fps);
  t.true(manifest.alignment.sources.every(({ dropped }) => dropped === 0));
  await finalize(config, ['episode']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
});
