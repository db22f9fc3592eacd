import { InputError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import type { Loss } from '../recording/types.ts';
import { withReleasers } from '../releasers.ts';
import { identityOf } from './identity.ts';
import type { Ledger } from './ledger.ts';
import { readManifest } from './manifests.ts';
import { readMarks } from './marks.ts';
import { planConversion } from './plan.ts';
import { scanTimeline } from './scan.ts';
import { blamingLosses, openSource } from './source.ts';
import type { ConversionContext, ConversionRequest } from './types.ts';

/**
 * What would become of one recording: `convert` with the rows, episodes and features to expect (rows that alignment
 * drops are not known before), `skip` because it was converted before, `refuse` with the sentence the job would fail with.
 */
export type Preview =
  | {
      readonly outcome: 'convert';
      readonly source: string;
      readonly rows: number;
      readonly episodes: number;
      readonly tasks: readonly string[];
      readonly features: readonly Pick<Feature, 'key' | 'dtype' | 'shape' | 'names'>[];
      /** What is damaged and would be left out. */
      readonly losses: readonly Loss[];
    }
  | { readonly outcome: 'skip'; readonly source: string; readonly rows: number; readonly episodes: number }
  | { readonly outcome: 'refuse'; readonly source: string; readonly reason: string };

/** Plans one recording as a conversion would, and writes nothing. `ledger` is that of the dataset, when there is one. */
export async function previewConversion(
  request: Omit<ConversionRequest, 'slot'>,
  ledger: Ledger | undefined,
  context: Pick<ConversionContext, 'metrics' | 'output' | 'signal' | 'sources'>,
): Promise<Preview> {
  try {
    return await preview(request, ledger, context);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    return { outcome: 'refuse', source: request.source, reason: thrown.message };
  }
}

async function preview(
  request: Omit<ConversionRequest, 'slot'>,
  ledger: Ledger | undefined,
  context: Pick<ConversionContext, 'metrics' | 'output' | 'signal' | 'sources'>,
): Promise<Preview> {
  const { config, key, source: location } = request;
  const { signal } = context;
  return withReleasers(async (release) => {
    const source = await openSource(location, context, config.recover);
    release(() => source.close());
    const marks = await readMarks({ ...request, slot: 0 }, context);
    const known = ledger?.recordings.find((recording) => recording.key === key);
    const published = known && (await readManifest(context.output, key, signal));
    if (published && identityOf({ ...request, slot: known.slot }, source, marks)(published)) {
      const rows = published.episodes.reduce((sum, part) => sum + part.frames, 0);
      return { outcome: 'skip', source: location, rows, episodes: published.episodes.length };
    }
    const { recording, name } = source;
    const { plan, extent, spans } = await blamingLosses(recording, async () => {
      const plan = await planConversion(recording, { ...request, name, marks }, signal);
      return { plan, ...(await scanTimeline(recording, plan, config, name, signal)) };
    });
    return {
      outcome: 'convert',
      source: location,
      rows: extent.expectedRows,
      episodes: spans.length,
      tasks: [...new Set(spans.flatMap(({ task }) => task ?? []))],
      features: plan.mapping.features.map(({ key: feature, dtype, shape, names }) => ({
        key: feature,
        dtype,
        shape,
        names,
      })),
      losses: recording.losses,
    };
  });
}
