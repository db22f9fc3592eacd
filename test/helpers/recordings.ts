import { existsSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import { parse } from '@foxglove/rosmsg';
import { MessageWriter as Ros1Writer } from '@foxglove/rosmsg-serialization';
import { MessageWriter as CdrMessageWriter } from '@foxglove/rosmsg2-serialization';
import { compress } from '@foxglove/wasm-zstd';
import { McapWriter } from '@mcap/core';
import { loadDecompressHandlers } from '@mcap/support';
import type { RecordingFile, RecordingFiles } from '../../src/recording/types.ts';
import { lz4Frame } from './lz4.ts';
import { definitionOf } from './ros-types.ts';

/** Folder of the real recordings, or undefined where there is none. */
export function sharedRecordings(): string | undefined {
  const folder = process.env['RECORDINGS_DIR'] ?? resolve('../shared/recordings');
  return existsSync(folder) ? folder : undefined;
}

/** Reads that were asked of a source, for tests that count them. */
export type ReadLog = { offset: number; length: number }[];

/** A recording in memory: one file, or a folder of several by relative name. */
export function memoryFiles(
  content: Uint8Array | Readonly<Record<string, Uint8Array>>,
  options: { name?: string; log?: ReadLog } = {},
): RecordingFiles {
  const single = content instanceof Uint8Array;
  const name = options.name ?? (single ? 'memory.mcap' : 'memory');
  const files = new Map(single ? [[basename(name), content]] : Object.entries(content));
  return {
    name,
    folder: !single,
    files: [...files.keys()],
    open: async (file) => {
      const bytes = files.get(file);
      if (!bytes) throw new Error(`no ${file} in ${name}`);
      return memoryFile(bytes, options.log);
    },
  };
}

/** One file in memory. A read outside it throws, as a store's would. */
export function memoryFile(bytes: Uint8Array, log?: ReadLog): RecordingFile {
  let closed = false;
  return {
    size: async () => BigInt(bytes.byteLength),
    read: async (offset, length, into) => {
      if (closed) throw new Error('read after close');
      if (offset < 0n || offset + length > BigInt(bytes.byteLength)) {
        throw new RangeError(`read of ${length} bytes at ${offset} leaves a file of ${bytes.byteLength}`);
      }
      log?.push({ offset: Number(offset), length: Number(length) });
      const read = bytes.slice(Number(offset), Number(offset + length));
      if (!into) return read;
      into.set(read);
      return into.subarray(0, read.length);
    },
    close: async () => {
      closed = true;
    },
  };
}

/** A recording on this machine: a file, or a folder with everything below it. */
export async function localFiles(path: string, options: { log?: ReadLog } = {}): Promise<RecordingFiles> {
  const folder = (await stat(path)).isDirectory();
  const names = folder
    ? (await readdir(path, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map((entry) => relative(path, join(entry.parentPath, entry.name)))
        .toSorted()
    : [basename(path)];
  return {
    name: path,
    folder,
    files: names,
    open: async (file) => {
      if (!names.includes(file)) throw new Error(`no ${file} in ${path}`);
      return localFile(folder ? join(path, file) : path, options.log);
    },
  };
}

async function localFile(path: string, log?: ReadLog): Promise<RecordingFile> {
  const handle = await open(path);
  const { size } = await handle.stat();
  return {
    path,
    size: async () => BigInt(size),
    read: async (offset, length) => {
      log?.push({ offset: Number(offset), length: Number(length) });
      const bytes = new Uint8Array(Number(length));
      const { bytesRead } = await handle.read(bytes, 0, bytes.byteLength, Number(offset));
      if (bytesRead !== bytes.byteLength)
        throw new RangeError(`read of ${length} bytes at ${offset} leaves ${path}`);
      return bytes;
    },
    close: () => handle.close(),
  };
}

/** One message to write. `value` is what the channel's encoding turns into bytes; bytes are written as they are. */
export type BuiltMessage = { readonly log: bigint; readonly publish?: bigint; readonly value: unknown };

/** One channel to write: a known ROS type as `cdr` (default), `ros1` or `json`, or any schema of one's own. */
export type BuiltChannel = {
  readonly topic: string;
  /** Plain name (`sensor_msgs/JointState`) of a type in ros-types.ts. */
  readonly type?: string;
  readonly encoding?: string;
  /** Overrides what `type` and `encoding` say; for protobuf, IDL, and encodings that nobody reads. */
  readonly schema?: { readonly name: string; readonly encoding: string; readonly data: Uint8Array };
  readonly messages: readonly BuiltMessage[];
};

export type BuiltCompression = 'none' | 'lz4' | 'zstd';

export type BuildOptions = {
  readonly channels: readonly BuiltChannel[];
  readonly compression?: BuiltCompression;
  /** Bytes after which a chunk is closed; default 64 KiB, so that small recordings have several chunks. */
  readonly chunkSize?: number;
  /** `log` (default) writes messages by log time; `given` channel after channel. */
  readonly order?: 'log' | 'given';
  readonly metadata?: readonly {
    readonly name: string;
    readonly entries: Readonly<Record<string, string>>;
  }[];
  /** Switches of `McapWriter`: useChunks, useChunkIndex, useMessageIndex, useStatistics, repeatChannels, … */
  readonly writer?: Partial<Omit<ConstructorParameters<typeof McapWriter>[0], 'writable' | 'compressChunk'>>;
};

/** Writes an MCAP file with the reference writer and returns its bytes. */
export async function mcapOf(options: BuildOptions): Promise<Uint8Array> {
  await loadDecompressHandlers(); // wasm-zstd is ready once its handlers are
  const parts: Uint8Array[] = [];
  let position = 0n;
  const writer = new McapWriter({
    chunkSize: options.chunkSize ?? 64 << 10,
    ...options.writer,
    ...compressorOf(options.compression ?? 'zstd'),
    writable: {
      position: () => position,
      write: async (bytes) => {
        parts.push(bytes.slice());
        position += BigInt(bytes.byteLength);
      },
    },
  });
  await writer.start({ profile: 'ros2', library: 'roboflow-test' });
  const messages: { channelId: number; log: bigint; publish: bigint; data: Uint8Array }[] = [];
  for (const channel of options.channels) {
    const { schema, messageEncoding, encode } = writingOf(channel);
    const schemaId = schema ? await writer.registerSchema(schema) : 0;
    const channelId = await writer.registerChannel({
      topic: channel.topic,
      schemaId,
      messageEncoding,
      metadata: new Map(),
    });
    for (const { log, publish, value } of channel.messages) {
      messages.push({
        channelId,
        log,
        publish: publish ?? log,
        data: value instanceof Uint8Array ? value : encode(value),
      });
    }
  }
  if (options.order !== 'given') messages.sort((a, b) => (a.log < b.log ? -1 : a.log > b.log ? 1 : 0));
  for (const [sequence, { channelId, log, publish, data }] of messages.entries()) {
    await writer.addMessage({ channelId, sequence, logTime: log, publishTime: publish, data });
  }
  for (const { name, entries } of options.metadata ?? []) {
    await writer.addMetadata({ name, metadata: new Map(Object.entries(entries)) });
  }
  await writer.end();
  return new Uint8Array(Buffer.concat(parts));
}

function compressorOf(
  compression: BuiltCompression,
): Pick<ConstructorParameters<typeof McapWriter>[0], 'compressChunk'> {
  if (compression === 'none') return {};
  const pack = compression === 'zstd' ? (bytes: Uint8Array) => compress(bytes, 1) : lz4Frame;
  return { compressChunk: (bytes) => ({ compression, compressedData: pack(bytes) }) };
}

type Writing = {
  readonly schema: { name: string; encoding: string; data: Uint8Array } | undefined;
  readonly messageEncoding: string;
  readonly encode: (value: unknown) => Uint8Array;
};

function writingOf(channel: BuiltChannel): Writing {
  const encoding = channel.encoding ?? 'cdr';
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const bytesOnly = () => {
    throw new Error(`${channel.topic}: messages in ${encoding} are given as bytes`);
  };
  if (channel.schema || channel.type === undefined) {
    return {
      schema: channel.schema,
      messageEncoding: encoding,
      encode: encoding === 'json' ? json : bytesOnly,
    };
  }
  if (encoding === 'json') {
    const schema = { name: channel.type, encoding: 'jsonschema', data: Buffer.from('{"type":"object"}') };
    return { schema, messageEncoding: 'json', encode: json };
  }
  const ros = encoding === 'ros1' ? 1 : 2;
  const text = definitionOf(channel.type, ros);
  return {
    schema: {
      name: ros === 1 ? channel.type : channel.type.replace('/', '/msg/'),
      encoding: ros === 1 ? 'ros1msg' : 'ros2msg',
      data: Buffer.from(text),
    },
    messageEncoding: encoding,
    encode: rosEncoder(text, ros),
  };
}

/** An encoder of ROS messages from their definition text: CDR for ROS 2, the plain layout for ROS 1. */
export function rosEncoder(definition: string, ros: 1 | 2): (value: unknown) => Uint8Array {
  const definitions = parse(definition, { ros2: ros === 2 });
  const writer = ros === 1 ? new Ros1Writer(definitions) : new CdrMessageWriter(definitions);
  return (value) => writer.writeMessage(value);
}
