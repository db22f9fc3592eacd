import type sqlite from 'node-sqlite3-wasm';
import { InputError } from '../errors.ts';
import { bagInfoIn } from './bag-info.ts';
import type { BagInfo } from './bag-info.ts';
import { commonSchema } from './common-definitions.ts';
import { asInput, bigintOf, textOf } from './db3-rows.ts';
import type { Channel, Schema } from './types.ts';

/** What the small tables of a database say. */
export type Db3Contents = {
  readonly channels: readonly Channel[];
  readonly start: bigint;
  readonly end: bigint;
  readonly info: BagInfo | undefined;
};

/**
 * Reads topics, definitions, description and times. Of a database that is `damaged` what cannot be read is left out,
 * times among it; otherwise SQLite's errors are passed on.
 */
export async function readDb3Contents(database: sqlite.Database, damaged: boolean): Promise<Db3Contents> {
  const tables = new Set(
    database.all("SELECT name FROM sqlite_master WHERE type = 'table'").map((row) => textOf(row, 'name')),
  );
  if (!tables.has('topics') || !tables.has('messages')) {
    throw new InputError(
      `expected a rosbag2 database with the tables topics and messages, found ${[...tables].join(', ') || 'none'}`,
    );
  }
  const attempt = <T>(read: () => T, otherwise: T) => (damaged ? readOr(read, otherwise) : read());
  const info = tables.has('metadata') ? attempt(() => infoOf(database), undefined) : undefined;
  const definitions = tables.has('message_definitions')
    ? attempt(() => definitionsOf(database), new Map<string, Schema>())
    : new Map<string, Schema>();
  const channels: Channel[] = [];
  for (const row of database.all('SELECT id, name, type, serialization_format FROM topics ORDER BY id')) {
    const type = textOf(row, 'type');
    const topic = textOf(row, 'name');
    const count = info?.counts.get(topic);
    channels.push({
      id: Number(row['id']),
      topic,
      messageEncoding: textOf(row, 'serialization_format'),
      schema: definitions.get(type) ??
        (await commonSchema(type)) ?? { name: type, encoding: '', data: new Uint8Array(0) },
      ...(count === undefined ? {} : { messageCount: count }),
      metadata: new Map(),
    });
  }
  if (damaged) return { channels, start: 0n, end: 0n, info };
  const times = database.get('SELECT min(timestamp) AS first, max(timestamp) AS last FROM messages');
  return { channels, start: bigintOf(times?.['first']), end: bigintOf(times?.['last']), info };
}

function readOr<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch (thrown) {
    const error = asInput(thrown);
    if (!(error instanceof InputError)) throw error;
    return otherwise;
  }
}

/** Schema 4 and later carry the definitions; types whose definition was not found carry an empty one. */
function definitionsOf(database: sqlite.Database): Map<string, Schema> {
  const definitions = new Map<string, Schema>();
  const rows = database.all(
    'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions',
  );
  for (const row of rows) {
    const text = textOf(row, 'encoded_message_definition');
    const name = textOf(row, 'topic_type');
    if (text.trim() === '') continue;
    definitions.set(name, { name, encoding: textOf(row, 'encoding'), data: new TextEncoder().encode(text) });
  }
  return definitions;
}

function infoOf(database: sqlite.Database): BagInfo | undefined {
  const row = database.get('SELECT metadata FROM metadata ORDER BY id DESC LIMIT 1');
  return bagInfoIn(row ? textOf(row, 'metadata') : undefined);
}
