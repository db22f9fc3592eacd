import type { ByteSource } from './types.ts';

/** A stretch of a file. */
export type Extent = { readonly offset: number; readonly length: number };

/** Neighbours are read together up to this many bytes, across gaps of at most `MAX_GAP`. */
const WINDOW = 4 << 20; // 4 MiB
const MAX_GAP = 64 << 10; // 64 KiB

/** Reads below this get memory of their own: there are few of them, or they are little. */
const REUSED = WINDOW / 8;

/** Memory of reads that is kept to be used again: for the one in use, the one under way, and one that is nearly done with. */
const KEPT = 3;

type Run = Extent & { readonly memory: Uint8Array | undefined };

/**
 * Reads stretches of a file that are asked for in a known order. Small neighbours come with one read of up to
 * 4 MiB, so that tens of thousands of tiny chunks do not cost a request each, and the read after that is begun with it:
 * by a source that is far away when it is told of it, by this reader where the bytes are near. Reads share a few pieces
 * of memory: what a recording's bytes need is neither fetched from the system nor cleared anew all the time.
 */
export class ExtentReader {
  readonly #source: ByteSource;
  readonly #extents: readonly Extent[];
  readonly #inUse: (memory: ArrayBufferLike) => boolean;
  readonly #memory: Uint8Array[] = [];
  #window: { start: number; bytes: Uint8Array } | undefined;
  #begun = false;
  /** Memory of the newest read, until there is a newer one. */
  #newest: Uint8Array | undefined;
  #ahead: { readonly run: Run; readonly reading: Promise<Uint8Array> } | undefined;

  /**
   * `extents` in the order in which they will be asked for; `inUse` tells whether somebody still looks at bytes in a
   * memory, beside those read last.
   */
  constructor(source: ByteSource, extents: readonly Extent[], inUse: (memory: ArrayBufferLike) => boolean) {
    this.#source = source;
    this.#extents = extents;
    this.#inUse = inUse;
  }

  /**
   * The bytes of the extent at `index`; a view of a larger read where neighbours came with it. They stay as they are
   * until the next call, and after it as long as they are in use.
   */
  async read(index: number): Promise<Uint8Array> {
    const wanted = this.#extents[index];
    if (!wanted) throw new RangeError(`no extent ${index}`);
    const held = this.#window;
    if (held && wanted.offset >= held.start) {
      const at = wanted.offset - held.start;
      if (at + wanted.length <= held.bytes.byteLength) return held.bytes.subarray(at, at + wanted.length);
    }
    this.#window = undefined;
    const first = !this.#begun;
    this.#begun = true;
    const end = this.#runEnd(index);
    const { run, reading } = this.#taken(wanted.offset, end) ?? this.#begin(wanted.offset, end);
    this.#newest = run.memory;
    this.#announce(index, end, first);
    const bytes = await reading;
    // a window with nothing else in it need not be kept
    if (end > wanted.offset + wanted.length) this.#window = { start: wanted.offset, bytes };
    return bytes.subarray(0, wanted.length);
  }

  /** The read that is under way already when it is this one; another one is of no use any more. */
  #taken(offset: number, end: number): { run: Run; reading: Promise<Uint8Array> } | undefined {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    if (!ahead) return undefined;
    if (ahead.run.offset === offset && ahead.run.offset + ahead.run.length === end) return ahead;
    // it may be written to yet
    const at = ahead.run.memory ? this.#memory.indexOf(ahead.run.memory) : -1;
    if (at >= 0) this.#memory.splice(at, 1);
    return undefined;
  }

  #begin(offset: number, end: number): { run: Run; reading: Promise<Uint8Array> } {
    const length = end - offset;
    const memory = this.#memoryFor(length);
    const into = memory?.subarray(0, length);
    return {
      run: { offset, length, memory },
      reading: this.#source.read(BigInt(offset), BigInt(length), into),
    };
  }

  /** Memory that nobody looks at; undefined for reads that get their own. */
  #memoryFor(length: number): Uint8Array | undefined {
    // what is far away comes in memory of its own
    if (length > WINDOW || length < REUSED || this.#source.willRead) return undefined;
    const free = this.#memory.find(
      (memory) =>
        memory !== this.#newest && memory !== this.#ahead?.run.memory && !this.#inUse(memory.buffer),
    );
    if (free) return free;
    if (this.#memory.length === KEPT) return undefined;
    const memory = new Uint8Array(Buffer.allocUnsafeSlow(WINDOW).buffer);
    this.#memory.push(memory);
    return memory;
  }

  /**
   * Begins the read that follows the one up to `end`, unless it is too large to be held beside it. Where bytes are near
   * only when it is not the first: many look at the beginning only.
   */
  #announce(index: number, end: number, first: boolean): void {
    let next = index + 1;
    for (let extent = this.#extents[next]; extent; extent = this.#extents[++next]) {
      if (extent.offset + extent.length > end) break;
    }
    const following = this.#extents[next];
    if (!following) return;
    const length = this.#runEnd(next) - following.offset;
    if (length > WINDOW) return;
    if (this.#source.willRead) {
      this.#source.willRead(BigInt(following.offset), BigInt(length));
    } else if (!first) {
      this.#ahead = this.#begin(following.offset, following.offset + length);
      // thrown to the one who asks for it
      this.#ahead.reading.catch(() => {});
    }
  }

  /** End of the run of neighbours that starts with the extent at `index`. */
  #runEnd(index: number): number {
    const first = this.#extents[index];
    if (!first) return 0;
    let end = first.offset + first.length;
    for (let next = index + 1; next < this.#extents.length; next++) {
      const extent = this.#extents[next];
      if (!extent || extent.offset < end || extent.offset - end > MAX_GAP) break;
      if (extent.offset + extent.length - first.offset > WINDOW) break;
      end = extent.offset + extent.length;
    }
    return end;
  }
}
