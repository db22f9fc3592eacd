import { InputError, throwIfAborted } from '../errors.ts';
import { ExtentReader } from './extents.ts';
import type { Extent } from './extents.ts';
import { MinHeap } from './min-heap.ts';
import type { ByteSource, Channel, Message, TopicRange } from './types.ts';

/** Messages that are stored, and therefore read, together: an MCAP or bag chunk. Times are log times in ns. */
export type Block = Extent & {
  readonly start: bigint;
  readonly end: bigint;
  /** Ids of the channels in it, when the file says so. */
  readonly channelIds?: ReadonlySet<number>;
  /** Of its messages by channel id, when known already. */
  readonly ranges?: ReadonlyMap<number, TopicRange>;
};

/** One message inside a block's content. */
export type Entry = {
  readonly channel: Channel;
  readonly logTime: bigint;
  readonly publishTime: bigint;
  /** Where its payload lies within the content. */
  readonly offset: number;
  readonly length: number;
};

/** A block's content, decompressed, with its messages in file order. */
export type BlockContent = { readonly data: Uint8Array; readonly entries: readonly Entry[] };

/** What a container gives for its blocks to be read in time order. */
export type BlockFile<B extends Block> = {
  readonly source: ByteSource;
  readonly blocks: readonly B[];
  /** Decompresses and lists one block; throws `InputError` when it is damaged. */
  parse(block: B, bytes: Uint8Array): Promise<BlockContent>;
  /** Called for a block that does not parse; throws when that ends the reading. */
  damaged(block: B, error: InputError): void;
};

