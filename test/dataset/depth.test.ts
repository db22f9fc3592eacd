import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import sharp from 'sharp';
import { beyondCodes, DEPTH, depthCodes, depthPixels, depthValues } from '../../src/dataset/depth.ts';
import { DepthImages } from '../../src/dataset/depth-images.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { InputError } from '../../src/errors.ts';
import type {
  AlignedFrame,
  Feature,
  FeatureValue,
  Picture,
  PictureTransform,
} from '../../src/frame/types.ts';
import { buildDataset, folderFiles, tempFolder, writeRecording } from './build.ts';

const run = promisify(execFile);
const [WIDTH, HEIGHT] = [32, 24];

function depthFeature(
  unit: 'mm' | 'm',
  transform: PictureTransform = {},
  shape = [HEIGHT, WIDTH, 1],
): Feature {
  const names = ['height', 'width', 'channels'];
  return {
    key: 'observation.images.depth',
    dtype: 'video',
    shape,
    names,
    camera: { width: WIDTH, height: HEIGHT, transform, depthUnit: unit },
  };
}

/** A ramp over the picture, moving with the frame: 300 mm and up. */
const ramp = (k: number) => Uint16Array.from({ length: WIDTH * HEIGHT }, (_, i) => 300 + k * 50 + i * 7);

