import { join } from 'node:path';
import { DelayedError, type Job } from 'bullmq';
import type {
  ConversionContext,
  ConversionRequest,
  ConversionResult,
  Log,
  Progress,
} from '../conversion/types.ts';
import { CanceledError, InputError } from '../errors.ts';
import type { Storage, UploadStats } from '../storage/types.ts';
import { reasonOf } from './failures.ts';
import { type EpisodeJob, type EpisodeResult, parsePayload, progressSchema, QUEUES } from './jobs.ts';
import type { DatasetStore } from './store.ts';

/** What an episode job needs of the process it runs in. */
export type EpisodeSetting = {
  readonly store: DatasetStore;
  readonly openOutput: (url: string) => Storage;
  readonly convert: (request: ConversionRequest, context: ConversionContext) => Promise<ConversionResult>;
  readonly scratch: string;
  readonly context: Pick<ConversionContext, 'bufferMaxBytes' | 'scratchKeepBytes' | 'upload' | 'metrics'>;
  readonly log: Log;
};

/** How long a job waits while another run converts the same recording. */
const BUSY_MS = 2000;
/** Progress within one stage is kept at most this often. */
const PROGRESS_MS = 1000;

/**
 * Converts one recording. Throws `CanceledError` when it was cancelled before it began and `InputError` when its run is
 * blocked; waits, without holding a worker, while another run has the same recording.
 */
export async function runEpisode(
  setting: EpisodeSetting,
  job: Job,
  token: string,
  signal: AbortSignal,
): Promise<{ readonly result: EpisodeResult; readonly upload: UploadStats }> {
  const { store } = setting;
  const jobId = job.id ?? '';
  const data = parsePayload('episode', jobId, job.data);
  const run = await store.run(data.runId);
  if (!run)
    throw new InputError(`expected run ${data.runId} of job ${jobId}, found none; it may have been removed`);
  const { cancelled, blocked } = await store.stopped(data.runId, data.key);
  if (cancelled) throw new CanceledError('cancelled');
  if (blocked !== undefined) throw new InputError(blocked);

  const claim = `episode:${data.datasetId}:${data.key}`;
  const holder = await store.claim(claim, QUEUES.episode, jobId, token);
  if (holder !== undefined) {
    setting.log.info({ jobId, holder }, 'another run converts this recording; waiting');
    await job.moveToDelayed(Date.now() + BUSY_MS, token);
    throw new DelayedError();
  }
  const progress = new ProgressReport(job, setting.log);
  /** An earlier try of this run got past planning: what lies there is this run's work, not something to skip. */
  const begun = beganBefore(job);
  try {
    const result = await setting.convert(
      {
        source: data.source,
        config: run.config,
        ...(data.task === undefined ? {} : { task: data.task }),
        key: data.key,
        slot: data.slot,
      },
      {
        ...setting.context,
        output: setting.openOutput(run.output),
        scratch: join(setting.scratch, scratchName(data)),
        retryFollows: job.attemptsMade + 1 < (job.opts.attempts ?? 1),
        log: setting.log,
        signal,
        onProgress: (now) => progress.report(now),
      },
    );
    const frames = result.manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
    const outcome = result.outcome === 'skipped' && begun ? 'completed' : result.outcome;
    return { result: { outcome, frames }, upload: result.upload };
  } finally {
    await progress.settled();
    await store.release(claim, QUEUES.episode, jobId, token);
  }
}

function beganBefore(job: Job): boolean {
  const progress = progressSchema.safeParse(job.progress);
  return progress.success && progress.data.stage !== 'plan';
}

/** A folder of the job's own, the same for all its tries: each finds there what an interrupted one had finished. */
function scratchName(data: EpisodeJob): string {
  return `${data.runId}-${data.key}`;
}

/** Keeps progress with the job: at every change of stage and at most once a second in between. */
class ProgressReport {
  readonly #job: Job;
  readonly #log: Log;
  #last: { stage: string; at: number } | undefined;
  #writing: Promise<void> | undefined;
  #next: Progress | undefined;

  constructor(job: Job, log: Log) {
    this.#job = job;
    this.#log = log;
  }

  report(progress: Progress): void {
    const now = Date.now();
    const due = this.#last === undefined || now - this.#last.at >= PROGRESS_MS;
    if (!due && this.#last?.stage === progress.stage) return;
    this.#last = { stage: progress.stage, at: now };
    if (this.#writing) this.#next = progress;
    else this.#writing = this.#write(progress);
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #write(progress: Progress): Promise<void> {
    for (let current: Progress | undefined = progress; current;) {
      try {
        await this.#job.updateProgress({ ...current, at: Date.now() });
      } catch (thrown) {
        this.#log.warn({ jobId: this.#job.id, reason: reasonOf(thrown) }, 'progress was not kept');
      }
      current = this.#next;
      this.#next = undefined;
    }
    this.#writing = undefined;
  }
}
