import { Command } from 'commander';
import { CanceledError } from '../errors.ts';
import { enqueueRequestSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import {
  type CliContext,
  paintState,
  printJson,
  printLines,
  toUrl,
  UsageError,
  wholeNumber,
} from './context.ts';
import { readDatasetConfig } from './dataset-config.ts';
import { dryRun } from './dry-run.ts';
import { accepted, withProducer } from './producer.ts';
import { recordingsOf } from './recordings.ts';
import { watchDataset } from './watch.ts';

type Options = {
  dataset: string;
  config: string;
  out: string;
  task?: string;
  priority?: number;
  wait?: boolean;
  dryRun?: boolean;
  json?: boolean;
};

/** `roboflow enqueue … --dataset ID --config FILE --out URL`: hands recordings to the service's queue. */
export function enqueueCommand(context: CliContext): Command {
  return new Command('enqueue')
    .description('hand recordings to the running service: files, globs, prefixes, or lists of them')
    .argument(
      '<recordings...>',
      'file, glob, folder or URL prefix; @file, or - for standard input: a list of them, one a line, or of JSON {"source", "task"?}',
    )
    .requiredOption('-d, --dataset <id>', 'id of the dataset')
    .requiredOption('-c, --config <file>', 'dataset config (YAML or JSON)')
    .requiredOption('-o, --out <url>', 'folder or URL of the dataset')
    .option('-t, --task <text>', 'task of recordings that have none of their own')
    .option('-p, --priority <n>', '0 is taken first, 9 last', wholeNumber(0, 9))
    .option('-w, --wait', 'wait until the run has ended; exit code 1 unless it is completed')
    .option('-n, --dry-run', 'plan every recording and print what would happen; needs no Redis')
    .option('--json', 'machine-readable output')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow enqueue "s3://raw/day1/*.mcap" --dataset bottles --config robot.yaml --out s3://datasets/bottles\n' +
        '  $ roboflow enqueue @recordings.jsonl --dataset bottles --config robot.yaml --out ./bottles --wait\n' +
        '  $ find /data -name "*.bag" | roboflow enqueue - --dataset bottles --config robot.yaml --out ./bottles --dry-run',
    )
    .action(async (patterns: string[], options: Options) => {
      const config = await readDatasetConfig(options.config);
      const recordings = await recordingsOf(patterns, options.task, context);
      const parsed = enqueueRequestSchema.safeParse({
        datasetId: options.dataset,
        output: toUrl(options.out),
        config,
        recordings,
        options: options.priority === undefined ? {} : { priority: options.priority },
      });
      if (!parsed.success) {
        const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
        throw new UsageError(faults.join('\n  '));
      }
      if (options.dryRun) return dryRun(parsed.data, options.json ?? false, context);
      await withProducer(context, async (producer) => {
        const answer = accepted(await producer.enqueueDataset(parsed.data));
        if (options.json) printJson(context, answer);
        else {
          printLines(
            context,
            `dataset ${answer.datasetId}: ${answer.episodes} recordings enqueued as run ${answer.runId}`,
            ...(options.wait ? [] : [`watch it with: roboflow status ${answer.datasetId} --watch`]),
          );
        }
        if (options.wait) await waitFor(answer.datasetId, producer, options, context);
      });
    });
}

async function waitFor(id: string, producer: Producer, options: Options, context: CliContext): Promise<void> {
  const dataset = await watchDataset(producer, id, context).catch((thrown: unknown) => {
    if (thrown instanceof CanceledError)
      context.err.write(`the run goes on without you; stop it with: roboflow cancel ${id}\n`);
    throw thrown;
  });
  if (options.json) printJson(context, dataset);
  else {
    printLines(
      context,
      `dataset ${id}: ${paintState(context.out, dataset.state)}, ${dataset.frames} frames`,
      ...dataset.failures.map(({ source, reason }) => `  ${source}: ${reason}`),
    );
  }
  if (dataset.state !== 'completed') process.exitCode = 1;
}
