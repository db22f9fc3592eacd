import type { Job } from 'bullmq';
import { InputError } from '../errors.ts';
import type { QueueClient } from './client.ts';
import {
  episodeJobId,
  episodeResultSchema,
  progressSchema,
  publicJobId,
  QUEUES,
  splitEpisodeJobId,
  splitPublicJobId,
} from './jobs.ts';
import { type DatasetStatus, isoTime, type JobState, type JobStatus, type Page } from './shapes.ts';
import { TERMINAL, type Terminal } from './keys.ts';
import type { DatasetRecord, Entry, Outcome } from './store.ts';

/** Failures that a dataset's status lists. */
const FAILURES = 100;
/** Recordings looked at for one page of a list; a page may be short, but it always leads on. */
const SCAN = 2000;

/** Where a list goes on: after this recording of this dataset. */
type Position = { readonly datasetId: string; readonly seq: number };

/** Status of datasets and jobs, from the store and the queue. */
export class Status {
  readonly #client: QueueClient;

  constructor(client: QueueClient) {
    this.#client = client;
  }

  /** One dataset; `undefined` when unknown. */
  async dataset(datasetId: string): Promise<DatasetStatus | undefined> {
    const record = await this.#client.store.dataset(datasetId);
    return record && (await this.#describe(record));
  }

  /** Datasets, newest first. */
  async datasets(options: {
    readonly cursor?: string | undefined;
    readonly limit: number;
  }): Promise<Page<DatasetStatus>> {
    const ids = await this.#datasetIds(options.cursor, options.limit + 1);
    const items: DatasetStatus[] = [];
    for (const id of ids.slice(0, options.limit)) {
      const status = await this.dataset(id);
      if (status) items.push(status);
    }
    const last = ids.length > options.limit ? ids[options.limit - 1] : undefined;
    return last === undefined ? { items } : { items, next: encodeCursor({ datasetId: last, seq: 0 }) };
  }

  /** One job by its public id, or by its id in the queue; `undefined` when unknown. */
  async job(jobId: string): Promise<(JobStatus & { readonly key: string }) | undefined> {
    const { store } = this.#client;
    let at = splitPublicJobId(jobId);
    if (!at) {
      const inQueue = splitEpisodeJobId(jobId);
      const run = inQueue && (await store.run(inQueue.runId));
      if (!inQueue || !run) return undefined;
      at = { datasetId: run.datasetId, key: inQueue.key };
    }
    const [entry] = await store.entries(at.datasetId, [at.key]);
    const record = entry && (await store.dataset(at.datasetId));
    if (!entry || !record) return undefined;
    const [outcome] = await store.outcomes(at.datasetId, [at.key]);
    return { ...(await this.#describeJob(record, entry, outcome, await this.#activeIds())), key: at.key };
  }

  /** Jobs of one dataset in order of arrival, or of all, the newest dataset first. */
  async jobs(options: {
    readonly state?: JobState | undefined;
    readonly dataset?: string | undefined;
    readonly cursor?: string | undefined;
    readonly limit: number;
  }): Promise<Page<JobStatus>> {
    const { state, limit } = options;
    const items: JobStatus[] = [];
    let budget = SCAN;
    let at = options.cursor === undefined ? undefined : decodeCursor(options.cursor);
    const active = await this.#activeIds();
    if (state === 'active' || state === 'delayed')
      return await this.#inQueue(state, options, at?.seq ?? 0, active);
    for (;;) {
      const datasetId = at?.datasetId ?? options.dataset ?? (await this.#datasetIds(undefined, 1))[0];
      const record = datasetId === undefined ? undefined : await this.#client.store.dataset(datasetId);
      if (datasetId === undefined || (options.dataset !== undefined && datasetId !== options.dataset))
        return { items };
      let after = at?.seq ?? 0;
      for (let more = record !== undefined; more && record;) {
        const part = await this.#part(record, state, after, Math.min(100, budget), active);
        for (const { seq, job } of part) {
          after = seq;
          budget--;
          if (job && (state === undefined || job.state === state)) items.push(job);
          if (items.length === limit || budget === 0)
            return { items, next: encodeCursor({ datasetId, seq: after }) };
        }
        more = part.length > 0;
      }
      if (options.dataset !== undefined) return { items };
      const [next] = await this.#datasetIds(encodeCursor({ datasetId, seq: 0 }), 1);
      if (next === undefined) return { items };
      at = { datasetId: next, seq: 0 };
    }
  }

  /** Running and delayed jobs are few: they are asked for in the queue instead of being searched in the datasets. */
  async #inQueue(
    state: 'active' | 'delayed',
    { dataset, limit }: { readonly dataset?: string | undefined; readonly limit: number },
    from: number,
    active: ReadonlySet<string>,
  ): Promise<Page<JobStatus>> {
    const { store, redis } = this.#client;
    const ids =
      state === 'active'
        ? [...active].toSorted()
        : await redis.zrange(store.keys.delayed(QUEUES.episode), '0', '-1');
    const items: JobStatus[] = [];
    for (let at = from; at < ids.length; at++) {
      const id = splitEpisodeJobId(ids[at] ?? '');
      const run = id && (await store.run(id.runId));
      if (!run || (dataset !== undefined && run.datasetId !== dataset)) continue;
      const job = await this.job(publicJobId(run.datasetId, id.key));
      if (job?.state !== state) continue;
      const { key: _key, ...shown } = job;
      items.push(shown);
      if (items.length === limit && at + 1 < ids.length) {
        return { items, next: encodeCursor({ datasetId: run.datasetId, seq: at + 1 }) };
      }
    }
    return { items };
  }

  async #part(
    record: DatasetRecord,
    state: JobState | undefined,
    after: number,
    limit: number,
    active: ReadonlySet<string>,
  ): Promise<{ seq: number; job: JobStatus | undefined }[]> {
    const { store } = this.#client;
    const ended = TERMINAL.find((terminal): terminal is Terminal => terminal === state);
    const page = await store.page(record.datasetId, ended ?? 'all', after, limit);
    const keys = page.map(({ key }) => key);
    const entries = await store.entries(record.datasetId, keys);
    const outcomes = await store.outcomes(record.datasetId, keys);
    return await Promise.all(
      page.map(async ({ seq }, i) => {
        const [entry, outcome] = [entries[i], outcomes[i]];
        const wanted = state === undefined || ended !== undefined || outcome === undefined;
        const job = entry && wanted ? await this.#describeJob(record, entry, outcome, active) : undefined;
        return { seq, job };
      }),
    );
  }

  async #describe(record: DatasetRecord): Promise<DatasetStatus> {
    const { store, redis } = this.#client;
    const { datasetId } = record;
    const [total, ...ended] = await Promise.all([
      redis.zcard(store.keys.order(datasetId)),
      ...TERMINAL.map((state) => redis.zcard(store.keys.ended(datasetId, state))),
    ]);
    const [completed = 0, failed = 0, cancelled = 0, skipped = 0] = ended;
    const active = await this.#activeIn(datasetId);
    const waiting = Math.max(0, total - active - completed - failed - cancelled - skipped);
    const fate = await this.#fateOf(record);
    const self = `/v1/datasets/${encodeURIComponent(datasetId)}`;
    return {
      datasetId,
      runId: record.runId,
      state: fate.state,
      output: record.output,
      episodes: { total, waiting, active, completed, failed, cancelled, skipped },
      frames: record.published ?? record.frames,
      failures: await this.#failures(datasetId),
      ...(fate.reason === undefined ? {} : { reason: fate.reason }),
      createdAt: isoTime(record.createdAt) ?? '',
      finishedAt: isoTime(fate.finishedAt),
      links: { self, jobs: `/v1/jobs?dataset=${encodeURIComponent(datasetId)}`, events: `${self}/events` },
    };
  }

  /** The state as recorded, or that of a dataset job which the queue gave up without running it. */
  async #fateOf(record: DatasetRecord): Promise<Pick<DatasetRecord, 'state' | 'reason' | 'finishedAt'>> {
    if (record.finishedAt !== undefined) return record;
    const job = await this.#client.datasets.getJob(record.runId);
    if (!job?.finishedOn || !job.failedReason) return record;
    return { state: 'failed', reason: job.failedReason, finishedAt: job.finishedOn };
  }

