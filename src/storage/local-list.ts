import type { Dirent } from 'node:fs';
import { readdir, realpath, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { throwIfAborted } from '../errors.ts';
import { compareKeys, TEMPORARY_PREFIX } from './keys.ts';
import { errorCode, localError } from './local-errors.ts';
import { etagOf } from './local-object.ts';
import { isDead, ownerFrom } from './owner.ts';
import type { ObjectInfo } from './types.ts';

/** Files looked at in parallel. */
const BATCH = 32;

/**
 * Files below `root` whose key starts with `prefix`, in key order, one folder in memory at a time. Left out: temporary
 * files, what is no regular file, names that are no key, symbolic links that lead nowhere, in a circle, or where
 * `within` says no to the real path. A root that does not exist is empty.
 */
export async function* listFiles(
  root: string,
  prefix: string,
  within: (real: string) => boolean,
  options: { signal?: AbortSignal; depth?: number },
): AsyncGenerator<ObjectInfo> {
  const { signal, depth = Infinity } = options;
  const cut = prefix.lastIndexOf('/') + 1;
  const folder = prefix.slice(0, cut);
  const ancestors = new Set<string>();
  yield* walk(folder, prefix.slice(cut), 1);

  async function* walk(parent: string, namePrefix: string, level: number): AsyncGenerator<ObjectInfo> {
    throwIfAborted(signal);
    const path = join(root, parent);
    const real = await realOf(path);
    if (real === undefined || ancestors.has(real) || !within(real)) return;
    ancestors.add(real);
    const entries = await namesIn(path, namePrefix);
    for (let at = 0; at < entries.length; at += BATCH) {
      throwIfAborted(signal);
      const found = await Promise.all(entries.slice(at, at + BATCH).map((entry) => look(parent, entry)));
      for (const item of found) {
        if (item === undefined) continue;
        if (typeof item !== 'string') yield item;
        else if (level < depth) yield* walk(item, '', level + 1);
      }
    }
    ancestors.delete(real);
  }

  /** A folder's key with trailing slash, a file, or nothing worth listing. */
  async function look(parent: string, entry: Entry): Promise<string | ObjectInfo | undefined> {
    const key = parent + entry.name;
    if (entry.folder) return `${key}/`;
    const path = join(root, key);
    const real = entry.link ? await realOf(path) : path;
    if (real === undefined || (entry.link && !within(real))) return undefined;
    try {
      const found = await stat(real, { bigint: true });
      return found.isFile() ? { key, size: Number(found.size), etag: etagOf(found) } : undefined;
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT') return undefined;
      throw localError(thrown, 'look up', path);
    }
  }
}

type Entry = { readonly name: string; readonly folder: boolean; readonly link: boolean };

async function namesIn(path: string, namePrefix: string): Promise<Entry[]> {
  let found: Dirent[];
  try {
    found = await readdir(path, { withFileTypes: true });
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ENOTDIR') return [];
    throw localError(thrown, 'list', path);
  }
  const entries: Entry[] = [];
  for (const entry of found) {
    const { name } = entry;
    if (!name.startsWith(namePrefix) || name.startsWith(TEMPORARY_PREFIX) || name.includes('\\')) continue;
    const link = entry.isSymbolicLink();
    const folder = entry.isDirectory() || (link && (await isFolder(join(path, name))));
    if (folder || link || entry.isFile()) entries.push({ name, folder, link });
  }
  // a folder sorts as its keys do: "a-b" lies before "a/b"
  const sortName = (entry: Entry) => (entry.folder ? `${entry.name}/` : entry.name);
  return entries.toSorted((a, b) => compareKeys(sortName(a), sortName(b)));
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ELOOP') return false;
    throw localError(thrown, 'look up', path);
  }
}

async function realOf(path: string): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (thrown) {
    const code = errorCode(thrown);
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw localError(thrown, 'look up', path);
  }
}

/** Removes temporary files below `folder` whose owner is dead, or that were not touched for `olderThanMs`. */
export async function sweepFolder(
  folder: string,
  options: { olderThanMs: number; signal?: AbortSignal },
): Promise<number> {
  throwIfAborted(options.signal);
  let found: Dirent[];
  try {
    found = await readdir(folder, { withFileTypes: true });
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT' || errorCode(thrown) === 'ENOTDIR') return 0;
    throw localError(thrown, 'list', folder);
  }
  let removed = 0;
  for (const entry of found) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removed += await sweepFolder(path, options);
    else if (
      entry.name.startsWith(TEMPORARY_PREFIX) &&
      (await isLeftOver(path, entry.name, options.olderThanMs))
    ) {
      await unlink(path).catch((thrown: unknown) => {
        if (errorCode(thrown) !== 'ENOENT') throw localError(thrown, 'remove', path);
      });
      removed++;
    }
  }
  return removed;
}

async function isLeftOver(path: string, name: string, olderThanMs: number): Promise<boolean> {
  const owner = ownerFrom(name.slice(TEMPORARY_PREFIX.length));
  if (owner !== undefined && isDead(owner)) return true;
  try {
    return Date.now() - (await stat(path)).mtimeMs > olderThanMs;
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return false;
    throw localError(thrown, 'look up', path);
  }
}
