import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { StorageError } from '../errors.ts';
import { localError } from './local-errors.ts';
import { etagOf } from './local-object.ts';
import type { PutBody } from './types.ts';

/** A body that is read in pieces at any position; files are pinned to the version they had when opened. */
export class SeekableBody {
  readonly size: number;
  readonly #body: PutBody;
  readonly #file: { readonly handle: FileHandle; readonly path: string; readonly etag: string } | undefined;

  private constructor(
    body: PutBody,
    size: number,
    file?: { handle: FileHandle; path: string; etag: string },
  ) {
    this.size = size;
    this.#body = body;
    this.#file = file;
  }

  /** Opens the body; close it afterwards. */
  static async open(body: PutBody): Promise<SeekableBody> {
    if ('bytes' in body) return new SeekableBody(body, body.bytes.length);
    try {
      const handle = await open(body.path, 'r');
      const stats = await handle.stat({ bigint: true });
      return new SeekableBody(body, Number(stats.size), { handle, path: body.path, etag: etagOf(stats) });
    } catch (thrown) {
      throw localError(thrown, 'open', body.path);
    }
  }

  /** The bytes `[start, end)`. Throws `StorageError` when the file is not the one that was opened any more. */
  async read(start: number, end: number): Promise<Uint8Array> {
    if ('bytes' in this.#body) return this.#body.bytes.subarray(start, end);
    const file = this.#file;
    if (file === undefined) throw new Error('body without file');
    const buffer = Buffer.allocUnsafeSlow(end - start);
    try {
      let filled = 0;
      while (filled < buffer.length) {
        const { bytesRead } = await file.handle.read(buffer, filled, buffer.length - filled, start + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      const now = etagOf(await file.handle.stat({ bigint: true }));
      if (filled === buffer.length && now === file.etag) return buffer;
    } catch (thrown) {
      throw localError(thrown, 'read', file.path);
    }
    throw new StorageError(`${file.path} changed while it was being sent`, {
      retryable: false,
      reason: 'other',
    });
  }

  /** sha256 (hex) of all of it, read a MiB at a time. */
  async sha256(): Promise<string> {
    const hash = createHash('sha256');
    for (let at = 0; at < this.size; at += 1_048_576) {
      hash.update(await this.read(at, Math.min(this.size, at + 1_048_576)));
    }
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.#file?.handle.close();
  }
}
