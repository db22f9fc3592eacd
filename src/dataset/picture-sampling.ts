/**
 * Which pictures and pixels LeRobot's statistics of a camera are made of
 * (lerobot `compute_stats.py`: `estimate_num_samples`, `sample_indices`, `auto_downsample_height_width`).
 */

/** Number of pictures sampled from an episode of `length` frames. */
export function sampleCount(length: number): number {
  return Math.max(Math.min(100, length), Math.min(Math.floor(length ** 0.75), 10_000));
}

/** Rounds like NumPy: ties go to the even neighbour. */
function rint(value: number): number {
  const up = Math.floor(value + 0.5);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

const step = (length: number) => (length <= 100 ? 1 : (length - 1) / (sampleCount(length) - 1));

/** Frame numbers sampled from an episode of `length` frames, ascending. */
export function sampleIndices(length: number): number[] {
  const width = step(length);
  return Array.from({ length: sampleCount(length) }, (_, i) => rint(i * width));
}

/** Every `stride`-th row and column of a picture is pooled, starting with the first. */
export function sampleStride(width: number, height: number): number {
  const longest = Math.max(width, height);
  return longest < 300 ? 1 : Math.floor(longest / 150);
}

/** Distance between candidates at frame `index` when the length is unknown: dense enough for every length above it. */
const openStep = (index: number) =>
  Math.max(1, Math.floor(Math.min(index / 100, Math.sqrt(Math.sqrt(index)))));

/** Distance from one wanted picture to the next at frame `index` of an episode of `expected` frames. */
export function samplingStep(index: number, expected: number | undefined): number {
  return expected === undefined || index >= expected ? openStep(index) : step(expected);
}

/**
 * Whether frame `index` may be needed for the statistics: exactly the formula's frames up to the expected length
 * (undefined: not known), and beyond it enough frames for any length.
 */
export function isCandidate(index: number, expected: number | undefined): boolean {
  if (expected === undefined || index >= expected) return index % openStep(index) === 0;
  const width = step(expected);
  return rint(Math.floor(index / width + 0.5) * width) === index;
}

/** The same test as an expression of FFmpeg's `select` filter over the frame number `n`. */
export function candidateExpression(expected: number): string {
  const width = step(expected);
  const nearest = `st(0,floor(n/${width}+0.5)*${width});st(1,floor(ld(0)+0.5))`;
  const exact = `eq(n,ld(1)-eq(ld(1)-ld(0),0.5)*mod(ld(1),2))`;
  const open = `not(mod(n,max(1,floor(min(n/100,sqrt(sqrt(n)))))))`;
  return `${nearest};if(lt(n,${expected}),${exact},${open})`;
}

/** For each target the candidate nearest to it (the earlier one on a tie); both ascending, candidates not empty. */
export function nearestCandidates(targets: readonly number[], candidates: readonly number[]): number[] {
  let at = 0;
  return targets.map((target) => {
    for (;;) {
      const here = candidates[at] ?? Infinity;
      const next = candidates[at + 1];
      if (next === undefined || Math.abs(next - target) >= Math.abs(here - target)) return here;
      at += 1;
    }
  });
}
