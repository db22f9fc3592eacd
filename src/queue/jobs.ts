import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { configFaults, configJsonSchema, datasetConfig } from '../conversion/config.ts';
import { InputError } from '../errors.ts';

/**
 * What travels through the queues, validated on both sides of the wire.
 * One *dataset job* per run (queue `datasets`, job id = run id) plans the *episode jobs* of that run
 * (queue `episodes`, job id = `<runId>-<key>`), waits for them and finalizes. *Watch jobs* (queue `watches`) look for
 * new recordings.
 */

export const QUEUES = { dataset: 'datasets', episode: 'episodes', watch: 'watches' } as const;

/** Name of a queue. */
export type QueueName = (typeof QUEUES)[keyof typeof QUEUES];

/** A dataset's id: safe as a path segment, a key and a label. */
export const datasetIdSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
    'expected 1 to 128 letters, digits or any of . _ - (starting with a letter or digit)',
  );

/** Text of a request: not empty, bounded, and whole (half a surrogate pair has no UTF-8). */
export function textSchema(max: number) {
  return z
    .string()
    .min(1)
    .max(max)
    .refine((text) => !/\p{Surrogate}/u.test(text), 'expected well-formed Unicode');
}

/** One recording of a request; `source` is a URL, or a path when the caller is on this machine. */
export const recordingSchema = z.strictObject({
  source: textSchema(4096),
  task: textSchema(10_000).optional(),
});

export const enqueueOptionsSchema = z.strictObject({
  /** Like `nice`: 0 is taken first, 9 last. */
  priority: z.int().min(0).max(9).default(0),
  /** Tries per recording; default from `JOB_ATTEMPTS`. */
  attempts: z.int().min(1).max(100).optional(),
});

/** Recordings of one request, also after its patterns are expanded. */
export const MAX_RECORDINGS = 100_000;

const recordingsSchema = z.array(recordingSchema).min(1).max(MAX_RECORDINGS);

/** A dataset config in a request: every fault with its place, unknown keys with the nearest known one. */
export const configSchema = z.unknown().transform((input, ctx): z.output<typeof datasetConfig> => {
  const faults = configFaults(input);
  for (const { pointer, detail } of faults) {
    const path = pointer.split('/').slice(1).map(unescapePointer);
    ctx.issues.push({ code: 'custom', path, message: detail, input });
  }
  return faults.length > 0 ? z.NEVER : datasetConfig.parse(input);
});

/** JSON Schema of `configSchema`, for the description of the API. */
export const configDescription = configJsonSchema;

/** Body of `POST /v1/datasets`. */
export const enqueueRequestSchema = z.strictObject({
  datasetId: datasetIdSchema,
  output: textSchema(4096),
  config: configSchema,
  recordings: recordingsSchema,
  options: enqueueOptionsSchema.prefault({}),
});

/** Body of `POST /v1/datasets/:id/episodes`; config and output are the dataset's. */
export const appendRequestSchema = z.strictObject({
  recordings: recordingsSchema,
  options: enqueueOptionsSchema.prefault({}),
});

/** The 202 of an enqueue, an append or a retry. */
export const enqueuedSchema = z.object({
  datasetId: z.string(),
  runId: z.string(),
  /** Recordings of this run. */
  episodes: z.int().min(0),
});

export type Recording = z.output<typeof recordingSchema>;
export type EnqueueRequest = z.output<typeof enqueueRequestSchema>;
export type AppendRequest = z.output<typeof appendRequestSchema>;
export type EnqueueOptions = z.output<typeof enqueueOptionsSchema>;
export type Enqueued = z.output<typeof enqueuedSchema>;

const runId = z.string().regex(/^r[0-9a-z]{14,}$/);
const key = z.string().regex(/^[A-Za-z0-9_-]{1,80}$/);

export const datasetJobSchema = z.strictObject({
  datasetId: datasetIdSchema,
  runId,
  /** Where the job goes on after an interruption. */
  step: z.enum(['plan', 'wait', 'finalize']),
  /** Recordings of the run whose episode jobs are in the queue. */
  planned: z.int().min(0),
});

export const datasetResultSchema = z.strictObject({
  state: z.enum(['completed', 'partial', 'failed', 'cancelled']),
  episodes: z.int(),
  frames: z.int(),
  reason: z.string().optional(),
});

export const episodeJobSchema = z.strictObject({
  datasetId: datasetIdSchema,
  runId,
  key,
  slot: z.int().min(0),
  source: z.string().min(1),
  task: z.string().min(1).optional(),
});

