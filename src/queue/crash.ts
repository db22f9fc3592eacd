import { type Job, type Queue, UnrecoverableError } from 'bullmq';
import type { Log } from '../conversion/types.ts';
import type { Metrics } from '../metrics/index.ts';
import type { QueueClient } from './client.ts';
import { episodeJobSchema, episodeResultSchema, QUEUES, splitEpisodeJobId } from './jobs.ts';
import { countOutcome, recordEnd, secondsOf } from './outcomes.ts';
import { failRun } from './reconcile.ts';
import type { ActiveJob } from './running.ts';

/**
 * Deaths of a worker during one recording after which it is given up, whatever else died in between. Two in a row are
 * enough: a recording that kills its worker does so again as soon as it is tried again, and it is tried next. Deaths by
 * chance (pre-emption, an operator) hit one recording and then another; so many of them are taken for chance.
 */
const EPISODE_CRASHES = 4;
/** Publishing is given more chances: what kills it is rarely the dataset. */
const DATASET_CRASHES = 5;
/** How long deaths are remembered, s. */
const REMEMBERED_S = 7 * 86_400;

const DOING = {
  episodes: 'converting this recording',
  datasets: 'publishing this dataset',
  watches: 'looking for new recordings',
} as const;

/** What became of a job whose worker died. */
export type CrashOutcome = 'given-back' | 'given-up' | 'had-ended' | 'not-held';

export type CrashSetting = {
  readonly client: QueueClient;
  readonly metrics: Pick<Metrics, 'conversion' | 'job'>;
  readonly log: Log;
};

/**
 * Gives a job of a dead worker back to the head of its queue at once, with the lock token the worker had announced,
 * without counting a try; a recording that kills its worker twice is failed for good. A job that had ended, but whose
 * worker died before it could count that, is counted here. A worker that was killed by its own primary (`blameless`)
 * says nothing about its job.
 */
export async function failCrashedJob(
  setting: CrashSetting,
  active: ActiveJob,
  how: string,
  blameless = false,
): Promise<CrashOutcome> {
  const { client, log } = setting;
  const queue = client[active.queue];
  const job: Job | undefined = await queue.getJob(active.jobId);
  if (!job) return 'not-held';
  const holder = await client.redis.get(client.store.keys.lock(active.queue, active.jobId));
  if (holder !== active.token) return await endedUncounted(setting, active, job);
  const { crashes, last } = blameless ? { crashes: 0, last: false } : await countCrash(client, active);
  if (last) {
    await giveUp(setting, queue, job, active, how, crashes);
    return 'given-up';
  }
  await job.moveToWait(active.token);
  setting.metrics.job.requeued.inc({ reason: 'crash' });
  if (active.queue === QUEUES.episode) setting.metrics.job.attempts.inc({ outcome: 'requeued' });
  log.warn({ jobId: active.jobId, how, crashes }, 'job of a dead worker waits again');
  return 'given-back';
}

async function giveUp(
  { client, metrics, log }: CrashSetting,
  queue: Queue,
  job: Job,
  active: ActiveJob,
  how: string,
  crashes: number,
): Promise<void> {
  const what = DOING[active.queue];
  const reason = `the worker process died ${crashes} times while ${what} (last: ${how}); it is not tried again`;
  await job.moveToFailed(new UnrecoverableError(reason), active.token);
  log.error({ jobId: active.jobId, queue: queue.name, reason }, 'job given up');
  if (active.queue === QUEUES.episode) {
    const { datasetId } = episodeJobSchema.parse(job.data);
    await recordEnd(client.store, job, datasetId, { state: 'failed', reason, counts: false });
    countOutcome(metrics.conversion, datasetId, {
      jobId: job.id,
      state: 'failed',
      frames: 0,
      seconds: secondsOf(job),
    });
    metrics.job.attempts.inc({ outcome: 'failed' });
    return;
  }
  if (active.queue !== QUEUES.dataset) return;
  const run = await client.store.run(active.jobId);
  if (run) await failRun(client.store, client.episodes, metrics.conversion, run, reason);
}

/** The worker died between the end of the job and its count. */
async function endedUncounted({ metrics }: CrashSetting, active: ActiveJob, job: Job): Promise<CrashOutcome> {
  if (!job.finishedOn || job.processedBy !== active.worker) return 'not-held';
  if (active.queue !== QUEUES.episode) return 'had-ended';
  const { datasetId } = episodeJobSchema.parse(job.data);
  const result = episodeResultSchema.safeParse(job.returnvalue);
  const unsuccessful = job.failedReason === 'cancelled' ? 'cancelled' : 'failed';
  const state = result.success ? result.data.outcome : unsuccessful;
  const frames = result.success ? result.data.frames : 0;
  countOutcome(metrics.conversion, datasetId, { jobId: job.id, state, frames, seconds: secondsOf(job) });
  metrics.job.attempts.inc({ outcome: state });
  return 'had-ended';
}

/** Counts a death during a job; `last` when the job gets no further try. */
async function countCrash(
  { redis, store }: QueueClient,
  active: ActiveJob,
): Promise<{ crashes: number; last: boolean }> {
  const id = splitEpisodeJobId(active.jobId);
  const key = store.keys.crashes(id?.runId ?? active.jobId);
  const crashes = await redis.hincrby(key, id?.key ?? 'dataset', 1);
  await redis.expire(key, REMEMBERED_S);
  if (active.queue !== QUEUES.episode) return { crashes, last: crashes >= DATASET_CRASHES };
  const before = await redis.set(store.keys.lastCrash, active.jobId, 'EX', REMEMBERED_S, 'GET');
  return { crashes, last: before === active.jobId || crashes >= EPISODE_CRASHES };
}
