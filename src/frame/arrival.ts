import type { Clock } from './types.ts';

/**
 * Decides which samples of one source come in time. A sample is late when it is older than the newest sample before
 * it by more than the reordering window; a header stamp of zero was never set and counts as late too.
 */
export class ArrivalOrder {
  private readonly clock: Clock;
  /** ns */
  private readonly window: bigint;
  /** Largest time so far; undefined before the first sample in time. */
  newest: bigint | undefined;
  late = 0;

  constructor(clock: Clock, window: bigint) {
    this.clock = clock;
    this.window = window;
  }

  /** Whether the sample is in time; a late one is counted and leaves no trace otherwise. */
  accept(time: bigint): boolean {
    const { newest } = this;
    if ((this.clock === 'header' && time <= 0n) || (newest !== undefined && time < newest - this.window)) {
      this.late += 1;
      return false;
    }
    if (newest === undefined || time > newest) this.newest = time;
    return true;
  }
}

/** Seconds of a config as whole nanoseconds. */
export function nanoseconds(seconds: number): bigint {
  return BigInt(Math.round(seconds * 1e9));
}

/** Nanoseconds as seconds, for reports and messages. */
export function seconds(ns: bigint): number {
  return Number(ns) / 1e9;
}
