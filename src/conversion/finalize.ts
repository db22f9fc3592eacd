import { rm } from 'node:fs/promises';
import { INFO_PATH, manifestPath } from '../dataset/layout.ts';
import { finalizeDataset as packDataset } from '../dataset/finalize.ts';
import type { DatasetInfo } from '../dataset/info.ts';
import type { DatasetFiles, EpisodeManifest } from '../dataset/types.ts';
import { CanceledError, InputError } from '../errors.ts';
import { withReleasers } from '../releasers.ts';
import { createAttempt } from './checkpoint.ts';
import { readManifest } from './manifests.ts';
import type { Storage } from '../storage/types.ts';
import { Superseded } from './superseded.ts';
import { openUploads } from './uploads.ts';
import type { FinalizeContext, FinalizeRequest, FinalizeResult } from './types.ts';

/** Nobody comes back to an attempt of yesterday. */
const LEFT_OVER_MS = 24 * 60 * 60 * 1000;

/**
 * Makes the dataset of the recordings whose manifests lie in the store, in the order given, and publishes
 * `meta/info.json` last. Reads nothing but the store, keeps nothing: it may run again after a crash, an append or a
 * retry, and writes the same bytes for the same manifests. Recordings that do not fit to the others are left out; with
 * `publish: complete` they are an `InputError`.
 */
export async function finalizeDataset(
  request: FinalizeRequest,
  context: FinalizeContext,
): Promise<FinalizeResult> {
  const { output, signal, scratch } = context;
  const coordinator = openUploads(context);
  const superseded = new Superseded();
  return withReleasers(async (release) => {
    release(() => rm(scratch, { recursive: true, force: true }));
    release(() => coordinator.close());
    const { episodes, frames, tasks, misfits } = await packDataset({
      manifests: { [Symbol.asyncIterator]: () => manifestsOf(request, context, superseded) },
      files: filesOf(output, signal),
      // What a process leaves that is killed goes with its other attempts.
      scratch: await createAttempt(scratch),
      signal,
      partial: request.config.publish === 'partial',
      published: await publishedInfo(context),
      ...(request.outdated && { outdated: request.outdated }),
      emit: async ({ path, type, body }) => {
        const file = { key: path, type, body };
        await (path === INFO_PATH ? coordinator.publish(file) : coordinator.add(file));
      },
      remove: (path) => output.remove(path, { signal }),
    });
    await superseded.remove(output, context);
    await sweep(context);
    return { episodes, frames, tasks, misfits };
  });
}

/** A store as the dataset reads it: what is not answered ends with the signal. */
function filesOf(output: Storage, signal: AbortSignal): DatasetFiles {
  return {
    list: (prefix) => output.list(prefix, { signal }),
    head: (path) => output.head(path, { signal }),
    open: (path) => output.open(path, { signal }),
  };
}

/** `meta/info.json` as it is published; undefined where there is none that can be read. */
async function publishedInfo({ output, signal }: FinalizeContext): Promise<Partial<DatasetInfo> | undefined> {
  if (!(await output.head(INFO_PATH, { signal }))) return undefined;
  const object = await output.open(INFO_PATH, { signal });
  try {
    const text = new TextDecoder().decode(await object.read(0n, await object.size()));
    return JSON.parse(text) as Partial<DatasetInfo>;
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  } finally {
    await object.close();
  }
}

/** Temporary files and unfinished uploads of attempts that died more than a day ago; not being able to is no failure. */
async function sweep({ output, signal, log }: FinalizeContext): Promise<void> {
  try {
    const removed = await output.sweep('', { olderThanMs: LEFT_OVER_MS, signal });
    if (removed > 0) log.info({ removed }, 'removed what dead attempts left in the store');
  } catch (thrown) {
    if (thrown instanceof CanceledError) throw thrown;
    log.warn({ err: thrown }, 'cannot remove what dead attempts left in the store');
  }
}

async function* manifestsOf(
  request: FinalizeRequest,
  context: FinalizeContext,
  superseded: Superseded,
): AsyncGenerator<EpisodeManifest> {
  for (const key of request.keys) {
    const manifest = await readManifest(context.output, key, context.signal);
    if (!manifest) {
      throw new InputError(
        `expected the manifest ${manifestPath(key)} of dataset ${request.datasetId} in ${context.output.url}, found none`,
      );
    }
    superseded.note(manifest);
    yield manifest;
  }
}
