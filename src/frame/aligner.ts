import { InputError } from '../errors.ts';
import { nanoseconds, seconds } from './arrival.ts';
import { linear, slerp } from './interpolate.ts';
import { RowAssembly } from './row-assembly.ts';
import { GridClock } from './row-clock.ts';
import { GridRows, ReferenceRows, type RowSource } from './row-source.ts';
import { BufferLedger, never, SampleQueue, type Decision } from './sample-queue.ts';
import { SourceTally } from './source-tally.ts';
import type {
  AlignedFrame,
  AlignmentReport,
  EpisodeSpan,
  FeatureValue,
  FrameConfig,
  Mapping,
  Sample,
  Source,
  TimelineExtent,
} from './types.ts';

/**
 * Second pass over a recording: samples in, rows out, in order and as early as they are certain. For each message the
 * reader calls `advance` with its log time, then `push` for every source that reads it, then takes what is `ready`;
 * after the last message it takes what `finish` gives. A row never depends on when it is taken.
 */
export class FrameAligner {
  private readonly mapping: Mapping;
  private readonly extent: TimelineExtent;
  private readonly queues: readonly SampleQueue[];
  private readonly tallies: readonly SourceTally[];
  private readonly ledger = new BufferLedger();
  private readonly rows: RowSource;
  private readonly reference: ReferenceRows | undefined;
  private readonly assembly: RowAssembly;
  /** Log time of the reader: every sample to come was logged at or after it. */
  private position: bigint | undefined;
  private finished = false;
  /** What the sources say about the next row, as far as they have decided. */
  private decisions: Decision[] = [];
  private droppedRows = 0;

  /** `spans`: the episodes, in order and without overlap; one over everything when it is left out. */
  constructor(mapping: Mapping, extent: TimelineExtent, config: FrameConfig, spans?: readonly EpisodeSpan[]) {
    this.mapping = mapping;
    this.extent = extent;
    const window = nanoseconds(config.reorder);
    this.queues = mapping.sources.map(
      (source) => new SampleQueue(source, extentOf(extent, source), window, this.ledger),
    );
    this.tallies = mapping.sources.map((source) => new SourceTally(extentOf(extent, source)));
    const { t0, tEnd } = extent;
    const episodes = spans ?? [{ start: t0, end: tEnd, task: '' }];
    this.assembly = new RowAssembly(mapping, this.ledger, episodes);
    const reference = mapping.reference === undefined ? undefined : this.queues[mapping.reference];
    this.reference =
      reference &&
      new ReferenceRows(t0, tEnd, episodes, () =>
        this.finished ? never : reference.watermark(this.position),
      );
    this.rows = this.reference ?? new GridRows(new GridClock(config.fps, t0, tEnd), episodes);
  }

  /** Memory of the samples kept for rows to come. */
  get bufferedBytes(): number {
    return this.ledger.bytes;
  }

  /** The reader is at this log time; it never goes back. */
  advance(logTime: bigint): void {
    if (this.position === undefined || logTime > this.position) this.position = logTime;
  }

  /** One sample of a source. One that comes too late is counted and let go. */
  push(source: number, sample: Sample): void {
    const { queue, tally } = this.sourceAt(source);
    const promised = queue.watermark(this.position);
    queue.arrived += 1;
    if (!queue.order.accept(sample.time)) return;
    if (sample.time < promised) {
      tally.unexpected += 1;
      return;
    }
    tally.sample(sample.time);
    if (source === this.mapping.reference) this.reference?.add(sample.time);
    if (queue.source.kind !== 'reference') this.store(queue, sample);
  }

  /** A message of a source that could not be decoded; `time` when at least that is known. */
  undecodable(source: number, time?: bigint): void {
    const { queue, tally } = this.sourceAt(source);
    queue.arrived += 1;
    tally.undecodable += 1;
    if (time !== undefined) queue.order.accept(time);
  }

  /** A message of a source's topic that is another publisher's. */
  foreign(source: number): void {
    const { queue, tally } = this.sourceAt(source);
    queue.arrived += 1;
    tally.foreign += 1;
  }

  /** The rows that are certain by now. */
  *ready(): Generator<AlignedFrame> {
    for (let row = this.rows.next(); row; row = this.rows.next()) {
      if (!this.decide(row.time)) return;
      const { decisions } = this;
      this.decisions = [];
      const values = this.valuesOf(row.time, decisions);
      const frames = values ? [...this.assembly.add(row, values, decisions)] : [];
      this.rows.pass();
      this.release();
      yield* frames;
    }
  }

  /** The remaining rows, after the last message. Throws `InputError` when the episode has no row at all. */
  *finish(): Generator<AlignedFrame> {
    this.finished = true;
    yield* this.ready();
    yield* this.assembly.end();
    this.release();
    if (this.assembly.rows === 0) throw new InputError(this.whyEmpty());
  }

