import path from 'node:path';
import { dashboardFiles } from './grafana/dashboards.ts';
import { renderMetricsTable } from './prometheus/metrics-table.ts';
import { renderRuleTests } from './prometheus/rule-tests.ts';

/** The committed files that are made from code, by path from `root`, the root of the repository. */
export function generatedFiles(root: string): ReadonlyMap<string, string> {
  const prometheus = path.join(root, 'deploy/prometheus');
  return new Map([
    ['deploy/prometheus/METRICS.md', renderMetricsTable()],
    ['deploy/prometheus/roboflow.rules.test.yml', renderRuleTests(prometheus)],
    ...dashboardFiles(),
  ]);
}
