import { manifestPath, ownerOfFile, STAGED_PREFIX, VIDEOS_PREFIX } from '../dataset/layout.ts';
import { CanceledError } from '../errors.ts';
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
 * when no later attempt gets to the end either. This removes such files of recordings that have ended without a manifest.
 * `claim` keeps others from converting one of them meanwhile (`undefined`: somebody does); its result gives it free again.
 * A recording with a manifest keeps all its files, whoever wrote it, unless it does not fit to its dataset. Not being
 * able to remove is told, and no failure.
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
        const manifest = manifestPath(key);
        if (misfit) await output.remove(manifest, { signal });
        else if (await output.head(manifest, { signal })) continue;
        for (const path of paths) await output.remove(path, { signal });
        removed += paths.length;
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

/** Paths by key. Two listings, however many recordings there are. */
async function leftOversOf(
  output: Storage,
  recordings: readonly Unpublished[],
  signal: AbortSignal,
): Promise<Map<string, string[]>> {
  const found = new Map(recordings.map(({ key }) => [key, [] as string[]]));
  const keyOfSlot = new Map(recordings.map(({ key, slot }) => [slot, key]));
  let joined = false;
  for await (const { key: path } of output.list(STAGED_PREFIX, { signal })) {
    const owner = ownerOfFile(path);
    const own = owner && 'key' in owner ? found.get(owner.key) : undefined;
    if (own) own.push(path);
    // videos of a recording that is published wait to be joined: those of the dataset bear numbers of their own
    else if (path.endsWith('.mp4')) joined = true;
  }
  if (!joined) {
    for await (const { key: path } of output.list(VIDEOS_PREFIX, { signal })) {
      const owner = ownerOfFile(path);
      if (owner && 'slot' in owner) found.get(keyOfSlot.get(owner.slot) ?? '')?.push(path);
    }
  }
  return found;
}
