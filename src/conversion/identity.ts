import type { EpisodeManifest } from '../dataset/types.ts';
import type { SourceVersion } from '../storage/types.ts';
import { conversionHash, type MarksFile } from './marks.ts';
import type { ConversionRequest } from './types.ts';
import { version } from './version.ts';

/** Whether a manifest is that of the same conversion: same content, config, task, marks, slot and converter. */
export function identityOf(
  request: ConversionRequest,
  source: { readonly info: SourceVersion },
  marks: MarksFile | undefined,
): (manifest: EpisodeManifest) => boolean {
  const hash = conversionHash(request, marks);
  return (manifest) =>
    manifest.configHash === hash &&
    manifest.slot === request.slot &&
    manifest.source.etag === source.info.etag &&
    manifest.source.size === source.info.size &&
    manifest.converter.version === version;
}
