import { createHash } from 'node:crypto';
import { link, open, rename, stat, utimes, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '../errors.ts';
import { withReleasers } from '../releasers.ts';
import type { OpenedFolder } from './boundary.ts';
import { lockFile, unlinkIfThere } from './file-lock.ts';
import { TEMPORARY_PREFIX } from './keys.ts';
import { errorCode } from './local-errors.ts';
import { etagOf } from './local-object.ts';
import { uniqueOwnerName } from './owner.ts';
import { piecesOf } from './sha256.ts';
import type { PutBody, PutOptions } from './types.ts';

/** How file systems say that they know no hard links. */
const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Writes `body` to `name` in an open folder so that others see the old content, nothing, or all of the new: temporary
 * file beside it, flush to disk, then rename (`ifAbsent`: a hard link, which never replaces; `ifMatch`, and `ifAbsent` where there are no hard links: under
 * a lock of the object). Modification times of one path only grow, so every version has its own etag.
 */
export async function writeFileAtomically(
  folder: OpenedFolder,
  name: string,
  body: PutBody,
  options: PutOptions,
): Promise<{ size: number; etag: string; sha256: string }> {
  const path = folder.at(name);
  const shown = join(folder.real, name);
  const temporary = folder.at(TEMPORARY_PREFIX + uniqueOwnerName());
  return withReleasers(async (release) => {
    const hash = createHash('sha256');
    const file = await open(temporary, 'wx');
    release(() => unlinkIfThere(temporary));
    let size = 0;
    try {
      for await (const piece of piecesOf(body, options.signal)) {
        hash.update(piece);
        await writeAll(file, piece);
        size += piece.length;
        options.onProgress?.(size);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (options.ifMatch !== undefined) {
      const lock = await lockFile(folder.at(lockName(name)), options.signal);
      release(() => lock.release());
      await assertVersion(path, shown, options.ifMatch);
    }
    await makeNewer(temporary, path);
    const written = await stat(temporary, { bigint: true });
    if (options.ifAbsent && !(await linkAbsent(temporary, path, shown))) {
      // a file system without hard links
      const lock = await lockFile(folder.at(lockName(name)), options.signal);
      release(() => lock.release());
      if ((await versionOf(path)) !== undefined) throw occupied(shown);
      await rename(temporary, path);
    } else if (!options.ifAbsent) await rename(temporary, path);
    await syncFolder(folder.handle);
    return { size, etag: etagOf(written), sha256: hash.digest('hex') };
  });
}

async function writeAll(file: Awaited<ReturnType<typeof open>>, piece: Uint8Array): Promise<void> {
  let done = 0;
  while (done < piece.length) {
    const { bytesWritten } = await file.write(piece, done, piece.length - done);
    done += bytesWritten;
  }
}

async function assertVersion(path: string, shown: string, expected: string): Promise<void> {
  const found = await versionOf(path);
  if (found === expected) return;
  throw new StorageError(
    `expected version ${expected} of ${shown}, found ${found ?? 'no such object'}: somebody else wrote it`,
    { retryable: false, reason: 'other' },
  );
}

async function versionOf(path: string): Promise<string | undefined> {
  try {
    return etagOf(await stat(path, { bigint: true }));
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

/** Clocks of file systems tick coarsely: two versions written within a tick would look the same. */
async function makeNewer(temporary: string, path: string): Promise<void> {
  const mine = await stat(temporary, { bigint: true });
  let theirs;
  try {
    theirs = await stat(path, { bigint: true });
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return;
    throw thrown;
  }
  if (mine.mtimeNs > theirs.mtimeNs) return;
  // 10 µs: well above what a double of seconds can tell apart
  const seconds = Number(theirs.mtimeNs / 1_000n + 10n) / 1e6;
  await utimes(temporary, seconds, seconds);
}

/** Gives a file its name unless that is taken; false where the file system knows no hard links. */
async function linkAbsent(temporary: string, path: string, shown: string): Promise<boolean> {
  try {
    await link(temporary, path);
    return true;
  } catch (thrown) {
    const code = errorCode(thrown) ?? '';
    if (NO_LINKS.has(code)) return false;
    if (code !== 'EEXIST') throw thrown;
    throw occupied(shown, thrown);
  }
}

function occupied(shown: string, cause?: unknown): StorageError {
  return new StorageError(`expected no object at ${shown}, found one: somebody else wrote it`, {
    retryable: false,
    reason: 'other',
    cause,
  });
}

/** The lock of conditional writes of one object. */
function lockName(name: string): string {
  return `${TEMPORARY_PREFIX}lock.${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
}

/** Makes a rename durable; file systems that cannot flush folders are left to their own ways. */
async function syncFolder(folder: FileHandle): Promise<void> {
  try {
    await folder.sync();
  } catch (thrown) {
    const code = errorCode(thrown);
    if (code !== 'EINVAL' && code !== 'ENOTSUP' && code !== 'EISDIR') throw thrown;
  }
}