/** Which messages are wanted; times inclusive. */
export type MessageFilter = {
  readonly channels: ReadonlySet<Channel>;
  readonly start?: bigint | undefined;
  readonly end?: bigint | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Content of overlapping blocks held at once; beyond it the content needed latest is dropped and read again. */
const MAX_HELD_BYTES = 128 << 20; // 128 MiB

/** A block is read in one piece, and recorders write 1–100 MB; more than this is refused before it is read. */
const MAX_BLOCK_BYTES = 1 << 29; // 512 MiB

/** Throws an `InputError` for a block that is too long to be read in one piece. */
export function checkBlockLength(block: Block): void {
  if (block.length > MAX_BLOCK_BYTES) {
    throw new InputError(
      `chunk at byte ${block.offset}: expected at most ${MAX_BLOCK_BYTES} bytes, found ${block.length}`,
    );
  }
}

type OpenBlock<B extends Block> = {
  readonly index: number;
  readonly block: B;
  readonly entries: readonly Entry[];
  next: number;
  data: Uint8Array | undefined;
};

/**
 * Messages of all blocks in order of log time, ties in file order. A block is read when the time reaches its start
 * and dropped after its last message, so memory holds the blocks that overlap in time and no more.
 */
export async function* messagesOf<B extends Block>(
  file: BlockFile<B>,
  filter: MessageFilter,
): AsyncGenerator<Message, void, void> {
  const blocks = file.blocks.filter((block) => wanted(block, filter)).toSorted(byStart);
  const open = new MinHeap<OpenBlock<B>>(byNextEntry);
  const reader = new ExtentReader(file.source, blocks, (memory) =>
    open.items().some(({ data }) => data?.buffer === memory),
  );
  let upcoming = 0;
  let held = 0;
  for (;;) {
    const front = open.peek();
    const following = blocks[upcoming];
    if (following && (!front || following.start <= nextTime(front))) {
      throwIfAborted(filter.signal);
      const content = await parseOr(file, following, await reader.read(upcoming));
      const entries = content ? select(content.entries, filter) : [];
      if (content && entries.length > 0) {
        open.push({ index: upcoming, block: following, entries, next: 0, data: content.data });
        held += content.data.byteLength;
        if (held > MAX_HELD_BYTES) held -= dropLatest(open);
      }
      upcoming++;
      continue;
    }
    if (!front) return;
    if (!front.data) {
      throwIfAborted(filter.signal);
      front.data = (await file.parse(front.block, await reader.read(front.index))).data;
      held += front.data.byteLength;
      if (held > MAX_HELD_BYTES) held -= dropLatest(open);
    }
    const entry = front.entries[front.next++];
    if (!entry) return;
    const message = new BlockMessage(entry, front.data, front.block);
    if (front.next < front.entries.length) {
      open.settle();
    } else {
      open.pop();
      held -= front.data.byteLength;
    }
    if (filter.signal?.aborted) throwIfAborted(filter.signal);
    yield message;
  }
}

/** A message that is a view of its block; its position in words is made only when asked for. */
class BlockMessage implements Message {
  readonly channel: Channel;
  readonly logTime: bigint;
  readonly publishTime: bigint;
  readonly data: Uint8Array;
  readonly #block: Block;
  readonly #offset: number;

  constructor(entry: Entry, content: Uint8Array, block: Block) {
    this.channel = entry.channel;
    this.logTime = entry.logTime;
    this.publishTime = entry.publishTime;
    // never a Buffer, whose slice() would not copy
    this.data = new Uint8Array(content.buffer, content.byteOffset + entry.offset, entry.length);
    this.#block = block;
    this.#offset = entry.offset;
  }

  get position(): string {
    return `byte ${this.#offset} of the chunk at byte ${this.#block.offset}`;
  }
}

async function parseOr<B extends Block>(
  file: BlockFile<B>,
  block: B,
  bytes: Uint8Array,
): Promise<BlockContent | undefined> {
  try {
    return await file.parse(block, bytes);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    file.damaged(block, thrown);
    return undefined;
  }
}

function wanted(block: Block, filter: MessageFilter): boolean {
  if (filter.start !== undefined && block.end < filter.start) return false;
  if (filter.end !== undefined && block.start > filter.end) return false;
  const ids = block.channelIds;
  if (!ids) return true;
  for (const channel of filter.channels) if (ids.has(channel.id)) return true;
  return false;
}

function select(entries: readonly Entry[], filter: MessageFilter): readonly Entry[] {
  const { channels, start, end } = filter;
  const selected = entries.filter(
    (entry) =>
      channels.has(entry.channel) &&
      (start === undefined || entry.logTime >= start) &&
      (end === undefined || entry.logTime <= end),
  );
  for (let index = 1; index < selected.length; index++) {
    const before = selected[index - 1];
    const entry = selected[index];
    if (before && entry && entry.logTime < before.logTime) {
      // sort() is stable: equal times stay in file order
      return selected.sort((a, b) => (a.logTime < b.logTime ? -1 : a.logTime > b.logTime ? 1 : 0));
    }
  }
  return selected;
}

function byStart(a: Block, b: Block): number {
  if (a.start !== b.start) return a.start < b.start ? -1 : 1;
  return a.offset - b.offset;
}

function nextTime<B extends Block>(open: OpenBlock<B>): bigint {
  return open.entries[open.next]?.logTime ?? 0n;
}

function byNextEntry<B extends Block>(a: OpenBlock<B>, b: OpenBlock<B>): number {
  const timeA = nextTime(a);
  const timeB = nextTime(b);
  if (timeA !== timeB) return timeA < timeB ? -1 : 1;
  return a.block.offset - b.block.offset;
}

/** Drops the content that will be needed latest, except that of the front; returns the bytes given back. */
function dropLatest<B extends Block>(open: MinHeap<OpenBlock<B>>): number {
  const front = open.peek();
  let latest: OpenBlock<B> | undefined;
  for (const candidate of open.items()) {
    if (candidate === front || !candidate.data) continue;
    if (!latest || byNextEntry(candidate, latest) > 0) latest = candidate;
  }
  const bytes = latest?.data?.byteLength ?? 0;
  if (latest) latest.data = undefined;
  return bytes;
}
