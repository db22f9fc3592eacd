import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Log } from '../conversion/types.ts';
import { InputError, throwIfAborted } from '../errors.ts';
import type { QueueClient } from './client.ts';
import { startRun } from './enqueue.ts';
import { reasonOf } from './failures.ts';
import { configSchema, datasetIdSchema, enqueueOptionsSchema, recordingKey, textSchema } from './jobs.ts';
import { otherOutput, type Refusal } from './refusals.ts';
import { isoTime } from './shapes.ts';
import type { Staged } from './store.ts';

/**
 * Watched prefixes: looked at again and again by a BullMQ job scheduler, in whatever worker is free. A recording is
 * enqueued once it is complete, that is when two looks in a row found the same size and ETag; and again when it changes.
 */

/** Body of `POST /v1/watches`. */
export const watchRequestSchema = z.strictObject({
  datasetId: datasetIdSchema,
  output: textSchema(4096),
  config: configSchema,
  /** Folder or bucket prefix; every recording below it is meant. */
  prefix: textSchema(4096),
  everySeconds: z.int().min(1).max(86_400).default(60),
  options: enqueueOptionsSchema.prefault({}),
});
export type WatchRequest = z.output<typeof watchRequestSchema>;

export const watchShape = z.object({
  watchId: z.string(),
  datasetId: z.string(),
  prefix: z.string(),
  output: z.string(),
  everySeconds: z.int(),
  createdAt: z.iso.datetime(),
  lastLookAt: z.iso.datetime().nullable(),
  /** Recordings enqueued, and those seen that may still grow. */
  taken: z.int(),
  growing: z.int(),
  /** Why the last look failed, if it did. */
  reason: z.string().optional(),
});
export type WatchStatus = z.output<typeof watchShape>;

const specSchema = watchRequestSchema.extend({ watchId: z.string(), createdAt: z.int() });
type Spec = z.output<typeof specSchema>;

/** Id of the watch of a prefix for a dataset. */
export function watchIdOf(datasetId: string, prefix: string): string {
  return `${datasetId}.${createHash('sha256').update(prefix).digest('hex').slice(0, 12)}`;
}

/** Begins to watch; the same prefix for the same dataset again changes how. Locations are checked URLs. */
export async function addWatch(client: QueueClient, request: WatchRequest): Promise<WatchStatus | Refusal> {
  const { redis, store, watches } = client;
  const known = await store.dataset(request.datasetId);
  if (known && known.output !== request.output) return otherOutput(known, request.output);
  const watchId = watchIdOf(request.datasetId, request.prefix);
  const before = await specOf(client, watchId);
  const spec: Spec = { ...request, watchId, createdAt: before?.createdAt ?? Date.now() };
  await redis.hset(store.keys.watches, watchId, JSON.stringify(spec));
  await watches.upsertJobScheduler(
    watchId,
    { every: request.everySeconds * 1000 },
    {
      name: 'watch',
      data: { watchId },
      opts: { removeOnComplete: { count: 20 }, removeOnFail: { count: 20 } },
    },
  );
  return await describe(client, spec);
}

/** Ends a watch; what it enqueued goes on. False when there is none. */
export async function removeWatch({ redis, store, watches }: QueueClient, watchId: string): Promise<boolean> {
  await watches.removeJobScheduler(watchId);
  await redis.del(store.keys.watched(watchId), store.keys.looks(watchId));
  return (await redis.hdel(store.keys.watches, watchId)) === 1;
}

/** All watches, by id. */
export async function listWatches(client: QueueClient): Promise<WatchStatus[]> {
  const specs = Object.values(await client.redis.hgetall(client.store.keys.watches));
  const watches = await Promise.all(
    specs.map((text) => describe(client, specSchema.parse(JSON.parse(text)))),
  );
  return watches.toSorted((a, b) => a.watchId.localeCompare(b.watchId));
}

/** The recordings below a prefix; throws `InputError` when there are none, or they are not allowed. */
export type ListSources = (
  prefix: string,
  signal: AbortSignal,
) => Promise<readonly { readonly url: string; readonly size: number; readonly etag: string }[]>;

/** What a look needs of the process it runs in. */
export type WatchSetting = {
  readonly client: QueueClient;
  readonly listSources: ListSources;
  readonly retryDelayMs: number;
  readonly log: Log;
};

/** One look: enqueues what has become complete. Returns how many recordings that were. */
export async function lookAtWatch(
  setting: WatchSetting,
  watchId: string,
  signal: AbortSignal,
): Promise<number> {
  const { redis, store } = setting.client;
  const spec = await specOf(setting.client, watchId);
  if (!spec) return 0;
  try {
    const enqueued = await look(setting, spec, signal);
    await redis.hset(store.keys.looks(watchId), 'at', Date.now());
    await redis.hdel(store.keys.looks(watchId), 'reason');
    return enqueued;
  } catch (thrown) {
    throwIfAborted(signal);
    await redis.hset(store.keys.looks(watchId), 'at', Date.now(), 'reason', reasonOf(thrown));
    // An empty prefix may fill; the next look tells.
    if (thrown instanceof InputError) return 0;
    throw thrown;
  }
}

async function look(
  { client, listSources, retryDelayMs, log }: WatchSetting,
  spec: Spec,
  signal: AbortSignal,
) {
  const { redis, store } = client;
  const watched = store.keys.watched(spec.watchId);
  const ready: { readonly staged: Staged; readonly version: string }[] = [];
  for (const { url, size, etag } of await listSources(spec.prefix, signal)) {
    const version = `${size} ${etag}`;
    const before = await redis.hget(watched, url);
    if (before === `taken ${version}`) continue;
    if (before === `seen ${version}`)
      ready.push({ staged: { key: recordingKey(url), source: url }, version });
    else await redis.hset(watched, url, `seen ${version}`);
  }
  if (ready.length === 0) return 0;
  const { datasetId, output, config, options } = spec;
  const recordings = ready.map(({ staged }) => staged);
  const run = await startRun(
    client,
    { datasetId, output, kind: 'enqueue', config, options, recordings },
    retryDelayMs,
  );
  if ('refused' in run) {
    throw new InputError(run.refused === 'invalid' ? 'the recordings cannot be enqueued' : run.detail);
  }
  for (const { staged, version } of ready) await redis.hset(watched, staged.source, `taken ${version}`);
  log.info({ watchId: spec.watchId, runId: run.runId, episodes: run.episodes }, 'new recordings enqueued');
  return run.episodes;
}

async function specOf({ redis, store }: QueueClient, watchId: string): Promise<Spec | undefined> {
  const text = await redis.hget(store.keys.watches, watchId);
  return text === null ? undefined : specSchema.parse(JSON.parse(text));
}

async function describe({ redis, store }: QueueClient, spec: Spec): Promise<WatchStatus> {
  const { watchId, datasetId, prefix, output, everySeconds, createdAt } = spec;
  const versions = await redis.hvals(store.keys.watched(watchId));
  const [at, reason] = await redis.hmget(store.keys.looks(watchId), 'at', 'reason');
  const taken = versions.filter((version) => version.startsWith('taken')).length;
  return {
    watchId,
    datasetId,
    prefix,
    output,
    everySeconds,
    createdAt: isoTime(createdAt) ?? '',
    lastLookAt: isoTime(at ? Number(at) : undefined),
    taken,
    growing: versions.length - taken,
    ...(reason ? { reason } : {}),
  };
}
