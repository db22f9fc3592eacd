import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import sharp, { type Sharp } from 'sharp';
import { exitOf, findFfmpeg, startFfmpeg } from '../dataset/ffmpeg.ts';
import { manifestPath } from '../dataset/layout.ts';
import { openParquet } from '../dataset/parquet.ts';
import type { EpisodeFile, EpisodeManifest, EpisodePart } from '../dataset/types.ts';
import { EncodeError, InputError, throwIfAborted } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import { type Releaser, withReleasers } from '../releasers.ts';
import type { Storage, StoredObject } from '../storage/types.ts';
import { depthShades } from './depth-shades.ts';
import { manifestKeys } from './ledger.ts';
import { readManifest } from './manifests.ts';
import { episodePage, type SheetFrame } from './report.ts';

/** Which episode to report on: the ledger key of its recording, and its position in there. */
export type ReportRequest = {
  readonly storage: Storage;
  readonly key: string;
  readonly episode?: number;
  /** Pictures a camera; default 12. */
  readonly pictures?: number;
  /** Existing folder for temporary files. */
  readonly scratch: string;
  readonly signal: AbortSignal;
};

/** Width of the pictures of a contact sheet; the height follows. */
const sheetWidth = 320;

/**
 * The report page of a converted episode, from its manifest, its staged table and its videos in the store. Throws
 * `InputError` when there is no such episode. A camera whose video has gone (packed) is shown without pictures.
 */
export async function reportEpisode(request: ReportRequest): Promise<string> {
  const { storage, key, episode = 0, signal } = request;
  const manifest = await readManifest(storage, key, signal);
  if (!manifest)
    throw new InputError(`expected the manifest ${manifestPath(key)} in ${storage.url}, found none`);
  const part = manifest.episodes[episode];
  if (!part) {
    throw new InputError(
      `expected an episode from 0 to ${manifest.episodes.length - 1} of ${key}, found ${episode}`,
    );
  }
  return withReleasers(async (release) => {
    const scratch = await mkdtemp(join(request.scratch, 'report-'));
    release(() => rm(scratch, { recursive: true, force: true }));
    const indexes = sampled(part.frames, request.pictures ?? 12);
    const table = await readTable(request, manifest, part, indexes, release);
    const frames: SheetFrame[] = table.pictures;
    for (const feature of manifest.features.filter(({ dtype }) => dtype === 'video')) {
      throwIfAborted(signal);
      const file = manifest.files.find(
        (each) => each.feature === feature.key && (each.episode ?? episode) === episode,
      );
      if (!file || !(await storage.head(file.path, { signal }))) continue;
      const path = await localPath(request, file, scratch, release);
      const own = file.episode === undefined ? part : { ...part, firstFrame: 0 };
      frames.push(...(await videoFrames(path, feature, own, indexes, signal)));
    }
    return episodePage({ manifest, episode, rows: table.rows, frames });
  });
}

/**
 * Where an episode of a dataset comes from: its recording's ledger key, and its position in there. Episodes are counted
 * in the order of the dataset. Throws `InputError` when there is no such episode, or no ledger.
 */
export async function findEpisode(
  storage: Storage,
  number: number,
  signal: AbortSignal,
): Promise<{ readonly key: string; readonly episode: number }> {
  const found: { key: string; slot: number; episodes: number }[] = [];
  for (const key of await manifestKeys(storage, signal)) {
    const manifest = await readManifest(storage, key, signal);
    if (manifest) found.push({ key, slot: manifest.slot, episodes: manifest.episodes.length });
  }
  if (found.length === 0) {
    throw new InputError(
      `${storage.url} has no converted recordings: reports are made from the files under .roboflow/`,
    );
  }
  let first = 0;
  for (const { key, episodes } of found.toSorted((a, b) => a.slot - b.slot)) {
    if (number < first + episodes) return { key, episode: number - first };
    first += episodes;
  }
  throw new InputError(`expected an episode from 0 to ${first - 1} of ${storage.url}, found ${number}`);
}

/** Frame numbers spread evenly over an episode, its first and last included. */
function sampled(frames: number, count: number): number[] {
  const most = Math.max(1, Math.min(frames, count));
  const all = Array.from({ length: most }, (_, i) =>
    most === 1 ? 0 : Math.round((i * (frames - 1)) / (most - 1)),
  );
  return [...new Set(all)];
}

type Table = { rows: Map<string, ArrayLike<number>[]>; pictures: SheetFrame[] };

