import { InputError } from '../errors.ts';
import { ArrivalOrder, beginsAtZero, nanoseconds, seconds } from './arrival.ts';
import { refusal } from './faults.ts';
import { GridClock } from './row-clock.ts';
import type { FrameConfig, Mapping, Source, SourceExtent, TimelineExtent } from './types.ts';

/**
 * First pass over a recording: sees the times of every sample and keeps a few numbers a source. They make the second
 * pass exact and bounded: where the timeline starts and ends is known, and how far a source may run behind its log.
 */
export class TimelineScan {
  private readonly mapping: Mapping;
  private readonly config: FrameConfig;
  private readonly sources: SourceScan[];

  constructor(mapping: Mapping, config: FrameConfig) {
    this.mapping = mapping;
    this.config = config;
    this.sources = mapping.sources.map(({ clock }) => new SourceScan(clock, nanoseconds(config.reorder)));
  }

  /** One sample, in the order of the recording. `time` is by the source's clock. Returns whether it is in time. */
  add(source: number, time: bigint, logTime: bigint): boolean {
    return this.sourceAt(source).add(time, logTime);
  }

  /** A message that is no sample: too damaged to tell its time, or of another publisher. */
  addApart(source: number): void {
    this.sourceAt(source).apart += 1;
  }

  private sourceAt(index: number): SourceScan {
    const scan = this.sources[index];
    if (!scan) throw new RangeError(`there is no source ${index}`);
    return scan;
  }

  /** What was seen. Throws `InputError` as `extentOf` does. */
  result(): TimelineExtent {
    return extentOf(
      this.mapping,
      this.config,
      this.sources.map((scan) => scan.result()),
    );
  }
}

/**
 * The extent of sources that all go by log time, from index ranges alone (by topic): samples then come in order and
 * without lag, so nothing needs to be read. Throws as `extentOf` does; a source on another clock is refused.
 */
export function extentOfRanges(
  mapping: Mapping,
  config: FrameConfig,
  ranges: ReadonlyMap<string, { readonly first: bigint; readonly last: bigint; readonly count: number }>,
): TimelineExtent {
  const sources = mapping.sources.map(({ topic, clock }): SourceExtent => {
    if (clock !== 'log') throw new RangeError(`ranges are by log time, topic ${topic} goes by ${clock}`);
    const { first, last, count } = ranges.get(topic) ?? { first: 0n, last: 0n, count: 0 };
    return { count, late: 0, apart: 0, first, last, minLag: 0n, maxLag: 0n, backward: 0n };
  });
  return extentOf(mapping, config, sources);
}

/** Accumulates one source; O(1). */
class SourceScan {
  apart = 0;
  private readonly order: ArrivalOrder;
  private count = 0;
  private first = 0n;
  private minLag = 0n;
  private maxLag = 0n;
  private backward = 0n;
  /** Log times of the samples stamped zero that came first: whether these are times is not known yet. */
  private readonly zeros: { count: number; first: bigint; last: bigint } = { count: 0, first: 0n, last: 0n };
  private readonly clock: Source['clock'];

  constructor(clock: Source['clock'], window: bigint) {
    this.clock = clock;
    this.order = new ArrivalOrder(clock, window);
  }

  add(time: bigint, logTime: bigint): boolean {
    const { zeros } = this;
    if (this.clock !== 'log' && time === 0n && this.order.newest === undefined) {
      if (zeros.count === 0) zeros.first = logTime;
      zeros.last = logTime;
      zeros.count += 1;
      return false;
    }
    if (zeros.count > 0 && this.order.newest === undefined && time > 0n) this.settleZeros(beginsAtZero(time));
    return this.take(time, logTime);
  }

  /** Takes the zeros in, as times or as stamps that were never set. */
  private settleZeros(times: boolean): void {
    const { count, first, last } = this.zeros;
    this.zeros.count = 0;
    if (times) {
      this.order.fromZero = true;
      this.take(0n, first);
      this.take(0n, last);
      this.count += count - 2;
    } else this.order.late += count;
  }

  private take(time: bigint, logTime: bigint): boolean {
    const before = this.order.newest;
    if (!this.order.accept(time)) return false;
    const lag = logTime - time;
    if (before === undefined) {
      this.first = time;
      this.minLag = lag;
      this.maxLag = lag;
    } else {
      if (time < this.first) this.first = time;
      if (lag < this.minLag) this.minLag = lag;
      if (lag > this.maxLag) this.maxLag = lag;
      if (before - time > this.backward) this.backward = before - time;
    }
    this.count += 1;
    return true;
  }

