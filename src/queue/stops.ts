import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { Log } from '../conversion/types.ts';
import { toError } from '../errors.ts';
import { episodeJobId, splitEpisodeJobId } from './jobs.ts';
import type { Keys } from './keys.ts';

/**
 * Stop orders: a mark that jobs see when they start (kept with the run) and a message to the workers that run them now,
 * in whatever process and pod.
 */
const stopSchema = z.object({ runId: z.string(), key: z.string().optional() });

export type Stop = {
  /** True when the job of this id in the queue of episodes is meant. */
  covers(jobId: string): boolean;
};

/** Tells all workers to stop a run, or one recording of it. */
export async function publishStop(redis: Redis, keys: Keys, runId: string, key?: string): Promise<void> {
  await redis.publish(keys.stops, JSON.stringify({ runId, ...(key === undefined ? {} : { key }) }));
}

/** Calls back on every stop order, over a connection of its own; returns what ends that. */
export function listenForStops(redis: Redis, keys: Keys, log: Log, onStop: (stop: Stop) => void): () => void {
  // When ioredis subscribes anew after Redis was away, nobody handles its failure: one that is ended just then would
  // take the process with it.
  const subscriber = redis.duplicate({ autoResubscribe: false });
  let ended = false;
  subscriber.on('error', (error: Error) => log.debug({ err: error }, 'subscriber connection'));
  subscriber.on('ready', () => {
    subscriber.subscribe(keys.stops).catch((thrown: unknown) => {
      if (ended) return;
      log.error({ err: toError(thrown) }, 'cannot listen for stop orders; jobs see them at their next start');
    });
  });
  subscriber.on('message', (_channel: string, text: string) => {
    const parsed = stopSchema.safeParse(parse(text));
    if (!parsed.success) {
      log.warn({ text: text.slice(0, 200) }, 'stop order not understood');
      return;
    }
    const { runId, key } = parsed.data;
    onStop({
      covers: (jobId) =>
        key === undefined ? splitEpisodeJobId(jobId)?.runId === runId : jobId === episodeJobId(runId, key),
    });
  });
  return () => {
    ended = true;
    subscriber.disconnect();
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
