import { InputError, throwIfAborted } from '../errors.ts';
import { checkBlockLength } from './blocks.ts';
import { addToRange, spanOf } from './channel-ranges.ts';
import { learnFrom, learnRecord, recordsOf } from './mcap-chunk.ts';
import type { Catalogue, McapBlock } from './mcap-chunk.ts';
import {
  MCAP_MAGIC,
  MESSAGE_HEAD,
  OPCODE,
  RECORD_HEAD,
  parseChunkHead,
  parseMessageIndex,
  parseMetadata,
  recordHeadAt,
} from './mcap-records.ts';
import { findMcapChunk } from './resync.ts';
import type { Loss, Recording, TopicRange } from './types.ts';
import type { Window } from './window.ts';

/** What an MCAP file holds, found in its summary or by walking through it. */
export type McapContents = Catalogue & {
  profile: string;
  library: string;
  readonly blocks: McapBlock[];
  readonly metadata: Recording['metadata'][number][];
  readonly losses: Loss[];
  /** Messages by channel id, when the file says so. */
  counts?: ReadonlyMap<number, number>;
};

/** Messages outside chunks are gathered into blocks of about this size. */
const LOOSE_BLOCK = 4 << 20; // 4 MiB

/** Enough of a chunk record to know all but its records. */
const CHUNK_HEAD = 256;

