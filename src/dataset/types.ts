import type { AlignmentReport, Feature } from '../frame/types.ts';

/** How videos are encoded. Codec words of the config; `encoder` names an FFmpeg encoder when it is not the usual one. */
export type VideoSettings = {
  readonly codec: 'h264' | 'hevc' | 'av1' | (string & {});
  readonly crf: number;
  readonly gop: number;
  readonly preset: string;
  readonly pixFmt: string;
  /** Keeps every pixel (hevc only: depth). */
  readonly lossless?: boolean;
  /** Threads of each encoder. */
  readonly threads?: number | undefined;
};

/** The statistics of one feature, LeRobot's words. Cameras: one number a channel, in [0, 1]. */
export type FeatureStats = {
  readonly min: readonly number[];
  readonly max: readonly number[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Rows for vectors, sampled frames for cameras. */
  readonly count: number;
  readonly q01: readonly number[];
  readonly q10: readonly number[];
  readonly q50: readonly number[];
  readonly q90: readonly number[];
  readonly q99: readonly number[];
};

/** Versions of the LeRobot format that can be written. */
export type DatasetFormat = 'v3.0' | 'v2.1';

/** A file of an episode, path relative to the dataset root once it is published. */
export type EpisodeFile = {
  readonly path: string;
  readonly type: 'parquet' | 'video' | 'meta';
  readonly bytes: number;
  readonly sha256: string;
  /** Feature key of a video. */
  readonly feature?: string;
  /** Episode of the recording that a video holds; without it the video holds all of them. */
  readonly episode?: number;
  /** Rows or frames in it. */
  readonly frames: number;
};

/** A file a conversion wrote, before it is given its place in the dataset. */
export type WrittenFile = {
  readonly localPath: string;
  readonly type: 'parquet' | 'video';
  /** Feature key of a video. */
  readonly feature?: string;
  /** Episode of the recording that a video holds; without it the video holds all of them. */
  readonly episode?: number;
  readonly bytes: number;
  readonly sha256: string;
  /** Rows or frames in it. */
  readonly frames: number;
};

/** What a conversion wrote for one recording. */
export type Written = {
  readonly parts: readonly EpisodePart[];
  readonly files: readonly WrittenFile[];
  /** `info` of each video feature for `info.json`, by key. */
  readonly videoInfo: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Encoder program and encoder; null without videos. */
  readonly encoder: string | null;
  /** By camera: pictures that did not decode and show the picture before them (cameras without any left out). */
  readonly repeated: Readonly<Record<string, number>>;
  /** By depth camera: depths farther away than can be stored (cameras without any left out). */
  readonly beyond: Readonly<Record<string, number>>;
  /** By vector: integers that 32-bit floats round (vectors without any left out). */
  readonly rounded: Readonly<Record<string, number>>;
};

/** One LeRobot episode of a recording. */
export type EpisodePart = {
  readonly frames: number;
  /** Distinct tasks in order of appearance. */
  readonly tasks: readonly string[];
  /** First frame within the recording's video and parquet files. */
  readonly firstFrame: number;
  /** Timeline of the recording covered, ns as decimal text. */
  readonly startTime: string;
  readonly endTime: string;
  /** By feature key, the default columns included (index and episode_index are completed when the dataset is finalized). */
  readonly stats: Readonly<Record<string, FeatureStats>>;
  /** By camera and channel: 256 counts of sampled 8-bit values, from which dataset-wide statistics are exact. */
  readonly histograms: Readonly<Record<string, readonly (readonly number[])[]>>;
};

/** A camera's calibration as recorded, before crop, resize and rotation; matrices by rows, [] where not given. */
export type CameraIntrinsics = {
  readonly topic: string;
  readonly width: number;
  readonly height: number;
  readonly distortionModel: string;
  /** Distortion parameters of the model. */
  readonly d: readonly number[];
  /** Intrinsic matrix, 3×3. */
  readonly k: readonly number[];
  /** Rectification matrix, 3×3. */
  readonly r: readonly number[];
  /** Projection matrix, 3×4. */
  readonly p: readonly number[];
};

/**
 * The proof that a recording is converted: written last, a pure function of recording, config and converter version.
 * A recording without a manifest does not exist for finalize.
 */
export type EpisodeManifest = {
  readonly version: 1;
  /** Format the files are made for; default v3.0. */
  readonly format?: DatasetFormat;
  /** Ledger key: file name of the manifest without `.json`; letters, digits, `-`, `_`. */
  readonly key: string;
  /** Number under which its videos lie. */
  readonly slot: number;
  /** How many conversions of this recording came before, each with files of its own; none when not given. */
  readonly edition?: number;
  readonly source: { readonly url: string; readonly size: number; readonly etag: string };
  readonly configHash: string;
  /** Version of this product, and of the encoder program. */
  readonly converter: { readonly version: string; readonly encoder: string | null };
  readonly fps: number;
  readonly robotType: string | null;
  readonly features: readonly Feature[];
  /** `info` of each video feature for info.json, by key. */
  readonly videoInfo: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** By coded camera, where the config allows copying: whether its pictures were taken over, or why not. */
  readonly copies?: Readonly<Record<string, { readonly copied: boolean; readonly reason?: string }>>;
  /** By camera feature, where the recording has a calibration. */
  readonly intrinsics?: Readonly<Record<string, CameraIntrinsics>>;
  readonly episodes: readonly EpisodePart[];
  readonly files: readonly EpisodeFile[];
  readonly alignment: AlignmentReport;
  readonly losses: readonly { readonly what: string; readonly count?: number; readonly bytes?: number }[];
};

/** One statement of `verify` about a dataset. */
export type Check = { readonly id: string; readonly ok: boolean; readonly message: string };

/** Read access to a dataset's files; `Storage` fits by shape. */
export interface DatasetFiles {
  list(prefix: string): AsyncIterable<{ readonly key: string; readonly size: number }>;
  head(path: string): Promise<{ readonly size: number } | undefined>;
  open(path: string): Promise<{
    size(): Promise<bigint>;
    read(offset: bigint, length: bigint): Promise<Uint8Array>;
    close(): Promise<void>;
  }>;
}
