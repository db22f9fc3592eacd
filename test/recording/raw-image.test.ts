import { spawnSync } from 'node:child_process';
import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { toPicture } from '../../src/recording/image.ts';
import type { Channel, Picture } from '../../src/recording/types.ts';
import { headerOf, START } from '../helpers/demonstration.ts';
import { rosEncoder } from '../helpers/recordings.ts';
import { definitionOf } from '../helpers/ros-types.ts';

type Rgb = readonly [number, number, number];

const WIDTH = 8;
const HEIGHT = 4;
const COLOUR: Rgb = [200, 100, 50];
const DEFINITION = definitionOf('sensor_msgs/Image', 2);

const channel: Channel = {
  id: 1,
  topic: '/cam',
  messageEncoding: 'cdr',
  schema: { name: 'sensor_msgs/msg/Image', encoding: 'ros2msg', data: Buffer.from(DEFINITION) },
  metadata: new Map(),
};

/** Y, U, V of a colour in BT.601, limited range. */
function yuv([r, g, b]: Rgb): Rgb {
  return [
    Math.round(16 + 0.257 * r + 0.504 * g + 0.098 * b),
    Math.round(128 - 0.148 * r - 0.291 * g + 0.439 * b),
    Math.round(128 + 0.439 * r - 0.368 * g - 0.071 * b),
  ];
}

const [R, G, B] = COLOUR;
const [Y, U, V] = yuv(COLOUR);

/** Bytes of a plain picture in each encoding: `cell` repeats over a row, `rows` in turn; and what it shows. */
const encodings: readonly {
  encoding: string;
  rows: readonly (readonly number[])[];
  chroma?: readonly number[];
  shows?: Rgb;
}[] = [
  { encoding: 'rgb8', rows: [[R, G, B]] },
  { encoding: 'bgr8', rows: [[B, G, R]] },
  { encoding: '8UC3', rows: [[B, G, R]] },
  { encoding: 'rgba8', rows: [[R, G, B, 255]] },
  { encoding: 'bgra8', rows: [[B, G, R, 255]] },
  { encoding: 'mono8', rows: [[123]], shows: [123, 123, 123] },
  { encoding: '8UC1', rows: [[123]], shows: [123, 123, 123] },
  { encoding: 'mono16', rows: [[0x00, 0x7b]], shows: [123, 123, 123] },
  { encoding: 'yuv422', rows: [[U, Y, V, Y]] },
  { encoding: 'yuv422_yuy2', rows: [[Y, U, Y, V]] },
  { encoding: 'nv12', rows: [[Y]], chroma: [U, V] },
  {
    encoding: 'bayer_rggb8',
    rows: [
      [R, G],
      [G, B],
    ],
  },
  {
    encoding: 'bayer_bggr8',
    rows: [
      [B, G],
      [G, R],
    ],
  },
  {
    encoding: 'bayer_gbrg8',
    rows: [
      [G, B],
      [R, G],
    ],
  },
  {
    encoding: 'bayer_grbg8',
    rows: [
      [G, R],
      [B, G],
    ],
  },
];

/** The message of a plain picture, its rows padded by `padding` bytes of 0xee. */
function message(
  { encoding, rows, chroma }: (typeof encodings)[number],
  padding: number,
  bigEndian = false,
): Record<string, unknown> {
  const line = (cell: readonly number[], bytes: number) => [
    ...Array.from({ length: bytes }, (_, at) => cell[at % cell.length] ?? 0),
    ...Array<number>(padding).fill(0xee),
  ];
  const perPixel = rows.length > 1 || chroma ? 1 : bytesPerPixel(encoding);
  const bytes = WIDTH * perPixel;
  const data: number[] = [];
  for (let y = 0; y < HEIGHT; y++) {
    const cell = rows[y % rows.length] ?? [];
    data.push(...line(bigEndian ? cell.toReversed() : cell, bytes));
  }
  if (chroma) for (let y = 0; y < HEIGHT / 2; y++) data.push(...line(chroma, bytes));
  return {
    header: headerOf(START, 'cam'),
    height: HEIGHT,
    width: WIDTH,
    encoding,
    is_bigendian: bigEndian ? 1 : 0,
    step: bytes + padding,
    data: Uint8Array.from(data),
  };
}

