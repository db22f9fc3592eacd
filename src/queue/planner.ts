import { join } from 'node:path';
import { DelayedError, type Job, type Queue, WaitingChildrenError } from 'bullmq';
import {
  type EndedRecording,
  manifestHolds,
  manifestKeys,
  type Put,
  writePlan,
  writeResult,
} from '../conversion/ledger.ts';
import { removeLeftOvers, type Unpublished } from '../conversion/left-overs.ts';
import type { FinalizeContext, FinalizeRequest, FinalizeResult, Log } from '../conversion/types.ts';
import { checkVideoLayout } from '../conversion/video-layout.ts';
import type { Misfit } from '../dataset/agreement.ts';
import { InputError, throwIfAborted } from '../errors.ts';
import type { Storage } from '../storage/types.ts';
import { isFinal, reasonOf } from './failures.ts';
import {
  type DatasetJob,
  type DatasetResult,
  episodeJobId,
  type EpisodeJob,
  parsePayload,
  QUEUES,
} from './jobs.ts';
import { episodeJobOptions } from './options.ts';
import { chunks, type DatasetStore, type Run, type Staged } from './store.ts';
import { reconcile } from './reconcile.ts';
import { takeOver } from './takeover.ts';

/** What a dataset job needs of the process it runs in. */
export type PlannerSetting = {
  readonly store: DatasetStore;
  readonly episodes: Queue;
  /** Qualified name of the queue of dataset jobs. */
  readonly datasetsQueue: string;
  readonly openOutput: (url: string) => Storage;
  /** Opens uploads into `output`: `put` files, then `close`. */
  readonly openUploads: (output: Storage, signal: AbortSignal) => { put: Put; close: () => Promise<void> };
  readonly finalize: (request: FinalizeRequest, context: FinalizeContext) => Promise<FinalizeResult>;
  readonly scratch: string;
  readonly context: Pick<FinalizeContext, 'upload' | 'metrics'>;
  readonly defaultAttempts: number;
  readonly retryDelayMs: number;
  readonly log: Log;
};

/** Jobs added in one step: small enough for Redis to answer others in between. */
const CHUNK = 250;
/** How long a dataset job waits while another one works on the same dataset. */
const BUSY_MS = 500;

/**
 * The job of one run of a dataset: plans the episode jobs, waits for them without holding a worker, and finalizes.
 * Every step is kept with the job and may be repeated after a crash at any point. Planning and finalizing of one
 * dataset never run twice at once: both need the dataset's claim.
 */
export async function runDataset(
  setting: PlannerSetting,
  job: Job,
  token: string,
  signal: AbortSignal,
): Promise<DatasetResult> {
  const jobId = job.id ?? '';
  let data = parsePayload('dataset', jobId, job.data);
  const run = await setting.store.run(data.runId);
  if (!run)
    throw new InputError(
      `expected run ${data.runId} of dataset ${data.datasetId}, found none; it may have been removed`,
    );
  const claim = `dataset:${run.datasetId}`;
  if (
    data.step !== 'wait' &&
    (await setting.store.claim(claim, QUEUES.dataset, jobId, token)) !== undefined
  ) {
    await job.moveToDelayed(Date.now() + BUSY_MS, token);
    throw new DelayedError();
  }
  const advance = async (next: Partial<DatasetJob>) => {
    data = { ...data, ...next };
    await job.updateData(data);
  };
  try {
    if (data.step === 'plan') {
      await plan(setting, run, job, data, advance, signal);
      await advance({ step: 'wait' });
      await setting.store.unstage(run.runId);
    }
    if (data.step === 'wait') {
      await setting.store.release(claim, QUEUES.dataset, jobId, token);
      if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
      await advance({ step: 'finalize' });
      if ((await setting.store.claim(claim, QUEUES.dataset, jobId, token)) !== undefined) {
        await job.moveToDelayed(Date.now() + BUSY_MS, token);
        throw new DelayedError();
      }
    }
    return await finish(setting, run, job, token, signal);
  } finally {
    await setting.store.release(claim, QUEUES.dataset, jobId, token);
  }
}

async function plan(
  setting: PlannerSetting,
  run: Run,
  job: Job,
  data: DatasetJob,
  advance: (next: Partial<DatasetJob>) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { store } = setting;
  await preparePlan(setting, run, job, signal);
  for (let planned = data.planned; planned < run.total;) {
    throwIfAborted(signal);
    const part = await store.merge(run, planned, CHUNK);
    if (part.length === 0)
      throw new Error(`expected ${run.total} recordings of run ${run.runId}, found ${planned}`);
    await addEpisodes(setting, run, job, part);
    planned += part.length;
    await advance({ planned });
  }
  await store.setState(run, { state: 'converting' });
}

