import type { Redis } from 'ioredis';
import { z } from 'zod';
import { datasetConfig } from '../conversion/config.ts';
import { StorageError } from '../errors.ts';
import { enqueueOptionsSchema, type QueueName, uploadShape } from './jobs.ts';
import { type Keys, keysOf, type Terminal, TERMINAL } from './keys.ts';
import { keepDataset, retireDataset } from './retention.ts';
import * as scripts from './scripts.ts';

export const datasetStates = [
  'planning',
  'converting',
  'finalizing',
  'completed',
  'partial',
  'failed',
  'cancelled',
] as const;
export type DatasetState = (typeof datasetStates)[number];

/** True for states that only a new run leaves. */
export function isTerminal(state: DatasetState): boolean {
  return state !== 'planning' && state !== 'converting' && state !== 'finalizing';
}

/** How and when a recording ended; times in ms since the epoch. */
export const outcomeSchema = z.object({
  state: z.enum(TERMINAL),
  runId: z.string(),
  frames: z.int().min(0),
  attempts: z.int().min(0),
  reason: z.string().optional(),
  upload: uploadShape.optional(),
  createdAt: z.int(),
  startedAt: z.int().nullable(),
  finishedAt: z.int(),
});
export type Outcome = z.output<typeof outcomeSchema>;

/** A recording as part of a dataset; `slot` once it is planned, `runId` the newest run that has it. */
const entrySchema = z.object({
  seq: z.int(),
  runId: z.string(),
  source: z.string(),
  task: z.string().optional(),
  slot: z.int().optional(),
});
export type Entry = z.output<typeof entrySchema> & { readonly key: string };

/** One recording of a run as it was asked for. */
export type Staged = { readonly key: string; readonly source: string; readonly task?: string | undefined };

/** What one enqueue, append or retry asked for. */
const runSchema = z.object({
  runId: z.string(),
  datasetId: z.string(),
  output: z.string(),
  kind: z.enum(['enqueue', 'append', 'retry']),
  /** Recordings of the run. */
  total: z.int().min(1),
  config: datasetConfig,
  options: enqueueOptionsSchema,
  /** ms since the epoch. */
  createdAt: z.int(),
});
export type Run = z.output<typeof runSchema>;

export type DatasetRecord = {
  readonly datasetId: string;
  readonly runId: string;
  readonly state: DatasetState;
  readonly output: string;
  readonly frames: number;
  readonly published: number | undefined;
  readonly reason: string | undefined;
  readonly createdAt: number;
  readonly finishedAt: number | undefined;
};

const CHUNK = 500;

/** Datasets, runs and recordings in Redis: what the queue itself does not know. Every step is atomic and repeatable. */
export class DatasetStore {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly #configs = new Map<string, Run>();

  constructor(redis: Redis, prefix: string) {
    this.redis = redis;
    this.keys = keysOf(prefix);
  }

  /** Keeps a run and its recordings for the planner; a run that is never committed is forgotten after a day. */
  async stage(run: Run, recordings: readonly Staged[]): Promise<void> {
    for (const part of chunks(recordings)) {
      await this.redis.rpush(this.keys.staged(run.runId), ...part.map((staged) => JSON.stringify(staged)));
    }
    await this.redis.expire(this.keys.staged(run.runId), 86_400);
    await this.redis.set(this.keys.spec(run.runId), JSON.stringify(run), 'EX', 86_400);
  }

  /** Forgets what only the planner needs. */
  async unstage(runId: string): Promise<void> {
    await this.redis.del(this.keys.staged(runId), this.keys.spec(runId));
  }

  /** Recordings `from` … `from + count - 1` of a run in their order. */
  async staged(runId: string, from: number, count: number): Promise<Staged[]> {
    const texts = await this.redis.lrange(this.keys.staged(runId), from, from + count - 1);
    return texts.map((text) => JSON.parse(text) as Staged);
  }

  /**
   * Makes a staged run the newest of its dataset and its recordings part of the dataset.
   * Returns `false` when the dataset writes to another output.
   */
  async commit(run: Run): Promise<boolean> {
    const { dataset, index, runs } = this.keys;
    const done = await scripts.commitRun(
      this.redis,
      [
        dataset(run.datasetId),
        this.keys.run(run.runId),
        index,
        runs(run.datasetId),
        this.keys.events(run.datasetId),
      ],
      [run.runId, run.datasetId, run.output, run.createdAt, JSON.stringify(run), 'planning'],
    );
    if (done === -1) return false;
    await keepDataset(this.redis, this.keys, run.datasetId);
    for (let from = 0; from < run.total; from += CHUNK) await this.merge(run, from, CHUNK);
    return true;
  }