function bytesPerPixel(encoding: string): number {
  if (/^(rgba|bgra)/.test(encoding)) return 4;
  if (/^(rgb|bgr)8|8UC3/.test(encoding)) return 3;
  return /16|yuv422/.test(encoding) ? 2 : 1;
}

/** The colour in the middle of a raw picture, as ffmpeg understands its pixel format. */
function shown(picture: Picture): number[] {
  if (picture.format !== 'raw') throw new Error(`a raw picture was expected, not ${picture.format}`);
  const input = [
    '-f',
    'rawvideo',
    '-pix_fmt',
    picture.pixelFormat,
    '-s',
    `${picture.width}x${picture.height}`,
  ];
  const result = spawnSync(
    'ffmpeg',
    [
      '-v',
      'error',
      ...input,
      '-i',
      '-',
      '-sws_flags',
      'accurate_rnd+full_chroma_int',
      '-f',
      'rawvideo',
      '-pix_fmt',
      'rgb24',
      '-',
    ],
    { input: picture.data },
  );
  if (result.status !== 0) throw new Error(`ffmpeg: ${result.stderr.toString()}`);
  const middle = (Math.floor(picture.height / 2) * picture.width + picture.width / 2) * 3;
  return [...result.stdout.subarray(middle, middle + 3)];
}

for (const picture of encodings) {
  test(`${picture.encoding} shows its colour, with and without padding between rows`, (t) => {
    const encode = rosEncoder(DEFINITION, 2);
    for (const padding of [0, 6]) {
      const decoded = createDecoder(channel)(encode(message(picture, padding)));
      const found = shown(toPicture(decoded, channel));
      const wanted = picture.shows ?? COLOUR;
      for (const [at, value] of found.entries()) {
        t.true(Math.abs(value - (wanted[at] ?? 0)) <= 2, `${found.join()} for ${wanted.join()}`);
      }
    }
  });
}

test('16-bit and 32-bit samples keep their values, whichever end comes first', (t) => {
  const depth = { encoding: '16UC1', rows: [[0x34, 0x12]] };
  for (const bigEndian of [false, true]) {
    const picture = toPicture(message(depth, 4, bigEndian), channel);
    t.true(picture.format === 'raw' && picture.pixelFormat === 'gray16le');
    t.deepEqual([...new Uint16Array(picture.data.slice().buffer)], Array(32).fill(0x1234));
  }
  const metres = Buffer.alloc(16);
  for (let at = 0; at < 4; at++) metres.writeFloatBE(1.5 + at, at * 4);
  const image = { encoding: '32FC1', width: 2, height: 2, step: 8, is_bigendian: 1, data: metres };
  const picture = toPicture(image, channel);
  t.true(picture.format === 'raw' && picture.pixelFormat === 'grayf32le');
  t.deepEqual([...new Float32Array(picture.data.slice().buffer)], [1.5, 2.5, 3.5, 4.5]);
});

test("foxglove's RawImage is read from protobuf values and from JSON, whose bytes are base64", (t) => {
  const data = Uint8Array.from({ length: 12 }, (_, at) => at);
  const image = { timestamp: {}, frame_id: '', width: 2, height: 2, encoding: 'rgb8', step: 6 };
  for (const bytes of [data, Buffer.from(data).toString('base64'), [...data]]) {
    const picture = toPicture({ ...image, data: bytes }, channel);
    t.deepEqual([...picture.data], [...data]);
  }
});

test('odd sizes of formats that share colour between pixels are refused', (t) => {
  for (const encoding of ['yuv422', 'nv12', 'bayer_rggb8']) {
    const image = { encoding, width: 3, height: 2, step: 0, is_bigendian: 0, data: new Uint8Array(64) };
    t.throws(() => toPicture(image, channel), { instanceOf: InputError, message: /of 3×2 pixels cannot be/ });
  }
});