/** Takes the ledger over when this Redis does not know the dataset, gives slots, writes the plan into the ledger. */
async function preparePlan(setting: PlannerSetting, run: Run, job: Job, signal: AbortSignal): Promise<void> {
  const { store } = setting;
  const committed = await store.commit(run);
  if (!committed)
    throw new InputError(`dataset ${run.datasetId} writes to another output than ${run.output}`);
  const recordings = await store.staged(run.runId, 0, run.total);
  const output = setting.openOutput(run.output);
  const lastTry = job.attemptsMade + 1 >= (job.opts.attempts ?? 1);
  try {
    await takeOver(store, output, run, recordings, signal);
    const own = recordings.map(({ key }) => key);
    await checkVideoLayout(output, own, run.config, signal);
    const planned = await withSlots(store, run, recordings);
    const uploads = setting.openUploads(output, signal);
    try {
      await writePlan(uploads.put, run.datasetId, run.runId, planned);
    } finally {
      await uploads.close();
    }
  } catch (thrown) {
    throwIfAborted(signal);
    if (!isFinal(thrown) && !lastTry) throw thrown;
    // The output cannot be used: every recording says so, at once, instead of converting in vain.
    setting.log.warn({ runId: run.runId, reason: reasonOf(thrown) }, 'output cannot be used');
    await store.stopRun(run.runId, 'blocked', reasonOf(thrown));
  }
}

async function withSlots(store: DatasetStore, run: Run, recordings: readonly Staged[]) {
  const planned: { key: string; slot: number; source: string; task?: string | undefined }[] = [];
  for (const part of chunks(recordings)) {
    const slots = await store.slots(
      run.datasetId,
      part.map(({ key }) => key),
    );
    part.forEach((staged, i) => planned.push({ ...staged, slot: slots[i] ?? -1 }));
  }
  return planned;
}

/**
 * Adds episode jobs below the dataset job. Jobs that are there already, from a step that was interrupted, are left
 * alone: adding one again that has failed would make its parent wait for ever.
 */
async function addEpisodes(
  setting: PlannerSetting,
  run: Run,
  job: Job,
  part: readonly Staged[],
): Promise<void> {
  const { store, episodes } = setting;
  const ids = part.map(({ key }) => episodeJobId(run.runId, key));
  const probe = store.redis.pipeline();
  for (const id of ids) probe.exists(store.keys.job(QUEUES.episode, id));
  const found = (await probe.exec()) ?? [];
  const slots = await store.slots(
    run.datasetId,
    part.map(({ key }) => key),
  );
  const missing = part.flatMap((staged, i) => {
    if (found[i]?.[1] === 1) return [];
    const data: EpisodeJob = {
      datasetId: run.datasetId,
      runId: run.runId,
      key: staged.key,
      slot: slots[i] ?? 0,
      source: staged.source,
      ...(staged.task === undefined ? {} : { task: staged.task }),
    };
    return [
      {
        name: 'episode',
        data,
        opts: {
          ...episodeJobOptions(run.options, setting),
          jobId: ids[i] ?? '',
          parent: { id: job.id ?? '', queue: setting.datasetsQueue },
        },
      },
    ];
  });
  if (missing.length > 0) await episodes.addBulk(missing);
}

/** Publishes what was converted, by manifests in storage and the publish policy, and writes the run's result. */
async function finish(
  setting: PlannerSetting,
  run: Run,
  job: Job,
  token: string,
  signal: AbortSignal,
): Promise<DatasetResult> {
  const { store } = setting;
  await reconcile(store, setting.episodes, run.datasetId);
  const { blocked } = await store.stopped(run.runId, '');
  const goesOn = await store.setState(run, { state: 'finalizing' });
  const output = setting.openOutput(run.output);
  const { misfits = [], ...result } = goesOn
    ? await publish(setting, run, job, output, blocked, signal)
    : { state: 'cancelled' as const, episodes: 0, frames: 0 };
  await recordMisfits(store, run, misfits);
  if (blocked === undefined) {
    await removeUnpublished(setting, run, output, { jobId: job.id ?? '', token, misfits }, signal);
    await writeLedgerResult(setting, run, output, signal);
  }
  await store.setState(run, {
    state: result.state,
    finishedAt: Date.now(),
    ...(result.frames > 0 ? { published: result.frames } : {}),
    reason: result.reason,
  });
  return result;
}

async function publish(
  setting: PlannerSetting,
  run: Run,
  job: Job,
  output: Storage,
  blocked: string | undefined,
  signal: AbortSignal,
): Promise<DatasetResult & { readonly misfits?: readonly Misfit[] }> {
  const nothing = { episodes: 0, frames: 0 };
  if (blocked !== undefined) return { state: 'failed', ...nothing, reason: blocked };
  const { keys, outdated, absent } = await publishable(setting.store, run.datasetId, output, signal);
  if (keys.length === 0) return { state: 'failed', ...nothing, reason: 'no recording was converted' };
  if (absent > 0 && run.config.publish === 'complete') {
    const reason = `${absent} of ${absent + keys.length} recordings were not converted and the config says publish: complete`;
    return { state: 'failed', ...nothing, reason };
  }
  const request = { datasetId: run.datasetId, runId: run.runId, config: run.config, keys, outdated };
  const scratch = join(setting.scratch, `${run.runId}-finalize-${job.attemptsStarted}-${process.pid}`);
  const context = { ...setting.context, output, scratch, log: setting.log, signal };
  const result = await setting.context.metrics.conversion.timeStage('finalize', () =>
    setting.finalize(request, context),
  );
  const { episodes, frames, misfits } = result;
  return { state: absent + misfits.length > 0 ? 'partial' : 'completed', episodes, frames, misfits };
}

