const second = 1_000_000_000n;

/** Row times of the fixed-rate grid: t_k = t0 + round(k·1e9/fps), from integers, so that they never drift. */
export class GridClock {
  readonly t0: bigint;
  readonly tEnd: bigint;
  private readonly fps: bigint;

  /** Rows with t_k ≤ tEnd. */
  readonly rows: number;

  constructor(fps: number, t0: bigint, tEnd: bigint) {
    this.fps = BigInt(fps);
    this.t0 = t0;
    this.tEnd = tEnd;
    this.rows = tEnd < t0 ? 0 : this.firstAt(tEnd + 1n);
  }

  /** t_k. Halves are rounded up. */
  timeOf(k: number): bigint {
    return this.t0 + (2n * BigInt(k) * second + this.fps) / (2n * this.fps);
  }

  /** Rows with start ≤ t_k ≤ end. */
  rowsIn(start: bigint, end: bigint): number {
    return Math.max(0, Math.min(this.rows, this.firstAt(end + 1n)) - this.firstAt(start));
  }

  /** The first row k with t_k ≥ time. */
  firstAt(time: bigint): number {
    if (time <= this.t0) return 0;
    let k = Number(((time - this.t0) * this.fps) / second);
    while (k > 0 && this.timeOf(k - 1) >= time) k -= 1;
    while (this.timeOf(k) < time) k += 1;
    return k;
  }
}
