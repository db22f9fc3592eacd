import type { QueueClient } from './client.ts';
import { newestRun, startRun } from './enqueue.ts';
import { type Enqueued, episodeJobId, QUEUES } from './jobs.ts';
import { conflict, type Refusal, unknownDataset, unknownJob } from './refusals.ts';
import type { Status } from './status.ts';
import { publishStop } from './stops.ts';
import { type Terminal, TERMINAL } from './keys.ts';
import { type Entry, isTerminal, type Staged } from './store.ts';

/** Cancelling and retrying. Each says at once what will be; workers follow within moments. */

/** The 202 of a change of one job. */
export type JobChanged = Enqueued & { readonly jobId: string };

/**
 * Stops what waits and runs of a dataset; what is converted stays. It has ended when the last recording has stopped. What
 * is being published goes on, and is not tried again when that fails.
 */
export async function cancelDataset(client: QueueClient, datasetId: string): Promise<Enqueued | Refusal> {
  const { store, redis } = client;
  const record = await store.dataset(datasetId);
  if (!record) return unknownDataset(datasetId);
  if (isTerminal(record.state)) return conflict(`dataset ${datasetId} is ${record.state} already`);
  const open = await recordingsWhere(client, datasetId, (state) => state === undefined);
  const runs = new Set([record.runId, ...open.map(({ runId }) => runId)]);
  for (const runId of runs) await store.stopRun(runId, 'cancelled', 'cancelled');
  for (const runId of runs) await store.setState({ runId, datasetId }, { state: 'cancelled' });
  for (const runId of runs) await publishStop(redis, store.keys, runId);
  await recordCancelled(client, datasetId, open);
  return { datasetId, runId: record.runId, episodes: open.length };
}

/**
 * Starts a run of the recordings that failed or were cancelled; of all, which then are skipped, when the dataset itself
 * could not be published.
 */
export async function retryDataset(
  client: QueueClient,
  datasetId: string,
  retryDelayMs: number,
): Promise<Enqueued | Refusal> {
  const known = await newestRun(client, datasetId);
  if (!known) return unknownDataset(datasetId);
  const failed = await recordingsWhere(client, datasetId, async (state, { runId, key }) =>
    // One that was told to stop and has not said so yet counts as cancelled.
    state === undefined
      ? (await client.store.stopped(runId, key)).cancelled
      : state === 'failed' || state === 'cancelled',
  );
  const unpublished = known.state === 'failed' && failed.length === 0;
  const again = unpublished ? await recordingsWhere(client, datasetId, () => true) : failed;
  if (again.length === 0)
    return conflict(`dataset ${datasetId} has no failed or cancelled recording to retry`);
  const { output, config, options } = known;
  const recordings = again.map(({ key, source, task }): Staged => ({ key, source, task }));
  return await startRun(
    client,
    { datasetId, output, kind: 'retry', config, options, recordings },
    retryDelayMs,
  );
}

/** Stops one recording. */
export async function cancelJob(
  client: QueueClient,
  status: Status,
  jobId: string,
): Promise<JobChanged | Refusal> {
  const job = await status.job(jobId);
  if (!job) return unknownJob(jobId);
  if (TERMINAL.some((state) => state === job.state))
    return conflict(`job ${jobId} has ended already (${job.state})`);
  const { store, redis } = client;
  await redis.hset(store.keys.run(job.runId), `cancelled:${job.key}`, '1');
  await publishStop(redis, store.keys, job.runId, job.key);
  const [entry] = await store.entries(job.datasetId, [job.key]);
  if (entry) await recordCancelled(client, job.datasetId, [entry]);
  return { jobId: job.jobId, datasetId: job.datasetId, runId: job.runId, episodes: 1 };
}

/** Starts a run of one recording that failed or was cancelled. */
export async function retryJob(
  client: QueueClient,
  status: Status,
  jobId: string,
  retryDelayMs: number,
): Promise<JobChanged | Refusal> {
  const job = await status.job(jobId);
  const known = job && (await newestRun(client, job.datasetId));
  if (!job || !known) return unknownJob(jobId);
  if (job.state !== 'failed' && job.state !== 'cancelled') {
    return conflict(`job ${jobId} is ${job.state}; only failed and cancelled ones are retried`);
  }
  const { datasetId, output, config, options } = known;
  const recordings: Staged[] = [{ key: job.key, source: job.source, task: job.task }];
  const run = await startRun(
    client,
    { datasetId, output, kind: 'retry', config, options, recordings },
    retryDelayMs,
  );
  return 'refused' in run ? run : { jobId: job.jobId, ...run };
}

async function recordingsWhere(
  { store }: QueueClient,
  datasetId: string,
  wanted: (state: Terminal | undefined, entry: Entry) => boolean | Promise<boolean>,
): Promise<Entry[]> {
  const found: Entry[] = [];
  for (let after = 0; ;) {
    const page = await store.page(datasetId, 'all', after, 500);
    const last = page.at(-1);
    if (!last) return found;
    after = last.seq;
    const keys = page.map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    for (const [i, entry] of entries.entries())
      if (entry && (await wanted(outcomes[i]?.state, entry))) found.push(entry);
  }
}

/** Says at once that recordings are cancelled; the jobs of those that run say so themselves. */
async function recordCancelled(
  { store, redis }: QueueClient,
  datasetId: string,
  entries: readonly Entry[],
): Promise<void> {
  const active = new Set(await redis.lrange(store.keys.active(QUEUES.episode), 0, -1));
  const now = Date.now();
  for (const { key, runId } of entries) {
    if (active.has(episodeJobId(runId, key))) continue;
    const createdAt = (await store.run(runId))?.createdAt ?? now;
    const times = { createdAt, startedAt: null, finishedAt: now };
    const outcome = {
      state: 'cancelled',
      runId,
      frames: 0,
      attempts: 0,
      reason: 'cancelled',
      ...times,
    } as const;
    await store.record(datasetId, key, outcome, true);
  }
}
