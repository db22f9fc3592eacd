import type { DepthValues } from './depth.ts';
import { sampleStride } from './picture-sampling.ts';
import { QuantileHistogram } from './quantiles.ts';
import { featureStats, RunningMoments } from './stats.ts';
import type { FeatureStats } from './types.ts';

/** Floats are counted in steps of a ten-thousandth of their unit, up to about 105 units. */
const FLOAT_STEPS = 10_000;
const FLOAT_BINS = 1 << 20;

/** Statistics of an episode's sampled depth pictures in their own unit: exact moments, quantiles from counts. */
export class DepthStats {
  readonly #moments = new RunningMoments();
  #counts: Uint32Array | undefined;
  #scale = 1;
  #pictures = 0;

  /** Pools every `stride`-th row and column of one stored picture. Pixels without a finite depth count as 0. */
  add(values: DepthValues, width: number, height: number): void {
    const whole = values instanceof Uint16Array;
    this.#counts ??= new Uint32Array(whole ? 65_536 : FLOAT_BINS);
    this.#scale = whole ? 1 : FLOAT_STEPS;
    const counts = this.#counts;
    const stride = sampleStride(width, height);
    for (let y = 0; y < height; y += stride) {
      for (let x = 0; x < width; x += stride) {
        const found = values[y * width + x] ?? 0;
        const value = Number.isFinite(found) ? found : 0;
        this.#moments.add(value);
        const bin = Math.min(counts.length - 1, Math.max(0, Math.round(value * this.#scale)));
        counts[bin] = (counts[bin] ?? 0) + 1;
      }
    }
    this.#pictures += 1;
  }

  /** The statistics; `count` is the number of pictures. */
  get stats(): FeatureStats {
    const moments = this.#moments.value;
    const { min, max } = moments;
    const histogram = new QuantileHistogram(min, max);
    this.#counts?.forEach((pixels, bin) => {
      if (pixels > 0) histogram.add(Math.min(max, Math.max(min, bin / this.#scale)), pixels);
    });
    return featureStats([moments], [histogram.quantiles()], this.#pictures);
  }
}
