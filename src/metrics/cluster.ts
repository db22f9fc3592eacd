import type { Gauge, Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { Changes } from './changes.ts';
import type { MetricsPeer } from './cluster-peer.ts';
import { counter, gauge } from './define.ts';
import { foldLabels, LabelBudget, overflowCounter } from './label-budget.ts';
import { addUp, Merge } from './merge.ts';
import {
  isCumulative,
  isSnapshotMessage,
  repair,
  type MetricJson,
  type SnapshotMessage,
  type SnapshotRequest,
} from './snapshot.ts';
import { readMetrics } from './snapshot-push.ts';

type Live = {
  readonly peer: MetricsPeer;
  metrics: readonly MetricJson[];
  /** The newest request it has answered. */
  answered: number;
  at: number | undefined;
  /** How many labels it knows to be used up. */
  told: number;
};

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
  /** The base: one part, or several when they could not be added up. */
  #retired: (readonly MetricJson[])[] = [];
  #own: readonly MetricJson[] = [];
  readonly #ownChanges = new Changes();
  readonly #merge = new Merge();
  #request = 0;
  readonly #waiting = new Set<() => void>();
  #pass: Promise<readonly MetricJson[]> | undefined;
  #merged: { metrics: readonly MetricJson[]; at: number } | undefined;
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
    this.#live.set(peer.id, { peer, metrics: [], answered: 0, at: undefined, told: 0 });
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

  /**
   * The merged metrics of this moment, at most `cacheMs` old; concurrent callers share one pass. A metric that has not
   * changed is the same object as before. Never rejects.
   */
  merged(): Promise<readonly MetricJson[]> {
    if (this.#merged !== undefined && performance.now() - this.#merged.at < this.#options.cacheMs) {
      return Promise.resolve(this.#merged.metrics);
    }
    this.#pass ??= this.#mergeAll().finally(() => {
      this.#pass = undefined;
    });
    return this.#pass;
  }

  #receive(id: number, message: SnapshotMessage): void {
    const live = this.#live.get(id);
    // a worker that has left is in the base already; counting it here again would double it
    if (live === undefined) return;
    const changed = this.#repaired(message.metrics, message.failed, live.metrics);
    live.metrics = this.#admit(changed, message.unchanged, live.metrics);
    live.answered = message.answers;
    live.at = performance.now();
    for (const check of this.#waiting) check();
  }

  /** What can be used of a reading; faults are counted. */
  #repaired(
    received: readonly unknown[],
    failed: readonly string[],
    previous: readonly MetricJson[],
  ): MetricJson[] {
    const { metrics, faults } = repair(received, failed, previous);
    if (faults > 0) this.#errors.inc(faults);
    return metrics;
  }

  /** The changed metrics with their labels in the budget, and those of `previous` that stayed as they were. */
  #admit(
    changed: readonly MetricJson[],
    unchanged: readonly string[],
    previous: readonly MetricJson[],
  ): MetricJson[] {
    const same = new Set(unchanged);
    return [...previous.filter(({ name }) => same.has(name)), ...this.#options.budget.apply(changed)];
  }

  #retire(id: number): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.#live.delete(id);
    const kept = live.metrics.filter((metric) => isCumulative(metric) || RETAINED.has(metric.name));
    if (kept.length > 0) this.#retired.push(kept);
    for (const check of this.#waiting) check();
    if (this.#retired.length > 1) this.#fold();
  }

  /** Makes the base one part again; it is bounded by the label space, not by the number of deaths. */
  #fold(): void {
    try {
      this.#retired = [addUp(this.#retired)];
    } catch {
      // the parts stay as they are; every merge adds them up
      this.#errors.inc();
    }
  }

  /** Asks the living and waits until each has answered or left, at most `deadlineMs`. */
  async #ask(): Promise<void> {
    this.#request += 1;
    const request = this.#request;
    const admitted = this.#options.budget.closed();
    const closed = Object.keys(admitted).length;
    for (const live of this.#live.values()) {
      // a process that has not announced itself is still starting: it has nothing to tell yet
      if (live.at === undefined) continue;
      const message: SnapshotRequest = { type: 'roboflow:metrics:request', request };
      live.peer.send(live.told === closed ? message : { ...message, admitted });
      live.told = closed;
    }
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

  async #mergeAll(): Promise<readonly MetricJson[]> {
    let merged: readonly MetricJson[];
    try {
      await this.#ask();
      const living = [...this.#live.values()];
      const now = performance.now();
      this.#workers.set(living.length);
      this.#missing.set(living.filter(({ answered }) => answered < this.#request).length);
      this.#age.set(Math.max(0, ...living.map(({ at }) => (at === undefined ? 0 : now - at))) / 1000);
      await this.#readOwn();
      const live = [...this.#live.values()].map(({ metrics }) => metrics);
      const { metrics, falls } = this.#merge.of([this.#own, ...this.#retired, ...live]);
      if (falls > 0) this.#errors.inc(falls);
      merged = metrics;
    } catch {
      this.#errors.inc();
      merged = this.#merged?.metrics ?? [];
    }
    this.#merged = { metrics: merged, at: performance.now() };
    return merged;
  }

  async #readOwn(): Promise<void> {
    const { registry, budget } = this.#options;
    const failed = new Set<string>();
    await foldLabels(registry, budget.closed());
    const metrics = this.#repaired(await readMetrics(registry, failed), [...failed], this.#own);
    const { changed, unchanged } = this.#ownChanges.since(metrics);
    this.#own = this.#admit(changed, unchanged, this.#own).map((metric) =>
      // left out of sums of several processes, but there is one primary
      metric.aggregator === 'omit' ? { ...metric, aggregator: 'first' } : metric,
    );
  }
}
