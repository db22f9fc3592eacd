import { DelayedError, type Job, type Telemetry, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import { z } from 'zod';
import type { ConversionContext, Log } from '../conversion/types.ts';
import { asCanceled, CanceledError, toError } from '../errors.ts';
import { UploadCoordinator } from '../storage/coordinator.ts';
import { type QueueClient, openQueueClient } from './client.ts';
import { connectPatient, isRefusal, redisFailure, type RedisSettings } from './connection.ts';
import { type EpisodeSetting, runEpisode } from './episode.ts';
import { isFinal, kindOf, queueReason, reasonOf } from './failures.ts';
import {
  episodeJobSchema,
  type EpisodeResult,
  type JobKind,
  jobKinds,
  parsePayload,
  QUEUES,
} from './jobs.ts';
import { jitteredBackoff } from './options.ts';
import { countOutcome, recordEnd, secondsOf } from './outcomes.ts';
import { type PlannerSetting, runDataset } from './planner.ts';
import { failRun } from './reconcile.ts';
import { type ActiveListener, RunningJobs } from './running.ts';
import { lookAtWatch, type WatchSetting } from './watches.ts';
import { listenForStops } from './stops.ts';

export type ConsumerOptions = ActiveListener & {
  readonly redis: RedisSettings;
  readonly prefix: string;
  /** Name of this worker in the queue, for operators: host and slot. */
  readonly name: string;
  readonly lockDurationMs: number;
  readonly stalledIntervalMs: number;
  /** Tries of a recording whose request names none. */
  readonly defaultAttempts: number;
  /** First wait before a further try; default 5 s. */
  readonly retryDelayMs?: number;
  /** The work itself. */
  readonly openOutput: EpisodeSetting['openOutput'];
  readonly convert: EpisodeSetting['convert'];
  readonly finalize: PlannerSetting['finalize'];
  readonly listSources: WatchSetting['listSources'];
  /** Folder under which every try gets one of its own. */
  readonly scratch: string;
  readonly context: Pick<ConversionContext, 'bufferMaxBytes' | 'scratchKeepBytes' | 'upload' | 'metrics'>;
  readonly log: Log;
  /** Tracing of jobs; none by default. */
  readonly telemetry?: Telemetry | undefined;
};

/** What names the dataset in every payload that has one. */
const datasetOf = z.object({ datasetId: z.string() });

/**
 * Stalls (a pod that vanished) that a job survives: a recording may be the cause, publishing rarely is. As pods are also
 * taken away by chance, a recording is given up at the fourth, as with workers that die between those of others.
 */
const MAX_STALLS = { episode: 3, dataset: 10, watch: 10 } as const;
/** Starts of one job, hand-backs of drains included; the last brake only. */
const MAX_STARTS = 100;
/** First wait before a further try. */
const DEFAULT_RETRY_DELAY_MS = 5000;
/** Longest wait of a job that Redis refused something. */
const MAX_REFUSAL_DELAY_MS = 5 * 60_000;

/**
 * Takes jobs of all queues, one of each at a time: an episode, and beside it the planning or publishing of a dataset and
 * a look for new recordings.
 */
export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #client: QueueClient;
  readonly #running: RunningJobs;
  readonly #workers: readonly Worker[];
  readonly #stopListening: () => void;
  /** Outcomes being recorded after their jobs have ended. */
  readonly #settling = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;
  /** Whether Redis was ever there: before that no job can have come. */
  #met = false;
  /** Looks, while this closes, whether waiting is still of use. */
  #onChange: (() => void) | undefined;

  constructor(options: ConsumerOptions) {
    this.#options = options;
    const redis = connectPatient(options.redis, `${options.name}:worker`, options.log);
    redis.once('ready', () => (this.#met = true));
    this.#client = openQueueClient(redis, options.prefix, options.log, options.telemetry);
    this.#running = new RunningJobs({
      onStart: options.onStart,
      onEnd: (job) => {
        options.onEnd?.(job);
        this.#onChange?.();
      },
    });
    this.#workers = [this.#work('episode'), this.#work('dataset'), this.#work('watch')];
    this.#stopListening = listenForStops(redis, this.#client.store.keys, options.log, (stop) => {
      for (const { queue, jobId } of this.#running.list()) {
        if (queue === QUEUES.episode && stop.covers(jobId)) this.#running.stop(queue, jobId, 'cancelled');
      }
    });
  }

  /** Resolves when the first job can come. */
  async ready(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
  }

  /** Jobs running here now. */
  active() {
    return this.#running.list();
  }

  /** Takes no more jobs; resolves when those running have ended. Locks are renewed meanwhile. */
  drain(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Hands running jobs back to the head of their queue, without counting a try; `drain` resolves soon after. */
  handBack(): void {
    this.#running.stopAll('shutdown');
  }

  /** Stops one job of this process, when it runs here. */
  cancel(jobId: string): void {
    this.#running.stop(QUEUES.episode, jobId, 'cancelled');
  }

  async #close(): Promise<void> {
    const closed = Promise.all(this.#workers.map((worker) => worker.close(!this.#met)));
    // BullMQ waits for a first connection before it gives it up, and for answers that nobody needs any more.
    closed.catch((thrown: unknown) => this.#options.log.debug({ err: toError(thrown) }, 'closing unused'));
    await Promise.race([closed, this.#forsaken()]);
    this.#stopListening();
    await Promise.all(this.#settling);
    await this.#client.close();
    if (this.#met) await closed;
  }

  /** Resolves once there is nothing to wait for: no job runs here, and Redis is away. */
  #forsaken(): Promise<void> {
    const { redis } = this.#client;
    return new Promise((resolve) => {
      this.#onChange = () => {
        if (redis.status !== 'ready' && this.#running.list().length === 0) resolve();
      };
      redis.on('close', this.#onChange);
      this.#onChange();
    });
  }

  #work(kind: JobKind): Worker {
    const { prefix, name, lockDurationMs, stalledIntervalMs, log, telemetry } = this.#options;
    const { queue } = jobKinds[kind];
    // Three declared parameters: BullMQ counts them to decide whether the processor can be stopped.
    const worker = new Worker(queue, (job, token, signal) => this.#process(kind, job, token ?? '', signal), {
      connection: this.#client.redis,
      prefix,
      name,
      concurrency: 1,
      lockDuration: lockDurationMs,
      stalledInterval: stalledIntervalMs,
      maxStalledCount: MAX_STALLS[kind],
      maxStartedAttempts: MAX_STARTS,
      drainDelay: 5,
      skipVersionCheck: true,
      ...(telemetry === undefined ? {} : { telemetry }),
      settings: { backoffStrategy: jitteredBackoff },
    });
    worker.on('error', (error) => {
      // A job that Redis has lost ends without an event of its own.
      const lost = /^Missing (?:key|lock) for job (\S+)\. move/.exec(error.message)?.[1];
      if (lost !== undefined) this.#running.end({ queue, jobId: lost });
      // That Redis is away is said once, by the connection.
      if (redisFailure(error, 'answer')) log.debug({ queue, err: error }, 'queue worker');
      else log.warn({ queue, err: error }, 'queue worker');
    });
    worker.on('lockRenewalFailed', (jobIds) => {
      for (const jobId of jobIds) this.#running.stop(queue, jobId, 'lock-lost');
    });
    worker.on('stalled', (jobId) => {
      this.#options.context.metrics.job.stalled.inc();
      log.warn({ queue, jobId }, 'job had lost its worker and waits again');
    });
    worker.on('completed', (job, result) => this.#completed(kind, job, result));
    worker.on('failed', (job) => {
      if (!job) return;
      const settled = this.#failed(kind, job).finally(() => this.#settling.delete(settled));
      this.#settling.add(settled);
    });
    return worker;
  }

  async #process(kind: JobKind, job: Job, token: string, stopped: AbortSignal | undefined): Promise<unknown> {
    const { queue } = jobKinds[kind];
    const active = { queue, jobId: job.id ?? '', token, worker: this.#options.name };
    const signal = this.#running.start(active);
    const forward = () => this.#running.stop(queue, active.jobId, 'lock-lost');
    stopped?.addEventListener('abort', forward, { once: true });
    const { datasetId } = datasetOf.safeParse(job.data).data ?? {};
    const log = this.#options.log.child({ jobId: active.jobId, datasetId, attempt: job.attemptsMade + 1 });
    try {
      if (kind === 'dataset') return await runDataset(this.#planner(log), job, token, signal);
      if (kind === 'watch') return { enqueued: await this.#look(log, job, signal) };
      return await this.#episode(log, job, token, signal);
    } catch (thrown) {
      throw await this.#ended(kind, job, token, signal, thrown, log);
    } finally {
      stopped?.removeEventListener('abort', forward);
    }
  }

  async #episode(log: Log, job: Job, token: string, signal: AbortSignal): Promise<EpisodeResult> {
    const data = episodeJobSchema.safeParse(job.data);
    const { metrics } = this.#options.context;
    if (data.success) metrics.conversion.expectDataset(data.data.datasetId);
    if (job.attemptsStarted === 1 && job.processedOn !== undefined) {
      metrics.job.wait.observe(Math.max(0, job.processedOn - job.timestamp) / 1000);
    }
    const { openOutput, convert, scratch, context } = this.#options;
    const { store } = this.#client;
    const { result, upload } = await runEpisode(
      { store, openOutput, convert, scratch, context, log },
      job,
      token,
      signal,
    );
    await recordEnd(store, job, data.data?.datasetId ?? '', {
      state: result.outcome,
      result,
      upload,
    });
    return result;
  }

  async #look(log: Log, job: Job, signal: AbortSignal): Promise<number> {
    const { watchId } = parsePayload('watch', job.id ?? '', job.data);
    const { listSources, retryDelayMs = DEFAULT_RETRY_DELAY_MS } = this.#options;
    return await lookAtWatch({ client: this.#client, listSources, retryDelayMs, log }, watchId, signal);
  }

  #planner(log: Log): PlannerSetting {
    const { openOutput, finalize, scratch, context, defaultAttempts, prefix } = this.#options;
    const { store, episodes } = this.#client;
    return {
      store,
      episodes,
      datasetsQueue: `${prefix}:${QUEUES.dataset}`,
      openOutput,
      openUploads: (storage, signal) => {
        const uploads = new UploadCoordinator({
          storage,
          ...context.upload,
          metrics: context.metrics,
          signal,
          log,
        });
        return { put: (file) => uploads.add(file), close: () => uploads.close() };
      },
      finalize,
      scratch,
      context,
      defaultAttempts,
      retryDelayMs: this.#options.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS,
      log,
    };
  }

  /** What the queue is to do with a job that did not return: the error to throw to it. */
  async #ended(
    kind: JobKind,
    job: Job,
    token: string,
    signal: AbortSignal,
    thrown: unknown,
    log: Log,
  ): Promise<Error> {
    const { queue } = jobKinds[kind];
    const metrics = this.#options.context.metrics.job;
    const error = toError(thrown);
    if (['DelayedError', 'WaitingError', 'WaitingChildrenError'].includes(error.name)) {
      this.#running.end({ queue, jobId: job.id ?? '' });
      return error;
    }
    const canceled = signal.aborted
      ? asCanceled(signal.reason)
      : error instanceof CanceledError
        ? error
        : undefined;
    if (canceled?.reason === 'shutdown') {
      log.info({}, 'job handed back');
      await job.moveToWait(token);
      metrics.requeued.inc({ reason: 'shutdown' });
      if (kind === 'episode') metrics.attempts.inc({ outcome: 'requeued' });
      this.#running.end({ queue, jobId: job.id ?? '' });
      return new WaitingError();
    }
    if (canceled?.reason === 'lock-lost') {
      log.warn({}, 'job stopped: its lock was lost, another worker may have it');
      metrics.lockLost.inc();
      if (kind === 'episode') metrics.attempts.inc({ outcome: 'lost' });
      this.#running.end({ queue, jobId: job.id ?? '' });
      return new Error('lock lost', { cause: thrown });
    }
    if (canceled) {
      await this.#record(kind, job, { state: 'cancelled', reason: 'cancelled', counts: false });
      return new UnrecoverableError('cancelled');
    }
    const reason = reasonOf(error);
    if (isRefusal(error)) {
      log.warn({ reason }, 'Redis refused what the job asked of it; the job waits');
      const { retryDelayMs = DEFAULT_RETRY_DELAY_MS } = this.#options;
      const delayMs = Math.min(job.attemptsStarted * retryDelayMs, MAX_REFUSAL_DELAY_MS);
      await job.moveToDelayed(Date.now() + delayMs, token);
      metrics.requeued.inc({ reason: 'redis' });
      if (kind === 'episode') metrics.attempts.inc({ outcome: 'requeued' });
      this.#running.end({ queue, jobId: job.id ?? '' });
      return new DelayedError();
    }
    const last = isFinal(error) || job.attemptsMade + 1 >= (job.opts.attempts ?? 1);
    log.warn({ reason, error: kindOf(error), final: last, err: error }, 'job failed');
    if (!last) return new Error(reason, { cause: thrown });
    await this.#record(kind, job, { state: 'failed', reason, counts: true });
    return new UnrecoverableError(reason);
  }

  async #record(
    kind: JobKind,
    job: Job,
    end: { state: 'failed' | 'cancelled'; reason: string; counts: boolean },
  ): Promise<void> {
    if (kind === 'watch') return;
    const data = jobKinds[kind].data.safeParse(job.data);
    if (!data.success) return;
    const { datasetId, runId } = data.data;
    if (kind === 'episode') await recordEnd(this.#client.store, job, datasetId, end);
    else {
      const { store, episodes } = this.#client;
      await failRun(
        store,
        episodes,
        this.#options.context.metrics.conversion,
        { runId, datasetId },
        end.reason,
      );
    }
  }

  #completed(kind: JobKind, job: Job, result: unknown): void {
    if (kind === 'episode') {
      const parsed = jobKinds.episode.result.parse(result);
      const { datasetId } = jobKinds.episode.data.parse(job.data);
      const { metrics } = this.#options.context;
      const end = { jobId: job.id, state: parsed.outcome, frames: parsed.frames, seconds: secondsOf(job) };
      countOutcome(metrics.conversion, datasetId, end);
      metrics.job.attempts.inc({ outcome: parsed.outcome });
      const { outcome, frames } = parsed;
      this.#options.log.info(
        { jobId: job.id, datasetId, outcome, frames, seconds: end.seconds },
        'episode ended',
      );
    }
    this.#running.end({ queue: jobKinds[kind].queue, jobId: job.id ?? '' });
  }

  /** After a try that failed; terminal when the queue says so. */
  async #failed(kind: JobKind, job: Job): Promise<void> {
    try {
      const { metrics } = this.#options.context;
      if (!job.finishedOn) {
        if (kind === 'episode') metrics.job.attempts.inc({ outcome: 'retried' });
        return;
      }
      const state = job.failedReason === 'cancelled' ? 'cancelled' : 'failed';
      // The queue gives jobs up (stalled or started too often) without running them: nobody has recorded those.
      if (job.deferredFailure || job.attemptsStarted > MAX_STARTS) {
        await this.#record(kind, job, { state, reason: queueReason(job.failedReason), counts: false });
      }
      if (kind === 'episode') {
        const data = jobKinds.episode.data.safeParse(job.data);
        const end = { jobId: job.id, state, frames: 0, seconds: secondsOf(job) } as const;
        countOutcome(metrics.conversion, data.data?.datasetId ?? 'unknown', end);
        metrics.job.attempts.inc({ outcome: state });
      }
    } catch (thrown) {
      this.#options.log.error({ jobId: job.id, err: toError(thrown) }, 'outcome was not recorded');
    } finally {
      this.#running.end({ queue: jobKinds[kind].queue, jobId: job.id ?? '' });
    }
  }
}
