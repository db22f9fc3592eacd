import { mkdir } from 'node:fs/promises';
import { InputError, throwIfAborted } from '../errors.ts';
import { Agreement, type Misfit } from './agreement.ts';
import { cellNumbers } from './cells.ts';
import { DEFAULT_FEATURES, isCamera, statFeatures } from './columns.ts';
import type { Emit } from './data-packer.ts';
import type { DatasetSink } from './dataset-sink.ts';
import type { DatasetSummary } from './dataset-summary.ts';
import type { DatasetInfo } from './info.ts';
import { isChunked, stagedPath } from './layout.ts';
import { PackedSink } from './packed-sink.ts';
import { type ColumnValues, openParquet, type ParquetReader } from './parquet.ts';
import { readAhead } from './read-ahead.ts';
import { columnStats, constantStats, shiftStats } from './stats.ts';
import { statsObject } from './stats-form.ts';
import { V21Sink } from './v21-sink.ts';
import { VectorMoments, VectorQuantiles } from './vector-stats.ts';
import type { DatasetFiles, EpisodeManifest, EpisodePart, FeatureStats } from './types.ts';

/** What finalize is given. */
export type FinalizeInput = {
  /** Manifests in plan order; iterated twice, so not a generator that is used up. */
  readonly manifests: Iterable<EpisodeManifest> | AsyncIterable<EpisodeManifest>;
  /** Where the staged tables lie. */
  readonly files: DatasetFiles;
  /** Folder for files under construction; made when missing, emptied file by file. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  /** Recordings that do not fit to the others are left out, instead of refused with all. */
  readonly partial?: boolean;
  /** `meta/info.json` of the dataset as it was published before. */
  readonly published?: Partial<DatasetInfo> | undefined;
  /** Keys of manifests whose recordings were tried again since, and failed. */
  readonly outdated?: ReadonlySet<string>;
  /** Publishes one file; `meta/info.json` comes last. */
  readonly emit: Emit;
  /** Removes a data or episodes file of an earlier run that this one did not write; called before `meta/info.json`. */
  readonly remove?: (path: string) => Promise<void>;
};

/** Totals of the dataset, and every path it consists of beside the videos. */
export type Finalized = {
  readonly episodes: number;
  readonly frames: number;
  readonly tasks: number;
  readonly paths: readonly string[];
  /** Recordings that were left out. */
  readonly misfits: readonly Misfit[];
};

/** Staged tables up to this size are read in one piece, ahead of their turn. */
const WHOLE_BYTES = 16 << 20;
const READ_AHEAD = 4;

type Staged = { manifest: EpisodeManifest; table: ParquetReader; close: () => Promise<void> };

/**
 * Makes the dataset of the recordings that have manifests: numbers the episodes in plan order without holes, packs the
 * rows, writes episodes, tasks, statistics, and `meta/info.json` last. Memory does not grow with the number of rows;
 * the same manifests give the same bytes. Throws `InputError` for recordings that do not fit together, unless `partial`.
 */
export async function finalizeDataset(input: FinalizeInput): Promise<Finalized> {
  const { manifests, files, scratch, signal } = input;
  const agreement = new Agreement(input.outdated);
  for await (const manifest of manifests) {
    throwIfAborted(signal);
    agreement.add(manifest);
  }
  const { summary, misfits } = agreement.choose(input.published);
  const [misfit] = misfits;
  if (misfit && !input.partial) throw new InputError(misfit.reason);
  await mkdir(scratch, { recursive: true });
  const paths: string[] = [];
  const emit: Emit = async (file) => {
    throwIfAborted(signal);
    await input.emit(file);
    paths.push(file.path);
  };
  const sink: DatasetSink =
    summary.format === 'v2.1'
      ? new V21Sink(summary, scratch, emit, { files, signal })
      : new PackedSink(summary, scratch, emit, { files, signal });
  const totals = new Totals(summary);
  try {
    let recordings = 0;
    const staged = readAhead(
      fitting(manifests, new Set(misfits.map(({ key }) => key))),
      READ_AHEAD,
      (manifest) => openStaged(manifest, files),
      ({ close }) => close(),
    );
    for await (const recording of staged) {
      recordings += 1;
      try {
        await addRecording(recording, { summary, sink, totals, signal });
      } finally {
        await recording.close();
      }
    }
    if (recordings !== summary.recordings || totals.frames !== summary.frames) {
      throw new Error(
        `the manifests changed between two readings: ${summary.recordings}, then ${recordings}`,
      );
    }
    await sink.finishTables(totals.stats());
    await removeStale(input, sink.stalePrefixes, new Set(paths));
    await sink.finishInfo();
  } catch (error) {
    await sink.abort();
    throw error;
  }
  return { episodes: summary.episodes, frames: summary.frames, tasks: summary.tasks.length, paths, misfits };
}

async function* fitting(
  manifests: FinalizeInput['manifests'],
  misfits: ReadonlySet<string>,
): AsyncGenerator<EpisodeManifest> {
  for await (const manifest of manifests) if (!misfits.has(manifest.key)) yield manifest;
}

/**
 * Readers take every table they find under these folders, so none of an earlier, longer dataset may stay. What is no
 * file of a dataset stays: somebody may keep recordings in a `data` folder beside it.
 */
async function removeStale(
  { files, remove }: FinalizeInput,
  prefixes: readonly string[],
  written: ReadonlySet<string>,
): Promise<void> {
  if (!remove) return;
  for (const prefix of prefixes) {
    const stale: string[] = [];
    for await (const { key } of files.list(prefix)) {
      if (!written.has(key) && isChunked(key)) stale.push(key);
    }
    for (const key of stale) await remove(key);
  }
}