  result(): SourceExtent {
    this.settleZeros(false);
    const { count, apart, first, minLag, maxLag, backward } = this;
    const { late, newest: last = 0n } = this.order;
    return { count, late, apart, first, last, minLag, maxLag, backward };
  }
}

/**
 * t0, tEnd and the number of rows. Throws `InputError` when a source has no sample, too many come late, the sources
 * do not overlap, or one of them ends so early that more of the recording is lost than `tolerate.early_end` allows.
 */
function extentOf(mapping: Mapping, config: FrameConfig, sources: readonly SourceExtent[]): TimelineExtent {
  const pairs = mapping.sources.map((source, i) => ({ source, extent: sources[i] as SourceExtent }));
  const faults = pairs.flatMap((pair) => [...emptyFault(pair), ...lateFault(pair, config)]);
  if (faults.length > 0) throw refusal('the recording cannot be put on a timeline', faults);
  const latest = pairs.reduce((a, b) => (b.extent.first > a.extent.first ? b : a));
  const earliest = pairs.reduce((a, b) => (b.extent.last < a.extent.last ? b : a));
  const t0 = latest.extent.first;
  const tEnd = earliest.extent.last;
  if (t0 > tEnd) {
    throw new InputError(
      `the sources do not overlap: ${called(latest.source)} starts at ${clockTime(t0)}, ` +
        `${called(earliest.source)} has ended at ${clockTime(tEnd)} (${seconds(t0 - tEnd)} s before)` +
        (latest.source.clock === earliest.source.clock ? '' : '; do their clocks agree?'),
    );
  }
  const end = pairs.reduce((a, b) => (b.extent.last > a.extent.last ? b : a));
  refuseEarlyEnd(earliest, end, t0, config);
  const { reference } = mapping;
  const expectedRows =
    reference === undefined ? new GridClock(config.fps, t0, tEnd).rows : (sources[reference]?.count ?? 0);
  return { sources, t0, tEnd, expectedRows };
}

type Pair = { readonly source: Source; readonly extent: SourceExtent };

function emptyFault({ source, extent }: Pair): string[] {
  if (extent.count > 0) return [];
  if (extent.late > 0) return [`${called(source)}: all ${extent.late} time stamps are missing or zero`];
  if (extent.apart > 0) return [`${called(source)}: none of ${extent.apart} messages decodes`];
  return [`${called(source)} has no messages`];
}

function lateFault({ source, extent }: Pair, config: FrameConfig): string[] {
  const all = extent.count + extent.late;
  if (extent.count === 0 || extent.late <= config.tolerate.late * all) return [];
  return [
    `${called(source)}: ${extent.late} of ${all} samples are older than a sample before them by more than ` +
      `${config.reorder} s, or have no time stamp; 'reorder' widens the window, 'tolerate.late' (${config.tolerate.late}) accepts a share of them`,
  ];
}

function refuseEarlyEnd(earliest: Pair, latest: Pair, t0: bigint, config: FrameConfig): void {
  const cut = seconds(latest.extent.last - earliest.extent.last);
  const share = cut / seconds(latest.extent.last - t0 || 1n);
  const accepted = config.tolerate.early_end;
  if (cut <= 1 || share <= accepted) return;
  throw new InputError(
    `${called(earliest.source)} stops ${seconds(earliest.extent.last - t0).toFixed(3)} s after the start, ` +
      `${called(latest.source)} goes on for another ${cut.toFixed(3)} s: ${(share * 100).toFixed(1)} % of the recording ` +
      `would be lost; 'tolerate.early_end' (now ${accepted}) accepts a share`,
  );
}

function called({ feature, topic, clock }: Source): string {
  return `${feature} (topic ${topic}, clock ${clock})`;
}

/** A time in ns as seconds, with all its digits. */
function clockTime(ns: bigint): string {
  const sign = ns < 0n ? '-' : '';
  const size = ns < 0n ? -ns : ns;
  return `${sign}${size / 1_000_000_000n}.${String(size % 1_000_000_000n).padStart(9, '0')} s`;
}
