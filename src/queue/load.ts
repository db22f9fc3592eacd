import type { QueueClient } from './client.ts';
import { datasetJobSchema, type QueueName } from './jobs.ts';

/** What waits and runs in one queue. */
export type QueueReport = {
  readonly name: QueueName;
  readonly counts: {
    readonly waiting: number;
    readonly prioritized: number;
    readonly active: number;
    readonly delayed: number;
    /** Datasets that wait for their recordings. */
    readonly 'waiting-children': number;
    readonly failed: number;
    readonly completed: number;
  };
  /** Age of the job that waits longest; 0 when none waits. */
  readonly oldestWaitingSeconds: number;
  readonly paused: boolean;
};

/** Counts one queue. */
export async function queueReport(client: QueueClient, name: QueueName): Promise<QueueReport> {
  const queue = client[name];
  const [counts, [first], [prioritized], paused] = await Promise.all([
    queue.getJobCounts(
      'waiting',
      'prioritized',
      'active',
      'delayed',
      'waiting-children',
      'failed',
      'completed',
    ),
    queue.getJobs(['waiting'], 0, 0, true),
    queue.getJobs(['prioritized'], 0, 0, true),
    queue.isPaused(),
  ]);
  const since = Math.min(
    first?.timestamp ?? Number.POSITIVE_INFINITY,
    prioritized?.timestamp ?? Number.POSITIVE_INFINITY,
  );
  const count = (state: string) => counts[state] ?? 0;
  return {
    name,
    counts: {
      waiting: count('waiting'),
      prioritized: count('prioritized'),
      active: count('active'),
      delayed: count('delayed'),
      'waiting-children': count('waiting-children'),
      failed: count('failed'),
      completed: count('completed'),
    },
    oldestWaitingSeconds: Number.isFinite(since) ? Math.max(0, Math.round((Date.now() - since) / 1000)) : 0,
    paused,
  };
}

/** A delayed job counts as work when it is due this soon, ms. */
const SOON_MS = 60_000;

/**
 * Work there is: jobs that wait, run, or are due within a minute; for a dataset still being planned, the recordings
 * whose jobs are not in the queue yet.
 */
export async function scalingNumber(client: QueueClient): Promise<number> {
  const soon = Date.now() + SOON_MS;
  const [episodes, due, planning, planningDue] = await Promise.all([
    client.episodes.getJobCounts('waiting', 'prioritized', 'active'),
    client.episodes.getDelayedCount(soon),
    client.datasets.getJobs(['waiting', 'prioritized', 'active'], 0, 999),
    client.datasets.getDelayedCount(soon),
  ]);
  let value = due + planningDue;
  for (const count of Object.values(episodes)) value += count;
  for (const job of planning) {
    const data = datasetJobSchema.safeParse(job?.data).data;
    const run = data?.step === 'plan' ? await client.store.run(data.runId) : undefined;
    value += run && data ? Math.max(1, run.total - data.planned) : 1;
  }
  return value;
}
