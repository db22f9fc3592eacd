import type { Queue } from 'bullmq';
import { episodeJobId, episodeResultSchema } from './jobs.ts';
import type { ConversionMetrics } from '../metrics/conversion.ts';
import { queueReason } from './failures.ts';
import { countOutcome } from './outcomes.ts';
import type { DatasetStore, Outcome, Run } from './store.ts';

/** How a job of the queue ended, as an outcome; `undefined` while it has not. */
export async function outcomeOf(episodes: Queue, runId: string, key: string): Promise<Outcome | undefined> {
  const job = await episodes.getJob(episodeJobId(runId, key));
  if (!job || !job.finishedOn) return undefined;
  const result = episodeResultSchema.safeParse(job.returnvalue);
  return {
    state: result.success ? result.data.outcome : job.failedReason === 'cancelled' ? 'cancelled' : 'failed',
    runId,
    frames: result.success ? result.data.frames : 0,
    attempts: job.attemptsMade,
    ...(result.success ? {} : { reason: queueReason(job.failedReason) }),
    createdAt: job.timestamp,
    startedAt: job.processedOn ?? null,
    finishedAt: job.finishedOn,
  };
}

/**
 * Records outcomes that only the queue knows: those of jobs that ended without their worker being able to say so.
 */
export async function reconcile(store: DatasetStore, episodes: Queue, datasetId: string): Promise<void> {
  for await (const { key, runId } of openRecordings(store, datasetId)) {
    const outcome = await outcomeOf(episodes, runId, key);
    if (outcome) await store.record(datasetId, key, outcome, true);
  }
}

/**
 * Ends a run whose dataset job was given up: its jobs fail when they are met, and its recordings that have no job yet
 * fail now, counted here.
 */
export async function failRun(
  store: DatasetStore,
  episodes: Queue,
  metrics: ConversionMetrics,
  run: Pick<Run, 'runId' | 'datasetId'>,
  reason: string,
): Promise<void> {
  const { runId, datasetId } = run;
  const now = Date.now();
  await store.stopRun(runId, 'blocked', reason);
  for await (const open of openRecordings(store, datasetId)) {
    if (open.runId !== runId || (await episodes.getJob(episodeJobId(runId, open.key)))) continue;
    const times = { createdAt: now, startedAt: null, finishedAt: now };
    const outcome = { state: 'failed', runId, frames: 0, attempts: 0, reason, ...times } as const;
    if (await store.record(datasetId, open.key, outcome, true)) {
      countOutcome(metrics, datasetId, { jobId: undefined, state: 'failed', frames: 0, seconds: undefined });
    }
  }
  await store.setState(run, { state: 'failed', reason, finishedAt: now });
}

/** Recordings of a dataset that have not ended, in order of arrival. */
async function* openRecordings(store: DatasetStore, datasetId: string) {
  for (let after = 0; ;) {
    const page = await store.page(datasetId, 'all', after, 500);
    const last = page.at(-1);
    if (!last) return;
    after = last.seq;
    const keys = page.map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    for (const [i, key] of keys.entries()) {
      const runId = entries[i]?.runId;
      if (!outcomes[i] && runId) yield { key, runId };
    }
  }
}
