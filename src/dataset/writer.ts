import { join } from 'node:path';
import { asCanceled, InputError, throwIfAborted } from '../errors.ts';
import type { AlignedFrame, Feature } from '../frame/types.ts';
import type { VideoMetrics } from '../metrics/video.ts';
import type { CameraTrack, FinishedCamera, FinishedVideo } from './camera-track.ts';
import { isCamera } from './columns.ts';
import { type CopiedCamera, CopyTrack } from './copy-track.ts';
import { DepthImages } from './depth-images.ts';
import { DEPTH_VIDEO, DepthTrack } from './depth-track.ts';
import { encoderName, encoderThreads } from './encoder-options.ts';
import { checkEncoder } from './encoders.ts';
import { findFfmpeg } from './ffmpeg.ts';
import { ImageTrack } from './image-track.ts';
import { hashFile } from './local-file.ts';
import { StagedTable } from './staged-table.ts';
import { EpisodeVideos } from './episode-videos.ts';
import type {
  DatasetFormat,
  EpisodePart,
  FeatureStats,
  VideoSettings,
  Written,
  WrittenFile,
} from './types.ts';
import type { EncoderOptions } from './video.ts';
import { VideoTrack } from './video-track.ts';

/** What a writer is given. */
export type DatasetWriterOptions = {
  /** Existing empty folder for the files; removing it is the caller's. */
  readonly dir: string;
  readonly fps: number;
  readonly features: readonly Feature[];
  /** Without `threads` every camera's encoder has its share of them. */
  readonly video: VideoSettings;
  /** Rows expected when the recording is one episode: decides which pictures are sampled for statistics. */
  readonly expectedFrames: number;
  /** Format the files are for. Default v3.0. */
  readonly format?: DatasetFormat;
  /** Each episode gets a video of its own, as v2.1 wants it. */
  readonly apart?: boolean;
  /** The recording may be cut into several episodes, whose lengths are not known beforehand. */
  readonly split?: boolean;
  /** Video features whose coded pictures are taken over as they are. */
  readonly copied?: ReadonlyMap<string, CopiedCamera>;
  readonly signal: AbortSignal;
  readonly metrics: VideoMetrics;
  /** Program to encode with; default `ffmpeg` on PATH. */
  readonly ffmpeg?: string;
  /** Told the bytes now waiting for the encoders whenever their number changes. */
  readonly onBuffered?: (bytes: number) => void;
  /** Told of every file once it is complete and will not change any more, which may be long before `finish` ends. */
  readonly onFile?: ((file: WrittenFile) => void) | undefined;
};

type Episode = {
  readonly first: number;
  readonly frames: number;
  readonly tasks: readonly string[];
  readonly startTime: bigint;
  readonly endTime: bigint;
};

/**
 * Writes what one recording adds to a dataset: one table, and one video a camera, over all its episodes
 * or one for each.
 * `addFrame` … `saveEpisode`, as often as there are episodes, then `finish`. The files are a pure function of the
 * frames and settings. After an error, `abort` gives back processes and handles; it may be called in every state.
 */
export class DatasetWriter {
  readonly #options: DatasetWriterOptions;
  readonly #table: StagedTable;
  readonly #tablePath: string;
  readonly #cameras = new Map<string, CameraTrack>();
  readonly #tasks: string[] = [];
  readonly #episodes: Episode[] = [];
  /** Complete files by path, as soon as they are hashed. */
  readonly #closed = new Map<string, Promise<WrittenFile>>();
  #episodeTasks = new Set<string>();
  #buffered = 0;
  #state: 'open' | 'finished' | 'aborted' = 'open';

  private constructor(options: DatasetWriterOptions, table: StagedTable, tablePath: string) {
    this.#options = options;
    this.#table = table;
    this.#tablePath = tablePath;
    options.features.filter(isCamera).forEach((feature, i) => {
      this.#cameras.set(feature.key, this.#createCamera(feature, join(options.dir, `camera-${i}.mp4`)));
    });
  }

