import { open } from 'node:fs/promises';
import { throwIfAborted } from '../errors.ts';
import type { DatasetFiles } from './types.ts';

const COPY_BYTES = 4n << 20n;

/** Copies a stored file to this machine in pieces. */
export async function copyToLocal(
  files: DatasetFiles,
  path: string,
  to: string,
  signal: AbortSignal,
): Promise<void> {
  const source = await files.open(path);
  try {
    const out = await open(to, 'w');
    try {
      const size = await source.size();
      for (let at = 0n; at < size; at += COPY_BYTES) {
        throwIfAborted(signal);
        await out.appendFile(await source.read(at, size - at < COPY_BYTES ? size - at : COPY_BYTES));
      }
    } finally {
      await out.close();
    }
  } finally {
    await source.close();
  }
}
