import { AggregatorRegistry, Registry, type Gauge } from 'prom-client';
import { catalogue } from './catalogue.ts';
import type { MetricsPeer } from './cluster-peer.ts';
import { counter, gauge } from './define.ts';
import { Floor } from './floor.ts';
import { foldLabels, LabelBudget, overflowCounter } from './label-budget.ts';
import {
  isCumulative,
  isSnapshotMessage,
  repair,
  type MetricJson,
  type SnapshotRequest,
} from './snapshot.ts';
import { readMetrics } from './snapshot-push.ts';

type Live = { peer: MetricsPeer; metrics: readonly MetricJson[]; answered: number; at: number | undefined };

/** How the merge behaves; defaults in the fields. */
export type ClusterMetricsOptions = {
  /** The primary's own registry; merged as one more part, and home of the metrics of the merge itself. */
  readonly registry: Registry;
  /** How long a scrape waits for workers: 500 ms. */
  readonly deadlineMs?: number;
  /** How long an answer is served again: 1 s. */
  readonly cacheMs?: number;
  readonly budget?: LabelBudget;
};

const RETAINED: ReadonlySet<string> = new Set(
  Object.values(catalogue)
    .filter((metric) => 'retained' in metric)
    .map((metric) => metric.name),
);

/**
 * The metrics of a pod: what its workers pushed, what its dead workers had counted, and the primary's own, merged by
 * prom-client's `AggregatorRegistry.aggregate`.
 *
 * No counter ever falls: a worker's last counters and histograms move into the retained base in the same tick in which
 * the worker leaves the living, and a merge takes both in one tick. A worker that is busy or stopped delays a scrape by
 * at most the deadline and is then represented by its last snapshot. Nothing a worker sends can make a scrape fail.
 */
export class ClusterMetrics {
  readonly #options: Required<ClusterMetricsOptions>;
  readonly #live = new Map<number, Live>();
  /** The base, in parts that a later fold makes one. */
  #retired: (readonly MetricJson[])[] = [];
  #folding = false;
  #own: readonly MetricJson[] = [];
  readonly #floor = new Floor();
  #request = 0;
  readonly #waiting = new Set<() => void>();
  #pass: Promise<Registry> | undefined;
  #merged: { registry: Registry; at: number } | undefined;
  readonly #workers: Gauge;
  readonly #missing: Gauge;
  readonly #age: Gauge;
  readonly #errors;

  constructor(options: ClusterMetricsOptions) {
    this.#options = { deadlineMs: 500, cacheMs: 1000, budget: new LabelBudget(), ...options };
    const { registry } = options;
    this.#workers = gauge(registry, catalogue.clusterWorkers);
    this.#missing = gauge(registry, catalogue.clusterMissing);
    this.#age = gauge(registry, catalogue.clusterSnapshotAge);
    this.#errors = counter(registry, catalogue.clusterErrors);
    overflowCounter(registry);
  }

  /** Takes in a worker as soon as it is forked; it leaves by itself when it exits. */
  add(peer: MetricsPeer): void {
    this.#live.set(peer.id, { peer, metrics: [], answered: 0, at: undefined });
    peer.onMessage((message) => {
      if (isSnapshotMessage(message)) this.#receive(peer.id, message);
    });
    peer.onExit(() => this.#retire(peer.id));
  }

  /** Living workers whose snapshot is older than `seconds`, or that never sent one. */
  silent(seconds = 15): number {
    const now = performance.now();
    return [...this.#live.values()].filter(({ at }) => at === undefined || now - at > seconds * 1000).length;
  }

  /** The merged registry of this moment, at most `cacheMs` old; concurrent callers share one pass. Never rejects. */
  merged(): Promise<Registry> {
    if (this.#merged !== undefined && performance.now() - this.#merged.at < this.#options.cacheMs) {
      return Promise.resolve(this.#merged.registry);
    }
    this.#pass ??= this.#merge().finally(() => {
      this.#pass = undefined;
    });
    return this.#pass;
  }

  #receive(
    id: number,
    message: { metrics: readonly unknown[]; failed: readonly string[]; answers: number },
  ): void {
    const live = this.#live.get(id);
    // a worker that has left is in the base already; counting it here again would double it
    if (live === undefined) return;
    live.metrics = this.#admit(message.metrics, message.failed, live.metrics);
    live.answered = message.answers;
    live.at = performance.now();
    for (const check of this.#waiting) check();
  }

  #admit(
    received: readonly unknown[],
    failed: readonly string[],
    previous: readonly MetricJson[],
  ): MetricJson[] {
    const { metrics, faults } = repair(received, failed, previous);
    if (faults > 0) this.#errors.inc(faults);
    return this.#options.budget.apply(metrics);
  }

