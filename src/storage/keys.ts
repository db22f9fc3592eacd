import { InputError } from '../errors.ts';

/** First characters of the names of temporary and lock files; never an object. */
export const TEMPORARY_PREFIX = '.roboflow-tmp.';

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const FORBIDDEN = /[\u0000-\u001f\u007f\\]/;

/**
 * Throws `InputError` unless `key` is a plain relative path: 1-1024 bytes, no empty, `.` or `..` segment, no
 * backslash or control character, no reserved name.
 */
export function assertKey(key: string): void {
  if (key === '') throw new InputError('expected the key of an object, found an empty text');
  checkSegments(key, key.split('/'));
}

/** Whether `assertKey` accepts a key. */
export function isKey(key: string): boolean {
  try {
    assertKey(key);
    return true;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/** Throws `InputError` unless keys may start with `prefix`: empty, or like a key, a trailing slash allowed. */
export function assertPrefix(prefix: string): void {
  if (prefix === '') return;
  const segments = prefix.split('/');
  if (segments.at(-1) === '') segments.pop();
  checkSegments(prefix, segments);
}

function checkSegments(key: string, segments: readonly string[]): void {
  const refuse = (why: string): never => {
    throw new InputError(`object key ${JSON.stringify(key)} ${why}`);
  };
  if (Buffer.byteLength(key) > 1024) refuse('is longer than 1024 bytes');
  if (FORBIDDEN.test(key)) refuse('holds a backslash or a control character');
  for (const segment of segments) {
    if (segment === '') refuse('holds an empty path segment');
    if (segment === '.' || segment === '..') refuse('leaves its root');
    if (segment.startsWith(TEMPORARY_PREFIX)) refuse(`holds the reserved name ${TEMPORARY_PREFIX}…`);
  }
}

/** Order of keys everywhere: by UTF-8 bytes, as S3 lists them. */
export function compareKeys(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}
