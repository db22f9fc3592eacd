/** Smallest request, bytes. */
const MIN_WINDOW = 131_072; // 128 KiB
/** Largest request made ahead of a reader, bytes. */
const MAX_WINDOW = 4_194_304; // 4 MiB
/** A read that starts so close behind an earlier one continues it, bytes. */
const MAX_GAP = 262_144; // 256 KiB
/** Bytes kept of one object. */
const MAX_KEPT = 16_777_216; // 16 MiB
/** Reads from this size on are requested as they are, bytes. */
const LARGE = 524_288; // 512 KiB
/** A result shares the memory of a request that is at most so many times its size. */
const MAX_SHARE = 4;

type Segment = {
  readonly start: number;
  readonly end: number;
  /** Size of the request after this one, when reading goes on. */
  readonly nextWindow: number;
  readonly data: Promise<Uint8Array>;
};

/**
 * Turns many small reads into few large requests. A read that continues an earlier one makes the window double, up to
 * 4 MiB, and the next window is requested before it is needed; a read elsewhere costs one request of its own size
 * (at least 128 KiB). Several places may be read forward at once. Memory is bounded: 16 MiB, or what one read needs.
 *
 * A large read is one request of just that range, whose bytes are handed over without a copy and not kept: every byte
 * that passes through costs garbage collection. The range after it is requested already when it was announced, or when
 * nothing is ever announced and large reads follow each other.
 */
export class ReadAhead {
  readonly #size: number;
  readonly #fetch: (start: number, end: number) => Promise<Uint8Array>;
  /** Least recently used first. */
  #segments: Segment[] = [];
  /** Requests that have not ended, also those of segments that are not kept any more. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closed = false;
  /** Where the last large read ended, and whether the reader tells what it will read. */
  #largeEnd = -1;
  #announced = false;

  /** `fetch` gives the bytes `[start, end)` of an object of `size` bytes. */
  constructor(size: number, fetch: (start: number, end: number) => Promise<Uint8Array>) {
    this.#size = size;
    this.#fetch = fetch;
  }

  /**
   * Bytes `[offset, offset + length)`, which must lie within the object. They may be kept, not changed: they may be part
   * of a larger buffer, of at most `MAX_SHARE` times their length.
   */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#closed) throw new Error('read after close');
    const end = offset + length;
    if (length >= LARGE) {
      const exact = await this.#large(offset, end);
      if (exact !== undefined) return exact;
    }
    let result: Uint8Array | undefined;
    let position = offset;
    while (position < end) {
      const segment = this.#covering(position) ?? this.#request(position, end);
      const data = await this.#dataOf(segment);
      const upTo = Math.min(end, segment.end);
      const found = data.subarray(position - segment.start, upTo - segment.start);
      if (found.length === length && length * MAX_SHARE >= data.length) result = found;
      else (result ??= Buffer.allocUnsafe(length)).set(found, position - offset);
      position = upTo;
      this.#prefetch(segment, position);
    }
    return result ?? new Uint8Array();
  }

  /** Requests a large range that will be read next, unless something of it is on its way. */
  willRead(offset: number, length: number): void {
    this.#announced = true;
    if (!this.#closed && length >= LARGE && !this.#touches(offset, offset + length)) {
      this.#start(offset, offset + length, MIN_WINDOW);
    }
  }

  /** The range by a request of its own; undefined when a part of it came with another request. */
  async #large(start: number, end: number): Promise<Uint8Array | undefined> {
    const known = this.#segments.find((segment) => segment.start === start && segment.end === end);
    if (known === undefined && this.#touches(start, end)) return undefined;
    const segment = known ?? this.#start(start, end, MIN_WINDOW);
    const goesOn = start === this.#largeEnd;
    this.#largeEnd = end;
    const next = Math.min(this.#size, end + Math.min(end - start, MAX_WINDOW));
    if (goesOn && !this.#announced && next - end >= LARGE && !this.#touches(end, next)) {
      this.#start(end, next, MIN_WINDOW);
    }
    const data = await this.#dataOf(segment);
    this.#segments = this.#segments.filter((other) => other !== segment);
    return data;
  }

  /** Whether bytes of a range are here or on their way. */
  #touches(from: number, to: number): boolean {
    return this.#segments.some(({ start, end }) => start < to && from < end);
  }

  /** Waits for requests under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#underWay);
    this.#segments = [];
  }

  #covering(position: number): Segment | undefined {
    const found = this.#segments.find(({ start, end }) => start <= position && position < end);
    if (found !== undefined) this.#touch(found);
    return found;
  }

  #touch(segment: Segment): void {
    this.#segments = [...this.#segments.filter((other) => other !== segment), segment];
  }

  async #dataOf(segment: Segment): Promise<Uint8Array> {
    try {
      return await segment.data;
    } catch (thrown) {
      // a failed request must not answer later reads
      this.#segments = this.#segments.filter((other) => other !== segment);
      throw thrown;
    }
  }

  #request(position: number, end: number): Segment {
    const before = this.#segments.findLast(
      (segment) => segment.end <= position && position - segment.end <= MAX_GAP,
    );
    const window = before?.nextWindow ?? MIN_WINDOW;
    return this.#start(position, Math.max(end, position + window), window);
  }

  #start(start: number, wantedEnd: number, window: number): Segment {
    let end = Math.min(this.#size, wantedEnd);
    // never fetch again what is there already
    for (const segment of this.#segments)
      if (segment.start > start && segment.start < end) end = segment.start;
    const data = this.#fetch(start, end);
    const over = () => void this.#underWay.delete(data);
    data.then(over, over); // a failure is thrown to whoever needs the bytes
    this.#underWay.add(data);
    const segment = { start, end, nextWindow: Math.min(MAX_WINDOW, window * 2), data };
    this.#segments.push(segment);
    this.#evict();
    return segment;
  }

  /** Requests what follows `segment` once reading forward has reached its second half. */
  #prefetch(segment: Segment, position: number): void {
    if (this.#closed || segment.end >= this.#size || segment.nextWindow <= 2 * MIN_WINDOW) return;
    if (position - segment.start < (segment.end - segment.start) / 2) return;
    if (this.#segments.some(({ start, end }) => start <= segment.end && segment.end < end)) return;
    this.#start(segment.end, segment.end + segment.nextWindow, segment.nextWindow);
  }

  #evict(): void {
    let kept = 0;
    this.#segments = this.#segments
      .toReversed()
      .filter(({ start, end }, index) => index === 0 || (kept += end - start) <= MAX_KEPT)
      .toReversed();
  }
}
