import { AgeHistogram } from './age-histogram.ts';
import { seconds } from './arrival.ts';
import type { Decision, HeldSample, SampleQueue } from './sample-queue.ts';
import type { SourceExtent, SourceReport } from './types.ts';

/** Counts for the alignment report of one source. */
export class SourceTally {
  undecodable = 0;
  /** Messages of another publisher on the topic. */
  foreign = 0;
  /** Samples that came after the point up to which the scan had promised none. */
  unexpected = 0;
  dropped = 0;
  private used = 0;
  private exact = 0;
  private held = 0;
  private interpolated = 0;
  private readonly ages = new AgeHistogram();
  private readonly gaps: GapMeter;

  constructor(extent: SourceExtent) {
    this.gaps = new GapMeter(extent.backward);
  }

  /** A sample in time. */
  sample(time: bigint): void {
    this.gaps.add(time);
  }

  /** What a row that is kept took from the source. */
  row(decision: Exclude<Decision, { kind: 'missing' }>): void {
    this.ages.add(Number(decision.age));
    if (decision.kind === 'between') {
      this.interpolated += 1;
      this.use(decision.before);
      this.use(decision.after);
      return;
    }
    if (decision.far || (decision.sample.used && decision.age !== 0n)) this.held += 1;
    else this.exact += 1;
    this.use(decision.sample);
  }

  private use(sample: HeldSample): void {
    if (!sample.used) this.used += 1;
    sample.used = true;
  }

  /** The report; counts so far. */
  report({ source, order, arrived }: SampleQueue, extent: SourceExtent): SourceReport {
    const { feature, topic, clock, alignment } = source;
    const { used, undecodable, foreign, exact, held, interpolated, dropped } = this;
    return {
      feature,
      topic,
      clock,
      method: alignment.method,
      samples: arrived - foreign,
      used,
      late: order.late + this.unexpected,
      undecodable,
      ...(foreign > 0 && { foreign }),
      exact,
      held,
      interpolated,
      dropped,
      age: this.ages.summary(),
      largestGap: seconds(this.gaps.result()),
      ...(clock === 'header' && { stampLag: { min: seconds(extent.minLag), max: seconds(extent.maxLag) } }),
    };
  }
}

/** Largest distance between neighbouring sample times although samples may step back by up to `backward` ns. */
class GapMeter {
  private readonly backward: bigint;
  private times: bigint[] = [];
  private largest = 0n;

  constructor(backward: bigint) {
    this.backward = backward;
  }

  add(time: bigint): void {
    const { times } = this;
    let at = times.length;
    while (at > 0 && (times[at - 1] as bigint) > time) at -= 1;
    times.splice(at, 0, time);
    const settled = (times.at(-1) as bigint) - this.backward;
    while (times.length > 1 && (times[1] as bigint) <= settled) this.take();
  }

  private take(): void {
    const [first, second] = this.times as [bigint, bigint];
    if (second - first > this.largest) this.largest = second - first;
    this.times.shift();
  }

  result(): bigint {
    while (this.times.length > 1) this.take();
    return this.largest;
  }
}
