import { constants } from 'node:fs';
import { lstat, mkdir, open, rmdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError, StorageError, throwIfAborted } from '../errors.ts';
import type { StorageMetrics } from '../metrics/storage.ts';
import { assertKey, assertPrefix } from './keys.ts';
import { errorCode, localError } from './local-errors.ts';
import { listFiles, sweepFolder } from './local-list.ts';
import { etagOf, LocalObject } from './local-object.ts';
import { writeFileAtomically } from './local-write.ts';
import { fileUrl, isBelow, resolvedPath } from './location.ts';
import { once } from './retry.ts';
import { sha256Of } from './sha256.ts';
import type { ObjectInfo, PutBody, PutOptions, PutResult, Storage, StoredObject } from './types.ts';

export type LocalStorageOptions = {
  readonly metrics: StorageMetrics;
  /** Reads of a source are counted. */
  readonly role: 'source' | 'destination';
  /** Folders beside the root that symbolic links may lead into. */
  readonly linkTargets?: readonly string[];
};

const STAYS: ReadonlySet<string> = new Set([
  'ENOTEMPTY',
  'EEXIST',
  'ENOENT',
  'ENOTDIR',
  'EBUSY',
  'EACCES',
  'EPERM',
]);

/**
 * A folder as a store. Writing goes to a temporary name in the target's folder, is flushed to disk and renamed: an
 * object is there complete or not at all. A crash leaves at most temporary files (`sweep`). Symbolic links are followed
 * only where they stay inside the root (or `linkTargets`).
 */
export class LocalStorage implements Storage {
  readonly kind = 'file';
  readonly url: string;
  readonly #root: string;
  readonly #options: LocalStorageOptions;

  constructor(root: string, options: LocalStorageOptions) {
    this.#root = root;
    this.#options = options;
    this.url = fileUrl(root).href.replace(/(?<!\/)\/$/, '');
  }

  async head(key: string, options: { signal?: AbortSignal } = {}): Promise<ObjectInfo | undefined> {
    assertKey(key);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    try {
      const found = await stat(await this.#inside(path, key), { bigint: true });
      return found.isFile() ? { key, size: Number(found.size), etag: etagOf(found) } : undefined;
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ENOTDIR') return undefined;
      throw localError(thrown, 'look up', path);
    }
  }

  async open(key: string, options: { signal?: AbortSignal } = {}): Promise<StoredObject> {
    assertKey(key);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    try {
      const real = await this.#inside(path, key);
      // O_NONBLOCK: opening a FIFO that nobody writes to must not hang
      const handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      try {
        const found = await handle.stat({ bigint: true });
        if (!found.isFile()) {
          throw new StorageError(`expected a regular file, found something else at ${path}`, {
            retryable: false,
            reason: 'other',
          });
        }
        const count = this.#options.role === 'source' ? this.#countRead : undefined;
        return new LocalObject(key, real, handle, found, count);
      } catch (thrown) {
        await handle.close();
        throw thrown;
      }
    } catch (thrown) {
      throw localError(thrown, 'open', path);
    }
  }

  readonly #countRead = (bytes: number): void => {
    this.#options.metrics.bytesRead.inc({ source: 'file' }, bytes);
  };

  async put(key: string, body: PutBody, options: PutOptions = {}): Promise<PutResult> {
    assertKey(key);
    const path = join(this.#root, key);
    return (options.retry ?? once)(async () => {
      throwIfAborted(options.signal);
      try {
        return { key, ...(await this.#write(path, key, body, options)) };
      } catch (thrown) {
        throw localError(thrown, 'write', path);
      }
    });
  }

  /** Somebody who removes the last object of a folder may take the folder away under a write: then it is made anew. */
  async #write(
    path: string,
    key: string,
    body: PutBody,
    options: PutOptions,
    again = true,
  ): ReturnType<typeof writeFileAtomically> {
    try {
      const folder = await this.#folderFor(dirname(path), key);
      return await writeFileAtomically(join(folder, basename(path)), body, options);
    } catch (thrown) {
      if (!again || errorCode(thrown) !== 'ENOENT') throw thrown;
      return this.#write(path, key, body, options, false);
    }
  }

  async *list(
    prefix: string,
    options: { signal?: AbortSignal; depth?: number } = {},
  ): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    const within = [await resolvedPath(this.#root), ...(await this.#linkTargets())];
    yield* listFiles(this.#root, prefix, within, options);
  }

  async remove(key: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    assertKey(key);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    try {
      // the link itself goes, never what it points to
      const folder = await this.#inside(dirname(path), key);
      await unlink(join(folder, basename(path)));
      await this.#pruneFolders(dirname(path));
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ENOTDIR') return;
      throw localError(thrown, 'remove', path);
    }
  }

  /** Folders exist for their objects only: empty ones go, up to the root, which stays. */
  async #pruneFolders(path: string): Promise<void> {
    for (let folder = path; folder.length > this.#root.length; folder = dirname(folder)) {
      try {
        await rmdir(folder);
      } catch (thrown) {
        // not empty, gone already, a link or mount, or not ours to remove
        if (STAYS.has(errorCode(thrown) ?? '')) return;
        throw thrown;
      }
    }
  }

  async sha256(key: string, options: { signal?: AbortSignal } = {}): Promise<string | undefined> {
    if ((await this.head(key, options)) === undefined) return undefined;
    const path = join(this.#root, key);
    try {
      return await sha256Of({ path: await this.#inside(path, key) }, options.signal);
    } catch (thrown) {
      throw localError(thrown, 'read', path);
    }
  }

  async sweep(prefix: string, options: { olderThanMs: number; signal?: AbortSignal }): Promise<number> {
    assertPrefix(prefix);
    return sweepFolder(join(this.#root, prefix), options);
  }

  /** The real path behind `path`; throws `InputError` when a link leads out of the root. */
  async #inside(path: string, key: string): Promise<string> {
    const real = await resolvedPath(path);
    const root = await resolvedPath(this.#root);
    if (isBelow(real, root)) return real;
    for (const allowed of await this.#linkTargets()) if (isBelow(real, allowed)) return real;
    throw new InputError(
      `object key ${JSON.stringify(key)} leads out of ${this.#root} through a symbolic link`,
    );
  }

  #linkTargets(): Promise<string[]> {
    return Promise.all((this.#options.linkTargets ?? []).map((target) => resolvedPath(target)));
  }

  /** Makes the folder of an object and returns its real path. */
  async #folderFor(folder: string, key: string): Promise<string> {
    const real = await this.#inside(folder, key);
    await mkdir(real, { recursive: true });
    // a folder swapped for a link in between is found out here
    if ((await lstat(real)).isSymbolicLink()) return this.#inside(real, key);
    return real;
  }
}
