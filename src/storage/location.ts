import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../errors.ts';

/** Lower-case letters, digits, hyphens and single dots, 3-63 characters; never an address. */
const BUCKET = /^(?=.{3,63}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const DOTTED_QUAD = /^\d+\.\d+\.\d+\.\d+$/;
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;
/** Encodings that would smuggle a separator, a dot segment or a control character past a check of the text. */
const HIDDEN = /%(?:2e|2f|5c|7f|[01][0-9a-f])/i;

/**
 * The one normal form of a location: a `file:` URL of an absolute path or an `s3://bucket/key` URL, without trailing
 * slash. Local paths are taken as they are (`%` is a character), URLs are percent-decoded once. Relative paths and `..`
 * are accepted in local paths only, and only when `cwd` says what they are relative to. Everything else that could name
 * something other than it seems to is refused: other schemes, hosts in `file:` URLs, credentials, query and fragment,
 * encoded slashes and dots, backslashes, control characters. Throws `InputError`, one sentence.
 */
export function resolveLocation(urlOrPath: string, options: { cwd?: string } = {}): URL {
  const shown = JSON.stringify(urlOrPath);
  if (urlOrPath === '') throw new InputError('expected a file path, file: or s3: URL, found an empty text');
  if (urlOrPath.length > 4096) throw new InputError('a location is longer than 4096 characters');
  if (CONTROL.test(urlOrPath))
    throw new InputError(`control characters are not allowed in location ${shown}`);
  if (urlOrPath.includes('\\')) throw new InputError(`backslashes are not allowed in location ${shown}`);
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(urlOrPath)?.[1]?.toLowerCase();
  if (scheme === undefined) return localLocation(urlOrPath, options.cwd);
  if (scheme !== 'file' && scheme !== 's3') {
    throw new InputError(
      `expected a file path, file: or s3: URL, found scheme "${scheme}:" in ${shown} (for a file of that name write ./ before it)`,
    );
  }
  const rest = urlOrPath.slice(scheme.length + 1);
  if (/[?#]/.test(rest)) {
    throw new InputError(
      `query and fragment are not allowed in location ${shown} (write ? as %3F and # as %23)`,
    );
  }
  if (HIDDEN.test(rest))
    throw new InputError(`encoded slashes, dots or control characters in location ${shown}`);
  return scheme === 'file' ? fileLocation(rest, shown) : s3Location(rest, shown);
}

function localLocation(path: string, cwd: string | undefined): URL {
  const shown = JSON.stringify(path);
  if (cwd !== undefined) return fileUrl(resolve(cwd, path));
  if (!path.startsWith('/')) throw new InputError(`expected an absolute path or a URL, found ${shown}`);
  if (path.split('/').includes('..')) throw new InputError(`".." is not allowed in location ${shown}`);
  return fileUrl(resolve(path));
}

function fileLocation(rest: string, shown: string): URL {
  const path = rest.startsWith('///') ? rest.slice(2) : rest;
  if (!path.startsWith('/') || path.startsWith('//')) {
    throw new InputError(`a file: URL names an absolute path and no host (file:///path), found ${shown}`);
  }
  const segments = segmentsOf(path, shown).filter((segment) => segment !== '');
  return fileUrl(`/${segments.join('/')}`);
}

function s3Location(rest: string, shown: string): URL {
  const [, bucket = '', path = ''] = /^\/\/([^/]*)(?:\/(.*))?$/.exec(rest) ?? [];
  if (!BUCKET.test(bucket) || DOTTED_QUAD.test(bucket)) {
    throw new InputError(
      `expected s3://bucket/key with a bucket name of 3-63 lower-case letters, digits, dots and hyphens, found ${shown}`,
    );
  }
  const segments = segmentsOf(path, shown);
  if (segments.at(-1) === '') segments.pop();
  if (segments.includes('')) throw new InputError(`empty path segment ("//") in location ${shown}`);
  return s3Url(bucket, segments.join('/'));
}

/** Decoded path segments, `.` left out. */
function segmentsOf(path: string, shown: string): string[] {
  const segments = path.split('/').map((segment) => {
    try {
      return decodeURIComponent(segment);
    } catch (cause) {
      throw new InputError(`location ${shown} is not valid percent-encoded UTF-8 (write % as %25)`, {
        cause,
      });
    }
  });
  if (segments.includes('..')) throw new InputError(`".." is not allowed in location ${shown}`);
  return segments.filter((segment) => segment !== '.');
}

/** A `file:` URL spelled the same on every version of Node. `path` is absolute and free of `..`. */
export function fileUrl(path: string): URL {
  return new URL(`file://${encodePath(path)}`);
}

function encodePath(path: string): string {
  return encodeURI(path).replace(/[?#]/g, encodeURIComponent);
}

/** `s3://bucket/key` as a URL whose path decodes to exactly `key`; `key` may be empty. */
export function s3Url(bucket: string, key: string): URL {
  const path = encodePath(key);
  return new URL(path === '' ? `s3://${bucket}` : `s3://${bucket}/${path}`);
}

/** The absolute path of a `file:` location. */
export function filePath(url: URL): string {
  return fileURLToPath(url);
}

/** Bucket and key (without leading or trailing slash, maybe empty) of an `s3:` location. */
export function bucketAndKey(url: URL): { bucket: string; key: string } {
  return { bucket: url.hostname, key: decodeURIComponent(url.pathname).replace(/^\/|\/$/g, '') };
}

/** The location of `key` below `base`. */
export function locationOf(base: URL, key: string): URL {
  if (key === '') return base;
  if (base.protocol === 'file:') return fileUrl(join(filePath(base), key));
  const { bucket, key: prefix } = bucketAndKey(base);
  return s3Url(bucket, prefix === '' ? key : `${prefix}/${key}`);
}

/** A location as parent folder or prefix and last name; undefined for `/` and a bare bucket. */
export function parentOf(url: URL): { parent: URL; name: string } | undefined {
  if (url.protocol === 'file:') {
    const path = filePath(url);
    return path === '/' ? undefined : { parent: fileUrl(dirname(path)), name: basename(path) };
  }
  const { bucket, key } = bucketAndKey(url);
  if (key === '') return undefined;
  const cut = key.lastIndexOf('/');
  return { parent: s3Url(bucket, key.slice(0, Math.max(cut, 0))), name: key.slice(cut + 1) };
}

/**
 * Whether a normalised location lies at or below one of `roots` (URLs or absolute paths), compared by whole path
 * segments, for files after symbolic links on both sides are resolved. Throws `InputError` for a malformed root or
 * a link that leads nowhere.
 */
export async function isInside(url: URL, roots: readonly string[]): Promise<boolean> {
  for (const text of roots) {
    const root = resolveLocation(text);
    if (root.protocol !== url.protocol) continue;
    if (url.protocol === 'file:') {
      if (isBelow(await resolvedPath(filePath(url)), await resolvedPath(filePath(root)))) return true;
    } else {
      const [inner, outer] = [bucketAndKey(url), bucketAndKey(root)];
      if (inner.bucket === outer.bucket && isBelow(`/${inner.key}`, `/${outer.key}`)) return true;
    }
  }
  return false;
}

/** Throws `InputError` unless `url` lies inside one of `roots`; `what` names it in the message ("source"). */
export async function assertInsideRoots(url: URL, roots: readonly string[], what: string): Promise<void> {
  if (await isInside(url, roots)) return;
  const allowed = roots.length === 0 ? 'none' : roots.join(', ');
  throw new InputError(`${what} ${url.href} lies outside the allowed roots (${allowed})`);
}

/** Whether absolute `path` is `root` or lies below it; both free of `..`. */
export function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** `path` with symbolic links resolved as far as it exists; what does not exist yet is appended as it is. */
export async function resolvedPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      throw new InputError(`cannot resolve path ${path}: ${String(code)}`, { cause: thrown });
    }
    if (code === 'ENOENT' && (await isDanglingLink(path))) {
      throw new InputError(`${path} is a symbolic link that leads nowhere`, { cause: thrown });
    }
    return join(await resolvedPath(dirname(path)), basename(path));
  }
}

async function isDanglingLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch {
    return false; // not there at all: an ancestor decides
  }
}
