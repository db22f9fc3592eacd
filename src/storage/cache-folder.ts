import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbandoned, touchRegularly, unlinkIfThere } from './file-lock.ts';
import { errorCode } from './local-errors.ts';
import { uniqueOwnerName } from './owner.ts';
import type { SourceVersion } from './types.ts';

/**
 * The folder of a source cache, shared by the processes of a pod:
 *
 * ```
 * objects/ID             the bytes of one version of one object
 * objects/ID.json        written after them: what they are and their sha256; its time is that of the last use
 * partial/SIZE.OWNER     bytes on their way; SIZE is what they will take
 * in-use/ID.OWNER        one for every user, touched while it lives: such an object is not evicted
 * locks/…                `lockFile`
 * ```
 *
 * An object without its `.json` does not exist. What dead processes left is removed by `tidy`.
 */
export class CacheFolder {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async create(): Promise<void> {
    for (const name of ['objects', 'partial', 'in-use', 'locks']) {
      await mkdir(join(this.#root, name), { recursive: true });
    }
  }

  /** Where the bytes of an object lie once they are there. */
  pathOf(id: string): string {
    return join(this.#root, 'objects', id);
  }

  lockPath(name: string): string {
    return join(this.#root, 'locks', name);
  }

  /** A path for bytes on their way. */
  partialPath(size: number): string {
    return join(this.#root, 'partial', `${size}.${uniqueOwnerName()}`);
  }

  /** What is known of a complete object; undefined when there is none. */
  async find(id: string): Promise<CacheEntry | undefined> {
    try {
      const entry = JSON.parse(await readFile(`${this.pathOf(id)}.json`, 'utf8')) as CacheEntry;
      const found = await stat(this.pathOf(id));
      return found.size === entry.size ? entry : undefined;
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT' || thrown instanceof SyntaxError) return undefined;
      throw thrown;
    }
  }

  /** Makes bytes on their way an object. */
  async complete(id: string, partial: string, entry: CacheEntry): Promise<void> {
    await unlinkIfThere(`${this.pathOf(id)}.json`);
    await rename(partial, this.pathOf(id));
    const draft = `${partial}.json`;
    await writeFile(draft, JSON.stringify(entry));
    await rename(draft, `${this.pathOf(id)}.json`);
  }

  async remove(id: string): Promise<void> {
    await unlinkIfThere(`${this.pathOf(id)}.json`);
    await unlinkIfThere(this.pathOf(id));
  }

  /**
   * Removes an object unless it is in use; whether it did. The record goes first: who announced itself before reading
   * it is seen by the second look, who comes after finds no object.
   */
  async evict(id: string): Promise<boolean> {
    if ((await this.inUse()).has(id)) return false;
    const record = `${this.pathOf(id)}.json`;
    const aside = `${this.partialPath(0)}.json`;
    try {
      await rename(record, aside);
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT') return false;
      throw thrown;
    }
    if ((await this.inUse()).has(id)) {
      await rename(aside, record);
      return false;
    }
    await unlinkIfThere(this.pathOf(id));
    await unlinkIfThere(aside);
    return true;
  }

  /** Marks an object as just used. */
  async touch(id: string): Promise<void> {
    const now = new Date();
    await utimes(`${this.pathOf(id)}.json`, now, now);
  }

  /** Keeps an object from being evicted until the result is called. */
  async use(id: string): Promise<() => Promise<void>> {
    const path = join(this.#root, 'in-use', `${id}.${uniqueOwnerName()}`);
    await writeFile(path, '');
    const stop = touchRegularly(path);
    return async () => {
      stop();
      await unlinkIfThere(path);
    };
  }

  /** Ids of objects that somebody who may be alive uses; forgets the dead. */
  async inUse(): Promise<Set<string>> {
    const ids = new Set<string>();
    for (const { name, path, mtimeMs } of await filesIn(join(this.#root, 'in-use'))) {
      const cut = name.indexOf('.');
      if (isAbandoned(name.slice(cut + 1), mtimeMs)) await unlinkIfThere(path);
      else ids.add(name.slice(0, cut));
    }
    return ids;
  }

  /**
   * Removes what dead processes left half done, and reports what is there: complete objects, the least recently used
   * first, and the bytes promised to downloads under way. Call it under the cache's lock.
   */
  async tidy(): Promise<{ objects: { id: string; size: number; usedAt: number }[]; promised: number }> {
    let promised = 0;
    for (const { path, mtimeMs } of await filesIn(join(this.#root, 'locks'))) {
      // a lock that is held is touched every few seconds
      if (Date.now() - mtimeMs > 600_000) await unlinkIfThere(path);
    }
    for (const { name, path, mtimeMs } of await filesIn(join(this.#root, 'partial'))) {
      const cut = name.indexOf('.');
      if (isAbandoned(name.slice(cut + 1), mtimeMs)) await unlinkIfThere(path);
      else promised += Number(name.slice(0, cut)) || 0;
    }
    const files = await filesIn(join(this.#root, 'objects'));
    const records = new Map(files.map((file) => [file.name, file]));
    const objects = [];
    for (const { name, path, size, mtimeMs } of files) {
      if (name.endsWith('.json')) {
        if (!records.has(name.slice(0, -5))) await unlinkIfThere(path);
        continue;
      }
      const record = records.get(`${name}.json`);
      if (record !== undefined) objects.push({ id: name, size, usedAt: record.mtimeMs });
      // between the two renames of `complete`, or left there by a crash
      else if (Date.now() - mtimeMs > 60_000) await unlinkIfThere(path);
      else promised += size;
    }
    return { objects: objects.toSorted((a, b) => a.usedAt - b.usedAt), promised };
  }
}

/** What a cached object is; `url` is free of credentials. */
export type CacheEntry = SourceVersion & { readonly sha256: string };

/** The name of one version of one object: a digest of URL, version and size. */
export function cacheId({ url, size, etag }: SourceVersion): string {
  return createHash('sha256').update(`${url}\0${etag}\0${size}`).digest('hex').slice(0, 40);
}

async function filesIn(folder: string) {
  const files = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    try {
      const { size, mtimeMs } = await stat(path);
      files.push({ name, path, size, mtimeMs });
    } catch (thrown) {
      if (errorCode(thrown) !== 'ENOENT') throw thrown;
    }
  }
  return files;
}
