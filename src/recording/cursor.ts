import { InputError } from '../errors.ts';

const utf8 = new TextDecoder('utf-8');

/**
 * Reads little-endian values of a record one after the other. `what` names the record in errors:
 * a read past its end is an `InputError` that says what was expected and how many bytes were left.
 */
export class Cursor {
  offset = 0;
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;

  constructor(bytes: Uint8Array, what: string) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get remaining(): number {
    return this.bytes.byteLength - this.offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1, 'a byte'));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2, 'a 16-bit number'), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4, 'a 32-bit number'), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8, 'a 64-bit number'), true);
  }

  /** A 64-bit length or offset; beyond 2^53 it cannot be true of a file. */
  size(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new InputError(`${this.#what}: a length or offset of ${value} bytes is beyond any file`);
    }
    return Number(value);
  }

  /** A view of the next `length` bytes (no copy). */
  take(length: number): Uint8Array {
    const start = this.#take(length, `${length} bytes`);
    return this.bytes.subarray(start, start + length);
  }

  /** UTF-8 text with a 32-bit length in front. */
  string(): string {
    return utf8.decode(this.take(this.u32()));
  }

  /** Text to text, with the length of the whole in bytes in front. */
  stringMap(): Map<string, string> {
    const inner = new Cursor(this.take(this.u32()), this.#what);
    const map = new Map<string, string>();
    while (inner.remaining > 0) {
      const key = inner.string();
      map.set(key, inner.string());
    }
    return map;
  }

  #take(length: number, expected: string): number {
    const start = this.offset;
    if (length > this.bytes.byteLength - start) {
      throw new InputError(
        `${this.#what}: expected ${expected} at its byte ${start}, found ${this.bytes.byteLength - start} bytes left`,
      );
    }
    this.offset = start + length;
    return start;
  }
}

/** What was thrown, an `InputError` with where it lies in front. */
export function placed(thrown: unknown, where: string): unknown {
  return thrown instanceof InputError
    ? new InputError(`${where}: ${thrown.message}`, { cause: thrown })
    : thrown;
}
