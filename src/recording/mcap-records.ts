/** The records of MCAP files; field names and numbers are those of the specification (mcap.dev/spec). */
import { InputError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import type { Schema } from './types.ts';

/** First and last eight bytes of every MCAP file. */
export const MCAP_MAGIC = Uint8Array.of(0x89, 0x4d, 0x43, 0x41, 0x50, 0x30, 0x0d, 0x0a);

/** Opcode and length in front of every record. */
export const RECORD_HEAD = 9;

/** Bytes of the footer record with the magic after it. */
export const FOOTER_LENGTH = RECORD_HEAD + 20 + MCAP_MAGIC.byteLength;

/** Bytes of a message record before its payload: head, channel, sequence, log time, publish time. */
export const MESSAGE_HEAD = RECORD_HEAD + 22;

/** Record kinds by number. */
export const OPCODE = {
  header: 0x01,
  footer: 0x02,
  schema: 0x03,
  channel: 0x04,
  message: 0x05,
  chunk: 0x06,
  messageIndex: 0x07,
  chunkIndex: 0x08,
  attachment: 0x09,
  attachmentIndex: 0x0a,
  statistics: 0x0b,
  metadata: 0x0c,
  metadataIndex: 0x0d,
  summaryOffset: 0x0e,
  dataEnd: 0x0f,
} as const;

/** One record inside `bytes`: `body` is its content, `end` the offset after it. */
export type McapRecord = { readonly opcode: number; readonly body: Uint8Array; readonly end: number };

/** The record that starts at `offset` of `bytes`, or undefined when it is not whole. */
export function recordAt(bytes: Uint8Array, offset: number): McapRecord | undefined {
  if (bytes.byteLength - offset < RECORD_HEAD) return undefined;
  const { opcode, length } = recordHeadAt(bytes, offset);
  const start = offset + RECORD_HEAD;
  if (bytes.byteLength - start < length) return undefined;
  return { opcode, body: bytes.subarray(start, start + length), end: start + length };
}

/** Opcode and content length of the record at `offset`; the nine bytes must be there. */
export function recordHeadAt(bytes: Uint8Array, offset: number): { opcode: number; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, RECORD_HEAD);
  return {
    opcode: view.getUint8(0),
    length: view.getUint32(1, true) + view.getUint32(5, true) * 2 ** 32,
  };
}

/** A channel as written: its schema by id, 0 for none. */
export type ChannelRecord = {
  readonly id: number;
  readonly schemaId: number;
  readonly topic: string;
  readonly messageEncoding: string;
  readonly metadata: ReadonlyMap<string, string>;
};

export function parseHeader(body: Uint8Array): { profile: string; library: string } {
  const cursor = new Cursor(body, 'MCAP header');
  return { profile: cursor.string(), library: cursor.string() };
}

export function parseFooter(body: Uint8Array): { summaryStart: number; summaryCrc: number } {
  const cursor = new Cursor(body, 'MCAP footer');
  const summaryStart = cursor.size();
  cursor.size();
  return { summaryStart, summaryCrc: cursor.u32() };
}

export function parseSchema(body: Uint8Array): { id: number; schema: Schema } {
  const cursor = new Cursor(body, 'MCAP schema record');
  const id = cursor.u16();
  const name = cursor.string();
  const encoding = cursor.string();
  return { id, schema: { name, encoding, data: cursor.take(cursor.u32()).slice() } };
}

export function parseChannel(body: Uint8Array): ChannelRecord {
  const cursor = new Cursor(body, 'MCAP channel record');
  return {
    id: cursor.u16(),
    schemaId: cursor.u16(),
    topic: cursor.string(),
    messageEncoding: cursor.string(),
    metadata: cursor.stringMap(),
  };
}