  #retire(id: number): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.#live.delete(id);
    const kept = live.metrics.filter((metric) => isCumulative(metric) || RETAINED.has(metric.name));
    if (kept.length > 0) this.#retired.push(kept);
    for (const check of this.#waiting) check();
    if (this.#retired.length > 1) void this.#fold();
  }

  /** Makes the base one part again; it is bounded by the label space, not by the number of deaths. */
  async #fold(): Promise<void> {
    if (this.#folding) return;
    this.#folding = true;
    try {
      while (this.#retired.length > 1) {
        const parts = [...this.#retired];
        const one = await AggregatorRegistry.aggregate(parts).getMetricsAsJSON();
        this.#retired.splice(0, parts.length, one as unknown as MetricJson[]);
      }
    } catch {
      // the parts stay as they are; every merge adds them up
      this.#errors.inc();
    } finally {
      this.#folding = false;
    }
  }

  /** Asks the living and waits until each has answered or left, at most `deadlineMs`. */
  async #ask(): Promise<void> {
    this.#request += 1;
    const request = this.#request;
    const message: SnapshotRequest = {
      type: 'roboflow:metrics:request',
      request,
      admitted: this.#options.budget.closed(),
    };
    // a process that has not announced itself is still starting: it has nothing to tell yet
    for (const { peer, at } of this.#live.values()) if (at !== undefined) peer.send(message);
    const complete = (): boolean =>
      [...this.#live.values()].every(({ answered, at }) => at === undefined || answered >= request);
    if (complete()) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve();
      };
      const check = (): void => {
        if (complete()) done();
      };
      const timer = setTimeout(done, this.#options.deadlineMs);
      this.#waiting.add(check);
    });
  }

  async #merge(): Promise<Registry> {
    let registry: Registry;
    try {
      await this.#ask();
      const living = [...this.#live.values()];
      const now = performance.now();
      this.#workers.set(living.length);
      this.#missing.set(living.filter(({ answered }) => answered < this.#request).length);
      this.#age.set(Math.max(0, ...living.map(({ at }) => (at === undefined ? 0 : now - at))) / 1000);
      await this.#readOwn();
      const live = [...this.#live.values()].map(({ metrics }) => metrics);
      registry = AggregatorRegistry.aggregate([this.#own, ...this.#retired, ...live]);
      const falls = this.#floor.raise((await registry.getMetricsAsJSON()) as unknown as MetricJson[]);
      if (falls > 0) this.#errors.inc(falls);
    } catch {
      this.#errors.inc();
      registry = this.#merged?.registry ?? new Registry();
    }
    this.#merged = { registry, at: performance.now() };
    return registry;
  }

  async #readOwn(): Promise<void> {
    const { registry, budget } = this.#options;
    const failed = new Set<string>();
    await foldLabels(registry, budget.closed());
    const received = await readMetrics(registry, failed);
    this.#own = this.#admit(received, [...failed], this.#own).map((metric) =>
      // left out of sums of several processes, but there is one primary
      metric.aggregator === 'omit' ? { ...metric, aggregator: 'first' } : metric,
    );
  }
}
