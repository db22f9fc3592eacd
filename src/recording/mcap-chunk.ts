import { InputError } from '../errors.ts';
import type { Block, BlockContent, Entry } from './blocks.ts';
import { addToRange } from './channel-ranges.ts';
import type { ChannelRanges } from './channel-ranges.ts';
import { checkCrc, decompress, decompressCut } from './compression.ts';
import { placed } from './cursor.ts';
import {
  MESSAGE_HEAD,
  OPCODE,
  RECORD_HEAD,
  parseChannel,
  parseChunkHead,
  parseSchema,
  recordAt,
} from './mcap-records.ts';
import type { ChannelRecord } from './mcap-records.ts';
import type { Channel, Schema, TopicRange } from './types.ts';

/** A chunk of an MCAP file, or a run of messages outside chunks. `offset` and `length` are those of the records. */
export type McapBlock = Block & {
  readonly kind: 'chunk' | 'loose' | 'cut';
  /** Where the message index lies. */
  readonly index?: { readonly offset: number; readonly length: number };
};

/** Schemas and channels found so far, by id. */
export type Catalogue = {
  readonly schemas: Map<number, Schema>;
  readonly channels: Map<number, ChannelRecord>;
};

/**
 * The records of a block, decompressed and checked; `bytes` are those of the block's extent. `checked`: blocks whose sum
 * was right before, which one of a file that does not change is again.
 */
export async function recordsOf(
  block: McapBlock,
  bytes: Uint8Array,
  checked?: Set<number>,
): Promise<Uint8Array> {
  if (block.kind === 'loose') return bytes;
  const where = `chunk at byte ${block.offset}`;
  const record = recordAt(bytes, 0);
  if (record?.opcode !== OPCODE.chunk && block.kind !== 'cut') {
    throw new InputError(`${where}: expected a chunk record, found record kind ${record?.opcode ?? 'none'}`);
  }
  const body = record?.body ?? bytes.subarray(RECORD_HEAD);
  const head = parseChunkHead(body);
  const end = head.recordsAt + head.recordsLength;
  if (end > body.byteLength) {
    if (block.kind === 'cut') {
      return decompressCut(head.compression, body.subarray(head.recordsAt), head.uncompressedSize, where);
    }
    throw new InputError(
      `${where}: expected ${head.recordsLength} bytes of records, found ${body.byteLength - head.recordsAt}`,
    );
  }
  const records = body.subarray(head.recordsAt, end);
  const data = await decompress(head.compression, records, head.uncompressedSize, where);
  if (checked?.has(block.offset) !== true) {
    checkCrc(data, head.uncompressedCrc, where);
    checked?.add(block.offset);
  }
  return data;
}

/** The messages in a block's records; `channels` by id. */
export function contentOf(
  block: McapBlock,
  data: Uint8Array,
  channels: ReadonlyMap<number, Channel>,
): BlockContent {
  const entries: Entry[] = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  walk(block, data, (opcode, body, offset) => {
    if (opcode !== OPCODE.message) return;
    const id = view.getUint16(offset + RECORD_HEAD, true);
    const channel = channels.get(id);
    if (!channel) {
      throw new InputError(`a message of channel ${id}, which the file does not describe`);
    }
    entries.push({
      channel,
      logTime: view.getBigUint64(offset + 15, true),
      publishTime: view.getBigUint64(offset + 23, true),
      offset: offset + MESSAGE_HEAD,
      length: body.byteLength - (MESSAGE_HEAD - RECORD_HEAD),
    });
  });
  return { data, entries };
}

/** Adds the schemas and channels in a block's records to `catalogue`, and tells the ranges of its messages. */
export function learnFrom(block: McapBlock, data: Uint8Array, catalogue: Catalogue): ChannelRanges {
  const ranges = new Map<number, TopicRange>();
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  walk(block, data, (opcode, body, offset) => {
    if (opcode === OPCODE.message) {
      addToRange(ranges, view.getUint16(offset + RECORD_HEAD, true), view.getBigUint64(offset + 15, true));
    } else {
      learnRecord(opcode, body, catalogue);
    }
  });
  return ranges;
}

/** Adds one schema or channel record to `catalogue`; other kinds are passed over. */
export function learnRecord(opcode: number, body: Uint8Array, catalogue: Catalogue): void {
  if (opcode === OPCODE.schema) {
    const { id, schema } = parseSchema(body);
    catalogue.schemas.set(id, schema);
  } else if (opcode === OPCODE.channel) {
    const channel = parseChannel(body);
    catalogue.channels.set(channel.id, channel);
  }
}

/** Visits the records; what is wrong with one is an `InputError` that says where it lies. */
function walk(
  block: McapBlock,
  data: Uint8Array,
  visit: (opcode: number, body: Uint8Array, offset: number) => void,
): void {
  let offset = 0;
  while (offset < data.byteLength) {
    try {
      const record = recordAt(data, offset);
      if (!record) {
        if (block.kind === 'cut') return;
        throw new InputError('expected a whole record, found it cut off');
      }
      const { opcode, body } = record;
      if (opcode === OPCODE.message && body.byteLength < MESSAGE_HEAD - RECORD_HEAD) {
        throw new InputError(`expected a message of 22 bytes or more, found ${body.byteLength}`);
      }
      visit(opcode, body, offset);
      offset = record.end;
    } catch (thrown) {
      throw placed(thrown, `chunk at byte ${block.offset}, record at its byte ${offset}`);
    }
  }
}
