import { AggregatorRegistry, type Registry } from 'prom-client';
import type { ClusterMetrics } from './cluster.ts';
import type { MetricJson } from './snapshot.ts';

/** One answer to a scraper. */
export type Scrape = { readonly contentType: string; readonly body: string };

/**
 * What `/metrics` answers: the pod's merged metrics as Prometheus text, or as OpenMetrics 1.0 for a scraper that
 * prefers it. Never rejects.
 */
export function createExposition(cluster: ClusterMetrics): { scrape(accept: string): Promise<Scrape> } {
  const texts = new WeakMap<Registry, Map<Format, Promise<Scrape>>>();
  return {
    async scrape(accept) {
      const registry = await cluster.merged();
      const format = negotiate(accept);
      const written = texts.get(registry) ?? new Map<Format, Promise<Scrape>>();
      texts.set(registry, written);
      const text = written.get(format) ?? write(registry, format);
      written.set(format, text);
      return await text;
    },
  };
}

type Format = 'prometheus' | 'openmetrics';

/** The format an `Accept` header prefers; Prometheus text when it does not care. */
export function negotiate(accept: string): Format {
  let best: { format: Format; quality: number } = { format: 'prometheus', quality: 0 };
  for (const entry of accept.split(',')) {
    const [type = '', ...parameters] = entry.split(';').map((part) => part.trim().toLowerCase());
    const quality = Number(parameters.find((part) => part.startsWith('q='))?.slice(2) ?? 1);
    const version = parameters.find((part) => part.startsWith('version='))?.slice(8);
    const openMetrics = type === 'application/openmetrics-text' && (version ?? '1.0.0') === '1.0.0';
    const plain = type === 'text/plain' || type === 'text/*' || type === '*/*';
    if ((openMetrics || plain) && quality > best.quality) {
      best = { format: openMetrics ? 'openmetrics' : 'prometheus', quality };
    }
  }
  return best.format;
}

async function write(registry: Registry, format: Format): Promise<Scrape> {
  if (format === 'prometheus') {
    return { contentType: registry.contentType, body: await registry.metrics() };
  }
  // prom-client appends `_total` to counters in this format: their families must come without it
  const metrics = (await registry.getMetricsAsJSON()) as unknown as MetricJson[];
  const families = metrics.map((metric) =>
    metric.type === 'counter' ? { ...metric, name: metric.name.replace(/_total$/, '') } : metric,
  );
  const open = AggregatorRegistry.aggregate([families]) as unknown as Registry<OpenMetricsType>;
  open.setContentType(OPEN_METRICS);
  return { contentType: open.contentType, body: await open.metrics() };
}

type OpenMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
const OPEN_METRICS: OpenMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