/** A chunk's own description; `recordsAt` is where its (compressed) records start within the body. */
export type ChunkHead = {
  readonly start: bigint;
  readonly end: bigint;
  readonly uncompressedSize: number;
  readonly uncompressedCrc: number;
  readonly compression: string;
  readonly recordsAt: number;
  readonly recordsLength: number;
};

/** Reads a chunk's description from the start of its body; the records need not be there. */
export function parseChunkHead(body: Uint8Array): ChunkHead {
  const cursor = new Cursor(body, 'MCAP chunk');
  const start = cursor.u64();
  const end = cursor.u64();
  const uncompressedSize = cursor.size();
  const uncompressedCrc = cursor.u32();
  const compression = cursor.string();
  const recordsLength = cursor.size();
  return {
    start,
    end,
    uncompressedSize,
    uncompressedCrc,
    compression,
    recordsAt: cursor.offset,
    recordsLength,
  };
}

/** Where a chunk's messages of one channel lie, and when they were logged. */
export type MessageIndexRecord = {
  readonly channelId: number;
  readonly count: number;
  readonly first: bigint;
  readonly last: bigint;
};

/** Reads a message index down to what a plan needs; the offsets are not kept. */
export function parseMessageIndex(body: Uint8Array): MessageIndexRecord {
  const cursor = new Cursor(body, 'MCAP message index');
  const channelId = cursor.u16();
  const length = cursor.u32();
  if (length % 16 !== 0) {
    throw new InputError(`MCAP message index: expected 16 bytes an entry, found ${length} bytes in all`);
  }
  const count = length / 16;
  let first = 0n;
  let last = 0n;
  for (let entry = 0; entry < count; entry++) {
    const time = cursor.u64();
    cursor.offset += 8;
    if (entry === 0 || time < first) first = time;
    if (entry === 0 || time > last) last = time;
  }
  return { channelId, count, first, last };
}

/** A chunk as the summary lists it; offsets are those of whole records in the file. */
export type ChunkIndexRecord = {
  readonly start: bigint;
  readonly end: bigint;
  readonly offset: number;
  readonly length: number;
  /** Offsets of the message index records by channel id. */
  readonly messageIndexOffsets: ReadonlyMap<number, number>;
  readonly messageIndexLength: number;
};

export function parseChunkIndex(body: Uint8Array): ChunkIndexRecord {
  const cursor = new Cursor(body, 'MCAP chunk index');
  const start = cursor.u64();
  const end = cursor.u64();
  const offset = cursor.size();
  const length = cursor.size();
  const messageIndexOffsets = idMap(cursor, 'MCAP chunk index');
  return { start, end, offset, length, messageIndexOffsets, messageIndexLength: cursor.size() };
}

export function parseStatistics(body: Uint8Array): {
  messageCount: number;
  channelMessageCounts: ReadonlyMap<number, number>;
} {
  const cursor = new Cursor(body, 'MCAP statistics');
  const messageCount = cursor.size();
  // schema (2), channel, attachment, metadata and chunk counts (4 each), first and last time (8 each)
  cursor.take(2 + 4 * 4 + 2 * 8);
  return { messageCount, channelMessageCounts: idMap(cursor, 'MCAP statistics') };
}

export function parseMetadata(body: Uint8Array): { name: string; entries: Map<string, string> } {
  const cursor = new Cursor(body, 'MCAP metadata record');
  return { name: cursor.string(), entries: cursor.stringMap() };
}

/** Where a metadata or attachment record lies: both indexes start with these two numbers. */
export function parseRecordIndex(body: Uint8Array): { offset: number; length: number } {
  const cursor = new Cursor(body, 'MCAP record index');
  return { offset: cursor.size(), length: cursor.size() };
}

function idMap(outer: Cursor, what: string): Map<number, number> {
  const cursor = new Cursor(outer.take(outer.u32()), what);
  const map = new Map<number, number>();
  while (cursor.remaining > 0) {
    const id = cursor.u16();
    map.set(id, cursor.size());
  }
  return map;
}
