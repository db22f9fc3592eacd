import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A new folder that is removed when the test ends. */
export async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'storage-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Mounts a RAM disk over a folder until the test ends, where that is allowed; whether it did. */
export function mountRamDisk(t: ExecutionContext, folder: string, options: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    t.log('mounting is not permitted here: full and read-only devices were not tried');
    return false;
  }
  t.teardown(() => execFileSync('umount', [folder]));
  return true;
}
