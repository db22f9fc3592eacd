import { spawnSync } from 'node:child_process';
import test from 'ava';
import sharp from 'sharp';
import { InputError } from '../../src/errors.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import type { Channel, Picture } from '../../src/recording/types.ts';
import { numberedPixels } from '../helpers/demonstration.ts';
import { picturesOf } from '../helpers/coded-pictures.ts';
import { rvlDepth } from '../helpers/rvl.ts';

function channelOf(name: string): Channel {
  const schema = { name, encoding: 'protobuf', data: new Uint8Array(0) };
  return { id: 1, topic: '/video', messageEncoding: 'protobuf', schema, metadata: new Map() };
}

type Coded = Extract<Picture, { format: 'h264' | 'h265' }>;

/** Coded pictures of a stream of numbered frames, split at access unit delimiters. */
function stream(
  codec: 'h264' | 'h265',
  options: readonly string[],
  size = { width: 90, height: 50 },
): Buffer[] {
  const frames = Buffer.concat(Array.from({ length: 24 }, (_, frame) => numberedPixels(frame, size)));
  const encoder = codec === 'h264' ? 'libx264' : 'libx265';
  const { status, stdout, stderr } = spawnSync(
    'ffmpeg',
    ['-v', 'error', '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${size.width}x${size.height}`, '-i', '-']
      .concat('-c:v', encoder, '-pix_fmt', 'yuv420p', ...options)
      .concat('-bsf:v', `${codec === 'h264' ? 'h264' : 'hevc'}_metadata=aud=insert`)
      .concat('-f', codec === 'h264' ? 'h264' : 'hevc', '-'),
    { input: frames, maxBuffer: 1 << 26 },
  );
  if (status !== 0) throw new Error(`ffmpeg: ${stderr.toString()}`);
  return picturesOf(codec, stdout);
}

function read(
  format: string,
  units: readonly Buffer[],
  channel = channelOf('foxglove.CompressedVideo'),
): Coded[] {
  return units.map((data) => {
    const picture = toPicture({ timestamp: {}, frame_id: '', data, format }, channel);
    if (picture.format !== 'h264' && picture.format !== 'h265') throw new Error(picture.format);
    return picture;
  });
}

const QUIET = {
  h264: ['-preset', 'veryfast', '-g', '8', '-keyint_min', '8', '-sc_threshold', '0'],
  h265: ['-preset', 'ultrafast', '-x265-params', 'log-level=error:keyint=8:min-keyint=8:scenecut=0'],
} as const;

for (const codec of ['h264', 'h265'] as const) {
  const bFrames = (count: number) =>
    codec === 'h264'
      ? [...QUIET.h264, '-bf', `${count}`, '-b_strategy', '0']
      : [...QUIET.h265.slice(0, 3), `${QUIET.h265[3]}:bframes=${count}:b-adapt=0`];

  test(`${codec} pictures tell their size after cropping and which of them are key frames`, (t) => {
    const units = stream(codec, bFrames(0));
    const pictures = read(codec, units);
    t.is(pictures.length, 24);
    t.deepEqual(
      pictures.map(({ keyframe }) => keyframe),
      Array.from({ length: 24 }, (_, frame) => frame % 8 === 0),
    );
    t.true(pictures.every(({ width, height, format }) => width === 90 && height === 50 && format === codec));
    t.false(pictures.some(({ bFrame }) => bFrame));
    t.is(pictures[0]?.data, units[0]);
  });

  test(`${codec} pictures that are sent out of order are marked`, (t) => {
    const pictures = read(codec, stream(codec, bFrames(2)));
    t.true(pictures.filter(({ bFrame }) => bFrame).length >= 12);
    t.false(pictures.some(({ keyframe, bFrame }) => keyframe && bFrame));
  });

  test(`a ${codec} stream that starts between key frames has no size until the first`, (t) => {
    const pictures = read(codec, stream(codec, bFrames(0)).slice(5));
    t.deepEqual(
      pictures.slice(0, 4).map(({ width, keyframe }) => [width, keyframe]),
      [
        [0, false],
        [0, false],
        [0, false],
        [90, true],
      ],
    );
  });
}

test('every profile of H.264 tells its size: high 4:4:4, lossless, with scaling lists', (t) => {
  for (const options of [
    ['-profile:v', 'baseline', '-preset', 'ultrafast'],
    ['-preset', 'medium', '-x264-params', 'cqm=jvt'],
    ['-preset', 'fast', '-x264-params', 'interlaced=1'],
  ]) {
    const [first] = read('h264', stream('h264', options, { width: 128, height: 96 }));
    t.deepEqual([first?.width, first?.height, first?.keyframe], [128, 96, true], options.join(' '));
  }
});

test("packets of ffmpeg_image_transport are video, named by their encoder's encoding", (t) => {
  const channel = channelOf('ffmpeg_image_transport_msgs/msg/FFMPEGPacket');
  t.true(isPictureSchema(channel));
  const [data] = stream('h264', QUIET.h264);
  const picture = toPicture({ encoding: 'h264;yuv420p;bgr8', width: 90, height: 50, data }, channel);
  t.is(picture.format, 'h264');
});

test('video that is not in Annex B form, has no pictures, or another codec is refused by name', (t) => {
  const channel = channelOf('foxglove.CompressedVideo');
  const refused = (format: string, data: Uint8Array, message: RegExp) =>
    t.throws(() => toPicture({ format, data }, channel), { instanceOf: InputError, message });
  refused(
    'h264',
    Uint8Array.of(0, 0, 0, 20, 0x67, 0x64, 0x00),
    /with start codes \(Annex B\), found 7 bytes without/,
  );
  refused('h264', Uint8Array.of(0, 0, 1, 9, 0x10), /expected a coded H.264 picture, found none/);
  refused('h265', Uint8Array.of(0, 0, 1, 0x46, 1, 0x50), /expected a coded H.265 picture, found none/);
  refused('h264', Uint8Array.of(0, 0, 1, 0x65, 0xb8), /expected parameter sets with the key frame/);
  refused('vp9', Uint8Array.of(1, 2, 3, 4), /found format 'vp9' starting with 01 02 03 04/);
  refused('h264', new Uint8Array(0), /found no bytes/);
});

const DEPTH_SIZE = { width: 17, height: 9 };

function depthHead(a: number, b: number): Buffer {
  const head = Buffer.alloc(12);
  head.writeFloatLE(a, 4);
  head.writeFloatLE(b, 8);
  return head;
}

async function depthPng(samples: Uint16Array): Promise<Buffer> {
  return sharp(samples, { raw: { ...DEPTH_SIZE, channels: 1 } })
    .toColourspace('grey16')
    .png({ compressionLevel: 9, adaptiveFiltering: true })
    .toBuffer();
}

const camera = channelOf('sensor_msgs/msg/CompressedImage');

test('compressedDepth in millimetres is the 16-bit PNG behind its header', async (t) => {
  const samples = Uint16Array.from({ length: 17 * 9 }, (_, at) => (at * 397) % 65536);
  const png = await depthPng(samples);
  const data = Buffer.concat([depthHead(0, 0), png]);
  for (const format of ['16UC1; compressedDepth png', '16UC1; compressedDepth']) {
    const picture = toPicture({ format, data }, camera);
    t.is(picture.format, 'png');
    t.deepEqual([picture.width, picture.height], [17, 9]);
    t.deepEqual(Buffer.from(picture.data), png);
  }
});

test('compressedDepth in metres becomes floats again, whatever filters its PNG uses', async (t) => {
  const [a, b] = [101_010, -99];
  const samples = Uint16Array.from({ length: 17 * 9 }, (_, at) =>
    at % 7 === 0 ? 0 : (at * 3511 + (at % 13)) % 65536,
  );
  const data = Buffer.concat([depthHead(a, b), await depthPng(samples)]);
  const picture = toPicture({ format: '32FC1; compressedDepth png', data }, camera);
  t.true(picture.format === 'raw' && picture.pixelFormat === 'grayf32le');
  const depth = new Float32Array(picture.data.slice().buffer);
  t.deepEqual(
    [...depth],
    Array.from(samples, (sample) => (sample === 0 ? 0 : Math.fround(a / (sample - b)))),
  );
});

test('a compressedDepth picture that is damaged, or not grey 16 bit, is refused', async (t) => {
  const colour = await sharp(numberedPixels(1, DEPTH_SIZE), { raw: { ...DEPTH_SIZE, channels: 3 } })
    .png()
    .toBuffer();
  const format = '32FC1; compressedDepth png';
  t.throws(() => toPicture({ format, data: Buffer.concat([depthHead(1, 1), colour]) }, camera), {
    instanceOf: InputError,
    message: /expected a grey 16-bit PNG .* found 8 bits of colour type 2/,
  });
  const data = Buffer.concat([depthHead(1, 1), await depthPng(new Uint16Array(17 * 9).fill(7))]);
  data.fill(0xff, 12 + 41, 12 + 60);
  t.throws(() => toPicture({ format, data }, camera), { instanceOf: InputError, message: /damaged|PNG/ });
});

const RVL = '16UC1; compressedDepth rvl';

test('compressedDepth in RVL gives the levels it was made of', (t) => {
  // 3 × 2 pixels, by hand: no zeros, two levels: 5, 9 (+5, +4), three zeros, one level: 8 (−1)
  const head = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0];
  // nibbles 0, 2, a 1, 8 1, 3, 1, 1, in two words of the lowest byte first
  const words = [0x31, 0x81, 0xa1, 0x02, 0, 0, 0, 0x10];
  const small = toPicture({ format: RVL, data: Uint8Array.from([...head, ...words]) }, camera);
  t.true(small.format === 'raw' && small.pixelFormat === 'gray16le');
  t.deepEqual([small.width, small.height], [3, 2]);
  t.deepEqual([...new Uint16Array(small.data.slice().buffer)], [5, 9, 0, 0, 0, 8]);

  const samples = Uint16Array.from({ length: 17 * 9 }, (_, at) => (at % 11 < 3 ? 0 : (at * 7919) % 65536));
  for (const depth of [samples, new Uint16Array(17 * 9), new Uint16Array(17 * 9).fill(65535)]) {
    const picture = toPicture({ format: RVL, data: rvlDepth(depth, DEPTH_SIZE) }, camera);
    t.deepEqual([...new Uint16Array(picture.data.slice().buffer)], [...depth]);
  }
  const [a, b] = [101_010, -99] as const;
  const data = rvlDepth(samples, DEPTH_SIZE, [a, b]);
  const metres = toPicture({ format: '32FC1; compressedDepth rvl', data }, camera);
  t.true(metres.format === 'raw' && metres.pixelFormat === 'grayf32le');
  t.deepEqual(
    [...new Float32Array(metres.data.slice().buffer)],
    Array.from(samples, (sample) => (sample === 0 ? 0 : Math.fround(a / (sample - b)))),
  );
});

test('compressedDepth in RVL that is damaged is refused', (t) => {
  const samples = Uint16Array.from({ length: 17 * 9 }, (_, at) => 1 + ((at * 7919) % 65535));
  const data = rvlDepth(samples, DEPTH_SIZE);
  const refused = (bytes: Uint8Array, message: RegExp) =>
    t.throws(() => toPicture({ format: RVL, data: bytes }, camera), { instanceOf: InputError, message });
  refused(data.subarray(0, -4), /ends after \d+ bytes of code/);
  refused(data.subarray(0, 16), /expected the size of an RVL depth picture, found 4 bytes/);
  const resized = (width: number) => {
    const changed = Buffer.from(data);
    changed.writeUInt32LE(width, 12);
    return changed;
  };
  refused(resized(16), /expected 144 pixels in an RVL depth picture, found 153 or more/);
  refused(resized(0), /a depth picture of 0×9 pixels cannot be/);
  refused(resized(0xffffffff), /a depth picture of 4294967295×9 pixels cannot be/);
  refused(Buffer.concat([data.subarray(0, 20), Buffer.alloc(64, 0xff)]), /numbers of 32 bits/);
  refused(Buffer.alloc(12), /compressedDepth rvl' starting with 00 00 00 00/);
});
