import type { DatasetConfig } from '../conversion/config.ts';
import { InputError, StorageError } from '../errors.ts';
import type { QueueClient } from './client.ts';
import {
  type DatasetJob,
  type Enqueued,
  type EnqueueOptions,
  MAX_RECORDINGS,
  newRunId,
  type Recording,
  recordingKey,
} from './jobs.ts';
import { datasetJobOptions } from './options.ts';
import { type Fault, otherOutput, type Refusal, unknownDataset } from './refusals.ts';
import type { DatasetRecord, Run, Staged } from './store.ts';

/** Makes a location a URL; throws `InputError` when jobs may not use it. */
export type LocationCheck = (location: string) => string | Promise<string>;

/** The same for sources: a pattern or prefix may stand for several recordings, which are looked for until `signal` ends it. */
export type SourceCheck = (
  location: string,
  signal: AbortSignal,
) => string | readonly string[] | Promise<string | readonly string[]>;

/** Longest the patterns of one request may take to be expanded. */
export const EXPAND_TIMEOUT_MS = 60_000;

/** The location as a URL, or the fault at `pointer` of the request. */
export async function allowed<T>(
  check: (location: string) => T | Promise<T>,
  location: string,
  pointer: string,
): Promise<T | Fault> {
  try {
    return await check(location);
  } catch (thrown) {
    // What cannot be looked at for good, such as a folder of somebody else, is the request's fault as well.
    const refused = thrown instanceof InputError || (thrown instanceof StorageError && !thrown.retryable);
    if (!refused) throw thrown;
    return { pointer, detail: thrown.message };
  }
}

/** Recordings of a request by key, each once, and every fault. */
export async function stageRecordings(
  recordings: readonly Recording[],
  check: SourceCheck,
): Promise<{ staged: Staged[]; faults: Fault[] }> {
  const staged = new Map<string, Staged & { readonly at: number }>();
  const faults: Fault[] = [];
  const deadline = AbortSignal.timeout(EXPAND_TIMEOUT_MS);
  const checkInTime = async (source: string) => {
    try {
      return await check(source, deadline);
    } catch (thrown) {
      if (!deadline.aborted) throw thrown;
      const limit = `within ${EXPAND_TIMEOUT_MS / 1000} s`;
      throw new InputError(`expected the recordings at ${source} to be found ${limit}; name fewer at once`, {
        cause: thrown,
      });
    }
  };
  for (const [at, recording] of recordings.entries()) {
    const pointer = `/recordings/${at}/source`;
    const found = await allowed(checkInTime, recording.source, pointer);
    if (typeof found === 'object' && 'pointer' in found) {
      faults.push(found);
      continue;
    }
    for (const source of typeof found === 'string' ? [found] : found) {
      const key = recordingKey(source);
      const before = staged.get(key);
      if (!before) staged.set(key, { key, source, task: recording.task, at });
      else if (before.task !== recording.task) {
        const detail = `the same recording as /recordings/${before.at}, with another task`;
        faults.push({ pointer, detail });
      }
    }
  }
  if (staged.size > MAX_RECORDINGS) {
    const detail = `expected at most ${MAX_RECORDINGS} recordings, found ${staged.size} after patterns are expanded`;
    faults.push({ pointer: '/recordings', detail });
  }
  return {
    staged: [...staged.values()].map(({ key, source, task }): Staged => ({ key, source, task })),
    faults,
  };
}

/** What a run is started with. */
export type RunRequest = {
  readonly datasetId: string;
  readonly output: string;
  readonly kind: Run['kind'];
  readonly config: DatasetConfig;
  readonly options: EnqueueOptions;
  readonly recordings: readonly Staged[];
};

/**
 * Starts a run: keeps what was asked for, adds the dataset job, makes the run the dataset's newest. A process that dies
 * in between leaves either nothing that counts or a job that does the rest itself.
 */
export async function startRun(
  { store, datasets }: QueueClient,
  request: RunRequest,
  retryDelayMs: number,
): Promise<Enqueued | Refusal> {
  const { datasetId, output, recordings, ...rest } = request;
  const runId = newRunId();
  const run: Run = { ...rest, runId, datasetId, output, total: recordings.length, createdAt: Date.now() };
  await store.stage(run, recordings);
  const data: DatasetJob = { datasetId, runId, step: 'plan', planned: 0 };
  const job = await datasets.add('dataset', data, datasetJobOptions(runId, request.options, retryDelayMs));
  if (await store.commit(run)) return { datasetId, runId, episodes: recordings.length };
  await job.remove();
  const known = await store.dataset(datasetId);
  return known ? otherOutput(known, output) : unknownDataset(datasetId);
}

/** A dataset with its newest config and options; `undefined` when unknown. */
export async function newestRun(
  { store }: QueueClient,
  datasetId: string,
): Promise<(DatasetRecord & Pick<Run, 'config' | 'options'>) | undefined> {
  const record = await store.dataset(datasetId);
  const run = record && (await store.run(record.runId));
  return record && run && { ...record, config: run.config, options: run.options };
}
