import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { ClusterMetrics, type ClusterMetricsOptions } from '../../src/metrics/cluster.ts';
import { peerOf } from '../../src/metrics/cluster-peer.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { createExposition } from '../../src/metrics/server.ts';
import type { Order } from './forked-worker.ts';

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;

/** Real forked workers merged by a real primary. */
export function createPool(
  t: Pick<ExecutionContext, 'teardown'>,
  options: Partial<ClusterMetricsOptions> = {},
) {
  const registry = new Registry();
  const metrics = createMetrics(registry);
  const merge = new ClusterMetrics({ registry, cacheMs: 0, ...options });
  const exposition = createExposition(merge);
  const exec = fileURLToPath(new URL('forked-worker.js', import.meta.url));
  const workers = new Set<Worker>();
  let orders = 0;
  t.teardown(() => {
    for (const worker of workers) worker.process.kill('SIGKILL');
  });

  return {
    metrics,
    merge,
    exposition,

    /** A worker that has announced itself. */
    async fork(slot = 0, env: Record<string, string> = {}): Promise<Worker> {
      cluster.setupPrimary({ exec, execArgv: [] });
      const worker = cluster.fork({ SLOT: String(slot), ...env });
      workers.add(worker);
      merge.add(peerOf(worker));
      worker.once('exit', () => workers.delete(worker));
      await once(worker, 'message');
      return worker;
    },

    /** Resolves when the worker has obeyed. */
    async order(worker: Worker, order: Unnumbered<Order>): Promise<void> {
      orders += 1;
      const id = orders;
      const done = new Promise<void>((resolve) => {
        const listen = (message: { done?: number }): void => {
          if (message.done !== id) return;
          worker.off('message', listen);
          resolve();
        };
        worker.on('message', listen);
      });
      worker.send({ id, ...order });
      await done;
    },

    /** Sends without waiting for obedience. */
    shout(worker: Worker, order: Unnumbered<Order>): void {
      worker.send({ id: 0, ...order });
    },

    /** Kills at once, and resolves when the process is gone and its channel read to the end. */
    async kill(worker: Worker, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
      const gone = new Promise<void>((resolve) => peerOf(worker).onExit(resolve));
      worker.process.kill(signal);
      await gone;
    },

    async text(accept = ''): Promise<string> {
      return (await exposition.scrape(accept)).body;
    },
  };
}

/** The value of one series in a text exposition; undefined when it is not there. */
export function valueOf(text: string, series: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1).split(' ')[0]);
}

/** Every cumulative series of a text exposition with its value. */
export function cumulative(text: string): Map<string, number> {
  const families = new Set<string>();
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const type = /^# TYPE (\S+) (counter|histogram)$/.exec(line);
    if (type !== null) families.add(type[1] ?? '');
    if (line === '' || line.startsWith('#')) continue;
    const name = /^[^{ ]+/.exec(line)?.[0] ?? '';
    const family = name.replace(/_(?:bucket|sum|count)$/, '');
    if (!families.has(name) && !families.has(family)) continue;
    const space = line.lastIndexOf(' ');
    values.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return values;
}
