import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import sharp, { type Sharp } from 'sharp';
import { encoderCommand } from '../../src/dataset/video-command.ts';
import { findFfmpeg } from '../../src/dataset/ffmpeg.ts';
import { probeEncoders } from '../../src/dataset/encoders.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import type { VideoSettings, Written } from '../../src/dataset/types.ts';
import { CanceledError, EncodeError, InputError } from '../../src/errors.ts';
import type { Feature, Picture, PictureTransform } from '../../src/frame/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { camera, numberedJpeg, tempFolder, VIDEO } from './build.ts';

const run = promisify(execFile);
const KEY = 'observation.images.cam_high';

type Colour = readonly [number, number, number];
/** Four quarters of a picture: red, green, blue, white; each 32x24. */
const QUARTERS: readonly Colour[] = [
  [220, 30, 30],
  [30, 200, 30],
  [30, 30, 220],
  [240, 240, 240],
];

function rgbPicture(): Buffer {
  const data = Buffer.alloc(64 * 48 * 3);
  for (let y = 0; y < 48; y += 1) {
    for (let x = 0; x < 64; x += 1)
      data.set(QUARTERS[(y < 24 ? 0 : 2) + (x < 32 ? 0 : 1)] as Colour, (y * 64 + x) * 3);
  }
  return data;
}

const raw = (pixelFormat: string, data: Uint8Array): Picture =>
  ({ format: 'raw', pixelFormat, width: 64, height: 48, data }) as Picture;

const swap = (data: Buffer) => Buffer.from(data).map((_, i) => data[i - (i % 3) + (2 - (i % 3))] ?? 0);

const withAlpha = (data: Uint8Array) =>
  Buffer.from(Array.from({ length: 64 * 48 }, (_, i) => [...data.subarray(i * 3, i * 3 + 3), 255]).flat());

function bayer(order: string): Buffer {
  const rgb = rgbPicture();
  const out = Buffer.alloc(64 * 48);
  for (let y = 0; y < 48; y += 1) {
    for (let x = 0; x < 64; x += 1) {
      out[y * 64 + x] = rgb[(y * 64 + x) * 3 + 'rgb'.indexOf(order[(y % 2) * 2 + (x % 2)] ?? 'r')] ?? 0;
    }
  }
  return out;
}

/** BT.601 limited-range YCbCr of a colour. */
function ycbcr([r, g, b]: Colour): Colour {
  const y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255;
  const cb = 128 + (-37.797 * r - 74.203 * g + 112 * b) / 255;
  const cr = 128 + (112 * r - 93.786 * g - 18.214 * b) / 255;
  return [Math.round(y), Math.round(cb), Math.round(cr)];
}

function packed422(order: 'yuyv' | 'uyvy'): Buffer {
  const rgb = rgbPicture();
  const out = Buffer.alloc(64 * 48 * 2);
  for (let i = 0; i < 64 * 48; i += 2) {
    const [y0, u, v] = ycbcr([rgb[i * 3] ?? 0, rgb[i * 3 + 1] ?? 0, rgb[i * 3 + 2] ?? 0]);
    const [y1] = ycbcr([rgb[i * 3 + 3] ?? 0, rgb[i * 3 + 4] ?? 0, rgb[i * 3 + 5] ?? 0]);
    out.set(order === 'yuyv' ? [y0, u, y1, v] : [u, y0, v, y1], i * 2);
  }
  return out;
}