/** What was converted, and does not fit to the others, has failed in the end. */
async function recordMisfits(store: DatasetStore, run: Run, misfits: readonly Misfit[]): Promise<void> {
  const outcomes = await store.outcomes(
    run.datasetId,
    misfits.map(({ key }) => key),
  );
  for (const [i, { key, reason }] of misfits.entries()) {
    const outcome = outcomes[i];
    if (outcome?.state !== 'completed' && outcome?.state !== 'skipped') continue;
    await store.record(run.datasetId, key, { ...outcome, state: 'failed', frames: 0, reason });
  }
}

/**
 * Keys of the recordings to publish, in slot order, which of them have failed since, and how many of the dataset are
 * absent. What counts is the manifest; one of a recording whose newest try did not succeed counts as long as its files
 * are whole. Recordings that a newer run is still converting are neither.
 */
async function publishable(
  store: DatasetStore,
  datasetId: string,
  output: Storage,
  signal: AbortSignal,
): Promise<{ keys: string[]; outdated: Set<string>; absent: number }> {
  const manifests = await manifestKeys(output, signal);
  const found: { key: string; slot: number }[] = [];
  const outdated = new Set<string>();
  let absent = 0;
  for await (const part of pages(store, datasetId)) {
    for (const { key, entry, outcome } of part) {
      const there = manifests.has(key);
      const succeeded = outcome?.state === 'completed' || outcome?.state === 'skipped';
      if (there && entry && (succeeded || (await manifestHolds(output, key, signal)))) {
        found.push({ key, slot: entry.slot ?? 0 });
        if (outcome && !succeeded) {
          outdated.add(key);
          absent++;
        }
      } else if (outcome) absent++;
    }
  }
  const keys = found.toSorted((a, b) => a.slot - b.slot).map(({ key }) => key);
  return { keys, outdated, absent };
}

/**
 * Takes back what attempts of recordings that ended without a manifest had sent, and what does not fit to the others,
 * unless somebody converts them anew.
 */
async function removeUnpublished(
  { store, log }: PlannerSetting,
  { datasetId }: Run,
  output: Storage,
  {
    jobId,
    token,
    misfits,
  }: { readonly jobId: string; readonly token: string; readonly misfits: readonly Misfit[] },
  signal: AbortSignal,
): Promise<void> {
  const unfit = new Set(misfits.map(({ key }) => key));
  const unpublished: Unpublished[] = [];
  for await (const part of pages(store, datasetId)) {
    for (const { key, entry, outcome } of part) {
      const lost = outcome?.state === 'failed' || outcome?.state === 'cancelled';
      if (lost && entry?.slot !== undefined)
        unpublished.push({ key, slot: entry.slot, misfit: unfit.has(key) });
    }
  }
  const claim = async (key: string) => {
    const what = `episode:${datasetId}:${key}`;
    if ((await store.claim(what, QUEUES.dataset, jobId, token)) !== undefined) return undefined;
    return () => store.release(what, QUEUES.dataset, jobId, token);
  };
  await removeLeftOvers(output, unpublished, claim, { signal, log });
}

async function writeLedgerResult(
  setting: PlannerSetting,
  run: Run,
  output: Storage,
  signal: AbortSignal,
): Promise<void> {
  const ended: EndedRecording[] = [];
  for await (const part of pages(setting.store, run.datasetId)) {
    for (const { key, entry, outcome } of part) {
      if (outcome?.runId !== run.runId || entry?.slot === undefined) continue;
      const { runId: _, ...rest } = outcome;
      ended.push({ key, slot: entry.slot, source: entry.source, task: entry.task, ...rest });
    }
  }
  const uploads = setting.openUploads(output, signal);
  try {
    await writeResult(uploads.put, run.runId, ended);
  } finally {
    await uploads.close();
  }
}

/** All recordings of a dataset with their outcomes, in order of arrival, part by part. */
async function* pages(store: DatasetStore, datasetId: string) {
  for (let after = 0; ;) {
    const page = await store.page(datasetId, 'all', after, 500);
    const last = page.at(-1);
    if (!last) return;
    after = last.seq;
    const keys = page.map(({ key }) => key);
    const [entries, outcomes] = [await store.entries(datasetId, keys), await store.outcomes(datasetId, keys)];
    yield keys.map((key, i) => ({ key, entry: entries[i], outcome: outcomes[i] }));
  }
}
