import { joinsVideos, ownerOfFile, STAGED_PREFIX, VIDEOS_PREFIX } from '../dataset/layout.ts';
import type { EpisodeManifest } from '../dataset/types.ts';
import { CanceledError } from '../errors.ts';
import type { Storage } from '../storage/types.ts';
import type { Log } from './types.ts';

/**
 * Files of recordings that were converted again: a dataset that is published keeps those it was made of until it is
 * published anew. What a conversion is sending now has a later edition than any manifest, and stays.
 */
export class Superseded {
  /** Editions that count, of recordings with an earlier one; by key, and by slot where videos are not joined. */
  readonly #ofKey = new Map<string, number>();
  readonly #ofSlot = new Map<number, number>();

  /** Takes note of a manifest that the dataset is made of. */
  note(manifest: EpisodeManifest): void {
    const { key, slot, edition = 0 } = manifest;
    if (edition === 0) return;
    this.#ofKey.set(key, edition);
    if (joinsVideos(manifest) === false) this.#ofSlot.set(slot, edition);
  }

  /** Removes the files of earlier editions. Not being able to is told, and no failure: the next time finds them. */
  async remove(
    output: Storage,
    { signal, log }: { readonly signal: AbortSignal; readonly log: Log },
  ): Promise<void> {
    try {
      const paths: string[] = [];
      const prefixes = [
        ...(this.#ofKey.size > 0 ? [STAGED_PREFIX] : []),
        ...(this.#ofSlot.size > 0 ? [VIDEOS_PREFIX] : []),
      ];
      for (const prefix of prefixes) {
        for await (const { key: path } of output.list(prefix, { signal })) {
          if (this.#isEarlier(path)) paths.push(path);
        }
      }
      for (const path of paths) await output.remove(path, { signal });
      if (paths.length > 0)
        log.info({ removed: paths.length }, 'removed files of recordings that were converted again');
    } catch (thrown) {
      if (thrown instanceof CanceledError) throw thrown;
      log.warn({ err: thrown }, 'files of recordings that were converted again could not be removed');
    }
  }

  #isEarlier(path: string): boolean {
    const owner = ownerOfFile(path);
    if (!owner) return false;
    const current = 'key' in owner ? this.#ofKey.get(owner.key) : this.#ofSlot.get(owner.slot);
    return current !== undefined && owner.edition < current;
  }
}