async function encode(
  t: ExecutionContext,
  pictures: readonly Picture[],
  options: { feature?: Feature; video?: VideoSettings; fps?: number; dir?: string } = {},
): Promise<Written & { path: string }> {
  const dir = options.dir ?? (await tempFolder(t));
  const writer = await DatasetWriter.create({
    dir,
    fps: options.fps ?? 30,
    features: [options.feature ?? camera(KEY, 64, 48)],
    video: options.video ?? VIDEO,
    expectedFrames: pictures.length,
    signal: new AbortController().signal,
    metrics: createMetrics(new Registry()).video,
  });
  try {
    for (const [index, picture] of pictures.entries()) {
      await writer.addFrame(
        { episode: 0, index, time: BigInt(index), values: new Map([[KEY, picture]]) },
        'look',
      );
    }
    await writer.saveEpisode({ startTime: 0n, endTime: BigInt(pictures.length) });
    return { ...(await writer.finish()), path: join(dir, 'camera-0.mp4') };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** Colours in the middle of the quarters of a frame, as a player shows them. */
async function colours(path: string, width: number, height: number, frame = 2): Promise<Colour[]> {
  const args = ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'];
  const { stdout } = await run('ffmpeg', args, { encoding: 'buffer', maxBuffer: 1 << 28 });
  return [0, 1, 2, 3].map((quarter) => {
    const x = Math.floor(width * (quarter % 2 === 0 ? 0.25 : 0.75));
    const y = Math.floor(height * (quarter < 2 ? 0.25 : 0.75));
    const at = (frame * width * height + y * width + x) * 3;
    return [stdout[at] ?? 0, stdout[at + 1] ?? 0, stdout[at + 2] ?? 0];
  });
}

function near(
  t: ExecutionContext,
  found: readonly Colour[],
  expected: readonly Colour[],
  slack: number,
): void {
  found.forEach((colour, i) => {
    const want = expected[i] ?? [0, 0, 0];
    const off = Math.max(...colour.map((value, channel) => Math.abs(value - (want[channel] ?? 0))));
    t.true(off <= slack, `quarter ${i} is ${colour.join(',')}, expected ${want.join(',')}`);
  });
}

const sources: [string, () => Promise<Picture>, number][] = [
  [
    'jpeg',
    async () => ({
      format: 'jpeg',
      width: 64,
      height: 48,
      data: await sharp(rgbPicture(), { raw: { width: 64, height: 48, channels: 3 } })
        .jpeg({ quality: 95 })
        .toBuffer(),
    }),
    8,
  ],
  [
    'jpeg without subsampling',
    async () => ({
      format: 'jpeg',
      width: 64,
      height: 48,
      data: await sharp(rgbPicture(), { raw: { width: 64, height: 48, channels: 3 } })
        .jpeg({ quality: 95, chromaSubsampling: '4:4:4' })
        .toBuffer(),
    }),
    8,
  ],
  [
    'png',
    async () => ({
      format: 'png',
      width: 64,
      height: 48,
      data: await sharp(rgbPicture(), { raw: { width: 64, height: 48, channels: 3 } })
        .png()
        .toBuffer(),
    }),
    8,
  ],
  ['rgb24', async () => raw('rgb24', rgbPicture()), 8],
  ['bgr24', async () => raw('bgr24', swap(rgbPicture())), 8],
  ['rgba', async () => raw('rgba', withAlpha(rgbPicture())), 8],
  ['bgra', async () => raw('bgra', withAlpha(swap(rgbPicture()))), 8],
  ['yuyv422', async () => raw('yuyv422', packed422('yuyv')), 8],
  ['uyvy422', async () => raw('uyvy422', packed422('uyvy')), 8],
  ['bayer_rggb8', async () => raw('bayer_rggb8', bayer('rggb')), 12],
  ['bayer_bggr8', async () => raw('bayer_bggr8', bayer('bggr')), 12],
  ['bayer_gbrg8', async () => raw('bayer_gbrg8', bayer('gbrg')), 12],
  ['bayer_grbg8', async () => raw('bayer_grbg8', bayer('grbg')), 12],
];

for (const [name, make, slack] of sources) {
  test(`${name} pictures keep their colours, in the video and in the statistics`, async (t) => {
    const picture = await make();
    const written = await encode(t, [picture, picture, picture, picture], { video: { ...VIDEO, crf: 5 } });
    near(t, await colours(written.path, 64, 48), QUARTERS, slack);
    const stats = written.parts[0]?.stats[KEY];
    t.is(stats?.count, 4);
    for (const channel of [0, 1, 2]) {
      const expected = QUARTERS.reduce((sum, colour) => sum + (colour[channel] ?? 0), 0) / 4 / 255;
      t.true(
        Math.abs((stats?.mean[channel] ?? 0) - expected) < 0.015,
        `mean ${stats?.mean[channel]}, expected ${expected}`,
      );
    }
  });
}

test('gray pictures are gray: black and white keep their levels', async (t) => {
  const data = Buffer.alloc(64 * 48)
    .fill(250)
    .fill(5, 0, 64 * 24);
  const written = await encode(
    t,
    Array.from({ length: 4 }, () => raw('gray', data)),
    { video: { ...VIDEO, crf: 5 } },
  );
  near(
    t,
    await colours(written.path, 64, 48),
    [
      [5, 5, 5],
      [5, 5, 5],
      [250, 250, 250],
      [250, 250, 250],
    ],
    4,
  );
});

test('a gray or progressive JPEG, and one with an orientation tag, are stored as their pixels lie', async (t) => {
  const gray = Buffer.alloc(64 * 48)
    .fill(250)
    .fill(5, 0, 64 * 24);
  const levels: readonly Colour[] = [
    [5, 5, 5],
    [5, 5, 5],
    [250, 250, 250],
    [250, 250, 250],
  ];
  const single = sharp(gray, { raw: { width: 64, height: 48, channels: 1 } }).toColourspace('b-w');
  const colour = sharp(rgbPicture(), { raw: { width: 64, height: 48, channels: 3 } });
  const cases: [Buffer, readonly Colour[]][] = [
    [await single.jpeg({ quality: 95 }).toBuffer(), levels],
    [await colour.clone().jpeg({ quality: 95, progressive: true }).toBuffer(), QUARTERS],
    [await colour.clone().withMetadata({ orientation: 6 }).jpeg({ quality: 95 }).toBuffer(), QUARTERS],
  ];
  for (const [data, expected] of cases) {
    const picture: Picture = { format: 'jpeg', width: 64, height: 48, data };
    const written = await encode(t, [picture, picture, picture, picture], { video: { ...VIDEO, crf: 5 } });
    near(t, await colours(written.path, 64, 48), expected, 8);
    const mean = expected.reduce((sum, [red]) => sum + red, 0) / 4 / 255;
    t.true(Math.abs((written.parts[0]?.stats[KEY]?.mean[0] ?? 0) - mean) < 0.015);
  }
});

/** Four pictures with the colours moved on by a quarter each, coded by `code` with the picture's number. */
function turning(
  format: 'jpeg' | 'png',
  code: (image: Sharp, frame: number) => Sharp,
): Promise<{ picture: Picture; expected: Colour[] }[]> {
  return Promise.all(
    [0, 1, 2, 3].map(async (frame) => {
      const order = [0, 1, 2, 3].map((quarter) => (quarter + frame) % 4);
      const quarters = order.map((quarter): Colour => QUARTERS[quarter] ?? [0, 0, 0]);
      const pixels = Buffer.alloc(64 * 48 * 3);
      for (let i = 0; i < 64 * 48; i += 1) {
        pixels.set(quarters[(i % 64 < 32 ? 0 : 1) + (i < 64 * 24 ? 0 : 2)] ?? [], i * 3);
      }
      const image = sharp(pixels, { raw: { width: 64, height: 48, channels: 3 } });
      const data = await code(image, frame).toBuffer();
      return { picture: { format, width: 64, height: 48, data }, expected: quarters };
    }),
  );
}

const changing: [string, 'jpeg' | 'png', (image: Sharp, frame: number) => Sharp][] = [
  [
    'JPEGs whose chroma sampling changes',
    'jpeg',
    (image, frame) => image.jpeg({ quality: 98, chromaSubsampling: frame % 2 === 0 ? '4:4:4' : '4:2:0' }),
  ],
  [
    'JPEGs whose orientation tag changes',
    'jpeg',
    (image, frame) =>
      (frame % 2 === 0 ? image : image.withMetadata({ orientation: 5 + frame })).jpeg({ quality: 98 }),
  ],
  [
    'PNGs whose colour type changes',
    'png',
    (image, frame) =>
      [image.png(), image.ensureAlpha().png(), image.png({ palette: true, colours: 8 }), image.png()][
        frame
      ] ?? image,
  ],
];

for (const [name, format, code] of changing) {
  test(`${name} within a recording are all shown, each in its place`, async (t) => {
    const pictures = await turning(format, code);
    const written = await encode(
      t,
      pictures.map(({ picture }) => picture),
      { video: { ...VIDEO, crf: 5 } },
    );
    for (const [frame, { expected }] of pictures.entries()) {
      near(t, await colours(written.path, 64, 48, frame), expected, 8);
    }
    t.deepEqual(written.repeated, {});
  });
}

test('a colour JPEG after gray ones is refused: its colour would be lost', async (t) => {
  const pictures = await turning('jpeg', (image, frame) =>
    (frame < 2 ? image.toColourspace('b-w') : image).jpeg(),
  );
  await t.throwsAsync(
    encode(
      t,
      pictures.map(({ picture }) => picture),
    ),
    { instanceOf: InputError, message: /frame 2: expected jpeg pictures of the layout 11, found/ },
  );
});

const transforms: [string, PictureTransform, [number, number], readonly number[]][] = [
  ['crop', { crop: { x: 32, y: 0, width: 32, height: 48 } }, [32, 48], [1, 1, 3, 3]],
  ['resize', { resize: { width: 128, height: 96 } }, [128, 96], [0, 1, 2, 3]],
  ['rotate 90', { rotate: 90 }, [48, 64], [2, 0, 3, 1]],
  ['rotate 180', { rotate: 180 }, [64, 48], [3, 2, 1, 0]],
  ['rotate 270', { rotate: 270 }, [48, 64], [1, 3, 0, 2]],
  [
    'crop, resize and rotate',
    { crop: { x: 0, y: 24, width: 64, height: 24 }, resize: { width: 32, height: 64 }, rotate: 90 },
    [64, 32],
    [2, 2, 3, 3],
  ],
];

for (const [name, transform, [width, height], order] of transforms) {
  test(`${name} does to a picture what it says`, async (t) => {
    const feature = {
      ...camera(KEY, 64, 48),
      shape: [height, width, 3],
      camera: { width: 64, height: 48, transform },
    };
    for (const picture of [raw('rgb24', rgbPicture()), (await sources[0]?.[1]()) as Picture]) {
      const written = await encode(
        t,
        Array.from({ length: 4 }, () => picture),
        { feature, video: { ...VIDEO, crf: 5 } },
      );
      near(
        t,
        await colours(written.path, width, height),
        order.map((quarter) => QUARTERS[quarter] as Colour),
        12,
      );
    }
  });
}

for (const [fps, ticks] of [
  [1, 16_384],
  [10, 1024],
  [12, 1024],
  [15, 1024],
  [24, 512],
  [25, 512],
  [30, 512],
  [50, 256],
  [60, 256],
  [100, 128],
] as const) {
  test(`at ${fps} fps every frame has its exact time`, async (t) => {
    const pictures = await Promise.all([1, 2, 3, 4, 5, 6, 7].map((k) => numberedJpeg(k, 64, 48)));
    const { path } = await encode(t, pictures, { fps });
    const { stdout } = await run('ffprobe', [
      '-v',
      'error',
      '-of',
      'csv=p=0',
      '-show_entries',
      'frame=pts',
      path,
    ]);
    const times = stdout
      .trim()
      .split('\n')
      .filter((line) => /^\d/.test(line))
      .map((line) => Number.parseInt(line, 10));
    t.deepEqual(
      times,
      [0, 1, 2, 3, 4, 5, 6].map((k) => k * ticks),
    );
  });
}

test('a camera statistic is that of the decoded source pictures', async (t) => {
  const source = process.env['RECORDINGS_DIR'] ?? '../shared/recordings';
  const from = join(source, 'truth-v21/videos/episode_000029.mp4');
  const dir = await tempFolder(t);
  try {
    await run('ffmpeg', [
      '-v',
      'error',
      '-i',
      from,
      '-frames:v',
      '120',
      '-q:v',
      '2',
      '-start_number',
      '0',
      join(dir, '%d.jpg'),
    ]);
  } catch {
    t.log(`no recordings at ${source}`);
    t.pass();
    return;
  }
  const data = await Promise.all(Array.from({ length: 120 }, (_, i) => readFile(join(dir, `${i}.jpg`))));
  const pictures = data.map((bytes): Picture => ({ format: 'jpeg', width: 640, height: 480, data: bytes }));
  const written = await encode(t, pictures, { feature: camera(KEY, 640, 480) });
  const stats = written.parts[0]?.stats[KEY];
  t.is(stats?.count, 100);
  // 119/99 of 0..99, rounded half to even; the decoder here is libjpeg.
  const sums = [0, 0, 0];
  const squares = [0, 0, 0];
  let pixels = 0;
  for (let i = 0; i < 100; i += 1) {
    const exact = i * (119 / 99);
    const index = Math.abs(exact % 1) === 0.5 ? 2 * Math.round(exact / 2) : Math.round(exact);
    const { data: rgb } = await sharp(data[index]).raw().toBuffer({ resolveWithObject: true });
    for (let y = 0; y < 480; y += 4) {
      for (let x = 0; x < 640; x += 4) {
        pixels += 1;
        for (const channel of [0, 1, 2]) {
          const value = (rgb[(y * 640 + x) * 3 + channel] ?? 0) / 255;
          sums[channel] = (sums[channel] ?? 0) + value;
          squares[channel] = (squares[channel] ?? 0) + value * value;
        }
      }
    }
  }
  for (const channel of [0, 1, 2]) {
    const mean = (sums[channel] ?? 0) / pixels;
    const std = Math.sqrt((squares[channel] ?? 0) / pixels - mean * mean);
    t.true(Math.abs((stats?.mean[channel] ?? 0) - mean) < 5e-4, `mean ${stats?.mean[channel]} for ${mean}`);
    t.true(Math.abs((stats?.std[channel] ?? 0) - std) < 5e-4, `std ${stats?.std[channel]} for ${std}`);
  }
});

test('an odd size is refused before anything is encoded', async (t) => {
  const error = await t.throwsAsync(
    encode(t, [raw('gray', Buffer.alloc(9))], { feature: camera(KEY, 63, 48) }),
    { instanceOf: InputError },
  );
  t.regex(error.message, /cam_high.*even.*63x48.*resize/);
});

test('a picture of another size than planned is refused with its frame', async (t) => {
  const pictures = [await numberedJpeg(1, 64, 48), await numberedJpeg(2, 128, 48)];
  const error = await t.throwsAsync(encode(t, pictures), { instanceOf: InputError });
  t.regex(error.message, /expected pictures of jpeg 64x48, found jpeg 128x48 at frame 1/);
});

test('an absent encoder program is explained with how to install it', async (t) => {
  const error = await t.throwsAsync(
    DatasetWriter.create({
      dir: await tempFolder(t),
      fps: 30,
      features: [camera(KEY, 64, 48)],
      video: VIDEO,
      expectedFrames: 1,
      signal: new AbortController().signal,
      metrics: createMetrics(new Registry()).video,
      ffmpeg: '/nowhere/ffmpeg',
    }),
    { instanceOf: EncodeError },
  );
  t.regex(error.message, /not found.*apt-get install ffmpeg/);
});

test('an encoder the program lacks is refused before the first frame, naming those it has', async (t) => {
  const error = await t.throwsAsync(encode(t, [], { video: { ...VIDEO, codec: 'no_such_encoder' } }), {
    instanceOf: EncodeError,
  });
  t.regex(error.message, /"no_such_encoder".*has libx264/);
});

test('an encoder that fails is an EncodeError with its last words', async (t) => {
  const picture = await numberedJpeg(1, 64, 48);
  const video = { ...VIDEO, preset: 'warp' };
  const pictures = Array.from({ length: 50 }, () => picture);
  const error = await t.throwsAsync(encode(t, pictures, { video }), { instanceOf: EncodeError });
  t.regex(error.message, /cam_high.*encoder ended with code \d+.*warp/);
});

for (const [codec, preset] of [
  ['hevc', 'veryfast'],
  ['av1', '10'],
  ['libaom-av1', 'any'],
] as const) {
  test(`${codec} videos have every frame at its time, and the same bytes each time`, async (t) => {
    const feature = camera(KEY, 128, 96);
    const pictures = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8, 9].map((k) => numberedJpeg(k, 128, 96)));
    const video = { ...VIDEO, codec, preset, crf: 30 };
    const written = await encode(t, pictures, { feature, video });
    const name = codec === 'hevc' ? 'hevc' : 'av1';
    t.like(written.videoInfo[KEY], { 'video.codec': name, 'video.pix_fmt': 'yuv420p', 'video.width': 128 });
    const again = await encode(t, pictures, { feature, video });
    t.deepEqual(
      again.files.map((file) => file.sha256),
      written.files.map((file) => file.sha256),
    );
  });
}

