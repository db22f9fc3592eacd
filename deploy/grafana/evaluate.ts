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
