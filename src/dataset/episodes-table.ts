import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Feature } from '../frame/types.ts';
import { type Column, listColumn, statFeatures } from './columns.ts';
import type { Emit } from './data-packer.ts';
import { type ChunkFile, DATA_FILES_SIZE_MB, episodesPath, nextPlace } from './layout.ts';
import { ParquetFile } from './parquet.ts';
import { statCells, statColumns } from './stats-form.ts';
import type { FeatureStats } from './types.ts';
import type { VideoPlace } from './video-packer.ts';

/** One row of `meta/episodes`. */
export type EpisodeRow = {
  readonly episode: number;
  readonly tasks: readonly string[];
  readonly frames: number;
  readonly data: ChunkFile;
  /** Global number of the first row. */
  readonly from: number;
  /** By video feature: the file the episode is in, and its first frame in there. */
  readonly videos: ReadonlyMap<string, VideoPlace>;
  readonly stats: Readonly<Record<string, FeatureStats>>;
};

const GROUP_ROWS = 500;

const INT64 = { type: 'INT64' } as const;
const DOUBLE = { type: 'DOUBLE' } as const;
const TEXT = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;

/** The columns in lerobot's order; slashes are part of the names. */
function episodeColumns(features: readonly Feature[]): Column[] {
  const videos = features.filter((feature) => feature.dtype === 'video');
  return [
    listColumn('episode_index', 0, INT64),
    listColumn('tasks', 1, TEXT),
    listColumn('length', 0, INT64),
    listColumn('data/chunk_index', 0, INT64),
    listColumn('data/file_index', 0, INT64),
    listColumn('dataset_from_index', 0, INT64),
    listColumn('dataset_to_index', 0, INT64),
    ...videos.flatMap(({ key }) => [
      listColumn(`videos/${key}/chunk_index`, 0, INT64),
      listColumn(`videos/${key}/file_index`, 0, INT64),
      listColumn(`videos/${key}/from_timestamp`, 0, DOUBLE),
      listColumn(`videos/${key}/to_timestamp`, 0, DOUBLE),
    ]),
    ...statColumns(features),
    listColumn('meta/episodes/chunk_index', 0, INT64),
    listColumn('meta/episodes/file_index', 0, INT64),
  ];
}

/** Writes `meta/episodes`: one row an episode, a new file once the current one has reached the size limit. */
export class EpisodesTable {
  readonly #features: readonly Feature[];
  readonly #fps: number;
  readonly #scratch: string;
  readonly #emit: Emit;
  #at: ChunkFile = { chunk: 0, file: 0 };
  #file: ParquetFile | undefined;
  #buffer = new Map<string, unknown[]>();
  #buffered = 0;

  constructor(features: readonly Feature[], fps: number, scratch: string, emit: Emit) {
    this.#features = features;
    this.#fps = fps;
    this.#scratch = scratch;
    this.#emit = emit;
  }

  async add(row: EpisodeRow): Promise<void> {
    if (this.#buffered === 0 && this.#file && this.#file.bytes >= DATA_FILES_SIZE_MB * 1024 * 1024) {
      await this.#close();
      this.#at = nextPlace(this.#at);
    }
    for (const [name, value] of this.#cells(row)) {
      const column = this.#buffer.get(name);
      if (column) column.push(value);
      else this.#buffer.set(name, [value]);
    }
    this.#buffered += 1;
    if (this.#buffered >= GROUP_ROWS) await this.#flush();
  }

  async finish(): Promise<void> {
    await this.#close();
  }

  async abort(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.abort();
  }

  /** Times are computed from frame numbers: from = first/fps, to = (first + frames)/fps. */
  #cells(row: EpisodeRow): [string, unknown][] {
    const videos = this.#features.filter((feature) => feature.dtype === 'video');
    return [
      ['episode_index', BigInt(row.episode)],
      ['tasks', row.tasks],
      ['length', BigInt(row.frames)],
      ['data/chunk_index', BigInt(row.data.chunk)],
      ['data/file_index', BigInt(row.data.file)],
      ['dataset_from_index', BigInt(row.from)],
      ['dataset_to_index', BigInt(row.from + row.frames)],
      ...videos.flatMap(({ key }): [string, unknown][] => {
        const video = row.videos.get(key);
        if (!video) throw new Error(`episode ${row.episode} has no video of ${key}`);
        return [
          [`videos/${key}/chunk_index`, BigInt(video.place.chunk)],
          [`videos/${key}/file_index`, BigInt(video.place.file)],
          [`videos/${key}/from_timestamp`, video.firstFrame / this.#fps],
          [`videos/${key}/to_timestamp`, (video.firstFrame + row.frames) / this.#fps],
        ];
      }),
      ...statFeatures(this.#features).flatMap((feature) => {
        const stats = row.stats[feature.key];
        if (!stats) throw new Error(`episode ${row.episode} has no statistics of ${feature.key}`);
        return statCells(feature, stats);
      }),
      ['meta/episodes/chunk_index', BigInt(this.#at.chunk)],
      ['meta/episodes/file_index', BigInt(this.#at.file)],
    ];
  }

  get #local(): string {
    return join(this.#scratch, `episodes-${this.#at.chunk}-${this.#at.file}.parquet`);
  }

  async #flush(): Promise<void> {
    if (this.#buffered === 0) return;
    this.#file ??= await ParquetFile.create(this.#local, episodeColumns(this.#features));
    const rows = this.#buffer;
    this.#buffer = new Map();
    this.#buffered = 0;
    await this.#file.write(rows);
  }

  async #close(): Promise<void> {
    await this.#flush();
    const file = this.#file;
    if (!file) return;
    await file.finish();
    this.#file = undefined;
    await this.#emit({ path: episodesPath(this.#at), type: 'parquet', body: { path: this.#local } });
    await rm(this.#local, { force: true });
  }
}
