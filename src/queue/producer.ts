import { readManifestSummary } from '../conversion/ledger.ts';
import type { Log } from '../conversion/types.ts';
import type { DatasetConfig } from '../conversion/config.ts';
import { InputError, toError } from '../errors.ts';
import type { Storage } from '../storage/types.ts';
import { openQueueClient, type QueueClient } from './client.ts';
import { answered, connectFailFast, type RedisReport, type RedisSettings, redisProbe } from './connection.ts';
import { reasonOf } from './failures.ts';
import {
  type AppendRequest,
  type DatasetJob,
  type Enqueued,
  type EnqueueOptions,
  type EnqueueRequest,
  episodeJobId,
  newRunId,
  QUEUES,
  type QueueName,
  type Recording,
  recordingKey,
  splitPublicJobId,
} from './jobs.ts';
import { queueReport, type QueueReport, scalingNumber } from './load.ts';
import { datasetJobOptions } from './options.ts';
import type { DatasetStatus, JobState, JobStatus, Page } from './shapes.ts';
import { Status } from './status.ts';
import { publishStop } from './stops.ts';
import { type DatasetRecord, type Entry, isTerminal, type Run, type Staged, TERMINAL } from './store.ts';

/** An expected refusal: the caller asked for something that is not there, or not possible now. */
export type Refusal =
  | { readonly refused: 'unknown'; readonly detail: string }
  | { readonly refused: 'conflict'; readonly detail: string }
  | { readonly refused: 'invalid'; readonly faults: readonly { pointer: string; detail: string }[] };

export type ProducerOptions = {
  readonly redis: RedisSettings;
  readonly prefix: string;
  readonly log: Log;
  /** Makes a source or an output a URL, and throws `InputError` when jobs may not use it. */
  readonly checkSource: (location: string) => string | Promise<string>;
  readonly checkOutput: (location: string) => string | Promise<string>;
  /** For the alignment reports of converted recordings. */
  readonly openOutput: (url: string) => Storage;
  /** First wait before another try of planning or publishing; default 5 s. */
  readonly retryDelayMs?: number;
};

/** Longest a status answer waits for a manifest. */
const MANIFEST_TIMEOUT_MS = 2000;
/** Longest a change of up to 100,000 recordings may take. */
const CHANGE_TIMEOUT_MS = 60_000;

/**
 * The way in: enqueues, answers for status, cancels and retries. Over a connection that fails fast: every method
 * rejects with a retryable `StorageError` within about 3 s when Redis is away.
 */
