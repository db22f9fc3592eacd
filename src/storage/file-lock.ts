import { open, readFile, rename, stat, unlink, utimes, writeFile, link } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { errorCode } from './local-errors.ts';
import { isDead, ownerFrom, uniqueOwnerName } from './owner.ts';
import { pause } from './retry.ts';

/** A holder touches its lock this often, ms. */
const HEARTBEAT_MS = 5_000;
/** A lock not touched for so long is nobody's, ms. */
const STALE_MS = 30_000;

/** A held lock; `release` is safe to call twice. */
export type FileLock = { release(): Promise<void> };

/**
 * Takes a lock between processes: the file `path`, created exclusively, naming its owner, touched while held. A lock
 * whose owner is known to be dead, or that was not touched for 30 s, is taken over. Waits until it is free; an abort
 * ends the wait with `CanceledError`. System errors (no permission, no space) are thrown as they are.
 */
export async function lockFile(path: string, signal?: AbortSignal): Promise<FileLock> {
  const token = uniqueOwnerName();
  for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
    const found = await inspect(path);
    if (found?.stale) await breakStale(path, found.token);
    else if (found === undefined && (await tryCreate(path, token))) return held(path, token);
    await pause(waitMs, signal);
  }
}

async function tryCreate(path: string, token: string): Promise<boolean> {
  // linked into place, so that a lock is never seen without its owner's name
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, token, { flag: 'wx' });
  try {
    await link(draft, path);
    return true;
  } catch (thrown) {
    if (errorCode(thrown) === 'EEXIST') return false;
    if (errorCode(thrown) === 'EPERM' || errorCode(thrown) === 'ENOTSUP') return createDirectly(path, token);
    throw thrown;
  } finally {
    await unlink(draft);
  }
}

/** For file systems without hard links; an empty lock counts as held until it is stale. */
async function createDirectly(path: string, token: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    try {
      await file.writeFile(token);
    } finally {
      await file.close();
    }
    return true;
  } catch (thrown) {
    if (errorCode(thrown) === 'EEXIST') return false;
    throw thrown;
  }
}

function held(path: string, token: string): FileLock {
  const stop = touchRegularly(path);
  let released = false;
  return {
    release: async () => {
      if (released) return;
      released = true;
      stop();
      if ((await inspect(path))?.token === token) await unlinkIfThere(path);
    },
  };
}

/** Touches a file every few seconds, so that others see that its owner lives; returns what ends it. */
export function touchRegularly(path: string): () => void {
  const heartbeat = setInterval(() => {
    const now = new Date();
    // a touch that fails shows to others as an owner that is gone; there is nobody to tell here
    utimes(path, now, now).catch(() => clearInterval(heartbeat));
  }, HEARTBEAT_MS);
  heartbeat.unref();
  return () => clearInterval(heartbeat);
}

/** Whether the owner named in `token` is known to be dead, or has not touched its file for half a minute. */
export function isAbandoned(token: string, mtimeMs: number): boolean {
  const owner = ownerFrom(token);
  return (owner !== undefined && isDead(owner)) || Date.now() - mtimeMs > STALE_MS;
}

async function inspect(path: string): Promise<{ token: string; stale: boolean } | undefined> {
  try {
    const token = await readFile(path, 'utf8');
    const { mtimeMs } = await stat(path);
    return { token, stale: isAbandoned(token, mtimeMs) };
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

/** Moves a stale lock away; if another process replaced it meanwhile, what was moved goes back. */
async function breakStale(path: string, token: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return;
    throw thrown;
  }
  if ((await readFile(aside, 'utf8')) !== token) {
    await link(aside, path).catch((thrown: unknown) => {
      if (errorCode(thrown) !== 'EEXIST') throw thrown;
    });
  }
  await unlinkIfThere(aside);
}

/** Removes a file; gone already is fine. */
export async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (thrown) {
    if (errorCode(thrown) !== 'ENOENT') throw thrown;
  }
}
