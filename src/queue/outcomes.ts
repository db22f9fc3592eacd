import type { Job } from 'bullmq';
import type { ConversionMetrics } from '../metrics/conversion.ts';
import type { UploadStats } from '../storage/types.ts';
import { type EpisodeResult, splitEpisodeJobId } from './jobs.ts';
import type { Terminal } from './keys.ts';
import type { DatasetStore, Outcome } from './store.ts';

/** Counts a recording's end: exactly once, by whoever moved the job to its terminal state. */
export function countOutcome(
  metrics: ConversionMetrics,
  datasetId: string,
  end: {
    readonly jobId: string | undefined;
    readonly state: Terminal;
    readonly frames: number;
    readonly seconds: number | undefined;
  },
): void {
  metrics.episodesProcessed.inc({ dataset_id: datasetId, status: end.state });
  metrics.episodesEnded.inc({ status: end.state });
  if (end.state === 'completed') {
    metrics.framesProcessed.inc(end.frames);
    metrics.lastSuccess.setToCurrentTime();
  }
  if ((end.state === 'completed' || end.state === 'failed') && end.seconds !== undefined) {
    metrics.observeEpisode(end.seconds, end.jobId ?? '');
  }
}

/** Seconds since the last try of a job began. */
export function secondsOf(job: Job): number | undefined {
  return job.processedOn === undefined
    ? undefined
    : ((job.finishedOn ?? Date.now()) - job.processedOn) / 1000;
}

/** Records in the store how an episode job ends, or is about to. */
export async function recordEnd(
  store: DatasetStore,
  job: Job,
  datasetId: string,
  end:
    | {
        readonly state: 'completed' | 'skipped';
        readonly result: EpisodeResult;
        readonly upload: UploadStats;
      }
    | { readonly state: 'failed' | 'cancelled'; readonly reason: string; readonly counts: boolean },
): Promise<void> {
  const id = splitEpisodeJobId(job.id ?? '');
  if (!id) return;
  const tried = 'result' in end || end.counts ? 1 : 0;
  const outcome: Outcome = {
    state: end.state,
    runId: id.runId,
    frames: 'result' in end ? end.result.frames : 0,
    attempts: job.attemptsMade + tried,
    ...('upload' in end ? { upload: end.upload } : {}),
    ...('reason' in end ? { reason: end.reason } : {}),
    createdAt: job.timestamp,
    startedAt: job.processedOn ?? null,
    finishedAt: Date.now(),
  };
  await store.record(datasetId, id.key, outcome);
}
