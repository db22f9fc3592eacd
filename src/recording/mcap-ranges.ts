import type { ChannelRange, McapBlock } from './mcap-chunk.ts';
import { OPCODE, parseMessageIndex, recordAt } from './mcap-records.ts';
import { joinRanges } from './topics.ts';
import type { ByteSource } from './types.ts';

/**
 * First and last log time and count by channel id. With `counts` given only the blocks at the two ends of each
 * channel are looked into; otherwise all of them. Undefined when a block has no message index.
 */
export async function channelRanges(
  source: ByteSource,
  blocks: readonly McapBlock[],
  counts: ReadonlyMap<number, number> | undefined,
): Promise<ReadonlyMap<number, ChannelRange> | undefined> {
  const known = new Map<McapBlock, ReadonlyMap<number, ChannelRange>>();
  const look = async (block: McapBlock) => {
    const ranges = known.get(block) ?? block.ranges ?? (await indexOf(source, block));
    if (ranges) known.set(block, ranges);
    return ranges;
  };
  if (blocks.some((block) => !block.ranges && !block.index)) return undefined;
  const fromStart = blocks.toSorted((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const fromEnd = blocks.toSorted((a, b) => (a.end > b.end ? -1 : a.end < b.end ? 1 : 0));
  const totals = new Map<number, ChannelRange>();
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

  function needed(block: McapBlock, extends_: (range: ChannelRange) => boolean): boolean {
    for (const id of block.channelIds ?? []) {
      const range = totals.get(id);
      if (!range || extends_(range)) return true;
    }
    return false;
  }

  async function include(block: McapBlock): Promise<boolean> {
    const ranges = await look(block);
    for (const [id, range] of ranges ?? []) {
      const total = totals.get(id);
      totals.set(id, total ? joinRanges(total, range) : range);
    }
    return ranges !== undefined;
  }
}

/** Ranges of a chunk's channels from its message index. */
async function indexOf(
  source: ByteSource,
  block: McapBlock,
): Promise<ReadonlyMap<number, ChannelRange> | undefined> {
  if (!block.index) return undefined;
  const bytes = await source.read(BigInt(block.index.offset), BigInt(block.index.length));
  const ranges = new Map<number, ChannelRange>();
  for (let offset = 0; offset < bytes.byteLength;) {
    const record = recordAt(bytes, offset);
    if (!record) return undefined;
    offset = record.end;
    if (record.opcode !== OPCODE.messageIndex) continue;
    const index = parseMessageIndex(record.body);
    if (index.count > 0) ranges.set(index.channelId, index);
  }
  return ranges;
}
