/** Buckets an octave: a bucket is 4.4 % wide, so its middle is within 2.2 % of every value in it. */
const steps = 16;
/** 1 µs to about 4.6 hours; smaller ages count as zero, larger ones into the last bucket. */
const smallest = 1_000;
const buckets = 34 * steps;

/** Distances in ns with bounded memory: percentiles within 2.2 %, the maximum exact. */
export class AgeHistogram {
  private readonly counts = new Uint32Array(buckets + 1);
  private total = 0;
  private largest = 0;

  /** One distance, ns ≥ 0. */
  add(ns: number): void {
    this.total += 1;
    if (ns > this.largest) this.largest = ns;
    const bucket = ns < smallest ? 0 : Math.min(buckets, 1 + Math.floor(Math.log2(ns / smallest) * steps));
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
  }

  /** Percentiles by nearest rank, in seconds; null when nothing was added. */
  summary(): { p50: number; p95: number; max: number } | null {
    if (this.total === 0) return null;
    return { p50: this.quantile(0.5), p95: this.quantile(0.95), max: this.largest / 1e9 };
  }

  private quantile(q: number): number {
    const rank = Math.max(1, Math.ceil(q * this.total));
    let seen = 0;
    for (const [bucket, count] of this.counts.entries()) {
      seen += count;
      if (seen < rank) continue;
      const middle = bucket === 0 ? 0 : smallest * 2 ** ((bucket - 0.5) / steps);
      return Math.min(middle, this.largest) / 1e9;
    }
    return this.largest / 1e9;
  }
}
