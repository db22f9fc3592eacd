import type { Redis } from 'ioredis';
import { type Keys, TERMINAL } from './keys.ts';

/** How long a dataset that has ended is known without its ledger, and how many are. */
const KEPT_SECONDS = 30 * 86_400;
const KEPT_DATASETS = 1000;

/**
 * Lets a dataset that has ended be forgotten: after a month, or when a thousand have ended later. What it was stays in
 * its ledger, from which the next enqueue takes it over again.
 */
export async function retireDataset(
  redis: Redis,
  keys: Keys,
  datasetId: string,
  kept = KEPT_DATASETS,
): Promise<void> {
  await expire(redis, keys, datasetId, KEPT_SECONDS);
  const now = Date.now();
  await redis.zadd(keys.retired, now, datasetId);
  const many = Math.max(0, (await redis.zcard(keys.retired)) - kept);
  const old = await redis.zrangebyscore(keys.retired, '0', String(now - KEPT_SECONDS * 1000));
  const surplus = many === 0 ? [] : await redis.zrange(keys.retired, '0', String(many - 1));
  for (const id of new Set([...old, ...surplus])) {
    await redis.zrem(keys.retired, id);
    const open =
      (await redis.exists(keys.dataset(id))) === 1 &&
      (await redis.hexists(keys.dataset(id), 'finishedAt')) === 0;
    if (open) continue;
    await expire(redis, keys, id, 0);
    await redis.zrem(keys.index, id);
  }
}

/** Keeps a dataset that goes on. */
export async function keepDataset(redis: Redis, keys: Keys, datasetId: string): Promise<void> {
  await redis.zrem(keys.retired, datasetId);
  await expire(redis, keys, datasetId, undefined);
}

/** Sets when everything of a dataset expires; `undefined`: never, 0: now. */
async function expire(
  redis: Redis,
  keys: Keys,
  datasetId: string,
  seconds: number | undefined,
): Promise<void> {
  const { dataset, entries, order, outcomes, runs, events, run, staged, crashes, ended } = keys;
  const names = [dataset, entries, order, outcomes, events].map((key) => key(datasetId));
  names.push(...TERMINAL.map((state) => ended(datasetId, state)));
  for (const id of await redis.zrange(runs(datasetId), '0', '-1'))
    names.push(run(id), staged(id), crashes(id));
  names.push(runs(datasetId));
  const all = redis.pipeline();
  for (const name of names) {
    if (seconds === undefined) all.persist(name);
    else all.expire(name, seconds);
  }
  for (const [error] of (await all.exec()) ?? []) if (error) throw error;
}
