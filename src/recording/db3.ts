import { setImmediate } from 'node:timers/promises';
import type sqlite from 'node-sqlite3-wasm';
import { InputError, throwIfAborted } from '../errors.ts';
import type { BagInfo } from './bag-info.ts';
import { readDb3Contents } from './db3-contents.ts';
import type { Db3Contents } from './db3-contents.ts';
import { openCutDatabase, openDatabase } from './db3-file.ts';
import type { OpenedDatabase } from './db3-file.ts';
import { asInput, bigintOf } from './db3-rows.ts';
import { payloadOf, release, salvageRows } from './db3-salvage.ts';
import type { SalvagedRow } from './db3-salvage.ts';
import type { OpenOptions } from './open-options.ts';
import { byTopic, joinRanges, selectChannels } from './topics.ts';
import type { Channel, Loss, Message, Recording, RecordingFile, TopicRange } from './types.ts';

/** A database gives the thread back after this many milliseconds of reading: it works synchronously. */
const SLICE_MS = 8;

/** Rows that are counted in one go. */
const SLICE_ROWS = 20_000;

/** No row takes fewer bytes: a larger span of row numbers has holes, or is damaged, and is not counted. */
const MIN_ROW_BYTES = 8;

/**
 * Opens a rosbag2 SQLite database; `wal` is the log that may lie beside it. One that is damaged gives the rows that
 * can be reached, and losses. The recording closes `file`; when opening fails the caller still has to.
 */
export async function openDb3(
  file: RecordingFile,
  options: OpenOptions = {},
  wal?: RecordingFile,
): Promise<Recording> {
  const losses: Loss[] = [];
  const recover = options.recover ?? true;
  let failed: InputError;
  try {
    return await openWith(() => openDatabase(file, wal, options, losses), false);
  } catch (thrown) {
    const error = asInput(thrown);
    if (!(error instanceof InputError) || !recover || error.cause === undefined) throw error;
    failed = error;
  }
  losses.push({ what: `${failed.message}; the rows that can be reached are read` });
  try {
    return await openWith(() => openCutDatabase(file, options), true);
  } catch (thrown) {
    const error = asInput(thrown);
    throw error instanceof InputError ? failed : error;
  }

  async function openWith(opening: () => Promise<OpenedDatabase>, damaged: boolean): Promise<Recording> {
    const opened = await opening();
    try {
      const contents = await readDb3Contents(opened.database, damaged);
      const rows = damaged ? await salvageRows(opened.database, options.signal) : undefined;
      if (rows?.length === 0) throw new InputError('no row of the database can be reached');
      return new Db3Recording(file, opened, contents, { recover, losses, rows });
    } catch (thrown) {
      opened.database.close();
      await opened.spooled.close();
      throw thrown;
    }
  }
}

/** A rosbag2 database as one recording. */
export class Db3Recording implements Recording {
  readonly container = 'rosbag2';
  readonly channels: readonly Channel[];
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly metadata: Recording['metadata'];
  readonly writtenBy: string;
  readonly losses: Loss[];
  /** What the database says of itself: its messages may be compressed one by one. */
  readonly info: BagInfo | undefined;
  readonly #file: RecordingFile;
  readonly #opened: OpenedDatabase;
  readonly #database: sqlite.Database;
  readonly #recover: boolean;
  #rows: readonly SalvagedRow[] | undefined;

  constructor(
    file: RecordingFile,
    opened: OpenedDatabase,
    contents: Db3Contents,
    state: { recover: boolean; losses: Loss[]; rows: readonly SalvagedRow[] | undefined },
  ) {
    this.#file = file;
    this.#opened = opened;
    this.#database = opened.database;
    this.#recover = state.recover;
    this.#rows = state.rows;
    this.losses = state.losses;
    this.channels = contents.channels;
    this.startTime = state.rows?.[0]?.time ?? contents.start;
    this.endTime = state.rows?.at(-1)?.time ?? contents.end;
    this.info = contents.info;
    const custom = contents.info?.customData;
    this.metadata = custom && custom.size > 0 ? [{ name: 'custom_data', entries: custom }] : [];
    this.writtenBy = contents.info?.distro ? `rosbag2, ${contents.info.distro}` : 'rosbag2';
  }