  /** Puts a part of a run's recordings into the dataset; returns them. */
  async merge(run: Pick<Run, 'runId' | 'datasetId'>, from: number, count: number): Promise<Staged[]> {
    const part = await this.staged(run.runId, from, count);
    if (part.length === 0) return part;
    const { dataset, entries, order, outcomes } = this.keys;
    await scripts.mergeEntries(
      this.redis,
      [
        dataset(run.datasetId),
        entries(run.datasetId),
        order(run.datasetId),
        outcomes(run.datasetId),
        ...this.#zsets(run.datasetId),
      ],
      [run.runId, ...part.flatMap((staged) => [staged.key, staged.source, staged.task ?? ''])],
    );
    return part;
  }

  /** The video slots of recordings, given now where they have none. */
  async slots(datasetId: string, recordings: readonly string[]): Promise<number[]> {
    const { dataset, entries } = this.keys;
    return (await scripts.assignSlots(
      this.redis,
      [dataset(datasetId), entries(datasetId)],
      recordings,
    )) as number[];
  }

  /** Takes over recordings of the ledger; `nextSlot` is the first slot that was never given. */
  async adopt(
    datasetId: string,
    nextSlot: number,
    recordings: readonly {
      key: string;
      slot: number;
      source: string;
      task?: string | undefined;
      outcome?: Outcome | undefined;
    }[],
  ): Promise<void> {
    const { dataset, entries, order, outcomes } = this.keys;
    for (const part of [...chunks(recordings), []]) {
      await scripts.adoptEntries(
        this.redis,
        [
          dataset(datasetId),
          entries(datasetId),
          order(datasetId),
          outcomes(datasetId),
          ...this.#zsets(datasetId),
        ],
        [
          nextSlot,
          ...part.flatMap(({ key, slot, source, task, outcome }) => [
            key,
            slot,
            JSON.stringify({ seq: 0, runId: outcome?.runId ?? '', source, task }),
            outcome?.state ?? '',
            outcome ? JSON.stringify(outcome) : '',
          ]),
        ],
      );
    }
    await this.redis.hset(dataset(datasetId), 'ledger', '1');
  }

  /** True once `adopt` was done for the dataset in this Redis. */
  async adopted(datasetId: string): Promise<boolean> {
    return (await this.redis.hexists(this.keys.dataset(datasetId), 'ledger')) === 1;
  }

  /** Records how a recording ended; false when a newer run has it, or `unlessEnded` and it has ended. */
  async record(
    datasetId: string,
    recording: string,
    outcome: Outcome,
    unlessEnded = false,
  ): Promise<boolean> {
    const { dataset, entries, outcomes } = this.keys;
    const done = await scripts.recordOutcome(
      this.redis,
      [
        dataset(datasetId),
        entries(datasetId),
        outcomes(datasetId),
        ...this.#zsets(datasetId),
        this.keys.events(datasetId),
        this.keys.order(datasetId),
      ],
      [recording, outcome.runId, outcome.state, JSON.stringify(outcome), unlessEnded ? 1 : 0],
    );
    return done === 1;
  }

  /**
   * Sets the state of a run, and of its dataset while it is the newest; one that has ended may be forgotten in time.
   * Returns false, and changes nothing, where a cancelled run would go on or one that is being published be cancelled.
   */
  async setState(
    run: Pick<Run, 'runId' | 'datasetId'>,
    fields: {
      readonly state: DatasetState;
      readonly finishedAt?: number;
      readonly published?: number;
      readonly reason?: string | undefined;
    },
  ): Promise<boolean> {
    const newest = await scripts.setState(
      this.redis,
      [this.keys.dataset(run.datasetId), this.keys.run(run.runId), this.keys.events(run.datasetId)],
      [run.runId, ...Object.entries(fields).flatMap(([field, value]) => [field, value ?? ''])],
    );
    if (newest === 1 && fields.finishedAt !== undefined)
      await retireDataset(this.redis, this.keys, run.datasetId);
    return newest !== -1;
  }

