import { Coverage } from './coverage.ts';

/**
 * When a stream of vectors moves. It is idle as long as every value stays within `threshold` of where it last came to
 * rest; the sample that leaves that range is a moment of motion, and from there on it is the new place of rest.
 */
export class Motion {
  private readonly threshold: number;
  private readonly coverage: Coverage;
  private rest: Float64Array | undefined;

  /** Moments of motion closer than `resolution` ns are one. */
  constructor(threshold: number, resolution: bigint) {
    this.threshold = threshold;
    this.coverage = new Coverage(resolution);
  }

  /** One sample, in order of arrival. */
  add(time: bigint, value: Float64Array): void {
    const { rest, threshold } = this;
    if (rest) {
      if (value.every((part, i) => Math.abs(part - (rest[i] ?? 0)) <= threshold)) return;
      this.coverage.add(time);
    }
    this.rest = value.slice();
  }

  /** First and last moment of motion within a span, or undefined when it is idle throughout. */
  within(start: bigint, end: bigint): { first: bigint; last: bigint } | undefined {
    const inside = this.coverage.stretches.filter((stretch) => stretch.end >= start && stretch.start <= end);
    const first = inside[0];
    const last = inside.at(-1);
    if (!first || !last) return undefined;
    return {
      first: first.start > start ? first.start : start,
      last: last.end < end ? last.end : end,
    };
  }
}
