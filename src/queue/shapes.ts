import { z } from 'zod';
import { uploadShape } from './jobs.ts';
import { TERMINAL } from './keys.ts';
import { datasetStates } from './store.ts';

/** The objects scripts rely on: what the API answers and `roboflow status --json` prints. Times are ISO 8601 or null. */

export const jobStates = ['waiting', 'active', 'delayed', ...TERMINAL] as const;
export type JobState = (typeof jobStates)[number];

const time = z.iso.datetime();

export const datasetShape = z.object({
  datasetId: z.string(),
  /** The newest run: of the last enqueue, append or retry. */
  runId: z.string(),
  state: z.enum(datasetStates),
  /** Where the dataset is written, without credentials. */
  output: z.string(),
  /** Recordings of the dataset by the state of their newest job; `waiting` includes those that wait for another try. */
  episodes: z.object({
    total: z.int(),
    waiting: z.int(),
    active: z.int(),
    completed: z.int(),
    failed: z.int(),
    cancelled: z.int(),
    skipped: z.int(),
  }),
  /** Dataset rows: published ones once the dataset is, else those converted so far. */
  frames: z.int(),
  /** The first 100 recordings that failed; all of them are in the list of jobs. */
  failures: z.array(z.object({ jobId: z.string(), source: z.string(), reason: z.string() })),
  /** Why the dataset as a whole was not published. */
  reason: z.string().optional(),
  createdAt: time,
  finishedAt: time.nullable(),
  links: z.object({ self: z.string(), jobs: z.string(), events: z.string() }),
});

export const jobShape = z.object({
  jobId: z.string(),
  datasetId: z.string(),
  runId: z.string(),
  source: z.string(),
  task: z.string().optional(),
  state: z.enum(jobStates),
  stage: z.enum(['plan', 'convert', 'verify', 'upload']),
  /** 0–1 over all stages. */
  progress: z.number().min(0).max(1),
  /** Rows converted so far, or in all. */
  frames: z.int(),
  /** Tries that counted: not those given back by a drain or a dead worker. */
  attempts: z.int(),
  createdAt: time,
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  reason: z.string().optional(),
  /** Statistics of the upload, once it has ended. */
  upload: uploadShape.optional(),
  /** The alignment report of a converted recording; with single jobs only. */
  alignment: z.record(z.string(), z.unknown()).optional(),
});

export type DatasetStatus = z.output<typeof datasetShape>;
export type JobStatus = z.output<typeof jobShape>;

/** A part of a list; `next` asks for the part after it. */
export type Page<T> = { readonly items: T[]; readonly next?: string };

/** An ISO time, or null. */
export function isoTime(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString();
}
