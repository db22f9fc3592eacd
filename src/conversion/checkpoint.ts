import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseManifest } from '../dataset/manifest.ts';
import type { EpisodeManifest } from '../dataset/types.ts';
import { InputError, toError } from '../errors.ts';
import { localError } from '../storage/local-errors.ts';
import { hasEnded, ownStart } from '../storage/owner.ts';

/**
 * What an attempt leaves for the next one. A job's scratch folder holds one folder an attempt, named after its
 * process and when that began. When the files of an attempt are verified it writes `checkpoint.json`; from then on an
 * interrupted upload does not cost the conversion: the next attempt on this machine takes the folder over by renaming
 * it, which only one can win. Folders of dead attempts without checkpoint are removed.
 */
const CHECKPOINT = 'checkpoint.json';
/** A checkpoint nobody came back for is swept after this. */
const KEEP_MS = 24 * 3_600_000;

let attempts = 0;

/** Verified files of one recording: the manifest to publish, and where its files lie. */
export type Checkpoint = {
  readonly manifest: EpisodeManifest;
  /** Dataset path → file name inside the attempt's folder. */
  readonly files: Readonly<Record<string, string>>;
};

/** A fresh folder for this attempt below the job's scratch folder. */
export async function createAttempt(scratch: string): Promise<string> {
  const folder = join(scratch, attemptName());
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Writes the checkpoint of a verified attempt; it appears complete or not at all. */
export async function saveCheckpoint(folder: string, checkpoint: Checkpoint): Promise<void> {
  const temporary = join(folder, `${CHECKPOINT}.tmp`);
  await writeFile(temporary, JSON.stringify(checkpoint));
  await rename(temporary, join(folder, CHECKPOINT));
}

/**
 * Takes over the checkpoint of an earlier attempt that `matches`, and removes what other dead attempts left.
 * The folder is this attempt's from then on.
 */
export async function adoptCheckpoint(
  scratch: string,
  matches: (manifest: EpisodeManifest) => boolean,
): Promise<{ readonly folder: string; readonly checkpoint: Checkpoint } | undefined> {
  let adopted: { folder: string; checkpoint: Checkpoint } | undefined;
  for (const name of await attemptsIn(scratch)) {
    if (isAlive(name)) continue;
    const folder = join(scratch, name);
    const checkpoint = adopted ? undefined : await readCheckpoint(folder);
    if (!checkpoint || !matches(checkpoint.manifest)) {
      await rm(folder, { recursive: true, force: true });
      continue;
    }
    const mine = join(scratch, attemptName());
    try {
      await rename(folder, mine);
      adopted = { folder: mine, checkpoint };
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw toError(thrown);
    }
  }
  return adopted;
}

/** Removes what dead attempts left of a job that is done. */
export async function removeDeadAttempts(scratch: string): Promise<void> {
  await adoptCheckpoint(scratch, () => false);
}

/** Gives the folder up without removing it, so that any process may adopt it. */
export async function releaseAttempt(folder: string): Promise<void> {
  await rename(folder, folder.replace(/attempt-\d+-/, 'attempt-0-'));
}

const ATTEMPT = 'attempt-';

/** Folder of a command that converts by itself, below the scratch root. */
export const commandFolder = (pid: number) => `convert-${pid}`;
const COMMAND = /^convert-\d+$/;

/**
 * Removes what dead processes left under the scratch root: attempts without checkpoint, and checkpoints nobody came
 * back for within a day. Called once when a pod or a command starts; a command has a root of its own below the pod's.
 * Returns the number of attempts removed.
 */
export async function sweepScratch(root: string, now = Date.now()): Promise<number> {
  let removed = 0;
  for (const job of await foldersIn(root)) {
    if (job.startsWith(ATTEMPT)) continue;
    const scratch = join(root, job);
    if (COMMAND.test(job)) removed += await sweepScratch(scratch, now);
    const names = await attemptsIn(scratch);
    for (const name of names) {
      const folder = join(scratch, name);
      const kept = await stat(join(folder, CHECKPOINT)).catch(() => undefined);
      if (isAlive(name) || (kept && now - kept.mtimeMs < KEEP_MS)) continue;
      await rm(folder, { recursive: true, force: true });
      removed++;
    }
    await removeIfEmpty(scratch);
  }
  return removed;
}

/**
 * Bounds what interrupted uploads keep under the scratch root: a store that is slow or away must not fill the disk with
 * the files of one recording after the other, and the next attempt may come elsewhere. Of the checkpoints that nobody
 * works on, the longest kept go until the others take at most `maxBytes`; their recordings are converted again. So do
 * attempts of dead processes from the day before. Returns the number of folders removed.
 */
export async function boundCheckpoints(root: string, maxBytes: number, now = Date.now()): Promise<number> {
  const kept: { folder: string; bytes: number; since: number }[] = [];
  let removed = 0;
  for (const job of await foldersIn(root)) {
    for (const name of await attemptsIn(join(root, job))) {
      if (isAlive(name)) continue;
      const folder = join(root, job, name);
      const checkpoint = await timeOf(join(folder, CHECKPOINT));
      const since = checkpoint ?? (await timeOf(folder)) ?? now;
      if (now - since > KEEP_MS) removed += await removeAttempt(folder);
      else if (checkpoint !== undefined) kept.push({ folder, since, bytes: await bytesIn(folder) });
    }
  }
  let total = kept.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { folder, bytes } of kept.toSorted((a, b) => a.since - b.since)) {
    if (total <= maxBytes) break;
    removed += await removeAttempt(folder);
    total -= bytes;
  }
  return removed;
}