async function openStaged(manifest: EpisodeManifest, files: DatasetFiles): Promise<Staged> {
  const path =
    manifest.files.find((file) => file.type === 'parquet')?.path ??
    stagedPath(manifest.key, manifest.edition);
  const file = await files.open(path);
  try {
    const size = await file.size();
    if (size > WHOLE_BYTES)
      return { manifest, table: await openParquet(file, path), close: () => file.close() };
    const bytes = await file.read(0n, size);
    const whole = {
      size: async () => size,
      read: async (offset: bigint, length: bigint) => bytes.subarray(Number(offset), Number(offset + length)),
    };
    await file.close();
    return { manifest, table: await openParquet(whole, path), close: async () => {} };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Rows and statistics of the whole dataset, grown as its rows pass by. */
class Totals {
  readonly #summary: DatasetSummary;
  readonly #quantiles = new Map<string, VectorQuantiles>();
  /** Moments of the default columns; those of the user's features are known from the manifests. */
  readonly #moments = new Map<string, VectorMoments>();
  frames = 0;
  episodes = 0;

  constructor(summary: DatasetSummary) {
    this.#summary = summary;
    const longest = Math.max(0, summary.longest - 1);
    const ranges: Readonly<Record<string, number>> = {
      timestamp: Math.fround(longest / summary.fps),
      frame_index: longest,
      episode_index: summary.episodes - 1,
      index: summary.frames - 1,
      task_index: summary.tasks.length - 1,
    };
    for (const feature of statFeatures(summary.features)) {
      if (isCamera(feature)) continue;
      const max = ranges[feature.key];
      if (max !== undefined) this.#moments.set(feature.key, new VectorMoments(1));
      const range = max === undefined ? summary.moments(feature.key).moments : [{ min: 0, max }];
      this.#quantiles.set(feature.key, new VectorQuantiles(range));
    }
  }

  add(key: string, column: ColumnValues): void {
    const quantiles = this.#quantiles.get(key);
    if (!quantiles) return;
    const moments = this.#moments.get(key);
    for (let i = 0; i < column.length; i += 1) {
      const numbers = cellNumbers(column[i]);
      quantiles.add(numbers);
      moments?.add(numbers);
    }
  }

  /** The content of `stats.json`: quantiles over one histogram of all rows, cameras over all sampled pictures. */
  stats(): Record<string, unknown> {
    const entries = statFeatures(this.#summary.features).map((feature) => {
      const { key } = feature;
      if (isCamera(feature)) return [key, statsObject(feature, this.#summary.cameraStats(key))];
      const moments = this.#moments.get(key) ?? this.#summary.moments(key);
      return [key, statsObject(feature, (this.#quantiles.get(key) as VectorQuantiles).stats(moments))];
    });
    return Object.fromEntries(entries) as Record<string, unknown>;
  }
}

async function addRecording(
  { manifest, table: staged }: Staged,
  to: { summary: DatasetSummary; sink: DatasetSink; totals: Totals; signal: AbortSignal },
): Promise<void> {
  const { summary, sink, totals, signal } = to;
  const local = [...new Set(manifest.episodes.flatMap((part) => part.tasks))];
  const rows = manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  if (staged.rows !== rows) {
    throw new InputError(`the table of ${manifest.key} holds ${staged.rows} rows, its manifest says ${rows}`);
  }
  let group = 0;
  for (const [position, part] of manifest.episodes.entries()) {
    await sink.startEpisode(totals.episodes, part.frames);
    const tasks: number[] = [];
    const from = totals.frames;
    for (let done = 0; done < part.frames; group += 1) {
      throwIfAborted(signal);
      const read = await staged.rowGroup(group);
      const count = read.get('index')?.length ?? 0;
      if (count === 0 || done + count > part.frames) {
        throw new InputError(`the table of ${manifest.key} is not cut where its episodes are`);
      }
      const taskColumn = Array.from(read.get('task_index') ?? [], (each) => {
        const task = local[Number(each)];
        if (task === undefined)
          throw new InputError(`the table of ${manifest.key} has a task its manifest lacks`);
        return summary.taskIndex(task);
      });
      tasks.push(...taskColumn);
      const written = new Map(read)
        .set('episode_index', new BigInt64Array(count).fill(BigInt(totals.episodes)))
        .set(
          'index',
          BigInt64Array.from({ length: count }, (_, i) => BigInt(from + done + i)),
        )
        .set('task_index', BigInt64Array.from(taskColumn, BigInt));
      for (const [key, column] of written) totals.add(key, column);
      await sink.write(written);
      done += count;
    }
    await sink.endEpisode({
      episode: totals.episodes,
      from,
      manifest,
      position,
      part,
      stats: { ...part.stats, ...defaultStats(part, totals.episodes, from, tasks) },
    });
    totals.frames += part.frames;
    totals.episodes += 1;
  }
}

/** Statistics of the columns that are numbered here; the others are the manifest's. */
function defaultStats(
  part: EpisodePart,
  episode: number,
  from: number,
  tasks: readonly number[],
): Record<string, FeatureStats> {
  const frameIndex = part.stats['frame_index'];
  if (!frameIndex) throw new InputError(`a manifest lacks the statistics of ${DEFAULT_FEATURES[1].key}`);
  const first = tasks[0] ?? 0;
  return {
    episode_index: constantStats(episode, part.frames),
    index: shiftStats(frameIndex, from),
    task_index: tasks.every((task) => task === first)
      ? constantStats(first, part.frames)
      : columnStats(tasks),
  };
}
