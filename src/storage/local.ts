import { rmdir, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { StorageError, throwIfAborted } from '../errors.ts';
import type { StorageMetrics } from '../metrics/storage.ts';
import { Boundary, type OpenedFolder, pinnedPath } from './boundary.ts';
import { assertKey, assertPrefix } from './keys.ts';
import { errorCode, localError } from './local-errors.ts';
import { listFiles, sweepFolder } from './local-list.ts';
import { etagOf, LocalObject } from './local-object.ts';
import { writeFileAtomically } from './local-write.ts';
import { fileUrl } from './location.ts';
import { once } from './retry.ts';
import { sha256Of } from './sha256.ts';
import type { ObjectInfo, PutBody, PutOptions, PutResult, Storage, StoredObject } from './types.ts';

export type LocalStorageOptions = {
  readonly metrics: StorageMetrics;
  /** Reads of a source are counted. */
  readonly role: 'source' | 'destination';
  /** Folders beside the root that symbolic links may lead into. */
  readonly linkTargets?: readonly string[];
  /** Where everything must really lie (URLs or absolute paths); none or empty: anywhere. */
  readonly roots?: readonly string[];
};

/** How often the folder of an object is made anew under a write. */
const FOLDER_TRIES = 20;

const STAYS: ReadonlySet<string> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EBUSY', 'EACCES', 'EPERM']);

/**
 * A folder as a store. Writing goes to a temporary name in the target's folder, is flushed to disk and renamed: an
 * object is there complete or not at all. A crash leaves at most temporary files (`sweep`). Symbolic links are followed
 * only where they stay inside the root (or `linkTargets`) and inside `roots`; see `Boundary`.
 */
export class LocalStorage implements Storage {
  readonly kind = 'file';
  readonly url: string;
  readonly #root: string;
  readonly #options: LocalStorageOptions;
  readonly #boundary: Boundary;

  constructor(root: string, options: LocalStorageOptions) {
    this.#root = root;
    this.#boundary = new Boundary(root, options.linkTargets, options.roots);
    this.#options = options;
    this.url = fileUrl(root).href.replace(/(?<!\/)\/$/, '');
  }

  async head(key: string, options: { signal?: AbortSignal } = {}): Promise<ObjectInfo | undefined> {
    assertKey(key);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    try {
      const found = await stat(await this.#boundary.realPath(path, key), { bigint: true });
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
      const { handle, real } = await this.#boundary.openFile(path, key);
      try {
        const found = await handle.stat({ bigint: true });
        if (!found.isFile()) {
          throw new StorageError(`expected a regular file, found something else at ${path}`, {
            retryable: false,
            reason: 'other',
          });
        }
        const count = this.#options.role === 'source' ? this.#countRead : undefined;
        // by name it might be another file by then; programs that are started cannot open it so, and nobody gives them sources
        const pinned = (this.#options.roots ?? []).length > 0;
        return new LocalObject(key, real, handle, found, count, pinned ? pinnedPath(handle, real) : real);
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

  /** Whoever removes the last object of a folder may take the folder away under a write: then it is made anew. */
  async #write(
    path: string,
    key: string,
    body: PutBody,
    options: PutOptions,
    again = FOLDER_TRIES,
  ): ReturnType<typeof writeFileAtomically> {
    try {
      const folder = await this.#boundary.openFolder(dirname(path), key, true);
      try {
        return await writeFileAtomically(folder, basename(path), body, options);
      } finally {
        await folder.close();
      }
    } catch (thrown) {
      if (again === 0 || errorCode(thrown) !== 'ENOENT') throw thrown;
      return this.#write(path, key, body, options, again - 1);
    }
  }

  async *list(
    prefix: string,
    options: { signal?: AbortSignal; depth?: number } = {},
  ): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    const { covers } = await this.#boundary.places();
    yield* listFiles(this.#root, prefix, covers, options);
  }

  async remove(key: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    assertKey(key);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    try {
      // the link itself goes, never what it points to
      await this.#within(dirname(path), key, (folder) => unlink(folder.at(basename(path)))).catch(
        (thrown: unknown) => {
          // a write that was stopped half-way leaves its folders only
          if (errorCode(thrown) !== 'ENOENT') throw thrown;
        },
      );
      await this.#pruneFolders(dirname(path), key);
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOTDIR') return;
      throw localError(thrown, 'remove', path);
    }
  }

  /** Folders exist for their objects only: empty ones go, up to the root, which stays. */
  async #pruneFolders(path: string, key: string): Promise<void> {
    for (let folder = path; folder.length > this.#root.length; folder = dirname(folder)) {
      const name = basename(folder);
      try {
        await this.#within(dirname(folder), key, (parent) => rmdir(parent.at(name)));
      } catch (thrown) {
        // gone already, or never made: the one above may be empty
        if (errorCode(thrown) === 'ENOENT') continue;
        // not empty, a link or mount, or not ours to remove
        if (STAYS.has(errorCode(thrown) ?? '')) return;
        throw thrown;
      }
    }
  }

  async sha256(key: string, options: { signal?: AbortSignal } = {}): Promise<string | undefined> {
    if ((await this.head(key, options)) === undefined) return undefined;
    const path = join(this.#root, key);
    try {
      return await sha256Of({ path: await this.#boundary.realPath(path, key) }, options.signal);
    } catch (thrown) {
      throw localError(thrown, 'read', path);
    }
  }

  async sweep(prefix: string, options: { olderThanMs: number; signal?: AbortSignal }): Promise<number> {
    assertPrefix(prefix);
    return sweepFolder(join(this.#root, prefix), options);
  }

  /** Does something in a folder that exists, as it was when it was opened. */
  async #within(path: string, key: string, work: (folder: OpenedFolder) => Promise<void>): Promise<void> {
    const folder = await this.#boundary.openFolder(path, key, false);
    try {
      await work(folder);
    } finally {
      await folder.close();
    }
  }
}
