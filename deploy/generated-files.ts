import { renderMetricsTable } from './prometheus/metrics-table.ts';

/** The committed files that are made from code, by path from the root of the repository. */
export function generatedFiles(): ReadonlyMap<string, string> {
  return new Map([['deploy/prometheus/METRICS.md', renderMetricsTable()]]);
}
