import { InputError } from '../errors.ts';
import { openRecording } from '../recording/open.ts';
import type { Recording } from '../recording/types.ts';
import { openRecordingFiles } from '../storage/recording-files.ts';
import type { SourceVersion } from '../storage/types.ts';
import type { ConversionContext } from './types.ts';

/** A recording opened where it lies, pinned to one version. */
export type OpenedSource = {
  /** As the user named it, for messages. */
  readonly name: string;
  readonly info: SourceVersion;
  readonly recording: Recording;
  close(): Promise<void>;
};

/**
 * Finds and opens the recording at a path or URL; what must lie on a disk to be read is put below `spool` (default: the
 * system's folder for temporary files). Throws `InputError` when there is none, or none that can be read.
 */
export async function openSource(
  location: string,
  context: Pick<ConversionContext, 'metrics' | 'signal' | 'sources'>,
  recover: boolean,
  spool?: string,
): Promise<OpenedSource> {
  const { metrics, signal } = context;
  const files = await openRecordingFiles(location, { ...context.sources, metrics: metrics.storage, signal });
  const recording = await openRecording(files, {
    recover,
    signal,
    ...(spool === undefined ? {} : { scratch: spool }),
  });
  return { name: files.name, info: files.source, recording, close: () => recording.close() };
}

/** Losses that a refusal tells of. */
const TOLD = 3;

/**
 * Works with a recording. What refuses it says what damage was left out of it before: the topic without messages, or the
 * source that stops early, may be nothing but that.
 */
export async function blamingLosses<T>(recording: Recording, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const { losses } = recording;
    if (!(thrown instanceof InputError) || losses.length === 0) throw thrown;
    const told = losses.slice(0, TOLD).map(({ what }) => `lost: ${what}`);
    if (losses.length > TOLD) told.push(`and ${losses.length - TOLD} losses more`);
    const separator = thrown.message.includes('\n') ? '\n- ' : '; ';
    throw new InputError([thrown.message, ...told].join(separator), { cause: thrown });
  }
}
