import { ArrivalOrder } from './arrival.ts';
import type { FeatureValue, Sample, Source, SourceExtent } from './types.ts';

/** Later than every sample: the watermark of a source that has ended. */
export const never = 1n << 100n;

/** A sample in memory; its bytes are counted while someone keeps it. */
export type HeldSample = {
  readonly time: bigint;
  readonly value: FeatureValue | undefined;
  readonly bytes: number;
  keepers: number;
  used: boolean;
};

/** Counts the bytes of all samples that are kept anywhere. */
export class BufferLedger {
  bytes = 0;

  keep(sample: HeldSample): void {
    if (sample.keepers === 0) this.bytes += sample.bytes;
    sample.keepers += 1;
  }

  drop(sample: HeldSample): void {
    sample.keepers -= 1;
    if (sample.keepers === 0) this.bytes -= sample.bytes;
  }
}

/** What a row finds in a source; `far`: nothing qualifies and the last sample is used under `missing: hold`. */
export type Decision =
  | { readonly kind: 'one'; readonly sample: HeldSample; readonly age: bigint; readonly far: boolean }
  | {
      readonly kind: 'between';
      readonly before: HeldSample;
      readonly after: HeldSample;
      readonly age: bigint;
      readonly share: number;
    }
  | { readonly kind: 'missing'; readonly age: bigint | undefined };

/**
 * The samples of one source between reader and rows, in order of time; of samples with the same time only the last
 * one to arrive. `watermark` says up to where nothing new can come: below `newest - backward`, because the scan saw
 * how far the source steps back, and below `log position - maxLag`, because it saw how far it runs behind its log.
 * A row is decided as soon as the watermark rules out a sample that would change it, and not before.
 */
export class SampleQueue {
  readonly source: Source;
  readonly order: ArrivalOrder;
  arrived = 0;
  private readonly extent: SourceExtent;
  private readonly ledger: BufferLedger;
  private samples: HeldSample[] = [];
  private head = 0;

  constructor(source: Source, extent: SourceExtent, window: bigint, ledger: BufferLedger) {
    this.source = source;
    this.extent = extent;
    this.order = new ArrivalOrder(source.clock, window, extent.count > 0 && extent.first === 0n);
    this.ledger = ledger;
  }

  /** No sample to come has a time below this. */
  watermark(position: bigint | undefined): bigint {
    const { extent, order } = this;
    const ended = order.newest !== undefined && order.newest >= extent.last;
    if (ended && this.arrived >= extent.count + extent.late + extent.apart) return never;
    const byLog = position === undefined ? undefined : position - extent.maxLag;
    const byOrder = order.newest === undefined ? extent.first : order.newest - extent.backward;
    return byLog === undefined || byOrder > byLog ? byOrder : byLog;
  }

  /** Takes a sample in; returns where it is in the queue. */
  insert({ time, value, bytes }: Sample): number {
    const { samples } = this;
    const sample: HeldSample = { time, value, bytes, keepers: 0, used: false };
    let at = samples.length;
    while (at > this.head && at > 0 && (samples[at - 1] as HeldSample).time > time) at -= 1;
    this.ledger.keep(sample);
    const before = at > this.head ? samples[at - 1] : undefined;
    if (before?.time === time) {
      this.ledger.drop(before);
      samples[at - 1] = sample;
      return at - 1;
    }
    if (at === samples.length) samples.push(sample);
    else samples.splice(at, 0, sample);
    return at;
  }

  /** The sample at a place of the queue. */
  at(place: number): HeldSample | undefined {
    return place < this.head ? undefined : this.samples[place];
  }

  /** Whether a sample of this time could never be used when no row before `bound` is left. */
  superseded(time: bigint, bound: bigint): boolean {
    const first = this.samples[this.head];
    return first !== undefined && time < first.time && first.time <= bound;
  }

  /** Gives up one sample. */
  remove(place: number): void {
    const sample = this.samples[place];
    if (!sample) return;
    this.ledger.drop(sample);
    this.samples.splice(place, 1);
  }

