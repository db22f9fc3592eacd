import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { hex } from './image-format.ts';
import { openMcap } from './mcap.ts';
import type { OpenOptions } from './mcap.ts';
import type { Recording, RecordingFile, RecordingFiles } from './types.ts';

/** Starts of files by which they are known, whatever their names say. */
const MAGIC: readonly { readonly kind: string; readonly bytes: readonly number[]; readonly at?: number }[] = [
  { kind: 'mcap', bytes: [0x89, 0x4d, 0x43, 0x41, 0x50, 0x30, 0x0d, 0x0a] },
  { kind: 'bag', bytes: ascii('#ROSBAG V2.0\n') },
  { kind: 'db3', bytes: ascii('SQLite format 3\0') },
  { kind: 'zstd', bytes: [0x28, 0xb5, 0x2f, 0xfd] },
  { kind: 'an MCAP file of another version', bytes: [0x89, 0x4d, 0x43, 0x41, 0x50] },
  { kind: 'a ROS bag of another version than 2.0', bytes: ascii('#ROSBAG V') },
  { kind: 'a gzip file', bytes: [0x1f, 0x8b] },
  { kind: 'a zip file', bytes: ascii('PK\x03\x04') },
  { kind: 'an HDF5 file', bytes: [0x89, ...ascii('HDF\r\n')] },
  { kind: 'a Parquet file', bytes: ascii('PAR1') },
  { kind: 'an MP4 file', bytes: ascii('ftyp'), at: 4 },
];

const LONGEST_MAGIC = 16;

/**
 * Opens a recording; its container is told by its first bytes, never by its name. Throws `InputError` when it is
 * none, or damaged under `recover: false`. The caller closes the recording.
 */
export async function openRecording(files: RecordingFiles, options: OpenOptions = {}): Promise<Recording> {
  const [only] = files.files;
  if (files.folder || only === undefined || files.files.length > 1) {
    throw new InputError(
      `${files.name}: expected one recording file, found ${files.files.length} in a folder`,
    );
  }
  const file = await files.open(only);
  try {
    return await openFile(file, options);
  } catch (thrown) {
    await file.close();
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`${files.name}: ${thrown.message}`, { cause: thrown });
  }
}

async function openFile(file: RecordingFile, options: OpenOptions): Promise<Recording> {
  const kind = await kindOf(file);
  if (kind === 'mcap') return openMcap(file, options);
  throw new InputError(`expected an MCAP file, a ROS bag or a rosbag2 database, found ${kind}`);
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
