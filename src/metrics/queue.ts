import type { Registry } from 'prom-client';
import { toError } from '../errors.ts';
import { catalogue } from './catalogue.ts';
import { gauge } from './define.ts';
import { QUEUE_STATES } from './definition.ts';

/** One poll of what the pod depends on. `policy` is null or `unknown`, `aof` null, where Redis does not tell. */
export type DependencyReading = {
  readonly redis: {
    readonly latencyMs: number;
    readonly policy: string | null;
    readonly aof: boolean | null;
  };
  readonly queues: readonly {
    readonly name: string;
    readonly counts: Readonly<Record<string, number>>;
    readonly oldestWaitingSeconds: number | null;
    readonly paused: boolean;
  }[];
};

/** Where the values come from. */
export type PollingOptions = {
  /** Rejects when Redis is away; may hang. */
  readonly read: () => Promise<DependencyReading>;
  /** Free and total bytes of the scratch file system; left out when there is none (API only). */
  readonly scratch?: () => Promise<{ readonly free: number; readonly size: number }>;
  readonly intervalMs?: number;
  readonly timeoutMs?: number;
  /** Told once when polling begins to fail and once when it works again. */
  readonly onChange?: (state: { readonly up: boolean; readonly error?: Error }) => void;
};

/** Queue numbers older than this say nothing any more and are taken away. */
const STALE_MS = 60_000;

/**
 * Polls queue, Redis and scratch space every 10 s with a time limit of 2 s, so that a scrape never waits for them.
 * While Redis does not answer `roboflow_redis_up` is 0; the queue's last numbers stay for a minute.
 */
export function startQueuePolling(
  registry: Registry,
  options: PollingOptions,
): { poll(): Promise<void>; stop(): Promise<void> } {
  const metrics = {
    jobs: gauge(registry, catalogue.queueJobs),
    oldest: gauge(registry, catalogue.queueOldestWaiting),
    paused: gauge(registry, catalogue.queuePaused),
    up: gauge(registry, catalogue.redisUp),
    ping: gauge(registry, catalogue.redisPing),
    configOk: gauge(registry, catalogue.redisConfigOk),
    ...(options.scratch === undefined
      ? {}
      : {
          scratchFree: gauge(registry, catalogue.scratchFree),
          scratchSize: gauge(registry, catalogue.scratchSize),
        }),
  };
  const timeoutMs = options.timeoutMs ?? 2000;
  let up: boolean | undefined;
  let succeededAt = performance.now();
  let running: Promise<void> | undefined;

  const pollRedis = async (): Promise<void> => {
    try {
      const reading = await within(options.read(), timeoutMs, 'queue and Redis');
      metrics.up.set(1);
      metrics.ping.set(reading.redis.latencyMs / 1000);
      const { policy, aof } = reading.redis;
      metrics.configOk.set(
        (policy === null || policy === 'unknown' || policy === 'noeviction') && aof !== false ? 1 : 0,
      );
      for (const queue of reading.queues) {
        for (const state of QUEUE_STATES) {
          metrics.jobs.set({ queue: queue.name, state }, queue.counts[state] ?? 0);
        }
        metrics.oldest.set({ queue: queue.name }, queue.oldestWaitingSeconds ?? 0);
        metrics.paused.set({ queue: queue.name }, queue.paused ? 1 : 0);
      }
      succeededAt = performance.now();
      if (up === false) options.onChange?.({ up: true });
      up = true;
    } catch (thrown) {
      metrics.up.set(0);
      if (performance.now() - succeededAt > STALE_MS) {
        for (const metric of [metrics.jobs, metrics.oldest, metrics.paused]) metric.reset();
      }
      if (up !== false) options.onChange?.({ up: false, error: toError(thrown) });
      up = false;
    }
  };

  const pollScratch = async (): Promise<void> => {
    if (options.scratch === undefined) return;
    try {
      const { free, size } = await within(options.scratch(), timeoutMs, 'scratch');
      metrics.scratchFree?.set(free);
      metrics.scratchSize?.set(size);
    } catch {
      // no value is the truth about a file system that cannot be asked; the alert on absence tells
      metrics.scratchFree?.remove();
      metrics.scratchSize?.remove();
    }
  };

  const poll = (): Promise<void> => {
    running ??= Promise.all([pollRedis(), pollScratch()]).then(() => {
      running = undefined;
    });
    return running;
  };

  const timer = setInterval(() => void poll(), options.intervalMs ?? 10_000);
  timer.unref();
  void poll();
  return {
    poll,
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}

async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
