import type { Clock } from './types.ts';

/** Stamps that go on below this after zeros are of a clock that began at zero, as simulators' do, ns. */
const simulated = 10_000_000_000n;

/** Whether stamps of zero at the beginning of a stream are times: its first other stamp tells. */
export function beginsAtZero(next: bigint): boolean {
  return next < simulated;
}

/**
 * Decides which samples of one source come in time. A sample is late when it is older than the newest sample before
 * it by more than the reordering window; a stamp or publish time of zero was never set and counts as late too, unless
 * the clock began at zero.
 */
export class ArrivalOrder {
  private readonly clock: Clock;
  /** ns */
  private readonly window: bigint;
  /** Largest time so far; undefined before the first sample in time. */
  newest: bigint | undefined;
  late = 0;
  /** Whether a stamp of zero is a time. */
  fromZero: boolean;

  constructor(clock: Clock, window: bigint, fromZero = false) {
    this.clock = clock;
    this.window = window;
    this.fromZero = fromZero;
  }

  /** Whether the sample is in time; a late one is counted and leaves no trace otherwise. */
  accept(time: bigint): boolean {
    const { newest } = this;
    const unset = this.clock !== 'log' && (this.fromZero ? time < 0n : time <= 0n);
    if (unset || (newest !== undefined && time < newest - this.window)) {
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
