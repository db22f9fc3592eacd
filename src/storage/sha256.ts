import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { StorageError, throwIfAborted } from '../errors.ts';
import { localError } from './local-errors.ts';
import { etagOf } from './local-object.ts';
import type { PutBody } from './types.ts';

/** Bytes taken from a file at a time. */
const PIECE = 1_048_576; // 1 MiB

/**
 * The bytes of a body in pieces of at most 1 MiB; the buffer of a piece is reused for the next one. A file that is not
 * the same after the last piece as before the first is a `StorageError`.
 */
export async function* piecesOf(body: PutBody, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if ('bytes' in body) {
    if (body.bytes.length > 0) yield body.bytes;
    return;
  }
  const file = await open(body.path, 'r');
  try {
    const before = await file.stat({ bigint: true });
    const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(PIECE, Number(before.size))));
    let position = 0;
    for (;;) {
      throwIfAborted(signal);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    const after = await file.stat({ bigint: true });
    if (etagOf(after) !== etagOf(before) || BigInt(position) !== before.size) {
      throw new StorageError(`${body.path} changed while it was being sent`, {
        retryable: false,
        reason: 'other',
      });
    }
  } finally {
    await file.close();
  }
}

/** Bytes in a body; a file that cannot be looked up is a `StorageError`. */
export async function bodySize(body: PutBody): Promise<number> {
  if ('bytes' in body) return body.bytes.length;
  try {
    return (await stat(body.path)).size;
  } catch (thrown) {
    throw localError(thrown, 'look up', body.path);
  }
}

/** sha256 (hex) of a file, or of bytes. */
export async function sha256Of(body: PutBody, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of piecesOf(body, signal)) hash.update(piece);
  return hash.digest('hex');
}
