import { createHash } from 'node:crypto';
import { compareKeys } from './keys.ts';
import type { ObjectInfo } from './types.ts';

/** File names that are recordings, or parts of a rosbag2 folder. */
const RECORDING = /\.(?:mcap|bag|db3)(?:\.zstd?)?$/i;

/** Whether a name looks like a recording: `.mcap` `.bag` `.db3`, each also with `.zst` or `.zstd`. */
export function isRecordingName(name: string): boolean {
  return RECORDING.test(name);
}

/** Name of the index that makes a folder a rosbag2 recording. */
export const ROSBAG2_INDEX = 'metadata.yaml';

/**
 * Size and version of a folder as one: the sum of its files, and a digest of their names (relative to the folder),
 * sizes and versions.
 */
export function versionOfFolder(files: readonly ObjectInfo[]): { size: number; etag: string } {
  const hash = createHash('sha256');
  let size = 0;
  for (const file of files.toSorted((a, b) => compareKeys(a.key, b.key))) {
    hash.update(`${file.key}\0${file.size}\0${file.etag}\n`);
    size += file.size;
  }
  return { size, etag: `folder-${hash.digest('hex').slice(0, 32)}` };
}
