import type { Telemetry } from 'bullmq';
import { readManifestSummary } from '../conversion/ledger.ts';
import type { Log } from '../conversion/types.ts';
import { toError } from '../errors.ts';
import type { Storage } from '../storage/types.ts';
import { cancelDataset, cancelJob, type JobChanged, retryDataset, retryJob } from './changes.ts';
import { openQueueClient, type QueueClient } from './client.ts';
import { answered, connectFailFast, type RedisReport, type RedisSettings, redisProbe } from './connection.ts';
import {
  allowed,
  EXPAND_TIMEOUT_MS,
  type LocationCheck,
  newestRun,
  type SourceCheck,
  stageRecordings,
  startRun,
} from './enqueue.ts';
import {
  activeProgress,
  type DatasetEvent,
  eventsAfter,
  newestEvent,
  type Pace,
  type ProgressEvent,
} from './events.ts';
import { reasonOf } from './failures.ts';
import { doOnce, type Once } from './idempotency.ts';
import type { AppendRequest, Enqueued, EnqueueRequest, QueueName } from './jobs.ts';
import { queueReport, type QueueReport, scalingNumber } from './load.ts';
import { otherOutput, type Refusal, unknownDataset } from './refusals.ts';
import type { DatasetStatus, JobState, JobStatus, Page } from './shapes.ts';
import { Status } from './status.ts';
import { addWatch, listWatches, removeWatch, type WatchRequest, type WatchStatus } from './watches.ts';

export type ProducerOptions = {
  readonly redis: RedisSettings;
  readonly prefix: string;
  readonly log: Log;
  /** Tracing of what is enqueued; none by default. */
  readonly telemetry?: Telemetry | undefined;
  /** Where jobs may read, and write. */
  readonly checkSource: SourceCheck;
  readonly checkOutput: LocationCheck;
  /** Where a watch may look. */
  readonly checkPrefix: LocationCheck;
  /** For the alignment reports of converted recordings. */
  readonly openOutput: (url: string) => Storage;
  /** First wait before another try of planning or publishing; default 5 s. */
  readonly retryDelayMs?: number;
};

/** Longest a status answer waits for a manifest. */
const MANIFEST_TIMEOUT_MS = 2000;
/** Longest a change of up to 100,000 recordings may take. */
const CHANGE_TIMEOUT_MS = 60_000;
const DEFAULT_RETRY_DELAY_MS = 5000;

/**
 * The way in: enqueues, answers for status, cancels and retries. Over a connection that fails fast: every method
 * rejects with a retryable `StorageError` within about 3 s when Redis is away.
 */
