import { InputError, throwIfAborted } from '../errors.ts';
import { checkBlockLength } from './blocks.ts';
import { spanOf } from './channel-ranges.ts';
import type { ChannelRanges } from './channel-ranges.ts';
import { placed } from './cursor.ts';
import { findBagChunk } from './resync.ts';
import { bagRecordsOf, learnFromBag } from './rosbag1-chunk.ts';
import type { BagBlock } from './rosbag1-chunk.ts';
import {
  BAG_MAGIC,
  BAG_OP,
  bagRecordAt,
  channelOf,
  fieldCursor,
  parseChunkInfo,
  parseIndex,
} from './rosbag1-records.ts';
import type { BagRecord, ChunkInfo } from './rosbag1-records.ts';
import type { Channel, Loss, TopicRange } from './types.ts';
import type { Window } from './window.ts';

/** What a bag holds, found in its index section or by walking through it. */
export type BagContents = {
  readonly channels: Map<number, Channel>;
  readonly blocks: BagBlock[];
  readonly losses: Loss[];
  counts?: ReadonlyMap<number, number>;
};

export type BagReadOptions = {
  readonly recover: boolean;
  readonly signal?: AbortSignal | undefined;
};

/** Enough of a record to hold any header but a connection's. */
const RECORD_HEAD = 4096;

/** Reads a bag's index section; one that was never closed, or is cut off, is walked through instead. */
export async function readBag(window: Window, options: BagReadOptions): Promise<BagContents> {
  const start = BAG_MAGIC.length;
  const contents: BagContents = { channels: new Map(), blocks: [], losses: [] };
  const header = await recordIn(window, start);
  if (header?.op !== BAG_OP.bagHeader) {
    if (!options.recover || header)
      throw new InputError('expected a bag header record after the first line, found none');
    contents.losses.push({ what: 'the file ends inside the bag header', bytes: window.size - start });
    return contents;
  }
  const indexAt = fieldCursor(header, 'index_pos').size();
  const first = start + header.dataAt + header.dataLength;
  let reason = `its index is said to be at byte ${indexAt} of ${window.size}`;
  if (indexAt === 0) reason = 'it has no index: the recorder never closed it';
  else if (indexAt >= first && indexAt <= window.size) {
    try {
      return await readIndex(window, indexAt, header, contents);
    } catch (thrown) {
      if (!(thrown instanceof InputError) || !options.recover) throw thrown;
      reason = `its index cannot be used (${thrown.message})`;
    }
  }
  if (!options.recover) throw new InputError(`expected a whole bag, but ${reason}`);
  const walked: BagContents = { channels: new Map(), blocks: [], losses: [] };
  walked.losses.push({ what: `${reason}; the file was read without it` });
  await new BagWalk(window, walked, options).run(Math.min(first, window.size));
  return walked;
}

/** Ranges of a chunk's connections from the index records behind it; undefined when there are none. */
export async function chunkRanges(window: Window, block: BagBlock): Promise<ChannelRanges | undefined> {
  const ranges = new Map<number, TopicRange>();
  const chunk = await recordIn(window, block.offset);
  if (chunk?.op !== BAG_OP.chunk) return undefined;
  let at = block.offset + chunk.dataAt + chunk.dataLength;
  while (at < block.offset + block.length) {
    const record = await recordIn(window, at);
    if (record?.op !== BAG_OP.index) break;
    const index = parseIndex(record, await window.at(at + record.dataAt, record.dataLength));
    if (index.count > 0) ranges.set(index.conn, index);
    at += record.dataAt + record.dataLength;
  }
  return ranges.size > 0 ? ranges : undefined;
}

async function readIndex(
  window: Window,
  indexAt: number,
  header: BagRecord,
  contents: BagContents,
): Promise<BagContents> {
  const connections = fieldCursor(header, 'conn_count').u32();
  const chunks = fieldCursor(header, 'chunk_count').u32();
  const infos: ChunkInfo[] = [];
  for (let at = indexAt; at < window.size;) {
    const record = await recordIn(window, at);
    if (!record || at + record.dataAt + record.dataLength > window.size) {
      throw new InputError(`expected a whole index record at byte ${at}, found it cut off`);
    }
    const data = await window.at(at + record.dataAt, record.dataLength);
    if (record.op === BAG_OP.connection) {
      const channel = channelOf(record, data);
      contents.channels.set(channel.id, channel);
    } else if (record.op === BAG_OP.chunkInfo) {
      infos.push(parseChunkInfo(record, data));
    } else {
      throw new InputError(`expected connections and chunks in the index, found record kind ${record.op}`);
    }
    at += record.dataAt + record.dataLength;
  }
  if (contents.channels.size < connections || infos.length < chunks) {
    throw new InputError(
      `expected ${connections} connections and ${chunks} chunks in the index, found ${contents.channels.size} and ${infos.length}`,
    );
  }
  const counts = new Map<number, number>();
  const ordered = infos.toSorted((a, b) => a.position - b.position);
  for (const [index, { position, start, end, counts: inChunk }] of ordered.entries()) {
    const length = (ordered[index + 1]?.position ?? indexAt) - position;
    if (length <= 0 || position < BAG_MAGIC.length)
      throw new InputError(`a chunk at byte ${position} cannot be`);
    for (const [conn, count] of inChunk) {
      if (!contents.channels.has(conn)) throw new InputError(`connection ${conn} is missing from the index`);
      counts.set(conn, (counts.get(conn) ?? 0) + count);
    }
    const block = { offset: position, length, start, end, channelIds: new Set(inChunk.keys()) };
    checkBlockLength(block);
    if (inChunk.size > 0) contents.blocks.push(block);
  }
  contents.counts = counts;
  return contents;
}