export const episodeResultSchema = z.strictObject({
  outcome: z.enum(['completed', 'skipped']),
  /** Dataset rows of the recording. */
  frames: z.int().min(0),
});

/** What storing a recording's files took. */
export const uploadShape = z.object({
  /** Acknowledged by the destination, the manifest included. */
  files: z.int().min(0),
  /** Sent; files that an earlier try had stored already (`reused`) are not in it. */
  bytes: z.int().min(0),
  retries: z.int().min(0),
  /** From the first file to the last. */
  seconds: z.number().min(0),
  reused: z.int().min(0).optional(),
});

export const watchJobSchema = z.strictObject({ watchId: z.string() });

export const watchResultSchema = z.strictObject({
  /** Recordings that had become complete. */
  enqueued: z.int().min(0),
});

/** Where an episode job is, as kept with the job. */
export const progressSchema = z.object({
  stage: z.enum(['plan', 'convert', 'verify', 'upload']),
  fraction: z.number().min(0).max(1),
  frames: z.int().min(0),
  expectedFrames: z.number().min(0),
});

export type DatasetJob = z.output<typeof datasetJobSchema>;
export type DatasetResult = z.output<typeof datasetResultSchema>;
export type EpisodeJob = z.output<typeof episodeJobSchema>;
export type EpisodeResult = z.output<typeof episodeResultSchema>;

/** The single table of job kinds: a kind without a queue, a payload and a result does not exist. */
export const jobKinds = {
  dataset: { queue: QUEUES.dataset, data: datasetJobSchema, result: datasetResultSchema },
  episode: { queue: QUEUES.episode, data: episodeJobSchema, result: episodeResultSchema },
  watch: { queue: QUEUES.watch, data: watchJobSchema, result: watchResultSchema },
} as const;

export type JobKind = keyof typeof jobKinds;

/** Parses what came over the wire; `InputError` names the job and every fault. */
export function parsePayload<K extends JobKind>(
  kind: K,
  jobId: string,
  data: unknown,
): z.output<(typeof jobKinds)[K]['data']> {
  const parsed = jobKinds[kind].data.safeParse(data);
  if (parsed.success) return parsed.data as z.output<(typeof jobKinds)[K]['data']>;
  throw new InputError(`${kind} job ${jobId}: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`, {
    cause: parsed.error,
  });
}

/** A new run id: sorts by time, letters and digits only. */
export function newRunId(now = Date.now()): string {
  const random = BigInt(`0x${randomBytes(5).toString('hex')}`)
    .toString(36)
    .padStart(8, '0');
  return `r${now.toString(36).padStart(9, '0')}${random}`;
}

/** Ledger key of a recording: the same URL has the same key in every run; readable, safe in paths and labels. */
export function recordingKey(source: string): string {
  const name = source.replace(/\/+$/, '').split('/').at(-1) ?? '';
  const slug = decodeSafely(name)
    .replace(/(\.(mcap|bag|db3|zst|zstd))+$/i, '')
    .replaceAll(/[^A-Za-z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
    .slice(0, 40);
  const digest = createHash('sha256').update(source).digest('hex').slice(0, 12);
  return slug === '' ? digest : `${slug}-${digest}`;
}

/** Id of an episode job in its queue. */
export function episodeJobId(run: string, recording: string): string {
  return `${run}-${recording}`;
}

/** Run and key of an episode job's id in the queue; `undefined` when it is none. */
export function splitEpisodeJobId(id: string): { runId: string; key: string } | undefined {
  const match = /^(r[0-9a-z]{14,})-([A-Za-z0-9_-]+)$/.exec(id);
  return match?.[1] && match[2] ? { runId: match[1], key: match[2] } : undefined;
}

/**
 * The id users see: one recording of one dataset, the same over retries and re-enqueues.
 * A key has no dot, so the last dot parts the two.
 */
export function publicJobId(datasetId: string, recording: string): string {
  return `${datasetId}.${recording}`;
}

/** Dataset and key of a public job id; `undefined` when it is none. */
export function splitPublicJobId(id: string): { datasetId: string; key: string } | undefined {
  const dot = id.lastIndexOf('.');
  const datasetId = datasetIdSchema.safeParse(id.slice(0, dot));
  const recording = key.safeParse(id.slice(dot + 1));
  if (dot < 1 || !datasetId.success || !recording.success) return undefined;
  return { datasetId: datasetId.data, key: recording.data };
}

function unescapePointer(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~');
}

function decodeSafely(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
