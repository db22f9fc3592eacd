/** The records of ROS 1 bags, version 2.0 (wiki.ros.org/Bags/Format/2.0); field names are those of the format. */
import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { Cursor } from './cursor.ts';
import type { Channel } from './types.ts';

/** First bytes of a bag. */
export const BAG_MAGIC = '#ROSBAG V2.0\n';

/** Record kinds by number. */
export const BAG_OP = {
  message: 0x02,
  bagHeader: 0x03,
  index: 0x04,
  chunk: 0x05,
  chunkInfo: 0x06,
  connection: 0x07,
} as const;

/** A record's header may not be longer than this: the longest real ones hold a topic and a few numbers. */
const MAX_HEADER = 1 << 20;

/** One record inside `bytes`: its header fields by name, its data, and the offset after it. */
export type BagRecord = {
  readonly op: number;
  readonly fields: ReadonlyMap<string, Uint8Array>;
  /** Offset of the data within `bytes`, and its length as declared. */
  readonly dataAt: number;
  readonly dataLength: number;
};

/**
 * Reads the header of the record at `offset`; undefined when it is not whole. Its data need not be there.
 * Throws `InputError` for a header that cannot be one.
 */
export function bagRecordAt(bytes: Uint8Array, offset: number): BagRecord | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength - offset < 4) return undefined;
  const headerLength = view.getUint32(offset, true);
  if (headerLength > MAX_HEADER) {
    throw new InputError(`expected a bag record, found a header of ${headerLength} bytes`);
  }
  const dataAt = offset + 4 + headerLength + 4;
  if (dataAt > bytes.byteLength) return undefined;
  const fields = fieldsOf(bytes.subarray(offset + 4, dataAt - 4));
  const op = fields.get('op')?.[0];
  if (op === undefined) throw new InputError(`expected a bag record, found one without 'op'`);
  return { op, fields, dataAt, dataLength: view.getUint32(dataAt - 4, true) };
}

/** The `name=value` fields of a record header or a connection. */
export function fieldsOf(bytes: Uint8Array): Map<string, Uint8Array> {
  const cursor = new Cursor(bytes, 'bag record header');
  const fields = new Map<string, Uint8Array>();
  while (cursor.remaining > 0) {
    const field = cursor.take(cursor.u32());
    const equals = field.indexOf(0x3d);
    if (equals < 0) throw new InputError('bag record header: expected name=value, found no =');
    fields.set(String.fromCharCode(...field.subarray(0, Math.min(equals, 64))), field.subarray(equals + 1));
  }
  return fields;
}

/** A cursor over one header field. */
export function fieldCursor(record: BagRecord, name: string): Cursor {
  const field = record.fields.get(name);
  if (!field)
    throw new InputError(`expected a field '${name}' in a bag record of kind ${record.op}, found none`);
  return new Cursor(field, `bag record field '${name}'`);
}

/** A time as bags write it: two 32-bit numbers, seconds and nanoseconds; returned in ns. */
export function bagTime(cursor: Cursor): bigint {
  const seconds = cursor.u32();
  return BigInt(seconds) * 1_000_000_000n + BigInt(cursor.u32());
}

/** The channel that a connection record describes; `data` are the record's data bytes. */
export function channelOf(record: BagRecord, data: Uint8Array): Channel {
  const fields = fieldsOf(data);
  const text = (name: string) => new TextDecoder().decode(fields.get(name) ?? new Uint8Array(0));
  const type = text('type');
  const topic = new TextDecoder().decode(record.fields.get('topic') ?? new Uint8Array(0));
  if (topic === '' || type === '') {
    throw new InputError(
      `expected a bag connection with topic and type, found '${printable(topic)}', '${printable(type)}'`,
    );
  }
  const metadata = new Map<string, string>();
  for (const name of ['md5sum', 'callerid', 'latching']) if (fields.has(name)) metadata.set(name, text(name));
  return {
    id: fieldCursor(record, 'conn').u32(),
    topic,
    messageEncoding: 'ros1',
    schema: {
      name: type,
      encoding: 'ros1msg',
      data: (fields.get('message_definition') ?? new Uint8Array(0)).slice(),
    },
    metadata,
  };
}

/** Ranges in an index record: one connection, times and offsets of its messages in the chunk before it. */
export function parseIndex(
  record: BagRecord,
  data: Uint8Array,
): { conn: number; first: bigint; last: bigint; count: number } {
  const conn = fieldCursor(record, 'conn').u32();
  const count = fieldCursor(record, 'count').u32();
  const cursor = new Cursor(data, 'bag index record');
  if (count * 12 !== data.byteLength) {
    throw new InputError(
      `bag index record: expected ${count} entries of 12 bytes, found ${data.byteLength} bytes`,
    );
  }
  let first = 0n;
  let last = 0n;
  for (let entry = 0; entry < count; entry++) {
    const time = bagTime(cursor);
    cursor.offset += 4;
    if (entry === 0 || time < first) first = time;
    if (entry === 0 || time > last) last = time;
  }
  return { conn, first, last, count };
}

/** What the index section says of one chunk. */
export type ChunkInfo = {
  readonly position: number;
  readonly start: bigint;
  readonly end: bigint;
  /** Messages by connection. */
  readonly counts: ReadonlyMap<number, number>;
};

export function parseChunkInfo(record: BagRecord, data: Uint8Array): ChunkInfo {
  const counts = new Map<number, number>();
  const cursor = new Cursor(data, 'bag chunk info');
  const connections = fieldCursor(record, 'count').u32();
  for (let index = 0; index < connections; index++) {
    const conn = cursor.u32();
    counts.set(conn, cursor.u32());
  }
  return {
    position: fieldCursor(record, 'chunk_pos').size(),
    start: bagTime(fieldCursor(record, 'start_time')),
    end: bagTime(fieldCursor(record, 'end_time')),
    counts,
  };
}