const bytesOf = (values: Uint16Array | Float32Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

const picture = (k: number): Picture => ({
  format: 'raw',
  pixelFormat: 'gray16le',
  width: WIDTH,
  height: HEIGHT,
  data: bytesOf(ramp(k)),
});

const metres = (code: number) =>
  Math.exp(
    (code / 4095) * (Math.log(DEPTH.max + DEPTH.shift) - Math.log(DEPTH.min + DEPTH.shift)) +
      Math.log(DEPTH.min + DEPTH.shift),
  ) - DEPTH.shift;

async function frame(_: number, k: number, value: FeatureValue = picture(k)): Promise<AlignedFrame> {
  const values = new Map<string, FeatureValue>([
    ['action', Float64Array.of(k)],
    ['observation.images.depth', value],
  ]);
  return { episode: 0, index: k, time: BigInt(k), values };
}

const features = (unit: 'mm' | 'm' = 'mm') => [
  { key: 'action', dtype: 'float32', shape: [1], names: null } as const,
  depthFeature(unit),
];

test('depth comes back from the video within one step of the quantizer', async (t) => {
  const dir = await tempFolder(t);
  await writeRecording(dir, 0, { lengths: [6], tasks: ['look'] }, { features: features(), frame });
  const { stdout } = await run(
    'ffmpeg',
    ['-v', 'error', '-i', join(dir, 'camera-0.mp4'), '-f', 'rawvideo', '-pix_fmt', 'gray12le', '-'],
    { encoding: 'buffer' },
  );
  t.is(stdout.length, 6 * WIDTH * HEIGHT * 2);
  for (const k of [0, 5]) {
    const source = ramp(k);
    for (let i = 0; i < source.length; i += 1) {
      const code = stdout.readUInt16LE((k * WIDTH * HEIGHT + i) * 2);
      const step = metres(code + 1) - metres(code);
      t.true(Math.abs(metres(code) - (source[i] ?? 0) / 1000) <= step, `pixel ${i} of frame ${k}`);
    }
  }
});

test('a depth dataset holds in every statement and says how to read it', async (t) => {
  const { root } = await buildDataset(await tempFolder(t), [{ lengths: [6, 4], tasks: ['look'] }], {
    features: features(),
    frame,
  });
  const checks = await verifyDataset(folderFiles(root));
  t.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
  t.notRegex(checks.find((check) => check.id === 'depth')?.message ?? '', /does not apply/);
});

test('depth statistics are in the unit of the recording', async (t) => {
  const dir = await tempFolder(t);
  const written = await writeRecording(
    dir,
    0,
    { lengths: [3], tasks: ['look'] },
    { features: features(), frame },
  );
  const stats = written.parts[0]?.stats['observation.images.depth'];
  const all = [0, 1, 2].flatMap((k) => [...ramp(k)]);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  t.deepEqual([stats?.min, stats?.max, stats?.count], [[300], [Math.max(...all)], 3]);
  t.true(Math.abs((stats?.mean[0] ?? 0) - mean) < 1e-6);
  all.sort((a, b) => a - b);
  t.true(Math.abs((stats?.q50[0] ?? 0) - (all[all.length / 2] ?? 0)) < 8);
});

test('depths farther away than a video can hold are counted', async (t) => {
  const far = ramp(1).fill(12_000, 0, 3);
  const written = await writeRecording(
    await tempFolder(t),
    0,
    { lengths: [2], tasks: ['look'] },
    {
      features: features(),
      frame: (_, k) => frame(0, k, { ...picture(k), ...(k === 1 && { data: bytesOf(far) }) }),
    },
  );
  t.deepEqual(written.beyond, { 'observation.images.depth': 3 });
});

test('float depth is metres, and what was not seen is the least depth', async (t) => {
  const values = Float32Array.of(1.5, Number.NaN, 0, 20, -1, Number.POSITIVE_INFINITY);
  const codes = new Uint16Array(depthCodes(values, 'm').buffer);
  t.true(Math.abs(metres(codes[0] ?? 0) - 1.5) < 0.003);
  t.deepEqual([...codes.subarray(1)], [0, 0, 4095, 0, 4095]);
  t.is(beyondCodes(values, 'm'), 1);
  t.deepEqual(depthCodes(Uint16Array.of(1500), 'mm'), depthCodes(Float32Array.of(1500), 'mm'));
});

test('16-bit PNG, raw levels and float levels are read alike', async (t) => {
  const values = ramp(1);
  const png = await sharp(values, { raw: { width: WIDTH, height: HEIGHT, channels: 1 } })
    .toColourspace('grey16')
    .png()
    .toBuffer();
  const read = await depthValues('depth', { format: 'png', width: WIDTH, height: HEIGHT, data: png });
  t.deepEqual(read, values);
  // Bytes that do not lie on a 16-bit boundary, as they come out of a message.
  const odd = Buffer.concat([Buffer.of(1), bytesOf(values)]).subarray(1);
  t.deepEqual(await depthValues('depth', { ...picture(1), data: odd }), values);
  const floats = Float32Array.from(values, (value) => value / 1000);
  const raw = {
    format: 'raw',
    pixelFormat: 'grayf32le',
    width: WIDTH,
    height: HEIGHT,
    data: bytesOf(floats),
  } as const;
  t.deepEqual(await depthValues('depth', raw), floats);
  await t.throwsAsync(depthValues('depth', { ...picture(1), data: odd.subarray(2) }), {
    instanceOf: InputError,
  });
  await t.throwsAsync(depthValues('depth', { ...raw, pixelFormat: 'rgb24' }), {
    message: /expected 16-bit or float depth/,
  });
});

test('transforms move depths and never mix them', (t) => {
  const at = (transform: PictureTransform, shape: number[]) => [
    ...depthPixels(depthFeature('mm', transform, shape)).subarray(0, 3),
  ];
  t.deepEqual(at({}, [HEIGHT, WIDTH, 1]), [0, 1, 2]);
  t.deepEqual(at({ rotate: 90 }, [WIDTH, HEIGHT, 1]), [23 * WIDTH, 22 * WIDTH, 21 * WIDTH]);
  t.deepEqual(at({ rotate: 180 }, [HEIGHT, WIDTH, 1]), [767, 766, 765]);
  t.deepEqual(at({ rotate: 270 }, [WIDTH, HEIGHT, 1]), [31, 63, 95]);
  t.deepEqual(at({ crop: { x: 4, y: 2, width: 8, height: 8 }, resize: { width: 4, height: 4 } }, [4, 4, 1]), [
    3 * WIDTH + 5,
    3 * WIDTH + 7,
    3 * WIDTH + 9,
  ]);
});

test('depth as images is TIFF with the numbers that were recorded, whole or float', async (t) => {
  const image = (unit: 'mm' | 'm', transform: PictureTransform = {}, shape = [HEIGHT, WIDTH, 1]) => ({
    ...depthFeature(unit, transform, shape),
    dtype: 'image' as const,
  });
  const whole = await tiffOf(image('mm'), picture(2));
  t.is(whole.sampleFormat, 1);
  t.deepEqual([...whole.values], [...ramp(2)]);

  const metric = Float32Array.from(ramp(1), (value, i) => (i === 5 ? Number.NaN : value / 1000));
  const raw = { ...picture(1), pixelFormat: 'grayf32le', data: bytesOf(metric) } as Picture;
  const float = await tiffOf(image('m'), raw);
  t.is(float.sampleFormat, 3);
  t.deepEqual(
    [...float.values],
    [...metric].map((value) => (Number.isNaN(value) ? 0 : value)),
  );
  const turned = await tiffOf(image('mm', { rotate: 90 }, [WIDTH, HEIGHT, 1]), picture(0));
  t.is(turned.values[0], ramp(0)[(HEIGHT - 1) * WIDTH]);
});

test('a dataset with depth images holds in every statement and says what they are', async (t) => {
  const depth: Feature = { ...depthFeature('mm'), dtype: 'image' };
  const { root } = await buildDataset(await tempFolder(t), [{ lengths: [6, 4], tasks: ['look'] }], {
    features: [features()[0] as Feature, depth],
    frame,
  });
  t.deepEqual(
    (await verifyDataset(folderFiles(root))).filter((check) => !check.ok),
    [],
  );
  const info = JSON.parse(await readFile(join(root, 'meta/info.json'), 'utf8')) as {
    features: Record<string, unknown>;
    video_path: string | null;
  };
  t.is(info.video_path, null);
  t.like(info.features['observation.images.depth'], {
    dtype: 'image',
    shape: [HEIGHT, WIDTH, 1],
    info: { is_depth_map: true, depth_unit: 'mm' },
  });
});

/** The tags and numbers of the TIFF that a feature stores of a picture. */
async function tiffOf(feature: Feature, value: Picture) {
  const images = new DepthImages({ feature, expectedFrames: 1 });
  const bytes = Buffer.from(await images.add(value));
  const tags = new Map<number, number>();
  const directory = bytes.readUInt32LE(4);
  for (let i = 0; i < bytes.readUInt16LE(directory); i += 1) {
    const at = directory + 2 + i * 12;
    tags.set(
      bytes.readUInt16LE(at),
      bytes.readUInt16LE(at + 2) === 3 ? bytes.readUInt16LE(at + 8) : bytes.readUInt32LE(at + 8),
    );
  }
  const strip = Uint8Array.from(bytes.subarray(tags.get(273))).buffer;
  const found = await sharp(bytes).metadata();
  const [height, width] = feature.shape;
  if (found.width !== width || found.height !== height) throw new Error(`${found.width}x${found.height}`);
  return {
    sampleFormat: tags.get(339),
    values: tags.get(258) === 32 ? new Float32Array(strip) : new Uint16Array(strip),
  };
}
