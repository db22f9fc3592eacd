import { InputError } from '../errors.ts';
import type { Block, BlockContent, Entry } from './blocks.ts';
import { addToRange } from './channel-ranges.ts';
import type { ChannelRanges } from './channel-ranges.ts';
import { decompress, decompressCut } from './compression.ts';
import { placed } from './cursor.ts';
import { BAG_OP, bagRecordAt, bagTime, channelOf, fieldCursor } from './rosbag1-records.ts';
import type { BagRecord } from './rosbag1-records.ts';
import type { Channel, TopicRange } from './types.ts';

/** A chunk of a bag; its extent may reach over the index records behind it. */
export type BagBlock = Block & {
  /** The file ends inside it. */
  readonly cut?: true;
};

/** The records of a chunk, decompressed; `bytes` start with the chunk record. */
export async function bagRecordsOf(block: BagBlock, bytes: Uint8Array): Promise<Uint8Array> {
  const where = `chunk at byte ${block.offset}`;
  const record = firstRecord(bytes, where);
  if (record?.op !== BAG_OP.chunk) {
    throw new InputError(`${where}: expected a chunk record, found record kind ${record?.op ?? 'none'}`);
  }
  const data = bytes.subarray(record.dataAt, record.dataAt + record.dataLength);
  const compression = new TextDecoder().decode(record.fields.get('compression'));
  const size = fieldCursor(record, 'size').u32();
  if (data.byteLength < record.dataLength) {
    if (block.cut) return decompressCut(compression, data, size, where);
    throw new InputError(
      `${where}: expected ${record.dataLength} bytes, found ${data.byteLength}: it is cut off`,
    );
  }
  return await decompress(compression, data, size, where);
}

function firstRecord(bytes: Uint8Array, where: string): BagRecord | undefined {
  try {
    return bagRecordAt(bytes, 0);
  } catch (thrown) {
    throw placed(thrown, where);
  }
}

/** The messages in a chunk's records; `channels` by connection. */
export function bagContentOf(
  block: BagBlock,
  data: Uint8Array,
  channels: ReadonlyMap<number, Channel>,
): BlockContent {
  const entries: Entry[] = [];
  walk(block, data, (record) => {
    if (record.op !== BAG_OP.message) return;
    const conn = fieldCursor(record, 'conn').u32();
    const channel = channels.get(conn);
    if (!channel) {
      throw new InputError(`a message of connection ${conn}, which the bag does not describe`);
    }
    const time = bagTime(fieldCursor(record, 'time'));
    entries.push({
      channel,
      logTime: time,
      publishTime: time,
      offset: record.dataAt,
      length: record.dataLength,
    });
  });
  return { data, entries };
}

/** Adds the connections in a chunk's records to `channels`, and tells the ranges of its messages. */
export function learnFromBag(
  block: BagBlock,
  data: Uint8Array,
  channels: Map<number, Channel>,
): ChannelRanges {
  const ranges = new Map<number, TopicRange>();
  walk(block, data, (record) => {
    if (record.op === BAG_OP.connection) {
      const channel = channelOf(record, data.subarray(record.dataAt, record.dataAt + record.dataLength));
      if (!channels.has(channel.id)) channels.set(channel.id, channel);
    } else if (record.op === BAG_OP.message) {
      addToRange(ranges, fieldCursor(record, 'conn').u32(), bagTime(fieldCursor(record, 'time')));
    }
  });
  return ranges;
}

/** Visits the records; what is wrong with one is an `InputError` that says where it lies. */
function walk(block: BagBlock, data: Uint8Array, visit: (record: BagRecord) => void): void {
  let offset = 0;
  while (offset < data.byteLength) {
    try {
      const record = bagRecordAt(data, offset);
      if (!record || record.dataAt + record.dataLength > data.byteLength) {
        if (block.cut) return;
        throw new InputError('expected a whole record, found it cut off');
      }
      visit(record);
      offset = record.dataAt + record.dataLength;
    } catch (thrown) {
      throw placed(thrown, `chunk at byte ${block.offset}, record at its byte ${offset}`);
    }
  }
}
