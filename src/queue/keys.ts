import type { QueueName } from './jobs.ts';

/** How a recording can end. */
export const TERMINAL = ['completed', 'failed', 'cancelled', 'skipped'] as const;
export type Terminal = (typeof TERMINAL)[number];

/** Names of the product's own keys in Redis, beside BullMQ's under the same prefix (so in one cluster slot). */
export function keysOf(prefix: string) {
  const own = `${prefix}:rf`;
  return {
    /** Sorted set of dataset ids by time of creation. */
    index: `${own}:index`,
    /** Hash: output, newest run, state, counters. */
    dataset: (id: string) => `${own}:dataset:${id}`,
    /** Hash key → entry (JSON). */
    entries: (id: string) => `${own}:entries:${id}`,
    /** Sorted set of keys in order of arrival. */
    order: (id: string) => `${own}:order:${id}`,
    /** Hash key → outcome (JSON) of recordings that have ended. */
    outcomes: (id: string) => `${own}:outcomes:${id}`,
    /** Sorted set of keys by terminal state. */
    ended: (id: string, state: Terminal) => `${own}:${state}:${id}`,
    /** Sorted set of the dataset's runs by time. */
    runs: (id: string) => `${own}:runs:${id}`,
    /** Text: a run (JSON) before it is committed. */
    spec: (id: string) => `${own}:spec:${id}`,
    /** Hash: what was asked for (JSON), state, stop marks. */
    run: (id: string) => `${own}:run:${id}`,
    /** List of a run's recordings (JSON) as they were asked for. */
    staged: (id: string) => `${own}:staged:${id}`,
    /** Hash key → crashes of a worker during this run. */
    crashes: (id: string) => `${own}:crashes:${id}`,
    /** Text: id of the episode job during which a worker died last. */
    lastCrash: `${own}:last-crash`,
    /** Who works on a recording, or plans or finalizes a dataset. */
    claim: (what: string) => `${own}:claim:${what}`,
    /** Hash watch id → what is watched (JSON). */
    watches: `${own}:watches`,
    /** Hash URL → version last seen, and whether it was enqueued. */
    watched: (id: string) => `${own}:watched:${id}`,
    /** Hash: when a watch was looked at last, and why that failed. */
    looks: (id: string) => `${own}:looks:${id}`,
    /** Sorted set of datasets that have ended, by when. */
    retired: `${own}:retired`,
    /** Stream of what happens to a dataset. */
    events: (id: string) => `${own}:events:${id}`,
    /** Answer to a request with an idempotency key. */
    idempotency: (digest: string) => `${own}:once:${digest}`,
    /** Text: written to see whether Redis takes writes. */
    probe: `${own}:probe`,
    /** Lock of a job, kept by BullMQ. */
    lock: (queue: QueueName, jobId: string) => `${prefix}:${queue}:${jobId}:lock`,
    /** A job itself, kept by BullMQ. */
    job: (queue: QueueName, jobId: string) => `${prefix}:${queue}:${jobId}`,
    /** Active jobs of a queue, kept by BullMQ. */
    active: (queue: QueueName) => `${prefix}:${queue}:active`,
    delayed: (queue: QueueName) => `${prefix}:${queue}:delayed`,
    /** Channel of stop orders to all workers. */
    stops: `${own}:stops`,
  };
}

export type Keys = ReturnType<typeof keysOf>;
