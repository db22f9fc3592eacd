import { manifestPath, ownerOfFile, STAGED_PREFIX, VIDEOS_PREFIX } from '../dataset/layout.ts';
import { CanceledError, InputError } from '../errors.ts';
import { readManifest } from './manifests.ts';
import type { Storage } from '../storage/types.ts';
import type { Log } from './types.ts';

/** A recording that is not going to be published by this run. */
export type Unpublished = {
  readonly key: string;
  readonly slot: number;
  /** It was converted, but does not fit to the others: its manifest goes, too. */
  readonly misfit?: boolean;
};

/**
 * Files are sent before their recording is verified, and an attempt that is killed takes nothing back: what it sent stays
 * when no later attempt gets to the end either. This removes such files of recordings that have ended without a manifest,
 * or with that of an earlier conversion. `claim` keeps others from converting one of them meanwhile (`undefined`: somebody
 * does); its result gives it free again. A recording with a manifest keeps all files of its edition and of those before,
 * whoever wrote it, unless it does not fit to its dataset. Not being able to remove is told, and no failure.
 */
export async function removeLeftOvers(
  output: Storage,
  recordings: readonly Unpublished[],
  claim: (key: string) => Promise<(() => Promise<void>) | undefined>,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Log },
): Promise<number> {
  let removed = 0;
  if (recordings.length === 0) return removed;
  try {
    const found = await leftOversOf(output, recordings, signal);
    for (const { key, misfit = false } of recordings) {
      const paths = found.get(key) ?? [];
      if (paths.length === 0 && !misfit) continue;
      const release = await claim(key);
      if (release === undefined) continue;
      try {
        if (misfit) await output.remove(manifestPath(key), { signal });
        const published = misfit ? -1 : await publishedEdition(output, key, signal);
        for (const { path, edition } of paths) {
          if (edition <= published) continue;
          await output.remove(path, { signal });
          removed += 1;
        }
      } finally {
        await release();
      }
    }
    if (removed > 0) log.info({ removed }, 'removed files of recordings that were not converted in the end');
  } catch (thrown) {
    if (thrown instanceof CanceledError) throw thrown;
    log.warn({ err: thrown }, 'files of recordings that were not converted could not be removed');
  }
  return removed;
}

/** The edition whose manifest is there; -1 without one. What is no manifest vouches for everything. */
async function publishedEdition(output: Storage, key: string, signal: AbortSignal): Promise<number> {
  try {
    const manifest = await readManifest(output, key, signal);
    return manifest === undefined ? -1 : (manifest.edition ?? 0);
  } catch (thrown) {
    if (thrown instanceof InputError) return Infinity;
    throw thrown;
  }
}

type Sent = { readonly path: string; readonly edition: number };

/** What lies there, by key. Two listings, however many recordings there are. */
async function leftOversOf(
  output: Storage,
  recordings: readonly Unpublished[],
  signal: AbortSignal,
): Promise<Map<string, Sent[]>> {
  const found = new Map(recordings.map(({ key }) => [key, [] as Sent[]]));
  const keyOfSlot = new Map(recordings.map(({ key, slot }) => [slot, key]));
  let joined = false;
  for await (const { key: path } of output.list(STAGED_PREFIX, { signal })) {
    const owner = ownerOfFile(path);
    const own = owner && 'key' in owner ? found.get(owner.key) : undefined;
    if (owner && own) own.push({ path, edition: owner.edition });
    // videos of a recording that is published wait to be joined: those of the dataset bear numbers of their own
    else if (path.endsWith('.mp4')) joined = true;
  }
  if (!joined) {
    for await (const { key: path } of output.list(VIDEOS_PREFIX, { signal })) {
      const owner = ownerOfFile(path);
      if (!owner || !('slot' in owner)) continue;
      found.get(keyOfSlot.get(owner.slot) ?? '')?.push({ path, edition: owner.edition });
    }
  }
  return found;
}
