import { constants, copyFile, mkdtemp, open, rm, symlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { throwIfAborted } from '../errors.ts';
import type { RecordingFile } from './types.ts';

/** Bytes copied at once. */
const PIECE = 4 << 20; // 4 MiB

/** A file of our own in a folder of our own, removed when it is closed. */
export type SpooledFile = RecordingFile & { readonly path: string };

/** Where spooled files go; default the system's folder for temporary files. */
export type SpoolOptions = {
  readonly scratch?: string | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Makes a folder for one spooled file and fills it; the folder is removed again when that fails. */
export async function spool(
  options: SpoolOptions,
  fill: (path: string) => Promise<void>,
): Promise<SpooledFile> {
  const folder = await mkdtemp(join(options.scratch ?? tmpdir(), 'recording-'));
  try {
    const path = join(folder, 'data');
    await fill(path);
    return await openSpooled(path, folder);
  } catch (thrown) {
    await rm(folder, { recursive: true, force: true });
    throw thrown;
  }
}

/** A file of our own that stands for `file`: a link where it lies on this machine, else a copy of its bytes. */
export async function spoolLink(file: RecordingFile, options: SpoolOptions): Promise<SpooledFile> {
  return spool(options, async (path) => {
    if (file.path === undefined) await copyBytes(file, path, options.signal);
    else await symlink(resolve(file.path), path);
  });
}

/** A copy of `file` that may be changed. */
export async function spoolCopy(file: RecordingFile, options: SpoolOptions): Promise<SpooledFile> {
  return spool(options, async (path) => {
    if (file.path === undefined) await copyBytes(file, path, options.signal);
    else await copyFile(file.path, path, constants.COPYFILE_FICLONE);
  });
}

async function copyBytes(file: RecordingFile, path: string, signal: AbortSignal | undefined): Promise<void> {
  const target = await open(path, 'wx', 0o600);
  try {
    for await (const piece of piecesOf(file, PIECE, signal)) await target.writeFile(piece);
  } finally {
    await target.close();
  }
}

/** The bytes of a file from front to back, `length` at a time. */
export async function* piecesOf(
  file: RecordingFile,
  length: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const size = await file.size();
  for (let at = 0n; at < size; at += BigInt(length)) {
    throwIfAborted(signal);
    yield file.read(at, size - at < length ? size - at : BigInt(length));
  }
}

async function openSpooled(path: string, folder: string): Promise<SpooledFile> {
  const handle = await open(path);
  const { size } = await handle.stat();
  return {
    path,
    size: async () => BigInt(size),
    read: (offset, length, into) => readExactly(handle, Number(offset), Number(length), into),
    close: async () => {
      await handle.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function readExactly(
  handle: FileHandle,
  offset: number,
  length: number,
  into: Uint8Array = new Uint8Array(length),
): Promise<Uint8Array> {
  const bytes = into.subarray(0, length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw new RangeError(`expected ${length} bytes at byte ${offset} of a spooled file`);
    done += bytesRead;
  }
  return bytes;
}
