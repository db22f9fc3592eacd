import { join } from 'node:path';
import { commandFolder, sweepScratch } from '../conversion/checkpoint.ts';
import { convert, type ConvertedRecording } from '../library.ts';
import { createLog } from '../log.ts';
import { type CliContext, printError, printJson, printLines } from './context.ts';
import { readDatasetConfig } from './dataset-config.ts';
import { settings, sourceSettings } from './settings.ts';
import { counted, failureOf, humanSeconds } from './words.ts';

type Options = { config: string; out: string; task?: string; dataset?: string; json?: boolean };

/** Converts in this process; every recording is reported when it has ended. Sets exit code 1 when one failed. */
export async function convertHere(
  recordings: readonly string[],
  options: Options,
  context: CliContext,
): Promise<void> {
  const config = await readDatasetConfig(options.config);
  const environment = settings();
  await sweepScratch(environment.SCRATCH_DIR);
  // loaded for terminals only: measuring text takes the tables of Unicode
  const bar = context.err.isTTY
    ? new (await import('./progress-bar.ts')).ProgressBar(context.err)
    : undefined;
  const startedAt = performance.now();
  const { recordings: ended, dataset } = await convert(recordings, {
    ...sourceSettings(),
    config,
    out: options.out,
    ...(options.task === undefined ? {} : { task: options.task }),
    ...(options.dataset === undefined ? {} : { datasetId: options.dataset }),
    scratch: join(environment.SCRATCH_DIR, commandFolder(process.pid)),
    bufferMaxBytes: environment.BUFFER_MAX_BYTES,
    upload: { concurrency: environment.UPLOAD_CONCURRENCY, maxAttempts: environment.UPLOAD_MAX_ATTEMPTS },
    log: createLog({ level: 'warn', format: 'pretty', destination: context.err }),
    signal: context.signal,
    onProgress: (source, { fraction, stage, frames }) =>
      bar?.show(fraction, `${stage} ${frames} frames  ${fileName(source)}`),
    onRecording: (recording) => {
      bar?.clear();
      report(recording, options, context);
    },
  }).finally(() => bar?.clear());
  const failed = ended.filter(({ state }) => state === 'failed').length;
  if (!options.json) {
    const seconds = (performance.now() - startedAt) / 1000;
    const made = dataset
      ? `${options.out}: ${counted(dataset.episodes, 'episode')}, ${counted(dataset.frames, 'frame')}`
      : `${options.out}: nothing was published`;
    printLines(
      context,
      `${made} (${humanSeconds(seconds)})${failed > 0 ? `; ${failed} of ${ended.length} failed` : ''}`,
    );
  }
  if (failed > 0) process.exitCode = 1;
}

function report(recording: ConvertedRecording, options: Options, context: CliContext): void {
  if (recording.state === 'failed') {
    printError(context, failureOf(recording.source, recording.error.message));
    return;
  }
  const { manifest } = recording;
  if (options.json) return printJson(context, manifest);
  const frames = manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  const dropped = manifest.alignment.droppedRows;
  const notes = [
    ...(recording.state === 'skipped' ? ['converted before'] : []),
    ...(dropped > 0 ? [`${dropped} rows dropped`] : []),
    ...manifest.losses.map(({ count, what }) => `lost: ${count === undefined ? what : `${count} ${what}`}`),
  ];
  printLines(
    context,
    `${recording.source}: ${counted(frames, 'frame')}${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`,
  );
}

/** The last part of a URL, readable. */
function fileName(url: string): string {
  const name = url.split('/').at(-1) ?? '';
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
