import { QUANTILES, QuantileHistogram, type QuantileName } from './quantiles.ts';
import type { FeatureStats } from './types.ts';

/** Minimum, maximum, mean and population standard deviation of one channel. */
export type Moments = {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
  readonly count: number;
};

/** Running moments of one channel (Welford; sets joined as in Chan et al. 1979, lerobot's weighting by count). */
export class RunningMoments {
  #count = 0;
  #mean = 0;
  #squares = 0;
  #min = Infinity;
  #max = -Infinity;

  add(value: number): void {
    this.#count += 1;
    const delta = value - this.#mean;
    this.#mean += delta / this.#count;
    this.#squares += delta * (value - this.#mean);
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  /** Joins the moments of another set of values. */
  merge({ min, max, mean, std, count }: Moments): void {
    if (count === 0) return;
    const total = this.#count + count;
    const delta = mean - this.#mean;
    this.#squares += std * std * count + (delta * delta * this.#count * count) / total;
    this.#mean += (delta * count) / total;
    this.#count = total;
    this.#min = Math.min(this.#min, min);
    this.#max = Math.max(this.#max, max);
  }

  /** The moments so far; at least one value has been added. */
  get value(): Moments {
    return {
      min: this.#min,
      max: this.#max,
      mean: this.#mean,
      std: Math.sqrt(Math.max(0, this.#squares / this.#count)),
      count: this.#count,
    };
  }
}

/** Puts the statistics of single channels together; `quantiles` has one entry a channel. */
export function featureStats(
  moments: readonly Moments[],
  quantiles: readonly Readonly<Record<QuantileName, number>>[],
  count: number,
): FeatureStats {
  const pick = (name: QuantileName) => quantiles.map((channel) => channel[name]);
  return {
    min: moments.map((m) => m.min),
    max: moments.map((m) => m.max),
    mean: moments.map((m) => m.mean),
    std: moments.map((m) => m.std),
    count,
    q01: pick('q01'),
    q10: pick('q10'),
    q50: pick('q50'),
    q90: pick('q90'),
    q99: pick('q99'),
  };
}

/** The quantiles of fewer than two rows: all equal to the mean (lerobot `_compute_basic_stats`). */
export function constantQuantiles(mean: number): Record<QuantileName, number> {
  return Object.fromEntries(Object.keys(QUANTILES).map((name) => [name, mean])) as Record<
    QuantileName,
    number
  >;
}

/** The statistics of one column of values held in memory, an empty column excluded. */
export function columnStats(values: Iterable<number>): FeatureStats {
  const moments = new RunningMoments();
  const held = [...values];
  for (const value of held) moments.add(value);
  const { value } = moments;
  const histogram = new QuantileHistogram(value.min, value.max);
  for (const each of held) histogram.add(each);
  const quantiles = value.count < 2 ? constantQuantiles(value.mean) : histogram.quantiles();
  return featureStats([value], [quantiles], value.count);
}

/**
 * The statistics of a camera from counts of its 8-bit values, one list a channel: exact, in [0, 1], mergeable by adding
 * counts. `count` is the number of pictures sampled.
 */
export function pictureStats(channels: readonly ArrayLike<number>[], count: number): FeatureStats {
  const moments: Moments[] = [];
  const quantiles: Record<QuantileName, number>[] = [];
  for (const counts of channels) {
    const used = Array.from(counts)
      .map((pixels, value) => ({ pixels, value }))
      .filter(({ pixels }) => pixels > 0);
    const pixels = used.reduce((sum, each) => sum + each.pixels, 0);
    const mean = used.reduce((sum, each) => sum + each.value * each.pixels, 0) / pixels;
    const variance = used.reduce((sum, each) => sum + (each.value - mean) ** 2 * each.pixels, 0) / pixels;
    const min = used[0]?.value ?? 0;
    const max = used.at(-1)?.value ?? 0;
    const histogram = new QuantileHistogram(min, max);
    for (const each of used) histogram.add(each.value, each.pixels);
    moments.push({ min: min / 255, max: max / 255, mean: mean / 255, std: Math.sqrt(variance) / 255, count });
    const found = histogram.quantiles();
    quantiles.push(
      Object.fromEntries(Object.entries(found).map(([name, value]) => [name, value / 255])) as Record<
        QuantileName,
        number
      >,
    );
  }
  return featureStats(moments, quantiles, count);
}

/** The statistics of a column of `count` times the same value. */
export function constantStats(value: number, count: number): FeatureStats {
  return featureStats(
    [{ min: value, max: value, mean: value, std: 0, count }],
    [constantQuantiles(value)],
    count,
  );
}

/** The statistics of the same column with `offset` added to every value. */
export function shiftStats(stats: FeatureStats, offset: number): FeatureStats {
  const shift = (values: readonly number[]) => values.map((value) => value + offset);
  return {
    min: shift(stats.min),
    max: shift(stats.max),
    mean: shift(stats.mean),
    std: stats.std,
    count: stats.count,
    q01: shift(stats.q01),
    q10: shift(stats.q10),
    q50: shift(stats.q50),
    q90: shift(stats.q90),
    q99: shift(stats.q99),
  };
}