test('encoders of this machine are tried, and the usual ones work', async (t) => {
  const probes = await probeEncoders();
  t.true(probes.find((probe) => probe.encoder === 'libx264')?.works);
  for (const { works, reason } of probes) t.is(reason === undefined, works);
});

test('a VAAPI encoder is given its device and pictures in its memory', async (t) => {
  const command = encoderCommand({
    ffmpeg: await findFfmpeg(),
    feature: camera(KEY, 64, 48),
    first: await numberedJpeg(1, 64, 48),
    path: 'out.mp4',
    fps: 30,
    settings: { ...VIDEO, codec: 'h264_vaapi' },
    expectedFrames: 10,
  });
  const device = command.indexOf('-vaapi_device');
  t.regex(command[device + 1] ?? '', /^\/dev\/dri\/renderD\d+$/);
  t.true(device >= 0 && device < command.indexOf('-i'));
  t.regex(command.join(' '), /out_range=limited,format=nv12,hwupload\[video\]/);
  t.false(command.includes('-pix_fmt'));
  t.regex(command.join(' '), /-rc_mode CQP -qp 23/);
});

test('a video that lost frames is an EncodeError naming the camera and the numbers', async (t) => {
  const dir = await tempFolder(t);
  const script = join(dir, 'ffmpeg');
  // The real program, made to stop early: it is told to write five frames only.
  await writeFile(
    script,
    '#!/bin/bash\nargs=("$@")\nfor i in "${!args[@]}"; do [ "${args[i]}" = "-c:v" ] && args[i]="-frames:v 5 -c:v"; done\nexec ffmpeg ${args[@]//select=/select=}\n',
  );
  await chmod(script, 0o755);
  const picture = await numberedJpeg(1, 64, 48);
  const writer = await DatasetWriter.create({
    dir,
    fps: 30,
    features: [camera(KEY, 64, 48)],
    video: VIDEO,
    expectedFrames: 20,
    signal: new AbortController().signal,
    metrics: createMetrics(new Registry()).video,
    ffmpeg: script,
  });
  const work = async () => {
    for (let index = 0; index < 20; index += 1) {
      await writer.addFrame({ episode: 0, index, time: 0n, values: new Map([[KEY, picture]]) }, 'look');
    }
    await writer.saveEpisode({ startTime: 0n, endTime: 1n });
    await writer.finish();
  };
  const error = await t.throwsAsync(work(), { instanceOf: EncodeError });
  t.regex(error.message, /cam_high: expected 20 frames, the video holds 5/);
  await writer.abort();
});

