import { cp, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import type { CopiedCamera } from '../../src/dataset/copy-track.ts';
import { finalizeDataset, type Finalized, type FinalizeInput } from '../../src/dataset/finalize.ts';
import { conversionVideoPath, stagedPath } from '../../src/dataset/layout.ts';
import { openLocalFile } from '../../src/dataset/local-file.ts';
import { parseManifest, serializeManifest } from '../../src/dataset/manifest.ts';
import type {
  DatasetFiles,
  DatasetFormat,
  EpisodeManifest,
  VideoSettings,
  Written,
} from '../../src/dataset/types.ts';
import { DatasetWriter } from '../../src/dataset/writer.ts';
import type { AlignedFrame, Feature, FeatureValue, Picture } from '../../src/frame/types.ts';
import { createMetrics } from '../../src/metrics/index.ts';

/** A folder that is removed when the test ends. */
export async function tempFolder(t: { teardown(undo: () => Promise<void>): void }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'dataset-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** The files of a folder, by path relative to it. */
export function folderFiles(root: string): DatasetFiles {
  return {
    async *list(prefix) {
      const all = await readdir(root, { recursive: true, withFileTypes: true });
      const keys = all
        .filter((entry) => entry.isFile())
        .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
        .filter((key) => key.startsWith(prefix))
        .toSorted((a, b) => (a < b ? -1 : 1));
      for (const key of keys) yield { key, size: (await stat(join(root, key))).size };
    },
    head: async (path) => {
      try {
        return { size: (await stat(join(root, path))).size };
      } catch {
        return undefined;
      }
    },
    open: (path) => openLocalFile(join(root, path)),
  };
}

export const VIDEO: VideoSettings = { codec: 'h264', crf: 23, gop: 2, preset: 'veryfast', pixFmt: 'yuv420p' };

export const FEATURES: readonly Feature[] = [
  { key: 'observation.state', dtype: 'float32', shape: [2], names: ['shoulder', 'elbow'] },
  { key: 'action', dtype: 'float32', shape: [2], names: ['shoulder', 'elbow'] },
  camera('observation.images.wrist', 64, 48),
  { key: 'gripper.count', dtype: 'int64', shape: [1], names: null },
  { key: 'next.done', dtype: 'bool', shape: [1], names: null },
  { key: 'note', dtype: 'string', shape: [1], names: null },
];

/** A video feature of pictures that are stored as they come. */
export function camera(key: string, width: number, height: number): Feature {
  return {
    key,
    dtype: 'video',
    shape: [height, width, 3],
    names: ['height', 'width', 'channels'],
    camera: { width, height, transform: {} },
  };
}

/** A JPEG whose brightness says which number it has: 16 blocks, each black or white, are the bits. */
export async function numberedJpeg(number: number, width: number, height: number): Promise<Picture> {
  const data = Buffer.alloc(width * height * 3, 128);
  for (let bit = 0; bit < 16; bit += 1) {
    const [x0, y0] = [(bit % 4) * (width / 4), Math.floor(bit / 4) * (height / 4)];
    const level = ((number >> bit) & 1) === 1 ? 235 : 20;
    for (let y = y0; y < y0 + height / 4; y += 1) {
      data.fill(level, (y * width + x0) * 3, (y * width + x0 + width / 4) * 3);
    }
  }
  const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 92 })
    .toBuffer();
  return { format: 'jpeg', width, height, data: jpeg };
}

/** Values of frame `k` of the recording numbered `recording`, for `FEATURES` (without pictures when told). */
export async function sampleFrame(recording: number, k: number, pictures = true): Promise<AlignedFrame> {
  const values = new Map<string, FeatureValue>([
    ['observation.state', Float64Array.of(Math.sin(k / 7) + recording, Math.cos(k / 5) * 2)],
    ['action', Float64Array.of(Math.sin((k + 1) / 7) + recording, Math.cos((k + 1) / 5) * 2)],
    ['gripper.count', Float64Array.of(k % 3)],
    ['next.done', Float64Array.of(k % 10 === 9 ? 1 : 0)],
    ['note', `frame ${k}`],
  ]);
  if (pictures) values.set('observation.images.wrist', await numberedJpeg(recording * 1000 + k, 64, 48));
  return { episode: 0, index: k, time: BigInt(k) * 100_000_000n, values };
}

/** One recording to be written: lengths of its episodes, and their tasks. */
export type RecordingPlan = { readonly lengths: readonly number[]; readonly tasks: readonly string[] };

