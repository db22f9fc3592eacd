import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../errors.ts';
import { dataColumns, featureColumn, huggingfaceFooter, statFeatures } from './columns.ts';
import type { Emit } from './data-packer.ts';
import type { DatasetSink, NumberedEpisode } from './dataset-sink.ts';
import type { DatasetSummary } from './dataset-summary.ts';
import { featureInfos } from './info.ts';
import { floatsText, jsonText } from './json-text.ts';
import {
  CHUNKS_SIZE,
  INFO_PATH,
  V21_DATA_PATH,
  V21_EPISODES_PATH,
  V21_STATS_PATH,
  V21_TASKS_PATH,
  V21_VIDEO_PATH,
  v21DataPath,
  v21VideoPath,
} from './layout.ts';
import { copyToLocal } from './local-copy.ts';
import { ParquetFile, type RowGroupData } from './parquet.ts';
import { statValue } from './stats-form.ts';
import type { DatasetFiles } from './types.ts';

const V21_STATS = ['min', 'max', 'mean', 'std', 'count'] as const;

/** LeRobot v2.1: one table and one video a camera for every episode, lines of JSON beside them. */
export class V21Sink implements DatasetSink {
  readonly stalePrefixes = ['data/', 'videos/'];
  readonly #summary: DatasetSummary;
  readonly #scratch: string;
  readonly #emit: Emit;
  readonly #files: DatasetFiles;
  readonly #signal: AbortSignal;
  readonly #lines = new Map<string, FileHandle>();
  #table: ParquetFile | undefined;

  constructor(
    summary: DatasetSummary,
    scratch: string,
    emit: Emit,
    from: { files: DatasetFiles; signal: AbortSignal },
  ) {
    this.#summary = summary;
    this.#scratch = scratch;
    this.#emit = emit;
    this.#files = from.files;
    this.#signal = from.signal;
  }

  async startEpisode(): Promise<void> {
    const columns = dataColumns(this.#summary.features);
    // The readers of v2.1 know lists as "Sequence" only.
    const footer = { huggingface: huggingfaceFooter(columns, 'Sequence') };
    this.#table = await ParquetFile.create(
      this.#local('episode.parquet'),
      columns.map(featureColumn),
      footer,
    );
  }

  async write(rows: RowGroupData): Promise<void> {
    if (!this.#table) throw new Error('no episode was started');
    await this.#table.write(rows);
  }

  async endEpisode({ episode, manifest, position, part, stats }: NumberedEpisode): Promise<void> {
    const table = this.#local('episode.parquet');
    await this.#table?.finish();
    this.#table = undefined;
    await this.#emit({ path: v21DataPath(episode), type: 'parquet', body: { path: table } });
    for (const { key, dtype } of this.#summary.features) {
      if (dtype !== 'video') continue;
      const video = manifest.files.find((file) => file.feature === key && (file.episode ?? 0) === position);
      if (!video || video.frames !== part.frames) {
        throw new InputError(`${manifest.key} has no video of its own of ${key} for episode ${position}`);
      }
      const copy = this.#local('episode.mp4');
      await copyToLocal(this.#files, video.path, copy, this.#signal);
      await this.#emit({ path: v21VideoPath(key, episode), type: 'video', body: { path: copy } });
    }
    const line = { episode_index: episode, tasks: part.tasks, length: part.frames };
    await this.#line(V21_EPISODES_PATH, JSON.stringify(line));
    const own = statFeatures(this.#summary.features).map((feature) => {
      const each = stats[feature.key];
      if (!each) throw new Error(`episode ${episode} has no statistics of ${feature.key}`);
      const values = V21_STATS.map((name) => {
        const value = statValue(feature, each, name);
        return `"${name}":${name === 'count' ? JSON.stringify(value) : floatsText(value)}`;
      });
      return `${JSON.stringify(feature.key)}:{${values.join(',')}}`;
    });
    await this.#line(V21_STATS_PATH, `{"episode_index":${episode},"stats":{${own.join(',')}}}`);
  }

  async finishTables(): Promise<void> {
    for (const [index, task] of this.#summary.tasks.entries()) {
      await this.#line(V21_TASKS_PATH, JSON.stringify({ task_index: index, task }));
    }
    for (const path of [V21_TASKS_PATH, V21_EPISODES_PATH, V21_STATS_PATH]) {
      const local = this.#local(path);
      await this.#lines.get(path)?.close();
      this.#lines.delete(path);
      await this.#emit({ path, type: 'meta', body: { path: local } });
      await rm(local, { force: true });
    }
    await rm(this.#local('episode.parquet'), { force: true });
    await rm(this.#local('episode.mp4'), { force: true });
  }

  async finishInfo(): Promise<void> {
    const { fps, robotType, features, videoInfos, episodes, frames, tasks } = this.#summary;
    const videos = features.filter((feature) => feature.dtype === 'video').length;
    const info = {
      codebase_version: 'v2.1',
      robot_type: robotType,
      total_episodes: episodes,
      total_frames: frames,
      total_tasks: tasks.length,
      total_videos: episodes * videos,
      total_chunks: Math.ceil(episodes / CHUNKS_SIZE),
      chunks_size: CHUNKS_SIZE,
      fps,
      splits: { train: `0:${episodes}` },
      data_path: V21_DATA_PATH,
      video_path: videos > 0 ? V21_VIDEO_PATH : null,
      features: featureInfos(features, Object.fromEntries(Object.entries(videoInfos).map(shortInfo))),
    };
    await this.#emit({ path: INFO_PATH, type: 'meta', body: { bytes: jsonText(info) } });
  }

  async abort(): Promise<void> {
    const table = this.#table;
    this.#table = undefined;
    await table?.abort();
    for (const handle of this.#lines.values()) await handle.close();
    this.#lines.clear();
  }

  #local(path: string): string {
    return join(this.#scratch, path.replaceAll('/', '-'));
  }

  async #line(path: string, text: string): Promise<void> {
    let handle = this.#lines.get(path);
    if (!handle) this.#lines.set(path, (handle = await open(this.#local(path), 'w')));
    await handle.appendFile(`${text}\n`);
  }
}

/** What v2.1 says about a video: the stream, not how it was encoded. */
function shortInfo([key, info]: [string, Readonly<Record<string, unknown>>]): [
  string,
  Record<string, unknown>,
] {
  const names = ['height', 'width', 'codec', 'pix_fmt', 'fps', 'channels'].map((name) => `video.${name}`);
  const stream = names.map((name): [string, unknown] => [name, info[name]]);
  return [key, { ...Object.fromEntries(stream), 'video.is_depth_map': false, has_audio: false }];
}
