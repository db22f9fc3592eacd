import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compress } from '@foxglove/wasm-zstd';
import { loadDecompressHandlers } from '@mcap/support';
import sqlite from 'node-sqlite3-wasm';
import { stringify } from 'yaml';
import { mcapOf, rosEncoder } from './recordings.ts';
import type { BuiltChannel } from './recordings.ts';
import { definitionOf } from './ros-types.ts';

/** How a rosbag2 folder is written. */
export type Rosbag2Options = {
  readonly channels: readonly BuiltChannel[];
  readonly storage?: 'sqlite3' | 'mcap';
  /** Number of files the recording is split into by time. */
  readonly files?: number;
  readonly compression?: 'none' | 'file' | 'message';
  /** Schema of the database: before 4 it carries no definitions, before 3 no metadata table. */
  readonly schema?: 1 | 2 | 3 | 4;
  readonly customData?: Readonly<Record<string, string>>;
  /** Changes the description before it is written. */
  readonly info?: (info: Record<string, unknown>) => void;
};

type Row = { readonly topic: number; readonly time: bigint; readonly data: Uint8Array };

/** Writes a rosbag2 folder as its recorder does and returns its files by name, `metadata.yaml` among them. */
export async function rosbag2Of(options: Rosbag2Options): Promise<Record<string, Uint8Array>> {
  await loadDecompressHandlers();
  const { storage = 'sqlite3', files: count = 1, compression = 'none' } = options;
  const rows = rowsOf(options.channels, compression === 'message');
  const files: Record<string, Uint8Array> = {};
  const inside = innerInfo(options);
  const ending = storage === 'mcap' ? 'mcap' : 'db3';
  for (let part = 0; part < count; part++) {
    const from = Math.floor((part * rows.length) / count);
    const own = rows.slice(from, Math.floor(((part + 1) * rows.length) / count));
    const plain =
      storage === 'mcap'
        ? await mcapOf({
            channels: channelsWith(options.channels, own),
            compression: 'none',
            metadata: [{ name: 'rosbag2', entries: { serialized_metadata: inside } }],
          })
        : await databaseOf(options, own, inside);
    const name = `bag_${part}.${ending}`;
    if (compression === 'file') files[`${name}.zstd`] = Uint8Array.from(compress(plain, 1));
    else files[name] = plain;
  }
  const info: Record<string, unknown> = {
    version: 5,
    storage_identifier: storage,
    message_count: rows.length,
    relative_file_paths: Object.keys(files),
    compression_format: compression === 'none' ? '' : 'zstd',
    compression_mode: compression === 'none' ? '' : compression.toUpperCase(),
    topics_with_message_count: options.channels.map(({ topic, type, messages }) => ({
      topic_metadata: { name: topic, type: ros2Name(type), serialization_format: 'cdr' },
      message_count: messages.length,
    })),
    custom_data: options.customData ?? null,
    ros_distro: 'humble',
  };
  options.info?.(info);
  files['metadata.yaml'] = new TextEncoder().encode(stringify({ rosbag2_bagfile_information: info }));
  return files;
}

function rowsOf(channels: readonly BuiltChannel[], compressed: boolean): Row[] {
  const rows = channels.flatMap((channel, topic) => {
    const encode = rosEncoder(definitionOf(channel.type ?? '', 2), 2);
    return channel.messages.map(({ log, value }) => {
      const data = value instanceof Uint8Array ? value : encode(value);
      return { topic, time: log, data: compressed ? compress(data, 1) : data };
    });
  });
  return rows.toSorted((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
}

function channelsWith(channels: readonly BuiltChannel[], rows: readonly Row[]): BuiltChannel[] {
  return channels.map((channel, topic) => ({
    ...channel,
    messages: rows.filter((row) => row.topic === topic).map(({ time, data }) => ({ log: time, value: data })),
  }));
}

/** What a file of the recording says itself: the description without its outer name. */
function innerInfo({ storage = 'sqlite3', compression = 'none', customData }: Rosbag2Options): string {
  return stringify({
    version: 9,
    storage_identifier: storage,
    message_count: 0,
    topics_with_message_count: [],
    compression_format: compression === 'message' ? 'zstd' : '',
    compression_mode: compression === 'message' ? 'MESSAGE' : '',
    custom_data: customData ?? null,
    ros_distro: 'humble',
  });
}

async function databaseOf(
  options: Rosbag2Options,
  rows: readonly Row[],
  inside: string,
): Promise<Uint8Array> {
  const { schema = 4, channels } = options;
  const folder = await mkdtemp(join(tmpdir(), 'rosbag2-'));
  const path = join(folder, 'bag.db3');
  const database = new sqlite.Database(path);
  try {
    database.exec(`
      CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
        serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
      CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL);
      CREATE INDEX timestamp_idx ON messages (timestamp ASC);
      BEGIN;`);
    if (schema >= 2) {
      database.exec('CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);');
      database.run('INSERT INTO schema VALUES (?, ?)', [schema, 'humble']);
    }
    if (schema >= 3) {
      database.exec(
        'CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);',
      );
    }
    if (schema >= 3) database.run('INSERT INTO metadata VALUES (1, 9, ?)', [inside]);
    if (schema >= 4) {
      database.exec(`CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL,
        encoding TEXT NOT NULL, encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);`);
    }
    for (const [index, { topic, type }] of channels.entries()) {
      database.run('INSERT INTO topics VALUES (?, ?, ?, ?, ?)', [
        index + 1,
        topic,
        ros2Name(type),
        'cdr',
        '',
      ]);
      if (schema < 4) continue;
      const definition = definitionOf(type ?? '', 2);
      database.run(
        'INSERT INTO message_definitions(topic_type, encoding, encoded_message_definition, type_description_hash) VALUES (?, ?, ?, ?)',
        [ros2Name(type), 'ros2msg', definition, ''],
      );
    }
    const insert = database.prepare('INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)');
    for (const { topic, time, data } of rows) insert.run([topic + 1, time, data]);
    insert.finalize();
    database.exec('COMMIT');
  } finally {
    database.close();
  }
  const bytes = await readFile(path);
  await rm(folder, { recursive: true });
  return new Uint8Array(bytes);
}

function ros2Name(type: string | undefined): string {
  return (type ?? '').replace('/', '/msg/');
}