  /** Opens a writer. Throws `EncodeError` when there is no FFmpeg with the encoders that the videos need. */
  static async create(options: DatasetWriterOptions): Promise<DatasetWriter> {
    throwIfAborted(options.signal);
    const depth = options.features.find((feature) => feature.camera?.depthUnit !== undefined);
    if (depth && options.format === 'v2.1') {
      throw new InputError(`${depth.key}: LeRobot v2.1 has no depth, use format v3.0`);
    }
    for (const { camera } of encodedCameras(options)) {
      const settings = camera?.depthUnit === undefined ? options.video : DEPTH_VIDEO;
      await checkEncoder(settings, options.ffmpeg);
    }
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
    const stored = new Map<string, Uint8Array>();
    await Promise.all(
      [...this.#cameras].map(async ([key, camera]) => {
        const picture = frame.values.get(key);
        if (picture === undefined || typeof picture === 'string' || picture instanceof Float64Array) {
          throw new InputError(`${key}: expected a picture at frame ${frame.index}`);
        }
        const bytes = await camera.add(picture);
        if (bytes) stored.set(key, bytes);
      }),
    );
    await this.#table.addRow(frame, number, stored);
  }

  /** Ends the episode that the frames since the last call make; times in ns on the recording's timeline. */
  async saveEpisode(range: { startTime: bigint; endTime: bigint }): Promise<void> {
    this.#use();
    const place = await this.#table.endEpisode();
    this.#episodes.push({ ...place, ...range, tasks: [...this.#episodeTasks] });
    this.#episodeTasks = new Set();
    for (const camera of this.#cameras.values()) camera.startEpisode();
  }

  /** Completes the files and reads them back for the counts and statistics. */
  async finish(): Promise<Written> {
    this.#use();
    if (this.#episodes.length === 0) throw new InputError('no rows: not a single frame could be made');
    const { ffmpeg, features } = this.#options;
    const finished = new Map<string, FinishedCamera>();
    const [tableStats] = await Promise.all([
      this.#table.finish().then(async (stats) => {
        await this.#closeTable();
        return stats;
      }),
      ...[...this.#cameras].map(async ([key, camera]) => {
        const done = await camera.finish();
        finished.set(key, done);
        await Promise.all(done.videos.map((video) => this.#closeVideo(key, video)));
      }),
    ]);
    this.#state = 'finished';
    const videos = features.flatMap(({ key }) =>
      (finished.get(key)?.videos ?? []).map((video) => ({ key, ...video })),
    );
    const files = [
      await this.#closeTable(),
      ...(await Promise.all(videos.map(({ key, ...video }) => this.#closeVideo(key, video)))),
    ];
    const parts: EpisodePart[] = [];
    for (const [i, episode] of this.#episodes.entries()) {
      parts.push(await episodePart(episode, features, tableStats[i], finished));
    }
    const repeated = [...finished].flatMap(([key, camera]) =>
      camera.repeated > 0 ? [[key, camera.repeated]] : [],
    );
    const program = videos.length > 0 ? (await findFfmpeg(ffmpeg)).version : undefined;
    return {
      parts,
      files,
      videoInfo: Object.fromEntries(videos.map(({ key, info }) => [key, info])),
      encoder: program === undefined ? null : `${program} ${this.#encoders()}`,
      repeated: Object.fromEntries(repeated) as Record<string, number>,
      beyond: Object.fromEntries(
        [...finished].flatMap(([key, { beyond = 0 }]) => (beyond > 0 ? [[key, beyond] as const] : [])),
      ),
      rounded: Object.fromEntries(this.#table.rounded),
    };
  }

  /** Kills the encoders and closes the files as they are. */
  async abort(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    await Promise.all([...this.#cameras.values()].map((camera) => camera.abort()));
    await this.#table.abort();
  }

  #closeTable(): Promise<WrittenFile> {
    return this.#close({ localPath: this.#tablePath, type: 'parquet', frames: this.#table.rows });
  }

  #closeVideo(feature: string, { path, frames, episode }: FinishedVideo): Promise<WrittenFile> {
    const place = episode === undefined ? {} : { episode };
    return this.#close({ localPath: path, type: 'video', feature, ...place, frames });
  }

  /** Hashes a complete file and tells of it, once. */
  #close(file: Omit<WrittenFile, 'bytes' | 'sha256'>): Promise<WrittenFile> {
    const known = this.#closed.get(file.localPath);
    if (known) return known;
    const closed = hashFile(file.localPath).then((hash) => {
      const written = { ...file, ...hash };
      this.#options.onFile?.(written);
      return written;
    });
    closed.catch(() => {}); // thrown by `finish`
    this.#closed.set(file.localPath, closed);
    return closed;
  }

  #createCamera(feature: Feature, path: string): CameraTrack {
    const { fps, video, signal, metrics, ffmpeg, split, onBuffered } = this.#options;
    const expectedFrames = split ? undefined : this.#options.expectedFrames;
    if (feature.dtype === 'image') {
      if (feature.camera?.depthUnit !== undefined) return new DepthImages({ feature, expectedFrames });
      return new ImageTrack({ feature, expectedFrames, samplesPath: `${path}.samples` });
    }
    const onQueued = (bytes: number) => {
      this.#buffered += bytes;
      onBuffered?.(this.#buffered);
    };
    const encoder = {
      feature,
      path,
      fps,
      settings: {
        ...video,
        threads: video.threads ?? encoderThreads(feature, encodedCameras(this.#options)),
      },
      expectedFrames,
      signal,
      metrics,
      ffmpeg,
      onQueued,
    };
    const copied = this.#options.copied?.get(feature.key);
    const open = (options: EncoderOptions) => {
      if (feature.camera?.depthUnit !== undefined) return new DepthTrack(options);
      return copied ? new CopyTrack(options, copied) : new VideoTrack(options);
    };
    if (!this.#options.apart) return open(encoder);
    return new EpisodeVideos(encoder, open, (video) => void this.#closeVideo(feature.key, video));
  }

  /** What made the videos: the encoder, unless all of them were copied. */
  #encoders(): string {
    return encodedCameras(this.#options).length > 0 ? encoderName(this.#options.video.codec) : 'copy';
  }

  #use(): void {
    if (this.#options.signal.aborted) throw asCanceled(this.#options.signal.reason);
    if (this.#state !== 'open') throw new Error(`the writer is ${this.#state}`);
  }
}

/** One episode of the manifest: statistics in the order of the features, default columns last. */
async function episodePart(
  { frames, first, tasks, startTime, endTime }: Episode,
  features: readonly Feature[],
  table: ReadonlyMap<string, FeatureStats> | undefined,
  cameras: ReadonlyMap<string, FinishedCamera>,
): Promise<EpisodePart> {
  const stats: Record<string, FeatureStats> = {};
  const histograms: Record<string, number[][]> = {};
  for (const { key } of features) {
    const camera = await cameras.get(key)?.statsOf({ first, frames });
    const own = camera?.stats ?? table?.get(key);
    if (own) stats[key] = own;
    if (camera?.histograms) histograms[key] = camera.histograms;
  }
  for (const [key, own] of table ?? []) stats[key] ??= own;
  const times = { startTime: String(startTime), endTime: String(endTime) };
  return { frames, tasks, firstFrame: first, ...times, stats, histograms };
}

/** Cameras that become videos by encoding. */
function encodedCameras({ features, copied }: DatasetWriterOptions): Feature[] {
  return features.filter(({ key, dtype }) => dtype === 'video' && !copied?.has(key));
}
