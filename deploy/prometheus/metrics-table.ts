import { catalogue } from '../../src/metrics/catalogue.ts';
import type { MetricDefinition } from '../../src/metrics/definition.ts';
import { BUDGETS, OTHER } from '../../src/metrics/label-budget.ts';

/** METRICS.md: every metric of the catalogue with its meaning, labels and how processes are merged. */
export function renderMetricsTable(): string {
  const definitions: readonly MetricDefinition[] = Object.values(catalogue);
  const rows = definitions.map(
    (definition) =>
      `| \`${definition.name}\` | ${definition.type} | ${labelsOf(definition)} | ${definition.aggregator} | ${definition.help} |`,
  );
  const buckets = definitions
    .filter(({ type }) => type === 'histogram')
    .map(({ name, buckets: bounds }) => `| \`${name}\` | ${(bounds ?? []).join(' ')} |`);
  return `# Metrics

Generated from \`src/metrics/catalogue.ts\` by \`npm run generate\`; a test compares the two.

\`GET /metrics\` of a pod is one answer for all its processes: the workers, those that died (counters and histograms of
the dead are kept as long as the pod lives) and the primary. *Merged by* says how the values of several processes of a
pod become one. Over pods, add counters and histograms up; of the queue gauges, which every pod reads from the same
Redis, take \`max\`.

Every series whose label values are known beforehand is there from the start, at 0, so that \`increase()\` sees its first
event; the outcomes of a dataset are there from the start of its first job. \`dataset_id\` and \`camera\` are chosen by
users: the first ${BUDGETS.dataset_id} datasets and ${BUDGETS.camera} cameras of a pod's life are shown by name (letters, digits, \`._-\`, at most 64), the
rest is \`${OTHER}\`.

| name | type | labels | merged by | meaning |
| --- | --- | --- | --- | --- |
${rows.join('\n')}

\`npm run dashboards:check\` runs the service, kills workers, and asks a real Prometheus every query of every dashboard and
rule; it fails when a metric of this table was not fed, a counter fell, or a number differs from what the API counted.

The primary adds Node's own process metrics (\`process_*\`, \`nodejs_*\`) for itself.

## Buckets

| histogram | upper bounds |
| --- | --- |
${buckets.join('\n')}
`;
}

function labelsOf({ labels, closed }: MetricDefinition): string {
  return labels
    .map((label) => {
      const values = closed?.[label];
      return values === undefined
        ? `\`${label}\``
        : `\`${label}\`: ${values.map((value) => `\`${value}\``).join(' ')}`;
    })
    .join('; ');
}