/** Removes an attempt that nobody works on, by taking it over first: half of one must not be adopted. */
async function removeAttempt(folder: string): Promise<number> {
  const scratch = dirname(folder);
  const mine = join(scratch, attemptName());
  try {
    await rename(folder, mine);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return 0; // somebody goes on with it
    throw toError(thrown);
  }
  await rm(mine, { recursive: true, force: true });
  await removeIfEmpty(scratch);
  return 1;
}

async function timeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw toError(thrown);
  }
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  try {
    for (const name of await readdir(folder)) bytes += (await stat(join(folder, name))).size;
  } catch (thrown) {
    // adopted meanwhile
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw toError(thrown);
  }
  return bytes;
}

/** Removes a folder that holds nothing; one that does, or is gone, is left alone. */
export async function removeIfEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (thrown) {
    if (!['ENOTEMPTY', 'ENOENT', 'EEXIST'].includes((thrown as NodeJS.ErrnoException).code ?? ''))
      throw toError(thrown);
  }
}

function attemptName(): string {
  return `attempt-${process.pid}-${ownStart}-${Date.now().toString(36)}${(attempts++).toString(36)}`;
}

/**
 * Whether the process that owns the folder still runs (pid 0: given up). Scratch outlives the container, and in the
 * next one process ids are the same again.
 */
function isAlive(name: string): boolean {
  const [, pid = '0', start = '0'] = /^attempt-(\d+)-(?:(\d+)-)?/.exec(name) ?? [];
  return pid !== '0' && !hasEnded(Number(pid), start);
}

async function attemptsIn(scratch: string): Promise<string[]> {
  return (await foldersIn(scratch)).filter((name) => name.startsWith(ATTEMPT));
}

async function foldersIn(root: string): Promise<string[]> {
  try {
    const entries = await readdir(root, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw localError(thrown, 'list the scratch folder', root);
  }
}

async function readCheckpoint(folder: string): Promise<Checkpoint | undefined> {
  let text: string;
  try {
    text = await readFile(join(folder, CHECKPOINT), 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw toError(thrown);
  }
  try {
    const { manifest, files } = JSON.parse(text) as { manifest: unknown; files: Record<string, string> };
    const bytes = new TextEncoder().encode(JSON.stringify(manifest));
    return { manifest: parseManifest(bytes, join(folder, CHECKPOINT)), files };
  } catch (thrown) {
    // Of another version, or lost with the machine's power: the recording is converted again.
    if (thrown instanceof SyntaxError || thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
