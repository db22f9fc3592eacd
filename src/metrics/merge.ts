import { AggregatorRegistry } from 'prom-client';
import { Floor } from './floor.ts';
import type { ExemplarJson, MetricJson, SeriesJson } from './snapshot.ts';

/**
 * Adds up what several processes counted, metric by metric, with prom-client's own aggregation. A metric whose parts are
 * the same objects as in the last merge is not added up again: its result is the same object, too, so that whoever made
 * a text of it need not make it again.
 */
export class Merge {
  readonly #last = new Map<string, { parts: readonly MetricJson[]; merged: MetricJson | undefined }>();
  readonly #floor = new Floor();

  /** The sum of `sources`, each the metrics of one process, and how many series fell by more than rounding. */
  of(sources: readonly (readonly MetricJson[])[]): { metrics: MetricJson[]; falls: number } {
    let falls = 0;
    const metrics: MetricJson[] = [];
    for (const [name, parts] of partsByName(sources)) {
      const last = this.#last.get(name);
      if (last !== undefined && isSame(last.parts, parts)) {
        if (last.merged !== undefined) metrics.push(last.merged);
        continue;
      }
      const merged = aggregate(parts);
      if (merged !== undefined) {
        falls += this.#floor.raise([merged]);
        metrics.push(merged);
      }
      this.#last.set(name, { parts, merged });
    }
    return { metrics, falls };
  }
}

/** The sum of `sources` in one list; for the base of the dead. */
export function addUp(sources: readonly (readonly MetricJson[])[]): MetricJson[] {
  return [...partsByName(sources).values()].flatMap((parts) => aggregate(parts) ?? []);
}

function partsByName(sources: readonly (readonly MetricJson[])[]): Map<string, MetricJson[]> {
  const byName = new Map<string, MetricJson[]>();
  for (const metric of sources.flat()) {
    const parts = byName.get(metric.name);
    if (parts === undefined) byName.set(metric.name, [metric]);
    else parts.push(metric);
  }
  return byName;
}

function isSame(left: readonly MetricJson[], right: readonly MetricJson[]): boolean {
  return left.length === right.length && left.every((metric, index) => metric === right[index]);
}

/** Undefined for metrics that are left out of sums of several processes. */
function aggregate(parts: readonly MetricJson[]): MetricJson | undefined {
  const registry = AggregatorRegistry.aggregate(parts.map((part) => [part]));
  const [metric] = registry.getMetricsAsArray() as unknown as MetricJson[];
  if (metric === undefined) return undefined;
  const { name, help, type, aggregator, values } = metric;
  return { name, help, type, aggregator, values: withExemplars(values, parts) };
}

/** prom-client drops exemplars when it adds up; of each bucket the newest is kept. */
function withExemplars(values: readonly SeriesJson[], parts: readonly MetricJson[]): readonly SeriesJson[] {
  const newest = new Map<string, ExemplarJson>();
  for (const series of parts.flatMap((part) => part.values)) {
    const { exemplar } = series;
    if (exemplar === undefined || exemplar === null) continue;
    const key = keyOf(series);
    if ((newest.get(key)?.timestamp ?? 0) <= exemplar.timestamp) newest.set(key, exemplar);
  }
  if (newest.size === 0) return values;
  return values.map((series) => {
    const exemplar = newest.get(keyOf(series));
    return exemplar === undefined ? series : { ...series, exemplar };
  });
}

function keyOf({ metricName, labels }: SeriesJson): string {
  return JSON.stringify([metricName, labels]);
}
