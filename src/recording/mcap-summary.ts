import { InputError } from '../errors.ts';
import { checkBlockLength } from './blocks.ts';
import { checkCrc } from './compression.ts';
import type { Extent } from './extents.ts';
import { learnRecord } from './mcap-chunk.ts';
import {
  FOOTER_LENGTH,
  MCAP_MAGIC,
  OPCODE,
  RECORD_HEAD,
  parseChunkIndex,
  parseFooter,
  parseRecordIndex,
  parseStatistics,
  recordAt,
} from './mcap-records.ts';
import type { ChunkIndexRecord } from './mcap-records.ts';
import type { McapContents } from './mcap-scan.ts';
import type { Window } from './window.ts';

/** How a file ends. */
export type McapEnd =
  /** Whole, with a summary from `start` to `footer`. */
  | { readonly kind: 'summary'; readonly start: number; readonly footer: number; readonly crc: number }
  /** Whole, without a summary; records end at `footer`. */
  | { readonly kind: 'unindexed'; readonly footer: number }
  /** No footer: the writer never closed it, or the file was cut. */
  | { readonly kind: 'truncated' };

/** Looks at the last bytes of a file. */
export async function readEnd(window: Window): Promise<McapEnd> {
  const footer = window.size - FOOTER_LENGTH;
  if (footer < MCAP_MAGIC.byteLength) return { kind: 'truncated' };
  const tail = await window.at(footer, FOOTER_LENGTH);
  const magic = tail.subarray(FOOTER_LENGTH - MCAP_MAGIC.byteLength);
  const record = recordAt(tail, 0);
  if (record?.opcode !== OPCODE.footer || !MCAP_MAGIC.every((byte, at) => byte === magic[at])) {
    return { kind: 'truncated' };
  }
  const { summaryStart, summaryCrc } = parseFooter(record.body);
  if (summaryStart === 0) return { kind: 'unindexed', footer };
  return { kind: 'summary', start: summaryStart, footer, crc: summaryCrc };
}

/** A summary larger than this is refused before it is read. */
const MAX_SUMMARY_BYTES = 1 << 29; // 512 MiB

/**
 * Reads the summary section into `contents` and returns the stretches of the file that it accounts for, in file
 * order. Throws `InputError` when it is damaged or points outside the file.
 */
export async function readSummary(
  window: Window,
  end: Extract<McapEnd, { kind: 'summary' }>,
  contents: McapContents,
): Promise<{ covered: Extent[]; metadata: Extent[] }> {
  const length = end.footer - end.start;
  if (length < 0 || length > MAX_SUMMARY_BYTES || end.start < MCAP_MAGIC.byteLength) {
    throw new InputError(`MCAP footer: a summary from byte ${end.start} to byte ${end.footer} cannot be`);
  }
  const bytes = await window.at(end.start, window.size - end.start);
  // the CRC covers the summary and the footer up to its CRC
  checkCrc(bytes.subarray(0, length + RECORD_HEAD + 16), end.crc, 'MCAP summary');
  const covered: Extent[] = [];
  const metadata: Extent[] = [];
  let offset = 0;
  while (offset < length) {
    const record = recordAt(bytes.subarray(0, length), offset);
    if (!record) throw new InputError(`MCAP summary: expected a whole record at byte ${end.start + offset}`);
    offset = record.end;
    if (record.opcode === OPCODE.chunkIndex) {
      addChunk(parseChunkIndex(record.body), end.start, contents, covered);
    } else if (record.opcode === OPCODE.statistics) {
      contents.counts = parseStatistics(record.body).channelMessageCounts;
    } else if (record.opcode === OPCODE.metadataIndex) {
      metadata.push(inside(parseRecordIndex(record.body), end.start, 'metadata'));
    } else if (record.opcode === OPCODE.attachmentIndex) {
      covered.push(inside(parseRecordIndex(record.body), end.start, 'attachment'));
    } else {
      learnRecord(record.opcode, record.body, contents);
    }
  }
  covered.push(...metadata);
  return { covered: covered.toSorted((a, b) => a.offset - b.offset), metadata };
}

/** The stretches between `from` and `to` that `covered` (in file order) leaves open. */
export function gapsIn(covered: readonly Extent[], from: number, to: number): { from: number; to: number }[] {
  const gaps: { from: number; to: number }[] = [];
  let at = from;
  for (const { offset, length } of covered) {
    if (offset > at) gaps.push({ from: at, to: Math.min(offset, to) });
    at = Math.max(at, offset + length);
  }
  if (at < to) gaps.push({ from: at, to });
  return gaps;
}

function addChunk(record: ChunkIndexRecord, limit: number, contents: McapContents, covered: Extent[]): void {
  const { offset, length, messageIndexOffsets, messageIndexLength } = record;
  const chunk = inside({ offset, length }, limit, 'chunk');
  covered.push(chunk);
  if (messageIndexOffsets.size === 0) {
    // no messages at all, or a writer without message indexes
    contents.blocks.push({ kind: 'chunk', ...chunk, start: record.start, end: record.end });
    return;
  }
  const index = inside(
    { offset: Math.min(...messageIndexOffsets.values()), length: messageIndexLength },
    limit,
    'message index',
  );
  covered.push(index);
  contents.blocks.push({
    kind: 'chunk',
    ...chunk,
    start: record.start,
    end: record.end,
    channelIds: new Set(messageIndexOffsets.keys()),
    index,
  });
}

function inside(extent: Extent, limit: number, what: string): Extent {
  if (extent.offset < MCAP_MAGIC.byteLength || extent.offset + extent.length > limit) {
    throw new InputError(
      `MCAP summary: a ${what} of ${extent.length} bytes at byte ${extent.offset} lies outside the data section, which ends at byte ${limit}`,
    );
  }
  if (what === 'chunk') checkBlockLength({ ...extent, start: 0n, end: 0n });
  return extent;
}
