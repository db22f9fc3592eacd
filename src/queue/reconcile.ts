import type { Queue } from 'bullmq';
import { episodeJobId, episodeResultSchema } from './jobs.ts';
import type { DatasetStore, Outcome } from './store.ts';

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
    ...(result.success ? {} : { reason: job.failedReason }),
    createdAt: job.timestamp,
    startedAt: job.processedOn ?? null,
    finishedAt: job.finishedOn,
  };
}

/**
 * Records outcomes that only the queue knows: those of jobs that ended without their worker being able to say so.
 */
export async function reconcile(store: DatasetStore, episodes: Queue, datasetId: string): Promise<void> {
  for (let after = 0; ;) {
    const page = await store.page(datasetId, 'all', after, 500);
    const last = page.at(-1);
    if (!last) return;
    after = last.seq;
    const keys = page.map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    for (const [i, key] of keys.entries()) {
      const runId = entries[i]?.runId;
      if (outcomes[i] || !runId) continue;
      const outcome = await outcomeOf(episodes, runId, key);
      if (outcome) await store.record(datasetId, key, outcome, true);
    }
  }
}
