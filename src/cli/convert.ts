import { join } from 'node:path';
import { Command } from 'commander';
import type { DatasetConfigInput } from '../conversion/config.ts';
import { convert, type ConvertedRecording } from '../library.ts';
import { createLog } from '../log.ts';
import { type CliContext, printError, printJson, printLines } from './context.ts';
import { readDatasetConfig } from './dataset-config.ts';
import { ProgressBar } from './progress-bar.ts';
import { settings, sourceSettings } from './settings.ts';
import { humanSeconds } from './table.ts';

type Options = { config: string; out: string; task?: string; dataset?: string; json?: boolean };

/** `roboflow convert RECORDING… --config FILE --out URL`: the service's conversion in this process, without Redis. */
export function convertCommand(context: CliContext): Command {
  return new Command('convert')
    .description('convert recordings into a dataset here and now, without Redis: for trying a config')
    .argument('<recording...>', 'files, rosbag2 folders or URLs')
    .requiredOption('-c, --config <file>', 'dataset config (YAML or JSON)')
    .requiredOption('-o, --out <url>', 'folder or URL of the dataset')
    .option('-t, --task <text>', 'task of these recordings; wins over the config')
    .option('-d, --dataset <id>', 'name of the dataset (default: last part of --out)')
    .option('--json', "print each episode's manifest as one line of JSON")
    .addHelpText(
      'after',
      '\nExample:\n  $ roboflow convert demo.mcap --config robot.yaml --out ./dataset --task "Pick up the cup."',
    )
    .action(async (recordings: string[], options: Options) => {
      const config = await readDatasetConfig(options.config);
      await convertHere(recordings, config, options, context);
    });
}

async function convertHere(
  recordings: readonly string[],
  config: DatasetConfigInput,
  options: Options,
  context: CliContext,
): Promise<void> {
  const environment = settings();
  const bar = new ProgressBar(context.err);
  const startedAt = performance.now();
  const { recordings: ended, dataset } = await convert(recordings, {
    ...sourceSettings(),
    config,
    out: options.out,
    ...(options.task === undefined ? {} : { task: options.task }),
    ...(options.dataset === undefined ? {} : { datasetId: options.dataset }),
    scratch: join(environment.SCRATCH_DIR, `convert-${process.pid}`),
    bufferMaxBytes: environment.BUFFER_MAX_BYTES,
    upload: { concurrency: environment.UPLOAD_CONCURRENCY, maxAttempts: environment.UPLOAD_MAX_ATTEMPTS },
    log: createLog({ level: 'warn', format: 'pretty', destination: context.err }),
    signal: context.signal,
    onProgress: (source, { fraction, stage, frames }) =>
      bar.show(fraction, `${stage} ${frames} frames  ${fileName(source)}`),
    onRecording: (recording) => {
      bar.clear();
      report(recording, options, context);
    },
  }).finally(() => bar.clear());
  const failed = ended.filter(({ state }) => state === 'failed').length;
  if (!options.json) {
    const seconds = (performance.now() - startedAt) / 1000;
    const made = dataset
      ? `${options.out}: ${dataset.episodes} episodes, ${dataset.frames} frames`
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
    printError(context, recording.error.message);
    return;
  }
  const { manifest } = recording;
  if (options.json) return printJson(context, manifest);
  const frames = manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  const dropped = manifest.alignment.droppedRows;
  const notes = [
    ...(recording.state === 'skipped' ? ['converted before'] : []),
    ...(dropped > 0 ? [`${dropped} rows dropped`] : []),
    ...manifest.losses.map((loss) => `lost: ${loss.what}`),
  ];
  printLines(
    context,
    `${recording.source}: ${frames} frames${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`,
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
