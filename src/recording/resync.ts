import { InputError } from '../errors.ts';
import { OPCODE, RECORD_HEAD, parseChunkHead, recordHeadAt } from './mcap-records.ts';
import { BAG_OP, bagRecordAt } from './rosbag1-records.ts';
import type { Window } from './window.ts';

/** Bytes searched at once, and how many of them the next search begins with again. */
const STEP = 1 << 20; // 1 MiB
const OVERLAP = 512;

/** Offset of the next whole MCAP chunk at or after `from`, by the shape of its head; undefined when there is none. */
export function findMcapChunk(window: Window, from: number, to: number): Promise<number | undefined> {
  return find(window, from, to, Uint8Array.of(OPCODE.chunk), 0, (bytes, at, offset) => {
    // lengths beyond 4 GiB are no chunk's: most bytes that look like the opcode end here
    if (bytes[at + 5] !== 0 || bytes[at + 6] !== 0 || bytes[at + 7] !== 0 || bytes[at + 8] !== 0)
      return false;
    const { length } = recordHeadAt(bytes, at);
    if (offset + RECORD_HEAD + length > to) return false;
    const head = parseChunkHead(bytes.subarray(at + RECORD_HEAD, at + RECORD_HEAD + 64));
    return head.recordsAt + head.recordsLength === length && head.start <= head.end;
  });
}

const COMPRESSION = new TextEncoder().encode('compression=');

/** Offset of the next whole bag chunk at or after `from`; undefined when there is none. */
export function findBagChunk(window: Window, from: number, to: number): Promise<number | undefined> {
  // recorders write the fields in order of their names: the first of a chunk is its compression
  return find(window, from, to, COMPRESSION, 8, (bytes, at, offset) => {
    const record = bagRecordAt(bytes.subarray(0, at + OVERLAP), at);
    return record?.op === BAG_OP.chunk && offset + (record.dataAt - at) + record.dataLength <= to;
  });
}

/**
 * Offset of the first place where `pattern` stands `lead` bytes into a record that `isRecord` agrees to; it is given
 * the bytes around, the record's place in them and its offset in the file.
 */
async function find(
  window: Window,
  from: number,
  to: number,
  pattern: Uint8Array,
  lead: number,
  isRecord: (bytes: Uint8Array, at: number, offset: number) => boolean,
): Promise<number | undefined> {
  for (let start = from; start < to; start += STEP) {
    const bytes = await window.at(start, Math.min(STEP + OVERLAP, to - start));
    const searched = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let hit = searched.indexOf(pattern); hit >= 0; hit = searched.indexOf(pattern, hit + 1)) {
      const at = hit - lead;
      if (at < 0 || at >= STEP) continue;
      try {
        if (isRecord(bytes, at, start + at)) return start + at;
      } catch (thrown) {
        // what does not parse as a record's head is none, and the search goes on
        if (!(thrown instanceof InputError) && !(thrown instanceof RangeError)) throw thrown;
      }
    }
  }
  return undefined;
}
