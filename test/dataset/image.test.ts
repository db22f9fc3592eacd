import { join } from 'node:path';
import test from 'ava';
import sharp from 'sharp';
import { openLocalFile } from '../../src/dataset/local-file.ts';
import { openParquet } from '../../src/dataset/parquet.ts';
import { rawRgb } from '../../src/dataset/raw-rgb.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { InputError } from '../../src/errors.ts';
import type {
  AlignedFrame,
  Feature,
  FeatureValue,
  Picture,
  PictureTransform,
} from '../../src/frame/types.ts';
import { buildDataset, camera, folderFiles, numberedJpeg, tempFolder, writeRecording } from './build.ts';

const KEY = 'observation.images.wrist';

const imageFeature = (transform: PictureTransform = {}, shape = [48, 64, 3]): Feature => ({
  ...camera(KEY, 64, 48),
  dtype: 'image',
  shape,
  camera: { width: 64, height: 48, transform },
});

const features = (feature: Feature): Feature[] => [
  { key: 'action', dtype: 'float32', shape: [1], names: null },
  feature,
];

const frameOf =
  (make: (k: number) => Promise<Picture>) =>
  async (_: number, k: number): Promise<AlignedFrame> => ({
    episode: 0,
    index: k,
    time: BigInt(k),
    values: new Map<string, FeatureValue>([
      ['action', Float64Array.of(k)],
      [KEY, await make(k)],
    ]),
  });

async function storedPictures(path: string): Promise<{ bytes: Uint8Array; path: string }[]> {
  const file = await openLocalFile(path);
  const table = await openParquet(file, path);
  const rows = await table.rowGroup(0, [KEY]);
  await file.close();
  return Array.from((rows.get(KEY) ?? []) as ArrayLike<{ bytes: Uint8Array; path: string }>);
}

/** Red above, blue below. */
const halves = Buffer.concat([
  Buffer.alloc(64 * 24 * 3).map((_, i) => (i % 3 === 0 ? 200 : 10)),
  Buffer.alloc(64 * 24 * 3).map((_, i) => (i % 3 === 2 ? 200 : 10)),
]);

test('a JPEG that needs no change is stored byte for byte', async (t) => {
  const dir = await tempFolder(t);
  const make = (k: number) => numberedJpeg(k, 64, 48);
  const written = await writeRecording(
    dir,
    0,
    { lengths: [5], tasks: ['look'] },
    { features: features(imageFeature()), frame: frameOf(make) },
  );
  const stored = await storedPictures(join(dir, 'staged.parquet'));
  t.deepEqual(stored.map(({ path }) => path)[1], 'frame-000001.jpg');
  for (const [k, { bytes }] of stored.entries())
    t.deepEqual(Buffer.from(bytes), Buffer.from((await make(k)).data));
  t.is(written.parts[0]?.stats[KEY]?.count, 5);
  t.deepEqual(
    written.files.map((file) => file.type),
    ['parquet'],
  );
});

test('a dataset with stored pictures holds in every statement', async (t) => {
  const make = (k: number) => numberedJpeg(k, 64, 48);
  const { root } = await buildDataset(await tempFolder(t), [{ lengths: [5, 3], tasks: ['look'] }], {
    features: features(imageFeature()),
    frame: frameOf(make),
  });
  const checks = await verifyDataset(folderFiles(root));
  t.deepEqual(
    checks.filter((check) => !check.ok),
    [],
  );
  t.notRegex(checks.find((check) => check.id === 'images')?.message ?? '', /does not apply/);
});

const gray = Buffer.alloc(64 * 48, 128);

const sources: [string, () => Promise<Picture>][] = [
  ['raw', async () => ({ format: 'raw', pixelFormat: 'rgb24', width: 64, height: 48, data: halves })],
  [
    'png',
    async () => ({
      format: 'png',
      width: 64,
      height: 48,
      data: await sharp(halves, { raw: { width: 64, height: 48, channels: 3 } })
        .png({ palette: true })
        .toBuffer(),
    }),
  ],
];

