import { InputError } from '../errors.ts';
import type { ByteSource } from './types.ts';

/** Bytes read at once while walking through a file. */
const WINDOW = 256 << 10; // 256 KiB

/** Walks through a file from front to back with few reads; what is jumped over is not read. */
export class Window {
  readonly size: number;
  readonly #source: ByteSource;
  #start = 0;
  #bytes: Uint8Array = new Uint8Array(0);

  private constructor(source: ByteSource, size: number) {
    this.#source = source;
    this.size = size;
  }

  static async over(source: ByteSource): Promise<Window> {
    const size = await source.size();
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new InputError(`a file of ${size} bytes is too large`);
    return new Window(source, Number(size));
  }

  /** The bytes at `offset` when they are held already; undefined otherwise. */
  held(offset: number, length: number): Uint8Array | undefined {
    const at = offset - this.#start;
    if (at < 0 || at + length > this.#bytes.byteLength) return undefined;
    return this.#bytes.subarray(at, at + length);
  }

  /** The bytes at `offset`, which must lie inside the file. */
  async at(offset: number, length: number): Promise<Uint8Array> {
    const held = this.held(offset, length);
    if (held) return held;
    if (offset < 0 || offset + length > this.size) {
      throw new InputError(`expected ${length} bytes at byte ${offset}, found a file of ${this.size} bytes`);
    }
    const wanted = Math.min(Math.max(length, WINDOW), this.size - offset);
    this.#bytes = await this.#source.read(BigInt(offset), BigInt(wanted));
    this.#start = offset;
    return this.#bytes.subarray(0, length);
  }
}
