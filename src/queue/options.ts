import type { BackoffStrategy, JobsOptions } from 'bullmq';
import type { EnqueueOptions } from './jobs.ts';

/** Options of jobs: tries, waits between them, and how long ended jobs are kept in Redis. */

const DAY = 86_400;
const MAX_RETRY_DELAY_MS = 5 * 60_000;

/** Ended jobs are kept by age and count; what they did stays in the ledger. */
const KEPT = {
  removeOnComplete: { age: 7 * DAY, count: 10_000 },
  removeOnFail: { age: 30 * DAY, count: 50_000 },
} as const;

/** Payloads are references, never data; a larger one is a mistake. */
const SIZE_LIMIT = 64 * 1024;

/** Options of an episode job; `retryDelayMs` is the first wait before a further try. */
export function episodeJobOptions(
  options: EnqueueOptions,
  defaults: { readonly defaultAttempts: number; readonly retryDelayMs: number },
): JobsOptions {
  return {
    ...KEPT,
    attempts: options.attempts ?? defaults.defaultAttempts,
    backoff: { type: 'jittered', delay: defaults.retryDelayMs },
    ...(options.priority > 0 ? { priority: options.priority } : {}),
    ignoreDependencyOnFailure: true,
    sizeLimit: SIZE_LIMIT,
    stackTraceLimit: 3,
  };
}

/** Options of a dataset job: planning and publishing are tried for a long time, as nothing is lost by it. */
export function datasetJobOptions(runId: string, options: EnqueueOptions, retryDelayMs: number): JobsOptions {
  return {
    ...KEPT,
    jobId: runId,
    attempts: 8,
    backoff: { type: 'jittered', delay: retryDelayMs },
    ...(options.priority > 0 ? { priority: options.priority } : {}),
    sizeLimit: SIZE_LIMIT,
    stackTraceLimit: 3,
  };
}

/** Doubling waits of at most 5 minutes, the later half of each random, so that failed jobs do not come back in step. */
export const jitteredBackoff: BackoffStrategy = (attemptsMade, _type, _error, job) => {
  const backoff = job?.opts.backoff;
  const first = typeof backoff === 'object' ? (backoff.delay ?? 0) : 0;
  const full = Math.min(first * 2 ** (attemptsMade - 1), MAX_RETRY_DELAY_MS);
  return Math.round(full / 2 + Math.random() * (full / 2));
};
