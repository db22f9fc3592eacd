import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { MetricDefinition } from './catalogue.ts';

type Labels<D extends MetricDefinition> = D['labels'][number];

/** A counter of the catalogue on `registry`. */
export function counter<const D extends MetricDefinition & { type: 'counter' }>(
  registry: Registry,
  definition: D,
): Counter<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  return new Counter({
    name,
    help,
    labelNames: [...labels] as Labels<D>[],
    registers: [registry],
    aggregator,
  });
}

/** A gauge of the catalogue on `registry`. */
export function gauge<const D extends MetricDefinition & { type: 'gauge' }>(
  registry: Registry,
  definition: D,
): Gauge<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  return new Gauge({ name, help, labelNames: [...labels] as Labels<D>[], registers: [registry], aggregator });
}

/** A histogram of the catalogue on `registry`. */
export function histogram<const D extends MetricDefinition & { type: 'histogram' }>(
  registry: Registry,
  definition: D,
): Histogram<Labels<D>> {
  const { name, help, labels, aggregator } = definition;
  return new Histogram({
    name,
    help,
    labelNames: [...labels] as Labels<D>[],
    buckets: [...(definition.buckets ?? [])],
    registers: [registry],
    aggregator,
  });
}
