import type { ByteSource } from './types.ts';

/** A stretch of a file. */
export type Extent = { readonly offset: number; readonly length: number };

/** Neighbours are read together up to this many bytes, across gaps of at most `MAX_GAP`. */
const WINDOW = 4 << 20; // 4 MiB
const MAX_GAP = 64 << 10; // 64 KiB

/**
 * Reads stretches of a file that are asked for in a known order. Small neighbours come with one read of up to
 * 4 MiB, so that tens of thousands of tiny chunks do not cost a request each, and the source is told of the next such
 * read with the one before it, so that it can be under way meanwhile.
 */
export class ExtentReader {
  readonly #source: ByteSource;
  readonly #extents: readonly Extent[];
  #window: { start: number; bytes: Uint8Array } | undefined;

  /** `extents` in the order in which they will be asked for. */
  constructor(source: ByteSource, extents: readonly Extent[]) {
    this.#source = source;
    this.#extents = extents;
  }

  /** The bytes of the extent at `index`; a view of a larger read where neighbours came with it. */
  async read(index: number): Promise<Uint8Array> {
    const wanted = this.#extents[index];
    if (!wanted) throw new RangeError(`no extent ${index}`);
    const held = this.#window;
    if (held && wanted.offset >= held.start) {
      const at = wanted.offset - held.start;
      if (at + wanted.length <= held.bytes.byteLength) return held.bytes.subarray(at, at + wanted.length);
    }
    const end = this.#runEnd(index);
    const reading = this.#source.read(BigInt(wanted.offset), BigInt(end - wanted.offset));
    this.#announce(index, end);
    const bytes = await reading;
    // a window with nothing else in it need not be kept
    this.#window = end > wanted.offset + wanted.length ? { start: wanted.offset, bytes } : undefined;
    return bytes.subarray(0, wanted.length);
  }

  /** Tells the source of the read that follows the one up to `end`, unless it is too large to be held beside it. */
  #announce(index: number, end: number): void {
    let next = index + 1;
    for (let extent = this.#extents[next]; extent; extent = this.#extents[++next]) {
      if (extent.offset + extent.length > end) break;
    }
    const following = this.#extents[next];
    if (!following) return;
    const length = this.#runEnd(next) - following.offset;
    if (length <= WINDOW) this.#source.willRead?.(BigInt(following.offset), BigInt(length));
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
