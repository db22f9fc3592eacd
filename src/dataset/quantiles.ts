/** LeRobot's quantiles, by the name of the statistic. */
export const QUANTILES = { q01: 0.01, q10: 0.1, q50: 0.5, q90: 0.9, q99: 0.99 } as const;
export type QuantileName = keyof typeof QUANTILES;

const BINS = 5000;
const MARGIN = 1e-10;

/**
 * Histogram of one channel over a range that is known beforehand, and the quantiles LeRobot computes from it
 * (lerobot `RunningQuantileStats`: 5000 half-open bins over [min − 1e-10, max + 1e-10], the last one closed).
 */
export class QuantileHistogram {
  readonly #low: number;
  readonly #high: number;
  readonly #width: number;
  readonly #counts = new Float64Array(BINS);
  #total = 0;

  constructor(min: number, max: number) {
    this.#low = min - MARGIN;
    this.#high = max + MARGIN;
    this.#width = (this.#high - this.#low) / BINS;
  }

  /** Counts `value`, which lies within the range, `weight` times. */
  add(value: number, weight = 1): void {
    const bin = this.#width > 0 ? Math.floor((value - this.#low) / this.#width) : 0;
    const at = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
    this.#counts[at] = (this.#counts[at] ?? 0) + weight;
    this.#total += weight;
  }

  /** The inverse of the distribution at each of LeRobot's quantiles. */
  quantiles(): Record<QuantileName, number> {
    const names = Object.keys(QUANTILES) as QuantileName[];
    const values = names.map((name) => this.#quantile(QUANTILES[name]));
    return Object.fromEntries(names.map((name, i) => [name, values[i]])) as Record<QuantileName, number>;
  }

  #quantile(q: number): number {
    if (this.#width <= 0) return this.#low;
    const target = q * this.#total;
    let before = 0;
    for (let bin = 0; bin < BINS; bin += 1) {
      const count = this.#counts[bin] ?? 0;
      if (before + count >= target) {
        if (bin === 0) return this.#low;
        return this.#low + this.#width * (bin + (target - before) / count);
      }
      before += count;
    }
    return this.#high;
  }
}