/** Writes one recording and returns what was written. */
export async function writeRecording(
  dir: string,
  recording: number,
  plan: RecordingPlan,
  options: {
    features?: readonly Feature[];
    frame?: (recording: number, k: number) => Promise<AlignedFrame>;
    video?: VideoSettings;
    fps?: number;
    format?: DatasetFormat;
    pack?: boolean;
    apart?: boolean;
    copied?: ReadonlyMap<string, CopiedCamera>;
  } = {},
): Promise<Written> {
  await mkdir(dir, { recursive: true });
  const features = options.features ?? FEATURES;
  const writer = await DatasetWriter.create({
    dir,
    fps: options.fps ?? 10,
    features,
    video: options.video ?? VIDEO,
    expectedFrames: plan.lengths.reduce((sum, length) => sum + length, 0),
    split: plan.lengths.length > 1,
    format: options.format ?? 'v3.0',
    apart: options.apart ?? options.format === 'v2.1',
    ...(options.copied && { copied: options.copied }),
    signal: new AbortController().signal,
    metrics: createMetrics(new Registry()).video,
  });
  try {
    let k = 0;
    for (const [i, length] of plan.lengths.entries()) {
      const start = k;
      for (let n = 0; n < length; n += 1, k += 1) {
        const frame = await (options.frame ?? sampleFrame)(recording, k);
        await writer.addFrame(frame, plan.tasks[i % plan.tasks.length] ?? 'task');
      }
      await writer.saveEpisode({
        startTime: BigInt(start) * 100_000_000n,
        endTime: BigInt(k) * 100_000_000n,
      });
    }
    return await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** Puts what was written to its place under `root`, and returns the manifest. */
export async function publishRecording(
  root: string,
  written: Written,
  place: {
    slot: number;
    features?: readonly Feature[];
    fps?: number;
    format?: DatasetFormat;
    pack?: boolean;
  },
): Promise<EpisodeManifest> {
  const key = `rec-${String(place.slot).padStart(4, '0')}`;
  const files = written.files.map(({ localPath, ...file }) => ({
    ...file,
    localPath,
    path:
      file.feature === undefined
        ? stagedPath(key)
        : conversionVideoPath(
            { format: place.format ?? 'v3.0', pack: place.pack ?? false },
            { feature: file.feature, episode: file.episode },
            { key, slot: place.slot },
          ),
  }));
  for (const { localPath, path } of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await cp(localPath, join(root, path));
  }
  const manifest: EpisodeManifest = {
    version: 1,
    ...(place.format ? { format: place.format } : {}),
    key,
    slot: place.slot,
    source: { url: `file:///recordings/${key}.mcap`, size: 1, etag: key },
    configHash: 'c0ffee',
    converter: { version: '0.1.0', encoder: written.encoder },
    fps: place.fps ?? 10,
    robotType: 'demo_arm',
    features: place.features ?? FEATURES,
    videoInfo: written.videoInfo,
    episodes: written.parts,
    files: files.map(({ path, type, feature, episode, bytes, sha256, frames }) => ({
      path,
      type,
      ...(feature === undefined ? {} : { feature }),
      ...(episode === undefined ? {} : { episode }),
      bytes,
      sha256,
      frames,
    })),
    alignment: { rows: 0, droppedRows: 0, derivedRows: 0, outsideRows: 0, sources: [] },
    losses: [],
  };
  return parseManifest(serializeManifest(manifest), key);
}

/** Finalizes `manifests` into `root`; returns the totals and the order in which files were published. */
export async function finalizeInto(
  root: string,
  manifests: readonly EpisodeManifest[],
  options: Pick<FinalizeInput, 'partial' | 'published' | 'outdated'> = {},
): Promise<Finalized & { order: string[] }> {
  const order: string[] = [];
  const totals = await finalizeDataset({
    ...options,
    manifests,
    files: folderFiles(root),
    scratch: join(root, '..', 'scratch'),
    signal: new AbortController().signal,
    emit: async ({ path, body }) => {
      order.push(path);
      await mkdir(dirname(join(root, path)), { recursive: true });
      if ('bytes' in body) await writeFile(join(root, path), body.bytes);
      else await cp(body.path, join(root, path));
    },
    remove: (path) => rm(join(root, path)),
  });
  return { ...totals, order };
}

/** Writes and finalizes a whole dataset under `dir`/dataset. */
export async function buildDataset(
  dir: string,
  plans: readonly RecordingPlan[],
  options: Parameters<typeof writeRecording>[3] = {},
): Promise<{ root: string; manifests: EpisodeManifest[] }> {
  const root = join(dir, 'dataset');
  const manifests: EpisodeManifest[] = [];
  for (const [slot, plan] of plans.entries()) {
    const written = await writeRecording(join(dir, `work-${slot}`), slot, plan, options);
    const { features, fps, format, pack } = options;
    manifests.push(
      await publishRecording(root, written, {
        slot,
        ...(features ? { features } : {}),
        ...(fps ? { fps } : {}),
        ...(format ? { format } : {}),
        ...(pack ? { pack } : {}),
      }),
    );
  }
  await finalizeInto(root, manifests);
  return { root, manifests };
}
