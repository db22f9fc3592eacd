import { type LedgerRecording, manifestKeys, readLedger, readManifestSummary } from '../conversion/ledger.ts';
import type { Storage } from '../storage/types.ts';
import type { DatasetStore, Outcome, Run, Staged } from './store.ts';

const LOST = 'Redis lost this recording before it was converted; a retry of the dataset converts it';

/**
 * Takes over from the ledger, once, what this Redis does not know of a dataset (any more): slots, and how its recordings
 * ended. Those that a run was still to convert when Redis lost it are completed by their manifest, or else failed, so
 * that a retry finds them; the ones that `run` takes up again anyway (`recordings`) are left to it.
 */
export async function takeOver(
  store: DatasetStore,
  output: Storage,
  run: Run,
  recordings: readonly Staged[],
  signal: AbortSignal,
): Promise<void> {
  if (await store.adopted(run.datasetId)) return;
  const ledger = await readLedger(output, run.datasetId, signal);
  const again = new Set(recordings.map(({ key }) => key));
  const manifests = ledger ? await manifestKeys(output, signal) : new Set<string>();
  const known = [];
  for (const { ended, runId, ...planned } of ledger?.recordings ?? []) {
    const { key } = planned;
    const outcome = ended ? { ...ended, runId } : undefined;
    const lost = !outcome && !again.has(key);
    known.push({
      ...planned,
      outcome: lost ? await lostOutcome(output, { key, runId }, manifests.has(key), signal) : outcome,
    });
  }
  await store.adopt(run.datasetId, ledger?.nextSlot ?? 0, known);
}

async function lostOutcome(
  output: Storage,
  { key, runId }: Pick<LedgerRecording, 'key' | 'runId'>,
  converted: boolean,
  signal: AbortSignal,
): Promise<Outcome> {
  const manifest = converted ? await readManifestSummary(output, key, signal) : undefined;
  const now = Date.now();
  const times = { createdAt: now, startedAt: null, finishedAt: now };
  if (!manifest) return { state: 'failed', runId, frames: 0, attempts: 0, reason: LOST, ...times };
  const frames = manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  return { state: 'completed', runId, frames, attempts: 1, ...times };
}
