import { setMaxListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { manifestPath } from '../dataset/layout.ts';
import type { EpisodeManifest } from '../dataset/types.ts';
import { CanceledError, InputError, StorageError, throwIfAborted } from '../errors.ts';
import { withReleasers } from '../releasers.ts';
import {
  adoptCheckpoint,
  boundCheckpoints,
  createAttempt,
  releaseAttempt,
  removeDeadAttempts,
  removeIfEmpty,
} from './checkpoint.ts';
import { EpisodeUploads } from './episode-uploads.ts';
import { identityOf } from './identity.ts';
import { changedFile } from './ledger.ts';
import { readManifest } from './manifests.ts';
import { readMarks } from './marks.ts';
import { produceEpisode } from './produce.ts';
import { StageProgress } from './progress.ts';
import { blamingLosses, openSource } from './source.ts';
import type { ConversionContext, ConversionRequest, ConversionResult } from './types.ts';

/** What interrupted uploads may keep in scratch unless the caller says otherwise. */
const DEFAULT_KEEP_BYTES = 2_147_483_648; // 2 GiB

/**
 * Converts one recording and publishes it: plan, convert, verify, upload, manifest last; a file that is complete is sent
 * while others are still written. Finds its own earlier work: a manifest of the same content, config and version, with
 * the files that it names, means there is nothing to do (`skipped`), a checkpoint of an interrupted upload means only the
 * upload is left. Nothing counts in the dataset before the manifest.
 *
 * Throws `InputError` (the recording or the config is at fault), `StorageError`, `EncodeError`, or `CanceledError`
 * when the signal stopped it.
 */
export async function convertEpisode(
  request: ConversionRequest,
  context: ConversionContext,
): Promise<ConversionResult> {
  const { metrics, signal, log } = context;
  setMaxListeners(0, signal); // every camera's encoder listens to it, and the default warns at eleven
  const progress = new StageProgress(context.onProgress, (stage, seconds) => {
    metrics.conversion.stageDuration.observe({ stage }, seconds);
    context.onStageEnd?.(stage, seconds);
    log.info({ stage, recording: request.source, durationMs: Math.round(seconds * 1000) }, 'stage ended');
  });
  metrics.conversion.activeConversions.inc();
  try {
    return await withReleasers(async (release) => {
      throwIfAborted(signal);
      progress.enter('plan');
      const spool = await createAttempt(context.scratch);
      release(() => leaveScratch(context, spool, false));
      const source = await openSource(request.source, context, request.config.recover, spool);
      release(() => source.close());
      const marks = await readMarks(request, context);
      const matches = identityOf(request, source, marks);
      const before = await context.output.head(manifestPath(request.key), { signal });
      const published = before && (await readManifest(context.output, request.key, signal));
      const known = published !== undefined && matches(published);
      const changed = known ? await changedFile(context.output, published.files, signal) : undefined;
      if (known && changed === undefined) return skipped(published);
      if (known)
        log.warn(
          { recording: request.source, changed },
          'a file of this recording is gone; it is converted again',
        );

      // What is published stays as it is until the dataset is finalized with the new files.
      const edition = published ? editionOf(published) + (known ? 0 : 1) : 0;
      const adopted = await adoptCheckpoint(
        context.scratch,
        (manifest) => matches(manifest) && editionOf(manifest) === edition,
      );
      const folder = adopted?.folder ?? (await createAttempt(context.scratch));
      let [verified, interrupted] = [false, false];
      release(() => leaveScratch(context, folder, interrupted));
      const uploads = new EpisodeUploads(context, progress);
      release(() => uploads.close());
      // files that the manifest vouches for stay until those in their place are verified
      const early = known ? undefined : uploads;
      try {
        const checkpoint =
          adopted?.checkpoint ??
          (await blamingLosses(source.recording, () =>
            produceEpisode({ ...request, edition }, context, source, marks, folder, progress, (file) =>
              early?.add(file),
            ),
          ));
        verified = true;
        const upload = await uploads.publish(checkpoint, folder, before?.etag);
        await removeDeadAttempts(context.scratch);
        metrics.conversion.countAlignment(checkpoint.manifest.alignment);
        metrics.video.countFrames(checkpoint.manifest);
        metrics.conversion.recordingSeconds.inc(secondsOf(checkpoint.manifest));
        return { outcome: 'completed', manifest: checkpoint.manifest, upload };
      } catch (thrown) {
        const again = willComeBack(thrown, context.retryFollows ?? false);
        await uploads.close(again);
        const theirs = uploads.keys.size > 0 ? await publishedNow(request, context) : undefined;
        const isTheirs = theirs !== undefined && editionOf(theirs) >= edition;
        const elsewhere = isTheirs && !known && matches(theirs);
        // files that are not what was verified are no work to go on with
        const damaged = thrown instanceof StorageError && thrown.reason === 'checksum';
        interrupted = verified && again && !elsewhere && !damaged;
        // what was sent of files that turned out wrong is of no use to the next attempt
        const wanted = again && (verified || thrown instanceof CanceledError);
        if (!wanted && !isTheirs && !isLockLost(thrown)) await uploads.withdraw();
        // of two attempts one publishes: what the other wanted to is there, and counted by the first
        if (verified && theirs && elsewhere && !(thrown instanceof CanceledError)) {
          return { outcome: 'completed', manifest: theirs, upload: uploads.stats() };
        }
        throw thrown;
      }
    });
  } finally {
    progress.end();
    metrics.conversion.activeConversions.dec();
  }
}

function skipped(manifest: EpisodeManifest): ConversionResult {
  return { outcome: 'skipped', manifest, upload: { files: 0, bytes: 0, retries: 0, seconds: 0, reused: 0 } };
}

function editionOf({ edition = 0 }: EpisodeManifest): number {
  return edition;
}

/** Recorded time that became rows. */
function secondsOf(manifest: EpisodeManifest): number {
  return sum(manifest.episodes.map((part) => Number(BigInt(part.endTime) - BigInt(part.startTime)) / 1e9));
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** Another worker has the job and writes the same files: they are its own from now on. */
function isLockLost(thrown: unknown): boolean {
  return thrown instanceof CanceledError && thrown.reason === 'lock-lost';
}

/** The manifest that another worker published meanwhile; not knowing counts as none. */
async function publishedNow(
  request: ConversionRequest,
  { output, log }: ConversionContext,
): Promise<EpisodeManifest | undefined> {
  try {
    return await readManifest(output, request.key, AbortSignal.timeout(2000));
  } catch (thrown) {
    log.debug({ err: thrown }, 'the manifest cannot be looked up now');
    return undefined;
  }
}

/** Whether another attempt will want the verified files. */
function willComeBack(thrown: unknown, retryFollows: boolean): boolean {
  if (thrown instanceof CanceledError) return thrown.reason === 'shutdown';
  if (thrown instanceof InputError) return false;
  return retryFollows && !(thrown instanceof StorageError && !thrown.retryable);
}

/** The attempt's folder goes, or stays for the next one; the job's folder goes with the last. */
async function leaveScratch(
  { scratch, scratchKeepBytes = DEFAULT_KEEP_BYTES, log }: ConversionContext,
  folder: string,
  interrupted: boolean,
): Promise<void> {
  if (!interrupted) {
    await rm(folder, { recursive: true, force: true });
    await removeIfEmpty(scratch);
    return;
  }
  await releaseAttempt(folder);
  const removed = await boundCheckpoints(dirname(scratch), scratchKeepBytes);
  if (removed > 0)
    log.warn({ removed }, 'gave up kept files of interrupted uploads: their recordings are converted again');
}
