import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BatchOutcome } from './conversion/batch.ts';
import type { DatasetConfigInput } from './conversion/config.ts';
import type { Inspection } from './conversion/inspect.ts';
import type { FinalizeResult, Log, Progress } from './conversion/types.ts';
import type { Check, EpisodeManifest } from './dataset/types.ts';
import { InputError } from './errors.ts';
import type { Metrics } from './metrics/index.ts';
import { withReleasers } from './releasers.ts';
import { localError } from './storage/local-errors.ts';
import { resolveLocation } from './storage/location.ts';
import type { S3Settings } from './storage/types.ts';

/**
 * The package as a library: conversions in the calling process, without Redis, HTTP or environment variables.
 * Each function loads what it needs with its first call.
 *
 *     import { convert, inspect, verify } from 'roboflow-worker';
 */

export { CanceledError, EncodeError, InputError, StorageError } from './errors.ts';
export type { Check, DatasetConfigInput, EpisodeManifest, Inspection, Progress, S3Settings };

/** What every function takes. Paths are relative to the working directory; URLs are `file:` or `s3:`. */
export type AccessOptions = {
  /** How buckets are reached; what is left out comes from the AWS SDK's own chain. */
  readonly s3?: S3Settings;
  /** Stops the work, which then rejects with a `CanceledError`. */
  readonly signal?: AbortSignal;
};

export type ConvertOptions = AccessOptions & {
  /** The dataset config: an object, or the text of a YAML or JSON file. */
  readonly config: DatasetConfigInput | string;
  /** Folder or URL of the dataset; recordings are added to one that is there. */
  readonly out: string;
  /** Task of these recordings; wins over the config's. */
  readonly task?: string;
  /** Name of the dataset; default: the last part of `out`. */
  readonly datasetId?: string;
  /** Folder for files on their way; default: one of its own below the system's temporary folder. */
  readonly scratch?: string;
  /** Bound of decoded data in memory, bytes; default 256 MiB. */
  readonly bufferMaxBytes?: number;
  /** Default: 4 files at the same time, 5 tries each. */
  readonly upload?: { readonly concurrency: number; readonly maxAttempts: number };
  /** A pino-like logger; default: silence. */
  readonly log?: Log;
  /** Told how each recording goes on, a few times a second. */
  readonly onProgress?: (source: string, progress: Progress) => void;
  /** Told how each recording ended, at once. */
  readonly onRecording?: (recording: ConvertedRecording) => void;
};

/**
 * How one recording ended: `completed`, or `skipped` because the same content had been converted under the same config,
 * with the manifest of its episodes; or `failed` with the reason.
 */
export type ConvertedRecording =
  | {
      readonly state: 'completed' | 'skipped';
      readonly source: string;
      readonly manifest: EpisodeManifest;
    }
  | { readonly state: 'failed'; readonly source: string; readonly error: Error };

export type ConvertResult = {
  /** Absolute URL of the dataset. */
  readonly out: string;
  /** In the order given. */
  readonly recordings: readonly ConvertedRecording[];
  /** The dataset as published; undefined when nothing was (all failed, or one did under `publish: complete`). */
  readonly dataset: FinalizeResult | undefined;
};

/**
 * Converts recordings (files, rosbag2 folders or URLs) into a dataset and publishes it, as the service does. A recording
 * that fails is a result, not a rejection. Rejects with an `InputError` for a wrong config or location.
 */
