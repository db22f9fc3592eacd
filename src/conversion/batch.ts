import { join } from 'node:path';
import { CanceledError, InputError, throwIfAborted, toError } from '../errors.ts';
import { withReleasers } from '../releasers.ts';
import type { UploadCoordinator } from '../storage/coordinator.ts';
import type { DatasetConfig } from './config.ts';
import { convertEpisode } from './convert.ts';
import { finalizeDataset } from './finalize.ts';
import { type EndedRecording, type PlannedRecording, readLedger, writePlan, writeResult } from './ledger.ts';
import { removeLeftOvers } from './left-overs.ts';
import { claimOutput } from './output-claim.ts';
import { openUploads } from './uploads.ts';
import type { ConversionContext, ConversionResult, FinalizeResult, Progress } from './types.ts';
import { checkVideoLayout } from './video-layout.ts';

/** A recording to convert: its URL, its ledger key, and its task when it has one of its own. */
export type BatchRecording = { readonly source: string; readonly key: string; readonly task?: string };

/** How one recording of a batch ended. */
export type BatchOutcome =
  | {
      readonly state: ConversionResult['outcome'];
      readonly source: string;
      readonly result: ConversionResult;
    }
  | { readonly state: 'failed'; readonly source: string; readonly error: Error };

/** What a batch is asked to do. `runId` sorts by time. */
export type BatchRequest = {
  readonly datasetId: string;
  readonly runId: string;
  readonly config: DatasetConfig;
  readonly recordings: readonly BatchRecording[];
};

/** How the recordings ended, in the order given, and the dataset as published. */
type BatchResult = {
  readonly outcomes: readonly BatchOutcome[];
  readonly dataset: FinalizeResult | undefined;
};

/** Told about every step. */
export type BatchListener = {
  onProgress?(source: string, progress: Progress): void;
  onOutcome?(outcome: BatchOutcome): void;
};

/**
 * Converts recordings one after the other in this process, and finalizes the dataset: what the service does, without
 * queue. A recording that fails does not stop the others; with `publish: complete` it keeps the dataset from being
 * published. Adds to a dataset of the same id that is there already. Throws `InputError` while another batch writes there.
 */
export async function convertBatch(
  request: BatchRequest,
  context: ConversionContext,
  listener: BatchListener = {},
): Promise<BatchResult> {
  return await withReleasers(async (release) => {
    release(await claimOutput(context.output, context.signal));
    return await convertAll(request, context, listener);
  });
}

async function convertAll(
  request: BatchRequest,
  context: ConversionContext,
  listener: BatchListener,
): Promise<BatchResult> {
  const { datasetId, runId, config } = request;
  const { output, signal } = context;
  const ledger = await readLedger(output, datasetId, signal);
  const own = request.recordings.map(({ key }) => key);
  await checkVideoLayout(output, own, config, signal);
  const known = new Map(ledger?.recordings.map((recording) => [recording.key, recording]));
  let nextSlot = ledger?.nextSlot ?? 0;
  const planned = request.recordings.map((recording) => ({
    ...recording,
    slot: known.get(recording.key)?.slot ?? nextSlot++,
  }));
  await write(context, (put) => writePlan(put, datasetId, runId, planned));

  const outcomes: BatchOutcome[] = [];
  const ended: EndedRecording[] = [];
  for (const recording of planned) {
    const startedAt = Date.now();
    const outcome = await convertOne(recording, config, context, listener);
    throwIfAborted(signal);
    outcomes.push(outcome);
    ended.push(endedRecording(recording, outcome, startedAt));
    listener.onOutcome?.(outcome);
  }
  const lost = ended.filter(({ state }) => state === 'failed');
  await removeLeftOvers(output, lost, alone, context);
  await write(context, (put) => writeResult(put, runId, ended));
  const failed = outcomes.some((outcome) => outcome.state === 'failed');
  const converted = new Set(ended.filter(({ state }) => state !== 'failed').map(({ key }) => key));
  const earlier = [...known.values()].filter(
    ({ key, ended: before }) =>
      !converted.has(key) && (before?.state === 'completed' || before?.state === 'skipped'),
  );
  const published = [...earlier, ...planned.filter(({ key }) => converted.has(key))].toSorted(
    (a, b) => a.slot - b.slot,
  );
  const keys = published.map(({ key }) => key);
  if (keys.length === 0 || (failed && config.publish === 'complete')) return { outcomes, dataset: undefined };
  const dataset = await finalizeDataset({ datasetId, runId, config, keys }, context);
  if (dataset.misfits.length === 0) return { outcomes, dataset };

  const reasons = new Map(dataset.misfits.map(({ key, reason }) => [key, reason]));
  const misfits = published.filter(({ key }) => reasons.has(key));
  for (const { key, source } of misfits) {
    const outcome = { state: 'failed', source, error: new InputError(reasons.get(key)) } as const;
    listener.onOutcome?.(outcome);
    const at = planned.findIndex((recording) => recording.key === key);
    if (at >= 0) outcomes[at] = outcome;
  }
  const before = earlier.flatMap((each) => (each.ended && reasons.has(each.key) ? [each.ended] : []));
  const again = [...ended, ...before].map((each) => {
    const reason = reasons.get(each.key);
    return reason === undefined ? each : { ...each, state: 'failed' as const, frames: 0, reason };
  });
  await removeLeftOvers(
    output,
    misfits.map((each) => ({ ...each, misfit: true })),
    alone,
    context,
  );
  await write(context, (put) => writeResult(put, runId, again));
  return { outcomes, dataset };
}

/** Nobody else converts while the output is claimed. */
const alone = async () => async () => {};

async function convertOne(
  recording: PlannedRecording,
  config: DatasetConfig,
  context: ConversionContext,
  listener: BatchListener,
): Promise<BatchOutcome> {
  const { source, key, slot, task } = recording;
  try {
    const result = await convertEpisode(
      { source, key, slot, config, ...(task === undefined ? {} : { task }) },
      {
        ...context,
        scratch: join(context.scratch, key),
        onProgress: (progress) => listener.onProgress?.(source, progress),
      },
    );
    return { state: result.outcome, source, result };
  } catch (thrown) {
    if (thrown instanceof CanceledError) throw thrown;
    return { state: 'failed', source, error: toError(thrown) };
  }
}

function endedRecording(
  recording: PlannedRecording,
  outcome: BatchOutcome,
  startedAt: number,
): EndedRecording {
  const { key, slot, source, task } = recording;
  const frames =
    outcome.state === 'failed'
      ? 0
      : outcome.result.manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  return {
    key,
    slot,
    source,
    ...(task === undefined ? {} : { task }),
    state: outcome.state,
    frames,
    attempts: 1,
    ...(outcome.state === 'failed' ? { reason: outcome.error.message } : {}),
    createdAt: startedAt,
    startedAt,
    finishedAt: Date.now(),
  };
}

async function write(
  context: ConversionContext,
  work: (put: UploadCoordinator['add']) => Promise<void>,
): Promise<void> {
  const coordinator = openUploads(context);
  await withReleasers(async (release) => {
    release(() => coordinator.close());
    await work((file) => coordinator.add(file));
  });
}
