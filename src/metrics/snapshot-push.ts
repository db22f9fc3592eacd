import type { Registry } from 'prom-client';
import { Changes } from './changes.ts';
import { foldLabels, overflowCounter } from './label-budget.ts';
import { isSnapshotRequest, type SnapshotMessage } from './snapshot.ts';

/** The way to the primary; `process` of a forked worker fits by shape. */
export type SnapshotChannel = {
  readonly connected: boolean;
  send?(message: unknown, callback: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  off(event: 'message', listener: (message: unknown) => void): unknown;
};

/** How snapshots are taken. */
export type SnapshotOptions = {
  /** Default 5 s. */
  readonly intervalMs?: number;
  /** Brings gauges up to date; called before each snapshot. */
  readonly refresh?: () => void;
};

/** Pushing of snapshots. */
export type Snapshots = {
  /**
   * Pushes what is counted by now and resolves once it is written to the channel (or the channel is gone).
   * `carry` travels in the same message, so that a process that is killed has said both or neither: what it counted
   * for a job, and that the job needs no counting any more.
   */
  flush(carry?: object): Promise<void>;
  /** Stops the interval and pushes a last time; call before the process exits. */
  stop(): Promise<void>;
};

/** Pushes snapshots of `registry` to the primary until stopped. Never throws: a worker does not fail for its metrics. */
export function startSnapshots(
  registry: Registry,
  channel: SnapshotChannel,
  options: SnapshotOptions = {},
): Snapshots {
  overflowCounter(registry);
  const changes = new Changes();
  let newestRequest = 0;
  let closed: Readonly<Record<string, readonly string[]>> = {};
  let carried: object[] = [];
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;

  const take = async (): Promise<void> => {
    const answers = newestRequest;
    const failed = new Set<string>();
    try {
      options.refresh?.();
      await foldLabels(registry, closed);
    } catch {
      failed.add('refresh');
    }
    // what was flushed while the registry was being read may be in some of its metrics and not in others
    let metrics: unknown[];
    let read: number;
    do {
      read = carried.length;
      metrics = await readMetrics(registry, failed);
    } while (carried.length !== read);
    const carry = carried;
    carried = [];
    const { changed, unchanged } = changes.since(metrics);
    await send(channel, {
      type: 'roboflow:metrics',
      answers,
      metrics: changed,
      unchanged,
      failed: [...failed],
      carry,
    });
  };

  // one snapshot at a time, so that an older one never follows a newer one; calls in between share the next
  const push = (): Promise<void> => {
    if (running === undefined) {
      running = take().finally(() => {
        running = undefined;
      });
      return running;
    }
    next ??= running.then(() => {
      next = undefined;
      return push();
    });
    return next;
  };

  const onMessage = (message: unknown): void => {
    if (!isSnapshotRequest(message)) return;
    newestRequest = Math.max(newestRequest, message.request);
    closed = message.admitted ?? closed;
    void push();
  };

  channel.on('message', onMessage);
  const timer = setInterval(() => void push(), options.intervalMs ?? 5000);
  timer.unref();
  void push();
  return {
    flush(carry) {
      if (carry !== undefined) carried.push(carry);
      return push();
    },
    async stop() {
      clearInterval(timer);
      await push();
      channel.off('message', onMessage);
    },
  };
}

/** The registry as JSON; when a `collect` fails, all the others, and its name in `failed`. */
export async function readMetrics(registry: Registry, failed: Set<string>): Promise<unknown[]> {
  try {
    return await registry.getMetricsAsJSON();
  } catch {
    const metrics: unknown[] = [];
    for (const { name } of registry.getMetricsAsArray()) {
      try {
        metrics.push(await registry.getSingleMetric(name)?.get());
      } catch {
        failed.add(name);
      }
    }
    return metrics;
  }
}

/** Errors mean that the primary is gone; its end of the channel, not a snapshot, tells the worker so. */
function send(channel: SnapshotChannel, message: SnapshotMessage): Promise<void> {
  return new Promise((resolve) => {
    if (!channel.connected || channel.send === undefined) {
      resolve();
      return;
    }
    try {
      channel.send(message, () => resolve());
    } catch {
      resolve();
    }
  });
}
