import { isCumulative, type MetricJson } from './snapshot.ts';

/** Beyond this share a fall is no rounding any more. */
const ROUNDING = 1e-9;

/**
 * Keeps cumulative series from falling by rounding. Sums of fractions depend on the order of their terms, which changes
 * when a worker dies and its share moves into the base; a fall in the last digit is a reset to Prometheus, which then
 * adds the whole value again.
 */
export class Floor {
  readonly #served = new Map<string, number>();

  /** Raises values that are below what was served before, in place. Returns how many fell by more than rounding. */
  raise(metrics: readonly MetricJson[]): number {
    let falls = 0;
    for (const metric of metrics) {
      if (!isCumulative(metric)) continue;
      for (const series of metric.values) {
        const key = `${series.metricName ?? metric.name} ${JSON.stringify(series.labels)}`;
        const before = this.#served.get(key) ?? 0;
        if (series.value < before * (1 - ROUNDING)) falls += 1;
        const value = Math.max(series.value, before);
        this.#served.set(key, value);
        (series as { value: number }).value = value;
      }
    }
    return falls;
  }
}
