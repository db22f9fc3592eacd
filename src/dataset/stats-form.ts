import type { Feature } from '../frame/types.ts';
import { type Column, isCamera, listColumn, statFeatures } from './columns.ts';
import type { FeatureStats } from './types.ts';

/** LeRobot's statistics in the order of its columns. */
export const STAT_NAMES = ['min', 'max', 'mean', 'std', 'count', 'q01', 'q10', 'q50', 'q90', 'q99'] as const;
export type StatName = (typeof STAT_NAMES)[number];

/** One statistic in LeRobot's shape: a list of numbers, for cameras (channels, 1, 1), for `count` one number. */
export function statValue(feature: Feature, stats: FeatureStats, name: StatName): unknown[] {
  if (name === 'count') return [stats.count];
  return isCamera(feature) ? stats[name].map((value) => [[value]]) : [...stats[name]];
}

/** The statistics of one feature as `stats.json` holds them. */
export function statsObject(feature: Feature, stats: FeatureStats): Record<StatName, unknown[]> {
  const entries = STAT_NAMES.map((name) => [name, statValue(feature, stats, name)]);
  return Object.fromEntries(entries) as Record<StatName, unknown[]>;
}

/** The `stats/<feature>/<stat>` columns of the episodes table. */
export function statColumns(features: readonly Feature[]): Column[] {
  return statFeatures(features).flatMap((feature) =>
    STAT_NAMES.map((name) => {
      const column = `stats/${feature.key}/${name}`;
      if (name === 'count') return listColumn(column, 1, { type: 'INT64' });
      return listColumn(column, isCamera(feature) ? 3 : 1, { type: 'DOUBLE' });
    }),
  );
}

/** The same column's value for one episode, as the Parquet writer takes it. */
export function statCells(feature: Feature, stats: FeatureStats): [string, unknown][] {
  return STAT_NAMES.map((name) => [
    `stats/${feature.key}/${name}`,
    name === 'count' ? [BigInt(stats.count)] : statValue(feature, stats, name),
  ]);
}
