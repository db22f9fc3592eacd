import { open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import sqlite from 'node-sqlite3-wasm';
import { InputError, throwIfAborted, toError } from '../errors.ts';
import { bagInfoIn } from './bag-info.ts';
import type { BagInfo } from './bag-info.ts';
import { commonSchema } from './common-definitions.ts';
import type { OpenOptions } from './open-options.ts';
import { spoolCopy, spoolLink } from './spool.ts';
import type { SpooledFile } from './spool.ts';
import { byTopic, joinRanges, selectChannels } from './topics.ts';
import type { Channel, Loss, Message, Recording, RecordingFile, Schema, TopicRange } from './types.ts';

/** A database gives the thread back after this many milliseconds of reading: it works synchronously. */
const SLICE_MS = 8;

/** Rows that are counted in one go. */
const SLICE_ROWS = 20_000;

/** A span of row numbers beyond this has holes, or is damaged: it is not counted. */
const MAX_ROWS = 1e9;

/**
 * Opens a rosbag2 SQLite database. It is reached through a link in a folder of its own, because the library puts a
 * lock folder beside the file it opens: sources stay untouched and may be read by several processes at once.
 * The recording closes `file`; when opening fails the caller still has to.
 */
export async function openDb3(file: RecordingFile, options: OpenOptions = {}): Promise<Recording> {
  const losses: Loss[] = [];
  const link = await linkTo(file, options, losses);
  let database: sqlite.Database | undefined;
  try {
    database = new sqlite.Database(link.path, { readOnly: true, fileMustExist: true });
    const contents = await readContents(database);
    return new Db3Recording(file, link, database, contents, options.recover ?? true, losses);
  } catch (thrown) {
    database?.close();
    await link.close();
    throw asInput(thrown);
  }
}

/** A database in write-ahead mode cannot be opened read-only without its log; a copy is switched back. */
async function linkTo(file: RecordingFile, options: OpenOptions, losses: Loss[]): Promise<SpooledFile> {
  const modes = await file.read(18n, 2n);
  if (modes[0] !== 2 && modes[1] !== 2) return spoolLink(file, options);
  const copy = await spoolCopy(file, options);
  const handle = await open(copy.path, 'r+');
  await handle.write(Uint8Array.of(1, 1), 0, 2, 18);
  await handle.close();
  losses.push({ what: 'the database was left in write-ahead mode; what its -wal file holds is not read' });
  return copy;
}

type Contents = {
  readonly channels: readonly Channel[];
  readonly start: bigint;
  readonly end: bigint;
  readonly info: BagInfo | undefined;
};

async function readContents(database: sqlite.Database): Promise<Contents> {
  const tables = new Set(
    database.all("SELECT name FROM sqlite_master WHERE type = 'table'").map((row) => textOf(row, 'name')),
  );
  if (!tables.has('topics') || !tables.has('messages')) {
    throw new InputError(
      `expected a rosbag2 database with the tables topics and messages, found ${[...tables].join(', ') || 'none'}`,
    );
  }
  const info = tables.has('metadata') ? infoOf(database) : undefined;
  const definitions = tables.has('message_definitions') ? definitionsOf(database) : new Map<string, Schema>();
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
  const times = database.get('SELECT min(timestamp) AS first, max(timestamp) AS last FROM messages');
  return { channels, start: bigintOf(times?.['first']), end: bigintOf(times?.['last']), info };
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

/** A rosbag2 database as one recording; `compressionMode` tells whether its payloads are compressed one by one. */
export class Db3Recording implements Recording {
  readonly container = 'rosbag2';
  readonly channels: readonly Channel[];
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly metadata: Recording['metadata'];
  readonly writtenBy: string;
  readonly losses: Loss[];
  readonly info: BagInfo | undefined;
  readonly #file: RecordingFile;
  readonly #link: SpooledFile;
  readonly #database: sqlite.Database;
  readonly #recover: boolean;

  constructor(
    file: RecordingFile,
    link: SpooledFile,
    database: sqlite.Database,
    contents: Contents,
    recover: boolean,
    losses: Loss[],
  ) {
    this.#file = file;
    this.#link = link;
    this.#database = database;
    this.#recover = recover;
    this.losses = losses;
    this.channels = contents.channels;
    this.startTime = contents.start;
    this.endTime = contents.end;
    this.info = contents.info;
    this.metadata =
      contents.info && contents.info.customData.size > 0
        ? [{ name: 'custom_data', entries: contents.info.customData }]
        : [];
    this.writtenBy = contents.info?.distro ? `rosbag2, ${contents.info.distro}` : 'rosbag2';
  }

  /** Counted by the database in slices of rows, without touching payloads. */
  async topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined> {
    const totals = new Map<number, TopicRange>();
    try {
      const ends = this.#database.get('SELECT min(id) AS first, max(id) AS last FROM messages');
      const first = Number(bigintOf(ends?.['first']));
      const last = Number(bigintOf(ends?.['last']));
      if (last - first > MAX_ROWS) return undefined;
      for (let id = first; id <= last; id += SLICE_ROWS) {
        const rows = this.#database.all(
          `SELECT topic_id, count(*) AS count, min(timestamp) AS first, max(timestamp) AS last FROM messages
           WHERE id >= ${id} AND id < ${id + SLICE_ROWS} GROUP BY topic_id`,
        );
        for (const row of rows) {
          const topic = Number(row['topic_id']);
          const range = {
            first: bigintOf(row['first']),
            last: bigintOf(row['last']),
            count: Number(row['count']),
          };
          const total = totals.get(topic);
          totals.set(topic, total ? joinRanges(total, range) : range);
        }
        await setImmediate();
      }
    } catch (thrown) {
      const error = asInput(thrown);
      if (!this.#recover || !(error instanceof InputError)) throw error;
      return undefined;
    }
    return byTopic(new Map(this.channels.map((channel) => [channel.id, channel])), totals);
  }

  async *messages(
    options: { topics?: ReadonlySet<string>; start?: bigint; end?: bigint; signal?: AbortSignal } = {},
  ): AsyncGenerator<Message, void, void> {
    const channels = new Map<number, Channel>();
    for (const channel of selectChannels(this.channels, options.topics)) channels.set(channel.id, channel);
    const conditions = [`topic_id IN (${[...channels.keys()].join(', ')})`];
    if (options.start !== undefined) conditions.push(`timestamp >= ${options.start}`);
    if (options.end !== undefined) conditions.push(`timestamp <= ${options.end}`);
    const query = `SELECT id, topic_id, timestamp, data FROM messages WHERE ${conditions.join(' AND ')} ORDER BY timestamp, id`;
    const statement = this.#prepare(query);
    if (!statement) return;
    try {
      const rows = statement.iterate()[Symbol.iterator]();
      let sliceEnd = performance.now() + SLICE_MS;
      for (let last = ''; ;) {
        throwIfAborted(options.signal);
        const row = this.#next(rows, last);
        if (!row) return;
        last = `row ${bigintOf(row['id'])}`;
        const message = messageOf(row, channels, last);
        if (message) yield message;
        else
          this.#lose(
            new InputError(`expected the bytes of a message in ${last}, found none`),
            'it is left out',
          );
        if (performance.now() > sliceEnd) {
          await setImmediate();
          sliceEnd = performance.now() + SLICE_MS;
        }
      }
    } finally {
      release(statement);
    }
  }

  async close(): Promise<void> {
    this.#database.close();
    await this.#link.close();
    await this.#file.close();
  }

  #prepare(query: string): sqlite.Statement | undefined {
    try {
      return this.#database.prepare(query);
    } catch (thrown) {
      this.#lose(asInput(thrown), 'its messages cannot be listed');
      return undefined;
    }
  }

  #next(rows: Iterator<sqlite.QueryResult>, last: string): sqlite.QueryResult | undefined {
    try {
      const next = rows.next();
      return next.done === true ? undefined : next.value;
    } catch (thrown) {
      this.#lose(
        asInput(thrown),
        last === '' ? 'its messages cannot be read' : `reading ended after ${last}`,
      );
      return undefined;
    }
  }

  #lose(error: Error, consequence: string): void {
    if (!this.#recover || !(error instanceof InputError)) throw error;
    const what = `${error.message}; ${consequence}`;
    if (!this.losses.some((loss) => loss.what === what)) this.losses.push({ what });
  }
}

/** Finalizing repeats the error of the last step, which was reported when it happened. */
function release(statement: sqlite.Statement): void {
  try {
    statement.finalize();
  } catch (thrown) {
    if (!(thrown instanceof sqlite.SQLite3Error)) throw thrown;
  }
}

function messageOf(
  row: sqlite.QueryResult,
  channels: ReadonlyMap<number, Channel>,
  position: string,
): Message | undefined {
  const channel = channels.get(Number(row['topic_id']));
  const data = row['data'];
  if (!channel || !(data instanceof Uint8Array)) return undefined;
  const time = bigintOf(row['timestamp']);
  return { channel, logTime: time, publishTime: time, data, position };
}

/** SQLite's own errors speak of the file; everything else is passed on. */
function asInput(thrown: unknown): Error {
  if (!(thrown instanceof sqlite.SQLite3Error)) return toError(thrown);
  return new InputError(`the SQLite database cannot be read (${thrown.message})`, { cause: thrown });
}

function textOf(row: sqlite.QueryResult, column: string): string {
  const value = row[column];
  return typeof value === 'string' ? value : '';
}

function bigintOf(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : 0n;
}
