import { InputError, StorageError } from '../errors.ts';
import {
  assertInsideRoots,
  locationOf,
  parentOf,
  resolvedPath,
  filePath,
  resolveLocation,
} from './location.ts';
import { openStorage, type StorageOptions } from './open.ts';
import { isRecordingName, versionOfFolder } from './recording-names.ts';
import type { SourceCache } from './cache.ts';
import type { ObjectInfo, SourceVersion, Storage, StoredObject } from './types.ts';

/** A rosbag2 folder with more files than this is taken for something else. */
const MAX_FOLDER_FILES = 10_000;

export type RecordingFilesOptions = Omit<StorageOptions, 'role'> & {
  readonly signal?: AbortSignal;
  /** Where objects of remote stores are kept; without it, or without room in it, they are read where they are. */
  readonly cache?: SourceCache | undefined;
};

/**
 * The files of one recording: the single file (a database with the log beside it), or those of a rosbag2 folder (names
 * relative to it, in key order).
 * Every `open` gives the version that was found here, or throws `StorageError`.
 */
export type OpenedRecordingFiles = {
  readonly name: string;
  readonly folder: boolean;
  readonly files: readonly string[];
  readonly source: SourceVersion;
  open(file: string): Promise<StoredObject>;
};

/**
 * Finds the files of the recording at `location`: a file or object, or a folder or prefix that holds recording files
 * (a rosbag2 folder). Reads nothing yet. Throws `InputError` when there is neither, or when it lies outside `roots`.
 */
export async function openRecordingFiles(
  location: URL | string,
  options: RecordingFilesOptions,
): Promise<OpenedRecordingFiles> {
  const name = typeof location === 'string' ? location : location.href;
  const asked = resolveLocation(name);
  // a link to a recording is the recording; its neighbours are those of the link's target
  const url = asked.protocol === 'file:' ? resolveLocation(await resolvedPath(filePath(asked))) : asked;
  const { roots = [] } = options;
  if (roots.length > 0) await assertInsideRoots(url, roots, 'source');
  const at = parentOf(url);
  if (at !== undefined) {
    const storage = openStorage(at.parent, { ...options, role: 'source' });
    const found = await storage.head(at.name, signalOf(options));
    if (found !== undefined) {
      const log = await logOf(found, storage, options);
      return opened(name, asked, storage, false, [found, ...log], options);
    }
  }
  const storage = openStorage(url, { ...options, role: 'source' });
  const inFolder = await filesOf(storage, url, options);
  if (inFolder.length === 0) throw new InputError(`expected a recording at ${name}, found nothing`);
  if (!inFolder.some((file) => isRecordingName(file.key))) {
    throw new InputError(
      `expected a recording file or a rosbag2 folder at ${name}, found a folder without .db3, .mcap or .bag files`,
    );
  }
  return opened(name, asked, storage, true, inFolder, options);
}

function opened(
  name: string,
  url: URL,
  storage: Storage,
  folder: boolean,
  found: readonly ObjectInfo[],
  options: RecordingFilesOptions,
): OpenedRecordingFiles {
  const versions = new Map(found.map((file) => [file.key, file]));
  const [only] = found;
  const version = folder || only === undefined ? versionOfFolder(found) : only;
  return {
    name,
    folder,
    files: found.map((file) => file.key),
    source: { url: url.href, size: version.size, etag: version.etag },
    open: async (file) => {
      const expected = versions.get(file);
      if (expected === undefined) {
        throw new InputError(
          `expected ${file} beside the other files of recording ${name}, found no such file`,
        );
      }
      const open = async () => {
        const object = await storage.open(file, signalOf(options));
        if (object.info.etag === expected.etag) return object;
        await object.close();
        throw new StorageError(
          `${file} of recording ${name} changed while it was being read: version ${expected.etag} became ${object.info.etag}`,
          { retryable: true, reason: 'other' },
        );
      };
      if (storage.kind === 'file' || options.cache === undefined) return open();
      const at = locationOf(new URL(storage.url), file).href;
      const kept = { url: at, size: expected.size, etag: expected.etag };
      return (await options.cache.take(kept, open, options.signal)) ?? open();
    },
  };
}

/** The write-ahead log beside a database, when there is one. */
async function logOf(
  { key }: ObjectInfo,
  storage: Storage,
  options: RecordingFilesOptions,
): Promise<ObjectInfo[]> {
  if (!/\.db3$/i.test(key)) return [];
  const log = await storage.head(`${key}-wal`, signalOf(options));
  return log === undefined ? [] : [log];
}

/** Files directly in the folder, in key order. */
async function filesOf(storage: Storage, url: URL, options: RecordingFilesOptions): Promise<ObjectInfo[]> {
  const files: ObjectInfo[] = [];
  for await (const file of storage.list('', { ...signalOf(options), depth: 1 })) {
    if (files.length === MAX_FOLDER_FILES) {
      throw new InputError(
        `expected a rosbag2 folder at ${url.href}, found more than ${MAX_FOLDER_FILES} files: name one recording`,
      );
    }
    files.push(file);
  }
  return files;
}

function signalOf(options: RecordingFilesOptions): { signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}
