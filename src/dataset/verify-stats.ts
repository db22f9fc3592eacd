import type { CheckList } from './check-list.ts';
import { type DeclaredFeature, type DeclaredInfo, hasStats, isDepth, isPicture } from './read-info.ts';
import { cellNumbers } from './cells.ts';
import { STAT_NAMES, type StatName } from './stats-form.ts';
import type { StatementId } from './statements.ts';
import type { VectorMoments } from './vector-stats.ts';

/** Slack of comparisons between a statistic and a recount: sums in another order or in 32 bits. */
const TOLERANCE = 1e-5;

/** Statistics of one feature, each flattened. */
export type FlatStats = ReadonlyMap<StatName, readonly number[]>;

/** minimum ≤ q01 ≤ … ≤ q99 ≤ maximum, up to the margin of the bins. */
export function checkQuantileOrder(
  { key }: DeclaredFeature,
  stats: FlatStats,
  list: CheckList<StatementId>,
  where: string,
): void {
  const order: StatName[] = ['min', 'q01', 'q10', 'q50', 'q90', 'q99', 'max'];
  const channels = stats.get('min')?.length ?? 0;
  for (let channel = 0; channel < channels; channel += 1) {
    const values = order.map((name) => stats.get(name)?.[channel] ?? Number.NaN);
    const scale = Math.max(1, ...values.map(Math.abs));
    const ordered = values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0) - 1e-9 * scale);
    list.expect('quantiles', ordered, () => `${where}: ${key}[${channel}] has ${values.join(' ≤ ')}`);
  }
}

/** Statistics of pictures are fractions of the full range; depth is in its own unit. */
export function checkPictureStats(
  feature: DeclaredFeature,
  stats: FlatStats,
  list: CheckList<StatementId>,
  where: string,
): void {
  if (isDepth(feature)) return;
  for (const [name, values] of stats) {
    if (name === 'count') continue;
    const inside = values.length === 3 && values.every((value) => value >= -1e-9 && value <= 1 + 1e-9);
    list.expect(
      'camera-stats',
      inside,
      () => `${where}: ${name} of ${feature.key} is [${values.join(', ')}]`,
    );
  }
}

/** Compares statistics with a recount over the rows they speak of. */
export function checkRecount(
  { key }: DeclaredFeature,
  stats: FlatStats,
  recount: VectorMoments,
  report: (fault: string) => void,
): void {
  const count = stats.get('count');
  if (count?.length !== 1 || count[0] !== recount.rows) {
    report(`count of ${key} is [${count?.join(', ')}], expected [${recount.rows}]`);
  }
  recount.moments.forEach((channel, i) => {
    const slack = TOLERANCE * Math.max(1, Math.abs(channel.min), Math.abs(channel.max));
    for (const name of ['min', 'max', 'mean', 'std'] as const) {
      const found = stats.get(name)?.[i];
      // Min and max are values of the data, exact but for the 32 bits they were stored in.
      if (found === undefined || !(Math.abs(found - channel[name]) <= slack)) {
        report(`${name} of ${key}[${i}] is ${found}, the rows have ${channel[name]}`);
      }
    }
  });
}

/** Examines `stats.json` against a recount of all rows (`recounts` by feature; pictures have none). */
export function verifyStatsFile(
  bytes: Uint8Array,
  info: DeclaredInfo,
  recounts: ReadonlyMap<string, VectorMoments>,
  sampled: ReadonlyMap<string, number>,
  list: CheckList<StatementId>,
): void {
  list.examine('stats', 'stats-exact', 'quantiles', 'camera-stats');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    list.fault('stats', 'meta/stats.json is not JSON');
    return;
  }
  const all = value as Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>;
  for (const feature of info.features.filter(hasStats)) {
    const { key } = feature;
    const own = all[key];
    if (!own) {
      list.fault('stats', `meta/stats.json lacks ${key}`);
      continue;
    }
    const channels = feature.shape.at(-1) ?? 1;
    const stats = new Map<StatName, number[]>();
    for (const name of STAT_NAMES) {
      const numbers = own[name] === undefined ? [] : cellNumbers(own[name]);
      stats.set(name, numbers);
      const shaped =
        name === 'count'
          ? JSON.stringify(own[name]) === JSON.stringify(numbers) && numbers.length === 1
          : JSON.stringify(own[name]) ===
              JSON.stringify(isPicture(feature) ? numbers.map((each) => [[each]]) : numbers) &&
            numbers.length === channels;
      list.expect(
        'stats',
        shaped && numbers.every(Number.isFinite),
        () => `${name} of ${key} is ${JSON.stringify(own[name]) ?? 'missing'}`,
      );
    }
    checkQuantileOrder(feature, stats, list, 'meta/stats.json');
    const recount = recounts.get(key);
    if (recount && recount.rows > 0) {
      checkRecount(feature, stats, recount, (fault) =>
        list.fault('stats-exact', `meta/stats.json: ${fault}`),
      );
    }
    if (isPicture(feature)) {
      checkPictureStats(feature, stats, list, 'meta/stats.json');
      const expected = sampled.get(key) ?? 0;
      const count = stats.get('count')?.[0];
      list.expect(
        'camera-stats',
        count === expected,
        () => `meta/stats.json: ${key} counts ${count} pictures, the episodes ${expected}`,
      );
    }
  }
}