/** How a walk goes on. */
export type ScanOptions = {
  /** Reports damage as a loss and goes on with what is whole; otherwise damage is an `InputError`. */
  readonly recover: boolean;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Walks over the records of a file from `from` to `to` (exclusive) and adds what it finds to `contents`. Chunks with
 * a message index behind them are jumped over; the others are read, since only they say what channels they hold.
 */
export async function scan(
  window: Window,
  from: number,
  to: number,
  contents: McapContents,
  options: ScanOptions,
): Promise<void> {
  const walk = new Walk(window, contents, options);
  await walk.run(from, to);
}

class Walk {
  readonly #window: Window;
  readonly #contents: McapContents;
  readonly #options: ScanOptions;
  #chunk: McapBlock | undefined;
  #indexed = new Map<number, TopicRange>();
  #loose: { start: number; end: number; ranges: Map<number, TopicRange> } | undefined;

  constructor(window: Window, contents: McapContents, options: ScanOptions) {
    this.#window = window;
    this.#contents = contents;
    this.#options = options;
  }

  async run(from: number, to: number): Promise<void> {
    let at = from;
    while (at < to) {
      if (to - at < RECORD_HEAD) {
        this.#lose(`a record cut off at byte ${at}`, to - at);
        break;
      }
      const { opcode, length } = recordHeadAt(await this.#bytes(at, RECORD_HEAD), 0);
      const end = at + RECORD_HEAD + length;
      if (opcode === 0 || end > to) {
        await this.#finishChunk();
        const next = this.#options.recover ? await findMcapChunk(this.#window, at + 1, to) : undefined;
        if (next !== undefined) {
          this.#lose(`no record can be read from byte ${at} to the chunk at byte ${next}`, next - at);
          at = next;
          continue;
        }
        await this.#cut(at, to, opcode);
        break;
      }
      if (opcode === OPCODE.dataEnd || opcode === OPCODE.footer) {
        await this.#tellWhatFollows(at, to);
        break;
      }
      if (opcode !== OPCODE.messageIndex) await this.#finishChunk();
      try {
        await this.#record(opcode, at, length);
      } catch (thrown) {
        if (!(thrown instanceof InputError)) throw thrown;
        this.#lose(thrown.message, RECORD_HEAD + length, thrown);
      }
      at = end;
    }
    await this.#finishChunk();
    this.#finishLoose();
  }

  async #record(opcode: number, at: number, length: number): Promise<void> {
    if (opcode === OPCODE.chunk) {
      this.#finishLoose();
      throwIfAborted(this.#options.signal);
      const body = await this.#bytes(at + RECORD_HEAD, Math.min(length, CHUNK_HEAD));
      const head = parseChunkHead(body);
      this.#chunk = {
        kind: 'chunk',
        offset: at,
        length: RECORD_HEAD + length,
        start: head.start,
        end: head.end,
      };
    } else if (opcode === OPCODE.messageIndex) {
      const index = parseMessageIndex(await this.#bytes(at + RECORD_HEAD, length));
      if (index.count > 0) this.#indexed.set(index.channelId, index);
    } else if (opcode === OPCODE.message) {
      await this.#looseMessage(at, length);
    } else if (opcode === OPCODE.schema || opcode === OPCODE.channel) {
      learnRecord(opcode, await this.#bytes(at + RECORD_HEAD, length), this.#contents);
    } else if (opcode === OPCODE.metadata) {
      this.#contents.metadata.push(parseMetadata(await this.#bytes(at + RECORD_HEAD, length)));
    }
  }

  async #looseMessage(at: number, length: number): Promise<void> {
    const head = await this.#bytes(at, MESSAGE_HEAD);
    if (length < MESSAGE_HEAD - RECORD_HEAD) {
      throw new InputError(`expected a message of 22 bytes or more at byte ${at}, found ${length}`);
    }
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    const end = at + RECORD_HEAD + length;
    if (this.#loose && (this.#loose.end !== at || end - this.#loose.start > LOOSE_BLOCK)) this.#finishLoose();
    this.#loose ??= { start: at, end, ranges: new Map() };
    this.#loose.end = end;
    addToRange(this.#loose.ranges, view.getUint16(RECORD_HEAD, true), view.getBigUint64(15, true));
  }

  #finishLoose(): void {
    const loose = this.#loose;
    if (!loose) return;
    this.#loose = undefined;
    this.#add({
      kind: 'loose',
      offset: loose.start,
      length: loose.end - loose.start,
      ...spanOf(loose.ranges),
    });
  }

  /** Settles the chunk whose message index has just ended; without an index the chunk itself is read. */
  async #finishChunk(): Promise<void> {
    const chunk = this.#chunk;
    const indexed = this.#indexed;
    this.#chunk = undefined;
    if (indexed.size > 0) this.#indexed = new Map();
    if (!chunk) return;
    const known = [...indexed.keys()].every((id) => this.#contents.channels.has(id));
    if (indexed.size > 0 && known) this.#add({ ...chunk, ...spanOf(indexed) });
    else await this.#learn(chunk);
  }

  async #learn(chunk: McapBlock): Promise<void> {
    try {
      checkBlockLength(chunk);
      const bytes = await this.#window.at(chunk.offset, chunk.length);
      const ranges = learnFrom(chunk, await recordsOf(chunk, bytes), this.#contents);
      if (ranges.size > 0) this.#add({ ...chunk, ...spanOf(ranges) });
    } catch (thrown) {
      if (!(thrown instanceof InputError) || !this.#options.recover) throw thrown;
      this.#contents.losses.push({ what: thrown.message, bytes: chunk.length });
    }
  }

  /** The file ends inside the record at `at`: the whole messages of a cut chunk are kept, the rest is lost. */
  async #cut(at: number, to: number, opcode: number): Promise<void> {
    const what =
      opcode === 0
        ? `expected a record at byte ${at}, found zeros`
        : `the file ends inside the record at byte ${at}`;
    if (!this.#options.recover) throw new InputError(what);
    const before = this.#contents.blocks.length;
    if (opcode === OPCODE.chunk && to - at > RECORD_HEAD) {
      const losses = this.#contents.losses.length;
      await this.#learn({ kind: 'cut', offset: at, length: to - at, start: 0n, end: 0n });
      this.#contents.losses.length = losses;
    }
    const salvaged = this.#contents.blocks.length > before;
    this.#lose(salvaged ? `${what}; its whole messages are kept` : what, to - at);
  }

  /** What lies behind the footer is not read: two files joined byte by byte are not one recording. */
  async #tellWhatFollows(from: number, to: number): Promise<void> {
    for (let at = from; to - at >= RECORD_HEAD;) {
      const { opcode, length } = recordHeadAt(await this.#bytes(at, RECORD_HEAD), 0);
      at += RECORD_HEAD + length;
      if (opcode !== OPCODE.footer) continue;
      const end = at + MCAP_MAGIC.byteLength;
      if (end < to) this.#lose(`the recording ends at byte ${end}, what follows was not read`, to - end);
      return;
    }
  }

  #lose(what: string, bytes: number, cause?: InputError): void {
    if (!this.#options.recover) throw cause ?? new InputError(what);
    this.#contents.losses.push({ what, bytes });
  }

  #add(block: McapBlock): void {
    this.#contents.blocks.push(block);
  }

  async #bytes(offset: number, length: number): Promise<Uint8Array> {
    return this.#window.held(offset, length) ?? (await this.#window.at(offset, length));
  }
}
