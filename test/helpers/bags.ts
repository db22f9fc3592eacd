import { lz4Frame } from './lz4.ts';
import { rosEncoder } from './recordings.ts';
import type { BuiltChannel } from './recordings.ts';
import { definitionOf } from './ros-types.ts';

/** How a ROS 1 bag is written. */
export type BagOptions = {
  readonly channels: readonly BuiltChannel[];
  readonly compression?: 'none' | 'lz4';
  readonly chunkSize?: number;
  /** Leaves the index section out, as a recorder that was killed does. */
  readonly closed?: boolean;
  /** Leaves the index records behind chunks out. */
  readonly indexed?: boolean;
  readonly order?: 'log' | 'given';
};

/** Writes a ROS 1 bag of version 2.0 (wiki.ros.org/Bags/Format/2.0); types are encoded in the ROS 1 layout. */
export function bagOf(options: BagOptions): Uint8Array {
  const { chunkSize = 64 << 10, compression = 'none', closed = true, indexed = true } = options;
  const out = new Parts();
  out.add(Buffer.from('#ROSBAG V2.0\n'));
  out.add(bagHeader(0n, 0, 0));
  const connections = options.channels.map((channel, conn) => connectionOf(channel, conn));
  const messages = options.channels.flatMap((channel, conn) => {
    const encode = rosEncoder(definitionOf(channel.type ?? '', 1), 1);
    return channel.messages.map(({ log, value }) => ({
      conn,
      time: log,
      data: value instanceof Uint8Array ? value : encode(value),
    }));
  });
  if (options.order !== 'given') messages.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  const infos: Uint8Array[] = [];
  const written = new Set<number>();
  for (let at = 0; at < messages.length;) {
    const chunk = new Parts();
    const index = new Map<number, { time: bigint; offset: number }[]>();
    for (; at < messages.length && chunk.length < chunkSize; at++) {
      const message = messages[at];
      if (!message) break;
      const connection = connections[message.conn];
      if (connection && !written.has(message.conn)) {
        chunk.add(connection);
        written.add(message.conn);
      }
      const entries = index.get(message.conn) ?? [];
      entries.push({ time: message.time, offset: chunk.length });
      index.set(message.conn, entries);
      chunk.add(record({ op: u8(2), conn: u32(message.conn), time: time(message.time) }, message.data));
    }
    const plain = chunk.bytes();
    const data = compression === 'lz4' ? lz4Frame(plain) : plain;
    infos.push(chunkInfo(out.length, index));
    out.add(record({ op: u8(5), compression: Buffer.from(compression), size: u32(plain.byteLength) }, data));
    if (!indexed) continue;
    for (const [conn, entries] of index) {
      const body = Buffer.concat(entries.flatMap(({ time: at_, offset }) => [time(at_), u32(offset)]));
      out.add(record({ op: u8(4), ver: u32(1), conn: u32(conn), count: u32(entries.length) }, body));
    }
  }
  const indexAt = out.length;
  if (closed) {
    for (const connection of connections) out.add(connection);
    for (const info of infos) out.add(info);
  }
  const bytes = out.bytes();
  if (closed) bytes.set(bagHeader(BigInt(indexAt), connections.length, infos.length), 13);
  return bytes;
}

function bagHeader(indexAt: bigint, connections: number, chunks: number): Uint8Array {
  const position = Buffer.alloc(8);
  position.writeBigUInt64LE(indexAt);
  const fields = { op: u8(3), index_pos: position, conn_count: u32(connections), chunk_count: u32(chunks) };
  const empty = record(fields, new Uint8Array(0)).byteLength;
  return record(fields, Buffer.alloc(4096 - empty, ' '));
}

function connectionOf(channel: BuiltChannel, conn: number): Uint8Array {
  const type = channel.type ?? '';
  const body = header({
    topic: Buffer.from(channel.topic),
    type: Buffer.from(type),
    md5sum: Buffer.from('*'),
    message_definition: Buffer.from(definitionOf(type, 1)),
  });
  return record({ op: u8(7), conn: u32(conn), topic: Buffer.from(channel.topic) }, body);
}

function chunkInfo(position: number, index: ReadonlyMap<number, { time: bigint }[]>): Uint8Array {
  const times = [...index.values()].flat().map((entry) => entry.time);
  const first = times.reduce((a, b) => (b < a ? b : a));
  const last = times.reduce((a, b) => (b > a ? b : a));
  const at = Buffer.alloc(8);
  at.writeBigUInt64LE(BigInt(position));
  const body = Buffer.concat([...index].flatMap(([conn, entries]) => [u32(conn), u32(entries.length)]));
  return record(
    {
      op: u8(6),
      ver: u32(1),
      chunk_pos: at,
      start_time: time(first),
      end_time: time(last),
      count: u32(index.size),
    },
    body,
  );
}

function record(fields: Readonly<Record<string, Uint8Array>>, data: Uint8Array): Uint8Array {
  const head = header(fields);
  return Buffer.concat([u32(head.byteLength), head, u32(data.byteLength), data]);
}

function header(fields: Readonly<Record<string, Uint8Array>>): Uint8Array {
  return Buffer.concat(
    Object.entries(fields).flatMap(([name, value]) => [
      u32(name.length + 1 + value.byteLength),
      Buffer.from(`${name}=`),
      value,
    ]),
  );
}

function time(ns: bigint): Uint8Array {
  return Buffer.concat([u32(Number(ns / 1_000_000_000n)), u32(Number(ns % 1_000_000_000n))]);
}

function u8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

class Parts {
  length = 0;
  readonly #parts: Uint8Array[] = [];

  add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.byteLength;
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }
}
