import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { throwIfAborted } from '../errors.ts';
import type { StorageMetrics } from '../metrics/storage.ts';
import { withReleasers } from '../releasers.ts';
import { CacheFolder, cacheId } from './cache-folder.ts';
import { lockFile, touchRegularly, unlinkIfThere } from './file-lock.ts';
import { errorCode, localError } from './local-errors.ts';
import { LocalObject } from './local-object.ts';
import { sha256Of } from './sha256.ts';
import type { SourceVersion, StoredObject } from './types.ts';

export type SourceCacheOptions = {
  /** Shared by all processes of a pod; made when it does not exist. */
  readonly folder: string;
  /** Bound of what lies in it, bytes; 0: no cache. */
  readonly maxBytes: number;
  readonly metrics: StorageMetrics;
  readonly log?: { warn(fields: object, message: string): void } | undefined;
};

/** Bytes asked of the source at a time. */
const PIECE = 4_194_304; // 4 MiB

/**
 * Local copies of source objects, by URL, version and size.
 *
 * Protocol: a user first announces itself (`in-use`), then looks. A complete object whose checksum holds is a hit. Else
 * the object's lock is taken, so that of all processes one fetches and the others wait and find it. Room is made under
 * the cache's lock: the least recently used go, never one in use; when that is not enough, or the disk is full, there
 * is no copy and the caller reads from the source. Bytes are written to a partial file, renamed when all are there, and
 * count from the moment their record (with their sha256) lies beside them. Killed at any point, a process leaves files
 * that carry its name; the next one that needs room removes them.
 */
export class SourceCache {
  readonly #folder: CacheFolder;
  readonly #options: SourceCacheOptions;
  #created: Promise<void> | undefined;

  constructor(options: SourceCacheOptions) {
    this.#options = options;
    this.#folder = new CacheFolder(options.folder);
  }

  /**
   * A local copy of an object, fetched through `open` unless it is there; undefined when it has no room. Counts one
   * look-up. Close the result: until then it stays.
   */
  async take(
    version: SourceVersion,
    open: () => Promise<StoredObject>,
    signal?: AbortSignal,
  ): Promise<StoredObject | undefined> {
    const { maxBytes, metrics, folder } = this.#options;
    if (maxBytes === 0) return undefined;
    if (version.size > maxBytes) {
      metrics.cacheMiss.inc();
      return undefined;
    }
    const id = cacheId(version);
    try {
      await this.#create();
      const release = await this.#folder.use(id);
      try {
        const hit = (await this.#isSound(id, signal)) || (await this.#fetchOnce(id, version, open, signal));
        if (hit !== undefined) return await this.#opened(id, version, release);
        await release();
        return undefined;
      } catch (thrown) {
        await release();
        throw thrown;
      }
    } catch (thrown) {
      throw localError(thrown, 'use the source cache', folder);
    }
  }

  async #create(): Promise<void> {
    this.#created ??= this.#folder.create();
    try {
      await this.#created;
    } catch (thrown) {
      this.#created = undefined;
      throw thrown;
    }
  }

  /** Whether a complete object with the right checksum is there; a damaged one is removed. Counts the hit. */
  async #isSound(id: string, signal: AbortSignal | undefined): Promise<boolean> {
    const entry = await this.#folder.find(id);
    if (entry === undefined) return false;
    const path = this.#folder.pathOf(id);
    if ((await sha256Of({ path }, signal)) === entry.sha256) {
      await this.#folder.touch(id);
      this.#options.metrics.cacheHit.inc();
      return true;
    }
    this.#options.log?.warn({ url: entry.url, path }, 'a cached recording is damaged and is fetched again');
    await this.#folder.remove(id);
    return false;
  }

  /** Fetches the object unless another process does; undefined when there is no room. */
  #fetchOnce(
    id: string,
    version: SourceVersion,
    open: () => Promise<StoredObject>,
    signal: AbortSignal | undefined,
  ): Promise<true | undefined> {
    return withReleasers(async (release) => {
      const lock = await lockFile(this.#folder.lockPath(id), signal);
      release(() => lock.release());
      if (await this.#isSound(id, signal)) return true;
      this.#options.metrics.cacheMiss.inc();
      const partial = await this.#reserve(version.size, signal);
      if (partial === undefined) return undefined;
      release(() => unlinkIfThere(partial));
      release(touchRegularly(partial));
      try {
        const sha256 = await this.#download(partial, version, open, signal);
        await this.#folder.complete(id, partial, { ...version, sha256 });
        return true;
      } catch (thrown) {
        const code = errorCode(thrown);
        if (code !== 'ENOSPC' && code !== 'EDQUOT') throw thrown;
        this.#options.log?.warn({ url: version.url, code }, 'the disk of the source cache is full');
        return undefined;
      }
    });
  }

  /** Makes room for `size` bytes; the path that holds the reservation, or undefined. */
  #reserve(size: number, signal: AbortSignal | undefined): Promise<string | undefined> {
    return withReleasers(async (release) => {
      const lock = await lockFile(this.#folder.lockPath('room'), signal);
      release(() => lock.release());
      const { objects, promised } = await this.#folder.tidy();
      let taken = objects.reduce((sum, object) => sum + object.size, promised);
      for (const object of objects) {
        if (taken + size <= this.#options.maxBytes) break;
        if (await this.#folder.evict(object.id)) taken -= object.size;
      }
      if (taken + size > this.#options.maxBytes) return undefined;
      const partial = this.#folder.partialPath(size);
      await (await open(partial, 'wx')).close();
      return partial;
    });
  }

  async #download(
    partial: string,
    version: SourceVersion,
    openSource: () => Promise<StoredObject>,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const hash = createHash('sha256');
    await withReleasers(async (release) => {
      const source = await openSource();
      release(() => source.close());
      const file = await open(partial, 'r+');
      release(() => file.close());
      for (let at = 0; at < version.size; at += PIECE) {
        throwIfAborted(signal);
        const bytes = await source.read(BigInt(at), BigInt(Math.min(PIECE, version.size - at)));
        hash.update(bytes);
        let written = 0;
        while (written < bytes.length) {
          written += (await file.write(bytes, written, bytes.length - written)).bytesWritten;
        }
      }
    });
    return hash.digest('hex');
  }

  /** The copy as the object it is a copy of. */
  async #opened(id: string, version: SourceVersion, release: () => Promise<void>): Promise<StoredObject> {
    const path = this.#folder.pathOf(id);
    const handle = await open(path, 'r');
    const local = new LocalObject(version.url, path, handle, await handle.stat({ bigint: true }), undefined);
    return {
      info: { key: version.url, size: version.size, etag: version.etag },
      path,
      size: () => local.size(),
      read: (offset, length, into) => local.read(offset, length, into),
      close: async () => {
        await local.close();
        await release();
      },
    };
  }
}
