import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { InputError } from '../errors.ts';
import type { ByteReader } from './mp4.ts';

/** Opens a file of this machine for ranged reads; reading past its end is an `InputError`. */
export async function openLocalFile(path: string): Promise<ByteReader & { close(): Promise<void> }> {
  const handle = await open(path, 'r');
  return {
    size: async () => (await handle.stat({ bigint: true })).size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(Number(length));
      for (let done = 0; done < bytes.length;) {
        const { bytesRead } = await handle.read(bytes, done, bytes.length - done, Number(offset) + done);
        if (bytesRead === 0) {
          throw new InputError(
            `${path}: expected ${length} bytes at ${offset}, the file ends ${bytes.length - done} bytes early`,
          );
        }
        done += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

/** Length and SHA-256 (hex) of a file. */
export async function hashFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: hash.digest('hex') };
}
