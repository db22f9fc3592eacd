import { Counter, type LabelValues, type Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter } from './define.ts';
import { USER_LABELS } from './definition.ts';
import type { MetricJson, SeriesJson } from './snapshot.ts';

type UserLabel = (typeof USER_LABELS)[number];

/** What every value beyond the budget is called. */
export const OTHER = '__other__';

/** How many values of each user-chosen label one pod shows in its life. */
export const BUDGETS: Readonly<Record<UserLabel, number>> = { dataset_id: 50, camera: 32 };

/** A value as it is shown: letters, digits, `.`, `_`, `-`, at most 64 of them. */
export function normalise(value: string): string {
  return value.slice(0, 64).replaceAll(/[^A-Za-z0-9._-]/g, '_') || '_';
}

/**
 * Keeps the series of user-chosen labels bounded: the first values seen have the budget for good (a value that lost
 * its place would look like a counter reset), all others are one value together.
 */
export class LabelBudget {
  readonly #admitted: Readonly<Record<UserLabel, Set<string>>> = { dataset_id: new Set(), camera: new Set() };
  readonly #budgets: Readonly<Record<UserLabel, number>>;

  constructor(budgets: Readonly<Record<UserLabel, number>> = BUDGETS) {
    this.#budgets = budgets;
  }

  /** The metrics with every user-chosen value normalised and admitted or folded. Folded series are added up. */
  apply(metrics: readonly MetricJson[]): MetricJson[] {
    return metrics.map((metric) => {
      const labels = USER_LABELS.filter((label) => metric.values.some((series) => label in series.labels));
      if (labels.length === 0 || this.#isShownAsItIs(metric, labels)) return metric;
      const merged = new Map<string, SeriesJson>();
      for (const series of metric.values) {
        const shown = this.#relabel(series, labels);
        const key = JSON.stringify([shown.metricName, shown.labels]);
        const present = merged.get(key);
        merged.set(key, present === undefined ? shown : { ...present, value: present.value + shown.value });
      }
      return { ...metric, values: [...merged.values()] };
    });
  }

  /** The admitted values of each label whose budget is used up; nothing of the others. */
  closed(): Record<string, readonly string[]> {
    return Object.fromEntries(
      USER_LABELS.filter((label) => this.#admitted[label].size >= this.#budgets[label]).map((label) => [
        label,
        [...this.#admitted[label]],
      ]),
    );
  }

  /** Whether every value has its place already and is spelt as it is shown: then there is nothing to fold. */
  #isShownAsItIs(metric: MetricJson, labels: readonly UserLabel[]): boolean {
    return metric.values.every((series) =>
      labels.every((label) => {
        const value = series.labels[label];
        return value === undefined || value === OTHER || this.#admitted[label].has(String(value));
      }),
    );
  }

  #relabel(series: SeriesJson, labels: readonly UserLabel[]): SeriesJson {
    const shown = { ...series.labels };
    for (const label of labels) {
      if (shown[label] !== undefined) shown[label] = this.#admit(label, String(shown[label]));
    }
    return { ...series, labels: shown };
  }

  #admit(label: UserLabel, value: string): string {
    const shown = normalise(value);
    const admitted = this.#admitted[label];
    if (shown === OTHER || admitted.has(shown)) return shown;
    if (admitted.size >= this.#budgets[label]) return OTHER;
    admitted.add(shown);
    return shown;
  }
}

/**
 * Folds the series of a process' own counters that have no budget into one, for labels whose budget is used up.
 * Sums stay the same, and the registry of a process that saw 100,000 datasets stays as small as its share of the
 * answer. Each folded value is counted in `roboflow_label_overflow_total`. A process that by itself has more values
 * than a budget need not be told: it keeps the first of them, so that a flood never travels.
 */
export async function foldLabels(
  registry: Registry,
  closed: Readonly<Record<string, readonly string[]>>,
): Promise<void> {
  const overflow = overflowCounter(registry);
  for (const label of USER_LABELS) {
    const counters = await countersWith(registry, label);
    const present = new Set(
      counters.flatMap(({ series }) => series.map(({ labels }) => shownAs(labels[label]))),
    );
    present.delete(OTHER);
    const values = closed[label] ?? [...present].slice(0, BUDGETS[label]);
    const admitted = new Set([...values, OTHER]);
    if ([...present].every((value) => admitted.has(value))) continue;
    const folded = new Set<string>();
    for (const { metric, series } of counters) {
      const sums = new Map<string, { readonly labels: LabelValues<string>; amount: number }>();
      for (const { labels, value } of series) {
        if (admitted.has(shownAs(labels[label]))) continue;
        folded.add(String(labels[label]));
        metric.remove(labels);
        const others = { ...labels, [label]: OTHER };
        const key = JSON.stringify(others);
        const sum = sums.get(key);
        if (sum === undefined) sums.set(key, { labels: others, amount: value });
        else sum.amount += value;
      }
      for (const { labels, amount } of sums.values()) metric.inc(labels, amount);
    }
    overflow.inc({ label }, folded.size);
  }
}

function shownAs(value: string | number | undefined): string {
  return normalise(String(value));
}

async function countersWith(registry: Registry, label: UserLabel) {
  const counters: { metric: Counter; series: readonly { labels: LabelValues<string>; value: number }[] }[] =
    [];
  for (const { name, type, labels } of Object.values(catalogue)) {
    if (type !== 'counter' || !(labels as readonly string[]).includes(label)) continue;
    const metric = registry.getSingleMetric(name);
    if (metric instanceof Counter) counters.push({ metric, series: (await metric.get()).values });
  }
  return counters;
}

/** `roboflow_label_overflow_total` on `registry`, made when it is not there yet. */
export function overflowCounter(registry: Registry): Counter<'label'> {
  const present = registry.getSingleMetric<'label'>(catalogue.labelOverflow.name);
  return present instanceof Counter ? present : counter(registry, catalogue.labelOverflow);
}
