import { catalogue } from '../../src/metrics/catalogue.ts';
import type { MetricDefinition } from '../../src/metrics/definition.ts';
import { dashboards } from './dashboards.ts';
import type { PanelSpec } from './panel.ts';
import type { PrometheusApi, Series } from './prometheus-api.ts';
import { substitute } from './variables.ts';

/** A time range, seconds since 1970. */
export type Window = { readonly start: number; readonly end: number; readonly step: number };

/** One series as a panel draws it. */
export type NamedSeries = Series & { readonly name: string };

/** One panel with what Prometheus answered. `faults` says which queries gave nothing. */
export type EvaluatedPanel = {
  readonly panel: PanelSpec;
  readonly series: readonly NamedSeries[];
  readonly faults: readonly string[];
};

export type EvaluatedDashboard = {
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly EvaluatedPanel[] }[];
};

/** Runs every query of every panel over the window, as Grafana would. */
export async function evaluateDashboards(api: PrometheusApi, window: Window): Promise<EvaluatedDashboard[]> {
  const evaluated: EvaluatedDashboard[] = [];
  for (const { uid, title, rows } of dashboards) {
    const filled = [];
    for (const row of rows) {
      const panels = [];
      for (const panel of row.panels) panels.push(await evaluatePanel(api, panel, window));
      filled.push({ title: row.title, panels });
    }
    evaluated.push({ uid, title, rows: filled });
  }
  return evaluated;
}

async function evaluatePanel(api: PrometheusApi, panel: PanelSpec, window: Window): Promise<EvaluatedPanel> {
  const { start, end, step } = window;
  const series: NamedSeries[] = [];
  const faults: string[] = [];
  for (const { expr, legend } of panel.queries) {
    const query = substitute(expr, {
      rateInterval: `${Math.max(4 * step, 5)}s`,
      range: `${Math.ceil(end - start)}s`,
    });
    try {
      const drawn = panel.kind === 'series' || panel.kind === 'stacked';
      const answer = drawn ? await api.range(query, start, end, step) : await api.instant(query, end);
      if (!answer.some(({ points }) => points.some(([, value]) => Number.isFinite(value)))) {
        faults.push(`no data: ${query}`);
      }
      series.push(...answer.map((one) => ({ ...one, name: nameOf(legend, one.labels) })));
    } catch (thrown) {
      faults.push(`${String(thrown)}: ${query}`);
    }
  }
  return { panel, series, faults };
}

/** The legend with its labels filled in; without one, the labels themselves. */
function nameOf(legend: string, labels: Readonly<Record<string, string>>): string {
  if (legend === '') {
    return Object.entries(labels)
      .map(([label, value]) => `${label}=${value}`)
      .join(' ');
  }
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? '');
}

/** Metrics that stay 0 when all is well: a run in which they do not move says nothing against them. */
const QUIET: ReadonlySet<string> = new Set(
  [
    catalogue.uploadRetries,
    catalogue.cacheHit,
    catalogue.cacheMiss,
    catalogue.samplesLate,
    catalogue.jobsStalled,
    catalogue.jobLockLost,
    catalogue.queueOldestWaiting,
    catalogue.queuePaused,
    catalogue.clusterErrors,
    catalogue.labelOverflow,
  ].map(({ name }) => name),
);

/** Metrics of the catalogue that nothing fed during the window, although a run with some deaths should have. */
export async function unfedMetrics(api: PrometheusApi, { start, end }: Window): Promise<string[]> {
  const unfed: string[] = [];
  const definitions: readonly MetricDefinition[] = Object.values(catalogue);
  for (const { name, type } of definitions) {
    if (QUIET.has(name)) continue;
    const series = type === 'histogram' ? `${name}_count` : name;
    const [sum] = await api.instant(`sum(max_over_time(${series}[${Math.ceil(end - start)}s]))`, end);
    if (!((sum?.points[0]?.[1] ?? 0) > 0)) unfed.push(name);
  }
  return unfed;
}

/** What a run with deaths did to the numbers, as Prometheus saw it. */
export type Truth = {
  /** Scrapes that failed, and counters that fell. */
  readonly failedScrapes: number;
  /** Names of counters and parts of histograms that fell. */
  readonly resets: readonly string[];
  readonly scrapes: number;
  readonly p99ScrapeSeconds: number;
  /** Growth of episodes completed, of those tried, and of rows, by `increase()` and by the last value. */
  readonly completed: { readonly increase: number; readonly last: number };
  readonly episodes: { readonly increase: number; readonly last: number };
  readonly rows: { readonly increase: number; readonly last: number };
};

/** Asks for everything that deaths could have spoilt. */
export async function readTruth(api: PrometheusApi, { start, end }: Window): Promise<Truth> {
  const range = `${Math.ceil(end - start)}s`;
  const value = async (expr: string, at = end): Promise<number> => {
    const [series] = await api.instant(expr, at);
    return series?.points[0]?.[1] ?? Number.NaN;
  };
  // from one sample to another: then increase() has nothing to extrapolate, and its value is what it saw
  const first = await value(`min_over_time(timestamp(roboflow_frames_processed_total)[${range}:1s])`);
  const last = await value('max(timestamp(roboflow_frames_processed_total))');
  const between = `${Math.round((last - first) * 1000)}ms`;
  const growth = async (series: string) => ({
    increase: await value(`sum(increase(${series}[${between}]))`, last),
    last: await value(`sum(${series})`),
  });
  const resets: string[] = [];
  const definitions: readonly MetricDefinition[] = Object.values(catalogue);
  for (const { name, type } of definitions) {
    const parts = type === 'counter' ? [''] : type === 'histogram' ? ['_count', '_sum', '_bucket'] : [];
    for (const part of parts) {
      const count = await value(`sum(resets(${name}${part}[${range}])) or vector(0)`);
      if (count > 0) resets.push(`${name}${part}`);
    }
  }
  return {
    failedScrapes: await value(`count_over_time((up == 0)[${range}:1s]) or vector(0)`),
    resets,
    scrapes: await value(`sum(count_over_time(up[${range}]))`),
    p99ScrapeSeconds: await value(`max(quantile_over_time(0.99, scrape_duration_seconds[${range}]))`),
    completed: await growth('roboflow_episodes_ended_total{status="completed"}'),
    episodes: await growth('roboflow_episode_processing_duration_seconds_count'),
    rows: await growth('roboflow_frames_processed_total'),
  };
}