test.serial('an abort ends the encoder at once and is reported as such', async (t) => {
  const controller = new AbortController();
  const dir = await tempFolder(t);
  const writer = await DatasetWriter.create({
    dir,
    fps: 30,
    features: [camera(KEY, 64, 48)],
    video: VIDEO,
    expectedFrames: 1000,
    signal: controller.signal,
    metrics: createMetrics(new Registry()).video,
  });
  const picture = await numberedJpeg(1, 64, 48);
  const frame = { episode: 0, index: 0, time: 0n, values: new Map([[KEY, picture]]) };
  for (let i = 0; i < 30; i += 1) await writer.addFrame(frame, 'look');
  const started = Date.now();
  controller.abort(new CanceledError('shutdown'));
  const error = await t.throwsAsync(writer.addFrame(frame, 'look'), { instanceOf: CanceledError });
  t.is(error.reason, 'shutdown');
  await writer.abort();
  t.true(Date.now() - started < 2000);
});

/** The command line of every process; small Linux images have no `ps`. */
async function commandLines(): Promise<string[]> {
  if (process.platform !== 'linux') return (await run('ps', ['-eo', 'pid,args'])).stdout.split('\n');
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  // A process may end between the two looks.
  return Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
}

test.serial('the encoder dies with its worker when the worker is killed', async (t) => {
  const dir = await tempFolder(t);
  const child = spawn(process.execPath, [new URL('./encode-forever.js', import.meta.url).pathname, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const encoders = async () =>
    (await commandLines()).filter((line) => line.includes('ffmpeg') && line.includes(dir));
  t.true((await encoders()).length > 0, 'the encoder runs');
  child.kill('SIGKILL');
  await once(child, 'exit');
  let left = await encoders();
  for (let i = 0; i < 40 && left.length > 0; i += 1) {
    await delay(50);
    left = await encoders();
  }
  t.deepEqual(left, []);
});

test('an encoder shows its camera when it starts and is timed when it has finished well', async (t) => {
  const registry = new Registry();
  const metrics = createMetrics(registry).video;
  const dir = await tempFolder(t);
  const writer = await DatasetWriter.create({
    dir,
    fps: 30,
    features: [camera(KEY, 64, 48)],
    video: VIDEO,
    expectedFrames: 6,
    signal: new AbortController().signal,
    metrics,
  });
  const picture = await numberedJpeg(1, 64, 48);
  for (let index = 0; index < 6; index += 1) {
    await writer.addFrame({ episode: 0, index, time: 0n, values: new Map([[KEY, picture]]) }, 'look');
  }
  t.regex(await registry.metrics(), /roboflow_video_encoding_duration_seconds_count 0/);
  await writer.saveEpisode({ startTime: 0n, endTime: 1n });
  await writer.finish();
  const text = await registry.metrics();
  t.regex(text, /roboflow_video_frames_encoded_total\{camera="cam_high"\} 0/);
  t.regex(text, /roboflow_video_encoding_duration_seconds_count 1/);
});