  /** Counted by the database in slices of rows, without touching payloads. */
  async topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined> {
    const totals = new Map<number, TopicRange>();
    const add = (topic: number, range: TopicRange) => {
      const total = totals.get(topic);
      totals.set(topic, total ? joinRanges(total, range) : range);
    };
    if (this.#rows) {
      for (const { topic, time } of this.#rows) add(topic, { first: time, last: time, count: 1 });
      return byTopic(new Map(this.channels.map((channel) => [channel.id, channel])), totals);
    }
    try {
      const ends = this.#database.get('SELECT min(id) AS first, max(id) AS last FROM messages');
      const first = Number(bigintOf(ends?.['first']));
      const last = Number(bigintOf(ends?.['last']));
      if (last - first > Number(await this.#file.size()) / MIN_ROW_BYTES) return undefined;
      for (let id = first; id <= last; id += SLICE_ROWS) {
        const rows = this.#database.all(
          `SELECT topic_id, count(*) AS count, min(timestamp) AS first, max(timestamp) AS last FROM messages
           WHERE id >= ${id} AND id < ${id + SLICE_ROWS} GROUP BY topic_id`,
        );
        for (const row of rows) {
          const range = { first: bigintOf(row['first']), last: bigintOf(row['last']) };
          add(Number(row['topic_id']), { ...range, count: Number(row['count']) });
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

  async *messages(options: Parameters<Recording['messages']>[0] = {}): AsyncGenerator<Message, void, void> {
    const channels = new Map<number, Channel>();
    for (const channel of selectChannels(this.channels, options.topics)) channels.set(channel.id, channel);
    let last: { time: bigint; id: bigint } | undefined;
    let sliceEnd = performance.now() + SLICE_MS;
    if (!this.#rows) {
      try {
        for (const row of this.#ordered(channels, options)) {
          throwIfAborted(options.signal);
          last = { time: bigintOf(row['timestamp']), id: bigintOf(row['id']) };
          const message = this.#message(channels.get(Number(row['topic_id'])), last, row['data']);
          if (message) yield message;
          if (performance.now() < sliceEnd) continue;
          await setImmediate();
          sliceEnd = performance.now() + SLICE_MS;
        }
        return;
      } catch (thrown) {
        const error = asInput(thrown);
        if (!this.#recover || !(error instanceof InputError)) throw error;
        this.#lose(`${error.message}; the rows that can be reached are read`);
        this.#rows = await salvageRows(this.#database, options.signal);
      }
    }
    for (const { id, topic, time } of this.#rows) {
      if (last && (time < last.time || (time === last.time && id <= last.id))) continue;
      if (options.start !== undefined && time < options.start) continue;
      if (options.end !== undefined && time > options.end) continue;
      const channel = channels.get(topic);
      if (!channel) continue;
      throwIfAborted(options.signal);
      const message = this.#message(channel, { time, id }, payloadOf(this.#database, id));
      if (message) yield message;
      if (performance.now() < sliceEnd) continue;
      await setImmediate();
      sliceEnd = performance.now() + SLICE_MS;
    }
  }

  async close(): Promise<void> {
    this.#database.close();
    await this.#opened.spooled.close();
    await this.#file.close();
  }

  /** Rows in order of time, as SQLite gives them through its time index. */
  *#ordered(
    channels: ReadonlyMap<number, Channel>,
    { start, end }: NonNullable<Parameters<Recording['messages']>[0]>,
  ): Generator<sqlite.QueryResult, void, void> {
    const conditions = [`topic_id IN (${[...channels.keys()].join(', ')})`];
    if (start !== undefined) conditions.push(`timestamp >= ${start}`);
    if (end !== undefined) conditions.push(`timestamp <= ${end}`);
    const statement = this.#database.prepare(
      `SELECT id, topic_id, timestamp, data FROM messages WHERE ${conditions.join(' AND ')} ORDER BY timestamp, id`,
    );
    try {
      yield* statement.iterate();
    } finally {
      release(statement);
    }
  }

  #message(
    channel: Channel | undefined,
    row: { time: bigint; id: bigint },
    data: unknown,
  ): Message | undefined {
    const position = `row ${row.id}`;
    if (channel && data instanceof Uint8Array) {
      return { channel, logTime: row.time, publishTime: row.time, data, position };
    }
    const what = `expected the bytes of a message in ${position}, found none`;
    if (!this.#recover) throw new InputError(what);
    this.#lose(what);
    return undefined;
  }

  #lose(what: string): void {
    if (!this.losses.some((loss) => loss.what === what)) this.losses.push({ what });
  }
}
