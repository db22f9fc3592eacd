import picomatch from 'picomatch';
import { InputError, toError } from '../errors.ts';
import { compareKeys } from './keys.ts';
import { filePath, locationOf, parentOf, resolvedPath, resolveLocation } from './location.ts';
import { openStorage, type StorageOptions } from './open.ts';
import { isRecordingName, ROSBAG2_INDEX, versionOfFolder } from './recording-names.ts';
import type { ObjectInfo, SourceVersion, Storage } from './types.ts';

export type ExpandOptions = Omit<StorageOptions, 'role'> & {
  /** What relative paths are relative to; without it they are refused. */
  readonly cwd?: string;
  readonly signal?: AbortSignal;
  /** Called with the folder or prefix of every pattern before it is looked at; throws to refuse it. */
  readonly check?: (base: URL) => Promise<void>;
};

/** Characters that make a path segment a pattern. */
const MAGIC = /[*?[\]{}]/;

/** Whether a location may stand for several recordings: it holds pattern characters, or ends in a slash. */
export function isPattern(location: string): boolean {
  return MAGIC.test(location) || location.endsWith('/');
}

/**
 * The recordings that `patterns` name, each once, sorted by URL. A pattern is a file, a folder or prefix (all
 * recordings below it), or a glob over either (`*` `?` `**` `[a-z]` `{a,b}`; a name that exists as written is taken
 * literally). Recordings are `.mcap` `.bag` `.db3` files (also `.zst`, `.zstd`) and rosbag2 folders; a rosbag2 folder
 * (it has a `metadata.yaml`) is one recording, also when the pattern matches files in it. Listings are streamed: memory
 * holds the recordings found, not the keys passed by. Throws `InputError` for a pattern that names no recording.
 */
export async function expandSources(
  patterns: readonly string[],
  options: ExpandOptions,
): Promise<readonly SourceVersion[]> {
  const found = new Map<string, SourceVersion>();
  for (const pattern of patterns) {
    let any = false;
    for await (const source of expandOne(pattern, options)) {
      any = true;
      found.set(source.url, source);
    }
    if (!any)
      throw new InputError(
        `expected recordings at ${pattern}, found none (.mcap, .bag, .db3, rosbag2 folders)`,
      );
  }
  return [...found.values()].toSorted((a, b) => compareKeys(a.url, b.url));
}

async function* expandOne(pattern: string, options: ExpandOptions): AsyncGenerator<SourceVersion> {
  if (!MAGIC.test(pattern)) {
    yield* expandLocation(resolveLocation(pattern, cwdOf(options)), options);
    return;
  }
  const literal = await existing(pattern, options);
  if (literal !== undefined) {
    yield literal;
    return;
  }
  const { base, glob } = splitGlob(pattern);
  const url = resolveLocation(base, cwdOf(options));
  await options.check?.(url);
  const matches = matcherOf(glob, pattern);
  // a folder that matches has its files one level deeper
  const depth = glob.includes('**') ? Infinity : glob.split('/').length + 1;
  yield* recordingsBelow(url, matches, { ...options, depth });
}

/** A file, or every recording below a folder. */
async function* expandLocation(url: URL, options: ExpandOptions): AsyncGenerator<SourceVersion> {
  await options.check?.(url);
  const file = await lookUp(url, options);
  if (file === undefined) yield* recordingsBelow(url, () => true, options);
  else if (isRecordingName(url.pathname)) yield file;
}

/** A name with pattern characters that exists as written. */
async function existing(pattern: string, options: ExpandOptions): Promise<SourceVersion | undefined> {
  let url: URL;
  try {
    url = resolveLocation(pattern, cwdOf(options));
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined; // `?` in a URL, say: a glob then
    throw thrown;
  }
  await options.check?.(url);
  return lookUp(url, options);
}

async function lookUp(url: URL, options: ExpandOptions): Promise<SourceVersion | undefined> {
  const at = parentOf(url);
  if (at === undefined) return undefined;
  const found = await storageAt(await linkResolved(at.parent), options).head(at.name, signalOf(options));
  return found === undefined ? undefined : { url: url.href, size: found.size, etag: found.etag };
}

