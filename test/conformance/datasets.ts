import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatasetFormat, VideoSettings } from '../../src/dataset/types.ts';
import { verifyDataset } from '../../src/dataset/verify.ts';
import type { AlignedFrame, Feature, FeatureValue, Picture } from '../../src/frame/types.ts';
import { videoPicture } from '../../src/recording/coded-video.ts';
import { codedPictures } from '../helpers/coded-pictures.ts';
import {
  buildDataset,
  camera,
  folderFiles,
  numberedJpeg,
  type RecordingPlan,
  VIDEO,
} from '../dataset/build.ts';

/** Writes the datasets that the Python readers are tried on, each with what they are expected to read. */

const [WIDTH, HEIGHT] = [128, 96];
const CAMERA = camera('observation.images.wrist', WIDTH, HEIGHT);
const DEPTH: Feature = {
  ...camera('observation.images.depth', WIDTH, HEIGHT),
  shape: [HEIGHT, WIDTH, 1],
  camera: { width: WIDTH, height: HEIGHT, transform: {}, depthUnit: 'mm' },
};
const JOINTS = ['shoulder', 'elbow', 'wrist'];
const VECTORS: readonly Feature[] = [
  { key: 'observation.state', dtype: 'float32', shape: [3], names: JOINTS },
  { key: 'action', dtype: 'float32', shape: [3], names: JOINTS },
];
/** Its mean is whole in some episodes and not in others. */
const STEP: Feature = { key: 'step', dtype: 'int64', shape: [1], names: null };

const PLANS: readonly RecordingPlan[] = [
  { lengths: [60], tasks: ['pick'] },
  { lengths: [40, 30], tasks: ['place', 'pick'] },
];
const FPS = 10;

type Variant = {
  readonly name: string;
  readonly features: readonly Feature[];
  readonly video?: VideoSettings;
  readonly format?: DatasetFormat;
  readonly plans?: readonly RecordingPlan[];
  readonly streaming?: boolean;
  readonly pack?: boolean;
  /** The camera's pictures come as H.264 and stay as they are. */
  readonly copied?: boolean;
};

const VARIANTS: readonly Variant[] = [
  { name: 'h264', features: [...VECTORS, CAMERA] },
  { name: 'hevc', features: [...VECTORS, CAMERA], video: { ...VIDEO, codec: 'hevc' } },
  { name: 'av1', features: [...VECTORS, CAMERA], video: { ...VIDEO, codec: 'av1', preset: '10' } },
  { name: 'images', features: [...VECTORS, { ...CAMERA, dtype: 'image' }] },
  { name: 'depth', features: [...VECTORS, CAMERA, DEPTH] },
  { name: 'packed', features: [...VECTORS, CAMERA], pack: true },
  { name: 'depth-images', features: [...VECTORS, { ...DEPTH, dtype: 'image' }] },
  { name: 'copied', features: [...VECTORS, CAMERA], copied: true },
  { name: 'copied-packed', features: [...VECTORS, CAMERA], copied: true, pack: true },
  { name: 'single', features: [...VECTORS, CAMERA], plans: [{ lengths: [30], tasks: ['pick'] }] },
  { name: 'vectors', features: VECTORS },
  // The streaming reader ignores where an episode begins in its video: one video a camera is what it can read.
  {
    name: 'streaming',
    features: [...VECTORS, CAMERA],
    plans: [{ lengths: [25, 15], tasks: ['pick'] }],
    streaming: true,
  },
  { name: 'v21', features: [...VECTORS, CAMERA, STEP], format: 'v2.1' },
];

const wave = (k: number, shift: number) =>
  Float64Array.of(Math.sin((k + shift) / 9), Math.cos((k + shift) / 7) * 2, ((k + shift) % 50) / 25);

