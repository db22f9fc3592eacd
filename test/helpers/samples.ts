import type { Registry } from 'prom-client';

/** The value of one sample of a registry, by metric name and (some of its) labels. Throws when there is none. */
export async function sample(
  registry: Registry,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  for (const metric of await registry.getMetricsAsJSON()) {
    for (const value of metric.values) {
      const at = 'metricName' in value ? value.metricName : metric.name;
      if (at !== name) continue;
      if (Object.entries(labels).every(([label, is]) => value.labels[label] === is)) return value.value;
    }
  }
  throw new Error(`no sample ${name} ${JSON.stringify(labels)}`);
}
