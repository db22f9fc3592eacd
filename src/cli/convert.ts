import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { type BatchOutcome, convertBatch } from '../conversion/batch.ts';
import { type DatasetConfig, parseDatasetConfig } from '../conversion/config.ts';
import type { ConversionContext } from '../conversion/types.ts';
import { InputError, toError } from '../errors.ts';
import { createLog } from '../log.ts';
import { createMetrics } from '../metrics/index.ts';
import { newRunId, recordingKey } from '../queue/jobs.ts';
import { openStorage } from '../storage/open.ts';
import { type CliContext, printJson, printLines, toUrl, UsageError } from './context.ts';
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
      await convert(recordings, config, options, context);
    });
}

/** Reads a dataset config from a file; whatever is wrong with it is wrong use. */
export async function readDatasetConfig(path: string): Promise<DatasetConfig> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    throw new UsageError(`cannot read the config ${path}: ${toError(thrown).message}`, { cause: thrown });
  }
  try {
    return parseDatasetConfig(text, path);
  } catch (thrown) {
    if (thrown instanceof InputError) throw new UsageError(thrown.message, { cause: thrown });
    throw thrown;
  }
}

async function convert(
  recordings: readonly string[],
  config: DatasetConfig,
  options: Options,
  context: CliContext,
): Promise<void> {
  const environment = settings();
  const metrics = createMetrics(new Registry());
  const bar = new ProgressBar(context.err);
  const out = toUrl(options.out);
  const conversion: ConversionContext = {
    output: openStorage(out, { ...sourceSettings(), metrics: metrics.storage, role: 'destination' }),
    sources: sourceSettings(),
    scratch: join(environment.SCRATCH_DIR, `convert-${process.pid}`),
    bufferMaxBytes: environment.BUFFER_MAX_BYTES,
    upload: { concurrency: environment.UPLOAD_CONCURRENCY, maxAttempts: environment.UPLOAD_MAX_ATTEMPTS },
    metrics,
    log: createLog({ level: 'warn', format: 'pretty', destination: context.err }),
    signal: context.signal,
  };
  const sources = [...new Set(recordings.map(toUrl))];
  const startedAt = performance.now();
  const { outcomes, dataset } = await convertBatch(
    {
      datasetId: options.dataset ?? datasetName(out),
      runId: newRunId(),
      config,
      recordings: sources.map((source) => ({
        source,
        key: recordingKey(source),
        ...(options.task === undefined ? {} : { task: options.task }),
      })),
    },
    conversion,
    {
      onProgress: (source, { fraction, stage, frames }) =>
        bar.show(fraction, `${stage} ${frames} frames  ${decodeURI(source.split('/').at(-1) ?? '')}`),
      onOutcome: (outcome) => {
        bar.clear();
        report(outcome, options, context);
      },
    },
  );
  bar.clear();
  const failed = outcomes.filter(({ state }) => state === 'failed').length;
  if (!options.json) {
    const seconds = (performance.now() - startedAt) / 1000;
    const made = dataset
      ? `${options.out}: ${dataset.episodes} episodes, ${dataset.frames} frames`
      : `${options.out}: nothing was published`;
    printLines(
      context,
      `${made} (${humanSeconds(seconds)})${failed > 0 ? `; ${failed} of ${outcomes.length} failed` : ''}`,
    );
  }
  if (failed > 0) process.exitCode = 1;
}

function report(outcome: BatchOutcome, options: Options, context: CliContext): void {
  if (outcome.state === 'failed') {
    context.err.write(`error: ${outcome.error.message}\n`);
    return;
  }
  const { manifest } = outcome.result;
  if (options.json) return printJson(context, manifest);
  const frames = manifest.episodes.reduce((sum, part) => sum + part.frames, 0);
  const dropped = manifest.alignment.droppedRows;
  const notes = [
    ...(outcome.state === 'skipped' ? ['converted before'] : []),
    ...(dropped > 0 ? [`${dropped} rows dropped`] : []),
    ...manifest.losses.map((loss) => `lost: ${loss.what}`),
  ];
  printLines(
    context,
    `${outcome.source}: ${frames} frames${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`,
  );
}

/** The last part of a location as a dataset id. */
export function datasetName(location: string): string {
  const last = decodeURIComponent(location.split('/').at(-1) ?? '');
  const name = last.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return name === '' ? 'dataset' : name.slice(0, 128);
}
