import { join } from 'node:path';
import { asCanceled, InputError, throwIfAborted } from '../errors.ts';
import type { AlignedFrame, Feature } from '../frame/types.ts';
import type { VideoMetrics } from '../metrics/video.ts';
import { encoderName } from './encoder-options.ts';
import { findFfmpeg } from './ffmpeg.ts';
import { videoInfo } from './info.ts';
import { hashFile } from './local-file.ts';
import type { PictureHistogram } from './picture-histogram.ts';
import { nearestCandidates, sampleIndices } from './picture-sampling.ts';
import { StagedTable } from './staged-table.ts';
import { pictureStats } from './stats.ts';
import type { EpisodePart, FeatureStats, VideoSettings, Written, WrittenFile } from './types.ts';
import { VideoEncoder, type EncodedVideo } from './video.ts';

/** What a writer is given. */
export type DatasetWriterOptions = {
  /** Existing empty folder for the files; removing it is the caller's. */
  readonly dir: string;
  readonly fps: number;
  readonly features: readonly Feature[];
  readonly video: VideoSettings;
  /** Rows expected when the recording is one episode: decides which pictures are sampled for statistics. */
  readonly expectedFrames: number;
  /** The recording may be cut into several episodes, whose lengths are not known beforehand. */
  readonly split?: boolean;
  readonly signal: AbortSignal;
  readonly metrics: VideoMetrics;
  /** Program to encode with; default `ffmpeg` on PATH. */
  readonly ffmpeg?: string;
  /** Told the bytes now waiting for the encoders whenever their number changes. */
  readonly onBuffered?: (bytes: number) => void;
};

type Episode = {
  readonly first: number;
  readonly frames: number;
  readonly tasks: readonly string[];
  readonly startTime: bigint;
  readonly endTime: bigint;
};

/**
 * Writes what one recording adds to a dataset: one table, and one video a camera, over all its episodes.
 * `addFrame` … `saveEpisode`, as often as there are episodes, then `finish`. The files are a pure function of the
 * frames and settings. After an error, `abort` gives back processes and handles; it may be called in every state.
 */
export class DatasetWriter {
  readonly #options: DatasetWriterOptions;
  readonly #table: StagedTable;
  readonly #tablePath: string;
  readonly #encoders = new Map<string, { encoder: VideoEncoder; path: string }>();
  readonly #tasks: string[] = [];
  readonly #episodes: Episode[] = [];
  #episodeTasks = new Set<string>();
  #buffered = 0;
  #state: 'open' | 'finished' | 'aborted' = 'open';

  private constructor(options: DatasetWriterOptions, table: StagedTable, tablePath: string) {
    this.#options = options;
    this.#table = table;
    this.#tablePath = tablePath;
    const { dir, fps, features, video, signal, metrics, ffmpeg, split } = options;
    features
      .filter((feature) => feature.dtype === 'video')
      .forEach((feature, i) => {
        const path = join(dir, `camera-${i}.mp4`);
        const encoder = new VideoEncoder({
          feature,
          path,
          fps,
          settings: video,
          signal,
          metrics,
          ffmpeg,
          expectedFrames: split ? undefined : options.expectedFrames,
          onQueued: (bytes) => {
            this.#buffered += bytes;
            options.onBuffered?.(this.#buffered);
          },
        });
        this.#encoders.set(feature.key, { encoder, path });
      });
  }

  /** Opens a writer. Throws `EncodeError` when videos are wanted and there is no FFmpeg. */
  static async create(options: DatasetWriterOptions): Promise<DatasetWriter> {
    throwIfAborted(options.signal);
    const image = options.features.find((feature) => feature.dtype === 'image');
    if (image) throw new InputError(`${image.key}: image columns are not supported, use type "video"`);
    if (options.features.some((feature) => feature.dtype === 'video')) await findFfmpeg(options.ffmpeg);
    const path = join(options.dir, 'staged.parquet');
    const table = await StagedTable.create(path, options.fps, options.features);
    try {
      return new DatasetWriter(options, table, path);
    } catch (error) {
      await table.abort();
      throw error;
    }
  }

  /** Appends one row with its task; resolves when there is room for the next one. */
  async addFrame(frame: AlignedFrame, task: string): Promise<void> {
    this.#use();
    if (task === '')
      throw new InputError(`expected a task text for frame ${frame.index}, found an empty one`);
    let number = this.#tasks.indexOf(task);
    if (number < 0) number = this.#tasks.push(task) - 1;
    this.#episodeTasks.add(task);
    await this.#table.addRow(frame, number, new Map());
    await Promise.all(
      [...this.#encoders].map(async ([key, { encoder }]) => {
        const picture = frame.values.get(key);
        if (picture === undefined || typeof picture === 'string' || picture instanceof Float64Array) {
          throw new InputError(`${key}: expected a picture at frame ${frame.index}`);
        }
        await encoder.add(picture);
      }),
    );
  }