  /** What was done so far. */
  report(): AlignmentReport {
    return {
      rows: this.assembly.rows,
      droppedRows: this.droppedRows,
      derivedRows: this.assembly.derivedRows,
      outsideRows: this.rows.outside,
      sources: this.tallies.map((tally, i) => {
        const { queue } = this.sourceAt(i);
        return tally.report(queue, extentOf(this.extent, queue.source));
      }),
    };
  }

  private sourceAt(index: number): { queue: SampleQueue; tally: SourceTally } {
    const queue = this.queues[index];
    const tally = this.tallies[index];
    if (!queue || !tally) throw new RangeError(`there is no source ${index}`);
    return { queue, tally };
  }

  /** Keeps a sample unless no row can use it, and gives up the one that it replaces for all rows to come. */
  private store(queue: SampleQueue, sample: Sample): void {
    const bound = this.rows.bound();
    if (bound === never || queue.superseded(sample.time, bound)) return;
    const hold = queue.source.alignment.method === 'hold';
    if (hold && sample.time > this.extent.tEnd) return;
    const place = queue.insert(sample);
    queue.release(bound);
    if (!hold) return;
    for (const at of [place, place - 1]) {
      const here = queue.at(at);
      const next = queue.at(at + 1);
      if (here && next && !this.rows.rowIn(here.time, next.time)) queue.remove(at);
    }
  }

  /** Asks the sources that have not decided yet; true when all have. */
  private decide(time: bigint): boolean {
    const { decisions, queues } = this;
    for (let i = decisions.length; i < queues.length; i++) {
      const queue = queues[i] as SampleQueue;
      if (queue.source.kind === 'reference') {
        decisions.push(reference);
        continue;
      }
      const decision = queue.decide(time, this.position, this.finished);
      if (!decision) return false;
      decisions.push(decision);
    }
    return true;
  }

  /** The value of every source for a row, or undefined when the row is dropped. */
  private valuesOf(time: bigint, decisions: readonly Decision[]): (FeatureValue | undefined)[] | undefined {
    const missing = decisions.flatMap((decision, i) =>
      decision.kind === 'missing' ? [{ decision, i }] : [],
    );
    if (missing.length > 0) {
      for (const { decision, i } of missing) {
        const { queue, tally } = this.sourceAt(i);
        if (queue.source.alignment.missing === 'error')
          throw new InputError(this.whyMissing(queue.source, time, decision.age));
        tally.dropped += 1;
      }
      this.droppedRows += 1;
      return undefined;
    }
    return decisions.map((decision, i) => {
      if (decision.kind === 'missing' || decision === reference) return undefined;
      const { queue, tally } = this.sourceAt(i);
      tally.row(decision);
      return decision.kind === 'one' ? decision.sample.value : this.between(queue.source, decision);
    });
  }

  private between(
    source: Source,
    { before, after, share }: Extract<Decision, { kind: 'between' }>,
  ): FeatureValue {
    const { value: a } = before;
    const { value: b } = after;
    if (!(a instanceof Float64Array) || !(b instanceof Float64Array)) {
      throw new TypeError(`only vectors are interpolated, ${source.feature} is not one`);
    }
    if (source.alignment.method === 'linear') return linear(a, b, share);
    try {
      return slerp(a, b, share);
    } catch (cause) {
      if (!(cause instanceof InputError)) throw cause;
      throw new InputError(`${source.feature} (topic ${source.topic}): ${cause.message}`, { cause });
    }
  }

  private release(): void {
    const bound = this.rows.bound();
    for (const queue of this.queues) {
      if (bound === never) queue.clear();
      else queue.release(bound);
    }
  }

  private whyMissing({ feature, topic, alignment }: Source, time: bigint, age: bigint | undefined): string {
    const found = age === undefined ? 'no sample at all' : `the closest one is ${seconds(age)} s away`;
    return (
      `${feature} (topic ${topic}): expected a sample within max_age ${seconds(alignment.maxAge)} s of the row at ` +
      `${time} ns (${seconds(time - this.extent.t0).toFixed(3)} s after the start), found ${found}; align.missing is 'error'`
    );
  }

  private whyEmpty(): string {
    const blamed = this.tallies.flatMap(({ dropped }, i) =>
      dropped > 0 ? [`${this.sourceAt(i).queue.source.feature} dropped ${dropped}`] : [],
    );
    const { rows, droppedRows, derivedRows, outsideRows } = this.report();
    return (
      `expected at least one row, found ${rows}: ${droppedRows} dropped for want of a sample` +
      `${blamed.length > 0 ? ` (${blamed.join(', ')})` : ''}, ${derivedRows} without a next row, ${outsideRows} outside the episodes`
    );
  }
}

/** Stands in the decisions for a source that gives times only. */
const reference: Decision = {
  kind: 'one',
  sample: { time: 0n, value: undefined, bytes: 0, keepers: 1, used: true },
  age: 0n,
  far: false,
};

function extentOf(extent: TimelineExtent, { index, topic }: Source) {
  const found = extent.sources[index];
  if (!found) throw new RangeError(`the extent has no source ${index} (topic ${topic})`);
  return found;
}