/** The folder before the first segment with pattern characters, and the rest. */
function splitGlob(pattern: string): { base: string; glob: string } {
  const start = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/]*\//.exec(pattern)?.[0].length ?? 0;
  const cut = pattern.lastIndexOf('/', pattern.slice(start).search(MAGIC) + start) + 1;
  const isUrl = start > 0;
  const glob = pattern.slice(cut);
  return { base: cut === 0 ? '.' : pattern.slice(0, cut), glob: isUrl ? decodeGlob(glob, pattern) : glob };
}

/** What a glob matches. Parentheses, bars, and `!` in front are characters of names like any other. */
function matcherOf(glob: string, pattern: string): (key: string) => boolean {
  const named = glob.replaceAll(/(?<!\\)[()|]/g, String.raw`\$&`);
  try {
    return picomatch(named, { dot: true, strictBrackets: true, noextglob: true, nonegate: true });
  } catch (cause) {
    throw new InputError(`pattern ${pattern} cannot be read: ${toError(cause).message}`, { cause });
  }
}

function decodeGlob(glob: string, pattern: string): string {
  try {
    return decodeURIComponent(glob);
  } catch (cause) {
    throw new InputError(`pattern ${pattern} is not valid percent-encoded UTF-8 (write % as %25)`, { cause });
  }
}

/** What one folder of a listing holds that matters. */
type Folder = { index: boolean; matched: boolean; files: (ObjectInfo & { readonly matched: boolean })[] };

async function* recordingsBelow(
  base: URL,
  matches: (key: string) => boolean,
  options: ExpandOptions & { readonly depth?: number },
): AsyncGenerator<SourceVersion> {
  const storage = storageAt(await linkResolved(base), options);
  const folders = new Map<string, Folder>();
  for await (const file of storage.list('', { ...signalOf(options), depth: options.depth ?? Infinity })) {
    const cut = file.key.lastIndexOf('/');
    const folder = cut < 0 ? '' : file.key.slice(0, cut);
    const name = file.key.slice(cut + 1);
    const isIndex = name === ROSBAG2_INDEX;
    if (!isIndex && !isRecordingName(name)) continue;
    let entry = folders.get(folder);
    if (entry === undefined) {
      entry = { index: false, matched: matches(folder), files: [] };
      folders.set(folder, entry);
    }
    if (isIndex) entry.index = true;
    entry.files.push({ ...file, key: name, matched: matches(file.key) });
  }
  for (const [folder, { index, matched, files }] of folders) {
    const recordings = files.filter((file) => isRecordingName(file.key));
    if (index && recordings.length > 0) {
      if (!matched && !recordings.some((file) => file.matched)) continue;
      const { size, etag } = await wholeFolder(storage, folder, options);
      yield { url: locationOf(base, folder).href, size, etag };
    } else {
      for (const file of recordings) {
        if (!file.matched) continue;
        const url = locationOf(base, folder === '' ? file.key : `${folder}/${file.key}`);
        yield { url: url.href, size: file.size, etag: file.etag };
      }
    }
  }
}

/** Size and version as `openRecordingFiles` sees them: every file directly in the folder counts. */
async function wholeFolder(storage: Storage, folder: string, options: ExpandOptions) {
  const prefix = folder === '' ? '' : `${folder}/`;
  const files: ObjectInfo[] = [];
  for await (const file of storage.list(prefix, { ...signalOf(options), depth: 1 })) {
    files.push({ ...file, key: file.key.slice(prefix.length) });
  }
  return versionOfFolder(files);
}

function storageAt(url: URL, options: ExpandOptions): Storage {
  return openStorage(url, { ...options, role: 'source' });
}

/** A folder given as a link is the folder it leads to. */
async function linkResolved(url: URL): Promise<URL> {
  return url.protocol === 'file:' ? resolveLocation(await resolvedPath(filePath(url))) : url;
}

function cwdOf(options: ExpandOptions): { cwd?: string } {
  return options.cwd === undefined ? {} : { cwd: options.cwd };
}

function signalOf(options: ExpandOptions): { signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}