  /**
   * A run with its config; kept in memory once read, as it never changes. Rejects with a retryable `StorageError` when
   * another version of the service wrote what this one does not know: a worker of that version may take it.
   */
  async run(runId: string): Promise<Run | undefined> {
    const known = this.#configs.get(runId);
    if (known) return known;
    const [kept, staged] = await this.redis
      .hget(this.keys.run(runId), 'spec')
      .then(async (text) => [text, text === null ? await this.redis.get(this.keys.spec(runId)) : null]);
    const text = kept ?? staged;
    if (!text) return undefined;
    const run = parseRun(runId, text);
    if (this.#configs.size >= 32) this.#configs.delete(this.#configs.keys().next().value ?? '');
    this.#configs.set(runId, run);
    return run;
  }

  /** Marks a run as stopped: every job of it that starts from now on ends at once. */
  async stopRun(runId: string, mark: 'cancelled' | 'blocked', reason: string): Promise<void> {
    await this.redis.hset(this.keys.run(runId), mark, reason);
  }

  /** Why jobs of a run must not run, if so. */
  async stopped(
    runId: string,
    recording: string,
  ): Promise<{ cancelled: boolean; blocked: string | undefined }> {
    const [all, blocked, one] = await this.redis.hmget(
      this.keys.run(runId),
      'cancelled',
      'blocked',
      `cancelled:${recording}`,
    );
    return { cancelled: Boolean(all ?? one), blocked: blocked ?? undefined };
  }

  async dataset(datasetId: string): Promise<DatasetRecord | undefined> {
    const fields = await this.redis.hgetall(this.keys.dataset(datasetId));
    if (fields['runId'] === undefined || fields['output'] === undefined) return undefined;
    return {
      datasetId,
      runId: fields['runId'],
      state: z.enum(datasetStates).parse(fields['state']),
      output: fields['output'],
      frames: Number(fields['frames'] ?? 0),
      published: fields['published'] === undefined ? undefined : Number(fields['published']),
      reason: fields['reason'],
      createdAt: Number(fields['createdAt']),
      finishedAt: fields['finishedAt'] === undefined ? undefined : Number(fields['finishedAt']),
    };
  }

  async entries(datasetId: string, recordings: readonly string[]): Promise<(Entry | undefined)[]> {
    if (recordings.length === 0) return [];
    const texts = await this.redis.hmget(this.keys.entries(datasetId), ...recordings);
    return texts.map((text, i) =>
      text ? { ...entrySchema.parse(JSON.parse(text)), key: recordings[i] ?? '' } : undefined,
    );
  }

  async outcomes(datasetId: string, recordings: readonly string[]): Promise<(Outcome | undefined)[]> {
    if (recordings.length === 0) return [];
    const texts = await this.redis.hmget(this.keys.outcomes(datasetId), ...recordings);
    return texts.map((text) => (text ? outcomeSchema.parse(JSON.parse(text)) : undefined));
  }

  /** Keys in order of arrival after `afterSeq`; of one terminal state, or all. */
  async page(
    datasetId: string,
    state: Terminal | 'all',
    afterSeq: number,
    limit: number,
  ): Promise<{ key: string; seq: number }[]> {
    const set = state === 'all' ? this.keys.order(datasetId) : this.keys.ended(datasetId, state);
    const flat = await this.redis.zrangebyscore(set, `(${afterSeq}`, '+inf', 'WITHSCORES', 'LIMIT', 0, limit);
    const found: { key: string; seq: number }[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2) found.push({ key: flat[i] ?? '', seq: Number(flat[i + 1]) });
    return found;
  }

  /** Claims `what` for the job that holds `token`; returns the lock key of another living holder, or `undefined`. */
  async claim(what: string, queue: QueueName, jobId: string, token: string): Promise<string | undefined> {
    const held = await scripts.claim(
      this.redis,
      [this.keys.claim(what), this.keys.lock(queue, jobId)],
      [token],
    );
    return held === '' ? undefined : String(held);
  }

  async release(what: string, queue: QueueName, jobId: string, token: string): Promise<void> {
    await scripts.release(this.redis, [this.keys.claim(what), this.keys.lock(queue, jobId)], [token]);
  }

  #zsets(datasetId: string): string[] {
    return TERMINAL.map((state) => this.keys.ended(datasetId, state));
  }
}

function parseRun(runId: string, text: string): Run {
  const parsed = runSchema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  const found = z.prettifyError(parsed.error).replaceAll(/\s+/g, ' ');
  throw new StorageError(
    `expected a run that this version of the service knows, found ${runId} of another one: ${found}`,
    { retryable: true, reason: 'other', cause: parsed.error },
  );
}

/** Cuts a list into parts of at most 500. */
export function chunks<T>(list: readonly T[], size = CHUNK): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) =>
    list.slice(i * size, (i + 1) * size),
  );
}
