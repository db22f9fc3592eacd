import { Queue, type Telemetry } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Log } from '../conversion/types.ts';
import { QUEUES } from './jobs.ts';
import { DatasetStore } from './store.ts';

/** The queues and the store over one connection. */
export type QueueClient = {
  readonly redis: Redis;
  readonly store: DatasetStore;
  readonly datasets: Queue;
  readonly episodes: Queue;
  readonly watches: Queue;
  /** Closes the queues and the connection. */
  close(): Promise<void>;
};

/** Opens the queues over `redis`, which the client owns from now on. */
export function openQueueClient(redis: Redis, prefix: string, log: Log, telemetry?: Telemetry): QueueClient {
  const open = (name: string) => {
    const queue = new Queue(name, {
      connection: redis,
      prefix,
      skipVersionCheck: true,
      ...(telemetry === undefined ? {} : { telemetry }),
    });
    // The connection reports its own trouble; a queue without a listener would end the process.
    queue.on('error', (error: Error) => log.debug({ queue: name, err: error }, 'queue connection'));
    return queue;
  };
  const datasets = open(QUEUES.dataset);
  const episodes = open(QUEUES.episode);
  const watches = open(QUEUES.watch);
  return {
    redis,
    store: new DatasetStore(redis, prefix),
    datasets,
    episodes,
    watches,
    close: async () => {
      await Promise.allSettled([datasets.close(), episodes.close(), watches.close()]);
      redis.disconnect();
    },
  };
}
