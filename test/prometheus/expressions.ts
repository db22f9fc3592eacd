import { catalogue } from '../../src/metrics/catalogue.ts';
import type { MetricDefinition } from '../../src/metrics/definition.ts';

const byName = new Map<string, MetricDefinition>(
  Object.values(catalogue).map((entry) => [entry.name, entry]),
);

/** What scraping itself and Node's own metrics add. */
const FOREIGN = /^(?:up|ALERTS|process_[a-z_]+|nodejs_[a-z_]+|scrape_[a-z_]+)$/;
/** Labels that scraping adds to everything, and that histograms have. */
const TARGET_LABELS: ReadonlySet<string> = new Set(['job', 'instance', 'namespace', 'pod', 'le']);

/** The definition a series belongs to; histograms have three. */
function definitionOf(series: string): MetricDefinition | undefined {
  const family = byName.get(series.replace(/_(?:bucket|sum|count)$/, ''));
  return byName.get(series) ?? (family?.type === 'histogram' ? family : undefined);
}

/** Names in a PromQL expression that look like ours and that neither the catalogue nor `recorded` has. */
export function unknownMetrics(expression: string, recorded: readonly string[]): string[] {
  const names = withoutStrings(expression).match(/[A-Za-z_:][A-Za-z0-9_:]*/g) ?? [];
  return [...new Set(names)].filter((name) => {
    if (name.includes(':')) return !recorded.includes(name);
    return name.startsWith('roboflow_') && definitionOf(name) === undefined && !FOREIGN.test(name);
  });
}

/** Label matchers of metrics of ours that use a label, or a value of a closed label, that they do not have. */
export function unknownLabels(expression: string): string[] {
  const faults: string[] = [];
  for (const [, series = '', matchers = ''] of expression.matchAll(/(roboflow_[a-z_]+)\{([^}]*)\}/g)) {
    const definition = definitionOf(series);
    if (definition === undefined) continue;
    for (const [, label = '', operator = '', value = ''] of matchers.matchAll(
      /(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g,
    )) {
      if (TARGET_LABELS.has(label)) continue;
      const closed = definition.closed?.[label];
      if (!definition.labels.includes(label)) faults.push(`${series}{${label}}`);
      else if (closed !== undefined && !value.startsWith('$')) {
        const values = operator.endsWith('~') ? value.split('|') : [value];
        faults.push(
          ...values.filter((one) => !closed.includes(one)).map((one) => `${series}{${label}="${one}"}`),
        );
      }
    }
  }
  return faults;
}

function withoutStrings(expression: string): string {
  return expression.replaceAll(/"[^"]*"/g, '""');
}
