import type { Block } from './blocks.ts';
import { joinRanges } from './topics.ts';
import type { TopicRange } from './types.ts';

/** First and last log time and number of messages of each channel, by id. */
export type ChannelRanges = ReadonlyMap<number, TopicRange>;

/**
 * First and last log time and count by channel id. With `counts` given only the blocks at the two ends of each
 * channel are looked into; otherwise all of them. `look` tells a block's own ranges, or undefined where
 * only its messages could; then the answer is undefined too.
 */
export async function channelRanges<B extends Block>(
  blocks: readonly B[],
  counts: ReadonlyMap<number, number> | undefined,
  look: (block: B) => Promise<ChannelRanges | undefined>,
): Promise<ChannelRanges | undefined> {
  const seen = new Set<B>();
  const fromStart = blocks.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const fromEnd = blocks.toSorted((a, b) => (a.end > b.end ? -1 : a.end < b.end ? 1 : 0));
  const totals = new Map<number, TopicRange>();
  if (!counts) {
    for (const block of blocks) if (!(await include(block))) return undefined;
    return totals;
  }
  // a block that starts after a channel's first message cannot hold an earlier one; likewise at the end
  for (const block of fromStart) {
    if (needed(block, (range) => block.start < range.first) && !(await include(block))) return undefined;
  }
  for (const block of fromEnd) {
    if (needed(block, (range) => block.end > range.last) && !(await include(block))) return undefined;
  }
  for (const [id, range] of totals) totals.set(id, { ...range, count: counts.get(id) ?? range.count });
  return totals;

  function needed(block: B, extends_: (range: TopicRange) => boolean): boolean {
    for (const id of block.channelIds ?? []) {
      const range = totals.get(id);
      if (!range || extends_(range)) return true;
    }
    return false;
  }

  async function include(block: B): Promise<boolean> {
    if (seen.has(block)) return true;
    seen.add(block);
    const ranges = block.ranges ?? (await look(block));
    for (const [id, range] of ranges ?? []) {
      const total = totals.get(id);
      totals.set(id, total ? joinRanges(total, range) : range);
    }
    return ranges !== undefined;
  }
}

/** Counts one message of channel `id` logged at `time`. */
export function addToRange(ranges: Map<number, TopicRange>, id: number, time: bigint): void {
  const range = ranges.get(id);
  ranges.set(
    id,
    range
      ? {
          first: time < range.first ? time : range.first,
          last: time > range.last ? time : range.last,
          count: range.count + 1,
        }
      : { first: time, last: time, count: 1 },
  );
}

/** What the ranges of a block's channels say about the block. */
export function spanOf(ranges: ChannelRanges): Pick<Block, 'start' | 'end' | 'channelIds' | 'ranges'> {
  let start: bigint | undefined;
  let end: bigint | undefined;
  for (const { first, last } of ranges.values()) {
    if (start === undefined || first < start) start = first;
    if (end === undefined || last > end) end = last;
  }
  return { start: start ?? 0n, end: end ?? 0n, channelIds: new Set(ranges.keys()), ranges };
}

/** Earliest and latest time of all blocks; both 0n without any. */
export function timesOf(blocks: readonly Block[]): { startTime: bigint; endTime: bigint } {
  const [first] = blocks;
  let startTime = first?.start ?? 0n;
  let endTime = first?.end ?? 0n;
  for (const { start, end } of blocks) {
    if (start < startTime) startTime = start;
    if (end > endTime) endTime = end;
  }
  return { startTime, endTime };
}
