import { fstatSync, type BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { StorageError } from '../errors.ts';
import { localError } from './local-errors.ts';
import type { ObjectInfo, StoredObject } from './types.ts';

/** The version of a file: its size and modification time in ns. */
export function etagOf(stats: BigIntStats): string {
  return `${stats.size.toString(16)}-${stats.mtimeNs.toString(16)}`;
}

/** An open file, pinned to the size and modification time it had. */
export class LocalObject implements StoredObject {
  readonly info: ObjectInfo;
  readonly #path: string;
  readonly #otherPath: string;
  readonly #handle: FileHandle;
  readonly #count: ((bytes: number) => void) | undefined;
  readonly #size: bigint;
  #pathTaken = false;

  /** `path` is for messages, `otherPath` for who reads the file by other means. */
  constructor(
    key: string,
    path: string,
    handle: FileHandle,
    stats: BigIntStats,
    count: ((bytes: number) => void) | undefined,
    otherPath = path,
  ) {
    this.info = { key, size: Number(stats.size), etag: etagOf(stats) };
    this.#path = path;
    this.#otherPath = otherPath;
    this.#handle = handle;
    this.#count = count;
    this.#size = stats.size;
  }

  /** Who takes the path reads the file by other means: that counts once, as all of its bytes. */
  get path(): string {
    if (!this.#pathTaken) this.#count?.(Number(this.#size));
    this.#pathTaken = true;
    return this.#otherPath;
  }

  async size(): Promise<bigint> {
    return this.#size;
  }

  async read(offset: bigint, length: bigint, into?: Uint8Array): Promise<Uint8Array> {
    assertRange(this.#path, this.#size, offset, length);
    const buffer = into?.subarray(0, Number(length)) ?? Buffer.allocUnsafe(Number(length));
    try {
      let filled = 0;
      while (filled < buffer.length) {
        const { bytesRead } = await this.#handle.read(
          buffer,
          filled,
          buffer.length - filled,
          Number(offset) + filled,
        );
        if (bytesRead === 0) throw this.#changed();
        filled += bytesRead;
        this.#count?.(bytesRead);
      }
      // microseconds, where the thread pool takes a hundred
      const now = fstatSync(this.#handle.fd, { bigint: true });
      if (etagOf(now) !== this.info.etag) throw this.#changed();
      return buffer;
    } catch (thrown) {
      throw localError(thrown, 'read', this.#path);
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #changed(): StorageError {
    return new StorageError(`${this.#path} changed while it was being read`, {
      retryable: true,
      reason: 'other',
    });
  }
}

/** Throws `StorageError` when `[offset, offset + length)` leaves an object of `size` bytes. */
export function assertRange(name: string, size: bigint, offset: bigint, length: bigint): void {
  if (offset >= 0n && length >= 0n && offset + length <= size) return;
  throw new StorageError(`expected a range within the ${size} bytes of ${name}, found ${offset}+${length}`, {
    retryable: false,
    reason: 'other',
  });
}