export async function convert(
  recordings: string | readonly string[],
  options: ConvertOptions,
): Promise<ConvertResult> {
  const sources = [...new Set([recordings].flat().map(toUrl))];
  if (sources.length === 0) throw new InputError('expected at least one recording, found none');
  const [{ hasVideo, parseDatasetConfig }, { findFfmpeg }] = await Promise.all([
    import('./conversion/config.ts'),
    import('./dataset/ffmpeg.ts'),
  ]);
  const config = parseDatasetConfig(options.config);
  // Asked while the rest is loaded; who needs the answer gets the failure.
  if (hasVideo(config)) findFfmpeg().catch(() => {});
  const [{ convertBatch }, { removeIfEmpty }, jobs, { openStorage }, metrics] = await Promise.all([
    import('./conversion/batch.ts'),
    import('./conversion/checkpoint.ts'),
    import('./queue/jobs.ts'),
    import('./storage/open.ts'),
    newMetrics(),
  ]);
  const out = toUrl(options.out);
  const datasetId = options.datasetId ?? datasetNameOf(out);
  const named = jobs.datasetIdSchema.safeParse(datasetId);
  if (!named.success)
    throw new InputError(`datasetId ${JSON.stringify(datasetId)}: ${named.error.issues[0]?.message}`);
  const runId = jobs.newRunId();
  const scratch = options.scratch ?? join(tmpdir(), `roboflow-convert-${process.pid}-${runId}`);
  const { onProgress, onRecording, task } = options;
  return withReleasers(async (release) => {
    await mkdir(scratch, { recursive: true }).catch((thrown: unknown) => {
      throw localError(thrown, 'make the scratch folder', scratch);
    });
    release(() =>
      options.scratch === undefined ? rm(scratch, { recursive: true, force: true }) : removeIfEmpty(scratch),
    );
    const { outcomes, dataset } = await convertBatch(
      {
        datasetId,
        runId,
        config,
        recordings: sources.map((source) => ({
          source,
          key: jobs.recordingKey(source),
          ...(task === undefined ? {} : { task }),
        })),
      },
      {
        output: openStorage(out, { ...access(options), metrics: metrics.storage, role: 'destination' }),
        sources: access(options),
        scratch,
        bufferMaxBytes: options.bufferMaxBytes ?? 256 * 1024 * 1024,
        upload: options.upload ?? { concurrency: 4, maxAttempts: 5 },
        metrics,
        log: options.log ?? silence,
        signal: signalOf(options),
      },
      {
        ...(onProgress ? { onProgress } : {}),
        ...(onRecording ? { onOutcome: (outcome) => onRecording(converted(outcome)) } : {}),
      },
    );
    return { out, recordings: outcomes.map(converted), dataset };
  });
}

/** Describes what a recording holds, topic by topic. Reads all of it once. */
export async function inspect(recording: string, options: AccessOptions = {}): Promise<Inspection> {
  const [{ inspectRecording }, { openSource }, metrics] = await Promise.all([
    import('./conversion/inspect.ts'),
    import('./conversion/source.ts'),
    newMetrics(),
  ]);
  const signal = signalOf(options);
  return withReleasers(async (release) => {
    const source = await openSource(toUrl(recording), { metrics, signal, sources: access(options) }, true);
    release(() => source.close());
    return (await inspectRecording(source, signal)).inspection;
  });
}

/** Re-reads a published dataset and states every rule of its format, kept or broken; `ok` when all are kept. */
export async function verify(
  dataset: string,
  options: AccessOptions = {},
): Promise<{ readonly ok: boolean; readonly checks: readonly Check[] }> {
  const [{ verifyDataset }, { openStorage }, metrics] = await Promise.all([
    import('./dataset/verify.ts'),
    import('./storage/open.ts'),
    newMetrics(),
  ]);
  const storage = openStorage(toUrl(dataset), {
    ...access(options),
    metrics: metrics.storage,
    role: 'source',
  });
  const checks = await verifyDataset(storage, { signal: signalOf(options) });
  return { ok: checks.every((check) => check.ok), checks };
}

/** Nobody reads them: what the parts count into. */
async function newMetrics(): Promise<Metrics> {
  const [{ Registry }, { createMetrics }] = await Promise.all([
    import('prom-client'),
    import('./metrics/index.ts'),
  ]);
  return createMetrics(new Registry());
}

/** The last part of a location as an id. */
function datasetNameOf(location: string): string {
  const last = decodeURIComponent(location.split('/').at(-1) ?? '');
  const name = last.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return name === '' ? 'dataset' : name.slice(0, 128);
}

function converted(outcome: BatchOutcome): ConvertedRecording {
  const { source } = outcome;
  if (outcome.state === 'failed') return { state: 'failed', source, error: outcome.error };
  return { state: outcome.state, source, manifest: outcome.result.manifest };
}

function toUrl(location: string): string {
  return resolveLocation(location, { cwd: process.cwd() }).href.replace(/(?<!\/)\/$/, '');
}

function access({ s3 }: AccessOptions): { s3?: S3Settings } {
  return s3 === undefined ? {} : { s3 };
}

function signalOf({ signal }: AccessOptions): AbortSignal {
  return signal ?? new AbortController().signal;
}

const silence: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silence,
};