for (const [name, make] of sources) {
  test(`${name} pictures are stored as RGB PNG after crop, resize and rotation`, async (t) => {
    const dir = await tempFolder(t);
    const transform = {
      crop: { x: 0, y: 8, width: 64, height: 32 },
      resize: { width: 32, height: 16 },
      rotate: 90,
    } as const;
    const feature = imageFeature(transform, [32, 16, 3]);
    await writeRecording(
      dir,
      0,
      { lengths: [2], tasks: ['look'] },
      { features: features(feature), frame: frameOf(make) },
    );
    const [first] = await storedPictures(join(dir, 'staged.parquet'));
    const { data, info } = await sharp(first?.bytes).raw().toBuffer({ resolveWithObject: true });
    t.deepEqual([info.width, info.height, info.channels], [16, 32, 3]);
    // Turned clockwise, what was above is on the right.
    const at = (x: number, y: number) =>
      [...data.subarray((y * 16 + x) * 3, (y * 16 + x) * 3 + 3)].map((value) => Math.round(value / 10) * 10);
    t.deepEqual(
      [at(2, 16), at(13, 16)],
      [
        [10, 10, 200],
        [200, 10, 10],
      ],
    );
  });
}

test('a gray picture is stored with three channels', async (t) => {
  const dir = await tempFolder(t);
  const make = async (): Promise<Picture> => ({
    format: 'jpeg',
    width: 64,
    height: 48,
    data: await sharp(gray, { raw: { width: 64, height: 48, channels: 1 } })
      .toColourspace('b-w')
      .jpeg()
      .toBuffer(),
  });
  await writeRecording(
    dir,
    0,
    { lengths: [2], tasks: ['look'] },
    { features: features(imageFeature()), frame: frameOf(make) },
  );
  const [first] = await storedPictures(join(dir, 'staged.parquet'));
  const { format, channels } = await sharp(first?.bytes).metadata();
  t.deepEqual([format, channels], ['png', 3]);
});

test('a picture that does not decode is refused with its frame', async (t) => {
  const make = async (k: number): Promise<Picture> =>
    k === 2
      ? { format: 'jpeg', width: 64, height: 48, data: Buffer.from('nothing') }
      : numberedJpeg(k, 64, 48);
  const error = await t.throwsAsync(
    writeRecording(
      await tempFolder(t),
      0,
      { lengths: [4], tasks: ['look'] },
      { features: features(imageFeature()), frame: frameOf(make) },
    ),
    { instanceOf: InputError },
  );
  t.regex(error.message, /wrist: the picture of frame 2 does not decode/);
});

test('raw formats turn into the colours they stand for', (t) => {
  const solid = (pixelFormat: string, bytes: number[]) => {
    const data = Buffer.from(Array.from({ length: 16 }, () => bytes).flat());
    return [
      ...(rawRgb({ format: 'raw', pixelFormat, width: 4, height: 4, data } as never)?.subarray(0, 3) ?? []),
    ];
  };
  t.deepEqual(solid('bgr24', [30, 20, 10]), [10, 20, 30]);
  t.deepEqual(solid('bgra', [30, 20, 10, 255]), [10, 20, 30]);
  t.deepEqual(solid('gray16le', [99, 200]), [200, 200, 200]);
  // BT.601 red: Y 81, Cb 90, Cr 240.
  for (const [format, bytes] of [
    ['yuyv422', [81, 90, 81, 240]],
    ['uyvy422', [90, 81, 240, 81]],
  ] as const) {
    const [red = 0, green = 0, blue = 0] = solid(format, [...bytes]);
    t.true(red > 250 && green < 5 && blue < 5, format);
  }
  const planar = (pixelFormat: string, chroma: number[]) =>
    rawRgb({
      format: 'raw',
      pixelFormat,
      width: 4,
      height: 4,
      data: Buffer.from([...Array.from({ length: 16 }, () => 81), ...chroma]),
    } as never);
  t.true((planar('nv12', [90, 240, 90, 240, 90, 240, 90, 240])?.[0] ?? 0) > 250);
  t.true((planar('yuv420p', [90, 90, 90, 90, 240, 240, 240, 240])?.[0] ?? 0) > 250);
  const mosaic = Buffer.from(
    Array.from({ length: 16 }, (_, i) => (Math.floor(i / 4) % 2 === 0 && i % 2 === 0 ? 200 : 0)),
  );
  t.deepEqual(
    [
      ...(rawRgb({ format: 'raw', pixelFormat: 'bayer_rggb8', width: 4, height: 4, data: mosaic })?.subarray(
        15,
        18,
      ) ?? []),
    ],
    [200, 0, 0],
  );
  t.is(
    rawRgb({ format: 'raw', pixelFormat: 'grayf32le', width: 1, height: 1, data: Buffer.alloc(4) }),
    undefined,
  );
});
