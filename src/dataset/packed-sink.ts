import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DataPacker, type Emit } from './data-packer.ts';
import type { DatasetSink, NumberedEpisode } from './dataset-sink.ts';
import type { DatasetSummary } from './dataset-summary.ts';
import { EpisodesTable } from './episodes-table.ts';
import { datasetInfo } from './info.ts';
import { jsonText } from './json-text.ts';
import { type ChunkFile, INFO_PATH, STATS_PATH, TASKS_PATH } from './layout.ts';
import type { RowGroupData } from './parquet.ts';
import { writeTasks } from './tasks-table.ts';
import type { DatasetFiles } from './types.ts';
import type { VideoPlace } from './video-packer.ts';
import { VideoPlaces } from './video-places.ts';

/** LeRobot v3.0: many episodes a file, videos where the conversions put them or joined. */
export class PackedSink implements DatasetSink {
  readonly #summary: DatasetSummary;
  readonly #scratch: string;
  readonly #emit: Emit;
  readonly #packer: DataPacker;
  readonly #table: EpisodesTable;
  readonly #videos: VideoPlaces;
  #place: ChunkFile = { chunk: 0, file: 0 };
  /** Where the videos of the current recording's episodes lie. */
  #videoPlaces: readonly ReadonlyMap<string, VideoPlace>[] = [];

  constructor(
    summary: DatasetSummary,
    scratch: string,
    emit: Emit,
    from: { files: DatasetFiles; signal: AbortSignal },
  ) {
    this.#summary = summary;
    this.#scratch = scratch;
    this.#emit = emit;
    this.#packer = new DataPacker(summary.features, scratch, emit);
    this.#table = new EpisodesTable(summary.features, summary.fps, scratch, emit);
    this.#videos = new VideoPlaces(summary, { scratch, emit, ...from });
  }

  get stalePrefixes(): readonly string[] {
    return ['data/', 'meta/episodes/', ...(this.#videos.packs ? ['videos/'] : [])];
  }

  async startEpisode(_: number, frames: number): Promise<void> {
    this.#place = await this.#packer.startEpisode(frames);
  }

  write(rows: RowGroupData): Promise<void> {
    return this.#packer.write(rows);
  }

  async endEpisode({ episode, part, from, manifest, position, stats }: NumberedEpisode): Promise<void> {
    const { tasks, frames } = part;
    if (position === 0) this.#videoPlaces = await this.#videos.add(manifest);
    await this.#table.add({
      episode,
      tasks,
      frames,
      data: this.#place,
      from,
      videos: this.#videoPlaces[position] ?? new Map(),
      stats,
    });
  }

  async finishTables(stats: Record<string, unknown>): Promise<void> {
    await this.#videos.finish();
    await this.#packer.finish();
    await this.#table.finish();
    const path = join(this.#scratch, 'tasks.parquet');
    await writeTasks(path, this.#summary.tasks);
    await this.#emit({ path: TASKS_PATH, type: 'parquet', body: { path } });
    await rm(path, { force: true });
    await this.#emit({ path: STATS_PATH, type: 'meta', body: { bytes: jsonText(stats) } });
  }

  async finishInfo(): Promise<void> {
    const { fps, robotType, features, videoInfos, episodes, frames, tasks } = this.#summary;
    const info = datasetInfo({ fps, robotType, features, videoInfos, episodes, frames, tasks: tasks.length });
    await this.#emit({ path: INFO_PATH, type: 'meta', body: { bytes: jsonText(info) } });
  }

  async abort(): Promise<void> {
    await this.#packer.abort();
    await this.#table.abort();
  }
}