  /** Ends the episode that the frames since the last call make; times in ns on the recording's timeline. */
  async saveEpisode(range: { startTime: bigint; endTime: bigint }): Promise<void> {
    this.#use();
    const place = await this.#table.endEpisode();
    this.#episodes.push({ ...place, ...range, tasks: [...this.#episodeTasks] });
    this.#episodeTasks = new Set();
    for (const { encoder } of this.#encoders.values()) encoder.startEpisode();
  }

  /** Completes the files and reads them back for the counts and statistics. */
  async finish(): Promise<Written> {
    this.#use();
    if (this.#episodes.length === 0) throw new InputError('no rows: not a single frame could be made');
    const { video, fps, ffmpeg } = this.#options;
    const videos = new Map<string, EncodedVideo>();
    const [tableStats] = await Promise.all([
      this.#table.finish(),
      ...[...this.#encoders].map(async ([key, { encoder }]) => videos.set(key, await encoder.finish())),
    ]);
    this.#state = 'finished';
    const cameras = [...this.#encoders].map(([key, { path }]) => ({
      key,
      path,
      ...(videos.get(key) as EncodedVideo),
    }));
    const files: WrittenFile[] = [
      {
        localPath: this.#tablePath,
        type: 'parquet',
        frames: this.#table.rows,
        ...(await hashFile(this.#tablePath)),
      },
    ];
    for (const { key, path, video: written } of cameras) {
      files.push({
        localPath: path,
        type: 'video',
        feature: key,
        frames: written.frames,
        ...(await hashFile(path)),
      });
    }
    const parts = this.#episodes.map((episode, i): EpisodePart => {
      const stats: Record<string, FeatureStats> = {};
      const histograms: Record<string, number[][]> = {};
      for (const feature of this.#options.features) {
        const own = tableStats[i]?.get(feature.key);
        if (own) stats[feature.key] = own;
        const samples = videos.get(feature.key)?.samples;
        if (!samples) continue;
        const { channels, count } = poolSamples(feature.key, samples, episode);
        histograms[feature.key] = channels;
        stats[feature.key] = pictureStats(channels, count);
      }
      for (const [key, own] of tableStats[i] ?? []) stats[key] ??= own;
      return {
        frames: episode.frames,
        tasks: episode.tasks,
        firstFrame: episode.first,
        startTime: String(episode.startTime),
        endTime: String(episode.endTime),
        stats,
        histograms,
      };
    });
    const infos = cameras.map(({ key, video: written }) => [key, videoInfo(written, fps, video)]);
    const repeated = cameras.filter((camera) => camera.repeated > 0).map(({ key, repeated: n }) => [key, n]);
    const program = cameras.length > 0 ? (await findFfmpeg(ffmpeg)).version : undefined;
    return {
      parts,
      files,
      videoInfo: Object.fromEntries(infos),
      encoder: program === undefined ? null : `${program} ${encoderName(video.codec)}`,
      repeated: Object.fromEntries(repeated),
    };
  }

  /** Kills the encoders and closes the files as they are. */
  async abort(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    await Promise.all([...this.#encoders.values()].map(({ encoder }) => encoder.abort()));
    await this.#table.abort();
  }

  #use(): void {
    if (this.#options.signal.aborted) throw asCanceled(this.#options.signal.reason);
    if (this.#state !== 'open') throw new Error(`the writer is ${this.#state}`);
  }
}

/** Adds up the histograms of the pictures that the statistics of an episode are made of. */
function poolSamples(
  key: string,
  samples: ReadonlyMap<number, PictureHistogram>,
  { first, frames }: { first: number; frames: number },
): { channels: number[][]; count: number } {
  const candidates = [...samples.keys()].filter((frame) => frame >= first && frame < first + frames);
  if (candidates.length === 0) {
    throw new InputError(`${key}: no picture of frames ${first} to ${first + frames - 1} could be decoded`);
  }
  const targets = sampleIndices(frames).map((index) => first + index);
  const chosen = nearestCandidates(targets, candidates);
  const channels: number[][] = [];
  for (const frame of chosen) {
    samples.get(frame)?.forEach((counts, channel) => {
      const sum = (channels[channel] ??= Array.from({ length: 256 }, () => 0));
      counts.forEach((count, value) => {
        sum[value] = (sum[value] ?? 0) + count;
      });
    });
  }
  return { channels, count: chosen.length };
}
