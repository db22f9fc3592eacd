import { constants, existsSync } from 'node:fs';
import { mkdir, open, readlink, realpath, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../errors.ts';
import { errorCode } from './local-errors.ts';
import { filePath, isBelow, resolvedPath, resolveLocation } from './location.ts';

/** Where Linux names what is open, whatever becomes of its name; `undefined` elsewhere. */
const OPEN_FILES = existsSync('/proc/self/fd') ? '/proc/self/fd' : undefined;

/** A path that leads to an open file or folder itself, in this process, where the system has one; else `path`. */
export function pinnedPath(handle: FileHandle, path: string): string {
  return OPEN_FILES === undefined ? path : `${OPEN_FILES}/${handle.fd}`;
}

/** An open folder: names in it are looked up in the folder that was opened, not in what has its name now. */
export type OpenedFolder = {
  readonly handle: FileHandle;
  /** Where it lay when it was opened, free of links. */
  readonly real: string;
  /** A path of `name` in it, good until `close`. */
  at(name: string): string;
  close(): Promise<void>;
};

/** The places that hold at one moment, all of them real paths. */
type Places = {
  /** Whether a path lies where the store may touch things. */
  readonly covers: (real: string) => boolean;
  /** Whether it is on the way there: a folder to make when the store's root does not exist yet. */
  readonly leadsTo: (real: string) => boolean;
};

/**
 * What a store in a folder may touch: what lies below its root or a link target and, when roots are given, below one of
 * those. Names are checked before they are used, which gives the better message, and what was opened is checked again:
 * a link that is put in between is found out by where the open file lies, not by where its name led a moment before.
 * Folders that are written to are held open, so that the file appears in the one that was checked.
 */
export class Boundary {
  readonly #root: string;
  readonly #linkTargets: readonly string[];
  readonly #roots: readonly string[] | undefined;

  /** `root` and `linkTargets` are absolute paths, `roots` URLs or absolute paths; none or empty: no roots. */
  constructor(root: string, linkTargets: readonly string[] = [], roots: readonly string[] = []) {
    this.#root = root;
    this.#linkTargets = linkTargets;
    this.#roots =
      roots.length === 0
        ? undefined
        : roots
            .map((text) => resolveLocation(text))
            .filter((url) => url.protocol === 'file:')
            .map(filePath);
  }

  /** Resolves links in the root, the link targets and the roots. */
  async places(): Promise<Places> {
    const resolved = (paths: readonly string[]) => Promise.all(paths.map((path) => resolvedPath(path)));
    const places = await resolved([this.#root, ...this.#linkTargets]);
    const roots = this.#roots && (await resolved(this.#roots));
    return {
      covers: (real) =>
        places.some((place) => isBelow(real, place)) &&
        (roots === undefined || roots.some((root) => isBelow(real, root))),
      leadsTo: (real) =>
        places.some((place) => isBelow(place, real)) &&
        (roots === undefined || roots.some((root) => isBelow(root, real) || isBelow(real, root))),
    };
  }

  /** The real path behind `path`, as far as it exists; throws `InputError` when a link leads out. */
  async realPath(path: string, key: string): Promise<string> {
    const places = await this.places();
    const real = await resolvedPath(path);
    if (!places.covers(real)) throw this.#refusal(key);
    return real;
  }

  /** Opens a file for reading. Throws `InputError` when it lies elsewhere, system errors as they are. */
  async openFile(path: string, key: string): Promise<{ handle: FileHandle; real: string }> {
    const places = await this.places();
    const real = await resolvedPath(path);
    if (!places.covers(real)) throw this.#refusal(key);
    // O_NONBLOCK: opening a FIFO that nobody writes to must not hang
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await open(real, flags).catch((thrown: unknown) => {
      // there was no link a moment ago
      throw errorCode(thrown) === 'ELOOP' ? this.#refusal(key, thrown) : thrown;
    });
    await this.#checked(handle, real, key, places.covers);
    return { handle, real };
  }

  /** Opens the folder `path`; `make`: with all above it, where they are missing. Throws like `openFile`. */
  async openFolder(path: string, key: string, make: boolean): Promise<OpenedFolder> {
    return this.#openFolder(path, key, make, await this.places(), false);
  }

  async #openFolder(
    path: string,
    key: string,
    make: boolean,
    places: Places,
    onTheWay: boolean,
  ): Promise<OpenedFolder> {
    const fits = (real: string) => places.covers(real) || (onTheWay && places.leadsTo(real));
    try {
      return await this.#opened(path, path, key, fits);
    } catch (thrown) {
      if (!make || errorCode(thrown) !== 'ENOENT' || dirname(path) === path) throw thrown;
    }
    const parent = await this.#openFolder(dirname(path), key, make, places, true);
    try {
      const name = basename(path);
      const real = join(parent.real, name);
      if (!places.covers(real) && !places.leadsTo(real)) throw this.#refusal(key);
      await mkdir(parent.at(name)).catch((thrown: unknown) => {
        if (errorCode(thrown) !== 'EEXIST') throw thrown;
      });
      return await this.#opened(parent.at(name), real, key, fits);
    } finally {
      await parent.close();
    }
  }

  async #opened(
    path: string,
    name: string,
    key: string,
    fits: (real: string) => boolean,
  ): Promise<OpenedFolder> {
    const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    const real = await this.#checked(handle, name, key, fits);
    const base = pinnedPath(handle, real);
    return { handle, real, at: (each) => join(base, each), close: () => handle.close() };
  }

  /** Where an open file lies; closes it and throws `InputError` when that does not fit. */
  async #checked(
    handle: FileHandle,
    path: string,
    key: string,
    fits: (real: string) => boolean,
  ): Promise<string> {
    try {
      const real = await placeOf(handle, path);
      if (real !== undefined && fits(real)) return real;
      throw this.#refusal(key);
    } catch (thrown) {
      await handle.close();
      throw thrown;
    }
  }

  #refusal(key: string, cause?: unknown): InputError {
    const roots = this.#roots === undefined ? '' : `, or out of the allowed roots`;
    return new InputError(
      `object key ${JSON.stringify(key)} leads out of ${this.#root} through a symbolic link${roots}`,
      cause === undefined ? {} : { cause },
    );
  }
}

/** The real path of what is open; undefined when `path`, the only way to tell, leads to something else by now. */
async function placeOf(handle: FileHandle, path: string): Promise<string | undefined> {
  if (OPEN_FILES !== undefined) {
    // the system marks what has lost its name since
    return (await readlink(`${OPEN_FILES}/${handle.fd}`)).replace(/ \(deleted\)$/, '');
  }
  const real = await realpath(path);
  const [opened, named] = [await handle.stat({ bigint: true }), await stat(real, { bigint: true })];
  return opened.dev === named.dev && opened.ino === named.ino ? real : undefined;
}