export class Producer {
  readonly #options: ProducerOptions;
  readonly #client: QueueClient;
  readonly #status: Status;
  readonly #retryDelayMs: number;

  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#retryDelayMs = options.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS;
    const redis = connectFailFast(options.redis, 'roboflow:producer', options.log);
    this.#client = openQueueClient(redis, options.prefix, options.log, options.telemetry);
    this.#status = new Status(this.#client);
  }

  /** The queues, for the board and for giving crashed jobs back. */
  get client(): QueueClient {
    return this.#client;
  }

  /** Adds recordings to a dataset, which is made when it is new. A recording named twice is taken once. */
  async enqueueDataset(request: EnqueueRequest): Promise<Enqueued | Refusal> {
    const { datasetId, config, options } = request;
    const output = await allowed(this.#options.checkOutput, request.output, '/output');
    const { staged, faults } = await stageRecordings(request.recordings, this.#options.checkSource);
    if (typeof output !== 'string') return { refused: 'invalid', faults: [output, ...faults] };
    if (faults.length > 0) return { refused: 'invalid', faults };
    return await this.#change('enqueue', async () => {
      const known = await this.#client.store.dataset(datasetId);
      if (known && known.output !== output) return otherOutput(known, output);
      const run = { datasetId, output, kind: 'enqueue', config, options, recordings: staged } as const;
      return await startRun(this.#client, run, this.#retryDelayMs);
    });
  }

  /** Adds recordings to a known dataset, under its newest config. */
  async appendRecordings(datasetId: string, request: AppendRequest): Promise<Enqueued | Refusal> {
    const { staged, faults } = await stageRecordings(request.recordings, this.#options.checkSource);
    if (faults.length > 0) return { refused: 'invalid', faults };
    return await this.#change('enqueue', async () => {
      const known = await newestRun(this.#client, datasetId);
      if (!known) return unknownDataset(datasetId);
      const { output, config } = known;
      const run = {
        datasetId,
        output,
        kind: 'append',
        config,
        options: request.options,
        recordings: staged,
      } as const;
      return await startRun(this.#client, run, this.#retryDelayMs);
    });
  }

  /** Stops what waits and runs of a dataset; what is converted stays. */
  async cancelDataset(datasetId: string): Promise<Enqueued | Refusal> {
    return await this.#change('cancel', () => cancelDataset(this.#client, datasetId));
  }

  /** Starts a run of the recordings that failed or were cancelled. */
  async retryDataset(datasetId: string): Promise<Enqueued | Refusal> {
    return await this.#change('retry', () => retryDataset(this.#client, datasetId, this.#retryDelayMs));
  }

  /** Stops one recording; one that has ended is a conflict. */
  async cancelJob(jobId: string): Promise<JobChanged | Refusal> {
    return await this.#change('cancel', () => cancelJob(this.#client, this.#status, jobId));
  }

  /** Starts a run of one recording that failed or was cancelled. */
  async retryJob(jobId: string): Promise<JobChanged | Refusal> {
    return await this.#change('retry', () => retryJob(this.#client, this.#status, jobId, this.#retryDelayMs));
  }

  /** Does `work` once for an idempotency key; refusals are not remembered. */
  async once<T extends object>(
    request: { readonly scope: string; readonly key: string; readonly input: unknown },
    work: () => Promise<T>,
  ): Promise<Once<T>> {
    const { redis, store } = this.#client;
    // The patterns of a request have their own time, before anything is changed.
    return await answered(
      redis,
      'enqueue',
      () => doOnce(redis, store.keys, request, work, (answer) => !('refused' in answer)),
      EXPAND_TIMEOUT_MS + CHANGE_TIMEOUT_MS,
    );
  }

  async dataset(datasetId: string): Promise<DatasetStatus | undefined> {
    return await this.#ask('answer for a dataset', () => this.#status.dataset(datasetId));
  }

  async datasets(options: { cursor?: string | undefined; limit: number }): Promise<Page<DatasetStatus>> {
    return await this.#ask('list datasets', () => this.#status.datasets(options));
  }

  async jobs(options: {
    state?: JobState | undefined;
    dataset?: string | undefined;
    cursor?: string | undefined;
    limit: number;
  }): Promise<Page<JobStatus>> {
    return await this.#ask('list jobs', () => this.#status.jobs(options));
  }

  /** One job with its alignment report, when it is converted and its manifest can be read. */
  async job(jobId: string): Promise<JobStatus | undefined> {
    const found = await this.#ask('answer for a job', async () => {
      const job = await this.#status.job(jobId);
      return job && { job, output: (await this.#client.store.dataset(job.datasetId))?.output };
    });
    if (!found) return undefined;
    const { key, ...job } = found.job;
    if ((job.state !== 'completed' && job.state !== 'skipped') || found.output === undefined) return job;
    try {
      const signal = AbortSignal.timeout(MANIFEST_TIMEOUT_MS);
      const manifest = await readManifestSummary(this.#options.openOutput(found.output), key, signal);
      return manifest ? { ...job, alignment: manifest.alignment } : job;
    } catch (thrown) {
      this.#options.log.warn({ jobId, reason: reasonOf(thrown) }, 'manifest cannot be read now');
      return job;
    }
  }

  /** Id of the newest event of a dataset. */
  async newestEvent(datasetId: string): Promise<string> {
    return await this.#ask('answer for a dataset', () => newestEvent(this.#client, datasetId));
  }

  /** Events of a dataset after one, oldest first. */
  async eventsAfter(datasetId: string, after: string): Promise<DatasetEvent[]> {
    return await this.#ask('answer for a dataset', () => eventsAfter(this.#client, datasetId, after));
  }

  /** What runs now of a dataset and, with the `pace` of earlier calls, how fast. */
  async progress(datasetId: string, pace: Pace): Promise<ProgressEvent | undefined> {
    return await this.#ask('answer for a dataset', async () => {
      const status = await this.#status.dataset(datasetId);
      return status && pace.read(status, await activeProgress(this.#client, datasetId));
    });
  }

  /** Watches a prefix: what appears below it is enqueued when it is complete. */
  async watch(request: WatchRequest): Promise<WatchStatus | Refusal> {
    const output = await allowed(this.#options.checkOutput, request.output, '/output');
    const prefix = await allowed(this.#options.checkPrefix, request.prefix, '/prefix');
    if (typeof output === 'string' && typeof prefix === 'string') {
      return await this.#change('watch', () => addWatch(this.#client, { ...request, output, prefix }));
    }
    return { refused: 'invalid', faults: [output, prefix].filter((fault) => typeof fault !== 'string') };
  }

  async watches(): Promise<WatchStatus[]> {
    return await this.#ask('list watches', () => listWatches(this.#client));
  }

  /** Ends a watch; false when there is none. */
  async unwatch(watchId: string): Promise<boolean> {
    return await this.#change('end a watch', () => removeWatch(this.#client, watchId));
  }

  /** Work there is: for an autoscaler. */
  async scaling(): Promise<number> {
    return await this.#ask('count jobs', () => scalingNumber(this.#client));
  }

  /** Counts of one queue, for health and metrics. */
  async queue(name: QueueName): Promise<QueueReport> {
    return await this.#ask('count jobs', () => queueReport(this.#client, name));
  }

  /** Whether any worker is connected that converts; true also where Redis does not tell who is connected. */
  async hasWorkers(): Promise<boolean> {
    return await this.#ask('list its clients', async () => {
      try {
        return (await this.#client.episodes.getWorkersCount()) > 0;
      } catch (thrown) {
        // Hosted ones know no such command, or forbid it.
        if (/^(NOPERM|ERR unknown)/.test(toError(thrown).message)) return true;
        throw thrown;
      }
    });
  }

  /** Health of Redis as the queue sees it. */
  async redis(): Promise<RedisReport> {
    return await redisProbe(this.#client.redis, this.#client.store.keys.probe);
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  async #ask<T>(what: string, work: () => Promise<T>): Promise<T> {
    return await answered(this.#client.redis, what, work);
  }

  async #change<T>(what: string, work: () => Promise<T>): Promise<T> {
    return await answered(this.#client.redis, what, work, CHANGE_TIMEOUT_MS);
  }
}