/** Walks over the records of a bag without index; chunks with index records behind them are jumped over. */
class BagWalk {
  readonly #window: Window;
  readonly #contents: BagContents;
  readonly #options: BagReadOptions;

  constructor(window: Window, contents: BagContents, options: BagReadOptions) {
    this.#window = window;
    this.#contents = contents;
    this.#options = options;
  }

  async run(from: number): Promise<void> {
    const { losses, channels } = this.#contents;
    let at = from;
    while (at < this.#window.size) {
      throwIfAborted(this.#options.signal);
      const record = await this.#record(at);
      const end = record && at + record.dataAt + record.dataLength;
      if (!record || end === undefined || end > this.#window.size) {
        const next = await findBagChunk(this.#window, at + 1, this.#window.size);
        if (next !== undefined) {
          losses.push({
            what: `no record can be read from byte ${at} to the chunk at byte ${next}`,
            bytes: next - at,
          });
          at = next;
          continue;
        }
        const what = `the file ends inside the record at byte ${at}`;
        const kept = record?.op === BAG_OP.chunk && (await this.#cut(at));
        losses.push({
          what: kept ? `${what}; its whole messages are kept` : what,
          bytes: this.#window.size - at,
        });
        return;
      }
      if (record.op === BAG_OP.chunk) {
        at = await this.#chunk(at, end);
      } else {
        if (record.op === BAG_OP.connection) {
          const channel = await this.#whole(at, record, channelOf);
          if (channel === undefined)
            losses.push({ what: `the connection at byte ${at} cannot be read`, bytes: end - at });
          else if (!channels.has(channel.id)) channels.set(channel.id, channel);
        }
        at = end;
      }
    }
  }

  /** Adds the chunk at `at` and returns the offset after its index records. */
  async #chunk(at: number, end: number): Promise<number> {
    const ranges = new Map<number, TopicRange>();
    let known = true;
    let next = end;
    while (next < this.#window.size) {
      const record = await this.#record(next);
      const recordEnd = record && next + record.dataAt + record.dataLength;
      if (record?.op !== BAG_OP.index || recordEnd === undefined || recordEnd > this.#window.size) break;
      const index = await this.#whole(next, record, parseIndex);
      if (index === undefined) known = false;
      else if (index.count > 0) ranges.set(index.conn, index);
      next = recordEnd;
    }
    const block = { offset: at, length: end - at, start: 0n, end: 0n };
    known &&= [...ranges.keys()].every((conn) => this.#contents.channels.has(conn));
    if (ranges.size > 0 && known) this.#contents.blocks.push({ ...block, ...spanOf(ranges) });
    else await this.#learn(block);
    return next;
  }

  async #learn(block: BagBlock): Promise<boolean> {
    try {
      checkBlockLength(block);
      const bytes = await this.#window.at(block.offset, block.length);
      const data = await bagRecordsOf(block, bytes);
      const ranges = learnFromBag(block, data, this.#contents.channels);
      if (ranges.size > 0) this.#contents.blocks.push({ ...block, ...spanOf(ranges) });
      return ranges.size > 0;
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      if (!block.cut) this.#contents.losses.push({ what: thrown.message, bytes: block.length });
      return false;
    }
  }

  #cut(at: number): Promise<boolean> {
    return this.#learn({ offset: at, length: this.#window.size - at, start: 0n, end: 0n, cut: true });
  }

  /** What `parse` makes of the record at `at`; undefined when its content is damaged. */
  async #whole<T>(
    at: number,
    record: BagRecord,
    parse: (record: BagRecord, data: Uint8Array) => T,
  ): Promise<T | undefined> {
    const data = await this.#window.at(at + record.dataAt, record.dataLength);
    try {
      return parse(record, data);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      return undefined;
    }
  }

  /** The record at `at`; what cannot be one counts as the end of what is whole. */
  async #record(at: number): Promise<BagRecord | undefined> {
    try {
      return await recordIn(this.#window, at);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      return undefined;
    }
  }
}

/** The header of the record at `at`, with `dataAt` counted from there; undefined when the file ends inside it. */
async function recordIn(window: Window, at: number): Promise<BagRecord | undefined> {
  const left = window.size - at;
  if (left < 4) return undefined;
  try {
    const record = bagRecordAt(await window.at(at, Math.min(left, RECORD_HEAD)), 0);
    if (record || left <= RECORD_HEAD) return record;
    return bagRecordAt(await window.at(at, Math.min(left, 1 << 20)), 0);
  } catch (thrown) {
    throw placed(thrown, `record at byte ${at}`);
  }
}
