import { manifestPath } from '../dataset/layout.ts';
import { parseManifest } from '../dataset/manifest.ts';
import type { EpisodeManifest } from '../dataset/types.ts';
import { InputError } from '../errors.ts';
import type { Storage } from '../storage/types.ts';

/** No manifest of a sane recording is larger than this. */
const MAX_BYTES = 256 * 1024 * 1024;

/** The manifest under a ledger key, or undefined when the recording is not converted. */
export async function readManifest(
  output: Storage,
  key: string,
  signal: AbortSignal,
): Promise<EpisodeManifest | undefined> {
  const path = manifestPath(key);
  if (!(await output.head(path, { signal }))) return undefined;
  const object = await output.open(path, { signal });
  try {
    const size = await object.size();
    if (size > BigInt(MAX_BYTES))
      throw new InputError(`${output.url}/${path} has ${size} bytes, too many for a manifest`);
    const bytes = await object.read(0n, size);
    return parseManifest(bytes, `${output.url}/${path}`);
  } finally {
    await object.close();
  }
}
