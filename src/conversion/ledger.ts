import { z } from 'zod';
import { INFO_PATH, manifestPath } from '../dataset/layout.ts';
import { InputError, StorageError } from '../errors.ts';
import { compareKeys } from '../storage/keys.ts';
import type { Storage, UploadFile } from '../storage/types.ts';

/**
 * The ledger of a dataset, kept beside it in storage, so that it outlives the queue:
 * - `.roboflow/dataset.json` whose dataset this is, written once;
 * - `.roboflow/runs/<runId>.plan.jsonl` what a run was asked to convert, and under which slots;
 * - `.roboflow/runs/<runId>.result.jsonl` how each recording of the run ended, written when the run has ended;
 * - `.roboflow/episodes/<key>.json` the manifests, written by the conversions.
 * Run ids sort by time. Every file is written once and is a function of the run, so that writing it again after a crash
 * changes nothing.
 */

const DATASET_PATH = '.roboflow/dataset.json';
const RUNS_PREFIX = '.roboflow/runs/';
const EPISODES_PREFIX = '.roboflow/episodes/';

const ownerSchema = z.object({ version: z.literal(1), datasetId: z.string() });

const planLine = z.object({
  key: z.string(),
  slot: z.int().min(0),
  source: z.string(),
  task: z.string().optional(),
});

const resultLine = planLine.extend({
  state: z.enum(['completed', 'failed', 'cancelled', 'skipped']),
  frames: z.int().min(0),
  attempts: z.int().min(0),
  reason: z.string().optional(),
  createdAt: z.int(),
  startedAt: z.int().nullable(),
  finishedAt: z.int(),
});

/** A recording as planned. */
export type PlannedRecording = z.output<typeof planLine>;
/** A recording of a run that has ended; times in ms since the epoch. */
export type EndedRecording = z.output<typeof resultLine>;

/** A recording of the ledger: its newest plan, and how it ended there, if it did. */
export type LedgerRecording = PlannedRecording & { readonly runId: string; readonly ended?: EndedRecording };

/** What the ledger says of a dataset. */
export type Ledger = {
  readonly datasetId: string;
  /** In slot order. */
  readonly recordings: readonly LedgerRecording[];
  /** The first slot that was never given. */
  readonly nextSlot: number;
};

/** Writes one file; the upload coordinator's `add`. */
export type Put = (file: UploadFile) => Promise<unknown>;

/**
 * Reads the ledger; `undefined` where none is. Throws `InputError` when the location holds a dataset that is not ours
 * or not this one.
 */
export async function readLedger(
  storage: Storage,
  datasetId: string,
  signal: AbortSignal,
): Promise<Ledger | undefined> {
  const text = await readText(storage, DATASET_PATH, signal);
  if (text === undefined) {
    if (await storage.head(INFO_PATH, { signal })) {
      throw new InputError(
        `expected ${storage.url} to be empty or a dataset of this service, found ${INFO_PATH} of another origin`,
      );
    }
    return undefined;
  }
  const owner = ownerSchema.parse(JSON.parse(text));
  if (owner.datasetId !== datasetId) {
    throw new InputError(
      `expected ${storage.url} to hold dataset ${datasetId}, found dataset ${owner.datasetId}`,
    );
  }
  const paths: string[] = [];
  for await (const { key } of storage.list(RUNS_PREFIX, { signal })) paths.push(key);
  const recordings = new Map<string, LedgerRecording>();
  for (const path of paths.toSorted(compareKeys)) {
    const name = /\/(r[0-9a-z]+)\.(plan|result)\.jsonl$/.exec(path);
    if (!name?.[1]) continue;
    for (const line of lines((await readText(storage, path, signal)) ?? '')) {
      if (name[2] === 'plan') {
        const planned = planLine.parse(JSON.parse(line));
        recordings.set(planned.key, { ...planned, runId: name[1] });
      } else {
        const ended = resultLine.parse(JSON.parse(line));
        const known = recordings.get(ended.key);
        recordings.set(ended.key, { ...(known ?? { ...planLine.parse(ended), runId: name[1] }), ended });
      }
    }
  }
  const ordered = [...recordings.values()].toSorted((a, b) => a.slot - b.slot);
  return { datasetId, recordings: ordered, nextSlot: (ordered.at(-1)?.slot ?? -1) + 1 };
}

