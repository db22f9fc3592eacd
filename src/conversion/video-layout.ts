import { joinsVideos } from '../dataset/layout.ts';
import { InputError } from '../errors.ts';
import type { Storage } from '../storage/types.ts';
import { type DatasetConfig, hasVideo } from './config.ts';
import { manifestKeys } from './ledger.ts';
import { readManifest } from './manifests.ts';

/**
 * Joined videos and those of one recording bear the same names: what is added to a dataset must not write over what it
 * has. Throws `InputError` when recordings beside `keys`, which are about to be converted, lie there in the other form; one
 * of them is asked, as all are alike.
 */
export async function checkVideoLayout(
  output: Storage,
  keys: readonly string[],
  config: DatasetConfig,
  signal: AbortSignal,
): Promise<void> {
  if (config.format !== 'v3.0' || !hasVideo(config)) return;
  const { pack } = config.videos;
  const others = await manifestKeys(output, signal);
  for (const key of keys) others.delete(key);
  const [other] = others;
  const manifest = other === undefined ? undefined : await readManifest(output, other, signal);
  const joined = manifest && joinsVideos(manifest);
  if (joined === undefined || joined === pack) return;
  throw new InputError(
    `expected videos.pack: ${joined}, as ${manifest?.source.url} of this dataset was converted, found ${pack}: ` +
      'convert all its recordings alike, or into another dataset',
  );
}