export class Producer {
  readonly #options: ProducerOptions;
  readonly #client: QueueClient;
  readonly #status: Status;

  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#client = openQueueClient(
      connectFailFast(options.redis, 'roboflow:producer', options.log),
      options.prefix,
      options.log,
    );
    this.#status = new Status(this.#client);
  }

  /** The queues, for the board and for giving crashed jobs back. */
  get client(): QueueClient {
    return this.#client;
  }

  /** Adds recordings to a dataset, which is made when it is new. A recording named twice is taken once. */
  async enqueueDataset(request: EnqueueRequest): Promise<Enqueued | Refusal> {
    const output = await this.#allowed(this.#options.checkOutput, request.output, '/output');
    const { staged, faults } = await this.#stage(request.recordings);
    if (typeof output !== 'string') faults.unshift(output);
    if (typeof output !== 'string' || faults.length > 0) return { refused: 'invalid', faults };
    return await this.#change('enqueue', async () => {
      const known = await this.#client.store.dataset(request.datasetId);
      if (known && known.output !== output) return otherOutput(known, output);
      return await this.#start(request.datasetId, output, 'enqueue', request.config, request.options, staged);
    });
  }

  /** Adds recordings to a known dataset, under its newest config. */
  async appendRecordings(datasetId: string, request: AppendRequest): Promise<Enqueued | Refusal> {
    const { staged, faults } = await this.#stage(request.recordings);
    if (faults.length > 0) return { refused: 'invalid', faults };
    return await this.#change('enqueue', async () => {
      const known = await this.#newest(datasetId);
      if (!known) return unknownDataset(datasetId);
      return await this.#start(datasetId, known.output, 'append', known.config, request.options, staged);
    });
  }

  /** Stops what waits and runs of a dataset; what is converted stays. */
  async cancelDataset(datasetId: string): Promise<Enqueued | Refusal> {
    return await this.#change('cancel', async () => {
      const { store } = this.#client;
      const record = await store.dataset(datasetId);
      if (!record) return unknownDataset(datasetId);
      if (isTerminal(record.state)) {
        return { refused: 'conflict', detail: `dataset ${datasetId} has ended already (${record.state})` };
      }
      const open = await this.#recordingsWhere(datasetId, (state) => state === undefined);
      const runs = new Set([record.runId, ...open.map(({ runId }) => runId)]);
      for (const runId of runs) await store.stopRun(runId, 'cancelled', 'cancelled');
      for (const runId of runs) await publishStop(this.#client.redis, store.keys, runId);
      for (const runId of runs)
        await store.setState({ runId, datasetId }, { state: 'cancelled', finishedAt: Date.now() });
      await this.#recordCancelled(datasetId, open);
      return { datasetId, runId: record.runId, episodes: open.length };
    });
  }

  /** Starts a run of the recordings that failed or were cancelled. */
  async retryDataset(datasetId: string): Promise<Enqueued | Refusal> {
    return await this.#change('retry', async () => {
      const known = await this.#newest(datasetId);
      if (!known) return unknownDataset(datasetId);
      const failed = await this.#recordingsWhere(
        datasetId,
        (state) => state === 'failed' || state === 'cancelled',
      );
      const unpublished = known.state === 'failed' && failed.length === 0;
      const again = unpublished ? await this.#recordingsWhere(datasetId, () => true) : failed;
      if (again.length === 0) {
        return {
          refused: 'conflict',
          detail: `dataset ${datasetId} has no failed or cancelled recording to retry`,
        };
      }
      return await this.#start(
        datasetId,
        known.output,
        'retry',
        known.config,
        known.options,
        again.map(stagedOf),
      );
    });
  }

  /** Stops one recording; one that has ended is a conflict. */
  async cancelJob(jobId: string): Promise<(Enqueued & { jobId: string }) | Refusal> {
    return await this.#change('cancel', async () => {
      const job = await this.#status.job(jobId);
      if (!job) return unknownJob(jobId);
      if (isEnded(job.state))
        return { refused: 'conflict', detail: `job ${jobId} has ended already (${job.state})` };
      const { store, redis } = this.#client;
      await redis.hset(store.keys.run(job.runId), `cancelled:${job.key}`, '1');
      await publishStop(redis, store.keys, job.runId, job.key);
      const [entry] = await store.entries(job.datasetId, [job.key]);
      if (entry) await this.#recordCancelled(job.datasetId, [entry]);
      return { jobId: job.jobId, datasetId: job.datasetId, runId: job.runId, episodes: 1 };
    });
  }

  /** Starts a run of one recording that failed or was cancelled. */
  async retryJob(jobId: string): Promise<(Enqueued & { jobId: string }) | Refusal> {
    return await this.#change('retry', async () => {
      const job = await this.#status.job(jobId);
      const known = job && (await this.#newest(job.datasetId));
      if (!job || !known) return unknownJob(jobId);
      if (job.state !== 'failed' && job.state !== 'cancelled') {
        return {
          refused: 'conflict',
          detail: `job ${jobId} is ${job.state}; only failed and cancelled ones are retried`,
        };
      }
      const staged = { key: job.key, source: job.source, task: job.task };
      const run = await this.#start(job.datasetId, known.output, 'retry', known.config, known.options, [
        staged,
      ]);
      return 'refused' in run ? run : { jobId: job.jobId, ...run };
    });
  }

  async dataset(datasetId: string): Promise<DatasetStatus | undefined> {
    return await this.#ask('answer for a dataset', () => this.#status.dataset(datasetId));
  }

  async datasets(options: { cursor?: string | undefined; limit: number }): Promise<Page<DatasetStatus>> {
    return await this.#ask('list datasets', () => this.#status.datasets(options));
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

  async jobs(options: {
    state?: JobState | undefined;
    dataset?: string | undefined;
    cursor?: string | undefined;
    limit: number;
  }): Promise<Page<JobStatus>> {
    return await this.#ask('list jobs', () => this.#status.jobs(options));
  }

  /** Work there is: for an autoscaler. */
  async scaling(): Promise<number> {
    return await this.#ask('count jobs', () => scalingNumber(this.#client));
  }

  /** Counts of one queue, for health and metrics. */
  async queue(name: QueueName): Promise<QueueReport> {
    return await this.#ask('count jobs', () => queueReport(this.#client, name));
  }

  /** Health of Redis as the queue sees it. */
  async redis(): Promise<RedisReport> {
    return await redisProbe(this.#client.redis);
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

  async #start(
    datasetId: string,
    output: string,
    kind: Run['kind'],
    config: DatasetConfig,
    options: EnqueueOptions,
    staged: readonly Staged[],
  ): Promise<Enqueued | Refusal> {
    const { store, datasets } = this.#client;
    const runId = newRunId();
    const run: Run = {
      runId,
      datasetId,
      output,
      kind,
      total: staged.length,
      config,
      options,
      createdAt: Date.now(),
    };
    await store.stage(run, staged);
    const data: DatasetJob = { datasetId, runId, step: 'plan', planned: 0 };
    const job = await datasets.add(
      'dataset',
      data,
      datasetJobOptions(runId, options, this.#options.retryDelayMs ?? 5000),
    );
    if (!(await store.commit(run))) {
      await job.remove();
      const known = await store.dataset(datasetId);
      return known ? otherOutput(known, output) : unknownDataset(datasetId);
    }
    return { datasetId, runId, episodes: staged.length };
  }

  /** Record, newest config and options of a dataset. */
  async #newest(datasetId: string): Promise<(DatasetRecord & Pick<Run, 'config' | 'options'>) | undefined> {
    const record = await this.#client.store.dataset(datasetId);
    const run = record && (await this.#client.store.run(record.runId));
    return record && run && { ...record, config: run.config, options: run.options };
  }

  async #stage(recordings: readonly Recording[]) {
    const staged = new Map<string, Staged & { readonly at: number }>();
    const faults: { pointer: string; detail: string }[] = [];
    for (const [at, recording] of recordings.entries()) {
      const pointer = `/recordings/${at}/source`;
      const source = await this.#allowed(this.#options.checkSource, recording.source, pointer);
      if (typeof source !== 'string') {
        faults.push(source);
        continue;
      }
      const key = recordingKey(source);
      const before = staged.get(key);
      if (!before) staged.set(key, { key, source, task: recording.task, at });
      else if (before.task !== recording.task) {
        faults.push({ pointer, detail: `the same recording as /recordings/${before.at}, with another task` });
      }
    }
    return {
      staged: [...staged.values()].map(({ key, source, task }): Staged => ({ key, source, task })),
      faults,
    };
  }

  async #allowed(check: ProducerOptions['checkSource'], location: string, pointer: string) {
    try {
      return await check(location);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw toError(thrown);
      return { pointer, detail: thrown.message };
    }
  }

  async #recordingsWhere(
    datasetId: string,
    wanted: (state: (typeof TERMINAL)[number] | undefined) => boolean,
  ): Promise<Entry[]> {
    const { store } = this.#client;
    const found: Entry[] = [];
    for (let after = 0; ;) {
      const page = await store.page(datasetId, 'all', after, 500);
      const last = page.at(-1);
      if (!last) return found;
      after = last.seq;
      const keys = page.map(({ key }) => key);
      const [entries, outcomes] = [
        await store.entries(datasetId, keys),
        await store.outcomes(datasetId, keys),
      ];
      for (const [i, entry] of entries.entries()) if (entry && wanted(outcomes[i]?.state)) found.push(entry);
    }
  }

  /** Says at once that recordings are cancelled; their jobs end when a worker meets them. */
  async #recordCancelled(datasetId: string, entries: readonly Entry[]): Promise<void> {
    const { store, redis } = this.#client;
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
}

function stagedOf({ key, source, task }: Entry): Staged {
  return { key, source, task };
}

function isEnded(state: JobState): boolean {
  return TERMINAL.some((terminal) => terminal === state);
}

function unknownDataset(id: string): Refusal {
  return { refused: 'unknown', detail: `no dataset with the id ${JSON.stringify(id.slice(0, 128))}` };
}

function unknownJob(id: string): Refusal {
  const at = splitPublicJobId(id);
  return {
    refused: 'unknown',
    detail: `no job with the id ${JSON.stringify(id.slice(0, 256))}${at ? ` in dataset ${at.datasetId}` : ''}`,
  };
}

function otherOutput(known: DatasetRecord, output: string): Refusal {
  return {
    refused: 'conflict',
    detail: `dataset ${known.datasetId} is written to ${known.output}, not to ${output}`,
  };
}
