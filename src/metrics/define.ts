import { Counter, Gauge, Histogram, type Metric, type Registry } from 'prom-client';
import type { MetricDefinition } from './definition.ts';

type Labels<D extends MetricDefinition> = D['labels'][number];

/** A counter of the catalogue on `registry`; with closed labels every series starts at 0. */
export function counter<const D extends MetricDefinition & { type: 'counter' }>(
  registry: Registry,
  definition: D,
): Counter<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  const made = new Counter<Labels<D>>({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    aggregator,
  });
  if (labels.length > 0) for (const series of closedSeries(definition)) made.inc(series, 0);
  return made;
}

/** A gauge of the catalogue on `registry`. */
export function gauge<const D extends MetricDefinition & { type: 'gauge' }>(
  registry: Registry,
  definition: D,
): Gauge<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  return new Gauge<Labels<D>>({ name, help, labelNames: [...labels], registers: [registry], aggregator });
}

/** A histogram of the catalogue on `registry`; with closed labels every series starts at 0. */
export function histogram<const D extends MetricDefinition & { type: 'histogram' }>(
  registry: Registry,
  definition: D,
): Histogram<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  const made = new Histogram<Labels<D>>({
    name,
    help,
    labelNames: [...labels],
    buckets: [...(definition.buckets ?? [])],
    enableExemplars: definition.exemplars ?? false,
    // by hand: prom-client takes exemplars of OpenMetrics registries only, and the format is chosen by each scrape
    registers: [],
    aggregator,
  });
  registry.registerMetric(made as Metric);
  if (labels.length > 0) for (const series of closedSeries(definition)) made.zero(series);
  return made;
}

/** Every combination of label values, or none when a label is open. */
function closedSeries<D extends MetricDefinition>(definition: D): Record<Labels<D>, string>[] {
  let all: Record<string, string>[] = [{}];
  for (const label of definition.labels) {
    const values = definition.closed?.[label] ?? [];
    all = all.flatMap((series) => values.map((value) => ({ ...series, [label]: value })));
  }
  return all;
}
