import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { hex } from './image-format.ts';
import type { OpenOptions } from './open-options.ts';
import type { Loss, Recording, RecordingFile } from './types.ts';

/** Starts of files by which they are known, whatever their names say. */
const MAGIC: readonly { readonly kind: string; readonly bytes: readonly number[]; readonly at?: number }[] = [
  { kind: 'mcap', bytes: [0x89, 0x4d, 0x43, 0x41, 0x50, 0x30, 0x0d, 0x0a] },
  { kind: 'bag', bytes: ascii('#ROSBAG V2.0\n') },
  { kind: 'db3', bytes: ascii('SQLite format 3\0') },
  { kind: 'zstd', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { kind: 'an MCAP file of another version', bytes: [0x89, 0x4d, 0x43, 0x41, 0x50] },
  { kind: 'a ROS bag of another version than 2.0', bytes: ascii('#ROSBAG V') },
  { kind: 'the metadata.yaml of a rosbag2 folder: give the folder', bytes: ascii('rosbag2_bagfile_') },
  { kind: 'a gzip file', bytes: [0x1f, 0x8b] },
  { kind: 'a bzip2 file', bytes: ascii('BZh') },
  { kind: 'an lz4 file', bytes: [0x04, 0x22, 0x4d, 0x18] },
  { kind: 'a zip file', bytes: ascii('PK\x03\x04') },
  { kind: 'an HDF5 file', bytes: [0x89, ...ascii('HDF\r\n')] },
  { kind: 'a Parquet file', bytes: ascii('PAR1') },
  { kind: 'an MP4 file', bytes: ascii('ftyp'), at: 4 },
];

const LONGEST_MAGIC = 16;

/** A file that was opened, and what was lost on the way to it. */
export type OpenedFile = { readonly recording: Recording; readonly losses: readonly Loss[] };

/**
 * Opens one file by its first bytes; one that is compressed as a whole (zstd) is expanded first. Throws `InputError`
 * when it is no recording. `file` is closed by the recording, or here when opening fails; `wal`, the log that lies
 * beside a database, stays the caller's.
 */
export async function openFile(
  file: RecordingFile,
  options: OpenOptions,
  wal?: RecordingFile,
): Promise<OpenedFile> {
  try {
    const kind = await kindOf(file);
    if (kind !== 'zstd') return { recording: await openKind(kind, file, options, wal), losses: [] };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
  const expanded = await expand(file, options);
  try {
    const recording = await openKind(await kindOf(expanded.file), expanded.file, options);
    return { recording, losses: expanded.losses };
  } catch (thrown) {
    await expanded.file.close();
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`inside its zstd compression: ${thrown.message}`, { cause: thrown });
  }
}

async function expand(
  file: RecordingFile,
  options: OpenOptions,
): Promise<{ file: RecordingFile; losses: Loss[] }> {
  try {
    const { expandZstd } = await import('./zstd.ts');
    return await expandZstd(file, { ...options, recover: options.recover ?? true });
  } finally {
    await file.close();
  }
}

/** Each reader is loaded when a file is of its kind: together they are a fifth of a second. */
async function openKind(
  kind: string,
  file: RecordingFile,
  options: OpenOptions,
  wal?: RecordingFile,
): Promise<Recording> {
  if (kind === 'mcap') return (await import('./mcap.ts')).openMcap(file, options);
  if (kind === 'bag') return (await import('./rosbag1.ts')).openRosbag1(file, options);
  if (kind === 'db3') return (await import('./db3.ts')).openDb3(file, options, wal);
  const found = kind === 'zstd' ? 'another zstd file' : kind;
  throw new InputError(`expected an MCAP file, a ROS bag or a rosbag2 database, found ${found}`);
}

async function kindOf(file: RecordingFile): Promise<string> {
  const size = await file.size();
  if (size === 0n) return 'an empty file';
  const start = await file.read(0n, size < LONGEST_MAGIC ? size : BigInt(LONGEST_MAGIC));
  const known = MAGIC.find(({ bytes, at = 0 }) => bytes.every((byte, index) => start[at + index] === byte));
  if (known) return known.kind;
  if (start.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127))) {
    return `text ('${printable(new TextDecoder().decode(start))}')`;
  }
  return `a file that starts with ${hex(start, 8)}`;
}

function ascii(text: string): number[] {
  return Array.from(text, (letter) => letter.charCodeAt(0));
}
