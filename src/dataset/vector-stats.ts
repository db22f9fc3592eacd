import type { Feature } from '../frame/types.ts';
import { constantQuantiles, featureStats, type Moments, RunningMoments } from './stats.ts';
import { QuantileHistogram } from './quantiles.ts';
import type { FeatureStats } from './types.ts';

/** Channels of a feature's statistics: its elements, or the last dimension when there are several (others pooled). */
export function statChannels(feature: Feature): number {
  return feature.shape.at(-1) ?? 1;
}

/** First pass over a vector feature: minimum, maximum, mean and deviation of each channel. */
export class VectorMoments {
  readonly #channels: readonly RunningMoments[];
  #rows = 0;

  constructor(channels: number) {
    this.#channels = Array.from({ length: channels }, () => new RunningMoments());
  }

  /** Adds one row: a multiple of the number of channels. */
  add(numbers: ArrayLike<number>): void {
    const channels = this.#channels.length;
    for (let i = 0; i < numbers.length; i += 1) this.#channels[i % channels]?.add(numbers[i] ?? 0);
    this.#rows += 1;
  }

  /** Joins the statistics of another set of rows, weighted by their number. */
  merge(stats: FeatureStats): void {
    this.#channels.forEach((channel, i) => {
      const at = (values: readonly number[]) => values[i] ?? 0;
      channel.merge({
        min: at(stats.min),
        max: at(stats.max),
        mean: at(stats.mean),
        std: at(stats.std),
        count: stats.count,
      });
    });
    this.#rows += stats.count;
  }

  get moments(): Moments[] {
    return this.#channels.map((channel) => channel.value);
  }

  get rows(): number {
    return this.#rows;
  }
}

/** Second pass over a vector feature, whose range is known by now: the quantiles of each channel. */
export class VectorQuantiles {
  readonly #histograms: readonly QuantileHistogram[];

  /** @param ranges smallest and largest value of each channel */
  constructor(ranges: readonly { readonly min: number; readonly max: number }[]) {
    this.#histograms = ranges.map(({ min, max }) => new QuantileHistogram(min, max));
  }

  /** Adds one row: a multiple of the number of channels. */
  add(numbers: ArrayLike<number>): void {
    const channels = this.#histograms.length;
    for (let i = 0; i < numbers.length; i += 1) this.#histograms[i % channels]?.add(numbers[i] ?? 0);
  }

  /** The feature's statistics, given the first pass over the same rows; `count` is their number. */
  stats({ moments, rows }: VectorMoments): FeatureStats {
    const quantiles = this.#histograms.map((histogram, i) =>
      rows < 2 ? constantQuantiles(moments[i]?.mean ?? 0) : histogram.quantiles(),
    );
    return featureStats(moments, quantiles, rows);
  }
}