/** The episode's vectors, and its sampled pictures where they are stored in the table. */
async function readTable(
  { storage, signal }: ReportRequest,
  manifest: EpisodeManifest,
  part: EpisodePart,
  indexes: readonly number[],
  release: (releaser: Releaser) => void,
): Promise<Table> {
  const file = manifest.files.find(({ type }) => type === 'parquet');
  if (!file) throw new InputError(`expected a table among the files of ${manifest.key}, found none`);
  const object = await storage.open(file.path, { signal });
  release(() => object.close());
  const reader = await openParquet(object, file.path);
  const vectors = manifest.features.filter(({ dtype }) => !['video', 'image', 'string'].includes(dtype));
  const images = manifest.features.filter(({ dtype }) => dtype === 'image');
  const table: Table = { rows: new Map(vectors.map(({ key }) => [key, []])), pictures: [] };
  let start = 0;
  for (const [i, group] of reader.metadata.row_groups.entries()) {
    throwIfAborted(signal);
    const count = Number(group.num_rows);
    const from = Math.max(0, part.firstFrame - start);
    const to = Math.min(count, part.firstFrame + part.frames - start);
    if (from < to) {
      const wanted = indexes
        .map((index) => part.firstFrame + index - start)
        .filter((row) => row >= from && row < to);
      const columns = [...vectors, ...(wanted.length > 0 ? images : [])].map(({ key }) => key);
      const values = await reader.rowGroup(i, columns);
      for (const { key } of vectors) {
        for (let row = from; row < to; row++) table.rows.get(key)?.push(numbersOf(values.get(key)?.[row]));
      }
      for (const { key, camera } of images) {
        for (const row of wanted) {
          const bytes = bytesOf(values.get(key)?.[row]);
          const picture = await thumbnail(
            camera?.depthUnit === undefined ? sharp(bytes) : await depthShades(bytes),
          );
          table.pictures.push({ camera: key, index: start + row - part.firstFrame, picture });
        }
      }
    }
    start += count;
  }
  return table;
}

function numbersOf(cell: unknown): number[] {
  return (
    Array.isArray(cell) || ArrayBuffer.isView(cell) ? Array.from(cell as ArrayLike<unknown>) : [cell]
  ).map(Number);
}

function bytesOf(cell: unknown): Uint8Array {
  const bytes = typeof cell === 'object' && cell !== null && 'bytes' in cell ? cell.bytes : undefined;
  if (bytes instanceof Uint8Array) return bytes;
  throw new InputError('expected the bytes of a picture in the table, found none');
}

function thumbnail(picture: Sharp): Promise<Uint8Array> {
  return picture.resize({ width: sheetWidth }).toColourspace('srgb').jpeg({ quality: 80 }).toBuffer();
}

/** A file of the dataset on this machine: where it lies, or a copy. */
async function localPath(
  { storage, signal }: ReportRequest,
  file: EpisodeFile,
  scratch: string,
  release: (releaser: Releaser) => void,
): Promise<string> {
  const object: StoredObject = await storage.open(file.path, { signal });
  release(() => object.close());
  if (object.path !== undefined) return object.path;
  const path = join(scratch, `${(file.feature ?? 'video').replaceAll(/[^A-Za-z0-9_.-]/g, '_')}.mp4`);
  await writeFile(path, await object.read(0n, await object.size()));
  return path;
}

/** Decodes the sampled frames of a video, scaled down. */
async function videoFrames(
  path: string,
  feature: Feature,
  part: EpisodePart,
  indexes: readonly number[],
  signal: AbortSignal,
): Promise<SheetFrame[]> {
  const [height = 1, width = 1] = feature.shape;
  const size = { width: sheetWidth, height: Math.max(2, 2 * Math.round((sheetWidth * height) / width / 2)) };
  const ffmpeg = await findFfmpeg();
  const chosen = indexes.map((index) => `eq(n,${part.firstFrame + index})`).join('+');
  const child = startFfmpeg(
    ffmpeg,
    [
      '-nostdin',
      '-v',
      'error',
      '-i',
      path,
      '-map',
      '0:v:0',
      '-vf',
      `select='${chosen}',scale=${size.width}:${size.height}`,
      ffmpeg.syncOption,
      'passthrough',
      '-frames:v',
      String(indexes.length),
      '-f',
      'rawvideo',
      '-pix_fmt',
      'rgb24',
      'pipe:1',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], signal },
  );
  const { stdout, stderr } = child;
  if (!stdout || !stderr) throw new EncodeError('the decoder has no output');
  const [chunks, complaints, code] = await Promise.all([
    stdout.toArray() as Promise<Buffer[]>,
    text(stderr),
    exitOf(child, signal),
  ]);
  const bytes = Buffer.concat(chunks);
  const frameBytes = size.width * size.height * 3;
  if (code !== 0 || bytes.length !== frameBytes * indexes.length) {
    throw new EncodeError(
      `${feature.key}: expected ${indexes.length} frames of its video, found ${Math.floor(bytes.length / frameBytes)}: ${complaints.trim()}`,
    );
  }
  return Promise.all(
    indexes.map(async (index, i) => {
      const raw = bytes.subarray(i * frameBytes, (i + 1) * frameBytes);
      const picture = await sharp(raw, { raw: { ...size, channels: 3 } })
        .jpeg({ quality: 80 })
        .toBuffer();
      return { camera: feature.key, index, picture };
    }),
  );
}