  /** Gives up what no row at or after `bound` can use: all but the last sample not after it. */
  release(bound: bigint): void {
    const { samples } = this;
    for (let next = samples[this.head + 1]; next && next.time <= bound; next = samples[this.head + 1]) {
      this.ledger.drop(samples[this.head] as HeldSample);
      this.head += 1;
    }
    if (this.head > 64 && this.head * 2 > samples.length) {
      samples.splice(0, this.head);
      this.head = 0;
    }
  }

  /** Gives up everything. */
  clear(): void {
    for (let i = this.head; i < this.samples.length; i++) this.ledger.drop(this.samples[i] as HeldSample);
    this.samples = [];
    this.head = 0;
  }

  /** What the row at `time` finds, or undefined while a sample to come could still change it; `ended`: none comes. */
  decide(time: bigint, position: bigint | undefined, ended: boolean): Decision | undefined {
    const mark = ended ? never : this.watermark(position);
    if (mark <= time) return undefined;
    const { samples } = this;
    let at = this.head;
    while (at + 1 < samples.length && (samples[at + 1] as HeldSample).time <= time) at += 1;
    const here = samples[at];
    const before = here && here.time <= time ? here : undefined;
    const after = before ? samples[at + 1] : here;
    switch (this.source.alignment.method) {
      case 'hold':
        return this.causal(time, before);
      case 'nearest':
        return this.nearest(time, mark, before, after);
      default:
        return this.between(time, mark, before, after);
    }
  }

  /** The last sample not after the row: when it is too old, only `missing: hold` takes it. */
  private causal(time: bigint, before: HeldSample | undefined): Decision {
    const { maxAge, missing } = this.source.alignment;
    if (!before) return { kind: 'missing', age: undefined };
    const age = time - before.time;
    if (age <= maxAge) return { kind: 'one', sample: before, age, far: false };
    return missing === 'hold' ? { kind: 'one', sample: before, age, far: true } : { kind: 'missing', age };
  }

  private nearest(
    time: bigint,
    mark: bigint,
    before: HeldSample | undefined,
    after: HeldSample | undefined,
  ): Decision | undefined {
    const { maxAge, missing } = this.source.alignment;
    const back = before && time - before.time;
    const ahead = after && after.time - time;
    const useAfter = after !== undefined && ahead !== undefined && (back === undefined || ahead < back);
    const sample = useAfter ? after : before;
    const age = useAfter ? ahead : back;
    if (sample === undefined || age === undefined || age > maxAge) {
      // Something within max_age may still come.
      if (mark <= time + maxAge) return undefined;
      return missing === 'hold' ? this.causal(time, before) : { kind: 'missing', age };
    }
    // A sample to come wins when it is strictly closer, or replaces the chosen one at the same time.
    if (useAfter ? mark <= sample.time : mark < time + age) return undefined;
    return { kind: 'one', sample, age, far: false };
  }

  private between(
    time: bigint,
    mark: bigint,
    before: HeldSample | undefined,
    after: HeldSample | undefined,
  ): Decision | undefined {
    const { maxAge, missing } = this.source.alignment;
    const back = before && time - before.time;
    if (before && back === 0n) return { kind: 'one', sample: before, age: 0n, far: false };
    const reachesBack = back !== undefined && back <= maxAge;
    if (reachesBack && mark <= (after ? after.time : time + maxAge) && mark <= time + maxAge)
      return undefined;
    const ahead = after && after.time - time;
    if (before && after && reachesBack && ahead !== undefined && ahead <= maxAge) {
      const share = Number(back) / Number(back + ahead);
      return { kind: 'between', before, after, age: back > ahead ? back : ahead, share };
    }
    if (missing === 'hold' && before && back !== undefined)
      return { kind: 'one', sample: before, age: back, far: true };
    const age = reachesBack ? ahead : back;
    return { kind: 'missing', age };
  }
}