/** Writes whose dataset this is, and what a run is going to do. */
export async function writePlan(
  put: Put,
  datasetId: string,
  runId: string,
  recordings: readonly PlannedRecording[],
): Promise<void> {
  await put({
    key: DATASET_PATH,
    type: 'meta',
    body: bytesOf(`${JSON.stringify({ version: 1, datasetId })}\n`),
  });
  await put({
    key: `${RUNS_PREFIX}${runId}.plan.jsonl`,
    type: 'meta',
    body: bytesOf(jsonl(recordings.map((recording) => planLine.parse(recording)))),
  });
}

/** Writes how the recordings of a run ended. */
export async function writeResult(
  put: Put,
  runId: string,
  recordings: readonly EndedRecording[],
): Promise<void> {
  await put({
    key: `${RUNS_PREFIX}${runId}.result.jsonl`,
    type: 'meta',
    body: bytesOf(jsonl(recordings.map((recording) => resultLine.parse(recording)))),
  });
}

/** Keys of all manifests that exist. */
export async function manifestKeys(storage: Storage, signal: AbortSignal): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const { key } of storage.list(EPISODES_PREFIX, { signal })) {
    const name = /^([A-Za-z0-9_-]+)\.json$/.exec(key.slice(EPISODES_PREFIX.length));
    if (name?.[1]) keys.add(name[1]);
  }
  return keys;
}

const manifestFiles = z.object({
  files: z.array(z.object({ path: z.string(), type: z.string(), bytes: z.int() })),
  episodes: z.array(z.object({ frames: z.int() })),
  alignment: z.record(z.string(), z.unknown()),
});

/** What status answers need of a manifest: its files, its rows, and the alignment report as it is. */
export async function readManifestSummary(
  storage: Storage,
  key: string,
  signal: AbortSignal,
): Promise<z.output<typeof manifestFiles> | undefined> {
  const text = await readText(storage, manifestPath(key), signal);
  return text === undefined ? undefined : manifestFiles.parse(JSON.parse(text));
}

/** True when a manifest is there and every video it names still has the size it names. */
export async function manifestHolds(storage: Storage, key: string, signal: AbortSignal): Promise<boolean> {
  const manifest = await readManifestSummary(storage, key, signal);
  if (manifest === undefined) return false;
  const videos = manifest.files.filter(({ type }) => type === 'video');
  return (await changedFile(storage, videos, signal)) === undefined;
}

/** Path of the first file that is gone, or has not the size that its manifest names. */
export async function changedFile(
  storage: Storage,
  files: readonly { readonly path: string; readonly bytes: number }[],
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const { path, bytes } of files)
    if ((await storage.head(path, { signal }))?.size !== bytes) return path;
  return undefined;
}

async function readText(storage: Storage, key: string, signal: AbortSignal): Promise<string | undefined> {
  if ((await storage.head(key, { signal })) === undefined) return undefined;
  const object = await storage.open(key, { signal });
  try {
    const bytes = await object.read(0n, await object.size());
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (thrown) {
    if (!(thrown instanceof TypeError)) throw thrown;
    throw new StorageError(`expected UTF-8 text in ${storage.url}/${key}`, {
      retryable: false,
      reason: 'other',
      cause: thrown,
    });
  } finally {
    await object.close();
  }
}

function jsonl(values: readonly object[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join('');
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

function bytesOf(text: string): { bytes: Uint8Array } {
  return { bytes: new TextEncoder().encode(text) };
}