async function frame(features: readonly Feature[], recording: number, k: number): Promise<AlignedFrame> {
  const values = new Map<string, FeatureValue>([
    ['observation.state', wave(k + recording * 13, 0)],
    ['action', wave(k + recording * 13, 1)],
  ]);
  if (features.includes(STEP)) values.set(STEP.key, Float64Array.of(recording === 0 ? 7 : k));
  if (features.some((each) => each.key === CAMERA.key)) {
    values.set(CAMERA.key, await numberedJpeg(recording * 1000 + k, WIDTH, HEIGHT));
  }
  if (features.some(({ key }) => key === DEPTH.key)) {
    const depth = Uint16Array.from({ length: WIDTH * HEIGHT }, (_, i) => 500 + k * 20 + i / 10);
    const data = new Uint8Array(depth.buffer);
    values.set(DEPTH.key, { format: 'raw', pixelFormat: 'gray16le', width: WIDTH, height: HEIGHT, data });
  }
  return { episode: 0, index: k, time: BigInt(k), values };
}

/** The camera's pictures of a whole recording, coded as one stream. */
async function codedCamera(recording: number, frames: number): Promise<Picture[]> {
  const jpegs = await Promise.all(
    Array.from({ length: frames }, (_, k) => numberedJpeg(recording * 1000 + k, WIDTH, HEIGHT)),
  );
  const channel = { id: 1, topic: '/cam', messageEncoding: 'cdr', schema: NO_SCHEMA, metadata: new Map() };
  const input = ['-f', 'image2pipe', '-c:v', 'mjpeg', '-framerate', String(FPS)];
  // Recordings come from cameras of their own, and so do the parameters of their streams.
  const options = recording % 2 === 1 ? ['-profile:v', 'baseline', '-g', '8', '-refs', '1'] : undefined;
  const units = codedPictures('h264', Buffer.concat(jpegs.map(({ data }) => data)), input, options);
  return units.map((data) => videoPicture('h264', data, channel));
}

const NO_SCHEMA = { name: '', encoding: '', data: new Uint8Array() };

const target = process.argv[2] ?? 'dist/conformance';
for (const variant of VARIANTS) {
  const { name, features, video, format, plans = PLANS, streaming = false, pack = false } = variant;
  const lengthOf = (plan: RecordingPlan) => plan.lengths.reduce((sum, length) => sum + length, 0);
  const coded = variant.copied
    ? await Promise.all(plans.map((plan, recording) => codedCamera(recording, lengthOf(plan))))
    : undefined;
  const dir = join(target, name);
  await mkdir(dir, { recursive: true });
  const { root } = await buildDataset(dir, plans, {
    features,
    fps: FPS,
    frame: async (recording, k) => {
      const row = await frame(features, recording, k);
      const picture = coded?.[recording]?.[k];
      return picture ? { ...row, values: new Map([...row.values, [CAMERA.key, picture]]) } : row;
    },
    pack,
    ...(coded ? { copied: new Map([[CAMERA.key, { format: 'h264', keyFrames: 3 } as const]]) } : {}),
    ...(video ? { video } : {}),
    ...(format ? { format } : {}),
  });
  const faults = (await verifyDataset(folderFiles(root))).filter((check) => !check.ok);
  if (faults.length > 0) throw new Error(`${name}: ${faults.map((check) => check.message).join('; ')}`);
  const lengths = plans.flatMap((plan) => plan.lengths);
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
  const marks: number[] = [];
  const tasks: string[] = [];
  for (const [recording, plan] of plans.entries()) {
    let k = 0;
    for (const [i, length] of plan.lengths.entries()) {
      for (let n = 0; n < length; n += 1, k += 1) {
        marks.push(recording * 1000 + k);
        tasks.push(plan.tasks[i % plan.tasks.length] ?? '');
      }
    }
  }
  const expected = {
    version: format ?? 'v3.0',
    fps: FPS,
    frames: marks.length,
    starts,
    row_tasks: tasks,
    marked: features.some((each) => each.key === CAMERA.key) ? CAMERA.key : null,
    marks,
    streaming,
    depth: features.some(({ key }) => key === DEPTH.key)
      ? { key: DEPTH.key, first_mm: 500, step_mm: 20 }
      : null,
  };
  await writeFile(join(dir, 'expected.json'), JSON.stringify(expected));
}
