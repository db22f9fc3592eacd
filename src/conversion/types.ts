import type { Misfit } from '../dataset/agreement.ts';
import type { EpisodeManifest } from '../dataset/types.ts';
import type { Metrics } from '../metrics/index.ts';
import type { RecordingFilesOptions } from '../storage/recording-files.ts';
import type { Storage, UploadStats } from '../storage/types.ts';
import type { DatasetConfig } from './config.ts';

/** Where a job is. */
export type Stage = 'plan' | 'convert' | 'verify' | 'upload';

/** Progress of one conversion; `fraction` is over all stages, 0–1. */
export type Progress = {
  readonly stage: Stage;
  readonly fraction: number;
  readonly frames: number;
  readonly expectedFrames: number;
};

/** The logger handed down; pino's shape. */
export type Log = {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
};

/** One recording to convert. */
export type ConversionRequest = {
  /** URL (`file:`, `s3:`) or local path of a recording (a file, or a rosbag2 folder). */
  readonly source: string;
  readonly config: DatasetConfig;
  /** Task text of this recording; wins over the config's. */
  readonly task?: string;
  /** Ledger key (letters, digits, `-`, `_`) and video slot, both given by the planner. */
  readonly key: string;
  readonly slot: number;
};

/** What a conversion is given beside the request: no environment, no queue. */
export type ConversionContext = {
  readonly output: Storage;
  /** How source stores are reached. */
  readonly sources?: Omit<RecordingFilesOptions, 'metrics' | 'signal'>;
  /**
   * Folder of this job's attempts, beside those of other jobs; created by the conversion. It is removed at the end,
   * unless the upload was interrupted and another attempt will follow (`retryFollows`, or a shutdown): then the verified
   * files stay for it, as long as those of all jobs take no more than `scratchKeepBytes` (default 2 GiB).
   */
  readonly scratch: string;
  readonly scratchKeepBytes?: number;
  readonly retryFollows?: boolean;
  /** Bound of decoded data in memory, bytes. */
  readonly bufferMaxBytes: number;
  readonly upload: { readonly concurrency: number; readonly maxAttempts: number };
  readonly metrics: Metrics;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /** Told how long each stage took, also the one in which the job failed. */
  readonly onStageEnd?: (stage: Stage, seconds: number) => void;
};

/** `skipped`: the manifest of the same content and config was there already. */
export type ConversionResult = {
  readonly outcome: 'completed' | 'skipped';
  readonly manifest: EpisodeManifest;
  readonly upload: UploadStats;
};

/** What finalize is asked to publish: the recordings whose manifests hold, in plan order. */
export type FinalizeRequest = {
  readonly datasetId: string;
  readonly runId: string;
  readonly config: DatasetConfig;
  /** Ledger keys of the manifests under `.roboflow/episodes/`, in plan order; never empty. */
  readonly keys: readonly string[];
  /** Those of them whose recordings were tried again since, and failed. */
  readonly outdated?: ReadonlySet<string>;
};

/** What finalize is given beside the request. */
export type FinalizeContext = Omit<ConversionContext, 'bufferMaxBytes' | 'onProgress'>;

/** What finalize made of a dataset. */
export type FinalizeResult = {
  readonly episodes: number;
  readonly frames: number;
  readonly tasks: number;
  /** Recordings that do not fit to the others, and were left out: none with `publish: complete`. */
  readonly misfits: readonly Misfit[];
};
