import { Registry, type Metric, type OpenMetricsContentType, type PrometheusContentType } from 'prom-client';
import type { ClusterMetrics } from './cluster.ts';
import type { MetricJson } from './snapshot.ts';

/** One answer to a scraper. */
export type Scrape = { readonly contentType: string; readonly body: string };

/**
 * What `/metrics` answers: the pod's merged metrics as Prometheus text, or as OpenMetrics 1.0 for a scraper that
 * prefers it. Never rejects.
 */
export function createExposition(cluster: ClusterMetrics): { scrape(accept: string): Promise<Scrape> } {
  const answers = new WeakMap<readonly MetricJson[], Map<Format, Promise<Scrape>>>();
  const texts = {
    prometheus: new WeakMap<MetricJson, string>(),
    openmetrics: new WeakMap<MetricJson, string>(),
  };
  return {
    async scrape(accept) {
      const metrics = await cluster.merged();
      const format = negotiate(accept);
      const written = answers.get(metrics) ?? new Map<Format, Promise<Scrape>>();
      answers.set(metrics, written);
      const answer = written.get(format) ?? write(metrics, format, texts[format]);
      written.set(format, answer);
      return await answer;
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

/** The answer in one format; metrics that are the same objects as before keep the text they had. */
async function write(
  metrics: readonly MetricJson[],
  format: Format,
  texts: WeakMap<MetricJson, string>,
): Promise<Scrape> {
  const parts: string[] = [];
  for (const metric of metrics) {
    const text = texts.get(metric) ?? (await textOf(metric, format));
    texts.set(metric, text);
    parts.push(text);
  }
  return format === 'prometheus'
    ? { contentType: Registry.PROMETHEUS_CONTENT_TYPE, body: `${parts.join('\n\n')}\n` }
    : { contentType: Registry.OPENMETRICS_CONTENT_TYPE, body: `${parts.join('\n')}\n# EOF\n` };
}

/** One metric as prom-client writes it. */
async function textOf(metric: MetricJson, format: Format): Promise<string> {
  const open = format === 'openmetrics';
  const writer = new Registry<PrometheusContentType | OpenMetricsContentType>();
  if (open) writer.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  // in OpenMetrics prom-client appends `_total` to counters: their families must come without it
  const name = open && metric.type === 'counter' ? metric.name.replace(/_total$/, '') : metric.name;
  const family = { ...metric, name };
  writer.registerMetric({ ...family, get: () => family } as unknown as Metric);
  return await writer.getSingleMetricAsString(name);
}
