import type { StorageMetrics } from '../metrics/storage.ts';
import { LocalStorage } from './local.ts';
import { filePath, resolveLocation } from './location.ts';
import { S3Storage } from './s3.ts';
import type { S3Settings, Storage } from './types.ts';

export type StorageOptions = {
  readonly metrics: StorageMetrics;
  /** What is read from a source is counted. */
  readonly role: 'source' | 'destination';
  readonly s3?: S3Settings | undefined;
  /** Folders beside the location that symbolic links may lead into. */
  readonly linkTargets?: readonly string[] | undefined;
  /**
   * Where files must really lie, whatever links are put in their way (URLs or absolute paths); none or empty: anywhere.
   * A bucket has no links: its location is checked once, by `assertInsideRoots`.
   */
  readonly roots?: readonly string[] | undefined;
};

/** The store at a folder, `file:` or `s3:` location (see `resolveLocation`). Makes no request and creates nothing yet. */
export function openStorage(location: URL | string, options: StorageOptions): Storage {
  const { metrics, role, linkTargets = [], roots = [], s3 = {} } = options;
  const url = resolveLocation(typeof location === 'string' ? location : location.href);
  if (url.protocol === 'file:') {
    return new LocalStorage(filePath(url), { metrics, role, linkTargets, roots });
  }
  return new S3Storage(url, { metrics, role, settings: s3 });
}