  async #failures(datasetId: string): Promise<DatasetStatus['failures']> {
    const { store } = this.#client;
    const keys = (await store.page(datasetId, 'failed', 0, FAILURES)).map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    return keys.map((key, i) => ({
      jobId: publicJobId(datasetId, key),
      source: entries[i]?.source ?? '',
      reason: outcomes[i]?.reason ?? 'unknown',
    }));
  }

  async #describeJob(
    record: DatasetRecord,
    entry: Entry,
    outcome: Outcome | undefined,
    active: ReadonlySet<string>,
  ): Promise<JobStatus> {
    const base = {
      jobId: publicJobId(record.datasetId, entry.key),
      datasetId: record.datasetId,
      runId: entry.runId,
      source: entry.source,
      ...(entry.task === undefined ? {} : { task: entry.task }),
    };
    const id = episodeJobId(entry.runId, entry.key);
    const job: Job | undefined =
      outcome && outcome.state !== 'failed' ? undefined : await this.#client.episodes.getJob(id);
    const at = progressSchema.safeParse(job?.progress).data;
    if (outcome) {
      const done = outcome.state === 'completed' || outcome.state === 'skipped';
      return {
        ...base,
        state: outcome.state,
        stage: done ? 'upload' : (at?.stage ?? 'plan'),
        progress: done ? 1 : (at?.fraction ?? 0),
        frames: done ? outcome.frames : (at?.frames ?? 0),
        attempts: outcome.attempts,
        createdAt: isoTime(outcome.createdAt) ?? '',
        startedAt: isoTime(outcome.startedAt),
        finishedAt: isoTime(outcome.finishedAt),
        ...(outcome.reason === undefined ? {} : { reason: outcome.reason }),
        ...(outcome.upload === undefined ? {} : { upload: outcome.upload }),
      };
    }
    const state = await this.#stateOf(id, job, active);
    return {
      ...base,
      state,
      stage: at?.stage ?? 'plan',
      progress: at?.fraction ?? 0,
      frames: at?.frames ?? 0,
      attempts: job?.attemptsMade ?? 0,
      createdAt: isoTime(job?.timestamp ?? record.createdAt) ?? '',
      startedAt: isoTime(job?.processedOn),
      finishedAt: isoTime(job?.finishedOn),
      ...(job?.failedReason ? { reason: job.failedReason } : {}),
    };
  }

  async #stateOf(id: string, job: Job | undefined, active: ReadonlySet<string>): Promise<JobState> {
    if (active.has(id)) return 'active';
    if (!job) return 'waiting';
    if (job.finishedOn) {
      const result = episodeResultSchema.safeParse(job.returnvalue);
      return result.success ? result.data.outcome : job.failedReason === 'cancelled' ? 'cancelled' : 'failed';
    }
    const { redis, store } = this.#client;
    return (await redis.zscore(store.keys.delayed(QUEUES.episode), id)) === null ? 'waiting' : 'delayed';
  }

  /** Ids in the queue of the jobs that run now: as many as there are workers. */
  async #activeIds(): Promise<Set<string>> {
    const { redis, store } = this.#client;
    return new Set(await redis.lrange(store.keys.active(QUEUES.episode), 0, -1));
  }

  async #activeIn(datasetId: string): Promise<number> {
    const { store } = this.#client;
    const ids = [...(await this.#activeIds())].flatMap((id) => splitEpisodeJobId(id) ?? []);
    const keys = ids.map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    return ids.filter(({ runId }, i) => entries[i]?.runId === runId && !outcomes[i]).length;
  }

  /** Ids of datasets, newest first, after the one of a cursor. */
  async #datasetIds(cursor: string | undefined, limit: number): Promise<string[]> {
    const { redis, store } = this.#client;
    const after = cursor === undefined ? undefined : decodeCursor(cursor).datasetId;
    const rank = after === undefined ? null : await redis.zrevrank(store.keys.index, after);
    if (after !== undefined && rank === null) return [];
    const from = rank === null ? 0 : rank + 1;
    return await redis.zrevrange(store.keys.index, from, from + limit - 1);
  }
}

function encodeCursor(at: Position): string {
  return Buffer.from(JSON.stringify([at.datasetId, at.seq])).toString('base64url');
}

/** Throws `InputError` on anything that is not one of our cursors. */
function decodeCursor(cursor: string): Position {
  const fault = () => new InputError('expected a cursor as given in `next`');
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch (thrown) {
    throw new InputError(fault().message, { cause: thrown });
  }
  if (
    !Array.isArray(parsed) ||
    typeof parsed[0] !== 'string' ||
    !Number.isSafeInteger(parsed[1]) ||
    Number(parsed[1]) < 0
  )
    throw fault();
  return { datasetId: parsed[0], seq: Number(parsed[1]) };
}
