import { statfs } from 'node:fs/promises';
import { StorageError, toError } from '../errors.ts';

/** A disk with less than this left is full: encoder and table writer both need more for their next write. */
const FULL_BYTES = 64 * 1024;

/**
 * Runs work that fills `folder`. When it fails and the disk is full, that is the reason, whatever the failing program
 * said of it. Another try may find room: other workers share the disk.
 */
export async function onScratch<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const error = toError(thrown);
    if (!(await isFull(folder, error))) throw error;
    throw new StorageError(`the scratch disk is full (${folder}): ${error.message}`, {
      retryable: true,
      reason: 'other',
      cause: error,
    });
  }
}

async function isFull(folder: string, error: Error): Promise<boolean> {
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC' || /no space left on device/i.test(error.message))
    return true;
  if (!['EncodeError', 'Error'].includes(error.name)) return false;
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize < FULL_BYTES;
}
