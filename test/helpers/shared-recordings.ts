import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Folder of the shared real recordings; undefined where this checkout has none beside it. */
export function sharedRecordings(): string | undefined {
  const folder = process.env['RECORDINGS_DIR'] ?? join(process.cwd(), '..', 'shared', 'recordings');
  return existsSync(folder) ? folder : undefined;
}
