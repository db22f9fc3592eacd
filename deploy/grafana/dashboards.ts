import { buildDashboard, type DashboardSpec } from './build.ts';
import { dataset } from './dataset.ts';
import { overview } from './overview.ts';
import { pipeline } from './pipeline.ts';
import { processes } from './processes.ts';

/** Every dashboard, in the order in which an operator goes through them. */
export const dashboards: readonly DashboardSpec[] = [overview, pipeline, dataset, processes];

/** The committed JSON by path from the root of the repository. */
export function dashboardFiles(): [string, string][] {
  return dashboards.map((spec) => [
    `deploy/grafana/${spec.uid}.json`,
    `${JSON.stringify(buildDashboard(spec), null, 2)}\n`,
  ]);
}
